//! The command line against a real TimescaleDB: the binary as it is, with its exit codes and what it prints.

mod apply;
mod check;
mod forecast;
mod import;
mod plan;
mod recommend;
mod shell;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::io::AsyncWriteExt as _;

use crate::support::Result;

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The output of a command that ended with this code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs the binary with these arguments, a database in the environment, and this on standard input.
pub async fn run_with(arguments: &[&str], url: Option<&str>, input: &str) -> Result<Output> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_timescaledb-policy-operator"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name == "KUBECONFIG") {
        command.env_remove(name);
    }
    match url {
        Some(url) => command.env("DATABASE_URL", url),
        None => command.env_remove("DATABASE_URL"),
    };
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Runs the binary with these arguments and a database in the environment.
pub async fn run(arguments: &[&str], url: &str) -> Result<Output> {
    run_with(arguments, Some(url), "").await
}

/// A file or folder of `examples/`.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// The path as an argument.
pub fn argument(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("the path is not UTF-8")?)
}
