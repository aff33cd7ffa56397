//! CQL values → Arrow columns: the reverse of [`super::convert`], in the types that [`arrow_type`] gives.

use super::convert::cql_name;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, MapArray, StringBuilder, StructArray,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// Digits and scale that Spark's connector gives to `decimal`.
const DECIMAL: (u8, i8) = (38, 18);
/// And to `varint`.
const VARINT: (u8, i8) = (38, 0);

/// The Arrow type of a CQL type, as Spark's connector maps it.
pub fn arrow_type(cql: &ColumnType<'_>) -> Result<DataType, String> {
    Ok(match cql {
        ColumnType::Native(native) => match native {
            NativeType::Ascii
            | NativeType::Text
            | NativeType::Uuid
            | NativeType::Timeuuid
            | NativeType::Inet
            | NativeType::Duration => DataType::Utf8,
            NativeType::Int => DataType::Int32,
            NativeType::BigInt | NativeType::Counter | NativeType::Time => DataType::Int64,
            NativeType::SmallInt => DataType::Int16,
            NativeType::TinyInt => DataType::Int8,
            NativeType::Float => DataType::Float32,
            NativeType::Double => DataType::Float64,
            NativeType::Boolean => DataType::Boolean,
            NativeType::Varint => DataType::Decimal128(VARINT.0, VARINT.1),
            NativeType::Decimal => DataType::Decimal128(DECIMAL.0, DECIMAL.1),
            NativeType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            NativeType::Date => DataType::Date32,
            NativeType::Blob => DataType::Binary,
            _ => return Err(format!("type {} cannot be read", cql_name(cql))),
        },
        ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. }
        | ColumnType::Vector { typ: item, .. } => DataType::List(Arc::new(Field::new("item", arrow_type(item)?, true))),
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => {
            let fields = map_fields(arrow_type(key)?, arrow_type(value)?);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
        }
        ColumnType::UserDefinedType { definition, .. } => DataType::Struct(
            definition
                .field_types
                .iter()
                .map(|(name, cql)| Ok(Field::new(name.as_ref(), arrow_type(cql)?, true)))
                .collect::<Result<Fields, String>>()?,
        ),
        ColumnType::Tuple(items) => DataType::Struct(
            items
                .iter()
                .enumerate()
                .map(|(at, cql)| Ok(Field::new(at.to_string(), arrow_type(cql)?, true)))
                .collect::<Result<Fields, String>>()?,
        ),
        _ => return Err(format!("type {} cannot be read", cql_name(cql))),
    })
}

fn map_fields(key: DataType, value: DataType) -> Fields {
    Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)])
}

/// Collects the values of one column.
pub enum Decoder {
    /// `boolean`.
    Boolean(BooleanBuilder),
    /// `tinyint`.
    Int8(Int8Builder),
    /// `smallint`.
    Int16(Int16Builder),
    /// `int`.
    Int32(Int32Builder),
    /// `bigint`, `counter`, `time`.
    Int64(Int64Builder),
    /// `float`.
    Float32(Float32Builder),
    /// `double`.
    Float64(Float64Builder),
    /// `text`, `ascii`.
    Text(StringBuilder),
    /// `blob`.
    Binary(BinaryBuilder),
    /// `date`.
    Date(Date32Builder),
    /// `timestamp`.
    Timestamp(TimestampMicrosecondBuilder),
    /// `varint`.
    Varint(Decimal128Builder),
    /// `decimal`.
    Decimal(Decimal128Builder),
    /// `uuid`, `timeuuid`, `inet`, `duration`.
    Printed(StringBuilder, fn(&[u8]) -> Option<String>),
    /// `list`, `set`, `vector`.
    List {
        /// The items of all rows.
        items: Box<Decoder>,
        /// Of an item.
        field: Arc<Field>,
        /// Items of each row.
        lengths: Vec<usize>,
        /// Whether a row has a list.
        valid: Vec<bool>,
        /// Items of a vector, and the bytes of each where that is fixed.
        vector: Option<(usize, Option<usize>)>,
    },
    /// `map`.
    Map {
        /// Keys of all rows.
        keys: Box<Decoder>,
        /// Values of all rows.
        values: Box<Decoder>,
        /// Of key and value.
        fields: Fields,
        /// Entries of each row.
        lengths: Vec<usize>,
        /// Whether a row has a map.
        valid: Vec<bool>,
    },
    /// Tuples and user-defined types.
    Struct {
        /// One for each field.
        columns: Vec<Decoder>,
        /// Of each field.
        fields: Fields,
        /// Whether a row has a value.
        valid: Vec<bool>,
    },
}

