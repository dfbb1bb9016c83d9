//! Unobserved states: what happens between two looks and is over at the second.

use std::time::Duration;

use super::{
    api_proxy::KINDS,
    eventually,
    plant::{Plant, give_back, take_database},
    sql_proxy::SqlProxy,
    stale::plant,
    workload,
};
use crate::support::{Error, Result};

const POLICIES: &str = "retentionpolicies";

/// The operator's lock on a database is free: nobody is connected for it.
async fn is_let_go(plant: &Plant<'_>) -> Result<bool> {
    const LOCK: i64 = 0x7473_6462_706f_6c69; // "tsdbpoli"
    let free = plant.value(&format!("SELECT pg_try_advisory_lock({LOCK})")).await?;
    if free {
        plant.run(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    }
    Ok(free)
}

#[tokio::test]
async fn a_change_that_was_taken_back_unseen_changes_nothing() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    let before = plant.committed();
    plant.api_proxy.hold();
    for age in ["9 days", "730 days"] {
        plant.apply(POLICIES, "readings", &workload::retention(age)).await?;
    }
    plant.passes(1).await?;
    plant.api_proxy.lose();
    plant.settled().await?;
    assert_eq!(plant.committed(), before);
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn what_was_made_and_deleted_unseen_leaves_no_trace() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    let before = plant.committed();
    plant.api_proxy.hold();
    plant.apply(POLICIES, "readings", &workload::retention("9 days")).await?;
    plant.apply("continuousaggregates", "hourly", &workload::aggregate(&plant.namespace)).await?;
    plant.apply("timescaledatabases", "other", &workload::database()).await?;
    plant.delete(POLICIES, "readings").await?;
    plant.delete("continuousaggregates", "hourly").await?;
    plant.delete("timescaledatabases", "other").await?;
    plant.api_proxy.lose();
    plant.passes(1).await?;
    plant.settled().await?;
    assert_eq!(plant.committed(), before);
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_policy_that_was_replaced_unseen_is_taken_over_and_held() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    plant.api_proxy.hold();
    plant.force_away(POLICIES, "readings").await?;
    plant.absent(POLICIES, "readings").await?;
    plant.apply(POLICIES, "readings", &workload::retention("1095 days")).await?;
    plant.api_proxy.lose();
    plant.settled().await?;
    assert_eq!((plant.policies("retention").await?, plant.drops_after("readings").await?), (1, Some(1095)));
    // It is held by its finalizer, or the policy would outlive it.
    plant.delete(POLICIES, "readings").await?;
    plant.absent(POLICIES, "readings").await?;
    assert_eq!(plant.policies("retention").await?, 0);
    plant.end().await?;
    give_back(database).await
}

/// What an operator has written it knows, also before a watch tells of it.
#[tokio::test]
async fn what_was_written_is_not_written_again_while_no_watch_tells_of_it() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    plant.measured().await?;
    plant.passes(0).await?;
    let job = async || Ok::<_, Error>(plant.get(POLICIES, "readings").await?["status"]["jobId"].clone());
    let (before, done) = (job().await?, plant.api_proxy.writes().len());
    plant.api_proxy.hold();
    plant.run(&format!("SELECT remove_retention_policy('{}.readings')", plant.namespace)).await?;
    eventually("another job", async || Ok((job().await? != before).then_some(()))).await?;
    plant.passes(2).await?;
    let writes = plant.api_proxy.writes()[done..].to_vec();
    assert!(matches!(&writes[..], [one] if one.ends_with("/retentionpolicies/readings/status")), "{writes:#?}");
    plant.api_proxy.tell();
    plant.settled().await?;
    plant.passes(1).await?;
    assert_eq!(plant.api_proxy.writes().len(), done + 1, "{:#?}", plant.api_proxy.writes());
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_database_that_went_unseen_is_let_go_of_and_taken_up_again() -> Result<()> {
    const DATABASES: &str = "timescaledatabases";
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    let before = plant.committed();
    plant.api_proxy.hold();
    plant.force_away(DATABASES, "plant").await?;
    plant.absent(DATABASES, "plant").await?;
    plant.api_proxy.lose();
    eventually("the database is let go of", async || Ok(is_let_go(&plant).await?.then_some(()))).await?;
    assert_eq!(plant.committed(), before);
    plant.apply(DATABASES, "plant", &workload::database()).await?;
    plant.settled().await?;
    assert_eq!(plant.committed(), before);
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_deletion_that_nobody_was_there_to_see_is_carried_out() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.apply("continuousaggregates", "hourly", &workload::aggregate(&plant.namespace)).await?;
    plant.settled().await?;
    // Once with the operator down, once with its watches deaf.
    plant.operator.kill();
    plant.delete(POLICIES, "readings").await?;
    plant.start()?;
    plant.absent(POLICIES, "readings").await?;
    assert_eq!(plant.policies("retention").await?, 0);
    plant.api_proxy.hold();
    for (kind, name) in
        [("hypertables", "readings"), ("continuousaggregates", "hourly"), ("timescaledatabases", "plant")]
    {
        plant.delete(kind, name).await?;
    }
    plant.api_proxy.lose();
    plant.gone().await?;
    assert_eq!(plant.policies("refresh_continuous_aggregate").await?, 0);
    assert!(plant.value::<bool>("SELECT to_regclass('plant.hourly') IS NULL").await?);
    plant.end().await?;
    give_back(database).await
}

