//! Stage 5: the steps of a plan, claim by claim; and what became of the long ones that ran beside a pass.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Instant,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream,
};
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::{
    Context,
    attached::{CONCURRENT_WRITES, Member},
    memo::Collected,
    pass::{Findings, Pass},
    report::{Note, Reporter},
    state::Ended,
};
use crate::{
    api::{FINALIZER, status::Reason, timescale_database::Mode},
    catalog::Extension,
    db::Session,
    desired::{ClaimId, Intent, ResourceId},
    error::{self, Class, Failure},
    plan::step::{self, Plan, Step, Verdict},
    sql,
};

/// Carries out steps for a pass.
pub(super) struct Applying<'p, 'a> {
    pub(super) pass: &'p mut Pass<'a>,
    pub(super) session: &'p Session,
    pub(super) extension: &'p Extension,
    /// Takes what was done for a resource, to be published beside the steps for the next ones.
    pub(super) told: mpsc::UnboundedSender<(Member, Note)>,
    /// What is compared with the API server while the steps before it are carried out.
    pub(super) ahead: Ahead,
}

/// Resources that are compared with the API server before it is their turn: those under way, one that waits to be taken and
/// one that waits for that.
const AHEAD: usize = 8;

/// How far the steps of one claim came.
enum Progress<'s> {
    Done,
    Failed,
    /// Up to the first long step.
    Long(&'s [&'s Step]),
}

impl Applying<'_, '_> {
    /// Carries out the steps, claim by claim. A claim that fails does not stop the others. Says whether anything changed
    /// that the catalog must be read again for.
    pub(super) async fn steps(&mut self, steps: &[&Step], done: &mut BTreeSet<ClaimId>) -> bool {
        let mut changed = false;
        // What failed in an earlier round is planned again but not among the steps; what comes after it must wait all the same.
        let mut unfinished: BTreeSet<ClaimId> = self.pass.state.running().into_keys().collect();
        unfinished.extend(self.pass.findings.failures.keys().cloned());
        for mine in steps.chunk_by(|a, b| a.claim == b.claim) {
            let claim = &mine[0].claim;
            self.pass.await_finalizer(&claim.resource).await;
            let is_held = !self.pass.findings.failures.contains_key(claim);
            let waits = mine.iter().flat_map(|step| &step.after).any(|id| id != claim && unfinished.contains(id));
            if !is_held || waits || self.is_paused(claim) {
                unfinished.insert(claim.clone());
                continue;
            }
            if let Err(failure) = self.confirm(mine).await {
                self.pass.fail(claim, failure);
                unfinished.insert(claim.clone());
                continue;
            }
            let (any, progress) = self.quick(mine).await;
            changed |= any;
            match progress {
                Progress::Done => {
                    self.pass.state.pauses.remove(claim);
                    self.tell(claim);
                    done.insert(claim.clone());
                }
                Progress::Failed => {
                    unfinished.insert(claim.clone());
                }
                Progress::Long(rest) => {
                    unfinished.insert(claim.clone());
                    changed |= self.long(claim, rest);
                }
            }
        }
        changed
    }

    fn tell(&mut self, claim: &ClaimId) {
        let Pass { collected, findings, .. } = &mut *self.pass;
        let Some(member) = collected.members.get(&claim.resource) else { return };
        if let Some(note) = findings.notes.remove(claim) {
            findings.told.insert(claim.clone());
            // Who takes it ends after these steps.
            let _ = self.told.send((member.clone(), note));
        }
    }

    /// Makes sure that nothing is done on an old view that could not be taken back. What was seen is compared with the API
    /// server once in a pass.
    async fn confirm(&mut self, steps: &[&Step]) -> Result<(), Failure> {
        let claim = &steps[0].claim;
        let Some(member) = self.pass.members().get(&claim.resource).cloned() else { return Ok(()) };
        let reporter = &self.pass.context.reporter;
        if !self.pass.confirmed.contains(&None) {
            reporter.confirm(self.pass.database).await?;
            self.pass.confirmed.insert(None);
        }
        let resource = Some(claim.resource.clone());
        if step::need_confirmation(claim.resource.kind, steps) && !self.pass.confirmed.contains(&resource) {
            match self.ahead.take(&claim.resource).await {
                Some(compared) => compared?,
                None => member.confirm(reporter).await?,
            }
            self.pass.confirmed.insert(resource.clone());
        }
        match &claim.target {
            // Whether a target is selected hangs on its labels.
            Some(target) if !member.is_deleting() && self.pass.confirmed.contains(&resource) => {
                self.pass.context.confirm_target(target, &member).await
            }
            _ => Ok(()),
        }
    }

