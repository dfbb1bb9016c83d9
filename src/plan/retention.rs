//! The diff of a retention policy, and the guard around it.

use jiff::Timestamp;

use crate::{
    api::{
        status::Reason,
        types::{Interval, Relation},
    },
    catalog::{Answer, PolicyKind, Question},
    desired::{Claim, RetentionTarget},
};

use super::{
    Draft, Planner, Verdict, interlocks, not_by_time,
    step::{Action, Hazard},
};

impl Planner<'_> {
    pub(super) fn retention(&mut self, claim: &Claim, target: &RetentionTarget) -> Draft {
        let relation = &target.relation;
        let Some(live) = self.catalog.hypertables.get(relation).cloned() else {
            return Draft::blocked(Verdict::WaitingOn(format!(
                "{}: {relation} is not a hypertable yet",
                target.target
            )));
        };
        if let Some(refusal) = not_by_time(relation, &live, "dropAfter") {
            return refusal;
        }
        let windows = self.refresh_windows(live.id);
        let mut draft = Draft::default();
        match interlocks::unsafe_retention(relation, target.drop_after, &windows) {
            // A policy that is paused drops nothing; that it can be paused is what matters most.
            Some(message) if target.job.paused => draft.warnings.push(message),
            Some(message) => return Draft::rejected(Reason::UnsafePolicy, message),
            None => {}
        }
        draft.warnings.extend(interlocks::retention_warnings(
            target.drop_after,
            &live,
            &windows,
            self.compress_after(live.id),
        ));
        self.job(claim, relation, live.id, &target.job, &mut draft);
        let observed = super::refresh_windows(self.inputs.catalog, live.id);
        if !target.job.paused && interlocks::unsafe_retention(relation, target.drop_after, &observed).is_some() {
            let over = |aggregate: &Relation| {
                self.inputs.catalog.aggregates.get(aggregate).is_some_and(|a| a.source_id == live.id)
            };
            let after = self.after_room(|action| match action {
                Action::AlterPolicy { relation, kind: PolicyKind::Refresh, .. }
                | Action::DropAggregate { relation } => over(relation),
                _ => false,
            });
            let after: Vec<_> = after.collect();
            draft.steps.iter_mut().for_each(|step| step.after.extend(after.iter().cloned()));
        }
        if draft.steps.is_empty() || target.job.paused {
            return draft;
        }
        // More is dropped than before when nothing was, or when the age falls.
        let in_force = self.retention_in_force(live.id);
        if in_force.is_some_and(|found| found <= target.drop_after) {
            return draft;
        }
        if self.creators.contains_key(relation) {
            // The rows are still in a plain table: what they would lose is asked once they are in chunks.
            let message =
                format!("{relation} becomes a hypertable first, so that what the policy would drop can be counted");
            return Draft::blocked(Verdict::WaitingOn(message));
        }
        let question = Question::Drops { relation: relation.clone(), older_than: target.drop_after };
        let drops = match self.ask(question) {
            Some(Answer::Drops(Ok(drops))) => drops,
            Some(Answer::Drops(Err(error))) => return Draft::rejected(error.reason, error.message),
            // Not known yet: the plan has a question.
            None | Some(_) => return Draft::default(),
        };
        if drops.percent() > f64::from(self.inputs.rules.max_immediate_drop_percent) {
            // The newest chunk moves with the clock. The oldest does so only where a policy in force goes on dropping;
            // elsewhere it moves when rows were filled in that the approval did not know of.
            needs_approval(&mut draft, in_force, drops.oldest);
        }
        if drops.chunks > 0
            && let Some(step) = draft.steps.last_mut()
        {
            step.hazards.push(Hazard::DeletesData(drops));
        }
        draft
    }
}

/// The fact that an approval depends on besides the statements.
fn needs_approval(draft: &mut Draft, in_force: Option<Interval>, oldest: Option<Timestamp>) {
    draft.needs_approval.push(match in_force {
        Some(found) => format!("in force: {found}"),
        None => format!("nothing in force; oldest: {oldest:?}"),
    });
}
