//! A changed query: the aggregate is built anew beside the old one, which serves until the swap, and nothing of it is lost.

use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::status::Reason,
    desired::Kind,
    error::Class,
    plan::step::{Plan, Verdict},
};

use super::driver::{
    Database, aggregate, approving, assert_rejected, assert_says, compression, held, hypertable, retention,
};
use crate::support::Result;

const OLD: &str = "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric GROUP BY 1, 2";
const NEW: &str =
    "SELECT time_bucket('1 hour', ts) AS hour, device, max(value) AS value, count(*) AS rows FROM metric GROUP BY 1, 2";

/// All that can hang on an aggregate and that resources manage, with a query.
fn resources(db: &Database, query: &str) -> Vec<Value> {
    let start = json!({"interval": "6 hours", "initialStart": "2036-01-01T02:00:00Z", "timezone": "Europe/Berlin", "maxRetries": 4});
    let on_view = json!({"kind": "ContinuousAggregate", "name": "hourly"});
    let index = json!({"name": format!("by_value_{}", db.schema), "columns": [{"name": "value"}]});
    let refresh = json!({"startOffset": "5 days", "endOffset": "1 hour", "bucketsPerBatch": 3, "schedule": start});
    let mut resources = vec![
        hypertable("metric", json!({})),
        aggregate(
            "hourly",
            query,
            json!({"realTime": false, "chunkInterval": "20 days", "indexes": [index], "refreshPolicy": refresh, "onQueryChange": "Rebuild"}),
        ),
        compression(
            "on_view",
            json!({"targetRef": on_view, "compressAfter": "60 days", "segmentBy": ["device"], "orderBy": [{"column": "hour"}], "schedule": start}),
        ),
        retention("on_view", json!({"targetRef": on_view, "dropAfter": "90 years", "schedule": start})),
    ];
    resources[2]["metadata"]["name"] = "compressed".into();
    resources[3]["metadata"]["name"] = "kept".into();
    resources
}

const STEPS: [&str; 5] = ["create_aggregate", "fill_aggregate", "swap_aggregate", "drop_aggregate", "create_index"];

/// The table, the aggregate filled, and on it what somebody else did.
async fn with_aggregate(db: &Database) -> Result<()> {
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8);
         SELECT create_hypertable('metric', by_range('ts', interval '1 day'));
         INSERT INTO metric SELECT timestamptz '2026-01-01' + i * interval '1 hour', i % 3, i FROM generate_series(0, 239) i",
    )
    .await?;
    Ok(())
}

async fn filled(db: &Database) -> Result<()> {
    db.run_as_superuser("CALL refresh_continuous_aggregate('hourly', NULL, NULL)").await?;
    db.run_as_superuser("SELECT compress_chunk(c) FROM show_chunks('hourly') c").await
}

