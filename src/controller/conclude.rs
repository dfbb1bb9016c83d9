//! Stage 7: what a pass tells the database's resource and the resources attached to it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    attached::all,
    memo::{Sources, Totals},
    pass::{Findings, Pass},
    report::Voice,
};
use crate::{
    api::{
        status::{Reason, TargetStatus},
        timescale_database::TimescaleDatabaseStatus,
    },
    catalog::Server,
    desired::{self, ClaimId, Kind, ResourceId, TargetId},
    error::{Class, Failure},
    monitoring::snapshot::{Observation, Reasons},
    plan::{self, step::Verdict},
    status::{Observed, Outcome, SeenJobs, Summary, summarize, summarize_selected},
};

/// Passes in a row that may fail before the resources (not only the database) say so: a restart is not news.
const QUIET_FAILURES: u32 = 3;
/// Passes in a row that may fail before a database that is being deleted lets go of its resources.
const ORPHAN_FAILURES: u32 = 6;

impl Pass<'_> {
    /// Tells every resource what became of it, where that is news.
    pub(super) async fn report(&mut self) -> Result<(), Failure> {
        let sources = self.sources();
        let said =
            sources.as_ref().and_then(|sources| self.state.memo.said(sources, self.pace.statistics.to_duration()));
        let totals = if let Some(totals) = said {
            self.publish(totals.reasons.clone(), None);
            totals
        } else {
            self.state.memo.forget_said();
            let (totals, is_news) = self.tell_members().await?;
            if let Some(sources) = sources.filter(|_| !is_news) {
                self.state.memo.keep_said(sources, totals.clone());
            }
            totals
        };
        self.tell_database(totals.in_sync).await
    }

    /// What the attached resources say comes from these, unless something was done or failed in this pass.
    fn sources(&self) -> Option<Sources> {
        let Findings { catalog, jobs, tables, plan, failures, notes, .. } = &self.findings;
        let catalog = catalog.clone().filter(|_| failures.is_empty() && notes.is_empty())?;
        Some(Sources {
            collected: self.collected.clone(),
            catalog,
            plan: plan.clone(),
            jobs: jobs.clone(),
            tables: tables.clone(),
            reading: self.state.readings.last().cloned(),
        })
    }

    /// Tells the attached resources. Returns what they say in numbers, and whether that was news for any of them.
    async fn tell_members(&self) -> Result<(Totals, bool), Failure> {
        let findings = &self.findings;
        let reading = self.state.readings.last().cloned();
        let statistics = reading.as_ref().map(|reading| &reading.statistics);
        let catalog = findings.catalog.as_deref();
        let nothing: &[String] = &[];
        let summary_of = |(id, verdict): (&'_ ClaimId, &Verdict)| {
            let warnings = findings.plan.warnings.get(id).map_or(nothing, |warnings| warnings);
            (id.clone(), summarize(&self.namespace, id, verdict, findings.failures.get(id), warnings))
        };
        let summaries: BTreeMap<ClaimId, Option<Summary>> = findings.plan.verdicts.iter().map(summary_of).collect();
        let reasons =
            count(summaries.iter().filter_map(|(id, summary)| Some((id.resource.kind, summary.as_ref()?.reason))));
        self.publish(reasons.clone(), None);
        let mut in_sync = 0;
        let mut selected = BTreeMap::new();
        for (id, member) in self.members().iter().filter(|(_, member)| member.is_selecting()) {
            let outcome = |target: &(TargetId, TargetStatus)| {
                let claim = ClaimId { resource: id.clone(), target: Some(target.0.clone()) };
                let summary = match summaries.get(&claim) {
                    None if self.is_deleting() => Some(self.nothing_more()),
                    summary => summary?.clone(),
                };
                Some(member.outcome(target, summary, Some(self.database), catalog, &findings.jobs))
            };
            let outcomes: Vec<_> = member.selected().iter().filter_map(outcome).collect();
            in_sync += i64::from(outcomes.iter().all(Outcome::is_current));
            selected.insert(id, self.context.selected(member, &self.key(), outcomes));
        }
        let every = self.pace.statistics.to_duration();
        let jobs = catalog.map(|_| SeenJobs { reports: &findings.jobs, at: Timestamp::now(), every });
        let tables = catalog.and(statistics).map(|_| &*findings.tables);
        let target_claim = |id: &ResourceId| summaries.get(&ClaimId::from(id.clone()));
        let is_in_sync = |id: &&ResourceId| {
            let summary = target_claim(id).and_then(Option::as_ref);
            !selected.contains_key(id) && summary.is_some_and(|summary| summary.reason == Reason::InSync)
        };
        in_sync += i64::try_from(self.members().keys().filter(is_in_sync).count()).unwrap_or(i64::MAX);
        let reporter = &self.context.reporter;
        let notes_of = |id: &ResourceId| {
            let notes = findings.notes.range(ClaimId::from(id.clone())..);
            let id = id.clone();
            notes.take_while(move |(claim, _)| claim.resource == id).map(|(_, note)| note)
        };
        // Each is made when it is its turn: very many may be told something at once.
        let mut writes = self.members().iter().filter_map(|(id, member)| {
            let mine = notes_of(id);
            let (all, notes, summary) = match selected.get(id) {
                None => (None, mine.collect(), target_claim(id)?.clone()),
                Some(Some((all, lost))) => {
                    (Some(all), mine.chain(lost).collect::<Vec<_>>(), summarize_selected(&member.key(), all))
                }
                // Another database in which the policy has targets has not been looked at yet: its pass says it.
                Some(None) => {
                    let notes: Vec<_> = mine.collect();
                    return (!notes.is_empty()).then(|| member.publish(reporter, notes));
                }
            };
            let (target, database) = (member.target(), Some(self.database));
            let observed = Observed { catalog, statistics, target, selected: all, database, jobs, tables };
            member.settle(reporter, summary, observed, notes, Voice::Loud)
        });
        let is_told = selected.values().all(Option::is_some);
        let first = writes.next();
        let is_news = first.is_some() || !is_told;
        all(first.into_iter().chain(writes)).await?;
        Ok((Totals { reasons, in_sync }, is_news))
    }

    /// Tells the database's resource, last.
    async fn tell_database(&self, in_sync: i64) -> Result<(), Failure> {
        let findings = &self.findings;
        let server = findings.catalog.as_ref().map(|c| &c.server);
        let unusable = server.and_then(|server| plan::unusable(server, self.database.spec.mode));
        let (summary, monitoring_version) = match (server, unusable) {
            _ if self.is_deleting() => (self.in_use(), None),
            (_, Some(rejection)) => (Summary::new(rejection.reason, rejection.message), None),
            (Some(server), None) => self.usable(server),
            (None, None) => (Summary::new(Reason::InternalError, "no catalog was read"), None),
        };
        let facts = TimescaleDatabaseStatus {
            postgres_version: server.map(Server::postgres_version),
            timescaledb_version: server.and_then(|s| s.extension.as_ref()).map(|e| e.version.to_string()),
            license: server.and_then(|s| s.license.clone()),
            monitoring_version,
            resources: i64::try_from(self.members().len()).ok(),
            resources_in_sync: Some(in_sync),
            defaults: desired::effective_defaults(self.database, &self.collected.managed.operator_defaults),
            ..TimescaleDatabaseStatus::default()
        };
        self.context.reporter.say_database(self.database, &summary, facts).await
    }

    /// Leaves what was seen in this pass for metrics and the monitoring API.
    fn publish(&self, reasons: Reasons, failure: Option<Failure>) {
        let observation = self.findings.catalog.as_ref().map(|catalog| {
            let (jobs, tables) = (self.findings.jobs.clone(), self.findings.tables.clone());
            Arc::new(Observation { at: Timestamp::now(), catalog: catalog.clone(), jobs, tables })
        });
        let readings = &self.state.readings;
        self.context.board.update(&self.key(), |snapshot| {
            snapshot.observation = observation.or(snapshot.observation.take());
            snapshot.reading = readings.last().cloned();
            snapshot.reading_failure = readings.failure().cloned();
            snapshot.failure = failure;
            snapshot.reasons = reasons;
            snapshot.connections = self.state.connections();
            snapshot.managed = Some(self.collected.managed.clone());
            snapshot.max_connections = self.database.spec.max_connections.unsigned_abs();
        });
    }

    /// What a policy says of a target in a database that is being deleted.
    fn nothing_more(&self) -> Summary {
        let name = self.database.name_any();
        Summary::new(Reason::InUse, format!("TimescaleDatabase {name} is being deleted; nothing is carried out there"))
    }

    fn in_use(&self) -> Summary {
        let users: Vec<_> = self.users().iter().map(ToString::to_string).collect();
        let message = format!(
            "still in use by {} resource{} whose deletion undoes something in the database ({}{}); delete them, or set spec.deletionPolicy: Orphan to let go of them as they are",
            users.len(),
            if users.len() == 1 { "" } else { "s" },
            users.iter().take(5).cloned().collect::<Vec<_>>().join(", "),
            if users.len() > 5 { ", …" } else { "" },
        );
        Summary::new(Reason::InUse, message)
    }

    /// The database could not be observed. The database's resource says so at once, the attached ones when it lasts or
    /// needs a person. One that is being deleted and cannot be reached lets go in the end, so that a namespace always goes
    /// away.
    pub(super) async fn give_up(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.is_deleting() && (failure.class == Class::User || self.state.failures >= ORPHAN_FAILURES) {
            return self.release_all(&format!("the TimescaleDatabase is being deleted and {failure}")).await;
        }
        self.state.memo.forget_said();
        let summary = Summary::new(failure.reason, failure.message.clone());
        let facts = self.database.status.clone().unwrap_or_default();
        self.context.reporter.say_database(self.database, &summary, facts).await?;

        let reasons = count(self.members().keys().map(|id| (id.kind, failure.reason)));
        self.publish(reasons, Some(failure.clone()));
        let lasting = failure.class != Class::Transient || self.state.failures + 1 >= QUIET_FAILURES;
        let summary = Summary::new(failure.reason, self.out_of_reach());
        let told = self.members().values().filter(|member| lasting || !member.was_ready());
        self.context.tell(told, &self.key(), Some(self.database), &summary, Voice::Quiet).await?;
        Err(failure)
    }

    /// What every attached resource says while the database cannot be observed. Not the failure in its own words: those
    /// may change with every attempt (a process id, an address), and each change would be a write to every resource.
    fn out_of_reach(&self) -> String {
        let (name, namespace) = (self.database.name_any(), &self.namespace);
        format!(
            "TimescaleDatabase {name} is not Ready, so nothing was compared or changed; it says why: kubectl describe timescaledatabase -n {namespace} {name}"
        )
    }

    /// Lets go of every resource, and of the database itself, without touching anything in the database.
    pub(super) async fn release_all(&self, why: &str) -> Result<(), Failure> {
        for (_, member) in self.holders() {
            self.context.let_go(member, &self.key(), why).await?;
        }
        if self.held {
            self.context.reporter.finalize(self.database, false).await?;
        }
        self.context.forget(self.database);
        Ok(())
    }
}

/// How many resources of a kind give a reason.
fn count(all: impl Iterator<Item = (Kind, Reason)>) -> Reasons {
    let mut reasons = Reasons::new();
    for (kind, reason) in all {
        *reasons.entry((kind.as_str(), reason.as_str())).or_default() += 1;
    }
    reasons
}
