//! Many databases with a hundred resources each, one of which is slow, or down.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::{
    changes::{self, Latencies},
    cluster::{Cluster, NAMESPACE},
    database::Database,
    eventually, growth,
    operator::Operator,
    relay::{Relay, State},
    support::Result,
    workload::{self, KINDS},
};

/// Tables of each database.
const TABLES: usize = 25;
/// Databases whose changes are measured.
const SAMPLE: usize = 10;
/// While passes are counted.
const RESYNC: Duration = Duration::from_secs(5);
/// How much later the slow database says everything.
const SLOW: Duration = Duration::from_secs(1);

pub struct Fleet {
    pub databases: usize,
    pub resources: usize,
    pub convergence: Duration,
    pub memory: f64,
    pub connections: f64,
    /// Of one pass over one database.
    pub cpu: Duration,
    pub troubles: Vec<Trouble>,
}

/// How the others do meanwhile.
pub struct Trouble {
    pub what: &'static str,
    /// Passes over the other databases in a minute, over what is due.
    pub passes: f64,
    pub latencies: Latencies,
}

pub async fn measure(databases: usize, changes: usize) -> Result<Fleet> {
    eprintln!("{databases} databases");
    let cluster = Cluster::start().await?;
    let name = |n: usize| format!("db{n:03}");
    let start = async |_| Database::with_tables(TABLES).await;
    let all: Vec<_> = stream::iter(0..databases).map(start).buffer_unordered(4).try_collect().await?;
    let troubled = Relay::to(all[0].address()).await?;
    for (n, database) in all.iter().enumerate() {
        let port = (n == 0).then(|| troubled.port());
        cluster.secret(&name(n), &database.keys(port)).await?;
        cluster.create_database(&name(n), "10m").await?;
        let resources = (0..TABLES).flat_map(|table| workload::resources(&name(n), table));
        cluster.create(NAMESPACE, resources).await?;
    }

    let operator = Operator::start(&cluster).await?;
    let expected = TABLES * KINDS.len();
    eventually("everything is in sync", Duration::from_millis(200), async || {
        let found = cluster.list(&["timescaledatabases"]).await?;
        let done = found.iter().filter(|(_, object)| object["status"]["resourcesInSync"] == expected).count();
        Ok((done == databases).then_some(()))
    })
    .await?;
    let convergence = operator.started.elapsed();
    eprintln!("  converged in {convergence:.2?}");
    growth::settle(&operator).await?;
    let (memory, _) = operator.memory()?;
    let connections = operator.metrics().await?.sum("connections", "");

    for n in 0..databases {
        let resync = format!("{}s", RESYNC.as_secs());
        cluster.patch("timescaledatabases", &name(n), json!({"resyncInterval": resync})).await?;
    }
    let names: Vec<_> = (0..databases).map(name).collect();
    let sample: Vec<_> = (1..databases).take(SAMPLE).map(|n| (names[n].as_str(), &all[n])).collect();
    let mut fleet = Fleet {
        databases,
        resources: expected * databases,
        convergence,
        memory,
        connections,
        cpu: Duration::ZERO,
        troubles: Vec::new(),
    };
    for (what, state) in
        [("none", State::Open), ("one answers a second late", State::Slow(SLOW)), ("one is down", State::Down)]
    {
        troubled.set(state);
        tokio::time::sleep(2 * RESYNC).await;
        let (before, cpu, begun) = (operator.metrics().await?, operator.cpu()?, Instant::now());
        tokio::time::sleep(4 * RESYNC).await;
        let (after, took) = (operator.metrics().await?, begun.elapsed());
        let passes = after.sum("passes_total", "outcome=\"ok\"") - before.sum("passes_total", "outcome=\"ok\"");
        if state == State::Open {
            fleet.cpu = (operator.cpu()? - cpu).div_f64(passes);
        }
        let latencies = changes::measure_in(&cluster, &sample, TABLES, changes).await?;
        eprintln!("  {what}: a change takes {:.0?}", latencies.catalog(0.5));
        fleet.troubles.push(Trouble { what, passes: passes * 60.0 / took.as_secs_f64(), latencies });
    }
    troubled.set(State::Open);
    operator.end().await?;
    for database in all {
        database.end().await?;
    }
    Ok(fleet)
}
