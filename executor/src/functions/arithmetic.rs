//! Spark's `+ - * / % div`, their `try_` forms, and `pmod`: decimals of Spark's precision, errors on overflow and
//! division by zero in ANSI mode, dates and intervals.
//!
//! SQL and PySpark plan operators as these functions, which take operands of any types; the analyzer puts DataFusion's
//! own operators in their place wherever these do the same.

use super::cast::number;
use super::coercion::{self, as_decimal, decimal_result, is_decimal, is_text};
use super::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, Zone, civil_from_days, days_from_civil};
use super::ddl;
use super::interval_fields::{Fields, metadata, of_both};
use super::maths::one_nan;
use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::binary;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit,
    TimestampMicrosecondType, i256,
};
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::sync::Arc;

/// An operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `div`
    WholeDivide,
    /// `%`
    Remainder,
    /// `pmod`
    PositiveRemainder,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 7] =
        [Op::Add, Op::Subtract, Op::Multiply, Op::Divide, Op::WholeDivide, Op::Remainder, Op::PositiveRemainder];

    /// The function's name.
    pub fn function(self) -> &'static str {
        match self {
            Op::Add => "spark_add",
            Op::Subtract => "spark_subtract",
            Op::Multiply => "spark_multiply",
            Op::Divide => "spark_divide",
            Op::WholeDivide => "spark_div",
            Op::Remainder => "mod",
            Op::PositiveRemainder => "pmod",
        }
    }

    /// The operator of a function's name.
    pub fn of(function: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.function() == function)
    }

    fn sign(self) -> char {
        match self {
            Op::Add => '+',
            Op::Subtract => '-',
            Op::Multiply => '*',
            Op::Divide | Op::WholeDivide => '/',
            Op::Remainder | Op::PositiveRemainder => '%',
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Op::WholeDivide => "div",
            Op::PositiveRemainder => "pmod",
            Op::Add => "+",
            Op::Subtract => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Remainder => "%",
        }
    }
}

const TWO: &[Param] = &[Param::Any, Param::Any];

/// The functions.
pub fn functions() -> Vec<Function> {
    macro_rules! operator {
        ($op:expr) => {
            Function::new($op.function(), TWO, Returns::Of(|types| result($op, types)), |call| run($op, false, call))
                .coerced(|types| operands($op, types))
                .interval(|fields, _| match $op {
                    Op::Add | Op::Subtract => of_both(fields),
                    _ => None,
                })
                .with_context()
        };
        ($name:literal, $op:expr) => {
            Function::new($name, TWO, Returns::Of(|types| result($op, types)), |call| run($op, true, call))
                .coerced(|types| operands($op, types))
        };
    }
    vec![
        operator!(Op::Add),
        operator!(Op::Subtract),
        operator!(Op::Multiply),
        operator!(Op::Divide),
        operator!(Op::WholeDivide),
        operator!(Op::Remainder),
        operator!(Op::PositiveRemainder),
        operator!("try_add", Op::Add),
        operator!("try_subtract", Op::Subtract),
        operator!("try_multiply", Op::Multiply),
        operator!("try_divide", Op::Divide),
        operator!("try_mod", Op::Remainder),
        Function::new("negative", &[Param::Any], Returns::Arg(0), negative)
            .coerced(one_number)
            .interval(|fields, _| metadata(Fields::of(fields.first()?)))
            .with_context(),
        Function::new("positive", &[Param::Any], Returns::Arg(0), |call| Ok(Arc::clone(&call.args[0])))
            .coerced(one_number),
        Function::new("abs", &[Param::Any], Returns::Arg(0), abs).coerced(one_number).with_context(),
    ]
}

fn one_number(types: &[DataType]) -> Result<Vec<DataType>> {
    let [one] = types else {
        return invalid("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", format!("1 parameter is required, not {}", types.len()));
    };
    Ok(vec![match one {
        one if is_text(one) => DataType::Float64,
        DataType::Null => DataType::Float64,
        one if one.is_numeric() => one.clone(),
        one @ (DataType::Duration(_) | DataType::Interval(_)) => one.clone(),
        other => return Err(super::native::mismatch("-", 0, "\"NUMERIC\"", other)),
    }])
}

fn is_interval(one: &DataType) -> bool {
    matches!(one, DataType::Interval(_) | DataType::Duration(_))
}

/// The types that operands are cast to.
fn operands(op: Op, types: &[DataType]) -> Result<Vec<DataType>> {
    use DataType as T;
    let [left, right] = types else {
        return invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("`{}` requires 2 parameters but the actual number is {}", op.shown(), types.len()),
        );
    };
    let wrong = || {
        invalid(
            "DATATYPE_MISMATCH.BINARY_OP_WRONG_TYPE",
            format!(
                "the binary operator `{}` takes no (\"{}\" and \"{}\"): cast them to numbers",
                op.shown(),
                ddl::type_name(left),
                ddl::type_name(right)
            ),
        )
    };
    let time = |one: &T| matches!(one, T::Date32 | T::Timestamp(..));
    if is_interval(left) || is_interval(right) || time(left) || time(right) {
        return match operands_of_times(op, left, right) {
            Some(found) => Ok(found),
            None => wrong(),
        };
    }
    let Some(common) = coercion::arithmetic(left, right, true) else { return wrong() };
    Ok(match op {
        Op::Divide if is_decimal(&common) => decimal_operands(left, right),
        Op::Divide => vec![T::Float64, T::Float64],
        Op::WholeDivide if is_decimal(&common) => decimal_operands(left, right),
        Op::WholeDivide if common.is_integer() => vec![T::Int64, T::Int64],
        Op::WholeDivide => return wrong(),
        _ if is_decimal(&common) => decimal_operands(left, right),
        _ => vec![common.clone(), common],
    })
}

