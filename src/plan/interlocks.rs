//! Rules over several policies at once. TimescaleDB itself checks none of them.

use std::cmp::Ordering;

use crate::{
    api::types::{Interval, Relation, Span},
    catalog::{Age, Hypertable, Policy},
};

use super::RefreshWindow;

/// How far back rows are certain to be there under a retention of this age. By creation time a chunk may go once the
/// time of its creation is older: its oldest row is then as old, its newest a chunk younger.
pub(super) fn reach(age: Age, chunk: Option<Span>) -> Option<Span> {
    match (age, chunk) {
        (Age::OlderThan(span), _) => Some(span),
        (Age::CreatedBefore(interval), Some(Span::Time(chunk))) => {
            let micros = interval.total_micros() - chunk.total_micros();
            Some(Span::Time(Interval::from_micros(i64::try_from(micros.max(0)).unwrap_or(i64::MAX))))
        }
        (Age::CreatedBefore(_), _) => None,
    }
}

/// Whether a window that begins here lies within what is certain to be there.
fn is_within(start: Span, reach: Span) -> bool {
    start.partial_cmp(&reach) == Some(Ordering::Less)
}

/// Why this retention would erase history: dropping chunks invalidates their range, and the next refresh that covers it
/// recomputes the buckets from nothing (timescale/timescaledb#2198, #1475). So raw rows must outlive every refresh window.
pub(super) fn unsafe_retention(
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
            "dropping chunks of {relation} would erase the history of the continuous aggregate {aggregate}: its refresh policy starts at the beginning, so the next refresh would recompute buckets whose rows are gone; give it a startOffset below {reach}"
        ));
    }
    let reaching = windows.iter().filter_map(|w| Some((&w.aggregate, w.start_offset?)));
    let mut reaching: Vec<_> = reaching.filter(|(_, start)| !is_within(*start, reach)).collect();
    reaching.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    let (aggregate, start) = reaching.first()?;
    Some(format!(
        "dropping chunks of {relation} after {after}{margin} would erase history of the continuous aggregate {aggregate}: it refreshes the last {start}, and would recompute buckets whose rows are gone; {} must be longer than {}, or startOffset shorter than {reach}",
        field(after),
        match (after, chunk) {
            (Age::CreatedBefore(_), Some(chunk)) => start.plus(chunk),
            _ => *start,
        }
    ))
}

/// The field that says an age of this measure.
const fn field(after: Age) -> &'static str {
    match after {
        Age::OlderThan(_) => "dropAfter",
        Age::CreatedBefore(_) => "dropCreatedBefore",
    }
}

/// Why a refresh window over a source with this retention would erase history. The same rule, seen from the aggregate.
pub(super) fn unsafe_refresh(
    source: &str,
    retention: Age,
    chunk: Option<Span>,
    start_offset: Option<Span>,
) -> Option<String> {
    let Some(reach) = reach(retention, chunk) else {
        return Some(format!(
            "a refresh could erase history: {source} drops chunks by their time of creation ({retention}), which cannot be compared with a window of integers"
        ));
    };
    match start_offset {
        Some(start) if is_within(start, reach) => None,
        Some(start) => Some(format!(
            "a refresh of the last {start} would erase history: {source} drops its rows after {retention}; refreshPolicy.startOffset must be shorter than {reach}"
        )),
        None => Some(format!(
            "a refresh from the beginning would erase history: {source} drops its rows after {retention}; set refreshPolicy.startOffset to less than {reach}"
        )),
    }
}

