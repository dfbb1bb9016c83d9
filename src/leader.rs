//! Leader election by a `Lease`: of several instances one acts, the others keep their caches warm and wait.
//!
//! As client-go's `leaderelection` does it: a write is guarded by the resource version it was read with, and a lease has
//! expired when its record has not changed for its duration on this machine's monotonic clock, so that clocks need not
//! agree. Leadership is not what keeps two writers off one database: the advisory lock there is (a leader that was paused
//! may wake up after another took over).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::watch, time::Instant};

use crate::error::chain;

/// Where the lease is and how it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease. Instances that look after the same databases share it.
    pub name: String,
    /// Who holds it: unique among all instances, also among those that share a pod name one after the other.
    pub identity: String,
    /// How long the others wait for a holder that says nothing, before one of them takes over.
    pub duration: Duration,
    /// How long the holder tries to renew before it gives up; shorter than the duration.
    pub renew_deadline: Duration,
    /// Pause between two attempts; shorter than the deadline.
    pub retry_period: Duration,
}

/// How an election ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// This instance was told to stop; if it held the lease, the next one may take it at once.
    Stopped,
    /// It held the lease and does not any more: it must not act any longer.
    Lost(String),
}

/// Takes part in the election until told to stop, or until the lease is lost. Says in `leading` when it is won.
pub async fn elect(
    client: Client,
    settings: Settings,
    leading: watch::Sender<bool>,
    mut stop: watch::Receiver<bool>,
) -> End {
    let api = Api::namespaced(client, &settings.namespace);
    let mut candidate = Candidate { api, settings, seen: None };
    let mut renewed: Option<Instant> = None;
    let mut said = None;
    loop {
        let problem = match tokio::time::timeout(candidate.settings.renew_deadline, candidate.acquire()).await {
            Ok(Ok(Attempt::Held)) => {
                if renewed.is_none() {
                    tracing::info!(lease = candidate.settings.name, identity = candidate.settings.identity, "leading");
                    leading.send_replace(true);
                }
                renewed = Some(Instant::now());
                said = None;
                None
            }
            Ok(Ok(Attempt::HeldBy(other))) if renewed.is_some() => {
                return End::Lost(format!("{other} holds the lease {} now", candidate.settings.name));
            }
            Ok(Ok(Attempt::HeldBy(other))) => {
                if said.as_ref() != Some(&other) {
                    tracing::info!(lease = candidate.settings.name, holder = other, "standing by");
                    said = Some(other);
                }
                None
            }
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(problem) = problem {
            tracing::warn!(lease = candidate.settings.name, "the lease cannot be read or written: {problem}");
            if renewed.is_some_and(|at| at.elapsed() >= candidate.settings.renew_deadline) {
                return End::Lost(format!("the lease {} could not be renewed: {problem}", candidate.settings.name));
            }
        }
        // Instances that were started together do not go on in step.
        let pause = candidate.settings.retry_period.mul_f64(1.0 + 0.2 * fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // An error means that whoever could say stop is gone, which says the same.
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    if renewed.is_some() {
        let released = tokio::time::timeout(candidate.settings.retry_period, candidate.release()).await;
        match released {
            Ok(Ok(())) => tracing::info!(lease = candidate.settings.name, "released"),
            Ok(Err(error)) => tracing::warn!("the lease could not be released, it expires: {}", chain(&error)),
            Err(_) => tracing::warn!("the lease could not be released in time, it expires"),
        }
    }
    End::Stopped
}

struct Candidate {
    api: Api<Lease>,
    settings: Settings,
    /// What another holder wrote last, and when this instance saw it first.
    seen: Option<(LeaseSpec, Instant)>,
}

enum Attempt {
    Held,
    HeldBy(String),
}

impl Candidate {
    async fn acquire(&mut self) -> kube::Result<Attempt> {
        let name = self.settings.name.clone();
        let Some(mut lease) = self.api.get_opt(&name).await? else {
            let metadata = ObjectMeta { name: Some(name), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.record(0, None)) };
            return match self.api.create(&PostParams::default(), &lease).await {
                Ok(_) => Ok(Attempt::Held),
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    Ok(Attempt::HeldBy("another".to_owned()))
                }
                Err(error) => Err(error),
            };
        };
        let spec = lease.spec.unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or(0);
        let record = if holder == self.settings.identity {
            self.record(transitions, spec.acquire_time.clone())
        } else if holder.is_empty() || self.has_expired(&spec) {
            self.record(transitions.saturating_add(1), None)
        } else {
            return Ok(Attempt::HeldBy(holder));
        };
        lease.spec = Some(record);
        // The metadata holds the version that was read: of two that try, one has a conflict.
        match self.api.replace(&name, &PostParams::default(), &lease).await {
            Ok(_) => Ok(Attempt::Held),
            // By whom is read in the next attempt. A holder that finds its own write refused has not lost the lease yet.
            Err(kube::Error::Api(status)) if status.is_conflict() && holder != self.settings.identity => {
                Ok(Attempt::HeldBy("another".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    fn has_expired(&mut self, spec: &LeaseSpec) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        since.elapsed() >= Duration::from_secs(seconds)
    }

    fn record(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            // Rounded up: the others must not wait for less than this instance counts on.
            lease_duration_seconds: i32::try_from(self.settings.duration.as_millis().div_ceil(1000)).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Leaves the lease to whoever comes next.
    async fn release(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.settings.name).await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut().filter(|s| s.holder_identity.as_ref() == Some(&self.settings.identity))
        else {
            return Ok(());
        };
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        self.api.replace(&self.settings.name, &PostParams::default(), &lease).await.map(drop)
    }
}
