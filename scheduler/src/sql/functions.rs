//! Spark's functions by name, for SQL and PySpark alike: [`resolve`] makes a call, [`binary`] an operator.
//!
//! What is made here is not final: operands have the types that they have, and the analyzer
//! ([`SparkSemantics`](super::semantics::SparkSemantics)) casts them and puts in what the session says.

use super::error::from_datafusion;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{
    AggregateFunction, AggregateFunctionParams, Case, Cast, HigherOrderFunction, NullTreatment, ScalarFunction,
    TryCast, WindowFunction,
};
use datafusion::logical_expr::{AggregateUDF, Expr, ExprSchemable, ScalarUDF, WindowFunctionDefinition, lit, when};
use headwater_executor::functions::arithmetic::Op;
use headwater_executor::functions::interval_fields::Fields;
use headwater_executor::functions::{self, coercion, ddl};
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

/// An aggregate of ours that is not made of another's.
pub fn own_aggregate(name: &str) -> Option<Arc<AggregateUDF>> {
    static OWN: LazyLock<HashMap<String, Arc<AggregateUDF>>> = LazyLock::new(|| {
        functions::aggregates::all(&[]).into_iter().map(|function| (function.name().to_string(), function)).collect()
    });
    OWN.get(name).cloned()
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
    functions::rewritten::CASTS.iter().find(|(known, _)| *known == name).map(|(_, make)| make())
}

/// Spark's names of functions that DataFusion has under another.
pub fn renamed(name: &str) -> &str {
    match name {
        "listagg" => "string_agg",
        other => other,
    }
}

/// The name of the aggregate that an aggregate of Spark is written with.
pub fn respelled(name: &str) -> &str {
    match name {
        "count_if" => "count",
        other => renamed(other),
    }
}

/// Names that Spark lists as functions and that are operators or syntax.
pub fn is_syntax(name: &str) -> bool {
    let symbol = !name.bytes().any(|b| b.is_ascii_alphanumeric());
    symbol
        || matches!(
            name,
            "and" | "or" | "not" | "in" | "between" | "case" | "when" | "div" | "like" | "ilike" | "cast" | "try_cast"
        )
}

/// Functions that have a meaning in streams alone.
pub const STREAMING_ONLY: &[&str] = &[];

/// The schema that `schema_of_json('…')` and `schema_of_csv('…')` say, as the argument of `from_json` and `from_csv`, which
/// must be known when they are planned. None of another function.
pub fn example_schema(function: &str, example: &str) -> Option<Result<String>> {
    let schema = match function.to_ascii_lowercase().as_str() {
        "schema_of_json" => functions::paths::schema_of(example),
        "schema_of_csv" => functions::csv::schema_of(example),
        _ => return None,
    };
    Some(schema.map_err(from_datafusion))
}

