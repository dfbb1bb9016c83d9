//! What the watches see: one reflector store per kind, and where its resources lead.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource, ResourceExt,
    api::ObjectMeta,
    core::PartialObjectMeta,
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    fleet::{Fleet, Objects, PolicyKey},
    scope::Scope,
};
use crate::{
    api::{
        CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy, TimescaleDatabase,
        status::TargetStatus,
        timescale_database::From,
        types::{DatabaseRef, TargetKind, TargetSelector},
    },
    desired::{Attached, Kind, PolicyTarget, ResourceId, TargetId, Targeting},
    monitoring::DatabaseKey,
    resources,
    status::Reported,
};

/// Every resource in the cluster, as last seen.
#[derive(Clone)]
pub struct Stores {
    /// `TimescaleDatabase`s
    pub databases: Store<TimescaleDatabase>,
    /// `Hypertable`s
    pub hypertables: Store<Hypertable>,
    /// `ContinuousAggregate`s
    pub aggregates: Store<ContinuousAggregate>,
    /// `CompressionPolicy`s
    pub compression: Store<CompressionPolicy>,
    /// `RetentionPolicy`s
    pub retention: Store<RetentionPolicy>,
    /// Namespaces, of which only the metadata is watched.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// What is known of the policies that select their targets.
    pub fleet: Arc<Fleet>,
    /// Which databases are looked after.
    pub scope: Arc<Scope>,
}

/// A kind that has a store.
pub trait InStore: Resource<DynamicType = ()> + Clone + 'static {
    /// Its store.
    fn store(stores: &Stores) -> &Store<Self>;
}

macro_rules! in_store {
    ($($resource:ident => $store:ident),+) => {
        $(impl InStore for $resource {
            fn store(stores: &Stores) -> &Store<Self> {
                &stores.$store
            }
        })+
    };
}

in_store!(
    TimescaleDatabase => databases, Hypertable => hypertables, ContinuousAggregate => aggregates,
    CompressionPolicy => compression, RetentionPolicy => retention
);

/// How long the namespaces are waited for.
const NAMESPACES_WAIT: Duration = Duration::from_secs(10);

/// A policy, as far as finding its databases goes.
pub trait Policy: Reported + Targeting {
    /// The targets that it was resolved to last.
    fn recorded(&self) -> Vec<(TargetId, &TargetStatus)>;
}

macro_rules! policy {
    ($resource:ident) => {
        impl Policy for $resource {
            fn recorded(&self) -> Vec<(TargetId, &TargetStatus)> {
                let Some(status) = &self.status else { return Vec::new() };
                let named = self.spec.target_ref.as_ref().zip(status.target.as_ref()).map(|(reference, object)| {
                    (TargetId { kind: reference.kind, name: reference.name.clone() }, object)
                });
                let selected = status
                    .targets
                    .iter()
                    .map(|target| (TargetId { kind: target.kind, name: target.name.clone() }, &target.object));
                named.into_iter().chain(selected).collect()
            }
        }
    };
}

policy!(CompressionPolicy);
policy!(RetentionPolicy);

/// The key under which policies are looked after that lead to no database: no object can have this name, so the
/// controller reports it as not found, which is when [`super::detached::look_after`] runs.
pub const NO_DATABASE: &str = "";

/// The database of this name and namespace.
pub fn database_ref(name: &str, namespace: &str) -> ObjectRef<TimescaleDatabase> {
    ObjectRef::new(name).within(namespace)
}

impl Stores {
    /// All stores have been filled once. Deciding on a part of them would take absent resources for deleted ones.
    /// Namespaces are waited for only so long: without the permission to watch them everything else goes on.
    pub async fn ready(&self) {
        // An error means that the writers are gone, that is that the operator is shutting down.
        let _ = futures::join!(
            self.databases.wait_until_ready(),
            self.hypertables.wait_until_ready(),
            self.aggregates.wait_until_ready(),
            self.compression.wait_until_ready(),
            self.retention.wait_until_ready(),
        );
        let _ = tokio::time::timeout(NAMESPACES_WAIT, self.namespaces.wait_until_ready()).await;
    }

