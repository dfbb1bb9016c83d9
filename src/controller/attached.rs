//! The resources attached to a database, whatever their kind: what the pass says about them and does to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, ready},
    stream,
};
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::sync::mpsc;

use super::{
    fleet::{Objects, PolicyKey},
    receiver_stream,
    report::{Note, Reporter, Voice},
    stores::Stores,
};
use crate::{
    api::{
        CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy, TimescaleDatabase,
        status::{ConditionType, Reason, SelectedTarget, TargetStatus, condition},
        types::Relation,
    },
    catalog::{Catalog, PolicyKind},
    desired::{Attached, PolicyTarget, ResourceId, TargetId, effective_compress_after, effective_drop_after},
    error::Failure,
    monitoring::{DatabaseKey, job_health::known_since, snapshot::JobReport},
    status::{Observed, Outcome, Reported, Summary, job_id, shorten_to, warnings},
};

/// Longest message about one selected target, in characters.
const MAX_TARGET_MESSAGE: usize = 512;

/// Writes to the API under way at once for one database.
pub const CONCURRENT_WRITES: usize = 8;

/// One resource of any kind.
#[derive(Clone)]
enum Object {
    Hypertable(Arc<Hypertable>),
    Aggregate(Arc<ContinuousAggregate>),
    Compression(Arc<CompressionPolicy>),
    Retention(Arc<RetentionPolicy>),
}

/// Runs the expression with the resource as its own type.
macro_rules! each_kind {
    ($object:expr, $resource:ident => $body:expr) => {
        match $object {
            Object::Hypertable($resource) => $body,
            Object::Aggregate($resource) => $body,
            Object::Compression($resource) => $body,
            Object::Retention($resource) => $body,
        }
    };
}

/// One attached resource.
#[derive(Clone)]
pub struct Member {
    object: Object,
    /// What a policy is for in this database.
    targets: Vec<(TargetId, TargetStatus)>,
}

/// The attached resources by id, seen from a database in `home`.
pub fn members(attached: &Attached, database: &str, home: &str) -> BTreeMap<ResourceId, Member> {
    let mut members = BTreeMap::new();
    let mut add = |id, object, targets| members.insert(id, Member { object, targets });
    for resource in &attached.hypertables {
        add(id_of(&**resource, home), Object::Hypertable(resource.clone()), Vec::new());
    }
    for resource in &attached.aggregates {
        add(id_of(&**resource, home), Object::Aggregate(resource.clone()), Vec::new());
    }
    for (resource, targets) in &attached.compression {
        let id = id_of(&**resource, home);
        let targets = target_statuses(targets, database, home, &id);
        add(id, Object::Compression(resource.clone()), targets);
    }
    for (resource, targets) in &attached.retention {
        let id = id_of(&**resource, home);
        let targets = target_statuses(targets, database, home, &id);
        add(id, Object::Retention(resource.clone()), targets);
    }
    members
}

fn id_of<K: Reported>(resource: &K, home: &str) -> ResourceId {
    ResourceId::seen_from(home, K::KIND, &resource.namespace().unwrap_or_default(), &resource.name_any())
}

fn target_statuses(
    targets: &[PolicyTarget],
    database: &str,
    home: &str,
    policy: &ResourceId,
) -> Vec<(TargetId, TargetStatus)> {
    let status = |target: &PolicyTarget| match target {
        PolicyTarget::Recorded(id, recorded) => (id.clone(), recorded.clone()),
        PolicyTarget::Hypertable(_) | PolicyTarget::Aggregate(_) => {
            let (schema, table) = target.object();
            let object = TargetStatus {
                database: database.to_owned(),
                database_namespace: policy.namespace.as_ref().map(|_| home.to_owned()),
                schema: schema.to_owned(),
                table: table.to_owned(),
            };
            (target.id(), object)
        }
    };
    targets.iter().map(status).collect()
}

impl Member {
    /// What a policy's `targetRef` was resolved to.
    pub fn target(&self) -> Option<&TargetStatus> {
        self.targets.first().map(|(_, object)| object).filter(|_| !self.is_selecting())
    }

