//! Laws that hold for every database and every set of resources: property tests over a small universe of names, in which
//! conflicts, adoption, deletions, interlocks and approvals happen all the time.

mod fixture;

#[path = "law/import.rs"]
mod import;
#[path = "law/lexer.rs"]
mod lexer;
#[path = "law/pruning.rs"]
mod pruning;
#[path = "law/universe.rs"]
mod universe;

use std::collections::{BTreeMap, BTreeSet};

use fixture::{resources::Resources, world::World};
use kube::ResourceExt;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use timescaledb_policy_operator::{
    api::{
        FINALIZER,
        continuous_aggregate::{AggregateDeletion, QueryChange},
        timescale_database::{DatabaseDeletion, From, Mode},
        types::{PolicyDeletion, Relation, Span, SqlName},
    },
    catalog::{Age, Catalog, Hypertable, Job, Policy},
    desired::{ClaimId, Kind, PolicyTarget, ResourceId},
    plan::step::{Action, Hazard, HeldPlan, Plan, Step, Verdict},
    sql,
};
use universe::{Case, case};

/// `PROPTEST_CASES` looks further.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

fn plan(world: &World, resources: &Resources) -> Plan {
    world.plan(&resources.desired(), &resources.rules())
}

/// The passes until there is nothing left to do, with every step carried out.
fn settle(world: &mut World, resources: &Resources) -> Vec<Plan> {
    let mut plans = vec![plan(world, resources)];
    while let Some(Plan { steps, .. }) = plans.last()
        && !steps.is_empty()
        && plans.len() < 10
    {
        for step in steps {
            world.carry_out(&step.action);
        }
        plans.push(plan(world, resources));
    }
    plans
}

fn statements(world: &World, step: &Step) -> Vec<String> {
    let Some(extension) = &world.catalog.server.extension else { return Vec::new() };
    sql::render(&step.action, extension).statements.into_iter().map(|s| s.text).collect()
}

fn statements_for(world: &World, plan: &Plan, id: &ClaimId) -> Vec<String> {
    plan.steps.iter().filter(|step| step.claim == *id).flat_map(|step| statements(world, step)).collect()
}

/// One claim for each resource, and for each target that a policy selects.
fn claim_ids(resources: &Resources) -> BTreeSet<ClaimId> {
    fn id<K: ResourceExt>(kind: Kind, resource: &K) -> ClaimId {
        let namespace = resource.namespace().unwrap_or_default();
        ClaimId::from(ResourceId::seen_from("factory", kind, &namespace, &resource.name_any()))
    }
    fn on(id: ClaimId, by_name: bool, targets: &[PolicyTarget]) -> impl Iterator<Item = ClaimId> {
        targets.iter().map(move |target| ClaimId { target: (!by_name).then(|| target.id()), ..id.clone() })
    }
    let attached = resources.attached();
    let mut ids: BTreeSet<_> = attached.hypertables.iter().map(|r| id(Kind::Hypertable, &**r)).collect();
    ids.extend(attached.aggregates.iter().map(|r| id(Kind::ContinuousAggregate, &**r)));
    for (policy, targets) in &attached.compression {
        ids.extend(on(id(Kind::CompressionPolicy, &**policy), policy.spec.target_ref.is_some(), targets));
    }
    for (policy, targets) in &attached.retention {
        ids.extend(on(id(Kind::RetentionPolicy, &**policy), policy.spec.target_ref.is_some(), targets));
    }
    ids
}

/// Which steps fail in the first passes.
fn failures() -> impl Strategy<Value = Vec<bool>> {
    proptest::collection::vec(proptest::bool::weighted(0.3), 24)
}

/// Carries out the steps as the controller does: what fails takes along the rest of its claim and what waits for it. From
/// the third pass on nothing fails. Each step that is carried out is checked before.
fn carry_out_some(
    world: &mut World,
    steps: &[Step],
    fails: &[bool],
    pass: usize,
    mut check: impl FnMut(&World, &Step) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut failed = BTreeSet::new();
    for (number, step) in steps.iter().enumerate() {
        if failed.contains(&step.claim) || step.after.iter().any(|id| failed.contains(id)) {
            failed.insert(step.claim.clone());
            continue;
        }
        if pass < 2 && fails[(number + pass * 12) % fails.len()] {
            failed.insert(step.claim.clone());
            world.interrupt(&step.action);
            continue;
        }
        check(world, step)?;
        world.carry_out(&step.action);
    }
    Ok(())
}

