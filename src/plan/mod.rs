//! Desired × catalog → plan: pure, total and deterministic.
//!
//! [`plan`] goes through the claims in dependency order and compares each with the catalog. The steps it finds are also
//! carried out on a projection of the catalog ([`project`]), so that one plan holds a hypertable's conversion and the
//! policies on it. The central law, tested as a property: carrying out a plan leads to a catalog whose plan is empty.
//!
//! What the planner cannot know from the snapshot it asks for ([`Plan::questions`]); planning again with the answers
//! leads to the whole plan.

mod aggregate;
mod approval;
mod compression;
mod drop_guard;
mod hypertable;
mod index;
pub mod interlocks;
pub mod monitoring_schema;
mod policy;
pub mod project;
mod rebuild;
mod retention;
pub mod step;
pub mod unclaimed;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    api::{
        status::Reason,
        timescale_database::Mode,
        types::{Relation, Span},
    },
    catalog::{Answer, Answers, Catalog, Hypertable, Partitioning, Question, Server},
    desired::{Claim, ClaimId, Desired, Intent, Rejection, Release, Rules, Target},
    sql,
};
use drop_guard::Guarded;
use step::{Action, Hazard, HeldPlan, Plan, Step, Verdict};

/// The oldest TimescaleDB that is supported.
const MINIMUM_TIMESCALEDB: (u32, u32) = (2, 14);
/// The oldest PostgreSQL that is supported, as `server_version_num`.
const MINIMUM_POSTGRES: i32 = 140_000;

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the resources want.
    pub desired: &'a Desired,
    /// What the `TimescaleDatabase` says about all of them.
    pub rules: &'a Rules,
    /// The database as observed.
    pub catalog: &'a Catalog,
    /// The answers to questions asked so far.
    pub answers: &'a Answers,
    /// Claims with a long step under way, and which; they are left alone until it ends.
    pub running: &'a BTreeMap<ClaimId, String>,
}

/// What leads from the catalog to what is desired. While the plan has questions it must not be applied; plan again with
/// their answers.
pub fn plan(inputs: Inputs<'_>) -> Plan {
    let mut planner =
        Planner { inputs, catalog: Cow::Borrowed(inputs.catalog), plan: Plan::default(), creators: BTreeMap::new() };
    for (id, rejection) in &inputs.desired.rejected {
        planner.plan.verdicts.insert(id.clone(), Verdict::Rejected(rejection.clone()));
    }
    for (id, by) in &inputs.desired.overridden {
        planner.plan.verdicts.insert(id.clone(), Verdict::Overridden(by.clone()));
    }
    // Releases first: what is let go of must not stand in the way of what is wanted.
    let is_release = |claim: &&Claim| matches!(claim.intent, Intent::Release(_));
    let (mut releases, wanted): (Vec<_>, Vec<_>) = inputs.desired.claims.iter().partition(is_release);
    // An aggregate goes before the one that it reads.
    releases.sort_by_key(|claim| std::cmp::Reverse(planner.depth(claim)));
    for claim in releases.into_iter().chain(wanted) {
        planner.claim(claim);
    }
    planner.plan
}

/// What the diff of one claim found.
#[derive(Debug, Default)]
struct Draft {
    steps: Vec<Step>,
    /// Why (part of) the claim is not carried out. Steps may stand beside it: what can be done is done.
    blocked: Option<Verdict>,
    warnings: Vec<String>,
    /// The steps lose data beyond a guard.
    needs_approval: Vec<Guarded>,
    /// What an approval is for, where that is not the statements.
    digest_basis: Option<String>,
}

impl Draft {
    fn blocked(verdict: Verdict) -> Self {
        Self { blocked: Some(verdict), ..Self::default() }
    }

    fn rejected(reason: Reason, message: impl Into<String>) -> Self {
        Self::blocked(Verdict::Rejected(Rejection::new(reason, message)))
    }

