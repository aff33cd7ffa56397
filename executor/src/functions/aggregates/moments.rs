//! Variances, skewness, kurtosis, covariances, correlation and regressions, by central moments that are merged without a
//! second look at the values. A value that is NaN or infinite makes them NaN, as in Spark, whose formulas these are.

use super::{Aggregate, wrong_count};
use crate::functions::native::mismatch;
use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    let of_one = |name: &'static str, begin: super::Begin| {
        Aggregate::new(name, double, |_| Ok(DataType::Float64), |_, _| vec![DataType::Float64; 5], begin)
    };
    let of_two = |name: &'static str, begin: super::Begin| {
        Aggregate::new(name, doubles, |_| Ok(DataType::Float64), |_, _| vec![DataType::Float64; 8], begin)
    };
    vec![
        of_one("skewness", |_| one(Moments::skewness)),
        of_one("kurtosis", |_| one(Moments::kurtosis)),
        of_one("var_pop", |_| one(|all| all.variance(0.0))),
        of_one("var", |_| one(|all| all.variance(1.0))).alias(&["variance", "var_samp"]),
        of_one("stddev_pop", |_| one(|all| all.variance(0.0).map(f64::sqrt))),
        of_one("stddev", |_| one(|all| all.variance(1.0).map(f64::sqrt))).alias(&["std", "stddev_samp"]),
        of_two("covar_pop", |_| two(|all| all.covariance(0.0))),
        of_two("covar_samp", |_| two(|all| all.covariance(1.0))),
        of_two("corr", |_| two(Pairs::correlation)),
        of_two("regr_avgx", |_| two(|all| all.some(all.sum_x / all.n))),
        of_two("regr_avgy", |_| two(|all| all.some(all.sum_y / all.n))),
        of_two("regr_sxx", |_| two(|all| all.some(all.m2_x))),
        of_two("regr_syy", |_| two(|all| all.some(all.m2_y))),
        of_two("regr_sxy", |_| two(|all| all.some(all.c2))),
        of_two("regr_slope", |_| two(Pairs::slope)),
        of_two("regr_intercept", |_| two(|all| Some(all.mean_y - all.slope()? * all.mean_x))),
        of_two("regr_r2", |_| two(Pairs::determination)),
    ]
}

/// One number, as DOUBLE.
pub fn double(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() == 1 { numbers(name, types) } else { wrong_count(name, "1", types.len()) }
}

/// Two numbers, as DOUBLE.
fn doubles(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() == 2 { numbers(name, types) } else { wrong_count(name, "2", types.len()) }
}

fn numbers(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let number = |one: &DataType| {
        one.is_numeric() || matches!(one, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
    };
    match types.iter().position(|one| !number(one)) {
        Some(at) => Err(mismatch(name, at, "\"DOUBLE\"", &types[at])),
        None => Ok(vec![DataType::Float64; types.len()]),
    }
}

/// The distance of a single value from the mean.
fn no_distance(value: f64) -> f64 {
    if value.is_finite() { 0.0 } else { f64::NAN }
}

/// Count, mean, and sums of the 2nd, 3rd and 4th power of distances from the mean.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

impl Moments {
    fn of(value: f64) -> Self {
        let none = no_distance(value);
        Self { n: 1.0, mean: value, m2: none, m3: none, m4: none }
    }

    /// Both together (Pébay's formulas, which for a single value are the usual update).
    fn merge(&mut self, other: Self) {
        if other.n == 0.0 {
            return;
        }
        if self.n == 0.0 {
            *self = other;
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
        *self = Self { n, mean: self.mean + by_n * b, m2, m3, m4 };
    }

    /// Of so many values less.
    fn variance(self, less: f64) -> Option<f64> {
        (self.n > less).then_some(self.m2 / (self.n - less))
    }

    /// Of equal values there is none.
    fn skewness(self) -> Option<f64> {
        (self.n > 0.0 && self.m2 != 0.0).then_some(self.n.sqrt() * self.m3 / (self.m2 * self.m2 * self.m2).sqrt())
    }

    fn kurtosis(self) -> Option<f64> {
        (self.n > 0.0 && self.m2 != 0.0).then_some(self.n * self.m4 / (self.m2 * self.m2) - 3.0)
    }
}

fn one(result: fn(Moments) -> Option<f64>) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(OfOne { all: Moments::default(), result }))
}

#[derive(Debug)]
struct OfOne {
    all: Moments,
    result: fn(Moments) -> Option<f64>,
}

