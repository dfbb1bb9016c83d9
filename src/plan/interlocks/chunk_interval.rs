//! Wider chunks go with younger rows, where retention goes by the time of their creation.

use super::{InForce, RefreshWindow, unsafe_retention};
use crate::{
    api::types::{Relation, Span},
    catalog::Age,
};

/// Why chunks of this range would erase history, or more of it than those of the present range.
pub(in crate::plan) fn unsafe_chunk_interval(
    relation: &Relation,
    retention: Option<InForce>,
    found: Option<Span>,
    wanted: Span,
    windows: &[RefreshWindow],
) -> Option<String> {
    let Some(InForce::From(after @ Age::CreatedBefore(created))) = retention else { return None };
    // Narrower chunks make it no worse.
    if found.is_some_and(|found| wanted <= found) || unsafe_retention(relation, after, Some(wanted), windows).is_none()
    {
        return None;
    }
    let what = format!("spec.chunkInterval: {relation} drops chunks {created} after their creation");
    if let Some(RefreshWindow { aggregate, .. }) = windows.iter().find(|window| window.start_offset.is_none()) {
        return Some(format!(
            "{what}, which erases history of the continuous aggregate {aggregate}, whose refresh policy starts at the beginning, and would erase more of it with chunks of {wanted}; give that policy a startOffset first"
        ));
    }
    let starts = windows.iter().filter_map(|window| Some((window.start_offset?.time()?, &window.aggregate)));
    let (start, aggregate) = starts.max_by_key(|(start, _)| *start)?;
    let longest = created.less(start);
    let shorter = if longest.is_positive() {
        format!("chunkInterval must be shorter than {longest}, or ")
    } else {
        String::new()
    };
    Some(format!(
        "{what}, so rows of a chunk of {wanted} would be gone before the last {start} are that the continuous aggregate {aggregate} refreshes, and its history with them; {shorter}dropCreatedBefore must be longer than {}",
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

    #[test]
    fn what_is_unsafe_already_is_not_made_worse() {
        let retention = Some(InForce::From(Age::CreatedBefore(Interval::from_days(7))));
        let of = |found, wanted, start| {
            unsafe_chunk_interval(&relation("raw"), retention, Some(days(found)), days(wanted), &[window(start)])
        };
        assert!(of(1, 7, Some(7)).unwrap().contains("; dropCreatedBefore must be longer than 14 days"));
        assert!(of(1, 7, None).unwrap().contains("give that policy a startOffset first"));
        assert_eq!(of(7, 1, Some(7)), None, "narrower chunks make it no worse");
    }

    proptest! {
        #[test]
        fn the_safe_interval_that_is_named_is_the_first_that_is_refused(created in 2..60_i32, wanted in 1..60_i32, start in 1..60_i32) {
            let retention = Some(InForce::From(Age::CreatedBefore(Interval::from_days(created))));
            let found = Some(Span::Time(Interval::from_micros(1)));
            let refused = |wanted| unsafe_chunk_interval(&relation("raw"), retention, found, wanted, &[window(Some(start))]);
            let Some(message) = refused(days(wanted)) else { return Ok(()) };
            let Some(rest) = message.split("must be shorter than ").nth(1) else {
                prop_assert!(refused(Span::Time(Interval::from_micros(2))).is_some(), "{}", message);
                return Ok(());
            };
            let text = rest.split(',').next().unwrap();
            let safe: Interval = text.parse().unwrap();
            prop_assert!(refused(Span::Time(safe)).is_some(), "{}", message);
            prop_assert_eq!(refused(Span::Time(safe.less(Interval::from_micros(1)))), None);
        }
    }
}
