//! timescaledb-policy-operator keeps the TimescaleDB policies of existing databases true.
//!
//! ```text
//! watch event -> reflector stores (one per kind) -> scheduler, key = TimescaleDatabase
//!   reconcile(database):
//!    1 collect   stores -> Desired                         pure     desired
//!    2 connect   secret -> Session                         effect   db
//!    3 observe   fixed set of queries -> Catalog           effect   db::observe, sql/catalog
//!    4 plan      Desired x Catalog -> Plan                 pure     plan
//!    5 apply     steps that are allowed or approved        effect   db::apply, sql
//!    6 verify    where a step ran: observe and plan again
//!    7 report    verdicts -> statuses, events, metrics     pure, then effect   status, controller::report
//!    -> requeue after the resync interval | back off by error class | wait for approval
//! ```
//!
//! Data flows one way, with one read and one write per side. `Ready=True` is claimed only from an observed catalog that
//! needs no step. Absence never drops anything: only a resource seen with a deletion timestamp releases an object.
//!
//! The command line (`cli`) takes the same way with resources from files.
//!
//! Dependencies point downwards only: `controller`, `cli`, `server` -> `db` -> `plan`, `sql`, `catalog` -> `api`.
//! `api`, `desired`, `catalog`, `plan`, `sql`, `status`, `error`, `monitoring`, `check` and `import` are pure: no async, no client, no socket, no
//! clock, no randomness; `make lint` checks it.

pub mod api;
pub mod args;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod client;
pub mod controller;
pub mod db;
pub mod desired;
pub mod error;
pub mod forecast;
pub mod import;
pub mod leader;
pub mod memory;
pub mod metrics;
pub mod monitoring;
pub mod operator;
pub mod plan;
pub mod recommend;
pub mod resources;
pub mod secret;
pub mod server;
pub mod sql;
pub mod status;
pub mod telemetry;
