//! Spark's type names in `CAST` and friends.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::datatype::DataTypeExt;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, StructField, TimezoneInfo,
};
use headwater_executor::functions::ddl;

/// Gives SQL type names Spark's meaning where DataFusion's differs: TIMESTAMP is microseconds since the epoch, DECIMAL
/// alone is `DECIMAL(10,0)`, and there are LONG, BYTE, SHORT and TIMESTAMP_NTZ.
#[derive(Debug)]
pub struct SparkTypePlanner;

impl TypePlanner for SparkTypePlanner {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        Ok(data_type(sql_type).map(DataTypeExt::into_nullable_field_ref))
    }
}

/// A type as it is written in Spark.
pub fn text(sql_type: &SqlType) -> String {
    match sql_type {
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item)) => format!("ARRAY<{}>", text(item)),
        SqlType::Map(key, value) => format!("MAP<{}, {}>", text(key), text(value)),
        SqlType::Struct(fields, _) => {
            let field = |field: &StructField| match &field.field_name {
                Some(name) => format!("`{}`: {}", name.value.replace('`', "``"), text(&field.field_type)),
                None => text(&field.field_type),
            };
            format!("STRUCT<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A type as Spark shows it in names: `DECIMAL(10,0)`.
pub fn shown(sql_type: &SqlType) -> String {
    let text = text(sql_type);
    ddl::parse_type(&text).map_or_else(|_| text.to_uppercase(), |known| ddl::type_name(&known))
}

fn data_type(sql_type: &SqlType) -> Option<DataType> {
    let timestamp = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Some(match sql_type {
        SqlType::Timestamp(_, TimezoneInfo::WithoutTimeZone) | SqlType::TimestampNtz(_) => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        SqlType::Timestamp(..) => timestamp(),
        SqlType::Decimal(ExactNumberInfo::None)
        | SqlType::Dec(ExactNumberInfo::None)
        | SqlType::Numeric(ExactNumberInfo::None) => DataType::Decimal128(10, 0),
        SqlType::Dec(ExactNumberInfo::Precision(precision)) if *precision <= 38 => {
            DataType::Decimal128(*precision as u8, 0)
        }
        SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Character(_) | SqlType::CharacterVarying(_) => DataType::Utf8,
        SqlType::Binary(_) | SqlType::Varbinary(_) => DataType::Binary,
        SqlType::Custom(name, arguments) if arguments.is_empty() => {
            match name.to_string().to_ascii_lowercase().as_str() {
                "long" => DataType::Int64,
                "byte" => DataType::Int8,
                "short" => DataType::Int16,
                "timestamp_ltz" => timestamp(),
                "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
                "void" => DataType::Null,
                _ => return None,
            }
        }
        // Fields and items have Spark's types too. Intervals have names of several words.
        SqlType::Array(ArrayElemTypeDef::AngleBracket(_))
        | SqlType::Map(..)
        | SqlType::Struct(..)
        | SqlType::Interval { fields: Some(_), .. } => {
            return ddl::parse_type(&text(sql_type)).ok();
        }
        _ => return None,
    })
}
