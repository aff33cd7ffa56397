//! Functions of numbers.

use super::cast::number::rescale;
use super::coercion::{PRECISION_MAX, as_decimal, is_decimal, is_fractional};
use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use headwater_proto::error::Error;

use Param::{Any, Common, Double, Int, Long, Number, Text};

const DOUBLE: Returns = Returns::Type(|| DataType::Float64);
const INT: Returns = Returns::Type(|| DataType::Int32);
const LONG: Returns = Returns::Type(|| DataType::Int64);
const TEXT: Returns = Returns::Type(|| DataType::Utf8);
const SAME: Returns = Returns::Arg(0);

/// The functions.
pub fn functions() -> Vec<Function> {
    macro_rules! double {
        ($name:literal, two $f:expr) => {
            Function::new($name, &[Double, Double], DOUBLE, |call| {
                call.rows::<Float64Type>(|i| Ok(Some(one_nan($f(call.doubles(0).value(i), call.doubles(1).value(i))))))
            })
        };
        ($name:literal, $f:expr) => {
            Function::new($name, &[Double], DOUBLE, |call| {
                call.rows::<Float64Type>(|i| Ok(Some(one_nan($f(call.doubles(0).value(i))))))
            })
        };
    }
    // A logarithm of what has none is NULL.
    let positive = |name: &str, run: super::native::Run| Function::new(name, &[Double], DOUBLE, run);
    macro_rules! logarithm {
        ($name:literal, $f:expr) => {
            positive($name, |call| {
                call.rows::<Float64Type>(|i| {
                    let x = call.doubles(0).value(i);
                    Ok((!(x <= 0.0)).then(|| $f(x)))
                })
            })
        };
    }
    vec![
        double!("sqrt", f64::sqrt),
        double!("cbrt", f64::cbrt),
        double!("exp", f64::exp),
        double!("expm1", f64::exp_m1),
        logarithm!("ln", f64::ln),
        logarithm!("log10", f64::log10),
        logarithm!("log2", f64::log2),
        Function::new("log1p", &[Double], DOUBLE, |call| {
            call.rows::<Float64Type>(|i| {
                let x = call.doubles(0).value(i);
                Ok((!(x <= -1.0)).then(|| x.ln_1p()))
            })
        }),
        Function::new("log", &[Double], DOUBLE, |call| {
            call.rows::<Float64Type>(|i| {
                let one = call.doubles(0).value(i);
                if !call.has(1) {
                    return Ok((!(one <= 0.0)).then(|| one.ln()));
                }
                let x = call.doubles(1).value(i);
                Ok((!(one <= 0.0) && !(x <= 0.0)).then(|| x.ln() / one.ln()))
            })
        })
        .optional(&[Double]),
        double!("sin", f64::sin),
        double!("cos", f64::cos),
        double!("tan", f64::tan),
        double!("asin", f64::asin),
        double!("acos", f64::acos),
        double!("atan", f64::atan),
        double!("atan2", two f64::atan2),
        double!("sinh", f64::sinh),
        double!("cosh", f64::cosh),
        double!("tanh", f64::tanh),
        double!("cot", |x: f64| 1.0 / x.tan()),
        double!("sec", |x: f64| 1.0 / x.cos()),
        double!("csc", |x: f64| 1.0 / x.sin()),
        double!("asinh", f64::asinh),
        double!("acosh", f64::acosh),
        double!("atanh", f64::atanh),
        double!("degrees", f64::to_degrees),
        double!("radians", f64::to_radians),
        double!("rint", f64::round_ties_even),
        double!("signum", |x: f64| if x == 0.0 || x.is_nan() { x } else { x.signum() }).alias(&["sign"]),
        double!("power", two f64::powf).alias(&["pow"]),
        double!("hypot", two f64::hypot),
        Function::new("pi", &[], DOUBLE, |call| call.rows::<Float64Type>(|_| Ok(Some(std::f64::consts::PI)))),
        Function::new("e", &[], DOUBLE, |call| call.rows::<Float64Type>(|_| Ok(Some(std::f64::consts::E)))),
        Function::new("isnan", &[Double], Returns::Type(|| DataType::Boolean), |call| {
            let doubles = call.doubles(0);
            call.bool_rows(|i| Ok(Some(doubles.is_valid(i) && doubles.value(i).is_nan())))
        })
        .nulls(),
        Function::new("nanvl", &[Double, Double], DOUBLE, |call| {
            let (one, other) = (call.doubles(0), call.doubles(1));
            call.rows::<Float64Type>(|i| {
                let value = if one.is_valid(i) && one.value(i).is_nan() { other } else { one };
                Ok(value.is_valid(i).then(|| value.value(i)))
            })
        })
        .nulls(),
        Function::new("factorial", &[Int], LONG, |call| {
            call.rows::<Int64Type>(|i| {
                let n = call.ints(0).value(i);
                Ok((0..=20).contains(&n).then(|| (1..=i64::from(n)).product()))
            })
        }),
        Function::new("round", &[Number], Returns::Constant(rounded_type), |call| round(call, false))
            .optional(&[Int])
            .with_context(),
        Function::new("bround", &[Number], Returns::Constant(rounded_type), |call| round(call, true))
            .optional(&[Int])
            .with_context(),
        Function::new("ceil", &[Number], Returns::Constant(ceiling_type), |call| ceiling(call, true))
            .optional(&[Int])
            .alias(&["ceiling"]),
        Function::new("floor", &[Number], Returns::Constant(ceiling_type), |call| ceiling(call, false))
            .optional(&[Int]),
        Function::new("conv", &[Text, Int, Int], TEXT, |call| {
            call.text_rows(|i| {
                match conv(call.text(0).value(i), call.ints(1).value(i), call.ints(2).value(i), call.context.ansi) {
                    Ok(found) => Ok(found),
                    Err(TooLarge) => invalid(
                        "ARITHMETIC_OVERFLOW",
                        "overflow in function conv(): set \"spark.sql.ansi.enabled\" to \"false\"",
                    ),
                }
            })
        })
        .with_context(),
        Function::new("bin", &[Long], TEXT, |call| {
            call.text_rows(|i| Ok(Some(format!("{:b}", call.longs(0).value(i)))))
        }),
        Function::new("greatest", &[Common, Common], SAME, |call| extreme(call, true)).rest(Common).nulls(),
        Function::new("least", &[Common, Common], SAME, |call| extreme(call, false)).rest(Common).nulls(),
        Function::new("width_bucket", &[Double, Double, Double, Long], LONG, |call| {
            let number = |at: usize, i: usize| match call.args[at].data_type() {
                DataType::Interval(_) => f64::from(call.args[at].as_primitive::<IntervalYearMonthType>().value(i)),
                DataType::Duration(_) => call.args[at].as_primitive::<DurationMicrosecondType>().value(i) as f64,
                _ => call.doubles(at).value(i),
            };
            call.rows::<Int64Type>(|i| {
                let (value, low, high, count) = (number(0, i), number(1, i), number(2, i), call.longs(3).value(i));
                if count <= 0 || low == high || value.is_nan() || !low.is_finite() || !high.is_finite() {
                    return Ok(None);
                }
                let (below, above) =
                    if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
                if below {
                    return Ok(Some(0));
                }
                if above {
                    return Ok(count.checked_add(1));
                }
                Ok(Some((count as f64 * (value - low) / (high - low)) as i64 + 1))
            })
        })
        // Of intervals, all three are of one kind.
        .coerced(|types| match types {
            [value, low, high, _] => {
                let kinds = [value, low, high];
                let months = kinds.iter().all(|kind| matches!(kind, DataType::Interval(IntervalUnit::YearMonth)));
                let times = kinds.iter().all(|kind| matches!(kind, DataType::Duration(_)));
                Ok(match () {
                    () if months => vec![value.clone(), value.clone(), value.clone(), DataType::Int64],
                    () if times => {
                        let micros = DataType::Duration(TimeUnit::Microsecond);
                        vec![micros.clone(), micros.clone(), micros, DataType::Int64]
                    }
                    () => vec![DataType::Float64, DataType::Float64, DataType::Float64, DataType::Int64],
                })
            }
            _ => invalid("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "the `width_bucket` requires 4 parameters"),
        }),
        Function::new("bit_count", &[Any], INT, |call| {
            let whole = arrow::compute::cast(&call.args[0], &DataType::Int64)?;
            let whole = whole.as_primitive::<Int64Type>();
            call.rows::<Int32Type>(|i| Ok(Some(whole.value(i).count_ones() as i32)))
        }),
        Function::new("bit_get", &[Any, Int], Returns::Type(|| DataType::Int8), |call| {
            let bits = call.args[0].data_type().primitive_width().unwrap_or(8) as i32 * 8;
            let whole = arrow::compute::cast(&call.args[0], &DataType::Int64)?;
            let whole = whole.as_primitive::<Int64Type>();
            call.rows::<Int8Type>(|i| {
                let at = call.ints(1).value(i);
                if !(0..bits).contains(&at) {
                    return invalid(
                        "INVALID_PARAMETER_VALUE.BIT_POSITION_RANGE",
                        format!("bit {at} is not in [0, {bits})"),
                    );
                }
                Ok(Some((whole.value(i) >> at & 1) as i8))
            })
        })
        .coerced(|types| match types {
            [whole, _] if whole.is_integer() => Ok(vec![whole.clone(), DataType::Int32]),
            [_, _] => Ok(vec![DataType::Int64, DataType::Int32]),
            _ => invalid("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "the `bit_get` requires 2 parameters"),
        })
        .alias(&["getbit"]),
        Function::new("bitwise_not", &[Any], SAME, |call| match call.args[0].data_type() {
            DataType::Int8 => call.rows::<Int8Type>(|i| Ok(Some(!call.args[0].as_primitive::<Int8Type>().value(i)))),
            DataType::Int16 => call.rows::<Int16Type>(|i| Ok(Some(!call.args[0].as_primitive::<Int16Type>().value(i)))),
            DataType::Int64 => call.rows::<Int64Type>(|i| Ok(Some(!call.longs(0).value(i)))),
            _ => call.rows::<Int32Type>(|i| Ok(Some(!call.ints(0).value(i)))),
        })
        .coerced(|types| match types {
            [one] if one.is_integer() => Ok(types.to_vec()),
            [DataType::Null | DataType::Utf8] => Ok(vec![DataType::Int32]),
            [other] => Err(super::native::mismatch("~", 0, "\"INTEGRAL\"", other)),
            _ => invalid("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "`~` requires 1 parameter"),
        }),
        shift("shiftleft", |call| shifted(call, i32::wrapping_shl, i64::wrapping_shl)),
        shift("shiftright", |call| shifted(call, i32::wrapping_shr, i64::wrapping_shr)),
        shift("shiftrightunsigned", |call| {
            shifted(call, |n, by| ((n as u32).wrapping_shr(by)) as i32, |n, by| ((n as u64).wrapping_shr(by)) as i64)
        }),
    ]
}

/// The number, with one NaN for all there are: processors make some with a sign, which would sort below every number.
pub fn one_nan(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x }
}

fn shift(name: &str, run: super::native::Run) -> Function {
    Function::new(name, &[Any, Int], SAME, run).coerced(|types| match types {
        [DataType::Int64, _] => Ok(vec![DataType::Int64, DataType::Int32]),
        [_, _] => Ok(vec![DataType::Int32, DataType::Int32]),
        _ => invalid("WRONG_NUM_ARGS.WITHOUT_SUGGESTION", "a shift requires 2 parameters"),
    })
}

fn shifted(call: &Call<'_>, int: fn(i32, u32) -> i32, long: fn(i64, u32) -> i64) -> Result<ArrayRef> {
    let by = |i: usize| call.ints(1).value(i) as u32;
    match call.args[0].data_type() {
        DataType::Int64 => call.rows::<Int64Type>(|i| Ok(Some(long(call.longs(0).value(i), by(i))))),
        _ => call.rows::<Int32Type>(|i| Ok(Some(int(call.ints(0).value(i), by(i))))),
    }
}

fn places(constants: &[Option<&ScalarValue>], count: usize, name: &str) -> Result<i32> {
    if count < 2 {
        return Ok(0);
    }
    match constants.get(1).copied().flatten() {
        Some(ScalarValue::Int32(Some(places))) => Ok(*places),
        Some(ScalarValue::Int64(Some(places))) => Ok(*places as i32),
        _ => invalid("DATATYPE_MISMATCH.NON_FOLDABLE_INPUT", format!("the scale of `{name}` must be a literal")),
    }
}

fn rounded_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let Some((precision, scale)) = as_decimal(&types[0]).filter(|_| is_decimal(&types[0])) else {
        return Ok(types[0].clone());
    };
    let wanted = places(constants, types.len(), "round")?;
    let whole = i32::from(precision) - i32::from(scale) + 1;
    let kept = wanted.clamp(0, i32::from(scale));
    let precision = if wanted < 0 { whole.max(-wanted + 1) } else { whole + kept };
    Ok(DataType::Decimal128(precision.clamp(1, i32::from(PRECISION_MAX)) as u8, kept as i8))
}

fn ceiling_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let wanted = places(constants, types.len(), "ceil")?;
    if types.len() == 1 {
        return Ok(match as_decimal(&types[0]) {
            Some((precision, scale)) if is_decimal(&types[0]) => {
                let whole = i32::from(precision) - i32::from(scale) + 1;
                DataType::Decimal128(whole.clamp(1, i32::from(PRECISION_MAX)) as u8, 0)
            }
            _ => DataType::Int64,
        });
    }
    // With a scale numbers are decimals.
    let (precision, scale) = as_decimal(&types[0]).unwrap_or((30, 15));
    let whole = i32::from(precision) - i32::from(scale) + 1;
    let kept = wanted.clamp(0, i32::from(scale));
    let precision = if wanted < 0 { whole.max(-wanted + 1) } else { whole + kept };
    Ok(DataType::Decimal128(precision.clamp(1, i32::from(PRECISION_MAX)) as u8, kept as i8))
}

