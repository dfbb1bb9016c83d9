//! The reading of sizes, ages and backlogs: what it counts is what the jobs of TimescaleDB select.

use std::time::Duration;

use timescaledb_policy_operator::{
    api::types::Relation,
    catalog::statistics::{Statistics, TableStatistics},
    db::{Session, credentials::Endpoint},
    monitoring::lag,
};

use super::driver::Database;
use crate::support::Result;

impl Database {
    /// A reading on a session of its own, as the controller makes it.
    async fn read_statistics(&self, endpoint: &Endpoint) -> Result<Statistics> {
        let catalog = self.session.observe(&[]).await?;
        Ok(Session::connect(endpoint, &self.metrics).await?.statistics(&catalog).await?)
    }

    fn relation(&self, name: &str) -> Result<Relation> {
        Ok(format!("{}.{name}", self.schema).parse()?)
    }

    async fn read_table(&self, name: &str) -> Result<TableStatistics> {
        let relation = self.relation(name)?;
        let mut statistics = self.read_statistics(&self.endpoint()).await?;
        statistics.tables.remove(&relation).ok_or_else(|| format!("{relation} was not read").into())
    }

    /// Of how many chunks show_chunks says the same.
    async fn chunks(&self, relation: &str, which: &str) -> Result<i64> {
        self.one(&format!("SELECT count(*) FROM public.show_chunks('{relation}'{which})")).await
    }
}

/// Policies that the scheduler of a native server does not run at once.
const LATER: &str = "initial_start => now() + interval '1 day'";

#[tokio::test]
async fn the_backlog_by_time_is_what_the_policies_select() -> Result<()> {
    let db = Database::shared().await?;
    for (table, column, type_) in
        [("stamps", "ts", "timestamptz"), ("plain", "ts", "timestamp"), ("days", "ts", "date")]
    {
        db.run(&format!(
            "CREATE TABLE {table} ({column} {type_} NOT NULL, v int);
             SELECT create_hypertable('{table}', '{column}', chunk_time_interval => interval '1 day');
             INSERT INTO {table} SELECT now() - n * interval '1 day', n FROM generate_series(0, 19) n;
             ALTER TABLE {table} SET (timescaledb.compress);
             SELECT add_compression_policy('{table}', interval '4 days', {LATER});
             SELECT add_retention_policy('{table}', interval '10 days', {LATER});
             SELECT compress_chunk(c) FROM show_chunks('{table}', older_than => interval '15 days') c"
        ))
        .await?;
        let read = db.read_table(table).await?;
        let old = db.chunks(table, ", older_than => interval '4 days'").await?;
        let compressed = db.chunks(table, ", older_than => interval '15 days'").await?;
        assert!(compressed > 0 && old > compressed, "{table}: {compressed} of {old}");
        assert_eq!(read.chunks, db.chunks(table, "").await?, "{table}");
        assert_eq!(read.compressed_chunks, compressed, "{table}");
        assert_eq!(read.chunks_to_compress, Some(old - compressed), "{table}");
        assert_eq!(read.chunks_to_drop, Some(db.chunks(table, ", older_than => interval '10 days'").await?), "{table}");
        assert!(read.before_compression_bytes > 0 && read.after_compression_bytes > 0, "{table}: {read:?}");
        let exact = format!("SELECT total_bytes FROM hypertable_detailed_size('{table}')");
        // Without the root table, which is empty.
        assert!((read.bytes - db.one::<i64>(&exact).await?).abs() <= 32 * 1024, "{table}: {read:?}");
        let ends = "SELECT (min(range_start) = $1::text::timestamptz) AND (max(range_end) = $2::text::timestamptz) FROM timescaledb_information.chunks WHERE hypertable_schema = '$schema' AND hypertable_name = $3";
        let (oldest, newest) =
            (read.oldest.ok_or("no oldest")?.to_string(), read.newest.ok_or("no newest")?.to_string());
        let row = db.sql.query_one(&db.here(ends), &[&oldest, &newest, &table]).await?;
        assert!(row.try_get::<_, bool>(0)?, "{table}: {oldest} to {newest}");
    }
    Ok(())
}

