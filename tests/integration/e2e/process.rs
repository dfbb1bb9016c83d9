//! The operator as a process: probes, metrics, logs, signals.

use std::collections::BTreeMap;

use timescaledb_policy_operator::metrics::{self, Kind};

use super::{
    database::Database,
    eventually, manifests,
    operator::Operator,
    relay::mute_port,
    stage::{Stage, define},
};
use crate::support::{Result, api_server::ApiServer};

#[tokio::test]
async fn probes_follow_the_operator_from_its_start_without_definitions_to_sigterm_in_a_pass() -> Result<()> {
    let api = ApiServer::start().await?;
    let mut operator = Operator::start(&api, "info").await?;
    let (live, _, body) = operator.get("/livez").await?;
    assert_eq!((live, body.as_str()), (200, "ok\n"));
    let (ready, _, body) = operator.get("/readyz").await?;
    assert!(ready == 503 && body.contains("stores"), "{ready} {body}");
    eventually("the log asks for the definitions", async || {
        Ok(operator.log().iter().any(|line| line.to_string().contains("are the CRDs installed")).then_some(()))
    })
    .await?;
    define(&api).await?;
    eventually("ready", async || Ok((operator.get("/readyz").await?.0 == 200).then_some(()))).await?;

    // A pass that hangs at a server that says nothing does not keep the process.
    let (mute, port) = mute_port().await?;
    let spec = format!("connection: {{secretRef: {{name: mute}}, host: 127.0.0.1, port: {port}, database: d}}");
    let manifest = manifests::resource("TimescaleDatabase", "mute", &spec);
    let folder = crate::support::process::Folder::new("mute")?;
    let file = folder.path().join("mute.yaml");
    std::fs::write(&file, manifest)?;
    let file = file.display().to_string();
    for arguments in [
        &["create", "secret", "generic", "mute", "--from-literal=username=u", "--from-literal=password=p"][..],
        &["apply", "-f", &file],
    ] {
        let output = tokio::process::Command::from(api.kubectl(arguments.iter().copied())).output().await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let (_connection, _) = mute.accept().await?;
    let status = operator.terminate().await?;
    assert!(status.success(), "{status}");
    assert!(operator.log().iter().all(serde_json::Value::is_object), "{:#?}", operator.log());
    assert!(operator.log().iter().any(|line| line["message"] == "stopped"));
    Ok(())
}

/// The permissions of docs/operate.md, applied as they stand there.
#[tokio::test]
async fn the_documented_permissions_are_enough() -> Result<()> {
    let mut stage = Stage::own("permissions").await?;
    let database = Database::start().await?;
    database.run(&[manifests::table_of_days("readings", 12), manifests::table("own")].concat()).await?;
    let page = include_str!("../../../docs/operate.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let permissions: Vec<_> = blocks.filter(|block| block.contains("rbac.authorization.k8s.io")).collect();
    assert_eq!(permissions.len(), 2, "of the cluster, and of one namespace");
    for block in permissions {
        let here = block.replace("namespace: factory", "namespace: permissions").replace("ms5-app", "plant");
        // kubectl takes no other namespace than the one it is told.
        let (folder, command) = (crate::support::process::Folder::new("permissions")?, ["apply", "-f"]);
        let file = folder.path().join("permissions.yaml");
        std::fs::write(&file, here)?;
        let file = file.display().to_string();
        let output =
            tokio::process::Command::from(stage.api()?.kubectl([command[0], command[1], &file])).output().await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let name = "timescaledb-policy-operator";
    let kubeconfig = stage.api()?.service_account_kubeconfig(name, name).await?;
    stage.start_operator_as(&kubeconfig).await?;
    stage.secret(&database).await?;
    let refresh = "deletionPolicy: Delete, refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    stage
        .apply(&[
            manifests::database("plant", "allowedNamespaces: {from: Selector, selector: {matchLabels: {plant: yes}}}")
                .replace("yes", "\"yes\""),
            manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true"),
            manifests::labelled("raw", &manifests::hypertable("own", "")),
            manifests::retention("readings", "dropAfter: 6 days"),
            manifests::fleet("CompressionPolicy", "fleet", "raw", "compressAfter: 300 days"),
            manifests::aggregate("hourly", "readings", "1 hour", refresh),
        ])
        .await?;
    stage.ready("hypertable/readings compressionpolicy/fleet continuousaggregate/hourly").await?;
    let message = stage.says("retentionpolicy/readings", "ApprovalRequired").await?;
    stage.obey(&message).await?;
    stage.ready("retentionpolicy/readings").await?;
    let forbidden = |line: &&serde_json::Value| line.to_string().contains("forbidden");
    let log = stage.operator()?.log();
    assert_eq!(log.iter().filter(forbidden).collect::<Vec<_>>(), [&serde_json::Value::Null; 0]);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn the_metrics_are_openmetrics_and_count_what_happened() -> Result<()> {
    let mut stage = Stage::own("metrics").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day")]).await?;
    database.run("SELECT set_chunk_time_interval('plant.readings', interval '3 days')").await?;
    database.until(&Database::chunks_span("readings", "1 day")).await?;
    stage.apply(&[manifests::database("nowhere", "")]).await?;
    stage.says("timescaledatabase/nowhere", "SecretNotFound").await?;
    stage.operator()?.passes(2).await?;

    let (status, head, text) = stage.operator()?.get("/metrics").await?;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    let families = openmetrics(&text)?;
    let expected = metrics::descriptions().map(|description| {
        let name = description.full_name();
        let family =
            name.strip_suffix("_total").or(name.strip_suffix("_info")).filter(|_| description.kind != Kind::Gauge);
        (family.unwrap_or(&name).to_owned(), description.kind.as_str().to_owned())
    });
    assert_eq!(families, expected.collect());
    let metrics = stage.operator()?.metrics().await?;
    assert_eq!(metrics.sum("steps_total", r#"action="create_hypertable",outcome="applied""#), 1.0);
    assert_eq!(metrics.sum("steps_total", r#"action="set_chunk_interval",outcome="applied""#), 1.0);
    assert_eq!(metrics.sum("drift_total", "Hypertable"), 1.0);
    assert_eq!(metrics.sum("connections", ""), 1.0);
    assert_eq!(metrics.sum("long_steps", ""), 0.0);
    assert_eq!(metrics.sum("build_info", env!("CARGO_PKG_VERSION")), 1.0);
    for (counter, label) in [
        ("passes_total", r#"outcome="ok""#),
        ("pass_duration_seconds_count", r#"outcome="ok""#),
        ("passes_total", r#"outcome="user""#),
        ("errors_total", r#"reason="SecretNotFound""#),
        ("api_writes_total", r#"write="status""#),
        ("api_writes_total", r#"write="event""#),
        ("statements_total", ""),
    ] {
        assert!(metrics.sum(counter, label) > 0.0, "{counter} {label}");
    }
    stage.end().await?;
    database.end().await
}

/// The families of an exposition with their types; an error where it is not OpenMetrics text.
fn openmetrics(text: &str) -> Result<BTreeMap<String, String>> {
    let lines = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?.lines();
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let mut current = None;
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let [keyword, name, rest] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                return Err(format!("not a description: {line}").into());
            };
            match keyword {
                "TYPE" => {
                    if families.insert(name.to_owned(), rest.to_owned()).is_some() {
                        return Err(format!("a family twice: {name}").into());
                    }
                    current = Some((name, rest));
                }
                "HELP" if rest.is_empty() => return Err(format!("no help for {name}").into()),
                "UNIT" if !name.ends_with(&format!("_{rest}")) => return Err(format!("not its unit: {line}").into()),
                "HELP" | "UNIT" => {}
                _ => return Err(format!("an unknown keyword: {line}").into()),
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').ok_or_else(|| format!("no value: {line}"))?;
        value.parse::<f64>().map_err(|error| format!("{error}: {line}"))?;
        let (name, labels) = match sample.split_once('{') {
            None => (sample, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').ok_or_else(|| format!("an open brace: {line}"))?),
        };
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let value = label.split_once('=').and_then(|(_, value)| value.strip_prefix('"')?.strip_suffix('"'));
            value.ok_or_else(|| format!("not a label: {label} in {line}"))?;
        }
        let (family, type_) = current.ok_or_else(|| format!("a sample before its family: {line}"))?;
        let suffixes: &[&str] = match type_ {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            _ => &[""],
        };
        if !name.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix)) {
            return Err(format!("not a sample of the {type_} {family}: {line}").into());
        }
        if samples.insert(sample.to_owned(), ()).is_some() {
            return Err(format!("a sample twice: {line}").into());
        }
    }
    Ok(families)
}
