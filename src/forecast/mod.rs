//! How storage goes on, from what the chunks of hypertables hold: ingest as it was measured ([`ingest`]), filled into chunks
//! that are compressed and dropped as the policies say ([`simulate`]), with an error band and a test against the past.

pub mod assumption;
pub mod ingest;
pub mod plot;
pub mod simulate;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    api::types::{Interval, Relation, Span},
    catalog::{
        Age, Catalog, Hypertable, Policy, PolicyKind,
        history::{History, TableHistory, TimedSlice, float, ratio},
    },
};
use assumption::{Assumption, Change};
use ingest::Ingest;
use simulate::{Model, Reach, Storage};

const DAY: f64 = 86_400.0;
/// Standard deviations on each side that hold nine of ten.
const BAND: f64 = 1.645;
/// Points of a forecast: no more than a plot can show.
const MOST_POINTS: f64 = 180.0;
/// How far ahead a size is looked for: ten years. Further off a forecast means nothing.
const FURTHEST_DAYS: f64 = 3_652.0;
/// The part of the history that is held out to test the forecast.
const HELD_OUT: f64 = 0.25;

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The hypertables and their policies.
    pub catalog: &'a Catalog,
    /// What their chunks hold.
    pub history: &'a History,
    /// How far ahead, in days.
    pub horizon_days: f64,
    /// The size to look for, in bytes.
    pub until_bytes: Option<i64>,
    /// What is taken to be otherwise than it is.
    pub assumptions: &'a [Assumption],
    /// Tables to speak of; then the rest of the database is left out of the total. Empty: all.
    pub only: &'a BTreeSet<Relation>,
}

/// How storage goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When the history was read.
    pub now: Timestamp,
    /// How far ahead it reaches, in days.
    pub horizon_days: f64,
    /// What was taken to be otherwise than it is: `metric-hist.dropAfter=180 days`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
    /// Everything else in the database: plain tables, catalogs. It is taken to stay as it is. Absent where only some tables
    /// are spoken of, or the size of the database cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_bytes: Option<i64>,
    /// All tables together, with everything else. Its band is the sum of the tables' bands, as if all were wrong the same
    /// way.
    pub total: Course,
    /// When the total reaches the size that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Hypertables and continuous aggregates, by name.
    pub tables: Vec<Table>,
}

/// Sizes over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// Bytes on disk now.
    pub bytes: i64,
    /// What the chunks that are still there held on disk before. What was dropped since is not known.
    pub history: Vec<Past>,
    /// What is to come.
    pub forecast: Vec<Point>,
    /// How well the last part of the history would have been forecast from what came before. Absent where there is too little
    /// of it. In all: the mean of the tables' figures, weighted by what comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_test: Option<BackTest>,
}

/// A size in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// When.
    pub at: Timestamp,
    /// Bytes on disk.
    pub bytes: i64,
}

/// A size to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// Bytes on disk.
    pub bytes: i64,
    /// With nine chances in ten it is more than this,
    pub low: i64,
    /// and less than this.
    pub high: i64,
}

/// The last quarter of the history, forecast from what came before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackTest {
    /// Days that were held out.
    pub days: f64,
    /// Chunks of time in them.
    pub points: usize,
    /// Mean absolute error of what came in since the beginning of the held-out part, uncompressed, in percent of it (MAPE).
    pub mape_percent: f64,
    /// Error at the end of it in percent; positive where the forecast was too high.
    pub final_error_percent: f64,
    /// Share of the points that are within the band.
    pub within_band: f64,
}

/// When a size is reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Until {
    /// The size.
    pub bytes: i64,
    /// Days from now; absent where it is not reached in ten years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<f64>,
    /// Days from now by the upper side of the band.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest_days: Option<f64>,
    /// Days from now by its lower side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_days: Option<f64>,
}

