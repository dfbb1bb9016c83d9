//! What this operator has written to the Kubernetes API, until its watches tell of it: the pass after the next may begin
//! before they do, and what it compares with must not be older than what the last one said.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{Resource, ResourceExt};

/// How late a watch may be. What it has not told of by then is written again.
const LATEST: Duration = Duration::from_mins(1);

/// Kind, namespace and name.
type Key = (&'static str, String, String);

/// Resources as the API server returned them when they were written.
#[derive(Default)]
pub struct Written(Mutex<HashMap<Key, Entry>>);

struct Entry {
    at: Instant,
    version: u64,
    object: Arc<dyn Any + Send + Sync>,
}

impl Written {
    /// Remembers a resource as it was after a write.
    pub fn note<K: Resource + Send + Sync + 'static>(&self, kind: &'static str, mut object: K) {
        let Some(version) = version(&object) else { return };
        object.managed_fields_mut().clear();
        let key = key(kind, &object);
        self.lock().insert(key, Entry { at: Instant::now(), version, object: Arc::new(object) });
    }

    /// The resource as it was written last, where that is newer than `seen` and of the same generation.
    pub fn newer<K: Resource + Send + Sync + 'static>(&self, kind: &'static str, seen: &K) -> Option<Arc<K>> {
        let mut entries = self.lock();
        if entries.is_empty() {
            return None;
        }
        let key = key(kind, seen);
        let entry = entries.get(&key)?;
        let written = entry.object.clone().downcast::<K>().ok()?;
        if written.meta().uid == seen.meta().uid && entry.version > version(seen)? {
            return (written.meta().generation == seen.meta().generation).then_some(written);
        }
        entries.remove(&key);
        None
    }

    /// Forgets what watches have told of: `seen` is the version in a store of the resource of this kind, namespace and name.
    pub fn tidy(&self, seen: impl Fn(&str, &str, &str) -> Option<String>) {
        self.lock().retain(|(kind, namespace, name), entry| {
            let seen = seen(kind, namespace, name).and_then(|version| version.parse::<u64>().ok());
            entry.at.elapsed() < LATEST && seen.is_some_and(|seen| seen < entry.version)
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // A panic while it was locked leaves it whole: entries are only ever put in and taken out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<K: Resource>(kind: &'static str, object: &K) -> Key {
    (kind, object.namespace().unwrap_or_default(), object.name_any())
}

/// The resource as it is `now`, where that is newer than `seen` and of the same generation.
pub fn newer<K: Resource>(now: Arc<K>, seen: &K) -> Option<Arc<K>> {
    let is_same = now.meta().uid == seen.meta().uid && now.meta().generation == seen.meta().generation;
    Some(now).filter(|now| is_same && version(&**now).is_some_and(|now| Some(now) > version(seen)))
}

/// Versions of one resource are numbers that grow (Kubernetes API concepts, "Resource versions").
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(uid: &str, generation: i64, version: &str) -> ConfigMap {
        let metadata = ObjectMeta {
            namespace: Some("factory".to_owned()),
            name: Some("readings".to_owned()),
            uid: Some(uid.to_owned()),
            generation: Some(generation),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn newer(written: &Written, seen: &ConfigMap) -> Option<String> {
        written.newer("ConfigMap", seen)?.resource_version()
    }

    #[test]
    fn what_was_written_counts_until_a_watch_tells_of_it() {
        let written = Written::default();
        let before = object("a", 1, "9");
        assert_eq!(newer(&written, &before), None);
        written.note("ConfigMap", object("a", 1, "10"));
        assert_eq!(newer(&written, &before), Some("10".to_owned()));
        assert_eq!(newer(&written, &before), Some("10".to_owned()), "until then, however often");
        assert_eq!(written.newer("Secret", &before), None, "of another kind");
        assert_eq!(newer(&written, &object("a", 1, "10")), None);
        assert_eq!(newer(&written, &before), None, "it is forgotten");
    }

    #[test]
    fn a_namesake_and_another_generation_are_seen_as_they_are() {
        let written = Written::default();
        written.note("ConfigMap", object("a", 2, "10"));
        assert_eq!(newer(&written, &object("a", 1, "9")), None, "the pass is about the generation that it saw");
        assert_eq!(newer(&written, &object("a", 2, "9")), Some("10".to_owned()));
        assert_eq!(newer(&written, &object("b", 2, "9")), None);
    }

    #[test]
    fn what_a_store_has_or_misses_is_forgotten() {
        let (written, before) = (Written::default(), object("a", 1, "9"));
        let tidy = |seen: Option<&str>| {
            written.note("ConfigMap", object("a", 1, "10"));
            written.tidy(|kind, namespace, name| {
                assert_eq!((kind, namespace, name), ("ConfigMap", "factory", "readings"));
                seen.map(str::to_owned)
            });
            newer(&written, &before)
        };
        assert_eq!(tidy(Some("9")), Some("10".to_owned()));
        assert_eq!(tidy(Some("10")), None);
        assert_eq!(tidy(Some("11")), None);
        assert_eq!(tidy(None), None, "there is nothing to compare with it");
    }

    #[test]
    fn what_a_store_has_counts_where_it_is_newer_and_of_the_same_generation() {
        let seen = object("a", 1, "9");
        for (uid, generation, version, counts) in [
            ("a", 1, "10", true),
            ("a", 1, "9", false),
            ("a", 1, "8", false),
            ("a", 2, "10", false),
            ("b", 1, "10", false),
            ("a", 1, "opaque", false),
        ] {
            let now = super::newer(Arc::new(object(uid, generation, version)), &seen);
            assert_eq!(now.is_some(), counts, "{uid} {generation} {version}");
        }
    }

    #[test]
    fn a_version_that_is_no_number_is_not_compared() {
        let written = Written::default();
        written.note("ConfigMap", object("a", 1, "opaque"));
        assert_eq!(newer(&written, &object("a", 1, "9")), None);
    }
}
