//! The monitoring views and functions: what they show of chunks that were planted, and how they come and go.

use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::{status::Reason, types::SqlName},
    error::{Class, Failure},
    plan::monitoring_schema::{Cause, Decision, Install, VERSION, decide},
};

use super::driver::{Database, assert_says};
use crate::support::Result;

/// A schema for the views, which nobody else uses.
struct Views {
    db: Database,
    schema: SqlName,
}

impl std::ops::Deref for Views {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.db
    }
}

impl Views {
    async fn new() -> Result<Self> {
        let db = Database::shared().await?;
        let schema = format!("views_of_{}", db.schema).parse()?;
        Ok(Self { db, schema })
    }

    async fn installed() -> Result<Self> {
        let views = Self::new().await?;
        views.install().await?;
        Ok(views)
    }

    async fn install(&self) -> Result<(), Failure> {
        self.session.install_monitoring(&self.schema).await
    }

    async fn decision(&self) -> Result<Decision> {
        Ok(decide(Some(self.schema.as_str()), &self.session.observe(&[]).await?.server.monitoring))
    }

    fn to_install(&self, cause: Cause) -> Decision {
        Decision::Install(Install { schema: self.schema.clone(), cause })
    }

    async fn uninstall(&self) -> Result<()> {
        self.server.run_script("monitoring/uninstall.sql", &[("schema", self.schema.as_str())]).await
    }

    /// `$views` stands for the quoted schema.
    fn there(&self, sql: &str) -> String {
        sql.replace("$views", &format!("\"{}\"", self.schema.as_str().replace('"', "\"\"")))
    }

    async fn change(&self, sql: &str) -> Result<()> {
        self.run(&self.there(sql)).await
    }

    /// The one row of the view about the table.
    async fn of(&self, view: &str, table: &str) -> Result<Value> {
        let name = if view == "aggregate_status" { "view_name" } else { "table_name" };
        let query = format!("SELECT * FROM $views.{view} WHERE schema_name = '$schema' AND {name} = '{table}'");
        self.row(&self.there(&query)).await
    }

    /// Who has connected sees them; nothing is left of them.
    async fn end(self) -> Result<()> {
        self.uninstall().await?;
        let query =
            format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", self.schema.as_str().replace('\'', "''"));
        assert_eq!(self.one::<i64>(&query).await?, 0);
        Ok(())
    }
}

/// A chunk for each of the last 20 days, the three oldest compressed. Policies that are paused: of the chunks whose whole
/// range is older than their age, the eighth day before today is the first for compression, the eleventh for retention.
const METRIC: &str = "
    CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8);
    SELECT public.create_hypertable('metric', 'ts', chunk_time_interval => interval '1 day');
    INSERT INTO metric SELECT now() - n * interval '1 day', d, n FROM generate_series(0, 19) n, generate_series(1, 50) d;
    ALTER TABLE metric SET (timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'ts DESC');
    SELECT public.compress_chunk(c) FROM (SELECT c FROM public.show_chunks('metric') c ORDER BY c::oid) c, LATERAL (
        SELECT range_start FROM timescaledb_information.chunks
        WHERE format('%I.%I', chunk_schema, chunk_name)::regclass = c
    ) r WHERE r.range_start < now() - interval '17 days';
    BEGIN;
    SELECT public.alter_job(public.add_compression_policy('metric', interval '7 days', schedule_interval => interval '12 hours'), scheduled => false);
    SELECT public.alter_job(public.add_retention_policy('metric', interval '10 days'), scheduled => false);
    COMMIT;";

