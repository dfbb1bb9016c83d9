//! One database with so many resources: the first convergence beside the raw cost, the steady state, single changes,
//! memory, a list that is read anew, and a restart.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    Extent, changes,
    cluster::{Cluster, NAMESPACE, Requests},
    database::Database,
    eventually,
    operator::{Metrics, Operator},
    relay::Relay,
    support::Result,
    workload::{self, KINDS},
};

/// The `TimescaleDatabase`.
const NAME: &str = "main";
/// While passes of the steady state are measured.
const MEASURED: Duration = Duration::from_secs(12);
/// Where nothing but the benchmark calls for a pass.
const NEVER: &str = "1h";

/// What so many resources cost.
pub struct Grown {
    pub resources: usize,
    pub convergence: Convergence,
    pub steady: Steady,
    /// Changes of single resources while nothing else goes on, and while a pass over all follows the other.
    pub idle: changes::Latencies,
    pub busy: changes::Latencies,
    /// Resident memory in MiB: settled, and the peak until then; the peak of reading all lists anew; settled after a restart.
    pub memory: f64,
    pub peak: f64,
    pub relist_peak: f64,
    pub restarted_memory: f64,
    pub restart: Restart,
}

/// From the start of the process, with everything there but what the operator makes, until the status of the
/// `TimescaleDatabase` says that all are in sync, which is what it writes last.
pub struct Convergence {
    pub took: Duration,
    pub cpu: Duration,
    pub passes: f64,
    pub statements: f64,
    pub steps: f64,
    pub statuses: f64,
    pub finalizers: f64,
    pub events: f64,
    /// The same statements by one connection, one after the other.
    pub script: Duration,
    /// The same statuses by a bare client, as many at once as the operator writes.
    pub bare: Duration,
}

/// Of one pass with nothing to do.
pub struct Steady {
    pub statements: f64,
    pub requests: f64,
    pub writes: f64,
    pub cpu: Duration,
    pub took: Duration,
    pub bytes: [f64; 2],
    pub connections: f64,
}

pub struct Restart {
    pub took: Duration,
    pub writes: u64,
    pub steps: f64,
}

pub async fn measure(resources: usize, extent: &Extent) -> Result<Grown> {
    eprintln!("{resources} resources");
    let tables = workload::tables(resources);
    // Those that have everything.
    let complete = resources / KINDS.len();
    let mut cluster = Cluster::start().await?;
    let database = Database::with_tables(tables).await?;
    cluster.secret(NAME, &database.keys(None)).await?;
    cluster.create_database(NAME, NEVER).await?;
    let all = || (0..tables).flat_map(|n| workload::resources(NAME, n)).take(resources);
    cluster.create(NAMESPACE, all()).await?;

    let operator = Operator::start(&cluster).await?;
    let mut convergence = converge(&cluster, &operator, resources).await?;
    eprintln!("  converged in {:.2?}", convergence.took);
    settle(&operator).await?;
    let (memory, peak) = operator.memory()?;

    let relay = Relay::to(database.address()).await?;
    let steady = rest(&cluster, &operator, &database, &relay).await?;
    eprintln!("  {:.2?} of CPU for a pass, {memory:.1} MiB", steady.cpu);

    cluster.patch("timescaledatabases", NAME, json!({"resyncInterval": NEVER})).await?;
    settle(&operator).await?;
    let idle = changes::measure(&cluster, &database, complete, extent.changes).await?;
    cluster.patch("timescaledatabases", NAME, json!({"resyncInterval": "1s"})).await?;
    let busy = changes::measure(&cluster, &database, complete, extent.changes).await?;
    eprintln!("  a change takes {:.0?} idle, {:.0?} busy", idle.catalog(0.5), busy.catalog(0.5));
    cluster.patch("timescaledatabases", NAME, json!({"resyncInterval": NEVER})).await?;
    settle(&operator).await?;

    operator.forget_peak()?;
    cluster.api.restart().await?;
    cluster.renew().await?;
    let relist_peak = relisted(&cluster, &operator, resources).await?;
    operator.end().await?;

    let (restart, restarted_memory) = restart(&cluster, resources).await?;
    eprintln!("  observed {:.2?} after a restart", restart.took);

    database.end().await?;
    convergence.bare = bare_statuses(&cluster, all().collect()).await?;
    convergence.script = script(tables, resources).await?;
    eprintln!("  raw: {:.2?} of SQL, {:.2?} of statuses", convergence.script, convergence.bare);
    Ok(Grown { resources, convergence, steady, idle, busy, memory, peak, relist_peak, restarted_memory, restart })
}

