//! What the scheduler's facts about a job mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::snapshot::JobReport;
use crate::{
    api::{
        status::Reason,
        types::{Interval, Relation},
    },
    catalog::{
        Job,
        statistics::{DatabaseStatistics, JobError, JobStatistics},
    },
    desired::ClaimId,
    plan::step::{Action, JobChanges, Step},
};

/// A scheduler that works starts what is due within seconds. What it has not started after this long it has missed.
const GRACE: Duration = Duration::from_mins(2);
/// A job that was nudged is left alone for this long.
const NUDGE_PAUSE: Duration = Duration::from_hours(1);

/// How a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobHealth {
    /// `Some(true)`: nothing to do. `Some(false)`: somebody has to look at it. `None`: it has not run yet, and need not have.
    pub healthy: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// What was found, and what to do.
    pub message: String,
}

impl JobHealth {
    /// It does not run any more: it will not get better by itself.
    pub fn has_stopped(&self) -> bool {
        matches!(self.reason, Reason::JobFailed | Reason::JobOverdue | Reason::JobNeverStarted)
    }

    /// How bad it is, from best to worst.
    pub fn severity(&self) -> u8 {
        match self.healthy {
            Some(true) => 0,
            None => 1,
            Some(false) if self.has_stopped() => 3,
            Some(false) => 2,
        }
    }
}

/// What can be known about whoever starts the jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// A scheduler runs for the database; `None`: not known.
    pub runs: Option<bool>,
    /// The number of background workers (`timescaledb.max_background_workers`), where all are in use.
    pub exhausted: Option<i64>,
}

impl From<&DatabaseStatistics> for Scheduler {
    fn from(statistics: &DatabaseStatistics) -> Self {
        let DatabaseStatistics { scheduler, workers_limit, workers_running, .. } = statistics;
        let exhausted = workers_limit.filter(|limit| workers_running.is_some_and(|running| running >= *limit));
        Self { runs: *scheduler, exhausted }
    }
}

impl Scheduler {
    /// Why a job that is due is not started, and what to do.
    fn why(self) -> String {
        match self {
            Self { exhausted: Some(limit), .. } => format!(
                "all {limit} background workers of the server are in use; raise timescaledb.max_background_workers (one for each database and one for each job that runs) and restart it"
            ),
            Self { runs: Some(false), .. } => {
                "no TimescaleDB scheduler runs for this database; see the log of the server, and SELECT _timescaledb_functions.start_background_workers()".to_owned()
            }
            Self { .. } => "see the log of the server for \"out of background workers\"".to_owned(),
        }
    }
}

/// How a job does that the operator has known since `first_seen`. `error` is what its last failed run ended with, where
/// that is known.
///
/// While a job runs TimescaleDB has it as crashed, in case it crashes; so a run that is cut off shows only once the next
/// one has begun.
pub fn judge(
    job: &Job,
    error: Option<&JobError>,
    scheduler: Scheduler,
    first_seen: Timestamp,
    now: Timestamp,
) -> JobHealth {
    let Job { id, statistics, scheduled, gave_up, max_runtime, .. } = job;
    let health = |healthy, reason, message| JobHealth { healthy, reason, message };
    let bad = |reason, message| health(Some(false), reason, message);
    let what = || error.map_or_else(|| "an error that only the server's log has".to_owned(), error_text);
    if *gave_up {
        let message = format!(
            "TimescaleDB stopped scheduling job {id} after its retries; the last run ended with {}; mend the cause, then run SELECT alter_job({id}, scheduled => true)",
            what()
        );
        return bad(Reason::JobFailed, message);
    }
    if !scheduled {
        return health(None, Reason::JobPaused, format!("job {id} is not scheduled"));
    }
    if statistics.consecutive_failures > 0 {
        let message = format!(
            "the last run of job {id} ended with {}; TimescaleDB tries again, mend the cause meanwhile",
            what()
        );
        return bad(Reason::JobFailing, message);
    }
    if is_running(statistics) {
        let too_long = exceeds(statistics.last_start, *max_runtime, now);
        return match (statistics.consecutive_crashes > 1 || too_long, statistics.last_success) {
            (true, _) => {
                let message = format!(
                    "a run of job {id} was cut off: its worker crashed, or the server went down; see the log of the server"
                );
                bad(Reason::JobCrashed, message)
            }
            (false, Some(_)) => health(Some(true), Reason::JobSucceeded, succeeded(*id)),
            (false, None) => health(None, Reason::JobRunning, format!("the first run of job {id} is under way")),
        };
    }
    if statistics.runs == 0 {
        // Without a row of statistics there is no time at which it should have run.
        let due = statistics.next_start.or(job.initial_start.filter(|start| *start > first_seen)).unwrap_or(first_seen);
        return if is_past(due, now) {
            bad(Reason::JobNeverStarted, format!("job {id} has never run, though it is due: {}", scheduler.why()))
        } else {
            health(None, Reason::JobNotStarted, format!("job {id} has not run yet"))
        };
    }
    // One that has run and has no next start is stuck, for example after a failover (timescaledb#9360).
    let due = statistics.next_start.or(statistics.last_finish);
    if due.is_some_and(|due| is_past(due, now)) {
        return bad(Reason::JobOverdue, format!("job {id} is due and is not started: {}", scheduler.why()));
    }
    health(Some(true), Reason::JobSucceeded, succeeded(*id))
}

