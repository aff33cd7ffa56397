//! Values as text, as Spark writes them: into CSV and JSON files, and into the cells that `show` and the console print.

use crate::functions::cast::text::{double as java_double, float as java_float};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Float16Type, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{DateTime, Days, NaiveDate};
use headwater_proto::error::{Error, Result};
use std::fmt::Write;

/// For whom a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A cell on a screen: `2024-01-01 10:00:00.5`, nested values in brackets, `NULL`.
    Show,
    /// A field of a file: `2024-01-01T10:00:00.500Z`. Nulls are the caller's.
    File,
}

/// Appends the value of a row to a text.
pub type Formatter<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

/// A formatter of the values of a column; made once, used for each row.
///
/// # Errors
/// A type that cannot be written.
pub fn formatter(array: &dyn Array, style: Style) -> Result<Formatter<'_>> {
    let plain = value_formatter(array, style)?;
    // `is_null` of a null or dictionary array is not what its values say.
    let nulls = array.logical_nulls();
    Ok(Box::new(move |row, out| match &nulls {
        Some(nulls) if nulls.is_null(row) => out.push_str("NULL"),
        _ => plain(row, out),
    }))
}

fn value_formatter(array: &dyn Array, style: Style) -> Result<Formatter<'_>> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, _| {}),
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row, out| out.push_str(array.value(row)))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Box::new(move |row, out| out.push_str(array.value(row)))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Box::new(move |row, out| out.push_str(array.value(row)))
        }
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>();
            Box::new(move |row, out| out.push_str(&java_float(array.value(row).to_f32())))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| out.push_str(&java_float(array.value(row))))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| out.push_str(&java_double(array.value(row))))
        }
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>();
            Box::new(move |row, out| date(array.value(row), out))
        }
        DataType::Timestamp(_, zone) => {
            let instant = zone.is_some();
            let micros = micros(array)?;
            Box::new(move |row, out| timestamp(micros(row), instant, style, out))
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::List(_) => {
            let array = array.as_list::<i32>();
            let item = formatter(array.values(), style)?;
            Box::new(move |row, out| {
                let (from, until) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                joined("[", "]", from..until, out, &item);
            })
        }
        DataType::LargeList(_) => {
            let array = array.as_list::<i64>();
            let item = formatter(array.values(), style)?;
            Box::new(move |row, out| {
                let (from, until) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                joined("[", "]", from..until, out, &item);
            })
        }
        DataType::Map(..) => {
            let array = array.as_map();
            let (key, value) = (formatter(array.keys(), style)?, formatter(array.values(), style)?);
            Box::new(move |row, out| {
                let (from, until) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                joined("{", "}", from..until, out, &|entry, out: &mut String| {
                    key(entry, out);
                    out.push_str(" -> ");
                    value(entry, out);
                });
            })
        }
        DataType::Struct(_) => {
            let array = array.as_struct();
            let fields = array.columns().iter().map(|column| formatter(column, style)).collect::<Result<Vec<_>>>()?;
            Box::new(move |row, out| {
                joined("{", "}", 0..fields.len(), out, &|field, out: &mut String| fields[field](row, out));
            })
        }
        DataType::Dictionary(..) => {
            let array = array.as_any_dictionary();
            let keys = array.normalized_keys();
            let value = value_formatter(array.values().as_ref(), style)?;
            Box::new(move |row, out| value(keys[row], out))
        }
        // Integers, decimals, booleans, times and intervals: as Arrow prints them.
        _ => {
            let options = FormatOptions::new().with_display_error(true);
            let formatter = ArrayFormatter::try_new(array, &options)
                .map_err(|e| Error::invalid("UNSUPPORTED_DATATYPE", format!("{} as text: {e}", array.data_type())))?;
            Box::new(move |row, out| {
                // Writing into a string cannot fail; a value that cannot be shown is shown as its error.
                let _ = write!(out, "{}", formatter.value(row));
            })
        }
    })
}

fn joined(open: &str, close: &str, rows: std::ops::Range<usize>, out: &mut String, item: &dyn Fn(usize, &mut String)) {
    out.push_str(open);
    let first = rows.start;
    for row in rows {
        if row > first {
            out.push_str(", ");
        }
        item(row, out);
    }
    out.push_str(close);
}

