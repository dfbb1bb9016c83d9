//! The server, its workers, and what the role may do.

use std::collections::BTreeMap;

use super::{Facts, Finding, Fix, Object, ObjectKind, Part, Rule, Scope, ServerFacts, Severity};
use crate::{
    api::{status::Reason, timescale_database::Mode},
    catalog::statistics::DatabaseStatistics,
    plan,
};

/// Slots that timescaledb-tune leaves to PostgreSQL's own background workers.
const OTHER_WORKERS: i64 = 3;

/// What keeps the operator from this database altogether.
pub(super) fn blocking(facts: &Facts<'_>) -> Option<Finding> {
    let server = &facts.catalog.server;
    let database = || Object::named(ObjectKind::Database, &facts.inspection.server.database);
    let finding = |rule, fix| {
        let message = plan::unusable(server, Mode::Observe).map_or_else(String::new, |refusal| refusal.message);
        Finding::new(rule, database(), message, fix)
    };
    match plan::unusable(server, Mode::Observe).map(|refusal| refusal.reason) {
        Some(Reason::ExtensionMissing) => Some(finding(
            Rule::ExtensionMissing,
            Fix::words("Install it in this database, as a superuser where it is not trusted.")
                .with_sql("CREATE EXTENSION timescaledb"),
        )),
        Some(Reason::ExtensionNotLoaded) => Some(finding(
            Rule::LibraryNotLoaded,
            Fix::words("Add timescaledb to shared_preload_libraries, and restart the server."),
        )),
        Some(_) => {
            let found = finding(Rule::VersionUnsupported, Fix::words("Upgrade the server or the extension."));
            Some(found.with("serverVersion", server.version_num))
        }
        None if server.restoring => {
            let message =
                "timescaledb.restoring is on: the database is being restored, or the restore was not finished";
            let fix = Fix::words("When the restore is done, say so.").with_sql("SELECT timescaledb_post_restore()");
            Some(Finding::new(Rule::Restoring, database(), message, fix))
        }
        None => None,
    }
}

pub(super) fn check(facts: &Facts<'_>, scope: &Scope) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(outdated(facts));
    found.extend(license(facts));
    if let Some(statistics) = facts.statistics {
        found.extend(workers(facts, &statistics.database));
    }
    if !facts.inspection.unread.contains_key(&Part::Privileges) {
        found.extend(privileges(facts, scope));
    }
    found
}

fn server() -> Object {
    Object::named(ObjectKind::Server, "settings")
}

fn outdated(facts: &Facts<'_>) -> Option<Finding> {
    let ServerFacts { available_version, database, .. } = &facts.inspection.server;
    let installed = &facts.catalog.server.extension.as_ref()?.version;
    let available = available_version.as_ref().filter(|available| installed.is_older_than(available))?;
    let message = format!("the database has TimescaleDB {installed}, the server {available}");
    let fix = Fix::words("As the first statement of a new session (psql -X), while no other one uses TimescaleDB.")
        .with_sql("ALTER EXTENSION timescaledb UPDATE");
    let found = Finding::new(Rule::ExtensionOutdated, Object::named(ObjectKind::Database, database), message, fix);
    Some(found.with("installed", installed.to_string()).with("available", available.to_string()))
}

fn license(facts: &Facts<'_>) -> Option<Finding> {
    let message = "timescaledb.license is apache: there are no policies, compression or continuous aggregates";
    let fix = Fix::words(
        "Set timescaledb.license = 'timescale' in the server's configuration, or install the community edition.",
    );
    (!facts.has_policies()).then(|| Finding::new(Rule::LicenseApache, server(), message, fix))
}

