//! `collect_set`: different values, in their order, so that the same rows make the same array.

use super::{Aggregate, list_of, list_value, wrong_count};
use crate::functions::native::mismatch;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use std::collections::HashSet;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    vec![
        Aggregate::new(
            "collect_set",
            |name, types| match types {
                [one @ DataType::Map(..)] => Err(mismatch(name, 0, "no \"MAP\"", one)),
                [one] => Ok(vec![one.clone()]),
                _ => wrong_count(name, "1", types.len()),
            },
            |types| Ok(list_of(types[0].clone())),
            |types, _| vec![list_of(types[0].clone())],
            |start| Ok(Box::new(Set { item: start.types[0].clone(), seen: HashSet::new(), bytes: 0 })),
        )
        .never_null(),
    ]
}

/// Different values that are not null.
#[derive(Debug)]
struct Set {
    item: DataType,
    seen: HashSet<ScalarValue>,
    bytes: usize,
}

impl Set {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        for i in 0..values.len() {
            let mut value = ScalarValue::try_from_array(values, i)?;
            if value.is_null() {
                continue;
            }
            value.compact();
            let size = value.size();
            if self.seen.insert(value) {
                self.bytes += size;
            }
        }
        Ok(())
    }

    fn sorted(&self) -> Result<ArrayRef> {
        if self.seen.is_empty() {
            return Ok(arrow::array::new_empty_array(&self.item));
        }
        let values = ScalarValue::iter_to_array(self.seen.iter().cloned())?;
        if !self.item.is_nested() {
            let options = Some(SortOptions { descending: false, nulls_first: true });
            let column = SortColumn { values: std::sync::Arc::clone(&values), options };
            return Ok(take(&values, &lexsort_to_indices(&[column], None)?, None)?);
        }
        let converter = RowConverter::new(vec![SortField::new(self.item.clone())])?;
        let rows = converter.convert_columns(&[std::sync::Arc::clone(&values)])?;
        let mut order: Vec<u64> = (0..values.len() as u64).collect();
        order.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
        Ok(take(&values, &arrow::array::UInt64Array::from(order), None)?)
    }
}

impl Accumulator for Set {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(&values[0])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in states[0].as_list::<i32>().iter().flatten() {
            self.add(&values)?;
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![list_value(self.sorted()?)])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(list_value(self.sorted()?))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.bytes + self.seen.capacity() * size_of::<ScalarValue>()
    }
}
