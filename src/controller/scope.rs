//! Which part of a cluster this operator looks after: all of it or some namespaces, and which databases there.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
};

use futures::{Stream, StreamExt, future::ready, stream};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{Selector, SelectorExt},
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::{self, Event},
    },
};

use crate::api::TimescaleDatabase;

/// The databases that this operator looks after, and where it looks for resources.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Namespaces that are watched; none: all of them.
    pub namespaces: Vec<String>,
    /// Labels of the `TimescaleDatabase`s that are looked after. Others, and what is attached to them, are left to another
    /// instance.
    pub databases: Selector,
}

impl Scope {
    /// The database is looked after by this instance.
    pub fn includes(&self, database: &TimescaleDatabase) -> bool {
        self.databases.matches(database.labels() as &BTreeMap<_, _>)
    }

    /// One API per namespace that is watched, or one for all.
    pub fn apis<K>(&self, client: &Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        if self.namespaces.is_empty() {
            return vec![Api::all(client.clone())];
        }
        self.namespaces.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect()
    }
}

/// The watches of several namespaces as one that fills one store. The store is full when every namespace has been listed
/// once; a namespace that is listed again later is compared with what was known of it, because a new start of the whole
/// would take the objects of all others for deleted.
pub fn merge<K>(
    watches: Vec<impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static>,
    store: Store<K>,
) -> stream::BoxStream<'static, watcher::Result<Event<K>>>
where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Clone + Default + Eq + Hash + Send + Sync,
{
    if let [_] = watches[..] {
        return stream::select_all(watches.into_iter().map(StreamExt::boxed)).boxed();
    }
    let mut listings: Vec<_> = watches.iter().map(|_| Listing::default()).collect();
    let numbered =
        watches.into_iter().enumerate().map(|(number, watch)| watch.map(move |event| (number, event)).boxed());
    let mut begun = false;
    let mut full = false;
    stream::select_all(numbered)
        .flat_map(move |(number, event)| {
            let event = match event {
                Ok(event) => event,
                Err(error) => return stream::once(ready(Err(error))).boxed(),
            };
            let before: Vec<_> =
                (!std::mem::replace(&mut begun, true)).then_some(Ok(Event::Init)).into_iter().collect();
            let listing = &mut listings[number];
            let mut gone = HashSet::new();
            let own = match event {
                Event::Init => {
                    listing.listed.clear();
                    None
                }
                Event::InitApply(object) => {
                    listing.listed.insert(ObjectRef::from_obj(&object));
                    Some(if full { Event::Apply(object) } else { Event::InitApply(object) })
                }
                Event::InitDone => {
                    gone = listing.finish();
                    None
                }
                Event::Apply(object) => {
                    listing.known.insert(ObjectRef::from_obj(&object));
                    Some(if full { Event::Apply(object) } else { Event::InitApply(object) })
                }
                Event::Delete(object) if full => {
                    listing.known.remove(&ObjectRef::from_obj(&object));
                    Some(Event::Delete(object))
                }
                // It may be in the store that is being filled: it is taken out when that is in use.
                Event::Delete(object) => {
                    listing.known.remove(&ObjectRef::from_obj(&object));
                    listing.late.insert(ObjectRef::from_obj(&object));
                    None
                }
            };
            let mut after = None;
            if !full && listings.iter().all(|listing| listing.complete) {
                full = true;
                after = Some(Ok(Event::InitDone));
            }
            if full {
                for listing in &mut listings {
                    let known = &listing.known;
                    gone.extend(listing.late.drain().filter(|object| !known.contains(object)));
                }
            } else {
                listings[number].late.extend(gone.drain());
            }
            // What is gone is looked up when it is asked for: by then the store has taken in what comes before.
            let store = store.clone();
            let gone =
                gone.into_iter().filter_map(move |object| Some(Ok(Event::Delete((*store.get(&object)?).clone()))));
            stream::iter(before.into_iter().chain(own.map(Ok)).chain(after).chain(gone)).boxed()
        })
        .boxed()
}

/// What is known of one namespace.
struct Listing<K: Resource>
where
    K::DynamicType: Hash + Eq,
{
    known: HashSet<ObjectRef<K>>,
    listed: HashSet<ObjectRef<K>>,
    /// Gone before the store was full.
    late: HashSet<ObjectRef<K>>,
    complete: bool,
}

