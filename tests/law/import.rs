//! A plan of what is imported is empty, whatever the database looks like.

#![allow(clippy::panic, reason = "helpers of tests fail like tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use timescaledb_policy_operator::{
    api::types::Relation,
    catalog::Answers,
    import::{AggregateDetails, Details, Imported, Options, Source, import},
    plan::{self, step::Verdict},
    sql,
};

use super::{
    config,
    fixture::{resources::Resources, world::World},
    universe::{Case, case},
};

/// What the import reads of this world besides the catalog.
fn details(world: &World) -> Details {
    let name = |id| world.catalog.name_of(id).map_or_else(|| "public.t".to_owned(), sql::quote_relation);
    let aggregates = world.catalog.aggregates.iter().map(|(relation, live)| {
        let made_with = world.definitions.get(relation).cloned();
        let query = made_with.unwrap_or_else(|| format!("SELECT 1 AS bucket FROM {} GROUP BY 1", name(live.source_id)));
        // One that is not the live one comes first.
        let queries = Ok(vec![format!("SELECT 2 AS other FROM {}", name(live.source_id)), query]);
        (relation.clone(), AggregateDetails { queries, grouped_by: BTreeSet::new() })
    });
    Details { database: "Plant".to_owned(), aggregates: aggregates.collect(), ..Details::default() }
}

/// Asked again with the answers until there is no question left.
pub fn imported(world: &World, options: &Options) -> Imported {
    let (details, mut answers) = (details(world), Answers::new());
    for _ in 0..8 {
        match import(Source { catalog: &world.catalog, details: &details }, options, &answers) {
            Ok(imported) => return imported,
            Err(questions) => {
                for question in questions {
                    let answer = world.answer(&question);
                    assert!(answers.insert(question.clone(), answer).is_none(), "asked again: {question:?}");
                }
            }
        }
    }
    panic!("the import goes on asking")
}

/// What is written, as a cluster would hold it.
fn read_back(text: &str) -> Resources {
    let manifests: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    Resources::read(manifests.into_iter().filter(|m| !m.is_null()).collect()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), proptest::option::of(Just("*0".to_owned()))).prop_map(|(namespace, table)| Options {
        namespace: namespace.then(|| "factory".to_owned()),
        table: table.and_then(|pattern| pattern.parse().ok()),
        ..Options::default()
    })
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_plan_of_what_is_imported_is_empty(Case { world, .. } in case(), options in options()) {
        prop_assume!(plan::unusable(&world.catalog.server, timescaledb_policy_operator::api::timescale_database::Mode::Enforce).is_none());
        let text = imported(&world, &options).render().unwrap();
        let resources = read_back(&text);
        let plan = world.plan(&resources.desired(), &resources.rules());
        prop_assert!(plan.steps.is_empty(), "{:#?}\n{text}", plan.steps);
        for (id, verdict) in &plan.verdicts {
            prop_assert_eq!(verdict, &Verdict::InSync, "{}\n{}", id, text);
        }
    }

    /// What the planner has nothing to say of is not left out.
    #[test]
    fn every_object_has_a_resource_or_a_comment_that_says_why_not(Case { world, .. } in case()) {
        let imported = imported(&world, &Options::default());
        let left_over = |relation: &&Relation| relation.name.as_str().starts_with("tsdbop_");
        let objects = world.catalog.hypertables.len() + world.catalog.aggregates.keys().filter(|r| !left_over(r)).count();
        let sections = imported.sections.len() - 1;
        prop_assert!(sections >= objects, "{sections} of {objects}");
        let mut names = BTreeSet::new();
        for section in &imported.sections {
            prop_assert!(names.insert(section.name.clone()), "{} is there twice", section.name);
            for document in &section.documents {
                prop_assert!(document.resource.is_some() || !document.remarks.is_empty());
            }
        }
    }

    #[test]
    fn the_same_database_is_the_same_bytes(Case { world, .. } in case()) {
        let render = || imported(&world, &Options::default()).render().unwrap();
        prop_assert_eq!(render(), render());
    }
}
