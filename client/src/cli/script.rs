//! SQL texts: where a statement ends, and filling `${name}`.
//!
//! Both walk the same tokens: what stands in quotes or in a comment is no statement's end, and a comment is not filled.

use std::collections::BTreeMap;

/// What a stretch of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Plain text.
    Code,
    /// `'…'`, `"…"` or `` `…` ``, its quotes included.
    Quoted,
    /// `-- …` or `/* … */`.
    Comment,
    /// A semicolon outside of both.
    End,
}

/// Splits `sql` into its stretches; the flag says whether a quote or a comment is still open at the end.
fn pieces(sql: &str) -> (Vec<(Piece, &str)>, bool) {
    let (mut pieces, mut rest, mut open) = (Vec::new(), sql, false);
    while !rest.is_empty() {
        let (piece, length) = if rest.starts_with(['\'', '"', '`']) {
            let length = quoted(rest);
            open = length.is_none();
            (Piece::Quoted, length.unwrap_or(rest.len()))
        } else if rest.starts_with("--") {
            (Piece::Comment, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            let end = rest.find("*/");
            open = end.is_none();
            (Piece::Comment, end.map_or(rest.len(), |end| end + 2))
        } else if rest.starts_with(';') {
            (Piece::End, 1)
        } else {
            let special = |at: usize| {
                let rest = &rest[at..];
                rest.starts_with(['\'', '"', '`', ';']) || rest.starts_with("--") || rest.starts_with("/*")
            };
            (Piece::Code, (1..rest.len()).find(|at| rest.is_char_boundary(*at) && special(*at)).unwrap_or(rest.len()))
        };
        pieces.push((piece, &rest[..length]));
        rest = &rest[length..];
    }
    (pieces, open)
}

/// Bytes to the end of the quoted text that `text` begins with. In Spark a backslash escapes in `'` and `"`; a doubled
/// quote, which ends one text and begins the next, comes to the same.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if letter == quote => return Some(at + quote.len_utf8()),
            _ => {}
        }
    }
    None
}

/// The complete statements of `sql`, without their semicolons, and what follows the last semicolon.
pub fn split(sql: &str) -> (Vec<String>, String) {
    let (mut statements, mut current) = (Vec::new(), String::new());
    for (piece, text) in pieces(sql).0 {
        if piece == Piece::End {
            let statement = std::mem::take(&mut current);
            if !is_blank(&statement) {
                statements.push(statement.trim().to_string());
            }
        } else {
            current.push_str(text);
        }
    }
    (statements, current)
}

/// Whether there is nothing but white space and comments.
pub fn is_blank(sql: &str) -> bool {
    pieces(sql).0.iter().all(|(piece, text)| match piece {
        Piece::Code => text.trim().is_empty(),
        Piece::Quoted => false,
        Piece::Comment | Piece::End => true,
    })
}

/// Whether a prompt has all of what was begun: nothing, or statements that each end in a semicolon.
pub fn is_complete(sql: &str) -> bool {
    !pieces(sql).1 && is_blank(&split(sql).1)
}

/// A `${name}` that nobody gave.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "[UNSET_VARIABLE] ${{{name}}} on line {line} is not set: give --set {name}=VALUE{}, or write $${{{name}}} where that \
     text itself is meant",
    known(.given)
)]
pub struct Unset {
    /// The variable.
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    /// Variables that were given.
    pub given: Vec<String>,
}

fn known(given: &[String]) -> String {
    if given.is_empty() { String::new() } else { format!(" (given: {})", given.join(", ")) }
}

/// Fills each `${name}` outside of comments but `${secret:name}`; `$${` stands for `${`.
pub fn fill(sql: &str, variables: &BTreeMap<String, String>) -> Result<String, Unset> {
    let mut out = String::with_capacity(sql.len());
    let mut line = 1;
    for (piece, text) in pieces(sql).0 {
        if piece == Piece::Comment {
            out.push_str(text);
        } else {
            fill_piece(text, variables, line, &mut out)?;
        }
        line += text.matches('\n').count();
    }
    Ok(out)
}

