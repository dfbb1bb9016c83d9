//! Laws: what is recommended is the rule, whatever the shape of the ingest, and once it is done nothing is.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    api::types::SqlName,
    catalog::{
        Columnstore, Dimension, Job, Partitioning,
        history::{Column, ColumnStatistics, KeyColumns, MemorySetting, Slice},
    },
    resources::Resources,
};

const GIB: i64 = 1 << 30;
const MIB: f64 = 1_048_576.0;
/// Some time in the middle of a day.
const NOW: i64 = 1_795_010_700;

fn name(text: &str) -> SqlName {
    text.parse().unwrap()
}

/// How ingest goes, in bytes per day.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Constant,
    /// Between a fifth of the mean at night and nine fifths of it by day.
    Diurnal,
    /// Ten times as much on one day of the week.
    Bursty,
    /// Twice as much at the end as at the beginning.
    Growing,
}

#[derive(Clone, Debug)]
struct Made {
    shape: Shape,
    /// Mean of the bytes per day; of what grows at the end.
    rate: f64,
    interval: f64,
    days: f64,
    /// Changes of each row.
    changes: f64,
    /// How much each chunk differs from the shape.
    noise: f64,
    devices: f64,
}

impl Made {
    fn constant(rate: f64, interval: f64) -> Self {
        Self { shape: Shape::Constant, rate, interval, days: 60.0, changes: 0.0, noise: 0.0, devices: 50.0 }
    }

    /// Bytes per day at this time.
    fn at(&self, time: f64) -> f64 {
        let age = (float(NOW) - time) / DAY;
        self.rate
            * match self.shape {
                Shape::Constant => 1.0,
                Shape::Diurnal => 0.8_f64.mul_add((time / DAY * std::f64::consts::TAU).sin(), 1.0),
                Shape::Bursty => (if (time / DAY).rem_euclid(7.0) < 1.0 { 10.0 } else { 1.0 }) * 7.0 / 16.0,
                Shape::Growing => 1.0 - age / self.days / 2.0,
            }
    }

    fn history(&self) -> TableHistory {
        let now = float(NOW);
        let begin = now - self.days * DAY;
        let mut slices = Vec::new();
        let mut start = (begin / self.interval).floor() * self.interval;
        let mut odd = 0_u64;
        while start < now {
            let end = start + self.interval;
            let (from, to) = (start.max(begin), end.min(now));
            let parts = ((to - from) / 900.0).ceil().max(1.0);
            let step = (to - from) / parts;
            let bytes: f64 = (0..whole(parts)).map(|n| self.at(step.mul_add(float(n) + 0.5, from)) * step / DAY).sum();
            // The same numbers in every run, in [-1, 1].
            odd = (odd + 1).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wobble = float(i64::try_from(odd >> 40).unwrap()) / 8_388_608.0 - 1.0;
            let bytes = whole(bytes * (1.0 + self.noise * wobble));
            let rows = bytes / 100;
            slices.push(Slice {
                start: whole(start) * 1_000_000,
                end: whole(end) * 1_000_000,
                chunks: 1,
                bytes,
                uncompressed_bytes: bytes,
                uncompressed_index_bytes: bytes * 2 / 5,
                rows,
                inserted_rows: rows,
                changed_rows: whole(float(rows) * self.changes),
                ..Slice::default()
            });
            start = end;
        }
        TableHistory { units_per_second: Some(1e6), slices }
    }

    fn columns(&self) -> TableColumns {
        let column = |text: &str, can_segment, distinct| Column {
            name: name(text),
            can_segment,
            statistics: Some(ColumnStatistics { rows: 1e6, distinct, null_share: 0.0, correlation: Some(0.1) }),
        };
        TableColumns {
            time_column: Some(name("ts")),
            readable: true,
            columns: vec![column("ts", false, 1e6), column("device", true, self.devices), column("value", false, 1e5)],
            indexes: vec![KeyColumns {
                name: name("by_device"),
                unique: false,
                partial: false,
                columns: vec![Some(name("device")), Some(name("ts"))],
            }],
        }
    }
}

