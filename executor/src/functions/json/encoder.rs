//! From columns to JSON text as Spark's `JacksonGenerator` writes it.

use super::base64;
use super::options::Options;
use crate::functions::cast::text;
use crate::functions::datetime::{MICROS_PER_DAY, MICROS_PER_SECOND, Pattern, Zone};
use crate::functions::ddl::type_name;
use crate::functions::native::Context;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray,
    LargeStringArray, PrimitiveArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int64Type, IntervalUnit,
    TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use headwater_proto::error::{Error, Result};
use std::io::Write;
use std::sync::Arc;

/// Spark's formats where none is given.
const TIMESTAMP_FORMAT: &str = "yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]";
const TIMESTAMP_NTZ_FORMAT: &str = "yyyy-MM-dd'T'HH:mm:ss[.SSS]";
const DATE_FORMAT: &str = "yyyy-MM-dd";
const INDENT: &str = "  ";

/// Writes rows of one array.
pub(super) struct Encoder {
    root: Node,
    style: Style,
    scratch: String,
}

struct Style {
    ignore_null_fields: bool,
    pretty: bool,
    escape_non_ascii: bool,
    zone: Zone,
    timestamp: Pattern,
    timestamp_ntz: Pattern,
    date: Pattern,
}

/// A column and how to write its values. Types that write alike are brought to one.
enum Node {
    Null,
    Boolean(BooleanArray),
    Integer(PrimitiveArray<Int64Type>),
    Unsigned(PrimitiveArray<UInt64Type>),
    Float(PrimitiveArray<Float32Type>),
    Double(PrimitiveArray<Float64Type>),
    Decimal(PrimitiveArray<Decimal128Type>),
    WideDecimal(PrimitiveArray<Decimal256Type>),
    Text(LargeStringArray),
    Bytes(LargeBinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    TimestampNtz(PrimitiveArray<TimestampMicrosecondType>),
    Time(PrimitiveArray<Int64Type>),
    Struct { array: ArrayRef, names: Vec<Vec<u8>>, columns: Vec<Node> },
    List { array: ArrayRef, offsets: OffsetBuffer<i64>, items: Box<Node> },
    Map { array: ArrayRef, offsets: OffsetBuffer<i32>, keys: Box<Node>, values: Box<Node> },
}

impl Encoder {
    /// Whether every type inside can be written.
    pub(super) fn check(data_type: &DataType) -> Result<()> {
        Node::new(&arrow::array::new_empty_array(data_type), false).map(|_| ())
    }
    pub(super) fn new(values: &ArrayRef, options: &Options) -> Result<Self> {
        let pattern = |given: &Option<Pattern>, default: &str| match given {
            Some(pattern) => Ok(pattern.clone()),
            None => Pattern::compile(default),
        };
        Ok(Self {
            root: Node::new(values, options.escape_non_ascii)?,
            style: Style {
                ignore_null_fields: options.ignore_null_fields,
                pretty: options.pretty,
                escape_non_ascii: options.escape_non_ascii,
                zone: options.zone,
                timestamp: pattern(&options.timestamp_format, TIMESTAMP_FORMAT)?,
                timestamp_ntz: pattern(&options.timestamp_ntz_format, TIMESTAMP_NTZ_FORMAT)?,
                date: pattern(&options.date_format, DATE_FORMAT)?,
            },
            scratch: String::new(),
        })
    }
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        self.root.write(row, &self.style, &mut self.scratch, 0, out);
    }
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef, data_type: &DataType) -> Result<PrimitiveArray<T>> {
    let array = cast(array, data_type).map_err(Error::internal)?;
    array
        .as_primitive_opt::<T>()
        .cloned()
        .ok_or_else(|| Error::internal(format!("column of type {data_type} is not what its type says")))
}

