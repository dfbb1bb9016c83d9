//! The custom resource definitions against a real API server, through kubectl where a user would go through it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use timescaledb_policy_operator::api::{
    self, CompressionPolicy, ContinuousAggregate, GROUP, Hypertable, RetentionPolicy, TimescaleDatabase,
};
use tokio::sync::OnceCell;

use crate::support::{Result, api_server::ApiServer};

/// The API server with the definitions, applied as a user applies them, and a namespace of the test's own.
struct Cluster {
    server: &'static ApiServer,
    namespace: String,
}

impl Cluster {
    async fn start() -> Result<Self> {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let server = ApiServer::shared().await?;
        let cluster = Self { server, namespace: format!("test-{:016x}", fastrand::u64(..)) };
        let install = async || {
            cluster.kubectl(&[
                "apply",
                "--server-side",
                "--force-conflicts",
                "-f",
                &folder("crds").display().to_string(),
            ])?;
            cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])?;
            Ok::<(), crate::support::Error>(())
        };
        INSTALLED.get_or_try_init(install).await?;
        cluster.kubectl(&["create", "namespace", &cluster.namespace])?;
        Ok(cluster)
    }

    /// What kubectl prints.
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, None)
    }

    /// The same with this on its standard input.
    fn kubectl_with(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.server.kubectl(arguments.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.unwrap_or_default().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    }

    /// `kubectl apply` in the namespace, as strict as its default is.
    fn apply(&self, manifest: &Value, more: &[&str]) -> Result<String> {
        let arguments = [&["apply", "--validate=strict", "-n", &self.namespace, "-f", "-"], more].concat();
        self.kubectl_with(&arguments, Some(&manifest.to_string()))
    }

    /// What the API server says to the object, as `kubectl apply --dry-run=server` would be told, and without the time that
    /// a process takes.
    async fn try_out(&self, object: &Value) -> Result<()> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let crd = api::crds().into_iter().find(|crd| crd.spec.names.kind == kind).ok_or("no such kind")?;
        let (namespace, plural) = (&self.namespace, &crd.spec.names.plural);
        let path = format!("/apis/{GROUP}/v1alpha1/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict");
        let request = http::Request::post(path)
            .header("Content-Type", "application/json")
            .body(object.to_string().into_bytes())?;
        self.server.client().await?.request::<Value>(request).await?;
        Ok(())
    }

    fn get(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", kind, name, "-n", &self.namespace, "-o", "json"])?)?)
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// One object of each kind with everything that must be there and nothing else.
fn minimal(kind: &str) -> Value {
    let spec = match kind {
        "TimescaleDatabase" => json!({"connection": {"secretRef": {"name": "app"}}}),
        "Hypertable" => json!({"databaseRef": {"name": "db"}, "table": "metric", "timeColumn": "ts"}),
        "CompressionPolicy" => {
            json!({"targetRef": {"kind": "Hypertable", "name": "metric"}, "compressAfter": "7 days"})
        }
        "RetentionPolicy" => json!({"targetRef": {"kind": "Hypertable", "name": "metric"}, "dropAfter": "90 days"}),
        "ContinuousAggregate" => json!({"databaseRef": {"name": "db"}, "name": "hourly", "query": "SELECT 1"}),
        other => panic!("{other} is not a kind"),
    };
    json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": {"name": "it"}, "spec": spec})
}

/// The same with everything that can be there.
fn full(kind: &str) -> Value {
    let schedule = json!({
        "interval": "12 hours", "initialStart": "2026-01-01T02:00:00Z", "timezone": "Europe/Berlin", "maxRuntime": "0 seconds",
        "maxRetries": -1, "retryPeriod": "5 minutes"
    });
    let more = match kind {
        "TimescaleDatabase" => json!({
            "connection": {
                "secretRef": {"name": "app"}, "host": "db.example", "port": 5432, "database": "factory",
                "tls": {"mode": "VerifyCA", "caSecretRef": {"name": "ca", "key": "root.pem"}}
            },
            "mode": "Observe", "resyncInterval": "1 minute", "statisticsInterval": "PT10M", "maxConnections": 5,
            "guards": {"maxImmediateDropPercent": 0}, "deletionPolicy": "Orphan", "monitoringSchema": "monitoring",
            "healthThresholds": {"minCompressedPercent": 90, "maxChunks": 500, "maxChunksToDrop": 0},
            "defaults": {"chunkInterval": "1 day", "compressAfter": "7 days", "dropAfter": 90000},
            "allowedNamespaces": {
                "from": "Selector",
                "selector": {"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "stage", "operator": "In", "values": ["live"]}]}
            }
        }),
        "Hypertable" => json!({
            "schema": "factory", "chunkInterval": "1 day 12:00", "spacePartitions": [{"column": "device", "partitions": 4}], "migrateData": true,
            "indexes": [{
                "name": "i", "method": "Btree", "unique": false, "columns": [{"name": "device", "order": "Desc", "nulls": "Last"}],
                "include": ["value"], "where": "value > 0"
            }],
            "integerNowFunction": "factory.now", "chunkSkipping": ["device"], "tablespaces": ["fast"],
            "reorder": {"index": "i", "schedule": schedule, "paused": true}
        }),
        "CompressionPolicy" => json!({
            "segmentBy": ["device"], "orderBy": [{"column": "ts", "order": "Desc", "nulls": "First"}], "schedule": schedule, "paused": true,
            "mergeInterval": "7 days", "sparseIndexes": [{"kind": "Bloom", "columns": ["value", "state"]}], "deletionPolicy": "Retain"
        }),
        "RetentionPolicy" => json!({"schedule": schedule, "paused": true, "deletionPolicy": "Retain"}),
        "ContinuousAggregate" => json!({
            "schema": "factory", "realTime": true, "deletionPolicy": "Delete", "onQueryChange": "Rebuild", "createGroupIndexes": false,
            "chunkInterval": "10 days", "indexes": [{"name": "i", "columns": [{"name": "bucket", "order": "Asc"}], "method": "Brin", "unique": false}],
            "refreshPolicy": {
                "startOffset": "P3D", "endOffset": "1 hour", "schedule": schedule, "paused": true, "includeTieredData": true,
                "bucketsPerBatch": 10, "maxBatchesPerExecution": 0, "refreshNewestFirst": false
            }
        }),
        other => panic!("{other} is not a kind"),
    };
    let mut object = minimal(kind);
    if let (Some(spec), Value::Object(more)) = (object["spec"].as_object_mut(), more) {
        spec.extend(more);
    }
    object
}

const KINDS: [&str; 5] =
    ["TimescaleDatabase", "Hypertable", "CompressionPolicy", "RetentionPolicy", "ContinuousAggregate"];

/// The object with a field of its spec set (`a/b` goes into `a`, numbers into lists), or removed.
fn with(mut object: Value, path: &str, value: Option<Value>) -> Value {
    let (parents, field) = path.rsplit_once('/').unwrap_or(("", path));
    let mut at = &mut object["spec"];
    for step in parents.split('/').filter(|step| !step.is_empty()) {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    match (value, at.as_object_mut()) {
        (Some(value), Some(fields)) => drop(fields.insert(field.to_owned(), value)),
        (None, Some(fields)) => drop(fields.remove(field)),
        (_, None) => panic!("{path} leads to nothing"),
    }
    object
}

#[tokio::test]
async fn all_definitions_are_accepted_and_established() -> Result<()> {
    let cluster = Cluster::start().await?;
    let found: Value = serde_json::from_str(&cluster.kubectl(&["get", "crd", "-o", "json"])?)?;
    let mut kinds = BTreeSet::new();
    for crd in found["items"].as_array().into_iter().flatten().filter(|crd| crd["spec"]["group"] == GROUP) {
        let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let conditions: BTreeMap<_, _> =
            conditions.iter().filter_map(|c| Some((c["type"].as_str()?, c["status"].as_str()?))).collect();
        assert_eq!(
            conditions,
            BTreeMap::from([("Established", "True"), ("NamesAccepted", "True")]),
            "{}",
            crd["metadata"]["name"]
        );
        kinds.insert(crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(kinds, KINDS.map(str::to_owned).into());
    Ok(())
}

#[test]
fn the_generated_files_are_what_the_api_says() -> Result<()> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder("crds"))? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.insert(name, serde_saphyr::from_str::<Value>(&std::fs::read_to_string(path)?)?);
    }
    let crds =
        api::crds().into_iter().map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), serde_json::to_value(crd)?)));
    let crds = crds.collect::<Result<BTreeMap<_, _>>>()?;
    assert_eq!(files.keys().collect::<Vec<_>>(), crds.keys().collect::<Vec<_>>());
    for (name, crd) in &crds {
        assert_eq!(&files[name], crd, "{name} is not what src/api says: run make generate");
    }
    Ok(())
}

