//! What an import reads besides the catalog: what no resource can say, and the texts of queries.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::api::types::{Relation, SqlName};

/// What an import needs to know beyond the [`crate::catalog::Catalog`]. What is not listed is as TimescaleDB makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the database.
    pub database: String,
    /// By the id of the hypertable, of those behind aggregates too.
    pub tables: BTreeMap<i32, TableDetails>,
    /// The continuous aggregates.
    pub aggregates: BTreeMap<Relation, AggregateDetails>,
    /// Jobs of other kinds than the policies that resources speak of.
    pub jobs: Vec<OtherJob>,
    /// By the id of a policy's job: keys of its config that no resource speaks of.
    pub config_keys: BTreeMap<i32, Vec<String>>,
}

/// What the catalog does not tell of a hypertable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TableDetails {
    /// Partitioning functions of somebody's own, by the column of the dimension.
    #[serde(default)]
    pub partitioning_functions: BTreeMap<SqlName, String>,
    /// The schema of its chunks, where that is not TimescaleDB's own.
    #[serde(default)]
    pub chunk_schema: Option<String>,
    /// The indexes.
    #[serde(default)]
    pub indexes: BTreeMap<SqlName, IndexDetails>,
}

/// What the catalog does not tell of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct IndexDetails {
    /// Its `CREATE INDEX`, as the server prints it.
    pub definition: String,
    /// It is on an expression.
    #[serde(default)]
    pub on_expression: bool,
    /// What it has besides that no resource can say: storage parameters, a tablespace, `NULLS NOT DISTINCT`.
    #[serde(default)]
    pub unsaid: Vec<String>,
}

/// What the catalog does not tell of a continuous aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateDetails {
    /// Its query in the words of the server, the most readable first: each is what somebody may write to mean the same.
    /// Or why that cannot be read.
    pub queries: Result<Vec<String>, String>,
    /// Its columns that rows are grouped by, with the bucket.
    pub grouped_by: BTreeSet<SqlName>,
}

/// A job that is none of the policies that resources speak of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct OtherJob {
    /// `job_id`
    pub id: i32,
    /// The hypertable that it works on, if it is for one.
    pub hypertable_id: Option<i32>,
    /// What it runs, as `schema.procedure`.
    pub procedure: String,
    /// `schedule_interval`
    pub schedule_interval: String,
}
