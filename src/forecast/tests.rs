//! Laws: histories that go on as they went are forecast, and noise stays within the band.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    api::types::SqlName,
    catalog::{
        Dimension, Job, Partitioning,
        history::{HistoryServer, MemorySetting, Slice},
    },
};

const MIB: f64 = 1_048_576.0;
const NOW: i64 = 1_795_010_700;

fn name(text: &str) -> SqlName {
    text.parse().unwrap()
}

/// Numbers that differ by seed, uniform in [-1, 1].
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        float(i64::try_from(self.0 >> 40).unwrap()) / 8_388_608.0 - 1.0
    }
}

/// The bytes of every chunk until `days` after now, of ingest that begins with `rate` a day and gains `growth` of it over a
/// hundred days, each chunk off by `noise`.
fn chunks(rate: f64, growth: f64, noise: f64, interval: f64, past: f64, days: f64, seed: u64) -> Vec<Slice> {
    let mut dice = Dice(seed);
    let now = float(NOW);
    let begin = ((now - past * DAY) / interval).floor() * interval;
    let mut slices = Vec::new();
    let mut start = begin;
    while start < now + days * DAY {
        let age = (start + interval / 2.0 - begin) / DAY;
        let bytes = rate * (1.0 + growth * age / 100.0) * interval / DAY * (1.0 + noise * dice.roll());
        slices.push(Slice {
            start: whole(start) * 1_000_000,
            end: whole(start + interval) * 1_000_000,
            chunks: 1,
            bytes: whole(bytes),
            uncompressed_bytes: whole(bytes),
            ..Slice::default()
        });
        start += interval;
    }
    slices
}

/// What is known now of chunks that reach into the future.
fn until_now(slices: &[Slice]) -> Vec<Slice> {
    let now = NOW * 1_000_000;
    let begun = slices.iter().filter(|slice| slice.start < now).cloned();
    begun
        .map(|mut slice| {
            if slice.end > now {
                let filled = float(now - slice.start) / float(slice.end - slice.start);
                slice.bytes = whole(float(slice.bytes) * filled);
                slice.uncompressed_bytes = slice.bytes;
            }
            slice
        })
        .collect()
}

fn world(interval: f64, slices: Vec<Slice>) -> (Catalog, History) {
    let dimension = Dimension {
        column: name("ts"),
        type_: None,
        partitioning: Partitioning::Range(Interval::from_micros(whole(interval) * 1_000_000)),
    };
    let mut catalog = Catalog::default();
    let hypertable = Hypertable { id: 1, dimensions: vec![dimension], ..Hypertable::default() };
    catalog.hypertables.insert(Relation { schema: name("public"), name: name("metric_hist") }, hypertable);
    let unset = MemorySetting { bytes: 1 << 30, is_set: false };
    let server = HistoryServer {
        now: Timestamp::from_second(NOW).unwrap(),
        database_bytes: None,
        shared_buffers: unset,
        effective_cache_size: unset,
    };
    let history = TableHistory { units_per_second: Some(1e6), slices };
    (catalog, History { server, tables: BTreeMap::from([(1, history)]) })
}

fn run((catalog, history): &(Catalog, History), days: f64, set: &[&str], until: Option<i64>) -> Report {
    let assumptions: Vec<Assumption> = set.iter().map(|text| text.parse().unwrap()).collect();
    let only = BTreeSet::new();
    forecast(&Inputs {
        catalog,
        history,
        horizon_days: days,
        until_bytes: until,
        assumptions: &assumptions,
        only: &only,
    })
}

/// The part of the chunks that is there after so many days.
fn truth(slices: &[Slice], days: f64) -> f64 {
    let at = whole(float(NOW) + days * DAY) * 1_000_000;
    let part =
        |slice: &Slice| float((at - slice.start).clamp(0, slice.end - slice.start)) / float(slice.end - slice.start);
    slices.iter().map(|slice| float(slice.bytes) * part(slice)).sum()
}

fn last(report: &Report) -> Point {
    *report.total.forecast.last().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_goes_on_as_it_went_is_forecast_within_three_percent(
        rate in MIB..1e4 * MIB,
        growth in prop::sample::select(vec![0.0, 0.3, 1.0, 3.0]),
        interval in prop::sample::select(vec![6.0 * 3_600.0, DAY, 7.0 * DAY]),
        past in 90.0..200.0_f64,
        ahead in 10.0..180.0_f64,
    ) {
        let all = chunks(rate, growth, 0.0, interval, past, ahead + 14.0, 1);
        let report = run(&world(interval, until_now(&all)), ahead, &[], None);
        let (found, wanted) = (float(last(&report).bytes), truth(&all, ahead));
        prop_assert!((found / wanted - 1.0).abs() < 0.03, "{found} for {wanted}");
        let test = report.total.back_test.unwrap();
        prop_assert!(test.mape_percent < 3.0, "{test:?}");
    }

    #[test]
    fn what_is_set_is_a_plateau(rate in MIB..1e4 * MIB, keep in 10..100_u32) {
        let all = chunks(rate, 0.0, 0.0, DAY, 60.0, 0.0, 1);
        let set = format!("metric-hist.dropAfter={keep}d");
        let report = run(&world(DAY, until_now(&all)), 400.0, &[&set], None);
        let days = float(last(&report).bytes) / rate;
        prop_assert!(days >= f64::from(keep) - 0.01 && days <= f64::from(keep) + 1.01, "{days} days for {keep}");
        prop_assert_eq!(report.tables[0].drop_after.clone(), Some(format!("{keep} days")));
    }
}

