//! A database with the schema of the tables, which an application's role owns.

use serde_json::{Value, json};
use tokio_postgres::{Client, types::FromSql};

use crate::{
    support::{
        Result,
        timescaledb::{TimescaleDb, connect},
    },
    workload,
};

pub struct Database {
    server: TimescaleDb,
    sql: Client,
}

impl Database {
    /// An empty one, with the operator's role as `sql/role.sql` makes it.
    pub async fn start() -> Result<Self> {
        let server = TimescaleDb::start().await?;
        server.create_roles().await?;
        let sql = connect(&server.url_as(&server.owner()).parse()?).await?;
        sql.batch_execute(&format!("CREATE SCHEMA {}", workload::SCHEMA)).await?;
        Ok(Self { server, sql })
    }

    /// With so many tables.
    pub async fn with_tables(tables: usize) -> Result<Self> {
        let database = Self::start().await?;
        database.run(&workload::create_tables(0..tables)).await?;
        Ok(database)
    }

    /// The keys of its secret, by another port where one is given.
    pub fn keys(&self, port: Option<u16>) -> Value {
        json!({
            "host": self.server.host(), "port": port.unwrap_or(self.server.port()).to_string(),
            "dbname": self.server.dbname(), "username": self.server.operator(),
            "password": self.server.password_of_roles(),
        })
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.server.host(), self.server.port())
    }

    /// Statements, as the owner, all in one message.
    pub async fn run(&self, statements: &str) -> Result<()> {
        Ok(self.sql.batch_execute(statements).await?)
    }

    /// Another connection of the owner.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.server.url_as(&self.server.owner()).parse()?).await
    }

    /// A connection of the operator's role.
    pub async fn as_operator(&self) -> Result<Client> {
        connect(&self.server.url_as(&self.server.operator()).parse()?).await
    }

    pub async fn superuser(&self) -> Result<Client> {
        self.server.connect().await
    }

    pub async fn value<T: for<'a> FromSql<'a>>(&self, query: &str) -> Result<T> {
        Ok(self.sql.query_one(query, &[]).await?.try_get(0)?)
    }

    pub async fn end(self) -> Result<()> {
        drop(self.sql);
        self.server.stop().await
    }
}
