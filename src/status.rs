//! What became of a claim → what its resource says. Pure: the clock is an argument.

use std::{collections::BTreeMap, fmt::Debug};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::{
        APPROVE_ANNOTATION, CompressionPolicy, ContinuousAggregate, Hypertable, RetentionPolicy,
        compression_policy::CompressionPolicyStatus,
        continuous_aggregate::ContinuousAggregateStatus,
        hypertable::HypertableStatus,
        retention_policy::RetentionPolicyStatus,
        status::{ConditionType, PendingPlan, Reason, Standing, TargetStatus, condition},
        types::Relation,
    },
    catalog::{Catalog, PolicyKind, Statistics},
    desired::{Kind, ResourceId, aggregate_needs_release, policy_needs_release},
    error::Failure,
    plan::step::{HeldPlan, Verdict, bytes_text},
};

/// Statements shown in a status; a plan with more says how many are left out.
const MAX_STATEMENTS: usize = 20;
/// Longest message of a condition, in characters.
const MAX_MESSAGE: usize = 4096;

/// What a resource is to say: the part of a status that every kind has.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Why.
    pub reason: Reason,
    /// The object, the value found, the value wanted, and what to do.
    pub message: String,
    /// What would be done and is not.
    pub plan: Option<PendingPlan>,
}

impl Summary {
    /// A summary without a plan.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), plan: None }
    }
}

/// What a claim's verdict means for the resource in this namespace. A step of the claim that failed outweighs a verdict
/// that only says there is work left. `None`: the resource is released and says nothing any more.
pub fn summarize(
    namespace: &str,
    id: &ResourceId,
    verdict: &Verdict,
    failure: Option<&Failure>,
    warnings: &[String],
) -> Option<Summary> {
    let summary = match (verdict, failure) {
        (Verdict::Released, None) => return None,
        (Verdict::Rejected(rejection), _) => Summary::new(rejection.reason, rejection.message.clone()),
        (_, Some(failure)) => Summary::new(failure.reason, failure.message.clone()),
        (Verdict::InSync, None) => Summary::new(Reason::InSync, in_sync_message(warnings)),
        (Verdict::Pending, None) => {
            Summary::new(Reason::Retrying, "steps are left; they are carried out in the next pass")
        }
        (Verdict::InProgress(what), None) => Summary::new(Reason::InProgress, format!("running: {what}")),
        (Verdict::WaitingOn(what), None) => Summary::new(Reason::TargetNotReady, what.clone()),
        (Verdict::Drifted(held), None) => {
            let message = format!("the database differs and mode is Observe: {}", held.changes.join("; "));
            Summary { plan: Some(pending_plan(held, false)), ..Summary::new(Reason::DriftObserved, message) }
        }
        (Verdict::NeedsApproval(held), None) => {
            let stale = held.stale_approval.as_ref().map_or_else(String::new, |digest| {
                format!(" The approval that was given ({}) is for another plan.", digest.0)
            });
            let message = format!(
                "{}; this {}.{stale} To approve exactly this plan: kubectl annotate -n {namespace} {} {} {APPROVE_ANNOTATION}={} --overwrite",
                held.changes.join("; "),
                held.hazards.join("; "),
                id.kind.as_str().to_lowercase(),
                id.name,
                held.digest.0
            );
            Summary { plan: Some(pending_plan(held, true)), ..Summary::new(Reason::ApprovalRequired, message) }
        }
    };
    Some(summary)
}

fn in_sync_message(warnings: &[String]) -> String {
    let mut message = "the live catalog says what the resource says".to_owned();
    for warning in warnings {
        message.push_str(". Warning: ");
        message.push_str(warning);
    }
    message
}

fn pending_plan(held: &HeldPlan, approvable: bool) -> PendingPlan {
    let mut statements: Vec<_> = held.statements.iter().take(MAX_STATEMENTS).cloned().collect();
    if held.statements.len() > MAX_STATEMENTS {
        statements.push(format!("-- and {} more", held.statements.len() - MAX_STATEMENTS));
    }
    PendingPlan { digest: approvable.then(|| held.digest.0.clone()), hazards: held.hazards.clone(), statements }
}

