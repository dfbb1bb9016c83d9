//! What a plan is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;

use crate::{
    api::types::{Interval, Relation, SqlName},
    catalog::{Drops, Loss, Policy, PolicyKind, Question, SortColumn},
    desired::{IndexTarget, PlanDigest, Rejection, ResourceId},
};

/// What to do to a database, and what became of each claim on it.
#[must_use = "a plan does nothing until it is applied and reported"]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What may be done now, in order.
    pub steps: Vec<Step>,
    /// One for each resource attached to the database.
    pub verdicts: BTreeMap<ResourceId, Verdict>,
    /// What is unwise but done all the same, for people to read.
    pub warnings: BTreeMap<ResourceId, Vec<String>>,
    /// What the planner has to know before the plan is whole. While there are any, nothing may be applied.
    pub questions: BTreeSet<Question>,
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The resource it is done for.
    pub claim: ResourceId,
    /// What is done.
    pub action: Action,
    /// What it costs beyond a short lock.
    pub hazards: Vec<Hazard>,
    /// It may take minutes to hours: it must not hold up the other resources of the database.
    pub long: bool,
    /// Resources whose steps of this plan must have succeeded before.
    pub after: Vec<ResourceId>,
    /// The value found and the value wanted, for people.
    pub change: String,
}

/// What a step costs or risks. Assigned by the planner from the meaning of a step, never from its SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hazard {
    /// Rows are deleted at the job's next run.
    DeletesData(Drops),
    /// Rows are rewritten; the number is the table's size in bytes.
    RewritesData(i64),
    /// Buckets of a continuous aggregate are computed anew from rows that are gone.
    ErasesHistory(Relation, Loss),
    /// A database object and what it holds cease to exist.
    DropsObject(String),
    /// A lock that blocks reads or writes is held while the step runs.
    LongLock(String),
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeletesData(drops) => {
                let Drops { chunks, of, rows, bytes, oldest, newest } = drops;
                write!(f, "deletes data: {chunks} of {of} chunks ({:.0} %), ", drops.percent())?;
                // Chunks that were never analyzed count as empty: no estimate is better than a wrong one.
                if *rows > 0 {
                    write!(f, "about {rows} rows, ")?;
                }
                f.write_str(&bytes_text(*bytes))?;
                match (oldest, newest) {
                    (Some(oldest), Some(newest)) => write!(f, ", from {oldest} to {newest}"),
                    _ => Ok(()),
                }
            }
            Self::RewritesData(bytes) => {
                write!(f, "rewrites data: {} of rows are moved", bytes_text(*bytes))
            }
            Self::ErasesHistory(aggregate, Loss { from, to }) => write!(
                f,
                "erases history: the next refresh recomputes the buckets of {aggregate} from {from} to {to}, whose rows are gone from its source"
            ),
            Self::DropsObject(what) => write!(f, "drops {what}"),
            Self::LongLock(what) => write!(f, "long lock: {what}"),
        }
    }
}

