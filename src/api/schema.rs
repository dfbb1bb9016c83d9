//! The schemas of the definitions, applied here: what the API server would prune or refuse, said before anything is sent to it.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube_cel::{CompiledSchema, Validator, compile_schema};
use regex::Regex;
use serde_json::Value;

use super::crds;

struct Schema {
    props: JSONSchemaProps,
    /// Its rules.
    rules: CompiledSchema,
}

static SCHEMAS: LazyLock<BTreeMap<String, Schema>> = LazyLock::new(|| {
    let schema = |crd: CustomResourceDefinition| {
        let version = crd.spec.versions.into_iter().next()?;
        let props = version.schema?.open_api_v3_schema?;
        let rules = compile_schema(&serde_json::to_value(&props).ok()?);
        Some((crd.spec.names.kind, Schema { props, rules }))
    };
    crds().into_iter().filter_map(schema).collect()
});

/// What the API server would not take as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The field: `spec.indexes[0].name`.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// What it breaks.
    pub breaks: Constraint,
}

/// What a violation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Constraint {
    /// Fields, types and enumerations: what is unknown or null is pruned, or refused by kubectl's strict validation.
    Structure,
    /// Lengths, ranges and patterns.
    Bounds,
    /// `x-kubernetes-validations`
    Rule,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, problem, .. } = self;
        if path.is_empty() { f.write_str(problem) } else { write!(f, "{path}: {problem}") }
    }
}

/// What the API server would prune or refuse in `spec` and `status` of an object of this kind: unknown fields, nulls, values
/// of another type or out of their bounds, and rules that do not hold (`x-kubernetes-validations`). Rules about what may
/// change are held against `before`, where the object is there already.
pub fn violations(kind: &str, object: &Value, before: Option<&Value>) -> Vec<Violation> {
    let Some(schema) = SCHEMAS.get(kind) else {
        return vec![Violation {
            path: "kind".to_owned(),
            problem: format!("{kind} is none of this operator's kinds"),
            breaks: Constraint::Structure,
        }];
    };
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        let props = schema.props.properties.as_ref().and_then(|p| p.get(part));
        match (object.get(part), props) {
            (Some(value), Some(props)) => check(part, value, props, &mut found),
            (None, _) if part == "spec" => {
                found.push(Violation {
                    path: part.to_owned(),
                    problem: "missing".to_owned(),
                    breaks: Constraint::Structure,
                });
            }
            _ => {}
        }
    }
    // The rules take for granted that the structure is right.
    if found.is_empty()
        && let Err(errors) = Validator::new().validate_compiled(&schema.rules, object, before)
    {
        found.extend(errors.as_slice().iter().map(|error| Violation {
            path: error.field_path.clone(),
            problem: error.message.clone(),
            breaks: Constraint::Rule,
        }));
    }
    found
}

fn check(path: &str, value: &Value, schema: &JSONSchemaProps, found: &mut Vec<Violation>) {
    let mut say = |problem: String, breaks| found.push(Violation { path: path.to_owned(), problem, breaks });
    let type_ = schema.type_.as_deref().unwrap_or("any");
    let fits = match value {
        Value::Null => schema.nullable == Some(true),
        Value::Bool(_) => type_ == "boolean",
        Value::Number(n) => type_ == "number" || (type_ == "integer" && n.is_i64()),
        Value::String(_) => type_ == "string",
        Value::Array(_) => type_ == "array",
        Value::Object(_) => type_ == "object",
    };
    if !fits && schema.x_kubernetes_int_or_string != Some(true) && type_ != "any" {
        say(format!("{value} is not of type {type_}"), Constraint::Structure);
        return;
    }
    if let Some(values) = schema.enum_.as_ref().filter(|values| !values.iter().any(|v| v.0 == *value)) {
        let values: Vec<_> =
            values.iter().map(|v| v.0.as_str().map_or_else(|| v.0.to_string(), str::to_owned)).collect();
        say(format!("{value} is none of {}", values.join(", ")), Constraint::Structure);
    }
    for problem in bounds(value, schema) {
        say(problem, Constraint::Bounds);
    }
    match value {
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                items.iter().enumerate().for_each(|(i, item)| check(&format!("{path}[{i}]"), item, schema, found));
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                let known = schema.properties.as_ref().and_then(|p| p.get(key));
                match (known, &schema.additional_properties) {
                    (Some(schema), _) => check(&path, value, schema, found),
                    (None, Some(JSONSchemaPropsOrBool::Schema(schema))) => check(&path, value, schema, found),
                    (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                    _ if schema.x_kubernetes_preserve_unknown_fields == Some(true) => {}
                    _ => found.push(Violation {
                        path,
                        problem: "unknown field".to_owned(),
                        breaks: Constraint::Structure,
                    }),
                }
            }
            let missing = schema.required.iter().flatten().filter(|name| !fields.contains_key(*name));
            let missing = missing.map(|name| Violation {
                path: format!("{path}.{name}"),
                problem: "missing".to_owned(),
                breaks: Constraint::Structure,
            });
            found.extend(missing);
        }
        _ => {}
    }
}

