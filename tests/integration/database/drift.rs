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

/// What the first test leaves out, because it came later or cannot be on the same table.
fn more_resources(schema: &str) -> Vec<Value> {
    let start = json!({"initialStart": "2036-01-01T02:00:00Z"});
    let hourly = json!({"interval": "1 hour", "initialStart": "2036-01-01T02:00:00Z"});
    let on_view = json!({"kind": "ContinuousAggregate", "name": "hourly"});
    let query = "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric GROUP BY 1, 2";
    let mut resources = vec![
        hypertable(
            "metric",
            json!({
                "chunkSkipping": ["n"], "reorder": {"index": "by_device", "schedule": start}, "tablespaces": ["pg_default"],
                "indexes": [{"name": "by_device", "columns": [{"name": "device"}]}, {"name": "once", "unique": true, "columns": [{"name": "ts"}, {"name": "device"}]}]
            }),
        ),
        compression(
            "metric",
            json!({"segmentBy": [], "orderBy": [{"column": "ts"}], "mergeInterval": "14 days", "sparseIndexes": [{"kind": "Bloom", "columns": ["place"]}], "schedule": start}),
        ),
        hypertable("counted", json!({"chunkInterval": 100, "integerNowFunction": format!("{schema}.now_8")})),
        retention("counted", json!({"dropAfter": 5000, "paused": true, "schedule": start})),
        aggregate(
            "hourly",
            query,
            json!({
                "chunkInterval": "20 days", "indexes": [{"name": format!("of_{schema}"), "columns": [{"name": "value"}]}],
                "refreshPolicy": {"startOffset": "30 days", "endOffset": "1 day", "includeTieredData": false, "bucketsPerBatch": 5, "maxBatchesPerExecution": 6, "refreshNewestFirst": false, "schedule": hourly}
            }),
        ),
        compression(
            "compressed",
            json!({"targetRef": on_view, "compressAfter": "60 days", "segmentBy": ["device"], "orderBy": [{"column": "hour"}], "schedule": start}),
        ),
        retention("kept", json!({"targetRef": on_view, "dropAfter": "90 years", "schedule": start})),
    ];
    resources[2]["metadata"]["name"] = "counted".into();
    resources
}

/// The part of the catalog that these are about, without ids.
async fn more(db: &Database) -> Result<Vec<Value>> {
    db.rows(
        "WITH mine AS (SELECT id, table_name::text AS name, format('%I.%I', schema_name, table_name)::regclass AS oid FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema'
            UNION ALL SELECT mat_hypertable_id, user_view_name::text, format('%I.%I', h.schema_name, h.table_name)::regclass
                FROM _timescaledb_catalog.continuous_agg a JOIN _timescaledb_catalog.hypertable h ON h.id = a.mat_hypertable_id WHERE user_view_schema = '$schema')
         SELECT 'dimension' AS what, jsonb_build_array(m.name, d.column_name, d.interval_length, d.compress_interval_length, d.integer_now_func) AS value FROM mine m JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = m.id
         UNION ALL SELECT 'settings', jsonb_build_array(m.name, s.segmentby, s.orderby, s.orderby_desc, (SELECT jsonb_agg(e ORDER BY e::text) FROM jsonb_array_elements(nullif(to_jsonb(s) -> 'index', 'null')) e WHERE e ->> 'source' = 'config'))
            FROM mine m JOIN _timescaledb_catalog.compression_settings s ON s.relid = m.oid
         UNION ALL SELECT 'job', jsonb_build_array(m.name, j.proc_name, j.owner::text, j.config - 'hypertable_id' - 'mat_hypertable_id', (j.config ->> 'hypertable_id')::int <> m.id, j.schedule_interval, j.initial_start, j.scheduled)
            FROM mine m JOIN _timescaledb_config.bgw_job j ON j.hypertable_id = m.id
         UNION ALL SELECT 'index', jsonb_build_array(m.name, i.indisvalid, i.indisunique, split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2)) FROM mine m JOIN pg_index i ON i.indrelid = m.oid
         UNION ALL SELECT 'skipping', jsonb_build_array(m.name, c.column_name) FROM mine m JOIN _timescaledb_catalog.chunk_column_stats c ON c.hypertable_id = m.id WHERE coalesce(c.chunk_id, 0) = 0
         UNION ALL SELECT 'tablespace', jsonb_build_array(m.name, t.tablespace_name) FROM mine m JOIN _timescaledb_catalog.tablespace t ON t.hypertable_id = m.id
         ORDER BY 1, 2",
    )
    .await
}

