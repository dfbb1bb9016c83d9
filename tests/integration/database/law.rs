//! The central law over the real thing: whatever a database looks like and whatever resources say, what a plan leads to
//! needs no plan. (`tests/law.rs` has the law over the model; the driver asserts it here after every pass.)
//!
//! A walk begins with tables and policies that somebody made, and goes through several random sets of resources, each met
//! by what the one before has left. `LAW_SEED` repeats a walk, `LAW_WALKS` looks further.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::{Map, Value, json};
use timescaledb_policy_operator::{api::status::Reason, error::Class, plan::step::Verdict};

use super::driver::{Database, aggregate, compression, database, hypertable, retention};
use crate::support::Result;

const TABLES: [&str; 2] = ["warm", "Cold \"one\""];
/// Sets of resources in one walk.
const STEPS: usize = 4;

#[tokio::test]
async fn what_a_plan_leads_to_needs_no_plan_from_any_start() -> Result<()> {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (seed, walks) = (given("LAW_SEED"), given("LAW_WALKS").unwrap_or(4));
    let mut seen = BTreeMap::new();
    for walk in 0..walks {
        let seed = seed.unwrap_or_else(|| fastrand::u64(..)).wrapping_add(walk);
        eprintln!("LAW_SEED={seed}");
        let db = Database::shared().await?;
        random_walk(&db, &mut Rng::with_seed(seed), &mut seen)
            .await
            .map_err(|error| format!("LAW_SEED={seed}: {error}"))?;
    }
    eprintln!("{seen:#?}");
    assert!(seen.get("in sync").is_some_and(|count| *count > 0), "{seen:?}");
    Ok(())
}

async fn random_walk(db: &Database, random: &mut Rng, seen: &mut BTreeMap<String, usize>) -> Result<()> {
    for table in TABLES {
        start(db, table, random).await?;
    }
    for _ in 0..STEPS {
        let resources = resources(random);
        // Rejections are answers; what the server refuses although the planner took it is not.
        let outcome = db.attempt(resources.clone()).await?;
        for (claim, failure) in &outcome.failures {
            let foreseeable = failure.class == Class::Transient || failure.reason == Reason::InvalidSpec;
            assert!(foreseeable, "{claim}: {failure:?} of {resources:#?}");
        }
        let mut saw = |what: String| *seen.entry(what).or_default() += 1;
        outcome.actions().into_iter().for_each(|action| saw(action.to_owned()));
        outcome.failures.values().for_each(|failure| saw(format!("failed: {}", failure.reason)));
        for (claim, verdict) in &outcome.plan.verdicts {
            saw(match verdict {
                Verdict::InSync => "in sync".to_owned(),
                Verdict::Rejected(rejection) => format!("rejected: {}", rejection.reason),
                other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
            });
            let settled = !matches!(verdict, Verdict::Pending | Verdict::InProgress(_));
            assert!(settled || outcome.failures.contains_key(claim), "{claim}: {verdict:?} of {resources:#?}");
        }
    }
    Ok(())
}

/// A table as somebody may have left it.
async fn start(db: &Database, table: &str, random: &mut Rng) -> Result<()> {
    let quoted = format!("\"{}\"", table.replace('"', "\"\""));
    let regclass = format!("'$schema.{}'", quoted.replace('\'', "''"));
    let mut script =
        format!("CREATE TABLE {quoted} (ts timestamptz NOT NULL, device int NOT NULL, value float8, name text);");
    if random.bool() {
        script.push_str(&format!(
            "INSERT INTO {quoted} SELECT now() - n * interval '1 day', n % 3, n, 'a' FROM generate_series(0, 20) n;"
        ));
    }
    if random.bool() {
        script.push_str(&format!("CREATE INDEX ON {quoted} (device, ts DESC);"));
    }
    if random.u8(..4) > 0 {
        script.push_str(&format!(
            "SELECT create_hypertable({regclass}, 'ts', chunk_time_interval => interval '{}', migrate_data => true);",
            pick(random, &["1 day", "7 days", "36 hours"])
        ));
        if random.bool() {
            script.push_str(&format!(
                "ALTER TABLE {quoted} SET (timescaledb.compress, timescaledb.compress_segmentby = '{}');",
                pick(random, &["", "device", "device, name"])
            ));
            if random.bool() {
                script.push_str(&format!("SELECT add_compression_policy({regclass}, interval '10 days', initial_start => '2036-01-01 00:00Z');"));
            }
        }
        if random.bool() {
            script.push_str(&format!(
                "SELECT add_retention_policy({regclass}, interval '{}', initial_start => '2036-01-01 00:00Z');",
                pick(random, &["30 days", "90 days"])
            ));
        }
    }
    db.run(&script).await.map_err(|error| format!("{error:?} in {script}").into())
}

fn pick<'a>(random: &mut Rng, all: &[&'a str]) -> &'a str {
    all[random.usize(..all.len())]
}

