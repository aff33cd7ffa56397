//! Spark's operators in SQL: planned as functions, which the analyzer gives their types.

use super::functions;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use headwater_executor::functions::arithmetic::Op;

/// `7 / 2` is 3.5, `7 DIV 2` is 3, and `array(1, 2)[0]` is 1.
#[derive(Debug)]
pub struct SparkOperators;

impl ExprPlanner for SparkOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let spark = match op {
            BinaryOperator::Plus => Op::Add,
            BinaryOperator::Minus => Op::Subtract,
            BinaryOperator::Multiply => Op::Multiply,
            BinaryOperator::Divide => Op::Divide,
            BinaryOperator::MyIntegerDivide => Op::WholeDivide,
            BinaryOperator::Modulo => Op::Remainder,
            BinaryOperator::StringConcat => {
                return Ok(PlannerResult::Planned(functions::call("concat", vec![left, right])));
            }
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(binary(spark, left, right, schema)))
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::call("date_part", args)))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::call("substring", args)))
    }

    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::call("instr", args)))
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::call("overlay", args)))
    }

    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::call("map", args)))
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(functions::call("array", exprs)))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = access;
        match field_access {
            GetFieldAccess::ListIndex { key } => {
                Ok(PlannerResult::Planned(functions::call("spark_get_item", vec![expr, *key])))
            }
            GetFieldAccess::NamedStructField { name } if matches!(expr.get_type(schema), Ok(DataType::Map(..))) => {
                let key = Expr::Literal(name, None);
                Ok(PlannerResult::Planned(functions::call("spark_get_item", vec![expr, key])))
            }
            field_access => Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr })),
        }
    }
}

/// `left op right`. A date and an interval of whole days are a date.
pub fn binary(op: Op, left: Expr, right: Expr, schema: &DFSchema) -> Expr {
    let is_date = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Date32));
    match (op, days_of(&left), days_of(&right)) {
        (Op::Add | Op::Subtract, _, Some(days)) if is_date(&left) => functions::binary(op, left, days),
        (Op::Add, Some(days), _) if is_date(&right) => functions::binary(op, right, days),
        _ => functions::binary(op, left, right),
    }
}

/// The number in an interval of days, as an INT.
fn days_of(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::ScalarFunction(function) if function.func.name() == "interval_days" && function.args.len() == 1 => {
            Some(datafusion::logical_expr::cast(function.args[0].clone(), DataType::Int32))
        }
        _ => None,
    }
}