#[test]
fn noise_stays_within_the_band_most_of_the_time() {
    let (mut within, mut of) = (0, 0);
    for seed in 0..200 {
        let interval = if seed % 2 == 0 { DAY } else { 6.0 * 3_600.0 };
        let growth = if seed % 3 == 0 { 1.0 } else { 0.0 };
        let all = chunks(100.0 * MIB, growth, 0.4, interval, 120.0, 100.0, seed);
        let report = run(&world(interval, until_now(&all)), 90.0, &[], None);
        let (point, wanted) = (last(&report), truth(&all, 90.0));
        of += 1;
        within += u32::from(float(point.low) <= wanted && wanted <= float(point.high));
    }
    assert!(within * 100 >= of * 85, "{within} of {of}");
    assert!(within < of, "a band that is never left is too wide");
}

#[test]
fn noise_is_rarely_taken_for_a_trend() {
    let trends = (0..200).filter(|seed| {
        let all = chunks(100.0 * MIB, 0.0, 0.4, DAY, 120.0, 0.0, *seed);
        run(&world(DAY, until_now(&all)), 30.0, &[], None).tables[0].ingest.unwrap().trend_per_day != 0.0
    });
    let trends = trends.count();
    assert!(trends <= 8, "{trends} of 200 at 1 %");
}

#[test]
fn a_size_is_reached_on_the_day_that_it_is_reached() {
    let all = chunks(100.0 * MIB, 0.0, 0.0, DAY, 60.0, 0.0, 1);
    let world = world(DAY, until_now(&all));
    let now = run(&world, 10.0, &[], None).total.bytes;
    let size = now + whole(100.0 * 100.0 * MIB);
    let until = run(&world, 10.0, &[], Some(size)).until.unwrap();
    assert!((until.days.unwrap() - 100.0).abs() < 0.5, "beyond the horizon too: {until:?}");
    assert_eq!(run(&world, 10.0, &[], Some(1)).until.unwrap().days, Some(0.0));
    let kept = run(&world, 10.0, &["*.dropAfter=30d"], Some(size)).until.unwrap();
    assert_eq!((kept.days, kept.earliest_days), (None, None), "retention keeps it below");
    let twice = run(&world, 10.0, &["metric_hist.ingest=2"], Some(size)).until.unwrap();
    assert!((twice.days.unwrap() - 50.0).abs() < 0.5, "{twice:?}");
}

#[test]
fn compression_counts_with_the_ratio_that_was_seen() {
    let mut slices = until_now(&chunks(100.0 * MIB, 0.0, 0.0, DAY, 60.0, 0.0, 1));
    for slice in &mut slices[..50] {
        slice.compressed_chunks = 1;
        (slice.before_bytes, slice.after_bytes) = (slice.bytes, slice.bytes / 8);
        slice.bytes = slice.after_bytes;
    }
    let mut world = world(DAY, slices);
    world.0.jobs.push(compresses(10));
    let report = run(&world, 100.0, &[], None);
    assert_eq!(report.tables[0].compression_ratio, Some(8.0));
    let grown = float(last(&report).bytes - report.total.bytes) / (100.0 * MIB);
    assert!((grown - 100.0 / 8.0).abs() < 1.5, "{grown} days' worth");
    let without = run(&world, 100.0, &["*.compressAfter=none"], None);
    let grown = float(last(&without).bytes - without.total.bytes) / (100.0 * MIB);
    assert!((grown - 100.0).abs() < 1.5, "{grown} days' worth");
    let better = run(&world, 100.0, &["*.ratio=20"], None);
    assert!(last(&better).bytes < last(&report).bytes);
}

fn compresses(days: i32) -> Job {
    serde_json::from_value(serde_json::json!({
        "id": 1000,
        "hypertable_id": 1,
        "policy": {"compression": {"after": {"older_than": format!("{days} days")}}},
        "schedule_interval": "12:00:00",
        "max_runtime": "00:00:00",
        "max_retries": -1,
        "retry_period": "01:00:00",
    }))
    .unwrap()
}

#[test]
fn a_level_that_changed_shows_in_the_back_test() {
    let mut all = chunks(100.0 * MIB, 0.0, 0.0, DAY, 100.0, 0.0, 1);
    let held_out = all.len() - 25;
    for slice in &mut all[held_out..] {
        slice.bytes *= 3;
        slice.uncompressed_bytes = slice.bytes;
    }
    let test = run(&world(DAY, until_now(&all)), 30.0, &[], None).total.back_test.unwrap();
    assert!(test.mape_percent > 50.0 && test.final_error_percent < -50.0 && test.within_band < 0.5, "{test:?}");
}

#[test]
fn a_table_without_chunks_stays_as_it_is() {
    let mut world = world(DAY, Vec::new());
    world.1.tables.clear();
    world.1.server.database_bytes = Some(1_000_000);
    let report = run(&world, 100.0, &[], Some(2_000_000));
    assert_eq!((report.total.bytes, last(&report).bytes), (1_000_000, 1_000_000));
    assert_eq!(report.until.unwrap().days, None);
    assert_eq!(report.tables[0].ingest, None);
}

#[test]
fn the_plot_holds_history_forecast_band_and_limit() {
    let all = chunks(100.0 * MIB, 0.5, 0.2, DAY, 100.0, 0.0, 1);
    let report = run(&world(DAY, until_now(&all)), 180.0, &[], Some(40 << 30));
    let svg = plot::svg(&report).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for part in ["<polygon", "<polyline", "9 of 10 chances", "size asked for", "GiB"] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(svg.len() < 60_000, "{} bytes", svg.len());
}
