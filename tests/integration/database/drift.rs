//! Drift: whatever somebody changes by hand, the next plan finds and corrects, and nothing else.

use serde_json::{Value, json};
use timescaledb_policy_operator::plan::step::Verdict;

use super::driver::{Database, aggregate, compression, database, hypertable, retention};
use crate::support::Result;

/// Everything that can be managed, each with a value that is not TimescaleDB's own.
fn resources() -> Vec<Value> {
    let schedule = json!({
        "interval": "6 hours", "initialStart": "2036-01-01T02:00:00Z", "timezone": "Europe/Berlin",
        "maxRuntime": "1 hour", "maxRetries": 4, "retryPeriod": "9 minutes"
    });
    let query = "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric GROUP BY 1, 2";
    vec![
        hypertable(
            "metric",
            json!({
                "chunkInterval": "1 day",
                "spacePartitions": [{"column": "device", "partitions": 3}],
                "indexes": [
                    {"name": "by_device", "columns": [{"name": "device"}, {"name": "ts", "order": "Desc"}]},
                    {"name": "good_ones", "columns": [{"name": "ts"}], "include": ["value"], "where": "value > 0"}
                ]
            }),
        ),
        compression(
            "metric",
            json!({"compressAfter": "7 days", "segmentBy": ["device"], "orderBy": [{"column": "ts", "order": "Desc"}], "schedule": schedule}),
        ),
        retention("metric", json!({"dropAfter": "90 days", "schedule": schedule})),
        aggregate(
            "hourly",
            query,
            json!({"realTime": true, "refreshPolicy": {"startOffset": "30 days", "endOffset": "1 hour", "schedule": schedule}}),
        ),
    ]
}

/// All that the resources speak of, as the catalog has it; without ids, which change when something is made anew.
async fn snapshot(db: &Database) -> Result<Vec<Value>> {
    db.rows(
        "WITH mine AS (SELECT id, 'metric' AS name FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema' AND table_name = 'metric'
            UNION ALL SELECT mat_hypertable_id, user_view_name::text FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema')
         SELECT 'dimension' AS what, to_jsonb(q) AS value FROM (SELECT column_name, time_interval, num_partitions FROM timescaledb_information.dimensions WHERE hypertable_schema = '$schema') q
         UNION ALL SELECT 'settings', to_jsonb(q) FROM (SELECT segmentby, orderby, orderby_desc, orderby_nullsfirst FROM _timescaledb_catalog.compression_settings WHERE relid = 'metric'::regclass) q
         UNION ALL SELECT 'job', to_jsonb(q) FROM (SELECT mine.name, j.proc_name, j.schedule_interval, j.max_runtime, j.max_retries, j.retry_period, j.scheduled, j.fixed_schedule,
                j.initial_start, j.timezone, j.config->>'compress_after' AS compress_after, (j.config->>'drop_after')::interval AS drop_after,
                (j.config->>'start_offset')::interval AS start_offset, (j.config->>'end_offset')::interval AS end_offset
            FROM _timescaledb_config.bgw_job j JOIN mine ON mine.id = j.hypertable_id) q
         UNION ALL SELECT 'aggregate', to_jsonb(q) FROM (SELECT view_name, materialized_only, view_definition FROM timescaledb_information.continuous_aggregates WHERE view_schema = '$schema') q
         UNION ALL SELECT 'index', to_jsonb(q) FROM (SELECT pg_get_indexdef(indexrelid) AS def, indisvalid FROM pg_index WHERE indrelid = 'metric'::regclass) q
         ORDER BY 1, 2",
    )
    .await
}

