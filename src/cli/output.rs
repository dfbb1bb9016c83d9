//! How results are printed: tables as kubectl has them, JSON, YAML; colours where a terminal shows them.

use std::{fmt, io::Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tabwriter::TabWriter;

use crate::{
    api::status::Reason,
    error::{Class, Failure},
};

/// What is as it should be, and what is added.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What changes, and what to look at.
pub const NOTICE: Style = AnsiColor::Yellow.on_default();
/// What is wrong, and what is removed.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What stands out.
pub const STRONG: Style = Style::new().bold();
/// What stands back.
pub const FAINT: Style = Style::new().dimmed();

/// A text in a style. [`print()`] leaves the style out where it is not shown.
pub fn styled(style: Style, text: impl fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes to standard output; colours are left out where it is no terminal, and where `NO_COLOR` says so.
///
/// # Errors
/// When it cannot be written. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Class::Transient, Reason::Retrying, format!("writing to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// A value as JSON for people and machines, with a newline at the end.
///
/// # Errors
/// When the value has no JSON, which is a defect.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Failure::new(Class::Bug, Reason::InternalError, format!("JSON: {e}")))
}

/// Rows under a header, aligned as kubectl does: three spaces apart.
///
/// # Errors
/// Never in practice: it is written to memory.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<String, Failure> {
    let mut text = header.join("\t") + "\n";
    for row in rows {
        text += &(row.join("\t") + "\n");
    }
    let mut writer = TabWriter::new(Vec::new()).padding(3).ansi(true);
    let aligned = writer.write_all(text.as_bytes()).and_then(|()| writer.flush()).map_err(|e| e.to_string());
    let aligned = aligned.and_then(|()| writer.into_inner().map_err(|e| e.to_string()));
    let aligned = aligned.and_then(|bytes| String::from_utf8(bytes).map_err(|e| e.to_string()));
    let aligned = aligned.map_err(|e| Failure::new(Class::Bug, Reason::InternalError, format!("table: {e}")))?;
    Ok(aligned.lines().flat_map(|line| [line.trim_end(), "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_their_colours() {
        let rows = [vec!["a".to_owned(), styled(GOOD, "yes")], vec!["longer".to_owned(), "no".to_owned()]];
        let text = table(&["NAME", "READY"], rows).unwrap();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "NAME     READY\na        yes\nlonger   no\n");
    }
}
