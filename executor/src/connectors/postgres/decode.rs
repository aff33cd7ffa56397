//! PostgreSQL → Arrow: what a column of each type is read as, and the bytes of `COPY … TO STDOUT (FORMAT binary)`.
//!
//! Types as Spark's PostgreSQL dialect has them; what has no counterpart is read as text, which the server makes.
//! `infinity` is the last, `-infinity` the first instant of the years 1 to 9999, as in Spark.

use crate::functions::ddl;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_postgres::types::{Kind, Type};

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
pub const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
pub const EPOCH_DAYS: i32 = 10_957;
/// 0001-01-01 and the last microsecond of 9999, which stand for the infinities.
const FIRST_MICROS: i64 = -62_135_596_800_000_000;
const LAST_MICROS: i64 = 253_402_300_799_999_999;
const MICROS_OF_DAY: i64 = 86_400_000_000;

/// How a value comes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// `bool`.
    Bool,
    /// `int2`.
    Int2,
    /// `int4`.
    Int4,
    /// `int8`.
    Int8,
    /// `oid`, which has no sign.
    Oid,
    /// `float4`.
    Float4,
    /// `float8`.
    Float8,
    /// `numeric`, read with this precision and scale.
    Numeric(u8, i8),
    /// `text` and what is sent alike.
    Text,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `time`: the instant of that time on 1970-01-01, as in Spark; whether it has no zone.
    Time(bool),
    /// `timestamp` or `timestamptz`; whether it has no zone.
    Timestamp(bool),
    /// An array of one dimension.
    Array(Box<Wire>),
}

impl Wire {
    /// What a column of it is.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric(precision, scale) => DataType::Decimal128(*precision, *scale),
            Self::Text => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time(true) | Self::Timestamp(true) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Time(false) | Self::Timestamp(false) => ddl::timestamp(),
            Self::Array(item) => ddl::array_of(item.data_type()),
        }
    }
}

/// What a query selects for a column, and what comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The type that the column is cast to on the server; none: it is taken as it is.
    pub cast: Option<&'static str>,
    /// How it comes.
    pub wire: Wire,
}

/// Precision and scale of `numeric(p, s)`, from its modifier.
fn numeric(modifier: i32) -> Wire {
    if modifier < 4 {
        // Neither is given: Spark's default.
        return Wire::Numeric(38, 18);
    }
    let modifier = modifier - 4;
    let precision = ((modifier >> 16) & 0xffff) as u16;
    // 11 bits with a sign, since PostgreSQL 15.
    let scale = ((modifier & 0x7ff) ^ 1024) - 1024;
    let precision = u16::min(precision.max(scale.max(0) as u16), 38) as u8;
    Wire::Numeric(precision.max(1), scale.clamp(0, 38) as i8)
}

/// How a column of this type is read. `ntz`: `timestamp` without a zone.
pub fn selected(of: &Type, modifier: i32, ntz: bool) -> Selected {
    let plain = |wire: Wire| Selected { cast: None, wire };
    match of.kind() {
        Kind::Domain(base) => return selected(base, -1, ntz),
        Kind::Array(item) => {
            let item = selected(item, modifier, ntz);
            return match item.cast {
                None if !matches!(item.wire, Wire::Array(_)) => plain(Wire::Array(Box::new(item.wire))),
                _ => Selected { cast: Some("text[]"), wire: Wire::Array(Box::new(Wire::Text)) },
            };
        }
        _ => {}
    }
    match *of {
        Type::BOOL => plain(Wire::Bool),
        Type::INT2 => plain(Wire::Int2),
        Type::INT4 => plain(Wire::Int4),
        Type::INT8 => plain(Wire::Int8),
        Type::OID => plain(Wire::Oid),
        Type::FLOAT4 => plain(Wire::Float4),
        Type::FLOAT8 => plain(Wire::Float8),
        Type::NUMERIC => plain(numeric(modifier)),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON => plain(Wire::Text),
        Type::BYTEA => plain(Wire::Bytea),
        Type::DATE => plain(Wire::Date),
        Type::TIME => plain(Wire::Time(ntz)),
        Type::TIMESTAMP => plain(Wire::Timestamp(ntz)),
        Type::TIMESTAMPTZ => plain(Wire::Timestamp(false)),
        // uuid, jsonb, enums, inet, interval, ranges and whatever else there is.
        _ => Selected { cast: Some("text"), wire: Wire::Text },
    }
}

