//! Compressed chunks had better not change any more.

use std::cmp::Ordering;

use super::RefreshWindow;
use crate::{
    api::types::Span,
    catalog::{Age, Policy},
};

/// What is unwise about a compression policy, over the windows that change what it compresses.
pub(in crate::plan) fn compression_warnings(policy: &Policy, windows: &[RefreshWindow]) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{days, window},
        *,
    };

    fn warnings(after: Age, start: Option<i32>) -> Vec<String> {
        compression_warnings(&Policy::Compression { after: Some(after) }, &[window(start)])
    }

    #[test]
    fn chunks_that_are_still_refreshed_are_warned_of() {
        assert_eq!(warnings(Age::OlderThan(days(1)), Some(3)).len(), 1);
        assert_eq!(warnings(Age::OlderThan(days(1)), None).len(), 1);
        assert_eq!(warnings(Age::OlderThan(days(1)), Some(1)), Vec::<String>::new());
    }
}
