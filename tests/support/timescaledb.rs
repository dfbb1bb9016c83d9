//! A real TimescaleDB: as WebAssembly, or on the native server that `TIMESCALEDB_URL` names.

use super::process::{Folder, Guarded};
use super::{Error, Result, installed, support_folder};
use std::process::Command;
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

/// On two cores that build something else at the same time; alone it takes 2 seconds.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// A test that waits for one connection while it has a transaction open on another one would wait for ever.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

/// One database with the extension, for its owner alone.
///
/// Tests that need several backends (waiting for locks, timeouts, cancelling, background workers, more than one
/// database on a server) ask `is_native` first: the WebAssembly has one backend that its connections share in turns.
pub struct TimescaleDb {
    /// The superuser's.
    config: Config,
    host: String,
    port: u16,
    user: String,
    password: String,
    /// The password of every other role. The WebAssembly server has one for all.
    password_of_roles: String,
    dbname: String,
    server: Server,
}

enum Server {
    WebAssembly(Guarded, Folder),
    /// As whom to drop the database again, until that is done.
    Native(Option<Config>),
}

impl TimescaleDb {
    /// A server of its own, or a database of its own on the native server (which is reached without TLS).
    pub async fn start() -> Result<Self> {
        match std::env::var("TIMESCALEDB_URL") {
            Ok(url) => Self::create_on_native_server(&url).await,
            Err(_) => Self::start_web_assembly().await,
        }
    }

    async fn start_web_assembly() -> Result<Self> {
        const DATABASE: &str = "tpo_test";
        const PASSWORD: &str = "only-for-tests";
        let packages = installed("TIMESCALEDB_WASM", "timescaledb/install.sh", &["node_modules"])?;
        let folder = Folder::new("timescaledb")?;
        let mut command = Command::new("node");
        command
            .arg(support_folder().join("timescaledb").join("server.mjs"))
            .args(["--port", "0", "--database", DATABASE, "--password", PASSWORD])
            .args(["--idle-transaction-timeout", &IDLE_TRANSACTION_TIMEOUT.as_millis().to_string()])
            .env("TIMESCALEDB_WASM", packages);
        let mut server = Guarded::start("timescaledb", &command, folder.path())?;
        let address = server.line("ready ", READY_WITHIN).await?;
        let (host, port) = address.rsplit_once(':').ok_or("the server said no port")?;
        let mut config = Config::new();
        config.host(host).port(port.parse()?).user("postgres").password(PASSWORD).dbname(DATABASE);
        Self::new(config, Server::WebAssembly(server, folder))
    }

    async fn create_on_native_server(url: &str) -> Result<Self> {
        let admin: Config = url.parse().map_err(|error| format!("TIMESCALEDB_URL: {error}"))?;
        let dbname = format!("tpo_test_{:016x}", fastrand::u64(..));
        // template0, because nobody can be connected to it: a template in use cannot be copied
        let create = format!("CREATE DATABASE {dbname} TEMPLATE template0");
        connect(&admin).await?.batch_execute(&create).await?;
        let mut config = admin.clone();
        config.dbname(&dbname);
        let database = Self::new(config, Server::Native(Some(admin)))?;
        database.connect().await?.batch_execute("CREATE EXTENSION IF NOT EXISTS timescaledb").await?;
        Ok(database)
    }

