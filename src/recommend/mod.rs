//! What the settings of hypertables should be, from what their chunks hold: the interval of a chunk, what compressed rows are
//! grouped and sorted by, and when they are compressed. Retention is never recommended: how long data is needed is not in
//! the data.
//!
//! Every recommendation says what it was made from, by which rule, and whose rule that is. A setting that is near enough to
//! the rule is left alone, so that what was recommended and done is not recommended otherwise a day later.

pub mod age;
pub mod columnstore;
pub mod interval;
pub mod patch;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    api::types::{Interval, Nulls, Order, Relation, Span, SqlName},
    catalog::{
        Age, Catalog, Hypertable, Policy, PolicyKind, SortColumn,
        history::{History, HistoryServer, TableColumns, TableHistory, TimedSlice, float},
    },
    forecast::ingest::Ingest,
    plan::step::bytes_text,
};
use columnstore::{ROWS_OF_A_BATCH, figure};
use interval::Demand;

const DAY: f64 = 86_400.0;
/// The part of the memory that the chunks being written to may take.
const MEMORY_SHARE: f64 = 0.25;
/// A chunk is at most this part of the retention, so that what is kept too long is a tenth.
const RETENTION_SHARE: f64 = 0.1;
/// A hypertable that was not written to for a week, or for two chunks, is not active.
const IDLE: f64 = 7.0 * DAY;

/// Compression that saves less than a third is hardly worth what it costs to write into.
const POOR_RATIO: f64 = 1.5;
/// The age to compress from while there is nothing to tell it by. It can stay when there is, save where rows change later.
const UNKNOWN_AGE: f64 = 7.0 * DAY;

const SIZING: &str = "https://www.tigerdata.com/docs/learn/hypertables/sizing-hypertable-chunks";
const SIZING_WHOLE: &str = "https://kb.timescale.cloud/en/articles/2755370-how-should-i-configure-chunk-intervals";
const SEGMENTING: &str = "https://www.tigerdata.com/docs/use-timescale/latest/hypertables/improve-query-performance";
const COMPRESSING: &str = "pg_stat_all_tables of each chunk: n_tup_upd and n_tup_del by its age";

/// What has to fit into a quarter of the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// The chunks that are written to, with their indexes: the more careful reading.
    #[default]
    Chunks,
    /// Their indexes alone, as the documentation has it now: what every inserted row has to find in memory.
    Indexes,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The hypertables, their settings and policies.
    pub catalog: &'a Catalog,
    /// What the chunks of all of them hold: the memory is for all together.
    pub history: &'a History,
    /// Columns and statistics by hypertable id.
    pub columns: &'a BTreeMap<i32, TableColumns>,
    /// The memory of the server in bytes. `None`: taken from its settings.
    pub memory: Option<i64>,
    /// What has to fit into a quarter of it.
    pub fit: Fit,
    /// Tables to speak of. Empty: all.
    pub only: &'a BTreeSet<Relation>,
}

/// What is recommended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The memory that was counted on.
    pub memory: Memory,
    /// What had to fit.
    pub fit: Fit,
    /// Bytes that the chunks written to may hold in all.
    pub budget_bytes: i64,
    /// Bytes that they hold in all with the present intervals.
    pub present_bytes: i64,
    /// Bytes that they hold with the recommended ones.
    pub recommended_bytes: i64,
    /// Hypertables and continuous aggregates, by name.
    pub tables: Vec<Table>,
}

/// The memory that was counted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Bytes.
    pub bytes: i64,
    /// Where the figure is from.
    pub source: String,
}

/// One hypertable or continuous aggregate.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// Schema of the table, or of the aggregate's view.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `Hypertable` or `ContinuousAggregate`.
    pub kind: &'static str,
    /// What comes in. Absent where nothing can be told, which the notes then say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Facts>,
    /// The settings that were looked at.
    pub settings: Vec<Setting>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What comes into a table, measured over its chunks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Bytes per day now, uncompressed, with indexes.
    pub bytes_per_day: f64,
    /// Share of them that is indexes.
    pub index_share: f64,
    /// Rows per day, as the server estimates them.
    pub rows_per_day: f64,
    /// Change of the bytes per day, per day; 0 without a significant trend.
    pub trend_per_day: f64,
    /// Days that were looked at.
    pub days: f64,
    /// Rows in one chunk of the present interval, or of the recommended one.
    pub rows_per_chunk: f64,
}

