//! What people copy: every example is taken as it is, and comes back as it was written.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::stage::{Stage, condition};
use crate::support::Result;

fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("kustomization.yaml").exists() {
            continue;
        }
        if path.is_dir() {
            found.extend(manifests(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml") && !path.ends_with("compose.yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What was written and is not in what is there, by path.
pub fn missing(written: &Value, found: &Value, path: &str) -> Vec<String> {
    match (written, found) {
        (Value::Object(written), Value::Object(_)) => {
            written.iter().flat_map(|(key, value)| missing(value, &found[key], &format!("{path}.{key}"))).collect()
        }
        (Value::Array(written), Value::Array(all)) if written.len() == all.len() => {
            let pairs = written.iter().zip(all).enumerate();
            pairs.flat_map(|(i, (written, found))| missing(written, found, &format!("{path}[{i}]"))).collect()
        }
        _ if written == found => Vec::new(),
        _ => vec![format!("{path}: {written} is {found}")],
    }
}

/// Argo CD and Flux apply with their own field managers: what the API server fills in and what the operator writes must
/// not look like a change to them.
#[tokio::test]
async fn every_example_comes_back_as_it_was_written() -> Result<()> {
    let mut stage = Stage::own("examples").await?;
    stage.start_operator().await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut rendered = vec![stage.kubectl(&format!("kustomize {}", folder.join("env").display())).await?];
    for path in manifests(&folder)? {
        rendered.push(std::fs::read_to_string(path)?);
    }
    assert!(rendered.len() > 5, "{}", rendered.len());
    for text in rendered {
        // Into the namespace of the test, one example after the other: they have names in common.
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("  namespace: "))
            .fold(String::new(), |all, line| all + line + "\n");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        let text: String =
            documents.iter().filter(|d| d["kind"] != "Namespace").map(|d| format!("---\n{d}\n")).collect();
        if text.is_empty() {
            continue;
        }
        let apply = ["apply", "--server-side", "--field-manager=argocd-controller", "--validate=strict", "-f", "-"];
        stage.kubectl_with(&apply, &text).await?;
        for object in &documents {
            let (kind, name) = (text_of(&object["kind"]).to_lowercase(), text_of(&object["metadata"]["name"]));
            if kind == "namespace" || kind == "secret" {
                continue;
            }
            let looked_at = |found: &Value| {
                let of = &condition(found, "Ready")["observedGeneration"];
                !of.is_null() && *of == found["metadata"]["generation"]
            };
            stage.until(&format!("{kind}/{name}"), "the operator has looked at it", looked_at).await?;
        }
        let diff = ["diff", "--server-side", "--field-manager=argocd-controller", "-f", "-"];
        assert_eq!(stage.kubectl_with(&diff, &text).await?, "");
        for written in documents.iter().filter(|d| d["kind"] != "Namespace" && d["kind"] != "Secret") {
            let (kind, name) = (text_of(&written["kind"]).to_lowercase(), text_of(&written["metadata"]["name"]));
            let found = stage.get(&format!("{kind}/{name}")).await?;
            assert_eq!(missing(&written["spec"], &found["spec"], "spec"), Vec::<String>::new(), "{kind}/{name}");
        }
        let orphan = r#"{"deletionPolicy": "Orphan"}"#;
        for database in stage.kubectl("get timescaledatabases -o name").await?.lines() {
            stage.patch(&database.replace(".timescaledb-policy.io", ""), orphan).await?;
        }
        stage.kubectl_with(&["delete", "--timeout=120s", "-f", "-"], &text).await?;
    }
    stage.end().await
}