/// The conditions for a summary. `lastTransitionTime` moves only with `status`; `Reconciling`, `Stalled` and `Drifted`
/// are there only while they are true (kstatus).
pub fn conditions(
    previous: &[Condition],
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let Summary { reason, message, plan: _ } = summary;
    let message = shorten(message);
    let (ready, also) = match reason.standing() {
        Standing::Current => (true, None),
        Standing::InProgress => (false, Some(ConditionType::Reconciling)),
        Standing::Failed => (false, Some(ConditionType::Stalled)),
    };
    let drifted = (*reason == Reason::DriftObserved).then_some(ConditionType::Drifted);
    let mut all = vec![(ConditionType::Ready, ready)];
    all.extend(also.into_iter().chain(drifted).map(|type_| (type_, true)));
    let build = |(type_, value): (ConditionType, bool)| {
        let status = if value { "True" } else { "False" };
        let since = condition(previous, type_).filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
        Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.clone(),
            observed_generation: generation,
            last_transition_time: since.unwrap_or(Time(now)),
        }
    };
    all.into_iter().map(build).collect()
}

/// The first characters of a text that is too long for a condition or an event.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What was seen of the database, for the plain facts in a status. What is `None` was not seen in this pass: the facts of
/// the previous status stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed<'a> {
    /// The catalog that the summary is about.
    pub catalog: Option<&'a Catalog>,
    /// Sizes, as last read.
    pub statistics: Option<&'a BTreeMap<Relation, Statistics>>,
    /// What a policy's `targetRef` was resolved to.
    pub target: Option<&'a TargetStatus>,
}

impl Observed<'_> {
    fn job_id(&self, kind: PolicyKind, relation: Option<&Relation>, previous: Option<i32>) -> Option<i32> {
        let (Some(catalog), Some(relation)) = (self.catalog, relation) else { return previous };
        let hypertable = catalog.hypertables.get(relation).map(|h| h.id);
        let host = hypertable.or_else(|| catalog.aggregates.get(relation).map(|a| a.hypertable_id))?;
        catalog.job(kind, host).map(|job| job.id)
    }

    fn target_relation(&self) -> Option<Relation> {
        let target = self.target?;
        relation(&target.schema, &target.table)
    }
}

fn relation(schema: &str, name: &str) -> Option<Relation> {
    Some(Relation { schema: schema.parse().ok()?, name: name.parse().ok()? })
}

/// A kind whose status this operator writes.
pub trait Reported:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The kind.
    const KIND: Kind;
    /// Its status.
    type Status: PartialEq + Serialize + Send + Sync;

    /// The status as stored.
    fn current(&self) -> Option<&Self::Status>;
    /// The conditions of a status, and the generation it is about.
    fn parts(status: &Self::Status) -> (&[Condition], Option<i64>);
    /// The status that says this.
    fn status(&self, conditions: Vec<Condition>, plan: Option<PendingPlan>, observed: &Observed<'_>) -> Self::Status;
    /// Whether its deletion undoes something in the database.
    fn needs_release(&self) -> bool;
}

impl Reported for Hypertable {
    const KIND: Kind = Kind::Hypertable;
    type Status = HypertableStatus;

    fn current(&self) -> Option<&HypertableStatus> {
        self.status.as_ref()
    }

