//! Tables become hypertables, and hypertables are changed in place.

use serde_json::json;
use timescaledb_policy_operator::{
    api::status::Reason,
    desired::Kind,
    error::Class,
    plan::step::{Hazard, Verdict},
};

use super::driver::{Database, Outcome, assert_rejected, assert_says, hypertable};
use crate::support::Result;

const METRIC: &str = "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)";
/// A thousand rows of 20 devices over ten days of the past.
const ROWS: &str = "INSERT INTO metric SELECT timestamptz '2026-01-01' + n * interval '864 seconds', n % 20, n FROM generate_series(0, 999) n";

async fn dimensions(db: &Database, table: &str) -> Result<Vec<serde_json::Value>> {
    let dimensions = format!(
        "SELECT column_name, time_interval::text, num_partitions FROM timescaledb_information.dimensions
         WHERE hypertable_schema = '$schema' AND hypertable_name = '{table}' ORDER BY dimension_number"
    );
    db.rows(&dimensions).await
}

async fn is_hypertable(db: &Database, table: &str) -> Result<bool> {
    let found = "SELECT count(*) > 0 FROM timescaledb_information.hypertables WHERE hypertable_schema = '$schema'";
    db.one(&format!("{found} AND hypertable_name = '{table}'")).await
}

/// The chunks with their width, the oldest first.
async fn chunk_widths(db: &Database) -> Result<Vec<String>> {
    let widths = "SELECT (range_end - range_start)::text AS width FROM timescaledb_information.chunks WHERE hypertable_schema = '$schema' ORDER BY range_start";
    Ok(db.rows(widths).await?.iter().map(|row| row["width"].as_str().unwrap_or_default().to_owned()).collect())
}

#[tokio::test]
async fn an_empty_table_becomes_a_hypertable() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let resource = hypertable(
        "metric",
        json!({"chunkInterval": "6 hours", "spacePartitions": [{"column": "device", "partitions": 3}]}),
    );
    let outcome = db.converge([resource.clone()]).await?;
    assert_eq!(outcome.actions(), ["create_hypertable"]);
    assert_eq!(outcome.steps[0].hazards, [], "an empty table is converted in no time");
    assert_eq!(
        dimensions(&db, "metric").await?,
        [
            json!({"column_name": "ts", "time_interval": "06:00:00", "num_partitions": null}),
            json!({"column_name": "device", "time_interval": null, "num_partitions": 3}),
        ]
    );
    db.run(ROWS).await?;
    assert_eq!(db.converge([resource]).await?.actions(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn what_a_hypertable_leaves_out_is_not_managed() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge([hypertable("metric", json!({}))]).await?;
    db.run("SELECT set_chunk_time_interval('metric', interval '1 day'); SELECT add_dimension('metric', by_hash('device', 2))")
        .await?;
    assert_eq!(db.converge([hypertable("metric", json!({}))]).await?.actions(), [""; 0]);
    assert_eq!(dimensions(&db, "metric").await?[0]["time_interval"], "1 day");
    Ok(())
}

#[tokio::test]
async fn the_rows_of_a_table_are_moved_into_chunks() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(ROWS).await?;
    let outcome = db
        .converge([hypertable(
            "metric",
            json!({"chunkInterval": "P1D", "migrateData": true, "spacePartitions": [{"column": "device", "partitions": 4}]}),
        )])
        .await?;
    assert_eq!(outcome.actions(), ["create_hypertable"]);
    let hazards = &outcome.steps[0].hazards;
    assert!(matches!(hazards[..], [Hazard::RewritesData(bytes), Hazard::LongLock(_)] if bytes > 0), "{hazards:?}");
    let found = "SELECT (SELECT count(*) FROM metric) AS rows, (SELECT sum(value) FROM metric) AS sum, (SELECT count(*) FROM ONLY metric) AS left_behind,
        (SELECT count(*) FROM show_chunks('metric')) AS chunks,
        (SELECT count(DISTINCT s.range_start) FROM _timescaledb_catalog.dimension_slice s JOIN _timescaledb_catalog.dimension d ON d.id = s.dimension_id
            JOIN _timescaledb_catalog.hypertable h ON h.id = d.hypertable_id WHERE h.schema_name = '$schema' AND d.column_name = 'device') AS partitions";
    let expected = json!({"rows": 1000, "sum": 499_500, "left_behind": 0, "chunks": 40, "partitions": 4});
    assert_eq!(db.row(found).await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_table_with_rows_is_refused_unless_they_may_be_moved() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(ROWS).await?;
    let outcome = db.attempt([hypertable("metric", json!({}))]).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    let rejection = outcome.rejection(Kind::Hypertable, "metric");
    assert_rejected(rejection, Reason::TableNotEmpty, &[&db.schema, "metric", "KiB", "migrateData: true", "TRUNCATE"]);
    assert!(!is_hypertable(&db, "metric").await?);
    assert_eq!(db.one::<i64>("SELECT count(*) FROM metric").await?, 1000);

    db.run("TRUNCATE metric").await?;
    assert_eq!(db.converge([hypertable("metric", json!({}))]).await?.actions(), ["create_hypertable"]);
    Ok(())
}

#[tokio::test]
async fn a_changed_chunk_interval_holds_for_the_next_chunks() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge([hypertable("metric", json!({"chunkInterval": "1 day"}))]).await?;
    db.run("INSERT INTO metric VALUES ('2026-01-01 12:00Z', 1, 1)").await?;

    let outcome = db.converge([hypertable("metric", json!({"chunkInterval": "2 hours"}))]).await?;
    assert_eq!(outcome.actions(), ["set_chunk_interval"]);
    assert_says(&outcome.steps[0].change, &["1 day -> 2 hours"]);
    db.run("INSERT INTO metric VALUES ('2026-02-01 12:00Z', 1, 1)").await?;
    assert_eq!(chunk_widths(&db).await?, ["1 day", "02:00:00"]);

    // TimescaleDB keeps microseconds: a month is 30 days, and neither way of writing it is a change.
    assert_eq!(db.converge([hypertable("metric", json!({"chunkInterval": "1 month"}))]).await?.steps.len(), 1);
    for same in ["30 days", "P30D", "720 hours", "720:00:00"] {
        let outcome = db.converge([hypertable("metric", json!({"chunkInterval": same}))]).await?;
        assert_eq!(outcome.actions(), [""; 0], "{same}");
    }
    Ok(())
}

