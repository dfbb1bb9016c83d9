//! `plan`: what manifests would change, and nothing is.

use serde_json::Value;

use super::{argument, example, run, run_with};
use crate::support::{Result, process::Folder, timescaledb::TimescaleDb};

const TABLE: &str = "CREATE TABLE public.metric (ts timestamptz NOT NULL, device int NOT NULL, value float8)";

/// A hypertable with both policies.
pub const METRIC: &str = r#"apiVersion: timescaledb-policy.io/v1alpha1
kind: Hypertable
metadata: {name: metric}
spec:
  databaseRef: {name: plant}
  schema: public
  table: metric
  timeColumn: ts
  chunkInterval: 1 day
  migrateData: true
  indexes:
  - {name: metric_positive, columns: [{name: device}], where: "value > 0 -- and no more"}
---
apiVersion: timescaledb-policy.io/v1alpha1
kind: CompressionPolicy
metadata: {name: metric}
spec: {targetRef: {kind: Hypertable, name: metric}, compressAfter: 7 days, segmentBy: [device]}
---
apiVersion: timescaledb-policy.io/v1alpha1
kind: RetentionPolicy
metadata: {name: metric}
spec: {targetRef: {kind: Hypertable, name: metric}, dropAfter: 90 days}
"#;

#[tokio::test]
async fn the_plan_of_a_factory_is_shown_in_every_form_and_its_sql_brings_it_about() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = database.connect().await?;
    client.batch_execute(&std::fs::read_to_string(example("ms5/schema.sql"))?).await?;
    let (url, folder) = (database.url(), example("ms5"));
    let files = argument(&folder)?;

    let tree = run(&["plan", "-f", files], &url).await?.with_code(2);
    assert!(tree.stdout.contains("+ Hypertable/metric-hist"), "{}", tree.stdout);
    assert!(tree.stdout.contains("in chunks of 1 hour, in 4 partitions by metric_def_id, with 5 indexes"));
    assert!(tree.stdout.contains("Plan: 22 to create, 0 to change, 0 to remove, 7 to follow, 0 in sync."));
    assert!(!tree.stdout.contains('\x1b'), "no colours in a pipe");

    let json = run(&["plan", "-f", files, "-o", "json"], &url).await?.with_code(2);
    let json: Value = serde_json::from_str(&json.stdout)?;
    let summary = &json["databases"][0]["summary"];
    assert_eq!((&summary["create"], &summary["waiting"]), (&22.into(), &7.into()), "{summary}");
    let first = &json["databases"][0]["resources"][0];
    assert_eq!((&first["kind"], &first["state"]), (&"Hypertable".into(), &"pending".into()), "{first}");

    let markdown = run(&["plan", "-f", files, "-o", "markdown"], &url).await?.with_code(2);
    assert!(markdown.stdout.starts_with("### TimescaleDatabase factory/ms5"), "{}", markdown.stdout);
    assert_eq!(markdown.stdout.matches("<details>").count(), markdown.stdout.matches("</details>").count());

    // The statements are exactly those: run as they are they lead there, in as many rounds as the operator needs.
    for _ in 0..2 {
        let sql = run(&["plan", "-f", files, "--sql"], &url).await?.with_code(2);
        client.batch_execute(&sql.stdout).await?;
    }
    let after = run(&["plan", "-f", files], &url).await?.with_code(0);
    assert!(after.stdout.contains("In sync: nothing to do for 29 resources."), "{}", after.stdout);
    drop(client);
    database.stop().await
}

#[tokio::test]
async fn a_role_that_only_reads_can_plan_and_nothing_is_changed() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let client = database.connect().await?;
    client.batch_execute(TABLE).await?;
    let reader = format!("reader_{:016x}", fastrand::u64(..));
    database.run_script("role-observe.sql", &[("role", &reader), ("schema", "public")]).await?;
    let before = run_with(&["plan", "-f", "-"], Some(&database.url()), METRIC).await?.with_code(2);
    let seen = run_with(&["plan", "-f", "-"], Some(&database.url_as(&reader)), METRIC).await?.with_code(2);
    assert_eq!(seen.stdout, before.stdout, "as the owner sees it");
    // With every transaction read-only, too.
    client.batch_execute(&format!("ALTER ROLE {reader} SET default_transaction_read_only = on")).await?;
    let seen = run_with(&["plan", "-f", "-"], Some(&database.url_as(&reader)), METRIC).await?.with_code(2);
    assert_eq!(seen.stdout, before.stdout, "as the owner sees it");
    let tables = client.query("SELECT FROM timescaledb_information.hypertables", &[]).await?;
    assert_eq!(tables.len(), 0);
    client.batch_execute(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}")).await?;
    drop(client);
    database.stop().await
}

