//! Rules over several policies at once, one file for each. TimescaleDB itself checks none of them.
//!
//! Each is a plain function of what is in force and what is wanted. One that refuses says why and which value would be
//! safe; that this value is accepted, and no looser one, is tested as a property.

mod chunk_interval;
mod compression_warnings;
mod history;
mod in_force;
mod refresh_window;
mod retention_warnings;

pub(super) use chunk_interval::unsafe_chunk_interval;
pub(super) use compression_warnings::compression_warnings;
pub(super) use history::{InForce, reach, unsafe_refresh, unsafe_retention};
pub use in_force::{Conflict, Consequence, conflicts};
pub(super) use refresh_window::{window_of_another_measure, window_too_small};
pub(super) use retention_warnings::retention_warnings;

use crate::{
    api::types::{Interval, Relation, Span},
    catalog::{Age, Catalog, Policy},
};

/// The refresh windows over the rows of this hypertable, of every aggregate that reads it.
pub(super) fn refresh_windows(catalog: &Catalog, source_id: i32) -> Vec<RefreshWindow> {
    let windows = catalog.readers(source_id).flat_map(|(relation, aggregate)| {
        let jobs = catalog.jobs.of(aggregate.hypertable.id);
        jobs.filter_map(|job| RefreshWindow::new(relation, &job.policy, Some(job.schedule_interval)))
    });
    windows.collect()
}

/// The part of a refresh policy that interlocks with other policies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RefreshWindow {
    pub(super) aggregate: Relation,
    /// `None`: from the beginning.
    pub(super) start_offset: Option<Span>,
    pub(super) every: Option<Interval>,
}

impl RefreshWindow {
    pub(super) fn new(aggregate: &Relation, policy: &Policy, every: Option<Interval>) -> Option<Self> {
        match policy {
            Policy::Refresh { start_offset, .. } => {
                Some(Self { aggregate: aggregate.clone(), start_offset: *start_offset, every })
            }
            _ => None,
        }
    }
}

/// The field that says an age of this measure.
const fn field(after: Age) -> &'static str {
    match after {
        Age::OlderThan(_) => "dropAfter",
        Age::CreatedBefore(_) => "dropCreatedBefore",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn days(days: i32) -> Span {
        Span::Time(Interval::from_days(days))
    }

    pub(super) fn relation(name: &str) -> Relation {
        Relation { schema: "public".parse().unwrap(), name: name.parse().unwrap() }
    }

    /// A window that begins this many days ago, or at the beginning.
    pub(super) fn window(start: Option<i32>) -> RefreshWindow {
        RefreshWindow {
            aggregate: relation("daily"),
            start_offset: start.map(days),
            every: Some(Interval::from_days(1)),
        }
    }
}
