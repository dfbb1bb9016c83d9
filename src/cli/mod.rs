//! The command line beside the operator itself.

mod reference;

use std::fmt::Write as _;

use crate::{api, args::Crd};

/// Prints the custom resource definitions, or writes them into a folder.
///
/// # Errors
/// When a file cannot be written.
pub fn crd(options: &Crd) -> Result<(), String> {
    let Crd { output_dir, reference } = options;
    let crds = api::crds();
    if *reference {
        print!("{}", reference::render(&crds));
        return Ok(());
    }
    let mut all = String::new();
    for crd in crds {
        let text = serde_saphyr::to_string(&crd).map_err(|e| e.to_string())?;
        match output_dir {
            Some(folder) => {
                let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
                std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
            }
            None => {
                let _ = write!(all, "---\n{text}");
            }
        }
    }
    print!("{all}");
    Ok(())
}