    /// Where a policy's `targetRef` or `targetSelector` leads. A policy that is being deleted after its target was is led
    /// by its status.
    pub fn resolve<P: Policy>(&self, policy: &P) -> Vec<PolicyTarget> {
        let namespace = policy.namespace().unwrap_or_default();
        let mut targets = match (policy.target_ref(), policy.target_selector()) {
            (Some(reference), _) => {
                let id = TargetId { kind: reference.kind, name: reference.name.clone() };
                self.target(&id, &namespace).into_iter().collect()
            }
            (None, Some(selector)) => self.selected(selector, &namespace),
            (None, None) => Vec::new(),
        };
        if policy.meta().deletion_timestamp.is_some() {
            let resolved: BTreeSet<_> = targets.iter().map(PolicyTarget::id).collect();
            let gone = self.gone(policy).filter(|(id, _)| !resolved.contains(id));
            targets.extend(gone.map(|(id, object)| PolicyTarget::Recorded(id, object)));
        }
        targets
    }

    /// The targets of before whose resources are gone, or are being deleted.
    fn gone<P: Policy>(&self, policy: &P) -> impl Iterator<Item = (TargetId, TargetStatus)> {
        let namespace = policy.namespace().unwrap_or_default();
        let mut recorded: Objects = policy.recorded().into_iter().map(|(id, object)| (id, object.clone())).collect();
        // A status lists only so many.
        if let Some((before, gone)) = self.fleet.targets(&key_of(policy)) {
            recorded.extend(before.into_iter().chain(gone));
        }
        recorded.into_iter().filter(move |(id, _)| !self.is_there(id, &namespace))
    }

    /// Policies that hold our finalizer for an object in this database whose resource is gone. Not attached to the database
    /// any more, they are again once they are deleted, for what that undoes.
    pub fn bereft(&self, (namespace, name): &DatabaseKey) -> BTreeSet<ResourceId> {
        fn of<P: Policy>(stores: &Stores, store: &Store<P>, namespace: &str, name: &str) -> Vec<ResourceId> {
            let holding = store.state_filter(|policy| policy.finalizers().iter().any(|f| f == FINALIZER));
            let held_here = holding.into_iter().filter_map(|policy| {
                let own = policy.namespace().unwrap_or_default();
                let mut databases =
                    stores.gone(&*policy).map(|(_, object)| resources::recorded_database(&object, &own));
                let is_here = databases.any(|database| database.0 == namespace && database.1 == name);
                is_here.then(|| ResourceId::seen_from(namespace, P::KIND, &own, &policy.name_any()))
            });
            held_here.collect()
        }
        let compression = of(self, &self.compression, namespace, name);
        compression.into_iter().chain(of(self, &self.retention, namespace, name)).collect()
    }

    /// The resource that a policy in this namespace means exists, and is not being deleted.
    pub fn is_there(&self, id: &TargetId, namespace: &str) -> bool {
        let stays = |meta: &ObjectMeta| meta.deletion_timestamp.is_none();
        match self.target(id, namespace) {
            Some(PolicyTarget::Hypertable(hypertable)) => stays(&hypertable.metadata),
            Some(PolicyTarget::Aggregate(aggregate)) => stays(&aggregate.metadata),
            Some(PolicyTarget::Recorded(..)) | None => false,
        }
    }

    /// The resource of this name and namespace that a policy may be for.
    pub fn target(&self, id: &TargetId, namespace: &str) -> Option<PolicyTarget> {
        match id.kind {
            TargetKind::Hypertable => {
                self.hypertables.get(&ObjectRef::new(&id.name).within(namespace)).map(PolicyTarget::Hypertable)
            }
            TargetKind::ContinuousAggregate => {
                self.aggregates.get(&ObjectRef::new(&id.name).within(namespace)).map(PolicyTarget::Aggregate)
            }
        }
    }

