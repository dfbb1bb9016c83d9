//! The servers behind the tests and the ms5 example: a real Kubernetes API server and a real TimescaleDB, started on
//! free ports and gone with the process that started them.

#![allow(dead_code, unreachable_pub, reason = "compiled into several programs, and each uses the part that it needs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub mod api_server;
pub mod process;
pub mod promtool;
pub mod timescaledb;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The folder of an installed tool: what the environment variable says (the Makefile sets it), else what the install
/// script prints, which installs only what is missing.
fn installed(variable: &str, script: &str, files: &[&str]) -> Result<PathBuf> {
    let folder = match std::env::var_os(variable) {
        Some(folder) => PathBuf::from(folder),
        None => run_install_script(script)?,
    };
    match files.iter().find(|file| !folder.join(file).exists()) {
        None => Ok(folder),
        Some(file) => Err(format!(
            "{variable} is {}, which has no {file}: unset it, or install the tools with `make tools`",
            folder.display()
        )
        .into()),
    }
}

fn run_install_script(script: &str) -> Result<PathBuf> {
    let script = support_folder().join(script);
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    match output {
        Ok(output) if output.status.success() => Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end())),
        Ok(output) => Err(format!("{} failed ({}): see `make tools`", script.display(), output.status).into()),
        Err(error) => Err(format!("{}: {error}: see `make tools`", script.display()).into()),
    }
}

fn support_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("support")
}

/// What Helm prints, run with these arguments.
pub async fn helm(arguments: &[&str]) -> Result<String> {
    let program = installed("HELM", "helm/install.sh", &["helm"])?.join("helm");
    let output = tokio::process::Command::new(program).args(arguments).output().await?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)).into())
}
