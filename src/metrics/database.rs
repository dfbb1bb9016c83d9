//! What `/metrics` says of the databases: encoded at every scrape from what was last seen of them.

use std::{borrow::Cow, collections::HashMap, fmt, time::Duration};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{
        CounterValueEncoder, DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, GaugeValueEncoder, NoLabelSet,
    },
};

use super::description::{DATABASE, Description, Kind, OPERATOR, Unit};
use crate::{
    api::types::Relation,
    catalog::{
        Job, PolicyKind, Server,
        statistics::{DatabaseStatistics, JobStatistics, TableStatistics},
    },
    monitoring::{
        Board, lag, schedule,
        snapshot::{Reading, Snapshot},
        table_health::{HealthWord, TableHealth},
    },
};

const OF_DATABASE: &[&str] = &["namespace", "database"];
const OF_TABLE: &[&str] = &["namespace", "database", "schema", "table", "kind"];
const OF_AGGREGATE: &[&str] = &["namespace", "database", "schema", "table"];
const OF_JOB: &[&str] = &["namespace", "database", "schema", "table", "policy", "job_id"];

const PASS: &str = "each pass";
const CATALOG: &str = "the catalog";
const READING: &str = "the reading";

const fn gauge(
    name: &'static str,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    source: &'static str,
    help: &'static str,
) -> Description {
    Description { prefix: DATABASE, name, kind: Kind::Gauge, unit, labels, help, source }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
    help: &'static str,
) -> Description {
    Description { prefix: DATABASE, name, kind: Kind::Counter, unit: None, labels, help, source }
}

const SECONDS: Option<Unit> = Some(Unit::Seconds);
const BYTES: Option<Unit> = Some(Unit::Bytes);

pub(super) const RESOURCES: Description = Description {
    prefix: OPERATOR,
    name: "resources",
    kind: Kind::Gauge,
    unit: None,
    labels: &["namespace", "database", "kind", "reason"],
    help: "Resources attached to a database, each target of a policy that selects its targets counted, by the reason they give. `DriftObserved`, `ApprovalRequired` and `Conflicted` are worth an alert; a reason that nobody gives has no series",
    source: PASS,
};

const INFO: Description = gauge(
    "info",
    None,
    &["namespace", "database", "timescaledb_version", "postgres_version", "license"],
    CATALOG,
    "Always 1: versions of the server and of the extension, and the edition (`timescaledb.license`)",
);

/// A value as it was counted: integers stay exact.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Integer(i64),
    Float(f64),
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<Duration> for Number {
    fn from(value: Duration) -> Self {
        Self::Float(value.as_secs_f64())
    }
}

impl From<Timestamp> for Number {
    fn from(value: Timestamp) -> Self {
        Self::Float(value.as_duration().as_secs_f64())
    }
}

impl EncodeGaugeValue for Number {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => EncodeGaugeValue::encode(value, encoder),
            Self::Float(value) => EncodeGaugeValue::encode(value, encoder),
        }
    }
}

impl EncodeCounterValue for Number {
    fn encode(&self, encoder: &mut CounterValueEncoder<'_>) -> fmt::Result {
        match self {
            // The server counts from zero.
            Self::Integer(value) => EncodeCounterValue::encode(&value.unsigned_abs(), encoder),
            Self::Float(value) => EncodeCounterValue::encode(value, encoder),
        }
    }
}

/// A metric, with how its value is had of what it is about. What has no value has no series.
struct Metric<Value>(Description, Value);

