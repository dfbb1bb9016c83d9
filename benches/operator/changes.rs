//! How long the change of one resource takes: until the catalog of the database is so, and until the status says it.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api,
    api::{WatchEvent, WatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio_postgres::{Client, Statement};

use crate::{
    PATIENCE,
    cluster::{Cluster, NAMESPACE},
    database::Database,
    support::Result,
    workload,
};

/// Between two looks at the catalog.
const LOOK: Duration = Duration::from_millis(2);

/// From the request to the API server on.
#[derive(Default)]
pub struct Latencies {
    catalog: Vec<Duration>,
    status: Vec<Duration>,
}

impl Latencies {
    /// Until the catalog was so: this quantile.
    pub fn catalog(&self, quantile: f64) -> Duration {
        quantile_of(&self.catalog, quantile)
    }

    /// Until the status said so.
    pub fn status(&self, quantile: f64) -> Duration {
        quantile_of(&self.status, quantile)
    }

    pub fn len(&self) -> usize {
        self.catalog.len()
    }
}

fn quantile_of(all: &[Duration], quantile: f64) -> Duration {
    let mut sorted = all.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile).round() as usize).copied().unwrap_or_default()
}

/// Changes the age of one retention policy after the other.
pub async fn measure(cluster: &Cluster, database: &Database, tables: usize, changes: usize) -> Result<Latencies> {
    measure_in(cluster, &[("main", database)], tables, changes).await
}

/// The same in several databases, each by the name of its resource.
pub async fn measure_in(
    cluster: &Cluster,
    databases: &[(&str, &Database)],
    tables: usize,
    changes: usize,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut changing = Changes::of(cluster, databases, tables).await?;
    for _ in 0..changes {
        changing.one(&mut latencies).await?;
    }
    Ok(latencies)
}

/// One change after the other, spread over all databases and tables.
pub struct Changes<'a> {
    cluster: &'a Cluster,
    sessions: Vec<(&'a str, Client, Statement)>,
    tables: usize,
    made: usize,
}

impl<'a> Changes<'a> {
    pub async fn of(cluster: &'a Cluster, databases: &[(&'a str, &Database)], tables: usize) -> Result<Self> {
        let mut sessions = Vec::new();
        for (name, database) in databases {
            let sql = database.connect().await?;
            let age = sql
                .prepare(
                    "SELECT j.config ->> 'drop_after' FROM _timescaledb_config.bgw_job j
                     JOIN _timescaledb_catalog.hypertable h ON h.id = j.hypertable_id
                     WHERE j.proc_name = 'policy_retention' AND h.table_name = $1::text::name",
                )
                .await?;
            sessions.push((*name, sql, age));
        }
        Ok(Self { cluster, sessions, tables, made: 0 })
    }

    /// Makes one, after a pause, and adds how long it took.
    pub async fn one(&mut self, latencies: &mut Latencies) -> Result<()> {
        let (cluster, change) = (self.cluster, self.made);
        self.made += 1;
        let (name, sql, age) = &self.sessions[change % self.sessions.len()];
        let table = workload::table((change * 7919) % self.tables);
        let policy = format!("{name}-{table}");
        let days = 1000 + fastrand::u32(..100_000);
        // Somewhere within the interval between two passes.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..400))).await;
        let version = version_of(&cluster.get("retentionpolicies", &policy).await?);
        let mut events = watch(cluster, &policy, &version).await?;

        let started = Instant::now();
        let generation =
            cluster.patch("retentionpolicies", &policy, json!({"dropAfter": format!("{days} days")})).await?;
        let in_catalog = async {
            loop {
                let row = sql.query_opt(age, &[&table]).await?;
                if row.is_some_and(|row| row.get::<_, String>(0) == format!("{days} days")) {
                    return Ok::<_, crate::support::Error>(started.elapsed());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let in_status = async {
            loop {
                match events.next().await {
                    Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))
                        if is_ready(&object.data, generation) =>
                    {
                        return Ok(started.elapsed());
                    }
                    Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => {
                        // The API server ends watches; what came meanwhile is in the object.
                        let now = cluster.get("retentionpolicies", &policy).await?;
                        if is_ready(&now, generation) {
                            return Ok(started.elapsed());
                        }
                        events = watch(cluster, &policy, &version_of(&now)).await?;
                    }
                    Some(Ok(_)) => {}
                }
            }
        };
        let both = tokio::time::timeout(PATIENCE, async { futures::try_join!(in_catalog, in_status) });
        let (catalog, status) = both.await??;
        latencies.catalog.push(catalog);
        latencies.status.push(status);
        Ok(())
    }
}

/// Waits until the status of a resource is about this generation.
pub async fn told(cluster: &Cluster, kind: &str, name: &str, generation: i64) -> Result<()> {
    crate::eventually(&format!("{kind}/{name} is told"), Duration::from_millis(20), async || {
        Ok(is_ready(&cluster.get(kind, name).await?, generation).then_some(()))
    })
    .await
}

fn is_ready(object: &Value, generation: i64) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    ready.is_some_and(|ready| ready["status"] == "True" && ready["observedGeneration"] == generation)
}

fn version_of(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

async fn watch(
    cluster: &Cluster,
    policy: &str,
    version: &str,
) -> Result<BoxStream<'static, kube::Result<WatchEvent<DynamicObject>>>> {
    let kind = GroupVersionKind::gvk("timescaledb-policy.io", "v1alpha1", "RetentionPolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "retentionpolicies");
    let api = Api::<DynamicObject>::namespaced_with(cluster.client(), NAMESPACE, &resource);
    let parameters = WatchParams::default().fields(&format!("metadata.name={policy}"));
    Ok(api.watch(&parameters, version).await?.boxed())
}
