//! Indexes of hypertables: made with them or later, chunk by chunk, and never half.

use std::time::Instant;

use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::status::Reason,
    desired::Kind,
    error::Class,
    plan::step::{Action, Verdict},
};

use super::driver::{DEADLINE, Database, assert_rejected, assert_says, compression, hypertable};
use crate::support::Result;

const METRIC: &str = "CREATE TABLE metric (ts timestamptz NOT NULL, device int NOT NULL, name text, value float8)";
/// Three rows, each in a chunk of its own.
const ROWS: &str = "INSERT INTO metric SELECT timestamptz '2026-01-01' + n * interval '1 day', n, n::text, n FROM generate_series(0, 2) n";

/// One index of each kind, with the server's words for it behind the name of the table.
fn kinds() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"name": "by_device", "columns": [{"name": "device"}, {"name": "ts", "order": "Desc"}]}),
            "btree (device, ts DESC)",
        ),
        (
            json!({"name": "by_value", "columns": [{"name": "value", "nulls": "First"}, {"name": "name", "order": "Desc", "nulls": "Last"}]}),
            "btree (value NULLS FIRST, name DESC NULLS LAST)",
        ),
        (
            json!({"name": "covering", "columns": [{"name": "ts"}], "include": ["value", "name"]}),
            "btree (ts) INCLUDE (value, name)",
        ),
        (
            json!({"name": "partial", "columns": [{"name": "ts"}], "where": "value > 0 AND name in ('a', 'b') -- the good ones"}),
            "btree (ts) WHERE ((value > (0)::double precision) AND (name = ANY (ARRAY['a'::text, 'b'::text])))",
        ),
    ]
}

fn with_indexes(indexes: &[Value]) -> Value {
    hypertable("metric", json!({"chunkInterval": "1 day", "indexes": indexes}))
}

/// Chunks, and those of them on which a valid index like the hypertable's own is.
async fn spread(db: &Database, index: &str) -> Result<Value> {
    let index = index.replace('\'', "''").replace('"', "\"\"");
    // TimescaleDB folds the constants of a chunk's predicate, so that it prints otherwise.
    let keys = |index: &str| format!("split_part(split_part(pg_get_indexdef({index}), ' USING ', 2), ' WHERE ', 1)");
    let (root, chunk) = (keys("root.indexrelid"), keys("i.indexrelid"));
    db.row(&format!(
        "SELECT split_part(pg_get_indexdef(root.indexrelid), ' USING ', 2) AS index, root.indisvalid AS valid,
            (SELECT count(*) FROM show_chunks('metric')) AS chunks,
            (WITH mine AS MATERIALIZED (SELECT i.* FROM pg_inherits h JOIN pg_index i ON i.indrelid = h.inhrelid WHERE h.inhparent = root.indrelid)
                SELECT count(*) FROM mine i WHERE i.indisvalid AND {chunk} = {root} AND (i.indpred IS NULL) = (root.indpred IS NULL)) AS indexed
         FROM pg_index root WHERE root.indexrelid = '\"{index}\"'::regclass"
    ))
    .await
}

async fn index_names(db: &Database) -> Result<Vec<String>> {
    let names = "SELECT indexname FROM pg_indexes WHERE schemaname = '$schema' AND tablename = 'metric' ORDER BY 1";
    Ok(db.rows(names).await?.iter().map(|row| row["indexname"].as_str().unwrap_or_default().to_owned()).collect())
}

