//! PostgreSQL's lexical rules, as far as they decide what is a name and what is text.

use std::collections::BTreeSet;

#[derive(Debug, PartialEq)]
enum Token {
    /// A keyword, a function, a type or an option: what the operator writes itself.
    Word(String),
    Identifier(String),
    Literal(String),
    Other(char),
}

/// The bare words that rendered statements are made of, and those of the resources' own texts in the universe.
const WORDS: &[&str] = &[
    "ADD",
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BY",
    "CASE",
    "CREATE",
    "DATA",
    "DESC",
    "DROP",
    "ELSE",
    "END",
    "FIRST",
    "FROM",
    "GROUP",
    "INCLUDE",
    "INDEX",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "MATERIALIZED",
    "NO",
    "NULL",
    "NULLS",
    "ON",
    "SELECT",
    "SET",
    "TABLE",
    "THEN",
    "TIMESTAMPTZ",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
    "_timescaledb_config",
    "_timescaledb_internal",
    "a",
    "add_compression_policy",
    "add_continuous_aggregate_policy",
    "add_dimension",
    "add_retention_policy",
    "alter_job",
    "bgw_job",
    "bgw_job_stat",
    "bucket",
    "by_hash",
    "chunk_time_interval",
    "coalesce",
    "compress",
    "compress_after",
    "compress_orderby",
    "compress_segmentby",
    "config",
    "continuous",
    "count",
    "create_default_indexes",
    "create_hypertable",
    "dimension_name",
    "drop_after",
    "end_offset",
    "false",
    "fixed_schedule",
    "hypertable_id",
    "id",
    "if_exists",
    "initial_start",
    "interval",
    "j",
    "job_id",
    "jsonb_build_object",
    "materialized_only",
    "max_retries",
    "max_runtime",
    "migrate_data",
    "next_start",
    "now",
    "nullif",
    "number_partitions",
    "partitioning_column",
    "proc_name",
    "regclass",
    "remove_compression_policy",
    "remove_continuous_aggregate_policy",
    "remove_retention_policy",
    "retry_period",
    "rows",
    "s",
    "schedule_interval",
    "scheduled",
    "set_chunk_time_interval",
    "set_number_partitions",
    "start_offset",
    "text",
    "time_bucket",
    "timescaledb",
    "timezone",
    "transaction_per_chunk",
    "true",
];

/// What is wrong with a rendered statement: a bare word that is not ours, a quoted name that nobody gave, a token without
/// an end. Texts that hold SQL themselves (a `regclass`, column lists) are looked into.
pub fn check(text: &str, names: &BTreeSet<String>) -> Result<(), String> {
    let tokens = tokens(text).map_err(|problem| format!("{problem}: {text}"))?;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(word) if !WORDS.contains(&word.as_str()) => return Err(format!("bare word {word}: {text}")),
            Token::Identifier(name) if !names.contains(name) => return Err(format!("unknown name {name:?}: {text}")),
            Token::Literal(inner) => {
                let cast = tokens[i + 1..].starts_with(&[
                    Token::Other(':'),
                    Token::Other(':'),
                    Token::Word("regclass".to_owned()),
                ]);
                let option = i >= 2
                    && matches!(&tokens[i - 2], Token::Word(w) if w == "compress_segmentby" || w == "compress_orderby");
                if cast || option {
                    check(inner, names)?;
                }
            }
            _ => {}
        }
        if *token == Token::Other(';') {
            return Err(format!("a semicolon: {text}"));
        }
    }
    Ok(())
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1);
        if c.is_ascii_whitespace() {
            at += 1;
        } else if c == '-' && next == Some(&'-') {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next == Some(&'*') {
            return Err("a block comment".to_owned());
        } else if c == '$' {
            return Err("a dollar quote".to_owned());
        } else if c == '"' || c == '\'' || (c == 'E' && next == Some(&'\'')) {
            let escapes = c == 'E';
            let (token, end) = quoted(&chars, at + usize::from(escapes), escapes)?;
            tokens.push(if c == '"' { Token::Identifier(token) } else { Token::Literal(token) });
            at = end;
        } else if c.is_alphabetic() || c == '_' || !c.is_ascii() {
            let word: String =
                chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_' || !c.is_ascii()).collect();
            at += word.chars().count();
            tokens.push(Token::Word(word));
        } else {
            at += 1;
            if !c.is_ascii_digit() {
                tokens.push(Token::Other(c));
            }
        }
    }
    Ok(tokens)
}

/// The text of the quoted token that starts here, and where it ends. A doubled quote stands for one.
fn quoted(chars: &[char], start: usize, escapes: bool) -> Result<(String, usize), String> {
    let (quote, mut text, mut at) = (chars[start], String::new(), start + 1);
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        match c {
            _ if c == quote && next == Some(quote) => at += 1,
            _ if c == quote => return Ok((text, at + 1)),
            '\\' if escapes && next == Some('\\') => at += 1,
            '\\' if escapes => return Err("an escape".to_owned()),
            '\\' if quote == '\'' => return Err("a backslash in a plain literal".to_owned()),
            _ => {}
        }
        text.push(c);
        at += 1;
    }
    Err("a token without an end".to_owned())
}