#[tokio::test]
async fn partitions_change_and_dimensions_are_added_for_the_next_chunks() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, place text NOT NULL, value float8)")
        .await?;
    let partitions = |columns: serde_json::Value| hypertable("metric", json!({"spacePartitions": columns}));
    db.converge([partitions(json!([{"column": "device", "partitions": 2}]))]).await?;
    db.run("INSERT INTO metric SELECT '2026-01-01', n, n::text, 1 FROM generate_series(1, 50) n").await?;
    assert_eq!(db.one::<i64>("SELECT count(*) FROM show_chunks('metric')").await?, 2);

    let outcome = db.converge([partitions(json!([{"column": "device", "partitions": 5}]))]).await?;
    assert_eq!(outcome.actions(), ["set_partitions"]);
    let outcome = db
        .converge([partitions(json!([{"column": "place", "partitions": 3}, {"column": "device", "partitions": 5}]))])
        .await?;
    assert_eq!(outcome.actions(), ["add_dimension"], "the order in which dimensions are listed does not matter");
    let found: Vec<_> = dimensions(&db, "metric").await?.iter().map(|d| d["num_partitions"].clone()).collect();
    assert_eq!(found, [json!(null), json!(5), json!(3)]);
    db.run("INSERT INTO metric SELECT '2026-06-01', n, n::text, 1 FROM generate_series(1, 200) n").await?;
    assert_eq!(
        db.one::<i64>("SELECT count(*) FROM show_chunks('metric', newer_than => timestamptz '2026-03-01')").await?,
        15
    );
    Ok(())
}

#[tokio::test]
async fn a_dimension_that_a_resource_drops_from_its_list_is_named() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, place text NOT NULL)").await?;
    let both = json!([{"column": "device", "partitions": 2}, {"column": "place", "partitions": 3}]);
    db.converge([hypertable("metric", json!({"spacePartitions": both}))]).await?;
    let outcome = db
        .attempt([hypertable(
            "metric",
            json!({"spacePartitions": [{"column": "device", "partitions": 4}], "chunkInterval": "1 day"}),
        )])
        .await?;
    let rejection = outcome.rejection(Kind::Hypertable, "metric");
    assert_rejected(rejection, Reason::InvalidSpec, &["partitioned by place", "3 hash partitions"]);
    assert_eq!(outcome.actions(), ["set_chunk_interval", "set_partitions"], "what can be done is done");
    Ok(())
}

