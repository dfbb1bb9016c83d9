//! `import`: an existing database as resources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Outcome, connection::Connection, output};
use crate::{
    api::{status::Reason, types::SqlName},
    error::{Class, Failure},
    import::{self, Imported, Pattern},
};

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Options {
    /// The database. The namespace (`-n`) is also that of the resources; left out, they have none.
    #[command(flatten)]
    pub connection: Connection,
    /// Name of the TimescaleDatabase. Left out: that of the database.
    #[arg(long, value_name = "NAME", value_parser = resource_name)]
    pub name: Option<String>,
    /// Name of the secret that the TimescaleDatabase refers to; its content is not written. Left out: the name of the
    /// TimescaleDatabase with `-app` behind it.
    #[arg(long, value_name = "NAME", value_parser = resource_name)]
    pub secret: Option<String>,
    /// Schema whose hypertables and continuous aggregates are imported; may be repeated. Given once, the names of the
    /// resources do without it. Left out: all.
    #[arg(long = "schema", value_name = "SCHEMA", value_parser = schema)]
    pub schemas: Vec<SqlName>,
    /// Names of the hypertables and continuous aggregates that are imported: `*` is any text, `?` any one character. Left out:
    /// all.
    #[arg(long, value_name = "PATTERN")]
    pub table: Option<Pattern>,
    /// Write one file for each hypertable and each continuous aggregate, with the policies on it, into this folder instead of
    /// one stream on standard output. Files of the same names are replaced, others are left alone.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

fn schema(text: &str) -> Result<SqlName, String> {
    text.parse().map_err(|error: crate::api::types::SqlNameError| error.to_string())
}

/// A name as Kubernetes takes it (a DNS-1123 subdomain).
fn resource_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.chars().all(allowed)
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return Err(format!("{text:?} is no name of a resource: use lower case letters, digits, dashes and dots"));
    }
    Ok(text.to_owned())
}

/// Reads the database and prints the resources that describe it, or writes them into a folder.
///
/// # Errors
/// When the database cannot be read, or a file cannot be written.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let Options { connection, name, secret, schemas, table, output_dir } = options;
    let session = connection.open().await?;
    let wanted = import::Options {
        namespace: connection.cluster.namespace.clone(),
        name: name.or_else(|| connection.database.clone()),
        secret,
        schemas,
        table,
    };
    let imported = session.import(&wanted).await?;
    match &output_dir {
        None => output::print(&imported.render().map_err(unprintable)?)?,
        Some(folder) => write(&imported, folder)?,
    }
    anstream::eprintln!("{}", summary(&imported, output_dir.as_deref()));
    Ok(Outcome::Clean)
}

fn write(imported: &Imported, folder: &Path) -> Result<(), Failure> {
    let refused = |path: &Path, error: &std::io::Error| {
        Failure::new(Class::User, Reason::InvalidSpec, format!("{}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| refused(folder, &error))?;
    for section in &imported.sections {
        let path = folder.join(format!("{}.yaml", section.name));
        let text = section.render().map_err(unprintable)?;
        fs::write(&path, text).map_err(|error| refused(&path, &error))?;
    }
    Ok(())
}

fn unprintable(error: String) -> Failure {
    Failure::new(Class::Bug, Reason::InternalError, error)
}

/// What was imported, in one line for the person who waits.
fn summary(imported: &Imported, folder: Option<&Path>) -> String {
    const KINDS: [(&str, &str, &str); 4] = [
        ("Hypertable", "hypertable", "hypertables"),
        ("ContinuousAggregate", "continuous aggregate", "continuous aggregates"),
        ("CompressionPolicy", "compression policy", "compression policies"),
        ("RetentionPolicy", "retention policy", "retention policies"),
    ];
    let counts = KINDS.map(|(kind, one, several)| {
        let count = imported.resources().filter(|resource| resource.kind() == kind).count();
        format!("{count} {}", if count == 1 { one } else { several })
    });
    // Without the one on the secret.
    let remarks =
        imported.sections.iter().flat_map(|section| &section.documents).map(|d| d.remarks.len()).sum::<usize>() - 1;
    let said = match remarks {
        0 => String::new(),
        1 => "; a comment says what could not be expressed".to_owned(),
        several => format!("; {several} comments say what could not be expressed"),
    };
    let files = match imported.sections.len() {
        1 => "1 file".to_owned(),
        several => format!("{several} files"),
    };
    let files = folder.map(|folder| format!(", {files} in {}", folder.display()));
    format!("imported {}{}{said}", counts.join(", "), files.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::resource_name;

    #[test]
    fn names_of_resources_are_those_of_kubernetes() {
        for name in ["ms5", "a.b", "factory-db-1"] {
            assert_eq!(resource_name(name), Ok(name.to_owned()));
        }
        for wrong in ["", "MS5", "a_b", "-a", "a-", "a..b", "größe", &"x".repeat(254)] {
            assert!(resource_name(wrong).is_err(), "{wrong}");
        }
    }
}
