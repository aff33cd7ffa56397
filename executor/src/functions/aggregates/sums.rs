//! `sum` and `avg`: overflow fails in ANSI mode, and is null in `try_sum` and `try_avg`; an average of decimals is a
//! decimal, rounded half up.
//!
//! What cannot overflow (doubles) is DataFusion's. Without ANSI mode a sum of BIGINT wraps around, which is DataFusion's
//! as well, decimals that overflow are null, and intervals fail all the same.
//!
//! Frames of windows that lose rows are not what DataFusion makes of them: taking a value out of a sum of doubles does
//! not bring the sum back that was there before it ([`Doubles`]), and the frame that gets its new rows before it loses
//! the old ones may overflow where the frame itself does not ([`Sliding`]).

use super::{Distinct, LEGACY, OwnedArgs, Replayed};
use crate::functions::maths::one_nan;
use crate::functions::native::invalid;
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, DecimalType, DurationMicrosecondType, Field, FieldRef, Float64Type,
    Int64Type, IntervalUnit, IntervalYearMonthType, TimeUnit, i256,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

/// What happens when there are too many digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Overflow {
    /// The query fails.
    Fails,
    /// The result is null.
    IsNull,
    /// As with [`Overflow::IsNull`], but a BIGINT wraps around, and an interval fails.
    Wraps,
}

/// `sum`, `avg`, and each as it is elsewhere.
pub fn all() -> Vec<Arc<AggregateUDF>> {
    let legacy = |name: &str| format!("{name}{LEGACY}");
    let make = |name: String, average: bool, overflow: Overflow| {
        Arc::new(AggregateUDF::from(Sum::new(name, average, overflow)))
    };
    vec![
        make("sum".into(), false, Overflow::Fails),
        make(legacy("sum"), false, Overflow::Wraps),
        make("try_sum".into(), false, Overflow::IsNull),
        make("avg".into(), true, Overflow::Fails),
        make(legacy("avg"), true, Overflow::IsNull),
        make("try_avg".into(), true, Overflow::IsNull),
    ]
}

/// A sum or an average.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sum {
    name: String,
    aliases: Vec<String>,
    average: bool,
    overflow: Overflow,
    /// DataFusion's, which does the rest.
    other: Arc<AggregateUDF>,
    signature: Signature,
}

