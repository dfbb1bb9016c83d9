//! Wider chunks go with younger rows, where retention goes by the time of their creation.

use super::{InForce, RefreshWindow, unsafe_retention};
use crate::{
    api::types::{Relation, Span},
    catalog::Age,
};

/// Why chunks of this range would erase history that those of the present range do not.
pub(in crate::plan) fn unsafe_chunk_interval(
    relation: &Relation,
    retention: Option<InForce>,
    found: Option<Span>,
    wanted: Span,
    windows: &[RefreshWindow],
) -> Option<String> {
    let Some(InForce::From(after @ Age::CreatedBefore(created))) = retention else { return None };
    let refused = |chunk| unsafe_retention(relation, after, chunk, windows).is_some();
    if !refused(Some(wanted)) || refused(found) {
        return None;
    }
    let starts = windows.iter().filter_map(|window| Some((window.start_offset?.time()?, &window.aggregate)));
    let (start, aggregate) = starts.max_by_key(|(start, _)| *start)?;
    Some(format!(
        "spec.chunkInterval: {relation} drops chunks {created} after their creation, so rows of a chunk of {wanted} would be gone before the last {start} are that the continuous aggregate {aggregate} refreshes, and its history with them; chunkInterval must be shorter than {}, or dropCreatedBefore longer than {}",
        created.less(start),
        Span::Time(start).plus(wanted)
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{days, relation, window},
        *,
    };
    use crate::api::types::Interval;

    #[test]
    fn only_the_time_of_creation_depends_on_the_chunks() {
        let older = Some(InForce::From(Age::OlderThan(days(10))));
        assert_eq!(unsafe_chunk_interval(&relation("raw"), older, Some(days(1)), days(7), &[window(Some(8))]), None);
        assert_eq!(unsafe_chunk_interval(&relation("raw"), None, Some(days(1)), days(7), &[window(Some(8))]), None);
    }

    proptest! {
        #[test]
        fn the_safe_interval_that_is_named_is_the_first_that_is_refused(created in 2..60_i32, wanted in 1..60_i32, start in 1..60_i32) {
            let retention = Some(InForce::From(Age::CreatedBefore(Interval::from_days(created))));
            let found = Some(Span::Time(Interval::from_seconds(1)));
            let refused = |wanted| unsafe_chunk_interval(&relation("raw"), retention, found, wanted, &[window(Some(start))]);
            let Some(message) = refused(days(wanted)) else { return Ok(()) };
            let text = message.split("must be shorter than ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
            let safe: Interval = text.parse().unwrap();
            prop_assert!(refused(Span::Time(safe)).is_some(), "{}", message);
            prop_assert_eq!(refused(Span::Time(safe.less(Interval::from_micros(1)))), None);
        }
    }
}