/// A field of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Field {
    /// `spec.chunkInterval` of the Hypertable or ContinuousAggregate.
    ChunkInterval,
    /// `spec.segmentBy` of the CompressionPolicy.
    SegmentBy,
    /// `spec.orderBy` of the CompressionPolicy.
    OrderBy,
    /// `spec.compressAfter` of the CompressionPolicy.
    CompressAfter,
}

impl Field {
    /// The name of the field.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChunkInterval => "chunkInterval",
            Self::SegmentBy => "segmentBy",
            Self::OrderBy => "orderBy",
            Self::CompressAfter => "compressAfter",
        }
    }
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A span of time, or of units of an integer column.
    Span(Span),
    /// Columns.
    Columns(Vec<String>),
    /// Columns with a direction.
    Order(Vec<OrderColumn>),
}

/// One column of `orderBy`, as the API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderColumn {
    /// Name of the column.
    pub column: String,
    /// Direction.
    pub order: Order,
    /// Where NULLs sort, where that is not PostgreSQL's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Nulls>,
}

impl From<&SortColumn> for OrderColumn {
    fn from(sort: &SortColumn) -> Self {
        let nulls =
            (sort.nulls_first != sort.descending).then_some(if sort.nulls_first { Nulls::First } else { Nulls::Last });
        let order = if sort.descending { Order::Desc } else { Order::Asc };
        Self { column: sort.column.as_str().to_owned(), order, nulls }
    }
}

/// One setting of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The field.
    pub field: Field,
    /// What it is now. Absent where nothing is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Value>,
    /// What it should be. Absent: it is left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended: Option<Value>,
    /// What the rule comes to before rounding, in seconds; only of `chunkInterval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_seconds: Option<f64>,
    /// From what and why.
    pub reason: String,
    /// Whose rule it is.
    pub source: &'static str,
}

impl Report {
    /// Whether nothing is recommended.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.settings).all(|setting| setting.recommended.is_none())
    }
}

/// One hypertable while it is looked at.
struct Subject<'a> {
    relation: &'a Relation,
    is_aggregate: bool,
    hypertable: &'a Hypertable,
    history: Option<&'a TableHistory>,
    slices: Vec<TimedSlice<'a>>,
    ingest: Option<Ingest>,
    /// The present interval in seconds, where that can be told.
    interval: Option<f64>,
    is_active: bool,
}

impl Subject<'_> {
    /// Rows that come into one chunk of an interval in seconds. Space partitions divide them.
    fn rows_per_chunk(&self, interval: f64, now: f64) -> f64 {
        let complete: Vec<_> = self.slices.iter().filter(|slice| slice.end <= now).map(|s| s.slice.chunks).collect();
        let slices = float(i64::try_from(complete.len()).unwrap_or(i64::MAX)).max(1.0);
        let partitions = complete.into_iter().map(float).sum::<f64>() / slices;
        let rows_per_day = self.ingest.map_or(0.0, |ingest| ingest.rate(now) * ingest.rows_per_byte);
        rows_per_day * interval / DAY / partitions.max(1.0)
    }
}

