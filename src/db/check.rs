//! What only the check reads: [`Inspection`], by a fixed number of queries.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use tokio_postgres::types::{ToSql, Type};

use super::{
    Session,
    observe::{Named, all, one},
};
use crate::{
    api::{
        status::Reason,
        types::{Relation, SqlName},
    },
    check::{HypertableFacts, IndexUsage, Inspection, LEAST_ROWS, Part, Privileges, TableFacts},
    error::{Class, Failure},
};

const SERVER: &str = include_str!("../../sql/check/server.sql");
const PRIVILEGES: &str = include_str!("../../sql/check/privileges.sql");
const HYPERTABLES: &str = include_str!("../../sql/check/hypertables.sql");
const INDEX_USAGE: &str = include_str!("../../sql/check/index_usage.sql");
const TABLES: &str = include_str!("../../sql/check/tables.sql");

#[derive(Deserialize)]
struct IndexRow {
    index: SqlName,
    #[serde(flatten)]
    usage: IndexUsage,
}

impl Session {
    /// Reads what the check goes by beside the catalog and the statistics: the server alone where the database has no
    /// TimescaleDB that works (`with_timescaledb`), else four queries more. One that fails leaves its part unread. Privileges
    /// are those of `role`, or of the session's.
    pub async fn inspect(&self, with_timescaledb: bool, role: Option<&str>) -> Result<Inspection, Failure> {
        let of_role: [(&(dyn ToSql + Sync), Type); 1] = [(&role, Type::TEXT)];
        let server = one(&self.query(SERVER, &of_role).await?)?;
        let mut inspection = Inspection {
            server,
            privileges: Privileges::default(),
            hypertables: BTreeMap::new(),
            indexes: BTreeMap::new(),
            tables: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        if !with_timescaledb {
            return Ok(inspection);
        }
        let unread = &mut inspection.unread;
        let privileges: Vec<Privileges> = self.part(Part::Privileges, PRIVILEGES, &of_role, unread).await?;
        inspection.privileges = privileges.into_iter().next().unwrap_or_default();
        let hypertables: Vec<Named<HypertableFacts>> = self.part(Part::Hypertables, HYPERTABLES, &[], unread).await?;
        inspection.hypertables = hypertables.into_iter().map(Named::into_entry).collect();
        let indexes: Vec<Named<IndexRow>> = self.part(Part::Indexes, INDEX_USAGE, &[], unread).await?;
        let entry = |(relation, row): (Relation, IndexRow)| ((relation, row.index), row.usage);
        inspection.indexes = indexes.into_iter().map(Named::into_entry).map(entry).collect();
        let least: [(&(dyn ToSql + Sync), Type); 1] = [(&LEAST_ROWS, Type::INT8)];
        let tables: Vec<Named<TableFacts>> = self.part(Part::Tables, TABLES, &least, unread).await?;
        inspection.tables = tables.into_iter().map(Named::into_entry).collect();
        Ok(inspection)
    }

    /// One query. What the server refuses is told as unread; an answer that cannot be read, and none at all, are failures.
    async fn part<T: DeserializeOwned>(
        &self,
        part: Part,
        query: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
        unread: &mut BTreeMap<Part, String>,
    ) -> Result<Vec<T>, Failure> {
        match self.query(query, parameters).await {
            Ok(rows) => all(&rows),
            Err(failure) if failure.reason == Reason::DatabaseUnreachable || failure.class == Class::Bug => {
                Err(failure)
            }
            Err(failure) => {
                unread.insert(part, failure.message);
                Ok(Vec::new())
            }
        }
    }
}
