//! The indexes that a resource can list.

use std::collections::{BTreeMap, BTreeSet};

use super::details::IndexDetails;
use crate::{
    api::{
        index::{Index, IndexColumn, IndexMethod},
        types::{Nulls, Order, SqlName},
    },
    catalog::{self, IndexKey},
};

/// What the API takes of each (the bounds of its schema).
const MOST_INDEXES: usize = 64;
const MOST_COLUMNS: usize = 32;
const MOST_INCLUDED: usize = 31;
const LONGEST_PREDICATE: usize = 4096;

const METHODS: [IndexMethod; 6] = [
    IndexMethod::Btree,
    IndexMethod::Hash,
    IndexMethod::Gist,
    IndexMethod::Spgist,
    IndexMethod::Gin,
    IndexMethod::Brin,
];

/// The index that TimescaleDB makes of its own accord: only the time column, the newest first.
fn is_on_time(index: &catalog::Index, time: &SqlName) -> bool {
    is_plain(index) && matches!(index.columns.as_slice(), [key] if is_descending(key, time))
}

/// The index that TimescaleDB makes for a column of the space dimension, or that an aggregate groups by: the column, and the
/// newest first.
fn is_on_both(index: &catalog::Index, column: &SqlName, time: &SqlName) -> bool {
    let is_column = |key: &IndexKey| key.column == column.as_str() && !key.descending && !key.nulls_first;
    is_plain(index)
        && matches!(index.columns.as_slice(), [first, second] if is_column(first) && is_descending(second, time))
}

fn is_descending(key: &IndexKey, column: &SqlName) -> bool {
    key.column == column.as_str() && key.descending && key.nulls_first
}

fn is_plain(index: &catalog::Index) -> bool {
    let catalog::Index { method, columns, include, predicate, unique, constraint, comment: _, valid } = index;
    let plain_key = |key: &IndexKey| key.opclass.is_none() && key.collation.is_none();
    method == "btree"
        && include.is_empty()
        && predicate.is_none()
        && !unique
        && !constraint
        && *valid
        && columns.iter().all(plain_key)
}

/// The indexes of a hypertable, without those of constraints, which come with the table.
///
/// A resource that lists any keeps TimescaleDB from making its own, on the time column and on the first `space` column with
/// it. So those are listed where there are others, and left out where they are all there is.
pub(super) fn of_hypertable(
    table: &SqlName,
    time: &SqlName,
    space: Option<&SqlName>,
    live: &BTreeMap<SqlName, catalog::Index>,
    details: &BTreeMap<SqlName, IndexDetails>,
    remarks: &mut Vec<String>,
) -> Vec<Index> {
    let own: BTreeMap<_, _> = live.iter().filter(|(_, index)| !index.constraint).collect();
    // What TimescaleDB takes for such an index: it does not look further than the columns.
    let is_there = |columns: &[&SqlName]| {
        let same = |index: &catalog::Index| {
            index.include.is_empty()
                && index.columns.iter().map(|key| key.column.as_str()).eq(columns.iter().map(|column| column.as_str()))
        };
        live.values().any(|index| index.constraint && same(index))
    };
    let on_space = space.map(|space| (format!("{table}_{space}_{time}_idx"), [space, time]));
    let made_on_time = (!is_there(&[time])).then(|| format!("{table}_{time}_idx"));
    let made_on_space = on_space.filter(|(_, columns)| !is_there(columns)).map(|(name, _)| name);
    let made: BTreeSet<_> = made_on_time.iter().chain(&made_on_space).map(String::as_str).collect();
    let is_default =
        |index: &catalog::Index| is_on_time(index, time) || space.is_some_and(|space| is_on_both(index, space, time));
    if own.keys().map(|name| name.as_str()).eq(made.iter().copied()) && own.values().all(|index| is_default(index)) {
        return Vec::new();
    }
    let listed = list(&own, details, remarks);
    if own.is_empty() {
        let made = made.into_iter().collect::<Vec<_>>().join(" and ");
        remarks.push(format!("it has no indexes, which cannot be said: on a fresh database TimescaleDB makes {made}"));
    }
    listed
}

