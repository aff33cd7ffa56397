//! `spark_binary_to_string(binary)`: Spark's CAST(binary AS STRING), which never fails.
//!
//! Bytes that are no UTF-8 become U+FFFD, in the rows that have them. (Spark keeps such bytes, which Arrow's strings
//! cannot hold, and shows U+FFFD where they are read.) Where every row is right, no byte is copied.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, GenericBinaryArray, OffsetSizeTrait, StringArray, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SparkBinaryToString {
    signature: Signature,
}

impl Default for SparkBinaryToString {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SparkBinaryToString {
    fn name(&self) -> &str {
        "spark_binary_to_string"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        use DataType as T;
        match &arg_types[0] {
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => Ok(T::Utf8),
            T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => Ok(T::Utf8),
            other => plan_err!("spark_binary_to_string takes BINARY, not {other}"),
        }
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Array(array) => binary_to_string(array).map(ColumnarValue::Array),
            ColumnarValue::Scalar(scalar) => {
                let result = binary_to_string(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?))
            }
        }
    }
}

/// Each row as text of type `Utf8`.
///
/// # Errors
/// More than 2 GiB of text in one array.
pub fn binary_to_string(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Binary => Ok(Arc::new(whole_or_by_row(array.as_binary::<i32>())?)),
        DataType::LargeBinary => by_row(array.as_binary::<i64>().iter()),
        DataType::BinaryView => by_row(array.as_binary_view().iter()),
        DataType::FixedSizeBinary(_) => by_row(array.as_fixed_size_binary().iter()),
        _ => Ok(cast(array, &DataType::Utf8)?),
    }
}

fn whole_or_by_row(array: &BinaryArray) -> Result<StringArray> {
    if is_text(array) {
        let (offsets, values, nulls) = array.clone().into_parts();
        // SAFETY: `is_text` has found every value to be UTF-8, and the offsets are those of a valid array.
        return Ok(unsafe { StringArray::new_unchecked(offsets, values, nulls) });
    }
    let rows = array.iter().map(|row| row.map(String::from_utf8_lossy));
    let mut builder = StringBuilder::with_capacity(array.len(), array.value_data().len());
    rows.for_each(|row| builder.append_option(row));
    Ok(builder.finish())
}

/// Whether every value, null or not, is UTF-8: all bytes are checked at once, then that no value begins inside a
/// character.
fn is_text<O: OffsetSizeTrait>(array: &GenericBinaryArray<O>) -> bool {
    let offsets = array.value_offsets();
    let (begin, end) = (offsets[0].as_usize(), offsets[array.len()].as_usize());
    match std::str::from_utf8(&array.value_data()[begin..end]) {
        Ok(text) => text.is_ascii() || offsets.iter().all(|offset| text.is_char_boundary(offset.as_usize() - begin)),
        Err(_) => false,
    }
}

fn by_row<'a>(rows: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    let mut bytes = 0_usize;
    for row in rows {
        let text = row.map(String::from_utf8_lossy);
        bytes += text.as_ref().map_or(0, |text| text.len());
        if i32::try_from(bytes).is_err() {
            return exec_err!("more than 2 GiB of text in one batch: read smaller batches");
        }
        builder.append_option(text);
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryViewArray, LargeBinaryArray};

    type Rows<'a> = Vec<Option<&'a [u8]>>;

    #[track_caller]
    fn check(rows: &Rows, expect: &[Option<&str>]) {
        let arrays: [ArrayRef; 3] = [
            Arc::new(BinaryArray::from(rows.clone())),
            Arc::new(LargeBinaryArray::from(rows.clone())),
            Arc::new(BinaryViewArray::from(rows.clone())),
        ];
        for array in arrays {
            let text = binary_to_string(&array).expect("never fails");
            assert_eq!(text.as_string::<i32>().iter().collect::<Vec<_>>(), expect, "{}", array.data_type());
        }
    }

    #[test]
    fn text_of_bytes() {
        check(&vec![Some(b"a"), None, Some(b""), Some("é😀".as_bytes())], &[Some("a"), None, Some(""), Some("é😀")]);
        check(&vec![Some(b"a\xff"), Some(b"b")], &[Some("a\u{fffd}"), Some("b")]);
        // The whole is UTF-8, its rows are not.
        check(&vec![Some(b"\xc3"), Some(b"\xa9")], &[Some("\u{fffd}"), Some("\u{fffd}")]);
        check(&vec![], &[]);
    }

    #[test]
    fn right_bytes_are_not_copied() {
        let rows: Rows = vec![Some(b"first"), None, Some("zweite ü".as_bytes()), Some(b"third")];
        let array: ArrayRef = Arc::new(BinaryArray::from(rows).slice(1, 3));
        let text = binary_to_string(&array).expect("text");
        assert_eq!(text.as_string::<i32>().value_data().as_ptr(), array.as_binary::<i32>().value_data().as_ptr());
        assert_eq!(text.as_string::<i32>().value(2), "third");
    }
}
