//! What became of a claim → what its resource says. Pure: the clock is an argument.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
        compression_policy::CompressionPolicyStatus,
        continuous_aggregate::ContinuousAggregateStatus,
        hypertable::HypertableStatus,
        retention_policy::RetentionPolicyStatus,
        status::{
            ConditionType, HealthStatus, JobErrorStatus, JobStatus, PendingPlan, Reason, SelectedTarget, Standing,
            TargetStatus, condition,
        },
        types::Relation,
    },
    catalog::{
        Catalog, Job, PolicyKind,
        statistics::{Statistics, TableStatistics},
    },
    desired::{
        ClaimId, Kind, aggregate_needs_release, effective_compress_after, effective_drop_after, policy_needs_release,
    },
    error::Failure,
    monitoring::{job_health::JobHealth, snapshot::JobReport, table_health::TableHealth},
    plan::step::{HeldPlan, Verdict, bytes_text},
};

/// Statements shown in a status; a plan with more says how many are left out.
const MAX_STATEMENTS: usize = 20;
/// Longest message of a condition, in characters.
const MAX_MESSAGE: usize = 4096;

/// What a resource is to say: the part of a status that every kind has.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Why.
    pub reason: Reason,
    /// The object, the value found, the value wanted, and what to do.
    pub message: String,
    /// What would be done and is not.
    pub plan: Option<PendingPlan>,
}

impl Summary {
    /// A summary without a plan.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), plan: None }
    }
}

/// What a claim's verdict means for its resource, seen from a database in this namespace. A step of the claim that failed outweighs a verdict
/// that only says there is work left. `None`: the resource is released and says nothing any more.
pub fn summarize(
    namespace: &str,
    id: &ClaimId,
    verdict: &Verdict,
    failure: Option<&Failure>,
    warnings: &[String],
) -> Option<Summary> {
    let home = namespace;
    let namespace = id.resource.namespace.as_deref().unwrap_or(home);
    let summary = match (verdict, failure) {
        (Verdict::Released, None) => return None,
        (Verdict::Rejected(rejection), _) => Summary::new(rejection.reason, rejection.message.clone()),
        (_, Some(failure)) => Summary::new(failure.reason, failure.message.clone()),
        (Verdict::InSync, None) => Summary::new(Reason::InSync, in_sync_message(warnings)),
        (Verdict::Pending, None) => {
            Summary::new(Reason::Retrying, "steps are left; they are carried out in the next pass")
        }
        (Verdict::InProgress(what), None) => Summary::new(Reason::InProgress, format!("running: {what}")),
        (Verdict::WaitingOn(what), None) => Summary::new(Reason::TargetNotReady, what.clone()),
        (Verdict::Overridden(by), None) => {
            Summary::new(Reason::Overridden, format!("{} names this target", by.seen_by(&id.resource, home)))
        }
        (Verdict::Drifted(held), None) => {
            let message = format!("the database differs and mode is Observe: {}", held.changes());
            Summary { plan: Some(pending_plan(held, false)), ..Summary::new(Reason::DriftObserved, message) }
        }
        (Verdict::NeedsApproval(held), None) => {
            let stale = held.stale_approval.as_ref().map_or_else(String::new, |digest| {
                format!(" The approval that was given ({}) is for another plan.", digest.0)
            });
            // A policy that selects its targets says once how all plans are approved.
            let approve = if id.target.is_some() {
                String::new()
            } else {
                let command = approve_command(id.resource.kind, namespace, &id.resource.name, &held.digest.0);
                format!(" To approve exactly this plan: {command}")
            };
            let message = format!("{}; this {}.{stale}{approve}", held.changes(), held.hazards.join("; "));
            Summary { plan: Some(pending_plan(held, true)), ..Summary::new(Reason::ApprovalRequired, message) }
        }
    };
    Some(summary)
}

fn approve_command(kind: Kind, namespace: &str, name: &str, digests: &str) -> String {
    let kind = kind.as_str().to_lowercase();
    format!("kubectl annotate -n {namespace} {kind} {name} {APPROVE_ANNOTATION}={digests} --overwrite")
}

