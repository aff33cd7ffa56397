//! Casts between numbers, and to and from booleans, timestamps and text.

use super::{Mode, Options, malformed};
use crate::functions::coercion::{as_decimal, is_decimal};
use crate::functions::datetime::MICROS_PER_SECOND;
use crate::functions::ddl;
use crate::functions::native::external;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use headwater_proto::error::Error;
use std::sync::Arc;

/// A number of any type.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i64),
    Double(f64),
    Float(f32),
    /// Digits and scale.
    Decimal(i128, i8),
}

/// Numbers, booleans and timestamps as another of these.
///
/// # Errors
/// In ANSI mode, of the first row that does not fit.
pub fn cast(array: &ArrayRef, to: &DataType, options: &Options) -> Result<ArrayRef> {
    use DataType as T;
    let from = array.data_type().clone();
    let rows = numbers(array)?;
    let overflow = |number: Number| -> Result<()> {
        match options.mode {
            Mode::Ansi => Err(overflowed(&shown(number), &from, to)),
            Mode::Legacy | Mode::Try => Ok(()),
        }
    };
    if let T::Boolean = to {
        let rows = rows.map(|row| {
            row.map(|number| match number {
                Number::Whole(n) => n != 0,
                Number::Double(n) => n != 0.0,
                Number::Float(n) => n != 0.0,
                Number::Decimal(n, _) => n != 0,
            })
        });
        return Ok(Arc::new(rows.collect::<BooleanArray>()));
    }
    if is_decimal(to) {
        let (precision, scale) = as_decimal(to).unwrap_or((38, 18));
        let rows = rows.map(|row| {
            let Some(number) = row else { return Ok(None) };
            let found = match number {
                Number::Whole(n) => rescale(i128::from(n), 0, scale),
                Number::Decimal(n, from) => rescale(n, from, scale),
                Number::Double(n) => parse_decimal(&format!("{n:e}"), scale),
                Number::Float(n) => parse_decimal(&format!("{:e}", f64::from(n)), scale),
            };
            match found.filter(|n| fits(*n, precision)) {
                Some(n) => Ok(Some(n)),
                None if options.mode == Mode::Ansi => Err(out_of_range(&shown(number), precision, scale)),
                None => Ok(None),
            }
        });
        return decimals(rows.collect::<Result<Decimal128Array>>()?, to);
    }
    if let T::Timestamp(..) = to {
        let rows = rows.map(|row| {
            let Some(number) = row else { return Ok(None) };
            let found = match number {
                Number::Whole(n) => Some(n.saturating_mul(MICROS_PER_SECOND)),
                Number::Decimal(n, scale) => rescale_down(n, scale, 6),
                Number::Double(n) if n.is_finite() => Some((n * MICROS_PER_SECOND as f64) as i64),
                Number::Float(n) if n.is_finite() => Some((f64::from(n) * MICROS_PER_SECOND as f64) as i64),
                Number::Double(_) | Number::Float(_) => None,
            };
            if found.is_none() {
                overflow(number)?;
            }
            Ok(found)
        });
        let times = rows.collect::<Result<TimestampMicrosecondArray>>()?;
        return Ok(Arc::new(times.with_data_type(to.clone())));
    }
    if matches!(to, T::Float64 | T::Float32) {
        let doubles = rows.map(|row| {
            row.map(|number| match number {
                Number::Whole(n) => n as f64,
                Number::Double(n) => n,
                Number::Float(n) => f64::from(n),
                Number::Decimal(n, scale) => decimal_to_f64(n, scale),
            })
        });
        return Ok(match to {
            T::Float64 => Arc::new(doubles.collect::<Float64Array>()),
            _ => Arc::new(doubles.map(|row| row.map(|n| n as f32)).collect::<Float32Array>()),
        });
    }
    let (least, most) = match to {
        T::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        T::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        T::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        T::Int64 => (i64::MIN, i64::MAX),
        other => return internal_err!("{other} is no number"),
    };
    let (legacy, time) = (options.mode == Mode::Legacy, matches!(from, T::Timestamp(..)));
    let whole = rows.map(|row| {
        let Some(number) = row else { return Ok(None) };
        let exact = match number {
            Number::Whole(n) => Some(n),
            // Instants are rounded down, also before 1970.
            Number::Decimal(n, scale) if time => i64::try_from(n.div_euclid(10_i128.pow(scale as u32))).ok(),
            Number::Decimal(n, scale) => i64::try_from(truncated(n, scale)).ok(),
            Number::Double(n) => whole_of(n),
            Number::Float(n) => whole_of(f64::from(n)),
        };
        if let Some(n) = exact.filter(|n| (least..=most).contains(n)) {
            return Ok(Some(n));
        }
        overflow(number)?;
        // Java's narrowing: of doubles to the nearest INT or BIGINT first, then by the low bits.
        Ok(legacy.then(|| match number {
            Number::Whole(n) => n,
            Number::Decimal(n, scale) => truncated(n, scale) as i64,
            Number::Double(n) if *to == T::Int64 => n as i64,
            Number::Double(n) => i64::from(n as i32),
            Number::Float(n) if *to == T::Int64 => n as i64,
            Number::Float(n) => i64::from(n as i32),
        }))
    });
    let whole = whole.collect::<Result<Vec<Option<i64>>>>()?;
    Ok(narrowed(whole, to))
}

