//! What the operator has observed of each database, for metrics, the monitoring API and health words. It is filled by the
//! passes and answers without asking a database, so one that is down gives an old answer with its age.

mod board;
pub mod job_health;
pub mod lag;
pub mod schedule;
pub mod settings;
pub mod snapshot;
pub mod table_health;

pub use board::{Board, DatabaseKey};
