//! Policies that select their targets by labels: one resource for many tables, in several databases.

use serde_json::Value;

use super::{
    database::Database,
    eventually, kstatus, manifests,
    relay::Relay,
    stage::{KINDS, Stage, condition, has_finalizer},
};
use crate::support::Result;

/// A hypertable of the database `second`.
fn of_second(name: &str) -> String {
    manifests::hypertable(name, "").replace("name: plant", "name: second")
}

/// What the status lists of the targets: name, reason, and the age in force.
fn targets(object: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = object["status"]["targets"].as_array().into_iter().flatten();
    listed.map(|target| (text(&target["name"]), text(&target["reason"]), text(&target["after"]))).collect()
}

fn target(name: &str, reason: &str, after: &str) -> (String, String, String) {
    (name.to_owned(), reason.to_owned(), after.to_owned())
}

/// Two databases, each with its secret and these tables.
async fn two_databases(stage: &Stage, tables: [&[&str]; 2]) -> Result<[Database; 2]> {
    let (plant, second) = (Database::start().await?, Database::start().await?);
    for (database, tables) in [&plant, &second].into_iter().zip(tables) {
        for table in tables {
            database.run(&manifests::table(table)).await?;
        }
    }
    let (_, port, _) = second.address()?;
    stage.secret(&plant).await?;
    stage.secret_named("second", &second, port).await?;
    Ok([plant, second])
}

