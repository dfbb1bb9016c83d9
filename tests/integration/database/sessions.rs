//! Sessions: what they pin, what they tell about a database that cannot be used, and how little they ask.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::status::Reason,
    db::Session,
    desired::Kind,
    error::{Class, Failure},
    metrics::Metrics,
    plan::step::Verdict,
};
use tokio::{io::copy_bidirectional, net::TcpStream, task::JoinSet};

use super::{
    driver::{
        DEADLINE, Database, aggregate, assert_rejected, assert_says, compression, endpoint, hypertable, rejection,
        retention,
    },
    stand_in::{Answer, StandIn},
};
use crate::support::{Result, timescaledb::TimescaleDb};

const METRIC: &str = "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8);
    INSERT INTO metric SELECT timestamptz '2020-01-01' + n * interval '1 day', n, n FROM generate_series(0, 9) n";

/// Something of everything that a session does: conversion, predicate, settings, jobs, what a policy would drop, a query.
fn everything() -> Vec<Value> {
    let query = "SELECT time_bucket('1 hour', ts) AS hour, avg(value) AS value FROM metric WHERE value >= 0 GROUP BY 1";
    let index = json!({"name": "good_ones", "columns": [{"name": "device"}], "where": "value > 0 AND device <> 7"});
    let refresh = json!({"startOffset": "10 days", "endOffset": "1 hour", "schedule": {"interval": "1 hour", "initialStart": "2036-01-01T00:00:00Z"}});
    vec![
        hypertable("metric", json!({"chunkInterval": "1 day", "migrateData": true, "indexes": [index]})),
        compression("metric", json!({"compressAfter": "36 hours", "segmentBy": ["device"], "paused": true})),
        retention(
            "metric",
            json!({"dropAfter": "90 days", "schedule": {"interval": "1 month", "timezone": "Europe/Berlin"}}),
        ),
        aggregate("hourly", query, json!({"realTime": true, "refreshPolicy": refresh})),
    ]
}

async fn connect(uri: &str) -> Result<Session, Failure> {
    Session::connect(&endpoint(uri), &Metrics::default()).await
}

