//! What generators (`explode`, `inline`, `stack`, `json_tuple`) make of a row, as an array of structs: the analyzer puts
//! `generator_rows(kind, args…)` under an unnesting and takes its fields.

use super::collections::{entry_types, range};
use super::ddl;
use super::native::{Call, Function, Param, Returns, external, invalid, mismatch};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray, UInt64Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::sync::Arc;

/// Makes the rows.
pub const ROWS: &str = "generator_rows";
/// Stands for column `i` of a generator: `generated(kind, i, args…)`; the analyzer takes it away.
pub const COLUMN: &str = "generated";
/// Stands for a generator's whole row, where its columns' names and types are asked for.
pub const ROW: &str = "generated_row";

/// All kinds.
pub const KINDS: &[&str] =
    &["explode", "explode_outer", "posexplode", "posexplode_outer", "inline", "inline_outer", "stack", "json_tuple"];

/// The functions.
pub fn functions() -> Vec<Function> {
    vec![
        Function::new(
            ROWS,
            &[Param::Text],
            Returns::Constant(|types, constants| {
                Ok(ddl::array_of(DataType::Struct(fields(kind(constants)?, &types[1..], &constants[1..])?)))
            }),
            rows,
        )
        .rest(Param::Any)
        .nulls(),
        Function::new(
            COLUMN,
            &[Param::Text, Param::Any],
            Returns::Constant(|types, constants| {
                let fields = fields(kind(constants)?, &types[2..], &constants[2..])?;
                let at = match constants[1] {
                    Some(ScalarValue::Int32(Some(at))) => *at as usize,
                    Some(ScalarValue::Int64(Some(at))) => *at as usize,
                    _ => usize::MAX,
                };
                match fields.get(at) {
                    Some(field) => Ok(field.data_type().clone()),
                    None => {
                        invalid("UDTF_ALIAS_NUMBER_MISMATCH", format!("the generator makes {} columns", fields.len()))
                    }
                }
            }),
            pending,
        )
        .rest(Param::Any)
        .nulls(),
        Function::new(
            ROW,
            &[Param::Text],
            Returns::Constant(|types, constants| {
                Ok(DataType::Struct(fields(kind(constants)?, &types[1..], &constants[1..])?))
            }),
            pending,
        )
        .rest(Param::Any)
        .nulls(),
    ]
}

fn pending(_: &Call<'_>) -> Result<ArrayRef> {
    invalid("UNSUPPORTED_GENERATOR.OUTSIDE_SELECT", "a generator stands in a SELECT list or in LATERAL VIEW alone")
}

fn kind<'a>(constants: &[Option<&'a ScalarValue>]) -> Result<&'a str> {
    let kind = constants.first().copied().flatten().and_then(|kind| kind.try_as_str()).flatten();
    kind.ok_or_else(|| external(Error::internal("a generator without its kind")))
}

/// Names and types of a generator's columns.
///
/// # Errors
/// Arguments that it does not take.
pub fn fields(kind: &str, types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<Fields> {
    let field = |name: &str, data_type: &DataType| Field::new(name, data_type.clone(), true);
    let base = kind.trim_end_matches("_outer");
    let one = || match types {
        [one] => Ok(one),
        _ => invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("the `{kind}` requires 1 parameters but the actual number is {}", types.len()),
        ),
    };
    let mut all = vec![];
    match base {
        "explode" | "posexplode" => {
            if base == "posexplode" {
                all.push(field("pos", &DataType::Int32));
            }
            match one()? {
                DataType::List(item) => all.push(field("col", item.data_type())),
                map @ DataType::Map(..) => {
                    let (key, value) = entry_types(map);
                    all.extend([field("key", &key), field("value", &value)]);
                }
                other => return Err(mismatch(kind, 0, "(\"ARRAY\" or \"MAP\")", other)),
            }
        }
        "inline" => match one()? {
            DataType::List(item) => match item.data_type() {
                DataType::Struct(fields) => {
                    all.extend(fields.iter().map(|own| field(own.name(), own.data_type())));
                }
                _ => return Err(mismatch(kind, 0, "\"ARRAY<STRUCT>\"", one()?)),
            },
            other => return Err(mismatch(kind, 0, "\"ARRAY<STRUCT>\"", other)),
        },
        "stack" => {
            let columns = stack_columns(types, constants)?;
            for at in 0..columns {
                let own = types.iter().skip(1 + at).step_by(columns);
                let Some(common) = super::coercion::common(own) else {
                    return invalid(
                        "DATATYPE_MISMATCH.STACK_COLUMN_DIFF_TYPES",
                        format!("column {at} of `stack` has values of different types"),
                    );
                };
                all.push(field(&format!("col{at}"), &common));
            }
        }
        "json_tuple" => {
            all.extend((0..types.len().saturating_sub(1)).map(|at| field(&format!("c{at}"), &DataType::Utf8)));
        }
        other => return invalid("UNRESOLVED_ROUTINE", format!("there is no generator `{other}`")),
    }
    Ok(all.into())
}

