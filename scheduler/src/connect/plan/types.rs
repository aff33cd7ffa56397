//! Types: Spark Connect's messages to Arrow's types and back, and the tree that `printSchema` shows.
//!
//! The correspondence is that of [`ddl`]; a type that Spark lacks is told as the one that holds all its values.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use headwater_executor::functions::{ddl, interval_fields};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::{self, data_type::Kind};
use std::collections::HashMap;
use std::sync::Arc;

/// Spark's widest decimal.
const DECIMAL_PRECISION_MAX: i32 = 38;

/// The key in a field's metadata under which Spark keeps what the user attached, as JSON.
const METADATA_COMMENT: &str = "comment";

/// A message as an Arrow type.
///
/// # Errors
/// `UNSUPPORTED_DATATYPE` for types that have no counterpart; `PARSE_SYNTAX_ERROR` for a type given as text.
pub fn from_proto(data_type: &spark::DataType) -> Result<DataType> {
    let missing = |what: &str| Error::invalid("CONNECT_INVALID_PLAN.FIELD_IS_NOT_SET", format!("{what} is not set"));
    Ok(match data_type.kind.as_ref().ok_or_else(|| missing("the kind of a data type"))? {
        Kind::Null(_) => DataType::Null,
        Kind::Binary(_) => DataType::Binary,
        Kind::Boolean(_) => DataType::Boolean,
        Kind::Byte(_) => DataType::Int8,
        Kind::Short(_) => DataType::Int16,
        Kind::Integer(_) => DataType::Int32,
        Kind::Long(_) => DataType::Int64,
        Kind::Float(_) => DataType::Float32,
        Kind::Double(_) => DataType::Float64,
        Kind::Decimal(decimal) => decimal_type(decimal.precision.unwrap_or(10), decimal.scale.unwrap_or(0))?,
        Kind::String(_) | Kind::Char(_) | Kind::VarChar(_) => DataType::Utf8,
        Kind::Date(_) => DataType::Date32,
        Kind::Timestamp(_) => ddl::timestamp(),
        Kind::TimestampNtz(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::CalendarInterval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        Kind::YearMonthInterval(_) => DataType::Interval(IntervalUnit::YearMonth),
        Kind::DayTimeInterval(_) => DataType::Duration(TimeUnit::Microsecond),
        Kind::Array(array) => {
            let element = array.element_type.as_deref().ok_or_else(|| missing("the element type of an array"))?;
            DataType::List(Arc::new(Field::new_list_field(from_proto(element)?, array.contains_null)))
        }
        Kind::Struct(fields) => DataType::Struct(struct_fields(fields)?),
        Kind::Map(map) => {
            let key = map.key_type.as_deref().ok_or_else(|| missing("the key type of a map"))?;
            let value = map.value_type.as_deref().ok_or_else(|| missing("the value type of a map"))?;
            let entries = Fields::from(vec![
                Field::new("key", from_proto(key)?, false),
                Field::new("value", from_proto(value)?, map.value_contains_null),
            ]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        Kind::Time(_) => DataType::Time64(TimeUnit::Nanosecond),
        Kind::Unparsed(text) => ddl::parse_schema(&text.data_type_string)?,
        Kind::Udt(udt) => match udt.sql_type.as_deref() {
            Some(sql_type) => from_proto(sql_type)?,
            None => return Err(unsupported("a user-defined type")),
        },
        Kind::Variant(_) => return Err(unsupported("VARIANT")),
        Kind::Geometry(_) => return Err(unsupported("GEOMETRY")),
        Kind::Geography(_) => return Err(unsupported("GEOGRAPHY")),
        Kind::TimestampNtzNanos(_) | Kind::TimestampLtzNanos(_) => {
            return Err(unsupported("a timestamp of nanoseconds"));
        }
    })
}

fn unsupported(what: &str) -> Error {
    Error::invalid("UNSUPPORTED_DATATYPE", format!("unsupported data type: {what}"))
}

/// `DECIMAL(precision, scale)`.
///
/// # Errors
/// `DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION`.
pub fn decimal_type(precision: i32, scale: i32) -> Result<DataType> {
    if !(1..=DECIMAL_PRECISION_MAX).contains(&precision) || scale < 0 || scale > precision {
        return Err(Error::invalid(
            "DECIMAL_PRECISION_EXCEEDS_MAX_PRECISION",
            format!("decimal precision {precision} and scale {scale}: at most {DECIMAL_PRECISION_MAX} digits"),
        ));
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

fn struct_fields(fields: &spark::data_type::Struct) -> Result<Fields> {
    fields.fields.iter().map(field_from_proto).collect()
}

fn field_from_proto(field: &spark::data_type::StructField) -> Result<FieldRef> {
    let data_type = field.data_type.as_ref().ok_or_else(|| {
        Error::invalid("CONNECT_INVALID_PLAN.FIELD_IS_NOT_SET", format!("field {} has no data type", field.name))
    })?;
    let mut metadata = HashMap::new();
    if let Some(text) = &field.metadata {
        metadata = parse_metadata(text)?;
    }
    Ok(Arc::new(Field::new(&field.name, from_proto(data_type)?, field.nullable).with_metadata(metadata)))
}

/// Metadata that Spark has as one JSON object, as pairs of which each value is JSON (texts alone are bare).
///
/// # Errors
/// Text that is no JSON object.
pub fn parse_metadata(text: &str) -> Result<HashMap<String, String>> {
    if text.trim().is_empty() {
        return Ok(HashMap::new());
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(|error| {
        Error::invalid("INVALID_JSON_DATA_TYPE", format!("metadata of a column is no JSON object: {error}"))
    })?;
    Ok(object
        .into_iter()
        .map(|(key, value)| match value {
            serde_json::Value::String(text) if key == METADATA_COMMENT => (key, text),
            value => (key, value.to_string()),
        })
        .collect())
}

/// The inverse of [`parse_metadata`]; `None` without pairs. What Arrow and its formats keep for themselves is left out.
fn metadata_json(metadata: &HashMap<String, String>) -> Option<String> {
    let mut pairs: Vec<_> = metadata
        .iter()
        .filter(|(key, _)| !["ARROW:", "PARQUET:", "SPARK:"].iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, text)| {
            let bare = key == METADATA_COMMENT;
            let value = (!bare).then(|| serde_json::from_str(text).ok()).flatten();
            (key.clone(), value.unwrap_or_else(|| serde_json::Value::String(text.clone())))
        })
        .collect();
    if pairs.is_empty() {
        return None;
    }
    pairs.sort_by(|one, two| one.0.cmp(&two.0));
    Some(serde_json::Value::Object(pairs.into_iter().collect()).to_string())
}

/// An Arrow type as a message.
pub fn to_proto(data_type: &DataType) -> spark::DataType {
    use spark::data_type as p;
    let kind = match data_type {
        DataType::Null => Kind::Null(p::Null::default()),
        DataType::Boolean => Kind::Boolean(p::Boolean::default()),
        DataType::Int8 => Kind::Byte(p::Byte::default()),
        DataType::Int16 | DataType::UInt8 => Kind::Short(p::Short::default()),
        DataType::Int32 | DataType::UInt16 => Kind::Integer(p::Integer::default()),
        DataType::Int64 | DataType::UInt32 => Kind::Long(p::Long::default()),
        DataType::UInt64 => decimal(20, 0),
        DataType::Float16 | DataType::Float32 => Kind::Float(p::Float::default()),
        DataType::Float64 => Kind::Double(p::Double::default()),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => decimal(*precision, *scale),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Kind::Binary(p::Binary::default())
        }
        DataType::Date32 | DataType::Date64 => Kind::Date(p::Date::default()),
        DataType::Timestamp(_, Some(_)) => Kind::Timestamp(p::Timestamp::default()),
        DataType::Timestamp(_, None) => Kind::TimestampNtz(p::TimestampNtz::default()),
        DataType::Time32(_) | DataType::Time64(_) => {
            Kind::Time(p::Time { precision: Some(6), type_variation_reference: 0 })
        }
        DataType::Interval(IntervalUnit::YearMonth) => Kind::YearMonthInterval(p::YearMonthInterval {
            start_field: Some(0),
            end_field: Some(1),
            type_variation_reference: 0,
        }),
        DataType::Interval(IntervalUnit::DayTime) | DataType::Duration(_) => {
            Kind::DayTimeInterval(p::DayTimeInterval {
                start_field: Some(0),
                end_field: Some(3),
                type_variation_reference: 0,
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => Kind::CalendarInterval(p::CalendarInterval::default()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Kind::Array(Box::new(p::Array {
            element_type: Some(Box::new(to_proto(item.data_type()))),
            contains_null: item.is_nullable(),
            type_variation_reference: 0,
        })),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(parts) if parts.len() == 2 => Kind::Map(Box::new(p::Map {
                key_type: Some(Box::new(to_proto(parts[0].data_type()))),
                value_type: Some(Box::new(to_proto(parts[1].data_type()))),
                value_contains_null: parts[1].is_nullable(),
                type_variation_reference: 0,
            })),
            other => return to_proto(other),
        },
        DataType::Struct(fields) => Kind::Struct(struct_proto(fields)),
        DataType::Dictionary(_, value) => return to_proto(value),
        DataType::RunEndEncoded(_, values) => return to_proto(values.data_type()),
        _ => Kind::String(p::String { type_variation_reference: 0, collation: "UTF8_BINARY".into() }),
    };
    spark::DataType { kind: Some(kind) }
}

fn decimal(precision: u8, scale: i8) -> Kind {
    Kind::Decimal(spark::data_type::Decimal {
        precision: Some(i32::from(precision)),
        scale: Some(i32::from(scale)),
        type_variation_reference: 0,
    })
}

/// The type of a column, of which an interval's fields are a part.
fn field_type(field: &Field) -> spark::DataType {
    use spark::data_type as p;
    let Some(fields) = interval_fields::Fields::of(field) else { return to_proto(field.data_type()) };
    let (start_field, end_field) = (Some(fields.first as i32), Some(fields.last as i32));
    let kind = match fields.months {
        true => Kind::YearMonthInterval(p::YearMonthInterval { start_field, end_field, type_variation_reference: 0 }),
        false => Kind::DayTimeInterval(p::DayTimeInterval { start_field, end_field, type_variation_reference: 0 }),
    };
    spark::DataType { kind: Some(kind) }
}

fn struct_proto(fields: &Fields) -> spark::data_type::Struct {
    let fields = fields
        .iter()
        .map(|field| spark::data_type::StructField {
            name: field.name().clone(),
            data_type: Some(field_type(field)),
            nullable: field.is_nullable(),
            metadata: metadata_json(field.metadata()),
        })
        .collect();
    spark::data_type::Struct { fields, type_variation_reference: 0 }
}

/// Columns as the struct that a schema is.
pub fn schema_proto(schema: &Schema) -> spark::DataType {
    spark::DataType { kind: Some(Kind::Struct(struct_proto(schema.fields()))) }
}

/// A schema as text, DDL or Spark's JSON, as columns.
///
/// # Errors
/// As [`ddl::parse_ddl`].
pub fn parse_columns(text: &str) -> Result<SchemaRef> {
    ddl::parse_ddl(text).map(Arc::new)
}

/// What `printSchema` prints, down to `level` (all of it without).
pub fn tree_string(schema: &Schema, level: Option<i32>) -> String {
    let levels = level.filter(|level| *level > 0).map_or(usize::MAX, |level| level as usize);
    let mut text = String::from("root\n");
    tree_fields(schema.fields(), " |", levels, &mut text);
    text
}

fn tree_fields(fields: &Fields, prefix: &str, levels: usize, text: &mut String) {
    if levels == 0 {
        return;
    }
    for field in fields {
        text.push_str(&format!(
            "{prefix}-- {}: {} (nullable = {})\n",
            field.name(),
            tree_name(field.data_type()),
            field.is_nullable()
        ));
        tree_inside(field.data_type(), &format!("{prefix}    |"), levels - 1, text);
    }
}

fn tree_inside(data_type: &DataType, prefix: &str, levels: usize, text: &mut String) {
    if levels == 0 {
        return;
    }
    let inside = format!("{prefix}    |");
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            text.push_str(&format!(
                "{prefix}-- element: {} (containsNull = {})\n",
                tree_name(item.data_type()),
                item.is_nullable()
            ));
            tree_inside(item.data_type(), &inside, levels - 1, text);
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(parts) = entries.data_type()
                && let [key, value] = parts.as_ref()
            {
                text.push_str(&format!("{prefix}-- key: {}\n", tree_name(key.data_type())));
                tree_inside(key.data_type(), &inside, levels - 1, text);
                text.push_str(&format!(
                    "{prefix}-- value: {} (valueContainsNull = {})\n",
                    tree_name(value.data_type()),
                    value.is_nullable()
                ));
                tree_inside(value.data_type(), &inside, levels - 1, text);
            }
        }
        DataType::Struct(fields) => tree_fields(fields, prefix, levels, text),
        _ => {}
    }
}

/// Spark's `typeName`.
fn tree_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "array".into(),
        DataType::Map(..) => "map".into(),
        DataType::Struct(_) => "struct".into(),
        other => match ddl::simple_name(other).as_str() {
            "bigint" => "long".into(),
            "int" => "integer".into(),
            "smallint" => "short".into(),
            "tinyint" => "byte".into(),
            name => name.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_back() {
        for text in [
            "BOOLEAN",
            "TINYINT",
            "SMALLINT",
            "INT",
            "BIGINT",
            "FLOAT",
            "DOUBLE",
            "DECIMAL(12,3)",
            "STRING",
            "BINARY",
            "DATE",
            "TIMESTAMP",
            "TIMESTAMP_NTZ",
            "ARRAY<MAP<STRING, STRUCT<a: INT, b: ARRAY<DATE>>>>",
        ] {
            let data_type = ddl::parse_type(text).expect(text);
            assert_eq!(from_proto(&to_proto(&data_type)).expect(text), data_type, "{text}");
        }
    }

    #[test]
    fn metadata_comes_back() {
        let text = r#"{"comment":"what","n":1,"nested":{"a":[1,2]}}"#;
        let metadata = parse_metadata(text).expect("is an object");
        assert_eq!(metadata["comment"], "what");
        assert_eq!(metadata_json(&metadata).as_deref(), Some(text));
        assert_eq!(metadata_json(&HashMap::new()), None);
        assert!(parse_metadata("[1]").is_err());
    }

    #[test]
    fn trees() {
        let schema =
            ddl::parse_ddl("id BIGINT NOT NULL, a ARRAY<STRUCT<x: INT>>, m MAP<STRING, DECIMAL(3,1)>").expect("ddl");
        assert_eq!(
            tree_string(&schema, None),
            "root\n\
             \u{20}|-- id: long (nullable = false)\n\
             \u{20}|-- a: array (nullable = true)\n\
             \u{20}|    |-- element: struct (containsNull = true)\n\
             \u{20}|    |    |-- x: integer (nullable = true)\n\
             \u{20}|-- m: map (nullable = true)\n\
             \u{20}|    |-- key: string\n\
             \u{20}|    |-- value: decimal(3,1) (valueContainsNull = true)\n"
        );
        assert_eq!(tree_string(&schema, Some(1)).lines().count(), 4);
    }
}
