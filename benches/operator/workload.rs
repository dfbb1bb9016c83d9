//! Tables, what is said of them in resources, and the same as plain SQL.

use serde_json::{Value, json};

/// The schema of all tables.
pub const SCHEMA: &str = "bench";
/// The kinds of resource that each table has, by their plural.
pub const KINDS: [&str; 4] = ["hypertables", "compressionpolicies", "retentionpolicies", "continuousaggregates"];
/// No job runs while anything is measured.
pub const FIRST_START: &str = "2100-01-01T00:00:00Z";

/// How many tables so many resources are about.
pub fn tables(resources: usize) -> usize {
    resources.div_ceil(KINDS.len())
}

pub fn table(n: usize) -> String {
    format!("t{n:05}")
}

/// The tables, as a migration makes them.
pub fn create_tables(tables: std::ops::Range<usize>) -> String {
    let create =
        |n| format!("CREATE TABLE {SCHEMA}.{} (ts timestamptz NOT NULL, sensor int, value float8);\n", table(n));
    tables.map(create).collect()
}

fn query(table: &str) -> String {
    format!(
        "SELECT time_bucket('1 hour', ts) AS bucket, sensor, avg(value) AS mean, count(*) AS n FROM {SCHEMA}.{table} GROUP BY 1, 2"
    )
}

/// The resources of one table in this database, with the plurals of their kinds.
pub fn resources(database: &str, n: usize) -> [(&'static str, Value); 4] {
    let table = table(n);
    let name = format!("{database}-{table}");
    let target = json!({"kind": "Hypertable", "name": name});
    let schedule = |interval: &str| json!({"interval": interval, "initialStart": FIRST_START});
    let resource = |kind: &str, spec: Value| json!({"apiVersion": "timescaledb-policy.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    [
        (
            KINDS[0],
            resource(
                "Hypertable",
                json!({
                    "databaseRef": {"name": database}, "schema": SCHEMA, "table": table, "timeColumn": "ts",
                    "chunkInterval": "1 day",
                }),
            ),
        ),
        (
            KINDS[1],
            resource(
                "CompressionPolicy",
                json!({
                    "targetRef": target, "compressAfter": "7 days", "segmentBy": ["sensor"],
                    "orderBy": [{"column": "ts", "order": "Desc"}], "schedule": schedule("12 hours"),
                }),
            ),
        ),
        (
            KINDS[2],
            resource(
                "RetentionPolicy",
                json!({"targetRef": target, "dropAfter": "90 days", "schedule": schedule("1 day")}),
            ),
        ),
        (
            KINDS[3],
            resource(
                "ContinuousAggregate",
                json!({
                    "databaseRef": {"name": database}, "schema": SCHEMA, "name": format!("{table}_hourly"),
                    "query": query(&table), "realTime": true, "deletionPolicy": "Retain",
                    "refreshPolicy": {"startOffset": "3 days", "endOffset": "1 hour", "schedule": schedule("1 hour")},
                }),
            ),
        ),
    ]
}

/// The statements that the operator carries out for one table, as its events show them, with the index of the kind in [`KINDS`].
pub fn statements(n: usize) -> [(usize, String); 6] {
    let table = table(n);
    let of = format!("\"{SCHEMA}\".\"{table}\"");
    let view = format!("\"{SCHEMA}\".\"{table}_hourly\"");
    let policy = |call: &str, of: &str, ages: &str, interval: &str| {
        let start = format!("TIMESTAMPTZ '{FIRST_START}'");
        format!(
            "SELECT \"public\".alter_job(\"public\".{call}('{of}'::regclass, {ages}, schedule_interval => INTERVAL '{interval}', initial_start => {start}), initial_start => {start}, fixed_schedule => true, next_start => CASE WHEN {start} > now() THEN {start} END)"
        )
    };
    [
        (
            0,
            format!(
                "SELECT \"public\".create_hypertable('{of}'::regclass, 'ts', chunk_time_interval => INTERVAL '1 day')"
            ),
        ),
        (
            1,
            format!(
                "ALTER TABLE {of} SET (timescaledb.compress, timescaledb.compress_segmentby = '\"sensor\"', timescaledb.compress_orderby = '\"ts\" DESC NULLS FIRST')"
            ),
        ),
        (1, policy("add_compression_policy", &of, "compress_after => INTERVAL '7 days'", "12 hours")),
        (2, policy("add_retention_policy", &of, "drop_after => INTERVAL '90 days'", "1 day")),
        (
            3,
            format!(
                "CREATE MATERIALIZED VIEW {view} WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS\n{}\nWITH NO DATA",
                query(&table)
            ),
        ),
        (
            3,
            policy(
                "add_continuous_aggregate_policy",
                &view,
                "start_offset => INTERVAL '3 days', end_offset => INTERVAL '1 hour'",
                "1 hour",
            ),
        ),
    ]
}
