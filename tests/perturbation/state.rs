//! What there is at the end: the database's catalog and the resources, as one list of values that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio_postgres::Client;

use crate::support::Result;

/// Values by where they are, without what names one run: its namespace and ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State(BTreeMap<String, String>);

/// Everything that the resources speak of, and the rows, as names with JSON. `$1` is the schema.
const CATALOG: &str = "
    SELECT 'hypertable ' || hypertable_name, to_jsonb(h) - 'hypertable_schema'
        FROM timescaledb_information.hypertables h WHERE hypertable_schema = $1
    UNION ALL SELECT format('dimension %s of %s', dimension_number, hypertable_name), to_jsonb(d) - 'hypertable_schema'
        FROM timescaledb_information.dimensions d WHERE hypertable_schema = $1
    UNION ALL SELECT format('compression of %s in %s', attname, hypertable_name), to_jsonb(c) - 'hypertable_schema'
        FROM timescaledb_information.compression_settings c WHERE hypertable_schema = $1
    UNION ALL SELECT
            format('job %s of %s #%s', proc_name, coalesce(hypertable_name, 'none'), row_number() OVER (PARTITION BY proc_name, hypertable_name ORDER BY job_id)),
            to_jsonb(j) - '{job_id,next_start,hypertable_schema}'::text[]
                || jsonb_build_object('config', j.config - '{hypertable_id,mat_hypertable_id}'::text[])
        FROM timescaledb_information.jobs j WHERE job_id >= 1000
    UNION ALL SELECT 'aggregate ' || view_name, to_jsonb(a) - 'view_schema'
        FROM timescaledb_information.continuous_aggregates a WHERE view_schema = $1
    UNION ALL SELECT 'relation ' || c.relname, jsonb_build_object(
            'kind', c.relkind, 'valid', i.indisvalid, 'index', pg_get_indexdef(i.indexrelid))
        FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relnamespace = $1::text::regnamespace
    UNION ALL SELECT 'chunks of ' || hypertable_name, to_jsonb(count(*))
        FROM timescaledb_information.chunks WHERE hypertable_schema = $1 GROUP BY hypertable_name
    UNION ALL SELECT 'rows of ' || relname, to_jsonb((xpath('/row/n/text()',
            query_to_xml(format('SELECT count(*) AS n FROM %s', oid::regclass), false, true, '')))[1]::text)
        FROM pg_class WHERE relkind = 'r' AND relnamespace = $1::text::regnamespace";

impl State {
    pub async fn read(database: &Client, objects: &[Value], namespace: &str) -> Result<Self> {
        let mut state = Self::default();
        for row in database.query(CATALOG, &[&namespace]).await? {
            let (name, value): (String, Value) = (row.try_get(0)?, row.try_get(1)?);
            state.add(&name, &value, namespace);
        }
        for object in objects {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', "");
            let mut conditions = object["status"]["conditions"].clone();
            // How a job does depends on how long the operator has known it, and its message names an id.
            if let Some(conditions) = conditions.as_array_mut() {
                conditions.retain(|condition| condition["type"] != "JobHealthy");
            }
            for condition in conditions.as_array_mut().into_iter().flatten() {
                if let Some(condition) = condition.as_object_mut() {
                    condition.remove("lastTransitionTime");
                }
            }
            for (part, value) in [
                ("spec", &object["spec"]),
                ("finalizers", &object["metadata"]["finalizers"]),
                ("generation", &object["metadata"]["generation"]),
                ("observed", &object["status"]["observedGeneration"]),
                ("target", &object["status"]["target"]),
                ("conditions", &conditions),
            ] {
                state.add(&format!("{name} {part}"), value, namespace);
            }
        }
        Ok(state)
    }

    fn add(&mut self, path: &str, value: &Value, namespace: &str) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    self.add(&format!("{path} {name}"), value, namespace);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for (n, value) in items.iter().enumerate() {
                    self.add(&format!("{path} {n}"), value, namespace);
                }
            }
            value => _ = self.0.insert(anonymous(path, namespace), anonymous(&value.to_string(), namespace)),
        }
    }

    /// Where two runs differ that nothing disturbed: what there is says nothing.
    pub fn unsteady(&self, other: &Self) -> BTreeSet<String> {
        let names = self.0.keys().chain(other.0.keys());
        names.filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }

    /// What is not as it was in the other, in words.
    pub fn differences(&self, expected: &Self, unsteady: &BTreeSet<String>) -> Vec<String> {
        let nothing = "nothing".to_owned();
        let names = self.unsteady(expected).into_iter().filter(|name| !unsteady.contains(name));
        let words = names.map(|name| {
            let value = |state: &Self| state.0.get(&name).unwrap_or(&nothing).clone();
            format!("{name}: {}, undisturbed {}", value(self), value(expected))
        });
        words.collect()
    }
}

/// The text without what differs from run to run: the namespace, which is the schema's name too, and ids.
pub fn anonymous(text: &str, namespace: &str) -> String {
    let ids =
        ["_materialized_hypertable_", "_direct_view_", "_partial_view_", "j.id = ", "hypertable_id = ", "Policy ["];
    ids.iter().fold(text.replace(namespace, "plant"), |text, id| {
        let mut parts = text.split(id);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + id + part.trim_start_matches(|c: char| c.is_ascii_digit()))
    })
}

/// How often each statement is there, without what differs from run to run.
pub fn counts(statements: &[String], namespace: &str) -> BTreeMap<String, usize> {
    statements.iter().fold(BTreeMap::new(), |mut counts, text| {
        *counts.entry(anonymous(text, namespace)).or_default() += 1;
        counts
    })
}
