//! What a plan says, as data: the shape of `-o json`, and what the other forms are printed from.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    api::{status::Reason, timescale_database::Mode},
    catalog::{Extension, Server},
    cli::{manifests::Place, workspace::Subject},
    desired::{ClaimId, Desired, Intent, Release, Target},
    plan::step::{Effect, HeldPlan, Plan, Step, Verdict},
    sql::{self, Script, set_search_path},
    status::summarize,
};

/// The plans of all databases.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// One for each database.
    pub databases: Vec<Database>,
    /// What a person should know about what was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The plan of one database.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Namespace of its `TimescaleDatabase`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `17.5`
    pub postgres_version: String,
    /// `2.23.0`; absent where the extension is not installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timescaledb_version: Option<String>,
    /// What the operator would do with it.
    pub mode: Mode,
    /// How many resources there are of each state.
    pub summary: Summary,
    /// Every resource, in the order in which they are carried out.
    pub resources: Vec<Resource>,
}

/// Numbers of resources (a policy that selects its targets counts once for each).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The database is as they say.
    pub in_sync: usize,
    /// Something new is made for them.
    pub create: usize,
    /// Something is changed for them.
    pub change: usize,
    /// Something is removed for them.
    pub remove: usize,
    /// They wait for an approval.
    pub needs_approval: usize,
    /// They come after another that the plan brings about.
    pub waiting: usize,
    /// They cannot be carried out.
    pub blocked: usize,
}

/// What becomes of one resource.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// `Hypertable`, `CompressionPolicy`, …
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The selected target that this is about, `Kind/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The database object, `schema.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// File and line; absent for a resource that is in the cluster only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What becomes of it.
    pub state: State,
    /// The reason that its status would show.
    pub reason: &'static str,
    /// Why it is held or blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What approves exactly these steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the steps cost and which guards they are beyond: the blast radius.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<String>,
    /// What is unwise but done all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What is done, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Change>,
}

/// What becomes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// The database is as it says.
    InSync,
    /// The steps are carried out.
    Pending,
    /// The steps wait for an approval.
    NeedsApproval,
    /// It comes after another.
    Waiting,
    /// It cannot be carried out. Steps that stand beside it are.
    Blocked,
    /// Another policy names the selected target, and goes before this one.
    Overridden,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Whether there is more or less afterwards.
    pub effect: Effect,
    /// A bounded name: `add_policy`.
    pub action: &'static str,
    /// The value found and the value wanted.
    pub change: String,
    /// What it costs beyond a short lock.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hazards: Vec<String>,
    /// It may take minutes to hours.
    pub long: bool,
    /// The statements, as they are sent.
    pub sql: Vec<String>,
    /// They are sent in one transaction.
    pub transaction: bool,
}

impl Database {
    /// What a plan says of a database.
    pub fn new(
        subject: &Subject,
        server: &Server,
        desired: &Desired,
        plan: &Plan,
        places: &BTreeMap<(String, String, String), Place>,
    ) -> Self {
        let (namespace, name) = subject.key.clone();
        let mut steps: BTreeMap<&ClaimId, (usize, Vec<&Step>)> = BTreeMap::new();
        for (i, step) in plan.steps.iter().enumerate() {
            steps.entry(&step.claim).or_insert_with(|| (i, Vec::new())).1.push(step);
        }
        let claims: BTreeMap<&ClaimId, &Intent> =
            desired.claims.iter().map(|claim| (&claim.id, &claim.intent)).collect();
        let mut verdicts: Vec<_> = plan.verdicts.iter().collect();
        verdicts.sort_by_key(|(id, _)| steps.get(id).map_or(usize::MAX, |(first, _)| *first));
        let of = |(id, verdict): (&ClaimId, &Verdict)| {
            let about = About {
                intent: claims.get(id).copied(),
                steps: steps.get(id).map_or(&[], |(_, steps)| steps.as_slice()),
                warnings: plan.warnings.get(id).map_or(&[], Vec::as_slice),
            };
            resource(&namespace, id, verdict, &about, server, places)
        };
        let resources: Vec<_> = verdicts.into_iter().filter_map(of).collect();
        let mut summary = Summary::default();
        for resource in &resources {
            match resource.state {
                State::InSync | State::Overridden => summary.in_sync += 1,
                State::NeedsApproval => summary.needs_approval += 1,
                State::Waiting => summary.waiting += 1,
                State::Blocked => summary.blocked += 1,
                State::Pending => match resource.effect() {
                    Effect::Creates => summary.create += 1,
                    Effect::Changes => summary.change += 1,
                    Effect::Removes => summary.remove += 1,
                },
            }
        }
        Self {
            name,
            postgres_version: server.postgres_version(),
            timescaledb_version: server.extension.as_ref().map(|e| e.version.to_string()),
            mode: subject.database.spec.mode,
            summary,
            resources,
            namespace,
        }
    }

    /// Nothing is left to do.
    pub fn is_in_sync(&self) -> bool {
        self.resources.iter().all(|resource| matches!(resource.state, State::InSync | State::Overridden))
    }
}

