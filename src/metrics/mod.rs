//! What `/metrics` shows: of the operator itself, and of the databases it looks after.

mod database;
mod description;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};
use std::{fmt, sync::Arc, time::Duration};

use crate::{
    error::{Class, Failure},
    monitoring::Board,
};
use description::OPERATOR;
pub use description::{Description, Kind, Unit};

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

const fn describe(kind: Kind, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Description {
    Description { prefix: OPERATOR, name, kind, unit: None, labels, help, source: PASS }
}

const PASS: &str = "each pass";
const PROCESS: &str = "the process";

const PASSES: Description = describe(
    Kind::Counter,
    "passes",
    &["outcome"],
    "Passes over a database by outcome: `ok`, or the class of the error, `transient`, `user` or `bug`. No growth means that nobody looks",
);
const PASS_DURATION: Description = Description {
    unit: Some(Unit::Seconds),
    ..describe(
        Kind::Histogram,
        "pass_duration",
        &["outcome"],
        "Duration of a pass over a database, long steps not included",
    )
};
const PASSES_RUNNING: Description =
    describe(Kind::Gauge, "passes_running", &[], "Passes under way; never more than `--concurrency`");
const STEPS: Description = describe(
    Kind::Counter,
    "steps",
    &["action", "outcome"],
    "Steps carried out on databases: `applied`, or the class of the error. `action` is one of a fixed list, such as `add_policy`",
);
const DRIFT: Description = describe(
    Kind::Counter,
    "drift",
    &["kind"],
    "Resources whose database object was found to have drifted since it was last in sync. Growth that does not end: two parties change the same object",
);
const DRIFT_CORRECTED: Description = describe(
    Kind::Counter,
    "drift_corrected",
    &["kind"],
    "Resources whose drift was corrected. What is missing to `drift_total` was put back by somebody else, given up with a change of the resource, or is still there",
);
const ERRORS: Description = describe(
    Kind::Counter,
    "errors",
    &["class", "reason"],
    "Errors by class and by the reason that the resource shows",
);
const API_WRITES: Description = describe(
    Kind::Counter,
    "api_writes",
    &["kind", "write"],
    "Writes to the Kubernetes API: `status`, `finalizer`, `event`. Flat while nothing changes",
);
const STATEMENTS: Description = describe(
    Kind::Counter,
    "statements",
    &[],
    "SQL statements sent to databases, transaction control and settings not counted",
);
const CONNECTIONS: Description = describe(Kind::Gauge, "connections", &[], "Connections open to databases");
const LONG_STEPS: Description = describe(Kind::Gauge, "long_steps", &[], "Long steps running beside their pass");
const LEADER: Description = Description {
    source: PROCESS,
    ..describe(Kind::Gauge, "leader", &[], "Whether this instance is the one that acts")
};
const BUILD: Description = Description {
    source: PROCESS,
    ..describe(Kind::Info, "build", &["version"], "Always 1: version of this operator")
};

/// All metrics, those of the operator before those of the databases.
pub fn descriptions() -> impl Iterator<Item = &'static Description> + Clone {
    const OWN: &[&Description] = &[
        &PASSES,
        &PASS_DURATION,
        &PASSES_RUNNING,
        &STEPS,
        &DRIFT,
        &DRIFT_CORRECTED,
        &ERRORS,
        &API_WRITES,
        &database::RESOURCES,
        &STATEMENTS,
        &CONNECTIONS,
        &LONG_STEPS,
        &LEADER,
        &BUILD,
    ];
    OWN.iter().copied().chain(database::descriptions())
}

/// All metrics in Markdown: `docs/metrics.md`.
pub fn reference() -> String {
    description::reference(&descriptions().collect::<Vec<_>>())
}

/// Handles to all metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    passes: Family<Outcome, Counter>,
    pass_duration: PassDuration,
    passes_running: Gauge,
    steps: Family<StepLabels, Counter>,
    drift: Family<KindLabel, Counter>,
    drift_corrected: Family<KindLabel, Counter>,
    errors: Family<ErrorLabels, Counter>,
    api_writes: Family<WriteLabels, Counter>,
    leader: Gauge,
    /// SQL statements sent, transaction control and settings not counted.
    pub statements: Counter,
    /// Connections open to databases.
    pub connections: Gauge,
    /// Long steps running beside their pass.
    pub long_steps: Gauge,
}