#[tokio::test]
async fn the_views_show_what_was_planted() -> Result<()> {
    let views = Views::installed().await?;
    views.run(METRIC).await?;

    let chunks = views.of("chunk_statistics", "metric").await?;
    assert_eq!(chunks["kind"], "Hypertable");
    assert_eq!((&chunks["chunks"], &chunks["compressed_chunks"]), (&json!(20), &json!(3)), "{chunks}");
    assert_eq!(chunks["compressed_percent"].as_f64(), Some(15.0));
    assert_eq!(chunks["chunk_interval"], "1 day");
    let bytes: i64 = views.one("SELECT public.hypertable_size('metric')").await?;
    // The root's own empty pages are in the one and not in the other.
    let root: i64 = views.one("SELECT pg_total_relation_size('metric')").await?;
    assert_eq!(chunks["total_bytes"].as_i64(), Some(bytes - root), "{chunks}");

    let compression = views.of("compression_statistics", "metric").await?;
    assert_eq!((&compression["segment_by"], &compression["order_by"]), (&json!("device"), &json!("ts DESC")));
    assert_eq!((&compression["compressed_chunks"], &compression["uncompressed_chunks"]), (&json!(3), &json!(17)));
    let (before, after): (i64, i64) = (
        views.one("SELECT before_compression_total_bytes FROM public.hypertable_compression_stats('metric')").await?,
        views.one("SELECT after_compression_total_bytes FROM public.hypertable_compression_stats('metric')").await?,
    );
    assert_eq!(
        (compression["before_bytes"].as_i64(), compression["after_bytes"].as_i64()),
        (Some(before), Some(after))
    );

    let job = views.of("compression_jobs", "metric").await?;
    assert_eq!((&job["chunks_to_compress"], &job["chunks_overdue"]), (&json!(9), &json!(8)), "{job}");
    assert_eq!((&job["health"], &job["reason"]), (&json!("warning"), &json!("paused")));

    let retention = views.of("retention_policies", "metric").await?;
    assert_eq!((&retention["chunks"], &retention["eligible_chunks"]), (&json!(20), &json!(9)), "{retention}");
    assert!(retention["eligible_bytes"].as_i64() > Some(0));
    let policy: i64 =
        views.one("SELECT count(*) FROM public.show_chunks('metric', older_than => interval '10 days')").await?;
    assert_eq!(policy, 9);

    let ages = views.there(
        "SELECT age_from, chunks, compressed_chunks FROM $views.data_age WHERE schema_name = '$schema' ORDER BY age_from",
    );
    let ages: Vec<_> =
        views.rows(&ages).await?.iter().map(|age| (age["chunks"].clone(), age["compressed_chunks"].clone())).collect();
    assert_eq!(ages, [(json!(2), json!(0)), (json!(6), json!(0)), (json!(12), json!(3))]);
    views.end().await
}

#[tokio::test]
async fn times_of_every_type_are_measured_as_their_policies_measure_them() -> Result<()> {
    let views = Views::installed().await?;
    for (table, column, value) in [
        ("by_date", "date", "current_date - n"),
        ("by_timestamp", "timestamp", "now()::timestamp - n * interval '1 day'"),
        ("by_timestamptz", "timestamptz", "now() - n * interval '1 day'"),
    ] {
        views
            .run(&format!(
                "CREATE TABLE {table} (ts {column} NOT NULL);
                 SELECT public.create_hypertable('{table}', 'ts', chunk_time_interval => interval '1 day');
                 INSERT INTO {table} SELECT {value} FROM generate_series(0, 9) n;
                 BEGIN; SELECT public.alter_job(public.add_retention_policy('{table}', interval '5 days'), scheduled => false); COMMIT"
            ))
            .await?;
        let count = format!("SELECT count(*) FROM public.show_chunks('{table}', older_than => interval '5 days')");
        let policy: i64 = views.one(&count).await?;
        let shown = views.of("retention_policies", table).await?;
        assert_eq!(shown["eligible_chunks"].as_i64(), Some(policy), "{shown}");
        assert!(policy > 0);
    }
    for column in ["smallint", "int", "bigint"] {
        let table = format!("by_{column}");
        views
            .run(&format!(
                "CREATE TABLE {table} (t {column} NOT NULL);
                 SELECT public.create_hypertable('{table}', 't', chunk_time_interval => 10);
                 CREATE FUNCTION now_{table}() RETURNS {column} LANGUAGE sql STABLE AS 'SELECT 100::{column}';
                 SELECT public.set_integer_now_func('{table}', 'now_{table}');
                 INSERT INTO {table} SELECT generate_series(0, 99);
                 ALTER TABLE {table} SET (timescaledb.compress);
                 BEGIN;
                 SELECT public.alter_job(public.add_retention_policy('{table}', {column} '75'), scheduled => false);
                 SELECT public.alter_job(public.add_compression_policy('{table}', {column} '30'), scheduled => false);
                 COMMIT"
            ))
            .await?;
        let retention = views.of("retention_policies", &table).await?;
        assert_eq!(
            (&retention["eligible_chunks"], &retention["eligible_to_integer"]),
            (&json!(2), &json!(20)),
            "{retention}"
        );
        assert_eq!(views.of("compression_jobs", &table).await?["chunks_to_compress"], 7);
        assert_eq!(views.of("chunk_statistics", &table).await?["newest_integer"], 100);
    }
    views.end().await
}

