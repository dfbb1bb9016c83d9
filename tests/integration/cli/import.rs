//! `import`: a plan of what is imported is empty, for any database. (`tests/law/import.rs` has the law over the model.)
//!
//! Databases are generated, each a schema with tables as somebody may have made them. `IMPORT_SEED` repeats one,
//! `IMPORT_DATABASES` looks at more.

use std::{collections::BTreeMap, fmt::Write as _, process::Stdio};

use fastrand::Rng;
use serde_json::{Value, json};
use timescaledb_policy_operator::{
    api::timescale_database::Mode,
    catalog::Answers,
    cli::manifests::Files,
    desired,
    import::{Imported, Options, Resource, Section},
    plan::step::Verdict,
    resources::Resources,
};

use crate::{
    database::driver::Database,
    support::{Error, Result, process::Folder},
};

/// Tables of one generated database.
const TABLES: usize = 8;
const NAMESPACE: &str = "plant";

#[tokio::test]
async fn a_plan_of_what_is_imported_is_empty_for_generated_databases() -> Result<()> {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seed, databases) = (given("IMPORT_SEED"), given("IMPORT_DATABASES").unwrap_or(4));
    let (mut kinds, mut remarks, mut refused) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    // Alone: jobs of other tests would come and go.
    let db = Database::alone().await?;
    for number in 0..databases {
        let seed = seed.unwrap_or_else(|| fastrand::u64(..)).wrapping_add(number);
        eprintln!("IMPORT_SEED={seed}");
        empty(&db).await?;
        let script = Script::generate(&mut Rng::with_seed(seed));
        script.run(&db, &[When::Always, When::Before, When::Superuser], &mut refused).await?;
        let about = |error| format!("IMPORT_SEED={seed}: {error}");
        let imported = import(&db, &db.schema).await.map_err(about)?;
        must_be_empty(&db, &imported).await.map_err(about)?;
        for resource in imported.resources() {
            *kinds.entry(resource.kind()).or_insert(0) += 1;
        }
        for remark in imported.sections.iter().flat_map(|s| &s.documents).flat_map(|d| &d.remarks) {
            *remarks.entry(sort_of(remark)).or_insert(0) += 1;
        }
        if number % 3 == 0 {
            must_come_out_the_same(&db, &script, &imported).await.map_err(about)?;
        }
    }
    eprintln!("{kinds:#?}\n{remarks:#?}\nrefused: {refused:#?}");
    for kind in ["TimescaleDatabase", "Hypertable", "ContinuousAggregate", "CompressionPolicy", "RetentionPolicy"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 0), "{kind}: {kinds:?}");
    }
    Ok(())
}

/// Takes away what the database before has left.
async fn empty(db: &Database) -> Result<()> {
    let jobs = "SELECT delete_job(id) FROM _timescaledb_config.bgw_job WHERE id >= 1000 AND hypertable_id IS NULL";
    db.run_as_superuser(jobs).await?;
    db.run(&format!("SET client_min_messages = error; DROP SCHEMA {0} CASCADE; CREATE SCHEMA {0}", db.schema)).await
}

/// The remark without the names in it.
fn sort_of(remark: &str) -> String {
    let words =
        remark.split_whitespace().filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || ",:".contains(c)));
    words.take(9).collect::<Vec<_>>().join(" ")
}

fn options(schema: &str) -> Options {
    Options {
        namespace: Some(NAMESPACE.to_owned()),
        name: Some("db".to_owned()),
        schemas: schema.parse().into_iter().collect(),
        ..Options::default()
    }
}

/// What is imported of the schema, twice the same.
async fn import(db: &Database, schema: &str) -> Result<Imported> {
    let imported = db.session.import(&options(schema)).await?;
    let again = db.session.import(&options(schema)).await?;
    assert_eq!(imported.render()?, again.render()?);
    Ok(imported)
}

/// What the files say, read as any command reads files: held against the definitions of the kinds.
fn read_back(imported: &Imported) -> Result<Resources> {
    let folder = Folder::new("imported")?;
    for Section { name, .. } in &imported.sections {
        let section = imported.sections.iter().find(|section| section.name == *name).ok_or("a section")?;
        std::fs::write(folder.path().join(format!("{name}.yaml")), section.render()?)?;
    }
    let files = Files { filenames: vec![folder.path().to_owned()], recursive: false };
    let read = files.read(NAMESPACE)?.resources;
    let stream = folder.path().join("all.yaml");
    std::fs::write(&stream, imported.render()?)?;
    let from_stream = Files { filenames: vec![stream], recursive: false }.read(NAMESPACE)?.resources;
    assert_eq!(values(&read), values(&from_stream), "the files and the stream");
    Ok(read)
}

fn values(resources: &Resources) -> BTreeMap<String, Value> {
    let mut all = Vec::new();
    all.extend(resources.databases.iter().map(|r| json!(**r)));
    all.extend(resources.hypertables.iter().map(|r| json!(**r)));
    all.extend(resources.aggregates.iter().map(|r| json!(**r)));
    all.extend(resources.compression.iter().map(|r| json!(**r)));
    all.extend(resources.retention.iter().map(|r| json!(**r)));
    all.into_iter().map(|value| (format!("{}/{}", value["kind"], value["metadata"]["name"]), value)).collect()
}

fn value(resource: &Resource) -> Value {
    match resource {
        Resource::Database(resource) => json!(**resource),
        Resource::Hypertable(resource) => json!(**resource),
        Resource::Aggregate(resource) => json!(**resource),
        Resource::Compression(resource) => json!(**resource),
        Resource::Retention(resource) => json!(**resource),
    }
}

