//! Values under a null are null: in Arrow anything may lie there, and DataFusion takes a field of a struct as it stands.
//!
//! So what comes in from outside is masked once, where it comes in.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, make_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields};
use arrow::error::Result;
use std::sync::Arc;

/// The same rows, in which the fields of structs that are null are null, wherever the structs are. These fields are
/// nullable then.
///
/// # Errors
/// Arrays that contradict their type.
pub fn masked(array: &ArrayRef) -> Result<ArrayRef> {
    if has_structs(array.data_type()) { under(array, None) } else { Ok(Arc::clone(array)) }
}

/// Whether values of this type are structs, or have some inside.
pub fn has_structs(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(item) => has_structs(item.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => pair.iter().any(|field| has_structs(field.data_type())),
            _ => false,
        },
        _ => false,
    }
}

/// `above`: where the struct around it is there.
fn under(array: &ArrayRef, above: Option<&NullBuffer>) -> Result<ArrayRef> {
    let nulls = NullBuffer::union(array.nulls(), above);
    Ok(match array.data_type() {
        DataType::Struct(fields) if !fields.is_empty() => {
            let own = array.as_struct().columns();
            let columns = own.iter().map(|column| under(column, nulls.as_ref())).collect::<Result<Vec<_>>>()?;
            let fields = fields.iter().zip(&columns).map(|(field, column)| nullable(field, column)).collect::<Fields>();
            Arc::new(StructArray::try_new(fields, columns, nulls)?)
        }
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let values = masked(list.values())?;
            Arc::new(ListArray::try_new(nullable(item, &values), list.offsets().clone(), values, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map();
            let (keys, values) = (masked(map.keys())?, masked(map.values())?);
            let (key, value) = (&map.entries().fields()[0], &map.entries().fields()[1]);
            // Keys are never null.
            let fields = vec![of_type(key, &keys), nullable(value, &values)];
            let pairs = StructArray::try_new(fields.into(), vec![keys, values], None)?;
            let entries = Arc::new(entries.as_ref().clone().with_data_type(pairs.data_type().clone()));
            Arc::new(MapArray::try_new(entries, map.offsets().clone(), pairs, nulls, *sorted)?)
        }
        DataType::Null => Arc::clone(array),
        _ if above.is_none() => Arc::clone(array),
        _ => make_array(array.to_data().into_builder().nulls(nulls).build()?),
    })
}

fn of_type(field: &FieldRef, values: &ArrayRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(values.data_type().clone()))
}

fn nullable(field: &FieldRef, values: &ArrayRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(values.data_type().clone()).with_nullable(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    /// Structs whose fields have values in every row, the second being null.
    fn structs() -> StructArray {
        let inner = Fields::from(vec![Field::new("e", DataType::Int64, false)]);
        let below = StructArray::new(inner.clone(), vec![Arc::new(Int64Array::from(vec![1, 0]))], None);
        let fields = vec![Field::new("z", DataType::Utf8, false), Field::new("d", DataType::Struct(inner), true)];
        let text = StringArray::from(vec!["q", ""]);
        StructArray::new(fields.into(), vec![Arc::new(text), Arc::new(below)], Some(vec![true, false].into()))
    }

    fn check(structs: &StructArray) {
        assert_eq!(structs.column(0).as_string::<i32>(), &StringArray::from(vec![Some("q"), None]));
        let below = structs.column(1).as_struct();
        assert!(below.is_null(1));
        assert_eq!(below.column(0).as_primitive(), &Int64Array::from(vec![Some(1), None]));
    }

    #[test]
    fn fields_of_null_structs_are_null() {
        let array: ArrayRef = Arc::new(structs());
        check(masked(&array).expect("masked").as_struct());
        let item = Arc::new(Field::new_list_field(array.data_type().clone(), true));
        let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2]), array, None));
        check(masked(&list).expect("masked").as_list::<i32>().values().as_struct());
        let pair =
            vec![Field::new("key", DataType::Int64, false), Field::new("value", structs().data_type().clone(), true)];
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let pairs = StructArray::new(pair.into(), vec![keys, Arc::new(structs())], None);
        let entries = Arc::new(Field::new("entries", pairs.data_type().clone(), false));
        let map: ArrayRef = Arc::new(MapArray::new(entries, OffsetBuffer::from_lengths([2]), pairs, None, false));
        check(masked(&map).expect("masked").as_map().values().as_struct());
    }

    #[test]
    fn what_has_no_structs_stays() {
        let item = Arc::new(Field::new("element", DataType::Int64, false));
        let values = Arc::new(Int64Array::from(vec![1, 2]));
        let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2]), values, None));
        assert!(Arc::ptr_eq(&masked(&list).expect("masked"), &list));
    }
}
