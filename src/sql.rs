//! The only place that writes SQL text: typed steps to statements.
//!
//! Every identifier goes through [`quote_ident`] and every value through [`quote_literal`]; the texts that resources
//! bring along (a query, a predicate) stand on lines of their own, so that a trailing comment cannot swallow what
//! follows, and the server's own parser sees one statement per message (extended protocol), so that they cannot bring a
//! second one. The statements are complete as they stand: what status and events show can be run in psql.

use crate::{
    api::types::{Interval, Relation, SqlName},
    catalog::{Extension, Policy, PolicyKind, SortColumn},
    desired::IndexTarget,
    plan::step::{Action, JobChanges, NewJob},
};

/// The statements of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// In order. Each must do something: one that returns no row where a row is due has missed its object.
    pub statements: Vec<Statement>,
    /// All in one transaction, or each by itself because TimescaleDB refuses it in a transaction block.
    pub transaction: bool,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Complete SQL text without a semicolon.
    pub text: String,
    /// Schemas in which the statement looks up names that a resource wrote without one, behind `pg_catalog`.
    pub search_path: Vec<SqlName>,
    /// It must return at least one row.
    pub returns_row: bool,
}

/// `"name"`, with quotes doubled.
pub fn quote_ident(name: &SqlName) -> String {
    format!("\"{}\"", name.as_str().replace('"', "\"\""))
}

/// `'text'`, with quotes doubled; with a backslash in it the `E''` form, which reads the same whatever
/// `standard_conforming_strings` says. The rule of libpq's `PQescapeLiteral`.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// `"schema"."name"`
pub fn quote_relation(relation: &Relation) -> String {
    format!("{}.{}", quote_ident(&relation.schema), quote_ident(&relation.name))
}

/// The relation as a `regclass` argument.
fn regclass(relation: &Relation) -> String {
    format!("{}::regclass", quote_literal(&quote_relation(relation)))
}

fn interval(value: Interval) -> String {
    format!("INTERVAL {}", quote_literal(&value.to_string()))
}

fn name_list(names: &[SqlName]) -> String {
    names.iter().map(quote_ident).collect::<Vec<_>>().join(", ")
}

fn sort_column(column: &SortColumn) -> String {
    format!(
        "{} {} NULLS {}",
        quote_ident(&column.column),
        if column.descending { "DESC" } else { "ASC" },
        if column.nulls_first { "FIRST" } else { "LAST" }
    )
}

fn sort_list(columns: &[SortColumn]) -> String {
    columns.iter().map(sort_column).collect::<Vec<_>>().join(", ")
}

impl Statement {
    fn new(text: String) -> Self {
        Self { text, search_path: Vec::new(), returns_row: false }
    }

    fn call(text: String) -> Self {
        Self { text, search_path: Vec::new(), returns_row: true }
    }
}