/// One hypertable or continuous aggregate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Schema of the table, or of the aggregate's view.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `Hypertable` or `ContinuousAggregate`.
    pub kind: &'static str,
    /// What comes in. Absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Facts>,
    /// How many times smaller compression makes a chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_ratio: Option<f64>,
    /// Age that chunks are compressed from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress_after: Option<String>,
    /// Age that chunks are dropped from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_after: Option<String>,
    /// Its sizes.
    #[serde(flatten)]
    pub course: Course,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What comes into a table, measured over its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Bytes per day now, uncompressed, with indexes.
    pub bytes_per_day: f64,
    /// Change of that per day; 0 without a significant trend.
    pub trend_per_day: f64,
    /// Length of a bin in days.
    pub bin_days: f64,
    /// Bins that were looked at.
    pub bins: usize,
}

/// A table with its model.
struct Subject<'a> {
    relation: &'a Relation,
    is_aggregate: bool,
    model: Model<'a>,
    compress_after: Option<String>,
    drop_after: Option<String>,
    ratio: Option<f64>,
    /// Bytes in chunks whose place in time is not known.
    fixed: i64,
    notes: Vec<String>,
}

/// Forecasts every table and all of them together.
pub fn forecast(inputs: &Inputs<'_>) -> Report {
    let now = inputs.history.server.now;
    let start = float(now.as_second());
    let subjects = subjects(inputs, start);
    let others: i64 = {
        let in_chunks: i64 = inputs.history.tables.values().flat_map(|t| &t.slices).map(|slice| slice.bytes).sum();
        inputs.history.server.database_bytes.map_or(0, |all| (all - in_chunks).max(0))
    };
    let other_bytes = (inputs.only.is_empty() && inputs.history.server.database_bytes.is_some()).then_some(others);
    let (mut bytes, mut fixed) = (other_bytes.unwrap_or(0), other_bytes.unwrap_or(0));

    let step = (inputs.horizon_days / MOST_POINTS).max(1.0);
    let ahead = steps(inputs.horizon_days, step);
    let first = subjects.iter().flat_map(|s| &s.model.slices).map(|slice| slice.start).fold(start, f64::min);
    // As far back as ahead: more would leave the forecast no room in a plot.
    let back_days = ((start - first) / DAY).min(inputs.horizon_days.max(30.0));
    let back = steps(back_days, (back_days / MOST_POINTS).max(1.0 / 24.0)).into_iter().rev().collect();
    let times = Times { now, back, ahead };

    let mut sums = vec![Storage::default(); times.ahead.len()];
    let mut pasts = vec![0.0; times.back.len()];
    let mut tables = Vec::new();
    let (mut weight, mut tested) =
        (0.0, BackTest { days: 0.0, points: 0, mape_percent: 0.0, final_error_percent: 0.0, within_band: 0.0 });
    for subject in &subjects {
        let model = &subject.model;
        let storage: Vec<_> = times.ahead.iter().map(|day| model.at(day.mul_add(DAY, start))).collect();
        let past: Vec<_> = times.back.iter().map(|day| model.then(start - day * DAY)).collect();
        for (sum, one) in sums.iter_mut().zip(&storage) {
            sum.bytes += one.bytes;
            sum.certain += one.certain;
            sum.deviation += one.deviation;
        }
        for (sum, one) in pasts.iter_mut().zip(&past) {
            *sum += one;
        }
        let back_test = back_test(&model.slices, start);
        let moving: i64 = model.slices.iter().map(|slice| slice.slice.bytes).sum();
        bytes += moving + subject.fixed;
        fixed += subject.fixed;
        if let (Some(test), Some(ingest)) = (back_test, &model.ingest) {
            let share = ingest.rate(start);
            weight += share;
            tested.days = tested.days.max(test.days);
            tested.points += test.points;
            tested.mape_percent += share * test.mape_percent;
            tested.final_error_percent += share * test.final_error_percent;
            tested.within_band += share * test.within_band;
        }
        let course = times.course(&past, &storage, subject.fixed, back_test);
        tables.push(table(subject, Course { bytes: moving + subject.fixed, ..course }, start));
    }
    if weight > 0.0 {
        tested.mape_percent /= weight;
        tested.final_error_percent /= weight;
        tested.within_band /= weight;
    }
    let total = times.course(&pasts, &sums, fixed, (weight > 0.0).then_some(tested));
    let total = Course { bytes, ..total };
    let until = inputs.until_bytes.map(|bytes| until(&subjects, fixed, bytes, start));
    Report {
        now,
        horizon_days: inputs.horizon_days,
        assumptions: inputs.assumptions.iter().map(ToString::to_string).collect(),
        other_bytes,
        total,
        until,
        tables,
    }
}

