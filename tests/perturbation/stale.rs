//! Stale states: an operator that starts with an old list, or takes over with a view that lags behind.
//!
//! What such an operator decides is decided for resources that say something else by now, or are gone. Nothing may be
//! undone or tightened on the strength of that.

use super::{
    eventually,
    plant::{Plant, give_back, take_database},
    workload,
};
use crate::support::{Result, timescaledb::TimescaleDb};

const POLICIES: &str = "retentionpolicies";

/// A plant with a database and the hypertable `readings` of ten days, both Ready.
pub async fn plant(database: &TimescaleDb) -> Result<Plant<'_>> {
    let plant = Plant::new(database).await?;
    let schema = plant.namespace.clone();
    plant.run(&workload::table_of_days(&schema)).await?;
    plant.apply("timescaledatabases", "plant", &workload::database()).await?;
    plant.apply("hypertables", "readings", &workload::hypertable(&schema, "readings")).await?;
    plant.start()?;
    plant.settled().await?;
    Ok(plant)
}

/// Statements that were committed since there were so many, with one of these words.
fn committed_since(plant: &Plant<'_>, before: usize, words: &[&str]) -> Vec<String> {
    let has = |text: &String| words.iter().any(|word| text.contains(word));
    plant.committed().into_iter().skip(before).filter(has).collect()
}

/// Starts the operator with what the API said then, and lets it look around.
async fn start_in(plant: &Plant<'_>, past: &super::api_proxy::Past) -> Result<usize> {
    plant.operator.kill();
    let before = plant.committed().len();
    plant.api_proxy.go_back(past);
    plant.start()?;
    plant.passes(1).await?;
    Ok(before)
}

/// Waits until the present is what counts again. A status does not tell: it may be of the time before.
async fn becomes(plant: &Plant<'_>, present: impl AsyncFn() -> Result<bool>) -> Result<()> {
    eventually("the database is as the present wants it", async || Ok(present().await?.then_some(()))).await?;
    plant.settled().await
}

