//! The monitoring views in a pass: installing them, and what the database's status says of them.

use std::time::Instant;

use super::{pass::Pass, report::Note, state::Pause};
use crate::{
    api::{status::Reason, timescale_database::Mode},
    catalog::Server,
    db::Session,
    error::{self, Class, Failure},
    plan::{
        self,
        monitoring_schema::{Cause, Decision, decide, remark},
    },
    status::Summary,
};

impl Pass<'_> {
    fn decide(&self, server: &Server) -> Decision {
        decide(self.database.spec.monitoring_schema.as_deref(), &server.monitoring)
    }

    /// Installs the monitoring views where they are wanted and are not as they should be. What failed is tried again after a
    /// pause. Says whether the catalog must be read again.
    pub(super) async fn install_monitoring(&mut self, session: &Session, server: &Server) -> bool {
        let Decision::Install(install) = self.decide(server) else {
            self.state.monitoring = None;
            return false;
        };
        let mode = self.database.spec.mode;
        if mode == Mode::Observe || self.is_deleting() || plan::unusable(server, mode).is_some() {
            return false;
        }
        let generation = self.database.metadata.generation;
        let paused = self.state.monitoring.as_ref();
        if let Some(pause) = paused.filter(|p| p.generation == generation && p.until > Instant::now()) {
            self.findings.monitoring_failure = Some(pause.failure.clone());
            return false;
        }
        if self.findings.monitoring_installed {
            let message = format!("carried out, and still wanted: {}; please report this", install.change());
            self.findings.monitoring_failure = Some(Failure::new(Class::Bug, Reason::NotConverging, message));
            return false;
        }
        let result = session.install_monitoring(&install.schema).await;
        self.context.metrics.step("install_monitoring", result.as_ref().err());
        if let Err(failure) = result {
            let failure = Failure { message: format!("{}: {}", install.change(), failure.message), ..failure };
            tracing::warn!(class = failure.class.as_str(), reason = failure.reason.as_str(), "{failure}");
            let (class, resync) = (failure.class, self.pace.resync);
            self.state.monitoring =
                Some(Pause::after(self.state.monitoring.as_ref(), generation, failure.clone(), |failures| {
                    error::pause(class, failures, resync, fastrand::f64())
                }));
            self.findings.monitoring_failure = Some(failure);
            return false;
        }
        self.findings.monitoring_installed = true;
        // What was there at this generation, and is not as it was, has drifted.
        let status = self.database.status.as_ref();
        let known = status.is_some_and(|s| s.monitoring_version.is_some() && s.observed_generation == generation);
        let drifted = known && !matches!(install.cause, Cause::Older(_));
        if drifted {
            self.context.metrics.drift("TimescaleDatabase");
            self.context.metrics.drift_corrected("TimescaleDatabase");
        }
        let reason = if drifted { Reason::DriftCorrected } else { Reason::Applied };
        let text = format!("{}, as sql/monitoring/install.sql does", install.change());
        self.context.reporter.event(self.database, &Note { reason, text }).await;
        true
    }

    /// What the status of a database that can be used says, and the version of the monitoring views.
    pub(super) fn usable(&self, server: &Server) -> (Summary, Option<i64>) {
        let wanted = self.database.spec.monitoring_schema.as_deref();
        let found = server.monitoring.iter().find(|found| wanted == Some(found.schema.as_str()));
        let summary = match (self.decide(server), &self.findings.monitoring_failure) {
            (Decision::Refused(rejection), _) => Summary::new(rejection.reason, rejection.message),
            (Decision::Install(_), Some(failure)) => Summary::new(failure.reason, failure.message.clone()),
            (Decision::Install(install), None) if self.database.spec.mode == Mode::Observe => {
                let message = format!("spec.mode is Observe, so this is not done: {}", install.change());
                Summary::new(Reason::DriftObserved, message)
            }
            (Decision::Install(install), None) => {
                Summary::new(Reason::Retrying, format!("to do: {}", install.change()))
            }
            (Decision::Unwanted | Decision::Installed(_), _) => {
                let remark = remark(wanted, &server.monitoring);
                Summary::new(Reason::InSync, format!("connected; the live catalog is checked at every resync{remark}"))
            }
        };
        (summary, found.map(|found| i64::from(found.version)))
    }
}
