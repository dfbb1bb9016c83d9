//! How long the interval of a chunk should be.
//!
//! TimescaleDB's rule: the chunks that are being written to, of all active hypertables together, fit into a quarter of the
//! memory. Its documentation counts indexes alone ("Improve hypertable and query performance": indexes of the chunks that
//! are currently ingested into, 25 % of main memory), its support the chunks with their data and indexes ("How should I
//! configure chunk intervals?": one chunk of each active hypertable, 25 % of main memory for all of them, not for each).
//!
//! The rule says how much all of them may hold, not how that is shared out. Here it is shared out so that there are as few
//! chunks in all as possible: intervals `t` with Σ rate·t = budget and the least Σ 1/t are in the ratio of 1/√rate, so a
//! table with four times the ingest gets half the interval and twice the share.

/// 30 days: past that a chunk is a burden to compress, to move and to drop.
pub const LONGEST: f64 = 30.0 * DAY;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;

/// The intervals that are recommended, in seconds: 15 and 30 minutes; 1, 2, 3, 6, 12 hours; 1, 2, 3, 7, 14, 30 days.
pub const STEPS: [f64; 13] = [
    0.25 * HOUR,
    0.5 * HOUR,
    HOUR,
    2.0 * HOUR,
    3.0 * HOUR,
    6.0 * HOUR,
    12.0 * HOUR,
    DAY,
    2.0 * DAY,
    3.0 * DAY,
    7.0 * DAY,
    14.0 * DAY,
    LONGEST,
];

/// A chunk of a week, which is TimescaleDB's own choice, is long enough where it fills a batch of compressed rows: it is not
/// made longer only because it could be.
const LONG_ENOUGH: f64 = 7.0 * DAY;

/// An interval may be this much longer than the rule before it is shortened.
const TOLERANCE: f64 = 1.2;

/// What one hypertable asks of the memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Bytes per second that come in.
    pub rate: f64,
    /// The longest interval that makes sense for it, in seconds.
    pub longest: f64,
}

/// The intervals in seconds with which the chunks that are written to hold `budget` bytes in all, before rounding; less
/// where every interval is the longest that makes sense.
pub fn share_out(demands: &[Demand], budget: f64) -> Vec<f64> {
    let mut capped = vec![false; demands.len()];
    loop {
        let (mut left, mut roots) = (budget, 0.0);
        for (demand, capped) in demands.iter().zip(&capped) {
            if *capped {
                left -= demand.rate * demand.longest;
            } else {
                roots += demand.rate.sqrt();
            }
        }
        let interval = |demand: &Demand| left.max(0.0) / (roots * demand.rate.sqrt());
        let mut changed = false;
        for (demand, capped) in demands.iter().zip(&mut capped) {
            if !*capped && interval(demand) >= demand.longest {
                (*capped, changed) = (true, true);
            }
        }
        if !changed {
            let one = |(demand, capped): (&Demand, &bool)| if *capped { demand.longest } else { interval(demand) };
            return demands.iter().zip(&capped).map(one).collect();
        }
    }
}

/// The step at or below an interval; the shortest where there is none.
pub fn step_below(interval: f64) -> f64 {
    // A rule that is a step but for rounding is that step.
    STEPS.into_iter().rev().find(|step| *step <= interval * (1.0 + 1e-9)).unwrap_or(STEPS[0])
}

