//! Tests against a real Kubernetes API server and a real TimescaleDB.

#[path = "../support/mod.rs"]
mod support;

mod e2e;
mod servers;
