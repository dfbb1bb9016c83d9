//! What is kept of a database between passes: a session, answers, pauses. What the database looks like is asked anew in
//! every pass; of the last one only what was worked out is kept, for when it looks the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{memo::Memo, readings::Readings};
use crate::{
    catalog::{Answers, Extension},
    db::{Session, credentials::Endpoint},
    desired::ClaimId,
    error::Failure,
    metrics::{GaugeGuard, Metrics},
    monitoring::job_health::Jobs,
    plan::step::Step,
};

/// What is kept of one database between passes.
#[derive(Default)]
pub struct State {
    session: Option<(Endpoint, Arc<Session>)>,
    /// Answers that last from one pass to the next.
    pub answers: Answers,
    /// What the last pass has worked out.
    pub memo: Memo,
    /// Sizes and backlogs, as last read.
    pub readings: Readings,
    /// What is remembered of jobs.
    pub jobs: Jobs,
    /// Claims whose steps failed, with the time before which they are not tried again.
    pub pauses: BTreeMap<ClaimId, Pause>,
    /// Claims that were found to have drifted and are not in sync again.
    pub drifted: BTreeSet<ClaimId>,
    /// The monitoring views could not be installed.
    pub monitoring: Option<Pause>,
    /// Passes in a row that could not observe or report.
    pub failures: u32,
    running: BTreeMap<ClaimId, Running>,
    ended: Arc<Mutex<Vec<Ended>>>,
}

/// A failed claim waits before it is tried again, unless the resource changes.
pub struct Pause {
    /// The generation that failed.
    pub generation: Option<i64>,
    /// Failures in a row.
    pub failures: u32,
    /// Not tried again before.
    pub until: Instant,
    /// What failed.
    pub failure: Failure,
}

impl Pause {
    /// The pause after one more failure.
    pub fn after(
        before: Option<&Self>,
        generation: Option<i64>,
        failure: Failure,
        pause: impl FnOnce(u32) -> Duration,
    ) -> Self {
        let failures = before.filter(|p| p.generation == generation).map_or(0, |p| p.failures) + 1;
        Self { generation, failures, until: Instant::now() + pause(failures), failure }
    }
}

struct Running {
    what: String,
    task: AbortHandle,
}

impl Drop for Running {
    /// Closes the connection; the server then rolls back.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The steps of a claim that ran beside the pass have ended.
pub struct Ended {
    /// The claim.
    pub claim: ClaimId,
    /// The steps that were carried out.
    pub applied: Vec<Step>,
    /// The extension they were carried out with.
    pub extension: Extension,
    /// They corrected drift.
    pub drifted: bool,
    /// Why the rest was not.
    pub failure: Option<Failure>,
}

impl State {
    /// The session for this endpoint: the one at hand, or a new one where there is none, it broke, or what it depends on
    /// has changed.
    pub async fn session(&mut self, endpoint: &Endpoint, metrics: &Metrics) -> Result<Arc<Session>, Failure> {
        if let Some((of, session)) = &self.session
            && of == endpoint
            && !session.is_closed()
        {
            return Ok(session.clone());
        }
        // Answers were given by the server that is left behind, and plans made with them.
        self.answers.clear();
        self.memo = Memo::default();
        if self.session.as_ref().is_some_and(|(of, _)| of != endpoint) {
            // What runs there is not for the database that is meant now.
            self.running.clear();
            self.readings = Readings::default();
        }
        // The old session has to be gone first: it holds the lock.
        self.session = None;
        let session = Arc::new(Session::connect(endpoint, metrics).await?);
        session.lock().await?;
        self.session = Some((endpoint.clone(), session.clone()));
        Ok(session)
    }

    /// Where the session at hand leads.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.session.as_ref().map(|(endpoint, _)| endpoint)
    }

    /// The session at hand, whatever has become of the secret it was made from.
    pub fn open_session(&self) -> Option<Arc<Session>> {
        self.session.as_ref().map(|(_, session)| session.clone()).filter(|session| !session.is_closed())
    }

    /// Gives up the session: the next pass connects anew.
    pub fn disconnect(&mut self) {
        self.session = None;
    }

    /// Claims with steps under way beside the pass, and which.
    pub fn running(&self) -> BTreeMap<ClaimId, String> {
        self.running.iter().map(|(id, running)| (id.clone(), running.what.clone())).collect()
    }

    /// Connections open to the database: the session, one for each long step, and one for a reading.
    pub fn connections(&self) -> u32 {
        let long_steps = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let others = u32::from(self.open_session().is_some()) + u32::from(self.readings.is_running());
        long_steps.saturating_add(others)
    }

    /// What has ended since this was asked last.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        let ended = std::mem::take(&mut *lock(&self.ended));
        for Ended { claim, .. } in &ended {
            self.running.remove(claim);
        }
        ended
    }

    /// Carries out the steps of one claim beside the pass, on a connection of their own, and calls `wake` at the end.
    pub fn start(
        &mut self,
        claim: ClaimId,
        steps: Vec<Step>,
        extension: Extension,
        drifted: bool,
        metrics: &Metrics,
        wake: impl FnOnce() + Send + 'static,
    ) {
        let Some((endpoint, _)) = &self.session else { return };
        let (endpoint, metrics, ended) = (endpoint.clone(), metrics.clone(), self.ended.clone());
        let what = steps.iter().map(|step| step.change.as_str()).collect::<Vec<_>>().join("; ");
        let id = claim.clone();
        let task = tokio::spawn(async move {
            let _gauge = GaugeGuard::new(&metrics.long_steps);
            let mut applied = Vec::new();
            let failure = carry_out(steps, &endpoint, &extension, &metrics, &mut applied).await.err();
            lock(&ended).push(Ended { claim, applied, extension, drifted, failure });
            wake();
        });
        self.running.insert(id, Running { what, task: task.abort_handle() });
    }

    /// Notes that a claim failed, and until when it waits.
    pub fn pause(
        &mut self,
        id: &ClaimId,
        generation: Option<i64>,
        failure: Failure,
        pause: impl FnOnce(u32) -> Duration,
    ) {
        let pause = Pause::after(self.pauses.get(id), generation, failure, pause);
        self.pauses.insert(id.clone(), pause);
    }
}

async fn carry_out(
    steps: Vec<Step>,
    endpoint: &Endpoint,
    extension: &Extension,
    metrics: &Metrics,
    applied: &mut Vec<Step>,
) -> Result<(), Failure> {
    let session = Session::connect(endpoint, metrics).await?;
    for step in steps {
        let outcome = session.apply(&step, extension).await;
        metrics.step(step.action.name(), outcome.as_ref().err());
        outcome?;
        applied.push(step);
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the list was locked leaves it whole: it is only ever pushed to and taken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
