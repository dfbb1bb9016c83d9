//! A database under test: resources go in, the live catalog comes out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::{
        APPROVE_ANNOTATION, FINALIZER,
        status::Reason,
        timescale_database::{Connection, SecretRef, Tls},
    },
    catalog::{Answers, Catalog},
    db::{
        Session,
        credentials::{self, Endpoint},
    },
    desired::{ClaimId, Desired, Kind, Rejection, ResourceId, Rules},
    error::{Class, Failure},
    metrics::Metrics,
    plan::step::{HeldPlan, Plan, Step, Verdict},
};
use tokio::sync::Mutex;
use tokio_postgres::{Client, types::FromSql};

use crate::{
    fixture::resources::Resources,
    support::{Result, timescaledb::TimescaleDb},
};

/// Rounds of observing, planning and applying that a pass may take, as in the controller.
const MAX_ROUNDS: usize = 5;
/// For what the test waits for: a lock that another test holds for a moment, the scheduler.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A schema of a TimescaleDB, and what a pass of the controller does there.
pub struct Database {
    pub server: Arc<TimescaleDb>,
    /// The superuser's, acting as the owner, with the schema first on its search path.
    pub sql: Client,
    /// The operator's, as the role that `sql/role.sql` makes.
    pub session: Session,
    pub metrics: Metrics,
    pub schema: String,
    place: Arc<Place>,
}

/// The schemas of tests that are over, quoted.
static LEFT: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// A schema in use. The last one who lets go of it leaves it to be dropped.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(mut left) = LEFT.lock() {
            left.push(std::mem::take(&mut self.0));
        }
    }
}

/// What became of a pass.
pub struct Outcome {
    /// The steps carried out, in order.
    pub steps: Vec<Step>,
    /// The claims with a step that the database refused.
    pub failures: BTreeMap<ClaimId, Failure>,
    /// The plan after all that.
    pub plan: Plan,
}

impl Database {
    /// A schema of its own on a server that tests share. As for the server: the WebAssembly takes two seconds to start, so
    /// one serves until the end; a database on a native server is gone with the last test that uses it.
    pub async fn shared() -> Result<Self> {
        static SHARED: Mutex<(Weak<TimescaleDb>, Option<Arc<TimescaleDb>>)> = Mutex::const_new((Weak::new(), None));
        let mut shared = SHARED.lock().await;
        let server = match shared.0.upgrade() {
            Some(server) => server,
            None => Self::server().await?,
        };
        *shared = (Arc::downgrade(&server), Some(server.clone()).filter(|server| !server.is_native()));
        drop(shared);
        let database = Self::on(server).await?;
        database.sweep().await;
        Ok(database)
    }

    /// Leaves a schema that the test has made itself to be dropped. It may have jobs, which a scheduler is running.
    pub fn leave(&self, schema: &str) {
        drop(Place(schema.to_owned()));
    }

    /// Drops what tests have left that are over, so that the catalog that every pass reads whole stays small. What somebody
    /// still holds a lock on stays.
    async fn sweep(&self) {
        let left = LEFT.lock().map(|mut left| std::mem::take(&mut *left)).unwrap_or_default();
        for schema in left {
            let _ = self
                .sql
                .batch_execute(&format!("SET lock_timeout = '1s'; DROP SCHEMA IF EXISTS {schema} CASCADE"))
                .await;
        }
        let _ = self.sql.batch_execute("RESET lock_timeout").await;
    }

    /// A server of its own, or on a native server a database of its own.
    pub async fn alone() -> Result<Self> {
        Self::on(Self::server().await?).await
    }

    async fn server() -> Result<Arc<TimescaleDb>> {
        let server = TimescaleDb::start().await?;
        server.create_roles().await?;
        Ok(Arc::new(server))
    }

    async fn on(server: Arc<TimescaleDb>) -> Result<Self> {
        let schema = format!("test_{:016x}", fastrand::u64(..));
        let sql = server.connect().await?;
        sql.batch_execute(&format!("CREATE SCHEMA {schema} AUTHORIZATION {}", server.owner())).await?;
        act_as_owner(&sql, &server, &schema).await?;
        let metrics = Metrics::default();
        let session = Session::connect(&endpoint(&server.url_as(&server.operator())), &metrics).await?;
        let place = Arc::new(Place(schema.clone()));
        Ok(Self { server, sql, session, metrics, schema, place })
    }

    /// The same schema through a session of the operator that connects otherwise.
    pub async fn through(&self, endpoint: &Endpoint) -> Result<Self> {
        let metrics = Metrics::default();
        let session = Session::connect(endpoint, &metrics).await?;
        let sql = self.server.connect().await?;
        act_as_owner(&sql, &self.server, &self.schema).await?;
        let (server, schema, place) = (self.server.clone(), self.schema.clone(), self.place.clone());
        Ok(Self { server, sql, session, metrics, schema, place })
    }

