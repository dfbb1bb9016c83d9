//! The diff of one hypertable.

use std::fmt::Write as _;

use crate::{
    api::{
        status::Reason,
        types::{Relation, Span, SqlName},
    },
    catalog::{Answer, Hypertable, Partitioning, Question, RelationKind, Table},
    desired::{ChunkInterval, Claim, HypertableTarget, Rejection},
};

use super::{
    Draft, Planner,
    drop_guard::{self, Guarded},
    index::{Indexes, lacking, made_for},
    interlocks, step,
    step::{Action, Hazard},
    wrong_measure,
};

/// A conversion that moves more than this runs beside the pass.
const LONG_CONVERSION_BYTES: i64 = 16 * 1024 * 1024;

impl Planner<'_> {
    pub(super) fn hypertable(&mut self, claim: &Claim, target: &HypertableTarget) -> Draft {
        match self.catalog.hypertables.get(&target.relation).cloned() {
            Some(live) => self.alter(claim, target, &live),
            None => self.create(claim, target),
        }
    }

    fn create(&mut self, claim: &Claim, target: &HypertableTarget) -> Draft {
        let relation = &target.relation;
        if self.catalog.aggregates.contains_key(relation) {
            let message =
                format!("{relation} is a continuous aggregate, not a table; describe it with a ContinuousAggregate");
            return Draft::rejected(Reason::InvalidSpec, message);
        }
        let table = match self.ask(Question::Table(relation.clone())) {
            None => return Draft::default(),
            Some(Answer::Table(Some(table))) => table,
            Some(_) => {
                let message = format!(
                    "table {relation} does not exist in this database; create it (the operator converts tables, it does not create them)"
                );
                return Draft::rejected(Reason::TableNotFound, message);
            }
        };
        if let Some((reason, message)) = unfit(target, &table) {
            return Draft::rejected(reason, message);
        }
        let chunk_interval = match (target.chunk_interval, by_integer(target, &table)) {
            // A default is meant for dimensions of its measure.
            (Some(wanted), by_integer)
                if wanted.is_default && matches!(wanted.span, Span::Integer(_)) != by_integer =>
            {
                None
            }
            (wanted, _) => wanted.map(|wanted| wanted.span),
        };
        if chunk_interval.is_none() && by_integer(target, &table) {
            let message = format!(
                "spec.chunkInterval: {relation} is partitioned by the integers in {}, for which there is no sensible default; write how many of its units a chunk spans",
                target.time_column
            );
            return Draft::rejected(Reason::InvalidSpec, message);
        }
        let action = Action::CreateHypertable {
            relation: relation.clone(),
            time_column: target.time_column.clone(),
            chunk_interval,
            integer_now: target.integer_now.clone(),
            space: target.space.clone(),
            default_indexes: target.indexes.is_empty(),
            // Those that the plain table has already come along; they are compared once it is a hypertable.
            indexes: target.indexes.iter().filter(|index| !table.indexes.contains(&index.name)).cloned().collect(),
            comment: made_for(&self.inputs.rules.home, &claim.id.resource),
            migrate_data: table.bytes > 0,
        };
        let mut create = step(claim, action, format!("table {relation}: {}", becomes(target, chunk_interval)));
        if table.bytes > 0 {
            create.hazards.push(Hazard::RewritesData(table.bytes));
            create.hazards.push(Hazard::LongLock(format!("{relation} is locked while its rows are moved into chunks")));
        }
        create.long = table.bytes > LONG_CONVERSION_BYTES;
        let mut draft = Draft { steps: vec![create], ..Draft::default() };
        // What cannot be said at once follows.
        let created = Hypertable::default();
        self.chunk_skipping(claim, target, &created, &mut draft);
        tablespaces(claim, target, &created, &mut draft);
        if let Some(job) = &target.reorder {
            draft.steps.push(super::policy::added(claim, relation, job, None));
        }
        draft
    }

    fn alter(&mut self, claim: &Claim, target: &HypertableTarget, live: &Hypertable) -> Draft {
        let relation = &target.relation;
        let mut draft = Draft::default();
        let Some(time) = live.time().filter(|time| time.column == target.time_column) else {
            // Nothing else is touched: the table may be another one than is meant, and a dimension cannot be removed.
            let message = format!(
                "spec.timeColumn: {relation} is already a hypertable by {}, not by {}; TimescaleDB cannot change that, name the existing column",
                live.time().map_or("no column", |time| time.column.as_str()),
                target.time_column
            );
            return Draft::rejected(Reason::InvalidSpec, message);
        };
        if let Some(ChunkInterval { span, is_default }) = target.chunk_interval {
            match self.unfit_chunk_interval(relation, live, span) {
                // A default is meant for dimensions of its measure.
                Some(Rejection { reason: Reason::InvalidSpec, .. }) if is_default => {}
                Some(Rejection { reason, message }) => draft.block(reason, message),
                None => chunk_interval(claim, relation, live, span, &mut draft),
            }
        }
        match (&target.integer_now, &time.partitioning) {
            (None, _) => {}
            (Some(wanted), Partitioning::IntegerRange(_)) => {
                if live.integer_now.as_ref() != Some(wanted) {
                    let found = live.integer_now.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
                    let action = Action::SetIntegerNow { relation: relation.clone(), function: wanted.clone() };
                    draft.steps.push(step(claim, action, format!("integer now function of {relation}: {found} -> {wanted}")));
                    draft.needs_approval.extend(self.clock_guard(live.id));
                }
            }
            (Some(_), partitioning) => draft.block(
                Reason::InvalidSpec,
                format!("spec.integerNowFunction: {relation} is partitioned by {} in {partitioning}, not by integers; leave it out", time.column),
            ),
        }
        self.space(claim, target, live, &mut draft);
        self.chunk_skipping(claim, target, live, &mut draft);
        tablespaces(claim, target, live, &mut draft);
        let space = target.space.iter().map(|(column, _)| column);
        let partitioning: Vec<_> = live.dimensions.iter().map(|d| &d.column).chain(space).collect();
        let indexes = Indexes {
            relation,
            schema: &relation.schema,
            of_aggregate: false,
            partitioning: &partitioning,
            wanted: &target.indexes,
            live: &live.indexes,
        };
        self.indexes(claim, &indexes, &mut draft);
        if let Some(job) = &target.reorder {
            self.job(claim, relation, live, job, &mut draft);
        }
        draft
    }

    /// Why chunks cannot have this range.
    pub(super) fn unfit_chunk_interval(
        &self,
        relation: &Relation,
        live: &Hypertable,
        wanted: Span,
    ) -> Option<Rejection> {
        let unsafe_interval = || {
            let windows = interlocks::refresh_windows(&self.catalog, live.id);
            let (retention, found) = (self.retention_in_force(live.id), live.chunk_interval());
            interlocks::unsafe_chunk_interval(relation, retention, found, wanted, &windows)
        };
        wrong_measure(relation, live, "chunkInterval", wanted)
            .or_else(|| unsafe_interval().map(|message| Rejection::new(Reason::UnsafePolicy, message)))
    }

    /// The retention that goes by the clock of this hypertable: its own, and that of all aggregates over it.
    fn clock_guard(&self, host: i32) -> Vec<Guarded> {
        let (mut hosts, mut guarded) = (vec![host], Vec::new());
        while let Some(host) = hosts.pop() {
            hosts.extend(self.catalog.readers(host).map(|(_, aggregate)| aggregate.hypertable.id));
            if let (Some(found), Some(name)) = (self.retention_in_force(host), self.catalog.name_of(host)) {
                guarded.extend(drop_guard::clock_guard(name, found));
            }
        }
        guarded
    }

    #[allow(clippy::unused_self, reason = "one of the diffs of a claim, called like its siblings")]
    fn space(&self, claim: &Claim, target: &HypertableTarget, live: &Hypertable, draft: &mut Draft) {
        let relation = &target.relation;
        let listed = |column: &SqlName| target.space.is_empty() || target.space.iter().any(|(c, _)| c == column);
        let extra = live.dimensions.iter().skip(1).find(|d| !listed(&d.column));
        if let Some(extra) = extra {
            let message = format!(
                "spec.spacePartitions: {relation} is also partitioned by {} in {}; TimescaleDB cannot remove a dimension, add it to the list",
                extra.column, extra.partitioning
            );
            draft.block(Reason::InvalidSpec, message);
        }
        for (column, wanted) in &target.space {
            let (column, wanted) = (column.clone(), *wanted);
            let found = live.dimensions.iter().find(|d| d.column == column).map(|d| &d.partitioning);
            match found {
                Some(Partitioning::Hash(found)) if *found == wanted => {}
                Some(Partitioning::Hash(found)) => {
                    let change = format!("hash partitions of {relation} by {column}: {found} -> {wanted}");
                    let action = Action::SetPartitions { relation: relation.clone(), column, partitions: wanted };
                    draft.steps.push(step(claim, action, change));
                }
                Some(other) => {
                    draft.block(
                        Reason::InvalidSpec,
                        format!("spec.spacePartitions: {column} already partitions {relation} in {other}"),
                    );
                }
                // A column that was renamed in the list would otherwise add a dimension that cannot be removed again.
                None if extra.is_some() => {}
                None => {
                    let change = format!(
                        "{relation}: new hash dimension by {column} with {wanted} partitions, for chunks made from now on"
                    );
                    let action = Action::AddDimension { relation: relation.clone(), column, partitions: wanted };
                    draft.steps.push(step(claim, action, change));
                }
            }
        }
    }

    fn chunk_skipping(&self, claim: &Claim, target: &HypertableTarget, live: &Hypertable, draft: &mut Draft) {
        let Some(wanted) = &target.chunk_skipping else { return };
        let relation = &target.relation;
        let version = self.catalog.server.extension.as_ref().map(|e| &e.version);
        if let Some(version) = version.filter(|v| !wanted.is_empty() && !v.at_least(2, 16)) {
            let message = format!("spec.chunkSkipping needs TimescaleDB 2.16 or later, this is {version}");
            draft.block(Reason::UnsupportedVersion, message);
            return;
        }
        let columns = wanted.difference(&live.chunk_skipping).map(|column| (column, true));
        let columns = columns.chain(live.chunk_skipping.difference(wanted).map(|column| (column, false)));
        for (column, enabled) in columns {
            let what = if enabled { "enabled" } else { "disabled" };
            let change = format!("chunk skipping of {relation} by {column}: {what}");
            let action = Action::SetChunkSkipping { relation: relation.clone(), column: column.clone(), enabled };
            draft.steps.push(step(claim, action, change));
        }
    }
}