/// The microseconds since 1970 of a row of a timestamp column of any unit.
///
/// # Errors
/// Another type.
pub fn micros(array: &dyn Array) -> Result<Box<dyn Fn(usize) -> i64 + '_>> {
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            let array = array.as_primitive::<TimestampSecondType>();
            Box::new(move |row| array.value(row).saturating_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let array = array.as_primitive::<TimestampMillisecondType>();
            Box::new(move |row| array.value(row).saturating_mul(1000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let array = array.as_primitive::<TimestampMicrosecondType>();
            Box::new(move |row| array.value(row))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = array.as_primitive::<TimestampNanosecondType>();
            Box::new(move |row| array.value(row).div_euclid(1000))
        }
        other => return Err(Error::internal(format!("{other} is no timestamp"))),
    })
}

fn hex(bytes: &[u8], out: &mut String) {
    out.push('[');
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        let _ = write!(out, "{byte:02X}");
    }
    out.push(']');
}

fn date(days: i32, out: &mut String) {
    let epoch = NaiveDate::default();
    let date = match u64::try_from(days) {
        Ok(days) => epoch.checked_add_days(Days::new(days)),
        Err(_) => epoch.checked_sub_days(Days::new(u64::from(days.unsigned_abs()))),
    };
    // What chrono cannot hold (beyond the year 262,000) is written as days.
    let _ = match date {
        Some(date) => write!(out, "{}", date.format("%Y-%m-%d")),
        None => write!(out, "{days} days since 1970-01-01"),
    };
}

/// Timestamps of files have milliseconds, always, and `Z` if they are instants: Spark's default format.
pub fn timestamp(micros: i64, instant: bool, style: Style, out: &mut String) {
    let Some(time) = DateTime::from_timestamp_micros(micros) else {
        let _ = write!(out, "{micros} us since 1970-01-01");
        return;
    };
    match style {
        Style::File => {
            let _ = write!(out, "{}{}", time.format("%Y-%m-%dT%H:%M:%S%.3f"), if instant { "Z" } else { "" });
        }
        Style::Show => {
            let _ = write!(out, "{}", time.format("%Y-%m-%d %H:%M:%S"));
            let fraction = micros.rem_euclid(1_000_000);
            if fraction > 0 {
                let _ = write!(out, ".{}", format!("{fraction:06}").trim_end_matches('0'));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Int32Array, ListArray,
        MapBuilder, NullArray, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
        TimestampMillisecondArray,
    };
    use arrow::datatypes::{Field, Int32Type};
    use std::sync::Arc;

    fn check(array: impl Array, style: Style, expect: &[&str]) {
        let formatter = formatter(&array, style).expect("formatter");
        let got: Vec<String> = (0..array.len())
            .map(|row| {
                let mut out = String::new();
                formatter(row, &mut out);
                out
            })
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn floats_are_javas() {
        for (value, expect) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (9_999_999.0, "9999999.0"),
            (12_345_678.9, "1.23456789E7"),
            (-1e10, "-1.0E10"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(java_double(value), expect);
        }
        assert_eq!(java_float(0.1), "0.1");
        assert_eq!(java_float(1e8), "1.0E8");
    }

    #[test]
    fn values_are_written_as_spark_does() {
        use Style::{File, Show};
        check(BooleanArray::from(vec![Some(true), None]), Show, &["true", "NULL"]);
        check(Date32Array::from(vec![0, -1, 19_723]), File, &["1970-01-01", "1969-12-31", "2024-01-01"]);
        let decimals = Decimal128Array::from(vec![-1205]).with_precision_and_scale(10, 2).expect("decimal");
        check(decimals, Show, &["-12.05"]);
        let times = || TimestampMicrosecondArray::from(vec![1_500_000, -1, 0]);
        check(times(), Show, &["1970-01-01 00:00:01.5", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00"]);
        check(
            times().with_timezone("UTC"),
            File,
            &["1970-01-01T00:00:01.500Z", "1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z"],
        );
        check(TimestampMillisecondArray::from(vec![1]), File, &["1970-01-01T00:00:00.001"]);
        check(BinaryArray::from(vec![b"\x01\xab".as_slice()]), Show, &["[01 AB]"]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![]), None]);
        check(lists.slice(0, 3), Show, &["[1, NULL]", "[]", "NULL"]);
        check(lists.slice(1, 1), Show, &["[]"]);
        let a: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let b: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
        let fields =
            [Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Field::new("b", DataType::Utf8, true))];
        check(StructArray::from(fields.into_iter().zip([a, b]).collect::<Vec<_>>()), Show, &["{1, x}", "{2, NULL}"]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).expect("map");
        check(map.finish(), Show, &["{k -> v}"]);
        let words: DictionaryArray<Int32Type> = [Some("a"), None, Some("b")].into_iter().collect();
        check(words, Show, &["a", "NULL", "b"]);
        check(NullArray::new(1), Show, &["NULL"]);
    }
}
