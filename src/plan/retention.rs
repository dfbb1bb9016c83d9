//! The diff of a retention policy, and the guard around it.

use crate::{
    api::status::Reason,
    catalog::{Answer, Question},
    desired::{Claim, RetentionTarget},
};

use super::{Draft, Planner, Verdict, interlocks, step::Hazard};

impl Planner<'_> {
    pub(super) fn retention(&mut self, claim: &Claim, target: &RetentionTarget) -> Draft {
        let relation = &target.relation;
        let Some(live) = self.catalog.hypertables.get(relation).cloned() else {
            return Draft::blocked(Verdict::WaitingOn(format!(
                "{}: {relation} is not a hypertable yet",
                target.target
            )));
        };
        let windows = self.refresh_windows(live.id);
        if let Some(message) = interlocks::unsafe_retention(relation, target.drop_after, &windows) {
            return Draft::rejected(Reason::UnsafePolicy, message);
        }
        let mut draft = Draft::default();
        draft.warnings.extend(interlocks::retention_warnings(
            target.drop_after,
            &live,
            &windows,
            self.compress_after(live.id),
        ));
        self.job(claim, relation, live.id, &target.job, &mut draft);
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
        let Some(Answer::Drops(drops)) = self.ask(question) else {
            return Draft::default();
        };
        if drops.percent() > f64::from(self.inputs.rules.max_immediate_drop_percent) {
            // The newest chunk moves with the clock; the oldest moves only when something was dropped or filled in.
            let from = in_force.map_or_else(|| "nothing".to_owned(), |found| found.to_string());
            draft.needs_approval.push(format!("in force: {from}; oldest: {:?}", drops.oldest));
        }
        if drops.chunks > 0
            && let Some(step) = draft.steps.last_mut()
        {
            step.hazards.push(Hazard::DeletesData(drops));
        }
        draft
    }
}
