//! Functions that take functions: `transform`, `filter`, `exists`, `aggregate`, `zip_with` and those of maps.
//!
//! A lambda is computed for all elements of a batch at once; what it captures of a row is repeated for its elements.

use super::cast::{self, Options, relabel};
use super::coercion;
use super::collections::{entry_types, is_true, item_of, map_of, map_range, range, rows_of};
use super::ddl;
use super::native::{Context, external, invalid, mismatch};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, UInt64Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{take, take_arrays};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature, HigherOrderUDF,
    HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda, Volatility,
};
use headwater_proto::error::Error;
use std::cmp::Ordering;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Transform,
    Filter,
    Exists,
    ForAll,
    Aggregate,
    ZipWith,
    ArraySort,
    TransformKeys,
    TransformValues,
    MapFilter,
    MapZipWith,
}

/// One of them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Lambda {
    kind: Kind,
    name: &'static str,
    aliases: Vec<String>,
    signature: HigherOrderSignature,
}

/// More elements than this are not ordered by a lambda, which is asked about every pair of them.
const SORTED_MAX: usize = 2000;

/// All of them.
pub fn all() -> Vec<Arc<HigherOrderUDF>> {
    let make = |kind, name, aliases: &[&str]| {
        Arc::new(HigherOrderUDF::new_from_impl(Lambda {
            kind,
            name,
            aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
            signature: HigherOrderSignature::variadic_any(Volatility::Immutable),
        }))
    };
    vec![
        make(Kind::Transform, "transform", &[]),
        make(Kind::Filter, "filter", &[]),
        make(Kind::Exists, "exists", &[]),
        make(Kind::ForAll, "forall", &[]),
        make(Kind::Aggregate, "aggregate", &["reduce"]),
        make(Kind::ZipWith, "zip_with", &[]),
        make(Kind::ArraySort, "array_sort", &[]),
        make(Kind::TransformKeys, "transform_keys", &[]),
        make(Kind::TransformValues, "transform_values", &[]),
        make(Kind::MapFilter, "map_filter", &[]),
        make(Kind::MapZipWith, "map_zip_with", &[]),
    ]
}

fn field(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("", data_type, true))
}

impl Lambda {
    /// How many values come before the lambdas.
    fn values(&self) -> usize {
        match self.kind {
            Kind::Aggregate | Kind::ZipWith | Kind::MapZipWith => 2,
            _ => 1,
        }
    }

    fn check<V, L>(&self, args: &[ValueOrLambda<V, L>]) -> Result<()> {
        let values = self.values();
        let lambdas = match self.kind {
            Kind::Aggregate => 1..=2,
            Kind::ArraySort => 0..=1,
            _ => 1..=1,
        };
        let count = args.len().saturating_sub(values);
        let shape = args.iter().enumerate().all(|(i, arg)| (i < values) == matches!(arg, ValueOrLambda::Value(_)));
        if args.len() >= values && lambdas.contains(&count) && shape {
            return Ok(());
        }
        invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("the `{}` takes {values} values and then a lambda such as x -> x + 1", self.name),
        )
    }

    fn container(&self, i: usize, data_type: &DataType) -> Result<()> {
        let map = matches!(self.kind, Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter | Kind::MapZipWith);
        match (map, data_type) {
            (false, DataType::List(_)) | (true, DataType::Map(..)) | (_, DataType::Null) => Ok(()),
            (map, other) => Err(mismatch(self.name, i, if map { "\"MAP\"" } else { "\"ARRAY\"" }, other)),
        }
    }
}

fn value_type<L>(arg: &ValueOrLambda<FieldRef, L>) -> DataType {
    match arg {
        ValueOrLambda::Value(field) => field.data_type().clone(),
        ValueOrLambda::Lambda(_) => DataType::Null,
    }
}

