//! Functions and operators by Spark's names, over expressions that are resolved.
//!
//! What DataFusion has as syntax (operators, CASE, IN, LIKE) is made here; all else is looked up in the session's
//! registries under Spark's name, then under the name that the same function has there.

use super::expression::{unresolved_routine, wrong_arguments};
use crate::sql::error::from_datafusion;
use crate::sql::{functions as names, operators};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr, Case, Cast, InList, Like, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, lit};
use headwater_executor::functions::arithmetic::Op;
use headwater_proto::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A call to be resolved.
#[derive(Debug)]
pub struct Call<'a> {
    /// Spark's name of the function or operator.
    pub name: &'a str,
    /// What it is given.
    pub arguments: Vec<Expr>,
    /// `DISTINCT`.
    pub distinct: bool,
    /// What types are asked of.
    pub schema: &'a DFSchema,
    /// Registries.
    pub state: &'a SessionState,
    /// Settings of the session.
    pub conf: &'a BTreeMap<String, String>,
}

/// Whether there is a function of this name.
pub fn exists(state: &SessionState, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let has = |name: &str| {
        state.scalar_functions().contains_key(name)
            || state.aggregate_functions().contains_key(name)
            || state.window_functions().contains_key(name)
            || state.higher_order_functions().contains_key(name)
    };
    has(&lower) || has(names::renamed(&lower)) || names::own(&lower).is_some() || names::is_syntax(&lower)
}

/// The expression that a call is.
///
/// # Errors
/// `UNRESOLVED_ROUTINE`, `WRONG_NUM_ARGS`; what DataFusion says of types.
pub fn resolve(mut call: Call<'_>) -> Result<Expr> {
    if let Some(expr) = operator(&mut call)? {
        return Ok(expr);
    }
    if call.name.eq_ignore_ascii_case("count") {
        return count(call);
    }
    names::resolve(call.name, call.arguments, call.distinct, call.schema, call.state)
}

/// `count` of several columns counts rows in which none is null.
fn count(call: Call<'_>) -> Result<Expr> {
    let function = call.state.aggregate_functions().get("count").ok_or_else(|| unresolved_routine("count"))?;
    let make = |argument: Expr, filter: Option<Box<Expr>>| {
        Expr::AggregateFunction(AggregateFunction::new_udf(
            Arc::clone(function),
            vec![argument],
            call.distinct,
            filter,
            vec![],
            None,
        ))
    };
    match call.arguments.as_slice() {
        [] => Err(wrong_arguments("count", 0)),
        [one] => Ok(make(one.clone(), None)),
        many => {
            let none_null = many.iter().map(|argument| argument.clone().is_not_null()).reduce(Expr::and).map(Box::new);
            if !call.distinct {
                return Ok(make(lit(1_i64), none_null));
            }
            let fields =
                many.iter().enumerate().flat_map(|(index, argument)| [lit(format!("c{index}")), argument.clone()]);
            let named =
                call.state.scalar_functions().get("named_struct").ok_or_else(|| unresolved_routine("named_struct"))?;
            let rows = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(named), fields.collect()));
            Ok(make(rows, none_null))
        }
    }
}

