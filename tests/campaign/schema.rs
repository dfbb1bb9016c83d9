//! The properties of the custom resources, as their schemas have them.

use serde_json::Value;
use timescaledb_policy_operator::api::crds;

/// One property under `spec`: `indexes[].columns[].name`, or one that holds others: `indexes[]`, `schedule`.
#[derive(Clone, Debug)]
pub struct Property {
    pub kind: String,
    pub path: String,
    /// Its own schema.
    pub schema: Value,
    /// It holds no other properties.
    pub leaf: bool,
}

impl Property {
    /// The last name in the path.
    pub fn name(&self) -> &str {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        last.trim_end_matches("[]")
    }

    pub fn type_(&self) -> &str {
        if self.schema["x-kubernetes-int-or-string"] == true {
            return "int-or-string";
        }
        self.schema["type"].as_str().unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        #[allow(clippy::cast_possible_truncation, reason = "bounds are whole")]
        self.schema[key].as_f64().map(|number| number as i64)
    }

    pub fn is_item(&self) -> bool {
        self.path.ends_with("[]")
    }
}

/// All properties of all kinds.
pub fn properties() -> Vec<Property> {
    let mut all = Vec::new();
    for crd in crds() {
        let crd = serde_json::to_value(crd).expect("a definition is JSON");
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        members(kind, "", schema, &mut all);
    }
    all
}

fn members(kind: &str, prefix: &str, schema: &Value, all: &mut Vec<Property>) {
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        property(kind, &format!("{prefix}{name}"), member, all);
    }
}

fn property(kind: &str, path: &str, schema: &Value, all: &mut Vec<Property>) {
    let items = schema.get("items");
    let leaf = items.is_none() && schema.get("properties").is_none();
    all.push(Property { kind: kind.to_owned(), path: path.to_owned(), schema: schema.clone(), leaf });
    if let Some(items) = items {
        // An item is not demanded of a list that may be empty; a test takes it away by shortening the list.
        if items.get("properties").is_some() {
            members(kind, &format!("{path}[]."), items, all);
        } else {
            property(kind, &format!("{path}[]"), items, all);
        }
    }
    members(kind, &format!("{path}."), schema, all);
}