struct World {
    catalog: Catalog,
    history: History,
    columns: BTreeMap<i32, TableColumns>,
}

fn world(made: &[Made]) -> World {
    let unset = MemorySetting { bytes: 4 * GIB, is_set: false };
    let server = HistoryServer {
        now: Timestamp::from_second(NOW).unwrap(),
        database_bytes: None,
        shared_buffers: unset,
        effective_cache_size: unset,
    };
    let mut world = World {
        catalog: Catalog::default(),
        history: History { server, tables: BTreeMap::new() },
        columns: BTreeMap::new(),
    };
    for (made, id) in made.iter().zip(1..) {
        let relation = Relation { schema: name("public"), name: name(&format!("t{id:03}")) };
        let dimension = Dimension {
            column: name("ts"),
            type_: Some("timestamp with time zone".to_owned()),
            partitioning: Partitioning::Range(time(made.interval)),
        };
        let hypertable = Hypertable { id, dimensions: vec![dimension], ..Hypertable::default() };
        world.catalog.hypertables.insert(relation, hypertable);
        world.history.tables.insert(id, made.history());
        world.columns.insert(id, made.columns());
    }
    world
}

impl World {
    fn recommend(&self, memory: i64) -> Report {
        let only = BTreeSet::new();
        let Self { catalog, history, columns } = self;
        recommend(&Inputs { catalog, history, columns, memory: Some(memory), fit: Fit::Chunks, only: &only })
    }

    /// Does what the report says.
    fn follow(&mut self, report: &Report) {
        for table in &report.tables {
            let relation = Relation { schema: name(&table.schema), name: name(&table.name) };
            let hypertable = self.catalog.hypertables.get_mut(&relation).unwrap();
            for setting in &table.settings {
                match &setting.recommended {
                    None => {}
                    Some(Value::Span(Span::Time(interval))) if setting.field == Field::ChunkInterval => {
                        hypertable.dimensions[0].partitioning = Partitioning::Range(*interval);
                    }
                    Some(Value::Span(span)) => {
                        self.catalog.jobs.retain(|job| job.hypertable_id != hypertable.id);
                        self.catalog.jobs.push(compresses(hypertable.id, *span));
                    }
                    Some(Value::Columns(columns)) => {
                        let store = hypertable.columnstore.get_or_insert_default();
                        store.segment_by = Some(columns.iter().map(|column| name(column)).collect());
                    }
                    Some(Value::Order(order)) => {
                        let sort = |o: &OrderColumn| SortColumn::new(name(&o.column), o.order, o.nulls);
                        let store = hypertable.columnstore.get_or_insert_default();
                        store.order_by = Some(order.iter().map(sort).collect());
                    }
                }
            }
        }
    }
}

fn compresses(hypertable_id: i32, after: Span) -> Job {
    serde_json::from_value(serde_json::json!({
        "id": 1000 + hypertable_id,
        "hypertable_id": hypertable_id,
        "policy": {"compression": {"after": {"older_than": after}}},
        "schedule_interval": "12:00:00",
        "max_runtime": "00:00:00",
        "max_retries": -1,
        "retry_period": "01:00:00",
    }))
    .unwrap()
}

fn rule(report: &Report, table: usize) -> f64 {
    let settings = &report.tables[table].settings;
    settings.iter().find(|s| s.field == Field::ChunkInterval).and_then(|s| s.rule_seconds).unwrap()
}

