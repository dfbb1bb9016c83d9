//! The operator's process, and what the kernel and its own metrics say of it.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    cluster::{Cluster, NAMESPACE},
    eventually,
    support::{
        Result,
        process::{Folder, Guarded},
    },
};

pub struct Operator {
    process: Guarded,
    address: String,
    pub started: Instant,
    _folder: Folder,
}

impl Operator {
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let folder = Folder::new("operator")?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json", "--watch-namespaces", NAMESPACE])
            .envs(image_environment())
            .env("KUBECONFIG", cluster.api.kubeconfig_path());
        let started = Instant::now();
        let mut process = Guarded::start("operator", &command, folder.path())?;
        let address = eventually("the operator listens", Duration::from_millis(5), async || {
            process.check()?;
            let log = process.log();
            let found = log.split_once("\"listen\":\"").and_then(|(_, rest)| rest.split_once('"'));
            Ok(found.map(|(address, _)| address.to_owned()))
        })
        .await?;
        Ok(Self { process, address, started, _folder: folder })
    }

    pub async fn metrics(&self) -> Result<Metrics> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let samples = answer.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Ok(Metrics(samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()))
    }

    /// Its log shows that it has carried out this statement.
    pub fn has_carried_out(&self, statement: &str) -> Result<bool> {
        let shown = serde_json::to_string(statement)?;
        Ok(self.process.log().contains(shown.trim_matches('"')))
    }

    /// Waits until so many passes have ended since it started.
    pub async fn passes(&self, passes: f64) -> Result<Metrics> {
        eventually(&format!("{passes} passes"), Duration::from_millis(10), async || {
            let metrics = self.metrics().await?;
            Ok((metrics.sum("passes_total", "") >= passes).then_some(metrics))
        })
        .await
    }

    /// CPU time of all threads that still run, from the scheduler's own clock.
    pub fn cpu(&self) -> Result<Duration> {
        let mut sum = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.pid()))? {
            // A thread may have ended meanwhile.
            let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            sum += text.split(' ').next().unwrap_or("0").parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Resident memory now, and its peak since the start or since [`Self::forget_peak`], in MiB.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok((field("VmRSS")?, field("VmHWM")?))
    }

    /// The peak counts from here on.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.process.pid()), "5")?)
    }

    /// As Kubernetes ends a pod.
    pub async fn end(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let status = self.process.wait(Duration::from_secs(30)).await?;
        if status.success() { Ok(()) } else { Err(format!("the operator ended with {status}").into()) }
    }
}

/// What the image sets: in a pod it is so.
fn image_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../Dockerfile").lines().filter_map(|line| line.strip_prefix("ENV "));
    lines.flat_map(|line| line.split(' ').filter_map(|setting| setting.split_once('=')))
}

/// The samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// The sum of all samples of this name (without the prefix) with this text among their labels.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of_name = |sample: &str| {
            let sample = sample.strip_prefix("timescaledb_policy_operator_").unwrap_or_default();
            let (found, labels) = sample.split_once('{').unwrap_or((sample, ""));
            found == name && labels.contains(label)
        };
        self.0.iter().filter(|(sample, _)| of_name(sample)).map(|(_, value)| value).sum()
    }
}