#[tokio::test]
async fn nothing_that_somebody_put_into_other_schemas_is_called() -> Result<()> {
    let db = Database::alone().await?;
    db.run(METRIC).await?;
    // Names, and argument types, that fit better than PostgreSQL's own.
    db.run(
        "RESET ROLE; CREATE SCHEMA evil; CREATE SCHEMA \"$user\";
         DO $do$ DECLARE place text; BEGIN FOREACH place IN ARRAY ARRAY['public', 'evil', '\"$user\"', 'pg_temp'] LOOP
            EXECUTE replace($sql$
                CREATE FUNCTION place.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.format(text, name, name) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.count(bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.avg(float8) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.jsonb_build_object(text, text, text, text) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.pg_try_advisory_lock(bigint) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(float8, int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(text, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(oid, oid) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(name, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(regclass, regclass) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(oid, regclass) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE FUNCTION place.bad(bigint, text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''hijacked''; END';
                CREATE OPERATOR place.= (LEFTARG = text, RIGHTARG = text, FUNCTION = place.bad);
                CREATE OPERATOR place.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = place.bad);
                CREATE OPERATOR place.= (LEFTARG = name, RIGHTARG = text, FUNCTION = place.bad);
                CREATE OPERATOR place.= (LEFTARG = regclass, RIGHTARG = regclass, FUNCTION = place.bad);
                CREATE OPERATOR place.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = place.bad);
                CREATE OPERATOR place.|| (LEFTARG = bigint, RIGHTARG = text, FUNCTION = place.bad);
            $sql$, 'place', place);
         END LOOP; END $do$",
    )
    .await?;
    let mut endpoint = db.endpoint();
    endpoint.config.options("-c search_path=evil,pg_temp,public,pg_catalog");
    let hijacked = db.through(&endpoint).await?;
    let outcome = hijacked.attempt(everything()).await?;
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    let (kind, name) = (Kind::RetentionPolicy, "metric");
    assert!(
        matches!(outcome.verdict(kind, name), Verdict::NeedsApproval(_)),
        "what it would drop was counted: {:?}",
        outcome.plan.verdicts
    );
    assert_eq!(outcome.verdict(Kind::ContinuousAggregate, "hourly"), &Verdict::InSync);
    Ok(())
}

#[tokio::test]
async fn settings_of_the_role_or_the_database_change_nothing() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let options = [
        "search_path=''",
        "statement_timeout=200",
        "lock_timeout=100",
        "idle_in_transaction_session_timeout=0",
        "IntervalStyle=iso_8601",
        "DateStyle=SQL,DMY",
        "TimeZone=Asia/Tokyo",
        "default_transaction_isolation=serializable",
        "client_min_messages=debug1",
        "standard_conforming_strings=off",
        "quote_all_identifiers=on",
        "extra_float_digits=-15",
        "bytea_output=escape",
        "row_security=off",
    ];
    let mut odd = db.endpoint();
    odd.config.options(options.map(|option| format!("-c {}", option.replace(' ', "\\ "))).join(" "));
    let odd = db.through(&odd).await?;
    let mut resources = everything();
    resources[2]["spec"]["dropAfter"] = "1000 years".into();
    let outcome = odd.converge(resources.clone()).await?;
    assert_eq!(outcome.steps.len(), 6, "{:?}", outcome.actions());
    // TimescaleDB writes intervals into a job in the style of whoever makes it.
    let job = db.the_job(Kind::CompressionPolicy, "metric").await?;
    assert_eq!(job["config"], json!({"compress_after": "36:00:00"}));
    // A session with other settings sees the same.
    assert_eq!(db.converge(resources).await?.actions(), [""; 0]);
    Ok(())
}

/// What a step runs with is seen from inside: by functions of the test that it has to call.
#[tokio::test]
async fn every_step_runs_with_the_limits_of_the_operator() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(
        "CREATE FUNCTION report() RETURNS text LANGUAGE plpgsql STABLE AS $body$ BEGIN
            RAISE EXCEPTION 'lock %, statement %, name %, gone %', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('application_name'), coalesce(current_setting('client_connection_check_interval', true), '2s');
         END $body$;
         CREATE FUNCTION refuse(value float8) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM $schema.report(); RETURN true; END';
         CREATE FUNCTION width() RETURNS interval LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM $schema.report(); RETURN interval ''1 hour''; END'",
    )
    .await?;
    let mut generous = db.endpoint();
    generous.config.options("-c lock_timeout=0 -c statement_timeout=7s").application_name("tpo test");
    let operator = db.through(&generous).await?;
    let mut resources = everything();
    resources.truncate(1);
    operator.converge(resources.clone()).await?;

    // A build takes as long as it takes, but waits for no lock.
    let index =
        json!({"name": "by_value", "columns": [{"name": "value"}], "where": format!("{}.refuse(value)", db.schema)});
    resources[0]["spec"]["indexes"] = json!([index]);
    let outcome = operator.attempt(resources.clone()).await?;
    assert_says(
        &outcome.failure(Kind::Hypertable, "metric").message,
        &["lock 2s, statement 0, name tpo test, gone 2s"],
    );

    let query = format!("SELECT time_bucket({}.width(), ts) AS hour, count(*) FROM metric GROUP BY 1", db.schema);
    let outcome = operator.attempt([aggregate("hourly", &query, json!({}))]).await?;
    assert_says(
        &outcome.failure(Kind::ContinuousAggregate, "hourly").message,
        &["lock 2s, statement 30s, name tpo test"],
    );
    // Neither has left the session in its own limits, or in a transaction.
    operator.session.observe(&[]).await?;
    Ok(())
}

#[tokio::test]
async fn who_may_not_log_in_is_told_why() -> Result<()> {
    let db = Database::shared().await?;
    let refused = async |change: &dyn Fn(&mut tokio_postgres::Config)| {
        let mut endpoint = db.endpoint();
        change(&mut endpoint.config);
        Session::connect(&endpoint, &Metrics::default()).await.expect_err("the connection was made")
    };
    let password = refused(&|config| {
        config.password("hunter2");
    })
    .await;
    assert_eq!((password.class, password.reason), (Class::User, Reason::AuthenticationFailed), "{password}");
    assert_says(
        &password.message,
        &[&format!("{}:{}", db.server.host(), db.server.port()), &db.server.operator(), "28P01", "secret"],
    );
    let nobody = refused(&|config| {
        config.user("nobody");
    })
    .await;
    assert_eq!((nobody.class, nobody.reason), (Class::User, Reason::AuthenticationFailed), "{nobody}");
    let database = refused(&|config| {
        config.dbname("nosuch");
    })
    .await;
    assert_eq!(database.class, Class::User, "{database}");
    assert_says(&database.message, &["nosuch", "does not exist", "3D000"]);
    for failure in [password, nobody, database] {
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unreachable_by_its_address() -> Result<()> {
    let closed = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let cases = [
        (format!("postgresql://u:hunter2@{closed}/d"), closed.to_string()),
        ("postgresql://u:hunter2@no-such-host.invalid:5432/d".to_owned(), "no-such-host.invalid:5432".to_owned()),
        (StandIn::start(None, Answer::Gibberish)?.uri("127.0.0.1"), "127.0.0.1".to_owned()),
    ];
    for (uri, address) in cases {
        let failure = connect(&uri).await.expect_err("the connection was made");
        assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::DatabaseUnreachable), "{failure}");
        assert_says(&failure.message, &["cannot connect to", &address]);
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_for_now_is_tried_again_and_one_that_refuses_for_good_is_not() -> Result<()> {
    let cases = [
        ("57P03", "the database system is starting up", Class::Transient, Reason::DatabaseUnreachable),
        ("57P01", "terminating connection due to administrator command", Class::Transient, Reason::DatabaseUnreachable),
        ("53300", "sorry, too many clients already", Class::Transient, Reason::DatabaseUnreachable),
        ("28000", "no pg_hba.conf entry for host", Class::User, Reason::AuthenticationFailed),
        ("28P01", "password authentication failed", Class::User, Reason::AuthenticationFailed),
        ("42501", "permission denied for database", Class::User, Reason::PermissionDenied),
        ("3D000", "database \"d\" does not exist", Class::User, Reason::InvalidSpec),
    ];
    for (code, words, class, reason) in cases {
        let server = StandIn::start(None, Answer::Refusal(code, words))?;
        let failure = connect(&server.uri("127.0.0.1")).await.expect_err("the connection was made");
        assert_eq!((failure.class, failure.reason), (class, reason), "{failure}");
        assert_says(&failure.message, &["127.0.0.1", words, code]);
    }
    Ok(())
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_found_out_and_named() -> Result<()> {
    let server = StandIn::start(None, Answer::Pooled)?;
    let session = connect(&server.uri("127.0.0.1")).await?;
    let failure = session.observe(&[]).await.expect_err("it was taken for a session");
    assert_eq!((failure.class, failure.reason), (Class::User, Reason::TransactionPooling), "{failure}");
    assert_says(&failure.message, &["pool_mode = transaction", "Connect to the server itself", "pool_mode = session"]);
    Ok(())
}

/// As far as a server without a pooler goes: a function of the query takes the mark of the session away.
#[tokio::test]
async fn a_session_that_lost_its_mark_takes_no_lock_and_reads_nothing() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(
        "SELECT create_hypertable('metric', 'ts', migrate_data => true);
         CREATE FUNCTION width() RETURNS interval LANGUAGE plpgsql IMMUTABLE AS $body$ BEGIN
            PERFORM set_config('timescaledb_policy_operator.session', 'of another', false);
            RETURN interval '1 hour';
         END $body$",
    )
    .await?;
    let query = format!("SELECT time_bucket({}.width(), ts) AS hour, count(*) FROM metric GROUP BY 1", db.schema);
    let resources = [hypertable("metric", json!({})), aggregate("hourly", &query, json!({}))];
    db.session.lock().await?;
    let failure = db.attempt(resources).await.err().ok_or("it went on")?;
    assert_says(&failure.to_string(), &["pool_mode = transaction"]);
    for failure in [db.session.lock().await.err(), db.session.observe(&[]).await.err()] {
        assert_eq!(failure.map(|failure| failure.reason), Some(Reason::TransactionPooling));
    }
    // A new session is marked anew.
    db.through(&db.endpoint()).await?.session.observe(&[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_operator_waits_and_names_the_first() -> Result<()> {
    let server = TimescaleDb::start().await?;
    let as_operator = |name: &str| {
        let mut endpoint = endpoint(&server.url());
        endpoint.config.application_name(name);
        endpoint
    };
    let metrics = Metrics::default();
    let first = Session::connect(&as_operator("the first operator"), &metrics).await?;
    first.lock().await?;
    first.lock().await?; // its own lock is no obstacle
    let second = Session::connect(&as_operator("the second operator"), &metrics).await?;
    assert_eq!(metrics.connections.get(), 2);
    let failure = second.lock().await.expect_err("two have the lock");
    assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::DatabaseLocked));
    if server.is_native() {
        // The WebAssembly server has one backend, so that its locks do not tell whose they are.
        assert_says(&failure.message, &["the first operator (process "]);
    }
    second.observe(&[]).await?; // reading is not forbidden

    drop(first);
    let deadline = Instant::now() + DEADLINE;
    while let Err(failure) = second.lock().await {
        assert_eq!(failure.reason, Reason::DatabaseLocked, "{failure}");
        assert!(Instant::now() < deadline, "the lock outlived its session");
    }
    assert_eq!(metrics.connections.get(), 1);
    Ok(())
}

/// Passes bytes on until it is told to stop.
struct Proxy {
    port: u16,
    tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(server: &TimescaleDb) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let upstream = (server.host().to_owned(), server.port());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let upstream = upstream.clone();
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(upstream).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await; // ends with either side
                    }
                });
            }
        });
        Ok(Self { port, tasks })
    }

    /// Ends all connections and takes no more.
    async fn cut(mut self) {
        self.tasks.shutdown().await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_says_so_and_a_new_one_takes_its_place() -> Result<()> {
    let server = TimescaleDb::start().await?;
    let proxy = Proxy::start(&server).await?;
    let metrics = Metrics::default();
    let mut through = endpoint(&server.url());
    through.config = {
        let mut config = tokio_postgres::Config::new();
        let tls = tokio_postgres::config::SslMode::Disable;
        config
            .host("127.0.0.1")
            .port(proxy.port)
            .user(server.user())
            .password(server.password())
            .dbname(server.dbname())
            .ssl_mode(tls);
        config
    };
    let session = Session::connect(&through, &metrics).await?;
    session.lock().await?;
    session.observe(&[]).await?;
    proxy.cut().await;
    let failure = session.observe(&[]).await.expect_err("the connection outlived its cable");
    assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::DatabaseUnreachable), "{failure}");
    let deadline = Instant::now() + DEADLINE;
    while !session.is_closed() {
        assert!(Instant::now() < deadline, "it does not notice");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(session);
    assert_eq!(metrics.connections.get(), 0);

    // Nobody told the server. It lets go of the lock when it notices by itself.
    let session = Session::connect(&endpoint(&server.url()), &metrics).await?;
    let deadline = Instant::now() + DEADLINE;
    while session.lock().await.is_err() {
        assert!(Instant::now() < deadline, "the lock outlived its session");
    }
    session.observe(&[]).await?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_an_administrator_ends_is_unreachable_for_now() -> Result<()> {
    let db = Database::alone().await?;
    if !db.server.is_native() {
        return Ok(()); // its connections share one backend
    }
    let mut named = db.endpoint();
    named.config.application_name("to be ended");
    let session = Session::connect(&named, &Metrics::default()).await?;
    db.run_as_superuser("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be ended' AND datname = current_database()").await?;
    let failure = session.observe(&[]).await.expect_err("it goes on");
    assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::DatabaseUnreachable), "{failure}");
    Ok(())
}

