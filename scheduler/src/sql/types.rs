//! Spark's type names in `CAST` and friends.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::datatype::DataTypeExt;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo};
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

/// A type inside another; what DataFusion plans as Spark does is written out here.
fn nested(sql_type: &SqlType) -> Option<DataType> {
    data_type(sql_type).or_else(|| ddl::parse_type(&sql_type.to_string()).ok())
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
        SqlType::Map(key, value) => ddl::map_of(nested(key)?, nested(value)?),
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
        _ => return None,
    })
}