impl Sum {
    fn new(name: String, average: bool, overflow: Overflow) -> Self {
        let other = if average { avg_udaf() } else { sum_udaf() };
        let aliases = if name == "avg" { vec!["mean".to_string()] } else { vec![] };
        Self { name, aliases, average, overflow, other, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// Whether values of this type can overflow, and so are ours.
    fn is_own(&self, value: &DataType) -> bool {
        match value {
            DataType::Decimal128(..) => true,
            value if is_interval(value) => true,
            DataType::Int64 => !self.average && self.overflow != Overflow::Wraps,
            _ => false,
        }
    }

    fn value_type<'a>(&self, args: &'a AccumulatorArgs<'_>) -> &'a DataType {
        args.expr_fields[0].data_type()
    }

    fn finish(&self, args: &AccumulatorArgs) -> Finish {
        Finish {
            average: self.average,
            fails: match args.expr_fields[0].data_type() {
                // Only `try_sum` and `try_avg` forgive them, whatever the mode.
                value if is_interval(value) => !self.name.starts_with("try_"),
                _ => self.overflow == Overflow::Fails,
            },
            from: args.expr_fields[0].data_type().clone(),
            to: args.return_field.data_type().clone(),
        }
    }

    fn own_accumulator(&self, args: &AccumulatorArgs) -> Box<dyn Accumulator> {
        one_group(self.finish(args), args.expr_fields[0].data_type(), args.is_distinct)
    }
}

/// Intervals of days and of months.
fn is_interval(value: &DataType) -> bool {
    matches!(value, DataType::Duration(TimeUnit::Microsecond) | DataType::Interval(IntervalUnit::YearMonth))
}

/// What adds up values of this type.
macro_rules! adding {
    ($of:ident, $value:expr, $finish:expr) => {
        match $value {
            DataType::Int64 => Box::new($of::<Int64Type>::new($finish)),
            DataType::Duration(_) => Box::new($of::<DurationMicrosecondType>::new($finish)),
            DataType::Interval(_) => Box::new($of::<IntervalYearMonthType>::new($finish)),
            _ => Box::new($of::<Decimal128Type>::new($finish)),
        }
    };
}

fn one_group(finish: Finish, value: &DataType, distinct: bool) -> Box<dyn Accumulator> {
    let one: Box<dyn Accumulator> = adding!(One, value, finish);
    if distinct { Box::new(Distinct::new(one, vec![value.clone()])) } else { one }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        &self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        use DataType as T;
        let [value] = types else { return super::wrong_count(&self.name, "1", types.len()) };
        let whole = if self.average { T::Float64 } else { T::Int64 };
        Ok(vec![match value {
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => whole,
            T::Float16 | T::Float32 | T::Float64 | T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => T::Float64,
            T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal256(p, s) => T::Decimal128((*p).min(38), *s),
            T::Decimal128(..) | T::Duration(_) | T::Interval(_) => value.clone(),
            other => {
                return Err(crate::functions::native::mismatch(&self.name, 0, "\"NUMERIC\" or \"INTERVAL\"", other));
            }
        }])
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let types = self.coerce_types(types)?;
        if types.iter().all(is_interval) {
            return Ok(types[0].clone());
        }
        self.other.return_type(&types)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if self.is_own(self.value_type(&args)) {
            return Ok(self.own_accumulator(&args));
        }
        self.other.accumulator(args)
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let value = self.value_type(&args).clone();
        if !self.is_own(&value) && value != DataType::Float64 {
            return self.other.create_sliding_accumulator(args);
        }
        if args.is_distinct {
            let (sum, kept) = (self.clone(), OwnedArgs::new(&args));
            return Ok(Box::new(Replayed::new(vec![value], move || kept.with(|args| sum.accumulator(args)))));
        }
        if value == DataType::Float64 {
            return Ok(Box::new(Doubles { average: self.average, rows: VecDeque::new() }));
        }
        let finish = self.finish(&args);
        let sliding: Box<dyn Accumulator> = adding!(Sliding, value, finish);
        Ok(sliding)
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if self.is_own(self.value_type(&args)) {
            return !args.is_distinct;
        }
        self.other.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let value = self.value_type(&args);
        if !self.is_own(value) {
            return self.other.create_groups_accumulator(args);
        }
        let many: Box<dyn GroupsAccumulator> = adding!(Many, value, self.finish(&args));
        Ok(many)
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = args.input_fields[0].data_type();
        if !self.is_own(value) {
            return self.other.state_fields(args);
        }
        let named =
            |name: &str, data_type: DataType| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        if args.is_distinct {
            return Ok(vec![named("distinct", Distinct::state_type(std::slice::from_ref(value)))]);
        }
        Ok(vec![named("sum", sum_type(value)), named("count", DataType::Int64)])
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Of the partial state.
fn sum_type(value: &DataType) -> DataType {
    match value {
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
        other => other.clone(),
    }
}

/// A sum so far: null with a count of more than none has overflowed.
#[derive(Debug, Clone, Copy)]
struct Total<N> {
    sum: Option<N>,
    count: i64,
}

/// How results come of sums.
#[derive(Debug, Clone)]
struct Finish {
    average: bool,
    fails: bool,
    from: DataType,
    to: DataType,
}

/// What sums and averages are of: BIGINT, DECIMAL, intervals.
trait Summed: ArrowPrimitiveType + Debug + Send + Sync {
    /// The result; none when it has too many digits.
    fn finish(sum: Self::Native, count: i64, how: &Finish) -> Option<Self::Native>;
    /// A value among numbers so large that sums of them do not overflow.
    fn wide(value: Self::Native) -> i256;
    /// Back, where it fits.
    fn narrow(wide: i256) -> Option<Self::Native>;
}

macro_rules! summed {
    ($($t:ty: $native:ty),*) => {$(
        impl Summed for $t {
            fn finish(sum: $native, count: i64, how: &Finish) -> Option<$native> {
                if !how.average {
                    return Some(sum);
                }
                <$native>::try_from(rounded(i128::from(sum), 0, count)?).ok()
            }
            fn wide(value: $native) -> i256 {
                i256::from_i128(i128::from(value))
            }
            fn narrow(wide: i256) -> Option<$native> {
                <$native>::try_from(wide.to_i128()?).ok()
            }
        }
    )*};
}
summed!(Int64Type: i64, DurationMicrosecondType: i64, IntervalYearMonthType: i32);

impl Summed for Decimal128Type {
    fn finish(sum: i128, count: i64, how: &Finish) -> Option<i128> {
        let (DataType::Decimal128(_, from), DataType::Decimal128(precision, scale)) = (&how.from, &how.to) else {
            return None;
        };
        let result = if how.average { rounded(sum, u32::from(scale.abs_diff(*from)), count)? } else { sum };
        Decimal128Type::is_valid_decimal_precision(result, *precision).then_some(result)
    }
    fn wide(value: i128) -> i256 {
        i256::from_i128(value)
    }
    fn narrow(wide: i256) -> Option<i128> {
        wide.to_i128()
    }
}

/// `sum * 10^digits / count`, half up.
fn rounded(sum: i128, digits: u32, count: i64) -> Option<i128> {
    let factor = 10_i128.checked_pow(digits)?;
    let half_up = |quotient: i128, rest: i128, count: i128| {
        let away = rest.unsigned_abs() * 2 >= count.unsigned_abs();
        if away { quotient + rest.signum() } else { quotient }
    };
    if let Some(scaled) = sum.checked_mul(factor) {
        let count = i128::from(count);
        return Some(half_up(scaled / count, scaled % count, count));
    }
    let scaled = i256::from_i128(sum).checked_mul(i256::from_i128(factor))?;
    let wide = i256::from_i128(i128::from(count));
    let quotient = scaled.checked_div(wide)?.to_i128()?;
    let rest = scaled.checked_rem(wide)?.to_i128()?;
    Some(half_up(quotient, rest, i128::from(count)))
}

fn overflowed<T>(to: &DataType) -> Result<T> {
    let kind = match to {
        DataType::Decimal128(..) => "sum of decimals",
        DataType::Int64 => "sum of BIGINT",
        _ => "sum of intervals",
    };
    invalid("ARITHMETIC_OVERFLOW", format!("{kind} overflows: use try_sum or try_avg to have NULL instead"))
}

fn add<N: ArrowNativeTypeOp>(total: &mut Total<N>, value: N) {
    total.count += 1;
    total.sum = total.sum.and_then(|sum| sum.add_checked(value).ok());
}

/// Of one group.
#[derive(Debug)]
struct One<T: Summed> {
    total: Total<T::Native>,
    how: Finish,
}

impl<T: Summed> One<T> {
    fn new(how: Finish) -> Self {
        Self { total: Total { sum: Some(T::Native::ZERO), count: 0 }, how }
    }

    fn checked(&self) -> Result<()> {
        if self.how.fails && self.total.sum.is_none() { overflowed(&self.how.to) } else { Ok(()) }
    }
}

impl<T: Summed> Accumulator for One<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            add(&mut self.total, value);
        }
        self.checked()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (sums, counts) = (states[0].as_primitive::<T>(), states[1].as_primitive::<Int64Type>());
        for i in 0..counts.len() {
            if counts.is_null(i) || counts.value(i) == 0 {
                continue;
            }
            let sum = sums.is_valid(i).then(|| sums.value(i));
            let both = self.total.sum.zip(sum);
            self.total.sum = both.and_then(|(one, other)| one.add_checked(other).ok());
            self.total.count += counts.value(i);
        }
        self.checked()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = PrimitiveArray::<T>::from_iter([self.total.sum]).with_data_type(sum_type(&self.how.from));
        Ok(vec![ScalarValue::try_from_array(&sum, 0)?, ScalarValue::Int64(Some(self.total.count))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        value_of::<T>(finished::<T>(&self.total, &self.how)?, &self.how)
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
}

fn value_of<T: Summed>(result: Option<T::Native>, how: &Finish) -> Result<ScalarValue> {
    let array = PrimitiveArray::<T>::from_iter([result]).with_data_type(how.to.clone());
    ScalarValue::try_from_array(&array, 0)
}

/// Of a frame that loses rows at its beginning. The sum is kept without overflow; whether adding the frame's values one
/// after the other would overflow on the way is looked at only where it can.
#[derive(Debug)]
struct Sliding<T: Summed> {
    values: VecDeque<Option<T::Native>>,
    count: i64,
    sum: i256,
    /// The sum without signs: no sum of some of the values is larger.
    size: i256,
    how: Finish,
}

impl<T: Summed> Sliding<T> {
    fn new(how: Finish) -> Self {
        Self { values: VecDeque::new(), count: 0, sum: i256::ZERO, size: i256::ZERO, how }
    }
}

impl<T: Summed> Accumulator for Sliding<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>() {
            if let Some(wide) = value.map(T::wide) {
                self.count += 1;
                self.sum = self.sum.wrapping_add(wide);
                self.size = self.size.wrapping_add(wide.wrapping_abs());
            }
            self.values.push_back(value);
        }
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in self.values.drain(..values[0].len().min(self.values.len())).flatten() {
            let wide = T::wide(value);
            self.count -= 1;
            self.sum = self.sum.wrapping_sub(wide);
            self.size = self.size.wrapping_sub(wide.wrapping_abs());
        }
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut total = Total { sum: T::narrow(self.sum), count: self.count };
        if T::narrow(self.size).is_none() {
            total = Total { sum: Some(T::Native::ZERO), count: 0 };
            self.values.iter().flatten().for_each(|value| add(&mut total, *value));
        }
        value_of::<T>(finished::<T>(&total, &self.how)?, &self.how)
    }
    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        super::no_partial_state()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        super::no_partial_state()
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<Option<T::Native>>()
    }
}

