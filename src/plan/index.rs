//! The diff of the indexes of a hypertable, or of what an aggregate has materialised.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::{
    api::{
        MADE_BY,
        status::Reason,
        types::{Relation, SqlName},
    },
    catalog::{Answer, Index, Question},
    desired::{Claim, IndexTarget, ResourceId},
};

use super::{
    Draft, Planner, step,
    step::{Action, Hazard},
};

/// How the names begin that indexes have while they are built beside the ones they replace. They are nobody else's: what is
/// found under such a name is what an interrupted build has left.
const BUILDING: &str = "tsdbop_building_";

/// The indexes of one relation, as found and as wanted.
pub(super) struct Indexes<'a> {
    pub(super) relation: &'a Relation,
    /// The schema that the indexes are in.
    pub(super) schema: &'a SqlName,
    /// They are those of an aggregate.
    pub(super) of_aggregate: bool,
    /// The columns that every unique index must hold.
    pub(super) partitioning: &'a [&'a SqlName],
    pub(super) wanted: &'a [IndexTarget],
    pub(super) live: &'a BTreeMap<SqlName, Index>,
}

impl Planner<'_> {
    pub(super) fn indexes(&mut self, claim: &Claim, indexes: &Indexes<'_>, draft: &mut Draft) {
        let Indexes { relation, schema, wanted, live, of_aggregate: _, partitioning: _ } = indexes;
        let mine = made_for(&self.inputs.rules.home, &claim.id.resource);
        for index in *wanted {
            self.index(claim, indexes, index, &mine, draft);
        }
        let builds: Vec<_> = wanted.iter().map(|index| building_name(relation, index)).collect();
        for (name, index) in *live {
            let left_over = name.as_str().starts_with(BUILDING) && !builds.contains(name);
            let unwanted = index.comment.as_ref() == Some(&mine)
                && !index.constraint
                && !wanted.iter().any(|w| w.name == *name)
                && !builds.contains(name);
            if left_over || unwanted {
                let what = if left_over { "what is left of an interrupted build" } else { "not listed any more" };
                let change = format!("index {name} on {relation}: dropped, {what}");
                let action = drop_index(indexes, name, !index.valid);
                let mut drop = step(claim, action, change);
                drop.hazards.push(Hazard::DropsObject(format!("index {name} in schema {schema}")));
                draft.steps.push(drop);
            }
        }
    }

    fn index(&mut self, claim: &Claim, indexes: &Indexes<'_>, index: &IndexTarget, mine: &String, draft: &mut Draft) {
        let Indexes { relation, live, .. } = indexes;
        let predicate = match &index.predicate {
            None => None,
            Some(text) => match self.ask(Question::Predicate { relation: (*relation).clone(), text: text.clone() }) {
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
        let name = &index.name;
        match live.get(name) {
            Some(found) if !found.valid => {
                let change = format!("index {name} on {relation}: the rest of an interrupted build is dropped");
                draft.steps.push(step(claim, drop_index(indexes, name, true), change));
                build(claim, indexes, index, &wanted, mine, None, draft);
            }
            Some(found) if is_same(found, &wanted) => {}
            // A unique one that somebody else made serves as well.
            Some(found)
                if found.comment.as_ref() != Some(mine)
                    && is_same(&Index { unique: false, ..found.clone() }, &wanted) => {}
            Some(found) if found.comment.as_ref() == Some(mine) && !found.constraint => {
                build(claim, indexes, index, &wanted, mine, Some(found), draft);
            }
            Some(found) => {
                let message = format!(
                    "spec.indexes: the index {name} on {relation} is {found}, the resource says {wanted}; an index that this resource did not make is not replaced: give the new one another name, or drop the old one with DROP INDEX"
                );
                draft.block(Reason::InvalidSpec, message);
            }
            None => build(claim, indexes, index, &wanted, mine, None, draft),
        }
    }
}

/// Adds the steps that build the index, in place of the one of the same name where there is one.
fn build(
    claim: &Claim,
    indexes: &Indexes<'_>,
    index: &IndexTarget,
    wanted: &Index,
    mine: &str,
    older: Option<&Index>,
    draft: &mut Draft,
) {
    let Indexes { relation, schema, live, .. } = indexes;
    let (relation, schema, name) = ((*relation).clone(), (*schema).clone(), &index.name);
    let comment = mine.to_owned();
    let change = match older {
        None => format!("index {name} on {relation}: created"),
        Some(found) => format!("index {name} on {relation}: {found} -> {wanted}"),
    };
    let replaces = older.is_some();
    if index.unique && indexes.of_aggregate {
        let message =
            format!("spec.indexes: {name} is unique, which TimescaleDB does not support on continuous aggregates");
        return draft.block(Reason::InvalidSpec, message);
    }
    if let Some(message) = lacking(index, indexes.partitioning) {
        return draft.block(Reason::IncompatibleIndex, message);
    }
    if index.unique || indexes.of_aggregate {
        let what = if indexes.of_aggregate { "refreshes of" } else { "writes to" };
        let lock = format!("{what} {relation} wait while the index {name} is built");
        let action = Action::CreateIndex { relation, schema, index: index.clone(), replaces, comment };
        let mut create = step(claim, action, change);
        create.long = true;
        create.hazards.push(Hazard::LongLock(lock));
        draft.steps.push(create);
        return;
    }
    if !replaces {
        let action = Action::BuildIndex { relation, name: name.clone(), index: index.clone(), comment: Some(comment) };
        let mut built = step(claim, action, change);
        built.long = true;
        draft.steps.push(built);
        return;
    }
    let from = building_name(&relation, index);
    let left = live.get(&from);
    if !left.is_some_and(|found| found.valid && is_same(found, wanted)) {
        if left.is_some() {
            let change = format!("index {name} on {relation}: the rest of an interrupted build is dropped");
            let only_invalid = left.is_some_and(|found| !found.valid);
            draft.steps.push(step(claim, drop_index(indexes, &from, only_invalid), change));
        }
        let (relation, name) = (relation.clone(), from.clone());
        let change = format!("index {} on {relation}: built anew beside the old one", index.name);
        let action = Action::BuildIndex { relation, name, index: index.clone(), comment: None };
        let mut built = step(claim, action, change);
        built.long = true;
        draft.steps.push(built);
    }
    let action = Action::PlaceIndex { relation, from, index: index.clone(), comment };
    draft.steps.push(step(claim, action, change));
}

fn drop_index(indexes: &Indexes<'_>, name: &SqlName, only_invalid: bool) -> Action {
    let (relation, schema) = (indexes.relation.clone(), indexes.schema.clone());
    Action::DropIndex { relation, schema, index: name.clone(), only_invalid }
}

/// Why a unique index cannot be on a hypertable that is partitioned by these columns.
pub(super) fn lacking(index: &IndexTarget, partitioning: &[&SqlName]) -> Option<String> {
    let held = |column: &SqlName| index.columns.iter().any(|key| key.column == *column);
    let missing: BTreeSet<_> = partitioning.iter().filter(|c| index.unique && !held(c)).map(|c| c.as_str()).collect();
    if missing.is_empty() {
        return None;
    }
    let (s, missing) = (if missing.len() == 1 { "" } else { "s" }, missing.into_iter().collect::<Vec<_>>().join(", "));
    Some(format!(
        "spec.indexes: the unique index {} lacks the partitioning column{s} {missing}: TimescaleDB needs every partitioning column in every unique index; add {missing} to its columns",
        index.name
    ))
}

/// The comment that says for which resource an index or an aggregate was made.
pub fn made_for(home: &str, resource: &ResourceId) -> String {
    let namespace = resource.namespace.as_deref().unwrap_or(home);
    format!("{MADE_BY}{} {namespace}/{}", resource.kind.as_str(), resource.name)
}

/// The name of an index while it is built: another one for every definition.
fn building_name(relation: &Relation, index: &IndexTarget) -> SqlName {
    SqlName::generated(BUILDING, &Sha256::digest(format!("{relation:?} {index:?}")))
}

/// The index as the catalog will show it, with its predicate as the server prints it.
pub(super) fn wanted_index(index: &IndexTarget, predicate: Option<String>) -> Index {
    Index {
        method: index.method.as_str().to_owned(),
        columns: index.keys(),
        include: index.include.iter().map(|c| c.as_str().to_owned()).collect(),
        predicate,
        unique: index.unique,
        constraint: false,
        comment: None,
        valid: true,
    }
}

/// The two are defined alike, whatever they are called and said to be for.
fn is_same(found: &Index, wanted: &Index) -> bool {
    let Index { method, columns, include, predicate, unique, constraint: _, comment: _, valid: _ } = found;
    let same_keys = (method, columns, include) == (&wanted.method, &wanted.columns, &wanted.include);
    same_keys && predicate == &wanted.predicate && *unique == wanted.unique
}
