//! A database as it is → the resources that describe it: pure and deterministic.
//!
//! The law: a plan of what is imported is empty, for any database. Every resource is put before the planner
//! ([`judge`]); what the planner would change or refuse is left out, with a remark that says so.
//!
//! The rule of what is written: what says what this object is and what somebody chose. Left out is what TimescaleDB itself
//! would choose for a new object, so that a fresh database comes out the same; it is then not managed, as any field that is
//! left out. `chunkInterval` of a hypertable is always written.
//!
//! Like the planner, an import asks what it cannot know from what was observed: [`import`] again with the answers.

mod describe;
mod details;
mod indexes;
mod jobs;
mod judge;
mod names;
mod spans;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use serde::Serialize;

use crate::{
    api::{
        self, CompressionPolicy, ContinuousAggregate, Hypertable, MADE_BY, RetentionPolicy, TimescaleDatabase,
        compression_policy::CompressionPolicySpec,
        continuous_aggregate::ContinuousAggregateSpec,
        hypertable::HypertableSpec,
        retention_policy::RetentionPolicySpec,
        timescale_database::{
            AllowedNamespaces, Connection, DatabaseDeletion, Guards, HealthThresholds, Mode, SecretRef,
            TimescaleDatabaseSpec, Tls,
        },
        types::{Relation, SqlName, TargetKind, TargetRef},
    },
    catalog::{self, Answers, Catalog, PolicyKind, Question},
    desired::{Attached, PolicyTarget},
    plan::{self, monitoring_schema::Decision},
};
use describe::{Described, Describer};
pub use details::{AggregateDetails, Details, IndexDetails, OtherJob, TableDetails};
use judge::{Finding, Judge, Part, Settled, settle};
pub use names::Pattern;

/// What is imported, and what the resources are called.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Namespace of the resources. `None`: none is written.
    pub namespace: Option<String>,
    /// Name of the `TimescaleDatabase`. `None`: that of the database, as Kubernetes takes it.
    pub name: Option<String>,
    /// Name of the secret that says how to connect. `None`: that of the `TimescaleDatabase` with `-app` behind it.
    pub secret: Option<String>,
    /// Schemas whose tables and aggregates are imported. Empty: all.
    pub schemas: Vec<SqlName>,
    /// Names of the tables and aggregates that are imported. `None`: all.
    pub table: Option<Pattern>,
}

impl Options {
    /// Whether the relation is imported.
    pub fn include(&self, relation: &Relation) -> bool {
        (self.schemas.is_empty() || self.schemas.contains(&relation.schema))
            && self.table.as_ref().is_none_or(|pattern| pattern.matches(relation.name.as_str()))
    }
}

/// What is read of the database.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The catalog, with the indexes of everything that is imported.
    pub catalog: &'a Catalog,
    /// What the catalog does not hold.
    pub details: &'a Details,
}

/// The resources that describe a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The `TimescaleDatabase`, then one section for each hypertable and each continuous aggregate, in the order of their
    /// schemas and names.
    pub sections: Vec<Section>,
}

/// The resources about one object: what a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The kind and the name of the first resource, which no other section has.
    pub name: String,
    /// The object itself, then the policies on it.
    pub documents: Vec<Document>,
}

/// One resource with what there is to say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What it cannot say.
    pub remarks: Vec<String>,
    /// `None`: it is left out, which the remarks say.
    pub resource: Option<Resource>,
}

/// A resource of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A `TimescaleDatabase`.
    Database(Box<TimescaleDatabase>),
    /// A `Hypertable`.
    Hypertable(Arc<Hypertable>),
    /// A `ContinuousAggregate`.
    Aggregate(Arc<ContinuousAggregate>),
    /// A `CompressionPolicy`.
    Compression(Arc<CompressionPolicy>),
    /// A `RetentionPolicy`.
    Retention(Arc<RetentionPolicy>),
}