/// A name that only this operator gives.
fn is_generated(name: &SqlName) -> bool {
    name.as_str().starts_with("tsdbop_")
}

/// A deleted resource that held the object lets go of it, asked to, and nobody else claims it.
fn may_release(resources: &Resources, step: &Step, object: &Relation) -> Result<(), TestCaseError> {
    let releases = releases(resources, &step.claim);
    prop_assert!(releases.deleted, "absence never drops anything: {step:?}");
    prop_assert!(releases.finalizer, "a resource that never held it: {step:?}");
    prop_assert!(releases.asked_for, "nobody asked for it: {step:?}");
    let claimed: Vec<_> = claimants(resources, step.claim.resource.kind, object);
    prop_assert!(claimed.is_empty(), "{claimed:?} claim what {step:?} removes");
    Ok(())
}

/// The aggregate that the resource of this claim is about.
fn aggregate_of(resources: &Resources, id: &ClaimId) -> Option<Relation> {
    let mut aggregates = resources.aggregates.iter().filter(|_| id.resource.kind == Kind::ContinuousAggregate);
    let found = aggregates.rfind(|a| a.name_any() == id.resource.name)?;
    Some(Relation { schema: found.spec.schema.parse().ok()?, name: found.spec.name.parse().ok()? })
}

/// Whether the resource of this claim asks for a rebuild.
fn rebuilds(resources: &Resources, id: &ClaimId) -> bool {
    let found = resources.aggregates.iter().find(|a| a.name_any() == id.resource.name);
    found.is_some_and(|a| a.spec.on_query_change == QueryChange::Rebuild && a.metadata.deletion_timestamp.is_none())
}

