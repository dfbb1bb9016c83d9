//! The catalog's objects as the specs of resources, with remarks on what no field says. Whether the planner agrees is
//! not decided here.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    details::{AggregateDetails, Details, TableDetails},
    indexes, jobs,
    spans::{age_texts, interval_text, span_text},
};
use crate::{
    api::{
        compression_policy::{CompressionPolicySpec, OrderBy, SparseIndex},
        continuous_aggregate::{AggregateDeletion, ContinuousAggregateSpec, QueryChange, RefreshPolicy},
        hypertable::{HypertableSpec, Reorder, SpacePartition},
        retention_policy::RetentionPolicySpec,
        types::{DatabaseRef, PolicyDeletion, Relation, Schedule, Span, SqlName, TargetRef},
    },
    catalog::{Age, Aggregate, Catalog, Columnstore, Hypertable, Job, Partitioning, Policy, PolicyKind},
};

/// What the API takes of each (the bounds of its schema).
const MOST_SPACE_PARTITIONS: usize = 8;
const MOST_PARTITIONS: i32 = 32_767;
const MOST_SKIPPING: usize = 32;
const MOST_TABLESPACES: usize = 64;
const MOST_SETTINGS: usize = 32;
const MOST_SPARSE_COLUMNS: usize = 8;
const LONGEST_QUERY: usize = 65_536;
const MOST_BATCHES: i32 = 1_000_000;

/// The types that a time column has when the operator makes the hypertable.
const TIME_TYPES: [&str; 6] =
    ["timestamp with time zone", "timestamp without time zone", "date", "smallint", "integer", "bigint"];

/// A database to be described.
#[derive(Clone, Copy)]
pub(super) struct Describer<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) details: &'a Details,
    pub(super) database: &'a str,
}

/// A spec, or why there can be none; and what else there is to say.
pub(super) struct Described<S> {
    pub(super) spec: Result<S, String>,
    pub(super) remarks: Vec<String>,
}

impl<'a> Describer<'a> {
    fn database_ref(self) -> DatabaseRef {
        DatabaseRef { name: self.database.to_owned(), namespace: None }
    }

