//! What a plan is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api::types::{Interval, Relation, Span, SqlName},
    catalog::{Columnstore, Drops, Grant, IntegerType, Loss, Policy, PolicyKind, Question, SortColumn, SparseIndex},
    desired::{ClaimId, IndexTarget, Kind, PlanDigest, Rejection, ResourceId},
};

/// What to do to a database, and what became of each claim on it.
#[must_use = "a plan does nothing until it is applied and reported"]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What may be done now, in order.
    pub steps: Vec<Step>,
    /// One for each claim of a resource attached to the database.
    pub verdicts: BTreeMap<ClaimId, Verdict>,
    /// What is unwise but done all the same, for people to read.
    pub warnings: BTreeMap<ClaimId, Vec<String>>,
    /// What the planner has to know before the plan is whole. While there are any, nothing may be applied.
    pub questions: BTreeSet<Question>,
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The claim it is done for.
    pub claim: ClaimId,
    /// What is done.
    pub action: Action,
    /// What it costs beyond a short lock.
    pub hazards: Vec<Hazard>,
    /// It may take minutes to hours: it must not hold up the other resources of the database.
    pub long: bool,
    /// Claims whose steps of this plan must have succeeded before.
    pub after: Vec<ClaimId>,
    /// The value found and the value wanted, for people.
    pub change: String,
}