    /// The targets in this database of a policy that selects them.
    pub fn selected(&self) -> &[(TargetId, TargetStatus)] {
        if self.is_selecting() { &self.targets } else { &[] }
    }

    /// It is a policy that selects its targets.
    pub fn is_selecting(&self) -> bool {
        match &self.object {
            Object::Hypertable(_) | Object::Aggregate(_) => false,
            Object::Compression(policy) => policy.spec.target_ref.is_none(),
            Object::Retention(policy) => policy.spec.target_ref.is_none(),
        }
    }

    /// Kind, namespace and name.
    pub fn key(&self) -> PolicyKey {
        fn key<K: Reported>(resource: &K) -> PolicyKey {
            (K::KIND, resource.namespace().unwrap_or_default(), resource.name_any())
        }
        each_kind!(&self.object, resource => key(&**resource))
    }

    /// `metadata.uid`
    pub fn uid(&self) -> String {
        each_kind!(&self.object, resource => resource.uid().unwrap_or_default())
    }

    /// The targets that the status of a policy lists, and those of them whose resource is gone.
    pub fn recorded(&self) -> (Objects, Objects) {
        let (gone, there) = self.listed().iter().partition::<Vec<_>, _>(|target| target.is_gone());
        let objects = |targets: Vec<&SelectedTarget>| targets.into_iter().map(SelectedTarget::id_and_object).collect();
        (objects(there), objects(gone))
    }

    fn listed(&self) -> &[SelectedTarget] {
        match &self.object {
            Object::Hypertable(_) | Object::Aggregate(_) => &[],
            Object::Compression(policy) => policy.status.as_ref().map_or(&[], |status| &status.targets),
            Object::Retention(policy) => policy.status.as_ref().map_or(&[], |status| &status.targets),
        }
    }

    /// The note that a policy has lost a target, whose object keeps it.
    pub fn lost(&self, id: &TargetId, object: &TargetStatus, why: &str) -> Note {
        let policy = match self.object {
            Object::Compression(_) => "compression",
            _ => "retention",
        };
        let TargetStatus { schema, table, .. } = object;
        let text = format!(
            "{}/{} {why}: the {policy} policy of {schema}.{table} stays in the database as it is",
            id.kind.as_str(),
            id.name
        );
        Note { reason: Reason::Orphaned, text }
    }

    /// The note that the target that a policy names is another object than before.
    fn moved(&self) -> Option<Note> {
        let before = match &self.object {
            Object::Hypertable(_) | Object::Aggregate(_) => None,
            Object::Compression(policy) => policy.status.as_ref().and_then(|status| status.target.as_ref()),
            Object::Retention(policy) => policy.status.as_ref().and_then(|status| status.target.as_ref()),
        }?;
        let (id, now) = self.targets.first().filter(|_| !self.is_selecting() && !self.is_deleting())?;
        let why = format!("is {}.{} now", now.schema, now.table);
        (before != now).then(|| self.lost(id, before, &why))
    }

    /// The databases in which a policy has targets.
    pub fn databases(&self, stores: &Stores) -> BTreeSet<DatabaseKey> {
        match &self.object {
            Object::Hypertable(_) | Object::Aggregate(_) => BTreeSet::new(),
            Object::Compression(policy) => stores.databases_of(&**policy),
            Object::Retention(policy) => stores.databases_of(&**policy),
        }
    }

