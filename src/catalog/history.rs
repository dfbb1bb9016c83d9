//! What the chunks of hypertables hold, over time: what recommendations and forecasts are made from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::types::SqlName;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// One reading of the chunks of a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The server and its settings.
    pub server: HistoryServer,
    /// By hypertable id, also those behind continuous aggregates; without those that have no chunks.
    pub tables: BTreeMap<i32, TableHistory>,
}

/// What the server says of the time and of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryServer {
    /// `now()`.
    pub now: Timestamp,
    /// `pg_database_size`. Absent where the role may not connect to the database.
    #[serde(default)]
    pub database_bytes: Option<i64>,
    /// `shared_buffers`.
    pub shared_buffers: MemorySetting,
    /// `effective_cache_size`.
    pub effective_cache_size: MemorySetting,
}

/// A setting in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySetting {
    /// Bytes.
    pub bytes: i64,
    /// Somebody has set it: it is not PostgreSQL's own default, which says nothing of the machine.
    pub is_set: bool,
}

/// The chunks of one hypertable, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableHistory {
    /// Units of the time dimension in a second: 1 000 000 for time, which the catalog keeps in microseconds. Of integers
    /// what [`units_per_second`] has found; absent where that is nothing.
    pub units_per_second: Option<f64>,
    /// The chunks, those of one range together.
    pub slices: Vec<Slice>,
}

/// All chunks of one range of time, that is of all space partitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Where the range begins, in the units of the time dimension (microseconds since 1970 for time).
    pub start: i64,
    /// Where it ends.
    pub end: i64,
    /// When the first of the chunks was made.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Number of chunks.
    pub chunks: i64,
    /// Those that are compressed.
    pub compressed_chunks: i64,
    /// Bytes on disk, with indexes and compressed data.
    pub bytes: i64,
    /// Bytes as they were before compression, with indexes.
    pub uncompressed_bytes: i64,
    /// The part of them that is indexes.
    pub uncompressed_index_bytes: i64,
    /// Of compressed chunks: bytes before compression.
    #[serde(default)]
    pub before_bytes: i64,
    /// Of compressed chunks: bytes after compression.
    #[serde(default)]
    pub after_bytes: i64,
    /// Rows, as the server estimates them.
    #[serde(default)]
    pub rows: i64,
    /// Rows inserted since the server's statistics were reset. None of many rows: they were reset later.
    #[serde(default)]
    pub inserted_rows: i64,
    /// Rows updated or deleted since the server's statistics were reset. A row that was changed twice counts twice.
    #[serde(default)]
    pub changed_rows: i64,
}

impl TableHistory {
    /// The slices on a line of seconds since 1970. Empty where it is not known what a unit of time is. A range without a
    /// beginning or an end has no length and is left out.
    pub fn timed(&self) -> Vec<TimedSlice<'_>> {
        let Some(per_second) = self.units_per_second else { return Vec::new() };
        let seconds = |units: i64| float(units) / per_second;
        let bounded = |slice: &&Slice| slice.start > i64::MIN && slice.end < i64::MAX && slice.end > slice.start;
        let timed = self.slices.iter().filter(bounded);
        let timed = timed.map(|slice| TimedSlice { start: seconds(slice.start), end: seconds(slice.end), slice });
        timed.filter(|slice| slice.days() < 36_525.0).collect()
    }

    /// How many times smaller compression made what is compressed. Absent where nothing is.
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.slices.iter())
    }
}

/// How many times smaller compression made what is compressed of these. Absent where nothing is.
pub fn ratio<'a>(slices: impl Iterator<Item = &'a Slice>) -> Option<f64> {
    let (before, after) =
        slices.fold((0.0, 0.0), |(b, a), slice| (b + float(slice.before_bytes), a + float(slice.after_bytes)));
    (before > 0.0 && after > 0.0).then(|| before / after)
}

/// A slice with its range in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct TimedSlice<'a> {
    /// Where the range begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
    /// What is in it.
    pub slice: &'a Slice,
}

impl TimedSlice<'_> {
    /// The length of the range.
    pub fn days(&self) -> f64 {
        (self.end - self.start) / SECONDS_PER_DAY
    }
}

/// How many units of an integer time column a second has, by what its clock says now: seconds, milliseconds, microseconds or
/// nanoseconds since 1970 to within a percent (half a year). Nothing else can be told from a number.
pub fn units_per_second(integer_now: i64, now: Timestamp) -> Option<f64> {
    let seconds = float(now.as_second());
    [1.0, 1e3, 1e6, 1e9].into_iter().find(|units| (float(integer_now) / (seconds * units) - 1.0).abs() < 0.01)
}

/// What is known of the columns and indexes of one hypertable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableColumns {
    /// The column of the time dimension.
    pub time_column: Option<SqlName>,
    /// The role may read at least one column; without that there are no statistics for it.
    pub readable: bool,
    /// In the order of the table.
    pub columns: Vec<Column>,
    /// B-tree indexes.
    pub indexes: Vec<KeyColumns>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: SqlName,
    /// Its type is one that rows can sensibly be grouped by: no floating point, document or time.
    pub can_segment: bool,
    /// What the planner knows of it. Absent before the first ANALYZE.
    #[serde(default)]
    pub statistics: Option<ColumnStatistics>,
}

/// What the planner knows of a column, of one chunk or of the whole table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Rows of what was analysed.
    pub rows: f64,
    /// Different values in them (`n_distinct`).
    pub distinct: f64,
    /// Share of NULL (`null_frac`).
    pub null_share: f64,
    /// How the order of values and the order on disk go together, -1 to 1. Absent for types without an order.
    #[serde(default)]
    pub correlation: Option<f64>,
}

/// The key of one index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumns {
    /// Name.
    pub name: SqlName,
    /// It is unique.
    pub unique: bool,
    /// It has a predicate.
    pub partial: bool,
    /// Key columns in order; an expression is `None`.
    pub columns: Vec<Option<SqlName>>,
}

/// A count as a floating point number: exact up to 2^53, which is 8 PiB.
#[allow(clippy::cast_precision_loss, reason = "sizes and counts, computed with a few digits")]
pub const fn float(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_an_integer_is_told_by_its_clock() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (clock, units) in [
            (1_800_000_000, Some(1.0)),
            (1_799_999_000_000, Some(1e3)),
            (1_800_000_000_000_000, Some(1e6)),
            (1_800_000_000_000_000_000, Some(1e9)),
            (100, None),
            (0, None),
            (-1_800_000_000, None),
        ] {
            assert_eq!(units_per_second(clock, now), units, "{clock}");
        }
    }
}
