//! A report as a patch to resources: for each the fields that should be otherwise, and nothing else. Kustomize takes it as a
//! patch, and `kubectl apply --server-side` as it is.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Map, Value as Json, json};

use super::{Field, Report, Table};
use crate::{
    api::{GROUP, types::TargetKind},
    resources::{Resources, resource_name},
};

/// The resources that a patch is for, as far as their names matter.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Name and namespace of the Hypertable or ContinuousAggregate, by kind, schema and table.
    targets: BTreeMap<(String, String, String), Name>,
    /// Name of the CompressionPolicy, by kind, name and namespace of its target.
    policies: BTreeMap<(String, Name), Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    name: String,
    namespace: Option<String>,
}

impl Names {
    /// The names that these resources have. A namespace that is empty is none.
    pub fn of(resources: &Resources) -> Self {
        let mut names = Self::default();
        let target = |kind: &str, schema: &str, name: &str| (kind.to_owned(), schema.to_owned(), name.to_owned());
        for hypertable in &resources.hypertables {
            let key = target("Hypertable", &hypertable.spec.schema, &hypertable.spec.table);
            names.targets.insert(key, Name::of(&**hypertable));
        }
        for aggregate in &resources.aggregates {
            let key = target("ContinuousAggregate", &aggregate.spec.schema, &aggregate.spec.name);
            names.targets.insert(key, Name::of(&**aggregate));
        }
        for policy in &resources.compression {
            let Some(reference) = &policy.spec.target_ref else { continue };
            let own = Name::of(&**policy);
            let kind = match reference.kind {
                TargetKind::Hypertable => "Hypertable",
                TargetKind::ContinuousAggregate => "ContinuousAggregate",
            };
            let target = Name { name: reference.name.clone(), namespace: own.namespace.clone() };
            names.policies.insert((kind.to_owned(), target), own);
        }
        names
    }
}

impl Name {
    fn of<K: ResourceExt>(resource: &K) -> Self {
        Self { name: resource.name_any(), namespace: resource.namespace().filter(|namespace| !namespace.is_empty()) }
    }
}

/// One document of the patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// What a person should know before it is applied.
    pub comment: Option<String>,
    /// The fields, with what names the resource.
    pub document: Json,
}

/// The fields that should be otherwise, resource by resource.
pub fn documents(report: &Report, names: &Names, namespace: Option<&str>) -> Vec<Patched> {
    report.tables.iter().flat_map(|table| patched(table, names, namespace)).collect()
}

fn patched(table: &Table, names: &Names, namespace: Option<&str>) -> Vec<Patched> {
    let (mut own, mut policy) = (Map::new(), Map::new());
    for setting in &table.settings {
        let Some(recommended) = &setting.recommended else { continue };
        let fields = if setting.field == Field::ChunkInterval { &mut own } else { &mut policy };
        fields.insert(setting.field.as_str().to_owned(), json!(recommended));
    }
    let found = names.targets.get(&(table.kind.to_owned(), table.schema.clone(), table.name.clone()));
    let target = found
        .cloned()
        .unwrap_or_else(|| Name { name: resource_name(&table.name), namespace: namespace.map(str::to_owned) });
    let mut patches = Vec::new();
    let guessed = found.is_none().then(|| format!("the name is made from that of {}.{}", table.schema, table.name));
    if !own.is_empty() {
        patches.push(Patched { comment: guessed.clone(), document: document(table.kind, &target, &own) });
    }
    if !policy.is_empty() {
        let found = names.policies.get(&(table.kind.to_owned(), target.clone()));
        let comment = if found.is_some() {
            None
        } else {
            policy.insert("targetRef".to_owned(), json!({"kind": table.kind, "name": target.name}));
            Some(guessed.unwrap_or_else(|| "no CompressionPolicy in the files names this target: where a targetSelector does, this one goes before it".to_owned()))
        };
        let name = found.unwrap_or(&target);
        patches.push(Patched { comment, document: document("CompressionPolicy", name, &policy) });
    }
    patches
}

fn document(kind: &str, name: &Name, spec: &Map<String, Json>) -> Json {
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name.name))]);
    if let Some(namespace) = &name.namespace {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": metadata, "spec": spec})
}
