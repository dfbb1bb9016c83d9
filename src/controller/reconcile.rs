//! One pass over one database: the seven stages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Resource, ResourceExt, runtime::controller::Action};

use super::{
    Context,
    attached::{Member, members},
    report::Note,
    state::{Ended, State},
};
use crate::{
    api::{
        FINALIZER, TimescaleDatabase,
        status::Reason,
        timescale_database::{DatabaseDeletion, TimescaleDatabaseStatus},
        types::{Interval, IntervalText, Relation},
    },
    catalog::{Catalog, Extension},
    db::{Session, credentials, credentials::Endpoint},
    desired::{self, Attached, Desired, Intent, ResourceId, Rules, Target},
    error::{self, Class, Failure, chain},
    plan::{
        self,
        step::{Plan, Step, Verdict},
    },
    sql,
    status::{Observed, Summary, summarize},
};

/// Rounds of observing, planning and applying in one pass. What depends on something that the round before created needs
/// one more; deeper hierarchies go on in the next pass.
const MAX_ROUNDS: usize = 5;
/// Rounds of asking and planning again for one plan. The planner needs two; a third would be a defect.
const MAX_QUESTIONS: usize = 3;
/// Passes in a row that may fail before the resources (not only the database) say so: a restart is not news.
const QUIET_FAILURES: u32 = 3;
/// Passes in a row that may fail before a database that is being deleted lets go of its resources.
const ORPHAN_FAILURES: u32 = 6;

/// What one pass found out, to be reported.
#[derive(Default)]
struct Findings {
    catalog: Option<Catalog>,
    verdicts: BTreeMap<ResourceId, Verdict>,
    warnings: BTreeMap<ResourceId, Vec<String>>,
    failures: BTreeMap<ResourceId, Failure>,
    notes: BTreeMap<ResourceId, Vec<Note>>,
}

/// Looks after one database. Never fails: what went wrong is reported, and decides when the next pass is.
pub async fn reconcile(
    database: Arc<TimescaleDatabase>,
    context: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    context.stores.ready().await;
    let started = Instant::now();
    let namespace = database.namespace().unwrap_or_default();
    let state = context.state(&database);
    let mut state = state.lock().await;
    let resync = interval_or(&database.spec.resync_interval, Interval::from_seconds(30));
    let result = pass(&database, &namespace, resync, &mut state, &context).await;
    let pause = match &result {
        Ok(()) => {
            state.failures = 0;
            let now = Instant::now();
            let retry = state.pauses.values().filter(|p| p.until > now).map(|p| p.until - now).min();
            let resync = error::resync_pause(resync, fastrand::f64());
            retry.map_or(resync, |retry| retry.max(Duration::from_millis(50)).min(resync))
        }
        Err(failure) => {
            state.failures = state.failures.saturating_add(1);
            context.metrics.error(failure);
            tracing::warn!(
                namespace,
                name = database.name_any(),
                class = failure.class.as_str(),
                reason = failure.reason.as_str(),
                "{failure}"
            );
            error::pause(failure.class, state.failures, resync, fastrand::f64())
        }
    };
    context.metrics.pass(result.as_ref().err(), started.elapsed());
    Ok(Action::requeue(pause))
}

