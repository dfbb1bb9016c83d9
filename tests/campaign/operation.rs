//! One change of one resource, and what must become of it.

use serde_json::{Value, json};

use super::schema::Property;

/// What must become of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// It is carried out: the catalog says this at these places.
    Seen(Vec<(String, Look)>),
    /// It is taken, and nothing changes in the catalog.
    Same,
    /// The API server refuses it, and names one of these.
    Admission(Vec<String>),
    /// The operator refuses it for this reason (any: ""), and names all of these.
    Refused(&'static str, Vec<String>),
    /// It is carried out or refused, as the server's version has it. A refusal names these.
    Either(Vec<String>),
    /// It waits for an approval; then it is as said.
    Approval(Vec<(String, Look)>),
    /// It is tried again and again for this reason, and the message names these.
    Waits(&'static str, Vec<String>),
    /// Null where the schema takes none: kubectl may leave it out, otherwise the API server refuses it by name. So it does
    /// where one of a few words may stand, also if it is nullable.
    NoNull,
    /// Something else says what it does.
    Probe(Probe),
}

/// What the catalog says at one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    Is(Value),
    Has(String),
    Lacks(String),
    There,
    Gone,
}

/// What a change does that the catalog does not show by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// The object is deleted then, and created anew: meanwhile this place of the catalog is there, or not.
    Deletion { place: String, stays: bool },
    /// Another resource is created beside: it says this reason, and its message has all of these words; looked at while it
    /// is there. Then it and what it was about are gone again.
    Beside {
        object: Value,
        before: String,
        after: String,
        reason: &'static str,
        words: Vec<String>,
        looks: Vec<(String, Look)>,
    },
    /// Other resources say these reasons then.
    Others(Vec<(String, &'static str)>),
    /// Nothing of another resource is carried out while it is so: it says `DriftObserved`.
    Observing,
    /// A difference is put right within seconds, or is not.
    Resync { quick: bool },
    /// A new chunk shows in the status within seconds.
    Statistics,
}

impl Look {
    pub fn holds(&self, found: Option<&Value>) -> bool {
        let found = found.filter(|found| !found.is_null());
        let text =
            || found.map(|found| found.as_str().map_or_else(|| found.to_string(), str::to_owned)).unwrap_or_default();
        match self {
            Self::Is(Value::Null) | Self::Gone => found.is_none(),
            Self::Is(wanted) => found == Some(wanted),
            Self::Has(part) => text().contains(part.as_str()),
            Self::Lacks(part) => !text().contains(part.as_str()),
            Self::There => found.is_some(),
        }
    }
}

/// Sets a property, or takes it away.
pub type Edit = (String, Option<Value>);

#[derive(Clone, Debug)]
pub struct Operation {
    pub scene: &'static str,
    pub kind: &'static str,
    /// Name of the resource.
    pub object: &'static str,
    /// The property, as the schema has it.
    pub field: String,
    pub sort: &'static str,
    pub edits: Vec<Edit>,
    pub effect: Effect,
    /// A property that is left out is not managed: what it said stays.
    pub keeps: bool,
    /// It loses what the approval names.
    pub loses: bool,
    /// What waits for an approval gets one; else it is taken back.
    pub approve: bool,
    /// The property holds others.
    pub container: bool,
}

impl Operation {
    pub fn title(&self) -> String {
        let edits = self.edits.iter().map(|(path, value)| match value {
            Some(value) => format!("{path}={}", shortened(&value.to_string())),
            None => format!("{path} left out"),
        });
        format!(
            "{}/{} {} ({}): {}",
            self.kind,
            self.object,
            self.field,
            self.sort,
            edits.collect::<Vec<_>>().join(", ")
        )
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() > 160 {
        format!("{}…", text.chars().take(160).collect::<String>())
    } else {
        text.to_owned()
    }
}

/// The part of an object at a path such as `indexes[0].columns[1].name`.
pub fn set(spec: &mut Value, path: &str, value: Option<Value>) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, index) = first
        .split_once('[')
        .map_or((first, None), |(name, index)| (name, index.trim_end_matches(']').parse::<usize>().ok()));
    if !spec.is_object() {
        *spec = json!({});
    }
    let Some(members) = spec.as_object_mut() else { return };
    match (index, rest) {
        (None, None) => {
            let _ = match value {
                Some(value) => members.insert(name.to_owned(), value),
                None => members.remove(name),
            };
        }
        (None, Some(rest)) => {
            if value.is_some() || members.contains_key(name) {
                set(members.entry(name).or_insert_with(|| json!({})), rest, value);
            }
        }
        (Some(index), rest) => {
            let list = members.entry(name).or_insert_with(|| json!([]));
            let Some(items) = list.as_array_mut() else { return };
            match rest {
                None => match value {
                    Some(value) if index < items.len() => items[index] = value,
                    Some(value) => items.push(value),
                    None if index < items.len() => drop(items.remove(index)),
                    None => {}
                },
                Some(rest) => {
                    if index >= items.len() {
                        items.push(json!({}));
                    }
                    let last = items.len() - 1;
                    set(&mut items[index.min(last)], rest, value);
                }
            }
        }
    }
}

/// The changes that follow from the schema of a property alone: values of another type, beyond its bounds, or that do not
/// match.
pub fn by_schema(property: &Property) -> Vec<(&'static str, Value)> {
    let schema = &property.schema;
    let mut all = Vec::new();
    match property.type_() {
        "string" => all.push(("wrong type", json!(7))),
        "int-or-string" => all.push(("wrong type", json!(true))),
        "integer" => all.extend([("wrong type", json!("many")), ("wrong type", json!(1.5))]),
        "boolean" => all.push(("wrong type", json!("perhaps"))),
        "array" => all.push(("wrong type", json!("none"))),
        "object" => all.push(("wrong type", json!(["none"]))),
        _ => {}
    }
    if schema.get("enum").is_some() {
        all.push(("out of range", json!("Sideways")));
    }
    if let Some(least) = property.number("minimum") {
        all.push(("out of range", json!(least - 1)));
    }
    if let Some(most) = property.number("maximum") {
        all.push(("out of range", json!(most + (most >> 50).max(1))));
    }
    if property.number("minLength").is_some() {
        all.push(("empty", json!("")));
    }
    if let Some(most) = property.number("maxLength") {
        let unit = if schema.get("pattern").is_some() { "9" } else { "x" };
        all.push(("out of range", json!(unit.repeat(usize::try_from(most).unwrap_or_default() + 1))));
    }
    if schema.get("pattern").is_some() {
        all.extend([("pattern", json!("-1 day")), ("pattern", json!("a week")), ("pattern", json!("1 day; SELECT 1"))]);
    }
    if property.number("minItems").is_some() {
        all.push(("empty", json!([])));
    }
    if let Some(most) = property.number("maxItems") {
        let item = json!({"name": "x", "column": "x", "partitions": 1, "columns": [{"name": "x"}], "kind": "Bloom",
            "key": "x", "operator": "Exists"});
        let item = if schema["items"].get("properties").is_some() { item } else { json!("x") };
        all.push(("out of range", json!(vec![item; usize::try_from(most).unwrap_or_default() + 1])));
    }
    all
}
