//! How much a table takes in: a robust fit over its chunks.
//!
//! The bytes of chunks, as they were before compression, are spread over the range of each and counted in bins of a week, a
//! day or an hour. The rate is their mean, which keeps what bursts bring, and where the Mann–Kendall test finds a trend at
//! 1 % (Kendall, "Rank Correlation Methods", 1975) a line through it with the slope of Theil and Sen (Sen, "Estimates of the
//! regression coefficient based on Kendall's tau", 1968), which single outliers do not turn. The chunk that is being
//! filled is left out, and so is the first one, which began somewhere.

use crate::catalog::history::{TimedSlice, float};

const SECONDS_PER_DAY: f64 = 86_400.0;
/// Bins of history that count: three years of weeks.
const MOST_BINS: usize = 156;
/// Bins that a trend needs: fewer cannot be told from chance at 1 %.
const BINS_FOR_A_TREND: usize = 6;
/// |Z| of the Mann–Kendall test that is exceeded by chance once in a hundred times.
const SIGNIFICANT: f64 = 2.576;

/// What a table takes in, uncompressed and with indexes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ingest {
    /// Where the bins begin, in seconds since 1970.
    pub from: f64,
    /// Where they end.
    pub until: f64,
    /// Length of a bin in days.
    pub bin_days: f64,
    /// Their number. One where there is no complete chunk, or no more than one.
    pub bins: usize,
    /// Mean, in bytes per day: the rate in the middle of the bins.
    pub mean: f64,
    /// Slope in bytes per day and day; 0 without a significant trend.
    pub trend: f64,
    /// Standard deviation of a bin around that, in bytes per day.
    pub deviation: f64,
    /// Share of the bytes that is indexes.
    pub index_share: f64,
    /// Rows per byte.
    pub rows_per_byte: f64,
}

