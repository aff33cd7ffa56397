//! Spark's functions by name, for SQL and PySpark alike: [`resolve`] makes a call, [`binary`] an operator.
//!
//! What is made here is not final: operands have the types that they have, and the analyzer
//! ([`SparkSemantics`](super::semantics::SparkSemantics)) casts them and puts in what the session says.

use super::error::from_datafusion;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, Cast, NullTreatment, ScalarFunction, TryCast, WindowFunction,
};
use datafusion::logical_expr::{
    Expr, ExprSchemable, ScalarUDF, WindowFunctionDefinition, lit, when,
};
use headwater_executor::functions::arithmetic::Op;
use headwater_executor::functions::{self, ddl};
use headwater_proto::error::{Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Our functions by name.
static OWN: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let mut own = HashMap::new();
    for function in functions::all() {
        for alias in function.aliases() {
            own.insert(alias.clone(), Arc::clone(&function));
        }
        own.insert(function.name().to_string(), function);
    }
    own
});

/// A function of ours.
pub fn own(name: &str) -> Option<&'static Arc<ScalarUDF>> {
    OWN.get(name)
}

/// A call of a function of ours, which must be there.
pub fn call(name: &str, args: Vec<Expr>) -> Expr {
    let function = own(name).unwrap_or_else(|| panic!("{name} is a function of ours"));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), args))
}

/// `left op right`, before the analyzer gives it types.
pub fn binary(op: Op, left: Expr, right: Expr) -> Expr {
    call(op.function(), vec![left, right])
}

/// Functions that are casts: `int('7')`.
fn cast_function(name: &str) -> Option<DataType> {
    Some(match name {
        "boolean" => DataType::Boolean,
        "tinyint" => DataType::Int8,
        "smallint" => DataType::Int16,
        "int" => DataType::Int32,
        "bigint" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "decimal" => DataType::Decimal128(10, 0),
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => ddl::timestamp(),
        _ => return None,
    })
}

/// Spark's names of functions that DataFusion has under another.
pub fn renamed(name: &str) -> &str {
    match name {
        "first" | "any_value" => "first_value",
        "last" => "last_value",
        "every" | "bool_and" => "bool_and",
        "some" | "any" | "bool_or" => "bool_or",
        "std" | "stddev_samp" => "stddev",
        "var_samp" | "variance" => "var",
        "approx_count_distinct" => "approx_distinct",
        "array_agg" => "collect_list",
        "string_agg" => "listagg",
        "percentile_approx" => "approx_percentile",
        other => other,
    }
}

/// A call of a function by Spark's name.
///
/// # Errors
/// `UNRESOLVED_ROUTINE`; `WRONG_NUM_ARGS`; `DISTINCT` where it has no meaning.
pub fn resolve(
    name: &str,
    args: Vec<Expr>,
    distinct: bool,
    schema: &DFSchema,
    state: &SessionState,
) -> Result<Expr> {
    let lower = name.to_ascii_lowercase();
    if let Some(expr) = special(&lower, &args, schema)? {
        return Ok(expr);
    }
    let scalar = || {
        let known = own(&lower).cloned().or_else(|| state.udf(&lower).ok());
        known.filter(|_| !AGGREGATES_FIRST.contains(&lower.as_str()))
    };
    if let Some(function) = scalar() {
        if distinct {
            return Err(Error::invalid(
                "INVALID_SQL_SYNTAX.FUNCTION_WITH_UNSUPPORTED_SYNTAX",
                format!("the function `{lower}` does not support DISTINCT"),
            ));
        }
        return Ok(Expr::ScalarFunction(ScalarFunction::new_udf(function, args)));
    }
    let (args, null_treatment) = ignoring_nulls(&lower, args)?;
    if let Ok(function) = state.udaf(renamed(&lower)).or_else(|_| state.udaf(&lower)) {
        return Ok(Expr::AggregateFunction(AggregateFunction {
            func: function,
            params: AggregateFunctionParams { args, distinct, filter: None, order_by: vec![], null_treatment },
        }));
    }
    if let Ok(function) = state.udwf(&lower) {
        return Ok(Expr::WindowFunction(Box::new(WindowFunction::new(
            WindowFunctionDefinition::WindowUDF(function),
            args,
        ))));
    }
    Err(unresolved(name, state))
}

/// Names that are an aggregate in Spark and a scalar function in DataFusion.
const AGGREGATES_FIRST: &[&str] = &["any", "some", "every"];

