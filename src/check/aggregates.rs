//! Continuous aggregates that are not refreshed.

use super::{Facts, Finding, Fix, Rule, jobs::Jobs, policies::object};
use crate::{
    api::types::{Relation, Span},
    catalog::{Aggregate, Job, PolicyKind},
    monitoring::lag::lag,
    sql,
};

pub(super) fn check(facts: &Facts<'_>, jobs: &Jobs) -> Vec<Finding> {
    let found = facts.catalog.aggregates.iter().flat_map(|(relation, aggregate)| {
        let is_refresh =
            |job: &&Job| job.hypertable_id == aggregate.hypertable.id && job.policy.kind() == PolicyKind::Refresh;
        let refreshes: Vec<_> = facts.catalog.jobs.iter().filter(is_refresh).collect();
        let without = refreshes.is_empty().then(|| without_refresh(facts, relation, aggregate));
        without.into_iter().chain(behind(facts, jobs, relation, aggregate, &refreshes))
    });
    found.collect()
}

fn without_refresh(facts: &Facts<'_>, relation: &Relation, aggregate: &Aggregate) -> Finding {
    let policy = match aggregate.bucket {
        Some(bucket) => format!(
            "spec.refreshPolicy of its ContinuousAggregate: {{startOffset: {}, endOffset: {bucket}}}, for one",
            bucket.times(3)
        ),
        None => "spec.refreshPolicy of its ContinuousAggregate".to_owned(),
    };
    let fix = Fix::words(format!(
        "Set {policy}. The window must be shorter than the retention of what it reads. `import` writes the resource with the query that is there."
    ));
    let message = if aggregate.materialized_only {
        "no policy refreshes it, and queries see only what is materialised"
    } else {
        "no policy refreshes it, so real-time queries compute more and more of it"
    };
    let finding = Finding::new(Rule::AggregateWithoutRefresh, object(facts.catalog, relation), message, fix);
    finding.with("materializedOnly", aggregate.materialized_only)
}

/// Never refreshed, or behind what its policy should have done by now.
fn behind(
    facts: &Facts<'_>,
    jobs: &Jobs,
    relation: &Relation,
    aggregate: &Aggregate,
    refreshes: &[&Job],
) -> Option<Finding> {
    let statistics = facts.statistics?;
    let own = statistics.tables.get(relation)?;
    let source = statistics.tables.get(facts.catalog.name_of(aggregate.source_id)?)?;
    // Of time by integers the statistics know no marks.
    let by_time = matches!(aggregate.bucket, Some(Span::Time(_)));
    if !by_time || source.chunks == 0 || jobs.still_to_come(facts, aggregate.hypertable.id, PolicyKind::Refresh) {
        return None;
    }
    let refresh = format!(
        "CALL refresh_continuous_aggregate({}, <from>, <to>)",
        sql::quote_literal(&sql::quote_relation(relation))
    );
    let fix = Fix::words(
        "See why its policy does not run; refresh by hand only what its source still holds, or history is lost.",
    )
    .with_sql(refresh);
    if own.watermark.is_none() && own.refreshed_to.is_none() {
        let message = format!("nothing is materialised, and its source has {} chunks", source.chunks);
        let finding = Finding::new(Rule::AggregateNeverRefreshed, object(facts.catalog, relation), message, fix);
        return Some(finding.with("sourceChunks", source.chunks).with("policies", refreshes.len()));
    }
    let now = facts.inspection.server.now;
    let lag =
        lag(aggregate, refreshes, own, source, now).filter(|lag| !lag.is_zero() && aggregate.materialized_only)?;
    let message =
        format!("{} seconds behind what its last refresh had to do, and queries see no newer rows", lag.as_secs());
    let finding = Finding::new(Rule::AggregateBehind, object(facts.catalog, relation), message, fix);
    Some(finding.with("lagSeconds", lag.as_secs()).with("watermark", own.watermark.map(|at| at.to_string())))
}
