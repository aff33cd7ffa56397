//! Arrow column → CQL values, with the conversions of Spark's connector, strictly: a value that does not fit makes its
//! row a bad record, with the reason, and is never cut or rounded in silence.
//!
//! [`writer`] decides once per column how a pair of types is converted, and fails when it cannot be; what it returns
//! appends one value's CQL bytes to a buffer. Well-formed text becomes a uuid, inet, number, date, timestamp, time,
//! duration or boolean; `0x…` becomes a blob; everything can become text.

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, MapArray, OffsetSizeTrait, PrimitiveArray,
    StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, DecimalType, Field,
    Float32Type, Float64Type, Int64Type, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, i256,
};
use arrow::json::writer::{EncoderOptions, make_encoder};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use std::fmt::Display;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a value cannot be written.
pub type Reason = String;
type WriteValue = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), Reason> + Send + Sync>;

const DAY_MS: i64 = 86_400_000;
/// CQL's date counts days from 2^31 days before 1970.
const DATE_ZERO: i64 = 1 << 31;

/// Writes the values of one column.
pub struct ValueWriter {
    nulls: Option<NullBuffer>,
    write: WriteValue,
}

impl ValueWriter {
    /// Whether the value of `row` is null.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }
    /// Appends the bytes of `row`'s value, which is not null; without their length.
    ///
    /// # Errors
    /// Why it cannot be; `out` then holds part of it.
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        (self.write)(row, out)
    }
}

/// Appends a length, then what `write` appends.
#[inline]
pub fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Reason>) -> Result<(), Reason> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| "value is larger than 2 GiB".to_string())?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// How CQL spells a type.
pub fn cql_name(cql: &ColumnType<'_>) -> String {
    match cql {
        ColumnType::Native(native) => native_name(native).into(),
        ColumnType::Collection { typ: CollectionType::List(item), .. } => format!("list<{}>", cql_name(item)),
        ColumnType::Collection { typ: CollectionType::Set(item), .. } => format!("set<{}>", cql_name(item)),
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => {
            format!("map<{}, {}>", cql_name(key), cql_name(value))
        }
        ColumnType::Vector { typ, dimensions } => format!("vector<{}, {dimensions}>", cql_name(typ)),
        ColumnType::UserDefinedType { definition, .. } => definition.name.to_string(),
        ColumnType::Tuple(items) => format!("tuple<{}>", items.iter().map(cql_name).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}

fn native_name(native: &NativeType) -> &'static str {
    match native {
        NativeType::Ascii => "ascii",
        NativeType::Boolean => "boolean",
        NativeType::Blob => "blob",
        NativeType::Counter => "counter",
        NativeType::Date => "date",
        NativeType::Decimal => "decimal",
        NativeType::Double => "double",
        NativeType::Duration => "duration",
        NativeType::Float => "float",
        NativeType::Int => "int",
        NativeType::BigInt => "bigint",
        NativeType::Text => "text",
        NativeType::Timestamp => "timestamp",
        NativeType::Inet => "inet",
        NativeType::SmallInt => "smallint",
        NativeType::TinyInt => "tinyint",
        NativeType::Time => "time",
        NativeType::Timeuuid => "timeuuid",
        NativeType::Uuid => "uuid",
        NativeType::Varint => "varint",
        _ => "unknown",
    }
}

/// The start of a value that could not be used, for a message.
fn shown(value: impl Display) -> String {
    let text = value.to_string();
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn malformed(value: impl Display, expected: &str) -> Reason {
    format!("'{}' is no {expected}", shown(value))
}

fn out_of_range(value: impl Display, cql: &str) -> Reason {
    format!("{} does not fit into {cql}", shown(value))
}

/// Fewer kinds of arrays to tell apart: dictionaries unpacked, integers as 64 bits, decimals as 128.
fn normalised(array: &ArrayRef) -> Result<ArrayRef, Reason> {
    let target = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::RunEndEncoded(_, value) => value.data_type().clone(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => DataType::Time64(TimeUnit::Nanosecond),
        _ => return Ok(Arc::clone(array)),
    };
    let unpacked = cast(array, &target).map_err(|error| error.to_string())?;
    // The values of a dictionary may need it too.
    if unpacked.data_type() == array.data_type() { Ok(unpacked) } else { normalised(&unpacked) }
}

/// How to write values of `array` as `cql`.
///
/// # Errors
/// The pair of types has no conversion.
pub fn writer(array: &ArrayRef, cql: &ColumnType<'_>) -> Result<ValueWriter, Reason> {
    let array = normalised(array)?;
    let nulls = array.logical_nulls();
    let write = match cql {
        _ if matches!(array.data_type(), DataType::Null) => Box::new(|_: usize, _: &mut Vec<u8>| Ok(())) as WriteValue,
        ColumnType::Native(native) => native_writer(&array, native)?,
        ColumnType::Collection { typ: CollectionType::List(item) | CollectionType::Set(item), .. } => {
            list_writer(&array, cql, item)?
        }
        ColumnType::Collection { typ: CollectionType::Map(key, value), .. } => map_writer(&array, cql, key, value)?,
        ColumnType::Vector { typ, dimensions } => vector_writer(&array, cql, typ, usize::from(*dimensions))?,
        ColumnType::Tuple(items) => {
            let DataType::Struct(fields) = array.data_type() else { return Err(no_conversion(&array, cql)) };
            if fields.len() != items.len() {
                return Err(format!("{} fields do not make a {}", fields.len(), cql_name(cql)));
            }
            let array = array.as_struct();
            let items = items.iter().zip(array.columns());
            struct_writer(items.map(|(item, column)| writer(column, item).map(Some)).collect::<Result<_, _>>()?)
        }
        ColumnType::UserDefinedType { definition, .. } => {
            let DataType::Struct(fields) = array.data_type() else { return Err(no_conversion(&array, cql)) };
            let names = || definition.field_types.iter().map(|(name, _)| name.as_ref());
            if let Some(extra) = fields.iter().find(|field| !names().any(|name| name == field.name())) {
                let names = names().collect::<Vec<_>>().join(", ");
                return Err(format!("type {} has no field {}: its fields are {names}", definition.name, extra.name()));
            }
            let array: &StructArray = array.as_struct();
            let fields = definition.field_types.iter();
            struct_writer(
                fields
                    .map(|(name, cql)| array.column_by_name(name).map(|column| writer(column, cql)).transpose())
                    .collect::<Result<_, _>>()?,
            )
        }
        _ => return Err(no_conversion(&array, cql)),
    };
    Ok(ValueWriter { nulls, write })
}

fn no_conversion(array: &ArrayRef, cql: &ColumnType<'_>) -> Reason {
    format!("{} cannot be converted to {}", array.data_type(), cql_name(cql))
}

/// Of a text array of any layout.
fn text(
    array: &ArrayRef,
    write: impl Fn(&str, &mut Vec<u8>) -> Result<(), Reason> + Send + Sync + 'static,
) -> Option<WriteValue> {
    Some(match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        DataType::Utf8View => {
            let array = array.as_string_view().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        _ => return None,
    })
}

/// Of a binary array of any layout.
fn binary(
    array: &ArrayRef,
    write: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Reason> + Send + Sync + 'static,
) -> Option<WriteValue> {
    Some(match array.data_type() {
        DataType::Binary => {
            let array = array.as_binary::<i32>().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        _ => return None,
    })
}

fn primitive<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    write: impl Fn(T::Native, &mut Vec<u8>) -> Result<(), Reason> + Send + Sync + 'static,
) -> WriteValue {
    let array: PrimitiveArray<T> = array.as_primitive::<T>().clone();
    Box::new(move |row, out| write(array.value(row), out))
}

/// Of a timestamp of any unit, handed over as microseconds.
fn timestamp(
    array: &ArrayRef,
    write: impl Fn(i64, &mut Vec<u8>) -> Result<(), Reason> + Send + Sync + 'static,
) -> Option<WriteValue> {
    let scaled = |factor: i64| {
        move |value: i64| value.checked_mul(factor).ok_or_else(|| format!("timestamp {value} is out of range"))
    };
    Some(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            let scale = scaled(1_000_000);
            primitive::<TimestampSecondType>(array, move |value, out| write(scale(value)?, out))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let scale = scaled(1_000);
            primitive::<TimestampMillisecondType>(array, move |value, out| write(scale(value)?, out))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(array, write),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            primitive::<TimestampNanosecondType>(array, move |value, out| write(value.div_euclid(1_000), out))
        }
        DataType::Date64 => {
            let scale = scaled(1_000);
            primitive::<Date64Type>(array, move |value, out| write(scale(value)?, out))
        }
        _ => return None,
    })
}

