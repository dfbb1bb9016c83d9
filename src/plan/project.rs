//! What an action makes of a catalog: the model of TimescaleDB that the planner looks ahead with.
//!
//! The integration tests hold it against the real thing: after every scenario the observed catalog must need no step,
//! as the projected one does.

use crate::{
    api::types::{Interval, Relation, Span},
    catalog::{
        Aggregate, Answer, Answers, Catalog, Columnstore, Dimension, Hypertable, Index, Job, Partitioning, PolicyKind,
        Question, statistics,
    },
    desired::IndexTarget,
};

use super::{
    index::wanted_index,
    step::{Action, JobChanges, NewPolicy, Swap},
};

/// Carries out the action on the catalog. What the database would refuse changes nothing.
pub fn apply(catalog: &mut Catalog, action: &Action, answers: &Answers) {
    match action {
        Action::CreateHypertable {
            relation,
            time_column,
            chunk_interval,
            integer_now,
            space,
            default_indexes: _,
            indexes,
            comment,
            migrate_data: _,
        } => {
            let range = partitioning(chunk_interval.unwrap_or(Span::Time(Interval::from_days(7))));
            // The offsets of a refresh policy that the same plan adds must be of the very type of the column.
            let type_ = match answers.get(&Question::Table(relation.clone())) {
                Some(Answer::Table(Some(table))) => table.columns.get(time_column).cloned(),
                _ => None,
            };
            let mut dimensions = vec![Dimension { column: time_column.clone(), type_, partitioning: range }];
            dimensions.extend(space.iter().map(|(column, n)| Dimension {
                column: column.clone(),
                type_: None,
                partitioning: Partitioning::Hash(*n),
            }));
            let indexes = indexes
                .iter()
                .map(|index| (index.name.clone(), printed_index(relation, index, Some(comment), answers)))
                .collect();
            let (id, integer_now) = (unused_id(catalog), integer_now.clone());
            let made = Hypertable { id, dimensions, integer_now, indexes, ..Hypertable::default() };
            catalog.hypertables.insert(relation.clone(), made);
        }
        Action::SetChunkInterval { relation, interval } => {
            if let Some(time) = catalog.host_mut(relation).and_then(|h| h.dimensions.first_mut()) {
                time.partitioning = partitioning(*interval);
            }
        }
        Action::SetIntegerNow { relation, function } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.integer_now = Some(function.clone());
            }
        }
        Action::SetChunkSkipping { relation, column, enabled } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                if *enabled {
                    hypertable.chunk_skipping.insert(column.clone());
                } else {
                    hypertable.chunk_skipping.remove(column);
                }
            }
        }
        Action::AttachTablespace { relation, tablespace } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.tablespaces.push(tablespace.clone());
            }
        }
        Action::DetachTablespace { relation, tablespace } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.tablespaces.retain(|found| found != tablespace);
            }
        }
        Action::SetPartitions { relation, column, partitions } => {
            let dimensions = catalog.host_mut(relation).map(|h| &mut h.dimensions);
            if let Some(dimension) = dimensions.and_then(|d| d.iter_mut().find(|d| d.column == *column)) {
                dimension.partitioning = Partitioning::Hash(*partitions);
            }
        }
        Action::AddDimension { relation, column, partitions } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                let partitioning = Partitioning::Hash(*partitions);
                hypertable.dimensions.push(Dimension { column: column.clone(), type_: None, partitioning });
            }
        }
        Action::BuildIndex { relation, name, index, comment } => {
            let printed = printed_index(relation, index, comment.as_ref(), answers);
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.indexes.entry(name.clone()).or_insert(printed);
            }
        }
        Action::PlaceIndex { relation, from, index, comment } => {
            let printed = printed_index(relation, index, Some(comment), answers);
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.indexes.remove(from);
                hypertable.indexes.insert(index.name.clone(), printed);
            }
        }
        Action::CreateIndex { relation, schema: _, index, replaces: _, comment } => {
            let printed = printed_index(relation, index, Some(comment), answers);
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.indexes.insert(index.name.clone(), printed);
            }
        }
        Action::DropIndex { relation, schema: _, index, only_invalid: _ } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                hypertable.indexes.remove(index);
            }
        }
        Action::SetCompression { relation, object: _, segment_by, order_by, sparse_indexes, merge_interval } => {
            if let Some(hypertable) = catalog.host_mut(relation) {
                let settings = hypertable.columnstore.get_or_insert_with(Columnstore::default);
                if segment_by.is_some() {
                    settings.segment_by.clone_from(segment_by);
                }
                if order_by.is_some() {
                    settings.order_by.clone_from(order_by);
                }
                if sparse_indexes.is_some() {
                    settings.sparse_indexes.clone_from(sparse_indexes);
                }
                if let Some(interval) = merge_interval {
                    hypertable.merge_interval = Some(*interval).filter(|interval| interval.is_positive());
                }
            }
        }
        Action::AddPolicy { relation, new } => add_policy(catalog, relation, new),
        Action::AlterPolicy { job_id, changes, .. } => {
            if let Some(job) = catalog.jobs.with_id(*job_id) {
                alter(job, changes);
            }
        }
        Action::ReplacePolicy { relation, new } => {
            remove_policy(catalog, relation, new.policy.kind());
            add_policy(catalog, relation, new);
        }
        Action::RemovePolicy { relation, kind } => remove_policy(catalog, relation, *kind),
        Action::CreateAggregate { relation, query, materialized_only, create_group_indexes: _, comment } => {
            let question =
                Question::Definition { aggregate: relation.clone(), query: query.clone(), fingerprint: None };
            let sources = match answers.get(&question) {
                Some(Answer::Definition(Ok(definition))) => definition.sources.clone(),
                _ => Vec::new(),
            };
            let Some(source) = sources.iter().find_map(|source| catalog.host(source)) else { return };
            let (source_id, dimensions) = (source.id, source.dimensions.iter().take(1).cloned().collect());
            let aggregate = Aggregate {
                hypertable: Hypertable { id: unused_id(catalog), dimensions, ..Hypertable::default() },
                materialization: None,
                source_id,
                materialized_only: materialized_only.unwrap_or(true),
                fingerprint: query.clone(),
                bucket: None,
                comment: comment.clone(),
            };
            catalog.aggregates.insert(relation.clone(), aggregate);
        }
        Action::FillAggregate { relation: _ } => {}
        Action::SwapAggregate(swap) => swap_aggregate(catalog, swap),
        Action::SetMaterializedOnly { relation, materialized_only } => {
            if let Some(aggregate) = catalog.aggregates.get_mut(relation) {
                aggregate.materialized_only = *materialized_only;
            }
        }
        Action::DropAggregate { relation } => drop_aggregate(catalog, relation),
    }
}