/// Looks at every table and says what should be otherwise.
pub fn recommend(inputs: &Inputs<'_>) -> Report {
    let now = seconds(&inputs.history.server);
    let memory = memory(inputs.memory, &inputs.history.server);
    let budget = float(memory.bytes) * MEMORY_SHARE;
    let subjects = subjects(inputs, now);
    let active: Vec<_> = subjects.iter().filter(|subject| subject.is_active).collect();
    let demands: Vec<_> = active.iter().map(|subject| demand(subject, inputs, now)).collect();
    let rules = interval::share_out(&demands, budget);
    let rules: BTreeMap<i32, (Demand, f64)> = active
        .iter()
        .zip(demands.iter().zip(rules))
        .map(|(subject, (demand, rule))| (subject.hypertable.id, (*demand, rule)))
        .collect();

    let (mut present, mut recommended) = (0.0, 0.0);
    let mut tables = Vec::new();
    for subject in &subjects {
        let advised = rules.get(&subject.hypertable.id).zip(subject.interval).map(|((demand, rule), interval)| {
            let rows = subject.rows_per_chunk(interval, now);
            let advised = interval::advise(interval, *rule, rows >= ROWS_OF_A_BATCH);
            present += demand.rate * interval;
            recommended += demand.rate * advised.unwrap_or(interval);
            (*demand, *rule, advised)
        });
        if inputs.only.is_empty() || inputs.only.contains(subject.relation) {
            tables.push(table(subject, inputs, advised, budget, now));
        }
    }
    Report {
        memory,
        fit: inputs.fit,
        budget_bytes: whole(budget),
        present_bytes: whole(present),
        recommended_bytes: whole(recommended),
        tables,
    }
}

/// What the memory is, or is taken to be.
fn memory(given: Option<i64>, server: &HistoryServer) -> Memory {
    let HistoryServer { shared_buffers, effective_cache_size, .. } = server;
    if let Some(bytes) = given {
        return Memory { bytes, source: "as given".to_owned() };
    }
    // timescaledb-tune and PostgreSQL's manual set a quarter of the memory and half to three quarters of it.
    let (bytes, source) = if effective_cache_size.is_set {
        (
            effective_cache_size.bytes / 3 * 4,
            format!(
                "effective_cache_size is {}, taken for three quarters of the memory",
                bytes_text(effective_cache_size.bytes)
            ),
        )
    } else if shared_buffers.is_set {
        (
            shared_buffers.bytes.saturating_mul(4),
            format!("shared_buffers is {}, taken for a quarter of the memory", bytes_text(shared_buffers.bytes)),
        )
    } else {
        (
            effective_cache_size.bytes / 3 * 4,
            "an assumption: the server has PostgreSQL's defaults, which say nothing of the machine; give --memory"
                .to_owned(),
        )
    };
    Memory { bytes, source }
}

fn subjects<'a>(inputs: &Inputs<'a>, now: f64) -> Vec<Subject<'a>> {
    let hypertables = inputs.catalog.hypertables.iter().map(|(relation, hypertable)| (relation, hypertable, false));
    let aggregates = inputs.catalog.aggregates.iter().map(|(relation, a)| (relation, &a.hypertable, true));
    let subject = |(relation, hypertable, is_aggregate): (&'a Relation, &'a Hypertable, bool)| {
        let history = inputs.history.tables.get(&hypertable.id);
        let slices = history.map(TableHistory::timed).unwrap_or_default();
        let ingest = Ingest::fit(&slices, now).filter(|ingest| ingest.rate(now) > 0.0);
        let interval = present_interval(hypertable, history);
        let last =
            slices.iter().filter(|slice| slice.start < now).map(|slice| slice.end).fold(f64::NEG_INFINITY, f64::max);
        let idle = interval.map_or(IDLE, |interval| (2.0 * interval).max(IDLE));
        let is_active = ingest.is_some() && interval.is_some() && now - last < idle;
        Subject { relation, is_aggregate, hypertable, history, slices, ingest, interval, is_active }
    };
    let mut subjects: Vec<_> = hypertables.chain(aggregates).map(subject).collect();
    subjects.sort_by_key(|subject| subject.relation);
    subjects
}

/// The interval in seconds.
fn present_interval(hypertable: &Hypertable, history: Option<&TableHistory>) -> Option<f64> {
    match hypertable.chunk_interval()? {
        Span::Time(interval) => Some(length(interval)),
        Span::Integer(units) => Some(float(units) / history?.units_per_second?),
    }
    .filter(|seconds| *seconds > 0.0)
}

fn demand(subject: &Subject<'_>, inputs: &Inputs<'_>, now: f64) -> Demand {
    let bytes_per_day = subject.ingest.map_or(0.0, |ingest| {
        ingest.rate(now)
            * match inputs.fit {
                Fit::Chunks => 1.0,
                Fit::Indexes => ingest.index_share.max(f64::EPSILON),
            }
    });
    let retention = policy_age(inputs.catalog, subject, PolicyKind::Retention);
    let longest = retention.map_or(interval::LONGEST, |kept| (kept * RETENTION_SHARE).min(interval::LONGEST));
    Demand { rate: bytes_per_day / DAY, longest: longest.max(interval::STEPS[0]) }
}