/// The resources that describe the database, or what must be asked before they are known.
///
/// # Errors
/// The questions that have no answer yet.
pub fn import(source: Source<'_>, options: &Options, answers: &Answers) -> Result<Imported, BTreeSet<Question>> {
    let database = database(source, options);
    let (judge, name) =
        (Judge::new(source.catalog, answers, &database), database.metadata.name.clone().unwrap_or_default());
    let describer = Describer { catalog: source.catalog, details: source.details, database: &name };
    let catalog = source.catalog;
    let relations: BTreeSet<_> = catalog
        .hypertables
        .keys()
        .chain(catalog.aggregates.keys())
        .filter(|relation| options.include(relation))
        .collect();
    let alone = match options.schemas.as_slice() {
        [schema] => Some(schema.as_str()),
        _ => None,
    };
    let names = names::names(relations.iter().copied(), alone);
    let mut importer = Importer { source, options, judge, describer, names };
    let mut sections = vec![importer.database_section(database.clone())];
    for (relation, live) in catalog.hypertables.iter().filter(|(relation, _)| options.include(relation)) {
        sections.push(importer.hypertable(relation, live));
    }
    for (relation, live) in catalog.aggregates.iter().filter(|(relation, _)| options.include(relation)) {
        if !is_left_of_a_rebuild(relation, live) {
            sections.push(importer.aggregate(relation, live));
        }
    }
    let questions = importer.judge.questions;
    if questions.is_empty() { Ok(Imported { sections }) } else { Err(questions) }
}

fn database(source: Source<'_>, options: &Options) -> TimescaleDatabase {
    let name = options.name.clone().unwrap_or_else(|| names::plain(&source.details.database));
    let secret = options.secret.clone().unwrap_or_else(|| format!("{name}-app"));
    let spec = TimescaleDatabaseSpec {
        connection: Connection {
            secret_ref: SecretRef { name: secret },
            host: None,
            port: None,
            database: None,
            tls: Tls::default(),
        },
        mode: Mode::default(),
        resync_interval: "30 seconds".into(),
        statistics_interval: "5 minutes".into(),
        max_connections: 3,
        defaults: None,
        allowed_namespaces: AllowedNamespaces::default(),
        guards: Guards::default(),
        health_thresholds: HealthThresholds::default(),
        deletion_policy: DatabaseDeletion::default(),
        monitoring_schema: monitoring_schema(source.catalog),
    };
    let mut database = TimescaleDatabase::new(&name, spec);
    database.metadata.namespace.clone_from(&options.namespace);
    database
}

/// The schema of the monitoring views, where one has them as the operator would install them.
fn monitoring_schema(catalog: &Catalog) -> Option<String> {
    let [found] = catalog.server.monitoring.as_slice() else { return None };
    let schema = found.schema.as_str();
    let decision = plan::monitoring_schema::decide(Some(schema), &catalog.server.monitoring);
    matches!(decision, Decision::Installed(_)).then(|| schema.to_owned())
}

/// An aggregate that the operator itself has made to replace another, and not taken away yet.
fn is_left_of_a_rebuild(relation: &Relation, live: &catalog::Aggregate) -> bool {
    let made = live.comment.as_ref().is_some_and(|comment| comment.starts_with(MADE_BY));
    made && relation.name.as_str().starts_with("tsdbop_")
}

struct Importer<'a> {
    source: Source<'a>,
    options: &'a Options,
    judge: Judge<'a>,
    describer: Describer<'a>,
    names: BTreeMap<&'a Relation, String>,
}