#[tokio::test]
async fn chunks_are_compressed_and_decompressed_for_real() -> Result<()> {
    let views = Views::installed().await?;
    views.run(METRIC).await?;
    let compressed =
        "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_schema = '$schema' AND is_compressed";
    views.change("CALL $views.compress_eligible_chunks('metric', 2)").await?;
    assert_eq!(views.one::<i64>(compressed).await?, 5);
    views.change("CALL $views.compress_eligible_chunks('metric')").await?;
    assert_eq!(views.one::<i64>(compressed).await?, 12);
    assert_eq!(views.of("compression_jobs", "metric").await?["chunks_to_compress"], 0);

    let chunk = "(SELECT min(c::oid)::regclass FROM public.show_chunks('metric', older_than => interval '15 days') c)";
    let sizes = views.row(&views.there(&format!("SELECT * FROM $views.decompress_one_chunk({chunk})"))).await?;
    assert_eq!(views.one::<i64>(compressed).await?, 11, "{sizes}");
    views.row(&views.there(&format!("SELECT * FROM $views.compress_one_chunk({chunk})"))).await?;
    assert_eq!(views.one::<i64>(compressed).await?, 12);
    assert_eq!(views.one::<i64>("SELECT count(*) FROM metric").await?, 1000);

    let error = views.change("SELECT $views.compress_one_chunk('metric')").await.expect_err("a hypertable is no chunk");
    assert_says(&format!("{error:?}"), &["metric is not a chunk"]);
    views.run("SELECT public.remove_compression_policy('metric')").await?;
    let error = views.change("CALL $views.compress_eligible_chunks('metric')").await.expect_err("no age to go by");
    assert_says(&format!("{error:?}"), &["metric has no compression policy"]);
    views.end().await
}

#[tokio::test]
async fn an_aggregate_lags_until_it_is_refreshed_and_loses_nothing_by_it() -> Result<()> {
    let views = Views::installed().await?;
    views.run(METRIC).await?;
    views
        .run(
            "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS
                SELECT public.time_bucket('1 day', ts) AS day, count(*) AS n FROM metric GROUP BY 1 WITH NO DATA",
        )
        .await?;
    assert_eq!(views.of("aggregate_status", "daily").await?["reason"], "has no refresh policy");
    views
        .run("SELECT public.add_continuous_aggregate_policy('daily', interval '19 days', interval '1 hour', interval '1 hour',
                initial_start => now() + interval '1 day')")
        .await?;
    let lag = views.there(
        "SELECT extract(epoch FROM lag)::float8 / 86400 FROM $views.aggregate_status WHERE schema_name = '$schema'",
    );
    assert!(views.one::<f64>(&lag).await? > 15.0, "nothing is materialized");
    views.change("CALL $views.refresh_aggregate('daily', NULL, (current_date - 4)::text)").await?;
    let behind = views.one::<f64>(&lag).await?;
    assert!(behind > 0.0 && behind < 5.0, "{behind}");
    assert_eq!(views.of("aggregate_status", "daily").await?["reason"], "is behind its schedule");
    views.change("CALL $views.refresh_aggregate('daily', NULL, NULL)").await?;
    assert_eq!(views.one::<f64>(&lag).await?, 0.0);

    views.run("SELECT public.drop_chunks('metric', older_than => interval '10 days')").await?;
    let days = "SELECT count(*) FROM daily";
    let held: i64 = views.one(days).await?;
    let error = views.change("CALL $views.refresh_aggregate('daily', NULL, NULL)").await.expect_err("rows are gone");
    assert_says(&format!("{error:?}"), &["are gone from what", "allow_data_loss"]);
    views.change("CALL $views.refresh_aggregate('daily', (current_date - 5)::text, NULL)").await?;
    assert_eq!(views.one::<i64>(days).await?, held);
    views.change("CALL $views.refresh_aggregate('daily', NULL, NULL, allow_data_loss => true)").await?;
    assert_eq!(views.one::<i64>(days).await?, 11);
    views.end().await
}

