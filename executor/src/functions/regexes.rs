//! Functions of regular expressions, written as Java has them.
//!
//! A pattern is run by the `regex` crate, which is linear in the text and has no look-around, back references and
//! possessive quantifiers: they are refused. [`translated`] spells in its words what Java writes otherwise.

use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use Param::{Int, Text};

/// The functions.
pub fn functions() -> Vec<Function> {
    const TEXT: Returns = Returns::Type(|| DataType::Utf8);
    const INT: Returns = Returns::Type(|| DataType::Int32);
    const BOOLEAN: Returns = Returns::Type(|| DataType::Boolean);
    const TEXTS: Returns = Returns::Type(|| super::ddl::array_of(DataType::Utf8));
    vec![
        Function::new("split", &[Text, Text], TEXTS, split).optional(&[Int]),
        Function::new("regexp_replace", &[Text, Text, Text], TEXT, regexp_replace).optional(&[Int]),
        Function::new("regexp_extract", &[Text, Text], TEXT, regexp_extract).optional(&[Int]),
        Function::new("regexp_extract_all", &[Text, Text], TEXTS, regexp_extract_all).optional(&[Int]),
        Function::new("regexp_count", &[Text, Text], INT, |call| {
            let mut known = Patterns::default();
            call.rows::<Int32Type>(|i| {
                let pattern = known.get("regexp_count", call.text(1).value(i))?;
                Ok(Some(pattern.all(call.text(0).value(i)).len() as i32))
            })
        }),
        Function::new("regexp_substr", &[Text, Text], TEXT, |call| {
            let mut known = Patterns::default();
            call.text_rows(|i| {
                let (text, pattern) = (call.text(0).value(i), known.get("regexp_substr", call.text(1).value(i))?);
                Ok(pattern.first(text).map(|found| text[found].to_string()))
            })
        }),
        Function::new("regexp_instr", &[Text, Text], INT, |call| {
            let mut known = Patterns::default();
            call.rows::<Int32Type>(|i| {
                let (text, pattern) = (call.text(0).value(i), known.get("regexp_instr", call.text(1).value(i))?);
                let found = pattern.first(text);
                Ok(Some(found.map_or(0, |found| text[..found.start].chars().count() as i32 + 1)))
            })
        })
        .optional(&[Int]),
        Function::new("rlike", &[Text, Text], BOOLEAN, |call| {
            let mut known = Patterns::default();
            call.bool_rows(|i| Ok(Some(known.get("rlike", call.text(1).value(i))?.matches(call.text(0).value(i)))))
        })
        .alias(&["regexp", "regexp_like"]),
    ]
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern(regex::Regex);

/// The places of a match and of its groups.
type Groups = Vec<Option<Range<usize>>>;

impl Pattern {
    /// Of Java's text; what is wrong with it otherwise.
    fn compile(java: &str) -> std::result::Result<Self, String> {
        let (text, possessive) = translated(java);
        if possessive {
            return Err("possessive quantifiers are not supported".into());
        }
        match regex::Regex::new(&text) {
            Ok(compiled) => Ok(Self(compiled)),
            Err(error) => Err(format!("{error}; look-around and back references are not supported")),
        }
    }

    fn groups(&self) -> usize {
        self.0.captures_len()
    }

    /// Whether it is anywhere in the text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The first match.
    pub fn first(&self, text: &str) -> Option<Range<usize>> {
        self.0.find(text).map(|found| found.range())
    }

    /// All matches.
    pub fn all(&self, text: &str) -> Vec<Range<usize>> {
        let (mut all, mut at) = (vec![], Some(0));
        while let Some(found) = at.and_then(|at| self.0.find_at(text, at)) {
            at = next_search(text, &found.range());
            all.push(found.range());
        }
        all
    }

    /// All matches with their groups, at most so many.
    fn captures(&self, text: &str, most: usize) -> Vec<Groups> {
        let (mut all, mut at) = (vec![], Some(0));
        while all.len() < most
            && let Some(found) = at.and_then(|at| self.0.captures_at(text, at))
        {
            let groups: Groups = found.iter().map(|group| group.map(|own| own.range())).collect();
            at = groups[0].as_ref().and_then(|whole| next_search(text, whole));
            all.push(groups);
        }
        all
    }
}

/// Where Java looks for the next match: at the end of this one, where another may be empty, and a character beyond an
/// empty one. None at the end of the text.
fn next_search(text: &str, found: &Range<usize>) -> Option<usize> {
    if !found.is_empty() {
        return Some(found.end);
    }
    text[found.end..].chars().next().map(|own| found.end + own.len_utf8())
}

/// Compiled patterns of a batch: nearly always one.
#[derive(Default)]
pub struct Patterns(HashMap<String, Pattern>);

impl Patterns {
    /// The pattern, compiled once.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE.PATTERN`.
    pub fn get(&mut self, function: &str, pattern: &str) -> Result<&Pattern> {
        if !self.0.contains_key(pattern) {
            let compiled = Pattern::compile(pattern).map_err(|error| {
                external(Error::invalid(
                    "INVALID_PARAMETER_VALUE.PATTERN",
                    format!("`{function}` cannot use the pattern '{pattern}': {error}"),
                ))
            })?;
            self.0.insert(pattern.to_string(), compiled);
        }
        Ok(&self.0[pattern])
    }
}

/// Blanks of Java's `\s`.
const BLANK: &str = r" \t\n\x0B\x0C\r";
const WORD: &str = "0-9A-Za-z_";
/// Java's `\v`.
const VERTICAL: &str = r"\n\x0B\x0C\r\x{85}\x{2028}\x{2029}";
/// Java's `\h`.
const HORIZONTAL: &str = r" \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";

/// Java's pattern in Rust's words, and whether it has possessive quantifiers, which are something else there.
fn translated(java: &str) -> (String, bool) {
    let mut out = String::with_capacity(java.len() + 16);
    let mut chars = java.chars().peekable();
    let (mut classes, mut possessive, mut quantified) = (0_usize, false, false);
    while let Some(c) = chars.next() {
        let quantifier = classes == 0 && matches!(c, '*' | '+' | '?' | '}');
        if quantifier && c == '+' && quantified {
            possessive = true;
        }
        quantified = quantifier && !quantified;
        match c {
            '\\' => match chars.next() {
                Some('Q') => {
                    let rest: String = chars.by_ref().collect();
                    let (literal, after) = rest.split_once("\\E").unwrap_or((&rest, ""));
                    out.push_str(&regex::escape(literal));
                    let (after, more) = translated(after);
                    out.push_str(&after);
                    return (out, possessive || more);
                }
                Some(letter) => escape(letter, &mut chars, classes > 0, &mut out),
                None => out.push('\\'),
            },
            '[' => {
                classes += 1;
                out.push(c);
            }
            ']' => {
                classes = classes.saturating_sub(1);
                out.push(c);
            }
            other => out.push(other),
        }
    }
    (out, possessive)
}

fn escape(letter: char, rest: &mut std::iter::Peekable<std::str::Chars<'_>>, within: bool, out: &mut String) {
    let mut class = |items: &str, negated: bool| match (within, negated) {
        (true, false) => out.push_str(items),
        (_, negated) => {
            out.push_str(if negated { "[^" } else { "[" });
            out.push_str(items);
            out.push(']');
        }
    };
    match letter {
        'd' => class("0-9", false),
        'D' => class("0-9", true),
        'w' => class(WORD, false),
        'W' => class(WORD, true),
        's' => class(BLANK, false),
        'S' => class(BLANK, true),
        'h' => class(HORIZONTAL, false),
        'H' => class(HORIZONTAL, true),
        'v' => class(VERTICAL, false),
        'V' => class(VERTICAL, true),
        'R' => out.push_str(r"(?:\r\n|[\n\x0B\x0C\r\x{85}\x{2028}\x{2029}])"),
        'e' => out.push_str(r"\x1B"),
        // Words begin and end there for Rust.
        '<' | '>' => out.push(letter),
        'p' | 'P' if rest.peek() == Some(&'{') => {
            let name: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
            let posix = [
                "Lower", "Upper", "ASCII", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank", "Cntrl",
                "XDigit", "Space",
            ];
            if posix.contains(&name.as_str()) {
                let negated = if letter == 'P' { "^" } else { "" };
                class(&format!("[:{negated}{}:]", name.to_ascii_lowercase()), false);
                return;
            }
            let name = match name.strip_prefix("Is") {
                Some(script) if !script.is_empty() => script,
                _ => &name,
            };
            out.push('\\');
            out.push(letter);
            out.push('{');
            out.push_str(name);
            out.push('}');
        }
        other => {
            out.push('\\');
            out.push(other);
        }
    }
}

/// A piece of Java's replacement text.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Group(usize),
}

