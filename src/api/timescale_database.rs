//! `TimescaleDatabase`: how to reach one database, and how it is treated.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::{IntervalText, LabelRequirement, SpanText, selects};

/// How to reach one database, and the rules for everything attached to it. The operator does not create the database.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "timescaledb-policy.io",
    version = "v1alpha1",
    kind = "TimescaleDatabase",
    namespaced,
    status = "TimescaleDatabaseStatus",
    derive = "PartialEq",
    shortname = "tsdb",
    category = "timescaledb",
    doc = "TimescaleDatabase says how to reach one database and how the resources attached to it are treated.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "TimescaleDB", type_ = "string", json_path = ".status.timescaledbVersion"),
    printcolumn(name = "PostgreSQL", type_ = "string", json_path = ".status.postgresVersion"),
    printcolumn(name = "Resources", type_ = "integer", json_path = ".status.resources"),
    printcolumn(name = "InSync", type_ = "integer", json_path = ".status.resourcesInSync"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TimescaleDatabaseSpec {
    /// Where the database is and who logs in.
    pub connection: Connection,
    /// Whether differences are corrected or only shown.
    #[serde(default)]
    pub mode: Mode,
    /// Time between two checks of the live catalog for drift, 1 second to 1 day.
    #[serde(default = "default_resync_interval")]
    pub resync_interval: IntervalText,
    /// Time between two reads of sizes and compression ratios, the expensive reads; 1 second to 1 day.
    #[serde(default = "default_statistics_interval")]
    pub statistics_interval: IntervalText,
    /// Connections the operator may hold to this database at once. One is used in the steady state; the others run long statements.
    #[serde(default = "default_max_connections")]
    #[schemars(range(min = 2, max = 100))]
    pub max_connections: i32,
    /// Values for fields that attached resources leave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<Defaults>,
    /// Namespaces whose resources may attach to this database.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// Limits beyond which a change waits for approval.
    #[serde(default)]
    pub guards: Guards,
    /// From when on hypertables and continuous aggregates are not healthy any more. For people and alerts to look at: nothing is done or held
    /// back by them.
    #[serde(default)]
    pub health_thresholds: HealthThresholds,
    /// What becomes of policies in the database when attached resources are deleted.
    #[serde(default)]
    pub deletion_policy: DatabaseDeletion,
    /// Schema in which the monitoring views and functions are installed, upgraded and put back, as PostgreSQL stores its name (not quoted).
    /// It is created, or is there and empty. Left out: nothing is installed. What is installed is never removed: where this names another schema, or none, it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub monitoring_schema: Option<String>,
}

fn default_resync_interval() -> IntervalText {
    "30 seconds".into()
}

fn default_statistics_interval() -> IntervalText {
    "5 minutes".into()
}

const fn default_max_connections() -> i32 {
    3
}

/// Where the database is and who logs in. What is given here overrides what the secret holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The secret with the credentials, in this namespace. As CloudNativePG, Crunchy, Zalando, Service Binding or Crossplane write it, or with a `uri` alone.
    /// Host and database that it does not hold are given here.
    pub secret_ref: SecretRef,
    /// Host name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// Port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Name of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub database: Option<String>,
    /// Transport security.
    #[serde(default)]
    pub tls: Tls,
}

/// Names a secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Names one key of a secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the secret.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

/// Transport security, in libpq's terms (`sslmode`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// How much is demanded of the server.
    #[serde(default)]
    pub mode: TlsMode,
    /// The certificate authority that signed the server's certificate (PEM). Left out: the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// libpq's `sslmode`, without the modes that only make sense for clients of unknown servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it; the certificate is not checked.
    #[default]
    Prefer,
    /// TLS or nothing; the certificate is not checked.
    Require,
    /// TLS with a certificate that the authority signed, for whatever host.
    #[serde(rename = "VerifyCA")]
    VerifyCa,
    /// TLS with a certificate that the authority signed for this host.
    VerifyFull,
}

/// Whether differences are corrected or only shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Differences are corrected, within the guards.
    #[default]
    Enforce,
    /// Differences are shown, with the SQL that would correct them; the database is not changed.
    Observe,
}

/// Values for fields that attached resources leave out. What is left out here too is as the operator's flags say (`--default-drop-after` and the like), or else not managed, or an error where a policy cannot do without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// For `Hypertable`s without `chunkInterval`. An interval is for hypertables by time, a number for those by an integer column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_interval: Option<SpanText>,
    /// For `CompressionPolicy`s without `compressAfter` and `compressCreatedBefore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_after: Option<SpanText>,
    /// For `RetentionPolicy`s without `dropAfter` and `dropCreatedBefore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_after: Option<SpanText>,
}