fn native_writer(array: &ArrayRef, native: &NativeType) -> Result<WriteValue, Reason> {
    let written = match native {
        NativeType::Ascii | NativeType::Text => Some(text_writer(array, matches!(native, NativeType::Ascii))?),
        NativeType::Boolean => boolean_writer(array),
        NativeType::TinyInt => integer_writer(array, "tinyint", |value, out| {
            i8::try_from(value).map(|value| out.extend_from_slice(&value.to_be_bytes())).is_ok()
        }),
        NativeType::SmallInt => integer_writer(array, "smallint", |value, out| {
            i16::try_from(value).map(|value| out.extend_from_slice(&value.to_be_bytes())).is_ok()
        }),
        NativeType::Int => integer_writer(array, "int", |value, out| {
            i32::try_from(value).map(|value| out.extend_from_slice(&value.to_be_bytes())).is_ok()
        }),
        NativeType::BigInt | NativeType::Counter => bigint_writer(array),
        NativeType::Float => float_writer(array, "float", |value, out| {
            let narrow = value as f32;
            out.extend_from_slice(&narrow.to_be_bytes());
            narrow.is_finite() || !value.is_finite()
        }),
        NativeType::Double => float_writer(array, "double", |value, out| {
            out.extend_from_slice(&value.to_be_bytes());
            true
        }),
        NativeType::Varint => varint_writer(array),
        NativeType::Decimal => decimal_writer(array),
        NativeType::Timestamp => timestamp_writer(array),
        NativeType::Date => date_writer(array),
        NativeType::Time => time_writer(array),
        NativeType::Uuid => uuid_writer(array, false),
        NativeType::Timeuuid => uuid_writer(array, true),
        NativeType::Inet => inet_writer(array),
        NativeType::Duration => text(array, |value, out| {
            let (months, days, nanos) = parse_duration(value).ok_or_else(|| malformed(value, "duration"))?;
            [months, days, nanos].into_iter().for_each(|part| signed_vint(part, out));
            Ok(())
        }),
        NativeType::Blob => binary(array, |value, out| {
            out.extend_from_slice(value);
            Ok(())
        })
        .or_else(|| text(array, |value, out| hex_blob(value, out).ok_or_else(|| malformed(value, "blob (0x…)")))),
        _ => None,
    };
    written.ok_or_else(|| no_conversion(array, &ColumnType::Native(native.clone())))
}