#[tokio::test]
async fn indexes_are_summed_up_over_chunks_and_missing_ones_are_named() -> Result<()> {
    let views = Views::installed().await?;
    views
        .run("CREATE TABLE device (id int PRIMARY KEY); INSERT INTO device SELECT generate_series(1, 50);
              CREATE TABLE reading (ts timestamptz NOT NULL, device int NOT NULL REFERENCES device, value float8);
              SELECT public.create_hypertable('reading', 'ts', chunk_time_interval => interval '1 day', create_default_indexes => false);
              INSERT INTO reading SELECT now() - n * interval '1 day', d, n FROM generate_series(0, 4) n, generate_series(1, 50) d")
        .await?;
    let missing =
        views.there("SELECT reason, columns FROM $views.missing_indexes WHERE schema_name = '$schema' ORDER BY reason");
    assert_eq!(
        views.rows(&missing).await?,
        [
            json!({"reason": "foreign key without an index", "columns": "device"}),
            json!({"reason": "no index with the time column", "columns": "ts"}),
        ]
    );
    views
        .run("CREATE INDEX reading_device ON reading (device, ts DESC); CREATE INDEX twin ON reading (device, ts DESC)")
        .await?;
    assert_eq!(views.rows(&missing).await?.len(), 0);
    let usage = views.there(
        "SELECT definition, is_valid, bytes > 0 AS stored FROM $views.index_usage WHERE schema_name = '$schema' AND table_name = 'reading'",
    );
    let each = json!({"definition": "btree (device, ts DESC)", "is_valid": true, "stored": true});
    assert_eq!(views.rows(&usage).await?, [each.clone(), each], "each chunk's index counts for one of the two");
    views.end().await
}

#[tokio::test]
async fn a_role_sees_the_tables_that_it_may_read() -> Result<()> {
    let views = Views::installed().await?;
    views.run(METRIC).await?;
    let role = format!("reader_{:016x}", fastrand::u64(..));
    let guest = views.server.connect().await?;
    let grants = "CREATE ROLE $role; GRANT USAGE ON SCHEMA $views TO $role; GRANT SELECT ON ALL TABLES IN SCHEMA $views TO $role;
        GRANT USAGE ON SCHEMA $schema TO $role; SET ROLE $role";
    guest.batch_execute(&views.here(&views.there(grants)).replace("$role", &role)).await?;
    let seen = async |view: &str| -> Result<i64> {
        let query =
            views.here(&views.there(&format!("SELECT count(*) FROM $views.{view} WHERE schema_name = '$schema'")));
        Ok(guest.query_one(&query, &[]).await?.try_get(0)?)
    };
    let all = [
        "chunk_statistics",
        "compression_statistics",
        "compression_jobs",
        "retention_policies",
        "data_age",
        "index_usage",
    ];
    for view in all {
        assert_eq!(seen(view).await?, 0, "{view}");
    }
    views.run_as_superuser(&format!("GRANT SELECT ON metric TO {role}")).await?;
    for view in all {
        assert!(seen(view).await? > 0, "{view}");
    }
    let call = views.here(&views.there("CALL $views.compress_eligible_chunks('$schema.metric')"));
    let error = guest.batch_execute(&call).await.expect_err("only the owner may");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error:?}");
    guest.batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    views.end().await
}

#[tokio::test]
async fn installing_again_is_nothing_and_what_was_changed_is_put_back() -> Result<()> {
    let views = Views::new().await?;
    assert_eq!(views.decision().await?, views.to_install(Cause::Missing));
    views.install().await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION));
    views.install().await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION));

    for change in [
        "DROP VIEW $views.chunk_statistics",
        "DROP PROCEDURE $views.refresh_aggregate",
        "CREATE OR REPLACE FUNCTION $views._bigint(value text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "ALTER FUNCTION $views._chunks() RESET search_path",
        "DROP VIEW $views.data_age; CREATE VIEW $views.data_age AS SELECT 1 AS other",
    ] {
        views.change(change).await?;
        assert_eq!(views.decision().await?, views.to_install(Cause::Changed), "{change}");
        views.install().await?;
        assert_eq!(views.decision().await?, Decision::Installed(VERSION), "{change}");
    }
    views.change("SELECT * FROM $views.chunk_statistics").await?;
    // What others keep in the schema is theirs.
    views.change("CREATE VIEW $views.mine AS SELECT 1 AS one").await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION));
    views.uninstall().await?;
    assert_eq!(views.one::<i32>(&views.there("SELECT one FROM $views.mine")).await?, 1);
    views.change("DROP SCHEMA $views CASCADE").await
}

