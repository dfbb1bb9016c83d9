//! Rows outlive every refresh window over them, at each level of a hierarchy of aggregates.
//!
//! Dropping chunks invalidates their range, and the next refresh that covers it recomputes the buckets from nothing
//! (timescale/timescaledb#2198, #1475). A window that begins within what is certain to be there never covers it. It is
//! enough to look at each aggregate and what it reads: what a window leaves alone nothing above it can see change.

use std::cmp::Ordering;

use super::{RefreshWindow, field};
use crate::{
    api::types::{Relation, Span},
    catalog::Age,
};

/// The retention policy that is in force over some rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::plan) enum InForce {
    /// It drops chunks from this age on.
    From(Age),
    /// This job drops chunks, from an age that cannot be read.
    Unreadable(i32),
}

impl InForce {
    /// The age, where it can be read.
    pub(in crate::plan) const fn age(self) -> Option<Age> {
        match self {
            Self::From(age) => Some(age),
            Self::Unreadable(_) => None,
        }
    }
}

/// How far back rows are certain to be there under a retention of this age. By creation time a chunk may go once the
/// time of its creation is older: its oldest row is then as old, its newest a chunk younger.
pub(in crate::plan) fn reach(age: Age, chunk: Option<Span>) -> Option<Span> {
    match (age, chunk) {
        (Age::OlderThan(span), _) => Some(span),
        (Age::CreatedBefore(interval), Some(Span::Time(chunk))) => Some(Span::Time(interval.less(chunk))),
        (Age::CreatedBefore(_), _) => None,
    }
}

/// Whether a window that begins here lies within what is certain to be there.
pub(super) fn is_within(start: Span, reach: Span) -> bool {
    start.partial_cmp(&reach) == Some(Ordering::Less)
}

/// Why this retention would erase history.
pub(in crate::plan) fn unsafe_retention(
    relation: &Relation,
    after: Age,
    chunk: Option<Span>,
    windows: &[RefreshWindow],
) -> Option<String> {
    let first = windows.first()?;
    let Some(reach) = reach(after, chunk) else {
        return Some(format!(
            "dropping chunks of {relation} by their time of creation cannot be compared with the refresh window of the continuous aggregate {}, which goes by integers; use dropAfter",
            first.aggregate
        ));
    };
    let margin = match after {
        Age::OlderThan(_) => String::new(),
        Age::CreatedBefore(_) => format!(" (rows are certain to be there for {reach}: a chunk less)"),
    };
    if let Some(RefreshWindow { aggregate, .. }) = windows.iter().find(|w| w.start_offset.is_none()) {
        return Some(format!(
            "dropping chunks of {relation}{margin} would erase the history of the continuous aggregate {aggregate}: its refresh policy starts at the beginning, so the next refresh would recompute buckets whose rows are gone; give it a startOffset below {reach}"
        ));
    }
    let reaching = windows.iter().filter_map(|w| Some((&w.aggregate, w.start_offset?)));
    let mut reaching: Vec<_> = reaching.filter(|(_, start)| !is_within(*start, reach)).collect();
    reaching.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    let (aggregate, start) = reaching.first()?;
    let safe = match (after, chunk) {
        (Age::CreatedBefore(_), Some(chunk)) => start.plus(chunk),
        _ => *start,
    };
    let or = if reach.is_positive() { format!(", or startOffset shorter than {reach}") } else { String::new() };
    Some(format!(
        "dropping chunks of {relation} after {after}{margin} would erase history of the continuous aggregate {aggregate}: it refreshes the last {start}, and would recompute buckets whose rows are gone; {} must be longer than {safe}{or}",
        field(after),
    ))
}

