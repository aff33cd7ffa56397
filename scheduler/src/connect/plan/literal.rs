//! Literals: Spark Connect's messages to values.

use super::types;
use crate::sql::error::from_datafusion;
use arrow::array::{Array, ArrayRef, MapArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano, TimeUnit};
use datafusion::common::ScalarValue;
use headwater_executor::connectors::files::value;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::expression::Literal;
use headwater_proto::spark::expression::literal::{
    Decimal, LiteralType, SpecializedArray, specialized_array::ValueType,
};
use std::sync::Arc;

/// A literal as a value.
///
/// # Errors
/// Values that Arrow's types cannot hold; types that have no counterpart.
pub fn scalar(literal: &Literal) -> Result<ScalarValue> {
    let Some(kind) = &literal.literal_type else {
        return Err(Error::invalid("CONNECT_INVALID_PLAN.LITERAL_TYPE_NOT_SET", "a literal without value"));
    };
    Ok(match kind {
        LiteralType::Null(data_type) => null(&types::from_proto(data_type)?)?,
        LiteralType::Binary(bytes) => ScalarValue::Binary(Some(bytes.clone())),
        LiteralType::Boolean(value) => ScalarValue::Boolean(Some(*value)),
        LiteralType::Byte(value) => ScalarValue::Int8(Some(narrow(*value)?)),
        LiteralType::Short(value) => ScalarValue::Int16(Some(narrow(*value)?)),
        LiteralType::Integer(value) => ScalarValue::Int32(Some(*value)),
        LiteralType::Long(value) => ScalarValue::Int64(Some(*value)),
        LiteralType::Float(value) => ScalarValue::Float32(Some(*value)),
        LiteralType::Double(value) => ScalarValue::Float64(Some(*value)),
        LiteralType::Decimal(value) => decimal(value)?,
        LiteralType::String(value) => ScalarValue::Utf8(Some(value.clone())),
        LiteralType::Date(days) => ScalarValue::Date32(Some(*days)),
        LiteralType::Timestamp(micros) => ScalarValue::TimestampMicrosecond(Some(*micros), Some("UTC".into())),
        LiteralType::TimestampNtz(micros) => ScalarValue::TimestampMicrosecond(Some(*micros), None),
        LiteralType::CalendarInterval(interval) => {
            let nanos = interval.microseconds.checked_mul(1000).ok_or_else(|| {
                Error::invalid("INTERVAL_ARITHMETIC_OVERFLOW", "an interval is longer than 292 years")
            })?;
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(interval.months, interval.days, nanos)))
        }
        LiteralType::YearMonthInterval(months) => ScalarValue::IntervalYearMonth(Some(*months)),
        LiteralType::DayTimeInterval(micros) => ScalarValue::DurationMicrosecond(Some(*micros)),
        LiteralType::Time(time) => ScalarValue::Time64Nanosecond(Some(time.nano)),
        LiteralType::Array(array) => {
            let values = array.elements.iter().map(scalar).collect::<Result<Vec<_>>>()?;
            let element = match (&array.element_type, declared(literal)?) {
                (Some(element), _) => types::from_proto(element)?,
                (None, Some(DataType::List(item))) => item.data_type().clone(),
                _ => values.first().map_or(DataType::Null, ScalarValue::data_type),
            };
            list(values, &element)?
        }
        LiteralType::SpecializedArray(array) => specialized(array)?,
        LiteralType::Map(map) => {
            let keys = map.keys.iter().map(scalar).collect::<Result<Vec<_>>>()?;
            let values = map.values.iter().map(scalar).collect::<Result<Vec<_>>>()?;
            let (key_type, value_type) = match (&map.key_type, &map.value_type, declared(literal)?) {
                (Some(key), Some(value), _) => (types::from_proto(key)?, types::from_proto(value)?),
                (_, _, Some(DataType::Map(entries, _))) => key_and_value(entries.data_type()),
                _ => (
                    keys.first().map_or(DataType::Null, ScalarValue::data_type),
                    values.first().map_or(DataType::Null, ScalarValue::data_type),
                ),
            };
            map_of(keys, &key_type, values, &value_type)?
        }
        LiteralType::Struct(message) => {
            let values = message.elements.iter().map(scalar).collect::<Result<Vec<_>>>()?;
            let fields = match (&message.struct_type, declared(literal)?) {
                (Some(data_type), _) => match types::from_proto(data_type)? {
                    DataType::Struct(fields) => fields,
                    other => return Err(mismatch(&other, "a struct")),
                },
                (None, Some(DataType::Struct(fields))) => fields,
                _ => values
                    .iter()
                    .enumerate()
                    .map(|(index, value)| Field::new(format!("col{}", index + 1), value.data_type(), true))
                    .collect(),
            };
            structure(values, fields)?
        }
        LiteralType::TimestampNtzNanos(_) | LiteralType::TimestampLtzNanos(_) => {
            return Err(Error::invalid("UNSUPPORTED_DATATYPE", "unsupported data type: a timestamp of nanoseconds"));
        }
    })
}

