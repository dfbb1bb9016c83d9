//! The diff of a policy's job, the same for every kind of policy.

use crate::{
    api::{
        status::Reason,
        types::{Relation, Span},
    },
    catalog::{Age, Catalog, Dimension, Hypertable, IntegerType, Job, Policy, PolicyKind},
    desired::{Claim, ClaimId, JobTarget},
};

use super::{
    Draft, Planner, Step,
    interlocks::{self, InForce},
    step,
    step::{Action, JobChanges, NewJob, NewPolicy},
};

impl Planner<'_> {
    /// Adds the step that makes the job of this policy as wanted, if one is needed.
    pub(super) fn job(
        &self,
        claim: &Claim,
        relation: &Relation,
        host: &Hypertable,
        wanted: &JobTarget,
        draft: &mut Draft,
    ) {
        let kind = wanted.policy.kind();
        let after = self.after(relation);
        let Some(live) = self.catalog.job(kind, host.id) else {
            draft.steps.push(Step { after, ..added(claim, relation, wanted, host.time()) });
            return;
        };
        if live.gave_up && !wanted.paused {
            let message = format!(
                "TimescaleDB stopped scheduling job {} after its retries; see timescaledb_information.job_errors, mend the cause, then run SELECT alter_job({}, scheduled => true)",
                live.id, live.id
            );
            draft.block(Reason::JobFailed, message);
        }
        let (changes, mut texts) = job_changes(live, wanted);
        if let Some(why) = must_be_replaced(live, host, wanted) {
            let others = self.catalog.jobs.of(host.id).filter(|job| job.policy.kind() == kind);
            if others.count() > 1 {
                let message = format!(
                    "job {} must be replaced ({why}), and TimescaleDB removes all of the several refresh policies of {relation} with it; remove those that are not needed with SELECT delete_job(job_id), until one is left",
                    live.id
                );
                return draft.block(Reason::InvalidSpec, message);
            }
            texts.push(why);
            let new = NewPolicy {
                policy: wanted.policy.over(&live.policy),
                job: replacing_job(live, wanted),
                integers: integers(host.time()),
            };
            let action = Action::ReplacePolicy { relation: relation.clone(), new };
            let change = format!("{kind} of {relation} (job {}): replaced, {}", live.id, texts.join(", "));
            draft.steps.push(Step { after, ..step(claim, action, change) });
            return;
        }
        if changes.is_empty() {
            return;
        }
        let change = format!("{kind} of {relation} (job {}): {}", live.id, texts.join(", "));
        let action = Action::AlterPolicy {
            relation: relation.clone(),
            job_id: live.id,
            hypertable_id: live.hypertable_id,
            kind,
            changes,
        };
        draft.steps.push(Step { after, ..step(claim, action, change) });
    }

    /// The live retention job that drops chunks now: none while it is paused.
    pub(super) fn retention_in_force(&self, host: i32) -> Option<InForce> {
        retention_in_force(&self.catalog, host)
    }

    /// The age from which chunks have been dropped so far: none where the job that should do so fails, or does it elsewhere.
    pub(super) fn dropped_so_far(&self, host: &Hypertable) -> Option<Age> {
        let job = self.catalog.job(PolicyKind::Retention, host.id)?;
        let age = self.retention_in_force(host.id).and_then(InForce::age)?;
        does_not_work(job, host).is_none().then_some(age)
    }

    /// The steps of this plan that must have ended the retention on this hypertable before it may be refreshed from this
    /// start.
    pub(super) fn after_retention(&self, host: i32, start_offset: Option<Span>) -> Vec<ClaimId> {
        let catalog = self.inputs.catalog;
        let chunk = catalog.name_of(host).and_then(|name| catalog.host(name)).and_then(Hypertable::chunk_interval);
        let observed = retention_in_force(catalog, host);
        if observed.is_none_or(|found| interlocks::unsafe_refresh("", found, chunk, start_offset).is_none()) {
            return Vec::new();
        }
        let on_host = |relation: &Relation| self.catalog.host(relation).is_some_and(|h| h.id == host);
        let ends = |action: &Action| matches!(action, Action::RemovePolicy { relation, kind: PolicyKind::Retention } if on_host(relation));
        self.after_room(ends).collect()
    }
}

/// The same, of any catalog.
pub(super) fn retention_in_force(catalog: &Catalog, host: i32) -> Option<InForce> {
    match catalog.job(PolicyKind::Retention, host)? {
        Job { scheduled: true, policy: Policy::Retention { after }, id, .. } => {
            Some(after.map_or(InForce::Unreadable(*id), InForce::From))
        }
        _ => None,
    }
}

/// The step that adds a policy.
pub(super) fn added(claim: &Claim, relation: &Relation, wanted: &JobTarget, time: Option<&Dimension>) -> Step {
    let (kind, policy) = (wanted.policy.kind(), wanted.policy.clone());
    let change = format!("{kind} of {relation}: added, {policy}");
    let new = NewPolicy { policy, job: new_job(wanted), integers: integers(time) };
    step(claim, Action::AddPolicy { relation: relation.clone(), new }, change)
}

pub(super) fn integers(time: Option<&Dimension>) -> IntegerType {
    time.map_or(IntegerType::Bigint, Dimension::integer_type)
}

