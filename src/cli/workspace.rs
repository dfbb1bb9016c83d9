//! What a command is to look at: manifests, the cluster's resources under them, and the databases that they belong to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, ObjectMeta},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    connection::{self, Connection, cluster_failure},
    manifests::{Files, Manifests, Place},
};
use crate::{
    api::{
        TimescaleDatabase, schema,
        status::Reason,
        timescale_database::{self, DefaultSource},
    },
    args::Defaults,
    db::credentials::Endpoint,
    desired::{self, Attached, Targeting},
    error::{Class, Failure},
    monitoring::DatabaseKey,
    resources::Resources,
    secret,
};

/// Options that say what is wanted of which database.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Options {
    /// The manifests.
    #[command(flatten)]
    pub files: Files,
    /// The database, or the cluster that knows it.
    #[command(flatten)]
    pub connection: Connection,
    /// The operator's own defaults, where there is no cluster to ask.
    #[command(flatten)]
    pub defaults: Defaults,
}

/// One database, and what is wanted of it.
#[derive(Clone)]
pub struct Subject {
    /// Namespace and name of its `TimescaleDatabase`.
    pub key: DatabaseKey,
    /// The resource; one with nothing but defaults where there is none.
    pub database: Arc<TimescaleDatabase>,
    /// What belongs to it.
    pub attached: Attached,
    /// Where it is.
    pub endpoint: Endpoint,
}

/// Everything that the options lead to.
pub struct Workspace {
    /// The databases.
    pub subjects: Vec<Subject>,
    /// Where each resource of the manifests is, by kind, namespace and name.
    pub places: BTreeMap<(String, String, String), Place>,
    /// What a person should know about what was read.
    pub notes: Vec<String>,
}

/// Where a namespace is neither given nor known.
const DEFAULT_NAMESPACE: &str = "default";

/// Reads the manifests and finds their databases. With a database named directly there is no cluster: the manifests are all
/// there is. Otherwise they are taken as if they had been applied to the cluster, and the databases' own secrets are used.
///
/// # Errors
/// When the manifests have problems, a policy leads nowhere, or it is not clear which database is meant.
pub async fn gather(options: Options) -> Result<Workspace, Failure> {
    let Options { files, connection, defaults } = options;
    let defaults = defaults.into();
    let workspace = match connection.address()? {
        Some(endpoint) => {
            let namespace = connection.cluster.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
            alone(files.read(namespace)?, &connection, endpoint, &defaults)?
        }
        None => in_cluster(&files, &connection, &defaults).await?,
    };
    unreadable(&workspace)?;
    Ok(workspace)
}

