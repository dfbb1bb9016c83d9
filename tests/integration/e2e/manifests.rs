//! The YAML that the tests apply. Every resource names the database `plant` and a table of its own name in the schema
//! `plant`; what a test is about it writes itself.

/// One document. `spec` is the inside of a flow mapping.
pub fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: timescaledb-policy.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// A database whose secret has its name, looked at every second.
pub fn database(name: &str, more: &str) -> String {
    let spec = format!("connection: {{secretRef: {{name: {name}}}}}, resyncInterval: 1s, {more}");
    resource("TimescaleDatabase", name, &spec)
}

/// The table of this name, by `ts`.
pub fn hypertable(name: &str, more: &str) -> String {
    let spec = format!("databaseRef: {{name: plant}}, schema: plant, table: {name}, timeColumn: ts, {more}");
    resource("Hypertable", name, &spec)
}

/// A policy of the hypertable of its name.
pub fn compression(name: &str, more: &str) -> String {
    let spec = format!("targetRef: {{kind: Hypertable, name: {name}}}, compressAfter: 300 days, {more}");
    resource("CompressionPolicy", name, &spec)
}

/// A policy of the hypertable of its name.
pub fn retention(name: &str, more: &str) -> String {
    resource("RetentionPolicy", name, &format!("targetRef: {{kind: Hypertable, name: {name}}}, {more}"))
}

/// A resource with a label `tier`.
pub fn labelled(tier: &str, manifest: &str) -> String {
    manifest.replacen("metadata: {", &format!("metadata: {{labels: {{tier: {tier}}}, "), 1)
}

/// A policy of all hypertables with this label `tier`.
pub fn fleet(kind: &str, name: &str, tier: &str, more: &str) -> String {
    let selector = format!("targetSelector: {{kind: Hypertable, matchLabels: {{tier: {tier}}}}}");
    resource(kind, name, &format!("{selector}, {more}"))
}

/// The number of rows of a table in buckets of this width.
pub fn aggregate(name: &str, table: &str, width: &str, more: &str) -> String {
    let query = format!("SELECT time_bucket('{width}', ts) AS bucket, count(*) AS n FROM plant.{table} GROUP BY 1");
    let spec = format!("databaseRef: {{name: plant}}, schema: plant, name: {name}, query: \"{query}\", {more}");
    resource("ContinuousAggregate", name, &spec)
}

/// A table with a hypertable's columns, empty.
pub fn table(name: &str) -> String {
    format!("CREATE TABLE plant.{name} (ts timestamptz NOT NULL, sensor int, value float8);\n")
}

/// A table with a row for each of the last days, the newest of now.
pub fn table_of_days(name: &str, days: u32) -> String {
    let rows = format!("SELECT now() - n * interval '1 day', n % 3, n FROM generate_series(0, {}) AS n", days - 1);
    format!("{}INSERT INTO plant.{name} {rows};\n", table(name))
}
