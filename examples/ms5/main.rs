//! The MS5 factory database comes under management: real API server, real TimescaleDB, the operator, `kubectl`.
//!
//! `make demo` runs it. It ends by itself with `DEMO_ONESHOT=1`, otherwise with Ctrl-C.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use support::{
    Result,
    api_server::ApiServer,
    process::{Folder, Guarded},
    timescaledb::TimescaleDb,
};
use tokio_postgres::{Client, SimpleQueryMessage};

const KINDS: &str = "hypertables,compressionpolicies,retentionpolicies,continuousaggregates";
const ALL_KINDS: &str = "tsdb,hypertables,compressionpolicies,retentionpolicies,continuousaggregates";
/// Everything in examples/ms5 that becomes Ready: 7 hypertables, 7 + 7 policies, 8 aggregates.
const RESOURCES: usize = 29;
const NAMESPACE: &str = "factory";

#[tokio::main]
async fn main() -> ExitCode {
    let shown = tokio::select! {
        shown = show() => shown,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    let result = match shown {
        Ok(running) => running.keep().await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All that goes on running when everything has been shown.
struct Running {
    api: ApiServer,
    database: TimescaleDb,
    operator: Guarded,
    metrics: String,
    _logs: Folder,
}

async fn show() -> Result<Running> {
    let started = Instant::now();
    headline("A Kubernetes API server and a TimescaleDB start on this machine");
    let (api, database) = tokio::try_join!(ApiServer::start(), TimescaleDb::start())?;
    let sql = database.connect().await?;
    println!("{} and {}", api.url(), one(&sql, "SELECT version()").await?);
    let cluster = Cluster { api: &api };

    headline("The factory's database: plain tables with some weeks of rows");
    for file in ["schema.sql", "data.sql"] {
        println!("$ psql -f examples/ms5/{file}");
        sql.batch_execute(&std::fs::read_to_string(example(file))?).await?;
    }
    table(
        &sql,
        "SELECT relname AS \"table\", (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %s', oid::regclass), true, true, '')))[1] AS rows
         FROM pg_class WHERE relnamespace = 'factory_telemetry'::regnamespace AND relkind = 'r' ORDER BY 1",
    )
    .await?;

    headline("The custom resource definitions, and the operator");
    cluster.kubectl(&["apply", "--server-side", "-f", "crds/"])?;
    let logs = Folder::new("ms5")?;
    let metrics = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let mut operator = start_operator(&api, &metrics, &logs)?;
    println!("$ timescaledb-policy-operator run --listen {metrics}");

    headline("The resources: one database, 7 hypertables, 7 compression and 7 retention policies, 8 aggregates");
    cluster.kubectl(&["apply", "-f", "examples/ms5/00-namespace.yaml"])?;
    cluster.create_secret(&database)?;
    cluster.kubectl(&["apply", "-f", "examples/ms5/"])?;
    let applied = Instant::now();
    cluster.wait_until_ready(&mut operator).await?;
    println!("all {RESOURCES} Ready after {:.0} seconds", applied.elapsed().as_secs_f64());

    headline("What kubectl says");
    cluster.kubectl(&["get", "-n", NAMESPACE, ALL_KINDS])?;
    headline("What TimescaleDB says");
    table(&sql, JOBS).await?;

    headline("A policy and a chunk interval change through kubectl");
    // Drift is looked for every resyncInterval; five seconds are pleasanter to watch than the example's thirty.
    cluster.patch("timescaledatabase", "ms5", r#"{"spec":{"resyncInterval":"5s"}}"#)?;
    cluster.patch("retentionpolicy", "metric-hist", r#"{"spec":{"dropAfter":"120 days"}}"#)?;
    cluster.patch("hypertable", "metric-hist", r#"{"spec":{"chunkInterval":"2 hours"}}"#)?;
    seen(&sql, "drop_after is 120 days", "SELECT (config->>'drop_after')::interval = '120 days' FROM timescaledb_information.jobs WHERE hypertable_name = 'metric_hist' AND proc_name = 'policy_retention'").await?;
    seen(&sql, "the chunk interval is 2 hours", "SELECT time_interval = '2 hours' FROM timescaledb_information.dimensions WHERE hypertable_name = 'metric_hist' AND dimension_type = 'Time'").await?;

    headline("A policy is removed by hand, and another one is paused");
    for statement in [
        "SELECT remove_retention_policy('factory_telemetry.quality_checks')",
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE hypertable_name = 'energy_consumption' AND proc_name = 'policy_compression'",
    ] {
        println!("=# {statement};");
        sql.simple_query(statement).await?;
    }
    seen(&sql, "the retention policy is back, with 7 years", "SELECT (config->>'drop_after')::interval = '7 years' FROM timescaledb_information.jobs WHERE hypertable_name = 'quality_checks' AND proc_name = 'policy_retention'").await?;
    seen(&sql, "the compression policy runs again", "SELECT scheduled FROM timescaledb_information.jobs WHERE hypertable_name = 'energy_consumption' AND proc_name = 'policy_compression'").await?;
    cluster.wait_until_ready(&mut operator).await?;
    cluster.kubectl(&["events", "-n", NAMESPACE, "--for", "retentionpolicy/quality-checks"])?;

    headline("What cannot be done is refused, with the reason and the remedy");
    sql.batch_execute(&std::fs::read_to_string(example("refused/maintenance_log.sql"))?).await?;
    cluster.kubectl(&["apply", "-f", "examples/ms5/refused/maintenance-log.yaml"])?;
    cluster.kubectl(&[
        "wait",
        "-n",
        NAMESPACE,
        "--for=condition=Stalled",
        "--timeout=60s",
        "hypertable/maintenance-log",
    ])?;
    cluster.kubectl(&[
        "get",
        "-n",
        NAMESPACE,
        "hypertable",
        "maintenance-log",
        "-o",
        "jsonpath={.status.conditions[0].message}{'\\n'}",
    ])?;

    println!("\nDone in {:.0} seconds.", started.elapsed().as_secs_f64());
    Ok(Running { api, database, operator, metrics, _logs: logs })
}

impl Running {
    /// Says how to go on, waits for Ctrl-C unless this is to end by itself, and stops everything.
    async fn keep(self) -> Result<()> {
        let Self { api, database, operator, metrics, _logs } = self;
        if std::env::var("DEMO_ONESHOT").is_ok_and(|v| v == "1") {
            println!("DEMO_ONESHOT=1: everything stops.");
            return stop(operator, database).await;
        }
        let kubectl = support_kubectl(&api);
        println!("\nEverything keeps running. In another terminal:\n");
        println!("  export KUBECONFIG={}", api.kubeconfig_path().display());
        println!("  {kubectl} get -n {NAMESPACE} {ALL_KINDS}");
        println!("  {kubectl} edit -n {NAMESPACE} hypertable metric-hist");
        println!("  psql '{}'", database.url());
        println!("  curl http://{metrics}/metrics\n");
        println!("What to do next: docs/guide/. Ctrl-C stops and removes it all.");
        tokio::signal::ctrl_c().await?;
        stop(operator, database).await
    }
}

/// The policies as TimescaleDB shows them.
const JOBS: &str = "SELECT job_id AS job, hypertable_name AS \"on\", replace(proc_name, 'policy_', '') AS policy, schedule_interval AS every, config - 'hypertable_id' - 'mat_hypertable_id' AS config
    FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY policy, \"on\"";

fn headline(text: &str) {
    println!("\n==> {text}");
}

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ms5").join(file)
}

/// The operator's binary lies beside the folder of the examples.
fn start_operator(api: &ApiServer, metrics: &str, logs: &Folder) -> Result<Guarded> {
    let examples = std::env::current_exe()?;
    let binary = examples
        .parent()
        .and_then(Path::parent)
        .ok_or("no folder above the example")?
        .join("timescaledb-policy-operator");
    if !binary.exists() {
        return Err(format!("{} is not built: run `make demo`, or `cargo build` first", binary.display()).into());
    }
    let mut command = Command::new(binary);
    command.args(["run", "--listen", metrics]).env("KUBECONFIG", api.kubeconfig_path());
    Guarded::start("operator", &command, logs.path())
}

async fn stop(mut operator: Guarded, database: TimescaleDb) -> Result<()> {
    operator.signal("TERM")?;
    let status = operator.wait(Duration::from_secs(30)).await?;
    println!("The operator stopped on SIGTERM ({status}).");
    database.stop().await?;
    if status.success() { Ok(()) } else { Err(format!("the operator ended with {status}:\n{}", operator.log()).into()) }
}

fn support_kubectl(api: &ApiServer) -> String {
    api.kubectl([]).get_program().to_string_lossy().into_owned()
}

struct Cluster<'a> {
    api: &'a ApiServer,
}

impl Cluster<'_> {
    /// Runs kubectl, shown as a user would type it.
    fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        println!("$ kubectl {}", arguments.join(" "));
        let mut command = self.api.kubectl(arguments.iter().copied());
        let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("kubectl {} ended with {status}", arguments.join(" ")).into())
        }
    }

    fn patch(&self, kind: &str, name: &str, patch: &str) -> Result<()> {
        self.kubectl(&["patch", "-n", NAMESPACE, kind, name, "--type=merge", "-p", patch])
    }

    /// The secret that CloudNativePG would write for a cluster of this name.
    fn create_secret(&self, database: &TimescaleDb) -> Result<()> {
        let keys = [
            ("username", database.user().to_owned()),
            ("password", database.password().to_owned()),
            ("host", database.host().to_owned()),
            ("port", database.port().to_string()),
            ("dbname", database.dbname().to_owned()),
        ];
        println!(
            "$ kubectl create secret generic -n {NAMESPACE} ms5-app --from-literal=username=… (CloudNativePG's keys)"
        );
        let literals: Vec<_> = keys.iter().map(|(key, value)| format!("--from-literal={key}={value}")).collect();
        let arguments = ["create", "secret", "generic", "-n", NAMESPACE, "ms5-app"];
        let mut command = self.api.kubectl(arguments.into_iter().chain(literals.iter().map(String::as_str)));
        if command.status()?.success() { Ok(()) } else { Err("the secret could not be created".into()) }
    }

    /// Prints how many resources are Ready whenever that changes, until all are.
    async fn wait_until_ready(&self, operator: &mut Guarded) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(5);
        let mut shown = usize::MAX;
        loop {
            operator.check()?;
            let states = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
            let output = self.api.kubectl(["get", "-n", NAMESPACE, KINDS, "-o", states]).output()?;
            let ready = String::from_utf8(output.stdout)?.lines().filter(|line| *line == "True").count();
            if ready != shown {
                println!("{ready} of {RESOURCES} Ready");
                shown = ready;
            }
            if ready == RESOURCES {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.kubectl(&["get", "-n", NAMESPACE, ALL_KINDS, "-o", "wide"])?;
                return Err(format!(
                    "only {ready} of {RESOURCES} became Ready; the operator says:\n{}",
                    operator.log()
                )
                .into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Waits until the query says true, and how long that took.
async fn seen(sql: &Client, what: &str, query: &str) -> Result<()> {
    let started = Instant::now();
    while one(sql, query).await.ok().as_deref() != Some("t") {
        if started.elapsed() > Duration::from_mins(1) {
            return Err(format!("not seen within a minute: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{what} (after {:.1} seconds)", started.elapsed().as_secs_f64());
    Ok(())
}

async fn one(sql: &Client, query: &str) -> Result<String> {
    let rows = sql.simple_query(query).await?;
    let value = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    value.ok_or_else(|| "no row".into())
}

/// Prints what a query returns, in columns.
async fn table(sql: &Client, query: &str) -> Result<()> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for message in sql.simple_query(query).await? {
        if let SimpleQueryMessage::Row(row) = message {
            if rows.is_empty() {
                rows.push(row.columns().iter().map(|column| column.name().to_uppercase()).collect());
            }
            rows.push((0..row.len()).map(|i| row.get(i).unwrap_or("").to_owned()).collect());
        }
    }
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<_> =
        (0..columns).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", cells.join("   ").trim_end());
    }
    Ok(())
}