/// What the definitions let pass and no database is needed to refuse: `dropAfter: 1 yeer`.
fn unreadable(workspace: &Workspace) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for Subject { key: (home, _), database, attached, .. } in &workspace.subjects {
        for (claim, rejection) in desired::collect(database, attached).rejected {
            let resource = &claim.resource;
            let namespace = resource.namespace.clone().unwrap_or_else(|| home.clone());
            let place = workspace.places.get(&(resource.kind.as_str().to_owned(), namespace, resource.name.clone()));
            if let (Some(place), Reason::InvalidSpec) = (place, rejection.reason) {
                problems.push(format!("{place}: {claim}: {}", rejection.message));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} in the manifests:\n  {}", plural(problems.len(), "problem", "problems"), problems.join("\n  "));
    Err(Failure::new(Class::User, Reason::InvalidSpec, message))
}

fn alone(
    manifests: Manifests,
    connection: &Connection,
    endpoint: Endpoint,
    defaults: &timescale_database::Defaults,
) -> Result<Workspace, Failure> {
    let Manifests { resources, places, foreign } = manifests;
    untargeted(&resources, &places)?;
    let keys = resources.database_keys();
    let meant: Vec<_> = keys
        .iter()
        .filter(|(namespace, name)| {
            connection.database.as_ref().is_none_or(|wanted| wanted == name)
                && connection.cluster.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
        })
        .collect();
    let [key] = meant[..] else {
        let all: Vec<_> = keys.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
        let message = match &all[..] {
            [] => "the manifests hold no resource of this operator".to_owned(),
            all if meant.is_empty() => format!(
                "nothing in the manifests belongs to the TimescaleDatabase that is named; they are for {}",
                all.join(", ")
            ),
            all => format!(
                "the manifests are for the databases {}; say with --database NAME (and -n NAMESPACE) which of them the URL leads to",
                all.join(", ")
            ),
        };
        return Err(Failure::new(Class::User, Reason::InvalidSpec, message));
    };
    let mut notes = foreign_note(foreign);
    let others = keys.iter().filter(|other| *other != key).map(|(ns, name)| format!("{ns}/{name}"));
    let others: Vec<_> = others.collect();
    if !others.is_empty() {
        notes.push(format!("left out: what belongs to {}", others.join(", ")));
    }
    let database = if let Some(database) = resources.database(key) {
        database.clone()
    } else {
        notes.push(format!(
                "there is no TimescaleDatabase {} in the manifests: its mode, guards and defaults are taken to be as they are when left out",
                key.1
            ));
        Arc::new(undeclared(key)?)
    };
    let (database, _) = desired::with_operator_defaults(&database, defaults);
    let attached = resources.attached(key);
    let subject = Subject { key: key.clone(), database, attached, endpoint };
    Ok(Workspace { subjects: vec![subject], places, notes })
}

/// A `TimescaleDatabase` with nothing but defaults.
fn undeclared((namespace, name): &DatabaseKey) -> Result<TimescaleDatabase, Failure> {
    let manifest = serde_json::json!({
        "apiVersion": TimescaleDatabase::api_version(&()),
        "kind": TimescaleDatabase::kind(&()),
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"connection": {"secretRef": {"name": name}}},
    });
    serde_json::from_value(manifest).map_err(|e| Failure::new(Class::Bug, Reason::InternalError, e.to_string()))
}

fn foreign_note(foreign: usize) -> Vec<String> {
    match foreign {
        0 => Vec::new(),
        1 => vec!["1 manifest of another kind was left out".to_owned()],
        n => vec![format!("{n} manifests of other kinds were left out")],
    }
}

/// A policy without a target would be waiting for one; in manifests that is a mistake.
fn untargeted(resources: &Resources, places: &BTreeMap<(String, String, String), Place>) -> Result<(), Failure> {
    fn lost<P: Targeting + Resource<DynamicType = ()>>(
        policies: &[Arc<P>],
        places: &BTreeMap<(String, String, String), Place>,
    ) -> Vec<String> {
        let said = policies.iter().filter_map(|policy| {
            let (kind, namespace, name) =
                (P::kind(&()).into_owned(), policy.namespace().unwrap_or_default(), policy.name_any());
            let place = places.get(&(kind.clone(), namespace.clone(), name.clone()))?;
            let what = match (policy.target_ref(), policy.target_selector()) {
                (Some(reference), _) => format!(
                    "spec.targetRef: there is no {} {} in namespace {namespace}",
                    reference.kind.as_str(),
                    reference.name
                ),
                (None, Some(selector)) => {
                    format!("spec.targetSelector selects no {} in namespace {namespace}", selector.kind.as_str())
                }
                (None, None) => "names no target".to_owned(),
            };
            Some(format!("{place}: {kind} {name}: {what}"))
        });
        said.collect()
    }
    let mut problems = lost(&resources.untargeted(&resources.compression), places);
    problems.extend(lost(&resources.untargeted(&resources.retention), places));
    if problems.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} without a target:\n  {}", plural(problems.len(), "policy", "policies"), problems.join("\n  "));
    Err(Failure::new(Class::User, Reason::TargetNotFound, message))
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