/// The law.
async fn must_be_empty(db: &Database, imported: &Imported) -> Result<()> {
    let text = imported.render()?;
    let resources = read_back(imported).map_err(|error| format!("{error}\n{text}"))?;
    let written: BTreeMap<_, _> = imported
        .resources()
        .map(value)
        .map(|value| (format!("{}/{}", value["kind"], value["metadata"]["name"]), value))
        .collect();
    assert_eq!(values(&resources), written, "what is read back is what was meant\n{text}");
    let database = resources.databases.first().ok_or("no TimescaleDatabase")?;
    let attached = resources.attached(&(NAMESPACE.to_owned(), "db".to_owned()));
    let (desired, rules) = (desired::collect(database, &attached), desired::rules(database));
    assert_eq!(rules.mode, Mode::Enforce);
    let catalog = db.session.observe(&desired.with_indexes()).await?;
    let plan = db.session.plan(&desired, &rules, &catalog, &mut Answers::new(), &BTreeMap::new()).await?;
    assert!(plan.steps.is_empty(), "{:#?}\n{text}", plan.steps);
    assert_eq!(plan.verdicts.len(), imported.resources().count() - 1);
    for (id, verdict) in &plan.verdicts {
        assert_eq!(verdict, &Verdict::InSync, "{id}\n{text}");
    }
    Ok(())
}

/// The rule of what is left out: on a fresh database with the same plain tables the resources lead to what they were
/// imported from. Where a remark says that something is left out it is not so.
async fn must_come_out_the_same(db: &Database, script: &Script, imported: &Imported) -> Result<()> {
    let telling = |section: &Section| {
        section.documents.iter().all(|d| d.remarks.iter().all(|r| r.starts_with("Kubernetes takes no")))
    };
    let whole: Vec<&Section> = imported.sections.iter().filter(|section| telling(section)).collect();
    let resources: Vec<Value> =
        whole.iter().flat_map(|s| &s.documents).filter_map(|d| d.resource.as_ref()).map(value).collect();
    empty(db).await?;
    script.run(db, &[When::Always, When::Fresh], &mut BTreeMap::new()).await?;
    let mut manifests = vec![json!({"kind": "TimescaleDatabase", "metadata": {"name": "db", "namespace": NAMESPACE},
        "spec": {"connection": {"secretRef": {"name": "db-app"}}}})];
    manifests.extend(resources);
    // Aggregates on aggregates whose own section is left out cannot be made.
    let outcome = db.attempt(manifests).await?;
    // With CREATE TABLE … WITH TimescaleDB enables on a table with an exclusion constraint what it refuses later.
    for (id, failure) in &outcome.failures {
        assert!(failure.message.contains("not supported for converting to columnstore"), "{id}: {failure}");
    }
    let refused = |section: &Section| {
        outcome.failures.keys().any(|id| section.name == format!("hypertable-{}", id.resource.name))
    };
    let again = db.session.import(&options(&db.schema)).await?;
    // An empty list of sparse indexes is not sent where compression is enabled with it, and means the same to the planner.
    let counts = |line: &&str| !line.starts_with('#') && *line != "  sparseIndexes: []";
    let plain = |section: &Section| -> Result<String> {
        Ok(section.render()?.lines().filter(counts).fold(String::new(), |text, line| text + line + "\n"))
    };
    for section in whole.into_iter().filter(|section| !refused(section)) {
        let other = again.sections.iter().find(|other| other.name == section.name);
        let Some(other) = other else {
            assert!(section.name.starts_with("continuousaggregate-"), "{} did not come out", section.name);
            continue;
        };
        let (wanted, found) = (plain(section)?, plain(other)?);
        assert_eq!(found, wanted, "{} on a fresh database; all of it:\n{}", section.name, script.text());
    }
    Ok(())
}

// ---- MS5

/// The whole example, as the operator makes it, is imported as it was written, save what only matters when it is made.
#[tokio::test]
async fn ms5_is_imported_as_it_was_written() -> Result<()> {
    let db = Database::alone().await?;
    db.run(include_str!("../../../examples/ms5/schema.sql")).await?;
    let mut manifests: Vec<Value> = Vec::new();
    for text in [
        include_str!("../../../examples/ms5/10-database.yaml"),
        include_str!("../../../examples/ms5/20-hypertables.yaml"),
        include_str!("../../../examples/ms5/30-compression.yaml"),
        include_str!("../../../examples/ms5/40-retention.yaml"),
        include_str!("../../../examples/ms5/50-aggregates.yaml"),
    ] {
        manifests.extend(serde_saphyr::from_multiple::<Value>(text)?);
    }
    db.converge(manifests.clone()).await?;
    let imported = import(&db, "factory_telemetry").await?;
    must_be_empty(&db, &imported).await?;
    let said: Vec<_> = imported.sections.iter().skip(1).flat_map(|s| &s.documents).flat_map(|d| &d.remarks).collect();
    assert!(said.is_empty(), "{said:?}");
    let mut found: BTreeMap<_, _> = imported.resources().map(value).map(made).map(named).collect();
    let folder = Folder::new("ms5")?;
    std::fs::write(
        folder.path().join("all.json"),
        json!({"apiVersion": "v1", "kind": "List", "items": manifests}).to_string(),
    )?;
    let written = Files { filenames: vec![folder.path().to_owned()], recursive: false }.read(NAMESPACE)?.resources;
    let mut wanted: BTreeMap<_, _> = values(&written).into_values().map(made).map(named).collect();
    // Its name is chosen here.
    for all in [&mut found, &mut wanted] {
        all.retain(|name, _| !name.contains("TimescaleDatabase"));
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, wanted) in wanted {
        assert_eq!(found[&name], wanted, "{name}");
    }
    Ok(())
}

