//! A generated campaign of operations in the manner of Acto: every property of every kind is changed in all the ways that its
//! schema and its meaning allow or forbid, over real servers, and after each change the oracles look whether the database is
//! what the resources say.
//!
//! `make campaign` runs all of it; `cargo test --test campaign` a slice. `CAMPAIGN_SEED` repeats one, `CAMPAIGN_OPERATIONS`
//! says how many (or `all`), `CAMPAIGN_ONLY` which ones (a part of `Kind field`).

#![allow(clippy::pedantic, reason = "tests are written to be read, and counts are compared as the metrics print them")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

#[path = "campaign/catalog.rs"]
mod catalog;
#[path = "campaign/fields.rs"]
mod fields;
#[path = "campaign/operation.rs"]
mod operation;
#[path = "campaign/scene.rs"]
mod scene;
#[path = "campaign/schema.rs"]
mod schema;
#[path = "campaign/servers.rs"]
mod servers;
mod support;
#[path = "campaign/walk.rs"]
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use operation::Operation;
use schema::Property;
use serde_json::json;
use servers::{Cluster, Plant, Way};
use support::Result;
use walk::{Alarm, HOME, Walk};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(60);
/// Operations of the slice.
const SLICE: usize = 56;
/// Operations of one walk.
const LENGTH: usize = 30;
/// Walks that go on at once.
const ABREAST: usize = 6;

/// Looks again and again until there is something to see.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(Some(seen)) => return Ok(seen),
            result if Instant::now() > deadline => {
                let error = result.err().map_or_else(String::new, |error| format!(": {error}"));
                return Err(format!("not seen within {PATIENCE:?}: {what}{error}").into());
            }
            Ok(None) | Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// All operations, in the order of the fields.
fn operations() -> Vec<Operation> {
    let properties = schema::properties();
    let mut all = Vec::new();
    for field in fields::fields() {
        let property = properties
            .iter()
            .find(|property| (property.kind.as_str(), property.path.as_str()) == (field.kind, field.path));
        all.extend(property.map(|property| field.operations(property)).unwrap_or_default());
    }
    // Two fields of one property, in two scenes, have what the schema says in common: once in each scene is enough.
    let mut seen = BTreeSet::new();
    all.retain(|operation| seen.insert(format!("{} {} {:?}", operation.scene, operation.title(), operation.approve)));
    all
}