/// The statements that carry out an action on a database with this extension.
pub fn render(action: &Action, extension: &Extension) -> Script {
    let function = |name: &str| format!("{}.{name}", quote_ident(&extension.schema));
    let in_transaction = |statements| Script { statements, transaction: true };
    match action {
        Action::CreateHypertable {
            relation,
            time_column,
            chunk_interval,
            space,
            default_indexes,
            indexes,
            migrate_data,
        } => {
            let mut arguments = vec![regclass(relation), quote_literal(time_column.as_str())];
            if let Some((column, partitions)) = space.first() {
                arguments.push(format!("partitioning_column => {}", quote_literal(column.as_str())));
                arguments.push(format!("number_partitions => {partitions}"));
            }
            if let Some(range) = chunk_interval {
                arguments.push(format!("chunk_time_interval => {}", interval(*range)));
            }
            if !default_indexes {
                arguments.push("create_default_indexes => false".to_owned());
            }
            if *migrate_data {
                arguments.push("migrate_data => true".to_owned());
            }
            let create = format!("SELECT {}({})", function("create_hypertable"), arguments.join(", "));
            let mut statements = vec![Statement::call(create)];
            statements.extend(space.iter().skip(1).map(|(column, n)| add_dimension(relation, column, *n, extension)));
            statements.extend(indexes.iter().map(|index| create_index(relation, index, "", extension)));
            in_transaction(statements)
        }
        Action::SetChunkInterval { relation, column, interval: range } => {
            in_transaction(vec![Statement::call(format!(
                "SELECT {}({}, {}, dimension_name => {})",
                function("set_chunk_time_interval"),
                regclass(relation),
                interval(*range),
                quote_literal(column.as_str())
            ))])
        }
        Action::AddDimension { relation, column, partitions } => {
            in_transaction(vec![add_dimension(relation, column, *partitions, extension)])
        }
        Action::SetPartitions { relation, column, partitions } => in_transaction(vec![Statement::call(format!(
            "SELECT {}({}, {partitions}, dimension_name => {})",
            function("set_number_partitions"),
            regclass(relation),
            quote_literal(column.as_str())
        ))]),
        Action::CreateIndex { relation, index } => Script {
            statements: vec![create_index(relation, index, " WITH (timescaledb.transaction_per_chunk)", extension)],
            transaction: false,
        },
        Action::DropInvalidIndex { relation, index } => {
            let index = Relation { schema: relation.schema.clone(), name: index.clone() };
            in_transaction(vec![Statement::new(format!("DROP INDEX {}", quote_relation(&index)))])
        }
        Action::SetCompression { relation, segment_by, order_by } => {
            let mut options = vec!["timescaledb.compress".to_owned()];
            if let Some(columns) = segment_by {
                options.push(format!("timescaledb.compress_segmentby = {}", quote_literal(&name_list(columns))));
            }
            if let Some(columns) = order_by {
                options.push(format!("timescaledb.compress_orderby = {}", quote_literal(&sort_list(columns))));
            }
            let text = format!("ALTER TABLE {} SET ({})", quote_relation(relation), options.join(", "));
            in_transaction(vec![Statement::new(text)])
        }
        Action::AddPolicy { relation, policy, job } => {
            in_transaction(vec![add_policy(relation, policy, job, extension)])
        }
        Action::AlterPolicy { relation: _, job_id, hypertable_id, kind, changes } => {
            in_transaction(vec![alter_policy(*job_id, *hypertable_id, *kind, changes, extension)])
        }
        Action::RemovePolicy { relation, kind } => {
            let name = match kind {
                PolicyKind::Compression => "remove_compression_policy",
                PolicyKind::Retention => "remove_retention_policy",
                PolicyKind::Refresh => "remove_continuous_aggregate_policy",
            };
            let text = format!("SELECT {}({}, if_exists => true)", function(name), regclass(relation));
            in_transaction(vec![Statement::call(text)])
        }
        Action::CreateAggregate { relation, query, materialized_only } => {
            let mut options = vec!["timescaledb.continuous".to_owned()];
            if let Some(only) = materialized_only {
                options.push(format!("timescaledb.materialized_only = {only}"));
            }
            let text = format!(
                "CREATE MATERIALIZED VIEW {} WITH ({}) AS\n{query}\nWITH NO DATA",
                quote_relation(relation),
                options.join(", ")
            );
            in_transaction(vec![Statement { search_path: lookup_path(relation, extension), ..Statement::new(text) }])
        }
        Action::SetMaterializedOnly { relation, materialized_only } => in_transaction(vec![Statement::new(format!(
            "ALTER MATERIALIZED VIEW {} SET (timescaledb.materialized_only = {materialized_only})",
            quote_relation(relation)
        ))]),
        Action::DropAggregate { relation } => {
            in_transaction(vec![Statement::new(format!("DROP MATERIALIZED VIEW {}", quote_relation(relation)))])
        }
    }
}

/// Where the names that a resource wrote without a schema are looked up, behind `pg_catalog`.
pub fn lookup_path(relation: &Relation, extension: &Extension) -> Vec<SqlName> {
    let mut path = vec![extension.schema.clone()];
    if relation.schema != extension.schema {
        path.push(relation.schema.clone());
    }
    path
}