type OfDatabase = Metric<fn(&Snapshot) -> Option<Number>>;
type OfTable = Metric<fn(&TableView<'_>) -> Option<Number>>;
type OfAggregate = Metric<fn(&AggregateView<'_>) -> Option<Number>>;
type OfJob = Metric<fn(&JobView<'_>) -> Option<Number>>;

fn database(snapshot: &Snapshot) -> Option<&DatabaseStatistics> {
    snapshot.reading.as_ref().map(|reading| &reading.statistics.database)
}

const DATABASES: &[OfDatabase] = &[
    Metric(gauge("up", None, OF_DATABASE, PASS, "Whether the last pass could observe the database"), |s| {
        Some(Number::from(s.failure.is_none()))
    }),
    Metric(gauge("observation_timestamp", SECONDS, OF_DATABASE, PASS, "When the catalog was last observed"), |s| {
        Some(Number::from(s.observation.as_ref()?.at))
    }),
    Metric(
        gauge("statistics_timestamp", SECONDS, OF_DATABASE, READING, "When sizes and backlogs were last read"),
        |s| Some(Number::from(s.reading.as_ref()?.at)),
    ),
    Metric(
        gauge(
            "statistics_duration",
            SECONDS,
            OF_DATABASE,
            READING,
            "How long the last reading of sizes and backlogs took",
        ),
        |s| Some(Number::from(s.reading.as_ref()?.took)),
    ),
    Metric(
        gauge(
            "statistics_stale",
            None,
            OF_DATABASE,
            READING,
            "Whether the last reading of sizes and backlogs failed: what is shown is older than `spec.statisticsInterval`",
        ),
        |s| Some(Number::from(s.reading_failure.is_some())),
    ),
    Metric(
        gauge(
            "database_size",
            BYTES,
            OF_DATABASE,
            "`pg_database_size`",
            "Size of the database on disk. Absent where the role may not connect to it",
        ),
        |s| Some(Number::from(database(s)?.bytes?)),
    ),
    Metric(
        counter(
            "blocks_hit",
            OF_DATABASE,
            "`pg_stat_database.blks_hit`",
            "Blocks of the database found in the shared buffers",
        ),
        |s| Some(Number::from(database(s)?.blocks_hit)),
    ),
    Metric(
        counter(
            "blocks_read",
            OF_DATABASE,
            "`pg_stat_database.blks_read`",
            "Blocks of the database read from outside of the shared buffers",
        ),
        |s| Some(Number::from(database(s)?.blocks_read)),
    ),
    Metric(
        gauge(
            "background_workers_running",
            None,
            OF_DATABASE,
            "`pg_stat_activity`",
            "Background workers of TimescaleDB that run on the server, for all of its databases: its launcher, one scheduler for each database with the extension and one worker for each running job. Absent on a standby, where none runs",
        ),
        |s| Some(Number::from(database(s)?.workers_running?)),
    ),
    Metric(
        gauge(
            "background_workers_limit",
            None,
            OF_DATABASE,
            "`timescaledb.max_background_workers`",
            "How many background workers of TimescaleDB may run on the server",
        ),
        |s| Some(Number::from(database(s)?.workers_limit?)),
    ),
    Metric(
        gauge(
            "scheduler_running",
            None,
            OF_DATABASE,
            "`pg_stat_activity`",
            "Whether a scheduler runs for this database: without one no job does. Absent on a standby, where none runs",
        ),
        |s| Some(Number::from(database(s)?.scheduler?)),
    ),
];

/// A hypertable or a continuous aggregate.
struct TableView<'a> {
    statistics: Option<&'a TableStatistics>,
    health: Option<&'a TableHealth>,
}

const TABLES: &[OfTable] = &[
    Metric(gauge("hypertable_chunks", None, OF_TABLE, READING, "Chunks"), |t| Some(Number::from(t.statistics?.chunks))),
    Metric(gauge("hypertable_compressed_chunks", None, OF_TABLE, READING, "Chunks that are compressed"), |t| {
        Some(Number::from(t.statistics?.compressed_chunks))
    }),
    Metric(gauge("hypertable_size", BYTES, OF_TABLE, READING, "Size on disk, with indexes and compressed data"), |t| {
        Some(Number::from(t.statistics?.bytes))
    }),
    Metric(
        gauge(
            "hypertable_before_compression",
            BYTES,
            OF_TABLE,
            READING,
            "Size of the compressed chunks before they were compressed",
        ),
        |t| Some(Number::from(t.statistics?.before_compression_bytes)),
    ),
    Metric(
        gauge(
            "hypertable_after_compression",
            BYTES,
            OF_TABLE,
            READING,
            "Size of the compressed chunks after they were compressed",
        ),
        |t| Some(Number::from(t.statistics?.after_compression_bytes)),
    ),
    Metric(
        gauge(
            "hypertable_compression_ratio",
            None,
            OF_TABLE,
            READING,
            "Size before compression by size after it. Absent without compressed chunks",
        ),
        |t| t.statistics?.compression_ratio().map(Number::Float),
    ),
    Metric(
        gauge(
            "hypertable_oldest_data_timestamp",
            SECONDS,
            OF_TABLE,
            READING,
            "Where the range of the oldest chunk begins. Absent where time is an integer",
        ),
        |t| Some(Number::from(t.statistics?.oldest?)),
    ),
    Metric(
        gauge(
            "hypertable_newest_data_timestamp",
            SECONDS,
            OF_TABLE,
            READING,
            "Where the range of the newest chunk ends, which is later than its newest row. Absent where time is an integer",
        ),
        |t| Some(Number::from(t.statistics?.newest?)),
    ),
    Metric(
        gauge(
            "hypertable_chunks_to_compress",
            None,
            OF_TABLE,
            READING,
            "Chunks that the compression policy has to compress by their age and that are not compressed. Absent without a policy and while it is paused",
        ),
        |t| Some(Number::from(t.statistics?.chunks_to_compress?)),
    ),
    Metric(
        gauge(
            "hypertable_chunks_to_drop",
            None,
            OF_TABLE,
            READING,
            "Chunks that the retention policy drops at its next run. Absent without a policy and while it is paused",
        ),
        |t| Some(Number::from(t.statistics?.chunks_to_drop?)),
    ),
    Metric(gauge("hypertable_health", None, OF_TABLE, CATALOG, "Health: 0 healthy, 1 warning, 2 critical"), |t| {
        Some(Number::from(match t.health?.word {
            HealthWord::Healthy => 0,
            HealthWord::Warning => 1,
            HealthWord::Critical => 2,
        }))
    }),
];

/// A continuous aggregate.
struct AggregateView<'a> {
    statistics: &'a TableStatistics,
    lag: Option<Duration>,
}

const AGGREGATES: &[OfAggregate] = &[
    Metric(
        gauge(
            "continuous_aggregate_lag",
            SECONDS,
            OF_AGGREGATE,
            READING,
            "How far the materialisation is behind what the last run of the refresh policy had to do, in whole buckets; 0 when it is in time. Absent without a policy, while it is paused, and where time is an integer",
        ),
        |a| Some(Number::from(a.lag?)),
    ),
    Metric(
        gauge(
            "continuous_aggregate_invalidations",
            None,
            OF_AGGREGATE,
            READING,
            "Ranges written to since they were materialised, which refreshes of them do again",
        ),
        |a| Some(Number::from(a.statistics.invalidations?)),
    ),
];

/// A policy or another job.
struct JobView<'a> {
    healthy: Option<bool>,
    scheduled: bool,
    statistics: &'a JobStatistics,
    /// When it was seen.
    at: Timestamp,
}