/// Whether these steps must not be taken on an old view of the resource they are for: they lose something, or they make
/// something that nobody would undo if the resource were gone by now. What a hypertable gains harms nothing.
pub fn need_confirmation(kind: Kind, steps: &[&Step]) -> bool {
    kind != Kind::Hypertable || steps.iter().any(|step| !step.hazards.is_empty())
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
                let Drops { chunks, of, rows, bytes, oldest, newest, oldest_integer, newest_integer } = drops;
                write!(f, "deletes data: {chunks} of {of} chunks ({:.0} %), ", drops.percent())?;
                // Chunks that were never analyzed count as empty: no estimate is better than a wrong one.
                if *rows > 0 {
                    write!(f, "about {rows} rows, ")?;
                }
                f.write_str(&bytes_text(*bytes))?;
                match (oldest, newest, oldest_integer, newest_integer) {
                    (Some(oldest), Some(newest), _, _) => write!(f, ", from {oldest} to {newest}"),
                    (_, _, Some(oldest), Some(newest)) => write!(f, ", from {oldest} to {newest}"),
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
        chunk_interval: Option<Span>,
        /// The function that says what time it is now in an integer time column.
        integer_now: Option<Relation>,
        /// Hash dimensions.
        space: Vec<(SqlName, i32)>,
        /// Let TimescaleDB make its own index on the time column.
        default_indexes: bool,
        /// Indexes to build.
        indexes: Vec<IndexTarget>,
        /// Their comment, which says for which resource they are made.
        comment: String,
        /// Move the rows that are there.
        migrate_data: bool,
    },
    /// Change the range of chunks made from now on.
    SetChunkInterval {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// The new range.
        interval: Span,
    },
    /// Say which function knows what time it is now in an integer time column.
    SetIntegerNow {
        /// The hypertable.
        relation: Relation,
        /// The function.
        function: Relation,
    },
    /// Let queries leave out compressed chunks by the smallest and largest value of a column, or no longer.
    SetChunkSkipping {
        /// The hypertable.
        relation: Relation,
        /// The column.
        column: SqlName,
        /// Whether they do.
        enabled: bool,
    },
    /// Put chunks made from now on into a tablespace too.
    AttachTablespace {
        /// The hypertable.
        relation: Relation,
        /// The tablespace.
        tablespace: SqlName,
    },
    /// Put chunks made from now on into a tablespace no longer.
    DetachTablespace {
        /// The hypertable.
        relation: Relation,
        /// The tablespace.
        tablespace: SqlName,
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
    /// Build an index chunk by chunk, so that writes go on.
    BuildIndex {
        /// The hypertable.
        relation: Relation,
        /// Its name; while an older one has that, one that only this operator gives.
        name: SqlName,
        /// The index.
        index: IndexTarget,
        /// Its comment, which says for which resource it is made; where it has its own name at once.
        comment: Option<String>,
    },
    /// Let an index that was built beside an older one take its place and name, in one transaction.
    PlaceIndex {
        /// The hypertable.
        relation: Relation,
        /// The name for the time of the build.
        from: SqlName,
        /// The index.
        index: IndexTarget,
        /// Its comment, which says for which resource it is made.
        comment: String,
    },
    /// Build an index in one transaction, in place of an older one where there is one; writes wait meanwhile. TimescaleDB
    /// builds no unique index chunk by chunk; and of an aggregate the owner may not rename an index that was built so.
    CreateIndex {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// The schema that the index is in.
        schema: SqlName,
        /// The index.
        index: IndexTarget,
        /// The older one of this name is dropped.
        replaces: bool,
        /// Its comment, which says for which resource it is made.
        comment: String,
    },
    /// Drop an index that this operator made, or what an interrupted build has left.
    DropIndex {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// The schema that the index is in.
        schema: SqlName,
        /// Its name.
        index: SqlName,
        /// Only while it is invalid: a server may go on building after the one who asked for it is gone.
        only_invalid: bool,
    },
    /// Enable compression, or change its settings for chunks compressed from now on. What is `None` is left as it is.
    SetCompression {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// What it is.
        object: ObjectKind,
        /// Columns to group by.
        segment_by: Option<Vec<SqlName>>,
        /// Columns to sort by.
        order_by: Option<Vec<SortColumn>>,
        /// Sparse indexes.
        sparse_indexes: Option<BTreeSet<SparseIndex>>,
        /// Range that compressed chunks are merged up to.
        merge_interval: Option<Span>,
    },
    /// Add a policy with its job.
    AddPolicy {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// The policy.
        new: NewPolicy,
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
    /// Remove a policy and add it anew in one transaction, for what cannot be altered: others never see a moment without it.
    ReplacePolicy {
        /// The hypertable or the aggregate.
        relation: Relation,
        /// The policy.
        new: NewPolicy,
    },
    /// Remove a policy with its job.
    RemovePolicy {
        /// The hypertable or the aggregate.
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
        /// TimescaleDB makes its own indexes; `None`: its choice.
        create_group_indexes: Option<bool>,
        /// Its comment, which says for which resource it is built, where it is to replace another.
        comment: Option<String>,
    },
    /// Materialise all of an aggregate that is to replace another.
    FillAggregate {
        /// The aggregate.
        relation: Relation,
    },
    /// Let an aggregate that was built beside another take its name, and all that hangs on it, in one transaction.
    SwapAggregate(Box<Swap>),
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

/// What an action does to the objects of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// There is something new.
    Creates,
    /// What was there is different.
    Changes,
    /// Something is not there any more.
    Removes,
}

/// What a relation is, as far as ALTER goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A hypertable.
    Table,
    /// A continuous aggregate.
    MaterializedView,
}

/// An aggregate takes the place of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    /// The aggregate that goes, and the name that stays.
    pub relation: Relation,
    /// The aggregate that comes.
    pub replacement: Relation,
    /// The name that the one that goes has until it is dropped: that is a step of its own, because it locks the source.
    pub replaced: Relation,
    /// The comment that marks the one that goes as ours to drop.
    pub replaced_comment: String,
    /// The owner.
    pub owner: Option<SqlName>,
    /// The comment.
    pub comment: Option<String>,
    /// Privileges.
    pub grants: Vec<Grant>,
    /// The columnstore settings, where compression is enabled.
    pub columnstore: Option<Columnstore>,
    /// Range that compressed chunks are merged up to.
    pub merge_interval: Option<Span>,
    /// Range of one chunk.
    pub chunk_interval: Option<Span>,
    /// Its policies.
    pub policies: Vec<NewPolicy>,
}

/// A policy that is added.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPolicy {
    /// What it does.
    pub policy: Policy,
    /// Its job.
    pub job: NewJob,
    /// The type of an integer time column, in which TimescaleDB wants the offsets of a refresh.
    pub integers: IntegerType,
}

impl Action {
    /// Whether its commit need not wait for the disk by itself: it is waited for before anything is said of it, and if the
    /// server crashes before that it is made again. What takes something away waits: the resource that it was done for is
    /// let go of then.
    pub const fn is_made_again(&self) -> bool {
        matches!(
            self,
            Self::CreateHypertable { .. }
                | Self::SetChunkInterval { .. }
                | Self::SetCompression { .. }
                | Self::AddPolicy { .. }
                | Self::AlterPolicy { .. }
                | Self::CreateAggregate { .. }
                | Self::SetMaterializedOnly { .. }
        )
    }

