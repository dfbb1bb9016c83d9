//! What is written wrongly into any field is refused with its name and value, and changes nothing.

use serde_json::{Value, json};
use timescaledb_policy_operator::{api::status::Reason, desired::Kind, error::Class, plan::step::Verdict};

use super::driver::{Database, aggregate, compression, hypertable, retention};
use crate::support::Result;

const HOURLY: &str = "SELECT time_bucket('1 hour', ts) AS hour, device, avg(value) AS value FROM metric GROUP BY 1, 2";

fn resources() -> Vec<Value> {
    let on_view = json!({"kind": "ContinuousAggregate", "name": "hourly"});
    let start = json!({"interval": "1 hour", "initialStart": "2036-01-01T02:00:00Z"});
    vec![
        hypertable(
            "metric",
            json!({"chunkInterval": "1 day", "indexes": [{"name": "by_device", "columns": [{"name": "device"}]}]}),
        ),
        compression("metric", json!({"segmentBy": ["device"], "orderBy": [{"column": "ts"}], "schedule": start})),
        retention("metric", json!({"dropAfter": "90 years", "schedule": start})),
        aggregate(
            "hourly",
            HOURLY,
            json!({"onQueryChange": "Rebuild", "refreshPolicy": {"startOffset": "30 days", "endOffset": "1 hour", "schedule": start}}),
        ),
        compression(
            "on_view",
            json!({"targetRef": on_view, "compressAfter": "60 days", "segmentBy": ["device"], "orderBy": [{"column": "hour"}], "schedule": start}),
        ),
        hypertable("counted", json!({"chunkInterval": 100, "integerNowFunction": "$schema.now_8"})),
        // Paused: a policy in force would have another clock wait for an approval.
        retention("counted", json!({"dropAfter": 5000, "paused": true, "schedule": start})),
    ]
}

/// All that resources speak of, as text: whatever changes shows.
async fn everything(db: &Database) -> Result<Value> {
    db.one(
        "WITH mine AS (SELECT id, format('%I.%I', schema_name, table_name)::regclass AS oid FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema'
            UNION ALL SELECT mat_hypertable_id, format('%I.%I', h.schema_name, h.table_name)::regclass
                FROM _timescaledb_catalog.continuous_agg a JOIN _timescaledb_catalog.hypertable h ON h.id = a.mat_hypertable_id WHERE user_view_schema = '$schema')
         SELECT jsonb_build_array(
            (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.id) FROM mine m JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = m.id),
            (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.relid) FROM mine m JOIN _timescaledb_catalog.compression_settings s ON s.relid = m.oid),
            (SELECT jsonb_agg(to_jsonb(j) ORDER BY j.id) FROM mine m JOIN _timescaledb_config.bgw_job j ON j.hypertable_id = m.id),
            (SELECT jsonb_agg(pg_get_indexdef(i.indexrelid) ORDER BY i.indexrelid) FROM mine m JOIN pg_index i ON i.indrelid = m.oid),
            (SELECT count(*) FROM mine m JOIN _timescaledb_catalog.chunk_column_stats c ON c.hypertable_id = m.id),
            (SELECT count(*) FROM mine m JOIN _timescaledb_catalog.tablespace t ON t.hypertable_id = m.id),
            (SELECT jsonb_agg(format('%s %s', relname, relkind) ORDER BY relname) FROM pg_class WHERE relnamespace = '$schema'::regnamespace),
            (SELECT count(*) FROM precious))",
    )
    .await
}