const BGW_JOB_STAT: &str = "`bgw_job_stat`";

const JOBS: &[OfJob] = &[
    Metric(
        gauge(
            "job_healthy",
            None,
            OF_JOB,
            CATALOG,
            "Whether the job does what it should, as the condition `JobHealthy` says it. Absent while that is not known, and of other jobs than policies",
        ),
        |j| Some(Number::from(j.healthy?)),
    ),
    Metric(
        gauge(
            "job_scheduled",
            None,
            OF_JOB,
            "`bgw_job`",
            "Whether the scheduler runs the job; 0 while it is paused, by a person or by TimescaleDB",
        ),
        |j| Some(Number::from(j.scheduled)),
    ),
    Metric(gauge("job_last_success_timestamp", SECONDS, OF_JOB, BGW_JOB_STAT, "When a run last ended well"), |j| {
        Some(Number::from(j.statistics.last_success?))
    }),
    Metric(
        gauge("job_last_run_duration", SECONDS, OF_JOB, BGW_JOB_STAT, "How long the last run took that has ended"),
        |j| Some(Number::from(j.statistics.last_duration()?)),
    ),
    Metric(
        gauge(
            "job_next_start_timestamp",
            SECONDS,
            OF_JOB,
            BGW_JOB_STAT,
            "When the job runs next. Absent while it runs, and when it is not planned",
        ),
        |j| Some(Number::from(j.statistics.next_start?)),
    ),
    Metric(
        gauge(
            "job_overdue",
            SECONDS,
            OF_JOB,
            BGW_JOB_STAT,
            "How long ago the job should have started when it was last seen; 0 when it is not due, running or not on the schedule",
        ),
        |j| Some(Number::from(schedule::overdue(j.scheduled, j.statistics, j.at))),
    ),
    Metric(
        gauge(
            "job_never_started",
            None,
            OF_JOB,
            BGW_JOB_STAT,
            "Whether the job is on the schedule, should have started and never has",
        ),
        |j| Some(Number::from(schedule::never_started(j.scheduled, j.statistics, j.at))),
    ),
    Metric(
        gauge(
            "job_consecutive_failures",
            None,
            OF_JOB,
            BGW_JOB_STAT,
            "Runs that ended with an error since the last that ended well",
        ),
        |j| Some(Number::from(j.statistics.consecutive_failures)),
    ),
    Metric(counter("job_runs", OF_JOB, BGW_JOB_STAT, "Runs begun"), |j| Some(Number::from(j.statistics.runs))),
    Metric(counter("job_failures", OF_JOB, BGW_JOB_STAT, "Runs that ended with an error"), |j| {
        Some(Number::from(j.statistics.failures))
    }),
];