fn unresolved(name: &str, state: &SessionState) -> Error {
    let known = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
    let near = known
        .map(|known| (datafusion::common::utils::datafusion_strsim::levenshtein(known, &name.to_lowercase()), known))
        .min();
    let hint = match near {
        Some((distance, known)) if distance <= 2 => format!(": did you mean `{known}`"),
        _ => String::new(),
    };
    Error::invalid("UNRESOLVED_ROUTINE", format!("cannot resolve routine `{name}`{hint}"))
}

/// `first(x, true)` is `first(x) IGNORE NULLS`.
fn ignoring_nulls(name: &str, mut args: Vec<Expr>) -> Result<(Vec<Expr>, Option<NullTreatment>)> {
    if !matches!(name, "first" | "last" | "any_value" | "first_value" | "last_value") || args.len() != 2 {
        return Ok((args, None));
    }
    match args.pop() {
        Some(Expr::Literal(ScalarValue::Boolean(Some(ignore)), _)) => {
            Ok((args, ignore.then_some(NullTreatment::IgnoreNulls)))
        }
        _ => Err(Error::invalid(
            "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
            format!("the second argument of `{name}` says whether nulls are ignored, as a BOOLEAN literal"),
        )),
    }
}

/// Functions that are other expressions.
fn special(name: &str, args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
    let some = |expr: Expr| Ok(Some(expr));
    let wrong = |expect: &str| {
        Err(Error::invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("the `{name}` requires {expect} parameters but the actual number is {}", args.len()),
        ))
    };
    if let Some(data_type) = cast_function(name) {
        let [value] = args else { return wrong("1") };
        return some(Expr::Cast(Cast::new(Box::new(value.clone()), data_type)));
    }
    match (name, args) {
        ("if", [condition, yes, no]) => {
            some(when(condition.clone(), yes.clone()).otherwise(no.clone()).map_err(from_datafusion)?)
        }
        ("if", _) => wrong("3"),
        ("nvl2", [test, yes, no]) => {
            some(when(test.clone().is_not_null(), yes.clone()).otherwise(no.clone()).map_err(from_datafusion)?)
        }
        ("isnull", [value]) => some(value.clone().is_null()),
        ("isnotnull", [value]) => some(value.clone().is_not_null()),
        ("nullifzero", [value]) => {
            let zero = Expr::Literal(ScalarValue::Int32(Some(0)), None);
            let null = Expr::Literal(ScalarValue::Null, None);
            some(when(value.clone().eq(zero), null).otherwise(value.clone()).map_err(from_datafusion)?)
        }
        ("zeroifnull", [value]) => {
            let zero = Expr::Literal(ScalarValue::Int32(Some(0)), None);
            some(when(value.clone().is_null(), zero).otherwise(value.clone()).map_err(from_datafusion)?)
        }
        ("equal_null", [left, right]) => some(is_not_distinct(left.clone(), right.clone())),
        ("typeof", [value]) => {
            let data_type = value.get_type(schema).map_err(from_datafusion)?;
            some(lit(ddl::simple_name(&data_type)))
        }
        ("count_if", [condition]) => {
            let one = Expr::Literal(ScalarValue::Int64(Some(1)), None);
            let counted = when(condition.clone(), one).end().map_err(from_datafusion)?;
            some(datafusion::functions_aggregate::expr_fn::count(counted))
        }
        ("decode", args) if args.len() >= 3 => {
            let (value, rest) = (&args[0], &args[1..]);
            let mut pairs = rest.chunks_exact(2);
            let mut cases = vec![];
            for pair in pairs.by_ref() {
                cases.push((is_not_distinct(value.clone(), pair[0].clone()), pair[1].clone()));
            }
            let otherwise = pairs.remainder().first().cloned();
            some(Expr::Case(datafusion::logical_expr::expr::Case::new(
                None,
                cases.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect(),
                otherwise.map(Box::new),
            )))
        }
        ("try_cast", _) => wrong("AS and a type after its"),
        _ => Ok(None),
    }
}

fn is_not_distinct(left: Expr, right: Expr) -> Expr {
    Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(
        Box::new(left),
        datafusion::logical_expr::Operator::IsNotDistinctFrom,
        Box::new(right),
    ))
}

/// `TRY_CAST`.
pub fn try_cast(value: Expr, data_type: DataType) -> Expr {
    Expr::TryCast(TryCast::new(Box::new(value), data_type))
}