impl Resource {
    /// What its steps do as a whole: where they make what it is about, that.
    pub fn effect(&self) -> Effect {
        let is_policy = self.kind.ends_with("Policy");
        let makes_it = |step: &Change| match step.action {
            "create_hypertable" | "create_aggregate" => true,
            "add_policy" => is_policy,
            _ => false,
        };
        if self.steps.iter().any(makes_it) {
            return Effect::Creates;
        }
        let effects = || self.steps.iter().map(|step| step.effect);
        let first = effects().next().unwrap_or(Effect::Changes);
        if effects().all(|effect| effect == first) { first } else { Effect::Changes }
    }

    /// `Kind/name`, with the namespace where it is not that of the database, and with the target.
    pub fn title(&self, home: &str) -> String {
        let Self { kind, namespace, name, target, .. } = self;
        let namespace = if namespace == home { String::new() } else { format!("{namespace}/") };
        let target = target.as_ref().map_or_else(String::new, |target| format!(" on {target}"));
        format!("{kind}/{namespace}{name}{target}")
    }
}

/// What a plan holds about one claim, beside its verdict.
struct About<'a> {
    intent: Option<&'a Intent>,
    steps: &'a [&'a Step],
    warnings: &'a [String],
}

fn resource(
    home: &str,
    id: &ClaimId,
    verdict: &Verdict,
    about: &About<'_>,
    server: &Server,
    places: &BTreeMap<(String, String, String), Place>,
) -> Option<Resource> {
    let summary = summarize(home, id, verdict, None, &[]);
    let held: Option<&HeldPlan> = match verdict {
        Verdict::NeedsApproval(held) | Verdict::Drifted(held) => Some(held),
        _ => None,
    };
    let state = match verdict {
        Verdict::InSync => State::InSync,
        Verdict::Pending | Verdict::InProgress(_) | Verdict::Drifted(_) => State::Pending,
        Verdict::NeedsApproval(_) => State::NeedsApproval,
        Verdict::WaitingOn(_) => State::Waiting,
        Verdict::Rejected(_) => State::Blocked,
        Verdict::Overridden(_) => State::Overridden,
        // Of a resource that is being deleted and holds nothing any more there is nothing to say.
        Verdict::Released => return None,
    };
    let extension = server.extension.as_ref();
    let change = |step: &Step| extension.map(|extension| change(step, extension));
    let steps: Vec<_> = match held {
        Some(held) => held.steps.iter().filter_map(change).collect(),
        None => about.steps.iter().copied().filter_map(change).collect(),
    };
    let message = match state {
        State::Waiting | State::Blocked | State::Overridden => summary.as_ref().map(|summary| summary.message.clone()),
        State::NeedsApproval => held
            .and_then(|held| held.stale_approval.as_ref())
            .map(|stale| format!("the approval that was given ({}) is for another plan", stale.0)),
        State::InSync | State::Pending => None,
    };
    let namespace = id.resource.namespace.clone().unwrap_or_else(|| home.to_owned());
    let kind = id.resource.kind.as_str();
    let place = places.get(&(kind.to_owned(), namespace.clone(), id.resource.name.clone()));
    let reason = match state {
        State::Pending => Reason::Applied,
        _ => summary.map_or(Reason::InSync, |summary| summary.reason),
    };
    Some(Resource {
        kind,
        name: id.resource.name.clone(),
        namespace,
        target: id.target.as_ref().map(|target| format!("{}/{}", target.kind.as_str(), target.name)),
        object: about.intent.and_then(object),
        source: place.map(ToString::to_string),
        state,
        reason: reason.as_str(),
        message,
        digest: held.filter(|_| state == State::NeedsApproval).map(|held| held.digest.0.clone()),
        hazards: held.map_or_else(Vec::new, |held| held.hazards.clone()),
        warnings: about.warnings.to_vec(),
        steps,
    })
}

fn object(intent: &Intent) -> Option<String> {
    let relation = match intent {
        Intent::Ensure(Target::Hypertable(target)) => &target.relation,
        Intent::Ensure(Target::Aggregate(target)) => &target.relation,
        Intent::Ensure(Target::Compression(target)) => &target.on.relation,
        Intent::Ensure(Target::Retention(target)) => &target.on.relation,
        Intent::Release(Release::RemovePolicy(_, relation) | Release::DropAggregate(relation)) => relation,
        Intent::Release(Release::Nothing) => return None,
    };
    Some(relation.to_string())
}

fn change(step: &Step, extension: &Extension) -> Change {
    let Script { statements, transaction } = sql::render(&step.action, extension);
    let set = if transaction { "SET LOCAL" } else { "SET" };
    let (mut sql, mut path) = (Vec::new(), Vec::new());
    for statement in statements {
        if !statement.search_path.is_empty() && path != statement.search_path {
            sql.push(set_search_path(set, &statement.search_path));
            path = statement.search_path;
        }
        sql.push(statement.text);
    }
    Change {
        effect: step.action.effect(),
        action: step.action.name(),
        change: step.change.clone(),
        hazards: step.hazards.iter().map(ToString::to_string).collect(),
        long: step.long,
        sql,
        transaction,
    }
}
