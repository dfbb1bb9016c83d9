//! Alerts, runbooks and dashboards keep up with the metrics, and with one another. That their expressions parse, and when
//! each alert fires, is for promtool: `make lint-alerts`.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use timescaledb_policy_operator::api::status::Reason;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const RULES: &str = "charts/timescaledb-policy-operator/alerts/timescaledb-policy-operator.rules.yaml";
const DASHBOARDS: &str = "charts/timescaledb-policy-operator/dashboards";
const RUNBOOK_URL: &str =
    "https://github.com/timescaledb-policy-operator/timescaledb-policy-operator/blob/main/docs/runbooks/";
/// Labels that Prometheus adds to what it scrapes: of the target, where a series has none of that name itself.
const TARGET_LABELS: [&str; 2] = ["job", "namespace"];

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> Result<String> {
    let path = path(relative);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The files of a folder by name, without that of the extension.
fn files(folder: &str, extension: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(extension) {
            found.insert(stem.to_owned(), read(&format!("{folder}/{name}"))?);
        }
    }
    assert!(!found.is_empty(), "{folder} has no file with {extension}");
    Ok(found)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let found = value[key].as_str().unwrap_or_default();
    assert!(!found.is_empty(), "{key} is missing in {value}");
    found
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The alerts in the order of the file.
fn alerts() -> Result<Vec<Value>> {
    let rules: Value = serde_saphyr::from_str(&read(RULES)?)?;
    let alerts: Vec<_> = list(&rules, "groups").iter().flat_map(|group| list(group, "rules")).cloned().collect();
    assert!(!alerts.is_empty(), "{RULES} has no alerts");
    Ok(alerts)
}

/// The dashboards by the name of their file.
fn dashboards() -> Result<BTreeMap<String, Value>> {
    files(DASHBOARDS, ".json")?.into_iter().map(|(name, text)| Ok((name, serde_json::from_str(&text)?))).collect()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// The labels of each metric that docs/metrics.md has.
fn documented() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut metrics = BTreeMap::new();
    for row in read("docs/metrics.md")?.lines().filter(|line| line.starts_with("| `timescaledb_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, name, kind, _unit, labels, ..] = cells[..] else {
            return Err(format!("docs/metrics.md: {row}").into());
        };
        let name = ticked(name).remove(0);
        let labels: BTreeSet<_> = ticked(labels).into_iter().collect();
        if kind == "histogram" {
            let bounds = labels.iter().cloned().chain(["le".to_owned()]).collect();
            metrics.insert(format!("{name}_bucket"), bounds);
            metrics.insert(format!("{name}_sum"), labels.clone());
            metrics.insert(format!("{name}_count"), labels.clone());
        }
        metrics.insert(name, labels);
    }
    assert!(!metrics.is_empty(), "docs/metrics.md lists no metric");
    Ok(metrics)
}

/// What a PromQL expression speaks of.
#[derive(Debug, Default, PartialEq)]
struct Expression {
    /// Each metric, with the labels that its selector matches.
    metrics: Vec<(String, BTreeSet<String>)>,
    /// The labels of `by`, `on` and their like.
    grouping: BTreeSet<String>,
    /// What each label is compared with.
    values: Vec<(String, String)>,
}

impl Expression {
    fn parse(text: &str) -> Result<Self> {
        const MODIFIERS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
        const OPERATORS: [&str; 5] = ["and", "or", "unless", "offset", "bool"];
        let (mut found, mut rest) = (Self::default(), text);
        while let Some(first) = rest.chars().next() {
            if first.is_ascii_digit() || first == '$' {
                // A number, a duration or a variable of the dashboard.
                rest = rest[1..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                continue;
            }
            let name = word(rest);
            if name.is_empty() {
                rest = &rest[first.len_utf8()..];
                continue;
            }
            rest = rest[name.len()..].trim_start();
            if MODIFIERS.contains(&name) {
                let (labels, after) =
                    rest.strip_prefix('(').and_then(|list| list.split_once(')')).unwrap_or(("", rest));
                found.grouping.extend(labels.split(',').map(|label| label.trim().to_owned()).filter(|l| !l.is_empty()));
                rest = after;
            } else if !OPERATORS.contains(&name) && !rest.starts_with('(') && !MODIFIERS.contains(&word(rest)) {
                // Neither an operator nor a function, nor an aggregation, which has its list before or after `by`.
                let mut labels = BTreeSet::new();
                if let Some(mut matchers) = rest.strip_prefix('{') {
                    while !matchers.starts_with('}') {
                        matchers = matchers.trim_start_matches([',', ' ', '\n']);
                        let (label, quoted) = matchers.split_once('"').ok_or("a matcher has a value")?;
                        let (value, after) = quoted.split_once('"').ok_or("a value ends")?;
                        let label = label.trim_end_matches(['=', '!', '~', ' ']).to_owned();
                        found.values.push((label.clone(), value.to_owned()));
                        labels.insert(label);
                        matchers = after;
                    }
                    rest = &matchers[1..];
                }
                found.metrics.push((name.to_owned(), labels));
            }
        }
        Ok(found)
    }
}

/// The identifier that a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    &text[..end]
}

/// The words between two marks.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close)).map(|(inside, _)| inside.trim())
}

