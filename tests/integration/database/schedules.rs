//! When jobs run: every field of a schedule, for every kind of policy, and what a change must not touch.

use serde_json::{Value, json};
use timescaledb_policy_operator::{api::status::Reason, desired::Kind, error::Class};

use super::driver::{Database, aggregate, assert_says, compression, hypertable, retention};
use crate::support::Result;

const POLICIES: [Kind; 3] = [Kind::CompressionPolicy, Kind::RetentionPolicy, Kind::ContinuousAggregate];

/// A table with a policy of this kind, and what the policy is on.
fn with_policy(kind: Kind, table: &str, schedule: &Value, paused: bool) -> (Vec<Value>, String) {
    let base = hypertable(table, json!({"chunkInterval": "1 day"}));
    let fields = json!({"schedule": schedule, "paused": paused});
    match kind {
        Kind::CompressionPolicy => (vec![base, compression(table, fields)], table.to_owned()),
        Kind::RetentionPolicy => (vec![base, retention(table, fields)], table.to_owned()),
        Kind::ContinuousAggregate => {
            let view = format!("{table}_daily");
            let query = format!("SELECT time_bucket('1 day', ts) AS day, count(*) FROM {table} GROUP BY 1");
            let mut schedule = schedule.clone();
            schedule.as_object_mut().map(|schedule| schedule.entry("interval").or_insert_with(|| "1 hour".into()));
            let policy =
                json!({"startOffset": "10 days", "endOffset": "1 day", "schedule": schedule, "paused": paused});
            (vec![base, aggregate(&view, &query, json!({"refreshPolicy": policy}))], view)
        }
        Kind::Hypertable => unreachable!("a hypertable has no policy"),
    }
}

async fn table(db: &Database, name: &str) -> Result<()> {
    db.run(&format!("CREATE TABLE {name} (ts timestamptz NOT NULL, value float8)")).await
}

