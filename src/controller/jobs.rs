//! How jobs and tables do, once the catalog is read; and the nudge for a job that TimescaleDB does not start. Beside the
//! plan, so that `Ready` depends on none of it.

use std::collections::btree_map::Entry;

use jiff::Timestamp;

use super::{attached::Member, pass::Pass, report::Note};
use crate::{
    api::{status::Reason, timescale_database::Mode},
    db::Session,
    desired::{Claim, Desired, Intent},
    monitoring::job_health::{self, Scheduler},
    plan::step::{Step, Verdict},
    sql,
};

/// Jobs that are nudged in one pass: one that is altered lets TimescaleDB look at all of them.
const MAX_NUDGES: usize = 10;

impl Pass<'_> {
    /// Finds out how the jobs and the tables do. Asks the database only for errors that are new.
    pub(super) async fn judge(&mut self, desired: &Desired, session: &Session) {
        let Some(catalog) = self.findings.catalog.clone().filter(|c| c.server.extension.is_some()) else { return };
        let now = Timestamp::now();
        let is_first = self.state.jobs.is_empty();
        let failed = self.state.jobs.see(&catalog.jobs, now);
        for (id, since) in self.collected.members.values().filter(|_| is_first).filter_map(Member::job_known_since) {
            self.state.jobs.was_known(id, since);
        }
        if !failed.is_empty() {
            match session.job_errors(&failed).await {
                Ok(errors) => self.state.jobs.learn(&failed, &errors, &catalog.jobs),
                // They are for people: the health goes without them until they can be read.
                Err(failure) => tracing::warn!(database = ?self.key(), "errors of jobs could not be read: {failure}"),
            }
        }
        let reading = self.state.readings.last().cloned();
        let scheduler = reading.as_ref().map(|r| Scheduler::from(&r.statistics.database)).unwrap_or_default();
        let jobs = self.state.memo.jobs(self.state.jobs.reports(&catalog.jobs, scheduler, now));
        if let Some(reading) = reading {
            let thresholds = &self.database.spec.health_thresholds;
            self.findings.tables = self.state.memo.tables(&catalog, &reading, &jobs, thresholds);
        }
        self.findings.jobs = jobs;
        if self.database.spec.mode == Mode::Enforce && !self.is_deleting() {
            for step in self.nudges(desired, scheduler, now) {
                self.nudge(&step, session, now).await;
            }
        }
    }

    /// The steps that make TimescaleDB look again at the jobs of resources that are in sync, and that it does not start.
    fn nudges(&self, desired: &Desired, scheduler: Scheduler, now: Timestamp) -> Vec<Step> {
        let Some(catalog) = &self.findings.catalog else { return Vec::new() };
        if !self
            .findings
            .jobs
            .iter()
            .any(|(id, report)| self.state.jobs.needs_nudge(*id, &report.health, scheduler, now))
        {
            return Vec::new();
        }
        let nudge = |claim: &Claim| {
            let Intent::Ensure(target) = &claim.intent else { return None };
            if self.findings.plan.verdicts.get(&claim.id) != Some(&Verdict::InSync) {
                return None;
            }
            let (kind, relation) = target.job()?;
            let job = catalog.job(kind, catalog.host(relation)?.id)?;
            let report = self.findings.jobs.get(&job.id)?;
            let needed = self.state.jobs.needs_nudge(job.id, &report.health, scheduler, now);
            needed.then(|| job_health::nudge(&claim.id, relation, job))
        };
        desired.claims.iter().filter_map(nudge).take(MAX_NUDGES).collect()
    }

    async fn nudge(&mut self, step: &Step, session: &Session, now: Timestamp) {
        let Some(catalog) = self.findings.catalog.clone() else { return };
        let Some(extension) = &catalog.server.extension else { return };
        // Also one that fails is not tried again before the hour is over.
        self.state.jobs.nudged(step, now);
        let outcome = session.apply(step, extension).await;
        self.context.metrics.step(step.action.name(), outcome.as_ref().err());
        match outcome {
            Ok(()) => {
                let sql: Vec<_> = sql::render(&step.action, extension).statements.into_iter().map(|s| s.text).collect();
                let text = format!("{}\n{}", step.change, sql.join(";\n"));
                if let Entry::Vacant(entry) = self.findings.notes.entry(step.claim.clone()) {
                    entry.insert(Note { reason: Reason::JobNudged, text });
                }
            }
            Err(failure) => tracing::warn!(claim = %step.claim, "{failure}"),
        }
    }
}