/// Metrics of an operator that looks after no database.
impl Default for Metrics {
    fn default() -> Self {
        Self::new(Board::default())
    }
}

fn register(registry: &mut Registry, description: &Description, metric: impl Metric) {
    let Description { name, help, unit, .. } = *description;
    match unit {
        None => registry.register(name, help, metric),
        Some(unit) => registry.register_with_unit(name, help, unit.registered(), metric),
    }
}

impl Metrics {
    /// Metrics of the operator, and of the databases on the board.
    pub fn new(board: Board) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.004, 2.0, 14));
        let metrics = Self {
            passes: Family::default(),
            pass_duration: Family::new_with_constructor(buckets),
            passes_running: Gauge::default(),
            steps: Family::default(),
            drift: Family::default(),
            drift_corrected: Family::default(),
            errors: Family::default(),
            api_writes: Family::default(),
            leader: Gauge::default(),
            statements: Counter::default(),
            connections: Gauge::default(),
            long_steps: Gauge::default(),
            registry: Arc::default(),
        };
        for outcome in ["ok"].into_iter().chain(Class::ALL.map(Class::as_str)) {
            drop(metrics.passes.get_or_create(&Outcome { outcome }));
        }
        let mut registry = Registry::default();
        let own = registry.sub_registry_with_prefix(OPERATOR);
        register(own, &PASSES, metrics.passes.clone());
        register(own, &PASS_DURATION, metrics.pass_duration.clone());
        register(own, &PASSES_RUNNING, metrics.passes_running.clone());
        register(own, &STEPS, metrics.steps.clone());
        register(own, &DRIFT, metrics.drift.clone());
        register(own, &DRIFT_CORRECTED, metrics.drift_corrected.clone());
        register(own, &ERRORS, metrics.errors.clone());
        register(own, &API_WRITES, metrics.api_writes.clone());
        register(own, &STATEMENTS, metrics.statements.clone());
        register(own, &CONNECTIONS, metrics.connections.clone());
        register(own, &LONG_STEPS, metrics.long_steps.clone());
        register(own, &LEADER, metrics.leader.clone());
        register(own, &BUILD, Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        own.register_collector(Box::new(database::Resources(board.clone())));
        let databases = registry.sub_registry_with_prefix(description::DATABASE);
        databases.register_collector(Box::new(database::Databases(board)));
        Self { registry: Arc::new(registry), ..metrics }
    }

    /// A pass begins; it is under way until what is returned is dropped.
    pub fn pass_begins(&self) -> GaugeGuard {
        GaugeGuard::new(&self.passes_running)
    }

    /// A pass is under way.
    pub fn is_running(&self) -> bool {
        self.passes_running.get() > 0
    }

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

    /// A resource's database object was found to have drifted.
    pub fn drift(&self, kind: &'static str) {
        self.drift.get_or_create(&KindLabel { kind }).inc();
    }

    /// A resource's drift was corrected.
    pub fn drift_corrected(&self, kind: &'static str) {
        self.drift_corrected.get_or_create(&KindLabel { kind }).inc();
    }

    /// This instance is the one that acts from now on, until the process ends.
    pub fn leads(&self) {
        self.leader.set(1);
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

    /// All metrics in OpenMetrics text.
    pub fn text(&self) -> String {
        self.pieces().concat()
    }

    /// The same in pieces: of thousands of tables it has megabytes, and a text that grows is held twice.
    pub fn pieces(&self) -> Vec<String> {
        let mut text = Pieces::default();
        // Writing to memory cannot fail; the encoders of all registered metrics are the library's own.
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        text.full.push(text.last);
        text.full
    }
}

/// Bytes of a piece of text.
const PIECE: usize = 64 * 1024;

struct Pieces {
    full: Vec<String>,
    last: String,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { full: Vec::new(), last: String::with_capacity(PIECE) }
    }
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.last.len() + text.len() > self.last.capacity() {
            let next = String::with_capacity(PIECE.max(text.len()));
            self.full.push(std::mem::replace(&mut self.last, next));
        }
        self.last.push_str(text);
        Ok(())
    }
}

/// Counts one in a gauge for as long as it lives.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    /// Counts one from now on.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
