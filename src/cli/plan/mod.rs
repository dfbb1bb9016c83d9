//! `plan`: what resources would change in a live database. Nothing is written.

pub mod document;
mod markdown;
pub mod text;

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::{
    Outcome,
    connection::{self, Connection},
    manifests::Files,
    output,
    workspace::{self, Subject, Workspace},
};
use crate::{
    args::Defaults,
    catalog::{Answers, Catalog},
    db::Session,
    desired::{self, Desired, PlanDigest},
    error::Failure,
    plan::step::Plan,
};
use document::{Database, Document};

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct Options {
    /// The manifests.
    #[command(flatten)]
    pub files: Files,
    /// The database, or the cluster that knows it.
    #[command(flatten)]
    pub connection: Connection,
    /// Form of the result.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Format,
    /// The statements alone, as psql takes them: short for `-o sql`.
    #[arg(long, conflicts_with = "output")]
    pub sql: bool,
    /// The operator's own defaults, where there is no cluster to ask.
    #[command(flatten)]
    pub defaults: Defaults,
}

/// Forms of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A tree for people.
    Text,
    /// The statements.
    Sql,
    /// Everything, for machines.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

/// Shows what the manifests would change. [`Outcome::Differs`] when that is anything.
///
/// # Errors
/// When the manifests have problems or a database cannot be read.
pub async fn run(options: Options) -> Result<Outcome, Failure> {
    let Workspace { subjects, places, notes } =
        workspace::gather(&options.files, &options.connection, &options.defaults.into()).await?;
    let mut databases = Vec::new();
    for subject in &subjects {
        let session = connection::connect(&subject.endpoint).await?;
        session.allow_temporary_objects().await?;
        let Planned { desired, catalog, plan } = look(&session, subject, &[], &mut Answers::new()).await?;
        databases.push(Database::new(subject, &catalog.server, &desired, &plan, &places));
    }
    let differs = databases.iter().any(|database| !database.is_in_sync());
    let document = Document { databases, notes };
    let printed = match if options.sql { Format::Sql } else { options.output } {
        Format::Text => text::tree(&document),
        Format::Sql => text::sql(&document),
        Format::Json => output::json(&document)?,
        Format::Markdown => markdown::comment(&document),
    };
    output::print(&printed)?;
    Ok(if differs { Outcome::Differs } else { Outcome::Clean })
}

/// What was seen in a database, and what follows from it.
pub(super) struct Planned {
    pub desired: Desired,
    pub catalog: Catalog,
    pub plan: Plan,
}

/// Observes and plans. `approvals` count for every resource, beside those of their annotations.
pub(super) async fn look(
    session: &Session,
    subject: &Subject,
    approvals: &[PlanDigest],
    answers: &mut Answers,
) -> Result<Planned, Failure> {
    let mut desired = desired::collect(&subject.database, &subject.attached);
    for claim in &mut desired.claims {
        claim.approvals.extend_from_slice(approvals);
    }
    let rules = desired::rules(&subject.database);
    let catalog = session.observe(&desired.with_indexes()).await?;
    let plan = session.plan(&desired, &rules, &catalog, answers, &BTreeMap::new()).await?;
    Ok(Planned { desired, catalog, plan })
}
