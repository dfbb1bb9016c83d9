//! Too many chunks, too small ones, too large ones. How large they should be is `recommend`'s to say.

use super::{Facts, Finding, Fix, Rule, policies::object};
use crate::{
    api::timescale_database::HealthThresholds,
    catalog::{Hypertable, Partitioning, statistics::TableStatistics},
    plan::step::bytes_text,
};

/// So many chunks may be small.
const FEW: i64 = 100;
/// A chunk that holds less is small, before compression.
const SMALL: i64 = 1 << 20;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let Some(statistics) = facts.statistics else { return Vec::new() };
    let limit = i64::from(HealthThresholds::default().max_chunks);
    let mut found = Vec::new();
    for (relation, of) in &statistics.tables {
        let Some(host) = facts.catalog.host(relation) else { continue };
        let interval = host.chunk_interval().map_or_else(|| "none".to_owned(), |interval| interval.to_string());
        let finding = |rule, message: String| {
            let text = format!(
                "`recommend` says which chunk interval fits, for spec.chunkInterval; it is {interval} now. It holds for chunks made from then on."
            );
            let finding = Finding::new(rule, object(facts.catalog, relation), message, Fix::words(text));
            finding.with("chunks", of.chunks).with("bytes", of.bytes).with("chunkInterval", interval.clone())
        };
        if of.chunks > limit {
            found.push(finding(Rule::TooManyChunks, format!("{} chunks, more than {limit}", of.chunks)));
        }
        let average = before_compression(of) / of.chunks.max(1);
        if of.chunks > FEW && average < SMALL && facts.catalog.hypertables.contains_key(relation) {
            let message = format!("{} chunks hold {} each on average", of.chunks, bytes_text(average));
            found.push(finding(Rule::ChunksTooSmall, message).with("bytesPerChunk", average));
        }
        let buffers = facts.inspection.server.shared_buffers;
        if let Some(range) = uncompressed_range(host, of).filter(|range| *range > buffers) {
            let message = format!(
                "the chunks of one interval take {} with their indexes, the server's shared buffers are {}",
                bytes_text(range),
                bytes_text(buffers)
            );
            let large = finding(Rule::ChunksTooLarge, message).with("bytesPerInterval", range);
            found.push(large.with("sharedBuffers", buffers));
        }
    }
    found
}

/// Size of all chunks, as if none were compressed.
fn before_compression(of: &TableStatistics) -> i64 {
    of.bytes - of.after_compression_bytes + of.before_compression_bytes
}

/// Size of the chunks of one interval that are not compressed, on average: one for each hash partition.
fn uncompressed_range(host: &Hypertable, of: &TableStatistics) -> Option<i64> {
    let uncompressed = of.chunks - of.compressed_chunks;
    let partitions = host.dimensions.iter().map(|dimension| match dimension.partitioning {
        Partitioning::Hash(partitions) => i64::from(partitions.max(1)),
        Partitioning::Range(_) | Partitioning::IntegerRange(_) => 1,
    });
    let partitions = partitions.fold(1, i64::saturating_mul);
    (uncompressed > 0)
        .then(|| ((of.bytes - of.after_compression_bytes) / uncompressed).saturating_mul(partitions.min(uncompressed)))
}