/// How a column is read as a type that the user gave.
///
/// # Errors
/// A type that nothing is read as.
pub fn selected_as(wanted: &DataType) -> Result<(String, Wire), String> {
    Ok(match wanted {
        DataType::Boolean => ("bool".into(), Wire::Bool),
        DataType::Int16 => ("int2".into(), Wire::Int2),
        DataType::Int32 => ("int4".into(), Wire::Int4),
        DataType::Int64 => ("int8".into(), Wire::Int8),
        DataType::Float32 => ("float4".into(), Wire::Float4),
        DataType::Float64 => ("float8".into(), Wire::Float8),
        DataType::Utf8 => ("text".into(), Wire::Text),
        DataType::Binary => ("bytea".into(), Wire::Bytea),
        DataType::Date32 => ("date".into(), Wire::Date),
        DataType::Decimal128(precision, scale) => {
            (format!("numeric({precision}, {scale})"), Wire::Numeric(*precision, *scale))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => ("timestamptz".into(), Wire::Timestamp(false)),
        DataType::Timestamp(TimeUnit::Microsecond, None) => ("timestamp".into(), Wire::Timestamp(true)),
        DataType::List(item) => {
            let (sql, wire) = selected_as(item.data_type())?;
            if matches!(wire, Wire::Array(_)) {
                return Err("arrays of arrays are not read".into());
            }
            (format!("{sql}[]"), Wire::Array(Box::new(wire)))
        }
        other => return Err(format!("postgres columns are not read as {}", ddl::type_name(other))),
    })
}

/// A column on its way to Arrow.
pub struct Decoder {
    wire: Wire,
    values: Values,
}

enum Values {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    List { offsets: Vec<i32>, validity: NullBufferBuilder, item: Box<Decoder>, field: FieldRef },
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("a value of {} bytes in place of {N}", bytes.len()))
}

