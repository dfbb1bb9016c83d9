//! A plan as a comment on a pull request.

use std::fmt::Write as _;

use super::{
    document::{Database, Document, Resource, State},
    text,
};
use crate::{api::APPROVE_ANNOTATION, plan::step::Effect};

/// The longest comment that is made: GitHub takes 65,536 characters. What does not fit is counted.
const LONGEST: usize = 60_000;

/// The plan as Markdown, as GitHub and GitLab show it.
pub fn comment(document: &Document) -> String {
    let mut text = String::new();
    for database in &document.databases {
        let _ = writeln!(text, "### {}\n", text::title(database));
        let totals = anstream::adapter::strip_str(&text::totals(database)).to_string();
        let _ = writeln!(text, "{totals}\n");
        let differing: Vec<_> =
            database.resources.iter().filter(|r| !matches!(r.state, State::InSync | State::Overridden)).collect();
        if !differing.is_empty() {
            text.push_str("| | Resource | Object | What |\n|---|---|---|---|\n");
            let mut hidden = 0;
            for resource in &differing {
                let row = row(database, resource);
                if text.len() + row.len() > LONGEST {
                    hidden += 1;
                } else {
                    let _ = writeln!(text, "{row}");
                }
            }
            if hidden > 0 {
                let _ = writeln!(text, "| | and {hidden} more | | |");
            }
            text.push('\n');
        }
        let mut left_out = 0;
        for resource in &differing {
            let details = details(database, resource);
            if text.len() + details.len() > LONGEST {
                left_out += 1;
            } else {
                text.push_str(&details);
            }
        }
        if left_out > 0 {
            let _ = writeln!(text, "The details of {left_out} more do not fit into a comment.\n");
        }
    }
    for note in &document.notes {
        let _ = writeln!(text, "_{}_", cell(note));
    }
    text
}

fn row(database: &Database, resource: &Resource) -> String {
    let (sign, what) = match resource.state {
        State::InSync | State::Overridden => ("", String::new()),
        State::Pending => {
            let sign = match resource.effect() {
                Effect::Creates => "➕",
                Effect::Changes => "✏️",
                Effect::Removes => "➖",
            };
            (sign, resource.steps.iter().map(|step| step.change.as_str()).collect::<Vec<_>>().join("; "))
        }
        State::NeedsApproval => {
            let digest = resource.digest.as_deref().unwrap_or_default();
            let hazards = resource.hazards.join("; ");
            ("⚠️", format!("{hazards}. To approve exactly this, annotate it with `{APPROVE_ANNOTATION}: {digest}`"))
        }
        State::Waiting => ("⏳", resource.message.clone().unwrap_or_default()),
        State::Blocked => ("⛔", format!("{}: {}", resource.reason, resource.message.as_deref().unwrap_or_default())),
    };
    let object =
        resource.object.as_deref().map_or_else(String::new, |object| format!("`{}`", object.replace('`', "'")));
    format!("| {sign} | {} | {} | {} |", cell(&resource.title(&database.namespace)), cell(&object), cell(&what))
}

fn details(database: &Database, resource: &Resource) -> String {
    let mut text = String::new();
    if resource.steps.is_empty() && resource.warnings.is_empty() {
        return text;
    }
    let _ = writeln!(text, "<details><summary>{}</summary>\n", escape(&resource.title(&database.namespace)));
    for hazard in resource.steps.iter().flat_map(|step| &step.hazards) {
        let _ = writeln!(text, "- ⚠️ {}", escape(hazard));
    }
    for warning in &resource.warnings {
        let _ = writeln!(text, "- {}", escape(warning));
    }
    let sql: String = resource.steps.iter().flat_map(|step| &step.sql).flat_map(|sql| [sql.as_str(), ";\n"]).collect();
    if !sql.is_empty() {
        // A fence longer than any in the text.
        let fence = "`".repeat(longest_run(&sql).max(2) + 1);
        let _ = writeln!(text, "\n{fence}sql\n{sql}{fence}");
    }
    text.push_str("\n</details>\n\n");
    text
}

/// A text in a cell of a table: one line, in which nothing ends the cell.
fn cell(text: &str) -> String {
    escape(text).replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// A text in which nothing is taken for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_a_cell_or_a_block() {
        assert_eq!(cell("a|b\nc <script>"), "a\\|b c &lt;script&gt;");
        assert_eq!(longest_run("a ```` b ``"), 4);
        assert_eq!(longest_run("none"), 0);
    }
}
