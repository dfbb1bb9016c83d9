//! Continuous aggregates: made without data, refreshed by their policy, and never changed in their query.

use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::{status::Reason, types::Relation},
    catalog::{Answer, Answers, Question},
    desired::Kind,
    error::Class,
    plan::step::Verdict,
};

use super::driver::{
    Database, Outcome, aggregate, approving, assert_rejected, assert_says, deleted, held, hypertable, retention,
};
use crate::support::Result;

const HOURLY: &str = "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric GROUP BY 1, 2";

/// A hypertable with a row for every hour of three days that ended yesterday.
async fn with_metric() -> Result<Database> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8, name text);
         SELECT create_hypertable('metric', 'ts', chunk_time_interval => interval '1 day');
         INSERT INTO metric SELECT date_trunc('hour', now()) - interval '1 day' - n * interval '1 hour', 1, n, 'a' FROM generate_series(1, 72) n",
    )
    .await?;
    Ok(db)
}

/// A refresh policy whose first run is years away, so that a scheduler does not interfere.
fn refresh(start: Value, end: Value) -> Value {
    let schedule = json!({"interval": "1 hour", "initialStart": "2036-01-01T00:00:00Z"});
    json!({"refreshPolicy": {"startOffset": start, "endOffset": end, "schedule": schedule}})
}

fn hourly(fields: Value) -> Value {
    aggregate("hourly", HOURLY, fields)
}

async fn views(db: &Database) -> Result<Vec<Value>> {
    let views = "SELECT view_name, materialized_only FROM timescaledb_information.continuous_aggregates WHERE view_schema = '$schema' ORDER BY 1";
    db.rows(views).await
}

/// Rows that are materialised, whatever a query of the view would add.
async fn materialised(db: &Database) -> Result<i64> {
    let table: String = db
        .one("SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) FROM timescaledb_information.continuous_aggregates WHERE view_schema = '$schema'")
        .await?;
    db.one(&format!("SELECT count(*) FROM {table}")).await
}

/// What the database, or the planner before it, said against the aggregate.
fn refusal<'a>(outcome: &'a Outcome, name: &str) -> (Reason, &'a str) {
    match outcome.verdict(Kind::ContinuousAggregate, name) {
        Verdict::Rejected(rejection) => (rejection.reason, &rejection.message),
        _ => {
            let failure = outcome.failure(Kind::ContinuousAggregate, name);
            assert_eq!(failure.class, Class::User, "{failure}");
            (failure.reason, &failure.message)
        }
    }
}

#[tokio::test]
async fn an_aggregate_is_made_without_data_and_filled_by_its_policy() -> Result<()> {
    let db = with_metric().await?;
    let outcome = db.converge([hourly(refresh(json!("5 days"), json!("1 hour")))]).await?;
    assert_eq!(outcome.actions(), ["create_aggregate", "add_policy"]);
    assert_eq!(materialised(&db).await?, 0);
    let job = db.the_job(Kind::ContinuousAggregate, "hourly").await?;
    assert_eq!(job["config"], json!({"start_offset": "5 days", "end_offset": "01:00:00"}));
    db.run(&format!("CALL run_job({})", job["id"])).await?;
    assert_eq!(materialised(&db).await?, 72);
    assert_eq!(
        db.row("SELECT count(*) AS rows, sum(value) AS sum FROM hourly").await?,
        json!({"rows": 72, "sum": 2628})
    );
    Ok(())
}

#[tokio::test]
async fn the_scheduler_fills_an_aggregate_as_soon_as_it_is_made() -> Result<()> {
    let db = with_metric().await?;
    if !db.server.is_native() {
        return Ok(()); // no scheduler
    }
    let policy =
        json!({"refreshPolicy": {"startOffset": "5 days", "endOffset": "1 hour", "schedule": {"interval": "1 hour"}}});
    db.converge([hourly(policy)]).await?;
    db.until("SELECT count(*) = 72 FROM hourly").await
}

