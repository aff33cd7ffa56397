//! Spark's operators in SQL: planned as functions, which the analyzer gives their types.

use super::dialect::UNSIGNED_SHIFT;
use super::functions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_nested::array_transform::array_transform_higher_order_function;
use datafusion::logical_expr::expr::{HigherOrderFunction, Lambda, LambdaVariable};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawFieldAccessExpr, RawWindowExpr,
};
use datafusion::logical_expr::{Expr, ExprSchemable, GetFieldAccess, cast, lit};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use headwater_executor::functions::arithmetic::Op;
use headwater_executor::functions::ddl;
use std::sync::Arc;

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
            BinaryOperator::PGBitwiseShiftLeft => {
                return Ok(PlannerResult::Planned(functions::call("shiftleft", vec![left, right])));
            }
            BinaryOperator::PGBitwiseShiftRight => {
                return Ok(PlannerResult::Planned(functions::call("shiftright", vec![left, right])));
            }
            BinaryOperator::Custom(op) if op == UNSIGNED_SHIFT => {
                return Ok(PlannerResult::Planned(functions::call("shiftrightunsigned", vec![left, right])));
            }
            BinaryOperator::StringConcat => {
                return Ok(PlannerResult::Planned(functions::call("concat", vec![left, right])));
            }
            op => {
                let (left, right) = compared(left, right, schema);
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
        };
        Ok(PlannerResult::Planned(binary(spark, left, right, schema)))
    }

    fn plan_aggregate(&self, mut call: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        // What these are of is compared with the keys.
        if !["grouping", "grouping_id"].contains(&call.func.name()) {
            call.args = call.args.into_iter().map(with_casts_named).collect();
        }
        Ok(PlannerResult::Original(call))
    }

    fn plan_window(&self, mut call: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        call.args = call.args.into_iter().map(with_casts_named).collect();
        Ok(PlannerResult::Original(call))
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
            GetFieldAccess::NamedStructField { name } => {
                let of_items = match (expr.get_type(schema), name.try_as_str().flatten()) {
                    (Ok(DataType::List(item)), Some(name)) => field_of_items(&expr, &item, name),
                    _ => None,
                };
                Ok(match of_items {
                    Some((fields, _)) => PlannerResult::Planned(fields),
                    None => {
                        let field_access = GetFieldAccess::NamedStructField { name };
                        PlannerResult::Original(RawFieldAccessExpr { field_access, expr })
                    }
                })
            }
            field_access => Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr })),
        }
    }

    /// `column.field.field`, through structs, arrays of structs and maps.
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut data_type = field.data_type().clone();
        for name in nested_names {
            (expr, data_type) = match &data_type {
                DataType::Struct(fields) => {
                    let Some(field) = fields.iter().find(|field| field.name().eq_ignore_ascii_case(name)) else {
                        return Ok(PlannerResult::Original(vec![]));
                    };
                    (get_field(expr, field.name().as_str()), field.data_type().clone())
                }
                DataType::List(item) => match field_of_items(&expr, item, name) {
                    Some(found) => found,
                    None => return Ok(PlannerResult::Original(vec![])),
                },
                DataType::Map(entries, _) => {
                    let DataType::Struct(parts) = entries.data_type() else {
                        return Ok(PlannerResult::Original(vec![]));
                    };
                    let value = parts[1].data_type().clone();
                    (functions::call("spark_get_item", vec![expr, lit(name.as_str())]), value)
                }
                _ => return Ok(PlannerResult::Original(vec![])),
            };
        }
        Ok(PlannerResult::Planned(expr))
    }
}

/// An argument under a name that tells of its casts. DataFusion's names do not, and so `sum(a)` and `sum(CAST(a AS DOUBLE))`
/// would be two columns of one name. Constants stay what they are.
fn with_casts_named(argument: Expr) -> Expr {
    let is_cast = |expr: &Expr| Ok(matches!(expr, Expr::Cast(_) | Expr::TryCast(_)));
    if !argument.any_column_refs() || !argument.exists(is_cast).is_ok_and(|found| found) {
        return argument;
    }
    let name = argument.to_string();
    argument.alias(name)
}

/// Beside a BOOLEAN text is one: DataFusion's types of comparisons are asked for before Spark's casts are there.
fn compared(left: Expr, right: Expr, schema: &DFSchema) -> (Expr, Expr) {
    let boolean = |one: &Expr| matches!(one.get_type(schema), Ok(DataType::Boolean));
    let text = |one: &Expr| matches!(one.get_type(schema), Ok(DataType::Utf8));
    if boolean(&left) && text(&right) {
        return (left, cast(right, DataType::Boolean));
    }
    if text(&left) && boolean(&right) {
        return (cast(left, DataType::Boolean), right);
    }
    (left, right)
}

/// The field of every item of an array of structs, and the type of the array of these.
fn field_of_items(list: &Expr, item: &FieldRef, name: &str) -> Option<(Expr, DataType)> {
    const ITEM: &str = "element";
    let DataType::Struct(fields) = item.data_type() else { return None };
    let field = fields.iter().find(|field| field.name().eq_ignore_ascii_case(name))?;
    let variable = Expr::LambdaVariable(LambdaVariable::new(ITEM.into(), Some(Arc::clone(item))));
    let lambda = Expr::Lambda(Lambda::new(vec![ITEM.into()], get_field(variable, field.name().as_str())));
    let transform = array_transform_higher_order_function();
    let fields = Expr::HigherOrderFunction(HigherOrderFunction::new(transform, vec![list.clone(), lambda]));
    Some((fields, ddl::array_of(field.data_type().clone())))
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
        Expr::ScalarFunction(function) if function.func.name() == "interval_days" && !function.args.is_empty() => {
            Some(datafusion::logical_expr::cast(function.args[0].clone(), DataType::Int32))
        }
        _ => None,
    }
}