/// Every expression that alerts, panels and variables ask for, with where it stands.
fn expressions() -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for alert in alerts()? {
        all.push((text(&alert, "alert").to_owned(), text(&alert, "expr").to_owned()));
    }
    for (name, dashboard) in dashboards()? {
        for panel in panels(&dashboard) {
            let at = format!("{name}: {}", text(panel, "title"));
            assert!(!list(panel, "targets").is_empty(), "{at} asks nothing");
            all.extend(list(panel, "targets").iter().map(|target| (at.clone(), text(target, "expr").to_owned())));
        }
        for variable in list(&dashboard["templating"], "list").iter().filter(|v| v["type"] == "query") {
            let question = text(&variable["query"], "query");
            let asked = question.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) =
                asked.and_then(|asked| asked.rsplit_once(", ")).ok_or("label_values(selector, label)")?;
            all.push((
                format!("{name}: variable {}", text(variable, "name")),
                format!("count by ({label}) ({selector})"),
            ));
        }
    }
    Ok(all)
}

#[test]
fn every_metric_and_label_that_alerts_and_dashboards_ask_for_is_documented() -> Result {
    let documented = documented()?;
    for (at, text) in expressions()? {
        let expression = Expression::parse(&text)?;
        assert!(!expression.metrics.is_empty(), "{at}: no metric in {text}");
        let mut known: BTreeSet<&str> = TARGET_LABELS.into();
        for (metric, matched) in &expression.metrics {
            // Prometheus' own: it has the labels of whatever alert.
            if metric == "ALERTS" {
                known.extend(["alertname", "alertstate", "severity"]);
                known.extend(documented.values().flatten().map(String::as_str));
                continue;
            }
            let labels = documented.get(metric).unwrap_or_else(|| panic!("{at}: docs/metrics.md has no {metric}"));
            for label in matched {
                let is_known = labels.contains(label) || TARGET_LABELS.contains(&label.as_str());
                assert!(is_known, "{at}: {metric} has no label {label}");
            }
            known.extend(labels.iter().map(String::as_str));
        }
        for label in &expression.grouping {
            assert!(known.contains(label.as_str()), "{at}: no metric of it has the label {label}");
        }
    }
    Ok(())
}

