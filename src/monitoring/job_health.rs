//! What the scheduler's facts about a job mean.

use crate::api::status::Reason;

/// How a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobHealth {
    /// `Some(true)`: nothing to do. `Some(false)`: somebody has to look at it. `None`: it has not run yet, and need not have.
    pub healthy: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// What was found, and what to do.
    pub message: String,
}
