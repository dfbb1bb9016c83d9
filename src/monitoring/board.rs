//! Where passes leave what they saw, and readers find it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::snapshot::Snapshot;

/// Namespace and name of a `TimescaleDatabase`.
pub type DatabaseKey = (String, String);

/// The snapshots of all databases. A reader never waits for a database, and a pass never for a reader: both only swap or
/// copy a pointer.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<RwLock<BTreeMap<DatabaseKey, Arc<Snapshot>>>>);

impl Board {
    /// The snapshots of all databases, by key.
    pub fn all(&self) -> BTreeMap<DatabaseKey, Arc<Snapshot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The snapshot of one database.
    pub fn get(&self, key: &DatabaseKey) -> Option<Arc<Snapshot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Changes the snapshot of a database.
    pub fn update(&self, key: &DatabaseKey, change: impl FnOnce(&mut Snapshot)) {
        // A panic in `change` leaves the map whole: the new snapshot is put in place after it.
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut snapshot = all.get(key).map(|snapshot| (**snapshot).clone()).unwrap_or_default();
        change(&mut snapshot);
        all.insert(key.clone(), Arc::new(snapshot));
    }

    /// The database is not looked after any more.
    pub fn forget(&self, key: &DatabaseKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