/// A double rounded at so many places of its shortest decimal text, as Java's BigDecimal does.
fn round_double(value: f64, places: i32, even: bool) -> f64 {
    if !value.is_finite() {
        return value;
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or((1.0, mantissa), |rest| (-1.0, rest));
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    let keep = exponent + 1 + places;
    if keep >= digits.len() as i32 {
        return value;
    }
    if keep < 0 {
        return 0.0 * sign;
    }
    let keep = keep as usize;
    let mut head = digits[..keep].iter().fold(0_i128, |all, digit| all * 10 + i128::from(*digit));
    let (next, rest) = (digits[keep], &digits[keep + 1..]);
    let half = next == 5 && rest.iter().all(|digit| *digit == 0);
    if next > 5 || next == 5 && (!half || !even || head % 2 == 1) {
        head += 1;
    }
    sign * format!("{head}e{}", -places).parse::<f64>().unwrap_or(value)
}

fn round_decimal(n: i128, scale: i8, places: i32, to: i8, even: bool) -> Option<i128> {
    if places >= i32::from(scale) {
        return rescale(n, scale, to);
    }
    let divisor = 10_i128.checked_pow((i32::from(scale) - places) as u32)?;
    let (mut quotient, rest) = (n / divisor, n % divisor);
    let twice = rest.unsigned_abs() * 2;
    let limit = divisor.unsigned_abs();
    if twice > limit || twice == limit && (!even || quotient % 2 != 0) {
        quotient += n.signum();
    }
    let shift = i32::from(to) - places;
    if shift >= 0 { quotient.checked_mul(10_i128.checked_pow(shift as u32)?) } else { Some(quotient) }
}

fn out_of_range<T>() -> Result<T> {
    invalid("ARITHMETIC_OVERFLOW", "the rounded number is out of range: set \"spark.sql.ansi.enabled\" to \"false\"")
}

fn round(call: &Call<'_>, even: bool) -> Result<ArrayRef> {
    let places = |i: usize| if call.has(1) { call.ints(1).value(i) } else { 0 };
    let array = &call.args[0];
    macro_rules! whole {
        ($t:ty) => {{
            let array = array.as_primitive::<$t>();
            call.rows::<$t>(|i| {
                let value = array.value(i);
                if places(i) >= 0 {
                    return Ok(Some(value));
                }
                let rounded = round_decimal(i128::from(value), 0, places(i), 0, even);
                match rounded.and_then(|n| n.try_into().ok()) {
                    Some(n) => Ok(Some(n)),
                    None if call.context.ansi => out_of_range(),
                    None => Ok(rounded.map(|n| n as <$t as arrow::datatypes::ArrowPrimitiveType>::Native)),
                }
            })
        }};
    }
    match array.data_type() {
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            call.rows::<Float64Type>(|i| Ok(Some(round_double(array.value(i), places(i), even))))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            call.rows::<Float32Type>(|i| {
                let shortest: f64 = format!("{}", array.value(i)).parse().unwrap_or(f64::NAN);
                Ok(Some(round_double(shortest, places(i), even) as f32))
            })
        }
        DataType::Decimal128(_, scale) => {
            let array = array.as_primitive::<Decimal128Type>();
            let (_, to) = as_decimal(call.return_type).unwrap_or((38, 0));
            call.rows::<Decimal128Type>(|i| match round_decimal(array.value(i), *scale, places(i), to, even) {
                Some(n) => Ok(Some(n)),
                None => out_of_range(),
            })
        }
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        other => Err(super::native::mismatch("round", 0, "\"NUMERIC\"", other)),
    }
}