/// Everything can become text: as Spark casts it, binary as `0x…`, nested values as JSON.
fn text_writer(array: &ArrayRef, ascii: bool) -> Result<WriteValue, Reason> {
    if ascii
        && let Some(write) = text(array, |value, out| {
            if !value.is_ascii() {
                return Err(malformed(value, "ascii"));
            }
            out.extend_from_slice(value.as_bytes());
            Ok(())
        })
    {
        return Ok(write);
    }
    let plain = text(array, |value, out| {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    })
    .or_else(|| {
        binary(array, |value, out| {
            out.extend_from_slice(b"0x");
            value.iter().for_each(|byte| print(out, format_args!("{byte:02x}")));
            Ok(())
        })
    })
    .or_else(|| {
        timestamp(array, |micros, out| {
            let time = DateTime::from_timestamp_micros(micros).ok_or_else(|| out_of_range(micros, "a timestamp"))?;
            print(out, time.format("%Y-%m-%d %H:%M:%S"));
            let fraction = time.timestamp_subsec_micros();
            if fraction > 0 {
                print(out, format!(".{fraction:06}").trim_end_matches('0'));
            }
            Ok(())
        })
    });
    if let Some(write) = plain {
        return Ok(write);
    }
    Ok(match array.data_type() {
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| {
                print(out, array.value(row));
                Ok(())
            })
        }
        DataType::Int64 => primitive::<Int64Type>(array, |value, out| {
            print(out, value);
            Ok(())
        }),
        DataType::Float32 => primitive::<Float32Type>(array, |value, out| {
            let plain = (1e-3..1e7).contains(&value.abs());
            print(out, java_float(f64::from(value), plain, &format!("{value}"), &format!("{value:E}")));
            Ok(())
        }),
        DataType::Float64 => primitive::<Float64Type>(array, |value, out| {
            let plain = (1e-3..1e7).contains(&value.abs());
            print(out, java_float(value, plain, &format!("{value}"), &format!("{value:E}")));
            Ok(())
        }),
        DataType::Decimal128(precision, scale) => {
            let (precision, scale) = (*precision, *scale);
            primitive::<Decimal128Type>(array, move |value, out| {
                print(out, Decimal128Type::format_decimal(value, precision, scale));
                Ok(())
            })
        }
        DataType::Decimal256(precision, scale) => {
            let (precision, scale) = (*precision, *scale);
            primitive::<Decimal256Type>(array, move |value, out| {
                print(out, Decimal256Type::format_decimal(value, precision, scale));
                Ok(())
            })
        }
        DataType::Date32 => primitive::<Date32Type>(array, |days, out| {
            let date = Date32Type::to_naive_date_opt(days).ok_or_else(|| out_of_range(days, "a date"))?;
            print(out, date);
            Ok(())
        }),
        DataType::Time64(_) => primitive::<Time64NanosecondType>(array, |nanos, out| {
            let seconds = nanos.div_euclid(1_000_000_000);
            let time = u32::try_from(seconds)
                .ok()
                .and_then(|s| NaiveTime::from_num_seconds_from_midnight_opt(s, (nanos % 1_000_000_000) as u32))
                .ok_or_else(|| out_of_range(nanos, "a time"))?;
            print(out, time);
            Ok(())
        }),
        _ => {
            let field = Arc::new(Field::new("value", array.data_type().clone(), true));
            let options = EncoderOptions::default();
            make_encoder(&field, array, &options).map_err(|error| error.to_string())?;
            let array = Arc::clone(array);
            Box::new(move |row, out| {
                let options = EncoderOptions::default();
                let mut encoder = make_encoder(&field, &array, &options).map_err(|error| error.to_string())?;
                encoder.encode(row, out);
                Ok(())
            })
        }
    })
}

fn print(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("writing to a vector cannot fail");
}

/// As Java prints it, which is what Spark's `CAST(x AS STRING)` gives: `1.0`, `1.0E10`, `NaN`, `Infinity`.
fn java_float(value: f64, plain: bool, shortest: &str, scientific: &str) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    if plain || value == 0.0 {
        return if shortest.contains('.') { shortest.into() } else { format!("{shortest}.0") };
    }
    match scientific.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => scientific.into(),
    }
}

fn boolean_writer(array: &ArrayRef) -> Option<WriteValue> {
    if let DataType::Boolean = array.data_type() {
        let array = array.as_boolean().clone();
        return Some(Box::new(move |row, out| {
            out.push(u8::from(array.value(row)));
            Ok(())
        }));
    }
    if let DataType::Int64 = array.data_type() {
        return Some(primitive::<Int64Type>(array, |value, out| {
            out.push(u8::from(value != 0));
            Ok(())
        }));
    }
    text(array, |value, out| {
        let truth = match value.trim() {
            value if value.eq_ignore_ascii_case("true") => true,
            value if value.eq_ignore_ascii_case("false") => false,
            _ => return Err(malformed(value, "boolean")),
        };
        out.push(u8::from(truth));
        Ok(())
    })
}

/// A float that is a whole number of 64 bits.
fn whole(value: f64) -> Option<i64> {
    // 2^63 is a float, i64::MAX is not: the upper bound is excluded.
    (value.fract() == 0.0 && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value))
        .then_some(value as i64)
}

/// A decimal that is a whole number of 64 bits.
fn whole_decimal(value: i128, scale: i8) -> Option<i64> {
    let power = 10_i128.checked_pow(u32::from(scale.unsigned_abs()))?;
    let whole = if scale < 0 {
        value.checked_mul(power)?
    } else if value % power == 0 {
        value / power
    } else {
        return None;
    };
    i64::try_from(whole).ok()
}

