//! `percentile` and its kin, exact ones and approximate ones, and `mode`.
//!
//! `percentile_cont(p) WITHIN GROUP (ORDER BY v DESC)` comes as `percentile_cont(v, p, true)`, and so does
//! `percentile_disc`. The second argument of `mode` is another one, Spark's: true for the lowest of several values.

use super::{Aggregate, Start, list_of, list_value, wrong_count};
use crate::functions::coercion::is_text;
use crate::functions::native::{invalid, mismatch};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type, IntervalYearMonthType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use std::collections::HashMap;
use std::sync::Arc;

/// Spark's default of `approx_percentile`: ranks are right to one in so many.
const ACCURACY: i64 = 10_000;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    let exact = |name: &'static str, begin: super::Begin| {
        Aggregate::new(name, percentile_types, percentile_result, counts_state, begin)
    };
    vec![
        exact("percentile", |start| Counts::begin(start, 1, Some(2), None, Pick::Between)),
        exact("percentile_cont", |start| Counts::begin(start, 1, None, Some(2), Pick::Between)),
        exact("percentile_disc", |start| Counts::begin(start, 1, None, Some(2), Pick::AtLeast)),
        Aggregate::new(
            "median",
            super::moments::double,
            |_| Ok(DataType::Float64),
            counts_state,
            |start| Counts::begin(start, 1, None, None, Pick::Between),
        ),
        Aggregate::new(
            "approx_percentile",
            approximate_types,
            approximate_result,
            Sketch::state_types,
            Approximate::begin,
        )
        .alias(&["percentile_approx"]),
        Aggregate::new(
            "mode",
            |name, types| match types {
                [one] => Ok(vec![one.clone()]),
                [one, _] => Ok(vec![one.clone(), DataType::Boolean]),
                _ => wrong_count(name, "[1, 2]", types.len()),
            },
            |types| Ok(types[0].clone()),
            |types, _| vec![list_of(types[0].clone()), list_of(DataType::Int64)],
            |start| {
                let descending = start.has(1) && !start.flag(1)?;
                Ok(Box::new(Mode { value: start.result.clone(), descending, counts: HashMap::new() }))
            },
        ),
    ]
}

fn is_array(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// A share or several of them.
fn share_type(given: &DataType) -> DataType {
    if is_array(given) { list_of(DataType::Float64) } else { DataType::Float64 }
}

fn percentile_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let value = match types.first() {
        Some(one) if one.is_numeric() || is_text(one) || *one == DataType::Null => DataType::Float64,
        Some(other) => return Err(mismatch(name, 0, "\"NUMERIC\"", other)),
        None => return wrong_count(name, "[2, 3]", 0),
    };
    let third = if name == "percentile" { DataType::Int64 } else { DataType::Boolean };
    match types {
        [_, share] => Ok(vec![value, share_type(share)]),
        [_, share, _] => Ok(vec![value, share_type(share), third]),
        _ => wrong_count(name, "[2, 3]", types.len()),
    }
}

fn percentile_result(types: &[DataType]) -> Result<DataType> {
    Ok(share_type(&types[1]))
}

fn counts_state(_: &[DataType], _: &DataType) -> Vec<DataType> {
    vec![list_of(DataType::Float64), list_of(DataType::Int64)]
}

/// The shares that are asked for, as numbers from 0 to 1.
fn shares(start: &Start<'_>, at: usize) -> Result<Vec<f64>> {
    if !start.has(at) {
        return Ok(vec![0.5]);
    }
    let shares = match start.constant(at)? {
        ScalarValue::List(all) if all.len() == 1 && all.is_valid(0) => {
            let all = arrow::compute::cast(&all.value(0), &DataType::Float64)?;
            all.as_primitive::<Float64Type>().iter().collect::<Option<Vec<f64>>>()
        }
        one => match one.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(share) => share.map(|share| vec![share]),
            _ => None,
        },
    };
    let Some(shares) = shares else {
        return invalid(
            "DATATYPE_MISMATCH.UNEXPECTED_NULL",
            format!("the percentage of `{}` must not be null", start.name),
        );
    };
    if let Some(wrong) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        return invalid(
            "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
            format!("the percentage of `{}` must be between [0.0, 1.0], not {wrong}", start.name),
        );
    }
    Ok(shares)
}