async fn converge(cluster: &Cluster, operator: &Operator, resources: usize) -> Result<Convergence> {
    let in_sync = eventually("everything is in sync", Duration::from_millis(50), async || {
        let status = cluster.get("timescaledatabases", NAME).await?["status"].take();
        Ok((status["resourcesInSync"] == resources).then_some(()))
    });
    in_sync.await?;
    let took = operator.started.elapsed();
    let (cpu, metrics) = (operator.cpu()?, operator.metrics().await?);
    let ready = |object: &serde_json::Value| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    let ready = cluster.list(&KINDS).await?.iter().filter(|(_, object)| ready(object)).count();
    assert_eq!(ready, resources, "are Ready");
    for (_, statement) in workload::statements(0).iter().filter(|(kind, _)| *kind < resources) {
        assert!(operator.has_carried_out(statement)?, "what it is compared with is something else: {statement}");
    }
    let write = |write: &str| metrics.sum("api_writes_total", &format!("write=\"{write}\""));
    Ok(Convergence {
        took,
        cpu,
        passes: metrics.sum("passes_total", ""),
        statements: metrics.sum("statements_total", ""),
        steps: metrics.sum("steps_total", ""),
        statuses: write("status"),
        finalizers: write("finalizer"),
        events: write("event"),
        script: Duration::ZERO,
        bare: Duration::ZERO,
    })
}

/// Waits until nothing goes on any more: no pass, and no reading.
pub async fn settle(operator: &Operator) -> Result<()> {
    let mut last = (f64::NAN, f64::NAN);
    eventually("nothing goes on", Duration::from_millis(1500), async || {
        let metrics = operator.metrics().await?;
        let now = (metrics.sum("passes_total", ""), metrics.sum("statements_total", ""));
        let quiet = now == last && metrics.sum("passes_running", "") == 0.0;
        last = now;
        Ok(quiet.then_some(()))
    })
    .await
}

/// The steady state: passes with nothing to do, once for CPU and requests and once through a relay that counts bytes.
async fn rest(cluster: &Cluster, operator: &Operator, database: &Database, relay: &Relay) -> Result<Steady> {
    cluster.patch("timescaledatabases", NAME, json!({"resyncInterval": "1s"})).await?;
    let Window { before, after, requests, cpu } = window(cluster, operator).await?;
    let grown = |name: &str| after.sum(name, "") - before.sum(name, "");
    let passes = grown("passes_total");
    let own_count = grown("api_writes_total");
    assert_eq!(own_count, requests.writes() as f64, "the operator's count of its writes");

    cluster.secret(NAME, &database.keys(Some(relay.port()))).await?;
    let begun = passed(&operator.metrics().await?) + 3.0;
    let (from, bytes) = (passed(&operator.passes(begun).await?), relay.bytes());
    tokio::time::sleep(MEASURED).await;
    let (last, now) = (passed(&operator.metrics().await?), relay.bytes());
    let bytes = [0, 1].map(|n| (now[n] - bytes[n]) as f64 / (last - from));
    cluster.secret(NAME, &database.keys(None)).await?;
    let begun = passed(&operator.metrics().await?) + 2.0;
    operator.passes(begun).await?;
    Ok(Steady {
        statements: grown("statements_total") / passes,
        requests: requests.all() as f64 / passes,
        writes: requests.writes() as f64,
        cpu: cpu.div_f64(passes),
        took: Duration::from_secs_f64(grown("pass_duration_seconds_sum") / passes),
        bytes,
        connections: after.sum("connections", ""),
    })
}

/// What was counted while passes had nothing to do.
struct Window {
    before: Metrics,
    after: Metrics,
    requests: Requests,
    cpu: Duration,
}

