//! The test servers keep what the other tests take for granted.

use crate::support::api_server::ApiServer;
use crate::support::process::{Folder, Guarded};
use crate::support::timescaledb::{TimescaleDb, connect};
use crate::support::{Error, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

#[tokio::test]
async fn the_api_server_answers_kubectl_and_enforces_rbac() -> Result<()> {
    let api = ApiServer::shared().await?;
    let kubectl = |arguments: &str| output(&mut api.kubectl(arguments.split(' ')));
    assert!(kubectl("get namespaces")?.contains("kube-system"));
    assert!(kubectl("version")?.contains("Server Version: v1.36"));

    kubectl("create serviceaccount reader")?;
    kubectl("create clusterrole reader --verb=get,list --resource=namespaces")?;
    kubectl("create clusterrolebinding reader --clusterrole=reader --serviceaccount=default:reader")?;
    let kubeconfig = api.service_account_kubeconfig("default", "reader").await?;
    let reader = |arguments: &str| output(&mut api.kubectl_as(&kubeconfig, arguments.split(' ')));
    assert!(reader("get namespaces")?.contains("default"));
    let refused = reader("create namespace mine").err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("Forbidden"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn timescaledb_creates_hypertables_and_runs_policies() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = connect(&database.url().parse()?).await?;
    client
        .batch_execute(
            "CREATE TABLE metric (ts timestamptz NOT NULL, value float8);
             SELECT create_hypertable('metric', by_range('ts', interval '1 day'));
             INSERT INTO metric SELECT now() - n * interval '1 day', n FROM generate_series(0, 9) AS n;",
        )
        .await?;
    let job: i32 = one(&client, "SELECT add_retention_policy('metric', interval '5 days')").await?;
    client.batch_execute(&format!("CALL run_job({job})")).await?;
    assert!(one::<i64>(&client, "SELECT count(*) FROM metric").await? < 10);
    assert_eq!(one::<String>(&client, "SELECT current_database()::text").await?, database.dbname());
    database.stop().await
}

#[tokio::test]
async fn transactions_of_several_clients_do_not_mix() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = database.connect().await?;
    client.batch_execute("CREATE TABLE account (id int, amount int); INSERT INTO account VALUES (1, 0)").await?;
    let mut writers = Vec::new();
    for _ in 0..3 {
        let mut client = database.connect().await?;
        writers.push(tokio::spawn(async move {
            for round in 0..20 {
                let transaction = client.transaction().await?;
                let update = "UPDATE account SET amount = amount + $1 RETURNING amount";
                let amount: i32 = transaction.query_one(update, &[&1]).await?.get(0);
                transaction.execute("UPDATE account SET amount = $1", &[&amount]).await?;
                if round % 2 == 0 {
                    transaction.commit().await?;
                } else {
                    transaction.rollback().await?;
                }
            }
            Ok::<(), Error>(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    assert_eq!(one::<i32>(&client, "SELECT amount FROM account").await?, 30);

    // A client that goes away inside a transaction takes it along.
    let lost = database.connect().await?;
    lost.batch_execute("BEGIN; UPDATE account SET amount = -1").await?;
    drop(lost);
    assert_eq!(one::<i32>(&client, "SELECT amount FROM account").await?, 30);
    Ok(())
}

#[tokio::test]
async fn a_statement_of_any_length_is_answered() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = connect(&database.url().parse()?).await?;
    // The server behind it reads 8 KiB at a time; what stands around a statement takes less than these 100 bytes.
    for length in (8092..=8192).chain([16_300, 60_000]) {
        let statement = format!("SELECT {length:0>length$}::text");
        let answered = tokio::time::timeout(Duration::from_secs(20), client.query_typed(&statement, &[])).await;
        let rows = answered.map_err(|_| format!("{length} bytes are not answered"))??;
        assert_eq!(rows[0].get::<_, String>(0), length.to_string());
    }
    Ok(())
}

#[tokio::test]
async fn settings_and_users_belong_to_the_connection() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let plain = database.connect().await?;
    let role = format!("reader_{}", database.port()); // roles belong to the whole server
    plain.batch_execute(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'r'")).await?;
    let mut config = database.config();
    config
        .application_name("the second")
        .options("-c search_path=pg_catalog -c statement_timeout=5s -c lock_timeout=7s");
    if !database.is_native() {
        config.user(&role); // a native server would want the role's own password
    }
    let second = connect(&config).await?;

    let show = async |client: &Client, name: &str| one::<String>(client, &format!("SHOW {name}")).await;
    plain.batch_execute("SET statement_timeout = '3s'; SET timezone = 'Europe/Berlin'; SET my.name = 'plain'").await?;
    for _ in 0..2 {
        assert_eq!(show(&plain, "search_path").await?, r#""$user", public"#);
        assert_eq!(show(&second, "search_path").await?, "pg_catalog");
        assert_eq!(show(&plain, "statement_timeout").await?, "3s");
        assert_eq!(show(&second, "statement_timeout").await?, "5s");
        assert_eq!(show(&plain, "lock_timeout").await?, "0");
        assert_eq!(show(&second, "lock_timeout").await?, "7s");
        assert_eq!(show(&plain, "timezone").await?, "Europe/Berlin");
        assert_ne!(show(&second, "timezone").await?, "Europe/Berlin");
        assert_eq!(show(&second, "application_name").await?, "the second");
        assert_eq!(show(&plain, "my.name").await?, "plain");
        assert!(one::<bool>(&second, "SELECT coalesce(current_setting('my.name', true), '') = ''").await?);
        let user = config.get_user().unwrap_or_default();
        assert_eq!(one::<String>(&second, "SELECT session_user::text").await?, user);
        assert_eq!(one::<String>(&plain, "SELECT session_user::text").await?, database.user());
    }
    second.execute("SET statement_timeout = 0", &[]).await?;
    assert_eq!(show(&plain, "statement_timeout").await?, "3s");
    assert_eq!(show(&second, "statement_timeout").await?, "0");
    second.execute("RESET statement_timeout", &[]).await?;
    assert_eq!(show(&second, "statement_timeout").await?, "5s");
    second.batch_execute("RESET ALL").await?;
    assert_eq!(show(&second, "lock_timeout").await?, "7s");
    assert_eq!(show(&second, "search_path").await?, "pg_catalog");
    assert_eq!(show(&plain, "timezone").await?, "Europe/Berlin");
    drop(second);
    plain.batch_execute(&format!("DROP ROLE {role}")).await?;
    Ok(())
}

#[tokio::test]
async fn an_advisory_lock_belongs_to_one_connection() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let (first, second) = (database.connect().await?, database.connect().await?);
    let take = "SELECT pg_try_advisory_lock(42)";
    assert!(one::<bool>(&first, take).await?);
    assert!(one::<bool>(&first, take).await?); // by its holder a second time: to be released twice
    assert!(!one::<bool>(&second, take).await?);
    assert!(!one::<bool>(&second, "SELECT pg_try_advisory_xact_lock(42)").await?);
    assert!(one::<bool>(&second, "SELECT pg_try_advisory_lock(0, 42)").await?); // another key space

    second.batch_execute("SET lock_timeout = '100ms'").await?;
    let refused = second.query_one("SELECT pg_advisory_lock(42)", &[]).await.err();
    assert_eq!(refused.as_ref().and_then(|error| error.code()), Some(&SqlState::LOCK_NOT_AVAILABLE));

    assert!(one::<bool>(&first, "SELECT pg_advisory_unlock(42)").await?);
    assert!(!one::<bool>(&second, take).await?);
    drop(first); // not a word to the server
    let deadline = Instant::now() + Duration::from_secs(10);
    while !one::<bool>(&second, take).await? {
        assert!(Instant::now() < deadline, "the lock outlived its connection");
    }
    Ok(())
}

#[tokio::test]
async fn who_may_not_connect_is_told_why() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let refusal = async |change: fn(&mut Config) -> &mut Config| {
        let mut config = database.config();
        let error = change(&mut config).connect(NoTls).await.err();
        error.and_then(|error| error.code().cloned())
    };
    let database_name = refusal(|config| config.dbname("nosuch")).await;
    assert_eq!(database_name, Some(SqlState::INVALID_CATALOG_NAME));
    let setting = refusal(|config| config.options("-c statement_timeout=soon")).await;
    assert_eq!(setting, Some(SqlState::INVALID_PARAMETER_VALUE));
    if !database.is_native() {
        // what a native server says depends on its pg_hba.conf
        let password = refusal(|config| config.password("wrong")).await;
        assert_eq!(password, Some(SqlState::INVALID_PASSWORD));
        let user = refusal(|config| config.user("nobody")).await;
        assert_eq!(user, Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
    }
    Ok(())
}

/// This test is its own helper: started again with the variable set, it holds a child and a folder until it is killed.
#[tokio::test]
async fn a_killed_holder_leaves_nothing_behind() -> Result<()> {
    const HOLD: &str = "TPO_TEST_HOLD";
    const NAME: &str = "servers::a_killed_holder_leaves_nothing_behind";
    if let Some(report) = std::env::var_os(HOLD) {
        let folder = Folder::new("held")?;
        let child = Guarded::start("sleep", Command::new("sleep").arg("600"), folder.path())?;
        std::fs::write(report, format!("{}\n{}\n", child.pid(), folder.path().display()))?;
        tokio::time::sleep(Duration::from_mins(10)).await;
        return Ok(());
    }

    let folder = Folder::new("holder")?;
    let report = folder.path().join("report");
    let mut holder = Command::new(std::env::current_exe()?)
        .args(["--exact", NAME])
        .env(HOLD, &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let read_report = || std::fs::read_to_string(&report).is_ok_and(|text| text.lines().count() == 2);
    let reported = eventually(read_report).await;
    holder.kill()?; // SIGKILL: no destructor runs
    holder.wait()?;
    assert!(reported, "the holder did not start");

    let text = std::fs::read_to_string(&report)?;
    let (pid, held) = text.trim_end().split_once('\n').ok_or("an incomplete report")?;
    assert!(eventually(|| !runs(pid)).await, "process {pid} outlived its holder");
    assert!(eventually(|| !Path::new(held).exists()).await, "{held} outlived its holder");
    Ok(())
}

/// Whether the process exists, and is not only waiting for somebody to take note of its end.
fn runs(pid: &str) -> bool {
    let exists = Command::new("sh").args(["-c", r#"kill -0 "$1""#, "sh", pid]).stderr(Stdio::null()).status();
    let ended = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    exists.is_ok_and(|status| status.success()) && !ended
}

async fn eventually(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

async fn one<T>(client: &Client, sql: &str) -> Result<T>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}
