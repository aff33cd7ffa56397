//! Types of literals in SQL, on the syntax tree: `1` is an INT and `3000000000` a BIGINT, `1e3` a DOUBLE, and intervals
//! are of months or of days and time.

use super::syntax::call;
use datafusion::sql::sqlparser::ast::{
    self, CastKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, LimitClause, NullTreatment, ObjectName, OrderByKind,
    Query, Select, TableFactor, TypedString, UnaryOperator, Value, VisitMut, VisitorMut, WindowFrame, WindowType,
};
use headwater_executor::functions::datetime::{self, Zone};
use headwater_executor::functions::interval_fields::{self, Fields};
use headwater_proto::error::{Error, Result};
use std::ops::ControlFlow;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// In a day.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Gives every literal Spark's type. Positions (`GROUP BY 1`), limits and arguments of table functions stay as they are.
///
/// # Errors
/// `INVALID_INTERVAL_FORMAT`, `INVALID_TYPED_LITERAL`.
pub fn type_literals(query: &mut Query) -> Result<()> {
    match query.visit(&mut Typed::default()) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

#[derive(Default)]
struct Typed {
    /// Frames of the window functions that are being visited: their bounds are no values.
    frames: Vec<Option<WindowFrame>>,
}

/// Letters after a number that type it; L is sqlparser's own.
pub const SUFFIXES: &[&str] = &["BD", "D", "F", "S", "Y"];

/// A number that stays as it is, until the visit of its query has ended. One with a letter or an exponent has a type of
/// its own wherever it stands.
fn protect(expr: &mut Expr) {
    if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr
        && let Expr::Value(value) = inner.as_ref()
        && let Value::Number(text, false) = &value.value
    {
        *expr = Expr::Value(Value::Number(format!("-{text}"), false).into());
    }
    if let Expr::Value(value) = expr
        && let Value::Number(text, long) = &value.value
        && !text.contains(|letter: char| letter.is_ascii_alphabetic())
    {
        *expr = Expr::Value(Value::Placeholder(format!("{PROTECTED}{text}{}", if *long { "L" } else { "" })).into());
    }
}

fn unprotect(expr: &mut Expr) {
    if let Expr::Value(value) = expr
        && let Value::Placeholder(text) = &value.value
        && let Some(text) = text.strip_prefix(PROTECTED)
    {
        let (text, long) = text.strip_suffix('L').map_or((text, false), |text| (text, true));
        *expr = Expr::Value(Value::Number(text.to_string(), long).into());
    }
}

const PROTECTED: &str = "\u{0}";

fn places(query: &mut Query, f: &mut dyn FnMut(&mut Expr)) {
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.iter_mut().for_each(&mut *f);
            offset.iter_mut().for_each(|offset| f(&mut offset.value));
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
            f(offset);
            f(limit);
        }
        None => {}
    }
    if let Some(fetch) = &mut query.fetch {
        fetch.quantity.iter_mut().for_each(&mut *f);
    }
    if let Some(order) = &mut query.order_by
        && let OrderByKind::Expressions(keys) = &mut order.kind
    {
        keys.iter_mut().for_each(|key| f(&mut key.expr));
    }
}

fn select_places(select: &mut Select, f: &mut dyn FnMut(&mut Expr)) {
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        keys.iter_mut().for_each(&mut *f);
    }
    select.sort_by.iter_mut().for_each(|key| f(&mut key.expr));
}

fn factor_places(factor: &mut TableFactor, f: &mut dyn FnMut(&mut Expr)) {
    let list = match factor {
        TableFactor::Table { args: Some(args), .. } => &mut args.args,
        TableFactor::Function { args, .. } => args,
        _ => return,
    };
    for arg in list {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
            f(expr);
        }
    }
}