/// Some seconds with nothing but passes. Sizes are read beside them from time to time: then it looks again.
async fn window(cluster: &Cluster, operator: &Operator) -> Result<Window> {
    for _ in 0..5 {
        // The change of the interval makes a pass and a status; what is measured begins when they are over.
        let begun = passed(&operator.metrics().await?) + 3.0;
        let (before, requests, cpu) = (operator.passes(begun).await?, cluster.requests().await?, operator.cpu()?);
        // Nobody asks for metrics meanwhile: to write them costs more than a pass.
        tokio::time::sleep(MEASURED).await;
        let cpu = operator.cpu()? - cpu;
        let (after, requests) = (operator.metrics().await?, cluster.requests().await?.since(&requests));
        let statements = after.sum("statements_total", "") - before.sum("statements_total", "");
        if statements % (passed(&after) - passed(&before)) == 0.0 {
            return Ok(Window { before, after, requests, cpu });
        }
    }
    Err("something goes on beside the passes all the time".into())
}

fn passed(metrics: &Metrics) -> f64 {
    metrics.sum("passes_total", "")
}

/// Waits until the operator has read all lists anew, and returns the peak of its memory.
async fn relisted(cluster: &Cluster, operator: &Operator, resources: usize) -> Result<f64> {
    let lists = eventually("all lists are read anew", Duration::from_millis(100), async || {
        Ok((cluster.requests().await?.lists() >= KINDS.len() as u64).then_some(()))
    });
    lists.await?;
    // What comes now is seen only by somebody who watches again.
    let generation = cluster
        .patch("hypertables", &format!("{NAME}-{}", workload::table(0)), json!({"chunkInterval": "2 days"}))
        .await?;
    changes::told(cluster, "hypertables", &format!("{NAME}-{}", workload::table(0)), generation).await?;
    settle(operator).await?;
    assert!(resources > 0);
    Ok(operator.memory()?.1)
}

async fn restart(cluster: &Cluster, resources: usize) -> Result<(Restart, f64)> {
    let before = cluster.requests().await?;
    let operator = Operator::start(cluster).await?;
    // Not more often: to write the metrics of many resources takes a while.
    let observed = eventually("everything is observed", Duration::from_millis(50), async || {
        let metrics = operator.metrics().await?;
        let in_sync = metrics.sum("resources", "reason=\"InSync\"");
        Ok((in_sync == resources as f64 && metrics.sum("passes_total", "") >= 1.0).then_some(()))
    });
    observed.await?;
    let took = operator.started.elapsed();
    settle(&operator).await?;
    let metrics = operator.metrics().await?;
    let writes = cluster.requests().await?.since(&before).writes();
    assert_eq!(writes as f64, metrics.sum("api_writes_total", ""), "the operator's count of its writes");
    let (memory, _) = operator.memory()?;
    operator.end().await?;
    Ok((Restart { took, writes, steps: metrics.sum("steps_total", "") }, memory))
}

/// The statements that the operator carried out, on a database of their own: one connection, one after the other, each
/// committed by itself, as `psql -f` does.
async fn script(tables: usize, resources: usize) -> Result<Duration> {
    let database = Database::with_tables(tables).await?;
    let sql = database.as_operator().await?;
    // Like the operator's sessions.
    sql.batch_execute("SET search_path = pg_catalog, public").await?;
    let started = Instant::now();
    for n in 0..tables {
        let kinds = resources - (n * KINDS.len()).min(resources);
        for (kind, statement) in workload::statements(n) {
            if kind < kinds {
                sql.batch_execute(&statement).await?;
            }
        }
    }
    let took = started.elapsed();
    drop(sql);
    database.end().await?;
    Ok(took)
}

/// The statuses that the operator wrote, applied to resources that nobody looks after.
async fn bare_statuses(cluster: &Cluster, manifests: Vec<(&'static str, serde_json::Value)>) -> Result<Duration> {
    let told = cluster.list(&KINDS).await?;
    cluster.create("bare", manifests).await?;
    let started = Instant::now();
    cluster.apply_statuses("bare", &told).await?;
    Ok(started.elapsed())
}
