//! Many resources at once, and steps that take long.

use super::{
    database::Database,
    eventually, manifests,
    stage::{KINDS, Stage, condition},
};
use crate::support::Result;

#[tokio::test]
async fn two_hundred_resources_applied_at_once_converge_on_few_connections() -> Result<()> {
    const TABLES: usize = 50;
    const CONNECTIONS: f64 = 3.0;
    let mut stage = Stage::own("burst").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    stage.secret(&database).await?;
    let refresh = "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    let of_table = |table: &String| {
        [
            manifests::hypertable(table, "chunkInterval: 1 day"),
            manifests::compression(table, ""),
            manifests::retention(table, "dropAfter: 1 year"),
            manifests::aggregate(&format!("hourly{table}").replace('_', "-"), table, "1 hour", refresh),
        ]
    };
    let all: Vec<_> = [manifests::database("plant", "")].into_iter().chain(tables.iter().flat_map(of_table)).collect();
    stage.apply(&all).await?;
    let mut most: f64 = 0.0;
    eventually("all are Ready", async || {
        most = most.max(stage.operator()?.metrics().await?.sum("connections", ""));
        let objects = stage.objects().await?;
        let ready = objects.iter().filter(|object| condition(object, "Ready")["status"] == "True").count();
        if ready == 4 * TABLES + 1 { Ok(Some(())) } else { Err(format!("{ready} are Ready").into()) }
    })
    .await?;
    assert!(most <= CONNECTIONS, "{most} connections");
    let jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000";
    assert_eq!(database.value::<i64>(jobs).await?, 3 * i64::try_from(TABLES)?);
    // Every step once, one event for each resource, one finalizer for each policy and one for the database.
    let metrics = stage.operator()?.metrics().await?;
    let tables = f64::from(u32::try_from(TABLES)?);
    assert_eq!(metrics.sum("steps_total", ""), 6.0 * tables);
    assert_eq!(metrics.sum("steps_total", r#"outcome="applied""#), 6.0 * tables);
    assert_eq!(metrics.sum("api_writes_total", r#"write="event""#), 4.0 * tables);
    assert_eq!(metrics.sum("api_writes_total", r#"write="finalizer""#), 2.0 * tables + 1.0);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn long_steps_share_the_connections_that_the_database_allows() -> Result<()> {
    const TABLES: usize = 6;
    let mut stage = Stage::own("long-steps").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    stage.secret(&database).await?;
    let with = |more: &str| tables.iter().map(|table| manifests::hypertable(table, more)).collect::<Vec<_>>();
    stage.apply(&[&[manifests::database("plant", "maxConnections: 2")], &with("")[..]].concat()).await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    // An index that is missing is built by a long step.
    let named = |table: &String| {
        manifests::hypertable(table, &format!("indexes: [{{name: {table}_sensor, columns: [{{name: sensor}}]}}]"))
    };
    stage.apply(&tables.iter().map(named).collect::<Vec<_>>()).await?;
    let mut most: f64 = 0.0;
    eventually("all indexes", async || {
        most = most.max(stage.operator()?.metrics().await?.sum("connections", ""));
        let built = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'plant' AND indexname LIKE '%\\_sensor'";
        Ok((database.value::<i64>(built).await? == i64::try_from(TABLES)?).then_some(()))
    })
    .await?;
    for table in &tables {
        stage.says(&format!("hypertable/{table}"), "InSync").await?;
    }
    assert!(most <= 2.0, "{most} connections");
    stage.end().await?;
    database.end().await
}

/// More than 16 MiB: a conversion that counts as long.
const ROWS: i64 = 400_000;

fn many_rows() -> String {
    let times = "timestamptz '2026-01-01' + n * interval '10 seconds'";
    let rows = format!("SELECT {times}, n % 100, n FROM generate_series(1, {ROWS}) AS n");
    format!("{}INSERT INTO plant.readings {rows}", manifests::table("readings"))
}

/// A partial index that a conversion fills with one row, and waits for the gate to do so: an advisory lock.
const GATE: &str = "
    CREATE FUNCTION plant.gate(value float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        LOOP
            EXIT WHEN pg_catalog.pg_try_advisory_xact_lock_shared(7);
            PERFORM pg_catalog.pg_sleep(0.02);
        END LOOP;
        RETURN value;
    END $$;
    CREATE INDEX gated ON plant.readings (plant.gate(value)) WHERE value = 42;";

/// A condition: a conversion runs, and this holds for it.
fn conversion(so: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%create_hypertable(%' AND pid <> pg_backend_pid() AND {so})"
    )
}

#[tokio::test]
async fn a_long_conversion_says_so_and_holds_up_nothing() -> Result<()> {
    let stage = Stage::shared("conversion").await?;
    let database = Database::start().await?;
    database.run(&many_rows()).await?;
    database.run(&manifests::table("other")).await?;
    let gate = database.connect().await?;
    if Database::is_native() {
        database.run(GATE).await?;
        gate.batch_execute("SELECT pg_advisory_lock(7)").await?;
    }
    stage.secret(&database).await?;
    stage
        .apply(&[
            manifests::database("plant", ""),
            manifests::hypertable("readings", "chunkInterval: 7 days, migrateData: true"),
            manifests::retention("readings", "dropAfter: 10 years"),
        ])
        .await?;
    if Database::is_native() {
        let message = stage.says("hypertable/readings", "InProgress").await?;
        assert!(message.contains("plant.readings"), "{message}");
        stage
            .apply(&[manifests::hypertable("other", "chunkInterval: 1 day"), manifests::compression("other", "")])
            .await?;
        stage.ready("hypertable/other compressionpolicy/other").await?;
        stage.says("hypertable/readings", "InProgress").await?;
        assert_eq!(condition(&stage.get("hypertable/readings").await?, "Reconciling")["status"], "True");
        gate.batch_execute("SELECT pg_advisory_unlock(7)").await?;
    }
    stage.ready("hypertable/readings retentionpolicy/readings").await?;
    assert_eq!(database.value::<i64>("SELECT count(*) FROM plant.readings").await?, ROWS);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM ONLY plant.readings").await?, 0, "all are in chunks");
    let event = stage.event("hypertable/readings", "Applied").await?;
    assert!(event.contains("create_hypertable("), "{event}");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_conversion_cut_off_by_the_end_of_the_operator_is_made_by_the_next() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // with one backend nothing can be looked at meanwhile
    }
    let mut stage = Stage::own("conversion-cut-off").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&many_rows()).await?;
    database.run(GATE).await?;
    let gate = database.connect().await?;
    gate.batch_execute("SELECT pg_advisory_lock(7)").await?;
    stage.secret(&database).await?;
    let readings = manifests::hypertable("readings", "chunkInterval: 7 days, migrateData: true");
    stage.apply(&[manifests::database("plant", ""), readings]).await?;
    database.until_for_superuser(&conversion("wait_event = 'PgSleep'")).await?;
    let status = stage.take_operator()?.terminate().await?;
    assert!(status.success(), "{status}");

    stage.start_operator().await?;
    stage.operator()?.passes(2).await?;
    gate.batch_execute("SELECT pg_advisory_unlock(7)").await?;
    stage.ready("hypertable/readings").await?;
    assert_eq!(database.value::<i64>("SELECT count(*) FROM plant.readings").await?, ROWS);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM ONLY plant.readings").await?, 0, "all are in chunks");
    stage.end().await?;
    database.end().await
}

/// PostgreSQL reads from its client when a statement has ended, not before. A long one would go on for nobody, with its
/// locks, and the next operator's would come on top.
#[tokio::test]
async fn a_long_step_ends_with_the_operator_that_was_killed() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // with one backend nothing can be looked at meanwhile
    }
    let mut stage = Stage::own("killed-in-a-step").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&many_rows()).await?;
    database.run(GATE).await?;
    let gate = database.connect().await?;
    gate.batch_execute("SELECT pg_advisory_lock(7)").await?;
    stage.secret(&database).await?;
    let readings = manifests::hypertable("readings", "chunkInterval: 7 days, migrateData: true");
    stage.apply(&[manifests::database("plant", ""), readings]).await?;
    database.until_for_superuser(&conversion("wait_event = 'PgSleep'")).await?;
    stage.take_operator()?.kill();
    // The gate is still closed: the statement does not end by itself.
    let sessions = "NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'timescaledb-policy-operator%')";
    database.until_for_superuser(sessions).await?;
    assert_eq!(database.value::<i64>("SELECT count(*) FROM ONLY plant.readings").await?, ROWS, "all rolled back");
    gate.batch_execute("SELECT pg_advisory_unlock(7)").await?;
    stage.start_operator().await?;
    stage.ready("hypertable/readings").await?;
    assert_eq!(database.value::<i64>("SELECT count(*) FROM ONLY plant.readings").await?, 0, "all are in chunks");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn the_server_never_counts_more_connections_than_it_is_said_to_allow() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // its connections share one backend
    }
    const TABLES: usize = 8;
    let stage = Stage::shared("connection-count").await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table_of_days(table, 40)).collect::<String>()).await?;
    // An index that takes its time: a row of it waits for a tenth of a second.
    database
        .run(
            "CREATE FUNCTION plant.slowly(value float8) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
             BEGIN PERFORM pg_catalog.pg_sleep(0.02); RETURN true; END $$",
        )
        .await?;
    stage.secret(&database).await?;
    let with = |more: &str| {
        let of_table = |table: &String| {
            let index =
                format!("indexes: [{{name: {table}_slow, columns: [{{name: sensor}}], where: plant.slowly(value)}}]");
            manifests::hypertable(table, &format!("migrateData: true{}", more.replace("INDEX", &index)))
        };
        tables.iter().map(of_table).collect::<Vec<_>>()
    };
    stage.apply(&[&[manifests::database("plant", "maxConnections: 4")], &with("")[..]].concat()).await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    let watcher = database.superuser().await?;
    stage.apply(&with(", INDEX")).await?;
    let mut most = 0;
    eventually("all indexes", async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'timescaledb-policy-operator%'";
        // Closer together than a step takes.
        for _ in 0..20 {
            let now: i64 = watcher.query_one(count, &[]).await?.get(0);
            assert!(now <= 4, "{now} connections");
            most = most.max(now);
        }
        let built = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid AND c.relnamespace = 'plant'::regnamespace AND c.relname LIKE '%\\_slow'";
        let built: i64 = watcher.query_one(built, &[]).await?.get(0);
        Ok((built == i64::try_from(TABLES)?).then_some(()))
    })
    .await?;
    assert_eq!(most, 4, "what is allowed is used");
    for table in &tables {
        stage.says(&format!("hypertable/{table}"), "InSync").await?;
    }
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'timescaledb-policy-operator%'";
    eventually("one connection is left", async || {
        Ok((watcher.query_one(idle, &[]).await?.get::<_, i64>(0) == 1).then_some(()))
    })
    .await?;
    drop(watcher);
    stage.end().await?;
    database.end().await
}
