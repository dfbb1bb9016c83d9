//! Command line and environment.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};
use kube::core::{Expression, Selector};

use crate::{
    api::{timescale_database, types::SpanText},
    cli,
    desired::operator_default,
    telemetry::LogFormat,
};

/// Keeps the TimescaleDB policies of existing databases true.
#[derive(Debug, Parser)]
#[command(name = "timescaledb-policy-operator", version, about, long_about = None)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Command {
    /// Run the operator against the cluster of the kubeconfig or the pod.
    Run(Box<Run>),
    /// Show what manifests would change in a live database; nothing is written.
    ///
    /// Exit code 0: the database is as they say. 2: it differs. 1: an error.
    #[command(after_long_help = examples::PLAN)]
    Plan(Box<cli::plan::Options>),
    /// Bring a database to what manifests say, with the guards of the operator, and look again.
    ///
    /// Exit code 0: the database is as they say. 2: something is left, held for an approval or blocked. 1: an error.
    #[command(after_long_help = examples::APPLY)]
    Apply(Box<cli::apply::Options>),
    /// Describe an existing database as resources, ready to commit: a plan of them is empty.
    #[command(after_long_help = examples::IMPORT)]
    Import(Box<cli::import::Options>),
    /// Look for what is wrong with a database, and say what to do; nothing is written.
    ///
    /// Exit code 0: nothing was found. 2: a warning or worse (see --fail-on). 1: an error.
    #[command(after_long_help = examples::CHECK)]
    Check(Box<cli::check::Options>),
    /// Say what chunk intervals, segmentBy, orderBy and compressAfter should be, from what the chunks of a database hold.
    #[command(after_long_help = examples::RECOMMEND)]
    Recommend(Box<cli::recommend::Options>),
    /// Say how the storage of a database goes on, from what its chunks hold and what its policies do.
    #[command(after_long_help = examples::FORECAST)]
    Forecast(Box<cli::forecast::Options>),
    /// Show the resources of a cluster and their jobs at a glance.
    ///
    /// Exit code 0: all of them are ready. 2: some are not. 1: an error.
    #[command(after_long_help = examples::STATUS)]
    Status(Box<cli::status::Options>),
    /// Print the custom resource definitions, for `kubectl apply --server-side -f -`.
    Crd(cli::crd::Options),
    /// Print the completions of a shell.
    #[command(after_long_help = examples::COMPLETION)]
    Completion(cli::shell::Completion),
    /// Print the manual page, or write one for each command.
    Man(cli::shell::Man),
    /// Print the version, and what it is made for.
    Version(cli::shell::Version),
    /// Print a reference of all metrics in Markdown.
    #[command(hide = true)]
    Metrics,
}

/// What `--help` shows behind the options.
mod examples {
    pub const PLAN: &str = "Examples:
  # What a folder would change, in a database named directly
  timescaledb-policy-operator plan -f policies/ --database-url postgresql://reader@db/factory

  # The same over what is in the cluster, whose connection secret is used
  kubectl tsdb plan -f policies/ --context production

  # As a comment on a pull request
  kustomize build overlays/production | timescaledb-policy-operator plan -f - -o markdown";
    pub const APPLY: &str = "Examples:
  # Do what plan shows
  timescaledb-policy-operator apply -f policies/ --database-url postgresql://owner@db/factory

  # Approve exactly the plan that would drop rows, as plan named it
  timescaledb-policy-operator apply -f policies/ --approve c0ffee123456";
    pub const IMPORT: &str = "Examples:
  # One file for each table
  timescaledb-policy-operator import --database-url postgresql://reader@db/factory --output-dir policies/

  # One schema, as one stream
  timescaledb-policy-operator import --schema telemetry --namespace factory > policies.yaml";
    pub const CHECK: &str = "Examples:
  # Everything that is wrong, with a fix for each
  timescaledb-policy-operator check --database-url postgresql://reader@db/factory

  # For a pipeline that fails on what is critical, and for code scanning
  timescaledb-policy-operator check --fail-on critical -o sarif > check.sarif";
    pub const RECOMMEND: &str = "Examples:
  # What should be otherwise, and why
  timescaledb-policy-operator recommend --database-url postgresql://reader@db/factory --memory 16GiB

  # As a patch to the resources in a folder
  timescaledb-policy-operator recommend --memory 16GiB -f policies/ -o patch > recommended.yaml";
    pub const FORECAST: &str = "Examples:
  # Half a year ahead, the day when the disk is full, and a plot
  timescaledb-policy-operator forecast --database-url postgresql://reader@db/factory --until-size 500GiB --plot storage.svg

