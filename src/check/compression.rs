//! segmentBy and orderBy against the data.

use std::collections::BTreeSet;

use super::{Facts, Finding, Fix, HypertableFacts, LEAST_ROWS, Rule, Sample, Severity, fix, policies::object};
use crate::{
    api::{
        compression_policy::OrderBy,
        types::{Nulls, Order, Relation, SqlName, TargetKind},
    },
    catalog::{Age, Catalog, Columnstore, Hypertable, Policy, PolicyKind, SortColumn},
};

/// Rows that one value of segmentBy should have in a chunk, at least. TimescaleDB's guide for setting up hypertables
/// (timescale/pg-aiguide, "Segment_By Column Selection"): more than 100 rows for each value and chunk, fewer than 10 is poor.
const ROWS_PER_SEGMENT: i64 = 100;
const POOR: i64 = 10;

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let tables = facts.catalog.hypertables.iter();
    let aggregates = facts.catalog.aggregates.iter().map(|(relation, aggregate)| (relation, &aggregate.hypertable));
    let found = tables.chain(aggregates).filter_map(|(relation, host)| {
        let columnstore = host.columnstore.as_ref()?;
        let mut found = Vec::new();
        found.extend(order_by(facts.catalog, relation, host, columnstore));
        if let Some(read) = facts.inspection.hypertables.get(relation) {
            found.extend(too_fine(facts.catalog, relation, host, columnstore, read));
            found.extend(single_values(facts.catalog, relation, host, columnstore, read));
        }
        Some(found)
    });
    found.flatten().collect()
}

/// The compression policy with other settings, as a resource.
fn policy(
    catalog: &Catalog,
    relation: &Relation,
    host: &Hypertable,
    segment_by: Vec<&SqlName>,
    order_by: Option<Vec<OrderBy>>,
    unless: &str,
) -> Fix {
    let kind = if catalog.aggregates.contains_key(relation) {
        TargetKind::ContinuousAggregate
    } else {
        TargetKind::Hypertable
    };
    let after = catalog.job(PolicyKind::Compression, host.id).and_then(|job| match &job.policy {
        Policy::Compression { after: Some(Age::OlderThan(span)) } => Some(*span),
        _ => None,
    });
    let segment_by = segment_by.into_iter().map(ToString::to_string).collect();
    let policy = fix::compression(kind, relation, after, Some(segment_by), order_by);
    let text = format!(
        "Set this in the CompressionPolicy{unless}. It holds for chunks compressed from then on; compress_chunk(chunk, recompress => true) does one again."
    );
    Fix::words(text).with_resource(&policy)
}

fn sorted(column: &SortColumn) -> OrderBy {
    let usual = column.nulls_first == column.descending;
    let nulls = if column.nulls_first { Nulls::First } else { Nulls::Last };
    OrderBy {
        column: column.column.to_string(),
        order: if column.descending { Order::Desc } else { Order::Asc },
        nulls: (!usual).then_some(nulls),
    }
}

/// Newest first: what most queries ask for.
fn by_time(host: &Hypertable) -> Option<OrderBy> {
    Some(OrderBy { column: host.time()?.column.to_string(), order: Order::Desc, nulls: None })
}

fn order_by(catalog: &Catalog, relation: &Relation, host: &Hypertable, columnstore: &Columnstore) -> Option<Finding> {
    let (columns, time) = (columnstore.order_by.as_ref()?, &host.time()?.column);
    if columns.iter().any(|sort| sort.column == *time) {
        return None;
    }
    let listed: Vec<_> = columns.iter().map(ToString::to_string).collect();
    let message = format!("orderBy is {}, without the time column {time}", listed.join(", "));
    let segment_by = columnstore.segment_by.iter().flatten().filter(|column| *column != time).collect();
    let order_by = columns.iter().map(sorted).chain(by_time(host)).collect();
    let fix = policy(catalog, relation, host, segment_by, Some(order_by), "");
    Some(Finding::new(Rule::OrderByWithoutTime, object(catalog, relation), message, fix))
}

