//! Which setting of a resource is in force, and which layer it came from.

use std::fmt;

use kube::{Resource, ResourceExt};

use super::snapshot::Managed;
use crate::{
    api::{
        CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
        timescale_database::{Defaults, HealthThresholds},
        types::{Interval, IntervalText, Schedule, Span, SpanText},
    },
    desired::{self, ClaimId, Kind, ResourceId},
};

/// The settings of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSettings {
    /// Its kind.
    pub kind: SettingsOf,
    /// Its namespace, which may be another than the database's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// One for each field, in the order of the spec.
    pub settings: Vec<EffectiveSetting>,
    /// Where none of them is in force: a policy that selects its targets may be refused for some of them only.
    pub refusals: Vec<Refusal>,
}

/// Why the settings of a resource are not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The target of a policy that selects its targets.
    pub target: Option<String>,
    /// The reason that the resource's condition gives.
    pub reason: &'static str,
    /// What to do.
    pub message: String,
}

/// The kind of resource that settings are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsOf {
    /// The `TimescaleDatabase` itself.
    Database,
    /// A resource attached to it.
    Attached(Kind),
}

impl SettingsOf {
    /// The `kind` of the resource.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "TimescaleDatabase",
            Self::Attached(kind) => kind.as_str(),
        }
    }
}

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The field of the spec, with dots between levels.
    pub field: &'static str,
    /// The value: intervals and ages as the operator prints them, lists with commas between. What cannot be read stands as
    /// it is written. Absent where nothing is managed or given.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Source,
}

/// The layer that a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The resource says it.
    Resource,
    /// `TimescaleDatabase.spec.defaults` says it.
    DatabaseDefaults,
    /// A flag of the operator says it.
    OperatorDefaults,
    /// The default of the definition, whether the resource repeats it or not: the API server fills it in.
    BuiltIn,
    /// Nothing says it: what is in the database stays.
    NotManaged,
    /// It is needed and missing, or cannot be read: the resource's `Ready` condition says what to do.
    Invalid,
}

