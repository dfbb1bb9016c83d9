//! What `kubectl`-like tools (Flux, kpt, Argo CD's health checks, Helm's `--wait`) make of an object.

use serde_json::Value;

/// The status of an object by the generic rules of kstatus, which tools use for every custom resource
/// (kubernetes-sigs/cli-utils, `pkg/kstatus/status/generic.go`), in their order.
pub fn of(object: &Value) -> &'static str {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let observed = &object["status"]["observedGeneration"];
    if !observed.is_null() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
        match (condition["type"].as_str(), condition["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return "InProgress",
            (Some("Stalled"), Some("True")) => return "Failed",
            _ => {}
        }
    }
    "Current"
}
