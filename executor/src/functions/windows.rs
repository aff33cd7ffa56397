//! Window functions of DataFusion that number rows in an unsigned BIGINT: the same, as Spark's INT.

use arrow::array::ArrayRef;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::function::{
    ExpressionArgs, PartitionEvaluatorArgs, WindowFunctionSimplification, WindowUDFFieldArgs,
};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use std::ops::Range;
use std::sync::Arc;

/// `row_number` for plans that need one of more than an INT can count, as BIGINT.
pub const ROW_NUMBER: &str = "spark_row_number";

const NUMBERS: &[&str] = &["row_number", "rank", "dense_rank", "ntile"];

/// The functions, made of those that are there.
pub fn all(known: &[Arc<WindowUDF>]) -> Vec<Arc<WindowUDF>> {
    let numbered = known.iter().filter(|function| NUMBERS.contains(&function.name()));
    let mut all: Vec<Arc<WindowUDF>> = numbered
        .map(|function| {
            let name = function.name().to_string();
            Arc::new(WindowUDF::from(Numbered { name, inner: Arc::clone(function), to: DataType::Int32 }))
        })
        .collect();
    all.push(row_number());
    all
}

/// [`ROW_NUMBER`].
pub fn row_number() -> Arc<WindowUDF> {
    Arc::new(WindowUDF::from(Numbered { name: ROW_NUMBER.into(), inner: row_number_udwf(), to: DataType::Int64 }))
}

/// The same function with numbers of another type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Numbered {
    name: String,
    inner: Arc<WindowUDF>,
    to: DataType,
}

impl WindowUDFImpl for Numbered {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }
    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.inner.expressions(args)
    }
    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), self.to.clone(), false)))
    }
    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let inner = self.inner.partition_evaluator_factory(args)?;
        Ok(Box::new(Evaluator { inner, to: self.to.clone() }))
    }
    fn simplify(&self) -> Option<WindowFunctionSimplification> {
        self.inner.simplify()
    }
    fn sort_options(&self) -> Option<SortOptions> {
        self.inner.sort_options()
    }
    fn reverse_expr(&self) -> ReversedUDWF {
        match self.inner.reverse_expr() {
            ReversedUDWF::Identical => ReversedUDWF::Identical,
            _ => ReversedUDWF::NotSupported,
        }
    }
    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.inner.inner().limit_effect(args)
    }
}

#[derive(Debug)]
struct Evaluator {
    inner: Box<dyn PartitionEvaluator>,
    to: DataType,
}

impl PartitionEvaluator for Evaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> Result<()> {
        self.inner.memoize(state)
    }
    fn get_range(&self, idx: usize, n_rows: usize) -> Result<Range<usize>> {
        self.inner.get_range(idx, n_rows)
    }
    fn is_causal(&self) -> bool {
        self.inner.is_causal()
    }
    fn evaluate_all(&mut self, values: &[ArrayRef], num_rows: usize) -> Result<ArrayRef> {
        Ok(cast(&self.inner.evaluate_all(values, num_rows)?, &self.to)?)
    }
    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        match (self.inner.evaluate(values, range)?, &self.to) {
            // Once a row: a cast by way of arrays would be most of the work.
            (ScalarValue::UInt64(Some(number)), DataType::Int32) if i32::try_from(number).is_ok() => {
                Ok(ScalarValue::Int32(Some(number as i32)))
            }
            (ScalarValue::UInt64(Some(number)), DataType::Int64) if i64::try_from(number).is_ok() => {
                Ok(ScalarValue::Int64(Some(number as i64)))
            }
            (number, to) => number.cast_to(to),
        }
    }
    fn evaluate_all_with_rank(&self, num_rows: usize, ranks: &[Range<usize>]) -> Result<ArrayRef> {
        Ok(cast(&self.inner.evaluate_all_with_rank(num_rows, ranks)?, &self.to)?)
    }
    fn supports_bounded_execution(&self) -> bool {
        self.inner.supports_bounded_execution()
    }
    fn uses_window_frame(&self) -> bool {
        self.inner.uses_window_frame()
    }
    fn include_rank(&self) -> bool {
        self.inner.include_rank()
    }
}