fn named(value: Value) -> (String, Value) {
    (format!("{}/{}", value["kind"], value["metadata"]["name"]), value)
}

/// What of a resource is to be seen in a database.
fn made(mut resource: Value) -> Value {
    let kind = resource["kind"].as_str().unwrap_or_default().to_owned();
    let (name, spec) = (resource["metadata"]["name"].clone(), &mut resource["spec"]);
    for field in ["databaseRef", "migrateData", "query", "onQueryChange", "deletionPolicy"] {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove(field);
        }
    }
    if let Some(indexes) = spec["indexes"].as_array_mut() {
        indexes.sort_by_key(|index| index["name"].to_string());
        // In the words of the server.
        for index in indexes {
            index["where"] = index["where"].is_string().into();
        }
    }
    json!({"kind": kind, "metadata": {"name": name}, "spec": spec})
}

// ---- the command

/// The command on the database of this role, and what became of it.
async fn command(db: &Database, role: &str, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
    command.args(arguments).env("DATABASE_URL", db.server.url_as(role)).env_remove("PGHOST").stdin(Stdio::null());
    let output = command.output().await?;
    let here = |bytes: Vec<u8>| Ok::<_, Error>(String::from_utf8(bytes)?.replace(&db.schema, "plant"));
    Ok((output.status.code(), here(output.stdout)?, here(output.stderr)?))
}

/// A table with everything, and something that cannot be said.
const SMALL: &str = "
    CREATE TABLE readings (at timestamptz NOT NULL, sensor_id int NOT NULL, value float8, note text);
    SELECT create_hypertable('$schema.readings', by_range('at', interval '1 day'));
    CREATE INDEX readings_sensor ON readings (sensor_id, at DESC) WHERE value > 0;
    CREATE INDEX readings_note ON readings (lower(note));
    ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_segmentby = 'sensor_id');
    SELECT add_compression_policy('$schema.readings', interval '7 days', initial_start => '2036-01-01 02:00Z', timezone => 'Europe/Berlin');
    SELECT add_retention_policy('$schema.readings', interval '90 days', initial_start => '2036-01-01 03:00Z');
    CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
        SELECT time_bucket('1 hour', at) AS bucket, sensor_id, avg(value) AS value FROM readings GROUP BY 1, 2 WITH NO DATA;
    SELECT add_continuous_aggregate_policy('$schema.hourly', interval '3 days', interval '1 hour', interval '30 minutes', initial_start => '2036-01-01 00:00Z');
    SELECT alter_job((SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_schema = '$schema' AND proc_name = 'policy_retention'), scheduled => false);
";

const SMALL_IMPORTED: &str = include_str!("imported.yaml");

#[tokio::test]
async fn a_database_is_printed_as_somebody_would_have_written_it() -> Result<()> {
    let db = Database::alone().await?;
    for statement in SMALL.split(";\n") {
        db.run(statement).await?;
    }
    let schema = db.schema.clone();
    let arguments = ["import", "-n", "factory", "--name", "plant", "--schema", &schema];
    let operator = db.server.operator();
    let (code, printed, said) = command(&db, &operator, &arguments).await?;
    assert_eq!(
        (code, said.as_str()),
        (
            Some(0),
            "imported 1 hypertable, 1 continuous aggregate, 1 compression policy, 1 retention policy; a comment says what could not be expressed\n"
        )
    );
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/cli/imported.yaml"), &printed)?;
    }
    // Other versions of PostgreSQL print queries in other words.
    if !db.server.is_native() {
        assert_eq!(printed, SMALL_IMPORTED, "BLESS=1 writes it anew");
    }

    // One who may only read sees the same.
    let reader = format!("reader_{}", db.server.port());
    db.run_as_superuser(&format!(
        "CREATE ROLE {reader} LOGIN PASSWORD '{}'; GRANT USAGE ON SCHEMA $schema TO {reader}; GRANT SELECT ON ALL TABLES IN SCHEMA $schema TO {reader}",
        db.server.password_of_roles()
    )).await?;
    let (code, read, _) = command(&db, &reader, &arguments).await?;
    assert_eq!((code, read), (Some(0), printed.clone()));

    // One who may not even that: it is said what could not be compared.
    let stranger = format!("stranger_{}", db.server.port());
    db.run_as_superuser(&format!("CREATE ROLE {stranger} LOGIN PASSWORD '{}'", db.server.password_of_roles())).await?;
    let (code, read, said) = command(&db, &stranger, &arguments).await?;
    assert_eq!(code, Some(0), "{said}");
    let resources =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(resources(&read), resources(&printed));
    assert!(read.contains("# not compared with the database: spec.query: "), "{read}");

    // The files hold the same, and a plan of them is empty.
    let folder = Folder::new("import")?;
    let into = folder.path().join("of").join("plant");
    let path = into.to_str().ok_or("a path")?;
    let (code, nothing, said) = command(&db, &operator, &[&arguments[..], &["--output-dir", path]].concat()).await?;
    assert_eq!((code, nothing.as_str()), (Some(0), ""), "{said}");
    let mut files: Vec<_> = std::fs::read_dir(&into)?
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    assert_eq!(files, ["continuousaggregate-hourly.yaml", "hypertable-readings.yaml", "timescaledatabase-plant.yaml"]);
    let (code, planned, said) = command(&db, &operator, &["plan", "-f", path, "-n", "factory"]).await?;
    assert_eq!(code, Some(0), "{planned}{said}");
    db.run_as_superuser(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}; DROP ROLE {stranger}")).await
}

