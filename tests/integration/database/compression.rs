//! Compression: its settings and its policy, changed in place.

use serde_json::{Value, json};
use timescaledb_policy_operator::{api::status::Reason, desired::Kind, error::Class, plan::step::Verdict};

use super::driver::{Database, assert_says, compression, database, deleted, hypertable};
use crate::support::Result;

const METRIC: &str = "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, place text, value float8)";

/// The settings as the catalog has them; `null` for those that TimescaleDB chooses.
async fn settings(db: &Database) -> Result<Value> {
    db.row(
        "SELECT segmentby AS segment, orderby AS order, orderby_desc AS desc, orderby_nullsfirst AS nulls_first
         FROM _timescaledb_catalog.compression_settings WHERE relid = 'metric'::regclass",
    )
    .await
}

async fn is_enabled(db: &Database) -> Result<bool> {
    db.one("SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_schema = '$schema' AND hypertable_name = 'metric'").await
}

fn both(fields: Value) -> [Value; 2] {
    [hypertable("metric", json!({"chunkInterval": "1 day"})), compression("metric", fields)]
}

#[tokio::test]
async fn a_table_becomes_a_compressed_hypertable_in_one_pass() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let order = json!([{"column": "ts", "order": "Desc"}, {"column": "value", "nulls": "First"}]);
    let outcome = db
        .converge(both(json!({"compressAfter": "7 days", "segmentBy": ["device", "place"], "orderBy": order})))
        .await?;
    assert_eq!(outcome.actions(), ["create_hypertable", "set_compression", "add_policy"]);
    assert!(is_enabled(&db).await?);
    assert_eq!(
        settings(&db).await?,
        json!({"segment": ["device", "place"], "order": ["ts", "value"], "desc": [true, false], "nulls_first": [true, true]})
    );
    let job = db.the_job(Kind::CompressionPolicy, "metric").await?;
    assert_eq!(job["config"], json!({"compress_after": "7 days"}));
    assert_eq!(job["scheduled"], true);

    // And it compresses: run by hand, because the WebAssembly server has no scheduler.
    db.run("INSERT INTO metric SELECT now() - n * interval '1 day', n, 'here', n FROM generate_series(1, 20) n")
        .await?;
    db.run(&format!("CALL run_job({})", job["id"])).await?;
    let compressed = "SELECT count(*) FILTER (WHERE is_compressed) > 10 AND count(*) FILTER (WHERE NOT is_compressed) > 5 FROM timescaledb_information.chunks WHERE hypertable_schema = '$schema'";
    assert!(db.one::<bool>(compressed).await?);
    assert_eq!(db.one::<i64>("SELECT count(*) FROM metric").await?, 20);
    Ok(())
}

#[tokio::test]
async fn settings_that_are_left_out_are_timescaledb_s() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    assert_eq!(db.converge(both(json!({}))).await?.steps.len(), 3);
    db.run(
        "ALTER TABLE metric SET (timescaledb.compress_segmentby = 'place', timescaledb.compress_orderby = 'value, ts')",
    )
    .await?;
    assert_eq!(db.converge(both(json!({}))).await?.actions(), [""; 0]);
    // One of the two is managed, the other stays what it is.
    assert_eq!(db.converge(both(json!({"segmentBy": ["device"]}))).await?.actions(), ["set_compression"]);
    let found = settings(&db).await?;
    assert_eq!((&found["segment"], &found["order"]), (&json!(["device"]), &json!(["value", "ts"])));
    Ok(())
}

