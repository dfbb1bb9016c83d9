//! What the walks go over: tables with rows, and the resources that hold at the start.

use serde_json::{Value, json};

pub struct Scene {
    pub name: &'static str,
    /// Run as the owner of the tables.
    pub tables: &'static str,
    /// Run once all resources are ready.
    pub filled: &'static str,
    /// Kind, name, labels, spec.
    pub resources: Vec<(&'static str, &'static str, Value, Value)>,
}

pub const SCENES: [&str; 6] = ["table", "aggregate", "history", "integer", "fleet", "database"];

const READINGS: &str = "
CREATE TABLE $SCHEMA.readings (
    ts timestamptz NOT NULL, sensor int NOT NULL, line int NOT NULL, quality float8, value float8, note text, tags int[], place point
);
INSERT INTO $SCHEMA.readings
SELECT now() - n * interval '4 days', n % 3, n % 2, n, n * 2, 'note ' || n, ARRAY[n], point(n,
    n) FROM generate_series(0, 15) n;
CREATE FUNCTION $SCHEMA.is_good(float8) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 3';
CREATE FUNCTION $SCHEMA.guess() RETURNS float8 LANGUAGE sql VOLATILE AS 'SELECT random()';
";

const EVENTS: &str = "
CREATE TABLE $SCHEMA.events (ts timestamptz NOT NULL, sensor int NOT NULL, value float8);
INSERT INTO $SCHEMA.events SELECT now() - n * interval '4 days', n % 3, n FROM generate_series(0, 15) n;
CREATE FUNCTION $SCHEMA.guess() RETURNS float8 LANGUAGE sql VOLATILE AS 'SELECT random()';
";

const COUNTS: &str = "
CREATE TABLE $SCHEMA.counts (t bigint NOT NULL, sensor int NOT NULL, value float8);
INSERT INTO $SCHEMA.counts SELECT n * 400, n % 3, n FROM generate_series(0, 15) n;
CREATE FUNCTION $SCHEMA.now_of_counts() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 6000::bigint';
CREATE FUNCTION $SCHEMA.later_of_counts() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 6100::bigint';
CREATE FUNCTION $SCHEMA.text_of_counts() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''6100''::text';
";

const FLEET: &str = "
CREATE TABLE $SCHEMA.north (ts timestamptz NOT NULL, value float8);
CREATE TABLE $SCHEMA.south (ts timestamptz NOT NULL, value float8);
CREATE TABLE $SCHEMA.east (ts timestamptz NOT NULL, value float8);
";

const PLAIN: &str = "
CREATE TABLE $SCHEMA.plain (ts timestamptz NOT NULL, value float8);
CREATE TABLE $SCHEMA.guest (ts timestamptz NOT NULL, value float8);
CREATE TABLE $SCHEMA.old (ts timestamptz NOT NULL, value float8);
INSERT INTO $SCHEMA.old SELECT now() - n * interval '4 days', n FROM generate_series(0, 15) n;
";

pub const HOURLY: &str = "SELECT time_bucket('1 hour', ts) AS bucket, sensor, avg(value) AS average, count(*) AS n FROM $SCHEMA.events GROUP BY 1, 2";

