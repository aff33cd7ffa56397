//! `headwater_cast(value, NULL of the type, context)`: Spark's CAST and TRY_CAST between all types.
//!
//! The analyzer puts it in place of casts that DataFusion would do otherwise than Spark; the type travels as a typed NULL,
//! and the [`Mode`] with the session's time zone as text.

pub mod number;
pub mod text;

use super::coercion::{is_binary, is_decimal, is_fractional, is_text};
use super::datetime::{self, MICROS_PER_DAY, MICROS_PER_SECOND};
use super::ddl;
use super::native::{Context, external};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, ListArray, MapArray, StringArray, StructArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Field, FieldRef, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use headwater_proto::error::Error;
use std::sync::Arc;

/// The function's name.
pub const CAST: &str = "headwater_cast";

/// What happens to a value that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The query fails.
    Ansi,
    /// It becomes NULL, or wraps around as in Java.
    Legacy,
    /// It becomes NULL.
    Try,
}

/// How values are cast.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of what does not fit.
    pub mode: Mode,
    /// ANSI mode and zone of the session.
    pub context: Context,
}

impl Options {
    /// As text, for the function's argument.
    pub fn encode(mode: Mode, zone: &str) -> String {
        let mode = match mode {
            Mode::Ansi => "ansi",
            Mode::Legacy => "legacy",
            Mode::Try => "try",
        };
        format!("{mode} {zone}")
    }

    fn decode(text: &str) -> Result<Self> {
        let mode = match text.split_once(' ') {
            Some(("ansi", _)) => Mode::Ansi,
            Some(("try", _)) => Mode::Try,
            _ => Mode::Legacy,
        };
        Ok(Self { mode, context: Context::decode(text)? })
    }

    /// In this context, by its ANSI mode.
    pub fn of(context: &Context) -> Self {
        Self { mode: if context.ansi { Mode::Ansi } else { Mode::Legacy }, context: context.clone() }
    }
}

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SparkCast {
    signature: Signature,
}

