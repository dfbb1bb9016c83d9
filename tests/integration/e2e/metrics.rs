//! What Prometheus scrapes about databases.

use super::{database::Database, eventually, manifests, operator::Metrics, stage::Stage};
use crate::support::Result;

/// Waits until a scrape shows this.
async fn until(stage: &Stage, what: &str, so: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
    eventually(what, async || {
        let metrics = stage.operator()?.metrics().await?;
        Ok(so(&metrics).then_some(metrics))
    })
    .await
}

#[tokio::test]
async fn a_database_is_in_the_metrics_until_its_resource_is_gone() -> Result<()> {
    let mut stage = Stage::own("scrape").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let resources = [
        manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true"),
        manifests::compression("readings", "segmentBy: [sensor]"),
        manifests::retention("readings", "dropAfter: 1 year"),
        manifests::aggregate(
            "hourly",
            "readings",
            "1 hour",
            "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}",
        ),
    ];
    stage.manage(&database, &resources).await?;

    let own = r#"namespace="scrape",database="plant""#;
    let table = format!(r#"{own},schema="plant",table="readings",kind="Hypertable""#);
    let view = format!(r#"{own},schema="plant",table="hourly""#);
    let known = |m: &Metrics| {
        m.sample(&format!("timescaledb_hypertable_size_bytes{{{table}}}")).is_some()
            && m.sample(&format!("timescaledb_continuous_aggregate_invalidations{{{view}}}")).is_some()
    };
    let metrics = until(&stage, "the sizes of the hypertable and the backlog of the aggregate", known).await?;
    let chunks = "SELECT count(*)::float8 FROM timescaledb_information.chunks WHERE hypertable_name = 'readings'";
    for (sample, value) in [
        (format!("timescaledb_up{{{own}}}"), 1.0),
        (format!("timescaledb_statistics_stale{{{own}}}"), 0.0),
        (format!("timescaledb_hypertable_chunks{{{table}}}"), database.value(chunks).await?),
        (format!("timescaledb_hypertable_chunks_to_compress{{{table}}}"), 0.0),
        (format!("timescaledb_hypertable_chunks_to_drop{{{table}}}"), 0.0),
        (r#"timescaledb_policy_operator_resources{namespace="scrape",database="plant",kind="Hypertable",reason="InSync"}"#.to_owned(), 1.0),
        ("timescaledb_policy_operator_leader".to_owned(), 1.0),
    ] {
        assert_eq!(metrics.sample(&sample), Some(value), "{sample}");
    }
    for policy in ["compression", "retention", "refresh"] {
        let policy = format!(r#"policy="{policy}""#);
        assert_eq!(metrics.named("timescaledb_job_scheduled", &policy).count(), 1, "{policy}");
    }
    assert_eq!(metrics.named("timescaledb_info", own).count(), 1);

    stage.delete(&resources).await?;
    stage.kubectl("delete timescaledatabase plant --timeout=120s").await?;
    until(&stage, "nothing of the database", |metrics| {
        metrics.named("timescaledb_", r#"namespace="scrape""#).next().is_none()
    })
    .await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_reading_that_fails_is_stale_and_holds_up_nothing() -> Result<()> {
    let mut stage = Stage::own("stale").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    stage.secret(&database).await?;
    let hypertable = manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true");
    stage.apply(&[manifests::database("plant", "statisticsInterval: 1s"), hypertable]).await?;
    stage.ready("hypertable/readings timescaledatabase/plant").await?;
    let own = r#"{namespace="stale",database="plant"}"#;
    let (stale, at) =
        (format!("timescaledb_statistics_stale{own}"), format!("timescaledb_statistics_timestamp_seconds{own}"));
    until(&stage, "a first reading", |m| m.sample(&stale) == Some(0.0) && m.sample(&at).is_some()).await?;

    // Only readings look there. On a server with several backends somebody holds it, on the other nobody may read it.
    let superuser = database.superuser().await?;
    let table = "_timescaledb_catalog.compression_chunk_size";
    let (block, unblock) = if Database::is_native() {
        (format!("BEGIN; LOCK TABLE {table}"), "ROLLBACK".to_owned())
    } else {
        (format!("REVOKE SELECT ON {table} FROM PUBLIC"), format!("GRANT SELECT ON {table} TO PUBLIC"))
    };
    superuser.batch_execute(&block).await?;
    let failed = until(&stage, "a stale reading", |m| m.sample(&stale) == Some(1.0)).await?;
    let later = stage.operator()?.passes(5).await?;
    assert_eq!(later.sample(&stale), Some(1.0), "the passes in between do not make it fresh");
    assert_eq!(later.sample(&at), failed.sample(&at), "the last reading is still there");
    assert_eq!(later.sample(&format!("timescaledb_up{own}")), Some(1.0));
    assert_eq!(later.sum("passes_total", "outcome=\"ok\""), later.sum("passes_total", ""), "no pass has failed");
    database.run(&manifests::table_of_days("more", 3)).await?;
    stage.apply(&[manifests::hypertable("more", "chunkInterval: 1 day, migrateData: true")]).await?;
    stage.ready("hypertable/more").await?;

    superuser.batch_execute(&unblock).await?;
    let before = failed.sample(&at);
    until(&stage, "a new reading", |m| m.sample(&stale) == Some(0.0) && m.sample(&at) > before).await?;
    stage.until("hypertable/more", "its chunks", |found| found["status"]["chunks"].as_i64() >= Some(3)).await?;
    stage.end().await?;
    database.end().await
}
