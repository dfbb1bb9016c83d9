//! Stage 5: the steps of a plan, claim by claim; and what became of the long ones that ran beside a pass.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Instant,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream,
};
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::{
    Context,
    attached::{CONCURRENT_WRITES, Member},
    memo::Collected,
    pass::{Findings, Pass},
    report::Note,
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
    /// Resources that were found changed or could not be read when they were compared with the API server, until their turn
    /// comes.
    pub(super) changed: BTreeMap<Option<ResourceId>, Failure>,
}

/// Claims whose resources are compared with the API server together with the one whose turn it is.
const AHEAD: usize = 7;

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
    pub(super) async fn steps(&mut self, steps: &[&Step], done: &mut Vec<Step>) -> bool {
        let mut changed = false;
        // What failed in an earlier round is planned again but not among the steps; what comes after it must wait all the same.
        let mut unfinished: BTreeSet<ClaimId> = self.pass.state.running().into_keys().collect();
        unfinished.extend(self.pass.findings.failures.keys().cloned());
        let claims: Vec<_> = steps.chunk_by(|a, b| a.claim == b.claim).collect();
        for (i, mine) in claims.iter().enumerate() {
            let claim = &mine[0].claim;
            let waits = mine.iter().flat_map(|step| &step.after).any(|id| id != claim && unfinished.contains(id));
            if waits || self.is_paused(claim) {
                unfinished.insert(claim.clone());
                continue;
            }
            if let Err(failure) = self.confirm(&claims[i..]).await {
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
                    done.extend(mine.iter().map(|step| (*step).clone()));
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
    /// server once in a pass: for the first of these claims, and at the same time for those that come soon after it.
    async fn confirm(&mut self, claims: &[&[&Step]]) -> Result<(), Failure> {
        let claim = &claims[0][0].claim;
        let Some(member) = self.pass.members().get(&claim.resource).cloned() else { return Ok(()) };
        self.look_ahead(claims).await;
        if let Some(failure) = self.changed.remove(&None) {
            return Err(failure);
        }
        let resource = Some(claim.resource.clone());
        if let Some(failure) = self.changed.remove(&resource) {
            return Err(failure);
        }
        match &claim.target {
            // Whether a target is selected hangs on its labels.
            Some(target) if !member.is_deleting() && self.pass.confirmed.contains(&resource) => {
                self.pass.context.confirm_target(target, &member).await
            }
            _ => Ok(()),
        }
    }

    async fn look_ahead(&mut self, claims: &[&[&Step]]) {
        let (pass, changed) = (&mut *self.pass, &mut self.changed);
        let (reporter, database) = (&pass.context.reporter, pass.database);
        let unconfirmed = |steps: &[&Step]| {
            let resource = &steps[0].claim.resource;
            let known = Some(resource.clone());
            let needed = step::need_confirmation(resource.kind, steps);
            (needed && !pass.confirmed.contains(&known) && !changed.contains_key(&known)).then(|| resource.clone())
        };
        let mut resources: BTreeSet<_> = unconfirmed(claims[0]).into_iter().collect();
        if !resources.is_empty() {
            // What loses something is compared right before it is done.
            let is_harmless = |steps: &&&[&Step]| steps.iter().all(|step| step.hazards.is_empty());
            let ahead = claims[1..].iter().take(AHEAD).filter(is_harmless);
            resources.extend(ahead.filter_map(|steps| unconfirmed(steps)));
        }
        let mut comparisons: Vec<BoxFuture<'_, _>> = Vec::new();
        if !pass.confirmed.contains(&None) {
            comparisons.push(async { (None, reporter.confirm(database).await) }.boxed());
        }
        for id in resources {
            if let Some(member) = pass.collected.members.get(&id) {
                comparisons.push(async { (Some(id), member.confirm(reporter).await) }.boxed());
            }
        }
        for (resource, result) in join_all(comparisons).await {
            match result {
                Ok(()) => {
                    pass.confirmed.insert(resource);
                }
                Err(failure) => {
                    changed.insert(resource, failure);
                }
            }
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

/// What became of putting finalizers on.
#[derive(Default)]
pub(super) struct Held {
    /// The database's resource was given its own.
    database: bool,
    /// For each resource, by its claims.
    attempts: Vec<(Vec<ClaimId>, Result<(), Failure>)>,
}

/// What will have to be undone must hold its finalizer before it is done or adopted, and its database before that. In
/// `Observe` mode nothing is ever undone.
pub(super) async fn hold_on(collected: &Collected, context: &Context) -> Held {
    let database = &collected.managed.database;
    if database.spec.mode == Mode::Observe {
        return Held::default();
    }
    let mut unheld: BTreeMap<&ResourceId, (&Member, Vec<&ClaimId>)> = BTreeMap::new();
    for claim in collected.desired.claims.iter().filter(|claim| matches!(claim.intent, Intent::Ensure(_))) {
        let resource = &claim.id.resource;
        if let Some(member) = collected.members.get(resource).filter(|m| m.needs_release() && !m.has_finalizer()) {
            unheld.entry(resource).or_insert_with(|| (member, Vec::new())).1.push(&claim.id);
        }
    }
    if unheld.is_empty() {
        return Held::default();
    }
    let is_held = database.finalizers().iter().any(|f| f == FINALIZER);
    let first = if is_held { Ok(()) } else { context.reporter.finalize(&**database, true).await };
    let hold = async |(member, claims): (&Member, Vec<&ClaimId>)| {
        let held = match &first {
            Ok(()) => member.finalize(&context.reporter, true).await,
            Err(failure) => Err(failure.clone()),
        };
        (claims.into_iter().cloned().collect(), held)
    };
    let attempts = stream::iter(unheld.into_values()).map(hold).buffer_unordered(CONCURRENT_WRITES).collect().await;
    Held { database: first.is_ok(), attempts }
}

impl Pass<'_> {
    /// Connections beside the session's own.
    pub(super) fn free_connections(&self) -> usize {
        usize::try_from(self.database.spec.max_connections - 1).unwrap_or(1).max(1)
    }

    /// Takes note of what holds its finalizer now, and of what could not be given it.
    pub(super) fn take_held(&mut self, Held { database, attempts }: Held) {
        self.held |= database;
        for (claims, result) in attempts {
            match result {
                Ok(()) => self.confirmed.extend(claims.first().map(|claim| Some(claim.resource.clone()))),
                Err(failure) => {
                    for claim in &claims {
                        self.fail(claim, failure.clone());
                    }
                }
            }
        }
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
