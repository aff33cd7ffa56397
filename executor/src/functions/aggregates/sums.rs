//! `sum` and `avg`: overflow fails in ANSI mode, and is null in `try_sum` and `try_avg`; an average of decimals is a
//! decimal, rounded half up.
//!
//! What cannot overflow (doubles, intervals) is DataFusion's. Without ANSI mode a sum of BIGINT wraps around, which is
//! DataFusion's as well, and decimals that overflow are null.

use super::{Distinct, LEGACY, Replayed};
use crate::functions::native::invalid;
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, DecimalType, Field, FieldRef, Int64Type, i256};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use std::fmt::Debug;
use std::sync::Arc;

/// What happens when there are too many digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Overflow {
    /// The query fails.
    Fails,
    /// The result is null.
    IsNull,
    /// As with [`Overflow::IsNull`], but a BIGINT wraps around.
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
#[derive(Debug, PartialEq, Eq, Hash)]
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
            fails: self.overflow == Overflow::Fails,
            from: args.expr_fields[0].data_type().clone(),
            to: args.return_field.data_type().clone(),
        }
    }

    fn own_accumulator(&self, args: &AccumulatorArgs) -> Box<dyn Accumulator> {
        one_group(self.finish(args), args.expr_fields[0].data_type(), args.is_distinct)
    }
}

fn one_group(finish: Finish, value: &DataType, distinct: bool) -> Box<dyn Accumulator> {
    let one: Box<dyn Accumulator> = match value {
        DataType::Int64 => Box::new(One::<Int64Type>::new(finish)),
        _ => Box::new(One::<Decimal128Type>::new(finish)),
    };
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
        self.other.return_type(&self.coerce_types(types)?)
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if self.is_own(self.value_type(&args)) {
            return Ok(self.own_accumulator(&args));
        }
        self.other.accumulator(args)
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !self.is_own(self.value_type(&args)) {
            return self.other.create_sliding_accumulator(args);
        }
        if self.overflow == Overflow::Fails && !args.is_distinct {
            return Ok(self.own_accumulator(&args));
        }
        // A sum that overflowed does not come back when rows leave the frame.
        let (finish, value, distinct) = (self.finish(&args), self.value_type(&args).clone(), args.is_distinct);
        let make = {
            let value = value.clone();
            move || Ok(one_group(finish.clone(), &value, distinct))
        };
        Ok(Box::new(Replayed::new(vec![value], make)))
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if self.is_own(self.value_type(&args)) {
            return !args.is_distinct;
        }
        self.other.groups_accumulator_supported(args)
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.value_type(&args) {
            value if !self.is_own(value) => self.other.create_groups_accumulator(args),
            DataType::Int64 => Ok(Box::new(Many::<Int64Type>::new(self.finish(&args)))),
            _ => Ok(Box::new(Many::<Decimal128Type>::new(self.finish(&args)))),
        }
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

/// What sums and averages are of: BIGINT, DECIMAL.
trait Summed: ArrowPrimitiveType + Debug + Send + Sync {
    /// The result; none when it has too many digits.
    fn finish(sum: Self::Native, count: i64, how: &Finish) -> Option<Self::Native>;
}

impl Summed for Int64Type {
    fn finish(sum: i64, _: i64, _: &Finish) -> Option<i64> {
        Some(sum)
    }
}

impl Summed for Decimal128Type {
    fn finish(sum: i128, count: i64, how: &Finish) -> Option<i128> {
        let (DataType::Decimal128(_, from), DataType::Decimal128(precision, scale)) = (&how.from, &how.to) else {
            return None;
        };
        let result = if how.average { rounded(sum, u32::from(scale.abs_diff(*from)), count)? } else { sum };
        Decimal128Type::is_valid_decimal_precision(result, *precision).then_some(result)
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
    let kind = if matches!(to, DataType::Decimal128(..)) { "sum of decimals" } else { "sum of BIGINT" };
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
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            self.total.count -= 1;
            self.total.sum = self.total.sum.and_then(|sum| sum.sub_checked(value).ok());
        }
        self.checked()
    }
    fn supports_retract_batch(&self) -> bool {
        self.how.fails
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
        let result = finished::<T>(&self.total, &self.how)?;
        let array = PrimitiveArray::<T>::from_iter([result]).with_data_type(self.how.to.clone());
        ScalarValue::try_from_array(&array, 0)
    }
    fn size(&self) -> usize {
        size_of_val(self)
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
}
