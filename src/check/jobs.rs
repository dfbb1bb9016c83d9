//! Jobs that fail, are paused, or are not started.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Facts, Finding, Fix, Object, ObjectKind, Rule};
use crate::{
    api::{
        status::Reason,
        types::{Interval, Relation},
    },
    catalog::{
        Extension, Job, Policy, PolicyKind,
        statistics::{JobStatistics, OtherJob},
    },
    monitoring::{
        job_health::{JobHealth, Scheduler, judge},
        snapshot::JobReport,
    },
    sql,
};

/// How every job does.
pub(super) struct Jobs {
    reports: BTreeMap<i32, JobReport>,
    /// Jobs that are no policies, as far as they can be judged as one.
    others: Vec<(Job, String)>,
}

impl Jobs {
    pub(super) fn judge(facts: &Facts<'_>) -> Self {
        let others = facts.statistics.map_or(&[][..], |statistics| &statistics.other_jobs);
        let others: Vec<_> = others.iter().map(|other| (as_job(other), other.procedure.clone())).collect();
        let scheduler = facts.statistics.map(|s| Scheduler::from(&s.database)).unwrap_or_default();
        let now = facts.inspection.server.now;
        let all: Vec<&Job> = facts.catalog.jobs.iter().chain(others.iter().map(|(job, _)| job)).collect();
        let report = |job: &&Job| {
            let error = facts.errors.get(&job.id);
            let health = judge(job, error, scheduler, known_since(job.id, &all, now), now);
            (job.id, JobReport { health, last_error: error.cloned() })
        };
        Self { reports: all.iter().map(report).collect(), others }
    }

    /// How the job does.
    pub(super) fn of(&self, id: i32) -> Option<&JobReport> {
        self.reports.get(&id)
    }

    /// The jobs of a kind on a hypertable, or the one behind an aggregate, that have yet to run for the first time, and
    /// not because they are late.
    pub(super) fn still_to_come(&self, facts: &Facts<'_>, host: i32, kind: PolicyKind) -> bool {
        let jobs = facts.catalog.jobs.iter().filter(|job| job.hypertable_id == host && job.policy.kind() == kind);
        let waits = |job: &Job| self.of(job.id).is_some_and(|r| job.scheduled && r.health.healthy.is_none());
        jobs.into_iter().any(waits)
    }

    pub(super) fn check(&self, facts: &Facts<'_>) -> Vec<Finding> {
        let stopped = facts.statistics.is_some_and(|s| s.database.scheduler == Some(false));
        let extension = facts.catalog.server.extension.as_ref();
        let policies = facts.catalog.jobs.iter().map(|job| {
            let relation = facts.catalog.name_of(job.hypertable_id);
            (job, job.policy.kind().to_string(), relation, true)
        });
        let others = self.others.iter().map(|(job, procedure)| (job, procedure.clone(), None, false));
        let found = policies.chain(others).filter_map(|(job, what, relation, is_policy)| {
            let health = &self.of(job.id)?.health;
            let rule = rule(health)?;
            // Why none of them is started is told once.
            if stopped && rule == Rule::JobNotStarted {
                return None;
            }
            // What stands with the job is known of policies only: alter_job would erase its time zone.
            let fix = fix(rule, job, extension.filter(|_| is_policy));
            let object = relation.map_or_else(
                || Object::named(ObjectKind::Job, job.id.to_string()),
                |relation: &Relation| Object::part_of(ObjectKind::Job, relation, job.id.to_string()),
            );
            let JobStatistics { runs, failures, crashes, consecutive_failures, last_finish, next_start, .. } =
                &job.statistics;
            let finding = Finding::new(rule, object, format!("{what}: {}", health.message), fix)
                .with("runs", *runs)
                .with("failures", *failures)
                .with("crashes", *crashes)
                .with("consecutiveFailures", *consecutive_failures);
            let at = |time: &Option<Timestamp>| time.map(|time| time.to_string());
            Some(finding.with("lastFinish", at(last_finish)).with("nextStart", at(next_start)))
        });
        found.collect()
    }
}

/// What a word of a job's health means here.
fn rule(health: &JobHealth) -> Option<Rule> {
    match health.reason {
        Reason::JobFailed => Some(Rule::JobGaveUp),
        Reason::JobOverdue | Reason::JobNeverStarted => Some(Rule::JobNotStarted),
        Reason::JobFailing | Reason::JobCrashed => Some(Rule::JobFailing),
        Reason::JobPaused => Some(Rule::JobPaused),
        _ => None,
    }
}

fn fix(rule: Rule, job: &Job, extension: Option<&Extension>) -> Fix {
    let alter = |change: &str| {
        let schema = sql::quote_ident(&extension?.schema);
        // A call without the time zone erases it.
        let zone = job.timezone.as_ref().map(|zone| format!(", timezone => {}", sql::quote_literal(zone)));
        Some(format!("SELECT {schema}.alter_job({}, {change}{})", job.id, zone.unwrap_or_default()))
    };
    let (text, change) = match rule {
        Rule::JobGaveUp => ("Mend what it fails with, then schedule it again.", Some("scheduled => true")),
        Rule::JobPaused => (
            "Set spec.paused: false, or schedule it again; where it is meant so, skip the rule.",
            Some("scheduled => true"),
        ),
        Rule::JobNotStarted => (
            "Make the scheduler look again; the operator does that by itself for the policies of its resources.",
            Some("next_start => now()"),
        ),
        _ => ("Mend what it fails with; timescaledb_information.job_errors has every error.", None),
    };
    Fix { sql: change.and_then(alter), ..Fix::words(text) }
}

/// Since when a job is certain to be there. Ids are given in the order of creation, so one is older than the first run of
/// whichever came after it.
fn known_since(id: i32, jobs: &[&Job], now: Timestamp) -> Timestamp {
    let later = jobs.iter().filter(|other| other.id > id);
    later.filter_map(|other| other.statistics.last_start).min().map_or(now, |start| start.min(now))
}

/// A job of another kind, as far as its health depends on it. How often it is retried is not known: one that is off the
/// schedule after failures was given up.
fn as_job(other: &OtherJob) -> Job {
    let OtherJob { id, procedure: _, schedule_interval, scheduled, statistics } = other;
    Job {
        id: *id,
        hypertable_id: 0,
        policy: Policy::Reorder { index: None },
        owner: None,
        config_hypertable_id: None,
        unreadable: Vec::new(),
        schedule_interval: *schedule_interval,
        max_runtime: Interval::from_seconds(0),
        max_retries: -1,
        retry_period: *schedule_interval,
        scheduled: *scheduled,
        gave_up: !scheduled && statistics.consecutive_failures > 0,
        fixed_schedule: false,
        initial_start: None,
        timezone: None,
        statistics: statistics.clone(),
    }
}
