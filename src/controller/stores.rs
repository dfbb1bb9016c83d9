//! What the watches see: one reflector store per kind, and streams of what changed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ObjectMeta,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, watcher},
    },
};

use super::{
    fleet::{Fleet, Objects, PolicyKey},
    scope::{self, Scope},
};
use crate::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy,
        TimescaleDatabase,
        status::TargetStatus,
        timescale_database::From,
        types::{DatabaseRef, TargetKind, TargetSelector},
    },
    desired::{Attached, Kind, PolicyTarget, ResourceId, TargetId, Targeting},
    error::chain,
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

/// Resources that are listed at a time: a page is in memory whole, with all that is not kept of it.
const PAGE: u32 = 100;
/// Where `kubectl apply` leaves the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How long the namespaces are waited for.
const NAMESPACES_WAIT: Duration = Duration::from_secs(10);
/// Pause between two reads of the namespaces, where they are not watched.
const NAMESPACES_PAUSE: Duration = Duration::from_mins(1);

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
                let mut databases = stores.gone(&*policy).map(|(_, object)| recorded_database(&object, &own));
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
            self.resolve(policy).iter().map(|target| database_of(target, &namespace)).collect();
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
        databases.extend(policy.recorded().into_iter().map(|(_, object)| recorded_database(object, &namespace)));
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
        fn of<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<String>
        where
            K: Resource<DynamicType = ()> + Clone + 'static,
        {
            store.get(&ObjectRef::new(name).within(namespace))?.resource_version()
        }
        match kind {
            "TimescaleDatabase" => of(&self.databases, namespace, name),
            "Hypertable" => of(&self.hypertables, namespace, name),
            "ContinuousAggregate" => of(&self.aggregates, namespace, name),
            "CompressionPolicy" => of(&self.compression, namespace, name),
            "RetentionPolicy" => of(&self.retention, namespace, name),
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
        let others = hypertables.iter().map(|h| h.namespace()).chain(aggregates.iter().map(|a| a.namespace()));
        let others = others.chain(compression.iter().map(|(p, _)| p.namespace()));
        let others = others.chain(retention.iter().map(|(p, _)| p.namespace()));
        let others: BTreeSet<_> = others.flatten().filter(|other| other != namespace).collect();
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
            targets.retain(|target| is_in(target, &namespace, database));
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

fn key_of<P: Policy>(policy: &P) -> PolicyKey {
    (P::KIND, policy.namespace().unwrap_or_default(), policy.name_any())
}

fn database_of(target: &PolicyTarget, namespace: &str) -> DatabaseKey {
    match target {
        PolicyTarget::Hypertable(hypertable) => resources::database_of(&hypertable.spec.database_ref, &**hypertable),
        PolicyTarget::Aggregate(aggregate) => resources::database_of(&aggregate.spec.database_ref, &**aggregate),
        PolicyTarget::Recorded(_, object) => recorded_database(object, namespace),
    }
}

fn is_in(target: &PolicyTarget, namespace: &str, database: &DatabaseKey) -> bool {
    match target {
        PolicyTarget::Hypertable(hypertable) => {
            resources::is_of(&hypertable.spec.database_ref, &**hypertable, database)
        }
        PolicyTarget::Aggregate(aggregate) => resources::is_of(&aggregate.spec.database_ref, &**aggregate, database),
        PolicyTarget::Recorded(_, object) => recorded_database(object, namespace) == *database,
    }
}

fn recorded_database(object: &TargetStatus, namespace: &str) -> DatabaseKey {
    (object.database_namespace.clone().unwrap_or_else(|| namespace.to_owned()), object.database.clone())
}

/// A store of all objects of a kind, and the stream of those that changed in a way that matters: a new generation, an
/// approval, labels, a deletion, a finalizer. Our own status writes are not among them.
pub fn watch<K>(
    client: &Client,
    scope: &Scope,
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Reflected,
{
    let (reader, writer) = reflector::store();
    let watches = scope.apis(client).into_iter().map(events).collect();
    let changes = changes(scope::merge(watches, reader.clone()), writer);
    (reader, changes)
}

/// What [`watch`] needs of a kind.
pub trait Reflected:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Reflected for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// A store of the namespaces' metadata, and the stream of those whose labels changed. Where only some are looked after,
/// they are read one by one, from time to time: to watch them would need the permission to see all.
pub fn watch_namespaces(
    client: &Client,
    scope: &Scope,
) -> (
    Store<PartialObjectMeta<Namespace>>,
    impl Stream<Item = Result<PartialObjectMeta<Namespace>, watcher::Error>> + Send + 'static,
) {
    let (reader, writer) = reflector::store();
    let watched = if scope.namespaces.is_empty() {
        watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .boxed()
    } else {
        read_from_time_to_time(client.clone(), scope.namespaces.clone()).boxed()
    };
    let watched = watched.modify(|namespace| namespace.managed_fields_mut().clear());
    let stream = changes(watched, writer);
    (reader, stream)
}

fn read_from_time_to_time(
    client: Client,
    names: Vec<String>,
) -> impl Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<Namespace>>>> {
    let rounds = stream::unfold(false, move |again| {
        let (client, names) = (client.clone(), names.clone());
        async move {
            if again {
                tokio::time::sleep(NAMESPACES_PAUSE).await;
            }
            let api = Api::<Namespace>::all(client);
            let mut found = Vec::new();
            for name in &names {
                match api.get_metadata_opt(name).await {
                    Ok(namespace) => found.extend(namespace),
                    Err(error) => {
                        let error = chain(&error);
                        tracing::debug!(name, error, "the namespace cannot be read; nothing of its labels is known");
                    }
                }
            }
            let events: Vec<_> = if again {
                found.into_iter().map(watcher::Event::Apply).collect()
            } else {
                let found = found.into_iter().map(watcher::Event::InitApply);
                [watcher::Event::Init].into_iter().chain(found).chain([watcher::Event::InitDone]).collect()
            };
            Some((stream::iter(events.into_iter().map(Ok)), true))
        }
    });
    rounds.flatten()
}

fn events<K: Reflected>(
    api: Api<DeserializeGuard<K>>,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send {
    watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .filter_map(|event| futures::future::ready(event.map(readable).transpose()))
}

/// What is told of is in the store: a list is in use there when it is whole, however many pages it has.
fn changes<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    writer: Writer<K>,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let reader = writer.as_reader();
    let mut seen: HashMap<ObjectRef<K>, u64> = HashMap::new();
    let (mut listed, mut before) = (HashMap::new(), Vec::new());
    events.reflect(writer).flat_map(move |event| {
        let changed = match event {
            Err(error) => Some(Err(error)),
            Ok(watcher::Event::Apply(object)) => {
                let marks = marks(&object);
                let before = seen.insert(ObjectRef::from_obj(&object), marks);
                (before != Some(marks)).then_some(Ok(object))
            }
            Ok(watcher::Event::Delete(object)) => {
                seen.remove(&ObjectRef::from_obj(&object));
                Some(Ok(object))
            }
            Ok(watcher::Event::Init) => {
                (listed, before) = (HashMap::new(), reader.state());
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(ObjectRef::from_obj(&object), marks(&object));
                None
            }
            Ok(watcher::Event::InitDone) => {
                let known = std::mem::replace(&mut seen, std::mem::take(&mut listed));
                let is_gone = |object: &Arc<K>| !seen.contains_key(&ObjectRef::from_obj(&**object));
                let gone: Vec<_> = std::mem::take(&mut before).into_iter().filter(is_gone).collect();
                let is_news = |(name, marks): &(&ObjectRef<K>, &u64)| known.get(*name) != Some(marks);
                let news: Vec<_> = seen.iter().filter(is_news).map(|(name, _)| name.clone()).collect();
                let reader = reader.clone();
                let news = news.into_iter().filter_map(move |name| reader.get(&name));
                return stream::iter(gone.into_iter().chain(news).map(|object| Ok((*object).clone()))).boxed();
            }
        };
        stream::iter(changed).boxed()
    })
}

/// Leaves out an object that this version cannot read, so that it does not stop all others of its kind; what was known
/// of it before stays.
fn readable<K: Reflected>(event: watcher::Event<DeserializeGuard<K>>) -> Option<watcher::Event<K>> {
    let read = |DeserializeGuard(object): DeserializeGuard<K>| match object {
        Ok(mut object) => {
            // Nothing reads them, and they are more than half of what an object takes in memory.
            object.managed_fields_mut().clear();
            object.annotations_mut().remove(LAST_APPLIED);
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
    object.labels().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, channel::mpsc};
    use k8s_openapi::api::core::v1::ConfigMap;
    use watcher::Event;

    use super::*;

    fn object(name: &str, generation: i64) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some("factory".to_owned()),
            name: Some(name.to_owned()),
            generation: Some(generation),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    /// What is told of after each of these events, each with the generation that the store has of it then.
    fn told(events: Vec<watcher::Result<Event<ConfigMap>>>) -> Vec<Vec<(String, Option<i64>)>> {
        let (reader, writer) = reflector::store::<ConfigMap>();
        let (send, receive) = mpsc::unbounded();
        let mut changes = changes(receive, writer).boxed();
        let after = |event| {
            send.unbounded_send(event).unwrap();
            let mut told = Vec::new();
            while let Some(Some(change)) = changes.next().now_or_never() {
                let Ok(object) = change else { continue };
                let stored = reader.get(&ObjectRef::from_obj(&object));
                told.push((object.name_any(), stored.and_then(|stored| stored.metadata.generation)));
            }
            told.sort();
            told
        };
        events.into_iter().map(after).collect()
    }

    #[test]
    fn what_a_list_brings_is_told_of_when_the_store_has_it() {
        let list = |generation| [Ok(Event::Init), Ok(Event::InitApply(object("a", generation))), Ok(Event::InitDone)];
        let events = list(1).into_iter().chain(list(2)).chain(list(2));
        let a = |generation| vec![("a".to_owned(), Some(generation))];
        assert_eq!(told(events.collect()), [vec![], vec![], a(1), vec![], vec![], a(2), vec![], vec![], vec![]]);
    }

    #[test]
    fn what_is_missing_in_a_list_is_told_of_too() {
        let first = [Ok(Event::Init), Ok(Event::InitApply(object("a", 1))), Ok(Event::InitApply(object("b", 1)))];
        let second = [Ok(Event::InitDone), Ok(Event::Init), Ok(Event::InitApply(object("a", 1))), Ok(Event::InitDone)];
        let told = told(first.into_iter().chain(second).collect());
        assert_eq!(told.last(), Some(&vec![("b".to_owned(), None)]));
    }

    #[test]
    fn a_list_that_broke_off_loses_nothing() {
        let events = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(object("a", 1))),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Init),
            Ok(Event::InitApply(object("a", 1))),
            Ok(Event::InitDone),
        ];
        assert_eq!(told(events).concat(), [("a".to_owned(), Some(1))]);
    }

    #[test]
    fn our_own_writes_are_no_changes() {
        let written = object("a", 1);
        let events =
            vec![Ok(Event::Apply(object("a", 1))), Ok(Event::Apply(written)), Ok(Event::Apply(object("a", 2)))];
        assert_eq!(told(events).iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1]);
    }
}