#[tokio::test]
async fn every_example_is_accepted() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (mut folders, mut files) = (vec![folder("examples")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.join("kustomization.yaml").exists() {
                let rendered = cluster.kubectl(&["kustomize", &path.display().to_string()])?;
                let output = cluster
                    .kubectl_with(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], Some(&rendered))?;
                assert!(output.contains("(server dry run)"), "{}: {output}", path.display());
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
                && !path.ends_with("compose.yaml")
            {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 3, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        for manifest in serde_saphyr::from_multiple::<Value>(&text)? {
            // Nothing can be tried in a namespace that is not there.
            if let Some(namespace) = manifest["metadata"]["namespace"].as_str() {
                let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
                cluster.kubectl_with(&["apply", "-f", "-"], Some(&namespace.to_string()))?;
            }
        }
        let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", &file.display().to_string()];
        let output = cluster.kubectl(&arguments).map_err(|error| format!("{}: {error}", file.display()))?;
        assert!(output.contains("(server dry run)"), "{}: {output}", file.display());
    }
    Ok(())
}

/// A round trip of everything: what the API server stores is what the operator reads, and what it would write again.
#[tokio::test]
async fn no_field_is_lost_on_the_way_to_the_operator() -> Result<()> {
    let cluster = Cluster::start().await?;
    fn read_and_written<K: DeserializeOwned + Serialize>(stored: Value) -> Result<Value> {
        Ok(serde_json::to_value(serde_json::from_value::<K>(stored)?)?)
    }
    for kind in KINDS {
        let object = full(kind);
        cluster.apply(&object, &[])?;
        let stored = cluster.get(kind, "it")?;
        assert_eq!(stored["spec"], object["spec"], "{kind} as stored");
        let again = match kind {
            "TimescaleDatabase" => read_and_written::<TimescaleDatabase>(stored)?,
            "Hypertable" => read_and_written::<Hypertable>(stored)?,
            "CompressionPolicy" => read_and_written::<CompressionPolicy>(stored)?,
            "RetentionPolicy" => read_and_written::<RetentionPolicy>(stored)?,
            _ => read_and_written::<ContinuousAggregate>(stored)?,
        };
        assert_eq!(again["spec"], object["spec"], "{kind} as read");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_left_out_has_its_documented_default() -> Result<()> {
    let cluster = Cluster::start().await?;
    let defaults = [
        (
            "TimescaleDatabase",
            json!({
                "mode": "Enforce", "resyncInterval": "30 seconds", "statisticsInterval": "5 minutes", "maxConnections": 3,
                "guards": {"maxImmediateDropPercent": 25}, "deletionPolicy": "Delete",
                "healthThresholds": {"minCompressedPercent": 60, "maxChunks": 1000, "maxChunksToDrop": 10}, "allowedNamespaces": {"from": "Same"},
                "connection": {"secretRef": {"name": "app"}, "tls": {"mode": "Prefer"}}
            }),
        ),
        ("Hypertable", json!({"schema": "public", "migrateData": false})),
        ("CompressionPolicy", json!({"paused": false, "deletionPolicy": "Delete", "schedule": {}})),
        ("RetentionPolicy", json!({"paused": false, "deletionPolicy": "Delete", "schedule": {}})),
        ("ContinuousAggregate", json!({"schema": "public", "deletionPolicy": "Retain", "onQueryChange": "Refuse"})),
    ];
    for (kind, expected) in defaults {
        cluster.apply(&minimal(kind), &[])?;
        let stored = cluster.get(kind, "it")?;
        for (field, value) in expected.as_object().into_iter().flatten() {
            assert_eq!(&stored["spec"][field], value, "{kind}.spec.{field}");
        }
        let added = stored["spec"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(field, _)| minimal(kind)["spec"].get(*field).is_none());
        let empty = json!([]);
        let unexpected: Vec<_> =
            added.filter(|(field, value)| expected.get(*field).is_none() && **value != empty).collect();
        assert!(unexpected.is_empty(), "{kind}: {unexpected:?}");
    }
    Ok(())
}

#[tokio::test]
async fn specs_are_refused_where_they_cannot_mean_anything() -> Result<()> {
    let cluster = Cluster::start().await?;
    let long = |length: usize| json!("x".repeat(length));
    let (database, hypertable, compression, retention, aggregate) =
        ("TimescaleDatabase", "Hypertable", "CompressionPolicy", "RetentionPolicy", "ContinuousAggregate");
    // The kind, the field of its spec, the value (none: without it), and what the API server says.
    let refused = [
        (database, "connection", None, "spec.connection: Required value"),
        (database, "connection/secretRef", None, "spec.connection.secretRef: Required value"),
        (database, "connection/secretRef/name", Some(json!("")), "should be at least 1 chars long"),
        (database, "connection/host", Some(json!("")), "spec.connection.host"),
        (database, "connection/port", Some(json!(0)), "greater than or equal to 1"),
        (database, "connection/port", Some(json!(65536)), "less than or equal to 65535"),
        (database, "connection/port", Some(json!("5432")), "must be of type integer"),
        (database, "connection/database", Some(long(64)), "may not be more than 63"),
        (
            database,
            "connection/tls/mode",
            Some(json!("verify-full")),
            r#"supported values: "Disable", "Prefer", "Require", "VerifyCA", "VerifyFull""#,
        ),
        (database, "connection/tls/caSecretRef/name", Some(json!("")), "spec.connection.tls.caSecretRef.name"),
        (database, "mode", Some(json!("Off")), r#"supported values: "Enforce", "Observe""#),
        (database, "resyncInterval", Some(json!("often")), "spec.resyncInterval"),
        (database, "statisticsInterval", Some(json!("-5 minutes")), "spec.statisticsInterval"),
        (database, "maxConnections", Some(json!(1)), "greater than or equal to 2"),
        (database, "maxConnections", Some(json!(101)), "less than or equal to 100"),
        (database, "guards/maxImmediateDropPercent", Some(json!(-1)), "greater than or equal to 0"),
        (database, "guards/maxImmediateDropPercent", Some(json!(101)), "less than or equal to 100"),
        (database, "guards/maxImmediateDropPercent", Some(json!(2.5)), "must be of type integer"),
        (database, "deletionPolicy", Some(json!("Keep")), r#"supported values: "Delete", "Orphan""#),
        (database, "defaults", Some(json!("7 days")), "must be of type object"),
        (database, "defaults/chunkInterval", Some(json!("")), "spec.defaults.chunkInterval"),
        (database, "defaults/compressAfter", Some(json!("7")), "spec.defaults.compressAfter"),
        (database, "defaults/dropAfter", Some(json!(-7)), "spec.defaults.dropAfter"),
        (database, "allowedNamespaces/from", Some(json!("Any")), r#"supported values: "Same", "All", "Selector""#),
        (
            database,
            "allowedNamespaces/from",
            Some(json!("All")),
            "selector is needed with from: Selector, and only then",
        ),
        (database, "allowedNamespaces/selector", None, "selector is needed with from: Selector, and only then"),
        (
            database,
            "allowedNamespaces/selector/matchLabels",
            Some(json!({"team": 1})),
            "spec.allowedNamespaces.selector.matchLabels",
        ),
        (
            database,
            "allowedNamespaces/selector/matchExpressions/0/operator",
            Some(json!("in")),
            "spec.allowedNamespaces.selector.matchExpressions[0].operator: Unsupported value",
        ),
        (
            database,
            "allowedNamespaces/selector/matchExpressions/0/operator",
            Some(json!("Exists")),
            "values are needed with In and NotIn, and only then",
        ),
        (
            database,
            "allowedNamespaces/selector/matchExpressions/0/values",
            None,
            "values are needed with In and NotIn, and only then",
        ),
        (
            database,
            "allowedNamespaces/selector/matchExpressions/0/key",
            Some(json!("")),
            "spec.allowedNamespaces.selector.matchExpressions[0].key",
        ),
        (hypertable, "databaseRef", None, "spec.databaseRef: Required value"),
        (hypertable, "databaseRef/name", Some(json!("")), "spec.databaseRef.name"),
        (hypertable, "schema", Some(json!("")), "spec.schema"),
        (hypertable, "schema", Some(long(64)), "may not be more than 63"),
        (hypertable, "table", None, "spec.table: Required value"),
        (hypertable, "table", Some(json!("")), "spec.table"),
        (hypertable, "table", Some(long(64)), "may not be more than 63"),
        (hypertable, "timeColumn", None, "spec.timeColumn: Required value"),
        (hypertable, "timeColumn", Some(json!("")), "spec.timeColumn"),
        (hypertable, "chunkInterval", Some(json!("")), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!("daily")), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!("-1 day")), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!("1 day'; DROP TABLE x")), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!(-1)), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!(1.5)), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!(9_300_000_000_000_000_000_u64)), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!("3600")), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!(true)), "spec.chunkInterval"),
        (hypertable, "chunkInterval", Some(json!([])), "spec.chunkInterval"),
        (hypertable, "databaseRef/namespace", Some(json!("")), "spec.databaseRef.namespace"),
        (hypertable, "databaseRef/namespace", Some(long(64)), "may not be more than 63"),
        (hypertable, "integerNowFunction", Some(json!("")), "spec.integerNowFunction"),
        (hypertable, "integerNowFunction", Some(long(261)), "may not be more than 260"),
        (hypertable, "integerNowFunction", Some(json!(1)), "must be of type string"),
        (hypertable, "chunkSkipping", Some(json!("device")), "must be of type array"),
        (hypertable, "chunkSkipping", Some(json!([""])), "spec.chunkSkipping[0]"),
        (hypertable, "chunkSkipping", Some(json!(["a", "a"])), "chunkSkipping names a column twice"),
        (
            hypertable,
            "chunkSkipping",
            Some((0..33).map(|i| json!(format!("c{i}"))).collect()),
            "must have at most 32 items",
        ),
        (hypertable, "tablespaces", Some(json!([long(64)])), "spec.tablespaces[0]"),
        (hypertable, "tablespaces", Some(json!(["a", "a"])), "tablespaces names one twice"),
        (hypertable, "reorder/index", None, "spec.reorder.index: Required value"),
        (hypertable, "reorder/index", Some(json!("")), "spec.reorder.index"),
        (hypertable, "reorder/schedule/interval", Some(json!("7")), "spec.reorder.schedule.interval"),
        (hypertable, "reorder/paused", Some(json!("no")), "must be of type boolean"),
        (hypertable, "indexes/0/method", Some(json!("btree")), "spec.indexes[0].method: Unsupported value"),
        (hypertable, "indexes/0/method", Some(json!("Gin")), "only Btree"),
        (hypertable, "indexes/0/unique", Some(json!("yes")), "must be of type boolean"),
        (
            hypertable,
            "indexes",
            Some(json!([{"name": "i", "method": "Hash", "unique": true, "columns": [{"name": "a"}]}])),
            "only Btree indexes can be unique",
        ),
        (hypertable, "chunkInterval", Some(json!(format!("1 day {}", " ".repeat(100)))), "may not be more than 100"),
        (hypertable, "migrateData", Some(json!("yes")), "must be of type boolean"),
        (hypertable, "spacePartitions/0/column", Some(json!("ts")), "spacePartitions must not name the time column"),
        (hypertable, "spacePartitions/0/column", Some(json!("")), "spec.spacePartitions[0].column"),
        (hypertable, "spacePartitions/0/partitions", Some(json!(0)), "greater than or equal to 1"),
        (hypertable, "spacePartitions/0/partitions", Some(json!(32768)), "less than or equal to 32767"),
        (hypertable, "spacePartitions/0/partitions", None, "spec.spacePartitions[0].partitions: Required value"),
        (
            hypertable,
            "spacePartitions",
            Some(json!([{"column": "a", "partitions": 2}, {"column": "a", "partitions": 3}])),
            "Duplicate value",
        ),
        (
            hypertable,
            "spacePartitions",
            Some((0..9).map(|i| json!({"column": format!("c{i}"), "partitions": 2})).collect()),
            "must have at most 8 items",
        ),
        (hypertable, "indexes/0/name", Some(json!("")), "spec.indexes[0].name"),
        (hypertable, "indexes/0/name", Some(long(64)), "may not be more than 63"),
        (hypertable, "indexes/0/columns", Some(json!([])), "should have at least 1 items"),
        (hypertable, "indexes/0/columns", None, "spec.indexes[0].columns: Required value"),
        (hypertable, "indexes/0/columns/0/name", Some(json!("")), "spec.indexes[0].columns[0].name"),
        (hypertable, "indexes/0/columns/0/order", Some(json!("desc")), r#"supported values: "Asc", "Desc""#),
        (hypertable, "indexes/0/columns/0/nulls", Some(json!("Middle")), r#"supported values: "First", "Last""#),
        (hypertable, "indexes/0/include", Some(json!([""])), "spec.indexes[0].include[0]"),
        (hypertable, "indexes/0/where", Some(json!("")), "spec.indexes[0].where"),
        (
            hypertable,
            "indexes",
            Some(json!([{"name": "i", "columns": [{"name": "a"}]}, {"name": "i", "columns": [{"name": "b"}]}])),
            "Duplicate value",
        ),
        (compression, "targetRef", None, "one of targetRef and targetSelector is needed"),
        (compression, "targetSelector", Some(json!({"kind": "Hypertable"})), "one of targetRef and targetSelector"),
        (compression, "targetRef/kind", Some(json!("Table")), "spec.targetRef.kind: Unsupported value"),
        (compression, "targetRef/name", Some(json!("")), "spec.targetRef.name"),
        (compression, "compressAfter", Some(json!(-1)), "spec.compressAfter"),
        (
            compression,
            "compressCreatedBefore",
            Some(json!("1 day")),
            "only one of compressAfter and compressCreatedBefore",
        ),
        (compression, "compressCreatedBefore", Some(json!(5)), "must be of type string"),
        (compression, "mergeInterval", Some(json!("1")), "spec.mergeInterval"),
        (compression, "mergeInterval", Some(json!(-1)), "spec.mergeInterval"),
        (compression, "sparseIndexes", Some(json!({})), "must be of type array"),
        (compression, "sparseIndexes/0/kind", Some(json!("bloom")), "spec.sparseIndexes[0].kind: Unsupported value"),
        (compression, "sparseIndexes/0/kind", None, "spec.sparseIndexes[0].kind: Required value"),
        (compression, "sparseIndexes/0/kind", Some(json!("MinMax")), "only a Bloom index can have several columns"),
        (compression, "sparseIndexes/0/columns", Some(json!([])), "should have at least 1 items"),
        (compression, "sparseIndexes/0/columns", None, "spec.sparseIndexes[0].columns: Required value"),
        (compression, "compressAfter", Some(json!("")), "spec.compressAfter"),
        (compression, "compressAfter", Some(json!("never")), "spec.compressAfter"),
        (compression, "segmentBy", Some(json!(["ts"])), "a column cannot be in both segmentBy and orderBy"),
        (compression, "segmentBy", Some(json!([""])), "spec.segmentBy[0]"),
        (compression, "segmentBy", Some(json!("device")), "must be of type array"),
        (compression, "orderBy", Some(json!([])), "should have at least 1 items"),
        (compression, "orderBy/0/column", Some(json!("device")), "a column cannot be in both segmentBy and orderBy"),
        (compression, "orderBy/0/order", Some(json!("Down")), r#"supported values: "Asc", "Desc""#),
        (compression, "schedule/interval", Some(json!("sometimes")), "spec.schedule.interval"),
        (compression, "schedule/timezone", Some(json!("")), "spec.schedule.timezone"),
        (compression, "schedule/initialStart", Some(long(65)), "may not be more than 64"),
        (compression, "schedule/maxRetries", Some(json!(-2)), "greater than or equal to -1"),
        (compression, "deletionPolicy", Some(json!("Orphan")), r#"supported values: "Delete", "Retain""#),
        (retention, "dropCreatedBefore", Some(json!("1 day")), "only one of dropAfter and dropCreatedBefore"),
        (retention, "dropAfter", Some(json!("-90 days")), "spec.dropAfter"),
        (retention, "dropAfter", Some(json!("90")), "spec.dropAfter"),
        (retention, "dropAfter", Some(json!(-90)), "spec.dropAfter"),
        (retention, "targetRef", None, "one of targetRef and targetSelector is needed"),
        (retention, "targetSelector", Some(json!({"kind": "Hypertable"})), "one of targetRef and targetSelector"),
        (retention, "targetRef/kind", Some(json!("TimescaleDatabase")), "spec.targetRef.kind: Unsupported value"),
        (retention, "deletionPolicy", Some(json!("")), r#"supported values: "Delete", "Retain""#),
        (aggregate, "name", None, "spec.name: Required value"),
        (aggregate, "name", Some(long(64)), "may not be more than 63"),
        (aggregate, "query", None, "spec.query: Required value"),
        (aggregate, "query", Some(json!("")), "spec.query"),
        (aggregate, "query", Some(long(65_537)), "may not be more than 65536"),
        (aggregate, "refreshPolicy/schedule", None, "spec.refreshPolicy.schedule: Required value"),
        (aggregate, "refreshPolicy/startOffset", Some(json!("yesterday")), "spec.refreshPolicy.startOffset"),
        (aggregate, "deletionPolicy", Some(json!("Drop")), r#"supported values: "Retain", "Delete""#),
        (aggregate, "onQueryChange", Some(json!("rebuild")), r#"supported values: "Refuse", "Rebuild""#),
        (aggregate, "createGroupIndexes", Some(json!("no")), "must be of type boolean"),
        (aggregate, "chunkInterval", Some(json!("10")), "spec.chunkInterval"),
        (aggregate, "indexes/0/columns", None, "spec.indexes[0].columns: Required value"),
        (aggregate, "indexes/0/columns/0/order", Some(json!("Desc")), "only Btree indexes have an order"),
        (aggregate, "refreshPolicy/endOffset", Some(json!(-1)), "spec.refreshPolicy.endOffset"),
        (aggregate, "refreshPolicy/bucketsPerBatch", Some(json!(-1)), "greater than or equal to 0"),
        (aggregate, "refreshPolicy/maxBatchesPerExecution", Some(json!(1_000_001)), "less than or equal to 1000000"),
        (aggregate, "refreshPolicy/includeTieredData", Some(json!(1)), "must be of type boolean"),
        (aggregate, "refreshPolicy/refreshNewestFirst", Some(json!("")), "must be of type boolean"),
    ];
    // The same of a policy that selects its targets.
    let selecting = |kind: &str| {
        let selector = json!({
            "kind": "Hypertable", "matchLabels": {"tier": "raw"},
            "matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["test"]}]
        });
        with(with(full(kind), "targetRef", None), "targetSelector", Some(selector))
    };
    let refused_selectors = [
        ("targetSelector/kind", None, "spec.targetSelector.kind: Required value"),
        ("targetSelector/kind", Some(json!("Table")), "spec.targetSelector.kind: Unsupported value"),
        ("targetSelector/matchLabels", Some(json!(["raw"])), "must be of type object"),
        ("targetSelector/matchExpressions/0/operator", None, "matchExpressions[0].operator: Required value"),
        ("targetSelector/matchExpressions/0/values", Some(json!([])), "values are needed with In and NotIn"),
        ("targetSelector/matchExpressions/0/values", Some(json!([long(64)])), "matchExpressions[0].values[0]"),
        ("targetSelector", Some(Value::Null), "one of targetRef and targetSelector is needed"),
    ];
    let mut wrong = String::new();
    let refused = refused.into_iter().map(|(kind, path, value, says)| (full(kind), kind, path, value, says));
    let refused_selectors = refused_selectors.into_iter().flat_map(|(path, value, says)| {
        [compression, retention].map(|kind| (selecting(kind), kind, path, value.clone(), says))
    });
    for kind in [compression, retention] {
        cluster.try_out(&selecting(kind)).await?;
    }
    for (object, kind, path, value, says) in refused.chain(refused_selectors) {
        match cluster.try_out(&with(object, path, value.clone())).await {
            Ok(_) => writeln!(wrong, "accepted: {kind} {path} = {value:?}")?,
            Err(error) if !error.to_string().contains(says) => writeln!(wrong, "{kind} {path} = {value:?}: {error}")?,
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    Ok(())
}

#[tokio::test]
async fn specs_are_accepted_up_to_their_bounds() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (database, hypertable, compression, aggregate) =
        ("TimescaleDatabase", "Hypertable", "CompressionPolicy", "ContinuousAggregate");
    let mut accepted = vec![
        (database, "connection/port", json!(65535)),
        (database, "connection/tls", json!({"mode": "VerifyFull"})),
        (database, "connection/tls/caSecretRef", json!({"name": "ca"})),
        (database, "maxConnections", json!(2)),
        (database, "guards/maxImmediateDropPercent", json!(100)),
        (hypertable, "table", json!("時".repeat(21))),
        (hypertable, "table", json!("it's \"so\".really")),
        (hypertable, "spacePartitions/0/partitions", json!(32767)),
        (hypertable, "indexes/0/where", json!("value > 0 AND name <> 'it''s' -- so")),
        (compression, "segmentBy", json!([])),
        (compression, "schedule", json!({})),
        (compression, "schedule/maxRetries", json!(-1)),
        (aggregate, "refreshPolicy/schedule", json!({"interval": "1 hour"})),
        (aggregate, "query", json!("x".repeat(65_536))),
        (hypertable, "chunkInterval", json!(0)),
        (hypertable, "chunkInterval", json!(3600)),
        (hypertable, "chunkInterval", json!(9_000_000_000_000_000_000_i64)),
        (hypertable, "databaseRef/namespace", json!("other")),
        (hypertable, "chunkSkipping", json!([])),
        (hypertable, "tablespaces", json!([])),
        (hypertable, "reorder", json!({"index": "i"})),
        (compression, "compressAfter", json!(86_400)),
        (compression, "mergeInterval", json!(0)),
        (compression, "mergeInterval", json!("0 seconds")),
        (compression, "sparseIndexes", json!([])),
        ("RetentionPolicy", "dropAfter", json!(86_400)),
        (database, "defaults", json!({})),
        (database, "defaults/dropAfter", json!("1 mon")),
        (database, "allowedNamespaces", json!({"from": "All"})),
        (database, "allowedNamespaces", json!({"from": "Selector", "selector": {}})),
        (aggregate, "refreshPolicy/startOffset", json!(1000)),
        (aggregate, "refreshPolicy/bucketsPerBatch", json!(0)),
    ];
    let intervals = [
        "7 days",
        "7d",
        "1 week",
        "168 hours",
        "168:00:00",
        "P7D",
        "p7d",
        "PT168H",
        "1 hour 30 minutes",
        "1.5 hours",
        "1 mon 7 days 03:30:00",
        "1 year, 2 months",
    ];
    let interval_fields = [
        (hypertable, "chunkInterval"),
        (database, "resyncInterval"),
        (database, "statisticsInterval"),
        (database, "defaults/chunkInterval"),
        (database, "defaults/compressAfter"),
        (database, "defaults/dropAfter"),
        (compression, "compressAfter"),
        (compression, "mergeInterval"),
        (compression, "schedule/interval"),
        (compression, "schedule/maxRuntime"),
        (compression, "schedule/retryPeriod"),
        ("RetentionPolicy", "dropAfter"),
        (aggregate, "chunkInterval"),
        (aggregate, "refreshPolicy/startOffset"),
        (aggregate, "refreshPolicy/endOffset"),
    ];
    for (kind, field) in interval_fields {
        accepted.extend(intervals.into_iter().map(|text| (kind, field, json!(text))));
    }
    for (kind, path, value) in accepted {
        let answer = cluster.try_out(&with(full(kind), path, Some(value.clone()))).await;
        assert!(answer.is_ok(), "{kind} {path} = {value}: {}", answer.err().map(|e| e.to_string()).unwrap_or_default());
    }
    Ok(())
}

/// Templates write `null` where a value is not set. An enumeration without a default is the exception: Kubernetes itself
/// takes no `null` for one, whatever its schema says (kubectl leaves it out before it gets there).
#[tokio::test]
async fn an_optional_field_may_be_null() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut wrong = String::new();
    for crd in api::crds() {
        let kind = crd.spec.names.kind.clone();
        let schema =
            serde_json::to_value(&crd.spec.versions[0].schema)?["openAPIV3Schema"]["properties"]["spec"].clone();
        let mut optional = Vec::new();
        optional_fields("", &schema, &full(&kind)["spec"], &mut optional);
        assert!(!optional.is_empty(), "{kind}");
        // These two depend on another field: what they are without it is among what is refused.
        for path in optional.iter().filter(|path| *path != "targetRef" && !path.starts_with("allowedNamespaces/")) {
            if let Err(error) = cluster.try_out(&with(full(&kind), path, Some(Value::Null))).await {
                writeln!(wrong, "{kind} {path}: {error}")?;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// The fields that need not be there, wherever the object has some.
fn optional_fields(path: &str, schema: &Value, object: &Value, found: &mut Vec<String>) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let enumerated = field["enum"].is_array() && field["default"].is_null();
        if !required.contains(&name.as_str()) && !enumerated {
            found.push(path.clone());
        }
        if object[name].is_object() {
            optional_fields(&path, field, &object[name], found);
        }
        for (i, item) in object[name].as_array().into_iter().flatten().enumerate() {
            optional_fields(&format!("{path}/{i}"), &field["items"], item, found);
        }
    }
}

#[tokio::test]
async fn what_a_resource_is_about_cannot_be_changed() -> Result<()> {
    let cluster = Cluster::start().await?;
    let (hypertable, compression, retention, aggregate) =
        ("Hypertable", "CompressionPolicy", "RetentionPolicy", "ContinuousAggregate");
    let immutable = [
        (hypertable, "databaseRef/name", json!("other"), "databaseRef is immutable"),
        (hypertable, "schema", json!("other"), "schema is immutable"),
        (hypertable, "table", json!("other"), "table is immutable"),
        (
            hypertable,
            "timeColumn",
            json!("other"),
            "timeColumn is immutable: TimescaleDB cannot change the time dimension",
        ),
        (compression, "targetRef/name", json!("other"), "targetRef is immutable"),
        (retention, "targetRef/name", json!("other"), "targetRef is immutable"),
        (aggregate, "databaseRef/name", json!("other"), "databaseRef is immutable"),
        (aggregate, "schema", json!("other"), "schema is immutable"),
        (aggregate, "name", json!("other"), "name is immutable"),
        (hypertable, "databaseRef/namespace", json!("other"), "databaseRef is immutable"),
        (aggregate, "databaseRef/namespace", json!("other"), "databaseRef is immutable"),
        (aggregate, "createGroupIndexes", json!(true), "createGroupIndexes only works when the aggregate is created"),
    ];
    for kind in KINDS {
        cluster.apply(&minimal(kind), &[])?;
    }
    for (kind, path, value, says) in immutable {
        let refused = cluster.apply(&with(minimal(kind), path, Some(value)), &[]).err().map(|error| error.to_string());
        assert!(refused.as_ref().is_some_and(|message| message.contains(says)), "{kind} {path}: {refused:?}");
        let field = path.split('/').next().unwrap_or_default();
        assert!(
            refused.is_some_and(|message| message.contains(&format!("spec.{field}"))),
            "{kind} {path}: the field is not named"
        );
    }
    // A policy that names its target cannot come to select some.
    for kind in [compression, retention] {
        let selecting = with(minimal(kind), "targetSelector", Some(json!({"kind": "Hypertable"})));
        let refused = cluster.apply(&with(selecting, "targetRef", None), &[]).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|message| message.contains("targetRef is immutable")), "{kind}");
    }
    // Everything else can be.
    for kind in KINDS {
        let mut object = full(kind);
        for field in ["databaseRef", "schema", "table", "timeColumn", "targetRef", "name", "createGroupIndexes"] {
            let spec = minimal(kind)["spec"].clone();
            match spec.get(field) {
                Some(value) => object["spec"][field] = value.clone(),
                None => drop(object["spec"].as_object_mut().and_then(|spec| spec.remove(field))),
            }
        }
        cluster.apply(&object, &[]).map_err(|error| format!("{kind}: {error}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_field_that_does_not_exist_is_refused() -> Result<()> {
    let cluster = Cluster::start().await?;
    let unknown = [
        ("TimescaleDatabase", "connections"),
        ("TimescaleDatabase", "connection/password"),
        ("Hypertable", "chunkinterval"),
        ("Hypertable", "spacePartitions/0/count"),
        ("Hypertable", "indexes/0/uniq"),
        ("Hypertable", "databaseRef/kind"),
        ("TimescaleDatabase", "defaults/segmentBy"),
        ("TimescaleDatabase", "allowedNamespaces/selector/labels"),
        ("CompressionPolicy", "schedule/every"),
        ("RetentionPolicy", "targetSelector/labels"),
        ("RetentionPolicy", "dropCreatedbefore"),
        ("ContinuousAggregate", "refreshPolicy/schedule/cron"),
    ];
    for (kind, path) in unknown {
        let mut object = full(kind);
        if path.starts_with("targetSelector/") {
            object = with(with(object, "targetRef", None), "targetSelector", Some(json!({"kind": "Hypertable"})));
        }
        let refused = cluster.apply(&with(object, path, Some(json!("x"))), &["--dry-run=server"]);
        let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
        let field = path.rsplit('/').next().unwrap_or_default();
        assert!(message.contains("unknown field") && message.contains(field), "{kind} {path}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn every_field_is_explained() -> Result<()> {
    let cluster = Cluster::start().await?;
    let mut without = String::new();
    for crd in api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema)?["openAPIV3Schema"].clone();
        let plural = &crd.spec.names.plural;
        let explained = cluster.kubectl(&["explain", plural])?;
        assert!(explained.contains(&format!("KIND:       {}", crd.spec.names.kind)), "{explained}");
        let mut paths = Vec::new();
        for part in ["spec", "status"] {
            objects(&format!("{plural}.{part}"), &schema["properties"][part], &mut paths);
        }
        assert!(paths.len() >= 2, "{paths:?}");
        for path in std::iter::once(plural.clone()).chain(paths) {
            if cluster.kubectl(&["explain", &path])?.contains("<no description>") {
                writeln!(without, "{path}")?;
            }
        }
    }
    assert!(without.is_empty(), "kubectl explain says <no description> about a field of\n{without}");
    Ok(())
}

/// The paths of all objects: explaining one shows its fields.
fn objects(path: &str, schema: &Value, found: &mut Vec<String>) {
    if schema["properties"].is_object() {
        found.push(path.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let field = if field["type"] == "array" { &field["items"] } else { field };
        objects(&format!("{path}.{name}"), field, found);
    }
}

#[tokio::test]
async fn every_kind_is_listed_by_the_category_and_its_short_name() -> Result<()> {
    let cluster = Cluster::start().await?;
    for kind in KINDS {
        cluster.apply(&minimal(kind), &[])?;
    }
    let get = |what: &str| cluster.kubectl(&["get", what, "-n", &cluster.namespace, "-o", "name"]);
    let names = [
        ("tsdb", "timescaledatabase"),
        ("ht", "hypertable"),
        ("comppol", "compressionpolicy"),
        ("retpol", "retentionpolicy"),
        ("cagg", "continuousaggregate"),
    ];
    let listed: BTreeSet<_> = get("timescaledb")?.lines().map(str::to_owned).collect();
    assert_eq!(listed, names.map(|(_, kind)| format!("{kind}.{GROUP}/it")).into());
    for (short, kind) in names {
        assert_eq!(get(short)?.trim(), format!("{kind}.{GROUP}/it"));
        assert_eq!(get(kind)?.trim(), format!("{kind}.{GROUP}/it"));
    }
    let selected = |kind: &str, database: &str| {
        let selector = format!("--field-selector=spec.databaseRef.name={database}");
        cluster.kubectl(&["get", kind, "-n", &cluster.namespace, "-o", "name", &selector])
    };
    for kind in ["hypertables", "continuousaggregates"] {
        assert_eq!(selected(kind, "db")?.lines().count(), 1);
        assert_eq!(selected(kind, "other")?.lines().count(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn tables_show_what_a_person_wants_at_a_glance() -> Result<()> {
    let cluster = Cluster::start().await?;
    let columns = [
        ("tsdb", "NAME MODE TIMESCALEDB POSTGRESQL RESOURCES INSYNC READY REASON AGE"),
        ("ht", "NAME DATABASE TABLE INTERVAL CHUNKS SIZE COMPRESSED RATIO HEALTH READY REASON AGE"),
        ("comppol", "NAME DATABASE TARGET MATCHED AFTER SCHEDULE PAUSED JOB JOBHEALTHY READY REASON AGE"),
        ("retpol", "NAME DATABASE TARGET MATCHED AFTER SCHEDULE PAUSED JOB JOBHEALTHY READY REASON AGE"),
        ("cagg", "NAME DATABASE VIEW REALTIME REFRESH JOB JOBHEALTHY READY REASON AGE"),
    ];
    for kind in KINDS {
        cluster.apply(&full(kind), &[])?;
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (kind, header) in columns {
        let table = cluster.kubectl(&["get", kind, "-n", &cluster.namespace])?;
        assert_eq!(words(table.lines().next().unwrap_or_default()), header);
        let wide = cluster.kubectl(&["get", kind, "-n", &cluster.namespace, "-o", "wide"])?;
        let message = if kind == "tsdb" { "REASON MESSAGE" } else { "REASON MESSAGE JOBMESSAGE" };
        let header = header.replace("REASON", message).replace("REFRESH JOB", "REFRESH PAUSED JOB");
        assert_eq!(words(wide.lines().next().unwrap_or_default()), header);
    }
    let row = |kind: &str| cluster.kubectl(&["get", kind, "-n", &cluster.namespace, "--no-headers"]);
    assert!(words(&row("ht")?).starts_with("it db metric"), "{}", row("ht")?);
    assert!(words(&row("cagg")?).starts_with("it db hourly true 12 hours"), "{}", row("cagg")?);
    assert!(words(&row("retpol")?).starts_with("it metric 12 hours true"), "{}", row("retpol")?);

    // A status as the operator writes it.
    let condition = json!({"type": "Ready", "status": "True", "reason": "InSync", "message": "as it should be", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"conditions": [condition], "chunkInterval": "1 day 12:00:00", "chunks": 12, "size": "1.50 GiB", "compressed": "75%", "compressionRatio": "9.3", "health": {"word": "warning", "reasons": ["it has reasons"]}}});
    cluster.kubectl(&[
        "patch",
        "ht",
        "it",
        "-n",
        &cluster.namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ])?;
    assert!(words(&row("ht")?).contains("1 day 12:00:00 12 1.50 GiB 75% 9.3 warning True InSync"), "{}", row("ht")?);
    Ok(())
}

/// kstatus and `kubectl wait` take a status without a word for one that is up to date.
#[tokio::test]
async fn a_fresh_object_says_that_nobody_has_looked_at_it() -> Result<()> {
    let cluster = Cluster::start().await?;
    for kind in KINDS {
        // Also when whoever makes it writes a status along: that is not theirs to write.
        let mut object = minimal(kind);
        object["status"] = json!({"observedGeneration": 7});
        cluster.apply(&object, &[])?;
        let stored = cluster.get(kind, "it")?;
        assert_eq!(stored["status"], json!({"observedGeneration": -1}), "{kind}");
        assert_eq!(stored["metadata"]["generation"], 1);
    }
    Ok(())
}

#[tokio::test]
async fn two_appliers_share_a_list() -> Result<()> {
    let cluster = Cluster::start().await?;
    let index = |name: &str| json!({"name": name, "columns": [{"name": "ts"}]});
    let one = with(minimal("Hypertable"), "indexes", Some(json!([index("by_team_a")])));
    let other = with(minimal("Hypertable"), "indexes", Some(json!([index("by_team_b")])));
    cluster.apply(&one, &["--server-side", "--field-manager=team-a"])?;
    cluster.apply(&other, &["--server-side", "--field-manager=team-b"])?;
    let stored = cluster.get("ht", "it")?;
    let names: Vec<_> =
        stored["spec"]["indexes"].as_array().into_iter().flatten().map(|index| &index["name"]).collect();
    assert_eq!(names, ["by_team_a", "by_team_b"]);
    Ok(())
}
