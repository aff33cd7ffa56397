//! Subqueries that DataFusion plans otherwise than Spark, as an analyzer rule: [`Subqueries`].
//!
//! - A scalar subquery that may have many rows fails when it has: an aggregate takes its only row.
//! - `ORDER BY … LIMIT n` in a correlated subquery keeps the first rows of each value that it is correlated by: rows are
//!   numbered instead, since a limit cannot become part of a join.
//! - A lateral subquery without tables of its own (`LATERAL (SELECT e.id * 2 AS x)`) is more columns of the left side.

use super::{functions, generators};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, Result, ScalarValue, TableReference};
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr, Sort, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, FetchType, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, SkipType, Subquery, WindowFrame,
    WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, lit,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use headwater_executor::functions::aggregates::extremes::SINGLE_VALUE;
use headwater_executor::functions::windows::row_number;
use std::collections::HashMap;
use std::sync::Arc;

/// The column of a subquery's only row: no name of a column that it is correlated by.
const SINGLE: &str = "__single";

/// The rule.
#[derive(Debug, Default)]
pub struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn name(&self) -> &str {
        "spark_subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| match expr {
                    Expr::ScalarSubquery(subquery) => single(subquery),
                    expr => Ok(Transformed::no(expr)),
                })?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })?;
            plan.transform_data(|plan| match plan {
                LogicalPlan::Join(join) => lateral(join),
                LogicalPlan::Subquery(subquery) => Ok(match first_rows(&subquery.subquery)? {
                    Some(plan) => {
                        Transformed::yes(LogicalPlan::Subquery(Subquery { subquery: Arc::new(plan), ..subquery }))
                    }
                    None => Transformed::no(LogicalPlan::Subquery(subquery)),
                }),
                plan => Ok(Transformed::no(plan)),
            })
        })?;
        Ok(rewritten.data)
    }
}

/// A scalar subquery of at most one row.
fn single(mut subquery: Subquery) -> Result<Transformed<Expr>> {
    if let Some(plan) = first_rows(&subquery.subquery)? {
        subquery.subquery = Arc::new(plan);
    }
    if subquery.subquery.max_rows().is_some_and(|rows| rows <= 1) || subquery.subquery.schema().fields().len() != 1 {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    }
    let Some(function) = functions::own_aggregate(SINGLE_VALUE) else {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
    };
    let column = Column::from(subquery.subquery.schema().qualified_field(0));
    let call = AggregateFunction::new_udf(function, vec![Expr::Column(column)], false, None, vec![], None);
    let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone())
        .aggregate(Vec::<Expr>::new(), vec![Expr::AggregateFunction(call).alias(SINGLE)])?
        .build()?;
    Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery })))
}

/// A correlated `… ORDER BY … LIMIT n` by numbers of rows, where it is correlated by equality; none otherwise.
fn first_rows(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let mut aliases = vec![];
    let mut plan = plan;
    // What may stand above the limit: an alias.
    while let LogicalPlan::SubqueryAlias(alias) = plan {
        aliases.push(alias.alias.clone());
        plan = &alias.input;
    }
    let LogicalPlan::Limit(limit) = plan else { return Ok(None) };
    let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) = (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        return Ok(None);
    };
    let (mut columns, mut order, mut below) = (vec![], None, limit.input.as_ref());
    let filter = loop {
        match below {
            LogicalPlan::Projection(projection) => {
                if let Some(keys) = &mut order {
                    *keys = beneath(std::mem::take(keys), projection)?;
                }
                columns.push(projection);
                below = &projection.input;
            }
            LogicalPlan::Sort(sort) if order.is_none() => {
                order = Some(sort.expr.clone());
                below = &sort.input;
            }
            LogicalPlan::Filter(filter) => break filter,
            _ => return Ok(None),
        }
    };
    let (outer, own): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(filter.predicate.clone()).into_iter().partition(Expr::contains_outer);
    let partition: Option<Vec<Expr>> = outer.iter().map(inner_side).collect();
    let Some(partition) = partition.filter(|keys| !keys.is_empty()) else { return Ok(None) };
    let mut rows = LogicalPlanBuilder::from(filter.input.as_ref().clone());
    if let Some(own) = conjunction(own) {
        rows = rows.filter(own)?;
    }
    let mut window = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number()), vec![]);
    window.params.partition_by = partition;
    window.params.order_by = order.unwrap_or_default();
    window.params.window_frame = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
        WindowFrameBound::CurrentRow,
    );
    let window = Expr::WindowFunction(Box::new(window));
    let number = Expr::Column(Column::new_unqualified(window.schema_name().to_string()));
    let (skip, last) = (skip as i64, skip.saturating_add(fetch) as i64);
    let chosen = number.clone().gt(lit(skip)).and(number.lt_eq(lit(last)));
    let rows = LogicalPlanBuilder::window_plan(rows.build()?, vec![window])?;
    let mut rows = LogicalPlanBuilder::from(rows).filter(outer.into_iter().fold(chosen, Expr::and))?;
    for projection in columns.into_iter().rev() {
        rows = rows.project(projection.expr.clone())?;
    }
    for alias in aliases.into_iter().rev() {
        rows = rows.alias(alias)?;
    }
    Ok(Some(rows.build()?))
}