impl HigherOrderUDFImpl for Lambda {
    fn name(&self) -> &str {
        self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        self.check(fields)?;
        let first = value_type(&fields[0]);
        self.container(0, &first)?;
        let int = || field(DataType::Int32);
        let item = || field(item_of(&first));
        let (key, value) = entry_types(&first);
        let parameters = match self.kind {
            Kind::Transform | Kind::Filter => vec![vec![item(), int()]],
            Kind::Exists | Kind::ForAll => vec![vec![item()]],
            Kind::ArraySort => vec![vec![item(), item()]; fields.len() - 1],
            Kind::Aggregate => {
                let zero = value_type(&fields[1]);
                let mut all = vec![vec![field(zero.clone()), item()]];
                if fields.len() == 4 {
                    all.push(vec![field(zero)]);
                }
                all
            }
            Kind::ZipWith => {
                let second = value_type(&fields[1]);
                self.container(1, &second)?;
                vec![vec![item(), field(item_of(&second))]]
            }
            Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter => vec![vec![field(key), field(value)]],
            Kind::MapZipWith => {
                let second = value_type(&fields[1]);
                self.container(1, &second)?;
                vec![vec![field(key), field(value), field(entry_types(&second).1)]]
            }
        };
        Ok(LambdaParametersProgress::Complete(parameters))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs) -> Result<FieldRef> {
        self.check(args.arg_fields)?;
        let first = value_type(&args.arg_fields[0]);
        let of_lambda = |i: usize| match args.arg_fields.get(i) {
            Some(ValueOrLambda::Lambda(field)) => field.data_type().clone(),
            _ => DataType::Null,
        };
        let (key, value) = entry_types(&first);
        Ok(field(match self.kind {
            Kind::Transform => ddl::array_of(of_lambda(1)),
            Kind::Filter | Kind::ArraySort | Kind::MapFilter => first,
            Kind::Exists | Kind::ForAll => DataType::Boolean,
            Kind::Aggregate if args.arg_fields.len() == 4 => of_lambda(3),
            Kind::Aggregate => value_type(&args.arg_fields[1]),
            Kind::ZipWith => ddl::array_of(of_lambda(2)),
            Kind::TransformKeys => ddl::map_of(of_lambda(1), value),
            Kind::TransformValues => ddl::map_of(key, of_lambda(1)),
            Kind::MapZipWith => ddl::map_of(key, of_lambda(2)),
        }))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args.args)?;
        let rows = args.number_rows;
        let value = |i: usize| match &args.args[i] {
            ValueOrLambda::Value(value) => value.to_array(rows),
            ValueOrLambda::Lambda(_) => Err(external(Error::internal("a value was expected"))),
        };
        let lambda = |i: usize| match &args.args[i] {
            ValueOrLambda::Lambda(lambda) => Ok(lambda),
            ValueOrLambda::Value(_) => Err(external(Error::internal("a lambda was expected"))),
        };
        let first = value(0)?;
        let to = args.return_field.data_type();
        if first.data_type() == &DataType::Null {
            return Ok(ColumnarValue::Array(new_null_array(to, rows)));
        }
        let result = match self.kind {
            Kind::Transform => transform(first.as_list(), lambda(1)?, to)?,
            Kind::Filter => filter(first.as_list(), lambda(1)?, to)?,
            Kind::Exists => quantified(first.as_list(), lambda(1)?, true)?,
            Kind::ForAll => quantified(first.as_list(), lambda(1)?, false)?,
            Kind::Aggregate => {
                let finish = if args.args.len() == 4 { Some(lambda(3)?) } else { None };
                aggregate(first.as_list(), value(1)?, lambda(2)?, finish, to)?
            }
            Kind::ZipWith => zip_with(first.as_list(), value(1)?.as_list(), lambda(2)?, to)?,
            Kind::ArraySort => {
                let by = if args.args.len() == 2 { Some(lambda(1)?) } else { None };
                array_sort(first.as_list(), by, to)?
            }
            Kind::TransformKeys | Kind::TransformValues | Kind::MapFilter => {
                entries(self.kind, first.as_map(), lambda(1)?, to)?
            }
            Kind::MapZipWith => map_zip_with(first.as_map(), value(1)?.as_map(), lambda(2)?, to)?,
        };
        Ok(ColumnarValue::Array(result))
    }
}

/// Places among all values, and for each the row that it is of; of rows that are no null.
fn places(list: &ListArray) -> (Vec<u64>, Vec<u64>) {
    let mut all = (vec![], vec![]);
    for row in (0..list.len()).filter(|row| list.is_valid(*row)) {
        for at in range(list, row) {
            all.0.push(at as u64);
            all.1.push(row as u64);
        }
    }
    all
}

