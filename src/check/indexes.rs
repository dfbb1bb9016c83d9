//! Indexes of hypertables and aggregates: invalid, the same twice, covered by another, unused, missing.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Facts, Finding, Fix, IndexUsage, Object, ObjectKind, Part, Rule, Scope, Unchecked, listed, policies::object,
};
use crate::{
    api::{
        MADE_BY,
        types::{Interval, Relation, SqlName},
    },
    catalog::{Index, IndexKey},
    sql,
};

/// Smaller indexes may stay unused.
const WORTH_DROPPING: i64 = 1 << 20;
/// How the name of an index begins that the operator is building.
const BUILDING: &str = "tsdbop_building_";

/// From when on sequential scans are many: the rule of the view `missing_indexes` (sql/monitoring), and more than policies
/// make themselves, which read each chunk a few times.
const MANY_SCANS: i64 = 100;
const MANY_ROWS: i64 = 10_000;
const SCANS_PER_CHUNK: i64 = 10;

type Indexes = BTreeMap<SqlName, Index>;

pub(super) fn check(facts: &Facts<'_>, scope: &Scope) -> Vec<Finding> {
    let catalog = facts.catalog;
    let tables = catalog.hypertables.iter().map(|(relation, host)| (relation, &relation.schema, &host.indexes));
    let aggregates = catalog.aggregates.iter().map(|(relation, aggregate)| {
        let schema = aggregate.materialization.as_ref().map_or(&relation.schema, |behind| &behind.schema);
        (relation, schema, &aggregate.hypertable.indexes)
    });
    let mut found = Vec::new();
    for (relation, schema, indexes) in tables.chain(aggregates) {
        found.extend(invalid(relation, schema, indexes));
        found.extend(superfluous(facts, relation, schema, indexes));
        found.extend(unused(facts, scope, relation, schema, indexes));
    }
    for (relation, read) in &facts.inspection.hypertables {
        let (scans, by_index) = (read.sequential_scans, read.index_scans);
        let rows = read.sequential_rows / scans.max(1);
        let chunks = facts.statistics.and_then(|s| s.tables.get(relation)).map(|found| found.chunks);
        let many = chunks.map(|chunks| MANY_SCANS.max(chunks.saturating_mul(SCANS_PER_CHUNK)));
        if many.is_some_and(|many| scans >= many) && scans > by_index && rows >= MANY_ROWS {
            let message =
                format!("{scans} sequential scans of its chunks, of {rows} rows each, and {by_index} index scans");
            let fix = Fix::words(
                "Look at the queries (pg_stat_statements): an index on what they filter by, with the time column behind it, goes into spec.indexes. Those that compute over all rows are what a continuous aggregate is for.",
            );
            let finding = Finding::new(Rule::MissingIndex, object(catalog, relation), message, fix);
            found.push(finding.with("sequentialScans", scans).with("indexScans", by_index).with("rowsPerScan", rows));
        }
        for key in &read.foreign_keys {
            let columns: Vec<_> = key.columns.iter().map(SqlName::as_str).collect();
            let columns = columns.join(", ");
            let message = format!("the foreign key {} ({columns}) to {} has no index", key.name, key.references);
            let fix = Fix::words(format!(
                "Where rows of {} are deleted, add an index that begins with ({columns}) to spec.indexes.",
                key.references
            ));
            let finding = Finding::new(Rule::ForeignKeyWithoutIndex, object(catalog, relation), message, fix);
            found.push(finding.with("columns", columns).with("references", key.references.clone()));
        }
    }
    found
}

/// Why unused indexes cannot be told yet.
pub(super) fn too_young(facts: &Facts<'_>, scope: &Scope) -> Option<Unchecked> {
    let rules = vec![Rule::IndexUnused];
    let unused_after = scope.unused_after;
    match counted_for(facts) {
        None => Some(Unchecked { rules, reason: "it is not known since when the server counts scans".to_owned() }),
        Some(age) if age < unused_after.to_duration() => {
            let reason = format!(
                "the server has counted scans for {} only, and an index counts as unused after {unused_after}",
                whole_hours(age)
            );
            Some(Unchecked { rules, reason })
        }
        Some(_) => None,
    }
}

