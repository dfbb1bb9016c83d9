//! Carrying out steps.

use std::sync::atomic::Ordering;

use tokio_postgres::Row;

use super::{LONG, QUICK, Session, set_limits};
use crate::{
    api::{status::Reason, types::SqlName},
    catalog::Extension,
    error::{Class, Failure},
    plan::step::{Action, Step},
    sql::{self, Script, Statement},
};

/// A record in the write-ahead log whose commit waits for the disk, and with it for all that was committed before
/// (<https://www.postgresql.org/docs/current/wal-async-commit.html>).
const FLUSH: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'timescaledb-policy-operator', '')";

impl Session {
    /// Waits until everything that was carried out is on the disk: many steps together, not each by itself.
    pub(super) async fn flush(&self) -> Result<(), Failure> {
        if self.to_be_flushed.swap(false, Ordering::Relaxed) {
            self.statement(FLUSH, QUICK).await?;
        }
        Ok(())
    }

    /// Carries out one step, whole or not at all where TimescaleDB lets it run in a transaction. Long steps run without a
    /// statement timeout; no step waits long for a lock.
    pub async fn apply(&self, step: &Step, extension: &Extension) -> Result<(), Failure> {
        let Script { statements, transaction } = sql::render(&step.action, extension);
        let limits = if step.long { LONG } else { QUICK };
        let result = if transaction {
            let together = step.action.is_made_again() && !step.long;
            let commit = if together { "; SET LOCAL synchronous_commit = off" } else { "" };
            let begin = format!("BEGIN; {}{commit}", set_limits("SET LOCAL", limits));
            let result = match &statements[..] {
                [statement] if !step.long => self.at_once(&begin, statement, limits).await,
                _ => self.one_by_one(&begin, &statements, limits).await,
            };
            self.to_be_flushed.fetch_or(together, Ordering::Relaxed);
            result
        } else {
            self.execute(&set_limits("SET", limits)).await?;
            let result = self.each(&statements, "SET", limits).await;
            let reset =
                self.execute(&format!("{}; SET search_path = pg_catalog, pg_temp", set_limits("SET", QUICK))).await;
            result.and(reset)
        };
        result.map_err(|failure| {
            // What the server reads as a query but TimescaleDB does not take for an aggregate.
            let is_query =
                matches!(step.action, Action::CreateAggregate { .. }) && failure.reason == Reason::InvalidSpec;
            let doing = if is_query { "spec.query" } else { &step.change };
            Failure { message: format!("{doing}: {}", failure.message), ..failure }
        })
    }

    /// Installs the monitoring views and functions, all or nothing. By the simple protocol: the text is this operator's own.
    pub async fn install_monitoring(&self, schema: &SqlName) -> Result<(), Failure> {
        self.metrics.statements.inc();
        let text = sql::install_monitoring(schema);
        let installed = self.execute(&format!("BEGIN; {}; {text}", set_limits("SET LOCAL", QUICK))).await;
        let end = self.execute(if installed.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        installed.and(end)
    }

    /// A transaction of one statement, sent whole: one round trip instead of three. After a statement that fails the `COMMIT`
    /// is a rollback. If the `BEGIN` failed, the statement would be a transaction by itself, and have the session's limits.
    async fn at_once(&self, begin: &str, statement: &Statement, limits: super::Limits) -> Result<(), Failure> {
        let path = &statement.search_path;
        let begin = if path.is_empty() {
            begin.to_owned()
        } else {
            format!("{begin}; {}", sql::set_search_path("SET LOCAL", path))
        };
        let (started, rows, ended) =
            futures::join!(self.execute(&begin), self.statement(&statement.text, limits), self.execute("COMMIT"));
        started?;
        let rows = rows?;
        ended?;
        statement_found(statement, &rows)
    }

    async fn one_by_one(&self, begin: &str, statements: &[Statement], limits: super::Limits) -> Result<(), Failure> {
        self.execute(begin).await?;
        let result = self.each(statements, "SET LOCAL", limits).await;
        let end = self.execute(if result.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
        result.and(end)
    }

    async fn each(&self, statements: &[Statement], set: &str, limits: super::Limits) -> Result<(), Failure> {
        for statement in statements {
            if !statement.search_path.is_empty() {
                self.execute(&sql::set_search_path(set, &statement.search_path)).await?;
            }
            statement_found(statement, &self.statement(&statement.text, limits).await?)?;
        }
        Ok(())
    }
}

/// A statement that finds nothing to change returns no row.
fn statement_found(statement: &Statement, rows: &[Row]) -> Result<(), Failure> {
    if statement.returns_row && rows.is_empty() {
        let message = "the object changed since the catalog was read; it is read again";
        return Err(Failure::new(Class::Transient, Reason::Retrying, message));
    }
    Ok(())
}