/// Which value a share between two of them is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pick {
    /// One between, by distance.
    Between,
    /// The first that at least so many are up to.
    AtLeast,
}

/// How often each value came.
#[derive(Debug)]
struct Counts {
    shares: Vec<f64>,
    many: bool,
    frequency: Option<usize>,
    descending: bool,
    pick: Pick,
    /// By their bits: 0.0 is one value, and so is NaN.
    counts: HashMap<u64, i64>,
}

impl Counts {
    fn begin(
        start: &Start<'_>,
        share: usize,
        frequency: Option<usize>,
        descending: Option<usize>,
        pick: Pick,
    ) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Self {
            shares: shares(start, share)?,
            many: is_array(start.result),
            frequency: frequency.filter(|at| start.has(*at)),
            descending: descending.map_or(Ok(false), |at| start.flag(at))?,
            pick,
            counts: HashMap::new(),
        }))
    }

    fn add(&mut self, value: f64, count: i64) {
        let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
        *self.counts.entry(value.to_bits()).or_default() += count;
    }

    fn results(&self) -> Option<Vec<f64>> {
        let mut sorted: Vec<(f64, i64)> = self.counts.iter().map(|(bits, n)| (f64::from_bits(*bits), *n)).collect();
        sorted.retain(|(_, count)| *count > 0);
        sorted.sort_by(|(a, _), (b, _)| if self.descending { b.total_cmp(a) } else { a.total_cmp(b) });
        let mut up_to = vec![];
        let mut total = 0;
        for (_, count) in &sorted {
            total += count;
            up_to.push(total);
        }
        if total == 0 {
            return None;
        }
        // The value at a place, counted from 0.
        let at = |place: i64| sorted[up_to.partition_point(|up_to| *up_to <= place).min(sorted.len() - 1)].0;
        Some(
            self.shares
                .iter()
                .map(|share| match self.pick {
                    Pick::AtLeast => at((share * total as f64).ceil() as i64 - 1),
                    Pick::Between => {
                        let place = share * (total - 1) as f64;
                        let (low, high) = (place.floor(), place.ceil());
                        let (below, above) = (at(low as i64), at(high as i64));
                        if low == high || below == above {
                            below
                        } else {
                            (high - place) * below + (place - low) * above
                        }
                    }
                })
                .collect(),
        )
    }
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let numbers = values[0].as_primitive::<Float64Type>();
        for i in 0..numbers.len() {
            if numbers.is_null(i) {
                continue;
            }
            let count = match self.frequency {
                None => 1,
                Some(at) => {
                    let counts = values[at].as_primitive::<Int64Type>();
                    if counts.is_null(i) { 0 } else { counts.value(i) }
                }
            };
            if count < 0 {
                return invalid("INVALID_PARAMETER_VALUE", format!("negative values found in frequency: {count}"));
            }
            self.add(numbers.value(i), count);
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for (values, counts) in values.iter().flatten().zip(counts.iter().flatten()) {
            let (values, counts) = (values.as_primitive::<Float64Type>(), counts.as_primitive::<Int64Type>());
            for i in 0..values.len() {
                self.add(values.value(i), counts.value(i));
            }
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = Float64Array::from_iter_values(self.counts.keys().map(|bits| f64::from_bits(*bits)));
        let counts = Int64Array::from_iter_values(self.counts.values().copied());
        Ok(vec![list_value(Arc::new(values)), list_value(Arc::new(counts))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let results = self.results();
        if !self.many {
            return Ok(ScalarValue::Float64(results.and_then(|all| all.first().copied())));
        }
        match results {
            Some(all) => Ok(list_value(Arc::new(Float64Array::from(all)))),
            None => ScalarValue::try_from(&list_of(DataType::Float64)),
        }
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * 17
    }
}

fn approximate_types(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let value = match types.first() {
        Some(one) if is_text(one) || *one == DataType::Null => DataType::Float64,
        Some(one) if one.is_numeric() || matches!(one, DataType::Date32 | DataType::Timestamp(..)) => one.clone(),
        Some(one @ (DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth) | DataType::Duration(_))) => {
            one.clone()
        }
        Some(other) => return Err(mismatch(name, 0, "\"NUMERIC\", \"DATE\" or \"TIMESTAMP\"", other)),
        None => return wrong_count(name, "[2, 3]", 0),
    };
    match types {
        [_, share] => Ok(vec![value, share_type(share)]),
        [_, share, _] => Ok(vec![value, share_type(share), DataType::Int64]),
        _ => wrong_count(name, "[2, 3]", types.len()),
    }
}

fn approximate_result(types: &[DataType]) -> Result<DataType> {
    Ok(if is_array(&types[1]) { list_of(types[0].clone()) } else { types[0].clone() })
}

/// A summary of many numbers in little space (Greenwald and Khanna): some of them, each with how many ranks it may be off.
#[derive(Debug, Clone, Default)]
struct Sketch {
    error: f64,
    /// Value, how many more ranks it has at least than the one before, and at most beyond that.
    samples: Vec<(f64, i64, i64)>,
    count: i64,
    /// Not yet among the samples.
    fresh: Vec<f64>,
}

impl Sketch {
    /// So many numbers wait until they are sorted in.
    const FRESH_MAX: usize = 50_000;
    /// More samples than this are thinned.
    const SAMPLES_MAX: usize = 10_000;

    fn state_types(_: &[DataType], _: &DataType) -> Vec<DataType> {
        vec![list_of(DataType::Float64), list_of(DataType::Int64), list_of(DataType::Int64)]
    }

    fn add(&mut self, value: f64) {
        self.fresh.push(value);
        if self.fresh.len() >= Self::FRESH_MAX {
            self.settle();
        }
    }

    /// Sorts the waiting numbers in, and thins the samples when they are many.
    fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_by(f64::total_cmp);
        let old = std::mem::take(&mut self.samples);
        let mut merged = Vec::with_capacity(old.len() + fresh.len());
        let mut old = old.into_iter().peekable();
        let last = fresh.len() - 1;
        for (i, value) in fresh.into_iter().enumerate() {
            while let Some(sample) = old.next_if(|(known, ..)| known.total_cmp(&value).is_le()) {
                merged.push(sample);
            }
            self.count += 1;
            let outermost = merged.is_empty() || i == last && old.peek().is_none();
            let delta = if outermost { 0 } else { (2.0 * self.error * self.count as f64).floor() as i64 };
            merged.push((value, 1, delta));
        }
        merged.extend(old);
        self.samples = merged;
        if self.samples.len() > Self::SAMPLES_MAX {
            self.thin();
        }
    }

    /// Leaves samples out that the error allows to.
    fn thin(&mut self) {
        let most = 2.0 * self.error * self.count as f64;
        let Some(mut head) = self.samples.pop() else { return };
        let mut kept = vec![];
        while let Some(sample) = self.samples.pop() {
            // The smallest stays, so that the ends are exact.
            let fits = !self.samples.is_empty() && (sample.1 + head.1 + head.2) as f64 <= most;
            if fits {
                head.1 += sample.1;
            } else {
                kept.push(head);
                head = sample;
            }
        }
        kept.push(head);
        kept.reverse();
        self.samples = kept;
    }

    fn merge(&mut self, samples: Vec<(f64, i64, i64)>) {
        self.settle();
        let count: i64 = samples.iter().map(|(_, ranks, _)| ranks).sum();
        if count == 0 {
            return;
        }
        if self.count == 0 {
            self.samples = samples;
            self.count = count;
            return;
        }
        // A sample of one side may be off by what lies between two of the other.
        let slack = |count: i64| (2.0 * self.error * count as f64).floor() as i64;
        let (mine, theirs) = (slack(self.count), slack(count));
        let own = std::mem::take(&mut self.samples);
        let tagged = own.into_iter().map(|(value, ranks, delta)| (value, ranks, delta + theirs));
        let others = samples.into_iter().map(|(value, ranks, delta)| (value, ranks, delta + mine));
        let mut all: Vec<_> = tagged.chain(others).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        for end in [0, all.len() - 1] {
            all[end].2 = 0;
        }
        self.samples = all;
        self.count += count;
        if self.samples.len() > Self::SAMPLES_MAX {
            self.thin();
        }
    }

    /// A value whose rank is that of the share, as nearly as the error allows.
    fn query(&self, share: f64) -> Option<f64> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        if share <= self.error {
            return Some(first.0);
        }
        if share >= 1.0 - self.error {
            return Some(last.0);
        }
        let rank = (share * self.count as f64).ceil() as i64;
        let allowed = self.samples.iter().map(|(_, ranks, delta)| ranks + delta).max().unwrap_or(0) as f64 / 2.0;
        let mut least = 0;
        for (value, ranks, delta) in &self.samples {
            least += ranks;
            let most = least + delta;
            if (most - rank) as f64 <= allowed && (rank - least) as f64 <= allowed {
                return Some(*value);
            }
        }
        Some(last.0)
    }
}

