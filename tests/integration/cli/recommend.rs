//! `recommend` through the binary: what it says of a real database, and that it says nothing more once that is done.

use serde_json::Value;

use super::run;
use crate::support::{Result, timescaledb::TimescaleDb};

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