#[tokio::test]
async fn what_somebody_who_can_only_read_observes_is_what_is_corrected() -> Result<()> {
    let db = Database::shared().await?;
    let (reader, other) = (format!("reader_{}", db.schema), format!("other_{}", db.schema));
    let password = db.server.password_of_roles().replace('\'', "''");
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, place text, value float8, n int);
         CREATE TABLE counted (ts bigint NOT NULL, value float8);
         CREATE FUNCTION now_8() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1000::bigint';
         CREATE FUNCTION now_9() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 999::bigint'",
    )
    .await?;
    db.run_as_superuser(&format!(
        "CREATE ROLE {reader} LOGIN PASSWORD '{password}'; GRANT USAGE ON SCHEMA $schema TO {reader};
         GRANT SELECT ON ALL TABLES IN SCHEMA $schema TO {reader}; CREATE ROLE {other} LOGIN; GRANT ALL ON SCHEMA $schema TO {other}"
    ))
    .await?;
    let resources = || more_resources(&db.schema);
    db.converge(resources()).await?;
    db.run(&format!("GRANT SELECT ON hourly TO {reader}; INSERT INTO metric SELECT timestamptz '2026-01-01' + i * interval '1 day', 1, 'a', i, i FROM generate_series(1, 5) i; INSERT INTO counted VALUES (1, 1)")).await?;
    let mut place = db.endpoint();
    place.config.user(&reader);
    let observer = db.through(&place).await?;
    let as_wanted = more(&db).await?;
    assert_eq!(as_wanted.len(), 19, "{as_wanted:#?}");

    let id = |relation: &str| {
        format!(
            "(SELECT coalesce((SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema' AND user_view_name = '{relation}'),
                (SELECT id FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema' AND table_name = '{relation}')))"
        )
    };
    let job = |relation: &str, kind: &str, change: &str| {
        format!(
            "SELECT alter_job(j.id, {change}) FROM _timescaledb_config.bgw_job j WHERE j.proc_name = 'policy_{kind}' AND j.hypertable_id = {}",
            id(relation)
        )
    };
    let jobs = if db.server.is_native() { "_timescaledb_catalog.bgw_job" } else { "_timescaledb_config.bgw_job" };
    let refresh = "refresh_continuous_aggregate";
    let drifts = vec![
        ("BEGIN; SET LOCAL timescaledb.enable_chunk_skipping = on; SELECT disable_chunk_skipping('metric', 'n'); COMMIT".to_owned(), vec!["set_chunk_skipping"]),
        ("BEGIN; SET LOCAL timescaledb.enable_chunk_skipping = on; SELECT enable_chunk_skipping('metric', 'ts'); COMMIT".to_owned(), vec!["set_chunk_skipping"]),
        ("SELECT detach_tablespace('pg_default', 'metric')".to_owned(), vec!["attach_tablespace"]),
        ("SELECT remove_reorder_policy('metric')".to_owned(), vec!["add_policy"]),
        (job("metric", "reorder", "config => jsonb_set(j.config, '{index_name}', '\"once\"')"), vec!["alter_policy"]),
        (job("metric", "reorder", "scheduled => false"), vec!["alter_policy"]),
        ("DROP INDEX once".to_owned(), vec!["create_index"]),
        ("DROP INDEX by_device; CREATE INDEX tmp ON metric (device, value); DO $$ BEGIN EXECUTE format('COMMENT ON INDEX %I IS %L', 'tmp', obj_description('once'::regclass)); END $$; ALTER INDEX tmp RENAME TO by_device".to_owned(), vec!["build_index", "place_index"]),
        ("CREATE INDEX left_over ON metric (value); DO $$ BEGIN EXECUTE format('COMMENT ON INDEX %I IS %L', 'left_over', obj_description('once'::regclass)); END $$".to_owned(), vec!["drop_index"]),
        ("ALTER TABLE metric SET (timescaledb.compress_chunk_time_interval = '0')".to_owned(), vec!["set_compression"]),
        ("ALTER TABLE metric SET (timescaledb.compress_chunk_time_interval = '28 days')".to_owned(), vec!["set_compression"]),
        ("ALTER TABLE metric SET (timescaledb.compress_index = '')".to_owned(), vec!["set_compression"]),
        ("ALTER TABLE metric SET (timescaledb.compress_index = 'bloom(place), minmax(value)')".to_owned(), vec!["set_compression"]),
        ("ALTER TABLE metric SET (timescaledb.compress_segmentby = 'device')".to_owned(), vec!["set_compression"]),
        ("BEGIN; SELECT remove_compression_policy('metric'); SELECT add_compression_policy('metric', compress_created_before => interval '7 days', initial_start => '2036-01-01 02:00Z'); COMMIT".to_owned(), vec!["replace_policy"]),
        ("SELECT set_integer_now_func('counted', 'now_9', replace_if_exists => true)".to_owned(), vec!["set_integer_now"]),
        ("SELECT set_chunk_time_interval('counted', 200)".to_owned(), vec!["set_chunk_interval"]),
        (job("counted", "retention", "config => jsonb_set(j.config, '{drop_after}', '6000')"), vec!["alter_policy"]),
        ("SELECT remove_retention_policy('counted')".to_owned(), vec!["add_policy"]),
        (job("hourly", refresh, "config => j.config - 'buckets_per_batch'"), vec!["alter_policy"]),
        (job("hourly", refresh, "config => jsonb_set(j.config, '{buckets_per_batch}', '50')"), vec!["alter_policy"]),
        (job("hourly", refresh, "config => jsonb_set(j.config, '{refresh_newest_first}', 'true')"), vec!["alter_policy"]),
        (job("hourly", refresh, "config => jsonb_set(j.config, '{include_tiered_data}', 'true')"), vec!["alter_policy"]),
        (job("hourly", refresh, "config => jsonb_set(j.config, '{max_batches_per_execution}', '7')"), vec!["alter_policy"]),
        ("SELECT set_chunk_time_interval('hourly', interval '30 days')".to_owned(), vec!["set_chunk_interval"]),
        ("ALTER MATERIALIZED VIEW hourly SET (timescaledb.compress_segmentby = '', timescaledb.compress_orderby = 'hour')".to_owned(), vec!["set_compression"]),
        ("SELECT remove_compression_policy('hourly')".to_owned(), vec!["add_policy"]),
        ("SELECT remove_retention_policy('hourly')".to_owned(), vec!["add_policy"]),
        (job("hourly", "compression", "scheduled => false"), vec!["alter_policy"]),
        ("DROP INDEX _timescaledb_internal.of_$schema".to_owned(), vec!["create_index"]),
        // Somebody has changed whose the job is, or what it is on.
        (db.as_superuser(&format!("UPDATE {jobs} SET owner = '{other}'::regrole WHERE proc_name = 'policy_reorder' AND hypertable_id = {}", id("metric"))), vec!["replace_policy"]),
        (db.as_superuser(&format!("UPDATE {jobs} SET owner = '{other}'::regrole WHERE proc_name = 'policy_compression' AND hypertable_id = {}", id("metric"))), vec!["replace_policy"]),
        (db.as_superuser(&format!("UPDATE {jobs} SET owner = '{other}'::regrole WHERE proc_name = 'policy_{refresh}' AND hypertable_id = {}", id("hourly"))), vec!["replace_policy"]),
        (job("counted", "retention", &format!("config => jsonb_set(j.config, '{{hypertable_id}}', to_jsonb({}))", id("metric"))), vec!["replace_policy"]),
    ];
    for (drift, actions) in drifts {
        db.run(&drift).await.map_err(|e| format!("{drift}: {e}"))?;
        let drifted = more(&db).await?;
        assert_ne!(drifted, as_wanted, "it changed nothing: {drift}");
        let plan = observer.plan(resources().into_iter().chain([database(json!({"mode": "Observe"}))])).await?;
        let shown: Vec<_> = plan
            .verdicts
            .values()
            .filter_map(|verdict| match verdict {
                Verdict::Drifted(held) => Some(held.statements.clone()),
                other => {
                    assert_eq!(other, &Verdict::InSync, "{drift}");
                    None
                }
            })
            .collect();
        assert_eq!(shown.len(), 1, "{drift}: {:?}", plan.verdicts);
        assert_eq!(more(&db).await?, drifted, "{drift}");
        let outcome = db.converge(resources()).await?;
        assert_eq!(outcome.actions(), actions, "{drift}");
        assert_eq!(more(&db).await?, as_wanted, "{drift}");
    }
    drop(observer);
    db.run_as_superuser(&format!("REASSIGN OWNED BY {other} TO CURRENT_USER; DROP OWNED BY {other}, {reader}; DROP ROLE {other}; DROP ROLE {reader}")).await
}
