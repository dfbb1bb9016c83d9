//! Deleting resources: what goes, what stays, and that nothing hangs.

use super::{
    database::Database,
    kstatus, manifests,
    relay::Relay,
    stage::{KINDS, Stage, has_finalizer},
};
use crate::support::Result;

/// Rows and chunks, which no deletion touches.
const DATA: &str = "SELECT (SELECT count(*) FROM plant.readings) || ' rows in ' || count(*) || ' chunks'
     FROM timescaledb_information.chunks WHERE hypertable_name = 'readings'";

fn readings() -> String {
    manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true")
}

#[tokio::test]
async fn a_deleted_policy_goes_or_is_retained_and_the_rows_stay() -> Result<()> {
    let stage = Stage::shared("delete-policy").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 10)).await?;
    let (retention, compression) = (
        manifests::retention("readings", "dropAfter: 1 year"),
        manifests::compression("readings", "deletionPolicy: Retain"),
    );
    stage.manage(&database, &[readings(), retention.clone(), compression.clone()]).await?;
    let data: String = database.value(DATA).await?;

    stage.delete(&[retention, compression]).await?;
    assert_eq!(database.policies("retention").await?, 0);
    assert_eq!(database.policies("compression").await?, 1);
    assert_eq!(database.value::<String>(DATA).await?, data);
    let released = stage.event("retentionpolicy/readings", "Released").await?;
    assert!(released.contains("remove_retention_policy("), "{released}");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_policy_that_was_there_before_its_resource_goes_with_it_too() -> Result<()> {
    let stage = Stage::shared("delete-adopted").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    database
        .run(
            "SELECT public.create_hypertable('plant.readings', 'ts', chunk_time_interval => interval '1 day');
             SELECT public.add_retention_policy('plant.readings', interval '1 year')",
        )
        .await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    stage.manage(&database, &[readings(), retention.clone()]).await?;
    assert_eq!(stage.events("retentionpolicy/readings", "Applied").await?, [""; 0], "adopted as it is");
    stage.delete(&[retention]).await?;
    assert_eq!(database.policies("retention").await?, 0);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn what_was_there_and_differs_is_changed_with_both_values_in_the_event() -> Result<()> {
    let stage = Stage::shared("adopted-with-a-change").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    database
        .run(
            "SELECT public.create_hypertable('plant.readings', 'ts', chunk_time_interval => interval '3 days');
             SELECT public.add_retention_policy('plant.readings', interval '1 year')",
        )
        .await?;
    let job = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'";
    let id: i32 = database.value(job).await?;
    stage.manage(&database, &[readings(), manifests::retention("readings", "dropAfter: 2 years")]).await?;
    assert_eq!(database.value::<i32>(job).await?, id, "changed in place");
    for (object, change) in [("hypertable/readings", "3 days -> 1 day"), ("retentionpolicy/readings", "1 year -> ")] {
        let event = stage.event(object, "Applied").await?;
        assert!(event.contains(change), "{event}");
    }
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_replaced_resource_is_released_and_applied_anew() -> Result<()> {
    let stage = Stage::shared("replaced").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[readings(), manifests::retention("readings", "dropAfter: 1 year")]).await?;
    let changed = manifests::retention("readings", "dropAfter: 2 years");
    stage.kubectl_with(&["replace", "--force", "--timeout=120s", "-f", "-"], &changed).await?;
    stage.ready("retentionpolicy/readings").await?;
    assert_eq!(database.policies("retention").await?, 1);
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "2 years"))).await?);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_released_policy_that_somebody_else_holds_back_is_left_in_peace() -> Result<()> {
    let mut stage = Stage::own("held-back").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[readings(), manifests::retention("readings", "dropAfter: 1 year")]).await?;
    let foreign = r#"[{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/backup"}]"#;
    stage.kubectl_with(&["patch", "retentionpolicy", "readings", "--type=json", "-p", foreign], "").await?;
    stage.kubectl("delete retentionpolicy readings --wait=false").await?;
    stage.until("retentionpolicy/readings", "released", |found| !has_finalizer(found)).await?;
    assert_eq!(database.policies("retention").await?, 0);
    stage.sizes_told().await?;
    let before = stage.operator()?.passes(1).await?;
    let after = stage.operator()?.passes(3).await?;
    assert_eq!(after.sum("api_writes_total", ""), before.sum("api_writes_total", ""));
    assert_eq!(stage.events("retentionpolicy/readings", "Released").await?.len(), 1);
    let none = r#"{"metadata": {"finalizers": null}}"#;
    stage.kubectl_with(&["patch", "retentionpolicy", "readings", "--type=merge", "-p", none], "").await?;
    stage.gone("retentionpolicy/readings").await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_changed_deletion_policy_counts() -> Result<()> {
    let stage = Stage::shared("delete-changed-mind").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    let compression = manifests::compression("readings", "deletionPolicy: Retain");
    stage.manage(&database, &[readings(), retention.clone(), compression.clone()]).await?;

    stage.patch("retentionpolicy/readings", r#"{"deletionPolicy": "Retain"}"#).await?;
    stage.patch("compressionpolicy/readings", r#"{"deletionPolicy": "Delete"}"#).await?;
    stage.says("retentionpolicy/readings", "InSync").await?;
    stage.says("compressionpolicy/readings", "InSync").await?;
    stage.delete(&[retention, compression]).await?;
    assert_eq!(database.policies("retention").await?, 1);
    assert_eq!(database.policies("compression").await?, 0);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn everything_deleted_at_once_is_gone_and_so_are_its_jobs() -> Result<()> {
    let stage = Stage::shared("delete-all").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let refresh = "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    let all = [
        readings(),
        manifests::compression("readings", ""),
        manifests::retention("readings", "dropAfter: 1 year"),
        manifests::aggregate("hourly", "readings", "1 hour", &format!("deletionPolicy: Delete, {refresh}")),
        manifests::aggregate("daily", "readings", "1 day", refresh),
    ];
    stage.manage(&database, &all).await?;
    let data: String = database.value(DATA).await?;

    stage.delete(&[&[manifests::database("plant", "")], &all[..]].concat()).await?;
    assert_eq!(stage.objects().await?.len(), 0);
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (0, 0));
    assert_eq!(database.policies("refresh_continuous_aggregate").await?, 1, "of the aggregate that is retained");
    assert!(database.value::<bool>("SELECT to_regclass('plant.hourly') IS NULL").await?);
    assert_eq!(database.value::<String>(DATA).await?, data);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_database_in_use_stays_and_names_its_users_until_they_are_gone() -> Result<()> {
    let stage = Stage::shared("delete-in-use").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    stage.manage(&database, &[readings(), retention.clone()]).await?;

    stage.kubectl("delete timescaledatabase plant --wait=false").await?;
    let message = stage.says("timescaledatabase/plant", "InUse").await?;
    assert!(message.contains("RetentionPolicy/readings") && message.contains("deletionPolicy: Orphan"), "{message}");
    assert_eq!(kstatus::of(&stage.get("timescaledatabase/plant").await?), "Terminating");
    assert_eq!(database.policies("retention").await?, 1, "nobody asked for that");
    stage.delete(&[retention]).await?;
    stage.gone("timescaledatabase/plant").await?;
    assert_eq!(database.policies("retention").await?, 0);
    assert!(stage.says("hypertable/readings", "DatabaseNotFound").await?.contains("plant"));
    stage.end().await?;
    database.end().await
}

/// A folder is deleted in any order: between its hypertable and itself a policy leads nowhere.
#[tokio::test]
async fn a_database_waits_for_a_policy_whose_target_went_first() -> Result<()> {
    let stage = Stage::shared("delete-bereft").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    stage.manage(&database, &[readings(), retention.clone()]).await?;

    stage.delete(&[readings()]).await?;
    stage.says("retentionpolicy/readings", "TargetNotFound").await?;
    stage.kubectl("delete timescaledatabase plant --wait=false").await?;
    let message = stage.says("timescaledatabase/plant", "InUse").await?;
    assert!(message.contains("RetentionPolicy/readings"), "{message}");
    stage.delete(&[retention]).await?;
    stage.gone("timescaledatabase/plant").await?;
    assert_eq!(database.policies("retention").await?, 0);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn an_orphaning_database_goes_at_once_and_leaves_everything() -> Result<()> {
    let stage = Stage::shared("delete-orphan").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    stage.manage(&database, &[readings(), retention.clone()]).await?;

    stage.patch("timescaledatabase/plant", r#"{"deletionPolicy": "Orphan"}"#).await?;
    stage.kubectl("delete timescaledatabase plant --timeout=120s").await?;
    stage.event("retentionpolicy/readings", "Orphaned").await?;
    assert!(!has_finalizer(&stage.get("retentionpolicy/readings").await?));
    stage.delete(&[readings(), retention]).await?;
    assert_eq!(database.policies("retention").await?, 1);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn an_unreachable_database_does_not_keep_its_resources_for_ever() -> Result<()> {
    let stage = Stage::shared("delete-unreachable").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let relay = Relay::to(&database).await?;
    stage.secret_named("plant", &database, relay.port()).await?;
    let all = [manifests::database("plant", ""), readings(), manifests::retention("readings", "dropAfter: 1 year")];
    stage.apply(&all).await?;
    stage.ready("retentionpolicy/readings").await?;

    relay.close();
    stage.says("timescaledatabase/plant", "DatabaseUnreachable").await?;
    stage.delete(&all).await?;
    let orphaned = stage.event("retentionpolicy/readings", "Orphaned").await?;
    assert!(orphaned.contains("left as it is"), "{orphaned}");
    assert_eq!(database.policies("retention").await?, 1, "nobody could reach it");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn policies_wait_for_a_hypertable_that_was_deleted_and_nothing_is_dropped() -> Result<()> {
    let stage = Stage::shared("delete-hypertable").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let policies = [manifests::retention("readings", "dropAfter: 1 year"), manifests::compression("readings", "")];
    stage.manage(&database, &[&[readings()], &policies[..]].concat()).await?;
    let data: String = database.value(DATA).await?;

    stage.delete(&[readings()]).await?;
    let message = stage.says("retentionpolicy/readings", "TargetNotFound").await?;
    assert!(message.contains("create it"), "{message}");
    stage.says("compressionpolicy/readings", "TargetNotFound").await?;
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (1, 1));
    assert_eq!(database.value::<String>(DATA).await?, data);

    stage.apply(&[readings()]).await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    // A policy that is deleted after its target still goes.
    stage.delete(&[readings()]).await?;
    stage.delete(&policies).await?;
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (0, 0));
    assert_eq!(database.value::<String>(DATA).await?, data);
    stage.end().await?;
    database.end().await
}