#[tokio::test]
async fn an_older_version_is_upgraded_and_a_later_one_is_left() -> Result<()> {
    let views = Views::installed().await?;
    let mark = |version: u32| {
        format!("COMMENT ON SCHEMA $views IS 'timescaledb-policy-operator: monitoring views {version} 0'")
    };
    views.change(&mark(0)).await?;
    views.change("CREATE VIEW mine AS SELECT schema_name, chunks FROM $views.chunk_statistics").await?;
    assert_eq!(views.decision().await?, views.to_install(Cause::Older(0)));
    views.install().await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION));
    views.run("SELECT * FROM mine").await?;

    views.change(&mark(VERSION + 1)).await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION + 1));
    let failure = views.install().await.expect_err("it was put back to an older version");
    assert_says(&failure.message, &["holds version 2", "this is version 1"]);
    views.change("DROP VIEW mine").await?;
    views.end().await
}

#[tokio::test]
async fn what_others_built_on_a_view_is_not_dropped() -> Result<()> {
    let views = Views::installed().await?;
    views.change("DROP VIEW $views.data_age; CREATE VIEW $views.data_age AS SELECT 1 AS other; CREATE VIEW mine AS SELECT * FROM $views.data_age").await?;
    let failure = views.install().await.expect_err("the view cannot be replaced");
    assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{failure}");
    assert_says(&failure.message, &["data_age has other columns now", "mine depends on view"]);
    assert_eq!(views.one::<i32>("SELECT other FROM mine").await?, 1);
    views.change("CREATE VIEW also_mine AS SELECT * FROM $views.chunk_statistics").await?;
    let error = views.uninstall().await.expect_err("it was dropped");
    assert_says(&format!("{error:?}"), &["others have built on the monitoring views", "also_mine depends on"]);
    views.run("DROP VIEW mine, also_mine").await?;
    views.install().await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION));
    views.end().await
}

#[tokio::test]
async fn any_name_of_a_schema_will_do() -> Result<()> {
    for name in
        ["it's \"quoted\"", "a b; DROP SCHEMA public", "$$ $body$ $install$ %I %s @here@", "back\\slash", "Ünïcode"]
    {
        let views = Views { db: Database::shared().await?, schema: name.parse()? };
        views.install().await?;
        assert_eq!(views.decision().await?, Decision::Installed(VERSION), "{name}");
        views.run(METRIC).await?;
        assert_eq!(views.of("compression_jobs", "metric").await?["chunks_to_compress"], 9, "{name}");
        views.change("CALL $views.compress_eligible_chunks('metric', 1)").await?;
        assert_eq!(views.of("compression_jobs", "metric").await?["chunks_to_compress"], 8, "{name}");
        views.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_schema_that_holds_something_else_is_refused() -> Result<()> {
    let views = Views::new().await?;
    let here: SqlName = views.db.schema.parse()?;
    views.run("CREATE TABLE chunk_statistics (mine int)").await?;
    let failure = views.session.install_monitoring(&here).await.expect_err("it was installed among the application's");
    assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{failure}");
    assert_says(&failure.message, &["exists and holds something else"]);
    assert_eq!(
        views
            .one::<i64>("SELECT count(*) FROM pg_class WHERE relnamespace = '$schema'::regnamespace AND relkind = 'v'")
            .await?,
        0
    );
    let extension: SqlName = "_timescaledb_cache".parse()?;
    views.session.install_monitoring(&extension).await.expect_err("it belongs to the extension");
    Ok(())
}

#[tokio::test]
async fn psql_installs_the_same_and_the_operator_leaves_it() -> Result<()> {
    let views = Views::new().await?;
    views.server.run_script("monitoring/install.sql", &[("schema", views.schema.as_str())]).await?;
    assert_eq!(views.decision().await?, Decision::Installed(VERSION));
    let failure = views.install().await.expect_err("the schema is the superuser's");
    assert_eq!((failure.class, failure.reason), (Class::User, Reason::PermissionDenied), "{failure}");
    assert_says(&failure.message, &["belongs to", "GRANT"]);
    views.end().await
}
