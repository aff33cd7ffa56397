//! Texts of expressions, such as `filter("a > 1")` and `expr("max(b) AS m")`, to the messages that the same expression
//! would be sent as: so there is one way in which names are resolved and columns are named.

use super::expression::unsupported;
use crate::sql::literals::{Length, MICROS_PER_DAY};
use crate::sql::{dialect, literals, parser, syntax, types};
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DateTimeField, DuplicateTreatment, Expr,
    FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, NullTreatment, ObjectName,
    OrderByExpr, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Subscript, TrimWhereField, UnaryOperator, Value,
    WindowFrameBound, WindowFrameUnits, WindowType,
};
use headwater_executor::functions::datetime;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::expression::cast::{CastToType, EvalMode};
use headwater_proto::spark::expression::literal::{Decimal, LiteralType};
use headwater_proto::spark::expression::sort_order::{NullOrdering, SortDirection};
use headwater_proto::spark::expression::window::window_frame::{FrameBoundary, FrameType, frame_boundary::Boundary};
use headwater_proto::spark::expression::{self as p, ExprType};

/// A text as an expression, with alias and all.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR`; syntax that is not served, by name.
pub fn parse(text: &str) -> Result<spark::Expression> {
    let mut query = parser::parse_query(&format!("SELECT {text}"))?;
    syntax::queries(&mut query)?;
    let SetExpr::Select(select) = query.body.as_ref() else { return Err(syntax(text)) };
    let plain = select.from.is_empty()
        && select.selection.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none();
    match select.projection.as_slice() {
        [item] if plain => select_item(item),
        _ => Err(syntax(text)),
    }
}

fn syntax(text: &str) -> Error {
    Error::invalid("PARSE_SYNTAX_ERROR", format!("expected one expression, found: {text}"))
}

fn select_item(item: &SelectItem) -> Result<spark::Expression> {
    Ok(match item {
        SelectItem::UnnamedExpr(expr) => expression(expr)?,
        SelectItem::ExprWithAlias { expr, alias } => alias_of(expression(expr)?, vec![alias.value.clone()]),
        SelectItem::ExprWithAliases { expr, aliases } => {
            alias_of(expression(expr)?, aliases.iter().map(|alias| alias.value.clone()).collect())
        }
        SelectItem::Wildcard(_) => star(None),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            star(Some(format!("{}.*", object_name(name))))
        }
        SelectItem::QualifiedWildcard(..) => return Err(unsupported("a star after an expression")),
    })
}

fn alias_of(expr: spark::Expression, name: Vec<String>) -> spark::Expression {
    of(ExprType::Alias(Box::new(p::Alias { expr: Some(Box::new(expr)), name, metadata: None })))
}

fn star(unparsed_target: Option<String>) -> spark::Expression {
    of(ExprType::UnresolvedStar(p::UnresolvedStar { unparsed_target, plan_id: None }))
}

/// A message of this kind.
pub fn of(kind: ExprType) -> spark::Expression {
    spark::Expression { common: None, expr_type: Some(kind) }
}

/// A literal.
pub fn literal(kind: LiteralType) -> spark::Expression {
    of(ExprType::Literal(p::Literal { literal_type: Some(kind), data_type: None }))
}

fn text_literal(text: impl Into<String>) -> spark::Expression {
    literal(LiteralType::String(text.into()))
}

/// A call of this name.
pub fn call(name: &str, arguments: Vec<spark::Expression>) -> spark::Expression {
    of(ExprType::UnresolvedFunction(p::UnresolvedFunction {
        function_name: name.into(),
        arguments,
        ..Default::default()
    }))
}

/// A column by its unparsed name.
pub fn attribute(unparsed_identifier: String) -> spark::Expression {
    of(ExprType::UnresolvedAttribute(p::UnresolvedAttribute {
        unparsed_identifier,
        plan_id: None,
        is_metadata_column: None,
    }))
}

fn identifier(idents: &[Ident]) -> String {
    idents.iter().map(|ident| format!("`{}`", ident.value.replace('`', "``"))).collect::<Vec<_>>().join(".")
}

fn object_name(name: &ObjectName) -> String {
    let idents: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    identifier(&idents)
}

fn not_if(negated: bool, expr: spark::Expression) -> spark::Expression {
    if negated { call("not", vec![expr]) } else { expr }
}