/// The pieces of a replacement: `$1`, with as many digits as there are groups for, and `\` before what stands for itself.
fn pieces(text: &str, groups: usize) -> Result<Vec<Piece>> {
    let mut pieces = vec![];
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(own) => literal.push(own),
                None => return invalid("INVALID_PARAMETER_VALUE.PATTERN", "the replacement ends with a backslash"),
            },
            '$' => {
                let Some(first) = chars.peek().and_then(|c| c.to_digit(10)) else {
                    return invalid(
                        "INVALID_PARAMETER_VALUE.PATTERN",
                        "the replacement has a $ without a group's number: write \\$ for the sign",
                    );
                };
                chars.next();
                let mut group = first as usize;
                if group >= groups {
                    return invalid(
                        "INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX",
                        format!("the replacement names group {group}, and the pattern has {} groups", groups - 1),
                    );
                }
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let longer = group * 10 + digit as usize;
                    if longer >= groups {
                        break;
                    }
                    group = longer;
                    chars.next();
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Group(group));
            }
            other => literal.push(other),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

fn regexp_replace(call: &Call<'_>) -> Result<ArrayRef> {
    let mut known = Patterns::default();
    let mut replacement: Option<(String, usize, Vec<Piece>)> = None;
    call.text_rows(|i| {
        let pattern = known.get("regexp_replace", call.text(1).value(i))?;
        let (text, with) = (call.text(0).value(i), call.text(2).value(i));
        let from = if call.has(3) { call.ints(3).value(i) } else { 1 };
        if from < 1 {
            return invalid(
                "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                format!("the position of `regexp_replace` must be between 1 and 2147483647, but is {from}"),
            );
        }
        let from = from as usize;
        let begin = text.char_indices().nth(from - 1).map(|(at, _)| at);
        let Some(begin) = begin.or((from == 1).then_some(0)) else { return Ok(Some(text.to_string())) };
        let found = pattern.captures(&text[begin..], usize::MAX);
        if found.is_empty() {
            return Ok(Some(text.to_string()));
        }
        let groups = pattern.groups();
        if replacement.as_ref().is_none_or(|(own, count, _)| own != with || *count != groups) {
            replacement = Some((with.to_string(), groups, pieces(with, groups)?));
        }
        let parts = replacement.as_ref().map_or(&[][..], |(_, _, parts)| parts.as_slice());
        let mut out = text[..begin].to_string();
        let rest = &text[begin..];
        let mut done = 0;
        for groups in &found {
            let Some(Some(whole)) = groups.first() else { continue };
            out.push_str(&rest[done..whole.start]);
            for part in parts {
                match part {
                    Piece::Text(own) => out.push_str(own),
                    Piece::Group(at) => {
                        if let Some(Some(group)) = groups.get(*at) {
                            out.push_str(&rest[group.clone()]);
                        }
                    }
                }
            }
            done = whole.end;
        }
        out.push_str(&rest[done..]);
        Ok(Some(out))
    })
}

