//! Classes of defects that other operators of databases had: nothing hangs, nobody is robbed, nothing flaps.

use serde_json::Value;

use super::{
    database::Database,
    manifests,
    stage::{KINDS, Stage, has_finalizer},
};
use crate::support::Result;

fn readings() -> String {
    manifests::hypertable("readings", "chunkInterval: 1 day, migrateData: true")
}

fn retention() -> String {
    manifests::retention("readings", "dropAfter: 1 year")
}

/// The command of docs/troubleshooting.md: whoever uninstalled the operator before its resources.
#[tokio::test]
async fn the_finalizers_that_an_uninstalled_operator_left_are_taken_off_with_the_documented_command() -> Result<()> {
    let mut stage = Stage::own("uninstalled").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[readings(), retention(), manifests::compression("readings", "")]).await?;
    assert!(stage.take_operator()?.terminate().await?.success());
    stage.kubectl("delete timescaledb --all --wait=false").await?;
    let left = stage.kubectl("get timescaledb -o name").await?;
    assert_eq!(left.lines().count(), 3, "what has nothing to undo is gone: {left}");

    let page = include_str!("../../../docs/troubleshooting.md");
    let command = page.lines().map(str::trim).find(|line| line.contains("xargs") && line.contains("finalizers"));
    let command = command.and_then(|line| line.strip_prefix("$ ")).ok_or("no command in the manual")?;
    let folder = crate::support::process::Folder::new("uninstalled")?;
    let kubectl = stage.api()?.kubectl([]);
    let variables = kubectl.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut path =
        std::path::Path::new(kubectl.get_program()).parent().ok_or("kubectl is nowhere")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let output = std::process::Command::new("bash")
        .args(["-euo", "pipefail", "-c", &command.replace("factory", stage.namespace())])
        .envs(variables)
        .env("PATH", path)
        .current_dir(folder.path())
        .output()?;
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stage.objects().await?.len(), 0);
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (1, 1), "as it was");
    stage.start_operator().await?;
    stage.end().await?;
    database.end().await
}

/// movetokube/postgres-operator#118: a child whose parent went without it could not be deleted.
#[tokio::test]
async fn a_policy_whose_database_was_torn_away_can_be_deleted() -> Result<()> {
    let stage = Stage::shared("torn-away").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[readings(), retention()]).await?;
    stage.kubectl("delete timescaledatabase plant --wait=false").await?;
    let none = r#"{"metadata": {"finalizers": null}}"#;
    stage.kubectl_with(&["patch", "timescaledatabase", "plant", "--type=merge", "-p", none], "").await?;
    stage.gone("timescaledatabase/plant").await?;
    stage.says("retentionpolicy/readings", "DatabaseNotFound").await?;
    assert!(has_finalizer(&stage.get("retentionpolicy/readings").await?), "the database may come back");
    stage.delete(&[retention()]).await?;
    stage.event("retentionpolicy/readings", "Orphaned").await?;
    assert_eq!(database.policies("retention").await?, 1);
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn a_namespace_whose_secret_goes_first_is_emptied_all_the_same() -> Result<()> {
    let mut stage = Stage::own("secret-first").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let all = [manifests::database("plant", ""), readings(), retention(), manifests::compression("readings", "")];
    stage.manage(&database, &all[1..]).await?;
    // With the session still open what is deleted is undone.
    stage.kubectl("delete secret plant").await?;
    stage.says("timescaledatabase/plant", "SecretNotFound").await?;
    stage.delete(&all).await?;
    assert_eq!(stage.objects().await?.len(), 0);
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (0, 0));

    // An operator that starts when the secret is gone has no session, and lets go.
    stage.manage(&database, &all[1..]).await?;
    stage.take_operator()?.kill();
    stage.kubectl("delete secret plant").await?;
    stage.kubectl("delete timescaledb --all --wait=false").await?;
    stage.start_operator().await?;
    for object in ["retentionpolicy/readings", "compressionpolicy/readings", "timescaledatabase/plant"] {
        stage.gone(object).await?;
    }
    assert_eq!(database.policies("retention").await?, 1, "nobody could reach it");
    stage.end().await?;
    database.end().await
}

#[tokio::test]
async fn resources_of_a_database_that_was_dropped_can_be_deleted() -> Result<()> {
    let stage = Stage::shared("dropped-database").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    let all = [manifests::database("plant", ""), readings(), retention()];
    stage.manage(&database, &all[1..]).await?;
    let (host, port, _) = database.address()?;
    let (port, user, password) = (port.to_string(), database.user(), database.password()?);
    let keys = [("username", user), ("password", password), ("host", host), ("port", &port[..]), ("dbname", "dropped")];
    if !Database::is_native() {
        // It serves the same database under any name.
        stage.end().await?;
        return database.end().await;
    }
    stage.secret_of("plant", &keys).await?;
    let message = stage.says("timescaledatabase/plant", "InvalidSpec").await?;
    assert!(message.contains("dropped"), "{message}");
    stage.delete(&all).await?;
    stage.end().await?;
    database.end().await
}