impl Default for SparkCast {
    fn default() -> Self {
        Self { signature: Signature::any(3, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SparkCast {
    fn name(&self) -> &str {
        CAST
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[1].clone())
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), args.arg_fields[1].data_type().clone(), true)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = match &args.args[2] {
            ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
                Some(Some(text)) => Options::decode(text)?,
                _ => return internal_err!("{CAST} was given no options"),
            },
            ColumnarValue::Array(_) => return internal_err!("options of {CAST} must be constant"),
        };
        let target = args.return_field.data_type();
        match &args.args[0] {
            ColumnarValue::Array(array) => cast(array, target, &options).map(ColumnarValue::Array),
            ColumnarValue::Scalar(scalar) => {
                let result = cast(&scalar.to_array()?, target, &options)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}

/// Whether DataFusion's own cast does what Spark's does: it stays, since the optimizer understands it.
pub fn is_plain(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    if from == to || matches!(from, T::Null) {
        return true;
    }
    match (from, to) {
        (T::Int8, T::Int16 | T::Int32 | T::Int64) | (T::Int16, T::Int32 | T::Int64) | (T::Int32, T::Int64) => true,
        (T::Int8 | T::Int16 | T::Int32 | T::Int64, T::Float32 | T::Float64) => true,
        (T::Float32, T::Float64) => true,
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8 | T::LargeUtf8 | T::Utf8View) => true,
        (T::Utf8, T::Binary) => true,
        // Wider on both sides of the point: no digit is lost.
        (T::Decimal128(p1, s1), T::Decimal128(p2, s2)) => {
            s2 >= s1 && i32::from(*p2) - i32::from(*s2) >= i32::from(*p1) - i32::from(*s1)
        }
        (T::Int8 | T::Int16 | T::Int32 | T::Int64, T::Decimal128(p, s)) => {
            let digits = super::coercion::as_decimal(from).map_or(20, |(p, _)| i32::from(p));
            i32::from(*p) - i32::from(*s) >= digits
        }
        (T::Dictionary(..), _) => true,
        _ => false,
    }
}

/// Whether Spark casts between these types at all.
///
/// # Errors
/// `DATATYPE_MISMATCH.CAST_…` as Spark has it.
pub fn check(from: &DataType, to: &DataType, ansi: bool) -> Result<()> {
    let text = |what: &str| format!("cannot cast \"{}\" to \"{}\"{what}", ddl::type_name(from), ddl::type_name(to));
    if castable(from, to, ansi) {
        return Ok(());
    }
    let error = |class: &str, what: &str| Err(external(Error::invalid(class, text(what))));
    if ansi && castable(from, to, false) {
        return error(
            "DATATYPE_MISMATCH.CAST_WITH_CONF_SUGGESTION",
            " with ANSI mode on: set \"spark.sql.ansi.enabled\" to \"false\"",
        );
    }
    match (from, to) {
        (DataType::Date32, to) if to.is_numeric() => {
            error("DATATYPE_MISMATCH.CAST_WITH_FUNC_SUGGESTION", ": use UNIX_DATE instead")
        }
        (from, DataType::Date32) if from.is_numeric() => {
            error("DATATYPE_MISMATCH.CAST_WITH_FUNC_SUGGESTION", ": use DATE_FROM_UNIX_DATE instead")
        }
        _ => error("DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION", ""),
    }
}

fn castable(from: &DataType, to: &DataType, ansi: bool) -> bool {
    use DataType as T;
    let interval = |one: &T| matches!(one, T::Interval(_) | T::Duration(_));
    match (from, to) {
        (from, to) if from == to => true,
        (T::Null, _) => true,
        (_, to) if is_text(to) => true,
        (T::List(from), T::List(to)) => castable(from.data_type(), to.data_type(), ansi),
        (T::LargeList(from), T::List(to)) => castable(from.data_type(), to.data_type(), ansi),
        (T::Struct(from), T::Struct(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(f, t)| castable(f.data_type(), t.data_type(), ansi))
        }
        (T::Map(from, _), T::Map(to, _)) => castable(from.data_type(), to.data_type(), ansi),
        (from, to) if is_text(from) => {
            to.is_numeric() || is_binary(to) || interval(to) || matches!(to, T::Boolean | T::Date32 | T::Timestamp(..))
        }
        (from, to) if from.is_numeric() && to.is_numeric() => true,
        (T::Boolean, to) => to.is_numeric() || !ansi && matches!(to, T::Timestamp(_, Some(_))),
        (from, T::Boolean) => from.is_numeric() || !ansi && matches!(from, T::Timestamp(_, Some(_))),
        (from, T::Timestamp(_, Some(_))) if from.is_numeric() => true,
        (T::Timestamp(_, Some(_)), to) if to.is_numeric() => true,
        (T::Date32 | T::Timestamp(..), T::Date32 | T::Timestamp(..)) => true,
        (from, to) if from.is_integer() && is_binary(to) => !ansi,
        (from, to) if is_binary(from) && is_binary(to) => true,
        (T::Duration(_), T::Duration(_)) => true,
        (T::Interval(from), T::Interval(to)) => from == to,
        (T::Interval(IntervalUnit::MonthDayNano), T::Duration(_)) => true,
        (T::Dictionary(_, value), to) => castable(value, to, ansi),
        _ => false,
    }
}

/// Every row as this type.
///
/// # Errors
/// In ANSI mode, of the first row that does not fit; types that do not go together.
pub fn cast(array: &ArrayRef, to: &DataType, options: &Options) -> Result<ArrayRef> {
    use DataType as T;
    let from = array.data_type();
    if from == to {
        return Ok(Arc::clone(array));
    }
    match (from, to) {
        (T::Null, _) => Ok(new_null_array(to, array.len())),
        (T::Dictionary(_, value), _) => cast(&arrow_cast(array, value)?, to, options),
        (T::LargeUtf8 | T::Utf8View, _) if !is_text(to) => cast(&arrow_cast(array, &T::Utf8)?, to, options),
        (T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_), _) if !is_binary(to) => {
            cast(&arrow_cast(array, &T::Binary)?, to, options)
        }
        (T::Timestamp(unit, zone), _) if *unit != TimeUnit::Microsecond => {
            cast(&arrow_cast(array, &T::Timestamp(TimeUnit::Microsecond, zone.clone()))?, to, options)
        }
        (_, T::Timestamp(unit, zone)) if *unit != TimeUnit::Microsecond => {
            let times = cast(array, &T::Timestamp(TimeUnit::Microsecond, zone.clone()), options)?;
            Ok(arrow_cast(&times, to)?)
        }
        (_, T::LargeUtf8 | T::Utf8View) => Ok(arrow_cast(&cast(array, &T::Utf8, options)?, to)?),
        (_, T::LargeBinary | T::BinaryView) => Ok(arrow_cast(&cast(array, &T::Binary, options)?, to)?),
        (_, T::Utf8) => text::of(array, &options.context),
        (T::List(_) | T::LargeList(_) | T::FixedSizeList(..), T::List(field)) => list(array, field, options),
        (T::Struct(_), T::Struct(fields)) => {
            let from = array.as_struct();
            if from.num_columns() != fields.len() {
                return Err(mismatch(array.data_type(), to));
            }
            let columns = from
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| cast(column, field.data_type(), options))
                .collect::<Result<Vec<_>>>()?;
            let fields = fields.iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
            let made = StructArray::try_new_with_length(fields, columns, from.nulls().cloned(), from.len())?;
            relabel(Arc::new(made), to)
        }
        (T::Map(..), T::Map(field, sorted)) => {
            let from = array.as_map();
            let entries: ArrayRef = Arc::new(from.entries().clone());
            let entries = cast(&entries, field.data_type(), options)?;
            Ok(Arc::new(MapArray::try_new(
                Arc::clone(field),
                from.offsets().clone(),
                entries.as_struct().clone(),
                from.nulls().cloned(),
                *sorted,
            )?))
        }
        (T::Utf8, _) => from_text(array.as_string(), to, options),
        (T::Timestamp(..) | T::Date32 | T::Date64, T::Date32 | T::Date64 | T::Timestamp(..)) => {
            temporal(array, to, options)
        }
        (T::Boolean, T::Timestamp(..)) => {
            let numbers = arrow_cast(array, &T::Int64)?;
            let times = numbers.as_primitive::<arrow::datatypes::Int64Type>().iter();
            Ok(Arc::new(times.collect::<TimestampMicrosecondArray>().with_data_type(to.clone())))
        }
        (T::Timestamp(..), T::Boolean) => {
            let times = array.as_primitive::<TimestampMicrosecondType>().iter();
            Ok(Arc::new(times.map(|time| time.map(|time| time != 0)).collect::<BooleanArray>()))
        }
        (T::Interval(IntervalUnit::MonthDayNano), T::Duration(TimeUnit::Microsecond)) => {
            let intervals = array.as_primitive::<arrow::datatypes::IntervalMonthDayNanoType>();
            let durations = intervals.unary_opt::<_, DurationMicrosecondType>(|interval| {
                let days = i64::from(interval.days).checked_mul(MICROS_PER_DAY)?;
                (interval.months == 0).then(|| days.checked_add(interval.nanoseconds / 1000)).flatten()
            });
            Ok(Arc::new(durations))
        }
        (from, to) if is_binary(from) && is_binary(to) => Ok(arrow_cast(array, to)?),
        (from, to) if from.is_integer() && is_binary(to) => {
            let width = from.primitive_width().unwrap_or(8);
            let numbers = arrow_cast(array, &T::Int64)?;
            let numbers = numbers.as_primitive::<arrow::datatypes::Int64Type>();
            let bytes = numbers.iter().map(|number| number.map(|number| number.to_be_bytes()[8 - width..].to_vec()));
            Ok(Arc::new(bytes.collect::<arrow::array::BinaryArray>()))
        }
        (from, to) => {
            let number = |one: &T| one.is_numeric() || matches!(one, T::Boolean);
            let time = |one: &T| matches!(one, T::Timestamp(_, Some(_)));
            if (number(from) || time(from)) && (number(to) || time(to)) {
                return number::cast(array, to, options);
            }
            Err(mismatch(from, to))
        }
    }
}