const fn partitioning(span: Span) -> Partitioning {
    match span {
        Span::Time(interval) => Partitioning::Range(interval),
        Span::Integer(units) => Partitioning::IntegerRange(units),
    }
}

fn drop_aggregate(catalog: &mut Catalog, relation: &Relation) {
    if let Some(aggregate) = catalog.aggregates.remove(relation) {
        catalog.jobs.retain(|job| job.hypertable_id != aggregate.hypertable.id);
    }
}

fn swap_aggregate(catalog: &mut Catalog, swap: &Swap) {
    let Swap { relation, replacement, replaced, replaced_comment, comment, columnstore, .. } = swap;
    let (Some(mut new), Some(mut old)) = (catalog.aggregates.remove(replacement), catalog.aggregates.remove(relation))
    else {
        return;
    };
    new.comment.clone_from(comment);
    new.hypertable.columnstore.clone_from(columnstore);
    new.hypertable.merge_interval = swap.merge_interval;
    if let (Some(span), Some(time)) = (swap.chunk_interval, new.hypertable.dimensions.first_mut()) {
        time.partitioning = partitioning(span);
    }
    old.comment = Some(replaced_comment.clone());
    catalog.aggregates.insert(relation.clone(), new);
    catalog.aggregates.insert(replaced.clone(), old);
    for policy in &swap.policies {
        add_policy(catalog, relation, policy);
    }
}

