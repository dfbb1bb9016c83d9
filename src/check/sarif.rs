//! Findings as SARIF 2.1.0, which code scanning reads (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/>): the part of it that
//! says something here. A finding has a logical location, because it is in a database and in no file.

use serde::Serialize;
use serde_json::{Value, json};

use super::{Finding, Report, Rule, Severity};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// Where the rules are described.
const GUIDE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/guide/check.md");

/// A SARIF log with one run.
#[derive(Debug, Serialize)]
pub struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Debug, Serialize)]
struct Run {
    tool: Tool,
    invocations: [Invocation; 1],
    results: Vec<ResultRow>,
}

#[derive(Debug, Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    information_uri: &'static str,
    rules: Vec<ReportingDescriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportingDescriptor {
    id: &'static str,
    short_description: Message,
    full_description: Message,
    help_uri: String,
    default_configuration: Configuration,
}

#[derive(Debug, Serialize)]
struct Configuration {
    level: Level,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Note,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
struct Message {
    text: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    end_time_utc: String,
    /// What was not checked.
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Debug, Serialize)]
struct Notification {
    level: Level,
    message: Message,
    properties: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultRow {
    rule_id: &'static str,
    rule_index: usize,
    level: Level,
    message: Message,
    locations: [Location; 1],
    /// The same in every run for the same finding.
    partial_fingerprints: Value,
    properties: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    logical_locations: [LogicalLocation; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogicalLocation {
    fully_qualified_name: String,
    kind: String,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Note,
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Error,
        }
    }
}

fn message(text: impl Into<String>) -> Message {
    Message { text: text.into() }
}

/// The report as a SARIF log. All rules are described, also those without findings.
pub fn log(report: &Report) -> Log {
    let rules = Rule::ALL.iter().map(|rule| ReportingDescriptor {
        id: rule.id(),
        short_description: message(rule.summary()),
        full_description: message(format!("{} {}", rule.summary(), rule.why())),
        help_uri: format!("{GUIDE}#{}", rule.id()),
        default_configuration: Configuration { level: rule.severity().into() },
    });
    let driver = Driver {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        information_uri: env!("CARGO_PKG_REPOSITORY"),
        rules: rules.collect(),
    };
    let notifications = report.unchecked.iter().map(|gap| Notification {
        level: Level::Note,
        message: message(format!("not checked: {}", gap.reason)),
        properties: json!({"rules": gap.rules}),
    });
    let invocation = Invocation {
        execution_successful: true,
        end_time_utc: report.at.to_string(),
        tool_execution_notifications: notifications.collect(),
    };
    let results = report.findings.iter().map(|finding| result(report, finding)).collect();
    Log { schema: SCHEMA, version: "2.1.0", runs: [Run { tool: Tool { driver }, invocations: [invocation], results }] }
}

fn result(report: &Report, finding: &Finding) -> ResultRow {
    let Finding { rule, severity, object, message: found, evidence, why: _, fix } = finding;
    let name = format!("{}/{object}", report.database);
    ResultRow {
        rule_id: rule.id(),
        rule_index: Rule::ALL.iter().position(|one| one == rule).unwrap_or_default(),
        level: (*severity).into(),
        message: message(format!("{object}: {found}. {}", fix.text)),
        partial_fingerprints: json!({"object/v1": format!("{rule} {name}")}),
        locations: [Location {
            logical_locations: [LogicalLocation {
                fully_qualified_name: name,
                kind: format!("{:?}", object.kind).to_lowercase(),
            }],
        }],
        properties: json!({"evidence": evidence, "fix": fix}),
    }
}