    // ---- resources

    /// The resources, in this schema where they name none, on a database whose rules are the default ones unless a
    /// `TimescaleDatabase` is among them.
    fn read(&self, resources: impl IntoIterator<Item = Value>) -> Result<Resources> {
        let mut manifests: Vec<Value> = resources.into_iter().collect();
        if manifests.iter().all(|resource| resource["kind"] != "TimescaleDatabase") {
            manifests.push(database(json!({})));
        }
        for manifest in &mut manifests {
            if manifest["kind"] == "Hypertable" || manifest["kind"] == "ContinuousAggregate" {
                let spec = manifest["spec"].as_object_mut().ok_or("a resource has no spec")?;
                spec.entry("schema").or_insert_with(|| self.schema.clone().into());
            }
        }
        Ok(Resources::read(manifests)?)
    }

    /// What the resources need, without doing it.
    pub async fn plan(&self, resources: impl IntoIterator<Item = Value>) -> Result<Plan> {
        let resources = self.read(resources)?;
        let (desired, rules) = (resources.desired(), resources.rules());
        let catalog = self.observe(&desired).await?;
        self.plan_of(&desired, &rules, &catalog, &mut Answers::new()).await
    }

    /// Passes until nothing is left to do. What passes by itself is tried again; every other refusal fails the test.
    pub async fn converge(&self, resources: impl IntoIterator<Item = Value>) -> Result<Outcome> {
        let resources = self.read(resources)?;
        let deadline = Instant::now() + DEADLINE;
        let mut steps = Vec::new();
        loop {
            let outcome = self.pass(&resources).await?;
            steps.extend(outcome.steps);
            let lasting: Vec<_> = outcome.failures.iter().filter(|(_, f)| f.class != Class::Transient).collect();
            assert!(lasting.is_empty(), "refused: {lasting:#?}");
            if outcome.failures.is_empty() {
                return Ok(Outcome { steps, ..outcome });
            }
            assert!(Instant::now() < deadline, "still: {:#?}", outcome.failures);
        }
    }

    /// One pass, whatever becomes of it.
    pub async fn attempt(&self, resources: impl IntoIterator<Item = Value>) -> Result<Outcome> {
        self.pass(&self.read(resources)?).await
    }

    async fn pass(&self, resources: &Resources) -> Result<Outcome> {
        let (desired, rules) = (resources.desired(), resources.rules());
        let (mut steps, mut failures): (Vec<Step>, BTreeMap<ClaimId, Failure>) = Default::default();
        let mut answers = Answers::new();
        for round in 0.. {
            let catalog = self.observe(&desired).await?;
            let plan = self.plan_of(&desired, &rules, &catalog, &mut answers).await?;
            let is_done =
                |step: &&Step| steps.iter().any(|done| done.claim == step.claim && done.action == step.action);
            let goes_on = |step: &&Step| !failures.contains_key(&step.claim);
            let again: Vec<_> = plan.steps.iter().filter(is_done).filter(goes_on).collect();
            assert!(again.is_empty(), "carried out, and wanted again: {again:#?}");
            let waits = |step: &Step, failures: &BTreeMap<_, _>| {
                failures.contains_key(&step.claim) || step.after.iter().any(|id| failures.contains_key(id))
            };
            if !plan.steps.iter().any(|step| !waits(step, &failures)) {
                self.must_be_settled(&desired, &rules, &failures).await?;
                return Ok(Outcome { steps, failures, plan });
            }
            assert!(round < MAX_ROUNDS, "no end of steps: {:#?}", plan.steps);
            let extension = catalog.server.extension.as_ref().ok_or("there are steps and no extension")?;
            for mine in plan.steps.chunk_by(|a, b| a.claim == b.claim) {
                let claim = &mine[0].claim;
                if mine.iter().any(|step| waits(step, &failures)) {
                    continue;
                }
                for step in mine {
                    match self.session.apply(step, extension).await {
                        Ok(()) => steps.push(step.clone()),
                        Err(failure) => {
                            failures.insert(claim.clone(), failure);
                            break;
                        }
                    }
                }
            }
        }
        Err("a loop without end ended".into())
    }

    /// The law: read anew, with nothing remembered, the catalog needs no step.
    async fn must_be_settled(
        &self,
        desired: &Desired,
        rules: &Rules,
        failures: &BTreeMap<ClaimId, Failure>,
    ) -> Result<()> {
        let catalog = self.observe(desired).await?;
        let plan = self.plan_of(desired, rules, &catalog, &mut Answers::new()).await?;
        let mut left = plan.steps.iter();
        let failed = |id: &ClaimId| failures.contains_key(id);
        let left = left.find(|step| !failed(&step.claim) && !step.after.iter().any(failed));
        assert!(left.is_none(), "carried out, and still a step: {left:#?}");
        Ok(())
    }

