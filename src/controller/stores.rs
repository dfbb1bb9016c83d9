//! What the watches see: one reflector store per kind, and streams of what changed.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, watcher},
    },
};
use std::sync::Arc;

use crate::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy, TimescaleDatabase,
        status::TargetStatus, types::TargetRef,
    },
    desired::{Attached, PolicyTarget},
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
}

/// A policy, as far as finding its database goes.
pub trait Policy: Reported {
    /// What it is for.
    fn target_ref(&self) -> &TargetRef;
    /// What that was resolved to last.
    fn recorded(&self) -> Option<&TargetStatus>;
}

impl Policy for CompressionPolicy {
    fn target_ref(&self) -> &TargetRef {
        &self.spec.target_ref
    }

    fn recorded(&self) -> Option<&TargetStatus> {
        self.status.as_ref().and_then(|s| s.target.as_ref())
    }
}

impl Policy for RetentionPolicy {
    fn target_ref(&self) -> &TargetRef {
        &self.spec.target_ref
    }

    fn recorded(&self) -> Option<&TargetStatus> {
        self.status.as_ref().and_then(|s| s.target.as_ref())
    }
}

/// The key under which policies are looked after that lead to no database: no object can have this name, so the
/// controller reports it as not found, which is when [`super::detached::look_after`] runs.
pub const NO_DATABASE: &str = "";

/// The database of this name and namespace.
pub fn database_ref(name: &str, namespace: &str) -> ObjectRef<TimescaleDatabase> {
    ObjectRef::new(name).within(namespace)
}

impl Stores {
    /// All stores have been filled once. Deciding on a part of them would take absent resources for deleted ones.
    pub async fn ready(&self) {
        // An error means that the writers are gone, that is that the operator is shutting down.
        let _ = futures::join!(
            self.databases.wait_until_ready(),
            self.hypertables.wait_until_ready(),
            self.aggregates.wait_until_ready(),
            self.compression.wait_until_ready(),
            self.retention.wait_until_ready(),
        );
    }

    /// Where a policy's `targetRef` leads. A policy that is being deleted after its target was is led by its status.
    pub fn resolve<P: Policy>(&self, policy: &P) -> Option<PolicyTarget> {
        let namespace = policy.namespace().unwrap_or_default();
        let target = ObjectRef::<Hypertable>::new(&policy.target_ref().name).within(&namespace);
        if let Some(hypertable) = self.hypertables.get(&target) {
            return Some(PolicyTarget::Resource(hypertable));
        }
        let deleting = policy.meta().deletion_timestamp.is_some();
        policy.recorded().filter(|_| deleting).map(|recorded| PolicyTarget::Recorded(recorded.clone()))
    }

    /// The database that a policy belongs to, or the key of those that belong to none.
    pub fn database_of<P: Policy>(&self, policy: &P) -> ObjectRef<TimescaleDatabase> {
        let namespace = policy.namespace().unwrap_or_default();
        match self.resolve(policy) {
            Some(target) => database_ref(database_name(&target), &namespace),
            None => database_ref(NO_DATABASE, &namespace),
        }
    }

    /// The resources attached to the database of this name and namespace.
    pub fn attached(&self, name: &str, namespace: &str) -> Attached {
        let here = |ns: Option<String>| ns.as_deref() == Some(namespace);
        Attached {
            hypertables: self.hypertables.state_filter(|h| here(h.namespace()) && h.spec.database_ref.name == name),
            aggregates: self.aggregates.state_filter(|a| here(a.namespace()) && a.spec.database_ref.name == name),
            compression: self.policies(&self.compression, name, namespace),
            retention: self.policies(&self.retention, name, namespace),
        }
    }

    fn policies<P: Policy>(&self, store: &Store<P>, database: &str, namespace: &str) -> Vec<(Arc<P>, PolicyTarget)> {
        let here = store.state_filter(|p| p.namespace().as_deref() == Some(namespace));
        let attached = here.into_iter().filter_map(|policy| {
            let target = self.resolve(&*policy)?;
            (database_name(&target) == database).then_some((policy, target))
        });
        attached.collect()
    }

    /// The policies of a namespace whose target does not exist.
    pub fn untargeted<P: Policy>(&self, store: &Store<P>, namespace: &str) -> Vec<Arc<P>> {
        let here = store.state_filter(|p| p.namespace().as_deref() == Some(namespace));
        here.into_iter().filter(|policy| self.resolve(&**policy).is_none()).collect()
    }
}

fn database_name(target: &PolicyTarget) -> &str {
    match target {
        PolicyTarget::Resource(hypertable) => &hypertable.spec.database_ref.name,
        PolicyTarget::Recorded(recorded) => &recorded.database,
    }
}

/// The databases to look at when a hypertable changed: its own, and with it the policies that may have lost or found
/// their target.
pub fn databases_of_hypertable(hypertable: &Hypertable) -> [ObjectRef<TimescaleDatabase>; 2] {
    let namespace = hypertable.namespace().unwrap_or_default();
    [database_ref(&hypertable.spec.database_ref.name, &namespace), database_ref(NO_DATABASE, &namespace)]
}

/// A store of all objects of a kind, and the stream of those that changed in a way that matters: a new generation, an
/// approval, a deletion, a finalizer. Our own status writes are not among them.
pub fn watch<K>(client: &Client) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Reflected,
{
    let (reader, writer) = reflector::store();
    (reader, changes(Api::all(client.clone()), writer))
}

/// What [`watch`] needs of a kind.
pub trait Reflected:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Reflected for K where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static
{
}

fn changes<K: Reflected>(
    api: Api<DeserializeGuard<K>>,
    writer: Writer<K>,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static {
    let mut seen: HashMap<ObjectRef<K>, u64> = HashMap::new();
    watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(|event| futures::future::ready(event.map(readable).transpose()))
        .reflect(writer)
        .filter_map(move |event| {
            let changed = match event {
                Err(error) => Some(Err(error)),
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    let marks = marks(&object);
                    let before = seen.insert(ObjectRef::from_obj(&object), marks);
                    (before != Some(marks)).then_some(Ok(object))
                }
                Ok(watcher::Event::Delete(object)) => {
                    seen.remove(&ObjectRef::from_obj(&object));
                    Some(Ok(object))
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            };
            futures::future::ready(changed)
        })
}

/// Leaves out an object that this version cannot read, so that it does not stop all others of its kind; what was known
/// of it before stays.
fn readable<K: Reflected>(event: watcher::Event<DeserializeGuard<K>>) -> Option<watcher::Event<K>> {
    let read = |DeserializeGuard(object): DeserializeGuard<K>| match object {
        Ok(mut object) => {
            // Nothing reads them, and they are half of what an object takes in memory.
            object.managed_fields_mut().clear();
            Some(object)
        }
        Err(invalid) => {
            tracing::error!(
                kind = %K::kind(&()),
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = invalid.error,
                "this version cannot read the resource; it is left alone (is the operator older than the CRDs?)"
            );
            None
        }
    };
    Some(match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(read(object)?),
        watcher::Event::Apply(object) => watcher::Event::Apply(read(object)?),
        watcher::Event::Delete(object) => watcher::Event::Delete(read(object)?),
    })
}

fn marks<K: Resource>(object: &K) -> u64 {
    let mut hasher = DefaultHasher::new();
    let meta = object.meta();
    (&meta.uid, meta.generation, meta.deletion_timestamp.is_some(), &meta.finalizers).hash(&mut hasher);
    object.annotations().get(APPROVE_ANNOTATION).hash(&mut hasher);
    hasher.finish()
}
