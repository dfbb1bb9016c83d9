//! Files and folders of manifests → resources, with every problem and where it is.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::{
    api::{GROUP, schema, status::Reason},
    error::{Class, Failure},
    resources::Resources,
};

/// Options that name manifests.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// File or folder of manifests, or `-` for standard input; can be given several times. YAML with several documents, lists
    /// and JSON are read; kinds of others are left out, so what `kustomize build` and `helm template` print can be given.
    #[arg(long = "filename", short = 'f', value_name = "PATH", required = true)]
    pub filenames: Vec<PathBuf>,
    /// Also read the folders in a folder.
    #[arg(long, short = 'R')]
    pub recursive: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The resources of this operator's kinds.
    pub resources: Resources,
    /// Where each is, by kind, namespace and name.
    pub places: BTreeMap<(String, String, String), Place>,
    /// Documents of other kinds.
    pub foreign: usize,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named; `-` for standard input.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Files {
    /// Reads everything. A resource without a namespace is taken to be in `namespace`.
    ///
    /// # Errors
    /// All problems of all files in one: what cannot be read or parsed, fields that the definitions do not know, values out of
    /// their bounds, rules that do not hold, resources that are there twice.
    pub fn read(&self, namespace: &str) -> Result<Manifests, Failure> {
        let mut problems = Vec::new();
        let mut texts = Vec::new();
        for path in &self.filenames {
            if path.as_os_str() == "-" {
                let mut text = String::new();
                match std::io::stdin().read_to_string(&mut text) {
                    Ok(_) => texts.push(("-".to_owned(), text)),
                    Err(error) => problems.push(format!("standard input: {error}")),
                }
                continue;
            }
            match self.list(path, true) {
                Ok(files) if files.is_empty() => {
                    let hint = if self.recursive { "" } else { "; -R also looks into the folders in it" };
                    problems.push(format!("{}: no file ends in .yaml, .yml or .json{hint}", path.display()));
                }
                Ok(files) => {
                    for file in files {
                        let name = file.display().to_string();
                        match std::fs::read_to_string(&file) {
                            Ok(text) => texts.push((name, text)),
                            Err(error) => problems.push(format!("{name}: {error}")),
                        }
                    }
                }
                Err(error) => problems.push(format!("{}: {error}", path.display())),
            }
        }
        let mut manifests = Manifests::default();
        for (file, text) in texts {
            manifests.read(&file, &text, namespace, &mut problems);
        }
        if problems.is_empty() {
            return Ok(manifests);
        }
        let count = match problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        let message = format!("{count} in the manifests:\n  {}", problems.join("\n  "));
        Err(Failure::new(Class::User, Reason::InvalidSpec, message))
    }

    /// The files that a path means, sorted by name.
    fn list(&self, path: &Path, named: bool) -> std::io::Result<Vec<PathBuf>> {
        if !std::fs::metadata(path)?.is_dir() {
            let extension = path.extension().and_then(|extension| extension.to_str());
            let is_manifest = matches!(extension, Some("yaml" | "yml" | "json"));
            return Ok(if named || is_manifest { vec![path.to_owned()] } else { Vec::new() });
        }
        if !named && !self.recursive {
            return Ok(Vec::new());
        }
        let mut entries = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        entries.sort();
        let mut files = Vec::new();
        for entry in entries {
            files.extend(self.list(&entry, false)?);
        }
        Ok(files)
    }
}

impl Manifests {
    /// Takes in the documents of one text.
    fn read(&mut self, file: &str, text: &str, namespace: &str, problems: &mut Vec<String>) {
        let documents: Vec<Node> = match serde_saphyr::from_multiple(text) {
            Ok(documents) => documents,
            Err(error) => {
                let line = error.location().map_or(1, |location| location.line());
                let what = error.without_snippet().to_string();
                let what = what.lines().next().unwrap_or("is no YAML");
                // The library's advice is for programmers.
                let what = what.split(", set ").next().unwrap_or(what).to_owned();
                problems.push(format!("{file}:{line}: {what}"));
                return;
            }
        };
        for document in documents {
            let mut lines = BTreeMap::new();
            let line = document.line;
            let value = document.into_value("", &mut lines);
            let document = Document { file, line, lines: &lines, prefix: String::new() };
            self.take(value, &document, namespace, problems);
        }
    }

