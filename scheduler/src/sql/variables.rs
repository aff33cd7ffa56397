//! `${name}` in SQL text: filled by the client before the text is sent.

use headwater_proto::error::{Error, Result};
use std::collections::BTreeMap;

/// Replaces every `${name}` by its value, as text and wherever it stands, string literals included.
///
/// # Errors
/// `UNBOUND_SQL_PARAMETER` naming the variable and its line when it has no value, or when `${` is not closed.
pub fn substitute(text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find("${") {
        let line = 1 + text[..text.len() - rest.len() + open].matches('\n').count();
        let body = &rest[open + 2..];
        let Some(close) = body.find('}').filter(|close| !body[..*close].contains('\n')) else {
            return Err(Error::invalid("PARSE_SYNTAX_ERROR", format!("line {line}: ${{ is not closed by }}")));
        };
        let name = &body[..close];
        let Some(value) = variables.get(name) else {
            let known = variables.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(
                "UNBOUND_SQL_PARAMETER",
                format!(
                    "line {line}: variable ${{{name}}} has no value: pass --set {name}=VALUE{}",
                    if known.is_empty() { String::new() } else { format!(" (given: {known})") }
                ),
            ));
        };
        output.push_str(&rest[..open]);
        output.push_str(value);
        rest = &body[close + 1..];
    }
    output.push_str(rest);
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let variables = BTreeMap::from([("kafka".to_string(), "h:9092".to_string()), ("n".into(), String::new())]);
        let actual = substitute(text, &variables);
        match expect {
            Ok(expect) => assert_eq!(actual.expect(text), expect),
            Err(part) => {
                let message = actual.expect_err(text).to_string();
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn variables_are_filled() {
        check("a '${kafka}' b", Ok("a 'h:9092' b"));
        check("${n}${kafka}${n}", Ok("h:9092"));
        check("$ { } $x", Ok("$ { } $x"));
        check("a\nb ${cassandra}", Err("line 2: variable ${cassandra} has no value: pass --set cassandra=VALUE"));
        check("${kafka", Err("not closed"));
        check("${kaf\nka}", Err("not closed"));
    }
}