#[tokio::test]
async fn real_time_is_switched_on_and_off_and_left_alone() -> Result<()> {
    let db = with_metric().await?;
    for (name, real_time) in
        [("on", json!({"realTime": true})), ("off", json!({"realTime": false})), ("unsaid", json!({}))]
    {
        db.converge([aggregate(name, HOURLY, real_time)]).await?;
    }
    let found: Vec<_> = views(&db).await?.iter().map(|view| view["materialized_only"].clone()).collect();
    assert_eq!(found, [json!(true), json!(false), json!(true)], "off, on, and TimescaleDB's own choice");
    assert_eq!(db.one::<i64>("SELECT count(*) FROM \"on\"").await?, 72);
    assert_eq!(db.one::<i64>("SELECT count(*) FROM off").await?, 0);

    for (real_time, rows) in [(true, 72), (false, 0)] {
        let outcome = db.converge([aggregate("off", HOURLY, json!({"realTime": real_time}))]).await;
        let outcome = outcome?;
        assert_eq!(outcome.actions(), ["set_materialized_only"]);
        assert_eq!(db.one::<i64>("SELECT count(*) FROM off").await?, rows);
    }
    db.run("ALTER MATERIALIZED VIEW unsaid SET (timescaledb.materialized_only = false)").await?;
    assert_eq!(db.converge([aggregate("unsaid", HOURLY, json!({}))]).await?.actions(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn the_window_of_a_refresh_policy_is_changed_in_place() -> Result<()> {
    let db = with_metric().await?;
    db.converge([hourly(refresh(json!("5 days"), json!("1 hour")))]).await?;
    let made = db.the_job(Kind::ContinuousAggregate, "hourly").await?;
    let windows = [
        (json!("10 days"), json!("1 hour"), json!({"start_offset": "10 days", "end_offset": "1 hour"})),
        (json!("10 days"), Value::Null, json!({"start_offset": "10 days", "end_offset": null})),
        (Value::Null, Value::Null, json!({"start_offset": null, "end_offset": null})),
        (Value::Null, json!("2 hours"), json!({"start_offset": null, "end_offset": "2 hours"})),
        (json!("1 month"), json!("0 seconds"), json!({"start_offset": "1 month", "end_offset": "0 seconds"})),
    ];
    for (start, end, config) in windows {
        let mut fields = refresh(start, end);
        if let Some(policy) = fields["refreshPolicy"].as_object_mut() {
            policy.retain(|_, value| !value.is_null());
        }
        assert_eq!(db.converge([hourly(fields)]).await?.actions(), ["alter_policy"], "{config}");
        let job = db.the_job(Kind::ContinuousAggregate, "hourly").await?;
        assert_eq!((&job["config"], &job["id"]), (&config, &made["id"]));
        // The job can read what was written.
        db.run(&format!("CALL run_job({})", job["id"])).await?;
    }
    // Made without an end, without a beginning, and without either.
    for (name, start, end) in
        [("a", json!("9 days"), Value::Null), ("b", Value::Null, json!("1 hour")), ("c", Value::Null, Value::Null)]
    {
        let mut fields = refresh(start.clone(), end.clone());
        if let Some(policy) = fields["refreshPolicy"].as_object_mut() {
            policy.retain(|_, value| !value.is_null());
        }
        db.converge([aggregate(name, HOURLY, fields)]).await?;
        let config = db.the_job(Kind::ContinuousAggregate, name).await?["config"].clone();
        assert_eq!(
            (config["start_offset"].is_null(), config["end_offset"].is_null()),
            (start.is_null(), end.is_null())
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_is_paused_resumed_and_left_alone_when_the_resource_says_nothing() -> Result<()> {
    let db = with_metric().await?;
    let paused = |paused: bool| {
        let mut fields = refresh(json!("5 days"), json!("1 hour"));
        fields["refreshPolicy"]["paused"] = paused.into();
        hourly(fields)
    };
    for (wanted, actions) in
        [(true, vec!["create_aggregate", "add_policy"]), (false, vec!["alter_policy"]), (true, vec!["alter_policy"])]
    {
        assert_eq!(db.converge([paused(wanted)]).await?.actions(), actions);
        assert_eq!(db.the_job(Kind::ContinuousAggregate, "hourly").await?["scheduled"], !wanted);
    }
    assert_eq!(db.converge([hourly(json!({}))]).await?.actions(), [""; 0]);
    assert!(db.job(Kind::ContinuousAggregate, "hourly").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_query_written_otherwise_is_the_same_query() -> Result<()> {
    let db = with_metric().await?;
    db.run(
        "CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
         SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric WHERE value > 0 AND name <> 'it''s' GROUP BY 1, 2 WITH NO DATA",
    )
    .await?;
    let same = [
        "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric WHERE value > 0 AND name <> 'it''s' GROUP BY 1, 2",
        "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric WHERE value > 0 AND name <> 'it''s' GROUP BY 1, 2;",
        "  SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric WHERE value > 0 AND name <> 'it''s' GROUP BY 1, 2 ; ;\n\n",
        "select\n\ttime_bucket(interval '60 minutes', \"ts\") as hour,\n\tdevice,\n\tAVG(value) as value\nfrom metric\nwhere value>0 and name!='it''s'\ngroup by hour,device",
        "-- by the hour\nSELECT time_bucket('1 hour', ts) AS hour /* the bucket */, device, avg(value) AS value FROM metric WHERE value > 0 AND name <> 'it''s' GROUP BY 1, 2 -- and by device",
        "SELECT public.time_bucket('1 hour', m.ts) AS hour, m.device, pg_catalog.avg(m.value) AS value FROM $schema.metric AS m WHERE m.value > 0 AND m.name <> E'it\\'s' GROUP BY time_bucket('1 hour', m.ts), m.device",
        "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric WHERE value > 0 AND name <> $$it's$$ GROUP BY 1, 2",
    ];
    for query in same {
        let outcome = db.converge([aggregate("hourly", &db.here(query), json!({}))]).await?;
        // PostgreSQL keeps the alias of a table, so that one is another definition for it.
        if query.contains(" AS m ") {
            assert_eq!(refusal(&outcome, "hourly").0, Reason::QueryChanged, "{query}");
        } else {
            assert_eq!(outcome.verdict(Kind::ContinuousAggregate, "hourly"), &Verdict::InSync, "{query}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn another_query_is_refused_with_the_difference_and_changes_nothing() -> Result<()> {
    let db = with_metric().await?;
    db.converge([hourly(json!({"realTime": false}))]).await?;
    let before = views(&db).await?;
    let others = [
        (HOURLY.replace("1 hour", "2 hours"), "02:00:00"),
        (HOURLY.replace("avg", "max"), "+ max("),
        (HOURLY.replace("FROM metric", "FROM metric WHERE value > 7"), "+ WHERE"),
        (HOURLY.replace("AS value", "AS mean"), "AS mean"),
        (HOURLY.replace(", 2", ", device HAVING count(*) > 1"), "+ HAVING"),
        (HOURLY.replace("device,", "device, count(*) AS samples,"), "count(*)"),
    ];
    for (query, says) in others {
        let outcome = db.attempt([aggregate("hourly", &query, json!({"realTime": true}))]).await?;
        let rejection = outcome.rejection(Kind::ContinuousAggregate, "hourly");
        assert_rejected(rejection, Reason::QueryChanged, &["put spec.query back", "\n+ ", says]);
        db.converge([hourly(json!({"realTime": false}))]).await?;
        assert_eq!(views(&db).await?, before);
    }
    Ok(())
}

#[tokio::test]
async fn what_can_be_done_beside_a_changed_query_is_done() -> Result<()> {
    let db = with_metric().await?;
    db.converge([hourly(refresh(json!("5 days"), json!("1 hour")))]).await?;
    let mut changed = refresh(json!("9 days"), json!("1 hour"));
    changed["realTime"] = true.into();
    let outcome = db.attempt([aggregate("hourly", &HOURLY.replace("avg", "max"), changed)]).await?;
    assert_eq!(outcome.actions(), ["set_materialized_only", "alter_policy"]);
    assert_eq!(refusal(&outcome, "hourly").0, Reason::QueryChanged);
    Ok(())
}

#[tokio::test]
async fn a_column_that_is_renamed_under_an_aggregate_is_read_by_its_new_name() -> Result<()> {
    let db = with_metric().await?;
    db.converge([hourly(json!({}))]).await?;
    db.run("ALTER TABLE metric RENAME COLUMN device TO machine; ALTER TABLE metric ADD COLUMN more text").await?;
    let outcome = db.attempt([hourly(json!({}))]).await?;
    let (reason, message) = refusal(&outcome, "hourly");
    assert_eq!(reason, Reason::InvalidSpec, "{message}");
    assert_says(message, &["spec.query", "device"]);
    let renamed = HOURLY.replace("device", "machine AS device");
    assert_eq!(db.converge([aggregate("hourly", &renamed, json!({}))]).await?.actions(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_text_that_is_no_query_for_an_aggregate_is_refused_and_makes_nothing() -> Result<()> {
    let db = with_metric().await?;
    db.run("CREATE TABLE precious (n int); INSERT INTO precious VALUES (1); CREATE TABLE plain (ts timestamptz); CREATE VIEW plain_view AS SELECT * FROM metric").await?;
    let on = |select: &str| format!("SELECT time_bucket('1 hour', ts) AS hour, {select} FROM metric GROUP BY 1");
    let cases = [
        // a second statement, in every disguise
        (format!("{HOURLY}; DROP TABLE precious"), Reason::InvalidSpec, "multiple commands"),
        (format!("{HOURLY}; -- \nDROP TABLE precious;"), Reason::InvalidSpec, "multiple commands"),
        (format!("{HOURLY} WITH DATA; DELETE FROM precious; --"), Reason::InvalidSpec, ""),
        ("DELETE FROM precious RETURNING n".to_owned(), Reason::InvalidSpec, "syntax error"),
        ("WITH gone AS (DELETE FROM precious RETURNING n) SELECT time_bucket('1 hour', ts), count(*) FROM metric, gone GROUP BY 1".to_owned(), Reason::InvalidSpec, ""),
        ("TRUNCATE precious".to_owned(), Reason::InvalidSpec, "syntax error"),
        ("SELECT 1 INTO loot".to_owned(), Reason::InvalidSpec, "INTO"),
        // no text that ends
        (format!("{HOURLY} /*"), Reason::InvalidSpec, "comment"),
        (format!("{HOURLY} AND name = 'a"), Reason::InvalidSpec, "unterminated"),
        ("SELECT".to_owned(), Reason::InvalidSpec, ""),
        ("-- nothing".to_owned(), Reason::InvalidSpec, ""),
        (";;".to_owned(), Reason::InvalidSpec, "empty"),
        ("SELECT $1".to_owned(), Reason::InvalidSpec, "parameter"),
        // names that are not there
        ("SELECT time_bucket('1 hour', ts), count(*) FROM nowhere GROUP BY 1".to_owned(), Reason::TableNotFound, "nowhere"),
        (on("avg(colour)"), Reason::InvalidSpec, "colour"),
        (on("no_such_function(value)"), Reason::InvalidSpec, "no_such_function"),
        // what TimescaleDB does not aggregate
        ("SELECT device, count(*) FROM metric GROUP BY 1".to_owned(), Reason::InvalidSpec, ""),
        ("SELECT ts, value FROM metric".to_owned(), Reason::InvalidSpec, ""),
        ("SELECT time_bucket('1 hour', ts), count(*) FROM plain GROUP BY 1".to_owned(), Reason::InvalidSpec, ""),
        ("SELECT time_bucket('1 hour', ts), count(*) FROM plain_view GROUP BY 1".to_owned(), Reason::InvalidSpec, ""),
        (format!("{HOURLY} UNION ALL {HOURLY}"), Reason::InvalidSpec, ""),
        (format!("{HOURLY} LIMIT 10"), Reason::InvalidSpec, ""),
        (format!("{HOURLY} WITH LOCAL CHECK OPTION"), Reason::InvalidSpec, ""),
    ];
    for (query, reason, says) in cases {
        let outcome = db.attempt([aggregate("hourly", &query, json!({}))]).await?;
        assert_ne!(outcome.verdict(Kind::ContinuousAggregate, "hourly"), &Verdict::InSync, "{query}");
        let (found, message) = refusal(&outcome, "hourly");
        assert_eq!(found, reason, "{query}: {message}");
        assert_says(message, &[says]);
        assert_eq!(outcome.actions(), [""; 0], "{query}");
        assert_eq!(views(&db).await?, [] as [Value; 0], "{query}");
        let left = "SELECT (SELECT count(*) FROM precious) AS precious, to_regclass('loot') AS loot, to_regclass('hourly') AS hourly";
        assert_eq!(db.row(left).await?, json!({"precious": 1, "loot": null, "hourly": null}), "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn one_query_among_many_that_the_server_does_not_take_keeps_none_of_the_others_from_being_read() -> Result<()> {
    let db = with_metric().await?;
    let elsewhere = format!("{}_2", db.schema);
    db.run(&format!(
        "CREATE SCHEMA {elsewhere}; CREATE TABLE {elsewhere}.metric AS TABLE metric; SELECT create_hypertable('{elsewhere}.metric', 'ts', migrate_data => true)"
    ))
    .await?;
    db.converge(vec![hypertable("metric", json!({})), hourly(refresh(json!("30 days"), json!("1 hour")))]).await?;
    let extension = db.session.observe(&[]).await?.server.extension.ok_or("no extension")?;
    let question = |n: usize| {
        let (schema, name) = if n.is_multiple_of(3) {
            (&elsewhere, format!("v{n}"))
        } else {
            (&db.schema, if n == 4 { "hourly".to_owned() } else { format!("v{n}") })
        };
        let column = if n == 60 { "colour" } else { "value" };
        Ok::<_, crate::support::Error>(Question::Definition {
            aggregate: Relation { schema: schema.parse()?, name: name.parse()? },
            query: format!("SELECT time_bucket('1 hour', ts) AS hour, max({column}) AS v{n} FROM metric GROUP BY 1"),
            fingerprint: None,
        })
    };
    let questions = (0..230).map(question).collect::<Result<Vec<_>>>()?;
    let mut answers = Answers::new();
    db.session.ask(&questions, &extension, &mut answers).await?;

    for (n, question) in questions.iter().enumerate() {
        let schema = if n.is_multiple_of(3) { &elsewhere } else { &db.schema };
        match answers.get(question) {
            Some(Answer::Definition(Err(error))) if n == 60 => assert_says(&error.message, &["colour"]),
            Some(Answer::Definition(Ok(found))) if n != 60 => {
                assert_says(&found.wanted, &[&format!("AS v{n}\n"), &format!("FROM {schema}.metric")]);
                assert_eq!(found.live.is_some(), n == 4, "{n}");
                assert_eq!(found.sources, [Relation { schema: schema.parse()?, name: "metric".parse()? }], "{n}");
            }
            other => panic!("{n}: {other:?}"),
        }
    }
    db.leave(&elsewhere);
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_taken_by_something_else_is_refused() -> Result<()> {
    let db = with_metric().await?;
    db.run("CREATE TABLE taken (n int); CREATE VIEW viewed AS SELECT 1 AS n").await?;
    let outcome = db.attempt([aggregate("metric", HOURLY, json!({}))]).await?;
    assert_rejected(
        outcome.rejection(Kind::ContinuousAggregate, "metric"),
        Reason::InvalidSpec,
        &["metric is a hypertable"],
    );
    for name in ["taken", "viewed"] {
        let outcome = db.attempt([aggregate(name, HOURLY, json!({}))]).await?;
        let (reason, message) = refusal(&outcome, name);
        assert_eq!(reason, Reason::InvalidSpec);
        assert_says(message, &[name, "already exists"]);
    }
    db.converge([hourly(json!({}))]).await?;
    let outcome = db.attempt([hypertable("hourly", json!({"timeColumn": "hour"}))]).await?;
    assert_rejected(outcome.rejection(Kind::Hypertable, "hourly"), Reason::InvalidSpec, &["is a continuous aggregate"]);
    Ok(())
}

#[tokio::test]
async fn an_aggregate_on_an_aggregate_comes_after_it_and_after_the_table() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)").await?;
    let daily = "SELECT time_bucket('1 day', hour) AS day, device, max(value) AS value FROM hourly GROUP BY 1, 2";
    // In the order of their names the child would come first.
    let resources = || {
        let mut window = refresh(json!("30 days"), json!("1 day"));
        window["realTime"] = true.into();
        [
            aggregate("a_daily", daily, window),
            hourly(refresh(json!("7 days"), json!("1 hour"))),
            hypertable("metric", json!({})),
        ]
    };
    let outcome = db.converge(resources()).await?;
    let mut actions = outcome.actions();
    actions.sort_unstable();
    assert_eq!(actions, ["add_policy", "add_policy", "create_aggregate", "create_aggregate", "create_hypertable"]);
    assert_eq!(outcome.actions()[0], "create_hypertable");
    db.run("INSERT INTO metric SELECT now() - n * interval '1 hour', 1, n FROM generate_series(1, 100) n").await?;
    for name in ["hourly", "a_daily"] {
        let job = db.the_job(Kind::ContinuousAggregate, name).await?;
        db.run(&format!("CALL run_job({})", job["id"])).await?;
    }
    assert!(db.one::<f64>("SELECT max(value) FROM a_daily").await? > 90.0);
    assert_eq!(db.converge(resources()).await?.actions(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn buckets_of_months_and_time_zones_and_joins_are_in_sync_once_made() -> Result<()> {
    let db = with_metric().await?;
    db.run("CREATE TABLE place (device int PRIMARY KEY, name text)").await?;
    let queries = [
        "SELECT time_bucket('1 month', ts, 'Europe/Berlin') AS month, count(*) FROM metric GROUP BY 1",
        "SELECT time_bucket('1 week', ts, timestamptz '2000-01-03') AS week, first(value, ts), last(value, ts) FROM metric GROUP BY week HAVING count(*) > 2",
        "SELECT time_bucket('15 minutes', ts) AS quarter, p.name, percentile_disc(0.5) WITHIN GROUP (ORDER BY value) FROM metric JOIN place p ON p.device = metric.device GROUP BY 1, 2",
        "SELECT time_bucket('1 day', ts) AS day, count(*) FILTER (WHERE ts > '2026-01-01' AND value > 0.5) AS many FROM metric GROUP BY 1",
    ];
    for (i, query) in queries.into_iter().enumerate() {
        let name = format!("made_{i}");
        let resource = || aggregate(&name, query, refresh(json!("1 year"), json!("1 day")));
        assert_eq!(db.converge([resource()]).await?.actions(), ["create_aggregate", "add_policy"], "{query}");
        assert_eq!(
            db.converge([resource()]).await?.verdict(Kind::ContinuousAggregate, &name),
            &Verdict::InSync,
            "{query}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_aggregate_is_dropped_with_all_it_has_when_its_resource_says_so() -> Result<()> {
    let db = with_metric().await?;
    let owned = |name: &str, query: &str| {
        let mut fields = refresh(json!("30 days"), json!("1 day"));
        fields["deletionPolicy"] = "Delete".into();
        aggregate(name, query, fields)
    };
    let daily = "SELECT time_bucket('1 day', hour) AS day, max(value) AS value FROM hourly GROUP BY 1";
    db.converge([owned("hourly", HOURLY), owned("daily", daily)]).await?;
    // Not without the one that reads it.
    let outcome = db.attempt([deleted(owned("hourly", HOURLY)), owned("daily", daily)]).await?;
    let verdict = outcome.verdict(Kind::ContinuousAggregate, "hourly");
    assert!(matches!(verdict, Verdict::WaitingOn(why) if why.contains("daily reads")), "{verdict:?}");
    assert_eq!(views(&db).await?.len(), 2);

    // A resource that retains it lets go of it as it is.
    let outcome = db.converge([deleted(aggregate("daily", daily, json!({})))]).await?;
    assert_eq!((outcome.actions(), outcome.verdict(Kind::ContinuousAggregate, "daily")), (vec![], &Verdict::Released));

    let outcome = db.converge([deleted(owned("daily", daily)), owned("hourly", HOURLY)]).await?;
    assert_eq!(outcome.actions(), ["drop_aggregate"]);
    let outcome = db.converge([deleted(owned("hourly", HOURLY))]).await?;
    assert_eq!(outcome.actions(), ["drop_aggregate"]);
    assert_eq!(views(&db).await?, [] as [Value; 0]);
    let left = "SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_schema = '$schema'";
    assert_eq!(db.one::<i64>(left).await?, 0, "its policies are gone with it");
    assert_eq!(db.one::<i64>("SELECT count(*) FROM metric").await?, 72, "the source is not touched");
    assert_eq!(
        db.converge([deleted(owned("hourly", HOURLY))]).await?.verdict(Kind::ContinuousAggregate, "hourly"),
        &Verdict::Released
    );
    Ok(())
}

#[tokio::test]
async fn a_whole_hierarchy_is_dropped_from_its_end() -> Result<()> {
    let db = with_metric().await?;
    let owned = |name: &str, query: &str| aggregate(name, query, json!({"deletionPolicy": "Delete"}));
    let all = || {
        [
            owned("a", HOURLY),
            owned("b", "SELECT time_bucket('1 day', hour) AS day, max(value) AS value FROM a GROUP BY 1"),
            owned("c", "SELECT time_bucket('7 days', day) AS week, max(value) AS value FROM b GROUP BY 1"),
        ]
    };
    db.converge(all()).await?;
    assert_eq!(db.converge(all().map(deleted)).await?.actions(), ["drop_aggregate"; 3]);
    assert_eq!(views(&db).await?, [] as [Value; 0]);
    Ok(())
}

// ---- policies that are at odds with each other, one of them made by hand

#[tokio::test]
async fn retention_inside_a_live_refresh_window_is_refused() -> Result<()> {
    let db = with_metric().await?;
    let sql = "CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', ts) AS hour, count(*) FROM metric GROUP BY 1 WITH NO DATA;
        SELECT add_continuous_aggregate_policy('hourly', interval '60 days', interval '1 hour', interval '1 hour', initial_start => '2036-01-01')";
    db.run(sql).await?;
    let with = |age: &str| [hypertable("metric", json!({})), retention("metric", json!({"dropAfter": age}))];
    for age in ["30 days", "60 days"] {
        let outcome = db.attempt(with(age)).await?;
        assert_rejected(
            outcome.rejection(Kind::RetentionPolicy, "metric"),
            Reason::UnsafePolicy,
            &["hourly", "longer than 60 days"],
        );
        assert_eq!(db.job(Kind::RetentionPolicy, "metric").await?, None);
    }
    db.run("SELECT remove_continuous_aggregate_policy('hourly'); SELECT add_continuous_aggregate_policy('hourly', NULL, interval '1 hour', interval '1 hour', initial_start => '2036-01-01')").await?;
    let outcome = db.attempt(with("10 years")).await?;
    assert_rejected(
        outcome.rejection(Kind::RetentionPolicy, "metric"),
        Reason::UnsafePolicy,
        &["hourly", "starts at the beginning", "startOffset"],
    );
    db.run("SELECT remove_continuous_aggregate_policy('hourly'); SELECT add_continuous_aggregate_policy('hourly', interval '60 days', interval '1 hour', interval '1 hour', initial_start => '2036-01-01')").await?;
    assert_eq!(db.converge(with("61 days")).await?.actions(), ["add_policy"]);
    Ok(())
}

#[tokio::test]
async fn a_refresh_window_beyond_live_retention_is_refused() -> Result<()> {
    let db = with_metric().await?;
    db.run("SELECT add_retention_policy('metric', interval '30 days', initial_start => '2036-01-01')").await?;
    // When it is made, and when it is changed: only the view comes into being.
    let outcome = db.attempt([hourly(refresh(json!("60 days"), json!("1 hour")))]).await?;
    assert_rejected(
        outcome.rejection(Kind::ContinuousAggregate, "hourly"),
        Reason::UnsafePolicy,
        &["30 days", "metric"],
    );
    assert_eq!(db.job(Kind::ContinuousAggregate, "hourly").await?, None);
    db.converge([hourly(refresh(json!("29 days"), json!("1 hour")))]).await?;
    for start in [json!("30 days"), json!("1 year"), Value::Null] {
        let mut fields = refresh(start.clone(), json!("1 hour"));
        if let Some(policy) = fields["refreshPolicy"].as_object_mut() {
            policy.retain(|_, value| !value.is_null());
        }
        let outcome = db.attempt([hourly(fields)]).await?;
        assert_rejected(outcome.rejection(Kind::ContinuousAggregate, "hourly"), Reason::UnsafePolicy, &["30 days"]);
        assert_eq!(
            db.the_job(Kind::ContinuousAggregate, "hourly").await?["config"]["start_offset"],
            "29 days",
            "{start}"
        );
    }
    Ok(())
}

/// TimescaleDB checks the window when a policy is made and not when it is altered: then every run fails.
#[tokio::test]
async fn a_window_without_room_for_two_buckets_is_refused() -> Result<()> {
    let db = with_metric().await?;
    let small = |start: &str, end: &str| hourly(refresh(json!(start), json!(end)));
    let outcome = db.attempt([small("2 hours", "1 hour")]).await?;
    assert_eq!(refusal(&outcome, "hourly").0, Reason::UnsafePolicy);
    assert_eq!(db.job(Kind::ContinuousAggregate, "hourly").await?, None);
    db.converge([small("3 hours", "1 hour")]).await?;
    let outcome = db.attempt([small("2 hours 59 minutes", "1 hour")]).await?;
    assert_rejected(
        outcome.rejection(Kind::ContinuousAggregate, "hourly"),
        Reason::UnsafePolicy,
        &["two buckets of 1 hour", "at least 3 hours"],
    );

    let monthly = "SELECT time_bucket('1 month', ts, 'Europe/Berlin') AS month, count(*) FROM metric GROUP BY 1";
    let outcome = db.attempt([aggregate("monthly", monthly, refresh(json!("1 month"), json!("1 day")))]).await?;
    assert_eq!(refusal(&outcome, "monthly").0, Reason::UnsafePolicy);
    Ok(())
}

// ---- buckets whose rows are gone

/// Two aggregates, one on the other, that are materialised over rows of 2020 which are gone, and over rows of now.
async fn with_history() -> Result<Database> {
    let db = with_metric().await?;
    db.run("INSERT INTO metric SELECT timestamptz '2020-01-01 00:30Z' + n * interval '1 hour', 1, n, 'a' FROM generate_series(0, 239) n").await?;
    db.run(&format!("CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS {HOURLY} WITH NO DATA")).await?;
    db.run(&format!("CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous) AS {DAILY} WITH NO DATA")).await?;
    // Each by itself: a refresh cannot be part of a transaction.
    for refresh in [
        "CALL refresh_continuous_aggregate('hourly', NULL, NULL)",
        "CALL refresh_continuous_aggregate('daily', NULL, NULL)",
    ] {
        db.run(refresh).await?;
    }
    db.run("SELECT drop_chunks('metric', older_than => interval '1 year')").await?;
    Ok(db)
}

const DAILY: &str = "SELECT time_bucket('1 day', hour) AS day, max(value) AS value FROM hourly GROUP BY 1";

fn window(start: Option<&str>) -> Value {
    let mut fields = refresh(json!(start), json!("1 hour"));
    if let Some(policy) = fields["refreshPolicy"].as_object_mut() {
        policy.retain(|_, value| !value.is_null());
    }
    fields
}

async fn old_buckets(db: &Database) -> Result<i64> {
    db.one("SELECT count(*) FROM hourly WHERE hour < '2021-01-01'").await
}

#[tokio::test]
async fn a_window_that_reaches_back_over_rows_that_are_gone_waits_for_approval() -> Result<()> {
    let db = with_history().await?;
    assert_eq!(old_buckets(&db).await?, 240);
    // A window of recent days erases nothing, whether it is made or changed.
    assert_eq!(db.converge([hourly(window(Some("30 days")))]).await?.actions(), ["add_policy"]);
    assert_eq!(db.converge([hourly(window(Some("60 days")))]).await?.actions(), ["alter_policy"]);

    for start in [None, Some("20 years")] {
        let outcome = db.converge([hourly(window(start))]).await?;
        assert_eq!(outcome.actions(), [""; 0]);
        let plan = held(&outcome.plan, Kind::ContinuousAggregate, "hourly");
        assert_says(&plan.hazards.concat(), &["erases history", "from 2020-01-01T00:00:00Z"]);
        assert_eq!(db.the_job(Kind::ContinuousAggregate, "hourly").await?["config"]["start_offset"], "60 days");
    }
    let mut paused = window(None);
    paused["refreshPolicy"]["paused"] = true.into();
    assert_eq!(db.converge([hourly(paused)]).await?.actions(), ["alter_policy"], "what is paused refreshes nothing");
    let outcome = db.converge([hourly(window(None))]).await?;
    let digest = held(&outcome.plan, Kind::ContinuousAggregate, "hourly").digest.0.clone();
    assert_eq!(db.converge([approving(hourly(window(None)), &digest)]).await?.actions(), ["alter_policy"]);
    assert_eq!(old_buckets(&db).await?, 240);
    // The hazard is real: this is what the approval was asked for.
    let job = db.the_job(Kind::ContinuousAggregate, "hourly").await?;
    db.run(&format!("CALL run_job({})", job["id"])).await?;
    assert_eq!(old_buckets(&db).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_new_policy_over_rows_that_are_gone_waits_for_approval_too() -> Result<()> {
    let db = with_history().await?;
    let outcome = db.converge([hourly(window(None))]).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    held(&outcome.plan, Kind::ContinuousAggregate, "hourly");
    assert_eq!(db.job(Kind::ContinuousAggregate, "hourly").await?, None);

    // The rows of the aggregate on it are those of the first, which are all there.
    let daily = |start| aggregate("daily", DAILY, window(start));
    assert_eq!(db.converge([daily(None)]).await?.actions(), ["add_policy"]);
    db.run("SELECT remove_continuous_aggregate_policy('daily'); SELECT drop_chunks('hourly', older_than => interval '1 year')").await?;
    let outcome = db.converge([daily(None)]).await?;
    assert_says(&held(&outcome.plan, Kind::ContinuousAggregate, "daily").hazards.concat(), &["erases history"]);
    assert_eq!(db.converge([daily(Some("1 year"))]).await?.actions(), ["add_policy"]);
    Ok(())
}

#[tokio::test]
async fn a_window_over_rows_that_are_there_needs_no_approval() -> Result<()> {
    let db = with_metric().await?;
    let monthly = "SELECT time_bucket('1 month', ts, 'Europe/Berlin') AS month, count(*) FROM metric GROUP BY 1";
    let weekly = "SELECT time_bucket('1 week', ts) AS week, device, count(*) FROM metric GROUP BY 1, 2";
    for (name, query) in [("hourly", HOURLY), ("weekly", weekly), ("monthly", monthly)] {
        let resource = |start| {
            aggregate(name, query, {
                let mut fields = window(start);
                fields["refreshPolicy"]["endOffset"] = "0 seconds".into();
                fields
            })
        };
        db.converge([resource(Some("90 days"))]).await?;
        let job = db.the_job(Kind::ContinuousAggregate, name).await?;
        db.run(&format!("CALL run_job({})", job["id"])).await?;
        assert_eq!(db.converge([resource(None)]).await?.actions(), ["alter_policy"], "{name}");
    }
    Ok(())
}