  # What another retention would do, with twice the machines
  timescaledb-policy-operator forecast --set metric-hist.dropAfter=180d --set '*.ingest=2'";
    pub const STATUS: &str = "Examples:
  # The namespace of the context, every two seconds
  kubectl tsdb status --watch

  # What is not as it should be, in all namespaces
  kubectl tsdb status -A --problems";
    pub const COMPLETION: &str = "Examples:
  # For this session of bash
  source <(timescaledb-policy-operator completion bash)

  # For every session of zsh
  timescaledb-policy-operator completion zsh > \"${fpath[1]}/_timescaledb-policy-operator\"";
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Address of the probes (`/livez`, `/readyz`) and of `/metrics`. Port 0 takes a free one, which is logged.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The monitoring API.
    #[command(flatten)]
    pub monitoring: MonitoringApi,
    /// Databases looked after at the same time.
    #[arg(long, env = "CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// What is logged, in the syntax of Rust's `tracing`: `info`, or `info,timescaledb_policy_operator=debug`.
    #[arg(long, env = "LOG", default_value = "info")]
    pub log: String,
    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Name of this instance in events and in the lease: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "timescaledb-policy-operator")]
    pub instance: String,
    /// Namespaces to watch, separated by commas. Left out: all of them.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// Labels of the TimescaleDatabases to look after, in kubectl's syntax (`team=a,tier in (gold,silver),!legacy`). Left
    /// out: all of them. What is attached to a database goes with it.
    #[arg(long, env = "DATABASE_SELECTOR", value_parser = selector)]
    pub database_selector: Option<Selector>,
    /// Defaults of the operator's own.
    #[command(flatten)]
    pub defaults: Defaults,
    /// Leader election.
    #[command(flatten)]
    pub election: Election,
}

/// Options of the monitoring API.
#[derive(Debug, Args)]
pub struct MonitoringApi {
    /// Address of the monitoring API (`/api/v1/monitoring/…`), which asks for tokens of the cluster. Left out: there is none.
    #[arg(long, env = "MONITORING_LISTEN")]
    pub monitoring_listen: Option<SocketAddr>,
    /// Certificate chain of the monitoring API, in PEM; read again when it changes. Left out: clear text.
    #[arg(long, env = "TLS_CERT_FILE", requires_all = ["tls_key_file", "monitoring_listen"])]
    pub tls_cert_file: Option<PathBuf>,
    /// Key of the certificate, in PEM.
    #[arg(long, env = "TLS_KEY_FILE", requires_all = ["tls_cert_file", "monitoring_listen"])]
    pub tls_key_file: Option<PathBuf>,
}

/// Values for fields that neither a resource nor its TimescaleDatabase gives.
#[derive(Debug, Default, Args)]
pub struct Defaults {
    /// For Hypertables without chunkInterval, where their TimescaleDatabase has no default either: `1 day`.
    #[arg(long, env = "DEFAULT_CHUNK_INTERVAL", value_name = "SPAN", value_parser = operator_default)]
    pub default_chunk_interval: Option<SpanText>,
    /// For CompressionPolicies without an age: `7 days`.
    #[arg(long, env = "DEFAULT_COMPRESS_AFTER", value_name = "SPAN", value_parser = operator_default)]
    pub default_compress_after: Option<SpanText>,
    /// For RetentionPolicies without an age: `90 days`.
    #[arg(long, env = "DEFAULT_DROP_AFTER", value_name = "SPAN", value_parser = operator_default)]
    pub default_drop_after: Option<SpanText>,
}

/// The command line, under the name that it was called by: linked as `kubectl-tsdb` it is a plugin of kubectl.
pub fn command(program: Option<&str>) -> clap::Command {
    let command = Arguments::command();
    let name = program.and_then(|path| std::path::Path::new(path).file_stem()?.to_str());
    match name {
        Some("kubectl-tsdb" | "kubectl_tsdb") => command.bin_name("kubectl tsdb"),
        _ => command,
    }
}

impl From<Defaults> for timescale_database::Defaults {
    fn from(defaults: Defaults) -> Self {
        let Defaults { default_chunk_interval, default_compress_after, default_drop_after } = defaults;
        Self {
            chunk_interval: default_chunk_interval,
            compress_after: default_compress_after,
            drop_after: default_drop_after,
        }
    }
}