fn evaluate(lambda: &LambdaArgument, arguments: &[ArrayRef], rows: &[u64]) -> Result<ArrayRef> {
    let closures: Vec<Box<dyn Fn() -> Result<ArrayRef>>> = arguments
        .iter()
        .map(|array| {
            let array = Arc::clone(array);
            Box::new(move || Ok(Arc::clone(&array))) as Box<dyn Fn() -> Result<ArrayRef>>
        })
        .collect();
    let closures: Vec<&dyn Fn() -> Result<ArrayRef>> = closures.iter().map(AsRef::as_ref).collect();
    let indices = UInt64Array::from(rows.to_vec());
    let result = lambda.evaluate(&closures, |captured| Ok(take_arrays(captured, &indices, None)?))?;
    result.into_array(rows.len())
}

fn taken(values: &ArrayRef, places: &[u64]) -> Result<ArrayRef> {
    Ok(take(values, &UInt64Array::from(places.to_vec()), None)?)
}

/// Elements' places within their arrays.
fn positions(list: &ListArray) -> ArrayRef {
    let rows = (0..list.len()).filter(|row| list.is_valid(*row));
    Arc::new(rows.flat_map(|row| 0..list.value_length(row)).collect::<Int32Array>())
}

fn lengths(list: &ListArray) -> Vec<usize> {
    (0..list.len()).map(|row| if list.is_valid(row) { list.value_length(row) as usize } else { 0 }).collect()
}

