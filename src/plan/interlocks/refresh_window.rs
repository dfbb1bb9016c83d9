//! A refresh window has room for two buckets, in the measure of the buckets.

use std::cmp::Ordering;

use crate::api::types::Span;

/// Why a refresh window could never work: TimescaleDB refreshes whole buckets and wants room for two. It checks that when
/// a policy is added, but not when one is altered: then every run fails.
pub(in crate::plan) fn window_too_small(start: Option<Span>, end: Option<Span>, bucket: Span) -> Option<String> {
    let start = start?;
    let least = end.unwrap_or(bucket.zero()).plus(bucket.times(2));
    (start.partial_cmp(&least) == Some(Ordering::Less)).then(|| {
        format!(
            "refreshPolicy: the window from {start} to {} ago has no room for two buckets of {bucket}; startOffset must be at least {least}",
            end.map_or_else(|| "nothing".to_owned(), |e| e.to_string())
        )
    })
}

/// Why a refresh window does not fit an aggregate with this bucket: time and integers do not mix.
pub(in crate::plan) fn window_of_another_measure(
    start: Option<Span>,
    end: Option<Span>,
    bucket: Span,
) -> Option<String> {
    let fits =
        |span: &Span| matches!((span, bucket), (Span::Time(_), Span::Time(_)) | (Span::Integer(_), Span::Integer(_)));
    let other = [("startOffset", start), ("endOffset", end)];
    let (field, span) =
        other.iter().find_map(|(field, span)| span.filter(|span| !fits(span)).map(|span| (field, span)))?;
    let needed = match bucket {
        Span::Time(_) => "an interval such as \"1 day\"",
        Span::Integer(_) => "a number of the time column's units, without quotes",
    };
    Some(format!("refreshPolicy.{field}: {span} does not fit buckets of {bucket}; write {needed}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::types::Interval;

    fn seconds(seconds: i64) -> Span {
        Span::Time(Interval::from_seconds(seconds))
    }

    #[test]
    fn a_window_holds_two_buckets() {
        let hour = seconds(3600);
        assert_eq!(window_too_small(Some(hour.times(2)), None, hour), None);
        let message = window_too_small(Some(hour.times(2)), Some(seconds(1)), hour).unwrap();
        assert!(message.contains("at least 2 hours 1 second"), "{message}");
        assert_eq!(window_too_small(None, Some(hour), hour), None, "without a start there is always room");
    }

    #[test]
    fn offsets_are_of_the_measure_of_the_buckets() {
        let (time, units) = (seconds(1), Span::Integer(1));
        assert_eq!(window_of_another_measure(Some(time), None, time), None);
        assert_eq!(window_of_another_measure(Some(units), Some(units), units), None);
        assert!(window_of_another_measure(Some(units), None, time).unwrap().contains("startOffset: 1 does not fit"));
        assert!(window_of_another_measure(Some(units), Some(time), units).unwrap().contains("without quotes"));
    }

    proptest! {
        #[test]
        fn the_least_start_that_is_named_is_the_first_that_is_accepted(start in 0..100_i64, end in proptest::option::of(0..100_i64), bucket in 1..50_i64) {
            for of in [Span::Integer, seconds] {
                let refused = |start| window_too_small(Some(start), end.map(of), of(bucket));
                let Some(message) = refused(of(start)) else { continue };
                let text = message.split("must be at least ").nth(1).unwrap();
                let least = match of(bucket) {
                    Span::Integer(_) => Span::Integer(text.parse().unwrap()),
                    Span::Time(_) => Span::Time(text.parse().unwrap()),
                };
                prop_assert_eq!(refused(least), None);
                prop_assert!(refused(of(end.unwrap_or(0) + 2 * bucket - 1)).is_some());
            }
        }
    }
}
