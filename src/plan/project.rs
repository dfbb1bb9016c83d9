//! What an action makes of a catalog: the model of TimescaleDB that the planner looks ahead with.
//!
//! The integration tests hold it against the real thing: after every scenario the observed catalog must need no step,
//! as the projected one does.

use crate::{
    api::types::{Interval, Relation},
    catalog::{
        Aggregate, Answer, Answers, Catalog, Columnstore, Dimension, Hypertable, Index, Job, Partitioning, Policy,
        PolicyKind, Question,
    },
    desired::IndexTarget,
};

use super::{
    hypertable::wanted_index,
    step::{Action, JobChanges, NewJob},
};

/// Carries out the action on the catalog. What the database would refuse changes nothing.
pub fn apply(catalog: &mut Catalog, action: &Action, answers: &Answers) {
    match action {
        Action::CreateHypertable {
            relation,
            time_column,
            chunk_interval,
            space,
            default_indexes: _,
            indexes,
            migrate_data: _,
        } => {
            let range = chunk_interval.unwrap_or(Interval::from_days(7));
            let mut dimensions =
                vec![Dimension { column: time_column.clone(), partitioning: Partitioning::Range(range) }];
            dimensions.extend(
                space
                    .iter()
                    .map(|(column, n)| Dimension { column: column.clone(), partitioning: Partitioning::Hash(*n) }),
            );
            let indexes =
                indexes.iter().map(|index| (index.name.clone(), printed_index(relation, index, answers))).collect();
            let id = unused_id(catalog);
            catalog.hypertables.insert(relation.clone(), Hypertable { id, dimensions, columnstore: None, indexes });
        }
        Action::SetChunkInterval { relation, column, interval } => {
            set_partitioning(catalog, relation, column, Partitioning::Range(*interval));
        }
        Action::SetPartitions { relation, column, partitions } => {
            set_partitioning(catalog, relation, column, Partitioning::Hash(*partitions));
        }
        Action::AddDimension { relation, column, partitions } => {
            if let Some(hypertable) = catalog.hypertables.get_mut(relation) {
                let partitioning = Partitioning::Hash(*partitions);
                hypertable.dimensions.push(Dimension { column: column.clone(), partitioning });
            }
        }
        Action::CreateIndex { relation, index } => {
            let printed = printed_index(relation, index, answers);
            if let Some(hypertable) = catalog.hypertables.get_mut(relation) {
                hypertable.indexes.entry(index.name.clone()).or_insert(printed);
            }
        }
        Action::DropInvalidIndex { relation, index } => {
            if let Some(hypertable) = catalog.hypertables.get_mut(relation) {
                hypertable.indexes.remove(index);
            }
        }
        Action::SetCompression { relation, segment_by, order_by } => {
            if let Some(hypertable) = catalog.hypertables.get_mut(relation) {
                let settings = hypertable.columnstore.get_or_insert_with(Columnstore::default);
                if segment_by.is_some() {
                    settings.segment_by.clone_from(segment_by);
                }
                if order_by.is_some() {
                    settings.order_by.clone_from(order_by);
                }
            }
        }
        Action::AddPolicy { relation, policy, job } => add_policy(catalog, relation, policy, job),
        Action::AlterPolicy { job_id, changes, .. } => {
            if let Some(job) = catalog.jobs.iter_mut().find(|job| job.id == *job_id) {
                alter(job, changes);
            }
        }
        Action::RemovePolicy { relation, kind } => {
            if let Some(host) = policy_host(catalog, relation) {
                catalog.jobs.retain(|job| job.hypertable_id != host || job.policy.kind() != *kind);
            }
        }
        Action::CreateAggregate { relation, query, materialized_only } => {
            let question =
                Question::Definition { aggregate: relation.clone(), query: query.clone(), fingerprint: None };
            let source = match answers.get(&question) {
                Some(Answer::Definition(Ok(definition))) => {
                    definition.sources.iter().find_map(|s| policy_host(catalog, s))
                }
                _ => None,
            };
            let aggregate = Aggregate {
                hypertable_id: unused_id(catalog),
                source_id: source.unwrap_or(0),
                materialized_only: materialized_only.unwrap_or(true),
                fingerprint: query.clone(),
                bucket: None,
            };
            catalog.aggregates.insert(relation.clone(), aggregate);
        }
        Action::SetMaterializedOnly { relation, materialized_only } => {
            if let Some(aggregate) = catalog.aggregates.get_mut(relation) {
                aggregate.materialized_only = *materialized_only;
            }
        }
        Action::DropAggregate { relation } => {
            if let Some(aggregate) = catalog.aggregates.remove(relation) {
                catalog.jobs.retain(|job| job.hypertable_id != aggregate.hypertable_id);
            }
        }
    }
}

/// An id that nothing in the catalog has. Real ids are positive, projected ones negative.
fn unused_id(catalog: &Catalog) -> i32 {
    let hypertables = catalog.hypertables.values().map(|h| h.id);
    let ids = hypertables
        .chain(catalog.aggregates.values().map(|a| a.hypertable_id))
        .chain(catalog.jobs.iter().map(|j| j.id));
    ids.min().unwrap_or(0).min(0) - 1
}

fn policy_host(catalog: &Catalog, relation: &Relation) -> Option<i32> {
    let hypertable = catalog.hypertables.get(relation).map(|h| h.id);
    hypertable.or_else(|| catalog.aggregates.get(relation).map(|a| a.hypertable_id))
}

fn printed_index(relation: &Relation, index: &IndexTarget, answers: &Answers) -> Index {
    let predicate = index.predicate.as_ref().map(|text| {
        match answers.get(&Question::Predicate { relation: relation.clone(), text: text.clone() }) {
            Some(Answer::Predicate(Ok(printed))) => printed.clone(),
            _ => text.clone(),
        }
    });
    wanted_index(index, predicate)
}

fn set_partitioning(
    catalog: &mut Catalog,
    relation: &Relation,
    column: &crate::api::types::SqlName,
    partitioning: Partitioning,
) {
    let dimensions = catalog.hypertables.get_mut(relation).map(|h| &mut h.dimensions);
    if let Some(dimension) = dimensions.and_then(|d| d.iter_mut().find(|d| d.column == *column)) {
        dimension.partitioning = partitioning;
    }
}

fn add_policy(catalog: &mut Catalog, relation: &Relation, policy: &Policy, new: &NewJob) {
    let Some(hypertable_id) = policy_host(catalog, relation) else {
        return;
    };
    if catalog.job(policy.kind(), hypertable_id).is_some() {
        return;
    }
    // What `timescaledb_information.jobs` shows of a policy that was added without more.
    let (default_interval, max_runtime, retry_period) = match policy.kind() {
        PolicyKind::Compression => {
            (Interval::from_seconds(12 * 3600), Interval::from_seconds(0), Interval::from_seconds(3600))
        }
        PolicyKind::Retention => (Interval::from_days(1), Interval::from_seconds(300), Interval::from_seconds(300)),
        PolicyKind::Refresh => (Interval::from_days(1), Interval::from_seconds(0), Interval::from_days(1)),
    };
    let schedule_interval = new.schedule_interval.unwrap_or(default_interval);
    let mut job = Job {
        id: unused_id(catalog),
        hypertable_id,
        policy: policy.clone(),
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