/// The same rows under other names and nullability of fields; types must agree.
pub fn relabel(array: ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array);
    }
    let data = array.to_data().into_builder().data_type(to.clone()).build()?;
    Ok(arrow::array::make_array(data))
}

fn list(array: &ArrayRef, field: &FieldRef, options: &Options) -> Result<ArrayRef> {
    let array = match array.data_type() {
        DataType::List(_) => Arc::clone(array),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            arrow_cast(array, &DataType::List(Arc::clone(item)))?
        }
        other => return internal_err!("{other} is no list"),
    };
    let array = array.as_list::<i32>();
    let values = cast(array.values(), field.data_type(), options)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), array.offsets().clone(), values, array.nulls().cloned())?))
}

fn mismatch(from: &DataType, to: &DataType) -> DataFusionError {
    external(Error::invalid(
        "DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION",
        format!("cannot cast \"{}\" to \"{}\"", ddl::type_name(from), ddl::type_name(to)),
    ))
}

/// `CAST_INVALID_INPUT`.
pub fn malformed(value: &str, from: &str, to: &DataType) -> DataFusionError {
    external(Error::invalid(
        "CAST_INVALID_INPUT",
        format!(
            "the value '{value}' of the type \"{from}\" cannot be cast to \"{}\" because it is malformed: correct the \
             value as per the syntax, or use `try_cast` to have NULL instead",
            ddl::type_name(to)
        ),
    ))
}

