//! Dumps of the catalog, compared.

use std::collections::BTreeMap;

use serde_json::Value;

/// Where an oracle looks away, and why. Everything else is an alarm.
pub const RULES: [(&str, &str); 6] = [
    (
        "default index",
        "TimescaleDB makes indexes of its own (<table>_<time>_idx) when a hypertable is made while `indexes` is empty, and never \
         again: documented in the Hypertable's `indexes`.",
    ),
    (
        "rows and chunks",
        "A fresh database cuts the same rows into chunks by the last chunk interval and partitions, a walk by the first.",
    ),
    (
        "migrateData",
        "It matters only for the conversion, which a walk has behind it: the fresh database, whose tables have rows, is given it.",
    ),
    (
        "left out",
        "A field that is left out is not managed: what it said last is said to the fresh database too, which must come out the same.",
    ),
    (
        "not selected",
        "A target that a targetSelector does not select any more keeps its policy: at the end of a walk all are selected.",
    ),
    (
        "nothing is null",
        "The API server's server-side apply turns a list or an object without members into null, and then refuses it by name.",
    ),
];

/// Bugs that are known and not mended yet: part of the operation, part of the alarm, and what it is. They are counted and do not
/// fail the campaign. Mended, the line goes.
pub const KNOWN: [(&str, &str, &str); 1] = [(
    "integerNowFunction",
    "ApprovalRequired",
    "a function that cannot be a clock asks for approval before anybody says so, while integer retention is in force",
)];

/// Without what differs between any two databases: numbers of materialised hypertables, namespaces, names of tablespaces.
pub fn masked(dump: &Value, masks: &[(String, String)]) -> Value {
    let mut text = dump.to_string();
    for (found, mask) in masks {
        text = text.replace(found, mask);
    }
    const NUMBERED: &str = "_materialized_hypertable_";
    let mut parts = text.split(NUMBERED);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str(NUMBERED);
        masked.push('N');
        masked.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    serde_json::from_str(&masked).unwrap_or(Value::Null)
}

/// For the comparison with a fresh database.
pub fn comparable(dump: &Value) -> Value {
    let mut dump = dump.clone();
    for (name, relation) in dump.as_object_mut().into_iter().flatten() {
        let Some(relation) = relation.as_object_mut() else { continue };
        relation.remove("rows");
        relation.remove("chunks");
        let times: Vec<String> =
            relation["dimensions"].as_object().into_iter().flatten().map(|(time, _)| time.clone()).collect();
        if let Some(indexes) = relation.get_mut("indexes").and_then(Value::as_object_mut) {
            for time in &times {
                indexes.remove(&format!("{name}_{time}_idx"));
                for other in &times {
                    indexes.remove(&format!("{name}_{other}_{time}_idx"));
                }
            }
        }
    }
    dump
}

/// The places where two dumps differ, with what each has there.
pub fn differences(one: &Value, other: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", one, other, &mut all);
    all
}

fn compare(place: &str, one: &Value, other: &Value, all: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names: BTreeMap<&String, ()> = one.keys().chain(other.keys()).map(|name| (name, ())).collect();
            for name in names.keys() {
                let of = |members: &serde_json::Map<String, Value>| members.get(*name).cloned().unwrap_or(Value::Null);
                compare(&format!("{place}/{name}"), &of(one), &of(other), all);
            }
        }
        _ if one == other => {}
        _ => all.push(format!("{place}: {one} -> {other}")),
    }
}

/// What was lost between two dumps: rows or chunks of a table. `aggregates`: of aggregates too.
pub fn lost(before: &Value, after: &Value, aggregates: bool) -> Vec<String> {
    let mut all = Vec::new();
    for (name, relation) in before.as_object().into_iter().flatten() {
        if !aggregates && !relation["aggregate"].is_null() {
            continue;
        }
        for what in ["rows", "chunks"] {
            let (had, has) = (relation[what].as_i64().unwrap_or(0), after[name][what].as_i64().unwrap_or(0));
            if has < had {
                all.push(format!("{name} had {had} {what}, and has {has}"));
            }
        }
    }
    all
}