/// All that is said of databases, in the order it is scraped in.
pub(super) fn descriptions() -> impl Iterator<Item = &'static Description> + Clone {
    let databases = DATABASES.iter().map(|Metric(description, _)| description);
    let tables = TABLES.iter().map(|Metric(description, _)| description);
    let aggregates = AGGREGATES.iter().map(|Metric(description, _)| description);
    let jobs = JOBS.iter().map(|Metric(description, _)| description);
    std::iter::once(&INFO).chain(databases).chain(tables).chain(aggregates).chain(jobs)
}

type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// Things of one kind, with their labels.
type Labelled<'a, T> = Vec<(Labels<'a>, T)>;

/// Encodes what is on the board. A scrape asks no database, and what is not on the board any more has no series.
#[derive(Debug)]
pub(super) struct Databases(pub(super) Board);

impl Collector for Databases {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        let (mut databases, mut infos) = (Labelled::new(), Labelled::new());
        let (mut tables, mut aggregates, mut jobs) = (Labelled::new(), Labelled::new(), Labelled::new());
        for ((namespace, name), snapshot) in &all {
            let labels = vec![("namespace", Cow::from(namespace)), ("database", Cow::from(name))];
            if let Some(observation) = &snapshot.observation {
                infos.push((with(&labels, versions(&observation.catalog.server)), ()));
            }
            collect_tables(snapshot, &labels, &mut tables, &mut aggregates);
            collect_jobs(snapshot, &labels, &mut jobs);
            databases.push((labels, &**snapshot));
        }
        write(&mut encoder, &INFO, &infos, |()| Some(Number::from(true)))?;
        for Metric(description, value) in DATABASES {
            write(&mut encoder, description, &databases, |snapshot| value(snapshot))?;
        }
        for Metric(description, value) in TABLES {
            write(&mut encoder, description, &tables, value)?;
        }
        for Metric(description, value) in AGGREGATES {
            write(&mut encoder, description, &aggregates, value)?;
        }
        for Metric(description, value) in JOBS {
            write(&mut encoder, description, &jobs, value)?;
        }
        Ok(())
    }
}

/// Encodes how many resources give which reason.
#[derive(Debug)]
pub(super) struct Resources(pub(super) Board);

impl Collector for Resources {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.all();
        let mut counts = Labelled::new();
        for ((namespace, name), snapshot) in &all {
            let labels = vec![("namespace", Cow::from(namespace)), ("database", Cow::from(name))];
            for ((kind, reason), count) in &snapshot.reasons {
                counts.push((with(&labels, [("kind", Cow::from(*kind)), ("reason", Cow::from(*reason))]), *count));
            }
        }
        write(&mut encoder, &RESOURCES, &counts, |count| Some(Number::from(*count)))
    }
}

/// One metric of all things that have a value of it.
fn write<T>(
    encoder: &mut DescriptorEncoder<'_>,
    description: &Description,
    all: &Labelled<'_, T>,
    value: impl Fn(&T) -> Option<Number>,
) -> fmt::Result {
    let unit = description.unit.map(Unit::registered);
    let kind = description.kind.metric_type();
    let mut metric = encoder.encode_descriptor(description.name, description.help, unit.as_ref(), kind)?;
    for (labels, of) in all {
        let Some(number) = value(of) else { continue };
        let labels = labels.as_slice();
        let mut sample = metric.encode_family(&labels)?;
        match description.kind {
            Kind::Counter => sample.encode_counter::<NoLabelSet, _, f64>(&number, None)?,
            Kind::Gauge | Kind::Histogram | Kind::Info => sample.encode_gauge(&number)?,
        }
    }
    Ok(())
}