/// Why a refresh window over a source with this retention would erase history. The same rule, seen from the aggregate.
pub(in crate::plan) fn unsafe_refresh(
    source: &str,
    retention: InForce,
    chunk: Option<Span>,
    start_offset: Option<Span>,
) -> Option<String> {
    let retention = match retention {
        InForce::From(age) => age,
        InForce::Unreadable(job) => {
            return Some(format!(
                "a refresh could erase history: job {job} drops rows of {source}, from an age that cannot be read in its config; say with a RetentionPolicy which age it should be, or pause the job with alter_job({job}, scheduled => false)"
            ));
        }
    };
    let Some(reach) = reach(retention, chunk) else {
        return Some(format!(
            "a refresh could erase history: {source} drops chunks by their time of creation ({retention}), which cannot be compared with a window of integers; use dropAfter there"
        ));
    };
    if start_offset.is_some_and(|start| is_within(start, reach)) {
        return None;
    }
    let what = start_offset.map_or_else(|| "from the beginning".to_owned(), |start| format!("of the last {start}"));
    let safe = match (start_offset, chunk) {
        _ if reach.is_positive() => format!("refreshPolicy.startOffset must be shorter than {reach}"),
        (_, Some(chunk)) => format!(
            "no startOffset is short enough; {} there must be longer than a chunk ({chunk}) and the window together",
            field(retention)
        ),
        _ => format!("no startOffset is short enough; {} there must be longer", field(retention)),
    };
    Some(format!("a refresh {what} would erase history: {source} drops its rows after {retention}; {safe}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{days, relation, window},
        *,
    };
    use crate::api::types::Interval;

    fn age(by_creation: bool, length: i32) -> Age {
        if by_creation { Age::CreatedBefore(Interval::from_days(length)) } else { Age::OlderThan(days(length)) }
    }

    /// The span that stands between these words and the end of the text, or a comma.
    fn named(message: &str, words: &str) -> Interval {
        let from = message.find(words).unwrap_or_else(|| panic!("{words} is not in {message}")) + words.len();
        let text = message[from..].split([',', ';']).next().unwrap_or_default().trim();
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn rows_must_outlive_every_refresh_window() {
        let unsafe_with = |drop, starts: &[Option<i32>]| {
            let windows: Vec<_> = starts.iter().map(|s| window(*s)).collect();
            unsafe_retention(&relation("raw"), Age::OlderThan(days(drop)), None, &windows)
        };
        assert_eq!(unsafe_with(30, &[]), None);
        assert_eq!(unsafe_with(30, &[Some(29)]), None);
        assert!(unsafe_with(30, &[Some(30)]).is_some(), "the edge itself is not safe");
        assert!(unsafe_with(30, &[Some(3), Some(60)]).unwrap().contains("longer than 60 days"));
        assert!(unsafe_with(30, &[None]).unwrap().contains("startOffset below 30 days"));
    }

    #[test]
    fn integers_are_compared_with_integers_only() {
        let by_units =
            |start| RefreshWindow { aggregate: relation("a"), start_offset: Some(Span::Integer(start)), every: None };
        let of = |after, start| unsafe_retention(&relation("raw"), after, Some(Span::Integer(10)), &[by_units(start)]);
        assert_eq!(of(Age::OlderThan(Span::Integer(100)), 99), None);
        assert!(of(Age::OlderThan(Span::Integer(100)), 100).unwrap().contains("longer than 100"));
        assert!(of(Age::CreatedBefore(Interval::from_days(100)), 1).unwrap().contains("use dropAfter"));
        assert!(of(Age::OlderThan(days(100)), 1).is_some(), "what cannot be compared is not safe");
    }

    #[test]
    fn a_retention_that_cannot_be_read_is_not_taken_for_none() {
        let message = unsafe_refresh("raw", InForce::Unreadable(1000), None, Some(days(1))).unwrap();
        assert!(message.contains("job 1000"), "{message}");
    }

    #[test]
    fn a_value_that_no_window_can_have_is_not_named() {
        let after = age(true, 7);
        let message = unsafe_retention(&relation("raw"), after, Some(days(7)), &[window(Some(1))]).unwrap();
        assert!(message.ends_with("dropCreatedBefore must be longer than 8 days"), "{message}");
        let message = unsafe_refresh("raw", InForce::From(after), Some(days(7)), Some(days(1))).unwrap();
        assert!(message.contains("no startOffset is short enough"), "{message}");
    }

    proptest! {
        #[test]
        fn both_sides_see_the_same_rule(by_creation: bool, length in 1..60_i32, chunk in 1..30_i32, start in proptest::option::of(1..60_i32)) {
            let (after, chunk) = (age(by_creation, length), Some(days(chunk)));
            let from_retention = unsafe_retention(&relation("raw"), after, chunk, &[window(start)]);
            let from_refresh = unsafe_refresh("raw", InForce::From(after), chunk, start.map(days));
            prop_assert_eq!(from_retention.is_some(), from_refresh.is_some());
        }

        #[test]
        fn the_safe_age_that_is_named_is_the_first_that_is_refused(by_creation: bool, length in 1..60_i32, chunk in 1..30_i32, starts in proptest::collection::vec(1..60_i32, 1..4)) {
            let windows: Vec<_> = starts.iter().map(|start| window(Some(*start))).collect();
            let refused = |after| unsafe_retention(&relation("raw"), after, Some(days(chunk)), &windows);
            let Some(message) = refused(age(by_creation, length)) else { return Ok(()) };
            let safe = named(&message, "must be longer than ");
            let of = |interval| if by_creation { Age::CreatedBefore(interval) } else { Age::OlderThan(Span::Time(interval)) };
            prop_assert!(refused(of(safe)).is_some(), "{}", message);
            prop_assert_eq!(refused(of(safe.plus(Interval::from_micros(1)))), None);
        }

        #[test]
        fn the_safe_window_that_is_named_is_the_first_that_is_refused(by_creation: bool, length in 1..60_i32, chunk in 1..30_i32, start in proptest::option::of(1..60_i32)) {
            let refused = |start| unsafe_refresh("raw", InForce::From(age(by_creation, length)), Some(days(chunk)), start);
            let Some(message) = refused(start.map(days)) else { return Ok(()) };
            if message.contains("no startOffset") {
                prop_assert!(refused(Some(Span::Time(Interval::from_micros(1)))).is_some());
                return Ok(());
            }
            let safe = named(&message, "must be shorter than ");
            prop_assert!(refused(Some(Span::Time(safe))).is_some(), "{}", message);
            prop_assert_eq!(refused(Some(Span::Time(safe.less(Interval::from_micros(1))))), None);
        }
    }
}