#[tokio::test]
async fn a_database_without_the_extension_is_named_and_taken_up_once_it_is_there() -> Result<()> {
    let db = Database::alone().await?;
    db.run_as_superuser("DROP EXTENSION timescaledb CASCADE").await?;
    db.run(METRIC).await?;
    // The library of an extension that is gone stays in the process: a session of its own sees the database as it is.
    let bare = db.through(&db.endpoint()).await?;
    let plan = bare.plan(everything()).await?;
    for (kind, name) in [
        (Kind::Hypertable, "metric"),
        (Kind::CompressionPolicy, "metric"),
        (Kind::RetentionPolicy, "metric"),
        (Kind::ContinuousAggregate, "hourly"),
    ] {
        assert_rejected(rejection(&plan, kind, name), Reason::ExtensionMissing, &["CREATE EXTENSION timescaledb"]);
    }
    assert_eq!(plan.steps, []);
    if db.server.is_native() {
        // The WebAssembly server loads the library once.
        db.server.connect().await?.batch_execute("CREATE EXTENSION timescaledb").await?;
        let again = db.through(&db.endpoint()).await?;
        assert_eq!(
            again.converge([hypertable("metric", json!({"migrateData": true}))]).await?.actions(),
            ["create_hypertable"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_only_reads_is_read_and_nothing_attempted() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    for (option, says) in
        [("default_transaction_read_only=on", "read-only"), ("timescaledb.restoring=on", "timescaledb.restoring")]
    {
        // The second one only a superuser may set, as timescaledb_pre_restore() does for the whole database.
        let mut endpoint = endpoint(&db.server.url());
        endpoint.config.options(format!("-c {option}"));
        let outcome = db.through(&endpoint).await?.attempt(everything()).await?;
        assert_eq!(outcome.actions(), [""; 0]);
        assert_rejected(outcome.rejection(Kind::Hypertable, "metric"), Reason::ReadOnly, &[says]);
    }
    Ok(())
}

#[tokio::test]
async fn a_hundred_hypertables_are_observed_with_as_many_statements_as_one() -> Result<()> {
    // So many would slow down the tests that share a server.
    let db = Database::alone().await?;
    let tables: Vec<_> = (0..100).map(|i| format!("metric_{i:03}")).collect();
    for table in &tables {
        db.run(&format!("CREATE TABLE {table} (ts timestamptz NOT NULL, value float8)")).await?;
    }
    let resources = |tables: &[String]| -> Vec<Value> {
        let of = |table: &String| {
            [
                hypertable(
                    table,
                    json!({"chunkInterval": "1 day", "indexes": [{"name": format!("{table}_value"), "columns": [{"name": "value"}]}]}),
                ),
                compression(table, json!({"segmentBy": [], "paused": true})),
                retention(table, json!({"paused": true})),
            ]
        };
        tables.iter().flat_map(of).collect()
    };
    let planned = async |tables: &[String], steps: usize| {
        let before = db.metrics.statements.get();
        let plan = db.plan(resources(tables)).await?;
        assert_eq!(plan.steps.len(), steps);
        Ok::<u64, crate::support::Error>(db.metrics.statements.get() - before)
    };
    // Before, when every table has to be looked at, and after, when there is nothing to do.
    let (one, hundred) = (planned(&tables[..1], 4).await?, planned(&tables, 400).await?);
    assert_eq!(one, hundred, "to plan their conversion");
    db.converge(resources(&tables)).await?;
    let (one, hundred) = (planned(&tables[..1], 0).await?, planned(&tables, 0).await?);
    assert_eq!(one, hundred, "to see that nothing is to be done");
    assert!(hundred <= 4, "{hundred} statements");
    let catalog = db.session.observe(&[]).await?;
    let before = db.metrics.statements.get();
    assert!(db.session.statistics(&catalog).await?.tables.len() >= 100);
    assert_eq!(db.metrics.statements.get() - before, 3);
    Ok(())
}

#[tokio::test]
async fn what_many_policies_would_drop_is_one_question() -> Result<()> {
    let db = Database::shared().await?;
    let tables: Vec<_> = (0..20).map(|i| format!("metric_{i:02}")).collect();
    for table in &tables {
        db.run(&format!(
            "CREATE TABLE {table} (ts timestamptz NOT NULL); SELECT create_hypertable('{table}', 'ts'); INSERT INTO {table} VALUES ('2020-01-01')"
        ))
        .await?;
    }
    let planned = async |tables: &[String]| {
        let before = db.metrics.statements.get();
        let resources = tables.iter().flat_map(|table| [hypertable(table, json!({})), retention(table, json!({}))]);
        let plan = db.plan(resources).await?;
        assert!(
            plan.verdicts.values().filter(|verdict| matches!(verdict, Verdict::NeedsApproval(_))).count()
                == tables.len()
        );
        Ok::<u64, crate::support::Error>(db.metrics.statements.get() - before)
    };
    assert_eq!(planned(&tables[..1]).await?, planned(&tables).await?);
    Ok(())
}
