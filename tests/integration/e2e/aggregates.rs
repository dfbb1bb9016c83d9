//! What only continuous aggregates do.

use super::{database::Database, manifests, stage::Stage};
use crate::support::Result;

const REFRESH: &str = "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";

#[tokio::test]
async fn a_deleted_aggregate_is_kept_unless_its_resource_says_delete() -> Result<()> {
    let stage = Stage::shared("delete-aggregate").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let kept = manifests::aggregate("kept", "readings", "1 hour", REFRESH);
    let dropped = manifests::aggregate("dropped", "readings", "1 hour", &format!("deletionPolicy: Delete, {REFRESH}"));
    let readings = manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true");
    stage.manage(&database, &[readings, kept.clone(), dropped.clone()]).await?;

    stage.delete(&[kept, dropped]).await?;
    assert!(database.value::<bool>("SELECT to_regclass('plant.kept') IS NOT NULL").await?);
    assert!(database.value::<bool>("SELECT to_regclass('plant.dropped') IS NULL").await?);
    assert_eq!(database.policies("refresh_continuous_aggregate").await?, 1);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM plant.readings").await?, 3);
    let released = stage.event("continuousaggregate/dropped", "Released").await?;
    assert!(released.contains("DROP MATERIALIZED VIEW"), "{released}");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn aggregates_on_aggregates_come_and_go_in_the_order_they_need() -> Result<()> {
    let stage = Stage::shared("aggregate-hierarchy").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    // By name the daily one comes first, by need the hourly one: it cannot go while the daily one is there either.
    let daily = "databaseRef: {name: plant}, schema: plant, name: by_day, deletionPolicy: Delete, \
                 query: \"SELECT time_bucket('1 day', bucket) AS day, sum(n) AS n FROM plant.hourly GROUP BY 1\"";
    let all = [
        manifests::resource("ContinuousAggregate", "by-day", daily),
        manifests::aggregate("hourly", "readings", "1 hour", "realTime: true, deletionPolicy: Delete"),
        manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true"),
    ];
    stage.manage(&database, &all).await?;
    assert_eq!(stage.events("continuousaggregate/by-day", "Applied").await?.len(), 1);
    stage.delete(&all[..2]).await?;
    assert!(
        database
            .value::<bool>("SELECT to_regclass('plant.by_day') IS NULL AND to_regclass('plant.hourly') IS NULL")
            .await?
    );
    stage.end().await?;
    database.end().await
}