impl Decoder {
    /// A decoder of values of this type.
    pub fn new(cql: &ColumnType<'_>) -> Result<Self, String> {
        let decimal = |(precision, scale): (u8, i8)| {
            Decimal128Builder::new().with_data_type(DataType::Decimal128(precision, scale))
        };
        Ok(match cql {
            ColumnType::Native(native) => match native {
                NativeType::Ascii | NativeType::Text => Self::Text(StringBuilder::new()),
                NativeType::Uuid | NativeType::Timeuuid => Self::Printed(StringBuilder::new(), |bytes| {
                    uuid::Uuid::from_slice(bytes).ok().map(|id| id.to_string())
                }),
                NativeType::Inet => Self::Printed(StringBuilder::new(), |bytes| {
                    let address = match bytes.len() {
                        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
                        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
                    };
                    Some(address.to_string())
                }),
                NativeType::Duration => Self::Printed(StringBuilder::new(), print_duration),
                NativeType::Int => Self::Int32(Int32Builder::new()),
                NativeType::BigInt | NativeType::Counter | NativeType::Time => Self::Int64(Int64Builder::new()),
                NativeType::SmallInt => Self::Int16(Int16Builder::new()),
                NativeType::TinyInt => Self::Int8(Int8Builder::new()),
                NativeType::Float => Self::Float32(Float32Builder::new()),
                NativeType::Double => Self::Float64(Float64Builder::new()),
                NativeType::Boolean => Self::Boolean(BooleanBuilder::new()),
                NativeType::Varint => Self::Varint(decimal(VARINT)),
                NativeType::Decimal => Self::Decimal(decimal(DECIMAL)),
                NativeType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
                NativeType::Date => Self::Date(Date32Builder::new()),
                NativeType::Blob => Self::Binary(BinaryBuilder::new()),
                _ => return Err(format!("type {} cannot be read", cql_name(cql))),
            },
            ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. } => {
                Self::list(item, None)?
            }
            ColumnType::Vector { typ, dimensions } => {
                Self::list(typ, Some((usize::from(*dimensions), typ.type_size_for_vector())))?
            }
            ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => Self::Map {
                keys: Box::new(Self::new(key)?),
                values: Box::new(Self::new(value)?),
                fields: map_fields(arrow_type(key)?, arrow_type(value)?),
                lengths: vec![],
                valid: vec![],
            },
            ColumnType::UserDefinedType { definition, .. } => {
                Self::fields(cql, definition.field_types.iter().map(|(_, cql)| cql))?
            }
            ColumnType::Tuple(items) => Self::fields(cql, items.iter())?,
            _ => return Err(format!("type {} cannot be read", cql_name(cql))),
        })
    }

    fn list(item: &ColumnType<'_>, vector: Option<(usize, Option<usize>)>) -> Result<Self, String> {
        let field = Arc::new(Field::new("item", arrow_type(item)?, true));
        Ok(Self::List { items: Box::new(Self::new(item)?), field, lengths: vec![], valid: vec![], vector })
    }

    fn fields<'a, 'b: 'a>(
        cql: &ColumnType<'_>,
        items: impl Iterator<Item = &'a ColumnType<'b>>,
    ) -> Result<Self, String> {
        let DataType::Struct(fields) = arrow_type(cql)? else { return Err(format!("{} has no fields", cql_name(cql))) };
        Ok(Self::Struct { columns: items.map(Self::new).collect::<Result<_, _>>()?, fields, valid: vec![] })
    }

    /// Appends one value. Bytes that are empty mean null for all but text and blob.
    ///
    /// # Errors
    /// The bytes are no such value, or Spark's type is too narrow for it.
    pub fn append(&mut self, bytes: Option<&[u8]>) -> Result<(), String> {
        macro_rules! number {
            ($builder:expr, $type:ty) => {
                match bytes {
                    None | Some([]) => $builder.append_null(),
                    Some(bytes) => $builder.append_value(<$type>::from_be_bytes(exact(bytes)?)),
                }
            };
        }
        match self {
            Self::Boolean(builder) => {
                builder.append_option(bytes.and_then(|bytes| bytes.first()).map(|byte| *byte != 0))
            }
            Self::Int8(builder) => number!(builder, i8),
            Self::Int16(builder) => number!(builder, i16),
            Self::Int32(builder) => number!(builder, i32),
            Self::Int64(builder) => number!(builder, i64),
            Self::Float32(builder) => number!(builder, f32),
            Self::Float64(builder) => number!(builder, f64),
            Self::Text(builder) => match bytes {
                None => builder.append_null(),
                Some(bytes) => {
                    builder.append_value(std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_string())?);
                }
            },
            Self::Binary(builder) => builder.append_option(bytes),
            Self::Date(builder) => match bytes {
                None | Some([]) => builder.append_null(),
                Some(bytes) => {
                    // Days from 2^31 before 1970: the difference always fits into an i32.
                    let days = i64::from(u32::from_be_bytes(exact(bytes)?)) - (1_i64 << 31);
                    builder.append_value(days as i32);
                }
            },
            Self::Timestamp(builder) => match bytes {
                None | Some([]) => builder.append_null(),
                Some(bytes) => {
                    let millis = i64::from_be_bytes(exact(bytes)?);
                    let micros = millis.checked_mul(1000);
                    builder.append_value(micros.ok_or_else(|| format!("timestamp {millis} ms is out of range"))?);
                }
            },
            Self::Varint(builder) => match bytes {
                None | Some([]) => builder.append_null(),
                Some(bytes) => builder.append_value(fits(varint(bytes))?),
            },
            Self::Decimal(builder) => match bytes {
                None | Some([]) => builder.append_null(),
                Some(bytes) => {
                    let (scale, unscaled) = bytes.split_at_checked(4).ok_or("a decimal of fewer than 4 bytes")?;
                    let scale = i32::from_be_bytes(exact(scale)?);
                    builder.append_value(fits(varint(unscaled).and_then(|value| rescale(value, scale)))?);
                }
            },
            Self::Printed(builder, print) => match bytes {
                None | Some([]) => builder.append_null(),
                Some(bytes) => {
                    let text = print(bytes);
                    builder.append_value(text.ok_or_else(|| format!("{} bytes that are no such value", bytes.len()))?);
                }
            },
            Self::List { items, lengths, valid, vector, .. } => {
                valid.push(bytes.is_some());
                let mut count = 0;
                if let Some(mut rest) = bytes {
                    match vector {
                        None => {
                            count = take_count(&mut rest)?;
                            for _ in 0..count {
                                items.append(take_sized(&mut rest)?)?;
                            }
                        }
                        Some((dimensions, size)) => {
                            count = *dimensions;
                            for _ in 0..count {
                                let size = match size {
                                    Some(size) => *size,
                                    None => {
                                        usize::try_from(take_vint(&mut rest)?).map_err(|_| "a vector item too large")?
                                    }
                                };
                                items.append(Some(take(&mut rest, size)?))?;
                            }
                        }
                    }
                }
                lengths.push(count);
            }
            Self::Map { keys, values, lengths, valid, .. } => {
                valid.push(bytes.is_some());
                let mut count = 0;
                if let Some(mut rest) = bytes {
                    count = take_count(&mut rest)?;
                    for _ in 0..count {
                        keys.append(take_sized(&mut rest)?)?;
                        values.append(take_sized(&mut rest)?)?;
                    }
                }
                lengths.push(count);
            }
            Self::Struct { columns, valid, .. } => {
                valid.push(bytes.is_some());
                let mut rest = bytes.unwrap_or_default();
                for column in columns {
                    // Fields that were added to a type after a value was written are missing at its end.
                    column.append(if rest.is_empty() { None } else { take_sized(&mut rest)? })?;
                }
            }
        }
        Ok(())
    }

    /// What was appended since the last time.
    pub fn finish(&mut self) -> Result<ArrayRef, String> {
        fn nulls(valid: &mut Vec<bool>) -> Option<NullBuffer> {
            Some(NullBuffer::from(std::mem::take(valid))).filter(|nulls| nulls.null_count() > 0)
        }
        fn offsets(lengths: &mut Vec<usize>) -> OffsetBuffer<i32> {
            OffsetBuffer::from_lengths(std::mem::take(lengths))
        }
        Ok(match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Text(builder) | Self::Printed(builder, _) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Varint(builder) | Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::List { items, field, lengths, valid, .. } => Arc::new(
                ListArray::try_new(Arc::clone(field), offsets(lengths), items.finish()?, nulls(valid))
                    .map_err(|error| error.to_string())?,
            ),
            Self::Map { keys, values, fields, lengths, valid } => {
                let entries = StructArray::try_new(fields.clone(), vec![keys.finish()?, values.finish()?], None)
                    .map_err(|error| error.to_string())?;
                let field = Arc::new(Field::new("entries", DataType::Struct(fields.clone()), false));
                Arc::new(
                    MapArray::try_new(field, offsets(lengths), entries, nulls(valid), false)
                        .map_err(|error| error.to_string())?,
                )
            }
            Self::Struct { columns, fields, valid } => {
                let rows = valid.len();
                let columns = columns.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(
                    StructArray::try_new_with_length(fields.clone(), columns, nulls(valid), rows)
                        .map_err(|error| error.to_string())?,
                )
            }
        })
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{} bytes where {N} were expected", bytes.len()))
}

