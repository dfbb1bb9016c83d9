//! The resources attached to a database, whatever their kind: what the pass says about them and does to them.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use kube::ResourceExt;

use super::report::{Note, Reporter};
use crate::{
    api::{
        CompressionPolicy, ContinuousAggregate, FINALIZER, Hypertable, RetentionPolicy,
        status::{ConditionType, Reason, TargetStatus, condition},
    },
    desired::{Attached, PolicyTarget, ResourceId},
    error::Failure,
    status::{Observed, Reported, Summary},
};

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
    target: Option<TargetStatus>,
}

/// The attached resources by id.
pub fn members(attached: &Attached, database: &str) -> BTreeMap<ResourceId, Member> {
    let mut members = BTreeMap::new();
    let mut add = |id, object, target| members.insert(id, Member { object, target });
    for resource in &attached.hypertables {
        add(id_of(&**resource), Object::Hypertable(resource.clone()), None);
    }
    for resource in &attached.aggregates {
        add(id_of(&**resource), Object::Aggregate(resource.clone()), None);
    }
    for (resource, target) in &attached.compression {
        add(id_of(&**resource), Object::Compression(resource.clone()), Some(target_status(target, database)));
    }
    for (resource, target) in &attached.retention {
        add(id_of(&**resource), Object::Retention(resource.clone()), Some(target_status(target, database)));
    }
    members
}

fn id_of<K: Reported>(resource: &K) -> ResourceId {
    ResourceId { kind: K::KIND, name: resource.name_any() }
}

fn target_status(target: &PolicyTarget, database: &str) -> TargetStatus {
    match target {
        PolicyTarget::Resource(hypertable) => TargetStatus {
            database: database.to_owned(),
            schema: hypertable.spec.schema.clone(),
            table: hypertable.spec.table.clone(),
        },
        PolicyTarget::Recorded(recorded) => recorded.clone(),
    }
}

impl Member {
    /// What a policy's `targetRef` was resolved to.
    pub fn target(&self) -> Option<&TargetStatus> {
        self.target.as_ref()
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

    /// Puts our finalizer on it or takes it off.
    pub async fn finalize(&self, reporter: &Reporter, wanted: bool) -> Result<(), Failure> {
        each_kind!(&self.object, resource => reporter.finalize(&**resource, wanted).await)
    }

    /// Lets go of it without touching the database.
    pub async fn orphan(&self, reporter: &Reporter, why: &str) -> Result<(), Failure> {
        let note = Note { reason: Reason::Orphaned, text: format!("{why}: the database is left as it is") };
        each_kind!(&self.object, resource => reporter.event(&**resource, &note).await);
        self.finalize(reporter, false).await
    }

    /// Says what became of it. One that is released says nothing any more and gives up its finalizer; so does one that has
    /// nothing to undo any more.
    pub fn settle<'a>(
        &'a self,
        reporter: &'a Reporter,
        summary: Option<Summary>,
        observed: Observed<'a>,
        note: Option<&'a Note>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let surplus = self.has_finalizer() && !self.is_deleting() && !self.needs_release();
            match summary {
                None => {
                    if let Some(note) = note {
                        each_kind!(&self.object, resource => reporter.event(&**resource, note).await);
                    }
                    if self.has_finalizer() {
                        self.finalize(reporter, false).await?;
                    }
                }
                Some(summary) => {
                    if surplus {
                        self.finalize(reporter, false).await?;
                    }
                    each_kind!(&self.object, resource => reporter.say(&**resource, &summary, &observed, note).await)?;
                }
            }
            Ok(())
        }
        .boxed()
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
                Self { object: Object::$variant(resource), target: None }
            }
        })+
    };
}

from_resource!(Hypertable => Hypertable, ContinuousAggregate => Aggregate, CompressionPolicy => Compression, RetentionPolicy => Retention);

/// Carries out the writes, a few at a time. Every one is tried; the first failure is returned.
pub async fn all(writes: Vec<BoxFuture<'_, Result<(), Failure>>>) -> Result<(), Failure> {
    let results: Vec<_> = stream::iter(writes).buffer_unordered(CONCURRENT_WRITES).collect().await;
    results.into_iter().collect()
}
