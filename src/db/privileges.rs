//! What the session's role may not do, asked before anything is done.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use super::{Session, observe::split};
use crate::{
    api::types::{Relation, SqlName},
    error::Failure,
};

const PRIVILEGES: &str = include_str!("../../sql/catalog/privileges.sql");

/// Something that the role may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The schema.
    pub schema: String,
    /// The relation that it may not alter; `None`: it may not create in the schema.
    pub relation: Option<String>,
    /// Who owns it.
    pub owner: String,
}

impl Session {
    /// What the role lacks to alter the relations that exist, and to create in the schemas.
    pub async fn lacks(&self, relations: &[&Relation], schemas: &BTreeSet<&SqlName>) -> Result<Vec<Lack>, Failure> {
        let (of, names) = split(relations);
        let schemas: Vec<_> = schemas.iter().map(|schema| schema.as_str()).collect();
        let rows = self
            .query(PRIVILEGES, &[(&of, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&schemas, Type::TEXT_ARRAY)])
            .await?;
        Ok(rows.iter().map(|row| Lack { schema: row.get(0), relation: row.get(1), owner: row.get(2) }).collect())
    }
}
