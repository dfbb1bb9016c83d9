//! `recommend`: what the settings of hypertables should be, from what their chunks hold.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf};

use clap::{Args, ValueEnum};

use super::{Outcome, connection::Connection, manifests::Files, output};
use crate::{
    api::{status::Reason, types::Relation},
    catalog::Catalog,
    error::{Class, Failure},
    recommend::{
        self, Fit, Inputs, Report,
        patch::{self, Names},
        text,
    },
};

/// Options of `recommend`.
#[derive(Debug, Args)]
pub struct Options {
    /// The database.
    #[command(flatten)]
    pub connection: Connection,
    /// Memory of the server: `16GiB`, `512MiB` (also `GB`, which is meant as PostgreSQL means it: 1024 × 1024 × 1024 bytes).
    /// Left out: taken from `effective_cache_size` or `shared_buffers`, and said so.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<i64>,
    /// What has to fit into a quarter of the memory.
    #[arg(long, value_enum, default_value = "chunks")]
    pub fit: Fit,
    /// A table to speak of, as `schema.name`; can be given several times. Left out: all hypertables and continuous
    /// aggregates. The memory is divided among all of them either way.
    #[arg(long = "table", value_name = "SCHEMA.NAME")]
    pub tables: Vec<Relation>,
    /// File or folder of manifests, or `-` for standard input, whose names the patch then has; can be given several times.
    #[arg(long = "filename", short = 'f', value_name = "PATH")]
    pub filenames: Vec<PathBuf>,
    /// Also read the folders in a folder.
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// Text with reasons, JSON, or a patch to the resources.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// In which form a report is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Output {
    /// For people: what, from what, by which rule.
    Text,
    /// For machines.
    Json,
    /// Parts of resources in YAML, for Kustomize or `kubectl apply --server-side`.
    Patch,
}

/// Reads the database and prints what should be otherwise. Nothing is written to it.
///
/// # Errors
/// When the database cannot be read, a table is not there, or a file cannot be read.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { connection, memory, fit, tables, filenames, recursive, output } = options;
    let namespace = connection.cluster.namespace.clone().unwrap_or_default();
    let names = Names::of(&Files { filenames, recursive }.read(&namespace)?.resources);
    let session = connection.open().await?;
    let catalog = session.observe(&[]).await?;
    must_have_extension(&catalog)?;
    let only: BTreeSet<_> = tables.into_iter().collect();
    for relation in &only {
        must_be_there(&catalog, relation)?;
    }
    let history = session.history(&catalog, &[]).await?;
    let columns = session.columns(&[]).await?;
    let report = recommend::recommend(&Inputs {
        catalog: &catalog,
        history: &history,
        columns: &columns,
        memory,
        fit,
        only: &only,
    });
    let printed = match output {
        Output::Text => text(&report),
        Output::Json => output::json(&report)?,
        Output::Patch => yaml(&report, &names, connection.cluster.namespace.as_deref())?,
    };
    output::print(&printed)?;
    Ok(Outcome::Clean)
}

fn text(report: &Report) -> String {
    let styles = text::Styles {
        strong: |text| output::styled(output::STRONG, text),
        change: |text| output::styled(output::NOTICE, text),
        faint: |text| output::styled(output::FAINT, text),
    };
    text::render(report, &styles)
}

fn yaml(report: &Report, names: &Names, namespace: Option<&str>) -> Result<String, Failure> {
    let mut all = String::new();
    for patched in patch::documents(report, names, namespace) {
        let text = serde_saphyr::to_string(&patched.document)
            .map_err(|error| Failure::new(Class::Bug, Reason::InternalError, format!("YAML: {error}")))?;
        let comment = patched.comment.map(|comment| format!("# {comment}\n")).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(all, "---\n{comment}{text}");
    }
    Ok(all)
}

/// Without the extension there is nothing to look at.
///
/// # Errors
/// When it is not installed.
pub(super) fn must_have_extension(catalog: &Catalog) -> Result<(), Failure> {
    if catalog.server.extension.is_some() {
        return Ok(());
    }
    let message = "the extension timescaledb is not installed in this database; run CREATE EXTENSION timescaledb";
    Err(Failure::new(Class::User, Reason::ExtensionMissing, message))
}

/// A table that is spoken of must be one.
///
/// # Errors
/// When it is no hypertable and no continuous aggregate.
pub(super) fn must_be_there(catalog: &Catalog, relation: &Relation) -> Result<(), Failure> {
    if catalog.host(relation).is_some() {
        return Ok(());
    }
    let known: BTreeSet<_> = catalog.hypertables.keys().chain(catalog.aggregates.keys()).collect();
    let known: Vec<_> = known.into_iter().take(20).map(ToString::to_string).collect();
    let known = if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
    let message = format!("{relation} is no hypertable and no continuous aggregate; {known}");
    Err(Failure::new(Class::User, Reason::TableNotFound, message))
}

/// Reads a size as PostgreSQL's settings have it: a number and a unit of 1024.
pub(super) fn size(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no size; write 16GiB, 512MiB or 2TiB");
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let power = match unit.trim().to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * 1024_f64.powi(power);
    if !(1.0..9e18).contains(&bytes) {
        return Err(wrong());
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked just now")]
    let bytes = bytes as i64;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_units_of_1024() {
        for (text, bytes) in [
            ("16GiB", 16 << 30),
            ("16GB", 16 << 30),
            ("16 g", 16 << 30),
            ("1.5MiB", 3 << 19),
            ("2TiB", 2 << 40),
            ("1024", 1024),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GiB", "0", "-1GiB", "16 apples", "99999PiB", "1e3"] {
            assert!(size(wrong).is_err(), "{wrong}: {:?}", size(wrong));
        }
    }
}