fn ceiling(call: &Call<'_>, up: bool) -> Result<ArrayRef> {
    let array = &call.args[0];
    if let DataType::Int64 = call.return_type {
        return match array.data_type() {
            one if is_fractional(one) => {
                let doubles = arrow::compute::cast(array, &DataType::Float64)?;
                let doubles = doubles.as_primitive::<Float64Type>();
                call.rows::<Int64Type>(|i| {
                    let value = doubles.value(i);
                    // As Java's cast: NaN is 0, and what is too large the largest.
                    Ok(Some(if up { value.ceil() } else { value.floor() } as i64))
                })
            }
            _ => Ok(arrow::compute::cast(array, &DataType::Int64)?),
        };
    }
    let (precision, to) = as_decimal(call.return_type).unwrap_or((38, 0));
    let (_, from) = as_decimal(array.data_type()).unwrap_or((30, 15));
    let decimals = match array.data_type() {
        DataType::Decimal128(..) => ArrayRef::clone(array),
        _ => arrow::compute::cast(array, &DataType::Decimal128(PRECISION_MAX, from))?,
    };
    let decimals = decimals.as_primitive::<Decimal128Type>();
    call.rows::<Decimal128Type>(|i| {
        let places = if call.has(1) { call.ints(1).value(i) } else { 0 };
        let n = decimals.value(i);
        let drop = i32::from(from) - places;
        let whole = if drop <= 0 {
            n
        } else {
            let divisor = 10_i128.checked_pow(drop as u32).unwrap_or(i128::MAX);
            let down = n.div_euclid(divisor);
            let value = if up && n.rem_euclid(divisor) != 0 { down + 1 } else { down };
            // In units of the places that are kept.
            value
        };
        let unit = if drop <= 0 { i32::from(from) } else { places };
        let shift = i32::from(to) - unit;
        let value = match shift {
            shift if shift >= 0 => 10_i128.checked_pow(shift as u32).and_then(|power| whole.checked_mul(power)),
            _ => Some(whole),
        };
        match value.filter(|n| super::cast::number::fits(*n, precision)) {
            Some(n) => Ok(Some(n)),
            None => Err(external(Error::invalid(
                "NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION",
                "the result has too many digits",
            ))),
        }
    })
}