#[tokio::test]
async fn a_secret_that_changed_twice_leads_where_it_says_last() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    let address = format!("{}:{}", database.host(), database.port());
    let second = SqlProxy::to(address, plant.operator.clone()).await?;
    // The operator may or may not look in between.
    plant.secret(1).await?;
    plant.secret(second.port()).await?;
    plant.apply(POLICIES, "readings", &workload::retention("730 days")).await?;
    plant.settled().await?;
    eventually("the policy is there", async || Ok((plant.policies("retention").await? == 1).then_some(()))).await?;
    plant.passes(1).await?;
    plant.apply(POLICIES, "readings", &workload::retention("1095 days")).await?;
    plant.settled().await?;
    assert_eq!(plant.drops_after("readings").await?, Some(1095));
    assert!(second.committed().iter().any(|text| text.contains("alter_job(")), "{:#?}", second.committed());
    plant.end().await?;
    give_back(database).await
}

/// Many databases that do not exist, of which the operator hears before it has read all lists.
#[tokio::test]
async fn resources_without_a_database_do_not_keep_a_late_list_from_being_read() -> Result<()> {
    const HYPERTABLES: &str = "hypertables";
    let database = take_database().await?;
    let plant = plant(&database).await?;
    let lost: Vec<_> = (0..8).map(|n| format!("lost{n}")).collect();
    for name in &lost {
        let mut spec = workload::hypertable(&plant.namespace, name);
        spec["databaseRef"]["name"] = name.as_str().into();
        plant.apply(HYPERTABLES, name, &spec).await?;
    }
    plant.operator.kill();
    plant.api_proxy.delay(POLICIES, Duration::from_secs(1));
    plant.start()?;
    let says = async || {
        for name in &lost {
            if plant.get(HYPERTABLES, name).await?["status"]["conditions"][0]["reason"] != "DatabaseNotFound" {
                return Ok(None);
            }
        }
        Ok::<_, Error>(Some(()))
    };
    let told = eventually("all say that their database does not exist", says).await;
    assert!(told.is_ok(), "{told:?}; the log:\n{}", plant.end_of_log());
    plant.passes(0).await?;
    for name in &lost {
        plant.delete(HYPERTABLES, name).await?;
    }
    plant.end().await?;
    give_back(database).await
}

/// A pass that is due while a list is still under way waits for it, and must hear of its end.
#[tokio::test]
async fn a_list_that_comes_late_does_not_keep_its_databases_from_being_looked_after() -> Result<()> {
    let database = take_database().await?;
    let plant = plant(&database).await?;
    for kind in KINDS {
        plant.operator.kill();
        plant.api_proxy.delay(kind, Duration::from_millis(300));
        plant.start()?;
        let passes = plant.passes(0).await;
        assert!(passes.is_ok(), "after a late list of {kind}: {passes:?}; the log:\n{}", plant.end_of_log());
    }
    plant.end().await?;
    give_back(database).await
}