#[tokio::test]
async fn an_old_generation_does_not_tighten_a_retention() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    // One of ten chunks: few enough for the guard.
    plant.apply(POLICIES, "readings", &workload::retention("9 days")).await?;
    plant.settled().await?;
    let past = plant.api_proxy.record().await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    assert_eq!(plant.drops_after("readings").await?, Some(730));

    let before = start_in(&plant, &past).await?;
    let tightened = committed_since(&plant, before, &["alter_job("]);
    plant.api_proxy.catch_up();
    becomes(&plant, async || Ok(plant.drops_after("readings").await? == Some(730))).await?;
    assert!(tightened.is_empty(), "for a generation that is no more: {tightened:#?}");
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn the_deletion_of_a_namesake_does_not_remove_a_policy() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    plant.operator.kill();
    plant.delete(POLICIES, "readings").await?;
    let past = plant.api_proxy.record().await?;
    plant.start()?;
    plant.absent(POLICIES, "readings").await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;

    let before = start_in(&plant, &past).await?;
    let removed = committed_since(&plant, before, &["remove_"]);
    let held = plant.get(POLICIES, "readings").await?["metadata"]["finalizers"].clone();
    plant.api_proxy.catch_up();
    becomes(&plant, async || Ok(plant.policies("retention").await? == 1)).await?;
    assert_eq!(held.as_array().map(Vec::len), Some(1), "the finalizer of another object was taken off");
    assert!(removed.is_empty(), "for the deletion of an object that is gone: {removed:#?}");
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn the_deletion_of_a_namesake_does_not_drop_an_aggregate() -> Result<()> {
    const AGGREGATES: &str = "continuousaggregates";
    let database = take_database().await?;
    let plant = plant(&database).await?;
    let aggregate = workload::aggregate(&plant.namespace);
    plant.apply(AGGREGATES, "hourly", &aggregate).await?;
    plant.settled().await?;
    plant.operator.kill();
    plant.delete(AGGREGATES, "hourly").await?;
    let past = plant.api_proxy.record().await?;
    plant.start()?;
    plant.absent(AGGREGATES, "hourly").await?;
    plant.apply(AGGREGATES, "hourly", &aggregate).await?;
    plant.settled().await?;
    plant.run(&format!("CALL refresh_continuous_aggregate('{}.hourly', NULL, NULL)", plant.namespace)).await?;
    assert_eq!(plant.value::<i64>("SELECT count(*) FROM plant.hourly").await?, 10);

    let before = start_in(&plant, &past).await?;
    let dropped = committed_since(&plant, before, &["DROP ", "remove_"]);
    plant.api_proxy.catch_up();
    let exists = "SELECT to_regclass('plant.hourly') IS NOT NULL";
    becomes(&plant, async || Ok(plant.value(exists).await?)).await?;
    assert!(dropped.is_empty(), "for the deletion of an object that is gone: {dropped:#?}");
    assert_eq!(plant.value::<i64>("SELECT count(*) FROM plant.hourly").await?, 10, "what was materialised is lost");
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_policy_whose_resource_is_gone_is_not_brought_back_for_good() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    let past = plant.api_proxy.record().await?;
    plant.delete(POLICIES, "readings").await?;
    plant.absent(POLICIES, "readings").await?;

    start_in(&plant, &past).await?;
    plant.api_proxy.catch_up();
    plant.passes(1).await?;
    assert_eq!(plant.policies("retention").await?, 0, "nobody asks for it, and nobody will remove it");
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_namesake_does_not_get_what_the_one_before_it_asked_for() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.operator.kill();
    // The operator sees it, and it is gone before it has its finalizer.
    plant.apply(POLICIES, "readings", &workload::retention("9 days")).await?;
    let past = plant.api_proxy.record().await?;
    plant.delete(POLICIES, "readings").await?;
    plant.absent(POLICIES, "readings").await?;
    let before = start_in(&plant, &past).await?;
    assert!(plant.get(POLICIES, "readings").await.is_err(), "a write brought it back");
    assert_eq!(committed_since(&plant, before, &[""]), [""; 0]);

    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.passes(1).await?;
    let namesake = plant.get(POLICIES, "readings").await?;
    assert!(namesake["metadata"]["finalizers"].is_null(), "held for another object: {namesake:#}");
    assert_eq!(committed_since(&plant, before, &[""]), [""; 0]);

    plant.api_proxy.catch_up();
    becomes(&plant, async || Ok(plant.drops_after("readings").await? == Some(730))).await?;
    let added = committed_since(&plant, before, &["add_retention_policy("]);
    assert_eq!(added.len(), 1, "{added:#?}");
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_namesake_is_not_told_what_became_of_the_one_before_it() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.operator.kill();
    let schema = plant.namespace.clone();
    plant.force_away("hypertables", "readings").await?;
    plant.apply("hypertables", "readings", &workload::hypertable(&schema, "readings")).await?;
    let past = plant.api_proxy.record().await?;
    plant.force_away("hypertables", "readings").await?;
    plant.absent("hypertables", "readings").await?;
    plant.apply("hypertables", "readings", &workload::hypertable(&schema, "another")).await?;
    start_in(&plant, &past).await?;
    let namesake = plant.get("hypertables", "readings").await?;
    assert_eq!(namesake["status"]["observedGeneration"], -1, "it is said to be Ready: {:#}", namesake["status"]);
    plant.end().await?;
    give_back(database).await
}

/// As in a rolling update: the new pod waits for the lock of the old one, with a watch that is late.
#[tokio::test]
async fn a_successor_whose_watch_is_late_does_not_tighten_a_retention() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("9 days")).await?;
    plant.settled().await?;
    let (successor, late) = plant.another_view().await?;
    successor.start(&late.kubeconfig())?;
    eventually("the successor waits for the lock", async || Ok((late.passes() > 0).then_some(()))).await?;
    late.hold();
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    eventually("the retention is loosened", async || {
        Ok((plant.drops_after("readings").await? == Some(730)).then_some(()))
    })
    .await?;

    let before = plant.committed().len();
    let passes = late.passes();
    plant.operator.kill();
    eventually("the successor looks", async || Ok((late.passes() > passes + 2).then_some(()))).await?;
    let tightened = committed_since(&plant, before, &["alter_job("]);
    late.tell();
    eventually("the retention is as wanted", async || {
        Ok((plant.drops_after("readings").await? == Some(730)).then_some(()))
    })
    .await?;
    assert!(tightened.is_empty(), "for a generation that is no more: {tightened:#?}");
    successor.kill();
    assert_eq!(successor.blunders(), [""; 0]);
    plant.end().await?;
    give_back(database).await
}
