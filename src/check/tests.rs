//! Every rule in a database where it fires and in one that is nearly so and healthy.

use serde_json::{from_value, json};

use super::*;
use crate::catalog::Answer;

const NOW: &str = "2026-03-01T12:00:00Z";

/// A database with one hypertable, one aggregate on it, and all policies, in which nothing is wrong.
struct World {
    catalog: Catalog,
    statistics: Option<Statistics>,
    errors: BTreeMap<i32, JobError>,
    inspection: Inspection,
    answers: Answers,
    scope: Scope,
}

fn relation(name: &str) -> Relation {
    format!("public.{name}").parse().unwrap()
}

fn name(name: &str) -> SqlName {
    name.parse().unwrap()
}

fn index(columns: &[&str]) -> crate::catalog::Index {
    let keys: Vec<_> = columns.iter().map(|column| json!({"column": column})).collect();
    from_value(json!({"columns": keys})).unwrap()
}

impl World {
    fn healthy() -> Self {
        let job = |id: i32, on: i32, policy: serde_json::Value| {
            json!({
                "id": id, "hypertable_id": on, "policy": policy, "schedule_interval": "1 hour", "max_runtime": "00:00:00",
                "max_retries": -1, "retry_period": "1 hour", "timezone": "Europe/Berlin", "statistics": {
                    "last_start": "2026-03-01T11:30:00Z", "last_finish": "2026-03-01T11:30:01Z",
                    "last_success": "2026-03-01T11:30:01Z", "last_run_succeeded": true,
                    "next_start": "2026-03-01T12:30:00Z", "runs": 10,
                },
            })
        };
        let time = json!([{"column": "ts", "partitioning": {"range": "1 day"}}]);
        let catalog = from_value(json!({
            "server": {
                "version_num": 170_005, "license": "timescale",
                "extension": {"version": "2.23.1", "schema": "public"},
            },
            "hypertables": {"public.metrics": {
                "id": 1, "dimensions": time,
                "columnstore": {"segment_by": ["device"], "order_by": [{"column": "ts", "descending": true}]},
                "indexes": {"metrics_pkey": {
                    "columns": [{"column": "device"}, {"column": "ts"}], "unique": true, "constraint": true,
                }},
            }},
            "aggregates": {"public.hourly": {
                "id": 2, "source_id": 1, "materialized_only": true, "fingerprint": "", "bucket": "1 hour",
                "dimensions": [{"column": "bucket", "partitioning": {"range": "10 days"}}],
            }},
            "jobs": [
                job(1000, 1, json!({"compression": {"after": {"older_than": "7 days"}}})),
                job(1001, 1, json!({"retention": {"after": {"older_than": "90 days"}}})),
                job(1002, 2, json!({"refresh": {"start_offset": "3 days", "end_offset": "1 hour"}})),
            ],
        }));
        let table = |rest: serde_json::Value| {
            let mut table = json!({
                "chunks": 90, "bytes": 9_i64 << 30, "oldest": "2025-12-01T00:00:00Z", "newest": "2026-03-02T00:00:00Z",
            });
            table.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            from_value(table).unwrap()
        };
        let statistics = Statistics {
            database: from_value(json!({"workers_limit": 16, "workers_running": 3, "scheduler": true})).unwrap(),
            tables: [
                (
                    relation("metrics"),
                    table(json!({
                        "compressed_chunks": 80, "before_compression_bytes": 80_i64 << 30,
                        "after_compression_bytes": 8_i64 << 30, "chunks_to_compress": 0, "chunks_to_drop": 0,
                    })),
                ),
                (
                    relation("hourly"),
                    table(json!({"chunks": 9, "bytes": 90 << 20, "watermark": "2026-03-01T10:00:00Z"})),
                ),
            ]
            .into(),
            other_jobs: Vec::new(),
        };
        let hypertable = json!({
            "readable": true, "sequential_scans": 100, "sequential_rows": 9_900_000, "index_scans": 5,
            "compressed_rows": 800_000, "batches": 1_000,
        });
        let inspection = Inspection {
            server: from_value(json!({
                "now": NOW, "database": "factory", "role": "operator", "in_recovery": false,
                "available_version": "2.23.1", "max_worker_processes": 27, "max_parallel_workers": 8,
                "shared_buffers": 1_i64 << 30, "schedulers": 3, "counted_since": "2026-02-01T00:00:00Z",
                "can_connect": true, "can_make_temporary": true,
            }))
            .unwrap(),
            privileges: from_value(json!({
                "owners": [{"role": "owner", "member": true, "login": true, "schema": "public", "relations": 2}],
                "schemas": [{"schema": "public", "create": true}],
            }))
            .unwrap(),
            hypertables: [(relation("metrics"), from_value(hypertable).unwrap())].into(),
            indexes: [((relation("metrics"), name("metrics_pkey")), IndexUsage { scans: 5, bytes: 1 << 30 })].into(),
            tables: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        let scope = Scope {
            only: BTreeSet::new(),
            skip: BTreeSet::new(),
            schemas: BTreeSet::new(),
            unused_after: Interval::from_days(7),
            role_named: false,
        };
        let (errors, answers) = (BTreeMap::new(), Answers::new());
        Self { catalog: catalog.unwrap(), statistics: Some(statistics), errors, inspection, answers, scope }
    }

    fn report(&self) -> Report {
        let facts = Facts {
            catalog: &self.catalog,
            statistics: self.statistics.as_ref(),
            errors: &self.errors,
            inspection: &self.inspection,
            answers: &self.answers,
        };
        check(&facts, &self.scope)
    }

    fn table(&mut self) -> &mut crate::catalog::Hypertable {
        self.catalog.hypertables.get_mut(&relation("metrics")).unwrap()
    }

    fn columnstore(&mut self) -> &mut crate::catalog::Columnstore {
        self.table().columnstore.as_mut().unwrap()
    }

    fn aggregate(&mut self) -> &mut crate::catalog::Aggregate {
        self.catalog.aggregates.get_mut(&relation("hourly")).unwrap()
    }

    fn statistics(&mut self, of: &str) -> &mut crate::catalog::statistics::TableStatistics {
        self.statistics.as_mut().unwrap().tables.get_mut(&relation(of)).unwrap()
    }

    fn database(&mut self) -> &mut crate::catalog::statistics::DatabaseStatistics {
        &mut self.statistics.as_mut().unwrap().database
    }

    fn read(&mut self) -> &mut HypertableFacts {
        self.inspection.hypertables.get_mut(&relation("metrics")).unwrap()
    }

    /// The job of the compression policy.
    fn job(&mut self) -> &mut crate::catalog::Job {
        &mut self.catalog.jobs[0]
    }

    fn set_policy(&mut self, job: usize, policy: serde_json::Value) {
        self.catalog.jobs[job].policy = from_value(policy).unwrap();
    }

    fn add_index(&mut self, called: &str, index: crate::catalog::Index, scans: i64, bytes: i64) {
        self.table().indexes.insert(name(called), index);
        self.inspection.indexes.insert((relation("metrics"), name(called)), IndexUsage { scans, bytes });
    }

    /// Chunks that ANALYZE has seen with so many devices each, and always the same one where there is one.
    fn add_samples(&mut self, rows: i64, distinct: i64, only: &[Option<&str>]) {
        let sample = |only: Option<&str>| {
            from_value(json!({"rows": rows, "columns": {"device": {"distinct": distinct, "only": only}}})).unwrap()
        };
        let samples = only.iter().copied().map(sample).collect();
        let read = self.read();
        (read.samples, read.compressed_rows, read.batches) = (samples, 0, 0);
    }

    /// An ordinary table of events.
    fn add_table(&mut self, rows: i64, changed: i64, correlation: f64, key: &[&str]) {
        let table = json!({
            "readable": true, "rows": rows, "bytes": rows * 50, "inserted": rows, "updated": changed, "deleted": 0,
            "time_columns": [
                {"column": "created_at", "not_null": true, "correlation": correlation},
                {"column": "closed_at", "not_null": false, "correlation": 1.0},
            ],
        });
        self.inspection.tables.insert(relation("events"), from_value(table).unwrap());
        let answer = json!({
            "kind": "table", "unique_indexes": {"events_pkey": key},
            "columns": {"id": "bigint", "created_at": "timestamp with time zone"},
        });
        for question in candidates(&self.inspection) {
            self.answers.insert(question, Answer::Table(Some(from_value(answer.clone()).unwrap())));
        }
    }
}

fn other_job(scheduled: bool) -> crate::catalog::statistics::OtherJob {
    from_value(json!({
        "id": 1010, "procedure": "public.tidy", "schedule_interval": "1 day", "scheduled": scheduled,
        "statistics": {"last_start": "2026-03-01T01:00:00Z", "last_finish": "2026-03-01T01:00:01Z", "runs": 3,
            "failures": 1, "consecutive_failures": 1, "last_run_succeeded": false},
    }))
    .unwrap()
}

type Change = fn(&mut World);

/// For each rule what it is told of, a change that makes it fire, and one that comes close.
const CASES: &[(Rule, &str, Change, Change)] = &[
    (Rule::ExtensionMissing, "database factory", |w| w.catalog.server.extension = None, |_| {}),
    (
        Rule::VersionUnsupported,
        "database factory",
        |w| w.catalog.server.version_num = 130_000,
        |w| w.catalog.server.version_num = 140_000,
    ),
    (Rule::LibraryNotLoaded, "database factory", |w| w.catalog.server.license = None, |_| {}),
    (Rule::Restoring, "database factory", |w| w.catalog.server.restoring = true, |w| w.catalog.server.read_only = true),
    (
        Rule::ExtensionOutdated,
        "database factory",
        |w| w.inspection.server.available_version = from_value(json!("2.24.0")).unwrap(),
        |w| w.inspection.server.available_version = from_value(json!("2.22.9")).unwrap(),
    ),
    (Rule::LicenseApache, "server settings", |w| w.catalog.server.license = Some("apache".to_owned()), |_| {}),
    (
        Rule::SchedulerNotRunning,
        "database factory",
        |w| w.database().scheduler = Some(false),
        |w| {
            w.catalog.jobs.clear();
            w.database().scheduler = Some(false);
        },
    ),
    (
        Rule::TooFewBackgroundWorkers,
        "server settings",
        |w| w.database().workers_limit = Some(4),
        |w| w.database().workers_limit = Some(5),
    ),
    (
        Rule::TooFewWorkerProcesses,
        "server settings",
        |w| w.inspection.server.max_worker_processes = 26,
        |w| w.inspection.server.max_worker_processes = 27,
    ),
    (Rule::RoleNotOwner, "role operator", |w| w.inspection.privileges.owners[0].member = false, |_| {}),
    (Rule::RoleLacksPrivilege, "role operator", |w| w.inspection.privileges.schemas[0].create = false, |_| {}),
    (Rule::OwnerWithoutLogin, "role owner", |w| w.inspection.privileges.owners[0].login = false, |_| {}),
    (
        Rule::NoCompression,
        "public.metrics",
        |w| drop(w.catalog.jobs.remove(0)),
        |w| {
            // One chunk is the one that is written to.
            w.catalog.jobs.remove(0);
            w.statistics("metrics").chunks = 1;
        },
    ),
    (Rule::NoRetention, "public.metrics", |w| drop(w.catalog.jobs.remove(1)), |w| w.catalog.jobs[1].scheduled = false),
    (
        Rule::CompressionBacklog,
        "public.metrics",
        |w| w.statistics("metrics").chunks_to_compress = Some(60),
        |w| w.statistics("metrics").chunks_to_compress = Some(50),
    ),
    (
        Rule::RetentionBacklog,
        "public.metrics",
        |w| w.statistics("metrics").chunks_to_drop = Some(12),
        |w| w.statistics("metrics").chunks_to_drop = Some(11),
    ),
    (Rule::SegmentByTooFine, "public.metrics", |w| w.read().batches = 8_001, |w| w.add_samples(10_000, 100, &[None])),
    (
        Rule::SegmentBySingleValue,
        "public.metrics",
        |w| w.add_samples(5_000, 1, &[Some("a"), Some("a")]),
        |w| w.add_samples(5_000, 1, &[Some("a"), Some("b")]),
    ),
    (
        Rule::OrderByWithoutTime,
        "public.metrics",
        |w| w.columnstore().order_by = from_value(json!([{"column": "value"}])).unwrap(),
        |w| w.columnstore().order_by = from_value(json!([{"column": "value"}, {"column": "ts"}])).unwrap(),
    ),
    (
        Rule::RetentionErasesHistory,
        "public.metrics",
        |w| w.set_policy(2, json!({"refresh": {"start_offset": null, "end_offset": "1 hour"}})),
        |w| {
            w.set_policy(2, json!({"refresh": {"start_offset": null, "end_offset": "1 hour"}}));
            w.catalog.jobs[1].scheduled = false;
        },
    ),
    (
        Rule::RefreshWindowTooSmall,
        "public.hourly",
        |w| w.set_policy(2, json!({"refresh": {"start_offset": "2 hours", "end_offset": "1 hour"}})),
        |w| w.set_policy(2, json!({"refresh": {"start_offset": "3 hours", "end_offset": "1 hour"}})),
    ),
    (
        Rule::PoliciesAtOdds,
        "public.metrics",
        |w| w.set_policy(0, json!({"compression": {"after": {"older_than": "2 days"}}})),
        |w| w.set_policy(0, json!({"compression": {"after": {"older_than": "3 days"}}})),
    ),
    (
        Rule::JobGaveUp,
        "public.metrics: job 1000",
        |w| (w.job().scheduled, w.job().gave_up, w.job().statistics.consecutive_failures) = (false, true, 3),
        |w| w.job().statistics.failures = 3,
    ),
    (
        Rule::JobNotStarted,
        "public.metrics: job 1000",
        |w| w.job().statistics.next_start = Some("2026-03-01T11:57:00Z".parse().unwrap()),
        |w| w.job().statistics.next_start = Some("2026-03-01T11:59:00Z".parse().unwrap()),
    ),
    (
        Rule::JobFailing,
        "public.metrics: job 1000",
        |w| w.job().statistics.consecutive_failures = 1,
        |w| w.job().statistics.failures = 1,
    ),
    (Rule::JobPaused, "public.metrics: job 1000", |w| w.job().scheduled = false, |w| w.job().statistics.runs = 0),
    (
        Rule::AggregateNeverRefreshed,
        "public.hourly",
        |w| w.statistics("hourly").watermark = None,
        |w| {
            // Its first run is still to come.
            w.statistics("hourly").watermark = None;
            w.catalog.jobs[2].statistics = from_value(json!({"next_start": "2026-03-01T12:30:00Z"})).unwrap();
        },
    ),
    (
        Rule::AggregateWithoutRefresh,
        "public.hourly",
        |w| drop(w.catalog.jobs.pop()),
        |w| w.catalog.jobs[2].scheduled = false,
    ),
    (
        Rule::AggregateBehind,
        "public.hourly",
        |w| w.statistics("hourly").watermark = Some("2026-03-01T08:00:00Z".parse().unwrap()),
        |w| {
            w.statistics("hourly").watermark = Some("2026-03-01T08:00:00Z".parse().unwrap());
            w.aggregate().materialized_only = false;
        },
    ),
    (
        Rule::TooManyChunks,
        "public.metrics",
        |w| w.statistics("metrics").chunks = 1_001,
        |w| w.statistics("metrics").chunks = 1_000,
    ),
    (
        Rule::ChunksTooSmall,
        "public.metrics",
        |w| *w.statistics("metrics") = from_value(json!({"chunks": 101, "bytes": 100 << 20})).unwrap(),
        |w| *w.statistics("metrics") = from_value(json!({"chunks": 101, "bytes": 101 << 20})).unwrap(),
    ),
    (
        Rule::ChunksTooLarge,
        "public.metrics",
        |w| w.inspection.server.shared_buffers = (1 << 30) / 10 - 1,
        |w| w.inspection.server.shared_buffers = (1 << 30) / 10 + 1,
    ),
    (
        Rule::IndexInvalid,
        "public.metrics: index metrics_value",
        |w| w.add_index("metrics_value", crate::catalog::Index { valid: false, ..index(&["value"]) }, 0, 0),
        |w| w.add_index("tsdbop_building_0", crate::catalog::Index { valid: false, ..index(&["value"]) }, 0, 0),
    ),
    (
        Rule::IndexDuplicate,
        "public.metrics: index metrics_b",
        |w| {
            w.add_index("metrics_a", index(&["value"]), 1, 0);
            w.add_index("metrics_b", index(&["value"]), 1, 0);
        },
        |w| {
            w.add_index("metrics_a", index(&["value"]), 1, 0);
            w.add_index(
                "metrics_b",
                crate::catalog::Index { predicate: Some("(x)".into()), ..index(&["value"]) },
                1,
                0,
            );
        },
    ),
    (
        Rule::IndexRedundant,
        "public.metrics: index metrics_device",
        |w| w.add_index("metrics_device", index(&["device"]), 1, 0),
        |w| w.add_index("metrics_ts", index(&["ts"]), 1, 0),
    ),
    (
        Rule::IndexUnused,
        "public.metrics: index metrics_value",
        |w| w.add_index("metrics_value", index(&["value"]), 0, 1 << 20),
        |w| w.add_index("metrics_value", index(&["value"]), 0, (1 << 20) - 1),
    ),
    (
        Rule::MissingIndex,
        "public.metrics",
        |w| (w.read().sequential_scans, w.read().sequential_rows) = (900, 9_000_000),
        |w| (w.read().sequential_scans, w.read().sequential_rows) = (899, 9_000_000),
    ),
    (
        Rule::ForeignKeyWithoutIndex,
        "public.metrics",
        |w| {
            let key = json!({"name": "metrics_device_fkey", "columns": ["device"], "references": "public.devices"});
            w.read().foreign_keys.push(from_value(key).unwrap());
        },
        |_| {},
    ),
    (
        Rule::ShouldBeHypertable,
        "public.events",
        |w| w.add_table(1_000_000, 100_000, 0.9, &["id", "created_at"]),
        |w| w.add_table(1_000_000, 100_001, 1.0, &["id", "created_at"]),
    ),
    (
        Rule::ConversionBlocked,
        "public.events",
        |w| w.add_table(10_000, 0, 1.0, &["id"]),
        |w| w.add_table(10_000, 0, 0.8, &["id"]),
    ),
];

#[test]
fn nothing_is_found_in_a_healthy_database() {
    let report = World::healthy().report();
    assert_eq!(report.findings, []);
    assert_eq!(report.unchecked, []);
    assert_eq!((report.postgres.as_str(), report.timescaledb.as_deref()), ("17.5", Some("2.23.1")));
}

#[test]
fn every_rule_fires_where_it_should_and_not_before() {
    for (rule, object, fires, comes_close) in CASES {
        let found = |change: &Change| {
            let mut world = World::healthy();
            change(&mut world);
            world.report().findings.into_iter().filter(|finding| finding.rule == *rule).collect::<Vec<_>>()
        };
        let [finding] = &found(fires)[..] else { panic!("{rule}: {:?}", found(fires)) };
        assert_eq!(finding.object.to_string(), *object, "{rule}");
        assert!(!finding.message.is_empty() && finding.fix.text.ends_with('.'), "{finding:?}");
        assert_eq!(found(comes_close), [], "{rule}");
    }
    let tested: Vec<_> = CASES.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(tested, Rule::ALL);
}

#[test]
fn a_rule_that_fires_brings_no_others_along() {
    // What each of these means for other rules is theirs to say.
    let others = [
        (Rule::SchedulerNotRunning, vec![]),
        (Rule::AggregateWithoutRefresh, vec![]),
        (Rule::JobGaveUp, vec![]),
        (Rule::RetentionErasesHistory, vec![Rule::PoliciesAtOdds]),
        (Rule::ShouldBeHypertable, vec![]),
    ];
    for (rule, others) in others {
        let mut world = World::healthy();
        CASES.iter().find(|case| case.0 == rule).unwrap().2(&mut world);
        let found: Vec<_> = world.report().findings.iter().map(|finding| finding.rule).collect();
        let mut expected = vec![rule];
        expected.extend(others);
        assert_eq!(found, expected);
    }
}

#[test]
fn findings_come_worst_first_and_always_in_the_same_order() {
    let mut world = World::healthy();
    for case in [Rule::NoRetention, Rule::JobGaveUp, Rule::IndexDuplicate] {
        CASES.iter().find(|(rule, ..)| *rule == case).unwrap().2(&mut world);
    }
    let rules = |report: &Report| report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>();
    let report = world.report();
    assert_eq!(rules(&report), [Rule::JobGaveUp, Rule::IndexDuplicate, Rule::NoRetention]);
    assert_eq!(report.summary, Summary { critical: 1, warning: 1, info: 1 });
    assert!(report.reaches(Severity::Critical));
    assert_eq!(rules(&world.report()), rules(&report));
}

#[test]
fn a_scope_leaves_out_rules_and_schemas() {
    let mut world = World::healthy();
    world.catalog.jobs.remove(1);
    world.inspection.server.max_worker_processes = 8;
    let rules = |world: &World| world.report().findings.iter().map(|finding| finding.rule).collect::<Vec<_>>();
    assert_eq!(rules(&world), [Rule::TooFewWorkerProcesses, Rule::NoRetention]);
    world.scope.schemas = ["another".to_owned()].into();
    assert_eq!(rules(&world), [Rule::TooFewWorkerProcesses], "the server is in no schema");
    world.scope.skip = [Rule::TooFewWorkerProcesses].into();
    assert_eq!(rules(&world), []);
    world.scope = Scope { only: [Rule::NoRetention].into(), ..World::healthy().scope };
    assert_eq!(rules(&world), [Rule::NoRetention]);
}

#[test]
fn what_cannot_be_looked_at_is_told_and_not_taken_for_healthy() {
    let unchecked = |change: Change| {
        let mut world = World::healthy();
        change(&mut world);
        let report = world.report();
        assert_eq!(report.findings, []);
        report.unchecked.into_iter().map(|gap| (gap.rules, gap.reason)).collect::<Vec<_>>()
    };
    let gaps = unchecked(|w| w.read().readable = false);
    assert_eq!(gaps[0].0, [Rule::SegmentByTooFine, Rule::SegmentBySingleValue]);
    assert!(gaps[0].1.contains("no SELECT on public.metrics"), "{gaps:?}");
    let gaps = unchecked(|w| w.inspection.server.counted_since = Some("2026-03-01T09:00:00Z".parse().unwrap()));
    assert_eq!(gaps[0].0, [Rule::IndexUnused]);
    assert!(gaps[0].1.contains("for 3 hours only"), "{gaps:?}");
    assert_eq!(unchecked(|w| w.inspection.server.counted_since = None)[0].0, [Rule::IndexUnused]);
    let gaps = unchecked(|w| w.inspection.indexes.clear());
    assert!(gaps[0].1.contains("another session holds public.metrics locked"), "{gaps:?}");
    let gaps = unchecked(|w| drop(w.inspection.unread.insert(Part::Tables, "lock timeout".to_owned())));
    assert_eq!(gaps, [(vec![Rule::ShouldBeHypertable, Rule::ConversionBlocked], "lock timeout".to_owned())]);
    let gaps = unchecked(|w| {
        w.statistics = None;
        w.inspection.unread.insert(Part::Statistics, "lock timeout".to_owned());
    });
    assert!(gaps[0].0.contains(&Rule::ChunksTooLarge), "{gaps:?}");
    let gaps = unchecked(|w| {
        w.add_table(2_000_000, 0, 1.0, &["id"]);
        let table = w.inspection.tables.get_mut(&relation("events")).unwrap();
        table.time_columns.iter_mut().for_each(|column| column.correlation = None);
    });
    assert!(gaps[0].1.contains("ANALYZE has not been run on public.events"), "{gaps:?}");
    let gaps = unchecked(|w| w.inspection.server.in_recovery = true);
    assert!(gaps[0].1.contains("standby"), "{gaps:?}");
}

#[test]
fn a_database_without_timescaledb_is_asked_nothing_else() {
    let mut world = World::healthy();
    world.catalog.server.extension = None;
    let report = world.report();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].fix.sql.as_deref(), Some("CREATE EXTENSION timescaledb"));
    assert_eq!(report.unchecked[0].rules.len(), Rule::ALL.len() - 1);
}