/// Of a frame of doubles that loses rows at its beginning: it is added up anew, since no value can be taken out of a
/// sum that was rounded, or is no number.
#[derive(Debug)]
struct Doubles {
    average: bool,
    rows: VecDeque<Option<f64>>,
}

impl Accumulator for Doubles {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.extend(values[0].as_primitive::<Float64Type>());
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.drain(..values[0].len().min(self.rows.len()));
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (mut sum, mut count) = (0.0, 0_u64);
        for value in self.rows.iter().flatten() {
            sum += value;
            count += 1;
        }
        let result = if self.average { sum / count as f64 } else { sum };
        Ok(ScalarValue::Float64((count > 0).then(|| one_nan(result))))
    }
    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        super::no_partial_state()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        super::no_partial_state()
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.rows.capacity() * size_of::<Option<f64>>()
    }
}

fn finished<T: Summed>(total: &Total<T::Native>, how: &Finish) -> Result<Option<T::Native>> {
    if total.count == 0 {
        return Ok(None);
    }
    match total.sum.and_then(|sum| T::finish(sum, total.count, how)) {
        Some(result) => Ok(Some(result)),
        None if how.fails => overflowed(&how.to),
        None => Ok(None),
    }
}

fn is_kept(values: &dyn Array, filter: Option<&BooleanArray>, i: usize) -> bool {
    values.is_valid(i) && filter.is_none_or(|filter| filter.is_valid(i) && filter.value(i))
}

