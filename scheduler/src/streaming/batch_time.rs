//! The time of a batch: what `current_timestamp()` is in a stream. It stands in the offset log, so a batch that runs
//! again sees the same one.
//!
//! A stream is planned once, with a function in the place of the time; each batch puts its own in.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as PlanResult;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;
use headwater_executor::functions::closed::ClosedCall;
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

/// The function that stands for it.
pub const BATCH_TIME: &str = "batch_time";

fn is_time(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>().is_some_and(|function| function.name() == BATCH_TIME)
}

fn has_time(expr: &Arc<dyn PhysicalExpr>) -> bool {
    is_time(expr)
        || expr.downcast_ref::<ClosedCall>().is_some_and(|closed| has_time(closed.call()))
        || expr.children().into_iter().any(has_time)
}

fn replaced(expr: &Arc<dyn PhysicalExpr>, time: &Arc<dyn PhysicalExpr>) -> PlanResult<Arc<dyn PhysicalExpr>> {
    let with_time = Arc::clone(expr).transform_up(|expr| {
        if is_time(&expr) {
            return Ok(Transformed::yes(Arc::clone(time)));
        }
        if let Some(closed) = expr.downcast_ref::<ClosedCall>()
            && has_time(closed.call())
        {
            let closed: Arc<dyn PhysicalExpr> = Arc::new(closed.with_call(replaced(closed.call(), time)?));
            return Ok(Transformed::yes(closed));
        }
        Ok(Transformed::no(expr))
    })?;
    Ok(with_time.data)
}

/// The plan of the batch of this time, in milliseconds since the epoch.
///
/// # Errors
/// The function somewhere else than in a projection or a filter.
pub fn put(plan: Arc<dyn ExecutionPlan>, batch_timestamp_ms: i64) -> Result<Arc<dyn ExecutionPlan>> {
    let micros = ScalarValue::TimestampMicrosecond(Some(batch_timestamp_ms.saturating_mul(1000)), Some("UTC".into()));
    let time: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(micros));
    let put = plan.transform_up(|node| {
        if let Some(projection) = node.downcast_ref::<ProjectionExec>()
            && projection.expr().iter().any(|column| has_time(&column.expr))
        {
            let columns = projection
                .expr()
                .iter()
                .map(|column| Ok(ProjectionExpr { expr: replaced(&column.expr, &time)?, alias: column.alias.clone() }));
            let columns = columns.collect::<PlanResult<Vec<_>>>()?;
            let projection = ProjectionExec::try_new(columns, Arc::clone(projection.input()))?;
            return Ok(Transformed::yes(Arc::new(projection) as Arc<dyn ExecutionPlan>));
        }
        if let Some(filter) = node.downcast_ref::<FilterExec>()
            && has_time(filter.predicate())
        {
            let filter = FilterExecBuilder::new(replaced(filter.predicate(), &time)?, Arc::clone(filter.input()))
                .apply_projection(filter.projection().as_ref().map(|indices| indices.to_vec()))?
                .with_default_selectivity(filter.default_selectivity())
                .with_batch_size(filter.batch_size())
                .with_fetch(filter.fetch())
                .build()?;
            return Ok(Transformed::yes(Arc::new(filter) as Arc<dyn ExecutionPlan>));
        }
        Ok(Transformed::no(node))
    });
    let plan = put.map_err(Error::internal)?.data;
    check(&plan)?;
    Ok(plan)
}

/// That a plan has no such function left.
fn check(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    let mut found = false;
    let _ = plan.apply_expressions(&mut |expr| {
        found |= has_time(expr);
        Ok(TreeNodeRecursion::Continue)
    });
    if found {
        return Err(Error::invalid(
            "UNSUPPORTED_STREAMING_OPERATOR",
            format!("current_timestamp() in {} of a stream: compute it in a column of its own, before", plan.name()),
        ));
    }
    plan.children().into_iter().try_for_each(check)
}
