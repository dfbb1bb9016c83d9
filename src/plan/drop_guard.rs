//! How much a retention policy may drop at its next run before anybody is asked.

use super::interlocks::InForce;
use std::cmp::Ordering;

use crate::{
    api::types::{Relation, Span},
    catalog::{Age, Drops},
};

/// Why steps wait for approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guarded {
    /// A fact that the approval depends on besides the statements.
    pub(super) fact: String,
    /// What would need no approval.
    pub(super) limit: Option<String>,
}

/// Whether a policy of this age drops more than the one in force: it does when none is, or when the age falls. Ages of
/// two measures cannot tell.
pub(super) fn drops_more(in_force: Option<Age>, after: Age) -> bool {
    let falls = |found: Age| !matches!(found.partial_cmp(&after), Some(Ordering::Less | Ordering::Equal));
    in_force.is_none_or(falls)
}

/// Why dropping these chunks at once needs approval, where no more than this share of all may go.
pub(super) fn drop_guard(drops: &Drops, max_percent: i32, in_force: Option<Age>) -> Option<Guarded> {
    if drops.within(max_percent) {
        return None;
    }
    // The newest chunk moves with the clock. The oldest does so only where a policy in force goes on dropping; elsewhere it
    // moves when rows were filled in that the approval did not know of.
    let fact = match in_force {
        Some(found) => format!("in force: {found}"),
        None => format!("nothing in force; oldest: {:?}", drops.oldest),
    };
    let limit = format!(
        "without approval {} of {} chunks may go at once (guards.maxImmediateDropPercent of the TimescaleDatabase is {max_percent})",
        drops.of * i64::from(max_percent) / 100,
        drops.of
    );
    Some(Guarded { fact, limit: Some(limit) })
}

/// Why another clock needs approval where this retention is in force: it says how old rows are, and nobody can count
/// beforehand what is too old by a function that is not in use yet.
pub(super) fn clock_guard(relation: &Relation, in_force: InForce) -> Option<Guarded> {
    let age = match in_force {
        InForce::From(Age::OlderThan(Span::Integer(units))) => units.to_string(),
        InForce::From(Age::OlderThan(Span::Time(_)) | Age::CreatedBefore(_)) => return None,
        InForce::Unreadable(job) => format!("an age that cannot be read, job {job}"),
    };
    let limit = format!(
        "may delete data: the retention policy of {relation} (drop after {age}) goes by the new function at its next run; while that policy is paused no approval is needed"
    );
    Some(Guarded { fact: format!("{relation} drops after {age}"), limit: Some(limit) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::types::Interval;

    fn days(days: i32) -> Age {
        Age::OlderThan(Span::Time(Interval::from_days(days)))
    }

    fn guarded(chunks: i64, of: i64, max_percent: i32) -> Option<Guarded> {
        drop_guard(&Drops { chunks, of, ..Drops::default() }, max_percent, None)
    }

    #[test]
    fn only_more_than_before_is_guarded() {
        assert!(drops_more(None, days(30)));
        assert!(drops_more(Some(days(30)), days(29)));
        assert!(!drops_more(Some(days(30)), days(30)));
        assert!(!drops_more(Some(days(30)), days(31)));
        let created = Age::CreatedBefore(Interval::from_days(31));
        assert!(drops_more(Some(days(30)), created) && drops_more(Some(created), days(365)), "they cannot be compared");
    }

    #[test]
    fn a_share_is_counted_in_integers() {
        assert_eq!(guarded(99, 180, 55), None);
        assert!(guarded(100, 180, 55).is_some());
    }

    #[test]
    fn nothing_is_no_share_of_nothing() {
        assert_eq!(guarded(0, 0, 0), None);
    }

    #[test]
    fn an_approval_lasts_while_a_policy_in_force_drops_what_is_oldest() {
        let drops = |oldest| Drops { chunks: 4, of: 4, oldest: Some(oldest), ..Drops::default() };
        let fact = |oldest: &str, in_force| drop_guard(&drops(oldest.parse().unwrap()), 0, in_force).unwrap().fact;
        let (old, older) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
        assert_eq!(fact(old, Some(days(90))), fact(older, Some(days(90))));
        assert_ne!(fact(old, Some(days(90))), fact(old, Some(days(60))));
        assert_ne!(fact(old, None), fact(older, None), "rows were filled in");
    }

    #[test]
    fn only_retention_by_integers_goes_by_a_clock_that_can_change() {
        let of = |in_force| clock_guard(&"public.raw".parse().unwrap(), in_force);
        assert_eq!(of(InForce::From(days(30))), None);
        assert_eq!(of(InForce::From(Age::CreatedBefore(Interval::from_days(30)))), None);
        assert!(of(InForce::Unreadable(7)).is_some());
        let guarded = of(InForce::From(Age::OlderThan(Span::Integer(30)))).unwrap();
        assert!(guarded.limit.unwrap().contains("while that policy is paused no approval is needed"));
    }

    proptest! {
        #[test]
        fn as_many_chunks_as_are_named_may_go_and_no_more(chunks in 1..200_i64, of in 1..200_i64, max_percent in 0..=100_i32) {
            let Some(Guarded { limit, .. }) = guarded(chunks.min(of), of, max_percent) else { return Ok(()) };
            let limit = limit.unwrap();
            let named: i64 = limit.split_whitespace().nth(2).unwrap().parse().unwrap();
            prop_assert_eq!(guarded(named, of, max_percent), None);
            prop_assert!(guarded(named + 1, of, max_percent).is_some());
        }
    }
}