/// Tables whose use of indexes was not read, because somebody else has them for themselves.
pub(super) fn busy(facts: &Facts<'_>, scope: &Scope) -> Option<Unchecked> {
    if facts.inspection.unread.contains_key(&Part::Indexes) {
        return None;
    }
    let catalog = facts.catalog;
    let aggregates = catalog.aggregates.iter().map(|(relation, aggregate)| (relation, &aggregate.hypertable));
    let busy = catalog.hypertables.iter().chain(aggregates).filter(|(relation, host)| {
        let mut names = host.indexes.keys();
        scope.includes(Some(&relation.schema))
            && !host.indexes.is_empty()
            && names.all(|name| usage(facts, relation, name).is_none())
    });
    let tables = listed(busy.map(|(relation, _)| relation))?;
    let reason = format!("another session holds {tables} locked: how their indexes are used could not be read");
    Some(Unchecked { rules: vec![Rule::IndexUnused], reason })
}

/// An age in words, cut to hours.
fn whole_hours(age: Duration) -> String {
    match i64::try_from(age.as_secs() / 3600) {
        Ok(0) => "less than an hour".to_owned(),
        Ok(hours) => Interval::from_micros(hours.saturating_mul(3_600_000_000)).to_string(),
        Err(_) => "ever".to_owned(),
    }
}

/// For how long the server has counted scans, at least.
fn counted_for(facts: &Facts<'_>) -> Option<Duration> {
    let server = &facts.inspection.server;
    Some(Duration::try_from(server.now.duration_since(server.counted_since?)).unwrap_or_default())
}

fn usage(facts: &Facts<'_>, relation: &Relation, name: &SqlName) -> Option<IndexUsage> {
    facts.inspection.indexes.get(&(relation.clone(), name.clone())).copied()
}

fn finding(rule: Rule, relation: &Relation, name: &SqlName, message: impl Into<String>, fix: Fix) -> Finding {
    Finding::new(rule, Object::part_of(ObjectKind::Index, relation, name.as_str()), message, fix)
}

/// How an index is dropped: by the resource that it was made for, or by the owner of the table.
fn drop_index(relation: &Relation, schema: &SqlName, name: &SqlName, index: &Index) -> Fix {
    if let Some(resource) = index.comment.as_ref().and_then(|comment| comment.strip_prefix(MADE_BY)) {
        return Fix::words(format!("Take it off spec.indexes of {resource}; the operator then drops it."));
    }
    let words = Fix::words("Drop it, if nothing else needs it; take it off spec.indexes first, where it is listed.");
    if index.constraint {
        return words.with_sql(format!(
            "ALTER TABLE {} DROP CONSTRAINT {}",
            sql::quote_relation(relation),
            sql::quote_ident(name)
        ));
    }
    words.with_sql(format!("DROP INDEX {}.{}", sql::quote_ident(schema), sql::quote_ident(name)))
}

fn invalid(relation: &Relation, schema: &SqlName, indexes: &Indexes) -> Vec<Finding> {
    let found = indexes.iter().filter(|(name, index)| !index.valid && !name.as_str().starts_with(BUILDING));
    let found = found.map(|(name, index)| {
        let message =
            format!("{index} is not valid: its build was cut off, or still goes on (pg_stat_progress_create_index)");
        let fix = drop_index(relation, schema, name, index);
        let fix = Fix { text: format!("{} Then build it again.", fix.text), ..fix };
        finding(Rule::IndexInvalid, relation, name, message, fix)
    });
    found.collect()
}

