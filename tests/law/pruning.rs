//! What the resources serialize to fits the schemas of the CRDs, so that the API server keeps all of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::{collection::btree_map, collection::vec, option, prelude::*, sample::select};
use serde::{Serialize, de::DeserializeOwned};
use timescaledb_policy_operator::api::{
    CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
    compression_policy::{CompressionPolicySpec, CompressionPolicyStatus, OrderBy, SparseIndex, SparseIndexKind},
    continuous_aggregate::{
        AggregateDeletion, ContinuousAggregateSpec, ContinuousAggregateStatus, QueryChange, RefreshPolicy,
    },
    hypertable::{HypertableSpec, HypertableStatus, Reorder, SpacePartition},
    index::{Index, IndexColumn, IndexMethod},
    retention_policy::{RetentionPolicySpec, RetentionPolicyStatus},
    schema::{self, Constraint},
    status::{HealthStatus, HealthWord, JobErrorStatus, JobStatus, PendingPlan, SelectedTarget, TargetStatus},
    timescale_database::{
        AllowedNamespaces, Connection, DatabaseDeletion, DefaultSource, Defaults, EffectiveDefault, EffectiveDefaults,
        From, Guards, HealthThresholds, Mode, NamespaceSelector, SecretKeyRef, SecretRef, TimescaleDatabaseSpec,
        TimescaleDatabaseStatus, Tls, TlsMode,
    },
    types::{
        DatabaseRef, IntervalText, LabelOperator, LabelRequirement, Nulls, Order, PolicyDeletion, Schedule, SpanText,
        TargetKind, TargetRef, TargetSelector,
    },
};

use super::config;

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,8}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn age() -> impl Strategy<Value = IntervalText> {
    text().prop_map(IntervalText)
}

fn span() -> impl Strategy<Value = SpanText> {
    prop_oneof![text().prop_map(SpanText::Interval), any::<i64>().prop_map(SpanText::Integer)]
}

fn number() -> impl Strategy<Value = Option<i32>> {
    option::of(any::<i32>())
}

fn big_number() -> impl Strategy<Value = Option<i64>> {
    option::of(any::<i64>())
}

fn flag() -> impl Strategy<Value = Option<bool>> {
    option::of(any::<bool>())
}

fn order() -> impl Strategy<Value = Order> {
    select(vec![Order::Asc, Order::Desc])
}

fn nulls() -> impl Strategy<Value = Option<Nulls>> {
    option::of(select(vec![Nulls::First, Nulls::Last]))
}

fn deletion() -> impl Strategy<Value = PolicyDeletion> {
    select(vec![PolicyDeletion::Delete, PolicyDeletion::Retain])
}

fn database_ref() -> impl Strategy<Value = DatabaseRef> {
    (text(), option::of(text())).prop_map(|(name, namespace)| DatabaseRef { name, namespace })
}