fn group_of(call: &Call<'_>, i: usize, function: &str, pattern: &Pattern) -> Result<usize> {
    let group = if call.has(2) { call.ints(2).value(i) } else { 1 };
    let count = pattern.groups() as i32 - 1;
    if (0..=count).contains(&group) {
        return Ok(group as usize);
    }
    invalid(
        "INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX",
        format!("the group index of `{function}` must be between 0 and {count}, but got {group}"),
    )
}

fn regexp_extract(call: &Call<'_>) -> Result<ArrayRef> {
    let mut known = Patterns::default();
    call.text_rows(|i| {
        let (text, pattern) = (call.text(0).value(i), known.get("regexp_extract", call.text(1).value(i))?);
        let Some(found) = pattern.captures(text, 1).pop() else { return Ok(Some(String::new())) };
        let group = group_of(call, i, "regexp_extract", pattern)?;
        Ok(Some(found[group].clone().map_or_else(String::new, |part| text[part].to_string())))
    })
}

fn regexp_extract_all(call: &Call<'_>) -> Result<ArrayRef> {
    let mut known = Patterns::default();
    let mut builder = ListBuilder::new(StringBuilder::new());
    for i in 0..call.rows {
        if call.skip(i) {
            builder.append_null();
            continue;
        }
        let (text, pattern) = (call.text(0).value(i), known.get("regexp_extract_all", call.text(1).value(i))?);
        let all = pattern.captures(text, usize::MAX);
        if !all.is_empty() {
            // A group that does not exist is no error where nothing was found.
            let group = group_of(call, i, "regexp_extract_all", pattern)?;
            for found in all {
                builder.values().append_value(found[group].clone().map_or("", |part| &text[part]));
            }
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

fn split(call: &Call<'_>) -> Result<ArrayRef> {
    let mut known = Patterns::default();
    let mut builder = ListBuilder::new(StringBuilder::new());
    for i in 0..call.rows {
        if call.skip(i) {
            builder.append_null();
            continue;
        }
        let (text, pattern) = (call.text(0).value(i), call.text(1).value(i));
        let limit = if call.has(2) { call.ints(2).value(i) } else { -1 };
        let most = if limit > 0 { limit as usize } else { usize::MAX };
        if pattern.is_empty() {
            let mut chars = text.chars();
            for _ in 1..most.min(text.chars().count()) {
                if let Some(c) = chars.next() {
                    builder.values().append_value(c.to_string());
                }
            }
            builder.values().append_value(chars.as_str());
        } else {
            let pattern = known.get("split", pattern)?;
            let mut begin = 0;
            let mut count = 1;
            for found in pattern.all(text) {
                // As Java: nothing is in front of an empty match at the beginning.
                if count == most || found.end == 0 {
                    continue;
                }
                builder.values().append_value(&text[begin..found.start]);
                begin = found.end;
                count += 1;
            }
            builder.values().append_value(&text[begin..]);
        }
        builder.append(true);
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::ScalarUDFImpl;

    #[test]
    fn javas_words_are_rusts() {
        let check = |java: &str, text: &str, expect: bool| {
            let pattern = Pattern::compile(java).unwrap_or_else(|error| panic!("{java}: {error}"));
            assert_eq!(pattern.matches(text), expect, "{java} on {text}");
        };
        check(r"\w", "é", false);
        check(r"[\w-]+\s\d", "a-b 1", true);
        check(r"[^\d\s]", "1 2", false);
        check(r"\p{Alpha}\p{IsAlphabetic}", "ab", true);
        check(r"\Q.*\E", "a.*", true);
        check(r"\Q.*\E$", "ab", false);
        check(r"[a-z&&[^x]]", "x", false);
        check(r"\<b\>", "<b>", true);
        // What would be another pattern is refused.
        assert!(Pattern::compile(r"a++b").is_err() && Pattern::compile(r"(a)\1").is_err());
    }

    #[test]
    fn replacements_are_javas() {
        let text = |own: &str| Piece::Text(own.into());
        assert_eq!(pieces("$2-$1\\$x", 3).expect("pieces"), [Piece::Group(2), text("-"), Piece::Group(1), text("$x")]);
        // A second digit belongs to the number if there is such a group.
        assert_eq!(pieces("$12", 3).expect("pieces"), [Piece::Group(1), text("2")]);
        assert!(pieces("$9", 3).is_err() && pieces("a$", 3).is_err());
    }

    /// A function's row of texts.
    fn called(name: &str, args: &[&str]) -> Result<ArrayRef> {
        let function = functions().into_iter().find(|one| one.name() == name).expect(name);
        let function = datafusion::logical_expr::ScalarUDF::from(function);
        let args = args.iter().map(|arg| datafusion::common::ScalarValue::from(*arg)).collect::<Vec<_>>();
        let types: Vec<DataType> = args.iter().map(|arg| arg.data_type()).collect();
        let field = |data_type: DataType| Arc::new(arrow::datatypes::Field::new("c", data_type, true));
        let result = function.invoke_with_args(datafusion::logical_expr::ScalarFunctionArgs {
            arg_fields: types.iter().cloned().map(field).collect(),
            return_field: field(function.return_type(&types)?),
            args: args.into_iter().map(datafusion::logical_expr::ColumnarValue::Scalar).collect(),
            number_rows: 1,
            config_options: Arc::default(),
        })?;
        result.into_array(1)
    }

    #[test]
    fn empty_matches_are_javas() {
        let check = |name: &str, args: &[&str], expect: &str| {
            let found = called(name, args).unwrap_or_else(|error| panic!("{name}{args:?}: {error}"));
            let found = arrow::util::display::array_value_to_string(&found, 0).expect("a text");
            assert_eq!(found, expect, "{name}{args:?}");
        };
        check("regexp_replace", &["abc", ".*", "x"], "xx");
        check("regexp_replace", &["baaac", "a*", "X"], "XbXXcX");
        check("regexp_replace", &["äbc", "", "-"], "-ä-b-c-");
        check("regexp_count", &["abc", ".*"], "2");
        check("regexp_count", &["abc", ""], "4");
        check("regexp_count", &["", "a*"], "1");
        check("regexp_extract_all", &["ab", "(.*)"], "[ab, ]");
        check("split", &["baaac", "a*"], "[b, , c, ]");
        check("split", &["a,b,,", ","], "[a, b, , ]");
        // A group that does not exist matters where something was found.
        check("regexp_extract_all", &["abc", "[0-9]+"], "[]");
        let error = called("regexp_extract_all", &["a1", "[0-9]+"]).expect_err("no group").to_string();
        assert!(error.contains("REGEX_GROUP_INDEX"), "{error}");
    }
}