/// A size for people, in binary units with three significant digits.
pub fn bytes_text(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[allow(clippy::cast_precision_loss, reason = "three significant digits are printed")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Everything this operator ever does to a database.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Turn a table into a hypertable with its dimensions and indexes, in one transaction: the table is locked anyway,
    /// and nothing half done can be left behind.
    CreateHypertable {
        /// The table.
        relation: Relation,
        /// Column of the time dimension.
        time_column: SqlName,
        /// Range of one chunk; `None`: TimescaleDB's choice.
        chunk_interval: Option<Interval>,
        /// Hash dimensions.
        space: Vec<(SqlName, i32)>,
        /// Let TimescaleDB make its own index on the time column.
        default_indexes: bool,
        /// Indexes to build.
        indexes: Vec<IndexTarget>,
        /// Move the rows that are there.
        migrate_data: bool,
    },
    /// Change the range of chunks made from now on.
    SetChunkInterval {
        /// The hypertable.
        relation: Relation,
        /// Column of the time dimension.
        column: SqlName,
        /// The new range.
        interval: Interval,
    },
    /// Add a hash dimension for chunks made from now on.
    AddDimension {
        /// The hypertable.
        relation: Relation,
        /// The column.
        column: SqlName,
        /// Number of partitions.
        partitions: i32,
    },
    /// Change the number of hash partitions of chunks made from now on.
    SetPartitions {
        /// The hypertable.
        relation: Relation,
        /// Column of the dimension.
        column: SqlName,
        /// The new number.
        partitions: i32,
    },
    /// Build an index, one chunk after the other.
    CreateIndex {
        /// The hypertable.
        relation: Relation,
        /// The index.
        index: IndexTarget,
    },
    /// Drop what an index build that was cut off has left.
    DropInvalidIndex {
        /// The hypertable.
        relation: Relation,
        /// Name of the index, in the schema of the hypertable.
        index: SqlName,
    },
    /// Enable compression, or change its settings for chunks compressed from now on.
    SetCompression {
        /// The hypertable.
        relation: Relation,
        /// Columns to group by; `None`: left as it is.
        segment_by: Option<Vec<SqlName>>,
        /// Columns to sort by; `None`: left as it is.
        order_by: Option<Vec<SortColumn>>,
    },
    /// Add a policy with its job.
    AddPolicy {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// What it does.
        policy: Policy,
        /// Its job.
        job: NewJob,
    },
    /// Change a policy's job in place.
    AlterPolicy {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// `job_id`
        job_id: i32,
        /// The hypertable that the job must be on, as observed: a job that is not is left alone.
        hypertable_id: i32,
        /// The kind that the job must be of.
        kind: PolicyKind,
        /// What changes.
        changes: JobChanges,
    },
    /// Remove a policy with its job.
    RemovePolicy {
        /// The hypertable.
        relation: Relation,
        /// Its kind.
        kind: PolicyKind,
    },
    /// Create a continuous aggregate without data.
    CreateAggregate {
        /// The view.
        relation: Relation,
        /// The query.
        query: String,
        /// Queries see only what is materialised; `None`: TimescaleDB's choice.
        materialized_only: Option<bool>,
    },
    /// Choose whether queries also see what is not materialised.
    SetMaterializedOnly {
        /// The aggregate.
        relation: Relation,
        /// The new value.
        materialized_only: bool,
    },
    /// Drop an aggregate with all that it materialised.
    DropAggregate {
        /// The aggregate.
        relation: Relation,
    },
}

impl Action {
    /// A bounded name for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateHypertable { .. } => "create_hypertable",
            Self::SetChunkInterval { .. } => "set_chunk_interval",
            Self::AddDimension { .. } => "add_dimension",
            Self::SetPartitions { .. } => "set_partitions",
            Self::CreateIndex { .. } => "create_index",
            Self::DropInvalidIndex { .. } => "drop_invalid_index",
            Self::SetCompression { .. } => "set_compression",
            Self::AddPolicy { .. } => "add_policy",
            Self::AlterPolicy { .. } => "alter_policy",
            Self::RemovePolicy { .. } => "remove_policy",
            Self::CreateAggregate { .. } => "create_aggregate",
            Self::SetMaterializedOnly { .. } => "set_materialized_only",
            Self::DropAggregate { .. } => "drop_aggregate",
        }
    }
}

/// The job of a policy that is added. What is `None` is TimescaleDB's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewJob {
    /// `schedule_interval`
    pub schedule_interval: Option<Interval>,
    /// `initial_start`
    pub initial_start: Option<Timestamp>,
    /// `timezone`
    pub timezone: Option<String>,
    /// What only `alter_job` can set: in the same transaction, so that the scheduler never sees the job without it.
    pub rest: JobChanges,
}

/// What changes in a job. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobChanges {
    /// The part of `config` that a resource speaks of.
    pub policy: Option<Policy>,
    /// `schedule_interval`
    pub schedule_interval: Option<Interval>,
    /// `max_runtime`
    pub max_runtime: Option<Interval>,
    /// `max_retries`
    pub max_retries: Option<i32>,
    /// `retry_period`
    pub retry_period: Option<Interval>,
    /// `scheduled`
    pub scheduled: Option<bool>,
    /// `initial_start`, which makes the schedule a fixed one.
    pub initial_start: Option<Timestamp>,
    /// `timezone`
    pub timezone: Option<String>,
}

impl JobChanges {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The catalog says what the resource says.
    InSync,
    /// The plan's steps for this claim lead there.
    Pending,
    /// A long step of this claim is running; the text says which.
    InProgress(String),
    /// Another resource or object comes first.
    WaitingOn(String),
    /// A step would lose data beyond the guard.
    NeedsApproval(HeldPlan),
    /// `Observe` mode: these steps would be taken.
    Drifted(HeldPlan),
    /// Cannot be carried out as it stands.
    Rejected(Rejection),
    /// The resource is being deleted and holds nothing any more: its finalizer can go.
    Released,
}

/// Steps that are not taken, as people see them.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldPlan {
    /// The digest that approves exactly these steps.
    pub digest: PlanDigest,
    /// What they change, one line each.
    pub changes: Vec<String>,
    /// What they cost.
    pub hazards: Vec<String>,
    /// Their SQL, in order.
    pub statements: Vec<String>,
    /// An approval was given, for another plan.
    pub stale_approval: Option<PlanDigest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (150 * 1024 * 1024, "150 MiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
        ] {
            assert_eq!(bytes_text(bytes), text, "{bytes}");
        }
    }
}
