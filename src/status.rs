//! What became of a claim → what its resource says. Pure: the clock is an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        APPROVE_ANNOTATION,
        status::{ConditionType, PendingPlan, Reason, Standing, condition},
    },
    desired::ResourceId,
    error::Failure,
    plan::step::{HeldPlan, Verdict},
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
        Self {
            reason,
            message: message.into(),
            plan: None,
        }
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
        (Verdict::Rejected(rejection), _) => {
            Summary::new(rejection.reason, rejection.message.clone())
        }
        (_, Some(failure)) => Summary::new(failure.reason, failure.message.clone()),
        (Verdict::InSync, None) => Summary::new(Reason::InSync, in_sync_message(warnings)),
        (Verdict::Pending, None) => Summary::new(
            Reason::Retrying,
            "steps are left; they are carried out in the next pass",
        ),
        (Verdict::InProgress(what), None) => {
            Summary::new(Reason::InProgress, format!("running: {what}"))
        }
        (Verdict::WaitingOn(what), None) => Summary::new(Reason::TargetNotReady, what.clone()),
        (Verdict::Drifted(held), None) => {
            let message = format!(
                "the database differs and mode is Observe: {}",
                held.changes.join("; ")
            );
            Summary {
                plan: Some(pending_plan(held, false)),
                ..Summary::new(Reason::DriftObserved, message)
            }
        }
        (Verdict::NeedsApproval(held), None) => {
            let stale = held
                .stale_approval
                .as_ref()
                .map_or_else(String::new, |digest| {
                    format!(
                        " The approval that was given ({}) is for another plan.",
                        digest.0
                    )
                });
            let message = format!(
                "{}; this {}.{stale} To approve exactly this plan: kubectl annotate -n {namespace} {} {} {APPROVE_ANNOTATION}={} --overwrite",
                held.changes.join("; "),
                held.hazards.join("; "),
                id.kind.as_str().to_lowercase(),
                id.name,
                held.digest.0
            );
            Summary {
                plan: Some(pending_plan(held, true)),
                ..Summary::new(Reason::ApprovalRequired, message)
            }
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
    let mut statements: Vec<_> = held
        .statements
        .iter()
        .take(MAX_STATEMENTS)
        .cloned()
        .collect();
    if held.statements.len() > MAX_STATEMENTS {
        statements.push(format!(
            "-- and {} more",
            held.statements.len() - MAX_STATEMENTS
        ));
    }
    PendingPlan {
        digest: approvable.then(|| held.digest.0.clone()),
        hazards: held.hazards.clone(),
        statements,
    }
}

/// The conditions for a summary. `lastTransitionTime` moves only with `status`; `Reconciling`, `Stalled` and `Drifted`
/// are there only while they are true (kstatus).
pub fn conditions(
    previous: &[Condition],
    summary: &Summary,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let Summary {
        reason,
        message,
        plan: _,
    } = summary;
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
        let since = condition(previous, type_)
            .filter(|c| c.status == status)
            .map(|c| c.last_transition_time.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn types(conditions: &[Condition]) -> Vec<(&str, &str)> {
        conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str()))
            .collect()
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
        assert_eq!(
            types(&of(Reason::InProgress)),
            [("Ready", "False"), ("Reconciling", "True")]
        );
        assert_eq!(
            types(&of(Reason::InvalidSpec)),
            [("Ready", "False"), ("Stalled", "True")]
        );
        assert_eq!(
            types(&of(Reason::DriftObserved)),
            [("Ready", "False"), ("Stalled", "True"), ("Drifted", "True")]
        );
    }

    #[test]
    fn every_reason_is_a_valid_condition_reason() {
        for reason in Reason::ALL {
            let text = reason.as_str();
            assert!(
                text.chars().all(|c| c.is_ascii_alphanumeric())
                    && text.starts_with(|c: char| c.is_ascii_uppercase()),
                "{text}"
            );
            assert!(!reason.description().is_empty());
        }
    }
}