/// Why the job does not do what it is listed for.
fn does_not_work(live: &Job, host: &Hypertable) -> Option<String> {
    if let Some(other) = live.config_hypertable_id.filter(|id| *id != live.hypertable_id) {
        return Some(format!("its config names hypertable {other} instead of {}", live.hypertable_id));
    }
    // Before 2.25.2 a job stays with the role that the table was taken from, and then fails (timescaledb#9290).
    if let (Some(runs_as), Some(owner)) = (&live.owner, &host.owner)
        && runs_as != owner
    {
        return Some(format!("it runs as {runs_as}, the owner is {owner}"));
    }
    None
}

/// Why the job cannot be altered in place.
fn must_be_replaced(live: &Job, host: &Hypertable, wanted: &JobTarget) -> Option<String> {
    if let Some(why) = does_not_work(live, host) {
        return Some(why);
    }
    // alter_job cannot change how the age is measured before 2.26.3 (timescaledb#9446).
    let measure = |policy: &Policy| match policy {
        Policy::Compression { after } | Policy::Retention { after } => {
            after.map(|age| matches!(age, Age::CreatedBefore(_)))
        }
        Policy::Refresh { .. } | Policy::Reorder { .. } => Some(false),
    };
    (measure(&live.policy) != measure(&wanted.policy)).then(|| "another measure of age".to_owned())
}

/// The job that takes the place of a live one: as wanted, and where nothing is wanted as the live one is.
pub(super) fn replacing_job(live: &Job, wanted: &JobTarget) -> NewJob {
    let kept = kept_job(live);
    let new = new_job(wanted);
    NewJob {
        schedule_interval: new.schedule_interval.or(kept.schedule_interval),
        initial_start: new.initial_start.or(kept.initial_start),
        timezone: new.timezone.or(kept.timezone),
        rest: JobChanges {
            max_runtime: new.rest.max_runtime.or(kept.rest.max_runtime),
            max_retries: new.rest.max_retries.or(kept.rest.max_retries),
            retry_period: new.rest.retry_period.or(kept.rest.retry_period),
            scheduled: new.rest.scheduled.or(live.gave_up.then_some(false)),
            ..JobChanges::default()
        },
    }
}

/// A job like a live one.
pub(super) fn kept_job(live: &Job) -> NewJob {
    NewJob {
        schedule_interval: Some(live.schedule_interval),
        initial_start: live.initial_start.filter(|_| live.fixed_schedule),
        timezone: live.timezone.clone().filter(|_| live.fixed_schedule),
        rest: JobChanges {
            max_runtime: Some(live.max_runtime),
            max_retries: Some(live.max_retries),
            retry_period: Some(live.retry_period),
            scheduled: (!live.scheduled).then_some(false),
            ..JobChanges::default()
        },
    }
}

pub(super) fn new_job(wanted: &JobTarget) -> NewJob {
    let JobTarget {
        policy: _,
        schedule_interval,
        initial_start,
        timezone,
        max_runtime,
        max_retries,
        retry_period,
        paused,
    } = wanted;
    NewJob {
        schedule_interval: *schedule_interval,
        initial_start: *initial_start,
        timezone: timezone.clone(),
        rest: JobChanges {
            max_runtime: *max_runtime,
            max_retries: *max_retries,
            retry_period: *retry_period,
            scheduled: paused.then_some(false),
            ..JobChanges::default()
        },
    }
}

/// What must change in the live job, and the values found and wanted. Intervals are compared as PostgreSQL compares them.
fn job_changes(live: &Job, wanted: &JobTarget) -> (JobChanges, Vec<String>) {
    let JobTarget {
        policy,
        schedule_interval,
        initial_start,
        timezone,
        max_runtime,
        max_retries,
        retry_period,
        paused,
    } = wanted;
    let mut changes = JobChanges::default();
    let mut texts = Vec::new();
    let policy = policy.over(&live.policy);
    if live.policy != policy || !live.unreadable.is_empty() {
        texts.push(format!("{} -> {policy}", live.policy));
        changes.policy = Some(policy);
    }
    changes.schedule_interval =
        differs("schedule interval", &live.schedule_interval, schedule_interval.as_ref(), &mut texts);
    changes.max_runtime = differs("max runtime", &live.max_runtime, max_runtime.as_ref(), &mut texts);
    changes.max_retries = differs("max retries", &live.max_retries, max_retries.as_ref(), &mut texts);
    changes.retry_period = differs("retry period", &live.retry_period, retry_period.as_ref(), &mut texts);
    if let Some(start) = initial_start
        && !(live.fixed_schedule && live.initial_start == Some(*start))
    {
        let found = live.initial_start.filter(|_| live.fixed_schedule);
        texts.push(format!("initial start {} -> {start}", found.map_or_else(|| "none".to_owned(), |t| t.to_string())));
        changes.initial_start = Some(*start);
    }
    if let Some(zone) = timezone
        && live.timezone.as_ref() != Some(zone)
    {
        texts.push(format!("timezone {} -> {zone}", live.timezone.as_deref().unwrap_or("none")));
        changes.timezone = Some(zone.clone());
    }
    // A job that TimescaleDB gave up on is shown, not fought over.
    if live.scheduled == *paused && (*paused || !live.gave_up) {
        texts.push(if *paused { "running -> paused" } else { "paused -> running" }.to_owned());
        changes.scheduled = Some(!paused);
    }
    (changes, texts)
}

fn differs<T: PartialEq + Copy + std::fmt::Display>(
    what: &str,
    found: &T,
    wanted: Option<&T>,
    texts: &mut Vec<String>,
) -> Option<T> {
    let wanted = *wanted.filter(|wanted| *wanted != found)?;
    texts.push(format!("{what} {found} -> {wanted}"));
    Some(wanted)
}
