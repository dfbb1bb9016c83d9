//! What an operator that starts makes of what is there.

use super::{
    database::Database,
    kstatus, manifests,
    stage::{KINDS, Stage},
};
use crate::support::Result;

#[tokio::test]
async fn a_restart_with_nothing_changed_writes_nothing() -> Result<()> {
    let mut stage = Stage::own("restart").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let indexes = "indexes: [{name: readings_high, columns: [{name: sensor}], where: value > 1}]";
    stage
        .manage(
            &database,
            &[
                manifests::hypertable("readings", &format!("chunkInterval: 1 day, migrateData: true, {indexes}")),
                manifests::compression("readings", "segmentBy: [sensor]"),
                manifests::retention(
                    "readings",
                    "dropAfter: 1 year, schedule: {initialStart: \"2026-01-01T02:00:00Z\", timezone: Europe/Berlin}",
                ),
                manifests::aggregate(
                    "hourly",
                    "readings",
                    "1 hour",
                    "realTime: true, refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}",
                ),
            ],
        )
        .await?;
    stage.sizes_told().await?;
    let status = stage.take_operator()?.terminate().await?;
    assert!(status.success(), "{status}");

    let versions = stage.versions().await?;
    stage.start_operator().await?;
    let metrics = stage.operator()?.passes(3).await?;
    for counter in ["api_writes_total", "steps_total", "drift_total", "errors_total"] {
        assert_eq!(metrics.sum(counter, ""), 0.0, "{counter}");
    }
    assert_eq!(stage.versions().await?, versions);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn what_happened_while_the_operator_was_down_is_taken_up_when_it_starts() -> Result<()> {
    let mut stage = Stage::own("down").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("readings"), manifests::table("later")].concat()).await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    stage.manage(&database, &[manifests::hypertable("readings", ""), retention]).await?;
    stage.take_operator()?.kill();

    stage.kubectl("delete hypertable,retentionpolicy readings --wait=false").await?;
    stage
        .apply(&[
            manifests::hypertable("later", ""),
            manifests::compression("later", ""),
            manifests::retention("later", "dropAfter: 1 year"),
            manifests::aggregate("hourly", "later", "1 hour", ""),
            manifests::database("other", ""),
        ])
        .await?;
    // Whoever waits for them does not take what nobody has looked at for done.
    for object in stage.objects().await? {
        let expected = match object["metadata"]["name"].as_str() {
            Some("readings") => "Terminating",
            Some("plant") => "Current",
            _ => "InProgress",
        };
        assert_eq!(kstatus::of(&object), expected, "{object}");
    }
    assert_eq!(database.policies("retention").await?, 1);

    stage.start_operator().await?;
    stage.gone("retentionpolicy/readings").await?;
    let without_secret = stage.says("timescaledatabase/other", "SecretNotFound");
    without_secret.await?;
    stage.kubectl("delete timescaledatabase other").await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    let left = "(SELECT array_agg(hypertable_name::text) FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention')";
    assert!(database.value::<bool>(&format!("SELECT {left} = '{{later}}'")).await?);
    stage.end().await?;
    database.end().await
}