async fn in_cluster(
    files: &Files,
    connection: &Connection,
    defaults: &timescale_database::Defaults,
) -> Result<Workspace, Failure> {
    let client = connection.cluster.client().await?;
    let Manifests { resources: wanted, places, foreign } = files.read(&connection.cluster.namespace(&client))?;
    let keys = wanted.database_keys();
    let mut namespaces: BTreeSet<_> = places.keys().map(|(_, namespace, _)| namespace.clone()).collect();
    namespaces.extend(keys.iter().map(|(namespace, _)| namespace.clone()));
    let mut resources = live(&client, &namespaces).await?;
    let wanted = succeeding(&resources, wanted, &places)?;
    resources.overlay(wanted);
    untargeted(&resources, &places)?;
    let mut touched = keys;
    // A policy belongs to the database of its target, which may be in the cluster.
    for key in resources.database_keys() {
        let attached = resources.attached(&key);
        let is_ours = |kind: &str, meta: &ObjectMeta| {
            let (namespace, name) = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            places.contains_key(&(kind.to_owned(), namespace, name))
        };
        if attached.compression.iter().any(|(policy, _)| is_ours("CompressionPolicy", &policy.metadata))
            || attached.retention.iter().any(|(policy, _)| is_ours("RetentionPolicy", &policy.metadata))
        {
            touched.insert(key);
        }
    }
    touched.retain(|(_, name)| connection.database.as_ref().is_none_or(|wanted| wanted == name));
    if touched.is_empty() {
        let message = "the manifests lead to no database";
        return Err(Failure::new(Class::User, Reason::InvalidSpec, message));
    }
    let mut subjects = Vec::new();
    for key in touched {
        let (namespace, name) = &key;
        let database = match resources.database(&key) {
            Some(database) => database.clone(),
            None => Arc::new(connection::find(&client, namespace, name).await?),
        };
        let endpoint = secret::endpoint(&database, namespace, &client).await?;
        let defaults = of_operator(&database).unwrap_or_else(|| defaults.clone());
        let (database, _) = desired::with_operator_defaults(&database, &defaults);
        let attached = resources.attached(&key);
        subjects.push(Subject { key, database, attached, endpoint });
    }
    Ok(Workspace { subjects, places, notes: foreign_note(foreign) })
}

/// The operator's own defaults, as the status of the database tells them.
fn of_operator(database: &TimescaleDatabase) -> Option<timescale_database::Defaults> {
    let told = database.status.as_ref()?.defaults.as_ref()?;
    let of = |default: &Option<timescale_database::EffectiveDefault>| {
        let default = default.as_ref().filter(|default| default.source == DefaultSource::Operator)?;
        desired::operator_default(&default.value).ok()
    };
    Some(timescale_database::Defaults {
        chunk_interval: of(&told.chunk_interval),
        compress_after: of(&told.compress_after),
        drop_after: of(&told.drop_after),
    })
}

/// All resources of a namespace, or of the cluster.
///
/// # Errors
/// When they cannot be read.
pub async fn everything(client: &Client, namespace: Option<&str>) -> Result<Resources, Failure> {
    Ok(Resources {
        databases: list_in(client, namespace).await?,
        hypertables: list_in(client, namespace).await?,
        aggregates: list_in(client, namespace).await?,
        compression: list_in(client, namespace).await?,
        retention: list_in(client, namespace).await?,
        namespaces: BTreeMap::new(),
    })
}

async fn list_in<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<Arc<K>>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let found = api.list(&ListParams::default()).await;
    let found = found.map_err(|error| {
        let place = namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"));
        cluster_failure(&format!("listing {} in {place}", K::plural(&())), &error)
    })?;
    Ok(found.items.into_iter().map(Arc::new).collect())
}

