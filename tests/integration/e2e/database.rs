//! The database of a plant.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, types::FromSql};

use super::eventually;
use crate::support::{
    Result,
    timescaledb::{TimescaleDb, connect},
};

/// Servers that may run at once: each takes half a gigabyte.
static ROOM: Semaphore = Semaphore::const_new(4);
/// WebAssembly servers that a test has left clean, for the next one: each takes seconds to start.
static CLEAN: Mutex<Vec<TimescaleDb>> = Mutex::new(Vec::new());

/// A database with the schema `plant`, which belongs to the role of an application. The operator has the role that
/// `sql/role.sql` makes for it.
pub struct Database {
    /// There until the end.
    server: Option<TimescaleDb>,
    sql: Client,
    user: String,
    _room: SemaphorePermit<'static>,
}

impl Database {
    /// Whether the tests run on a native server: one with several backends and a scheduler.
    pub fn is_native() -> bool {
        std::env::var_os("TIMESCALEDB_URL").is_some()
    }

    pub async fn start() -> Result<Self> {
        let room = ROOM.acquire().await?;
        let clean = CLEAN.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let server = match clean {
            Some(server) => server,
            None => {
                let server = TimescaleDb::start().await?;
                server.create_roles().await?;
                server
            }
        };
        let sql = connect(&server.url_as(&server.owner()).parse()?).await?;
        sql.batch_execute("CREATE SCHEMA plant").await?;
        let user = server.operator();
        Ok(Self { server: Some(server), sql, user, _room: room })
    }

    /// Leaves nothing behind.
    pub async fn end(mut self) -> Result<()> {
        let server = self.server.take().ok_or(ENDED)?;
        if Self::is_native() {
            return server.stop().await;
        }
        self.run("DROP SCHEMA plant CASCADE").await?;
        CLEAN.lock().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(())
    }

    fn server(&self) -> Result<&TimescaleDb> {
        Ok(self.server.as_ref().ok_or(ENDED)?)
    }

    /// Host, port and name of the database.
    pub fn address(&self) -> Result<(&str, u16, &str)> {
        let server = self.server()?;
        Ok((server.host(), server.port(), server.dbname()))
    }

    /// The operator's role.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The application's role.
    pub fn owner(&self) -> Result<String> {
        Ok(self.server()?.owner())
    }

    /// The password of the operator's role.
    pub fn password(&self) -> Result<&str> {
        Ok(self.server()?.password_of_roles())
    }

    /// Another connection of the owner.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.server()?.url_as(&self.owner()?).parse()?).await
    }

    /// A superuser's connection.
    pub async fn superuser(&self) -> Result<Client> {
        self.server()?.connect().await
    }

    /// Statements, as the owner.
    pub async fn run(&self, statements: &str) -> Result<()> {
        Ok(self.sql.batch_execute(statements).await?)
    }

    /// The one value of a query.
    pub async fn value<T: for<'a> FromSql<'a>>(&self, query: &str) -> Result<T> {
        Ok(self.sql.query_one(query, &[]).await?.try_get(0)?)
    }

    /// Waits until the condition holds.
    pub async fn until(&self, condition: &str) -> Result<()> {
        eventually(condition, async || Ok(self.value::<bool>(&format!("SELECT {condition}")).await?.then_some(())))
            .await
    }

    /// Waits until the condition holds for the superuser, who sees what the sessions of others do.
    pub async fn until_for_superuser(&self, condition: &str) -> Result<()> {
        let superuser = self.superuser().await?;
        let query = format!("SELECT {condition}");
        eventually(condition, async || Ok(superuser.query_one(&query, &[]).await?.try_get::<_, bool>(0)?.then_some(())))
            .await
    }

    /// How many policies there are: `retention`, `compression` or `refresh_continuous_aggregate`.
    pub async fn policies(&self, kind: &str) -> Result<i64> {
        self.value(&format!(
            "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000 AND proc_name = 'policy_{kind}'"
        ))
        .await
    }

    /// A condition: the retention of the table is this.
    pub fn drops_after(table: &str, age: &str) -> String {
        format!(
            "EXISTS (SELECT FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' \
             AND hypertable_name = '{table}' AND (config ->> 'drop_after')::interval = '{age}')"
        )
    }

    /// A condition: the chunks of the table span this.
    pub fn chunks_span(table: &str, interval: &str) -> String {
        format!(
            "EXISTS (SELECT FROM timescaledb_information.dimensions WHERE hypertable_name = '{table}' \
             AND time_interval = '{interval}')"
        )
    }
}

const ENDED: &str = "the database has ended";