/// One expression of a syntax tree.
///
/// # Errors
/// Syntax that is not served, by name.
pub fn expression(expr: &Expr) -> Result<spark::Expression> {
    let one = |name: &str, argument: &Expr| Ok(call(name, vec![expression(argument)?]));
    Ok(match expr {
        Expr::Identifier(ident) => attribute(identifier(std::slice::from_ref(ident))),
        Expr::CompoundIdentifier(idents) => attribute(identifier(idents)),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let mut expr = expression(root)?;
            for access in access_chain {
                let key = match access {
                    AccessExpr::Dot(Expr::Identifier(ident)) => text_literal(&ident.value),
                    AccessExpr::Dot(Expr::Value(value)) => value_literal(&value.value)?,
                    AccessExpr::Subscript(Subscript::Index { index }) => expression(index)?,
                    other => return Err(unsupported(&format!("{other} after an expression"))),
                };
                expr = of(ExprType::UnresolvedExtractValue(Box::new(p::UnresolvedExtractValue {
                    child: Some(Box::new(expr)),
                    extraction: Some(Box::new(key)),
                })));
            }
            expr
        }
        Expr::Nested(inner) => expression(inner)?,
        Expr::Value(value) => value_literal(&value.value)?,
        Expr::TypedString(typed) => typed_string(typed)?,
        Expr::Interval(interval) => interval_literal(interval)?,
        Expr::IsNull(inner) => one("isNull", inner)?,
        Expr::IsNotNull(inner) => one("isNotNull", inner)?,
        Expr::IsTrue(inner) => call("<=>", vec![expression(inner)?, literal(LiteralType::Boolean(true))]),
        Expr::IsFalse(inner) => call("<=>", vec![expression(inner)?, literal(LiteralType::Boolean(false))]),
        Expr::IsNotTrue(inner) => {
            not_if(true, call("<=>", vec![expression(inner)?, literal(LiteralType::Boolean(true))]))
        }
        Expr::IsNotFalse(inner) => {
            not_if(true, call("<=>", vec![expression(inner)?, literal(LiteralType::Boolean(false))]))
        }
        Expr::IsUnknown(inner) => one("isNull", inner)?,
        Expr::IsNotUnknown(inner) => one("isNotNull", inner)?,
        Expr::IsDistinctFrom(left, right) => not_if(true, call("<=>", vec![expression(left)?, expression(right)?])),
        Expr::IsNotDistinctFrom(left, right) => call("<=>", vec![expression(left)?, expression(right)?]),
        Expr::InList { expr, list, negated } => {
            let mut arguments = vec![expression(expr)?];
            for item in list {
                arguments.push(expression(item)?);
            }
            not_if(*negated, call("in", arguments))
        }
        Expr::Between { expr, negated, low, high } => {
            not_if(*negated, call("between", vec![expression(expr)?, expression(low)?, expression(high)?]))
        }
        Expr::BinaryOp { left, op, right } => call(binary(op)?, vec![expression(left)?, expression(right)?]),
        Expr::Like { negated, any: false, expr, pattern, escape_char } => {
            not_if(*negated, like("like", expr, pattern, escape_char.as_ref())?)
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
            not_if(*negated, like("ilike", expr, pattern, escape_char.as_ref())?)
        }
        Expr::RLike { negated, expr, pattern, .. } => {
            not_if(*negated, call("rlike", vec![expression(expr)?, expression(pattern)?]))
        }
        Expr::UnaryOp { op, expr } => match (op, expr.as_ref()) {
            (UnaryOperator::Minus, Expr::Value(value)) => match &value.value {
                Value::Number(number, long) => value_literal(&Value::Number(format!("-{number}"), *long))?,
                _ => one("-", expr)?,
            },
            (UnaryOperator::Minus, _) => one("-", expr)?,
            (UnaryOperator::Plus, _) => one("positive", expr)?,
            (UnaryOperator::Not | UnaryOperator::BangNot, _) => one("not", expr)?,
            (UnaryOperator::BitwiseNot, _) => one("~", expr)?,
            (other, _) => return Err(unsupported(&format!("operator {other}"))),
        },
        Expr::Cast { kind, expr, data_type, .. } => {
            let mode = match kind {
                CastKind::TryCast | CastKind::SafeCast => EvalMode::Try,
                _ => EvalMode::Unspecified,
            };
            of(ExprType::Cast(Box::new(p::Cast {
                expr: Some(Box::new(expression(expr)?)),
                eval_mode: mode.into(),
                cast_to_type: Some(CastToType::TypeStr(types::text(data_type))),
            })))
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            call("from_utc_timestamp", vec![expression(timestamp)?, expression(time_zone)?])
        }
        Expr::Extract { field, expr, .. } => {
            call("date_part", vec![text_literal(field.to_string()), expression(expr)?])
        }
        Expr::Ceil { expr, field } => rounded("ceil", expr, field)?,
        Expr::Floor { expr, field } => rounded("floor", expr, field)?,
        Expr::Position { expr, r#in } => call("locate", vec![expression(expr)?, expression(r#in)?]),
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let mut arguments = vec![expression(expr)?];
            for argument in [substring_from, substring_for].into_iter().flatten() {
                arguments.push(expression(argument)?);
            }
            call("substring", arguments)
        }
        Expr::Trim { expr, trim_where, trim_what, trim_characters } => {
            let name = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                _ => "trim",
            };
            let mut arguments = vec![expression(expr)?];
            if let Some(what) = trim_what {
                arguments.push(expression(what)?);
            }
            for character in trim_characters.iter().flatten() {
                arguments.push(expression(character)?);
            }
            call(name, arguments)
        }
        Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
            let mut arguments = vec![expression(expr)?, expression(overlay_what)?, expression(overlay_from)?];
            if let Some(length) = overlay_for {
                arguments.push(expression(length)?);
            }
            call("overlay", arguments)
        }
        Expr::Case { operand, conditions, else_result, .. } => {
            let mut arguments = vec![];
            for CaseWhen { condition, result } in conditions {
                let condition = expression(condition)?;
                arguments.push(match operand {
                    Some(operand) => call("==", vec![expression(operand)?, condition]),
                    None => condition,
                });
                arguments.push(expression(result)?);
            }
            if let Some(default) = else_result {
                arguments.push(expression(default)?);
            }
            call("when", arguments)
        }
        Expr::Function(function) => function_call(function)?,
        Expr::Tuple(items) => call("struct", items.iter().map(expression).collect::<Result<_>>()?),
        Expr::Array(array) => call("array", array.elem.iter().map(expression).collect::<Result<_>>()?),
        Expr::Struct { values, .. } => call("struct", values.iter().map(expression).collect::<Result<_>>()?),
        Expr::Named { expr, name } => alias_of(expression(expr)?, vec![name.value.clone()]),
        Expr::Lambda(lambda) => {
            let names = lambda
                .params
                .iter()
                .map(|parameter| p::UnresolvedNamedLambdaVariable { name_parts: vec![parameter.name.value.clone()] });
            of(ExprType::LambdaFunction(Box::new(p::LambdaFunction {
                arguments: names.collect(),
                function: Some(Box::new(expression(&lambda.body)?)),
            })))
        }
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
            return Err(unsupported(
                "a subquery in the text of an expression; use spark.sql, or DataFrame.scalar() and exists()",
            ));
        }
        other => return Err(unsupported(&format!("expression {other}"))),
    })
}