    /// What a policy says of one of the targets that it selects.
    pub fn outcome(
        &self,
        (id, object): &(TargetId, TargetStatus),
        summary: Option<Summary>,
        database: Option<&TimescaleDatabase>,
        catalog: Option<&Catalog>,
        jobs: &BTreeMap<i32, JobReport>,
    ) -> Outcome {
        let (kind, after) = match &self.object {
            Object::Compression(policy) => {
                (PolicyKind::Compression, database.and_then(|db| effective_compress_after(policy, db)))
            }
            Object::Retention(policy) => {
                (PolicyKind::Retention, database.and_then(|db| effective_drop_after(policy, db)))
            }
            // They have no targets.
            Object::Hypertable(_) | Object::Aggregate(_) => (PolicyKind::Refresh, None),
        };
        let relation = object.schema.parse().ok().zip(object.table.parse().ok());
        let relation = relation.map(|(schema, name)| Relation { schema, name });
        let reason = summary.as_ref().map_or(Reason::Released, |summary| summary.reason);
        let worth_saying = |s: &&Summary| s.reason != Reason::InSync || warnings(&s.message).next().is_some();
        let message = summary.as_ref().filter(worth_saying).map(|s| shorten_to(&s.message, MAX_TARGET_MESSAGE));
        // What was not seen in this pass stays as it was.
        let before = self.listed().iter().find(|before| id.is_of(before));
        let before = before.filter(|before| before.object == *object);
        let after = if database.is_some() { after } else { before.and_then(|before| before.after.clone()) };
        let job_id = match catalog.zip(relation) {
            Some((catalog, relation)) => job_id(catalog, kind, &relation),
            None => before.and_then(|before| before.job_id),
        };
        let target = SelectedTarget {
            kind: id.kind,
            name: id.name.clone(),
            object: object.clone(),
            reason: reason.as_str().to_owned(),
            message,
            after,
            job_id,
        };
        let job = catalog.and(job_id).and_then(|id| jobs.get(&id)).map(|report| report.health.clone());
        Outcome { target, summary, job }
    }

    /// `metadata.generation`
    pub fn generation(&self) -> Option<i64> {
        each_kind!(&self.object, resource => resource.metadata.generation)
    }

    /// The resource is being deleted.
    pub fn is_deleting(&self) -> bool {
        each_kind!(&self.object, resource => resource.metadata.deletion_timestamp.is_some())
    }

    /// The resource holds our finalizer.
    pub fn has_finalizer(&self) -> bool {
        each_kind!(&self.object, resource => resource.finalizers().iter().any(|f| f == FINALIZER))
    }

    /// Its deletion undoes something in the database.
    pub fn needs_release(&self) -> bool {
        each_kind!(&self.object, resource => resource.needs_release())
    }

    /// Its status says `Ready`.
    pub fn was_ready(&self) -> bool {
        each_kind!(&self.object, resource => was_ready(&**resource, false))
    }

    /// Its status says `Ready` about the generation at hand.
    pub fn was_in_sync(&self) -> bool {
        each_kind!(&self.object, resource => was_ready(&**resource, true))
    }

    /// The job in its status, and since when that is known not to have started.
    pub fn job_known_since(&self) -> Option<(i32, Timestamp)> {
        each_kind!(&self.object, resource => {
            let status = resource.status.as_ref()?;
            Some((status.job.as_ref()?.id, known_since(&status.conditions)?))
        })
    }

    /// Its status is about the generation at hand.
    pub fn is_at_generation(&self) -> bool {
        each_kind!(&self.object, resource => is_at_generation(&**resource))
    }

    /// Its status lists this target as in sync.
    pub fn listed_in_sync(&self, target: &TargetId) -> bool {
        let mut listed = self.listed().iter().filter(|listed| target.is_of(listed));
        listed.any(|listed| listed.reason == Reason::InSync.as_str())
    }

    /// Puts our finalizer on it or takes it off.
    pub async fn finalize(&self, reporter: &Reporter, wanted: bool) -> Result<(), Failure> {
        each_kind!(&self.object, resource => reporter.finalize(&**resource, wanted).await)
    }

    /// Makes sure that it is still as it was seen.
    pub async fn confirm(&self, reporter: &Reporter) -> Result<(), Failure> {
        each_kind!(&self.object, resource => reporter.confirm(&**resource).await)
    }

    /// Lets go of it without touching the database.
    pub async fn orphan(&self, reporter: &Reporter, why: &str) -> Result<(), Failure> {
        let note = Note { reason: Reason::Orphaned, text: format!("{why}: the database is left as it is") };
        each_kind!(&self.object, resource => reporter.event(&**resource, &note).await);
        self.finalize(reporter, false).await
    }