/// The age in seconds of the policy of this kind that is in force.
fn policy_age(catalog: &Catalog, subject: &Subject<'_>, kind: PolicyKind) -> Option<f64> {
    let job = catalog.job(kind, subject.hypertable.id)?;
    let (Policy::Compression { after } | Policy::Retention { after }) = &job.policy else { return None };
    match (*after)? {
        Age::OlderThan(Span::Time(interval)) | Age::CreatedBefore(interval) => Some(length(interval)),
        Age::OlderThan(Span::Integer(units)) => Some(float(units) / subject.history?.units_per_second?),
    }
}

type Advised = (Demand, f64, Option<f64>);

fn table(subject: &Subject<'_>, inputs: &Inputs<'_>, advised: Option<Advised>, budget: f64, now: f64) -> Table {
    let mut table = Table {
        schema: subject.relation.schema.as_str().to_owned(),
        name: subject.relation.name.as_str().to_owned(),
        kind: if subject.is_aggregate { "ContinuousAggregate" } else { "Hypertable" },
        ingest: None,
        settings: Vec::new(),
        notes: Vec::new(),
    };
    let Some(ingest) = subject.ingest else {
        table.notes.push(match subject.history {
            None => "no chunks yet: nothing can be told".to_owned(),
            Some(history) if history.units_per_second.is_none() => "time is an integer, and no integer_now function says what a unit of it is (seconds, milliseconds, microseconds or nanoseconds since 1970)".to_owned(),
            Some(_) => "nothing has come in yet: nothing can be told".to_owned(),
        });
        return table;
    };
    let interval = advised.and_then(|(_, _, advised)| advised).or(subject.interval).unwrap_or(ingest.bin_days * DAY);
    let rows_per_chunk = subject.rows_per_chunk(interval, now);
    table.ingest = Some(Facts {
        bytes_per_day: ingest.rate(now),
        index_share: ingest.index_share,
        rows_per_day: ingest.rate(now) * ingest.rows_per_byte,
        trend_per_day: ingest.trend,
        days: (ingest.until - ingest.from) / DAY,
        rows_per_chunk,
    });
    if ingest.bins == 1 {
        table.notes.push("one chunk is all there is to measure: look again when there are more".to_owned());
    }
    match advised {
        Some(advised) => table.settings.push(chunk_interval(subject, inputs, advised, budget)),
        None if !subject.is_active => {
            table.notes.push(
                "nothing has come in for a while: it takes no part of the memory, and its interval is left alone"
                    .to_owned(),
            );
        }
        None => {}
    }
    if inputs.catalog.server.license.as_deref() == Some("apache") {
        table.notes.push("compression is not part of the server's licence (apache)".to_owned());
    } else {
        compression(&mut table, subject, inputs, rows_per_chunk, now);
    }
    table
}

fn chunk_interval(
    subject: &Subject<'_>,
    inputs: &Inputs<'_>,
    (demand, rule, advised): Advised,
    budget: f64,
) -> Setting {
    let what = match inputs.fit {
        Fit::Chunks => "of chunks with their indexes",
        Fit::Indexes => "of indexes",
    };
    let present = subject.interval.unwrap_or(rule);
    let share = demand.rate * rule;
    let measured = format!("{} {what} come in a day", bytes_text(whole(demand.rate * DAY)));
    let allowed = if rule >= demand.longest {
        let why = if rule < interval::LONGEST { "a tenth of its retention" } else { "the longest that is recommended" };
        format!("Memory would allow more than {}, {why}: {} in a chunk", words(rule), bytes_text(whole(share)))
    } else {
        let (all, own) = (bytes_text(whole(budget)), bytes_text(whole(share)));
        format!("Its share of the {all} for all active tables is {own}: {} of ingest", words(rule))
    };
    let held = format!("a chunk of {} holds {}", words(present), bytes_text(whole(demand.rate * present)));
    let result = match advised {
        None => format!("{held}, near enough"),
        Some(step) if step > rule => {
            format!("shorter than {} is never recommended: think of more memory or fewer indexes", words(step))
        }
        Some(_) => held,
    };
    let reason = format!("{measured}. {allowed}; {result}");
    let span = |seconds: f64| match subject.hypertable.chunk_interval() {
        Some(Span::Integer(_)) => {
            Span::Integer(whole(seconds * subject.history.and_then(|h| h.units_per_second).unwrap_or(1.0)))
        }
        _ => Span::Time(time(seconds)),
    };
    Setting {
        field: Field::ChunkInterval,
        current: subject.hypertable.chunk_interval().map(Value::Span),
        recommended: advised.map(|seconds| Value::Span(span(seconds))),
        rule_seconds: Some(rule),
        reason,
        source: match inputs.fit {
            Fit::Chunks => SIZING_WHOLE,
            Fit::Indexes => SIZING,
        },
    }
}

