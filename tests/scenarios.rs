//! The behaviour, one file per promise: `tests/scenarios/<promise>.yaml`.
//!
//! A person writes what the file is `about`, the `resources` and the `database` they meet (a fixture: nothing is
//! connected to). The harness writes the rest, from `expect:` on: what one pass plans, with the exact SQL and what each
//! resource then says of itself; and under `then:` the passes after it, with the steps carried out on the fixture, until
//! nothing is left to do. `make bless` (`BLESS=1`) writes it anew; otherwise a difference is a failure.

mod fixture;

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use fixture::{resources::Resources, world::World};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::{FoldStr, LitStr};
use timescaledb_policy_operator::{
    api::{
        status::{PendingPlan, Reason},
        types::Relation,
    },
    catalog::{Aggregate, Attachments, Catalog, Drops, Extension, Hypertable, Job, Loss, Server, Table},
    desired::ClaimId,
    plan::step::{Plan, Step},
    sql,
    status::{self, Summary},
};

/// What a person writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// The promise, in one sentence.
    about: String,
    /// Manifests to read as well, relative to the project.
    #[serde(default)]
    from: Vec<PathBuf>,
    /// Custom resources as users write them. Left out of `metadata`: `namespace: factory`, `generation: 1` and the
    /// first of January 2026 as `creationTimestamp`.
    #[serde(default)]
    resources: Vec<Value>,
    #[serde(default)]
    database: Fixture,
}

/// The database, in the words of `catalog.rs`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fixture {
    /// Left out: PostgreSQL 17.5 with TimescaleDB 2.23.1, community edition.
    server: Option<Server>,
    hypertables: BTreeMap<Relation, Hypertable>,
    aggregates: BTreeMap<Relation, Aggregate>,
    jobs: Vec<Job>,
    /// What is not a hypertable.
    tables: BTreeMap<Relation, Table>,
    /// What a retention policy would drop.
    drops: BTreeMap<Relation, Drops>,
    #[serde(default)]
    histories: BTreeMap<Relation, Loss>,
    /// The queries that aggregates were made with, where they are not the ones that the resources have.
    definitions: BTreeMap<Relation, String>,
    /// How the server prints predicates, where that is not how they are written.
    predicates: BTreeMap<String, String>,
    /// Texts that the server does not take, with its message.
    errors: BTreeMap<String, String>,
    /// What hangs on aggregates.
    attachments: BTreeMap<Relation, Attachments>,
}

/// What the harness writes.
#[derive(Serialize)]
struct Expectation {
    expect: Pass,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    then: Vec<Pass>,
}

#[derive(PartialEq, Serialize)]
struct Pass {
    steps: Vec<StepView>,
    /// In a later pass those that changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    statuses: BTreeMap<String, Says>,
}

#[derive(PartialEq, Serialize)]
struct StepView {
    resource: String,
    action: &'static str,
    change: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hazards: Vec<Text>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    long: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    after: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search_path: Vec<String>,
    transaction: bool,
    sql: Vec<Text>,
}

#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Says {
    /// What most resources say, in one line: in sync, steps are left, or let go of (the finalizer is removed).
    Short(String),
    Long(Box<StatusView>),
}

#[derive(Clone, PartialEq, Serialize)]
struct StatusView {
    reason: &'static str,
    message: Text,
    conditions: String,
    /// What the message leaves out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanView>,
}

#[derive(Clone, PartialEq, Serialize)]
struct PlanView {
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hazards: Vec<Text>,
    statements: Vec<Text>,
}

/// A text that is folded where it is long, and kept line by line where it has lines.
#[derive(Clone, PartialEq)]
struct Text(String);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.contains('\n') {
            LitStr(&self.0).serialize(serializer)
        } else {
            FoldStr(&self.0).serialize(serializer)
        }
    }
}

fn texts(texts: impl IntoIterator<Item = String>) -> Vec<Text> {
    texts.into_iter().map(Text).collect()
}

/// More passes than any scenario needs.
const MAX_PASSES: usize = 5;

#[test]
fn scenarios() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| !value.is_empty() && value != "0");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(&folder).expect("tests/scenarios").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {}", folder.display());
    let mut failures = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        match check(file, bless) {
            Ok(None) => {}
            Ok(Some(difference)) => failures.push(format!("--- {name}\n{difference}")),
            Err(error) => failures.push(format!("--- {name}\n{error}\n")),
        }
    }
    let (failed, all) = (failures.len(), files.len());
    assert!(
        failures.is_empty(),
        "{failed} of {all} scenarios differ (- as written, + as it is; `make bless` writes them anew)\n\n{}",
        failures.join("\n")
    );
}

/// Runs one scenario. The difference to what the file says, unless the file is written anew.
fn check(file: &Path, bless: bool) -> Result<Option<String>, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let given = match text.find("\nexpect:") {
        Some(end) => &text[..=end],
        None => text.as_str(),
    };
    let expectation = run(serde_saphyr::from_str(given)?)?;
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 120, min_fold_chars: 120 };
    // A folded text ends without a line break.
    let written = serde_saphyr::to_string_with_options(&expectation, options)?.replace(" >\n", " >-\n");
    let read_back: Value = serde_saphyr::from_str(&written)?;
    if read_back != serde_json::to_value(&expectation)? {
        return Err("the expectation reads back as something else".into());
    }
    let wanted = format!("{}\n\n{written}", given.trim_end());
    if wanted == text {
        return Ok(None);
    }
    if bless {
        fs::write(file, wanted)?;
        return Ok(None);
    }
    Ok(Some(difference(&text, &wanted)))
}

