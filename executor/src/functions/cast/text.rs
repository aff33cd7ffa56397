//! Values as Spark's text: what `CAST(x AS STRING)` gives.

use crate::functions::binary_to_string::binary_to_string;
use crate::functions::coercion::is_binary;
use crate::functions::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, civil_from_days};
use crate::functions::native::{Context, external};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::fmt::Write;
use std::sync::Arc;

/// Every row as text; null is null.
///
/// # Errors
/// A type that has no text.
pub fn of(array: &ArrayRef, context: &Context) -> Result<ArrayRef> {
    use DataType as T;
    let each = |text: &dyn Fn(usize) -> String| -> ArrayRef {
        let rows = (0..array.len()).map(|row| array.is_valid(row).then(|| text(row)));
        Arc::new(rows.collect::<StringArray>())
    };
    Ok(match array.data_type() {
        T::Utf8 | T::LargeUtf8 | T::Utf8View => arrow_cast(array, &T::Utf8)?,
        T::Null => arrow::array::new_null_array(&T::Utf8, array.len()),
        other if is_binary(other) => binary_to_string(array)?,
        T::Boolean => {
            let array = array.as_boolean();
            each(&|row| array.value(row).to_string())
        }
        other if other.is_integer() => {
            let whole = arrow_cast(array, &T::Int64)?;
            let whole = whole.as_primitive::<Int64Type>();
            each(&|row| whole.value(row).to_string())
        }
        T::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            each(&|row| double(array.value(row)))
        }
        T::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            each(&|row| float(array.value(row)))
        }
        T::Decimal128(_, scale) => {
            let digits = array.as_primitive::<Decimal128Type>();
            each(&|row| decimal(digits.value(row), *scale))
        }
        T::Decimal32(p, s) | T::Decimal64(p, s) => return of(&arrow_cast(array, &T::Decimal128(*p, *s))?, context),
        T::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            each(&|row| date(days.value(row)))
        }
        T::Date64 => return of(&arrow_cast(array, &T::Date32)?, context),
        T::Timestamp(TimeUnit::Microsecond, zone) => {
            let times = array.as_primitive::<TimestampMicrosecondType>();
            let zoned = zone.is_some();
            each(&|row| {
                let time = times.value(row);
                let offset = if zoned { i64::from(context.zone.offset_at(time)) * MICROS_PER_SECOND } else { 0 };
                local(time.saturating_add(offset))
            })
        }
        T::Timestamp(_, zone) => {
            return of(&arrow_cast(array, &T::Timestamp(TimeUnit::Microsecond, zone.clone()))?, context);
        }
        T::Duration(TimeUnit::Microsecond) => {
            let durations = array.as_primitive::<DurationMicrosecondType>();
            each(&|row| day_time(durations.value(row)))
        }
        T::Duration(_) => return of(&arrow_cast(array, &T::Duration(TimeUnit::Microsecond))?, context),
        T::Interval(IntervalUnit::YearMonth) => {
            let months = array.as_primitive::<IntervalYearMonthType>();
            each(&|row| year_month(months.value(row)))
        }
        T::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
            each(&|row| {
                let interval = intervals.value(row);
                calendar(interval.months, interval.days, interval.nanoseconds / 1000)
            })
        }
        T::List(_) => {
            let lists = array.as_list::<i32>();
            let items = of(lists.values(), context)?;
            let items = items.as_string::<i32>();
            each(&|row| {
                let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
                let shown = range.map(|at| cell(items, at)).collect::<Vec<_>>();
                format!("[{}]", shown.join(", "))
            })
        }
        T::LargeList(item) | T::FixedSizeList(item, _) => {
            return of(&arrow_cast(array, &T::List(Arc::clone(item)))?, context);
        }
        T::Map(..) => {
            let maps = array.as_map();
            let (keys, values) = (of(maps.keys(), context)?, of(maps.values(), context)?);
            let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
            each(&|row| {
                let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
                let shown = range.map(|at| format!("{} -> {}", cell(keys, at), cell(values, at))).collect::<Vec<_>>();
                format!("{{{}}}", shown.join(", "))
            })
        }
        T::Struct(_) => {
            let columns =
                array.as_struct().columns().iter().map(|column| of(column, context)).collect::<Result<Vec<_>>>()?;
            each(&|row| {
                let shown = columns.iter().map(|column| cell(column.as_string(), row)).collect::<Vec<_>>();
                format!("{{{}}}", shown.join(", "))
            })
        }
        T::Dictionary(_, value) => return of(&arrow_cast(array, value)?, context),
        other => {
            return Err(external(Error::invalid("UNSUPPORTED_FEATURE", format!("{other} has no text"))));
        }
    })
}

fn cell(texts: &StringArray, at: usize) -> &str {
    if texts.is_null(at) { "null" } else { texts.value(at) }
}

/// `1.0`, `1.0E10`, `NaN` as Java has it.
pub fn double(n: f64) -> String {
    java(n, &format!("{n:e}"))
}

/// As [`double`].
pub fn float(n: f32) -> String {
    java(f64::from(n), &format!("{n:e}"))
}