    fn new(config: Config, server: Server) -> Result<Self> {
        let host = match config.get_hosts() {
            [Host::Tcp(host)] => host.clone(),
            _ => return Err("TIMESCALEDB_URL must name one host, by name or address".into()),
        };
        let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec())?;
        let password_of_roles = match server {
            Server::WebAssembly(..) => password.clone(),
            Server::Native(_) => format!("word-{:016x}", fastrand::u64(..)),
        };
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or("postgres").into(),
            password,
            password_of_roles,
            dbname: config.get_dbname().unwrap_or("postgres").into(),
            config,
            server,
        })
    }

    pub fn is_native(&self) -> bool {
        matches!(self.server, Server::Native(_))
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn password(&self) -> &str {
        &self.password
    }

    /// The password of every role but the superuser.
    pub fn password_of_roles(&self) -> &str {
        &self.password_of_roles
    }

    pub fn dbname(&self) -> &str {
        &self.dbname
    }

    /// The address with the superuser's name and password in it.
    pub fn url(&self) -> String {
        self.url_with(&self.user, &self.password)
    }

    /// The address with the name and password of another role in it.
    pub fn url_as(&self, role: &str) -> String {
        self.url_with(role, &self.password_of_roles)
    }

    fn url_with(&self, user: &str, password: &str) -> String {
        let (user, password) = (percent_encoded(user), percent_encoded(password));
        let (host, port, dbname) = (&self.host, self.port, percent_encoded(&self.dbname));
        format!("postgresql://{user}:{password}@{host}:{port}/{dbname}")
    }

    /// How to connect, to change before connecting: another user, startup options.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// A connection of the superuser.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.config).await
    }

    /// Makes the role that owns the tables of an application, and the operator's, which is a member of it. Both are gone
    /// with the database.
    pub async fn create_roles(&self) -> Result<()> {
        let admin = self.connect().await?;
        let password = quoted(&self.password_of_roles, '\'');
        let owner = quoted(&self.owner(), '"');
        admin.batch_execute(&format!("CREATE ROLE {owner} LOGIN PASSWORD {password}")).await?;
        admin.batch_execute(&format!("GRANT CREATE ON DATABASE {} TO {owner}", quoted(&self.dbname, '"'))).await?;
        let (operator, owner) = (self.operator(), self.owner());
        self.run_script("role.sql", &[("role", &operator), ("owner", &owner)]).await
    }

    /// The role that owns what an application has made. It may create schemas.
    pub fn owner(&self) -> String {
        format!("owner_of_{}", self.dbname)
    }

    /// The role of the operator.
    pub fn operator(&self) -> String {
        format!("operator_of_{}", self.dbname)
    }

    /// Runs a script of `sql/` as psql does, with these variables and the password of roles.
    pub async fn run_script(&self, name: &str, variables: &[(&str, &str)]) -> Result<()> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql").join(name);
        let mut script = std::fs::read_to_string(&path)?.replace("\\g /dev/null", ";");
        let included: Vec<_> =
            script.lines().filter_map(|line| line.strip_prefix("\\ir ")).map(str::to_owned).collect();
        for name in included {
            let text = std::fs::read_to_string(path.with_file_name(&name))?;
            script = script.replace(&format!("\\ir {name}\n"), &text);
        }
        for (name, value) in
            variables.iter().chain(&[("DBNAME", self.dbname.as_str()), ("password", &self.password_of_roles)])
        {
            for quote in ['"', '\''] {
                script = script.replace(&format!(":{quote}{name}{quote}"), &quoted(value, quote));
            }
        }
        let statements: Vec<_> = script.lines().filter(|line| !line.starts_with('\\')).collect();
        Ok(self.connect().await?.batch_execute(&statements.join("\n")).await?)
    }

    /// The process of the WebAssembly server, to stop (`signal("STOP")`) or kill it.
    pub fn server(&mut self) -> Option<&mut Guarded> {
        match &mut self.server {
            Server::WebAssembly(server, _) => Some(server),
            Server::Native(_) => None,
        }
    }

    /// Ends the server, or drops the database. Without this the end of the value does it, but tells no errors.
    pub async fn stop(mut self) -> Result<()> {
        match &mut self.server {
            Server::WebAssembly(server, _) => {
                server.kill();
                Ok(())
            }
            Server::Native(admin) => match admin.take() {
                Some(admin) => drop_database(&admin, &self.dbname).await,
                None => Ok(()),
            },
        }
    }
}

impl Drop for TimescaleDb {
    fn drop(&mut self) {
        let Server::Native(admin) = &mut self.server else {
            return;
        };
        let Some(admin) = admin.take() else { return };
        let dbname = self.dbname.clone();
        // in a thread, because this one may be running the runtime that a destructor cannot wait in
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(drop_database(&admin, &dbname))
        });
        if !matches!(dropping.join(), Ok(Ok(()))) {
            eprintln!("the test database {} could not be dropped", self.dbname);
        }
    }
}

/// A connection whose other half runs by itself until the client is dropped.
pub async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection); // its error is the client's next error too
    Ok(client)
}

async fn drop_database(admin: &Config, dbname: &str) -> Result<()> {
    let admin = connect(admin).await?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {dbname} WITH (FORCE)")).await?;
    // Roles belong to the whole server.
    let roles = format!("DROP ROLE IF EXISTS operator_of_{dbname}, owner_of_{dbname}");
    admin.batch_execute(&roles).await.map_err(Error::from)
}

/// As an identifier (`"`) or a literal (`'`).
fn quoted(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}
