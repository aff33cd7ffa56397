//! `max_by` and `min_by`, and the one row of a scalar subquery.

use super::{Aggregate, wrong_count};
use crate::functions::native::{invalid, mismatch};
use arrow::array::{Array, ArrayRef, AsArray, make_comparator};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use std::cmp::Ordering;

/// The aggregate that a scalar subquery becomes which may have many rows: it fails when there are.
pub const SINGLE_VALUE: &str = "spark_single_value";

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    let by = |name: &'static str, begin: super::Begin| {
        Aggregate::new(name, by_types, |types| Ok(types[0].clone()), |types, _| types.to_vec(), begin)
    };
    vec![
        by("max_by", |start| Ok(Box::new(By::new(start.types, true)?))),
        by("min_by", |start| Ok(Box::new(By::new(start.types, false)?))),
        Aggregate::new(
            SINGLE_VALUE,
            |name, types| if types.len() == 1 { Ok(types.to_vec()) } else { wrong_count(name, "1", types.len()) },
            |types| Ok(types[0].clone()),
            |types, _| vec![types[0].clone(), DataType::Int64],
            |start| Ok(Box::new(Single { value: ScalarValue::try_from(start.result)?, rows: 0 })),
        ),
    ]
}

fn by_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [_, by @ DataType::Map(..)] => Err(mismatch(name, 1, "an ordered", by)),
        [_, _] => Ok(types.to_vec()),
        _ => wrong_count(name, "2", types.len()),
    }
}

/// The value beside the largest, or the smallest, that is not null; of equal ones, beside the last.
#[derive(Debug)]
pub(super) struct By {
    most: bool,
    value: ScalarValue,
    by: ScalarValue,
}

impl By {
    pub(super) fn new(types: &[DataType], most: bool) -> Result<Self> {
        Ok(Self { most, value: ScalarValue::try_from(&types[0])?, by: ScalarValue::try_from(&types[1])? })
    }
}

impl Accumulator for By {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let by = &values[1];
        if *by.data_type() == DataType::Null {
            return Ok(());
        }
        let options = SortOptions { descending: false, nulls_first: true };
        let within = make_comparator(by, by, options)?;
        let better = |order: Ordering| if self.most { order.is_ge() } else { order.is_le() };
        let valid = (0..by.len()).filter(|i| by.is_valid(*i));
        let best = valid.reduce(|best, i| if better(within(i, best)) { i } else { best });
        let Some(best) = best else { return Ok(()) };
        if !self.by.is_null() {
            let known = self.by.to_array()?;
            if !better(make_comparator(by, &known, options)?(best, 0)) {
                return Ok(());
            }
        }
        self.by = ScalarValue::try_from_array(by, best)?;
        self.value = ScalarValue::try_from_array(&values[0], best)?;
        // What they are parts of can go.
        self.by.compact();
        self.value.compact();
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), self.by.clone()])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.value.size() + self.by.size()
    }
}

/// The value of the only row; null when there is none.
#[derive(Debug)]
struct Single {
    value: ScalarValue,
    rows: i64,
}

impl Single {
    fn count(&mut self, rows: i64) -> Result<()> {
        self.rows += rows;
        if self.rows > 1 {
            return invalid(
                "SCALAR_SUBQUERY_TOO_MANY_ROWS",
                "more than one row returned by a subquery used as an expression: aggregate it, or add LIMIT 1",
            );
        }
        Ok(())
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count(values[0].len() as i64)?;
        if !values[0].is_empty() {
            self.value = ScalarValue::try_from_array(&values[0], 0)?;
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states[1].as_primitive::<Int64Type>();
        for i in 0..rows.len() {
            if rows.is_valid(i) && rows.value(i) > 0 {
                self.count(rows.value(i))?;
                self.value = ScalarValue::try_from_array(&states[0], i)?;
            }
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(Some(self.rows))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn the_value_beside_the_extreme() {
        let names = |names: &[&str]| -> ArrayRef { Arc::new(StringArray::from(names.to_vec())) };
        let types = [DataType::Utf8, DataType::Float64];
        for (most, expect) in [(true, "d"), (false, "a")] {
            let mut whole = By::new(&types, most).expect("types");
            let by: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None, Some(2.0)]));
            whole.update_batch(&[names(&["a", "b", "c"]), by]).expect("rows");
            let mut part = By::new(&types, most).expect("types");
            let by: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1.5)]));
            part.update_batch(&[names(&["d", "e"]), by]).expect("rows");
            let states: Vec<ArrayRef> =
                part.state().expect("a state").iter().map(|one| one.to_array().expect("array")).collect();
            whole.merge_batch(&states).expect("merged");
            // A part without rows changes nothing.
            let empty = By::new(&types, most).expect("types").state().expect("a state");
            let states: Vec<ArrayRef> = empty.iter().map(|one| one.to_array().expect("array")).collect();
            whole.merge_batch(&states).expect("merged");
            assert_eq!(whole.evaluate().expect("a value"), ScalarValue::from(expect));
        }
    }

    #[test]
    fn of_equal_ones_the_last_counts() {
        for most in [true, false] {
            let mut by = By::new(&[DataType::Utf8, DataType::Float64], most).expect("types");
            for names in [vec!["a", "b"], vec!["c", "d"]] {
                let equal: ArrayRef = Arc::new(Float64Array::from(vec![1.0; 2]));
                by.update_batch(&[Arc::new(StringArray::from(names)), equal]).expect("rows");
            }
            assert_eq!(by.evaluate().expect("a value"), ScalarValue::from("d"));
        }
    }

    #[test]
    fn more_than_one_row_is_too_many() {
        let single = || Single { value: ScalarValue::Float64(None), rows: 0 };
        let one: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let mut whole = single();
        whole.update_batch(&[Arc::clone(&one)]).expect("one row");
        let mut part = single();
        part.update_batch(&[Arc::new(Float64Array::from(vec![None]))]).expect("one row");
        let states: Vec<ArrayRef> =
            part.state().expect("a state").iter().map(|one| one.to_array().expect("array")).collect();
        let error = whole.merge_batch(&states).expect_err("two rows").to_string();
        assert!(error.contains("SCALAR_SUBQUERY_TOO_MANY_ROWS"), "{error}");
        whole.update_batch(&[one]).expect_err("two rows");
        assert!(single().evaluate().expect("no row").is_null());
    }
}
