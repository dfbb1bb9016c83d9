//! What a catalog holds, so that it is found by what others know of it: a plan asks that for every claim.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map},
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize};

use super::{Aggregate, Hypertable, Job};
use crate::api::types::Relation;

/// What has an id in TimescaleDB's catalog.
pub trait Catalogued {
    /// `_timescaledb_catalog.hypertable.id`; of an aggregate that of the hypertable behind it.
    fn id(&self) -> i32;
    /// The hypertable that it reads.
    fn source_id(&self) -> Option<i32>;
}

impl Catalogued for Hypertable {
    fn id(&self) -> i32 {
        self.id
    }

    fn source_id(&self) -> Option<i32> {
        None
    }
}

impl Catalogued for Aggregate {
    fn id(&self) -> i32 {
        self.hypertable.id
    }

    fn source_id(&self) -> Option<i32> {
        Some(self.source_id)
    }
}

/// Hypertables or aggregates by their names, found by their ids and sources too. A clone shares them until one of both is
/// changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Relation, T>", into = "BTreeMap<Relation, T>")]
#[serde(bound(serialize = "T: Clone + Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct Tables<T>(Arc<Indexed<T>>);

#[derive(Clone, Debug)]
struct Indexed<T> {
    all: BTreeMap<Relation, T>,
    /// Made when it is asked for, and again after a change.
    index: OnceLock<Index>,
}

#[derive(Clone, Debug, Default)]
struct Index {
    names: HashMap<i32, Relation>,
    readers: HashMap<i32, BTreeSet<Relation>>,
}

impl Index {
    fn add(&mut self, relation: &Relation, table: &impl Catalogued) {
        self.names.insert(table.id(), relation.clone());
        if let Some(source) = table.source_id() {
            self.readers.entry(source).or_default().insert(relation.clone());
        }
    }
}

impl<T: Catalogued + Clone> Tables<T> {
    /// Adds one, in place of another of its name.
    pub fn insert(&mut self, relation: Relation, table: T) -> Option<T> {
        let Indexed { all, index } = Arc::make_mut(&mut self.0);
        if all.contains_key(&relation) {
            index.take();
        }
        if let Some(index) = index.get_mut() {
            index.add(&relation, &table);
        }
        all.insert(relation, table)
    }

    /// One, to be changed in all but its id and its source.
    pub fn get_mut(&mut self, relation: &Relation) -> Option<&mut T> {
        Arc::make_mut(&mut self.0).all.get_mut(relation)
    }
}

impl<T> Tables<T> {
    /// These are the very same, not only equal: none of both was changed since one was cloned from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: Catalogued> Tables<T> {
    /// The name of the one with this id.
    pub fn name_of(&self, id: i32) -> Option<&Relation> {
        self.index().names.get(&id)
    }

    /// Those that read the hypertable with this id, by name.
    pub fn readers(&self, source_id: i32) -> impl Iterator<Item = (&Relation, &T)> {
        let readers = self.index().readers.get(&source_id).into_iter().flatten();
        readers.filter_map(|relation| self.get_key_value(relation))
    }

    fn index(&self) -> &Index {
        self.0.index.get_or_init(|| {
            let mut index = Index::default();
            for (relation, table) in &self.0.all {
                index.add(relation, table);
            }
            index
        })
    }
}

impl<T> Default for Tables<T> {
    fn default() -> Self {
        BTreeMap::new().into()
    }
}

impl<T> Deref for Tables<T> {
    type Target = BTreeMap<Relation, T>;

    fn deref(&self) -> &Self::Target {
        &self.0.all
    }
}

impl<T: Clone> DerefMut for Tables<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        let Indexed { all, index } = Arc::make_mut(&mut self.0);
        index.take();
        all
    }
}

impl<T: PartialEq> PartialEq for Tables<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.0.all == other.0.all
    }
}

impl<T> FromIterator<(Relation, T)> for Tables<T> {
    fn from_iter<I: IntoIterator<Item = (Relation, T)>>(all: I) -> Self {
        all.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl<T> From<BTreeMap<Relation, T>> for Tables<T> {
    fn from(all: BTreeMap<Relation, T>) -> Self {
        Self(Arc::new(Indexed { all, index: OnceLock::new() }))
    }
}

impl<T: Clone> From<Tables<T>> for BTreeMap<Relation, T> {
    fn from(tables: Tables<T>) -> Self {
        Arc::unwrap_or_clone(tables.0).all
    }
}

impl<'a, T> IntoIterator for &'a Tables<T> {
    type Item = (&'a Relation, &'a T);
    type IntoIter = btree_map::Iter<'a, Relation, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.all.iter()
    }
}

/// Policy jobs in the order of their ids, found by their hypertables too. A clone shares them until one of both is changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Job>", into = "Vec<Job>")]
pub struct Jobs(Arc<IndexedJobs>);

#[derive(Clone, Debug, Default)]
struct IndexedJobs {
    all: Vec<Job>,
    /// Positions by hypertable. Made when it is asked for, and again after a change.
    of: OnceLock<HashMap<i32, Vec<usize>>>,
}

impl Jobs {
    /// Those on the hypertable with this id.
    pub fn of(&self, hypertable_id: i32) -> impl Iterator<Item = &Job> {
        let index = self.0.of.get_or_init(|| {
            let mut index: HashMap<i32, Vec<usize>> = HashMap::new();
            for (position, job) in self.iter().enumerate() {
                index.entry(job.hypertable_id).or_default().push(position);
            }
            index
        });
        index.get(&hypertable_id).into_iter().flatten().map(|position| &self[*position])
    }

