//! Several instances with leader election: one acts, and there is always one.

use serde_json::Value;

use super::{database::Database, eventually, manifests, operator::Operator, stage::Stage};
use crate::support::Result;

/// An instance that takes part in the election of the stage's namespace. A lease of a minute is never waited for: who
/// leads before that was handed the lease.
async fn instance(stage: &Stage, lease_duration: &str) -> Result<Operator> {
    let options = [
        ["--leader-elect", "true"],
        ["--lease-namespace", stage.namespace()],
        ["--lease-duration", lease_duration],
        ["--renew-deadline", "2s"],
        ["--retry-period", "1s"],
    ];
    Operator::start_with(stage.api()?.kubeconfig_path(), "info", &options.concat()).await
}

fn said(operator: &Operator, message: &str) -> bool {
    operator.log().iter().any(|line| line["message"] == message)
}

async fn leads(operator: &Operator) -> Result<()> {
    eventually("it leads", async || Ok(said(operator, "leading").then_some(()))).await
}

async fn stands_by(operator: &Operator) -> Result<()> {
    eventually("it stands by", async || Ok(said(operator, "standing by").then_some(()))).await?;
    eventually("a standby is ready", async || Ok((operator.get("/readyz").await?.0 == 200).then_some(()))).await
}

async fn lease(stage: &Stage) -> Result<Value> {
    Ok(serde_json::from_str(&stage.kubectl("get lease timescaledb-policy-operator -o json").await?)?)
}

#[tokio::test]
async fn a_standby_does_nothing_until_the_leader_is_killed_and_then_everything() -> Result<()> {
    let mut stage = Stage::own("killed").await?;
    let mut leader = instance(&stage, "3s").await?;
    leads(&leader).await?;
    let standby = instance(&stage, "3s").await?;
    stands_by(&standby).await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("readings"), manifests::table("later")].concat()).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day")]).await?;
    leader.passes(2).await?;
    let idle = standby.metrics().await?;
    assert_eq!(leader.metrics().await?.sum("leader", ""), 1.0);
    for metric in ["leader", "passes_total", "api_writes_total", "statements_total", "connections"] {
        assert_eq!(idle.sum(metric, ""), 0.0, "{metric}");
    }

    leader.kill();
    // What changes and what drifts while nobody leads is found by whoever leads next.
    stage.patch("hypertable/readings", r#"{"chunkInterval": "2 days"}"#).await?;
    stage.apply(&[manifests::hypertable("later", "chunkInterval: 3 days")]).await?;
    leads(&standby).await?;
    database.until(&Database::chunks_span("readings", "2 days")).await?;
    database.until(&Database::chunks_span("later", "3 days")).await?;
    stage.ready("hypertable/readings hypertable/later").await?;
    assert_eq!(lease(&stage).await?["spec"]["leaseTransitions"], 1);
    stage.put_operator(standby);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_the_lease_over_at_once() -> Result<()> {
    let mut stage = Stage::own("handed-over").await?;
    let mut leader = instance(&stage, "1h").await?;
    leads(&leader).await?;
    let standby = instance(&stage, "1h").await?;
    stands_by(&standby).await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day")]).await?;
    stage.sizes_told().await?;
    let versions = stage.versions().await?;

    // As a rolling update goes: nothing is done twice and nothing is said anew.
    assert!(leader.terminate().await?.success());
    leads(&standby).await?;
    let metrics = standby.passes(2).await?;
    assert_eq!((metrics.sum("steps_total", ""), metrics.sum("api_writes_total", "")), (0.0, 0.0));
    assert_eq!(stage.versions().await?, versions);
    stage.put_operator(standby);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_away_ends() -> Result<()> {
    let mut stage = Stage::own("taken-away").await?;
    let mut leader = instance(&stage, "3s").await?;
    leads(&leader).await?;
    stage
        .kubectl_with(
            &[
                "patch",
                "lease",
                "timescaledb-policy-operator",
                "--type=merge",
                "-p",
                r#"{"spec": {"holderIdentity": "somebody else"}}"#,
            ],
            "",
        )
        .await?;
    let status = leader.wait().await?;
    assert_eq!(status.code(), Some(1));
    // The one that takes its place waits the lease of somebody else out.
    let next = instance(&stage, "3s").await?;
    leads(&next).await?;
    stage.put_operator(next);
    stage.end().await
}

#[tokio::test]
async fn a_leader_that_cannot_renew_its_lease_ends() -> Result<()> {
    let mut stage = Stage::own("no-renewal").await?;
    // Of the lease it may do everything but write it a second time.
    for command in [
        "create serviceaccount once",
        "create clusterrolebinding once --clusterrole=view --serviceaccount=no-renewal:once",
        "create role once --verb=get,create,update --resource=leases.coordination.k8s.io",
        "create rolebinding once --role=once --serviceaccount=no-renewal:once",
    ] {
        stage.kubectl(command).await?;
    }
    let kubeconfig = stage.api()?.service_account_kubeconfig("no-renewal", "once").await?;
    let options = [
        "--leader-elect",
        "--lease-namespace",
        "no-renewal",
        "--lease-duration",
        "5s",
        "--renew-deadline",
        "2s",
        "--retry-period",
        "1s",
    ];
    let mut leader = Operator::start_with(&kubeconfig, "info", &options).await?;
    leads(&leader).await?;
    stage.kubectl("delete rolebinding once").await?;
    let status = leader.wait().await?;
    assert_eq!(status.code(), Some(1));
    stage.kubectl("delete clusterrolebinding once").await?;
    let next = instance(&stage, "3s").await?;
    leads(&next).await?;
    stage.put_operator(next);
    stage.end().await
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_in_a_statement_leaves_no_half_done_thing_and_the_next_one_goes_on() -> Result<()>
{
    // With one session for all there is nobody to hold a lock against.
    if !Database::is_native() {
        return Ok(());
    }
    let mut stage = Stage::own("in-a-statement").await?;
    let mut leader = instance(&stage, "1h").await?;
    leads(&leader).await?;
    let standby = instance(&stage, "1h").await?;
    stands_by(&standby).await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day")]).await?;

    let mut holder = database.connect().await?;
    let lock = holder.transaction().await?;
    lock.batch_execute("LOCK TABLE plant.readings IN ACCESS SHARE MODE").await?;
    stage.apply(&[manifests::compression("readings", "segmentBy: [sensor]")]).await?;
    let waits = "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~* 'ALTER TABLE' AND datname = current_database())";
    database.until_for_superuser(waits).await?;
    assert!(leader.terminate().await?.success());
    database.until_for_superuser(&format!("NOT {waits}")).await?;
    leads(&standby).await?;
    lock.rollback().await?;
    stage.ready("compressionpolicy/readings").await?;
    assert_eq!(database.policies("compression").await?, 1);
    stage.put_operator(standby);
    stage.end().await?;
    database.end().await
}
