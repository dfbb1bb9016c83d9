//! The factory database of `examples/ms5`, before and after its resources are in force: what compression saves, what an
//! aggregate saves a query, and what inserts and queries of rows take.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    cluster::{Cluster, NAMESPACE},
    database::Database,
    eventually,
    operator::Operator,
    support::Result,
    workload::KINDS,
};

/// The `TimescaleDatabase`, and the secret that it names.
const NAME: &str = "ms5";
const SECRET: &str = "ms5-app";
/// The tables that become hypertables, with the share of their size that their owners expect compression to save.
const TABLES: [(&str, Option<f64>); 7] = [
    ("metric_hist", Some(0.85)),
    ("oee_calculations", Some(0.70)),
    ("energy_consumption", Some(0.67)),
    ("production_kpis", Some(0.60)),
    ("downtime_events", None),
    ("quality_checks", None),
    ("fault_event", None),
];
/// Those that `ms5.sql` fills.
const DENSER: [&str; 3] = ["metric_hist", "oee_calculations", "energy_consumption"];
/// Metrics of `metric_hist`.
const METRICS: usize = 100;
/// Every query is timed so often; its time is the median.
const REPEATED: usize = 5;

pub struct Ms5 {
    /// Rows of `metric_hist` in a second.
    pub rate: usize,
    pub resources: usize,
    /// From the start of the process until all resources are in sync.
    pub ready: Duration,
    /// The chunks of all tables that became old enough, compressed by their policies' own jobs.
    pub compressing: Duration,
    pub tables: Vec<Table>,
    pub dashboards: Vec<Dashboard>,
    pub accesses: Vec<Access>,
}

/// What became of a table. Sizes are in bytes, with indexes.
pub struct Table {
    pub name: &'static str,
    pub rows: i64,
    pub plain: i64,
    pub hypertable: i64,
    pub chunks: i64,
    pub compressed: i64,
    /// Of the compressed chunks, before and after.
    pub before: i64,
    pub after: i64,
    pub claimed: Option<f64>,
}

/// A query of the dashboard, on raw rows and on the aggregate.
pub struct Dashboard {
    pub what: &'static str,
    pub plain: Duration,
    pub hypertable: Duration,
    pub aggregate: Duration,
    pub claimed: &'static str,
}

/// Something done with rows, before and after.
pub struct Access {
    pub what: &'static str,
    pub before: Duration,
    pub after: Duration,
    pub claimed: &'static str,
}