#[test]
fn what_a_named_role_lacks_is_a_warning() {
    let mut world = World::healthy();
    world.inspection.privileges.owners[0].member = false;
    world.inspection.server.can_make_temporary = false;
    assert_eq!(world.report().summary, Summary { info: 2, ..Summary::default() });
    world.scope.role_named = true;
    assert_eq!(world.report().summary, Summary { warning: 2, ..Summary::default() });
}

#[test]
fn a_small_table_without_compression_is_no_warning() {
    let mut world = World::healthy();
    world.catalog.jobs.remove(0);
    assert_eq!(world.report().findings[0].severity, Severity::Warning);
    world.statistics("metrics").bytes = (1 << 30) - 1;
    assert_eq!(world.report().findings[0].severity, Severity::Info);
}

#[test]
fn fewer_than_ten_rows_in_a_segment_are_a_warning() {
    let severity = |batches| {
        let mut world = World::healthy();
        world.read().batches = batches;
        world.report().findings[0].severity
    };
    assert_eq!((severity(80_000), severity(80_001)), (Severity::Info, Severity::Warning));
}

#[test]
fn policies_that_are_proposed_are_beyond_every_refresh_window() {
    let mut world = World::healthy();
    world.catalog.jobs.drain(..2);
    world.set_policy(0, json!({"refresh": {"start_offset": "400 days", "end_offset": "1 hour"}}));
    let findings = world.report().findings;
    let resources: Vec<_> = findings.iter().filter_map(|finding| finding.fix.resource.as_deref()).collect();
    assert!(resources[0].contains("compressAfter: 401 days\n"), "{}", resources[0]);
    assert!(resources[1].contains("dropAfter: 401 days\n  paused: true"), "{}", resources[1]);
}