fn rounded(name: &str, expr: &Expr, field: &CeilFloorKind) -> Result<spark::Expression> {
    let mut arguments = vec![expression(expr)?];
    match field {
        CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => {}
        CeilFloorKind::Scale(scale) => arguments.push(value_literal(&scale.value)?),
        CeilFloorKind::DateTimeField(field) => return Err(unsupported(&format!("{name} to {field}"))),
    }
    Ok(call(name, arguments))
}

fn like(name: &str, expr: &Expr, pattern: &Expr, escape: Option<&ast::ValueWithSpan>) -> Result<spark::Expression> {
    let mut arguments = vec![expression(expr)?, expression(pattern)?];
    if let Some(escape) = escape {
        arguments.push(value_literal(&escape.value)?);
    }
    Ok(call(name, arguments))
}

fn binary(operator: &BinaryOperator) -> Result<&'static str> {
    Ok(match operator {
        BinaryOperator::Plus => "+",
        BinaryOperator::Minus => "-",
        BinaryOperator::Multiply => "*",
        BinaryOperator::Divide => "/",
        BinaryOperator::Modulo => "%",
        BinaryOperator::MyIntegerDivide => "div",
        BinaryOperator::StringConcat => "concat",
        BinaryOperator::Gt => ">",
        BinaryOperator::Lt => "<",
        BinaryOperator::GtEq => ">=",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Spaceship => "<=>",
        BinaryOperator::Eq => "==",
        BinaryOperator::NotEq => "!=",
        BinaryOperator::And => "and",
        BinaryOperator::Or => "or",
        BinaryOperator::BitwiseOr => "|",
        BinaryOperator::BitwiseAnd => "&",
        BinaryOperator::BitwiseXor => "^",
        BinaryOperator::PGBitwiseShiftLeft => "<<",
        BinaryOperator::PGBitwiseShiftRight => ">>",
        BinaryOperator::Custom(op) if op == dialect::UNSIGNED_SHIFT => dialect::UNSIGNED_SHIFT,
        other => return Err(unsupported(&format!("operator {other}"))),
    })
}