/// The low bits of each.
fn narrowed(rows: Vec<Option<i64>>, to: &DataType) -> ArrayRef {
    match to {
        DataType::Int8 => Arc::new(rows.into_iter().map(|row| row.map(|n| n as i8)).collect::<Int8Array>()),
        DataType::Int16 => Arc::new(rows.into_iter().map(|row| row.map(|n| n as i16)).collect::<Int16Array>()),
        DataType::Int32 => Arc::new(rows.into_iter().map(|row| row.map(|n| n as i32)).collect::<Int32Array>()),
        _ => Arc::new(rows.into_iter().collect::<Int64Array>()),
    }
}

fn whole_of(n: f64) -> Option<i64> {
    let n = n.trunc();
    // 2⁶³ itself is no BIGINT.
    (n >= i64::MIN as f64 && n < i64::MAX as f64).then_some(n as i64)
}

fn numbers(array: &ArrayRef) -> Result<Box<dyn Iterator<Item = Option<Number>> + '_>> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Float64 => Box::new(array.as_primitive::<Float64Type>().iter().map(|row| row.map(Number::Double))),
        T::Float32 => Box::new(array.as_primitive::<Float32Type>().iter().map(|row| row.map(Number::Float))),
        T::Decimal128(_, scale) => {
            let scale = *scale;
            let rows = array.as_primitive::<Decimal128Type>().iter();
            Box::new(rows.map(move |row| row.map(|n| Number::Decimal(n, scale))))
        }
        T::Timestamp(..) => {
            let rows = array.as_primitive::<TimestampMicrosecondType>().iter();
            Box::new(rows.map(|row| row.map(|n| Number::Decimal(i128::from(n), 6))))
        }
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32 => {
            let whole = arrow_cast(array, &T::Int64)?;
            let rows: Vec<Option<i64>> = whole.as_primitive::<Int64Type>().iter().collect();
            Box::new(rows.into_iter().map(|row| row.map(Number::Whole)))
        }
        T::Int64 => Box::new(array.as_primitive::<Int64Type>().iter().map(|row| row.map(Number::Whole))),
        // DataFusion's counts and lengths.
        T::UInt64 => {
            let whole = arrow_cast(array, &T::Decimal128(20, 0))?;
            let rows: Vec<Option<i128>> = whole.as_primitive::<Decimal128Type>().iter().collect();
            Box::new(rows.into_iter().map(|row| row.map(|n| Number::Decimal(n, 0))))
        }
        other => return internal_err!("{other} is no number"),
    })
}

fn decimals(array: Decimal128Array, to: &DataType) -> Result<ArrayRef> {
    match to {
        DataType::Decimal128(precision, scale) => Ok(Arc::new(array.with_precision_and_scale(*precision, *scale)?)),
        other => {
            let (precision, scale) = as_decimal(other).unwrap_or((38, 18));
            let array: ArrayRef = Arc::new(array.with_precision_and_scale(precision, scale)?);
            Ok(arrow_cast(&array, other)?)
        }
    }
}

/// Text as numbers.
///
/// # Errors
/// In ANSI mode, of the first text that is no such number.
pub fn from_text(texts: &StringArray, to: &DataType, options: &Options) -> Result<ArrayRef> {
    use DataType as T;
    let wrong = |text: &str| match options.mode {
        Mode::Ansi => Err(malformed(text, "STRING", to)),
        Mode::Legacy | Mode::Try => Ok(()),
    };
    if is_decimal(to) {
        let (precision, scale) = as_decimal(to).unwrap_or((38, 18));
        let rows = texts.iter().map(|text| {
            let Some(text) = text else { return Ok(None) };
            let Some(n) = parse_decimal(trim(text), scale) else { return wrong(text).map(|()| None) };
            match (fits(n, precision), options.mode) {
                (true, _) => Ok(Some(n)),
                (false, Mode::Ansi) => Err(out_of_range(text, precision, scale)),
                (false, _) => Ok(None),
            }
        });
        return decimals(rows.collect::<Result<Decimal128Array>>()?, to);
    }
    if matches!(to, T::Float64 | T::Float32) {
        let rows = texts.iter().map(|text| {
            let Some(text) = text else { return Ok(None) };
            match parse_double(trim(text)) {
                Some(n) => Ok(Some(n)),
                None => wrong(text).map(|()| None),
            }
        });
        if *to == T::Float64 {
            return Ok(Arc::new(rows.collect::<Result<Float64Array>>()?));
        }
        let rows = rows.map(|row| row.map(|row| row.map(|n| n as f32)));
        return Ok(Arc::new(rows.collect::<Result<Float32Array>>()?));
    }
    let (least, most) = match to {
        T::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        T::Int16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        T::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let rows = texts.iter().map(|text| {
        let Some(text) = text else { return Ok(None) };
        let found = parse_whole(trim(text), options.mode == Mode::Legacy);
        match found.filter(|n| (least..=most).contains(n)) {
            Some(n) => Ok(Some(n)),
            None => wrong(text).map(|()| None),
        }
    });
    Ok(narrowed(rows.collect::<Result<Vec<_>>>()?, to))
}

fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ' || c == '\x7f')
}

