//! Values that a `TimescaleDatabase` has for fields that its resources leave out.

use super::{database::Database, manifests, operator::Operator, stage::Stage};
use crate::support::Result;

#[tokio::test]
async fn defaults_are_filled_in_and_followed_and_missed_by_name() -> Result<()> {
    let stage = Stage::shared("defaults").await?;
    let database = Database::start().await?;
    for table in ["a", "b"] {
        database.run(&manifests::table(table)).await?;
    }
    stage.secret(&database).await?;
    let defaults = "defaults: {chunkInterval: 2 days, compressAfter: 30 days, dropAfter: 1 year}";
    let compression = |name: &str| {
        manifests::resource("CompressionPolicy", name, &format!("targetRef: {{kind: Hypertable, name: {name}}}"))
    };
    stage
        .apply(&[
            manifests::database("plant", defaults),
            manifests::hypertable("a", ""),
            manifests::hypertable("b", "chunkInterval: 5 days"),
            compression("a"),
            manifests::retention("a", ""),
            manifests::retention("b", "dropAfter: 7 years"),
        ])
        .await?;
    stage.ready("hypertable/a hypertable/b compressionpolicy/a retentionpolicy/a retentionpolicy/b").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("a", "2 days"))).await?);
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("b", "5 days"))).await?, "its own");
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("a", "1 year"))).await?);
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("b", "7 years"))).await?, "its own");
    assert_eq!(stage.get("hypertable/a").await?["status"]["chunkInterval"], "2 days");
    assert_eq!(stage.get("compressionpolicy/a").await?["status"]["compressAfter"], "30 days");
    for (object, after) in [("retentionpolicy a", "1 year"), ("retentionpolicy b", "7 years")] {
        let row = stage.kubectl(&format!("get {object} --no-headers")).await?;
        assert!(row.contains(after), "{row}");
    }

    // All that use them follow; it is a change, not drift.
    let change = r#"{"defaults": {"chunkInterval": "3 days", "compressAfter": "40 days", "dropAfter": "2 years"}}"#;
    stage.patch("timescaledatabase/plant", change).await?;
    database.until(&Database::chunks_span("a", "3 days")).await?;
    database.until(&Database::drops_after("a", "2 years")).await?;
    stage.until("retentionpolicy/a", "the new age", |found| found["status"]["dropAfter"] == "2 years").await?;
    stage.until("compressionpolicy/a", "the new age", |found| found["status"]["compressAfter"] == "40 days").await?;
    for object in ["hypertable/a", "retentionpolicy/a"] {
        assert_eq!(stage.events(object, "DriftCorrected").await?, [""; 0], "{object}");
        assert_eq!(stage.events(object, "Applied").await?.len(), 2, "{object}");
    }
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("b", "5 days"))).await?);

    // Without them a policy has no age, and says who could give it one. A chunk interval is not managed any more.
    stage.patch("timescaledatabase/plant", r#"{"defaults": null}"#).await?;
    let message = stage.says("retentionpolicy/a", "InvalidSpec").await?;
    for words in ["spec.dropAfter", "dropCreatedBefore", "TimescaleDatabase plant", "spec.defaults.dropAfter"] {
        assert!(message.contains(words), "{message} lacks {words}");
    }
    let message = stage.says("compressionpolicy/a", "InvalidSpec").await?;
    assert!(message.contains("spec.defaults.compressAfter"), "{message}");
    stage.ready("hypertable/a hypertable/b retentionpolicy/b").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("a", "2 years"))).await?, "as it was");
    stage.patch("retentionpolicy/a", r#"{"dropAfter": "4 years"}"#).await?;
    database.until(&Database::drops_after("a", "4 years")).await?;

    // One that cannot be read is named where it stands.
    stage.patch("timescaledatabase/plant", r#"{"defaults": {"compressAfter": "7 lightyears"}}"#).await?;
    let message = stage
        .until("compressionpolicy/a", "the default is named", |found| {
            found["status"]["conditions"][0]["message"].as_str().is_some_and(|text| text.contains("lightyears"))
        })
        .await?["status"]["conditions"][0]["message"]
        .to_string();
    assert!(message.contains("TimescaleDatabase plant: spec.defaults.compressAfter"), "{message}");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn the_operators_defaults_count_where_the_database_has_none() -> Result<()> {
    let mut stage = Stage::own("layers").await?;
    let options = ["--default-chunk-interval", "2 days", "--default-drop-after", "1 year"];
    let kubeconfig = stage.api()?.kubeconfig_path().to_owned();
    stage.put_operator(Operator::start_with(&kubeconfig, "info", &options).await?);
    let database = Database::start().await?;
    database.run(&manifests::table("a")).await?;
    stage.secret(&database).await?;
    let plant = manifests::database("plant", "defaults: {dropAfter: 3 years}");
    stage.apply(&[plant, manifests::hypertable("a", ""), manifests::retention("a", "")]).await?;
    stage.ready("timescaledatabase/plant hypertable/a retentionpolicy/a").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("a", "2 days"))).await?);
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("a", "3 years"))).await?);
    let shown = serde_json::json!({
        "chunkInterval": {"value": "2 days", "source": "Operator"},
        "dropAfter": {"value": "3 years", "source": "Database"},
    });
    assert_eq!(stage.get("timescaledatabase/plant").await?["status"]["defaults"], shown);
    stage.patch("timescaledatabase/plant", r#"{"defaults": null}"#).await?;
    database.until(&Database::drops_after("a", "1 year")).await?;
    stage.ready("timescaledatabase/plant retentionpolicy/a").await?;
    stage.end().await?;
    database.end().await
}