#[tokio::test]
async fn a_mistake_in_any_field_is_named_and_changes_nothing() -> Result<()> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, place text, value float8, n int);
         CREATE TABLE counted (ts bigint NOT NULL, value float8);
         CREATE TABLE precious (n int); INSERT INTO precious VALUES (1);
         CREATE FUNCTION now_8() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1000::bigint';
         CREATE FUNCTION now_text() RETURNS text LANGUAGE sql STABLE AS $$SELECT 'x'$$;
         CREATE FUNCTION now_volatile() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT 1::bigint'",
    )
    .await?;
    let here = |text: &str| db.here(text);
    let resources =
        || -> Result<Vec<Value>> { Ok(serde_json::from_str(&here(&serde_json::to_string(&resources())?))?) };
    db.converge(resources()?).await?;
    db.run("INSERT INTO metric SELECT timestamptz '2026-01-01' + i * interval '1 day', 1, 'a', i, i FROM generate_series(1, 5) i; SELECT compress_chunk(c) FROM show_chunks('metric') c LIMIT 2").await?;
    let before = everything(&db).await?;

    let index = |fields: Value| {
        let mut index = json!({"name": "odd", "columns": [{"name": "device"}]});
        if let (Some(index), Value::Object(fields)) = (index.as_object_mut(), fields) {
            index.extend(fields);
        }
        let kept = json!({"name": "by_device", "columns": [{"name": "device"}]});
        json!([kept, index])
    };
    let of_view = |fields: Value| json!([index(fields)[1]]);
    let invalid = Reason::InvalidSpec;
    let bucket = |select: &str| format!("SELECT time_bucket('1 hour', ts) AS hour, {select} FROM metric GROUP BY 1");
    let long = "n".repeat(64);
    let cases: Vec<(usize, &str, Value, Reason, Vec<&str>)> = vec![
        // columns that are not there, in every position
        (0, "spacePartitions", json!([{"column": "colour", "partitions": 2}]), invalid, vec!["colour"]),
        (0, "chunkSkipping", json!(["colour"]), invalid, vec!["chunk skipping", "colour"]),
        (0, "chunkSkipping", json!(["place"]), invalid, vec!["chunk skipping", "place"]),
        (0, "indexes", index(json!({"columns": [{"name": "colour"}]})), invalid, vec!["odd", "colour"]),
        (0, "indexes", index(json!({"include": ["colour"]})), invalid, vec!["odd", "colour"]),
        (0, "indexes", index(json!({"where": "colour > 1"})), invalid, vec!["odd", "colour"]),
        (
            0,
            "indexes",
            index(json!({"unique": true, "columns": [{"name": "ts"}, {"name": "colour"}]})),
            invalid,
            vec!["odd", "colour"],
        ),
        (1, "segmentBy", json!(["colour"]), invalid, vec!["colour"]),
        (1, "orderBy", json!([{"column": "colour"}]), invalid, vec!["colour"]),
        (1, "sparseIndexes", json!([{"kind": "Bloom", "columns": ["colour"]}]), invalid, vec!["colour"]),
        (1, "sparseIndexes", json!([{"kind": "Bloom", "columns": ["device"]}]), invalid, vec!["device"]),
        (3, "indexes", of_view(json!({"columns": [{"name": "colour"}]})), invalid, vec!["odd", "colour"]),
        (3, "indexes", of_view(json!({"where": "colour > 1"})), invalid, vec!["odd", "colour"]),
        (3, "query", json!(bucket("avg(colour)")), invalid, vec!["spec.query", "colour"]),
        (4, "segmentBy", json!(["colour"]), invalid, vec!["colour"]),
        (4, "orderBy", json!([{"column": "colour"}]), invalid, vec!["colour"]),
        // methods that do not fit
        (0, "indexes", index(json!({"method": "Gin", "columns": [{"name": "value"}]})), invalid, vec!["odd", "gin"]),
        (
            0,
            "indexes",
            index(json!({"method": "Hash", "columns": [{"name": "device"}, {"name": "n"}]})),
            invalid,
            vec!["odd", "hash"],
        ),
        // predicates
        (0, "indexes", index(json!({"where": "value"})), invalid, vec!["odd", "boolean"]),
        (0, "indexes", index(json!({"where": "value > random()"})), invalid, vec!["odd", "IMMUTABLE"]),
        (0, "indexes", index(json!({"where": "true); DROP TABLE precious; SELECT (true"})), invalid, vec!["odd"]),
        (0, "indexes", index(json!({"where": "true) --"})), invalid, vec!["odd"]),
        (3, "indexes", of_view(json!({"where": "true); DROP TABLE precious; --"})), invalid, vec!["odd"]),
        (3, "indexes", of_view(json!({"where": "value"})), invalid, vec!["odd", "boolean"]),
        // queries
        (3, "query", json!(bucket("avg(value), random()")), invalid, vec!["spec.query"]),
        (3, "query", json!(bucket("sum(value + random())")), invalid, vec!["spec.query", "random"]),
        (3, "query", json!(bucket("max(clock_timestamp())")), invalid, vec!["spec.query", "clock_timestamp"]),
        (3, "query", json!(format!("{HOURLY}; DROP TABLE precious")), invalid, vec!["spec.query", "multiple commands"]),
        (
            3,
            "query",
            json!(format!("{HOURLY} --\n; DROP TABLE precious --")),
            invalid,
            vec!["spec.query", "multiple commands"],
        ),
        (3, "query", json!(format!("{HOURLY} /* ")), invalid, vec!["spec.query"]),
        (3, "query", json!(format!("{HOURLY} WITH DATA; DROP TABLE precious; --")), invalid, vec!["spec.query"]),
        (3, "query", json!("SELECT ts, value FROM metric"), invalid, vec![]),
        // things that are not there
        (0, "reorder", json!({"index": "nowhere"}), invalid, vec!["reorder", "nowhere"]),
        (0, "tablespaces", json!(["nowhere"]), invalid, vec!["tablespaces", "nowhere"]),
        (5, "integerNowFunction", json!("$schema.nowhere"), invalid, vec!["integer now function", "nowhere"]),
        (5, "integerNowFunction", json!("$schema.now_text"), invalid, vec!["integer now function", "now_text"]),
        (5, "integerNowFunction", json!("$schema.now_volatile"), invalid, vec!["integer now function", "now_volatile"]),
        (5, "integerNowFunction", json!("no_schema"), invalid, vec!["integerNowFunction", "no_schema"]),
        (0, "integerNowFunction", json!("$schema.now_8"), invalid, vec!["integerNowFunction", "not by integers"]),
        // measures
        (0, "chunkInterval", json!(1000), invalid, vec!["chunkInterval", "1000"]),
        (1, "compressAfter", json!(1000), invalid, vec!["compressAfter", "1000"]),
        (1, "mergeInterval", json!(1000), invalid, vec!["mergeInterval", "1000"]),
        (1, "mergeInterval", json!("1 month"), invalid, vec!["merge interval", "1 month"]),
        (2, "dropAfter", json!(1000), invalid, vec!["dropAfter", "1000"]),
        (3, "chunkInterval", json!(1000), invalid, vec!["chunkInterval", "1000"]),
        (5, "chunkInterval", json!("1 day"), invalid, vec!["chunkInterval", "1 day"]),
        (5, "chunkInterval", json!(0), invalid, vec!["chunkInterval", "0"]),
        (5, "chunkInterval", json!(-5), invalid, vec!["chunkInterval", "-5"]),
        (6, "dropAfter", json!("1 day"), invalid, vec!["dropAfter", "1 day"]),
        // names that PostgreSQL would cut
        (0, "chunkSkipping", json!([long]), invalid, vec!["chunkSkipping[0]", "63"]),
        (0, "tablespaces", json!([long]), invalid, vec!["tablespaces[0]", "63"]),
        (0, "reorder", json!({"index": long}), invalid, vec!["reorder.index", "63"]),
        (0, "indexes", index(json!({"name": long})), invalid, vec!["indexes[1].name", "63"]),
        (
            1,
            "sparseIndexes",
            json!([{"kind": "Bloom", "columns": [long]}]),
            invalid,
            vec!["sparseIndexes[0].columns[0]", "63"],
        ),
        // schedules
        (2, "schedule", json!({"timezone": "Mars/Phobos"}), invalid, vec!["Mars/Phobos"]),
    ];
    let mut wrong = Vec::new();
    for (of, field, value, reason, says) in cases {
        let mut mistaken = resources()?;
        let value: Value = serde_json::from_str(&here(&value.to_string()))?;
        mistaken[of]["spec"][field] = value.clone();
        let kind = match mistaken[of]["kind"].as_str() {
            Some("Hypertable") => Kind::Hypertable,
            Some("CompressionPolicy") => Kind::CompressionPolicy,
            Some("RetentionPolicy") => Kind::RetentionPolicy,
            _ => Kind::ContinuousAggregate,
        };
        let name = mistaken[of]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let outcome = db.attempt(mistaken).await.map_err(|e| format!("{field} {value}: {e}"))?;
        let found = match outcome.verdict(kind, &name) {
            Verdict::Rejected(rejection) => (rejection.reason, rejection.message.clone()),
            verdict => match outcome.failures.values().next() {
                Some(failure) if failure.class == Class::User => (failure.reason, failure.message.clone()),
                Some(failure) => (Reason::Retrying, format!("{failure:?}")),
                None => (Reason::InSync, format!("{verdict:?}")),
            },
        };
        if found.0 != reason || says.iter().any(|part| !found.1.contains(part)) {
            wrong.push(format!("{of} {field} {value}: {found:?}, not {reason:?} {says:?}"));
        }
        if !outcome.actions().is_empty() || db.server.is_native() && everything(&db).await? != before {
            wrong.push(format!("{of} {field} {value}: changed something: {:?}", outcome.actions()));
            db.converge(resources()?).await?;
            if everything(&db).await? != before {
                return Err(
                    format!("{wrong:#?}\nand it cannot be put back:\n{}\n{before}", everything(&db).await?).into()
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(everything(&db).await?, before);
    assert_eq!(db.converge(resources()?).await?.actions(), [""; 0]);
    Ok(())
}