fn turn<T>(all: &mut [T], by: usize) {
    all.reverse();
    let by = by.min(all.len());
    all.rotate_left(by);
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn every_resource_gets_one_verdict_and_the_plan_does_not_depend_on_their_order(Case { world, resources } in case(), rotate in 0..4_usize) {
        let first = plan(&world, &resources);
        let mut other = resources.clone();
        turn(&mut other.hypertables, rotate);
        turn(&mut other.aggregates, rotate);
        turn(&mut other.compression, rotate);
        turn(&mut other.retention, rotate);
        prop_assert_eq!(&first, &plan(&world, &other));

        prop_assert_eq!(first.verdicts.keys().cloned().collect::<BTreeSet<_>>(), claim_ids(&resources));
        let mut before = BTreeSet::new();
        for step in &first.steps {
            prop_assert!(first.verdicts.contains_key(&step.claim));
            prop_assert!(step.after.iter().all(|id| *id != step.claim && before.contains(id)), "waits for what is not before it: {step:?}");
            before.insert(step.claim.clone());
        }
    }

    #[test]
    fn a_claim_with_a_long_step_under_way_is_left_alone(Case { world, resources } in case(), nth in any::<proptest::sample::Index>()) {
        let (desired, rules) = (resources.desired(), resources.rules());
        prop_assume!(!desired.claims.is_empty());
        let id = desired.claims[nth.index(desired.claims.len())].id.clone();
        let plan = world.plan_while(&desired, &rules, &BTreeMap::from([(id.clone(), "an index".to_owned())]));
        prop_assert!(plan.steps.iter().all(|step| step.claim != id && !step.after.contains(&id)));
        prop_assert_eq!(plan.verdicts.get(&id), Some(&Verdict::InProgress("an index".to_owned())));
    }

    /// The central law.
    #[test]
    fn what_a_plan_is_carried_out_on_needs_no_plan(Case { mut world, resources } in case()) {
        let plans = settle(&mut world, &resources);
        let last = plans.last().expect("a plan");
        prop_assert!(plans.len() <= 5, "{} passes, still: {:#?}", plans.len(), last.steps);
        prop_assert!(last.steps.is_empty());
        for (id, verdict) in &last.verdicts {
            prop_assert!(!matches!(verdict, Verdict::Pending | Verdict::InProgress(_)), "{id}: {verdict:?}");
        }
        for pair in plans.windows(2) {
            let again = pair[1].steps.iter().find(|step| pair[0].steps.contains(step));
            prop_assert!(again.is_none(), "carried out and wanted again: {again:?}");
        }
    }

    /// The same after whatever was cut off on the way.
    #[test]
    fn what_was_interrupted_goes_on(Case { mut world, resources } in case(), fails in failures()) {
        for pass in 0..2 {
            let Plan { steps, .. } = plan(&world, &resources);
            carry_out_some(&mut world, &steps, &fails, pass, |_, _| Ok(()))?;
        }
        let plans = settle(&mut world, &resources);
        let last = plans.last().expect("a plan");
        prop_assert!(plans.len() <= 5 && last.steps.is_empty(), "{} passes, still: {:#?}", plans.len(), last.steps);
        for (id, verdict) in &last.verdicts {
            let relation = aggregate_of(&resources, id).filter(|_| *verdict == Verdict::InSync);
            let mine = Some(universe::made_for_claim(id));
            let left = world.catalog.aggregates.iter().find(|(name, found)| {
                is_generated(&name.name) && found.comment == mine && relation.as_ref().is_some_and(|r| r.schema == name.schema)
            });
            prop_assert!(left.is_none(), "left behind by {id}: {left:?}");
        }
    }

    /// What is dropped is what a deleted resource held, while nobody else claims it; or what this operator made itself, by
    /// name and comment.
    #[test]
    fn absence_never_drops_anything(Case { mut world, resources } in case(), fails in failures()) {
        let named: BTreeSet<_> = world.catalog.aggregates.keys().cloned().collect();
        for pass in 0..4 {
            let Plan { steps, .. } = plan(&world, &resources);
            carry_out_some(&mut world, &steps, &fails, pass, |world, step| {
                let mine = universe::made_for_claim(&step.claim);
                let index = |relation: &Relation, name: &SqlName| world.catalog.host(relation).and_then(|host| host.indexes.get(name));
                match &step.action {
                    Action::DropAggregate { relation } if is_generated(&relation.name) => {
                        let comment = world.catalog.aggregates.get(relation).and_then(|a| a.comment.clone());
                        prop_assert_eq!(comment, Some(mine), "{:?}", step);
                    }
                    Action::RemovePolicy { relation, .. } | Action::DropAggregate { relation } => {
                        may_release(&resources, step, relation)?;
                    }
                    Action::SwapAggregate(swap) => {
                        prop_assert!(world.catalog.aggregates.contains_key(&swap.replacement), "{step:?}");
                        prop_assert!(is_generated(&swap.replacement.name) && is_generated(&swap.replaced.name));
                        prop_assert_eq!(&swap.replaced_comment, &mine);
                        prop_assert!(rebuilds(&resources, &step.claim), "nobody asked for it: {step:?}");
                    }
                    Action::DropIndex { relation, index: name, .. } => {
                        let found = index(relation, name);
                        let ours = found.is_some_and(|i| !i.constraint && (i.comment.as_ref() == Some(&mine) || !i.valid));
                        prop_assert!(ours || name.as_str().starts_with(universe::BUILDING), "{found:?} by {step:?}");
                    }
                    Action::PlaceIndex { relation, index: wanted, .. } | Action::CreateIndex { relation, index: wanted, replaces: true, .. } => {
                        let found = index(relation, &wanted.name);
                        prop_assert!(found.is_some_and(|i| !i.constraint && i.comment.as_ref() == Some(&mine)), "{found:?} by {step:?}");
                    }
                    Action::CreateIndex { relation, index: wanted, replaces: false, .. } => {
                        prop_assert!(index(relation, &wanted.name).is_none(), "{step:?}");
                    }
                    Action::ReplacePolicy { relation, new } => {
                        let kind = new.policy.kind();
                        let host = world.catalog.host(relation).map_or(0, |host| host.id);
                        let same = world.catalog.jobs.iter().filter(|job| job.hypertable_id == host && job.policy.kind() == kind);
                        prop_assert_eq!(same.count(), 1, "all of them would be removed: {:?}", step);
                    }
                    _ => {}
                }
                Ok(())
            })?;
            for name in named.iter().filter(|name| !world.catalog.aggregates.contains_key(name)) {
                let released = is_generated(&name.name) || resources.aggregates.iter().any(|a| {
                    a.metadata.deletion_timestamp.is_some() && a.spec.schema == name.schema.as_str() && a.spec.name == name.name.as_str()
                });
                prop_assert!(released, "{name} is gone");
            }
        }
    }

    #[test]
    fn observing_changes_nothing(Case { world, mut resources } in case()) {
        resources.database.spec.mode = Mode::Observe;
        let plan = plan(&world, &resources);
        prop_assert_eq!(&plan.steps, &[]);
        for (id, verdict) in &plan.verdicts {
            prop_assert!(!matches!(verdict, Verdict::Pending | Verdict::InProgress(_) | Verdict::NeedsApproval(_)), "{id}: {verdict:?}");
        }
    }

    #[test]
    fn nothing_beyond_the_guard_is_lost_without_the_approval_of_exactly_that(Case { mut world, resources } in case()) {
        let mut without = resources.clone();
        universe::disapprove(&mut without);
        let limit = f64::from(resources.database.spec.guards.max_immediate_drop_percent);
        for _ in 0..3 {
            let (shown, with) = (plan(&world, &without), plan(&world, &resources));
            for step in &with.steps {
                let beyond = |hazard: &Hazard| match hazard {
                    Hazard::DeletesData(drops) => drops.percent() > limit,
                    Hazard::ErasesHistory(..) => true,
                    _ => false,
                };
                if !step.hazards.iter().any(beyond) {
                    continue;
                }
                let Some(Verdict::NeedsApproval(held)) = shown.verdicts.get(&step.claim) else {
                    return Err(TestCaseError::fail(format!("without approval: {step:?}")));
                };
                prop_assert!(universe::approves(&resources, &step.claim, &held.digest.0), "{held:?}");
                prop_assert_eq!(&statements_for(&world, &with, &step.claim), &held.statements);
            }
            with.steps.iter().for_each(|step| world.carry_out(&step.action));
        }
    }

    #[test]
    fn an_approval_releases_what_was_shown_and_nothing_else(Case { mut world, mut resources } in case(), edit in universe::edit()) {
        resources.database.spec.mode = Mode::Enforce;
        settle(&mut world, &resources);
        let before = plan(&world, &resources);
        for (id, verdict) in &before.verdicts {
            let Verdict::NeedsApproval(HeldPlan { digest, statements, .. }) = verdict else { continue };
            let mut approved = resources.clone();
            universe::approve(&mut approved, id, &digest.0);
            let after = plan(&world, &approved);
            prop_assert_eq!(after.verdicts.get(id), Some(&Verdict::Pending));
            prop_assert_eq!(&statements_for(&world, &after, id), statements);
            if id.resource.kind != Kind::RetentionPolicy {
                // What waited for it may go on with it.
                continue;
            }
            prop_assert!(after.steps.iter().all(|step| step.claim == *id), "{:?}", after.steps);

            // Another spec, and another catalog: the approval is for something else.
            let mut changed = approved.clone();
            universe::apply(&mut changed, id, &edit);
            let plan_changed = plan(&world, &changed);
            let now = statements_for(&world, &plan_changed, id);
            let harmless = plan_changed.steps.iter().filter(|s| s.claim == *id).all(|s| !s.hazards.iter().any(|h| matches!(h, Hazard::DeletesData(_))));
            prop_assert!(now == *statements || harmless, "{now:?} was approved as {statements:?}");
            if let Some(Verdict::NeedsApproval(held)) = plan_changed.verdicts.get(id) {
                prop_assert_eq!(held.stale_approval.as_ref(), Some(digest));
            }
            let mut moved = world.clone();
            for drops in moved.drops.values_mut() {
                drops.oldest = Some("2020-02-02T00:00:00Z".parse().expect("a time"));
            }
            let stale = matches!(plan(&moved, &approved).verdicts.get(id), Some(Verdict::NeedsApproval(held)) if held.stale_approval.as_ref() == Some(digest));
            // A policy in force goes on dropping what is oldest: that alone makes nobody's approval stale.
            let has = |call: &str| statements.iter().any(|text| text.contains(call));
            let new = has("add_retention_policy") && !has("remove_retention_policy");
            prop_assert!(stale || !new, "the approval outlived the catalog it was given on");
        }
    }

    #[test]
    fn shrinking_and_restoring_before_approval_leaves_no_trace(Case { mut world, mut resources } in case(), edit in universe::edit()) {
        resources.database.spec.mode = Mode::Enforce;
        settle(&mut world, &resources);
        let before = plan(&world, &resources);
        for (id, verdict) in before.verdicts.iter().filter(|(id, _)| id.resource.kind == Kind::RetentionPolicy) {
            let mut shrunk = resources.clone();
            universe::apply(&mut shrunk, id, &edit);
            let held = plan(&world, &shrunk);
            if !matches!(held.verdicts.get(id), Some(Verdict::NeedsApproval(_))) {
                continue;
            }
            prop_assert!(held.steps.iter().all(|step| step.claim != *id), "held, and done all the same");
            let mut later = world.clone();
            held.steps.iter().filter(|step| step.claim.resource != id.resource).for_each(|step| later.carry_out(&step.action));
            let restored = plan(&later, &resources);
            prop_assert!(restored.steps.iter().all(|step| step.claim != *id));
            prop_assert_eq!(restored.verdicts.get(id), Some(verdict));
        }
    }

    /// Whatever fails on the way: a pair that was safe never becomes unsafe by our hand, and one that was unsafe never
    /// becomes worse.
    #[test]
    fn retention_never_reaches_into_a_refresh_window_by_our_hand(Case { mut world, resources } in case(), fails in failures()) {
        for pass in 0..3 {
            let mut before = unsafe_pairs(&world.catalog);
            let Plan { steps, .. } = plan(&world, &resources);
            carry_out_some(&mut world, &steps, &fails, pass, |world, step| {
                let mut after = world.clone();
                after.carry_out(&step.action);
                if let Action::SwapAggregate(swap) = &step.action {
                    // What is replaced goes on under another name until it is dropped.
                    let renamed = |(source, aggregate): &Pair| (source.clone(), if *aggregate == swap.relation { swap.replaced.clone() } else { aggregate.clone() });
                    let renamed: Vec<_> = before.iter().map(|(pair, found)| (renamed(pair), *found)).collect();
                    before.extend(renamed);
                }
                for (pair, now) in unsafe_pairs(&after.catalog) {
                    let Some(found) = before.get(&pair) else {
                        return Err(TestCaseError::fail(format!("{pair:?} became unsafe, {now:?}, by {step:?}")));
                    };
                    prop_assert!(now.reach >= found.reach && now.start <= found.start, "{pair:?} became worse, {found:?} -> {now:?}, by {step:?}");
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn no_name_is_left_unquoted(Case { mut world, resources } in case()) {
        let names = universe::names_in(&world, &resources);
        let mut observed = resources.clone();
        observed.database.spec.mode = Mode::Observe;
        let shown = plan(&world, &observed);
        for verdict in shown.verdicts.values() {
            if let Verdict::Drifted(held) = verdict {
                for text in &held.statements {
                    lexer::check(text, &names).map_err(TestCaseError::fail)?;
                }
            }
        }
        for plan in settle(&mut world, &resources) {
            for step in &plan.steps {
                for text in statements(&world, step) {
                    lexer::check(&text, &names).map_err(TestCaseError::fail)?;
                }
            }
        }
    }
}

/// The laws would hold in an empty universe too: in this one everything happens.
#[test]
fn everything_happens_in_this_universe() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..800 {
        let Case { mut world, resources } = case().new_tree(&mut runner).expect("a case").current();
        let mut observed = resources.clone();
        observed.database.spec.mode = Mode::Observe;
        let shown = plan(&world, &observed);
        for plan in settle(&mut world, &resources).into_iter().chain([shown]) {
            let actions = plan.steps.iter().map(|step| step.action.name().to_owned());
            let after = plan.steps.iter().filter(|step| !step.after.is_empty()).map(|_| "after".to_owned());
            let verdicts = plan.verdicts.values().map(|verdict| match verdict {
                Verdict::Rejected(rejection) => rejection.reason.to_string(),
                other => format!("{other:?}").split('(').next().unwrap_or_default().to_owned(),
            });
            actions.chain(after).chain(verdicts).for_each(|what| *seen.entry(what).or_default() += 1);
        }
    }
    let expected = [
        "create_hypertable",
        "set_chunk_interval",
        "set_integer_now",
        "set_chunk_skipping",
        "attach_tablespace",
        "detach_tablespace",
        "add_dimension",
        "set_partitions",
        "build_index",
        "place_index",
        "create_index",
        "drop_index",
        "set_compression",
        "add_policy",
        "alter_policy",
        "replace_policy",
        "remove_policy",
        "create_aggregate",
        "fill_aggregate",
        "swap_aggregate",
        "set_materialized_only",
        "drop_aggregate",
        "after",
        "InSync",
        "Pending",
        "WaitingOn",
        "NeedsApproval",
        "Drifted",
        "Overridden",
        "Released",
        "Conflicted",
        "IncompatibleIndex",
        "InvalidSpec",
        "JobFailed",
        "LicenseRequired",
        "LockTimeout",
        "NotAllowed",
        "QueryChanged",
        "ReadOnly",
        "TableNotEmpty",
        "TableNotFound",
        "UnsafePolicy",
        "UnsupportedVersion",
    ];
    let missing: Vec<_> = expected.iter().filter(|what| !seen.contains_key(**what)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}, only {seen:#?}");
}

/// What a resource that is let go of may undo.
struct Releases {
    deleted: bool,
    finalizer: bool,
    asked_for: bool,
}

fn releases(resources: &Resources, id: &ClaimId) -> Releases {
    fn of<K: ResourceExt>(resource: &K, asked_for: bool) -> Releases {
        let finalizer = resource.finalizers().iter().any(|f| f == FINALIZER);
        Releases { deleted: resource.meta().deletion_timestamp.is_some(), finalizer, asked_for }
    }
    let let_in = id.resource.namespace.is_none() || resources.database.spec.allowed_namespaces.from == From::All;
    let delete = let_in && resources.database.spec.deletion_policy == DatabaseDeletion::Delete;
    let aggregates = resources.aggregates.iter().filter(|_| id.resource.kind == Kind::ContinuousAggregate);
    let compression = resources.compression.iter().filter(|_| id.resource.kind == Kind::CompressionPolicy);
    let retention = resources.retention.iter().filter(|_| id.resource.kind == Kind::RetentionPolicy);
    let found = aggregates
        .filter(|r| r.name_any() == id.resource.name)
        .map(|r| of(&**r, delete && r.spec.deletion_policy == AggregateDeletion::Delete))
        .chain(
            compression
                .filter(|r| r.name_any() == id.resource.name)
                .map(|r| of(&**r, delete && r.spec.deletion_policy == PolicyDeletion::Delete)),
        )
        .chain(
            retention
                .filter(|r| r.name_any() == id.resource.name)
                .map(|r| of(&**r, delete && r.spec.deletion_policy == PolicyDeletion::Delete)),
        );
    found.last().unwrap_or(Releases { deleted: false, finalizer: false, asked_for: false })
}

/// The resources of this kind, not being deleted and readable, that claim the object.
fn claimants(resources: &Resources, kind: Kind, object: &Relation) -> Vec<ClaimId> {
    use timescaledb_policy_operator::desired::{Intent, Target};
    let desired = resources.desired();
    let claims = desired.claims.iter().filter(|claim| claim.id.resource.kind == kind);
    let claims = claims.filter(|claim| match &claim.intent {
        Intent::Ensure(Target::Aggregate(target)) => target.relation == *object,
        Intent::Ensure(Target::Compression(target)) => target.on.relation == *object,
        Intent::Ensure(Target::Retention(target)) => target.on.relation == *object,
        _ => false,
    });
    claims.map(|claim| claim.id.clone()).collect()
}

/// A source and an aggregate that reads it.
type Pair = (Relation, Relation);

/// How far back rows are certain to be there, and how far back the refresh reaches; in microseconds, or units.
#[derive(Clone, Copy, Debug)]
struct Unsafe {
    reach: i128,
    start: i128,
}

/// Retention jobs that run, with the refresh jobs that run over the same rows and reach behind them; of several refresh
/// jobs on one aggregate the one that reaches the furthest.
fn unsafe_pairs(catalog: &Catalog) -> BTreeMap<Pair, Unsafe> {
    let mut pairs: BTreeMap<Pair, Unsafe> = BTreeMap::new();
    for retention in catalog.jobs.iter().filter(|job| job.scheduled) {
        let Policy::Retention { after: Some(age) } = retention.policy else { continue };
        let Some(source) = catalog.name_of(retention.hypertable_id) else { continue };
        let chunk = catalog.host(source).and_then(Hypertable::chunk_interval);
        let reach = match (age, chunk) {
            (Age::OlderThan(span), _) => length(span),
            // A chunk may go a chunk's length after its newest row.
            (Age::CreatedBefore(age), Some(Span::Time(chunk))) => (age.total_micros() - chunk.total_micros()).max(0),
            (Age::CreatedBefore(_), _) => 0,
        };
        for (name, aggregate) in catalog.readers(retention.hypertable_id) {
            let refreshes = |job: &&Job| job.scheduled && job.hypertable_id == aggregate.hypertable.id;
            for refresh in catalog.jobs.iter().filter(refreshes) {
                let Policy::Refresh { start_offset, .. } = refresh.policy else { continue };
                let start = start_offset.map_or(i128::MAX, length);
                if start >= reach {
                    let found = pairs.entry((source.clone(), name.clone())).or_insert(Unsafe { reach, start });
                    found.start = found.start.max(start);
                }
            }
        }
    }
    pairs
}

fn length(span: Span) -> i128 {
    match span {
        Span::Time(interval) => interval.total_micros(),
        Span::Integer(units) => i128::from(units),
    }
}