/// Of many groups.
#[derive(Debug)]
struct Many<T: Summed> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    /// Groups that overflowed, where that is no failure.
    over: Vec<bool>,
    how: Finish,
}

impl<T: Summed> Many<T> {
    fn new(how: Finish) -> Self {
        Self { sums: vec![], counts: vec![], over: vec![], how }
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, T::Native::ZERO);
        self.counts.resize(groups, 0);
    }

    fn note(&mut self, over: Vec<usize>, groups: usize) -> Result<()> {
        if over.is_empty() {
            return Ok(());
        }
        if self.how.fails {
            return overflowed(&self.how.to);
        }
        self.over.resize(groups, false);
        over.into_iter().for_each(|group| self.over[group] = true);
        Ok(())
    }

    /// Sums, counts and which overflowed.
    fn take(&mut self, emit_to: EmitTo) -> (Vec<T::Native>, Vec<i64>, Vec<bool>) {
        let (sums, counts) = (emit_to.take_needed(&mut self.sums), emit_to.take_needed(&mut self.counts));
        let mut over = match emit_to {
            EmitTo::First(n) if self.over.len() > n => {
                let rest = self.over.split_off(n);
                std::mem::replace(&mut self.over, rest)
            }
            _ => std::mem::take(&mut self.over),
        };
        over.resize(sums.len(), false);
        (sums, counts, over)
    }
}

