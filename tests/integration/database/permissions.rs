//! Roles: what the owner of a table may do is enough, and who may less is told so, for each object on its own.

use serde_json::{Value, json};
use timescaledb_policy_operator::{api::status::Reason, desired::Kind, error::Class, plan::step::Verdict};

use super::driver::{Database, Outcome, aggregate, assert_says, compression, hypertable, retention};
use crate::support::Result;

const QUERY: &str = "SELECT time_bucket('1 hour', ts) AS hour, avg(value) AS value FROM metric GROUP BY 1";

/// The same schema as a role that was just made. It owns nothing; what it is granted is up to the test.
struct Guest {
    db: Database,
    role: String,
}

impl std::ops::Deref for Guest {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.db
    }
}

impl Guest {
    /// Roles belong to the whole server, and outlive a database.
    async fn leave(self) -> Result<()> {
        let Self { db, role } = self;
        db.run_as_superuser(&format!(
            "REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
        ))
        .await
    }
}

async fn as_role(db: &Database, grants: &str) -> Result<Guest> {
    let role = format!("role_{:016x}", fastrand::u64(..));
    let password = db.server.password_of_roles().replace('\'', "''");
    db.run_as_superuser(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).await?;
    db.run_as_superuser(&grants.replace("$role", &role)).await?;
    let mut endpoint = db.endpoint();
    endpoint.config.user(&role);
    Ok(Guest { db: db.through(&endpoint).await?, role })
}

fn refusal<'a>(outcome: &'a Outcome, kind: Kind, name: &str) -> (Reason, &'a str) {
    match outcome.verdict(kind, name) {
        Verdict::Rejected(rejection) => (rejection.reason, &rejection.message),
        _ => {
            let failure = outcome.failure(kind, name);
            assert_eq!(failure.class, Class::User, "{failure}");
            (failure.reason, &failure.message)
        }
    }
}

fn everything() -> Vec<Value> {
    let index = json!({"name": "by_value", "columns": [{"name": "value"}], "where": "value > 0"});
    let refresh = json!({"startOffset": "10 days", "endOffset": "1 hour", "schedule": {"interval": "1 hour"}});
    vec![
        hypertable("metric", json!({"chunkInterval": "1 day", "migrateData": true, "indexes": [index]})),
        compression("metric", json!({"segmentBy": ["device"]})),
        retention("metric", json!({"dropAfter": "90 days"})),
        aggregate("hourly", QUERY, json!({"realTime": true, "refreshPolicy": refresh})),
    ]
}

const METRIC: &str = "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8); INSERT INTO metric VALUES (now(), 1, 1)";

#[tokio::test]
async fn the_owner_of_the_table_needs_no_other_privilege() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let grants = "GRANT USAGE, CREATE ON SCHEMA $schema TO $role; ALTER TABLE metric OWNER TO $role";
    let owner = as_role(&db, grants).await?;
    let mut actions = owner.converge(everything()).await?.actions();
    actions.sort_unstable();
    assert_eq!(
        actions,
        ["add_policy", "add_policy", "add_policy", "create_aggregate", "create_hypertable", "set_compression"]
    );
    let mut changed = everything();
    changed[0]["spec"]["chunkInterval"] = "2 days".into();
    changed[0]["spec"]["indexes"] = json!([{"name": "by_device", "columns": [{"name": "device"}]}]);
    changed[1]["spec"]["segmentBy"] = json!([]);
    changed[2]["spec"]["paused"] = true.into();
    changed[3]["spec"]["realTime"] = false.into();
    let mut actions = owner.converge(changed).await?.actions();
    actions.sort_unstable();
    assert_eq!(
        actions,
        ["alter_policy", "build_index", "drop_index", "set_chunk_interval", "set_compression", "set_materialized_only"]
    );
    owner.leave().await
}

/// Startup options, as in the test of sessions, win over what a role sets; here there are none.
#[tokio::test]
async fn what_a_role_sets_for_itself_changes_nothing() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let grants = "GRANT USAGE, CREATE ON SCHEMA $schema TO $role; ALTER TABLE metric OWNER TO $role;
        ALTER ROLE $role SET search_path = ''; ALTER ROLE $role SET statement_timeout = '200ms'; ALTER ROLE $role SET IntervalStyle = 'iso_8601'";
    let owner = as_role(&db, grants).await?;
    assert_eq!(owner.converge(everything()).await?.steps.len(), 6);
    assert_eq!(db.converge(everything()).await?.actions(), [""; 0], "a session without these settings sees the same");
    owner.leave().await
}

