//! Retention: rows are dropped only as far as somebody agreed to it.

use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::types::Span,
    api::{status::Reason, types::Relation},
    catalog::{Age, Answer, Answers, Drops, Question},
    desired::Kind,
    plan::step::{Hazard, Plan, Verdict},
};

use super::driver::{Database, Outcome, approving, assert_says, database, deleted, held, hypertable, retention};
use crate::support::Result;

const METRIC: &str = "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)";

/// Rows for this many chunks of 2020, and for so many of the days to come: what a policy drops does not depend on when
/// the test runs.
fn rows(table: &str, old: i32, new: i32) -> String {
    format!(
        "INSERT INTO {table} SELECT timestamptz '2020-01-01 12:00Z' + n * interval '1 day', n, n FROM generate_series(1, {old}) n;
         INSERT INTO {table} SELECT now() + n * interval '1 day', n, n FROM generate_series(1, {new}) n"
    )
}

async fn with_chunks(table: &str, old: i32, new: i32) -> Result<Database> {
    let db = Database::shared().await?;
    db.run(&METRIC.replace("metric", table)).await?;
    db.run(&format!("SELECT create_hypertable('{table}', 'ts', chunk_time_interval => interval '1 day')")).await?;
    db.run(&rows(table, old, new)).await?;
    Ok(db)
}

fn both(fields: Value) -> [Value; 2] {
    [hypertable("metric", json!({"chunkInterval": "1 day"})), retention("metric", fields)]
}

/// The resources with the annotation that approves the plan that they wait for.
fn approved(resources: [Value; 2], plan: &Plan) -> [Value; 2] {
    let digest = &held(plan, Kind::RetentionPolicy, "metric").digest.0;
    resources.map(|resource| approving(resource, digest))
}

async fn chunks(db: &Database) -> Result<i64> {
    db.one("SELECT count(*) FROM show_chunks('metric')").await
}

fn needs_approval(outcome: &Outcome) -> bool {
    matches!(outcome.verdict(Kind::RetentionPolicy, "metric"), Verdict::NeedsApproval(_))
}

#[tokio::test]
async fn a_policy_is_made_changed_paused_resumed_and_removed_in_place() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    assert_eq!(
        db.converge(both(json!({"dropAfter": "90 days"}))).await?.actions(),
        ["create_hypertable", "add_policy"]
    );
    let made = db.the_job(Kind::RetentionPolicy, "metric").await?;
    assert_eq!((&made["config"], &made["scheduled"]), (&json!({"drop_after": "90 days"}), &json!(true)));
    let changes = [
        (json!({"dropAfter": "P1Y"}), json!({"drop_after": "1 year"}), true),
        (json!({"dropAfter": "2 weeks"}), json!({"drop_after": "14 days"}), true),
        (json!({"dropAfter": "14 days", "paused": true}), json!({"drop_after": "14 days"}), false),
        (json!({"dropAfter": "14 days"}), json!({"drop_after": "14 days"}), true),
    ];
    for (fields, config, scheduled) in changes {
        assert_eq!(db.converge(both(fields.clone())).await?.actions(), ["alter_policy"], "{fields}");
        let job = db.the_job(Kind::RetentionPolicy, "metric").await?;
        assert_eq!(
            (&job["config"], &job["scheduled"], &job["id"]),
            (&config, &json!(scheduled), &made["id"]),
            "{fields}"
        );
    }
    let [table, policy] = both(json!({}));
    let kept = retention("metric", json!({"deletionPolicy": "Retain"}));
    assert_eq!(db.converge([table.clone(), deleted(kept)]).await?.actions(), [""; 0], "what is retained stays");
    let outcome = db.converge([table, deleted(policy)]).await?;
    assert_eq!(outcome.actions(), ["remove_policy"]);
    assert_eq!(db.job(Kind::RetentionPolicy, "metric").await?, None);
    Ok(())
}