fn declared(literal: &Literal) -> Result<Option<DataType>> {
    literal.data_type.as_ref().map(types::from_proto).transpose()
}

fn null(data_type: &DataType) -> Result<ScalarValue> {
    ScalarValue::try_from(data_type).map_err(from_datafusion)
}

fn narrow<T: TryFrom<i32>>(value: i32) -> Result<T> {
    T::try_from(value).map_err(|_| Error::invalid("INVALID_PLAN_INPUT", format!("literal {value} is out of range")))
}

fn mismatch(found: &DataType, expect: &str) -> Error {
    Error::invalid("INVALID_PLAN_INPUT", format!("a literal of type {} is no {expect}", ddl::type_name(found)))
}

fn decimal(decimal: &Decimal) -> Result<ScalarValue> {
    let bad = || Error::invalid("INVALID_PLAN_INPUT", format!("{:?} is no decimal", decimal.value));
    let (digits, exponent) = match decimal.value.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (decimal.value.as_str(), 0),
    };
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().map_err(|_| bad())?;
    let own_scale = i32::try_from(fraction.len()).map_err(|_| bad())? - exponent;
    let length = unscaled.checked_ilog10().map_or(1, |log| log as i32 + 1);
    // As Spark does: clients send (10, 0) for every decimal, whose digits are not to be lost.
    let scale = decimal.scale.unwrap_or(0).max(own_scale).max(0);
    let precision = decimal.precision.unwrap_or(0).max(length.max(scale).max(1) + (-own_scale).max(0));
    let shift = scale - own_scale;
    let factor = 10_i128.checked_pow(shift.unsigned_abs()).ok_or_else(bad)?;
    let unscaled = if shift >= 0 { unscaled.checked_mul(factor).ok_or_else(bad)? } else { unscaled / factor };
    types::decimal_type(precision, scale)?;
    Ok(ScalarValue::Decimal128(Some(if negative { -unscaled } else { unscaled }), precision as u8, scale as i8))
}

/// Values as one array of a type; each is cast to it where it must be.
pub fn array_of(values: Vec<ScalarValue>, data_type: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(new_empty_array(data_type));
    }
    let values = values
        .into_iter()
        .map(|value| if value.data_type() == *data_type { Ok(value) } else { value.cast_to(data_type) })
        .collect::<datafusion::error::Result<Vec<_>>>()
        .map_err(from_datafusion)?;
    ScalarValue::iter_to_array(values).map_err(from_datafusion)
}

fn list(values: Vec<ScalarValue>, element: &DataType) -> Result<ScalarValue> {
    let array = array_of(values, element)?;
    Ok(ScalarValue::List(Arc::new(datafusion::common::utils::SingleRowListArrayBuilder::new(array).build_list_array())))
}

fn specialized(array: &SpecializedArray) -> Result<ScalarValue> {
    let (values, element): (Vec<ScalarValue>, _) = match &array.value_type {
        Some(ValueType::Bools(v)) => (v.values.iter().map(|v| (*v).into()).collect(), DataType::Boolean),
        Some(ValueType::Ints(v)) => (v.values.iter().map(|v| (*v).into()).collect(), DataType::Int32),
        Some(ValueType::Longs(v)) => (v.values.iter().map(|v| (*v).into()).collect(), DataType::Int64),
        Some(ValueType::Floats(v)) => (v.values.iter().map(|v| (*v).into()).collect(), DataType::Float32),
        Some(ValueType::Doubles(v)) => (v.values.iter().map(|v| (*v).into()).collect(), DataType::Float64),
        Some(ValueType::Strings(v)) => (v.values.iter().map(|v| v.as_str().into()).collect(), DataType::Utf8),
        None => (vec![], DataType::Null),
    };
    list(values, &element)
}

fn key_and_value(entries: &DataType) -> (DataType, DataType) {
    match entries {
        DataType::Struct(parts) if parts.len() == 2 => (parts[0].data_type().clone(), parts[1].data_type().clone()),
        other => (other.clone(), DataType::Null),
    }
}

fn map_of(keys: Vec<ScalarValue>, key: &DataType, values: Vec<ScalarValue>, value: &DataType) -> Result<ScalarValue> {
    if keys.len() != values.len() {
        return Err(Error::invalid("INVALID_PLAN_INPUT", "a map literal has as many keys as values"));
    }
    let length = keys.len();
    let fields = Fields::from(vec![Field::new("key", key.clone(), false), Field::new("value", value.clone(), true)]);
    let columns = vec![array_of(keys, key)?, array_of(values, value)?];
    let entries = StructArray::try_new(fields.clone(), columns, None).map_err(|e| from_datafusion(e.into()))?;
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    let map = MapArray::try_new(field, OffsetBuffer::from_lengths([length]), entries, None, false)
        .map_err(|e| from_datafusion(e.into()))?;
    Ok(ScalarValue::Map(Arc::new(map)))
}