/// A map with some of the fields.
fn some(random: &mut Rng, fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = fields.into_iter().filter(|_| random.bool());
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn schedule(random: &mut Rng) -> Value {
    let interval = json!(pick(random, &["1 hour", "12:00:00", "P1D"]));
    let zone = json!(pick(random, &["Europe/Berlin", "UTC"]));
    let retries = json!(random.i32(-1..4));
    some(
        random,
        [
            ("interval", interval),
            ("initialStart", json!("2036-01-01T02:00:00Z")),
            ("timezone", zone),
            ("maxRuntime", json!("1 hour")),
            ("maxRetries", retries),
            ("retryPeriod", json!("10 minutes")),
        ],
    )
}

fn resources(random: &mut Rng) -> Vec<Value> {
    let percent = [0, 25, 100][random.usize(..3)];
    let mode = if random.u8(..8) == 0 { "Observe" } else { "Enforce" };
    let defaults = json!({"chunkInterval": "2 days", "compressAfter": "20 days", "dropAfter": "60 days"});
    let extra = some(random, [("defaults", defaults)]);
    let mut spec = json!({"mode": mode, "guards": {"maxImmediateDropPercent": percent}});
    if let (Value::Object(spec), Value::Object(extra)) = (&mut spec, extra) {
        spec.extend(extra);
    }
    let mut resources = vec![database(spec)];
    for (i, table) in TABLES.into_iter().enumerate() {
        resources.extend(of_table(random, i, table));
    }
    resources
}

fn of_table(random: &mut Rng, i: usize, table: &str) -> Vec<Value> {
    let name = format!("t{i}");
    let named = |mut resource: Value| {
        resource["metadata"]["name"] = name.clone().into();
        resource
    };
    let mut resources = Vec::new();
    let descending = if random.bool() { "Desc" } else { "Asc" };
    let indexes: Vec<Value> = [
        json!({"name": format!("i{i}_value"), "columns": [{"name": "value", "order": descending}], "where": pick(random, &["value > 0", "value > 1 -- so"])}),
        json!({"name": format!("i{i}_name"), "columns": [{"name": "name"}, {"name": "ts", "order": "Desc", "nulls": "Last"}], "include": ["value"]}),
        json!({"name": format!("i{i}_brin"), "method": "Brin", "columns": [{"name": "ts"}]}),
        json!({"name": format!("i{i}_unique"), "unique": true, "columns": [{"name": "device"}, {"name": "ts"}, {"name": "name"}]}),
    ]
    .into_iter()
    .filter(|_| random.u8(..3) == 0)
    .collect();
    let interval = json!(pick(random, &["1 day", "P7D", "36:00:00"]));
    let columns: BTreeSet<&str> = ["ts", "device"].into_iter().filter(|_| random.bool()).collect();
    let partitions = random.i32(1..5);
    let fields = some(
        random,
        [
            ("chunkInterval", interval),
            ("spacePartitions", json!([{"column": "device", "partitions": partitions}])),
            ("chunkSkipping", json!(columns)),
            ("indexes", json!(indexes)),
            ("migrateData", json!(true)),
        ],
    );
    resources.push(named(hypertable(table, fields)));
    let target = json!({"kind": "Hypertable", "name": name});
    if random.bool() {
        let (after, created) = (json!(pick(random, &["7 days", "1 mon", "168:00:00"])), json!("30 days"));
        let age = if random.u8(..4) == 0 { ("compressCreatedBefore", created) } else { ("compressAfter", after) };
        let segments: &[&str] = [&[][..], &["device"], &["device", "name"]][random.usize(..3)];
        let (schedule, paused) = (schedule(random), random.bool());
        let mut fields = some(
            random,
            [
                age,
                ("segmentBy", json!(segments)),
                ("orderBy", json!([{"column": "value", "order": descending}, {"column": "ts"}])),
                ("mergeInterval", json!("14 days")),
                ("schedule", schedule),
                ("paused", json!(paused)),
            ],
        );
        fields["targetRef"] = target.clone();
        let mut resource = compression(table, fields.clone());
        if fields.get("compressAfter").is_none() {
            resource["spec"].as_object_mut().map(|spec| spec.remove("compressAfter"));
        }
        resources.push(named(resource));
    }
    if random.bool() {
        let after = json!(pick(random, &["10 days", "60 days", "P1Y"]));
        let (schedule, paused) = (schedule(random), random.bool());
        let mut fields = some(random, [("schedule", schedule), ("paused", json!(paused))]);
        fields["targetRef"] = target;
        fields["dropAfter"] = after;
        resources.push(named(retention(table, fields)));
    }
    if random.bool() {
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        let (bucket, measure) = (pick(random, &["1 hour", "1 day"]), pick(random, &["avg(value)", "max(value)"]));
        let query = format!(
            "SELECT time_bucket('{bucket}', ts) AS bucket, device, {measure} AS value FROM {quoted} GROUP BY 1, 2"
        );
        let start = json!(pick(random, &["3 days", "9 days", "40 days"]));
        let (every, real_time) = (json!({"interval": "1 hour", "initialStart": "2036-01-01T02:00:00Z"}), random.bool());
        let mut refresh =
            json!({"startOffset": start, "endOffset": "1 hour", "schedule": every, "paused": random.u8(..4) == 0});
        if random.bool() {
            refresh["bucketsPerBatch"] = random.i32(0..20).into();
        }
        let change = pick(random, &["Refuse", "Rebuild"]);
        let fields = some(
            random,
            [
                ("realTime", json!(real_time)),
                ("refreshPolicy", refresh),
                ("chunkInterval", json!("30 days")),
                ("onQueryChange", json!(change)),
                (
                    "indexes",
                    json!([{"name": format!("a{i}_value"), "columns": [{"name": "value", "order": descending}]}]),
                ),
            ],
        );
        resources.push(aggregate(&format!("by_{i}"), &query, fields));
    }
    resources
}
