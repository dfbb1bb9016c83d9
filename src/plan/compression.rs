//! The diff of compression settings and policy.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    api::{
        compression_policy::SparseIndexKind,
        status::Reason,
        types::{Relation, SqlName, TargetKind},
    },
    catalog::{Age, Columnstore, Hypertable, Partitioning, Policy, PolicyKind, SortColumn, SparseIndex},
    desired::{Claim, CompressionTarget, PolicyObject, Rejection},
};

use super::{
    Draft, Planner, Step, Verdict, interlocks, no_clock, step,
    step::{Action, ObjectKind},
    wrong_measure,
};

impl Planner<'_> {
    pub(super) fn compression(&mut self, claim: &Claim, target: &CompressionTarget) -> Draft {
        let relation = &target.on.relation;
        let Some(live) = self.catalog.host(relation).cloned() else {
            return Draft::blocked(Verdict::WaitingOn(not_there(&target.on)));
        };
        let Policy::Compression { after: Some(after) } = target.job.policy else { return Draft::default() };
        if let Some(refusal) = self.unfit_age(relation, &live, "compressAfter", after) {
            return Draft::blocked(Verdict::Rejected(refusal));
        }
        if let Some(refusal) = target.merge_interval.and_then(|m| wrong_measure(relation, &live, "mergeInterval", m)) {
            return Draft::blocked(Verdict::Rejected(refusal));
        }
        let version = self.catalog.server.extension.as_ref().map(|e| &e.version);
        let is_aggregate = self.catalog.aggregates.contains_key(relation);
        if let Some(Rejection { reason, message }) = self.unfit_sparse_indexes(target, &live, is_aggregate) {
            return Draft::rejected(reason, message);
        }
        if matches!(after, Age::CreatedBefore(_)) && is_aggregate {
            let message = format!(
                "spec.compressCreatedBefore: TimescaleDB cannot compress {relation} by creation time, it is a continuous aggregate; use compressAfter"
            );
            return Draft::rejected(Reason::InvalidSpec, message);
        }
        // Up to 2.27.1 TimescaleDB compresses only aggregates that have a refresh policy.
        let needs_refresh = is_aggregate && version.is_some_and(|v| !v.at_least(2, 28));
        if needs_refresh && live.columnstore.is_none() && self.catalog.job(PolicyKind::Refresh, live.id).is_none() {
            let message = format!(
                "{relation} has no refresh policy, without which this version of TimescaleDB does not compress it; set spec.refreshPolicy of its ContinuousAggregate"
            );
            return Draft::blocked(Verdict::WaitingOn(message));
        }
        let mut draft = Draft::default();
        let object = if is_aggregate { ObjectKind::MaterializedView } else { ObjectKind::Table };
        if let Some((action, change)) = settings(target, &live, object) {
            draft.steps.push(Step { after: self.after(relation), ..step(claim, action, change) });
        }
        self.job(claim, relation, &live, &target.job, &mut draft);
        // What changes compressed chunks: late rows that an aggregate's own refresh writes, or that come to be refreshed.
        let windows =
            if is_aggregate { self.own_windows(relation) } else { interlocks::refresh_windows(&self.catalog, live.id) };
        draft.warnings.extend(interlocks::compression_warnings(&target.job.policy, &windows));
        draft
    }

    /// Why a policy cannot go by this age on this hypertable.
    pub(super) fn unfit_age(
        &self,
        relation: &Relation,
        live: &Hypertable,
        field: &str,
        after: Age,
    ) -> Option<Rejection> {
        let is_aggregate = self.catalog.aggregates.contains_key(relation);
        let by_integer = matches!(live.time().map(|time| &time.partitioning), Some(Partitioning::IntegerRange(_)));
        match after {
            // An aggregate's clock is that of its source.
            Age::OlderThan(span) => wrong_measure(relation, live, field, span)
                .or_else(|| no_clock(relation, live).filter(|_| !is_aggregate)),
            // TimescaleDB accepts it, and then every run and every alter_job fails.
            Age::CreatedBefore(_) if by_integer && (is_aggregate || live.integer_now.is_some()) => {
                let message = format!(
                    "spec: {relation} is partitioned by integers and has a clock for them; by creation time the job would fail in every run, use {field}"
                );
                Some(Rejection::new(Reason::InvalidSpec, message))
            }
            Age::CreatedBefore(_) => None,
        }
    }

    /// Why the sparse indexes cannot be had.
    fn unfit_sparse_indexes(
        &self,
        target: &CompressionTarget,
        live: &Hypertable,
        is_aggregate: bool,
    ) -> Option<Rejection> {
        let wanted = target.sparse_indexes.as_ref()?;
        let version = self.catalog.server.extension.as_ref().map(|e| &e.version)?;
        let needs = |minor: u32, what: &str| {
            let message = format!("spec.sparseIndexes: {what} needs TimescaleDB 2.{minor} or later, this is {version}");
            (!version.at_least(2, minor)).then(|| Rejection::new(Reason::UnsupportedVersion, message))
        };
        if is_aggregate {
            let message = "spec.sparseIndexes: TimescaleDB has none for continuous aggregates; leave it out";
            return Some(Rejection::new(Reason::InvalidSpec, message));
        }
        let ordered = target.order_by.is_some() || live.columnstore.as_ref().is_some_and(|c| c.order_by.is_some());
        if !wanted.is_empty() && !ordered {
            let message =
                "spec.sparseIndexes needs spec.orderBy: TimescaleDB takes sparse indexes only with an explicit order";
            return Some(Rejection::new(Reason::InvalidSpec, message));
        }
        let several = wanted.iter().any(|index| index.columns.len() > 1).then_some(());
        let first_last = wanted.iter().any(|index| index.kind == SparseIndexKind::FirstLast).then_some(());
        needs(22, "it")
            // Earlier versions silently keep the first column only.
            .or_else(|| several.and_then(|()| needs(28, "an index over several columns")))
            .or_else(|| first_last.and_then(|()| needs(28, "FirstLast")))
    }
}

