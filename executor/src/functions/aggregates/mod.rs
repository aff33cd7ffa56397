//! Aggregates of Spark that neither DataFusion nor datafusion-spark has, or has with another meaning.
//!
//! An aggregate is a row of a table, as scalar functions are ([`native`](super::native)): name, types of arguments, result
//! and partial state, what makes its [`Accumulator`] and, where that is worth it, the [`GroupsAccumulator`] of many groups.
//! What only some of them need is done here for all: `DISTINCT` ([`Distinct`]) and frames of windows that lose rows
//! ([`Replayed`]). Plans carry aggregates by name, so that one that depends on ANSI mode has a second name ([`LEGACY`]),
//! which the analyzer puts in.
//!
//! - [`sums`]: `sum`, `avg` and their like, which overflow as Spark's do.
//! - [`moments`], [`percentiles`], [`sketches`], [`extremes`], [`sets`]: by what they compute.
//! - [`retyped`]: DataFusion's, where the result is an unsigned number.

use super::native::{external, invalid};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use headwater_proto::error::Error;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

pub mod extremes;
pub mod grouping;
pub mod moments;
pub mod percentiles;
pub mod retyped;
pub mod sets;
pub mod sketches;
pub mod sums;

/// Ends the names of aggregates as they are without ANSI mode.
pub const LEGACY: &str = "@legacy";

/// All of them. `known` are those that are there, by which some are made.
pub fn all(known: &[Arc<AggregateUDF>]) -> Vec<Arc<AggregateUDF>> {
    let tables = [
        extremes::aggregates(),
        grouping::aggregates(),
        moments::aggregates(),
        percentiles::aggregates(),
        sets::aggregates(),
        sketches::aggregates(),
    ];
    let mut all: Vec<Arc<AggregateUDF>> =
        tables.into_iter().flatten().map(|aggregate| Arc::new(AggregateUDF::from(aggregate))).collect();
    all.extend(sums::all());
    all.extend(retyped::all(known));
    all
}

/// Whether an aggregate is one of ours, which says what its arguments are cast to.
pub fn is_own(function: &AggregateUDF) -> bool {
    let inner = function.inner().as_ref();
    inner.is::<Aggregate>() || inner.is::<sums::Sum>() || inner.is::<retyped::Retyped>()
}

/// What an aggregate is without ANSI mode, where that is another.
pub fn legacy(name: &str) -> Option<Arc<AggregateUDF>> {
    static LEGACIES: LazyLock<HashMap<String, Arc<AggregateUDF>>> = LazyLock::new(|| {
        let all = sums::all().into_iter();
        all.filter_map(|one| Some((one.name().strip_suffix(LEGACY)?.to_string(), one))).collect()
    });
    LEGACIES.get(name).cloned()
}

/// What an accumulator is made of.
pub struct Start<'a> {
    /// The call.
    pub args: &'a AccumulatorArgs<'a>,
    /// Types of the arguments.
    pub types: &'a [DataType],
    /// The type to return.
    pub result: &'a DataType,
    /// The aggregate's name, for messages.
    pub name: &'a str,
}

impl Start<'_> {
    /// Argument `i`, which must be a constant.
    ///
    /// # Errors
    /// `DATATYPE_MISMATCH.NON_FOLDABLE_INPUT`.
    pub fn constant(&self, i: usize) -> Result<ScalarValue> {
        let empty = RecordBatch::new_empty(Arc::new(Schema::new(self.args.schema.fields().clone())));
        match self.args.exprs[i].evaluate(&empty) {
            Ok(ColumnarValue::Scalar(value)) => Ok(value),
            _ => invalid(
                "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
                format!("argument {} of `{}` must be a constant", i + 1, self.name),
            ),
        }
    }

    /// Whether there is an argument `i`.
    pub fn has(&self, i: usize) -> bool {
        i < self.types.len()
    }

    /// Argument `i`, a constant number.
    ///
    /// # Errors
    /// Another argument.
    pub fn number(&self, i: usize) -> Result<f64> {
        match self.constant(i)?.cast_to(&DataType::Float64)? {
            ScalarValue::Float64(Some(number)) => Ok(number),
            _ => invalid(
                "DATATYPE_MISMATCH.UNEXPECTED_NULL",
                format!("argument {} of `{}` must not be null", i + 1, self.name),
            ),
        }
    }

    /// Argument `i`, a constant BOOLEAN; false when there is none.
    ///
    /// # Errors
    /// Another argument.
    pub fn flag(&self, i: usize) -> Result<bool> {
        if !self.has(i) {
            return Ok(false);
        }
        Ok(matches!(self.constant(i)?.cast_to(&DataType::Boolean)?, ScalarValue::Boolean(Some(true))))
    }
}