fn advised(report: &Report, table: usize) -> Option<f64> {
    let setting = report.tables[table].settings.iter().find(|s| s.field == Field::ChunkInterval)?;
    match setting.recommended.as_ref()? {
        Value::Span(Span::Time(interval)) => Some(length(*interval)),
        _ => None,
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![Just(Shape::Constant), Just(Shape::Diurnal), Just(Shape::Bursty), Just(Shape::Growing)]
}

/// Tables of at least six weeks and twelve chunks, so that there is something to see.
fn made() -> impl Strategy<Value = Made> {
    let interval = prop::sample::select(vec![3_600.0, 6.0 * 3_600.0, DAY, 7.0 * DAY]);
    (shape(), 0.5..4e5_f64, interval, 0.0..90.0_f64, 0.0..0.1_f64, 1.0..5_000.0_f64).prop_map(
        |(shape, mib, interval, more, noise, devices)| {
            let days = (12.0 * interval / DAY).max(42.0) + more;
            // Long histories of short chunks only take time.
            let days = if interval < DAY { days.min(50.0) } else { days };
            Made { shape, rate: mib * MIB, interval, days, changes: 0.0, noise, devices }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_advice_is_within_a_fifth_of_the_rule_whatever_the_shape(made in prop::collection::vec(made(), 1..6), gib in 1..256_i64) {
        let budget = float(gib * GIB) / 4.0;
        let demands: Vec<_> = made.iter().map(|m| Demand { rate: m.rate / DAY, longest: interval::LONGEST }).collect();
        let wanted = interval::share_out(&demands, budget);
        let report = world(&made).recommend(gib * GIB);
        for (index, wanted) in wanted.iter().enumerate() {
            let found = rule(&report, index);
            prop_assert!((found / wanted - 1.0).abs() <= 0.2, "{found} for {wanted}: {:?}", made[index]);
            if let Some(advised) = advised(&report, index) {
                prop_assert!((advised - interval::step_below(found)).abs() < 1.0);
            }
        }
        prop_assert!(float(report.recommended_bytes) <= 1.2 * budget || wanted.iter().any(|t| *t < 1.2 * interval::STEPS[0]));
    }

    #[test]
    fn what_was_recommended_and_done_is_not_recommended_again(made in prop::collection::vec(made(), 1..6), gib in 1..256_i64, changes in 0.0..2.0_f64) {
        let made: Vec<_> = made.into_iter().map(|m| Made { changes, ..m }).collect();
        let mut world = world(&made);
        let first = world.recommend(gib * GIB);
        world.follow(&first);
        let second = world.recommend(gib * GIB);
        prop_assert!(second.is_empty(), "{:#?}\nthen\n{:#?}", first.tables, second.tables);
    }

    #[test]
    fn a_little_more_or_less_ingest_changes_nothing(made in prop::collection::vec(made(), 1..4), gib in 1..256_i64, factor in 0.93..1.07_f64) {
        let mut before = world(&made);
        let first = before.recommend(gib * GIB);
        // One that is near enough is left as it is, and a little more or less may be too much for it.
        let is_left = |(index, m): (usize, &Made)| {
            advised(&first, index).is_none() && (m.interval - interval::step_below(rule(&first, index))).abs() >= 1.0
        };
        prop_assume!(!made.iter().enumerate().any(is_left));
        before.follow(&first);
        let noisy: Vec<_> = made.iter().map(|m| Made { rate: m.rate * factor, noise: 0.1, ..m.clone() }).collect();
        let mut after = world(&noisy);
        after.catalog = before.catalog;
        let report = after.recommend(gib * GIB);
        prop_assert!(report.is_empty(), "{:#?}", report.tables);
    }

    #[test]
    fn the_scale_of_ingest_and_memory_does_not_matter(made in prop::collection::vec(made(), 1..5), gib in 1..64_i64, scale in 2..16_i64) {
        let larger: Vec<_> = made.iter().map(|m| Made { rate: m.rate * float(scale), ..m.clone() }).collect();
        let (small, large) = (world(&made).recommend(gib * GIB), world(&larger).recommend(gib * scale * GIB));
        for index in 0..made.len() {
            prop_assert!((rule(&small, index) / rule(&large, index) - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn more_memory_never_asks_for_shorter_chunks(made in prop::collection::vec(made(), 1..5), gib in 1..64_i64, times in 2..16_i64) {
        let world = world(&made);
        let (less, more) = (world.recommend(gib * GIB), world.recommend(gib * times * GIB));
        for index in 0..made.len() {
            prop_assert!(rule(&more, index) >= rule(&less, index) * (1.0 - 1e-9));
        }
    }
}

#[test]
fn many_small_tables_share_what_a_large_one_leaves() {
    let mut made = vec![Made::constant(1e6, 7.0 * DAY); 200];
    made.push(Made::constant(2e10, DAY));
    let report = world(&made).recommend(64 * GIB);
    assert!(report.recommended_bytes <= report.budget_bytes);
    assert!((rule(&report, 0) - interval::LONGEST).abs() < 1.0, "a small one may have 30 days");
    assert_eq!(advised(&report, 0), None, "and keeps the seven that it has");
    // 16 GiB less 200 times 30 MB are left for 20 GB a day.
    let left = 16.0 * float(GIB) - 200.0 * 30.0 * 1e6;
    assert!((rule(&report, 200) / (left / 2e10 * DAY) - 1.0).abs() < 0.01, "{}", rule(&report, 200));
}

#[test]
fn retention_bounds_the_interval_and_is_never_recommended() {
    let mut world = world(&[Made::constant(1e6, DAY)]);
    let mut job = compresses(1, Span::Time(Interval::from_days(3)));
    job.policy = Policy::Retention { after: Some(Age::OlderThan(Span::Time(Interval::from_days(40)))) };
    world.catalog.jobs.push(job);
    let report = world.recommend(GIB);
    assert!((rule(&report, 0) - 4.0 * DAY).abs() < 1.0, "a tenth of 40 days");
    assert!(!serde_json::to_string(&report).unwrap().contains("dropAfter"));
}

#[test]
fn a_table_that_nothing_comes_into_takes_no_memory() {
    let mut world = world(&[Made::constant(1e9, DAY), Made::constant(1e9, DAY)]);
    let old = world.history.tables.get_mut(&2).unwrap();
    for slice in &mut old.slices {
        slice.start -= 100 * 86_400_000_000;
        slice.end -= 100 * 86_400_000_000;
    }
    let report = world.recommend(8 * GIB);
    let alone = 2.0 * float(GIB) / 1e9 * DAY;
    assert!((rule(&report, 0) / alone - 1.0).abs() < 0.05, "{}", rule(&report, 0));
    assert!(report.tables[1].settings.iter().all(|setting| setting.field != Field::ChunkInterval));
    assert!(report.tables[1].notes.iter().any(|note| note.contains("nothing has come in")), "{:?}", report.tables[1]);
}

#[test]
fn the_memory_is_taken_from_what_is_set() {
    let set = |gib: i64, is_set| MemorySetting { bytes: gib * GIB, is_set };
    let server = |shared_buffers, effective_cache_size| HistoryServer {
        now: Timestamp::UNIX_EPOCH,
        database_bytes: None,
        shared_buffers,
        effective_cache_size,
    };
    let read = |given, server: HistoryServer| memory(given, &server);
    assert_eq!(read(Some(5), server(set(1, true), set(4, true))).bytes, 5);
    assert_eq!(read(None, server(set(1, true), set(12, true))).bytes, 16 * GIB);
    assert_eq!(read(None, server(set(2, true), set(4, false))).bytes, 8 * GIB);
    assert!(read(None, server(set(1, false), set(4, false))).source.contains("assumption"));
}

#[test]
fn segments_have_rows_to_fill_a_batch() {
    let choose = |devices, rows| {
        let table = Made { devices, ..Made::constant(1.0, DAY) }.columns();
        columnstore::choose(&table, None, rows)
    };
    let some = choose(50.0, 1e6);
    assert_eq!(some.segment_by, Some(vec![name("device")]), "{}", some.segment_reason);
    assert_eq!(some.order_by.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(), ["ts DESC"]);
    let many = choose(50_000.0, 1e6);
    assert_eq!(many.segment_by, None, "20 rows each: {}", many.segment_reason);
    assert_eq!(many.order_by.unwrap().iter().map(ToString::to_string).collect::<Vec<_>>(), ["device", "ts DESC"]);
}

#[test]
fn a_segment_by_with_too_many_values_is_replaced_and_a_good_one_stays() {
    let table = Made::constant(1.0, DAY).columns();
    let store = |column: &str| Columnstore { segment_by: Some(vec![name(column)]), ..Columnstore::default() };
    let bad = columnstore::choose(&table, Some(&store("ts")), 1e6);
    assert_eq!(bad.segment_by, Some(vec![name("device")]), "{}", bad.segment_reason);
    let good = columnstore::choose(&table, Some(&store("device")), 1e6);
    assert_eq!((good.segment_by, good.order_by), (None, None), "{}", good.segment_reason);
}

#[test]
fn a_second_column_is_taken_where_indexes_have_both() {
    let mut table = Made::constant(1.0, DAY).columns();
    let mut site = table.columns[1].clone();
    site.name = name("site");
    site.statistics.as_mut().unwrap().distinct = 3.0;
    table.columns.push(site);
    let key = |columns: &[&str]| KeyColumns {
        name: name("k"),
        unique: false,
        partial: false,
        columns: columns.iter().map(|column| Some(name(column))).collect(),
    };
    table.indexes = vec![key(&["site", "device", "ts"]), key(&["site", "ts"])];
    let both = columnstore::choose(&table, None, 1e6);
    assert_eq!(both.segment_by, Some(vec![name("site"), name("device")]), "{}", both.segment_reason);
    let few = columnstore::choose(&table, None, 1e5);
    assert_eq!(few.segment_by, Some(vec![name("site")]), "667 rows for each of both: {}", few.segment_reason);
}

#[test]
fn a_patch_names_the_resources_of_the_files() {
    let report = world(&[Made::constant(1e9, 3_600.0)]).recommend(64 * GIB);
    let read = |text: &str| serde_saphyr::from_str::<serde_json::Value>(text).unwrap();
    let hypertable = read(
        "{apiVersion: timescaledb-policy.io/v1alpha1, kind: Hypertable, metadata: {name: big, namespace: a}, spec: {databaseRef: {name: d}, table: t001, timeColumn: ts}}",
    );
    let policy = read(
        "{apiVersion: timescaledb-policy.io/v1alpha1, kind: CompressionPolicy, metadata: {name: big-c, namespace: a}, spec: {targetRef: {kind: Hypertable, name: big}}}",
    );
    let names = patch::Names::of(&Resources {
        hypertables: vec![Arc::new(serde_json::from_value(hypertable).unwrap())],
        compression: vec![Arc::new(serde_json::from_value(policy).unwrap())],
        ..Resources::default()
    });
    let patches = patch::documents(&report, &names, None);
    let at = |index: usize, path: &str| patches[index].document.pointer(path).cloned().unwrap_or_default();
    assert_eq!(patches.len(), 2, "{patches:#?}");
    assert_eq!(at(0, "/metadata"), serde_json::json!({"name": "big", "namespace": "a"}));
    assert_eq!(at(0, "/spec"), serde_json::json!({"chunkInterval": "14 days"}));
    assert_eq!(at(1, "/metadata/name"), "big-c");
    assert_eq!(at(1, "/spec/segmentBy"), serde_json::json!(["device"]));
    assert_eq!(at(1, "/spec/orderBy"), serde_json::json!([{"column": "ts", "order": "Desc"}]));
    assert_eq!(at(1, "/spec/targetRef"), serde_json::Value::Null, "the resource has one");
    assert!(patches.iter().all(|patch| patch.comment.is_none()));

    let unnamed = patch::documents(&report, &patch::Names::default(), Some("factory"));
    assert_eq!(unnamed[1].document.pointer("/spec/targetRef/name"), Some(&serde_json::json!("t001")));
    assert_eq!(unnamed[0].document.pointer("/metadata/namespace"), Some(&serde_json::json!("factory")));
    assert!(unnamed.iter().all(|patch| patch.comment.is_some()));
}
