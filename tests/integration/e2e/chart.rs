//! The Helm chart, installed, with the operator under exactly the permissions that it grants.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    database::Database, eventually, examples::missing, manifests, monitoring_api::Caller, operator::Operator,
    stage::Stage,
};
use crate::support::{Result, helm};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/timescaledb-policy-operator");

/// What may be done: API group, resource with its subresource, verb.
type Permissions = BTreeSet<(String, String, String)>;

/// Installs what the chart renders into the namespace of the stage, and starts the operator as its Deployment does.
async fn install(stage: &Stage, values: &[&str]) -> Result<Operator> {
    let namespace = stage.namespace();
    let common =
        ["template", namespace, CHART, "--namespace", namespace, "--set", "crds.enabled=false", "--skip-tests"];
    let rendered = helm(&[&common, values].concat()).await?;
    stage.kubectl_with(&["apply", "--server-side", "--validate=strict", "-f", "-"], &rendered).await?;
    let deployments: Value = serde_json::from_str(&stage.kubectl("get deployments -o json").await?)?;
    let pod = &deployments["items"][0]["spec"]["template"]["spec"];
    let kubeconfig = stage.api()?.service_account_kubeconfig(namespace, &account(stage).await?).await?;
    let arguments: Vec<_> = pod["containers"][0]["args"].as_array().into_iter().flatten().collect();
    let arguments: Vec<_> = arguments.into_iter().filter_map(Value::as_str).collect();
    // A port of its own for each test: everything else as it is in the pod.
    let here = arguments.iter().map(|argument| match argument.split_once('=') {
        Some(("--listen", _)) => "--listen=127.0.0.1:0",
        Some(("--monitoring-listen", _)) => "--monitoring-listen=127.0.0.1:0",
        _ => argument,
    });
    let here: Vec<_> = here.collect();
    assert_ne!(arguments, here, "{arguments:?}");
    let mut variables = Vec::new();
    for variable in pod["containers"][0]["env"].as_array().into_iter().flatten() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.name") => "operator-0",
            Some("metadata.namespace") => namespace,
            other => return Err(format!("a variable from {other:?}").into()),
        };
        variables.push((variable["name"].as_str().unwrap_or_default(), value));
    }
    Operator::start_exactly(&kubeconfig, &here, &variables).await
}

/// The service account of the Deployment.
async fn account(stage: &Stage) -> Result<String> {
    stage.kubectl("get deployments -o jsonpath={.items[0].spec.template.spec.serviceAccountName}").await
}

/// What the roles of the chart grant to the operator.
async fn granted(stage: &Stage) -> Result<Permissions> {
    let list = format!("get clusterroles,roles -l app.kubernetes.io/instance={} -o json", stage.namespace());
    let lists = stage.kubectl(&list).await?;
    let roles: Value = serde_json::from_str(&lists)?;
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut permissions = Permissions::new();
    for role in roles["items"].as_array().into_iter().flatten() {
        // Not for the operator but for people.
        let aggregated = role["metadata"]["labels"].to_string().contains("rbac.authorization.k8s.io/aggregate-to-");
        for rule in role["rules"].as_array().into_iter().flatten().filter(|_| !aggregated) {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let of = |verb| (group.clone(), resource.clone(), verb);
                    permissions.extend(texts(&rule["verbs"]).into_iter().map(of));
                }
            }
        }
    }
    Ok(permissions)
}

/// What the operator asked for, and what of it was refused.
fn used(stage: &Stage, namespace: &str) -> Result<(Permissions, Permissions)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut allowed, mut refused) = (Permissions::new(), Permissions::new());
    for event in stage.api()?.audit()? {
        let mine = format!("system:serviceaccount:{namespace}:");
        let object = &event["objectRef"];
        if !text(&event["user"]["username"]).starts_with(&mine) || object.is_null() {
            continue;
        }
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let permission = (text(&object["apiGroup"]), resource, text(&event["verb"]));
        let allow = event["annotations"]["authorization.k8s.io/decision"] == "allow";
        (if allow { &mut allowed } else { &mut refused }).insert(permission);
    }
    Ok((allowed, refused))
}