fn fits(value: Option<i128>) -> Result<i128, String> {
    // 38 digits.
    const LIMIT: i128 = 10_i128.pow(38);
    value
        .filter(|value| -LIMIT < *value && *value < LIMIT)
        .ok_or_else(|| "a number that does not fit into 38 digits".into())
}

/// Two's complement, big-endian.
fn varint(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let extra = bytes.len().saturating_sub(16);
    if bytes[..extra].iter().any(|byte| *byte != fill) || (extra > 0 && (bytes[extra] & 0x80 != 0) != negative) {
        return None;
    }
    let mut whole = [fill; 16];
    let kept = &bytes[extra..];
    whole[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(whole))
}

/// To the scale of [`DECIMAL`]; none if digits would be lost.
fn rescale(value: i128, scale: i32) -> Option<i128> {
    let shift = i32::from(DECIMAL.1).checked_sub(scale)?;
    if value == 0 {
        return Some(0);
    }
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { value.checked_mul(power) } else { (value % power == 0).then(|| value / power) }
}

fn take<'a>(rest: &mut &'a [u8], size: usize) -> Result<&'a [u8], String> {
    let (head, tail) = rest.split_at_checked(size).ok_or("a value that ends too early")?;
    *rest = tail;
    Ok(head)
}

fn take_count(rest: &mut &[u8]) -> Result<usize, String> {
    let count = i32::from_be_bytes(exact(take(rest, 4)?)?);
    usize::try_from(count).map_err(|_| format!("a collection of {count} items"))
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
    let size = i32::from_be_bytes(exact(take(rest, 4)?)?);
    usize::try_from(size).ok().map(|size| take(rest, size)).transpose()
}