#[tokio::test]
async fn one_policy_keeps_the_tables_of_two_databases() -> Result<()> {
    let mut stage = Stage::own("fleet").await?;
    stage.start_operator().await?;
    let [plant, second] = two_databases(&stage, [&["a", "other"], &["b"]]).await?;
    let object = "retentionpolicy/fleet";
    let fleet = manifests::fleet("RetentionPolicy", "fleet", "raw", "");
    stage
        .apply(&[
            manifests::database("plant", "defaults: {dropAfter: 1 year}"),
            manifests::database("second", "defaults: {dropAfter: 2 years}"),
            manifests::labelled("raw", &manifests::hypertable("a", "")),
            manifests::hypertable("other", ""),
            manifests::labelled("raw", &of_second("b")),
            fleet,
        ])
        .await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    let found = stage
        .until(object, "both targets", |found| {
            targets(found) == [target("a", "InSync", "1 year"), target("b", "InSync", "2 years")]
        })
        .await?;
    let status = &found["status"];
    assert_eq!((&status["matched"], &status["matchedInSync"]), (&2.into(), &2.into()), "{status}");
    assert!(status["dropAfter"].is_null() && status["target"].is_null(), "{status}");
    let job = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'";
    assert_eq!(status["targets"][0]["jobId"], plant.value::<i32>(job).await?);
    assert_eq!(status["targets"][1]["jobId"], second.value::<i32>(job).await?);
    assert_eq!(status["targets"][1]["database"], "second");
    assert!(plant.value::<bool>(&format!("SELECT {}", Database::drops_after("a", "1 year"))).await?);
    assert!(second.value::<bool>(&format!("SELECT {}", Database::drops_after("b", "2 years"))).await?);
    assert_eq!(stage.events(object, "Applied").await?.len(), 2, "one for each target");
    assert!(has_finalizer(&found));
    let row = stage.kubectl("get retentionpolicy fleet --no-headers").await?;
    assert_eq!(row.split_whitespace().take(2).collect::<Vec<_>>(), ["fleet", "2"], "{row}");

    // Nothing is written while nothing changes, nor by an operator that starts anew.
    stage.sizes_told().await?;
    stage.operator()?.passes(2).await?;
    let versions = stage.versions().await?;
    let before = stage.operator()?.metrics().await?;
    let after = stage.operator()?.passes(6).await?;
    assert_eq!(after.sum("api_writes_total", ""), before.sum("api_writes_total", ""));
    assert!(stage.take_operator()?.terminate().await?.success());
    stage.start_operator().await?;
    let metrics = stage.operator()?.passes(6).await?;
    for counter in ["api_writes_total", "steps_total", "drift_total", "errors_total"] {
        assert_eq!(metrics.sum(counter, ""), 0.0, "{counter}");
    }
    assert_eq!(stage.versions().await?, versions);

    // Who has the label belongs to it, who loses it is let go of as it is.
    stage.kubectl("label hypertable other tier=raw").await?;
    stage.until(object, "three targets", |found| found["status"]["matchedInSync"] == 3).await?;
    assert_eq!(plant.policies("retention").await?, 2);
    stage.kubectl("label hypertable b tier-").await?;
    let found = stage.until(object, "two targets", |found| found["status"]["matched"] == 2).await?;
    assert_eq!(found["status"]["dropAfter"], "1 year", "the same for all: {found}");
    let lost = stage.event(object, "Orphaned").await?;
    assert_eq!(
        lost,
        "Hypertable/b is not selected any more: the retention policy of plant.b stays in the database as it is"
    );
    stage.operator()?.passes(4).await?;
    assert_eq!(stage.events(object, "Orphaned").await?.len(), 1);
    assert_eq!(second.policies("retention").await?, 1);

    assert_eq!(stage.events(object, "Applied").await?.len(), 3, "one that joins is no drift");

    // Drift is one target's alone.
    plant.run("SELECT remove_retention_policy('plant.other')").await?;
    plant.until(&Database::drops_after("other", "1 year")).await?;
    let drift = stage.event(object, "DriftCorrected").await?;
    assert!(drift.contains("plant.other"), "{drift}");

    // A default that changes does so for all that use it.
    stage.patch("timescaledatabase/plant", r#"{"defaults": {"dropAfter": "3 years"}}"#).await?;
    for table in ["a", "other"] {
        plant.until(&Database::drops_after(table, "3 years")).await?;
    }
    stage.until(object, "the new age", |found| found["status"]["dropAfter"] == "3 years").await?;
    assert_eq!(stage.events(object, "DriftCorrected").await?.len(), 1);

    stage.kubectl("label hypertable b tier=raw").await?;
    stage.until(object, "three targets", |found| found["status"]["matchedInSync"] == 3).await?;

    // Deleted while the operator is down.
    stage.take_operator()?.kill();
    stage.kubectl("delete retentionpolicy fleet --wait=false").await?;
    stage.start_operator().await?;
    stage.gone(object).await?;
    assert_eq!((plant.policies("retention").await?, second.policies("retention").await?), (0, 0));
    stage.end().await?;
    plant.end().await?;
    second.end().await
}

#[tokio::test]
async fn sixty_targets_are_counted_and_fifty_listed_and_all_released() -> Result<()> {
    const TABLES: usize = 60;
    let mut stage = Stage::own("fleet-of-sixty").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    let tables: Vec<_> = (0..TABLES).map(|n| format!("readings{n}")).collect();
    database.run(&tables.iter().map(|table| manifests::table(table)).collect::<String>()).await?;
    let mut all: Vec<_> =
        tables.iter().map(|table| manifests::labelled("raw", &manifests::hypertable(table, ""))).collect();
    all.push(manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 1 year"));
    all.push(manifests::fleet("CompressionPolicy", "fleet", "raw", "compressAfter: 300 days"));
    stage.manage(&database, &all).await?;
    for object in ["retentionpolicy/fleet", "compressionpolicy/fleet"] {
        let found = stage.until(object, "all are in sync", |found| found["status"]["matchedInSync"] == TABLES).await?;
        assert_eq!(targets(&found).len(), 50);
        assert_eq!(stage.events(object, "Applied").await?.len(), TABLES);
    }
    stage.sizes_told().await?;
    stage.operator()?.passes(1).await?;
    let (versions, before) = (stage.versions().await?, stage.operator()?.metrics().await?);
    let after = stage.operator()?.passes(3).await?;
    assert_eq!(after.sum("api_writes_total", ""), before.sum("api_writes_total", ""));
    assert_eq!(stage.versions().await?, versions);

    // A folder is deleted in any order: the hypertables are gone before the policies.
    stage.delete(&all).await?;
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (0, 0));
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_target_whose_resource_is_deleted_is_remembered_and_released_in_the_end() -> Result<()> {
    let mut stage = Stage::own("fleet-gone").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("a"), manifests::table("b")].concat()).await?;
    let (a, b) = ("a", "b");
    let labelled = |name: &str| manifests::labelled("raw", &manifests::hypertable(name, ""));
    let fleet = manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 1 year");
    let object = "retentionpolicy/fleet";
    stage.manage(&database, &[labelled(a), labelled(b), fleet.clone()]).await?;
    stage.until(object, "two targets", |found| found["status"]["matchedInSync"] == 2).await?;

    stage.delete(&[labelled(b)]).await?;
    let gone = [target("b", "TargetNotFound", ""), target("a", "InSync", "1 year")];
    let found = stage.until(object, "b is gone", |found| targets(found) == gone).await?;
    assert_eq!((&found["status"]["matched"], kstatus::of(&found)), (&1.into(), "Current"));
    let lost = stage.event(object, "Orphaned").await?;
    assert!(lost.starts_with("Hypertable/b is deleted: the retention policy of plant.b stays"), "{lost}");
    assert_eq!(database.policies("retention").await?, 2, "absence drops nothing");

    // Not only in the operator's memory; and the last one may go as well.
    stage.sizes_told().await?;
    assert!(stage.take_operator()?.terminate().await?.success());
    stage.start_operator().await?;
    let metrics = stage.operator()?.passes(3).await?;
    assert_eq!(metrics.sum("api_writes_total", ""), 0.0);
    stage.delete(&[labelled(a)]).await?;
    let message = stage.says(object, "TargetNotFound").await?;
    assert!(message.contains("label"), "{message}");
    assert_eq!(stage.get(object).await?["status"]["matched"], 0);
    assert_eq!(stage.events(object, "Orphaned").await?.len(), 2);

    // One that comes back is a target again.
    stage.apply(&[labelled(b)]).await?;
    stage.until(object, "b is back", |found| found["status"]["matchedInSync"] == 1).await?;
    stage.delete(&[fleet]).await?;
    assert_eq!(database.policies("retention").await?, 0, "of both");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn who_names_a_target_goes_before_who_selects_it_and_the_older_before_the_younger() -> Result<()> {
    let stage = Stage::shared("fleet-precedence").await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("a"), manifests::table("b")].concat()).await?;
    let labelled = |name: &str| manifests::labelled("raw", &manifests::hypertable(name, ""));
    let older = manifests::fleet("RetentionPolicy", "older", "raw", "dropAfter: 2 years");
    stage.manage(&database, &[labelled("a"), labelled("b"), older.clone()]).await?;
    let job = "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'a' AND proc_name = 'policy_retention'";
    let id: i32 = database.value(job).await?;
    stage.older("retentionpolicy/older").await?;

    // By name this one would come first.
    stage.apply(&[manifests::fleet("RetentionPolicy", "later", "raw", "dropAfter: 1 year")]).await?;
    let message = stage.says("retentionpolicy/later", "Conflicted").await?;
    for words in ["2 of 2 selected targets", "Hypertable/a", "Hypertable/b", "RetentionPolicy/older"] {
        assert!(message.contains(words), "{message} lacks {words}");
    }
    assert!(!has_finalizer(&stage.get("retentionpolicy/later").await?));
    stage.ready("retentionpolicy/older").await?;

    // The one that names a beats both, though it is the youngest.
    let named = manifests::retention("a", "dropAfter: 5 years");
    stage.apply(std::slice::from_ref(&named)).await?;
    stage.ready("retentionpolicy/a").await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("a", "5 years"))).await?);
    let overridden = [target("a", "Overridden", "2 years"), target("b", "InSync", "2 years")];
    let found = stage.until("retentionpolicy/older", "overridden", |found| targets(found) == overridden).await?;
    assert_eq!(kstatus::of(&found), "Current");
    let said = found["status"]["targets"][0]["message"].as_str().unwrap_or_default();
    assert_eq!(said, "RetentionPolicy/a names this target");
    let message = stage
        .until("retentionpolicy/later", "one conflict is left", |found| {
            condition(found, "Ready")["message"].as_str().is_some_and(|text| text.starts_with("1 of 2"))
        })
        .await?;
    assert_eq!(condition(&message, "Ready")["reason"], "Conflicted");

    // Whoever is left takes over, without a moment without a policy.
    stage.delete(&[named]).await?;
    database.until(&Database::drops_after("a", "2 years")).await?;
    eventually("an event", async || {
        Ok((stage.events("retentionpolicy/older", "Applied").await?.len() == 3).then_some(()))
    })
    .await?;
    stage.delete(&[older]).await?;
    stage.ready("retentionpolicy/later").await?;
    for table in ["a", "b"] {
        assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after(table, "1 year"))).await?);
    }
    assert_eq!(database.value::<i32>(job).await?, id, "the job was handed over, not made anew");
    stage.kubectl("delete retentionpolicy later --timeout=120s").await?;
    assert_eq!(database.policies("retention").await?, 0);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_database_that_is_down_concerns_its_targets_alone() -> Result<()> {
    let stage = Stage::shared("fleet-down").await?;
    let [plant, second] = two_databases(&stage, [&["a"], &["b"]]).await?;
    let relay = Relay::to(&second).await?;
    stage.secret_named("second", &second, relay.port()).await?;
    let fleet = manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 1 year");
    let object = "retentionpolicy/fleet";
    stage
        .apply(&[
            manifests::database("plant", ""),
            manifests::database("second", ""),
            manifests::labelled("raw", &manifests::hypertable("a", "")),
            manifests::labelled("raw", &of_second("b")),
            fleet.clone(),
        ])
        .await?;
    stage.until(object, "both", |found| found["status"]["matchedInSync"] == 2).await?;

    relay.close();
    let down = [target("b", "DatabaseUnreachable", "1 year"), target("a", "InSync", "1 year")];
    let found = stage.until(object, "b is out of reach", |found| targets(found) == down).await?;
    assert_eq!(kstatus::of(&found), "InProgress");
    assert!(found["status"]["targets"][0]["jobId"].is_number(), "what was seen of it stays: {found}");
    let message = condition(&found, "Ready")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("1 of 2 selected targets") && message.contains("Hypertable/b"), "{message}");
    stage.patch(object, r#"{"dropAfter": "2 years"}"#).await?;
    plant.until(&Database::drops_after("a", "2 years")).await?;

    // Deleted now, it is released where that is possible, and stays until it is everywhere.
    stage.kubectl("delete retentionpolicy fleet --wait=false").await?;
    eventually("released in the one", async || Ok((plant.policies("retention").await? == 0).then_some(()))).await?;
    assert!(has_finalizer(&stage.get(object).await?));
    relay.open();
    stage.gone(object).await?;
    assert_eq!(second.policies("retention").await?, 0);

    // The same with a database that is never seen again: its resource lets go.
    stage.apply(std::slice::from_ref(&fleet)).await?;
    stage.until(object, "both again", |found| found["status"]["matchedInSync"] == 2).await?;
    relay.close();
    stage.kubectl("delete retentionpolicy fleet --wait=false").await?;
    eventually("released in the one", async || Ok((plant.policies("retention").await? == 0).then_some(()))).await?;
    stage.patch("timescaledatabase/second", r#"{"deletionPolicy": "Orphan"}"#).await?;
    stage.kubectl("delete timescaledatabase second --timeout=120s").await?;
    stage.gone(object).await?;
    assert_eq!(second.policies("retention").await?, 1, "nobody could reach it");
    relay.open();
    stage.end().await?;
    plant.end().await?;
    second.end().await
}

#[tokio::test]
async fn a_database_that_goes_takes_nothing_from_the_policy_in_another() -> Result<()> {
    let stage = Stage::shared("fleet-orphan").await?;
    let [plant, second] = two_databases(&stage, [&["a"], &["b"]]).await?;
    let fleet = manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 1 year");
    let object = "retentionpolicy/fleet";
    let second_database = manifests::database("second", "deletionPolicy: Orphan");
    stage
        .apply(&[
            manifests::database("plant", ""),
            second_database.clone(),
            manifests::labelled("raw", &manifests::hypertable("a", "")),
            manifests::labelled("raw", &of_second("b")),
            fleet.clone(),
        ])
        .await?;
    stage.until(object, "both", |found| found["status"]["matchedInSync"] == 2).await?;
    stage.delete(&[second_database]).await?;
    let left = [target("b", "DatabaseNotFound", "1 year"), target("a", "InSync", "1 year")];
    let found = stage.until(object, "b has no database", |found| targets(found) == left).await?;
    assert!(has_finalizer(&found), "the other database still needs it");
    stage.delete(&[fleet]).await?;
    assert_eq!((plant.policies("retention").await?, second.policies("retention").await?), (0, 1));
    stage.end().await?;
    plant.end().await?;
    second.end().await
}

#[tokio::test]
async fn one_annotation_approves_the_plans_of_several_targets() -> Result<()> {
    let stage = Stage::shared("fleet-approval").await?;
    let database = Database::start().await?;
    for table in ["a", "b"] {
        database.run(&manifests::table_of_days(table, 12)).await?;
    }
    let labelled = |name: &str| {
        manifests::labelled("raw", &manifests::hypertable(name, "chunkInterval: 1 day, migrateData: true"))
    };
    stage.manage(&database, &[labelled("a"), labelled("b")]).await?;
    let object = "retentionpolicy/fleet";
    stage.apply(&[manifests::fleet("RetentionPolicy", "fleet", "raw", "dropAfter: 6 days")]).await?;
    let message = stage.says(object, "ApprovalRequired").await?;
    assert_eq!(message.matches("kubectl annotate").count(), 1, "{message}");
    let digests = stage.get(object).await?["status"]["plan"]["digest"].as_str().unwrap_or_default().to_owned();
    assert_eq!(digests.split(',').count(), 2, "{digests}");
    assert_eq!(database.policies("retention").await?, 0);
    stage.obey(&message).await?;
    stage.ready(object).await?;
    assert_eq!(database.policies("retention").await?, 2);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_policy_selects_aggregates_too() -> Result<()> {
    let stage = Stage::shared("fleet-aggregates").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let refresh = "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    let hourly = manifests::labelled("rollup", &manifests::aggregate("hourly", "readings", "1 hour", refresh));
    let fleet = manifests::fleet("RetentionPolicy", "fleet", "rollup", "dropAfter: 3 years")
        .replace("kind: Hypertable", "kind: ContinuousAggregate");
    let readings = manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true");
    stage.manage(&database, &[readings, hourly, fleet.clone()]).await?;
    assert_eq!(targets(&stage.get("retentionpolicy/fleet").await?), [target("hourly", "InSync", "3 years")]);
    assert_eq!(database.policies("retention").await?, 1);
    stage.delete(&[fleet]).await?;
    assert_eq!(database.policies("retention").await?, 0);
    stage.end().await?;
    database.end().await
}

/// The example, with the commands of docs/guide/fleet.md. `--nocapture` shows what they print.
#[tokio::test]
async fn the_example_does_what_the_manual_shows() -> Result<()> {
    let stage = Stage::shared("fleet-example").await?;
    let database = Database::start().await?;
    let here = |text: &str| text.replace("public.", "plant.").replace("schema: public", "schema: plant");
    database.run(&here(include_str!("../../../examples/simple-fleet.sql"))).await?;
    let (_, port, _) = database.address()?;
    stage.secret_named("readings-db", &database, port).await?;
    stage.apply(&[here(include_str!("../../../examples/simple-fleet.yaml"))]).await?;
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    stage.until("retentionpolicy/raw", "both", |found| found["status"]["matchedInSync"] == 2).await?;
    let show = async |words: &str| {
        let printed = stage.kubectl(words).await?;
        println!("$ kubectl {words}\n{printed}");
        Ok::<_, crate::support::Error>(printed)
    };
    let targets = "get retentionpolicy raw -o jsonpath={range.status.targets[*]}{.name}{\"\\t\"}{.after}{\"\\t\"}{.reason}{\"\\t\"}{.message}{\"\\n\"}{end}";
    show("get retentionpolicies,compressionpolicies").await?;
    let printed = show(targets).await?;
    assert!(
        printed.contains("pressures\t1 year\tOverridden\tRetentionPolicy/pressures names this target"),
        "{printed}"
    );
    assert!(printed.contains("temperatures\t1 year\tInSync"), "{printed}");
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("pressures", "5 years"))).await?);
    show("label hypertable temperatures tier-").await?;
    stage.until("retentionpolicy/raw", "one", |found| found["status"]["matched"] == 1).await?;
    stage.event("retentionpolicy/raw", "Orphaned").await?;
    show("events --for retentionpolicy/raw").await?;
    show("get retentionpolicies").await?;
    show("label hypertable temperatures tier=raw").await?;
    stage.until("retentionpolicy/raw", "both", |found| found["status"]["matched"] == 2).await?;
    show("delete hypertable temperatures").await?;
    stage.until("retentionpolicy/raw", "one", |found| found["status"]["matched"] == 1).await?;
    show(targets).await?;
    stage.end().await?;
    database.end().await
}