impl VisitorMut for Typed {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        places(query, &mut protect);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        places(query, &mut unprotect);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        select_places(select, &mut protect);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        select_places(select, &mut unprotect);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        factor_places(factor, &mut protect);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        factor_places(factor, &mut unprotect);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            // The number below a type of its own must not get another one; it is visited, and so protected.
            Expr::Cast { expr: inner, .. } => protect(inner),
            Expr::Interval(interval) => match interval_call(interval) {
                Ok(call) => {
                    *expr = call;
                    // It is a function now, and popped as one.
                    self.frames.push(None);
                }
                Err(error) => return ControlFlow::Break(error),
            },
            Expr::TypedString(typed) => match special(typed) {
                Some(value) => {
                    if matches!(value, Expr::Function(_)) {
                        self.frames.push(None);
                    }
                    *expr = value;
                }
                None => {
                    if let Err(error) = check_typed(typed) {
                        return ControlFlow::Break(error);
                    }
                }
            },
            // The lowest INT has no positive counterpart.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                if let Expr::Value(value) = inner.as_ref()
                    && let Value::Number(text, false) = &value.value
                    && let Some(mut typed) = typed_number(&format!("-{text}"))
                {
                    if let Expr::Cast { expr: inner, .. } = &mut typed {
                        protect(inner);
                    }
                    *expr = typed;
                }
            }
            Expr::Function(function) => {
                respell(function);
                constants(function, &mut protect);
                let frame = match &mut function.over {
                    Some(WindowType::WindowSpec(spec)) => spec.window_frame.take(),
                    _ => None,
                };
                self.frames.push(frame.map(super::aggregates::bounds));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Value(value) => {
                if let Value::Number(text, long) = &value.value {
                    let typed = if *long { Some(number_as(text, DataType::BigInt(None))) } else { typed_number(text) };
                    if let Some(typed) = typed {
                        *expr = typed;
                    }
                }
            }
            Expr::Cast { expr: inner, .. } => unprotect(inner),
            Expr::Function(function) => {
                constants(function, &mut unprotect);
                let frame = self.frames.pop().flatten();
                if let Some(WindowType::WindowSpec(spec)) = &mut function.over {
                    spec.window_frame = frame;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The type's name, and the text.
fn parts(typed: &TypedString) -> Option<(String, String)> {
    Some((typed.data_type.to_string().to_ascii_uppercase(), typed.value.value.clone().into_string()?))
}

/// That a typed literal has a value of its type, which is known while it is parsed: no mode makes a NULL of it.
///
/// # Errors
/// `INVALID_TYPED_LITERAL`.
pub fn check_typed(typed: &TypedString) -> Result<()> {
    let Some((name, text)) = parts(typed) else { return Ok(()) };
    let valid = match name.as_str() {
        "DATE" => datetime::parse_date(&text).is_some(),
        "TIMESTAMP_NTZ" => datetime::parse_timestamp_ntz(&text).is_some(),
        // Without a zone it is in the session's, which the cast knows.
        "TIMESTAMP" | "TIMESTAMP_LTZ" => datetime::parse_timestamp(&text, &Zone::UTC).is_some(),
        _ => true,
    };
    if valid {
        return Ok(());
    }
    Err(Error::invalid(
        "INVALID_TYPED_LITERAL",
        format!("the value of the typed literal \"{name}\" is invalid: '{text}'"),
    ))
}

/// `DATE 'today'` and its like, which are the time of the query.
fn special(typed: &TypedString) -> Option<Expr> {
    let (name, text) = parts(typed)?;
    let today = || call("current_date", vec![]);
    let days = |days: &str| call("date_add", vec![today(), number_as(days, DataType::Int(None))]);
    let date = match text.trim().to_ascii_lowercase().as_str() {
        "now" if name == "TIMESTAMP" => return Some(call("current_timestamp", vec![])),
        "epoch" if name == "TIMESTAMP" => {
            return Some(call("timestamp_seconds", vec![number_as("0", DataType::BigInt(None))]));
        }
        "epoch" => call("date_from_unix_date", vec![number_as("0", DataType::Int(None))]),
        "now" | "today" => today(),
        "tomorrow" => days("1"),
        "yesterday" => days("-1"),
        _ => return None,
    };
    match name.as_str() {
        "DATE" => Some(date),
        "TIMESTAMP" => Some(call("timestamp", vec![date])),
        _ => None,
    }
}

/// Arguments that must be literals when the function is planned, which a cast is not.
fn constants(function: &mut Function, f: &mut dyn FnMut(&mut Expr)) {
    let place = match function.name.to_string().to_ascii_lowercase().as_str() {
        "round" | "bround" | "ceil" | "ceiling" | "floor" | "generated" => 1,
        "stack" => 0,
        // The kind comes first.
        "generated_row" => 1,
        _ => return,
    };
    let generated = function.name.to_string() == "generated";
    let FunctionArguments::List(list) = &mut function.args else { return };
    for (at, arg) in list.args.iter_mut().enumerate() {
        // `generated('stack', column, rows, …)`.
        if (at == place || generated && at == 2)
            && let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg
        {
            f(expr);
        }
    }
}

/// Functions that DataFusion writes in another way.
fn respell(function: &mut Function) {
    super::aggregates::respell(function);
    let name = function.name.to_string().to_ascii_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return };
    let args: Vec<Expr> = list
        .args
        .iter()
        .filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect();
    let unnamed = |expr: &Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr.clone()));
    match (name.as_str(), args.as_slice()) {
        // A schema by example must be a literal when the function is planned. One that is none fails when it is.
        (
            "from_json" | "from_csv",
            [_, Expr::Function(Function { name, args: FunctionArguments::List(own), .. }), ..],
        ) => {
            if let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(example)))] = own.args.as_slice()
                && let Value::SingleQuotedString(example) = &example.value
                && let Some(Ok(schema)) = super::functions::example_schema(&name.to_string(), example)
            {
                let schema = Expr::Value(Value::SingleQuotedString(schema).into());
                list.args[1] = FunctionArg::Unnamed(FunctionArgExpr::Expr(schema));
            }
        }
        // DataFusion's planner has a `map` of its own, which must have arguments.
        ("map", []) => function.name = ObjectName::from(vec![Ident::new("spark_map")]),
        ("count_if", [condition]) => {
            let condition = match function.filter.take() {
                Some(filter) => Expr::BinaryOp {
                    left: filter,
                    op: datafusion::sql::sqlparser::ast::BinaryOperator::And,
                    right: Box::new(Expr::Nested(Box::new(condition.clone()))),
                },
                None => condition.clone(),
            };
            function.filter = Some(Box::new(condition));
            function.name = ObjectName::from(vec![Ident::new("count")]);
            list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
        }
        ("first" | "last" | "any_value" | "first_value" | "last_value", [value, Expr::Value(ignore)]) => {
            if let Value::Boolean(ignore) = &ignore.value {
                if *ignore {
                    function.null_treatment = Some(NullTreatment::IgnoreNulls);
                }
                list.args = vec![unnamed(value)];
            }
        }
        // What is trimmed comes first.
        ("ltrim" | "rtrim", [set, text]) => list.args = vec![unnamed(text), unnamed(set)],
        ("listagg" | "string_agg", _) if !args.is_empty() => {
            if args.len() == 1 {
                list.args.push(unnamed(&Expr::Value(Value::SingleQuotedString(String::new()).into())));
            }
            if !function.within_group.is_empty() {
                let order = std::mem::take(&mut function.within_group);
                list.clauses.push(FunctionArgumentClause::OrderBy(order));
            }
            function.name = ObjectName::from(vec![Ident::new("string_agg")]);
        }
        _ => {}
    }
}