impl Importer<'_> {
    fn database_section(&self, database: TimescaleDatabase) -> Section {
        let (name, secret) =
            (database.metadata.name.clone().unwrap_or_default(), &database.spec.connection.secret_ref.name);
        let namespace = self.options.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
        let mut remarks = vec![format!(
            "The secret is not written here: it says where the database is and who logs in. To make it:\n  kubectl create secret generic {secret}{namespace} --from-literal=uri=postgresql://USER:PASSWORD@HOST:5432/DBNAME"
        )];
        if database.spec.monitoring_schema.is_none() {
            for found in &self.source.catalog.server.monitoring {
                remarks.push(format!(
                    "schema {} holds monitoring views that are not as this version installs them, or are not the only ones: monitoringSchema is left out",
                    found.schema
                ));
            }
        }
        for job in self.source.details.jobs.iter().filter(|job| self.host_of(job).is_none()) {
            remarks.push(not_ours(job));
        }
        let left =
            self.source.catalog.aggregates.iter().filter(|(relation, live)| is_left_of_a_rebuild(relation, live));
        for (relation, _) in left.filter(|(relation, _)| self.options.include(relation)) {
            remarks.push(format!(
                "{relation} is left out: it is what a rebuild by the operator has left, or is at work on"
            ));
        }
        let resource = Some(Resource::Database(Box::new(database)));
        Section { name: format!("timescaledatabase-{name}"), documents: vec![Document { remarks, resource }] }
    }

    /// The hypertable that a job of another kind is for, where it is there to be written about.
    fn host_of(&self, job: &OtherJob) -> Option<&Relation> {
        let relation = self.source.catalog.name_of(job.hypertable_id?)?;
        self.names.contains_key(relation).then_some(relation)
    }

    fn hypertable(&mut self, relation: &Relation, live: &catalog::Hypertable) -> Section {
        let (database, options, name) = (self.describer, self.options, self.name(relation));
        let Described { spec, mut remarks } = database.hypertable(relation, live);
        self.remark_on(relation, live, &mut remarks);
        let settled = match spec {
            Ok(spec) => settle(spec, hypertable_parts, |spec| {
                let hypertables = vec![placed(options, Hypertable::new(&name, spec.clone()))];
                self.judge.of(&Attached { hypertables, ..Attached::default() })
            }),
            Err(why) => Settled::LeftOut(why),
        };
        let section = format!("hypertable-{name}");
        let spec = match settled {
            Settled::Kept(spec, more) => {
                remarks.extend(more);
                spec
            }
            Settled::LeftOut(why) => return left_out(section, "Hypertable", relation, &why, remarks),
        };
        let resource = placed(options, Hypertable::new(&name, spec));
        let target = PolicyTarget::Hypertable(resource.clone());
        let mut documents = vec![Document { remarks, resource: Some(Resource::Hypertable(resource)) }];
        documents.extend(self.policies(TargetKind::Hypertable, &target, live));
        Section { name: section, documents }
    }

    fn aggregate(&mut self, relation: &Relation, live: &catalog::Aggregate) -> Section {
        let (database, options, name) = (self.describer, self.options, self.name(relation));
        let (Described { spec, mut remarks }, queries) = database.aggregate(relation, live);
        self.remark_on(relation, &live.hypertable, &mut remarks);
        let settled = match spec {
            Ok(spec) => {
                let spec = self.worded(&name, spec, &queries);
                settle(spec, aggregate_parts, |spec| self.judge_aggregate(&name, spec))
            }
            Err(why) => Settled::LeftOut(why),
        };
        let section = format!("continuousaggregate-{name}");
        let spec = match settled {
            Settled::Kept(spec, more) => {
                remarks.extend(more);
                spec
            }
            Settled::LeftOut(why) => return left_out(section, "ContinuousAggregate", relation, &why, remarks),
        };
        let resource = placed(options, ContinuousAggregate::new(&name, spec));
        let target = PolicyTarget::Aggregate(resource.clone());
        let mut documents = vec![Document { remarks, resource: Some(Resource::Aggregate(resource)) }];
        documents.extend(self.policies(TargetKind::ContinuousAggregate, &target, &live.hypertable));
        Section { name: section, documents }
    }

    fn judge_aggregate(&mut self, name: &str, spec: &ContinuousAggregateSpec) -> Finding {
        let aggregates = vec![placed(self.options, ContinuousAggregate::new(name, spec.clone()))];
        self.judge.of(&Attached { aggregates, ..Attached::default() })
    }

    /// The spec with the first wording of its query that the server reads as the live one.
    fn worded(&mut self, name: &str, spec: ContinuousAggregateSpec, queries: &[String]) -> ContinuousAggregateSpec {
        for query in queries {
            let bare = ContinuousAggregateSpec {
                query: query.clone(),
                indexes: Vec::new(),
                refresh_policy: None,
                chunk_interval: None,
                ..spec.clone()
            };
            if !matches!(self.judge_aggregate(name, &bare), Finding::Differs(_)) {
                return ContinuousAggregateSpec { query: query.clone(), ..spec };
            }
        }
        spec
    }

    /// The policies on an object.
    fn policies(&mut self, kind: TargetKind, target: &PolicyTarget, live: &catalog::Hypertable) -> Vec<Document> {
        let (database, options, name) = (self.describer, self.options, target.id().name);
        let reference = TargetRef { kind, name: name.clone() };
        let mut documents = Vec::new();
        if let Some(job) = database.job(PolicyKind::Compression, live) {
            let described = database.compression(reference.clone(), live, job);
            let resource = |spec: &CompressionPolicySpec| placed(options, CompressionPolicy::new(&name, spec.clone()));
            documents.push(policy("CompressionPolicy", described, compression_parts, |spec| {
                let compression = vec![(resource(spec), vec![target.clone()])];
                (self.judge.of(&Attached { compression, ..Attached::default() }), Resource::Compression(resource(spec)))
            }));
        }
        if let Some(job) = database.job(PolicyKind::Retention, live) {
            let described = database.retention(reference, live, job);
            let resource = |spec: &RetentionPolicySpec| placed(options, RetentionPolicy::new(&name, spec.clone()));
            documents.push(policy(
                "RetentionPolicy",
                described,
                |_| Vec::new(),
                |spec| {
                    let retention = vec![(resource(spec), vec![target.clone()])];
                    (self.judge.of(&Attached { retention, ..Attached::default() }), Resource::Retention(resource(spec)))
                },
            ));
        }
        documents
    }

    /// Remarks on what concerns an object as a whole.
    fn remark_on(&self, relation: &Relation, live: &catalog::Hypertable, remarks: &mut Vec<String>) {
        if !names::is_telling(relation) {
            remarks.insert(0, format!("Kubernetes takes no {relation} for a name"));
        }
        for job in self.source.details.jobs.iter().filter(|job| job.hypertable_id == Some(live.id)) {
            remarks.push(not_ours(job));
        }
    }

    fn name(&self, relation: &Relation) -> String {
        self.names.get(relation).cloned().unwrap_or_default()
    }
}

