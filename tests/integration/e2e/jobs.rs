//! What resources say of their jobs, and what is done about those that TimescaleDB does not start.

use serde_json::Value;

use super::{
    database::Database,
    manifests,
    stage::{Stage, condition},
};
use crate::support::Result;

/// Waits until `JobHealthy` has this value and reason, and returns the resource.
pub async fn job(stage: &Stage, object: &str, status: &str, reason: &str) -> Result<Value> {
    stage
        .until(object, &format!("JobHealthy={status} ({reason})"), |found| {
            let healthy = condition(found, "JobHealthy");
            healthy["status"] == status && healthy["reason"] == reason
        })
        .await
}

/// A row in the scheduler's statistics, as it would write it.
pub fn statistics(job: i64, columns: &str, values: &str) -> String {
    format!(
        "DELETE FROM _timescaledb_internal.bgw_job_stat WHERE job_id = {job};
         INSERT INTO _timescaledb_internal.bgw_job_stat (job_id, last_start, last_finish, next_start, last_successful_finish,
             last_run_success, total_runs, total_duration, total_duration_failures, total_successes, total_failures,
             total_crashes, consecutive_failures, consecutive_crashes)
         SELECT {job}, now(), now(), now() + interval '1 hour', now(), true, 1, '0', '0', 1, 0, 0, 0, 0;
         UPDATE _timescaledb_internal.bgw_job_stat SET ({columns}) = ROW ({values}) WHERE job_id = {job};"
    )
}