impl<T: Summed> GroupsAccumulator for Many<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let mut over = vec![];
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        let mut add = |group: usize, value: T::Native| {
            counts[group] += 1;
            match sums[group].add_checked(value) {
                Ok(sum) => sums[group] = sum,
                Err(_) => over.push(group),
            }
        };
        let values = values[0].as_primitive::<T>();
        if values.null_count() == 0 && filter.is_none() {
            groups.iter().zip(values.values()).for_each(|(group, value)| add(*group, *value));
        } else {
            for (i, group) in groups.iter().enumerate() {
                if is_kept(values, filter, i) {
                    add(*group, values.value(i));
                }
            }
        }
        self.note(over, total)
    }
    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let (sums, counts) = (states[0].as_primitive::<T>(), states[1].as_primitive::<Int64Type>());
        let mut over = vec![];
        for (i, group) in groups.iter().copied().enumerate() {
            if counts.is_null(i) || counts.value(i) == 0 {
                continue;
            }
            self.counts[group] += counts.value(i);
            match sums.is_valid(i).then(|| self.sums[group].add_checked(sums.value(i))) {
                Some(Ok(sum)) => self.sums[group] = sum,
                _ => over.push(group),
            }
        }
        self.note(over, total)
    }
    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts, over) = self.take(emit_to);
        let sums = sums.into_iter().zip(over).map(|(sum, over)| (!over).then_some(sum));
        let sums = PrimitiveArray::<T>::from_iter(sums).with_data_type(sum_type(&self.how.from));
        Ok(vec![Arc::new(sums), Arc::new(PrimitiveArray::<Int64Type>::from(counts))])
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, counts, over) = self.take(emit_to);
        let results = sums
            .into_iter()
            .zip(counts)
            .zip(over)
            .map(|((sum, count), over)| finished::<T>(&Total { sum: (!over).then_some(sum), count }, &self.how));
        let results = results.collect::<Result<PrimitiveArray<T>>>()?;
        Ok(Arc::new(results.with_data_type(self.how.to.clone())))
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let kept = |i: usize| is_kept(values, filter, i);
        let sums = (0..values.len()).map(|i| Some(if kept(i) { values.value(i) } else { T::Native::ZERO }));
        let sums = PrimitiveArray::<T>::from_iter(sums).with_data_type(sum_type(&self.how.from));
        let counts = (0..values.len()).map(|i| i64::from(kept(i)));
        Ok(vec![Arc::new(sums), Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(counts))])
    }
    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.counts.capacity() * 8 + self.over.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_rounded_half_up() {
        assert_eq!(rounded(331, 4, 67), Some(49403));
        assert_eq!(rounded(-331, 4, 67), Some(-49403));
        assert_eq!(rounded(1, 0, 2), Some(1));
        assert_eq!(rounded(-1, 0, 2), Some(-1));
        assert_eq!(rounded(1, 0, 3), Some(0));
        // Too wide for 128 bits on the way.
        let nines = 10_i128.pow(37);
        assert_eq!(rounded(nines, 4, 10_000), Some(nines));
    }

    fn how(average: bool, fails: bool) -> Finish {
        Finish { average, fails, from: DataType::Int64, to: DataType::Int64 }
    }

    #[test]
    fn overflow_fails_or_is_null() {
        let values: ArrayRef = Arc::new(PrimitiveArray::<Int64Type>::from(vec![Some(i64::MAX), None, Some(1)]));
        let mut fails = Many::<Int64Type>::new(how(false, true));
        let error = fails.update_batch(&[Arc::clone(&values)], &[0, 0, 0], None, 1).expect_err("overflow");
        assert!(error.to_string().contains("ARITHMETIC_OVERFLOW"), "{error}");
        let mut nulls = Many::<Int64Type>::new(how(false, false));
        nulls.update_batch(&[values], &[0, 1, 0], None, 3).expect("is null");
        // The same through a partial state.
        let states = nulls.state(EmitTo::All).expect("a state");
        let mut merged = Many::<Int64Type>::new(how(false, false));
        merged.merge_batch(&states, &[0, 1, 2], 3).expect("merged");
        let more: ArrayRef = Arc::new(PrimitiveArray::<Int64Type>::from(vec![1, 2]));
        merged.update_batch(&[more], &[0, 2], None, 3).expect("more");
        let result = merged.evaluate(EmitTo::All).expect("a result");
        assert_eq!(result.as_primitive::<Int64Type>(), &PrimitiveArray::<Int64Type>::from(vec![None, None, Some(2)]));
    }

    /// The results of a frame of so many rows that moves over the values.
    fn moved<T: ArrowPrimitiveType>(
        mut frame: impl Accumulator,
        values: &PrimitiveArray<T>,
        width: usize,
    ) -> Result<Vec<ScalarValue>> {
        (0..values.len())
            .map(|end| {
                // New rows come before old ones go.
                frame.update_batch(&[Arc::new(values.slice(end, 1))])?;
                if end >= width {
                    frame.retract_batch(&[Arc::new(values.slice(end - width, 1))])?;
                }
                frame.evaluate()
            })
            .collect()
    }

    #[test]
    fn frames_that_move_forget_what_left_them() {
        let doubles = |average: bool, values: Vec<Option<f64>>, expect: Vec<Option<f64>>| {
            let frame = Doubles { average, rows: VecDeque::new() };
            let found = moved(frame, &PrimitiveArray::<Float64Type>::from(values), 2).expect("sums");
            let expect: Vec<_> = expect.into_iter().map(ScalarValue::Float64).collect();
            // Equal by their bits, so that a NaN is one.
            assert_eq!(found, expect);
        };
        doubles(false, vec![Some(1e20), Some(1.0), Some(3.0)], vec![Some(1e20), Some(1e20), Some(4.0)]);
        let (nan, infinite) = (Some(f64::NAN), Some(f64::INFINITY));
        doubles(true, vec![nan, Some(1.0), Some(3.0), None, None], vec![nan, nan, Some(2.0), Some(3.0), None]);
        doubles(false, vec![infinite, Some(1.0), Some(3.0)], vec![infinite, infinite, Some(4.0)]);
    }

    #[test]
    fn frames_that_move_overflow_by_their_own_rows() {
        let whole = |values: Vec<i64>, width: usize, fails: bool| {
            let values = PrimitiveArray::<Int64Type>::from(values);
            moved(Sliding::<Int64Type>::new(how(false, fails)), &values, width)
        };
        let some = |values: &[i64]| values.iter().map(|one| ScalarValue::Int64(Some(*one))).collect::<Vec<_>>();
        assert_eq!(whole(vec![i64::MAX, 1, 2], 1, true).expect("each alone"), some(&[i64::MAX, 1, 2]));
        assert!(whole(vec![i64::MAX, 1], 2, true).is_err());
        // On the way, too: the values are added one after the other.
        assert!(whole(vec![1, i64::MAX, -1], 3, true).is_err());
        let nulls = whole(vec![i64::MAX, 1, 2], 2, false).expect("no failure");
        assert_eq!(
            nulls,
            vec![ScalarValue::Int64(Some(i64::MAX)), ScalarValue::Int64(None), ScalarValue::Int64(Some(3))]
        );
    }

    #[test]
    fn intervals_overflow_and_are_averaged() {
        let day = 86_400_000_000_i64;
        let micros = DataType::Duration(TimeUnit::Microsecond);
        let how =
            |average: bool, fails: bool, of: &DataType| Finish { average, fails, from: of.clone(), to: of.clone() };
        let days: ArrayRef = Arc::new(PrimitiveArray::<DurationMicrosecondType>::from(vec![106_751_991 * day, day]));
        let mut sum = One::<DurationMicrosecondType>::new(how(false, true, &micros));
        let error = sum.update_batch(&[Arc::clone(&days)]).expect_err("overflow").to_string();
        assert!(error.contains("ARITHMETIC_OVERFLOW") && error.contains("intervals"), "{error}");
        let mut null = One::<DurationMicrosecondType>::new(how(false, false, &micros));
        null.update_batch(&[days]).expect("is null");
        assert_eq!(null.evaluate().expect("null"), ScalarValue::DurationMicrosecond(None));
        let months = DataType::Interval(IntervalUnit::YearMonth);
        let values: ArrayRef = Arc::new(PrimitiveArray::<IntervalYearMonthType>::from(vec![Some(1), Some(4), None]));
        let mut average = Many::<IntervalYearMonthType>::new(how(true, true, &months));
        average.update_batch(&[values], &[0, 0, 1], None, 2).expect("added");
        let found = average.evaluate(EmitTo::All).expect("averages");
        assert_eq!(*found.data_type(), months);
        assert_eq!(found.as_primitive::<IntervalYearMonthType>().iter().collect::<Vec<_>>(), vec![Some(3), None]);
        // Months are averaged as months, which DataFusion does not know.
        for sum in all() {
            assert_eq!(sum.return_type(std::slice::from_ref(&months)).expect("a type"), months);
        }
    }
}
