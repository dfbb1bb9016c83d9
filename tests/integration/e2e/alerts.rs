//! Each thing that alerts are about, broken for real: the resource says so, a metric shows it, and its alert fires,
//! alone. promtool stands in for a Prometheus that has seen for a day what was scraped once.

use super::{
    database::Database,
    eventually,
    jobs::{job, statistics},
    manifests,
    operator::Metrics,
    relay::Relay,
    stage::{KINDS, Stage, condition},
};
use crate::support::{Result, promtool};

/// Of a scrape: the value of the one series of this name (without the prefix) with these labels.
type Value<'a> = &'a dyn Fn(&str, &str) -> Option<f64>;

/// A database `plant` whose statistics are read every second, in a namespace of the operator that most tests share.
struct Scene {
    stage: Stage,
    database: Database,
}

impl Scene {
    /// Everything is well: all resources are Ready.
    async fn start(namespace: &str, tables: &str, resources: &[String]) -> Result<Self> {
        let scene = Self { stage: Stage::shared(namespace).await?, database: Database::start().await? };
        scene.database.run(tables).await?;
        let (_, port, _) = scene.database.address()?;
        scene.manage(port, resources).await?;
        Ok(scene)
    }

    async fn manage(&self, port: u16, resources: &[String]) -> Result<()> {
        self.stage.secret_named("plant", &self.database, port).await?;
        let plant = manifests::database("plant", "statisticsInterval: 1s");
        self.stage.apply(&[&[plant], resources].concat()).await?;
        self.stage.ready(&format!("--all {}", KINDS.join(","))).await
    }

