//! `histogram_numeric` and `count_min_sketch`.

use super::{Aggregate, Start, list_of, list_value, wrong_count};
use crate::functions::coercion::is_text;
use crate::functions::native::{invalid, mismatch};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use std::sync::Arc;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    vec![
        Aggregate::new(
            "histogram_numeric",
            |name, types| match types {
                [value, _] if value.is_numeric() || *value == DataType::Null => {
                    Ok(vec![value.clone(), DataType::Int32])
                }
                [other, _] => Err(mismatch(name, 0, "\"NUMERIC\"", other)),
                _ => wrong_count(name, "2", types.len()),
            },
            |types| Ok(list_of(DataType::Struct(bin_fields(&types[0])))),
            |_, _| vec![list_of(DataType::Float64), list_of(DataType::Float64)],
            |start| {
                let bins = start.number(1)?;
                if bins < 2.0 {
                    return invalid(
                        "DATATYPE_MISMATCH.WRONG_NUM_BINS",
                        format!("`{}` needs at least 2 bins, not {bins}", start.name),
                    );
                }
                Ok(Box::new(Histogram { value: start.types[0].clone(), most: bins as usize, bins: vec![] }))
            },
        ),
        Aggregate::new(
            "count_min_sketch",
            |name, types| match types {
                [value, _, _, _] if value.is_integer() => {
                    Ok(vec![DataType::Int64, DataType::Float64, DataType::Float64, DataType::Int64])
                }
                [value, _, _, _] if is_text(value) || matches!(value, DataType::Binary) => {
                    Ok(vec![DataType::Binary, DataType::Float64, DataType::Float64, DataType::Int64])
                }
                [other, _, _, _] => Err(mismatch(name, 0, "\"INTEGRAL\", \"STRING\" or \"BINARY\"", other)),
                _ => wrong_count(name, "4", types.len()),
            },
            |_| Ok(DataType::Binary),
            |_, _| vec![DataType::Binary],
            CountMin::begin,
        ),
    ]
}

fn bin_fields(value: &DataType) -> Fields {
    let x = if *value == DataType::Null { DataType::Float64 } else { value.clone() };
    vec![Field::new("x", x, true), Field::new("y", DataType::Float64, true)].into()
}

/// Bins by their centres, each with how many values it stands for (Ben-Haim and Tom-Tov): the two that are nearest to
/// each other become one when there are too many.
#[derive(Debug)]
struct Histogram {
    value: DataType,
    most: usize,
    bins: Vec<(f64, f64)>,
}

impl Histogram {
    fn add(&mut self, x: f64, y: f64) {
        match self.bins.binary_search_by(|(known, _)| known.total_cmp(&x)) {
            Ok(at) => self.bins[at].1 += y,
            Err(at) => {
                self.bins.insert(at, (x, y));
                self.trim();
            }
        }
    }

    fn trim(&mut self) {
        while self.bins.len() > self.most {
            let gap = |at: &usize| self.bins[at + 1].0 - self.bins[*at].0;
            let nearest = (0..self.bins.len() - 1).min_by(|a, b| gap(a).total_cmp(&gap(b)));
            let Some(at) = nearest else { return };
            let ((x1, y1), (x2, y2)) = (self.bins[at], self.bins[at + 1]);
            self.bins[at] = ((x1 * y1 + x2 * y2) / (y1 + y2), y1 + y2);
            self.bins.remove(at + 1);
        }
    }
}

impl Accumulator for Histogram {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in cast(&values[0], &DataType::Float64)?.as_primitive::<Float64Type>().iter().flatten() {
            self.add(value, 1.0);
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (xs, ys) = (states[0].as_list::<i32>(), states[1].as_list::<i32>());
        for (xs, ys) in xs.iter().flatten().zip(ys.iter().flatten()) {
            let (xs, ys) = (xs.as_primitive::<Float64Type>(), ys.as_primitive::<Float64Type>());
            for i in 0..xs.len() {
                self.add(xs.value(i), ys.value(i));
            }
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let part = |f: fn(&(f64, f64)) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(self.bins.iter().map(f)))
        };
        Ok(vec![list_value(part(|bin| bin.0)), list_value(part(|bin| bin.1))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let fields = bin_fields(&self.value);
        if self.bins.is_empty() {
            return ScalarValue::try_from(&list_of(DataType::Struct(fields)));
        }
        let xs: ArrayRef = Arc::new(Float64Array::from_iter_values(self.bins.iter().map(|bin| bin.0)));
        let ys: ArrayRef = Arc::new(Float64Array::from_iter_values(self.bins.iter().map(|bin| bin.1)));
        let xs = cast(&xs, fields[0].data_type())?;
        Ok(list_value(Arc::new(StructArray::try_new(fields, vec![xs, ys], None)?)))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.bins.capacity() * 16
    }
}

/// Counts of values by several hashes, in the bytes that Spark's `CountMinSketch` reads.
#[derive(Debug)]
struct CountMin {
    total: i64,
    width: usize,
    /// A multiplier a row of the table.
    multipliers: Vec<i64>,
    table: Vec<i64>,
}

impl CountMin {
    const PRIME: i64 = (1 << 31) - 1;
    /// Counts of a sketch, which take 8 bytes each: more are refused.
    const CELLS_MAX: usize = 1 << 24;

