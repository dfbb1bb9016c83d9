//! Adoption: what is there already and equals the resource is taken as it is; what differs is changed in place.

use serde_json::{Value, json};
use timescaledb_policy_operator::{desired::Kind, plan::step::Verdict};

use super::driver::{Database, Outcome, aggregate, assert_says, compression, hypertable, retention};
use crate::support::Result;

const QUERY: &str = "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric GROUP BY 1, 2";

/// What a database administrator made before the operator came.
async fn by_hand() -> Result<Database> {
    let db = Database::shared().await?;
    db.run(&format!(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, place text, value float8);
         SELECT create_hypertable('metric', by_range('ts', interval '1 day'));
         SELECT add_dimension('metric', by_hash('device', 3));
         CREATE INDEX by_device ON metric (device, ts DESC) INCLUDE (value) WHERE value > 0;
         ALTER TABLE metric SET (timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'value, ts DESC');
         SELECT add_compression_policy('metric', interval '7 days', schedule_interval => interval '6 hours', initial_start => '2036-01-01 02:00Z', timezone => 'Europe/Berlin');
         SELECT add_retention_policy('metric', interval '90 days', initial_start => '2036-01-01 02:00Z');
         CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS {QUERY} WITH NO DATA;
         SELECT add_continuous_aggregate_policy('hourly', interval '30 days', NULL, interval '1 hour', initial_start => '2036-01-01 02:00Z')"
    ))
    .await?;
    Ok(db)
}

/// The same in resources, with one field set otherwise.
fn resources(change: Option<(usize, &str, Value)>) -> Vec<Value> {
    let schedule = json!({"interval": "6 hours", "initialStart": "2036-01-01T02:00:00Z", "timezone": "Europe/Berlin"});
    let index = json!({"name": "by_device", "columns": [{"name": "device"}, {"name": "ts", "order": "Desc"}], "include": ["value"], "where": "value > 0"});
    let mut resources = vec![
        hypertable(
            "metric",
            json!({"chunkInterval": "1 day", "spacePartitions": [{"column": "device", "partitions": 3}], "indexes": [index]}),
        ),
        compression(
            "metric",
            json!({"compressAfter": "7 days", "segmentBy": ["device"], "orderBy": [{"column": "value"}], "schedule": schedule}),
        ),
        retention("metric", json!({"dropAfter": "90 days", "schedule": {"initialStart": "2036-01-01T02:00:00Z"}})),
        aggregate(
            "hourly",
            QUERY,
            json!({"realTime": true, "refreshPolicy": {"startOffset": "30 days", "schedule": {"interval": "1 hour"}}}),
        ),
    ];
    if let Some((i, pointer, value)) = change {
        let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
        let parent = resources[i]["spec"].pointer_mut(parent).unwrap_or_else(|| panic!("there is no {pointer}"));
        parent[field] = value;
    }
    resources
}

fn assert_in_sync(outcome: &Outcome) {
    assert!(outcome.plan.verdicts.values().all(|verdict| *verdict == Verdict::InSync), "{:?}", outcome.plan.verdicts);
}

#[tokio::test]
async fn what_equals_its_resources_needs_no_step() -> Result<()> {
    let db = by_hand().await?;
    let outcome = db.converge(resources(None)).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    assert_in_sync(&outcome);
    Ok(())
}

#[tokio::test]
async fn what_differs_needs_exactly_the_step_that_changes_it() -> Result<()> {
    let db = by_hand().await?;
    let jobs = "SELECT array_agg(id ORDER BY id) AS ids FROM _timescaledb_config.bgw_job j WHERE j.hypertable_id IN (SELECT id FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema'
        UNION ALL SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema')";
    let made = db.row(jobs).await?;
    let later = json!("2036-02-01T02:00:00Z");
    let changes = [
        (0, "/chunkInterval", json!("2 days"), "set_chunk_interval", "1 day -> 2 days"),
        (0, "/spacePartitions/0/partitions", json!(4), "set_partitions", "3 -> 4"),
        (1, "/segmentBy", json!(["device", "place"]), "set_compression", "device -> device, place"),
        (1, "/orderBy/0/order", json!("Desc"), "set_compression", "value, ts DESC -> value DESC, ts DESC"),
        (1, "/compressAfter", json!("8 days"), "alter_policy", "7 days -> compress after 8 days"),
        (1, "/schedule/interval", json!("7 hours"), "alter_policy", "6 hours -> 7 hours"),
        (1, "/schedule/timezone", json!("Asia/Tokyo"), "alter_policy", "Europe/Berlin -> Asia/Tokyo"),
        (1, "/paused", json!(true), "alter_policy", "running -> paused"),
        (2, "/dropAfter", json!("100 days"), "alter_policy", "90 days -> drop after 100 days"),
        (2, "/schedule/initialStart", later, "alter_policy", "2036-01-01T02:00:00Z -> 2036-02-01T02:00:00Z"),
        (2, "/schedule/maxRetries", json!(3), "alter_policy", "max retries -1 -> 3"),
        (3, "/realTime", json!(false), "set_materialized_only", "real time -> only what is materialised"),
        (
            3,
            "/refreshPolicy/startOffset",
            json!("20 days"),
            "alter_policy",
            "from 30 days to nothing ago -> refresh from 20 days to nothing ago",
        ),
        (3, "/refreshPolicy/endOffset", json!("1 hour"), "alter_policy", "to 1 hour ago"),
        (
            3,
            "/refreshPolicy/schedule/maxRuntime",
            json!("5 minutes"),
            "alter_policy",
            "max runtime 0 seconds -> 5 minutes",
        ),
    ];
    for (i, pointer, value, action, says) in changes {
        let outcome = db.converge(resources(Some((i, pointer, value)))).await?;
        assert_eq!(outcome.actions(), [action], "{pointer}");
        assert_says(&outcome.steps[0].change, &[says]);
        assert_in_sync(&outcome);
        // And back. What the resources do not say is not put back.
        db.converge(resources(None)).await?;
    }
    assert_eq!(db.row(jobs).await?, made, "no job was made anew");
    Ok(())
}

