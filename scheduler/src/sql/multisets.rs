//! `INTERSECT ALL` and `EXCEPT ALL`: of equal rows, the n-th of one side meets the n-th of the other.
//!
//! DataFusion plans them as semi and anti joins of all rows, so that one row on the right meets every equal row on the left.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality, Result, ScalarValue};
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Distinct, Expr, Join, LogicalPlan, LogicalPlanBuilder, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use headwater_executor::functions::windows::row_number;
use std::sync::Arc;

/// The number of a row among those that are equal to it.
const NUMBER: &str = "__number";

/// Makes set operations in the plan of a query count rows. To be called on plans of SQL alone, in which joins of null to
/// null are set operations.
///
/// # Errors
/// DataFusion's.
pub fn counted(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Join(join) if is_multiset(&join) => Ok(Transformed::yes(numbered_join(join)?)),
        plan => Ok(Transformed::no(plan)),
    })?;
    Ok(rewritten.data)
}

fn is_multiset(join: &Join) -> bool {
    let distinct = matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)));
    let numbered = |plan: &LogicalPlan| plan.schema().fields().iter().any(|field| field.name() == NUMBER);
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && !distinct
        && !numbered(&join.left)
}

fn numbered_join(join: Join) -> Result<LogicalPlan> {
    let outputs: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let columns = |side: fn(&(Expr, Expr)) -> &Expr| -> Result<Vec<Column>> {
        let mut columns =
            join.on.iter().map(|pair| side(pair).get_as_join_column().cloned()).collect::<Option<Vec<_>>>();
        if let Some(columns) = &mut columns {
            columns.push(Column::new_unqualified(NUMBER));
        }
        columns.ok_or_else(|| datafusion::common::internal_datafusion_err!("keys of a set operation are columns"))
    };
    let (left_keys, right_keys) = (columns(|pair| &pair.0)?, columns(|pair| &pair.1)?);
    LogicalPlanBuilder::from(numbered(&join.left)?)
        .join_detailed(
            numbered(&join.right)?,
            join.join_type,
            (left_keys, right_keys),
            None,
            NullEquality::NullEqualsNull,
        )?
        .project(outputs)?
        .build()
}

fn numbered(plan: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let mut window = WindowFunction::new(WindowFunctionDefinition::WindowUDF(row_number()), vec![]);
    window.params.order_by = columns.first().map(|first| Sort::new(first.clone(), true, true)).into_iter().collect();
    window.params.partition_by.clone_from(&columns);
    window.params.window_frame = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
        WindowFrameBound::CurrentRow,
    );
    let window = Expr::WindowFunction(Box::new(window));
    let plan = LogicalPlanBuilder::window_plan(plan.as_ref().clone(), vec![window.clone()])?;
    let number = Expr::Column(Column::new_unqualified(window.schema_name().to_string())).alias(NUMBER);
    LogicalPlanBuilder::from(plan).project(columns.into_iter().chain([number]))?.build()
}