fn aggregate(filled: &'static str, name: &'static str) -> Scene {
    let on = json!({"databaseRef": reference(), "schema": "$SCHEMA"});
    let mut resources = vec![
        (
            "Hypertable",
            "events",
            json!({}),
            merged(
                &on,
                json!({"table": "events", "timeColumn": "ts", "chunkInterval": "14 days", "migrateData": true}),
            ),
        ),
        (
            "ContinuousAggregate",
            "hourly",
            json!({}),
            merged(
                &on,
                json!({
                    "name": "hourly", "query": HOURLY, "realTime": true, "createGroupIndexes": false,
                        "chunkInterval": "20 days",
                    "indexes": [{"name": "hourly_sensor_$SCHEMA", "columns": [{"name": "sensor"}, {"name": "bucket",
                        "order": "Desc"}], "include": ["n"], "where": "n > 0"}],
                    "refreshPolicy": {
                        "startOffset": "10 days", "endOffset": "1 hour", "includeTieredData": true,
                            "bucketsPerBatch": 10, "maxBatchesPerExecution": 5,
                        "refreshNewestFirst": true,
                        "schedule": {"interval": "1 hour", "initialStart": "2026-01-01T00:00:00Z",
                            "timezone": "Europe/Berlin", "maxRuntime": "1 hour", "maxRetries": 3,
                            "retryPeriod": "5 minutes"},
                    },
                }),
            ),
        ),
    ];
    if name == "aggregate" {
        let target = json!({"targetRef": {"kind": "ContinuousAggregate", "name": "hourly"}});
        resources.extend([
            ("CompressionPolicy", "hourly", json!({}), merged(&target, json!({"compressAfter": "30 days",
                "segmentBy": ["sensor"], "orderBy": [{"column": "bucket"}]}))),
            ("RetentionPolicy", "hourly", json!({}), merged(&target, json!({"dropAfter": "80 days"}))),
            ("ContinuousAggregate", "spare", json!({}), merged(&on, json!({
                "name": "spare", "query": "SELECT time_bucket('1 day', ts) AS day, count(*) AS n FROM $SCHEMA.events GROUP BY 1",
                "refreshPolicy": {"startOffset": "10 days", "schedule": {"interval": "1 day"}},
            }))),
        ]);
    }
    Scene { name, tables: EVENTS, filled, resources }
}

fn reference() -> Value {
    json!({"name": "$DATABASE", "namespace": "$HOME"})
}

pub fn merged(base: &Value, more: Value) -> Value {
    let mut all = base.clone();
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}