impl Ingest {
    /// Fits what the slices hold. `None` without chunks that begin before `now` (seconds since 1970).
    pub fn fit(slices: &[TimedSlice<'_>], now: f64) -> Option<Self> {
        let begun: Vec<_> = slices.iter().filter(|slice| slice.start < now).copied().collect();
        let (complete, filling): (Vec<_>, Vec<_>) = begun.into_iter().partition(|slice| slice.end <= now);
        // The first chunk began somewhere in its range; of very few chunks it is still the better half of what is known.
        let counted = if complete.len() > 3 { &complete[1..] } else { &complete[..] };
        if counted.is_empty() {
            return Self::of_the_first(&filling, now);
        }
        let filled_from = filling.iter().map(|slice| slice.start).fold(f64::INFINITY, f64::min);
        let last_end = counted.iter().map(|slice| slice.end).fold(f64::NEG_INFINITY, f64::max);
        // Without a chunk that is being filled nothing came in since the last one ended.
        let until = if filled_from.is_finite() { filled_from.max(last_end) } else { now };
        let from = counted.iter().map(|slice| slice.start).fold(f64::INFINITY, f64::min);
        let days = (until - from) / SECONDS_PER_DAY;
        let longest = counted.iter().map(TimedSlice::days).fold(0.0, f64::max);
        let (bin_days, bins) = bins(days, longest);
        let rates = rates(counted, until, bin_days, bins);
        let from = until - float(i64::try_from(bins).unwrap_or(i64::MAX)) * bin_days * SECONDS_PER_DAY;
        // Hours follow the time of day, and less than two weeks the day of the week.
        let has_seasons = bin_days < 1.0 || (bin_days < 7.0 && bins < 14);
        Some(Self { from, until, bin_days, bins, ..Self::line(&rates, bin_days, !has_seasons) }.with_shares(counted))
    }

    /// From the chunk that is being filled, when there is no other.
    fn of_the_first(filling: &[TimedSlice<'_>], now: f64) -> Option<Self> {
        let from = filling.iter().map(|slice| slice.start).fold(f64::INFINITY, f64::min);
        if !from.is_finite() {
            return None;
        }
        let bytes: f64 = filling.iter().map(|slice| float(slice.slice.uncompressed_bytes)).sum();
        let days = (now - from) / SECONDS_PER_DAY;
        let rate = [bytes / days];
        Some(Self { from, until: now, bin_days: days, bins: 1, ..Self::line(&rate, days, false) }.with_shares(filling))
    }

    /// The line through rates that are `step` days apart.
    fn line(rates: &[f64], step: f64, may_have_a_trend: bool) -> Self {
        let count = rates.len();
        let n = float(i64::try_from(count).unwrap_or(i64::MAX));
        let mean = rates.iter().sum::<f64>() / n;
        let trend = if may_have_a_trend && has_trend(rates) { theil_sen(rates) / step } else { 0.0 };
        let middle = (n - 1.0) / 2.0;
        let residual = |(index, rate): (usize, &f64)| rate - mean - trend * step * (place(index) - middle);
        let squares: f64 = rates.iter().enumerate().map(residual).map(|r| r * r).sum();
        let freedom = n - if trend == 0.0 { 1.0 } else { 2.0 };
        // One or two bins say nothing of how much they differ: then it may be as much as the mean.
        // Of few bins it is itself not known exactly: nine of ten chances then reach further, as Student's t does, by about
        // this share.
        let deviation = if count < 3 { mean } else { (squares / freedom).sqrt() * (1.0 + 0.93 / freedom) };
        Self {
            from: 0.0,
            until: 0.0,
            bin_days: step,
            bins: count,
            mean,
            trend,
            deviation,
            index_share: 0.0,
            rows_per_byte: 0.0,
        }
    }

    fn with_shares(self, slices: &[TimedSlice<'_>]) -> Self {
        let sum = |of: fn(&TimedSlice<'_>) -> i64| slices.iter().map(|slice| float(of(slice))).sum::<f64>();
        let bytes = sum(|slice| slice.slice.uncompressed_bytes).max(1.0);
        let index_share = sum(|slice| slice.slice.uncompressed_index_bytes) / bytes;
        Self { index_share, rows_per_byte: sum(|slice| slice.slice.rows) / bytes, ..self }
    }

    /// Days from the middle of the bins to this time (seconds since 1970).
    pub fn days_from_middle(&self, at: f64) -> f64 {
        (at - f64::midpoint(self.from, self.until)) / SECONDS_PER_DAY
    }

    /// Bytes per day at this time (seconds since 1970); never less than nothing.
    pub fn rate(&self, at: f64) -> f64 {
        self.trend.mul_add(self.days_from_middle(at), self.mean).max(0.0)
    }

    /// Bytes that come in between two times (seconds since 1970).
    pub fn bytes(&self, from: f64, to: f64) -> f64 {
        let days = (to - from).max(0.0) / SECONDS_PER_DAY;
        let (first, last) = (self.rate(from), self.rate(to));
        // A line that reaches nothing on the way stays there.
        let falling = if first > 0.0 && last > 0.0 { days } else { (first.max(last) / self.trend.abs()).min(days) };
        if first == 0.0 && last == 0.0 { 0.0 } else { f64::midpoint(first, last) * falling }
    }

    /// The standard error of the mean, in bytes per day.
    pub fn mean_error(&self) -> f64 {
        self.deviation / self.bins_as_number().sqrt()
    }

    /// The standard error of the slope, in bytes per day and day; 0 without a trend.
    pub fn trend_error(&self) -> f64 {
        if self.trend == 0.0 {
            return 0.0;
        }
        let n = self.bins_as_number();
        // The sum of the squares of the distances from the middle.
        let spread = self.bin_days * self.bin_days * n * (n * n - 1.0) / 12.0;
        self.deviation / spread.sqrt()
    }

    fn bins_as_number(&self) -> f64 {
        place(self.bins)
    }
}

/// How long a bin is and how many there are. None is shorter than a chunk, whose bytes are only known as a whole. Days come
/// in whole weeks and hours in whole days where there are that many, so that no part of a cycle counts more than another.
fn bins(days: f64, longest: f64) -> (f64, usize) {
    let (natural, cycle) = if days >= 56.0 {
        (7.0, 1)
    } else if days >= 4.0 {
        (1.0, 7)
    } else {
        (1.0 / 24.0, 24)
    };
    let length = if longest > natural { longest } else { natural };
    // Just short of a whole number is a whole number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let count = ((days / length + 1e-6) as usize).clamp(1, MOST_BINS);
    if longest > natural || count < 2 * cycle { (length, count) } else { (length, count - count % cycle) }
}

/// Bytes per day in each bin, oldest first.
fn rates(slices: &[TimedSlice<'_>], until: f64, bin_days: f64, bins: usize) -> Vec<f64> {
    let length = bin_days * SECONDS_PER_DAY;
    let from = until - place(bins) * length;
    let mut bytes = vec![0.0; bins];
    for slice in slices {
        let per_second = float(slice.slice.uncompressed_bytes) / (slice.end - slice.start);
        for (index, bin) in bytes.iter_mut().enumerate() {
            let start = from + place(index) * length;
            let overlap = slice.end.min(start + length) - slice.start.max(start);
            *bin += overlap.max(0.0) * per_second;
        }
    }
    bytes.into_iter().map(|bytes| bytes / bin_days).collect()
}

/// The Mann–Kendall test: whether later values are larger than earlier ones, or smaller, more often than chance allows.
fn has_trend(values: &[f64]) -> bool {
    if values.len() < BINS_FOR_A_TREND {
        return false;
    }
    let scale = values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let mut score = 0.0;
    for (index, early) in values.iter().enumerate() {
        for late in &values[index + 1..] {
            // What only rounding tells apart is a tie.
            if (late - early).abs() > scale * 1e-9 {
                score += (late - early).signum();
            }
        }
    }
    let n = place(values.len());
    let variance = n * (n - 1.0) * 2.0_f64.mul_add(n, 5.0) / 18.0;
    (f64::abs(score) - 1.0) / variance.sqrt() > SIGNIFICANT
}

/// The median of the slopes between all pairs, per step.
fn theil_sen(values: &[f64]) -> f64 {
    let mut slopes = Vec::with_capacity(values.len() * values.len() / 2);
    for (index, early) in values.iter().enumerate() {
        for (distance, late) in values[index + 1..].iter().enumerate() {
            slopes.push((late - early) / place(distance + 1));
        }
    }
    median(&mut slopes)
}

/// The median; 0 of nothing.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// A small count as a floating point number.
fn place(index: usize) -> f64 {
    float(i64::try_from(index).unwrap_or(i64::MAX))
}