    fn selected(&self, selector: &TargetSelector, namespace: &str) -> Vec<PolicyTarget> {
        fn of<K: Resource<DynamicType = ()> + Clone + 'static>(
            store: &Store<K>,
            selector: &TargetSelector,
            namespace: &str,
        ) -> Vec<Arc<K>> {
            let selects = |k: &K| {
                k.meta().namespace.as_deref() == Some(namespace)
                    && k.meta().deletion_timestamp.is_none()
                    && selector.selects(k.labels())
            };
            store.state_filter(selects)
        }
        match selector.kind {
            TargetKind::Hypertable => {
                of(&self.hypertables, selector, namespace).into_iter().map(PolicyTarget::Hypertable).collect()
            }
            TargetKind::ContinuousAggregate => {
                of(&self.aggregates, selector, namespace).into_iter().map(PolicyTarget::Aggregate).collect()
            }
        }
    }

    /// The databases that a policy belongs to and this instance looks after, or the key of those that belong to none.
    pub fn databases_of<P: Policy>(&self, policy: &P) -> BTreeSet<DatabaseKey> {
        let namespace = policy.namespace().unwrap_or_default();
        let mut databases: BTreeSet<_> =
            self.resolve(policy).iter().map(|target| resources::target_database(target, &namespace)).collect();
        if databases.is_empty() {
            databases.insert((namespace, NO_DATABASE.to_owned()));
        }
        databases.retain(|(namespace, name)| {
            self.databases.get(&database_ref(name, namespace)).is_none_or(|database| self.scope.includes(&database))
        });
        databases
    }

    /// The databases to look at when a policy changed: those that it belongs to now, and did before.
    pub fn databases_touched_by<P: Policy>(&self, policy: &P) -> Vec<ObjectRef<TimescaleDatabase>> {
        let namespace = policy.namespace().unwrap_or_default();
        let mut databases = self.databases_of(policy);
        databases
            .extend(policy.recorded().into_iter().map(|(_, object)| resources::recorded_database(object, &namespace)));
        databases.into_iter().map(|(namespace, name)| database_ref(&name, &namespace)).collect()
    }

    /// The databases to look at when a resource changed that policies may be for: its own, with it the policies that may
    /// have lost or found their target, and those that a policy has other targets in which does not select it any more.
    pub fn databases_touched_by_target<K: Resource<DynamicType = ()>>(
        &self,
        kind: TargetKind,
        reference: &DatabaseRef,
        resource: &K,
    ) -> Vec<ObjectRef<TimescaleDatabase>> {
        let (namespace, name) = resources::database_of(reference, resource);
        let own = resource.meta().namespace.clone().unwrap_or_default();
        let mut databases = vec![database_ref(&name, &namespace), database_ref(NO_DATABASE, &own)];
        let id = TargetId { kind, name: resource.name_any() };
        for ((policy_kind, namespace, policy), others) in self.fleet.holders(&own, &id) {
            let selects = |selector: Option<TargetSelector>| {
                self.is_there(&id, &own) && selector.is_some_and(|s| s.kind == kind && s.selects(resource.labels()))
            };
            let selected = match policy_kind {
                Kind::CompressionPolicy => {
                    let found = self.compression.get(&ObjectRef::new(&policy).within(&namespace));
                    selects(found.and_then(|policy| policy.spec.target_selector.clone()))
                }
                Kind::RetentionPolicy => {
                    let found = self.retention.get(&ObjectRef::new(&policy).within(&namespace));
                    selects(found.and_then(|policy| policy.spec.target_selector.clone()))
                }
                // They select nothing.
                Kind::Hypertable | Kind::ContinuousAggregate => true,
            };
            if !selected {
                databases.extend(others.iter().map(|(namespace, name)| database_ref(name, namespace)));
            }
        }
        databases
    }

    /// Everything that there is to look at: every database, and the keys of what belongs to none.
    pub fn everything(&self) -> HashSet<ObjectRef<TimescaleDatabase>> {
        let mut all: HashSet<_> = self.databases.state().iter().map(|d| ObjectRef::from_obj(&**d)).collect();
        for h in self.hypertables.state() {
            all.extend(self.databases_touched_by_target(TargetKind::Hypertable, &h.spec.database_ref, &*h));
        }
        for a in self.aggregates.state() {
            all.extend(self.databases_touched_by_target(TargetKind::ContinuousAggregate, &a.spec.database_ref, &*a));
        }
        all.extend(self.compression.state().iter().flat_map(|policy| self.databases_touched_by(&**policy)));
        all.extend(self.retention.state().iter().flat_map(|policy| self.databases_touched_by(&**policy)));
        all
    }

    /// The version, as last seen, of the resource of this kind, namespace and name.
    pub fn version(&self, kind: &str, namespace: &str, name: &str) -> Option<String> {
        fn of<K: InStore>(stores: &Stores, namespace: &str, name: &str) -> Option<String> {
            K::store(stores).get(&ObjectRef::new(name).within(namespace))?.resource_version()
        }
        match kind {
            "TimescaleDatabase" => of::<TimescaleDatabase>(self, namespace, name),
            "Hypertable" => of::<Hypertable>(self, namespace, name),
            "ContinuousAggregate" => of::<ContinuousAggregate>(self, namespace, name),
            "CompressionPolicy" => of::<CompressionPolicy>(self, namespace, name),
            "RetentionPolicy" => of::<RetentionPolicy>(self, namespace, name),
            _ => None,
        }
    }

    /// The databases that choose by labels which namespaces they let in.
    pub fn databases_that_select(&self) -> Vec<ObjectRef<TimescaleDatabase>> {
        let select = |d: &TimescaleDatabase| d.spec.allowed_namespaces.from == From::Selector;
        self.databases.state_filter(select).iter().map(|d| ObjectRef::from_obj(&**d)).collect()
    }

    /// The resources attached to the database of this name and namespace.
    pub fn attached(&self, name: &str, namespace: &str) -> Attached {
        let here = (namespace.to_owned(), name.to_owned());
        let hypertables = self.hypertables.state_filter(|h| resources::is_of(&h.spec.database_ref, h, &here));
        let aggregates = self.aggregates.state_filter(|a| resources::is_of(&a.spec.database_ref, a, &here));
        let compression = self.policies(&self.compression, &here);
        let retention = self.policies(&self.retention, &here);
        let others = hypertables.iter().map(own_namespace).chain(aggregates.iter().map(own_namespace));
        let others = others
            .chain(compression.iter().map(|(p, _)| own_namespace(p)))
            .chain(retention.iter().map(|(p, _)| own_namespace(p)));
        let others: BTreeSet<_> = others.flatten().filter(|other| *other != namespace).map(str::to_owned).collect();
        let labels = |name: String| {
            let found = self.namespaces.get(&ObjectRef::new(&name))?;
            Some((name, found.labels().clone()))
        };
        let namespaces = others.into_iter().filter_map(labels).collect();
        Attached { hypertables, aggregates, compression, retention, namespaces }
    }

    fn policies<P: Policy>(&self, store: &Store<P>, database: &DatabaseKey) -> Vec<(Arc<P>, Vec<PolicyTarget>)> {
        let attached = store.state().into_iter().filter_map(|policy| {
            let namespace = policy.namespace().unwrap_or_default();
            let mut targets = self.resolve(&*policy);
            targets.retain(|target| resources::is_in(target, &namespace, database));
            (!targets.is_empty()).then_some((policy, targets))
        });
        attached.collect()
    }

    /// The policies of a namespace that lead to no target.
    pub fn untargeted<P: Policy>(&self, store: &Store<P>, namespace: &str) -> Vec<Arc<P>> {
        let here = store.state_filter(|p| p.namespace().as_deref() == Some(namespace));
        here.into_iter().filter(|policy| self.resolve(&**policy).is_empty()).collect()
    }
}

fn own_namespace<K: Resource>(resource: &Arc<K>) -> Option<&str> {
    resource.meta().namespace.as_deref()
}

fn key_of<P: Policy>(policy: &P) -> PolicyKey {
    (P::KIND, policy.namespace().unwrap_or_default(), policy.name_any())
}