/// What another index makes superfluous: the same twice, and what is a prefix of another.
fn superfluous(facts: &Facts<'_>, relation: &Relation, schema: &SqlName, indexes: &Indexes) -> Vec<Finding> {
    let valid: Vec<_> = indexes.iter().filter(|(_, index)| index.valid).collect();
    let mut found = Vec::new();
    for (name, index) in &valid {
        let others = || valid.iter().filter(|(other, _)| other != name);
        let same = others().find(|(other, by)| is_same(index, by) && goes_before((other, by), (name, index)));
        let covering = || others().find(|(_, by)| !is_same(index, by) && serves(by, index));
        let (rule, (by_name, by)) = match (same, covering()) {
            (Some(same), _) => (Rule::IndexDuplicate, same),
            (None, Some(covering)) => (Rule::IndexRedundant, covering),
            (None, None) => continue,
        };
        let message = match rule {
            Rule::IndexDuplicate => format!("{index} is the same as {by_name}"),
            _ => format!("{index} begins {by_name}, {by}"),
        };
        let mut one = finding(rule, relation, name, message, drop_index(relation, schema, name, index));
        one = one.with("servedBy", by_name.as_str());
        if let Some(IndexUsage { scans, bytes }) = usage(facts, relation, name) {
            one = one.with("scans", scans).with("bytes", bytes);
        }
        found.push(one);
    }
    found
}

/// Of two that are the same the one that stays: a constraint's, else the operator's, else the first by name.
fn goes_before(a: (&SqlName, &Index), b: (&SqlName, &Index)) -> bool {
    let rank = |(name, index): (&SqlName, &Index)| {
        let made = index.comment.as_ref().is_some_and(|comment| comment.starts_with(MADE_BY));
        (!index.constraint, !made, name.clone())
    };
    rank(a) < rank(b)
}

fn is_same(a: &Index, b: &Index) -> bool {
    let included = |index: &Index| index.include.iter().cloned().collect::<std::collections::BTreeSet<_>>();
    a.method == b.method
        && a.columns == b.columns
        && included(a) == included(b)
        && a.predicate == b.predicate
        && a.unique == b.unique
}

/// Whether one index serves every query that the other one does, and the other one does nothing else.
fn serves(by: &Index, index: &Index) -> bool {
    let enough = by.columns.len() > index.columns.len()
        // Of two with the same columns the one that does more: unique, or with more included.
        || (by.columns.len() == index.columns.len() && (by.unique || by.include.len() > index.include.len()));
    let held = |column: &String| by.include.contains(column) || by.columns.iter().any(|key| key.column == *column);
    !index.unique
        && index.method == "btree"
        && by.method == "btree"
        && by.predicate == index.predicate
        && enough
        && (begins(&by.columns, &index.columns, false) || begins(&by.columns, &index.columns, true))
        && index.include.iter().all(held)
}

/// Whether the keys begin with these, read forwards or backwards.
fn begins(keys: &[IndexKey], with: &[IndexKey], backwards: bool) -> bool {
    let turned = |key: &IndexKey| IndexKey {
        descending: key.descending != backwards,
        nulls_first: key.nulls_first != backwards,
        ..key.clone()
    };
    keys.iter().zip(with).all(|(key, with)| *key == turned(with))
}

fn unused(facts: &Facts<'_>, scope: &Scope, relation: &Relation, schema: &SqlName, indexes: &Indexes) -> Vec<Finding> {
    if facts.inspection.unread.contains_key(&Part::Indexes) || too_young(facts, scope).is_some() {
        return Vec::new();
    }
    let Some(age) = counted_for(facts) else { return Vec::new() };
    let droppable = indexes.iter().filter(|(_, index)| index.valid && !index.unique && !index.constraint);
    let found = droppable.filter_map(|(name, index)| {
        let IndexUsage { scans, bytes } = usage(facts, relation, name)?;
        (scans == 0 && bytes >= WORTH_DROPPING).then(|| {
            let message = format!("{index} was not used on any chunk for {} at least", whole_hours(age));
            let one = finding(Rule::IndexUnused, relation, name, message, drop_index(relation, schema, name, index));
            one.with("scans", scans).with("bytes", bytes).with("countedSeconds", age.as_secs())
        })
    });
    found.collect()
}
