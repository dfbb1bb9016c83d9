//! Long statements: how single changes do in the same database meanwhile.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::{
    changes::{self, Changes, Latencies},
    cluster::{Cluster, NAMESPACE},
    database::Database,
    eventually, growth,
    operator::Operator,
    support::Result,
    workload::{self, KINDS, SCHEMA},
};

/// The `TimescaleDatabase`.
const NAME: &str = "main";
/// Tables whose resources change.
const TABLES: usize = 25;
/// The span of the many rows, and so their chunks.
const DAYS: usize = 20;

pub struct Long {
    pub rows: usize,
    /// Of the table with these rows and no index.
    pub bytes: i64,
    pub idle: Latencies,
    pub statements: Vec<Statement>,
}

/// A long statement, and the changes that began while it ran.
pub struct Statement {
    pub what: &'static str,
    pub took: Duration,
    /// From the request to the API server until the status of its resource says so.
    pub ready: Duration,
    pub latencies: Latencies,
}

pub async fn measure(rows: usize, changes: usize) -> Result<Long> {
    eprintln!("long statements on {rows} rows");
    let cluster = Cluster::start().await?;
    let database = Database::with_tables(TABLES).await?;
    for table in ["migrated", "indexed"] {
        let name = format!("{SCHEMA}.{table}");
        let create = format!("CREATE TABLE {name} (ts timestamptz NOT NULL, sensor int, value float8, note text)");
        database.run(&create).await?;
        if table == "indexed" {
            let convert = "chunk_time_interval => interval '1 day', create_default_indexes => false";
            database.run(&format!("SELECT public.create_hypertable('{name}', 'ts', {convert})")).await?;
        }
        database
            .run(&format!(
                "INSERT INTO {name} SELECT now() - n * interval '{DAYS} days' / {rows}, n % 100, n, md5(n::text) FROM generate_series(1, {rows}) n"
            ))
            .await?;
    }
    let bytes = database.value(&format!("SELECT pg_table_size('{SCHEMA}.migrated')")).await?;
    cluster.secret(NAME, &database.keys(None)).await?;
    cluster.create_database(NAME, "1h").await?;
    cluster.create(NAMESPACE, (0..TABLES).flat_map(|n| workload::resources(NAME, n))).await?;
    cluster.create(NAMESPACE, [hypertable("indexed", json!({}))]).await?;
    let operator = Operator::start(&cluster).await?;
    eventually("everything is in sync", Duration::from_millis(50), async || {
        let status = cluster.get("timescaledatabases", NAME).await?["status"].take();
        Ok((status["resourcesInSync"] == TABLES * KINDS.len() + 1).then_some(()))
    })
    .await?;
    growth::settle(&operator).await?;

    let mut changing = Changes::of(&cluster, &[(NAME, &database)], TABLES).await?;
    let mut idle = Latencies::default();
    for _ in 0..changes {
        changing.one(&mut idle).await?;
    }
    let index = |name: &str| json!([{"name": name, "columns": [{"name": "note"}, {"name": "ts", "order": "Desc"}]}]);
    let superuser = database.superuser().await?;
    let mut statements = Vec::new();
    for (what, table) in [("rows are moved into chunks", "migrated"), ("an index is built on a hypertable", "indexed")]
    {
        let (state, mut is) = watch::channel(State::Awaited);
        let requested = Instant::now();
        let generation = if table == "migrated" {
            let spec = json!({"migrateData": true, "indexes": index("migrated_note")});
            cluster.create(NAMESPACE, [hypertable(table, spec)]).await?;
            1
        } else {
            cluster.patch("hypertables", table, json!({"indexes": index("indexed_note")})).await?
        };
        let told = async {
            changes::told(&cluster, "hypertables", table, generation).await?;
            Ok::<_, crate::support::Error>(requested.elapsed())
        };
        let meanwhile = async {
            let mut latencies = Latencies::default();
            is.wait_for(|state| *state != State::Awaited).await?;
            while *is.borrow() == State::Running {
                changing.one(&mut latencies).await?;
            }
            Ok(latencies)
        };
        let (ready, took, latencies) = futures::try_join!(told, watch(&superuser, table, &state), meanwhile)?;
        eprintln!("  {what}: {took:.1?}, a change meanwhile {:.0?}", latencies.catalog(0.5));
        statements.push(Statement { what, took, ready, latencies });
        growth::settle(&operator).await?;
    }
    drop((changing, superuser));
    operator.end().await?;
    database.end().await?;
    Ok(Long { rows, bytes, idle, statements })
}

fn hypertable(table: &str, mut spec: Value) -> (&'static str, Value) {
    spec["databaseRef"] = json!({"name": NAME});
    spec["schema"] = SCHEMA.into();
    spec["table"] = table.into();
    spec["timeColumn"] = "ts".into();
    spec["chunkInterval"] = "1 day".into();
    let manifest = json!({"apiVersion": "timescaledb-policy.io/v1alpha1", "kind": "Hypertable", "metadata": {"name": table}, "spec": spec});
    (KINDS[0], manifest)
}

/// How far the long statement is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Awaited,
    Running,
    Over,
}

/// Watches the session whose statement names this table, in the server's own list. How long it worked.
async fn watch(sql: &Client, table: &str, state: &watch::Sender<State>) -> Result<Duration> {
    const LOOK: Duration = Duration::from_millis(5);
    let find = "SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE $1";
    let find = sql.prepare(find).await?;
    let works = sql.prepare("SELECT FROM pg_stat_activity WHERE pid = $1 AND state <> 'idle'").await?;
    let statement = format!("%\"{SCHEMA}\".\"{table}\"%");
    let pid: i32 = eventually("a long statement", LOOK, async || {
        Ok(sql.query_opt(&find, &[&statement]).await?.map(|row| row.get(0)))
    })
    .await?;
    let started = Instant::now();
    state.send_replace(State::Running);
    eventually("the end of a long statement", LOOK, async || {
        Ok(sql.query_opt(&works, &[&pid]).await?.is_none().then_some(()))
    })
    .await?;
    state.send_replace(State::Over);
    Ok(started.elapsed())
}