fn decimal_operands(left: &DataType, right: &DataType) -> Vec<DataType> {
    [left, right]
        .into_iter()
        .map(|one| match as_decimal(one) {
            Some((precision, scale)) => DataType::Decimal128(precision.min(coercion::PRECISION_MAX), scale),
            // NULL beside a decimal.
            None => DataType::Decimal128(1, 0),
        })
        .collect()
}

fn operands_of_times(op: Op, left: &DataType, right: &DataType) -> Option<Vec<DataType>> {
    use DataType as T;
    let time = |one: &T| matches!(one, T::Date32 | T::Timestamp(..));
    let keep = || Some(vec![left.clone(), right.clone()]);
    match (op, left, right) {
        (Op::Add | Op::Subtract, l, r) if is_interval(l) && is_interval(r) => (l == r).then(keep).flatten(),
        (Op::Add | Op::Subtract, l, r) if time(l) && is_interval(r) => keep(),
        (Op::Add, l, r) if is_interval(l) && time(r) => keep(),
        (Op::Add | Op::Subtract, l, r) if is_interval(l) && *r == T::Null => Some(vec![l.clone(), l.clone()]),
        (Op::Add | Op::Subtract, l, r) if is_text(l) && is_interval(r) => {
            let _ = l;
            Some(vec![ddl::timestamp(), r.clone()])
        }
        (Op::Add, l, r) if is_interval(l) && is_text(r) => Some(vec![l.clone(), ddl::timestamp()]),
        (Op::Add | Op::Subtract, T::Date32, r) if r.is_integer() || *r == T::Null => Some(vec![T::Date32, T::Int32]),
        (Op::Add, l, T::Date32) if l.is_integer() || *l == T::Null => Some(vec![T::Int32, T::Date32]),
        (Op::Subtract, T::Date32, T::Date32) => keep(),
        (Op::Subtract, T::Date32, r) if is_text(r) => Some(vec![T::Date32, T::Date32]),
        (Op::Subtract, l, T::Date32) if is_text(l) => Some(vec![T::Date32, T::Date32]),
        (Op::Subtract, l, r) if (time(l) || is_text(l)) && (time(r) || is_text(r)) => {
            let ntz = |one: &T| matches!(one, T::Timestamp(_, None));
            let common = if ntz(l) && ntz(r) { T::Timestamp(TimeUnit::Microsecond, None) } else { ddl::timestamp() };
            Some(vec![common.clone(), common])
        }
        (Op::Multiply | Op::Divide, l, r) if is_interval(l) && (r.is_numeric() || is_text(r)) => {
            Some(vec![l.clone(), if r.is_integer() { T::Int64 } else { T::Float64 }])
        }
        (Op::Multiply, l, r) if (l.is_numeric() || is_text(l)) && is_interval(r) => {
            Some(vec![if l.is_integer() { T::Int64 } else { T::Float64 }, r.clone()])
        }
        _ => None,
    }
}

/// The result's type, of operands that are cast already.
fn result(op: Op, types: &[DataType]) -> Result<DataType> {
    use DataType as T;
    let [left, right] = types else { return Err(external(Error::internal("an operator without operands"))) };
    let micros = || T::Duration(TimeUnit::Microsecond);
    Ok(match (op, left, right) {
        (Op::WholeDivide, ..) => T::Int64,
        (_, l, r) if is_decimal(l) && is_decimal(r) => {
            let (l, r) = (as_decimal(l).unwrap_or((38, 18)), as_decimal(r).unwrap_or((38, 18)));
            decimal_result(op.sign(), l, r)
        }
        (_, l, r) if is_interval(l) && is_interval(r) => l.clone(),
        (Op::Add | Op::Subtract, T::Date32, T::Int32) | (Op::Add, T::Int32, T::Date32) => T::Date32,
        (Op::Subtract, T::Date32, T::Date32) => micros(),
        (Op::Subtract, T::Timestamp(..), T::Timestamp(..)) => micros(),
        (_, T::Date32, T::Interval(IntervalUnit::YearMonth)) | (_, T::Interval(IntervalUnit::YearMonth), T::Date32) => {
            T::Date32
        }
        // A calendar interval is added to a date as days, as Spark does.
        (_, T::Date32, T::Interval(_)) | (_, T::Interval(_), T::Date32) => T::Date32,
        (_, T::Date32, T::Duration(_)) | (_, T::Duration(_), T::Date32) => ddl::timestamp(),
        (_, time @ T::Timestamp(..), _) | (_, _, time @ T::Timestamp(..)) => time.clone(),
        (_, interval, _) if is_interval(interval) => interval.clone(),
        (_, _, interval) if is_interval(interval) => interval.clone(),
        (_, left, _) => left.clone(),
    })
}

