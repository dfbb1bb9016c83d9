//! Custom resources as plain lists, from files or from a cluster, and which of them belong to which database. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Resource, ResourceExt};

use crate::{
    api::{
        CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
        status::TargetStatus,
        types::{DatabaseRef, TargetKind},
    },
    desired::{Attached, PolicyTarget, Targeting},
    monitoring::DatabaseKey,
};

/// Resources of every kind; each has a namespace.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// `TimescaleDatabase`s
    pub databases: Vec<Arc<TimescaleDatabase>>,
    /// `Hypertable`s
    pub hypertables: Vec<Arc<Hypertable>>,
    /// `ContinuousAggregate`s
    pub aggregates: Vec<Arc<ContinuousAggregate>>,
    /// `CompressionPolicy`s
    pub compression: Vec<Arc<CompressionPolicy>>,
    /// `RetentionPolicy`s
    pub retention: Vec<Arc<RetentionPolicy>>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl Resources {
    /// Takes in others, which go before those of the same kind, namespace and name that are there.
    pub fn overlay(&mut self, others: Self) {
        let Self { databases, hypertables, aggregates, compression, retention, namespaces } = others;
        overlay(&mut self.databases, databases);
        overlay(&mut self.hypertables, hypertables);
        overlay(&mut self.aggregates, aggregates);
        overlay(&mut self.compression, compression);
        overlay(&mut self.retention, retention);
        self.namespaces.extend(namespaces);
    }

    /// The databases that some resource belongs to or that are there themselves.
    pub fn database_keys(&self) -> BTreeSet<DatabaseKey> {
        let own = self.databases.iter().map(|database| key(&**database));
        let of_hypertables = self.hypertables.iter().map(|h| database_of(&h.spec.database_ref, &**h));
        let of_aggregates = self.aggregates.iter().map(|a| database_of(&a.spec.database_ref, &**a));
        own.chain(of_hypertables).chain(of_aggregates).collect()
    }

    /// The `TimescaleDatabase` of this namespace and name.
    pub fn database(&self, (namespace, name): &DatabaseKey) -> Option<&Arc<TimescaleDatabase>> {
        self.databases.iter().find(|d| d.namespace().as_deref() == Some(namespace) && d.name_any() == *name)
    }

    /// The resources attached to a database, with every policy's targets looked up.
    pub fn attached(&self, database: &DatabaseKey) -> Attached {
        let hypertables = self.hypertables.iter().filter(|h| is_of(&h.spec.database_ref, &***h, database));
        let aggregates = self.aggregates.iter().filter(|a| is_of(&a.spec.database_ref, &***a, database));
        Attached {
            hypertables: hypertables.cloned().collect(),
            aggregates: aggregates.cloned().collect(),
            compression: self.policies(&self.compression, database),
            retention: self.policies(&self.retention, database),
            namespaces: self.namespaces.clone(),
        }
    }

    /// The policies that lead to no target among these resources.
    pub fn untargeted<P: Targeting + Resource<DynamicType = ()>>(&self, policies: &[Arc<P>]) -> Vec<Arc<P>> {
        policies.iter().filter(|policy| self.targets(&***policy).is_empty()).cloned().collect()
    }

    fn policies<P: Targeting + Resource<DynamicType = ()>>(
        &self,
        policies: &[Arc<P>],
        database: &DatabaseKey,
    ) -> Vec<(Arc<P>, Vec<PolicyTarget>)> {
        let attached = policies.iter().filter_map(|policy| {
            let namespace = policy.meta().namespace.as_deref().unwrap_or_default();
            let mut targets = self.targets(&**policy);
            targets.retain(|target| is_in(target, namespace, database));
            (!targets.is_empty()).then(|| (policy.clone(), targets))
        });
        attached.collect()
    }

    /// Where a policy's `targetRef` or `targetSelector` leads, in its own namespace.
    fn targets<P: Targeting + Resource<DynamicType = ()>>(&self, policy: &P) -> Vec<PolicyTarget> {
        let namespace = policy.meta().namespace.as_deref();
        let is_meant = |kind: TargetKind, meta: &kube::api::ObjectMeta| {
            let labels = meta.labels.as_ref();
            let none = BTreeMap::new();
            meta.namespace.as_deref() == namespace
                && match (policy.target_ref(), policy.target_selector()) {
                    (Some(reference), _) => reference.kind == kind && meta.name.as_deref() == Some(&reference.name),
                    (None, Some(selector)) => selector.kind == kind && selector.selects(labels.unwrap_or(&none)),
                    (None, None) => false,
                }
        };
        let hypertables = self.hypertables.iter().filter(|h| is_meant(TargetKind::Hypertable, &h.metadata));
        let aggregates = self.aggregates.iter().filter(|a| is_meant(TargetKind::ContinuousAggregate, &a.metadata));
        let hypertables = hypertables.cloned().map(PolicyTarget::Hypertable);
        hypertables.chain(aggregates.cloned().map(PolicyTarget::Aggregate)).collect()
    }
}