fn compression(table: &mut Table, subject: &Subject<'_>, inputs: &Inputs<'_>, rows_per_chunk: f64, now: f64) {
    let settings = subject.hypertable.columnstore.as_ref();
    if settings.is_none() && rows_per_chunk < ROWS_OF_A_BATCH {
        table.notes.push(format!(
            "compression would not pay: a chunk holds {} rows, fewer than the 1,000 of one batch",
            figure(rows_per_chunk)
        ));
        return;
    }
    if let Some(ratio) = subject.history.and_then(TableHistory::compression_ratio)
        && ratio < POOR_RATIO
    {
        table.notes.push(format!(
            "its compressed chunks are {:.0} % of what they were: a chunk holds {} rows, and a batch 1,000 of one segment",
            100.0 / ratio,
            figure(rows_per_chunk)
        ));
    }
    let compress_after = compress_after(subject, inputs, now);
    let has_policy = inputs.catalog.job(PolicyKind::Compression, subject.hypertable.id).is_some();
    // Without an age there is no policy to carry the other settings.
    let is_worth_it = settings.is_some() || has_policy || compress_after.recommended.is_some();
    if is_worth_it && let Some(columns) = inputs.columns.get(&subject.hypertable.id) {
        let choice = columnstore::choose(columns, settings, rows_per_chunk);
        let columns = |names: &[SqlName]| Value::Columns(names.iter().map(|name| name.as_str().to_owned()).collect());
        let order = |sort: &[SortColumn]| Value::Order(sort.iter().map(OrderColumn::from).collect());
        table.settings.push(Setting {
            field: Field::SegmentBy,
            current: settings.and_then(|s| s.segment_by.as_deref()).map(columns),
            recommended: choice.segment_by.as_deref().map(columns),
            rule_seconds: None,
            reason: choice.segment_reason,
            source: SEGMENTING,
        });
        table.settings.push(Setting {
            field: Field::OrderBy,
            current: settings.and_then(|s| s.order_by.as_deref()).map(order),
            recommended: choice.order_by.as_deref().map(order),
            rule_seconds: None,
            reason: choice.order_reason,
            source: SEGMENTING,
        });
        table.notes.extend(choice.notes);
    }
    table.settings.push(compress_after);
}

fn compress_after(subject: &Subject<'_>, inputs: &Inputs<'_>, now: f64) -> Setting {
    let job = inputs.catalog.job(PolicyKind::Compression, subject.hypertable.id);
    let current = job.and_then(|job| match &job.policy {
        Policy::Compression { after: Some(Age::OlderThan(span)) } => Some(Value::Span(*span)),
        Policy::Compression { after: Some(Age::CreatedBefore(interval)) } => Some(Value::Span(Span::Time(*interval))),
        _ => None,
    });
    let setting = |recommended: Option<Value>, reason: String| Setting {
        field: Field::CompressAfter,
        current: current.clone(),
        recommended,
        rule_seconds: None,
        reason,
        source: COMPRESSING,
    };
    let (settled, why) = match settled(subject, inputs, now) {
        Ok(settled) => settled,
        Err(why) => return setting(None, why),
    };
    if job.is_some() && current.is_none() {
        return setting(None, "left as it is: the policy's age cannot be read".to_owned());
    }
    let present = policy_age(inputs.catalog, subject, PolicyKind::Compression);
    if let Some(present) = present
        && age::can_stay(present, settled)
    {
        return setting(None, format!("{why}: near enough"));
    }
    let wanted = age::step_above(settled);
    if let Some(kept) = policy_age(inputs.catalog, subject, PolicyKind::Retention)
        && wanted >= kept
    {
        return setting(None, format!("{why}; by then the retention policy has dropped the chunk"));
    }
    let span = match subject.hypertable.chunk_interval() {
        Some(Span::Integer(_)) => {
            Span::Integer(whole(wanted * subject.history.and_then(|h| h.units_per_second).unwrap_or(1.0)))
        }
        _ => Span::Time(time(wanted)),
    };
    setting(Some(Value::Span(span)), why)
}