/// Which namespaces' resources may attach to a database (the Gateway API's `allowedRoutes`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.selector) == (self.from == 'Selector')").message("selector is needed with from: Selector, and only then").field_path(".selector"))]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Where resources may attach from.
    #[serde(default)]
    pub from: From,
    /// Labels of the namespaces, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

impl AllowedNamespaces {
    /// Whether resources of this namespace may attach to a database in `home`. The labels are those of the namespace.
    pub fn lets_in(&self, namespace: &str, home: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        namespace == home
            || match (self.from, &self.selector) {
                (From::Same, _) | (From::Selector, None) => false,
                (From::All, _) => true,
                (From::Selector, Some(NamespaceSelector { match_labels, match_expressions })) => {
                    labels.is_some_and(|labels| selects(match_labels, match_expressions, labels))
                }
            }
    }
}

/// Where resources may attach from. This namespace always may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum From {
    /// This namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Namespaces with the labels of `selector`.
    Selector,
}

/// Selects namespaces by their labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that a namespace must have, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on the labels, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// Limits beyond which a change waits for the approval of its plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// Share of a hypertable's chunks (percent) that a new, tightened or resumed retention policy may drop at its next run without approval.
    #[serde(default = "default_max_immediate_drop_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub max_immediate_drop_percent: i32,
}

impl Default for Guards {
    fn default() -> Self {
        Self { max_immediate_drop_percent: default_max_immediate_drop_percent() }
    }
}

const fn default_max_immediate_drop_percent() -> i32 {
    25
}

/// From when on hypertables and continuous aggregates are not healthy any more. A threshold that is crossed is a warning, one that is crossed twice
/// over is critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthThresholds {
    /// Percent of the chunks that the compression policy in force should have compressed that must be compressed; critical below half of it.
    #[serde(default = "default_min_compressed_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub min_compressed_percent: i32,
    /// Chunks that a hypertable or a continuous aggregate may have; critical above twice as many.
    #[serde(default = "default_max_chunks")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_chunks: i32,
    /// Chunks that the retention policy in force should have dropped and that may still be there; critical above twice as many.
    #[serde(default = "default_max_chunks_to_drop")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_chunks_to_drop: i32,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self {
            min_compressed_percent: default_min_compressed_percent(),
            max_chunks: default_max_chunks(),
            max_chunks_to_drop: default_max_chunks_to_drop(),
        }
    }
}

const fn default_min_compressed_percent() -> i32 {
    60
}

const fn default_max_chunks() -> i32 {
    1000
}

const fn default_max_chunks_to_drop() -> i32 {
    10
}

/// What becomes of policies in the database when attached resources are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseDeletion {
    /// Each resource's own `deletionPolicy` is carried out; this resource stays until that is done.
    #[default]
    Delete,
    /// Deleted resources are let go at once and everything stays in the database as it is.
    Orphan,
}

/// What was seen of the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimescaleDatabaseStatus {
    /// The generation of the spec that was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, and while they hold `Reconciling` or `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// Version of the extension in this database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timescaledb_version: Option<String>,
    /// Edition: `timescale` (community) or `apache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Version of the monitoring views in `monitoringSchema`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring_version: Option<i64>,
    /// Resources attached to this database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<i64>,
    /// Attached resources that the live catalog agrees with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources_in_sync: Option<i64>,
    /// The defaults in force for attached resources that leave these fields out, each with the layer that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<EffectiveDefaults>,
}

/// The defaults in force. What no layer says is absent: the field is then not managed, or an error where a policy cannot do without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveDefaults {
    /// For `Hypertable`s without `chunkInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_interval: Option<EffectiveDefault>,
    /// For `CompressionPolicy`s without `compressAfter` and `compressCreatedBefore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress_after: Option<EffectiveDefault>,
    /// For `RetentionPolicy`s without `dropAfter` and `dropCreatedBefore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_after: Option<EffectiveDefault>,
}

/// A default in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveDefault {
    /// The value.
    pub value: String,
    /// The layer that it came from.
    pub source: DefaultSource,
}

/// The layer that a default came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DefaultSource {
    /// `spec.defaults` of this resource.
    Database,
    /// A flag of the operator.
    Operator,
}
