//! `status`: the resources of a cluster and their jobs at a glance.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use anstyle::Style;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::{
    Outcome,
    connection::Cluster,
    interrupted,
    output::{self, BAD, FAINT, GOOD, NOTICE, STRONG, styled},
    workspace,
};
use crate::{
    api::status::{ConditionType, HealthStatus, HealthWord, JobStatus, Reason},
    desired::Attached,
    error::{Class, Failure},
    monitoring::DatabaseKey,
    resources::Resources,
};

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Options {
    /// Names of TimescaleDatabases. Left out: all.
    #[arg(value_name = "DATABASE")]
    pub databases: Vec<String>,
    /// The cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// All namespaces.
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Only what is not as it should be.
    #[arg(long)]
    pub problems: bool,
    /// Look again and again, until interrupted.
    #[arg(long, short)]
    pub watch: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Form of the result.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Format,
}

/// Forms of an overview.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For machines; with --watch one document after the other.
    Json,
}

/// What the cluster says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Every database, by namespace and name.
    pub databases: Vec<Database>,
}

/// One database.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Namespace of the `TimescaleDatabase`.
    pub namespace: String,
    /// Its name; empty for policies that lead to no target.
    pub name: String,
    /// What it says itself; absent where it cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<DatabaseFacts>,
    /// What is attached to it.
    pub resources: Vec<Row>,
}

/// What a `TimescaleDatabase` says of itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseFacts {
    /// `Enforce` or `Observe`.
    pub mode: String,
    /// Version of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// Version of TimescaleDB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timescaledb_version: Option<String>,
    /// Whether it is `Ready`, and why not.
    #[serde(flatten)]
    pub ready: Ready,
}

/// The condition `Ready`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// `True`, `False`, or `Unknown` while the operator has not looked.
    pub ready: String,
    /// The reason.
    pub reason: String,
    /// What the condition says where it is not `True`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One resource.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is about: a table, a view, or the number of targets that it selects.
    pub object: String,
    /// Whether it is `Ready`, and why not.
    #[serde(flatten)]
    pub ready: Ready,
    /// `JobHealthy`, where there is a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_healthy: Option<String>,
    /// What the job's condition says where it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_message: Option<String>,
    /// When the job last ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Timestamp>,
    /// When it runs next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Timestamp>,
    /// Size on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Health of a table in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthWord>,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health_reasons: Vec<String>,
}

impl Row {
    /// It is ready, its job is not unhealthy, and it is no worse than healthy.
    fn is_well(&self) -> bool {
        self.ready.ready == "True"
            && self.job_healthy.as_deref() != Some("False")
            && self.health.is_none_or(|word| word == HealthWord::Healthy)
    }
}

/// Shows the overview. [`Outcome::Differs`] when something is not `Ready`.
///
/// # Errors
/// When the cluster cannot be read.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let client = options.cluster.client().await?;
    let namespace = (!options.all_namespaces).then(|| options.cluster.namespace(&client));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    loop {
        let resources = workspace::everything(&client, namespace.as_deref()).await?;
        let mut overview = overview(&resources);
        let wanted = &options.databases;
        overview.databases.retain(|database| wanted.is_empty() || wanted.contains(&database.name));
        if let Some(missing) = wanted.iter().find(|name| overview.databases.iter().all(|d| d.name != **name)) {
            let place = namespace.as_deref().map_or_else(String::new, |namespace| format!(" in namespace {namespace}"));
            let message = format!("there is no TimescaleDatabase {missing}{place}; -A looks into all namespaces");
            return Err(Failure::new(Class::User, Reason::TargetNotFound, message));
        }
        let ready = overview.databases.iter().all(|database| {
            database.own.as_ref().is_none_or(|own| own.ready.ready == "True")
                && database.resources.iter().all(|row| row.ready.ready == "True")
        });
        let text = match options.output {
            Format::Json => output::json(&overview)?,
            Format::Table => table(&overview, options.problems, Timestamp::now())?,
        };
        let (clear, end) = match (options.watch, terminal) {
            (true, true) => ("\x1b[H\x1b[2J", ""),
            (true, false) => ("", "\n"),
            (false, _) => ("", ""),
        };
        output::print(&format!("{clear}{text}{end}"))?;
        if !options.watch {
            return Ok(if ready { Outcome::Clean } else { Outcome::Differs });
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(options.interval)) => {}
            () = interrupted() => return Ok(if ready { Outcome::Clean } else { Outcome::Differs }),
        }
    }
}

