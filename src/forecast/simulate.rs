//! One table carried forward: chunks are filled, compressed and dropped as its policies say, each as a whole.

use super::ingest::Ingest;
use crate::catalog::history::{TimedSlice, float};

const DAY: f64 = 86_400.0;

/// From which age on a policy takes a chunk, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// Since its range ended.
    Older(f64),
    /// Since it was made.
    Created(f64),
}

impl Reach {
    /// Whether a chunk with this range, made at `created`, is taken at `at`.
    fn takes(self, at: f64, end: f64, created: f64) -> bool {
        match self {
            Self::Older(age) => end <= at - age,
            Self::Created(age) => created < at - age,
        }
    }
}

/// All that the storage of a table depends on.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// The chunks that are there.
    pub slices: Vec<TimedSlice<'a>>,
    /// What comes in. `None`: nothing.
    pub ingest: Option<Ingest>,
    /// Times the ingest that was measured, from now on.
    pub factor: f64,
    /// Range of a chunk made from now on, in seconds.
    pub interval: f64,
    /// What compression leaves of a byte, between 0 and 1 as a rule.
    pub compressed_share: f64,
    /// Standard error of that share.
    pub compressed_share_error: f64,
    /// When chunks are compressed.
    pub compress: Option<Reach>,
    /// When chunks are dropped.
    pub drop: Option<Reach>,
    /// Seconds since 1970.
    pub now: f64,
}

/// Bytes on disk at a time, with the standard error of the forecast.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Storage {
    /// Bytes.
    pub bytes: f64,
    /// The part of them that does not depend on what comes in.
    pub certain: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// What is still to come, up to a time, by what is left of it.
#[derive(Default)]
struct Coming {
    bytes: f64,
    /// Bytes of it before compression that are compressed.
    compressed: f64,
    /// Σ w² · days: single bins differ by chance.
    by_chance: f64,
    /// Σ w · days: the mean is not known exactly.
    by_mean: f64,
    /// Σ w · days · distance: nor is the slope.
    by_trend: f64,
}