    fn is_paused(&mut self, claim: &ClaimId) -> bool {
        let generation = self.pass.members().get(&claim.resource).and_then(Member::generation);
        let pauses = &self.pass.state.pauses;
        let pause = pauses.get(claim).filter(|p| p.generation == generation && p.until > Instant::now());
        let Some(pause) = pause else { return false };
        self.pass.findings.failures.insert(claim.clone(), pause.failure.clone());
        true
    }

    /// Carries out the steps up to the first long one. Also says whether any was.
    async fn quick<'s>(&mut self, steps: &'s [&'s Step]) -> (bool, Progress<'s>) {
        for (i, step) in steps.iter().enumerate() {
            if step.long {
                return (i > 0, Progress::Long(&steps[i..]));
            }
            let outcome = self.session.apply(step, self.extension).await;
            self.pass.context.metrics.step(step.action.name(), outcome.as_ref().err());
            match outcome {
                Ok(()) => {
                    let drifted = self.pass.has_drifted(&step.claim);
                    self.pass.note_applied(step, self.extension, drifted);
                }
                Err(failure) => {
                    self.pass.fail(&step.claim, failure);
                    return (i > 0, Progress::Failed);
                }
            }
        }
        (true, Progress::Done)
    }

    /// Starts the steps beside the pass. Returns whether it did.
    fn long(&mut self, claim: &ClaimId, steps: &[&Step]) -> bool {
        let free = self.pass.free_connections();
        if self.pass.state.running().len() >= free {
            let message = format!(
                "waits for one of {free} connections for long steps (spec.maxConnections of the TimescaleDatabase, less one)"
            );
            let waits = Failure::new(Class::Transient, Reason::InProgress, message);
            self.pass.findings.failures.insert(claim.clone(), waits);
            return false;
        }
        if self.pass.state.running().len() + 1 >= free {
            self.pass.state.readings.give_way();
        }
        let steps: Vec<Step> = steps.iter().map(|step| (*step).clone()).collect();
        tracing::info!(%claim, steps = steps.len(), "long steps start: {}", steps[0].change);
        let wake = self.pass.context.waker(self.pass.database);
        let drifted = self.pass.has_drifted(claim);
        self.pass.state.start(claim.clone(), steps, self.extension.clone(), drifted, &self.pass.context.metrics, wake);
        true
    }
}

/// A resource, and what came of comparing it with the API server.
type Compared = (ResourceId, Result<(), Failure>);

/// The other end of [`compare`].
pub(super) struct Ahead {
    coming: BTreeSet<ResourceId>,
    arrivals: mpsc::Receiver<Compared>,
    arrived: BTreeMap<ResourceId, Result<(), Failure>>,
}

impl Ahead {
    /// What came of a resource, once it has come; nothing of one that is not among them.
    async fn take(&mut self, resource: &ResourceId) -> Option<Result<(), Failure>> {
        if !self.coming.remove(resource) {
            return None;
        }
        while !self.arrived.contains_key(resource) {
            let (compared, result) = self.arrivals.recv().await?;
            self.arrived.insert(compared, result);
        }
        self.arrived.remove(resource)
    }
}

/// Compares resources with the API server in this order, no more than [`AHEAD`] before anybody asks for the first of them,
/// and for as long as there is anybody to ask.
pub(super) fn compare(reporter: &Reporter, members: Vec<(ResourceId, Member)>) -> (BoxFuture<'_, ()>, Ahead) {
    let (compared, arrivals) = mpsc::channel(1);
    let coming = members.iter().map(|(id, _)| id.clone()).collect();
    let confirm = move |(id, member): (ResourceId, Member)| async move { (id, member.confirm(reporter).await) };
    let comparing = async move {
        let mut results = stream::iter(members).map(confirm).buffered(AHEAD - 2);
        while let Some(result) = results.next().await {
            if compared.send(result).await.is_err() {
                break;
            }
        }
    };
    (comparing.boxed(), Ahead { coming, arrivals, arrived: BTreeMap::new() })
}

