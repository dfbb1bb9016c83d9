//! What compressed rows should be grouped and sorted by.
//!
//! Compression packs up to 1,000 rows of one segment into a batch, so a segment should have that many rows in a chunk; with
//! fewer than 100 the batches are mostly empty, and what is kept beside each is larger than what is saved. Which columns
//! queries filter on is told by the indexes that lead with them and go on with time: nobody builds those for nothing.

use std::collections::BTreeMap;

use crate::{
    api::types::SqlName,
    catalog::{
        Columnstore, SortColumn,
        history::{Column, KeyColumns, TableColumns},
    },
};

/// Rows that fill a batch.
pub const ROWS_OF_A_BATCH: f64 = 1_000.0;
/// Rows of a segment in a chunk below which segmenting costs more than it saves.
pub const FEWEST_ROWS: f64 = 100.0;
/// A column that is mostly NULL has one segment that holds most rows.
const MOST_NULLS: f64 = 0.5;
/// With more different values than this share of the rows, more rows have more values (PostgreSQL's own rule for
/// `n_distinct`).
const GROWING_DISTINCT: f64 = 0.1;
/// Values that go along with time this closely can be told apart by the chunk.
const CORRELATED: f64 = 0.99;

/// What to set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// `segmentBy`, where it should be another one.
    pub segment_by: Option<Vec<SqlName>>,
    /// Why, or why not.
    pub segment_reason: String,
    /// `orderBy`, where it should be another one.
    pub order_by: Option<Vec<SortColumn>>,
    /// Why, or why not.
    pub order_reason: String,
    /// What else the statistics show.
    pub notes: Vec<String>,
}

/// A column that could be segmented by.
struct Candidate<'a> {
    column: &'a Column,
    /// How many indexes have it before time: those that lead with it count whole, others half, partial ones half of that.
    weight: f64,
    /// Different values in one chunk.
    distinct: f64,
}

/// Chooses for chunks of this many rows. What is set is kept while it does no harm: queries that nobody sees here may rely
/// on it.
pub fn choose(table: &TableColumns, columnstore: Option<&Columnstore>, rows_per_chunk: f64) -> Choice {
    let Some(time) = &table.time_column else { return Choice::default() };
    let notes = notes(table, time);
    if table.columns.iter().all(|column| column.statistics.is_none()) {
        let reason = if table.readable {
            "not known: no chunk was analysed yet; run ANALYZE on the table"
        } else {
            "not known: the role may not SELECT from the table, and sees no statistics of its columns"
        };
        return Choice {
            segment_reason: reason.to_owned(),
            order_reason: reason.to_owned(),
            notes,
            ..Choice::default()
        };
    }
    let candidates = candidates(table, time, rows_per_chunk);
    let segments = segment_by(table, columnstore, &candidates, rows_per_chunk);
    let orders = order_by(time, columnstore, &candidates, &segments, rows_per_chunk);
    Choice {
        segment_by: segments.change,
        segment_reason: segments.reason,
        order_by: orders.0,
        order_reason: orders.1,
        notes,
    }
}

/// What `segmentBy` becomes.
struct Segments {
    /// Set where it is another one than now.
    change: Option<Vec<SqlName>>,
    /// What it is in the end.
    columns: Vec<SqlName>,
    reason: String,
}

