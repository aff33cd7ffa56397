//! Spark's meaning of expressions, as an analyzer rule before DataFusion's own coercion: [`SparkSemantics`].
//!
//! Operands and arguments are cast where Spark casts implicitly, casts become [Spark's](functions::cast), operators become
//! DataFusion's where these do the same, and functions that depend on ANSI mode or the time zone are told them. Running it
//! twice changes nothing.

use super::functions::{call, own, own_aggregate, special};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, Like, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection, ScalarUDF, Union,
    WindowFunctionDefinition, lit,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use headwater_executor::functions;
use headwater_executor::functions::arithmetic::Op;
use headwater_executor::functions::cast::{CAST, Mode, Options};
use headwater_executor::functions::coercion::{self, as_decimal, is_decimal, is_fractional, is_text};
use headwater_executor::functions::interval_fields::Fields;
use headwater_executor::functions::native::{Context, Function, WITH_CONTEXT, external};
use std::sync::Arc;

/// The rule.
#[derive(Debug, Default)]
pub struct SparkSemantics;

impl AnalyzerRule for SparkSemantics {
    fn name(&self) -> &str {
        "spark_semantics"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewriter = Rewriter::new(config);
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let schema = match &plan {
                LogicalPlan::TableScan(scan) => {
                    DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?
                }
                plan => merge_schema(&plan.inputs()),
            };
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(rewriter.rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            plan.transform_data(|plan| match plan {
                LogicalPlan::Union(union) => rewriter.union(union),
                LogicalPlan::Join(join) => rewriter.join(join),
                plan => Ok(Transformed::no(plan)),
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(rewritten.data)
    }
}

/// The same on one expression, for callers that need its type before the plan is there.
///
/// # Errors
/// Operands and arguments that do not go together.
pub fn analyzed(expr: Expr, schema: &DFSchema, config: &ConfigOptions) -> Result<Expr> {
    Ok(Rewriter::new(config).rewrite(expr, schema)?.data)
}

struct Rewriter {
    ansi: bool,
    zone: String,
}

impl Rewriter {
    fn new(config: &ConfigOptions) -> Self {
        let zone = config.execution.time_zone.clone().unwrap_or_else(|| "UTC".into());
        Self { ansi: config.execution.enable_ansi_mode, zone }
    }

    fn context(&self) -> Expr {
        lit(Context::encode(self.ansi, &self.zone))
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| self.one(expr, schema))
    }

    fn one(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Cast(Cast { expr, field }) => {
                let mode = if self.ansi { Mode::Ansi } else { Mode::Legacy };
                Ok(Transformed::yes(self.explicit_cast(*expr, field.data_type().clone(), mode, schema)?))
            }
            Expr::TryCast(TryCast { expr, field }) => {
                Ok(Transformed::yes(self.explicit_cast(*expr, field.data_type().clone(), Mode::Try, schema)?))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.binary(*left, op, *right, schema),
            Expr::Negative(inner) => Ok(Transformed::yes(self.function_call("negative", vec![*inner], schema)?)),
            Expr::Between(Between { expr, negated, low, high }) => {
                let mut all = vec![*expr, *low, *high];
                self.to_compared(&mut all, schema)?;
                let [expr, low, high] = take(all);
                Ok(Transformed::yes(Expr::Between(Between::new(
                    Box::new(expr),
                    negated,
                    Box::new(low),
                    Box::new(high),
                ))))
            }
            Expr::InList(InList { expr, list, negated }) => {
                let mut all = vec![*expr];
                all.extend(list);
                self.to_compared(&mut all, schema)?;
                let mut all = all.into_iter();
                let expr = all.next().map(Box::new).unwrap_or_else(|| Box::new(lit(ScalarValue::Null)));
                Ok(Transformed::yes(Expr::InList(InList::new(expr, all.collect(), negated))))
            }
            Expr::Case(case) => self.case(case, schema),
            Expr::Like(Like { negated, expr, pattern, escape_char, case_insensitive }) => {
                let expr = Box::new(self.implicit(*expr, &DataType::Utf8, schema)?);
                let pattern = Box::new(self.implicit(*pattern, &DataType::Utf8, schema)?);
                Ok(Transformed::yes(Expr::Like(Like::new(negated, expr, pattern, escape_char, case_insensitive))))
            }
            Expr::ScalarFunction(function) => self.scalar(function, schema),
            Expr::AggregateFunction(mut function) => {
                function.func = self.aggregate(function.func, &mut function.params.args, schema)?;
                Ok(Transformed::yes(Expr::AggregateFunction(function)))
            }
            Expr::WindowFunction(mut function) => {
                if let WindowFunctionDefinition::AggregateUDF(aggregate) = &function.fun {
                    let aggregate = Arc::clone(aggregate);
                    let aggregate = self.aggregate(aggregate, &mut function.params.args, schema)?;
                    function.fun = WindowFunctionDefinition::AggregateUDF(aggregate);
                }
                Ok(Transformed::yes(Expr::WindowFunction(function)))
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// A cast that somebody wrote.
    fn explicit_cast(&self, expr: Expr, to: DataType, mode: Mode, schema: &DFSchema) -> Result<Expr> {
        // Of a column that does not resolve others tell more.
        let Ok(from) = expr.get_type(schema) else { return Ok(Expr::Cast(Cast::new(Box::new(expr), to))) };
        functions::cast::check(&from, &to, self.ansi || mode == Mode::Try)?;
        if is_text(&to)
            && let Ok((_, field)) = expr.to_field(schema)
            && let Some(fields) = Fields::of(&field).filter(|fields| !fields.is_all())
        {
            return Ok(call("interval_text", vec![expr, lit(fields.name())]));
        }
        Ok(self.cast_to(expr, &from, to, mode))
    }

    fn cast_to(&self, expr: Expr, from: &DataType, to: DataType, mode: Mode) -> Expr {
        if let Some(literal) = cast_literal(&expr, &to) {
            return literal;
        }
        if functions::cast::is_plain(from, &to) {
            return if *from == to { expr } else { Expr::Cast(Cast::new(Box::new(expr), to)) };
        }
        let typed_null = ScalarValue::try_from(&to).unwrap_or(ScalarValue::Null);
        call(CAST, vec![expr, Expr::Literal(typed_null, None), lit(Options::encode(mode, &self.zone))])
    }

    /// A cast that nobody wrote.
    fn implicit(&self, expr: Expr, to: &DataType, schema: &DFSchema) -> Result<Expr> {
        let Ok(from) = expr.get_type(schema) else { return Ok(expr) };
        if from == *to || is_text(&from) && is_text(to) {
            return Ok(expr);
        }
        let mode = if self.ansi { Mode::Ansi } else { Mode::Legacy };
        functions::cast::check(&from, to, self.ansi)?;
        Ok(self.cast_to(expr, &from, to.clone(), mode))
    }

    fn binary(&self, left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let arithmetic = match op {
            Operator::Plus => Some(Op::Add),
            Operator::Minus => Some(Op::Subtract),
            Operator::Multiply => Some(Op::Multiply),
            Operator::Divide => Some(Op::Divide),
            Operator::Modulo => Some(Op::Remainder),
            _ => None,
        };
        if let Some(op) = arithmetic {
            return self.arithmetic(op, left, right, schema);
        }
        let mut operands = vec![left, right];
        match op {
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => self.to_compared(&mut operands, schema)?,
            Operator::And | Operator::Or => {
                for operand in &mut operands {
                    if matches!(operand.get_type(schema), Ok(found) if is_text(&found)) {
                        *operand = self.implicit(operand.clone(), &DataType::Boolean, schema)?;
                    }
                }
            }
            Operator::StringConcat => return Ok(Transformed::yes(self.function_call("concat", operands, schema)?)),
            Operator::BitwiseAnd | Operator::BitwiseOr | Operator::BitwiseXor => {
                let types = operands.iter().map(|one| one.get_type(schema)).collect::<Result<Vec<_>>>()?;
                if let Some(common) = coercion::common(&types).filter(DataType::is_integer) {
                    for operand in &mut operands {
                        *operand = self.implicit(operand.clone(), &common, schema)?;
                    }
                }
            }
            _ => {}
        }
        let [left, right] = take(operands);
        Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))))
    }

    /// Casts operands of a comparison to the type that they are compared in.
    fn to_compared(&self, operands: &mut [Expr], schema: &DFSchema) -> Result<()> {
        let Ok(types) = operands.iter().map(|one| one.get_type(schema)).collect::<Result<Vec<_>>>() else {
            return Ok(());
        };
        let mut common = Some(types[0].clone());
        for other in &types[1..] {
            common = common.and_then(|found| coercion::compared(&found, other, self.ansi));
        }
        let Some(common) = common else { return Ok(()) };
        for (operand, from) in operands.iter_mut().zip(&types) {
            if *from != common && !is_same_kind(from, &common) {
                *operand = self.implicit(std::mem::take(operand), &common, schema)?;
            }
        }
        Ok(())
    }

    fn case(&self, case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let Case { mut expr, when_then_expr, mut else_expr } = case;
        let (mut whens, mut thens): (Vec<Expr>, Vec<Expr>) =
            when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
        if let Some(base) = expr.take() {
            whens.insert(0, *base);
            self.to_compared(&mut whens, schema)?;
            expr = Some(Box::new(whens.remove(0)));
        }
        let has_else = else_expr.is_some();
        thens.extend(else_expr.take().map(|expr| *expr));
        self.to_common(&mut thens, schema)?;
        if has_else {
            else_expr = thens.pop().map(Box::new);
        }
        let pairs = whens.into_iter().zip(thens).map(|(when, then)| (Box::new(when), Box::new(then))).collect();
        Ok(Transformed::yes(Expr::Case(Case::new(expr, pairs, else_expr))))
    }

    /// Casts branches to their common type; where there is none, DataFusion says what is wrong.
    fn to_common(&self, branches: &mut [Expr], schema: &DFSchema) -> Result<()> {
        let Ok(types) = branches.iter().map(|one| one.get_type(schema)).collect::<Result<Vec<_>>>() else {
            return Ok(());
        };
        let mut common = Some(DataType::Null);
        for other in &types {
            common = common.and_then(|found| coercion::wider(&found, other, self.ansi));
        }
        let Some(common) = common else { return Ok(()) };
        for (branch, from) in branches.iter_mut().zip(&types) {
            if *from != common {
                *branch = self.implicit(std::mem::take(branch), &common, schema)?;
            }
        }
        Ok(())
    }

    fn arithmetic(&self, op: Op, left: Expr, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let mut operands = [left, right];
        let Ok(mut types) = operands.iter().map(|one| one.get_type(schema)).collect::<Result<Vec<_>>>() else {
            let [left, right] = operands;
            return Ok(Transformed::no(super::functions::binary(op, left, right)));
        };
        if !self.ansi {
            // Without ANSI mode text is a double in arithmetic.
            for (operand, from) in operands.iter_mut().zip(&mut types) {
                if is_text(from) {
                    *operand = self.implicit(std::mem::take(operand), &DataType::Float64, schema)?;
                    *from = DataType::Float64;
                }
            }
        }
        for (one, other) in [(0, 1), (1, 0)] {
            // A whole literal beside a decimal has as many digits as it has.
            if is_decimal(&types[other])
                && let Some((value, precision)) = whole_literal(&operands[one])
            {
                operands[one] = Expr::Literal(ScalarValue::Decimal128(Some(value), precision, 0), None);
                types[one] = DataType::Decimal128(precision, 0);
            }
        }
        let function = own(op.function()).map(Arc::clone);
        let Some(function) = function else { unreachable!("operators are functions of ours") };
        // Calendar literals are told apart before types are.
        for (operand, from) in operands.iter_mut().zip(&mut types) {
            if let Some(literal) = interval_literal(operand) {
                *from = literal.data_type();
                *operand = Expr::Literal(literal, None);
            }
        }
        let wanted = function.coerce_types(&types)?;
        for ((operand, from), to) in operands.iter_mut().zip(&types).zip(&wanted) {
            if from != to {
                *operand = self.implicit(std::mem::take(operand), to, schema)?;
            }
        }
        let [left, right] = operands;
        if let Some(native) = native(op, &wanted, self.ansi) {
            return Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), native, Box::new(right)))));
        }
        let resolved = format!("{}{WITH_CONTEXT}", op.function());
        Ok(Transformed::yes(call(&resolved, vec![left, right, self.context()])))
    }

    fn function_call(&self, name: &str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        let Some(function) = own(name) else { unreachable!("{name} is a function of ours") };
        Ok(self.scalar(ScalarFunction::new_udf(Arc::clone(function), args), schema)?.data)
    }

    fn scalar(&self, function: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let ScalarFunction { func, mut args } = function;
        if let Some(op) = Op::of(func.name())
            && args.len() == 2
        {
            let [left, right] = take(args);
            return self.arithmetic(op, left, right, schema);
        }
        let ours = func.inner().as_ref().downcast_ref::<Function>().is_some();
        if ours && let Some(expr) = special(func.name(), &args, schema).map_err(external)? {
            return Ok(Transformed::yes(self.rewrite(expr, schema)?.data));
        }
        let Some(own_function) = func.inner().as_ref().downcast_ref::<Function>() else {
            match (func.name(), args.as_slice()) {
                // It hashes what Java's BigInteger is made of.
                ("xxhash64", _) => {
                    for arg in &mut args {
                        if matches!(arg.get_type(schema), Ok(DataType::Decimal128(19.., _))) {
                            *arg = call("decimal_bytes", vec![std::mem::take(arg)]);
                        }
                    }
                }
                ("parse_url" | "try_parse_url", [url, Expr::Literal(part, _)])
                    if part.try_as_str() == Some(Some("HOST")) =>
                {
                    let url = url.clone();
                    let host = Expr::ScalarFunction(ScalarFunction { func, args });
                    return Ok(Transformed::yes(self.function_call("host_as_written", vec![url, host], schema)?));
                }
                _ => {}
            }
            return Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })));
        };
        if let Ok(types) = args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>() {
            let wanted = func.coerce_types(&types)?;
            // Text that is no number is no error where the function makes NULL of errors.
            let lenient = ["try_add", "try_subtract", "try_multiply", "try_divide", "try_mod"].contains(&func.name());
            for ((arg, from), to) in args.iter_mut().zip(&types).zip(&wanted) {
                *arg = match lenient && is_text(from) && to.is_numeric() {
                    true => self.cast_to(std::mem::take(arg), from, to.clone(), Mode::Try),
                    false => self.implicit(std::mem::take(arg), to, schema)?,
                };
            }
        }
        if own_function.wants_context() {
            args.push(self.context());
            return Ok(Transformed::yes(call(&format!("{}{WITH_CONTEXT}", func.name()), args)));
        }
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
    }

    /// Arguments as the aggregate takes them, and the aggregate as it is in this mode.
    fn aggregate(
        &self,
        function: Arc<AggregateUDF>,
        args: &mut Vec<Expr>,
        schema: &DFSchema,
    ) -> Result<Arc<AggregateUDF>> {
        // DataFusion's put nulls inside of them last.
        let by = match function.name() {
            "max" => own_aggregate("max_by"),
            "min" => own_aggregate("min_by"),
            _ => None,
        };
        if let (Some(by), [value]) = (by, args.as_slice())
            && matches!(value.get_type(schema), Ok(DataType::Struct(_) | DataType::List(_)))
        {
            args.push(value.clone());
            return Ok(by);
        }
        if functions::aggregates::is_own(&function)
            && let Ok(types) = args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()
        {
            let wanted = function.coerce_types(&types)?;
            for (arg, to) in args.iter_mut().zip(&wanted) {
                *arg = self.implicit(std::mem::take(arg), to, schema)?;
            }
        }
        let legacy = if self.ansi { None } else { functions::aggregates::legacy(function.name()) };
        Ok(legacy.unwrap_or(function))
    }

    /// Every input's columns as the common type of that column.
    fn union(&self, union: Union) -> Result<Transformed<LogicalPlan>> {
        let mut common: Option<Vec<DataType>> = None;
        for input in &union.inputs {
            let types = input.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
            common = match common {
                None => Some(types),
                Some(found) if found.len() == types.len() => {
                    let each = found.iter().zip(&types).map(|(one, other)| coercion::wider(one, other, self.ansi));
                    match each.collect() {
                        Some(found) => Some(found),
                        // DataFusion says what is wrong.
                        None => return Ok(Transformed::no(LogicalPlan::Union(union))),
                    }
                }
                Some(_) => return Ok(Transformed::no(LogicalPlan::Union(union))),
            };
        }
        let Some(common) = common else { return Ok(Transformed::no(LogicalPlan::Union(union))) };
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in union.inputs {
            let same = input.schema().fields().iter().zip(&common).all(|(field, to)| field.data_type() == to);
            if same {
                inputs.push(input);
                continue;
            }
            let columns = input.schema().columns();
            let columns = columns
                .into_iter()
                .zip(&common)
                .map(|(column, to)| {
                    let (relation, name) = (column.relation.clone(), column.name.clone());
                    let cast = self.implicit(Expr::Column(column), to, input.schema())?;
                    Ok(if matches!(cast, Expr::Column(_)) { cast } else { cast.alias_qualified(relation, name) })
                })
                .collect::<Result<Vec<_>>>()?;
            inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)));
        }
        Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
    }

    fn join(&self, mut join: Join) -> Result<Transformed<LogicalPlan>> {
        let mut changed = false;
        for (left, right) in &mut join.on {
            let (Ok(l), Ok(r)) = (left.get_type(join.left.schema()), right.get_type(join.right.schema())) else {
                continue;
            };
            if l == r || is_same_kind(&l, &r) {
                continue;
            }
            let Some(common) = coercion::compared(&l, &r, self.ansi) else { continue };
            *left = self.implicit(std::mem::take(left), &common, join.left.schema())?;
            *right = self.implicit(std::mem::take(right), &common, join.right.schema())?;
            changed = true;
        }
        let join = LogicalPlan::Join(join);
        Ok(if changed { Transformed::yes(join) } else { Transformed::no(join) })
    }
}

