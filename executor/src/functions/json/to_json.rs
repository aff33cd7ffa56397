//! `to_json(struct | map | array[, options])`.

use super::encoder::Encoder;
use super::options::Options;
use super::{external, option_pairs};
use crate::functions::ddl;
use arrow::array::{Array, ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use headwater_proto::error::Error;
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ToJson {
    signature: Signature,
}

impl Default for ToJson {
    fn default() -> Self {
        let counts = vec![TypeSignature::Any(1), TypeSignature::Any(2)];
        Self { signature: Signature::one_of(counts, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToJson {
    fn name(&self) -> &str {
        "to_json"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        use DataType as T;
        let input = &arg_types[0];
        if !matches!(
            input,
            T::Struct(_) | T::Map(_, _) | T::List(_) | T::LargeList(_) | T::FixedSizeList(_, _) | T::Null
        ) {
            return Err(external(Error::invalid(
                "DATATYPE_MISMATCH.INVALID_JSON_SCHEMA",
                format!("to_json writes STRUCT, ARRAY and MAP, not {}: wrap it in struct(…)", ddl::type_name(input)),
            )));
        }
        Encoder::check(input).map_err(external)?;
        Ok(T::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pairs = match args.args.get(1) {
            None => Vec::new(),
            Some(value) => option_pairs("to_json", value)?,
        };
        let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let options = Options::parse(pairs, args.config_options.execution.time_zone.as_deref()).map_err(external)?;
        match &args.args[0] {
            ColumnarValue::Array(array) => to_json(array, &options).map(ColumnarValue::Array),
            ColumnarValue::Scalar(scalar) => {
                let result = to_json(&scalar.to_array()?, &options)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}

/// Writes each row as one JSON text; null for null.
///
/// # Errors
/// Types that JSON cannot be written from; more than 2 GiB of text.
pub fn to_json(values: &ArrayRef, options: &Options) -> Result<ArrayRef> {
    let mut encoder = Encoder::new(values, options).map_err(external)?;
    let mut text = Vec::new();
    let mut offsets = Vec::with_capacity(values.len() + 1);
    offsets.push(0);
    for row in 0..values.len() {
        if !values.is_null(row) {
            encoder.write(row, &mut text);
        }
        offsets.push(i32::try_from(text.len()).map_err(|_| {
            external(Error::invalid(
                "JSON_COLUMN_TOO_LARGE",
                "to_json made more than 2 GiB of text from one batch: read smaller batches",
            ))
        })?);
    }
    let nulls = values.logical_nulls();
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(text), nulls)?))
}