    fn take(&mut self, mut value: Value, document: &Document<'_>, namespace: &str, problems: &mut Vec<String>) {
        let text = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
        if std::path::Path::new(document.file).file_stem().is_some_and(|stem| stem == "kustomization") {
            // What it means is what kustomize makes of it.
            self.foreign += 1;
            return;
        }
        let (Some(version), Some(kind)) = (text(&value, "apiVersion"), text(&value, "kind")) else {
            problems.push(document.at("", "no Kubernetes manifest: apiVersion and kind are needed"));
            return;
        };
        if kind.ends_with("List")
            && let Some(items) = value.get_mut("items").and_then(Value::as_array_mut)
        {
            for (i, item) in std::mem::take(items).into_iter().enumerate() {
                let prefix = format!("{}items[{i}]", document.prefix_with_dot());
                let line = document.lines.get(&prefix).copied().unwrap_or(document.line);
                let item_document = Document { line, prefix, ..*document };
                self.take(item, &item_document, namespace, problems);
            }
            return;
        }
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        if group != GROUP {
            self.foreign += 1;
            return;
        }
        if version != "v1alpha1" {
            problems.push(document.at("apiVersion", &format!("{GROUP} has version v1alpha1, not {version}")));
            return;
        }
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if !is_name(&name) {
            problems.push(document.at(
                "metadata.name",
                &format!("{name:?} is no name of a resource: small letters, digits, - and ., at most 253"),
            ));
            return;
        }
        if value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = namespace.into();
        }
        let own = value["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let violations = schema::violations(&kind, &value, None);
        if !violations.is_empty() {
            let said = violations.iter().map(|v| document.at(&v.path, &format!("{kind} {name}: {v}")));
            problems.extend(said);
            return;
        }
        let place = Place { file: document.file.to_owned(), line: document.line };
        match self.places.entry((kind.clone(), own.clone(), name.clone())) {
            std::collections::btree_map::Entry::Occupied(first) => {
                let problem = format!("{kind} {own}/{name} is there already, at {}", first.get());
                problems.push(document.at("", &problem));
                return;
            }
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(place)),
        }
        let resources = &mut self.resources;
        let taken = match kind.as_str() {
            "TimescaleDatabase" => add(&mut resources.databases, value),
            "Hypertable" => add(&mut resources.hypertables, value),
            "ContinuousAggregate" => add(&mut resources.aggregates, value),
            "CompressionPolicy" => add(&mut resources.compression, value),
            "RetentionPolicy" => add(&mut resources.retention, value),
            _ => Err("none of this operator's kinds".to_owned()),
        };
        if let Err(problem) = taken {
            problems.push(document.at("", &format!("{kind} {name}: {problem}")));
        }
    }
}

fn add<K: DeserializeOwned>(all: &mut Vec<Arc<K>>, value: Value) -> Result<(), String> {
    all.push(Arc::new(serde_json::from_value(value).map_err(|error| error.to_string())?));
    Ok(())
}

/// RFC 1123 subdomain.
fn is_name(name: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        label.starts_with(is_inner) && label.ends_with(is_inner) && label.chars().all(|c| is_inner(c) || c == '-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Where a manifest is.
struct Document<'a> {
    file: &'a str,
    line: u64,
    /// The line of each field, by its path in the document.
    lines: &'a BTreeMap<String, u64>,
    /// The path of the manifest in its document: of one in a list.
    prefix: String,
}

impl Document<'_> {
    fn prefix_with_dot(&self) -> String {
        if self.prefix.is_empty() { String::new() } else { format!("{}.", self.prefix) }
    }

    /// The problem with the line of the field, or of the nearest one around it that is there.
    fn at(&self, path: &str, problem: &str) -> String {
        let whole = format!("{}{path}", self.prefix_with_dot());
        let mut around = whole.as_str();
        let line = loop {
            if let Some(line) = self.lines.get(around) {
                break *line;
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break self.line,
            }
        };
        format!("{}:{line}: {problem}", self.file)
    }
}

