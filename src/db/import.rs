//! A live database → the resources that describe it. Besides the catalog that is four queries, whatever the number of
//! objects, and the planner's questions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tokio_postgres::types::Type;

use super::{
    Session,
    ask::text_error,
    observe::{Named, all, one},
};
use crate::{
    api::{
        status::Reason,
        timescale_database::Mode,
        types::{Relation, SqlName},
    },
    catalog::{Answers, Catalog, Extension, TextError},
    error::{Class, Failure},
    import::{AggregateDetails, Details, Imported, Options, OtherJob, Source, TableDetails, import},
    plan, sql,
};

/// Rounds of asking and importing again. An aggregate takes two for each wording of its query, and one for its indexes.
const MAX_QUESTIONS: usize = 8;

const TABLES: &str = include_str!("../../sql/import/tables.sql");
const AGGREGATES: &str = include_str!("../../sql/import/aggregates.sql");
const QUERIES: &str = include_str!("../../sql/import/queries.sql");
const JOBS: &str = include_str!("../../sql/import/jobs.sql");

#[derive(Deserialize)]
struct TableRow {
    id: i32,
    #[serde(flatten)]
    details: TableDetails,
}

#[derive(Deserialize)]
struct AggregateRow {
    view: u32,
    grouped_by: BTreeSet<SqlName>,
}

#[derive(Deserialize)]
struct JobsRow {
    database: String,
    jobs: Vec<OtherJob>,
    config_keys: BTreeMap<i32, Vec<String>>,
}

/// A query as the server prints it: for people, and with every bracket.
type Printed = Result<[String; 2], TextError>;

impl Session {
    /// The resources that describe the database as it is. Nothing is written.
    ///
    /// # Errors
    /// When the database cannot be read, or nothing can be managed in it.
    pub async fn import(&self, options: &Options) -> Result<Imported, Failure> {
        let seen = self.observe(&[]).await?;
        if let Some(refusal) = plan::unusable(&seen.server, Mode::Observe) {
            return Err(Failure::new(Class::User, refusal.reason, refusal.message));
        }
        let relations: Vec<_> =
            seen.hypertables.keys().chain(seen.aggregates.keys()).filter(|r| options.include(r)).collect();
        let catalog = if relations.is_empty() { seen.clone() } else { self.observe(&relations).await? };
        let details = self.read_details(&catalog, &relations).await?;
        let mut answers = Answers::new();
        for _ in 0..MAX_QUESTIONS {
            match import(Source { catalog: &catalog, details: &details }, options, &answers) {
                Ok(imported) => return Ok(imported),
                Err(questions) => {
                    let Some(extension) = &catalog.server.extension else { break };
                    self.ask(&questions, extension, &mut answers).await?;
                }
            }
        }
        Err(Failure::new(Class::Bug, Reason::InternalError, "the import goes on asking; please report it"))
    }

    /// Reads what an import needs to know of these hypertables and aggregates beyond their catalog.
    async fn read_details(&self, catalog: &Catalog, relations: &[&Relation]) -> Result<Details, Failure> {
        let ids: Vec<i32> = relations.iter().filter_map(|r| catalog.host(r)).map(|host| host.id).collect();
        let JobsRow { database, jobs, config_keys } = one(&self.query(JOBS, &[]).await?)?;
        let tables: Vec<TableRow> = all(&self.query(TABLES, &[(&ids, Type::INT4_ARRAY)]).await?)?;
        let mut details = Details {
            database,
            tables: tables.into_iter().map(|row| (row.id, row.details)).collect(),
            aggregates: BTreeMap::new(),
            jobs,
            config_keys,
        };
        let rows: Vec<Named<AggregateRow>> = all(&self.query(AGGREGATES, &[]).await?)?;
        let wanted: BTreeSet<_> = relations.iter().copied().collect();
        let rows = rows.into_iter().map(Named::into_entry).filter(|(relation, _)| wanted.contains(relation));
        let (names, rows): (Vec<_>, Vec<_>) = rows.unzip();
        let Some(extension) = catalog.server.extension.as_ref().filter(|_| !rows.is_empty()) else {
            return Ok(details);
        };
        let views: Vec<u32> = rows.iter().map(|row: &AggregateRow| row.view).collect();
        let printed = self.print_queries(&views, extension).await?;
        for ((relation, row), printed) in names.into_iter().zip(rows).zip(printed) {
            let queries = printed.map(Vec::from).map_err(|error| error.message);
            details.aggregates.insert(relation, AggregateDetails { queries, grouped_by: row.grouped_by });
        }
        Ok(details)
    }

    /// How the server prints the queries of these views. Printing one waits for whoever has locked what it reads, for as long
    /// as the session waits for any lock: then each is printed by itself.
    async fn print_queries(&self, views: &[u32], extension: &Extension) -> Result<Vec<Printed>, Failure> {
        let path = sql::set_search_path("SET LOCAL", std::slice::from_ref(&extension.schema));
        if let Ok(printed) = text_error(self.print(views, &path).await)?
            && printed.len() == views.len()
        {
            return Ok(printed.into_iter().map(Ok).collect());
        }
        let mut all = Vec::new();
        for view in views {
            let gone = || TextError { reason: Reason::Retrying, message: "it is gone".to_owned() };
            let printed = text_error(self.print(&[*view], &path).await)?;
            all.push(printed.and_then(|printed| printed.into_iter().next().ok_or_else(gone)));
        }
        Ok(all)
    }

    async fn print(&self, views: &[u32], path: &str) -> Result<Vec<[String; 2]>, Failure> {
        let rows = self.rolled_back(path, self.query(QUERIES, &[(&views, Type::OID_ARRAY)])).await?;
        all(&rows)
    }
}