    /// Keeps the first: it is the one to be dealt with first.
    fn block(&mut self, reason: Reason, message: impl Into<String>) {
        self.blocked.get_or_insert_with(|| Verdict::Rejected(Rejection::new(reason, message)));
    }
}

struct Planner<'a> {
    inputs: Inputs<'a>,
    /// The catalog with the steps of the plan so far carried out.
    catalog: Cow<'a, Catalog>,
    plan: Plan,
    /// Relations that steps of this plan create, and for whom.
    creators: BTreeMap<Relation, ClaimId>,
}

impl Planner<'_> {
    fn claim(&mut self, claim: &Claim) {
        if let Some(what) = self.inputs.running.get(&claim.id) {
            self.plan.verdicts.insert(claim.id.clone(), Verdict::InProgress(what.clone()));
            return;
        }
        let draft = match &claim.intent {
            Intent::Release(release) => self.release(claim, release),
            Intent::Ensure(target) => match gate(&self.catalog.server, target, self.inputs.rules.mode) {
                Some(verdict) => Draft::blocked(verdict),
                None => self.ensure(claim, target),
            },
        };
        self.conclude(claim, draft);
    }

    fn ensure(&mut self, claim: &Claim, target: &Target) -> Draft {
        match target {
            Target::Hypertable(target) => self.hypertable(claim, target),
            Target::Aggregate(target) => self.aggregate(claim, target),
            Target::Compression(target) => self.compression(claim, target),
            Target::Retention(target) => self.retention(claim, target),
        }
    }

    fn release(&self, claim: &Claim, release: &Release) -> Draft {
        let mut draft = self.let_go(claim, release);
        if let (Release::DropAggregate(relation), false) = (release, draft.steps.is_empty()) {
            self.drop_left_over(claim, relation, None, &mut draft);
        }
        draft
    }

    fn let_go(&self, claim: &Claim, release: &Release) -> Draft {
        let released = || Draft::blocked(Verdict::Released);
        if self.inputs.rules.mode == Mode::Observe || self.catalog.server.extension.is_none() {
            return released();
        }
        if let Some(rejection) = writable(&self.catalog.server) {
            return match release {
                Release::Nothing => released(),
                _ => Draft::blocked(Verdict::Rejected(rejection)),
            };
        }
        let step = match release {
            Release::Nothing => return released(),
            Release::RemovePolicy(kind, relation) => {
                let host = self.catalog.host(relation).map(|hypertable| hypertable.id);
                let Some(job) = host.and_then(|id| self.catalog.job(*kind, id)) else {
                    return released();
                };
                let action = Action::RemovePolicy { relation: relation.clone(), kind: *kind };
                step(claim, action, format!("{kind} of {relation} (job {}): removed", job.id))
            }
            Release::DropAggregate(relation) => {
                let Some(live) = self.catalog.aggregates.get(relation) else {
                    return released();
                };
                if let Some((reader, _)) = self.catalog.readers(live.hypertable.id).next() {
                    let message = format!(
                        "the continuous aggregate {reader} reads {relation}; delete it first, or set spec.deletionPolicy: Retain to leave {relation} in the database"
                    );
                    return Draft::blocked(Verdict::WaitingOn(message));
                }
                let action = Action::DropAggregate { relation: relation.clone() };
                let mut step = step(claim, action, format!("continuous aggregate {relation}: dropped"));
                step.hazards
                    .push(Hazard::DropsObject(format!("continuous aggregate {relation} with all it materialised")));
                step
            }
        };
        Draft { steps: vec![step], ..Draft::default() }
    }

    /// How many aggregates the one that a claim drops is built on.
    fn depth(&self, claim: &Claim) -> usize {
        let Intent::Release(Release::DropAggregate(relation)) = &claim.intent else {
            return 0;
        };
        let by_id = |id| self.catalog.aggregates.get(self.catalog.aggregates.name_of(id)?);
        std::iter::successors(self.catalog.aggregates.get(relation), |a| by_id(a.source_id)).count()
    }

    /// The answer to a question, or a note that it must be asked.
    fn ask(&mut self, question: Question) -> Option<Answer> {
        let answer = self.inputs.answers.get(&question).cloned();
        if answer.is_none() {
            self.plan.questions.insert(question);
        }
        answer
    }

    fn conclude(&mut self, claim: &Claim, draft: Draft) {
        let Draft { steps, blocked, warnings, needs_approval, digest_basis } = draft;
        let id = claim.id.clone();
        if !warnings.is_empty() {
            self.plan.warnings.insert(id.clone(), warnings);
        }
        let observe = self.inputs.rules.mode == Mode::Observe;
        let held = observe || !needs_approval.is_empty();
        let verdict = match blocked {
            None if steps.is_empty() => Verdict::InSync,
            None if held => {
                let held = self.hold(claim, &steps, &needs_approval, digest_basis);
                if observe {
                    self.project(&id, &steps);
                    Verdict::Drifted(held)
                } else if claim.approvals.contains(&held.digest) {
                    self.accept(&id, steps);
                    Verdict::Pending
                } else {
                    Verdict::NeedsApproval(held)
                }
            }
            None => {
                self.accept(&id, steps);
                Verdict::Pending
            }
            Some(verdict) => {
                if !held {
                    self.accept(&id, steps);
                }
                verdict
            }
        };
        self.plan.verdicts.insert(id, verdict);
    }

    fn accept(&mut self, id: &ClaimId, steps: Vec<Step>) {
        self.project(id, &steps);
        self.plan.steps.extend(steps);
    }

    fn project(&mut self, id: &ClaimId, steps: &[Step]) {
        for step in steps {
            if let Action::CreateHypertable { relation, .. } | Action::CreateAggregate { relation, .. } = &step.action {
                self.creators.insert(relation.clone(), id.clone());
            }
            project::apply(self.catalog.to_mut(), &step.action, self.inputs.answers);
        }
    }

    /// What people see of steps that are not taken, with the digest that approves them. The digest covers the statements
    /// and the facts they were decided on, so an approval dies with the plan that it approved.
    fn hold(&self, claim: &Claim, steps: &[Step], guarded: &[Guarded], basis: Option<String>) -> HeldPlan {
        let mut statements = Vec::new();
        if let Some(extension) = &self.catalog.server.extension {
            for step in steps {
                statements.extend(sql::render(&step.action, extension).statements.into_iter().map(|s| s.text));
            }
        }
        let basis = basis.map(|basis| vec![basis]);
        let facts = guarded.iter().map(|guarded| &guarded.fact);
        let digest = approval::digest(basis.as_ref().unwrap_or(&statements).iter().chain(facts).map(String::as_str));
        let hazards = steps.iter().flat_map(|step| step.hazards.iter().map(ToString::to_string));
        HeldPlan {
            stale_approval: approval::stale(&claim.approvals, &digest),
            digest,
            steps: steps.to_vec(),
            hazards: hazards.chain(guarded.iter().filter_map(|guarded| guarded.limit.clone())).collect(),
            statements,
        }
    }

    /// Which steps of this plan must come before a step on this relation.
    fn after(&self, relation: &Relation) -> Vec<ClaimId> {
        self.creators.get(relation).cloned().into_iter().collect()
    }

    /// The steps of this plan that make room between a retention policy and the refresh windows over the same rows: when
    /// one of them fails, what needs the room must not be done.
    fn after_room(&self, makes_room: impl Fn(&Action) -> bool) -> impl Iterator<Item = ClaimId> {
        let claims: BTreeSet<_> =
            self.plan.steps.iter().filter(|step| makes_room(&step.action)).map(|step| step.claim.clone()).collect();
        claims.into_iter()
    }
}