fn overlay<K: Resource<DynamicType = ()>>(all: &mut Vec<Arc<K>>, others: Vec<Arc<K>>) {
    let keys: BTreeSet<_> = others.iter().map(|resource| key(&**resource)).collect();
    all.retain(|resource| !keys.contains(&key(&**resource)));
    all.extend(others);
}

fn key<K: Resource<DynamicType = ()>>(resource: &K) -> DatabaseKey {
    (resource.meta().namespace.clone().unwrap_or_default(), resource.name_any())
}

/// The letters of a name in the database that Kubernetes takes (RFC 1123): `metric_hist` becomes `metric-hist`. Empty where it
/// takes none of them.
pub fn conform(text: &str) -> String {
    let mapped: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    mapped.trim_matches('-').to_owned()
}

/// The name of a resource about something of this name, where nobody has named one.
pub fn resource_name(text: &str) -> String {
    let name = conform(text);
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// The database that a resource refers to.
pub fn database_of<K: Resource<DynamicType = ()>>(reference: &DatabaseRef, resource: &K) -> DatabaseKey {
    let own = || resource.meta().namespace.clone().unwrap_or_default();
    (reference.namespace.clone().unwrap_or_else(own), reference.name.clone())
}

/// Whether that is this one.
pub fn is_of<K: Resource<DynamicType = ()>>(
    reference: &DatabaseRef,
    resource: &K,
    (namespace, name): &DatabaseKey,
) -> bool {
    let own = || resource.meta().namespace.as_deref().unwrap_or_default();
    reference.name == *name && reference.namespace.as_deref().unwrap_or_else(own) == namespace
}

/// Whether a target of a policy in this namespace is in this database.
pub fn is_in(target: &PolicyTarget, namespace: &str, database: &DatabaseKey) -> bool {
    match target {
        PolicyTarget::Hypertable(hypertable) => is_of(&hypertable.spec.database_ref, &**hypertable, database),
        PolicyTarget::Aggregate(aggregate) => is_of(&aggregate.spec.database_ref, &**aggregate, database),
        PolicyTarget::Recorded(_, object) => {
            (object.database_namespace.as_deref().unwrap_or(namespace), object.database.as_str())
                == (database.0.as_str(), database.1.as_str())
        }
    }
}

/// The database of a target of a policy in this namespace.
pub fn target_database(target: &PolicyTarget, namespace: &str) -> DatabaseKey {
    match target {
        PolicyTarget::Hypertable(hypertable) => database_of(&hypertable.spec.database_ref, &**hypertable),
        PolicyTarget::Aggregate(aggregate) => database_of(&aggregate.spec.database_ref, &**aggregate),
        PolicyTarget::Recorded(_, object) => recorded_database(object, namespace),
    }
}

/// The database in which a policy in this namespace has recorded a target.
pub fn recorded_database(object: &TargetStatus, namespace: &str) -> DatabaseKey {
    (object.database_namespace.clone().unwrap_or_else(|| namespace.to_owned()), object.database.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_become_names_of_resources() {
        let names = ["metric_hist", "Fault Event", "_x_", "é"].map(resource_name);
        assert_eq!(names, ["metric-hist", "fault-event", "x", "unnamed"]);
    }
}
