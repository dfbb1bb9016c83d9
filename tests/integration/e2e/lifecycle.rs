//! From the first `kubectl apply` on: what is applied comes true, stays true, and is told.

use std::collections::BTreeMap;

use super::{
    database::Database,
    kstatus, manifests,
    operator::Metrics,
    stage::{KINDS, Stage},
};
use crate::support::Result;

#[tokio::test]
async fn what_is_applied_in_one_go_becomes_ready_and_tells_what_was_done() -> Result<()> {
    let stage = Stage::shared("first-apply").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    stage.secret(&database).await?;
    let index = "{name: readings_sensor, columns: [{name: sensor}, {name: ts, order: Desc}]}";
    stage
        .apply(&[
            manifests::database("plant", ""),
            manifests::hypertable("readings", &format!("chunkInterval: 1 day, migrateData: true, indexes: [{index}]")),
            manifests::compression("readings", "segmentBy: [sensor]"),
            manifests::retention("readings", "dropAfter: 1 year"),
            manifests::aggregate(
                "hourly",
                "readings",
                "1 hour",
                "realTime: true, refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}",
            ),
        ])
        .await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;

    // The database says so.
    let one_job_each = "(SELECT array_agg(proc_name::text ORDER BY proc_name) FROM timescaledb_information.jobs WHERE job_id >= 1000) \
                        = '{policy_compression,policy_refresh_continuous_aggregate,policy_retention}'";
    assert!(database.value::<bool>(&format!("SELECT {one_job_each}")).await?);
    assert_eq!(database.value::<i64>("SELECT count(*) FROM plant.readings").await?, 3, "all rows are still there");
    assert_eq!(database.value::<i64>("SELECT sum(n)::bigint FROM plant.hourly").await?, 3);
    assert!(database.value::<bool>("SELECT to_regclass('plant.readings_sensor') IS NOT NULL").await?);

    // kubectl says so; sizes are read beside the passes.
    stage.until("hypertable/readings", "its chunks", |found| !found["status"]["chunks"].is_null()).await?;
    let row = table_row(&stage.kubectl("get hypertables").await?)?;
    let columns: Vec<_> =
        "NAME DATABASE TABLE INTERVAL CHUNKS SIZE COMPRESSED RATIO HEALTH READY REASON AGE".split(' ').collect();
    assert_eq!(row.iter().map(|(header, _)| header.as_str()).collect::<Vec<_>>(), columns);
    let cells: BTreeMap<_, _> = row.iter().map(|(header, cell)| (header.as_str(), cell.as_str())).collect();
    for (header, cell) in [
        ("NAME", "readings"),
        ("DATABASE", "plant"),
        ("TABLE", "readings"),
        ("INTERVAL", "1 day"),
        ("READY", "True"),
        ("REASON", "InSync"),
    ] {
        assert_eq!(cells[header], cell, "{header}");
    }
    let chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'readings'";
    assert_eq!(cells["CHUNKS"], database.value::<i64>(chunks).await?.to_string());
    assert!(cells["SIZE"].ends_with('B'), "{}", cells["SIZE"]);
    let every_kind = stage.kubectl("get timescaledb -o name").await?;
    assert_eq!(every_kind.lines().count(), 5, "{every_kind}");
    let described = stage.kubectl("describe hypertable readings").await?;
    assert!(described.contains("InSync") && described.contains("create_hypertable("), "{described}");
    for object in stage.objects().await? {
        assert_eq!(kstatus::of(&object), "Current", "{object}");
    }
    let status = stage.get("timescaledatabase/plant").await?["status"].take();
    assert_eq!((&status["resources"], &status["resourcesInSync"]), (&4.into(), &4.into()), "{status}");
    for (object, job) in [
        ("compressionpolicy/readings", "policy_compression"),
        ("retentionpolicy/readings", "policy_retention"),
        ("continuousaggregate/hourly", "policy_refresh_continuous_aggregate"),
    ] {
        let id = format!("SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = '{job}'");
        assert_eq!(stage.get(object).await?["status"]["jobId"], database.value::<i32>(&id).await?);
    }

    // So do the events: one for each change, with its SQL.
    let steps = [
        ("hypertable/readings", &["create_hypertable(", "CREATE INDEX"][..]),
        ("compressionpolicy/readings", &["timescaledb.compress", "add_compression_policy("]),
        ("retentionpolicy/readings", &["add_retention_policy("]),
        ("continuousaggregate/hourly", &["CREATE MATERIALIZED VIEW", "add_continuous_aggregate_policy("]),
    ];
    for (object, sql) in steps {
        let events = stage.events(object, "Applied").await?;
        assert!(events.len() == 1 && sql.iter().all(|sql| events[0].contains(sql)), "{object}: {events:#?}");
    }

    // A change is one more of them, and touches nothing else.
    stage.patch("retentionpolicy/readings", r#"{"dropAfter": "2 years"}"#).await?;
    database.until(&Database::drops_after("readings", "2 years")).await?;
    stage.says("retentionpolicy/readings", "InSync").await?;
    let events = stage.events("retentionpolicy/readings", "Applied").await?;
    assert_eq!(events.len(), 2, "{events:#?}");
    assert!(events[1].contains("1 year -> ") && events[1].contains("alter_job("), "{}", events[1]);
    for (object, _) in steps.into_iter().filter(|(object, _)| !object.starts_with("retention")) {
        assert_eq!(stage.events(object, "Applied").await?.len(), 1, "{object}");
    }
    assert!(database.value::<bool>(&format!("SELECT {one_job_each}")).await?);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn drift_is_corrected_within_a_resync_and_counted() -> Result<()> {
    let mut stage = Stage::own("drift").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let refresh = "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    stage
        .manage(
            &database,
            &[
                manifests::hypertable("readings", "chunkInterval: 1 day"),
                manifests::compression("readings", ""),
                manifests::retention("readings", "dropAfter: 1 year"),
                manifests::aggregate("hourly", "readings", "1 hour", refresh),
                manifests::aggregate("daily", "readings", "1 day", "realTime: true"),
            ],
        )
        .await?;
    assert_eq!(stage.operator()?.metrics().await?.sum("drift_total", ""), 0.0, "nothing has drifted yet");

    database
        .run(
            "SELECT set_chunk_time_interval('plant.readings', interval '3 days');
             SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression';
             SELECT remove_retention_policy('plant.readings');
             SELECT alter_job(job_id, schedule_interval => interval '7 hours') FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate';
             ALTER MATERIALIZED VIEW plant.daily SET (timescaledb.materialized_only = true)",
        )
        .await?;
    database.until(&Database::chunks_span("readings", "1 day")).await?;
    database
        .until("(SELECT scheduled FROM timescaledb_information.jobs WHERE proc_name = 'policy_compression')")
        .await?;
    database.until(&Database::drops_after("readings", "1 year")).await?;
    database.until("(SELECT schedule_interval = '1 hour' FROM timescaledb_information.jobs WHERE proc_name = 'policy_refresh_continuous_aggregate')").await?;
    database.until("(SELECT NOT materialized_only FROM timescaledb_information.continuous_aggregates WHERE view_name = 'daily')").await?;

    stage.operator()?.passes(2).await?;
    for (object, kind, change) in [
        ("hypertable/readings", "Hypertable", "3 days -> 1 day"),
        ("compressionpolicy/readings", "CompressionPolicy", "paused -> running"),
        ("retentionpolicy/readings", "RetentionPolicy", "add_retention_policy("),
        ("continuousaggregate/hourly", "ContinuousAggregate", "7 hours -> 1 hour"),
        ("continuousaggregate/daily", "ContinuousAggregate", "-> real time"),
    ] {
        let events = stage.events(object, "DriftCorrected").await?;
        assert!(events.len() == 1 && events[0].contains(change), "{object}: {events:#?}");
        let of_kind = if kind == "ContinuousAggregate" { 2.0 } else { 1.0 };
        let counted = stage.operator()?.metrics().await?.sum("drift_total", kind);
        assert_eq!(counted, of_kind, "{kind}");
        stage.says(object, "InSync").await?;
    }
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn an_index_dropped_by_hand_is_built_again_as_drift() -> Result<()> {
    let stage = Stage::shared("index-drift").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let indexes = "indexes: [{name: readings_sensor, columns: [{name: sensor}]}]";
    let readings = manifests::hypertable("readings", &format!("chunkInterval: 1 day, migrateData: true, {indexes}"));
    stage.manage(&database, &[readings]).await?;
    database.run("DROP INDEX plant.readings_sensor").await?;
    database.until("to_regclass('plant.readings_sensor') IS NOT NULL").await?;
    let event = stage.event("hypertable/readings", "DriftCorrected").await?;
    assert!(event.contains("CREATE INDEX"), "{event}");
    stage.says("hypertable/readings", "InSync").await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_table_that_was_made_anew_is_managed_again() -> Result<()> {
    let stage = Stage::shared("made-anew").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let readings = manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true");
    let policies = [manifests::compression("readings", ""), manifests::retention("readings", "dropAfter: 1 year")];
    stage.manage(&database, &[&[readings], &policies[..]].concat()).await?;

    database.run("DROP TABLE plant.readings").await?;
    let message = stage.says("hypertable/readings", "TableNotFound").await?;
    assert!(message.contains("plant.readings"), "{message}");
    stage.says("retentionpolicy/readings", "TargetNotReady").await?;
    database.run(&manifests::table_of_days("readings", 2)).await?;
    stage.ready("hypertable/readings retentionpolicy/readings compressionpolicy/readings").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::chunks_span("readings", "1 day"))).await?);
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (1, 1));

    // Without their table they have nothing to undo, and go.
    database.run("DROP TABLE plant.readings").await?;
    stage.delete(&policies).await?;
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn idle_resyncs_write_nothing_and_cost_the_same_for_one_resource_and_for_thirty() -> Result<()> {
    let mut stage = Stage::own("idle").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..10).map(|n| format!("readings{n}")).collect();
    for table in &tables {
        database.run(&manifests::table(table)).await?;
    }
    stage.manage(&database, &[manifests::hypertable(&tables[0], "chunkInterval: 1 day")]).await?;
    let (before, after) = idle(&stage, 3).await?;
    let of_one = statements_per_pass(&before, &after);

    let of_table = |table: &String| {
        let policies = [manifests::compression(table, ""), manifests::retention(table, "dropAfter: 1 year")];
        [vec![manifests::hypertable(table, "chunkInterval: 1 day")], policies.to_vec()].concat()
    };
    stage.apply(&tables.iter().flat_map(of_table).collect::<Vec<_>>()).await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    assert_eq!(stage.objects().await?.len(), 31);
    // Of all transactions only those that write take a number.
    let written = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text";
    stage.operator()?.passes(1).await?;
    let (versions, number) = (stage.versions().await?, database.value::<String>(written).await?);
    let (before, after) = idle(&stage, 10).await?;
    assert_eq!(statements_per_pass(&before, &after), of_one);
    assert_eq!(stage.versions().await?, versions);
    for counter in ["api_writes_total", "steps_total", "drift_total", "errors_total"] {
        assert_eq!(after.sum(counter, ""), before.sum(counter, ""), "{counter}");
    }
    if !Database::is_native() {
        // Elsewhere the scheduler writes too.
        assert_eq!(database.value::<String>(written).await?, number);
    }
    stage.end().await?;
    database.end().await
}

/// What the metrics say before and after so many passes.
async fn idle(stage: &Stage, passes: u32) -> Result<(Metrics, Metrics)> {
    let operator = stage.operator()?;
    Ok((operator.passes(1).await?, operator.passes(passes).await?))
}

fn statements_per_pass(before: &Metrics, after: &Metrics) -> f64 {
    let more = |counter| after.sum(counter, "") - before.sum(counter, "");
    more("statements_total") / more("passes_total")
}

/// The headers and the cells of a table with one row.
fn table_row(table: &str) -> Result<Vec<(String, String)>> {
    let (headers, row) = table.trim_end().split_once('\n').ok_or("no row")?;
    assert!(!row.contains('\n'), "more than one row: {table}");
    let mut columns = Vec::new();
    let starts: Vec<_> = headers
        .char_indices()
        .filter(|(i, c)| *c != ' ' && (*i == 0 || headers[..*i].ends_with(' ')))
        .map(|(i, _)| i)
        .collect();
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied();
        let cut = |line: &str| line[*start..end.unwrap_or(line.len())].trim().to_owned();
        columns.push((cut(headers), cut(row)));
    }
    Ok(columns)
}