/// What the resources say of themselves.
pub fn overview(resources: &Resources) -> Overview {
    let keys = resources.database_keys();
    let mut databases: Vec<_> = keys.iter().map(|key| database(key, resources)).collect();
    let mut lost = Vec::new();
    let untargeted = resources.untargeted(&resources.compression);
    lost.extend(untargeted.iter().map(|policy| (policy.clone(), Vec::new())));
    let untargeted = resources.untargeted(&resources.retention);
    let retention = untargeted.iter().map(|policy| (policy.clone(), Vec::new())).collect();
    let lost = rows(&Attached { compression: lost, retention, ..Attached::default() });
    if !lost.is_empty() {
        databases.push(Database { namespace: String::new(), name: String::new(), own: None, resources: lost });
    }
    Overview { databases }
}

fn database(key: &DatabaseKey, resources: &Resources) -> Database {
    let own = resources.database(key).map(|database| {
        let status = database.status.clone().unwrap_or_default();
        DatabaseFacts {
            mode: format!("{:?}", database.spec.mode),
            ready: ready(&status.conditions),
            postgres_version: status.postgres_version,
            timescaledb_version: status.timescaledb_version,
        }
    });
    let (namespace, name) = key.clone();
    Database { namespace, name, own, resources: rows(&resources.attached(key)) }
}

fn rows(attached: &Attached) -> Vec<Row> {
    let mut rows = Vec::new();
    for resource in &attached.hypertables {
        let status = resource.status.clone().unwrap_or_default();
        let object = format!("{}.{}", resource.spec.schema, resource.spec.table);
        let row = row("Hypertable", &**resource, object, &status.conditions, status.job.as_ref());
        rows.push(with_health(row, status.health, status.size));
    }
    for resource in &attached.aggregates {
        let status = resource.status.clone().unwrap_or_default();
        let object = format!("{}.{}", resource.spec.schema, resource.spec.name);
        let row = row("ContinuousAggregate", &**resource, object, &status.conditions, status.job.as_ref());
        rows.push(with_health(row, status.health, None));
    }
    for (resource, _) in &attached.compression {
        let status = resource.status.clone().unwrap_or_default();
        let named = status.target.as_ref().map(|target| format!("{}.{}", target.schema, target.table));
        let object = object(named, status.matched);
        rows.push(row("CompressionPolicy", &**resource, object, &status.conditions, status.job.as_ref()));
    }
    for (resource, _) in &attached.retention {
        let status = resource.status.clone().unwrap_or_default();
        let named = status.target.as_ref().map(|target| format!("{}.{}", target.schema, target.table));
        let object = object(named, status.matched);
        rows.push(row("RetentionPolicy", &**resource, object, &status.conditions, status.job.as_ref()));
    }
    rows.sort_by(|a, b| (order(a.kind), &a.namespace, &a.name).cmp(&(order(b.kind), &b.namespace, &b.name)));
    rows
}

fn order(kind: &str) -> usize {
    ["Hypertable", "ContinuousAggregate", "CompressionPolicy"].iter().position(|known| *known == kind).unwrap_or(3)
}

fn object(named: Option<String>, matched: Option<i64>) -> String {
    named.or_else(|| matched.map(|count| format!("{count} targets"))).unwrap_or_default()
}

fn row<K: ResourceExt>(
    kind: &'static str,
    resource: &K,
    object: String,
    conditions: &[Condition],
    job: Option<&JobStatus>,
) -> Row {
    let healthy = find(conditions, ConditionType::JobHealthy);
    Row {
        kind,
        namespace: resource.namespace().unwrap_or_default(),
        name: resource.name_any(),
        object,
        ready: ready(conditions),
        job_healthy: healthy.map(|condition| condition.status.clone()),
        job_message: healthy.filter(|condition| condition.status == "False").map(|c| c.message.clone()),
        last_success: job.and_then(|job| Some(job.last_success.as_ref()?.0)),
        next_run: job.and_then(|job| Some(job.next_run.as_ref()?.0)),
        size: None,
        health: None,
        health_reasons: Vec::new(),
    }
}

fn with_health(row: Row, health: Option<HealthStatus>, size: Option<String>) -> Row {
    let (word, reasons) = health.map_or((None, Vec::new()), |health| (Some(health.word), health.reasons));
    Row { size, health: word, health_reasons: reasons, ..row }
}

fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

fn ready(conditions: &[Condition]) -> Ready {
    match find(conditions, ConditionType::Ready) {
        Some(condition) => Ready {
            ready: condition.status.clone(),
            reason: condition.reason.clone(),
            message: Some(condition.message.clone()).filter(|_| condition.status != "True"),
        },
        None => Ready { ready: "Unknown".to_owned(), reason: "NotLookedAt".to_owned(), message: None },
    }
}