fn segment_by(
    table: &TableColumns,
    columnstore: Option<&Columnstore>,
    candidates: &[Candidate<'_>],
    rows: f64,
) -> Segments {
    let current = columnstore.and_then(|settings| settings.segment_by.as_deref());
    let mut because = String::new();
    if let Some(current) = current {
        // There are at least as many segments as the column with most values has: so much is certain.
        let known = current.iter().filter_map(|name| Some((name, distinct(column(table, name)?, rows)?)));
        let most = known.max_by(|a, b| a.1.total_cmp(&b.1));
        let keep = |reason| Segments { change: None, columns: current.to_vec(), reason };
        let Some((widest, values)) = most else {
            return keep(if current.is_empty() {
                "set to none".to_owned()
            } else {
                "left as it is: nothing is known of its columns".to_owned()
            });
        };
        let per_segment = rows / values;
        if per_segment >= FEWEST_ROWS || per_segment >= rows {
            return keep(format!(
                "left as it is: {} values of {widest}, {} rows for each in a chunk",
                figure(values),
                figure(per_segment)
            ));
        }
        because = format!(
            "{widest} has {} values in a chunk of {} rows: {} rows in a segment, where a batch holds 1,000. ",
            figure(values),
            figure(rows),
            figure(per_segment)
        );
    }
    let Some(first) = candidates.iter().find(|candidate| rows / candidate.distinct >= FEWEST_ROWS) else {
        let reason = if candidates.is_empty() {
            "no index joins a column with time, so nothing shows what queries filter on".to_owned()
        } else {
            format!(
                "every column that is indexed with time has fewer than 100 rows a value in a chunk of {}",
                figure(rows)
            )
        };
        let change = current.is_some().then(Vec::new);
        return Segments { change, columns: Vec::new(), reason: because + &reason };
    };
    let (mut chosen, mut segments) = (vec![first], first.distinct);
    for other in candidates {
        let is_new = chosen.iter().all(|c| c.column.name != other.column.name);
        let together =
            indexed_together(&table.indexes, table.time_column.as_ref(), &first.column.name, &other.column.name);
        // A second column is worth its batches where half of the indexes on the first have it too.
        if is_new && together * 2.0 >= first.weight && rows / (segments * other.distinct) >= ROWS_OF_A_BATCH {
            segments *= other.distinct;
            chosen.push(other);
        }
    }
    let columns: Vec<_> = chosen.iter().map(|candidate| candidate.column.name.clone()).collect();
    let names: Vec<_> = columns.iter().map(SqlName::as_str).collect();
    let reason = format!(
        "{because}indexed with time: {}; {} in a chunk, {} rows for each",
        names.join(", "),
        if columns.len() == 1 {
            format!("{} values", figure(segments))
        } else {
            format!("at most {} segments", figure(segments))
        },
        figure(rows / segments)
    );
    Segments { change: Some(columns.clone()), columns, reason }
}

fn order_by(
    time: &SqlName,
    columnstore: Option<&Columnstore>,
    candidates: &[Candidate<'_>],
    segments: &Segments,
    rows: f64,
) -> (Option<Vec<SortColumn>>, String) {
    let newest_first = SortColumn { column: time.clone(), descending: true, nulls_first: true };
    let current = columnstore.and_then(|settings| settings.order_by.as_deref());
    if let Some(current) = current {
        let kept: Vec<_> = current.iter().filter(|sort| !segments.columns.contains(&sort.column)).cloned().collect();
        if kept.len() < current.len() {
            let order = if kept.is_empty() { vec![newest_first] } else { kept };
            return (Some(order), "without the columns that segmentBy has now".to_owned());
        }
        return (None, "left as it is".to_owned());
    }
    // A column with too many values for a segment still keeps rows together that queries read together.
    if segments.columns.is_empty()
        && let Some(dense) = candidates.iter().find(|candidate| candidate.distinct < rows / 2.0)
    {
        let column = dense.column.name.clone();
        let reason = format!(
            "indexed with time, and too many values ({} in a chunk) to segment by: sorted by {column} first, its rows lie together",
            figure(dense.distinct)
        );
        let ascending = SortColumn { column, descending: false, nulls_first: false };
        return (Some(vec![ascending, newest_first]), reason);
    }
    if columnstore.is_some() && segments.change.is_none() {
        return (None, "left to TimescaleDB, which sorts by time".to_owned());
    }
    (Some(vec![newest_first]), "newest first, as most queries read".to_owned())
}

/// Columns that indexes have before time, those that most have first.
fn candidates<'a>(table: &'a TableColumns, time: &SqlName, rows: f64) -> Vec<Candidate<'a>> {
    let mut weights: BTreeMap<&SqlName, f64> = BTreeMap::new();
    for index in &table.indexes {
        let share = if index.partial { 0.5 } else { 1.0 };
        for (position, name) in before_time(index, time).iter().enumerate() {
            *weights.entry(name).or_default() += if position == 0 { share } else { share / 2.0 };
        }
    }
    let candidate = |column: &'a Column| {
        let statistics = column.statistics?;
        let weight = *weights.get(&column.name)?;
        let distinct = distinct(column, rows)?;
        let fits = column.can_segment && distinct > 1.0 && statistics.null_share <= MOST_NULLS;
        fits.then_some(Candidate { column, weight, distinct })
    };
    let mut candidates: Vec<_> = table.columns.iter().filter_map(candidate).collect();
    candidates.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.column.name.cmp(&b.column.name)));
    candidates
}

/// The columns of a key that come before time; none of a key without time.
fn before_time<'a>(index: &'a KeyColumns, time: &SqlName) -> Vec<&'a SqlName> {
    let Some(end) = index.columns.iter().position(|column| column.as_ref() == Some(time)) else { return Vec::new() };
    index.columns[..end].iter().flatten().collect()
}

fn indexed_together(indexes: &[KeyColumns], time: Option<&SqlName>, one: &SqlName, other: &SqlName) -> f64 {
    let Some(time) = time else { return 0.0 };
    let both = |index: &&KeyColumns| {
        let columns = before_time(index, time);
        columns.contains(&one) && columns.contains(&other)
    };
    indexes.iter().filter(both).map(|index| if index.partial { 0.5 } else { 1.0 }).sum()
}

fn column<'a>(table: &'a TableColumns, name: &SqlName) -> Option<&'a Column> {
    table.columns.iter().find(|column| column.name == *name)
}

/// Different values in a chunk of this many rows.
fn distinct(column: &Column, rows: f64) -> Option<f64> {
    let statistics = column.statistics?;
    let share = statistics.distinct / statistics.rows.max(1.0);
    let distinct = if share > GROWING_DISTINCT { share * rows } else { statistics.distinct };
    Some(distinct.min(rows).max(1.0))
}

/// Columns beside time whose values rise or fall with the order in which rows came.
fn notes(table: &TableColumns, time: &SqlName) -> Vec<String> {
    let mut notes = Vec::new();
    for column in &table.columns {
        let Some(statistics) = column.statistics else { continue };
        let Some(correlation) = statistics.correlation else { continue };
        if column.name == *time {
            if correlation.abs() < 0.5 && statistics.distinct > 100.0 {
                notes.push(format!(
                    "rows do not come in the order of {time} (correlation {correlation:.2}): late rows for compressed chunks are slow to insert"
                ));
            }
        } else if column.can_segment
            && correlation.abs() > CORRELATED
            && statistics.distinct > statistics.rows * GROWING_DISTINCT
            && statistics.distinct > 100.0
        {
            notes.push(format!(
                "{} goes along with time (correlation {correlation:.2}): chunkSkipping: [{}] lets queries by it leave chunks out",
                column.name, column.name
            ));
        }
    }
    notes
}

/// A count for people: whole, with commas.
pub fn figure(count: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that is shown")]
    let digits = (count.max(0.0).round() as u64).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
