//! A report for people to read.

use std::fmt::Write as _;

use super::{Fit, Report, Setting, Table, Value, columnstore::figure};
use crate::plan::step::bytes_text;

/// Characters of a line of reasons.
const WIDTH: usize = 100;

/// How parts of the text are set off: what changes, and what stands back.
#[derive(Clone, Copy, Debug)]
pub struct Styles {
    /// Names.
    pub strong: fn(&str) -> String,
    /// What is recommended.
    pub change: fn(&str) -> String,
    /// What is left alone.
    pub faint: fn(&str) -> String,
}

/// The report as text: the memory and its division, then each table with what its settings should be and why.
pub fn render(report: &Report, styles: &Styles) -> String {
    let mut text = String::new();
    let what = match report.fit {
        Fit::Chunks => "the chunks being written to, with their indexes, of all active tables",
        Fit::Indexes => "the indexes of the chunks being written to of all active tables",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "memory {} ({}). A quarter of it, {}, is for {what}.\nWith the present intervals they come to {}, with the recommended ones to {}.",
        bytes_text(report.memory.bytes),
        report.memory.source,
        bytes_text(report.budget_bytes),
        bytes_text(report.present_bytes),
        bytes_text(report.recommended_bytes)
    );
    for table in &report.tables {
        text.push('\n');
        render_table(&mut text, table, styles);
    }
    let mut sources: Vec<_> = report.tables.iter().flat_map(|t| &t.settings).map(|s| (s.field, s.source)).collect();
    sources.sort_unstable();
    sources.dedup();
    if !sources.is_empty() {
        text.push_str("\nsources:\n");
        for (field, source) in sources {
            let _ = writeln!(text, "  {:<14} {source}", field.as_str());
        }
    }
    text
}

fn render_table(text: &mut String, table: &Table, styles: &Styles) {
    let name = format!("{}.{}", table.schema, table.name);
    let kind = if table.kind == "Hypertable" { "" } else { ", a continuous aggregate" };
    let _ = writeln!(text, "{}{kind}", (styles.strong)(&name));
    if let Some(facts) = &table.ingest {
        #[allow(clippy::cast_possible_truncation, reason = "shown with three digits")]
        let bytes = |bytes: f64| bytes_text(bytes as i64);
        let trend = if facts.trend_per_day == 0.0 {
            String::new()
        } else {
            let sign = if facts.trend_per_day > 0.0 { "more" } else { "less" };
            format!(", {} a day {sign} each day", bytes(facts.trend_per_day.abs()))
        };
        let _ = writeln!(
            text,
            "  ingest: {} a day uncompressed ({:.0} % of it indexes){trend}, {} rows a day, {} rows in a chunk; measured over {}",
            bytes(facts.bytes_per_day),
            facts.index_share * 100.0,
            figure(facts.rows_per_day),
            figure(facts.rows_per_chunk),
            super::words(facts.days * 86_400.0)
        );
    }
    for setting in &table.settings {
        render_setting(text, setting, styles);
    }
    for note in &table.notes {
        for line in wrapped(&format!("note: {note}"), WIDTH) {
            let _ = writeln!(text, "  {}", (styles.faint)(&line));
        }
    }
}

fn render_setting(text: &mut String, setting: &Setting, styles: &Styles) {
    let current = setting.current.as_ref().map_or_else(|| "not set".to_owned(), value);
    let line = match &setting.recommended {
        Some(recommended) => {
            (styles.change)(&format!("{:<14} {current} -> {}", setting.field.as_str(), value(recommended)))
        }
        None => format!("{:<14} {current}", setting.field.as_str()),
    };
    let _ = writeln!(text, "  {line}");
    for line in wrapped(&setting.reason, WIDTH) {
        let _ = writeln!(text, "  {:<14} {}", "", (styles.faint)(&line));
    }
}

/// The text in lines of at most so many characters, where its words allow.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut();
        match last {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn value(value: &Value) -> String {
    match value {
        Value::Span(span) => span.to_string(),
        Value::Columns(columns) if columns.is_empty() => "none".to_owned(),
        Value::Columns(columns) => columns.join(", "),
        Value::Order(order) => {
            let one = |sort: &super::OrderColumn| {
                let nulls = sort.nulls.map(|nulls| format!(" NULLS {nulls:?}").to_uppercase()).unwrap_or_default();
                format!("{} {}{nulls}", sort.column, format!("{:?}", sort.order).to_uppercase())
            };
            order.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible", 7), ["incomprehensible"]);
        assert_eq!(wrapped("", 7), [""]);
    }
}