/// A call of a function by Spark's name.
///
/// # Errors
/// `UNRESOLVED_ROUTINE`; `WRONG_NUM_ARGS`; `DISTINCT` where it has no meaning.
pub fn resolve(name: &str, args: Vec<Expr>, distinct: bool, schema: &DFSchema, state: &SessionState) -> Result<Expr> {
    let lower = name.to_ascii_lowercase();
    if let Some(expr) = special(&lower, &args, schema)? {
        return Ok(expr);
    }
    // What is trimmed comes first; a schema by example is a literal.
    let args = match (lower.as_str(), args) {
        ("from_json" | "from_csv", mut args) => {
            if let Some(Expr::ScalarFunction(function)) = args.get(1)
                && let [Expr::Literal(example, _)] = function.args.as_slice()
                && let Some(Some(example)) = example.try_as_str()
                && let Some(schema) = example_schema(function.func.name(), example)
            {
                args[1] = lit(schema?);
            }
            args
        }
        ("ltrim" | "rtrim", mut args) if args.len() == 2 => {
            args.swap(0, 1);
            args
        }
        (_, args) => args,
    };
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
    // One that takes a lambda, without it: `array_sort(a)`.
    if let Some(function) = state.higher_order_functions().get(&lower)
        && !distinct
    {
        return Ok(Expr::HigherOrderFunction(HigherOrderFunction::new(Arc::clone(function), args)));
    }
    let (mut args, null_treatment) = ignoring_nulls(&lower, args)?;
    if matches!(lower.as_str(), "listagg" | "string_agg") && args.len() == 1 {
        args.push(lit(""));
    }
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

fn distance(known: &str, name: &str) -> usize {
    datafusion::common::utils::datafusion_strsim::levenshtein(known, &name.to_lowercase())
}

/// Whether a name may be meant by another: two letters apart.
pub fn is_near(name: &str, known: &str) -> bool {
    distance(known, name) <= 2
}

fn unresolved(name: &str, state: &SessionState) -> Error {
    let known = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
    let nearest = known.map(|known| (distance(known, name), known)).min();
    let hint = match nearest {
        Some((_, known)) if is_near(name, known) => format!(": did you mean `{known}`"),
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
///
/// # Errors
/// A wrong number of arguments.
pub fn special(name: &str, args: &[Expr], schema: &DFSchema) -> Result<Option<Expr>> {
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
    let now = || {
        let function = datafusion::functions::datetime::now(&ConfigOptions::default());
        let now = Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![]));
        Expr::Cast(Cast::new(Box::new(now), ddl::timestamp()))
    };
    let as_type = |value: Expr, data_type: DataType| Expr::Cast(Cast::new(Box::new(value), data_type));
    match (name, args) {
        ("now" | "current_timestamp", []) => some(now()),
        ("current_date" | "curdate", []) => some(as_type(now(), DataType::Date32)),
        ("localtimestamp", []) => some(as_type(now(), DataType::Timestamp(TimeUnit::Microsecond, None))),
        ("current_user" | "user" | "session_user", []) => some(lit(current_user())),
        ("uniform", [low, high, seed @ ..]) if seed.len() <= 1 => {
            let types = [low, high].map(|bound| bound.get_type(schema));
            let [Ok(one), Ok(other)] = types else { return Ok(None) };
            let common = match (one == DataType::Null || other == DataType::Null, coercion::common([&one, &other])) {
                (false, Some(common)) => common,
                _ => DataType::Float64,
            };
            let (low, high) = (as_type(low.clone(), DataType::Float64), as_type(high.clone(), DataType::Float64));
            let share = binary(Op::Multiply, binary(Op::Subtract, high, low.clone()), call("rand", seed.to_vec()));
            some(as_type(binary(Op::Add, low, share), common))
        }
        ("unix_timestamp", []) => some(call("unix_timestamp", vec![now()])),
        ("if", [condition, yes, no]) => some(either(condition.clone(), yes.clone(), no.clone())),
        ("if", _) => wrong("3"),
        ("nvl2", [test, yes, no]) => some(either(test.clone().is_not_null(), yes.clone(), no.clone())),
        ("isnull", [value]) => some(value.clone().is_null()),
        ("isnotnull", [value]) => some(value.clone().is_not_null()),
        ("nullifzero", [value]) => {
            let zero = Expr::Literal(ScalarValue::Int32(Some(0)), None);
            let null = Expr::Literal(ScalarValue::Null, None);
            some(either(value.clone().eq(zero), null, value.clone()))
        }
        ("zeroifnull", [value]) => {
            let zero = Expr::Literal(ScalarValue::Int32(Some(0)), None);
            some(either(value.clone().is_null(), zero, value.clone()))
        }
        ("equal_null", [left, right]) => some(is_not_distinct(left.clone(), right.clone())),
        ("typeof", [value]) => {
            let (_, field) = value.to_field(schema).map_err(from_datafusion)?;
            some(lit(match Fields::of(&field) {
                Some(fields) => format!("interval {}", fields.name().to_lowercase()),
                None => ddl::simple_name(field.data_type()),
            }))
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
            some(Expr::Case(Case::new(
                None,
                cases.into_iter().map(|(when, then)| (Box::new(when), Box::new(then))).collect(),
                otherwise.map(Box::new),
            )))
        }
        ("coalesce" | "nvl" | "ifnull", []) => wrong("at least 1"),
        ("coalesce" | "nvl" | "ifnull", [one]) => some(one.clone()),
        ("coalesce" | "nvl" | "ifnull", [all @ .., last]) => {
            let pairs = all.iter().map(|one| (Box::new(one.clone().is_not_null()), Box::new(one.clone())));
            some(Expr::Case(Case::new(None, pairs.collect(), Some(Box::new(last.clone())))))
        }
        ("nullif", [one, other]) => {
            let null = Expr::Literal(ScalarValue::Null, None);
            let pair = (Box::new(one.clone().eq(other.clone())), Box::new(null));
            some(Expr::Case(Case::new(None, vec![pair], Some(Box::new(one.clone())))))
        }
        _ => Ok(None),
    }
}

/// A CASE whose branches have the types that they have: DataFusion's builder would refuse different ones.
fn either(condition: Expr, yes: Expr, no: Expr) -> Expr {
    Expr::Case(Case::new(None, vec![(Box::new(condition), Box::new(yes))], Some(Box::new(no))))
}

/// The user that this process runs as, under the name that Spark would take.
fn current_user() -> String {
    let named = ["SPARK_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).or_else(owner).unwrap_or_else(|| "unknown".into())
}

/// The name of this process's owner, where the environment has none.
fn owner() -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let id = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let known = std::fs::read_to_string("/etc/passwd").ok()?;
    known.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&id.as_str())).then(|| fields[0].to_string())
    })
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