#[tokio::test]
async fn what_cannot_become_a_hypertable_is_named_and_left_alone() -> Result<()> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int, at text, n bigint);
         CREATE VIEW metric_view AS SELECT * FROM metric;
         CREATE MATERIALIZED VIEW metric_matview AS SELECT * FROM metric;
         CREATE TABLE metric_parts (ts timestamptz NOT NULL) PARTITION BY RANGE (ts);
         CREATE SEQUENCE metric_sequence;
         CREATE DOMAIN instant AS timestamptz; CREATE TABLE metric_domain (ts instant NOT NULL)",
    )
    .await?;
    let cases = [
        (hypertable("missing", json!({})), Reason::TableNotFound, vec!["missing does not exist", "create it"]),
        (hypertable("metric_sequence", json!({})), Reason::TableNotFound, vec!["does not exist"]),
        (hypertable("metric_view", json!({})), Reason::InvalidSpec, vec!["metric_view is not a table"]),
        (hypertable("metric_matview", json!({})), Reason::InvalidSpec, vec!["metric_matview is not a table"]),
        (hypertable("metric_parts", json!({})), Reason::InvalidSpec, vec!["partitioned by PostgreSQL"]),
        (
            hypertable("metric", json!({"timeColumn": "when"})),
            Reason::InvalidSpec,
            vec!["no column when", "device", "ts"],
        ),
        (
            hypertable("metric", json!({"timeColumn": "at"})),
            Reason::InvalidSpec,
            vec!["at", "type text", "timestamptz"],
        ),
        (
            hypertable("metric", json!({"timeColumn": "n"})),
            Reason::InvalidSpec,
            vec!["the integers in n", "spec.chunkInterval"],
        ),
        (hypertable("metric_domain", json!({})), Reason::InvalidSpec, vec!["instant", "timestamptz"]),
        (
            hypertable("metric", json!({"spacePartitions": [{"column": "place", "partitions": 2}]})),
            Reason::InvalidSpec,
            vec!["spec.spacePartitions", "no column place"],
        ),
        (
            hypertable(
                "metric",
                json!({"indexes": [{"name": "i", "columns": [{"name": "ts"}], "include": ["place"]}]}),
            ),
            Reason::InvalidSpec,
            vec!["spec.indexes", "no column place"],
        ),
    ];
    for (resource, reason, says) in cases {
        let name = resource["spec"]["table"].as_str().unwrap_or_default().to_owned();
        let outcome = db.attempt([resource]).await?;
        assert_eq!(outcome.actions(), [""; 0]);
        assert_rejected(outcome.rejection(Kind::Hypertable, &name), reason, &says);
        assert!(!is_hypertable(&db, &name).await?);
    }
    let nowhere = db.attempt([hypertable("metric", json!({"schema": "nowhere"}))]).await?;
    assert_rejected(nowhere.rejection(Kind::Hypertable, "metric"), Reason::TableNotFound, &["nowhere.metric"]);
    Ok(())
}

#[tokio::test]
async fn a_unique_index_without_the_partitioning_columns_is_named_and_the_table_left_alone() -> Result<()> {
    let db = Database::shared().await?;
    let cases = [
        (
            "PRIMARY KEY (device)",
            json!({}),
            vec!["metric_pkey", "(device)", "lacks the partitioning column ts", "make it (device, ts)"],
        ),
        ("UNIQUE (device)", json!({}), vec!["metric_device_key", "lacks the partitioning column ts"]),
        (
            "PRIMARY KEY (ts)",
            json!({"spacePartitions": [{"column": "device", "partitions": 2}]}),
            vec!["metric_pkey", "lacks the partitioning column device", "(ts, device)"],
        ),
        (
            "PRIMARY KEY (value)",
            json!({"spacePartitions": [{"column": "device", "partitions": 2}]}),
            vec!["metric_pkey", "columns ts, device", "(value, ts, device)"],
        ),
        (
            "EXCLUDE USING btree (device WITH =)",
            json!({}),
            vec!["metric_device_excl", "lacks the partitioning column ts"],
        ),
    ];
    for (constraint, fields, says) in cases {
        db.run(&format!("CREATE TABLE metric (ts timestamptz NOT NULL, device int, value float8, {constraint})"))
            .await?;
        let outcome = db.attempt([hypertable("metric", fields.clone())]).await?;
        assert_eq!(outcome.actions(), [""; 0]);
        assert_rejected(outcome.rejection(Kind::Hypertable, "metric"), Reason::IncompatibleIndex, &says);
        assert!(!is_hypertable(&db, "metric").await?);
        let constraints =
            "SELECT count(*) FROM pg_constraint WHERE conrelid = 'metric'::regclass AND contype IN ('p', 'u', 'x')";
        assert_eq!(db.one::<i64>(constraints).await?, 1, "{constraint}");
        db.run("DROP TABLE metric").await?;
    }
    for index in ["(lower(name))", "(device) WHERE device > 0"] {
        db.run(&format!(
            "CREATE TABLE metric (ts timestamptz NOT NULL, device int, name text); CREATE UNIQUE INDEX once ON metric {index}"
        ))
        .await?;
        let outcome = db.attempt([hypertable("metric", json!({}))]).await?;
        assert_rejected(
            outcome.rejection(Kind::Hypertable, "metric"),
            Reason::IncompatibleIndex,
            &["unique index once"],
        );
        db.run("DROP TABLE metric").await?;
    }
    db.run("CREATE TABLE metric (ts timestamptz, device int, PRIMARY KEY (device, ts))").await?;
    assert_eq!(db.converge([hypertable("metric", json!({}))]).await?.actions(), ["create_hypertable"]);
    Ok(())
}