fn number_as(text: &str, data_type: DataType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(Value::Number(text.to_string(), false).into())),
        data_type,
        array: false,
        format: None,
    }
}

/// A number with an exponent is read as a decimal, of which DataFusion's have so many digits; others are read as text.
const EXPONENT_MAX: i32 = 20;

fn fraction_as(text: &str, data_type: DataType) -> Expr {
    let exponent = text.split_once(['e', 'E']).map_or(Some(0), |(_, exponent)| exponent.parse::<i32>().ok());
    // A decimal has no zero below zero.
    let negative_zero = text.starts_with('-') && text.parse::<f64>().is_ok_and(|number| number == 0.0);
    let many = negative_zero
        || text.len() > EXPONENT_MAX as usize
        || exponent.is_none_or(|exponent| exponent.abs() > EXPONENT_MAX);
    let mut number = number_as(text, data_type);
    if let Expr::Cast { expr, .. } = &mut number
        && many
    {
        **expr = Expr::Value(Value::SingleQuotedString(text.to_string()).into());
    }
    number
}

/// The number under Spark's type; none where DataFusion's is the same.
fn typed_number(text: &str) -> Option<Expr> {
    if let Some(suffix) = SUFFIXES.iter().find(|suffix| text.ends_with(**suffix)) {
        let number = text.trim_end_matches(suffix);
        return Some(match *suffix {
            "D" => fraction_as(number, DataType::DoublePrecision),
            "F" => fraction_as(number, DataType::Float(ExactNumberInfo::None)),
            "S" => number_as(number, DataType::SmallInt(None)),
            "Y" => number_as(number, DataType::TinyInt(None)),
            // A number with a point is a decimal already.
            _ => Expr::Value(Value::Number(number.to_string(), false).into()),
        });
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return text.parse::<i32>().is_ok().then(|| number_as(text, DataType::Int(None)));
    }
    text.contains(['e', 'E']).then(|| fraction_as(text, DataType::DoublePrecision))
}