#[tokio::test]
async fn the_backlog_of_a_policy_that_was_paused_is_not_counted() -> Result<()> {
    let db = Database::shared().await?;
    db.run(&format!(
        "CREATE TABLE t (ts timestamptz NOT NULL);
         SELECT create_hypertable('t', 'ts', chunk_time_interval => interval '1 day');
         INSERT INTO t SELECT now() - n * interval '1 day' FROM generate_series(0, 9) n;
         SELECT add_retention_policy('t', interval '2 days', {LATER})"
    ))
    .await?;
    assert_eq!(
        db.read_table("t").await?.chunks_to_drop,
        Some(db.chunks("t", ", older_than => interval '2 days'").await?)
    );
    assert_eq!(db.read_table("t").await?.chunks_to_compress, None, "there is no policy");
    let all = "FROM timescaledb_information.jobs WHERE hypertable_schema = '$schema'";
    db.run(&format!("SELECT alter_job(job_id, scheduled => false) {all}")).await?;
    assert_eq!(db.read_table("t").await?.chunks_to_drop, None, "paused");
    db.run(&format!("SELECT alter_job(job_id, scheduled => true, next_start => now() + interval '1 day', config => config || '{{\"drop_after\": \"6000 years\"}}') {all}")).await?;
    assert_eq!(db.read_table("t").await?.chunks_to_drop, Some(0), "further back than time reaches");
    db.run(&format!("SELECT remove_retention_policy('t'); SELECT add_retention_policy('t', drop_created_before => interval '1 hour', {LATER})")).await?;
    assert_eq!(db.read_table("t").await?.chunks_to_drop, Some(0), "all were created just now");
    Ok(())
}

#[tokio::test]
async fn the_backlog_by_integers_goes_by_the_clock_of_the_table() -> Result<()> {
    let db = Database::shared().await?;
    for table in ["good", "broken"] {
        db.run(&format!(
            "CREATE TABLE {table} (n bigint NOT NULL);
             SELECT create_hypertable('{table}', 'n', chunk_time_interval => 10);
             INSERT INTO {table} SELECT generate_series(0, 99);
             CREATE FUNCTION {table}_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 100::bigint';
             SELECT set_integer_now_func('{table}', '{table}_now');
             ALTER TABLE {table} SET (timescaledb.compress);
             SELECT add_compression_policy('{table}', 30, {LATER});
             SELECT add_retention_policy('{table}', 65, {LATER})"
        ))
        .await?;
    }
    db.run(
        "CREATE MATERIALIZED VIEW tens WITH (timescaledb.continuous) AS
         SELECT time_bucket(10::bigint, n) AS ten, count(*) FROM good GROUP BY 1 WITH NO DATA",
    )
    .await?;
    db.run("CALL refresh_continuous_aggregate('tens', 0, 100)").await?;
    db.run(&format!("SELECT add_retention_policy('tens', 50, {LATER})")).await?;
    db.run("CREATE OR REPLACE FUNCTION broken_now() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE 'no clock'; END $$").await?;

    let good = db.read_table("good").await?;
    assert_eq!((good.chunks, good.oldest, good.newest), (10, None, None));
    assert_eq!(good.chunks_to_compress, Some(db.chunks("good", ", older_than => 70::bigint").await?));
    assert_eq!(good.chunks_to_drop, Some(db.chunks("good", ", older_than => 35::bigint").await?));
    assert_eq!((good.chunks_to_compress, good.chunks_to_drop), (Some(7), Some(3)));
    let broken = db.read_table("broken").await?;
    assert_eq!((broken.chunks_to_compress, broken.chunks_to_drop), (None, None), "its clock fails, and no other");
    let tens = db.read_table("tens").await?;
    assert_eq!(
        tens.chunks_to_drop,
        Some(db.chunks("tens", ", older_than => 50::bigint").await?),
        "by its source's clock"
    );
    assert_eq!((tens.watermark, tens.refreshed_to), (None, None), "time is an integer");
    Ok(())
}

#[tokio::test]
async fn an_aggregate_is_as_far_as_it_was_refreshed() -> Result<()> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE t (ts timestamptz NOT NULL, v int);
         SELECT create_hypertable('t', 'ts', chunk_time_interval => interval '7 days');
         INSERT INTO t SELECT now() - interval '2 days' - n * interval '1 hour', n FROM generate_series(0, 99) n;
         INSERT INTO t VALUES (now() + interval '7 days', 1);
         CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
         SELECT time_bucket('1 hour', ts) AS hour, count(*) FROM t GROUP BY 1 WITH NO DATA",
    )
    .await?;
    db.run("SELECT add_continuous_aggregate_policy('hourly', interval '10 days', interval '1 hour', interval '1 hour', initial_start => now() + interval '1 day')").await?;
    let lag = async || -> Result<(TableStatistics, Option<Duration>)> {
        let catalog = db.session.observe(&[]).await?;
        let mut statistics = db.read_statistics(&db.endpoint()).await?;
        let own = statistics.tables.remove(&db.relation("hourly")?).ok_or("hourly was not read")?;
        let source = statistics.tables.remove(&db.relation("t")?).ok_or("t was not read")?;
        let aggregate = catalog.aggregates.get(&db.relation("hourly")?).ok_or("hourly was not observed")?;
        let jobs: Vec<_> = catalog.jobs.iter().filter(|job| job.hypertable_id == aggregate.hypertable.id).collect();
        let lag = lag::lag(aggregate, &jobs, &own, &source, jiff::Timestamp::now());
        Ok((own, lag))
    };
    let (never, behind) = lag().await?;
    assert_eq!((never.watermark, never.refreshed_to), (None, None));
    assert!(behind.is_some_and(|behind| behind > Duration::from_hours(90)), "{behind:?}");

    db.run("CALL refresh_continuous_aggregate('hourly', now() - interval '10 days', now() - interval '1 hour')")
        .await?;
    let (fresh, behind) = lag().await?;
    assert!(fresh.watermark < fresh.refreshed_to, "the last two days have no rows: {fresh:?}");
    assert_eq!(behind, Some(Duration::ZERO));
    assert_eq!(fresh.invalidations, Some(0));

    db.run("INSERT INTO t VALUES (now() - interval '3 days', 1)").await?;
    let (written, behind) = lag().await?;
    assert!(written.invalidations > Some(0), "{written:?}");
    assert_eq!(behind, Some(Duration::ZERO), "what is written late is another thing than what was never refreshed");
    Ok(())
}