/// `approx_percentile`.
#[derive(Debug)]
struct Approximate {
    shares: Vec<f64>,
    many: bool,
    value: DataType,
    sketch: Sketch,
}

impl Approximate {
    fn begin(start: &Start<'_>) -> Result<Box<dyn Accumulator>> {
        let accuracy = if start.has(2) { start.number(2)? as i64 } else { ACCURACY };
        if !(1..=i64::from(i32::MAX)).contains(&accuracy) {
            return invalid(
                "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                format!("the accuracy of `{}` must be between (0, {}], not {accuracy}", start.name, i32::MAX),
            );
        }
        Ok(Box::new(Self {
            shares: shares(start, 1)?,
            many: is_array(start.result),
            value: start.types[0].clone(),
            sketch: Sketch { error: 1.0 / accuracy as f64, ..Sketch::default() },
        }))
    }
}

/// Numbers, dates and times as doubles.
fn as_doubles(values: &ArrayRef) -> Result<Float64Array> {
    // Arrow casts months to nothing.
    if let Some(months) = values.as_primitive_opt::<IntervalYearMonthType>() {
        return Ok(months.unary(f64::from));
    }
    let whole = match values.data_type() {
        DataType::Date32 => arrow::compute::cast(&arrow::compute::cast(values, &DataType::Int32)?, &DataType::Int64)?,
        DataType::Timestamp(..) | DataType::Duration(_) => arrow::compute::cast(values, &DataType::Int64)?,
        _ => Arc::clone(values),
    };
    Ok(arrow::compute::cast(&whole, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn from_doubles(values: Vec<f64>, to: &DataType) -> Result<ArrayRef> {
    let doubles: ArrayRef = Arc::new(Float64Array::from(values));
    Ok(match to {
        DataType::Date32 | DataType::Interval(_) => {
            arrow::compute::cast(&arrow::compute::cast(&doubles, &DataType::Int32)?, to)?
        }
        DataType::Timestamp(..) | DataType::Duration(_) => {
            arrow::compute::cast(&arrow::compute::cast(&doubles, &DataType::Int64)?, to)?
        }
        to => arrow::compute::cast(&doubles, to)?,
    })
}

impl Accumulator for Approximate {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in as_doubles(&values[0])?.iter().flatten() {
            self.sketch.add(value);
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        fn part<T: ArrowPrimitiveType>(states: &[ArrayRef], at: usize, row: usize) -> PrimitiveArray<T> {
            states[at].as_list::<i32>().value(row).as_primitive::<T>().clone()
        }
        for row in 0..states[0].len() {
            if states[0].is_null(row) {
                continue;
            }
            let values = part::<Float64Type>(states, 0, row);
            let (ranks, deltas) = (part::<Int64Type>(states, 1, row), part::<Int64Type>(states, 2, row));
            let samples = (0..values.len()).map(|i| (values.value(i), ranks.value(i), deltas.value(i)));
            self.sketch.merge(samples.collect());
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.sketch.settle();
        let all = &self.sketch.samples;
        Ok(vec![
            list_value(Arc::new(Float64Array::from_iter_values(all.iter().map(|(value, ..)| *value)))),
            list_value(Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, ranks, _)| *ranks)))),
            list_value(Arc::new(Int64Array::from_iter_values(all.iter().map(|(.., delta)| *delta)))),
        ])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.sketch.settle();
        let result = if self.many { list_of(self.value.clone()) } else { self.value.clone() };
        let found: Option<Vec<f64>> = self.shares.iter().map(|share| self.sketch.query(*share)).collect();
        let Some(found) = found else { return ScalarValue::try_from(&result) };
        let values = from_doubles(found, &self.value)?;
        if self.many { Ok(list_value(values)) } else { ScalarValue::try_from_array(&values, 0) }
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.samples.capacity() * 24 + self.sketch.fresh.capacity() * 8
    }
}