fn overflow(what: &str) -> datafusion::error::DataFusionError {
    external(Error::invalid(
        "ARITHMETIC_OVERFLOW",
        format!(
            "{what} overflow: use the try_ form of the function to have NULL instead, or set \"spark.sql.ansi.enabled\" \
             to \"false\""
        ),
    ))
}

fn by_zero(op: Op) -> datafusion::error::DataFusionError {
    match op {
        Op::Remainder | Op::PositiveRemainder => {
            external(Error::invalid("REMAINDER_BY_ZERO", "remainder by zero: use `try_mod` to have NULL instead"))
        }
        _ => external(Error::invalid(
            "DIVIDE_BY_ZERO",
            "division by zero: use `try_divide` to have NULL instead, or set \"spark.sql.ansi.enabled\" to \"false\"",
        )),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fail {
    Error,
    Null,
    Wrap,
}

fn run(op: Op, lenient: bool, call: &Call<'_>) -> Result<ArrayRef> {
    use DataType as T;
    let fail = match (lenient, call.context.ansi) {
        (true, _) => Fail::Null,
        (false, true) => Fail::Error,
        (false, false) => Fail::Wrap,
    };
    let (left, right) = (&call.args[0], &call.args[1]);
    if let Some(result) = plain_doubles(op, left, right)? {
        return Ok(result);
    }
    match (left.data_type(), right.data_type()) {
        (T::Int8, T::Int8) => whole::<Int8Type>(op, left, right, fail),
        (T::Int16, T::Int16) => whole::<Int16Type>(op, left, right, fail),
        (T::Int32, T::Int32) => whole::<Int32Type>(op, left, right, fail),
        (T::Int64, T::Int64) => whole::<Int64Type>(op, left, right, fail),
        (T::Float64, T::Float64) => {
            let (l, r) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
            Ok(Arc::new(pairs::<Float64Type, Float64Type, Float64Type>(l, r, |l, r| double(op, l, r, fail))?))
        }
        (T::Float32, T::Float32) => {
            let (l, r) = (left.as_primitive::<Float32Type>(), right.as_primitive::<Float32Type>());
            let rows = pairs::<Float32Type, Float32Type, Float32Type>(l, r, |l, r| {
                Ok(double(op, f64::from(l), f64::from(r), fail)?.map(|n| n as f32))
            })?;
            Ok(Arc::new(rows))
        }
        (T::Decimal128(..), T::Decimal128(..)) => decimals(op, left, right, call.return_type, fail),
        _ => times(op, left, right, call, fail),
    }
}

/// Sums, differences and products of DOUBLE, which cannot fail, many at a time.
fn plain_doubles(op: Op, left: &ArrayRef, right: &ArrayRef) -> Result<Option<ArrayRef>> {
    let (Some(l), Some(r)) = (left.as_primitive_opt::<Float64Type>(), right.as_primitive_opt::<Float64Type>()) else {
        return Ok(None);
    };
    let rows: Float64Array = match op {
        Op::Add => binary(l, r, |l, r| one_nan(l + r))?,
        Op::Subtract => binary(l, r, |l, r| one_nan(l - r))?,
        Op::Multiply => binary(l, r, |l, r| one_nan(l * r))?,
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(rows)))
}

fn pairs<L: ArrowPrimitiveType, R: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    left: &PrimitiveArray<L>,
    right: &PrimitiveArray<R>,
    mut f: impl FnMut(L::Native, R::Native) -> Result<Option<O::Native>>,
) -> Result<PrimitiveArray<O>> {
    left.iter()
        .zip(right.iter())
        .map(|pair| match pair {
            (Some(left), Some(right)) => f(left, right),
            _ => Ok(None),
        })
        .collect()
}

/// All rows at once; none when one has no value, which may be one that a null hides.
fn each<T: ArrowPrimitiveType>(
    left: &PrimitiveArray<T>,
    right: &PrimitiveArray<T>,
    value: impl Fn(T::Native, T::Native) -> Option<T::Native>,
) -> Option<PrimitiveArray<T>> {
    let mut rows = Vec::with_capacity(left.len());
    for (left, right) in left.values().iter().zip(right.values()) {
        rows.push(value(*left, *right)?);
    }
    Some(PrimitiveArray::new(rows.into(), NullBuffer::union(left.nulls(), right.nulls())))
}