#[tokio::test]
async fn what_a_policy_would_drop_is_what_drop_chunks_drops() -> Result<()> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE by_instant (ts timestamptz NOT NULL, device int, value float8);
         CREATE TABLE by_clock (ts timestamp NOT NULL, device int, value float8);
         CREATE TABLE by_date (ts date NOT NULL, device int, value float8);
         CREATE TABLE by_hash (ts timestamptz NOT NULL, device int, value float8);
         CREATE TABLE empty (ts timestamptz NOT NULL, device int, value float8);
         SELECT create_hypertable(format('%I', t)::regclass, 'ts', chunk_time_interval => interval '1 day') FROM unnest(ARRAY['by_instant', 'by_clock', 'by_date', 'empty']) t;
         SELECT create_hypertable('by_hash', 'ts', 'device', 3, chunk_time_interval => interval '1 day')",
    )
    .await?;
    let tables = ["by_instant", "by_clock", "by_date", "by_hash", "empty"];
    for table in &tables[..4] {
        let rows = "SELECT now() - n * interval '5 hours', n, n FROM generate_series(-20, 100) n";
        db.run(&format!("INSERT INTO {table} {rows}; ANALYZE {table}")).await?;
    }
    let ages = ["0 seconds", "5 hours", "3 days", "4 days 7 hours", "20 days", "1000 years"];
    let mut questions = Vec::new();
    for table in tables {
        for age in ages {
            let relation = Relation { schema: db.schema.parse()?, name: table.parse()? };
            let after = Age::OlderThan(Span::Time(age.parse()?));
            questions.push((table, age, Question::drops(&relation, after)));
        }
    }
    let extension = db.session.observe(&[]).await?.server.extension.ok_or("no extension")?;
    let mut answers = Answers::new();
    db.session.ask(questions.iter().map(|(_, _, question)| question), &extension, &mut answers).await?;

    let mut dropped_any = 0;
    for (table, age, question) in &questions {
        let Some(Answer::Drops(Ok(found))) = answers.get(question) else { panic!("no answer to {question:?}") };
        db.run("BEGIN").await?;
        let expected = db
            .row(&format!(
                "WITH info AS MATERIALIZED (SELECT format('%I.%I', chunk_schema, chunk_name) AS name, range_start, range_end FROM timescaledb_information.chunks
                    WHERE hypertable_schema = '$schema' AND hypertable_name = '{table}'),
                 dropped AS MATERIALIZED (SELECT d FROM drop_chunks('{table}', older_than => interval '{age}') d)
                 SELECT (SELECT count(*) FROM info) AS of, (SELECT count(*) FROM dropped) AS chunks, min(range_start) AS oldest, max(range_end) AS newest
                 FROM info JOIN dropped ON dropped.d = info.name"
            ))
            .await?;
        let left: i64 = db.one(&format!("SELECT count(*) FROM {table}")).await?;
        db.run("ROLLBACK").await?;
        let all: i64 = db.one(&format!("SELECT count(*) FROM {table}")).await?;
        let Drops { chunks, of, rows, bytes, oldest, newest, oldest_integer: _, newest_integer: _ } = found;
        let instant = |value: &Value| value.as_str().map(|text| text.parse::<jiff::Timestamp>()).transpose();
        assert_eq!((json!(chunks), json!(of)), (expected["chunks"].clone(), expected["of"].clone()), "{table} {age}");
        assert_eq!((*oldest, *newest), (instant(&expected["oldest"])?, instant(&expected["newest"])?), "{table} {age}");
        assert_eq!(*rows, all - left, "{table} {age}: the estimate of an analyzed table is exact");
        assert_eq!(*bytes > 0, *chunks > 0, "{table} {age}");
        dropped_any += chunks;
    }
    assert!(dropped_any > 0);
    Ok(())
}

