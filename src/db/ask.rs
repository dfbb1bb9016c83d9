//! Answers to the planner's questions.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use serde::Deserialize;
use tokio_postgres::types::{ToSql, Type};

use super::{
    QUICK, Session,
    observe::{all, named, one, split},
};
use crate::{
    api::{
        status::Reason,
        types::{Relation, SqlName},
    },
    catalog::{Answer, Answers, Attachments, Catalog, Definition, Drops, Extension, Question, Table, TextError},
    desired::{ClaimId, Desired, Rules},
    error::{Class, Failure},
    plan::{self, step::Plan},
    sql,
};

/// Rounds of asking and planning again for one plan. What is asked about one resource may depend on the answer about another
/// that comes before it; more than these would be a defect.
const MAX_QUESTIONS: usize = 6;

/// Policies or aggregates that one query is about: what they would lose takes about a millisecond for ten chunks, and a query
/// that takes longer than the session allows is not answered at all.
const ASKED_AT_ONCE: usize = 100;

const TABLES: &str = include_str!("../../sql/catalog/tables.sql");
const DROPS: &str = include_str!("../../sql/catalog/drops.sql");
const HISTORY: &str = include_str!("../../sql/catalog/history.sql");
const DEFINITION: &str = include_str!("../../sql/catalog/definition.sql");
const ATTACHMENTS: &str = include_str!("../../sql/catalog/attachments.sql");
const PREDICATE: &str = include_str!("../../sql/catalog/predicate.sql");

#[derive(Deserialize)]
struct TableRow {
    table: Table,
}

#[derive(Deserialize)]
struct DefinitionRow {
    wanted: String,
    live: Option<String>,
    sources: Vec<SourceRow>,
    volatile: Vec<String>,
}

/// What a policy would drop, or why that cannot be said.
#[derive(Deserialize)]
struct DropsRow {
    #[serde(flatten)]
    drops: Drops,
    problem: Option<String>,
}

#[derive(Deserialize)]
struct SourceRow {
    schema: SqlName,
    name: SqlName,
}

impl Session {
    /// The plan, with its questions answered. `answers` remembers the texts of resources, which the server reads once; claims
    /// in `running` have a long step under way.
    ///
    /// # Errors
    /// When a question cannot be asked. What a question is about and cannot be read is an answer.
    pub async fn plan(
        &self,
        desired: &Desired,
        rules: &Rules,
        catalog: &Catalog,
        answers: &mut Answers,
        running: &BTreeMap<ClaimId, String>,
    ) -> Result<Plan, Failure> {
        let plan_with = |answers: &Answers| plan::plan(plan::Inputs { desired, rules, catalog, answers, running });
        self.complete(plan_with(answers), plan_with, catalog, answers).await
    }

    /// A plan of this catalog with its questions answered: asks them and plans again with the answers, until none is left.
    ///
    /// # Errors
    /// As those of [`Self::plan`].
    pub async fn complete(
        &self,
        plan: Plan,
        plan_with: impl Fn(&Answers) -> Plan + Send + Sync,
        catalog: &Catalog,
        answers: &mut Answers,
    ) -> Result<Plan, Failure> {
        let completed = async {
            let mut plan = plan;
            for _ in 0..MAX_QUESTIONS {
                let Some(extension) = catalog.server.extension.as_ref().filter(|_| !plan.questions.is_empty()) else {
                    break;
                };
                self.ask(&plan.questions, extension, answers).await?;
                plan = plan_with(answers);
            }
            Ok::<_, Failure>(plan)
        };
        let completed = completed.await;
        answers.retain(|question, answer| question.is_lasting() && answer.is_lasting());
        let plan = completed?;
        if !plan.questions.is_empty() {
            let message = format!("the planner goes on asking: {:?}", plan.questions);
            return Err(Failure::new(Class::Bug, Reason::InternalError, message));
        }
        Ok(plan)
    }