/// The resource in its namespace.
fn placed<K: kube::Resource>(options: &Options, mut resource: K) -> Arc<K> {
    resource.meta_mut().namespace.clone_from(&options.namespace);
    Arc::new(resource)
}

fn not_ours(job: &OtherJob) -> String {
    let OtherJob { id, hypertable_id: _, procedure, schedule_interval } = job;
    format!(
        "job {id} ({procedure}, every {schedule_interval}) is no policy of these kinds: it is not managed, and stays as it is"
    )
}

/// A section in which there is nothing but why.
fn left_out(name: String, kind: &str, relation: &Relation, why: &str, mut remarks: Vec<String>) -> Section {
    remarks.insert(0, format!("{kind} {relation} is left out, with the policies on it: {why}"));
    Section { name, documents: vec![Document { remarks, resource: None }] }
}

/// The document of a policy.
fn policy<S: Clone>(
    kind: &str,
    described: Described<S>,
    parts: impl Fn(&S) -> Vec<Part<S>>,
    mut judge: impl FnMut(&S) -> (Finding, Resource),
) -> Document {
    let Described { spec, mut remarks } = described;
    let settled = match spec {
        Ok(spec) => settle(spec, parts, |spec| judge(spec).0),
        Err(why) => Settled::LeftOut(why),
    };
    match settled {
        Settled::Kept(spec, more) => {
            remarks.extend(more);
            Document { remarks, resource: Some(judge(&spec).1) }
        }
        Settled::LeftOut(why) => {
            remarks.insert(0, format!("its {kind} is left out: {why}"));
            Document { remarks, resource: None }
        }
    }
}

fn hypertable_parts(spec: &HypertableSpec) -> Vec<Part<HypertableSpec>> {
    let mut parts: Vec<_> = spec
        .indexes
        .iter()
        .map(|index| {
            let name = index.name.clone();
            Part::new(format!("index {name}"), move |spec: &mut HypertableSpec| {
                spec.indexes.retain(|index| index.name != name);
            })
        })
        .collect();
    let mut part = |name: &str, is_there: bool, without: fn(&mut HypertableSpec)| {
        if is_there {
            parts.push(Part::new(name, without));
        }
    };
    part("reorder", spec.reorder.is_some(), |spec| spec.reorder = None);
    part("chunkSkipping", spec.chunk_skipping.is_some(), |spec| spec.chunk_skipping = None);
    part("tablespaces", spec.tablespaces.is_some(), |spec| spec.tablespaces = None);
    part("spacePartitions", !spec.space_partitions.is_empty(), |spec| spec.space_partitions.clear());
    part("integerNowFunction", spec.integer_now_function.is_some(), |spec| spec.integer_now_function = None);
    part("chunkInterval", spec.chunk_interval.is_some(), |spec| spec.chunk_interval = None);
    parts
}

