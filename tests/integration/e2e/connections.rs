//! Secrets, servers and sessions come and go; the operator never needs a restart, and one database never delays another.

use super::{
    PATIENCE,
    database::Database,
    kstatus, manifests,
    relay::{ClosedPort, Relay, deaf_port, mute_port},
    stage::Stage,
};
use crate::support::{Error, Result};

#[tokio::test]
async fn a_secret_may_come_late_be_wrong_and_change_without_a_restart() -> Result<()> {
    let mut stage = Stage::own("secrets").await?;
    stage.start_operator_logging("trace").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.apply(&[manifests::database("plant", ""), manifests::hypertable("readings", "")]).await?;
    let (host, port, name) = database.address()?;
    let port = port.to_string();
    let address = [("host", host), ("port", &port), ("username", database.user())];
    let with = |more: &[(&'static str, &'static str)]| [&address[..], more].concat();

    let message = stage.says("timescaledatabase/plant", "SecretNotFound").await?;
    assert!(message.contains("secret plant does not exist in namespace secrets; create it"), "{message}");
    assert!(stage.says("hypertable/readings", "SecretNotFound").await?.contains("TimescaleDatabase plant"));

    stage.secret_of("plant", &address).await?;
    let says = async |reason, word| {
        let with_word = stage.until("timescaledatabase/plant", word, |found| {
            let ready = super::stage::condition(found, "Ready");
            ready["reason"] == reason && ready["message"].as_str().is_some_and(|message| message.contains(word))
        });
        with_word.await.map(drop)
    };
    says("SecretNotFound", "it has no dbname; add the key dbname").await?;
    let name = [("dbname", name)];
    stage.secret_of("plant", &[&address[..], &name].concat()).await?;
    says("SecretNotFound", "password").await?;
    let wrong = with(&[("password", "a-wrong-word")]);
    stage.secret_of("plant", &[&wrong[..], &name].concat()).await?;
    says("AuthenticationFailed", "Check user and password in the connection secret").await?;
    stage.secret(&database).await?;
    stage.ready("timescaledatabase/plant hypertable/readings").await?;

    // A session that is open is given up for the new secret too.
    stage.secret_of("plant", &[&wrong[..], &name].concat()).await?;
    stage.says("timescaledatabase/plant", "AuthenticationFailed").await?;
    stage.secret(&database).await?;
    stage.ready("timescaledatabase/plant hypertable/readings").await?;
    stage.end().await?;
    database.end().await
}

