//! Calls of aggregates that Spark writes in a way of its own, on the syntax tree: they become plain calls.

use super::syntax::call;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Interval, Value,
    WindowFrame, WindowFrameBound,
};

/// - `percentile_cont(p) WITHIN GROUP (ORDER BY v DESC)` is `percentile_cont(v, p, true)`, and so is `percentile_disc`;
/// - `mode() WITHIN GROUP (ORDER BY v)` is `mode(v, true)`, the lowest of several values, and `mode(v, false)` with DESC;
/// - `count(DISTINCT a, b)` counts rows in which none is null.
pub fn respell(function: &mut Function) {
    let name = function.name.to_string().to_ascii_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return };
    let plain: Option<Vec<Expr>> = list
        .args
        .iter()
        .map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        })
        .collect();
    let Some(mut args) = plain else { return };
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    match name.as_str() {
        "percentile_cont" | "percentile_disc" | "mode" if function.within_group.len() == 1 => {
            let key = function.within_group.remove(0);
            args.insert(0, key.expr);
            let descending = key.options.asc == Some(false);
            args.push(Expr::Value(Value::Boolean(descending != (name == "mode")).into()));
        }
        "count" if distinct && args.len() > 1 => args = vec![row_without_nulls(args)],
        _ => return,
    }
    list.args = args.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
}

/// The values as a struct, or null where one of them is.
fn row_without_nulls(values: Vec<Expr>) -> Expr {
    let present = |value: &Expr| Expr::IsNotNull(Box::new(Expr::Nested(Box::new(value.clone()))));
    let all = values.iter().map(present).reduce(|one, other| Expr::BinaryOp {
        left: Box::new(one),
        op: datafusion::sql::sqlparser::ast::BinaryOperator::And,
        right: Box::new(other),
    });
    let mut fields = vec![];
    for (i, value) in values.into_iter().enumerate() {
        fields.push(Expr::Value(Value::SingleQuotedString(format!("c{i}")).into()));
        fields.push(value);
    }
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: all
            .into_iter()
            .map(|condition| CaseWhen { condition, result: call("named_struct", fields.clone()) })
            .collect(),
        else_result: None,
    }
}

/// Bounds of a frame as DataFusion reads them: `INTERVAL 1 YEAR` with its number as text.
pub fn bounds(mut frame: WindowFrame) -> WindowFrame {
    let bound = |bound: &mut WindowFrameBound| {
        if let WindowFrameBound::Preceding(Some(value)) | WindowFrameBound::Following(Some(value)) = bound
            && let Expr::Interval(Interval { value, .. }) = value.as_mut()
            && let Expr::Value(number) = value.as_mut()
            && let Value::Number(text, _) = &number.value
        {
            number.value = Value::SingleQuotedString(text.clone());
        }
    };
    bound(&mut frame.start_bound);
    frame.end_bound.iter_mut().for_each(bound);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;
    use datafusion::sql::sqlparser::ast::visit_expressions_mut;
    use std::ops::ControlFlow;

    fn check(text: &str, expect: &str) {
        let mut query = parse_query(&format!("SELECT {text}")).expect(text);
        let _ = visit_expressions_mut(&mut *query, |expr| {
            if let Expr::Function(function) = expr {
                respell(function);
            }
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(query.to_string(), format!("SELECT {expect}"));
    }

    #[test]
    fn sparks_ways_are_plain_calls() {
        check("percentile_cont(0.5) WITHIN GROUP (ORDER BY pay)", "percentile_cont(pay, 0.5, false)");
        check("percentile_disc(0.5) WITHIN GROUP (ORDER BY pay DESC)", "percentile_disc(pay, 0.5, true)");
        check("mode() WITHIN GROUP (ORDER BY pay)", "mode(pay, true)");
        check("mode() WITHIN GROUP (ORDER BY pay DESC)", "mode(pay, false)");
        check("count(DISTINCT a)", "count(DISTINCT a)");
        check(
            "count(DISTINCT a, b)",
            "count(DISTINCT CASE WHEN (a) IS NOT NULL AND (b) IS NOT NULL THEN named_struct('c0', a, 'c1', b) END)",
        );
    }
}
