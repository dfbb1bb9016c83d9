//! What a pass costs, in counts: queries, writes, connections. `make bench` measures the rest.

use std::time::Duration;

use super::{database::Database, manifests, operator::Metrics, relay::Relay, stage::Stage};
use crate::support::Result;

/// What the operator has counted of its work so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    passes: f64,
    statements: f64,
    api_writes: f64,
    steps: f64,
}

impl From<&Metrics> for Counts {
    fn from(metrics: &Metrics) -> Self {
        Self {
            passes: metrics.sum("passes_total", ""),
            statements: metrics.sum("statements_total", ""),
            api_writes: metrics.sum("api_writes_total", ""),
            steps: metrics.sum("steps_total", ""),
        }
    }
}

/// The resources of one table: one of each kind.
fn of_table(table: &String) -> [String; 4] {
    let schedule = "schedule: {interval: 1 hour, initialStart: '2100-01-01T00:00:00Z'}";
    let refresh = format!("refreshPolicy: {{startOffset: 3 days, {schedule}}}");
    [
        manifests::hypertable(table, "chunkInterval: 1 day"),
        manifests::compression(table, schedule),
        manifests::retention(table, &format!("dropAfter: 1 year, {schedule}")),
        manifests::aggregate(&format!("hourly-{table}"), table, "1 hour", &refresh),
    ]
}

/// Statements, writes and steps of each of some passes over so many tables, with nothing to do; and connections.
async fn at_rest(stage: &Stage, database: &Database, tables: std::ops::Range<usize>) -> Result<(f64, f64, f64, f64)> {
    let tables: Vec<_> = tables.map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    stage.manage(database, &tables.iter().flat_map(of_table).collect::<Vec<_>>()).await?;
    stage.sizes_told().await?;
    let before = Counts::from(&stage.operator()?.passes(2).await?);
    let versions = stage.versions().await?;
    let metrics = stage.operator()?.passes(5).await?;
    let after = Counts::from(&metrics);
    assert_eq!(stage.versions().await?, versions, "the API server has seen no write");
    let passes = after.passes - before.passes;
    Ok((
        (after.statements - before.statements) / passes,
        after.api_writes - before.api_writes,
        after.steps - before.steps,
        metrics.sum("connections", ""),
    ))
}

#[tokio::test]
async fn a_pass_with_nothing_to_do_costs_the_same_whatever_the_number_of_resources() -> Result<()> {
    let mut stage = Stage::own("costs").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let few = at_rest(&stage, &database, 0..2).await?;
    let many = at_rest(&stage, &database, 2..12).await?;
    // One snapshot of the catalog: the server, tables, jobs.
    assert_eq!(few, (3.0, 0.0, 0.0, 1.0), "statements in a pass, writes, steps, connections");
    assert_eq!(many, few);

    // Nor does an operator that starts anew write anything.
    let versions = stage.versions().await?;
    assert!(stage.take_operator()?.terminate().await?.success());
    stage.start_operator().await?;
    let metrics = stage.operator()?.passes(3).await?;
    let Counts { api_writes, steps, .. } = Counts::from(&metrics);
    assert_eq!((api_writes, steps), (0.0, 0.0));
    assert_eq!(stage.versions().await?, versions);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_first_convergence_takes_one_pass_and_each_write_once() -> Result<()> {
    const TABLES: usize = 10;
    let mut stage = Stage::own("first").await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    stage.secret(&database).await?;
    let all: Vec<_> = [manifests::database("plant", "")].into_iter().chain(tables.iter().flat_map(of_table)).collect();
    stage.apply(&all).await?;
    stage.start_operator().await?;
    stage.ready("--all hypertables,compressionpolicies,retentionpolicies,continuousaggregates").await?;
    let metrics = stage.operator()?.metrics().await?;
    let tables = f64::from(u32::try_from(TABLES)?);
    assert_eq!(metrics.sum("steps_total", "outcome=\"applied\""), 6.0 * tables);
    assert_eq!(metrics.sum("steps_total", ""), 6.0 * tables);
    for (write, each) in [("event", 4.0), ("finalizer", 2.0)] {
        let of_resources = metrics.sum("api_writes_total", &format!("write=\"{write}\""))
            - metrics.sum("api_writes_total", &format!("kind=\"TimescaleDatabase\",write=\"{write}\""));
        assert_eq!(of_resources, each * tables, "{write}");
    }
    // The sizes may come a pass later, and are told by those that have some.
    let statuses = metrics.sum("api_writes_total", "write=\"status\"");
    assert!((4.0 * tables..=6.0 * tables + 2.0).contains(&statuses), "{statuses}");
    stage.end().await?;
    database.end().await
}

/// The operator forgets what it has written as soon as its watches tell of it, while the pass goes on with what it saw before.
#[tokio::test]
async fn every_status_is_written_once_however_long_the_pass_takes() -> Result<()> {
    let mut stage = Stage::own("slowly").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let relay = Relay::to(&database).await?;
    stage.secret_named("plant", &database, relay.port()).await?;
    let spec = "connection: {secretRef: {name: plant}, tls: {mode: Disable}}, resyncInterval: 1s";
    let plant = manifests::resource("TimescaleDatabase", "plant", spec);
    stage.apply(&[plant].into_iter().chain(of_table(&"readings".to_owned())).collect::<Vec<_>>()).await?;
    // Between the steps and the look at what they made; finalizers are on by then.
    relay.delay("pg_logical_emit_message", Duration::from_secs(8));
    stage.start_operator().await?;
    stage.ready("--all hypertables,compressionpolicies,retentionpolicies,continuousaggregates").await?;
    assert!(relay.has_struck());
    let metrics = stage.operator()?.metrics().await?;
    for kind in ["CompressionPolicy", "RetentionPolicy"] {
        let of_kind = |write| metrics.sum("api_writes_total", &format!("kind=\"{kind}\",write=\"{write}\""));
        assert_eq!((of_kind("finalizer"), of_kind("status")), (1.0, 1.0), "{kind}");
    }
    stage.end().await?;
    database.end().await
}