fn with<'a, const N: usize>(labels: &Labels<'a>, more: [(&'static str, Cow<'a, str>); N]) -> Labels<'a> {
    labels.iter().cloned().chain(more).collect()
}

fn versions(server: &Server) -> [(&'static str, Cow<'_, str>); 3] {
    let timescaledb = server.extension.as_ref().map(|extension| extension.version.to_string()).unwrap_or_default();
    [
        ("timescaledb_version", timescaledb.into()),
        ("postgres_version", server.postgres_version().into()),
        ("license", server.license.as_deref().unwrap_or_default().into()),
    ]
}

/// The name of a table, as labels.
fn name_of(relation: &Relation) -> [(&'static str, Cow<'_, str>); 2] {
    [("schema", relation.schema.as_str().into()), ("table", relation.name.as_str().into())]
}

/// What the catalog has of tables: those that are gone since the last reading are not in it any more.
fn collect_tables<'a>(
    snapshot: &'a Snapshot,
    labels: &Labels<'a>,
    tables: &mut Labelled<'a, TableView<'a>>,
    aggregates: &mut Labelled<'a, AggregateView<'a>>,
) {
    let Some(observation) = &snapshot.observation else { return };
    let catalog = &*observation.catalog;
    let reading = snapshot.reading.as_deref();
    let statistics = |relation: &Relation| reading.and_then(|reading| reading.statistics.tables.get(relation));
    let names = catalog.hypertables.iter().map(|(relation, h)| (relation, h.id, "Hypertable"));
    let views = catalog.aggregates.iter().map(|(view, a)| (view, a.hypertable.id, "ContinuousAggregate"));
    let mut by_id: HashMap<i32, &Relation> = HashMap::new();
    for (relation, id, kind) in names.chain(views) {
        by_id.insert(id, relation);
        let health = observation.tables.get(relation);
        let labels = with(&with(labels, name_of(relation)), [("kind", kind.into())]);
        tables.push((labels, TableView { statistics: statistics(relation), health }));
    }
    let mut policies: HashMap<i32, Vec<&Job>> = HashMap::new();
    for job in catalog.jobs.iter().filter(|job| job.policy.kind() == PolicyKind::Refresh) {
        policies.entry(job.hypertable_id).or_default().push(job);
    }
    for (view, aggregate) in &catalog.aggregates {
        let Some((own, Reading { at, .. })) = statistics(view).zip(reading) else { continue };
        let source = by_id.get(&aggregate.source_id).and_then(|relation| statistics(relation));
        let jobs = policies.get(&aggregate.hypertable.id).map_or(&[][..], |jobs| jobs);
        let lag = source.and_then(|source| lag::lag(aggregate, jobs, own, source, *at));
        aggregates.push((with(labels, name_of(view)), AggregateView { statistics: own, lag }));
    }
}