#[test]
fn every_reason_that_is_asked_for_is_one() -> Result {
    let reasons: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let mut seen = 0;
    for (at, text) in expressions()? {
        for (_, value) in Expression::parse(&text)?.values.iter().filter(|(label, _)| label == "reason") {
            for reason in value.split('|') {
                assert!(reasons.contains(reason), "{at}: {reason} is not a reason");
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no expression asks for a reason");
    Ok(())
}

#[test]
fn every_alert_has_its_runbook_and_its_tests_and_there_is_no_other() -> Result {
    let alerts = alerts()?;
    let names: Vec<_> = alerts.iter().map(|alert| text(alert, "alert")).collect();
    let unique: BTreeSet<_> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len(), "two alerts have the same name: {names:?}");

    let mut pages = files("docs/runbooks", ".md")?;
    let index = pages.remove("README").ok_or("docs/runbooks/README.md is missing")?;
    assert_eq!(pages.keys().map(String::as_str).collect::<BTreeSet<_>>(), unique, "pages (left) and alerts (right)");
    let rows: Vec<_> = index.lines().filter_map(|line| line.strip_prefix("| [")).collect();
    assert_eq!(rows.len(), names.len(), "docs/runbooks/README.md has one row for each alert");
    for ((alert, name), row) in alerts.iter().zip(&names).zip(rows) {
        let severity = text(&alert["labels"], "severity");
        assert!(["critical", "warning"].contains(&severity), "{name}: severity {severity}");
        let expected = format!("{name}]({name}.md) | {severity} | ");
        assert!(row.starts_with(&expected), "docs/runbooks/README.md: {row:?} should begin with {expected:?}");
        let annotations = &alert["annotations"];
        assert_eq!(text(annotations, "runbook_url"), format!("{RUNBOOK_URL}{name}.md"));
        for key in ["summary", "description"] {
            assert!(annotations[key].is_string(), "{name}: no {key}");
        }

        let page = &pages[*name];
        assert_eq!(page.lines().next(), Some(format!("# {name}").as_str()), "the title of {name}.md");
        let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, ["Impact", "Diagnosis", "Fix"], "the sections of {name}.md");
    }

    let tests: String = files("tests/alerts", "_test.yaml")?.into_values().collect();
    let tested: BTreeSet<_> = tests.lines().filter_map(|line| line.trim().strip_prefix("- alertname: ")).collect();
    assert_eq!(tested, unique, "tests/alerts (left) and alerts (right)");
    Ok(())
}

#[test]
fn every_panel_has_what_a_reader_needs() -> Result {
    for (name, dashboard) in dashboards()? {
        let variables: BTreeSet<_> =
            list(&dashboard["templating"], "list").iter().map(|variable| text(variable, "name")).collect();
        for panel in panels(&dashboard) {
            let at = format!("{name}: {}", text(panel, "title"));
            let defaults = &panel["fieldConfig"]["defaults"];
            for (value, key) in [(panel, "description"), (defaults, "unit"), (defaults, "noValue")] {
                assert!(value[key].is_string(), "{at}: {key} is missing");
            }
            assert!(!list(&defaults["thresholds"], "steps").is_empty(), "{at}: no thresholds");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{at}");
            for target in list(panel, "targets") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{at}");
                let expr = text(target, "expr");
                for variable in expr.split('$').skip(1).map(word) {
                    let is_known = variable == "__rate_interval" || variables.contains(variable);
                    assert!(is_known, "{at}: the dashboard has no variable {variable}");
                }
                let grouping = Expression::parse(expr)?.grouping;
                for label in target["legendFormat"].as_str().into_iter().flat_map(|legend| between(legend, "{{", "}}"))
                {
                    assert!(grouping.contains(label), "{at}: the legend has {label}, and {expr} drops it");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn dashboards_keep_their_uid_and_their_links_lead_somewhere() -> Result {
    let dashboards = dashboards()?;
    for (name, dashboard) in &dashboards {
        assert_eq!(text(dashboard, "uid"), name, "the name of the file is the uid");
        assert!(dashboard["id"].is_null(), "{name}: an id belongs to one Grafana");
        for target in between(&dashboard.to_string(), "\"/d/", "?") {
            assert!(dashboards.contains_key(target), "{name}: a link to {target}, which is no dashboard");
        }
    }
    Ok(())
}

#[test]
fn panels_lie_beside_one_another() -> Result {
    for (name, dashboard) in dashboards()? {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeMap::new());
        for panel in list(&dashboard, "panels") {
            let title = text(panel, "title");
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{name}: {title} has the id of another panel");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
            assert!(x + w <= 24, "{name}: {title} ends beyond the page");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                if let Some(other) = taken.insert(cell, title) {
                    panic!("{name}: {title} lies on {other}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn expressions_are_read_as_promql() -> Result {
    let text = "max by (database, table) (last_over_time(a_total{database=~\"$db\",reason!~\"A|B\"}[10m] offset 1d)) > 0.5e3\n\
                unless on (database) (b == 0 or time() - group_left_c{le=\"1\"} >= 1)";
    let labels = |all: &[&str]| all.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let expected = Expression {
        metrics: vec![
            ("a_total".to_owned(), labels(&["database", "reason"])),
            ("b".to_owned(), labels(&[])),
            ("group_left_c".to_owned(), labels(&["le"])),
        ],
        grouping: labels(&["database", "table"]),
        values: [("database", "$db"), ("reason", "A|B"), ("le", "1")]
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .to_vec(),
    };
    assert_eq!(Expression::parse(text)?, expected);
    Ok(())
}