#[tokio::test]
async fn every_mistake_is_said_with_its_place_and_nothing_is_read_as_something_else() -> Result<()> {
    let database = TimescaleDb::start().await?;
    let url = database.url();
    let folder = Folder::new("manifests")?;
    let refused = async |text: &str| -> Result<String> {
        let output = run_with(&["plan", "-f", "-"], Some(&url), text).await?.with_code(1);
        assert_eq!(output.stdout, "", "errors are on standard error");
        Ok(output.stderr)
    };
    for (text, said) in [
        ("a: [", "-:1"),
        ("just a text", "-:1: no Kubernetes manifest"),
        (
            &METRIC.replace("chunkInterval", "chunkIntervall"),
            "-:9: Hypertable metric: spec.chunkIntervall: unknown field",
        ),
        (&METRIC.replace("migrateData: true", "migrateData: perhaps"), "-:10: Hypertable metric: spec.migrateData"),
        (
            &METRIC.replace("kind: Hypertable, name: metric}, dropAfter", "kind: Hypertable, name: other}, dropAfter"),
            "there is no Hypertable other",
        ),
        (&METRIC.replace("segmentBy: [device]", "segmentBy: [device, device]"), "segmentBy names a column twice"),
        (&format!("{METRIC}---\n{METRIC}"), "is there already, at -:1"),
        (&METRIC.replace("90 days", "90 dayz"), "-:19: RetentionPolicy/metric: spec.dropAfter"),
        ("a: 1\na: 2\n", "-:2: duplicate mapping key: a\n"),
        ("apiVersion: v1\nkind: Secret\n", "the manifests hold no resource of this operator"),
    ] {
        let stderr = refused(text).await?;
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    // Of two mistakes both are said.
    let two = METRIC.replace("chunkInterval", "chunkIntervall").replace("dropAfter", "dropAfterwards");
    let stderr = refused(&two).await?;
    assert!(
        stderr.contains("2 problems") && stderr.contains("chunkIntervall") && stderr.contains("dropAfterwards"),
        "{stderr}"
    );
    // What only the database can know is no mistake of the files.
    let output = run_with(&["plan", "-f", "-"], Some(&url), METRIC).await?.with_code(2);
    assert!(
        output.stdout.contains("x Hypertable/metric") && output.stdout.contains("TableNotFound"),
        "{}",
        output.stdout
    );

    let missing = folder.path().join("missing.yaml");
    let output = run(&["plan", "-f", argument(&missing)?], &url).await?.with_code(1);
    assert!(output.stderr.contains("missing.yaml: No such file"), "{}", output.stderr);
    let output = run(&["plan", "-f", argument(folder.path())?], &url).await?.with_code(1);
    assert!(output.stderr.contains("no file ends in .yaml"), "{}", output.stderr);
    database.stop().await
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_an_error_that_says_what_to_do() -> Result<()> {
    let output = run_with(&["plan", "-f", "-"], None, METRIC).await?.with_code(1);
    assert!(output.stderr.contains("--database-url"), "{}", output.stderr);
    let url = "postgresql://me:s3cr3t@127.0.0.1:1/none";
    let output = run_with(&["plan", "-f", "-"], Some(url), METRIC).await?.with_code(1);
    assert!(output.stderr.contains("cannot connect to 127.0.0.1:1 as me"), "{}", output.stderr);
    assert!(!output.stderr.contains("s3cr3t"), "{}", output.stderr);
    let output =
        run_with(&["plan", "-f", "-", "--database-url", "mysql://me:s3cr3t@db"], None, METRIC).await?.with_code(1);
    assert!(output.stderr.contains("another scheme") && !output.stderr.contains("s3cr3t"), "{}", output.stderr);
    Ok(())
}