/// Types that arguments are cast to.
pub type Coerce = fn(&str, &[DataType]) -> Result<Vec<DataType>>;
/// The result's type by the arguments'.
pub type Returns = fn(&[DataType]) -> Result<DataType>;
/// Types of the partial state by the arguments' and the result's.
pub type State = fn(&[DataType], &DataType) -> Vec<DataType>;
/// Makes the accumulator of one group.
pub type Begin = fn(&Start<'_>) -> Result<Box<dyn Accumulator>>;

/// An aggregate of ours.
#[derive(Clone)]
pub struct Aggregate {
    name: &'static str,
    aliases: Vec<String>,
    coerce: Coerce,
    returns: Returns,
    state: State,
    begin: Arc<dyn Fn(&Start<'_>) -> Result<Box<dyn Accumulator>> + Send + Sync>,
    /// Makes the accumulator of many groups; without it, each group has an accumulator of its own.
    many: Option<Arc<dyn Fn() -> Box<dyn GroupsAccumulator> + Send + Sync>>,
    /// Its result is never null.
    never_null: bool,
    signature: Signature,
}

impl Aggregate {
    /// An aggregate whose result may be null.
    pub fn new(
        name: &'static str,
        coerce: Coerce,
        returns: Returns,
        state: State,
        begin: impl Fn(&Start<'_>) -> Result<Box<dyn Accumulator>> + Send + Sync + 'static,
    ) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        let begin = Arc::new(begin);
        Self { name, aliases: vec![], coerce, returns, state, begin, many: None, never_null: false, signature }
    }
    /// What makes the accumulator of many groups, whose partial states are those of the accumulator of one.
    pub fn many(mut self, begin: impl Fn() -> Box<dyn GroupsAccumulator> + Send + Sync + 'static) -> Self {
        self.many = Some(Arc::new(begin));
        self
    }
    /// Other names.
    pub fn alias(mut self, names: &[&str]) -> Self {
        self.aliases.extend(names.iter().map(|name| name.to_string()));
        self
    }
    /// Its result is never null.
    pub fn never_null(mut self) -> Self {
        self.never_null = true;
        self
    }
}

impl std::fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aggregate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Aggregate {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Aggregate {}

impl Hash for Aggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

fn types_of(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        (self.coerce)(self.name, arg_types)
    }
    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        // Planners ask before arguments are cast.
        (self.returns)(&(self.coerce)(self.name, arg_types)?)
    }
    fn is_nullable(&self) -> bool {
        !self.never_null
    }
    /// Of a frame without rows.
    fn default_value(&self, to: &DataType) -> Result<ScalarValue> {
        match to {
            DataType::List(item) if self.never_null => Ok(list_value(arrow::array::new_empty_array(item.data_type()))),
            to => ScalarValue::try_from(to),
        }
    }
    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types = types_of(args.expr_fields);
        let start = Start { args: &args, types: &types, result: args.return_field.data_type(), name: self.name };
        let accumulator = (self.begin)(&start)?;
        if args.is_distinct {
            return Ok(Box::new(Distinct::new(accumulator, types)));
        }
        Ok(accumulator)
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !args.is_distinct {
            let accumulator = self.accumulator(args.clone())?;
            if accumulator.supports_retract_batch() {
                return Ok(accumulator);
            }
        }
        let types = types_of(args.expr_fields);
        // Made once here, so that a wrong argument is told before rows are read.
        self.accumulator(args.clone())?;
        let aggregate = self.clone();
        let kept = OwnedArgs::new(&args);
        Ok(Box::new(Replayed::new(types, move || kept.with(|args| aggregate.accumulator(args)))))
    }
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.many.is_some() && !args.is_distinct
    }
    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match &self.many {
            Some(begin) => Ok(begin()),
            None => Err(external(Error::internal(format!("{} has no accumulator of many groups", self.name)))),
        }
    }
    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let inputs = types_of(args.input_fields);
        let types = match args.is_distinct {
            true => vec![Distinct::state_type(&inputs)],
            false => (self.state)(&inputs, args.return_type()),
        };
        let named = |(i, one): (usize, DataType)| {
            Arc::new(Field::new(format_state_name(args.name, &format!("state{i}")), one, true))
        };
        Ok(types.into_iter().enumerate().map(named).collect())
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Arguments of a call that outlive it.
struct OwnedArgs {
    return_field: FieldRef,
    schema: Schema,
    name: String,
    is_distinct: bool,
    exprs: Vec<Arc<dyn datafusion::physical_expr::PhysicalExpr>>,
    expr_fields: Vec<FieldRef>,
}