/// The overview for people.
///
/// # Errors
/// Never in practice: see [`output::table`].
pub fn table(overview: &Overview, problems: bool, now: Timestamp) -> Result<String, Failure> {
    if overview.databases.is_empty() {
        return Ok("No resources found; -A looks into all namespaces.\n".to_owned());
    }
    let mut text = String::new();
    for database in &overview.databases {
        text += &head(database);
        let shown: Vec<_> = database.resources.iter().filter(|row| !problems || !row.is_well()).collect();
        if !shown.is_empty() {
            let header =
                ["", "KIND", "NAME", "OBJECT", "READY", "REASON", "JOB", "LAST SUCCESS", "NEXT RUN", "SIZE", "HEALTH"];
            let several = shown.iter().map(|row| &row.namespace).collect::<BTreeSet<_>>().len() > 1;
            let rows = shown.iter().map(|row| cells(row, several, now));
            text += &output::table(&header, rows)?;
        }
        for row in &shown {
            let reasons = row.ready.message.iter().chain(&row.job_message).chain(&row.health_reasons);
            for reason in reasons {
                let title = styled(STRONG, format!("{}/{}:", row.kind, row.name));
                let _ = writeln!(text, "   {title} {reason}");
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn head(database: &Database) -> String {
    let Database { namespace, name, own, resources } = database;
    if name.is_empty() {
        return styled(STRONG, "Policies that lead to no target") + "\n";
    }
    let title = styled(STRONG, format!("{namespace}/{name}"));
    let in_sync = resources.iter().filter(|row| row.ready.ready == "True").count();
    let Some(DatabaseFacts { mode, postgres_version, timescaledb_version, ready }) = own else {
        return format!("{title}  (its TimescaleDatabase is not there, or in a namespace that is not shown)\n");
    };
    let versions = match (timescaledb_version, postgres_version) {
        (Some(timescaledb), Some(postgres)) => format!("  TimescaleDB {timescaledb} on PostgreSQL {postgres}"),
        _ => String::new(),
    };
    let state = styled(style(&ready.ready), format!("{} ({})", ready_word(&ready.ready), ready.reason));
    let message = ready.message.as_ref().map_or_else(String::new, |message| format!("   {message}\n"));
    format!("{title}  {state}  {mode}{versions}  {in_sync} of {} ready\n{message}", resources.len())
}

const fn ready_word(status: &str) -> &str {
    match status.as_bytes() {
        b"True" => "Ready",
        b"False" => "Not ready",
        _ => "Unknown",
    }
}

fn style(status: &str) -> Style {
    match status {
        "True" => GOOD,
        "False" => BAD,
        _ => NOTICE,
    }
}

fn cells(row: &Row, with_namespace: bool, now: Timestamp) -> Vec<String> {
    let dash = || styled(FAINT, "-");
    let name = if with_namespace { format!("{}/{}", row.namespace, row.name) } else { row.name.clone() };
    let health = row.health.map_or_else(dash, |word| match word {
        HealthWord::Healthy => styled(GOOD, "healthy"),
        HealthWord::Warning => styled(NOTICE, "warning"),
        HealthWord::Critical => styled(BAD, "critical"),
    });
    vec![
        String::new(),
        row.kind.to_owned(),
        name,
        row.object.clone(),
        styled(style(&row.ready.ready), &row.ready.ready),
        row.ready.reason.clone(),
        row.job_healthy.as_ref().map_or_else(dash, |status| {
            let word = match status.as_str() {
                "True" => "healthy",
                "False" => "unhealthy",
                _ => "unknown",
            };
            styled(style(status), word)
        }),
        row.last_success.map_or_else(dash, |at| format!("{} ago", span(now.duration_since(at)))),
        row.next_run.map_or_else(dash, |at| {
            let left = at.duration_since(now);
            if left.is_negative() { format!("{} late", span(left.abs())) } else { format!("in {}", span(left)) }
        }),
        row.size.clone().unwrap_or_else(dash),
        health,
    ]
}

/// A duration as kubectl prints an age: its largest unit, the smaller one beside it where there are few of the larger.
pub fn span(duration: jiff::SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{minutes}m"),
        7_200..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        let of = |seconds| span(jiff::SignedDuration::from_secs(seconds));
        for (seconds, text) in
            [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (200_000, "2d")]
        {
            assert_eq!(of(seconds), text);
        }
    }
}