/// The age in seconds from which rows do not change, and what shows it; or why that is not known.
fn settled(subject: &Subject<'_>, inputs: &Inputs<'_>, now: f64) -> Result<(f64, String), String> {
    if subject.is_aggregate {
        let mut refreshes = inputs.catalog.jobs.iter().filter_map(|job| match &job.policy {
            Policy::Refresh { start_offset, .. } if job.hypertable_id == subject.hypertable.id => Some(*start_offset),
            _ => None,
        });
        let mut furthest = None;
        for offset in refreshes.by_ref() {
            let Some(offset) = offset else {
                return Err("its refresh policy has no startOffset: every bucket may be written again".to_owned());
            };
            let seconds = match offset {
                Span::Time(interval) => length(interval),
                Span::Integer(units) => match subject.history.and_then(|history| history.units_per_second) {
                    Some(per_second) => float(units) / per_second,
                    None => return Err("not known: what a unit of its time is".to_owned()),
                },
            };
            furthest = Some(f64::max(furthest.unwrap_or(0.0), seconds));
        }
        return match furthest {
            Some(age) => Ok((age, format!("refreshes write the last {} again", words(age)))),
            None => Err("not known: it has no refresh policy".to_owned()),
        };
    }
    match age::pattern(&subject.slices, now) {
        age::Pattern::NoChanges => Ok((0.0, "no row of its chunks was updated or deleted".to_owned())),
        age::Pattern::Settles { age, share } => Ok((
            age,
            format!(
                "old chunks have had {share:.2} changes a row, and those that ended {} ago as many",
                if age < 60.0 { "just".to_owned() } else { words(age) }
            ),
        )),
        age::Pattern::GoesOn => Err("the older the chunk the more of its rows were changed: they go on changing, which compressed rows do slowly".to_owned()),
        age::Pattern::Unknown => {
            let why = "not known from when on rows no longer change: fewer than 4 chunks with the server's count of their changes";
            match inputs.catalog.job(PolicyKind::Compression, subject.hypertable.id) {
                Some(_) => Err(why.to_owned()),
                None => Ok((UNKNOWN_AGE, format!("{why}; a week until there are"))),
            }
        }
    }
}

/// Seconds as an interval of whole seconds.
fn time(seconds: f64) -> Interval {
    Interval::from_micros(whole(seconds).saturating_mul(1_000_000))
}

/// The length in seconds.
fn length(interval: Interval) -> f64 {
    interval.to_duration().as_secs_f64()
}

/// Seconds in words, to two or three digits: `3.2 days`.
pub fn words(seconds: f64) -> String {
    let (count, unit) = if seconds >= DAY {
        (seconds / DAY, "day")
    } else if seconds >= 3_600.0 {
        (seconds / 3_600.0, "hour")
    } else {
        (seconds / 60.0, "minute")
    };
    let text = if count >= 10.0 { format!("{count:.0}") } else { format!("{count:.1}") };
    let text = text.strip_suffix(".0").unwrap_or(&text);
    format!("{text} {unit}{}", if text == "1" { "" } else { "s" })
}

fn seconds(server: &HistoryServer) -> f64 {
    float(server.now.as_second())
}

/// To the next whole number below what an `i64` holds.
fn whole(value: f64) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let whole = value.round() as i64;
    whole
}

#[cfg(test)]
mod tests;