#[tokio::test]
async fn what_no_resource_can_say_is_a_comment() -> Result<()> {
    let db = Database::alone().await?;
    let jobs: String = db
        .one("SELECT coalesce(to_regclass('_timescaledb_catalog.bgw_job'), '_timescaledb_config.bgw_job')::text")
        .await?;
    let of = |table: &str, procedure: &str| {
        format!(
            "(SELECT j.id FROM _timescaledb_config.bgw_job j JOIN _timescaledb_catalog.hypertable h ON h.id = j.hypertable_id WHERE h.schema_name = '$schema' AND h.table_name = '{table}' AND j.proc_name = '{procedure}')"
        )
    };
    for table in ["\"Größe\"", "unsafe", "unread", "other", "plain"] {
        let quoted = if table.starts_with('"') { table.to_owned() } else { format!("\"{table}\"") };
        db.run(&format!("CREATE TABLE {quoted} (ts timestamptz NOT NULL, v float8); SELECT create_hypertable('$schema.{quoted}', 'ts')")).await?;
    }
    let later = "initial_start => '2036-01-01 00:00Z'";
    for statement in [
        "ALTER TABLE plain SET (timescaledb.compress, timescaledb.compress_segmentby = 'v')".to_owned(),
        "CREATE INDEX half ON plain ((v / 2))".to_owned(),
        "CREATE INDEX filled ON plain (v) WITH (fillfactor = 50)".to_owned(),
        format!("SELECT add_retention_policy('$schema.unsafe', interval '5 days', {later})"),
        "CREATE MATERIALIZED VIEW over_unsafe WITH (timescaledb.continuous) AS SELECT time_bucket('1 hour', ts) AS b, max(v) FROM unsafe GROUP BY 1 WITH NO DATA".to_owned(),
        format!("SELECT add_continuous_aggregate_policy('$schema.over_unsafe', interval '9 days', interval '1 hour', interval '1 hour', {later})"),
        "CREATE MATERIALIZED VIEW twice WITH (timescaledb.continuous, timescaledb.create_group_indexes = false) AS SELECT time_bucket('1 hour', ts) AS b, v, count(*) FROM plain GROUP BY 1, 2 WITH NO DATA".to_owned(),
        format!("SELECT add_continuous_aggregate_policy('$schema.twice', interval '9 hours', interval '1 hour', interval '1 hour', {later})"),
        format!("SELECT add_continuous_aggregate_policy('$schema.twice', interval '9 days', interval '1 day', interval '1 day', {later})"),
        format!("SELECT add_retention_policy('$schema.unread', interval '5 days', {later})"),
        format!("SELECT add_retention_policy('$schema.other', interval '5 days', {later})"),
        "CREATE PROCEDURE sweep(job_id int, config jsonb) LANGUAGE sql AS ''".to_owned(),
        "SELECT add_job('$schema.sweep', '1 hour', config => '{\"password\": \"hunter2\"}')".to_owned(),
    ] {
        db.run(&statement).await.map_err(|error| format!("{error:?} in {statement}"))?;
    }
    db.run_as_superuser(&format!(
        "UPDATE {jobs} SET config = config || '{{\"drop_after\": \"soon\"}}' WHERE id = {};
         UPDATE {jobs} SET config = config || '{{\"hypertable_id\": 1, \"verbose_log\": true}}' WHERE id = {}",
        of("unread", "policy_retention"),
        of("other", "policy_retention"),
    ))
    .await?;
    let imported = import(&db, &db.schema).await?;
    must_be_empty(&db, &imported).await?;
    let text = imported.render()?;
    assert!(!text.contains("hunter2"), "{text}");
    for (section, says) in [
        ("timescaledatabase-", "(test_"),
        ("hypertable-gr", "Kubernetes takes no "),
        (
            "hypertable-plain",
            "compression is enabled (segment by v; order by TimescaleDB's choice) and no policy compresses",
        ),
        ("hypertable-plain", "index half is left out: it is on an expression"),
        ("hypertable-plain", "index filled: WITH (fillfactor=50) cannot be said"),
        ("hypertable-unsafe", "its RetentionPolicy is left out: dropping chunks of "),
        (
            "continuousaggregate-over-unsafe",
            "refreshPolicy is left out: a refresh of the last 9 days would erase history",
        ),
        (
            "continuousaggregate-twice",
            "a resource has one refresh policy; this one is not managed, and stays as it is: job ",
        ),
        ("hypertable-unread", "its RetentionPolicy is left out: the config of job "),
        ("hypertable-other", "its config names hypertable 1"),
    ] {
        let of: Vec<_> = imported
            .sections
            .iter()
            .filter(|s| s.name.starts_with(section))
            .flat_map(|s| &s.documents)
            .flat_map(|d| &d.remarks)
            .collect();
        assert!(of.iter().any(|remark| remark.contains(says)), "{section}: {says:?} in {of:#?}");
    }
    let twice = imported.sections.iter().find(|s| s.name == "continuousaggregate-twice").ok_or("twice")?.render()?;
    assert!(twice.contains("createGroupIndexes: false") && twice.contains("startOffset: 9 hours"), "{twice}");
    Ok(())
}

#[tokio::test]
async fn what_the_command_cannot_do_is_an_error_without_secrets() -> Result<()> {
    let db = Database::shared().await?;
    let operator = db.server.operator();
    for (arguments, says) in [
        (&["import", "--name", "Not A Name"][..], "is no name of a resource"),
        (&["import", "--table", ""], "it is empty"),
        (
            &["import", "--database-url", "postgresql://somebody:hunter2@127.0.0.1:1/gone"],
            "error: cannot connect to 127.0.0.1:1 as somebody",
        ),
        (&["import", "--database-url", "postgresql://somebody:hunter2@:no:port"], "error:"),
        (
            &["import", "--name", "db", "--table", "nothing_of_this_kind", "--output-dir", "/proc/nowhere"],
            "/proc/nowhere",
        ),
    ] {
        let (code, printed, said) = command(&db, &operator, arguments).await?;
        assert!(code.is_some_and(|code| code != 0), "{arguments:?}: {printed}");
        assert!(
            said.contains(says) && !said.contains("hunter2") && printed.is_empty(),
            "{arguments:?}: {printed}{said}"
        );
    }
    Ok(())
}