/// Something was given its finalizer, or could not be.
pub(super) enum Held {
    /// The database's resource was.
    Database,
    /// What became of a resource, by its claims.
    Resource(ResourceId, Vec<ClaimId>, Result<(), Failure>),
}

/// Finalizers that are being put on while everything else goes on.
#[derive(Default)]
pub(super) struct Holding {
    awaited: BTreeSet<ResourceId>,
    arrivals: Option<mpsc::UnboundedReceiver<Held>>,
}

/// What will have to be undone must hold its finalizer before it is done or adopted, and its database before that. In
/// `Observe` mode nothing is ever undone.
pub(super) fn hold_on<'a>(collected: &'a Collected, context: &'a Context) -> (BoxFuture<'a, ()>, Holding) {
    let database = &collected.managed.database;
    let mut unheld: BTreeMap<&ResourceId, (&Member, Vec<ClaimId>)> = BTreeMap::new();
    let ensured = collected.desired.claims.iter().filter(|claim| matches!(claim.intent, Intent::Ensure(_)));
    for claim in ensured.filter(|_| database.spec.mode != Mode::Observe) {
        let resource = &claim.id.resource;
        if let Some(member) = collected.members.get(resource).filter(|m| m.needs_release() && !m.has_finalizer()) {
            unheld.entry(resource).or_insert_with(|| (member, Vec::new())).1.push(claim.id.clone());
        }
    }
    if unheld.is_empty() {
        return (ready(()).boxed(), Holding::default());
    }
    let (held, arrivals) = mpsc::unbounded_channel();
    let awaited = unheld.keys().map(|id| (*id).clone()).collect();
    let holding = async move {
        let is_held = database.finalizers().iter().any(|f| f == FINALIZER);
        let first = if is_held { Ok(()) } else { context.reporter.finalize(&**database, true).await };
        if first.is_ok() {
            // Nobody takes it only when the pass is over.
            let _ = held.send(Held::Database);
        }
        let (first, held) = (&first, &held);
        let finalize = async |(id, (member, claims)): (&ResourceId, (&Member, Vec<ClaimId>))| {
            let result = match first {
                Ok(()) => member.finalize(&context.reporter, true).await,
                Err(failure) => Err(failure.clone()),
            };
            let _ = held.send(Held::Resource(id.clone(), claims, result));
        };
        stream::iter(unheld).for_each_concurrent(CONCURRENT_WRITES, finalize).await;
    };
    (holding.boxed(), Holding { awaited, arrivals: Some(arrivals) })
}