fn remove_policy(catalog: &mut Catalog, relation: &Relation, kind: PolicyKind) {
    if let Some(host) = catalog.host(relation).map(|h| h.id) {
        catalog.jobs.retain(|job| job.hypertable_id != host || job.policy.kind() != kind);
    }
}

/// An id that nothing in the catalog has. Real ids are positive, projected ones negative.
fn unused_id(catalog: &Catalog) -> i32 {
    let hypertables = catalog.hypertables.values().map(|h| h.id);
    let ids = hypertables
        .chain(catalog.aggregates.values().map(|a| a.hypertable.id))
        .chain(catalog.jobs.iter().map(|j| j.id));
    ids.min().unwrap_or(0).min(0) - 1
}

fn printed_index(relation: &Relation, index: &IndexTarget, comment: Option<&String>, answers: &Answers) -> Index {
    let predicate = index.predicate.as_ref().map(|text| {
        match answers.get(&Question::Predicate { relation: relation.clone(), text: text.clone() }) {
            Some(Answer::Predicate(Ok(printed))) => printed.clone(),
            _ => text.clone(),
        }
    });
    Index { comment: comment.cloned(), ..wanted_index(index, predicate) }
}

fn add_policy(catalog: &mut Catalog, relation: &Relation, new: &NewPolicy) {
    let NewPolicy { policy, job: new, integers: _ } = new;
    let Some(host) = catalog.host(relation) else {
        return;
    };
    let (hypertable_id, owner) = (host.id, host.owner.clone());
    if catalog.job(policy.kind(), hypertable_id).is_some() && policy.kind() != PolicyKind::Refresh {
        return;
    }
    // What `timescaledb_information.jobs` shows of a policy that was added without more.
    let (default_interval, max_runtime, retry_period) = match policy.kind() {
        PolicyKind::Compression => {
            (Interval::from_seconds(12 * 3600), Interval::from_seconds(0), Interval::from_seconds(3600))
        }
        PolicyKind::Retention => (Interval::from_days(1), Interval::from_seconds(300), Interval::from_seconds(300)),
        PolicyKind::Refresh => (Interval::from_days(1), Interval::from_seconds(0), Interval::from_days(1)),
        PolicyKind::Reorder => (Interval::from_days(4), Interval::from_seconds(0), Interval::from_seconds(300)),
    };
    let schedule_interval = new.schedule_interval.unwrap_or(default_interval);
    let mut job = Job {
        statistics: statistics::JobStatistics::default(),
        id: unused_id(catalog),
        hypertable_id,
        policy: policy.clone(),
        owner,
        config_hypertable_id: Some(hypertable_id),
        unreadable: Vec::new(),
        schedule_interval,
        max_runtime,
        max_retries: -1,
        retry_period,
        scheduled: true,
        gave_up: false,
        fixed_schedule: new.initial_start.is_some(),
        initial_start: new.initial_start,
        timezone: new.timezone.clone(),
    };
    alter(&mut job, &new.rest);
    catalog.jobs.push(job);
}

fn alter(job: &mut Job, changes: &JobChanges) {
    let JobChanges {
        policy,
        schedule_interval,
        max_runtime,
        max_retries,
        retry_period,
        scheduled,
        initial_start,
        timezone,
    } = changes;
    if let Some(policy) = policy {
        job.policy = policy.clone();
        job.unreadable.clear();
    }
    job.schedule_interval = schedule_interval.unwrap_or(job.schedule_interval);
    job.max_runtime = max_runtime.unwrap_or(job.max_runtime);
    job.max_retries = max_retries.unwrap_or(job.max_retries);
    job.retry_period = retry_period.unwrap_or(job.retry_period);
    job.scheduled = scheduled.unwrap_or(job.scheduled);
    if initial_start.is_some() {
        job.initial_start = *initial_start;
        job.fixed_schedule = true;
    }
    if timezone.is_some() {
        job.timezone.clone_from(timezone);
    }
}
