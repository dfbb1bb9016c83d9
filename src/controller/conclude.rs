//! Stage 7: what a pass tells the database's resource and the resources attached to it.

use kube::ResourceExt;

use super::{attached::all, pass::Pass};
use crate::{
    api::{status::Reason, timescale_database::TimescaleDatabaseStatus},
    catalog::Server,
    error::{Class, Failure},
    plan,
    status::{Observed, Summary, summarize},
};

/// Passes in a row that may fail before the resources (not only the database) say so: a restart is not news.
const QUIET_FAILURES: u32 = 3;
/// Passes in a row that may fail before a database that is being deleted lets go of its resources.
const ORPHAN_FAILURES: u32 = 6;

impl Pass<'_> {
    /// Tells every resource what became of it, where that is news.
    pub(super) async fn report(&self) -> Result<(), Failure> {
        let findings = &self.findings;
        let statistics = self.state.statistics.as_ref().map(|(_, statistics)| statistics);
        let mut in_sync = 0;
        let mut writes = Vec::new();
        for (id, member) in &self.members {
            let Some(verdict) = findings.verdicts.get(id) else { continue };
            let warnings = findings.warnings.get(id).map_or(&[][..], |warnings| warnings);
            let summary = summarize(&self.namespace, id, verdict, findings.failures.get(id), warnings);
            in_sync += i64::from(summary.as_ref().is_some_and(|s| s.reason == Reason::InSync));
            let observed = Observed { catalog: findings.catalog.as_ref(), statistics, target: member.target() };
            writes.push(member.settle(&self.context.reporter, summary, observed, findings.notes.get(id)));
        }
        all(writes).await?;

        let server = findings.catalog.as_ref().map(|c| &c.server);
        let facts = TimescaleDatabaseStatus {
            postgres_version: server.map(Server::postgres_version),
            timescaledb_version: server.and_then(|s| s.extension.as_ref()).map(|e| e.version.to_string()),
            license: server.and_then(|s| s.license.clone()),
            resources: i64::try_from(self.members.len()).ok(),
            resources_in_sync: Some(in_sync),
            ..TimescaleDatabaseStatus::default()
        };
        let summary = match server.and_then(plan::unusable) {
            _ if self.is_deleting() => self.in_use(),
            Some(rejection) => Summary::new(rejection.reason, rejection.message),
            None => Summary::new(Reason::InSync, "connected; the live catalog is checked at every resync"),
        };
        self.context.reporter.say_database(self.database, &summary, facts).await
    }

    fn in_use(&self) -> Summary {
        let holders: Vec<_> = self.holders().map(|(id, _)| id.to_string()).collect();
        let message = format!(
            "still in use by {} resource{} whose deletion undoes something in the database ({}{}); delete them, or set spec.deletionPolicy: Orphan to let go of them as they are",
            holders.len(),
            if holders.len() == 1 { "" } else { "s" },
            holders.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
            if holders.len() > 5 { ", …" } else { "" },
        );
        Summary::new(Reason::InUse, message)
    }

    /// The database could not be observed. The database's resource says so at once, the attached ones when it lasts or
    /// needs a person. One that is being deleted and cannot be reached lets go in the end, so that a namespace always goes
    /// away.
    pub(super) async fn give_up(&mut self, failure: Failure) -> Result<(), Failure> {
        self.state.disconnect();
        if self.is_deleting() && (failure.class == Class::User || self.state.failures >= ORPHAN_FAILURES) {
            return self.release_all(&format!("the TimescaleDatabase is being deleted and {failure}")).await;
        }
        let summary = Summary::new(failure.reason, failure.message.clone());
        let facts = self.database.status.clone().unwrap_or_default();
        self.context.reporter.say_database(self.database, &summary, facts).await?;

        let lasting = failure.class != Class::Transient || self.state.failures + 1 >= QUIET_FAILURES;
        let message = format!("TimescaleDatabase {}: {}", self.database.name_any(), failure.message);
        let summary = Summary::new(failure.reason, message);
        let told = self.members.values().filter(|member| lasting || !member.was_ready());
        let observed = |target| Observed { target, ..Observed::default() };
        let writes = told.map(|m| m.settle(&self.context.reporter, Some(summary.clone()), observed(m.target()), None));
        all(writes.collect()).await?;
        Err(failure)
    }

    /// Lets go of every resource, and of the database itself, without touching anything in the database.
    pub(super) async fn release_all(&self, why: &str) -> Result<(), Failure> {
        for (_, member) in self.holders() {
            member.orphan(&self.context.reporter, why).await?;
        }
        if self.held {
            self.context.reporter.finalize(self.database, false).await?;
        }
        self.context.forget(self.database);
        Ok(())
    }
}