#[tokio::test]
async fn every_managed_property_that_is_changed_by_hand_is_put_right() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)").await?;
    db.converge(resources()).await?;
    db.run("INSERT INTO metric SELECT now() + n * interval '1 day', n, n FROM generate_series(1, 5) n").await?;
    let as_wanted = snapshot(&db).await?;
    assert_eq!(as_wanted.len(), 9, "{as_wanted:#?}");

    let job = |kind: &str, change: &str| {
        let job = format!(
            "(SELECT j.id FROM _timescaledb_config.bgw_job j WHERE j.proc_name = 'policy_{kind}' AND j.hypertable_id IN (
                SELECT id FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema' AND table_name = 'metric'
                UNION ALL SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema'))"
        );
        // Each change names the time zone, because TimescaleDB erases it otherwise: one thing drifts at a time.
        let zone = if change.contains("timezone") { "" } else { ", timezone => 'Europe/Berlin'" };
        format!("SELECT alter_job({job}, {change}{zone})")
    };
    let config = |kind: &str, key: &str, value: &str| {
        let found = format!("SELECT j.config || '{{\"{key}\": {value}}}' FROM _timescaledb_config.bgw_job j JOIN _timescaledb_catalog.hypertable h ON h.id = j.hypertable_id
            LEFT JOIN _timescaledb_catalog.continuous_agg a ON a.mat_hypertable_id = h.id WHERE j.proc_name = 'policy_{kind}' AND '$schema' IN (h.schema_name, a.user_view_schema)");
        job(kind, &format!("config => ({found})"))
    };
    let mut drifts = vec![
        ("SELECT set_chunk_time_interval('metric', interval '3 days', 'ts')".to_owned(), vec!["set_chunk_interval"]),
        ("SELECT set_number_partitions('metric', 8, 'device')".to_owned(), vec!["set_partitions"]),
        ("DROP INDEX by_device".to_owned(), vec!["build_index"]),
        ("DROP INDEX good_ones, by_device".to_owned(), vec!["build_index", "build_index"]),
        (
            db.as_superuser("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'good_ones'::regclass"),
            vec!["drop_index", "build_index"],
        ),
        ("ALTER TABLE metric SET (timescaledb.compress_segmentby = '')".to_owned(), vec!["set_compression"]),
        ("ALTER TABLE metric SET (timescaledb.compress_orderby = 'value, ts ASC')".to_owned(), vec!["set_compression"]),
        ("SELECT remove_compression_policy('metric')".to_owned(), vec!["add_policy"]),
        (
            "SELECT remove_compression_policy('metric'); ALTER TABLE metric SET (timescaledb.compress = false)"
                .to_owned(),
            vec!["set_compression", "add_policy"],
        ),
        ("SELECT remove_retention_policy('metric')".to_owned(), vec!["add_policy"]),
        ("SELECT remove_continuous_aggregate_policy('hourly')".to_owned(), vec!["add_policy"]),
        (
            "ALTER MATERIALIZED VIEW hourly SET (timescaledb.materialized_only = true)".to_owned(),
            vec!["set_materialized_only"],
        ),
        ("DROP MATERIALIZED VIEW hourly".to_owned(), vec!["create_aggregate", "add_policy"]),
        (config("compression", "compress_after", "\"8 days\""), vec!["alter_policy"]),
        (config("retention", "drop_after", "\"91 days\""), vec!["alter_policy"]),
        (config("retention", "drop_after", "\"60 days\""), vec!["alter_policy"]),
        (config("refresh_continuous_aggregate", "start_offset", "null"), vec!["alter_policy"]),
        (config("refresh_continuous_aggregate", "end_offset", "\"2 hours\""), vec!["alter_policy"]),
    ];
    for kind in ["compression", "retention", "refresh_continuous_aggregate"] {
        let changes = [
            "scheduled => false",
            "schedule_interval => '7 hours'",
            "max_runtime => '2 hours'",
            "max_retries => 5",
            "retry_period => '10 minutes'",
            "initial_start => '2036-01-02 02:00Z', fixed_schedule => true, next_start => '2036-01-02 02:00Z'",
            "fixed_schedule => false, next_start => '2036-01-01 02:00Z'",
            "timezone => 'Asia/Tokyo', next_start => '2036-01-01 02:00Z'",
            "max_retries => 4, timezone => NULL",
        ];
        drifts.extend(changes.into_iter().map(|change| (job(kind, change), vec!["alter_policy"])));
    }
    for (drift, actions) in drifts {
        db.run(&drift).await?;
        assert_ne!(snapshot(&db).await?, as_wanted, "it changed nothing: {drift}");
        let shown = db.plan(resources().into_iter().chain([database(json!({"mode": "Observe"}))])).await?;
        let drifted = shown.verdicts.values().filter(|verdict| matches!(verdict, Verdict::Drifted(_))).count();
        assert_eq!(drifted, 1, "{drift}: {:?}", shown.verdicts);
        assert_eq!(db.converge(resources()).await?.actions(), actions, "{drift}");
        assert_eq!(snapshot(&db).await?, as_wanted, "{drift}");
    }
    Ok(())
}

#[tokio::test]
async fn what_nobody_manages_may_be_changed() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)").await?;
    db.converge(resources()).await?;
    db.run(
        "CREATE INDEX another ON metric (value);
         ALTER TABLE metric ADD COLUMN more text;
         COMMENT ON TABLE metric IS 'ours';
         SELECT add_job('pg_catalog.now', '1 hour');
         CREATE INDEX also ON hourly (value);
         ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress);
         SELECT add_retention_policy('hourly', interval '10 years', initial_start => '2036-01-01')",
    )
    .await?;
    assert_eq!(db.converge(resources()).await?.actions(), [""; 0]);
    Ok(())
}
