//! What the scheduler's facts about a job mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::snapshot::JobReport;
use crate::{
    api::{
        status::{ConditionType, Reason, condition},
        types::{Interval, Relation},
    },
    catalog::{
        Job,
        statistics::{DatabaseStatistics, JobError, JobStatistics},
    },
    desired::ClaimId,
    plan::step::{Action, JobChanges, Step},
    status::shorten_to,
};

/// A scheduler that works starts what is due within seconds. What it has not started after this long it has missed.
const GRACE: Duration = Duration::from_mins(2);
/// A job that was nudged is left alone for this long.
const NUDGE_PAUSE: Duration = Duration::from_hours(1);

/// Longest text of an error in a message, in characters; what is there to do must have its place behind it, also in an event.
const MAX_ERROR: usize = 500;

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
    let message = shorten_to(message, MAX_ERROR);
    match code {
        Some(code) => format!("\"{message}\" (SQLSTATE {code})"),
        None => format!("\"{message}\""),
    }
}

/// Since when a job that has not started is known, by what its resource says of it. So an operator that starts goes on
/// counting where the one before it ended, and says nothing anew.
pub fn known_since(conditions: &[Condition]) -> Option<Timestamp> {
    let said = condition(conditions, ConditionType::JobHealthy)?;
    let since = said.last_transition_time.0;
    if said.reason == Reason::JobNotStarted.as_str() {
        return Some(since);
    }
    since.checked_sub(GRACE).ok().filter(|_| said.reason == Reason::JobNeverStarted.as_str())
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
    /// Nothing is known yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A job was known before this operator saw it.
    pub fn was_known(&mut self, id: i32, since: Timestamp) {
        if let Some(known) = self.0.get_mut(&id) {
            known.first_seen = known.first_seen.min(since);
        }
    }

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

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::catalog::{Policy, PolicyKind};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    const NOW: i64 = 10_000;
    const RUNS: Scheduler = Scheduler { runs: Some(true), exhausted: None };

    fn job(statistics: JobStatistics) -> Job {
        Job {
            id: 1000,
            hypertable_id: 1,
            policy: Policy::Reorder { index: None },
            owner: None,
            config_hypertable_id: None,
            unreadable: Vec::new(),
            schedule_interval: Interval::from_days(1),
            max_runtime: Interval::from_seconds(0),
            max_retries: -1,
            retry_period: Interval::from_seconds(300),
            scheduled: true,
            gave_up: false,
            fixed_schedule: false,
            initial_start: None,
            timezone: None,
            statistics,
        }
    }

    /// One run that ended well, the next one still to come.
    fn ran() -> JobStatistics {
        JobStatistics {
            last_start: Some(at(0)),
            last_finish: Some(at(1)),
            last_success: Some(at(1)),
            last_run_succeeded: Some(true),
            next_start: Some(at(NOW + 60)),
            runs: 1,
            ..JobStatistics::default()
        }
    }

    fn failed() -> JobStatistics {
        JobStatistics { last_run_succeeded: Some(false), failures: 1, consecutive_failures: 1, ..ran() }
    }

    /// As TimescaleDB has it while a job runs.
    fn running(last_success: Option<Timestamp>) -> JobStatistics {
        JobStatistics {
            last_start: Some(at(NOW - 1000)),
            last_success,
            last_run_succeeded: Some(false),
            runs: 1,
            crashes: 1,
            consecutive_crashes: 1,
            ..JobStatistics::default()
        }
    }

    fn said(job: &Job) -> (Option<bool>, Reason) {
        let JobHealth { healthy, reason, message } = judge(job, None, RUNS, at(NOW - 10), at(NOW));
        assert!(message.contains("job 1000"), "{message}");
        (healthy, reason)
    }

    #[test]
    fn an_operator_that_starts_goes_on_counting_where_the_one_before_it_ended() {
        let said = |reason: Reason| {
            vec![Condition {
                type_: "JobHealthy".to_owned(),
                status: String::new(),
                reason: reason.as_str().to_owned(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: Time(at(200)),
            }]
        };
        assert_eq!(known_since(&said(Reason::JobNotStarted)), Some(at(200)));
        assert_eq!(known_since(&said(Reason::JobNeverStarted)), Some(at(80)), "said so when the grace was over");
        assert_eq!(known_since(&said(Reason::JobSucceeded)), None);
        let (mut jobs, new) = (Jobs::default(), job(JobStatistics::default()));
        jobs.see(std::slice::from_ref(&new), at(201));
        jobs.was_known(new.id, at(80));
        let reports = jobs.reports(std::slice::from_ref(&new), Scheduler::default(), at(201));
        assert_eq!(reports[&new.id].health.reason, Reason::JobNeverStarted);
    }

    #[test]
    fn a_job_whose_last_run_ended_well_is_healthy() {
        assert_eq!(said(&job(ran())), (Some(true), Reason::JobSucceeded));
        // A run that failed before it is of the past.
        assert_eq!(said(&job(JobStatistics { failures: 3, ..ran() })), (Some(true), Reason::JobSucceeded));
    }

    #[test]
    fn a_job_that_runs_is_not_taken_for_crashed() {
        assert_eq!(said(&job(running(Some(at(1))))), (Some(true), Reason::JobSucceeded));
        assert_eq!(said(&job(running(None))), (None, Reason::JobRunning));
    }

    #[test]
    fn a_job_that_runs_again_after_a_failure_is_still_failing() {
        let again = JobStatistics { consecutive_failures: 1, ..running(Some(at(1))) };
        assert_eq!(said(&job(again)), (Some(false), Reason::JobFailing));
    }

    #[test]
    fn a_run_that_was_cut_off_is_said_once_the_next_one_has_begun_or_it_has_gone_on_for_too_long() {
        let again = JobStatistics { consecutive_crashes: 2, ..running(Some(at(1))) };
        assert_eq!(said(&job(again)), (Some(false), Reason::JobCrashed));
        let limited = |seconds| Job { max_runtime: Interval::from_seconds(seconds), ..job(running(Some(at(1)))) };
        assert_eq!(said(&limited(800)), (Some(false), Reason::JobCrashed));
        assert_eq!(said(&limited(990)), (Some(true), Reason::JobSucceeded));
    }

    #[test]
    fn a_failure_is_told_with_the_error_where_it_may_be_read() {
        let error = JobError { at: at(1), code: Some("42501".to_owned()), message: "permission denied".to_owned() };
        let health = judge(&job(failed()), Some(&error), RUNS, at(0), at(NOW));
        assert_eq!((health.healthy, health.reason), (Some(false), Reason::JobFailing));
        assert!(health.message.contains("\"permission denied\" (SQLSTATE 42501)"), "{}", health.message);
        assert_eq!(said(&job(failed())), (Some(false), Reason::JobFailing));
    }

    #[test]
    fn a_job_that_timescaledb_gave_up_has_stopped() {
        let job = Job { gave_up: true, scheduled: false, ..job(failed()) };
        let health = judge(&job, None, RUNS, at(0), at(NOW));
        assert_eq!((health.healthy, health.reason, health.has_stopped()), (Some(false), Reason::JobFailed, true));
    }

    #[test]
    fn a_paused_job_is_neither_healthy_nor_not() {
        assert_eq!(said(&Job { scheduled: false, ..job(ran()) }), (None, Reason::JobPaused));
        assert_eq!(said(&Job { scheduled: false, ..job(failed()) }), (None, Reason::JobPaused));
        assert_eq!(said(&Job { scheduled: false, ..job(JobStatistics::default()) }), (None, Reason::JobPaused));
    }

    #[test]
    fn a_job_is_overdue_when_its_next_start_is_long_past_or_it_has_none() {
        let due = |next_start| job(JobStatistics { next_start, ..ran() });
        assert_eq!(said(&due(Some(at(NOW - 119)))), (Some(true), Reason::JobSucceeded));
        assert_eq!(said(&due(Some(at(NOW - 121)))), (Some(false), Reason::JobOverdue));
        assert_eq!(said(&due(None)), (Some(false), Reason::JobOverdue));
    }

    #[test]
    fn a_new_job_has_time_to_start() {
        let new = job(JobStatistics::default());
        let reason = |job: &Job, seconds| judge(job, None, RUNS, at(NOW), at(NOW + seconds)).reason;
        assert_eq!(reason(&new, 119), Reason::JobNotStarted);
        assert_eq!(reason(&new, 121), Reason::JobNeverStarted);
        let later = Job { initial_start: Some(at(NOW + 1000)), ..new };
        assert_eq!(reason(&later, 121), Reason::JobNotStarted);
        assert_eq!(reason(&later, 1121), Reason::JobNeverStarted);
        let planned = job(JobStatistics { next_start: Some(at(NOW + 1000)), ..JobStatistics::default() });
        assert_eq!(reason(&planned, 999), Reason::JobNotStarted);
        assert_eq!(reason(&planned, 1121), Reason::JobNeverStarted);
    }

    #[test]
    fn what_keeps_jobs_from_starting_is_named_where_it_is_known() {
        let message = |scheduler| judge(&job(JobStatistics::default()), None, scheduler, at(0), at(NOW)).message;
        let read = |scheduler, limit, running| {
            Scheduler::from(&DatabaseStatistics {
                scheduler,
                workers_limit: Some(limit),
                workers_running: Some(running),
                ..DatabaseStatistics::default()
            })
        };
        assert!(message(read(Some(false), 16, 16)).contains("all 16 background workers"));
        assert!(message(read(Some(false), 16, 3)).contains("no TimescaleDB scheduler runs"));
        assert!(message(Scheduler::default()).contains("out of background workers"));
    }

    #[test]
    fn an_error_is_asked_for_once_for_each_failed_run() {
        let mut jobs = Jobs::default();
        let (fine, first) = (job(ran()), job(failed()));
        let error = JobError { at: at(1), code: None, message: "no".to_owned() };
        let asked = BTreeSet::from([1000]);
        assert_eq!(jobs.see(&[fine], at(0)), BTreeSet::new());
        assert_eq!(jobs.see(std::slice::from_ref(&first), at(0)), asked);
        jobs.learn(&asked, &BTreeMap::from([(1000, error.clone())]), std::slice::from_ref(&first));
        assert_eq!(jobs.see(std::slice::from_ref(&first), at(0)), BTreeSet::new());
        // While it runs again that is still the last one.
        let again = job(JobStatistics { consecutive_failures: 1, ..running(None) });
        assert_eq!(jobs.see(std::slice::from_ref(&again), at(0)), BTreeSet::new());
        assert_eq!(jobs.reports(&[again], RUNS, at(0))[&1000].last_error, Some(error));
        let second = job(JobStatistics { last_finish: Some(at(9)), consecutive_failures: 2, ..failed() });
        assert_eq!(jobs.see(std::slice::from_ref(&second), at(0)), asked);
        // One that the role may not read is not asked for again either.
        jobs.learn(&asked, &BTreeMap::new(), std::slice::from_ref(&second));
        assert_eq!(jobs.see(std::slice::from_ref(&second), at(0)), BTreeSet::new());
        assert_eq!(jobs.see(&[job(ran())], at(0)), BTreeSet::new());
        assert_eq!(jobs.reports(&[job(ran())], RUNS, at(0))[&1000].last_error, None);
    }

    #[test]
    fn a_job_that_is_not_started_is_nudged_once_an_hour_while_a_scheduler_runs_and_has_workers() {
        let (mut jobs, new) = (Jobs::default(), job(JobStatistics::default()));
        jobs.see(std::slice::from_ref(&new), at(0));
        let needed = |jobs: &Jobs, job: &Job, scheduler, now| {
            let reports = jobs.reports(std::slice::from_ref(job), scheduler, now);
            jobs.needs_nudge(1000, &reports[&1000].health, scheduler, now)
        };
        assert!(!needed(&jobs, &new, RUNS, at(60)));
        assert!(needed(&jobs, &new, RUNS, at(130)));
        for idle in [None, Some(false)] {
            assert!(!needed(&jobs, &new, Scheduler { runs: idle, exhausted: None }, at(130)));
        }
        assert!(!needed(&jobs, &new, Scheduler { exhausted: Some(16), ..RUNS }, at(130)));
        assert!(!needed(&jobs, &Job { scheduled: false, ..new.clone() }, RUNS, at(130)));
        let relation = Relation { schema: "plant".parse().unwrap(), name: "readings".parse().unwrap() };
        let claim = ClaimId::from(crate::desired::ResourceId {
            kind: crate::desired::Kind::RetentionPolicy,
            namespace: None,
            name: "readings".to_owned(),
        });
        let step = nudge(&claim, &relation, &new);
        assert!(matches!(&step.action, Action::AlterPolicy { job_id: 1000, kind: PolicyKind::Reorder, changes, .. }
            if *changes == JobChanges::default()));
        jobs.nudged(&step, at(130));
        assert!(!needed(&jobs, &new, RUNS, at(3000)));
        assert!(needed(&jobs, &new, RUNS, at(3730)));
    }
}
