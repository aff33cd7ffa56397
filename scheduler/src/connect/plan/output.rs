//! Rows as clients want them: Spark's names, the types that they know, literals of single values.

use super::types;
use crate::sql::error::from_datafusion;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DurationMicrosecondType, Field, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Schema, SchemaRef,
    TimeUnit, TimestampMicrosecondType,
};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::expression::Literal;
use headwater_proto::spark::expression::literal::{self as p, LiteralType};
use std::sync::Arc;

/// The rows of a plan under the client's schema: its columns in the same order, values cast where types differ.
///
/// # Errors
/// Values that do not fit; fewer columns than the schema has.
pub fn output(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal(format!(
            "a result has {} columns where its schema has {}",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| conform(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    // Whether a column may be null is told in the schema's message; that a plan says so too strictly is no error.
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| {
            let nullable = field.is_nullable() || column.null_count() > 0;
            field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(nullable)
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| from_datafusion(error.into()))
}

fn conform(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(Arc::clone(column));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(column, data_type, &options).map_err(|error| from_datafusion(error.into()))
}

/// One value as a literal.
///
/// # Errors
/// Types that literals do not have.
pub fn literal(array: &dyn Array, row: usize) -> Result<Literal> {
    let data_type = array.data_type();
    let literal_type = if array.is_null(row) || *data_type == DataType::Null {
        LiteralType::Null(types::to_proto(data_type))
    } else {
        value(array, row)?
    };
    Ok(Literal { literal_type: Some(literal_type), data_type: None })
}

fn value(array: &dyn Array, row: usize) -> Result<LiteralType> {
    Ok(match array.data_type() {
        DataType::Boolean => LiteralType::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => LiteralType::Byte(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => LiteralType::Short(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => LiteralType::Integer(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => LiteralType::Long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => LiteralType::Float(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => LiteralType::Double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(precision, scale) => LiteralType::Decimal(p::Decimal {
            value: array.as_primitive::<Decimal128Type>().value_as_string(row),
            precision: Some(i32::from(*precision)),
            scale: Some(i32::from(*scale)),
        }),
        DataType::Utf8 => LiteralType::String(array.as_string::<i32>().value(row).into()),
        DataType::LargeUtf8 => LiteralType::String(array.as_string::<i64>().value(row).into()),
        DataType::Utf8View => LiteralType::String(array.as_string_view().value(row).into()),
        DataType::Binary => LiteralType::Binary(array.as_binary::<i32>().value(row).into()),
        DataType::Date32 => LiteralType::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match zone {
                Some(_) => LiteralType::Timestamp(micros),
                None => LiteralType::TimestampNtz(micros),
            }
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            LiteralType::DayTimeInterval(array.as_primitive::<DurationMicrosecondType>().value(row))
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            LiteralType::YearMonthInterval(array.as_primitive::<IntervalYearMonthType>().value(row))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let interval = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            LiteralType::CalendarInterval(p::CalendarInterval {
                months: interval.months,
                days: interval.days,
                microseconds: interval.nanoseconds / 1000,
            })
        }
        DataType::List(item) => {
            let items = array.as_list::<i32>().value(row);
            LiteralType::Array(p::Array {
                element_type: Some(types::to_proto(item.data_type())),
                elements: literals(items.as_ref())?,
            })
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            LiteralType::Map(p::Map {
                key_type: Some(types::to_proto(entries.column(0).data_type())),
                value_type: Some(types::to_proto(entries.column(1).data_type())),
                keys: literals(entries.column(0).as_ref())?,
                values: literals(entries.column(1).as_ref())?,
            })
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            LiteralType::Struct(p::Struct {
                struct_type: Some(types::to_proto(array.data_type())),
                elements: columns.iter().map(|column| literal(column.as_ref(), row)).collect::<Result<_>>()?,
            })
        }
        other => {
            // Views, unsigned numbers and the like: as the type that clients know.
            let known = super::frame::client_type(other, "UTC");
            if known == *other {
                return Err(Error::invalid("UNSUPPORTED_DATATYPE", format!("a literal of type {other}")));
            }
            let one = array.slice(row, 1);
            return value(conform(&one, &known)?.as_ref(), 0);
        }
    })
}

fn literals(array: &dyn Array) -> Result<Vec<Literal>> {
    (0..array.len()).map(|row| literal(array, row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringViewArray, UInt64Array};

    #[test]
    fn rows_get_the_clients_types_and_names() {
        let batch = RecordBatch::try_from_iter([
            ("a#1", Arc::new(StringViewArray::from(vec!["x"])) as ArrayRef),
            ("a#2", Arc::new(UInt64Array::from(vec![7])) as ArrayRef),
        ])
        .expect("batch");
        let fields = batch
            .schema()
            .fields()
            .iter()
            .map(|field| Field::new("a", super::super::frame::client_type(field.data_type(), "UTC"), false))
            .collect::<Vec<_>>();
        let rows = output(&batch, &Arc::new(Schema::new(fields))).expect("conforms");
        assert_eq!(rows.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["a", "a"]);
        assert_eq!(rows.column(1).data_type(), &DataType::Decimal128(20, 0));
        assert!(output(&batch, &Arc::new(Schema::empty())).is_err());
    }

    #[test]
    fn values_as_literals() {
        let array = Int32Array::from(vec![Some(3), None]);
        let kinds: Vec<_> = (0..2).map(|row| literal(&array, row).expect("literal").literal_type).collect();
        assert_eq!(kinds[0], Some(LiteralType::Integer(3)));
        assert!(matches!(kinds[1], Some(LiteralType::Null(_))));
    }
}