/// What became of a policy on one of the targets it selects.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The target.
    pub target: SelectedTarget,
    /// What the policy is to say of it; `None`: it is released.
    pub summary: Option<Summary>,
    /// How its job does, where there is one and it was seen.
    pub job: Option<JobHealth>,
}

impl Outcome {
    /// Nothing is left to do.
    pub fn is_current(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.reason.standing() == Standing::Current)
    }
}

/// What became of a policy on all the targets that it selects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// Its targets.
    pub outcomes: Vec<Outcome>,
    /// What were targets until their resources were deleted: the policy is still on their objects.
    pub gone: Vec<SelectedTarget>,
}

/// Targets that a status lists; the rest is counted.
const MAX_TARGETS: usize = 50;
/// Targets that a message names.
const MAX_NAMED: usize = 5;
/// Longest message about the job of one of them, in characters.
const MAX_JOB_MESSAGE: usize = 400;

/// What a policy (kind, namespace, name) is to say that selects these targets: the first reason that needs a person, or
/// else one that passes. `None`: it is released from all of them.
pub fn summarize_selected(
    (kind, namespace, policy): &(Kind, String, String),
    Selection { outcomes, gone: _ }: &Selection,
) -> Option<Summary> {
    let said: Vec<_> = outcomes.iter().filter_map(|outcome| Some((outcome, outcome.summary.as_ref()?))).collect();
    if said.is_empty() && !outcomes.is_empty() {
        return None;
    }
    let not_current = |standing| {
        said.iter()
            .filter(move |(_, summary)| summary.reason.standing() == standing)
            .map(|(outcome, summary)| (*outcome, *summary))
    };
    let behind: Vec<_> = not_current(Standing::Failed).chain(not_current(Standing::InProgress)).collect();
    let Some((_, worst)) = behind.first() else {
        let warned: Vec<_> = said
            .iter()
            .flat_map(|(outcome, summary)| {
                let SelectedTarget { kind, name, .. } = &outcome.target;
                warnings(&summary.message).map(move |warning| format!("{}/{name}: {warning}", kind.as_str()))
            })
            .collect();
        let count = said.len();
        let mut message = format!(
            "the live catalog says what the resource says, for {count} selected target{}",
            if count == 1 { "" } else { "s" }
        );
        for text in warned.iter().take(MAX_NAMED) {
            message.push_str(WARNING);
            message.push_str(text);
        }
        return Some(Summary::new(Reason::InSync, message));
    };
    let names: Vec<_> =
        behind.iter().take(MAX_NAMED).map(|(outcome, summary)| named(&outcome.target, summary)).collect();
    let more =
        if behind.len() > MAX_NAMED { format!("; and {} more", behind.len() - MAX_NAMED) } else { String::new() };
    let plans: Vec<_> = behind.iter().filter_map(|(_, summary)| summary.plan.as_ref()).collect();
    let digests: Vec<_> = plans.iter().filter_map(|plan| plan.digest.clone()).collect();
    let all = if digests.len() == 1 { "exactly this plan" } else { "exactly these plans" };
    let approve = if digests.is_empty() {
        String::new()
    } else {
        format!(" To approve {all}: {}", approve_command(*kind, namespace, policy, &digests.join(",")))
    };
    let message = format!(
        "{} of {} selected targets are not as the resource says: {}{more}.{approve}",
        behind.len(),
        said.len(),
        names.join("; ")
    );
    let mut statements: Vec<_> = plans.iter().flat_map(|plan| plan.statements.iter().cloned()).collect();
    if statements.len() > MAX_STATEMENTS {
        let left_out = statements.len() - MAX_STATEMENTS;
        statements.truncate(MAX_STATEMENTS);
        statements.push(format!("-- and {left_out} more"));
    }
    let plan = (!plans.is_empty()).then(|| PendingPlan {
        digest: (!digests.is_empty()).then(|| digests.join(",")),
        hazards: plans.iter().flat_map(|plan| plan.hazards.iter().cloned()).take(MAX_STATEMENTS).collect(),
        statements,
    });
    Some(Summary { reason: worst.reason, message, plan })
}

fn named(target: &SelectedTarget, summary: &Summary) -> String {
    format!("{}/{}: {}: {}", target.kind.as_str(), target.name, summary.reason, summary.message)
}