/// `put` says whether the number fits.
fn integer_writer(
    array: &ArrayRef,
    cql: &'static str,
    put: impl Fn(i64, &mut Vec<u8>) -> bool + Send + Sync + 'static,
) -> Option<WriteValue> {
    let put = move |value: Option<i64>, given: &dyn Display, out: &mut Vec<u8>| match value {
        Some(value) if put(value, out) => Ok(()),
        _ => Err(out_of_range(given, cql)),
    };
    Some(match array.data_type() {
        DataType::Int64 => primitive::<Int64Type>(array, move |value, out| put(Some(value), &value, out)),
        DataType::Float32 => primitive::<Float32Type>(array, move |value, out| put(whole(value.into()), &value, out)),
        DataType::Float64 => primitive::<Float64Type>(array, move |value, out| put(whole(value), &value, out)),
        DataType::Decimal128(precision, scale) => {
            let (precision, scale) = (*precision, *scale);
            primitive::<Decimal128Type>(array, move |value, out| {
                let given = Decimal128Type::format_decimal(value, precision, scale);
                put(whole_decimal(value, scale), &given, out)
            })
        }
        _ => {
            return text(array, move |value, out| {
                let number = value.trim().parse::<i64>().map_err(|_| malformed(value, cql))?;
                put(Some(number), &value, out)
            });
        }
    })
}

/// As an integer; dates and times as milliseconds since 1970, as Java's `getTime`.
fn bigint_writer(array: &ArrayRef) -> Option<WriteValue> {
    let put = |value: i64, out: &mut Vec<u8>| {
        out.extend_from_slice(&value.to_be_bytes());
        true
    };
    match array.data_type() {
        DataType::Date32 => Some(primitive::<Date32Type>(array, |days, out| {
            out.extend_from_slice(&(i64::from(days) * DAY_MS).to_be_bytes());
            Ok(())
        })),
        DataType::Time64(_) => Some(primitive::<Time64NanosecondType>(array, |nanos, out| {
            out.extend_from_slice(&nanos.to_be_bytes());
            Ok(())
        })),
        _ => timestamp(array, |micros, out| {
            out.extend_from_slice(&micros.div_euclid(1000).to_be_bytes());
            Ok(())
        })
        .or_else(|| integer_writer(array, "bigint", put)),
    }
}

fn float_writer(
    array: &ArrayRef,
    cql: &'static str,
    put: impl Fn(f64, &mut Vec<u8>) -> bool + Send + Sync + 'static,
) -> Option<WriteValue> {
    let put = move |value: f64, out: &mut Vec<u8>| if put(value, out) { Ok(()) } else { Err(out_of_range(value, cql)) };
    Some(match array.data_type() {
        DataType::Float32 => primitive::<Float32Type>(array, move |value, out| put(value.into(), out)),
        DataType::Float64 => primitive::<Float64Type>(array, put),
        DataType::Int64 => primitive::<Int64Type>(array, move |value, out| put(value as f64, out)),
        DataType::Decimal128(precision, scale) => {
            let (precision, scale) = (*precision, *scale);
            primitive::<Decimal128Type>(array, move |value, out| {
                let text = Decimal128Type::format_decimal(value, precision, scale);
                put(text.parse().map_err(|_| malformed(&text, cql))?, out)
            })
        }
        _ => {
            return text(array, move |value, out| put(value.trim().parse().map_err(|_| malformed(value, cql))?, out));
        }
    })
}

/// Two's complement, big-endian, as short as it can be.
fn put_varint(value: i256, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let mut start = 0;
    while start < 31 && matches!((bytes[start], bytes[start + 1] >> 7), (0x00, 0) | (0xff, 1)) {
        start += 1;
    }
    out.extend_from_slice(&bytes[start..]);
}

fn varint_writer(array: &ArrayRef) -> Option<WriteValue> {
    fn put(unscaled: i256, scale: i32, given: &dyn Display, out: &mut Vec<u8>) -> Result<(), Reason> {
        let ten = i256::from_i128(10);
        let power = ten.checked_pow(scale.unsigned_abs()).ok_or_else(|| out_of_range(given, "varint"))?;
        let whole = if scale <= 0 {
            unscaled.checked_mul(power).ok_or_else(|| out_of_range(given, "varint (76 digits)"))?
        } else if unscaled.wrapping_rem(power) == i256::ZERO {
            unscaled.wrapping_div(power)
        } else {
            return Err(out_of_range(given, "varint"));
        };
        put_varint(whole, out);
        Ok(())
    }
    decimals(array, "varint", put)
}

fn decimal_writer(array: &ArrayRef) -> Option<WriteValue> {
    fn put(unscaled: i256, scale: i32, _: &dyn Display, out: &mut Vec<u8>) -> Result<(), Reason> {
        out.extend_from_slice(&scale.to_be_bytes());
        put_varint(unscaled, out);
        Ok(())
    }
    decimals(array, "decimal", put)
}

/// Of a number of any kind, handed over as unscaled value and scale.
fn decimals(
    array: &ArrayRef,
    cql: &'static str,
    put: fn(i256, i32, &dyn Display, &mut Vec<u8>) -> Result<(), Reason>,
) -> Option<WriteValue> {
    let put_text = move |value: &str, out: &mut Vec<u8>| {
        let (unscaled, scale) = parse_decimal(value.trim()).ok_or_else(|| malformed(value, cql))?;
        put(unscaled, scale, &value, out)
    };
    Some(match array.data_type() {
        DataType::Int64 => {
            primitive::<Int64Type>(array, move |value, out| put(i256::from_i128(value.into()), 0, &value, out))
        }
        // By their shortest decimal form, as Scala's `BigDecimal` takes them.
        DataType::Float32 => primitive::<Float32Type>(array, move |value, out| put_text(&value.to_string(), out)),
        DataType::Float64 => primitive::<Float64Type>(array, move |value, out| put_text(&value.to_string(), out)),
        DataType::Decimal128(_, scale) => {
            let scale = i32::from(*scale);
            primitive::<Decimal128Type>(array, move |value, out| put(i256::from_i128(value), scale, &value, out))
        }
        DataType::Decimal256(_, scale) => {
            let scale = i32::from(*scale);
            primitive::<Decimal256Type>(array, move |value, out| put(value, scale, &value, out))
        }
        _ => return text(array, put_text),
    })
}

