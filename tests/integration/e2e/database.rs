//! The database of a plant.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, Config, types::FromSql};

use super::eventually;
use crate::support::{
    Result,
    timescaledb::{TimescaleDb, connect},
};

/// Servers that may run at once: each takes half a gigabyte.
static ROOM: Semaphore = Semaphore::const_new(4);
/// WebAssembly servers that a test has left clean, for the next one: each takes seconds to start.
static CLEAN: Mutex<Vec<TimescaleDb>> = Mutex::new(Vec::new());

/// A database with the schema `plant`. On a native server that belongs to a role which is no superuser; the WebAssembly
/// server keeps too much of its catalog from other roles.
pub struct Database {
    /// There until the end.
    server: Option<TimescaleDb>,
    sql: Client,
    user: String,
    password: String,
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
            None => TimescaleDb::start().await?,
        };
        let admin = server.connect().await?;
        let (user, password) = if Self::is_native() {
            let (user, password) =
                (format!("plant_{:08x}", fastrand::u32(..)), format!("word-{:016x}", fastrand::u64(..)));
            admin.batch_execute(&format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'")).await?;
            (user, password)
        } else {
            (server.user().to_owned(), server.password().to_owned())
        };
        admin.batch_execute(&format!("CREATE SCHEMA plant; ALTER SCHEMA plant OWNER TO {user}")).await?;
        let sql = connect(server.config().user(&user).password(&password)).await?;
        Ok(Self { server: Some(server), sql, user, password, _room: room })
    }

    /// Leaves nothing behind.
    pub async fn end(mut self) -> Result<()> {
        let server = self.server.take().ok_or(ENDED)?;
        if Self::is_native() {
            server.stop().await?;
            return drop_role(&self.user).await;
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

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn password(&self) -> &str {
        &self.password
    }

    /// Another connection of the owner.
    pub async fn connect(&self) -> Result<Client> {
        connect(self.server()?.config().user(&self.user).password(&self.password)).await
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

/// Roles belong to the whole native server.
async fn drop_role(user: &str) -> Result<()> {
    let cluster: Config = std::env::var("TIMESCALEDB_URL")?.parse()?;
    Ok(connect(&cluster).await?.batch_execute(&format!("DROP ROLE {user}")).await?)
}

impl Drop for Database {
    /// A test that failed leaves nothing behind either.
    fn drop(&mut self) {
        let Some(server) = self.server.take() else { return };
        drop(server);
        if Self::is_native() {
            let user = self.user.clone();
            // In a thread, because this one may be running the runtime that a destructor cannot wait in.
            let dropping = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(drop_role(&user))
            });
            if !matches!(dropping.join(), Ok(Ok(()))) {
                eprintln!("the role {} could not be dropped", self.user);
            }
        }
    }
}
