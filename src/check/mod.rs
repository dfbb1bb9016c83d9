//! What is wrong with a database, and what to do: catalog × statistics × [`Inspection`] → findings.
//!
//! One rule for each thing that is looked for ([`Rule`]); what policies do to each other is judged by the planner's own
//! interlocks, jobs and backlogs as health words and alerts judge them. A rule that lacks what it goes by is told as not
//! checked ([`Unchecked`]), never as passed.

mod aggregates;
mod chunks;
mod compression;
mod fix;
mod indexes;
mod inspection;
mod jobs;
mod policies;
mod rule;
pub mod sarif;
mod server;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub use fix::Fix;
pub use inspection::{
    ForeignKey, HypertableFacts, IndexUsage, Inspection, LEAST_ROWS, Owner, Part, Privileges, Sample, SampledColumn,
    SchemaPrivilege, ServerFacts, TableFacts, TimeColumn,
};
pub use rule::{Rule, Severity};
pub use tables::candidates;

use crate::{
    api::types::{Interval, Relation, SqlName},
    catalog::{
        Answers, Catalog,
        statistics::{JobError, Statistics},
    },
};

/// All that the check goes by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The catalog, with the indexes of every hypertable and aggregate.
    pub catalog: &'a Catalog,
    /// Sizes and backlogs; `None` where they could not be read.
    pub statistics: Option<&'a Statistics>,
    /// The last errors of jobs, of those whose errors the role may read.
    pub errors: &'a BTreeMap<i32, JobError>,
    /// The rest.
    pub inspection: &'a Inspection,
    /// About the tables that [`candidates`] names.
    pub answers: &'a Answers,
}

impl Facts<'_> {
    /// What policies may be set on this server: none in the Apache edition.
    fn has_policies(&self) -> bool {
        self.catalog.server.license.as_deref() != Some("apache")
    }
}

/// What is checked.
#[derive(Clone, Debug)]
pub struct Scope {
    /// These rules only; empty: all.
    pub only: BTreeSet<Rule>,
    /// Not these rules.
    pub skip: BTreeSet<Rule>,
    /// Objects in these schemas only, beside those in none (the server, roles, jobs without a table); empty: all.
    pub schemas: BTreeSet<String>,
    /// How long the server must have counted scans before an index without any counts as unused.
    pub unused_after: Interval,
    /// The role whose privileges are judged was named: what it lacks is then a warning.
    pub role_named: bool,
}

impl Scope {
    fn checks(&self, rule: Rule) -> bool {
        (self.only.is_empty() || self.only.contains(&rule)) && !self.skip.contains(&rule)
    }

    fn includes(&self, schema: Option<&SqlName>) -> bool {
        schema.is_none_or(|schema| self.schemas.is_empty() || self.schemas.contains(schema.as_str()))
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub object: Object,
    /// What was found.
    pub message: String,
    /// The figures that it was found by. Bytes, rows and scans are counted, times are in RFC 3339.
    pub evidence: BTreeMap<&'static str, Value>,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: Fix,
}

impl Finding {
    fn new(rule: Rule, object: Object, message: impl Into<String>, fix: Fix) -> Self {
        let (severity, why) = (rule.severity(), rule.why());
        Self { rule, severity, object, message: message.into(), evidence: BTreeMap::new(), why, fix }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.evidence.insert(name, value.into());
        self
    }

    fn at(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its schema, where it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<SqlName>,
    /// Of an index the table or aggregate it is on; of a policy's job the one it works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<SqlName>,
    /// Its name; of a job the id.
    pub name: String,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "the words of PostgreSQL and TimescaleDB")]
pub enum ObjectKind {
    Server,
    Database,
    Role,
    Schema,
    Hypertable,
    ContinuousAggregate,
    Job,
    Index,
    Table,
}

impl Object {
    fn named(kind: ObjectKind, name: impl Into<String>) -> Self {
        Self { kind, schema: None, of: None, name: name.into() }
    }

    fn relation(kind: ObjectKind, relation: &Relation) -> Self {
        Self { schema: Some(relation.schema.clone()), ..Self::named(kind, relation.name.as_str()) }
    }

    fn part_of(kind: ObjectKind, relation: &Relation, name: impl Into<String>) -> Self {
        Self { of: Some(relation.name.clone()), ..Self { name: name.into(), ..Self::relation(kind, relation) } }
    }
}

/// As people name it: `schema.table`, `schema.table: index`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |schema: &SqlName, name: &str| {
            let relation = name.parse().map(|name| Relation { schema: schema.clone(), name });
            relation.map_or_else(|_| format!("{schema}.{name}"), |relation| relation.to_string())
        };
        let what = match self.kind {
            ObjectKind::Server => "server",
            ObjectKind::Database => "database",
            ObjectKind::Role => "role",
            ObjectKind::Schema => "schema",
            ObjectKind::Job => "job",
            ObjectKind::Index => "index",
            ObjectKind::Hypertable | ObjectKind::ContinuousAggregate | ObjectKind::Table => "",
        };
        match (&self.schema, &self.of) {
            (Some(schema), Some(of)) => write!(f, "{}: {what} {}", quoted(schema, of.as_str()), self.name),
            (Some(schema), None) => f.write_str(&quoted(schema, &self.name)),
            (None, _) => write!(f, "{what} {}", self.name),
        }
    }
}

/// Rules that were not checked, for everything or for some objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unchecked {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Why not, and what would let them be checked.
    pub reason: String,
}