/// The keys that others write, as they write them: what a layout does not hold is set in the resource.
#[tokio::test]
async fn the_secrets_of_other_operators_are_read_as_they_are() -> Result<()> {
    let stage = Stage::shared("layouts").await?;
    let database = Database::start().await?;
    let (host, port, dbname) = database.address()?;
    let (user, password, port) = (database.user(), database.password()?, &port.to_string());
    let uri = &format!("postgresql://{user}:{password}@{host}:{port}/{dbname}");
    let with_tls = &format!("{uri}?sslmode=verify-full&sslrootcert=/etc/ca.crt");
    let jdbc = &format!("jdbc:postgresql://{host}:{port}/{dbname}?user={user}&password={password}");
    let nowhere = "postgresql://nobody:nothing@no-such-host.invalid:1/nothing";
    let credentials = [("username", user), ("password", password)];
    let address = [("host", host), ("port", port)];
    let of_spec = format!("host: {host}, port: {port}, database: {dbname}");
    let layouts = [
        (
            "cloudnative-pg",
            vec![
                ("user", user),
                ("dbname", dbname),
                ("pgpass", "nowhere:1:nothing:nobody:nothing"),
                ("uri", nowhere),
                ("jdbc-uri", jdbc),
                ("fqdn-uri", uri),
                ("fqdn-jdbc-uri", jdbc),
                ("host", "only-in-its-namespace.invalid"),
                ("port", "1"),
                credentials[0],
                credentials[1],
            ],
            String::new(),
        ),
        (
            "crunchy",
            vec![
                ("user", user),
                ("password", password),
                ("verifier", "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"),
                ("dbname", dbname),
                ("uri", uri),
                ("jdbc-uri", jdbc),
                ("pgbouncer-host", "no-such-host.invalid"),
                ("pgbouncer-port", "1"),
                ("pgbouncer-uri", nowhere),
                ("pgbouncer-jdbc-uri", "jdbc:postgresql://no-such-host.invalid:1/nothing"),
                address[0],
                address[1],
            ],
            String::new(),
        ),
        ("zalando", credentials.to_vec(), of_spec.clone()),
        (
            "service-binding",
            vec![
                ("type", "postgresql"),
                ("provider", "example"),
                ("database", dbname),
                ("uri", with_tls),
                address[0],
                address[1],
                credentials[0],
                credentials[1],
            ],
            String::new(),
        ),
        (
            "service-binding-without-uri",
            vec![("type", "postgresql"), ("database", dbname), address[0], address[1], credentials[0], credentials[1]],
            String::new(),
        ),
        (
            "provider-sql",
            vec![("endpoint", host), ("port", port), credentials[0], credentials[1]],
            format!("database: {dbname}"),
        ),
        ("plain-uri", vec![("uri", uri)], String::new()),
    ];
    let resource = |name: &str, spec: &str| {
        let spec = format!("connection: {{secretRef: {{name: {name}}}, {spec}}}, resyncInterval: 1s");
        manifests::resource("TimescaleDatabase", name, &spec)
    };
    for (name, keys, spec) in layouts {
        stage.secret_of(name, &keys).await?;
        // What the layout does not hold is named.
        if !spec.is_empty() {
            stage.apply(&[resource(name, "")]).await?;
            let message = stage.says(&format!("timescaledatabase/{name}"), "SecretNotFound").await?;
            let fields = if name == "zalando" {
                "spec.connection.host and spec.connection.database"
            } else {
                "spec.connection.database"
            };
            assert!(message.contains("or set ") && message.ends_with(fields), "{message}");
        }
        // One after the other: only one may manage a database.
        stage.apply(&[resource(name, &spec)]).await?;
        stage.ready(&format!("timescaledatabase/{name}")).await?;
        stage.delete(&[resource(name, &spec)]).await?;
    }
    stage.end().await?;
    database.end().await
}