fn from_text(texts: &StringArray, to: &DataType, options: &Options) -> Result<ArrayRef> {
    use DataType as T;
    let wrong = |text: &str| match options.mode {
        Mode::Ansi => Err(malformed(text, "STRING", to)),
        Mode::Legacy | Mode::Try => Ok(()),
    };
    let each = |text: Option<&str>, found: Option<i64>| -> Result<Option<i64>> {
        match (text, found) {
            (Some(text), None) => wrong(text).map(|()| None),
            _ => Ok(found),
        }
    };
    match to {
        T::Boolean => {
            let rows = texts.iter().map(|text| match text {
                None => Ok(None),
                Some(text) => match boolean(text) {
                    Some(value) => Ok(Some(value)),
                    None => wrong(text).map(|()| None),
                },
            });
            Ok(Arc::new(rows.collect::<Result<BooleanArray>>()?))
        }
        T::Date32 => {
            let rows = texts.iter().map(|text| each(text, text.and_then(datetime::parse_date).map(i64::from)));
            let rows = rows.map(|row| row.map(|row| row.map(|days| days as i32)));
            Ok(Arc::new(rows.collect::<Result<Date32Array>>()?))
        }
        T::Timestamp(_, zone) => {
            let rows = texts.iter().map(|text| {
                let found = text.and_then(|text| match zone {
                    Some(_) => datetime::parse_timestamp(text, &options.context.zone),
                    None => datetime::parse_timestamp_lenient_ntz(text),
                });
                each(text, found)
            });
            Ok(Arc::new(rows.collect::<Result<TimestampMicrosecondArray>>()?.with_data_type(to.clone())))
        }
        T::Binary => Ok(arrow_cast(&(Arc::new(texts.clone()) as ArrayRef), to)?),
        to if is_decimal(to) || is_fractional(to) || to.is_integer() => number::from_text(texts, to, options),
        _ => Err(external(Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!("CAST of STRING to {} is not supported", ddl::type_name(to)),
        ))),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim_matches(|c: char| c <= ' ').to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn temporal(array: &ArrayRef, to: &DataType, options: &Options) -> Result<ArrayRef> {
    use DataType as T;
    let zone = &options.context.zone;
    let local_of = |instant: i64| instant.saturating_add(i64::from(zone.offset_at(instant)) * MICROS_PER_SECOND);
    let array = match array.data_type() {
        T::Date64 => arrow_cast(array, &T::Date32)?,
        _ => Arc::clone(array),
    };
    let micros = |to: &DataType, rows: &mut dyn Iterator<Item = Option<i64>>| -> ArrayRef {
        Arc::new(rows.collect::<TimestampMicrosecondArray>().with_data_type(to.clone()))
    };
    Ok(match (array.data_type(), to) {
        (T::Date32, T::Date64) => arrow_cast(&array, to)?,
        (T::Date32, T::Timestamp(_, own)) => {
            let rows = array.as_primitive::<Date32Type>().iter();
            let mut rows = rows.map(|days| {
                let local = i64::from(days?).checked_mul(MICROS_PER_DAY)?;
                if own.is_some() { zone.instant(local) } else { Some(local) }
            });
            micros(to, &mut rows)
        }
        (T::Timestamp(_, own), T::Date32) => {
            let local = own.is_none();
            let rows = array.as_primitive::<TimestampMicrosecondType>().iter();
            let days = rows.map(|time| {
                let time = if local { time? } else { local_of(time?) };
                i32::try_from(time.div_euclid(MICROS_PER_DAY)).ok()
            });
            Arc::new(days.collect::<Date32Array>())
        }
        (T::Timestamp(_, Some(_)), T::Timestamp(_, None)) => {
            let rows = array.as_primitive::<TimestampMicrosecondType>().iter();
            micros(to, &mut rows.map(|time| time.map(local_of)))
        }
        (T::Timestamp(_, None), T::Timestamp(_, Some(_))) => {
            let rows = array.as_primitive::<TimestampMicrosecondType>().iter();
            micros(to, &mut rows.map(|time| time.and_then(|time| zone.instant(time))))
        }
        _ => arrow_cast(&array, to)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: Mode, zone: &str) -> Options {
        Options::decode(&Options::encode(mode, zone)).expect("options")
    }

    fn check(from: &str, via: &str, to: &str, mode: Mode, expect: std::result::Result<Option<&str>, &str>) {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(from), None]));
        let options = options(mode, "Europe/Paris");
        let via = ddl::parse_type(via).expect(via);
        let outcome = cast(&texts, &via, &options)
            .and_then(|array| cast(&array, &ddl::parse_type(to).expect(to), &options))
            .and_then(|array| cast(&array, &DataType::Utf8, &options));
        match (outcome, expect) {
            (Ok(array), Ok(expect)) => {
                let array = array.as_string::<i32>();
                assert_eq!((!array.is_null(0)).then(|| array.value(0)), expect, "{from} to {to}");
                assert!(array.is_null(1));
            }
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (outcome, expect) => panic!("{from} to {to}: {outcome:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn values_are_cast_as_spark_does() {
        use Mode::{Ansi, Legacy, Try};
        check(" 42 ", "INT", "STRING", Ansi, Ok(Some("42")));
        check("3.7", "INT", "STRING", Ansi, Err("CAST_INVALID_INPUT"));
        check("3.7", "INT", "STRING", Legacy, Ok(Some("3")));
        check("3.7", "INT", "STRING", Try, Ok(None));
        check("300", "INT", "TINYINT", Ansi, Err("CAST_OVERFLOW"));
        check("300", "INT", "TINYINT", Legacy, Ok(Some("44")));
        check("NaN", "DOUBLE", "INT", Legacy, Ok(Some("0")));
        check("1e20", "DOUBLE", "INT", Legacy, Ok(Some("2147483647")));
        check("12.345", "DOUBLE", "DECIMAL(10,2)", Ansi, Ok(Some("12.35")));
        check("-12.345", "DECIMAL(10,3)", "DECIMAL(10,2)", Ansi, Ok(Some("-12.35")));
        check("12345.6", "DOUBLE", "DECIMAL(5,2)", Ansi, Err("NUMERIC_VALUE_OUT_OF_RANGE"));
        check("12345.6", "DOUBLE", "DECIMAL(5,2)", Try, Ok(None));
        check("1.5d", "DOUBLE", "FLOAT", Ansi, Ok(Some("1.5")));
        check("1e7", "DOUBLE", "DOUBLE", Ansi, Ok(Some("1.0E7")));
        check("yes", "BOOLEAN", "INT", Ansi, Ok(Some("1")));
        check("2024-02-29 12:00:00Z", "TIMESTAMP", "TIMESTAMP_NTZ", Ansi, Ok(Some("2024-02-29 13:00:00")));
        check("2024-02-29 23:30:00Z", "TIMESTAMP", "DATE", Ansi, Ok(Some("2024-03-01")));
        check("2024-07-01", "DATE", "TIMESTAMP", Ansi, Ok(Some("2024-07-01 00:00:00")));
        check("1970-01-01 01:00:01.5", "TIMESTAMP", "DOUBLE", Ansi, Ok(Some("1.5")));
        check("2023-02-29", "DATE", "DATE", Ansi, Err("CAST_INVALID_INPUT"));
    }
}