fn collect_jobs<'a>(snapshot: &'a Snapshot, labels: &Labels<'a>, jobs: &mut Labelled<'a, JobView<'a>>) {
    let nowhere = || [("schema", "".into()), ("table", "".into())];
    if let Some(observation) = &snapshot.observation {
        let catalog = &*observation.catalog;
        let names = catalog.hypertables.iter().map(|(relation, h)| (h.id, relation));
        let views = catalog.aggregates.iter().map(|(view, a)| (a.hypertable.id, view));
        let by_id: HashMap<i32, &Relation> = names.chain(views).collect();
        for job in &catalog.jobs {
            let policy = match job.policy.kind() {
                PolicyKind::Compression => "compression",
                PolicyKind::Retention => "retention",
                PolicyKind::Refresh => "refresh",
                PolicyKind::Reorder => "reorder",
            };
            let table = by_id.get(&job.hypertable_id).map_or_else(nowhere, |relation| name_of(relation));
            let labels = with(&with(labels, table), [("policy", policy.into()), ("job_id", job.id.to_string().into())]);
            let healthy = observation.jobs.get(&job.id).and_then(|report| report.health.healthy);
            let (scheduled, statistics, at) = (job.scheduled, &job.statistics, observation.at);
            jobs.push((labels, JobView { healthy, scheduled, statistics, at }));
        }
    }
    if let Some(reading) = &snapshot.reading {
        for job in &reading.statistics.other_jobs {
            let of = [("policy", "other".into()), ("job_id", job.id.to_string().into())];
            let (scheduled, statistics, at) = (job.scheduled, &job.statistics, reading.at);
            jobs.push((with(&with(labels, nowhere()), of), JobView { healthy: None, scheduled, statistics, at }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;
    use crate::{
        api::status::Reason,
        catalog::{
            Aggregate, Catalog, Hypertable,
            statistics::{OtherJob, Statistics},
        },
        error::{Class, Failure},
        metrics::Metrics,
        monitoring::snapshot::Observation,
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn relation(name: &str) -> Relation {
        Relation { schema: "public".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn job(id: i32, hypertable_id: i32, policy: &serde_json::Value) -> Job {
        let job = serde_json::json!({
            "id": id, "hypertable_id": hypertable_id, "policy": policy, "schedule_interval": "12:00:00",
            "max_runtime": "00:00:00", "max_retries": -1, "retry_period": "01:00:00",
            "statistics": {"last_success": "2026-01-01T00:00:00Z", "next_start": "2026-01-01T12:00:00Z", "runs": 7, "failures": 2},
        });
        serde_json::from_value(job).unwrap()
    }

    /// A database with so many hypertables, each with two policies.
    fn seen(tables: i32) -> Snapshot {
        let mut catalog = Catalog::default();
        let mut statistics = Statistics::default();
        for id in 1..=tables {
            let table = relation(&format!("table_{id}"));
            catalog.hypertables.insert(table.clone(), Hypertable { id, ..Hypertable::default() });
            catalog.jobs.push(job(
                1000 + 2 * id,
                id,
                &serde_json::json!({"compression": {"after": {"older_than": "7 days"}}}),
            ));
            catalog.jobs.push(job(
                1001 + 2 * id,
                id,
                &serde_json::json!({"retention": {"after": {"older_than": "90 days"}}}),
            ));
            let read = TableStatistics {
                chunks: 300,
                compressed_chunks: 290,
                bytes: 123_456_789_012,
                before_compression_bytes: 1_234_567_890_123,
                after_compression_bytes: 98_765_432_101,
                oldest: Some(at("2026-01-01T00:00:00Z")),
                newest: Some(at("2026-11-01T00:00:00Z")),
                chunks_to_compress: Some(3),
                chunks_to_drop: Some(0),
                ..TableStatistics::default()
            };
            statistics.tables.insert(table, read);
        }
        let took = Duration::from_millis(1500);
        let (jobs, tables) = Default::default();
        Snapshot {
            observation: Some(Arc::new(Observation {
                at: at("2026-01-01T13:00:00Z"),
                catalog: Arc::new(catalog),
                jobs,
                tables,
            })),
            reading: Some(Arc::new(Reading { at: at("2026-01-01T12:59:00Z"), took, statistics })),
            ..Snapshot::default()
        }
    }

    fn scrape(snapshot: Snapshot) -> (Board, Metrics) {
        let board = Board::default();
        board.update(&("factory".to_owned(), "ms5".to_owned()), |of| *of = snapshot);
        let metrics = Metrics::new(board.clone());
        (board, metrics)
    }

    #[track_caller]
    fn assert_has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn what_was_seen_of_a_database_is_scraped() {
        let mut snapshot = seen(1);
        let failure = Failure::new(Class::Transient, Reason::Retrying, "slow");
        snapshot.reading_failure = Some(failure);
        let (_, metrics) = scrape(snapshot);
        let text = metrics.text();
        let of = r#"namespace="factory",database="ms5""#;
        let table = format!(r#"{of},schema="public",table="table_1""#);
        for line in [
            format!("timescaledb_up{{{of}}} 1"),
            format!("timescaledb_statistics_stale{{{of}}} 1"),
            format!("timescaledb_statistics_duration_seconds{{{of}}} 1.5"),
            format!("timescaledb_blocks_hit_total{{{of}}} 0"),
            format!(r#"timescaledb_hypertable_chunks{{{table},kind="Hypertable"}} 300"#),
            format!(
                r#"timescaledb_hypertable_oldest_data_timestamp_seconds{{{table},kind="Hypertable"}} 1767225600.0"#
            ),
            format!(r#"timescaledb_job_overdue_seconds{{{table},policy="compression",job_id="1002"}} 3600.0"#),
            format!(r#"timescaledb_job_never_started{{{table},policy="retention",job_id="1003"}} 0"#),
            format!(r#"timescaledb_job_runs_total{{{table},policy="retention",job_id="1003"}} 7"#),
        ] {
            assert_has(&text, &line);
        }
        assert!(!text.contains("timescaledb_database_size_bytes{"), "what is not known has no series");
        assert!(!text.contains("timescaledb_job_healthy{"), "what is not known has no series");
    }

    #[test]
    fn a_database_that_is_forgotten_has_no_series() {
        let (board, metrics) =
            scrape(Snapshot { failure: Some(Failure::new(Class::Transient, Reason::Retrying, "")), ..seen(1) });
        assert_has(&metrics.text(), r#"timescaledb_up{namespace="factory",database="ms5"} 0"#);
        board.forget(&("factory".to_owned(), "ms5".to_owned()));
        assert!(!metrics.text().contains("ms5"));
    }

    #[test]
    fn tables_that_are_gone_since_the_reading_have_no_series() {
        let mut snapshot = seen(2);
        let reading = snapshot.reading.take();
        let (_, metrics) = scrape(Snapshot { reading, ..seen(1) });
        assert!(metrics.text().contains("table_1") && !metrics.text().contains("table_2"));
    }

    #[test]
    fn aggregates_and_other_jobs_are_scraped_too() {
        let mut snapshot = seen(1);
        let aggregate = serde_json::json!({"id": 9, "source_id": 1, "materialized_only": true, "fingerprint": "", "bucket": "01:00:00"});
        let aggregate: Aggregate = serde_json::from_value(aggregate).unwrap();
        let observation = snapshot.observation.as_ref().unwrap();
        let mut catalog = (*observation.catalog).clone();
        catalog.aggregates.insert(relation("odd\"\n"), aggregate);
        catalog.jobs.push(job(
            1500,
            9,
            &serde_json::json!({"refresh": {"start_offset": "1 mon", "end_offset": "01:00:00"}}),
        ));
        let (jobs, tables) = Default::default();
        snapshot.observation =
            Some(Arc::new(Observation { at: observation.at, catalog: Arc::new(catalog), jobs, tables }));
        let mut statistics = snapshot.reading.as_ref().unwrap().statistics.clone();
        let read = TableStatistics {
            refreshed_to: Some(at("2025-12-31T12:00:00Z")),
            invalidations: Some(4),
            ..TableStatistics::default()
        };
        statistics.tables.insert(relation("odd\"\n"), read);
        statistics.other_jobs.push(OtherJob {
            id: 1600,
            procedure: "public.sweep".to_owned(),
            schedule_interval: crate::api::types::Interval::from_days(1),
            scheduled: false,
            statistics: JobStatistics::default(),
        });
        snapshot.reading = Some(Arc::new(Reading { at: at("2026-01-01T12:30:00Z"), took: Duration::ZERO, statistics }));
        let (_, metrics) = scrape(snapshot);
        let text = metrics.text();
        let of = r#"namespace="factory",database="ms5""#;
        let view = format!(r#"{of},schema="public",table="odd\"\n""#);
        assert_has(&text, &format!("timescaledb_continuous_aggregate_invalidations{{{view}}} 4"));
        // Up to 12:30 less an hour and the schedule's twelve: from 12:00 of the day before to 23:00.
        assert_has(&text, &format!("timescaledb_continuous_aggregate_lag_seconds{{{view}}} 39600.0"));
        assert_has(
            &text,
            &format!(r#"timescaledb_job_scheduled{{{of},schema="",table="",policy="other",job_id="1600"}} 0"#),
        );
    }

    /// The figures of a scrape: `cargo test --release --lib series_grow_with_the_tables -- --nocapture`.
    #[test]
    fn series_grow_with_the_tables_and_not_with_their_chunks() {
        let (_, few) = scrape(seen(1));
        let (_, metrics) = scrape(seen(500));
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        let started = Instant::now();
        let text = metrics.text();
        let took = started.elapsed();
        println!("500 hypertables with two policies each: {} series, {} bytes, {took:?}", samples(&text), text.len());
        let (one, all) = (samples(&few.text()), samples(&text));
        let per_table = TABLES.len() - 1 + 2 * (JOBS.len() - 2);
        assert_eq!(all - one, 499 * per_table, "all but the health, and of jobs their health and the duration");
    }
}
