//! `forecast`: how the storage of a database goes on.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, ValueEnum};

use super::{
    Outcome,
    connection::Connection,
    output::{self, FAINT, STRONG, styled},
    recommend::{must_be_there, must_have_extension, size},
};
use crate::{
    api::{status::Reason, types::Relation},
    catalog::{Catalog, history::float},
    error::{Class, Failure},
    forecast::{
        self, Course, Inputs, Report, Table, Until,
        assumption::{self, Assumption},
        plot,
    },
    plan::step::bytes_text,
    recommend::words,
};

const DAY: f64 = 86_400.0;

/// Options of `forecast`.
#[derive(Debug, Args)]
pub struct Options {
    /// The database.
    #[command(flatten)]
    pub connection: Connection,
    /// How far ahead: `180d`, `6 months`, `P1Y`; at most ten years.
    #[arg(long, value_name = "SPAN", default_value = "180d", value_parser = horizon)]
    pub horizon: f64,
    /// Also say when all together are this large: `500GiB`.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub until_size: Option<i64>,
    /// What to take otherwise than it is; can be given several times. NAME is a table, `schema.table`, the name of its
    /// resource (`metric-hist`) or `*`; FIELD is `dropAfter` or `compressAfter` (an age, or `none`), `ratio` (of
    /// compression) or `ingest` (times as much as now).
    #[arg(long = "set", value_name = "NAME.FIELD=VALUE")]
    pub assumptions: Vec<Assumption>,
    /// A table to speak of, as `schema.name`; can be given several times. Left out: all hypertables and continuous
    /// aggregates, and the rest of the database.
    #[arg(long = "table", value_name = "SCHEMA.NAME")]
    pub tables: Vec<Relation>,
    /// A table, JSON, or the plot.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
    /// Write the plot of history and forecast into this file, as SVG, too.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// In which form a forecast is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For machines, with every point.
    Json,
    /// The plot.
    Svg,
}

/// Reads the database and prints how its storage goes on. Nothing is written to it.
///
/// # Errors
/// When the database cannot be read, a table is not there, or the plot cannot be written.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { connection, horizon, until_size, assumptions, tables, output, plot } = options;
    let session = connection.open().await?;
    let catalog = session.observe(&[]).await?;
    must_have_extension(&catalog)?;
    let only: BTreeSet<_> = tables.into_iter().collect();
    for relation in &only {
        must_be_there(&catalog, relation)?;
    }
    for assumption in &assumptions {
        must_be_for_one(&catalog, assumption)?;
    }
    let history = session.history(&catalog, &[]).await?;
    let report = forecast::forecast(&Inputs {
        catalog: &catalog,
        history: &history,
        horizon_days: horizon,
        until_bytes: until_size,
        assumptions: &assumptions,
        only: &only,
    });
    let svg = || {
        plot::svg(&report).map_err(|error| {
            Failure::new(Class::Bug, Reason::InternalError, format!("the plot cannot be drawn: {error}"))
        })
    };
    if let Some(file) = &plot {
        std::fs::write(file, svg()?)
            .map_err(|error| Failure::new(Class::User, Reason::InvalidSpec, format!("{}: {error}", file.display())))?;
    }
    output::print(&match output {
        Output::Table => text(&report)?,
        Output::Json => output::json(&report)?,
        Output::Svg => svg()?,
    })?;
    Ok(Outcome::Clean)
}

/// An assumption that is for no table would change nothing without a word, one that is for several more than was meant.
fn must_be_for_one(catalog: &Catalog, assumption: &Assumption) -> Result<(), Failure> {
    let all = catalog.hypertables.keys().chain(catalog.aggregates.keys());
    let meant: Vec<_> = all.filter(|relation| assumption.is_for(relation)).collect();
    let problem = match meant.as_slice() {
        [_] => return Ok(()),
        _ if assumption.name == "*" => return Ok(()),
        [] => format!("--set {assumption}: no hypertable and no continuous aggregate is called {}", assumption.name),
        several => {
            let names: Vec<_> = several.iter().map(ToString::to_string).collect();
            format!("--set {assumption}: {} are called so; write the schema, too", names.join(" and "))
        }
    };
    Err(Failure::new(Class::User, Reason::TableNotFound, problem))
}

/// Reads a horizon in days.
fn horizon(text: &str) -> Result<f64, String> {
    let span = assumption::age(text)?.time().ok_or_else(|| format!("{text:?} has no unit; write 180d"))?;
    let days = span.to_duration().as_secs_f64() / DAY;
    if (1.0..=3_652.5).contains(&days) { Ok(days) } else { Err(format!("{text:?} is not between 1 day and 10 years")) }
}