impl Model<'_> {
    /// Where the chunks that are there end and those still to be made begin.
    fn first_new(&self) -> f64 {
        let last = self.filling().map_or(f64::NEG_INFINITY, |slice| slice.end);
        if last > self.now { last } else { (self.now / self.interval).floor() * self.interval }
    }

    /// The chunk that is being filled.
    fn filling(&self) -> Option<&TimedSlice<'_>> {
        let around = self.slices.iter().filter(|slice| slice.start <= self.now && slice.end > self.now);
        around.max_by(|a, b| a.start.total_cmp(&b.start))
    }

    /// What is on disk at `at`, in seconds since 1970, not before now.
    pub fn at(&self, at: f64) -> Storage {
        let mut coming = Coming::default();
        let filling = self.filling();
        let (mut certain, mut compressed_later) = (0.0, 0.0);
        for slice in &self.slices {
            let held = slice.slice;
            let created = held.created.map_or(slice.start, |created| float(created.as_second()));
            if self.drop.is_some_and(|reach| reach.takes(at, slice.end, created)) {
                continue;
            }
            let is_taken = self.compress.is_some_and(|reach| reach.takes(at, slice.end, created));
            let raw = float(held.uncompressed_bytes - held.before_bytes).max(0.0);
            if is_taken && held.compressed_chunks < held.chunks {
                certain += raw.mul_add(self.compressed_share, float(held.after_bytes));
                compressed_later += raw;
            } else {
                certain += float(held.bytes);
            }
            if filling.is_some_and(|filling| std::ptr::eq(filling.slice, held)) {
                self.add(&mut coming, self.now, at.min(slice.end), is_taken);
            }
        }
        let first = self.first_new();
        if at > first {
            let boundary = |reach: Option<Reach>| {
                let (age, by_start) = match reach {
                    None => return first,
                    Some(Reach::Older(age)) => (age, 0.0),
                    Some(Reach::Created(age)) => (age, 1.0),
                };
                let whole = |chunks: f64| chunks.max(0.0).mul_add(self.interval, first);
                let ended = whole(((at - first) / self.interval).floor());
                whole(((at - age - first) / self.interval).floor() + by_start).min(ended)
            };
            let dropped = boundary(self.drop);
            let compressed = boundary(self.compress).max(dropped);
            self.add(&mut coming, dropped.max(self.now), compressed, true);
            self.add(&mut coming, compressed.max(self.now), at, false);
        }
        let (mean_error, trend_error, deviation, bin) = self.ingest.map_or((0.0, 0.0, 0.0, 1.0), |ingest| {
            (ingest.mean_error(), ingest.trend_error(), ingest.deviation, ingest.bin_days)
        });
        let chance = coming.by_chance * deviation * deviation * bin;
        let mean = (coming.by_mean * mean_error).powi(2);
        let trend = (coming.by_trend * trend_error).powi(2);
        let share = ((coming.compressed + compressed_later) * self.compressed_share_error).powi(2);
        let of_ingest = (chance + mean + trend) * self.factor * self.factor;
        Storage { bytes: certain + coming.bytes, certain, deviation: (of_ingest + share).sqrt() }
    }

    /// Adds what comes in between two times.
    fn add(&self, coming: &mut Coming, from: f64, to: f64, is_compressed: bool) {
        let Some(ingest) = &self.ingest else { return };
        if to <= from {
            return;
        }
        let bytes = ingest.bytes(from, to) * self.factor;
        let weight = if is_compressed { self.compressed_share } else { 1.0 };
        let days = (to - from) / DAY;
        coming.bytes += bytes * weight;
        if is_compressed {
            coming.compressed += bytes;
        }
        coming.by_chance += weight * weight * days;
        coming.by_mean += weight * days;
        coming.by_trend += weight * days * ingest.days_from_middle(f64::midpoint(from, to));
    }

    /// What the chunks that are still there held on disk at a time before now: those of ages below `compress` as they
    /// were before it. What was dropped since is not known.
    pub fn then(&self, at: f64) -> f64 {
        let held = |slice: &TimedSlice<'_>| {
            let held = slice.slice;
            let filled = ((at - slice.start) / (slice.end.min(self.now) - slice.start).max(1.0)).clamp(0.0, 1.0);
            let created = slice.start;
            let was_raw = !self.compress.is_some_and(|reach| reach.takes(at, slice.end, created));
            let bytes = if was_raw { held.uncompressed_bytes.max(held.bytes) } else { held.bytes };
            filled * float(bytes)
        };
        self.slices.iter().filter(|slice| slice.start < at).map(held).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::history::{Slice, TableHistory};

    const MIB: f64 = 1_048_576.0;
    const NOW: f64 = 1_800_000_000.0;

    fn history(days: i64, rate: f64) -> TableHistory {
        let end = 1_800_057_600; // the end of the day that has begun
        let slice = |age: i64| {
            let start = (end - (age + 1) * 86_400) * 1_000_000;
            #[allow(clippy::cast_possible_truncation)]
            let bytes = if age == 0 { rate * 28_800.0 / DAY } else { rate } as i64;
            Slice {
                start,
                end: start + 86_400_000_000,
                chunks: 1,
                bytes,
                uncompressed_bytes: bytes,
                ..Slice::default()
            }
        };
        TableHistory { units_per_second: Some(1e6), slices: (0..days).rev().map(slice).collect() }
    }

    fn model(history: &TableHistory) -> Model<'_> {
        let slices = history.timed();
        Model {
            ingest: Ingest::fit(&slices, NOW),
            slices,
            factor: 1.0,
            interval: DAY,
            compressed_share: 0.1,
            compressed_share_error: 0.0,
            compress: None,
            drop: None,
            now: NOW,
        }
    }

    proptest! {
        #[test]
        fn without_policies_storage_grows_by_what_comes_in(rate in MIB..1e4 * MIB, later in 0.0..400.0_f64) {
            let history = history(40, rate);
            let model = model(&history);
            let (now, then) = (model.at(NOW), model.at(NOW + later * DAY));
            prop_assert!((then.bytes - now.bytes - rate * later).abs() <= rate * 0.01 + rate * later * 1e-3);
        }

        #[test]
        fn retention_is_a_plateau_of_exactly_its_age(rate in MIB..1e4 * MIB, keep in 3..60_i32, later in 100.0..900.0_f64) {
            let history = history(40, rate);
            let keep = f64::from(keep);
            let model = Model { drop: Some(Reach::Older(keep * DAY)), ..model(&history) };
            let days = model.at(NOW + later * DAY).bytes / rate;
            // A chunk goes as a whole, when its end is that old.
            prop_assert!(days >= keep - 1e-3 && days <= keep + 1.0 + 1e-3, "{days} days are kept of {keep}");
            // At the moment a chunk has gone it is exactly the age and no more.
            let end = (NOW / DAY).ceil() * DAY + 300.0 * DAY;
            prop_assert!((model.at(end).bytes / rate - keep).abs() < 1e-2, "{}", model.at(end).bytes / rate);
        }

        #[test]
        fn chunks_that_are_there_go_at_the_same_age(rate in MIB..1e4 * MIB, keep in 3..35_i32, later in 0.0..30.0_f64) {
            let history = history(40, rate);
            let keep = f64::from(keep);
            let model = Model { drop: Some(Reach::Older(keep * DAY)), ..model(&history) };
            let days = model.at(NOW + later * DAY).bytes / rate;
            prop_assert!(days >= keep - 1e-2 && days <= keep + 1.0 + 1e-2, "{days} days are kept of {keep}");
        }

        #[test]
        fn compression_takes_its_share_of_what_is_old_enough(rate in MIB..1e4 * MIB, after in 1..30_i32, later in 60.0..300.0_f64) {
            let history = history(40, rate);
            let after = f64::from(after);
            let model = Model { compress: Some(Reach::Older(after * DAY)), ..model(&history) };
            let at = NOW + later * DAY;
            let days = (at - (1_800_057_600.0 - 40.0 * DAY)) / DAY;
            let raw = model.at(at).bytes / rate;
            let least = (days - after) * 0.1 + after;
            prop_assert!(raw >= least - 0.05 && raw <= least + 0.95, "{raw} for {least}");
        }

        #[test]
        fn ages_by_creation_differ_by_a_chunk_at_most(rate in MIB..1e4 * MIB, keep in 3..60_i32, later in 100.0..900.0_f64) {
            let history = history(40, rate);
            let age = f64::from(keep) * DAY;
            let at = |drop| Model { drop: Some(drop), ..model(&history) }.at(NOW + later * DAY).bytes / rate;
            let (by_range, by_creation) = (at(Reach::Older(age)), at(Reach::Created(age)));
            prop_assert!(by_creation <= by_range + 1e-6 && by_creation >= by_range - 1.0 - 1e-6);
        }
    }

    #[test]
    fn twice_the_ingest_is_twice_the_growth() {
        let history = history(40, MIB);
        let growth = |factor| {
            let model = Model { factor, ..model(&history) };
            model.at(NOW + 100.0 * DAY).bytes - model.at(NOW).bytes
        };
        assert!((growth(2.0) / growth(1.0) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn history_ends_where_the_forecast_begins() {
        let history = history(40, MIB);
        let model = model(&history);
        assert!((model.then(NOW) / model.at(NOW).bytes - 1.0).abs() < 1e-9);
        assert!((model.then(NOW - 20.0 * DAY) / (MIB * (39.0 - 20.0 + 1.0 / 3.0)) - 1.0).abs() < 1e-2);
    }
}
