//! The live database → [`History`] and the columns of its hypertables: a fixed number of queries.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use tokio_postgres::types::{ToSql, Type};

use super::{
    Limits, Session,
    observe::{all, one},
    set_limits,
};
use crate::{
    api::types::Span,
    catalog::{
        Catalog,
        history::{History, HistoryServer, Slice, TableColumns, TableHistory, units_per_second},
    },
    error::Failure,
};

const SERVER: &str = include_str!("../../sql/forecast/server.sql");
const CHUNKS: &str = include_str!("../../sql/forecast/chunks.sql");
const CLOCKS: &str = include_str!("../../sql/forecast/clocks.sql");
const COLUMNS: &str = include_str!("../../sql/recommend/columns.sql");

/// A reading may take longer than an observation: nothing waits for it.
const READING: Limits = Limits { lock: Duration::from_secs(2), statement: Duration::from_secs(40) };

#[derive(Deserialize)]
struct TableRow {
    id: i32,
    is_integer: bool,
    slices: Vec<Slice>,
}

#[derive(Deserialize)]
struct ColumnsRow {
    id: i32,
    #[serde(flatten)]
    columns: TableColumns,
}

impl Session {
    /// Reads what the chunks of these hypertables hold, by id, or of all of them: three queries and a call of the
    /// `integer_now` functions of those by integers. It looks at every chunk, takes a share lock on each for the moment in
    /// which its size is read, and waits for none that is locked exclusively. Not for a session that goes on to do something
    /// else: its timeouts are changed.
    pub async fn history(&self, catalog: &Catalog, only: &[i32]) -> Result<History, Failure> {
        self.execute(&set_limits("SET", READING)).await?;
        let hypertables = catalog.hypertables.values().chain(catalog.aggregates.values().map(|a| &a.hypertable));
        let by_integer = hypertables
            .filter(|hypertable| matches!(hypertable.chunk_interval(), Some(Span::Integer(_))))
            .map(|hypertable| hypertable.id)
            .filter(|id| only.is_empty() || only.contains(id))
            .collect();
        if let Err(failure) = self.read_clocks(&by_integer).await {
            // Of these hypertables it is then not known what a unit of time is.
            tracing::debug!("integer_now functions could not be called: {failure}");
        }
        let read = async {
            self.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let hypertables: [(&(dyn ToSql + Sync), Type); 1] = [(&only, Type::INT4_ARRAY)];
            let (server, chunks, clocks) =
                futures::try_join!(self.query(SERVER, &[]), self.query(CHUNKS, &hypertables), self.query(CLOCKS, &[]))?;
            Ok((one::<HistoryServer>(&server)?, all::<TableRow>(&chunks)?, one::<BTreeMap<i32, Option<i64>>>(&clocks)?))
        };
        let read = read.await;
        // Also after an error: the session must not stay in a failed transaction.
        let ended = self.execute("ROLLBACK").await;
        let (server, rows, clocks) = read?;
        ended?;
        let table = |row: TableRow| (row.id, table_history(row, &clocks, server.now));
        Ok(History { server, tables: rows.into_iter().map(table).collect() })
    }

    /// Reads columns, planner statistics and indexes of these hypertables, by id, or of all of them. One query.
    pub async fn columns(&self, only: &[i32]) -> Result<BTreeMap<i32, TableColumns>, Failure> {
        let rows = self.query(COLUMNS, &[(&only, Type::INT4_ARRAY)]).await?;
        Ok(all::<ColumnsRow>(&rows)?.into_iter().map(|row| (row.id, row.columns)).collect())
    }
}

fn table_history(row: TableRow, clocks: &BTreeMap<i32, Option<i64>>, now: Timestamp) -> TableHistory {
    let units_per_second = if row.is_integer {
        clocks.get(&row.id).copied().flatten().and_then(|clock| units_per_second(clock, now))
    } else {
        Some(1e6)
    };
    TableHistory { units_per_second, slices: row.slices }
}