fn value_literal(value: &Value) -> Result<spark::Expression> {
    Ok(literal(match value {
        Value::Number(text, long) => number(text, *long)?,
        Value::SingleQuotedString(text)
        | Value::DoubleQuotedString(text)
        | Value::SingleQuotedRawStringLiteral(text) => LiteralType::String(text.clone()),
        Value::HexStringLiteral(text) => LiteralType::Binary(hex(text)?),
        Value::Boolean(value) => LiteralType::Boolean(*value),
        Value::Null => LiteralType::Null(spark::DataType {
            kind: Some(spark::data_type::Kind::Null(spark::data_type::Null::default())),
        }),
        Value::Placeholder(name) => {
            return Err(Error::invalid(
                "UNBOUND_SQL_PARAMETER",
                format!("found the unbound parameter {name}: give it a value in args"),
            ));
        }
        other => return Err(unsupported(&format!("literal {other}"))),
    }))
}

/// A number: INT, BIGINT when it needs that, else a decimal; with an exponent a double.
fn number(text: &str, long: bool) -> Result<LiteralType> {
    let bad = || Error::invalid("PARSE_SYNTAX_ERROR", format!("{text} is no number"));
    if let Some(suffix) = literals::SUFFIXES.iter().find(|suffix| text.ends_with(**suffix)) {
        let number = text.trim_end_matches(suffix);
        return Ok(match *suffix {
            "D" => LiteralType::Double(number.parse().map_err(|_| bad())?),
            "F" => LiteralType::Float(number.parse().map_err(|_| bad())?),
            "S" => LiteralType::Short(number.parse().map_err(|_| bad())?),
            "Y" => LiteralType::Byte(number.parse().map_err(|_| bad())?),
            _ => LiteralType::Decimal(Decimal { value: number.to_string(), precision: None, scale: None }),
        });
    }
    if text.contains(['e', 'E']) {
        return Ok(LiteralType::Double(text.parse().map_err(|_| bad())?));
    }
    if !text.contains('.') {
        if long {
            return Ok(LiteralType::Long(text.parse().map_err(|_| bad())?));
        }
        if let Ok(value) = text.parse::<i32>() {
            return Ok(LiteralType::Integer(value));
        }
        if let Ok(value) = text.parse::<i64>() {
            return Ok(LiteralType::Long(value));
        }
    }
    Ok(LiteralType::Decimal(Decimal { value: text.to_string(), precision: None, scale: None }))
}

fn hex(text: &str) -> Result<Vec<u8>> {
    let bad = || Error::invalid("INVALID_TYPED_LITERAL", format!("X'{text}' is no binary"));
    let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_string() };
    (0..padded.len())
        .step_by(2)
        .map(|at| padded.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(bad))
        .collect()
}

fn typed_string(typed: &ast::TypedString) -> Result<spark::Expression> {
    let Some(text) = typed.value.value.clone().into_string() else {
        return Err(unsupported(&format!("literal {typed}")));
    };
    literals::check_typed(typed)?;
    let bad = || Error::internal(format!("{typed} was checked"));
    match typed.data_type.to_string().to_ascii_uppercase().as_str() {
        "DATE" => Ok(literal(LiteralType::Date(datetime::parse_date(&text).ok_or_else(bad)?))),
        "TIMESTAMP_NTZ" => {
            Ok(literal(LiteralType::TimestampNtz(datetime::parse_timestamp_ntz(&text).ok_or_else(bad)?)))
        }
        // In the session's time zone, which the cast knows.
        "TIMESTAMP" | "TIMESTAMP_LTZ" => Ok(of(ExprType::Cast(Box::new(p::Cast {
            expr: Some(Box::new(text_literal(text))),
            eval_mode: EvalMode::Unspecified.into(),
            cast_to_type: Some(CastToType::TypeStr("TIMESTAMP".into())),
        })))),
        _ => Err(unsupported(&format!("literal {typed}"))),
    }
}