impl Node {
    fn new(array: &ArrayRef, escape_non_ascii: bool) -> Result<Self> {
        use DataType as T;
        let recast = |data_type: &T| cast(array, data_type).map_err(Error::internal);
        let micros = |zone: &Option<Arc<str>>| {
            let plain = T::Timestamp(TimeUnit::Microsecond, zone.clone());
            primitive::<TimestampMicrosecondType>(array, &plain)
        };
        Ok(match array.data_type() {
            T::Null => Self::Null,
            T::Boolean => Self::Boolean(array.as_boolean().clone()),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 => Self::Integer(primitive(array, &T::Int64)?),
            T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Self::Unsigned(primitive(array, &T::UInt64)?),
            T::Float16 | T::Float32 => Self::Float(primitive(array, &T::Float32)?),
            T::Float64 => Self::Double(primitive(array, &T::Float64)?),
            T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) => {
                Self::Decimal(primitive(array, &T::Decimal128(*p, *s))?)
            }
            T::Decimal256(p, s) => Self::WideDecimal(primitive(array, &T::Decimal256(*p, *s))?),
            T::Utf8 | T::LargeUtf8 | T::Utf8View => Self::Text(recast(&T::LargeUtf8)?.as_string::<i64>().clone()),
            T::Binary | T::LargeBinary | T::BinaryView => {
                Self::Bytes(recast(&T::LargeBinary)?.as_binary::<i64>().clone())
            }
            T::FixedSizeBinary(_) => {
                let fixed: &FixedSizeBinaryArray = array.as_fixed_size_binary();
                Self::Bytes(fixed.iter().collect())
            }
            T::Date32 | T::Date64 => Self::Date(primitive(array, &T::Date32)?),
            T::Timestamp(_, zone @ Some(_)) => Self::Timestamp(micros(zone)?),
            T::Timestamp(_, None) => Self::TimestampNtz(micros(&None)?),
            T::Time32(_) | T::Time64(_) => {
                let micros = recast(&T::Time64(TimeUnit::Microsecond))?;
                Self::Time(primitive(&micros, &T::Int64)?)
            }
            T::Struct(fields) => {
                let columns = array.as_struct().columns();
                Self::Struct {
                    array: array.clone(),
                    names: fields.iter().map(|field| quoted(field, escape_non_ascii)).collect(),
                    columns: columns.iter().map(|c| Self::new(c, escape_non_ascii)).collect::<Result<_>>()?,
                }
            }
            T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => {
                let array = recast(&T::LargeList(item.clone()))?;
                let list = array.as_list::<i64>();
                let items = Box::new(Self::new(list.values(), escape_non_ascii)?);
                Self::List { offsets: list.offsets().clone(), items, array }
            }
            T::Map(_, _) => {
                let map = array.as_map();
                Self::Map {
                    array: array.clone(),
                    offsets: map.offsets().clone(),
                    keys: Box::new(Self::new(map.keys(), escape_non_ascii)?),
                    values: Box::new(Self::new(map.values(), escape_non_ascii)?),
                }
            }
            T::Duration(_) | T::Interval(IntervalUnit::YearMonth | IntervalUnit::MonthDayNano) => {
                let texts = text::of(array, &Context::default()).map_err(Error::internal)?;
                Self::new(&texts, escape_non_ascii)?
            }
            T::Dictionary(_, value) => Self::new(&recast(value)?, escape_non_ascii)?,
            T::RunEndEncoded(_, values) => Self::new(&recast(values.data_type())?, escape_non_ascii)?,
            other => {
                return Err(Error::invalid(
                    "DATATYPE_MISMATCH.CANNOT_CONVERT_TO_JSON",
                    format!("type {} cannot be written as JSON: cast it to STRING", type_name(other)),
                ));
            }
        })
    }
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(array) => array.is_null(row),
            Self::Integer(array) | Self::Time(array) => array.is_null(row),
            Self::Unsigned(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Double(array) => array.is_null(row),
            Self::Decimal(array) => array.is_null(row),
            Self::WideDecimal(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Timestamp(array) | Self::TimestampNtz(array) => array.is_null(row),
            Self::Struct { array, .. } | Self::List { array, .. } | Self::Map { array, .. } => array.is_null(row),
        }
    }
    fn write(&self, row: usize, style: &Style, scratch: &mut String, depth: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match self {
            Self::Struct { names, columns, .. } => {
                let mut members = Members::begin(style, depth, out);
                for (name, column) in names.iter().zip(columns) {
                    if style.ignore_null_fields && column.is_null(row) {
                        continue;
                    }
                    members.next(out);
                    out.extend_from_slice(name);
                    members.colon(out);
                    column.write(row, style, scratch, depth + 1, out);
                }
                members.end(out);
            }
            Self::Map { offsets, keys, values, .. } => {
                let mut members = Members::begin(style, depth, out);
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    members.next(out);
                    keys.write_key(entry, style, scratch, out);
                    members.colon(out);
                    values.write(entry, style, scratch, depth + 1, out);
                }
                members.end(out);
            }
            Self::List { offsets, items, .. } => {
                out.push(b'[');
                for (index, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    if style.pretty {
                        out.push(b' ');
                    }
                    items.write(item, style, scratch, depth, out);
                }
                out.extend_from_slice(if style.pretty { b" ]" } else { b"]" });
            }
            leaf => leaf.write_leaf(row, style, scratch, out),
        }
    }
    fn write_leaf(&self, row: usize, style: &Style, scratch: &mut String, out: &mut Vec<u8>) {
        scratch.clear();
        match self {
            Self::Null | Self::Struct { .. } | Self::List { .. } | Self::Map { .. } => {}
            Self::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Self::Integer(array) => number(out, array.value(row)),
            Self::Unsigned(array) => number(out, array.value(row)),
            Self::Float(array) => {
                let value = array.value(row);
                java_float(out, f64::from(value), || format!("{value:e}"));
            }
            Self::Double(array) => {
                let value = array.value(row);
                java_float(out, value, || format!("{value:e}"));
            }
            Self::Decimal(array) => out.extend_from_slice(array.value_as_string(row).as_bytes()),
            Self::WideDecimal(array) => out.extend_from_slice(array.value_as_string(row).as_bytes()),
            Self::Text(array) => string(array.value(row), style.escape_non_ascii, out),
            Self::Bytes(array) => {
                out.push(b'"');
                base64::encode(array.value(row), out);
                out.push(b'"');
            }
            Self::Date(array) => {
                let local = i64::from(array.value(row)) * MICROS_PER_DAY;
                style.date.format(local, &Zone::UTC, 0, scratch);
                string(scratch, style.escape_non_ascii, out);
            }
            Self::Timestamp(array) => {
                let instant = array.value(row);
                let offset = style.zone.offset_at(instant);
                let local = instant.saturating_add(i64::from(offset) * MICROS_PER_SECOND);
                style.timestamp.format(local, &style.zone, offset, scratch);
                string(scratch, style.escape_non_ascii, out);
            }
            Self::TimestampNtz(array) => {
                style.timestamp_ntz.format(array.value(row), &Zone::UTC, 0, scratch);
                string(scratch, style.escape_non_ascii, out);
            }
            Self::Time(array) => {
                let micros = array.value(row);
                let seconds = micros / MICROS_PER_SECOND;
                let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
                if micros % MICROS_PER_SECOND != 0 {
                    text.push_str(format!(".{:06}", micros % MICROS_PER_SECOND).trim_end_matches('0'));
                }
                string(&text, style.escape_non_ascii, out);
            }
        }
    }
    /// As a key: what is not text already is put in quotes.
    fn write_key(&self, row: usize, style: &Style, scratch: &mut String, out: &mut Vec<u8>) {
        let start = out.len();
        self.write(row, style, scratch, 0, out);
        if out.get(start) != Some(&b'"') {
            let text = String::from_utf8_lossy(&out[start..]).into_owned();
            out.truncate(start);
            string(&text, style.escape_non_ascii, out);
        }
    }
}

