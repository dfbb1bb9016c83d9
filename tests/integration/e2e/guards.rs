//! Nothing that loses data happens without a person's word, and in `Observe` mode nothing happens at all.

use serde_json::Value;

use super::{
    database::Database,
    kstatus, manifests,
    stage::{Stage, condition},
};
use crate::support::Result;

#[tokio::test]
async fn retention_beyond_the_guard_waits_for_the_approval_of_exactly_its_plan() -> Result<()> {
    let stage = Stage::shared("approval").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 12)).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true")]).await?;
    let object = "retentionpolicy/readings";

    stage.apply(&[manifests::retention("readings", "dropAfter: 6 days")]).await?;
    stage.says(object, "ApprovalRequired").await?;
    let held = stage.get(object).await?;
    let first = digest(&held);
    let plan = &held["status"]["plan"];
    assert!(
        plan["hazards"][0].as_str().is_some_and(|text| text.contains("deletes data") && text.contains("of 12 chunks")),
        "{plan}"
    );
    assert!(plan["statements"][0].as_str().is_some_and(|text| text.contains("add_retention_policy(")), "{plan}");
    assert_eq!(kstatus::of(&held), "Failed");
    assert_eq!(database.policies("retention").await?, 0);

    // An approval of something else is none.
    stage.kubectl("annotate retentionpolicy readings timescaledb-policy.io/approve=0123456789ab").await?;
    stage
        .until(object, "the approval is for another plan", |found| {
            message(found).contains("(0123456789ab) is for another plan")
        })
        .await?;
    assert_eq!(database.policies("retention").await?, 0);

    // The message says what to type.
    stage.obey(&message(&stage.get(object).await?)).await?;
    stage.ready(object).await?;
    assert!(stage.get(object).await?["status"]["plan"].is_null());
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "6 days"))).await?);
    if Database::is_native() {
        // The job runs at once: what it drops changes the next plan.
        database
            .until("NOT EXISTS (SELECT FROM public.show_chunks('plant.readings', older_than => interval '6 days'))")
            .await?;
    }

    // Less is another plan.
    stage.patch(object, r#"{"dropAfter": "2 days"}"#).await?;
    stage.says(object, "ApprovalRequired").await?;
    let held = stage.get(object).await?;
    assert_ne!(digest(&held), first);
    assert!(message(&held).contains(&format!("({first}) is for another plan")), "{}", message(&held));
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "6 days"))).await?);
    stage.obey(&message(&stage.get(object).await?)).await?;
    stage.ready(object).await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "2 days"))).await?);
    stage.end().await?;
    database.end().await
}

fn digest(object: &Value) -> String {
    object["status"]["plan"]["digest"].as_str().unwrap_or_default().to_owned()
}

fn message(object: &Value) -> String {
    condition(object, "Ready")["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn observe_mode_shows_what_enforce_mode_then_does() -> Result<()> {
    let stage = Stage::shared("observe").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    stage.secret(&database).await?;
    stage
        .apply(&[
            manifests::database("plant", "mode: Observe"),
            manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true"),
            manifests::compression("readings", ""),
            manifests::aggregate("hourly", "readings", "1 hour", "realTime: true"),
        ])
        .await?;
    let plain = "NOT EXISTS (SELECT FROM timescaledb_information.hypertables) AND to_regclass('plant.hourly') IS NULL";
    for (object, statement) in [
        ("hypertable/readings", "create_hypertable("),
        ("compressionpolicy/readings", "timescaledb.compress"),
        ("continuousaggregate/hourly", "CREATE MATERIALIZED VIEW"),
    ] {
        stage.says(object, "DriftObserved").await?;
        let found = stage.get(object).await?;
        assert_eq!(condition(&found, "Drifted")["status"], "True", "{object}");
        assert!(
            found["status"]["plan"]["statements"][0].as_str().is_some_and(|text| text.contains(statement)),
            "{found}"
        );
        assert!(found["status"]["plan"]["digest"].is_null(), "there is nothing to approve: {found}");
        assert_eq!(kstatus::of(&found), "Failed", "{object}");
    }
    assert!(database.value::<bool>(&format!("SELECT {plain}")).await?);

    stage.patch("timescaledatabase/plant", r#"{"mode": "Enforce"}"#).await?;
    stage.ready("hypertable/readings compressionpolicy/readings continuousaggregate/hourly").await?;
    for object in ["hypertable/readings", "compressionpolicy/readings", "continuousaggregate/hourly"] {
        let found = stage.get(object).await?;
        assert!(condition(&found, "Drifted").is_null() && found["status"]["plan"].is_null(), "{found}");
    }
    assert_eq!(database.policies("compression").await?, 1);

    // Drift is shown as well, and so is the end of it.
    stage.patch("timescaledatabase/plant", r#"{"mode": "Observe"}"#).await?;
    stage.says("timescaledatabase/plant", "InSync").await?;
    database.run("SELECT set_chunk_time_interval('plant.readings', interval '5 days')").await?;
    let shown = stage.says("hypertable/readings", "DriftObserved").await?;
    assert!(shown.contains("5 days -> 1 day"), "{shown}");
    let drifted = r#"namespace="observe",database="plant",kind="Hypertable",reason="DriftObserved""#;
    assert_eq!(stage.operator()?.metrics().await?.sum("resources", drifted), 1.0);
    database.run("SELECT set_chunk_time_interval('plant.readings', interval '1 day')").await?;
    stage.says("hypertable/readings", "InSync").await?;
    stage.end().await?;
    database.end().await
}
