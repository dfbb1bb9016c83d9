//! Policies in the database that no resource speaks of. Absence drops nothing, so that they have to be named.

use std::collections::BTreeSet;

use crate::{
    api::types::Relation,
    catalog::{Catalog, PolicyKind},
    desired::{Desired, Intent, Kind, Target},
};

/// A policy that no resource speaks of, on something that one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclaimed {
    /// The hypertable or the aggregate.
    pub relation: Relation,
    /// The kind of the policy.
    pub kind: PolicyKind,
    /// `job_id`
    pub job_id: i32,
}

/// The compression and retention policies on hypertables and aggregates that a resource speaks of, where no resource speaks
/// of the policy: left behind by one that was taken away, or somebody else's. While a policy resource cannot be read, any
/// policy of its kind may be the one it means.
pub fn unclaimed(desired: &Desired, catalog: &Catalog) -> Vec<Unclaimed> {
    let targets = || {
        desired.claims.iter().filter_map(|claim| match &claim.intent {
            Intent::Ensure(target) => Some(target),
            Intent::Release(_) => None,
        })
    };
    let claimed: BTreeSet<_> = targets().filter_map(Target::job).collect();
    let unread: BTreeSet<_> = desired.rejected.keys().map(|claim| claim.resource.kind).collect();
    let mut found = Vec::new();
    for target in targets() {
        let relation = match target {
            Target::Hypertable(target) => &target.relation,
            Target::Aggregate(target) => &target.relation,
            Target::Compression(_) | Target::Retention(_) => continue,
        };
        let Some(host) = catalog.host(relation) else { continue };
        for (kind, resource) in
            [(PolicyKind::Compression, Kind::CompressionPolicy), (PolicyKind::Retention, Kind::RetentionPolicy)]
        {
            let job = catalog.job(kind, host.id).filter(|_| !unread.contains(&resource));
            let job = job.filter(|_| !claimed.contains(&(kind, relation)));
            found.extend(job.map(|job| Unclaimed { relation: relation.clone(), kind, job_id: job.id }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        api::TimescaleDatabase,
        desired::{Attached, PolicyTarget, collect},
    };

    #[test]
    fn a_policy_is_named_until_a_resource_speaks_of_it() {
        let resource = |kind: &str, spec: serde_json::Value| json!({"apiVersion": "timescaledb-policy.io/v1alpha1", "kind": kind, "metadata": {"name": "t", "namespace": "n"}, "spec": spec});
        let database: TimescaleDatabase =
            serde_json::from_value(resource("TimescaleDatabase", json!({"connection": {"secretRef": {"name": "d"}}})))
                .unwrap();
        let spec = json!({"databaseRef": {"name": "t"}, "schema": "public", "table": "t", "timeColumn": "ts"});
        let hypertable: Arc<crate::api::Hypertable> =
            Arc::new(serde_json::from_value(resource("Hypertable", spec)).unwrap());
        let retention = |after: &str| {
            let spec = json!({"targetRef": {"kind": "Hypertable", "name": "t"}, "dropAfter": after});
            let policy = Arc::new(serde_json::from_value(resource("RetentionPolicy", spec)).unwrap());
            vec![(policy, vec![PolicyTarget::Hypertable(hypertable.clone())])]
        };
        let job = json!({
            "id": 1000, "hypertable_id": 1, "policy": {"retention": {"after": {"older_than": "90 days"}}},
            "schedule_interval": "1 day", "max_runtime": "5 minutes", "max_retries": -1, "retry_period": "1 day", "scheduled": true,
        });
        let catalog: Catalog = serde_json::from_value(json!({
            "server": {"version_num": 170_005, "extension": null},
            "hypertables": {"public.t": {"id": 1}},
            "jobs": [job],
        }))
        .unwrap();
        let found = |retention| {
            let attached = Attached { hypertables: vec![hypertable.clone()], retention, ..Attached::default() };
            unclaimed(&collect(&database, &attached), &catalog).iter().map(|policy| policy.job_id).collect::<Vec<_>>()
        };
        assert_eq!(found(Vec::new()), [1000]);
        assert_eq!(found(retention("90 days")), [0; 0]);
        assert_eq!(found(retention("90 dayz")), [0; 0], "it may be the one that is meant");
    }
}