#[tokio::test]
async fn what_the_scheduler_says_of_a_job_is_in_the_status_and_beside_it_in_the_table() -> Result<()> {
    if Database::is_native() {
        return Ok(()); // its scheduler writes the statistics itself
    }
    let mut stage = Stage::own("job-health").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let superuser = database.superuser().await?;
    database.run(&manifests::table("readings")).await?;
    let policies = [manifests::compression("readings", ""), manifests::retention("readings", "dropAfter: 1 year")];
    stage.manage(&database, &[&[manifests::hypertable("readings", "")], &policies[..]].concat()).await?;
    let new = job(&stage, "retentionpolicy/readings", "Unknown", "JobNotStarted").await?;
    let id = new["status"]["job"]["id"].as_i64().ok_or("no job")?;
    assert_eq!(new["status"]["jobId"], id);
    assert!(condition(&stage.get("hypertable/readings").await?, "JobHealthy").is_null(), "it has no job");

    superuser.batch_execute(&statistics(id, "total_runs", "2")).await?;
    let ran = job(&stage, "retentionpolicy/readings", "True", "JobSucceeded").await?;
    assert!(ran["status"]["job"]["lastSuccess"].is_string() && ran["status"]["job"]["nextRun"].is_string());

    let error = format!(
        "INSERT INTO _timescaledb_internal.bgw_job_stat_history (job_id, pid, succeeded, execution_start, execution_finish, data)
         VALUES ({id}, 1, false, now(), now(), jsonb_build_object('error_data',
             jsonb_build_object('sqlerrcode', '42501', 'message', repeat('x', 2000))))"
    );
    superuser.batch_execute(&error).await?;
    let failing = "last_run_success, total_failures, consecutive_failures";
    superuser.batch_execute(&statistics(id, failing, "false, 1, 1")).await?;
    let failed = job(&stage, "retentionpolicy/readings", "False", "JobFailing").await?;
    assert_eq!(condition(&failed, "Ready")["status"], "True", "it is configured as the resource says");
    let last = &failed["status"]["job"]["lastError"];
    assert_eq!((&last["code"], last["message"].as_str().map(str::len)), (&"42501".into(), Some(1000)));
    assert_eq!(failed["status"]["job"]["consecutiveFailures"], 1);
    assert!(stage.event("retentionpolicy/readings", "JobFailing").await?.contains("42501"));
    let row = stage.kubectl("get retentionpolicy readings --no-headers").await?;
    let row = row.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(row.contains(&format!("false {id} False True InSync")), "{row}");

    // Known, it costs neither a query nor a write.
    stage.sizes_told().await?;
    let before = stage.operator()?.passes(2).await?;
    let after = stage.operator()?.passes(5).await?;
    assert_eq!(after.sum("api_writes_total", ""), before.sum("api_writes_total", ""));
    superuser.batch_execute(&statistics(id, "total_runs", "3")).await?;
    let ran = job(&stage, "retentionpolicy/readings", "True", "JobSucceeded").await?;
    assert!(ran["status"]["job"]["lastError"].is_null());

    // Nobody starts it here, and nobody could: that is said, and nothing is done about it.
    superuser.batch_execute(&statistics(id, "next_start", "now() - interval '1 hour'")).await?;
    let overdue = job(&stage, "retentionpolicy/readings", "False", "JobOverdue").await?;
    assert_eq!(condition(&overdue, "Ready")["status"], "True");
    stage.operator()?.passes(2).await?;
    assert!(stage.events("retentionpolicy/readings", "JobNudged").await?.is_empty());

    // Off the schedule it is what the resource says.
    stage.patch("retentionpolicy/readings", r#"{"paused": true}"#).await?;
    job(&stage, "retentionpolicy/readings", "Unknown", "JobPaused").await?;
    superuser
        .batch_execute(&format!("DELETE FROM _timescaledb_internal.bgw_job_stat_history WHERE job_id = {id}"))
        .await?;
    stage.end().await?;
    drop(superuser);
    database.end().await
}

#[tokio::test]
async fn a_job_whose_role_lost_a_privilege_is_not_healthy_until_it_has_it_again() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // no job runs there
    }
    let stage = Stage::shared("job-privilege").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 5)).await?;
    let often = "refreshPolicy: {startOffset: 30 days, endOffset: 1 hour, schedule: {interval: 1 second, retryPeriod: 1 second}}";
    let readings = manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true");
    stage.manage(&database, &[readings, manifests::aggregate("hourly", "readings", "1 hour", often)]).await?;
    job(&stage, "continuousaggregate/hourly", "True", "JobSucceeded").await?;

    let (owner, late) = (database.owner()?, "INSERT INTO plant.readings VALUES (now() - interval '3 days', 1, 1)");
    database.run(&format!("{late}; REVOKE SELECT ON plant.readings FROM {owner}; {late}")).await?;
    let failing = job(&stage, "continuousaggregate/hourly", "False", "JobFailing").await?;
    let message = condition(&failing, "JobHealthy")["message"].to_string();
    assert!(message.contains("permission denied") && message.contains("42501"), "{message}");
    assert_eq!(failing["status"]["job"]["lastError"]["code"], "42501");
    assert_eq!(condition(&failing, "Ready")["status"], "True");
    assert!(stage.event("continuousaggregate/hourly", "JobFailing").await?.contains("permission denied"));

    database.run(&format!("GRANT SELECT ON plant.readings TO {owner}")).await?;
    let ran = job(&stage, "continuousaggregate/hourly", "True", "JobSucceeded").await?;
    assert!(ran["status"]["job"]["lastError"].is_null());
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_job_that_is_not_started_is_nudged_and_runs() -> Result<()> {
    if !Database::is_native() {
        return Ok(()); // no job runs there
    }
    let stage = Stage::shared("job-nudge").await?;
    let database = Database::start().await?;
    let superuser = database.superuser().await?;
    database.run(&[manifests::table("passed"), manifests::table("late")].concat()).await?;
    let managed = ["passed", "late"].map(|table| {
        [
            manifests::hypertable(table, ""),
            manifests::retention(table, "dropAfter: 1 year, schedule: {interval: 1 day}"),
        ]
    });
    stage.manage(&database, &managed.concat()).await?;
    stage.patch("timescaledatabase/plant", r#"{"mode": "Observe"}"#).await?;
    let mut ids = Vec::new();
    for table in ["passed", "late"] {
        let ran = job(&stage, &format!("retentionpolicy/{table}"), "True", "JobSucceeded").await?;
        ids.push(ran["status"]["job"]["id"].as_i64().ok_or("no job")?);
    }
    // Behind the back of the scheduler, which goes by what it has read.
    let (passed, late) = (ids[0], ids[1]);
    let next = format!(
        "UPDATE _timescaledb_internal.bgw_job_stat SET next_start = now() - interval '1 hour' WHERE job_id = {late}"
    );
    let none = format!("DELETE FROM _timescaledb_internal.bgw_job_stat WHERE job_id = {passed}");
    superuser.batch_execute(&format!("{next}; {none}")).await?;
    job(&stage, "retentionpolicy/late", "False", "JobOverdue").await?;
    job(&stage, "retentionpolicy/passed", "False", "JobNeverStarted").await?;
    assert!(stage.events("retentionpolicy/late", "JobNudged").await?.is_empty(), "it only observes");

    stage.patch("timescaledatabase/plant", r#"{"mode": "Enforce"}"#).await?;
    for table in ["late", "passed"] {
        let object = format!("retentionpolicy/{table}");
        assert!(stage.event(&object, "JobNudged").await?.contains("alter_job"));
        job(&stage, &object, "True", "JobSucceeded").await?;
        assert_eq!(condition(&stage.get(&object).await?, "Ready")["status"], "True");
        assert_eq!(stage.events(&object, "JobNudged").await?.len(), 1);
    }

    // Paused by hand where that is not put right.
    stage.patch("timescaledatabase/plant", r#"{"mode": "Observe"}"#).await?;
    stage.says("timescaledatabase/plant", "InSync").await?;
    superuser.batch_execute(&format!("SELECT public.alter_job({late}, scheduled => false)")).await?;
    job(&stage, "retentionpolicy/late", "Unknown", "JobPaused").await?;
    stage.end().await?;
    drop(superuser);
    database.end().await
}
