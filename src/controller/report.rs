//! The only writer to the Kubernetes API: statuses that changed, finalizers, events.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::events::v1::Event,
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    stores::{InStore, Stores},
    written::{Written, newer},
};
use crate::{
    api::{
        APPROVE_ANNOTATION, FINALIZER, TimescaleDatabase,
        status::{ConditionType, Reason, Standing, condition},
        timescale_database::TimescaleDatabaseStatus,
    },
    error::{Class, Failure, chain},
    metrics::{ApiWrite, Metrics},
    status::{Observed, Reported, Summary, conditions, warnings},
};

/// The field manager of everything this operator writes.
pub const FIELD_MANAGER: &str = "timescaledb-policy-operator";

/// Longest note of an event, in bytes (the API server's limit).
const MAX_NOTE: usize = 1024;

/// A namespaced kind that can be read from the API server and written back.
pub trait Stored:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Stored for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Writes to the Kubernetes API.
pub struct Reporter {
    client: Client,
    metrics: Metrics,
    instance: String,
    written: Written,
    writes: AtomicU64,
    stores: Stores,
}

/// Something worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `reason`
    pub reason: Reason,
    /// What was done, with its SQL, or what is wrong.
    pub text: String,
}

/// Whether a resource that has come to need attention gets an event of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// It does.
    Loud,
    /// Its status says it, and that is enough: another resource has the event, or very many are told the same.
    Quiet,
}

impl Reporter {
    /// A reporter that signs its events with this instance name (the pod's).
    pub fn new(client: Client, metrics: Metrics, instance: String, stores: Stores) -> Self {
        Self { client, metrics, instance, written: Written::default(), writes: AtomicU64::new(0), stores }
    }

    /// Forgets what it wrote once watches have told of it: see [`Written::tidy`].
    pub fn tidy(&self) {
        self.written.tidy(|kind, namespace, name| self.stores.version(kind, namespace, name));
    }

