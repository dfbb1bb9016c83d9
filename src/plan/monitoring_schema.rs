//! The monitoring views in the schema that `spec.monitoringSchema` names: what is installed there and what is to be done.
//!
//! Nothing here ever removes them: a field that is left out, or that names another schema, leaves them where they are, and
//! the database's status says so.

use std::fmt::Write as _;

use crate::{
    api::{status::Reason, types::SqlName},
    catalog::MonitoringSchema,
    desired::Rejection,
};

/// The version of `sql/monitoring`; version.sql and schema.sql have the same. It rises with every change there.
pub const VERSION: u32 = 1;

/// What is to be done about the monitoring views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// None are wanted.
    Unwanted,
    /// They are there as they were installed, in this version: this operator's, or a later one, which it leaves alone.
    Installed(u32),
    /// They are to be installed.
    Install(Install),
    /// The field holds no name of a schema.
    Refused(Rejection),
}

/// An installation of the monitoring views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Where.
    pub schema: SqlName,
    /// Why.
    pub cause: Cause,
}

/// Why the monitoring views are to be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They are not there.
    Missing,
    /// This version is there.
    Older(u32),
    /// They are not as they were installed: changed or dropped.
    Changed,
}

impl Install {
    /// What it does, in one line.
    pub fn change(&self) -> String {
        let Self { schema, cause } = self;
        match cause {
            Cause::Missing => format!("install the monitoring views, version {VERSION}, in schema {schema}"),
            Cause::Older(found) => {
                format!("upgrade the monitoring views in schema {schema} from version {found} to {VERSION}")
            }
            Cause::Changed => format!("put back the monitoring views in schema {schema}, which were changed"),
        }
    }
}

/// What is to be done, by what `spec.monitoringSchema` says and what is installed.
pub fn decide(wanted: Option<&str>, found: &[MonitoringSchema]) -> Decision {
    let Some(wanted) = wanted else { return Decision::Unwanted };
    let schema: SqlName = match wanted.parse() {
        Ok(schema) => schema,
        Err(error) => {
            return Decision::Refused(Rejection::new(Reason::InvalidSpec, format!("spec.monitoringSchema: {error}")));
        }
    };
    let cause = match found.iter().find(|found| found.schema == schema) {
        None => Cause::Missing,
        Some(MonitoringSchema { version, .. }) if *version > VERSION => return Decision::Installed(*version),
        Some(MonitoringSchema { version, .. }) if *version < VERSION => Cause::Older(*version),
        Some(MonitoringSchema { intact: false, .. }) => Cause::Changed,
        Some(MonitoringSchema { intact: true, .. }) => return Decision::Installed(VERSION),
    };
    Decision::Install(Install { schema, cause })
}

/// What the database's status says of the views where all is well: their version, and where else there are some.
pub fn remark(wanted: Option<&str>, found: &[MonitoringSchema]) -> String {
    let mut remark = String::new();
    for MonitoringSchema { schema, version, .. } in found {
        // Writing to a String cannot fail.
        let _ = if wanted == Some(schema.as_str()) {
            write!(remark, "; monitoring views version {version} in schema {schema}")
        } else {
            write!(
                remark,
                "; schema {schema} holds monitoring views that are not managed (sql/monitoring/uninstall.sql removes them)"
            )
        };
    }
    remark
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(schema: &str, version: u32, intact: bool) -> MonitoringSchema {
        MonitoringSchema { schema: schema.parse().unwrap(), version, intact }
    }

    fn install(schema: &str, cause: Cause) -> Decision {
        Decision::Install(Install { schema: schema.parse().unwrap(), cause })
    }

    #[test]
    fn views_are_installed_upgraded_and_put_back_where_they_are_wanted() {
        for (there, expected) in [
            (vec![], install("m", Cause::Missing)),
            (vec![found("other", VERSION, true)], install("m", Cause::Missing)),
            (vec![found("m", VERSION - 1, true)], install("m", Cause::Older(VERSION - 1))),
            (vec![found("m", VERSION - 1, false)], install("m", Cause::Older(VERSION - 1))),
            (vec![found("m", VERSION, false)], install("m", Cause::Changed)),
            (vec![found("a", 0, false), found("m", VERSION, true)], Decision::Installed(VERSION)),
        ] {
            assert_eq!(decide(Some("m"), &there), expected, "{there:?}");
        }
    }

    #[test]
    fn views_of_a_later_version_are_left_alone() {
        assert_eq!(decide(Some("m"), &[found("m", VERSION + 1, false)]), Decision::Installed(VERSION + 1));
    }

    #[test]
    fn views_that_are_not_wanted_stay_and_are_told_of() {
        let there = [found("old", VERSION, true)];
        assert_eq!(decide(None, &there), Decision::Unwanted);
        assert!(remark(None, &there).contains("schema old holds"), "{}", remark(None, &there));
        assert!(remark(Some("new"), &there).contains("schema old holds"));
        assert_eq!(remark(Some("old"), &there), "; monitoring views version 1 in schema old");
        assert_eq!(remark(None, &[]), "");
    }

    #[test]
    fn a_name_that_no_schema_has_is_refused() {
        assert!(matches!(decide(Some(&"ä".repeat(40)), &[]), Decision::Refused(_)));
    }

    #[test]
    fn the_sql_has_the_same_version() {
        let (schema, version) =
            (include_str!("../../sql/monitoring/schema.sql"), include_str!("../../sql/monitoring/version.sql"));
        assert!(schema.contains(&format!("version int := {VERSION};")));
        assert!(version.contains(&format!("'SELECT {VERSION}'")));
        assert!(version.contains(&format!("'timescaledb-policy-operator: monitoring views {VERSION} '")));
    }
}
