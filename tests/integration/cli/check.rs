//! `check`: through the real binary against a real TimescaleDB.

use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::{
    database::driver::{Database, aggregate, assert_says, hypertable},
    support::{Result, timescaledb::TimescaleDb},
};

/// What the WebAssembly server is, and no database should be.
const NO_WORKERS: &str = "scheduler-not-running,job-not-started,too-few-background-workers,too-few-worker-processes";

/// Runs the command against the database, as its operator unless the URL says otherwise.
async fn check(url: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
    command.args(["check", "--database-url", url]).args(arguments).stdin(Stdio::null());
    for variable in ["DATABASE_URL", "PGHOST", "PGSSLMODE", "NO_COLOR"] {
        command.env_remove(variable);
    }
    Ok(command.output().await?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The report, with nothing on standard error.
async fn report(url: &str, arguments: &[&str]) -> Result<Value> {
    let output = check(url, &[&["-o", "json"], arguments].concat()).await?;
    assert_eq!(text(&output.stderr), "");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Each finding as rule and object.
fn found(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let name = |finding: &Value| {
        let object = &finding["object"];
        let of = object["of"].as_str().map(|of| format!("{of}: ")).unwrap_or_default();
        // Ids of jobs differ from run to run.
        let name = if object["kind"] == "Job" { "job" } else { object["name"].as_str().unwrap_or_default() };
        format!(
            "{} {} {of}{name}",
            finding["severity"].as_str().unwrap_or_default(),
            finding["rule"].as_str().unwrap_or_default()
        )
    };
    findings.map(name).collect()
}

fn operator_url(server: &TimescaleDb) -> String {
    server.url_as(&server.operator())
}

/// The manifests of `examples/ms5`.
fn ms5() -> Result<Vec<Value>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join("ms5");
    let files =
        ["10-database.yaml", "20-hypertables.yaml", "30-compression.yaml", "40-retention.yaml", "50-aggregates.yaml"];
    let mut manifests = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(folder.join(file))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        manifests.extend(documents);
    }
    Ok(manifests)
}

#[tokio::test]
async fn in_ms5_as_the_operator_leaves_it_nothing_is_wrong() -> Result<()> {
    let db = Database::alone().await?;
    for file in ["schema.sql", "data.sql"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join("ms5").join(file);
        db.sql.batch_execute(&std::fs::read_to_string(path)?).await?;
    }
    db.converge(ms5()?).await?;
    let jobs = "FROM _timescaledb_config.bgw_job WHERE id >= 1000";
    if db.server.is_native() {
        // The scheduler runs each of them once, by and by.
        let left = format!(
            "SELECT count(*) = 0 {jobs} AND id NOT IN (SELECT job_id FROM _timescaledb_internal.bgw_job_stat WHERE total_successes > 0)"
        );
        db.until(&left).await?;
    } else {
        for job in db.rows(&format!("SELECT id {jobs} ORDER BY id")).await? {
            db.sql.batch_execute(&format!("CALL run_job({})", job["id"])).await?;
        }
    }
    db.sql.batch_execute("ANALYZE").await?;

    let skip = if db.server.is_native() { "extension-outdated" } else { NO_WORKERS };
    let report = report(&operator_url(&db.server), &["--skip", skip]).await?;
    assert_eq!(
        found(&report),
        [
            "info segment-by-too-fine energy_consumption",
            // Its data is thinner than the factory's.
            "info chunks-too-small fault_event",
            "info chunks-too-small metric_hist",
            "info chunks-too-small production_kpis",
            "info foreign-key-without-index production_kpis",
        ],
        "{report:#}"
    );
    let unchecked = report["unchecked"].as_array().ok_or("no list")?;
    let rules: Vec<_> = unchecked.iter().flat_map(|gap| gap["rules"].as_array()).flatten().collect();
    assert_eq!(rules, [&json!("index-unused")], "the server has counted for minutes only");
    Ok(())
}

/// A schema in which much is wrong.
const MISTAKES: &str = "
    CREATE TABLE readings (ts timestamptz NOT NULL, device int NOT NULL, site int NOT NULL, value float8);
    SELECT create_hypertable('readings', by_range('ts', interval '1 day'), create_default_indexes => false);
    INSERT INTO readings SELECT now() - n * interval '1 minute', n, 1, n FROM generate_series(1, 20000) n;
    CREATE INDEX readings_ts ON readings (ts);
    CREATE INDEX readings_ts_again ON readings (ts);
    CREATE INDEX readings_device ON readings (device);
    CREATE INDEX readings_device_ts ON readings (device, ts);
    CREATE INDEX readings_value ON readings (value);
    ANALYZE readings;
    ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'device, site');
    SELECT count(compress_chunk(c)) FROM show_chunks('readings', older_than => interval '5 days') c;
    SELECT alter_job(add_retention_policy('readings', interval '5 days', initial_start => now() + interval '1 day'), scheduled => false);
    SELECT alter_job(add_compression_policy('readings', interval '1 hour', initial_start => now() + interval '1 day'), scheduled => false);
    CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous, timescaledb.materialized_only) AS
        SELECT time_bucket('1 hour', ts) AS hour, avg(value) AS value FROM readings GROUP BY 1 WITH NO DATA;

    CREATE TABLE devices (device int PRIMARY KEY);
    CREATE TABLE kept (ts timestamptz NOT NULL, device int REFERENCES devices, value float8);
    SELECT create_hypertable('kept', by_range('ts', interval '1 day'));
    INSERT INTO kept (ts) SELECT now() - n * interval '1 hour' FROM generate_series(1, 100) n;

    CREATE TABLE events (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL, detail text);
    INSERT INTO events (created_at) SELECT now() - (20000 - n) * interval '1 minute' FROM generate_series(1, 20000) n;
    ANALYZE events;
