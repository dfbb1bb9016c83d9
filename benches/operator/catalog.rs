//! A catalog with many chunks: what each query of the operator reads there.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{database::Database, support::Result, workload};

const HYPERTABLES: usize = 1000;
/// Of them, those with an aggregate.
const AGGREGATES: usize = 100;

/// A query of the operator: its name, its text, the types of its parameters, and their values as SQL.
struct Query {
    name: &'static str,
    text: &'static str,
    types: &'static str,
    values: String,
}

pub struct Catalog {
    pub chunks: usize,
    pub queries: Vec<Measured>,
}

pub struct Measured {
    pub name: &'static str,
    /// With what it takes to send the rows.
    pub took: Duration,
    pub rows: usize,
    pub bytes: usize,
    /// The node of the plan that has read most rows: what it is, and how many.
    pub widest: (String, f64),
}

fn queries() -> Vec<Query> {
    let all = |text: &str| format!("array(SELECT {text} FROM generate_series(0, {}) n)", HYPERTABLES - 1);
    let schema = format!("'{}'::text", workload::SCHEMA);
    let names = format!("{}, {}", all(&schema), all("'t' || lpad(n::text, 5, '0')"));
    let views = names.replace("lpad(n::text, 5, '0')", "lpad(n::text, 5, '0') || '_hourly'");
    let views = views.replace(&(HYPERTABLES - 1).to_string(), &(AGGREGATES - 1).to_string());
    let policies = "array(SELECT hypertable_id FROM _timescaledb_config.bgw_job WHERE proc_name IN ('policy_compression', 'policy_retention') ORDER BY id), \
        array(SELECT CASE proc_name WHEN 'policy_compression' THEN 'compression' ELSE 'retention' END FROM _timescaledb_config.bgw_job WHERE proc_name IN ('policy_compression', 'policy_retention') ORDER BY id), \
        array(SELECT 'time' FROM _timescaledb_config.bgw_job WHERE proc_name IN ('policy_compression', 'policy_retention') ORDER BY id), \
        array(SELECT coalesce(config ->> 'compress_after', config ->> 'drop_after') FROM _timescaledb_config.bgw_job WHERE proc_name IN ('policy_compression', 'policy_retention') ORDER BY id)";
    let query = |name, text, types, values| Query { name, text, types, values };
    macro_rules! sql {
        ($file:literal) => {
            include_str!(concat!("../../sql/", $file))
        };
    }
    vec![
        query("catalog/server", sql!("catalog/server.sql"), "", String::new()),
        query("catalog/tables_digest", sql!("catalog/tables_digest.sql"), "text[], text[]", names.clone()),
        query("catalog/jobs_digest", sql!("catalog/jobs_digest.sql"), "", String::new()),
        query("catalog/hypertables", sql!("catalog/hypertables.sql"), "text[], text[]", names.clone()),
        query("catalog/aggregates", sql!("catalog/aggregates.sql"), "", String::new()),
        query("catalog/jobs", sql!("catalog/jobs.sql"), "", String::new()),
        query(
            "catalog/job_errors",
            sql!("catalog/job_errors.sql"),
            "int[]",
            "array(SELECT id FROM _timescaledb_config.bgw_job)".to_owned(),
        ),
        query("catalog/tables", sql!("catalog/tables.sql"), "text[], text[]", names.clone()),
        query(
            "catalog/drops, of one table",
            sql!("catalog/drops.sql"),
            "text[], text[], text[], text[]",
            format!("array[{schema}], array['t00000'::text], array['3650 days'::text], array['time'::text]"),
        ),
        query(
            "catalog/drops, of all tables",
            sql!("catalog/drops.sql"),
            "text[], text[], text[], text[]",
            format!("{names}, {}, {}", all("'3650 days'::text"), all("'time'::text")),
        ),
        query(
            "catalog/history, of one aggregate",
            sql!("catalog/history.sql"),
            "text[], text[], text[]",
            format!("array[{schema}], array['t00000_hourly'::text], array['1 year'::text]"),
        ),
        query(
            "catalog/history, of all aggregates",
            sql!("catalog/history.sql"),
            "text[], text[], text[]",
            format!(
                "{views}, {}",
                all("'1 year'::text").replace(&(HYPERTABLES - 1).to_string(), &(AGGREGATES - 1).to_string())
            ),
        ),
        query("statistics/tables", sql!("statistics/tables.sql"), "int[], text[], text[], text[]", policies.to_owned()),
        query("statistics/database", sql!("statistics/database.sql"), "", String::new()),
        query("statistics/other_jobs", sql!("statistics/other_jobs.sql"), "", String::new()),
    ]
}

