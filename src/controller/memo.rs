//! What a pass has worked out of what it saw, for the next one that sees the very same.

use std::sync::Arc;

use crate::{
    api::{TimescaleDatabase, timescale_database::Defaults},
    catalog::Catalog,
    desired::{self, Attached, Desired},
    monitoring::snapshot::Managed,
    plan::step::Plan,
};

/// Desired state and plan of the last pass. Both are functions of resources and catalog alone, so they are the same as long
/// as those are; what those are is asked anew in every pass.
#[derive(Default)]
pub struct Memo {
    collected: Option<Collected>,
    planned: Option<Planned>,
}

struct Collected {
    /// As it is in the store, that is without the operator's defaults.
    database: Arc<TimescaleDatabase>,
    managed: Arc<Managed>,
    desired: Arc<Desired>,
}

struct Planned {
    desired: Arc<Desired>,
    catalog: Arc<Catalog>,
    plan: Arc<Plan>,
}

impl Memo {
    /// The resources as readers see them, and what they want.
    pub fn collect(
        &mut self,
        database: &Arc<TimescaleDatabase>,
        attached: Attached,
        operator: &Defaults,
    ) -> (Arc<Managed>, Arc<Desired>) {
        let last = self.collected.take();
        let is_same =
            |last: &Collected| Arc::ptr_eq(&last.database, database) && last.managed.attached.is_same(&attached);
        let collected = last.filter(is_same).unwrap_or_else(|| {
            let (whole, operator_defaults) = desired::with_operator_defaults(database, operator);
            let desired = desired::collect(&whole, &attached);
            let managed = Arc::new(Managed { database: whole, operator_defaults, attached });
            Collected { database: database.clone(), managed, desired: Arc::new(desired) }
        });
        let found = (collected.managed.clone(), collected.desired.clone());
        self.collected = Some(collected);
        found
    }

    /// The plan of the last pass, where it was made of the same.
    pub fn plan(&self, desired: &Arc<Desired>, catalog: &Catalog) -> Option<Arc<Plan>> {
        let planned = self.planned.as_ref().filter(|p| Arc::ptr_eq(&p.desired, desired) && *p.catalog == *catalog)?;
        Some(planned.plan.clone())
    }

    /// Keeps a plan that was made of nothing else: without asking the database, and with no steps under way.
    pub fn keep(&mut self, desired: &Arc<Desired>, catalog: &Arc<Catalog>, plan: &Arc<Plan>) {
        let (desired, catalog, plan) = (desired.clone(), catalog.clone(), plan.clone());
        self.planned = Some(Planned { desired, catalog, plan });
    }
}