    /// Adds one behind all others.
    pub fn push(&mut self, job: Job) {
        let IndexedJobs { all, of } = Arc::make_mut(&mut self.0);
        if let Some(index) = of.get_mut() {
            index.entry(job.hypertable_id).or_default().push(all.len());
        }
        all.push(job);
    }

    /// The one with this id, to be changed in all but its hypertable.
    pub fn with_id(&mut self, id: i32) -> Option<&mut Job> {
        Arc::make_mut(&mut self.0).all.iter_mut().find(|job| job.id == id)
    }

    /// These are the very same, not only equal: none of both was changed since one was cloned from the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Jobs {
    type Target = Vec<Job>;

    fn deref(&self) -> &Vec<Job> {
        &self.0.all
    }
}

impl DerefMut for Jobs {
    fn deref_mut(&mut self) -> &mut Vec<Job> {
        let IndexedJobs { all, of } = Arc::make_mut(&mut self.0);
        of.take();
        all
    }
}

impl PartialEq for Jobs {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.0.all == other.0.all
    }
}

impl FromIterator<Job> for Jobs {
    fn from_iter<I: IntoIterator<Item = Job>>(all: I) -> Self {
        all.into_iter().collect::<Vec<_>>().into()
    }
}

impl From<Vec<Job>> for Jobs {
    fn from(all: Vec<Job>) -> Self {
        Self(Arc::new(IndexedJobs { all, of: OnceLock::new() }))
    }
}

impl From<Jobs> for Vec<Job> {
    fn from(jobs: Jobs) -> Self {
        Arc::unwrap_or_clone(jobs.0).all
    }
}

impl<'a> IntoIterator for &'a Jobs {
    type Item = &'a Job;
    type IntoIter = std::slice::Iter<'a, Job>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str) -> Relation {
        format!("public.{name}").parse().unwrap()
    }

    fn table(id: i32) -> Hypertable {
        Hypertable { id, ..Hypertable::default() }
    }

    fn aggregate(id: i32, source_id: i32) -> Aggregate {
        Aggregate {
            hypertable: table(id),
            materialization: None,
            source_id,
            materialized_only: false,
            fingerprint: String::new(),
            bucket: None,
            comment: None,
        }
    }

    #[test]
    fn tables_are_found_by_id_after_every_change() {
        let mut tables: Tables<_> = [(relation("a"), table(1))].into_iter().collect();
        assert_eq!(tables.name_of(1), Some(&relation("a")));
        tables.insert(relation("b"), table(2));
        assert_eq!(tables.name_of(2), Some(&relation("b")));
        tables.insert(relation("b"), table(3));
        assert_eq!((tables.name_of(2), tables.name_of(3)), (None, Some(&relation("b"))));
        tables.remove(&relation("a"));
        assert_eq!(tables.name_of(1), None);
    }

    #[test]
    fn aggregates_are_found_by_what_they_read_in_the_order_of_their_names() {
        let mut aggregates = Tables::default();
        for (name, id) in [("c", 12), ("a", 10), ("b", 11)] {
            aggregates.insert(relation(name), aggregate(id, 1));
            assert!(aggregates.readers(1).any(|(reader, _)| *reader == relation(name)));
        }
        aggregates.insert(relation("d"), aggregate(13, 10));
        let readers = |all: &Tables<Aggregate>, id| all.readers(id).map(|(_, a)| a.hypertable.id).collect::<Vec<_>>();
        assert_eq!(readers(&aggregates, 1), [10, 11, 12]);
        assert_eq!(readers(&aggregates, 10), [13]);
        aggregates.remove(&relation("b"));
        assert_eq!(readers(&aggregates, 1), [10, 12]);
    }

    #[test]
    fn jobs_are_found_by_hypertable_after_every_change() {
        let job = |id: i32, hypertable_id: i32| {
            let job = serde_json::json!({
                "id": id, "hypertable_id": hypertable_id, "policy": {"retention": {"after": null}},
                "schedule_interval": "1 day", "max_runtime": "0 days", "max_retries": -1, "retry_period": "1 hour",
            });
            serde_json::from_value::<Job>(job).unwrap()
        };
        let ids = |jobs: &Jobs, hypertable| jobs.of(hypertable).map(|job| job.id).collect::<Vec<_>>();
        let mut jobs = Jobs::from(vec![job(1000, 1), job(1001, 2), job(1002, 1)]);
        assert_eq!(ids(&jobs, 1), [1000, 1002]);
        jobs.push(job(1003, 2));
        assert_eq!(ids(&jobs, 2), [1001, 1003]);
        jobs.retain(|job| job.id != 1001);
        assert_eq!((ids(&jobs, 1), ids(&jobs, 2)), (vec![1000, 1002], vec![1003]));
        jobs.with_id(1003).unwrap().scheduled = false;
        assert!(!jobs.of(2).next().unwrap().scheduled);
    }
}
