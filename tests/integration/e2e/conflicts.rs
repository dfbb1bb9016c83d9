//! One database object has one owner.

use super::{
    database::Database,
    manifests,
    stage::{Stage, has_finalizer},
};
use crate::support::Result;

#[tokio::test]
async fn of_two_policies_the_older_has_the_job_until_it_goes() -> Result<()> {
    let stage = Stage::shared("conflict-policies").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let of_readings = |name: &str, age: &str| {
        let spec = format!("targetRef: {{kind: Hypertable, name: readings}}, dropAfter: {age}");
        manifests::resource("RetentionPolicy", name, &spec)
    };
    // By name the other one would come first.
    let (winner, loser) = (of_readings("winner", "2 years"), of_readings("loser", "1 year"));
    stage.manage(&database, &[manifests::hypertable("readings", ""), winner.clone()]).await?;
    let job = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'";
    let id: i32 = database.value(job).await?;

    stage.older("retentionpolicy/winner").await?;
    stage.apply(std::slice::from_ref(&loser)).await?;
    let message = stage.says("retentionpolicy/loser", "Conflicted").await?;
    assert!(message.contains("RetentionPolicy/winner"), "{message}");
    assert!(!has_finalizer(&stage.get("retentionpolicy/loser").await?));
    stage.delete(std::slice::from_ref(&loser)).await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "2 years"))).await?);
    stage.ready("retentionpolicy/winner").await?;

    stage.apply(std::slice::from_ref(&loser)).await?;
    stage.says("retentionpolicy/loser", "Conflicted").await?;
    stage.delete(&[winner]).await?;
    stage.ready("retentionpolicy/loser").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "1 year"))).await?);
    assert_eq!(database.value::<i32>(job).await?, id, "the job was handed over, not made anew");
    stage.delete(&[loser]).await?;
    assert_eq!(database.policies("retention").await?, 0, "it owned the job in the end");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn an_owner_with_a_mistake_is_still_the_owner() -> Result<()> {
    let stage = Stage::shared("conflict-mistake").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let of_readings = |name: &str, age: &str| {
        let spec = format!("targetRef: {{kind: Hypertable, name: readings}}, dropAfter: {age}");
        manifests::resource("RetentionPolicy", name, &spec)
    };
    let winner = of_readings("winner", "2 years");
    stage.manage(&database, &[manifests::hypertable("readings", ""), winner.clone()]).await?;
    stage.older("retentionpolicy/winner").await?;
    stage.apply(&[of_readings("loser", "1 year")]).await?;
    stage.says("retentionpolicy/loser", "Conflicted").await?;

    stage.patch("retentionpolicy/winner", r#"{"dropAfter": "2 lightyears"}"#).await?;
    stage.says("retentionpolicy/winner", "InvalidSpec").await?;
    stage.says("retentionpolicy/loser", "Conflicted").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "2 years"))).await?);
    let job = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'";
    let id: i32 = database.value(job).await?;
    stage.delete(&[winner]).await?;
    stage.ready("retentionpolicy/loser").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "1 year"))).await?);
    assert_eq!(database.value::<i32>(job).await?, id, "the job was handed over, not made anew");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn of_two_hypertables_the_older_has_the_table_until_it_goes() -> Result<()> {
    let stage = Stage::shared("conflict-hypertables").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let of_readings = |name: &str, interval: &str| {
        let spec = format!(
            "databaseRef: {{name: plant}}, schema: plant, table: readings, timeColumn: ts, chunkInterval: {interval}"
        );
        manifests::resource("Hypertable", name, &spec)
    };
    let winner = of_readings("winner", "1 day");
    stage.manage(&database, std::slice::from_ref(&winner)).await?;
    stage.older("hypertable/winner").await?;
    stage.apply(&[of_readings("loser", "2 days")]).await?;
    assert!(stage.says("hypertable/loser", "Conflicted").await?.contains("Hypertable/winner"));
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("readings", "1 day"))).await?);
    stage.delete(&[winner]).await?;
    stage.ready("hypertable/loser").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("readings", "2 days"))).await?);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_database_that_somebody_else_manages_is_waited_for() -> Result<()> {
    let stage = Stage::shared("conflict-databases").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[]).await?;
    let (_, port, _) = database.address()?;
    stage.secret_named("second", &database, port).await?;
    let readings = "databaseRef: {name: second}, schema: plant, table: readings, timeColumn: ts";
    stage.apply(&[manifests::database("second", ""), manifests::resource("Hypertable", "readings", readings)]).await?;
    let message = stage.says("timescaledatabase/second", "DatabaseLocked").await?;
    if Database::is_native() {
        assert!(message.contains("timescaledb-policy-operator conflict-databases/plant (process "), "{message}");
    }
    stage.says("hypertable/readings", "DatabaseLocked").await?;
    stage.ready("timescaledatabase/plant").await?;
    stage.delete(&[manifests::database("plant", "")]).await?;
    stage.ready("timescaledatabase/second hypertable/readings").await?;
    stage.end().await?;
    database.end().await
}
