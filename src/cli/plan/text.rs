//! A plan for people, as a tree; and as the statements alone.

use std::fmt::Write as _;

use anstyle::Style;

use super::document::{Change, Database, Document, Resource, State, Summary};
use crate::{
    api::{APPROVE_ANNOTATION, timescale_database::Mode},
    cli::output::{BAD, FAINT, GOOD, NOTICE, STRONG, styled},
    plan::step::Effect,
};

/// The mark in front of what an effect is on, and its style.
const fn mark(effect: Effect) -> (char, Style) {
    match effect {
        Effect::Creates => ('+', GOOD),
        Effect::Changes => ('~', NOTICE),
        Effect::Removes => ('-', BAD),
    }
}

/// The plan as a tree.
pub fn tree(document: &Document) -> String {
    let mut text = String::new();
    for database in &document.databases {
        let _ = writeln!(text, "{}\n", styled(STRONG, title(database)));
        let shown = database
            .resources
            .iter()
            .filter(|r| !matches!(r.state, State::InSync | State::Overridden) || !r.warnings.is_empty());
        for resource in shown {
            branch(&mut text, database, resource);
        }
        let _ = writeln!(text, "{}", totals(database));
    }
    for note in &document.notes {
        let _ = writeln!(text, "{}", styled(FAINT, format!("note: {note}")));
    }
    text
}

/// Which database it is.
pub fn title(database: &Database) -> String {
    let Database { namespace, name, postgres_version, timescaledb_version, .. } = database;
    let extension = timescaledb_version
        .as_ref()
        .map_or_else(|| "without the extension timescaledb".to_owned(), |version| format!("TimescaleDB {version}"));
    format!("TimescaleDatabase {namespace}/{name} (PostgreSQL {postgres_version}, {extension})")
}

fn branch(text: &mut String, database: &Database, resource: &Resource) {
    let (sign, style) = match resource.state {
        State::InSync | State::Overridden => ('=', FAINT),
        State::Pending => mark(resource.effect()),
        State::NeedsApproval => ('!', NOTICE),
        State::Waiting => ('>', FAINT),
        State::Blocked => ('x', BAD),
    };
    let head = format!("{sign} {}", resource.title(&database.namespace));
    let place = resource.source.as_deref().unwrap_or("in the cluster");
    let _ = writeln!(text, "  {}  {}", styled(style, head), styled(FAINT, place));
    for step in &resource.steps {
        leaf(text, step, resource.state == State::NeedsApproval);
    }
    if let Some(message) = &resource.message {
        let _ = writeln!(text, "      {} {message}", styled(style, format!("{}:", resource.reason)));
    }
    if resource.state == State::NeedsApproval {
        for hazard in &resource.hazards {
            let _ = writeln!(text, "      {} {hazard}", styled(BAD, "!"));
        }
        let digest = resource.digest.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "      {}",
            styled(
                NOTICE,
                format!("needs approval: apply --approve {digest}, or the annotation {APPROVE_ANNOTATION}: {digest}")
            )
        );
    }
    for warning in &resource.warnings {
        let _ = writeln!(text, "      {} {warning}", styled(NOTICE, "warning:"));
    }
    text.push('\n');
}

fn leaf(text: &mut String, step: &Change, held: bool) {
    let (sign, style) = mark(step.effect);
    let long = if step.long { " (may take long)" } else { "" };
    let _ = writeln!(text, "      {} {}{long}", styled(style, sign), step.change);
    // Of a plan that is held all hazards are said together.
    for hazard in step.hazards.iter().filter(|_| !held) {
        let _ = writeln!(text, "        {} {hazard}", styled(NOTICE, "!"));
    }
}

/// The numbers, in one line.
pub fn totals(database: &Database) -> String {
    let Summary { in_sync, create, change, remove, needs_approval, waiting, blocked } = database.summary;
    if database.is_in_sync() {
        return styled(
            GOOD,
            format!("In sync: nothing to do for {in_sync} resource{}.", if in_sync == 1 { "" } else { "s" }),
        );
    }
    let mut parts = vec![format!("{create} to create"), format!("{change} to change"), format!("{remove} to remove")];
    if needs_approval > 0 {
        parts.push(format!("{needs_approval} need{} approval", if needs_approval == 1 { "s" } else { "" }));
    }
    if waiting > 0 {
        parts.push(format!("{waiting} to follow"));
    }
    if blocked > 0 {
        parts.push(format!("{blocked} blocked"));
    }
    parts.push(format!("{in_sync} in sync"));
    let observe = match database.mode {
        Mode::Enforce => "",
        Mode::Observe => " Its mode is Observe: the operator shows this and changes nothing.",
    };
    format!("Plan: {}.{observe}", parts.join(", "))
}

/// The statements alone, as psql takes them. What waits for an approval is commented out.
pub fn sql(document: &Document) -> String {
    let mut text = String::new();
    for database in &document.databases {
        let _ = writeln!(text, "-- {}", title(database));
        text.push_str("SET search_path = pg_catalog, pg_temp;\n");
        for resource in &database.resources {
            let held = resource.state == State::NeedsApproval;
            let margin = if held { "-- " } else { "" };
            if resource.steps.is_empty() && !matches!(resource.state, State::Blocked | State::Waiting) {
                continue;
            }
            let _ = writeln!(text, "\n-- {}", resource.title(&database.namespace));
            if let Some(message) = &resource.message {
                comment(&mut text, &format!("{}: {message}", resource.reason));
            }
            if let Some(digest) = &resource.digest {
                comment(&mut text, &format!("needs approval {digest}: {}", resource.hazards.join("; ")));
            }
            for step in &resource.steps {
                comment(&mut text, &step.change);
                let body = step.sql.join(";\n");
                let script = if step.transaction && step.sql.len() > 1 {
                    format!("BEGIN;\n{body};\nCOMMIT;")
                } else {
                    format!("{body};")
                };
                for line in script.lines() {
                    let _ = writeln!(text, "{margin}{line}");
                }
            }
        }
    }
    for note in &document.notes {
        comment(&mut text, &format!("note: {note}"));
    }
    text
}

/// A comment, whatever is in the text.
fn comment(text: &mut String, words: &str) {
    for line in words.lines() {
        let _ = writeln!(text, "-- {line}");
    }
}