impl<K: Resource> Default for Listing<K>
where
    K::DynamicType: Hash + Eq,
{
    fn default() -> Self {
        Self { known: HashSet::new(), listed: HashSet::new(), late: HashSet::new(), complete: false }
    }
}

impl<K: Resource> Listing<K>
where
    K::DynamicType: Clone + Hash + Eq,
{
    /// The list is complete: what was known and is not in it is gone.
    fn finish(&mut self) -> HashSet<ObjectRef<K>> {
        self.complete = true;
        let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listed));
        before.into_iter().filter(|object| !self.known.contains(object)).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{api::ObjectMeta, runtime::reflector};

    use super::*;

    fn object(namespace: &str, name: &str) -> ConfigMap {
        let metadata =
            ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    struct Merged {
        watches: Vec<mpsc::UnboundedSender<watcher::Result<Event<ConfigMap>>>>,
        store: Store<ConfigMap>,
        events: stream::BoxStream<'static, watcher::Result<Event<ConfigMap>>>,
    }

    impl Merged {
        fn of(number: usize) -> Self {
            let (store, writer) = reflector::store();
            let (watches, receivers): (Vec<_>, Vec<_>) = (0..number).map(|_| mpsc::unbounded()).unzip();
            let events = reflector::reflector(writer, merge(receivers, store.clone())).boxed();
            Self { watches, store, events }
        }

        /// Sends events of one watch, and says what is in the store when all have been taken in.
        fn send(&mut self, watch: usize, events: Vec<Event<ConfigMap>>) -> Vec<String> {
            for event in events {
                self.watches[watch].unbounded_send(Ok(event)).unwrap();
            }
            while let Some(event) = futures::FutureExt::now_or_never(self.events.next()) {
                event.unwrap().unwrap();
            }
            let mut names: Vec<_> = self.store.state().iter().map(|found| found.name_any()).collect();
            names.sort();
            names
        }

        fn is_full(&self) -> bool {
            futures::FutureExt::now_or_never(self.store.wait_until_ready()).is_some()
        }
    }

    fn list(namespace: &str, names: &[&str]) -> Vec<Event<ConfigMap>> {
        let objects = names.iter().map(|name| Event::InitApply(object(namespace, name)));
        [Event::Init].into_iter().chain(objects).chain([Event::InitDone]).collect()
    }

    #[test]
    fn the_store_is_full_when_every_namespace_has_been_listed() {
        let mut merged = Merged::of(2);
        assert!(merged.send(0, list("a", &["a1", "a2"])).is_empty());
        assert!(!merged.is_full());
        assert_eq!(merged.send(1, list("b", &["b1"])), ["a1", "a2", "b1"]);
        assert!(merged.is_full());
    }

    #[test]
    fn a_namespace_that_is_listed_again_takes_nothing_from_the_others() {
        let mut merged = Merged::of(2);
        merged.send(0, list("a", &["a1", "a2"]));
        merged.send(1, list("b", &["b1"]));
        assert_eq!(merged.send(0, list("a", &["a2", "a3"])), ["a2", "a3", "b1"]);
        assert_eq!(
            merged.send(0, vec![Event::Init]),
            ["a2", "a3", "b1"],
            "nothing is gone before the list is complete"
        );
        assert_eq!(merged.send(0, vec![Event::InitDone]), ["b1"]);
        assert_eq!(merged.send(1, vec![Event::Apply(object("b", "b2"))]), ["b1", "b2"]);
        assert_eq!(merged.send(1, vec![Event::Delete(object("b", "b1"))]), ["b2"]);
    }

    #[test]
    fn what_goes_before_the_store_is_full_is_not_in_it() {
        let mut merged = Merged::of(2);
        merged.send(0, list("a", &["a1", "a2", "a3"]));
        merged.send(0, vec![Event::Delete(object("a", "a1")), Event::Apply(object("a", "a4"))]);
        merged.send(0, vec![Event::Delete(object("a", "a4")), Event::Apply(object("a", "a4"))]);
        merged.send(0, list("a", &["a3", "a4"]));
        assert_eq!(merged.send(1, list("b", &[])), ["a3", "a4"]);
    }
}