/// How the jobs of all targets do that a policy selects: as the worst does. `None`: there are none.
fn selected_job(outcomes: &[Outcome]) -> Option<JobHealth> {
    let mut jobs: Vec<_> =
        outcomes.iter().filter_map(|outcome| Some((&outcome.target, outcome.job.as_ref()?))).collect();
    jobs.sort_by_key(|(_, health)| std::cmp::Reverse(health.severity()));
    let (_, worst) = jobs.first()?;
    let bad: Vec<_> = jobs.iter().filter(|(_, health)| health.healthy == Some(false)).collect();
    if bad.is_empty() {
        let has_run = jobs.iter().find(|(_, health)| health.healthy == Some(true));
        let (_, said) = has_run.unwrap_or(&jobs[0]);
        let message = if has_run.is_some() {
            "no job of the selected targets needs attention"
        } else {
            "no job of the selected targets has run yet"
        };
        return Some(JobHealth { message: message.to_owned(), ..(*said).clone() });
    }
    let one = |(target, health): &&(&SelectedTarget, &JobHealth)| {
        let SelectedTarget { kind, name, .. } = target;
        format!("{}/{name}: {}", kind.as_str(), shorten_to(&health.message, MAX_JOB_MESSAGE))
    };
    let names: Vec<_> = bad.iter().take(MAX_NAMED).map(one).collect();
    let more = if bad.len() > MAX_NAMED { format!("; and {} more", bad.len() - MAX_NAMED) } else { String::new() };
    let message = format!("{} of {} jobs need attention: {}{more}", bad.len(), jobs.len(), names.join("; "));
    Some(JobHealth { message, ..(*worst).clone() })
}

/// The targets as the status lists them: those that need attention first, then those that only the status remembers, and
/// by name.
fn listed(Selection { outcomes, gone }: &Selection) -> Vec<SelectedTarget> {
    let rank = |summary: &Summary| match summary.reason.standing() {
        Standing::Failed => 0,
        Standing::InProgress => 1,
        Standing::Current => 3,
    };
    let there = outcomes.iter().filter_map(|outcome| Some((rank(outcome.summary.as_ref()?), &outcome.target)));
    let mut all: Vec<_> = there.chain(gone.iter().map(|target| (2, target))).collect();
    all.sort_by_key(|(rank, target)| (*rank, target.kind, &target.name));
    all.into_iter().take(MAX_TARGETS).map(|(_, target)| target.clone()).collect()
}

/// The age in force, where it is the same for all targets.
fn common_age(outcomes: &[Outcome]) -> Option<String> {
    let mut ages = outcomes.iter().map(|outcome| outcome.target.after.as_ref());
    let first = ages.next()??;
    ages.all(|age| age == Some(first)).then(|| first.clone())
}

const WARNING: &str = ". Warning: ";

/// The warnings in the message of a summary.
pub fn warnings(message: &str) -> impl Iterator<Item = &str> {
    message.split(WARNING).skip(1)
}

fn in_sync_message(warnings: &[String]) -> String {
    let mut message = "the live catalog says what the resource says".to_owned();
    for warning in warnings {
        message.push_str(WARNING);
        message.push_str(warning);
    }
    message
}

fn pending_plan(held: &HeldPlan, approvable: bool) -> PendingPlan {
    let mut statements: Vec<_> = held.statements.iter().take(MAX_STATEMENTS).cloned().collect();
    if held.statements.len() > MAX_STATEMENTS {
        statements.push(format!("-- and {} more", held.statements.len() - MAX_STATEMENTS));
    }
    PendingPlan { digest: approvable.then(|| held.digest.0.clone()), hazards: held.hazards.clone(), statements }
}

/// The conditions for a summary. `lastTransitionTime` moves only with `status`; `Reconciling`, `Stalled` and `Drifted`
/// are there only while they are true (kstatus).
pub fn conditions(
    previous: &[Condition],
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let Summary { reason, message, plan: _ } = summary;
    let message = shorten(message);
    let (ready, also) = match reason.standing() {
        Standing::Current => (true, None),
        Standing::InProgress => (false, Some(ConditionType::Reconciling)),
        Standing::Failed => (false, Some(ConditionType::Stalled)),
    };
    let drifted = (*reason == Reason::DriftObserved).then_some(ConditionType::Drifted);
    let mut all = vec![(ConditionType::Ready, ready)];
    all.extend(also.into_iter().chain(drifted).map(|type_| (type_, true)));
    let build = |(type_, value): (ConditionType, bool)| {
        let status = if value { "True" } else { "False" };
        let since = condition(previous, type_).filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
        Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.clone(),
            observed_generation: generation,
            last_transition_time: since.unwrap_or(Time(now)),
        }
    };
    all.into_iter().map(build).collect()
}

