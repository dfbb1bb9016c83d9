//! What a shell and a reader want to know of the program.

use super::run_with;
use crate::support::{Result, process::Folder};

#[tokio::test]
async fn completions_manual_pages_and_versions_are_printed() -> Result<()> {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run_with(&["completion", shell], None, "").await?.with_code(0);
        assert!(output.stdout.contains("recommend") || output.stdout.contains("plan"), "{shell}");
    }
    let folder = Folder::new("man")?;
    let path = folder.path().to_str().ok_or("not UTF-8")?;
    run_with(&["man", "--output-dir", path], None, "").await?.with_code(0);
    let page = std::fs::read_to_string(folder.path().join("timescaledb-policy-operator-plan.1"))?;
    assert!(page.contains("nothing is written"), "{page}");
    let version = run_with(&["version", "-o", "json"], None, "").await?.with_code(0);
    let version: serde_json::Value = serde_json::from_str(&version.stdout)?;
    assert_eq!(version["api"], "timescaledb-policy.io/v1alpha1");
    Ok(())
}

#[tokio::test]
async fn a_wrong_argument_is_an_error_with_a_hint() -> Result<()> {
    let output = run_with(&["plan"], None, "").await?.with_code(1);
    assert!(output.stderr.contains("--filename <PATH>"), "{}", output.stderr);
    let output = run_with(&["paln"], None, "").await?.with_code(1);
    assert!(output.stderr.contains("'plan'"), "{}", output.stderr);
    Ok(())
}
