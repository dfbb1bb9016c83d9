//! Policies that select their targets by labels: what became of them in every database where they have some.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    api::status::{Reason, SelectedTarget, TargetStatus},
    desired::{Kind, TargetId},
    monitoring::DatabaseKey,
    status::Outcome,
};

/// Kind, namespace and name of a policy.
pub type PolicyKey = (Kind, String, String);

/// Targets with the database objects that they mean.
pub type Objects = BTreeMap<TargetId, TargetStatus>;

/// What every database has had to say of the policies that select targets in it. Each pass over a database replaces its
/// part; a policy's status is made of all parts.
#[derive(Default)]
pub struct Fleet(Mutex<HashMap<PolicyKey, Known>>);

#[derive(Default)]
struct Known {
    /// Of the policy: a namesake that is created later starts anew.
    uid: String,
    parts: BTreeMap<DatabaseKey, Vec<Outcome>>,
    /// The targets at the last time that all parts were there; `None` before the first.
    targets: Option<Objects>,
    /// Targets whose resource was deleted: the policy is still on their objects.
    gone: Objects,
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, HashMap<PolicyKey, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what became of a policy in one database, and returns what became of it in all of `databases`, those
    /// in which it has targets; `None` while one of them has not been looked at yet since the operator started.
    pub fn note(
        &self,
        policy: &PolicyKey,
        uid: &str,
        database: &DatabaseKey,
        outcomes: Vec<Outcome>,
        databases: &BTreeSet<DatabaseKey>,
    ) -> Option<Vec<Outcome>> {
        let mut fleet = self.lock();
        let known = fleet.entry(policy.clone()).or_default();
        if known.uid != uid {
            *known = Known { uid: uid.to_owned(), ..Known::default() };
        }
        known.parts.insert(database.clone(), outcomes);
        known.parts.retain(|key, _| databases.contains(key));
        let complete = databases.iter().all(|key| known.parts.contains_key(key));
        complete.then(|| known.parts.values().flatten().cloned().collect())
    }

    /// The targets that a policy had, and those of them whose resource is gone; `None` before all of its databases have
    /// been looked at.
    pub fn targets(&self, policy: &PolicyKey) -> Option<(Objects, Objects)> {
        let fleet = self.lock();
        let known = fleet.get(policy)?;
        Some((known.targets.clone()?, known.gone.clone()))
    }

    /// Whether the policy was in force on the target when it was looked at last; `None` where that was before the operator
    /// started.
    pub fn was_in_sync(&self, policy: &PolicyKey, target: &TargetId) -> Option<bool> {
        let fleet = self.lock();
        let known = fleet.get(policy).filter(|known| known.targets.is_some())?;
        let mut of_target =
            known.parts.values().flatten().filter(|outcome| outcome.target.id_and_object().0 == *target);
        Some(of_target.any(|outcome| outcome.summary.as_ref().is_some_and(|s| s.reason == Reason::InSync)))
    }

    /// The job on a target, as it was seen last.
    pub fn job_id(&self, policy: &PolicyKey, target: &SelectedTarget) -> Option<i32> {
        let fleet = self.lock();
        let mut targets = fleet.get(policy)?.parts.values().flatten().map(|outcome| &outcome.target);
        let same = |seen: &&SelectedTarget| {
            (seen.kind, &seen.name, &seen.object) == (target.kind, &target.name, &target.object)
        };
        targets.find(same)?.job_id
    }

    /// Remembers the targets that a policy has, and those of them whose resource is gone.
    pub fn remember(&self, policy: &PolicyKey, targets: Objects, gone: Objects) {
        if let Some(known) = self.lock().get_mut(policy) {
            (known.targets, known.gone) = (Some(targets), gone);
        }
    }

    /// The policies of this namespace that had this target, with the databases in which they have some.
    pub fn holders(&self, namespace: &str, target: &TargetId) -> Vec<(PolicyKey, Vec<DatabaseKey>)> {
        let fleet = self.lock();
        let held = fleet.iter().filter(|((_, of, _), known)| {
            of == namespace && known.targets.as_ref().is_some_and(|targets| targets.contains_key(target))
        });
        held.map(|(key, known)| (key.clone(), known.parts.keys().cloned().collect())).collect()
    }

    /// Forgets a policy that is gone.
    pub fn forget(&self, policy: &PolicyKey) {
        self.lock().remove(policy);
    }
}
