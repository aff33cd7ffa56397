//! Spark's operators where DataFusion's differ.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::expr::{BinaryExpr, Cast};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, Operator, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// `7 / 2` is 3.5, `7 DIV 2` is 3, and `array(1, 2)[0]` is 1.
#[derive(Debug)]
pub struct SparkOperators;

impl ExprPlanner for SparkOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        match op {
            BinaryOperator::Divide => Ok(PlannerResult::Planned(divide(left, right, schema))),
            BinaryOperator::MyIntegerDivide => Ok(PlannerResult::Planned(integer_divide(left, right))),
            op => Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        }
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = access;
        match field_access {
            GetFieldAccess::ListIndex { key }
                if matches!(expr.get_type(schema), Ok(DataType::List(_) | DataType::LargeList(_))) =>
            {
                Ok(PlannerResult::Planned(array_element(expr, *key + lit(1_i64))))
            }
            field_access => Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr })),
        }
    }
}

/// Spark's `/`: of two whole numbers it is a double.
pub fn divide(left: Expr, right: Expr, schema: &DFSchema) -> Expr {
    let whole = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| data_type.is_integer());
    if whole(&left) && whole(&right) {
        return binary(cast(left, DataType::Float64), cast(right, DataType::Float64));
    }
    binary(left, right)
}

/// Spark's `DIV`: the whole part, a BIGINT.
pub fn integer_divide(left: Expr, right: Expr) -> Expr {
    binary(cast(left, DataType::Int64), cast(right, DataType::Int64))
}

fn binary(left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::Divide, Box::new(right)))
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), data_type))
}
