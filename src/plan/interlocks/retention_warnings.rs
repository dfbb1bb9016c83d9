//! What is unwise about a retention policy, but loses nothing that is not meant to go.

use std::cmp::Ordering;

use super::{RefreshWindow, field, history::is_within, reach};
use crate::{
    api::types::Span,
    catalog::{Age, Hypertable},
};

/// What is unwise about a retention policy.
pub(in crate::plan) fn retention_warnings(
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
        let every = every.map_or(reach.zero(), Span::Time);
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
    use super::{
        super::tests::{days, window},
        *,
    };
    use crate::catalog::{Dimension, Partitioning};

    fn live(chunk: i32) -> Hypertable {
        let partitioning = Partitioning::Range(days(chunk).time().unwrap());
        let time = Dimension { column: "ts".parse().unwrap(), type_: None, partitioning };
        Hypertable { dimensions: vec![time], ..Hypertable::default() }
    }

    fn older(length: i32) -> Age {
        Age::OlderThan(days(length))
    }

    #[test]
    fn an_age_below_a_chunk_is_warned_of() {
        assert!(retention_warnings(older(6), &live(7), &[], &[], None)[0].contains("shorter than a chunk"));
        assert!(retention_warnings(older(7), &live(7), &[], &[], None).is_empty());
    }

    #[test]
    fn chunks_that_go_before_they_are_compressed_are_warned_of() {
        assert!(retention_warnings(older(30), &live(7), &[], &[], Some(older(30)))[0].contains("before they would be"));
        assert!(retention_warnings(older(30), &live(7), &[], &[], Some(older(29))).is_empty());
    }

    #[test]
    fn the_room_that_is_named_is_enough() {
        let of = |length| retention_warnings(older(length), &live(7), &[window(Some(20))], &[], None);
        assert!(of(27)[0].contains("28 days would be safe"), "{:?}", of(27));
        assert!(of(28).is_empty(), "20 of the window, 1 between refreshes, 7 of a chunk");
    }

    #[test]
    fn buckets_that_come_back_are_warned_of() {
        assert!(retention_warnings(older(30), &live(7), &[], &[window(Some(30))], None)[0].contains("bring dropped"));
        assert!(retention_warnings(older(30), &live(7), &[], &[window(Some(29))], None).is_empty());
    }
}
