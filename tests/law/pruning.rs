//! What the resources serialize to fits the schemas of the CRDs, so that the API server keeps all of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde::{Serialize, de::DeserializeOwned};
use timescaledb_policy_operator::api::{
    CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
    compression_policy::{CompressionPolicySpec, CompressionPolicyStatus, OrderBy},
    continuous_aggregate::{AggregateDeletion, ContinuousAggregateSpec, ContinuousAggregateStatus, RefreshPolicy},
    hypertable::{HypertableSpec, HypertableStatus, Index, IndexColumn, SpacePartition},
    retention_policy::{RetentionPolicySpec, RetentionPolicyStatus},
    status::{PendingPlan, TargetStatus},
    timescale_database::{
        Connection, DatabaseDeletion, Guards, Mode, SecretKeyRef, SecretRef, TimescaleDatabaseSpec,
        TimescaleDatabaseStatus, Tls, TlsMode,
    },
    types::{DatabaseRef, IntervalText, Nulls, Order, PolicyDeletion, Schedule, TargetKind, TargetRef},
};

use super::{config, fixture::schema};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,8}"
}

fn age() -> impl Strategy<Value = IntervalText> {
    text().prop_map(IntervalText)
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
    text().prop_map(|name| DatabaseRef { name })
}

fn target_ref() -> impl Strategy<Value = TargetRef> {
    text().prop_map(|name| TargetRef { kind: TargetKind::Hypertable, name })
}

fn schedule() -> impl Strategy<Value = Schedule> {
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
}

fn plan() -> impl Strategy<Value = Option<PendingPlan>> {
    option::of(
        (option::of(text()), vec(text(), 0..3), vec(text(), 0..3))
            .prop_map(|(digest, hazards, statements)| PendingPlan { digest, hazards, statements }),
    )
}

fn target() -> impl Strategy<Value = Option<TargetStatus>> {
    option::of((text(), text(), text()).prop_map(|(database, schema, table)| TargetStatus { database, schema, table }))
}

