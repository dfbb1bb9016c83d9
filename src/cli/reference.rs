//! The API reference in Markdown, from the definitions that the API server gets.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// One section per kind, one row per field.
pub fn render(crds: &[CustomResourceDefinition]) -> String {
    let mut text = "# API reference\n\nGenerated from `src/api` by `make generate`.\n".to_owned();
    for crd in crds {
        let names = &crd.spec.names;
        for version in &crd.spec.versions {
            let Some(schema) = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()) else { continue };
            let _ = write!(
                text,
                "\n## {}\n\n`{}/{}`, plural `{}`, short `{}`. {}\n",
                names.kind,
                crd.spec.group,
                version.name,
                names.plural,
                names.short_names.as_deref().unwrap_or_default().join("`, `"),
                schema.description.as_deref().unwrap_or_default()
            );
            for part in ["spec", "status"] {
                let Some(properties) = schema.properties.as_ref().and_then(|p| p.get(part)) else { continue };
                let _ = write!(text, "\n### {} {part}\n\n| field | type | meaning |\n|---|---|---|\n", names.kind);
                rows(&mut text, "", properties);
            }
        }
    }
    text
}

fn rows(text: &mut String, prefix: &str, schema: &JSONSchemaProps) {
    let required = schema.required.as_deref().unwrap_or_default();
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{prefix}{name}");
        let mut meaning = field.description.clone().unwrap_or_default().replace('|', "\\|").replace('\n', " ");
        if required.contains(name) {
            meaning.push_str(" **Required.**");
        }
        if let Some(default) = &field.default {
            let _ = write!(meaning, " Default: `{}`.", default.0);
        }
        for rule in field.x_kubernetes_validations.iter().flatten() {
            let _ = write!(meaning, " Rule: {}.", rule.message.as_deref().unwrap_or(&rule.rule));
        }
        let _ = writeln!(text, "| `{path}` | {} | {meaning} |", type_text(field));
        // Conditions are Kubernetes' own type.
        if name == "conditions" {
            continue;
        }
        rows(text, &format!("{path}."), field);
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &field.items {
            rows(text, &format!("{path}[]."), item);
        }
    }
}

fn type_text(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values: Vec<_> = values
            .iter()
            .filter(|v| !v.0.is_null())
            .map(|v| format!("`{}`", v.0.as_str().unwrap_or_default()))
            .collect();
        return values.join(", ");
    }
    let base = schema.type_.clone().unwrap_or_default();
    let mut limits = Vec::new();
    match (schema.minimum, schema.maximum) {
        (Some(least), Some(most)) => limits.push(format!("{least} to {most}")),
        (Some(least), None) => limits.push(format!("at least {least}")),
        (None, Some(most)) => limits.push(format!("at most {most}")),
        (None, None) => {}
    }
    limits.extend(schema.max_length.map(|most| format!("at most {most} characters")));
    limits.extend(schema.max_items.map(|most| format!("at most {most}")));
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        let of = item.type_.clone().unwrap_or_default();
        return if limits.is_empty() {
            format!("list of {of}")
        } else {
            format!("list of {of}, {}", limits.join(", "))
        };
    }
    if limits.is_empty() { base } else { format!("{base}, {}", limits.join(", ")) }
}