fn stack_columns(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<usize> {
    let rows = match constants.first().copied().flatten() {
        Some(ScalarValue::Int32(Some(rows))) if *rows > 0 => *rows as usize,
        Some(ScalarValue::Int64(Some(rows))) if *rows > 0 => *rows as usize,
        _ => {
            return invalid(
                "DATATYPE_MISMATCH.NON_FOLDABLE_INPUT",
                "`stack` needs a positive literal as its number of rows",
            );
        }
    };
    Ok((types.len() - 1).div_ceil(rows))
}

fn rows(call: &Call<'_>) -> Result<ArrayRef> {
    if call.rows == 0 {
        return Ok(arrow::array::new_empty_array(call.return_type));
    }
    let kind = call.text(0).value(0).to_string();
    let (base, outer) = (kind.trim_end_matches("_outer"), kind.ends_with("_outer"));
    match base {
        "stack" => return stack(call),
        "json_tuple" => return json_tuple(call),
        _ => {}
    }
    let argument = &call.args[1];
    let (values, starts, lengths): (Vec<ArrayRef>, Vec<usize>, Vec<usize>) = match argument.data_type() {
        DataType::List(_) => {
            let list = argument.as_list::<i32>();
            let own = |i: usize| if list.is_valid(i) { range(list, i) } else { 0..0 };
            let values = if base == "inline" {
                let structs = list.values().as_struct();
                let nulls = structs.nulls();
                structs.columns().iter().map(|column| with_nulls(column, nulls)).collect::<Result<Vec<_>>>()?
            } else {
                vec![Arc::clone(list.values())]
            };
            (values, (0..call.rows).map(|i| own(i).start).collect(), (0..call.rows).map(|i| own(i).len()).collect())
        }
        DataType::Map(..) => {
            let map = argument.as_map();
            let own = |i: usize| if map.is_valid(i) { super::collections::map_range(map, i) } else { 0..0 };
            let values = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
            (values, (0..call.rows).map(|i| own(i).start).collect(), (0..call.rows).map(|i| own(i).len()).collect())
        }
        other => return Err(mismatch(&kind, 0, "(\"ARRAY\" or \"MAP\")", other)),
    };
    let places = starts.iter().zip(&lengths).flat_map(|(start, length)| (*start..start + length).map(|at| at as u64));
    let places = places.collect::<UInt64Array>();
    let mut columns: Vec<ArrayRef> = vec![];
    if base == "posexplode" {
        let positions = lengths.iter().flat_map(|length| 0..*length as i32);
        columns.push(Arc::new(Int32Array::from_iter_values(positions)));
    }
    for column in &values {
        columns.push(arrow::compute::take(column, &places, None)?);
    }
    // A row that makes nothing is kept as a null by the outer form.
    let valid = lengths.iter().map(|length| !outer || *length > 0).collect();
    structs(call, columns, lengths, valid)
}

fn with_nulls(column: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(nulls) = nulls else { return Ok(Arc::clone(column)) };
    let missing = arrow::array::BooleanArray::new(!nulls.inner(), None);
    Ok(arrow::compute::nullif(column, &missing)?)
}

fn structs(call: &Call<'_>, columns: Vec<ArrayRef>, lengths: Vec<usize>, valid: Vec<bool>) -> Result<ArrayRef> {
    let DataType::List(field) = call.return_type else { return Err(external(Error::internal("a list was expected"))) };
    let DataType::Struct(fields) = field.data_type() else { return Err(external(Error::internal("structs"))) };
    let columns = columns
        .into_iter()
        .zip(fields)
        .map(|(column, field)| super::cast::relabel(column, field.data_type()))
        .collect::<Result<Vec<_>>>()?;
    let total = lengths.iter().sum();
    let values: ArrayRef = Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, total)?);
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, Some(NullBuffer::from(valid)))?))
}

fn stack(call: &Call<'_>) -> Result<ArrayRef> {
    let count = arrow::compute::cast(&call.args[1], &DataType::Int64)?;
    let count = count.as_primitive::<arrow::datatypes::Int64Type>().value(0).max(1) as usize;
    let width = (call.args.len() - 2).div_ceil(count);
    let DataType::List(field) = call.return_type else { return Err(external(Error::internal("a list was expected"))) };
    let DataType::Struct(fields) = field.data_type() else { return Err(external(Error::internal("structs"))) };
    let options = super::cast::Options::of(&call.context);
    let mut columns = vec![];
    for (at, field) in fields.iter().enumerate() {
        let mut each = vec![];
        for row in 0..count {
            each.push(match call.args.get(2 + row * width + at) {
                Some(value) => super::cast::cast(value, field.data_type(), &options)?,
                None => arrow::array::new_null_array(field.data_type(), call.rows),
            });
        }
        let all: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
        let all = arrow::compute::concat(&all)?;
        let order = (0..call.rows).flat_map(|i| (0..count).map(move |row| (row * call.rows + i) as u64));
        columns.push(arrow::compute::take(&all, &order.collect::<UInt64Array>(), None)?);
    }
    structs(call, columns, vec![count; call.rows], vec![true; call.rows])
}

fn json_tuple(call: &Call<'_>) -> Result<ArrayRef> {
    use serde_json::Value;
    let texts = super::cast::text::of(&call.args[1], &call.context)?;
    let texts = texts.as_string::<i32>();
    let mut columns = vec![vec![]; call.args.len() - 2];
    for i in 0..call.rows {
        let parsed = texts.is_valid(i).then(|| serde_json::from_str::<Value>(texts.value(i)));
        for (at, column) in columns.iter_mut().enumerate() {
            let key = call.args[2 + at].as_string_opt::<i32>();
            let value = match (&parsed, key) {
                (Some(Ok(Value::Object(fields))), Some(key)) if key.is_valid(i) => fields.get(key.value(i)),
                _ => None,
            };
            column.push(match value {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(other) => Some(other.to_string()),
            });
        }
    }
    let columns =
        columns.into_iter().map(|column| Arc::new(arrow::array::StringArray::from(column)) as ArrayRef).collect();
    structs(call, columns, vec![1; call.rows], vec![true; call.rows])
}