pub async fn measure(chunks: usize) -> Result<Catalog> {
    eprintln!("{HYPERTABLES} hypertables with {chunks} chunks");
    let database = Database::with_tables(HYPERTABLES).await?;
    let of_each = chunks.div_ceil(HYPERTABLES);
    let started = Instant::now();
    // For each chunk TimescaleDB reads all constraints of the database (relation_get_referencing_fk): with many chunks the
    // making takes longer than all that is measured.
    let makers = std::thread::available_parallelism().map_or(1, usize::from);
    futures::future::try_join_all(
        (0..makers).map(|first| make(&database, (first..HYPERTABLES).step_by(makers), of_each)),
    )
    .await?;
    vacuum(&database).await?;
    eprintln!("  made in {:.0?}", started.elapsed());
    let sql = database.as_operator().await?;
    // As the operator's sessions are.
    sql.batch_execute("SET search_path = pg_catalog, pg_temp; SET jit = off").await?;
    let mut measured = Vec::new();
    for Query { name, text, types, values } in queries() {
        let text = text.replace("@extension@", "public");
        let types = if types.is_empty() { String::new() } else { format!("({types})") };
        let values = if values.is_empty() { String::new() } else { format!("({values})") };
        // EXECUTE takes no subqueries: the values are computed before.
        let values = if values.is_empty() { values } else { literal(&sql, &values).await? };
        sql.batch_execute(&format!("PREPARE q{types} AS {text}")).await?;
        // Once to warm up.
        let mut took = Duration::MAX;
        let (mut rows, mut bytes) = (0, 0);
        for _ in 0..3 {
            let started = Instant::now();
            let answer = sql.simple_query(&format!("EXECUTE q{values}")).await?;
            took = took.min(started.elapsed());
            let texts = answer.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::len),
                _ => None,
            });
            let texts: Vec<_> = texts.collect();
            (rows, bytes) = (texts.len(), texts.iter().sum());
            if took > Duration::from_secs(20) {
                break;
            }
        }
        let explained = sql.simple_query(&format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE q{values}")).await?;
        let plan: String = explained
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        if let Some(folder) = std::env::var_os("BENCH_PLANS") {
            let file = format!("{}-{chunks}.json", name.replace(['/', ' '], "-"));
            std::fs::write(std::path::Path::new(&folder).join(file), &plan)?;
        }
        let plan: Value = serde_json::from_str(&plan)?;
        let mut widest = (String::new(), 0.0);
        widest_of(&plan[0]["Plan"], &mut widest);
        eprintln!("  {name}: {took:.1?}, {} reads {} rows", widest.0, widest.1);
        measured.push(Measured { name, took, rows, bytes, widest });
        sql.batch_execute("DEALLOCATE q").await?;
    }
    drop(sql);
    database.end().await?;
    Ok(Catalog { chunks: of_each * HYPERTABLES, queries: measured })
}

/// Makes these tables, with so many chunks each.
async fn make(database: &Database, tables: impl Iterator<Item = usize>, of_each: usize) -> Result<()> {
    let (operator, owner) = (database.as_operator().await?, database.connect().await?);
    operator.batch_execute("SET search_path = pg_catalog, public").await?;
    for n in tables {
        for (_, statement) in workload::statements(n).iter().filter(|(kind, _)| *kind < 3 || n < AGGREGATES) {
            operator.batch_execute(statement).await?;
        }
        let rows = format!(
            "SELECT date_trunc('day', now()) - i * interval '1 day', 1, 1 FROM generate_series(0, {}) i",
            of_each - 1
        );
        owner.batch_execute(&format!("INSERT INTO {}.{} {rows}", workload::SCHEMA, workload::table(n))).await?;
        // Autovacuum comes late for inserts as fast as these.
        if n % 50 == 0 {
            vacuum(database).await?;
        }
    }
    Ok(())
}

/// Leaves the catalogs as autovacuum does.
async fn vacuum(database: &Database) -> Result<()> {
    let superuser = database.superuser().await?;
    let catalogs: Vec<String> = superuser
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND (n.nspname IN ('pg_catalog', '_timescaledb_catalog', '_timescaledb_config') OR c.relname = 'bgw_job_stat')",
            &[],
        )
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    Ok(superuser.batch_execute(&format!("VACUUM ANALYZE {}", catalogs.join(", "))).await?)
}

/// The values of these expressions, as literals of a call.
async fn literal(sql: &tokio_postgres::Client, values: &str) -> Result<String> {
    let inner = values.trim_start_matches('(').strip_suffix(')').unwrap_or(values);
    let row = sql
        .query_one(
            &format!(
                "SELECT ARRAY(SELECT quote_literal(v::text) FROM (SELECT unnest(ARRAY[{}]) AS v) x)",
                split(inner)
            ),
            &[],
        )
        .await?;
    Ok(format!("({})", row.get::<_, Vec<String>>(0).join(", ")))
}

/// Each array as its text.
fn split(values: &str) -> String {
    let (mut depth, mut parts, mut part) = (0_i32, Vec::new(), String::new());
    for c in values.chars() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.iter().map(|part| format!("({})::text", part.trim())).collect::<Vec<_>>().join(", ")
}

fn widest_of(node: &Value, widest: &mut (String, f64)) {
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    let rows = (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops");
    if rows > widest.1 {
        let text = |key: &str| node[key].as_str().unwrap_or_default();
        let on = ["Relation Name", "Function Name", "CTE Name", "Subplan Name"]
            .into_iter()
            .map(text)
            .find(|name| !name.is_empty());
        *widest = (format!("{} {}", text("Node Type"), on.unwrap_or_default()).trim().to_owned(), rows);
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        widest_of(child, widest);
    }
}