/// What a policy waits for whose target is not in the database.
pub(super) fn not_there(on: &PolicyObject) -> String {
    let PolicyObject { target, relation } = on;
    let what = match target.kind {
        TargetKind::Hypertable => "is not a hypertable yet",
        TargetKind::ContinuousAggregate => "is not a continuous aggregate yet",
    };
    format!("{}/{}: {relation} {what}", target.kind.as_str(), target.name)
}

/// The statement that brings the settings about, if one is needed, and what it changes.
fn settings(target: &CompressionTarget, live: &Hypertable, object: ObjectKind) -> Option<(Action, String)> {
    let relation = &target.on.relation;
    // Of an aggregate that the same plan creates only the source's time column is known, not what its own is called.
    let unnamed = object == ObjectKind::MaterializedView && live.id < 0;
    let complete = |columns| if unnamed { columns } else { with_time_column(columns, target, live) };
    let order_by = target.order_by.clone().map(complete);
    let found_merge = live.merge_interval.filter(|found| found.is_positive());
    let merge = target.merge_interval.filter(|wanted| found_merge != Some(*wanted).filter(|w| w.is_positive()));
    let action = |segment_by, order_by, sparse_indexes| Action::SetCompression {
        relation: relation.clone(),
        object,
        segment_by,
        order_by,
        sparse_indexes,
        merge_interval: merge,
    };
    let Some(Columnstore { segment_by: found_segment, order_by: found_order, sparse_indexes: found_sparse }) =
        &live.columnstore
    else {
        let mut change = format!("compression of {relation}: enabled");
        if let Some(columns) = target.segment_by.as_ref().filter(|columns| !columns.is_empty()) {
            let _ = write!(change, ", segment by {}", list(columns.iter().map(ToString::to_string)));
        }
        if let Some(columns) = order_by.as_ref().filter(|columns| !columns.is_empty()) {
            let _ = write!(change, ", order by {}", list(columns.iter().map(ToString::to_string)));
        }
        // An empty list is explicitly none, but not without an order.
        let sparse = target.sparse_indexes.clone().filter(|indexes| !indexes.is_empty());
        return Some((action(target.segment_by.clone(), order_by, sparse), change));
    };
    let mut texts = Vec::new();
    let choice = || "TimescaleDB's choice".to_owned();
    let segment = target.segment_by.as_ref().filter(|wanted| found_segment.as_ref() != Some(*wanted));
    if let Some(wanted) = segment {
        let text = |names: &Vec<SqlName>| list(names.iter().map(ToString::to_string));
        texts.push(format!("segment by {} -> {}", found_segment.as_ref().map_or_else(choice, text), text(wanted)));
    }
    let order = order_by.as_ref().filter(|wanted| found_order.as_ref() != Some(*wanted));
    if let Some(wanted) = order {
        let text = |columns: &Vec<SortColumn>| list(columns.iter().map(ToString::to_string));
        texts.push(format!("order by {} -> {}", found_order.as_ref().map_or_else(choice, text), text(wanted)));
    }
    let nothing = BTreeSet::new();
    let found_sparse = found_sparse.as_ref().unwrap_or(&nothing);
    let sparse = target.sparse_indexes.as_ref().filter(|wanted| found_sparse != *wanted);
    if let Some(wanted) = sparse {
        let text = |indexes: &BTreeSet<SparseIndex>| list(indexes.iter().map(ToString::to_string));
        texts.push(format!("sparse indexes {} -> {}", text(found_sparse), text(wanted)));
    }
    if let Some(wanted) = merge {
        let found = found_merge.map_or_else(|| "none".to_owned(), |found| found.to_string());
        texts.push(format!("merge interval {found} -> {wanted}"));
    }
    if texts.is_empty() {
        return None;
    }
    // Columns and order are sent together, what is not managed as it was found: on aggregates TimescaleDB chooses anew what is
    // not given, whatever else is (2.23 the columns; 2.28 the order, and then refuses it beside the columns that are stored).
    let of_aggregate = object == ObjectKind::MaterializedView;
    let changed = segment.is_some() || order.is_some() || sparse.is_some() || (merge.is_some() && of_aggregate);
    let (segment_by, order_by, sparse_indexes) = if changed {
        let segment_by = target.segment_by.clone().or_else(|| found_segment.clone());
        (segment_by, order_by.or_else(|| found_order.clone()), sparse.cloned())
    } else {
        (None, None, None)
    };
    let change = format!(
        "compression of {relation}, for chunks compressed from now on (compress_chunk(chunk, recompress => true) converts one that is compressed already): {}",
        texts.join(", ")
    );
    Some((action(segment_by, order_by, sparse_indexes), change))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// TimescaleDB appends the time column, descending, where `orderBy` lacks it; unless it is a segment-by column.
fn with_time_column(mut columns: Vec<SortColumn>, target: &CompressionTarget, live: &Hypertable) -> Vec<SortColumn> {
    let Some(time) = live.time() else {
        return columns;
    };
    let found = live.columnstore.as_ref().and_then(|c| c.segment_by.as_ref());
    let segmented = target.segment_by.as_ref().or(found).is_some_and(|names| names.contains(&time.column));
    if !segmented && !columns.iter().any(|c| c.column == time.column) {
        columns.push(SortColumn { column: time.column.clone(), descending: true, nulls_first: true });
    }
    columns
}