/// The interval to change to, in seconds, or `None` to leave the present one: one that is no more than 20 % longer than
/// the rule and no more than a step shorter than the step below the rule stays, so that advice once followed stands while
/// the ingest goes up and down a little. `fills_a_batch`: a chunk of the present interval holds as many rows as compression
/// packs together.
pub fn advise(current: f64, rule: f64, fills_a_batch: bool) -> Option<f64> {
    let wanted = step_below(rule);
    let next_shorter = STEPS.into_iter().rev().find(|step| *step < wanted).unwrap_or(wanted);
    let is_long_enough = current >= next_shorter || (fills_a_batch && current >= LONG_ENOUGH);
    let is_short_enough = current <= rule * TOLERANCE || current <= STEPS[0];
    (!(is_long_enough && is_short_enough)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

    fn alone(bytes_per_day: f64, memory: f64) -> f64 {
        share_out(&[Demand { rate: bytes_per_day / DAY, longest: LONGEST }], memory / 4.0)[0]
    }

    #[test]
    fn the_examples_of_the_documentation_come_out() {
        assert!((step_below(alone(2.0 * GIB, 64.0 * GIB)) - 7.0 * DAY).abs() < 1.0, "2 GB a day and 64 GB of memory");
        assert!((step_below(alone(10.0 * GIB, 64.0 * GIB)) - DAY).abs() < 1.0, "10 GB a day on the same machine");
    }

    #[test]
    fn four_times_the_ingest_is_half_the_interval() {
        let demand = |rate| Demand { rate, longest: LONGEST };
        let intervals = share_out(&[demand(1000.0), demand(4000.0)], 1e8);
        assert!((intervals[0] / intervals[1] - 2.0).abs() < 1e-9, "{intervals:?}");
    }

    #[test]
    fn what_one_table_cannot_use_the_others_get() {
        let intervals =
            share_out(&[Demand { rate: 1.0, longest: 1000.0 }, Demand { rate: 100.0, longest: LONGEST }], 1e6);
        assert_eq!(intervals, [1000.0, (1e6 - 1000.0) / 100.0]);
    }

    fn demands() -> impl Strategy<Value = Vec<Demand>> {
        prop::collection::vec(
            (0.001..1e7_f64, DAY..LONGEST).prop_map(|(rate, longest)| Demand { rate, longest }),
            1..60,
        )
    }

    proptest! {
        #[test]
        fn together_they_use_the_budget_and_no_more(demands in demands(), budget in 1e6..1e12_f64) {
            let intervals = share_out(&demands, budget);
            let used: f64 = demands.iter().zip(&intervals).map(|(d, t)| d.rate * t).sum();
            prop_assert!(used <= budget * (1.0 + 1e-9));
            let all_longest = demands.iter().zip(&intervals).all(|(d, t)| *t >= d.longest);
            prop_assert!(all_longest || used >= budget * (1.0 - 1e-9), "{used} of {budget}");
        }

        #[test]
        fn the_scale_does_not_matter(demands in demands(), budget in 1e6..1e12_f64, scale in 0.001..1000.0_f64) {
            let larger: Vec<_> = demands.iter().map(|d| Demand { rate: d.rate * scale, ..*d }).collect();
            for (a, b) in share_out(&demands, budget).iter().zip(share_out(&larger, budget * scale)) {
                prop_assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
            }
        }

        #[test]
        fn more_memory_never_makes_an_interval_shorter(demands in demands(), budget in 1e6..1e12_f64, more in 1.0..10.0_f64) {
            for (a, b) in share_out(&demands, budget).iter().zip(share_out(&demands, budget * more)) {
                prop_assert!(b >= a * (1.0 - 1e-9), "{a} {b}");
                prop_assert!(step_below(b) >= step_below(a * (1.0 - 1e-9)));
            }
        }

        #[test]
        fn another_division_makes_no_fewer_chunks(rates in prop::collection::vec(0.1..1e4_f64, 2..6), weights in prop::collection::vec(0.1..10.0_f64, 6)) {
            let budget = 1e6;
            let demands: Vec<_> = rates.iter().map(|rate| Demand { rate: *rate, longest: 1e15 }).collect();
            let chunks = |intervals: &[f64]| intervals.iter().map(|t| 1.0 / t).sum::<f64>();
            let best = chunks(&share_out(&demands, budget));
            let total: f64 = weights.iter().take(rates.len()).sum();
            let other: Vec<_> = rates.iter().zip(&weights).map(|(rate, weight)| budget * weight / total / rate).collect();
            prop_assert!(best <= chunks(&other) * (1.0 + 1e-9));
        }

        #[test]
        fn advice_that_was_followed_is_not_given_again(current in 60.0..1e8_f64, rule in 60.0..LONGEST, noise in 0.85..1.18_f64, filled: bool) {
            let advised = advise(current, rule, filled);
            prop_assert_eq!(advise(advised.unwrap_or(current), rule, filled), None);
            if let Some(followed) = advised {
                prop_assert_eq!(advise(followed, (rule * noise).min(LONGEST), filled), None, "{} {}", followed, rule);
            }
        }

        #[test]
        fn advice_is_the_step_below_the_rule_and_never_above_it(current in 60.0..1e8_f64, rule in 900.0..LONGEST, filled: bool) {
            if let Some(advised) = advise(current, rule, filled) {
                prop_assert!(advised <= rule);
                prop_assert!(STEPS.iter().all(|step| *step <= advised || *step > rule));
            } else {
                prop_assert!(current <= rule * TOLERANCE);
            }
        }
    }
}
