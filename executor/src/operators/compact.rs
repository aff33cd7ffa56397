//! Views of strings and bytes with what they show alone.
//!
//! A view array shares the buffers of what it was taken from: the twenty rows of a top-N hold on to all the strings that
//! they were chosen among. In a file or on the wire a batch takes its buffers whole. An executor therefore
//! compacts them below the writer of a stage's rows. (Ballista's writer of hash partitions does the same by itself.)

use super::local::LocalExec;
use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, ListArray, RecordBatch, StructArray};
use arrow::datatypes::{ByteViewType, DataType};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use std::sync::Arc;

/// Buffers of this many bytes are no waste, whatever they hold.
const BYTES_MIN: usize = 16 << 10;

/// The plan, and its rows compacted where they have views.
pub fn compacted(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    if plan.schema().fields().iter().any(|field| has_views(field.data_type())) {
        LocalExec::over(plan, "CompactExec", compact_all)
    } else {
        plan
    }
}

fn has_views(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        DataType::List(item) => has_views(item.data_type()),
        _ => false,
    }
}

/// The views anew when their buffers hold more than twice what they show; else nothing.
fn view<T: ByteViewType>(array: &GenericByteViewArray<T>) -> Option<ArrayRef> {
    let held: usize = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    (held > BYTES_MIN && held / 2 > array.total_buffer_bytes_used()).then(|| Arc::new(array.gc()) as ArrayRef)
}

/// The array anew when there is something to be gained, else nothing.
fn compact(array: &ArrayRef) -> std::result::Result<Option<ArrayRef>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Utf8View => view(array.as_string_view()),
        DataType::BinaryView => view(array.as_binary_view()),
        kind if !has_views(kind) => None,
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let columns = all(array.columns())?;
            let build = |columns| StructArray::try_new(fields.clone(), columns, array.nulls().cloned());
            columns.map(build).transpose()?.map(|array| Arc::new(array) as ArrayRef)
        }
        DataType::List(item) => {
            let array = array.as_list::<i32>();
            let build =
                |items| ListArray::try_new(Arc::clone(item), array.offsets().clone(), items, array.nulls().cloned());
            compact(array.values())?.map(build).transpose()?.map(|array| Arc::new(array) as ArrayRef)
        }
        _ => None,
    })
}

/// The same for several: nothing when none is changed.
fn all(arrays: &[ArrayRef]) -> std::result::Result<Option<Vec<ArrayRef>>, ArrowError> {
    let compacted = arrays.iter().map(compact).collect::<std::result::Result<Vec<_>, _>>()?;
    if compacted.iter().all(Option::is_none) {
        return Ok(None);
    }
    Ok(Some(compacted.into_iter().zip(arrays).map(|(new, old)| new.unwrap_or_else(|| Arc::clone(old))).collect()))
}

fn compact_batch(batch: RecordBatch) -> Result<RecordBatch> {
    // Rows are there where no column is: those have no views.
    match all(batch.columns())? {
        Some(columns) => Ok(RecordBatch::try_new(batch.schema(), columns)?),
        None => Ok(batch),
    }
}

fn compact_all(batches: SendableRecordBatchStream, _: &TaskContext) -> SendableRecordBatchStream {
    let schema = batches.schema();
    let compacted = batches.map(|batch| batch.and_then(compact_batch));
    Box::pin(RecordBatchStreamAdapter::new(schema, compacted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryViewArray, StringViewArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields};

    /// A thousand strings that are too long for the views themselves.
    fn strings() -> StringViewArray {
        (0..1000).map(|number| (number % 7 != 3).then(|| format!("a string of some length, number {number}"))).collect()
    }

    fn held(array: &ArrayRef) -> usize {
        match array.data_type() {
            DataType::Utf8View => array.as_string_view().data_buffers().iter().map(|buffer| buffer.len()).sum(),
            DataType::BinaryView => array.as_binary_view().data_buffers().iter().map(|buffer| buffer.len()).sum(),
            DataType::Struct(_) => array.as_struct().columns().iter().map(held).sum(),
            DataType::List(_) => held(array.as_list::<i32>().values()),
            _ => 0,
        }
    }

    #[test]
    fn few_rows_hold_few_bytes() {
        let strings = strings();
        let bytes: BinaryViewArray = strings.iter().map(|text| text.map(str::as_bytes)).collect();
        let few: ArrayRef = Arc::new(strings.slice(10, 20));
        let fields = Fields::from(vec![Field::new("s", DataType::Utf8View, true)]);
        let record: ArrayRef = Arc::new(StructArray::new(fields, vec![Arc::clone(&few)], None));
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lists: ArrayRef =
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([5; 4]), Arc::clone(&few), None));
        for array in [few, Arc::new(bytes.slice(10, 20)), record, lists] {
            let compacted = compact(&array).expect("is compacted").expect("is wasteful");
            assert_eq!(&compacted, &array);
            assert!(held(&array) > 20_000 && held(&compacted) < 1_000, "{}", array.data_type());
        }
        // What is full stays as it is, and so does what is small.
        let whole: ArrayRef = Arc::new(strings.slice(100, 900));
        assert!(compact(&whole).expect("is fine").is_none());
        let small: ArrayRef =
            Arc::new(StringViewArray::from_iter_values((0..100).map(|n| format!("a longer string, {n}"))));
        assert!(compact(&small.slice(0, 1)).expect("is fine").is_none());
    }

    #[test]
    fn rows_without_views_pass() {
        use datafusion::physical_plan::empty::EmptyExec;
        let plan = |kind| {
            let schema = arrow::datatypes::Schema::new(vec![Field::new("c", kind, true)]);
            compacted(Arc::new(EmptyExec::new(Arc::new(schema))))
        };
        assert_eq!(plan(DataType::Utf8).name(), "EmptyExec");
        assert_eq!(plan(DataType::new_list(DataType::BinaryView, true)).name(), "CompactExec");
    }
}