fn hypertable() -> impl Strategy<Value = Hypertable> {
    let column = (text(), order(), nulls()).prop_map(|(name, order, nulls)| IndexColumn { name, order, nulls });
    let index = (text(), vec(column, 0..3), vec(text(), 0..3), option::of(text()))
        .prop_map(|(name, columns, include, predicate)| Index { name, columns, include, predicate });
    let partition = (text(), any::<i32>()).prop_map(|(column, partitions)| SpacePartition { column, partitions });
    let spec = (
        database_ref(),
        text(),
        text(),
        text(),
        option::of(age()),
        vec(partition, 0..3),
        any::<bool>(),
        vec(index, 0..3),
    )
        .prop_map(
            |(database_ref, schema, table, time_column, chunk_interval, space_partitions, migrate_data, indexes)| {
                HypertableSpec {
                    database_ref,
                    schema,
                    table,
                    time_column,
                    chunk_interval,
                    space_partitions,
                    migrate_data,
                    indexes,
                }
            },
        );
    let status = (
        option::of(any::<i64>()),
        plan(),
        option::of(any::<i64>()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    )
        .prop_map(|(observed_generation, plan, chunks, size, compressed, compression_ratio)| HypertableStatus {
            observed_generation,
            conditions: Vec::new(),
            plan,
            chunks,
            size,
            compressed,
            compression_ratio,
        });
    (spec, option::of(status)).prop_map(|(spec, status)| Hypertable { metadata: ObjectMeta::default(), spec, status })
}

fn compression() -> impl Strategy<Value = CompressionPolicy> {
    let order_by = (text(), order(), nulls()).prop_map(|(column, order, nulls)| OrderBy { column, order, nulls });
    let spec = (
        target_ref(),
        age(),
        option::of(vec(text(), 0..3)),
        option::of(vec(order_by, 0..3)),
        schedule(),
        any::<bool>(),
        deletion(),
    )
        .prop_map(|(target_ref, compress_after, segment_by, order_by, schedule, paused, deletion_policy)| {
            CompressionPolicySpec {
                target_ref,
                compress_after,
                segment_by,
                order_by,
                schedule,
                paused,
                deletion_policy,
            }
        });
    let status = (option::of(any::<i64>()), plan(), target(), option::of(any::<i32>())).prop_map(
        |(observed_generation, plan, target, job_id)| CompressionPolicyStatus {
            observed_generation,
            conditions: Vec::new(),
            plan,
            target,
            job_id,
        },
    );
    (spec, option::of(status)).prop_map(|(spec, status)| CompressionPolicy {
        metadata: ObjectMeta::default(),
        spec,
        status,
    })
}

fn retention() -> impl Strategy<Value = RetentionPolicy> {
    let spec = (target_ref(), age(), schedule(), any::<bool>(), deletion()).prop_map(
        |(target_ref, drop_after, schedule, paused, deletion_policy)| RetentionPolicySpec {
            target_ref,
            drop_after,
            schedule,
            paused,
            deletion_policy,
        },
    );
    let status = (option::of(any::<i64>()), plan(), target(), option::of(any::<i32>())).prop_map(
        |(observed_generation, plan, target, job_id)| RetentionPolicyStatus {
            observed_generation,
            conditions: Vec::new(),
            plan,
            target,
            job_id,
        },
    );
    (spec, option::of(status)).prop_map(|(spec, status)| RetentionPolicy {
        metadata: ObjectMeta::default(),
        spec,
        status,
    })
}

fn aggregate() -> impl Strategy<Value = ContinuousAggregate> {
    let refresh = (option::of(age()), option::of(age()), schedule(), any::<bool>()).prop_map(
        |(start_offset, end_offset, schedule, paused)| RefreshPolicy { start_offset, end_offset, schedule, paused },
    );
    let deletion = select(vec![AggregateDeletion::Retain, AggregateDeletion::Delete]);
    let spec = (database_ref(), text(), text(), text(), option::of(any::<bool>()), option::of(refresh), deletion)
        .prop_map(|(database_ref, schema, name, query, real_time, refresh_policy, deletion_policy)| {
            ContinuousAggregateSpec { database_ref, schema, name, query, real_time, refresh_policy, deletion_policy }
        });
    let status =
        (option::of(any::<i64>()), plan(), option::of(any::<i32>())).prop_map(|(observed_generation, plan, job_id)| {
            ContinuousAggregateStatus { observed_generation, conditions: Vec::new(), plan, job_id }
        });
    (spec, option::of(status)).prop_map(|(spec, status)| ContinuousAggregate {
        metadata: ObjectMeta::default(),
        spec,
        status,
    })
}

fn database() -> impl Strategy<Value = TimescaleDatabase> {
    let mode =
        select(vec![TlsMode::Disable, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull]);
    let ca = option::of((text(), text()).prop_map(|(name, key)| SecretKeyRef { name, key }));
    let tls = (mode, ca).prop_map(|(mode, ca_secret_ref)| Tls { mode, ca_secret_ref });
    let connection = (text(), option::of(text()), option::of(any::<i32>()), option::of(text()), tls).prop_map(
        |(name, host, port, database, tls)| Connection { secret_ref: SecretRef { name }, host, port, database, tls },
    );
    let deletion = select(vec![DatabaseDeletion::Delete, DatabaseDeletion::Orphan]);
    let mode = select(vec![Mode::Enforce, Mode::Observe]);
    let spec = (connection, mode, age(), age(), any::<i32>(), any::<i32>(), deletion).prop_map(
        |(
            connection,
            mode,
            resync_interval,
            statistics_interval,
            max_connections,
            max_immediate_drop_percent,
            deletion_policy,
        )| TimescaleDatabaseSpec {
            connection,
            mode,
            resync_interval,
            statistics_interval,
            max_connections,
            guards: Guards { max_immediate_drop_percent },
            deletion_policy,
        },
    );
    let status = (
        option::of(any::<i64>()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(any::<i64>()),
        option::of(any::<i64>()),
    )
        .prop_map(
            |(observed_generation, postgres_version, timescaledb_version, license, resources, resources_in_sync)| {
                TimescaleDatabaseStatus {
                    observed_generation,
                    conditions: Vec::new(),
                    postgres_version,
                    timescaledb_version,
                    license,
                    resources,
                    resources_in_sync,
                }
            },
        );
    (spec, option::of(status)).prop_map(|(spec, status)| TimescaleDatabase {
        metadata: ObjectMeta::default(),
        spec,
        status,
    })
}

fn survives<K: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    kind: &str,
    object: &K,
) -> Result<(), TestCaseError> {
    let value = serde_json::to_value(object).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(schema::violations(kind, &value), Vec::<String>::new());
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
