//! What the rules say of the policies that are in force in a database, whoever made them.

use super::{
    InForce, RefreshWindow, compression_warnings, refresh_windows, retention_warnings, unsafe_refresh,
    unsafe_retention, window_of_another_measure, window_too_small,
};
use crate::{
    api::types::Relation,
    catalog::{Aggregate, Catalog, Hypertable, Job, Policy, PolicyKind},
    plan::policy::retention_in_force,
};

/// Policies that do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The hypertable or continuous aggregate whose policy it is.
    pub relation: Relation,
    /// What comes of it.
    pub consequence: Consequence,
    /// What was found, and which value would be safe.
    pub message: String,
}

/// What comes of policies that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// A refresh recomputes buckets whose rows are gone.
    ErasesHistory,
    /// Every run of the policy fails.
    NeverWorks,
    /// Nothing that is not meant to go is lost.
    Unwise,
}

/// All conflicts among the policies of a catalog that are scheduled, in the order of the relations.
pub fn conflicts(catalog: &Catalog) -> Vec<Conflict> {
    let tables = catalog.hypertables.iter().map(|(relation, host)| (relation, host, None));
    let aggregates = catalog.aggregates.iter().map(|(relation, a)| (relation, &a.hypertable, Some(a)));
    let mut found: Vec<_> =
        tables.chain(aggregates).flat_map(|(relation, host, a)| of(catalog, relation, host, a)).collect();
    found.sort_by(|a, b| a.relation.cmp(&b.relation));
    found
}

