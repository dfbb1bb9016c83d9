//! A database that is used from other namespaces.

use super::{
    database::Database,
    manifests,
    stage::{KINDS, Stage, has_finalizer},
};
use crate::support::Result;

/// The manifest for another namespace than the database's.
fn from_outside(home: &Stage, manifest: &str) -> String {
    manifest.replace(
        "databaseRef: {name: plant}",
        &format!("databaseRef: {{name: plant, namespace: {}}}", home.namespace()),
    )
}

#[tokio::test]
async fn a_database_lets_in_whom_it_says() -> Result<()> {
    let (home, guest) = (Stage::shared("let-in-home").await?, Stage::shared("let-in-guest").await?);
    let database = Database::start().await?;
    database.run(&[manifests::table("readings"), manifests::table("own")].concat()).await?;
    home.manage(&database, &[manifests::hypertable("own", "")]).await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    guest.apply(&[from_outside(&home, &manifests::hypertable("readings", "")), retention.clone()]).await?;
    for object in ["hypertable/readings", "retentionpolicy/readings"] {
        let message = guest.says(object, "NotAllowed").await?;
        for words in ["let-in-home/plant", "namespace let-in-guest", "spec.allowedNamespaces"] {
            assert!(message.contains(words), "{message} lacks {words}");
        }
        assert!(!has_finalizer(&guest.get(object).await?), "{object}");
    }
    assert_eq!(guest.events("hypertable/readings", "NotAllowed").await?.len(), 1);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM timescaledb_information.hypertables").await?, 1);

    home.patch("timescaledatabase/plant", r#"{"allowedNamespaces": {"from": "All"}}"#).await?;
    guest.ready("hypertable/readings retentionpolicy/readings").await?;
    assert_eq!(database.policies("retention").await?, 1);
    let found = guest.get("retentionpolicy/readings").await?;
    assert_eq!(found["status"]["target"]["databaseNamespace"], "let-in-home");
    let status = home.get("timescaledatabase/plant").await?["status"].take();
    assert_eq!(status["resources"], 3, "{status}");
    // Events are where their resources are.
    assert_eq!(guest.events("retentionpolicy/readings", "Applied").await?.len(), 1);
    assert_eq!(home.events("retentionpolicy/readings", "Applied").await?.len(), 0);

    // By a label of the namespace, which may come and go.
    let selector = r#"{"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"plant": "yes"}}}}"#;
    home.patch("timescaledatabase/plant", selector).await?;
    guest.says("retentionpolicy/readings", "NotAllowed").await?;
    assert_eq!(database.policies("retention").await?, 1, "nobody asked for its end");
    guest.kubectl("label namespace let-in-guest plant=yes").await?;
    guest.ready("hypertable/readings retentionpolicy/readings").await?;
    guest.kubectl("label namespace let-in-guest plant-").await?;
    guest.says("hypertable/readings", "NotAllowed").await?;
    guest.kubectl("label namespace let-in-guest plant=yes").await?;
    guest.ready("hypertable/readings retentionpolicy/readings").await?;

    // A policy that is deleted after its target is still let in.
    guest.kubectl("delete hypertable readings").await?;
    guest.says("retentionpolicy/readings", "TargetNotFound").await?;
    guest.delete(&[retention]).await?;
    assert_eq!(database.policies("retention").await?, 0);
    home.ready(&format!("--all {}", KINDS.join(","))).await?;
    guest.end().await?;
    home.end().await?;
    database.end().await
}

#[tokio::test]
async fn of_two_namespaces_with_the_same_names_the_older_has_the_table() -> Result<()> {
    let (home, guest) = (Stage::shared("same-names-home").await?, Stage::shared("same-names-guest").await?);
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    home.secret(&database).await?;
    home.apply(&[manifests::database("plant", "allowedNamespaces: {from: All}")]).await?;
    let hypertable = |interval: &str| manifests::hypertable("readings", &format!("chunkInterval: {interval}"));
    guest
        .apply(&[from_outside(&home, &hypertable("2 days")), manifests::retention("readings", "dropAfter: 2 years")])
        .await?;
    guest.ready("hypertable/readings retentionpolicy/readings").await?;
    guest.older("retentionpolicy/readings").await?;

    home.apply(&[hypertable("1 day"), manifests::retention("readings", "dropAfter: 1 year")]).await?;
    for (object, kind) in [("hypertable/readings", "Hypertable"), ("retentionpolicy/readings", "RetentionPolicy")] {
        let message = home.says(object, "Conflicted").await?;
        assert!(message.contains(&format!("{kind}/same-names-guest/readings claims the same object")), "{message}");
    }
    guest.kubectl("delete hypertable,retentionpolicy readings --timeout=120s").await?;
    home.ready("hypertable/readings retentionpolicy/readings").await?;
    database.until(&Database::drops_after("readings", "1 year")).await?;
    database.until(&Database::chunks_span("readings", "1 day")).await?;

    // Seen from the other side.
    home.older("retentionpolicy/readings").await?;
    guest
        .apply(&[from_outside(&home, &hypertable("2 days")), manifests::retention("readings", "dropAfter: 2 years")])
        .await?;
    let message = guest.says("retentionpolicy/readings", "Conflicted").await?;
    assert!(message.contains("RetentionPolicy/readings in namespace same-names-home claims the same"), "{message}");
    guest.end().await?;
    home.end().await?;
    database.end().await
}

#[tokio::test]
async fn what_a_guest_has_to_approve_is_approved_in_its_namespace() -> Result<()> {
    let (home, guest) = (Stage::shared("approve-home").await?, Stage::shared("approve-guest").await?);
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 12)).await?;
    home.secret(&database).await?;
    home.apply(&[manifests::database("plant", "allowedNamespaces: {from: All}")]).await?;
    let readings = manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true");
    guest.apply(&[from_outside(&home, &readings)]).await?;
    guest.ready("hypertable/readings").await?;
    guest.apply(&[manifests::retention("readings", "dropAfter: 6 days")]).await?;
    let message = guest.says("retentionpolicy/readings", "ApprovalRequired").await?;
    assert!(message.contains("annotate -n approve-guest retentionpolicy readings"), "{message}");
    guest.obey(&message).await?;
    guest.ready("retentionpolicy/readings").await?;

    // The database goes first, and its guests say so.
    home.patch("timescaledatabase/plant", r#"{"deletionPolicy": "Orphan"}"#).await?;
    home.kubectl("delete timescaledatabase plant --timeout=120s").await?;
    let message = guest.says("retentionpolicy/readings", "DatabaseNotFound").await?;
    assert!(message.contains("plant does not exist in namespace approve-home"), "{message}");
    assert!(!has_finalizer(&guest.get("retentionpolicy/readings").await?));
    guest.end().await?;
    home.end().await?;
    database.end().await
}