/// What an interval's literal says: its text, and how long it is.
fn read(interval: &ast::Interval) -> Result<(String, Length)> {
    let (negative, value) = match interval.value.as_ref() {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (true, expr.as_ref()),
        other => (false, other),
    };
    let text = match value {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) | Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            _ => return Err(invalid(&interval.to_string())),
        },
        _ => return Err(invalid(&interval.to_string())),
    };
    let parsed = parse_interval(&text, interval.leading_field.as_ref(), interval.last_field.as_ref())
        .ok_or_else(|| invalid(&interval.to_string()))?;
    let sign = if negative { -1 } else { 1 };
    let length = match parsed {
        Length::Months(months) => Length::Months(sign * months),
        Length::Days(days) => Length::Days(sign * days),
        Length::Micros(micros) => Length::Micros(sign * micros),
        Length::Mixed => {
            return Err(Error::invalid(
                "_LEGACY_ERROR_TEMP_0029",
                format!("{interval}: cannot mix year-month and day-time fields: write two intervals, or make_interval"),
            ));
        }
    };
    Ok((text, length))
}

/// How long an interval is.
///
/// # Errors
/// `INVALID_INTERVAL_FORMAT`; fields that do not go together.
pub fn length(interval: &ast::Interval) -> Result<Length> {
    read(interval).map(|(_, length)| length)
}

fn interval_call(interval: &ast::Interval) -> Result<Expr> {
    let (text, length) = read(interval)?;
    let (function, number) = match length {
        Length::Months(months) => ("interval_months", months),
        Length::Days(days) => ("interval_days", days),
        Length::Micros(micros) => ("interval_micros", micros),
        Length::Mixed => return Err(invalid(&interval.to_string())),
    };
    let fields = interval_fields::metadata(fields_of(&text, interval));
    let fields = fields.map(|fields| Expr::Value(Value::SingleQuotedString(fields).into()));
    let value = number_as(&number.to_string(), DataType::BigInt(None));
    Ok(call(function, std::iter::once(value).chain(fields).collect()))
}

/// The fields that a literal names.
fn fields_of(text: &str, interval: &ast::Interval) -> Option<Fields> {
    match (&interval.leading_field, &interval.last_field) {
        (Some(from), Some(to)) => Fields::of_units([from.to_string().as_str(), to.to_string().as_str()]),
        (Some(field), None) => Fields::of_units([field.to_string().as_str()]),
        (None, _) => Fields::of_units(text.trim_start_matches('-').split_whitespace().skip(1).step_by(2)),
    }
}

fn invalid(text: &str) -> Error {
    Error::invalid(
        "INVALID_INTERVAL_FORMAT",
        format!("{text} is no interval: write INTERVAL '1 02:03:04' DAY TO SECOND"),
    )
}