/// Everything that makes the operator ask the API server for something.
async fn work(stage: &Stage, database: &Database) -> Result<()> {
    stage.secret(database).await?;
    let refresh = "deletionPolicy: Delete, refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    let all = [
        manifests::database("plant", ""),
        manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true"),
        manifests::labelled("raw", &manifests::hypertable("own", "")),
        manifests::retention("readings", "dropAfter: 300 days"),
        manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 400 days"),
        manifests::fleet("CompressionPolicy", "fleet", "raw", "compressAfter: 300 days"),
        manifests::aggregate("hourly", "readings", "1 hour", refresh),
    ];
    stage.apply(&all).await?;
    stage
        .ready("hypertable/readings hypertable/own retentionpolicy/readings retentionpolicy/fleet compressionpolicy/fleet continuousaggregate/hourly")
        .await?;
    stage.delete(&all[3..]).await?;
    let orphan = r#"{"deletionPolicy": "Orphan"}"#;
    stage.patch("timescaledatabase/plant", orphan).await?;
    stage.delete(&all[..3]).await
}

#[tokio::test]
async fn the_chart_grants_the_operator_what_it_uses_and_no_more() -> Result<()> {
    used_is_granted("chart", &["--set", "monitoringApi.enabled=true"]).await
}

#[tokio::test]
async fn the_chart_for_some_namespaces_grants_nothing_outside_of_them() -> Result<()> {
    used_is_granted("chart-of-some", &["--set", "watchNamespaces={chart-of-some}"]).await
}

async fn used_is_granted(namespace: &str, values: &[&str]) -> Result<()> {
    let mut stage = Stage::own(namespace).await?;
    let operator = install(&stage, values).await?;
    let database = Database::start().await?;
    database.run(&[manifests::table_of_days("readings", 3), manifests::table("own")].concat()).await?;
    work(&stage, &database).await?;
    if values.iter().any(|value| value.contains("monitoringApi")) {
        let path = stage.api()?.service_account_kubeconfig(namespace, &account(&stage).await?).await?;
        let kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let caller = Caller::new(&operator, kubeconfig["users"][0]["user"]["token"].as_str(), None)?;
        // Whose token it is, and what its owner may read.
        assert_eq!(caller.get("/api/v1/monitoring/status/timescaledb").await?.status, 200);
        assert_eq!(caller.get("/api/v1/monitoring/configuration").await?.status, 403);
    }
    let granted = granted(&stage).await?;
    // The answer to a request may be there before its line in the log is; a watch is logged when it ends.
    stage.put_operator(operator);
    assert!(stage.take_operator()?.terminate().await?.success());
    let mut last = (Permissions::new(), Permissions::new());
    let same = eventually("every permission is used", async || {
        last = used(&stage, stage.namespace())?;
        Ok((last.0 == granted).then_some(()))
    })
    .await;
    assert_eq!(last.1, Permissions::new(), "refused");
    assert_eq!(last.0, granted, "used (left) and granted (right): {same:?}");
    let operator = install(&stage, values).await?;
    stage.put_operator(operator);
    stage.end().await?;
    database.end().await
}

/// Helm against the API server of the stage.
async fn release(stage: &Stage, words: &[&str]) -> Result<String> {
    let kubeconfig = stage.api()?.kubeconfig_path().display().to_string();
    helm(&[words, &["--namespace", stage.namespace(), "--kubeconfig", &kubeconfig]].concat()).await
}

/// The definitions as an older version of this operator had them: without what has been added since.
fn older(definitions: &str) -> Result<String> {
    let mut all = String::new();
    for mut definition in serde_saphyr::from_multiple::<Value>(definitions)? {
        let properties = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for field in ["monitoringSchema", "healthThresholds"] {
            if let Some(spec) = properties["spec"]["properties"].as_object_mut() {
                spec.remove(field);
            }
        }
        if let Some(status) = properties["status"]["properties"].as_object_mut() {
            status.retain(|field, _| !["health", "job", "defaults", "monitoringVersion"].contains(&field.as_str()));
        }
        all.push_str(&format!("---\n{definition}\n"));
    }
    Ok(all)
}

