//! What a session reads of a catalog that it has read before.

use timescaledb_policy_operator::{
    api::{status::Reason, types::Relation},
    catalog::Catalog,
    db::Session,
    error::Class,
    metrics::Metrics,
};

use super::driver::{Database, endpoint};
use crate::support::Result;

/// Each changes something that a pass reads. Those of a superuser begin with `RESET ROLE`.
const CHANGES: &[&str] = &[
    "SELECT public.create_hypertable('metric', 'ts', chunk_time_interval => interval '1 day', create_default_indexes => false)",
    "SELECT public.set_chunk_time_interval('metric', interval '2 days')",
    "SELECT public.add_dimension('metric', 'device', number_partitions => 2)",
    "SELECT public.set_number_partitions('metric', 3)",
    "CREATE INDEX by_device ON metric (device, ts DESC)",
    "ALTER INDEX by_device RENAME TO by_the_device",
    "CREATE UNIQUE INDEX once ON metric (ts, device) INCLUDE (value)",
    "CREATE INDEX good ON metric (ts) WHERE value > 0",
    "CREATE INDEX text_like ON metric (name text_pattern_ops)",
    "CREATE INDEX text_c ON metric (name COLLATE \"C\")",
    "ALTER TABLE metric ADD CONSTRAINT only_once UNIQUE (ts, device)",
    "COMMENT ON INDEX good IS 'timescaledb-policy-operator: 0123'",
    "DROP INDEX text_like",
    "ALTER TABLE metric RENAME COLUMN name TO label",
    "RESET ROLE; UPDATE pg_index SET indisvalid = false WHERE indexrelid = '$schema.text_c'::regclass",
    "ALTER TABLE metric SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')",
    "ALTER TABLE metric SET (timescaledb.compress, timescaledb.compress_segmentby = 'label', timescaledb.compress_orderby = 'ts DESC')",
    "ALTER TABLE metric SET (timescaledb.compress_chunk_time_interval = '8 days')",
    "ALTER TABLE metric SET (timescaledb.sparse_index = 'bloom(value)')",
    "SET timescaledb.enable_chunk_skipping = on; SELECT public.enable_chunk_skipping('metric', 'batch')",
    "SELECT public.disable_chunk_skipping('metric', 'batch')",
    "SELECT public.add_compression_policy('metric', interval '7 days')",
    "SELECT public.add_retention_policy('metric', interval '90 days')",
    "SELECT public.alter_job(max(id), schedule_interval => interval '3 days') FROM _timescaledb_config.bgw_job",
    "SELECT public.alter_job(max(id), scheduled => false) FROM _timescaledb_config.bgw_job",
    "SELECT public.alter_job(max(id), config => '{\"hypertable_id\": 1, \"drop_after\": \"80 days\"}', scheduled => true) FROM _timescaledb_config.bgw_job",
    "SELECT public.attach_tablespace('pg_default', 'metric')",
    "SELECT public.detach_tablespace('pg_default', 'metric')",
    "CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
        SELECT public.time_bucket(interval '1 hour', ts) AS hour, avg(value) AS value FROM metric GROUP BY 1 WITH NO DATA",
    "ALTER MATERIALIZED VIEW hourly SET (timescaledb.materialized_only = false)",
    "COMMENT ON VIEW hourly IS 'timescaledb-policy-operator: 4567'",
    "CREATE INDEX by_value ON hourly (value)",
    "SELECT public.add_continuous_aggregate_policy('hourly', interval '3 days', interval '1 hour', interval '1 hour')",
    "ALTER MATERIALIZED VIEW hourly RENAME TO by_hour",
    "CREATE TABLE other (at bigint NOT NULL, value float8);
     SELECT public.create_hypertable('other', 'at', chunk_time_interval => 1000)",
    "CREATE FUNCTION $schema.other_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
     SELECT public.set_integer_now_func('other', '$schema.other_now')",
    "SELECT public.add_retention_policy('other', 5000)",
    // Of one that is not named: it says that the operator made it.
    "CREATE INDEX other_value ON other (value); COMMENT ON INDEX other_value IS 'timescaledb-policy-operator: 89ab'",
    "RESET ROLE; CREATE ROLE \"somebody of $schema\"; ALTER TABLE other OWNER TO \"somebody of $schema\"",
    "RESET ROLE; ALTER ROLE \"somebody of $schema\" RENAME TO \"else in $schema\"",
    "RESET ROLE; UPDATE _timescaledb_config.bgw_job SET owner = '\"else in $schema\"'::regrole WHERE id = (SELECT min(id) FROM _timescaledb_config.bgw_job WHERE id >= 1000)",
    "RESET ROLE; INSERT INTO _timescaledb_internal.bgw_job_stat
        SELECT (jsonb_populate_record(NULL::_timescaledb_internal.bgw_job_stat, (
            SELECT jsonb_object_agg(attname, CASE atttypid
                WHEN 'bool'::regtype THEN 'true'::jsonb WHEN 'timestamptz'::regtype THEN '\"2020-01-01\"'
                WHEN 'interval'::regtype THEN '\"1 s\"' ELSE '1' END)
            FROM pg_attribute WHERE attrelid = '_timescaledb_internal.bgw_job_stat'::regclass AND attnum > 0 AND NOT attisdropped
        ) || jsonb_build_object('job_id', (SELECT max(id) FROM _timescaledb_config.bgw_job)))).*
        ON CONFLICT DO NOTHING",
    "ALTER TABLE metric RENAME TO measured",
    "RESET ROLE; ALTER SCHEMA $schema RENAME TO $schema_renamed",
    "RESET ROLE; DROP TABLE $schema_renamed.other",
    "RESET ROLE; DROP TABLE $schema_renamed.measured CASCADE",
];