async fn pass(
    database: &TimescaleDatabase,
    namespace: &str,
    resync: Interval,
    state: &mut State,
    context: &Context,
) -> Result<(), Failure> {
    // 1 collect
    let attached = context.stores.attached(&database.name_any(), namespace);
    let members = members(&attached, &database.name_any());
    let deleting = database.meta().deletion_timestamp.is_some();
    let holders: Vec<_> = members.values().filter(|member| member.has_finalizer()).collect();
    if deleting && (holders.is_empty() || database.spec.deletion_policy == DatabaseDeletion::Orphan) {
        release_all(database, &members, "the TimescaleDatabase is being deleted", context).await?;
        return Ok(());
    }
    let desired = desired(database, &attached, deleting);
    let rules = desired::rules(database);

    // 2 connect .. 6 verify
    let found = examine(database, namespace, resync, &desired, &rules, &members, state, context).await;

    // 7 report
    match found {
        Ok(findings) => report(database, namespace, deleting, &members, &findings, state, context).await,
        Err(failure) => {
            state.disconnect();
            if deleting && (failure.class == Class::User || state.failures >= ORPHAN_FAILURES) {
                release_all(
                    database,
                    &members,
                    &format!("the TimescaleDatabase is being deleted and {failure}"),
                    context,
                )
                .await?;
                return Ok(());
            }
            report_failure(database, &members, &failure, state.failures, context).await?;
            Err(failure)
        }
    }
}

/// What the resources want. Of a database that is being deleted nothing is wanted any more; what is being released is.
fn desired(database: &TimescaleDatabase, attached: &Attached, deleting: bool) -> Desired {
    let mut desired = desired::collect(database, attached);
    if deleting {
        desired.claims.retain(|claim| matches!(claim.intent, Intent::Release(_)));
        desired.rejected.clear();
    }
    desired
}

#[allow(clippy::too_many_arguments, reason = "the stages between collecting and reporting share the whole pass")]
async fn examine(
    database: &TimescaleDatabase,
    namespace: &str,
    resync: Interval,
    desired: &Desired,
    rules: &Rules,
    members: &BTreeMap<ResourceId, Member>,
    state: &mut State,
    context: &Context,
) -> Result<Findings, Failure> {
    // 2 connect
    let session = match endpoint(database, namespace, context).await {
        Ok(endpoint) => state.session(&endpoint, &context.metrics).await?,
        // The secret may go before the resources when a namespace is deleted; an open session still does what is left.
        Err(failure) => state.open_session().filter(|_| database.meta().deletion_timestamp.is_some()).ok_or(failure)?,
    };

    let mut findings = Findings::default();
    for ended in state.take_ended() {
        note_ended(ended, resync, members, state, &mut findings, context);
    }
    state.pauses.retain(|id, pause| members.get(id).is_some_and(|m| m.generation() == pause.generation));

    let indexed = indexed_relations(desired);
    let mut done = BTreeSet::new();
    for round in 0.. {
        // 3 observe
        let catalog = session.observe(&indexed).await?;
        // 4 plan
        let plan = planned(desired, rules, &catalog, &session, state).await?;
        // 6 verify: what was carried out and is wanted again does not converge
        for step in plan.steps.iter().filter(|step| done.contains(&step.claim)) {
            let message = format!("carried out, and the catalog still differs: {}; please report this", step.change);
            findings
                .failures
                .entry(step.claim.clone())
                .or_insert_with(|| Failure::new(Class::Bug, Reason::NotConverging, message));
        }
        let runnable: Vec<_> = plan
            .steps
            .iter()
            .filter(|s| !done.contains(&s.claim) && !findings.failures.contains_key(&s.claim))
            .collect();
        let extension = catalog.server.extension.clone();
        let last = runnable.is_empty() || round + 1 == MAX_ROUNDS || extension.is_none();
        // 5 apply
        state.pauses.retain(|id, _| plan.steps.iter().any(|step| step.claim == *id));
        let went_on = match extension {
            Some(extension) if !last => {
                let mut applying = Applying {
                    database,
                    resync,
                    members,
                    session: &session,
                    extension,
                    state: &mut *state,
                    findings: &mut findings,
                    context,
                };
                applying.steps(&runnable, &mut done).await
            }
            _ => false,
        };
        if !went_on {
            findings.verdicts = plan.verdicts;
            findings.warnings = plan.warnings;
            for (id, what) in state.running() {
                findings.verdicts.insert(id, Verdict::InProgress(what));
            }
            findings.catalog = Some(catalog);
            break;
        }
    }
    read_statistics(database, &session, findings.catalog.as_ref(), state).await;
    Ok(findings)
}