/// The indexes of what an aggregate has materialised, without those that TimescaleDB makes with it; and whether it made
/// those on the columns that rows are grouped by (`None`: there are no such columns).
pub(super) fn of_aggregate(
    hypertable_id: i32,
    time: &SqlName,
    grouped_by: &BTreeSet<SqlName>,
    live: &BTreeMap<SqlName, catalog::Index>,
    details: &BTreeMap<SqlName, IndexDetails>,
    remarks: &mut Vec<String>,
) -> (Vec<Index>, Option<bool>) {
    let prefix = format!("_materialized_hypertable_{hypertable_id}_");
    let columns: Vec<_> = grouped_by.iter().filter(|column| *column != time).collect();
    let on_group = |index: &catalog::Index, column: &SqlName| is_on_both(index, column, time);
    let is_default = |name: &SqlName, index: &catalog::Index| {
        name.as_str().starts_with(&prefix)
            && (is_on_time(index, time) || columns.iter().any(|column| on_group(index, column)))
    };
    let own: BTreeMap<_, _> =
        live.iter().filter(|(name, index)| !index.constraint && !is_default(name, index)).collect();
    let has = |column: &SqlName| live.iter().any(|(name, index)| is_default(name, index) && on_group(index, column));
    let missing: Vec<_> = columns.iter().filter(|column| !has(column)).map(ToString::to_string).collect();
    let group_indexes = (!columns.is_empty()).then_some(missing.len() < columns.len());
    if group_indexes == Some(true) && !missing.is_empty() {
        remarks.push(format!(
            "the indexes that TimescaleDB makes for columns of GROUP BY are there, but not on {}: on a fresh database it makes them all",
            missing.join(", ")
        ));
    }
    (list(&own, details, remarks), group_indexes)
}

fn list(
    live: &BTreeMap<&SqlName, &catalog::Index>,
    details: &BTreeMap<SqlName, IndexDetails>,
    remarks: &mut Vec<String>,
) -> Vec<Index> {
    let mut listed = Vec::new();
    for (name, index) in live {
        let details = details.get(*name);
        match expressed(name, index, details) {
            Ok(_) if listed.len() == MOST_INDEXES => {
                remarks.push(format!("index {name} is left out: a resource lists no more than {MOST_INDEXES}"));
            }
            Ok(index) => {
                for unsaid in details.iter().flat_map(|details| &details.unsaid) {
                    remarks.push(format!("index {name}: {unsaid} cannot be said"));
                }
                listed.push(index);
            }
            Err(why) => {
                let definition = details.map(|details| format!("\n  {}", details.definition)).unwrap_or_default();
                remarks.push(format!("index {name} is left out: {why}{definition}"));
            }
        }
    }
    listed
}

/// The index as a resource says it, or why none can.
fn expressed(name: &SqlName, index: &catalog::Index, details: Option<&IndexDetails>) -> Result<Index, &'static str> {
    let catalog::Index { method, columns, include, predicate, unique, constraint: _, comment: _, valid } = index;
    if !valid {
        return Err("it is not valid, being built or what a build that was cut off has left");
    }
    if details.is_some_and(|details| details.on_expression) {
        return Err("it is on an expression, not on columns alone");
    }
    let method = METHODS.into_iter().find(|known| known.as_str() == method);
    let method = method.ok_or("its access method is none of PostgreSQL's own")?;
    if columns.iter().any(|key| key.opclass.is_some()) {
        return Err("it has an operator class of its own");
    }
    if columns.iter().any(|key| key.collation.is_some()) {
        return Err("it has a collation of its own");
    }
    if columns.is_empty() || columns.len() > MOST_COLUMNS || include.len() > MOST_INCLUDED {
        return Err("it has more columns than a resource can list");
    }
    if predicate.as_ref().is_some_and(|text| text.chars().count() > LONGEST_PREDICATE) {
        return Err("its predicate is longer than a resource can hold");
    }
    let (is_btree, ordered) =
        (method == IndexMethod::Btree, columns.iter().any(|key| key.descending || key.nulls_first));
    let includes = matches!(method, IndexMethod::Btree | IndexMethod::Gist | IndexMethod::Spgist);
    if !is_btree && (ordered || *unique) || !includes && !include.is_empty() {
        return Err("no resource can say it of its access method");
    }
    Ok(Index {
        name: name.to_string(),
        method,
        unique: *unique,
        columns: columns.iter().map(column).collect(),
        include: include.clone(),
        predicate: predicate.clone(),
    })
}

fn column(key: &IndexKey) -> IndexColumn {
    let (order, nulls) = order(key.descending, key.nulls_first);
    IndexColumn { name: key.column.clone(), order, nulls }
}

/// A direction, and where NULLs sort if that is not as PostgreSQL does by itself.
pub(super) fn order(descending: bool, nulls_first: bool) -> (Order, Option<Nulls>) {
    let order = if descending { Order::Desc } else { Order::Asc };
    let nulls = match (descending, nulls_first) {
        (true, false) => Some(Nulls::Last),
        (false, true) => Some(Nulls::First),
        _ => None,
    };
    (order, nulls)
}