impl Decoder {
    /// An empty column.
    pub fn new(wire: &Wire) -> Self {
        let values = match wire {
            Wire::Bool => Values::Bool(BooleanBuilder::new()),
            Wire::Int2 => Values::Int16(Int16Builder::new()),
            Wire::Int4 => Values::Int32(Int32Builder::new()),
            Wire::Int8 | Wire::Oid => Values::Int64(Int64Builder::new()),
            Wire::Float4 => Values::Float32(Float32Builder::new()),
            Wire::Float8 => Values::Float64(Float64Builder::new()),
            Wire::Numeric(..) => Values::Decimal(Decimal128Builder::new().with_data_type(wire.data_type())),
            Wire::Text => Values::Text(StringBuilder::new()),
            Wire::Bytea => Values::Bytes(BinaryBuilder::new()),
            Wire::Date => Values::Date(Date32Builder::new()),
            Wire::Time(_) | Wire::Timestamp(_) => {
                Values::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(wire.data_type()))
            }
            Wire::Array(item) => Values::List {
                offsets: vec![0],
                validity: NullBufferBuilder::new(0),
                field: match wire.data_type() {
                    DataType::List(field) => field,
                    _ => Arc::new(Field::new_list_field(item.data_type(), true)),
                },
                item: Box::new(Decoder::new(item)),
            },
        };
        Self { wire: wire.clone(), values }
    }

    /// Takes a value; none is null.
    ///
    /// # Errors
    /// What the column's type cannot hold; the column is then of no use any more.
    pub fn append(&mut self, value: Option<&[u8]>) -> Result<(), String> {
        let Some(bytes) = value else {
            match &mut self.values {
                Values::Bool(builder) => builder.append_null(),
                Values::Int16(builder) => builder.append_null(),
                Values::Int32(builder) => builder.append_null(),
                Values::Int64(builder) => builder.append_null(),
                Values::Float32(builder) => builder.append_null(),
                Values::Float64(builder) => builder.append_null(),
                Values::Decimal(builder) => builder.append_null(),
                Values::Text(builder) => builder.append_null(),
                Values::Bytes(builder) => builder.append_null(),
                Values::Date(builder) => builder.append_null(),
                Values::Timestamp(builder) => builder.append_null(),
                Values::List { offsets, validity, .. } => {
                    offsets.push(*offsets.last().expect("there is a first offset"));
                    validity.append_null();
                }
            }
            return Ok(());
        };
        match (&mut self.values, &self.wire) {
            (Values::Bool(builder), _) => builder.append_value(fixed::<1>(bytes)? != [0]),
            (Values::Int16(builder), _) => builder.append_value(i16::from_be_bytes(fixed(bytes)?)),
            (Values::Int32(builder), _) => builder.append_value(i32::from_be_bytes(fixed(bytes)?)),
            (Values::Int64(builder), Wire::Oid) => builder.append_value(u32::from_be_bytes(fixed(bytes)?).into()),
            (Values::Int64(builder), _) => builder.append_value(i64::from_be_bytes(fixed(bytes)?)),
            (Values::Float32(builder), _) => builder.append_value(f32::from_be_bytes(fixed(bytes)?)),
            (Values::Float64(builder), _) => builder.append_value(f64::from_be_bytes(fixed(bytes)?)),
            (Values::Decimal(builder), Wire::Numeric(precision, scale)) => {
                builder.append_value(decimal(bytes, *precision, *scale)?);
            }
            (Values::Text(builder), _) => {
                builder.append_value(std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8")?);
            }
            (Values::Bytes(builder), _) => builder.append_value(bytes),
            (Values::Date(builder), _) => builder.append_value(match i32::from_be_bytes(fixed(bytes)?) {
                i32::MAX => (LAST_MICROS / MICROS_OF_DAY) as i32,
                i32::MIN => (FIRST_MICROS / MICROS_OF_DAY) as i32,
                days => days.checked_add(EPOCH_DAYS).ok_or("a date beyond all counting")?,
            }),
            (Values::Timestamp(builder), Wire::Time(_)) => builder.append_value(i64::from_be_bytes(fixed(bytes)?)),
            (Values::Timestamp(builder), _) => builder.append_value(match i64::from_be_bytes(fixed(bytes)?) {
                i64::MAX => LAST_MICROS,
                i64::MIN => FIRST_MICROS,
                micros => micros.checked_add(EPOCH_MICROS).ok_or("a time beyond all counting")?,
            }),
            (Values::List { offsets, validity, item, .. }, _) => {
                let count = array(bytes, item)?;
                let end = offsets.last().expect("there is a first offset").checked_add(count);
                offsets.push(end.ok_or("too many values for one batch")?);
                validity.append_non_null();
            }
            (Values::Decimal(_), wire) => return Err(format!("a decimal that came as {wire:?}")),
        }
        Ok(())
    }

    /// The column; the decoder is empty again.
    pub fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(match &mut self.values {
            Values::Bool(builder) => Arc::new(builder.finish()),
            Values::Int16(builder) => Arc::new(builder.finish()),
            Values::Int32(builder) => Arc::new(builder.finish()),
            Values::Int64(builder) => Arc::new(builder.finish()),
            Values::Float32(builder) => Arc::new(builder.finish()),
            Values::Float64(builder) => Arc::new(builder.finish()),
            Values::Decimal(builder) => Arc::new(builder.finish()),
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::Bytes(builder) => Arc::new(builder.finish()),
            Values::Date(builder) => Arc::new(builder.finish()),
            Values::Timestamp(builder) => Arc::new(builder.finish()),
            Values::List { offsets, validity, item, field } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let list = ListArray::try_new(Arc::clone(field), offsets, item.finish()?, validity.finish());
                Arc::new(list.map_err(|error| error.to_string())?)
            }
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
    let (head, rest) = bytes.split_at_checked(count).ok_or("an array that ends early")?;
    *bytes = rest;
    Ok(head)
}

fn take_i32(bytes: &mut &[u8]) -> Result<i32, String> {
    Ok(i32::from_be_bytes(fixed(take(bytes, 4)?)?))
}

/// Appends the items of an array; returns their count.
fn array(mut bytes: &[u8], item: &mut Decoder) -> Result<i32, String> {
    let dimensions = take_i32(&mut bytes)?;
    let _ = take(&mut bytes, 8)?; // whether there are nulls, type of the items
    match dimensions {
        0 => return Ok(0),
        1 => {}
        more => return Err(format!("an array of {more} dimensions; read it as STRING by option customSchema")),
    }
    let count = take_i32(&mut bytes)?;
    let _ = take(&mut bytes, 4)?; // index of the first item
    for _ in 0..count {
        match take_i32(&mut bytes)? {
            -1 => item.append(None)?,
            length => item.append(Some(take(&mut bytes, usize::try_from(length).map_err(|_| "a wrong length")?)?))?,
        }
    }
    Ok(count)
}

/// `numeric` in groups of four digits, as an integer of that scale. More digits are rounded half away from zero.
fn decimal(bytes: &[u8], precision: u8, scale: i8) -> Result<i128, String> {
    let short = |at: usize| -> Result<i16, String> {
        Ok(i16::from_be_bytes(fixed(bytes.get(2 * at..2 * at + 2).ok_or("a numeric that ends early")?)?))
    };
    let (count, weight, sign) = (short(0)?, i32::from(short(1)?), short(2)? as u16);
    let too_large = || {
        format!(
            "a numeric that DECIMAL({precision},{scale}) cannot hold; read the column as STRING, or as a wider DECIMAL, \
             by option customSchema"
        )
    };
    let negative = match sign {
        0 => false,
        0x4000 => true,
        _ => {
            return Err(
                "NaN or infinity, which DECIMAL cannot hold; read the column as STRING by option customSchema".into()
            );
        }
    };
    let mut value: i128 = 0;
    for at in 0..count {
        let digits = i128::from(short(4 + at as usize)?);
        let exponent = 4 * (weight - i32::from(at)) + i32::from(scale);
        if exponent >= 0 {
            let unit = 10i128.checked_pow(exponent as u32).ok_or_else(too_large)?;
            value = digits.checked_mul(unit).and_then(|part| value.checked_add(part)).ok_or_else(too_large)?;
        } else {
            // The first group that reaches below the scale decides the rounding: what follows cannot reach one half.
            if exponent >= -4 {
                let unit = 10i128.pow(exponent.unsigned_abs());
                value += digits / unit + i128::from(digits % unit * 2 >= unit);
            }
            break;
        }
    }
    if value >= 10i128.pow(u32::from(precision)) {
        return Err(too_large());
    }
    Ok(if negative { -value } else { value })
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Cuts the bytes of a binary `COPY` into rows.
#[derive(Default)]
pub struct Rows {
    /// What has come and is not a whole row yet.
    rest: BytesMut,
    begun: bool,
    /// The end marker was seen.
    ended: bool,
}

/// Length of the row that `bytes` begin with, when it is all there; 2 for the end marker.
fn row_length(bytes: &[u8]) -> Option<usize> {
    let (head, _) = bytes.split_first_chunk::<2>()?;
    let columns = i16::from_be_bytes(*head);
    let mut at = 2;
    for _ in 0..columns {
        let (length, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
        at += 4 + i32::from_be_bytes(*length).max(0) as usize;
    }
    (at <= bytes.len()).then_some(at)
}

impl Rows {
    /// Takes what has come.
    pub fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
    }

    /// Whether the server said that this is all.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Decodes the next whole row; false when there is none yet.
    ///
    /// # Errors
    /// The column's position and what is wrong with it.
    pub fn next(&mut self, decoders: &mut [Decoder]) -> Result<bool, (usize, String)> {
        if !self.begun {
            // Signature, flags, length of what may follow.
            let Some(head) = self.rest.get(..SIGNATURE.len() + 8) else { return Ok(false) };
            if !head.starts_with(SIGNATURE) {
                return Err((0, "bytes that are no binary COPY".into()));
            }
            let more: [u8; 4] = fixed(&head[SIGNATURE.len() + 4..]).map_err(|why| (0, why))?;
            let all = SIGNATURE.len() + 8 + u32::from_be_bytes(more) as usize;
            if self.rest.len() < all {
                return Ok(false);
            }
            self.rest.advance(all);
            self.begun = true;
        }
        if self.ended {
            return Ok(false);
        }
        let Some(length) = row_length(&self.rest) else { return Ok(false) };
        let columns = i16::from_be_bytes([self.rest[0], self.rest[1]]);
        if columns < 0 {
            self.ended = true;
            return Ok(false);
        }
        if columns as usize != decoders.len() {
            return Err((0, format!("a row of {columns} columns in place of {}", decoders.len())));
        }
        let mut at = 2;
        for (column, decoder) in decoders.iter_mut().enumerate() {
            let size: [u8; 4] = fixed(&self.rest[at..at + 4]).map_err(|why| (column, why))?;
            at += 4;
            let value = match i32::from_be_bytes(size) {
                -1 => None,
                size => Some(&self.rest[at..at + size as usize]),
            };
            decoder.append(value).map_err(|why| (column, why))?;
            at += value.map_or(0, <[u8]>::len);
        }
        self.rest.advance(length);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    #[test]
    fn numerics() {
        let bytes = |weight: i16, sign: u16, digits: &[i16]| -> Vec<u8> {
            let mut bytes = vec![];
            bytes.extend((digits.len() as i16).to_be_bytes());
            bytes.extend(weight.to_be_bytes());
            bytes.extend(sign.to_be_bytes());
            bytes.extend(0i16.to_be_bytes());
            digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
            bytes
        };
        let check = |found: Vec<u8>, (precision, scale): (u8, i8), expect: Option<i128>| {
            assert_eq!(decimal(&found, precision, scale).ok(), expect);
        };
        // 12345.678
        let number = || bytes(1, 0, &[1, 2345, 6780]);
        check(number(), (10, 3), Some(12_345_678));
        check(number(), (10, 2), Some(1_234_568));
        check(number(), (10, 0), Some(12_346));
        check(number(), (10, 5), Some(1_234_567_800));
        check(number(), (4, 0), None);
        check(bytes(1, 0x4000, &[1, 2345, 6780]), (10, 1), Some(-123_457));
        check(bytes(0, 0, &[]), (10, 2), Some(0));
        // 0.00005 and 0.00004 at four digits; 0.9999 at none
        check(bytes(-2, 0, &[5000]), (10, 4), Some(1));
        check(bytes(-2, 0, &[4999]), (10, 4), Some(0));
        check(bytes(-1, 0, &[9999]), (10, 0), Some(1));
        check(bytes(-9, 0, &[9999]), (10, 0), Some(0));
        check(bytes(9, 0, &[1]), (38, 18), None);
        check(bytes(0, 0xC000, &[]), (10, 2), None);
    }

    #[test]
    fn modifiers_of_numeric() {
        let check = |precision: i32, scale: i32, expect: Wire| {
            assert_eq!(numeric(((precision << 16) | (scale & 0x7ff)) + 4), expect);
        };
        check(10, 2, Wire::Numeric(10, 2));
        check(50, 10, Wire::Numeric(38, 10));
        check(3, 5, Wire::Numeric(5, 5));
        check(5, -2, Wire::Numeric(5, 0));
        assert_eq!(numeric(-1), Wire::Numeric(38, 18));
    }

    #[test]
    fn rows_come_in_any_pieces() {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for value in [Some(7i32), None, Some(-1)] {
            bytes.extend(1i16.to_be_bytes());
            bytes.extend(value.map_or(-1i32, |_| 4).to_be_bytes());
            bytes.extend(value.iter().flat_map(|value| value.to_be_bytes()));
        }
        bytes.extend((-1i16).to_be_bytes());
        for size in [1, 3, 1000] {
            let (mut rows, mut decoders, mut count) = (Rows::default(), [Decoder::new(&Wire::Int4)], 0);
            for piece in bytes.chunks(size) {
                rows.push(piece);
                while rows.next(&mut decoders).unwrap() {
                    count += 1;
                }
            }
            let column = decoders[0].finish().unwrap();
            let values: Vec<Option<i32>> = column.as_primitive::<Int32Type>().iter().collect();
            assert_eq!((count, rows.ended(), values), (3, true, vec![Some(7), None, Some(-1)]));
        }
        let mut wrong = Rows::default();
        wrong.push(&[b'x'; 30]);
        assert!(wrong.next(&mut []).is_err());
    }
}