fn whole<T>(op: Op, left: &ArrayRef, right: &ArrayRef, fail: Fail) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: num_ops::Whole,
{
    use num_ops::Whole;
    let (l, r) = (left.as_primitive::<T>(), right.as_primitive::<T>());
    let all = match op {
        Op::Add => each(l, r, T::Native::checked_add),
        Op::Subtract => each(l, r, T::Native::checked_sub),
        Op::Multiply => each(l, r, T::Native::checked_mul),
        _ => None,
    };
    if let Some(rows) = all {
        return Ok(Arc::new(rows));
    }
    let zero = T::Native::default();
    let narrow = size_of::<T::Native>() < 4;
    let failed = |wrapped: T::Native| match fail {
        Fail::Error if narrow => Err(external(Error::invalid(
            "BINARY_ARITHMETIC_OVERFLOW",
            format!("the operands of `{}` caused overflow: cast them to a wider type", op.shown()),
        ))),
        Fail::Error => Err(overflow(if size_of::<T::Native>() == 8 { "long" } else { "integer" })),
        Fail::Null => Ok(None),
        Fail::Wrap => Ok(Some(wrapped)),
    };
    let zero_divisor = || if fail == Fail::Error { Err(by_zero(op)) } else { Ok(None) };
    let rows = pairs::<T, T, T>(l, r, |l, r| {
        let (checked, wrapped) = match op {
            Op::Add => (l.checked_add(r), l.wrapping_add(r)),
            Op::Subtract => (l.checked_sub(r), l.wrapping_sub(r)),
            Op::Multiply => (l.checked_mul(r), l.wrapping_mul(r)),
            Op::Divide | Op::WholeDivide | Op::Remainder | Op::PositiveRemainder if r == zero => {
                return zero_divisor();
            }
            Op::Divide | Op::WholeDivide => (l.checked_div(r), l.wrapping_div(r)),
            Op::Remainder => (Some(l.wrapping_rem(r)), zero),
            Op::PositiveRemainder => {
                let rest = l.wrapping_rem(r);
                let positive = if rest < zero { rest.wrapping_add(r).wrapping_rem(r) } else { rest };
                (Some(positive), zero)
            }
        };
        match checked {
            Some(value) => Ok(Some(value)),
            None => failed(wrapped),
        }
    })?;
    Ok(Arc::new(rows))
}

/// What integers of every width can do.
mod num_ops {
    /// A whole number.
    pub trait Whole: Copy + PartialOrd + Default {
        fn checked_add(self, other: Self) -> Option<Self>;
        fn checked_sub(self, other: Self) -> Option<Self>;
        fn checked_mul(self, other: Self) -> Option<Self>;
        fn checked_div(self, other: Self) -> Option<Self>;
        fn wrapping_add(self, other: Self) -> Self;
        fn wrapping_sub(self, other: Self) -> Self;
        fn wrapping_mul(self, other: Self) -> Self;
        fn wrapping_div(self, other: Self) -> Self;
        fn wrapping_rem(self, other: Self) -> Self;
    }
    macro_rules! whole {
        ($($t:ty),*) => {$(
            impl Whole for $t {
                fn checked_add(self, other: Self) -> Option<Self> { <$t>::checked_add(self, other) }
                fn checked_sub(self, other: Self) -> Option<Self> { <$t>::checked_sub(self, other) }
                fn checked_mul(self, other: Self) -> Option<Self> { <$t>::checked_mul(self, other) }
                fn checked_div(self, other: Self) -> Option<Self> { <$t>::checked_div(self, other) }
                fn wrapping_add(self, other: Self) -> Self { <$t>::wrapping_add(self, other) }
                fn wrapping_sub(self, other: Self) -> Self { <$t>::wrapping_sub(self, other) }
                fn wrapping_mul(self, other: Self) -> Self { <$t>::wrapping_mul(self, other) }
                fn wrapping_div(self, other: Self) -> Self { <$t>::wrapping_div(self, other) }
                fn wrapping_rem(self, other: Self) -> Self { <$t>::wrapping_rem(self, other) }
            }
        )*};
    }
    whole!(i8, i16, i32, i64);
}

fn double(op: Op, l: f64, r: f64, fail: Fail) -> Result<Option<f64>> {
    let divides = matches!(op, Op::Divide | Op::WholeDivide | Op::Remainder | Op::PositiveRemainder);
    if divides && r == 0.0 {
        return if fail == Fail::Error { Err(by_zero(op)) } else { Ok(None) };
    }
    Ok(Some(one_nan(match op {
        Op::Add => l + r,
        Op::Subtract => l - r,
        Op::Multiply => l * r,
        Op::Divide | Op::WholeDivide => l / r,
        Op::Remainder => l % r,
        Op::PositiveRemainder => {
            let rest = l % r;
            if rest < 0.0 { (rest + r) % r } else { rest }
        }
    })))
}