/// The resources of the cluster: of all namespaces, or of these where the user may not see all.
async fn live(client: &Client, namespaces: &BTreeSet<String>) -> Result<Resources, Failure> {
    let mut labels = BTreeMap::new();
    for name in namespaces {
        // Who may not read a namespace learns nothing of its labels; only databases that select namespaces look at them.
        if let Ok(Some(namespace)) = Api::<Namespace>::all(client.clone()).get_metadata_opt(name).await {
            labels.insert(name.clone(), namespace.labels().clone());
        }
    }
    Ok(Resources {
        databases: list(client, namespaces).await?,
        hypertables: list(client, namespaces).await?,
        aggregates: list(client, namespaces).await?,
        compression: list(client, namespaces).await?,
        retention: list(client, namespaces).await?,
        namespaces: labels,
    })
}

/// All resources of a kind, or those in these namespaces where the user may not see all.
async fn list<K>(client: &Client, namespaces: &BTreeSet<String>) -> Result<Vec<Arc<K>>, Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    match list_in(client, None).await {
        Err(failure) if failure.reason == Reason::PermissionDenied => {}
        listed => return listed,
    }
    let mut all = Vec::new();
    for namespace in namespaces {
        all.extend(list_in(client, Some(namespace)).await?);
    }
    Ok(all)
}

/// The manifests as the API server would store them over what is there: with the metadata that it keeps, and where the
/// definitions allow the change.
fn succeeding(
    live: &Resources,
    wanted: Resources,
    places: &BTreeMap<(String, String, String), Place>,
) -> Result<Resources, Failure> {
    let mut problems = Vec::new();
    let Resources { databases, hypertables, aggregates, compression, retention, namespaces } = wanted;
    let resources = Resources {
        databases: succeed(&live.databases, databases, places, &mut problems)?,
        hypertables: succeed(&live.hypertables, hypertables, places, &mut problems)?,
        aggregates: succeed(&live.aggregates, aggregates, places, &mut problems)?,
        compression: succeed(&live.compression, compression, places, &mut problems)?,
        retention: succeed(&live.retention, retention, places, &mut problems)?,
        namespaces,
    };
    if problems.is_empty() {
        return Ok(resources);
    }
    let message = format!(
        "the cluster would refuse {}:\n  {}",
        plural(problems.len(), "change", "changes"),
        problems.join("\n  ")
    );
    Err(Failure::new(Class::User, Reason::InvalidSpec, message))
}

fn succeed<K>(
    live: &[Arc<K>],
    wanted: Vec<Arc<K>>,
    places: &BTreeMap<(String, String, String), Place>,
    problems: &mut Vec<String>,
) -> Result<Vec<Arc<K>>, Failure>
where
    K: Resource<DynamicType = ()> + Clone + Serialize,
{
    let value =
        |k: &K| serde_json::to_value(k).map_err(|e| Failure::new(Class::Bug, Reason::InternalError, e.to_string()));
    let mut all = Vec::new();
    for resource in wanted {
        let mut resource = Arc::unwrap_or_clone(resource);
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        let before = live.iter().find(|l| l.name_any() == name && l.namespace().as_deref() == Some(&namespace));
        let Some(before) = before else {
            // Resources that are there already go before new ones.
            resource.meta_mut().creation_timestamp = Some(Time(Timestamp::now()));
            all.push(Arc::new(resource));
            continue;
        };
        let place = places.get(&(K::kind(&()).into_owned(), namespace, name.clone()));
        for violation in schema::violations(&K::kind(&()), &value(&resource)?, Some(&value(before)?)) {
            let at = place.map_or_else(String::new, |place| format!("{place}: "));
            problems.push(format!("{at}{} {name}: {violation}", K::kind(&())));
        }
        let kept = before.meta().clone();
        let own = std::mem::take(resource.meta_mut());
        let mut annotations = kept.annotations.clone().unwrap_or_default();
        annotations.extend(own.annotations.unwrap_or_default());
        *resource.meta_mut() = ObjectMeta { annotations: Some(annotations), labels: own.labels, ..kept };
        all.push(Arc::new(resource));
    }
    Ok(all)
}
