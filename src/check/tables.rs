//! Ordinary tables that look like time series.

use super::{
    Facts, Finding, Fix, Inspection, Object, ObjectKind, Rule, Scope, Severity, TableFacts, TimeColumn, Unchecked, fix,
    listed,
};
use crate::{
    api::types::{Relation, SqlName},
    catalog::{Answer, Question, Table},
    plan::step::bytes_text,
    sql,
};

/// From this size on a time series is better a hypertable, by TimescaleDB's guide (timescale/pg-aiguide,
/// "find-hypertable-candidates": 1M+ rows or 100MB+).
const LARGE_ROWS: i64 = 1_000_000;
const LARGE_BYTES: i64 = 100 << 20;
/// How strictly rows lie in the order of time.
const IN_ORDER: f64 = 0.9;
/// Percent of the inserted rows that may have been changed or deleted.
const CHANGED: i64 = 10;

/// What has to be asked about: the tables that look like time series.
pub fn candidates(inspection: &Inspection) -> Vec<Question> {
    series(inspection).map(|(relation, _, _)| Question::Table(relation.clone())).collect()
}

/// Tables that look like time series, each with its time column.
fn series(inspection: &Inspection) -> impl Iterator<Item = (&Relation, &TableFacts, &TimeColumn)> {
    inspection.tables.iter().filter_map(|(relation, table)| Some((relation, table, time_column(table)?)))
}

/// The column by which rows come in order, where they stay as they are: the one in the strictest order.
fn time_column(table: &TableFacts) -> Option<&TimeColumn> {
    let TableFacts { inserted, updated, deleted, time_columns, .. } = table;
    let changed = updated.saturating_add(*deleted).saturating_mul(100);
    if changed > inserted.saturating_mul(CHANGED) {
        return None;
    }
    let ordered = time_columns.iter().filter(|column| column.not_null);
    let ordered = ordered.filter_map(|column| Some((column, column.correlation.filter(|order| *order >= IN_ORDER)?)));
    // The first of those that are as strict.
    ordered.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(column, _)| column)
}

fn is_large(table: &TableFacts) -> bool {
    table.rows >= LARGE_ROWS || table.bytes >= LARGE_BYTES
}

pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (relation, table, time) in series(facts.inspection) {
        let object = || Object::relation(ObjectKind::Table, relation);
        let evidence = |finding: Finding| {
            let finding =
                finding.with("rows", table.rows).with("bytes", table.bytes).with("correlation", time.correlation);
            finding.with("inserted", table.inserted).with("updated", table.updated).with("deleted", table.deleted)
        };
        let answer = match facts.answers.get(&Question::Table(relation.clone())) {
            Some(Answer::Table(Some(table))) => Some(table),
            _ => None,
        };
        let (obstacles, alter) = answer.map(|table| obstacles(relation, &time.column, table)).unwrap_or_default();
        let large = is_large(table);
        if large {
            let message = format!(
                "{} rows, {}, in the order of {} and seldom changed",
                table.rows,
                bytes_text(table.bytes),
                time.column
            );
            let first = if obstacles.is_empty() { "" } else { " What is in the way is told as conversion-blocked." };
            let text = format!(
                "Let the operator convert it; the table is locked while its rows are moved. `recommend` says which chunk interval fits.{first}"
            );
            let resource = fix::hypertable(&facts.inspection.server.database, relation, &time.column);
            let fix = Fix::words(text).with_resource(&resource);
            found.push(evidence(Finding::new(Rule::ShouldBeHypertable, object(), message, fix)));
        }
        if !obstacles.is_empty() {
            let words = Fix::words(
                "The owner of the table has to change this, because it changes what the table promises; whatever refers to the key must follow.",
            );
            let fix = if alter.is_empty() { words } else { words.with_sql(alter.join("; ")) };
            let severity = if large { Severity::Warning } else { Severity::Info };
            let blocked = Finding::new(Rule::ConversionBlocked, object(), obstacles.join("; "), fix).at(severity);
            found.push(evidence(blocked).with("timeColumn", time.column.as_str()));
        }
    }
    found
}

/// What keeps TimescaleDB from converting the table by this column, and statements against it.
fn obstacles(relation: &Relation, time: &SqlName, table: &Table) -> (Vec<String>, Vec<String>) {
    let mut obstacles = table.obstacles.clone();
    let mut statements = Vec::new();
    let without = table.unique_indexes.iter().filter(|(_, columns)| !columns.iter().any(|held| held == time.as_str()));
    for (index, columns) in without {
        let mut with_time: Vec<_> = columns.clone();
        with_time.push(time.to_string());
        obstacles.push(format!(
            "the unique index {index} ({}) lacks the time column: make it ({}), or drop it",
            columns.join(", "),
            with_time.join(", ")
        ));
        let names: Option<Vec<SqlName>> = with_time
            .iter()
            .map(|column| column.parse().ok().filter(|name| table.columns.contains_key(name)))
            .collect();
        let Some(names) = names else { continue };
        let names: Vec<_> = names.iter().map(sql::quote_ident).collect();
        let (relation, index_name) = (sql::quote_relation(relation), sql::quote_ident(index));
        // Primary keys are named so by PostgreSQL; other names may be of constraints or of plain indexes.
        if index.as_str().ends_with("_pkey") {
            statements.push(format!(
                "ALTER TABLE {relation} DROP CONSTRAINT {index_name}, ADD PRIMARY KEY ({})",
                names.join(", ")
            ));
        }
    }
    (obstacles, statements)
}

/// Large tables of which ANALYZE has seen nothing yet.
pub(super) fn without_statistics(facts: &Facts<'_>, scope: &Scope) -> Option<Unchecked> {
    let unseen = facts.inspection.tables.iter().filter(|(relation, table)| {
        let columns = || table.time_columns.iter().filter(|column| column.not_null);
        table.readable
            && scope.includes(Some(&relation.schema))
            && columns().count() > 0
            && columns().all(|column| column.correlation.is_none())
    });
    let reason = format!("ANALYZE has not been run on {}", listed(unseen.map(|(relation, _)| relation))?);
    Some(Unchecked { rules: vec![Rule::ShouldBeHypertable, Rule::ConversionBlocked], reason })
}