/// Options of the leader election.
#[derive(Debug, Args)]
pub struct Election {
    /// Act only while holding a lease, so that several instances can run: one acts, the others stand by.
    #[arg(long, env = "LEADER_ELECT", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    pub leader_elect: bool,
    /// Name of the lease. Instances that look after the same databases share it.
    #[arg(long, env = "LEASE_NAME", default_value = "timescaledb-policy-operator")]
    pub lease_name: String,
    /// Namespace of the lease: the pod's. Left out: the one that the kubeconfig names.
    #[arg(long, env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// How long a standby waits for a leader that says nothing: `15s`, `1m 30s`.
    #[arg(long, env = "LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,
    /// How long the leader tries to renew its lease before it ends; less than the duration.
    #[arg(long, env = "RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    pub renew_deadline: Duration,
    /// Pause between two attempts to take or renew the lease; less than the deadline.
    #[arg(long, env = "RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    pub retry_period: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    let duration = parsed.ok().and_then(|duration| Duration::try_from(duration).ok());
    let bounds = Duration::from_secs(1)..=Duration::from_hours(1);
    duration
        .filter(|duration| bounds.contains(duration))
        .ok_or_else(|| format!("{text:?} is no duration from 1s to 1h; write 15s or 1m 30s"))
}

fn namespace(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = text.trim();
    if name.is_empty() || name.len() > 63 || !name.chars().all(allowed) {
        return Err(format!("{name:?} is no name of a namespace"));
    }
    Ok(name.to_owned())
}

/// Reads a label selector as kubectl's `-l` takes it.
fn selector(text: &str) -> Result<Selector, String> {
    let expressions: Result<Vec<_>, _> = requirements(text).map(expression).collect();
    Ok(expressions?.into_iter().collect())
}

/// The parts between the commas that are not in parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

fn expression(text: &str) -> Result<Expression, String> {
    let wrong = || {
        format!(
            "{text:?} is no requirement on labels: write key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
        )
    };
    let part = |text: &str, empty: bool| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let text = text.trim();
        ((empty || !text.is_empty()) && text.chars().all(allowed)).then(|| text.to_owned()).ok_or_else(wrong)
    };
    if let Some(list) = text.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or_else(wrong)?;
        let values = values.split(',').map(|value| part(value, true)).collect::<Result<_, _>>()?;
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace).ok_or_else(wrong)?;
        return match operator {
            "in" => Ok(Expression::In(part(key, false)?, values)),
            "notin" => Ok(Expression::NotIn(part(key, false)?, values)),
            _ => Err(wrong()),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(part(key, false)?, part(value, true)?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(part(key, false)?, part(value, true)?));
    }
    match text.strip_prefix('!') {
        Some(key) => Ok(Expression::DoesNotExist(part(key, false)?)),
        None => Ok(Expression::Exists(part(text, false)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn linked_as_a_plugin_it_says_so() {
        let usage = |program| command(program).render_usage().to_string();
        assert!(usage(Some("/usr/local/bin/kubectl-tsdb")).contains("kubectl tsdb <COMMAND>"));
        assert!(usage(Some("timescaledb-policy-operator")).contains("timescaledb-policy-operator <COMMAND>"));
        assert!(usage(None).contains("timescaledb-policy-operator <COMMAND>"));
    }

    #[test]
    fn a_selector_is_read_as_kubectl_reads_it() {
        let read = |text| selector(text).map(|selector| selector.to_string());
        for (text, same) in [
            ("", ""),
            ("team=a", "team=a"),
            ("team == a , tier!=gold", "team=a,tier!=gold"),
            ("tier in (gold,silver),!legacy", "tier in (gold,silver),!legacy"),
            ("example.com/tier notin (gold),shared", "example.com/tier notin (gold),shared"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(same), "{text}");
        }
        for text in ["=a", "a b", "tier within (a)", "tier in a)", "(a)", "a=b=c", "!", "a in (b", "a;b"] {
            assert!(read(text).is_err(), "{text}: {:?}", read(text));
        }
    }

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        for (text, seconds) in [("15s", 15), ("1m", 60), ("1m30s", 90), ("1m 30s", 90), ("1h", 3600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["15", "0s", "-5s", "2h", "1 day", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn namespaces_are_names() {
        assert_eq!(namespace(" factory "), Ok("factory".to_owned()));
        for wrong in ["", "Factory", "a/b", "*"] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
    }
}
