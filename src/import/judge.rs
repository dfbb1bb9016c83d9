//! What the planner says of a resource that is being imported, and what is taken off one until it says nothing.
//!
//! No step is carried out of an import, so no claim can change what the planner sees of another: what it says of each alone
//! is what it says of all together.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    api::{TimescaleDatabase, status::Reason, timescale_database::Mode},
    catalog::{Answer, Answers, Attachments, Catalog, Drops, Question},
    desired::{self, Attached, Rules},
    plan::{self, step::Verdict},
};

/// What the planner says of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// There is nothing to do for it.
    InSync,
    /// The server does not let this session find out.
    Unchecked(String),
    /// Something would be done, or refused.
    Differs(String),
    /// It depends on a question that has no answer yet.
    Asked,
}

/// The planner over a database as it was observed.
pub(super) struct Judge<'a> {
    catalog: &'a Catalog,
    answers: &'a Answers,
    database: &'a TimescaleDatabase,
    rules: Rules,
    /// What has no answer yet.
    pub(super) questions: BTreeSet<Question>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(catalog: &'a Catalog, answers: &'a Answers, database: &'a TimescaleDatabase) -> Self {
        // Whether the server takes writes is no matter of the resources.
        let rules = Rules { mode: Mode::Observe, ..desired::rules(database) };
        Self { catalog, answers, database, rules, questions: BTreeSet::new() }
    }

    /// What the planner says of the one claim of these resources.
    pub(super) fn of(&mut self, attached: &Attached) -> Finding {
        let desired = desired::collect(self.database, attached);
        if let Some(rejection) = desired.rejected.values().next() {
            return Finding::Differs(rejection.message.clone());
        }
        let mut answers = Cow::Borrowed(self.answers);
        let running = BTreeMap::new();
        let plan = loop {
            let (rules, catalog) = (&self.rules, self.catalog);
            let inputs = plan::Inputs { desired: &desired, rules, catalog, answers: &answers, running: &running };
            let plan = plan::plan(inputs);
            let (texts, facts): (Vec<_>, Vec<_>) = plan.questions.iter().cloned().partition(Question::is_lasting);
            if !texts.is_empty() {
                self.questions.extend(texts);
                return Finding::Asked;
            }
            if facts.is_empty() {
                break plan;
            }
            // They are asked only where something would be done, which is all that matters here.
            answers.to_mut().extend(facts.into_iter().map(|question| {
                let answer = harmless(&question);
                (question, answer)
            }));
        };
        plan.verdicts.into_values().map(finding).find(|finding| *finding != Finding::InSync).unwrap_or(Finding::InSync)
    }
}

/// An answer that lets the planner go on to say what it would do.
fn harmless(question: &Question) -> Answer {
    match question {
        Question::Drops { .. } => Answer::Drops(Ok(Drops::default())),
        Question::History { .. } => Answer::History(Ok(None)),
        Question::Attachments(_) => Answer::Attachments(Ok(Attachments::default())),
        Question::Table(_) | Question::Definition { .. } | Question::Predicate { .. } => Answer::Table(None),
    }
}

fn finding(verdict: Verdict) -> Finding {
    match verdict {
        Verdict::InSync => Finding::InSync,
        Verdict::Rejected(rejection) if is_of_the_session(rejection.reason) => Finding::Unchecked(rejection.message),
        Verdict::Rejected(rejection) => Finding::Differs(rejection.message),
        Verdict::Drifted(held) | Verdict::NeedsApproval(held) => Finding::Differs(held.changes()),
        Verdict::WaitingOn(what) | Verdict::InProgress(what) => Finding::Differs(what),
        Verdict::Pending => Finding::Differs("something would be done".to_owned()),
        Verdict::Overridden(by) => Finding::Differs(format!("{by} goes before it")),
        Verdict::Released => Finding::Differs("it is being deleted".to_owned()),
    }
}

/// The reason says something about who asks, or about the moment, and nothing about the resource.
const fn is_of_the_session(reason: Reason) -> bool {
    matches!(reason, Reason::PermissionDenied | Reason::ReadOnly | Reason::LockTimeout | Reason::Retrying)
}

/// One part of a resource that can be left out: what it is called, and how to leave it out.
pub(super) struct Part<S> {
    pub(super) name: String,
    pub(super) without: Box<dyn Fn(&mut S)>,
}

impl<S> Part<S> {
    pub(super) fn new(name: impl Into<String>, without: impl Fn(&mut S) + 'static) -> Self {
        Self { name: name.into(), without: Box::new(without) }
    }
}

/// What is left of a resource.
pub(super) enum Settled<S> {
    /// As much of it as the planner has nothing to say of, with remarks on the rest.
    Kept(S, Vec<String>),
    /// Nothing: what the planner says of it whatever is left out.
    LeftOut(String),
}

/// Leaves out parts until the planner has nothing to do: first a single one that is enough, else the first without which
/// it says something else.
pub(super) fn settle<S: Clone>(
    mut spec: S,
    parts: impl Fn(&S) -> Vec<Part<S>>,
    mut judge: impl FnMut(&S) -> Finding,
) -> Settled<S> {
    let mut remarks = Vec::new();
    loop {
        let problem = match judge(&spec) {
            Finding::InSync | Finding::Asked => return Settled::Kept(spec, remarks),
            Finding::Unchecked(why) => {
                remarks.push(format!("not compared with the database: {why}"));
                return Settled::Kept(spec, remarks);
            }
            Finding::Differs(problem) => problem,
        };
        let mut other = None;
        let mut enough = None;
        for part in parts(&spec) {
            let mut less = spec.clone();
            (part.without)(&mut less);
            match judge(&less) {
                Finding::Differs(same) if same == problem => {}
                Finding::Differs(_) => {
                    other.get_or_insert((less, part.name));
                }
                Finding::InSync | Finding::Unchecked(_) | Finding::Asked => {
                    enough = Some((less, part.name));
                    break;
                }
            }
        }
        let Some((less, name)) = enough.or(other) else { return Settled::LeftOut(problem) };
        remarks.push(format!("{name} is left out: {problem}"));
        spec = less;
    }
}
