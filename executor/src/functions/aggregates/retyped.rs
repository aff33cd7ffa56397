//! Aggregates of DataFusion that count in an unsigned BIGINT, which Spark does not have: the same, as BIGINT.

use crate::functions::native::external;
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use headwater_proto::error::Error;
use std::sync::Arc;

/// Names of the aggregates, of other names of theirs, and how many arguments DataFusion's takes.
const COUNTS: &[(&str, &[&str], usize)] = &[("approx_distinct", &["approx_count_distinct"], 1), ("regr_count", &[], 2)];

/// The aggregates, made of those that are there.
pub fn all(known: &[Arc<AggregateUDF>]) -> Vec<Arc<AggregateUDF>> {
    let of = |(name, aliases, count): &(&str, &[&str], usize)| {
        let inner = known.iter().rev().find(|function| function.name() == *name)?;
        let aliases = aliases.iter().map(|alias| alias.to_string()).collect();
        Some(Arc::new(AggregateUDF::from(Retyped::new(Arc::clone(inner), aliases, *count))))
    };
    COUNTS.iter().filter_map(of).collect()
}

/// The same aggregate with a BIGINT.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Retyped {
    inner: Arc<AggregateUDF>,
    aliases: Vec<String>,
    /// Arguments beyond these say how exact a result must be: it is as exact as any.
    count: usize,
    signature: Signature,
}

impl Retyped {
    fn new(inner: Arc<AggregateUDF>, aliases: Vec<String>, count: usize) -> Self {
        Self { inner, aliases, count, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn inner_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.inner.name(), self.inner.return_type(&types)?, true)))
    }

    fn inner_args<'a>(&self, args: &AccumulatorArgs<'a>) -> Result<AccumulatorArgs<'a>> {
        let count = self.count.min(args.exprs.len());
        let mut args = args.clone();
        args.exprs = &args.exprs[..count];
        args.expr_fields = &args.expr_fields[..count];
        args.return_field = self.inner_field(args.expr_fields)?;
        Ok(args)
    }
}

impl AggregateUDFImpl for Retyped {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() < self.count || types.len() > self.count.max(2) {
            return super::wrong_count(self.name(), &self.count.to_string(), types.len());
        }
        let double = |one: &DataType| if self.count == 2 { DataType::Float64 } else { one.clone() };
        Ok(types.iter().map(double).collect())
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }
    fn is_nullable(&self) -> bool {
        false
    }
    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let inner = self.inner.accumulator(self.inner_args(&args)?)?;
        Ok(Box::new(One { inner, count: self.count }))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let inner = self.inner.create_sliding_accumulator(self.inner_args(&args)?)?;
        Ok(Box::new(One { inner, count: self.count }))
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner_args(&args).is_ok_and(|args| self.inner.groups_accumulator_supported(args))
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let inner = self.inner.create_groups_accumulator(self.inner_args(&args)?)?;
        Ok(Box::new(Many { inner, count: self.count }))
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let input_fields = &args.input_fields[..self.count.min(args.input_fields.len())];
        self.inner.state_fields(StateFieldsArgs { return_field: self.inner_field(input_fields)?, input_fields, ..args })
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

fn first(values: &[ArrayRef], count: usize) -> &[ArrayRef] {
    &values[..count.min(values.len())]
}

#[derive(Debug)]
struct One {
    inner: Box<dyn Accumulator>,
    count: usize,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(first(values, self.count))
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(first(values, self.count))
    }
    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let counted = self.inner.evaluate()?.cast_to(&DataType::Int64)?;
        if counted.is_null() { Err(external(Error::internal("a count is null"))) } else { Ok(counted) }
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

struct Many {
    inner: Box<dyn GroupsAccumulator>,
    count: usize,
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.inner.update_batch(first(values, self.count), groups, filter, total)
    }
    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.inner.merge_batch(states, groups, total)
    }
    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(cast(&self.inner.evaluate(emit_to)?, &DataType::Int64)?)
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(first(values, self.count), filter)
    }
    fn size(&self) -> usize {
        self.inner.size()
    }
}