    fn parts(status: &HypertableStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn status(
        &self,
        conditions: Vec<Condition>,
        plan: Option<PendingPlan>,
        observed: &Observed<'_>,
    ) -> HypertableStatus {
        let base = HypertableStatus {
            observed_generation: self.metadata.generation,
            conditions,
            plan,
            ..HypertableStatus::default()
        };
        let Some(statistics) = observed.statistics else {
            let previous = self.status.clone().unwrap_or_default();
            let HypertableStatus { chunks, size, compressed, compression_ratio, .. } = previous;
            return HypertableStatus { chunks, size, compressed, compression_ratio, ..base };
        };
        let found = relation(&self.spec.schema, &self.spec.table).and_then(|relation| statistics.get(&relation));
        let Some(Statistics { chunks, compressed_chunks, bytes, before_compression_bytes, after_compression_bytes }) =
            found
        else {
            return base;
        };
        HypertableStatus {
            chunks: Some(*chunks),
            size: Some(bytes_text(*bytes)),
            compressed: (*chunks > 0).then(|| format!("{}%", compressed_chunks * 100 / chunks)),
            compression_ratio: ratio_text(*before_compression_bytes, *after_compression_bytes),
            ..base
        }
    }

    fn needs_release(&self) -> bool {
        false
    }
}

fn ratio_text(before: i64, after: i64) -> Option<String> {
    #[allow(clippy::cast_precision_loss, reason = "one decimal is printed")]
    (after > 0).then(|| format!("{:.1}", before as f64 / after as f64))
}

impl Reported for ContinuousAggregate {
    const KIND: Kind = Kind::ContinuousAggregate;
    type Status = ContinuousAggregateStatus;

    fn current(&self) -> Option<&ContinuousAggregateStatus> {
        self.status.as_ref()
    }

    fn parts(status: &ContinuousAggregateStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn status(
        &self,
        conditions: Vec<Condition>,
        plan: Option<PendingPlan>,
        observed: &Observed<'_>,
    ) -> ContinuousAggregateStatus {
        let view = relation(&self.spec.schema, &self.spec.name);
        let previous = self.status.as_ref().and_then(|s| s.job_id);
        let job_id = observed.job_id(PolicyKind::Refresh, view.as_ref(), previous);
        ContinuousAggregateStatus { observed_generation: self.metadata.generation, conditions, plan, job_id }
    }

    fn needs_release(&self) -> bool {
        aggregate_needs_release(self.spec.deletion_policy)
    }
}

macro_rules! reported_policy {
    ($resource:ident, $status:ident, $kind:ident) => {
        impl Reported for $resource {
            const KIND: Kind = Kind::$resource;
            type Status = $status;

            fn current(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn parts(status: &$status) -> (&[Condition], Option<i64>) {
                (&status.conditions, status.observed_generation)
            }

            fn status(
                &self,
                conditions: Vec<Condition>,
                plan: Option<PendingPlan>,
                observed: &Observed<'_>,
            ) -> $status {
                let previous = self.status.as_ref();
                let job_id = observed.job_id(
                    PolicyKind::$kind,
                    observed.target_relation().as_ref(),
                    previous.and_then(|s| s.job_id),
                );
                let target = observed.target.cloned().or_else(|| previous.and_then(|s| s.target.clone()));
                $status { observed_generation: self.metadata.generation, conditions, plan, target, job_id }
            }

            fn needs_release(&self) -> bool {
                policy_needs_release(self.spec.deletion_policy)
            }
        }
    };
}

reported_policy!(CompressionPolicy, CompressionPolicyStatus, Compression);
reported_policy!(RetentionPolicy, RetentionPolicyStatus, Retention);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn types(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect()
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = conditions(&[], &Summary::new(Reason::LockTimeout, "a"), Some(1), at(1));
        let second = conditions(&first, &Summary::new(Reason::Retrying, "b"), Some(2), at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = conditions(&second, &Summary::new(Reason::InSync, "c"), Some(2), at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn reconciling_and_stalled_are_there_only_while_they_are_true() {
        let of = |reason| conditions(&[], &Summary::new(reason, ""), None, at(0));
        assert_eq!(types(&of(Reason::InSync)), [("Ready", "True")]);
        assert_eq!(types(&of(Reason::InProgress)), [("Ready", "False"), ("Reconciling", "True")]);
        assert_eq!(types(&of(Reason::InvalidSpec)), [("Ready", "False"), ("Stalled", "True")]);
        assert_eq!(types(&of(Reason::DriftObserved)), [("Ready", "False"), ("Stalled", "True"), ("Drifted", "True")]);
    }

    #[test]
    fn every_reason_is_a_valid_condition_reason() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(
                text.chars().all(|c| c.is_ascii_alphanumeric()) && text.starts_with(|c: char| c.is_ascii_uppercase()),
                "{text}"
            );
            assert!(!reason.description().is_empty());
        }
    }
}