/// The value that came most often; of several the smallest, or with `descending` the largest.
#[derive(Debug)]
struct Mode {
    value: DataType,
    descending: bool,
    counts: HashMap<ScalarValue, i64>,
}

impl Accumulator for Mode {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for i in 0..values[0].len() {
            let value = ScalarValue::try_from_array(&values[0], i)?;
            if !value.is_null() {
                *self.counts.entry(value).or_default() += 1;
            }
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, counts) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for (values, counts) in values.iter().flatten().zip(counts.iter().flatten()) {
            let counts = counts.as_primitive::<Int64Type>();
            for i in 0..values.len() {
                *self.counts.entry(ScalarValue::try_from_array(&values, i)?).or_default() += counts.value(i);
            }
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = match self.counts.is_empty() {
            true => arrow::array::new_empty_array(&self.value),
            false => ScalarValue::iter_to_array(self.counts.keys().cloned())?,
        };
        let counts = Int64Array::from_iter_values(self.counts.values().copied());
        Ok(vec![list_value(values), list_value(Arc::new(counts))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let best = self.counts.iter().max_by(|(a, most), (b, other)| {
            let order = a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
            most.cmp(other).then(if self.descending { order } else { order.reverse() })
        });
        match best {
            Some((value, _)) => Ok(value.clone()),
            None => ScalarValue::try_from(&self.value),
        }
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.counts.keys().map(|value| value.size() + 8).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[f64], shares: &[f64], pick: Pick, descending: bool) -> Option<Vec<f64>> {
        let mut all =
            Counts { shares: shares.to_vec(), many: true, frequency: None, descending, pick, counts: HashMap::new() };
        // In two parts that meet through their states.
        let mut other = Counts { shares: vec![], counts: HashMap::new(), ..all };
        all.counts = HashMap::new();
        let (one, two) = values.split_at(values.len() / 2);
        all.update_batch(&[Arc::new(Float64Array::from(one.to_vec()))]).expect("numbers");
        other.update_batch(&[Arc::new(Float64Array::from(two.to_vec()))]).expect("numbers");
        let states: Vec<ArrayRef> =
            other.state().expect("a state").iter().map(|one| one.to_array().expect("array")).collect();
        all.merge_batch(&states).expect("merged");
        all.results()
    }

    #[test]
    fn exact_ones_are_between_or_at_least() {
        let values = [100.0, 80.5, 70.0, 55.25, 80.5];
        assert_eq!(counts(&values, &[0.5, 0.25, 0.75], Pick::Between, false), Some(vec![80.5, 70.0, 80.5]));
        assert_eq!(counts(&[1.0, 2.0], &[0.5, 0.0, 1.0], Pick::Between, false), Some(vec![1.5, 1.0, 2.0]));
        assert_eq!(counts(&[1.0, 2.0, 4.0], &[0.1], Pick::Between, true), Some(vec![3.6]));
        assert_eq!(counts(&[1.0, 2.0, 3.0, 4.0], &[0.5, 0.51, 0.0], Pick::AtLeast, false), Some(vec![2.0, 3.0, 1.0]));
        assert_eq!(counts(&[1.0, 2.0, 3.0, 4.0], &[0.25], Pick::AtLeast, true), Some(vec![4.0]));
        assert_eq!(counts(&[], &[0.5], Pick::Between, false), None);
    }

    #[test]
    fn sketches_keep_their_promise() {
        let (n, accuracy) = (300_000_u64, 1000.0);
        let mut parts: Vec<Sketch> = (0..3).map(|_| Sketch { error: 1.0 / accuracy, ..Sketch::default() }).collect();
        // A permutation of 0..n, dealt to three sketches.
        for i in 0..n {
            parts[(i % 3) as usize].add(((i * 7919) % n) as f64);
        }
        let mut all = Sketch { error: 1.0 / accuracy, ..Sketch::default() };
        for mut part in parts {
            part.settle();
            assert!(part.samples.len() <= Sketch::SAMPLES_MAX, "{}", part.samples.len());
            all.merge(part.samples);
        }
        assert_eq!(all.count, n as i64);
        for share in [0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0] {
            let found = all.query(share).expect("a value");
            let off = (found - share * n as f64).abs() / n as f64;
            // Three that were merged may each be off.
            assert!(off <= 3.0 / accuracy, "{share}: {found}, off by {off}");
        }
        let mut few = Sketch { error: 1e-4, ..Sketch::default() };
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].into_iter().for_each(|value| few.add(value));
        few.settle();
        assert_eq!(few.query(0.5), Some(3.0));
        assert_eq!(few.query(1.0), Some(6.0));
        assert_eq!(Sketch::default().query(0.5), None);
    }

    #[test]
    fn intervals_are_numbers_on_the_way() {
        let months = DataType::Interval(arrow::datatypes::IntervalUnit::YearMonth);
        let micros = DataType::Duration(arrow::datatypes::TimeUnit::Microsecond);
        for (value, numbers) in
            [(months, DataType::Int32), (micros, DataType::Int64), (DataType::Date32, DataType::Int32)]
        {
            let given: ArrayRef = Arc::new(Int64Array::from(vec![3, 14]));
            let given = arrow::compute::cast(&arrow::compute::cast(&given, &numbers).expect("numbers"), &value);
            let given = given.expect("values");
            let doubles = as_doubles(&given).expect("doubles");
            assert_eq!(doubles.values().to_vec(), vec![3.0, 14.0]);
            assert_eq!(*from_doubles(doubles.values().to_vec(), &value).expect("values"), *given);
        }
    }

    #[test]
    fn of_several_modes_the_lowest_or_the_largest() {
        for (descending, expect) in [(false, -10), (true, 10)] {
            let mut mode = Mode { value: DataType::Int64, descending, counts: HashMap::new() };
            mode.update_batch(&[Arc::new(Int64Array::from(vec![-10, 0, 10]))]).expect("rows");
            assert_eq!(mode.evaluate().expect("a value"), ScalarValue::Int64(Some(expect)));
        }
    }
}