/// Keys in terms of what a projection is made of.
fn beneath(keys: Vec<Sort>, projection: &Projection) -> Result<Vec<Sort>> {
    let made: HashMap<Column, Expr> =
        projection.schema.columns().into_iter().zip(projection.expr.iter().cloned().map(Expr::unalias)).collect();
    keys.into_iter()
        .map(|key| {
            let expr = key.expr.transform_up(|expr| {
                Ok(match &expr {
                    Expr::Column(column) => match made.get(column) {
                        Some(meant) => Transformed::yes(meant.clone()),
                        None => Transformed::no(expr),
                    },
                    _ => Transformed::no(expr),
                })
            })?;
            Ok(Sort { expr: expr.data, ..key })
        })
        .collect()
}

/// What an equality compares with the outer query.
fn inner_side(condition: &Expr) -> Option<Expr> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    match (left.contains_outer(), right.contains_outer()) {
        (true, false) if left.column_refs().is_empty() => Some(right.as_ref().clone()),
        (false, true) if right.column_refs().is_empty() => Some(left.as_ref().clone()),
        _ => None,
    }
}

/// A lateral join whose right side is columns of the left one.
fn lateral(join: Join) -> Result<Transformed<LogicalPlan>> {
    let no = |join| Ok(Transformed::no(LogicalPlan::Join(join)));
    let is_true = |filter: &Expr| matches!(filter, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    let plain = join.on.is_empty()
        && match join.join_type {
            JoinType::Inner => true,
            JoinType::Left => join.filter.as_ref().is_none_or(is_true),
            _ => false,
        };
    if !plain {
        return no(join);
    }
    let (subquery, alias) = match join.right.as_ref() {
        LogicalPlan::Subquery(subquery) => (subquery, None),
        LogicalPlan::SubqueryAlias(outer) => match outer.input.as_ref() {
            LogicalPlan::Subquery(subquery) => (subquery, Some(outer.alias.clone())),
            _ => return no(join),
        },
        _ => return no(join),
    };
    let Some(mut columns) = computed(&subquery.subquery, alias, join.left.schema())? else { return no(join) };
    if join.join_type == JoinType::Left {
        columns = columns.into_iter().map(generators::outer).collect::<Result<_>>()?;
    }
    let left = join.left.schema().columns().into_iter().map(Expr::Column);
    let mut plan = LogicalPlanBuilder::from(join.left.as_ref().clone()).project(left.chain(columns))?;
    if let (JoinType::Inner, Some(filter)) = (join.join_type, join.filter) {
        plan = plan.filter(filter)?;
    }
    Ok(Transformed::yes(plan.build()?))
}

/// What a query without tables selects, with outer columns of the left side as columns.
///
/// Columns of queries further out stay what they are.
fn computed(plan: &LogicalPlan, alias: Option<TableReference>, left: &DFSchema) -> Result<Option<Vec<Expr>>> {
    let (exprs, schema) = match plan {
        LogicalPlan::SubqueryAlias(inner) => {
            return computed(&inner.input, alias.or_else(|| Some(inner.alias.clone())), left);
        }
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => (projection.expr.clone(), &projection.schema),
            inner => {
                // `SELECT x + 1 FROM (SELECT e.id AS x)`.
                let Some(below) = computed(inner, None, left)? else { return Ok(None) };
                let known: HashMap<Column, Expr> =
                    inner.schema().columns().into_iter().zip(below.into_iter().map(Expr::unalias)).collect();
                let put_in = |expr: &Expr| -> Result<Expr> {
                    let replaced = expr.clone().transform_up(|expr| {
                        Ok(match &expr {
                            Expr::Column(column) => match known.get(column) {
                                Some(meant) => Transformed::yes(meant.clone()),
                                None => Transformed::no(expr),
                            },
                            _ => Transformed::no(expr),
                        })
                    })?;
                    Ok(replaced.data)
                };
                (projection.expr.iter().map(put_in).collect::<Result<Vec<_>>>()?, &projection.schema)
            }
        },
        _ => return Ok(None),
    };
    let mut columns = vec![];
    for (expr, (qualifier, field)) in exprs.into_iter().zip(schema.iter()) {
        let inner = expr.unalias().transform_up(|expr| {
            Ok(match expr {
                Expr::OuterReferenceColumn(_, column) if left.has_column(&column) => {
                    Transformed::yes(Expr::Column(column))
                }
                other => Transformed::no(other),
            })
        })?;
        columns.push(inner.data.alias_qualified(alias.clone().or_else(|| qualifier.cloned()), field.name()));
    }
    Ok(Some(columns))
}