fn list_like(values: ArrayRef, lengths: Vec<usize>, nulls: Option<NullBuffer>, to: &DataType) -> Result<ArrayRef> {
    let DataType::List(field) = to else { return Err(external(Error::internal("a list was expected"))) };
    let values = relabel(values, field.data_type())?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

fn transform(list: &ListArray, lambda: &LambdaArgument, to: &DataType) -> Result<ArrayRef> {
    let (at, rows) = places(list);
    let result = evaluate(lambda, &[taken(list.values(), &at)?, positions(list)], &rows)?;
    list_like(result, lengths(list), list.nulls().cloned(), to)
}

fn filter(list: &ListArray, lambda: &LambdaArgument, to: &DataType) -> Result<ArrayRef> {
    let (at, rows) = places(list);
    let keep = evaluate(lambda, &[taken(list.values(), &at)?, positions(list)], &rows)?;
    let keep = booleans(&keep)?;
    let mut lengths = vec![0; list.len()];
    let mut kept = vec![];
    for (k, (at, row)) in at.iter().zip(&rows).enumerate() {
        if is_true(&keep, k) {
            kept.push(*at);
            lengths[*row as usize] += 1;
        }
    }
    list_like(taken(list.values(), &kept)?, lengths, list.nulls().cloned(), to)
}

fn booleans(array: &ArrayRef) -> Result<BooleanArray> {
    match array.data_type() {
        DataType::Boolean => Ok(array.as_boolean().clone()),
        DataType::Null => Ok(BooleanArray::new_null(array.len())),
        other => Err(mismatch("lambda", 0, "\"BOOLEAN\"", other)),
    }
}

/// Whether the lambda holds for some element, or for every one; unknown where nulls leave it open.
fn quantified(list: &ListArray, lambda: &LambdaArgument, some: bool) -> Result<ArrayRef> {
    let (at, rows) = places(list);
    let holds = booleans(&evaluate(lambda, &[taken(list.values(), &at)?], &rows)?)?;
    let mut answers: Vec<Option<bool>> = (0..list.len()).map(|row| list.is_valid(row).then_some(!some)).collect();
    for (k, row) in rows.iter().enumerate() {
        let answer = &mut answers[*row as usize];
        if *answer == Some(some) {
            continue;
        }
        if holds.is_null(k) {
            *answer = None;
        } else if holds.value(k) == some {
            *answer = Some(some);
        }
    }
    Ok(Arc::new(BooleanArray::from(answers)))
}

fn aggregate(
    list: &ListArray,
    zero: ArrayRef,
    merge: &LambdaArgument,
    finish: Option<&LambdaArgument>,
    to: &DataType,
) -> Result<ArrayRef> {
    let options = Options::of(&Context::default());
    let longest = lengths(list).into_iter().max().unwrap_or(0);
    let mut state = Arc::clone(&zero);
    for step in 0..longest {
        let rows: Vec<u64> = (0..list.len())
            .filter(|row| list.is_valid(*row) && list.value_length(*row) as usize > step)
            .map(|row| row as u64)
            .collect();
        let at: Vec<u64> = rows.iter().map(|row| (range(list, *row as usize).start + step) as u64).collect();
        let merged = evaluate(merge, &[taken(&state, &rows)?, taken(list.values(), &at)?], &rows)?;
        let merged = cast::cast(&merged, zero.data_type(), &options)?;
        // Rows that have no more elements keep what they have.
        let mut order: Vec<u64> = (0..state.len() as u64).collect();
        for (k, row) in rows.iter().enumerate() {
            order[*row as usize] = (state.len() + k) as u64;
        }
        let both = arrow::compute::concat(&[state.as_ref(), merged.as_ref()])?;
        state = taken(&both, &order)?;
    }
    let order = (0..list.len()).map(|row| list.is_valid(row).then_some(row as u64)).collect::<UInt64Array>();
    let state = take(&state, &order, None)?;
    let result = match finish {
        None => state,
        Some(finish) => {
            let rows: Vec<u64> = (0..list.len() as u64).collect();
            let finished = evaluate(finish, &[state], &rows)?;
            take(&finished, &order, None)?
        }
    };
    cast::cast(&result, to, &options)
}

fn zip_with(left: &ListArray, right: &ListArray, lambda: &LambdaArgument, to: &DataType) -> Result<ArrayRef> {
    let valid: Vec<bool> = (0..left.len()).map(|row| left.is_valid(row) && right.is_valid(row)).collect();
    let (mut l, mut r, mut rows, mut lengths) = (vec![], vec![], vec![], vec![]);
    for (row, valid) in valid.iter().enumerate() {
        if !valid {
            lengths.push(0);
            continue;
        }
        let (own, other) = (range(left, row), range(right, row));
        let length = own.len().max(other.len());
        lengths.push(length);
        for at in 0..length {
            l.push((at < own.len()).then_some((own.start + at) as u64));
            r.push((at < other.len()).then_some((other.start + at) as u64));
            rows.push(row as u64);
        }
    }
    let l = take(left.values(), &UInt64Array::from(l), None)?;
    let r = take(right.values(), &UInt64Array::from(r), None)?;
    let result = evaluate(lambda, &[l, r], &rows)?;
    list_like(result, lengths, Some(NullBuffer::from(valid)), to)
}

fn array_sort(list: &ListArray, by: Option<&LambdaArgument>, to: &DataType) -> Result<ArrayRef> {
    let values = list.values();
    let mut order: Vec<u64> = vec![];
    let natural = if by.is_none() { Some(rows_of(values)?) } else { None };
    for row in (0..list.len()).filter(|row| list.is_valid(*row)) {
        let mut own: Vec<usize> = range(list, row).collect();
        match (&natural, by) {
            (Some(natural), _) => own.sort_by(|a, b| match (values.is_null(*a), values.is_null(*b)) {
                // Nulls are last.
                (false, false) => natural.row(*a).cmp(&natural.row(*b)),
                (x, y) => x.cmp(&y),
            }),
            (None, Some(by)) => {
                let count = own.len();
                if count > SORTED_MAX {
                    return invalid(
                        "COLLECTION_SIZE_LIMIT_EXCEEDED.FUNCTION",
                        format!("`array_sort` with a lambda orders at most {SORTED_MAX} elements, not {count}"),
                    );
                }
                let left: Vec<u64> = own.iter().flat_map(|at| std::iter::repeat_n(*at as u64, count)).collect();
                let right: Vec<u64> = (0..count).flat_map(|_| own.iter().map(|at| *at as u64)).collect();
                let result =
                    evaluate(by, &[taken(values, &left)?, taken(values, &right)?], &vec![row as u64; count * count])?;
                let result = arrow::compute::cast(&result, &DataType::Int32)?;
                let result = result.as_primitive::<Int32Type>();
                if result.null_count() > 0 {
                    return invalid(
                        "COMPARATOR_RETURNS_NULL",
                        "the comparator of `array_sort` returned NULL: it must return a negative number, 0 or a positive one",
                    );
                }
                let mut ranks: Vec<usize> = (0..count).collect();
                // Insertion keeps equal ones in order and needs no total order.
                for at in 1..count {
                    let mut place = at;
                    while place > 0
                        && result.value(ranks[place - 1] * count + ranks[place]).cmp(&0) == Ordering::Greater
                    {
                        ranks.swap(place - 1, place);
                        place -= 1;
                    }
                }
                own = ranks.into_iter().map(|rank| own[rank]).collect();
            }
            (None, None) => {}
        }
        order.extend(own.into_iter().map(|at| at as u64));
    }
    list_like(taken(values, &order)?, lengths(list), list.nulls().cloned(), to)
}

fn entries(kind: Kind, map: &MapArray, lambda: &LambdaArgument, to: &DataType) -> Result<ArrayRef> {
    let (mut at, mut rows, mut lengths) = (vec![], vec![], vec![]);
    for row in 0..map.len() {
        let own = if map.is_valid(row) { map_range(map, row) } else { 0..0 };
        lengths.push(own.len());
        for entry in own {
            at.push(entry as u64);
            rows.push(row as u64);
        }
    }
    let (keys, values) = (taken(map.keys(), &at)?, taken(map.values(), &at)?);
    let result = evaluate(lambda, &[Arc::clone(&keys), Arc::clone(&values)], &rows)?;
    let valid = (0..map.len()).map(|row| map.is_valid(row)).collect();
    match kind {
        Kind::TransformValues => map_of(keys, result, lengths, valid, to),
        Kind::TransformKeys => {
            let known = rows_of(&result)?;
            let mut begin = 0;
            for length in &lengths {
                let mut seen = std::collections::HashSet::new();
                for at in begin..begin + length {
                    if result.is_null(at) {
                        return invalid("NULL_MAP_KEY", "cannot use null as map key");
                    }
                    if !seen.insert(known.row(at)) {
                        let shown = ScalarValue::try_from_array(&result, at)?;
                        return super::collections::duplicate_key(&shown.to_string());
                    }
                }
                begin += length;
            }
            map_of(result, values, lengths, valid, to)
        }
        _ => {
            let keep = booleans(&result)?;
            let mut kept = vec![];
            lengths.iter_mut().for_each(|length| *length = 0);
            for (k, row) in rows.iter().enumerate() {
                if is_true(&keep, k) {
                    kept.push(k as u64);
                    lengths[*row as usize] += 1;
                }
            }
            map_of(taken(&keys, &kept)?, taken(&values, &kept)?, lengths, valid, to)
        }
    }
}

fn map_zip_with(left: &MapArray, right: &MapArray, lambda: &LambdaArgument, to: &DataType) -> Result<ArrayRef> {
    if coercion::tightest(left.keys().data_type(), right.keys().data_type()).as_ref() != Some(left.keys().data_type()) {
        return Err(mismatch("map_zip_with", 1, &ddl::type_name(left.data_type()), right.data_type()));
    }
    let right_keys = relabel(Arc::clone(right.keys()), left.keys().data_type())?;
    let keys = arrow::compute::concat(&[left.keys().as_ref(), right_keys.as_ref()])?;
    let known = rows_of(&keys)?;
    let base = left.keys().len();
    let (mut key_at, mut l, mut r, mut rows, mut lengths) = (vec![], vec![], vec![], vec![], vec![]);
    let valid: Vec<bool> = (0..left.len()).map(|row| left.is_valid(row) && right.is_valid(row)).collect();
    for (row, valid) in valid.iter().enumerate() {
        let before = key_at.len();
        if *valid {
            for at in map_range(left, row) {
                let other = map_range(right, row).find(|other| known.row(base + other) == known.row(at));
                key_at.push(at as u64);
                l.push(Some(at as u64));
                r.push(other.map(|at| at as u64));
                rows.push(row as u64);
            }
            for at in map_range(right, row) {
                if !map_range(left, row).any(|other| known.row(other) == known.row(base + at)) {
                    key_at.push((base + at) as u64);
                    l.push(None);
                    r.push(Some(at as u64));
                    rows.push(row as u64);
                }
            }
        }
        lengths.push(key_at.len() - before);
    }
    let keys = taken(&keys, &key_at)?;
    let l = take(left.values(), &UInt64Array::from(l), None)?;
    let r = take(right.values(), &UInt64Array::from(r), None)?;
    let values = evaluate(lambda, &[Arc::clone(&keys), l, r], &rows)?;
    map_of(keys, values, lengths, valid, to)
}
