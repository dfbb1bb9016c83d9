//! The custom resources, one file per kind, and what they share.
//!
//! Field documentation is what `kubectl explain` shows: it says what a field does to the database, in SQL's terms, and
//! what leaving it out means.

pub mod compression_policy;
pub mod continuous_aggregate;
pub mod hypertable;
pub mod index;
pub mod retention_policy;
pub mod schema;
pub mod status;
pub mod timescale_database;
pub mod types;

pub use compression_policy::CompressionPolicy;
pub use continuous_aggregate::ContinuousAggregate;
pub use hypertable::Hypertable;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
pub use retention_policy::RetentionPolicy;
pub use timescale_database::TimescaleDatabase;

/// The API group of every kind.
pub const GROUP: &str = "timescaledb-policy.io";

/// The annotation that approves exactly the plan with this digest.
pub const APPROVE_ANNOTATION: &str = "timescaledb-policy.io/approve";

/// How the comment begins that marks an index or a view as made by this operator; the resource it was made for follows.
/// It is the database's own record of what may be dropped again: nothing without it ever is.
pub const MADE_BY: &str = "timescaledb-policy-operator: ";

/// The finalizer of resources whose deletion has something to undo.
pub const FINALIZER: &str = "timescaledb-policy.io/release";

/// The custom resource definitions, as they are applied to a cluster.
///
/// `status.observedGeneration` defaults to -1, so that kstatus takes a resource that nobody has looked at for
/// `InProgress`, not for `Current`.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        TimescaleDatabase::crd(),
        Hypertable::crd(),
        CompressionPolicy::crd(),
        RetentionPolicy::crd(),
        ContinuousAggregate::crd(),
    ];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        let schema = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut());
        let Some(schema) = schema else { continue };
        prune_null_from_enums(schema);
        if let Some(status) = schema.properties.as_mut().and_then(|p| p.get_mut("status")) {
            status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
        }
    }
    crds
}

/// A field that may be left out is generated as nullable, but an enumeration would have to list null too. Where it is not
/// nullable the API server prunes a null, as it should: a template that renders nothing for a field leaves it out.
fn prune_null_from_enums(schema: &mut JSONSchemaProps) {
    if schema.enum_.is_some() {
        schema.nullable = None;
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(prune_null_from_enums);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        prune_null_from_enums(items);
    }
}