    /// How often it has written since the start.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn count<K: Resource<DynamicType = ()>>(&self, write: ApiWrite) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.metrics.api_write(kind_label::<K>(), write);
    }

    /// The client that it writes with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the status of a resource says so already.
    pub fn is_said<K: Reported + InStore>(&self, resource: &K, summary: &Summary, observed: &Observed<'_>) -> bool {
        let newest = self.newest(resource);
        let resource = newest.as_deref().unwrap_or(resource);
        resource.current() == Some(&status(resource, summary, observed))
    }

    /// Says what became of a resource: its status where that differs from the stored one; an event where it has come to
    /// need attention, and one for what is unwise about it since.
    pub async fn say<K: Reported + InStore>(
        &self,
        resource: &K,
        summary: &Summary,
        observed: &Observed<'_>,
        voice: Voice,
    ) -> Result<(), Failure> {
        let newest = self.newest(resource);
        let resource = newest.as_deref().unwrap_or(resource);
        let current = resource.current();
        let (previous, _) = current.map_or((&[][..], None), K::parts);
        let status = status(resource, summary, observed);
        if current == Some(&status) {
            return Ok(());
        }
        let (now, _) = K::parts(&status);
        let worth_a_warning =
            voice == Voice::Loud && summary.reason.standing() != Standing::Current && ready_changed(previous, now);
        let unwise = new_warnings(previous, &summary.message);
        let job = newly_unhealthy(previous, now);
        self.apply_status(resource, &status).await?;
        if worth_a_warning {
            self.event(resource, &Note { reason: summary.reason, text: summary.message.clone() }).await;
        }
        if !unwise.is_empty() {
            self.event(resource, &Note { reason: Reason::Unwise, text: unwise.join("; ") }).await;
        }
        if let Some(note) = job {
            self.event(resource, &note).await;
        }
        Ok(())
    }

    /// Says what was seen of a database.
    pub async fn say_database(
        &self,
        database: &TimescaleDatabase,
        summary: &Summary,
        facts: TimescaleDatabaseStatus,
    ) -> Result<(), Failure> {
        let newest = self.newest(database);
        let database = newest.as_deref().unwrap_or(database);
        let current = database.status.as_ref();
        let previous = current.map_or(&[][..], |s| &s.conditions[..]);
        let conditions = conditions(previous, summary, database.metadata.generation, Timestamp::now());
        let changed = ready_changed(previous, &conditions);
        let status = TimescaleDatabaseStatus { observed_generation: database.metadata.generation, conditions, ..facts };
        if current != Some(&status) {
            self.apply_status(database, &status).await?;
        }
        if changed && summary.reason.standing() != Standing::Current {
            self.event(database, &Note { reason: summary.reason, text: summary.message.clone() }).await;
        }
        Ok(())
    }

    /// Puts our finalizer on a resource or takes it off. One that is gone already needs nothing taken off.
    pub async fn finalize<K: Stored + InStore>(&self, resource: &K, wanted: bool) -> Result<(), Failure> {
        if self.newest(resource).is_some_and(|now| now.finalizers().iter().any(|held| held == FINALIZER) == wanted) {
            return if wanted { self.confirm(resource).await } else { Ok(()) };
        }
        let finalizers: &[&str] = if wanted { &[FINALIZER] } else { &[] };
        // The uid keeps the finalizer off a namesake that was created since.
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": resource.name_any(), "uid": resource.uid(), "finalizers": finalizers},
        });
        let result = self.api::<K>(resource).patch(&resource.name_any(), &apply(), &Patch::Apply(&patch)).await;
        self.count::<K>(ApiWrite::Finalizer);
        match result {
            // What is held on to must be what was seen.
            Ok(now) if wanted && is_another(resource.meta(), now.meta()) => Err(changed(resource)),
            Ok(now) => {
                self.written.note(kind_label::<K>(), now);
                Ok(())
            }
            Err(kube::Error::Api(status)) if !wanted && (status.is_not_found() || status.is_conflict()) => Ok(()),
            Err(error) => Err(api_failure("setting the finalizer", resource, &error)),
        }
    }

    async fn apply_status<K: Stored, S: Serialize>(&self, resource: &K, status: &S) -> Result<(), Failure> {
        let (api, name) = (self.api::<K>(resource), resource.name_any());
        let mut version = resource.resource_version();
        for _ in 0..STATUS_ATTEMPTS {
            // A status is taken whatever uid it names, so the version keeps it off a namesake that was created since.
            let patch = json!({
                "apiVersion": K::api_version(&()),
                "kind": K::kind(&()),
                "metadata": {"name": name, "resourceVersion": version},
                "status": status,
            });
            let mut result = api.patch_status(&name, &apply(), &Patch::Apply(&patch)).await;
            if matches!(&result, Err(kube::Error::Api(status)) if is_newer_than_definition(status)) {
                result = self.replace_status(resource, status, version.as_deref()).await;
            }
            self.count::<K>(ApiWrite::Status);
            match result {
                Ok(now) => {
                    self.written.note(kind_label::<K>(), now);
                    return Ok(());
                }
                // Deleted since it was read: there is nobody left to tell.
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(api_failure("writing the status", resource, &error)),
            }
            match api.get_metadata_opt(&name).await {
                Ok(Some(now)) if now.metadata.uid == resource.uid() => version = now.metadata.resource_version,
                // Deleted, or deleted and created anew.
                Ok(_) => return Ok(()),
                Err(error) => return Err(api_failure("reading", resource, &error)),
            }
        }
        // It changes faster than it can be told; every change makes a pass that tries again.
        Ok(())
    }

    /// A resource as it is known by now, where that is newer than `seen` and of the same generation: a pass that takes a
    /// while has seen an older one than it has written itself, or than the watches have told of since.
    fn newest<K: Stored + InStore>(&self, seen: &K) -> Option<Arc<K>> {
        let written = self.written.newer(kind_label::<K>(), seen);
        let name = ObjectRef::new(&seen.name_any()).within(&seen.namespace().unwrap_or_default());
        let stored = K::store(&self.stores).get(&name);
        match (written, stored) {
            (Some(written), Some(stored)) => newer(stored, &*written).or(Some(written)),
            (None, Some(stored)) => newer(stored, seen),
            (written, None) => written,
        }
    }

    /// Writes a status whole. The API server leaves out what its definition does not know, which server-side apply
    /// refuses: so an operator that was upgraded before its definitions still tells the rest.
    async fn replace_status<K: Stored, S: Serialize>(
        &self,
        resource: &K,
        status: &S,
        version: Option<&str>,
    ) -> kube::Result<K> {
        let name = resource.name_any();
        tracing::warn!(
            kind = %K::kind(&()), name,
            "the definition in the cluster is older than this operator, parts of the status are left out: apply crds/ of this version"
        );
        let mut whole = serde_json::to_value(resource).map_err(kube::Error::SerdeError)?;
        whole["status"] = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        whole["metadata"]["resourceVersion"] = json!(version);
        let whole: K = serde_json::from_value(whole).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.api::<K>(resource).replace_status(&name, &parameters, &whole).await
    }

    /// Makes sure that a resource is still as it was seen, before something is done for it that cannot be taken back: a
    /// watch may be late, and an operator that takes over from another has seen less than that one.
    pub async fn confirm<K: Stored>(&self, resource: &K) -> Result<(), Failure> {
        match self.api::<K>(resource).get_metadata_opt(&resource.name_any()).await {
            Ok(Some(now)) if !is_another(resource.meta(), &now.metadata) => Ok(()),
            Ok(_) => Err(changed(resource)),
            Err(error) => Err(api_failure("reading", resource, &error)),
        }
    }

    /// Publishes an event. Events are for people; one that is lost is logged and nothing waits for it.
    ///
    /// kube's `Recorder` is not used: it folds events with the same reason into a series that keeps the first note, and
    /// here the note says what was done.
    pub async fn event<K: Resource<DynamicType = ()>>(&self, resource: &K, note: &Note) {
        let namespace = resource.namespace().unwrap_or_default();
        let warning = note.reason.standing() == Standing::Failed || note.reason == Reason::Unwise;
        let type_ = if warning { "Warning" } else { "Normal" };
        tracing::info!(
            kind = %K::kind(&()), namespace, name = resource.name_any(), reason = note.reason.as_str(), "{}", note.text
        );
        let now = Timestamp::now();
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", shorten_bytes(&resource.name_any(), 200), now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(type_.to_owned()),
            reason: Some(note.reason.as_str().to_owned()),
            action: Some("Reconcile".to_owned()),
            note: Some(shorten_bytes(&note.text, MAX_NOTE)),
            regarding: Some(resource.object_ref(&())),
            reporting_controller: Some(FIELD_MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        self.count::<K>(ApiWrite::Event);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(error = chain(&error), "an event could not be published");
        }
    }

    fn api<K: Stored>(&self, resource: &K) -> Api<K> {
        Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default())
    }
}