/// `kubectl wait` and GitOps tools must not wait for a certificate to become another one.
#[tokio::test]
async fn transport_that_is_not_as_the_resource_demands_has_failed_and_is_named() -> Result<()> {
    let stage = Stage::shared("transport").await?;
    let database = Database::start().await?;
    stage.secret(&database).await?;
    let authority = {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate()?)?.pem()
    };
    stage.secret_of("another-ca", &[("ca.crt", &authority)]).await?;
    let (reason, words) = if database.value::<String>("SHOW ssl").await? == "on" {
        ("CertificateInvalid", ["UnknownIssuer", "caSecretRef"])
    } else {
        ("InvalidSpec", ["the server does not support TLS", "spec.connection.tls.mode"])
    };
    let tls = "tls: {mode: VerifyFull, caSecretRef: {name: another-ca}}";
    let spec = format!("connection: {{secretRef: {{name: plant}}, {tls}}}, resyncInterval: 1s");
    stage.apply(&[manifests::resource("TimescaleDatabase", "plant", &spec)]).await?;
    let message = stage.says("timescaledatabase/plant", reason).await?;
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    assert_eq!(kstatus::of(&stage.get("timescaledatabase/plant").await?), "Failed");
    stage.patch("timescaledatabase/plant", r#"{"connection": {"tls": {"mode": "Prefer"}}}"#).await?;
    stage.ready("timescaledatabase/plant").await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_password_may_be_rotated_before_the_secret_and_the_session_lives_on() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // it has one password for all
    }
    let stage = Stage::shared("rotation").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day")]).await?;
    let superuser = database.superuser().await?;
    let ours = "datname = current_database() AND application_name LIKE 'timescaledb-policy-operator%'";
    let process = format!("SELECT pid FROM pg_stat_activity WHERE {ours}");
    let first: i32 = superuser.query_one(&process, &[]).await?.get(0);
    let rotated = "word-of-the-next-month";
    superuser.batch_execute(&format!("ALTER ROLE {} PASSWORD '{rotated}'", database.user())).await?;

    // The old secret, the new password: who is in stays in.
    stage.patch("hypertable/readings", r#"{"chunkInterval": "2 days"}"#).await?;
    database.until(&Database::chunks_span("readings", "2 days")).await?;
    assert_eq!(superuser.query_one(&process, &[]).await?.get::<_, i32>(0), first, "the same session");
    // Who has to come in again does not.
    superuser.execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"), &[]).await?;
    stage.says("timescaledatabase/plant", "AuthenticationFailed").await?;

    let (host, port, dbname) = database.address()?;
    let port = port.to_string();
    let new = |password| {
        [
            ("username", database.user()),
            ("password", password),
            ("host", host),
            ("port", port.as_str()),
            ("dbname", dbname),
        ]
    };
    stage.secret_of("plant", &new(rotated)).await?;
    stage.ready("timescaledatabase/plant").await?;
    // Both at once: the secret of a session that is open.
    let second: i32 = superuser.query_one(&process, &[]).await?.get(0);
    let rotated = "word-of-the-month-after";
    superuser.batch_execute(&format!("ALTER ROLE {} PASSWORD '{rotated}'", database.user())).await?;
    stage.secret_of("plant", &new(rotated)).await?;
    database
        .until_for_superuser(&format!(
            "(SELECT min(pid) = max(pid) AND min(pid) <> {second} FROM pg_stat_activity WHERE {ours})"
        ))
        .await?;
    stage.patch("hypertable/readings", r#"{"chunkInterval": "3 days"}"#).await?;
    database.until(&Database::chunks_span("readings", "3 days")).await?;
    stage.says("timescaledatabase/plant", "InSync").await?;
    stage.end().await?;
    drop(superuser);
    database.end().await
}

#[tokio::test]
async fn another_host_in_the_resource_is_gone_to_at_once() -> Result<()> {
    let stage = Stage::shared("moved").await?;
    let (old, new) = (Database::start().await?, Database::start().await?);
    for database in [&old, &new] {
        database.run(&manifests::table("readings")).await?;
    }
    let (old_relay, new_relay) = (Relay::to(&old).await?, Relay::to(&new).await?);
    let at = |relay: &Relay, database: &Database| {
        let (_, _, dbname) = database.address()?;
        Ok::<_, Error>(format!(
            r#"{{"connection": {{"host": "localhost", "port": {}, "database": "{dbname}"}}}}"#,
            relay.port()
        ))
    };
    stage.secret(&old).await?;
    let spec = "connection: {secretRef: {name: plant}, tls: {mode: Disable}}, resyncInterval: 1s";
    let readings = manifests::hypertable("readings", "chunkInterval: 2 days");
    let retention = manifests::retention("readings", "dropAfter: 1 year");
    stage.apply(&[manifests::resource("TimescaleDatabase", "plant", spec), readings, retention]).await?;
    stage.ready("timescaledatabase/plant hypertable/readings retentionpolicy/readings").await?;
    stage.patch("timescaledatabase/plant", &at(&old_relay, &old)?).await?;
    stage.says("timescaledatabase/plant", "InSync").await?;

    // The role of the other database has another name, and maybe another password.
    stage.secret(&new).await?;
    stage.patch("timescaledatabase/plant", &at(&new_relay, &new)?).await?;
    new.until(&Database::chunks_span("readings", "2 days")).await?;
    new.until(&Database::drops_after("readings", "1 year")).await?;
    stage.says("timescaledatabase/plant", "InSync").await?;
    old_relay.close(); // nothing depends on it any more
    stage.patch("hypertable/readings", r#"{"chunkInterval": "3 days"}"#).await?;
    new.until(&Database::chunks_span("readings", "3 days")).await?;
    stage.says("hypertable/readings", "InSync").await?;
    assert!(old.value::<bool>(&format!("SELECT {}", Database::chunks_span("readings", "2 days"))).await?);
    assert_eq!(old.policies("retention").await?, 1, "what it pointed to is left as it is");
    stage.end().await?;
    old.end().await?;
    new.end().await
}

#[tokio::test]
async fn resources_wait_for_their_database_to_be_described() -> Result<()> {
    let stage = Stage::shared("described-late").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let policies = [manifests::hypertable("readings", ""), manifests::retention("readings", "dropAfter: 1 year")];
    stage.apply(&policies).await?;
    for object in ["hypertable/readings", "retentionpolicy/readings"] {
        let message = stage.says(object, "DatabaseNotFound").await?;
        assert!(
            message.contains("TimescaleDatabase plant does not exist in namespace described-late; create it"),
            "{message}"
        );
    }
    stage.secret(&database).await?;
    stage.apply(&[manifests::database("plant", "")]).await?;
    stage.ready("timescaledatabase/plant hypertable/readings retentionpolicy/readings").await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_server_may_start_after_the_resources_and_go_away_for_a_while() -> Result<()> {
    let stage = Stage::shared("server-late").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let closed = ClosedPort::new()?;
    let port = closed.port();
    stage.secret_named("plant", &database, port).await?;
    stage
        .apply(&[
            manifests::database("plant", ""),
            manifests::hypertable("readings", "chunkInterval: 1 day"),
            manifests::retention("readings", "dropAfter: 1 year"),
        ])
        .await?;
    let message = stage.says("timescaledatabase/plant", "DatabaseUnreachable").await?;
    assert!(message.contains(&format!(":{port}")), "{message}");
    stage.says("retentionpolicy/readings", "DatabaseUnreachable").await?;
    let relay = closed.open(&database)?;
    let all = "timescaledatabase/plant hypertable/readings retentionpolicy/readings";
    stage.ready(all).await?;

    relay.close();
    stage.says("timescaledatabase/plant", "DatabaseUnreachable").await?;
    stage.patch("hypertable/readings", r#"{"chunkInterval": "2 days"}"#).await?;
    stage.says("hypertable/readings", "DatabaseUnreachable").await?;
    relay.open();
    stage.ready(all).await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("readings", "2 days"))).await?);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_connection_cut_in_a_step_leaves_the_step_done_once() -> Result<()> {
    let stage = Stage::shared("cut-in-a-step").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let relay = Relay::to(&database).await?;
    stage.secret_named("plant", &database, relay.port()).await?;
    let spec = "connection: {secretRef: {name: plant}, tls: {mode: Disable}}, resyncInterval: 1s";
    stage.apply(&[manifests::resource("TimescaleDatabase", "plant", spec)]).await?;
    stage.ready("timescaledatabase/plant").await?;

    // Done, and nobody was told.
    relay.cut_at("COMMIT");
    stage.apply(&[manifests::hypertable("readings", "")]).await?;
    stage.ready("hypertable/readings").await?;
    assert!(relay.has_struck());
    // Perhaps done, perhaps not.
    relay.cut_at("add_retention_policy(");
    stage.apply(&[manifests::retention("readings", "dropAfter: 1 year")]).await?;
    stage.ready("retentionpolicy/readings").await?;
    assert!(relay.has_struck());
    assert_eq!(database.policies("retention").await?, 1);
    // The answer to a question.
    relay.cut_at("CREATE TEMP");
    stage.apply(&[manifests::aggregate("hourly", "readings", "1 hour", "realTime: true")]).await?;
    stage.ready("continuousaggregate/hourly").await?;
    assert!(relay.has_struck());
    // A step on a connection of its own.
    database.run("INSERT INTO plant.readings VALUES (now(), 1, 1), (now() - interval '30 days', 2, 2)").await?;
    relay.cut_at("CREATE INDEX");
    let indexed = "indexes: [{name: readings_sensor, columns: [{name: sensor}]}]";
    stage.apply(&[manifests::hypertable("readings", indexed)]).await?;
    stage.says("hypertable/readings", "InSync").await?;
    assert!(relay.has_struck());
    // The lock of a new session, and an observation.
    for text in ["pg_try_advisory_lock", "REPEATABLE READ"] {
        relay.close();
        stage.says("timescaledatabase/plant", "DatabaseUnreachable").await?;
        relay.cut_at(text);
        relay.open();
        stage.ready("timescaledatabase/plant").await?;
        assert!(relay.has_struck(), "{text}");
    }
    stage.delete(&[manifests::retention("readings", "dropAfter: 1 year")]).await?;
    assert_eq!(database.policies("retention").await?, 0);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn databases_that_do_not_answer_delay_no_other() -> Result<()> {
    let stage = Stage::shared("dead-databases").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let closed = ClosedPort::new()?;
    let (_mute, mute) = mute_port().await?;
    let (_queue, _deaf, deaf) = deaf_port().await?;
    let dead = [("closed", closed.port()), ("mute", mute), ("deaf", deaf)];
    for (name, port) in dead {
        stage.secret_named(name, &database, port).await?;
    }
    stage.apply(&dead.map(|(name, _)| manifests::database(name, ""))).await?;
    stage.secret(&database).await?;
    stage
        .apply(&[manifests::database("plant", ""), manifests::hypertable("readings", "chunkInterval: 1 hour")])
        .await?;
    stage.ready("hypertable/readings").await?;
    // More changes than there would be time for if each had to wait for one of them.
    let changes = async {
        for hours in 2..20 {
            stage.patch("hypertable/readings", &format!(r#"{{"chunkInterval": "{hours} hours"}}"#)).await?;
            database.until(&Database::chunks_span("readings", &format!("{hours} hours"))).await?;
        }
        Ok::<_, Error>(())
    };
    tokio::time::timeout(PATIENCE, changes).await??;
    for (name, port) in dead {
        let message = stage.says(&format!("timescaledatabase/{name}"), "DatabaseUnreachable").await?;
        assert!(message.contains(&format!(":{port}")), "{name}: {message}");
    }
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_missing_extension_is_named_and_awaited() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // its server is the extension
    }
    let stage = Stage::shared("extension").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let superuser = database.superuser().await?;
    superuser.batch_execute("DROP EXTENSION timescaledb").await?;
    stage.secret(&database).await?;
    stage.apply(&[manifests::database("plant", ""), manifests::hypertable("readings", "")]).await?;
    let message = stage.says("hypertable/readings", "ExtensionMissing").await?;
    assert!(message.contains("CREATE EXTENSION timescaledb"), "{message}");
    stage.says("timescaledatabase/plant", "ExtensionMissing").await?;
    database.superuser().await?.batch_execute("CREATE EXTENSION timescaledb").await?;
    stage.ready("timescaledatabase/plant hypertable/readings").await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_server_that_became_read_only_is_left_alone_until_it_is_not() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // its settings belong to the connection
    }
    let stage = Stage::shared("read-only").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[manifests::hypertable("readings", "chunkInterval: 1 day")]).await?;
    let superuser = database.superuser().await?;
    let switch = async |to: &str| {
        let statements = format!(
            "SET default_transaction_read_only = off; ALTER DATABASE {} SET default_transaction_read_only = {to};
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'timescaledb-policy-operator%'",
            database.address()?.2
        );
        Ok::<_, Error>(superuser.batch_execute(&statements).await?)
    };
    switch("on").await?;
    let message = stage.says("timescaledatabase/plant", "ReadOnly").await?;
    assert!(message.contains("nothing is attempted"), "{message}");
    stage.patch("hypertable/readings", r#"{"chunkInterval": "2 days"}"#).await?;
    stage.says("hypertable/readings", "ReadOnly").await?;
    switch("off").await?;
    stage.ready("timescaledatabase/plant hypertable/readings").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("readings", "2 days"))).await?);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_table_that_the_application_uses_is_tried_again_and_blocks_nobody() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // one backend waits for no lock
    }
    let stage = Stage::shared("locked-table").await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("readings"), manifests::table("other")].concat()).await?;
    let mut application = database.connect().await?;
    let transaction = application.transaction().await?;
    transaction.batch_execute("INSERT INTO plant.readings VALUES (now(), 1, 1)").await?;
    stage.secret(&database).await?;
    let readings = manifests::hypertable("readings", "migrateData: true");
    stage.apply(&[manifests::database("plant", ""), readings, manifests::hypertable("other", "")]).await?;
    let message = stage.says("hypertable/readings", "LockTimeout").await?;
    assert!(message.contains("plant.readings"), "{message}");
    stage.ready("hypertable/other").await?;
    // Nothing is queued in front of the application.
    database.run("INSERT INTO plant.readings VALUES (now(), 2, 2)").await?;
    transaction.commit().await?;
    stage.ready("hypertable/readings").await?;
    assert_eq!(database.value::<i64>("SELECT count(*) FROM plant.readings").await?, 2);
    stage.end().await?;
    database.end().await
}