fn structure(values: Vec<ScalarValue>, fields: Fields) -> Result<ScalarValue> {
    if values.len() != fields.len() {
        return Err(Error::invalid("INVALID_PLAN_INPUT", "a struct literal has as many values as fields"));
    }
    let columns = values
        .into_iter()
        .zip(&fields)
        .map(|(value, field)| array_of(vec![value], field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let array = if fields.is_empty() {
        StructArray::new_empty_fields(1, None)
    } else {
        StructArray::try_new(fields, columns, None).map_err(|e| from_datafusion(e.into()))?
    };
    Ok(ScalarValue::Struct(Arc::new(array)))
}

/// What Spark calls a column of this value alone.
pub fn name(value: &ScalarValue) -> String {
    if value.is_null() {
        return "NULL".into();
    }
    let text = |value: &ScalarValue| -> Option<String> {
        let array = value.to_array().ok()?;
        let format = value::formatter(array.as_ref(), value::Style::Show).ok()?;
        let mut text = String::new();
        format(0, &mut text);
        Some(text)
    };
    let shown = text(value).unwrap_or_else(|| value.to_string());
    match value.data_type() {
        DataType::Date32 => format!("DATE '{shown}'"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => format!("TIMESTAMP '{shown}'"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => format!("TIMESTAMP_NTZ '{shown}'"),
        DataType::Binary => format!("X'{}'", shown.replace(['[', ']', ' '], "")),
        DataType::List(_) => {
            let ScalarValue::List(list) = value else { return shown };
            let items = list.value(0);
            let names = (0..items.len())
                .filter_map(|row| ScalarValue::try_from_array(&items, row).ok())
                .map(|item| name(&item))
                .collect::<Vec<_>>();
            format!("ARRAY({})", names.join(", "))
        }
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: LiteralType, expect: &ScalarValue, expect_name: &str) {
        let literal = Literal { literal_type: Some(kind), data_type: None };
        let value = scalar(&literal).expect(expect_name);
        assert_eq!((&value, name(&value).as_str()), (expect, expect_name));
    }

    fn decimal_of(value: &str, precision: Option<i32>, scale: Option<i32>) -> LiteralType {
        LiteralType::Decimal(Decimal { value: value.into(), precision, scale })
    }

    #[test]
    fn values() {
        check(LiteralType::Integer(7), &ScalarValue::Int32(Some(7)), "7");
        check(LiteralType::String("a".into()), &ScalarValue::Utf8(Some("a".into())), "a");
        check(LiteralType::Double(2.0), &ScalarValue::Float64(Some(2.0)), "2.0");
        check(LiteralType::Boolean(true), &ScalarValue::Boolean(Some(true)), "true");
        check(LiteralType::Date(0), &ScalarValue::Date32(Some(0)), "DATE '1970-01-01'");
        check(LiteralType::Null(types::to_proto(&DataType::Int32)), &ScalarValue::Int32(None), "NULL");
    }

    #[test]
    fn decimals() {
        check(decimal_of("1.50", None, None), &ScalarValue::Decimal128(Some(150), 3, 2), "1.50");
        check(decimal_of("-0.05", Some(5), Some(3)), &ScalarValue::Decimal128(Some(-50), 5, 3), "-0.050");
        check(decimal_of("1.5", Some(10), Some(0)), &ScalarValue::Decimal128(Some(15), 10, 1), "1.5");
        check(decimal_of("1E+2", None, None), &ScalarValue::Decimal128(Some(100), 3, 0), "100");
        check(decimal_of("0", None, None), &ScalarValue::Decimal128(Some(0), 1, 0), "0");
        assert!(decimal(&Decimal { value: "1x".into(), precision: None, scale: None }).is_err());
    }

    #[test]
    fn nested() {
        let element = Literal { literal_type: Some(LiteralType::Integer(1)), data_type: None };
        let array = headwater_proto::spark::expression::literal::Array {
            element_type: Some(types::to_proto(&DataType::Int64)),
            elements: vec![element.clone(), element],
        };
        let value = scalar(&Literal { literal_type: Some(LiteralType::Array(array)), data_type: None }).expect("array");
        assert!(matches!(value.data_type(), DataType::List(item) if item.data_type() == &DataType::Int64));
        assert_eq!(name(&value), "ARRAY(1, 1)");
    }
}