#[tokio::test]
async fn indexes_of_every_kind_are_made_with_the_hypertable() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run(ROWS).await?;
    let (indexes, definitions): (Vec<_>, Vec<_>) = kinds().into_iter().unzip();
    let mut resource = with_indexes(&indexes);
    resource["spec"]["migrateData"] = true.into();
    assert_eq!(db.converge([resource.clone()]).await?.actions(), ["create_hypertable"]);
    for (index, definition) in indexes.iter().zip(definitions) {
        let found = spread(&db, index["name"].as_str().unwrap_or_default()).await?;
        assert_eq!(found, json!({"index": definition, "valid": true, "chunks": 3, "indexed": 3}));
    }
    assert_eq!(index_names(&db).await?, ["by_device", "by_value", "covering", "partial"], "and no other");
    assert_eq!(db.converge([resource]).await?.actions(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn without_indexes_timescaledb_makes_its_own() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge([with_indexes(&[])]).await?;
    assert_eq!(index_names(&db).await?, ["metric_ts_idx"]);
    Ok(())
}

#[tokio::test]
async fn indexes_of_every_kind_are_built_later_on_every_chunk() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.converge([with_indexes(&[]), compression("metric", json!({"paused": true}))]).await?;
    db.run(ROWS).await?;
    db.run("SELECT compress_chunk(c) FROM show_chunks('metric', older_than => timestamptz '2026-01-02') c").await?;

    let (indexes, definitions): (Vec<_>, Vec<_>) = kinds().into_iter().unzip();
    let outcome = db.converge([with_indexes(&indexes)]).await?;
    assert_eq!(outcome.actions(), ["build_index"; 4]);
    assert!(outcome.steps.iter().all(|step| step.long), "an index may take hours");
    db.run("INSERT INTO metric VALUES ('2026-02-01', 1, 'a', 1)").await?; // a chunk that comes later has them too
    for (index, definition) in indexes.iter().zip(definitions) {
        let found = spread(&db, index["name"].as_str().unwrap_or_default()).await?;
        assert_eq!(found, json!({"index": definition, "valid": true, "chunks": 4, "indexed": 4}));
    }
    assert_eq!(db.converge([with_indexes(&indexes)]).await?.actions(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_predicate_written_otherwise_is_the_same_index() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let index =
        |predicate: &str| with_indexes(&[json!({"name": "partial", "columns": [{"name": "ts"}], "where": predicate})]);
    db.converge([index("value > 0 AND name = 'a'")]).await?;
    for same in [
        "value>0 and  name='a'",
        "(value > 0) AND ((name = 'a'))",
        "value > 0 /* so */ AND\nname = 'a' -- it is",
        "VALUE > 0 AND \"name\" = 'a'::text",
    ] {
        assert_eq!(db.converge([index(same)]).await?.actions(), [""; 0], "{same}");
    }
    for other in ["value > 1 AND name = 'a'", "name = 'a' AND value > 0", "value > 0"] {
        let outcome = db.converge([index(other)]).await?;
        assert_eq!(outcome.actions(), ["build_index", "place_index"], "{other}");
    }
    Ok(())
}

#[tokio::test]
async fn an_existing_index_that_differs_is_named_and_left_alone() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run("SELECT create_hypertable('metric', 'ts')").await?;
    let cases = [
        ("(device)", "btree (device)"),
        ("(ts DESC)", "btree (ts DESC)"),
        ("(ts, device)", "btree (ts, device)"),
        ("(ts) INCLUDE (value)", "btree (ts) INCLUDE (value)"),
        ("(ts) WHERE value > 0", "btree (ts) WHERE value > 0::double precision"),
        ("USING brin (ts)", "brin (ts)"),
        ("((lower(name)))", "btree (lower(name))"),
        ("(ts NULLS FIRST)", "btree (ts NULLS FIRST)"),
    ];
    let wanted = with_indexes(&[json!({"name": "odd", "columns": [{"name": "ts"}]})]);
    for (definition, says) in cases {
        db.run(&format!("CREATE INDEX odd ON metric {definition}")).await?;
        let outcome = db.attempt([wanted.clone()]).await?;
        assert!(
            !outcome
                .steps
                .iter()
                .any(|step| matches!(step.action, Action::BuildIndex { .. } | Action::DropIndex { .. }))
        );
        let rejection = outcome.rejection(Kind::Hypertable, "metric");
        assert_rejected(
            rejection,
            Reason::InvalidSpec,
            &["index odd", says, "the resource says btree (ts);", "DROP INDEX"],
        );
        db.run("DROP INDEX odd").await?;
    }
    db.run("CREATE UNIQUE INDEX odd ON metric (ts)").await?;
    assert_eq!(
        db.converge([wanted]).await?.verdict(Kind::Hypertable, "metric"),
        &Verdict::InSync,
        "a unique one serves as well"
    );
    Ok(())
}

#[tokio::test]
async fn a_predicate_that_is_not_one_expression_is_refused_before_anything_happens() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run("CREATE TABLE precious (n int)").await?;
    let cases = [
        ("true); DROP TABLE precious; SELECT (true", ""),
        ("true; DROP TABLE precious", ""),
        ("value", "boolean"),
        ("value > (SELECT 1)", "subquer"),
        ("colour = 'red'", "colour"),
        ("value > random()", "IMMUTABLE"),
        ("value > 0 /*", ""),
        ("", "empty"),
        ("value > 0 AND 'unfinished", ""),
    ];
    // Once as part of a conversion, once on a hypertable that is there.
    for on_hypertable in [false, true] {
        if on_hypertable {
            db.run("SELECT create_hypertable('metric', 'ts', chunk_time_interval => interval '1 day')").await?;
        }
        for (predicate, says) in cases {
            let resource = with_indexes(&[json!({"name": "odd", "columns": [{"name": "ts"}], "where": predicate})]);
            let outcome = db.attempt([resource]).await?;
            assert_eq!(outcome.actions(), [""; 0], "{predicate}");
            let message = match outcome.verdict(Kind::Hypertable, "metric") {
                Verdict::Rejected(rejection) => rejection.message.clone(),
                _ => {
                    let failure = outcome.failure(Kind::Hypertable, "metric");
                    assert_eq!(failure.class, Class::User, "{failure}");
                    failure.message.clone()
                }
            };
            assert_says(&message, &[says]);
            let left = "SELECT (SELECT count(*) FROM precious) AS precious, (SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = '$schema') AS hypertables,
                to_regclass('odd') AS odd";
            let expected = json!({"precious": 0, "hypertables": i32::from(on_hypertable), "odd": null});
            assert_eq!(db.row(left).await?, expected, "{predicate}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_rest_of_an_interrupted_build_is_dropped_and_built_anew() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    let resource = || with_indexes(&[json!({"name": "by_device", "columns": [{"name": "device"}]})]);
    db.converge([resource()]).await?;
    db.run(ROWS).await?;
    // What TimescaleDB leaves of a build chunk by chunk that was cut off.
    db.run(&db.as_superuser("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_device'::regclass")).await?;
    assert_eq!(spread(&db, "by_device").await?["valid"], false);
    assert_eq!(db.converge([resource()]).await?.actions(), ["drop_index", "build_index"]);
    let found = spread(&db, "by_device").await?;
    assert_eq!(found, json!({"index": "btree (device)", "valid": true, "chunks": 3, "indexed": 3}));
    Ok(())
}

#[tokio::test]
async fn a_build_that_runs_into_a_locked_chunk_ends_whole_when_the_lock_is_gone() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // nothing else runs while a transaction of the WebAssembly server is open
    }
    db.run(METRIC).await?;
    db.converge([with_indexes(&[])]).await?;
    db.run(ROWS).await?;
    let resource = || with_indexes(&[json!({"name": "by_device", "columns": [{"name": "device"}]})]);
    let newest: String = db.one("SELECT max(c::text) FROM show_chunks('metric') c").await?;
    let other = db.server.connect().await?;
    other.batch_execute(&format!("BEGIN; LOCK TABLE {newest} IN ROW EXCLUSIVE MODE")).await?;
    let outcome = db.attempt([resource()]).await?;
    let failure = outcome.failure(Kind::Hypertable, "metric");
    assert_eq!((failure.class, failure.reason), (Class::Transient, Reason::LockTimeout), "{failure}");
    assert_eq!(spread(&db, "by_device").await?["valid"], false, "the lock came too late to show anything");
    other.batch_execute("ROLLBACK").await?;
    assert_eq!(db.converge([resource()]).await?.actions(), ["drop_index", "build_index"]);
    assert_eq!(
        spread(&db, "by_device").await?,
        json!({"index": "btree (device)", "valid": true, "chunks": 3, "indexed": 3})
    );
    Ok(())
}

#[tokio::test]
async fn writes_go_on_while_an_index_is_built() -> Result<()> {
    let db = Database::shared().await?;
    if !db.server.is_native() {
        return Ok(()); // one backend does one thing at a time
    }
    db.run(METRIC).await?;
    db.converge([with_indexes(&[])]).await?;
    db.run("INSERT INTO metric SELECT timestamptz '2026-01-01' + n * interval '1 minute', n, n, n FROM generate_series(0, 400000) n").await?;
    let writer = db.server.connect().await?;
    writer.batch_execute(&db.here("SET search_path = $schema, public; SET lock_timeout = '1s'")).await?;
    let (building, written) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let write = async {
        // The build is under way when the index is there and not valid yet.
        let under_way = db.here("SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.query LIKE 'CREATE INDEX \"slow\"%$schema%' AND l.granted AND l.mode = 'ShareLock')");
        let deadline = Instant::now() + DEADLINE;
        let mut rows = 0;
        loop {
            let row = writer.query_one(&under_way, &[]).await?;
            let busy: bool = row.get(0);
            if busy {
                building.notify_one();
                // A chunk of its own, so that no lock on another one is waited for.
                writer.batch_execute("INSERT INTO metric VALUES ('2036-01-01', 1, 'x', 1)").await?;
                rows += 1;
            }
            if rows > 0 && !busy || Instant::now() > deadline {
                return Ok::<i32, crate::support::Error>(rows);
            }
            tokio::task::yield_now().await;
        }
    };
    let build = async {
        let resource = with_indexes(&[json!({"name": "slow", "columns": [{"name": "name"}, {"name": "device"}]})]);
        let outcome = db.converge([resource]).await;
        written.notify_one();
        outcome
    };
    let (rows, outcome) = tokio::join!(write, build);
    assert_eq!(outcome?.actions(), ["build_index"]);
    assert!(rows? > 0, "no row was written while the index was built");
    Ok(())
}

#[tokio::test]
async fn a_predicate_may_call_functions_of_the_schema_of_its_table() -> Result<()> {
    let db = Database::shared().await?;
    db.run(METRIC).await?;
    db.run("CREATE FUNCTION plausible(value float8) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT value > 0'").await?;
    // The one before is not listed any more.
    let cases = [
        ("plain", "plausible(value)", vec!["build_index"]),
        ("qualified", "$schema.plausible(value)", vec!["build_index", "drop_index"]),
    ];
    db.converge([with_indexes(&[])]).await?;
    for (name, predicate, actions) in cases {
        let index = |predicate: &str| {
            with_indexes(&[json!({"name": name, "columns": [{"name": "device"}], "where": db.here(predicate)})])
        };
        assert_eq!(db.converge([index(predicate)]).await?.actions(), actions);
        // However it is written, it is what the catalog says.
        for predicate in ["plausible(value)", "$schema.plausible(value)"] {
            assert_eq!(db.converge([index(predicate)]).await?.actions(), [""; 0]);
        }
    }
    Ok(())
}