/// Types that DataFusion compares without a cast that could differ from Spark's.
fn is_same_kind(one: &DataType, other: &DataType) -> bool {
    is_text(one) && is_text(other)
        || coercion::is_binary(one) && coercion::is_binary(other)
        || one.is_integer() && other.is_integer()
        || is_fractional(one) && is_fractional(other)
}

/// DataFusion's operator, where it does what Spark's does. Of doubles it makes NaNs that have a sign, and sort first.
fn native(op: Op, types: &[DataType], ansi: bool) -> Option<Operator> {
    let operator = match op {
        Op::Add => Operator::Plus,
        Op::Subtract => Operator::Minus,
        Op::Multiply => Operator::Multiply,
        _ => return None,
    };
    let [left, right] = types else { return None };
    let same = match (as_decimal(left), as_decimal(right)) {
        (Some((p1, s1)), Some((p2, s2))) if is_decimal(left) && is_decimal(right) => {
            let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
            let digits = match op {
                Op::Multiply => p1 + p2 + 1,
                _ => (p1 - s1).max(p2 - s2) + s1.max(s2) + 1,
            };
            digits <= i32::from(coercion::PRECISION_MAX)
        }
        _ => !ansi && left == right && left.is_integer(),
    };
    same.then_some(operator)
}

/// A whole number that stands as such, and how many digits it has.
fn whole_literal(expr: &Expr) -> Option<(i128, u8)> {
    let value = match expr {
        Expr::Literal(ScalarValue::Int8(Some(n)), _) => i128::from(*n),
        Expr::Literal(ScalarValue::Int16(Some(n)), _) => i128::from(*n),
        Expr::Literal(ScalarValue::Int32(Some(n)), _) => i128::from(*n),
        Expr::Literal(ScalarValue::Int64(Some(n)), _) => i128::from(*n),
        _ => return None,
    };
    Some((value, value.unsigned_abs().to_string().len() as u8))
}