/// The planner must see what TimescaleDB would refuse, and nothing else: each table that it refuses is tried by hand.
#[tokio::test]
async fn every_obstacle_that_is_foreseen_is_one_for_timescaledb_too() -> Result<()> {
    let db = Database::shared().await?;
    let plain = "CREATE TABLE metric (ts timestamptz NOT NULL, device int, value float8)";
    let cases = [
        ("CREATE TABLE child () INHERITS (metric)", "another table inherits from it"),
        ("CREATE TABLE parent (ts timestamptz NOT NULL); ALTER TABLE metric INHERIT parent", "inherits from another table"),
        ("CREATE RULE nothing AS ON DELETE TO metric DO INSTEAD NOTHING", "DROP RULE"),
        (
            "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER \"a b\" AFTER INSERT ON metric REFERENCING NEW TABLE AS new FOR EACH ROW EXECUTE FUNCTION look()",
            "trigger \"a b\" is a row trigger with a transition table",
        ),
        (
            "ALTER TABLE metric ADD PRIMARY KEY (device, ts);
             CREATE TABLE note (device int, ts timestamptz, CONSTRAINT about FOREIGN KEY (device, ts) REFERENCES metric);
             INSERT INTO metric VALUES (now(), 1, 1)",
            "foreign key about of",
        ),
    ];
    for (obstacle, says) in cases {
        db.run(plain).await?;
        db.run(obstacle).await?;
        let outcome = db.attempt([hypertable("metric", json!({"migrateData": true}))]).await?;
        assert_eq!(outcome.actions(), [""; 0], "{obstacle}");
        assert_rejected(outcome.rejection(Kind::Hypertable, "metric"), Reason::InvalidSpec, &["cannot convert", says]);
        let by_hand = db.run("SELECT create_hypertable('metric', 'ts', migrate_data => true)").await;
        assert!(by_hand.is_err(), "TimescaleDB takes it: {obstacle}");
        db.run("DROP TABLE IF EXISTS note, child, parent, metric CASCADE; DROP FUNCTION IF EXISTS look").await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_obstacle_for_timescaledb_is_none_for_the_planner() -> Result<()> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE device (id int PRIMARY KEY);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         INSERT INTO device VALUES (1);
         CREATE TABLE metric (id bigint GENERATED ALWAYS AS IDENTITY, ts timestamptz, device int REFERENCES device, double float8 GENERATED ALWAYS AS (2 * value) STORED,
            value float8 CHECK (value > 0), UNIQUE (device, ts));
         CREATE TRIGGER look BEFORE INSERT ON metric FOR EACH ROW EXECUTE FUNCTION look();
         INSERT INTO metric (ts, device, value) SELECT timestamptz '2026-01-01' + n * interval '1 day', 1, n FROM generate_series(1, 20) n;
         CREATE TABLE empty (ts date, device int, PRIMARY KEY (device, ts));
         CREATE TABLE note (device int, ts date, FOREIGN KEY (device, ts) REFERENCES empty);
         CREATE TABLE once_inherited (ts timestamp); CREATE TABLE child () INHERITS (once_inherited); DROP TABLE child",
    )
    .await?;
    let outcome = db
        .converge([
            hypertable("metric", json!({"migrateData": true})),
            hypertable("empty", json!({})),
            hypertable("once_inherited", json!({})),
        ])
        .await?;
    assert_eq!(outcome.actions(), ["create_hypertable"; 3]);
    let kept = "SELECT count(*) AS rows, sum(double) AS double FROM metric";
    assert_eq!(db.row(kept).await?, json!({"rows": 20, "double": 420}));
    Ok(())
}