async fn endpoint(database: &TimescaleDatabase, namespace: &str, context: &Context) -> Result<Endpoint, Failure> {
    let api: Api<Secret> = Api::namespaced(context.reporter.client().clone(), namespace);
    let get = async |name: &str| match api.get_opt(name).await {
        Ok(Some(secret)) => Ok(secret.data.unwrap_or_default()),
        Ok(None) => {
            let message =
                format!("secret {name} does not exist in namespace {namespace}; create it, or correct spec.connection");
            Err(Failure::new(Class::User, Reason::SecretNotFound, message))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            let message =
                format!("the operator may not read secret {name} in namespace {namespace}: {}", status.message);
            Err(Failure::new(Class::User, Reason::PermissionDenied, message))
        }
        Err(error) => {
            Err(Failure::new(Class::Transient, Reason::Retrying, format!("reading secret {name}: {}", chain(&error))))
        }
    };
    let connection = &database.spec.connection;
    let secret = get(&connection.secret_ref.name).await?;
    let ca = match &connection.tls.ca_secret_ref {
        None => None,
        Some(reference) => {
            let value = get(&reference.name).await?.remove(&reference.key);
            Some(value.ok_or_else(|| {
                let message = format!("secret {} has no key {}", reference.name, reference.key);
                Failure::new(Class::User, Reason::SecretNotFound, message)
            })?)
        }
    };
    let mut endpoint = credentials::endpoint(connection, &secret, ca.map(|bytes| bytes.0))?;
    // So that pg_stat_activity, and an operator that finds the lock taken, can say for which resource.
    endpoint.config.application_name(format!("{} {namespace}/{}", credentials::APPLICATION_NAME, database.name_any()));
    Ok(endpoint)
}

/// The plan, with its questions answered. Texts of resources are read by the server once and then remembered.
async fn planned(
    desired: &Desired,
    rules: &Rules,
    catalog: &Catalog,
    session: &Session,
    state: &mut State,
) -> Result<Plan, Failure> {
    let running = state.running();
    let mut answers = std::mem::take(&mut state.answers);
    let mut asked = Ok(());
    let mut plan = plan::plan(plan::Inputs { desired, rules, catalog, answers: &answers, running: &running });
    for _ in 0..MAX_QUESTIONS {
        let Some(extension) = catalog.server.extension.as_ref().filter(|_| !plan.questions.is_empty()) else { break };
        asked = session.ask(&plan.questions, extension, &mut answers).await;
        if asked.is_err() {
            break;
        }
        plan = plan::plan(plan::Inputs { desired, rules, catalog, answers: &answers, running: &running });
    }
    answers.retain(|question, answer| question.is_lasting() && answer.is_lasting());
    state.answers = answers;
    asked?;
    if plan.questions.is_empty() {
        Ok(plan)
    } else {
        Err(Failure::new(
            Class::Bug,
            Reason::InternalError,
            format!("the planner goes on asking: {:?}", plan.questions),
        ))
    }
}

/// The relations whose indexes some resource says something about.
fn indexed_relations(desired: &Desired) -> Vec<&Relation> {
    let indexed = desired.claims.iter().filter_map(|claim| match &claim.intent {
        Intent::Ensure(Target::Hypertable(target)) if !target.indexes.is_empty() => Some(&target.relation),
        _ => None,
    });
    indexed.collect()
}

/// Stage 5, and all it needs.
struct Applying<'a> {
    database: &'a TimescaleDatabase,
    resync: Interval,
    members: &'a BTreeMap<ResourceId, Member>,
    session: &'a Session,
    extension: Extension,
    state: &'a mut State,
    findings: &'a mut Findings,
    context: &'a Context,
}