fn aggregate_parts(spec: &ContinuousAggregateSpec) -> Vec<Part<ContinuousAggregateSpec>> {
    let mut parts: Vec<_> = spec
        .indexes
        .iter()
        .map(|index| {
            let name = index.name.clone();
            Part::new(format!("index {name}"), move |spec: &mut ContinuousAggregateSpec| {
                spec.indexes.retain(|index| index.name != name);
            })
        })
        .collect();
    let mut part = |name: &str, is_there: bool, without: fn(&mut ContinuousAggregateSpec)| {
        if is_there {
            parts.push(Part::new(name, without));
        }
    };
    part("refreshPolicy", spec.refresh_policy.is_some(), |spec| spec.refresh_policy = None);
    part("chunkInterval", spec.chunk_interval.is_some(), |spec| spec.chunk_interval = None);
    parts
}

fn compression_parts(spec: &CompressionPolicySpec) -> Vec<Part<CompressionPolicySpec>> {
    let mut parts = Vec::new();
    let mut part = |name: &str, is_there: bool, without: fn(&mut CompressionPolicySpec)| {
        if is_there {
            parts.push(Part::new(name, without));
        }
    };
    part("sparseIndexes", spec.sparse_indexes.is_some(), |spec| spec.sparse_indexes = None);
    part("mergeInterval", spec.merge_interval.is_some(), |spec| spec.merge_interval = None);
    part("orderBy", spec.order_by.is_some(), |spec| spec.order_by = None);
    part("segmentBy", spec.segment_by.is_some(), |spec| spec.segment_by = None);
    parts
}

impl Imported {
    /// Every resource, in order.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.sections.iter().flat_map(|section| &section.documents).filter_map(|document| document.resource.as_ref())
    }

    /// All as one stream of YAML documents.
    ///
    /// # Errors
    /// When a resource does not serialize.
    pub fn render(&self) -> Result<String, String> {
        render(self.sections.iter().flat_map(|section| &section.documents))
    }
}

impl Section {
    /// What its file holds.
    ///
    /// # Errors
    /// When a resource does not serialize.
    pub fn render(&self) -> Result<String, String> {
        render(&self.documents)
    }
}

fn render<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Result<String, String> {
    let mut text = String::new();
    for Document { remarks, resource } in documents {
        if !text.is_empty() {
            // Remarks without a resource stand behind the resource before them.
            text.push_str(if resource.is_some() { "---\n" } else { "\n" });
        }
        for remark in remarks {
            text.push_str(&yaml::comment(remark));
        }
        if let Some(resource) = resource {
            text.push_str(&resource.render()?);
        }
    }
    Ok(text)
}

impl Resource {
    /// Its `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Database(_) => "TimescaleDatabase",
            Self::Hypertable(_) => "Hypertable",
            Self::Aggregate(_) => "ContinuousAggregate",
            Self::Compression(_) => "CompressionPolicy",
            Self::Retention(_) => "RetentionPolicy",
        }
    }

    fn render(&self) -> Result<String, String> {
        static SPECS: LazyLock<BTreeMap<String, JSONSchemaProps>> = LazyLock::new(|| {
            let spec = |crd: CustomResourceDefinition| {
                let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
                Some((crd.spec.names.kind, schema.properties?.remove("spec")?))
            };
            api::crds().into_iter().filter_map(spec).collect()
        });
        fn tree<K: Serialize>(resource: &K) -> Result<yaml::Tree, String> {
            yaml::Tree::of(resource)
        }
        let mut tree = match self {
            Self::Database(resource) => tree(&**resource),
            Self::Hypertable(resource) => tree(&**resource),
            Self::Aggregate(resource) => tree(&**resource),
            Self::Compression(resource) => tree(&**resource),
            Self::Retention(resource) => tree(&**resource),
        }?;
        tree.remove("status");
        if let (Some(spec), Some(schema)) = (tree.field_mut("spec"), SPECS.get(self.kind())) {
            let whole = std::mem::replace(spec, yaml::Tree::Null);
            *spec = whole.without_defaults(schema);
        }
        yaml::document(&tree)
    }
}
