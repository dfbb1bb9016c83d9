//! The workload of the crashes: everything is created, changed and deleted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    operator::Crash,
    plant::{Plant, ROWS, rest},
    state::{State, counts},
};
use crate::support::{Result, timescaledb::TimescaleDb};

/// How a run of the workload ended.
pub struct Outcome {
    /// What there was when everything was created, changed and deleted.
    pub states: [State; 3],
    /// How often each statement was committed.
    pub committed: BTreeMap<String, usize>,
    /// Statements where a crash makes a difference, in order.
    pub statements: Vec<String>,
    /// Writes to the API, in order.
    pub writes: Vec<String>,
    /// How often the operator was started.
    pub starts: usize,
}

/// A database, all that a plant needs of it, and the specs of everything.
pub fn database() -> Value {
    json!({"connection": {"secretRef": {"name": "plant"}}, "resyncInterval": "1s"})
}

pub fn hypertable(schema: &str, table: &str) -> Value {
    json!({
        "databaseRef": {"name": "plant"}, "schema": schema, "table": table, "timeColumn": "ts",
        "chunkInterval": "1 day", "migrateData": true,
    })
}

/// A policy of the hypertable `readings`.
pub fn retention(drop_after: &str) -> Value {
    json!({"targetRef": {"kind": "Hypertable", "name": "readings"}, "dropAfter": drop_after})
}

pub fn aggregate(schema: &str) -> Value {
    let query = format!("SELECT time_bucket('1 hour', ts) AS bucket, count(*) AS n FROM {schema}.readings GROUP BY 1");
    json!({
        "databaseRef": {"name": "plant"}, "schema": schema, "name": "hourly", "query": query, "realTime": false,
        "deletionPolicy": "Delete",
        // No run of the job disturbs the comparison.
        "refreshPolicy": {"startOffset": "3 days", "schedule": {"interval": "1 hour", "initialStart": "2100-01-01T00:00:00Z"}},
    })
}

/// A table with a row for each of the last days.
pub fn table_of_days(schema: &str) -> String {
    format!(
        "CREATE TABLE {schema}.readings (ts timestamptz NOT NULL, sensor int, value float8);
         INSERT INTO {schema}.readings SELECT date_trunc('day', now()) - n * interval '1 day', n % 3, n
             FROM generate_series(0, {}) AS n;",
        ROWS - 1
    )
}

/// Runs the workload while the operator crashes as it is told. Every crash is followed by a start.
pub async fn run(server: &TimescaleDb, sql: Crash, api: Crash) -> Result<Outcome> {
    let plant = Plant::new(server).await?;
    let schema = plant.namespace.clone();
    plant.run(&table_of_days(&schema)).await?;
    plant.run(&format!("CREATE TABLE {schema}.alarms (ts timestamptz NOT NULL, code int)")).await?;
    plant.sql_proxy.crash(sql);
    plant.api_proxy.crash(api);
    let undisturbed = matches!((sql, api), (Crash::Never, Crash::Never));

    let mut readings = hypertable(&schema, "readings");
    let high = json!({"name": "readings_high", "columns": [{"name": "sensor"}], "where": "value > 1"});
    readings["indexes"] = json!([high]);
    let compression = json!({
        "targetRef": {"kind": "Hypertable", "name": "readings"}, "compressAfter": "300 days", "segmentBy": [],
    });
    let all = [
        ("timescaledatabases", "plant", database()),
        ("hypertables", "readings", readings),
        ("hypertables", "alarms", hypertable(&schema, "alarms")),
        ("compressionpolicies", "readings", compression),
        ("retentionpolicies", "readings", retention("1 year")),
        ("continuousaggregates", "hourly", aggregate(&schema)),
    ];
    for (kind, name, spec) in &all {
        plant.apply(kind, name, spec).await?;
    }
    let created = settled(&plant, undisturbed).await?;

    // Each phase is seen at once: what the operator does must not depend on how far the test has come.
    plant.api_proxy.hold();
    let sensor = json!({"name": "readings_sensor", "columns": [{"name": "sensor"}]});
    let schedule = json!({"interval": "2 hours", "initialStart": "2100-01-01T00:00:00Z"});
    for (kind, name, spec) in [
        ("hypertables", "readings", json!({"chunkInterval": "2 days", "indexes": [high, sensor]})),
        ("hypertables", "alarms", json!({"chunkInterval": "7 days"})),
        ("compressionpolicies", "readings", json!({"compressAfter": "200 days", "segmentBy": ["sensor"]})),
        ("retentionpolicies", "readings", json!({"dropAfter": "2 years", "schedule": {"interval": "12 hours"}})),
        (
            "continuousaggregates",
            "hourly",
            json!({"realTime": true, "refreshPolicy": {"startOffset": "4 days", "schedule": schedule}}),
        ),
    ] {
        plant.apply(kind, name, &spec).await?;
    }
    plant.api_proxy.tell();
    let changed = settled(&plant, undisturbed).await?;

    plant.api_proxy.hold();
    for (kind, name, _) in &all {
        plant.delete(kind, name).await?;
    }
    plant.api_proxy.tell();
    plant.gone().await?;
    plant.intact().await?;
    let deleted = plant.state().await?;

    let outcome = Outcome {
        states: [created, changed, deleted],
        committed: counts(&plant.sql_proxy.committed(), &schema),
        statements: plant.sql_proxy.counted(),
        writes: plant.api_proxy.writes(),
        starts: plant.operator.starts(),
    };
    plant.end().await?;
    Ok(outcome)
}

/// What there is when everything is Ready.
async fn settled(plant: &Plant<'_>, undisturbed: bool) -> Result<State> {
    plant.settled().await?;
    plant.intact().await?;
    let state = plant.state().await?;
    if undisturbed {
        // Where nothing differs nothing is done, once the pass has ended that told of the first reading of sizes: where
        // that takes long, everything is Ready before.
        plant.measured().await?;
        plant.passes(0).await?;
        let counted = || (plant.sql_proxy.counted().len(), plant.api_proxy.writes().len());
        let done = counted();
        plant.passes(1).await?;
        rest(100).await;
        assert_eq!(counted(), done, "it goes on: {:#?}", &plant.api_proxy.writes()[done.1..]);
    }
    Ok(state)
}
