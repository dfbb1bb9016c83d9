//! What the stages of one pass share.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kube::Resource;

use super::{Context, apply::Holding, attached::Member, memo::Collected, report::Note, state::State};
use crate::{
    api::{TimescaleDatabase, types::Relation},
    catalog::Catalog,
    desired::{ClaimId, Pace, ResourceId},
    error::Failure,
    monitoring::{DatabaseKey, snapshot::JobReport, table_health::TableHealth},
    plan::step::Plan,
};

/// One pass, with all that its stages share.
pub(super) struct Pass<'a> {
    pub(super) database: &'a TimescaleDatabase,
    pub(super) namespace: String,
    pub(super) pace: Pace,
    /// The database's resource, those attached to it, and what they want.
    pub(super) collected: Arc<Collected>,
    /// The database's resource holds our finalizer.
    pub(super) held: bool,
    /// Resources that were read anew in this pass and found as they were seen. The database's own is `None`.
    pub(super) confirmed: BTreeSet<Option<ResourceId>>,
    /// Finalizers on the way.
    pub(super) holding: Holding,
    pub(super) state: &'a mut State,
    pub(super) context: &'a Context,
    pub(super) findings: Findings,
}

/// What a pass finds out, to be reported.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) catalog: Option<Arc<Catalog>>,
    /// How the jobs in it do.
    pub(super) jobs: Arc<BTreeMap<i32, JobReport>>,
    /// How the tables in it do.
    pub(super) tables: Arc<BTreeMap<Relation, TableHealth>>,
    /// Sizes and backlogs are to be read so soon, of something new.
    pub(super) read_in: Option<Duration>,
    /// The last plan, which has nothing to do any more but what fails or runs.
    pub(super) plan: Arc<Plan>,
    pub(super) failures: BTreeMap<ClaimId, Failure>,
    /// The monitoring views were installed in this pass.
    pub(super) monitoring_installed: bool,
    /// Why the monitoring views could not be installed.
    pub(super) monitoring_failure: Option<Failure>,
    /// What was done for each claim in this pass, and is to be published.
    pub(super) notes: BTreeMap<ClaimId, Note>,
    /// The claims of which it has been.
    pub(super) told: BTreeSet<ClaimId>,
}

impl Pass<'_> {
    /// The database's resource is being deleted.
    pub(super) fn is_deleting(&self) -> bool {
        self.database.meta().deletion_timestamp.is_some()
    }

    /// Namespace and name of the database's resource.
    pub(super) fn key(&self) -> DatabaseKey {
        (self.namespace.clone(), self.database.meta().name.clone().unwrap_or_default())
    }

    /// The attached resources, by id.
    pub(super) fn members(&self) -> &BTreeMap<ResourceId, Member> {
        &self.collected.members
    }

    /// The attached resources whose deletion undoes something in the database.
    pub(super) fn holders(&self) -> impl Iterator<Item = (&ResourceId, &Member)> {
        self.members().iter().filter(|(_, member)| member.has_finalizer())
    }

    /// All resources whose deletion undoes something in the database.
    pub(super) fn users(&self) -> BTreeSet<ResourceId> {
        let mut users = self.context.stores.bereft(&self.key());
        users.extend(self.holders().map(|(id, _)| id.clone()));
        users
    }
}