#[tokio::test]
async fn an_upgrade_of_the_definitions_keeps_what_is_there_and_uninstalling_keeps_or_removes_it_as_told() -> Result<()>
{
    let mut stage = Stage::own("upgraded").await?;
    let mut definitions = String::new();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/crds"))? {
        definitions.push_str(&format!("---\n{}", std::fs::read_to_string(entry?.path())?));
    }
    let before = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    stage.kubectl_with(&before, &older(&definitions)?).await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let all = [
        manifests::hypertable("readings", "chunkInterval: 1 day"),
        manifests::retention("readings", "dropAfter: 1 year"),
    ];
    stage.manage(&database, &all).await?;
    assert!(stage.get("retentionpolicy/readings").await?["status"]["job"].is_null(), "not in the older version");
    let specs =
        async || -> Result<Vec<Value>> { Ok(stage.objects().await?.iter().map(|o| o["spec"].clone()).collect()) };
    let specs_before = specs().await?;

    // As docs/install.md has it for definitions that kubectl applied.
    let take = ["--take-ownership", "--force-conflicts"];
    release(&stage, &[&["install", "it", CHART][..], &take].concat()).await?;
    stage.until("retentionpolicy/readings", "its job", |found| !found["status"]["job"].is_null()).await?;
    // A newer definition may fill in what it has a default for.
    let (before, now) = (Value::from(specs_before), Value::from(specs().await?));
    assert_eq!(missing(&before, &now, "specs"), Vec::<String>::new());
    release(&stage, &["upgrade", "it", CHART, "--set", "concurrency=8"]).await?;
    assert!(stage.kubectl("get deployment -o yaml").await?.contains("--concurrency=8"));

    release(&stage, &["uninstall", "it"]).await?;
    assert_eq!(specs().await?.len(), 3, "kept with their definitions");
    assert_eq!(stage.kubectl("get deployments,clusterroles -l app.kubernetes.io/instance=it -o name").await?, "");
    stage.ready("hypertable/readings retentionpolicy/readings").await?;

    // Without `keep` the definitions go, and the resources with them. The operator still runs and takes the policy away.
    release(&stage, &["install", "it", CHART, "--set", "crds.keep=false"]).await?;
    release(&stage, &["uninstall", "it"]).await?;
    eventually("the definitions are gone", async || {
        Ok((stage.kubectl("get crds -o name").await?.matches("timescaledb-policy.io").count() == 0).then_some(()))
    })
    .await?;
    assert_eq!(database.policies("retention").await?, 0);
    super::stage::define(stage.api()?).await?;
    stage.end().await?;
    database.end().await
}

/// Of the Prometheus operator there is only this much here: kinds that take anything.
fn stand_in(kind: &str) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}]
        }
    })
}

#[tokio::test]
async fn everything_that_the_chart_can_render_is_accepted() -> Result<()> {
    let mut stage = Stage::own("rendered").await?;
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule"] {
        stage.kubectl_with(&["apply", "-f", "-"], &stand_in(kind).to_string()).await?;
    }
    stage.kubectl("wait --for=condition=Established --timeout=60s crd --all").await?;
    let mut kinds = BTreeSet::new();
    for values in std::fs::read_dir(format!("{CHART}/ci"))? {
        let values = values?.path().display().to_string();
        let rendered = helm(&["template", "it", CHART, "--namespace", stage.namespace(), "-f", &values]).await?;
        let documents = serde_saphyr::from_multiple::<Value>(&rendered)?;
        // A Role is for a namespace that has to be there.
        for namespace in documents.iter().filter_map(|d| d["metadata"]["namespace"].as_str()).collect::<BTreeSet<_>>() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            stage.kubectl_with(&["apply", "-f", "-"], &namespace.to_string()).await?;
        }
        kinds.extend(documents.iter().filter_map(|d| d["kind"].as_str()).map(str::to_owned));
        for document in &documents {
            let namespace = document["metadata"]["namespace"].as_str().unwrap_or(stage.namespace());
            let arguments =
                ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
            let accepted = stage.kubectl_in(namespace, &arguments, &document.to_string()).await;
            accepted
                .map_err(|error| format!("{values}: {}/{}: {error}", document["kind"], document["metadata"]["name"]))?;
        }
    }
    for kind in ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "PrometheusRule", "ServiceMonitor", "ConfigMap"]
    {
        assert!(kinds.contains(kind), "no set of values renders a {kind}: {kinds:?}");
    }
    stage.start_operator().await?;
    stage.end().await
}