fn decimals(op: Op, left: &ArrayRef, right: &ArrayRef, to: &DataType, fail: Fail) -> Result<ArrayRef> {
    let (_, s1) = as_decimal(left.data_type()).unwrap_or((38, 18));
    let (_, s2) = as_decimal(right.data_type()).unwrap_or((38, 18));
    let (l, r) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
    if op == Op::WholeDivide {
        let rows = l.iter().zip(r.iter()).map(|pair| {
            let (Some(l), Some(r)) = pair else { return Ok(None) };
            if r == 0 {
                return if fail == Fail::Error { Err(by_zero(op)) } else { Ok(None) };
            }
            let scale = s1.max(s2);
            let quotient = widened(l, s1, scale).wrapping_div(widened(r, s2, scale)).to_i128();
            match quotient.and_then(|n| i64::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None if fail == Fail::Error => Err(overflow("decimal")),
                None => Ok(None),
            }
        });
        return Ok(Arc::new(rows.collect::<Result<Int64Array>>()?));
    }
    let (precision, scale) = as_decimal(to).unwrap_or((38, 18));
    let narrow = Narrow::of(op, s1, s2, scale);
    let most = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
    if let Some(rows) = narrow.and_then(|narrow| narrow.rows(l, r, most)) {
        return Ok(Arc::new(rows.with_precision_and_scale(precision, scale)?));
    }
    let rows = l.iter().zip(r.iter()).map(|pair| {
        let (Some(l), Some(r)) = pair else { return Ok(None) };
        if let Some(value) = narrow.and_then(|narrow| narrow.value(l, r))
            && value.unsigned_abs() < most
        {
            return Ok(Some(value));
        }
        let divides = matches!(op, Op::Divide | Op::Remainder | Op::PositiveRemainder);
        if divides && r == 0 {
            return if fail == Fail::Error { Err(by_zero(op)) } else { Ok(None) };
        }
        let common = s1.max(s2);
        let value = match op {
            Op::Add => rounded(widened(l, s1, common).wrapping_add(widened(r, s2, common)), common, scale),
            Op::Subtract => rounded(widened(l, s1, common).wrapping_sub(widened(r, s2, common)), common, scale),
            Op::Multiply => rounded(i256::from_i128(l).wrapping_mul(i256::from_i128(r)), s1 + s2, scale),
            Op::Divide | Op::WholeDivide => quotient(l, s1, r, s2, scale),
            Op::Remainder | Op::PositiveRemainder => {
                let (l, r) = (widened(l, s1, common), widened(r, s2, common));
                let rest = l.wrapping_rem(r);
                let negative = rest < i256::ZERO;
                let rest = match op {
                    Op::PositiveRemainder if negative => rest.wrapping_add(r).wrapping_rem(r),
                    _ => rest,
                };
                rounded(rest, common, scale)
            }
        };
        match value.to_i128().filter(|n| number::fits(*n, precision)) {
            Some(n) => Ok(Some(n)),
            None if fail == Fail::Error => Err(number::out_of_range("the result", precision, scale)),
            None => Ok(None),
        }
    });
    let rows = rows.collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(rows.with_precision_and_scale(precision, scale)?))
}

/// Sums, differences and products in 128 bits, where these suffice: nearly always, and many times quicker than 256.
#[derive(Clone, Copy)]
struct Narrow {
    op: Op,
    /// What either operand is multiplied by first.
    factors: (i128, i128),
    /// What the result is divided by, rounded half up.
    divisor: i128,
}

impl Narrow {
    fn of(op: Op, s1: i8, s2: i8, scale: i8) -> Option<Self> {
        let power = |digits: i32| 10_i128.checked_pow(u32::try_from(digits).ok()?);
        let (s1, s2, scale) = (i32::from(s1), i32::from(s2), i32::from(scale));
        let common = s1.max(s2);
        let (factors, from) = match op {
            Op::Add | Op::Subtract => ((power(common - s1)?, power(common - s2)?), common),
            Op::Multiply => ((1, 1), s1 + s2),
            _ => return None,
        };
        Some(Self { op, factors, divisor: power(from - scale)? })
    }

    /// All rows at once, below `most`; none when one does not go so. What lies under nulls counts too.
    fn rows(self, l: &Decimal128Array, r: &Decimal128Array, most: u128) -> Option<Decimal128Array> {
        let fits = |value: &i128| value.unsigned_abs() < most;
        // Which it is is asked once, and not for each row.
        match self.op {
            Op::Multiply if self.divisor == 1 => each(l, r, |l, r| product(l, r).filter(fits)),
            Op::Add if self.divisor == 1 => {
                each(l, r, |l, r| product(l, self.factors.0)?.checked_add(product(r, self.factors.1)?).filter(fits))
            }
            Op::Subtract if self.divisor == 1 => {
                each(l, r, |l, r| product(l, self.factors.0)?.checked_sub(product(r, self.factors.1)?).filter(fits))
            }
            _ => each(l, r, |l, r| self.value(l, r).filter(fits)),
        }
    }

    fn value(self, l: i128, r: i128) -> Option<i128> {
        let value = match self.op {
            Op::Multiply => product(l, r)?,
            _ => {
                let (l, r) = (product(l, self.factors.0)?, product(r, self.factors.1)?);
                if self.op == Op::Add { l.checked_add(r)? } else { l.checked_sub(r)? }
            }
        };
        if self.divisor == 1 {
            return Some(value);
        }
        let (quotient, rest) = (value / self.divisor, value % self.divisor);
        // No overflow: a rest is below a power of ten that 128 bits hold twice, or there is none.
        let up = rest.unsigned_abs() * 2 >= self.divisor.unsigned_abs();
        Some(if up { quotient + value.signum() } else { quotient })
    }
}

/// Of numbers of 64 bits, which nearly all are, by one multiplication that cannot overflow.
fn product(l: i128, r: i128) -> Option<i128> {
    match (i64::try_from(l), i64::try_from(r)) {
        (Ok(l), Ok(r)) => Some(i128::from(l) * i128::from(r)),
        _ => l.checked_mul(r),
    }
}

fn power_of_ten(exponent: i32) -> i256 {
    (0..exponent).fold(i256::ONE, |power, _| power.wrapping_mul(i256::from_i128(10)))
}

fn widened(n: i128, from: i8, to: i8) -> i256 {
    i256::from_i128(n).wrapping_mul(power_of_ten(i32::from(to) - i32::from(from)))
}

/// Digits of one scale as digits of another, half up.
fn rounded(n: i256, from: i8, to: i8) -> i256 {
    let shift = i32::from(to) - i32::from(from);
    if shift >= 0 {
        return n.wrapping_mul(power_of_ten(shift));
    }
    half_up(n, power_of_ten(-shift))
}

