//! The description of the API, made from the routes and the types of the answers.

use std::sync::LazyLock;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    documents::OperatorHealth,
    page::{DEFAULT_LIMIT, MAX_LIMIT},
    problem::{MEDIA_TYPE, Problem},
    routes::{ENDPOINTS, Endpoint, HEALTH, MAX_FILTER, OPENAPI, Readers},
};

static DOCUMENT: LazyLock<Value> = LazyLock::new(make);

/// The description in OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
pub fn document() -> &'static Value {
    &DOCUMENT
}

fn make() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut generator = settings.with(|s| s.definitions_path = "/components/schemas".into()).into_generator();
    let problem = generator.subschema_for::<Problem>();
    let error = |status: &str, description: &str| {
        let content = json!({MEDIA_TYPE: {"schema": problem}});
        (status.to_owned(), json!({"description": description, "content": content}))
    };
    let answer = |schema: Value, description: &str| {
        ("200".to_owned(), json!({"description": description, "content": {"application/json": {"schema": schema}}}))
    };
    let unavailable = error("503", "The operator is starting, or does too much at once, or Kubernetes does not answer");

    let health = json!({"get": {
        "operationId": operation_id(HEALTH),
        "summary": "The operator itself",
        "security": [],
        "responses": map([answer(generator.subschema_for::<OperatorHealth>().to_value(), "It is well"), unavailable.clone()]),
    }});
    let description = json!({"get": {
        "operationId": operation_id(OPENAPI),
        "summary": "This description",
        "security": [],
        "responses": map([answer(json!({"type": "object"}), "OpenAPI 3.1")]),
    }});
    let references =
        ["database", "limit", "continue"].map(|name| json!({"$ref": format!("#/components/parameters/{name}")}));
    let mut paths = map([(HEALTH.to_owned(), health), (OPENAPI.to_owned(), description)]);
    for Endpoint { path, readers, summary, schema, .. } in &ENDPOINTS {
        let mut responses = vec![
            answer(schema(&mut generator).to_value(), "A list, or a part of it"),
            error("400", "The query is not understood; the detail names the parameter"),
            error("401", "Without a bearer token that the cluster knows"),
            error("404", "No TimescaleDatabase matches the filter"),
            unavailable.clone(),
        ];
        let access = match readers {
            Readers::Authenticated => "For every caller with a token of the cluster.".to_owned(),
            Readers::Granted(url) => {
                responses.push(error("403", "The caller may not read this"));
                format!("For callers that may `get` the non-resource URL `{url}`.")
            }
        };
        let operation = json!({
            "operationId": operation_id(path),
            "summary": summary,
            "description": access,
            "parameters": references,
            "responses": map(responses),
        });
        paths.insert((*path).to_owned(), json!({"get": operation}));
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Monitoring API of timescaledb-policy-operator",
            "description": "What the operator has observed of each database. No request reaches a database: what is old says so, with its age.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token that the Kubernetes API server accepts, such as that of a ServiceAccount",
            }},
            "parameters": parameters(),
            "schemas": definitions(generator),
        },
    })
}

fn parameters() -> Value {
    let parameter = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "description": description, "schema": schema});
    json!({
        "database": parameter(
            "database",
            "Only this TimescaleDatabase: its name, or `namespace/name`",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_FILTER}),
        ),
        "limit": parameter(
            "limit",
            "Items of one answer at most",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}),
        ),
        "continue": parameter(
            "continue",
            "Where to go on: `continue` of the answer before, with the same filter",
            json!({"type": "string"}),
        ),
    })
}

/// The schemas of everything that is referred to, by name.
fn definitions(mut generator: SchemaGenerator) -> Value {
    Value::Object(generator.take_definitions(true))
}

/// `/api/v1/monitoring/metrics/chunks` is `getMetricsChunks`.
fn operation_id(path: &str) -> String {
    let words = path.trim_start_matches("/api/v1/").trim_start_matches("monitoring/").split(['/', '.']);
    words.fold("get".to_owned(), |id, word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or_default();
        id + &first.to_uppercase() + rest
    })
}

fn map(entries: impl IntoIterator<Item = (String, Value)>) -> serde_json::Map<String, Value> {
    entries.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Everything under this key, at any depth.
    fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get(key));
                fields.values().for_each(|field| all(field, key, found));
            }
            Value::Array(items) => items.iter().for_each(|item| all(item, key, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let (mut references, mut names) = (Vec::new(), Vec::new());
        all(document(), "$ref", &mut references);
        all(document(), "operationId", &mut names);
        assert!(references.len() > 30, "{}", references.len());
        for reference in references.into_iter().filter_map(Value::as_str) {
            let path = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads out"));
            assert!(document().pointer(path).is_some(), "{reference}");
        }
        let different: BTreeSet<_> = names.iter().filter_map(|name| name.as_str()).collect();
        assert_eq!(different.len(), ENDPOINTS.len() + 2);
        assert!(different.contains("getMetricsChunks") && different.contains("getOpenapiJson"), "{different:?}");
    }

    #[test]
    fn every_field_is_described() {
        let Some(schemas) = document()["components"]["schemas"].as_object() else { panic!("no schemas") };
        for (name, schema) in schemas {
            for (field, of_field) in schema["properties"].as_object().into_iter().flatten() {
                assert!(of_field["description"].is_string(), "{name}.{field}");
            }
        }
    }
}
