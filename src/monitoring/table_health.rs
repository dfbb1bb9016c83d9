//! Health words of hypertables and continuous aggregates.

use std::collections::BTreeMap;

use super::snapshot::JobReport;
pub use crate::api::status::HealthWord;
use crate::{
    api::{
        status::HealthStatus,
        timescale_database::HealthThresholds,
        types::{Relation, Span},
    },
    catalog::{
        Catalog, Hypertable, Job, Partitioning, PolicyKind,
        statistics::{Statistics, TableStatistics},
    },
};

/// How a hypertable or a continuous aggregate does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHealth {
    /// In a word.
    pub word: HealthWord,
    /// Why it is not healthy: which threshold, the value found, what to do.
    pub reasons: Vec<String>,
}

impl From<&TableHealth> for HealthStatus {
    fn from(TableHealth { word, reasons }: &TableHealth) -> Self {
        Self { word: *word, reasons: reasons.clone() }
    }
}

/// How every table does whose statistics have been read.
pub fn judge_all(
    catalog: &Catalog,
    statistics: &Statistics,
    jobs: &BTreeMap<i32, JobReport>,
    thresholds: &HealthThresholds,
) -> BTreeMap<Relation, TableHealth> {
    let mut of_host: BTreeMap<i32, Vec<(&Job, &JobReport)>> = BTreeMap::new();
    for job in &catalog.jobs {
        if let Some(report) = jobs.get(&job.id) {
            of_host.entry(job.hypertable_id).or_default().push((job, report));
        }
    }
    let aggregates = catalog.aggregates.iter().map(|(relation, aggregate)| (relation, &aggregate.hypertable));
    let judged = catalog.hypertables.iter().chain(aggregates).filter_map(|(relation, host)| {
        let found = statistics.tables.get(relation)?;
        let jobs = of_host.get(&host.id).map_or(&[][..], |jobs| jobs);
        Some((relation.clone(), judge(host, found, jobs, thresholds)))
    });
    judged.collect()
}

/// How one does, with the jobs on it. A threshold that is crossed is a warning, one that is crossed twice over is critical; so
/// are a job that is not healthy and one that has stopped. What falls due between two runs of a policy's job is its to do,
/// and crosses nothing.
pub fn judge(
    host: &Hypertable,
    found: &TableStatistics,
    jobs: &[(&Job, &JobReport)],
    thresholds: &HealthThresholds,
) -> TableHealth {
    let HealthThresholds { min_compressed_percent, max_chunks, max_chunks_to_drop } = *thresholds;
    let (percent, max_chunks, max_to_drop) =
        (i64::from(min_compressed_percent), i64::from(max_chunks), i64::from(max_chunks_to_drop));
    let mut health = TableHealth::default();
    let mut cross = |word: HealthWord, reason: String| {
        health.word = health.word.max(word);
        health.reasons.push(reason);
    };
    // A backlog is not held against a job that is paused, or whose first run is still to come.
    let has_run = |(job, report): &&(&Job, &JobReport)| job.scheduled && report.health.healthy.is_some();
    let scheduled = |kind| jobs.iter().filter(has_run).map(|(job, _)| *job).find(|job| job.policy.kind() == kind);

    let TableStatistics { chunks, compressed_chunks: compressed, chunks_to_compress, chunks_to_drop, .. } = found;
    if let (Some(job), Some(left)) = (scheduled(PolicyKind::Compression), chunks_to_compress)
        && *left > due_between_runs(host, job)
    {
        let of = compressed.saturating_add(*left);
        let share = compressed.saturating_mul(100);
        if share < percent * of {
            let word = critical_if(share.saturating_mul(2) < percent * of);
            let text = format!(
                "{compressed} of {of} chunks that should be compressed are ({} %), less than {percent} %; see job {}",
                share / of.max(1),
                job.id
            );
            cross(word, text);
        }
    }
    if *chunks > max_chunks {
        let text = format!(
            "{chunks} chunks, more than {max_chunks}; a longer chunk interval or a shorter retention makes fewer"
        );
        cross(critical_if(*chunks > max_chunks * 2), text);
    }
    if let (Some(job), Some(left)) = (scheduled(PolicyKind::Retention), chunks_to_drop) {
        let late = left - due_between_runs(host, job);
        if late > max_to_drop {
            let text = format!("{left} chunks are left to drop, more than {max_to_drop}; see job {}", job.id);
            cross(critical_if(late > max_to_drop * 2), text);
        }
    }
    for (job, report) in jobs.iter().filter(|(_, report)| report.health.healthy == Some(false)) {
        let text = format!("job {} ({}): {}", job.id, job.policy.kind(), report.health.reason);
        cross(critical_if(report.health.has_stopped()), text);
    }
    health
}