/// What becomes of a table that is converted, in one line.
fn becomes(target: &HypertableTarget, chunk_interval: Option<Span>) -> String {
    let mut text = format!("becomes a hypertable by {}", target.time_column);
    if let Some(interval) = chunk_interval {
        let _ = write!(text, ", in chunks of {interval}");
    }
    for (column, partitions) in &target.space {
        let _ = write!(text, ", in {partitions} partitions by {column}");
    }
    match target.indexes.len() {
        0 => {}
        1 => text.push_str(", with 1 index"),
        n => {
            let _ = write!(text, ", with {n} indexes");
        }
    }
    text
}

/// Adds the steps that attach the tablespaces wanted and detach the others.
fn tablespaces(claim: &Claim, target: &HypertableTarget, live: &Hypertable, draft: &mut Draft) {
    let Some(wanted) = &target.tablespaces else { return };
    let relation = &target.relation;
    for tablespace in wanted.iter().filter(|t| !live.tablespaces.contains(t)) {
        let action = Action::AttachTablespace { relation: relation.clone(), tablespace: tablespace.clone() };
        draft.steps.push(step(claim, action, format!("tablespaces of {relation}: {tablespace} attached")));
    }
    for tablespace in live.tablespaces.iter().filter(|t| !wanted.contains(t)) {
        let action = Action::DetachTablespace { relation: relation.clone(), tablespace: tablespace.clone() };
        draft.steps.push(step(claim, action, format!("tablespaces of {relation}: {tablespace} detached")));
    }
}