/// The first characters of a text that is too long for a condition or an event.
pub fn shorten(text: &str) -> String {
    shorten_to(text, MAX_MESSAGE)
}

/// The first `most` characters of a text.
pub fn shorten_to(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What was seen of the database, for the plain facts in a status. What is `None` was not seen in this pass: the facts of
/// the previous status stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed<'a> {
    /// The catalog that the summary is about.
    pub catalog: Option<&'a Catalog>,
    /// Sizes, as last read.
    pub statistics: Option<&'a Statistics>,
    /// What a policy's `targetRef` was resolved to.
    pub target: Option<&'a TargetStatus>,
    /// What became of a policy on the targets that its `targetSelector` selects.
    pub selected: Option<&'a Selection>,
    /// The database, whose defaults count.
    pub database: Option<&'a TimescaleDatabase>,
    /// How the jobs in the catalog do.
    pub jobs: Option<SeenJobs<'a>>,
    /// How the tables do; those that are missing have no statistics yet.
    pub tables: Option<&'a BTreeMap<Relation, TableHealth>>,
}

/// How jobs do.
#[derive(Clone, Copy, Debug)]
pub struct SeenJobs<'a> {
    /// By `job_id`.
    pub reports: &'a BTreeMap<i32, JobReport>,
    /// When they were seen.
    pub at: Timestamp,
    /// Time between two writes about a job whose health stays the same.
    pub every: Duration,
}

impl Observed<'_> {
    fn job_id(&self, kind: PolicyKind, relation: Option<&Relation>, previous: Option<i32>) -> Option<i32> {
        let (Some(catalog), Some(relation)) = (self.catalog, relation) else { return previous };
        job_id(catalog, kind, relation)
    }

    fn chunk_interval(&self, relation: Option<&Relation>, previous: Option<String>) -> Option<String> {
        let (Some(catalog), Some(relation)) = (self.catalog, relation) else { return previous };
        catalog.host(relation)?.chunk_interval().map(|span| span.to_string())
    }

    /// What the resource is to say of its job: the facts and the condition. What was not seen stays as it was.
    fn job(
        &self,
        kind: PolicyKind,
        relation: Option<&Relation>,
        generation: Option<i64>,
        (before, job): (&[Condition], Option<&JobStatus>),
    ) -> (Option<JobStatus>, Option<Condition>) {
        let (Some(catalog), Some(relation), Some(seen)) = (self.catalog, relation, self.jobs) else {
            return (job.cloned(), condition(before, ConditionType::JobHealthy).cloned());
        };
        let live = catalog.host(relation).and_then(|host| catalog.job(kind, host.id));
        let Some((live, report)) = live.and_then(|live| Some((live, seen.reports.get(&live.id)?))) else {
            return (None, None);
        };
        let (status, is_news) = job_status(before, job, live, report, seen);
        let condition = job_condition(before, &report.health, generation, seen.at, is_news);
        (Some(status), Some(condition))
    }

    /// The condition of a policy that selects its targets, about all their jobs.
    fn selected_jobs(&self, generation: Option<i64>, before: &[Condition]) -> Option<Condition> {
        match (self.selected, self.jobs) {
            (Some(selection), Some(seen)) => {
                let health = selected_job(&selection.outcomes)?;
                Some(job_condition(before, &health, generation, seen.at, true))
            }
            _ => condition(before, ConditionType::JobHealthy).cloned(),
        }
    }

    fn health(&self, relation: Option<&Relation>, previous: Option<HealthStatus>) -> Option<HealthStatus> {
        let (Some(tables), Some(relation)) = (self.tables, relation) else { return previous };
        tables.get(relation).map(HealthStatus::from)
    }

    fn target_relation(&self) -> Option<Relation> {
        let target = self.target?;
        relation(&target.schema, &target.table)
    }
}