fn text(report: &Report) -> Result<String, Failure> {
    let mut ahead: Vec<f64> = [30.0, 90.0].into_iter().filter(|days| *days < report.horizon_days).collect();
    ahead.push(report.horizon_days);
    let header: Vec<String> = ["TABLE", "SIZE", "A DAY", "TREND", "RATIO", "COMPRESS AFTER", "DROP AFTER"]
        .into_iter()
        .map(str::to_owned)
        .chain(ahead.iter().map(|days| format!("IN {days:.0} DAYS")))
        .chain(["BACK-TEST".to_owned()])
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut rows: Vec<_> = report.tables.iter().map(|table| row(table, &ahead)).collect();
    if let Some(bytes) = report.other_bytes {
        let mut row = vec!["everything else".to_owned(), bytes_text(bytes)];
        row.resize(7, String::new());
        row.extend(ahead.iter().map(|_| bytes_text(bytes)));
        row.push(String::new());
        rows.push(row);
    }
    let mut total = vec![styled(STRONG, "in all"), bytes_text(report.total.bytes)];
    total.resize(7, String::new());
    total.extend(sizes(&report.total, &ahead));
    total.push(error(&report.total));
    rows.push(total);
    let mut lines = vec![output::table(&header, rows)?];
    lines.extend(report.assumptions.iter().map(|assumption| format!("assumed: {assumption}")));
    lines.extend(report.until.as_ref().map(reached));
    lines.push(styled(
        FAINT,
        "± holds 9 of 10 chances. BACK-TEST: the last quarter of the history forecast from what came before, mean absolute error of what came in (MAPE).",
    ));
    for table in &report.tables {
        let note = |note| styled(FAINT, format!("note: {}.{}: {note}", table.schema, table.name));
        lines.extend(table.notes.iter().map(note));
    }
    Ok(lines.join("\n") + "\n")
}

fn row(table: &Table, ahead: &[f64]) -> Vec<String> {
    #[allow(clippy::cast_possible_truncation, reason = "shown with three digits")]
    let bytes = |bytes: f64| bytes_text(bytes as i64);
    let trend = table.ingest.filter(|ingest| ingest.trend_per_day != 0.0).map(|ingest| {
        let sign = if ingest.trend_per_day > 0.0 { '+' } else { '-' };
        format!("{sign}{}", bytes(ingest.trend_per_day.abs()))
    });
    let mut row = vec![
        format!("{}.{}", table.schema, table.name),
        bytes_text(table.course.bytes),
        table.ingest.map(|ingest| bytes(ingest.bytes_per_day)).unwrap_or_default(),
        trend.unwrap_or_default(),
        table.compression_ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default(),
        table.compress_after.clone().unwrap_or_else(|| "never".to_owned()),
        table.drop_after.clone().unwrap_or_else(|| "never".to_owned()),
    ];
    row.extend(sizes(&table.course, ahead));
    row.push(error(&table.course));
    row
}

/// The sizes so many days ahead, with the band.
fn sizes(course: &Course, ahead: &[f64]) -> Vec<String> {
    let now = course.forecast.first().map_or(0.0, |point| float(point.at.as_second()));
    let nearest = |days: f64| {
        let distance = |point: &&forecast::Point| (float(point.at.as_second()) - now - days * DAY).abs();
        course.forecast.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    };
    let size = |point: &forecast::Point| {
        let band = (point.high - point.low) / 2;
        format!("{} ±{}", bytes_text(point.bytes), bytes_text(band))
    };
    ahead.iter().map(|days| nearest(*days).map(size).unwrap_or_default()).collect()
}

fn error(course: &Course) -> String {
    course.back_test.map(|test| format!("{:.1} %", test.mape_percent)).unwrap_or_default()
}

fn reached(until: &Until) -> String {
    let size = bytes_text(until.bytes);
    let days = |days: Option<f64>| days.map_or_else(|| "never".to_owned(), |days| format!("in {}", words(days * DAY)));
    match (until.days, until.earliest_days) {
        (Some(0.0), _) => format!("{size} is reached now"),
        (None, None) => format!("{size} is not reached within ten years"),
        _ => format!(
            "{size} is reached {}: at the earliest {}, at the latest {}",
            days(until.days),
            days(until.earliest_days),
            days(until.latest_days)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_is_a_span_of_time() {
        for (text, days) in [("180d", 180.0), ("6 months", 180.0), ("P1Y", 360.0), ("1 week", 7.0)] {
            assert_eq!(horizon(text), Ok(days), "{text}");
        }
        for wrong in ["180", "0d", "20 years", "soon", "1 hour"] {
            assert!(horizon(wrong).is_err(), "{wrong}: {:?}", horizon(wrong));
        }
    }
}
