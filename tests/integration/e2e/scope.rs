//! Several operators, each for a part of a cluster.

use super::{database::Database, eventually, manifests, operator::Operator, stage::Stage};
use crate::support::Result;

/// A database with a label `team`, and a hypertable of the same name in it.
fn database_of(team: &str) -> [String; 2] {
    let database =
        manifests::database(team, "").replacen("metadata: {", &format!("metadata: {{labels: {{team: {team}}}, "), 1);
    let hypertable =
        manifests::hypertable(team, "chunkInterval: 1 day").replace("{name: plant}", &format!("{{name: {team}}}"));
    [database, hypertable]
}

#[tokio::test]
async fn operators_with_disjoint_selectors_share_a_cluster() -> Result<()> {
    let mut stage = Stage::own("sharded").await?;
    let (red, blue) = (Database::start().await?, Database::start().await?);
    for (team, database) in [("red", &red), ("blue", &blue)] {
        database.run(&manifests::table(team)).await?;
        let (_, port, _) = database.address()?;
        stage.secret_named(team, database, port).await?;
    }
    let kubeconfig = stage.api()?.kubeconfig_path().to_owned();
    let mut for_red = Operator::start_with(&kubeconfig, "info", &["--database-selector", "team=red"]).await?;
    stage.apply(&[database_of("red"), database_of("blue")].concat()).await?;
    stage.ready("timescaledatabase/red hypertable/red").await?;
    for_red.passes(2).await?;
    for object in ["timescaledatabase/blue", "hypertable/blue"] {
        assert!(stage.get(object).await?["status"]["conditions"].is_null(), "{object} is another's");
    }
    let for_the_others = Operator::start_with(&kubeconfig, "info", &["--database-selector", "team!=red"]).await?;
    stage.ready("timescaledatabase/blue hypertable/blue").await?;
    assert_eq!(for_the_others.metrics().await?.sum("connections", ""), 1.0);

    // A database goes over to the other operator with its label: both never hold it, for its lock is let go first.
    stage.kubectl("label timescaledatabase red team=green --overwrite").await?;
    eventually("the old operator lets go", async || {
        Ok((for_red.metrics().await?.sum("connections", "") == 0.0).then_some(()))
    })
    .await?;
    stage.patch("hypertable/red", r#"{"chunkInterval": "2 days"}"#).await?;
    red.until(&Database::chunks_span("red", "2 days")).await?;
    stage.ready("timescaledatabase/red hypertable/red").await?;
    assert!(for_red.terminate().await?.success());
    stage.put_operator(for_the_others);
    stage.end().await?;
    red.end().await?;
    blue.end().await
}

#[tokio::test]
async fn an_operator_of_some_namespaces_needs_no_permission_in_others_and_leaves_them_alone() -> Result<()> {
    let mut stage = Stage::own("watched").await?;
    for command in ["create namespace also-watched", "create namespace foreign", "create serviceaccount some"] {
        stage.kubectl(command).await?;
    }
    for namespace in ["watched", "also-watched"] {
        let role = r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "some", "namespace": "NAMESPACE"}, "rules": [
            {"apiGroups": ["timescaledb-policy.io"], "resources": ["*"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}]}"#;
        // Not in the namespace that kubectl is told.
        let role = role.replace("NAMESPACE", namespace);
        stage.kubectl_in(namespace, &["create", "-f", "-"], &role).await?;
        let binding = ["create", "rolebinding", "some", "--role=some", "--serviceaccount=watched:some"];
        stage.kubectl_in(namespace, &binding, "").await?;
    }
    let kubeconfig = stage.api()?.service_account_kubeconfig("watched", "some").await?;
    let operator = Operator::start_with(&kubeconfig, "info", &["--watch-namespaces", "watched,also-watched"]).await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("readings"), manifests::table("other")].concat()).await?;
    stage.secret(&database).await?;
    stage
        .apply(&[manifests::database("plant", "allowedNamespaces: {from: All}"), manifests::hypertable("readings", "")])
        .await?;
    let from_elsewhere = manifests::hypertable("other", "chunkInterval: 1 day")
        .replace("{name: plant}", "{name: plant, namespace: watched}");
    for namespace in ["also-watched", "foreign"] {
        stage.kubectl_in(namespace, &["apply", "-f", "-"], &from_elsewhere).await?;
    }
    stage.ready("timescaledatabase/plant hypertable/readings").await?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=120s", "hypertable/other"];
    stage.kubectl_in("also-watched", &ready, "").await?;
    operator.passes(2).await?;
    let status =
        stage.kubectl_in("foreign", &["get", "hypertable", "other", "-o", "jsonpath={.status.conditions}"], "").await?;
    assert_eq!(status, "", "nobody watches there");
    let attached = async |count: i64| {
        stage
            .until("timescaledatabase/plant", &format!("{count} resources"), |found| {
                found["status"]["resources"] == count
            })
            .await
    };
    attached(2).await?;
    stage.kubectl_in("also-watched", &["delete", "hypertable", "other"], "").await?;
    attached(1).await?;
    let forbidden: Vec<_> = operator.log().into_iter().filter(|line| line.to_string().contains("forbidden")).collect();
    assert_eq!(forbidden, Vec::<serde_json::Value>::new());
    // The namespace itself stays: no namespace controller runs here.
    stage.kubectl_in("foreign", &["delete", "hypertable", "other"], "").await?;
    stage.put_operator(operator);
    stage.end().await?;
    database.end().await
}
