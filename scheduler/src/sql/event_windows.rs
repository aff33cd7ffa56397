//! Windows of event time in plans, as a rule before all others but the generators: [`EventWindows`].
//!
//! `window` and `session_window` are functions of one row; what they mean for all rows is made here, for SQL and PySpark
//! alike: rows without a time are left out, a row is there once for each sliding window that it is in, and sessions are
//! put together before rows are grouped by them.

use super::functions::call;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, ScalarValue, UnnestOptions};
use datafusion::functions::core::expr_fn::{get_field, named_struct};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{ScalarFunction, Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, AggregateUDF, Expr, Filter, LogicalPlan, LogicalPlanBuilder, Projection, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowFunctionDefinition, lit, when,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use headwater_executor::functions::event_windows::{ALL, Spec};
use headwater_executor::functions::native::external;
use headwater_proto::error::Error;
use std::sync::Arc;

/// The rule.
#[derive(Debug, Default)]
pub struct EventWindows;

impl AnalyzerRule for EventWindows {
    fn name(&self) -> &str {
        "event_windows"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Projection(projection) => projected(projection),
            LogicalPlan::Aggregate(aggregate) => match session_key(&aggregate) {
                Some(at) => sessions(aggregate, at).map(Transformed::yes),
                None => grouped(aggregate),
            },
            plan => Ok(Transformed::no(plan)),
        })?;
        Ok(rewritten.data)
    }
}

fn window_call(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(function) if function.func.name() == "window" => Some(function),
        _ => None,
    }
}

/// The different calls of `window` in expressions.
fn window_calls(exprs: &[Expr]) -> Result<Vec<ScalarFunction>> {
    let mut calls: Vec<ScalarFunction> = vec![];
    for expr in exprs {
        expr.apply(|expr| {
            if let Some(call) = window_call(expr)
                && !calls.contains(call)
            {
                calls.push(call.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(calls)
}

/// What a call says, where it is literals.
fn spec_of(call: &ScalarFunction) -> Result<Option<Spec>> {
    let literal = |at: usize| match call.args.get(at) {
        Some(Expr::Literal(value, _)) => value.try_as_str().flatten().map(str::to_string),
        _ => None,
    };
    // The type of the call says what is wrong with others.
    if (1..call.args.len()).any(|at| literal(at).is_none()) {
        return Ok(None);
    }
    Spec::of(&literal).map(Some)
}

/// Rows as often as there are windows that they are in, and the column that these are.
struct Below {
    input: Arc<LogicalPlan>,
    sliding: Option<(ScalarFunction, Column)>,
}

impl Below {
    /// None where nothing is to be done.
    fn of(exprs: &[Expr], input: &Arc<LogicalPlan>) -> Result<Option<Self>> {
        let calls = window_calls(exprs)?;
        let mut sliding: Option<(ScalarFunction, Spec)> = None;
        let mut times = vec![];
        for call in calls {
            match spec_of(&call)? {
                Some(spec) if spec.slide != spec.duration => {
                    if sliding.is_some() {
                        return Err(external(Error::invalid(
                            "UNSUPPORTED_FEATURE",
                            "several sliding windows would multiply rows: use one, and others in a query around it",
                        )));
                    }
                    sliding = Some((call, spec));
                }
                _ => times.extend(call.args.first().map(|time| time.clone().is_not_null())),
            }
        }
        let mut input = Arc::clone(input);
        let mut changed = false;
        if let Some(condition) = conjunction(times)
            && !matches!(input.as_ref(), LogicalPlan::Filter(filter) if filter.predicate == condition)
        {
            input = Arc::new(LogicalPlan::Filter(Filter::try_new(condition, input)?));
            changed = true;
        }
        let Some((call, spec)) = sliding else { return Ok(changed.then_some(Self { input, sliding: None })) };
        let name = free_name(&input, "__windows");
        let mut columns = columns_of(&input);
        columns.push(all_windows(&call.args[0], spec).alias(&name));
        let unnested = LogicalPlanBuilder::from(LogicalPlan::Projection(Projection::try_new(columns, input)?))
            .unnest_column_with_options(
                Column::new_unqualified(&name),
                UnnestOptions::new().with_preserve_nulls(false),
            )?
            .build()?;
        Ok(Some(Self { input: Arc::new(unnested), sliding: Some((call, Column::new_unqualified(name))) }))
    }

    fn replace(&self, expr: Expr) -> Result<Expr> {
        let Some((call, column)) = &self.sliding else { return Ok(expr) };
        let replaced = expr.transform_down(|expr| {
            Ok(match window_call(&expr) {
                Some(known) if known == call => {
                    Transformed::new(Expr::Column(column.clone()), true, TreeNodeRecursion::Jump)
                }
                _ => Transformed::no(expr),
            })
        })?;
        Ok(replaced.data)
    }
}

fn all_windows(time: &Expr, spec: Spec) -> Expr {
    call(ALL, vec![time.clone(), lit(spec.duration), lit(spec.slide), lit(spec.start)])
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

fn free_name(plan: &LogicalPlan, name: &str) -> String {
    let mut name = name.to_string();
    while plan.schema().fields().iter().any(|field| *field.name() == name) {
        name.push('_');
    }
    name
}

fn projected(projection: Projection) -> Result<Transformed<LogicalPlan>> {
    let Some(below) = Below::of(&projection.expr, &projection.input)? else {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    };
    let mut exprs = Vec::with_capacity(projection.expr.len());
    for (expr, (relation, field)) in projection.expr.into_iter().zip(projection.schema.iter()) {
        let replaced = below.replace(expr.clone())?;
        exprs.push(if replaced == expr { expr } else { replaced.alias_qualified(relation.cloned(), field.name()) });
    }
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, below.input)?)))
}

fn grouped(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let all: Vec<Expr> = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
    let Some(below) = Below::of(&all, &aggregate.input)? else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let named = |expr: &Expr| -> Result<Expr> {
        let replaced = below.replace(expr.clone())?;
        Ok(if replaced == *expr { replaced } else { replaced.alias(expr.schema_name().to_string()) })
    };
    let group_expr = aggregate.group_expr.iter().map(named).collect::<Result<Vec<_>>>()?;
    let aggr_expr = aggregate.aggr_expr.iter().map(named).collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(&below.input), group_expr, aggr_expr)?)))
}

