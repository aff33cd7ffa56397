//! Quoted text as Spark's lexer reads it: escapes, raw strings, doubled quotes.

use super::dialect::is_word;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// Puts what they stand for in the place of quoted names and strings, which the tokenizer left as they were written.
/// `r'\d'` is one string.
pub fn read(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut output: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for mut token in tokens {
        if matches!(token.token, Token::SingleQuotedString(_) | Token::DoubleQuotedString(_))
            && let Some(last) = output.last()
            && is_word(&last.token, "r")
            && last.span.end == token.span.start
        {
            token.span.start = last.span.start;
            output.pop();
            output.push(token);
            continue;
        }
        match &mut token.token {
            Token::SingleQuotedString(text) => *text = unescaped(text, '\''),
            Token::DoubleQuotedString(text) => *text = unescaped(text, '"'),
            Token::Word(Word { value, quote_style: Some('`'), .. }) => *value = value.replace("``", "`"),
            _ => {}
        }
        output.push(token);
    }
    output
}

/// What a string between these quotes stands for: `\n`, `\u0041`, `\U0001F600`, `\101` and so on. `\%` and `\_` stay, for
/// the patterns of LIKE; before any other character a backslash goes.
fn unescaped(text: &str, quote: char) -> String {
    if !text.contains(['\\', quote]) {
        return text.to_string();
    }
    let mut output = String::with_capacity(text.len());
    // Half of a character that takes two `\u`.
    let mut high: Option<u32> = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, unit) = match first {
            '\\' => escape(rest),
            first => (first.len_utf8(), Unit::Char(first)),
        };
        // Of a doubled quote one is left.
        let doubled = first == quote && rest[taken..].starts_with(quote);
        rest = &rest[taken + if doubled { quote.len_utf8() } else { 0 }..];
        match (high.take(), unit) {
            (Some(high), Unit::Code(low @ 0xDC00..=0xDFFF)) => {
                let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                output.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                continue;
            }
            (Some(_), _) => output.push(char::REPLACEMENT_CHARACTER),
            (None, _) => {}
        }
        match unit {
            Unit::Char(one) => output.push(one),
            Unit::Kept(one) => output.extend(['\\', one]),
            Unit::Code(code @ 0xD800..=0xDBFF) => high = Some(code),
            Unit::Code(code) => output.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }
    if high.is_some() {
        output.push(char::REPLACEMENT_CHARACTER);
    }
    output
}

#[derive(Clone, Copy)]
enum Unit {
    Char(char),
    Kept(char),
    Code(u32),
}

/// The escape that a text begins with: how many bytes it has, and what it stands for.
fn escape(text: &str) -> (usize, Unit) {
    let digits = |from: usize, to: usize, radix: u32| {
        let digits = text.get(from..to)?;
        if !digits.chars().all(|digit| digit.is_digit(radix)) {
            return None;
        }
        u32::from_str_radix(digits, radix).ok()
    };
    let Some(next) = text[1..].chars().next() else { return (1, Unit::Char('\\')) };
    let unit = match next {
        'u' if let Some(code) = digits(2, 6, 16) => return (6, Unit::Code(code)),
        'U' if let Some(code) = digits(2, 10, 16) => return (10, Unit::Code(code)),
        '0' | '1' if let Some(code) = digits(1, 4, 8) => return (4, Unit::Code(code)),
        '0' => Unit::Char('\0'),
        'b' => Unit::Char('\u{8}'),
        'n' => Unit::Char('\n'),
        'r' => Unit::Char('\r'),
        't' => Unit::Char('\t'),
        'Z' => Unit::Char('\u{1a}'),
        '%' | '_' => Unit::Kept(next),
        other => Unit::Char(other),
    };
    (1 + next.len_utf8(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_sparks() {
        let check = |text: &str, expect: &str| assert_eq!(unescaped(text, '\''), expect, "{text}");
        check(r"plain", "plain");
        check(r"a\nb\\c\'d", "a\nb\\c'd");
        check(r"\u0041\101\0", "AA\0");
        check(r"\U0001F600 \uD83D\uDE00", "\u{1F600} \u{1F600}");
        check(r"\uD83Dx", "\u{FFFD}x");
        check(r"50\% \_ \d \u12", r"50\% \_ d u12");
        check("it''s", "it's");
        check(r"é\é", "éé");
    }
}