/// Digits for which 64 bits do not do.
#[derive(Debug, PartialEq)]
struct TooLarge;

/// Digits of one base in another; a negative base of the result makes it signed. What is too large is the largest number
/// where that is no error.
fn conv(text: &str, from: i32, to: i32, strict: bool) -> std::result::Result<Option<String>, TooLarge> {
    let fits = |base: i32| (2..=36).contains(&base.abs());
    let text = text.trim();
    if !fits(from) || !fits(to) || from < 0 || text.is_empty() {
        return Ok(None);
    }
    let (mut negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let mut value = 0_u64;
    for c in digits.chars() {
        let Some(digit) = c.to_digit(from as u32) else { break };
        value = match value.checked_mul(from as u64).and_then(|value| value.checked_add(u64::from(digit))) {
            Some(value) => value,
            None if strict => return Err(TooLarge),
            None => {
                value = u64::MAX;
                break;
            }
        };
    }
    if negative && to > 0 {
        value = if (value as i64) < 0 { u64::MAX } else { value.wrapping_neg() };
    }
    if to < 0 && (value as i64) < 0 {
        value = value.wrapping_neg();
        negative = true;
    }
    let base = u64::from(to.unsigned_abs());
    let mut out = vec![];
    loop {
        out.push(char::from_digit((value % base) as u32, 36).unwrap_or('?').to_ascii_uppercase());
        value /= base;
        if value == 0 {
            break;
        }
    }
    if negative && to < 0 {
        out.push('-');
    }
    Ok(Some(out.into_iter().rev().collect()))
}

/// The largest or smallest of a row; nulls are passed over, and NaN is the largest.
fn extreme(call: &Call<'_>, most: bool) -> Result<ArrayRef> {
    let each: Vec<&dyn Array> = call.args.iter().map(AsRef::as_ref).collect();
    let all = arrow::compute::concat(&each)?;
    let rows = super::collections::rows_of(&all)?;
    let places = (0..call.rows).map(|i| {
        let own = (0..call.args.len()).map(|at| at * call.rows + i).filter(|at| all.is_valid(*at));
        let by = |a: &usize, b: &usize| rows.row(*a).cmp(&rows.row(*b));
        if most { own.max_by(by) } else { own.min_by(by) }.map(|at| at as u64)
    });
    Ok(arrow::compute::take(&all, &places.collect::<UInt64Array>(), None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_their_text() {
        assert_eq!((round_double(2.5, 0, false), round_double(2.5, 0, true)), (3.0, 2.0));
        assert_eq!((round_double(-2.5, 0, false), round_double(1.005, 2, false)), (-3.0, 1.01));
        assert_eq!((round_double(1234.0, -2, false), round_double(0.4, 0, false)), (1200.0, 0.0));
        assert_eq!((round_decimal(2345, 3, 2, 2, false), round_decimal(1250, 0, -2, 0, true)), (Some(235), Some(1200)));
    }

    #[test]
    fn bases_are_converted() {
        let check = |text: &str, from, to, expect: &str| {
            assert_eq!(conv(text, from, to, true), Ok(Some(expect.to_string())));
        };
        check("100", 2, 10, "4");
        check("-10", 16, -10, "-16");
        check("ff", 16, 10, "255");
        check("-1", 10, 16, "FFFFFFFFFFFFFFFF");
        check("9223372036854775808", 10, -10, "-9223372036854775808");
        assert_eq!(conv("18446744073709551616", 10, 16, true), Err(TooLarge));
    }

    #[test]
    fn a_nan_has_no_sign() {
        let made = one_nan(std::hint::black_box(-1.0_f64).sqrt());
        assert!(made.is_nan() && made.is_sign_positive());
        assert_eq!((one_nan(-0.0).is_sign_negative(), one_nan(2.0)), (true, 2.0));
    }

    #[test]
    fn each_function_is_here_once() {
        let all = crate::functions::all();
        for name in ["rand", "random", "randn"] {
            let named = |one: &&std::sync::Arc<datafusion::logical_expr::ScalarUDF>| {
                one.name() == name || one.aliases().iter().any(|alias| alias == name)
            };
            assert_eq!(all.iter().filter(named).count(), 1, "{name}");
        }
    }
}