/// `INTERVAL '3' DAY`.
fn interval_literal(interval: &ast::Interval) -> Result<spark::Expression> {
    let bad = || Error::invalid("INVALID_INTERVAL_FORMAT", format!("{interval} is out of range"));
    Ok(literal(match literals::length(interval)? {
        Length::Months(months) => LiteralType::YearMonthInterval(i32::try_from(months).map_err(|_| bad())?),
        Length::Days(days) => LiteralType::DayTimeInterval(days.checked_mul(MICROS_PER_DAY).ok_or_else(bad)?),
        Length::Micros(micros) => LiteralType::DayTimeInterval(micros),
        Length::Mixed => return Err(bad()),
    }))
}

fn function_call(function: &ast::Function) -> Result<spark::Expression> {
    let name = match function.name.0.as_slice() {
        [one] => one.as_ident().map(|ident| ident.value.clone()),
        _ => None,
    };
    let name = name.unwrap_or_else(|| object_name(&function.name).replace('`', ""));
    if !function.within_group.is_empty() {
        return Err(unsupported("WITHIN GROUP in the text of an expression; use spark.sql"));
    }
    if function.filter.is_some() {
        return Err(unsupported("FILTER (WHERE …) in the text of an expression; use spark.sql"));
    }
    let mut arguments = vec![];
    let mut distinct = false;
    let mut null_treatment = function.null_treatment;
    match &function.args {
        FunctionArguments::None => {}
        FunctionArguments::Subquery(_) => return Err(unsupported("a subquery in a call")),
        FunctionArguments::List(list) => {
            distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
            for argument in &list.args {
                let given = match argument {
                    FunctionArg::Unnamed(given) => given,
                    FunctionArg::Named { name, .. } => {
                        return Err(unsupported(&format!("named argument {name}: give arguments by position")));
                    }
                    FunctionArg::ExprNamed { name, .. } => {
                        return Err(unsupported(&format!("named argument {name}: give arguments by position")));
                    }
                };
                arguments.push(match given {
                    FunctionArgExpr::Expr(expr) => expression(expr)?,
                    FunctionArgExpr::Wildcard => star(None),
                    FunctionArgExpr::QualifiedWildcard(name) => star(Some(format!("{}.*", object_name(name)))),
                    other => return Err(unsupported(&format!("argument {other}"))),
                });
            }
            for clause in &list.clauses {
                match clause {
                    FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => null_treatment = Some(*treatment),
                    other => return Err(unsupported(&format!("{other} in a call"))),
                }
            }
        }
    }
    if null_treatment == Some(NullTreatment::IgnoreNulls) {
        arguments.push(literal(LiteralType::Boolean(true)));
    }
    let made = of(ExprType::UnresolvedFunction(p::UnresolvedFunction {
        function_name: name,
        arguments,
        is_distinct: distinct,
        ..Default::default()
    }));
    let Some(over) = &function.over else { return Ok(made) };
    let WindowType::WindowSpec(spec) = over else {
        return Err(unsupported("a named window in the text of an expression"));
    };
    let frame_spec = spec.window_frame.as_ref().map(window_frame).transpose()?;
    Ok(of(ExprType::Window(Box::new(p::Window {
        window_function: Some(Box::new(made)),
        partition_spec: spec.partition_by.iter().map(expression).collect::<Result<_>>()?,
        order_spec: spec.order_by.iter().map(sort_order).collect::<Result<_>>()?,
        frame_spec: frame_spec.map(Box::new),
    }))))
}

fn sort_order(order: &OrderByExpr) -> Result<p::SortOrder> {
    let (direction, default) = if order.options.asc == Some(false) {
        (SortDirection::Descending, NullOrdering::SortNullsLast)
    } else {
        (SortDirection::Ascending, NullOrdering::SortNullsFirst)
    };
    let nulls = match order.options.nulls_first {
        Some(true) => NullOrdering::SortNullsFirst,
        Some(false) => NullOrdering::SortNullsLast,
        None => default,
    };
    Ok(p::SortOrder {
        child: Some(Box::new(expression(&order.expr)?)),
        direction: direction.into(),
        null_ordering: nulls.into(),
    })
}