    async fn observe(&self, desired: &Desired) -> Result<Catalog> {
        Ok(self.session.observe(&desired.with_indexes()).await?)
    }

    async fn plan_of(
        &self,
        desired: &Desired,
        rules: &Rules,
        catalog: &Catalog,
        answers: &mut Answers,
    ) -> Result<Plan> {
        Ok(self.session.plan(desired, rules, catalog, answers, &BTreeMap::new()).await?)
    }

    // ---- the live database

    /// Where the operator connects.
    pub fn endpoint(&self) -> Endpoint {
        endpoint(&self.server.url_as(&self.server.operator()))
    }

    /// Statements, as the owner. `$schema` stands for the schema.
    pub async fn run(&self, sql: &str) -> Result<()> {
        Ok(self.sql.batch_execute(&self.here(sql)).await?)
    }

    /// A statement on the system catalog among those of the owner. In a block, as whoever opened the connection.
    pub fn as_superuser(&self, sql: &str) -> String {
        format!("RESET ROLE; BEGIN; {sql}; COMMIT; SET ROLE {}", self.server.owner())
    }

    /// Statements, as the superuser.
    pub async fn run_as_superuser(&self, sql: &str) -> Result<()> {
        let superuser = self.server.connect().await?;
        superuser.batch_execute(&format!("SET search_path = {}, public; SET TimeZone = 'UTC'", self.schema)).await?;
        Ok(superuser.batch_execute(&self.here(sql)).await?)
    }

    /// The only column of the only row.
    pub async fn one<T: for<'a> FromSql<'a>>(&self, sql: &str) -> Result<T> {
        Ok(self.sql.query_one(&self.here(sql), &[]).await?.try_get(0)?)
    }

    /// The rows as objects.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Value>> {
        let rows = self.sql.query(&format!("SELECT to_jsonb(q) FROM (\n{}\n) q", self.here(sql)), &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The only row as an object.
    pub async fn row(&self, sql: &str) -> Result<Value> {
        let mut rows = self.rows(sql).await?;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        Ok(rows.remove(0))
    }

    /// Waits until the query says `true`.
    pub async fn until(&self, sql: &str) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.one::<bool>(sql).await? {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The job of the policy on the hypertable or aggregate, read from the catalog.
    pub async fn job(&self, kind: Kind, relation: &str) -> Result<Option<Value>> {
        let procedure = match kind {
            Kind::CompressionPolicy => "policy_compression",
            Kind::RetentionPolicy => "policy_retention",
            Kind::ContinuousAggregate => "policy_refresh_continuous_aggregate",
            Kind::Hypertable => return Err("a hypertable has no job".into()),
        };
        let relation = relation.replace('\'', "''");
        let found = format!(
            "SELECT j.id, j.schedule_interval::text, j.max_runtime::text, j.max_retries, j.retry_period::text, j.scheduled,
                j.fixed_schedule, j.initial_start, j.timezone, s.next_start, j.config - 'hypertable_id' - 'mat_hypertable_id' AS config
             FROM _timescaledb_config.bgw_job j LEFT JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id
             WHERE j.proc_name = '{procedure}' AND j.hypertable_id = coalesce(
                (SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema' AND user_view_name = '{relation}'),
                (SELECT id FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema' AND table_name = '{relation}'))"
        );
        let mut jobs = self.rows(&found).await?;
        assert!(jobs.len() < 2, "{jobs:?}");
        Ok(jobs.pop())
    }

    /// The same, where there must be one.
    pub async fn the_job(&self, kind: Kind, relation: &str) -> Result<Value> {
        self.job(kind, relation).await?.ok_or_else(|| format!("there is no {} on {relation}", kind.as_str()).into())
    }

    pub fn here(&self, text: &str) -> String {
        text.replace("$schema", &self.schema)
    }
}

async fn act_as_owner(sql: &Client, server: &TimescaleDb, schema: &str) -> Result<()> {
    let act = format!("SET ROLE {}; SET search_path = {schema}, public; SET TimeZone = 'UTC'", server.owner());
    Ok(sql.batch_execute(&act).await?)
}

impl Outcome {
    /// What was done, in the words of the metrics.
    pub fn actions(&self) -> Vec<&'static str> {
        self.steps.iter().map(|step| step.action.name()).collect()
    }

    pub fn verdict(&self, kind: Kind, name: &str) -> &Verdict {
        verdict(&self.plan, kind, name)
    }

    /// Why the resource is not carried out.
    pub fn rejection(&self, kind: Kind, name: &str) -> &Rejection {
        rejection(&self.plan, kind, name)
    }

    /// Why the database refused a step of the resource.
    pub fn failure(&self, kind: Kind, name: &str) -> &Failure {
        let id = ClaimId::from(ResourceId { kind, namespace: None, name: name.to_owned() });
        self.failures.get(&id).unwrap_or_else(|| panic!("{id} did not fail: {:?}", self.plan.verdicts.get(&id)))
    }
}

pub fn verdict<'a>(plan: &'a Plan, kind: Kind, name: &str) -> &'a Verdict {
    let id = ClaimId::from(ResourceId { kind, namespace: None, name: name.to_owned() });
    plan.verdicts.get(&id).unwrap_or_else(|| panic!("{id} has no verdict: {:?}", plan.verdicts))
}

pub fn rejection<'a>(plan: &'a Plan, kind: Kind, name: &str) -> &'a Rejection {
    match verdict(plan, kind, name) {
        Verdict::Rejected(rejection) => rejection,
        other => panic!("{name} is not rejected: {other:?}"),
    }
}