/// All that must be as it was after a rebuild.
async fn hanging_on(db: &Database) -> Result<Value> {
    db.row(
        "WITH a AS (SELECT mat_hypertable_id AS id, materialized_only FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema' AND user_view_name = 'hourly')
         SELECT a.materialized_only, pg_get_userbyid(v.relowner) AS owner, obj_description(v.oid) AS comment,
            (SELECT jsonb_agg(x::text ORDER BY x::text) FROM unnest(v.relacl) x) AS grants,
            (SELECT jsonb_agg(jsonb_build_array(j.proc_name, j.config - 'hypertable_id' - 'mat_hypertable_id', j.schedule_interval, j.initial_start, j.timezone, j.max_retries, j.scheduled, s.next_start) ORDER BY j.proc_name, j.config ->> 'start_offset')
                FROM _timescaledb_config.bgw_job j LEFT JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id WHERE j.hypertable_id = a.id) AS jobs,
            (SELECT jsonb_build_array(s.segmentby, s.orderby, s.orderby_desc) FROM _timescaledb_catalog.compression_settings s WHERE s.relid = format('%I.%I', h.schema_name, h.table_name)::regclass) AS settings,
            (SELECT d.interval_length FROM _timescaledb_catalog.dimension d WHERE d.hypertable_id = a.id) AS chunk,
            (SELECT jsonb_agg(i.indexname ORDER BY 1) FROM pg_indexes i WHERE i.tablename = h.table_name AND i.indexname NOT LIKE '%hypertable%') AS indexes,
            (SELECT count(*) FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema') AS aggregates
         FROM a JOIN _timescaledb_catalog.hypertable h ON h.id = a.id JOIN pg_class v ON v.oid = 'hourly'::regclass",
    )
    .await
}

/// What the view says: of the old query and of the new one.
async fn sums(db: &Database) -> Result<Value> {
    db.one("SELECT jsonb_build_array(count(*), sum(value), max(to_jsonb(h) ->> 'rows')) FROM hourly h").await
}

fn of_old() -> Value {
    json!([240, 28680, null])
}

fn of_new() -> Value {
    json!([240, 28680, "1"])
}

async fn first_steps(db: &Database, plan: &Plan, steps: usize) -> Result<()> {
    let extension = db.session.observe(&[]).await?.server.extension.ok_or("no extension")?;
    for step in &plan.steps[..steps] {
        db.session.apply(step, &extension).await?;
    }
    Ok(())
}

fn actions(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.action.name()).collect()
}