fn run(scenario: Scenario) -> Result<Expectation, Box<dyn Error>> {
    let Scenario { about, from, mut resources, database } = scenario;
    if about.trim().is_empty() {
        return Err("a scenario says what it is about".into());
    }
    for path in from {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path))?;
        resources.extend(serde_saphyr::from_multiple::<Value>(&text)?);
    }
    let resources = Resources::read(resources)?;
    let mut world = world(database)?;
    let (desired, rules) = (resources.desired(), resources.rules());

    let mut plan = world.plan(&desired, &rules);
    let expect = view(&plan, &world, &resources);
    let (mut said, mut then) = (expect.statuses.clone(), Vec::new());
    while !plan.steps.is_empty() {
        if then.len() == MAX_PASSES {
            return Err("the passes do not come to an end".into());
        }
        for Step { action, .. } in &plan.steps {
            world.carry_out(action);
        }
        plan = world.plan(&desired, &rules);
        let mut pass = view(&plan, &world, &resources);
        let all = pass.statuses.clone();
        pass.statuses.retain(|resource, says| said.get(resource) != Some(says));
        then.push(pass);
        said = all;
    }
    Ok(Expectation { expect, then })
}

fn world(fixture: Fixture) -> Result<World, Box<dyn Error>> {
    let Fixture {
        server,
        hypertables,
        aggregates,
        jobs,
        tables,
        drops,
        histories,
        definitions,
        predicates,
        errors,
        attachments,
    } = fixture;
    let usual = || {
        let extension = serde_json::json!({"version": "2.23.1", "schema": "public"});
        let extension = Some(serde_json::from_value(extension)?);
        Ok::<_, serde_json::Error>(Server {
            version_num: 170_005,
            extension,
            license: Some("timescale".into()),
            ..Server::default()
        })
    };
    let server = server.map_or_else(usual, Ok)?;
    Ok(World {
        catalog: Catalog { server, hypertables: hypertables.into(), aggregates: aggregates.into(), jobs: jobs.into() },
        tables,
        drops,
        histories,
        definitions,
        predicates,
        errors,
        attachments,
    })
}

fn view(plan: &Plan, world: &World, resources: &Resources) -> Pass {
    let extension = world.catalog.server.extension.as_ref();
    let steps = plan.steps.iter().filter_map(|step| Some(step_view(step, extension?))).collect();
    let namespace = resources.database.metadata.namespace.as_deref().unwrap_or_default();
    let statuses = plan.verdicts.iter().map(|(id, verdict)| {
        let warnings = plan.warnings.get(id).map_or(&[][..], Vec::as_slice);
        let summary = status::summarize(namespace, id, verdict, None, warnings);
        let says =
            summary.map_or(Says::Short("released".to_owned()), |summary| status_view(id, summary, warnings, resources));
        (id.to_string(), says)
    });
    Pass { steps, statuses: statuses.collect() }
}

fn step_view(step: &Step, extension: &Extension) -> StepView {
    let script = sql::render(&step.action, extension);
    let path = script.statements.iter().map(|s| &s.search_path).find(|path| !path.is_empty());
    StepView {
        resource: step.claim.to_string(),
        action: step.action.name(),
        change: Text(step.change.clone()),
        hazards: texts(step.hazards.iter().map(ToString::to_string)),
        long: step.long,
        after: step.after.iter().map(ToString::to_string).collect(),
        search_path: path.into_iter().flatten().map(ToString::to_string).collect(),
        transaction: script.transaction,
        sql: texts(script.statements.into_iter().map(|s| s.text)),
    }
}

fn status_view(id: &ClaimId, summary: Summary, warnings: &[String], resources: &Resources) -> Says {
    let conditions = status::conditions(&resources.conditions(&id.resource), &summary, Some(1), Timestamp::UNIX_EPOCH);
    let conditions = conditions.iter().map(|c| format!("{}={}", c.type_, c.status)).collect::<Vec<_>>().join(", ");
    let Summary { reason, message, plan } = summary;
    if matches!(reason, Reason::InSync | Reason::Retrying) && warnings.is_empty() && plan.is_none() {
        return Says::Short(format!("{reason} ({conditions})"));
    }
    let plan = plan.map(|PendingPlan { digest, hazards, statements }| PlanView {
        digest,
        hazards: texts(hazards),
        statements: texts(statements),
    });
    let warnings = texts(warnings.iter().filter(|warning| !message.contains(*warning)).cloned());
    Says::Long(Box::new(StatusView { reason: reason.as_str(), message: Text(message), conditions, warnings, plan }))
}

/// The lines that differ, each with a few that do not around them.
fn difference(before: &str, after: &str) -> String {
    const AROUND: usize = 3;
    let (a, b): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    // common[i][j]: length of the longest common subsequence of a[i..] and b[j..].
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut lines, mut i, mut j) = (Vec::new(), 0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let (from, to) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(lines.len()));
        lines[from..to].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    for (at, (mark, line)) in lines.iter().enumerate().filter(|(at, _)| near(*at)) {
        if at > 0 && !near(at - 1) {
            text.push_str("  …\n");
        }
        text.extend([mark.to_string().as_str(), " ", line, "\n"]);
    }
    text
}
