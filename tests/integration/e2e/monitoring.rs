//! The monitoring views, asked for in the resource of a database.

use super::{
    database::Database,
    manifests,
    stage::{Stage, condition},
};
use crate::support::Result;

#[tokio::test]
async fn monitoring_views_are_installed_put_back_and_never_removed() -> Result<()> {
    let stage = Stage::shared("monitoring-views").await?;
    let database = Database::start().await?;
    let superuser = database.superuser().await?;
    let (_, _, dbname) = database.address()?;
    let owner = database.owner()?;
    superuser.batch_execute(&format!("REVOKE CREATE ON DATABASE \"{dbname}\" FROM \"{owner}\"")).await?;
    let object = "timescaledatabase/plant";
    let there = "to_regclass('plant_views.chunk_statistics') IS NOT NULL";

    stage.secret(&database).await?;
    stage.apply(&[manifests::database("plant", "monitoringSchema: plant_views")]).await?;
    let message = stage.says(object, "PermissionDenied").await?;
    let grant = format!("GRANT CREATE ON DATABASE {dbname} TO {owner}");
    assert!(message.contains(&grant), "{message}");
    superuser.batch_execute(&grant).await?;
    stage.ready(object).await?;
    assert!(database.value::<bool>(&format!("SELECT {there}")).await?);
    assert_eq!(stage.get(object).await?["status"]["monitoringVersion"], 1);
    assert!(stage.event(object, "Applied").await?.contains("install the monitoring views"));

    database.run("DROP VIEW plant_views.chunk_statistics").await?;
    database.until(there).await?;
    assert!(stage.event(object, "DriftCorrected").await?.contains("put back the monitoring views"));

    stage.patch(object, r#"{"mode": "Observe"}"#).await?;
    stage.says(object, "InSync").await?;
    database.run("DROP VIEW plant_views.chunk_statistics").await?;
    let message = stage.says(object, "DriftObserved").await?;
    assert!(message.contains("put back the monitoring views in schema plant_views"), "{message}");
    assert!(!database.value::<bool>(&format!("SELECT {there}")).await?);
    stage.patch(object, r#"{"mode": "Enforce"}"#).await?;
    stage.ready(object).await?;

    // The name of another schema, and no name, leave the first where it is.
    database.run("CREATE TABLE plant.mine (id int)").await?;
    stage.patch(object, r#"{"monitoringSchema": "plant"}"#).await?;
    let message = stage.says(object, "InvalidSpec").await?;
    assert!(message.contains("schema plant exists and holds something else"), "{message}");
    stage.patch(object, r#"{"monitoringSchema": null}"#).await?;
    let message = stage.says(object, "InSync").await?;
    assert!(message.contains("schema plant_views holds monitoring views that are not managed"), "{message}");
    assert!(database.value::<bool>(&format!("SELECT {there}")).await?);
    let found = stage.get(object).await?;
    assert!(found["status"]["monitoringVersion"].is_null());
    assert_eq!(condition(&found, "Ready")["status"], "True");

    stage.delete(&[manifests::database("plant", "")]).await?;
    assert!(database.value::<bool>(&format!("SELECT {there}")).await?);
    database.run("DROP SCHEMA plant_views CASCADE").await?;
    stage.end().await?;
    database.end().await
}