/// From Rust's shortest digits, `1.5e7`.
fn java(n: f64, shortest: &str) -> String {
    if n.is_nan() {
        return "NaN".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    if n == 0.0 {
        return if n.is_sign_negative() { "-0.0".into() } else { "0.0".into() };
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if (-3..7).contains(&exponent) {
        if exponent < 0 {
            return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
        }
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            return format!("{sign}{digits}{}.0", "0".repeat(whole - digits.len()));
        }
        return format!("{sign}{}.{}", &digits[..whole], &digits[whole..]);
    }
    let rest = if digits.len() > 1 { &digits[1..] } else { "0" };
    // Java 17 writes the smallest double with two digits.
    let rest = if n.abs() == f64::from_bits(1) { "9" } else { rest };
    let first = if n.abs() == f64::from_bits(1) { "4" } else { &digits[..1] };
    format!("{sign}{first}.{rest}E{exponent}")
}

/// Digits with a point, never with an exponent.
pub fn decimal(n: i128, scale: i8) -> String {
    let sign = if n < 0 { "-" } else { "" };
    let digits = n.unsigned_abs().to_string();
    if scale <= 0 {
        let zeros = if n == 0 { 0 } else { usize::from(scale.unsigned_abs()) };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let scale = scale as usize;
    let digits = format!("{digits:0>width$}", width = scale + 1);
    format!("{sign}{}.{}", &digits[..digits.len() - scale], &digits[digits.len() - scale..])
}

/// `2024-02-29`.
pub fn date(days: i32) -> String {
    let (year, month, day) = civil_from_days(i64::from(days));
    let year = match year {
        year if year > 9999 => format!("+{year}"),
        year if year < 0 => format!("-{:04}", -year),
        year => format!("{year:04}"),
    };
    format!("{year}-{month:02}-{day:02}")
}

/// `2024-02-29 12:34:56.789`, without zeros at the end.
pub fn local(micros: i64) -> String {
    let days = micros.div_euclid(MICROS_PER_DAY);
    let of_day = micros.rem_euclid(MICROS_PER_DAY);
    let seconds = of_day / MICROS_PER_SECOND;
    let mut text = date(days as i32);
    let _ = write!(text, " {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    push_fraction(&mut text, of_day % MICROS_PER_SECOND);
    text
}

fn push_fraction(text: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
}

/// `INTERVAL '1 02:03:04.5' DAY TO SECOND`.
pub fn day_time(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let all = micros.unsigned_abs();
    let (per_day, per_second) = (MICROS_PER_DAY as u64, MICROS_PER_SECOND as u64);
    let seconds = all % per_day / per_second;
    let mut text =
        format!("INTERVAL '{sign}{} {:02}:{:02}:{:02}", all / per_day, seconds / 3600, seconds / 60 % 60, seconds % 60);
    push_fraction(&mut text, (all % per_second) as i64);
    text + "' DAY TO SECOND"
}

/// `INTERVAL '1-2' YEAR TO MONTH`.
pub fn year_month(months: i32) -> String {
    let sign = if months < 0 { "-" } else { "" };
    let all = months.unsigned_abs();
    format!("INTERVAL '{sign}{}-{}' YEAR TO MONTH", all / 12, all % 12)
}

/// `1 years 2 months 3 days 4 hours`.
fn calendar(months: i32, days: i32, micros: i64) -> String {
    let mut parts = vec![];
    let mut part = |value: i64, unit: &str| {
        if value != 0 {
            parts.push(format!("{value} {unit}"));
        }
    };
    part(i64::from(months / 12), "years");
    part(i64::from(months % 12), "months");
    part(i64::from(days), "days");
    part(micros / (3600 * MICROS_PER_SECOND), "hours");
    part(micros / (60 * MICROS_PER_SECOND) % 60, "minutes");
    let rest = micros % (60 * MICROS_PER_SECOND);
    if rest != 0 {
        let sign = if rest < 0 { "-" } else { "" };
        let mut text = format!("{sign}{}", rest.unsigned_abs() / MICROS_PER_SECOND as u64);
        push_fraction(&mut text, rest.abs() % MICROS_PER_SECOND);
        parts.push(text + " seconds");
    }
    if parts.is_empty() { "0 seconds".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_javas() {
        for (n, expect) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1e-3, "0.001"),
            (1e-4, "1.0E-4"),
            (123_456_789.123, "1.23456789123E8"),
            (-12.5, "-12.5"),
            (f64::from_bits(1), "4.9E-324"),
        ] {
            assert_eq!(double(n), expect);
        }
        assert_eq!(float(0.1), "0.1");
        assert_eq!((decimal(-5, 2), decimal(150, 2), decimal(0, 2)), ("-0.05".into(), "1.50".into(), "0.00".into()));
        assert_eq!(local(-500_000), "1969-12-31 23:59:59.5");
        assert_eq!(day_time(-93_784_500_000), "INTERVAL '-1 02:03:04.5' DAY TO SECOND");
        assert_eq!(calendar(14, 0, 1_500_000), "1 years 2 months 1.5 seconds");
    }
}