/// What a status says of a job, and whether that is news. While the health is the same nothing is, until the time between two
/// writes has passed.
fn job_status(
    before: &[Condition],
    previous: Option<&JobStatus>,
    job: &Job,
    report: &JobReport,
    seen: SeenJobs<'_>,
) -> (JobStatus, bool) {
    let whole_seconds = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
    let last_error = report.last_error.as_ref().map(|error| JobErrorStatus {
        time: whole_seconds(error.at),
        code: error.code.clone(),
        message: error.message.clone(),
    });
    let now = JobStatus {
        id: job.id,
        last_success: job.statistics.last_success.map(whole_seconds),
        next_run: job.statistics.next_start.filter(|_| job.scheduled).map(whole_seconds),
        last_error,
        consecutive_failures: job.statistics.consecutive_failures,
        observed_at: whole_seconds(seen.at),
    };
    let Some(previous) = previous.filter(|previous| previous.id == now.id) else { return (now, true) };
    if *previous == (JobStatus { observed_at: previous.observed_at.clone(), ..now.clone() }) {
        return (previous.clone(), true);
    }
    let healthy = (health_text(&report.health), report.health.reason.as_str());
    let same_health =
        condition(before, ConditionType::JobHealthy).is_some_and(|c| (c.status.as_str(), c.reason.as_str()) == healthy);
    let is_recent =
        Duration::try_from(seen.at.duration_since(previous.observed_at.0)).is_ok_and(|age| age < seen.every);
    if same_health && is_recent { (previous.clone(), false) } else { (now, true) }
}

/// What is `JobHealthy`. Its message stays as it is while there is no news and the rest of it is the same.
fn job_condition(
    before: &[Condition],
    health: &JobHealth,
    generation: Option<i64>,
    now: Timestamp,
    is_news: bool,
) -> Condition {
    let (status, reason) = (health_text(health), health.reason.as_str());
    let before = condition(before, ConditionType::JobHealthy);
    let same_status = before.filter(|c| c.status == status);
    let message = same_status.filter(|c| !is_news && c.reason == reason).map(|c| c.message.clone());
    Condition {
        type_: ConditionType::JobHealthy.as_str().to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.unwrap_or_else(|| shorten(&health.message)),
        observed_generation: generation,
        last_transition_time: same_status.map_or(Time(now), |c| c.last_transition_time.clone()),
    }
}

fn health_text(health: &JobHealth) -> &'static str {
    match health.healthy {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    }
}

/// The job of this kind on the relation.
pub fn job_id(catalog: &Catalog, kind: PolicyKind, relation: &Relation) -> Option<i32> {
    catalog.job(kind, catalog.host(relation)?.id).map(|job| job.id)
}

fn relation(schema: &str, name: &str) -> Option<Relation> {
    Some(Relation { schema: schema.parse().ok()?, name: name.parse().ok()? })
}

/// A kind whose status this operator writes.
pub trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind.
    const KIND: Kind;
    /// Its status.
    type Status: PartialEq + Serialize + Send + Sync;

    /// The status as stored.
    fn current(&self) -> Option<&Self::Status>;
    /// The conditions of a status, and the generation it is about.
    fn parts(status: &Self::Status) -> (&[Condition], Option<i64>);
    /// The status that says this.
    fn status(&self, conditions: Vec<Condition>, plan: Option<PendingPlan>, observed: &Observed<'_>) -> Self::Status;
    /// Whether its deletion undoes something in the database.
    fn needs_release(&self) -> bool;
}

impl Reported for Hypertable {
    const KIND: Kind = Kind::Hypertable;
    type Status = HypertableStatus;

    fn current(&self) -> Option<&HypertableStatus> {
        self.status.as_ref()
    }