/// Digits with a sign; with `fraction`, what follows a point is passed over if it is digits.
fn parse_whole(text: &str, fraction: bool) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, rest)) if fraction && rest.bytes().all(|b| b.is_ascii_digit()) => {
            if whole.is_empty() && !rest.is_empty() || matches!(whole, "+" | "-") && !rest.is_empty() {
                return Some(0);
            }
            whole
        }
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

/// What Java reads as a double, and Spark's names of infinity.
pub fn parse_double(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "nan" => return Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => return Some(f64::INFINITY),
        "-inf" | "-infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = lower.strip_suffix(['d', 'f']).unwrap_or(&lower);
    if !digits.bytes().any(|b| b.is_ascii_digit()) || digits.contains(['i', 'n']) {
        return None;
    }
    digits.parse().ok()
}

/// Decimal text such as `-1.5e3`, as digits of this scale, rounded half up.
pub fn parse_decimal(text: &str, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Digits before the point once the exponent and the scale have moved it.
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let mut value: i128 = 0;
    for at in 0..kept.max(0) {
        let digit = usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
        if value == 0 && digit == 0 && at as usize >= digits.len() {
            return Some(0);
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    if kept >= 0 && usize::try_from(kept).ok().and_then(|at| digits.get(at)).is_some_and(|digit| *digit >= 5) {
        value = value.checked_add(1)?;
    }
    Some(if negative { -value } else { value })
}

/// Digits of one scale as digits of another, rounded half up.
pub fn rescale(n: i128, from: i8, to: i8) -> Option<i128> {
    let shift = i32::from(to) - i32::from(from);
    if shift >= 0 {
        return n.checked_mul(10_i128.checked_pow(shift as u32)?);
    }
    let Some(divisor) = 10_i128.checked_pow(shift.unsigned_abs()) else { return Some(0) };
    let (quotient, rest) = (n / divisor, n % divisor);
    Some(if rest.unsigned_abs() * 2 >= divisor.unsigned_abs() { quotient + n.signum() } else { quotient })
}

fn rescale_down(n: i128, from: i8, to: i8) -> Option<i64> {
    let shift = i32::from(to) - i32::from(from);
    let moved = if shift >= 0 {
        n.checked_mul(10_i128.checked_pow(shift as u32)?)?
    } else {
        n / 10_i128.checked_pow(shift.unsigned_abs())?
    };
    i64::try_from(moved).ok()
}

/// The whole part, towards zero.
fn truncated(n: i128, scale: i8) -> i128 {
    match u32::try_from(scale).ok().and_then(|scale| 10_i128.checked_pow(scale)) {
        Some(divisor) => n / divisor,
        None => n.saturating_mul(10_i128.pow(u32::from(scale.unsigned_abs()))),
    }
}

/// The double nearest to a decimal.
pub fn decimal_to_f64(n: i128, scale: i8) -> f64 {
    // Both are exact up to 2⁵³ and 10²², and so is their quotient's rounding; else the text is parsed.
    if n.unsigned_abs() < (1 << 53) && (0..=22).contains(&scale) {
        return n as f64 / 10_f64.powi(i32::from(scale));
    }
    format!("{n}e{}", -i32::from(scale)).parse().unwrap_or(f64::NAN)
}

/// Whether a decimal of this precision has room for the digits.
pub fn fits(n: i128, precision: u8) -> bool {
    10_u128.checked_pow(u32::from(precision)).is_none_or(|limit| n.unsigned_abs() < limit)
}

fn shown(number: Number) -> String {
    match number {
        Number::Whole(n) => n.to_string(),
        Number::Double(n) => super::text::double(n),
        Number::Float(n) => super::text::float(n),
        Number::Decimal(n, scale) => super::text::decimal(n, scale),
    }
}

fn overflowed(value: &str, from: &DataType, to: &DataType) -> DataFusionError {
    external(Error::invalid(
        "CAST_OVERFLOW",
        format!(
            "the value {value} of the type \"{}\" cannot be cast to \"{}\" due to an overflow: use `try_cast` to have \
             NULL instead",
            ddl::type_name(from),
            ddl::type_name(to)
        ),
    ))
}

/// `NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION`.
pub fn out_of_range(value: &str, precision: u8, scale: i8) -> DataFusionError {
    external(Error::invalid(
        "NUMERIC_VALUE_OUT_OF_RANGE.WITH_SUGGESTION",
        format!(
            "{value} cannot be represented as Decimal({precision}, {scale}): set \"spark.sql.ansi.enabled\" to \
             \"false\" to have NULL instead"
        ),
    ))
}