#[tokio::test]
async fn nothing_of_an_aggregate_is_lost_however_often_its_rebuild_is_cut_off() -> Result<()> {
    let db = Database::shared().await?;
    with_aggregate(&db).await?;
    db.converge(resources(&db, OLD)).await?;
    filled(&db).await?;
    let role = format!("reader_{}", db.schema);
    db.run_as_superuser(&format!(
        "CREATE ROLE {role}; GRANT SELECT ON hourly TO {role} WITH GRANT OPTION; GRANT SELECT ON hourly TO PUBLIC; COMMENT ON VIEW hourly IS 'what''s by the \"hour\"'"
    ))
    .await?;
    let before = hanging_on(&db).await?;
    let mut queries = [(OLD, of_old()), (NEW, of_new())];
    // Cut off behind each step, there and back again; the last time not at all.
    for done in [1, 2, 3, 0] {
        let [(_, was), (wanted, will_be)] = queries.clone();
        let plan = db.plan(resources(&db, wanted)).await?;
        assert_eq!(actions(&plan), STEPS[..4], "after {done}");
        first_steps(&db, &plan, done).await?;
        assert_eq!(sums(&db).await?, if done < 3 { was } else { will_be.clone() }, "cut off after {done}");
        let outcome = db.converge(resources(&db, wanted)).await?;
        let expected = match done {
            // Filling again what is full costs nothing.
            1 | 2 => &STEPS[1..],
            3 => &STEPS[3..],
            _ => &STEPS[..],
        };
        let mut found = outcome.actions();
        if done == 3 {
            found.sort_unstable();
            found.reverse();
        }
        assert_eq!(found, expected, "cut off after {done}");
        assert!(
            outcome.plan.verdicts.values().all(|verdict| *verdict == Verdict::InSync),
            "{:?}",
            outcome.plan.verdicts
        );
        assert_eq!(sums(&db).await?, will_be);
        assert_eq!(hanging_on(&db).await?, before, "cut off after {done}");
        queries.reverse();
    }
    // What was begun for a query that nobody wants any more goes.
    let [(now, same), (other, _)] = queries.clone();
    for done in [1, 2] {
        let plan = db.plan(resources(&db, other)).await?;
        first_steps(&db, &plan, done).await?;
        assert_eq!(db.converge(resources(&db, now)).await?.actions(), ["drop_aggregate"]);
        assert_eq!((hanging_on(&db).await?, sums(&db).await?), (before.clone(), same.clone()));
    }
    // Or makes room for a third.
    let third = NEW.replace("max(", "min(");
    let plan = db.plan(resources(&db, other)).await?;
    first_steps(&db, &plan, 1).await?;
    assert_eq!(db.converge(resources(&db, &third)).await?.actions(), [&["drop_aggregate"], &STEPS[..]].concat());
    assert_eq!(hanging_on(&db).await?, before);
    db.run_as_superuser(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await
}

#[tokio::test]
async fn an_aggregate_that_others_depend_on_is_not_rebuilt_and_they_are_named() -> Result<()> {
    let db = Database::shared().await?;
    with_aggregate(&db).await?;
    let mut wanted = resources(&db, OLD);
    wanted.truncate(2);
    db.converge(wanted.clone()).await?;
    wanted[1]["spec"]["query"] = NEW.into();
    let dependents = [
        ("CREATE VIEW \"Up Per\" AS SELECT * FROM hourly", "DROP VIEW \"Up Per\"", "Up Per"),
        ("CREATE MATERIALIZED VIEW frozen AS SELECT * FROM hourly", "DROP MATERIALIZED VIEW frozen", "frozen"),
        (
            "CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', hour) AS day, max(value) FROM hourly GROUP BY 1 WITH NO DATA",
            "DROP MATERIALIZED VIEW daily",
            "daily",
        ),
        (
            "CREATE FUNCTION of_hour(hourly) RETURNS float8 LANGUAGE sql AS 'SELECT 1.0::float8'",
            "DROP FUNCTION of_hour",
            "of_hour",
        ),
        (
            "COMMENT ON COLUMN hourly.value IS 'the mean'",
            "COMMENT ON COLUMN hourly.value IS NULL",
            "comment on column value",
        ),
        (
            "GRANT SELECT (value) ON hourly TO PUBLIC",
            "REVOKE SELECT (value) ON hourly FROM PUBLIC",
            "privileges on column value",
        ),
    ];
    for (make, unmake, name) in dependents {
        db.run(make).await?;
        let outcome = db.attempt(wanted.clone()).await?;
        assert_eq!(outcome.actions(), [""; 0], "{make}");
        let rejection = outcome.rejection(Kind::ContinuousAggregate, "hourly");
        assert_rejected(rejection, Reason::QueryChanged, &[name, "drop them first"]);
        db.run(unmake).await?;
    }
    assert_eq!(db.converge(wanted).await?.actions(), STEPS);
    Ok(())
}

#[tokio::test]
async fn buckets_whose_rows_are_gone_are_given_up_only_with_an_approval() -> Result<()> {
    let db = Database::shared().await?;
    with_aggregate(&db).await?;
    db.converge(resources(&db, OLD)).await?;
    filled(&db).await?;
    db.run("SELECT drop_chunks('metric', older_than => timestamptz '2026-01-04')").await?;
    let outcome = db.converge(resources(&db, NEW)).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    let plan = held(&outcome.plan, Kind::ContinuousAggregate, "hourly");
    assert_says(&plan.hazards.concat(), &["erases history", "2026-01-01T00:00:00Z"]);
    assert_eq!(sums(&db).await?, of_old());
    let approved = |digest: &str| {
        let mut resources = resources(&db, NEW);
        resources[1] = approving(resources[1].clone(), digest);
        resources
    };
    assert_eq!(db.converge(approved("0123456789ab")).await?.actions(), [""; 0]);
    // Cut off half-way the approval still holds.
    let digest = plan.digest.0.clone();
    let granted = db.plan(approved(&digest)).await?;
    first_steps(&db, &granted, 2).await?;
    assert_eq!(db.converge(resources(&db, NEW)).await?.actions(), [""; 0], "not without it");
    assert_eq!(db.converge(approved(&digest)).await?.actions(), STEPS[1..]);
    assert_eq!(db.one::<i64>("SELECT count(*) FROM hourly").await?, 168);
    Ok(())
}

#[tokio::test]
async fn the_owner_of_the_table_rebuilds_without_more_privileges() -> Result<()> {
    let db = Database::shared().await?;
    let role = format!("owner_{}", db.schema);
    let password = db.server.password_of_roles().replace('\'', "''");
    db.run_as_superuser(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT USAGE, CREATE ON SCHEMA $schema TO {role}; GRANT {role} TO {}",
        db.server.owner()))
        .await?;
    with_aggregate(&db).await?;
    db.run_as_superuser(&format!("ALTER TABLE metric OWNER TO {role}")).await?;
    let mut place = db.endpoint();
    place.config.user(&role);
    let owner = db.through(&place).await?;
    owner.converge(resources(&db, OLD)).await?;
    filled(&db).await?;
    let before = hanging_on(&db).await?;
    assert_eq!(before["owner"], json!(role));
    assert_eq!(owner.converge(resources(&db, NEW)).await?.actions(), STEPS);
    assert_eq!((hanging_on(&db).await?, sums(&db).await?), (before.clone(), of_new()));
    // Another member of that role cannot give what it has built to the owner, who may not create in TimescaleDB's own schema:
    // that is said, the old one serves on, and what was begun goes when the query is put back.
    let outcome = db.attempt(resources(&db, OLD)).await?;
    let failure = outcome.failure(Kind::ContinuousAggregate, "hourly");
    assert_eq!((failure.class, failure.reason), (Class::User, Reason::PermissionDenied), "{failure}");
    assert_eq!(sums(&db).await?, of_new());
    assert_eq!(db.converge(resources(&db, NEW)).await?.actions(), ["drop_aggregate"]);
    assert_eq!((hanging_on(&db).await?, sums(&db).await?), (before, of_new()));
    drop(owner);
    db.run_as_superuser(&format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
}

#[tokio::test]
async fn whoever_reads_meanwhile_is_waited_for_and_nothing_is_broken() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // nothing else runs while a transaction of the WebAssembly server is open
    }
    with_aggregate(&db).await?;
    db.converge(resources(&db, OLD)).await?;
    filled(&db).await?;
    let before = hanging_on(&db).await?;
    let reader = db.server.connect().await?;
    // A reader of the view holds up the swap; one of the table only the end of the old aggregate.
    for (read, done, query, expected, again) in [
        ("hourly", &STEPS[..2], NEW, of_old(), &STEPS[1..]),
        ("metric", &STEPS[..3], OLD, of_old(), &["create_index", "drop_aggregate"][..]),
    ] {
        reader.batch_execute(&db.here(&format!("BEGIN; SELECT count(*) FROM $schema.{read}"))).await?;
        let outcome = db.attempt(resources(&db, query)).await?;
        assert_eq!(outcome.actions(), done, "{read}");
        let failure = outcome.failure(Kind::ContinuousAggregate, "hourly");
        assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::LockTimeout), "{failure}");
        assert_eq!(sums(&db).await?, expected, "{read}");
        reader.batch_execute("COMMIT").await?;
        let mut found = db.converge(resources(&db, query)).await?.actions();
        if again.len() == 2 {
            found.sort_unstable();
        }
        assert_eq!(found, again, "{read}");
        assert_eq!(hanging_on(&db).await?, before, "{read}");
    }
    Ok(())
}

#[tokio::test]
async fn each_of_several_refresh_policies_is_kept() -> Result<()> {
    let db = Database::shared().await?;
    with_aggregate(&db).await?;
    db.converge(resources(&db, OLD)).await?;
    let second = "SELECT add_continuous_aggregate_policy('hourly', interval '60 days', interval '20 days', interval '1 day', initial_start => '2036-01-01')";
    if db.run(second).await.is_err() {
        return Ok(()); // before 2.21 there is one at most
    }
    let before = hanging_on(&db).await?;
    assert_eq!(db.converge(resources(&db, NEW)).await?.actions(), STEPS);
    assert_eq!(hanging_on(&db).await?, before);
    Ok(())
}