/// A YAML value with its line.
struct Node {
    line: u64,
    content: Content,
}

enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, u64, Node)>),
}

impl Node {
    /// The value, and the line of every field in it: of a field of a map that of its key.
    fn into_value(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self.content {
            Content::Scalar(value) => value,
            Content::List(items) => {
                let items = items.into_iter().enumerate().map(|(i, item)| {
                    let path = format!("{path}[{i}]");
                    lines.insert(path.clone(), item.line);
                    item.into_value(&path, lines)
                });
                Value::Array(items.collect())
            }
            Content::Map(fields) => {
                let fields = fields.into_iter().map(|(key, line, node)| {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    lines.insert(path.clone(), line);
                    (key, node.into_value(&path, lines))
                });
                Value::Object(fields.collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            fields.push((key.value, key.referenced.line(), map.next_value()?));
        }
        Ok(Content::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Manifests, Vec<String>) {
        let (mut manifests, mut problems) = (Manifests::default(), Vec::new());
        manifests.read("a.yaml", text, "here", &mut problems);
        (manifests, problems)
    }

    const HYPERTABLE: &str = "apiVersion: timescaledb-policy.io/v1alpha1
kind: Hypertable
metadata: {name: metric}
spec:
  databaseRef: {name: ms5}
  schema: public
  table: metric
  timeColumn: ts
";

    #[test]
    fn documents_lists_and_foreign_kinds_are_read() {
        let text = format!(
            "# a comment\n---\n{HYPERTABLE}---\n\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n}}\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: timescaledb-policy.io/v1alpha1\n  kind: RetentionPolicy\n  metadata: {{name: metric, namespace: there}}\n  spec: {{targetRef: {{kind: Hypertable, name: metric}}, dropAfter: 90 days}}\n"
        );
        let (manifests, problems) = read(&text);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((manifests.resources.hypertables.len(), manifests.resources.retention.len()), (1, 1));
        assert_eq!(manifests.foreign, 1);
        let places: Vec<_> = manifests.places.iter().map(|((kind, ns, _), at)| format!("{kind} {ns} {at}")).collect();
        assert_eq!(places, ["Hypertable here a.yaml:3", "RetentionPolicy there a.yaml:21"]);
    }

    #[test]
    fn every_problem_is_said_with_its_line() {
        let text = format!(
            "{HYPERTABLE}  chunkIntervall: 1 day\n  spacePartitions:\n  - column: a\n    partitions: 0\n---\n{HYPERTABLE}---\n{HYPERTABLE}---\nkind: Hypertable\n---\napiVersion: timescaledb-policy.io/v2\nkind: Hypertable\n---\napiVersion: timescaledb-policy.io/v1alpha1\nkind: Table\nmetadata:\n  name: a\nspec: {{}}\n---\napiVersion: timescaledb-policy.io/v1alpha1\nkind: Hypertable\nmetadata:\n  name: A_b\n"
        );
        let (_, problems) = read(&text);
        assert_eq!(
            problems,
            [
                "a.yaml:9: Hypertable metric: spec.chunkIntervall: unknown field",
                "a.yaml:12: Hypertable metric: spec.spacePartitions[0].partitions: 0 is less than 1",
                "a.yaml:23: Hypertable here/metric is there already, at a.yaml:14",
                "a.yaml:32: no Kubernetes manifest: apiVersion and kind are needed",
                "a.yaml:34: timescaledb-policy.io has version v1alpha1, not v2",
                "a.yaml:38: Table a: kind: Table is none of this operator's kinds",
                "a.yaml:46: \"A_b\" is no name of a resource: small letters, digits, - and ., at most 253",
            ]
        );
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_line() {
        let (_, problems) = read("a: 1\nb: [1, 2\nc: }\n");
        assert!(problems.len() == 1 && problems[0].starts_with("a.yaml:"), "{problems:?}");
        let (_, problems) = read("a: 1\na: 2\n");
        assert!(problems.len() == 1 && problems[0].starts_with("a.yaml:2: "), "{problems:?}");
        let (_, problems) = read("just text\n");
        assert_eq!(problems, ["a.yaml:1: no Kubernetes manifest: apiVersion and kind are needed"]);
    }
}
