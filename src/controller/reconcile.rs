//! One pass over one database: the seven stages.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{ResourceExt, runtime::controller::Action};
use tokio::sync::mpsc;

use super::{
    Context,
    apply::{Applying, Holding, compare, hold_on},
    attached::publish_all,
    memo::Collected,
    pass::{Findings, Pass},
    readings::Due,
};
use crate::{
    api::{FINALIZER, TimescaleDatabase, status::Reason, timescale_database::DatabaseDeletion, types::Relation},
    catalog::{Answers, Catalog, Extension},
    db::Session,
    desired::{self, ClaimId},
    error::{self, Class, Failure},
    plan::{
        self,
        step::{Plan, Step},
    },
    secret,
};

/// Rounds of observing, planning and applying in one pass. What depends on something that the round before created needs
/// one more; deeper hierarchies go on in the next pass.
const MAX_ROUNDS: usize = 5;
/// The shortest pause before a pass.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// A plan, and the claims of which all steps were carried out.
struct Round {
    plan: Arc<Plan>,
    done: BTreeSet<ClaimId>,
}

impl Round {
    fn has_done(&self, step: &Step) -> bool {
        let is_same = |done: &Step| done.claim == step.claim && done.action == step.action;
        self.done.contains(&step.claim) && self.plan.steps.iter().any(is_same)
    }
}

