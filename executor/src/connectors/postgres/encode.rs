//! Arrow → PostgreSQL: values as binary `COPY` wants them, converted where the column's type differs.
//!
//! A column is first cast as a whole to the one Arrow type that its PostgreSQL type is written from; what the cast
//! could not convert is a bad value of that row alone.

use super::decode::{EPOCH_DAYS, EPOCH_MICROS};
use crate::functions::ddl;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{Kind, Type};
use uuid::Uuid;

/// What a column is written as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `bool`.
    Bool,
    /// `int2`.
    Int2,
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `float4`.
    Float4,
    /// `float8`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `text`, or `varchar(n)` and `char(n)` of at most so many characters.
    Text(Option<usize>),
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`.
    Timestamptz,
    /// `uuid`.
    Uuid,
    /// An array, of items of this OID.
    Array(Box<Target>, u32),
    /// Any other type: written as text, which the server casts.
    Cast,
}

/// How a column of this type is written.
pub fn target(oid: u32, modifier: i32) -> Target {
    let Some(of) = Type::from_oid(oid) else { return Target::Cast };
    if let Kind::Array(item) = of.kind() {
        return match target(item.oid(), modifier) {
            Target::Cast | Target::Array(..) => Target::Cast,
            written => Target::Array(Box::new(written), item.oid()),
        };
    }
    let length = usize::try_from(modifier - 4).ok().filter(|length| *length > 0);
    match of {
        Type::BOOL => Target::Bool,
        Type::INT2 => Target::Int2,
        Type::INT4 => Target::Int4,
        Type::INT8 => Target::Int8,
        Type::FLOAT4 => Target::Float4,
        Type::FLOAT8 => Target::Float8,
        Type::NUMERIC => Target::Numeric,
        Type::TEXT => Target::Text(None),
        Type::VARCHAR | Type::BPCHAR => Target::Text(length),
        Type::JSON => Target::Json,
        Type::JSONB => Target::Jsonb,
        Type::BYTEA => Target::Bytea,
        Type::DATE => Target::Date,
        Type::TIMESTAMP => Target::Timestamp,
        Type::TIMESTAMPTZ => Target::Timestamptz,
        Type::UUID => Target::Uuid,
        _ => Target::Cast,
    }
}

impl Target {
    /// The Arrow type that it is written from.
    fn from(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => ddl::timestamp(),
            Self::Numeric | Self::Text(_) | Self::Json | Self::Jsonb | Self::Uuid | Self::Cast => DataType::Utf8,
            Self::Array(item, _) => ddl::array_of(item.from()),
        }
    }

    /// For messages.
    fn name(&self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Numeric => "numeric",
            Self::Text(_) => "text",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Bytea => "bytea",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Array(..) => "an array",
            Self::Cast => "the column's type",
        }
    }

    /// Whether values of this type can be written so, each or most of them, without loss.
    pub fn takes(&self, from: &DataType) -> bool {
        use DataType as D;
        let text = matches!(from, D::Utf8 | D::LargeUtf8 | D::Utf8View);
        let whole = from.is_integer() || matches!(from, D::Decimal128(_, scale) if *scale <= 0);
        let time = matches!(from, D::Timestamp(..));
        let date = matches!(from, D::Date32 | D::Date64);
        let bytes = matches!(from, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_));
        match (self, from) {
            (_, D::Null) => true,
            (target, D::Dictionary(_, value)) => target.takes(value),
            (Self::Array(item, _), D::List(field) | D::LargeList(field) | D::FixedSizeList(field, _)) => {
                item.takes(field.data_type())
            }
            (Self::Array(..), _) => false,
            (Self::Bytea, _) => bytes || text,
            (Self::Json | Self::Jsonb | Self::Uuid, _) => text,
            (Self::Bool, _) => text || *from == D::Boolean,
            (Self::Int2 | Self::Int4 | Self::Int8, _) => text || whole,
            (Self::Float4 | Self::Float8 | Self::Numeric, _) => text || from.is_numeric(),
            (Self::Date, _) => text || date,
            (Self::Timestamp | Self::Timestamptz, _) => text || date || time,
            (Self::Text(_) | Self::Cast, _) => text || from.is_numeric() || date || time || *from == D::Boolean,
        }
    }
}

enum Values {
    Nulls,
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Micros(TimestampMicrosecondArray),
    List(ListArray, Box<Encoder>),
}

/// A column of a batch on its way to PostgreSQL.
pub struct Encoder {
    /// As it was: null is null.
    source: ArrayRef,
    target: Target,
    values: Values,
}

impl Encoder {
    /// Prepares a column for being written.
    ///
    /// # Errors
    /// A type that is not converted.
    pub fn new(source: &ArrayRef, target: &Target) -> Result<Self, String> {
        let refused = || format!("{} cannot be written as {}", ddl::type_name(source.data_type()), target.name());
        if !target.takes(source.data_type()) {
            return Err(refused());
        }
        let made = |values| Ok(Self { source: ArrayRef::clone(source), target: target.clone(), values });
        if *source.data_type() == DataType::Null {
            return made(Values::Nulls);
        }
        let safe = CastOptions { safe: true, ..CastOptions::default() };
        if let Target::Array(item, _) = target {
            // To a list as it is; the items are converted by an encoder of their own.
            let field = match source.data_type() {
                DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => field,
                _ => return Err(refused()),
            };
            let list = cast_with_options(source, &DataType::List(field.clone()), &safe).map_err(|e| e.to_string())?;
            let list = list.as_list::<i32>().clone();
            let item = Encoder::new(list.values(), item)?;
            return made(Values::List(list, Box::new(item)));
        }
        let wanted = target.from();
        let cast = if *source.data_type() == wanted {
            ArrayRef::clone(source)
        } else {
            cast_with_options(source, &wanted, &safe).map_err(|_| refused())?
        };
        made(match wanted {
            DataType::Boolean => Values::Bool(cast.as_boolean().clone()),
            DataType::Int16 => Values::Int16(cast.as_primitive().clone()),
            DataType::Int32 => Values::Int32(cast.as_primitive().clone()),
            DataType::Int64 => Values::Int64(cast.as_primitive().clone()),
            DataType::Float32 => Values::Float32(cast.as_primitive().clone()),
            DataType::Float64 => Values::Float64(cast.as_primitive().clone()),
            DataType::Utf8 => Values::Text(cast.as_string().clone()),
            DataType::Binary => Values::Bytes(cast.as_binary().clone()),
            DataType::Date32 => Values::Date(cast.as_primitive().clone()),
            DataType::Timestamp(..) => Values::Micros(cast.as_primitive().clone()),
            _ => return Err(refused()),
        })
    }

    /// Whether the row has no value.
    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Nulls) || self.source.is_null(row)
    }

    /// Appends the row's value with its length.
    ///
    /// # Errors
    /// Why the value cannot be written; what was appended is then of no use.
    pub fn write(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        if self.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        let converted: &dyn Array = match &self.values {
            Values::Nulls => return Ok(()),
            Values::Bool(array) => array,
            Values::Int16(array) => array,
            Values::Int32(array) => array,
            Values::Int64(array) => array,
            Values::Float32(array) => array,
            Values::Float64(array) => array,
            Values::Text(array) => array,
            Values::Bytes(array) => array,
            Values::Date(array) => array,
            Values::Micros(array) => array,
            Values::List(array, _) => array,
        };
        let unfit = || format!("a value cannot be converted to {}", self.target.name());
        if converted.is_null(row) {
            return Err(unfit());
        }
        match &self.values {
            Values::Nulls => {}
            Values::Bool(array) => put(out, &[u8::from(array.value(row))]),
            Values::Int16(array) => put(out, &array.value(row).to_be_bytes()),
            Values::Int32(array) => put(out, &array.value(row).to_be_bytes()),
            Values::Int64(array) => put(out, &array.value(row).to_be_bytes()),
            Values::Float32(array) => put(out, &array.value(row).to_be_bytes()),
            Values::Float64(array) => put(out, &array.value(row).to_be_bytes()),
            Values::Bytes(array) => sized(out, array.value(row))?,
            Values::Date(array) => {
                let days = array.value(row).checked_sub(EPOCH_DAYS).ok_or_else(unfit)?;
                put(out, &days.to_be_bytes());
            }
            Values::Micros(array) => {
                let micros = array.value(row).checked_sub(EPOCH_MICROS).ok_or_else(unfit)?;
                put(out, &micros.to_be_bytes());
            }
            Values::Text(array) => self.text(array.value(row), out)?,
            Values::List(array, item) => {
                let Target::Array(_, oid) = &self.target else { return Err(unfit()) };
                let (from, until) = (array.value_offsets()[row] as usize, array.value_offsets()[row + 1] as usize);
                let start = out.len();
                out.put_i32(0);
                out.put_i32(i32::from(until > from));
                out.put_i32(i32::from((from..until).any(|at| item.is_null(at))));
                out.put_u32(*oid);
                if until > from {
                    out.put_i32(i32::try_from(until - from).map_err(|_| unfit())?);
                    out.put_i32(1);
                    (from..until).try_for_each(|at| item.write(at, out))?;
                }
                close(out, start)?;
            }
        }
        Ok(())
    }

    fn text(&self, text: &str, out: &mut BytesMut) -> Result<(), String> {
        match &self.target {
            Target::Uuid => {
                let uuid = Uuid::try_parse(text).map_err(|_| "a text that is no uuid")?;
                put(out, uuid.as_bytes());
                return Ok(());
            }
            Target::Numeric => {
                let start = out.len();
                out.put_i32(0);
                numeric(text, out)?;
                return close(out, start);
            }
            _ => {}
        }
        if text.contains('\0') {
            return Err("a text with a zero byte, which postgres does not store".into());
        }
        match &self.target {
            Target::Text(Some(length))
                if text.len() > *length && text.trim_end_matches(' ').chars().count() > *length =>
            {
                Err(format!("a text of more than {length} characters"))
            }
            Target::Jsonb => {
                let start = out.len();
                out.put_i32(0);
                out.put_u8(1); // version
                out.put_slice(text.as_bytes());
                close(out, start)
            }
            _ => sized(out, text.as_bytes()),
        }
    }
}

fn put<const N: usize>(out: &mut BytesMut, bytes: &[u8; N]) {
    out.put_i32(N as i32);
    out.put_slice(bytes);
}

/// The server takes no field of more than a gibibyte.
fn length(bytes: usize) -> Result<i32, String> {
    i32::try_from(bytes).ok().filter(|length| *length < 1 << 30).ok_or_else(|| "a value of more than 1 GiB".into())
}

fn sized(out: &mut BytesMut, bytes: &[u8]) -> Result<(), String> {
    out.put_i32(length(bytes.len())?);
    out.put_slice(bytes);
    Ok(())
}

/// Writes the length of what follows the four bytes at `start`.
fn close(out: &mut BytesMut, start: usize) -> Result<(), String> {
    let length = length(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// A number's text as groups of four digits.
fn numeric(text: &str, out: &mut BytesMut) -> Result<(), String> {
    const DIGITS_MAX: usize = 16_383;
    let unfit = || "a text that is no number".to_string();
    let header = |out: &mut BytesMut, count: i16, weight: i16, sign: u16, scale: i16| {
        out.put_i16(count);
        out.put_i16(weight);
        out.put_u16(sign);
        out.put_i16(scale);
    };
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("nan") {
        header(out, 0, 0, 0xC000, 0);
        return Ok(());
    }
    let (sign, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (0x4000, rest),
        None => (0, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| unfit())?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(unfit());
    }
    if digits.len() > DIGITS_MAX || exponent.unsigned_abs() as usize > DIGITS_MAX {
        return Err("a number of too many digits".into());
    }
    // Digits before the point.
    let mut point = whole.len() as i32 + exponent;
    let scale = (digits.len() as i32 - point).max(0);
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..zeros);
    point -= zeros as i32;
    // Groups begin at multiples of four from the point.
    let padding = (-point).rem_euclid(4) as usize;
    digits.splice(0..0, std::iter::repeat_n(b'0', padding));
    point += padding as i32;
    digits.resize(digits.len().next_multiple_of(4), b'0');
    let mut groups: Vec<i16> =
        digits.chunks(4).map(|group| group.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0'))).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let fits = |number: i32| i16::try_from(number).map_err(|_| "a number of too many digits".to_string());
    let weight = if groups.is_empty() { 0 } else { fits(point / 4 - 1)? };
    let sign = if groups.is_empty() { 0 } else { sign };
    header(out, fits(groups.len() as i32)?, weight, sign, fits(scale)?);
    groups.into_iter().for_each(|group| out.put_i16(group));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::postgres::decode::{Decoder, Wire};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    #[test]
    fn numbers_survive_both_ways() {
        let check = |text: &str, expect: Option<&str>| {
            let mut out = BytesMut::new();
            let found = numeric(text, &mut out).ok().map(|()| {
                let mut decoder = Decoder::new(&Wire::Numeric(38, 10));
                decoder.append(Some(&out)).map(|()| {
                    let column = decoder.finish().unwrap();
                    let column = arrow::compute::cast(&column, &DataType::Utf8).unwrap();
                    let text = column.as_string::<i32>().value(0);
                    text.trim_end_matches('0').trim_end_matches('.').to_string()
                })
            });
            match (found, expect) {
                (None, None) => {}
                (Some(found), Some(expect)) => assert_eq!(found.unwrap(), expect, "{text}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        check("0", Some("0"));
        check("-0.00", Some("0"));
        check("1", Some("1"));
        check("10000", Some("10000"));
        check("12345.678", Some("12345.678"));
        check("-12345678.9", Some("-12345678.9"));
        check("0.00012", Some("0.00012"));
        check("0.0000000001", Some("0.0000000001"));
        check("1.5e3", Some("1500"));
        check("15E-4", Some("0.0015"));
        check("+7", Some("7"));
        check("007.70", Some("7.7"));
        for wrong in ["", "x", "1.2.3", "1e", "--1", "e5", "inf", "1e999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn values_that_do_not_fit_are_told_apart_from_nulls() {
        let encode = |source: ArrayRef, target: &Target| -> Vec<Result<Vec<u8>, String>> {
            let encoder = Encoder::new(&source, target).unwrap();
            (0..source.len())
                .map(|row| {
                    let mut out = BytesMut::new();
                    encoder.write(row, &mut out).map(|()| out.to_vec())
                })
                .collect()
        };
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("7"), None, Some("x")]));
        let found = encode(Arc::clone(&texts), &Target::Int4);
        assert_eq!(found[0], Ok(vec![0, 0, 0, 4, 0, 0, 0, 7]));
        assert_eq!(found[1], Ok(vec![255; 4]));
        assert!(found[2].is_err());
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 1 << 40]));
        assert!(encode(wide, &Target::Int4)[1].is_err());
        let long: ArrayRef = Arc::new(StringArray::from(vec!["abc ", "abcd", "a\0", "été"]));
        let found = encode(long, &Target::Text(Some(3)));
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
            Some(vec![Some(1), None]),
            Some(vec![]),
            None,
        ]));
        let found = encode(lists, &Target::Array(Box::new(Target::Text(None)), 25));
        assert_eq!(found[0].as_ref().unwrap().len(), 4 + 20 + 5 + 4);
        assert_eq!(found[1].as_ref().unwrap().len(), 4 + 12);
    }

    #[test]
    fn types_that_are_not_converted() {
        let check = |from: DataType, target: Target, expect: bool| {
            assert_eq!(target.takes(&from), expect, "{from} {target:?}");
        };
        check(DataType::Float64, Target::Int4, false);
        check(DataType::Int64, Target::Int2, true);
        check(DataType::Utf8, Target::Uuid, true);
        check(DataType::Int32, Target::Uuid, false);
        check(DataType::Decimal128(10, 2), Target::Int8, false);
        check(DataType::Timestamp(TimeUnit::Nanosecond, None), Target::Date, false);
        check(DataType::new_list(DataType::Utf8, true), Target::Text(None), false);
        check(DataType::Binary, Target::Text(None), false);
        check(DataType::Null, Target::Cast, true);
    }
}