/// `-12.50e3` → (-1250, -1). No more than 76 digits.
fn parse_decimal(text: &str) -> Option<(i256, i32)> {
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (sign, digits) = match number.as_bytes().first()? {
        b'-' => ("-", &number[1..]),
        b'+' => ("", &number[1..]),
        _ => ("", number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let significant = format!("{whole}{fraction}");
    let significant = significant.trim_start_matches('0');
    if significant.len() > 76 {
        return None;
    }
    let unscaled =
        if significant.is_empty() { i256::ZERO } else { i256::from_string(&format!("{sign}{significant}"))? };
    Some((unscaled, i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?))
}

fn put_i64(value: i64, out: &mut Vec<u8>) -> Result<(), Reason> {
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

/// Milliseconds since 1970; a number is taken for that, a time without zone for UTC.
fn timestamp_writer(array: &ArrayRef) -> Option<WriteValue> {
    Some(match array.data_type() {
        DataType::Int64 => primitive::<Int64Type>(array, put_i64),
        DataType::Date32 => primitive::<Date32Type>(array, |days, out| put_i64(i64::from(days) * DAY_MS, out)),
        _ => {
            return timestamp(array, |micros, out| put_i64(micros.div_euclid(1000), out)).or_else(|| {
                text(array, |value, out| {
                    let time = parse_timestamp(value.trim()).ok_or_else(|| malformed(value, "timestamp"))?;
                    put_i64(time.timestamp_millis(), out)
                })
            });
        }
    })
}

/// ISO 8601 in the shapes that Cassandra takes.
fn parse_timestamp(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = arrow::compute::kernels::cast_utils::string_to_datetime(&Utc, text) {
        return Some(time);
    }
    for format in ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc());
        }
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z", "%Y-%m-%dT%H:%M%z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Some(time.to_utc());
        }
    }
    None
}

/// Days; a time without zone is taken for UTC.
fn date_writer(array: &ArrayRef) -> Option<WriteValue> {
    fn put(days: i64, out: &mut Vec<u8>) -> Result<(), Reason> {
        let shifted = u32::try_from(days + DATE_ZERO).map_err(|_| out_of_range(days, "date"))?;
        out.extend_from_slice(&shifted.to_be_bytes());
        Ok(())
    }
    Some(match array.data_type() {
        DataType::Date32 => primitive::<Date32Type>(array, |days, out| put(days.into(), out)),
        // Spark's connector takes a number for days since 1970.
        DataType::Int64 => primitive::<Int64Type>(array, |days, out| {
            i32::try_from(days).map_err(|_| out_of_range(days, "date")).and_then(|days| put(days.into(), out))
        }),
        _ => {
            return timestamp(array, |micros, out| put(micros.div_euclid(DAY_MS * 1000), out)).or_else(|| {
                text(array, |value, out| {
                    let trimmed = value.trim();
                    let date = NaiveDate::parse_from_str(trimmed, "%Y-%m-%d")
                        .ok()
                        .or_else(|| parse_timestamp(trimmed).map(|time| time.date_naive()))
                        .ok_or_else(|| malformed(value, "date"))?;
                    put(date.signed_duration_since(NaiveDate::default()).num_days(), out)
                })
            });
        }
    })
}

/// Nanoseconds since midnight.
fn time_writer(array: &ArrayRef) -> Option<WriteValue> {
    fn put(nanos: i64, out: &mut Vec<u8>) -> Result<(), Reason> {
        if !(0..DAY_MS * 1_000_000).contains(&nanos) {
            return Err(out_of_range(nanos, "time (nanoseconds of a day)"));
        }
        put_i64(nanos, out)
    }
    Some(match array.data_type() {
        DataType::Int64 => primitive::<Int64Type>(array, put),
        DataType::Time64(_) => primitive::<Time64NanosecondType>(array, put),
        _ => {
            return text(array, |value, out| {
                let time = value.trim().parse::<NaiveTime>().map_err(|_| malformed(value, "time"))?;
                put(i64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(time.nanosecond()), out)
            });
        }
    })
}

fn uuid_writer(array: &ArrayRef, time_based: bool) -> Option<WriteValue> {
    let name = if time_based { "timeuuid" } else { "uuid" };
    let put = move |id: uuid::Uuid, out: &mut Vec<u8>| {
        if time_based && id.get_version_num() != 1 {
            return Err(malformed(id, "timeuuid (a version 1 UUID)"));
        }
        out.extend_from_slice(id.as_bytes());
        Ok(())
    };
    text(array, move |value, out| put(uuid::Uuid::try_parse(value.trim()).map_err(|_| malformed(value, name))?, out))
        .or_else(|| {
            binary(array, move |value, out| {
                put(uuid::Uuid::from_slice(value).map_err(|_| format!("{} bytes are no {name}", value.len()))?, out)
            })
        })
}

