//! The diff of a continuous aggregate and its refresh policy.

use std::cmp::Ordering;

use crate::{
    api::{
        continuous_aggregate::QueryChange,
        status::Reason,
        types::{Relation, Span},
    },
    catalog::{Age, Aggregate, Answer, Definition, Hypertable, Job, Policy, PolicyKind, Question},
    desired::{AggregateTarget, Claim, Intent, JobTarget, Rejection, Target},
};

use super::{
    Draft, Planner, Step, Verdict,
    drop_guard::Guarded,
    hypertable::chunk_interval,
    index::Indexes,
    interlocks, no_clock, policy, step,
    step::{Action, Hazard},
    wrong_measure,
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
                if let Some(source) =
                    self.source_to_come(claim, target).filter(|_| error.reason == Reason::TableNotFound)
                {
                    return Draft::blocked(Verdict::WaitingOn(format!("{source} is not a continuous aggregate yet")));
                }
                return Draft::rejected(error.reason, format!("spec.query: {}", error.message));
            }
            // Not known yet: the plan has a question.
            None | Some(_) => return Draft::default(),
        };
        if !definition.volatile.is_empty() {
            let functions = definition.volatile.join(", ");
            let message = format!(
                "spec.query calls {functions}, which gives another result every time (VOLATILE): what is materialised once would never be what the query says; leave it out"
            );
            return Draft::rejected(Reason::InvalidSpec, message);
        }
        match live {
            Some(live) => self.alter_aggregate(claim, target, &live, &definition),
            None => self.create_aggregate(claim, target, &definition),
        }
    }

    /// Another aggregate that is wanted, is not there yet, and is named in the query.
    fn source_to_come(&self, claim: &Claim, target: &AggregateTarget) -> Option<Relation> {
        self.inputs.desired.claims.iter().filter(|other| other.id != claim.id).find_map(|other| match &other.intent {
            Intent::Ensure(Target::Aggregate(source)) => {
                let missing = !self.catalog.aggregates.contains_key(&source.relation);
                let named = target.query.contains(source.relation.name.as_str());
                (missing && named).then(|| source.relation.clone())
            }
            _ => None,
        })
    }

    fn create_aggregate(&mut self, claim: &Claim, target: &AggregateTarget, definition: &Definition) -> Draft {
        let relation = &target.relation;
        if self.catalog.hypertables.contains_key(relation) {
            return Draft::rejected(
                Reason::InvalidSpec,
                format!("{relation} is a hypertable; give the aggregate another name"),
            );
        }
        let hosts = match self.hosts(definition) {
            Ok(hosts) => hosts,
            Err(verdict) => return Draft::blocked(verdict),
        };
        let mut draft = Draft::default();
        let action = Action::CreateAggregate {
            relation: relation.clone(),
            query: target.query.clone(),
            materialized_only: target.materialized_only,
            create_group_indexes: target.create_group_indexes,
            comment: None,
        };
        let mut create =
            step(claim, action, format!("continuous aggregate {relation}: created, its refresh policy fills it"));
        create.after = definition.sources.iter().flat_map(|source| self.after(source)).collect();
        draft.steps.push(create);
        if let Some(wanted) = target.chunk_interval {
            if let Some(refusal) = hosts.iter().find_map(|(s, host)| wrong_measure(s, host, "chunkInterval", wanted)) {
                return Draft::blocked(Verdict::Rejected(refusal));
            }
            chunk_interval(claim, relation, &Hypertable::default(), wanted, &mut draft);
        }
        if let Some(job) = &target.refresh {
            if let Some(refusal) = self.missing_option(job) {
                return refusal;
            }
            let mut after = self.after(relation);
            for (source, host) in &hosts {
                let Policy::Refresh { start_offset, end_offset, .. } = &job.policy else { continue };
                if let Some(refusal) = unfit_window(source, host, *start_offset, *end_offset) {
                    return Draft::blocked(Verdict::Rejected(refusal));
                }
                after.extend(self.after_retention(host.id, *start_offset));
                let retention = self.retention_in_force(host.id);
                let chunk = host.chunk_interval();
                let message =
                    retention.and_then(|r| interlocks::unsafe_refresh(&source.to_string(), r, chunk, *start_offset));
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
            draft.steps.push(Step {
                after,
                ..policy::added(claim, relation, job, hosts.first().and_then(|(_, host)| host.time()))
            });
        }
        draft
    }

    /// The hypertables, or those behind aggregates, that the query reads; or why an aggregate cannot read them.
    pub(super) fn hosts(&self, definition: &Definition) -> Result<Vec<(Relation, Hypertable)>, Verdict> {
        let sources = &definition.sources;
        if let Some(source) = sources.iter().find(|s| self.catalog.host(s).is_none() && self.is_claimed(s)) {
            return Err(Verdict::WaitingOn(format!("{source} is not a hypertable yet")));
        }
        let hosts: Vec<_> = sources.iter().filter_map(|s| Some((s.clone(), self.catalog.host(s)?.clone()))).collect();
        if hosts.is_empty() {
            let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
            let message = format!(
                "spec.query reads {}, and TimescaleDB materialises only what reads a hypertable or a continuous aggregate; describe its table with a Hypertable",
                if sources.is_empty() { "no table".to_owned() } else { sources.join(", ") }
            );
            return Err(Verdict::Rejected(Rejection::new(Reason::InvalidSpec, message)));
        }
        match hosts.iter().find_map(|(source, host)| no_clock(source, host).filter(|_| !self.is_aggregate(source))) {
            Some(refusal) => Err(Verdict::Rejected(refusal)),
            None => Ok(hosts),
        }
    }

    fn is_aggregate(&self, relation: &Relation) -> bool {
        self.catalog.aggregates.contains_key(relation)
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
        let same = definition.live.as_ref() == Some(&definition.wanted);
        let difference = || difference(definition.live.as_deref().unwrap_or(""), &definition.wanted);
        self.drop_left_over(claim, relation, (!same).then_some(definition), &mut draft);
        match target.on_query_change {
            _ if same => {}
            QueryChange::Refuse => draft.block(
                Reason::QueryChanged,
                format!(
                    "TimescaleDB cannot change the query of {relation} in place; put spec.query back, give the new query another name, or set spec.onQueryChange: Rebuild. Live (-) and wanted (+):\n{}",
                    difference()
                ),
            ),
            QueryChange::Rebuild => {
                self.rebuild(claim, target, live, definition, &difference(), &mut draft);
                if draft.blocked.is_none() {
                    return draft;
                }
            }
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
        if let Some(wanted) = target.chunk_interval {
            match self.unfit_chunk_interval(relation, &live.hypertable, wanted) {
                Some(refusal) => draft.block(refusal.reason, refusal.message),
                None => chunk_interval(claim, relation, &live.hypertable, wanted, &mut draft),
            }
        }
        if let Some(materialization) = &live.materialization {
            let (wanted, found) = (&target.indexes, &live.hypertable.indexes);
            let schema = &materialization.schema;
            let indexes = Indexes { relation, schema, of_aggregate: true, partitioning: &[], wanted, live: found };
            self.indexes(claim, &indexes, &mut draft);
        }
        if let Some(job) = &target.refresh {
            if let Some(Draft { blocked: Some(Verdict::Rejected(refusal)), .. }) = self.missing_option(job) {
                draft.block(refusal.reason, refusal.message);
                return draft;
            }
            match self.unsafe_window(live, job) {
                Some(message) if !job.paused && !self.narrows(live, job) => draft.block(Reason::UnsafePolicy, message),
                message => {
                    // A policy that is paused refreshes nothing, and a window that narrows makes it no worse; that it can be
                    // paused and narrowed is what matters most.
                    draft.warnings.extend(message);
                    self.refresh(claim, target, live, job, &mut draft);
                }
            }
        }
        draft
    }

    /// Whether the window wanted begins later than the one in force, and could work.
    fn narrows(&self, live: &Aggregate, job: &JobTarget) -> bool {
        let Some(Job { scheduled: true, policy: Policy::Refresh { start_offset: found, .. }, .. }) =
            self.catalog.job(PolicyKind::Refresh, live.hypertable.id)
        else {
            return false;
        };
        let Policy::Refresh { start_offset: Some(wanted), end_offset, .. } = &job.policy else { return false };
        let works =
            live.bucket.is_none_or(|bucket| interlocks::window_too_small(Some(*wanted), *end_offset, bucket).is_none());
        works && found.is_none_or(|found| wanted.partial_cmp(&found) == Some(Ordering::Less))
    }

    /// Why the version at hand does not know an option of the policy.
    fn missing_option(&self, job: &JobTarget) -> Option<Draft> {
        let version = &self.catalog.server.extension.as_ref()?.version;
        let Policy::Refresh { options, .. } = &job.policy else { return None };
        let needed = [
            ("includeTieredData", options.include_tiered_data.is_some(), 18),
            ("bucketsPerBatch", options.buckets_per_batch.is_some(), 19),
            ("maxBatchesPerExecution", options.max_batches_per_execution.is_some(), 19),
            ("refreshNewestFirst", options.refresh_newest_first.is_some(), 20),
        ];
        let (field, _, minor) = needed.into_iter().find(|(_, given, minor)| *given && !version.at_least(2, *minor))?;
        let message = format!("spec.refreshPolicy.{field} needs TimescaleDB 2.{minor} or later, this is {version}");
        Some(Draft::rejected(Reason::UnsupportedVersion, message))
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
        self.job(claim, &target.relation, &live.hypertable, job, draft);
        let (false, Policy::Refresh { start_offset, .. }) = (job.paused || draft.steps.len() == before, &job.policy)
        else {
            return;
        };
        let after = self.after_retention(live.source_id, *start_offset);
        draft.steps[before..].iter_mut().for_each(|step| step.after.extend(after.iter().cloned()));
        let in_force = match self.catalog.job(PolicyKind::Refresh, live.hypertable.id) {
            Some(Job { scheduled: true, policy: Policy::Refresh { start_offset, .. }, .. }) => Some(*start_offset),
            _ => None,
        };
        let reaches_further = match (in_force, start_offset) {
            (Some(None), _) => false,
            (None, _) | (Some(Some(_)), None) => true,
            (Some(Some(found)), Some(wanted)) => wanted.partial_cmp(&found) != Some(Ordering::Less) && *wanted != found,
        };
        if !reaches_further {
            return;
        }
        let start_offset = start_offset.map(|span| span.to_string());
        let loss = match self.ask(Question::History { aggregate: target.relation.clone(), start_offset }) {
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
        draft.needs_approval.push(Guarded { fact: format!("history from {}", loss.from), limit: None });
        if let Some(step) = draft.steps.last_mut() {
            step.hazards.push(Hazard::ErasesHistory(target.relation.clone(), loss));
        }
    }

    /// Why the refresh policy must not be set to this, given the aggregate's bucket and the retention of its source.
    fn unsafe_window(&self, live: &Aggregate, job: &JobTarget) -> Option<String> {
        let Policy::Refresh { start_offset, end_offset, .. } = &job.policy else {
            return None;
        };
        if let Some(bucket) = live.bucket {
            let other = interlocks::window_of_another_measure(*start_offset, *end_offset, bucket);
            let small = || interlocks::window_too_small(*start_offset, *end_offset, bucket);
            if let Some(message) = other.or_else(small) {
                return Some(message);
            }
        }
        let retention = self.retention_in_force(live.source_id)?;
        let source = self.catalog.name_of(live.source_id);
        let chunk = source.and_then(|name| self.catalog.host(name)).and_then(Hypertable::chunk_interval);
        let source = source.map_or_else(|| "its source".to_owned(), ToString::to_string);
        interlocks::unsafe_refresh(&source, retention, chunk, *start_offset)
    }

    fn is_claimed(&self, relation: &Relation) -> bool {
        self.inputs.desired.claims.iter().any(|claim| match &claim.intent {
            Intent::Ensure(Target::Hypertable(target)) => target.relation == *relation,
            Intent::Ensure(Target::Aggregate(target)) => target.relation == *relation,
            _ => false,
        })
    }

    /// The age from which a live compression job compresses chunks.
    pub(super) fn compress_after(&self, host: i32) -> Option<Age> {
        match &self.catalog.job(PolicyKind::Compression, host)?.policy {
            Policy::Compression { after } => *after,
            _ => None,
        }
    }

    /// The refresh windows of an aggregate itself; none of a hypertable.
    pub(super) fn own_windows(&self, relation: &Relation) -> Vec<interlocks::RefreshWindow> {
        let Some(aggregate) = self.catalog.aggregates.get(relation) else { return Vec::new() };
        let jobs = self.catalog.jobs.of(aggregate.hypertable.id);
        jobs.filter_map(|job| interlocks::RefreshWindow::new(relation, &job.policy, Some(job.schedule_interval)))
            .collect()
    }
}

/// Why a refresh window does not fit the source: time and integers do not mix.
pub(super) fn unfit_window(
    source: &Relation,
    host: &Hypertable,
    start_offset: Option<Span>,
    end_offset: Option<Span>,
) -> Option<Rejection> {
    let offsets = [("refreshPolicy.startOffset", start_offset), ("refreshPolicy.endOffset", end_offset)];
    offsets.into_iter().find_map(|(field, offset)| wrong_measure(source, host, field, offset?))
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
