//! What a pass has worked out of what it saw, for the next one that sees the very same.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::ResourceExt;

use super::attached::{Member, members};
use crate::{
    api::{
        TimescaleDatabase,
        timescale_database::{Defaults, HealthThresholds},
        types::Relation,
    },
    catalog::Catalog,
    desired::{self, Attached, Desired, ResourceId},
    monitoring::{
        snapshot::{JobReport, Managed, Reading, Reasons},
        table_health::{self, TableHealth},
    },
    plan::step::Plan,
};

/// What the last pass has worked out. All of it are functions of resources and catalog alone, so it is the same as long as
/// those are; what those are is asked anew in every pass.
#[derive(Default)]
pub struct Memo {
    collected: Option<Arc<Collected>>,
    catalog: Arc<Catalog>,
    jobs: Arc<BTreeMap<i32, JobReport>>,
    planned: Option<Planned>,
    judged: Option<Judged>,
    said: Option<Said>,
}

/// What there is to look after.
pub struct Collected {
    /// As it is in the store, that is without the operator's defaults.
    database: Arc<TimescaleDatabase>,
    /// The resources as readers see them.
    pub managed: Arc<Managed>,
    /// Those attached, by id.
    pub members: BTreeMap<ResourceId, Member>,
    /// What they want.
    pub desired: Desired,
}

struct Planned {
    collected: Arc<Collected>,
    catalog: Arc<Catalog>,
    plan: Arc<Plan>,
}

struct Judged {
    catalog: Arc<Catalog>,
    reading: Arc<Reading>,
    jobs: Arc<BTreeMap<i32, JobReport>>,
    thresholds: HealthThresholds,
    tables: Arc<BTreeMap<Relation, TableHealth>>,
}

/// Everything that the attached resources say comes from.
#[derive(Clone)]
pub struct Sources {
    /// The resources, which have their statuses.
    pub collected: Arc<Collected>,
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// The plan of both, in which nothing failed.
    pub plan: Arc<Plan>,
    /// How the jobs do.
    pub jobs: Arc<BTreeMap<i32, JobReport>>,
    /// How the tables do.
    pub tables: Arc<BTreeMap<Relation, TableHealth>>,
    /// The sizes.
    pub reading: Option<Arc<Reading>>,
}

impl Sources {
    fn are_same(&self, others: &Self) -> bool {
        let Self { collected, catalog, plan, jobs, tables, reading } = self;
        Arc::ptr_eq(collected, &others.collected)
            && Arc::ptr_eq(catalog, &others.catalog)
            && Arc::ptr_eq(plan, &others.plan)
            && Arc::ptr_eq(jobs, &others.jobs)
            && Arc::ptr_eq(tables, &others.tables)
            && reading.as_ref().map(Arc::as_ptr) == others.reading.as_ref().map(Arc::as_ptr)
    }
}

/// That every resource says what it is to say.
struct Said {
    at: Instant,
    sources: Sources,
    totals: Totals,
}

/// What the resources of a database say, in numbers.
#[derive(Clone, Default)]
pub struct Totals {
    /// How many of a kind give a reason.
    pub reasons: Reasons,
    /// Those that are as they are wanted.
    pub in_sync: i64,
}

impl Memo {
    /// The resources, and what they want.
    pub fn collect(
        &mut self,
        database: &Arc<TimescaleDatabase>,
        attached: Attached,
        operator: &Defaults,
    ) -> Arc<Collected> {
        let is_same =
            |last: &&Arc<Collected>| Arc::ptr_eq(&last.database, database) && last.managed.attached.is_same(&attached);
        if let Some(last) = self.collected.as_ref().filter(is_same) {
            return last.clone();
        }
        // What was made of the last is let go of first: both at once would be the most memory that is ever held.
        (self.collected, self.planned, self.said) = (None, None, None);
        let (whole, operator_defaults) = desired::with_operator_defaults(database, operator);
        let desired = desired::collect(&whole, &attached);
        let members = members(&attached, &database.name_any(), &database.namespace().unwrap_or_default());
        let managed = Arc::new(Managed { database: whole, operator_defaults, attached });
        let collected = Arc::new(Collected { database: database.clone(), managed, members, desired });
        self.collected.insert(collected).clone()
    }

    /// The catalog as it was observed: the one of the last pass, where that is equal.
    pub fn catalog(&mut self, observed: Catalog) -> Arc<Catalog> {
        kept(&mut self.catalog, observed)
    }

    /// How the jobs do, likewise.
    pub fn jobs(&mut self, reports: BTreeMap<i32, JobReport>) -> Arc<BTreeMap<i32, JobReport>> {
        kept(&mut self.jobs, reports)
    }

    /// The plan of the last pass, where it was made of the same.
    pub fn plan(&self, collected: &Arc<Collected>, catalog: &Arc<Catalog>) -> Option<Arc<Plan>> {
        let is_same = |p: &&Planned| Arc::ptr_eq(&p.collected, collected) && Arc::ptr_eq(&p.catalog, catalog);
        Some(self.planned.as_ref().filter(is_same)?.plan.clone())
    }

    /// Keeps a plan that was made of nothing else: without asking the database, and with no steps under way.
    pub fn keep_plan(&mut self, collected: &Arc<Collected>, catalog: &Arc<Catalog>, plan: &Arc<Plan>) {
        let (collected, catalog, plan) = (collected.clone(), catalog.clone(), plan.clone());
        self.planned = Some(Planned { collected, catalog, plan });
    }

    /// How the tables do.
    pub fn tables(
        &mut self,
        catalog: &Arc<Catalog>,
        reading: &Arc<Reading>,
        jobs: &Arc<BTreeMap<i32, JobReport>>,
        thresholds: &HealthThresholds,
    ) -> Arc<BTreeMap<Relation, TableHealth>> {
        let is_same = |last: &&Judged| {
            Arc::ptr_eq(&last.catalog, catalog)
                && Arc::ptr_eq(&last.reading, reading)
                && Arc::ptr_eq(&last.jobs, jobs)
                && last.thresholds == *thresholds
        };
        if let Some(last) = self.judged.as_ref().filter(is_same) {
            return last.tables.clone();
        }
        let tables = Arc::new(table_health::judge_all(catalog, &reading.statistics, jobs, thresholds));
        let (catalog, reading, jobs) = (catalog.clone(), reading.clone(), jobs.clone());
        let judged = Judged { catalog, reading, jobs, thresholds: *thresholds, tables: tables.clone() };
        self.judged = Some(judged);
        tables
    }

    /// What the resources say, where the last pass found that every one of them says what comes from the same. What is told
    /// of jobs at intervals may wait for so long.
    pub fn said(&self, sources: &Sources, longest: Duration) -> Option<Totals> {
        let said = self.said.as_ref()?;
        (said.sources.are_same(sources) && said.at.elapsed() < longest).then(|| said.totals.clone())
    }

    /// Keeps that every resource was found to say what it is to say.
    pub fn keep_said(&mut self, sources: Sources, totals: Totals) {
        self.said = Some(Said { at: Instant::now(), sources, totals });
    }
}

fn kept<T: PartialEq>(last: &mut Arc<T>, now: T) -> Arc<T> {
    if **last != now {
        *last = Arc::new(now);
    }
    last.clone()
}