#[tokio::test]
async fn settings_are_changed_from_any_to_any() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let asc = |column: &str| json!({"column": column});
    let desc = |column: &str| json!({"column": column, "order": "Desc"});
    // What the resource says, and the catalog after it. TimescaleDB appends the time column to the order.
    let cases = [
        (json!(["device"]), json!([desc("ts")]), (json!(["device"]), json!(["ts"]), json!([true]), json!([true]))),
        (
            json!([]),
            json!([asc("device")]),
            (json!([]), json!(["device", "ts"]), json!([false, true]), json!([false, true])),
        ),
        // A column changes sides, both ways: one statement, or TimescaleDB sees it on both.
        (
            json!(["device"]),
            json!([asc("place")]),
            (json!(["device"]), json!(["place", "ts"]), json!([false, true]), json!([false, true])),
        ),
        (
            json!(["place"]),
            json!([asc("device")]),
            (json!(["place"]), json!(["device", "ts"]), json!([false, true]), json!([false, true])),
        ),
        (
            json!(["place", "device"]),
            json!([asc("ts")]),
            (json!(["place", "device"]), json!(["ts"]), json!([false]), json!([false])),
        ),
        (
            json!(["device", "place"]),
            json!([asc("ts")]),
            (json!(["device", "place"]), json!(["ts"]), json!([false]), json!([false])),
        ),
        (
            json!(["device", "place"]),
            json!([{"column": "ts", "order": "Desc", "nulls": "Last"}, {"column": "value", "nulls": "First"}]),
            (json!(["device", "place"]), json!(["ts", "value"]), json!([true, false]), json!([false, true])),
        ),
    ];
    let mut last = json!({});
    for (segment, order, (live_segment, live_order, descending, nulls_first)) in cases {
        last = json!({"segmentBy": segment, "orderBy": order});
        let outcome = db.converge(both(last.clone())).await?;
        assert_eq!(outcome.actions().iter().filter(|action| **action == "set_compression").count(), 1, "{last}");
        let expected =
            json!({"segment": live_segment, "order": live_order, "desc": descending, "nulls_first": nulls_first});
        assert_eq!(settings(&db).await?, expected, "{last}");
    }
    // Also over chunks that are compressed already, which keep theirs.
    db.run(
        "INSERT INTO metric VALUES ('2026-01-01', 1, 'here', 1); SELECT compress_chunk(c) FROM show_chunks('metric') c",
    )
    .await?;
    assert_eq!(db.converge(both(last)).await?.actions(), [""; 0]);
    let outcome = db.converge(both(json!({"segmentBy": [], "orderBy": [desc("ts")]}))).await?;
    assert_eq!(outcome.actions(), ["set_compression"]);
    assert_says(&outcome.steps[0].change, &["for chunks compressed from now on", "segment by device, place -> none"]);
    assert_eq!(settings(&db).await?["segment"], json!([]));
    Ok(())
}

#[tokio::test]
async fn columns_with_any_name_are_segmented_and_ordered_by() -> Result<()> {
    let db = Database::shared().await?;
    let odd = ["Up Per", "q\"t", "co,mma", "it's", "back\\slash", "ünï", "select", "a DESC", "x"];
    let columns: Vec<_> = odd.iter().map(|name| format!("\"{}\" int", name.replace('"', "\"\""))).collect();
    db.run(&format!("CREATE TABLE metric (\"T S\" timestamptz NOT NULL, {})", columns.join(", "))).await?;
    let resources = |segment: &[&str], order: &[&str]| {
        let order: Vec<_> = order.iter().map(|column| json!({"column": column, "order": "Desc"})).collect();
        [
            hypertable("metric", json!({"timeColumn": "T S"})),
            compression("metric", json!({"segmentBy": segment, "orderBy": order})),
        ]
    };
    db.converge(resources(&odd[..5], &odd[5..])).await?;
    let found = settings(&db).await?;
    assert_eq!(found["segment"], json!(odd[..5]));
    assert_eq!(found["order"], json!([&odd[5..], &["T S"]].concat()));
    assert_eq!(db.converge(resources(&odd[5..], &odd[..5])).await?.actions(), ["set_compression"]);
    let found = settings(&db).await?;
    assert_eq!(found["segment"], json!(odd[5..]));
    assert_eq!(found["order"], json!([&odd[..5], &["T S"]].concat()));
    Ok(())
}