/// The outcome, as `-o json` prints it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The server's time of the check.
    pub at: Timestamp,
    /// Name of the database.
    pub database: String,
    /// The role whose privileges were judged.
    pub role: String,
    /// Version of PostgreSQL.
    pub postgres: String,
    /// Version of TimescaleDB; absent without it.
    pub timescaledb: Option<String>,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// What was not checked.
    pub unchecked: Vec<Unchecked>,
    /// How many findings there are of each severity.
    pub summary: Summary,
}

/// Findings by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the severities' own names")]
pub struct Summary {
    pub critical: usize,
    pub warning: usize,
    pub info: usize,
}

impl Report {
    /// Whether there is a finding of this severity or worse.
    pub fn reaches(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= severity)
    }
}

/// Checks every rule of the scope. The order is by severity, then by rule, then by object.
pub fn check(facts: &Facts<'_>, scope: &Scope) -> Report {
    let blocking = server::blocking(facts);
    let mut unchecked = Vec::new();
    let mut findings = Vec::from_iter(blocking.clone());
    // Without TimescaleDB there is nothing else to look at.
    if let Some(blocking) = blocking.filter(|finding| finding.rule != Rule::Restoring) {
        let rules = Rule::ALL.iter().copied().filter(|rule| *rule != blocking.rule && scope.checks(*rule)).collect();
        unchecked.push(Unchecked { rules, reason: blocking.message });
    } else {
        let jobs = jobs::Jobs::judge(facts);
        findings.extend(server::check(facts, scope));
        findings.extend(jobs.check(facts));
        findings.extend(policies::check(facts, &jobs));
        findings.extend(compression::check(facts));
        findings.extend(aggregates::check(facts, &jobs));
        findings.extend(chunks::check(facts));
        findings.extend(indexes::check(facts, scope));
        findings.extend(tables::check(facts));
        unchecked.extend(gaps(facts, scope));
    }
    findings.retain(|finding| scope.checks(finding.rule) && scope.includes(finding.object.schema.as_ref()));
    findings.sort_by(|a, b| {
        b.severity
            .cmp(&a.severity)
            .then(a.rule.cmp(&b.rule))
            .then_with(|| a.object.cmp(&b.object))
            .then_with(|| a.message.cmp(&b.message))
    });
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let ServerFacts { now, database, role, .. } = &facts.inspection.server;
    let summary =
        Summary { critical: count(Severity::Critical), warning: count(Severity::Warning), info: count(Severity::Info) };
    Report {
        at: *now,
        database: database.clone(),
        role: role.clone(),
        postgres: facts.catalog.server.postgres_version(),
        timescaledb: facts.catalog.server.extension.as_ref().map(|extension| extension.version.to_string()),
        findings,
        unchecked,
        summary,
    }
}

/// What could not be looked at.
fn gaps(facts: &Facts<'_>, scope: &Scope) -> Vec<Unchecked> {
    let inspection = facts.inspection;
    let mut gaps: Vec<_> = inspection
        .unread
        .iter()
        .map(|(part, why)| Unchecked { rules: part.rules().to_vec(), reason: why.clone() })
        .collect();
    if inspection.server.in_recovery {
        let reason = "the server is a standby, where no job runs: check the primary for its workers".to_owned();
        let rules = vec![Rule::SchedulerNotRunning, Rule::TooFewBackgroundWorkers];
        gaps.push(Unchecked { rules, reason });
    }
    gaps.extend(indexes::too_young(facts, scope));
    gaps.extend(indexes::busy(facts, scope));
    let included = |relation: &&Relation| scope.includes(Some(&relation.schema));
    let is_compressed =
        |relation: &&Relation| facts.catalog.host(relation).is_some_and(|host| host.columnstore.is_some());
    let hypertables = inspection.hypertables.iter().filter(|(_, found)| !found.readable).map(|(relation, _)| relation);
    let hypertables = hypertables.filter(is_compressed);
    gaps.extend(unreadable(
        &[Rule::SegmentByTooFine, Rule::SegmentBySingleValue],
        hypertables.filter(included),
        "chunks that are not compressed are not looked into",
    ));
    let tables = inspection.tables.iter().filter(|(_, found)| !found.readable).map(|(relation, _)| relation);
    gaps.extend(unreadable(
        &[Rule::ShouldBeHypertable, Rule::ConversionBlocked],
        tables.filter(included),
        "how they are ordered is not known",
    ));
    gaps.extend(tables::without_statistics(facts, scope));
    for gap in &mut gaps {
        gap.rules.retain(|rule| scope.checks(*rule));
    }
    gaps.retain(|gap| !gap.rules.is_empty());
    gaps
}

fn unreadable<'a>(
    rules: &[Rule],
    relations: impl Iterator<Item = &'a Relation>,
    consequence: &str,
) -> Option<Unchecked> {
    let reason = format!("the role has no SELECT on {}: {consequence}", listed(relations)?);
    Some(Unchecked { rules: rules.to_vec(), reason })
}

/// Some names out of many; `None` where there are none.
fn listed<'a>(relations: impl Iterator<Item = &'a Relation>) -> Option<String> {
    const MOST: usize = 5;
    let names: Vec<_> = relations.map(ToString::to_string).collect();
    let more = names.len().saturating_sub(MOST);
    let first = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    match (names.len(), more) {
        (0, _) => None,
        (_, 0) => Some(first),
        _ => Some(format!("{first} and {more} more")),
    }
}

#[cfg(test)]
mod tests;
