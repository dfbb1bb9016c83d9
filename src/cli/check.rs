//! `check`: what is wrong with a database, and what to do.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::{Args, ValueEnum};

use super::{
    Outcome,
    connection::Connection,
    output::{self, styled},
};
use crate::{
    api::{status::Reason, timescale_database::Mode, types::Interval},
    catalog::{Answers, statistics::Statistics},
    check::{self, Facts, Finding, Part, Report, Rule, Scope, Severity},
    db::Session,
    error::{Class, Failure},
    plan,
};

/// Options of `check`.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The database.
    #[command(flatten)]
    pub connection: Connection,
    /// How findings are printed.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Format,
    /// The least severity that ends with exit code 2.
    #[arg(long, value_enum, default_value = "warning", value_name = "SEVERITY")]
    pub fail_on: FailOn,
    /// Check these rules only, by id, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "RULE")]
    pub only: Vec<Rule>,
    /// Do not check these rules.
    #[arg(long, value_delimiter = ',', value_name = "RULE")]
    pub skip: Vec<Rule>,
    /// Look at objects in these schemas only. The server and roles are looked at all the same.
    #[arg(long, value_delimiter = ',', value_name = "SCHEMA")]
    pub schema: Vec<String>,
    /// The role that the operator logs in as, to judge what it lacks; that is then a warning. Left out: the role of the
    /// connection.
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// For how long the server must have counted scans before an index without any counts as unused.
    #[arg(long, value_name = "INTERVAL", default_value = "7 days")]
    pub unused_after: Interval,
}

/// Forms of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, worst first.
    Table,
    /// Everything, for programs.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// What ends with exit code 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Warnings and critical findings.
    Warning,
    /// Critical findings only.
    Critical,
    /// Nothing.
    Never,
}

/// Checks the database.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { connection, output, fail_on, only, skip, schema, role, unused_after } = options;
    let session = connection.open().await?;
    let scope = Scope {
        only: only.into_iter().collect(),
        skip: skip.into_iter().collect(),
        schemas: schema.into_iter().collect(),
        unused_after,
        role_named: role.is_some(),
    };
    let report = read(&session, role.as_deref(), &scope).await?;
    let text = match output {
        Format::Table => table(&report),
        Format::Json => output::json(&report)?,
        Format::Sarif => output::json(&check::sarif::log(&report))?,
    };
    output::print(&text)?;
    let fails = match fail_on {
        FailOn::Warning => report.reaches(Severity::Warning),
        FailOn::Critical => report.reaches(Severity::Critical),
        FailOn::Never => false,
    };
    Ok(if fails { Outcome::Differs } else { Outcome::Clean })
}

/// Reads all that the rules go by: a fixed number of queries, whatever the number of objects.
async fn read(session: &Session, role: Option<&str>, scope: &Scope) -> Result<Report, Failure> {
    // Which relations there are, and then those with their indexes.
    let mut catalog = session.observe(&[]).await?;
    let works = plan::unusable(&catalog.server, Mode::Observe).is_none();
    let mut inspection = session.inspect(works, role).await?;
    let (mut statistics, mut errors, mut answers) = (None, BTreeMap::new(), Answers::new());
    if works {
        let relations: Vec<_> = catalog.hypertables.keys().chain(catalog.aggregates.keys()).cloned().collect();
        // The predicate of an index is printed only without somebody else's lock on its table.
        match session.observe(&relations.iter().collect::<Vec<_>>()).await {
            Ok(with_indexes) => catalog = with_indexes,
            Err(failure) if is_fatal(&failure) => return Err(failure),
            Err(failure) => drop(inspection.unread.insert(Part::Indexes, failure.message)),
        }
        statistics = match session.statistics(&catalog).await {
            Ok(read) => Some(read),
            Err(failure) if is_fatal(&failure) => return Err(failure),
            Err(failure) => {
                inspection.unread.insert(Part::Statistics, failure.message);
                None
            }
        };
        let others = statistics.iter().flat_map(|Statistics { other_jobs, .. }| other_jobs);
        let failed = catalog.jobs.iter().map(|job| (job.id, &job.statistics));
        let failed = failed.chain(others.map(|job| (job.id, &job.statistics)));
        let failed = failed.filter(|(_, statistics)| statistics.consecutive_failures > 0).map(|(id, _)| id).collect();
        errors = session.job_errors(&failed).await?;
        let questions = check::candidates(&inspection);
        if let Some(extension) = catalog.server.extension.as_ref().filter(|_| !questions.is_empty()) {
            match session.ask(&questions, extension, &mut answers).await {
                Err(failure) if is_fatal(&failure) => return Err(failure),
                Err(failure) => drop(inspection.unread.insert(Part::Tables, failure.message)),
                Ok(()) => {}
            }
        }
    }
    let facts = Facts {
        catalog: &catalog,
        statistics: statistics.as_ref(),
        errors: &errors,
        inspection: &inspection,
        answers: &answers,
    };
    Ok(check::check(&facts, scope))
}

/// Nothing more can be read.
fn is_fatal(failure: &Failure) -> bool {
    failure.reason == Reason::DatabaseUnreachable || failure.class == Class::Bug
}

fn style(severity: Severity) -> anstyle::Style {
    match severity {
        Severity::Critical => output::BAD,
        Severity::Warning => output::NOTICE,
        Severity::Info => output::FAINT,
    }
}

/// For people: by severity, what was found, why it matters, what to do; last the counts.
fn table(report: &Report) -> String {
    let mut text = String::new();
    for severity in Severity::ALL {
        let found: Vec<_> = report.findings.iter().filter(|finding| finding.severity == severity).collect();
        if found.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\n", styled(style(severity).bold(), severity.as_str().to_uppercase()));
        let mut told = None;
        for finding in found {
            if told != Some(finding.rule) {
                told = Some(finding.rule);
                let rule = styled(style(severity), finding.rule);
                let _ = writeln!(text, "{rule}  {}", styled(output::FAINT, finding.why));
            }
            describe(&mut text, finding);
        }
    }
    for gap in &report.unchecked {
        let rules: Vec<_> = gap.rules.iter().map(|rule| rule.id()).collect();
        // Of many rules the number says more.
        let rules = if rules.len() > 4 { format!("{} rules", rules.len()) } else { rules.join(", ") };
        let _ = writeln!(text, "{} {rules}: {}", styled(output::STRONG, "not checked:"), gap.reason);
    }
    if !report.unchecked.is_empty() {
        text.push('\n');
    }
    let check::Summary { critical, warning, info } = report.summary;
    let plural = if warning == 1 { "" } else { "s" };
    let timescaledb = report.timescaledb.as_ref().map(|version| format!(", TimescaleDB {version}")).unwrap_or_default();
    let _ = writeln!(
        text,
        "{critical} critical, {warning} warning{plural}, {info} info: database {} (PostgreSQL {}{timescaledb}) as {}",
        report.database, report.postgres, report.role
    );
    text
}

fn describe(text: &mut String, finding: &Finding) {
    let Finding { object, message, fix, .. } = finding;
    let _ = writeln!(text, "  {}: {message}", styled(output::STRONG, object));
    let _ = writeln!(text, "    {} {}", styled(output::GOOD, "fix:"), fix.text);
    if let Some(sql) = &fix.sql {
        let _ = writeln!(text, "      {sql};");
    }
    for line in fix.resource.iter().flat_map(|resource| resource.lines()) {
        let _ = writeln!(text, "      {line}");
    }
    text.push('\n');
}
