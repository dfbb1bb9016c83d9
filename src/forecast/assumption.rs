//! What is taken to be otherwise than it is: `metric-hist.dropAfter=180d`.

use std::{fmt, str::FromStr};

use crate::{
    api::types::{Interval, Relation, Span},
    resources::resource_name,
};

/// One change to one table, or to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Assumption {
    /// As it was written: `schema.table`, `table`, the name of a resource (`metric-hist` for `metric_hist`), or `*`.
    pub name: String,
    /// What is otherwise.
    pub change: Change,
}

/// What is otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Chunks are dropped from this age on; `None`: never.
    DropAfter(Option<Span>),
    /// Chunks are compressed from this age on; `None`: never, those that are compressed stay so.
    CompressAfter(Option<Span>),
    /// How many times smaller compression makes a chunk.
    Ratio(f64),
    /// How many times as much comes in as was measured.
    Ingest(f64),
}

impl Assumption {
    /// Whether it is for this table.
    pub fn is_for(&self, relation: &Relation) -> bool {
        let (name, table) = (self.name.as_str(), relation.name.as_str());
        name == "*"
            || name == table
            || name == resource_name(table)
            || name == relation.to_string()
            || name.split_once('.') == Some((relation.schema.as_str(), table))
    }
}

impl FromStr for Assumption {
    type Err = String;

    /// Reads `NAME.FIELD=VALUE`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write NAME.FIELD=VALUE, for example metric-hist.dropAfter=180d; the fields are dropAfter and compressAfter (an age, or none), ratio and ingest (times)";
        let (left, value) = text.split_once('=').ok_or_else(|| format!("{text:?} sets nothing; {FORM}"))?;
        let (name, field) = left.trim().rsplit_once('.').ok_or_else(|| format!("{text:?} names no field; {FORM}"))?;
        let value = value.trim();
        if name.is_empty() {
            return Err(format!("{text:?} names no table; {FORM}"));
        }
        let age = || match value {
            "none" | "never" => Ok(None),
            value => age(value).map(Some),
        };
        let times = || {
            let number: f64 = value.parse().map_err(|_| format!("{value:?} is no number"))?;
            if number.is_finite() && number > 0.0 { Ok(number) } else { Err(format!("{value:?} is not above 0")) }
        };
        let change = match field {
            "dropAfter" => Change::DropAfter(age()?),
            "compressAfter" => Change::CompressAfter(age()?),
            "ratio" => Change::Ratio(times()?),
            "ingest" => Change::Ingest(times()?),
            other => return Err(format!("{other:?} is no field that can be set; {FORM}")),
        };
        Ok(Self { name: name.to_owned(), change })
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = |age: Option<Span>| age.map_or_else(|| "none".to_owned(), |span| span.to_string());
        let (field, value) = match self.change {
            Change::DropAfter(after) => ("dropAfter", age(after)),
            Change::CompressAfter(after) => ("compressAfter", age(after)),
            Change::Ratio(ratio) => ("ratio", ratio.to_string()),
            Change::Ingest(times) => ("ingest", times.to_string()),
        };
        write!(f, "{}.{field}={value}", self.name)
    }
}

/// Reads an age: an interval as the API has it (`180d`, `6 months`, `P180D`), or a number of units of an integer column.
///
/// # Errors
/// When it is neither, or not longer than nothing.
pub fn age(text: &str) -> Result<Span, String> {
    let span = match text.parse::<i64>() {
        Ok(units) => Span::Integer(units),
        Err(_) => Span::Time(text.parse::<Interval>().map_err(|error| error.to_string())?),
    };
    if span.is_positive() { Ok(span) } else { Err(format!("{text:?} is not longer than nothing")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_otherwise_is_read() {
        let read = |text: &str| text.parse::<Assumption>().map(|assumption| assumption.to_string());
        for (text, same) in [
            ("metric-hist.dropAfter=180d", "metric-hist.dropAfter=180 days"),
            ("factory.metric_hist.compressAfter=12 hours", "factory.metric_hist.compressAfter=12 hours"),
            ("*.dropAfter=none", "*.dropAfter=none"),
            ("a.ratio=12.5", "a.ratio=12.5"),
            ("a.ingest=2", "a.ingest=2"),
            ("a.dropAfter=86400000", "a.dropAfter=86400000"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(same), "{text}");
        }
        for wrong in [
            "",
            "a",
            "a=b",
            ".dropAfter=1d",
            "a.dropAfter",
            "a.dropAfter=soon",
            "a.dropAfter=0",
            "a.ratio=0",
            "a.ratio=x",
            "a.name=b",
        ] {
            assert!(read(wrong).is_err(), "{wrong}: {:?}", read(wrong));
        }
    }

    #[test]
    fn a_table_has_several_names() {
        let relation: Relation = "factory.metric_hist".parse().unwrap();
        for (name, is) in [
            ("metric_hist", true),
            ("metric-hist", true),
            ("factory.metric_hist", true),
            ("*", true),
            ("metric", false),
            ("public.metric_hist", false),
        ] {
            let assumption = Assumption { name: name.to_owned(), change: Change::Ratio(1.0) };
            assert_eq!(assumption.is_for(&relation), is, "{name}");
        }
    }
}