fn half_up(n: i256, divisor: i256) -> i256 {
    let (quotient, rest) = (n.wrapping_div(divisor), n.wrapping_rem(divisor));
    let twice = rest.wrapping_abs().wrapping_mul(i256::from_i128(2));
    if twice < divisor.wrapping_abs() {
        return quotient;
    }
    let negative = (n < i256::ZERO) != (divisor < i256::ZERO);
    if negative { quotient.wrapping_sub(i256::ONE) } else { quotient.wrapping_add(i256::ONE) }
}

fn quotient(l: i128, s1: i8, r: i128, s2: i8, scale: i8) -> i256 {
    // l·10^-s1 / (r·10^-s2), in units of 10^-scale.
    let shift = i32::from(scale) + i32::from(s2) - i32::from(s1);
    let (mut l, mut r) = (i256::from_i128(l), i256::from_i128(r));
    if shift >= 0 {
        l = l.wrapping_mul(power_of_ten(shift));
    } else {
        r = r.wrapping_mul(power_of_ten(-shift));
    }
    half_up(l, r)
}

/// Months added to a date, to the last day of a shorter month.
pub fn add_months(days: i32, months: i32) -> Option<i32> {
    let (year, month, day) = civil_from_days(i64::from(days));
    let month = year * 12 + i64::from(month) - 1 + i64::from(months);
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, day.min(month_length(year, month)))
}

/// Days of a month.
pub fn month_length(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// An instant, moved by months and days on the calendar of a zone and then by microseconds.
pub fn add_interval(instant: i64, months: i32, days: i32, micros: i64, zone: &Zone) -> Option<i64> {
    if months == 0 && days == 0 {
        return instant.checked_add(micros);
    }
    let local = instant + i64::from(zone.offset_at(instant)) * MICROS_PER_SECOND;
    let date = i32::try_from(local.div_euclid(MICROS_PER_DAY)).ok()?;
    let date = add_months(date, months)?.checked_add(days)?;
    let local = i64::from(date).checked_mul(MICROS_PER_DAY)? + local.rem_euclid(MICROS_PER_DAY);
    zone.instant(local)?.checked_add(micros)
}

/// Months, days and microseconds of an interval of any kind.
fn interval_at(array: &ArrayRef, row: usize) -> Option<(i32, i32, i64)> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Interval(IntervalUnit::YearMonth) => {
            Some((array.as_primitive::<IntervalYearMonthType>().value(row), 0, 0))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let interval = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            Some((interval.months, interval.days, interval.nanoseconds / 1000))
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            // Whole days are days of the calendar, as long as they are.
            let micros = array.as_primitive::<DurationMicrosecondType>().value(row);
            Some((0, (micros / MICROS_PER_DAY) as i32, micros % MICROS_PER_DAY))
        }
        _ => None,
    }
}

fn times(op: Op, left: &ArrayRef, right: &ArrayRef, call: &Call<'_>, fail: Fail) -> Result<ArrayRef> {
    use DataType as T;
    let sign = if op == Op::Subtract { -1 } else { 1 };
    let checked = |value: Option<i64>, row: usize| -> Result<Option<i64>> {
        match value {
            None if left.is_valid(row) && right.is_valid(row) && fail == Fail::Error => Err(overflow("datetime")),
            value => Ok(value),
        }
    };
    let micros = |f: &dyn Fn(usize) -> Option<i64>| -> Result<Vec<Option<i64>>> {
        (0..call.rows).map(|row| checked(f(row), row)).collect()
    };
    match (left.data_type(), right.data_type()) {
        (T::Int32, T::Date32) => times(op, right, left, call, fail),
        (T::Date32, T::Int32) => {
            let (days, by) = (left.as_primitive::<Date32Type>(), right.as_primitive::<Int32Type>());
            let rows =
                pairs::<Date32Type, Int32Type, Date32Type>(days, by, |days, by| match days.checked_add(sign * by) {
                    None if fail == Fail::Error => Err(overflow("date")),
                    found => Ok(found),
                })?;
            Ok(Arc::new(rows))
        }
        (T::Date32, T::Date32) => {
            let (l, r) = (left.as_primitive::<Date32Type>(), right.as_primitive::<Date32Type>());
            Ok(Arc::new(pairs::<Date32Type, Date32Type, DurationMicrosecondType>(l, r, |l, r| {
                Ok(Some((i64::from(l) - i64::from(r)) * MICROS_PER_DAY))
            })?))
        }
        (T::Timestamp(..), T::Timestamp(..)) => {
            let l = left.as_primitive::<TimestampMicrosecondType>();
            let r = right.as_primitive::<TimestampMicrosecondType>();
            Ok(Arc::new(pairs::<_, _, DurationMicrosecondType>(l, r, |l, r| Ok(l.checked_sub(r)))?))
        }
        (l, T::Date32 | T::Timestamp(..)) if is_interval(l) => times(op, right, left, call, fail),
        (T::Date32, interval) if is_interval(interval) && *call.return_type == T::Date32 => {
            let days = left.as_primitive::<Date32Type>();
            let rows = micros(&|row| {
                let (months, by, micros) = interval_at(right, row)?;
                if days.is_null(row) {
                    return None;
                }
                let by = by + i32::try_from(micros / MICROS_PER_DAY).ok()?;
                let moved = add_months(days.value(row), sign * months)?.checked_add(sign * by)?;
                Some(i64::from(moved))
            })?;
            let rows = rows.into_iter().map(|row| row.map(|days| days as i32));
            Ok(Arc::new(rows.collect::<PrimitiveArray<Date32Type>>()))
        }
        (T::Date32 | T::Timestamp(..), interval) if is_interval(interval) => {
            let local = matches!(call.return_type, T::Timestamp(_, None));
            let zone = if local { Zone::UTC } else { call.context.zone };
            let options = super::cast::Options::of(&call.context);
            let instants = super::cast::cast(left, call.return_type, &options)?;
            let instants = instants.as_primitive::<TimestampMicrosecondType>();
            let rows = micros(&|row| {
                let (months, days, micros) = interval_at(right, row)?;
                if instants.is_null(row) {
                    return None;
                }
                add_interval(instants.value(row), sign * months, sign * days, i64::from(sign) * micros, &zone)
            })?;
            let rows = rows.into_iter().collect::<PrimitiveArray<TimestampMicrosecondType>>();
            Ok(Arc::new(rows.with_data_type(call.return_type.clone())))
        }
        (T::Duration(_), T::Duration(_)) => {
            let l = left.as_primitive::<DurationMicrosecondType>();
            let r = right.as_primitive::<DurationMicrosecondType>();
            let rows = micros(&|row| {
                (l.is_valid(row) && r.is_valid(row))
                    .then(|| l.value(row).checked_add(i64::from(sign) * r.value(row)))?
            })?;
            Ok(Arc::new(rows.into_iter().collect::<PrimitiveArray<DurationMicrosecondType>>()))
        }
        (T::Interval(IntervalUnit::YearMonth), T::Interval(IntervalUnit::YearMonth)) => {
            let l = left.as_primitive::<IntervalYearMonthType>();
            let r = right.as_primitive::<IntervalYearMonthType>();
            Ok(Arc::new(pairs::<_, _, IntervalYearMonthType>(l, r, |l, r| Ok(l.checked_add(sign * r)))?))
        }
        (number, interval) if number.is_numeric() && is_interval(interval) => scaled(op, right, left, fail),
        (interval, number) if is_interval(interval) && number.is_numeric() => scaled(op, left, right, fail),
        (l, r) => Err(external(Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!("`{}` of {} and {} is not supported", op.shown(), ddl::type_name(l), ddl::type_name(r)),
        ))),
    }
}