fn take_vint(rest: &mut &[u8]) -> Result<u64, String> {
    let first = take(rest, 1)?[0];
    let extra = first.leading_ones() as usize;
    // Nine-byte vints keep nothing in the first byte.
    let kept = if extra >= 8 { 0 } else { u64::from(first & (0xff >> extra)) };
    Ok(take(rest, extra)?.iter().fold(kept, |value, byte| (value << 8) | u64::from(*byte)))
}

/// As Cassandra prints it: `1y2mo3d4h5m6s7ms8us9ns`.
fn print_duration(mut bytes: &[u8]) -> Option<String> {
    let mut part = || {
        let value = take_vint(&mut bytes).ok()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    };
    let (months, days, nanos) = (part()?, part()?, part()?);
    let mut text = String::new();
    if months < 0 || days < 0 || nanos < 0 {
        text.push('-');
    }
    let mut unit = |rest: &mut u64, size: u64, name: &str| {
        if *rest >= size {
            write!(text, "{}{name}", *rest / size).expect("writing to a string cannot fail");
            *rest %= size;
        }
    };
    let (mut months, mut days, mut nanos) = (months.unsigned_abs(), days.unsigned_abs(), nanos.unsigned_abs());
    let zero = months == 0 && days == 0 && nanos == 0;
    unit(&mut months, 12, "y");
    unit(&mut months, 1, "mo");
    unit(&mut days, 1, "d");
    for (size, name) in [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ] {
        unit(&mut nanos, size, name);
    }
    if zero {
        text.push_str("0ns");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::cassandra::convert::writer;
    use arrow::array::{Array, AsArray, Int32Array, StringArray};
    use arrow::datatypes::{Decimal128Type, Int32Type};
    use arrow::util::pretty::pretty_format_columns;

    fn native(native: NativeType) -> ColumnType<'static> {
        ColumnType::Native(native)
    }

    /// What was written comes back, printed as Spark would.
    fn there_and_back(array: ArrayRef, cql: &ColumnType<'_>) -> ArrayRef {
        let writer = writer(&array, cql).unwrap();
        let mut decoder = Decoder::new(cql).unwrap();
        for row in 0..array.len() {
            if writer.is_null(row) {
                decoder.append(None).unwrap();
            } else {
                let mut bytes = vec![];
                writer.write(row, &mut bytes).unwrap();
                decoder.append(Some(&bytes)).unwrap();
            }
        }
        let back = decoder.finish().unwrap();
        assert_eq!(back.data_type(), &arrow_type(cql).unwrap());
        back
    }

    #[test]
    fn text_comes_back_in_canonical_form() {
        let check = |given: &str, cql: NativeType, expect: &str| {
            let back = there_and_back(Arc::new(StringArray::from(vec![Some(given), None])), &native(cql));
            let printed = pretty_format_columns("v", &[Arc::clone(&back)]).unwrap().to_string();
            assert!(printed.contains(&format!("| {expect} ")), "{printed}");
            assert!(back.is_null(1));
        };
        use NativeType as N;
        check("00112233-4455-6677-8899-AABBCCDDEEFF", N::Uuid, "00112233-4455-6677-8899-aabbccddeeff");
        check("::1", N::Inet, "::1");
        check("10.1.2.3", N::Inet, "10.1.2.3");
        check("P1Y2M3DT4H5M6S", N::Duration, "1y2mo3d4h5m6s");
        check("-2h1ns", N::Duration, "-2h1ns");
        check("0s", N::Duration, "0ns");
        check("2020-02-29", N::Date, "2020-02-29");
        check("1969-12-31T23:59:59.999Z", N::Timestamp, "1969-12-31T23:59:59.999Z");
        check("-170141183460469231731687303715884105", N::Varint, "-170141183460469231731687303715884105");
        check("-12.5", N::Decimal, "-12.500000000000000000");
        check("1e3", N::Decimal, "1000.000000000000000000");
        check("-5", N::SmallInt, "-5");
        check("true", N::Boolean, "true");
    }

    #[test]
    fn numbers_that_spark_cannot_hold_are_errors() {
        let mut decoder = Decoder::new(&native(NativeType::Varint)).unwrap();
        assert!(decoder.append(Some(&[0x7f; 17])).is_err());
        decoder.append(Some(&[0xff; 17])).unwrap();
        assert_eq!(decoder.finish().unwrap().as_primitive::<Decimal128Type>().value(0), -1);
        let mut decoder = Decoder::new(&native(NativeType::Decimal)).unwrap();
        assert!(decoder.append(Some(&[0, 0, 0, 19, 1])).is_err(), "19 digits after the point");
        assert!(Decoder::new(&native(NativeType::Int)).unwrap().append(Some(&[1])).is_err());
    }

    #[test]
    fn nested_values_come_back() {
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)]), None, Some(vec![])]);
        let int = || Box::new(native(NativeType::Int));
        for typ in [CollectionType::List(int()), CollectionType::Set(int())] {
            let cql = ColumnType::Collection { frozen: true, typ };
            assert_eq!(there_and_back(Arc::new(list.clone()), &cql).as_list::<i32>(), &list);
        }
        let words = ListArray::new(
            Arc::new(Field::new("item", DataType::Utf8, true)),
            OffsetBuffer::from_lengths([2]),
            Arc::new(StringArray::from(vec!["a".to_string(), "b".repeat(200)])),
            None,
        );
        let cql = ColumnType::Vector { typ: Box::new(native(NativeType::Text)), dimensions: 2 };
        assert_eq!(there_and_back(Arc::new(words.clone()), &cql).as_list::<i32>(), &words);
        let tuple = ColumnType::Tuple(vec![native(NativeType::Int), native(NativeType::Text)]);
        let DataType::Struct(fields) = arrow_type(&tuple).unwrap() else { panic!("tuples are structs") };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![None])), Arc::new(StringArray::from(vec!["x"]))];
        let rows = StructArray::new(fields, columns, None);
        assert_eq!(there_and_back(Arc::new(rows.clone()), &tuple).as_struct(), &rows);
    }
}