// ---- databases

/// Statements that make a database.
struct Script(Vec<(When, String)>);

/// Which statements a database is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Plain PostgreSQL: a migration's.
    Always,
    /// What TimescaleDB brings.
    Before,
    /// The same, for which the owner has not the rights.
    Superuser,
    /// What a migration does instead, where the resources say the rest.
    Fresh,
}

/// Names that meet every rule of quoting.
const NAMES: [&str; 14] = [
    "metric_hist",
    "Readings",
    "say \"x\"",
    "größe",
    "it's",
    "a.b",
    "a-b",
    "_under_",
    "x\ny",
    "back\\slash",
    "semi;colon -- x",
    "測定値",
    "0digits",
    "a_name_of_sixty_three_bytes_which_is_the_longest_that_is_possible",
];

impl Script {
    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |text, (when, statement)| format!("{text}-- {when:?}\n{statement};\n"))
    }

    /// Carries out the statements of these kinds. What the server refuses of TimescaleDB's is left out: it is one of the
    /// combinations that no database can have.
    async fn run(&self, db: &Database, kinds: &[When], refused: &mut BTreeMap<String, usize>) -> Result<()> {
        let jobs = "SELECT coalesce(to_regclass('_timescaledb_catalog.bgw_job'), '_timescaledb_config.bgw_job')::text";
        let jobs: String = db.one(jobs).await?;
        let (mut done, mut not) = (0, 0);
        for (when, statement) in self.0.iter().filter(|(when, _)| kinds.contains(when)) {
            let result = match when {
                When::Superuser => db.run_as_superuser(&statement.replace("$jobs", &jobs)).await,
                _ => db.run(statement).await,
            };
            match result {
                Ok(()) => done += 1,
                Err(error) if *when == When::Before => {
                    not += 1;
                    let text = format!("{error:?}");
                    assert!(text.contains("SqlState"), "{text} in {statement}");
                    let message = text.split("message: ").nth(1).unwrap_or(&text);
                    *refused.entry(message.chars().take(110).collect()).or_default() += 1;
                }
                Err(error) => return Err(format!("{error:?} in {statement}").into()),
            }
        }
        assert!(not * 3 < done + 3, "{not} of {} statements were refused: {refused:#?}", done + not);
        Ok(())
    }

    fn generate(random: &mut Rng) -> Self {
        let mut script = Self(Vec::new());
        let mut names = NAMES;
        random.shuffle(&mut names);
        script.always("SET client_min_messages = error");
        script.always("CREATE FUNCTION now_in_units() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 5000::bigint'");
        script.always("CREATE FUNCTION \"Now 4\"() RETURNS int LANGUAGE sql STABLE AS 'SELECT 5000'");
        script.always("CREATE FUNCTION now_2() RETURNS smallint LANGUAGE sql STABLE AS 'SELECT 5000::smallint'");
        script.always("CREATE PROCEDURE clean_up(job_id int, config jsonb) LANGUAGE sql AS ''");
        script.add("SET timescaledb.enable_chunk_skipping = on");
        for (number, name) in names.into_iter().take(TABLES).enumerate() {
            Table::generate(random, number, name).write(random, &mut script);
        }
        if random.bool() {
            script.add("SELECT add_job('$schema.clean_up', '1 hour')");
        }
        script
    }

    fn always(&mut self, statement: impl Into<String>) {
        self.0.push((When::Always, statement.into()));
    }

    fn add(&mut self, statement: impl Into<String>) {
        self.0.push((When::Before, statement.into()));
    }

    fn superuser(&mut self, statement: impl Into<String>) {
        self.0.push((When::Superuser, statement.into()));
    }
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `regclass` takes the quoted name in a string.
fn regclass(name: &str) -> String {
    if name.contains('\\') {
        format!("E{}", literal(&format!("$schema.{}", ident(name))).replace('\\', "\\\\"))
    } else {
        literal(&format!("$schema.{}", ident(name)))
    }
}

fn pick<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

struct Table {
    number: usize,
    name: String,
    time: String,
    type_: &'static str,
    device: String,
    with: bool,
    chunk: &'static str,
}

impl Table {
    fn generate(random: &mut Rng, number: usize, name: &str) -> Self {
        let type_ = pick(
            random,
            &["timestamptz", "timestamptz", "timestamptz", "timestamp", "date", "bigint", "int", "smallint"],
        );
        let chunk = match type_ {
            "bigint" | "int" => pick(random, &["1000", "1", "86400"]),
            "smallint" => pick(random, &["10", "1000"]),
            "date" => pick(random, &["7 days", "1 day", "1 month"]),
            _ => pick(random, &["7 days", "1 day", "1 hour", "36 hours", "1 month", "90 minutes"]),
        };
        Self {
            number,
            name: name.to_owned(),
            time: pick(random, &["ts", "Time \"x\"", "zeit°"]).to_owned(),
            type_,
            device: pick(random, &["device", "Gerät"]).to_owned(),
            with: type_ == "timestamptz" && random.u8(..4) == 0,
            chunk,
        }
    }

    fn by_integer(&self) -> bool {
        matches!(self.type_, "bigint" | "int" | "smallint")
    }

    /// A length in the measure of the time column.
    fn length(&self, days: i32) -> String {
        match self.type_ {
            "bigint" => format!("{days}00::bigint"),
            "int" => format!("{days}00::int"),
            "smallint" => format!("{days}::smallint"),
            _ => format!("interval '{days} days'"),
        }
    }

