//! Spark's lexical rules for sqlparser.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Interval, TimezoneInfo, TypedString, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Word};
use std::any::TypeId;

/// Spark SQL: back-ticked identifiers, strings in single or double quotes with backslash escapes.
///
/// sqlparser's own Spark dialect knows no escapes, and its Databricks dialect no `DIV` and `LONG`; this one stands for
/// Databricks where the parser asks for a dialect by type (`SELECT * FROM VALUES …`, the function `exists`).
#[derive(Debug, Default, Clone, Copy)]
pub struct SparkDialect;

impl Dialect for SparkDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<DatabricksDialect>()
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_ascii_alphabetic() || ch == '_'
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_ascii_alphanumeric() || ch == '_'
    }
    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }
    fn supports_lambda_functions(&self) -> bool {
        true
    }
    fn supports_select_wildcard_except(&self) -> bool {
        true
    }
    fn supports_struct_literal(&self) -> bool {
        true
    }
    fn supports_nested_comments(&self) -> bool {
        true
    }
    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }
    fn supports_values_as_table_factor(&self) -> bool {
        true
    }
    fn require_interval_qualifier(&self) -> bool {
        true
    }
    /// `INTERVAL DAY TO SECOND` as a type.
    fn supports_interval_options(&self) -> bool {
        true
    }
    fn supports_bang_not_operator(&self) -> bool {
        true
    }
    fn supports_cte_without_as(&self) -> bool {
        true
    }
    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }
    fn supports_string_literal_concatenation(&self) -> bool {
        true
    }
    fn supports_select_item_multi_column_alias(&self) -> bool {
        true
    }
    fn allow_extract_custom(&self) -> bool {
        true
    }
    fn supports_order_by_all(&self) -> bool {
        true
    }
    fn supports_table_sample_before_alias(&self) -> bool {
        true
    }
    fn supports_from_first_select(&self) -> bool {
        true
    }
    fn supports_pipe_operator(&self) -> bool {
        true
    }
    /// Shifts bind closer than `&` and looser than `+`; `||` binds as `+` does.
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::ShiftLeft | Token::ShiftRight => Some(Ok(SHIFT)),
            Token::StringConcat => Some(Ok(self.prec_value(Precedence::PlusMinus))),
            _ => None,
        }
    }
    /// `INTERVAL 2 HOURS 30 MINUTES` and its kin.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let length = match &parser.peek_nth_token_ref(1).token {
            Token::Minus | Token::Plus => &parser.peek_nth_token_ref(2).token,
            other => other,
        };
        let first = &parser.peek_token_ref().token;
        // A TIMESTAMP by another name, which sqlparser does not know before a literal.
        if is_word(first, "TIMESTAMP_LTZ")
            && matches!(length, Token::SingleQuotedString(_) | Token::DoubleQuotedString(_))
        {
            parser.advance_token();
            let data_type = DataType::Timestamp(None, TimezoneInfo::None);
            return Some(
                parser
                    .parse_value()
                    .map(|value| Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false })),
            );
        }
        let starts = is_word(first, "INTERVAL") && is_length(length);
        starts.then(|| interval(parser))
    }
    /// `10 DIV 3` is integer division; `1 << 3`, `LIKE ANY (…)`.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        let op = match &parser.peek_token_ref().token {
            Token::Word(word) if word.keyword == Keyword::DIV => BinaryOperator::MyIntegerDivide,
            Token::ShiftLeft => BinaryOperator::PGBitwiseShiftLeft,
            Token::ShiftRight if is_adjacent(parser, &Token::Gt) => BinaryOperator::Custom(UNSIGNED_SHIFT.into()),
            Token::ShiftRight => BinaryOperator::PGBitwiseShiftRight,
            _ => return like_many(parser, expr),
        };
        parser.advance_token();
        if matches!(op, BinaryOperator::Custom(_)) {
            parser.advance_token();
        }
        Some(parser.parse_subexpr(precedence).map(|right| Expr::BinaryOp {
            left: Box::new(expr.clone()),
            op,
            right: Box::new(right),
        }))
    }
}

/// `>>>`, which sqlparser has no operator for.
pub const UNSIGNED_SHIFT: &str = ">>>";

/// Between sqlparser's `Ampersand` (23) and `PlusMinus` (30).
const SHIFT: u8 = 26;

/// Words that an interval's length may be followed by.
const UNITS: &[&str] = &[
    "YEAR",
    "QUARTER",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
];

/// Whether a token is this word, in whatever case, and not quoted.
pub fn is_word(token: &Token, expect: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(expect))
}

fn is_length(token: &Token) -> bool {
    matches!(token, Token::Number(..) | Token::SingleQuotedString(_) | Token::DoubleQuotedString(_))
}