    fn parts(status: &HypertableStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn status(
        &self,
        mut conditions: Vec<Condition>,
        plan: Option<PendingPlan>,
        observed: &Observed<'_>,
    ) -> HypertableStatus {
        let table = relation(&self.spec.schema, &self.spec.table);
        let previous = self.status.clone().unwrap_or_default();
        let before = (&previous.conditions[..], previous.job.as_ref());
        let (job, healthy) = observed.job(PolicyKind::Reorder, table.as_ref(), self.metadata.generation, before);
        conditions.extend(healthy);
        let base = HypertableStatus {
            observed_generation: self.metadata.generation,
            conditions,
            plan,
            chunk_interval: observed.chunk_interval(table.as_ref(), previous.chunk_interval.clone()),
            reorder_job_id: observed.job_id(PolicyKind::Reorder, table.as_ref(), previous.reorder_job_id),
            job,
            health: observed.health(table.as_ref(), previous.health.clone()),
            ..HypertableStatus::default()
        };
        let Some(statistics) = observed.statistics else {
            let HypertableStatus { chunks, size, compressed, compression_ratio, .. } = previous;
            return HypertableStatus { chunks, size, compressed, compression_ratio, ..base };
        };
        let found = table.and_then(|relation| statistics.tables.get(&relation));
        let Some(TableStatistics {
            chunks,
            compressed_chunks,
            bytes,
            before_compression_bytes,
            after_compression_bytes,
            ..
        }) = found
        else {
            return base;
        };
        HypertableStatus {
            chunks: Some(*chunks),
            size: Some(bytes_text(*bytes)),
            compressed: (*chunks > 0).then(|| format!("{}%", compressed_chunks * 100 / chunks)),
            compression_ratio: ratio_text(*before_compression_bytes, *after_compression_bytes),
            ..base
        }
    }

    fn needs_release(&self) -> bool {
        false
    }
}

fn ratio_text(before: i64, after: i64) -> Option<String> {
    #[allow(clippy::cast_precision_loss, reason = "one decimal is printed")]
    (after > 0).then(|| format!("{:.1}", before as f64 / after as f64))
}

impl Reported for ContinuousAggregate {
    const KIND: Kind = Kind::ContinuousAggregate;
    type Status = ContinuousAggregateStatus;

    fn current(&self) -> Option<&ContinuousAggregateStatus> {
        self.status.as_ref()
    }