    fn write(&self, random: &mut Rng, script: &mut Script) {
        let (table, time, device) = (ident(&self.name), ident(&self.time), ident(&self.device));
        let key = match random.u8(..5) {
            0 => format!(", PRIMARY KEY ({device}, {time}, line)"),
            1 => format!(", UNIQUE (line, {device}, {time})"),
            2 => format!(
                ", CONSTRAINT {} EXCLUDE USING btree ({time} WITH =, {device} WITH =, line WITH =)",
                ident(&format!("no overlap {}", self.number))
            ),
            3 if !self.with => format!(", PRIMARY KEY ({time}, {device}, line) INCLUDE (value)"),
            _ => String::new(),
        };
        let create = format!(
            "CREATE TABLE {table} ({time} {} NOT NULL, {device} int NOT NULL, line int NOT NULL, value float8, name text, tags text[]{key})",
            self.type_
        );
        if self.with {
            // It was never a plain table.
            let mut options = vec![
                format!("tsdb.partition_column = {}", literal(&self.time)),
                format!("tsdb.chunk_interval = '{}'", self.chunk),
            ];
            if random.bool() {
                options.push(format!("tsdb.segmentby = {}", literal(&device)));
            }
            if random.u8(..3) == 0 {
                options.push("tsdb.create_default_indexes = false".into());
            }
            script.add(format!("{create} WITH (tsdb.hypertable, {})", options.join(", ")));
            script.0.push((When::Fresh, create));
        } else {
            script.always(create);
            self.indexes(random, 0).into_iter().for_each(|index| script.always(index));
            let interval = if self.by_integer() {
                format!("{}::{}", self.chunk, self.type_)
            } else {
                format!("interval '{}'", self.chunk)
            };
            let defaults = if random.u8(..4) == 0 { ", create_default_indexes => false" } else { "" };
            let (relation, time) = (regclass(&self.name), literal(&self.time));
            if random.u8(..4) == 0 {
                let device = literal(&self.device);
                script.add(format!(
                    "SELECT create_hypertable({relation}, {time}, {device}, 3, chunk_time_interval => {interval}{defaults})"
                ));
            } else {
                script.add(format!("SELECT create_hypertable({relation}, by_range({time}, {interval}){defaults})"));
            }
        }
        let relation = regclass(&self.name);
        if random.u8(..4) == 0 {
            script.add(format!("SELECT add_dimension({relation}, by_hash('line', {}))", random.u8(1..5)));
        }
        if random.u8(..12) == 0 {
            script.add(format!("SELECT add_dimension({relation}, by_range('line', 10))"));
        }
        if self.by_integer() && random.u8(..5) > 0 {
            let clock = match self.type_ {
                "bigint" => "$schema.now_in_units",
                "int" => "$schema.\"Now 4\"",
                _ => "$schema.now_2",
            };
            script.add(format!("SELECT set_integer_now_func({relation}, '{clock}')"));
        }
        self.indexes(random, 1).into_iter().for_each(|index| script.add(index));
        if random.u8(..6) == 0 {
            script.add(format!(
                "SELECT enable_chunk_skipping({relation}, {})",
                literal(pick(random, &["line", &self.device]))
            ));
        }
        if random.u8(..8) == 0 {
            script.add(format!("SELECT attach_tablespace('pg_default', {relation})"));
        }
        if random.u8(..10) == 0 {
            script.add(format!("DROP INDEX IF EXISTS $schema.{}", ident(&format!("{}_{}_idx", self.name, self.time))));
        }
        let aggregated = random.bool();
        self.compression(random, script, &table, &relation);
        let retention = pick(random, &[0, 0, 30, 90]);
        if retention > 0 {
            self.retention(random, script, &relation, retention);
        }
        if random.u8(..5) == 0 {
            let index = format!("own_{}", self.number);
            script.add(format!("CREATE INDEX {index} ON {table} ({device}, {time} DESC)"));
            script.add(format!("SELECT add_reorder_policy({relation}, '{index}'{})", self.when(random, false)));
            self.alter(random, script, "policy_reorder");
        }
        if aggregated {
            self.aggregates(random, script);
        }
        if random.u8(..10) == 0 {
            script.add(format!("SELECT set_chunk_time_interval({relation}, {})", self.length(random.i32(2..9))));
        }
        if random.u8(..10) == 0 {
            script.add(format!(
                "INSERT INTO {table} SELECT {}, n, n, n, 'a' FROM generate_series(1, 3) n",
                if self.by_integer() {
                    format!("n::{}", self.type_)
                } else {
                    format!("(now() - n * interval '1 day')::{}", self.type_)
                }
            ));
        }
    }

    /// Some indexes of every form. Those before the conversion are the migration's.
    fn indexes(&self, random: &mut Rng, round: usize) -> Vec<String> {
        let (table, time, device) = (ident(&self.name), ident(&self.time), ident(&self.device));
        let forms = [
            format!("({device}, {time} DESC)"),
            format!("({time} DESC NULLS LAST, {device} ASC NULLS FIRST) INCLUDE (value, name)"),
            format!("(name) WHERE value > 0 AND name <> 'it''s' OR {device} IN (1, 2, 3)"),
            "(value) WHERE (value IS NOT NULL) AND lower(name) LIKE 'a\\_%' ESCAPE '\\'".to_owned(),
            "(lower(name))".to_owned(),
            "(name text_pattern_ops)".to_owned(),
            "(name COLLATE \"C\")".to_owned(),
            format!("({time}) WITH (fillfactor = 50)"),
            format!("({device}) WHERE {device} = ANY (ARRAY[1, 2]) AND NOT (value BETWEEN 1 AND 2)"),
            format!("USING brin ({time})"),
            "USING hash (name)".to_owned(),
            "USING gin (tags)".to_owned(),
            format!("({time} DESC)"),
            format!("({time})"),
        ];
        let mut made = Vec::new();
        for (number, form) in forms.iter().enumerate() {
            if random.u8(..10) == 0 {
                let name = ident(&format!("{}Index {round} {} {number}", pick(random, &["", "größe "]), self.number));
                made.push(format!("CREATE INDEX {name} ON {table} {form}"));
            }
        }
        if random.u8(..8) == 0 {
            let name = format!("unique_{}_{round}", self.number);
            made.push(format!("CREATE UNIQUE INDEX {name} ON {table} (line, {time} DESC, {device})"));
        }
        made
    }