";

#[tokio::test]
async fn each_mistake_is_found_with_its_evidence_and_a_fix() -> Result<()> {
    let db = Database::alone().await?;
    db.run(MISTAKES).await?;
    db.run_as_superuser("UPDATE pg_index SET indisvalid = false WHERE indexrelid = '$schema.readings_value'::regclass")
        .await?;
    let url = operator_url(&db.server);
    let arguments = ["--unused-after", "0 seconds", "--skip", NO_WORKERS, "--skip", "extension-outdated"];
    let report = report(&url, &arguments).await?;
    assert_eq!(
        found(&report),
        [
            "warning segment-by-too-fine readings",
            "warning aggregate-never-refreshed hourly",
            "warning aggregate-without-refresh hourly",
            "warning index-invalid readings: readings_value",
            "warning index-duplicate readings: readings_ts_again",
            "info no-compression kept",
            "info no-retention kept",
            "info job-paused readings: job",
            "info job-paused readings: job",
            "info index-redundant readings: readings_device",
            "info foreign-key-without-index kept",
            "info conversion-blocked events",
        ],
        "{report:#}"
    );
    let of = |rule: &str| report["findings"].as_array().into_iter().flatten().find(|f| f["rule"] == rule).cloned();
    let segments = of("segment-by-too-fine").ok_or("not found")?;
    assert_eq!(segments["evidence"]["rowsPerSegment"], 1);
    assert_says(
        segments["fix"]["resource"].as_str().unwrap_or_default(),
        &["kind: CompressionPolicy", "- site", "column: device"],
    );
    let key = of("conversion-blocked").ok_or("not found")?;
    assert_says(key["message"].as_str().unwrap_or_default(), &["events_pkey (id)", "make it (id, created_at)"]);

    // What is advised works.
    db.run(key["fix"]["sql"].as_str().ok_or("no statement")?).await?;
    db.run(of("index-duplicate").ok_or("not found")?["fix"]["sql"].as_str().ok_or("no statement")?).await?;
    db.converge([hypertable("events", json!({"timeColumn": "created_at", "migrateData": true}))]).await?;
    let after = found(&self::report(&url, &arguments).await?);
    assert!(
        !after.iter().any(|one| one.contains("conversion-blocked") || one.contains("index-duplicate")),
        "{after:?}"
    );
    Ok(())
}

#[tokio::test]
async fn policies_at_odds_and_failing_jobs_are_critical() -> Result<()> {
    let db = Database::alone().await?;
    db.run(
        "CREATE TABLE readings (ts timestamptz NOT NULL, value float8);
         SELECT create_hypertable('readings', by_range('ts', interval '1 day'));
         INSERT INTO readings SELECT now() - n * interval '1 hour' FROM generate_series(1, 100) n;
         SELECT add_retention_policy('readings', interval '10 days', initial_start => now() + interval '1 day');",
    )
    .await?;
    let query = "SELECT time_bucket('1 hour', ts) AS hour, avg(value) AS value FROM readings GROUP BY 1";
    let view = aggregate("hourly", query, json!({}));
    db.converge([hypertable("readings", json!({})), view]).await?;
    // The operator would refuse this one.
    db.run("SELECT add_continuous_aggregate_policy('hourly', interval '30 days', interval '1 hour', interval '1 hour', initial_start => now() + interval '1 day')").await?;
    let only = "retention-erases-history,job-gave-up";
    let url = operator_url(&db.server);
    assert_eq!(found(&report(&url, &["--only", only]).await?), ["critical retention-erases-history readings"]);

    db.run_as_superuser(
        "WITH job AS (
             UPDATE _timescaledb_config.bgw_job SET max_retries = 1, scheduled = false
             WHERE id >= 1000 AND proc_name = 'policy_retention' RETURNING id
         )
         INSERT INTO _timescaledb_internal.bgw_job_stat (job_id, last_start, last_finish, next_start, last_successful_finish,
             last_run_success, total_runs, total_duration, total_duration_failures, total_successes, total_failures,
             total_crashes, consecutive_failures, consecutive_crashes)
         SELECT id, now(), now(), now() + interval '1 hour', '-infinity', false, 1, '0', '0', 0, 1, 0, 1, 0 FROM job
         ON CONFLICT (job_id) DO UPDATE SET consecutive_failures = 1, total_runs = 1, total_failures = 1",
    )
    .await?;
    let output = check(&url, &["--only", only, "--fail-on", "critical"]).await?;
    assert_eq!(output.status.code(), Some(2));
    let stdout = text(&output.stdout);
    assert_says(
        &stdout,
        &[
            "CRITICAL",
            "job-gave-up",
            "fix: ",
            "alter_job(",
            ", scheduled => true)",
            "\n1 critical, 0 warnings, 0 info: ",
        ],
    );
    assert!(!stdout.contains('\u{1b}'), "no colours where there is no terminal");
    assert_eq!(check(&url, &["--only", only, "--fail-on", "never"]).await?.status.code(), Some(0));
    assert_eq!(check(&url, &["--only", "license-apache"]).await?.status.code(), Some(0));

    let output = check(&url, &["--only", only, "-o", "sarif"]).await?;
    assert_eq!(output.status.code(), Some(2));
    let log: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(log["version"], "2.1.0");
    let result = &log["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&json!("job-gave-up"), &json!("error")));
    Ok(())
}