    /// Publishes the notes.
    pub fn publish<'a>(&'a self, reporter: &'a Reporter, notes: Vec<&'a Note>) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let publish =
                async |note: &Note| each_kind!(&self.object, resource => reporter.event(&**resource, note).await);
            stream::iter(notes).for_each_concurrent(CONCURRENT_WRITES, publish).await;
            Ok(())
        }
        .boxed()
    }

    /// Says what became of it, where that is news. One that is released says nothing any more and gives up its finalizer; so
    /// does one that has nothing to undo any more.
    pub fn settle<'a>(
        &'a self,
        reporter: &'a Reporter,
        summary: Option<Summary>,
        observed: Observed<'a>,
        notes: Vec<&'a Note>,
        voice: Voice,
    ) -> Option<BoxFuture<'a, Result<(), Failure>>> {
        let surplus = self.has_finalizer() && (summary.is_none() || !self.is_deleting() && !self.needs_release());
        let moved = self.moved().filter(|_| summary.is_some());
        let is_said =
            |summary: &Summary| each_kind!(&self.object, resource => reporter.is_said(&**resource, summary, &observed));
        if notes.is_empty() && !surplus && moved.is_none() && summary.as_ref().is_none_or(is_said) {
            return None;
        }
        let settle = async move {
            // First, so that they are not lost with a status that cannot be written: that is written again in the next pass.
            self.publish(reporter, notes).await?;
            if surplus {
                self.finalize(reporter, false).await?;
            }
            if let Some(moved) = &moved {
                self.publish(reporter, vec![moved]).await?;
            }
            if let Some(summary) = summary {
                each_kind!(&self.object, resource => reporter.say(&**resource, &summary, &observed, voice).await)?;
            }
            Ok(())
        };
        Some(settle.boxed())
    }
}

fn is_at_generation<K: Reported>(resource: &K) -> bool {
    resource.current().is_some_and(|status| K::parts(status).1 == resource.meta().generation)
}

/// What a policy says of a target whose resource is gone.
pub fn gone(id: TargetId, object: TargetStatus) -> SelectedTarget {
    SelectedTarget {
        kind: id.kind,
        name: id.name,
        object,
        reason: Reason::TargetNotFound.as_str().to_owned(),
        message: Some("the resource is deleted; its policy stays in the database until this one is deleted".to_owned()),
        after: None,
        job_id: None,
    }
}

fn was_ready<K: Reported>(resource: &K, at_this_generation: bool) -> bool {
    let Some((conditions, generation)) = resource.current().map(K::parts) else { return false };
    let ready = condition(conditions, ConditionType::Ready).is_some_and(|c| c.status == "True");
    ready && (!at_this_generation || generation == resource.meta().generation)
}

/// A resource outside of any database.
macro_rules! from_resource {
    ($($resource:ident => $variant:ident),+) => {
        $(impl From<Arc<$resource>> for Member {
            fn from(resource: Arc<$resource>) -> Self {
                Self { object: Object::$variant(resource), targets: Vec::new() }
            }
        })+
    };
}

from_resource!(Hypertable => Hypertable, ContinuousAggregate => Aggregate, CompressionPolicy => Compression, RetentionPolicy => Retention);

/// Publishes notes as they come, a few at a time, until nobody sends any more.
pub fn publish_all(reporter: &Reporter, notes: mpsc::UnboundedReceiver<(Member, Note)>) -> BoxFuture<'_, ()> {
    let publish = move |(member, note): (Member, Note)| {
        async move {
            // An event that is lost is in the log.
            let _ = member.publish(reporter, vec![&note]).await;
        }
        .boxed()
    };
    receiver_stream(notes).for_each_concurrent(CONCURRENT_WRITES, publish).boxed()
}

/// Carries out the writes, a few at a time; each is made when it is its turn. Every one is tried; the first failure is
/// returned.
pub fn all<'a>(
    writes: impl Iterator<Item = BoxFuture<'a, Result<(), Failure>>> + Send + 'a,
) -> BoxFuture<'a, Result<(), Failure>> {
    let results = stream::iter(writes).buffer_unordered(CONCURRENT_WRITES);
    results.fold(Ok(()), |first, result| ready(Result::and(first, result))).boxed()
}
