//! `skewness` and `kurtosis`, by central moments that are merged without a second look at the values.

use super::{Aggregate, wrong_count};
use crate::functions::native::mismatch;
use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    let make = |name: &'static str, begin: super::Begin| {
        Aggregate::new(name, double, |_| Ok(DataType::Float64), |_, _| vec![DataType::Float64; 5], begin)
    };
    vec![make("skewness", |_| Ok(Box::new(Moments::new(3)))), make("kurtosis", |_| Ok(Box::new(Moments::new(4))))]
}

/// One number, as DOUBLE.
pub fn double(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [one] = types else { return wrong_count(name, "1", types.len()) };
    if one.is_numeric() || matches!(one, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Ok(vec![DataType::Float64]);
    }
    Err(mismatch(name, 0, "\"DOUBLE\"", one))
}

/// Count, mean, and sums of the 2nd, 3rd and 4th power of distances from the mean.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    order: u8,
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Moments {
    fn new(order: u8) -> Self {
        Self { order, ..Self::default() }
    }

    /// Both together (Pébay's formulas, which for a single value are the usual update).
    fn merge(&mut self, other: Self) {
        if other.n == 0.0 {
            return;
        }
        if self.n == 0.0 {
            *self = Self { order: self.order, ..other };
            return;
        }
        let (a, b) = (self.n, other.n);
        let n = a + b;
        let delta = other.mean - self.mean;
        let by_n = delta / n;
        let m2 = self.m2 + other.m2 + delta * by_n * a * b;
        let m3 = self.m3 + other.m3 + by_n * by_n * delta * a * b * (a - b) + 3.0 * by_n * (a * other.m2 - b * self.m2);
        let m4 = self.m4
            + other.m4
            + by_n * by_n * by_n * delta * a * b * (a * a - a * b + b * b)
            + 6.0 * by_n * by_n * (a * a * other.m2 + b * b * self.m2)
            + 4.0 * by_n * (a * other.m3 - b * self.m3);
        *self = Self { order: self.order, n, mean: self.mean + by_n * b, m2, m3, m4 };
    }

    fn result(&self) -> Option<f64> {
        // Of equal values there is none.
        if self.n == 0.0 || self.m2 == 0.0 {
            return None;
        }
        Some(match self.order {
            3 => self.n.sqrt() * self.m3 / (self.m2 * self.m2 * self.m2).sqrt(),
            _ => self.n * self.m4 / (self.m2 * self.m2) - 3.0,
        })
    }
}

impl Accumulator for Moments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.merge(Self { n: 1.0, mean: value, ..Self::default() });
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let part = |i: usize| -> &Float64Array { states[i].as_primitive() };
        for i in 0..part(0).len() {
            let [n, mean, m2, m3, m4] = [0, 1, 2, 3, 4].map(|at| part(at).value(i));
            self.merge(Self { order: self.order, n, mean, m2, m3, m4 });
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok([self.n, self.mean, self.m2, self.m3, self.m4].map(|one| ScalarValue::Float64(Some(one))).to_vec())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.result()))
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn of(values: &[f64], order: u8) -> Moments {
        let mut all = Moments::new(order);
        all.update_batch(&[Arc::new(Float64Array::from(values.to_vec()))]).expect("numbers");
        all
    }

    #[test]
    fn moments_are_those_of_the_whole() {
        let values = [100.0, 80.5, 70.0, 55.25, 80.5];
        for order in [3, 4] {
            let whole = of(&values, order).result().expect("a result");
            // In parts that are merged through their states.
            let mut merged = Moments::new(order);
            for part in [&values[..2], &values[2..], &[]] {
                let states = of(part, order).state().expect("a state");
                let arrays: Vec<ArrayRef> = states.iter().map(|one| one.to_array().expect("array")).collect();
                merged.merge_batch(&arrays).expect("merged");
            }
            let merged = merged.result().expect("a result");
            assert!((whole - merged).abs() < 1e-12, "{whole} {merged}");
        }
        let skewness = of(&values, 3).result().expect("a result");
        let mean = values.iter().sum::<f64>() / 5.0;
        let moment = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
        assert!((skewness - 5.0_f64.sqrt() * moment(3) / moment(2).powf(1.5)).abs() < 1e-12);
        let kurtosis = of(&values, 4).result().expect("a result");
        assert!((kurtosis - (5.0 * moment(4) / moment(2).powi(2) - 3.0)).abs() < 1e-12);
        assert_eq!(of(&[2.0, 2.0], 3).result(), None);
        assert_eq!(of(&[], 4).result(), None);
    }
}
