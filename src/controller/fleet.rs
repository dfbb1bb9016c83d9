//! Policies that select their targets by labels: what became of them in every database where they have some.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use super::stores::DatabaseKey;
use crate::{desired::Kind, status::Outcome};

/// Kind, namespace and name of a policy.
pub type PolicyKey = (Kind, String, String);

/// What every database has had to say of the policies that select targets in it. Each pass over a database replaces its
/// part; a policy's status is made of all parts.
#[derive(Default)]
pub struct Fleet(Mutex<HashMap<PolicyKey, BTreeMap<DatabaseKey, Vec<Outcome>>>>);

impl Fleet {
    /// Takes note of what became of a policy in one database, and returns what became of it in all of `databases`, those
    /// in which it has targets; `None` while one of them has not been looked at yet since the operator started.
    pub fn note(
        &self,
        policy: PolicyKey,
        database: &DatabaseKey,
        outcomes: Vec<Outcome>,
        databases: &BTreeSet<DatabaseKey>,
    ) -> Option<Vec<Outcome>> {
        let mut fleet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = fleet.entry(policy).or_default();
        parts.insert(database.clone(), outcomes);
        parts.retain(|key, _| databases.contains(key));
        let complete = databases.iter().all(|key| parts.contains_key(key));
        complete.then(|| parts.values().flatten().cloned().collect())
    }

    /// Forgets a policy that is gone.
    pub fn forget(&self, policy: &PolicyKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(policy);
    }
}