#[tokio::test]
async fn other_jobs_are_read_with_what_the_scheduler_says_of_them() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE PROCEDURE sweep(job_id int, config jsonb) LANGUAGE sql AS 'SELECT 1'").await?;
    let id: i32 = db.one("SELECT add_job('sweep', '2 hours', initial_start => now() + interval '1 day')").await?;
    db.run("CREATE TABLE t (ts timestamptz NOT NULL); SELECT create_hypertable('t', 'ts')").await?;
    db.run(&format!("SELECT add_retention_policy('t', interval '1 year', {LATER})")).await?;
    let statistics = db.read_statistics(&db.endpoint()).await?;
    let mine = statistics.other_jobs.iter().filter(|job| job.procedure == db.here("$schema.sweep"));
    let mine: Vec<_> = mine.collect();
    assert_eq!(mine.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
    assert_eq!((mine[0].schedule_interval.to_string().as_str(), mine[0].scheduled), ("2 hours", true));
    assert!(!statistics.other_jobs.iter().any(|job| job.procedure.contains("policy_retention")));
    db.run(&format!("SELECT delete_job({id})")).await
}

#[tokio::test]
async fn a_role_that_may_only_observe_reads_the_same() -> Result<()> {
    let db = Database::shared().await?;
    db.run(&format!(
        "CREATE TABLE t (ts timestamptz NOT NULL);
         SELECT create_hypertable('t', 'ts', chunk_time_interval => interval '1 day');
         INSERT INTO t SELECT now() - n * interval '1 day' FROM generate_series(0, 9) n;
         SELECT add_retention_policy('t', interval '2 days', {LATER})"
    ))
    .await?;
    let role = format!("role_{:016x}", fastrand::u64(..));
    db.server.run_script("role-observe.sql", &[("role", &role), ("schema", &db.schema)]).await?;
    let mut endpoint = db.endpoint();
    endpoint.config.user(&role);
    let observed = db.read_statistics(&endpoint).await?;
    let owned = db.read_statistics(&db.endpoint()).await?;
    let table = db.relation("t")?;
    assert_eq!(observed.tables.get(&table), owned.tables.get(&table));
    assert!(observed.tables.get(&table).is_some_and(|t| t.bytes > 0 && t.chunks_to_drop > Some(0)), "{observed:?}");
    assert!(observed.database.bytes > Some(0), "{:?}", observed.database);
    // The names of workers are there for everybody; the WebAssembly has none.
    assert_eq!(observed.database.scheduler, Some(db.server.is_native()));
    if db.server.is_native() {
        assert!(observed.database.workers_running >= Some(2), "the launcher and a scheduler: {:?}", observed.database);
        assert!(observed.database.workers_running <= observed.database.workers_limit, "{:?}", observed.database);
        assert!(observed.database.blocks_hit > 0, "{:?}", observed.database);
    }
    db.run_as_superuser(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await
}

#[tokio::test]
async fn a_chunk_that_somebody_holds_is_not_waited_for() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(());
    }
    db.run(
        "CREATE TABLE t (ts timestamptz NOT NULL);
         SELECT create_hypertable('t', 'ts', chunk_time_interval => interval '1 day');
         INSERT INTO t SELECT now() - n * interval '1 day' FROM generate_series(0, 3) n; ANALYZE t",
    )
    .await?;
    let before = db.read_table("t").await?;
    db.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await?;
    let locked = db.read_table("t").await?;
    db.run("ROLLBACK").await?;
    assert_eq!(locked.chunks, before.chunks);
    assert!(locked.bytes > 0 && locked.bytes <= before.bytes, "the estimate of the heap: {locked:?}");
    Ok(())
}
