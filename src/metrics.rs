//! What `/metrics` shows of the operator itself.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::error::{Class, Failure};

/// The outcome of a pass: `ok` or the class of its error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    class: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    namespace: String,
    database: String,
    kind: &'static str,
    reason: &'static str,
}

/// How many resources of a kind give a reason.
pub type Reasons = BTreeMap<(&'static str, &'static str), i64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    write: &'static str,
}

/// The kinds of write to the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiWrite {
    /// A status was applied.
    Status,
    /// A finalizer was added or removed.
    Finalizer,
    /// An event was published.
    Event,
}

impl ApiWrite {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Finalizer => "finalizer",
            Self::Event => "event",
        }
    }
}

type PassDuration = Family<Outcome, Histogram, fn() -> Histogram>;

/// Handles to all metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<Outcome, Counter>,
    pass_duration: PassDuration,
    steps: Family<StepLabels, Counter>,
    drift: Family<KindLabel, Counter>,
    errors: Family<ErrorLabels, Counter>,
    api_writes: Family<WriteLabels, Counter>,
    resources: Family<ResourceLabels, Gauge>,
    /// What the gauge above shows of each database, so that it can be taken back.
    shown: Arc<Mutex<HashMap<(String, String), Reasons>>>,
    /// SQL statements sent, transaction control and settings not counted.
    pub statements: Counter,
    /// Connections open to databases.
    pub connections: Gauge,
    /// Long steps running beside their pass.
    pub long_steps: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.004, 2.0, 14));
        let mut registry = Registry::with_prefix("timescaledb_policy_operator");
        let metrics = Self {
            passes: Family::default(),
            pass_duration: Family::new_with_constructor(buckets),
            steps: Family::default(),
            drift: Family::default(),
            errors: Family::default(),
            api_writes: Family::default(),
            resources: Family::default(),
            shown: Arc::default(),
            statements: Counter::default(),
            connections: Gauge::default(),
            long_steps: Gauge::default(),
            registry: Arc::default(),
        };
        for outcome in ["ok"].into_iter().chain(Class::ALL.map(Class::as_str)) {
            drop(metrics.passes.get_or_create(&Outcome { outcome }));
        }
        registry.register("passes", "Passes over a database, by outcome", metrics.passes.clone());
        registry.register_with_unit(
            "pass_duration",
            "Duration of a pass over a database, by outcome",
            Unit::Seconds,
            metrics.pass_duration.clone(),
        );
        registry.register("steps", "Steps carried out on databases, by action and outcome", metrics.steps.clone());
        registry.register(
            "drift",
            "Resources whose database object had drifted since it was last in sync, by kind",
            metrics.drift.clone(),
        );
        registry.register("errors", "Errors, by class and reason", metrics.errors.clone());
        registry.register(
            "api_writes",
            "Writes to the Kubernetes API, by kind of resource and of write",
            metrics.api_writes.clone(),
        );
        registry.register(
            "resources",
            "Resources attached to a database, each target of a policy that selects its targets counted, by kind and reason",
            metrics.resources.clone(),
        );
        registry.register(
            "statements",
            "SQL statements sent to databases, transaction control and settings not counted",
            metrics.statements.clone(),
        );
        registry.register("connections", "Connections open to databases", metrics.connections.clone());
        registry.register("long_steps", "Long steps running beside their pass", metrics.long_steps.clone());
        registry.register("build", "Version of this operator", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        Self { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    /// A pass ended.
    pub fn pass(&self, failure: Option<&Failure>, took: Duration) {
        let labels = Outcome { outcome: failure.map_or("ok", |f| f.class.as_str()) };
        self.passes.get_or_create(&labels).inc();
        self.pass_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A step was carried out, or failed.
    pub fn step(&self, action: &'static str, failure: Option<&Failure>) {
        let outcome = failure.map_or("applied", |f| f.class.as_str());
        self.steps.get_or_create(&StepLabels { action, outcome }).inc();
    }

    /// A resource's database object had drifted.
    pub fn drift(&self, kind: &'static str) {
        self.drift.get_or_create(&KindLabel { kind }).inc();
    }

    /// Something failed.
    pub fn error(&self, failure: &Failure) {
        let labels = ErrorLabels { class: failure.class.as_str(), reason: failure.reason.as_str() };
        self.errors.get_or_create(&labels).inc();
    }

    /// Something was written to the Kubernetes API.
    pub fn api_write(&self, kind: &'static str, write: ApiWrite) {
        self.api_writes.get_or_create(&WriteLabels { kind, write: write.as_str() }).inc();
    }

    /// The reasons that the resources attached to a database give now; none when it is not looked after any more.
    pub fn resources(&self, namespace: &str, database: &str, reasons: Reasons) {
        let labels = |(kind, reason): &(&'static str, &'static str)| ResourceLabels {
            namespace: namespace.to_owned(),
            database: database.to_owned(),
            kind,
            reason,
        };
        // A panic while the map was locked leaves it whole: it is only ever replaced.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), database.to_owned());
        for gone in shown.get(&key).into_iter().flat_map(Reasons::keys).filter(|label| !reasons.contains_key(*label)) {
            self.resources.remove(&labels(gone));
        }
        for (label, count) in &reasons {
            self.resources.get_or_create(&labels(label)).set(*count);
        }
        if reasons.is_empty() {
            shown.remove(&key);
        } else {
            shown.insert(key, reasons);
        }
    }

    /// All metrics in OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; the encoders of all registered metrics are the library's own.
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text
    }
}