/// Defaults with the layer that each came from.
struct Layers<'a> {
    chunk_interval: Option<(&'a SpanText, Source)>,
    compress_after: Option<(&'a SpanText, Source)>,
    drop_after: Option<(&'a SpanText, Source)>,
}

impl<'a> Layers<'a> {
    fn of(whole: Option<&'a Defaults>, operator: &Defaults) -> Self {
        let layer = |value: Option<&'a SpanText>, operator: &Option<SpanText>| {
            let source = if operator.is_some() { Source::OperatorDefaults } else { Source::DatabaseDefaults };
            value.map(|value| (value, source))
        };
        Self {
            chunk_interval: layer(whole.and_then(|d| d.chunk_interval.as_ref()), &operator.chunk_interval),
            compress_after: layer(whole.and_then(|d| d.compress_after.as_ref()), &operator.compress_after),
            drop_after: layer(whole.and_then(|d| d.drop_after.as_ref()), &operator.drop_after),
        }
    }
}

/// The settings of the database's resource and of everything attached to it.
pub fn effective(Managed { database, operator_defaults, attached }: &Managed) -> Vec<ResourceSettings> {
    let defaults = Layers::of(database.spec.defaults.as_ref(), operator_defaults);
    let mut all = vec![of_database(database)];
    all.extend(attached.hypertables.iter().map(|hypertable| of_hypertable(hypertable, &defaults)));
    all.extend(attached.aggregates.iter().map(|aggregate| of_aggregate(aggregate)));
    all.extend(attached.compression.iter().map(|(policy, _)| of_compression(policy, &defaults)));
    all.extend(attached.retention.iter().map(|(policy, _)| of_retention(policy, &defaults)));
    let home = database.metadata.namespace.as_deref().unwrap_or_default();
    let rejected = desired::collect(database, attached).rejected;
    for resource in &mut all {
        let SettingsOf::Attached(kind) = resource.kind else { continue };
        let id = ResourceId::seen_from(home, kind, &resource.namespace, &resource.name);
        let mine = rejected.range(ClaimId::from(id.clone())..).take_while(|(claim, _)| claim.resource == id);
        resource.refusals.extend(mine.map(|(claim, rejection)| Refusal {
            target: claim.target.as_ref().map(|target| format!("{}/{}", target.kind.as_str(), target.name)),
            reason: rejection.reason.as_str(),
            message: rejection.message.clone(),
        }));
    }
    all
}

fn of_database(database: &TimescaleDatabase) -> ResourceSettings {
    let spec = &database.spec;
    let mut all = Settings::default();
    all.with_default("mode", format!("{:?}", spec.mode), "Enforce");
    all.with_default("resyncInterval", printed(&spec.resync_interval), "30 seconds");
    all.with_default("statisticsInterval", printed(&spec.statistics_interval), "5 minutes");
    all.with_default("maxConnections", spec.max_connections.to_string(), "3");
    all.with_default("allowedNamespaces.from", format!("{:?}", spec.allowed_namespaces.from), "Same");
    all.with_default("guards.maxImmediateDropPercent", spec.guards.max_immediate_drop_percent.to_string(), "25");
    let HealthThresholds { min_compressed_percent, max_chunks, max_chunks_to_drop } = spec.health_thresholds;
    all.with_default("healthThresholds.minCompressedPercent", min_compressed_percent.to_string(), "60");
    all.with_default("healthThresholds.maxChunks", max_chunks.to_string(), "1000");
    all.with_default("healthThresholds.maxChunksToDrop", max_chunks_to_drop.to_string(), "10");
    all.with_default("deletionPolicy", format!("{:?}", spec.deletion_policy), "Delete");
    all.text("monitoringSchema", spec.monitoring_schema.clone());
    all.of(SettingsOf::Database, database)
}

fn of_hypertable(hypertable: &Hypertable, defaults: &Layers<'_>) -> ResourceSettings {
    let spec = &hypertable.spec;
    let mut all = Settings::default();
    all.span("chunkInterval", spec.chunk_interval.as_ref(), defaults.chunk_interval, RANGE);
    all.text("integerNowFunction", spec.integer_now_function.clone());
    let partitions = spec.space_partitions.iter().map(|p| format!("{} ({})", p.column, p.partitions));
    all.text("spacePartitions", Some(joined(partitions)).filter(|_| !spec.space_partitions.is_empty()));
    all.with_default("migrateData", spec.migrate_data.to_string(), "false");
    all.text("chunkSkipping", spec.chunk_skipping.as_ref().map(joined));
    all.text("tablespaces", spec.tablespaces.as_ref().map(joined));
    let indexes = spec.indexes.iter().map(|index| &index.name);
    all.text("indexes", Some(joined(indexes)).filter(|_| !spec.indexes.is_empty()));
    all.text("reorder.index", spec.reorder.as_ref().map(|reorder| reorder.index.clone()));
    if let Some(reorder) = &spec.reorder {
        all.schedule(
            &reorder.schedule,
            [
                "reorder.schedule.interval",
                "reorder.schedule.initialStart",
                "reorder.schedule.timezone",
                "reorder.schedule.maxRuntime",
                "reorder.schedule.maxRetries",
                "reorder.schedule.retryPeriod",
            ],
        );
        all.with_default("reorder.paused", reorder.paused.to_string(), "false");
    }
    all.of(SettingsOf::Attached(Kind::Hypertable), hypertable)
}

fn of_aggregate(aggregate: &ContinuousAggregate) -> ResourceSettings {
    let spec = &aggregate.spec;
    let mut all = Settings::default();
    all.with_default("onQueryChange", format!("{:?}", spec.on_query_change), "Refuse");
    all.text("realTime", spec.real_time.map(|on| on.to_string()));
    all.text("createGroupIndexes", spec.create_group_indexes.map(|on| on.to_string()));
    all.span("chunkInterval", spec.chunk_interval.as_ref(), None, RANGE);
    let indexes = spec.indexes.iter().map(|index| &index.name);
    all.text("indexes", Some(joined(indexes)).filter(|_| !spec.indexes.is_empty()));
    match &spec.refresh_policy {
        None => all.text("refreshPolicy", None),
        Some(refresh) => {
            all.span("refreshPolicy.startOffset", refresh.start_offset.as_ref(), None, OFFSET);
            all.span("refreshPolicy.endOffset", refresh.end_offset.as_ref(), None, OFFSET);
            all.text("refreshPolicy.includeTieredData", refresh.include_tiered_data.map(|on| on.to_string()));
            all.text("refreshPolicy.bucketsPerBatch", refresh.buckets_per_batch.map(|n| n.to_string()));
            let batches = refresh.max_batches_per_execution.map(|n| n.to_string());
            all.text("refreshPolicy.maxBatchesPerExecution", batches);
            all.text("refreshPolicy.refreshNewestFirst", refresh.refresh_newest_first.map(|on| on.to_string()));
            all.schedule(
                &refresh.schedule,
                [
                    "refreshPolicy.schedule.interval",
                    "refreshPolicy.schedule.initialStart",
                    "refreshPolicy.schedule.timezone",
                    "refreshPolicy.schedule.maxRuntime",
                    "refreshPolicy.schedule.maxRetries",
                    "refreshPolicy.schedule.retryPeriod",
                ],
            );
            all.with_default("refreshPolicy.paused", refresh.paused.to_string(), "false");
        }
    }
    all.with_default("deletionPolicy", format!("{:?}", spec.deletion_policy), "Retain");
    all.of(SettingsOf::Attached(Kind::ContinuousAggregate), aggregate)
}

fn of_compression(policy: &CompressionPolicy, defaults: &Layers<'_>) -> ResourceSettings {
    let spec = &policy.spec;
    let mut all = Settings::default();
    match &spec.compress_created_before {
        Some(age) => all.interval("compressCreatedBefore", Some(age)),
        None => {
            all.span("compressAfter", spec.compress_after.as_ref(), defaults.compress_after, AGE);
        }
    }
    all.text("segmentBy", spec.segment_by.as_ref().map(joined));
    let order_by = |o: &crate::api::compression_policy::OrderBy| match o.nulls {
        Some(nulls) => format!("{} {:?} nulls {nulls:?}", o.column, o.order),
        None => format!("{} {:?}", o.column, o.order),
    };
    all.text("orderBy", spec.order_by.as_ref().map(|columns| joined(columns.iter().map(order_by))));
    all.span("mergeInterval", spec.merge_interval.as_ref(), None, MERGED_RANGE);
    let sparse = |index: &crate::api::compression_policy::SparseIndex| {
        format!("{:?} ({})", index.kind, index.columns.join(", "))
    };
    all.text("sparseIndexes", spec.sparse_indexes.as_ref().map(|indexes| joined(indexes.iter().map(sparse))));
    all.schedule(&spec.schedule, SCHEDULE);
    all.with_default("paused", spec.paused.to_string(), "false");
    all.with_default("deletionPolicy", format!("{:?}", spec.deletion_policy), "Delete");
    all.of(SettingsOf::Attached(Kind::CompressionPolicy), policy)
}

fn of_retention(policy: &RetentionPolicy, defaults: &Layers<'_>) -> ResourceSettings {
    let spec = &policy.spec;
    let mut all = Settings::default();
    match &spec.drop_created_before {
        Some(age) => all.interval("dropCreatedBefore", Some(age)),
        None => all.span("dropAfter", spec.drop_after.as_ref(), defaults.drop_after, AGE),
    }
    all.schedule(&spec.schedule, SCHEDULE);
    all.with_default("paused", spec.paused.to_string(), "false");
    all.with_default("deletionPolicy", format!("{:?}", spec.deletion_policy), "Delete");
    all.of(SettingsOf::Attached(Kind::RetentionPolicy), policy)
}

const SCHEDULE: [&str; 6] = [
    "schedule.interval",
    "schedule.initialStart",
    "schedule.timezone",
    "schedule.maxRuntime",
    "schedule.maxRetries",
    "schedule.retryPeriod",
];

/// What holds for a span.
#[derive(Clone, Copy)]
struct Rule {
    unset: Unset,
    may_be_zero: bool,
}

/// What holds where neither the resource nor the database's defaults say anything.
#[derive(Clone, Copy)]
enum Unset {
    NotManaged,
    Invalid,
    Unlimited,
}

/// A chunk interval.
const RANGE: Rule = Rule { unset: Unset::NotManaged, may_be_zero: false };
/// Zero means none, which is a setting too.
const MERGED_RANGE: Rule = Rule { unset: Unset::NotManaged, may_be_zero: true };
/// What a policy cannot do without.
const AGE: Rule = Rule { unset: Unset::Invalid, may_be_zero: false };
/// One side of a refresh window.
const OFFSET: Rule = Rule { unset: Unset::Unlimited, may_be_zero: true };

#[derive(Default)]
struct Settings(Vec<EffectiveSetting>);

impl Settings {
    fn push(&mut self, field: &'static str, value: Option<String>, source: Source) {
        self.0.push(EffectiveSetting { field, value, source });
    }

    /// A field that is not managed where it is left out.
    fn text(&mut self, field: &'static str, value: Option<String>) {
        let source = if value.is_some() { Source::Resource } else { Source::NotManaged };
        self.push(field, value, source);
    }

    /// A field that the API server fills in.
    fn with_default(&mut self, field: &'static str, value: String, default: &str) {
        let source = if value == default { Source::BuiltIn } else { Source::Resource };
        self.push(field, Some(value), source);
    }

    fn interval(&mut self, field: &'static str, text: Option<&IntervalText>) {
        match text {
            Some(text) if text.0.parse::<Interval>().is_err() => {
                self.push(field, Some(text.0.clone()), Source::Invalid);
            }
            text => self.text(field, text.map(printed)),
        }
    }

    /// A span: the resource's own, or the default in force.
    fn span(&mut self, field: &'static str, own: Option<&SpanText>, default: Option<(&SpanText, Source)>, rule: Rule) {
        let (text, source) = match (own, default, rule.unset) {
            (Some(own), _, _) => (own, Source::Resource),
            (None, Some(default), _) => default,
            (None, None, Unset::NotManaged) => return self.push(field, None, Source::NotManaged),
            (None, None, Unset::Invalid) => return self.push(field, None, Source::Invalid),
            (None, None, Unset::Unlimited) => return self.push(field, Some("unlimited".to_owned()), Source::BuiltIn),
        };
        let span = match text {
            SpanText::Integer(units) => Some(Span::Integer(*units)),
            SpanText::Interval(text) => text.parse().ok().map(Span::Time),
        };
        match span.filter(|span| span.is_positive() || rule.may_be_zero) {
            Some(span) => self.push(field, Some(span.to_string()), source),
            None => self.push(field, Some(text.to_string()), Source::Invalid),
        }
    }

    fn schedule(&mut self, schedule: &Schedule, fields: [&'static str; 6]) {
        let Schedule { interval, initial_start, timezone, max_runtime, max_retries, retry_period } = schedule;
        let [of_interval, of_start, of_timezone, of_runtime, of_retries, of_period] = fields;
        self.interval(of_interval, interval.as_ref());
        self.text(of_start, initial_start.clone());
        self.text(of_timezone, timezone.clone());
        self.interval(of_runtime, max_runtime.as_ref());
        self.text(of_retries, max_retries.map(|retries| retries.to_string()));
        self.interval(of_period, retry_period.as_ref());
    }

    fn of<K: Resource>(self, kind: SettingsOf, resource: &K) -> ResourceSettings {
        ResourceSettings {
            kind,
            namespace: resource.namespace().unwrap_or_default(),
            name: resource.name_any(),
            settings: self.0,
            refusals: Vec::new(),
        }
    }
}

/// An interval in one spelling; what does not parse as it is written.
fn printed(text: &IntervalText) -> String {
    text.0.parse::<Interval>().map_or_else(|_| text.0.clone(), |interval| interval.to_string())
}

fn joined<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::api::timescale_database::{DefaultSource, EffectiveDefault};
    use crate::desired::{Attached, PolicyTarget};

    fn read<K: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &serde_json::Value) -> K {
        let object = json!({
            "apiVersion": "timescaledb-policy.io/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "plant"}, "spec": spec
        });
        serde_json::from_value(object).unwrap_or_else(|e| panic!("{e}"))
    }

    fn database(defaults: &serde_json::Value) -> TimescaleDatabase {
        read("TimescaleDatabase", "plant", &json!({"connection": {"secretRef": {"name": "s"}}, "defaults": defaults}))
    }

    fn hypertable(spec: &serde_json::Value) -> Arc<Hypertable> {
        let mut whole = json!({"databaseRef": {"name": "plant"}, "table": "readings", "timeColumn": "ts"});
        for (field, value) in spec.as_object().into_iter().flatten() {
            whole[field] = value.clone();
        }
        Arc::new(read("Hypertable", "readings", &whole))
    }

    fn retention(name: &str, spec: &serde_json::Value) -> (Arc<RetentionPolicy>, Vec<PolicyTarget>) {
        let mut whole = json!({"targetRef": {"kind": "Hypertable", "name": "readings"}});
        for (field, value) in spec.as_object().into_iter().flatten() {
            whole[field] = value.clone();
        }
        let policy = read("RetentionPolicy", name, &whole);
        (Arc::new(policy), vec![PolicyTarget::Hypertable(hypertable(&json!({})))])
    }

    /// Value and source of a field.
    fn setting(all: &[ResourceSettings], kind: &str, field: &str) -> (Option<String>, Source) {
        let resource = all.iter().find(|r| r.kind.as_str() == kind).unwrap_or_else(|| panic!("no {kind}"));
        let found = resource.settings.iter().find(|s| s.field == field).unwrap_or_else(|| panic!("no {field}"));
        (found.value.clone(), found.source)
    }

    fn managed(database: &TimescaleDatabase, attached: Attached) -> Managed {
        Managed { database: Arc::new(database.clone()), operator_defaults: Defaults::default(), attached }
    }

    #[test]
    fn what_the_database_leaves_out_the_operator_says() {
        let operator = Defaults {
            chunk_interval: Some("2 days".into()),
            compress_after: Some("7 days".into()),
            drop_after: Some("90 days".into()),
        };
        let database = Arc::new(database(&json!({"dropAfter": "1 year"})));
        let (whole, operator_defaults) = desired::with_operator_defaults(&database, &operator);
        let shown = desired::effective_defaults(&whole, &operator_defaults).map(|d| (d.chunk_interval, d.drop_after));
        let of = |value: &str, source| Some(EffectiveDefault { value: value.to_owned(), source });
        assert_eq!(shown, Some((of("2 days", DefaultSource::Operator), of("1 year", DefaultSource::Database))));
        let attached = Attached {
            hypertables: vec![hypertable(&json!({}))],
            retention: vec![retention("readings", &json!({}))],
            ..Attached::default()
        };
        let all = effective(&Managed { database: whole, operator_defaults, attached });
        let says = |value: &str, source| (Some(value.to_owned()), source);
        assert_eq!(setting(&all, "Hypertable", "chunkInterval"), says("2 days", Source::OperatorDefaults));
        assert_eq!(setting(&all, "RetentionPolicy", "dropAfter"), says("1 year", Source::DatabaseDefaults));
    }

    #[test]
    fn each_layer_is_named() {
        let database = database(&json!({"chunkInterval": "P1D"}));
        let attached = Attached {
            hypertables: vec![hypertable(&json!({}))],
            retention: vec![retention("readings", &json!({"dropAfter": "1 week", "schedule": {"interval": "PT1H"}}))],
            ..Attached::default()
        };
        let all = effective(&managed(&database, attached));
        let says = |value: &str, source| (Some(value.to_owned()), source);
        assert_eq!(setting(&all, "Hypertable", "chunkInterval"), says("1 day", Source::DatabaseDefaults));
        assert_eq!(setting(&all, "Hypertable", "tablespaces"), (None, Source::NotManaged));
        assert_eq!(setting(&all, "Hypertable", "migrateData"), says("false", Source::BuiltIn));
        assert_eq!(setting(&all, "RetentionPolicy", "dropAfter"), says("7 days", Source::Resource));
        assert_eq!(setting(&all, "RetentionPolicy", "schedule.interval"), says("1 hour", Source::Resource));
        assert_eq!(setting(&all, "TimescaleDatabase", "resyncInterval"), says("30 seconds", Source::BuiltIn));
        assert!(all.iter().all(|resource| resource.refusals.is_empty()), "{all:?}");
    }

    #[test]
    fn a_resource_beats_the_defaults_of_the_database() {
        let database = database(&json!({"dropAfter": "90 days"}));
        for (spec, expected) in [
            (json!({"dropAfter": "1 year"}), (Some("1 year".to_owned()), Source::Resource)),
            (json!({}), (Some("90 days".to_owned()), Source::DatabaseDefaults)),
        ] {
            let attached = Attached { retention: vec![retention("readings", &spec)], ..Attached::default() };
            assert_eq!(setting(&effective(&managed(&database, attached)), "RetentionPolicy", "dropAfter"), expected);
        }
    }

    #[test]
    fn what_is_missing_or_cannot_be_read_is_invalid_and_refused() {
        let database = database(&json!({}));
        for (spec, value) in [
            (json!({}), None),
            (json!({"dropAfter": "7 parsecs"}), Some("7 parsecs")),
            (json!({"dropAfter": 0}), Some("0")),
        ] {
            let attached = Attached { retention: vec![retention("readings", &spec)], ..Attached::default() };
            let all = effective(&managed(&database, attached));
            let expected = (value.map(str::to_owned), Source::Invalid);
            assert_eq!(setting(&all, "RetentionPolicy", "dropAfter"), expected);
            assert_eq!(all[1].refusals[0].reason, "InvalidSpec", "{all:?}");
        }
    }

    #[test]
    fn a_resource_that_another_was_before_says_so() {
        let database = database(&json!({"dropAfter": "90 days"}));
        let attached =
            Attached { retention: vec![retention("a", &json!({})), retention("b", &json!({}))], ..Attached::default() };
        let all = effective(&managed(&database, attached));
        let refusals: Vec<_> =
            all.iter().map(|r| (r.name.as_str(), r.refusals.iter().map(|r| r.reason).collect())).collect();
        assert_eq!(refusals, [("plant", vec![]), ("a", vec![]), ("b", vec!["Conflicted"])]);
    }

    /// What says which object a resource is about, and what stands in for another field.
    const NO_SETTINGS: [&str; 12] = [
        "connection",
        "defaults",
        "databaseRef",
        "targetRef",
        "targetSelector",
        "schema",
        "table",
        "name",
        "timeColumn",
        "query",
        "compressCreatedBefore",
        "dropCreatedBefore",
    ];

    #[test]
    fn no_field_of_a_spec_is_left_out_and_every_default_is_the_built_in_one() {
        let (_, targets) = retention("readings", &json!({}));
        let target = json!({"targetRef": {"kind": "Hypertable", "name": "readings"}});
        let aggregate = json!({"databaseRef": {"name": "plant"}, "name": "hourly", "query": "SELECT 1"});
        let attached = Attached {
            hypertables: vec![hypertable(&json!({}))],
            aggregates: vec![Arc::new(read("ContinuousAggregate", "hourly", &aggregate))],
            compression: vec![(Arc::new(read("CompressionPolicy", "readings", &target)), targets)],
            retention: vec![retention("readings", &json!({}))],
            ..Attached::default()
        };
        let defaults = json!({"compressAfter": "7 days", "dropAfter": "90 days"});
        let all = effective(&managed(&database(&defaults), attached));
        let crds = serde_json::to_value(crate::api::crds()).unwrap_or_default();
        assert_eq!(crds.as_array().map(Vec::len), Some(all.len()));
        for crd in crds.as_array().into_iter().flatten() {
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
            let of_kind = all.iter().find(|resource| resource.kind.as_str() == kind);
            let settings = of_kind.map(|resource| &resource.settings[..]).unwrap_or_default();
            let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
            for field in spec.as_object().into_iter().flat_map(|fields| fields.keys()) {
                let is_of = |s: &EffectiveSetting| s.field.split('.').next() == Some(field);
                assert!(NO_SETTINGS.contains(&&**field) || settings.iter().any(is_of), "{kind}.spec.{field}");
            }
            // Nothing but the defaults was written.
            let own = settings.iter().filter(|setting| setting.source == Source::Resource);
            assert_eq!(own.map(|setting| setting.field).collect::<Vec<_>>(), [""; 0], "{kind}");
        }
    }
}