    fn table_details(self, id: i32) -> &'a TableDetails {
        static NOTHING: TableDetails =
            TableDetails { partitioning_functions: BTreeMap::new(), chunk_schema: None, indexes: BTreeMap::new() };
        self.details.tables.get(&id).unwrap_or(&NOTHING)
    }

    pub(super) fn job(self, kind: PolicyKind, live: &Hypertable) -> Option<&'a Job> {
        self.catalog.job(kind, live.id)
    }

    pub(super) fn hypertable(self, relation: &Relation, live: &Hypertable) -> Described<HypertableSpec> {
        let mut remarks = Vec::new();
        let Some(time) = live.time() else {
            return Described { spec: Err("it has no time dimension".to_owned()), remarks };
        };
        let details = self.table_details(live.id);
        if let Some(type_) = time.type_.as_deref().filter(|type_| !TIME_TYPES.contains(type_)) {
            remarks.push(format!(
                "{} is of type {type_}: on a fresh database the operator makes no hypertable of that",
                time.column
            ));
        }
        for (column, function) in &details.partitioning_functions {
            remarks.push(format!("the partitioning function {function} of {column} cannot be said"));
        }
        if let Some(schema) = &details.chunk_schema {
            remarks.push(format!("that its chunks are in schema {schema} cannot be said"));
        }
        let spec = HypertableSpec {
            database_ref: self.database_ref(),
            schema: relation.schema.to_string(),
            table: relation.name.to_string(),
            time_column: time.column.to_string(),
            chunk_interval: live.chunk_interval().and_then(|span| chunk_interval(span, &mut remarks)),
            integer_now_function: live.integer_now.as_ref().map(ToString::to_string),
            space_partitions: space_partitions(live, &mut remarks),
            migrate_data: false,
            chunk_skipping: listed("chunkSkipping", live.chunk_skipping.iter(), MOST_SKIPPING, &mut remarks),
            tablespaces: listed("tablespaces", live.tablespaces.iter(), MOST_TABLESPACES, &mut remarks),
            indexes: indexes::of_hypertable(
                &relation.name,
                &time.column,
                first_space(live),
                &live.indexes,
                &details.indexes,
                &mut remarks,
            ),
            reorder: self.reorder(live, &mut remarks),
        };
        self.compressed_by_hand(live, &mut remarks);
        Described { spec: Ok(spec), remarks }
    }

    fn reorder(self, live: &Hypertable, remarks: &mut Vec<String>) -> Option<Reorder> {
        let job = self.job(PolicyKind::Reorder, live)?;
        let Policy::Reorder { index: Some(index) } = &job.policy else {
            remarks.push(format!("reorder is left out: the config of job {} names no index", job.id));
            return None;
        };
        let mut about = Vec::new();
        let (schedule, paused) = self.schedule(job, live, &mut about);
        remarks.extend(about.into_iter().map(|remark| format!("reorder: {remark}")));
        Some(Reorder { index: index.to_string(), schedule, paused })
    }

    /// Compression that no policy carries out.
    fn compressed_by_hand(self, live: &Hypertable, remarks: &mut Vec<String>) {
        let (Some(columnstore), None) = (&live.columnstore, self.job(PolicyKind::Compression, live)) else { return };
        let Columnstore { segment_by, order_by, sparse_indexes: _ } = columnstore;
        let list = |texts: Vec<String>| if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
        let choice = || "TimescaleDB's choice".to_owned();
        let texts = |names: &Vec<SqlName>| list(names.iter().map(ToString::to_string).collect());
        let segment = segment_by.as_ref().map_or_else(choice, texts);
        let order =
            order_by.as_ref().map_or_else(choice, |columns| list(columns.iter().map(ToString::to_string).collect()));
        remarks.push(format!(
            "compression is enabled (segment by {segment}; order by {order}) and no policy compresses, which cannot be said: a CompressionPolicy always has one"
        ));
    }

    fn schedule(self, job: &Job, host: &Hypertable, remarks: &mut Vec<String>) -> (Schedule, bool) {
        for key in self.details.config_keys.get(&job.id).into_iter().flatten() {
            remarks.push(format!("{key} in the config of job {} cannot be said, and stays as it is", job.id));
        }
        jobs::schedule(job, host, remarks)
    }

    /// The age that the job goes by, as the two fields that can say it.
    fn age(
        job: &Job,
    ) -> Result<(Option<crate::api::types::SpanText>, Option<crate::api::types::IntervalText>), String> {
        let unreadable = || {
            let keys = if job.unreadable.is_empty() { "no age".to_owned() } else { job.unreadable.join(", ") };
            format!("the config of job {} cannot be read ({keys})", job.id)
        };
        let (Policy::Compression { after: Some(after) } | Policy::Retention { after: Some(after) }) = job.policy else {
            return Err(unreadable());
        };
        if !job.unreadable.is_empty() {
            return Err(unreadable());
        }
        let positive = match after {
            Age::OlderThan(span) => span.is_positive(),
            Age::CreatedBefore(interval) => interval.is_positive(),
        };
        age_texts(after)
            .filter(|_| positive)
            .ok_or_else(|| format!("its age, {after}, cannot be said: it must be longer than nothing"))
    }

    pub(super) fn compression(
        self,
        target: TargetRef,
        live: &Hypertable,
        job: &Job,
    ) -> Described<CompressionPolicySpec> {
        let mut remarks = Vec::new();
        let (compress_after, compress_created_before) = match Self::age(job) {
            Ok(age) => age,
            Err(why) => return Described { spec: Err(why), remarks },
        };
        let settings = live.columnstore.clone().unwrap_or_default();
        let names = |names: Vec<SqlName>| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let fits = |field: &str, length: usize, remarks: &mut Vec<String>| {
            let fits = length <= MOST_SETTINGS;
            if !fits {
                remarks.push(format!("{field} is left out: a resource lists no more than {MOST_SETTINGS}"));
            }
            fits
        };
        let segment_by = settings.segment_by.map(names).filter(|s| fits("segmentBy", s.len(), &mut remarks));
        let order_by = settings.order_by.filter(|o| !o.is_empty() && fits("orderBy", o.len(), &mut remarks));
        let sparse = settings.sparse_indexes.filter(|indexes| {
            let narrow = indexes.iter().all(|index| index.columns.len() <= MOST_SPARSE_COLUMNS);
            if !narrow {
                remarks.push(format!("sparseIndexes is left out: one has more than {MOST_SPARSE_COLUMNS} columns"));
            }
            narrow && fits("sparseIndexes", indexes.len(), &mut remarks)
        });
        let merge = live.merge_interval.filter(|merge| merge.is_positive());
        let merge_interval = merge.and_then(|merge| {
            let text = span_text(merge);
            if text.is_none() {
                remarks.push(format!("mergeInterval is left out: {merge} cannot be said"));
            }
            text
        });
        let (schedule, paused) = self.schedule(job, live, &mut remarks);
        let spec = CompressionPolicySpec {
            target_ref: Some(target),
            target_selector: None,
            compress_after,
            compress_created_before,
            segment_by,
            order_by: order_by.map(|columns| {
                let column = |c: &crate::catalog::SortColumn| {
                    let (order, nulls) = indexes::order(c.descending, c.nulls_first);
                    OrderBy { column: c.column.to_string(), order, nulls }
                };
                columns.iter().map(column).collect()
            }),
            merge_interval,
            sparse_indexes: sparse.map(|indexes| {
                let index = |index: &crate::catalog::SparseIndex| SparseIndex {
                    kind: index.kind,
                    columns: index.columns.iter().map(ToString::to_string).collect(),
                };
                indexes.iter().map(index).collect()
            }),
            schedule,
            paused,
            deletion_policy: PolicyDeletion::default(),
        };
        Described { spec: Ok(spec), remarks }
    }

    pub(super) fn retention(self, target: TargetRef, live: &Hypertable, job: &Job) -> Described<RetentionPolicySpec> {
        let mut remarks = Vec::new();
        let (drop_after, drop_created_before) = match Self::age(job) {
            Ok(age) => age,
            Err(why) => return Described { spec: Err(why), remarks },
        };
        let (schedule, paused) = self.schedule(job, live, &mut remarks);
        let spec = RetentionPolicySpec {
            target_ref: Some(target),
            target_selector: None,
            drop_after,
            drop_created_before,
            schedule,
            paused,
            deletion_policy: PolicyDeletion::default(),
        };
        Described { spec: Ok(spec), remarks }
    }

    /// The aggregate, with each wording of its query.
    pub(super) fn aggregate(
        self,
        relation: &Relation,
        live: &Aggregate,
    ) -> (Described<ContinuousAggregateSpec>, Vec<String>) {
        let mut remarks = Vec::new();
        let unknown = AggregateDetails { queries: Ok(Vec::new()), grouped_by: BTreeSet::new() };
        let details = self.details.aggregates.get(relation).unwrap_or(&unknown);
        let queries: Vec<String> = match &details.queries {
            Ok(queries) => {
                let wordings = queries
                    .first()
                    .map(|query| tidy(query))
                    .into_iter()
                    .chain(queries.iter().map(|query| trimmed(query)));
                wordings.filter(|query| query.chars().count() <= LONGEST_QUERY).collect()
            }
            Err(why) => {
                return (Described { spec: Err(format!("its query cannot be read: {why}")), remarks }, Vec::new());
            }
        };
        let Some(query) = queries.first().cloned() else {
            let why = "its query is longer than a resource can hold, or was not there to be read";
            return (Described { spec: Err(why.to_owned()), remarks }, Vec::new());
        };
        let host = &live.hypertable;
        let Some(time) = host.time() else {
            return (Described { spec: Err("it has no time dimension".to_owned()), remarks }, Vec::new());
        };
        let table = self.table_details(host.id);
        let (indexes, group_indexes) = indexes::of_aggregate(
            host.id,
            &time.column,
            &details.grouped_by,
            &host.indexes,
            &table.indexes,
            &mut remarks,
        );
        let chosen = self.chosen_interval(live);
        let found = host.chunk_interval().filter(|found| chosen != Some(*found));
        let spec = ContinuousAggregateSpec {
            database_ref: self.database_ref(),
            schema: relation.schema.to_string(),
            name: relation.name.to_string(),
            query,
            on_query_change: QueryChange::default(),
            real_time: (!live.materialized_only).then_some(true),
            create_group_indexes: (group_indexes == Some(false)).then_some(false),
            chunk_interval: found.and_then(|found| chunk_interval(found, &mut remarks)),
            indexes,
            refresh_policy: self.refresh_policy(host, &mut remarks),
            deletion_policy: AggregateDeletion::default(),
        };
        self.compressed_by_hand(host, &mut remarks);
        (Described { spec: Ok(spec), remarks }, queries)
    }

    /// The range of chunks that TimescaleDB chooses for what an aggregate materialises (`MATPARTCOL_INTERVAL_FACTOR`): ten
    /// times that of its source, or for an aggregate on an aggregate that of its source.
    fn chosen_interval(self, live: &Aggregate) -> Option<Span> {
        if let Some(source) = self.catalog.hypertables.values().find(|source| source.id == live.source_id) {
            return source.chunk_interval().map(|interval| interval.times(10));
        }
        let source = self.catalog.aggregates.values().find(|source| source.hypertable.id == live.source_id)?;
        source.hypertable.chunk_interval()
    }

    fn refresh_policy(self, host: &Hypertable, remarks: &mut Vec<String>) -> Option<RefreshPolicy> {
        let mut of_host = self
            .catalog
            .jobs
            .iter()
            .filter(|job| job.hypertable_id == host.id && job.policy.kind() == PolicyKind::Refresh);
        let job = of_host.next()?;
        for other in of_host {
            remarks.push(format!(
                "a resource has one refresh policy; this one is not managed, and stays as it is: job {}, {}, every {}",
                other.id, other.policy, other.schedule_interval
            ));
        }
        let mut about = Vec::new();
        let policy = self.refresh(job, host, &mut about);
        remarks.extend(about.into_iter().map(|remark| format!("refreshPolicy: {remark}")));
        policy.map_err(|why| remarks.push(format!("refreshPolicy is left out: {why}"))).ok()
    }

    fn refresh(self, job: &Job, host: &Hypertable, remarks: &mut Vec<String>) -> Result<RefreshPolicy, String> {
        let Policy::Refresh { start_offset, end_offset, options } = &job.policy else {
            return Err(format!("job {} refreshes nothing", job.id));
        };
        if !job.unreadable.is_empty() {
            return Err(format!("the config of job {} cannot be read ({})", job.id, job.unreadable.join(", ")));
        }
        let offset = |name: &str, offset: Option<Span>| {
            let text = |span| span_text(span).ok_or_else(|| format!("{name} {span} cannot be said"));
            offset.map(text).transpose()
        };
        let (start_offset, end_offset) = (offset("startOffset", *start_offset)?, offset("endOffset", *end_offset)?);
        let mut number = |name: &str, value: Option<i32>| {
            let fits = value.filter(|value| (0..=MOST_BATCHES).contains(value));
            if let (Some(value), None) = (value, fits) {
                remarks.push(format!("{name} is left out: {value} cannot be said"));
            }
            fits
        };
        let buckets_per_batch = number("bucketsPerBatch", options.buckets_per_batch);
        let max_batches_per_execution = number("maxBatchesPerExecution", options.max_batches_per_execution);
        if interval_text(job.schedule_interval).is_none() || !job.schedule_interval.is_positive() {
            return Err(format!("its schedule interval, {}, cannot be said", job.schedule_interval));
        }
        let (schedule, paused) = self.schedule(job, host, remarks);
        Ok(RefreshPolicy {
            start_offset,
            end_offset,
            include_tiered_data: options.include_tiered_data,
            buckets_per_batch,
            max_batches_per_execution,
            refresh_newest_first: options.refresh_newest_first,
            schedule,
            paused,
        })
    }
}

