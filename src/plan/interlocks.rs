//! Rules over several policies at once. TimescaleDB itself checks none of them.

use crate::{
    api::types::{Interval, Relation},
    catalog::{Hypertable, Partitioning, Policy},
};

use super::RefreshWindow;

/// Why this retention would erase history: dropping chunks invalidates their range, and the next refresh that covers it
/// recomputes the buckets from nothing (timescale/timescaledb#2198, #1475). So raw rows must outlive every refresh window.
pub(super) fn unsafe_retention(relation: &Relation, drop_after: Interval, windows: &[RefreshWindow]) -> Option<String> {
    let (mut worst, mut unbounded) = (None, None);
    for window in windows {
        match window.start_offset {
            None => unbounded = Some(&window.aggregate),
            Some(start) if drop_after <= start => {
                if worst.is_none_or(|(_, longest)| start > longest) {
                    worst = Some((&window.aggregate, start));
                }
            }
            Some(_) => {}
        }
    }
    if let Some(aggregate) = unbounded {
        return Some(format!(
            "dropping chunks of {relation} would erase the history of the continuous aggregate {aggregate}: its refresh policy starts at the beginning, so the next refresh would recompute buckets whose rows are gone; give it a startOffset below {drop_after}"
        ));
    }
    worst.map(|(aggregate, start)| {
        format!(
            "dropping chunks of {relation} after {drop_after} would erase history of the continuous aggregate {aggregate}: it refreshes the last {start}, and would recompute buckets whose rows are gone; dropAfter must be longer than {start}, or startOffset shorter than {drop_after}"
        )
    })
}

/// Why a refresh window over a source with this retention would erase history. The same rule, seen from the aggregate.
pub(super) fn unsafe_refresh(source: &str, retention: Interval, start_offset: Option<Interval>) -> Option<String> {
    match start_offset {
        Some(start) if start < retention => None,
        Some(start) => Some(format!(
            "a refresh of the last {start} would erase history: {source} drops its rows after {retention}; refreshPolicy.startOffset must be shorter than {retention}"
        )),
        None => Some(format!(
            "a refresh from the beginning would erase history: {source} drops its rows after {retention}; set refreshPolicy.startOffset to less than {retention}"
        )),
    }
}

/// Why a refresh window could never work: TimescaleDB refreshes whole buckets and wants room for two. It checks that when
/// a policy is added, but not when one is altered: then every run fails.
pub(super) fn window_too_small(start: Option<Interval>, end: Option<Interval>, bucket: Interval) -> Option<String> {
    let start = start?;
    let least = end.unwrap_or(Interval::from_seconds(0)).plus(bucket.times(2));
    (start < least).then(|| {
        format!(
            "refreshPolicy: the window from {start} to {} ago has no room for two buckets of {bucket}; startOffset must be at least {least}",
            end.map_or_else(|| "nothing".to_owned(), |e| e.to_string())
        )
    })
}

/// What is unwise about a compression policy.
pub(super) fn compression_warnings(policy: &Policy, windows: &[RefreshWindow]) -> Vec<String> {
    let Policy::Compression { compress_after: Some(after) } = policy else {
        return Vec::new();
    };
    let inside = windows.iter().find(|w| w.start_offset.is_none_or(|start| start > *after));
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
    drop_after: Interval,
    live: &Hypertable,
    windows: &[RefreshWindow],
    compress_after: Option<Interval>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let chunk = match live.time().map(|d| &d.partitioning) {
        Some(Partitioning::Range(interval)) => Some(*interval),
        _ => None,
    };
    if let Some(chunk) = chunk.filter(|chunk| drop_after < *chunk) {
        warnings.push(format!(
            "dropAfter ({drop_after}) is shorter than a chunk ({chunk}): a chunk goes only when all of it is older"
        ));
    }
    if let Some(after) = compress_after.filter(|after| *after >= drop_after) {
        warnings
            .push(format!("chunks are dropped after {drop_after}, before they would be compressed (after {after})"));
    }
    for RefreshWindow { aggregate, start_offset, every } in windows {
        let margin = start_offset
            .unwrap_or(drop_after)
            .plus(every.unwrap_or(Interval::from_seconds(0)))
            .plus(chunk.unwrap_or(Interval::from_seconds(0)));
        if drop_after < margin {
            warnings.push(format!(
                "dropAfter ({drop_after}) leaves {aggregate} little room: with its refresh window, the time between refreshes and one chunk, {margin} would be safe against a late refresh"
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
        RefreshWindow { aggregate: relation("daily"), start_offset: start.map(days), every: Some(days(1)) }
    }

    #[test]
    fn raw_rows_must_outlive_every_refresh_window() {
        let unsafe_with = |drop, starts: &[Option<i32>]| {
            let windows: Vec<_> = starts.iter().map(|s| window(*s)).collect();
            unsafe_retention(&relation("raw"), days(drop), &windows)
        };
        assert_eq!(unsafe_with(30, &[]), None);
        assert_eq!(unsafe_with(30, &[Some(29)]), None);
        assert!(unsafe_with(30, &[Some(30)]).is_some(), "the edge itself is not safe");
        assert!(unsafe_with(30, &[Some(3), Some(60)]).unwrap().contains("longer than 60 days"));
        assert!(unsafe_with(30, &[None]).unwrap().contains("startOffset below 30 days"));
    }

    #[test]
    fn a_refresh_window_must_end_before_the_retention_of_its_source() {
        assert_eq!(unsafe_refresh("raw", days(30), Some(days(29))), None);
        assert!(unsafe_refresh("raw", days(30), Some(days(30))).is_some());
        assert!(unsafe_refresh("raw", days(30), None).is_some());
    }

    #[test]
    fn a_refresh_window_holds_two_buckets() {
        let hour = Interval::from_seconds(3600);
        assert_eq!(window_too_small(Some(hour.times(2)), None, hour), None);
        assert!(
            window_too_small(Some(hour.times(2)), Some(Interval::from_seconds(1)), hour)
                .unwrap()
                .contains("at least 2 hours 1 second")
        );
        assert_eq!(window_too_small(None, Some(hour), hour), None, "without a start there is always room");
    }

    #[test]
    fn what_is_only_unwise_is_a_warning() {
        let policy = Policy::Compression { compress_after: Some(days(1)) };
        assert_eq!(compression_warnings(&policy, &[window(Some(3))]).len(), 1);
        assert_eq!(compression_warnings(&policy, &[window(Some(1))]).len(), 0);
    }
}