/// What the status of a resource is to say.
fn status<K: Reported>(resource: &K, summary: &Summary, observed: &Observed<'_>) -> K::Status {
    let previous = resource.current().map_or(&[][..], |status| K::parts(status).0);
    let conditions = conditions(previous, summary, resource.meta().generation, Timestamp::now());
    resource.status(conditions, summary.plan.clone(), observed)
}

/// Attempts to write a status that others write to at the same time.
const STATUS_ATTEMPTS: usize = 3;

/// Whether a resource has become another since it was seen, in what decides about steps.
fn is_another(seen: &ObjectMeta, now: &ObjectMeta) -> bool {
    let approval = |meta: &ObjectMeta| meta.annotations.as_ref().and_then(|a| a.get(APPROVE_ANNOTATION)).cloned();
    let labels = |meta: &ObjectMeta| meta.labels.clone().unwrap_or_default();
    seen.uid != now.uid
        || seen.generation != now.generation
        || seen.deletion_timestamp.is_some() != now.deletion_timestamp.is_some()
        || approval(seen) != approval(now)
        || labels(seen) != labels(now)
}

fn changed<K: Resource<DynamicType = ()>>(resource: &K) -> Failure {
    let message =
        format!("{} {} has changed since it was seen; it is looked at again", K::kind(&()), resource.name_any());
    Failure::new(Class::Transient, Reason::Retrying, message)
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// The label for a kind in metrics.
fn kind_label<K: Resource<DynamicType = ()>>() -> &'static str {
    match &*K::kind(&()) {
        "TimescaleDatabase" => "TimescaleDatabase",
        "Hypertable" => "Hypertable",
        "CompressionPolicy" => "CompressionPolicy",
        "RetentionPolicy" => "RetentionPolicy",
        "ContinuousAggregate" => "ContinuousAggregate",
        _ => "other",
    }
}

/// Whether `Ready` says something else than before: another status, or another reason.
fn ready_changed(previous: &[Condition], now: &[Condition]) -> bool {
    let ready = |conditions| condition(conditions, ConditionType::Ready).map(|c| (c.status.clone(), c.reason.clone()));
    ready(previous) != ready(now)
}

/// The note that a job has come to need attention. `Ready` has its own where the reason is the same.
fn newly_unhealthy(previous: &[Condition], now: &[Condition]) -> Option<Note> {
    let job = |conditions| condition(conditions, ConditionType::JobHealthy).filter(|c| c.status == "False");
    let found = job(now).filter(|c| job(previous).is_none_or(|before| before.reason != c.reason))?;
    let reason = *Reason::ALL.iter().find(|reason| reason.as_str() == found.reason)?;
    let is_said = condition(now, ConditionType::Ready).is_some_and(|ready| ready.reason == found.reason);
    (!is_said).then(|| Note { reason, text: found.message.clone() })
}

/// The warnings in a message that the condition of before did not have.
fn new_warnings<'m>(previous: &[Condition], message: &'m str) -> Vec<&'m str> {
    let before = condition(previous, ConditionType::Ready).map_or("", |ready| &ready.message);
    warnings(message).filter(|warning| !before.contains(warning)).collect()
}

fn api_failure<K: Resource<DynamicType = ()>>(doing: &str, resource: &K, error: &kube::Error) -> Failure {
    let what = format!("{doing} of {} {}", K::kind(&()), resource.name_any());
    Failure::new(Class::Transient, Reason::Retrying, format!("{what}: {}", chain(error)))
}

/// The text, cut at a character boundary to at most this many bytes.
fn shorten_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let ellipsis = "…";
    let end = (0..=most - ellipsis.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{ellipsis}", &text[..end])
}

/// Server-side apply holds a status against the definition in the cluster, which may be of an older version.
fn is_newer_than_definition(status: &kube::core::Status) -> bool {
    status.message.contains("field not declared in schema")
}

#[cfg(test)]
mod tests {
    use super::shorten_bytes;

    #[test]
    fn a_note_is_cut_at_a_character() {
        assert_eq!(shorten_bytes("abc", 3), "abc");
        assert_eq!(shorten_bytes("äöü", 5), "ä…");
        assert!(shorten_bytes(&"é".repeat(2000), 1024).len() <= 1024);
    }
}
