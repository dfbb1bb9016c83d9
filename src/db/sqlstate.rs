//! SQLSTATE → class and reason: one table.

use tokio_postgres::error::SqlState;

use crate::{
    api::status::Reason,
    error::{Class, Failure, chain},
};

/// What a SQLSTATE means for the resource whose statement met it.
///
/// PostgreSQL's codes: `src/backend/utils/errcodes.txt`; TimescaleDB's own (`TS…`): `src/errors.h`. An unknown code counts
/// as transient: trying again does no harm, giving up might, and the code is in the message.
pub fn classify(code: &SqlState) -> (Class, Reason) {
    use Class::{Transient, User};
    match code.code() {
        // lock_not_available; also a refresh that overlaps another one
        "55P03" => (Transient, Reason::LockTimeout),
        // read_only_sql_transaction
        "25006" => (Transient, Reason::ReadOnly),
        // too_many_connections, shutdown and crash of the server
        "53300" | "57P01" | "57P02" | "57P03" => (Transient, Reason::DatabaseUnreachable),
        // query_canceled (statement_timeout), deadlock_detected, serialization_failure;
        // not a hypertable, already a hypertable, duplicate dimension: the catalog moved since it was read, and so for
        // duplicate_object and object_not_in_prerequisite_state. Not for undefined_object: it is a tablespace, a type or an
        // operator class that the resource wants and that is not there, and what did move shows at the next resync
        "57014" | "40P01" | "40001" | "TS001" | "TS110" | "TS160" | "42710" | "55000" => (Transient, Reason::Retrying),
        // invalid_password, invalid_authorization_specification
        "28P01" | "28000" => (User, Reason::AuthenticationFailed),
        "42501" => (User, Reason::PermissionDenied),
        // undefined_table, invalid_schema_name
        "42P01" | "3F000" => (User, Reason::TableNotFound),
        // cannot create a unique index without the partitioning column
        "TS103" => (User, Reason::IncompatibleIndex),
        // invalid_catalog_name (no such database), feature_not_supported, dependent_objects_still_exist
        "3D000" | "0A000" | "2BP01" => (User, Reason::InvalidSpec),
        code => match &code[..2] {
            // connection exceptions
            "08" => (Transient, Reason::DatabaseUnreachable),
            // data exceptions, integrity violations, syntax errors and undefined names
            "22" | "23" | "42" => (User, Reason::InvalidSpec),
            _ => (Transient, Reason::Retrying),
        },
    }
}

/// The failure that a driver's error means, with the server's own detail and hint.
pub fn failure(doing: &str, error: &tokio_postgres::Error) -> Failure {
    let Some(db) = error.as_db_error() else {
        return Failure::new(Class::Transient, Reason::DatabaseUnreachable, format!("{doing}: {}", chain(error)));
    };
    let (class, reason) = classify(db.code());
    let mut message = format!("{doing}: {} (SQLSTATE {})", db.message(), db.code().code());
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        message.push_str(". ");
        message.push_str(more.trim_end_matches('.'));
    }
    if let Some(remedy) = remedy(reason).filter(|_| db.hint().is_none()) {
        message.push_str(". ");
        message.push_str(remedy);
    }
    Failure::new(class, reason, message)
}

/// What to do, where the server's message does not say it.
const fn remedy(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::PermissionDenied => {
            Some("The role of the connection must own the table, or be a member of the role that does")
        }
        Reason::LockTimeout => Some("Another session holds the lock; this is tried again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classed_by_who_can_do_something() {
        for (code, expected) in [
            ("55P03", (Class::Transient, Reason::LockTimeout)),
            ("42501", (Class::User, Reason::PermissionDenied)),
            ("TS103", (Class::User, Reason::IncompatibleIndex)),
            ("42703", (Class::User, Reason::InvalidSpec)),
            ("42704", (Class::User, Reason::InvalidSpec)),
            ("08006", (Class::Transient, Reason::DatabaseUnreachable)),
            ("XX000", (Class::Transient, Reason::Retrying)),
        ] {
            assert_eq!(classify(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