#[tokio::test]
async fn a_role_that_does_not_own_the_table_is_told_what_it_needs() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let guest = as_role(
        &db,
        "GRANT USAGE, CREATE ON SCHEMA $schema TO $role; GRANT SELECT ON ALL TABLES IN SCHEMA $schema TO $role",
    )
    .await?;
    let outcome = guest.attempt([everything().remove(0)]).await?;
    let (reason, message) = refusal(&outcome, Kind::Hypertable, "metric");
    assert_eq!(reason, Reason::PermissionDenied, "{message}");
    assert_says(message, &["metric", "must own the table"]);
    let made = "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = '$schema'";
    assert_eq!(db.one::<i64>(made).await?, 0);

    // Once somebody else has made everything, each change of it is refused, and each on its own.
    db.converge(everything()).await?;
    assert_eq!(guest.converge(everything()).await?.actions(), [""; 0], "looking is allowed");
    let mut changed = everything();
    changed[0]["spec"]["indexes"] = json!([{"name": "by_device", "columns": [{"name": "device"}]}]);
    changed[1]["spec"]["segmentBy"] = json!([]);
    changed[2]["spec"]["paused"] = true.into();
    changed[3]["spec"]["realTime"] = false.into();
    let outcome = guest.attempt(changed).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    for (kind, name) in [
        (Kind::Hypertable, "metric"),
        (Kind::CompressionPolicy, "metric"),
        (Kind::RetentionPolicy, "metric"),
        (Kind::ContinuousAggregate, "hourly"),
    ] {
        let (reason, message) = refusal(&outcome, kind, name);
        assert_eq!(reason, Reason::PermissionDenied, "{message}");
        assert_says(message, &["must own the table"]);
    }
    assert_eq!(db.converge(everything()).await?.actions(), [""; 0], "and nothing has changed");
    guest.leave().await
}

/// Two schemas of one database, and a role that is let into one of them.
#[tokio::test]
async fn what_a_role_may_not_see_holds_up_nothing_that_it_may() -> Result<()> {
    let (db, closed) = (Database::shared().await?, Database::shared().await?);
    for place in [&db, &closed] {
        place.run(METRIC).await?;
        place.run("SELECT create_hypertable('metric', 'ts', chunk_time_interval => interval '1 day', migrate_data => true)").await?;
    }
    closed.run("ALTER TABLE metric RENAME TO hidden; CREATE TABLE plain (ts timestamptz NOT NULL)").await?;
    let role =
        as_role(&db, "GRANT USAGE, CREATE ON SCHEMA $schema TO $role; ALTER TABLE metric OWNER TO $role").await?;
    let elsewhere = |mut resource: Value| {
        resource["spec"]["schema"] = closed.schema.clone().into();
        resource
    };
    let predicate = json!([{"name": "odd", "columns": [{"name": "ts"}], "where": "value > 0"}]);
    let secret =
        format!("SELECT time_bucket('1 hour', ts) AS hour, avg(value) FROM {}.hidden GROUP BY 1", closed.schema);
    let theirs = vec![
        elsewhere(hypertable("hidden", json!({"indexes": predicate}))),
        elsewhere(hypertable("plain", json!({}))),
        compression("hidden", json!({})),
        retention("hidden", json!({})),
        aggregate("secret", &secret, json!({})),
    ];
    let outcome = role.attempt(everything().into_iter().chain(theirs)).await?;
    for (kind, name) in [
        (Kind::Hypertable, "metric"),
        (Kind::CompressionPolicy, "metric"),
        (Kind::RetentionPolicy, "metric"),
        (Kind::ContinuousAggregate, "hourly"),
    ] {
        assert_eq!(outcome.verdict(kind, name), &Verdict::InSync, "{:?}", outcome.failures);
    }
    for (kind, name) in [
        (Kind::Hypertable, "hidden"),
        (Kind::Hypertable, "plain"),
        (Kind::CompressionPolicy, "hidden"),
        (Kind::RetentionPolicy, "hidden"),
        (Kind::ContinuousAggregate, "secret"),
    ] {
        let (reason, message) = refusal(&outcome, kind, name);
        assert_eq!(reason, Reason::PermissionDenied, "{kind:?} {name}: {message}");
        assert_says(message, &["permission denied for schema"]);
    }
    role.leave().await
}