fn inet_writer(array: &ArrayRef) -> Option<WriteValue> {
    text(array, |value, out| {
        match value.trim().parse::<IpAddr>().map_err(|_| malformed(value, "inet"))? {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
        Ok(())
    })
    .or_else(|| {
        binary(array, |value, out| {
            if !matches!(value.len(), 4 | 16) {
                return Err(format!("{} bytes are no inet", value.len()));
            }
            out.extend_from_slice(value);
            Ok(())
        })
    })
}

fn hex_blob(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for pair in digits.chunks_exact(2) {
        out.push((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
    }
    Some(())
}

/// Cassandra's `1y2mo3d12h30m5s6ms7us8ns` and ISO's `P1Y2M3DT12H30M5S`, `P2W`, as months, days and nanoseconds.
fn parse_duration(text: &str) -> Option<(i64, i64, i64)> {
    let text = text.trim();
    let (sign, body) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let iso = body.strip_prefix(['P', 'p']);
    let mut rest = iso.unwrap_or(body);
    let (mut months, mut days, mut nanos) = (0_i64, 0_i64, 0_i64);
    let mut in_time = iso.is_none();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if iso.is_some()
            && !in_time
            && let Some(time) = rest.strip_prefix(['T', 't'])
        {
            (rest, in_time) = (time, true);
            if rest.is_empty() {
                return None;
            }
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || (iso.is_some() && matches!(c, 'T' | 't')));
        let unit = rest[..unit_end.unwrap_or(rest.len())].to_ascii_lowercase();
        rest = &rest[unit_end.unwrap_or(rest.len())..];
        const SECOND: i64 = 1_000_000_000;
        let (total, factor) = match (unit.as_str(), iso.is_some(), in_time) {
            ("y", _, false) | ("y", false, _) => (&mut months, 12),
            ("mo", false, _) | ("m", true, false) => (&mut months, 1),
            ("w", _, false) | ("w", false, _) => (&mut days, 7),
            ("d", _, false) | ("d", false, _) => (&mut days, 1),
            ("h", _, true) => (&mut nanos, 3600 * SECOND),
            ("m", _, true) => (&mut nanos, 60 * SECOND),
            ("s", _, true) => (&mut nanos, SECOND),
            ("ms", false, _) => (&mut nanos, 1_000_000),
            ("us" | "µs", false, _) => (&mut nanos, 1_000),
            ("ns", false, _) => (&mut nanos, 1),
            _ => return None,
        };
        *total = total.checked_add(number.checked_mul(factor)?)?;
    }
    if i32::try_from(months).is_err() || i32::try_from(days).is_err() {
        return None;
    }
    Some((sign * months, sign * days, sign * nanos))
}

/// The native protocol's zigzag `[vint]`.
fn signed_vint(value: i64, out: &mut Vec<u8>) {
    unsigned_vint(((value << 1) ^ (value >> 63)) as u64, out);
}

/// The native protocol's `[unsigned vint]`: leading ones of the first byte count the bytes that follow.
fn unsigned_vint(value: u64, out: &mut Vec<u8>) {
    let bits = 64 - value.max(1).leading_zeros() as usize;
    // Each extra byte costs one bit of the first; nine bytes hold all 64.
    let extra = if bits > 56 { 8 } else { (bits - 1) / 7 };
    let bytes = value.to_be_bytes();
    if extra == 8 {
        out.push(0xff);
        out.extend_from_slice(&bytes);
    } else {
        let ones = !(0xff_u8 >> extra);
        out.push(ones | bytes[7 - extra]);
        out.extend_from_slice(&bytes[8 - extra..]);
    }
}

/// A list's items and where each row's begin and end.
type Rows = (ArrayRef, Box<dyn Fn(usize) -> (usize, usize) + Send + Sync>);

fn list_rows(array: &ArrayRef) -> Option<Rows> {
    fn offsets<O: OffsetSizeTrait>(array: &arrow::array::GenericListArray<O>) -> Rows {
        let offsets = array.offsets().clone();
        (Arc::clone(array.values()), Box::new(move |row| (offsets[row].as_usize(), offsets[row + 1].as_usize())))
    }
    Some(match array.data_type() {
        DataType::List(_) => offsets::<i32>(array.as_any().downcast_ref::<ListArray>()?),
        DataType::LargeList(_) => offsets::<i64>(array.as_any().downcast_ref::<LargeListArray>()?),
        DataType::FixedSizeList(..) => {
            let array = array.as_any().downcast_ref::<FixedSizeListArray>()?;
            let size = array.value_length() as usize;
            (Arc::clone(array.values()), Box::new(move |row| (row * size, (row + 1) * size)))
        }
        DataType::ListView(field) => return list_rows(&cast(array, &DataType::List(Arc::clone(field))).ok()?),
        DataType::LargeListView(field) => {
            return list_rows(&cast(array, &DataType::LargeList(Arc::clone(field))).ok()?);
        }
        _ => return None,
    })
}

fn put_count(count: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    let count = i32::try_from(count).map_err(|_| format!("a collection of {count} items is too large"))?;
    out.extend_from_slice(&count.to_be_bytes());
    Ok(())
}

fn list_writer(array: &ArrayRef, cql: &ColumnType<'_>, item: &ColumnType<'_>) -> Result<WriteValue, Reason> {
    let (values, rows) = list_rows(array).ok_or_else(|| no_conversion(array, cql))?;
    let item = writer(&values, item)?;
    Ok(Box::new(move |row, out| {
        let (start, end) = rows(row);
        put_count(end - start, out)?;
        for at in start..end {
            if item.is_null(at) {
                return Err("null inside a collection, which cassandra does not keep".into());
            }
            sized(out, |out| item.write(at, out))?;
        }
        Ok(())
    }))
}

fn map_writer(
    array: &ArrayRef,
    cql: &ColumnType<'_>,
    key: &ColumnType<'_>,
    value: &ColumnType<'_>,
) -> Result<WriteValue, Reason> {
    let Some(map) = array.as_any().downcast_ref::<MapArray>() else { return Err(no_conversion(array, cql)) };
    let (key, value) = (writer(map.keys(), key)?, writer(map.values(), value)?);
    let offsets = map.offsets().clone();
    Ok(Box::new(move |row, out| {
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        put_count(end - start, out)?;
        for at in start..end {
            for part in [&key, &value] {
                if part.is_null(at) {
                    return Err("null inside a map, which cassandra does not keep".into());
                }
                sized(out, |out| part.write(at, out))?;
            }
        }
        Ok(())
    }))
}

fn vector_writer(
    array: &ArrayRef,
    cql: &ColumnType<'_>,
    item_type: &ColumnType<'_>,
    dimensions: usize,
) -> Result<WriteValue, Reason> {
    let (values, rows) = list_rows(array).ok_or_else(|| no_conversion(array, cql))?;
    let item = writer(&values, item_type)?;
    let fixed = item_type.type_size_for_vector().is_some();
    Ok(Box::new(move |row, out| {
        let (start, end) = rows(row);
        if end - start != dimensions {
            return Err(format!("{} items do not make a vector of {dimensions}", end - start));
        }
        let mut buffer = vec![];
        for at in start..end {
            if item.is_null(at) {
                return Err("null inside a vector, which cassandra does not keep".into());
            }
            if fixed {
                item.write(at, out)?;
            } else {
                buffer.clear();
                item.write(at, &mut buffer)?;
                unsigned_vint(buffer.len() as u64, out);
                out.extend_from_slice(&buffer);
            }
        }
        Ok(())
    }))
}

/// Tuples and user-defined types: each field with its length, null where there is none.
fn struct_writer(fields: Vec<Option<ValueWriter>>) -> WriteValue {
    Box::new(move |row, out| {
        for field in &fields {
            match field {
                Some(field) if !field.is_null(row) => sized(out, |out| field.write(row, out))?,
                _ => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
        Int32Array, Int64Array, StringArray, StringViewArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::{Int8Type, Int32Type};
    use scylla::value::CqlDuration;

    fn native(native: NativeType) -> ColumnType<'static> {
        ColumnType::Native(native)
    }
    fn one(array: impl Array + 'static, cql: &ColumnType<'_>) -> Result<Vec<u8>, String> {
        let mut out = vec![];
        writer(&(Arc::new(array) as ArrayRef), cql)?.write(0, &mut out)?;
        Ok(out)
    }
    fn text_to(value: &str, cql: NativeType) -> Result<Vec<u8>, String> {
        one(StringArray::from(vec![value]), &native(cql))
    }
    fn to_text(array: impl Array + 'static) -> String {
        String::from_utf8(one(array, &native(NativeType::Text)).unwrap()).unwrap()
    }

    #[test]
    fn well_formed_text_converts_and_other_text_says_why() {
        let good = |value: &str, cql: NativeType, expect: &[u8]| assert_eq!(text_to(value, cql).as_deref(), Ok(expect));
        let bad = |value: &str, cql: NativeType, part: &str| {
            let error = text_to(value, cql).expect_err(value);
            assert!(error.contains(part), "{error}");
        };
        use NativeType as N;
        let id = uuid::Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        good(&id.to_string(), N::Uuid, id.as_bytes());
        good(&id.to_string().to_uppercase(), N::Uuid, id.as_bytes());
        bad("abc", N::Uuid, "'abc' is no uuid");
        bad(&id.to_string(), N::Timeuuid, "version 1");
        good("10.0.0.1", N::Inet, &[10, 0, 0, 1]);
        bad("example.org", N::Inet, "no inet");
        good("-7", N::Int, &(-7_i32).to_be_bytes());
        bad("300", N::TinyInt, "does not fit into tinyint");
        bad("7.5", N::Int, "no int");
        bad("", N::BigInt, "no bigint");
        good("1.5", N::Double, &1.5_f64.to_be_bytes());
        bad("1e300", N::Float, "does not fit into float");
        good("TRUE", N::Boolean, &[1]);
        bad("yes", N::Boolean, "no boolean");
        good("1970-01-02", N::Date, &0x8000_0001_u32.to_be_bytes());
        good("1969-12-31", N::Date, &0x7fff_ffff_u32.to_be_bytes());
        bad("2020-13-01", N::Date, "no date");
        good("1970-01-01T00:00:01.5Z", N::Timestamp, &1500_i64.to_be_bytes());
        good("1970-01-01 00:01", N::Timestamp, &60_000_i64.to_be_bytes());
        good("1970-01-01 01:00:00+0100", N::Timestamp, &0_i64.to_be_bytes());
        bad("yesterday", N::Timestamp, "no timestamp");
        good("00:00:01.000000005", N::Time, &1_000_000_005_i64.to_be_bytes());
        good("0x00Ff", N::Blob, &[0, 255]);
        bad("00ff", N::Blob, "no blob");
        bad("0x0", N::Blob, "no blob");
        good("128", N::Varint, &[0, 128]);
        good("-129", N::Varint, &[255, 127]);
        good("0", N::Varint, &[0]);
        good("12.50", N::Decimal, &[0, 0, 0, 2, 4, 226]);
        good("1e3", N::Decimal, &[255, 255, 255, 253, 1]);
        bad("1.5", N::Varint, "does not fit");
        bad("grün", N::Ascii, "no ascii");
    }

    #[test]
    fn numbers_are_checked_when_they_narrow() {
        let int = native(NativeType::Int);
        assert_eq!(one(Int64Array::from(vec![5]), &int), Ok(5_i32.to_be_bytes().to_vec()));
        assert!(one(Int64Array::from(vec![i64::MAX]), &int).is_err());
        assert_eq!(one(Float64Array::from(vec![5.0]), &int), Ok(5_i32.to_be_bytes().to_vec()));
        assert!(one(Float64Array::from(vec![5.5]), &int).is_err());
        assert!(one(Float64Array::from(vec![9_223_372_036_854_775_808.0]), &native(NativeType::BigInt)).is_err());
        assert!(one(UInt64Array::from(vec![u64::MAX]), &native(NativeType::BigInt)).is_err());
        assert_eq!(one(UInt64Array::from(vec![7]), &native(NativeType::BigInt)), Ok(7_i64.to_be_bytes().to_vec()));
        let decimal = Decimal128Array::from(vec![500]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(one(decimal, &int), Ok(5_i32.to_be_bytes().to_vec()));
        let decimal = Decimal128Array::from(vec![550]).with_precision_and_scale(10, 2).unwrap();
        assert!(one(decimal, &int).is_err());
        assert_eq!(one(Int32Array::from(vec![3]), &native(NativeType::Double)), Ok(3_f64.to_be_bytes().to_vec()));
    }

    #[test]
    fn everything_becomes_text() {
        let check = |array: ArrayRef, expect: &str| {
            let mut out = vec![];
            writer(&array, &native(NativeType::Text)).unwrap().write(0, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        };
        check(Arc::new(BooleanArray::from(vec![true])), "true");
        check(Arc::new(Int32Array::from(vec![-5])), "-5");
        check(Arc::new(Date32Array::from(vec![1])), "1970-01-02");
        check(Arc::new(BinaryArray::from(vec![&[0_u8, 255][..]])), "0x00ff");
        check(Arc::new(TimestampMicrosecondArray::from(vec![1_500_000])), "1970-01-01 00:00:01.5");
        check(Arc::new(TimestampMicrosecondArray::from(vec![-1])), "1969-12-31 23:59:59.999999");
        check(Arc::new(StringViewArray::from(vec!["view"])), "view");
        check(Arc::new(vec!["word"].into_iter().collect::<DictionaryArray<Int8Type>>()), "word");
        for (value, expect) in
            [(1.0, "1.0"), (0.1, "0.1"), (1e7, "1.0E7"), (1.5e-5, "1.5E-5"), (f64::NAN, "NaN"), (0.0, "0.0")]
        {
            assert_eq!(to_text(Float64Array::from(vec![value])), expect);
        }
        assert_eq!(to_text(Float32Array::from(vec![0.1])), "0.1");
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1), None])]);
        assert_eq!(to_text(list), "[1,null]");
    }

    #[test]
    fn collections() {
        let int = || Box::new(native(NativeType::Int));
        let list = ColumnType::Collection { frozen: false, typ: CollectionType::List(int()) };
        let values = |items: Vec<Option<i32>>| ListArray::from_iter_primitive::<Int32Type, _, _>([Some(items)]);
        let expect = [0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 8];
        assert_eq!(one(values(vec![Some(7), Some(8)]), &list).as_deref(), Ok(&expect[..]));
        assert!(one(values(vec![None]), &list).unwrap_err().contains("null inside"));
        let vector = ColumnType::Vector { typ: int(), dimensions: 2 };
        assert_eq!(one(values(vec![Some(7), Some(8)]), &vector).as_deref(), Ok(&[0, 0, 0, 7, 0, 0, 0, 8][..]));
        assert!(one(values(vec![Some(7)]), &vector).is_err());
        let tuple = ColumnType::Tuple(vec![native(NativeType::Int), native(NativeType::Text)]);
        let fields: Vec<(Arc<Field>, ArrayRef)> = vec![
            (Arc::new(Field::new("0", DataType::Int32, true)), Arc::new(Int32Array::from(vec![None]))),
            (Arc::new(Field::new("1", DataType::Utf8, true)), Arc::new(StringArray::from(vec!["x"]))),
        ];
        let expect = [255, 255, 255, 255, 0, 0, 0, 1, b'x'];
        assert_eq!(one(StructArray::from(fields), &tuple).as_deref(), Ok(&expect[..]));
        assert!(one(StringArray::from(vec!["x"]), &list).unwrap_err().contains("cannot be converted to list<int>"));
    }

    #[test]
    fn durations_as_the_driver_writes_them() {
        use scylla::serialize::value::SerializeValue;
        use scylla::serialize::writers::CellWriter;
        let check = |text: &str, months: i32, days: i32, nanoseconds: i64| {
            let mut expect = vec![];
            CqlDuration { months, days, nanoseconds }
                .serialize(&native(NativeType::Duration), CellWriter::new(&mut expect))
                .unwrap();
            assert_eq!(text_to(text, NativeType::Duration).as_deref(), Ok(&expect[4..]), "{text}");
        };
        check("1y2mo", 14, 0, 0);
        check("12h30m", 0, 0, 45_000_000_000_000);
        check("-3d1ns", 0, -3, -1);
        check("P1Y2M3DT4H5M6S", 14, 3, 14_706_000_000_000);
        check("P2W", 0, 14, 0);
        check("9223372036s", 0, 0, 9_223_372_036_000_000_000);
        for wrong in ["", "P", "PT", "5", "5x", "h", "P5S"] {
            assert!(text_to(wrong, NativeType::Duration).is_err(), "{wrong}");
        }
    }
}