    fn parts(status: &ContinuousAggregateStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn status(
        &self,
        mut conditions: Vec<Condition>,
        plan: Option<PendingPlan>,
        observed: &Observed<'_>,
    ) -> ContinuousAggregateStatus {
        let view = relation(&self.spec.schema, &self.spec.name);
        let previous = self.status.as_ref();
        let before = (previous.map_or(&[][..], |s| &s.conditions), previous.and_then(|s| s.job.as_ref()));
        let (job, healthy) = observed.job(PolicyKind::Refresh, view.as_ref(), self.metadata.generation, before);
        conditions.extend(healthy);
        let job_id = observed.job_id(PolicyKind::Refresh, view.as_ref(), previous.and_then(|s| s.job_id));
        let chunk_interval = observed.chunk_interval(view.as_ref(), previous.and_then(|s| s.chunk_interval.clone()));
        ContinuousAggregateStatus {
            observed_generation: self.metadata.generation,
            conditions,
            plan,
            chunk_interval,
            job_id,
            job,
            health: observed.health(view.as_ref(), previous.and_then(|s| s.health.clone())),
        }
    }

    fn needs_release(&self) -> bool {
        aggregate_needs_release(self.spec.deletion_policy)
    }
}

macro_rules! reported_policy {
    ($resource:ident, $status:ident, $kind:ident, $after:ident, $effective:ident) => {
        impl Reported for $resource {
            const KIND: Kind = Kind::$resource;
            type Status = $status;

            fn current(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn parts(status: &$status) -> (&[Condition], Option<i64>) {
                (&status.conditions, status.observed_generation)
            }

            fn status(
                &self,
                mut conditions: Vec<Condition>,
                plan: Option<PendingPlan>,
                observed: &Observed<'_>,
            ) -> $status {
                let previous = self.status.as_ref();
                let generation = self.metadata.generation;
                let before = previous.map_or(&[][..], |s| &s.conditions);
                let mut job = None;
                if self.spec.target_ref.is_none() {
                    conditions.extend(observed.selected_jobs(generation, before));
                } else {
                    let (relation, before) =
                        (observed.target_relation(), (before, previous.and_then(|s| s.job.as_ref())));
                    let (seen, healthy) = observed.job(PolicyKind::$kind, relation.as_ref(), generation, before);
                    conditions.extend(healthy);
                    job = seen;
                }
                let job_id = observed.job_id(
                    PolicyKind::$kind,
                    observed.target_relation().as_ref(),
                    previous.and_then(|s| s.job_id),
                );
                let base = $status { observed_generation: generation, conditions, plan, ..$status::default() };
                if self.spec.target_ref.is_none() {
                    let Some(selection) = observed.selected else {
                        let previous = previous.cloned().unwrap_or_default();
                        let $status { matched, matched_in_sync, targets, $after, .. } = previous;
                        return $status { matched, matched_in_sync, targets, $after, ..base };
                    };
                    let outcomes = &selection.outcomes;
                    let current = |outcome: &&Outcome| outcome.is_current();
                    return $status {
                        matched: i64::try_from(outcomes.len()).ok(),
                        matched_in_sync: i64::try_from(outcomes.iter().filter(current).count()).ok(),
                        targets: listed(selection),
                        $after: common_age(outcomes),
                        ..base
                    };
                }
                let target = observed.target.cloned().or_else(|| previous.and_then(|s| s.target.clone()));
                let $after = match observed.database {
                    Some(database) => $effective(self, database),
                    None => previous.and_then(|s| s.$after.clone()),
                };
                $status { target, $after, job_id, job, ..base }
            }

            fn needs_release(&self) -> bool {
                policy_needs_release(self.spec.deletion_policy)
            }
        }
    };
}

reported_policy!(CompressionPolicy, CompressionPolicyStatus, Compression, compress_after, effective_compress_after);
reported_policy!(RetentionPolicy, RetentionPolicyStatus, Retention, drop_after, effective_drop_after);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn types(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = conditions(&[], &Summary::new(Reason::LockTimeout, "a"), Some(1), at(1));
        let second = conditions(&first, &Summary::new(Reason::Retrying, "b"), Some(2), at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = conditions(&second, &Summary::new(Reason::InSync, "c"), Some(2), at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn reconciling_and_stalled_are_there_only_while_they_are_true() {
        let of = |reason| conditions(&[], &Summary::new(reason, ""), None, at(0));
        assert_eq!(types(&of(Reason::InSync)), [("Ready", "True")]);
        assert_eq!(types(&of(Reason::InProgress)), [("Ready", "False"), ("Reconciling", "True")]);
        assert_eq!(types(&of(Reason::InvalidSpec)), [("Ready", "False"), ("Stalled", "True")]);
        assert_eq!(types(&of(Reason::DriftObserved)), [("Ready", "False"), ("Stalled", "True"), ("Drifted", "True")]);
    }

    fn report(healthy: Option<bool>, reason: Reason, message: &str) -> JobReport {
        JobReport { health: JobHealth { healthy, reason, message: message.to_owned() }, last_error: None }
    }

    fn live(last_success: i64, next_start: i64) -> Job {
        let job = serde_json::json!({
            "id": 1000, "hypertable_id": 1, "policy": {"reorder": {"index": null}}, "schedule_interval": "1 minute",
            "max_runtime": "0 seconds", "max_retries": -1, "retry_period": "5 minutes",
            "statistics": {"last_success": at(last_success), "next_start": at(next_start), "runs": 1},
        });
        serde_json::from_value(job).unwrap()
    }

    /// What the status says of a job after this pass, and the condition.
    fn pass(
        before: &[Condition],
        job: Option<&JobStatus>,
        live: &Job,
        report: &JobReport,
        now: i64,
    ) -> (JobStatus, Condition) {
        let reports = BTreeMap::new();
        let seen = SeenJobs { reports: &reports, at: at(now), every: Duration::from_mins(5) };
        let (status, is_news) = job_status(before, job, live, report, seen);
        (status, job_condition(before, &report.health, Some(1), at(now), is_news))
    }

    #[test]
    fn a_job_that_runs_every_minute_is_written_once_in_a_statistics_interval() {
        let fine = report(Some(true), Reason::JobSucceeded, "fine");
        let (mut status, condition) = pass(&[], None, &live(0, 60), &fine, 0);
        let mut before = vec![condition];
        let mut writes = 0;
        for minute in 1..=20 {
            let (now, condition) =
                pass(&before, Some(&status), &live(minute * 60, minute * 60 + 60), &fine, minute * 60);
            writes += i32::from(now != status || before != [condition.clone()]);
            (status, before) = (now, vec![condition]);
        }
        assert_eq!(writes, 4);
        assert_eq!(status.last_success, Some(Time(at(1200))));
    }

    #[test]
    fn a_job_whose_health_changes_is_written_at_once() {
        let fine = report(Some(true), Reason::JobSucceeded, "fine");
        let (first, condition) = pass(&[], None, &live(0, 60), &fine, 0);
        let failing = report(Some(false), Reason::JobFailing, "no");
        let (second, now) = pass(&[condition], Some(&first), &live(0, 120), &failing, 60);
        assert_eq!(second.next_run, Some(Time(at(120))));
        assert_eq!(
            (&now.status[..], &now.reason[..], now.last_transition_time.clone()),
            ("False", "JobFailing", Time(at(60)))
        );
        // Another error of the same kind waits; its time of transition does not move.
        let other = report(Some(false), Reason::JobFailing, "not either");
        let (third, still) = pass(std::slice::from_ref(&now), Some(&second), &live(0, 180), &other, 90);
        assert_eq!((third, still), (second.clone(), now.clone()));
        let (fourth, news) = pass(std::slice::from_ref(&now), Some(&second), &live(0, 180), &other, 360);
        assert_eq!((fourth.next_run, &news.message[..]), (Some(Time(at(180))), "not either"));
        assert_eq!(news.last_transition_time, Time(at(60)));
    }

    #[test]
    fn another_job_is_written_at_once_and_fractions_of_seconds_are_not_kept() {
        let fine = report(Some(true), Reason::JobSucceeded, "fine");
        let (first, condition) = pass(&[], None, &live(0, 60), &fine, 0);
        let mut other = Job { id: 1001, ..live(0, 60) };
        other.statistics.last_success = Some("2026-01-01T00:00:00.75Z".parse().unwrap());
        let (second, _) = pass(&[condition], Some(&first), &other, &fine, 1);
        assert_eq!(second.id, 1001);
        assert_eq!(second.last_success, Some(Time("2026-01-01T00:00:00Z".parse().unwrap())));
    }

    #[test]
    fn a_policy_that_selects_says_what_is_worst_of_its_jobs() {
        let outcome = |name: &str, job| Outcome {
            target: SelectedTarget {
                kind: crate::api::types::TargetKind::Hypertable,
                name: name.to_owned(),
                object: TargetStatus {
                    database: String::new(),
                    database_namespace: None,
                    schema: String::new(),
                    table: String::new(),
                },
                reason: String::new(),
                message: None,
                after: None,
                job_id: None,
            },
            summary: None,
            job,
        };
        let health = |healthy, reason: Reason| Some(report(healthy, reason, reason.as_str()).health);
        assert_eq!(selected_job(&[outcome("a", None)]), None);
        let new = outcome("a", health(None, Reason::JobNotStarted));
        let said = selected_job(std::slice::from_ref(&new)).unwrap();
        assert_eq!((said.healthy, said.reason), (None, Reason::JobNotStarted));
        let ran = outcome("b", health(Some(true), Reason::JobSucceeded));
        let said = selected_job(&[new.clone(), ran.clone()]).unwrap();
        assert_eq!((said.healthy, said.reason), (Some(true), Reason::JobSucceeded));
        let mut all = vec![new, ran];
        all.extend((0..7).map(|n| outcome(&format!("f{n}"), health(Some(false), Reason::JobFailing))));
        all.push(outcome("stopped", health(Some(false), Reason::JobFailed)));
        let said = selected_job(&all).unwrap();
        assert_eq!((said.healthy, said.reason), (Some(false), Reason::JobFailed));
        assert!(said.message.starts_with("8 of 10 jobs need attention: Hypertable/stopped: JobFailed; Hypertable/f0:"));
        assert!(said.message.ends_with("; and 3 more"), "{}", said.message);
    }

    #[test]
    fn every_reason_is_a_valid_condition_reason() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(
                text.chars().all(|c| c.is_ascii_alphanumeric()) && text.starts_with(|c: char| c.is_ascii_uppercase()),
                "{text}"
            );
            assert!(!reason.description().is_empty());
        }
    }
}