/// Why a policy that goes by this span cannot be on this hypertable: time and integers do not mix.
fn wrong_measure(relation: &Relation, live: &Hypertable, field: &str, span: Span) -> Option<Rejection> {
    let time = live.time()?;
    let (fits, needed) = match time.partitioning {
        Partitioning::Range(_) => (matches!(span, Span::Time(_)), "an interval such as \"7 days\""),
        Partitioning::IntegerRange(_) => (matches!(span, Span::Integer(_)), "a number of its units, without quotes"),
        Partitioning::Hash(_) => (true, ""),
    };
    let message = || {
        format!(
            "spec.{field}: {relation} is partitioned by {} in {}, which {span} does not fit; write {needed}",
            time.column, time.partitioning
        )
    };
    (!fits).then(|| Rejection::new(Reason::InvalidSpec, message()))
}

/// Why a policy cannot run on an integer hypertable that has no function to say what time it is now.
fn no_clock(relation: &Relation, live: &Hypertable) -> Option<Rejection> {
    let by_integer = matches!(live.time()?.partitioning, Partitioning::IntegerRange(_));
    (by_integer && live.integer_now.is_none()).then(|| {
        let message = format!(
            "{relation} is partitioned by integers and has no function that says what time it is now; set spec.integerNowFunction of its Hypertable, or run set_integer_now_func"
        );
        Rejection::new(Reason::InvalidSpec, message)
    })
}