#[tokio::test]
async fn a_role_that_owns_nothing_sees_what_the_superuser_sees() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge(everything()).await?;
    let plain = as_role(&db, "").await?;
    let relation = format!("{}.metric", db.schema).parse()?;
    let (seen, all) = (plain.session.observe(&[&relation]).await?, db.session.observe(&[&relation]).await?);
    // Other tests change other schemas meanwhile.
    let mine = |name: &timescaledb_policy_operator::api::types::Relation| name.schema.as_str() == db.schema;
    assert_eq!(seen.server, all.server);
    assert!(all.hypertables.contains_key(&relation));
    for (name, hypertable) in all.hypertables.iter().filter(|(name, _)| mine(name)) {
        assert_eq!(seen.hypertables.get(name), Some(hypertable));
        let jobs = |catalog: &timescaledb_policy_operator::catalog::Catalog| {
            catalog.jobs.iter().filter(|job| job.hypertable_id == hypertable.id).cloned().collect::<Vec<_>>()
        };
        assert_eq!(jobs(&seen), jobs(&all));
        assert_eq!(jobs(&all).len(), 2);
    }
    for (name, aggregate) in all.aggregates.iter().filter(|(name, _)| mine(name)) {
        assert_eq!(seen.aggregates.get(name), Some(aggregate));
    }
    assert!(
        plain
            .session
            .statistics(&seen)
            .await?
            .tables
            .iter()
            .any(|(name, statistics)| *name == relation && statistics.chunks == 1)
    );
    plain.leave().await
}

#[tokio::test]
async fn a_role_without_temporary_tables_is_told_for_the_aggregate_alone() -> Result<()> {
    let db = Database::alone().await?;
    db.run(METRIC).await?;
    db.run_as_superuser(&format!("REVOKE TEMPORARY ON DATABASE \"{}\" FROM PUBLIC", db.server.dbname())).await?;
    let grants = "GRANT USAGE, CREATE ON SCHEMA $schema TO $role; ALTER TABLE metric OWNER TO $role";
    let role = as_role(&db, grants).await?;
    let outcome = role.attempt(everything()).await?;
    assert_eq!(outcome.verdict(Kind::RetentionPolicy, "metric"), &Verdict::InSync);
    let (reason, message) = refusal(&outcome, Kind::ContinuousAggregate, "hourly");
    assert_eq!(reason, Reason::PermissionDenied, "{message}");
    assert_says(message, &["temporary"]);
    role.leave().await
}

/// `sql/role-observe.sql`.
#[tokio::test]
async fn the_role_for_observing_sees_every_difference_and_changes_nothing() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge(everything()).await?;
    let role = format!("observer_{}", db.schema);
    db.server.run_script("role-observe.sql", &[("role", &role), ("schema", &db.schema)]).await?;
    db.server.run_script("role-observe.sql", &[("role", &role), ("schema", &db.schema)]).await?; // for another schema
    let mut endpoint = db.endpoint();
    endpoint.config.user(&role);
    let observer = Guest { db: db.through(&endpoint).await?, role };
    assert_eq!(observer.plan(everything()).await?.steps, []);

    db.run("SELECT set_chunk_time_interval('metric', interval '3 days'); SELECT remove_retention_policy('metric'); DROP INDEX by_value;
        ALTER MATERIALIZED VIEW hourly SET (timescaledb.materialized_only = true); CREATE TABLE later (ts timestamptz NOT NULL)").await?;
    let wanted = || everything().into_iter().chain([hypertable("later", json!({}))]);
    let (seen, all) = (observer.plan(wanted()).await?, db.plan(wanted()).await?);
    assert_eq!(seen.steps, all.steps);
    assert_eq!(seen.steps.len(), 5, "{:#?}", seen.steps);
    assert_eq!(seen.verdicts, all.verdicts);
    let outcome = observer.attempt(wanted()).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    assert_eq!(db.plan(wanted()).await?.steps, all.steps, "nothing has changed");
    observer.leave().await
}