/// `SET [LOCAL] search_path` for statements with texts from a resource. `pg_catalog` first and `pg_temp` last, so that
/// nobody who can create objects somewhere can slip a function under a built-in name.
pub fn set_search_path(set: &str, schemas: &[SqlName]) -> String {
    let mut path = vec!["pg_catalog".to_owned()];
    path.extend(schemas.iter().map(quote_ident));
    path.push("pg_temp".to_owned());
    format!("{set} search_path = {}", path.join(", "))
}

/// A view that exists only to have the server read a query, in a transaction that is rolled back. That it must be one
/// SELECT is the server's judgement: CREATE VIEW takes nothing else.
pub fn temporary_view(query: &str) -> String {
    format!("CREATE TEMPORARY VIEW wanted_definition AS\n{query}\n")
}

/// An index on an empty copy of a table that exists only to have the server read a predicate, likewise.
pub fn temporary_index(relation: &Relation, predicate: &str) -> [String; 2] {
    [
        format!("CREATE TEMPORARY TABLE wanted_predicate (LIKE {})", quote_relation(relation)),
        format!("CREATE INDEX wanted_predicate_index ON pg_temp.wanted_predicate ((true)) WHERE (\n{predicate}\n)"),
    ]
}

fn add_dimension(relation: &Relation, column: &SqlName, partitions: i32, extension: &Extension) -> Statement {
    let schema = quote_ident(&extension.schema);
    Statement::call(format!(
        "SELECT {schema}.add_dimension({}, {schema}.by_hash({}, {partitions}))",
        regclass(relation),
        quote_literal(column.as_str())
    ))
}

fn create_index(relation: &Relation, index: &IndexTarget, with: &str, extension: &Extension) -> Statement {
    let include =
        if index.include.is_empty() { String::new() } else { format!(" INCLUDE ({})", name_list(&index.include)) };
    let predicate = index.predicate.as_ref().map(|text| format!(" WHERE (\n{text}\n)")).unwrap_or_default();
    let text = format!(
        "CREATE INDEX {} ON {} ({}){include}{with}{predicate}",
        quote_ident(&index.name),
        quote_relation(relation),
        sort_list(&index.columns)
    );
    Statement { search_path: lookup_path(relation, extension), ..Statement::new(text) }
}

fn timestamp(value: jiff::Timestamp) -> String {
    format!("TIMESTAMPTZ {}", quote_literal(&value.to_string()))
}

fn offset(value: Option<Interval>) -> String {
    value.map_or_else(|| "NULL::interval".to_owned(), interval)
}

fn add_policy(relation: &Relation, policy: &Policy, job: &NewJob, extension: &Extension) -> Statement {
    let schema = quote_ident(&extension.schema);
    let (function, mut arguments) = match policy {
        Policy::Compression { compress_after } => {
            ("add_compression_policy", vec![format!("compress_after => {}", offset(*compress_after))])
        }
        Policy::Retention { drop_after } => {
            ("add_retention_policy", vec![format!("drop_after => {}", offset(*drop_after))])
        }
        Policy::Refresh { start_offset, end_offset } => (
            "add_continuous_aggregate_policy",
            vec![
                format!("start_offset => {}", offset(*start_offset)),
                format!("end_offset => {}", offset(*end_offset)),
            ],
        ),
    };
    arguments.insert(0, regclass(relation));
    let NewJob { schedule_interval, initial_start, timezone, rest } = job;
    arguments.extend(schedule_interval.map(|i| format!("schedule_interval => {}", interval(i))));
    arguments.extend(initial_start.map(|t| format!("initial_start => {}", timestamp(t))));
    arguments.extend(timezone.as_ref().map(|zone| format!("timezone => {}", quote_literal(zone))));
    let add = format!("{schema}.{function}({})", arguments.join(", "));
    let mut changes = job_arguments(rest);
    if let Some(start) = initial_start {
        // A policy that is added with a start in the past runs at once; alter_job puts it on the next slot of its grid.
        changes.extend(first_start(*start));
    }
    if changes.is_empty() {
        return Statement::call(format!("SELECT {add}"));
    }
    changes.extend(timezone.as_ref().map(|zone| format!("timezone => {}", quote_literal(zone))));
    Statement::call(format!("SELECT {schema}.alter_job({add}, {})", changes.join(", ")))
}