fn target_kind() -> impl Strategy<Value = TargetKind> {
    select(vec![TargetKind::Hypertable, TargetKind::ContinuousAggregate])
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn requirements() -> impl Strategy<Value = Vec<LabelRequirement>> {
    let operator =
        select(vec![LabelOperator::In, LabelOperator::NotIn, LabelOperator::Exists, LabelOperator::DoesNotExist]);
    let requirement =
        (text(), operator, texts()).prop_map(|(key, operator, values)| LabelRequirement { key, operator, values });
    vec(requirement, 0..3)
}

/// Where a policy leads: by name, by labels, or (until the API server has looked at it) both or neither.
fn leads_to() -> BoxedStrategy<(Option<TargetRef>, Option<TargetSelector>)> {
    let reference = (target_kind(), text()).prop_map(|(kind, name)| TargetRef { kind, name });
    let selector = (target_kind(), labels(), requirements())
        .prop_map(|(kind, match_labels, match_expressions)| TargetSelector { kind, match_labels, match_expressions });
    (option::of(reference), option::of(selector)).boxed()
}

fn schedule() -> BoxedStrategy<Schedule> {
    (
        option::of(age()),
        option::of(text()),
        option::of(text()),
        option::of(age()),
        option::of(any::<i32>()),
        option::of(age()),
    )
        .prop_map(|(interval, initial_start, timezone, max_runtime, max_retries, retry_period)| Schedule {
            interval,
            initial_start,
            timezone,
            max_runtime,
            max_retries,
            retry_period,
        })
        .boxed()
}

fn plan() -> BoxedStrategy<Option<PendingPlan>> {
    option::of((option::of(text()), texts(), texts()).prop_map(|(digest, hazards, statements)| PendingPlan {
        digest,
        hazards,
        statements,
    }))
    .boxed()
}

fn target() -> BoxedStrategy<TargetStatus> {
    (text(), option::of(text()), text(), text())
        .prop_map(|(database, database_namespace, schema, table)| TargetStatus {
            database,
            database_namespace,
            schema,
            table,
        })
        .boxed()
}

fn job() -> BoxedStrategy<Option<JobStatus>> {
    let time = || any::<u32>().prop_filter_map("a time", |second| Timestamp::from_second(second.into()).ok().map(Time));
    let error =
        (time(), option::of(text()), text()).prop_map(|(time, code, message)| JobErrorStatus { time, code, message });
    let job = (any::<i32>(), option::of(time()), option::of(time()), option::of(error), any::<i64>(), time()).prop_map(
        |(id, last_success, next_run, last_error, consecutive_failures, observed_at)| JobStatus {
            id,
            last_success,
            next_run,
            last_error,
            consecutive_failures,
            observed_at,
        },
    );
    option::of(job).boxed()
}

fn health() -> BoxedStrategy<Option<HealthStatus>> {
    let word = select(vec![HealthWord::Healthy, HealthWord::Warning, HealthWord::Critical]);
    option::of((word, texts()).prop_map(|(word, reasons)| HealthStatus { word, reasons })).boxed()
}

fn selected() -> BoxedStrategy<Vec<SelectedTarget>> {
    let one = (target_kind(), text(), target(), text(), option::of(text()), option::of(text()), number()).prop_map(
        |(kind, name, object, reason, message, after, job_id)| SelectedTarget {
            kind,
            name,
            object,
            reason,
            message,
            after,
            job_id,
        },
    );
    vec(one, 0..3).boxed()
}

fn indexes() -> BoxedStrategy<Vec<Index>> {
    let column = (text(), order(), nulls()).prop_map(|(name, order, nulls)| IndexColumn { name, order, nulls });
    let method = select(vec![
        IndexMethod::Btree,
        IndexMethod::Hash,
        IndexMethod::Gist,
        IndexMethod::Spgist,
        IndexMethod::Gin,
        IndexMethod::Brin,
    ]);
    let index = (text(), method, any::<bool>(), vec(column, 0..3), texts(), option::of(text())).prop_map(
        |(name, method, unique, columns, include, predicate)| Index {
            name,
            method,
            unique,
            columns,
            include,
            predicate,
        },
    );
    vec(index, 0..3).boxed()
}

fn hypertable() -> BoxedStrategy<Hypertable> {
    let partition = (text(), any::<i32>()).prop_map(|(column, partitions)| SpacePartition { column, partitions });
    let reorder =
        (text(), schedule(), any::<bool>()).prop_map(|(index, schedule, paused)| Reorder { index, schedule, paused });
    let spec = (
        (database_ref(), text(), text(), text(), option::of(span()), option::of(text())),
        (vec(partition, 0..3), any::<bool>(), option::of(texts()), option::of(texts()), indexes(), option::of(reorder)),
    )
        .prop_map(
            |(
                (database_ref, schema, table, time_column, chunk_interval, integer_now_function),
                (space_partitions, migrate_data, chunk_skipping, tablespaces, indexes, reorder),
            )| HypertableSpec {
                database_ref,
                schema,
                table,
                time_column,
                chunk_interval,
                integer_now_function,
                space_partitions,
                migrate_data,
                chunk_skipping,
                tablespaces,
                indexes,
                reorder,
            },
        );
    let status = (
        big_number(),
        plan(),
        option::of(text()),
        number(),
        big_number(),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        (job(), health()),
    )
        .prop_map(
            |(
                observed_generation,
                plan,
                chunk_interval,
                reorder_job_id,
                chunks,
                size,
                compressed,
                ratio,
                (job, health),
            )| {
                HypertableStatus {
                    observed_generation,
                    conditions: Vec::new(),
                    plan,
                    chunk_interval,
                    reorder_job_id,
                    job,
                    health,
                    chunks,
                    size,
                    compressed,
                    compression_ratio: ratio,
                }
            },
        );
    (spec, option::of(status))
        .prop_map(|(spec, status)| Hypertable { metadata: ObjectMeta::default(), spec, status })
        .boxed()
}

fn compression() -> BoxedStrategy<CompressionPolicy> {
    let order_by = (text(), order(), nulls()).prop_map(|(column, order, nulls)| OrderBy { column, order, nulls });
    let kind = select(vec![SparseIndexKind::Bloom, SparseIndexKind::MinMax, SparseIndexKind::FirstLast]);
    let sparse = (kind, texts()).prop_map(|(kind, columns)| SparseIndex { kind, columns });
    let spec = (
        (leads_to(), option::of(span()), option::of(age()), option::of(texts()), option::of(vec(order_by, 0..3))),
        (option::of(span()), option::of(vec(sparse, 0..3)), schedule(), any::<bool>(), deletion()),
    )
        .prop_map(
            |(
                ((target_ref, target_selector), compress_after, compress_created_before, segment_by, order_by),
                (merge_interval, sparse_indexes, schedule, paused, deletion_policy),
            )| CompressionPolicySpec {
                target_ref,
                target_selector,
                compress_after,
                compress_created_before,
                segment_by,
                order_by,
                merge_interval,
                sparse_indexes,
                schedule,
                paused,
                deletion_policy,
            },
        );
    let status = (
        big_number(),
        plan(),
        option::of(target()),
        big_number(),
        big_number(),
        selected(),
        option::of(text()),
        (number(), job()),
    )
        .prop_map(
            |(observed_generation, plan, target, matched, matched_in_sync, targets, compress_after, (job_id, job))| {
                CompressionPolicyStatus {
                    observed_generation,
                    conditions: Vec::new(),
                    plan,
                    target,
                    matched,
                    matched_in_sync,
                    targets,
                    compress_after,
                    job_id,
                    job,
                }
            },
        );
    (spec, option::of(status))
        .prop_map(|(spec, status)| CompressionPolicy { metadata: ObjectMeta::default(), spec, status })
        .boxed()
}

fn retention() -> BoxedStrategy<RetentionPolicy> {
    let spec = (leads_to(), option::of(span()), option::of(age()), schedule(), any::<bool>(), deletion()).prop_map(
        |((target_ref, target_selector), drop_after, drop_created_before, schedule, paused, deletion_policy)| {
            RetentionPolicySpec {
                target_ref,
                target_selector,
                drop_after,
                drop_created_before,
                schedule,
                paused,
                deletion_policy,
            }
        },
    );
    let status = (
        big_number(),
        plan(),
        option::of(target()),
        big_number(),
        big_number(),
        selected(),
        option::of(text()),
        (number(), job()),
    )
        .prop_map(
            |(observed_generation, plan, target, matched, matched_in_sync, targets, drop_after, (job_id, job))| {
                RetentionPolicyStatus {
                    observed_generation,
                    conditions: Vec::new(),
                    plan,
                    target,
                    matched,
                    matched_in_sync,
                    targets,
                    drop_after,
                    job_id,
                    job,
                }
            },
        );
    (spec, option::of(status))
        .prop_map(|(spec, status)| RetentionPolicy { metadata: ObjectMeta::default(), spec, status })
        .boxed()
}

fn aggregate() -> BoxedStrategy<ContinuousAggregate> {
    let refresh =
        (option::of(span()), option::of(span()), flag(), number(), number(), flag(), schedule(), any::<bool>())
            .prop_map(
                |(
                    start_offset,
                    end_offset,
                    include_tiered_data,
                    buckets_per_batch,
                    max_batches_per_execution,
                    refresh_newest_first,
                    schedule,
                    paused,
                )| RefreshPolicy {
                    start_offset,
                    end_offset,
                    include_tiered_data,
                    buckets_per_batch,
                    max_batches_per_execution,
                    refresh_newest_first,
                    schedule,
                    paused,
                },
            );
    let deletion = select(vec![AggregateDeletion::Retain, AggregateDeletion::Delete]);
    let change = select(vec![QueryChange::Refuse, QueryChange::Rebuild]);
    let spec = (
        (database_ref(), text(), text(), text(), change, flag()),
        (flag(), option::of(span()), indexes(), option::of(refresh), deletion),
    )
        .prop_map(
            |(
                (database_ref, schema, name, query, on_query_change, real_time),
                (create_group_indexes, chunk_interval, indexes, refresh_policy, deletion_policy),
            )| ContinuousAggregateSpec {
                database_ref,
                schema,
                name,
                query,
                on_query_change,
                real_time,
                create_group_indexes,
                chunk_interval,
                indexes,
                refresh_policy,
                deletion_policy,
            },
        );
    let status = (big_number(), plan(), option::of(text()), number(), job(), health()).prop_map(
        |(observed_generation, plan, chunk_interval, job_id, job, health)| ContinuousAggregateStatus {
            observed_generation,
            conditions: Vec::new(),
            plan,
            chunk_interval,
            job_id,
            job,
            health,
        },
    );
    (spec, option::of(status))
        .prop_map(|(spec, status)| ContinuousAggregate { metadata: ObjectMeta::default(), spec, status })
        .boxed()
}

fn database() -> BoxedStrategy<TimescaleDatabase> {
    let mode =
        select(vec![TlsMode::Disable, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull]);
    let ca = option::of((text(), text()).prop_map(|(name, key)| SecretKeyRef { name, key }));
    let tls = (mode, ca).prop_map(|(mode, ca_secret_ref)| Tls { mode, ca_secret_ref });
    let connection = (text(), option::of(text()), option::of(any::<i32>()), option::of(text()), tls).prop_map(
        |(name, host, port, database, tls)| Connection { secret_ref: SecretRef { name }, host, port, database, tls },
    );
    let deletion = select(vec![DatabaseDeletion::Delete, DatabaseDeletion::Orphan]);
    let mode = select(vec![Mode::Enforce, Mode::Observe]);
    let defaults = (option::of(span()), option::of(span()), option::of(span())).prop_map(
        |(chunk_interval, compress_after, drop_after)| Defaults { chunk_interval, compress_after, drop_after },
    );
    let selector = (labels(), requirements())
        .prop_map(|(match_labels, match_expressions)| NamespaceSelector { match_labels, match_expressions });
    let allowed_namespaces = (select(vec![From::Same, From::All, From::Selector]), option::of(selector))
        .prop_map(|(from, selector)| AllowedNamespaces { from, selector });
    let spec = (
        (connection, mode, age(), age(), any::<i32>()),
        (option::of(defaults), allowed_namespaces, any::<i32>(), any::<[i32; 3]>(), deletion, option::of(text())),
    )
        .prop_map(
            |(
                (connection, mode, resync_interval, statistics_interval, max_connections),
                (
                    defaults,
                    allowed_namespaces,
                    max_immediate_drop_percent,
                    thresholds,
                    deletion_policy,
                    monitoring_schema,
                ),
            )| TimescaleDatabaseSpec {
                connection,
                mode,
                resync_interval,
                statistics_interval,
                max_connections,
                defaults,
                allowed_namespaces,
                guards: Guards { max_immediate_drop_percent },
                health_thresholds: HealthThresholds {
                    min_compressed_percent: thresholds[0],
                    max_chunks: thresholds[1],
                    max_chunks_to_drop: thresholds[2],
                },
                deletion_policy,
                monitoring_schema,
            },
        );
    let texts = (option::of(text()), option::of(text()), option::of(text()));
    let numbers = (big_number(), big_number(), big_number());
    let source = select(vec![DefaultSource::Database, DefaultSource::Operator]);
    let in_force =
        || option::of((text(), source.clone()).prop_map(|(value, source)| EffectiveDefault { value, source }));
    let defaults =
        option::of((in_force(), in_force(), in_force()).prop_map(|(chunk_interval, compress_after, drop_after)| {
            EffectiveDefaults { chunk_interval, compress_after, drop_after }
        }));
    let status = (big_number(), texts, numbers, defaults).prop_map(
        |(
            observed_generation,
            (postgres_version, timescaledb_version, license),
            (monitoring_version, resources, resources_in_sync),
            defaults,
        )| {
            TimescaleDatabaseStatus {
                observed_generation,
                conditions: Vec::new(),
                postgres_version,
                timescaledb_version,
                license,
                monitoring_version,
                resources,
                resources_in_sync,
                defaults,
            }
        },
    );
    (spec, option::of(status))
        .prop_map(|(spec, status)| TimescaleDatabase { metadata: ObjectMeta::default(), spec, status })
        .boxed()
}

fn survives<K: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    kind: &str,
    object: &K,
) -> Result<(), TestCaseError> {
    let value = serde_json::to_value(object).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let mut violations = schema::violations(kind, &value, None);
    violations.retain(|violation| violation.breaks == Constraint::Structure);
    prop_assert_eq!(violations, Vec::new());
    let back: K = serde_json::from_value(value).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(&back, object);
    Ok(())
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn resources_survive_the_api_server(database in database(), hypertable in hypertable(), compression in compression(), retention in retention(), aggregate in aggregate()) {
        survives("TimescaleDatabase", &database)?;
        survives("Hypertable", &hypertable)?;
        survives("CompressionPolicy", &compression)?;
        survives("RetentionPolicy", &retention)?;
        survives("ContinuousAggregate", &aggregate)?;
    }
}
