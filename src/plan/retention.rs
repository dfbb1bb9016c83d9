//! The diff of a retention policy, and the guard around it.

use crate::{
    api::{status::Reason, types::Relation},
    catalog::{Age, Answer, Policy, PolicyKind, Question},
    desired::{Claim, RetentionTarget},
};

use super::{
    Draft, Planner, Verdict,
    compression::not_there,
    drop_guard::{drop_guard, drops_more},
    interlocks::{self, InForce},
    step::{Action, Hazard, NewPolicy},
};

impl Planner<'_> {
    pub(super) fn retention(&mut self, claim: &Claim, target: &RetentionTarget) -> Draft {
        let (relation, after) = (&target.on.relation, target.after);
        let Some(live) = self.catalog.host(relation).cloned() else {
            return Draft::blocked(Verdict::WaitingOn(not_there(&target.on)));
        };
        if let Some(refusal) = self.unfit_age(relation, &live, "dropAfter", after) {
            return Draft::blocked(Verdict::Rejected(refusal));
        }
        let version = self.catalog.server.extension.as_ref().map(|e| &e.version);
        if let (Age::CreatedBefore(_), Some(version)) = (after, version.filter(|v| !v.at_least_patch(2, 26, 3))) {
            // timescaledb#9446: every run fails with "could not find drop_after".
            let message = format!(
                "spec.dropCreatedBefore: its job fails in every run before TimescaleDB 2.26.3, this is {version}; use dropAfter"
            );
            return Draft::rejected(Reason::UnsupportedVersion, message);
        }
        let (chunk, windows) = (live.chunk_interval(), interlocks::refresh_windows(&self.catalog, live.id));
        let in_force = self.retention_in_force(live.id).and_then(InForce::age);
        let mut draft = Draft::default();
        match interlocks::unsafe_retention(relation, after, chunk, &windows) {
            // A policy that is paused drops nothing, and one that drops less than the one in force makes it no worse; that it
            // can be paused and loosened is what matters most.
            Some(message) if target.job.paused || in_force.is_some_and(|found| found < after) => {
                draft.warnings.push(message);
            }
            Some(message) => return Draft::rejected(Reason::UnsafePolicy, message),
            None => {}
        }
        let own = self.own_windows(relation);
        let compress_after = self.compress_after(live.id);
        draft.warnings.extend(interlocks::retention_warnings(after, &live, &windows, &own, compress_after));
        self.job(claim, relation, &live, &target.job, &mut draft);
        let observed = interlocks::refresh_windows(self.inputs.catalog, live.id);
        if !target.job.paused && interlocks::unsafe_retention(relation, after, chunk, &observed).is_some() {
            let over = |aggregate: &Relation| {
                self.inputs.catalog.aggregates.get(aggregate).is_some_and(|a| a.source_id == live.id)
            };
            let steps = self.after_room(|action| match action {
                Action::AlterPolicy { relation, kind: PolicyKind::Refresh, .. }
                | Action::ReplacePolicy { relation, new: NewPolicy { policy: Policy::Refresh { .. }, .. } }
                | Action::DropAggregate { relation } => over(relation),
                Action::SwapAggregate(swap) => over(&swap.relation),
                _ => false,
            });
            let steps: Vec<_> = steps.collect();
            draft.steps.iter_mut().for_each(|step| step.after.extend(steps.iter().cloned()));
        }
        if draft.steps.is_empty() || target.job.paused {
            return draft;
        }
        let so_far = self.dropped_so_far(&live);
        if !drops_more(so_far, after) {
            return draft;
        }
        if self.creators.contains_key(relation) {
            // The rows are still in a plain table: what they would lose is asked once they are in chunks.
            let message = format!("{relation} is created first, so that what the policy would drop can be counted");
            return Draft::blocked(Verdict::WaitingOn(message));
        }
        let drops = match self.ask(Question::drops(relation, after)) {
            Some(Answer::Drops(Ok(drops))) => drops,
            Some(Answer::Drops(Err(error))) => return Draft::rejected(error.reason, error.message),
            // Not known yet: the plan has a question.
            None | Some(_) => return Draft::default(),
        };
        draft.needs_approval.extend(drop_guard(&drops, self.inputs.rules.max_immediate_drop_percent, so_far));
        if drops.chunks > 0
            && let Some(step) = draft.steps.last_mut()
        {
            step.hazards.push(Hazard::DeletesData(drops));
        }
        draft
    }
}
