//! `completion`, `man` and `version`: what a shell and a reader want to know of this program.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::{Generator as _, Shell};
use serde::Serialize;

use super::{Outcome, output};
use crate::{
    api::{GROUP, status::Reason},
    error::{Class, Failure},
};

/// Options of `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this folder instead of printing the first.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

/// Options of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// As JSON.
    #[arg(long, short, value_parser = ["json"])]
    pub output: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    version: &'static str,
    api: String,
    timescaledb: &'static str,
    postgres: &'static str,
}

fn unwritten(error: &std::io::Error) -> Failure {
    Failure::new(Class::User, Reason::InvalidSpec, format!("it could not be written: {error}"))
}

/// Prints the completions of a shell, for the program as it was called.
pub fn completion(options: &Completion, mut command: Command) -> Result<Outcome, Failure> {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).replace(' ', "-");
    command.set_bin_name(&name);
    command.build();
    let mut text = Vec::new();
    options.shell.try_generate(&command, &mut text).map_err(|error| unwritten(&error))?;
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(Outcome::Clean)
}

/// Prints the page of the program, or writes those of all commands.
pub fn man(options: &Man, command: Command) -> Result<Outcome, Failure> {
    if let Some(folder) = &options.output_dir {
        clap_mangen::generate_to(command, folder).map_err(|error| {
            let message = format!("{}: {error}", folder.display());
            Failure::new(Class::User, Reason::InvalidSpec, message)
        })?;
    } else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text).map_err(|error| unwritten(&error))?;
        output::print(&String::from_utf8_lossy(&text))?;
    }
    Ok(Outcome::Clean)
}

/// Prints the version, and what it is made for.
pub fn version(options: &Version) -> Result<Outcome, Failure> {
    let versions = Versions {
        version: env!("CARGO_PKG_VERSION"),
        api: format!("{GROUP}/v1alpha1"),
        timescaledb: "2.14 or later",
        postgres: "14 to 18",
    };
    if options.output.is_some() {
        output::print(&output::json(&versions)?)?;
    } else {
        let Versions { version, api, timescaledb, postgres } = versions;
        output::print(&format!(
            "timescaledb-policy-operator {version}\nAPI: {api}\nTimescaleDB: {timescaledb}\nPostgreSQL: {postgres}\n"
        ))?;
    }
    Ok(Outcome::Clean)
}