#[tokio::test]
async fn a_column_that_is_not_there_is_refused_and_nothing_enabled() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge([hypertable("metric", json!({}))]).await?;
    for fields in [json!({"segmentBy": ["colour"]}), json!({"orderBy": [{"column": "colour"}]})] {
        let outcome = db.attempt(both(fields)).await?;
        let failure = outcome.failure(Kind::CompressionPolicy, "metric");
        assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{failure}");
        assert_says(&failure.message, &["colour"]);
        assert!(!is_enabled(&db).await?);
        assert_eq!(db.job(Kind::CompressionPolicy, "metric").await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn the_policy_is_changed_paused_resumed_and_removed_in_place() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge(both(json!({"compressAfter": "7 days"}))).await?;
    let made = db.the_job(Kind::CompressionPolicy, "metric").await?;
    let changes = [
        (json!({"compressAfter": "30 days"}), json!({"compress_after": "30 days"}), true),
        (json!({"compressAfter": "PT12H"}), json!({"compress_after": "12 hours"}), true),
        (json!({"compressAfter": "12 hours", "paused": true}), json!({"compress_after": "12 hours"}), false),
        (json!({"compressAfter": "1 month", "paused": true}), json!({"compress_after": "1 month"}), false),
        (json!({"compressAfter": "1 month"}), json!({"compress_after": "1 month"}), true),
    ];
    for (fields, config, scheduled) in changes {
        assert_eq!(db.converge(both(fields.clone())).await?.actions(), ["alter_policy"], "{fields}");
        let job = db.the_job(Kind::CompressionPolicy, "metric").await?;
        assert_eq!(
            (&job["config"], &job["scheduled"], &job["id"]),
            (&config, &json!(scheduled), &made["id"]),
            "{fields}"
        );
    }
    // TimescaleDB stores no difference that its comparison does not see, so neither way of writing it is one.
    assert_eq!(db.converge(both(json!({"compressAfter": "30 days"}))).await?.actions(), [""; 0]);

    let [table, policy] = both(json!({"compressAfter": "30 days"}));
    let outcome = db.converge([table.clone(), deleted(policy.clone())]).await?;
    assert_eq!(outcome.actions(), ["remove_policy"]);
    assert_eq!(outcome.verdict(Kind::CompressionPolicy, "metric"), &Verdict::Released);
    assert_eq!(db.job(Kind::CompressionPolicy, "metric").await?, None);
    assert!(is_enabled(&db).await?, "chunks stay as they are");
    assert_eq!(db.converge([table, deleted(policy)]).await?.actions(), [""; 0], "once is enough");
    Ok(())
}

#[tokio::test]
async fn a_policy_made_paused_is_never_scheduled() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let outcome = db.converge(both(json!({"paused": true}))).await?;
    assert_eq!(outcome.actions(), ["create_hypertable", "set_compression", "add_policy"]);
    assert_eq!(db.the_job(Kind::CompressionPolicy, "metric").await?["scheduled"], false);
    Ok(())
}

#[tokio::test]
async fn a_policy_waits_for_its_table_and_is_made_in_the_pass_that_converts_it() -> Result<()> {
    let db = Database::shared().await?;
    let outcome = db.attempt(both(json!({}))).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    assert!(
        matches!(outcome.verdict(Kind::CompressionPolicy, "metric"), Verdict::WaitingOn(why) if why.contains("metric"))
    );
    db.run(METRIC).await?;
    assert_eq!(db.converge(both(json!({}))).await?.steps.len(), 3);
    Ok(())
}

#[tokio::test]
async fn observe_mode_shows_the_steps_and_takes_none() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let observed = || both(json!({"segmentBy": ["device"]})).into_iter().chain([database(json!({"mode": "Observe"}))]);
    let outcome = db.converge(observed()).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    let Verdict::Drifted(held) = outcome.verdict(Kind::CompressionPolicy, "metric") else {
        panic!("{:?}", outcome.plan.verdicts)
    };
    assert_eq!(held.statements.len(), 2, "{held:?}");
    // What it shows is what a person can run.
    let Verdict::Drifted(conversion) = outcome.verdict(Kind::Hypertable, "metric") else {
        panic!("{:?}", outcome.plan.verdicts)
    };
    for statement in conversion.statements.iter().chain(&held.statements) {
        db.run(statement).await?;
    }
    assert_eq!(db.converge(observed()).await?.verdict(Kind::CompressionPolicy, "metric"), &Verdict::InSync);
    Ok(())
}