fn of(catalog: &Catalog, relation: &Relation, host: &Hypertable, aggregate: Option<&Aggregate>) -> Vec<Conflict> {
    let conflict = |consequence| move |message| Conflict { relation: relation.clone(), consequence, message };
    let scheduled: Vec<&Job> =
        catalog.jobs.iter().filter(|job| job.hypertable_id == host.id && job.scheduled).collect();
    let own: Vec<_> = scheduled
        .iter()
        .filter_map(|job| RefreshWindow::new(relation, &job.policy, Some(job.schedule_interval)))
        .collect();
    let over = refresh_windows(catalog, host.id);
    let mut found = Vec::new();
    match retention_in_force(catalog, host.id) {
        Some(InForce::From(after)) => {
            let erases = unsafe_retention(relation, after, host.chunk_interval(), &over);
            // The room that is left does not matter where there is none.
            let over = if erases.is_some() { &[][..] } else { &over[..] };
            found.extend(erases.map(conflict(Consequence::ErasesHistory)));
            let compression = catalog.job(PolicyKind::Compression, host.id).filter(|job| job.scheduled);
            let compress_after = compression.and_then(|job| match &job.policy {
                Policy::Compression { after } => *after,
                _ => None,
            });
            let warnings = retention_warnings(after, host, over, &own, compress_after);
            found.extend(warnings.into_iter().map(conflict(Consequence::Unwise)));
        }
        Some(unreadable @ InForce::Unreadable(_)) => {
            let erases = over.first().and_then(|window| {
                unsafe_refresh(&relation.to_string(), unreadable, host.chunk_interval(), window.start_offset)
            });
            found.extend(erases.map(conflict(Consequence::ErasesHistory)));
        }
        None => {}
    }
    let changing = if aggregate.is_some() { &own } else { &over };
    for Job { policy, .. } in scheduled {
        found.extend(compression_warnings(policy, changing).into_iter().map(conflict(Consequence::Unwise)));
        if let (Policy::Refresh { start_offset, end_offset, .. }, Some(bucket)) =
            (policy, aggregate.and_then(|a| a.bucket))
        {
            let fails = window_of_another_measure(*start_offset, *end_offset, bucket)
                .or_else(|| window_too_small(*start_offset, *end_offset, bucket));
            found.extend(fails.map(conflict(Consequence::NeverWorks)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A table with an hourly aggregate on it, and these jobs: on which of the two (1, 2), and the policy.
    fn catalog(jobs: &[(i32, serde_json::Value)]) -> Catalog {
        let job = |(n, (on, policy)): (usize, &(i32, serde_json::Value))| {
            json!({
                "id": 1000 + n, "hypertable_id": on, "policy": policy, "schedule_interval": "1 hour",
                "max_runtime": "00:00:00", "max_retries": -1, "retry_period": "1 hour",
            })
        };
        let time = json!([{"column": "ts", "partitioning": {"range": "1 day"}}]);
        let catalog = json!({
            "server": {"version_num": 170_005, "extension": null},
            "hypertables": {"public.raw": {"id": 1, "dimensions": time}},
            "aggregates": {"public.hourly": {
                "id": 2, "source_id": 1, "materialized_only": true, "fingerprint": "", "bucket": "1 hour", "dimensions": time,
            }},
            "jobs": jobs.iter().enumerate().map(job).collect::<Vec<_>>(),
        });
        serde_json::from_value(catalog).unwrap()
    }

    fn found(jobs: &[(i32, serde_json::Value)]) -> Vec<(String, Consequence)> {
        conflicts(&catalog(jobs)).into_iter().map(|c| (c.relation.to_string(), c.consequence)).collect()
    }

    fn retention(after: &str) -> serde_json::Value {
        json!({"retention": {"after": {"older_than": after}}})
    }

    fn compression(after: &str) -> serde_json::Value {
        json!({"compression": {"after": {"older_than": after}}})
    }

    fn refresh(start: Option<&str>, end: &str) -> serde_json::Value {
        json!({"refresh": {"start_offset": start, "end_offset": end}})
    }

    #[test]
    fn policies_that_go_together_are_left_alone() {
        let good = [
            (1, retention("90 days")),
            (1, compression("7 days")),
            (2, refresh(Some("3 days"), "1 hour")),
            (2, retention("1 year")),
        ];
        assert_eq!(found(&good), []);
    }

    #[test]
    fn retention_within_a_refresh_window_erases_history() {
        let of = |start| found(&[(1, retention("30 days")), (2, refresh(start, "1 hour"))]);
        let erases = vec![("public.raw".to_owned(), Consequence::ErasesHistory)];
        assert_eq!(of(Some("60 days")), erases);
        assert_eq!(of(None), erases);
        assert_eq!(of(Some("3 days")), []);
    }

    #[test]
    fn a_retention_that_cannot_be_read_is_not_taken_for_none() {
        let unreadable = json!({"retention": {"after": null}});
        let of = found(&[(1, unreadable), (2, refresh(Some("3 days"), "1 hour"))]);
        assert_eq!(of, [("public.raw".to_owned(), Consequence::ErasesHistory)]);
    }

    #[test]
    fn a_window_without_room_for_two_buckets_never_works() {
        let of = |start| found(&[(2, refresh(Some(start), "1 hour"))]);
        assert_eq!(of("2 hours"), [("public.hourly".to_owned(), Consequence::NeverWorks)]);
        assert_eq!(of("3 hours"), []);
    }

    #[test]
    fn compression_that_comes_too_early_or_too_late_is_unwise() {
        let unwise = vec![("public.raw".to_owned(), Consequence::Unwise)];
        assert_eq!(found(&[(1, compression("1 day")), (2, refresh(Some("3 days"), "1 hour"))]), unwise);
        assert_eq!(found(&[(1, compression("90 days")), (1, retention("30 days"))]), unwise);
    }

    #[test]
    fn a_policy_that_is_paused_conflicts_with_nothing() {
        let mut catalog = catalog(&[(1, retention("1 day")), (2, refresh(Some("3 days"), "1 hour"))]);
        assert_eq!(conflicts(&catalog).len(), 1);
        catalog.jobs[0].scheduled = false;
        assert_eq!(conflicts(&catalog), []);
    }
}
