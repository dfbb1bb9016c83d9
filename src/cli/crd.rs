//! `crd`: the custom resource definitions.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;

use super::{Outcome, output, reference};
use crate::{
    api::{self, status::Reason},
    error::{Class, Failure},
};

/// Options of `crd`.
#[derive(Debug, Args)]
pub struct Options {
    /// Write one file per definition into this folder, named by its plural, instead of printing.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Print a reference of all fields in Markdown instead.
    #[arg(long, conflicts_with = "output_dir")]
    pub reference: bool,
}

/// Prints the custom resource definitions, or writes them into a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn run(options: &Options) -> Result<Outcome, Failure> {
    let Options { output_dir, reference } = options;
    let crds = api::crds();
    if *reference {
        output::print(&reference::render(&crds))?;
        return Ok(Outcome::Clean);
    }
    let mut all = String::new();
    for crd in crds {
        let text = serde_saphyr::to_string(&crd)
            .map_err(|error| Failure::new(Class::Bug, Reason::InternalError, error.to_string()))?;
        match output_dir {
            Some(folder) => {
                let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
                std::fs::write(&file, text).map_err(|error| {
                    Failure::new(Class::User, Reason::InvalidSpec, format!("{}: {error}", file.display()))
                })?;
            }
            None => {
                let _ = write!(all, "---\n{text}");
            }
        }
    }
    output::print(&all)?;
    Ok(Outcome::Clean)
}
