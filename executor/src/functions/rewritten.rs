//! Functions that are other expressions: they have a name and a type here, and the analyzer puts the expression in their
//! place (`if(a, b, c)` is a CASE, `int('7')` a cast).

use super::coercion;
use super::ddl;
use super::native::{Call, Function, Param, Returns, external, invalid};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::sync::Arc;

use Param::{Any, Common, Text};

fn never(_: &Call<'_>) -> Result<ArrayRef> {
    Err(external(Error::internal("a function that the analyzer should have replaced")))
}

fn common_of(types: &[DataType]) -> Result<DataType> {
    match coercion::common(types) {
        Some(common) => Ok(common),
        None => {
            let shown = types.iter().map(ddl::type_name).collect::<Vec<_>>().join(", ");
            invalid("DATATYPE_MISMATCH.DATA_DIFF_TYPES", format!("branches have different types ({shown}): cast them"))
        }
    }
}

/// Of the bounds; the seed is none of them.
fn uniform_type(types: &[DataType]) -> Result<DataType> {
    let bounds = &types[..2.min(types.len())];
    if bounds.contains(&DataType::Null) { Ok(DataType::Float64) } else { common_of(bounds) }
}

/// Types that are functions too: `int('7')`.
pub const CASTS: &[(&str, fn() -> DataType)] = &[
    ("boolean", || DataType::Boolean),
    ("tinyint", || DataType::Int8),
    ("smallint", || DataType::Int16),
    ("int", || DataType::Int32),
    ("bigint", || DataType::Int64),
    ("float", || DataType::Float32),
    ("double", || DataType::Float64),
    ("decimal", || DataType::Decimal128(10, 0)),
    ("string", || DataType::Utf8),
    ("binary", || DataType::Binary),
    ("date", || DataType::Date32),
    ("timestamp", ddl::timestamp),
];

/// The functions.
pub fn functions() -> Vec<Function> {
    const BOOLEAN: Returns = Returns::Type(|| DataType::Boolean);
    let casts = CASTS.iter().map(|(name, make)| Function::new(name, &[Any], Returns::Type(*make), never).nulls());
    let mut all: Vec<Function> = casts.collect();
    all.extend([
        Function::new("if", &[Any, Any, Any], Returns::Of(|types| common_of(&types[1..])), never).nulls(),
        Function::new("nvl2", &[Any, Any, Any], Returns::Of(|types| common_of(&types[1..])), never).nulls(),
        Function::new("isnull", &[Any], BOOLEAN, never).nulls(),
        Function::new("isnotnull", &[Any], BOOLEAN, never).nulls(),
        Function::new("nullifzero", &[Any], Returns::Arg(0), never).nulls(),
        Function::new("zeroifnull", &[Any], Returns::Arg(0), never).nulls(),
        Function::new("equal_null", &[Any, Any], BOOLEAN, never).nulls(),
        Function::new("typeof", &[Any], Returns::Type(|| DataType::Utf8), never).nulls(),
        Function::new("coalesce", &[Common], Returns::Of(common_of), never)
            .rest(Common)
            .nulls()
            .alias(&["nvl", "ifnull"]),
        Function::new("now", &[], Returns::Type(ddl::timestamp), never).alias(&["current_timestamp"]).volatile(),
        Function::new("current_date", &[], Returns::Type(|| DataType::Date32), never).alias(&["curdate"]).volatile(),
        Function::new("localtimestamp", &[], Returns::Type(|| DataType::Timestamp(TimeUnit::Microsecond, None)), never)
            .volatile(),
        Function::new("current_user", &[], Returns::Type(|| DataType::Utf8), never).alias(&["user", "session_user"]),
        Function::new("uniform", &[Any, Any], Returns::Of(uniform_type), never).optional(&[Any]).nulls().volatile(),
        Function::new("nullif", &[Any, Any], Returns::Arg(0), never).nulls(),
        Function::new("array", &[], Returns::Of(|types| Ok(ddl::array_of(common_of(types)?))), array)
            .rest(Common)
            .nulls()
            .alias(&["make_array"]),
        Function::new("assert_true", &[Any], Returns::Type(|| DataType::Null), |call| {
            let checked = arrow::compute::cast(&call.args[0], &DataType::Boolean)?;
            let checked = checked.as_boolean();
            match (0..call.rows).find(|i| checked.is_null(*i) || !checked.value(*i)) {
                Some(i) => {
                    let told = call.has(1).then(|| call.text(1)).filter(|texts| texts.is_valid(i));
                    let told = told.map_or("the condition is not true", |texts| texts.value(i));
                    invalid("USER_RAISED_EXCEPTION", told)
                }
                None => Ok(arrow::array::new_null_array(&DataType::Null, call.rows)),
            }
        })
        .optional(&[Text])
        .nulls(),
        Function::new("raise_error", &[Text], Returns::Type(|| DataType::Null), |call| {
            if call.rows == 0 {
                return Ok(arrow::array::new_null_array(&DataType::Null, 0));
            }
            let told = if call.text(0).is_null(0) { "null" } else { call.text(0).value(0) };
            invalid("USER_RAISED_EXCEPTION", told)
        })
        .nulls()
        .volatile(),
        Function::new("version", &[], Returns::Type(|| DataType::Utf8), |call| {
            Ok(Arc::new(StringArray::from(vec![concat!("4.3.0 headwater-", env!("CARGO_PKG_VERSION")); call.rows])))
        }),
        Function::new("current_catalog", &[], Returns::Type(|| DataType::Utf8), |call| {
            Ok(Arc::new(StringArray::from(vec!["spark_catalog"; call.rows])))
        }),
        Function::new("current_database", &[], Returns::Type(|| DataType::Utf8), |call| {
            Ok(Arc::new(StringArray::from(vec!["default"; call.rows])))
        })
        .alias(&["current_schema"]),
        // A streaming query puts the time of each batch in its place.
        Function::new("batch_time", &[], Returns::Type(ddl::timestamp), never).volatile(),
    ]);
    all
}

fn array(call: &Call<'_>) -> Result<ArrayRef> {
    let count = call.args.len();
    let item = super::collections::item_of(call.return_type);
    let each: Vec<&dyn Array> = call.args.iter().map(AsRef::as_ref).collect();
    let all = if each.is_empty() { arrow::array::new_empty_array(&item) } else { arrow::compute::concat(&each)? };
    let order = (0..call.rows).flat_map(|i| (0..count).map(move |at| (at * call.rows + i) as u64));
    let values = arrow::compute::take(&all, &order.collect::<arrow::array::UInt64Array>(), None)?;
    let DataType::List(field) = call.return_type else { return Err(external(Error::internal("a list was expected"))) };
    let values = super::cast::relabel(values, field.data_type())?;
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(vec![count; call.rows]);
    Ok(Arc::new(arrow::array::ListArray::try_new(Arc::clone(field), offsets, values, None)?))
}
