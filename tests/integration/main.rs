//! Tests against a real Kubernetes API server and a real TimescaleDB.

#![allow(clippy::pedantic, reason = "tests are written to be read, and counts are compared as the metrics print them")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../support/mod.rs"]
mod support;

mod cli;
mod cluster;
mod database;
mod e2e;
mod servers;
