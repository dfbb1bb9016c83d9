//! What cannot be carried out is named with its remedy, and concerns nobody else.

use super::{
    database::Database,
    kstatus, manifests,
    stage::{KINDS, Stage},
};
use crate::support::Result;

/// What a person does about a mistake.
enum Cure {
    Run(&'static str),
    AsSuperuser(String),
    Patch(&'static str),
    Apply(String),
}

#[tokio::test]
async fn every_mistake_is_named_with_its_remedy_while_the_others_go_on() -> Result<()> {
    let stage = Stage::shared("mistakes").await?;
    let database = Database::start().await?;
    for table in ["good", "absent", "covered", "misnamed"] {
        database.run(&manifests::table(table)).await?;
    }
    database.run(&manifests::table_of_days("filled", 3)).await?;
    database.run("CREATE TABLE plant.keyed (id int PRIMARY KEY, ts timestamptz NOT NULL)").await?;
    let superuser = database.superuser().await?;

    let of_absent = "targetRef: {kind: Hypertable, name: absent}, compressAfter: 1 year";
    let by_time = "databaseRef: {name: plant}, schema: plant, table: misnamed, timeColumn: time";
    let broken = "databaseRef: {name: plant}, schema: plant, name: broken, query: SELECT nonsense FROM plant.good";
    let mut mistakes = vec![
        (
            "hypertable/late",
            manifests::hypertable("late", ""),
            "TableNotFound",
            &["plant.late does not exist", "create it"][..],
            Cure::Run("CREATE TABLE plant.late (ts timestamptz NOT NULL)"),
        ),
        (
            "hypertable/keyed",
            manifests::hypertable("keyed", ""),
            "IncompatibleIndex",
            &["keyed_pkey", "make it (id, ts)"],
            Cure::Run("ALTER TABLE plant.keyed DROP CONSTRAINT keyed_pkey, ADD PRIMARY KEY (id, ts)"),
        ),
        (
            "hypertable/filled",
            manifests::hypertable("filled", ""),
            "TableNotEmpty",
            &["spec.migrateData: true"],
            Cure::Patch(r#"{"migrateData": true}"#),
        ),
        (
            "hypertable/misnamed",
            manifests::resource("Hypertable", "misnamed", by_time),
            "InvalidSpec",
            &["has no column time; it has", "ts"],
            Cure::Run("ALTER TABLE plant.misnamed RENAME ts TO time"),
        ),
        (
            "retentionpolicy/good",
            manifests::retention("good", "dropAfter: 7 lightyears"),
            "InvalidSpec",
            &["spec.dropAfter", "lightyears", "use years, months"],
            Cure::Patch(r#"{"dropAfter": "7 years"}"#),
        ),
        (
            "compressionpolicy/absent",
            manifests::resource("CompressionPolicy", "absent", of_absent),
            "TargetNotFound",
            &["create it"],
            Cure::Apply(manifests::hypertable("absent", "")),
        ),
        (
            "continuousaggregate/broken",
            manifests::resource("ContinuousAggregate", "broken", broken),
            "InvalidSpec",
            &["spec.query", "\"nonsense\" does not exist"],
            Cure::Patch(r#"{"query": "SELECT time_bucket('1 day', ts) AS day, count(*) FROM plant.good GROUP BY 1"}"#),
        ),
        (
            "retentionpolicy/covered",
            manifests::retention("covered", "dropAfter: 10 days"),
            "UnsafePolicy",
            &["plant.daily", "dropAfter must be longer than 30 days"],
            Cure::Patch(r#"{"dropAfter": "60 days"}"#),
        ),
    ];
    superuser.batch_execute(&manifests::table("theirs")).await?;
    mistakes.push((
        "hypertable/theirs",
        manifests::hypertable("theirs", ""),
        "PermissionDenied",
        &["theirs", "must own the table"],
        Cure::AsSuperuser(format!("ALTER TABLE plant.theirs OWNER TO {}", database.owner()?)),
    ));
    let sound = [
        manifests::hypertable("good", "chunkInterval: 1 day"),
        manifests::hypertable("covered", ""),
        manifests::aggregate(
            "daily",
            "covered",
            "1 day",
            "refreshPolicy: {startOffset: 30 days, schedule: {interval: 1 day}}",
        ),
    ];
    stage.manage(&database, &sound).await?;
    stage.apply(&mistakes.iter().map(|(_, manifest, ..)| manifest.clone()).collect::<Vec<_>>()).await?;
    for (object, _, reason, words, _) in &mistakes {
        let message = stage.says(object, reason).await?;
        for word in *words {
            assert!(message.contains(word), "{object}: {message} lacks {word}");
        }
        assert_eq!(kstatus::of(&stage.get(object).await?), "Failed", "{object}");
    }
    stage.patch("hypertable/good", r#"{"chunkInterval": "2 days"}"#).await?;
    database.until(&Database::chunks_span("good", "2 days")).await?;
    stage.ready("hypertable/good continuousaggregate/daily timescaledatabase/plant").await?;

    for (object, _, _, _, cure) in &mistakes {
        match cure {
            Cure::Run(statement) => database.run(statement).await?,
            Cure::AsSuperuser(statement) => superuser.batch_execute(statement).await?,
            Cure::Patch(spec) => stage.patch(object, spec).await?,
            Cure::Apply(manifest) => stage.apply(std::slice::from_ref(manifest)).await?,
        }
    }
    stage.ready(&format!("--all {}", KINDS.join(","))).await?;
    for (object, _, reason, ..) in &mistakes {
        let events = stage.events(object, reason).await?;
        assert_eq!(events.len(), 1, "once, not at every pass: {object}: {events:#?}");
    }
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_table_out_of_reach_concerns_only_its_own_policies() -> Result<()> {
    let stage = Stage::shared("out-of-reach").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("good")).await?;
    let superuser = database.superuser().await?;
    superuser
        .batch_execute(
            "CREATE SCHEMA walled; CREATE TABLE walled.readings (ts timestamptz NOT NULL);
             SELECT public.create_hypertable('walled.readings', 'ts')",
        )
        .await?;
    stage.manage(&database, &[manifests::hypertable("good", "chunkInterval: 1 day")]).await?;
    let walled = "databaseRef: {name: plant}, schema: walled, table: readings, timeColumn: ts";
    let policies =
        [manifests::resource("Hypertable", "walled", walled), manifests::retention("walled", "dropAfter: 1 year")];
    stage.apply(&policies).await?;
    let message = stage.says("retentionpolicy/walled", "PermissionDenied").await?;
    assert!(message.contains("walled"), "{message}");

    stage.patch("hypertable/good", r#"{"chunkInterval": "2 days"}"#).await?;
    database.until(&Database::chunks_span("good", "2 days")).await?;
    stage.ready("timescaledatabase/plant hypertable/good").await?;
    stage.end().await?;
    superuser.batch_execute("DROP SCHEMA walled CASCADE").await?;
    drop(superuser);
    database.end().await
}

#[tokio::test]
async fn a_policy_of_time_on_a_hypertable_of_integers_concerns_nobody_else() -> Result<()> {
    let stage = Stage::shared("integer-time").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("good")).await?;
    database
        .run(
            "CREATE TABLE plant.counted (ts bigint NOT NULL);
             SELECT public.create_hypertable('plant.counted', 'ts', chunk_time_interval => 1000)",
        )
        .await?;
    stage.manage(&database, &[manifests::hypertable("good", "chunkInterval: 1 day")]).await?;
    stage.apply(&[manifests::hypertable("counted", ""), manifests::retention("counted", "dropAfter: 1 year")]).await?;
    let message = stage.says("retentionpolicy/counted", "InvalidSpec").await?;
    assert!(message.contains("plant.counted"), "{message}");

    stage.patch("hypertable/good", r#"{"chunkInterval": "2 days"}"#).await?;
    database.until(&Database::chunks_span("good", "2 days")).await?;
    stage.ready("timescaledatabase/plant hypertable/good").await?;
    stage.end().await?;
    database.end().await
}
