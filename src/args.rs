//! Command line and environment.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::telemetry::LogFormat;

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
pub enum Command {
    /// Run the operator against the cluster of the kubeconfig or the pod.
    Run(Run),
    /// Print the custom resource definitions, for `kubectl apply --server-side -f -`.
    Crd(Crd),
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Address of the probes (`/livez`, `/readyz`) and of `/metrics`. Port 0 takes a free one, which is logged.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Databases looked after at the same time.
    #[arg(long, env = "CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// What is logged, in the syntax of Rust's `tracing`: `info`, or `info,timescaledb_policy_operator=debug`.
    #[arg(long, env = "LOG", default_value = "info")]
    pub log: String,
    /// Form of the log lines.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Name of this instance in events: the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "timescaledb-policy-operator")]
    pub instance: String,
}

/// Options of `crd`.
#[derive(Debug, Args)]
pub struct Crd {
    /// Write one file per definition into this folder, named by its plural, instead of printing.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Print a reference of all fields in Markdown instead.
    #[arg(long, conflicts_with = "output_dir")]
    pub reference: bool,
}