impl Applying<'_> {
    /// Carries out the steps, claim by claim. A claim that fails does not stop the others. Says whether anything changed
    /// that the catalog must be read again for.
    async fn steps(&mut self, steps: &[&Step], done: &mut BTreeSet<ResourceId>) -> bool {
        let mut changed = false;
        let mut unfinished: BTreeSet<ResourceId> = self.state.running().into_keys().collect();
        let mut rest = steps;
        while let Some(first) = rest.first() {
            let of_claim = rest.iter().take_while(|step| step.claim == first.claim).count();
            let (mine, others) = rest.split_at(of_claim);
            rest = others;
            let claim = &first.claim;
            if mine.iter().flat_map(|step| &step.after).any(|id| id != claim && unfinished.contains(id))
                || self.is_paused(claim)
            {
                unfinished.insert(claim.clone());
                continue;
            }
            if let Err(failure) = self.hold_on(claim).await {
                self.fail(claim, failure);
                unfinished.insert(claim.clone());
                continue;
            }
            let (applied, left) = self.quick(mine).await;
            changed |= applied;
            match left {
                None => {
                    done.insert(claim.clone());
                }
                Some(left) => {
                    unfinished.insert(claim.clone());
                    changed |= self.long(claim, left);
                }
            }
        }
        changed
    }

    fn is_paused(&mut self, claim: &ResourceId) -> bool {
        let Some(pause) = self.state.pauses.get(claim).filter(|p| p.until > Instant::now()) else { return false };
        self.findings.failures.insert(claim.clone(), pause.failure.clone());
        true
    }

    /// What will have to be undone must hold its finalizer before it is done, and its database too.
    async fn hold_on(&self, claim: &ResourceId) -> Result<(), Failure> {
        let Some(member) =
            self.members.get(claim).filter(|m| m.needs_release() && !m.has_finalizer() && !m.is_deleting())
        else {
            return Ok(());
        };
        if !self.database.finalizers().iter().any(|f| f == FINALIZER) {
            self.context.reporter.finalize(self.database, true).await?;
        }
        member.finalize(&self.context.reporter, true).await
    }

    /// Carries out the steps up to the first long one. Returns whether any was, and what is left of them: `None` when all
    /// were.
    async fn quick<'s>(&mut self, steps: &'s [&Step]) -> (bool, Option<&'s [&'s Step]>) {
        for (i, step) in steps.iter().enumerate() {
            if step.long {
                return (i > 0, Some(&steps[i..]));
            }
            let outcome = self.session.apply(step, &self.extension).await;
            self.context.metrics.step(step.action.name(), outcome.as_ref().err());
            match outcome {
                Ok(()) => note_applied(step, &self.extension, self.members, self.findings, self.context),
                Err(failure) => {
                    self.fail(&step.claim, failure);
                    return (i > 0, Some(&[]));
                }
            }
        }
        self.state.pauses.remove(&steps[0].claim);
        (!steps.is_empty(), None)
    }

    /// Starts the steps beside the pass. Returns whether it did.
    fn long(&mut self, claim: &ResourceId, steps: &[&Step]) -> bool {
        if steps.is_empty() {
            return false;
        }
        // One connection is the session's own.
        let free = usize::try_from(self.database.spec.max_connections - 1).unwrap_or(1).max(1);
        if self.state.running().len() >= free {
            let message = format!(
                "waits for one of {free} connections for long steps (spec.maxConnections of the TimescaleDatabase, less one)"
            );
            self.findings.failures.insert(claim.clone(), Failure::new(Class::Transient, Reason::InProgress, message));
            return false;
        }
        let steps: Vec<Step> = steps.iter().map(|step| (*step).clone()).collect();
        tracing::info!(claim = %claim, steps = steps.len(), "long steps start: {}", steps[0].change);
        let wake = self.context.waker(self.database);
        self.state.start(claim.clone(), steps, self.extension.clone(), &self.context.metrics, wake);
        true
    }

    fn fail(&mut self, claim: &ResourceId, failure: Failure) {
        note_failed(claim, failure, self.resync, self.members, self.state, self.findings, self.context);
    }
}