/// The query as somebody would begin to write it.
fn trimmed(query: &str) -> String {
    query.trim().trim_end_matches(';').trim_end().to_owned() + "\n"
}

/// The query with its clauses at the beginning of their lines, where the server puts them under each other. Not where a
/// string or a name may go on from one line to the next.
fn tidy(query: &str) -> String {
    const CLAUSES: [&str; 6] = ["FROM ", "WHERE ", "GROUP BY ", "HAVING ", "WINDOW ", "UNION "];
    let query = trimmed(query);
    if query.lines().any(|line| ['\'', '"'].iter().any(|quote| line.matches(*quote).count() % 2 == 1)) {
        return query;
    }
    query.lines().fold(String::new(), |text, line| {
        let bare = line.trim();
        let line = if CLAUSES.iter().any(|clause| bare.starts_with(clause)) { bare } else { line.trim_end() };
        text + line + "\n"
    })
}

fn chunk_interval(span: Span, remarks: &mut Vec<String>) -> Option<crate::api::types::SpanText> {
    let text = span_text(span).filter(|_| span.is_positive());
    if text.is_none() {
        remarks.push(format!("chunkInterval is left out: {span} cannot be said"));
    }
    text
}

/// The hash dimensions. A resource that lists any lists all dimensions but the first.
fn space_partitions(live: &Hypertable, remarks: &mut Vec<String>) -> Vec<SpacePartition> {
    let (mut listed, mut others) = (Vec::new(), Vec::new());
    for dimension in live.dimensions.iter().skip(1) {
        match dimension.partitioning {
            Partitioning::Hash(partitions) if (1..=MOST_PARTITIONS).contains(&partitions) => {
                listed.push(SpacePartition { column: dimension.column.to_string(), partitions });
            }
            _ => others.push(format!("by {} in {}", dimension.column, dimension.partitioning)),
        }
    }
    if listed.len() > MOST_SPACE_PARTITIONS {
        others.push(format!("in more than {MOST_SPACE_PARTITIONS} dimensions"));
    }
    if others.is_empty() {
        return listed;
    }
    remarks.push(format!("spacePartitions is left out: the partitioning {} cannot be said", others.join(", ")));
    Vec::new()
}