#[tokio::test]
async fn a_role_that_only_reads_is_enough_and_is_told_what_it_cannot_see() -> Result<()> {
    let db = Database::alone().await?;
    db.run(MISTAKES).await?;
    let role = format!("reader_{:016x}", fastrand::u64(..));
    let password = db.server.password_of_roles().replace('\'', "''");
    db.run_as_superuser(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT USAGE ON SCHEMA $schema TO {role};
         GRANT SELECT ON $schema.kept, $schema.hourly TO {role}"
    ))
    .await?;
    let url = db.server.url_as(&role);
    let report = report(&url, &["--skip", NO_WORKERS, "--skip", "extension-outdated"]).await?;
    let found = found(&report);
    assert!(found.contains(&"info no-retention kept".to_owned()), "{found:?}");
    assert!(
        found.contains(&"warning segment-by-too-fine readings".to_owned()),
        "what compression did all may see: {found:?}"
    );
    assert!(found.iter().any(|one| one.starts_with("info role-not-owner reader_")), "{found:?}");
    let unchecked = report["unchecked"].to_string();
    assert_says(&unchecked, &["no SELECT on", ".readings", ".events", "conversion-blocked"]);
    assert!(!unchecked.contains(".kept"), "{unchecked}");

    // The operator's role lacks nothing, asked by whoever.
    let named =
        self::report(&url, &["--role", &db.server.operator(), "--only", "role-not-owner,role-lacks-privilege"]).await?;
    assert_eq!(self::found(&named), Vec::<String>::new(), "{named:#}");
    db.run_as_superuser(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await
}

#[tokio::test]
async fn a_database_without_timescaledb_is_told_so_and_an_unreachable_one_is_an_error() -> Result<()> {
    let db = Database::alone().await?;
    db.run_as_superuser("DROP EXTENSION timescaledb CASCADE").await?;
    let output = check(&operator_url(&db.server), &[]).await?;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert_says(
        &text(&output.stdout),
        &[
            "extension-missing",
            "CREATE EXTENSION timescaledb;",
            "not checked: 39 rules",
            "1 critical, 0 warnings, 0 info: ",
        ],
    );
    let output = check("postgresql://nobody@127.0.0.1:1/nothing", &[]).await?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    assert_says(&text(&output.stderr), &["error: cannot connect to 127.0.0.1:1 as nobody"]);
    let output = check(&operator_url(&db.server), &["--only", "no-such-rule"]).await?;
    assert!(!output.status.success());
    assert_says(&text(&output.stderr), &["there is no rule no-such-rule; there are extension-missing, "]);
    Ok(())
}

#[tokio::test]
async fn a_table_that_somebody_holds_locked_is_left_out_and_the_others_are_checked() -> Result<()> {
    let db = Database::alone().await?;
    if !db.server.is_native() {
        return Ok(()); // one backend, which would wait for itself
    }
    db.run(MISTAKES).await?;
    db.run("CREATE INDEX readings_high ON readings (device) WHERE value > 100").await?;
    let holder = db.server.connect().await?;
    holder.batch_execute(&db.here("BEGIN; LOCK TABLE $schema.readings IN ACCESS EXCLUSIVE MODE")).await?;
    let report = report(&operator_url(&db.server), &["--unused-after", "0 seconds"]).await?;
    let found = found(&report);
    for expected in ["warning segment-by-too-fine readings", "info no-retention kept", "info conversion-blocked events"]
    {
        assert!(found.contains(&expected.to_owned()), "{expected} is not in {found:?}");
    }
    assert_says(&report["unchecked"].to_string(), &["index-unused", "lock"]);
    Ok(())
}