/// Types of an integer time column.
const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];

fn by_integer(target: &HypertableTarget, table: &Table) -> bool {
    table.columns.get(&target.time_column).is_some_and(|type_| INTEGERS.contains(&type_.as_str()))
}

/// Adds the step that sets the range of chunks made from now on, where it is another.
pub(super) fn chunk_interval(claim: &Claim, relation: &Relation, live: &Hypertable, wanted: Span, draft: &mut Draft) {
    let found = live.chunk_interval();
    if found == Some(wanted) {
        return;
    }
    let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
    let action = Action::SetChunkInterval { relation: relation.clone(), interval: wanted };
    draft.steps.push(step(claim, action, format!("chunk interval of {relation}: {found} -> {wanted}")));
}

/// Why the table cannot become this hypertable.
fn unfit(target: &HypertableTarget, table: &Table) -> Option<(Reason, String)> {
    let relation = &target.relation;
    match table.kind {
        RelationKind::Table => {}
        RelationKind::PartitionedTable => {
            let message = format!("{relation} is partitioned by PostgreSQL; TimescaleDB converts only ordinary tables");
            return Some((Reason::InvalidSpec, message));
        }
        RelationKind::View | RelationKind::Other => {
            return Some((
                Reason::InvalidSpec,
                format!("{relation} is not a table; TimescaleDB converts only ordinary tables"),
            ));
        }
    }
    let Some(time_type) = table.columns.get(&target.time_column) else {
        return Some((Reason::InvalidSpec, missing_column("timeColumn", &target.time_column, target, table)));
    };
    let is_time = matches!(time_type.as_str(), "timestamp with time zone" | "timestamp without time zone" | "date");
    if !is_time && !INTEGERS.contains(&time_type.as_str()) {
        let message = format!(
            "spec.timeColumn: {} of {relation} is of type {time_type}; timestamptz, timestamp, date or an integer is needed",
            target.time_column
        );
        return Some((Reason::InvalidSpec, message));
    }
    if is_time && target.integer_now.is_some() {
        let message = format!(
            "spec.integerNowFunction: {} of {relation} is of type {time_type}, not an integer; leave it out",
            target.time_column
        );
        return Some((Reason::InvalidSpec, message));
    }
    if let Some(ChunkInterval { span, is_default: false }) = target.chunk_interval
        && matches!(span, Span::Time(_)) != is_time
    {
        let needed = if is_time { "an interval such as \"1 day\"" } else { "a number of its units, without quotes" };
        let message = format!(
            "spec.chunkInterval: {} of {relation} is of type {time_type}, which {span} does not fit; write {needed}",
            target.time_column
        );
        return Some((Reason::InvalidSpec, message));
    }
    if table.locked {
        let message = format!("another session holds {relation} locked; it is looked at again when the lock is gone");
        return Some((Reason::LockTimeout, message));
    }
    if let Some(obstacle) = table.obstacles.first() {
        return Some((Reason::InvalidSpec, format!("TimescaleDB cannot convert {relation}: {obstacle}")));
    }
    let indexed = target.indexes.iter().flat_map(|i| i.columns.iter().map(|c| &c.column).chain(&i.include));
    let space = target.space.iter().map(|(column, _)| ("spacePartitions", column));
    for (field, column) in space.chain(indexed.map(|column| ("indexes", column))) {
        if !table.columns.contains_key(column) {
            return Some((Reason::InvalidSpec, missing_column(field, column, target, table)));
        }
    }
    let partitioning = || std::iter::once(&target.time_column).chain(target.space.iter().map(|(column, _)| column));
    let partitioned_by: Vec<_> = partitioning().collect();
    if let Some(message) = target.indexes.iter().find_map(|index| lacking(index, &partitioned_by)) {
        return Some((Reason::IncompatibleIndex, message));
    }
    for (index, columns) in &table.unique_indexes {
        let missing: Vec<_> =
            partitioning().filter(|c| !columns.iter().any(|held| held == c.as_str())).map(SqlName::as_str).collect();
        if !missing.is_empty() {
            let all: Vec<_> = columns.iter().map(String::as_str).chain(missing.iter().copied()).collect();
            let message = format!(
                "unique index {index} on {relation} ({}) lacks the partitioning column{} {}: TimescaleDB needs every partitioning column in every unique index; make it ({}), or drop it",
                columns.join(", "),
                if missing.len() == 1 { "" } else { "s" },
                missing.join(", "),
                all.join(", ")
            );
            return Some((Reason::IncompatibleIndex, message));
        }
    }
    if table.bytes > 0 && !target.migrate_data {
        let message = format!(
            "table {relation} holds {} of rows; set spec.migrateData: true to let them be moved into chunks (the table is locked while that lasts), or empty it with TRUNCATE",
            super::step::bytes_text(table.bytes)
        );
        return Some((Reason::TableNotEmpty, message));
    }
    None
}

fn missing_column(field: &str, column: &SqlName, target: &HypertableTarget, table: &Table) -> String {
    let known: Vec<_> = table.columns.keys().map(SqlName::as_str).collect();
    format!("spec.{field}: {} has no column {column}; it has {}", target.relation, known.join(", "))
}
