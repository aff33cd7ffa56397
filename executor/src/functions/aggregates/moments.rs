//! Variances, skewness, kurtosis, covariances, correlation and regressions, by central moments that are merged without a
//! second look at the values. A value that is NaN or infinite makes those of a group NaN, as in Spark, whose formulas
//! these are.
//!
//! What is known of a group is a [`Summary`]. An accumulator of one group ([`One`]) and that of many ([`Many`]) merge and
//! read the same summaries, so that results are the same however rows are grouped. No row can be taken out of numbers
//! that were rounded: frames of windows that lose rows are replayed.

use super::{Aggregate, Coerce, wrong_count};
use crate::functions::maths::one_nan;
use crate::functions::native::mismatch;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;
use std::sync::Arc;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    let of_one = |name, result: fn(Moments) -> Option<f64>| aggregate::<5, Moments>(name, double, result);
    let of_two = |name, result: fn(Pairs) -> Option<f64>| aggregate::<8, Pairs>(name, doubles, result);
    vec![
        of_one("skewness", Moments::skewness),
        of_one("kurtosis", Moments::kurtosis),
        of_one("var_pop", |all| all.variance(0.0)),
        of_one("var", |all| all.variance(1.0)).alias(&["variance", "var_samp"]),
        of_one("stddev_pop", |all| all.variance(0.0).map(f64::sqrt)),
        of_one("stddev", |all| all.variance(1.0).map(f64::sqrt)).alias(&["std", "stddev_samp"]),
        of_two("covar_pop", |all| all.covariance(0.0)),
        of_two("covar_samp", |all| all.covariance(1.0)),
        of_two("corr", Pairs::correlation),
        of_two("regr_avgx", |all| all.some(all.sum_x / all.n)),
        of_two("regr_avgy", |all| all.some(all.sum_y / all.n)),
        of_two("regr_sxx", |all| all.some(all.m2_x)),
        of_two("regr_syy", |all| all.some(all.m2_y)),
        of_two("regr_sxy", |all| all.some(all.c2)),
        of_two("regr_slope", Pairs::slope),
        of_two("regr_intercept", |all| Some(all.mean_y - all.slope()? * all.mean_x)),
        of_two("regr_r2", Pairs::determination),
    ]
}