fn quoted(field: &Field, escape_non_ascii: bool) -> Vec<u8> {
    let mut out = Vec::new();
    string(field.name(), escape_non_ascii, &mut out);
    out
}

/// Braces, commas and line breaks of one object.
struct Members {
    pretty: bool,
    depth: usize,
    empty: bool,
}

impl Members {
    fn begin(style: &Style, depth: usize, out: &mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { pretty: style.pretty, depth, empty: true }
    }
    fn next(&mut self, out: &mut Vec<u8>) {
        if !self.empty {
            out.push(b',');
        }
        self.empty = false;
        self.line(self.depth + 1, out);
    }
    fn colon(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.pretty { b" : " } else { b":" });
    }
    fn end(&self, out: &mut Vec<u8>) {
        if self.empty && self.pretty {
            out.push(b' ');
        } else if !self.empty {
            self.line(self.depth, out);
        }
        out.push(b'}');
    }
    fn line(&self, depth: usize, out: &mut Vec<u8>) {
        if self.pretty {
            out.push(b'\n');
            out.extend_from_slice(INDENT.repeat(depth).as_bytes());
        }
    }
}

fn number(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// As Java prints floating point numbers: plain from 0.001 up to 10,000,000, with at least one digit after the point,
/// and with an exponent outside. `digits` gives the shortest digits in Rust's form, `1.25e-7`.
fn java_float(out: &mut Vec<u8>, value: f64, digits: impl Fn() -> String) {
    if !value.is_finite() {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        number(out, format_args!("\"{name}\""));
        return;
    }
    let text = digits();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let all: String = mantissa.chars().filter(|c| *c != '.').collect();
    if value == 0.0 {
        number(out, format_args!("{sign}0.0"));
    } else if !(-3..7).contains(&exponent) {
        let rest = if all.len() > 1 { &all[1..] } else { "0" };
        number(out, format_args!("{sign}{}.{rest}E{exponent}", &all[..1]));
    } else if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        number(out, format_args!("{sign}0.{zeros}{all}"));
    } else {
        let whole = exponent as usize + 1;
        let padded = format!("{all:0<whole$}");
        let rest = if padded.len() > whole { &padded[whole..] } else { "0" };
        number(out, format_args!("{sign}{}.{rest}", &padded[..whole]));
    }
}