#[tokio::test]
async fn a_missing_part_is_added_to_what_is_there() -> Result<()> {
    let db = by_hand().await?;
    let index = json!([
        {"name": "by_device", "columns": [{"name": "device"}, {"name": "ts", "order": "Desc"}], "include": ["value"], "where": "value > 0"},
        {"name": "by_place", "columns": [{"name": "place"}]}
    ]);
    assert_eq!(db.converge(resources(Some((0, "/indexes", index)))).await?.actions(), ["build_index"]);
    let partitions = json!([{"column": "device", "partitions": 3}, {"column": "place", "partitions": 2}]);
    db.run("ALTER TABLE metric ALTER place SET NOT NULL").await?;
    // The index that is not listed any more is one that the resource made.
    let outcome = db.converge(resources(Some((0, "/spacePartitions", partitions)))).await?;
    assert_eq!(outcome.actions(), ["add_dimension", "drop_index"]);
    Ok(())
}

/// From 2.23 on `CREATE TABLE … WITH` makes a compression policy nobody asked for by name.
#[tokio::test]
async fn a_hypertable_that_create_table_made_is_adopted_with_its_policy() -> Result<()> {
    let db = Database::shared().await?;
    let made = db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int, value float8) WITH (tsdb.hypertable, tsdb.partition_column = 'ts', tsdb.segmentby = 'device', tsdb.orderby = 'ts DESC', tsdb.chunk_interval = '1 day')").await;
    if made.is_err() {
        return Ok(()); // before 2.20
    }
    let with = |after: &str| {
        [
            hypertable("metric", json!({"chunkInterval": "1 day"})),
            compression("metric", json!({"compressAfter": after, "segmentBy": ["device"]})),
        ]
    };
    let policy = "SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_schema = '$schema' AND proc_name = 'policy_compression'";
    let there = db.one::<i64>(policy).await? == 1;
    assert_eq!(db.converge(with("1 day")).await?.actions(), vec!["add_policy"; usize::from(!there)]);
    assert_eq!(db.converge(with("3 days")).await?.actions(), ["alter_policy"]);
    assert_eq!(db.one::<i64>(policy).await?, 1);
    Ok(())
}

#[tokio::test]
async fn of_several_refresh_policies_the_oldest_is_taken_and_the_others_left_alone() -> Result<()> {
    let db = by_hand().await?;
    db.run("SELECT alter_job(id, config => config || '{\"start_offset\": \"10 days\"}') FROM _timescaledb_config.bgw_job WHERE proc_name = 'policy_refresh_continuous_aggregate'
        AND hypertable_id IN (SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema')").await?;
    let second = "SELECT add_continuous_aggregate_policy('hourly', interval '60 days', interval '20 days', interval '1 day', initial_start => '2036-01-01')";
    if db.run(second).await.is_err() {
        return Ok(()); // before 2.21 there is one at most
    }
    let wanted = || resources(Some((3, "/refreshPolicy/startOffset", json!("9 days"))));
    assert_eq!(db.converge(wanted()).await?.actions(), ["alter_policy"]);
    let starts = "SELECT array_agg(j.config->>'start_offset' ORDER BY j.id) AS starts FROM _timescaledb_config.bgw_job j
        JOIN _timescaledb_catalog.continuous_agg a ON a.mat_hypertable_id = j.hypertable_id WHERE a.user_view_schema = '$schema' AND j.proc_name = 'policy_refresh_continuous_aggregate'";
    assert_eq!(db.row(starts).await?["starts"], json!(["9 days", "60 days"]));
    Ok(())
}

#[tokio::test]
async fn the_jobs_of_a_table_that_goes_to_another_role_run_as_that_one() -> Result<()> {
    let db = by_hand().await?;
    let role = format!("owner_{}", db.schema);
    db.run_as_superuser(&format!(
        "CREATE ROLE {role} LOGIN; GRANT {role} TO {}; GRANT ALL ON SCHEMA $schema TO {role}; ALTER TABLE metric OWNER TO {role}",
        db.server.owner()
    ))
    .await?;
    let changed = db.converge(resources(Some((1, "/compressAfter", json!("8 days"))))).await?;
    // Before 2.25.2 they stay with the old one, and fail.
    let followed = db.server.is_native();
    assert_eq!(changed.actions(), if followed { vec!["alter_policy"] } else { vec!["replace_policy"; 2] });
    let owners = "SELECT DISTINCT owner::text FROM _timescaledb_config.bgw_job WHERE hypertable_id = (SELECT id FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema')";
    assert_eq!(db.one::<String>(owners).await?, role);
    let kept = db.the_job(Kind::CompressionPolicy, "metric").await?;
    assert_eq!((&kept["schedule_interval"], &kept["timezone"]), (&json!("06:00:00"), &json!("Europe/Berlin")));
    assert_eq!(kept["next_start"], "2036-01-01T02:00:00+00:00");
    db.run_as_superuser(&format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
}