fn workers(facts: &Facts<'_>, statistics: &DatabaseStatistics) -> Vec<Finding> {
    let ServerFacts { database, max_worker_processes, max_parallel_workers, schedulers, .. } = &facts.inspection.server;
    let mut found = Vec::new();
    let policies = facts.catalog.jobs.iter().filter(|job| job.scheduled).count();
    let others = facts.statistics.map_or(0, |s| s.other_jobs.iter().filter(|job| job.scheduled).count());
    let jobs = policies + others;
    if statistics.scheduler == Some(false) && jobs > 0 {
        let message = format!("{jobs} jobs are scheduled, and no TimescaleDB scheduler runs for this database");
        let fix = Fix::words(
            "See the server's log for \"out of background workers\" and raise timescaledb.max_background_workers; or the workers were stopped.",
        )
        .with_sql("SELECT _timescaledb_functions.start_background_workers()");
        let object = Object::named(ObjectKind::Database, database);
        found.push(Finding::new(Rule::SchedulerNotRunning, object, message, fix).with("jobs", jobs));
    }
    let Some(limit) = statistics.workers_limit else { return found };
    // Where none runs the one of this database is still to be counted.
    let least = 1 + (*schedulers).max(1) + 1;
    if limit < least {
        let message = format!(
            "timescaledb.max_background_workers is {limit}; the launcher, the schedulers of {} databases and one job take {least}",
            (*schedulers).max(1)
        );
        let fix = Fix::words(format!(
            "Set timescaledb.max_background_workers to at least {least}, more where several jobs are to run at once, and restart the server."
        ));
        let finding = Finding::new(Rule::TooFewBackgroundWorkers, server(), message, fix);
        found.push(finding.with("maxBackgroundWorkers", limit).with("schedulers", *schedulers).with("needed", least));
    }
    let needed = OTHER_WORKERS + limit + max_parallel_workers;
    if *max_worker_processes < needed {
        let message = format!(
            "max_worker_processes is {max_worker_processes}; {OTHER_WORKERS} + {limit} background workers of TimescaleDB + {max_parallel_workers} parallel workers are {needed}"
        );
        let fix = Fix::words(format!("Set max_worker_processes to at least {needed}, and restart the server."))
            .with_sql(format!("ALTER SYSTEM SET max_worker_processes = {needed}"));
        let finding = Finding::new(Rule::TooFewWorkerProcesses, server(), message, fix);
        let finding = finding.with("maxWorkerProcesses", *max_worker_processes).with("needed", needed);
        found.push(finding.with("maxBackgroundWorkers", limit).with("maxParallelWorkers", *max_parallel_workers));
    }
    found
}

fn privileges(facts: &Facts<'_>, scope: &Scope) -> Vec<Finding> {
    let ServerFacts { role, database, can_connect, can_make_temporary, .. } = &facts.inspection.server;
    let severity = if scope.role_named { Severity::Warning } else { Severity::Info };
    let object = || Object::named(ObjectKind::Role, role);
    let ident = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let privileges = &facts.inspection.privileges;
    let mut found = Vec::new();
    let mut owned: BTreeMap<&str, i64> = BTreeMap::new();
    let mut without_login: BTreeMap<&str, i64> = BTreeMap::new();
    for owner in privileges.owners.iter().filter(|owner| scope.includes(Some(&owner.schema))) {
        if !owner.member {
            *owned.entry(&owner.role).or_default() += owner.relations;
        }
        if !owner.login {
            *without_login.entry(&owner.role).or_default() += owner.relations;
        }
    }
    for (owner, relations) in owned {
        let message =
            format!("{role} is no member of {owner}, which owns {relations} hypertables and continuous aggregates");
        let fix = Fix::words("Nothing, where this role only reads. For the operator's role see sql/role.sql.")
            .with_sql(format!("GRANT {} TO {}", ident(owner), ident(role)));
        let finding = Finding::new(Rule::RoleNotOwner, object(), message, fix).at(severity);
        found.push(finding.with("relations", relations).with("owner", owner));
    }
    for (owner, relations) in without_login {
        let message = format!("{owner} owns {relations} hypertables and continuous aggregates, and has no LOGIN");
        let fix = Fix::words("Let it log in; without a password nobody does.")
            .with_sql(format!("ALTER ROLE {} LOGIN", ident(owner)));
        let object = Object::named(ObjectKind::Role, owner);
        found.push(Finding::new(Rule::OwnerWithoutLogin, object, message, fix).with("relations", relations));
    }
    let mut lacks = |privilege: String, sql: String| {
        let fix =
            Fix::words("Nothing, where this role only reads. For the operator's role see sql/role.sql.").with_sql(sql);
        let finding = Finding::new(Rule::RoleLacksPrivilege, object(), format!("{role} lacks {privilege}"), fix);
        found.push(finding.at(severity).with("privilege", privilege));
    };
    for (has, privilege) in [(can_connect, "CONNECT"), (can_make_temporary, "TEMPORARY")] {
        if !has {
            let sql = format!("GRANT {privilege} ON DATABASE {} TO {}", ident(database), ident(role));
            lacks(format!("{privilege} on the database"), sql);
        }
    }
    let schemas = privileges.schemas.iter().filter(|s| !s.create && scope.includes(Some(&s.schema)));
    for schema in schemas.map(|schema| &schema.schema) {
        let sql = format!("GRANT USAGE, CREATE ON SCHEMA {} TO {}", ident(schema.as_str()), ident(role));
        lacks(format!("CREATE in schema {schema}, in which hypertables or aggregates are"), sql);
    }
    found
}