    /// Arguments of a new policy about when its job runs.
    fn when(&self, random: &mut Rng, interval: bool) -> String {
        let mut arguments = String::new();
        if interval && random.u8(..3) == 0 {
            let _ = write!(
                arguments,
                ", schedule_interval => interval '{}'",
                pick(random, &["1 hour", "24:00:00", "1 mon", "90 minutes"])
            );
        }
        // A scheduler runs what has no start, and then it may fail.
        let _ = write!(arguments, ", initial_start => '2036-0{}-01 00:00Z'", random.u8(1..4));
        if random.u8(..3) == 0 {
            let _ = write!(arguments, ", timezone => '{}'", pick(random, &["Europe/Berlin", "UTC"]));
        }
        arguments
    }

    /// Changes the newest job of this kind.
    fn alter(&self, random: &mut Rng, script: &mut Script, procedure: &str) {
        let mine = "SELECT id FROM _timescaledb_catalog.hypertable WHERE schema_name = '$schema' UNION SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = '$schema'";
        let job = format!(
            "(SELECT max(id) FROM _timescaledb_config.bgw_job WHERE proc_name = '{procedure}' AND hypertable_id IN ({mine}))"
        );
        let zone = format!("timezone => (SELECT timezone FROM _timescaledb_config.bgw_job WHERE id = {job})");
        for (odds, change) in [
            (8, "scheduled => false"),
            (8, "max_retries => 3"),
            (8, "max_runtime => interval '1 hour'"),
            (8, "retry_period => interval '10 minutes'"),
            (8, "fixed_schedule => false"),
            (12, "schedule_interval => interval '3 days'"),
            (30, "max_retries => 0"),
        ] {
            if random.u8(..odds) == 0 {
                script.add(format!("SELECT alter_job({job}, {change}, {zone})"));
            }
        }
        for (odds, config) in [
            (30, "config || '{\"verbose_log\": true}'"),
            (40, "config || '{\"hypertable_id\": 1, \"mat_hypertable_id\": 1}'"),
            (
                30,
                "config || '{\"drop_after\": \"soon\", \"compress_after\": \"later\", \"end_offset\": \"never\", \"index_name\": \"gone\"}'",
            ),
        ] {
            if random.u8(..odds) == 0 {
                script.superuser(format!("UPDATE $jobs SET config = {config} WHERE id = {job}"));
            }
        }
        if random.u8(..30) == 0 {
            script.superuser(format!("UPDATE $jobs SET scheduled = false, max_retries = 2 WHERE id = {job}"));
            script.superuser(format!(
                "INSERT INTO _timescaledb_internal.bgw_job_stat (job_id, last_start, last_finish, next_start, last_successful_finish, last_run_success, total_runs, total_duration, total_duration_failures, total_successes, total_failures, total_crashes, consecutive_failures, consecutive_crashes) SELECT id, now(), now(), now(), '-infinity', false, 2, '1 s', '1 s', 0, 2, 0, 2, 0 FROM {job} j (id) WHERE id IS NOT NULL ON CONFLICT (job_id) DO UPDATE SET consecutive_failures = 2"
            ));
        }
    }

    fn compression(&self, random: &mut Rng, script: &mut Script, table: &str, relation: &str) {
        if random.u8(..3) == 0 {
            return;
        }
        let (time, device) = (ident(&self.time), ident(&self.device));
        let mut settings = vec!["timescaledb.compress".to_owned()];
        match random.u8(..5) {
            0 => settings.push("timescaledb.compress_segmentby = ''".into()),
            1 => settings.push(format!("timescaledb.compress_segmentby = {}", literal(&format!("{device}, name")))),
            2 => settings.push(format!("timescaledb.compress_segmentby = {}", literal(&device))),
            _ => {}
        }
        let ordered = random.bool();
        if ordered {
            let order = pick(random, &["value", "value DESC NULLS LAST", "line ASC NULLS FIRST, value"]);
            let order = if random.bool() { order.to_owned() } else { format!("{order}, {time}") };
            settings.push(format!("timescaledb.compress_orderby = {}", literal(&order)));
        }
        if ordered && random.u8(..3) == 0 {
            settings.push(format!(
                "timescaledb.compress_index = {}",
                literal(pick(random, &["", "bloom(name)", "minmax(value)"]))
            ));
        }
        if !self.by_integer() && random.u8(..4) == 0 {
            settings.push("timescaledb.compress_chunk_time_interval = '360 days'".into());
        }
        script.add(format!("ALTER TABLE {table} SET ({})", settings.join(", ")));
        if random.u8(..4) > 0 {
            let age = match random.u8(..6) {
                0 => "compress_created_before => interval '40 days'".to_owned(),
                _ => format!("compress_after => {}", self.length(random.i32(1..20))),
            };
            script.add(format!("SELECT add_compression_policy({relation}, {age}{})", self.when(random, true)));
            self.alter(random, script, "policy_compression");
        }
        if random.u8(..30) == 0 {
            script.add(format!("ALTER TABLE {table} SET (timescaledb.compress = false)"));
        }
    }

