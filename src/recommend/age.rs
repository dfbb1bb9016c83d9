//! From which age on chunks should be compressed: the age from which their rows no longer change.

use crate::catalog::history::{TimedSlice, float};
use crate::forecast::ingest::median;

const DAY: f64 = 86_400.0;
/// Rows that came late are as good as changed: a chunk is left alone for a day at least.
const YOUNGEST: f64 = DAY;
/// Slices that a pattern can be seen in.
const FEWEST_SLICES: usize = 4;
/// A share of changed rows that is as good as none.
const HARDLY_ANY: f64 = 0.001;
/// Changes have come to an end where a chunk has had this share of those that the oldest ones have had.
const SETTLED: f64 = 0.9;

/// The ages that are recommended, in seconds.
const STEPS: [f64; 10] =
    [DAY, 2.0 * DAY, 3.0 * DAY, 7.0 * DAY, 14.0 * DAY, 30.0 * DAY, 60.0 * DAY, 90.0 * DAY, 180.0 * DAY, 365.0 * DAY];

/// When rows stop changing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// No row of any chunk was updated or deleted.
    NoChanges,
    /// Rows change; those of chunks of this age in seconds no longer do.
    Settles {
        /// Seconds.
        age: f64,
        /// Changes for each row of the old chunks.
        share: f64,
    },
    /// Old chunks have had more changes than young ones throughout: they go on.
    GoesOn,
    /// Too few chunks, or the server's statistics were reset since.
    Unknown,
}

/// Looks at how many of their rows chunks of each age have had changed. The server counts changes since its statistics were
/// reset and not when they were made; but when chunks of one age have had as many as all older ones, none come after it.
pub fn pattern(slices: &[TimedSlice<'_>], now: f64) -> Pattern {
    let counted = |slice: &&TimedSlice<'_>| {
        let held = slice.slice;
        slice.end <= now && held.rows > 0 && held.inserted_rows * 2 >= held.rows
    };
    // Youngest first.
    let mut shares: Vec<_> = slices
        .iter()
        .filter(counted)
        .map(|slice| (now - slice.end, float(slice.slice.changed_rows) / float(slice.slice.rows)))
        .collect();
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    if shares.len() < FEWEST_SLICES {
        return Pattern::Unknown;
    }
    let middle = |part: &[(f64, f64)]| median(&mut part.iter().map(|(_, share)| *share).collect::<Vec<_>>());
    let quarter = shares.len().div_ceil(4);
    let oldest = middle(&shares[shares.len() - quarter..]);
    if shares.iter().all(|(_, share)| *share < HARDLY_ANY) {
        return Pattern::NoChanges;
    }
    let before = middle(&shares[shares.len().saturating_sub(2 * quarter)..shares.len() - quarter]);
    if oldest > HARDLY_ANY && before < oldest * SETTLED {
        return Pattern::GoesOn;
    }
    let settled = shares.iter().find(|(_, share)| *share >= oldest * SETTLED);
    settled.map_or(Pattern::Unknown, |(age, _)| Pattern::Settles { age: *age, share: oldest })
}

/// The age in seconds to compress from: the step at or above the age at which rows have settled.
pub fn step_above(settled: f64) -> f64 {
    let wanted = settled.max(YOUNGEST);
    STEPS.into_iter().find(|step| *step >= wanted * (1.0 - 1e-9)).unwrap_or(wanted)
}

/// Whether the present age in seconds can stay: it is not before rows have settled, by more than a fifth, and not longer
/// than seven times what would do, or 30 days.
pub fn can_stay(current: f64, settled: f64) -> bool {
    let wanted = step_above(settled);
    current * 1.2 >= settled && current <= (7.0 * wanted).max(30.0 * DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::history::{Slice, TableHistory};

    const NOW: f64 = 1_800_000_000.0;

    /// Chunks of a day whose rows have been changed this often, youngest first.
    fn days(shares: &[f64]) -> TableHistory {
        let slice = |(index, share): (usize, &f64)| {
            let end = 1_800_000_000_000_000 - i64::try_from(index).unwrap() * 86_400_000_000;
            #[allow(clippy::cast_possible_truncation)]
            let changed_rows = (share * 10_000.0) as i64;
            let (start, rows) = (end - 86_400_000_000, 10_000);
            Slice { start, end, chunks: 1, rows, inserted_rows: rows, changed_rows, ..Slice::default() }
        };
        TableHistory { units_per_second: Some(1e6), slices: shares.iter().enumerate().map(slice).rev().collect() }
    }

    #[test]
    fn the_age_is_where_old_chunks_have_had_no_more_changes() {
        let read = |shares: &[f64]| pattern(&days(shares).timed(), NOW);
        assert_eq!(read(&[0.0; 10]), Pattern::NoChanges);
        assert_eq!(read(&[0.2, 0.5, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]), Pattern::Settles { age: 3.0 * DAY, share: 1.0 });
        assert_eq!(read(&[0.5; 8]), Pattern::Settles { age: 0.0, share: 0.5 });
        assert_eq!(read(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]), Pattern::GoesOn);
        assert_eq!(read(&[0.5, 0.5]), Pattern::Unknown);
    }

    #[test]
    fn statistics_that_were_reset_say_nothing() {
        let mut history = days(&[0.0; 10]);
        history.slices.iter_mut().for_each(|slice| slice.inserted_rows = 0);
        assert_eq!(pattern(&history.timed(), NOW), Pattern::Unknown);
    }

    proptest! {
        #[test]
        fn advice_that_was_followed_can_stay(settled in 0.0..(400.0 * DAY), noise in 0.85..1.2_f64) {
            prop_assert!(can_stay(step_above(settled), settled));
            prop_assert!(can_stay(step_above(settled), settled * noise));
        }
    }
}
