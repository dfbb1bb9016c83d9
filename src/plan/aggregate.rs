//! The diff of a continuous aggregate and its refresh policy.

use crate::{
    api::{status::Reason, types::Interval},
    catalog::{Aggregate, Answer, Definition, Job, Policy, PolicyKind, Question},
    desired::{AggregateTarget, Claim, Intent, JobTarget, Target},
};

use super::{
    Draft, Planner, Verdict, interlocks, step,
    step::{Action, Hazard},
};

impl Planner<'_> {
    pub(super) fn aggregate(&mut self, claim: &Claim, target: &AggregateTarget) -> Draft {
        let live = self.catalog.aggregates.get(&target.relation).cloned();
        let question = Question::Definition {
            aggregate: target.relation.clone(),
            query: target.query.clone(),
            fingerprint: live.as_ref().map(|a| a.fingerprint.clone()),
        };
        let definition = match self.ask(question) {
            Some(Answer::Definition(Ok(definition))) => definition,
            Some(Answer::Definition(Err(error))) => {
                return Draft::rejected(error.reason, format!("spec.query: {}", error.message));
            }
            // Not known yet: the plan has a question.
            None | Some(_) => return Draft::default(),
        };
        match live {
            Some(live) => self.alter_aggregate(claim, target, &live, &definition),
            None => self.create_aggregate(claim, target, &definition),
        }
    }

    fn create_aggregate(&mut self, claim: &Claim, target: &AggregateTarget, definition: &Definition) -> Draft {
        let relation = &target.relation;
        if self.catalog.hypertables.contains_key(relation) {
            return Draft::rejected(
                Reason::InvalidSpec,
                format!("{relation} is a hypertable; give the aggregate another name"),
            );
        }
        if let Some(source) =
            definition.sources.iter().find(|source| self.is_claimed(source) && self.policy_host(source).is_none())
        {
            return Draft::blocked(Verdict::WaitingOn(format!("{source} is not a hypertable yet")));
        }
        let mut draft = Draft::default();
        let action = Action::CreateAggregate {
            relation: relation.clone(),
            query: target.query.clone(),
            materialized_only: target.materialized_only,
        };
        let mut create =
            step(claim, action, format!("continuous aggregate {relation}: created, its refresh policy fills it"));
        create.after = definition.sources.iter().flat_map(|source| self.after(source)).collect();
        draft.steps.push(create);
        if let Some(job) = &target.refresh {
            let mut after = self.after(relation);
            for source in &definition.sources {
                let (Some(host), Policy::Refresh { start_offset, .. }) = (self.policy_host(source), &job.policy) else {
                    continue;
                };
                after.extend(self.after_retention(host, *start_offset));
                let retention = self.retention_in_force(host);
                let message = retention.and_then(|r| interlocks::unsafe_refresh(&source.to_string(), r, *start_offset));
                match message {
                    // A policy that is paused refreshes nothing.
                    Some(message) if job.paused => draft.warnings.push(message),
                    Some(message) => {
                        draft.block(Reason::UnsafePolicy, message);
                        return draft;
                    }
                    None => {}
                }
            }
            let action = Action::AddPolicy {
                relation: relation.clone(),
                policy: job.policy.clone(),
                job: super::policy::new_job(job),
            };
            let change = format!("refresh policy of {relation}: added, {}", job.policy);
            draft.steps.push(super::Step { after, ..step(claim, action, change) });
        }
        draft
    }

    fn alter_aggregate(
        &mut self,
        claim: &Claim,
        target: &AggregateTarget,
        live: &Aggregate,
        definition: &Definition,
    ) -> Draft {
        let relation = &target.relation;
        let mut draft = Draft::default();
        match &definition.live {
            Some(found) if *found == definition.wanted => {}
            found => draft.block(
                Reason::QueryChanged,
                format!(
                    "TimescaleDB cannot change the query of {relation} in place; put spec.query back, or give the new query another name. Live (-) and wanted (+):\n{}",
                    difference(found.as_deref().unwrap_or(""), &definition.wanted)
                ),
            ),
        }
        if let Some(wanted) = target.materialized_only
            && wanted != live.materialized_only
        {
            let words = |only| {
                if only { "only what is materialised" } else { "real time" }
            };
            let action = Action::SetMaterializedOnly { relation: relation.clone(), materialized_only: wanted };
            let change = format!("{relation}: {} -> {}", words(live.materialized_only), words(wanted));
            draft.steps.push(step(claim, action, change));
        }
        if let Some(job) = &target.refresh {
            match self.unsafe_window(live, job) {
                Some(message) if !job.paused => draft.block(Reason::UnsafePolicy, message),
                message => {
                    // A policy that is paused refreshes nothing; that it can be paused is what matters most.
                    draft.warnings.extend(message);
                    self.refresh(claim, target, live, job, &mut draft);
                }
            }
        }
        draft
    }

    /// Adds the steps of the refresh policy, behind those it depends on, and asks for approval where it would erase history.
    fn refresh(
        &mut self,
        claim: &Claim,
        target: &AggregateTarget,
        live: &Aggregate,
        job: &JobTarget,
        draft: &mut Draft,
    ) {
        let before = draft.steps.len();
        self.job(claim, &target.relation, live.hypertable_id, job, draft);
        let (false, Policy::Refresh { start_offset, .. }) = (job.paused || draft.steps.len() == before, &job.policy)
        else {
            return;
        };
        let after = self.after_retention(live.source_id, *start_offset);
        draft.steps[before..].iter_mut().for_each(|step| step.after.extend(after.iter().cloned()));
        let in_force = match self.catalog.job(PolicyKind::Refresh, live.hypertable_id) {
            Some(Job { scheduled: true, policy: Policy::Refresh { start_offset, .. }, .. }) => Some(*start_offset),
            _ => None,
        };
        let reaches_further = match (in_force, start_offset) {
            (Some(None), _) => false,
            (None, _) | (Some(Some(_)), None) => true,
            (Some(Some(found)), Some(wanted)) => *wanted > found,
        };
        if !reaches_further {
            return;
        }
        let question = Question::History { aggregate: target.relation.clone(), start_offset: *start_offset };
        let loss = match self.ask(question) {
            Some(Answer::History(Ok(Some(loss)))) => loss,
            Some(Answer::History(Err(error))) => {
                draft.steps.truncate(before);
                draft.block(error.reason, error.message);
                return;
            }
            // Nothing is lost, or not known yet: then the plan has a question.
            None | Some(_) => return,
        };
        // Where the rows begin moves while a retention policy drops them; where the history begins does not.
        draft.needs_approval.push(format!("history from {}", loss.from));
        if let Some(step) = draft.steps.last_mut() {
            step.hazards.push(Hazard::ErasesHistory(target.relation.clone(), loss));
        }
    }

    /// Why the refresh policy must not be set to this, given the aggregate's bucket and the retention of its source.
    fn unsafe_window(&self, live: &Aggregate, job: &JobTarget) -> Option<String> {
        let Policy::Refresh { start_offset, end_offset } = &job.policy else {
            return None;
        };
        if let Some(message) =
            live.bucket.and_then(|bucket| interlocks::window_too_small(*start_offset, *end_offset, bucket))
        {
            return Some(message);
        }
        let retention = self.retention_in_force(live.source_id)?;
        let source = self
            .catalog
            .hypertable_by_id(live.source_id)
            .map_or_else(|| "its source".to_owned(), |(r, _)| r.to_string());
        interlocks::unsafe_refresh(&source, retention, *start_offset)
    }

    fn is_claimed(&self, relation: &crate::api::types::Relation) -> bool {
        self.inputs.desired.claims.iter().any(|claim| match &claim.intent {
            Intent::Ensure(Target::Hypertable(target)) => target.relation == *relation,
            Intent::Ensure(Target::Aggregate(target)) => target.relation == *relation,
            _ => false,
        })
    }

    /// The age from which a live compression job compresses chunks.
    pub(super) fn compress_after(&self, host: i32) -> Option<Interval> {
        match &self.catalog.job(PolicyKind::Compression, host)?.policy {
            Policy::Compression { compress_after } => *compress_after,
            _ => None,
        }
    }
}

/// The lines of two texts that differ, without what they have in common before and behind.
fn difference(live: &str, wanted: &str) -> String {
    let (live, wanted): (Vec<_>, Vec<_>) = (live.lines().collect(), wanted.lines().collect());
    let before = live.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
    let (live, wanted) = (&live[before..], &wanted[before..]);
    let behind = live.iter().rev().zip(wanted.iter().rev()).take_while(|(a, b)| a == b).count();
    let marked = |lines: &[&str], mark: &str| {
        lines[..lines.len() - behind].iter().map(|l| format!("{mark} {}", l.trim())).collect::<Vec<_>>()
    };
    [marked(live, "-"), marked(wanted, "+")].concat().join("\n")
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_shows_the_lines_that_changed_and_no_others() {
        assert_eq!(difference("a\nb\nc", "a\nx\ny\nc"), "- b\n+ x\n+ y");
        assert_eq!(difference("a", "a"), "");
        assert_eq!(difference("", "a"), "+ a");
        assert_eq!(difference("a\na", "a"), "- a");
    }
}