fn fill_piece(text: &str, variables: &BTreeMap<String, String>, line: usize, out: &mut String) -> Result<(), Unset> {
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        let Some(end) = rest[at..].find('}') else { break };
        let name = rest[at + 2..at + end].trim();
        out.push_str(&rest[..at]);
        match variables.get(name) {
            Some(value) => out.push_str(value),
            // The scheduler's to fill in: it alone may see secrets.
            None if name.starts_with("secret:") => out.push_str(&rest[at..=at + end]),
            None => {
                let before = text.len() - rest.len() + at;
                return Err(Unset {
                    name: name.to_string(),
                    line: line + text[..before].matches('\n').count(),
                    given: variables.keys().cloned().collect(),
                });
            }
        }
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        fn check(sql: &str, expect: &[&str], rest: &str) {
            let (statements, left) = split(sql);
            assert_eq!(statements, expect, "{sql:?}");
            assert_eq!(left.trim(), rest, "{sql:?}");
        }
        check("", &[], "");
        check("SELECT 1", &[], "SELECT 1");
        check("SELECT 1; SELECT 2;", &["SELECT 1", "SELECT 2"], "");
        check("SELECT ';' ; x", &["SELECT ';'"], "x");
        check(r"SELECT 'it\'s;' ; x", &[r"SELECT 'it\'s;'"], "x");
        check("SELECT 'it''s;' ; x", &["SELECT 'it''s;'"], "x");
        check("SELECT `a;b`;", &["SELECT `a;b`"], "");
        check("-- a; b\nSELECT 1;", &["-- a; b\nSELECT 1"], "");
        check("/* ; */ ; ;", &[], "");
        check("SELECT 'café — ;' ; ü", &["SELECT 'café — ;'"], "ü");
        check("SELECT 'open ; ", &[], "SELECT 'open ;");
    }

    #[test]
    fn completeness() {
        fn check(sql: &str, expect: bool) {
            assert_eq!(is_complete(sql), expect, "{sql:?}");
        }
        check("", true);
        check("SELECT 1", false);
        check("SELECT 1;", true);
        check("SELECT 1; -- done", true);
        check("SELECT 1; SELECT", false);
        check("SELECT ';", false);
        check("/* ;", false);
    }

    #[test]
    fn variables() {
        let variables = BTreeMap::from([("kafka".to_string(), "a:1,b:2".to_string()), ("x".into(), "${kafka}".into())]);
        let check = |sql: &str, expect: Result<&str, (&str, usize)>| {
            let filled = fill(sql, &variables);
            let filled = filled.as_deref().map_err(|unset| (unset.name.as_str(), unset.line));
            assert_eq!(filled, expect, "{sql:?}");
        };
        check("OPTIONS ('k' '${kafka}')", Ok("OPTIONS ('k' 'a:1,b:2')"));
        check("${kafka} ${ kafka }", Ok("a:1,b:2 a:1,b:2"));
        check("${x}", Ok("${kafka}"));
        check("-- ${nobody}\n1", Ok("-- ${nobody}\n1"));
        check("a\n'\n${cassandra}'", Err(("cassandra", 3)));
        check("/*\n*/ ${no}", Err(("no", 2)));
        check("'${secret:db}' ${kafka}", Ok("'${secret:db}' a:1,b:2"));
        check("$${kafka}", Ok("${kafka}"));
        check("SELECT '$${nobody}', '${kafka}'", Ok("SELECT '${nobody}', 'a:1,b:2'"));
        check("$ {kafka} ${open", Ok("$ {kafka} ${open"));
        let unset = fill("${y}", &variables).expect_err("y is not given");
        assert_eq!(
            unset.to_string(),
            "[UNSET_VARIABLE] ${y} on line 1 is not set: give --set y=VALUE (given: kafka, x), or write $${y} where that \
             text itself is meant"
        );
    }
}