/// CloudNativePG#6305: adoption changed the owner.
#[tokio::test]
async fn what_is_adopted_and_changed_keeps_its_owner_and_its_grants() -> Result<()> {
    let stage = Stage::shared("owners").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    database
        .run(
            "SELECT public.create_hypertable('plant.readings', 'ts', chunk_time_interval => interval '3 days');
             SELECT public.add_retention_policy('plant.readings', interval '2 years');
             GRANT SELECT ON plant.readings TO PUBLIC;
             CREATE MATERIALIZED VIEW plant.hourly WITH (timescaledb.continuous) AS
             SELECT public.time_bucket('1 hour', ts) AS bucket, count(*) AS n FROM plant.readings GROUP BY 1 WITH NO DATA;
             GRANT SELECT ON plant.hourly TO PUBLIC",
        )
        .await?;
    let owners = "SELECT (SELECT string_agg(relname || ' ' || relowner || ' ' || relacl::text, '; ' ORDER BY relname) FROM pg_class
                  WHERE relnamespace = 'plant'::regnamespace AND relname IN ('readings', 'hourly'))
                  || (SELECT owner::text || job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention')";
    let before: String = database.value(owners).await?;
    stage
        .manage(
            &database,
            &[readings(), retention(), manifests::aggregate("hourly", "readings", "1 hour", "realTime: true")],
        )
        .await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "1 year"))).await?);
    assert_eq!(database.value::<String>(owners).await?, before);
    stage.end().await?;
    database.end().await
}

/// flux2#3689: writers that fight over a status.
#[tokio::test]
async fn a_status_that_somebody_else_writes_is_put_right_once_and_not_fought_over() -> Result<()> {
    let mut stage = Stage::own("status-writers").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[readings(), retention()]).await?;
    stage.sizes_told().await?;
    stage.operator()?.passes(2).await?;
    let good = stage.get("retentionpolicy/readings").await?["status"].take();
    let before = stage.operator()?.metrics().await?;
    for n in 0..5 {
        let lie = format!(r#"{{"status": {{"jobId": {n}, "dropAfter": "never"}}}}"#);
        let arguments = ["patch", "retentionpolicy", "readings", "--subresource=status", "--type=merge", "-p", &lie];
        stage.kubectl_with(&arguments, "").await?;
    }
    stage.until("retentionpolicy/readings", "as it was", |found| found["status"] == good).await?;
    let after = stage.operator()?.passes(3).await?;
    let writes = after.sum("api_writes_total", "") - before.sum("api_writes_total", "");
    assert!((1.0..=6.0).contains(&writes), "{writes} writes");
    assert_eq!(after.sum("steps_total", ""), before.sum("steps_total", ""), "the database was never touched");
    let settled = stage.operator()?.passes(3).await?;
    assert_eq!(settled.sum("api_writes_total", ""), after.sum("api_writes_total", ""));
    stage.end().await?;
    database.end().await
}

/// SchemaHero looks tables up by name alone.
#[tokio::test]
async fn the_same_table_in_two_schemas_is_two_tables() -> Result<()> {
    let stage = Stage::shared("two-schemas").await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    database
        .run(
            "CREATE SCHEMA twin; CREATE TABLE twin.readings (LIKE plant.readings);
             CREATE TABLE plant.\"twin.readings\" (LIKE plant.readings); CREATE TABLE plant.\"Readings\" (LIKE plant.readings)",
        )
        .await?;
    let hypertable = |name: &str, schema: &str, table: &str| {
        let spec = format!("databaseRef: {{name: plant}}, schema: {schema}, table: {table}, timeColumn: ts");
        manifests::resource("Hypertable", name, &spec)
    };
    let policy = |name: &str, age: &str| manifests::retention(name, &format!("dropAfter: {age}"));
    stage
        .manage(
            &database,
            &[
                readings(),
                hypertable("twin", "twin", "readings"),
                hypertable("upper", "plant", "Readings"),
                hypertable("dotted", "plant", "twin.readings"),
                policy("readings", "1 year"),
                policy("twin", "2 years"),
                policy("upper", "3 years"),
                policy("dotted", "4 years"),
            ],
        )
        .await?;
    let ages = "SELECT string_agg(hypertable_schema || '/' || hypertable_name || ' ' || (config ->> 'drop_after'), ', '
                ORDER BY hypertable_schema, hypertable_name COLLATE \"C\")
                FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'";
    assert_eq!(
        database.value::<String>(ages).await?,
        "plant/Readings 3 years, plant/readings 1 year, plant/twin.readings 4 years, twin/readings 2 years"
    );
    stage.delete(&[policy("twin", "2 years")]).await?;
    assert_eq!(
        database.value::<String>(ages).await?,
        "plant/Readings 3 years, plant/readings 1 year, plant/twin.readings 4 years"
    );
    stage.end().await?;
    database.run("DROP SCHEMA twin CASCADE").await?;
    database.end().await
}