pub async fn measure(rate: usize) -> Result<Ms5> {
    eprintln!("MS5 with {rate} rows of metric_hist in a second");
    let database = Database::start().await?;
    // Its jobs run when they are told to, and not while anything is measured.
    database.superuser().await?.batch_execute("SELECT _timescaledb_functions.stop_background_workers()").await?;
    let started = Instant::now();
    fill(&database, rate).await?;
    eprintln!("  filled in {:.0?}", started.elapsed());
    let sql = database.connect().await?;
    let mut tables = Vec::new();
    for (name, claimed) in TABLES {
        let size = format!(
            "SELECT (SELECT count(*) FROM factory_telemetry.{name}), pg_total_relation_size('factory_telemetry.{name}')"
        );
        let row = sql.query_one(&size, &[]).await?;
        let (rows, plain) = (row.get(0), row.get(1));
        tables.push(Table { name, rows, plain, hypertable: 0, chunks: 0, compressed: 0, before: 0, after: 0, claimed });
    }
    let queries = Queries::now(&sql).await?;
    let mut dashboards = Vec::new();
    for (what, raw, _, claimed) in &queries.dashboards {
        let plain = median(async || rows(&sql, raw).await.map(drop)).await?;
        let (hypertable, aggregate) = (Duration::ZERO, Duration::ZERO);
        dashboards.push(Dashboard { what, plain, hypertable, aggregate, claimed });
    }
    let before = accesses(&database, &queries).await?;

    let (resources, ready) = into_force(&database).await?;
    eprintln!("  {resources} resources in force in {ready:.0?}");
    refresh(&sql).await?;
    let compressing = compress(&sql).await?;
    eprintln!("  compressed in {compressing:.0?}");
    vacuum(&sql).await?;

    for table in &mut tables {
        let of = format!("'factory_telemetry.{}'", table.name);
        let sizes = format!(
            "SELECT total_chunks, number_compressed_chunks, coalesce(before_compression_total_bytes, 0),
                    coalesce(after_compression_total_bytes, 0), public.hypertable_size({of})
             FROM public.hypertable_compression_stats({of})"
        );
        let row = sql.query_one(&sizes, &[]).await?;
        (table.chunks, table.compressed) = (row.get(0), row.get(1));
        (table.before, table.after, table.hypertable) = (row.get(2), row.get(3), row.get(4));
    }
    for (dashboard, (_, raw, aggregate, _)) in dashboards.iter_mut().zip(&queries.dashboards) {
        let (of_rows, of_aggregate) = (rows(&sql, raw).await?, rows(&sql, aggregate).await?);
        if !same(&of_rows, &of_aggregate) {
            return Err(format!("{}: raw rows say {of_rows:?}, the aggregate {of_aggregate:?}", dashboard.what).into());
        }
        dashboard.hypertable = median(async || rows(&sql, raw).await.map(drop)).await?;
        dashboard.aggregate = median(async || rows(&sql, aggregate).await.map(drop)).await?;
        eprintln!("  {}: {:.1?}, then {:.1?}", dashboard.what, dashboard.hypertable, dashboard.aggregate);
    }
    let after = accesses(&database, &queries).await?;
    let accesses = before.into_iter().zip(after);
    let accesses = accesses.map(|((what, claimed, before), (_, _, after))| Access { what, before, after, claimed });
    let accesses = accesses.collect();
    drop(sql);
    database.end().await?;
    Ok(Ms5 { rate, resources, ready, compressing, tables, dashboards, accesses })
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ms5").join(file)
}

/// The plain tables, with rows.
async fn fill(database: &Database, rate: usize) -> Result<()> {
    let sql = database.connect().await?;
    sql.batch_execute(&std::fs::read_to_string(example("schema.sql"))?).await?;
    let is_denser = |part: &&str| DENSER.iter().any(|of| part.contains(&format!("INSERT INTO factory_telemetry.{of}")));
    let data = std::fs::read_to_string(example("data.sql"))?;
    for part in data.split("\n\n").filter(|part| !is_denser(part)) {
        sql.batch_execute(part).await?;
    }
    let per_day = 24 * 60 * 60 * rate / METRICS;
    sql.batch_execute(&include_str!("ms5.sql").replace("@per_day@", &per_day.to_string())).await?;
    vacuum(&sql).await
}

/// As autovacuum leaves them.
async fn vacuum(sql: &Client) -> Result<()> {
    for (table, _) in TABLES {
        sql.batch_execute(&format!("VACUUM ANALYZE factory_telemetry.{table}")).await?;
    }
    Ok(())
}

/// The operator brings all resources of the example into force, and ends. How many, and how long that took.
async fn into_force(database: &Database) -> Result<(usize, Duration)> {
    let cluster = Cluster::start().await?;
    cluster.secret(SECRET, &database.keys(None)).await?;
    let mut manifests = Vec::new();
    for file in
        ["10-database.yaml", "20-hypertables.yaml", "30-compression.yaml", "40-retention.yaml", "50-aggregates.yaml"]
    {
        for mut manifest in serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(example(file))?)? {
            manifest["metadata"]["namespace"] = NAMESPACE.into();
            let kind = manifest["kind"].as_str().unwrap_or_default().to_lowercase();
            let mut plurals = KINDS.into_iter().chain(["timescaledatabases"]);
            let plural = plurals.find(|plural| plural.starts_with(kind.trim_end_matches('y')));
            manifests.push((plural.ok_or_else(|| format!("{file}: no such kind: {kind}"))?, manifest));
        }
    }
    let resources = manifests.len() - 1;
    cluster.create(NAMESPACE, manifests).await?;
    let operator = Operator::start(&cluster).await?;
    eventually("everything is in sync", Duration::from_millis(50), async || {
        let status = cluster.get("timescaledatabases", NAME).await?["status"].take();
        Ok((status["resourcesInSync"] == resources).then_some(()))
    })
    .await?;
    let ready = operator.started.elapsed();
    operator.end().await?;
    Ok((resources, ready))
}

