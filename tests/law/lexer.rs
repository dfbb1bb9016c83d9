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
    "ACCESS",
    "ADD",
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BIGINT",
    "BY",
    "CALL",
    "CASE",
    "COMMENT",
    "CREATE",
    "DATA",
    "DESC",
    "DROP",
    "ELSE",
    "END",
    "EXCLUSIVE",
    "FIRST",
    "FROM",
    "GRANT",
    "GROUP",
    "IN",
    "INCLUDE",
    "INDEX",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LEFT",
    "LOCAL",
    "LOCK",
    "MAINTAIN",
    "MATERIALIZED",
    "MODE",
    "NO",
    "NOT",
    "NULL",
    "NULLS",
    "ON",
    "OPTION",
    "OWNER",
    "PUBLIC",
    "RENAME",
    "SELECT",
    "SET",
    "TABLE",
    "THEN",
    "TIMESTAMPTZ",
    "TO",
    "UNIQUE",
    "USING",
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
    "add_reorder_policy",
    "add_retention_policy",
    "alter_job",
    "attach_tablespace",
    "bgw_job",
    "bgw_job_stat",
    "bigint",
    "bloom",
    "brin",
    "bucket",
    "buckets_per_batch",
    "by_hash",
    "chunk_time_interval",
    "coalesce",
    "compress",
    "compress_after",
    "compress_chunk_time_interval",
    "compress_created_before",
    "compress_index",
    "compress_orderby",
    "compress_segmentby",
    "config",
    "continuous",
    "count",
    "create_default_indexes",
    "create_group_indexes",
    "create_hypertable",
    "detach_tablespace",
    "dimension_name",
    "disable_chunk_skipping",
    "drop_after",
    "drop_created_before",
    "enable_chunk_skipping",
    "end_offset",
    "false",
    "firstlast",
    "fixed_schedule",
    "hypertable_id",
    "id",
    "if_exists",
    "include_tiered_data",
    "index_name",
    "indexrelid",
    "indisvalid",
    "initial_start",
    "integer",
    "interval",
    "j",
    "job_id",
    "jsonb_build_object",
    "materialized_only",
    "max",
    "max_batches_per_execution",
    "max_retries",
    "max_runtime",
    "migrate_data",
    "minmax",
    "next_start",
    "now",
    "nullif",
    "number_partitions",
    "on",
    "partitioning_column",
    "pg_catalog",
    "pg_index",
    "proc_name",
    "random",
    "refresh_continuous_aggregate",
    "refresh_newest_first",
    "regclass",
    "regproc",
    "remove_compression_policy",
    "remove_continuous_aggregate_policy",
    "remove_reorder_policy",
    "remove_retention_policy",
    "replace_if_exists",
    "retry_period",
    "rows",
    "s",
    "schedule_interval",
    "scheduled",
    "set_chunk_time_interval",
    "set_integer_now_func",
    "set_number_partitions",
    "smallint",
    "start_offset",
    "text",
    "time_bucket",
    "timescaledb",
    "timezone",
    "transaction_per_chunk",
    "true",
];

/// What is wrong with a rendered statement: a bare word that is not ours, a quoted name that neither a person nor the operator gave, a token without
/// an end. Texts that hold SQL themselves (a `regclass`, column lists) are looked into.
pub fn check(text: &str, names: &BTreeSet<String>) -> Result<(), String> {
    let tokens = tokens(text).map_err(|problem| format!("{problem}: {text}"))?;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(word) if !WORDS.contains(&word.as_str()) => return Err(format!("bare word {word}: {text}")),
            Token::Identifier(name) if !names.contains(name) && !is_generated(name) => {
                return Err(format!("unknown name {name:?}: {text}"));
            }
            Token::Literal(inner) => {
                let cast = ["regclass", "regproc"].iter().any(|type_| {
                    let cast = [Token::Other(':'), Token::Other(':'), Token::Word((*type_).to_owned())];
                    tokens[i + 1..].starts_with(&cast)
                });
                let lists = ["compress_segmentby", "compress_orderby", "compress_index"];
                let option = i >= 2 && matches!(&tokens[i - 2], Token::Word(word) if lists.contains(&word.as_str()));
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

/// A name that the operator makes itself, of letters, digits and underscores.
fn is_generated(name: &str) -> bool {
    name.starts_with("tsdbop_") && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
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