    /// A bounded name for metrics and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateHypertable { .. } => "create_hypertable",
            Self::SetChunkInterval { .. } => "set_chunk_interval",
            Self::AddDimension { .. } => "add_dimension",
            Self::SetPartitions { .. } => "set_partitions",
            Self::SetIntegerNow { .. } => "set_integer_now",
            Self::SetChunkSkipping { .. } => "set_chunk_skipping",
            Self::AttachTablespace { .. } => "attach_tablespace",
            Self::DetachTablespace { .. } => "detach_tablespace",
            Self::BuildIndex { .. } => "build_index",
            Self::PlaceIndex { .. } => "place_index",
            Self::CreateIndex { .. } => "create_index",
            Self::DropIndex { .. } => "drop_index",
            Self::SetCompression { .. } => "set_compression",
            Self::AddPolicy { .. } => "add_policy",
            Self::AlterPolicy { .. } => "alter_policy",
            Self::ReplacePolicy { .. } => "replace_policy",
            Self::RemovePolicy { .. } => "remove_policy",
            Self::CreateAggregate { .. } => "create_aggregate",
            Self::FillAggregate { .. } => "fill_aggregate",
            Self::SwapAggregate(_) => "swap_aggregate",
            Self::SetMaterializedOnly { .. } => "set_materialized_only",
            Self::DropAggregate { .. } => "drop_aggregate",
        }
    }

    /// Whether there is more or less in the database afterwards.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::CreateHypertable { .. }
            | Self::AddDimension { .. }
            | Self::AttachTablespace { .. }
            | Self::BuildIndex { .. }
            | Self::CreateIndex { replaces: false, .. }
            | Self::AddPolicy { .. }
            | Self::CreateAggregate { .. } => Effect::Creates,
            Self::DetachTablespace { .. }
            | Self::DropIndex { .. }
            | Self::RemovePolicy { .. }
            | Self::DropAggregate { .. } => Effect::Removes,
            Self::SetChunkInterval { .. }
            | Self::SetIntegerNow { .. }
            | Self::SetChunkSkipping { .. }
            | Self::SetPartitions { .. }
            | Self::PlaceIndex { .. }
            | Self::CreateIndex { replaces: true, .. }
            | Self::SetCompression { .. }
            | Self::AlterPolicy { .. }
            | Self::ReplacePolicy { .. }
            | Self::FillAggregate { .. }
            | Self::SwapAggregate(_)
            | Self::SetMaterializedOnly { .. } => Effect::Changes,
        }
    }
}

/// The job of a policy that is added. What is `None` is TimescaleDB's choice.
#[derive(Clone, Debug, Default, PartialEq)]
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
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Another policy names the selected target, and goes before this one.
    Overridden(ResourceId),
    /// The resource is being deleted and holds nothing any more: its finalizer can go.
    Released,
}

/// Steps that are not taken, as people see them.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldPlan {
    /// The digest that approves exactly these steps.
    pub digest: PlanDigest,
    /// The steps.
    pub steps: Vec<Step>,
    /// What they cost, and which guards they are beyond.
    pub hazards: Vec<String>,
    /// Their SQL, in order.
    pub statements: Vec<String>,
    /// An approval was given, for another plan.
    pub stale_approval: Option<PlanDigest>,
}

impl HeldPlan {
    /// What the steps change, for people.
    pub fn changes(&self) -> String {
        self.steps.iter().map(|step| step.change.as_str()).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loses_something_or_would_be_left_behind_needs_confirmation() {
        let relation: Relation = "public.t".parse().unwrap();
        let step = |hazards| Step {
            claim: ResourceId { kind: Kind::Hypertable, namespace: None, name: "t".to_owned() }.into(),
            action: Action::SetChunkInterval { relation: relation.clone(), interval: Span::Integer(1) },
            hazards,
            long: false,
            after: Vec::new(),
            change: String::new(),
        };
        let (harmless, rewriting) = (step(Vec::new()), step(vec![Hazard::RewritesData(1)]));
        assert!(!need_confirmation(Kind::Hypertable, &[&harmless]));
        assert!(need_confirmation(Kind::Hypertable, &[&harmless, &rewriting]));
        assert!(
            need_confirmation(Kind::RetentionPolicy, &[&harmless]),
            "a policy that outlives its resource drops data"
        );
    }

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