/// An interval times or by a number.
fn scaled(op: Op, interval: &ArrayRef, by: &ArrayRef, fail: Fail) -> Result<ArrayRef> {
    let by = arrow::compute::cast(by, &DataType::Float64)?;
    let by: &Float64Array = by.as_primitive();
    let times = |value: f64, by: f64| -> Result<Option<f64>> {
        if op == Op::Divide && by == 0.0 {
            return if fail == Fail::Error {
                Err(external(Error::invalid("INTERVAL_DIVIDED_BY_ZERO", "division of an interval by zero")))
            } else {
                Ok(None)
            };
        }
        Ok(Some(if op == Op::Divide { value / by } else { value * by }))
    };
    match interval.data_type() {
        DataType::Duration(_) => {
            let interval = interval.as_primitive::<DurationMicrosecondType>();
            Ok(Arc::new(pairs::<_, Float64Type, DurationMicrosecondType>(interval, by, |interval, by| {
                Ok(times(interval as f64, by)?.map(|n| n.round() as i64))
            })?))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let interval = interval.as_primitive::<IntervalYearMonthType>();
            Ok(Arc::new(pairs::<_, Float64Type, IntervalYearMonthType>(interval, by, |interval, by| {
                Ok(times(f64::from(interval), by)?.map(|n| n.round() as i32))
            })?))
        }
        other => Err(external(Error::invalid("UNSUPPORTED_FEATURE", format!("`{}` of {other}", op.shown())))),
    }
}

fn negative(call: &Call<'_>) -> Result<ArrayRef> {
    use DataType as T;
    let array = &call.args[0];
    let ansi = call.context.ansi;
    macro_rules! whole {
        ($t:ty) => {
            Arc::new(array.as_primitive::<$t>().try_unary::<_, $t, datafusion::error::DataFusionError>(|n| {
                match n.checked_neg() {
                    None if ansi => Err(overflow("integer")),
                    _ => Ok(n.wrapping_neg()),
                }
            })?) as ArrayRef
        };
    }
    Ok(match array.data_type() {
        T::Int8 => whole!(Int8Type),
        T::Int16 => whole!(Int16Type),
        T::Int32 => whole!(Int32Type),
        T::Int64 => whole!(Int64Type),
        T::Interval(IntervalUnit::YearMonth) => whole!(IntervalYearMonthType),
        T::Duration(TimeUnit::Microsecond) => whole!(DurationMicrosecondType),
        T::Float32 => Arc::new(
            array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|n| if n.is_nan() { f32::NAN } else { -n }),
        ),
        T::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|n| one_nan(-n))),
        _ => arrow::compute::kernels::numeric::neg_wrapping(array)?,
    })
}

