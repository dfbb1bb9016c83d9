//! `forecast` through the binary, over the chunks of a real database.

use serde_json::Value;

use super::run;
use crate::support::{Result, process::Folder, timescaledb::TimescaleDb};

/// Sixty days of 1,440 rows, in chunks of a day; the older half compressed, as its policy says.
const READINGS: &str = "
    CREATE TABLE readings (ts timestamptz NOT NULL, device int NOT NULL, value float8);
    SELECT create_hypertable('readings', 'ts', chunk_time_interval => interval '1 day', create_default_indexes => false);
    INSERT INTO readings
    SELECT now() - n * interval '10 minutes', d, n % 17 FROM generate_series(0, 60 * 144 - 1) n, generate_series(1, 10) d;
    ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'device');
    SELECT count(compress_chunk(c)) FROM show_chunks('readings', older_than => interval '30 days') c;
    SELECT add_compression_policy('readings', interval '30 days', initial_start => now() + interval '1 day');";

async fn json(arguments: &[&str], url: &str) -> Result<Value> {
    Ok(serde_json::from_str(&run(arguments, url).await?.with_code(0).stdout)?)
}

/// The size forecast for the end.
fn last(report: &Value) -> f64 {
    report["total"]["forecast"].as_array().unwrap().last().unwrap()["bytes"].as_f64().unwrap()
}

#[tokio::test]
async fn storage_goes_on_as_it_went_and_as_the_policies_say() -> Result<()> {
    let database = TimescaleDb::start().await?;
    database.connect().await?.batch_execute(READINGS).await?;
    let url = database.url();
    let forecast = async |more: &[&str]| {
        let mut arguments = vec!["forecast", "-o", "json"];
        arguments.extend(more);
        json(&arguments, &url).await
    };
    let report = forecast(&[]).await?;
    let table = &report["tables"][0];
    let exact: i64 =
        sizes(&database, "SELECT sum(pg_total_relation_size(c))::bigint FROM show_chunks('readings') c").await?;
    let compressed: i64 = sizes(
        &database,
        "SELECT sum(after_compression_total_bytes)::bigint FROM hypertable_compression_stats('readings')",
    )
    .await?;
    let size = table["bytes"].as_i64().unwrap();
    assert!(size > exact && size <= exact + compressed, "{exact} and {compressed}: {size}");
    let ratio = table["compressionRatio"].as_f64().unwrap();
    assert!(ratio > 1.0, "{ratio}");
    assert_eq!(table["compressAfter"], "30 days");
    let a_day = table["ingest"]["bytesPerDay"].as_f64().unwrap();
    // A compressed chunk for each day that comes.
    let grown = last(&report) - report["total"]["bytes"].as_f64().unwrap();
    assert!((grown / (180.0 * a_day / ratio) - 1.0).abs() < 0.1, "{grown} for {a_day} a day and {ratio}");
    assert!(table["backTest"]["mapePercent"].as_f64().unwrap() < 5.0, "{table:#}");

    let kept = forecast(&["--set", "readings.dropAfter=10d", "--horizon", "90d"]).await?;
    let plateau = kept["tables"][0]["forecast"].as_array().unwrap().last().unwrap()["bytes"].as_f64().unwrap();
    assert!(plateau >= 9.9 * a_day && plateau <= 11.1 * a_day, "{plateau} at {a_day} a day");
    assert_eq!(kept["assumptions"], serde_json::json!(["readings.dropAfter=10 days"]));

    let total = report["total"]["bytes"].as_i64().unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let size = total + (a_day * 40.0) as i64;
    let raw = forecast(&["--set", "*.compressAfter=none", "--until-size", &size.to_string()]).await?;
    let days = raw["until"]["days"].as_f64().unwrap();
    assert!((days - 40.0).abs() < 3.0, "{days}");

    let folder = Folder::new("plot")?;
    let file = folder.path().join("plot.svg");
    let ran = run(&["forecast", "--until-size", "1TiB", "--plot", &file.display().to_string()], &url).await?;
    let text = ran.with_code(0).stdout;
    assert!(text.contains("1.00 TiB is not reached within ten years"), "{text}");
    assert!(text.lines().next().is_some_and(|header| header.starts_with("TABLE ")), "{text}");
    assert!(std::fs::read_to_string(&file)?.starts_with("<svg"));
    database.stop().await
}

#[tokio::test]
async fn what_cannot_be_forecast_is_said() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let sql = database.connect().await?;
    sql.batch_execute(
        "CREATE TABLE counters (n bigint NOT NULL);
         SELECT create_hypertable('counters', 'n', chunk_time_interval => 10);
         INSERT INTO counters SELECT generate_series(0, 99);
         CREATE TABLE millis (at bigint NOT NULL);
         SELECT create_hypertable('millis', 'at', chunk_time_interval => 86400000);
         INSERT INTO millis SELECT (extract(epoch FROM now()) * 1000)::bigint - n * 3600000::bigint FROM generate_series(0, 999) n;
         CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT (extract(epoch FROM now()) * 1000)::bigint $$;
         SELECT set_integer_now_func('millis', 'now_ms')",
    )
    .await?;
    let url = database.url();
    let report = json(&["forecast", "-o", "json"], &url).await?;
    let tables = report["tables"].as_array().unwrap();
    assert!(tables[0]["notes"][0].as_str().unwrap().contains("what a unit of it is"), "{:#}", tables[0]);
    assert!(
        tables[1]["ingest"]["bytesPerDay"].as_f64().unwrap() > 0.0,
        "a clock in milliseconds: {:#}",
        tables[1]["notes"]
    );
    let unknown = run(&["forecast", "--set", "nosuch.dropAfter=1d"], &url).await?;
    assert!(unknown.with_code(1).stderr.contains("is called nosuch"));
    let field = run(&["forecast", "--set", "millis.size=1d"], &url).await?;
    assert!(field.with_code(1).stderr.contains("no field that can be set"));
    database.stop().await
}

async fn sizes(database: &TimescaleDb, query: &str) -> Result<i64> {
    Ok(database.connect().await?.query_one(query, &[]).await?.try_get(0)?)
}
