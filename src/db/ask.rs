//! Answers to the planner's questions.

use serde::Deserialize;
use tokio_postgres::types::{ToSql, Type};

use super::{
    QUICK, Session,
    observe::{Named, all, one, split},
};
use crate::{
    api::{
        status::Reason,
        types::{Interval, Relation, SqlName},
    },
    catalog::{Answer, Answers, Definition, Drops, Extension, Loss, Question, Table, TextError},
    error::{Class, Failure},
    sql,
};

const TABLES: &str = include_str!("../../sql/catalog/tables.sql");
const DROPS: &str = include_str!("../../sql/catalog/drops.sql");
const HISTORY: &str = include_str!("../../sql/catalog/history.sql");
const DEFINITION: &str = include_str!("../../sql/catalog/definition.sql");
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
}

#[derive(Deserialize)]
struct SourceRow {
    schema: SqlName,
    name: SqlName,
}

impl Session {
    /// Answers all questions: tables, drops and histories by one query each; texts of resources one by one, each read by the
    /// server's own parser in a transaction that is rolled back.
    pub async fn ask<'a>(
        &self,
        questions: impl IntoIterator<Item = &'a Question>,
        extension: &Extension,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let (mut tables, mut drops, mut histories) = (Vec::new(), Vec::new(), Vec::new());
        for question in questions {
            match question {
                Question::Table(relation) => tables.push(relation),
                Question::Drops { relation, older_than } => drops.push((relation, *older_than)),
                Question::History { aggregate, start_offset } => histories.push((aggregate, *start_offset)),
                Question::Definition { aggregate, query, fingerprint: _ } => {
                    let answer = self.read_definition(aggregate, query, extension).await?;
                    answers.insert(question.clone(), Answer::Definition(answer));
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
        if !drops.is_empty() {
            self.ask_drops(&drops, extension, answers).await?;
        }
        if !histories.is_empty() {
            self.ask_histories(&histories, answers).await?;
        }
        Ok(())
    }

    async fn ask_tables(&self, relations: &[&Relation], answers: &mut Answers) -> Result<(), Failure> {
        let (schemas, names) = split(relations);
        let rows: Vec<Named<TableRow>> =
            all(&self.query(TABLES, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?)?;
        for relation in relations {
            answers.insert(Question::Table((*relation).clone()), Answer::Table(None));
        }
        for (relation, row) in rows.into_iter().map(Named::into_entry) {
            answers.insert(Question::Table(relation), Answer::Table(Some(row.table)));
        }
        Ok(())
    }

    async fn ask_drops(
        &self,
        asked: &[(&Relation, Interval)],
        extension: &Extension,
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let relations: Vec<_> = asked.iter().map(|(relation, _)| *relation).collect();
        let (schemas, names) = split(&relations);
        let ages: Vec<_> = asked.iter().map(|(_, age)| age.to_string()).collect();
        let path = sql::set_search_path("SET LOCAL", std::slice::from_ref(&extension.schema));
        let rows = self
            .rolled_back(&path, async {
                self.query(
                    DROPS,
                    &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&ages, Type::TEXT_ARRAY)],
                )
                .await
            })
            .await?;
        let drops: Vec<Drops> = all(&rows)?;
        for ((relation, older_than), drops) in asked.iter().zip(drops) {
            answers.insert(
                Question::Drops { relation: (*relation).clone(), older_than: *older_than },
                Answer::Drops(drops),
            );
        }
        Ok(())
    }

    async fn ask_histories(
        &self,
        asked: &[(&Relation, Option<Interval>)],
        answers: &mut Answers,
    ) -> Result<(), Failure> {
        let aggregates: Vec<_> = asked.iter().map(|(aggregate, _)| *aggregate).collect();
        let (schemas, names) = split(&aggregates);
        let offsets: Vec<_> = asked.iter().map(|(_, offset)| offset.map(|o| o.to_string())).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&offsets, Type::TEXT_ARRAY)];
        let losses: Vec<Option<Loss>> = all(&self.query(HISTORY, &parameters).await?)?;
        for ((aggregate, start_offset), loss) in asked.iter().zip(losses) {
            let question = Question::History { aggregate: (*aggregate).clone(), start_offset: *start_offset };
            answers.insert(question, Answer::History(loss));
        }
        Ok(())
    }

    /// How the server reads the query of an aggregate, and the one it was created with, deparsed under one search path.
    async fn read_definition(
        &self,
        aggregate: &Relation,
        query: &str,
        extension: &Extension,
    ) -> Result<Result<Definition, TextError>, Failure> {
        let path = sql::set_search_path("SET LOCAL", &sql::lookup_path(aggregate, extension));
        let read = self.rolled_back(&path, async {
            self.statement(&sql::temporary_view(query), QUICK).await?;
            self.execute("SET LOCAL search_path = pg_catalog").await?;
            self.query(DEFINITION, &[(&aggregate.schema.as_str(), Type::TEXT), (&aggregate.name.as_str(), Type::TEXT)])
                .await
        });
        let rows = match text_error(read.await)? {
            Ok(rows) => rows,
            Err(error) => return Ok(Err(error)),
        };
        let DefinitionRow { wanted, live, sources } = one(&rows)?;
        let sources = sources.into_iter().map(|SourceRow { schema, name }| Relation { schema, name }).collect();
        Ok(Ok(Definition { wanted, live, sources }))
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
            self.query(PREDICATE, &[]).await
        });
        match text_error(read.await)? {
            Ok(rows) => one(&rows).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn rolled_back<T>(&self, path: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.execute(&format!("BEGIN; {path}")).await?;
        let result = work.await;
        self.execute("ROLLBACK").await?;
        result
    }
}

/// A text that the server does not take is an answer. Only what says nothing about the text is a failure of the pass.
fn text_error<T>(read: Result<T, Failure>) -> Result<Result<T, TextError>, Failure> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(failure) if failure.reason == Reason::DatabaseUnreachable || failure.class == Class::Bug => Err(failure),
        Err(Failure { class: _, reason, message }) => Ok(Err(TextError { reason, message })),
    }
}
