//! An index of a hypertable or of a continuous aggregate.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::types::{Nulls, Order};

/// One index (`CREATE INDEX … WITH (timescaledb.transaction_per_chunk)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.unique) || !self.unique || self.method == 'Btree'").message("only Btree indexes can be unique").field_path(".unique"),
    validation = Rule::new("!has(self.include) || self.method in ['Btree', 'Gist', 'Spgist']").message("only Btree, Gist and Spgist indexes can include columns").field_path(".include"),
    validation = Rule::new("self.method == 'Btree' || self.columns.all(c, c.order == 'Asc' && !has(c.nulls))").message("only Btree indexes have an order").field_path(".columns")
)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Name of the index, in the schema of the table; of a continuous aggregate in the schema of the hypertable behind it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How the index is organised.
    #[serde(default)]
    pub method: IndexMethod,
    /// No two rows may have the same key. It must hold every partitioning column, and its build blocks writes.
    #[serde(default)]
    pub unique: bool,
    /// Key columns, in order.
    #[schemars(length(min = 1, max = 32))]
    pub columns: Vec<IndexColumn>,
    /// Columns stored in the index without being part of the key (`INCLUDE`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 31), inner(length(min = 1, max = 63)))]
    pub include: Vec<String>,
    /// Which rows are in the index: one boolean SQL expression over the table's columns (`WHERE`).
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub predicate: Option<String>,
}

/// One key column of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexColumn {
    /// Name of the column.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Direction.
    #[serde(default)]
    pub order: Order,
    /// Where NULLs sort. Left out: last when ascending, first when descending, as PostgreSQL does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Nulls>,
}

/// PostgreSQL's access methods for indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IndexMethod {
    /// `btree`
    #[default]
    Btree,
    /// `hash`
    Hash,
    /// `gist`
    Gist,
    /// `spgist`
    Spgist,
    /// `gin`
    Gin,
    /// `brin`
    Brin,
}

impl IndexMethod {
    /// `pg_am.amname`
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btree => "btree",
            Self::Hash => "hash",
            Self::Gist => "gist",
            Self::Spgist => "spgist",
            Self::Gin => "gin",
            Self::Brin => "brin",
        }
    }
}
