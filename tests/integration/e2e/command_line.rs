//! The command line beside the operator: what a pull request would change in the cluster, and how the cluster does.

use serde_json::Value;

use super::{database::Database, manifests, stage::Stage};
use crate::{
    cli::{Output, run_with},
    support::{Result, process::Folder},
};

/// Runs a command against the cluster of the stage, in its namespace.
async fn tsdb(stage: &Stage, words: &str, input: &str) -> Result<Output> {
    let kubeconfig = stage.api()?.kubeconfig_path().to_str().ok_or("the path is not UTF-8")?.to_owned();
    let arguments: Vec<_> =
        words.split_whitespace().chain(["--kubeconfig", &kubeconfig, "-n", stage.namespace()]).collect();
    run_with(&arguments, None, input).await
}

#[tokio::test]
async fn a_pull_request_is_planned_over_what_the_cluster_has() -> Result<()> {
    let stage = Stage::shared("pull-request").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("metric", 40)).await?;
    let hypertable = manifests::hypertable("metric", "chunkInterval: 1 day, migrateData: true");
    let retention = |after: &str| manifests::retention("metric", &format!("dropAfter: {after}"));
    stage.manage(&database, &[hypertable.clone(), retention("90 days")]).await?;

    let same = tsdb(&stage, "plan -f -", &[hypertable.clone(), retention("90 days")].concat()).await?.with_code(0);
    assert!(same.stdout.contains("In sync"), "{}", same.stdout);
    // The target of the policy is in the cluster only.
    let looser = tsdb(&stage, "plan -f -", &retention("95 days")).await?.with_code(2);
    assert!(looser.stdout.contains("~ RetentionPolicy/metric  -:"), "{}", looser.stdout);
    let tighter = tsdb(&stage, "plan -f - -o json", &retention("10 days")).await?.with_code(2);
    let tighter: Value = serde_json::from_str(&tighter.stdout)?;
    let mut resources = tighter["databases"][0]["resources"].as_array().into_iter().flatten();
    let policy = resources.find(|resource| resource["kind"] == "RetentionPolicy").cloned().unwrap_or_default();
    assert_eq!(policy["state"], "needsApproval", "{policy}");
    // What the API server would refuse is refused here.
    let moved = hypertable.replace("timeColumn: ts", "timeColumn: at");
    let refused = tsdb(&stage, "plan -f -", &moved).await?.with_code(1);
    assert!(refused.stderr.contains("timeColumn is immutable"), "{}", refused.stderr);
    // The digest that was shown is the one that the operator asks for.
    stage.apply(&[retention("10 days")]).await?;
    let message = stage.says("retentionpolicy/metric", "ApprovalRequired").await?;
    assert!(message.contains(policy["digest"].as_str().unwrap_or("none")), "{message}: {policy}");
    // Two must not act on one database.
    let locked = tsdb(&stage, "apply -f -", &retention("95 days")).await?.with_code(1);
    assert!(locked.stderr.contains("advisory lock"), "{}", locked.stderr);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn the_overview_tells_how_the_resources_do_also_as_a_plugin_of_kubectl() -> Result<()> {
    let stage = Stage::shared("overview").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("metric")).await?;
    stage
        .manage(&database, &[manifests::hypertable("metric", ""), manifests::retention("metric", "dropAfter: 90 days")])
        .await?;

    let all = tsdb(&stage, "status", "").await?.with_code(0);
    assert!(all.stdout.contains(&format!("{}/plant  Ready (InSync)", stage.namespace())), "{}", all.stdout);
    assert!(all.stdout.contains("RetentionPolicy   metric   plant.metric   True"), "{}", all.stdout);
    stage.apply(&[manifests::retention("none", "dropAfter: 90 days")]).await?;
    stage.says("retentionpolicy/none", "TargetNotFound").await?;
    let json = tsdb(&stage, "status -o json", "").await?.with_code(2);
    let json: Value = serde_json::from_str(&json.stdout)?;
    assert_eq!(json["databases"].as_array().map(Vec::len), Some(2), "{json}");
    let missing = tsdb(&stage, "status other", "").await?.with_code(1);
    assert!(missing.stderr.contains("there is no TimescaleDatabase other"), "{}", missing.stderr);

    let folder = Folder::new("plugin")?;
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_timescaledb-policy-operator"), folder.path().join("kubectl-tsdb"))?;
    let mut command = stage.api()?.kubectl(["tsdb", "status", "plant", "-n", stage.namespace()]);
    let path = std::env::var("PATH")?;
    command.env("PATH", format!("{}:{path}", folder.path().display()));
    let output = tokio::process::Command::from(command).output().await?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    assert!(text.contains("plant  Ready (InSync)"), "{text}");
    stage.end().await?;
    database.end().await
}