/// A fixed schedule from this start on. Without `next_start` TimescaleDB goes to the next slot after now, even when the
/// start is years ahead; with it, a start in the past would run at once.
fn first_start(start: jiff::Timestamp) -> [String; 3] {
    let start = timestamp(start);
    [
        format!("initial_start => {start}"),
        "fixed_schedule => true".to_owned(),
        format!("next_start => CASE WHEN {start} > now() THEN {start} END"),
    ]
}

/// The arguments of `alter_job` that mean the same for a new job and a live one.
fn job_arguments(changes: &JobChanges) -> Vec<String> {
    let JobChanges {
        policy: _,
        schedule_interval,
        max_runtime,
        max_retries,
        retry_period,
        scheduled,
        initial_start: _,
        timezone: _,
    } = changes;
    let mut arguments = Vec::new();
    arguments.extend(schedule_interval.map(|i| format!("schedule_interval => {}", interval(i))));
    arguments.extend(max_runtime.map(|i| format!("max_runtime => {}", interval(i))));
    arguments.extend(max_retries.map(|n| format!("max_retries => {n}")));
    arguments.extend(retry_period.map(|i| format!("retry_period => {}", interval(i))));
    arguments.extend(scheduled.map(|s| format!("scheduled => {s}")));
    arguments
}

/// The keys of a policy's `config` that a resource speaks of: the one to remove, those to set.
fn config_keys(policy: &Policy) -> (Option<&'static str>, Vec<(&'static str, Option<Interval>)>) {
    match policy {
        Policy::Compression { compress_after } => {
            (Some("compress_created_before"), vec![("compress_after", *compress_after)])
        }
        Policy::Retention { drop_after } => (Some("drop_created_before"), vec![("drop_after", *drop_after)]),
        Policy::Refresh { start_offset, end_offset } => {
            (None, vec![("start_offset", *start_offset), ("end_offset", *end_offset)])
        }
    }
}