/// How long an interval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// In months.
    Months(i64),
    /// In days.
    Days(i64),
    /// In microseconds.
    Micros(i64),
    /// Of months and of days.
    Mixed,
}

fn unit(text: &str) -> Option<(char, i64)> {
    let singular = text.to_ascii_lowercase();
    let singular = singular.strip_suffix('s').unwrap_or(&singular);
    Some(match singular {
        "year" => ('M', 12),
        "quarter" => ('M', 3),
        "month" => ('M', 1),
        "week" => ('D', 7),
        "day" => ('D', 1),
        "hour" => ('U', 3600 * MICROS_PER_SECOND),
        "minute" => ('U', 60 * MICROS_PER_SECOND),
        "second" => ('U', MICROS_PER_SECOND),
        "millisecond" => ('U', 1000),
        "microsecond" => ('U', 1),
        _ => return None,
    })
}

fn parse_interval(text: &str, from: Option<&DateTimeField>, to: Option<&DateTimeField>) -> Option<Length> {
    let text = text.trim();
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let sign = if negative { -1 } else { 1 };
    let Some(from) = from else { return parse_units(text, sign) };
    let field = from.to_string();
    if to.is_none() {
        // `INTERVAL 2 HOURS 30 MINUTES` reaches the parser as text of units; a single unit is a number.
        let (kind, size) = unit(&field)?;
        let value = scaled(text, size)?;
        return Some(match kind {
            'M' => Length::Months(sign * value),
            'D' => Length::Days(sign * value),
            _ => Length::Micros(sign * value),
        });
    }
    let to = to?.to_string();
    if matches!(unit(&field)?, ('M', _)) {
        let (years, months) = text.split_once('-')?;
        return Some(Length::Months(sign * (years.parse::<i64>().ok()? * 12 + months.parse::<i64>().ok()?)));
    }
    let (days, clock) = match field.to_ascii_lowercase().trim_end_matches('s') {
        "day" => {
            let (days, clock) = text.split_once([' ', 'T'])?;
            (days.parse::<i64>().ok()?, clock.trim())
        }
        _ => (0, text),
    };
    let first = match field.to_ascii_lowercase().trim_end_matches('s') {
        "day" | "hour" => 0,
        "minute" => 1,
        _ => 2,
    };
    let last = match to.to_ascii_lowercase().trim_end_matches('s') {
        "hour" => 0,
        "minute" => 1,
        _ => 2,
    };
    let parts: Vec<&str> = clock.split(':').collect();
    if parts.len() != last - first + 1 {
        return None;
    }
    let sizes = [3600 * MICROS_PER_SECOND, 60 * MICROS_PER_SECOND, MICROS_PER_SECOND];
    let mut micros = days.checked_mul(MICROS_PER_DAY)?;
    for (part, size) in parts.iter().zip(&sizes[first..]) {
        micros = micros.checked_add(scaled(part, *size)?)?;
    }
    Some(Length::Micros(sign * micros))
}

/// `1 day 2 hours`.
fn parse_units(text: &str, sign: i64) -> Option<Length> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    for pair in words.chunks(2) {
        let (kind, size) = unit(pair[1])?;
        let value = scaled(pair[0], size)?;
        match kind {
            'M' => months += value,
            'D' => days += value,
            _ => micros += value,
        }
    }
    Some(match (months, days, micros) {
        (months, 0, 0) if months != 0 => Length::Months(sign * months),
        (0, days, 0) => Length::Days(sign * days),
        (0, days, micros) => Length::Micros(sign * (days * MICROS_PER_DAY + micros)),
        _ => Length::Mixed,
    })
}

/// A number with perhaps a fraction, times a size.
fn scaled(text: &str, size: i64) -> Option<i64> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut value = whole.parse::<i64>().ok()?.checked_mul(size)?;
    if !fraction.is_empty() {
        let digits = &fraction[..fraction.len().min(9)];
        let part = digits.parse::<i64>().ok()?;
        value = value.checked_add((i128::from(part) * i128::from(size) / 10_i128.pow(digits.len() as u32)) as i64)?;
    }
    Some(if negative { -value } else { value })
}