fn is_unit(token: &Token) -> bool {
    let Token::Word(Word { value, quote_style: None, .. }) = token else { return false };
    let unit = value.to_ascii_uppercase();
    UNITS.contains(&unit.as_str()) || unit.strip_suffix('S').is_some_and(|unit| UNITS.contains(&unit))
}

/// Whether the token after the next one is this, without a space between.
fn is_adjacent(parser: &Parser, expect: &Token) -> bool {
    let (one, two) = (parser.peek_token_ref(), parser.peek_nth_token_ref(1));
    two.token == *expect && one.span.end == two.span.start
}

/// A length as it is written, with its sign in front.
fn length(parser: &mut Parser) -> Result<(bool, Value), ParserError> {
    let negative = parser.consume_token(&Token::Minus);
    if !negative {
        let _ = parser.consume_token(&Token::Plus);
    }
    let token = parser.next_token();
    match token.token {
        Token::Number(text, long) => Ok((negative, Value::Number(text, long))),
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => {
            Ok((negative, Value::SingleQuotedString(text)))
        }
        _ => parser.expected("the length of an interval", token),
    }
}

/// `INTERVAL '1 day'`, `INTERVAL '1' DAY`, `INTERVAL '1 2' DAY TO HOUR` and `INTERVAL 2 HOURS 30 MINUTES`.
fn interval(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.advance_token();
    let (negative, value) = length(parser)?;
    let mut interval = Interval {
        value: Box::new(Expr::Value(value.clone().into())),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    };
    if negative {
        interval.value = Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: interval.value });
    }
    if !is_unit(&parser.peek_token_ref().token) {
        return match value {
            Value::SingleQuotedString(_) => Ok(Expr::Interval(interval)),
            _ => parser.expected("a unit such as DAY", parser.peek_token()),
        };
    }
    let field = parser.parse_date_time_field()?;
    if parser.parse_keyword(Keyword::TO) {
        interval.leading_field = Some(field);
        interval.last_field = Some(parser.parse_date_time_field()?);
        return Ok(Expr::Interval(interval));
    }
    let shown = |negative: bool, value: &Value| {
        let text = match value {
            Value::SingleQuotedString(text) => text.trim().to_string(),
            other => other.to_string(),
        };
        if negative { format!("-{text}") } else { text }
    };
    let mut units = vec![format!("{} {field}", shown(negative, &value))];
    loop {
        let signed = usize::from(matches!(parser.peek_token_ref().token, Token::Minus | Token::Plus));
        let (length_token, unit) =
            (parser.peek_nth_token_ref(signed).token.clone(), parser.peek_nth_token_ref(signed + 1).token.clone());
        if !is_length(&length_token) || !is_unit(&unit) {
            break;
        }
        let (negative, value) = length(parser)?;
        units.push(format!("{} {}", shown(negative, &value), parser.parse_date_time_field()?));
    }
    match units.as_slice() {
        [_] => interval.leading_field = Some(field),
        _ => interval.value = Box::new(Expr::Value(Value::SingleQuotedString(units.join(" ")).into())),
    }
    Ok(Expr::Interval(interval))
}

/// `a [NOT] LIKE ANY ('x%', 'y%')`, with SOME and ALL: as many LIKEs.
fn like_many(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let keyword = |at: usize| match &parser.peek_nth_token_ref(at).token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let negated = keyword(0) == Keyword::NOT;
    let at = usize::from(negated);
    let case_insensitive = match keyword(at) {
        Keyword::LIKE => false,
        Keyword::ILIKE => true,
        _ => return None,
    };
    let any = match keyword(at + 1) {
        Keyword::ANY | Keyword::SOME => true,
        Keyword::ALL => false,
        _ => return None,
    };
    if parser.peek_nth_token_ref(at + 2).token != Token::LParen {
        return None;
    }
    (0..at + 3).for_each(|_| parser.advance_token());
    let patterns = parser
        .parse_comma_separated(|parser| parser.parse_expr())
        .and_then(|patterns| parser.expect_token(&Token::RParen).map(|_| patterns));
    let patterns = match patterns {
        Ok(patterns) => patterns,
        Err(error) => return Some(Err(error)),
    };
    let like = |pattern: Expr| {
        let (expr, pattern) = (Box::new(expr.clone()), Box::new(pattern));
        match case_insensitive {
            false => Expr::Like { negated, any: false, expr, pattern, escape_char: None },
            true => Expr::ILike { negated, any: false, expr, pattern, escape_char: None },
        }
    };
    let op = if any { BinaryOperator::Or } else { BinaryOperator::And };
    let all = patterns.into_iter().map(like).reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    });
    all.map(|all| Ok(Expr::Nested(Box::new(all))))
}
