//! `recommend` through the binary: what it says of a real database, and that it says nothing more once that is done.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{argument, example, run};
use crate::support::{Result, process::Folder, timescaledb::TimescaleDb};

/// Eight weeks of a row every ten minutes from each of ten devices, in chunks of six hours.
const READINGS: &str = "
    CREATE TABLE readings (ts timestamptz NOT NULL, device int NOT NULL, value float8);
    SELECT create_hypertable('readings', 'ts', chunk_time_interval => interval '6 hours', create_default_indexes => false);
    CREATE INDEX ON readings (device, ts DESC);
    INSERT INTO readings
    SELECT now() - n * interval '10 minutes', d, n FROM generate_series(0, 56 * 144 - 1) n, generate_series(1, 10) d;
    ANALYZE";

fn setting<'a>(report: &'a Value, table: &str, field: &str) -> &'a Value {
    let tables = report["tables"].as_array().unwrap();
    let table = tables.iter().find(|t| t["name"] == table).unwrap();
    table["settings"].as_array().unwrap().iter().find(|s| s["field"] == field).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn what_is_recommended_and_done_is_not_recommended_again() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let sql = database.connect().await?;
    sql.batch_execute(READINGS).await?;
    let url = database.url();
    let json = ["recommend", "--memory", "16GiB", "-o", "json"];
    let report: Value = serde_json::from_str(&run(&json, &url).await?.with_code(0).stdout)?;
    assert_eq!(report["memory"]["bytes"], 16_u64 << 30);
    let interval = setting(&report, "readings", "chunkInterval");
    assert_eq!((&interval["current"], &interval["recommended"]), (&"6 hours".into(), &"30 days".into()), "{report:#}");
    // What comes in is known: 1,440 rows a day, in heap and index.
    let ingest = &report["tables"][0]["ingest"];
    let rows = ingest["rowsPerDay"].as_f64().unwrap();
    assert!((rows / 1_440.0 - 1.0).abs() < 0.1, "{ingest}");
    assert_eq!(setting(&report, "readings", "segmentBy")["recommended"], serde_json::json!(["device"]), "{report:#}");

    let patch = run(&["recommend", "--memory", "16GiB", "-o", "patch"], &url).await?.with_code(0).stdout;
    assert!(patch.contains("chunkInterval: 30 days"), "{patch}");
    assert!(patch.contains("kind: CompressionPolicy"), "{patch}");
    assert!(!patch.contains("dropAfter"), "{patch}");

    let age = setting(&report, "readings", "compressAfter")["recommended"].as_str().unwrap().to_owned();
    sql.batch_execute(&format!(
        "SELECT set_chunk_time_interval('readings', interval '30 days');
         ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'device', timescaledb.compress_orderby = 'ts DESC');
         SELECT add_compression_policy('readings', interval '{age}', initial_start => now() + interval '1 day')"
    ))
    .await?;
    let again: Value = serde_json::from_str(&run(&json, &url).await?.with_code(0).stdout)?;
    for field in ["chunkInterval", "segmentBy", "orderBy", "compressAfter"] {
        assert_eq!(setting(&again, "readings", field)["recommended"], Value::Null, "{field}: {again:#}");
    }
    let text = run(&["recommend", "--memory", "16GiB"], &url).await?.with_code(0).stdout;
    assert!(text.contains("memory 16.0 GiB (as given)") && !text.contains("->"), "{text}");
    database.stop().await
}

#[tokio::test]
async fn it_says_what_is_wrong_with_what_it_is_given() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let url = database.url();
    let absent = run(&["recommend", "--table", "public.nosuch"], &url).await?;
    assert!(absent.with_code(1).stderr.contains("error: public.nosuch is no hypertable"));
    let size = run(&["recommend", "--memory", "16 apples"], &url).await?;
    assert!(size.with_code(1).stderr.contains("is no size"));
    let empty = run(&["recommend", "-o", "patch"], &url).await?;
    assert_eq!(empty.with_code(0).stdout, "");
    database.connect().await?.batch_execute("DROP EXTENSION timescaledb").await?;
    let without = run(&["recommend"], &url).await?;
    assert!(without.with_code(1).stderr.contains("CREATE EXTENSION timescaledb"));
    database.stop().await
}

