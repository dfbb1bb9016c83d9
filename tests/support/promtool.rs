//! Which alerts fire over what was scraped. promtool plays Prometheus: it evaluates the rules over time, and no server
//! has to run for a day until the longest wait of an alert is over.

use std::process::Stdio;

use serde_json::{Value, json};

use super::{Result, installed, process::Folder};

/// The rules that the chart ships.
const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/charts/timescaledb-policy-operator/alerts/timescaledb-policy-operator.rules.yaml"
);
/// How long everything has been as it was scraped: the longest wait of an alert is 26 hours.
const HOURS: i64 = 28;
/// Between two scrapes, and between two evaluations.
const MINUTES: i64 = 5;

/// Looks whether just these alerts fire after everything was as in these samples (`name{labels}` and value) for more
/// than a day, until `now` (in seconds since 1970). An alert is named with the table that it is about, or none (`""`).
/// The error says which fire.
pub async fn fire<'a>(samples: impl Iterator<Item = (&'a str, f64)>, now: i64, alerts: &[(&str, &str)]) -> Result<()> {
    let folder = Folder::new("promtool")?;
    let file = folder.path().join("test.yaml");
    std::fs::write(&file, test(samples, now, alerts).to_string())?; // JSON is YAML
    let program = installed("PROMETHEUS", "prometheus/build.sh", &["promtool"])?.join("promtool");
    let mut command = tokio::process::Command::new(program);
    command.args(["test", "rules"]).arg(&file).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("other alerts fire than {alerts:?}:\n{out}{err}").into())
}

/// The test file of promtool. Counters stand still, and timestamps mean what they mean `now`, because it ends then.
fn test<'a>(samples: impl Iterator<Item = (&'a str, f64)>, now: i64, alerts: &[(&str, &str)]) -> Value {
    let times = HOURS * 60 / MINUTES;
    let series = |(sample, value)| json!({"series": with_target_labels(sample), "values": format!("{value}x{times}")});
    let firing = |(alert, table): &(&str, &str)| {
        let table = if table.is_empty() { String::new() } else { format!(r#",table="{table}""#) };
        json!({"labels": format!(r#"{{alertname="{alert}"{table}}}"#), "value": 1})
    };
    json!({
        "rule_files": [RULES],
        "evaluation_interval": format!("{MINUTES}m"),
        "tests": [{
            "start_timestamp": now - HOURS * 3600,
            "interval": format!("{MINUTES}m"),
            "input_series": samples.map(series).collect::<Vec<_>>(),
            "promql_expr_test": [{
                "expr": r#"group by (alertname, table) (ALERTS{alertstate="firing"})"#,
                "eval_time": format!("{HOURS}h"),
                "exp_samples": alerts.iter().map(firing).collect::<Vec<_>>(),
            }],
        }],
    })
}

/// The sample as Prometheus stores it: with the labels of its target, where it has none of that name.
fn with_target_labels(sample: &str) -> String {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    let own = labels.strip_suffix('}').unwrap_or(labels);
    let mut labels = vec![r#"job="operator",pod="operator-0""#];
    if !own.split(',').any(|label| label.starts_with("namespace=")) {
        labels.push(r#"namespace="operator""#);
    }
    if !own.is_empty() {
        labels.push(own);
    }
    format!("{name}{{{}}}", labels.join(","))
}