pub fn scene(name: &str) -> Scene {
    let on = json!({"databaseRef": reference(), "schema": "$SCHEMA"});
    let fill = "CALL public.refresh_continuous_aggregate('$SCHEMA.hourly', NULL, NULL)";
    match name {
        "table" => {
            let target = json!({"targetRef": {"kind": "Hypertable", "name": "readings"}});
            Scene {
                name: "table",
                tables: READINGS,
                filled: "CALL public.refresh_continuous_aggregate('$SCHEMA.per_day', NULL, NULL)",
                resources: vec![
                    (
                        "Hypertable",
                        "readings",
                        json!({}),
                        merged(
                            &on,
                            json!({
                                "table": "readings", "timeColumn": "ts", "chunkInterval": "14 days",
                                    "migrateData": true,
                                "spacePartitions": [{"column": "line", "partitions": 2}], "chunkSkipping": ["sensor"],
                                "indexes": [
                                    {"name": "readings_sensor_ts", "columns": [{"name": "sensor"}, {"name": "ts",
                                        "order": "Desc"}], "include": ["value"], "where": "quality > 0"},
                                    {"name": "readings_line", "columns": [{"name": "line"}, {"name": "ts"}]},
                                ],
                                "reorder": {"index": "readings_line", "schedule": {"interval": "1 day"}},
                            }),
                        ),
                    ),
                    (
                        "CompressionPolicy",
                        "readings",
                        json!({}),
                        merged(
                            &target,
                            json!({
                                "compressAfter": "20 days", "segmentBy": ["sensor"], "orderBy": [{"column": "value"},
                                    {"column": "ts", "order": "Desc"}],
                                "sparseIndexes": [{"kind": "Bloom", "columns": ["note"]}], "mergeInterval": "28 days",
                                    "schedule": {"interval": "12 hours"},
                            }),
                        ),
                    ),
                    (
                        "RetentionPolicy",
                        "readings",
                        json!({}),
                        merged(
                            &target,
                            json!({
                                "dropAfter": "90 days", "schedule": {"interval": "1 day",
                                    "initialStart": "2026-01-01T02:00:00Z"},
                            }),
                        ),
                    ),
                    (
                        "ContinuousAggregate",
                        "per-day",
                        json!({}),
                        merged(
                            &on,
                            json!({
                                "name": "per_day", "query": "SELECT time_bucket('1 day', ts) AS bucket, sensor, avg(value) AS average FROM $SCHEMA.readings GROUP BY 1, 2",
                                "refreshPolicy": {"startOffset": "5 days", "endOffset": "1 hour",
                                    "schedule": {"interval": "1 hour"}},
                            }),
                        ),
                    ),
                ],
            }
        }
        "aggregate" => aggregate(fill, "aggregate"),
        "history" => aggregate(
            "CALL public.refresh_continuous_aggregate('$SCHEMA.hourly', NULL, NULL);
             SELECT public.drop_chunks('$SCHEMA.events', interval '30 days')",
            "history",
        ),
        "integer" => {
            let target = json!({"targetRef": {"kind": "Hypertable", "name": "counts"}});
            Scene {
                name: "integer",
                tables: COUNTS,
                filled: "CALL public.refresh_continuous_aggregate('$SCHEMA.tally', NULL, NULL)",
                resources: vec![
                    (
                        "Hypertable",
                        "counts",
                        json!({}),
                        merged(
                            &on,
                            json!({
                                "table": "counts", "timeColumn": "t", "chunkInterval": 1000, "migrateData": true,
                                    "integerNowFunction": "$SCHEMA.now_of_counts",
                            }),
                        ),
                    ),
                    (
                        "CompressionPolicy",
                        "counts",
                        json!({}),
                        merged(&target, json!({"compressAfter": 2000, "mergeInterval": 2000})),
                    ),
                    ("RetentionPolicy", "counts", json!({}), merged(&target, json!({"dropAfter": 50000}))),
                    (
                        "ContinuousAggregate",
                        "tally",
                        json!({}),
                        merged(
                            &on,
                            json!({
                                "name": "tally", "query": "SELECT time_bucket(100, t) AS bucket, count(*) AS n FROM $SCHEMA.counts GROUP BY 1", "chunkInterval": 5000,
                                "refreshPolicy": {"startOffset": 1000, "endOffset": 100,
                                    "schedule": {"interval": "1 hour"}},
                            }),
                        ),
                    ),
                ],
            }
        }
        "fleet" => {
            let selector = json!({"kind": "Hypertable", "matchLabels": {"fleet": "yes"},
                "matchExpressions": [{"key": "region", "operator": "In", "values": ["north", "south"]}]});
            let table = |name: &'static str| {
                let spec = merged(&on, json!({"table": name, "timeColumn": "ts", "chunkInterval": "7 days"}));
                ("Hypertable", name, json!({"fleet": "yes", "region": name}), spec)
            };
            Scene {
                name: "fleet",
                tables: FLEET,
                filled: "",
                resources: vec![
                    table("north"),
                    table("south"),
                    table("east"),
                    (
                        "CompressionPolicy",
                        "fleet",
                        json!({}),
                        json!({"targetSelector": selector, "compressAfter": "20 days"}),
                    ),
                    (
                        "RetentionPolicy",
                        "fleet",
                        json!({}),
                        json!({"targetSelector": selector, "dropAfter": "90 days"}),
                    ),
                ],
            }
        }
        _ => {
            let target = json!({"targetRef": {"kind": "Hypertable", "name": "plain"}});
            Scene {
                name: "database",
                tables: PLAIN,
                filled: "",
                resources: vec![
                    (
                        "TimescaleDatabase",
                        "plant",
                        json!({}),
                        json!({
                            "connection": {"secretRef": {"name": "plant"}, "host": "$ADDRESS", "port": "$PORT",
                                "database": "$DB", "tls": {"mode": "Prefer"}},
                            "resyncInterval": "1 second", "statisticsInterval": "5 minutes",
                            "defaults": {"chunkInterval": "3 days", "compressAfter": "20 days", "dropAfter": "90 days"},
                            "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"},
                                "matchExpressions": [{"key": "stage", "operator": "In", "values": ["test", "prod"]}]}},
                        }),
                    ),
                    ("Hypertable", "plain", json!({}), merged(&on, json!({"table": "plain", "timeColumn": "ts"}))),
                    (
                        "Hypertable",
                        "old",
                        json!({}),
                        merged(
                            &on,
                            json!({"table": "old", "timeColumn": "ts", "chunkInterval": "7 days", "migrateData": true}),
                        ),
                    ),
                    ("CompressionPolicy", "plain", json!({}), target.clone()),
                    ("RetentionPolicy", "plain", json!({}), target),
                    // In the other namespace.
                    (
                        "Hypertable",
                        "guest",
                        json!({}),
                        merged(&on, json!({"table": "guest", "timeColumn": "ts", "chunkInterval": "7 days"})),
                    ),
                ],
            }
        }
    }
}