#[tokio::test]
async fn what_only_the_server_can_know_is_its_own_refusal_and_undoes_the_conversion() -> Result<()> {
    let db = Database::shared().await?;
    let check = async |outcome: Outcome, says: &[&str]| {
        let failure = outcome.failure(Kind::Hypertable, "metric");
        assert_eq!((failure.class, failure.reason), (Class::User, Reason::InvalidSpec), "{failure}");
        assert_says(&failure.message, says);
        assert!(!is_hypertable(&db, "metric").await?);
        Ok::<(), crate::support::Error>(())
    };
    db.run("CREATE TABLE metric (ts timestamptz, value float8); INSERT INTO metric VALUES (now(), 1), (NULL, 2)")
        .await?;
    check(db.attempt([hypertable("metric", json!({"migrateData": true}))]).await?, &["ts", "null", "23502"]).await?;
    assert_eq!(db.one::<i64>("SELECT count(*) FROM metric").await?, 2);

    // The name of the index is taken, so the whole conversion is undone.
    db.run("DROP TABLE metric; CREATE TABLE metric (ts timestamptz NOT NULL); CREATE TABLE other (n int); CREATE INDEX taken ON other (n)").await?;
    let indexed = hypertable("metric", json!({"indexes": [{"name": "taken", "columns": [{"name": "ts"}]}]}));
    check(db.attempt([indexed]).await?, &["taken", "already exists", "42P07"]).await
}

#[tokio::test]
async fn tables_of_one_name_in_two_schemas_are_two_tables() -> Result<()> {
    let (one, other) = (Database::shared().await?, Database::shared().await?);
    one.run(METRIC).await?;
    other.run(METRIC).await?;
    one.converge([hypertable("metric", json!({"chunkInterval": "1 day"}))]).await?;
    assert!(!is_hypertable(&other, "metric").await?);
    other.converge([hypertable("metric", json!({"chunkInterval": "2 days"}))]).await?;
    assert_eq!(dimensions(&one, "metric").await?[0]["time_interval"], "1 day");
    assert_eq!(dimensions(&other, "metric").await?[0]["time_interval"], "2 days");
    Ok(())
}

#[tokio::test]
async fn a_hypertable_by_integers_is_taken_as_it_is() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts bigint NOT NULL, value float8); SELECT create_hypertable('metric', by_range('ts', 1000))").await?;
    assert_eq!(db.converge([hypertable("metric", json!({}))]).await?.actions(), [""; 0]);
    let outcome = db.attempt([hypertable("metric", json!({"chunkInterval": "1 day"}))]).await?;
    assert_rejected(
        outcome.rejection(Kind::Hypertable, "metric"),
        Reason::InvalidSpec,
        &["spec.chunkInterval", "ranges of 1000", "a number of its units"],
    );
    Ok(())
}

#[tokio::test]
async fn another_time_column_than_the_live_one_is_refused() -> Result<()> {
    let db = Database::shared().await?;
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, seen timestamptz NOT NULL); SELECT create_hypertable('metric', 'seen')").await?;
    let outcome = db.attempt([hypertable("metric", json!({"chunkInterval": "1 day"}))]).await?;
    assert_eq!(outcome.actions(), [""; 0]);
    assert_rejected(
        outcome.rejection(Kind::Hypertable, "metric"),
        Reason::InvalidSpec,
        &["hypertable by seen, not by ts"],
    );
    Ok(())
}

#[tokio::test]
async fn a_locked_table_waits_and_holds_up_no_other() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // nothing else runs while a transaction of the WebAssembly server is open
    }
    db.run("CREATE TABLE metric (ts timestamptz NOT NULL, value float8); CREATE TABLE other (ts timestamptz NOT NULL)")
        .await?;
    let other_session = db.server.connect().await?;
    let both = || [hypertable("metric", json!({"migrateData": true})), hypertable("other", json!({}))];
    other_session.batch_execute(&db.here("BEGIN; LOCK TABLE $schema.metric IN ACCESS EXCLUSIVE MODE")).await?;
    let outcome = db.attempt(both()).await?;
    assert_eq!(outcome.steps.len(), 1);
    assert_rejected(outcome.rejection(Kind::Hypertable, "metric"), Reason::LockTimeout, &["another session holds"]);
    assert_eq!(outcome.verdict(Kind::Hypertable, "other"), &Verdict::InSync);
    other_session.batch_execute("ROLLBACK").await?;

    // A lock that a row under way holds is seen only when the statement runs into it.
    other_session.batch_execute(&db.here("BEGIN; INSERT INTO $schema.metric VALUES (now(), 1)")).await?;
    let outcome = db.attempt(both()).await?;
    let failure = outcome.failure(Kind::Hypertable, "metric");
    assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::LockTimeout), "{failure}");
    other_session.batch_execute("COMMIT").await?;
    assert_eq!(db.converge(both()).await?.actions(), ["create_hypertable"]);
    assert_eq!(db.one::<i64>("SELECT count(*) FROM metric").await?, 1);
    Ok(())
}
