//! Spark's JSON functions.
//!
//! ```text
//! from_json ── decoder ── parser ── keys, scan     text → columns, one pass
//!                            └───── columns        under construction, can be cut back
//! to_json ──── encoder                             columns → text
//! options      for both
//! ```

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use headwater_proto::error::Error;

mod base64;
pub(crate) mod columns;
pub mod decoder;
mod encoder;
pub mod from_json;
pub(crate) mod keys;
pub mod options;
mod parser;
mod scan;
#[cfg(test)]
mod tests;
pub mod to_json;

pub(crate) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Keys and values of an options argument: a map of strings, the same in every row.
pub(crate) fn option_pairs(function: &str, value: &ColumnarValue) -> Result<Vec<(String, String)>> {
    let not_a_map = |found: &DataType| {
        external(Error::invalid(
            "INVALID_OPTIONS.NON_STRING_TYPE",
            format!(
                "options of {function} must be a map of strings, such as map('mode', 'FAILFAST'), but got {}",
                crate::functions::ddl::type_name(found)
            ),
        ))
    };
    let array = match value {
        ColumnarValue::Scalar(ScalarValue::Null) => return Ok(Vec::new()),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
        ColumnarValue::Array(array) => array.clone(),
    };
    let Some(map) = array.as_map_opt() else {
        return Err(not_a_map(array.data_type()));
    };
    if map.is_empty() || map.is_null(0) {
        return Ok(Vec::new());
    }
    let entries = map.value(0);
    let text = |column: usize| {
        let values = entries.column(column);
        let is_text = matches!(values.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        if !is_text && !entries.is_empty() {
            return Err(not_a_map(map.data_type()));
        }
        Ok(cast(values, &DataType::Utf8)?)
    };
    let (keys, values) = (text(0)?, text(1)?);
    let pairs = keys.as_string::<i32>().iter().zip(values.as_string::<i32>());
    // A null value is as good as no option.
    Ok(pairs.filter_map(|(key, value)| Some((key?.to_string(), value?.to_string()))).collect())
}
