//! What somebody else holds locked is waited for briefly, tried again, and never in front of the application.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use timescaledb_policy_operator::{api::status::Reason, desired::Kind, error::Class};

use super::driver::{Database, compression, hypertable};
use crate::support::Result;

/// What a step waits for a lock at most, with some more for a machine that is busy.
const LONGEST_WAIT: Duration = Duration::from_millis(3500);

#[tokio::test]
async fn no_step_waits_long_for_a_lock_nor_lets_others_wait_long() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // nothing else runs while a transaction of the WebAssembly server is open
    }
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8, n int);
         SELECT create_hypertable('metric', by_range('ts', interval '1 day'));
         INSERT INTO metric SELECT timestamptz '2026-01-01' + i * interval '1 hour', i % 3, i, i FROM generate_series(0, 99) i",
    )
    .await?;
    let table = |fields: Value| hypertable("metric", fields);
    let indexes =
        |columns: Value, unique: bool| json!({"indexes": [{"name": "odd", "unique": unique, "columns": columns}]});
    let by = |name: &str| json!({"name": name});
    let start = json!({"initialStart": "2036-01-01T00:00:00Z"});
    db.converge([table(indexes(json!([by("device")]), false))]).await?;
    let other = |columns: Value| compression("metric", json!({"segmentBy": columns, "schedule": start}));
    db.converge([table(indexes(json!([by("device")]), false)), other(json!(["device"]))]).await?;
    // Each from what the last has left; the lock is one that an application holds that reads, or that writes.
    let cases = [
        (
            Kind::Hypertable,
            vec![table(indexes(json!([by("device"), by("ts")]), false))],
            "SELECT count(*) FROM $schema.metric",
            vec!["build_index"],
            vec!["place_index"],
        ),
        (
            Kind::Hypertable,
            vec![table(indexes(json!([by("device"), by("ts")]), true))],
            "SELECT count(*) FROM $schema.metric",
            vec![],
            vec!["create_index"],
        ),
        (
            Kind::Hypertable,
            vec![table(indexes(json!([by("device"), by("ts"), by("n")]), true))],
            "INSERT INTO $schema.metric VALUES ('2026-01-02', 1, 1, 1)",
            vec![],
            vec!["create_index"],
        ),
        (Kind::Hypertable, vec![table(json!({}))], "SELECT count(*) FROM $schema.metric", vec![], vec!["drop_index"]),
        (
            Kind::CompressionPolicy,
            vec![table(json!({})), other(json!([]))],
            "SELECT count(*) FROM $schema.metric",
            vec![],
            vec!["set_compression"],
        ),
    ];
    for (kind, resources, held, before, after) in cases {
        let (holder, writer) = (db.server.connect().await?, db.server.connect().await?);
        holder.batch_execute(&db.here(&format!("BEGIN; {held}"))).await?;
        let stop = tokio::sync::Notify::new();
        let write = async {
            let mut longest = Duration::ZERO;
            let insert = db.here("INSERT INTO $schema.metric VALUES (timestamptz '2026-01-03' + random() * interval '20 hours', 7, 2, 2)");
            loop {
                let begun = Instant::now();
                writer.batch_execute(&insert).await?;
                longest = longest.max(begun.elapsed());
                let pause = tokio::time::sleep(Duration::from_millis(20));
                tokio::select! { () = stop.notified() => return Ok::<Duration, crate::support::Error>(longest), () = pause => {} }
            }
        };
        let attempt = async {
            let outcome = db.attempt(resources.clone()).await;
            stop.notify_one();
            outcome
        };
        let (longest, outcome) = tokio::join!(write, attempt);
        let outcome = outcome?;
        assert_eq!(outcome.actions(), before, "{after:?}");
        let failure = outcome.failure(kind, "metric");
        assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::LockTimeout), "{after:?}: {failure}");
        let longest = longest?;
        assert!(longest < LONGEST_WAIT, "{after:?}: a row waited {longest:?}");
        holder.batch_execute("COMMIT").await?;
        db.run("DELETE FROM metric WHERE ts = '2026-01-02'").await?;
        assert_eq!(db.converge(resources).await?.actions(), after);
    }
    Ok(())
}

/// Removing and adding is one transaction: who looks meanwhile always sees a policy.
#[tokio::test]
async fn a_policy_that_is_replaced_is_never_missing() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // one backend does one thing at a time
    }
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, value float8); SELECT create_hypertable('metric', by_range('ts', interval '1 day'))").await?;
    let watcher = db.server.connect().await?;
    let with = |fields: Value| {
        let mut policy = compression("metric", fields);
        policy["spec"]["schedule"] = json!({"initialStart": "2036-01-01T00:00:00Z"});
        policy["spec"]
            .as_object_mut()
            .map(|spec| spec.contains_key("compressCreatedBefore").then(|| spec.remove("compressAfter")));
        [hypertable("metric", json!({})), policy]
    };
    db.converge(with(json!({}))).await?;
    let stop = tokio::sync::Notify::new();
    let watch = async {
        let policies = db.here("SELECT count(*) FROM _timescaledb_config.bgw_job j JOIN _timescaledb_catalog.hypertable h ON h.id = j.hypertable_id WHERE h.schema_name = '$schema' AND j.proc_name = 'policy_compression'");
        let mut seen = 0;
        loop {
            let found: i64 = watcher.query_one(&policies, &[]).await?.get(0);
            assert_eq!(found, 1);
            seen += 1;
            let stopped = tokio::time::timeout(Duration::from_micros(200), stop.notified()).await;
            if stopped.is_ok() {
                return Ok::<i32, crate::support::Error>(seen);
            }
        }
    };
    let change = async {
        let result = async {
            for _ in 0..5 {
                assert_eq!(
                    db.converge(with(json!({"compressCreatedBefore": "3 days"}))).await?.actions(),
                    ["replace_policy"]
                );
                assert_eq!(db.converge(with(json!({}))).await?.actions(), ["replace_policy"]);
            }
            Ok::<(), crate::support::Error>(())
        };
        let result = result.await;
        stop.notify_one();
        result
    };
    let (seen, changed) = tokio::join!(watch, change);
    changed?;
    assert!(seen? > 10);
    Ok(())
}