/// A string with its quotes.
fn string(text: &str, escape_non_ascii: bool, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().copied().enumerate() {
        let special = byte < b' ' || byte == b'"' || byte == b'\\' || (escape_non_ascii && byte >= 0x80);
        if !special {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            0x08 => b"\\b",
            0x0c => b"\\f",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            byte if byte < b' ' => {
                number(out, format_args!("\\u{byte:04X}"));
                continue;
            }
            // The bytes after a character's first have been written with it.
            _ => {
                if let Some(character) = text.get(at..).and_then(|rest| rest.chars().next()) {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        number(out, format_args!("\\u{unit:04X}"));
                    }
                }
                continue;
            }
        };
        out.extend_from_slice(escape);
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_java_prints_them() {
        let check = |value: f64, expect: &str| {
            let mut out = Vec::new();
            java_float(&mut out, value, || format!("{value:e}"));
            assert_eq!(String::from_utf8_lossy(&out), expect);
        };
        check(1.0, "1.0");
        check(-0.0, "-0.0");
        check(0.1, "0.1");
        check(0.001, "0.001");
        check(0.00012, "1.2E-4");
        check(1e10, "1.0E10");
        check(1e7, "1.0E7");
        check(9_999_999.5, "9999999.5");
        check(1_234_567.0, "1234567.0");
        check(100.25, "100.25");
        check(-1.7976931348623157e308, "-1.7976931348623157E308");
        check(f64::NAN, "\"NaN\"");
        check(f64::NEG_INFINITY, "\"-Infinity\"");
        let mut out = Vec::new();
        java_float(&mut out, f64::from(0.1_f32), || format!("{:e}", 0.1_f32));
        assert_eq!(out, b"0.1");
    }

    #[test]
    fn strings() {
        let check = |text: &str, escape_non_ascii, expect: &str| {
            let mut out = Vec::new();
            string(text, escape_non_ascii, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect);
        };
        check("a\"\\/\n\u{1}\u{1f}\u{7f}é", false, "\"a\\\"\\\\/\\n\\u0001\\u001F\u{7f}é\"");
        check("é😀x", true, "\"\\u00E9\\uD83D\\uDE00x\"");
    }
}