/// A cast of a whole literal to another whole type that holds it is that literal.
fn cast_literal(expr: &Expr, to: &DataType) -> Option<Expr> {
    let (value, _) = whole_literal(expr)?;
    let literal = match to {
        DataType::Int8 => ScalarValue::Int8(Some(i8::try_from(value).ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(i16::try_from(value).ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(i32::try_from(value).ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(i64::try_from(value).ok()?)),
        DataType::Float64 if value.unsigned_abs() <= 1 << 53 => ScalarValue::Float64(Some(value as f64)),
        _ => return None,
    };
    Some(Expr::Literal(literal, None))
}

/// DataFusion's interval literals are all of months, days and nanoseconds: Spark's are of months, or of days and time.
fn interval_literal(expr: &Expr) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = expr else { return None };
    if interval.months != 0 && interval.days == 0 && interval.nanoseconds == 0 {
        return Some(ScalarValue::IntervalYearMonth(Some(interval.months)));
    }
    None
}

fn take<const N: usize>(exprs: Vec<Expr>) -> [Expr; N] {
    exprs.try_into().unwrap_or_else(|_| unreachable!("as many as were put in"))
}

/// Whether a function is one of ours that the analyzer has not seen.
pub fn is_pending(function: &ScalarUDF) -> bool {
    function.inner().as_ref().downcast_ref::<Function>().is_some_and(Function::wants_context)
}