impl Pass<'_> {
    /// Connections beside the session's own.
    pub(super) fn free_connections(&self) -> usize {
        usize::try_from(self.database.spec.max_connections - 1).unwrap_or(1).max(1)
    }

    /// Waits until a resource holds its finalizer, where that is on the way, or has failed because it could not be given it.
    async fn await_finalizer(&mut self, resource: &ResourceId) {
        while self.holding.awaited.contains(resource) && self.take_held().await {}
    }

    /// Waits until everything holds its finalizer, or has failed.
    pub(super) async fn await_finalizers(&mut self) {
        while self.take_held().await {}
    }

    /// Takes note of what holds its finalizer now, or could not be given it. Says whether more may come.
    async fn take_held(&mut self) -> bool {
        let Some(arrivals) = &mut self.holding.arrivals else { return false };
        match arrivals.recv().await {
            None => {
                self.holding = Holding::default();
                return false;
            }
            Some(Held::Database) => self.held = true,
            Some(Held::Resource(resource, claims, result)) => {
                self.holding.awaited.remove(&resource);
                match result {
                    Ok(()) => drop(self.confirmed.insert(Some(resource))),
                    Err(failure) => {
                        for claim in &claims {
                            self.fail(claim, failure.clone());
                        }
                    }
                }
            }
        }
        true
    }

    /// The resources of these steps that are to be compared with the API server, in their order. What loses something is
    /// compared right before it is done.
    pub(super) fn to_compare(&self, steps: &[&Step]) -> Vec<(ResourceId, Member)> {
        let mut seen = BTreeSet::new();
        let now = Instant::now();
        let is_due = |steps: &&[&Step]| {
            let ClaimId { resource, .. } = &steps[0].claim;
            let is_paused = self.state.pauses.get(&steps[0].claim).is_some_and(|pause| pause.until > now);
            step::need_confirmation(resource.kind, steps)
                && steps.iter().all(|step| step.hazards.is_empty())
                && !is_paused
                && !self.holding.awaited.contains(resource)
                && !self.confirmed.contains(&Some(resource.clone()))
        };
        let claims = steps.chunk_by(|a, b| a.claim == b.claim).filter(is_due);
        let resources = claims.map(|steps| &steps[0].claim.resource).filter(|resource| seen.insert(*resource));
        resources.filter_map(|id| Some((id.clone(), self.members().get(id)?.clone()))).collect()
    }

    /// Takes note of the long steps that have ended since the last pass.
    pub(super) fn take_ended(&mut self) {
        for Ended { claim, applied, extension, drifted, failure } in self.state.take_ended() {
            for step in &applied {
                self.note_applied(step, &extension, drifted);
            }
            match failure {
                Some(failure) => self.fail(&claim, failure),
                None => {
                    self.state.pauses.remove(&claim);
                }
            }
        }
    }

    /// Takes note of a claim that failed: it pauses before it is tried again.
    fn fail(&mut self, claim: &ClaimId, failure: Failure) {
        self.context.metrics.error(&failure);
        tracing::warn!(%claim, class = failure.class.as_str(), reason = failure.reason.as_str(), "{failure}");
        let generation = self.members().get(&claim.resource).and_then(Member::generation);
        let (class, resync) = (failure.class, self.pace.resync);
        self.state.pause(claim, generation, failure.clone(), |failures| {
            error::pause(class, failures, resync, fastrand::f64())
        });
        self.findings.failures.insert(claim.clone(), failure);
    }

    /// What is about to change was in sync, at this generation of the resource and of the database with its defaults: then
    /// it is drift that is corrected.
    fn has_drifted(&self, claim: &ClaimId) -> bool {
        let observed = self.database.status.as_ref().and_then(|status| status.observed_generation);
        let Some(member) =
            self.members().get(&claim.resource).filter(|_| observed == self.database.metadata.generation)
        else {
            return false;
        };
        match &claim.target {
            None => member.was_in_sync(),
            Some(_) if !member.is_at_generation() => false,
            Some(target) => {
                let known = self.context.stores.fleet.was_in_sync(&member.key(), target);
                known.unwrap_or_else(|| member.listed_in_sync(target))
            }
        }
    }

    /// Counts what is found to have drifted, once each until it is in sync again.
    pub(super) fn find_drift(&mut self, plan: &Plan) {
        for (claim, verdict) in &plan.verdicts {
            let differs = matches!(verdict, Verdict::Pending | Verdict::NeedsApproval(_) | Verdict::Drifted(_));
            if differs && self.has_drifted(claim) && self.state.drifted.insert(claim.clone()) {
                self.context.metrics.drift(claim.resource.kind.as_str());
            }
        }
    }

    /// Counts what has drifted and is in sync again because of this operator.
    pub(super) fn count_corrected(&mut self) {
        let Findings { plan, notes, told, .. } = &self.findings;
        let metrics = &self.context.metrics;
        self.state.drifted.retain(|claim| match plan.verdicts.get(claim) {
            Some(Verdict::InSync) => {
                if notes.contains_key(claim) || told.contains(claim) {
                    metrics.drift_corrected(claim.resource.kind.as_str());
                }
                false
            }
            Some(Verdict::Rejected(_) | Verdict::Overridden(_) | Verdict::Released) | None => false,
            Some(_) => true,
        });
    }

    /// One event for all steps of a claim: what changed, with the SQL.
    fn note_applied(&mut self, step: &Step, extension: &Extension, drifted: bool) {
        let reason = match self.members().get(&step.claim.resource) {
            Some(member) if member.is_deleting() => Reason::Released,
            _ if drifted => Reason::DriftCorrected,
            _ => Reason::Applied,
        };
        let sql: Vec<_> = sql::render(&step.action, extension).statements.into_iter().map(|s| s.text).collect();
        let text = format!("{}\n{}", step.change, sql.join(";\n"));
        match self.findings.notes.entry(step.claim.clone()) {
            Entry::Occupied(mut note) => {
                note.get_mut().text.push('\n');
                note.get_mut().text.push_str(&text);
            }
            Entry::Vacant(note) => {
                note.insert(Note { reason, text });
            }
        }
    }
}
