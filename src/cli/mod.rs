//! The command line beside the operator itself. A command is its options and a function; what it decides is decided in the
//! pure modules.

pub mod apply;
pub mod check;
pub mod connection;
pub mod crd;
pub mod forecast;
pub mod import;
pub mod manifests;
pub mod output;
pub mod plan;
pub mod recommend;
mod reference;
pub mod shell;
pub mod status;
pub mod workspace;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::Failure;

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to do or to say. Exit code 0.
    Clean,
    /// The database differs from what is wanted of it, or something was found. Exit code 2.
    Differs,
}

/// Ends when the process is told to: by SIGINT (Ctrl-C) or SIGTERM.
async fn interrupted() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(error) => {
            tracing::warn!("SIGTERM cannot be listened to: {error}");
            // Without it the process ends at once.
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

/// The exit code of a command: 0, 2 ([`Outcome::Differs`]), or 1 with the error on standard error. Errors of every class end
/// with 1, as `diff` and `terraform plan -detailed-exitcode` do, so that a pipeline can tell 2 apart.
pub fn exit(result: Result<Outcome, Failure>) -> ExitCode {
    match result {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Differs) => ExitCode::from(2),
        Err(failure) => {
            anstream::eprintln!("{} {failure}", output::styled(output::BAD, "error:"));
            ExitCode::FAILURE
        }
    }
}
