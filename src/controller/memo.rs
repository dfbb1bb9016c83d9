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

/// What the last pass has worked out. It comes from resources and catalog alone, so it is the same as long as those are; what
/// those are is asked anew in every pass.
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

    /// The resources are being told something: what watches have shown of them so far says no more what they say.
    pub fn forget_said(&mut self) {
        self.said = None;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::statistics::Statistics;

    const LONG: Duration = Duration::from_mins(5);

    fn database() -> Arc<TimescaleDatabase> {
        let resource = json!({
            "apiVersion": "timescaledb-policy.io/v1alpha1", "kind": "TimescaleDatabase",
            "metadata": {"namespace": "factory", "name": "plant"},
            "spec": {"connection": {"secretRef": {"name": "plant"}}},
        });
        Arc::new(serde_json::from_value(resource).unwrap())
    }

    fn catalog(version: &str) -> Catalog {
        let mut catalog = Catalog::default();
        catalog.server.license = Some(version.to_owned());
        catalog
    }

    /// What a pass over these goes by.
    fn seen(memo: &mut Memo, database: &Arc<TimescaleDatabase>, catalog: Catalog) -> Sources {
        let collected = memo.collect(database, Attached::default(), &Defaults::default());
        let catalog = memo.catalog(catalog);
        let plan = memo.plan(&collected, &catalog).unwrap_or_default();
        memo.keep_plan(&collected, &catalog, &plan);
        let reading =
            Arc::new(Reading { at: jiff::Timestamp::UNIX_EPOCH, took: LONG, statistics: Statistics::default() });
        let jobs = memo.jobs(BTreeMap::new());
        let reading = memo.judged.as_ref().map_or(reading, |judged| judged.reading.clone());
        let tables = memo.tables(&catalog, &reading, &jobs, &collected.managed.database.spec.health_thresholds);
        Sources { collected, catalog, plan, jobs, tables, reading: Some(reading) }
    }

    #[test]
    fn what_was_said_counts_while_everything_is_the_very_same() {
        let (mut memo, resource) = (Memo::default(), database());
        let first = seen(&mut memo, &resource, catalog("timescale"));
        assert!(memo.said(&first, LONG).is_none(), "nobody has looked yet");
        memo.keep_said(first, Totals { in_sync: 7, ..Totals::default() });
        let again = seen(&mut memo, &resource, catalog("timescale"));
        assert_eq!(memo.said(&again, LONG).map(|totals| totals.in_sync), Some(7));
        assert!(memo.said(&again, Duration::ZERO).is_none(), "it is looked at again from time to time");

        let other = seen(&mut memo, &resource, catalog("apache"));
        assert!(memo.said(&other, LONG).is_none(), "another catalog");
        let back = seen(&mut memo, &resource, catalog("timescale"));
        assert!(memo.said(&back, LONG).is_none(), "what was in between may have been told");
        memo.keep_said(back, Totals::default());
        let written = seen(&mut memo, &database(), catalog("timescale"));
        assert!(memo.said(&written, LONG).is_none(), "another version of a resource");
        memo.keep_said(written.clone(), Totals::default());
        memo.forget_said();
        assert!(memo.said(&written, LONG).is_none());
    }

    #[test]
    fn a_plan_is_for_one_catalog_and_one_set_of_resources() {
        let (mut memo, resource) = (Memo::default(), database());
        let seen = seen(&mut memo, &resource, catalog("timescale"));
        assert!(memo.plan(&seen.collected, &seen.catalog).is_some());
        let other = memo.catalog(catalog("apache"));
        assert!(memo.plan(&seen.collected, &other).is_none());
        let collected = memo.collect(&database(), Attached::default(), &Defaults::default());
        assert!(memo.plan(&collected, &seen.catalog).is_none());
    }
}