    /// Answers all questions: tables by one query, drops, histories and definitions by one for each [`ASKED_AT_ONCE`]. Texts of
    /// resources are read by the server's own parser, in transactions that are rolled back.
    pub async fn ask<'a>(
        &self,
        questions: impl IntoIterator<Item = &'a Question>,
        extension: &Extension,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let (mut tables, mut drops, mut histories, mut definitions) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for question in questions {
            match question {
                Question::Table(relation) => tables.push(relation),
                Question::Drops { .. } => drops.push(question),
                Question::History { .. } => histories.push(question),
                Question::Attachments(aggregate) => {
                    let answer = self.read_attachments(aggregate).await?;
                    answers.insert(question.clone(), Answer::Attachments(answer));
                }
                Question::Definition { aggregate, query, fingerprint: _ } => {
                    definitions.push((question, (aggregate, query.as_str())));
                }
                Question::Predicate { relation, text } => {
                    let answer = self.read_predicate(relation, text, extension).await?;
                    answers.insert(question.clone(), Answer::Predicate(answer));
                }
            }
        }
        if !tables.is_empty() {
            self.ask_tables(&tables, answers).await?;
        }
        for asked in definitions.chunks(ASKED_AT_ONCE) {
            self.ask_definitions(asked, extension, answers).await?;
        }
        // One object that cannot be read must not keep the others from being asked about.
        for asked in drops.chunks(ASKED_AT_ONCE).chain(histories.chunks(ASKED_AT_ONCE)) {
            if !self.ask_about(asked, extension, answers).await? && asked.len() > 1 {
                for question in asked {
                    self.ask_about(&[question], extension, answers).await?;
                }
            }
        }
        Ok(())
    }

    async fn ask_tables(&self, relations: &[&Relation], answers: &mut Answers) -> Result<(), Failure> {
        let (schemas, names) = split(relations);
        let rows: Vec<(Relation, TableRow)> =
            named(&self.query(TABLES, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?)?;
        for relation in relations {
            answers.insert(Question::Table((*relation).clone()), Answer::Table(None));
        }
        for (relation, row) in rows {
            answers.insert(Question::Table(relation), Answer::Table(Some(row.table)));
        }
        Ok(())
    }

    /// Answers questions of one kind, about drops or about histories, by one query. A failure of that query is the answer
    /// to each. Says whether it succeeded.
    async fn ask_about(
        &self,
        asked: &[&Question],
        extension: &Extension,
        answers: &mut Answers,
    ) -> Result<bool, Failure> {
        let (mut schemas, mut names, mut spans, mut measures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut histories = false;
        for question in asked {
            let (relation, span) = match question {
                Question::Drops { relation, measure, age } => {
                    measures.push(measure.as_str());
                    (relation, Some(age.clone()))
                }
                Question::History { aggregate, start_offset } => (aggregate, start_offset.clone()),
                Question::Table(_)
                | Question::Definition { .. }
                | Question::Predicate { .. }
                | Question::Attachments(_) => continue,
            };
            histories = matches!(question, Question::History { .. });
            schemas.push(relation.schema.as_str());
            names.push(relation.name.as_str());
            spans.push(span);
        }
        if spans.is_empty() {
            return Ok(true);
        }
        let mut parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&spans, Type::TEXT_ARRAY)];
        if !histories {
            parameters.push((&measures, Type::TEXT_ARRAY));
        }
        let query = if histories { HISTORY } else { DROPS };
        let query = query.replace("@extension@", &sql::quote_ident(&extension.schema));
        let rows = match text_error(self.query(&query, &parameters).await)? {
            Ok(rows) if rows.len() == asked.len() => rows,
            Ok(_) => {
                refuse(asked, &changed(), answers);
                return Ok(false);
            }
            Err(error) => {
                refuse(asked, &error, answers);
                return Ok(false);
            }
        };
        let values: Vec<Answer> = if histories {
            all(&rows)?.into_iter().map(|loss| Answer::History(Ok(loss))).collect()
        } else {
            all(&rows)?.into_iter().map(counted).collect()
        };
        answers.extend(asked.iter().map(|question| (*question).clone()).zip(values));
        Ok(true)
    }

    /// Answers questions about definitions in one transaction; where the server does not take one of the texts, each in its
    /// own.
    async fn ask_definitions(
        &self,
        asked: &[(&Question, (&Relation, &str))],
        extension: &Extension,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let texts: Vec<_> = asked.iter().map(|(_, text)| *text).collect();
        if let Ok(read) = self.read_definitions(&texts, extension).await? {
            let read = read.into_iter().map(|definition| Answer::Definition(Ok(definition)));
            answers.extend(asked.iter().map(|(question, _)| (*question).clone()).zip(read));
            return Ok(());
        }
        for (question, text) in asked {
            let read = self.read_definitions(&[*text], extension).await?;
            let answer = read.and_then(|mut read| read.pop().ok_or_else(changed));
            answers.insert((*question).clone(), Answer::Definition(answer));
        }
        Ok(())
    }

    /// How the server reads the queries of aggregates, and those that they were created with, deparsed under one search path.
    async fn read_definitions(
        &self,
        texts: &[(&Relation, &str)],
        extension: &Extension,
    ) -> Result<Result<Vec<Definition>, TextError>, Failure> {
        let definition = self.definition.get_or_try_init(|| self.prepare(DEFINITION)).await?;
        let relations: Vec<_> = texts.iter().map(|(aggregate, _)| *aggregate).collect();
        let (schemas, names) = split(&relations);
        let path_of = |aggregate| sql::set_search_path("SET LOCAL", &sql::lookup_path(aggregate, extension));
        let views =
            texts.iter().zip(1..).map(|((aggregate, query), nr)| (path_of(aggregate), sql::temporary_view(nr, query)));
        let views: Vec<_> = views.collect();
        let read = self.rolled_back("SET LOCAL search_path = pg_catalog", async {
            for alike in views.chunk_by(|(a, _), (b, _)| a == b) {
                self.execute(&alike[0].0).await?;
                try_join_all(alike.iter().map(|(_, view)| self.statement(view, QUICK))).await?;
            }
            self.execute("SET LOCAL search_path = pg_catalog").await?;
            self.query_prepared(definition, &[&schemas, &names]).await
        });
        let rows = match text_error(read.await)? {
            Ok(rows) if rows.len() == texts.len() => rows,
            Ok(_) => return Ok(Err(changed())),
            Err(error) => return Ok(Err(error)),
        };
        let definition = |DefinitionRow { wanted, live, sources, volatile }| {
            let sources = sources.into_iter().map(|SourceRow { schema, name }| Relation { schema, name }).collect();
            Definition { wanted, live, sources, volatile }
        };
        Ok(Ok(all(&rows)?.into_iter().map(definition).collect()))
    }

    /// What hangs on an aggregate.
    async fn read_attachments(&self, aggregate: &Relation) -> Result<Result<Attachments, TextError>, Failure> {
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&aggregate.schema.as_str(), Type::TEXT), (&aggregate.name.as_str(), Type::TEXT)];
        match text_error(self.query(ATTACHMENTS, &parameters).await)? {
            Ok(rows) if rows.is_empty() => Ok(Err(changed())),
            Ok(rows) => one(&rows).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// How the server prints the predicate of an index.
    async fn read_predicate(
        &self,
        relation: &Relation,
        text: &str,
        extension: &Extension,
    ) -> Result<Result<String, TextError>, Failure> {
        let path = sql::set_search_path("SET LOCAL", &sql::lookup_path(relation, extension));
        let [clone, index] = sql::temporary_index(relation, text);
        let read = self.rolled_back(&path, async {
            self.statement(&clone, QUICK).await?;
            self.statement(&index, QUICK).await?;
            // As the observation reads those of live indexes: names that are not on its path are printed with their schema.
            self.execute("SET LOCAL search_path = pg_catalog, pg_temp").await?;
            self.query(PREDICATE, &[]).await
        });
        match text_error(read.await)? {
            Ok(rows) => one(&rows).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(super) async fn rolled_back<T>(
        &self,
        path: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.execute(&format!("BEGIN; {path}")).await?;
        let result = work.await;
        self.execute("ROLLBACK").await?;
        result
    }
}

/// A text that the server does not take is an answer. Only what says nothing about the text is a failure of the pass.
pub(super) fn text_error<T>(read: Result<T, Failure>) -> Result<Result<T, TextError>, Failure> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(failure) if failure.reason == Reason::DatabaseUnreachable || failure.class == Class::Bug => Err(failure),
        Err(Failure { class: _, reason, message }) => Ok(Err(TextError { reason, message })),
    }
}

fn counted(row: DropsRow) -> Answer {
    let DropsRow { drops, problem } = row;
    Answer::Drops(match problem {
        None => Ok(drops),
        Some(message) => Err(TextError { reason: Reason::InvalidSpec, message }),
    })
}

fn changed() -> TextError {
    TextError {
        reason: Reason::Retrying,
        message: "the object changed since the catalog was read; it is read again".into(),
    }
}

/// Gives the error as the answer to all of these questions.
fn refuse(asked: &[&Question], error: &TextError, answers: &mut Answers) {
    for question in asked {
        let answer = match question {
            Question::History { .. } => Answer::History(Err(error.clone())),
            _ => Answer::Drops(Err(error.clone())),
        };
        answers.insert((*question).clone(), answer);
    }
}