#[test]
fn every_property_is_tried() {
    let fields = fields::fields();
    let properties = schema::properties();
    let of = |property: &Property| {
        fields
            .iter()
            .filter(|field| (field.kind, field.path) == (property.kind.as_str(), property.path.as_str()))
            .collect::<Vec<_>>()
    };
    let mut missing = Vec::new();
    for property in &properties {
        let Property { kind, path, .. } = property;
        let fields = of(property);
        if fields.is_empty() {
            missing.push(format!("{kind} {path} has no generator"));
        } else if property.leaf && !fields.iter().any(|field| field.has_valid_value() || field.exempt.is_some()) {
            missing.push(format!("{kind} {path} gets no valid value, and no reason is given"));
        } else if property.leaf
            && !property.is_item()
            && fields.iter().all(|field| field.left_out.is_none() && field.exempt.is_none())
        {
            missing.push(format!("{kind} {path} is never left out"));
        }
    }
    for field in &fields {
        if !properties
            .iter()
            .any(|property| (property.kind.as_str(), property.path.as_str()) == (field.kind, field.path))
        {
            missing.push(format!("{} {} is in no schema", field.kind, field.path));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    let operations = operations();
    println!(
        "{} properties, {} operations",
        properties.iter().filter(|property| property.leaf).count(),
        operations.len()
    );
    assert!(operations.len() >= 400, "only {} operations", operations.len());
}

/// The operations to carry out: all that are asked for, or a slice in which every scene and every sort has its share.
fn chosen(rng: &mut Rng) -> Vec<Operation> {
    let mut all = operations();
    if let Ok(only) = std::env::var("CAMPAIGN_ONLY") {
        all.retain(|operation| {
            format!("{} {} {} {}", operation.scene, operation.kind, operation.field, operation.sort).contains(&only)
        });
    }
    rng.shuffle(&mut all);
    let wanted = match std::env::var("CAMPAIGN_OPERATIONS") {
        Ok(text) if text == "all" => all.len(),
        Ok(text) => text.parse().expect("CAMPAIGN_OPERATIONS is a number, or all"),
        Err(_) => SLICE,
    };
    if wanted >= all.len() {
        return all;
    }
    // One after the other from each kind and sort.
    let mut groups: BTreeMap<(&str, &str), Vec<Operation>> = BTreeMap::new();
    for operation in all {
        groups.entry((operation.kind, operation.sort)).or_default().push(operation);
    }
    let mut chosen = Vec::new();
    while chosen.len() < wanted {
        for group in groups.values_mut() {
            chosen.extend(group.pop());
        }
    }
    rng.shuffle(&mut chosen);
    chosen.truncate(wanted);
    chosen
}

/// The walks: operations of one scene, those that lose something last.
fn walks(rng: &mut Rng, operations: Vec<Operation>, length: usize) -> Vec<(&'static str, Vec<Operation>)> {
    let mut walks = Vec::new();
    for name in scene::SCENES {
        let mut of_scene: Vec<_> = operations.iter().filter(|operation| operation.scene == name).cloned().collect();
        of_scene.sort_by_key(|operation| operation.loses && operation.approve);
        let length = if ["database", "history"].contains(&name) { of_scene.len().max(1) } else { length };
        walks.extend(of_scene.chunks(length).map(|chunk| (name, chunk.to_vec())));
    }
    rng.shuffle(&mut walks);
    // The database's own walk is the longest.
    walks.sort_by_key(|(name, _)| *name != "database");
    walks
}

/// A database under a `TimescaleDatabase` of the home namespace.
async fn plant(cluster: &Cluster, name: &str) -> Result<Arc<Plant>> {
    let plant = Plant::start().await?;
    cluster.create(&format!("/api/v1/namespaces/{HOME}/secrets"), &plant.secret(HOME, name)?).await?;
    let object = json!({
        "apiVersion": "timescaledb-policy.io/v1alpha1", "kind": "TimescaleDatabase", "metadata": {"name": name, "namespace": HOME},
        "spec": {"connection": {"secretRef": {"name": name}}, "resyncInterval": "1 second", "maxConnections": 8, "allowedNamespaces": {"from": "All"}},
    });
    cluster.send(&object, Way::Apply).await?.map_err(|refusal| refusal.0)?;
    Ok(plant)
}

/// One walk, from its scene to its end.
async fn one_walk(
    cluster: &Cluster,
    number: usize,
    way: Way,
    scene: &'static str,
    operations: Vec<Operation>,
    plants: (&Arc<Plant>, &Arc<Plant>),
) -> (Vec<(Operation, &'static str)>, Vec<Alarm>, Vec<&'static str>) {
    let name = format!("{scene}-{number}");
    let begun = Instant::now();
    let broken = |error: String, operation: &str| Alarm {
        walk: name.clone(),
        oracle: "harness",
        operation: operation.to_owned(),
        text: error,
    };
    let own = if scene == "database" { Plant::start().await.map(Some) } else { Ok(None) };
    let started = match own {
        Err(error) => Err(error),
        Ok(own) => {
            let plant = own.as_ref().unwrap_or(plants.0);
            let started = Walk::start(cluster, Arc::clone(plant), "plant", scene, &name, way).await;
            started.map(|walk| (walk, own))
        }
    };
    let (mut walk, own) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("ALARM {name} does not start: {error}");
            return (Vec::new(), vec![broken(error.to_string(), "start")], Vec::new());
        }
    };
    let set_up = begun.elapsed();
    let mut last = None;
    for operation in &operations {
        last = Some(operation);
        match walk.step(operation).await {
            Ok(true) => {}
            Ok(false) => {
                eprintln!("{name}: ends early, after {} of {}", walk.done.len(), operations.len());
                last = None;
                break;
            }
            Err(error) => {
                walk.alarms.push(broken(error.to_string(), &operation.title()));
                eprintln!("ALARM {name}: {}: {error}", operation.title());
                last = None;
                break;
            }
        }
    }
    let walked = begun.elapsed();
    if let Some(last) = last
        && let Err(error) = walk.compare_with_fresh(plants.1, "mirror", last).await
    {
        walk.alarms.push(broken(error.to_string(), "the fresh database"));
    }
    if let Err(error) = walk.end().await {
        walk.alarms.push(broken(error.to_string(), "the end"));
    }
    let (done, alarms) = (std::mem::take(&mut walk.done), std::mem::take(&mut walk.alarms));
    let known = std::mem::take(&mut walk.known);
    drop(walk);
    println!(
        "{name} ({way:?}): {} operations, set up in {set_up:.1?}, walked until {walked:.1?}, compared until {:.1?}",
        done.len(),
        begun.elapsed()
    );
    if let Some(own) = own
        && let Err(error) = own.end().await
    {
        eprintln!("{name}: {error}");
    }
    (done, alarms, known)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_resources_say_is_what_the_catalog_says() -> Result<()> {
    let seed: u64 = match std::env::var("CAMPAIGN_SEED") {
        Ok(text) => text.parse().expect("CAMPAIGN_SEED is a number"),
        Err(_) => 20_261_121,
    };
    println!("CAMPAIGN_SEED={seed}");
    let begun = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let operations = chosen(&mut rng);
    let wanted = operations.len();
    let length = LENGTH.min(wanted.div_ceil(4).max(8));
    let walks = walks(&mut rng, operations, length);
    let numbered: Vec<_> = walks.into_iter().enumerate().collect();

    let cluster = Cluster::start().await?;
    cluster.namespace(HOME, &json!({})).await?;
    let (plant, mirror) = tokio::try_join!(plant(&cluster, "plant"), plant(&cluster, "mirror"))?;
    println!("servers after {:.1?}; {} walks", begun.elapsed(), numbered.len());
    let ways = [Way::Apply, Way::Replace, Way::Kubectl];
    let each = futures::stream::iter(numbered.into_iter().map(|(number, (scene, operations))| {
        one_walk(&cluster, number, ways[number % ways.len()], scene, operations, (&plant, &mirror))
    }));
    let results: Vec<_> = futures::StreamExt::collect(futures::StreamExt::buffer_unordered(each, ABREAST)).await;
    let (mut done, mut alarms, mut known) = (Vec::new(), Vec::new(), BTreeMap::<_, usize>::new());
    for (of_walk, raised, bugs) in results {
        done.extend(of_walk);
        alarms.extend(raised);
        bugs.into_iter().for_each(|bug| *known.entry(bug).or_default() += 1);
    }

    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (operation, outcome) in &done {
        for key in [
            format!("by kind: {}", operation.kind),
            format!("by sort: {}", operation.sort),
            format!("by outcome: {outcome}"),
            format!("by field: {} {}", operation.kind, operation.field),
        ] {
            *counts.entry(key).or_default() += 1;
        }
    }
    for (name, why) in catalog::RULES {
        println!("rule: {name}: {why}");
    }
    for (bug, count) in &known {
        println!("known bug, {count} times: {bug}");
    }
    for (what, count) in &counts {
        println!("{count:5} {what}");
    }
    println!("{} of {wanted} operations in {:.0?}, {} alarms", done.len(), begun.elapsed(), alarms.len());
    for Alarm { walk, oracle, operation, text } in &alarms {
        println!("ALARM {oracle} in {walk}\n  {operation}\n  {text}");
    }
    drop(done);
    plant.end().await?;
    mirror.end().await?;
    assert!(alarms.is_empty(), "{} alarms; CAMPAIGN_SEED={seed} repeats them", alarms.len());
    Ok(())
}