fn succeeded(id: i32) -> String {
    format!("the last run of job {id} ended well")
}

/// Its row says that a run has begun and not that it has ended.
fn is_running(statistics: &JobStatistics) -> bool {
    statistics.last_start.is_some() && statistics.last_finish.is_none()
}

/// Whether a run has gone on for longer than it may; TimescaleDB ends it then.
fn exceeds(started: Option<Timestamp>, max_runtime: Interval, now: Timestamp) -> bool {
    let allowed = || now.checked_sub(max_runtime.to_duration()).ok();
    max_runtime.is_positive() && started.zip(allowed()).is_some_and(|(started, allowed)| is_past(started, allowed))
}

fn is_past(due: Timestamp, now: Timestamp) -> bool {
    due.checked_add(GRACE).is_ok_and(|latest| latest < now)
}

fn error_text(JobError { code, message, .. }: &JobError) -> String {
    match code {
        Some(code) => format!("\"{message}\" (SQLSTATE {code})"),
        None => format!("\"{message}\""),
    }
}

/// What is kept of the jobs of a database from pass to pass.
#[derive(Clone, Debug, Default)]
pub struct Jobs(BTreeMap<i32, Known>);

#[derive(Clone, Debug)]
struct Known {
    first_seen: Timestamp,
    /// When the failed run ended whose error was asked for, and the answer.
    error: Option<(Timestamp, Option<JobError>)>,
    nudged: Option<Timestamp>,
}

impl Jobs {
    /// Takes note of the jobs that there are. Returns those of which the last run failed and the error is not known yet.
    pub fn see(&mut self, jobs: &[Job], now: Timestamp) -> BTreeSet<i32> {
        let mut before = std::mem::take(&mut self.0);
        let mut unknown = BTreeSet::new();
        for Job { id, statistics, .. } in jobs {
            let known = before.remove(id).unwrap_or(Known { first_seen: now, error: None, nudged: None });
            let known = self.0.entry(*id).or_insert(known);
            if statistics.consecutive_failures == 0 {
                known.error = None;
                continue;
            }
            // While it runs again the error of before is the last one.
            let is_new = |finish: &Timestamp| known.error.as_ref().is_none_or(|(of, _)| of != finish);
            if statistics.last_finish.as_ref().is_some_and(is_new) {
                unknown.insert(*id);
            }
        }
        unknown
    }

    /// Takes note of the errors of the jobs that were asked for; one that has none will not be asked for again until it
    /// fails again.
    pub fn learn(&mut self, asked: &BTreeSet<i32>, errors: &BTreeMap<i32, JobError>, jobs: &[Job]) {
        for job in jobs.iter().filter(|job| asked.contains(&job.id)) {
            if let (Some(known), Some(finish)) = (self.0.get_mut(&job.id), job.statistics.last_finish) {
                known.error = Some((finish, errors.get(&job.id).cloned()));
            }
        }
    }

    /// How the jobs do.
    pub fn reports(&self, jobs: &[Job], scheduler: Scheduler, now: Timestamp) -> BTreeMap<i32, JobReport> {
        let report = |job: &Job| {
            let known = self.0.get(&job.id);
            let error = known.and_then(|known| known.error.as_ref()).and_then(|(_, error)| error.as_ref());
            let first_seen = known.map_or(now, |known| known.first_seen);
            let health = judge(job, error, scheduler, first_seen, now);
            (job.id, JobReport { health, last_error: error.cloned() })
        };
        jobs.iter().map(report).collect()
    }

    /// Whether a job that does so is to be nudged: the scheduler runs, has workers and does not start it. At most once an
    /// hour.
    pub fn needs_nudge(&self, id: i32, health: &JobHealth, scheduler: Scheduler, now: Timestamp) -> bool {
        let nudged = self.0.get(&id).and_then(|known| known.nudged);
        matches!(health.reason, Reason::JobNeverStarted | Reason::JobOverdue)
            && scheduler == Scheduler { runs: Some(true), exhausted: None }
            && nudged.is_none_or(|at| at.checked_add(NUDGE_PAUSE).is_ok_and(|next| next <= now))
    }

    /// Takes note that a job was nudged with this step.
    pub fn nudged(&mut self, step: &Step, now: Timestamp) {
        if let Action::AlterPolicy { job_id, .. } = &step.action
            && let Some(known) = self.0.get_mut(job_id)
        {
            known.nudged = Some(now);
        }
    }
}

/// The step that makes TimescaleDB look at a job again: whatever `alter_job` changes, here nothing, its scheduler then reads
/// all jobs anew.
pub fn nudge(claim: &ClaimId, relation: &Relation, job: &Job) -> Step {
    let kind = job.policy.kind();
    Step {
        claim: claim.clone(),
        action: Action::AlterPolicy {
            relation: relation.clone(),
            job_id: job.id,
            hypertable_id: job.hypertable_id,
            kind,
            changes: JobChanges::default(),
        },
        hazards: Vec::new(),
        long: false,
        after: Vec::new(),
        change: format!(
            "{kind} of {relation} (job {}): due and not started, so the scheduler is made to look again",
            job.id
        ),
    }
}
