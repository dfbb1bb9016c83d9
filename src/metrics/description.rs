//! What a metric is called and means. It is registered with this, and documented from it.

use std::fmt::Write as _;

use prometheus_client::{metrics::MetricType, registry};

/// Prefix of what is said of the operator itself.
pub const OPERATOR: &str = "timescaledb_policy_operator";
/// Prefix of what is said of databases.
pub const DATABASE: &str = "timescaledb";

/// The type of a metric, as OpenMetrics has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process or the server's own statistics start anew. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
    /// Always 1: it is its labels that say something. Its name ends in `_info`.
    Info,
}

impl Kind {
    /// As OpenMetrics has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }

    pub(super) const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }
}

/// A base unit of OpenMetrics. It is part of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds; of a point in time those since 1970 in UTC.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// As OpenMetrics has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }

    pub(super) const fn registered(self) -> registry::Unit {
        match self {
            Self::Seconds => registry::Unit::Seconds,
            Self::Bytes => registry::Unit::Bytes,
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// [`OPERATOR`] or [`DATABASE`].
    pub prefix: &'static str,
    /// Name without prefix, unit and the suffix of the type.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Unit, where it has one.
    pub unit: Option<Unit>,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

impl Description {
    /// The name as it is scraped; of a histogram without the suffixes of its series.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        format!("{}_{}{unit}{}", self.prefix, self.name, self.kind.suffix())
    }
}

/// All metrics in Markdown, one row each.
pub fn reference(descriptions: &[&Description]) -> String {
    let mut text = "# Metrics

Generated from `src/metrics` by `make generate`. `/metrics` serves all of them as OpenMetrics text, and asks no database
for it: what is said of one is what was last seen of it. Times are seconds since 1970 in UTC.
"
    .to_owned();
    let sections = [
        (OPERATOR, "The operator", "A series with labels appears when it is counted for the first time."),
        (
            DATABASE,
            "The databases",
            "The labels `namespace` and `database` are those of the `TimescaleDatabase` resource. A series whose value is not known
does not appear; all series of a database go away with its resource. What comes from the *catalog* is as old as
`timescaledb_observation_timestamp_seconds` says: it is read in every pass, so at every `spec.resyncInterval`. What comes
from the *reading* is as old as `timescaledb_statistics_timestamp_seconds` says: it is made at every
`spec.statisticsInterval`.",
        ),
    ];
    for (prefix, title, note) in sections {
        let _ = write!(
            text,
            "\n## {title}\n\n{note}\n\n| metric | type | unit | labels | meaning | from |\n|---|---|---|---|---|---|\n"
        );
        for metric in descriptions.iter().filter(|d| d.prefix == prefix) {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} | {} |",
                metric.full_name(),
                metric.kind.as_str(),
                metric.unit.map_or("", Unit::as_str),
                labels.join(", "),
                metric.help,
                metric.source
            );
        }
    }
    text
}