/// From nothing to `last` in steps, with `last` itself.
fn steps(last: f64, step: f64) -> Vec<f64> {
    let mut steps = Vec::new();
    let mut at = 0.0;
    while at < last - step * 1e-6 {
        steps.push(at);
        at += step;
    }
    steps.push(last);
    steps
}

/// The times of a report.
struct Times {
    now: Timestamp,
    /// Days before now, the furthest first.
    back: Vec<f64>,
    /// Days from now.
    ahead: Vec<f64>,
}

impl Times {
    /// Sizes at these times, with what does not change added.
    fn course(&self, past: &[f64], storage: &[Storage], fixed: i64, back_test: Option<BackTest>) -> Course {
        let constant = float(fixed);
        let point = |(day, at): (&f64, &Storage)| {
            let band = BAND * at.deviation;
            Point {
                at: after(self.now, *day),
                bytes: whole(at.bytes + constant),
                low: whole((at.bytes - band).max(at.certain) + constant),
                high: whole(at.bytes + band + constant),
            }
        };
        let past = self.back.iter().zip(past);
        let past = past.map(|(day, bytes)| Past { at: after(self.now, -day), bytes: whole(*bytes + constant) });
        Course {
            bytes: fixed,
            history: past.collect(),
            forecast: self.ahead.iter().zip(storage).map(point).collect(),
            back_test,
        }
    }
}

fn subjects<'a>(inputs: &Inputs<'a>, now: f64) -> Vec<Subject<'a>> {
    let hypertables = inputs.catalog.hypertables.iter().map(|(relation, hypertable)| (relation, hypertable, false));
    let aggregates = inputs.catalog.aggregates.iter().map(|(relation, a)| (relation, &a.hypertable, true));
    let overall = ratio(inputs.history.tables.values().flat_map(|table| &table.slices));
    let mut subjects: Vec<_> = hypertables
        .chain(aggregates)
        .filter(|(relation, ..)| inputs.only.is_empty() || inputs.only.contains(relation))
        .map(|(relation, hypertable, is_aggregate)| subject(inputs, relation, hypertable, is_aggregate, overall, now))
        .collect();
    subjects.sort_by_key(|subject| subject.relation);
    subjects
}