/// Looks after one database. Never fails: what went wrong is reported, and decides when the next pass is.
pub async fn reconcile(database: Arc<TimescaleDatabase>, context: Arc<Context>) -> Result<Action, Infallible> {
    context.ready().await;
    if !context.is_leading() {
        return Ok(Action::await_change());
    }
    if !context.stores.scope.includes(&database) {
        context.forget(&database);
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let _running = context.metrics.pass_begins();
    let namespace = database.namespace().unwrap_or_default();
    let attached = context.stores.attached(&database.name_any(), &namespace);
    let state = context.state(&database);
    let mut state = state.lock().await;
    let pace = desired::pace(&database);
    let resync = pace.clone().unwrap_or_default().resync;

    let collected = state.memo.collect(&database, attached, &context.defaults);
    let mut pass = Pass {
        namespace: namespace.clone(),
        pace: pace.clone().unwrap_or_default(),
        held: database.finalizers().iter().any(|f| f == FINALIZER),
        confirmed: BTreeSet::new(),
        holding: Holding::default(),
        database: &collected.managed.database,
        collected: collected.clone(),
        state: &mut state,
        context: &context,
        findings: Findings::default(),
    };
    let result = match pace {
        Ok(_) => pass.run(&collected).await,
        Err(invalid) => pass.give_up(Failure::new(Class::User, invalid.reason, invalid.message)).await,
    };

    let read_in = pass.findings.read_in;
    let pause = match &result {
        Ok(()) => {
            state.failures = 0;
            let now = Instant::now();
            let retry = state.pauses.values().filter(|p| p.until > now).map(|p| p.until - now).chain(read_in).min();
            let resync = error::resync_pause(resync, fastrand::f64());
            retry.map_or(resync, |retry| retry.max(SHORTEST_PAUSE).min(resync))
        }
        Err(failure) => {
            state.failures = state.failures.saturating_add(1);
            context.metrics.error(failure);
            let (class, reason) = (failure.class.as_str(), failure.reason.as_str());
            tracing::warn!(namespace, name = database.name_any(), class, reason, "{failure}");
            error::pause(failure.class, state.failures, resync, fastrand::f64())
        }
    };
    context.metrics.pass(result.as_ref().err(), started.elapsed());
    Ok(Action::requeue(pause))
}

impl Pass<'_> {
    /// 1 collect: what the resources want is `desired`.
    async fn run(&mut self, collected: &Arc<Collected>) -> Result<(), Failure> {
        self.take_reading();
        if self.is_deleting() && (self.orphans() || self.users().is_empty()) {
            return self.release_all("the TimescaleDatabase is being deleted").await;
        }
        // 2 connect
        let session = match self.connect().await {
            Ok(session) => session,
            // A session at hand is kept: a namespace that is deleted may lose its secret before its resources.
            Err(failure) => return self.give_up(failure).await,
        };
        // 3 observe, 4 plan, 5 apply, 6 verify
        match self.converge(collected, &session).await {
            // 7 report
            Ok(()) => self.report().await,
            Err(failure) => {
                self.state.disconnect();
                self.give_up(failure).await
            }
        }
    }

    fn orphans(&self) -> bool {
        self.database.spec.deletion_policy == DatabaseDeletion::Orphan
    }

    async fn converge(&mut self, collected: &Arc<Collected>, session: &Session) -> Result<(), Failure> {
        // The database and the API server work at the same time.
        let (putting_finalizers_on, holding) = hold_on(collected, self.context);
        self.holding = holding;
        let ((), converged) = futures::join!(putting_finalizers_on, self.rounds(collected, session));
        self.await_finalizers().await;
        converged?;
        self.count_corrected();
        self.read_statistics().await;
        self.judge(&collected.desired, session).await;
        Ok(())
    }

    async fn rounds(&mut self, collected: &Arc<Collected>, session: &Session) -> Result<(), Failure> {
        let with_indexes = collected.desired.with_indexes();
        self.take_ended();
        let mut rounds: Vec<Round> = Vec::new();
        for round in 1.. {
            let (catalog, plan) = self.look(collected, &with_indexes, session).await?;
            self.find_drift(&plan);
            self.verify(&plan, &rounds);
            let runnable = self.runnable(&plan);
            let applied = match &catalog.server.extension {
                Some(extension) if round < MAX_ROUNDS => {
                    let installed = self.install_monitoring(session, &catalog.server).await;
                    let mut done = BTreeSet::new();
                    let changed = self.apply(&runnable, session, extension, &mut done).await;
                    rounds.push(Round { plan: plan.clone(), done });
                    changed || installed
                }
                _ => false,
            };
            if !applied {
                self.conclude(plan, catalog);
                break;
            }
        }
        Ok(())
    }

    /// The session at hand, or a new one where there is none, it broke, or its secret has changed.
    async fn connect(&mut self) -> Result<Arc<Session>, Failure> {
        match secret::endpoint(self.database, &self.namespace, self.context.reporter.client()).await {
            Ok(endpoint) => self.state.session(&endpoint, &self.context.metrics).await,
            // The secret may go before the resources when a namespace is deleted; an open session still does what is left.
            Err(failure) => self.state.open_session().filter(|_| self.is_deleting()).ok_or(failure),
        }
    }

    async fn look(
        &mut self,
        collected: &Arc<Collected>,
        with_indexes: &[&Relation],
        session: &Session,
    ) -> Result<(Arc<Catalog>, Arc<Plan>), Failure> {
        let catalog = self.state.memo.catalog(session.observe(with_indexes).await?);
        let plan = self.plan(collected, &catalog, session).await?;
        Ok((catalog, plan))
    }

    async fn plan(
        &mut self,
        collected: &Arc<Collected>,
        catalog: &Arc<Catalog>,
        session: &Session,
    ) -> Result<Arc<Plan>, Failure> {
        let desired = &collected.desired;
        let running = self.state.running();
        let known = self.state.memo.plan(collected, catalog).filter(|_| running.is_empty());
        let plan = if let Some(plan) = known {
            plan
        } else {
            let rules = desired::rules(self.database);
            let answers = &mut self.state.answers;
            let plan_with = |answers: &Answers| {
                plan::plan(plan::Inputs { desired, rules: &rules, catalog, answers, running: &running })
            };
            let plan = plan_with(answers);
            if plan.questions.is_empty() {
                let plan = Arc::new(plan);
                if running.is_empty() {
                    self.state.memo.keep_plan(collected, catalog, &plan);
                }
                plan
            } else {
                Arc::new(session.complete(plan, plan_with, catalog, answers).await?)
            }
        };
        // Only what is still to be done can have failed.
        self.state.pauses.retain(|id, _| plan.steps.iter().any(|step| step.claim == *id));
        Ok(plan)
    }

    /// What was carried out and is wanted again does not converge: that is said, and not tried in a loop.
    fn verify(&mut self, plan: &Plan, rounds: &[Round]) {
        let is_done = |step: &&Step| rounds.iter().any(|round| round.has_done(step));
        for step in plan.steps.iter().filter(is_done) {
            let message = format!("carried out, and the catalog still differs: {}; please report this", step.change);
            let failure = || Failure::new(Class::Bug, Reason::NotConverging, message);
            self.findings.failures.entry(step.claim.clone()).or_insert_with(failure);
        }
    }

    fn runnable<'p>(&self, plan: &'p Plan) -> Vec<&'p Step> {
        let failures = &self.findings.failures;
        plan.steps.iter().filter(|s| !failures.contains_key(&s.claim)).collect()
    }

    fn conclude(&mut self, plan: Arc<Plan>, catalog: Arc<Catalog>) {
        self.findings.plan = plan;
        self.findings.catalog = Some(catalog);
    }

    /// Sizes are for people: nothing waits for them, and when they cannot be read the old ones stay.
    async fn read_statistics(&mut self) {
        let Some(catalog) = self.findings.catalog.as_ref().filter(|c| c.server.extension.is_some()) else { return };
        let is_new = match self.state.readings.due(catalog, self.pace.statistics.to_duration()) {
            Due::Later => return,
            Due::Soon(pause) => {
                self.findings.read_in = Some(pause);
                return;
            }
            Due::Now { is_new } => is_new,
        };
        // Long steps go first; the end of one wakes the database.
        if self.state.running().len() >= self.free_connections() {
            return;
        }
        let Some(endpoint) = self.state.endpoint().cloned() else { return };
        let (catalog, wake) = (catalog.clone(), self.context.waker(self.database));
        self.state.readings.start(endpoint, catalog, is_new, self.context.metrics.clone(), wake).await;
        self.take_reading();
    }

    /// Takes the reading that has ended beside the pass.
    fn take_reading(&mut self) {
        if let Some(failure) = self.state.readings.take_ended() {
            self.context.metrics.error(failure);
            tracing::warn!(name = self.database.name_any(), "sizes and backlogs could not be read: {failure}");
        }
    }

    /// Stage 5; see [`super::apply`]. Says whether anything changed that the catalog must be read again for.
    async fn apply(
        &mut self,
        steps: &[&Step],
        session: &Session,
        extension: &Extension,
        done: &mut BTreeSet<ClaimId>,
    ) -> bool {
        let (told, notes) = mpsc::unbounded_channel();
        // The database and the API server work at the same time.
        let published = publish_all(&self.context.reporter, notes);
        let (compared, ahead) = compare(&self.context.reporter, self.to_compare(steps));
        let applied = async { Applying { pass: self, session, extension, told, ahead }.steps(steps, done).await };
        futures::join!(applied, published, compared).0
    }
}
