//! Policies that are missing, at odds with each other, or behind.

use super::{Facts, Finding, Fix, Object, ObjectKind, Rule, Severity, fix, jobs::Jobs};
use crate::{
    api::{
        timescale_database::HealthThresholds,
        types::{Interval, Relation, Span, TargetKind},
    },
    catalog::{Catalog, Hypertable, Job, Policy, PolicyKind, statistics::TableStatistics},
    monitoring::{job_health::JobHealth, snapshot::JobReport, table_health},
    plan::{
        interlocks::{Conflict, Consequence, conflicts},
        step::bytes_text,
    },
};

/// A hypertable without compression that is smaller than this is told as info.
const WORTH_COMPRESSING: i64 = 1 << 30;
/// From which age chunks are compressed in a policy that is proposed, at least.
const COMPRESS_AFTER: Interval = Interval::from_days(7);
/// From which age chunks would be dropped in a policy that is proposed, which is paused.
const DROP_AFTER: Interval = Interval::from_days(365);

pub(super) fn check(facts: &Facts<'_>, jobs: &Jobs) -> Vec<Finding> {
    let mut found: Vec<_> = conflicts(facts.catalog).into_iter().map(|conflict| at_odds(facts, conflict)).collect();
    for (relation, host) in &facts.catalog.hypertables {
        if facts.has_policies() {
            found.extend(compression(facts, relation, host));
            found.extend(retention(facts, relation, host));
        }
        found.extend(backlogs(facts, jobs, relation, host));
    }
    for (relation, aggregate) in &facts.catalog.aggregates {
        found.extend(backlogs(facts, jobs, relation, &aggregate.hypertable));
    }
    found
}

/// A hypertable or a continuous aggregate.
pub(super) fn object(catalog: &Catalog, relation: &Relation) -> Object {
    let is_aggregate = catalog.aggregates.contains_key(relation);
    let kind = if is_aggregate { ObjectKind::ContinuousAggregate } else { ObjectKind::Hypertable };
    Object::relation(kind, relation)
}

fn at_odds(facts: &Facts<'_>, conflict: Conflict) -> Finding {
    let Conflict { relation, consequence, message } = conflict;
    let rule = match consequence {
        Consequence::ErasesHistory => Rule::RetentionErasesHistory,
        Consequence::NeverWorks => Rule::RefreshWindowTooSmall,
        Consequence::Unwise => Rule::PoliciesAtOdds,
    };
    let text = match consequence {
        Consequence::ErasesHistory => {
            "Change one of the two as the message says, before the next refresh runs; its resource is refused otherwise."
        }
        Consequence::NeverWorks | Consequence::Unwise => "Change the policy as the message says, in its resource.",
    };
    let mut finding = Finding::new(rule, object(facts.catalog, &relation), message, Fix::words(text));
    let Some(host) = facts.catalog.host(&relation) else { return finding };
    let readers = facts.catalog.readers(host.id).map(|(_, aggregate)| aggregate.hypertable.id);
    let hosts: Vec<_> = readers.chain([host.id]).collect();
    for job in facts.catalog.jobs.iter().filter(|job| hosts.contains(&job.hypertable_id)) {
        let text = |span: &dyn std::fmt::Display| span.to_string();
        finding = match &job.policy {
            Policy::Retention { after: Some(after) } if job.hypertable_id == host.id => {
                finding.with("dropAfter", text(after))
            }
            Policy::Compression { after: Some(after) } if job.hypertable_id == host.id => {
                finding.with("compressAfter", text(after))
            }
            Policy::Refresh { start_offset: Some(start), .. } => finding.with("startOffset", text(start)),
            _ => finding,
        };
    }
    finding
}

/// The longest window that an aggregate on this hypertable refreshes.
fn longest_window(catalog: &Catalog, host: &Hypertable) -> Option<Interval> {
    let hosts: Vec<_> = catalog.readers(host.id).map(|(_, aggregate)| aggregate.hypertable.id).collect();
    let starts =
        catalog.jobs.iter().filter(|job| hosts.contains(&job.hypertable_id)).filter_map(|job| match &job.policy {
            Policy::Refresh { start_offset: Some(Span::Time(start)), .. } => Some(*start),
            _ => None,
        });
    starts.max()
}

/// An age for a policy that is proposed: `least`, but more than two chunks and any window that is still refreshed; of
/// integers as many chunks as it has days.
fn proposed(catalog: &Catalog, host: &Hypertable, least: Interval) -> Option<Span> {
    match host.chunk_interval()? {
        Span::Time(chunk) => {
            let beyond_windows = longest_window(catalog, host).map_or(least, |window| window.plus(chunk));
            Some(Span::Time(least.max(chunk.times(2)).max(beyond_windows)))
        }
        Span::Integer(chunk) => {
            let days = i64::try_from(least.total_micros() / Interval::from_days(1).total_micros()).ok()?;
            Some(Span::Integer(chunk.saturating_mul(days)))
        }
    }
}

