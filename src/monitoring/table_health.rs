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
    let scheduled = |kind| jobs.iter().map(|(job, _)| *job).find(|job| job.policy.kind() == kind && job.scheduled);

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