/// The column of the first hash dimension.
fn first_space(live: &Hypertable) -> Option<&SqlName> {
    let mut hashed = live.dimensions.iter().filter(|dimension| matches!(dimension.partitioning, Partitioning::Hash(_)));
    hashed.next().map(|dimension| &dimension.column)
}

/// A list of names, where there are any.
fn listed<'n>(
    field: &str,
    names: impl ExactSizeIterator<Item = &'n SqlName>,
    most: usize,
    remarks: &mut Vec<String>,
) -> Option<Vec<String>> {
    if names.len() > most {
        remarks.push(format!("{field} is left out: a resource lists no more than {most}"));
        return None;
    }
    Some(names.map(ToString::to_string).collect()).filter(|names: &Vec<String>| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn clauses_begin_their_lines_unless_a_string_may_go_on() {
        let printed = " SELECT time_bucket('1 day'::interval, m.ts) AS b,\n    m.dev\n   FROM m\n     JOIN n ON n.dev = m.dev\n  GROUP BY m.dev;";
        let written = "SELECT time_bucket('1 day'::interval, m.ts) AS b,\n    m.dev\nFROM m\n     JOIN n ON n.dev = m.dev\nGROUP BY m.dev\n";
        assert_eq!(tidy(printed), written);
        assert_eq!(tidy(" SELECT 'a\n   FROM b'\n   FROM c;"), "SELECT 'a\n   FROM b'\n   FROM c\n");
        assert_eq!(tidy(" SELECT \"it's\"\n   FROM c;"), "SELECT \"it's\"\n   FROM c\n");
    }
}