/// An aggregate whose result is read from a summary.
fn aggregate<const N: usize, M: Summary<N>>(
    name: &'static str,
    coerce: Coerce,
    result: fn(M) -> Option<f64>,
) -> Aggregate {
    Aggregate::new(
        name,
        coerce,
        |_| Ok(DataType::Float64),
        |_, _| vec![DataType::Float64; N],
        move |_| Ok(Box::new(One::<N, M>::new(result))),
    )
    .many(move || Box::new(Many::<N, M>::new(result)))
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

/// What is known of some rows, in so many numbers, which are zeros when there are no rows.
trait Summary<const N: usize>: Copy + Default + Debug + Send + Sync + 'static {
    /// Of a single row of the arguments.
    fn of_row(columns: &[&[f64]], row: usize) -> Self;
    /// Of both together.
    fn merge(&mut self, other: Self);
    /// What [`Summary::numbers`] made of it.
    fn of_numbers(numbers: [f64; N]) -> Self;
    /// The partial state.
    fn numbers(self) -> [f64; N];
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

impl Summary<5> for Moments {
    fn of_row(columns: &[&[f64]], row: usize) -> Self {
        let value = columns[0][row];
        let none = no_distance(value);
        Self { n: 1.0, mean: value, m2: none, m3: none, m4: none }
    }

    /// Pébay's formulas, which for a single value are the usual update.
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

    fn of_numbers([n, mean, m2, m3, m4]: [f64; 5]) -> Self {
        Self { n, mean, m2, m3, m4 }
    }

    fn numbers(self) -> [f64; 5] {
        [self.n, self.mean, self.m2, self.m3, self.m4]
    }
}

impl Moments {
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

impl Summary<8> for Pairs {
    fn of_row(columns: &[&[f64]], row: usize) -> Self {
        let (y, x) = (columns[0][row], columns[1][row]);
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

    fn of_numbers([n, sum_y, sum_x, mean_y, mean_x, m2_y, m2_x, c2]: [f64; 8]) -> Self {
        Self { n, sum_y, sum_x, mean_y, mean_x, m2_y, m2_x, c2 }
    }

    fn numbers(self) -> [f64; 8] {
        [self.n, self.sum_y, self.sum_x, self.mean_y, self.mean_x, self.m2_y, self.m2_x, self.c2]
    }
}

impl Pairs {
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

/// Calls with the columns and each of their rows that has no null and that the filter lets through.
fn each_row(columns: &[ArrayRef], filter: Option<&BooleanArray>, mut see: impl FnMut(&[&[f64]], usize)) {
    let columns: Vec<&Float64Array> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let numbers: Vec<&[f64]> = columns.iter().map(|column| &column.values()[..]).collect();
    // A filter that is null lets nothing through, as one that is false.
    let passed = filter.map(|filter| NullBuffer::new(filter.values().clone()));
    let filters = [passed.as_ref(), filter.and_then(|filter| filter.nulls())];
    match NullBuffer::union_many(columns.iter().map(|column| column.nulls()).chain(filters)) {
        Some(kept) => kept.valid_indices().for_each(|row| see(&numbers, row)),
        None => (0..numbers[0].len()).for_each(|row| see(&numbers, row)),
    }
}

/// A row of so many columns.
fn row_of<const N: usize>(columns: &[impl AsRef<[f64]>], row: usize) -> [f64; N] {
    std::array::from_fn(|at| columns[at].as_ref()[row])
}

/// Of one group.
#[derive(Debug)]
struct One<const N: usize, M> {
    all: M,
    result: fn(M) -> Option<f64>,
}

impl<const N: usize, M: Summary<N>> One<N, M> {
    fn new(result: fn(M) -> Option<f64>) -> Self {
        Self { all: M::default(), result }
    }
}

impl<const N: usize, M: Summary<N>> Accumulator for One<N, M> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        each_row(values, None, |columns, row| self.all.merge(M::of_row(columns, row)));
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        each_row(states, None, |columns, row| self.all.merge(M::of_numbers(row_of(columns, row))));
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.all.numbers().map(|number| ScalarValue::Float64(Some(number))).to_vec())
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.result)(self.all).map(one_nan)))
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Of many groups.
#[derive(Debug)]
struct Many<const N: usize, M> {
    /// Each number of the summary, of all groups: the columns of the partial states.
    numbers: [Vec<f64>; N],
    result: fn(M) -> Option<f64>,
}

impl<const N: usize, M: Summary<N>> Many<N, M> {
    fn new(result: fn(M) -> Option<f64>) -> Self {
        Self { numbers: std::array::from_fn(|_| vec![]), result }
    }

    fn grow(&mut self, groups: usize) {
        self.numbers.iter_mut().for_each(|column| column.resize(groups, 0.0));
    }

