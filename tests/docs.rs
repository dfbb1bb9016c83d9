//! The manual keeps up with the code: every reason, metric, flag and manifest that it must or does speak of.

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::CommandFactory;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use timescaledb_policy_operator::{
    api::{
        self, CompressionPolicy, ContinuousAggregate, GROUP, Hypertable, RetentionPolicy, TimescaleDatabase,
        status::Reason,
    },
    args::Arguments,
    error::{Class, Failure},
    metrics::{self, ApiWrite, Metrics},
};

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// README.md and everything under docs/.
fn pages() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut pages, mut folders) = (vec![root.join("README.md")], vec![root.join("docs")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// The fenced blocks of a language, indented ones too, with the line each begins at.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let (mut found, mut open) = (Vec::new(), None);
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim() == language, number + 2, String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                if let Some((true, start, text)) = open.take() {
                    found.push((start, text));
                }
            }
            (Some((_, _, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a fenced block has no end");
    found
}

#[test]
fn every_reason_has_its_section_in_the_order_of_the_enum() -> Result {
    let page = read("docs/troubleshooting.md")?;
    let mut fenced = false;
    let headings = page.lines().filter(|line| {
        fenced ^= line.trim_start().starts_with("```");
        !fenced && line.starts_with("### ")
    });
    let headings: Vec<_> = headings.map(|line| line["### ".len()..].trim()).collect();
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(headings, reasons, "docs/troubleshooting.md (left) and api::status::Reason (right)");
    Ok(())
}

#[test]
fn every_metric_is_documented_and_no_other() -> Result {
    let metrics = Metrics::default();
    // A series with labels shows once it was counted.
    let failure = Failure::new(Class::Bug, Reason::InternalError, "");
    metrics.pass(Some(&failure), Duration::ZERO);
    metrics.step("add_policy", Some(&failure));
    metrics.drift("Hypertable");
    metrics.drift_corrected("Hypertable");
    metrics.error(&failure);
    metrics.api_write("Hypertable", ApiWrite::Status);

    let mut scraped = BTreeSet::new();
    for line in metrics.text().lines() {
        let Some(("TYPE", of)) = line.strip_prefix("# ").and_then(|line| line.split_once(' ')) else { continue };
        let (name, kind) = of.split_once(' ').expect("a name and a type");
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(scraped.insert(format!("{name}{suffix} {kind}")), "{name} is there twice");
    }
    let described = metrics::descriptions().map(|d| format!("{} {}", d.full_name(), d.kind.as_str()));
    assert_eq!(scraped, described.collect::<BTreeSet<_>>(), "/metrics (left) and its descriptions (right)");
    assert_eq!(read("docs/metrics.md")?, metrics::reference(), "docs/metrics.md: run make generate");
    Ok(())
}

#[test]
fn every_flag_of_run_is_documented_with_its_variable_and_default() -> Result {
    let command = Arguments::command();
    let run = command.find_subcommand("run").expect("the command `run`");
    let page = read("docs/operate.md")?;
    for argument in run.get_arguments().filter(|argument| argument.get_id() != "help") {
        let flag = argument.get_long().expect("a flag has a long form");
        let row = page.lines().find(|line| line.starts_with(&format!("| `--{flag}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/operate.md has no row for --{flag}"));
        let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
        let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
        for cell in variable.into_iter().chain(defaults) {
            assert!(row.contains(&format!("| `{cell}` |")), "--{flag}: {cell} is not in {row}");
        }
    }
    Ok(())
}

/// What `kubectl get` prints has the columns that the definitions have: examples of it grow old otherwise.
#[test]
fn every_table_of_the_manual_has_the_columns_that_kubectl_prints() -> Result {
    let mut known = BTreeSet::new();
    for crd in serde_json::to_value(api::crds())?.as_array().into_iter().flatten() {
        let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
        for wide in [false, true] {
            let shown = columns.iter().filter(|column| wide || column["priority"].as_i64().unwrap_or(0) == 0);
            let names = shown.filter_map(|column| column["name"].as_str()).map(str::to_uppercase);
            known.insert(["NAME".to_owned()].into_iter().chain(names).collect::<Vec<_>>());
        }
    }
    let mut tables = 0;
    for page in pages()? {
        for line in read(&page)?.lines().filter(|line| line.starts_with("NAME ") && line.contains(" READY ")) {
            let header: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            assert!(known.contains(&header), "{}: no kind has the columns {line}", page.display());
            tables += 1;
        }
    }
    assert!(tables > 10, "{tables}");
    Ok(())
}

/// The manifest as its type, and back: nothing that was written may be missing.
fn parse<K: DeserializeOwned + Serialize>(manifest: &Value) -> Result<(), String> {
    let object: K = serde_json::from_value(manifest.clone()).map_err(|error| error.to_string())?;
    let back = serde_json::to_value(object).map_err(|error| error.to_string())?;
    match lost(manifest, &back, "") {
        None => Ok(()),
        Some(path) => Err(format!("{} has no field {path}", manifest["kind"])),
    }
}

/// The first field of the manifest that did not come back.
fn lost(manifest: &Value, back: &Value, path: &str) -> Option<String> {
    match (manifest, back) {
        (Value::Object(written), Value::Object(read)) => written.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match read.get(name) {
                None => Some(path),
                Some(read) => lost(value, read, &path),
            }
        }),
        (Value::Array(written), Value::Array(read)) => {
            written.iter().zip(read).find_map(|(written, read)| lost(written, read, path))
        }
        _ => None,
    }
}

#[test]
fn every_manifest_of_the_manual_is_one() -> Result {
    let mut seen = BTreeSet::new();
    for path in pages()? {
        for (line, block) in blocks(&read(&path)?, "yaml") {
            if !block.contains(&format!("apiVersion: {GROUP}")) {
                continue;
            }
            let at = |error: String| format!("{}:{line}: {error}", path.display());
            let manifests: Vec<Value> = serde_saphyr::from_multiple(&block).map_err(|error| at(error.to_string()))?;
            for manifest in manifests {
                let kind = manifest["kind"].as_str().unwrap_or_default().to_owned();
                let result = match kind.as_str() {
                    "TimescaleDatabase" => parse::<TimescaleDatabase>(&manifest),
                    "Hypertable" => parse::<Hypertable>(&manifest),
                    "CompressionPolicy" => parse::<CompressionPolicy>(&manifest),
                    "RetentionPolicy" => parse::<RetentionPolicy>(&manifest),
                    "ContinuousAggregate" => parse::<ContinuousAggregate>(&manifest),
                    other => Err(format!("\"{other}\" is not one of our kinds")),
                };
                result.map_err(at)?;
                seen.insert(kind);
            }
        }
    }
    assert_eq!(seen.len(), 5, "the manual shows every kind: {seen:?}");
    Ok(())
}

#[test]
fn a_misspelt_field_is_found() -> Result {
    let manifest = "{apiVersion: timescaledb-policy.io/v1alpha1, kind: Hypertable, metadata: {name: t}, spec: {databaseRef: {name: d}, table: t, timeColumn: ts, indexes: [{name: i, columns: [{name: c, ordr: Desc}]}]}}";
    let manifest = serde_saphyr::from_str(manifest)?;
    assert_eq!(
        parse::<Hypertable>(&manifest),
        Err("\"Hypertable\" has no field .spec.indexes.columns.ordr".to_owned())
    );
    Ok(())
}