#[tokio::test]
async fn a_role_that_may_only_observe_is_told_the_same() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let sql = database.connect().await?;
    sql.batch_execute(READINGS).await?;
    let role = format!("reader_{:016x}", fastrand::u64(..));
    database.run_script("role-observe.sql", &[("role", &role), ("schema", "public")]).await?;
    let report = async |url: &str| -> Result<String> {
        Ok(run(&["recommend", "--database-url", url, "--memory", "16GiB"], "").await?.with_code(0).stdout)
    };
    assert_eq!(report(&database.url_as(&role)).await?, report(&database.url()).await?);
    sql.batch_execute(&format!("REVOKE SELECT ON readings FROM {role}")).await?;
    let blind = report(&database.url_as(&role)).await?;
    assert!(blind.contains("30 days") && blind.contains("may not SELECT"), "{blind}");
    sql.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    database.stop().await
}

#[tokio::test]
async fn rows_that_change_are_compressed_when_they_no_longer_do() -> Result<()> {
    let database = TimescaleDb::start().await?;
    if !database.is_native() {
        // The WebAssembly does not count changes.
        return database.stop().await;
    }
    let sql = database.connect().await?;
    sql.batch_execute(
        "CREATE TABLE orders (ts timestamptz NOT NULL, customer int NOT NULL, state int);
         SELECT create_hypertable('orders', 'ts', chunk_time_interval => interval '1 day');
         INSERT INTO orders SELECT now() - n * interval '1 minute', n % 5, 0 FROM generate_series(0, 30 * 1440) n;",
    )
    .await?;
    // Every order is closed within one to four days.
    sql.batch_execute(
        "UPDATE orders SET state = 1 WHERE ts < now() - (extract(minute FROM ts)::int % 4 + 1) * interval '1 day'",
    )
    .await?;
    sql.batch_execute("ANALYZE orders").await?;
    let url = database.url();
    // A session tells of its changes a moment later.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = run(&["recommend", "--memory", "1GiB", "-o", "json"], &url).await?.with_code(0).stdout;
        let report: Value = serde_json::from_str(&report)?;
        let after = setting(&report, "orders", "compressAfter");
        if after["reason"].as_str().is_some_and(|reason| reason.contains("changes a row")) {
            assert_eq!(after["recommended"], "7 days", "the step after four: {after}");
            break;
        }
        assert!(Instant::now() < deadline, "{after}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(sql);
    database.stop().await
}

#[tokio::test]
async fn the_patch_for_a_factory_can_be_applied_and_leaves_nothing_to_recommend() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let sql = database.connect().await?;
    for file in ["ms5/schema.sql", "ms5/data.sql"] {
        sql.batch_execute(&std::fs::read_to_string(example(file))?).await?;
    }
    let (url, manifests) = (database.url(), example("ms5"));
    run(&["apply", "-f", argument(&manifests)?], &url).await?.with_code(0);
    sql.batch_execute("ANALYZE").await?;

    let patch = ["recommend", "--memory", "16GiB", "-f", argument(&manifests)?, "-o", "patch"];
    let printed = run(&patch, &url).await?.with_code(0).stdout;
    let patches: Vec<Value> = serde_saphyr::from_multiple(&printed)?;
    assert!(patches.iter().any(|patch| patch["metadata"]["name"] == "metric-hist"), "{printed}");
    let mut resources = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&manifests)?.collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.path().extension().is_some_and(|extension| extension == "yaml"));
    for file in files {
        resources.extend(serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(file.path())?)?);
    }
    for patch in patches {
        let same = |resource: &&mut Value| {
            resource["kind"] == patch["kind"] && resource["metadata"]["name"] == patch["metadata"]["name"]
        };
        match resources.iter_mut().find(same) {
            Some(resource) => {
                for (field, value) in patch["spec"].as_object().ok_or("a patch has no spec")? {
                    resource["spec"][field] = value.clone();
                }
            }
            None => resources.push(patch),
        }
    }
    let folder = Folder::new("patched")?;
    let file = folder.path().join("patched.json");
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": resources});
    std::fs::write(&file, list.to_string())?;
    run(&["apply", "-f", argument(&file)?], &url).await?.with_code(0);
    let again = run(&["recommend", "--memory", "16GiB", "-f", argument(&file)?, "-o", "patch"], &url).await?;
    assert_eq!(again.with_code(0).stdout, "");
    let forecast = run(&["forecast", "--until-size", "1TiB"], &url).await?.with_code(0).stdout;
    assert_eq!(forecast.lines().filter(|line| line.starts_with("factory_telemetry.")).count(), 15, "{forecast}");
    drop(sql);
    database.stop().await
}