impl OwnedArgs {
    fn new(args: &AccumulatorArgs) -> Self {
        Self {
            return_field: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            name: args.name.to_string(),
            is_distinct: args.is_distinct,
            exprs: args.exprs.to_vec(),
            expr_fields: args.expr_fields.to_vec(),
        }
    }

    fn with<T>(&self, f: impl FnOnce(AccumulatorArgs) -> Result<T>) -> Result<T> {
        f(AccumulatorArgs {
            return_field: Arc::clone(&self.return_field),
            schema: &self.schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: &self.name,
            is_distinct: self.is_distinct,
            exprs: &self.exprs,
            expr_fields: &self.expr_fields,
        })
    }
}

/// Rows of several columns, kept as values.
type Row = Vec<ScalarValue>;

fn rows_of(columns: &[ArrayRef]) -> Result<Vec<Row>> {
    let count = columns.first().map_or(0, |column| column.len());
    (0..count)
        .map(|row| columns.iter().map(|column| ScalarValue::try_from_array(column, row)).collect::<Result<Row>>())
        .collect()
}

fn columns_of<'a>(rows: impl Iterator<Item = &'a Row> + Clone, types: &[DataType]) -> Result<Vec<ArrayRef>> {
    if rows.clone().next().is_none() {
        return Ok(types.iter().map(arrow::array::new_empty_array).collect());
    }
    (0..types.len()).map(|i| ScalarValue::iter_to_array(rows.clone().map(|row| row[i].clone()))).collect()
}

/// `DISTINCT`: each row of arguments is seen once.
#[derive(Debug)]
pub struct Distinct {
    inner: Box<dyn Accumulator>,
    types: Vec<DataType>,
    seen: HashSet<Row>,
    bytes: usize,
}

impl Distinct {
    /// Every different row goes to `inner` once.
    pub fn new(inner: Box<dyn Accumulator>, types: Vec<DataType>) -> Self {
        Self { inner, types, seen: HashSet::new(), bytes: 0 }
    }

    fn row_fields(types: &[DataType]) -> Vec<Field> {
        types.iter().enumerate().map(|(i, one)| Field::new(format!("c{i}"), one.clone(), true)).collect()
    }

    /// A list of rows.
    pub fn state_type(types: &[DataType]) -> DataType {
        list_of(DataType::Struct(Self::row_fields(types).into()))
    }

    fn add(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for row in rows_of(columns)? {
            // Aggregates pass over nulls: so do distinct ones. Of several values, those that matter are the aggregate's.
            if row.len() == 1 && row[0].is_null() {
                continue;
            }
            let size: usize = row.iter().map(ScalarValue::size).sum();
            if self.seen.insert(row) {
                self.bytes += size;
            }
        }
        Ok(())
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values)
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for rows in states[0].as_list::<i32>().iter().flatten() {
            let columns = rows.as_struct().columns().to_vec();
            self.add(&columns)?;
        }
        Ok(())
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = columns_of(self.seen.iter(), &self.types)?;
        let rows = StructArray::try_new(Self::row_fields(&self.types).into(), columns, None)?;
        Ok(vec![list_value(Arc::new(rows))])
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let columns = columns_of(self.seen.iter(), &self.types)?;
        self.inner.update_batch(&columns)?;
        self.inner.evaluate()
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size() + self.bytes
    }
}

