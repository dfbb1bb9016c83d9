//! What to do about a finding: our resources where it is the operator's to do, else SQL or words.

use kube::core::Resource;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{
        CompressionPolicy, Hypertable, RetentionPolicy,
        compression_policy::{CompressionPolicySpec, OrderBy},
        hypertable::HypertableSpec,
        retention_policy::RetentionPolicySpec,
        types::{DatabaseRef, PolicyDeletion, Relation, Schedule, Span, SpanText, SqlName, TargetKind, TargetRef},
    },
    resources::resource_name,
};

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// In words.
    pub text: String,
    /// A resource to apply, as YAML.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// A statement for the owner of the object to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
}

impl Fix {
    /// Words only.
    pub fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The same, with a resource to apply.
    #[must_use]
    pub fn with_resource(self, resource: &(impl Resource + Serialize)) -> Self {
        Self { resource: yaml(resource), ..self }
    }

    /// The same, with a statement to run.
    #[must_use]
    pub fn with_sql(self, sql: impl Into<String>) -> Self {
        Self { sql: Some(sql.into()), ..self }
    }
}

/// A resource as people write it: without what is so by default.
fn yaml(resource: &impl Serialize) -> Option<String> {
    let mut value = serde_json::to_value(resource).ok()?;
    prune(&mut value);
    serde_saphyr::to_string(&value).ok().map(|text| text.trim_end().to_owned())
}

/// Leaves out what is empty, off, or the default policy on deletion.
fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(prune);
        fields.retain(|name, value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Object(fields) => !fields.is_empty(),
            Value::Array(items) => !items.is_empty() || name == "segmentBy",
            Value::String(text) => name != "deletionPolicy" || text != "Delete",
            Value::Bool(true) | Value::Number(_) => true,
        });
    }
}

fn target(kind: TargetKind, relation: &Relation) -> TargetRef {
    TargetRef { kind, name: resource_name(relation.name.as_str()) }
}

/// The table as a hypertable by this column, with its rows moved into chunks.
pub fn hypertable(database: &str, relation: &Relation, time: &SqlName) -> Hypertable {
    let spec = HypertableSpec {
        database_ref: DatabaseRef { name: resource_name(database), namespace: None },
        schema: relation.schema.to_string(),
        table: relation.name.to_string(),
        time_column: time.to_string(),
        chunk_interval: Some("1 day".into()),
        integer_now_function: None,
        space_partitions: Vec::new(),
        migrate_data: true,
        chunk_skipping: None,
        tablespaces: None,
        indexes: Vec::new(),
        reorder: None,
    };
    Hypertable::new(&resource_name(relation.name.as_str()), spec)
}

/// A compression policy for the hypertable or aggregate. What it segments and orders by is TimescaleDB's choice, and when it
/// compresses that of the `TimescaleDatabase`, where nothing is given.
pub fn compression(
    kind: TargetKind,
    relation: &Relation,
    after: Option<Span>,
    segment_by: Option<Vec<String>>,
    order_by: Option<Vec<OrderBy>>,
) -> CompressionPolicy {
    let spec = CompressionPolicySpec {
        target_ref: Some(target(kind, relation)),
        target_selector: None,
        compress_after: after.map(text),
        compress_created_before: None,
        segment_by,
        order_by,
        merge_interval: None,
        sparse_indexes: None,
        schedule: Schedule::default(),
        paused: false,
        deletion_policy: PolicyDeletion::default(),
    };
    CompressionPolicy::new(&resource_name(relation.name.as_str()), spec)
}

/// A retention policy that is paused: nothing is dropped before somebody has chosen the age.
pub fn retention(relation: &Relation, after: Span) -> RetentionPolicy {
    let spec = RetentionPolicySpec {
        target_ref: Some(target(TargetKind::Hypertable, relation)),
        target_selector: None,
        drop_after: Some(text(after)),
        drop_created_before: None,
        schedule: Schedule::default(),
        paused: true,
        deletion_policy: PolicyDeletion::default(),
    };
    RetentionPolicy::new(&resource_name(relation.name.as_str()), spec)
}

fn text(span: Span) -> SpanText {
    match span {
        Span::Integer(units) => SpanText::Integer(units),
        Span::Time(interval) => SpanText::Interval(interval.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Interval;

    #[test]
    fn resources_are_written_without_what_is_so_by_default() {
        let relation = "factory.metric_hist".parse().unwrap();
        let after = Some(Span::Time(Interval::from_days(7)));
        let policy = compression(TargetKind::Hypertable, &relation, after, None, None);
        let expected = "apiVersion: timescaledb-policy.io/v1alpha1
kind: CompressionPolicy
metadata:
  name: metric-hist
spec:
  compressAfter: 7 days
  targetRef:
    kind: Hypertable
    name: metric-hist";
        assert_eq!(Fix::words("").with_resource(&policy).resource.as_deref(), Some(expected));
        let read: RetentionPolicy = serde_saphyr::from_str(
            &Fix::words("").with_resource(&retention(&relation, Span::Integer(5))).resource.unwrap(),
        )
        .unwrap();
        assert_eq!(read.spec, retention(&relation, Span::Integer(5)).spec);
        assert!(read.spec.paused, "nothing is dropped before somebody has chosen the age");
    }
}
