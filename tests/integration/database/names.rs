//! Names: whatever PostgreSQL takes for one works in every position, and is never read as SQL.

use serde_json::{Value, json};
use timescaledb_policy_operator::plan::step::Verdict;

use super::driver::{Database, aggregate, compression, hypertable, retention};
use crate::support::Result;

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The base name, made longer with the suffix without going beyond what PostgreSQL keeps.
fn cut(name: &str, suffix: &str) -> String {
    let mut base = name.to_owned();
    while base.len() + suffix.len() > 63 {
        base.pop();
    }
    base + suffix
}

#[tokio::test]
async fn any_name_works_in_every_position() -> Result<()> {
    let db = Database::shared().await?;
    let names = [
        "it's",
        "say \"so\"",
        "\"",
        "a.b",
        "Ünïcode — 時間",
        "🕰️",
        "select",
        "UPPER lower",
        " leading and trailing ",
        "back\\slash",
        "line\nbreak",
        "tab\tbed",
        "$$",
        "$1",
        "--",
        "/*",
        "'; DROP TABLE precious; --",
        "\"; DROP TABLE precious; --",
        "%I %s {}",
        "a,b",
        "(a)",
        "E'x'",
        "pg_catalog",
        &"n".repeat(63),
        &"é".repeat(31),
        &"時".repeat(21),
    ];
    db.run("CREATE TABLE precious (n int)").await?;
    for (i, name) in names.iter().enumerate() {
        // The position tells the schemas of other tests apart. A schema must not begin like the system's own.
        let schema = cut(name, &format!(" {i} {}", &db.schema[5..13]));
        let schema = if schema.starts_with("pg_") { schema.replacen("pg_", "p_", 1) } else { schema };
        let (table, view, index) = (cut(name, "_t"), cut(name, "_v"), cut(name, "_i"));
        let (time, device, value) = (cut(name, "_ts"), cut(name, "_d"), cut(name, "_x"));
        let [s, t, ts, d, x] = [&schema, &table, &time, &device, &value].map(|name| quoted(name));
        db.run(&format!(
            "CREATE SCHEMA {s}; CREATE TABLE {s}.{t} ({ts} timestamptz NOT NULL, {d} int NOT NULL, {x} float8);
             INSERT INTO {s}.{t} SELECT timestamptz '2026-01-01' + n * interval '1 day', n, n FROM generate_series(0, 4) n"
        ))
        .await?;
        let query =
            format!("SELECT time_bucket('1 day', {ts}) AS {ts}, {d}, avg({x}) AS {x} FROM {s}.{t} GROUP BY 1, 2");
        let place = |mut resource: Value| {
            resource["spec"]["schema"] = schema.clone().into();
            resource
        };
        let resources = |chunk: &str, partitions: i32, segment: &str, order: &str| {
            vec![
                place(hypertable(
                    &table,
                    json!({
                        "timeColumn": time, "chunkInterval": chunk, "migrateData": true,
                        "spacePartitions": [{"column": device, "partitions": partitions}],
                        "indexes": [{"name": index, "columns": [{"name": device}, {"name": time}], "include": [value], "where": format!("{x} > 0")}]
                    }),
                )),
                compression(
                    &table,
                    json!({"compressAfter": "100 years", "segmentBy": [segment], "orderBy": [{"column": order}]}),
                ),
                retention(&table, json!({"dropAfter": "100 years"})),
                place(aggregate(
                    &view,
                    &query,
                    json!({"realTime": true, "refreshPolicy": {"startOffset": "10 days", "endOffset": "1 day", "schedule": {"interval": "1 hour"}}}),
                )),
            ]
        };
        let outcome = db.converge(resources("1 day", 2, &device, &value)).await?;
        let mut actions = outcome.actions();
        actions.sort_unstable();
        assert_eq!(
            actions,
            ["add_policy", "add_policy", "add_policy", "create_aggregate", "create_hypertable", "set_compression"],
            "{name:?}"
        );
        // Everything is found again by its name, and changed in place.
        let outcome = db.converge(resources("2 days", 3, &value, &device)).await?;
        assert_eq!(outcome.actions(), ["set_chunk_interval", "set_partitions", "set_compression"], "{name:?}");
        db.run(&format!("DROP INDEX {s}.{}", quoted(&index))).await?;
        assert_eq!(db.converge(resources("2 days", 3, &value, &device)).await?.actions(), ["build_index"], "{name:?}");
        assert!(
            outcome.plan.verdicts.values().all(|verdict| *verdict == Verdict::InSync),
            "{name:?}: {:?}",
            outcome.plan.verdicts
        );
        let found = db.session.observe(&[]).await?;
        let relation = found.hypertables.keys().find(|relation| relation.schema.as_str() == schema);
        assert_eq!(relation.map(|relation| relation.name.as_str()), Some(table.as_str()));
        assert_eq!(
            db.session
                .statistics(&found)
                .await?
                .tables
                .iter()
                .filter(|(relation, _)| relation.schema.as_str() == schema)
                .count(),
            2,
            "the table and the aggregate"
        );
        db.leave(&s);
    }
    assert_eq!(db.one::<i64>("SELECT count(*) FROM precious").await?, 0);
    Ok(())
}

#[tokio::test]
async fn names_that_look_alike_are_told_apart() -> Result<()> {
    let db = Database::shared().await?;
    db.run(
        "CREATE TABLE metric (ts timestamptz NOT NULL); CREATE TABLE \"Metric\" (ts timestamptz NOT NULL); CREATE TABLE \"metric \" (ts timestamptz NOT NULL);
         CREATE TABLE \"$schema.metric\" (ts timestamptz NOT NULL)",
    )
    .await?;
    let dotted = db.here("$schema.metric");
    for (i, name) in ["metric", "Metric", "metric ", &dotted].into_iter().enumerate() {
        db.converge([hypertable(name, json!({"chunkInterval": format!("{} hours", i + 1)}))]).await?;
        let hypertables =
            "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = '$schema'";
        assert_eq!(db.one::<i64>(hypertables).await?, i64::try_from(i)? + 1);
    }
    let found = "SELECT hypertable_name, time_interval::text FROM timescaledb_information.dimensions WHERE hypertable_schema = '$schema' ORDER BY time_interval";
    let found: Vec<_> = db.rows(found).await?.iter().map(|row| row["hypertable_name"].clone()).collect();
    assert_eq!(found, [json!("metric"), json!("Metric"), json!("metric "), json!(dotted)]);
    Ok(())
}