fn window_frame(frame: &ast::WindowFrame) -> Result<p::window::WindowFrame> {
    let frame_type = match frame.units {
        WindowFrameUnits::Rows => FrameType::Row,
        WindowFrameUnits::Range => FrameType::Range,
        WindowFrameUnits::Groups => return Err(unsupported("a window frame of GROUPS")),
    };
    let bound = |bound: &WindowFrameBound| -> Result<FrameBoundary> {
        let value = |expr: &Expr, negative: bool| -> Result<Boundary> {
            let value = expression(expr)?;
            let value = match (&value.expr_type, negative) {
                (Some(ExprType::Literal(p::Literal { literal_type: Some(LiteralType::Integer(n)), .. })), true) => {
                    literal(LiteralType::Integer(-n))
                }
                (_, true) => call("negative", vec![value]),
                (_, false) => value,
            };
            Ok(Boundary::Value(Box::new(value)))
        };
        let boundary = match bound {
            WindowFrameBound::CurrentRow => Boundary::CurrentRow(true),
            WindowFrameBound::Preceding(None) | WindowFrameBound::Following(None) => Boundary::Unbounded(true),
            WindowFrameBound::Preceding(Some(expr)) => value(expr, true)?,
            WindowFrameBound::Following(Some(expr)) => value(expr, false)?,
        };
        Ok(FrameBoundary { boundary: Some(boundary) })
    };
    Ok(p::window::WindowFrame {
        frame_type: frame_type.into(),
        lower: Some(Box::new(bound(&frame.start_bound)?)),
        upper: Some(Box::new(match &frame.end_bound {
            Some(end) => bound(end)?,
            None => FrameBoundary { boundary: Some(Boundary::CurrentRow(true)) },
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(text: &str) -> String {
        match parse(text).expect(text).expr_type {
            Some(ExprType::UnresolvedFunction(function)) => function.function_name,
            Some(ExprType::UnresolvedAttribute(attribute)) => attribute.unparsed_identifier,
            Some(ExprType::Alias(alias)) => format!("alias {}", alias.name.join(",")),
            Some(ExprType::Literal(literal)) => format!("{:?}", literal.literal_type.expect("is set")),
            Some(other) => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_string(),
            None => String::new(),
        }
    }

    #[test]
    fn texts_become_messages() {
        for (text, expect) in [
            ("a", "`a`"),
            ("a.`b c`", "`a`.`b c`"),
            ("a + 1", "+"),
            ("NOT a", "not"),
            ("a = 1 AND b <> 'x'", "and"),
            ("a BETWEEN 1 AND 2", "between"),
            ("a << 1", "<<"),
            ("a LIKE ANY ('x', 'y')", "or"),
            ("1.5D", "Double(1.5)"),
            ("-128Y", "Byte(-128)"),
            ("r'\\d'", "String(\"\\\\d\")"),
            ("dateadd(MONTH, 1, d)", "timestampadd"),
            ("a NOT IN (1, 2)", "not"),
            ("a LIKE 'x%'", "like"),
            ("a RLIKE 'x'", "rlike"),
            ("max(a) AS m", "alias m"),
            ("CASE a WHEN 1 THEN 2 END", "when"),
            ("CAST(a AS STRING)", "Cast"),
            ("count(*)", "count"),
            ("sum(a) OVER (PARTITION BY b ORDER BY c)", "Window"),
            ("transform(a, x -> x + 1)", "transform"),
            ("-1", "Integer(-1)"),
            ("3000000000", "Long(3000000000)"),
            ("DATE '1970-01-02'", "Date(1)"),
            ("X'0aFF'", "Binary([10, 255])"),
            ("INTERVAL 2 DAYS", "DayTimeInterval(172800000000)"),
            ("INTERVAL '3' MONTH", "YearMonthInterval(3)"),
            ("a[0]", "UnresolvedExtractValue"),
            ("*", "UnresolvedStar"),
        ] {
            assert_eq!(name_of(text), expect, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, class) in [
            ("a +", "PARSE_SYNTAX_ERROR"),
            ("a FROM t", "PARSE_SYNTAX_ERROR"),
            ("a, b", "PARSE_SYNTAX_ERROR"),
            ("(SELECT 1)", "UNSUPPORTED_FEATURE"),
            ("DATE 'x'", "INVALID_TYPED_LITERAL"),
        ] {
            assert_eq!(parse(text).expect_err(text).class, class, "{text}");
        }
    }
}
