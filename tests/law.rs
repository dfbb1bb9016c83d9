//! Laws that hold for every database and every set of resources: property tests over a small universe of names, in which
//! conflicts, adoption, deletions, interlocks and approvals happen all the time.

mod fixture;

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
        continuous_aggregate::AggregateDeletion,
        timescale_database::{DatabaseDeletion, Mode},
        types::{Interval, PolicyDeletion, Relation, Span},
    },
    catalog::{Age, Catalog, Policy},
    desired::{ClaimId, Kind, ResourceId},
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

        let attached = resources.attached();
        let ids = |kind: Kind, names: Vec<String>| names.into_iter().map(move |name| ClaimId::from(ResourceId { kind, namespace: None, name }));
        let expected: BTreeSet<_> = ids(Kind::Hypertable, attached.hypertables.iter().map(|r| r.name_any()).collect())
            .chain(ids(Kind::ContinuousAggregate, attached.aggregates.iter().map(|r| r.name_any()).collect()))
            .chain(ids(Kind::CompressionPolicy, attached.compression.iter().map(|(r, _)| r.name_any()).collect()))
            .chain(ids(Kind::RetentionPolicy, attached.retention.iter().map(|(r, _)| r.name_any()).collect()))
            .collect();
        prop_assert_eq!(first.verdicts.keys().cloned().collect::<BTreeSet<_>>(), expected);
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
        prop_assert!(plans.len() <= 4, "{} passes, still: {:#?}", plans.len(), last.steps);
        prop_assert!(last.steps.is_empty());
        for (id, verdict) in &last.verdicts {
            prop_assert!(!matches!(verdict, Verdict::Pending | Verdict::InProgress(_)), "{id}: {verdict:?}");
        }
        for pair in plans.windows(2) {
            let again = pair[1].steps.iter().find(|step| pair[0].steps.contains(step));
            prop_assert!(again.is_none(), "carried out and wanted again: {again:?}");
        }
    }

    #[test]
    fn only_a_deleted_resource_that_held_the_object_removes_it_and_only_while_nobody_else_claims_it(Case { mut world, resources } in case()) {
        for plan in settle(&mut world, &resources) {
            for step in &plan.steps {
                let (Action::RemovePolicy { relation: object, .. } | Action::DropAggregate { relation: object }) = &step.action else {
                    continue;
                };
                let releases = releases(&resources, &step.claim);
                prop_assert!(releases.deleted, "absence never drops anything: {step:?}");
                prop_assert!(releases.finalizer, "a resource that never held it: {step:?}");
                prop_assert!(releases.asked_for, "nobody asked for it: {step:?}");
                let claimed: Vec<_> = claimants(&resources, step.claim.resource.kind, object);
                prop_assert!(claimed.is_empty(), "{claimed:?} claim what {step:?} removes");
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
                let beyond = |hazard: &Hazard| matches!(hazard, Hazard::DeletesData(drops) if drops.percent() > limit);
                if !step.hazards.iter().any(beyond) {
                    continue;
                }
                let Some(Verdict::NeedsApproval(held)) = shown.verdicts.get(&step.claim) else {
                    return Err(TestCaseError::fail(format!("without approval: {step:?}")));
                };
                prop_assert_eq!(universe::approval(&resources, &step.claim), Some(held.digest.0.clone()));
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
            let new = statements.iter().any(|text| text.contains("add_retention_policy"));
            prop_assert!(stale || !new, "the approval outlived the catalog it was given on");
        }
    }

    /// Whatever fails on the way: a pair that was safe never becomes unsafe by our hand, and one that was unsafe never
    /// becomes worse.
    #[test]
    fn retention_never_reaches_into_a_refresh_window_by_our_hand(Case { mut world, resources } in case(), fails in proptest::collection::vec(proptest::bool::weighted(0.3), 24)) {
        for pass in 0..3 {
            let before = unsafe_pairs(&world.catalog);
            let Plan { steps, .. } = plan(&world, &resources);
            let mut failed = BTreeSet::new();
            for (number, step) in steps.iter().enumerate() {
                let fails = pass < 2 && fails[(number + pass * 12) % fails.len()];
                if fails || failed.contains(&step.claim) || step.after.iter().any(|id| failed.contains(id)) {
                    failed.insert(step.claim.clone());
                    continue;
                }
                world.carry_out(&step.action);
                for (pair, (drop_after, start)) in unsafe_pairs(&world.catalog) {
                    let Some((dropped_after, started)) = before.get(&pair) else {
                        return Err(TestCaseError::fail(format!("{pair:?} became unsafe: drop after {drop_after}, refresh from {start:?}, by {step:?}")));
                    };
                    prop_assert!(drop_after >= *dropped_after && longest(start) <= longest(*started), "{pair:?} became worse by {step:?}");
                }
            }
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
    for _ in 0..500 {
        let Case { mut world, resources } = case().new_tree(&mut runner).expect("a case").current();
        for plan in settle(&mut world, &resources) {
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
        "add_dimension",
        "set_partitions",
        "build_index",
        "place_index",
        "create_index",
        "drop_index",
        "set_compression",
        "add_policy",
        "alter_policy",
        "remove_policy",
        "create_aggregate",
        "set_materialized_only",
        "drop_aggregate",
        "after",
        "InSync",
        "Pending",
        "WaitingOn",
        "NeedsApproval",
        "Released",
        "Conflicted",
        "IncompatibleIndex",
        "InvalidSpec",
        "JobFailed",
        "QueryChanged",
        "TableNotEmpty",
        "TableNotFound",
        "UnsafePolicy",
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
    let delete = resources.database.spec.deletion_policy == DatabaseDeletion::Delete;
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

type Pair = (i32, i32);

/// Retention jobs that run, with the refresh jobs that run over the same rows and reach behind them: the drop after and
/// the start offset of each pair, of several refresh jobs on one aggregate the longest.
fn unsafe_pairs(catalog: &Catalog) -> BTreeMap<Pair, (Interval, Option<Interval>)> {
    let mut pairs = BTreeMap::new();
    for retention in catalog.jobs.iter().filter(|job| job.scheduled) {
        let Policy::Retention { after: Some(Age::OlderThan(Span::Time(drop_after))) } = retention.policy else {
            continue;
        };
        for aggregate in catalog.aggregates.values().filter(|a| a.source_id == retention.hypertable_id) {
            for refresh in
                catalog.jobs.iter().filter(|job| job.scheduled && job.hypertable_id == aggregate.hypertable.id)
            {
                let Policy::Refresh { start_offset, .. } = refresh.policy else { continue };
                let start_offset = start_offset.and_then(Span::time);
                if longest(start_offset) >= drop_after {
                    let pair = pairs
                        .entry((retention.hypertable_id, aggregate.hypertable.id))
                        .or_insert((drop_after, start_offset));
                    if longest(start_offset) > longest(pair.1) {
                        *pair = (drop_after, start_offset);
                    }
                }
            }
        }
    }
    pairs
}

/// A window from the beginning is longer than any other.
fn longest(start: Option<Interval>) -> Interval {
    start.unwrap_or(Interval::from_micros(i64::MAX))
}