fn critical_if(critical: bool) -> HealthWord {
    if critical { HealthWord::Critical } else { HealthWord::Warning }
}

/// Chunks that become old enough for a policy between two runs of its job. An integer column says nothing of how fast that
/// goes: then none.
fn due_between_runs(host: &Hypertable, job: &Job) -> i64 {
    let Some(Span::Time(interval)) = host.chunk_interval() else { return 0 };
    let (every, interval) = (job.schedule_interval.total_micros(), interval.total_micros().max(1));
    // A run may begin just before the next chunk is due.
    let ranges = every.max(0) / interval + 1;
    let partitions = host.dimensions.iter().map(|dimension| match dimension.partitioning {
        Partitioning::Hash(partitions) => i128::from(partitions.max(1)),
        Partitioning::Range(_) | Partitioning::IntegerRange(_) => 1,
    });
    i64::try_from(partitions.fold(ranges, i128::saturating_mul)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{status::Reason, types::Interval},
        catalog::{Age, Dimension, Policy},
        monitoring::job_health::JobHealth,
    };

    const HOUR: Interval = Interval::from_seconds(3600);

    /// Chunks of an hour in four hash partitions.
    fn host() -> Hypertable {
        let dimension =
            |column: &str, partitioning| Dimension { column: column.parse().unwrap(), type_: None, partitioning };
        Hypertable {
            id: 1,
            owner: None,
            dimensions: vec![dimension("ts", Partitioning::Range(HOUR)), dimension("sensor", Partitioning::Hash(4))],
            integer_now: None,
            merge_interval: None,
            tablespaces: Vec::new(),
            chunk_skipping: std::collections::BTreeSet::new(),
            columnstore: None,
            indexes: BTreeMap::new(),
        }
    }

    /// A job that runs every so many hours.
    fn job(policy: Policy, hours: i64) -> Job {
        Job {
            id: 1000,
            hypertable_id: 1,
            policy,
            owner: None,
            config_hypertable_id: None,
            unreadable: Vec::new(),
            schedule_interval: Interval::from_seconds(hours * 3600),
            max_runtime: Interval::from_seconds(0),
            max_retries: -1,
            retry_period: HOUR,
            scheduled: true,
            gave_up: false,
            fixed_schedule: false,
            initial_start: None,
            timezone: None,
            statistics: crate::catalog::statistics::JobStatistics::default(),
        }
    }

    fn after() -> Age {
        Age::OlderThan(Span::Time(Interval::from_days(7)))
    }

    fn report(healthy: Option<bool>, reason: Reason) -> JobReport {
        JobReport { health: JobHealth { healthy, reason, message: String::new() }, last_error: None }
    }

    fn word(found: &TableStatistics, jobs: &[(&Job, &JobReport)]) -> HealthWord {
        let TableHealth { word, reasons } = judge(&host(), found, jobs, &HealthThresholds::default());
        assert_eq!(reasons.is_empty(), word == HealthWord::Healthy, "{reasons:?}");
        word
    }

    #[test]
    fn the_compressed_share_is_judged_over_what_the_policy_should_have_compressed() {
        let (compression, fine) =
            (job(Policy::Compression { after: Some(after()) }, 1), report(Some(true), Reason::JobSucceeded));
        let of = |compressed_chunks, left| {
            let found =
                TableStatistics { chunks: 900, compressed_chunks, chunks_to_compress: left, ..Default::default() };
            word(&found, &[(&compression, &fine)])
        };
        assert_eq!(of(60, Some(40)), HealthWord::Healthy);
        assert_eq!(of(59, Some(41)), HealthWord::Warning);
        assert_eq!(of(30, Some(70)), HealthWord::Warning);
        assert_eq!(of(29, Some(71)), HealthWord::Critical);
        // What the next run does is no backlog: an hour between two runs are two ranges of four chunks.
        assert_eq!(of(0, Some(8)), HealthWord::Healthy);
        assert_eq!(of(0, Some(9)), HealthWord::Critical);
        assert_eq!(of(0, None), HealthWord::Healthy);
        let paused = Job { scheduled: false, ..compression.clone() };
        let found = TableStatistics { chunks_to_compress: Some(90), ..Default::default() };
        assert_eq!(word(&found, &[(&paused, &fine)]), HealthWord::Healthy);
        assert_eq!(word(&found, &[]), HealthWord::Healthy);
    }

    #[test]
    fn chunks_are_judged_by_their_number() {
        let of = |chunks| word(&TableStatistics { chunks, ..Default::default() }, &[]);
        assert_eq!(
            [1000, 1001, 2000, 2001].map(of),
            [HealthWord::Healthy, HealthWord::Warning, HealthWord::Warning, HealthWord::Critical]
        );
    }

    #[test]
    fn what_was_there_before_the_first_run_of_its_job_is_no_backlog() {
        let found = TableStatistics {
            chunks: 900,
            chunks_to_compress: Some(900),
            chunks_to_drop: Some(900),
            ..TableStatistics::default()
        };
        let compression = job(Policy::Compression { after: Some(after()) }, 1);
        let retention = job(Policy::Retention { after: Some(after()) }, 1);
        for (healthy, reason, expected) in [
            (None, Reason::JobNotStarted, HealthWord::Healthy),
            (Some(true), Reason::JobSucceeded, HealthWord::Critical),
            (Some(false), Reason::JobNeverStarted, HealthWord::Critical),
        ] {
            let report = report(healthy, reason);
            assert_eq!(word(&found, &[(&compression, &report), (&retention, &report)]), expected, "{reason}");
        }
    }

    #[test]
    fn chunks_to_drop_are_judged_beyond_what_falls_due_between_two_runs() {
        let (retention, fine) =
            (job(Policy::Retention { after: Some(after()) }, 1), report(Some(true), Reason::JobSucceeded));
        let of = |left| {
            let found = TableStatistics { chunks_to_drop: Some(left), ..Default::default() };
            word(&found, &[(&retention, &fine)])
        };
        assert_eq!(
            [18, 19, 28, 29].map(of),
            [HealthWord::Healthy, HealthWord::Warning, HealthWord::Warning, HealthWord::Critical]
        );
    }

    #[test]
    fn a_job_that_is_not_healthy_is_a_warning_and_one_that_has_stopped_is_critical() {
        let retention = job(Policy::Retention { after: Some(after()) }, 1);
        let of = |healthy, reason| word(&TableStatistics::default(), &[(&retention, &report(healthy, reason))]);
        assert_eq!(of(None, Reason::JobNotStarted), HealthWord::Healthy);
        assert_eq!(of(None, Reason::JobPaused), HealthWord::Healthy);
        assert_eq!(of(Some(false), Reason::JobFailing), HealthWord::Warning);
        assert_eq!(of(Some(false), Reason::JobCrashed), HealthWord::Warning);
        for stopped in [Reason::JobFailed, Reason::JobOverdue, Reason::JobNeverStarted] {
            assert_eq!(of(Some(false), stopped), HealthWord::Critical);
        }
    }
}