/// A digest spares the session what it has read already: it must be of everything that is read.
#[tokio::test]
async fn a_session_that_has_seen_the_catalog_before_sees_every_change() -> Result<()> {
    let db = Database::alone().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8, name text, batch int)")
        .await?;
    if db.server.is_native() {
        // A job that runs between two observations is a change too.
        db.run_as_superuser("SELECT _timescaledb_functions.stop_background_workers()").await?;
    }
    let names = ["metric", "hourly", "by_hour", "measured"];
    let named: Vec<Relation> =
        names.iter().map(|name| format!("{}.{name}", db.schema).parse()).collect::<Result<_, _>>()?;
    let named: Vec<_> = named.iter().collect();
    let mut before = db.session.observe(&named).await?;
    for change in CHANGES {
        db.run(&format!("{change}; SET ROLE {}", db.server.owner()))
            .await
            .map_err(|error| format!("{change}: {error:?}"))?;
        let now = db.session.observe(&named).await?;
        let anew = observe_anew(&db, &named).await?;
        assert_eq!(now, anew, "after {change}");
        assert_ne!(now, before, "{change} is to be seen");
        let again = db.session.observe(&named).await?;
        assert!(again.hypertables.is_same(&now.hypertables) && again.aggregates.is_same(&now.aggregates), "{change}");
        before = now;
    }
    Ok(())
}

async fn observe_anew(db: &Database, named: &[&Relation]) -> Result<Catalog> {
    Ok(connect(db).await?.observe(named).await?)
}

/// Whoever holds a table for hours must not keep the operator from all others.
#[tokio::test]
async fn an_observation_waits_for_no_lock_on_a_table() -> Result<()> {
    let db = Database::alone().await?;
    if !db.server.is_native() {
        // It has one session: another transaction holds up everything.
        return Ok(());
    }
    db.run(
        "CREATE TABLE metric (ts timestamptz PRIMARY KEY, device int, name text);
         SELECT public.create_hypertable('metric', 'ts');
         CREATE INDEX by_device ON metric (device DESC, name COLLATE \"C\" text_pattern_ops) INCLUDE (ts);
         COMMENT ON INDEX by_device IS 'timescaledb-policy-operator: 0123'",
    )
    .await?;
    let metric: Relation = format!("{}.metric", db.schema).parse()?;
    let before = db.session.observe(&[&metric]).await?;
    assert_eq!(before.hypertables[&metric].indexes.len(), 2);
    let mut other = db.server.connect().await?;
    let held = other.transaction().await?;
    held.batch_execute(&format!("LOCK TABLE {}.metric IN ACCESS EXCLUSIVE MODE", db.schema)).await?;
    assert_eq!(db.session.observe(&[&metric]).await?, before);
    assert_eq!(observe_anew(&db, &[&metric]).await?, before);
    held.rollback().await?;
    Ok(())
}

/// A process of the server that has loaded an extension does not find its tables any more when it is dropped and created.
#[tokio::test]
async fn a_session_ends_when_the_extension_is_not_the_one_that_it_began_with() -> Result<()> {
    let db = Database::alone().await?;
    if !db.server.is_native() {
        // Its one process has the library loaded and cannot create the extension again.
        return Ok(());
    }
    let metric: Relation = format!("{}.metric", db.schema).parse()?;
    let has_it = |catalog: &Catalog| (catalog.server.extension.is_some(), catalog.hypertables.contains_key(&metric));
    let table =
        "CREATE TABLE metric (ts timestamptz PRIMARY KEY, value float8); SELECT create_hypertable('metric', 'ts')";
    db.run_as_superuser(table).await?;
    assert_eq!(has_it(&db.session.observe(&[]).await?), (true, true));

    db.run_as_superuser("DROP EXTENSION timescaledb CASCADE; DROP TABLE metric").await?;
    let ends = async |session: &Session| {
        let failure = session.observe(&[]).await.expect_err("the session goes on");
        assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::Retrying), "{failure}");
        connect(&db).await
    };
    let session = ends(&db.session).await?;
    assert_eq!(has_it(&session.observe(&[]).await?), (false, false));

    db.run_as_superuser("CREATE EXTENSION timescaledb SCHEMA public").await?;
    db.run_as_superuser(table).await?;
    assert_eq!(has_it(&session.observe(&[]).await?), (true, true), "nothing was loaded before");

    db.run_as_superuser("DROP EXTENSION timescaledb CASCADE").await?;
    db.run_as_superuser("CREATE EXTENSION timescaledb SCHEMA public").await?;
    assert_eq!(has_it(&ends(&session).await?.observe(&[]).await?), (true, false));
    Ok(())
}

async fn connect(db: &Database) -> Result<Session> {
    Ok(Session::connect(&endpoint(&db.server.url_as(&db.server.operator())), &Metrics::default()).await?)
}