impl Accumulator for OfOne {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Float64Type>().iter().flatten() {
            self.all.merge(Moments::of(value));
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for [n, mean, m2, m3, m4] in states_of(states) {
            self.all.merge(Moments { n, mean, m2, m3, m4 });
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Moments { n, mean, m2, m3, m4 } = self.all;
        Ok(state_of([n, mean, m2, m3, m4]))
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.result)(self.all)))
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Of pairs of numbers, the dependent one first: count, sums, means, sums of squared distances from the means, and of the
/// products of both distances.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Pairs {
    n: f64,
    sum_y: f64,
    sum_x: f64,
    mean_y: f64,
    mean_x: f64,
    m2_y: f64,
    m2_x: f64,
    c2: f64,
}

impl Pairs {
    fn of(y: f64, x: f64) -> Self {
        let (m2_y, m2_x) = (no_distance(y), no_distance(x));
        Self { n: 1.0, sum_y: y, sum_x: x, mean_y: y, mean_x: x, m2_y, m2_x, c2: m2_y + m2_x }
    }

    fn merge(&mut self, other: Self) {
        if other.n == 0.0 {
            return;
        }
        if self.n == 0.0 {
            *self = other;
            return;
        }
        let (a, b) = (self.n, other.n);
        let n = a + b;
        let (dy, dx) = (other.mean_y - self.mean_y, other.mean_x - self.mean_x);
        *self = Self {
            n,
            sum_y: self.sum_y + other.sum_y,
            sum_x: self.sum_x + other.sum_x,
            mean_y: self.mean_y + dy / n * b,
            mean_x: self.mean_x + dx / n * b,
            m2_y: self.m2_y + other.m2_y + dy * (dy / n) * a * b,
            m2_x: self.m2_x + other.m2_x + dx * (dx / n) * a * b,
            c2: self.c2 + other.c2 + dx * (dy / n) * a * b,
        };
    }

    /// The value, when there are pairs.
    fn some(self, value: f64) -> Option<f64> {
        (self.n > 0.0).then_some(value)
    }

    /// Of so many pairs less.
    fn covariance(self, less: f64) -> Option<f64> {
        (self.n > less).then_some(self.c2 / (self.n - less))
    }

    fn correlation(self) -> Option<f64> {
        let spread = (self.m2_y * self.m2_x).sqrt();
        (self.n > 1.0 && spread != 0.0).then_some(self.c2 / spread)
    }

    fn slope(self) -> Option<f64> {
        (self.n > 0.0 && self.m2_x != 0.0).then_some(self.c2 / self.m2_x)
    }

    /// A line through equal values explains all of them.
    fn determination(self) -> Option<f64> {
        if self.n == 0.0 || self.m2_x == 0.0 {
            return None;
        }
        if self.m2_y == 0.0 {
            return Some(1.0);
        }
        let correlation = self.c2 / (self.m2_y * self.m2_x).sqrt();
        Some(correlation * correlation)
    }
}

fn two(result: fn(Pairs) -> Option<f64>) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(OfTwo { all: Pairs::default(), result }))
}

#[derive(Debug)]
struct OfTwo {
    all: Pairs,
    result: fn(Pairs) -> Option<f64>,
}

impl Accumulator for OfTwo {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [left, right] = [0, 1].map(|at| values[at].as_primitive::<Float64Type>());
        for (y, x) in left.iter().zip(right) {
            if let (Some(y), Some(x)) = (y, x) {
                self.all.merge(Pairs::of(y, x));
            }
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for [n, sum_y, sum_x, mean_y, mean_x, m2_y, m2_x, c2] in states_of(states) {
            self.all.merge(Pairs { n, sum_y, sum_x, mean_y, mean_x, m2_y, m2_x, c2 });
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Pairs { n, sum_y, sum_x, mean_y, mean_x, m2_y, m2_x, c2 } = self.all;
        Ok(state_of([n, sum_y, sum_x, mean_y, mean_x, m2_y, m2_x, c2]))
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.result)(self.all)))
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn state_of<const N: usize>(numbers: [f64; N]) -> Vec<ScalarValue> {
    numbers.map(|one| ScalarValue::Float64(Some(one))).to_vec()
}

