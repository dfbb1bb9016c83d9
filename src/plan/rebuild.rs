//! A continuous aggregate whose query changes is built anew beside the old one, filled, and put in its place.
//!
//! How far a rebuild has come is read from the catalog alone: the aggregate that is being built carries a name made of
//! the new query and a comment that says for which resource. Interrupted at any point it goes on from there, and the old
//! one serves until the swap, which is one transaction.

use sha2::{Digest, Sha256};

use crate::{
    api::{
        status::Reason,
        types::{Relation, SqlName},
    },
    catalog::{Aggregate, Answer, Attachments, Definition, Policy, PolicyKind, Question},
    desired::{AggregateTarget, Claim},
};

use super::{
    Draft, Planner, Step,
    aggregate::unfit_window,
    drop_guard::Guarded,
    index::made_for,
    interlocks,
    policy::{integers, kept_job, new_job, replacing_job},
    step,
    step::{Action, Hazard, NewPolicy, Swap},
};

/// How the names begin that aggregates have while they are built.
const REBUILDING: &str = "tsdbop_rebuild_";
/// How the names begin that aggregates have between the swap and their end.
const REPLACED: &str = "tsdbop_replaced_";

impl Planner<'_> {
    /// Adds the steps that put an aggregate with the new query in the place of the live one.
    pub(super) fn rebuild(
        &mut self,
        claim: &Claim,
        target: &AggregateTarget,
        live: &Aggregate,
        definition: &Definition,
        difference: &str,
        draft: &mut Draft,
    ) {
        let relation = &target.relation;
        let readers: Vec<_> = self.catalog.readers(live.hypertable.id).map(|(reader, _)| reader.to_string()).collect();
        let history = Question::History { aggregate: relation.clone(), start_offset: None };
        let (attached, history) = (self.ask(Question::Attachments(relation.clone())), self.ask(history));
        let Attachments { owner, comment, grants, dependents } = match attached {
            Some(Answer::Attachments(Ok(attachments))) => attachments,
            Some(Answer::Attachments(Err(error))) => return draft.block(error.reason, error.message),
            // Not known yet: the plan has a question.
            None | Some(_) => return,
        };
        let dependents = [readers, dependents].concat();
        if !dependents.is_empty() {
            let message = format!(
                "spec.query has changed, and {relation} cannot be rebuilt while others depend on it: {}; drop them first and create them anew after it, or put spec.query back. Live (-) and wanted (+):\n{difference}",
                dependents.join(", ")
            );
            return draft.block(Reason::QueryChanged, message);
        }
        let lost = match history {
            Some(Answer::History(Ok(found))) => found,
            Some(Answer::History(Err(error))) => return draft.block(error.reason, error.message),
            None | Some(_) => return,
        };
        let hosts = match self.hosts(definition) {
            Ok(hosts) => hosts,
            Err(verdict) => {
                draft.blocked.get_or_insert(verdict);
                return;
            }
        };
        let integers = integers(live.hypertable.time());
        let kept = self.catalog.jobs.of(live.hypertable.id);
        // Of several refresh policies the first is the one that the resource speaks of.
        let managed = self.catalog.job(PolicyKind::Refresh, live.hypertable.id).map(|job| job.id);
        let mut policies: Vec<_> = kept
            .map(|job| match &target.refresh {
                Some(wanted) if Some(job.id) == managed => {
                    NewPolicy { policy: wanted.policy.over(&job.policy), job: replacing_job(job, wanted), integers }
                }
                _ => NewPolicy { policy: job.policy.clone(), job: kept_job(job), integers },
            })
            .collect();
        if let Some(wanted) = &target.refresh
            && !policies.iter().any(|new| new.policy.kind() == PolicyKind::Refresh)
        {
            policies.push(NewPolicy { policy: wanted.policy.clone(), job: new_job(wanted), integers });
        }
        // Refresh before compression, compression before retention: TimescaleDB wants the first, and the last loses data.
        policies.sort_by_key(|new| match new.policy.kind() {
            PolicyKind::Refresh => 0,
            PolicyKind::Compression | PolicyKind::Reorder => 1,
            PolicyKind::Retention => 2,
        });
        // The new query may read other rows than the old one.
        let mut after = Vec::new();
        for new in policies.iter().filter(|new| new.job.rest.scheduled != Some(false)) {
            let Policy::Refresh { start_offset, end_offset, .. } = &new.policy else { continue };
            for (source, host) in &hosts {
                if let Some(refusal) = unfit_window(source, host, *start_offset, *end_offset) {
                    return draft.block(refusal.reason, refusal.message);
                }
                let (retention, chunk) = (self.retention_in_force(host.id), host.chunk_interval());
                let unsafe_window =
                    retention.and_then(|r| interlocks::unsafe_refresh(&source.to_string(), r, chunk, *start_offset));
                if let Some(message) = unsafe_window {
                    return draft.block(Reason::UnsafePolicy, message);
                }
                after.extend(self.after_retention(host.id, *start_offset));
            }
        }
        let replacement = replacement(relation, definition);
        if !self.catalog.aggregates.contains_key(&replacement) {
            let action = Action::CreateAggregate {
                relation: replacement.clone(),
                query: target.query.clone(),
                materialized_only: Some(target.materialized_only.unwrap_or(live.materialized_only)),
                create_group_indexes: target.create_group_indexes,
                comment: Some(made_for(&self.inputs.rules.home, &claim.id.resource)),
            };
            let change =
                format!("continuous aggregate {relation}: created anew beside the old one, as {}", replacement.name);
            draft.steps.push(step(claim, action, change));
        }
        let action = Action::FillAggregate { relation: replacement.clone() };
        let mut fill = step(claim, action, format!("{}: filled from the rows that are there", replacement.name));
        fill.long = true;
        draft.steps.push(fill);

        let settings = &live.hypertable;
        let replaced = generated(REPLACED, relation, definition);
        let swap = Swap {
            relation: relation.clone(),
            replacement,
            replaced: replaced.clone(),
            replaced_comment: made_for(&self.inputs.rules.home, &claim.id.resource),
            owner: owner.parse().ok(),
            comment,
            grants,
            columnstore: settings.columnstore.clone(),
            merge_interval: settings.merge_interval,
            chunk_interval: target.chunk_interval.or(settings.chunk_interval()),
            policies,
        };
        let change = format!(
            "continuous aggregate {relation}: the new one takes its place. Live (-) and wanted (+):\n{difference}"
        );
        let mut swap = Step { after, ..step(claim, Action::SwapAggregate(Box::new(swap)), change) };
        if let Some(loss) = lost {
            // How far the rebuild has come changes its statements, not what is agreed to.
            draft.digest_basis = Some(format!("rebuild {relation} as\n{}", definition.wanted));
            draft.needs_approval.push(Guarded { fact: format!("history from {}", loss.from), limit: None });
            swap.hazards.push(Hazard::ErasesHistory(relation.clone(), loss));
        }
        draft.steps.push(swap);
        let drop = Action::DropAggregate { relation: replaced };
        let mut drop = step(claim, drop, format!("continuous aggregate {relation}: the old one is dropped"));
        drop.hazards.push(Hazard::DropsObject(format!(
            "the old continuous aggregate {relation}, once the new one has taken its place"
        )));
        draft.steps.push(drop);
    }

    /// Adds the steps that drop aggregates built for this resource that no rebuild goes on with.
    pub(super) fn drop_left_over(
        &self,
        claim: &Claim,
        relation: &Relation,
        wanted: Option<&Definition>,
        draft: &mut Draft,
    ) {
        let mine = made_for(&self.inputs.rules.home, &claim.id.resource);
        let goes_on = wanted.map(|definition| replacement(relation, definition));
        for (found, aggregate) in &self.catalog.aggregates {
            let built_for_this = found.schema == relation.schema
                && [REBUILDING, REPLACED].iter().any(|prefix| found.name.as_str().starts_with(prefix))
                && aggregate.comment.as_ref() == Some(&mine);
            if built_for_this && goes_on.as_ref() != Some(found) {
                let action = Action::DropAggregate { relation: found.clone() };
                let change = format!("continuous aggregate {found}: dropped, what is left of a rebuild");
                draft.steps.push(step(claim, action, change));
            }
        }
    }
}

/// The name of the aggregate that is built to take the place of this one: another one for every query.
fn replacement(relation: &Relation, definition: &Definition) -> Relation {
    generated(REBUILDING, relation, definition)
}

fn generated(prefix: &str, relation: &Relation, definition: &Definition) -> Relation {
    let digest = Sha256::digest(format!("{relation:?} {}", definition.wanted));
    Relation { schema: relation.schema.clone(), name: SqlName::generated(prefix, &digest) }
}