#[tokio::test]
async fn chunks_by_integers_by_their_creation_of_views_and_compressed_ones_are_counted_likewise() -> Result<()> {
    let db = Database::shared().await?;
    for (table, type_) in [("by_2", "smallint"), ("by_4", "int"), ("by_8", "bigint")] {
        db.run(&format!(
            "CREATE TABLE {table} (ts {type_} NOT NULL); SELECT create_hypertable('{table}', by_range('ts', 10)); INSERT INTO {table} SELECT generate_series(0, 99);
             CREATE FUNCTION {table}_now() RETURNS {type_} LANGUAGE sql STABLE AS 'SELECT 100::{type_}'; SELECT set_integer_now_func('{table}', '{table}_now')"
        ))
        .await?;
    }
    db.run(
        "CREATE TABLE unclocked (ts bigint NOT NULL); SELECT create_hypertable('unclocked', by_range('ts', 10)); INSERT INTO unclocked VALUES (1);
         CREATE TABLE stopped (ts bigint NOT NULL); SELECT create_hypertable('stopped', by_range('ts', 10)); INSERT INTO stopped VALUES (1);
         CREATE FUNCTION stopped_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT NULL::bigint'; SELECT set_integer_now_func('stopped', 'stopped_now');
         CREATE TABLE metric (ts timestamptz NOT NULL, device int, value float8);
         SELECT create_hypertable('metric', by_range('ts', interval '1 day'));
         INSERT INTO metric SELECT now() - n * interval '1 hour', n % 3, n FROM generate_series(0, 200) n;
         ALTER TABLE metric SET (timescaledb.compress, timescaledb.compress_segmentby = 'device');
         SELECT compress_chunk(c) FROM show_chunks('metric', older_than => interval '4 days') c;
         ANALYZE metric",
    )
    .await?;
    db.run("CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', ts) AS bucket, count(*) FROM metric GROUP BY 1 WITH NO DATA").await?;
    db.run("CALL refresh_continuous_aggregate('hourly', NULL, NULL)").await?;
    let time = |age: &str| Ok::<_, crate::support::Error>(Age::OlderThan(Span::Time(age.parse()?)));
    let integer = |age| Age::OlderThan(Span::Integer(age));
    // What drop_chunks is told for each.
    let mut asked = vec![
        ("metric", time("3 days")?, "older_than => interval '3 days'".to_owned(), true),
        ("metric", time("6 days")?, "older_than => interval '6 days'".to_owned(), true),
        ("metric", Age::CreatedBefore("1 second".parse()?), "created_before => interval '1 second'".to_owned(), true),
        ("metric", Age::CreatedBefore("1 day".parse()?), "created_before => interval '1 day'".to_owned(), false),
        ("hourly", time("0 days")?, "older_than => interval '0 days'".to_owned(), false),
        ("hourly", time("-30 days")?, "older_than => interval '-30 days'".to_owned(), true),
    ];
    for (table, type_) in [("by_2", "smallint"), ("by_4", "int"), ("by_8", "bigint")] {
        for (age, below, any) in [(50, "50", true), (5, "95", true), (1000, "-900", false), (i64::MAX, "-32768", false)]
        {
            asked.push((table, integer(age), format!("older_than => ({below})::{type_}"), any));
        }
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let question = |table: &str, age: &Age| {
        Ok::<_, crate::support::Error>(Question::drops(
            &Relation { schema: db.schema.parse()?, name: table.parse()? },
            *age,
        ))
    };
    let (unclocked, stopped) = (question("unclocked", &integer(1))?, question("stopped", &integer(1))?);
    let mut questions = vec![unclocked.clone(), stopped.clone()];
    for (table, age, ..) in &asked {
        questions.push(question(table, age)?);
    }
    let extension = db.session.observe(&[]).await?.server.extension.ok_or("no extension")?;
    let mut answers = Answers::new();
    db.session.ask(&questions, &extension, &mut answers).await?;

    for question in [unclocked, stopped] {
        let Some(Answer::Drops(Err(error))) = answers.get(&question) else { panic!("an answer to {question:?}") };
        assert_says(&error.message, &["integer_now", "spec.integerNowFunction"]);
    }
    for ((table, age, argument, any), question) in asked.iter().zip(&questions[2..]) {
        let Some(Answer::Drops(Ok(found))) = answers.get(question) else { panic!("no answer to {question:?}") };
        db.run("BEGIN").await?;
        let expected = db
            .row(&format!(
                "WITH size AS MATERIALIZED (SELECT format('%I.%I', chunk_schema, chunk_name) AS name, total_bytes FROM chunks_detailed_size('{table}')),
                 dropped AS MATERIALIZED (SELECT d FROM drop_chunks('{table}', {argument}) d)
                 SELECT (SELECT count(*) FROM size) AS of, count(*) AS chunks, coalesce(sum(total_bytes), 0)::bigint AS bytes
                 FROM size JOIN dropped ON dropped.d = size.name"
            ))
            .await?;
        db.run("ROLLBACK").await?;
        assert_eq!(json!({"of": found.of, "chunks": found.chunks, "bytes": found.bytes}), expected, "{table} {age:?}");
        assert_eq!(found.chunks > 0, *any, "{table} {age:?}");
        assert_eq!(found.oldest.is_some() || found.oldest_integer.is_some(), *any, "{table} {age:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_that_would_drop_more_than_the_guard_is_made_only_with_the_approval_of_that_plan() -> Result<()> {
    let db = with_chunks("metric", 6, 4).await?;
    let wanted = || both(json!({"dropAfter": "30 days"}));
    let outcome = db.converge(wanted()).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    let plan = held(&outcome.plan, Kind::RetentionPolicy, "metric");
    assert_says(&plan.hazards.concat(), &["6 of 10 chunks (60 %)", "2020-01-02T00:00:00Z to 2020-01-08T00:00:00Z"]);
    assert_says(&plan.statements.concat(), &["add_retention_policy", "30 days"]);
    assert_eq!(plan.stale_approval, None);
    assert_eq!(db.job(Kind::RetentionPolicy, "metric").await?, None);

    // The digest of something else approves nothing; neither does this one for another plan.
    let stale = db.converge(wanted().map(|resource| approving(resource, "0123456789ab"))).await?;
    let refused = held(&stale.plan, Kind::RetentionPolicy, "metric");
    assert_eq!(refused.stale_approval.as_ref().map(|digest| digest.0.as_str()), Some("0123456789ab"));
    assert_eq!(refused.digest, plan.digest, "it stays the same while nothing changes");
    let other = db.converge(approved(both(json!({"dropAfter": "60 days"})), &outcome.plan)).await;
    assert!(other.is_ok_and(|other| needs_approval(&other)), "approved for another age");
    db.run("SELECT drop_chunks('metric', older_than => timestamptz '2020-01-03')").await?;
    let other = db.converge(approved(wanted(), &outcome.plan)).await?;
    assert!(needs_approval(&other), "approved for other chunks");
    assert_eq!(chunks(&db).await?, 9);

    let done = db.converge(approved(wanted(), &other.plan)).await?;
    assert_eq!(done.actions(), ["add_policy"]);
    assert!(
        matches!(&done.steps[0].hazards[..], [Hazard::DeletesData(Drops { chunks: 5, of: 9, .. })]),
        "{:?}",
        done.steps
    );
    let job = db.the_job(Kind::RetentionPolicy, "metric").await?;
    if db.server.is_native() {
        db.until("SELECT count(*) = 4 FROM show_chunks('metric')").await?;
    } else {
        db.run(&format!("CALL run_job({})", job["id"])).await?;
        assert_eq!(chunks(&db).await?, 4);
    }
    // The annotation may stay: there is nothing left to approve.
    assert_eq!(
        db.converge(approved(wanted(), &other.plan)).await?.verdict(Kind::RetentionPolicy, "metric"),
        &Verdict::InSync
    );
    Ok(())
}

#[tokio::test]
async fn the_guard_is_a_share_of_the_chunks() -> Result<()> {
    let db = with_chunks("metric", 2, 8).await?;
    for (percent, allowed) in [(0, false), (19, false), (20, true), (25, true), (100, true)] {
        let rules = database(json!({"guards": {"maxImmediateDropPercent": percent}}));
        // Observed, so that nothing is done and every percentage sees the same.
        let plan = db.plan(both(json!({"dropAfter": "30 days"})).into_iter().chain([rules])).await?;
        let done = plan.steps.len() == 1;
        assert_eq!(done, allowed, "{percent} %: {:?}", plan.verdicts);
    }
    let nothing_to_drop = both(json!({"dropAfter": "100 years"}))
        .into_iter()
        .chain([database(json!({"guards": {"maxImmediateDropPercent": 0}}))]);
    assert_eq!(db.plan(nothing_to_drop).await?.steps.len(), 1);
    Ok(())
}

#[tokio::test]
async fn tightening_waits_for_approval_and_loosening_does_not() -> Result<()> {
    let db = with_chunks("metric", 6, 4).await?;
    db.converge(both(json!({"dropAfter": "100 years"}))).await?;
    let tight = || both(json!({"dropAfter": "30 days", "schedule": {"maxRetries": 3}}));
    let outcome = db.converge(tight()).await?;
    assert_says(&held(&outcome.plan, Kind::RetentionPolicy, "metric").hazards.concat(), &["6 of 10 chunks"]);
    let job = db.the_job(Kind::RetentionPolicy, "metric").await?;
    assert_eq!(job["config"], json!({"drop_after": "100 years"}));
    assert_eq!(db.converge(both(json!({"dropAfter": "200 years"}))).await?.actions(), ["alter_policy"]);

    // Approved for another age in force: stale. For this one: done.
    assert!(needs_approval(&db.converge(approved(tight(), &outcome.plan)).await?));
    let outcome = db.converge(tight()).await?;
    assert_eq!(db.converge(approved(tight(), &outcome.plan)).await?.actions(), ["alter_policy"]);
    let tightened = db.the_job(Kind::RetentionPolicy, "metric").await?;
    assert_eq!((&tightened["config"], &tightened["id"]), (&json!({"drop_after": "30 days"}), &job["id"]));
    Ok(())
}

#[tokio::test]
async fn a_paused_policy_drops_nothing_and_resuming_it_waits_for_approval() -> Result<()> {
    let db = with_chunks("metric", 6, 4).await?;
    assert_eq!(db.converge(both(json!({"dropAfter": "30 days", "paused": true}))).await?.actions(), ["add_policy"]);
    assert_eq!(db.the_job(Kind::RetentionPolicy, "metric").await?["scheduled"], false);
    let resumed = || both(json!({"dropAfter": "30 days"}));
    let outcome = db.converge(resumed()).await?;
    assert!(needs_approval(&outcome));
    assert_eq!(db.the_job(Kind::RetentionPolicy, "metric").await?["scheduled"], false);
    // Another age while it is paused drops nothing either.
    let paused = both(json!({"dropAfter": "20 days", "paused": true}));
    assert_eq!(db.converge(paused).await?.actions(), ["alter_policy"]);
    let outcome = db.converge(resumed()).await?;
    assert_eq!(db.converge(approved(resumed(), &outcome.plan)).await?.actions(), ["alter_policy"]);
    assert_eq!(db.the_job(Kind::RetentionPolicy, "metric").await?["scheduled"], true);
    Ok(())
}

#[tokio::test]
async fn a_policy_that_somebody_removed_is_restored_only_within_the_guard() -> Result<()> {
    let db = with_chunks("metric", 6, 4).await?;
    let wanted = || both(json!({"dropAfter": "30 days", "schedule": {"initialStart": "2036-01-01T00:00:00Z"}}));
    let outcome = db.converge(wanted()).await?;
    db.converge(approved(wanted(), &outcome.plan)).await?;
    db.run("SELECT remove_retention_policy('metric')").await?;
    assert!(needs_approval(&db.converge(wanted()).await?));
    assert_eq!(db.job(Kind::RetentionPolicy, "metric").await?, None);
    Ok(())
}

#[tokio::test]
async fn the_rows_of_a_table_are_counted_once_they_are_in_chunks() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(&rows("metric", 6, 4)).await?;
    let mut resources = both(json!({"dropAfter": "30 days"}));
    resources[0]["spec"]["migrateData"] = true.into();
    let outcome = db.converge(resources).await?;
    assert_eq!(outcome.actions(), ["create_hypertable"]);
    assert_says(&held(&outcome.plan, Kind::RetentionPolicy, "metric").hazards.concat(), &["6 of 10 chunks"]);
    assert_eq!(chunks(&db).await?, 10);
    Ok(())
}

#[tokio::test]
async fn a_policy_by_creation_time_that_somebody_made_becomes_one_by_age() -> Result<()> {
    let db = with_chunks("metric", 1, 9).await?;
    db.run("SELECT add_retention_policy('metric', drop_created_before => interval '10 years', initial_start => '2036-01-01')").await?;
    assert_eq!(db.converge(both(json!({"dropAfter": "30 days"}))).await?.actions(), ["replace_policy"]);
    assert_eq!(db.the_job(Kind::RetentionPolicy, "metric").await?["config"], json!({"drop_after": "30 days"}));
    Ok(())
}

/// A clock that lost its battery, a zero that became a date: such rows exist, and their chunks reach beyond what many
/// libraries take for a time.
#[tokio::test]
async fn rows_of_impossible_ages_do_not_stop_the_planner() -> Result<()> {
    let db = with_chunks("metric", 0, 3).await?;
    db.run("INSERT INTO metric VALUES ('0001-01-01 00:00Z', 1, 1), ('0044-03-15 12:00Z BC', 1, 1), ('9999-12-31 23:59Z', 1, 1), ('294246-01-01', 1, 1)").await?;
    let outcome = db.converge(both(json!({"dropAfter": "30 days"}))).await?;
    assert_says(
        &held(&outcome.plan, Kind::RetentionPolicy, "metric").hazards.concat(),
        &["2 of 7 chunks", "from 0001-01-01T00:00:00Z"],
    );
    Ok(())
}

#[tokio::test]
async fn a_policy_on_a_hypertable_by_integers_is_refused_and_holds_up_no_other() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(
        "CREATE TABLE numbered (ts bigint NOT NULL); SELECT create_hypertable('numbered', by_range('ts', 10)); INSERT INTO numbered VALUES (1);
         CREATE FUNCTION numbered_now() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 100::bigint'; SELECT set_integer_now_func('numbered', 'numbered_now')",
    )
    .await?;
    let numbered = [hypertable("numbered", json!({})), retention("numbered", json!({"dropAfter": "30 days"}))];
    let outcome = db.attempt(numbered.into_iter().chain(both(json!({})))).await?;
    assert_eq!(outcome.actions(), ["create_hypertable", "add_policy"]);
    assert_eq!(outcome.verdict(Kind::RetentionPolicy, "metric"), &Verdict::InSync);
    let (reason, message) = match outcome.verdict(Kind::RetentionPolicy, "numbered") {
        Verdict::Rejected(rejection) => (rejection.reason, &rejection.message),
        _ => {
            let failure = outcome.failure(Kind::RetentionPolicy, "numbered");
            (failure.reason, &failure.message)
        }
    };
    assert_eq!(reason, Reason::InvalidSpec, "{message}");
    assert_eq!(db.one::<i64>("SELECT count(*) FROM numbered").await?, 1);
    Ok(())
}

#[tokio::test]
async fn the_scheduler_drops_nothing_before_the_approval() -> Result<()> {
    let db = with_chunks("metric", 6, 4).await?;
    if !db.server.is_native() {
        return Ok(()); // no scheduler
    }
    let outcome = db.converge(both(json!({"dropAfter": "30 days"}))).await?;
    assert!(needs_approval(&outcome));
    // One that may drop its share: when it has, the scheduler would have run the other one too.
    db.run(&METRIC.replace("metric", "control")).await?;
    db.run("SELECT create_hypertable('control', 'ts', chunk_time_interval => interval '1 day')").await?;
    db.run(&rows("control", 2, 8)).await?;
    let control = [hypertable("control", json!({})), retention("control", json!({"dropAfter": "30 days"}))];
    assert_eq!(db.converge(control).await?.actions(), ["add_policy"]);
    db.until("SELECT count(*) = 8 FROM show_chunks('control')").await?;
    assert_eq!(chunks(&db).await?, 10);

    db.converge(approved(both(json!({"dropAfter": "30 days"})), &outcome.plan)).await?;
    db.until("SELECT count(*) = 4 FROM show_chunks('metric')").await?;
    Ok(())
}

#[tokio::test]
async fn a_changed_schedule_does_not_make_the_scheduler_run_a_policy_at_once() -> Result<()> {
    let db = with_chunks("metric", 2, 8).await?;
    if !db.server.is_native() {
        return Ok(()); // no scheduler
    }
    let scheduled = |schedule: Value| both(json!({"dropAfter": "30 days", "schedule": schedule}));
    let tomorrow = "2036-01-01T00:00:00Z";
    db.converge(scheduled(json!({"interval": "1 day", "initialStart": tomorrow}))).await?;
    let changes = [
        json!({"interval": "2 days", "initialStart": tomorrow}),
        json!({"interval": "2 days", "initialStart": tomorrow, "timezone": "Europe/Berlin"}),
        json!({"interval": "2 days", "initialStart": tomorrow, "timezone": "Europe/Berlin", "retryPeriod": "1 minute"}),
    ];
    for schedule in changes {
        assert_eq!(db.converge(scheduled(schedule)).await?.actions(), ["alter_policy"]);
    }
    db.run(&METRIC.replace("metric", "control")).await?;
    db.run("SELECT create_hypertable('control', 'ts', chunk_time_interval => interval '1 day')").await?;
    db.run(&rows("control", 2, 8)).await?;
    let control = [hypertable("control", json!({})), retention("control", json!({"dropAfter": "30 days"}))];
    db.converge(control).await?;
    db.until("SELECT count(*) = 8 FROM show_chunks('control')").await?;
    assert_eq!(chunks(&db).await?, 10);
    Ok(())
}