/// Refreshes all aggregates by their policies, and what is older as the example does it.
async fn refresh(sql: &Client) -> Result<()> {
    let backfill = std::fs::read_to_string(example("backfill.sql"))?;
    for call in backfill.lines().filter(|line| line.starts_with("CALL ")) {
        sql.batch_execute(call).await?;
    }
    run_jobs(sql, "policy_refresh_continuous_aggregate").await
}

/// Compresses what is old enough by the policies. How long that took.
async fn compress(sql: &Client) -> Result<Duration> {
    let started = Instant::now();
    run_jobs(sql, "policy_compression").await?;
    Ok(started.elapsed())
}

async fn run_jobs(sql: &Client, procedure: &str) -> Result<()> {
    let jobs = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = $1::text::name ORDER BY job_id";
    for job in sql.query(jobs, &[&procedure]).await? {
        sql.batch_execute(&format!("CALL public.run_job({})", job.get::<_, i32>(0))).await?;
    }
    Ok(())
}

/// What is asked, of windows that are the same whenever it is asked.
struct Queries {
    /// What it is, of raw rows, of the aggregate, and what their owners say of it.
    dashboards: Vec<(&'static str, String, String, &'static str)>,
    newest: String,
    /// What it is, the query, and what their owners say of it.
    others: Vec<(&'static str, String, &'static str)>,
}

impl Queries {
    async fn now(sql: &Client) -> Result<Self> {
        let hour = "SELECT (time_bucket('1 hour', now()) - $1::text::interval)::text";
        let before = async |age: &str| -> Result<String> {
            Ok(format!("timestamptz '{}'", sql.query_one(hour, &[&age]).await?.get::<_, String>(0)))
        };
        let (day, last_hour) = (before("24 hours").await?, before("1 hour").await?);
        let (old_day, old_end) = (before("9 days").await?, before("8 days").await?);
        let fortnight: String =
            sql.query_one("SELECT (time_bucket('1 day', now()) - interval '12 days')::text", &[]).await?.get(0);
        let fortnight = format!("timestamptz '{fortnight}'");
        let by_hour = |from: &str, to: &str| {
            format!(
                "SELECT time_bucket('1 hour', ts) AS hour, equipment_code, avg(value), max(value)
                 FROM factory_telemetry.metric_hist WHERE ts >= {from} AND ts < {to} GROUP BY 1, 2 ORDER BY 1, 2"
            )
        };
        let dashboards = vec![
            (
                "dashboard: each machine over 24 hours, `metric_hist`",
                format!(
                    "SELECT equipment_code, avg(value), min(value), max(value), count(*)
                     FROM factory_telemetry.metric_hist WHERE ts >= {day} GROUP BY 1 ORDER BY 1"
                ),
                format!(
                    "SELECT equipment_code, sum(avg_value * samples) / sum(samples), min(min_value), max(max_value), sum(samples)
                     FROM factory_telemetry.metric_hourly_aggregate WHERE bucket >= {day} GROUP BY 1 ORDER BY 1"
                ),
                "2 s → 50 ms, 40 ×",
            ),
            (
                "trend: one metric by the hour over 24 hours, `metric_hist`",
                format!(
                    "SELECT time_bucket('1 hour', ts), avg(value), min(value), max(value), count(*)
                     FROM factory_telemetry.metric_hist WHERE metric_def_id = 2 AND ts >= {day} GROUP BY 1 ORDER BY 1"
                ),
                format!(
                    "SELECT bucket, avg_value, min_value, max_value, samples
                     FROM factory_telemetry.metric_hourly_aggregate WHERE metric_def_id = 2 AND bucket >= {day} ORDER BY 1"
                ),
                "500 → 10 ms, 50 ×",
            ),
            (
                "report: each line by the day over 13 days, `energy_consumption`",
                format!(
                    "SELECT time_bucket('1 day', consumption_time), line_id, sum(energy_kwh), max(power_kw)
                     FROM factory_telemetry.energy_consumption WHERE consumption_time >= {fortnight} GROUP BY 1, 2 ORDER BY 1, 2"
                ),
                format!(
                    "SELECT bucket, line_id, sum(energy_kwh), max(peak_power_kw)
                     FROM factory_telemetry.energy_daily_aggregate WHERE bucket >= {fortnight} GROUP BY 1, 2 ORDER BY 1, 2"
                ),
                "30 → 2 s, 15 ×",
            ),
        ];
        let newest = "SELECT ts, metric_def_id, equipment_code, value FROM factory_telemetry.metric_hist ORDER BY ts DESC LIMIT 100";
        let others = vec![
            ("the newest 100 rows", newest.to_owned(), "< 100 ms"),
            ("24 hours by hour and machine", by_hour(&day, "'infinity'"), "< 200 ms"),
            (
                "an hour of one machine",
                format!(
                    "SELECT ts, metric_def_id, value FROM factory_telemetry.metric_hist
                     WHERE equipment_code = 'L1-MIX' AND ts >= {last_hour} AND ts < {last_hour} + interval '1 hour' ORDER BY ts"
                ),
                "< 150 ms",
            ),
            ("24 hours of a week before, by hour and machine", by_hour(&old_day, &old_end), ""),
            (
                "24 hours of a week before, one metric",
                format!(
                    "SELECT ts, value FROM factory_telemetry.metric_hist
                     WHERE metric_def_id = 2 AND ts >= {old_day} AND ts < {old_end} ORDER BY ts DESC"
                ),
                "",
            ),
        ];
        Ok(Self { dashboards, newest: newest.to_owned(), others })
    }
}