fn subject<'a>(
    inputs: &Inputs<'a>,
    relation: &'a Relation,
    hypertable: &'a Hypertable,
    is_aggregate: bool,
    overall: Option<f64>,
    now: f64,
) -> Subject<'a> {
    let history = inputs.history.tables.get(&hypertable.id);
    let per_second = history.and_then(|history| history.units_per_second);
    let slices = history.map(TableHistory::timed).unwrap_or_default();
    let in_time: i64 = slices.iter().map(|slice| slice.slice.bytes).sum();
    let fixed = history.map_or(0, |history| history.slices.iter().map(|slice| slice.bytes).sum::<i64>()) - in_time;
    let ingest = Ingest::fit(&slices, now).filter(|ingest| ingest.mean > 0.0);
    let mut notes = Vec::new();
    if let Some(history) = history
        && history.units_per_second.is_none()
    {
        notes.push(
            "time is an integer, and no integer_now function says what a unit of it is: its size is taken to stay as it is".to_owned(),
        );
    } else if ingest.is_some_and(|ingest| ingest.bins < 3) {
        notes.push("fewer than three chunks of history: the band is as wide as the ingest".to_owned());
    }
    let mut compress = policy_age(inputs.catalog, hypertable.id, PolicyKind::Compression);
    let mut drop = policy_age(inputs.catalog, hypertable.id, PolicyKind::Retention);
    let own = history.and_then(TableHistory::compression_ratio);
    let (mut assumed_ratio, mut factor) = (None, 1.0);
    for change in inputs.assumptions.iter().filter(|a| a.is_for(relation)).map(|assumption| &assumption.change) {
        match change {
            Change::DropAfter(age) => drop = age.map(Age::OlderThan),
            Change::CompressAfter(age) => compress = age.map(Age::OlderThan),
            Change::Ratio(ratio) => assumed_ratio = Some(*ratio),
            Change::Ingest(times) => factor = *times,
        }
    }
    let ratio = assumed_ratio.or(own).or_else(|| overall.filter(|_| compress.is_some()));
    if compress.is_some() && assumed_ratio.is_none() && own.is_none() {
        notes.push(match overall {
            Some(overall) => format!(
                "no chunk of it is compressed yet: the {overall:.1} of the whole database is taken for its ratio"
            ),
            None => "no chunk is compressed yet, so what compression saves is not known: it is counted as nothing"
                .to_owned(),
        });
    }
    let share_error = if assumed_ratio.is_some() { 0.0 } else { share_error(&slices) };
    let interval = match hypertable.chunk_interval() {
        Some(Span::Time(interval)) => length(interval),
        Some(Span::Integer(units)) => per_second.map_or(DAY, |per_second| float(units) / per_second),
        None => DAY,
    };
    let reach = |age: Age| match age {
        Age::OlderThan(Span::Time(interval)) => Some(Reach::Older(length(interval))),
        Age::OlderThan(Span::Integer(units)) => per_second.map(|per_second| Reach::Older(float(units) / per_second)),
        Age::CreatedBefore(interval) => Some(Reach::Created(length(interval))),
    };
    let model = Model {
        slices,
        ingest,
        factor,
        interval: if interval > 0.0 { interval } else { DAY },
        compressed_share: ratio.map_or(1.0, |ratio| 1.0 / ratio),
        compressed_share_error: share_error,
        compress: compress.and_then(reach),
        drop: drop.and_then(reach),
        now,
    };
    let text = |age: Option<Age>| age.map(|age| age.to_string());
    Subject {
        relation,
        is_aggregate,
        model,
        compress_after: text(compress),
        drop_after: text(drop),
        ratio,
        fixed,
        notes,
    }
}

/// The age of the policy of this kind, where it is meant to act.
fn policy_age(catalog: &Catalog, hypertable_id: i32, kind: PolicyKind) -> Option<Age> {
    let job = catalog.job(kind, hypertable_id).filter(|job| job.is_in_force())?;
    match &job.policy {
        Policy::Compression { after } | Policy::Retention { after } => *after,
        _ => None,
    }
}

