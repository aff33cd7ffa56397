//! `GROUP BY … WITH ROLLUP` and its like on the syntax tree, and on plans `grouping` and `grouping_id`.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Alias};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Expr, LogicalPlan, Projection, bitwise_and, bitwise_or, bitwise_shift_left, bitwise_shift_right, cast,
    lit,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{self, GroupByExpr, GroupByWithModifier, Select, SelectItem, Value};
use headwater_executor::functions::native::invalid;
use std::ops::ControlFlow;
use std::sync::Arc;

/// `GROUP BY a, b WITH ROLLUP` is `GROUP BY ROLLUP (a, b)`; so is `WITH CUBE`, and `GROUP BY a, b GROUPING SETS (…)`.
/// Positions inside of these are the items that they count.
///
/// Returns what `grouping_id()` is of, where the sets do not say it: the keys in front of `GROUPING SETS`.
pub fn expand(select: &mut Select) -> Vec<ast::Expr> {
    let items = &select.projection;
    let GroupByExpr::Expressions(keys, modifiers) = &mut select.group_by else { return vec![] };
    let mut named = vec![];
    let each = |keys: &[ast::Expr]| keys.iter().map(|key| vec![key.clone()]).collect::<Vec<_>>();
    let sets = match modifiers.first() {
        Some(GroupByWithModifier::Rollup) => Some(ast::Expr::Rollup(each(keys))),
        Some(GroupByWithModifier::Cube) => Some(ast::Expr::Cube(each(keys))),
        Some(GroupByWithModifier::GroupingSets(sets)) => {
            named.clone_from(keys);
            named.iter_mut().for_each(|key| counted(key, items));
            Some(sets.clone())
        }
        _ => None,
    };
    if let Some(sets) = sets {
        *keys = vec![sets];
        modifiers.clear();
    }
    for key in keys {
        if let ast::Expr::Rollup(sets) | ast::Expr::Cube(sets) | ast::Expr::GroupingSets(sets) = key {
            sets.iter_mut().flatten().for_each(|key| counted(key, items));
        }
    }
    named
}

/// Gives `grouping_id()` without arguments the keys that [`expand`] returned.
pub fn identify(expr: &mut ast::Expr, keys: &[ast::Expr]) {
    if keys.is_empty() {
        return;
    }
    let _ = ast::visit_expressions_mut(expr, |expr| {
        if let ast::Expr::Function(ast::Function { name, args: ast::FunctionArguments::List(list), .. }) = expr
            && list.args.is_empty()
            && name.to_string().eq_ignore_ascii_case("grouping_id")
        {
            let argument = |key: &ast::Expr| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(key.clone()));
            list.args = keys.iter().map(argument).collect();
        }
        ControlFlow::<()>::Continue(())
    });
}

fn counted(key: &mut ast::Expr, items: &[SelectItem]) {
    if let ast::Expr::Value(value) = key
        && let Value::Number(text, _) = &value.value
        && let Ok(position) = text.parse::<usize>()
        && let Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) =
            position.checked_sub(1).and_then(|at| items.get(at))
    {
        *key = expr.clone();
    }
}

/// Puts what `grouping(a)` (a TINYINT: 1 where `a` is left out) and `grouping_id()` (a BIGINT: a bit for each) are in their
/// place.
#[derive(Debug, Default)]
pub struct Grouping;

impl AnalyzerRule for Grouping {
    fn name(&self) -> &str {
        "spark_grouping"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(|expr| call_of(expr).is_some()) => {
                Ok(Transformed::yes(replaced(aggregate)?))
            }
            plan => Ok(Transformed::no(plan)),
        })?;
        Ok(rewritten.data)
    }
}

/// The call of `grouping` or `grouping_id` that an aggregate is.
fn call_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) => {
            ["grouping", "grouping_id"].contains(&function.func.name()).then_some(function)
        }
        Expr::Alias(alias) => call_of(&alias.expr),
        _ => None,
    }
}