fn is_session(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_session(&alias.expr),
        Expr::ScalarFunction(function) => function.func.name() == "session_window",
        _ => false,
    }
}

/// Which key is a session: a call, or a column that the projection below computes as one.
fn session_key(aggregate: &Aggregate) -> Option<usize> {
    let computed = |column: &Column| {
        let LogicalPlan::Projection(projection) = aggregate.input.as_ref() else { return false };
        let at = projection.schema.maybe_index_of_column(column);
        at.is_some_and(|at| is_session(&projection.expr[at]))
    };
    aggregate.group_expr.iter().position(|key| match key {
        Expr::Column(column) => computed(column),
        key => is_session(key),
    })
}

fn over(
    function: Arc<AggregateUDF>,
    of: Expr,
    partition_by: Vec<Expr>,
    order_by: Vec<Sort>,
    frame: WindowFrame,
) -> Expr {
    Expr::WindowFunction(Box::new(WindowFunction {
        fun: WindowFunctionDefinition::AggregateUDF(function),
        params: WindowFunctionParams {
            args: vec![of],
            partition_by,
            order_by,
            window_frame: frame,
            filter: None,
            null_treatment: None,
            distinct: false,
        },
    }))
}

/// Sessions of the same other keys that touch become one: a row begins a session when it begins after the end of all
/// that came before it; rows of one session are numbered alike, and have its first begin and last end.
fn sessions(aggregate: Aggregate, at: usize) -> Result<LogicalPlan> {
    if aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
        return Err(external(Error::invalid("UNSUPPORTED_FEATURE", "session_window in several grouping sets")));
    }
    let key = &aggregate.group_expr[at];
    let mut others = aggregate.group_expr.clone();
    others.remove(at);
    let (input, session) = match key {
        Expr::Column(column) => (aggregate.input.as_ref().clone(), column.clone()),
        key => {
            let name = free_name(&aggregate.input, "__session");
            let mut columns = columns_of(&aggregate.input);
            columns.push(key.clone().unalias().alias(&name));
            let projection = Projection::try_new(columns, Arc::clone(&aggregate.input))?;
            (LogicalPlan::Projection(projection), Column::new_unqualified(name))
        }
    };
    let kept = input.schema().columns();
    let [reach, begins, number, first, last] =
        ["__reach", "__begins", "__number", "__first", "__last"].map(|name| free_name(&input, name));
    let column = |name: &String| Expr::Column(Column::new_unqualified(name));
    let own = Expr::Column(session.clone());
    let (start, end) = (get_field(own.clone(), "start"), get_field(own.clone(), "end"));
    let by_start = || vec![Sort::new(start.clone(), true, true)];
    let rows = |end: WindowFrameBound| {
        WindowFrame::new_bounds(WindowFrameUnits::Rows, WindowFrameBound::Preceding(ScalarValue::UInt64(None)), end)
    };
    let before = rows(WindowFrameBound::Preceding(ScalarValue::UInt64(Some(1))));
    let so_far = rows(WindowFrameBound::CurrentRow);
    let everything = || WindowFrame::new(None);
    let reached = LogicalPlanBuilder::from(input)
        .filter(own.clone().is_not_null())?
        .window(vec![over(max_udaf(), end.clone(), others.clone(), by_start(), before).alias(&reach)])?
        .build()?;
    let mut columns = columns_of(&reached);
    columns.push(when(column(&reach).gt_eq(start.clone()), lit(0_i64)).otherwise(lit(1_i64))?.alias(&begins));
    let numbered = LogicalPlanBuilder::from(reached)
        .project(columns)?
        .window(vec![over(sum_udaf(), column(&begins), others.clone(), by_start(), so_far).alias(&number)])?
        .build()?;
    // A column of its own, so that the last windows are over what the first ones made.
    let columns = columns_of(&numbered);
    let mut same = others.clone();
    same.push(column(&number));
    let whole = LogicalPlanBuilder::from(numbered)
        .project(columns)?
        .window(vec![
            over(min_udaf(), start.clone(), same.clone(), vec![], everything()).alias(&first),
            over(max_udaf(), end.clone(), same, vec![], everything()).alias(&last),
        ])?
        .build()?;
    let merged = named_struct(vec![lit("start"), column(&first), lit("end"), column(&last)]);
    let columns = kept.into_iter().map(|column| {
        if column == session {
            merged.clone().alias_qualified(session.relation.clone(), &session.name)
        } else {
            Expr::Column(column)
        }
    });
    let input = LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(whole))?);
    let mut group_expr = aggregate.group_expr.clone();
    group_expr[at] = match key {
        Expr::Column(_) => own,
        key => own.alias(key.schema_name().to_string()),
    };
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), group_expr, aggregate.aggr_expr)?))
}