    fn merge(&mut self, group: usize, other: M) {
        let mut all = M::of_numbers(row_of(&self.numbers, group));
        all.merge(other);
        for (column, number) in self.numbers.iter_mut().zip(all.numbers()) {
            column[group] = number;
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> [Vec<f64>; N] {
        self.numbers.each_mut().map(|column| emit_to.take_needed(column))
    }
}

impl<const N: usize, M: Summary<N>> GroupsAccumulator for Many<N, M> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        each_row(values, filter, |columns, row| self.merge(groups[row], M::of_row(columns, row)));
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        each_row(states, None, |columns, row| self.merge(groups[row], M::of_numbers(row_of(columns, row))));
        Ok(())
    }
    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let columns = self.take(emit_to).into_iter();
        Ok(columns.map(|column| Arc::new(Float64Array::from(column)) as ArrayRef).collect())
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let numbers = self.take(emit_to);
        let results = (0..numbers[0].len()).map(|group| {
            let all = M::of_numbers(row_of(&numbers, group));
            (self.result)(all).map(one_nan)
        });
        Ok(Arc::new(results.collect::<Float64Array>()))
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Self::new(self.result);
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }
    fn size(&self) -> usize {
        self.numbers.iter().map(|column| column.capacity() * size_of::<f64>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::OwnedArgs;
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::AggregateUDFImpl;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn named(name: &str) -> Aggregate {
        aggregates().into_iter().find(|one| one.name == name).expect(name)
    }

    fn call(is_distinct: bool) -> OwnedArgs {
        OwnedArgs {
            return_field: Arc::new(Field::new("result", DataType::Float64, true)),
            schema: Schema::empty(),
            name: "call".to_string(),
            is_distinct,
            exprs: vec![],
            expr_fields: vec![],
        }
    }

    fn one(name: &str) -> Box<dyn Accumulator> {
        call(false).with(|args| named(name).accumulator(args)).expect("an accumulator")
    }

    fn many(name: &str) -> Box<dyn GroupsAccumulator> {
        call(false).with(|args| named(name).create_groups_accumulator(args)).expect("an accumulator")
    }

    fn state(one: &mut dyn Accumulator) -> Vec<ArrayRef> {
        let states = one.state().expect("a state");
        states.iter().map(|number| number.to_array().expect("an array")).collect()
    }

    fn result(one: &mut dyn Accumulator) -> Option<f64> {
        match one.evaluate().expect("a result") {
            ScalarValue::Float64(number) => number,
            other => panic!("{other}"),
        }
    }

    /// The result, and the same of parts that are merged through their states.
    fn of(name: &str, columns: &[&[f64]]) -> Option<f64> {
        let arrays = |rows: std::ops::Range<usize>| -> Vec<ArrayRef> {
            let array = |column: &&[f64]| Arc::new(Float64Array::from(column[rows.clone()].to_vec())) as ArrayRef;
            columns.iter().map(array).collect()
        };
        let rows = columns[0].len();
        let mut whole = one(name);
        whole.update_batch(&arrays(0..rows)).expect("numbers");
        let mut merged = one(name);
        for rows in [0..rows.min(2), rows.min(2)..rows, 0..0] {
            let mut part = one(name);
            part.update_batch(&arrays(rows)).expect("numbers");
            merged.merge_batch(&state(part.as_mut())).expect("merged");
        }
        let (whole, merged) = (result(whole.as_mut()), result(merged.as_mut()));
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

    #[test]
    fn moments_are_those_of_the_whole() {
        let values: &[f64] = &[100.0, 80.5, 70.0, 55.25, 80.5];
        let mean = values.iter().sum::<f64>() / 5.0;
        let moment = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
        let found = of("skewness", &[values]).expect("a result");
        assert!((found - 5.0_f64.sqrt() * moment(3) / moment(2).powf(1.5)).abs() < 1e-12);
        let found = of("kurtosis", &[values]).expect("a result");
        assert!((found - (5.0 * moment(4) / moment(2).powi(2) - 3.0)).abs() < 1e-12);
        let found = of("var", &[values]).expect("a result");
        assert!((found - moment(2) / 4.0).abs() < 1e-12);
        assert_eq!((of("skewness", &[&[2.0, 2.0]]), of("kurtosis", &[&[]])), (None, None));
        assert_eq!(of("var", &[&[2.0]]), None);
        assert_eq!(of("var_pop", &[&[2.0]]), Some(0.0));
    }

    #[test]
    fn pairs_are_sparks() {
        let (y, x): (&[f64], &[f64]) = (&[1.0, 2.0, 4.0], &[2.0, 3.5, 1.0]);
        let found = of("corr", &[y, x]).expect("a result");
        assert!((found + 0.563_621_480_190_678).abs() < 1e-12, "{found}");
        let found = of("regr_slope", &[y, x]).expect("a result");
        assert!((found + 0.684_210_526_315_789_5).abs() < 1e-12, "{found}");
        // Equal values of either.
        let equal: &[f64] = &[1.0, 1.0, 1.0];
        assert_eq!(of("corr", &[equal, x]), None);
        assert_eq!(of("regr_r2", &[equal, x]), Some(1.0));
        assert_eq!(of("regr_r2", &[y, equal]), None);
        assert_eq!(of("regr_slope", &[y, equal]), None);
        assert_eq!(of("regr_sxy", &[&[], &[]]), None);
    }

    #[test]
    fn what_is_not_finite_makes_nan() {
        let nan = |found: Option<f64>| assert!(found.is_some_and(f64::is_nan), "{found:?}");
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            nan(of("corr", &[&[1.0, 3.0, 4.0], &[2.0, odd, 5.0]]));
            nan(of("covar_samp", &[&[odd, 3.0, 4.0], &[2.0, 3.0, 5.0]]));
            nan(of("var_pop", &[&[odd]]));
            nan(of("skewness", &[&[odd]]));
            nan(of("kurtosis", &[&[1.0, odd]]));
            assert_eq!(of("var", &[&[odd]]), None);
            // A single pair has no correlation, whatever it is.
            assert_eq!(of("corr", &[&[1.0], &[odd]]), None);
        }
        assert_eq!(of("regr_avgx", &[&[1.0, 3.0], &[2.0, f64::INFINITY]]), Some(f64::INFINITY));
        // Infinities that cancel out make the one NaN that sorts above all numbers.
        let average = of("regr_avgx", &[&[1.0, 3.0], &[f64::INFINITY, f64::NEG_INFINITY]]);
        assert_eq!(average.map(f64::to_bits), Some(f64::NAN.to_bits()));
    }

    /// Groups of the batches below. The last has no rows.
    const GROUPS: usize = 40;
    /// The first of the groups are emitted before the rest.
    const FIRST: usize = 15;

    struct Batch {
        columns: Vec<ArrayRef>,
        groups: Vec<usize>,
        filter: Option<BooleanArray>,
    }

    impl Batch {
        /// A plain batch has neither nulls nor a filter.
        fn random(random: &mut StdRng, columns: usize, plain: bool) -> Self {
            let rows = 150;
            let column = |random: &mut StdRng| {
                let numbers: Float64Array = (0..rows).map(|_| number(random, plain)).collect();
                Arc::new(numbers) as ArrayRef
            };
            let columns = (0..columns).map(|_| column(random)).collect();
            let groups = (0..rows).map(|_| random.random_range(0..GROUPS - 1)).collect();
            let pass = |random: &mut StdRng| random.random_bool(0.9).then(|| random.random_bool(0.8));
            let filter = (!plain).then(|| (0..rows).map(|_| pass(random)).collect());
            Self { columns, groups, filter }
        }

        fn passes(&self, row: usize) -> bool {
            self.filter.as_ref().is_none_or(|filter| filter.is_valid(row) && filter.value(row))
        }

        /// The rows of one group that pass.
        fn of(&self, group: usize) -> Vec<ArrayRef> {
            let kept = (0..self.groups.len()).map(|row| Some(self.groups[row] == group && self.passes(row)));
            let kept: BooleanArray = kept.collect();
            let columns = self.columns.iter();
            columns.map(|column| arrow::compute::filter(column, &kept).expect("rows")).collect()
        }

        /// The same once the first groups have gone.
        fn shifted(&self) -> Self {
            let kept = (0..self.groups.len()).map(|row| Some(self.groups[row] >= FIRST && self.passes(row)));
            Self {
                columns: self.columns.clone(),
                groups: self.groups.iter().map(|group| group.saturating_sub(FIRST)).collect(),
                filter: Some(kept.collect()),
            }
        }

        fn update(&self, many: &mut dyn GroupsAccumulator, total: usize) {
            many.update_batch(&self.columns, &self.groups, self.filter.as_ref(), total).expect("numbers");
        }
    }

    /// Some are equal, so that there are groups without variance.
    fn number(random: &mut StdRng, plain: bool) -> Option<f64> {
        match random.random_range(0..100) {
            0..10 if !plain => None,
            10 => Some(f64::NAN),
            11 => Some(f64::INFINITY),
            12 => Some(f64::NEG_INFINITY),
            13..40 => Some(f64::from(random.random_range(0..2_i32))),
            _ => Some(random.random_range(-100.0..100.0)),
        }
    }

    /// Results by their bits, so that a NaN is one.
    fn bits(results: &ArrayRef) -> Vec<Option<u64>> {
        results.as_primitive::<Float64Type>().iter().map(|result| result.map(f64::to_bits)).collect()
    }

    /// The results of groups, each with an accumulator of its own.
    fn alone(name: &str, batches: &[Batch], groups: std::ops::Range<usize>) -> Vec<Option<u64>> {
        let result_of = |group: usize| {
            let mut alone = one(name);
            for batch in batches {
                alone.update_batch(&batch.of(group)).expect("numbers");
            }
            result(alone.as_mut()).map(f64::to_bits)
        };
        groups.map(result_of).collect()
    }

    /// Checks all aggregates with batches of their number of arguments.
    fn check_all(check: impl Fn(&str, &[Batch])) {
        for aggregate in aggregates() {
            let of_one = (aggregate.coerce)(aggregate.name, &[DataType::Float64]).is_ok();
            let mut random = StdRng::seed_from_u64(17);
            let columns = if of_one { 1 } else { 2 };
            let batches = [true, false, false].map(|plain| Batch::random(&mut random, columns, plain));
            check(aggregate.name, &batches);
        }
    }

    #[test]
    fn many_groups_are_as_each_alone() {
        check_all(|name, batches| {
            let mut all = many(name);
            batches.iter().for_each(|batch| batch.update(all.as_mut(), GROUPS));
            assert!(all.size() >= GROUPS * size_of::<f64>());
            let found = bits(&all.evaluate(EmitTo::All).expect("results"));
            assert_eq!(found, alone(name, batches, 0..GROUPS), "{name}");
            assert!(found.iter().any(Option::is_some) && found[GROUPS - 1].is_none(), "{name}");
            // Nothing is left of it.
            assert!(all.evaluate(EmitTo::All).expect("results").is_empty(), "{name}");
        });
    }

    #[test]
    fn many_groups_are_emitted_in_parts() {
        check_all(|name, batches| {
            let mut all = many(name);
            batches[0].update(all.as_mut(), GROUPS);
            let first = bits(&all.evaluate(EmitTo::First(FIRST)).expect("results"));
            assert_eq!(first, alone(name, &batches[..1], 0..FIRST), "{name}");
            // One more group comes with the next batch.
            batches[1].shifted().update(all.as_mut(), GROUPS + 1 - FIRST);
            let rest = bits(&all.evaluate(EmitTo::All).expect("results"));
            assert_eq!(rest, alone(name, &batches[..2], FIRST..GROUPS + 1), "{name}");
        });
    }

    #[test]
    fn partial_states_of_many_groups_are_as_of_each_alone() {
        check_all(|name, batches| {
            let mut merged = many(name);
            let mut ones: Vec<_> = (0..GROUPS).map(|_| one(name)).collect();
            for batch in batches {
                let mut part = many(name);
                batch.update(part.as_mut(), GROUPS);
                for (emit_to, groups) in [(EmitTo::First(FIRST), 0..FIRST), (EmitTo::All, FIRST..GROUPS)] {
                    let states = part.state(emit_to).expect("states");
                    merged.merge_batch(&states, &groups.collect::<Vec<_>>(), GROUPS).expect("merged");
                }
                for (group, merged) in ones.iter_mut().enumerate() {
                    let mut part = one(name);
                    part.update_batch(&batch.of(group)).expect("numbers");
                    merged.merge_batch(&state(part.as_mut())).expect("merged");
                }
            }
            let found = bits(&merged.evaluate(EmitTo::All).expect("results"));
            let expect: Vec<_> = ones.iter_mut().map(|one| result(one.as_mut()).map(f64::to_bits)).collect();
            assert_eq!(found, expect, "{name}");
        });
    }

    #[test]
    fn rows_become_partial_states() {
        check_all(|name, batches| {
            let mut merged = many(name);
            for batch in batches {
                let states = many(name).convert_to_state(&batch.columns, batch.filter.as_ref()).expect("states");
                assert!(states.iter().all(|column| column.len() == batch.groups.len()), "{name}");
                merged.merge_batch(&states, &batch.groups, GROUPS).expect("merged");
            }
            let found = bits(&merged.evaluate(EmitTo::All).expect("results"));
            assert_eq!(found, alone(name, batches, 0..GROUPS), "{name}");
        });
    }

    #[test]
    fn distinct_values_have_an_accumulator_a_group() {
        let supported =
            |is_distinct: bool| call(is_distinct).with(|args| Ok(named("corr").groups_accumulator_supported(args)));
        assert!(supported(false).expect("an answer") && !supported(true).expect("an answer"));
    }
}