    fn retention(&self, random: &mut Rng, script: &mut Script, relation: &str, days: i32) {
        let age = match random.u8(..8) {
            0 => "drop_created_before => interval '50 days'".to_owned(),
            _ => format!("drop_after => {}", self.length(days)),
        };
        script.add(format!("SELECT add_retention_policy({relation}, {age}{})", self.when(random, true)));
        self.alter(random, script, "policy_retention");
    }

    fn aggregates(&self, random: &mut Rng, script: &mut Script) {
        let (table, time, device) = (ident(&self.name), ident(&self.time), ident(&self.device));
        let (view, second) = (
            format!("by {} \"{}\"", self.number, pick(random, &["x", "größe", "it's"])),
            format!("again_{}", self.number),
        );
        let (width, wide) = match self.type_ {
            "bigint" | "int" => ("100", "1000"),
            "smallint" => ("2", "10"),
            "date" => ("interval '1 day'", "interval '7 days'"),
            _ => (pick(random, &["interval '1 hour'", "'15 minutes'", "interval '1 day'"]), "interval '1 day'"),
        };
        let measures = pick(
            random,
            &[
                "avg(value) AS \"Mean\"",
                "avg(value), count(*), max(name)",
                "sum(value) FILTER (WHERE name <> 'it''s -- no\n   FROM here') AS sum, count(*) AS n",
                "percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median",
                "CASE WHEN min(value) > 0 THEN 'a\"b' ELSE $$c'd$$ END AS kind",
                "last(value, line), first(name, line)",
            ],
        );
        let mut of = vec![format!("time_bucket({width}, {time}) AS bucket")];
        let groups = pick(random, &[1, 2, 2, 3]);
        if groups > 1 {
            of.push(device.clone());
        }
        if groups > 2 {
            of.push("name AS \"Name of it\"".to_owned());
        }
        let group: Vec<_> = (1..=groups).map(|n| n.to_string()).collect();
        let condition = pick(
            random,
            &["", "", "WHERE value > 0 AND line IN (1, 2)", "WHERE name LIKE 'a%' OR (value, line) > (1, 2)"],
        );
        let having = pick(random, &["", "", "HAVING count(*) > 1"]);
        let mut options = vec!["timescaledb.continuous"];
        options.extend(
            [(1, "timescaledb.materialized_only = false"), (3, "timescaledb.create_group_indexes = false")]
                .into_iter()
                .filter(|(odds, _)| random.u8(..=*odds) == 0)
                .map(|(_, option)| option),
        );
        script.add(format!(
            "CREATE MATERIALIZED VIEW {} WITH ({}) AS SELECT {}, {measures} FROM {table} {condition} GROUP BY {} {having} WITH NO DATA",
            ident(&view), options.join(", "), of.join(", "), group.join(", ")
        ));
        self.behind(random, script, &view);
        if random.u8(..3) == 0 {
            script.add(format!(
                "CREATE MATERIALIZED VIEW {second} WITH (timescaledb.continuous) AS SELECT time_bucket({wide}, bucket) AS \"Bucket\", count(*) AS n FROM {} GROUP BY 1 WITH NO DATA",
                ident(&view)
            ));
            self.behind(random, script, &second);
        }
    }

    /// What stands on an aggregate.
    fn behind(&self, random: &mut Rng, script: &mut Script, view: &str) {
        let (relation, quoted) = (regclass(view), ident(view));
        if random.u8(..4) > 0 {
            let start = if random.u8(..8) == 0 { "NULL".to_owned() } else { self.length(random.i32(20..60)) };
            let end = if random.u8(..8) == 0 { "NULL".to_owned() } else { self.length(1) };
            let mut more = String::new();
            if random.u8(..5) == 0 {
                let _ = write!(more, ", buckets_per_batch => {}", random.i32(0..5));
            }
            if random.u8(..5) == 0 {
                let _ = write!(more, ", refresh_newest_first => {}", random.bool());
            }
            let every = pick(random, &["1 hour", "1 day", "90 minutes"]);
            script.add(format!(
                "SELECT add_continuous_aggregate_policy({relation}, {start}, {end}, interval '{every}'{more}{})",
                self.when(random, false)
            ));
            if random.u8(..5) == 0 {
                script.add(format!(
                    "SELECT add_continuous_aggregate_policy({relation}, {}, {}, interval '1 day'{})",
                    self.length(200),
                    self.length(100),
                    self.when(random, false)
                ));
            }
            self.alter(random, script, "policy_refresh_continuous_aggregate");
        }
        if random.u8(..4) == 0 {
            script.add(format!("CREATE INDEX ON {quoted} (bucket)"));
        }
        if random.u8(..4) == 0 {
            script.add(format!(
                "CREATE INDEX {} ON {quoted} (n DESC NULLS LAST) WHERE n > 1",
                ident(&format!("on {view}"))
            ));
        }
        if random.u8(..6) == 0 {
            script.add(format!("SELECT set_chunk_time_interval({relation}, {})", self.length(25)));
        }
        if random.u8(..3) == 0 {
            script.add(format!("ALTER MATERIALIZED VIEW {quoted} SET (timescaledb.compress = true)"));
            if random.bool() {
                script.add(format!(
                    "SELECT add_compression_policy({relation}, compress_after => {}{})",
                    self.length(70),
                    self.when(random, true)
                ));
                self.alter(random, script, "policy_compression");
            }
        }
        if random.u8(..4) == 0 {
            self.retention(random, script, &relation, 100);
        }
    }
}