/// Inserts into `metric_hist` and queries of it: what it is, what their owners say of it, and how long it takes.
async fn accesses(database: &Database, queries: &Queries) -> Result<Vec<(&'static str, &'static str, Duration)>> {
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(database.connect().await?);
    }
    let sql = &sessions[0];
    let mut all = Vec::new();
    for (what, query, claimed) in &queries.others {
        all.push((*what, *claimed, median(async || rows(sql, query).await.map(drop)).await?));
    }
    let at_once = median(async || {
        let ask = sessions.iter().map(|sql| rows(sql, &queries.newest));
        futures::future::try_join_all(ask).await.map(drop)
    });
    all.push(("ten times the newest 100 rows at once", "< 1 s", at_once.await?));
    // What is written at once, or within a millisecond, is of other metrics, so that no two rows have the same key.
    let insert = |session: usize, rows: usize| {
        format!(
            "INSERT INTO factory_telemetry.metric_hist
             SELECT now() - n * interval '1 microsecond', {} + n % 20, 'L1-MIX', 1, 192 FROM generate_series(1, {rows}) n",
            1 + session * 20
        )
    };
    let one = median(async || Ok(sql.batch_execute(&insert(0, 1)).await?)).await?;
    all.push(("one row is inserted", "< 10 ms", one));
    let thousand = median(async || Ok(sql.batch_execute(&insert(1, 1000)).await?)).await?;
    all.push(("1,000 rows are inserted", "< 1 s", thousand));
    let five = median(async || {
        let inserts: Vec<_> = (0..5).map(|session| insert(session, 1000)).collect();
        let run = sessions.iter().zip(&inserts).map(|(sql, insert)| sql.batch_execute(insert));
        Ok(futures::future::try_join_all(run).await.map(drop)?)
    });
    all.push(("five times 1,000 rows at once", "< 2 s", five.await?));
    Ok(all)
}

/// After once to warm up.
async fn median(mut run: impl AsyncFnMut() -> Result<()>) -> Result<Duration> {
    run().await?;
    let mut times = Vec::new();
    for _ in 0..REPEATED {
        let started = Instant::now();
        run().await?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[REPEATED / 2])
}

async fn rows(sql: &Client, query: &str) -> Result<Vec<Vec<String>>> {
    let rows = sql.simple_query(query).await?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}

/// Whether both are the same but for the last digits of a sum, whose order differs.
fn same(some: &[Vec<String>], others: &[Vec<String>]) -> bool {
    let is_same = |(a, b): (&String, &String)| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => a == b,
    };
    let lengths = |rows: &[Vec<String>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
    !some.is_empty()
        && lengths(some) == lengths(others)
        && some.iter().flatten().zip(others.iter().flatten()).all(is_same)
}
