//! What a window function must have.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use headwater_proto::error::{Error, Result};

/// Functions that mean nothing without an order.
const ORDERED: &[&str] =
    &["row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "nth_value"];

/// The error for a window function whose window has no order.
pub fn not_ordered(function: &str) -> Error {
    Error::invalid(
        "WINDOW_FUNCTION_FRAME_NOT_ORDERED",
        format!("window function {function} requires window to be ordered: add ORDER BY to its window"),
    )
}

/// The error for an aggregate of different values over a window.
pub fn distinct(function: &str) -> Error {
    Error::invalid(
        "DISTINCT_WINDOW_FUNCTION_UNSUPPORTED",
        format!(
            "distinct window functions are not supported: {function}: leave DISTINCT out, or take size(collect_set(…)) \
             for a count"
        ),
    )
}

/// Whether a function means nothing without an order.
pub fn needs_order(name: &str) -> bool {
    ORDERED.contains(&name)
}

/// Refuses window functions that need an order and have none, and those of different values.
///
/// # Errors
/// `WINDOW_FUNCTION_FRAME_NOT_ORDERED`, `DISTINCT_WINDOW_FUNCTION_UNSUPPORTED`.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    let mut wrong = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::WindowFunction(function) = expr
                    && let WindowFunctionDefinition::WindowUDF(udf) = &function.fun
                    && function.params.order_by.is_empty()
                    && needs_order(udf.name())
                {
                    wrong = Some(not_ordered(udf.name()));
                    return Ok(TreeNodeRecursion::Stop);
                }
                if let Expr::WindowFunction(function) = expr
                    && function.params.distinct
                {
                    wrong = Some(distinct(function.fun.name()));
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(super::error::from_datafusion)?;
    match wrong {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