/// The numbers of each partial state.
fn states_of<const N: usize>(states: &[ArrayRef]) -> impl Iterator<Item = [f64; N]> {
    let parts: Vec<&Float64Array> = states.iter().map(|part| part.as_primitive()).collect();
    let rows = parts.first().map_or(0, |part| part.values().len());
    (0..rows).map(move |row| std::array::from_fn(|at| parts[at].value(row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// The result, and the same of parts that are merged through their states.
    fn of(columns: &[&[f64]], begin: &dyn Fn() -> Result<Box<dyn Accumulator>>) -> Option<f64> {
        let arrays = |rows: std::ops::Range<usize>| -> Vec<ArrayRef> {
            let array = |column: &&[f64]| Arc::new(Float64Array::from(column[rows.clone()].to_vec())) as ArrayRef;
            columns.iter().map(array).collect()
        };
        let result = |mut all: Box<dyn Accumulator>| match all.evaluate().expect("a result") {
            ScalarValue::Float64(number) => number,
            other => panic!("{other}"),
        };
        let rows = columns[0].len();
        let mut whole = begin().expect("an accumulator");
        whole.update_batch(&arrays(0..rows)).expect("numbers");
        let mut merged = begin().expect("an accumulator");
        for part in [0..rows.min(2), rows.min(2)..rows, 0..0] {
            let mut one = begin().expect("an accumulator");
            one.update_batch(&arrays(part)).expect("numbers");
            let states = one.state().expect("a state");
            let states: Vec<ArrayRef> = states.iter().map(|one| one.to_array().expect("array")).collect();
            merged.merge_batch(&states).expect("merged");
        }
        let (whole, merged) = (result(whole), result(merged));
        match (whole, merged) {
            (Some(whole), Some(merged)) if whole.is_finite() => {
                assert!((whole - merged).abs() < 1e-12, "{whole} {merged}")
            }
            (whole, merged) => {
                assert_eq!(whole.map(f64::is_nan), merged.map(f64::is_nan));
            }
        }
        whole
    }

    fn skewness(values: &[f64]) -> Option<f64> {
        of(&[values], &|| one(Moments::skewness))
    }

    fn kurtosis(values: &[f64]) -> Option<f64> {
        of(&[values], &|| one(Moments::kurtosis))
    }

    #[test]
    fn moments_are_those_of_the_whole() {
        let values = [100.0, 80.5, 70.0, 55.25, 80.5];
        let mean = values.iter().sum::<f64>() / 5.0;
        let moment = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
        let found = skewness(&values).expect("a result");
        assert!((found - 5.0_f64.sqrt() * moment(3) / moment(2).powf(1.5)).abs() < 1e-12);
        let found = kurtosis(&values).expect("a result");
        assert!((found - (5.0 * moment(4) / moment(2).powi(2) - 3.0)).abs() < 1e-12);
        let found = of(&[&values], &|| one(|all| all.variance(1.0))).expect("a result");
        assert!((found - moment(2) / 4.0).abs() < 1e-12);
        assert_eq!((skewness(&[2.0, 2.0]), kurtosis(&[])), (None, None));
        assert_eq!(of(&[&[2.0]], &|| one(|all| all.variance(1.0))), None);
        assert_eq!(of(&[&[2.0]], &|| one(|all| all.variance(0.0))), Some(0.0));
    }

    #[test]
    fn pairs_are_sparks() {
        let (y, x): (&[f64], &[f64]) = (&[1.0, 2.0, 4.0], &[2.0, 3.5, 1.0]);
        let found = of(&[y, x], &|| two(Pairs::correlation)).expect("a result");
        assert!((found + 0.563_621_480_190_678).abs() < 1e-12, "{found}");
        let found = of(&[y, x], &|| two(Pairs::slope)).expect("a result");
        assert!((found + 0.684_210_526_315_789_5).abs() < 1e-12, "{found}");
        // Equal values of either.
        let equal: &[f64] = &[1.0, 1.0, 1.0];
        assert_eq!(of(&[equal, x], &|| two(Pairs::correlation)), None);
        assert_eq!(of(&[equal, x], &|| two(Pairs::determination)), Some(1.0));
        assert_eq!(of(&[y, equal], &|| two(Pairs::determination)), None);
        assert_eq!(of(&[y, equal], &|| two(Pairs::slope)), None);
        assert_eq!(of(&[&[], &[]], &|| two(|all| all.some(all.c2))), None);
    }

    #[test]
    fn what_is_not_finite_makes_nan() {
        let nan = |found: Option<f64>| assert!(found.is_some_and(f64::is_nan), "{found:?}");
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            nan(of(&[&[1.0, 3.0, 4.0], &[2.0, odd, 5.0]], &|| two(Pairs::correlation)));
            nan(of(&[&[odd, 3.0, 4.0], &[2.0, 3.0, 5.0]], &|| two(|all| all.covariance(1.0))));
            nan(of(&[&[odd]], &|| one(|all| all.variance(0.0))));
            nan(skewness(&[odd]));
            nan(kurtosis(&[1.0, odd]));
            assert_eq!(of(&[&[odd]], &|| one(|all| all.variance(1.0))), None);
            // A single pair has no correlation, whatever it is.
            assert_eq!(of(&[&[1.0], &[odd]], &|| two(Pairs::correlation)), None);
        }
        let average = of(&[&[1.0, 3.0], &[2.0, f64::INFINITY]], &|| two(|all| all.some(all.sum_x / all.n)));
        assert_eq!(average, Some(f64::INFINITY));
    }
}