/// A step without hazards that takes no time.
fn step(claim: &Claim, action: Action, change: String) -> Step {
    Step { claim: claim.id.clone(), action, hazards: Vec::new(), long: false, after: Vec::new(), change }
}

/// Why nothing may be written to this server now.
fn writable(server: &Server) -> Option<Rejection> {
    if server.read_only {
        let message = "the server is a standby or read-only; nothing is attempted until it accepts writes";
        return Some(Rejection::new(Reason::ReadOnly, message));
    }
    if server.restoring {
        let message = "timescaledb.restoring is on: the database is being restored; run timescaledb_post_restore() when that is done";
        return Some(Rejection::new(Reason::ReadOnly, message));
    }
    None
}

/// Why nothing can be managed on this server, if so. In `Observe` mode it need not accept writes.
pub fn unusable(server: &Server, mode: Mode) -> Option<Rejection> {
    if server.version_num < MINIMUM_POSTGRES {
        let found = server.postgres_version();
        let message = format!("the server is PostgreSQL {found}; 14 or later is needed");
        return Some(Rejection::new(Reason::UnsupportedVersion, message));
    }
    let Some(extension) = &server.extension else {
        let message = "the extension timescaledb is not installed in this database; run CREATE EXTENSION timescaledb (a superuser may have to)";
        return Some(Rejection::new(Reason::ExtensionMissing, message));
    };
    let (major, minor) = MINIMUM_TIMESCALEDB;
    if !extension.version.at_least(major, minor) {
        let message =
            format!("the extension timescaledb is version {}; {major}.{minor} or later is needed", extension.version);
        return Some(Rejection::new(Reason::UnsupportedVersion, message));
    }
    if server.license.is_none() {
        // Its settings are known only where its library is loaded; without that its first function ends the session.
        let message = "the server does not load TimescaleDB's library, although the extension is installed; add timescaledb to shared_preload_libraries and restart the server";
        return Some(Rejection::new(Reason::ExtensionNotLoaded, message));
    }
    match mode {
        Mode::Enforce => writable(server),
        Mode::Observe => None,
    }
}

/// Why this target cannot be managed on this server.
fn gate(server: &Server, target: &Target, mode: Mode) -> Option<Verdict> {
    let community = match target {
        Target::Hypertable(target) => target.reorder.is_some(),
        Target::Aggregate(_) | Target::Compression(_) | Target::Retention(_) => true,
    };
    let unlicensed = || {
        (community && server.license.as_deref() == Some("apache")).then(|| {
            let message = "the server runs TimescaleDB's Apache edition, which has no policies, compression or continuous aggregates; set timescaledb.license = 'timescale' or use the community edition";
            Rejection::new(Reason::LicenseRequired, message)
        })
    };
    unusable(server, mode).or_else(unlicensed).map(Verdict::Rejected)
}