/// The plan that waits for an approval.
pub fn held<'a>(plan: &'a Plan, kind: Kind, name: &str) -> &'a HeldPlan {
    match verdict(plan, kind, name) {
        Verdict::NeedsApproval(held) => held,
        other => panic!("{name} needs no approval: {other:?}"),
    }
}

/// The message must say all of this.
#[track_caller]
pub fn assert_says(message: &str, all: &[&str]) {
    let missing: Vec<_> = all.iter().filter(|part| !message.contains(**part)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in: {message}");
}

/// A rejection of this reason whose message says all of this.
#[track_caller]
pub fn assert_rejected(rejection: &Rejection, reason: Reason, says: &[&str]) {
    assert_eq!(rejection.reason, reason, "{}", rejection.message);
    assert_says(&rejection.message, says);
}

// ---- resources as users write them, in short

pub fn database(spec: Value) -> Value {
    let spec = merged(json!({"connection": {"secretRef": {"name": "app"}}}), spec);
    json!({"kind": "TimescaleDatabase", "metadata": {"name": "db"}, "spec": spec})
}

/// The table as a hypertable by `ts`, unless the fields say otherwise.
pub fn hypertable(table: &str, fields: Value) -> Value {
    let spec = merged(json!({"databaseRef": {"name": "db"}, "table": table, "timeColumn": "ts"}), fields);
    json!({"kind": "Hypertable", "metadata": {"name": table}, "spec": spec})
}

pub fn compression(table: &str, fields: Value) -> Value {
    let spec = merged(json!({"targetRef": {"kind": "Hypertable", "name": table}, "compressAfter": "7 days"}), fields);
    json!({"kind": "CompressionPolicy", "metadata": {"name": table}, "spec": spec})
}

pub fn retention(table: &str, fields: Value) -> Value {
    let spec = merged(json!({"targetRef": {"kind": "Hypertable", "name": table}, "dropAfter": "90 days"}), fields);
    json!({"kind": "RetentionPolicy", "metadata": {"name": table}, "spec": spec})
}

pub fn aggregate(view: &str, query: &str, fields: Value) -> Value {
    let spec = merged(json!({"databaseRef": {"name": "db"}, "name": view, "query": query}), fields);
    json!({"kind": "ContinuousAggregate", "metadata": {"name": view}, "spec": spec})
}

/// The resource with the annotation that approves a plan.
pub fn approving(mut resource: Value, digest: &str) -> Value {
    resource["metadata"]["annotations"] = json!({APPROVE_ANNOTATION: digest});
    resource
}

/// The resource as it is while somebody deletes it and the operator has not let go of it yet.
pub fn deleted(mut resource: Value) -> Value {
    resource["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
    resource["metadata"]["finalizers"] = json!([FINALIZER]);
    resource
}

fn merged(mut base: Value, fields: Value) -> Value {
    if let (Value::Object(base), Value::Object(fields)) = (&mut base, fields) {
        base.extend(fields);
    }
    base
}

/// The endpoint that a secret with this URI leads to.
pub fn endpoint(uri: &str) -> Endpoint {
    let connection = Connection {
        secret_ref: SecretRef { name: "app".into() },
        host: None,
        port: None,
        database: None,
        tls: Tls::default(),
    };
    let secret = BTreeMap::from([("uri".to_owned(), ByteString(uri.as_bytes().to_vec()))]);
    credentials::endpoint(&connection, &secret, None).unwrap_or_else(|failure| panic!("{failure}"))
}