fn note_ended(
    ended: Ended,
    resync: Interval,
    members: &BTreeMap<ResourceId, Member>,
    state: &mut State,
    findings: &mut Findings,
    context: &Context,
) {
    let Ended { claim, applied, extension, failure } = ended;
    for step in &applied {
        note_applied(step, &extension, members, findings, context);
    }
    match failure {
        Some(failure) => note_failed(&claim, failure, resync, members, state, findings, context),
        None => {
            state.pauses.remove(&claim);
        }
    }
}

fn note_failed(
    claim: &ResourceId,
    failure: Failure,
    resync: Interval,
    members: &BTreeMap<ResourceId, Member>,
    state: &mut State,
    findings: &mut Findings,
    context: &Context,
) {
    context.metrics.error(&failure);
    tracing::warn!(claim = %claim, class = failure.class.as_str(), reason = failure.reason.as_str(), "{failure}");
    let generation = members.get(claim).and_then(Member::generation);
    let class = failure.class;
    state.pause(claim, generation, failure.clone(), |failures| error::pause(class, failures, resync, fastrand::f64()));
    findings.failures.insert(claim.clone(), failure);
}

/// An event for a step: what changed, with the SQL. A change of what was in sync at this generation corrects drift.
fn note_applied(
    step: &Step,
    extension: &Extension,
    members: &BTreeMap<ResourceId, Member>,
    findings: &mut Findings,
    context: &Context,
) {
    let member = members.get(&step.claim);
    let drifted = member.is_some_and(Member::was_in_sync);
    let reason = match member {
        Some(member) if member.is_deleting() => Reason::Released,
        _ if drifted => Reason::DriftCorrected,
        _ => Reason::Applied,
    };
    let notes = findings.notes.entry(step.claim.clone()).or_default();
    if drifted && notes.is_empty() {
        context.metrics.drift(step.claim.kind.as_str());
    }
    let sql: Vec<_> = sql::render(&step.action, extension).statements.into_iter().map(|s| s.text).collect();
    notes.push(Note { reason, text: format!("{}\n{}", step.change, sql.join(";\n")) });
}

/// Sizes are for people: when they cannot be read the old ones stay, and nothing waits.
async fn read_statistics(
    database: &TimescaleDatabase,
    session: &Session,
    catalog: Option<&Catalog>,
    state: &mut State,
) {
    let Some(catalog) = catalog.filter(|catalog| catalog.server.extension.is_some()) else { return };
    let every = interval_or(&database.spec.statistics_interval, Interval::from_seconds(300)).to_duration();
    let fresh = |(at, statistics): &(Instant, BTreeMap<_, _>)| {
        at.elapsed() < every && catalog.hypertables.keys().all(|relation| statistics.contains_key(relation))
    };
    if state.statistics.as_ref().is_some_and(fresh) {
        return;
    }
    match session.statistics().await {
        Ok(statistics) => state.statistics = Some((Instant::now(), statistics.into_iter().collect())),
        Err(failure) => tracing::warn!(name = database.name_any(), "sizes could not be read: {failure}"),
    }
}