/// Why a refresh window could never work: TimescaleDB refreshes whole buckets and wants room for two. It checks that when
/// a policy is added, but not when one is altered: then every run fails.
pub(super) fn window_too_small(start: Option<Span>, end: Option<Span>, bucket: Span) -> Option<String> {
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
pub(super) fn window_of_another_measure(start: Option<Span>, end: Option<Span>, bucket: Span) -> Option<String> {
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

/// What is unwise about a compression policy, over the windows that change what it compresses.
pub(super) fn compression_warnings(policy: &Policy, windows: &[RefreshWindow]) -> Vec<String> {
    let Policy::Compression { after: Some(Age::OlderThan(after)) } = policy else {
        return Vec::new();
    };
    let further = |start: Span| start.partial_cmp(after) == Some(Ordering::Greater);
    let inside = windows.iter().find(|w| w.start_offset.is_none_or(further));
    let warning = |w: &RefreshWindow| {
        let start = w.start_offset.map_or_else(|| "the beginning".to_owned(), |s| s.to_string());
        format!(
            "chunks are compressed after {after}, while {} still refreshes from {start}: late rows then change compressed chunks",
            w.aggregate
        )
    };
    inside.map(warning).into_iter().collect()
}

/// What is unwise about a retention policy.
pub(super) fn retention_warnings(
    after: Age,
    live: &Hypertable,
    windows: &[RefreshWindow],
    own: &[RefreshWindow],
    compress_after: Option<Age>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let chunk = live.chunk_interval();
    if let (Age::OlderThan(age), Some(chunk)) = (after, chunk)
        && age.partial_cmp(&chunk) == Some(Ordering::Less)
    {
        warnings.push(format!(
            "dropAfter ({age}) is shorter than a chunk ({chunk}): a chunk goes only when all of it is older"
        ));
    }
    let too_late = |compress: &Age| matches!(compress.partial_cmp(&after), Some(Ordering::Equal | Ordering::Greater));
    if let Some(compress) = compress_after.filter(too_late) {
        warnings.push(format!("chunks are dropped after {after}, before they would be compressed (after {compress})"));
    }
    let Some(reach) = reach(after, chunk) else { return warnings };
    for RefreshWindow { aggregate, start_offset, every } in windows {
        let every = every.map(Span::Time).unwrap_or(reach.zero());
        let margin = start_offset.unwrap_or(reach).plus(every).plus(chunk.unwrap_or(reach.zero()));
        if reach.partial_cmp(&margin) == Some(Ordering::Less) {
            warnings.push(format!(
                "{} ({after}) leaves {aggregate} little room: with its refresh window, the time between refreshes and one chunk, {margin} would be safe against a late refresh",
                field(after)
            ));
        }
    }
    for RefreshWindow { start_offset, .. } in own {
        if start_offset.is_none_or(|start| !is_within(start, reach)) {
            let start = start_offset.map_or_else(|| "the beginning".to_owned(), |s| s.to_string());
            warnings.push(format!(
                "buckets are dropped after {after}, while the refresh policy still computes them from {start}: late rows bring dropped ones back"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: i32) -> Interval {
        Interval::from_days(days)
    }

    fn relation(name: &str) -> Relation {
        Relation { schema: "public".parse().unwrap(), name: name.parse().unwrap() }
    }

    fn window(start: Option<i32>) -> RefreshWindow {
        let start_offset = start.map(|n| Span::Time(days(n)));
        RefreshWindow { aggregate: relation("daily"), start_offset, every: Some(days(1)) }
    }

    #[test]
    fn raw_rows_must_outlive_every_refresh_window() {
        let unsafe_with = |drop, starts: &[Option<i32>]| {
            let windows: Vec<_> = starts.iter().map(|s| window(*s)).collect();
            unsafe_retention(&relation("raw"), Age::OlderThan(days(drop).into()), None, &windows)
        };
        assert_eq!(unsafe_with(30, &[]), None);
        assert_eq!(unsafe_with(30, &[Some(29)]), None);
        assert!(unsafe_with(30, &[Some(30)]).is_some(), "the edge itself is not safe");
        assert!(unsafe_with(30, &[Some(3), Some(60)]).unwrap().contains("longer than 60 days"));
        assert!(unsafe_with(30, &[None]).unwrap().contains("startOffset below 30 days"));
    }

    #[test]
    fn a_refresh_window_must_end_before_the_retention_of_its_source() {
        let month = Age::OlderThan(days(30).into());
        assert_eq!(unsafe_refresh("raw", month, None, Some(days(29).into())), None);
        assert!(unsafe_refresh("raw", month, None, Some(days(30).into())).is_some());
        assert!(unsafe_refresh("raw", month, None, None).is_some());
    }

    #[test]
    fn a_refresh_window_holds_two_buckets() {
        let hour = Span::Time(Interval::from_seconds(3600));
        assert_eq!(window_too_small(Some(hour.times(2)), None, hour), None);
        assert!(
            window_too_small(Some(hour.times(2)), Some(Interval::from_seconds(1).into()), hour)
                .unwrap()
                .contains("at least 2 hours 1 second")
        );
        assert_eq!(window_too_small(None, Some(hour), hour), None, "without a start there is always room");
    }

    #[test]
    fn what_is_only_unwise_is_a_warning() {
        let policy = Policy::Compression { after: Some(Age::OlderThan(days(1).into())) };
        assert_eq!(compression_warnings(&policy, &[window(Some(3))]).len(), 1);
        assert_eq!(compression_warnings(&policy, &[window(Some(1))]).len(), 0);
    }
}