/// What is syntax and no function in DataFusion.
fn operator(call: &mut Call<'_>) -> Result<Option<Expr>> {
    let lower = call.name.to_ascii_lowercase();
    let binary = match lower.as_str() {
        "==" | "=" => Some(Operator::Eq),
        "!=" | "<>" => Some(Operator::NotEq),
        "<=>" | "equal_null" => Some(Operator::IsNotDistinctFrom),
        "<" => Some(Operator::Lt),
        "<=" => Some(Operator::LtEq),
        ">" => Some(Operator::Gt),
        ">=" => Some(Operator::GtEq),
        "and" => Some(Operator::And),
        "or" => Some(Operator::Or),
        "&" => Some(Operator::BitwiseAnd),
        "|" => Some(Operator::BitwiseOr),
        "^" => Some(Operator::BitwiseXor),
        _ => None,
    };
    let arithmetic = match lower.as_str() {
        "+" => Some(Op::Add),
        "-" => Some(Op::Subtract),
        "*" => Some(Op::Multiply),
        "/" => Some(Op::Divide),
        "div" => Some(Op::WholeDivide),
        "%" | "mod" => Some(Op::Remainder),
        _ => None,
    };
    let arguments = call.arguments.clone();
    if let (Some(op), [left, right]) = (arithmetic, arguments.as_slice()) {
        return Ok(Some(operators::binary(op, left.clone(), right.clone(), call.schema)));
    }
    let expr = match (lower.as_str(), binary, arguments.as_slice()) {
        ("-", _, [one]) => Expr::Negative(Box::new(one.clone())),
        ("+", _, [one]) => one.clone(),
        (_, Some(operator), [left, right]) => {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), operator, Box::new(right.clone())))
        }
        (_, Some(_), other) => return Err(wrong_arguments(&lower, other.len())),
        _ if arithmetic.is_some() => return Err(wrong_arguments(&lower, arguments.len())),
        ("negative", _, [one]) => Expr::Negative(Box::new(one.clone())),
        ("positive", _, [one]) => one.clone(),
        ("not" | "!", _, [one]) => Expr::Not(Box::new(one.clone())),
        ("isnull", _, [one]) => one.clone().is_null(),
        ("isnotnull", _, [one]) => one.clone().is_not_null(),
        ("~" | "bitwise_not", _, [one]) => names::call("bitwise_not", vec![one.clone()]),
        ("in", _, [one, list @ ..]) => Expr::InList(InList::new(Box::new(one.clone()), list.to_vec(), false)),
        ("when" | "case", _, branches) if branches.len() >= 2 => {
            let (pairs, default) = match branches.len() % 2 {
                0 => (branches, None),
                _ => (&branches[..branches.len() - 1], branches.last()),
            };
            let pairs = pairs.chunks(2).map(|pair| (Box::new(pair[0].clone()), Box::new(pair[1].clone()))).collect();
            Expr::Case(Case::new(None, pairs, default.map(|default| Box::new(default.clone()))))
        }
        ("if" | "iff", _, [condition, yes, no]) => Expr::Case(Case::new(
            None,
            vec![(Box::new(condition.clone()), Box::new(yes.clone()))],
            Some(Box::new(no.clone())),
        )),
        ("like" | "ilike", _, [text, pattern, rest @ ..]) if rest.len() < 2 => {
            let pattern = match rest {
                [escape] => names::call("like_pattern", vec![pattern.clone(), escape.clone()]),
                _ => pattern.clone(),
            };
            Expr::Like(Like::new(false, Box::new(text.clone()), Box::new(pattern), None, lower == "ilike"))
        }
        ("<<", _, [value, by]) => names::call("shiftleft", vec![value.clone(), by.clone()]),
        (">>", _, [value, by]) => names::call("shiftright", vec![value.clone(), by.clone()]),
        (">>>", _, [value, by]) => names::call("shiftrightunsigned", vec![value.clone(), by.clone()]),
        ("rlike" | "regexp" | "regexp_like", _, [text, pattern]) => {
            let function = call.state.scalar_functions().get("regexp_like");
            let function = function.ok_or_else(|| unresolved_routine("rlike"))?;
            Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![text.clone(), pattern.clone()]))
        }
        ("isnan", _, [one]) => {
            let data_type = one.get_type(call.schema).map_err(from_datafusion)?;
            let one = if data_type.is_floating() {
                one.clone()
            } else {
                Expr::Cast(Cast::new(Box::new(one.clone()), DataType::Float64))
            };
            let function = call.state.scalar_functions().get("isnan").ok_or_else(|| unresolved_routine("isnan"))?;
            let found = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![one]));
            // Spark's is false for null.
            Expr::IsTrue(Box::new(found))
        }
        ("between", _, [value, low, high]) => value.clone().between(low.clone(), high.clone()),
        _ => return Ok(None),
    };
    Ok(Some(expr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::logical_expr::col;

    fn check(name: &str, arguments: Vec<Expr>, distinct: bool, expect: std::result::Result<&str, &str>) {
        let state = headwater_executor::functions::registry::with_session_functions(SessionStateBuilder::new()).build();
        let schema = Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
        let schema = DFSchema::try_from(schema).expect("schema");
        let conf = BTreeMap::new();
        let resolved = resolve(Call { name, arguments, distinct, schema: &schema, state: &state, conf: &conf });
        match expect {
            Ok(expect) => assert_eq!(resolved.expect(name).to_string(), expect),
            Err(class) => assert_eq!(resolved.expect_err(name).class, class),
        }
    }

    #[test]
    fn operators_are_syntax() {
        check("-", vec![col("a")], false, Ok("(- a)"));
        check("==", vec![col("a"), lit(1)], false, Ok("a = Int32(1)"));
        check("<=>", vec![col("a"), lit(1)], false, Ok("a IS NOT DISTINCT FROM Int32(1)"));
        check("isNotNull", vec![col("a")], false, Ok("a IS NOT NULL"));
        check("in", vec![col("a"), lit(1), lit(2)], false, Ok("a IN ([Int32(1), Int32(2)])"));
        check(
            "when",
            vec![col("a").gt(lit(1)), lit(1), lit(2)],
            false,
            Ok("CASE WHEN a > Int32(1) THEN Int32(1) ELSE Int32(2) END"),
        );
        check("+", vec![col("a"), lit(1), lit(2)], false, Err("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
    }

    #[test]
    fn functions_are_found() {
        check("UPPER", vec![col("b")], false, Ok("upper(b)"));
        check("mean", vec![col("a")], false, Ok("avg(a)"));
        check("count", vec![col("a")], true, Ok("count(DISTINCT a)"));
        check("count", vec![], false, Err("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
        check("upper", vec![col("b")], true, Err("INVALID_SQL_SYNTAX.FUNCTION_WITH_UNSUPPORTED_SYNTAX"));
        check("no_such_function", vec![], false, Err("UNRESOLVED_ROUTINE"));
        check("first", vec![col("a"), lit(true)], false, Ok("first_value(a) IGNORE NULLS"));
    }
}