/// For frames of windows that lose rows at their beginning: the rows of the frame are kept and given to a new accumulator.
struct Replayed {
    types: Vec<DataType>,
    make: Box<dyn Fn() -> Result<Box<dyn Accumulator>> + Send + Sync>,
    rows: VecDeque<Row>,
}

impl Replayed {
    fn new(types: Vec<DataType>, make: impl Fn() -> Result<Box<dyn Accumulator>> + Send + Sync + 'static) -> Self {
        Self { types, make: Box::new(make), rows: VecDeque::new() }
    }
}

impl std::fmt::Debug for Replayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayed").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Accumulator for Replayed {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows.extend(rows_of(values)?);
        Ok(())
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let count = values.first().map_or(0, |column| column.len());
        self.rows.drain(..count.min(self.rows.len()));
        Ok(())
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut accumulator = (self.make)()?;
        accumulator.update_batch(&columns_of(self.rows.iter(), &self.types)?)?;
        accumulator.evaluate()
    }
    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        no_partial_state()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        no_partial_state()
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.rows.iter().flatten().map(ScalarValue::size).sum::<usize>()
    }
}

fn no_partial_state<T>() -> Result<T> {
    Err(external(Error::internal("a window's frame has no partial state")))
}

/// ARRAY of this type.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// An ARRAY of these elements.
pub fn list_value(items: ArrayRef) -> ScalarValue {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([items.len()]);
    ScalarValue::List(Arc::new(ListArray::new(field, offsets, items, None)))
}

/// `WRONG_NUM_ARGS.WITHOUT_SUGGESTION`.
pub fn wrong_count<T>(name: &str, expect: &str, actual: usize) -> Result<T> {
    invalid(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        format!("the `{name}` requires {expect} parameters but the actual number is {actual}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    fn named(name: &str) -> Arc<AggregateUDF> {
        all(&[]).into_iter().find(|one| one.name() == name).expect(name)
    }

    #[test]
    fn frames_without_rows_have_a_value() {
        let list = list_of(DataType::Int64);
        let empty = named("collect_set").default_value(&list).expect("a value");
        assert_eq!((empty.data_type(), empty.is_null()), (list, false));
        assert!(named("max_by").default_value(&DataType::Int64).expect("a value").is_null());
        // Bytes of an empty sketch depend on its arguments: there is none for such a frame.
        let sketch = named("count_min_sketch");
        assert!(sketch.is_nullable() && sketch.default_value(&DataType::Binary).expect("a value").is_null());
    }

    #[test]
    fn distinct_rows_may_begin_with_a_null() {
        let types = vec![DataType::Utf8, DataType::Int64];
        let by: ArrayRef = Arc::new(Int64Array::from(vec![10, 5, 10]));
        let values: ArrayRef = Arc::new(StringArray::from(vec![None, Some("a"), None]));
        let inner = Box::new(extremes::By::new(&types, true).expect("types"));
        let mut distinct = Distinct::new(inner, types);
        distinct.update_batch(&[values, by]).expect("rows");
        assert_eq!(distinct.seen.len(), 2);
        assert_eq!(distinct.evaluate().expect("a value"), ScalarValue::Utf8(None));
        // Of one value, nulls are passed over.
        let inner = Box::new(extremes::By::new(&[DataType::Int64, DataType::Int64], true).expect("types"));
        let mut distinct = Distinct::new(inner, vec![DataType::Int64]);
        distinct.update_batch(&[Arc::new(Int64Array::from(vec![Some(1), None, Some(1)]))]).expect("rows");
        assert_eq!(distinct.seen.len(), 1);
    }
}