fn compression(facts: &Facts<'_>, relation: &Relation, host: &Hypertable) -> Option<Finding> {
    let TableStatistics { chunks, compressed_chunks, bytes, .. } = *facts.statistics?.tables.get(relation)?;
    if chunks < 2 || facts.catalog.job(PolicyKind::Compression, host.id).is_some() {
        return None;
    }
    let size = bytes_text(bytes);
    let message = match &host.columnstore {
        None => format!("{chunks} chunks, {size}, and no compression"),
        Some(_) => format!(
            "compression is enabled, and no policy compresses: {compressed_chunks} of {chunks} chunks are compressed, {size}"
        ),
    };
    let segment_by = host.columnstore.as_ref().and_then(|columnstore| columnstore.segment_by.as_ref());
    let segment_by = segment_by.map(|columns| columns.iter().map(ToString::to_string).collect());
    let words =
        Fix::words("Set the age after which rows are seldom changed; `recommend` says what to segment and order by.");
    let proposal = proposed(facts.catalog, host, COMPRESS_AFTER);
    let fix = match proposal {
        Some(after) => {
            words.with_resource(&fix::compression(TargetKind::Hypertable, relation, Some(after), segment_by, None))
        }
        None => words,
    };
    let severity = if bytes >= WORTH_COMPRESSING { Severity::Warning } else { Severity::Info };
    let finding = Finding::new(Rule::NoCompression, object(facts.catalog, relation), message, fix).at(severity);
    Some(finding.with("chunks", chunks).with("compressedChunks", compressed_chunks).with("bytes", bytes))
}

fn retention(facts: &Facts<'_>, relation: &Relation, host: &Hypertable) -> Option<Finding> {
    if facts.catalog.job(PolicyKind::Retention, host.id).is_some() {
        return None;
    }
    let words = Fix::words(
        "Decide how long rows are needed; the policy below is paused until you have. Where they are kept for ever, skip the rule.",
    );
    let fix = match proposed(facts.catalog, host, DROP_AFTER) {
        Some(after) => words.with_resource(&fix::retention(relation, after)),
        None => words,
    };
    let mut finding =
        Finding::new(Rule::NoRetention, object(facts.catalog, relation), "no policy drops old chunks", fix);
    if let Some(found) = facts.statistics.and_then(|statistics| statistics.tables.get(relation)) {
        finding = finding.with("chunks", found.chunks).with("bytes", found.bytes);
        finding = finding.with("oldest", found.oldest.map(|oldest| oldest.to_string()));
    }
    Some(finding)
}

/// Backlogs as health words judge them, one threshold at a time.
fn backlogs(facts: &Facts<'_>, jobs: &Jobs, relation: &Relation, host: &Hypertable) -> Vec<Finding> {
    let Some(found) = facts.statistics.and_then(|statistics| statistics.tables.get(relation)) else {
        return Vec::new();
    };
    // How the jobs themselves do is another rule's.
    let well = |report: &JobReport| {
        let healthy = report.health.healthy.map(|_| true);
        JobReport { health: JobHealth { healthy, ..report.health.clone() }, last_error: None }
    };
    let on_host = facts.catalog.jobs.iter().filter(|job| job.hypertable_id == host.id);
    let reports: Vec<_> = on_host.filter_map(|job| Some((job, well(jobs.of(job.id)?)))).collect();
    let on_host: Vec<(&Job, &JobReport)> = reports.iter().map(|(job, report)| (*job, report)).collect();
    let defaults = HealthThresholds::default();
    let none = HealthThresholds { min_compressed_percent: 0, max_chunks: i32::MAX, max_chunks_to_drop: i32::MAX };
    let judged = |rule, thresholds: HealthThresholds, text: &str| {
        let reasons = table_health::judge(host, found, &on_host, &thresholds).reasons;
        reasons
            .into_iter()
            .map(|reason| Finding::new(rule, object(facts.catalog, relation), reason, Fix::words(text)))
            .collect::<Vec<_>>()
    };
    let compression = HealthThresholds { min_compressed_percent: defaults.min_compressed_percent, ..none };
    let compression = judged(
        Rule::CompressionBacklog,
        compression,
        "See the job's errors and duration; a shorter spec.schedule.interval of the CompressionPolicy lets it keep up.",
    );
    let retention = HealthThresholds { max_chunks_to_drop: defaults.max_chunks_to_drop, ..none };
    let retention = judged(
        Rule::RetentionBacklog,
        retention,
        "See the job's errors and duration; a shorter spec.schedule.interval of the RetentionPolicy lets it keep up.",
    );
    let compression = compression.into_iter().map(|finding| {
        finding.with("chunksToCompress", found.chunks_to_compress).with("compressedChunks", found.compressed_chunks)
    });
    let retention = retention.into_iter().map(|finding| finding.with("chunksToDrop", found.chunks_to_drop));
    compression.chain(retention).collect()
}