/// In a namespace that terminates nothing can be created any more, not even an event.
#[tokio::test]
async fn a_namespace_that_terminates_is_emptied() -> Result<()> {
    let mut stage = Stage::own("terminating").await?;
    stage.start_operator().await?;
    let database = Database::start().await?;
    database.run(&manifests::table("readings")).await?;
    stage.manage(&database, &[readings(), retention(), manifests::compression("readings", "")]).await?;
    stage.kubectl("delete namespace terminating --wait=false").await?;
    // What the namespace's controller does.
    stage.kubectl("delete secret --all").await?;
    stage.kubectl("delete timescaledb --all --timeout=120s").await?;
    assert_eq!(stage.objects().await?.len(), 0);
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (0, 0));
    stage.end().await?;
    database.end().await
}

/// The resource keeps its name and means another table: what is on the first one stays there, and somebody is told.
#[tokio::test]
async fn a_hypertable_that_comes_back_for_another_table_leaves_the_policies_of_the_first() -> Result<()> {
    let stage = Stage::shared("another-table").await?;
    let database = Database::start().await?;
    database.run(&[manifests::table("readings"), manifests::table("other")].concat()).await?;
    let labelled = |manifest: &str| manifests::labelled("raw", manifest);
    let fleet = manifests::fleet("CompressionPolicy", "fleet", "raw", "compressAfter: 300 days");
    stage.manage(&database, &[labelled(&readings()), retention(), fleet.clone()]).await?;
    stage.until("compressionpolicy/fleet", "its target", |found| found["status"]["matchedInSync"] == 1).await?;
    stage.delete(&[readings()]).await?;
    stage.apply(&[labelled(&readings().replace("table: readings", "table: other"))]).await?;
    database.until(&Database::drops_after("other", "1 year")).await?;
    let object = "retentionpolicy/readings";
    let told = stage.event(object, "Orphaned").await?;
    assert_eq!(
        told,
        "Hypertable/readings is plant.other now: the retention policy of plant.readings stays in the database as it is"
    );
    stage.until(object, "the new target", |found| found["status"]["target"]["table"] == "other").await?;
    stage
        .until("compressionpolicy/fleet", "its new target", |found| found["status"]["targets"][0]["table"] == "other")
        .await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "1 year"))).await?);
    stage.delete(&[retention(), fleet]).await?;
    assert!(database.value::<bool>(&format!("SELECT {}", Database::drops_after("readings", "1 year"))).await?);
    assert_eq!((database.policies("retention").await?, database.policies("compression").await?), (1, 1));
    stage.end().await?;
    database.end().await
}

/// What hangs on an aggregate goes with it, in one `kubectl delete`, and only because it says `Delete`.
#[tokio::test]
async fn an_aggregate_is_dropped_after_its_policies_and_only_when_it_says_so() -> Result<()> {
    let stage = Stage::shared("aggregate-policies").await?;
    let database = Database::start().await?;
    database.run(&manifests::table_of_days("readings", 3)).await?;
    let refresh = "refreshPolicy: {startOffset: 3 days, schedule: {interval: 1 hour}}";
    let of = |name: &str| {
        retention()
            .replace("kind: Hypertable, name: readings", &format!("kind: ContinuousAggregate, name: {name}"))
            .replace("{name: readings}", &format!("{{name: {name}}}"))
    };
    let mut all = vec![readings()];
    for (name, more) in [("kept", ""), ("dropped", "deletionPolicy: Delete, ")] {
        all.push(manifests::aggregate(name, "readings", "1 hour", &format!("{more}{refresh}")));
        all.push(of(name));
    }
    stage.manage(&database, &all).await?;
    assert_eq!(database.policies("retention").await?, 2);
    stage.delete(&all).await?;
    assert_eq!(database.policies("retention").await?, 0);
    assert!(
        database
            .value::<bool>("SELECT to_regclass('plant.dropped') IS NULL AND to_regclass('plant.kept') IS NOT NULL")
            .await?
    );
    assert_eq!(database.policies("refresh_continuous_aggregate").await?, 1);
    let left = stage.objects().await?;
    let names: Vec<&Value> = left.iter().map(|object| &object["kind"]).collect();
    assert_eq!(names, ["TimescaleDatabase"]);
    stage.ready(&format!("--all {}", KINDS[0])).await?;
    stage.end().await?;
    database.end().await
}