fn replaced(aggregate: Aggregate) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let keys: Vec<Expr> = grouping_set_to_exprlist(&group_expr)?.into_iter().cloned().collect();
    let is_set = matches!(group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let mut names = schema.columns().into_iter();
    // Of grouping sets there is one column more, which says which set a row is of.
    let mut outputs: Vec<Expr> = names.by_ref().take(keys.len()).map(Expr::Column).collect();
    if is_set {
        names.next();
    }
    let mut others = vec![];
    for (expr, column) in aggr_expr.into_iter().zip(names) {
        let Some(call) = call_of(&expr) else {
            outputs.push(Expr::Column(column));
            others.push(expr);
            continue;
        };
        if !is_set {
            return invalid(
                "UNSUPPORTED_GROUPING_EXPRESSION",
                "grouping()/grouping_id() can only be used with GROUPING SETS, CUBE or ROLLUP",
            );
        }
        let value = bits(call, &keys)?;
        let alias = match &expr {
            Expr::Alias(Alias { relation, name, .. }) => value.alias_qualified(relation.clone(), name),
            _ => value.alias_qualified(column.relation, column.name),
        };
        outputs.push(alias);
    }
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, others)?);
    Ok(LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(grouped))?))
}

fn bits(call: &AggregateFunction, keys: &[Expr]) -> Result<Expr> {
    let single = call.func.name() == "grouping";
    let args = if call.params.args.is_empty() && !single { keys } else { call.params.args.as_slice() };
    if single && args.len() != 1 {
        return invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("the `grouping` requires 1 parameters but the actual number is {}", args.len()),
        );
    }
    let id = cast(Expr::Column(Column::from(Aggregate::INTERNAL_GROUPING_ID)), DataType::Int64);
    let mut all: Option<Expr> = None;
    for (place, arg) in args.iter().rev().enumerate() {
        let Some(at) = keys.iter().rev().position(|key| key == arg) else {
            let class = if single { "GROUPING_COLUMN_MISMATCH" } else { "GROUPING_ID_COLUMN_MISMATCH" };
            let known = keys.iter().map(|key| key.schema_name().to_string()).collect::<Vec<_>>().join(", ");
            return invalid(
                class,
                format!(
                    "the column {} of {} is none of the grouping columns [{known}]",
                    arg.schema_name(),
                    call.func.name()
                ),
            );
        };
        let bit = bitwise_and(bitwise_shift_right(id.clone(), lit(at as i64)), lit(1_i64));
        let bit = bitwise_shift_left(bit, lit(place as i64));
        all = Some(match all {
            Some(others) => bitwise_or(others, bit),
            None => bit,
        });
    }
    Ok(cast(all.unwrap_or_else(|| lit(0_i64)), if single { DataType::Int8 } else { DataType::Int64 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;
    use datafusion::sql::sqlparser::ast::SetExpr;

    fn check(text: &str, expect: &str) {
        let mut query = parse_query(text).expect(text);
        let SetExpr::Select(select) = query.body.as_mut() else { panic!("{text}") };
        let keys = expand(select);
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item {
                identify(expr, &keys);
            }
        }
        assert_eq!(query.to_string(), expect);
    }

    #[test]
    fn modifiers_are_sets() {
        check("SELECT a FROM t GROUP BY a, b WITH ROLLUP", "SELECT a FROM t GROUP BY ROLLUP (a, b)");
        check("SELECT a FROM t GROUP BY a, b WITH CUBE", "SELECT a FROM t GROUP BY CUBE (a, b)");
        check("SELECT a + 1, b FROM t GROUP BY 1, b WITH ROLLUP", "SELECT a + 1, b FROM t GROUP BY ROLLUP (a + 1, b)");
        check(
            "SELECT grouping_id() FROM t GROUP BY a, b GROUPING SETS ((b), (a))",
            "SELECT grouping_id(a, b) FROM t GROUP BY GROUPING SETS ((b), (a))",
        );
        check(
            "SELECT grouping_id() FROM t GROUP BY GROUPING SETS ((b), (a))",
            "SELECT grouping_id() FROM t GROUP BY GROUPING SETS ((b), (a))",
        );
        check("SELECT a FROM t GROUP BY a, 1", "SELECT a FROM t GROUP BY a, 1");
    }
}