fn abs(call: &Call<'_>) -> Result<ArrayRef> {
    use DataType as T;
    let array = &call.args[0];
    let ansi = call.context.ansi;
    macro_rules! whole {
        ($t:ty) => {
            Arc::new(array.as_primitive::<$t>().try_unary::<_, $t, datafusion::error::DataFusionError>(|n| {
                match n.checked_abs() {
                    None if ansi => Err(overflow("integer")),
                    _ => Ok(n.wrapping_abs()),
                }
            })?) as ArrayRef
        };
    }
    Ok(match array.data_type() {
        T::Int8 => whole!(Int8Type),
        T::Int16 => whole!(Int16Type),
        T::Int32 => whole!(Int32Type),
        T::Int64 => whole!(Int64Type),
        T::Interval(IntervalUnit::YearMonth) => whole!(IntervalYearMonthType),
        T::Duration(TimeUnit::Microsecond) => whole!(DurationMicrosecondType),
        T::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::abs)),
        T::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::abs)),
        T::Decimal128(precision, scale) => {
            let digits = array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(i128::abs);
            Arc::new(digits.with_precision_and_scale(*precision, *scale)?)
        }
        other => return Err(super::native::mismatch("abs", 0, "\"NUMERIC\"", other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In 128 bits the digits are those that 256 bits come to.
    #[test]
    fn many_decimals_are_single_ones() {
        let numbers: Vec<i128> = (0..400_i128)
            .map(|n| match n % 8 {
                0 => i128::from(i64::MAX) + n,
                1 => -n * 1_000_003,
                2 => 10_i128.pow(18) - n,
                _ => n * 37 - 5_000,
            })
            .collect();
        let l = Decimal128Array::from_iter(numbers.iter().enumerate().map(|(at, n)| (at % 11 != 0).then_some(*n)));
        let r = Decimal128Array::from_iter(numbers.iter().rev().map(|n| (n % 13 != 0).then_some(*n)));
        for op in [Op::Add, Op::Subtract, Op::Multiply] {
            for (s1, s2, scale) in [(2, 2, 2), (2, 4, 4), (4, 2, 6), (6, 6, 8), (0, 3, 3)] {
                let Some(narrow) = Narrow::of(op, s1, s2, scale) else { continue };
                let rows = narrow.rows(&l, &r, u128::MAX).expect("all fit");
                for at in 0..l.len() {
                    let both = l.is_valid(at) && r.is_valid(at);
                    assert_eq!(rows.is_valid(at), both);
                    if both {
                        assert_eq!(Some(rows.value(at)), narrow.value(l.value(at), r.value(at)), "{op:?} {at}");
                    }
                }
                assert!(narrow.rows(&l, &r, 1_000).is_none(), "one has too many digits");
            }
        }
        let most = Decimal128Array::from(vec![i128::MAX, 1]);
        assert!(Narrow::of(Op::Multiply, 0, 0, 0).expect("fits").rows(&most, &most, u128::MAX).is_none());
    }

    #[test]
    fn narrow_decimals_are_wide_ones() {
        let digits = [0, 1, -1, 5, -5, 49, 50, 51, -50, 12_345, -99_999, 10_i128.pow(18) + 5, i128::MAX / 3, i128::MIN];
        for (s1, s2, scale) in [(2, 2, 4), (4, 2, 6), (4, 4, 6), (6, 6, 6), (10, 0, 6), (0, 3, 3), (18, 18, 30)] {
            for op in [Op::Add, Op::Subtract, Op::Multiply] {
                let from = if op == Op::Multiply { s1 + s2 } else { s1.max(s2) };
                let scale = scale.min(from);
                let narrow = Narrow::of(op, s1, s2, scale).expect("these operators have one");
                for (l, r) in digits.into_iter().flat_map(|l| digits.map(|r| (l, r))) {
                    let common = s1.max(s2);
                    let (wide_l, wide_r) = (widened(l, s1, common), widened(r, s2, common));
                    let wide = match op {
                        Op::Add => rounded(wide_l.wrapping_add(wide_r), common, scale),
                        Op::Subtract => rounded(wide_l.wrapping_sub(wide_r), common, scale),
                        _ => rounded(i256::from_i128(l).wrapping_mul(i256::from_i128(r)), s1 + s2, scale),
                    };
                    if let Some(value) = narrow.value(l, r) {
                        assert_eq!(i256::from_i128(value), wide, "{l} {op:?} {r}: {s1}, {s2} to {scale}");
                    }
                }
            }
        }
    }

    /// Processors make some NaNs with a sign, which would sort below every number.
    #[test]
    fn a_nan_has_no_sign() {
        let infinite = std::hint::black_box(f64::INFINITY);
        for (op, l, r) in
            [(Op::Subtract, infinite, infinite), (Op::Add, infinite, -infinite), (Op::Multiply, 0.0, infinite)]
        {
            let left: ArrayRef = Arc::new(Float64Array::from(vec![Some(l), None, Some(1.0)]));
            let right: ArrayRef = Arc::new(Float64Array::from(vec![Some(r), Some(1.0), Some(1.0)]));
            let rows = plain_doubles(op, &left, &right).expect("computed").expect("of doubles");
            let rows = rows.as_primitive::<Float64Type>();
            assert!(
                rows.value(0).is_nan() && rows.value(0).is_sign_positive() && rows.is_null(1) && rows.value(2) < 3.0
            );
        }
        let rest = double(Op::Remainder, infinite, 2.0, Fail::Error).expect("a rest").expect("is no null");
        assert!(rest.is_nan() && rest.is_sign_positive());
    }
}
