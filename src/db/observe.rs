//! The live catalog → [`Catalog`]: a fixed number of queries, whatever the number of objects.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};
use tokio_postgres::{
    Row, Statement,
    types::{Json, ToSql, Type},
};

use super::Session;
use crate::{
    api::{
        status::Reason,
        types::{Relation, SqlName},
    },
    catalog::{Aggregate, Catalog, Hypertable, Job, Jobs, Server, Tables, statistics::JobError},
    error::{Class, Failure, chain},
};

const SERVER: &str = include_str!("../../sql/catalog/server.sql");
const HYPERTABLES: &str = include_str!("../../sql/catalog/hypertables.sql");
const AGGREGATES: &str = include_str!("../../sql/catalog/aggregates.sql");
const JOB_ERRORS: &str = include_str!("../../sql/catalog/job_errors.sql");
const JOBS: &str = include_str!("../../sql/catalog/jobs.sql");
const JOBS_DIGEST: &str = include_str!("../../sql/catalog/jobs_digest.sql");
const TABLES_DIGEST: &str = include_str!("../../sql/catalog/tables_digest.sql");

/// The columns of what [`unless_known`] asks: the digest, in the first row alone; then, in all others, which of the queries
/// a value is of, and the value.
const DIGEST: usize = 0;
const PART: usize = 1;
const VALUE: usize = 2;

/// What the session has read already is not put together, sent and read again: the server compares the digest of the rows
/// that it would come from, in the snapshot of the observation.
fn unless_known(digest: &str, queries: &[&str], parameter: usize) -> String {
    let part = |(part, query): (usize, &&str)| {
        format!(
            "UNION ALL SELECT NULL, {part}, q.value FROM (\n{query}\n) q (value)
            WHERE (SELECT value FROM digest) IS DISTINCT FROM ${parameter}::text"
        )
    };
    let parts: Vec<_> = queries.iter().enumerate().map(part).collect();
    format!(
        "WITH digest (value) AS MATERIALIZED (\n{digest}\n)
        SELECT value, NULL::int, NULL::jsonb FROM digest {}",
        parts.join(" ")
    )
}

/// What a session has read last, and how it asks.
#[derive(Default)]
pub(super) struct Seen {
    installation: Option<i64>,
    prepared: Option<Prepared>,
    tables: Known<(Tables<Hypertable>, Tables<Aggregate>)>,
    jobs: Known<Jobs>,
}

/// The queries of an observation: planning them takes longer than carrying them out, where there is little.
#[derive(Clone)]
struct Prepared {
    tables: Statement,
    jobs: Statement,
}

/// An answer, and the digest of what it was made of; none yet.
struct Known<T> {
    digest: Option<String>,
    value: T,
}

impl<T: Default> Default for Known<T> {
    fn default() -> Self {
        Self { digest: None, value: T::default() }
    }
}

impl<T> Known<T> {
    /// Takes in what [`unless_known`] has answered: the digest alone, or with it the rows to read.
    fn learn(&mut self, rows: &[Row], read: impl FnOnce(&[Row]) -> Result<T, Failure>) -> Result<(), Failure> {
        let digest = rows.first().and_then(|row| row.try_get::<_, Option<String>>(DIGEST).ok().flatten());
        let digest = digest.ok_or_else(|| undecodable("an answer without its digest"))?;
        if self.digest.as_ref() != Some(&digest) {
            self.value = read(&rows[1..])?;
            self.digest = Some(digest);
        }
        Ok(())
    }
}

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
    /// Identifies the extension as it was created.
    installation: Option<i64>,
    #[serde(flatten)]
    server: Server,
}

impl Session {
    /// Lets a role plan whose transactions are read-only by default: the server reads texts in temporary objects, in
    /// transactions that are rolled back. A standby stays what it is.
    pub async fn allow_temporary_objects(&self) -> Result<(), Failure> {
        self.execute("SET default_transaction_read_only = off").await
    }

    /// Reads the catalog: three queries in one snapshot, pipelined. Indexes are read of the relations in `with_indexes` only.
    pub async fn observe(&self, with_indexes: &[&Relation]) -> Result<Catalog, Failure> {
        // Nothing is said to be so that a crash of the server could undo.
        self.flush().await?;
        let mut seen = self.seen.lock().await;
        let observed = async {
            self.execute(BEGIN).await?;
            let ServerRow { session, installation, server } = one(&self.query(SERVER, &[]).await?)?;
            self.must_be_marked(session.as_deref())?;
            if seen.installation.is_some_and(|before| installation != Some(before)) {
                return Err(installed_anew());
            }
            seen.installation = installation;
            if server.extension.is_none() {
                return Ok(Catalog { server, ..Catalog::default() });
            }
            self.read(with_indexes, &mut seen).await?;
            let (hypertables, aggregates) = seen.tables.value.clone();
            Ok(Catalog { server, hypertables, aggregates, jobs: seen.jobs.value.clone() })
        };
        let observed = observed.await;
        // Also after an error: the session must not stay in a failed transaction.
        let ended = self.execute("ROLLBACK").await;
        let catalog = observed?;
        ended?;
        Ok(catalog)
    }

