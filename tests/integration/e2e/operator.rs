//! The operator's process.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::eventually;
use crate::support::{
    Result,
    api_server::ApiServer,
    process::{Folder, Guarded},
};

/// What a pod is given to end, by default. The operator's own drain is shorter.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

pub struct Operator {
    process: Guarded,
    address: String,
    _folder: Folder,
}

impl Operator {
    /// Starts the binary and waits until it listens.
    pub async fn start(api: &ApiServer, log: &str) -> Result<Self> {
        Self::start_as(api.kubeconfig_path(), log).await
    }

    /// The same with the permissions of whoever the kubeconfig says.
    pub async fn start_as(kubeconfig: &Path, log: &str) -> Result<Self> {
        Self::start_with(kubeconfig, log, &[]).await
    }

    /// The same with more options.
    pub async fn start_with(kubeconfig: &Path, log: &str, options: &[&str]) -> Result<Self> {
        let always = ["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--log", log];
        Self::start_exactly(kubeconfig, &[&always, options].concat(), &[]).await
    }

    /// Starts the binary with these arguments and variables, which have it listen and log as JSON.
    pub async fn start_exactly(kubeconfig: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let folder = Folder::new("operator")?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
        command.args(arguments).env("KUBECONFIG", kubeconfig).envs(variables.iter().copied());
        let process = Guarded::start("operator", &command, folder.path())?;
        let mut operator = Self { process, address: String::new(), _folder: folder };
        operator.address = eventually("the operator listens", async || {
            operator.process.check()?;
            let lines = operator.log();
            let started = lines.iter().find(|line| line["message"] == "started");
            Ok(started.and_then(|line| line["listen"].as_str()).map(str::to_owned))
        })
        .await?;
        Ok(operator)
    }

    /// The lines of its log. One that is not JSON is there as a string.
    pub fn log(&self) -> Vec<Value> {
        let log = self.process.log();
        let complete = log.rfind('\n').map_or("", |end| &log[..end]);
        complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }

    /// What an HTTP endpoint answers: status, head and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP status")?;
        Ok((status, head.to_owned(), body.to_owned()))
    }

    pub async fn metrics(&self) -> Result<Metrics> {
        let (_, _, text) = self.get("/metrics").await?;
        Ok(Metrics::parse(&text))
    }

    /// Waits until so many more passes have ended, and returns what the metrics say right after the last one.
    pub async fn passes(&self, more: u32) -> Result<Metrics> {
        let goal = self.metrics().await?.sum("passes_total", "") + f64::from(more);
        eventually(&format!("{more} more passes"), async || {
            let metrics = self.metrics().await?;
            Ok((metrics.sum("passes_total", "") >= goal).then_some(metrics))
        })
        .await
    }

    /// As Kubernetes ends a pod: SIGTERM, and the grace period to comply.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal("TERM")?;
        self.process.wait(GRACE_PERIOD).await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.process.wait(GRACE_PERIOD).await
    }

    /// As a crash ends it.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// The samples of one scrape, by their text up to the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(sample, value)| Some((sample.to_owned(), value.parse().ok()?))).collect())
    }

    /// The value of one sample, named with its labels.
    pub fn sample(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// All samples with their values.
    pub fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(sample, value)| (sample.as_str(), *value))
    }

    /// The samples whose name begins so, and with this text among their labels.
    pub fn named<'a>(&'a self, name: &'a str, labels: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(move |sample| sample.starts_with(name) && sample.contains(labels))
    }

    /// The sum of all samples of this name (without the prefix) with this text among their labels.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of_name = |sample: &str| {
            let sample = sample.strip_prefix("timescaledb_policy_operator_")?;
            let (found, labels) = sample.split_once('{').unwrap_or((sample, ""));
            (found == name && labels.contains(label)).then_some(())
        };
        self.0.iter().filter(|(sample, _)| of_name(sample).is_some()).map(|(_, value)| value).sum()
    }
}
