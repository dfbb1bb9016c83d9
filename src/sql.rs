//! The only place that writes SQL text: typed steps to statements.
//!
//! Every identifier goes through [`quote_ident`] and every value through [`quote_literal`]; the texts that resources
//! bring along (a query, a predicate) stand on lines of their own, so that a trailing comment cannot swallow what
//! follows, and the server's own parser sees one statement per message (extended protocol), so that they cannot bring a
//! second one. The statements are complete as they stand: what status and events show can be run in psql.

use std::collections::BTreeSet;

use crate::{
    api::{
        compression_policy::SparseIndexKind,
        index::IndexMethod,
        types::{Interval, Relation, Span, SqlName},
    },
    catalog::{Age, Columnstore, Extension, Grant, Policy, PolicyKind, RefreshOptions, SortColumn, SparseIndex},
    desired::IndexTarget,
    plan::step::{Action, JobChanges, NewJob, NewPolicy, ObjectKind, Swap},
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

fn span(value: Span) -> String {
    match value {
        Span::Time(value) => interval(value),
        Span::Integer(units) => format!("BIGINT '{units}'"),
    }
}

/// The statements that carry out an action on a database with this extension.
pub fn render(action: &Action, extension: &Extension) -> Script {
    let function = |name: &str| format!("{}.{name}", quote_ident(&extension.schema));
    let in_transaction = |statements| Script { statements, transaction: true };
    let alone = |statement| Script { statements: vec![statement], transaction: true };
    match action {
        Action::CreateHypertable {
            relation,
            time_column,
            chunk_interval,
            integer_now,
            space,
            default_indexes,
            indexes,
            comment,
            migrate_data,
        } => {
            let mut arguments = vec![regclass(relation), quote_literal(time_column.as_str())];
            if let Some((column, partitions)) = space.first() {
                arguments.push(format!("partitioning_column => {}", quote_literal(column.as_str())));
                arguments.push(format!("number_partitions => {partitions}"));
            }
            arguments.extend(chunk_interval.map(|range| format!("chunk_time_interval => {}", span(range))));
            if !default_indexes {
                arguments.push("create_default_indexes => false".to_owned());
            }
            if *migrate_data {
                arguments.push("migrate_data => true".to_owned());
            }
            let create = format!("SELECT {}({})", function("create_hypertable"), arguments.join(", "));
            let mut statements = vec![Statement::call(create)];
            statements.extend(integer_now.as_ref().map(|now| set_integer_now(relation, now, extension)));
            statements.extend(space.iter().skip(1).map(|(column, n)| add_dimension(relation, column, *n, extension)));
            for index in indexes {
                statements.push(create_index(relation, &index.name, index, "", extension));
                statements.push(comment_on_index(&relation.schema, &index.name, comment));
            }
            in_transaction(statements)
        }
        Action::SetChunkInterval { relation, interval: range } => alone(Statement::call(format!(
            "SELECT {}({}, {})",
            function("set_chunk_time_interval"),
            regclass(relation),
            span(*range),
        ))),
        Action::SetIntegerNow { relation, function: now } => alone(set_integer_now(relation, now, extension)),
        Action::SetChunkSkipping { relation, column, enabled } => {
            let name = if *enabled { "enable_chunk_skipping" } else { "disable_chunk_skipping" };
            let call = format!("SELECT {}({}, {})", function(name), regclass(relation), quote_literal(column.as_str()));
            in_transaction(vec![
                Statement::new("SET LOCAL timescaledb.enable_chunk_skipping = on".to_owned()),
                Statement::call(call),
            ])
        }
        Action::AttachTablespace { relation, tablespace } => alone(Statement::call(format!(
            "SELECT {}({}, {})",
            function("attach_tablespace"),
            quote_literal(tablespace.as_str()),
            regclass(relation)
        ))),
        Action::DetachTablespace { relation, tablespace } => alone(Statement::call(format!(
            "SELECT {}({}, {})",
            function("detach_tablespace"),
            quote_literal(tablespace.as_str()),
            regclass(relation)
        ))),
        Action::AddDimension { relation, column, partitions } => {
            alone(add_dimension(relation, column, *partitions, extension))
        }
        Action::SetPartitions { relation, column, partitions } => alone(Statement::call(format!(
            "SELECT {}({}, {partitions}, dimension_name => {})",
            function("set_number_partitions"),
            regclass(relation),
            quote_literal(column.as_str())
        ))),
        Action::BuildIndex { relation, name, index, comment } => {
            let with = " WITH (timescaledb.transaction_per_chunk)";
            let mut statements = vec![create_index(relation, name, index, with, extension)];
            statements.extend(comment.as_ref().map(|comment| comment_on_index(&relation.schema, name, comment)));
            Script { statements, transaction: false }
        }
        Action::PlaceIndex { relation, from, index, comment } => {
            let rename = format!(
                "ALTER INDEX {}.{} RENAME TO {}",
                quote_ident(&relation.schema),
                quote_ident(from),
                quote_ident(&index.name)
            );
            in_transaction(vec![
                drop_index(&relation.schema, &index.name),
                Statement::new(rename),
                comment_on_index(&relation.schema, &index.name, comment),
            ])
        }
        Action::CreateIndex { relation, schema, index, replaces, comment } => {
            let mut statements = Vec::new();
            if *replaces {
                statements.push(drop_index(schema, &index.name));
            }
            statements.push(create_index(relation, &index.name, index, "", extension));
            statements.push(comment_on_index(schema, &index.name, comment));
            in_transaction(statements)
        }
        Action::DropIndex { relation: _, schema, index, only_invalid: false } => alone(drop_index(schema, index)),
        // Once the table is locked nobody builds any more, and what is not valid then will never be.
        Action::DropIndex { relation, schema, index, only_invalid: true } => {
            let named = Relation { schema: schema.clone(), name: index.clone() };
            let invalid =
                format!("SELECT FROM pg_catalog.pg_index WHERE indexrelid = {} AND NOT indisvalid", regclass(&named));
            // Not through the view of an aggregate: locking that locks what it reads, too. Its indexes are built as a whole.
            let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", quote_relation(relation));
            let mut statements = Vec::from_iter((relation.schema == *schema).then(|| Statement::new(lock)));
            statements.extend([Statement::call(invalid), drop_index(schema, index)]);
            in_transaction(statements)
        }
        Action::SetCompression { relation, object, segment_by, order_by, sparse_indexes, merge_interval } => {
            let settings = Columnstore {
                segment_by: segment_by.clone(),
                order_by: order_by.clone(),
                sparse_indexes: sparse_indexes.clone(),
            };
            alone(set_compression(relation, *object, &settings, *merge_interval))
        }
        Action::AddPolicy { relation, new } => alone(add_policy(relation, new, extension)),
        Action::AlterPolicy { relation: _, job_id, hypertable_id, kind, changes } => {
            alone(alter_policy(*job_id, *hypertable_id, *kind, changes, extension))
        }
        Action::ReplacePolicy { relation, new } => in_transaction(vec![
            remove_policy(relation, new.policy.kind(), extension),
            add_policy(relation, new, extension),
        ]),
        Action::RemovePolicy { relation, kind } => alone(remove_policy(relation, *kind, extension)),
        Action::CreateAggregate { relation, query, materialized_only, create_group_indexes, comment } => {
            let mut options = vec!["timescaledb.continuous".to_owned()];
            options.extend(materialized_only.map(|only| format!("timescaledb.materialized_only = {only}")));
            options.extend(create_group_indexes.map(|make| format!("timescaledb.create_group_indexes = {make}")));
            let text = format!(
                "CREATE MATERIALIZED VIEW {} WITH ({}) AS\n{query}\nWITH NO DATA",
                quote_relation(relation),
                options.join(", ")
            );
            let mut statements =
                vec![Statement { search_path: lookup_path(relation, extension), ..Statement::new(text) }];
            statements.extend(comment.as_ref().map(|comment| comment_on_view(relation, Some(comment))));
            in_transaction(statements)
        }
        Action::FillAggregate { relation } => Script {
            statements: vec![Statement::new(format!(
                "CALL {}({}, NULL, NULL)",
                function("refresh_continuous_aggregate"),
                regclass(relation)
            ))],
            transaction: false,
        },
        Action::SwapAggregate(swap) => in_transaction(swap_aggregate(swap, extension)),
        Action::SetMaterializedOnly { relation, materialized_only } => alone(Statement::new(format!(
            "ALTER MATERIALIZED VIEW {} SET (timescaledb.materialized_only = {materialized_only})",
            quote_relation(relation)
        ))),
        Action::DropAggregate { relation } => {
            alone(Statement::new(format!("DROP MATERIALIZED VIEW {}", quote_relation(relation))))
        }
    }
}

fn set_integer_now(relation: &Relation, now: &Relation, extension: &Extension) -> Statement {
    Statement::call(format!(
        "SELECT {}.set_integer_now_func({}, {}::regproc, replace_if_exists => true)",
        quote_ident(&extension.schema),
        regclass(relation),
        quote_literal(&quote_relation(now))
    ))
}

fn drop_index(schema: &SqlName, name: &SqlName) -> Statement {
    Statement::new(format!("DROP INDEX {}.{}", quote_ident(schema), quote_ident(name)))
}

fn comment_on_index(schema: &SqlName, name: &SqlName, comment: &str) -> Statement {
    let index = format!("{}.{}", quote_ident(schema), quote_ident(name));
    Statement::new(format!("COMMENT ON INDEX {index} IS {}", quote_literal(comment)))
}

fn comment_on_view(relation: &Relation, comment: Option<&String>) -> Statement {
    let comment = comment.map_or_else(|| "NULL".to_owned(), |text| quote_literal(text));
    Statement::new(format!("COMMENT ON VIEW {} IS {comment}", quote_relation(relation)))
}

fn set_compression(
    relation: &Relation,
    object: ObjectKind,
    settings: &Columnstore,
    merge_interval: Option<Span>,
) -> Statement {
    let Columnstore { segment_by, order_by, sparse_indexes } = settings;
    let mut options = vec!["timescaledb.compress".to_owned()];
    let mut option = |name: &str, value: Option<String>| {
        options.extend(value.map(|value| format!("timescaledb.{name} = {}", quote_literal(&value))));
    };
    option("compress_segmentby", segment_by.as_deref().map(name_list));
    option("compress_orderby", order_by.as_deref().map(sort_list));
    option("compress_index", sparse_indexes.as_ref().map(sparse_list));
    // An integer is taken for seconds; the microseconds of an interval are what is stored for an integer time column.
    option(
        "compress_chunk_time_interval",
        merge_interval.map(|span| match span {
            Span::Time(interval) => interval.to_string(),
            Span::Integer(units) => format!("{units} microseconds"),
        }),
    );
    let object = match object {
        ObjectKind::Table => "TABLE",
        ObjectKind::MaterializedView => "MATERIALIZED VIEW",
    };
    Statement::new(format!("ALTER {object} {} SET ({})", quote_relation(relation), options.join(", ")))
}

fn sparse_list(indexes: &BTreeSet<SparseIndex>) -> String {
    let index = |index: &SparseIndex| {
        let kind = match index.kind {
            SparseIndexKind::Bloom => "bloom",
            SparseIndexKind::MinMax => "minmax",
            SparseIndexKind::FirstLast => "firstlast",
        };
        format!("{kind}({})", name_list(&index.columns.iter().cloned().collect::<Vec<_>>()))
    };
    indexes.iter().map(index).collect::<Vec<_>>().join(", ")
}

fn remove_policy(relation: &Relation, kind: PolicyKind, extension: &Extension) -> Statement {
    let name = match kind {
        PolicyKind::Compression => "remove_compression_policy",
        PolicyKind::Retention => "remove_retention_policy",
        PolicyKind::Refresh => "remove_continuous_aggregate_policy",
        PolicyKind::Reorder => "remove_reorder_policy",
    };
    let schema = quote_ident(&extension.schema);
    Statement::call(format!("SELECT {schema}.{name}({}, if_exists => true)", regclass(relation)))
}

/// The one that comes takes over what hangs on the one that goes, then the names change hands. Policies come last but for
/// the names, so that no job of the one that comes runs before it is in its place.
fn swap_aggregate(swap: &Swap, extension: &Extension) -> Vec<Statement> {
    let Swap { relation, replacement, replaced, replaced_comment, owner, comment, .. } = swap;
    let view = |relation: &Relation| format!("ALTER MATERIALIZED VIEW {}", quote_relation(relation));
    let rename =
        |from: &Relation, to: &Relation| Statement::new(format!("{} RENAME TO {}", view(from), quote_ident(&to.name)));
    let mut statements = vec![rename(relation, replaced), rename(replacement, relation)];
    if let Some(owner) = owner {
        statements.push(Statement::new(format!("{} OWNER TO {}", view(relation), quote_ident(owner))));
    }
    statements.push(comment_on_view(relation, comment.as_ref()));
    statements.push(comment_on_view(replaced, Some(replaced_comment)));
    for Grant { grantee, privilege, grantable } in &swap.grants {
        let grantee = grantee.as_ref().map_or_else(|| "PUBLIC".to_owned(), quote_ident);
        let option = if *grantable { " WITH GRANT OPTION" } else { "" };
        let text = format!("GRANT {} ON {} TO {grantee}{option}", privilege.as_str(), quote_relation(relation));
        statements.push(Statement::new(text));
    }
    if let Some(interval) = swap.chunk_interval {
        let function = format!("{}.set_chunk_time_interval", quote_ident(&extension.schema));
        statements.push(Statement::call(format!("SELECT {function}({}, {})", regclass(relation), span(interval))));
    }
    let refreshes_first = |new: &&NewPolicy| new.policy.kind() == PolicyKind::Refresh;
    statements.extend(swap.policies.iter().filter(refreshes_first).map(|new| add_policy(relation, new, extension)));
    if let Some(settings) = &swap.columnstore {
        statements.push(set_compression(relation, ObjectKind::MaterializedView, settings, swap.merge_interval));
    }
    let others = swap.policies.iter().filter(|new| !refreshes_first(new));
    statements.extend(others.map(|new| add_policy(relation, new, extension)));
    statements
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

/// What installs the monitoring views and functions in a schema, to be run in one transaction. The texts are fixed, and
/// are what psql runs (`sql/monitoring/install.sql`); they read the name of the schema from a setting.
pub fn install_monitoring(schema: &SqlName) -> String {
    [
        &format!(
            "SELECT set_config('timescaledb_policy_operator.monitoring_schema', {}, true);",
            quote_literal(schema.as_str())
        ),
        include_str!("../sql/monitoring/schema.sql"),
        include_str!("../sql/monitoring/views.sql"),
        include_str!("../sql/monitoring/operations.sql"),
        include_str!("../sql/monitoring/version.sql"),
    ]
    .join("\n")
}

/// A view that exists only to have the server read a query, the `nr`th in a transaction that is rolled back. That it must be
/// one SELECT is the server's judgement: CREATE VIEW takes nothing else.
pub fn temporary_view(nr: usize, query: &str) -> String {
    format!("CREATE TEMPORARY VIEW wanted_definition_{nr} AS\n{query}\n")
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

fn create_index(
    relation: &Relation,
    name: &SqlName,
    index: &IndexTarget,
    with: &str,
    extension: &Extension,
) -> Statement {
    let include =
        if index.include.is_empty() { String::new() } else { format!(" INCLUDE ({})", name_list(&index.include)) };
    let predicate = index.predicate.as_ref().map(|text| format!(" WHERE (\n{text}\n)")).unwrap_or_default();
    // Only btree has an order to speak of.
    let (using, columns) = match index.method {
        IndexMethod::Btree => (String::new(), sort_list(&index.columns)),
        method => {
            let columns: Vec<_> = index.columns.iter().map(|c| quote_ident(&c.column)).collect();
            (format!(" USING {}", method.as_str()), columns.join(", "))
        }
    };
    let text = format!(
        "CREATE {}INDEX {} ON {}{using} ({columns}){include}{with}{predicate}",
        if index.unique { "UNIQUE " } else { "" },
        quote_ident(name),
        quote_relation(relation),
    );
    Statement { search_path: lookup_path(relation, extension), ..Statement::new(text) }
}

fn timestamp(value: jiff::Timestamp) -> String {
    format!("TIMESTAMPTZ {}", quote_literal(&value.to_string()))
}

/// The argument of a policy that says its age.
fn age(after: Option<Age>, older_than: &str, created_before: &str) -> Vec<String> {
    match after {
        Some(Age::OlderThan(value)) => vec![format!("{older_than} => {}", span(value))],
        Some(Age::CreatedBefore(value)) => vec![format!("{created_before} => {}", interval(value))],
        None => Vec::new(),
    }
}

fn add_policy(relation: &Relation, new: &NewPolicy, extension: &Extension) -> Statement {
    let NewPolicy { policy, job, integers } = new;
    let schema = quote_ident(&extension.schema);
    // Unlike those of the other policies, the offsets of a refresh must be of the very type of the time column.
    let by_integer = |value: &Option<Span>| matches!(value, Some(Span::Integer(_)));
    let offset = |value: Option<Span>, integer: bool| match value {
        Some(Span::Time(value)) => interval(value),
        Some(Span::Integer(units)) => format!("'{units}'::{}", integers.as_str()),
        None if integer => format!("NULL::{}", integers.as_str()),
        None => "NULL::interval".to_owned(),
    };
    let (function, mut arguments) = match policy {
        Policy::Compression { after } => {
            ("add_compression_policy", age(*after, "compress_after", "compress_created_before"))
        }
        Policy::Retention { after } => ("add_retention_policy", age(*after, "drop_after", "drop_created_before")),
        Policy::Refresh { start_offset, end_offset, options } => {
            let integer = by_integer(start_offset) || by_integer(end_offset);
            let mut arguments = vec![
                format!("start_offset => {}", offset(*start_offset, integer)),
                format!("end_offset => {}", offset(*end_offset, integer)),
            ];
            arguments.extend(refresh_options(options).into_iter().map(|(name, value)| format!("{name} => {value}")));
            ("add_continuous_aggregate_policy", arguments)
        }
        Policy::Reorder { index } => {
            let index = index.as_ref().map(|name| format!("index_name => {}", quote_literal(name.as_str())));
            ("add_reorder_policy", index.into_iter().collect())
        }
    };
    arguments.insert(0, regclass(relation));
    let NewJob { schedule_interval, initial_start, timezone, rest } = job;
    let every = schedule_interval.map(|i| format!("schedule_interval => {}", interval(i)));
    // A reorder policy is added without a schedule.
    let is_reorder = policy.kind() == PolicyKind::Reorder;
    arguments.extend(every.clone().filter(|_| !is_reorder));
    arguments.extend(initial_start.map(|t| format!("initial_start => {}", timestamp(t))));
    arguments.extend(timezone.as_ref().map(|zone| format!("timezone => {}", quote_literal(zone))));
    let add = format!("{schema}.{function}({})", arguments.join(", "));
    let mut changes = job_arguments(rest);
    changes.extend(every.filter(|_| is_reorder));
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

/// The options of a refresh that are given.
fn refresh_options(options: &RefreshOptions) -> Vec<(&'static str, String)> {
    let RefreshOptions { include_tiered_data, buckets_per_batch, max_batches_per_execution, refresh_newest_first } =
        options;
    let all = [
        ("include_tiered_data", include_tiered_data.map(|v| v.to_string())),
        ("buckets_per_batch", buckets_per_batch.map(|v| v.to_string())),
        ("max_batches_per_execution", max_batches_per_execution.map(|v| v.to_string())),
        ("refresh_newest_first", refresh_newest_first.map(|v| v.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The keys of a policy's `config` that a resource speaks of: the one to remove, and those to set with their values as SQL.
fn config_keys(policy: &Policy) -> (Option<&'static str>, Vec<(&'static str, String)>) {
    let text = |value: Option<Interval>| {
        value.map_or_else(|| "NULL::text".to_owned(), |i| format!("{}::text", quote_literal(&i.to_string())))
    };
    let value = |value: Option<Span>| match value {
        Some(Span::Integer(units)) => format!("'{units}'::bigint"),
        Some(Span::Time(interval)) => text(Some(interval)),
        None => text(None),
    };
    let age = |after: &Option<Age>, older_than, created_before| match after {
        Some(Age::OlderThan(span)) => (Some(created_before), vec![(older_than, value(Some(*span)))]),
        Some(Age::CreatedBefore(interval)) => (Some(older_than), vec![(created_before, text(Some(*interval)))]),
        None => (None, Vec::new()),
    };
    match policy {
        Policy::Compression { after } => age(after, "compress_after", "compress_created_before"),
        Policy::Retention { after } => age(after, "drop_after", "drop_created_before"),
        Policy::Refresh { start_offset, end_offset, options } => {
            let mut keys = vec![("start_offset", value(*start_offset)), ("end_offset", value(*end_offset))];
            keys.extend(refresh_options(options));
            (None, keys)
        }
        Policy::Reorder { index } => {
            let index = index.as_ref().map(|name| format!("{}::text", quote_literal(name.as_str())));
            (None, index.into_iter().map(|name| ("index_name", name)).collect())
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
        let pairs = set.iter().map(|(key, value)| format!("{}, {value}", quote_literal(key)));
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
        let policy = Policy::Retention { after: Some(Age::OlderThan(Interval::from_days(90).into())) };
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
        let action = Action::CreateAggregate {
            relation: relation(),
            query,
            materialized_only: Some(false),
            create_group_indexes: None,
            comment: None,
        };
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
