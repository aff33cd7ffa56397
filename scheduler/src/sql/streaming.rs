//! What a streaming query may do, checked on its logical plan.

use super::error::from_datafusion;
use super::functions::call;
use super::stream_table::{StreamTable, UnboundStream};
use crate::streaming::batch_time::BATCH_TIME;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, cast};
use headwater_proto::error::{Error, Result};

/// Whether rows of a stream reach this node.
pub fn is_streaming(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => source_as_provider(&scan.source).is_ok_and(|provider| {
            provider.downcast_ref::<StreamTable>().is_some() || provider.downcast_ref::<UnboundStream>().is_some()
        }),
        plan => plan.inputs().into_iter().any(is_streaming),
    }
}

/// Refuses what a stream without state cannot do.
///
/// # Errors
/// `UNSUPPORTED_STREAMING_OPERATOR` with what is refused and why.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    in_expressions(plan)?;
    let inputs = plan.inputs();
    let streams = inputs.iter().filter(|input| is_streaming(input)).count();
    if streams > 0 {
        node(plan, streams)?;
    }
    inputs.into_iter().try_for_each(check)
}

/// Functions that planning replaces by the present time. A stream is planned once for many batches, each of which must
/// see a time of its own, and the same again when it runs again: [`with_batch_time`] knows the others.
const NOW: [&str; 6] = ["now", "current_timestamp", "current_date", "today", "current_time", "localtimestamp"];

/// Puts the time of the batch in the place of the present time, where rows of a stream are.
///
/// # Errors
/// None that the plan did not have before.
pub fn with_batch_time(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|plan| {
        if !is_streaming(&plan) {
            return Ok(Transformed::no(plan));
        }
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(timed)?.update_data(|expr| name.restore(expr)))
        })?
        .map_data(LogicalPlan::recompute_schema)
    });
    Ok(rewritten.map_err(from_datafusion)?.data)
}

fn timed(expr: Expr) -> datafusion::error::Result<Transformed<Expr>> {
    let Expr::ScalarFunction(function) = &expr else { return Ok(Transformed::no(expr)) };
    if !function.args.is_empty() {
        return Ok(Transformed::no(expr));
    }
    let time = || call(BATCH_TIME, vec![]);
    Ok(match function.name() {
        "now" | "current_timestamp" => Transformed::yes(time()),
        "current_date" => Transformed::yes(cast(time(), DataType::Date32)),
        "localtimestamp" => Transformed::yes(cast(time(), DataType::Timestamp(TimeUnit::Microsecond, None))),
        _ => Transformed::no(expr),
    })
}

fn node(plan: &LogicalPlan, streams: usize) -> Result<()> {
    match plan {
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Extension(_) => Ok(()),
        LogicalPlan::Union(union) if streams == union.inputs.len() => Ok(()),
        LogicalPlan::Union(_) => refuse(
            "UNION ALL of a stream and a table that is none: rows of the table would be \
             written again by every micro-batch",
        ),
        LogicalPlan::Aggregate(_) => refuse(
            "streaming aggregation: append output mode is not supported when there are streaming aggregations without \
             a watermark",
        ),
        LogicalPlan::Distinct(_) => refuse("DISTINCT on a stream without a watermark"),
        LogicalPlan::Sort(_) => refuse(
            "sorting is not supported on streams: rows would be sorted within a micro-batch \
             only",
        ),
        LogicalPlan::Limit(_) => refuse("LIMIT and OFFSET are not supported on streams"),
        LogicalPlan::Window(_) => {
            refuse("non-time-based window functions are not supported on streams: OVER (…) needs all rows")
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (is_streaming(&join.left), is_streaming(&join.right));
            match join.join_type {
                _ if left && right => refuse("join of two streams without a watermark"),
                JoinType::Inner => Ok(()),
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark if left => Ok(()),
                JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark if right => Ok(()),
                other => refuse(&format!(
                    "{other} join with the stream on the {} side: rows without a match cannot be known before the \
                     stream ends",
                    if left { "left" } else { "right" }
                )),
            }
        }
        other => refuse(&format!("{} on a stream", other.display())),
    }
}

fn in_expressions(plan: &LogicalPlan) -> Result<()> {
    let mut outcome = Ok(());
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            if let Expr::ScalarFunction(call) = expr
                && NOW.contains(&call.name())
            {
                outcome = refuse(&format!(
                    "{}() in a stream is not supported: it would be the time at which the query was planned; take \
                     current_timestamp() or the source's timestamp column",
                    call.name()
                ));
                return Ok(TreeNodeRecursion::Stop);
            }
            let subquery = match expr {
                Expr::ScalarSubquery(subquery) => subquery,
                Expr::Exists(exists) => &exists.subquery,
                Expr::InSubquery(within) => &within.subquery,
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            if is_streaming(&subquery.subquery) {
                outcome = refuse("a stream inside a subquery of an expression (IN, EXISTS, scalar)");
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .expect("the closure never fails");
    outcome
}

fn refuse(what: &str) -> Result<()> {
    Err(Error::invalid("UNSUPPORTED_STREAMING_OPERATOR", what))
}