#[tokio::test]
async fn every_field_of_a_schedule_is_set_and_changed_and_reads_back() -> Result<()> {
    let db = Database::shared().await?;
    // The field, two values, and the part of the job that it is.
    let fields = [
        (
            "interval",
            json!("2 hours"),
            json!("1 day 6 hours"),
            "schedule_interval",
            json!("02:00:00"),
            json!("1 day 06:00:00"),
        ),
        (
            "initialStart",
            json!("2036-01-01T02:00:00Z"),
            json!("2036-06-01T03:30:00+02:00"),
            "initial_start",
            json!("2036-01-01T02:00:00+00:00"),
            json!("2036-06-01T01:30:00+00:00"),
        ),
        (
            "timezone",
            json!("Europe/Berlin"),
            json!("America/New_York"),
            "timezone",
            json!("Europe/Berlin"),
            json!("America/New_York"),
        ),
        ("maxRuntime", json!("5 minutes"), json!("0 seconds"), "max_runtime", json!("00:05:00"), json!("00:00:00")),
        ("maxRetries", json!(3), json!(-1), "max_retries", json!(3), json!(-1)),
        ("retryPeriod", json!("7 minutes"), json!("1 hour"), "retry_period", json!("00:07:00"), json!("01:00:00")),
    ];
    for kind in POLICIES {
        for (i, (field, a, b, column, live_a, live_b)) in fields.iter().enumerate() {
            let name = format!("{}_{i}", kind.as_str().to_lowercase());
            table(&db, &name).await?;
            let with = |value: &Value| with_policy(kind, &name, &json!({*field: value}), false);
            let (resources, target) = with(a);
            db.converge(resources).await?;
            let made = db.the_job(kind, &target).await?;
            assert_eq!(&made[column], live_a, "{kind:?} {field} as made");
            assert_eq!(made["fixed_schedule"], json!(*field == "initialStart"), "{kind:?} {field}");

            assert_eq!(db.converge(with(b).0).await?.actions(), ["alter_policy"], "{kind:?} {field}");
            let changed = db.the_job(kind, &target).await?;
            assert_eq!(&changed[column], live_b, "{kind:?} {field} as changed");
            // Nothing else moved with it. The next start of a fixed schedule does: it is the new initial start.
            let (mut before, mut after) = (made.clone(), changed.clone());
            for moved in [*column, "next_start"] {
                before[moved] = Value::Null;
                after[moved] = Value::Null;
            }
            assert_eq!(before, after, "{kind:?} {field}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_start_in_the_future_is_the_first_run() -> Result<()> {
    let db = Database::shared().await?;
    for kind in POLICIES {
        let name = kind.as_str().to_lowercase();
        table(&db, &name).await?;
        let start = |at: &str, zone: &str| {
            with_policy(kind, &name, &json!({"interval": "1 day", "initialStart": at, "timezone": zone}), false)
        };
        let (resources, target) = start("2036-01-01T02:00:00Z", "Europe/Berlin");
        db.converge(resources).await?;
        let job = db.the_job(kind, &target).await?;
        assert_eq!(
            (&job["next_start"], &job["fixed_schedule"]),
            (&json!("2036-01-01T02:00:00+00:00"), &json!(true)),
            "{kind:?}"
        );
        db.converge(start("2037-01-01T02:00:00Z", "Europe/Berlin").0).await?;
        assert_eq!(db.the_job(kind, &target).await?["next_start"], "2037-01-01T02:00:00+00:00", "{kind:?}");
        db.converge(start("2037-01-01T02:00:00Z", "Asia/Tokyo").0).await?;
        let job = db.the_job(kind, &target).await?;
        assert_eq!(
            (&job["next_start"], &job["timezone"]),
            (&json!("2037-01-01T02:00:00+00:00"), &json!("Asia/Tokyo")),
            "{kind:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_start_in_the_past_is_a_grid_and_not_a_run_at_once() -> Result<()> {
    let db = Database::shared().await?;
    let start = json!({"interval": "3 hours", "initialStart": "2020-01-01T00:20:00Z"});
    let on_the_grid = "SELECT s.next_start > now() AND s.next_start <= now() + interval '3 hours' AND extract(epoch FROM s.next_start - j.initial_start)::bigint % (3 * 3600) = 0
        FROM _timescaledb_config.bgw_job j JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id WHERE j.id = ";
    for kind in POLICIES {
        // Made with it, and changed to it.
        for (i, before) in [None, Some(json!({"interval": "3 hours"}))].into_iter().enumerate() {
            let name = format!("{}_{i}", kind.as_str().to_lowercase());
            table(&db, &name).await?;
            if let Some(before) = before {
                db.converge(with_policy(kind, &name, &before, true).0).await?;
            }
            let (resources, target) = with_policy(kind, &name, &start, true);
            db.converge(resources).await?;
            let job = db.the_job(kind, &target).await?;
            assert_eq!(
                (&job["initial_start"], &job["fixed_schedule"]),
                (&json!("2020-01-01T00:20:00+00:00"), &json!(true))
            );
            assert!(db.one::<bool>(&format!("{on_the_grid}{}", job["id"])).await?, "{kind:?}: {job}");
        }
    }
    Ok(())
}

/// TimescaleDB erases the time zone in every `alter_job` that does not name it, and computes the next start anew in many:
/// for a job that never ran, that is at once.
#[tokio::test]
async fn a_change_keeps_the_time_zone_and_the_next_start() -> Result<()> {
    let db = Database::shared().await?;
    let with = |changes: &[(&str, Value)]| {
        let mut schedule =
            json!({"interval": "1 day", "initialStart": "2036-01-01T02:00:00Z", "timezone": "Europe/Berlin"});
        for (field, value) in changes {
            schedule[*field] = value.clone();
        }
        schedule
    };
    let schedules = [
        with(&[("maxRetries", json!(5))]),
        with(&[("maxRetries", json!(5)), ("maxRuntime", json!("1 hour"))]),
        with(&[("maxRetries", json!(5)), ("retryPeriod", json!("3 minutes"))]),
        with(&[("maxRetries", json!(5)), ("interval", json!("12 hours"))]),
    ];
    for kind in POLICIES {
        let name = kind.as_str().to_lowercase();
        table(&db, &name).await?;
        let (resources, target) = with_policy(kind, &name, &with(&[]), false);
        db.converge(resources).await?;
        let mut steps = Vec::new();
        for (schedule, paused) in
            schedules.iter().map(|s| (s, false)).chain([(&schedules[3], true), (&schedules[3], false)])
        {
            steps.extend(db.converge(with_policy(kind, &name, schedule, paused).0).await?.actions());
            let job = db.the_job(kind, &target).await?;
            let kept = (&job["timezone"], &job["next_start"], &job["initial_start"], &job["fixed_schedule"]);
            assert_eq!(
                kept,
                (
                    &json!("Europe/Berlin"),
                    &json!("2036-01-01T02:00:00+00:00"),
                    &json!("2036-01-01T02:00:00+00:00"),
                    &json!(true)
                ),
                "{kind:?} {schedule}"
            );
        }
        assert_eq!(steps, ["alter_policy"; 6], "{kind:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_next_start_of_a_schedule_without_a_grid_is_kept_too() -> Result<()> {
    let db = Database::shared().await?;
    for kind in POLICIES {
        let name = kind.as_str().to_lowercase();
        table(&db, &name).await?;
        let (resources, target) = with_policy(kind, &name, &json!({"interval": "2 hours"}), true);
        db.converge(resources).await?;
        let id = db.the_job(kind, &target).await?["id"].clone();
        db.run(&format!("SELECT alter_job({id}, next_start => '2036-05-05 05:05Z')")).await?;
        for schedule in [
            json!({"interval": "2 hours", "maxRetries": 4}),
            json!({"interval": "5 hours", "maxRetries": 4}),
            json!({"interval": "5 hours", "maxRetries": 4, "timezone": "Europe/Berlin"}),
        ] {
            assert_eq!(db.converge(with_policy(kind, &name, &schedule, true).0).await?.actions(), ["alter_policy"]);
            assert_eq!(
                db.the_job(kind, &target).await?["next_start"],
                "2036-05-05T05:05:00+00:00",
                "{kind:?} {schedule}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_schedule_that_is_left_out_is_not_managed() -> Result<()> {
    let db = Database::shared().await?;
    for kind in POLICIES {
        let name = kind.as_str().to_lowercase();
        table(&db, &name).await?;
        let (resources, target) = with_policy(kind, &name, &json!({}), false);
        db.converge(resources.clone()).await?;
        let id = db.the_job(kind, &target).await?["id"].clone();
        let by_hand = "max_runtime => '7 min', max_retries => 9, retry_period => '8 min', timezone => 'Asia/Tokyo', fixed_schedule => true, initial_start => '2036-01-01'";
        db.run(&format!("SELECT alter_job({id}, {by_hand})")).await?;
        assert_eq!(db.converge(resources).await?.actions(), [""; 0], "{kind:?}");
    }
    Ok(())
}

/// The text of an interval in a job follows the IntervalStyle of whoever made it.
#[tokio::test]
async fn intervals_in_another_style_are_the_same_intervals() -> Result<()> {
    let db = Database::shared().await?;
    for (i, style) in ["postgres", "postgres_verbose", "iso_8601", "sql_standard"].into_iter().enumerate() {
        let name = format!("styled_{i}");
        table(&db, &name).await?;
        db.run(&format!(
            "SELECT create_hypertable('{name}', 'ts', chunk_time_interval => interval '36 hours');
             CREATE MATERIALIZED VIEW {name}_daily WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', ts) AS day, count(*) FROM {name} GROUP BY 1 WITH NO DATA;
             ALTER TABLE {name} SET (timescaledb.compress);
             SET IntervalStyle = {style};
             SELECT add_compression_policy('{name}', interval '1 month 7 days 03:30', schedule_interval => interval '1 day 12:00');
             SELECT add_retention_policy('{name}', interval '2 years 2400 hours');
             SELECT add_continuous_aggregate_policy('{name}_daily', interval '1 month', interval '1 day 00:00:01.5', interval '90 minutes');
             RESET IntervalStyle"
        ))
        .await?;
        let refresh =
            json!({"startOffset": "30 days", "endOffset": "P1DT1.5S", "schedule": {"interval": "1 hour 30 minutes"}});
        let query = format!("SELECT time_bucket('1 day', ts) AS day, count(*) FROM {name} GROUP BY 1");
        let resources = [
            hypertable(&name, json!({"chunkInterval": "1 day 12 hours"})),
            compression(
                &name,
                json!({"compressAfter": "1 month 7 days 3 hours 30 minutes", "schedule": {"interval": "36 hours"}}),
            ),
            retention(&name, json!({"dropAfter": "2 years 100 days"})),
            aggregate(&format!("{name}_daily"), &query, json!({"refreshPolicy": refresh})),
        ];
        let outcome = db.converge(resources).await?;
        assert_eq!(outcome.actions(), [""; 0], "{style}: {:#?}", outcome.steps);
    }
    Ok(())
}

/// They compare as equal, so that no change leads from one to the other; but where clocks change a day is not 24 hours.
#[tokio::test]
async fn hours_are_not_made_days_nor_days_months() -> Result<()> {
    let db = Database::shared().await?;
    for (i, (text, live)) in [
        ("24 hours", "24:00:00"),
        ("1 day", "1 day"),
        ("P1M", "1 mon"),
        ("30 days", "30 days"),
        ("90 minutes", "01:30:00"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("metric_{i}");
        table(&db, &name).await?;
        let schedule = json!({"interval": text, "timezone": "Europe/Berlin", "initialStart": "2036-01-01T02:00:00Z"});
        db.converge(with_policy(Kind::RetentionPolicy, &name, &schedule, false).0).await?;
        assert_eq!(db.the_job(Kind::RetentionPolicy, &name).await?["schedule_interval"], live, "{text}");
    }
    Ok(())
}

/// Nobody would write these into a resource, but they may be live.
#[tokio::test]
async fn odd_intervals_of_live_jobs_can_be_read() -> Result<()> {
    let db = Database::shared().await?;
    table(&db, "metric").await?;
    db.run(
        "SELECT create_hypertable('metric', 'ts');
         CREATE MATERIALIZED VIEW metric_daily WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', ts) AS day, count(*) FROM metric GROUP BY 1 WITH NO DATA;
         SELECT add_retention_policy('metric', interval '-100 years', initial_start => '2036-01-01');
         SELECT add_continuous_aggregate_policy('metric_daily', interval '1 month -1 day +00:00:00.000001', interval '-1 mon -3 days +04:05:06.7', interval '1 year 2 mons 3 days 04:05:06.000007')",
    )
    .await?;
    let (mut resources, target) =
        with_policy(Kind::ContinuousAggregate, "metric", &json!({"interval": "1 hour"}), true);
    resources.push(retention("metric", json!({"dropAfter": "100 years"})));
    resources[0]["spec"].as_object_mut().map(|spec| spec.remove("chunkInterval"));
    assert_eq!(db.converge(resources).await?.actions(), ["alter_policy", "alter_policy"]);
    assert_eq!(
        db.the_job(Kind::ContinuousAggregate, &target).await?["config"],
        json!({"start_offset": "10 days", "end_offset": "1 day"})
    );
    Ok(())
}

#[tokio::test]
async fn a_schedule_that_timescaledb_refuses_makes_no_policy() -> Result<()> {
    let db = Database::shared().await?;
    table(&db, "metric").await?;
    db.converge([hypertable("metric", json!({"chunkInterval": "1 day"}))]).await?;
    let cases = [
        (json!({"timezone": "Mars/Phobos", "initialStart": "2036-01-01T00:00:00Z"}), "Mars/Phobos"),
        (json!({"interval": "1 month 1 day", "initialStart": "2036-01-01T00:00:00Z"}), "month"),
    ];
    for (schedule, says) in cases {
        let outcome = db.attempt(with_policy(Kind::RetentionPolicy, "metric", &schedule, false).0).await?;
        let failure = outcome.failure(Kind::RetentionPolicy, "metric");
        assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{failure}");
        assert_says(&failure.message, &[says]);
        assert_eq!(db.job(Kind::RetentionPolicy, "metric").await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_with_a_start_in_the_past_does_not_run_when_it_is_made() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // no scheduler
    }
    table(&db, "waiting").await?;
    table(&db, "eager").await?;
    let start = json!({"interval": "1 year", "initialStart": "2020-01-01T00:00:00Z"});
    db.converge(with_policy(Kind::RetentionPolicy, "waiting", &start, false).0).await?;
    db.converge(with_policy(Kind::RetentionPolicy, "eager", &json!({}), false).0).await?;
    let runs = |table: &str| {
        format!(
            "SELECT coalesce(max(total_runs), 0) FROM timescaledb_information.job_stats WHERE hypertable_schema = '$schema' AND hypertable_name = '{table}'"
        )
    };
    // The one that was made later has run: the scheduler has seen both.
    db.until(&format!("SELECT ({}) > 0", runs("eager"))).await?;
    assert_eq!(db.one::<i64>(&runs("waiting")).await?, 0);
    // A changed interval is no reason to run either.
    let start = json!({"interval": "2 years", "initialStart": "2020-01-01T00:00:00Z"});
    db.converge(with_policy(Kind::RetentionPolicy, "waiting", &start, false).0).await?;
    table(&db, "eager_too").await?;
    db.converge(with_policy(Kind::RetentionPolicy, "eager_too", &json!({}), false).0).await?;
    db.until(&format!("SELECT ({}) > 0", runs("eager_too"))).await?;
    assert_eq!(db.one::<i64>(&runs("waiting")).await?, 0);
    Ok(())
}