/// One `alter_job`, written around what it would break (`timescaledb` facts 4.2):
/// - `config` is the live one with our keys replaced, never one built from a remembered id;
/// - the time zone is sent again, because a call without it erases it;
/// - `next_start` is sent again, because a call with a new schedule or a time zone computes it anew: a job that never ran
///   would start at once;
/// - the job is found by id, kind and hypertable, so that an id that has come to mean something else is left alone.
fn alter_policy(
    job_id: i32,
    hypertable_id: i32,
    kind: PolicyKind,
    changes: &JobChanges,
    extension: &Extension,
) -> Statement {
    let alter_job = format!("{}.alter_job", quote_ident(&extension.schema));
    let mut arguments = vec![match changes.initial_start {
        // A job that never ran has no next start, and TimescaleDB computes one only where there is one.
        Some(_) => format!(
            "CASE WHEN s.job_id IS NULL THEN (SELECT a.job_id FROM {alter_job}(j.id, next_start => 'infinity', timezone => j.timezone) a) ELSE j.id END"
        ),
        None => "j.id".to_owned(),
    }];
    arguments.extend(job_arguments(changes));
    if let Some(policy) = &changes.policy {
        let (remove, set) = config_keys(policy);
        let removed = remove.map(|key| format!(" - {}", quote_literal(key))).unwrap_or_default();
        let pairs = set.iter().map(|(key, value)| {
            let value =
                value.map_or_else(|| "NULL::text".to_owned(), |i| format!("{}::text", quote_literal(&i.to_string())));
            format!("{}, {value}", quote_literal(key))
        });
        let pairs = pairs.collect::<Vec<_>>().join(", ");
        arguments.push(format!("config => (j.config{removed}) || jsonb_build_object({pairs})"));
    }
    match (changes.initial_start, changes.schedule_interval) {
        (Some(start), _) => arguments.extend(first_start(start)),
        (None, Some(every)) => {
            arguments.push(format!(
                "next_start => coalesce(nullif(s.next_start, '-infinity'), now() + {})",
                interval(every)
            ));
        }
        (None, None) => arguments.push("next_start => nullif(s.next_start, '-infinity')".to_owned()),
    }
    arguments.push(match &changes.timezone {
        Some(zone) => format!("timezone => {}", quote_literal(zone)),
        None => "timezone => j.timezone".to_owned(),
    });
    Statement::call(format!(
        "SELECT {alter_job}({}) FROM _timescaledb_config.bgw_job j LEFT JOIN _timescaledb_internal.bgw_job_stat s ON s.job_id = j.id \
         WHERE j.id = {job_id} AND j.proc_name = {} AND j.hypertable_id = {hypertable_id}",
        arguments.join(", "),
        quote_literal(kind.procedure()),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SqlName {
        text.parse().unwrap()
    }

    fn extension() -> Extension {
        Extension { version: serde_json::from_value("2.23.1".into()).unwrap(), schema: name("public") }
    }

    fn relation() -> Relation {
        Relation { schema: name("s"), name: name("it's \"t\"") }
    }

    #[test]
    fn a_relation_as_an_argument_is_quoted_twice() {
        assert_eq!(regclass(&relation()), r#"'"s"."it''s ""t"""'::regclass"#);
    }

    #[test]
    fn a_changed_schedule_keeps_time_zone_and_next_start() {
        let changes = JobChanges { schedule_interval: Some(Interval::from_days(1)), ..JobChanges::default() };
        let text = alter_policy(1000, 7, PolicyKind::Retention, &changes, &extension()).text;
        assert!(text.contains("timezone => j.timezone"), "{text}");
        assert!(
            text.contains("next_start => coalesce(nullif(s.next_start, '-infinity'), now() + INTERVAL '1 day')"),
            "{text}"
        );
        assert!(
            text.contains("WHERE j.id = 1000 AND j.proc_name = 'policy_retention' AND j.hypertable_id = 7"),
            "{text}"
        );
    }

    #[test]
    fn a_changed_window_replaces_only_its_own_keys() {
        let policy = Policy::Retention { drop_after: Some(Interval::from_days(90)) };
        let changes = JobChanges { policy: Some(policy), ..JobChanges::default() };
        let text = alter_policy(1000, 7, PolicyKind::Retention, &changes, &extension()).text;
        assert!(
            text.contains(
                "config => (j.config - 'drop_created_before') || jsonb_build_object('drop_after', '90 days'::text)"
            ),
            "{text}"
        );
        assert!(text.contains("next_start => nullif(s.next_start, '-infinity')"), "{text}");
    }

    #[test]
    fn texts_of_a_resource_stand_on_lines_of_their_own() {
        let query = "SELECT 1 -- a comment".to_owned();
        let action = Action::CreateAggregate { relation: relation(), query, materialized_only: Some(false) };
        let text = &render(&action, &extension()).statements[0].text;
        assert!(text.ends_with("AS\nSELECT 1 -- a comment\nWITH NO DATA"), "{text}");
    }

    /// Reads back what the quoting functions wrote, as PostgreSQL's lexer does.
    fn unquote(text: &str, quote: char) -> String {
        let escaped = text.starts_with(" E");
        let body = text.trim_start_matches(" E").strip_prefix(quote).unwrap().strip_suffix(quote).unwrap();
        let mut out = String::new();
        let mut chars = body.chars();
        while let Some(c) = chars.next() {
            if c == quote {
                assert_eq!(chars.next(), Some(quote), "a lone quote ends the token early: {text}");
            }
            if c == '\\' && escaped {
                assert_eq!(chars.next(), Some('\\'), "an escape of something else: {text}");
            }
            out.push(c);
        }
        out
    }

    proptest! {
        #[test]
        fn a_quoted_literal_is_one_token_that_reads_back_as_the_text(text in "[^\0]{0,40}") {
            prop_assert_eq!(unquote(&quote_literal(&text), '\''), text);
        }

        #[test]
        fn a_quoted_identifier_is_one_token_that_reads_back_as_the_name(text in "[^\0]{1,15}") {
            prop_assert_eq!(unquote(&quote_ident(&name(&text)), '"'), text);
        }
    }
}