    /// Brings what was seen to what is there.
    async fn read(&self, with_indexes: &[&Relation], seen: &mut Seen) -> Result<(), Failure> {
        let Prepared { tables, jobs } = if let Some(prepared) = &seen.prepared {
            prepared.clone()
        } else {
            let tables = unless_known(TABLES_DIGEST, &[HYPERTABLES, AGGREGATES], 3);
            let jobs = unless_known(JOBS_DIGEST, &[JOBS], 1);
            let (tables, jobs) = futures::try_join!(self.prepare(&tables), self.prepare(&jobs))?;
            seen.prepared.insert(Prepared { tables, jobs }).clone()
        };
        let (schemas, names) = split(with_indexes);
        let known_tables: [&(dyn ToSql + Sync); 3] = [&schemas, &names, &seen.tables.digest];
        let known_jobs: [&(dyn ToSql + Sync); 1] = [&seen.jobs.digest];
        let (tables, jobs) =
            futures::try_join!(self.query_prepared(&tables, &known_tables), self.query_prepared(&jobs, &known_jobs))?;
        seen.tables.learn(&tables, read_tables)?;
        seen.jobs.learn(&jobs, |rows| {
            Ok(rows.iter().map(|row| column::<Job>(row, VALUE)).collect::<Result<Vec<_>, _>>()?.into())
        })
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

/// The server's process of a session goes on with the extension that it has loaded, and finds its tables no more.
fn installed_anew() -> Failure {
    let message = "the extension timescaledb was dropped or created anew since the session began; a new one begins";
    Failure::new(Class::Transient, Reason::Retrying, message)
}

/// Puts the hypertables behind the aggregates where they belong.
fn read_tables(rows: &[Row]) -> Result<(Tables<Hypertable>, Tables<Aggregate>), Failure> {
    let (mut hosts, mut behind) = (Vec::new(), BTreeMap::new());
    for row in rows {
        match row.try_get(PART) {
            Ok(0) => hosts.push(entry::<Hypertable>(row, VALUE)?),
            Ok(1) => {
                let (relation, aggregate) = entry::<Aggregate>(row, VALUE)?;
                behind.insert(aggregate.hypertable.id, (relation, aggregate));
            }
            Ok(part) => return Err(undecodable(&format!("part {part}"))),
            Err(error) => return Err(undecodable(&chain(&error))),
        }
    }
    let (mut hypertables, mut aggregates) = (BTreeMap::new(), BTreeMap::new());
    for (relation, hypertable) in hosts {
        match behind.remove(&hypertable.id) {
            None => drop(hypertables.insert(relation, hypertable)),
            Some((view, aggregate)) => {
                let materialization = Some(relation);
                aggregates.insert(view, Aggregate { hypertable, materialization, ..aggregate });
            }
        }
    }
    Ok((hypertables.into(), aggregates.into()))
}

/// Schemas and names as two parallel arrays, for `unnest`.
pub(super) fn split<'a>(relations: &[&'a Relation]) -> (Vec<&'a str>, Vec<&'a str>) {
    relations.iter().map(|r| (r.schema.as_str(), r.name.as_str())).unzip()
}

/// Every row's one JSON column.
pub(super) fn all<T: DeserializeOwned>(rows: &[Row]) -> Result<Vec<T>, Failure> {
    rows.iter().map(decode).collect()
}

/// Every row's one JSON column, like [`Named`].
pub(super) fn named<T: DeserializeOwned>(rows: &[Row]) -> Result<Vec<(Relation, T)>, Failure> {
    rows.iter().map(|row| entry(row, 0)).collect()
}

/// Name and value are each read from the text, because `serde(flatten)` makes a copy of the whole in between.
fn entry<T: DeserializeOwned>(row: &Row, index: usize) -> Result<(Relation, T), Failure> {
    let Name { schema, name } = column(row, index)?;
    Ok((Relation { schema, name }, column(row, index)?))
}

fn decode<T: DeserializeOwned>(row: &Row) -> Result<T, Failure> {
    column(row, 0)
}

fn column<T: DeserializeOwned>(row: &Row, index: usize) -> Result<T, Failure> {
    row.try_get(index).map(|Json(value)| value).map_err(|e| undecodable(&chain(&e)))
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
