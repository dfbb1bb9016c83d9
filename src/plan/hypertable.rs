//! The diff of one hypertable.

use crate::{
    api::{status::Reason, types::SqlName},
    catalog::{Answer, Hypertable, Index, Partitioning, Question, RelationKind, Table},
    desired::{Claim, HypertableTarget, IndexTarget},
};

use super::{
    Draft, Planner, step,
    step::{Action, Hazard},
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
        let action = Action::CreateHypertable {
            relation: relation.clone(),
            time_column: target.time_column.clone(),
            chunk_interval: target.chunk_interval,
            space: target.space.clone(),
            default_indexes: target.indexes.is_empty(),
            // Those that the plain table has already come along; they are compared once it is a hypertable.
            indexes: target.indexes.iter().filter(|index| !table.indexes.contains(&index.name)).cloned().collect(),
            migrate_data: table.bytes > 0,
        };
        let mut step = step(claim, action, format!("table {relation}: becomes a hypertable by {}", target.time_column));
        if table.bytes > 0 {
            step.hazards.push(Hazard::RewritesData(table.bytes));
            step.hazards.push(Hazard::LongLock(format!("{relation} is locked while its rows are moved into chunks")));
        }
        step.long = table.bytes > LONG_CONVERSION_BYTES;
        Draft { steps: vec![step], ..Draft::default() }
    }

    fn alter(&mut self, claim: &Claim, target: &HypertableTarget, live: &Hypertable) -> Draft {
        let relation = &target.relation;
        let mut draft = Draft::default();
        match live.time() {
            Some(time) if time.column == target.time_column => {
                if let Some(wanted) = target.chunk_interval {
                    match time.partitioning {
                        Partitioning::Range(found) if found == wanted => {}
                        Partitioning::Range(found) => {
                            let column = time.column.clone();
                            let action = Action::SetChunkInterval { relation: relation.clone(), column, interval: wanted };
                            draft.steps.push(step(claim, action, format!("chunk interval of {relation}: {found} -> {wanted}")));
                        }
                        Partitioning::IntegerRange(_) | Partitioning::Hash(_) => draft.block(
                            Reason::InvalidSpec,
                            format!(
                                "spec.chunkInterval: {relation} is partitioned by {} in {}; this version manages time intervals only, leave chunkInterval out",
                                time.column, time.partitioning
                            ),
                        ),
                    }
                }
            }
            found => {
                // Nothing else is touched: the table may be another one than is meant, and a dimension cannot be removed.
                let message = format!(
                    "spec.timeColumn: {relation} is already a hypertable by {}, not by {}; TimescaleDB cannot change that, name the existing column",
                    found.map_or("no column", |time| time.column.as_str()),
                    target.time_column
                );
                return Draft::rejected(Reason::InvalidSpec, message);
            }
        }
        self.space(claim, target, live, &mut draft);
        for index in &target.indexes {
            self.index(claim, target, index, live.indexes.get(&index.name), &mut draft);
        }
        draft
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

    fn index(
        &mut self,
        claim: &Claim,
        target: &HypertableTarget,
        index: &IndexTarget,
        live: Option<&Index>,
        draft: &mut Draft,
    ) {
        let relation = &target.relation;
        let create = || {
            let action = Action::CreateIndex { relation: relation.clone(), index: index.clone() };
            let mut step = step(claim, action, format!("index {} on {relation}: created", index.name));
            step.long = true;
            step
        };
        let Some(live) = live else {
            draft.steps.push(create());
            return;
        };
        if !live.valid {
            let action = Action::DropInvalidIndex { relation: relation.clone(), index: index.name.clone() };
            let change = format!("index {} on {relation}: the rest of an interrupted build is dropped", index.name);
            draft.steps.push(step(claim, action, change));
            draft.steps.push(create());
            return;
        }
        let predicate = match &index.predicate {
            None => None,
            Some(text) => match self.ask(Question::Predicate { relation: relation.clone(), text: text.clone() }) {
                Some(Answer::Predicate(Ok(text))) => Some(text),
                Some(Answer::Predicate(Err(error))) => {
                    draft.block(error.reason, format!("spec.indexes: {}: where: {}", index.name, error.message));
                    return;
                }
                // Not known yet: the plan has a question.
                None | Some(_) => return,
            },
        };
        let wanted = wanted_index(index, predicate);
        let same = Index { unique: live.unique, valid: live.valid, ..wanted.clone() } == *live;
        if !same {
            let message = format!(
                "spec.indexes: the index {} on {relation} is {live}, the resource says {wanted}; an existing index is not replaced: give the new one another name, or drop the old one with DROP INDEX",
                index.name
            );
            draft.block(Reason::InvalidSpec, message);
        }
    }
}

/// The index as the catalog will show it, with its predicate as the server prints it.
pub(super) fn wanted_index(index: &IndexTarget, predicate: Option<String>) -> Index {
    Index {
        method: "btree".to_owned(),
        columns: index.keys(),
        include: index.include.iter().map(|c| c.as_str().to_owned()).collect(),
        predicate,
        unique: false,
        valid: true,
    }
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
    if !matches!(time_type.as_str(), "timestamp with time zone" | "timestamp without time zone" | "date") {
        let message = format!(
            "spec.timeColumn: {} of {relation} is of type {time_type}; timestamptz, timestamp or date is needed",
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