/// By what compression has done where there is enough of it, else by what ANALYZE has found in the largest chunk of a sample.
fn too_fine(
    catalog: &Catalog,
    relation: &Relation,
    host: &Hypertable,
    columnstore: &Columnstore,
    read: &HypertableFacts,
) -> Option<Finding> {
    let HypertableFacts { compressed_rows, batches, samples, .. } = read;
    let columns: &[SqlName] = columnstore.segment_by.as_deref().unwrap_or_default();
    let names = match &columnstore.segment_by {
        None => "what TimescaleDB has chosen".to_owned(),
        Some(columns) if columns.is_empty() => return None,
        Some(columns) => columns.iter().map(SqlName::as_str).collect::<Vec<_>>().join(", "),
    };
    let largest = samples.iter().max_by_key(|sample| sample.rows);
    let (found, rows, segments, message) = if *compressed_rows >= LEAST_ROWS {
        let rows = compressed_rows / (*batches).max(1);
        let message = format!(
            "segmented by {names}, compression has put {compressed_rows} rows into {batches} batches: {rows} in one, of up to 1000"
        );
        (("compressedRows", *compressed_rows), rows, ("batches", *batches), message)
    } else {
        let sample = largest.filter(|sample| sample.rows >= LEAST_ROWS && !columns.is_empty())?;
        let segments = segments(sample, columns)?;
        let rows = sample.rows / segments;
        let message = format!(
            "segmented by {names}, a chunk of {} rows has some {segments} segments: {rows} rows in one",
            sample.rows
        );
        (("rows", sample.rows), rows, ("segments", segments), message)
    };
    if rows >= ROWS_PER_SEGMENT {
        return None;
    }
    // Of several columns the one with most values goes: to the front of orderBy, where like rows still come together.
    let most = columns
        .iter()
        .max_by_key(|column| largest.and_then(|sample| sample.columns.get(*column)).map_or(0, |found| found.distinct));
    let kept = columns.iter().filter(|column| Some(*column) != most).collect();
    let front = most.map(|column| OrderBy { column: column.to_string(), order: Order::Asc, nulls: None });
    let order_by: Vec<_> = match &columnstore.order_by {
        Some(columns) => front.into_iter().chain(columns.iter().map(sorted)).collect(),
        None => front.into_iter().chain(by_time(host)).collect(),
    };
    let unless = ", unless queries filter on what it leaves out: then longer chunks (spec.chunkInterval) hold more rows of each value";
    let fix = policy(catalog, relation, host, kept, Some(order_by), unless);
    let severity = if rows < POOR { Severity::Warning } else { Severity::Info };
    let finding = Finding::new(Rule::SegmentByTooFine, object(catalog, relation), message, fix).at(severity);
    Some(finding.with(found.0, found.1).with(segments.0, segments.1).with("rowsPerSegment", rows))
}

/// How many segments a chunk has, at most: not every combination of values need be there.
fn segments(sample: &Sample, columns: &[SqlName]) -> Option<i64> {
    let distinct: Option<Vec<_>> = columns.iter().map(|column| Some(sample.columns.get(column)?.distinct)).collect();
    let product = distinct?.into_iter().map(|distinct| distinct.max(1)).fold(1, i64::saturating_mul);
    Some(product.min(sample.rows).max(1))
}

/// Columns that have the same one value in all sampled chunks.
fn single_values(
    catalog: &Catalog,
    relation: &Relation,
    host: &Hypertable,
    columnstore: &Columnstore,
    read: &HypertableFacts,
) -> Vec<Finding> {
    let columns = columnstore.segment_by.iter().flatten();
    let rows: i64 = read.samples.iter().map(|sample| sample.rows).sum();
    let single = |column: &&SqlName| {
        let values =
            read.samples.iter().map(|sample| sample.columns.get(*column).and_then(|found| found.only.as_ref()));
        let values: BTreeSet<_> = values.collect();
        rows >= LEAST_ROWS && values.len() == 1 && !values.contains(&None)
    };
    let found = columns.filter(single).map(|column| {
        let message = format!(
            "segmentBy names {column}, which has one value in the {} newest chunks that ANALYZE has seen",
            read.samples.len()
        );
        let kept = columnstore.segment_by.iter().flatten().filter(|other| *other != column).collect();
        let order_by = columnstore.order_by.as_ref().map(|columns| columns.iter().map(sorted).collect());
        let fix = policy(catalog, relation, host, kept, order_by, "");
        let finding = Finding::new(Rule::SegmentBySingleValue, object(catalog, relation), message, fix);
        finding.with("column", column.as_str()).with("chunks", read.samples.len()).with("rows", rows)
    });
    found.collect()
}