#[test]
fn a_segment_by_that_is_too_fine_gives_its_column_to_order_by() {
    let mut world = World::healthy();
    world.columnstore().segment_by = Some(vec![name("device"), name("site")]);
    let sample = json!({"rows": 10_000, "columns": {
        "device": {"distinct": 5_000, "only": null}, "site": {"distinct": 4, "only": null},
    }});
    world.add_samples(1, 1, &[]);
    world.read().samples = vec![from_value(sample).unwrap()];
    let report = world.report();
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!(finding.evidence["rowsPerSegment"], json!(1));
    assert_eq!(finding.evidence["segments"], json!(10_000), "not more than rows");
    let policy: crate::api::CompressionPolicy =
        serde_saphyr::from_str(finding.fix.resource.as_deref().unwrap()).unwrap();
    assert_eq!(policy.spec.segment_by, Some(vec!["site".to_owned()]));
    let order: Vec<_> = policy.spec.order_by.unwrap().into_iter().map(|by| by.column).collect();
    assert_eq!(order, ["device", "ts"]);
}

#[test]
fn an_index_is_superfluous_only_where_the_other_one_does_all_that_it_does() {
    use crate::catalog::Index;

    let found = |index: Index| {
        let mut world = World::healthy();
        world.add_index("metrics_x", index, 1, 0);
        world.report().findings.iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    // metrics_pkey is unique (device, ts).
    assert_eq!(found(index(&["device", "ts"])), [Rule::IndexRedundant]);
    let mut backwards = index(&["device", "ts"]);
    for key in &mut backwards.columns {
        (key.descending, key.nulls_first) = (true, true);
    }
    assert_eq!(found(backwards.clone()), [Rule::IndexRedundant]);
    (backwards.columns[0].descending, backwards.columns[0].nulls_first) = (false, false);
    assert_eq!(found(backwards), [], "(device, ts DESC) is another order");
    assert_eq!(found(Index { unique: true, ..index(&["device"]) }), []);
    assert_eq!(found(Index { include: vec!["value".into()], ..index(&["device"]) }), []);
    assert_eq!(found(Index { predicate: Some("(value > 0)".into()), ..index(&["device"]) }), []);
    assert_eq!(found(Index { method: "hash".into(), ..index(&["device"]) }), []);
}

#[test]
fn what_the_operator_made_is_dropped_through_its_resource() {
    let mut world = World::healthy();
    let made = "timescaledb-policy-operator: factory/Hypertable/metrics";
    world.add_index("metrics_a", index(&["value"]), 1, 0);
    world.add_index("metrics_b", crate::catalog::Index { comment: Some(made.to_owned()), ..index(&["value"]) }, 1, 0);
    world.add_index("metrics_c", crate::catalog::Index { comment: Some(made.to_owned()), ..index(&["value"]) }, 1, 0);
    let findings = world.report().findings;
    let fix = |of: &str| findings.iter().find(|f| f.object.name == of).map(|f| (f.fix.text.clone(), f.fix.sql.clone()));
    assert_eq!(fix("metrics_a").unwrap().1.as_deref(), Some(r#"DROP INDEX "public"."metrics_a""#));
    assert_eq!(fix("metrics_b"), None, "the operator's stays before a stranger's");
    let (text, sql) = fix("metrics_c").unwrap();
    assert!(text.contains("spec.indexes of factory/Hypertable/metrics") && sql.is_none(), "{text} {sql:?}");
}

#[test]
fn a_job_is_scheduled_again_with_its_time_zone() {
    let mut world = World::healthy();
    world.job().scheduled = false;
    let sql = world.report().findings[0].fix.sql.clone();
    let expected = r#"SELECT "public".alter_job(1000, scheduled => true, timezone => 'Europe/Berlin')"#;
    assert_eq!(sql.as_deref(), Some(expected));
}

#[test]
fn jobs_of_other_kinds_are_judged_too() {
    let found = |scheduled| {
        let mut world = World::healthy();
        world.statistics.as_mut().unwrap().other_jobs.push(other_job(scheduled));
        let report = world.report();
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        assert!(finding.message.starts_with("public.tidy: "), "{}", finding.message);
        (finding.rule, finding.object.to_string())
    };
    assert_eq!(found(true), (Rule::JobFailing, "job 1010".to_owned()));
    assert_eq!(found(false), (Rule::JobGaveUp, "job 1010".to_owned()));
}

#[test]
fn a_job_that_others_have_overtaken_was_never_started() {
    let mut world = World::healthy();
    // Without a row of its own: only the runs of jobs that were made later say that it is there for long.
    world.job().statistics = crate::catalog::statistics::JobStatistics::default();
    let rules = |world: &World| world.report().findings.iter().map(|finding| finding.rule).collect::<Vec<_>>();
    assert_eq!(rules(&world), [Rule::JobNotStarted]);
    for job in &mut world.catalog.jobs[1..] {
        job.id -= 500;
    }
    assert_eq!(rules(&world), []);
}

#[test]
fn sarif_is_what_its_schema_demands() {
    // The parts of the published schema (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/>) that this
    // output can go against.
    let schema: serde_json::Value = serde_json::from_str(include_str!("sarif.schema.json")).unwrap();
    let schema = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for (rule, _, fires, _) in CASES {
        let mut world = World::healthy();
        fires(&mut world);
        world.inspection.unread.insert(Part::Tables, "lock timeout".to_owned());
        let log = serde_json::to_value(sarif::log(&world.report())).unwrap();
        let problems: Vec<_> =
            schema.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{rule}: {problems:?}");
        let run = &log["runs"][0];
        for result in run["results"].as_array().unwrap() {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        }
        let fired = run["results"].as_array().unwrap().iter().any(|result| result["ruleId"] == rule.id());
        assert!(fired, "{rule}");
    }
}

#[test]
fn the_guide_describes_every_rule_as_it_is() {
    let guide = include_str!("../../docs/guide/check.md");
    let rows: Vec<_> = guide.lines().filter(|line| line.starts_with("| <a id=")).collect();
    let expected = Rule::ALL.iter().map(|rule| {
        format!("| <a id=\"{rule}\"></a>`{rule}` | {} | {} | {} |", rule.severity(), rule.summary(), rule.why())
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}