    /// Width and depth of the table; none when it is too large.
    fn shape(error: f64, confidence: f64) -> Option<(usize, usize)> {
        let width = (2.0 / error).ceil() as usize;
        let depth = (-(1.0 - confidence).ln() / 2.0_f64.ln()).ceil().max(1.0) as usize;
        width.checked_mul(depth).filter(|cells| *cells <= Self::CELLS_MAX).map(|_| (width, depth))
    }

    fn begin(start: &Start<'_>) -> Result<Box<dyn Accumulator>> {
        let (error, confidence, seed) = (start.number(1)?, start.number(2)?, start.number(3)? as i64);
        let out_of_range = |what: &str, range: &str, value: f64| {
            invalid(
                "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                format!("the {what} of `{}` must be between {range}, not {value}", start.name),
            )
        };
        if !(error > 0.0) {
            return out_of_range("eps", "(0.0, 1.79769e+308]", error);
        }
        if !(confidence > 0.0 && confidence < 1.0) {
            return out_of_range("confidence", "(0.0, 1.0)", confidence);
        }
        let Some((width, depth)) = Self::shape(error, confidence) else {
            return out_of_range("eps", "values that make a sketch of at most 128 MiB", error);
        };
        let mut random = JavaRandom::new(seed);
        // Java's nextInt with a bound of 2^31 - 1.
        let multipliers = (0..depth).map(|_| random.below(Self::PRIME)).collect();
        Ok(Box::new(Self { total: 0, width, multipliers, table: vec![0; width * depth] }))
    }

    fn add(&mut self, places: impl Fn(&Self, usize) -> usize) {
        for row in 0..self.multipliers.len() {
            let place = row * self.width + places(self, row);
            self.table[place] += 1;
        }
        self.total += 1;
    }

    fn add_long(&mut self, value: i64) {
        self.add(|this, row| {
            let mut hash = this.multipliers[row].wrapping_mul(value);
            hash = hash.wrapping_add(hash >> 32) & Self::PRIME;
            (hash % this.width as i64) as usize
        });
    }

    fn add_bytes(&mut self, value: &[u8]) {
        let first = murmur3(value, 0);
        let second = murmur3(value, first);
        self.add(|this, row| {
            let hash = (row as i32).wrapping_mul(second).wrapping_add(first);
            (hash % this.width as i32).unsigned_abs() as usize
        });
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(self.total.to_be_bytes());
        bytes.extend((self.multipliers.len() as i32).to_be_bytes());
        bytes.extend((self.width as i32).to_be_bytes());
        for number in self.multipliers.iter().chain(&self.table) {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }
}

impl Accumulator for CountMin {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values[0].data_type() {
            DataType::Int64 => {
                values[0].as_primitive::<Int64Type>().iter().flatten().for_each(|value| self.add_long(value));
            }
            _ => values[0].as_binary::<i32>().iter().flatten().for_each(|value| self.add_bytes(value)),
        }
        Ok(())
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states[0].as_binary::<i32>().iter().flatten() {
            let long =
                |at: usize| state.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
            self.total += long(4).unwrap_or(0);
            let base = 20 + 8 * self.multipliers.len();
            for (i, count) in self.table.iter_mut().enumerate() {
                *count += long(base + 8 * i).unwrap_or(0);
            }
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.bytes()))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.bytes())))
    }
    fn size(&self) -> usize {
        size_of_val(self) + (self.table.capacity() + self.multipliers.capacity()) * 8
    }
}

/// The generator of `java.util.Random`.
struct JavaRandom(i64);

impl JavaRandom {
    fn new(seed: i64) -> Self {
        Self((seed ^ 0x5_DEEC_E66D) & ((1 << 48) - 1))
    }

    fn bits(&mut self, bits: u32) -> i32 {
        self.0 = self.0.wrapping_mul(0x5_DEEC_E66D).wrapping_add(0xB) & ((1 << 48) - 1);
        (self.0 >> (48 - bits)) as i32
    }

    /// A number from 0 to below the bound, which is no power of two.
    fn below(&mut self, bound: i64) -> i64 {
        loop {
            let bits = i64::from(self.bits(31));
            let value = bits % bound;
            // Of the last, incomplete round none is taken.
            if bits - value + (bound - 1) <= i64::from(i32::MAX) {
                return value;
            }
        }
    }
}

/// Murmur3 of 32 bits, with Spark's way with the last bytes: each is a block of its own, sign and all.
fn murmur3(bytes: &[u8], seed: i32) -> i32 {
    let mix_k = |k: i32| k.wrapping_mul(0xcc9e_2d51_u32 as i32).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mix_h = |h: i32, k: i32| (h ^ mix_k(k)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64_u32 as i32);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(seed, |hash, word| mix_h(hash, i32::from_le_bytes(*word)));
    hash = rest.iter().fold(hash, |hash, byte| mix_h(hash, i32::from(*byte as i8)));
    let mut hash = (hash ^ bytes.len() as i32) as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sketches_are_not_larger_than_memory() {
        assert_eq!(CountMin::shape(0.5, 0.5), Some((4, 1)));
        assert_eq!(CountMin::shape(1e-6, 0.99), Some((2_000_000, 7)));
        assert_eq!(CountMin::shape(1e-12, 0.9), None);
        assert_eq!(CountMin::shape(f64::MIN_POSITIVE, 0.9), None);
    }
}