async fn report(
    database: &TimescaleDatabase,
    namespace: &str,
    deleting: bool,
    members: &BTreeMap<ResourceId, Member>,
    findings: &Findings,
    state: &State,
    context: &Context,
) -> Result<(), Failure> {
    let Findings { catalog, verdicts, warnings, failures, notes } = findings;
    let statistics = state.statistics.as_ref().map(|(_, statistics)| statistics);
    let none = Vec::new();
    let mut ready = 0;
    let mut writes = Vec::new();
    for (id, member) in members {
        let Some(verdict) = verdicts.get(id) else { continue };
        let warnings = warnings.get(id).unwrap_or(&none);
        let notes = notes.get(id).map_or(&[][..], |notes| &notes[..]);
        let summary = summarize(namespace, id, verdict, failures.get(id), warnings);
        if summary.as_ref().is_some_and(|s| s.reason == Reason::InSync) {
            ready += 1;
        }
        let observed = Observed { catalog: catalog.as_ref(), statistics, target: member.target() };
        writes.push(member.settle(&context.reporter, summary, observed, notes));
    }
    let resources = members.len();
    super::attached::all(writes).await?;

    let server = catalog.as_ref().map(|c| &c.server);
    let facts = TimescaleDatabaseStatus {
        postgres_version: server.map(crate::catalog::Server::postgres_version),
        timescaledb_version: server.and_then(|s| s.extension.as_ref()).map(|e| e.version.to_string()),
        license: server.and_then(|s| s.license.clone()),
        resources: i64::try_from(resources).ok(),
        resources_ready: Some(ready),
        ..TimescaleDatabaseStatus::default()
    };
    let summary = match server {
        _ if deleting => in_use(members),
        Some(server) if server.extension.is_none() => Summary::new(
            Reason::ExtensionMissing,
            "the extension timescaledb is not installed in this database; run CREATE EXTENSION timescaledb (a superuser may have to)",
        ),
        Some(server) if server.read_only => Summary::new(
            Reason::ReadOnly,
            "the server is a standby or read-only; nothing is attempted until it accepts writes",
        ),
        _ => Summary::new(Reason::InSync, "connected; the live catalog is checked at every resync"),
    };
    context.reporter.say_database(database, &summary, facts).await
}

fn in_use(members: &BTreeMap<ResourceId, Member>) -> Summary {
    let holders: Vec<_> =
        members.iter().filter(|(_, member)| member.has_finalizer()).map(|(id, _)| id.to_string()).collect();
    let message = format!(
        "still in use by {} resource{} whose deletion undoes something in the database ({}{}); delete them, or set spec.deletionPolicy: Orphan to let go of them as they are",
        holders.len(),
        if holders.len() == 1 { "" } else { "s" },
        holders.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
        if holders.len() > 5 { ", …" } else { "" },
    );
    Summary::new(Reason::InUse, message)
}

/// The database could not be observed: the database says so at once, its resources when it lasts or needs a person.
async fn report_failure(
    database: &TimescaleDatabase,
    members: &BTreeMap<ResourceId, Member>,
    failure: &Failure,
    failures_before: u32,
    context: &Context,
) -> Result<(), Failure> {
    let summary = Summary::new(failure.reason, failure.message.clone());
    let facts = database.status.clone().unwrap_or_default();
    context.reporter.say_database(database, &summary, facts).await?;
    let lasting = failure.class != Class::Transient || failures_before + 1 >= QUIET_FAILURES;
    let message = format!("TimescaleDatabase {}: {}", database.name_any(), failure.message);
    let summary = Summary::new(failure.reason, message);
    let told = members.values().filter(|member| lasting || !member.was_ready());
    let writes = told.map(|member| {
        member.settle(
            &context.reporter,
            Some(summary.clone()),
            Observed { target: member.target(), ..Observed::default() },
            &[],
        )
    });
    super::attached::all(writes.collect()).await
}

/// Lets go of every resource, and of the database itself, without touching anything in the database.
async fn release_all(
    database: &TimescaleDatabase,
    members: &BTreeMap<ResourceId, Member>,
    why: &str,
    context: &Context,
) -> Result<(), Failure> {
    for member in members.values().filter(|member| member.has_finalizer()) {
        member.orphan(&context.reporter, why).await?;
    }
    if database.finalizers().iter().any(|f| f == FINALIZER) {
        context.reporter.finalize(database, false).await?;
    }
    context.forget(database);
    Ok(())
}

fn interval_or(text: &IntervalText, default: Interval) -> Interval {
    let parsed = text.0.parse::<Interval>().ok().filter(|interval| *interval >= Interval::from_seconds(1));
    parsed.map_or(default, |interval| interval.min(Interval::from_days(1)))
}
