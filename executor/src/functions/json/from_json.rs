//! `from_json(text, schema[, options])`.
//!
//! Everything that steers it is in its arguments, since Ballista sends functions by name: the schema is a literal in
//! DDL or Spark's JSON form, options are a constant map. Text may be of any string type, or binary, which is read as
//! UTF-8 with U+FFFD in place of what is none, as Spark reads it.

use super::decoder::{Decoder, check_schema};
use super::options::Options;
use super::{external, option_pairs};
use crate::functions::ddl;
use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, GenericBinaryType, GenericStringType};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use headwater_proto::error::Error;
use std::borrow::Cow;
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FromJson {
    signature: Signature,
}

impl Default for FromJson {
    fn default() -> Self {
        let counts = vec![TypeSignature::Any(2), TypeSignature::Any(3)];
        Self { signature: Signature::one_of(counts, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromJson {
    fn name(&self) -> &str {
        "from_json"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of from_json depends on its schema argument, not on types")
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let input = args.arg_fields[0].data_type();
        if !is_text(input) {
            return Err(external(Error::invalid(
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                format!("from_json reads STRING, its first argument is {}", ddl::type_name(input)),
            )));
        }
        let schema = args.scalar_arguments.get(1).copied().flatten();
        let Some(Some(schema)) = schema.and_then(ScalarValue::try_as_str) else {
            return Err(external(Error::invalid(
                "INVALID_SCHEMA.NON_STRING_LITERAL",
                "from_json needs its schema as a string literal, such as 'id STRING, n INT'",
            )));
        };
        // As in Spark, whatever the schema says: a record may leave anything out.
        let data_type = ddl::as_nullable(&ddl::parse_schema(schema).map_err(external)?);
        // Options that are not folded to a literal yet are looked at when the function runs.
        let options = match args.scalar_arguments.get(2).copied().flatten() {
            None => Options::default(),
            Some(literal) => options(&ColumnarValue::Scalar(literal.clone()), None)?,
        };
        check_schema(&data_type, &options).map_err(external)?;
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type();
        let zone = args.config_options.execution.time_zone.as_deref();
        let options = match args.args.get(2) {
            None => options_of(Vec::new(), zone)?,
            Some(value) => options(value, zone)?,
        };
        check_schema(data_type, &options).map_err(external)?;
        match &args.args[0] {
            ColumnarValue::Array(array) => from_json(array, data_type, &options).map(ColumnarValue::Array),
            ColumnarValue::Scalar(scalar) => {
                let result = from_json(&scalar.to_array()?, data_type, &options)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}

fn options(value: &ColumnarValue, zone: Option<&str>) -> Result<Options> {
    options_of(option_pairs("from_json", value)?, zone)
}

fn options_of(pairs: Vec<(String, String)>, zone: Option<&str>) -> Result<Options> {
    Options::parse(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())), zone).map_err(external)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Reads each row of `texts` as JSON of type `data_type`.
///
/// # Errors
/// A bad record in mode FAILFAST; types that JSON cannot be read from or into.
pub fn from_json(texts: &ArrayRef, data_type: &DataType, options: &Options) -> Result<ArrayRef> {
    let mut decoder = Decoder::new(data_type, options, texts.len()).map_err(external)?;
    match texts.data_type() {
        DataType::Utf8 => push_strings::<i32>(texts, &mut decoder)?,
        DataType::LargeUtf8 => push_strings::<i64>(texts, &mut decoder)?,
        DataType::Utf8View => {
            for text in texts.as_string_view() {
                push(&mut decoder, text)?;
            }
        }
        DataType::Binary => push_bytes::<i32>(texts, &mut decoder)?,
        DataType::LargeBinary => push_bytes::<i64>(texts, &mut decoder)?,
        DataType::BinaryView => {
            for bytes in texts.as_binary_view() {
                push(&mut decoder, bytes.map(String::from_utf8_lossy).as_deref())?;
            }
        }
        DataType::FixedSizeBinary(_) => {
            for bytes in texts.as_fixed_size_binary() {
                push(&mut decoder, bytes.map(String::from_utf8_lossy).as_deref())?;
            }
        }
        DataType::Null => (0..texts.len()).for_each(|_| decoder.push_null()),
        DataType::Dictionary(_, value) => return from_json(&cast(texts, value)?, data_type, options),
        other => return internal_err!("from_json was planned for text and got {other}"),
    }
    decoder.finish().map_err(external)
}

#[inline]
fn push(decoder: &mut Decoder, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) => decoder.push(text).map_err(external),
        None => {
            decoder.push_null();
            Ok(())
        }
    }
}

fn push_strings<O: OffsetSizeTrait>(texts: &ArrayRef, decoder: &mut Decoder) -> Result<()> {
    let texts: &GenericByteArray<GenericStringType<O>> = texts.as_bytes();
    texts.iter().try_for_each(|text| push(decoder, text))
}

/// UTF-8 is checked once for all rows; rows are looked at one by one only when some byte is wrong.
fn push_bytes<O: OffsetSizeTrait>(texts: &ArrayRef, decoder: &mut Decoder) -> Result<()> {
    let texts: &GenericByteArray<GenericBinaryType<O>> = texts.as_bytes();
    let offsets = texts.value_offsets();
    let (begin, end) = (offsets[0].as_usize(), offsets[texts.len()].as_usize());
    let all = std::str::from_utf8(&texts.value_data()[begin..end]).ok();
    for row in 0..texts.len() {
        if texts.is_null(row) {
            decoder.push_null();
            continue;
        }
        let place = offsets[row].as_usize() - begin..offsets[row + 1].as_usize() - begin;
        // Rows may break characters apart even where the whole is right.
        let text = match all.and_then(|all| all.get(place)) {
            Some(text) => Cow::Borrowed(text),
            None => String::from_utf8_lossy(texts.value(row)),
        };
        decoder.push(&text).map_err(external)?;
    }
    Ok(())
}
