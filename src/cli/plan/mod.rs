//! `plan`: what resources would change in a live database. Nothing is written.

pub mod document;
mod markdown;
pub mod text;

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::{
    Outcome, connection, output,
    workspace::{self, Subject, Workspace},
};
use crate::{
    catalog::{Answers, Catalog},
    db::Session,
    desired::{self, Desired, PlanDigest},
    error::Failure,
    plan::{
        step::Plan,
        unclaimed::{Unclaimed, unclaimed},
    },
};
use document::{Database, Document};

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct Options {
    /// What is wanted of which database.
    #[command(flatten)]
    pub workspace: workspace::Options,
    /// Form of the result.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Format,
    /// The statements alone, as psql takes them: short for `-o sql`.
    #[arg(long, conflicts_with = "output")]
    pub sql: bool,
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
    let Workspace { subjects, places, mut notes } = workspace::gather(options.workspace).await?;
    let mut databases = Vec::new();
    for subject in &subjects {
        let session = connection::connect(&subject.endpoint).await?;
        session.allow_temporary_objects().await?;
        let Planned { desired, catalog, plan } = look(&session, subject, &[], &mut Answers::new()).await?;
        notes.extend(unclaimed(&desired, &catalog).into_iter().map(|Unclaimed { relation, kind, job_id }| {
            format!("{relation} has a {kind} (job {job_id}) that no manifest names; it stays as it is")
        }));
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
