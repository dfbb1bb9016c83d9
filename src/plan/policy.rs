//! The diff of a policy's job, the same for every kind of policy.

use crate::{
    api::{
        status::Reason,
        types::{Interval, Relation},
    },
    catalog::{Catalog, Job, Policy, PolicyKind},
    desired::{Claim, JobTarget, ResourceId},
};

use super::{
    Draft, Planner, step,
    step::{Action, JobChanges, NewJob},
};

impl Planner<'_> {
    /// Adds the step that makes the job of this policy as wanted, if one is needed.
    pub(super) fn job(&self, claim: &Claim, relation: &Relation, host: i32, wanted: &JobTarget, draft: &mut Draft) {
        let kind = wanted.policy.kind();
        let after = self.after(relation);
        let Some(live) = self.catalog.job(kind, host) else {
            let action =
                Action::AddPolicy { relation: relation.clone(), policy: wanted.policy.clone(), job: new_job(wanted) };
            let change = format!("{kind} of {relation}: added, {}", wanted.policy);
            draft.steps.push(super::Step { after, ..step(claim, action, change) });
            return;
        };
        if live.gave_up && !wanted.paused {
            let message = format!(
                "TimescaleDB stopped scheduling job {} after its retries; see timescaledb_information.job_errors, mend the cause, then run SELECT alter_job({}, scheduled => true)",
                live.id, live.id
            );
            draft.block(Reason::JobFailed, message);
        }
        let (changes, texts) = job_changes(live, wanted);
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
        draft.steps.push(super::Step { after, ..step(claim, action, change) });
    }

    /// The age from which a live retention job drops chunks now: none while it is paused.
    pub(super) fn retention_in_force(&self, host: i32) -> Option<Interval> {
        retention_in_force(&self.catalog, host)
    }

    /// The steps of this plan that must have ended the retention on this hypertable before it may be refreshed from this
    /// start.
    pub(super) fn after_retention(&self, host: i32, start_offset: Option<Interval>) -> Vec<ResourceId> {
        let observed = retention_in_force(self.inputs.catalog, host);
        if observed.is_none_or(|found| start_offset.is_some_and(|start| start < found)) {
            return Vec::new();
        }
        let ends = |action: &Action| matches!(action, Action::RemovePolicy { relation, kind: PolicyKind::Retention } if self.policy_host(relation) == Some(host));
        self.after_room(ends).collect()
    }
}

fn retention_in_force(catalog: &Catalog, host: i32) -> Option<Interval> {
    match catalog.job(PolicyKind::Retention, host) {
        Some(Job { scheduled: true, policy: Policy::Retention { drop_after }, .. }) => *drop_after,
        _ => None,
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
    if live.policy != *policy {
        texts.push(format!("{} -> {policy}", live.policy));
        changes.policy = Some(policy.clone());
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
