//! The planner against a real TimescaleDB, without Kubernetes. What a pass of the controller does (collect, observe, plan
//! with questions, apply, observe and plan again) runs through the crate's public API, and after every scenario the plan
//! must be empty: what was carried out needs no step any more.

mod adoption;
mod aggregates;
mod compression;
mod drift;
pub mod driver;
mod fields;
mod hypertables;
mod indexes;
mod law;
mod locks;
mod mistakes;
mod monitoring;
mod names;
mod observation;
mod permissions;
mod rebuilds;
mod retention;
mod schedules;
mod sessions;
mod stand_in;
mod statistics;
mod tls;