/// The bounds that a value is out of.
fn bounds(value: &Value, schema: &JSONSchemaProps) -> Vec<String> {
    let mut found = Vec::new();
    let mut outside = |what: &str, size: i64, least: Option<i64>, most: Option<i64>| {
        if least.is_some_and(|least| size < least) {
            found.push(format!("{what} {size} is less than {}", least.unwrap_or_default()));
        }
        if most.is_some_and(|most| size > most) {
            found.push(format!("{what} {size} is more than {}", most.unwrap_or_default()));
        }
    };
    let count = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
    match value {
        Value::String(text) => {
            outside("a length of", count(text.chars().count()), schema.min_length, schema.max_length);
            let pattern = schema.pattern.as_deref().and_then(|pattern| Regex::new(pattern).ok());
            if pattern.is_some_and(|pattern| !pattern.is_match(text)) {
                // People read what the field is for rather than a pattern.
                let about = schema.description.as_deref().unwrap_or_default();
                let about = about.split_inclusive(". ").next().unwrap_or_default().trim_end_matches(['.', ' ']);
                found.push(format!("{value} is not what this field takes ({about})"));
            }
        }
        Value::Array(items) => outside("a list of", count(items.len()), schema.min_items, schema.max_items),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema.minimum.is_some_and(|least| number < least) {
                found.push(format!("{value} is less than {}", schema.minimum.unwrap_or_default()));
            }
            if schema.maximum.is_some_and(|most| number > most) {
                found.push(format!("{value} is more than {}", schema.maximum.unwrap_or_default()));
            }
        }
        _ => {}
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hypertable(spec: &Value) -> Value {
        let mut whole = json!({"databaseRef": {"name": "ms5"}, "schema": "public", "table": "t", "timeColumn": "ts"});
        let fields = whole.as_object_mut().unwrap();
        fields.extend(spec.as_object().cloned().unwrap());
        json!({"spec": whole})
    }

    fn said(kind: &str, object: &Value, before: Option<&Value>) -> Vec<String> {
        violations(kind, object, before).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_pattern_of_the_definitions_can_be_applied() {
        fn patterns(schema: &JSONSchemaProps) -> Vec<String> {
            let fields = schema.properties.iter().flat_map(BTreeMap::values);
            let items = match &schema.items {
                Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
                _ => None,
            };
            let inner = fields.chain(items).flat_map(patterns);
            schema.pattern.clone().into_iter().chain(inner).collect()
        }
        let all: Vec<_> = SCHEMAS.values().flat_map(|schema| patterns(&schema.props)).collect();
        assert!(!all.is_empty());
        for pattern in all {
            assert!(Regex::new(&pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn what_the_server_takes_has_no_violations() {
        assert_eq!(said("Hypertable", &hypertable(&json!({"chunkInterval": "1 day"})), None), Vec::<String>::new());
        assert_eq!(said("Hypertable", &hypertable(&json!({"chunkInterval": 1000})), None), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_violation_is_said_with_its_field() {
        for (spec, expected) in [
            (json!({"chunkIntervall": "1 day"}), "spec.chunkIntervall: unknown field"),
            (json!({"migrateData": "yes"}), "spec.migrateData: \"yes\" is not of type boolean"),
            (json!({"table": ""}), "spec.table: a length of 0 is less than 1"),
            (
                json!({"spacePartitions": [{"column": "a", "partitions": 0}]}),
                "spec.spacePartitions[0].partitions: 0 is less than 1",
            ),
            (json!({"spacePartitions": [{"partitions": 2}]}), "spec.spacePartitions[0].column: missing"),
        ] {
            assert_eq!(said("Hypertable", &hypertable(&spec), None), [expected]);
        }
        assert_eq!(said("Hypertable", &json!({}), None), ["spec: missing"]);
        assert_eq!(said("Table", &json!({}), None), ["kind: Table is none of this operator's kinds"]);
    }

    #[test]
    fn rules_are_evaluated_with_the_defaults_and_with_what_was_before() {
        let twice = hypertable(&json!({"chunkSkipping": ["a", "a"]}));
        assert_eq!(said("Hypertable", &twice, None), ["spec.chunkSkipping: chunkSkipping names a column twice"]);
        let unique = json!({"indexes": [{"name": "i", "columns": [{"name": "a"}], "unique": true}]});
        assert_eq!(said("Hypertable", &hypertable(&unique), None), Vec::<String>::new(), "the method is Btree");
        let (before, after) = (hypertable(&json!({})), hypertable(&json!({"timeColumn": "at"})));
        assert_eq!(said("Hypertable", &after, None), Vec::<String>::new());
        let refused = said("Hypertable", &after, Some(&before));
        assert!(refused.len() == 1 && refused[0].contains("timeColumn is immutable"), "{refused:?}");
    }
}
