//! The watches that fill the stores, and streams of what changed.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, watcher},
    },
};

use super::{
    report::Stored,
    scope::{self, Scope},
};
use crate::{api::APPROVE_ANNOTATION, error::chain};

/// Resources that are listed at a time: a page is in memory whole, with all that is not kept of it.
const PAGE: u32 = 100;
/// Where `kubectl apply` leaves the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Pause between two reads of the namespaces, where they are not watched.
const NAMESPACES_PAUSE: Duration = Duration::from_mins(1);

/// A store of all objects of a kind, and the stream of those that changed in a way that matters: a new generation, an
/// approval, labels, a deletion, a finalizer. Our own status writes are not among them.
pub fn watch<K>(
    client: &Client,
    scope: &Scope,
) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Stored,
{
    let (reader, writer) = reflector::store();
    let watches = scope.apis(client).into_iter().map(events).collect();
    let changes = changes(scope::merge(watches, reader.clone()), writer);
    (reader, changes)
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

fn events<K: Stored>(api: Api<DeserializeGuard<K>>) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send {
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
                let before = seen.insert(name_of(&object), marks);
                (before != Some(marks)).then_some(Ok(object))
            }
            Ok(watcher::Event::Delete(object)) => {
                seen.remove(&name_of(&object));
                Some(Ok(object))
            }
            Ok(watcher::Event::Init) => {
                (listed, before) = (HashMap::new(), reader.state());
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(name_of(&object), marks(&object));
                None
            }
            Ok(watcher::Event::InitDone) => {
                let known = std::mem::replace(&mut seen, std::mem::take(&mut listed));
                let is_gone = |object: &Arc<K>| !seen.contains_key(&name_of(&**object));
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
fn readable<K: Stored>(event: watcher::Event<DeserializeGuard<K>>) -> Option<watcher::Event<K>> {
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

/// Without the uid and the version that kube adds: there are as many as there are resources.
fn name_of<K: Resource<DynamicType = ()>>(object: &K) -> ObjectRef<K> {
    let name = ObjectRef::new(&object.name_any());
    match &object.meta().namespace {
        Some(namespace) => name.within(namespace),
        None => name,
    }
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
    use kube::api::ObjectMeta;
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