    /// See [`Value`].
    fn value(&self, metrics: &Metrics, name: &str, labels: &str) -> Option<f64> {
        let begin = format!(r#"timescaledb_{name}{{namespace="{}",database="plant""#, self.stage.namespace());
        metrics
            .samples()
            .find(|(series, _)| series.starts_with(&begin) && series.contains(labels))
            .map(|(_, value)| value)
    }

    /// Waits until a scrape shows this of the database, and looks whether just these alerts fire when it stays so.
    async fn fire(&self, what: &str, so: impl Fn(Value<'_>) -> bool, alerts: &[(&str, &str)]) -> Result<()> {
        let own = format!(r#"namespace="{}""#, self.stage.namespace());
        let is_own = |series: &str| series.contains(&own);
        let metrics = eventually(what, async || {
            let metrics = self.stage.operator()?.metrics().await?;
            let value = |name: &str, labels: &str| self.value(&metrics, name, labels);
            // No scheduler runs on a WebAssembly server. On the other databases of other tests need workers, too.
            let scheduler = if Database::is_native() { 1.0 } else { 0.0 };
            let workers = value("background_workers_running", "").zip(value("background_workers_limit", ""));
            let is_exhausted = workers.is_some_and(|(running, limit)| running >= limit);
            let is_undisturbed = value("scheduler_running", "") == Some(scheduler) && !is_exhausted;
            let is_down = value("up", "") == Some(0.0);
            if so(&value) && (is_undisturbed || is_down) {
                return Ok(Some(metrics));
            }
            Err(format!("{:#?}", metrics.samples().filter(|(series, _)| is_own(series)).collect::<Vec<_>>()).into())
        })
        .await?;
        // What has no namespace is the operator's.
        let samples = metrics.samples().filter(|(series, _)| is_own(series) || !series.contains(r#"namespace=""#));
        promtool::fire(samples, jiff::Timestamp::now().as_second(), alerts)
            .await
            .map_err(|error| format!("{what}: {error}").into())
    }

    /// The same, for alerts that fire beside those that always do here.
    async fn add(&self, what: &str, so: impl Fn(Value<'_>) -> bool, alerts: &[(&str, &str)]) -> Result<()> {
        let always: &[_] = if Database::is_native() { &[] } else { &[("TimescaleDBSchedulerNotRunning", "")] };
        self.fire(what, so, &[always, alerts].concat()).await
    }

    /// Waits until the resource's job has run well. Where none runs by itself it is run here, and noted as a
    /// scheduler does.
    async fn ran(&self, object: &str) -> Result<()> {
        if !Database::is_native() {
            let id = self.run_job(object).await?;
            self.database.superuser().await?.batch_execute(&statistics(id, "total_runs", "1")).await?;
        }
        job(&self.stage, object, "True", "JobSucceeded").await.map(drop)
    }

    /// Runs the resource's job by hand, and returns its id.
    async fn run_job(&self, object: &str) -> Result<i64> {
        let id = self.stage.get(object).await?["status"]["jobId"].as_i64().ok_or("no job")?;
        self.database.run(&format!("CALL public.run_job({id})")).await?;
        Ok(id)
    }

    /// Waits until the hypertable is so in a word.
    async fn is(&self, object: &str, word: &str) -> Result<()> {
        let so = |found: &serde_json::Value| found["status"]["health"]["word"] == word;
        self.stage.until(object, &format!("health {word}"), so).await.map(drop)
    }

    async fn end(self) -> Result<()> {
        self.stage.end().await?;
        self.database.end().await
    }
}

/// Rows of so many days, of which the first is so many days ago.
fn rows(ago: u32, days: u32) -> String {
    let last = ago - days + 1;
    format!(
        "INSERT INTO plant.readings SELECT now() - n * interval '1 day', 1, n FROM generate_series({last}, {ago}) AS n"
    )
}

fn readings() -> String {
    manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true")
}

#[tokio::test]
async fn a_database_that_is_down_is_unreachable_and_nothing_else() -> Result<()> {
    let scene = Scene { stage: Stage::shared("alert-down").await?, database: Database::start().await? };
    scene.database.run(&manifests::table_of_days("readings", 3)).await?;
    let relay = Relay::to(&scene.database).await?;
    let resources = [readings(), manifests::retention("readings", "dropAfter: 1 year")];
    scene.manage(relay.port(), &resources).await?;
    let well = |value: Value<'_>| value("up", "") == Some(1.0) && value("statistics_stale", "") == Some(0.0);
    scene.add("all is well", well, &[]).await?;

    relay.close();
    for object in ["timescaledatabase/plant", "hypertable/readings", "retentionpolicy/readings"] {
        scene.stage.says(object, "DatabaseUnreachable").await?;
    }
    let unreachable = [("TimescaleDBDatabaseUnreachable", "")];
    scene.fire("the database is down", |value| value("up", "") == Some(0.0), &unreachable).await?;

    relay.open();
    scene.stage.says("retentionpolicy/readings", "InSync").await?;
    scene.add("all is well again", well, &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn a_plan_that_waits_for_approval_is_one_alert() -> Result<()> {
    let scene = Scene::start("alert-approval", &manifests::table_of_days("readings", 12), &[readings()]).await?;
    let waiting = |value: Value<'_>| value("policy_operator_resources", r#"reason="ApprovalRequired""#);
    scene.add("nothing waits", |value| waiting(value).is_none() && value("up", "") == Some(1.0), &[]).await?;

    let object = "retentionpolicy/readings";
    scene.stage.apply(&[manifests::retention("readings", "dropAfter: 6 days")]).await?;
    let message = scene.stage.says(object, "ApprovalRequired").await?;
    let alert = [("TimescaleDBApprovalWaiting", "")];
    scene.add("a plan waits", |value| waiting(value) == Some(1.0), &alert).await?;

    scene.stage.obey(&message).await?;
    scene.stage.ready(object).await?;
    scene.ran(object).await?;
    scene.add("nothing waits", |value| waiting(value).is_none(), &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn drift_that_is_only_observed_is_one_alert() -> Result<()> {
    let scene = Scene::start("alert-drift", &manifests::table_of_days("readings", 3), &[readings()]).await?;
    let object = "hypertable/readings";
    scene.stage.patch("timescaledatabase/plant", r#"{"mode": "Observe"}"#).await?;
    scene.stage.says("timescaledatabase/plant", "InSync").await?;
    let drifted = |value: Value<'_>| value("policy_operator_resources", r#"reason="DriftObserved""#);
    scene.add("no drift", |value| drifted(value).is_none() && value("up", "") == Some(1.0), &[]).await?;

    scene.database.run("SELECT set_chunk_time_interval('plant.readings', interval '5 days')").await?;
    scene.stage.says(object, "DriftObserved").await?;
    let alert = [("TimescaleDBDriftNotCorrected", "")];
    scene.add("drift", |value| drifted(value) == Some(1.0), &alert).await?;

    scene.database.run("SELECT set_chunk_time_interval('plant.readings', interval '1 day')").await?;
    scene.stage.says(object, "InSync").await?;
    scene.add("no drift again", |value| drifted(value).is_none(), &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn old_chunks_that_are_not_compressed_are_a_backlog() -> Result<()> {
    let policy = "targetRef: {kind: Hypertable, name: readings}, compressAfter: 7 days";
    let resources = [readings(), manifests::resource("CompressionPolicy", "readings", policy)];
    let scene = Scene::start("alert-compression", &manifests::table_of_days("readings", 20), &resources).await?;
    let (table, object) = ("hypertable/readings", "compressionpolicy/readings");
    scene.ran(object).await?;
    scene.is(table, "healthy").await?;
    // A chunk may come of age meanwhile.
    let done = |value: Value<'_>| {
        value("hypertable_chunks_to_compress", "readings").is_some_and(|left| left <= 1.0)
            && value("hypertable_health", "readings") == Some(0.0)
    };
    scene.add("all is compressed", done, &[]).await?;

    // Loaded after the job has run.
    let alert = [("TimescaleDBCompressionBacklog", "readings")];
    for (more, word, number) in [(rows(50, 12), "warning", 1.0), (rows(100, 40), "critical", 2.0)] {
        scene.database.run(&more).await?;
        scene.is(table, word).await?;
        let late = |value: Value<'_>| {
            value("hypertable_chunks_to_compress", "readings") > Some(10.0)
                && value("hypertable_health", "readings") == Some(number)
        };
        scene.add(word, late, &alert).await?;
        let healthy = scene.stage.get(object).await?;
        assert_eq!(condition(&healthy, "JobHealthy")["status"], "True", "the job has done what it had to");
    }

    scene.run_job(object).await?;
    scene.is(table, "healthy").await?;
    scene.add("all is compressed again", done, &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn old_chunks_that_are_not_dropped_are_a_backlog() -> Result<()> {
    let resources = [readings(), manifests::retention("readings", "dropAfter: 30 days")];
    let scene = Scene::start("alert-retention", &manifests::table_of_days("readings", 3), &resources).await?;
    let (table, object) = ("hypertable/readings", "retentionpolicy/readings");
    scene.ran(object).await?;
    scene.is(table, "healthy").await?;
    let done = |value: Value<'_>| {
        value("hypertable_chunks_to_drop", "readings") == Some(0.0)
            && value("hypertable_health", "readings") == Some(0.0)
    };
    scene.add("nothing is too old", done, &[]).await?;

    let alert = [("TimescaleDBRetentionBacklog", "readings")];
    for (more, word, number) in [(rows(55, 14), "warning", 1.0), (rows(100, 20), "critical", 2.0)] {
        scene.database.run(&more).await?;
        scene.is(table, word).await?;
        let late = |value: Value<'_>| {
            value("hypertable_chunks_to_drop", "readings") > Some(10.0)
                && value("hypertable_health", "readings") == Some(number)
        };
        scene.add(word, late, &alert).await?;
    }

    scene.run_job(object).await?;
    scene.is(table, "healthy").await?;
    scene.add("nothing is too old again", done, &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn an_aggregate_that_is_behind_its_schedule_lags() -> Result<()> {
    let policy = |offset: &str| format!("startOffset: 30 days, endOffset: {offset}, schedule: {{interval: 1 hour}}");
    let aggregate = |offset: &str| {
        manifests::aggregate("hourly", "readings", "1 hour", &format!("refreshPolicy: {{{}}}", policy(offset)))
    };
    let resources = [readings(), aggregate("3 days")];
    let scene = Scene::start("alert-lag", &manifests::table_of_days("readings", 10), &resources).await?;
    let object = "continuousaggregate/hourly";
    scene.ran(object).await?;
    let in_time = |value: Value<'_>| value("continuous_aggregate_lag_seconds", "hourly") == Some(0.0);
    scene.add("the aggregate is in time", in_time, &[]).await?;

    // From here on it has to get further, and the next run is not before an hour.
    scene.stage.apply(&[aggregate("1 hour")]).await?;
    scene.stage.says(object, "InSync").await?;
    let alert = [("TimescaleDBAggregateLag", "hourly")];
    let two_days = Some(2.0 * 86_400.0);
    scene.add("lag", |value| value("continuous_aggregate_lag_seconds", "hourly") > two_days, &alert).await?;
    job(&scene.stage, object, "True", "JobSucceeded").await?;

    scene.run_job(object).await?;
    scene.add("the aggregate is in time again", in_time, &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn a_job_whose_role_lost_a_privilege_fails_and_nothing_else() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // no job runs there
    }
    let often = "startOffset: 30 days, endOffset: 1 hour, schedule: {interval: 1 second, retryPeriod: 1 second}";
    let often = format!("refreshPolicy: {{{often}}}");
    let resources = [readings(), manifests::aggregate("hourly", "readings", "1 hour", &often)];
    let scene = Scene::start("alert-job", &manifests::table_of_days("readings", 5), &resources).await?;
    let object = "continuousaggregate/hourly";
    job(&scene.stage, object, "True", "JobSucceeded").await?;
    let healthy = |value: Value<'_>| {
        value("job_healthy", r#"policy="refresh""#) == Some(1.0)
            && value("continuous_aggregate_lag_seconds", "hourly") == Some(0.0)
            && value("hypertable_health", "hourly") == Some(0.0)
    };
    scene.add("the job runs", healthy, &[]).await?;

    let (owner, late) =
        (scene.database.owner()?, "INSERT INTO plant.readings VALUES (now() - interval '3 days', 1, 1)");
    scene.database.run(&format!("{late}; REVOKE SELECT ON plant.readings FROM {owner}; {late}")).await?;
    job(&scene.stage, object, "False", "JobFailing").await?;
    scene.is(object, "warning").await?;
    let failing = |value: Value<'_>| {
        value("job_healthy", r#"policy="refresh""#) == Some(0.0)
            && value("job_consecutive_failures", r#"policy="refresh""#) > Some(0.0)
            && value("hypertable_health", "hourly") == Some(1.0)
    };
    scene.add("the job fails", failing, &[("TimescaleDBJobFailing", "hourly")]).await?;

    scene.database.run(&format!("GRANT SELECT ON plant.readings TO {owner}")).await?;
    job(&scene.stage, object, "True", "JobSucceeded").await?;
    scene.add("the job runs again", healthy, &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn a_job_that_is_not_started_is_overdue_and_nothing_else() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // without a scheduler it is that which has an alert
    }
    let retention = manifests::retention("readings", "dropAfter: 1 year, schedule: {interval: 1 day}");
    let scene = Scene::start("alert-start", &manifests::table_of_days("readings", 3), &[readings(), retention]).await?;
    let object = "retentionpolicy/readings";
    scene.ran(object).await?;
    // The operator does nothing about it meanwhile.
    scene.stage.patch("timescaledatabase/plant", r#"{"mode": "Observe"}"#).await?;
    scene.stage.says("timescaledatabase/plant", "InSync").await?;
    let well = |value: Value<'_>| value("job_healthy", "readings") == Some(1.0);
    scene.add("the job has run", well, &[]).await?;

    // Behind the back of the scheduler, which goes by what it has read.
    let id = scene.stage.get(object).await?["status"]["jobId"].as_i64().ok_or("no job")?;
    let statistics = "_timescaledb_internal.bgw_job_stat";
    let late = format!("UPDATE {statistics} SET next_start = now() - interval '1 hour' WHERE job_id = {id}");
    scene.database.superuser().await?.batch_execute(&late).await?;
    job(&scene.stage, object, "False", "JobOverdue").await?;
    scene.is("hypertable/readings", "critical").await?;
    let is_late = |value: Value<'_>| {
        value("job_overdue_seconds", "readings") > Some(1800.0)
            && value("job_healthy", "readings") == Some(0.0)
            && value("hypertable_health", "readings") == Some(2.0)
    };
    scene.add("the job is overdue", is_late, &[("TimescaleDBJobOverdue", "readings")]).await?;

    scene.stage.patch("timescaledatabase/plant", r#"{"mode": "Enforce"}"#).await?;
    job(&scene.stage, object, "True", "JobSucceeded").await?;
    scene.add("the job has run again", well, &[]).await?;
    scene.end().await
}

/// A job with a first start that lies ahead has nothing done yet, and need not have.
#[tokio::test]
async fn what_waits_for_the_first_start_of_its_job_is_no_alert() -> Result<()> {
    let later = "schedule: {interval: 1 day, initialStart: \"2100-01-01T00:00:00Z\"}";
    let compression = format!("targetRef: {{kind: Hypertable, name: readings}}, compressAfter: 7 days, {later}");
    let refresh = format!("refreshPolicy: {{startOffset: 30 days, endOffset: 1 hour, {later}}}");
    let resources = [
        readings(),
        manifests::resource("CompressionPolicy", "readings", &compression),
        manifests::retention("readings", &format!("dropAfter: 31 days, {later}")),
        manifests::aggregate("hourly", "readings", "1 hour", &refresh),
    ];
    let scene = Scene::start("alert-first", &manifests::table_of_days("readings", 30), &resources).await?;
    scene.database.run(&rows(60, 20)).await?;
    for object in ["compressionpolicy/readings", "retentionpolicy/readings", "continuousaggregate/hourly"] {
        job(&scene.stage, object, "Unknown", "JobNotStarted").await?;
    }
    let waits = |value: Value<'_>| {
        value("hypertable_chunks_to_compress", "readings") > Some(10.0)
            && value("hypertable_chunks_to_drop", "readings") > Some(10.0)
            && value("continuous_aggregate_invalidations", "hourly").is_some()
    };
    scene.add("much waits for the first runs", waits, &[]).await?;
    scene.end().await
}

#[tokio::test]
async fn statistics_that_cannot_be_read_are_old_and_nothing_else() -> Result<()> {
    let scene = Scene::start("alert-stale", &manifests::table_of_days("readings", 3), &[readings()]).await?;
    let fresh = |value: Value<'_>| {
        value("statistics_stale", "") == Some(0.0) && value("statistics_timestamp_seconds", "").is_some()
    };
    scene.add("the reading is fresh", fresh, &[]).await?;

    // Only readings look there. On a server with several backends somebody holds it, on the other nobody may read it.
    let superuser = scene.database.superuser().await?;
    let table = "_timescaledb_catalog.compression_chunk_size";
    let (block, unblock) = if Database::is_native() {
        (format!("BEGIN; LOCK TABLE {table}"), "ROLLBACK".to_owned())
    } else {
        (format!("REVOKE SELECT ON {table} FROM PUBLIC"), format!("GRANT SELECT ON {table} TO PUBLIC"))
    };
    superuser.batch_execute(&block).await?;
    let stale = |value: Value<'_>| value("statistics_stale", "") == Some(1.0);
    scene.add("the reading is stale", stale, &[("TimescaleDBStatisticsStale", "")]).await?;
    scene.stage.says("hypertable/readings", "InSync").await?;

    superuser.batch_execute(&unblock).await?;
    scene.add("the reading is fresh again", fresh, &[]).await?;
    drop(superuser);
    scene.end().await
}

/// What the tests above take for granted.
#[tokio::test]
async fn promtool_tells_every_alert_that_fires_and_was_not_expected_and_none_less() -> Result<()> {
    let up = r#"timescaledb_up{namespace="a",database="b"}"#;
    let samples = |value| [("timescaledb_policy_operator_leader", 1.0), (up, value)].into_iter();
    let down = ("TimescaleDBDatabaseUnreachable", "");
    promtool::fire(samples(0.0), 1_800_000_000, &[down]).await?;
    promtool::fire(samples(1.0), 1_800_000_000, &[]).await?;
    for (value, alerts) in [(0.0, &[][..]), (1.0, &[down]), (0.0, &[down, ("TimescaleDBJobFailing", "x")])] {
        let error = promtool::fire(samples(value), 1_800_000_000, alerts).await.err().ok_or("no error")?.to_string();
        assert!(error.contains("got:"), "{error}");
    }
    Ok(())
}
