//! The live catalog → [`Catalog`]: a fixed number of queries, whatever the number of objects.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};
use tokio_postgres::{
    Row,
    types::{Json, ToSql, Type},
};

use super::Session;
use crate::{
    api::{
        status::Reason,
        types::{Relation, SqlName},
    },
    catalog::{Aggregate, Catalog, Hypertable, Job, Server, statistics::JobError},
    error::{Class, Failure, chain},
};

const SERVER: &str = include_str!("../../sql/catalog/server.sql");
const HYPERTABLES: &str = include_str!("../../sql/catalog/hypertables.sql");
const AGGREGATES: &str = include_str!("../../sql/catalog/aggregates.sql");
const JOB_ERRORS: &str = include_str!("../../sql/catalog/job_errors.sql");
const JOBS: &str = include_str!("../../sql/catalog/jobs.sql");

/// The observation reads one snapshot and holds no lock beyond its transaction.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What belongs to a relation, as the queries return it.
#[derive(Deserialize)]
pub(super) struct Named<T> {
    schema: SqlName,
    name: SqlName,
    #[serde(flatten)]
    value: T,
}

impl<T> Named<T> {
    pub(super) fn into_entry(self) -> (Relation, T) {
        (Relation { schema: self.schema, name: self.name }, self.value)
    }
}

/// The name alone.
#[derive(Deserialize)]
struct Name {
    schema: SqlName,
    name: SqlName,
}

#[derive(Deserialize)]
struct ServerRow {
    /// The mark of the session that answers.
    session: Option<String>,
    #[serde(flatten)]
    server: Server,
}

impl Session {
    /// Lets a role plan whose transactions are read-only by default: the server reads texts in temporary objects, in
    /// transactions that are rolled back. A standby stays what it is.
    pub async fn allow_temporary_objects(&self) -> Result<(), Failure> {
        self.execute("SET default_transaction_read_only = off").await
    }

    /// Reads the catalog: four queries in one snapshot, pipelined. Indexes are read of the relations in `with_indexes` only.
    pub async fn observe(&self, with_indexes: &[&Relation]) -> Result<Catalog, Failure> {
        let (schemas, names) = split(with_indexes);
        // Nothing is said to be so that a crash of the server could undo.
        self.flush().await?;
        let observed = async {
            self.execute(BEGIN).await?;
            let ServerRow { session, server } = one(&self.query(SERVER, &[]).await?)?;
            self.must_be_marked(session.as_deref())?;
            let mut catalog = Catalog { server, ..Catalog::default() };
            if catalog.server.extension.is_some() {
                let indexed: [(&(dyn ToSql + Sync), Type); 2] =
                    [(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)];
                let (hypertables, aggregates, jobs) = futures::try_join!(
                    self.query(HYPERTABLES, &indexed),
                    self.query(AGGREGATES, &[]),
                    self.query(JOBS, &[]),
                )?;
                catalog.jobs = all::<Job>(&jobs)?.into();
                let mut behind: BTreeMap<i32, (Relation, Aggregate)> = BTreeMap::new();
                for (relation, aggregate) in named::<Aggregate>(&aggregates)? {
                    behind.insert(aggregate.hypertable.id, (relation, aggregate));
                }
                for (relation, hypertable) in named::<Hypertable>(&hypertables)? {
                    match behind.remove(&hypertable.id) {
                        None => drop(catalog.hypertables.insert(relation, hypertable)),
                        Some((view, aggregate)) => {
                            let materialization = Some(relation);
                            catalog.aggregates.insert(view, Aggregate { hypertable, materialization, ..aggregate });
                        }
                    }
                }
            }
            Ok(catalog)
        };
        let observed = observed.await;
        // Also after an error: the session must not stay in a failed transaction.
        let ended = self.execute("ROLLBACK").await;
        let catalog = observed?;
        ended?;
        Ok(catalog)
    }

    /// Reads the last error of each of these jobs, by `job_id`: of those whose errors the role may read. One query.
    pub async fn job_errors(&self, ids: &BTreeSet<i32>) -> Result<BTreeMap<i32, JobError>, Failure> {
        #[derive(Deserialize)]
        struct LastError {
            job_id: i32,
            #[serde(flatten)]
            error: JobError,
        }
        let ids: Vec<i32> = ids.iter().copied().collect();
        match self.query(JOB_ERRORS, &[(&ids, Type::INT4_ARRAY)]).await {
            Ok(rows) => Ok(all::<LastError>(&rows)?.into_iter().map(|row| (row.job_id, row.error)).collect()),
            Err(failure) if failure.reason == Reason::PermissionDenied => Ok(BTreeMap::new()),
            Err(failure) => Err(failure),
        }
    }
}

/// Schemas and names as two parallel arrays, for `unnest`.
pub(super) fn split<'a>(relations: &[&'a Relation]) -> (Vec<&'a str>, Vec<&'a str>) {
    relations.iter().map(|r| (r.schema.as_str(), r.name.as_str())).unzip()
}

/// Every row's one JSON column.
pub(super) fn all<T: DeserializeOwned>(rows: &[Row]) -> Result<Vec<T>, Failure> {
    rows.iter().map(decode).collect()
}

/// Every row's one JSON column, like [`Named`]. Name and value are each read from the text, because `serde(flatten)` makes a
/// copy of the whole in between: for what is read in every pass.
pub(super) fn named<T: DeserializeOwned>(rows: &[Row]) -> Result<Vec<(Relation, T)>, Failure> {
    let entry = |row: &Row| {
        let Name { schema, name } = decode(row)?;
        Ok((Relation { schema, name }, decode(row)?))
    };
    rows.iter().map(entry).collect()
}

fn decode<T: DeserializeOwned>(row: &Row) -> Result<T, Failure> {
    row.try_get(0).map(|Json(value)| value).map_err(|e| undecodable(&chain(&e)))
}

/// The first row's one JSON column.
pub(super) fn one<T: DeserializeOwned>(rows: &[Row]) -> Result<T, Failure> {
    all(rows)?.into_iter().next().ok_or_else(|| undecodable("no row"))
}

fn undecodable(problem: &str) -> Failure {
    Failure::new(
        Class::Bug,
        Reason::InternalError,
        format!("the catalog holds something this operator cannot read: {problem}; please report it"),
    )
}