/// The standard error of the share that compression leaves, from how much it differs between chunks.
fn share_error(slices: &[TimedSlice<'_>]) -> f64 {
    let compressed =
        slices.iter().map(|slice| slice.slice).filter(|held| held.before_bytes > 0 && held.after_bytes > 0);
    let shares: Vec<f64> = compressed.map(|held| float(held.after_bytes) / float(held.before_bytes)).collect();
    if shares.len() < 2 {
        return 0.0;
    }
    let n = float(i64::try_from(shares.len()).unwrap_or(i64::MAX));
    let mean = shares.iter().sum::<f64>() / n;
    let variance = shares.iter().map(|share| (share - mean) * (share - mean)).sum::<f64>() / (n - 1.0);
    (variance / n).sqrt()
}

fn table(subject: &Subject<'_>, course: Course, now: f64) -> Table {
    Table {
        schema: subject.relation.schema.as_str().to_owned(),
        name: subject.relation.name.as_str().to_owned(),
        kind: if subject.is_aggregate { "ContinuousAggregate" } else { "Hypertable" },
        ingest: subject.model.ingest.map(|ingest| Facts {
            bytes_per_day: ingest.rate(now) * subject.model.factor,
            trend_per_day: ingest.trend * subject.model.factor,
            bin_days: ingest.bin_days,
            bins: ingest.bins,
        }),
        compression_ratio: subject.ratio,
        compress_after: subject.compress_after.clone(),
        drop_after: subject.drop_after.clone(),
        course,
        notes: subject.notes.clone(),
    }
}

/// Forecasts what came in during the last quarter of the history from what came before it.
pub fn back_test(slices: &[TimedSlice<'_>], now: f64) -> Option<BackTest> {
    let complete: Vec<_> = slices.iter().filter(|slice| slice.end <= now).copied().collect();
    let (first, last) = (complete.first()?.start, complete.last()?.end);
    let cut = last - (last - first) * HELD_OUT;
    // Whole chunks on both sides.
    let (known, held_out): (Vec<_>, Vec<_>) = complete.into_iter().partition(|slice| slice.end <= cut);
    let cut = known.last()?.end;
    let ingest = Ingest::fit(&known, cut)?;
    if ingest.bins < 3 || held_out.is_empty() {
        return None;
    }
    let (mut actual, mut errors, mut within, mut points, mut error) = (0.0, 0.0, 0_u32, 0_u32, 0.0);
    for slice in &held_out {
        actual += float(slice.slice.uncompressed_bytes);
        if actual <= 0.0 {
            continue;
        }
        let forecast = ingest.bytes(cut, slice.end);
        let days = (slice.end - cut) / DAY;
        let by_chance = days * ingest.deviation * ingest.deviation * ingest.bin_days;
        let by_mean = (days * ingest.mean_error()).powi(2);
        let by_trend = (days * ingest.days_from_middle(f64::midpoint(cut, slice.end)) * ingest.trend_error()).powi(2);
        error = (forecast - actual) / actual;
        errors += error.abs();
        points += 1;
        within += u32::from(
            (forecast - actual).abs() <= BAND.mul_add((by_chance + by_mean + by_trend).sqrt(), actual * 1e-6),
        );
    }
    (points > 0).then(|| BackTest {
        days: (last - cut) / DAY,
        points: points as usize,
        mape_percent: 100.0 * errors / f64::from(points),
        final_error_percent: 100.0 * error,
        within_band: f64::from(within) / f64::from(points),
    })
}

/// When all together are as large as that.
fn until(subjects: &[Subject<'_>], fixed: i64, bytes: i64, start: f64) -> Until {
    let (size, constant) = (float(bytes), float(fixed));
    let at = |day: f64| {
        let mut sum = Storage { bytes: constant, certain: constant, deviation: 0.0 };
        for subject in subjects {
            let one = subject.model.at(day.mul_add(DAY, start));
            sum.bytes += one.bytes;
            sum.certain += one.certain;
            sum.deviation += one.deviation;
        }
        [sum.bytes, sum.bytes + BAND * sum.deviation, (sum.bytes - BAND * sum.deviation).max(sum.certain)]
    };
    let mut reached = [None; 3];
    let mut before = (0.0, at(0.0));
    // Steps grow with the distance: nobody needs the hour of a day in five years.
    let mut day = 0.0;
    loop {
        let sizes = at(day);
        for (which, reached) in reached.iter_mut().enumerate() {
            if reached.is_none() && sizes[which] >= size {
                let rise = sizes[which] - before.1[which];
                let part = if rise > 0.0 { ((size - before.1[which]) / rise).clamp(0.0, 1.0) } else { 1.0 };
                *reached = Some(part.mul_add(day - before.0, before.0));
            }
        }
        if day >= FURTHEST_DAYS || reached.iter().all(Option::is_some) {
            let [days, earliest_days, latest_days] = reached;
            return Until { bytes, days, earliest_days, latest_days };
        }
        before = (day, sizes);
        day = (day + (day / 100.0).max(0.5)).min(FURTHEST_DAYS);
    }
}

/// The length in seconds.
fn length(interval: Interval) -> f64 {
    interval.to_duration().as_secs_f64()
}

/// That many days later.
fn after(now: Timestamp, days: f64) -> Timestamp {
    let later = SignedDuration::try_from_secs_f64(days * DAY).ok().and_then(|d| now.checked_add(d).ok());
    later.unwrap_or(now)
}

/// To the nearest whole number an `i64` holds.
fn whole(value: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let whole = value.round() as i64;
    whole
}

#[cfg(test)]
mod tests;
