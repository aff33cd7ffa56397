//! Functions of arrays, maps and structs.

use super::arithmetic::add_interval;
use super::cast::{self, relabel};
use super::coercion::{self, is_text};
use super::datetime::{MICROS_PER_DAY, Zone};
use super::ddl;
use super::native::{Call, Function, Param, Returns, external, invalid, mismatch};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StructArray, UInt64Array, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Field, FieldRef, Fields, Float32Type, Float64Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, TimestampMicrosecondType,
};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use headwater_proto::error::Error;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use Param::{Any, Array as List, Int, Map, Text};

const BOOLEAN: Returns = Returns::Type(|| DataType::Boolean);
const SAME: Returns = Returns::Arg(0);
const ITEM: Returns = Returns::Of(|types| Ok(item_of(&types[0])));

/// The functions.
pub fn functions() -> Vec<Function> {
    vec![
        Function::new("spark_get_item", &[Any, Any], Returns::Of(|types| value_of("[]", types)), |call| {
            item(call, Indexing::FromZero)
        })
        .coerced(|types| keyed("[]", types))
        .with_context(),
        Function::new("element_at", &[Any, Any], Returns::Of(|types| value_of("element_at", types)), |call| {
            item(call, Indexing::FromOne)
        })
        .coerced(|types| keyed("element_at", types))
        .with_context(),
        Function::new("try_element_at", &[Any, Any], Returns::Of(|types| value_of("try_element_at", types)), |call| {
            item(call, Indexing::TryFromOne)
        })
        .coerced(|types| keyed("try_element_at", types)),
        Function::new("get", &[List, Int], ITEM, |call| item(call, Indexing::TryFromZero)),
        Function::new("sort_array", &[List], SAME, |call| {
            sorted(call, |i| if call.has(1) { call.bools(1).value(i) } else { true }, true)
        })
        .optional(&[Param::Boolean]),
        Function::new("array_contains", &[List, Any], BOOLEAN, |call| {
            let all = call.lists(0);
            let (values, keys) = comparable(all.values(), &call.args[1])?;
            call.bool_rows(|i| {
                let found = range(all, i).any(|at| values.row(at) == keys.row(i));
                Ok(if found || !has_null(all, i) { Some(found) } else { None })
            })
        })
        .coerced(|types| list_and_item("array_contains", types)),
        Function::new("array_position", &[List, Any], Returns::Type(|| DataType::Int64), |call| {
            let all = call.lists(0);
            let (values, keys) = comparable(all.values(), &call.args[1])?;
            call.rows::<Int64Type>(|i| {
                let found = range(all, i).position(|at| values.row(at) == keys.row(i));
                Ok(Some(found.map_or(0, |at| at as i64 + 1)))
            })
        })
        .coerced(|types| list_and_item("array_position", types)),
        Function::new("arrays_overlap", &[List, List], BOOLEAN, |call| {
            let (l, r) = (call.lists(0), call.lists(1));
            let (left, right) = comparable(l.values(), r.values())?;
            call.bool_rows(|i| {
                let known: HashSet<_> =
                    range(l, i).filter(|at| present(l.values(), *at)).map(|at| left.row(at)).collect();
                let found = range(r, i).filter(|at| present(r.values(), *at)).any(|at| known.contains(&right.row(at)));
                let nulls = has_null(l, i) || has_null(r, i);
                let both = !range(l, i).is_empty() && !range(r, i).is_empty();
                Ok(if found { Some(true) } else { (!(nulls && both)).then_some(false) })
            })
        })
        .coerced(|types| two_lists("arrays_overlap", types)),
        Function::new("array_union", &[List, List], SAME, |call| sets(call, |_, _| true, true))
            .coerced(|types| two_lists("array_union", types)),
        Function::new("array_intersect", &[List, List], SAME, |call| sets(call, |_, right| right, false))
            .coerced(|types| two_lists("array_intersect", types)),
        Function::new("array_except", &[List, List], SAME, |call| sets(call, |_, right| !right, false))
            .coerced(|types| two_lists("array_except", types)),
        Function::new("array_distinct", &[List], SAME, |call| {
            let all = call.lists(0);
            let values = rows_of(all.values())?;
            gather(call, all.values(), |i| {
                let mut seen = HashSet::new();
                Ok(range(all, i).filter(|at| seen.insert(values.row(*at))).map(Some).collect())
            })
        }),
        Function::new("array_min", &[List], ITEM, |call| extreme(call, false)),
        Function::new("array_max", &[List], ITEM, |call| extreme(call, true)),
        Function::new("slice", &[List, Int, Int], SAME, |call| {
            let all = call.lists(0);
            gather(call, all.values(), |i| {
                let (from, count) = (call.ints(1).value(i), call.ints(2).value(i));
                if from == 0 {
                    return invalid(
                        "INVALID_PARAMETER_VALUE.START",
                        "`slice` counts from 1 or from the end: start is 0",
                    );
                }
                if count < 0 {
                    return invalid("INVALID_PARAMETER_VALUE.LENGTH", format!("`slice` of length {count}"));
                }
                let own = range(all, i);
                let begin = if from > 0 { i64::from(from) - 1 } else { own.len() as i64 + i64::from(from) };
                if begin < 0 {
                    return Ok(vec![]);
                }
                Ok(own.skip(begin as usize).take(count as usize).map(Some).collect())
            })
        }),
        Function::new("array_append", &[List, Any], SAME, |call| {
            let all = call.lists(0);
            let values = arrow::compute::concat(&[all.values().as_ref(), call.args[1].as_ref()])?;
            let base = all.values().len();
            gather_where(
                call,
                &values,
                |i| all.is_valid(i),
                |i| Ok(range(all, i).map(Some).chain([Some(base + i)]).collect()),
            )
        })
        .nulls()
        .coerced(|types| list_and_item("array_append", types)),
        Function::new("array_prepend", &[List, Any], SAME, |call| {
            let all = call.lists(0);
            let values = arrow::compute::concat(&[all.values().as_ref(), call.args[1].as_ref()])?;
            let base = all.values().len();
            gather_where(
                call,
                &values,
                |i| all.is_valid(i),
                |i| Ok([Some(base + i)].into_iter().chain(range(all, i).map(Some)).collect()),
            )
        })
        .nulls()
        .coerced(|types| list_and_item("array_prepend", types)),
        Function::new("array_insert", &[List, Int, Any], SAME, insert).nulls().coerced(|types| match types {
            [list, at, item] => {
                let both = list_and_item("array_insert", &[list.clone(), item.clone()])?;
                if !at.is_integer() {
                    return Err(mismatch("array_insert", 1, "\"INT\"", at));
                }
                let [list, item] = [both[0].clone(), both[1].clone()];
                Ok(vec![list, DataType::Int32, item])
            }
            _ => count("array_insert", 3, types.len()),
        }),
        Function::new("array_remove", &[List, Any], SAME, |call| {
            let all = call.lists(0);
            let (values, keys) = comparable(all.values(), &call.args[1])?;
            gather(call, all.values(), |i| {
                Ok(range(all, i).filter(|at| values.row(*at) != keys.row(i)).map(Some).collect())
            })
        })
        .coerced(|types| list_and_item("array_remove", types)),
        Function::new("array_compact", &[List], SAME, |call| {
            let all = call.lists(0);
            gather(call, all.values(), |i| {
                Ok(range(all, i).filter(|at| present(all.values(), *at)).map(Some).collect())
            })
        }),
        Function::new("array_repeat", &[Any, Int], Returns::Of(|types| Ok(ddl::array_of(types[0].clone()))), |call| {
            let counts = call.ints(1);
            gather_where(
                call,
                &call.args[0],
                |i| counts.is_valid(i),
                |i| Ok(vec![Some(i); counts.value(i).max(0) as usize]),
            )
        })
        .nulls(),
        Function::new("reverse", &[Any], SAME, |call| match call.args[0].data_type() {
            DataType::List(_) => {
                let all = call.lists(0);
                gather(call, all.values(), |i| Ok(range(all, i).rev().map(Some).collect()))
            }
            DataType::Binary => call.binary_rows(|i| Ok(Some(call.binary(0).value(i).iter().rev().copied().collect()))),
            _ => call.text_rows(|i| Ok(Some(call.text(0).value(i).chars().rev().collect()))),
        })
        .coerced(|types| match types {
            [list @ DataType::List(_)] => Ok(vec![list.clone()]),
            [binary] if coercion::is_binary(binary) => Ok(vec![DataType::Binary]),
            [_] => Ok(vec![DataType::Utf8]),
            _ => count("reverse", 1, types.len()),
        }),
        Function::new("flatten", &[List], ITEM, flatten),
        Function::new("array_join", &[List, Text], Returns::Type(|| DataType::Utf8), |call| {
            call.text_rows(|i| {
                let items = call.lists(0).value(i);
                let items = items.as_string::<i32>();
                let shown = |item: Option<&str>| match item {
                    Some(item) => Some(item.to_string()),
                    None => call.has(2).then(|| call.text(2).value(i).to_string()),
                };
                Ok(Some(items.iter().filter_map(shown).collect::<Vec<_>>().join(call.text(1).value(i))))
            })
        })
        .optional(&[Text])
        .coerced(|types| {
            let mut wanted = vec![ddl::array_of(DataType::Utf8)];
            wanted.extend(types.iter().skip(1).map(|_| DataType::Utf8));
            match types.first() {
                Some(DataType::List(_) | DataType::Null) if (2..=3).contains(&types.len()) => Ok(wanted),
                Some(other) => Err(mismatch("array_join", 0, "\"ARRAY\"", other)),
                None => count("array_join", 2, 0),
            }
        }),
        Function::new("arrays_zip", &[], Returns::Of(zipped), zip).rest(List),
        Function::new("sequence", &[Any, Any], Returns::Of(|types| Ok(ddl::array_of(types[0].clone()))), sequence)
            .optional(&[Any])
            .coerced(sequence_types)
            .with_context(),
        Function::new("size", &[Any], Returns::Type(|| DataType::Int32), |call| {
            let array = &call.args[0];
            call.rows::<Int32Type>(|i| {
                if array.is_null(i) || *array.data_type() == DataType::Null {
                    return Ok((!call.context.ansi).then_some(-1));
                }
                Ok(Some(match array.data_type() {
                    DataType::Map(..) => array.as_map().value_length(i),
                    DataType::List(_) => array.as_list::<i32>().value_length(i),
                    _ => 0,
                }))
            })
        })
        .nulls()
        .alias(&["cardinality"])
        .coerced(|types| match types {
            [one @ (DataType::List(_) | DataType::Map(..) | DataType::Null)] => Ok(vec![one.clone()]),
            [other] => Err(mismatch("size", 0, "(\"ARRAY\" or \"MAP\")", other)),
            _ => count("size", 1, types.len()),
        })
        .with_context(),
        Function::new("array_size", &[List], Returns::Type(|| DataType::Int32), |call| {
            call.rows::<Int32Type>(|i| Ok(Some(call.lists(0).value_length(i))))
        }),
        // Maps.
        Function::new("map", &[], Returns::Of(map_type), make_map)
            .rest(Any)
            .nulls()
            .coerced(map_types)
            .alias(&["spark_map"]),
        Function::new(
            "map_from_arrays",
            &[List, List],
            Returns::Of(|types| Ok(ddl::map_of(item_of(&types[0]), item_of(&types[1])))),
            |call| {
                let (keys, values) = (call.lists(0), call.lists(1));
                let rows = (0..call.rows).map(|i| (!call.skip(i)).then(|| (range(keys, i), range(values, i))));
                map_from(keys.values(), values.values(), rows, call)
            },
        ),
        Function::new(
            "map_from_entries",
            &[List],
            Returns::Of(|types| match item_of(&types[0]) {
                DataType::Struct(fields) if fields.len() == 2 => {
                    Ok(ddl::map_of(fields[0].data_type().clone(), fields[1].data_type().clone()))
                }
                other => Err(mismatch("map_from_entries", 0, "\"ARRAY\" of pairs", &other)),
            }),
            |call| {
                let all = call.lists(0);
                let entries = all.values().as_struct();
                let rows = (0..call.rows).map(|i| {
                    let whole = !call.skip(i) && range(all, i).all(|at| entries.is_valid(at));
                    whole.then(|| (range(all, i), range(all, i)))
                });
                map_from(entries.column(0), entries.column(1), rows, call)
            },
        ),
        Function::new("map_keys", &[Map], Returns::Of(|types| Ok(ddl::array_of(entry_types(&types[0]).0))), |call| {
            let maps = call.maps(0);
            gather(call, maps.keys(), |i| Ok(map_range(maps, i).map(Some).collect()))
        }),
        Function::new("map_values", &[Map], Returns::Of(|types| Ok(ddl::array_of(entry_types(&types[0]).1))), |call| {
            let maps = call.maps(0);
            gather(call, maps.values(), |i| Ok(map_range(maps, i).map(Some).collect()))
        }),
        Function::new(
            "map_entries",
            &[Map],
            Returns::Of(|types| {
                let (key, value) = entry_types(&types[0]);
                let fields = vec![Field::new("key", key, false), Field::new("value", value, true)];
                Ok(ddl::array_of(DataType::Struct(fields.into())))
            }),
            |call| {
                let maps = call.maps(0);
                let entries: ArrayRef = Arc::new(maps.entries().clone());
                gather(call, &entries, |i| Ok(map_range(maps, i).map(Some).collect()))
            },
        ),
        Function::new("map_contains_key", &[Map, Any], BOOLEAN, |call| {
            let maps = call.maps(0);
            let (values, keys) = comparable(maps.keys(), &call.args[1])?;
            call.bool_rows(|i| Ok(Some(map_range(maps, i).any(|at| values.row(at) == keys.row(i)))))
        })
        .coerced(|types| keyed("map_contains_key", types)),
        Function::new(
            "map_concat",
            &[],
            Returns::Of(|types| {
                Ok(types.first().cloned().unwrap_or_else(|| ddl::map_of(DataType::Utf8, DataType::Utf8)))
            }),
            map_concat,
        )
        .rest(Map)
        .coerced(|types| match coercion::common(types) {
            Some(common) => Ok(vec![common; types.len()]),
            None => invalid("DATATYPE_MISMATCH.MAP_CONCAT_DIFF_TYPES", "`map_concat` takes maps of one type"),
        }),
        Function::new(
            "get_field_of_each",
            &[List, Text],
            Returns::Constant(|types, constants| {
                let (_, data_type) = field_of_each(types, constants)?;
                Ok(ddl::array_of(data_type))
            }),
            |call| {
                let all = call.lists(0);
                let structs = all.values().as_struct();
                let name = if call.rows == 0 { "" } else { call.text(1).value(0) };
                let Some(at) = structs.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name)) else {
                    return Ok(arrow::array::new_null_array(call.return_type, call.rows));
                };
                let column = structs.column(at);
                gather(call, column, |i| Ok(range(all, i).map(|at| structs.is_valid(at).then_some(at)).collect()))
            },
        ),
    ]
}

fn count<T>(name: &str, expect: usize, actual: usize) -> Result<T> {
    invalid(
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
        format!("the `{name}` requires {expect} parameters but the actual number is {actual}"),
    )
}

/// The type of an array's elements.
pub fn item_of(list: &DataType) -> DataType {
    match list {
        DataType::List(item) => item.data_type().clone(),
        other => other.clone(),
    }
}

/// The types of a map's keys and values.
pub fn entry_types(map: &DataType) -> (DataType, DataType) {
    match map {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => (fields[0].data_type().clone(), fields[1].data_type().clone()),
            other => (other.clone(), other.clone()),
        },
        other => (other.clone(), other.clone()),
    }
}

/// Where the elements of row `i` stand among all values.
pub fn range(list: &ListArray, i: usize) -> Range<usize> {
    list.value_offsets()[i] as usize..list.value_offsets()[i + 1] as usize
}

/// As [`range`], of entries.
pub fn map_range(map: &MapArray, i: usize) -> Range<usize> {
    map.value_offsets()[i] as usize..map.value_offsets()[i + 1] as usize
}

fn has_null(list: &ListArray, i: usize) -> bool {
    range(list, i).any(|at| !present(list.values(), at))
}

/// Whether a value is none of NULL. Of an array of untyped nulls each is, although it marks none.
fn present(values: &ArrayRef, at: usize) -> bool {
    *values.data_type() != DataType::Null && values.is_valid(at)
}

/// Values in a form that compares and hashes; nulls are equal and first.
pub fn rows_of(values: &ArrayRef) -> Result<Rows> {
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    Ok(converter.convert_columns(&[Arc::clone(values)])?)
}

fn comparable(one: &ArrayRef, other: &ArrayRef) -> Result<(Rows, Rows)> {
    let other = relabel(Arc::clone(other), one.data_type())?;
    let converter = RowConverter::new(vec![SortField::new(one.data_type().clone())])?;
    Ok((converter.convert_columns(&[Arc::clone(one)])?, converter.convert_columns(&[other])?))
}

fn list_and_item(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [list, item] = types else { return count(name, 2, types.len()) };
    let own = match list {
        DataType::List(own) => own.data_type(),
        DataType::Null => &DataType::Null,
        other => return Err(mismatch(name, 0, "\"ARRAY\"", other)),
    };
    match coercion::tightest(own, item).or_else(|| coercion::common([own, item])) {
        Some(common) => Ok(vec![ddl::array_of(common.clone()), common]),
        None => invalid(
            "DATATYPE_MISMATCH.ARRAY_FUNCTION_DIFF_TYPES",
            format!("`{name}` of ARRAY<{}> takes no {}", ddl::type_name(own), ddl::type_name(item)),
        ),
    }
}

fn two_lists(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() != 2 {
        return count(name, 2, types.len());
    }
    for (i, one) in types.iter().enumerate() {
        if !matches!(one, DataType::List(_) | DataType::Null) {
            return Err(mismatch(name, i, "\"ARRAY\"", one));
        }
    }
    match coercion::common(types) {
        Some(common @ DataType::List(_)) => Ok(vec![common; 2]),
        _ => invalid("DATATYPE_MISMATCH.BINARY_ARRAY_DIFF_TYPES", format!("`{name}` takes arrays of one type")),
    }
}

/// An array and an INT, or a map and its key.
fn keyed(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let [container, key] = types else { return count(name, 2, types.len()) };
    match container {
        DataType::List(_) if key.is_integer() || *key == DataType::Null => Ok(vec![container.clone(), DataType::Int32]),
        DataType::List(_) => Err(mismatch(name, 1, "\"INT\"", key)),
        DataType::Map(..) => {
            let (own, _) = entry_types(container);
            let fits = *key == own || is_text(key) && is_text(&own) || coercion::wider(key, &own, true).is_some();
            if fits { Ok(vec![container.clone(), own]) } else { Err(mismatch(name, 1, &ddl::type_name(&own), key)) }
        }
        DataType::Null => Ok(vec![ddl::array_of(DataType::Null), DataType::Int32]),
        other if name == "[]" => invalid(
            "INVALID_EXTRACT_BASE_FIELD_TYPE",
            format!(
                "cannot extract a value from {}: it needs a complex type (STRUCT, ARRAY, MAP)",
                ddl::type_name(other)
            ),
        ),
        other => Err(mismatch(name, 0, "(\"ARRAY\" or \"MAP\")", other)),
    }
}

fn value_of(name: &str, types: &[DataType]) -> Result<DataType> {
    match &types[0] {
        DataType::List(item) => Ok(item.data_type().clone()),
        map @ DataType::Map(..) => Ok(entry_types(map).1),
        other => Err(mismatch(name, 0, "(\"ARRAY\" or \"MAP\")", other)),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Indexing {
    FromZero,
    TryFromZero,
    FromOne,
    TryFromOne,
}

fn item(call: &Call<'_>, indexing: Indexing) -> Result<ArrayRef> {
    let strict = call.context.ansi && matches!(indexing, Indexing::FromZero | Indexing::FromOne);
    if let DataType::Map(..) = call.args[0].data_type() {
        let maps = call.maps(0);
        let (known, keys) = comparable(maps.keys(), &call.args[1])?;
        let places = (0..call.rows).map(|i| {
            let found = (!call.skip(i)).then(|| map_range(maps, i).find(|at| known.row(*at) == keys.row(i)));
            found.flatten().map(|at| at as u64)
        });
        return Ok(take(maps.values(), &places.collect::<UInt64Array>(), None)?);
    }
    let (lists, at) = (call.lists(0), call.ints(1));
    let places = (0..call.rows).map(|i| {
        if call.skip(i) {
            return Ok(None);
        }
        let (own, at) = (range(lists, i), i64::from(at.value(i)));
        let length = own.len() as i64;
        let place = match indexing {
            Indexing::FromZero | Indexing::TryFromZero => at,
            Indexing::FromOne | Indexing::TryFromOne if at == 0 => {
                return invalid(
                    "INVALID_INDEX_OF_ZERO",
                    "the index 0 is invalid: an index shall be either < 0 or > 0 (the first element has index 1)",
                );
            }
            Indexing::FromOne | Indexing::TryFromOne if at > 0 => at - 1,
            Indexing::FromOne | Indexing::TryFromOne => length + at,
        };
        if (0..length).contains(&place) {
            return Ok(Some((own.start as i64 + place) as u64));
        }
        if !strict {
            return Ok(None);
        }
        let class =
            if indexing == Indexing::FromOne { "INVALID_ARRAY_INDEX_IN_ELEMENT_AT" } else { "INVALID_ARRAY_INDEX" };
        invalid(
            class,
            format!("the index {at} is out of bounds: the array has {length} elements; use `get` or `try_element_at`"),
        )
    });
    let places = places.collect::<Result<UInt64Array>>()?;
    Ok(take(lists.values(), &places, None)?)
}

/// Lists of values at these places, by row; the call is strict.
pub(super) fn gather(
    call: &Call<'_>,
    values: &ArrayRef,
    places: impl FnMut(usize) -> Result<Vec<Option<usize>>>,
) -> Result<ArrayRef> {
    gather_where(call, values, |i| !call.skip(i), places)
}

fn gather_where(
    call: &Call<'_>,
    values: &ArrayRef,
    valid: impl Fn(usize) -> bool,
    mut places: impl FnMut(usize) -> Result<Vec<Option<usize>>>,
) -> Result<ArrayRef> {
    let mut all: Vec<Option<u64>> = vec![];
    let mut lengths = Vec::with_capacity(call.rows);
    let mut nulls = Vec::with_capacity(call.rows);
    for i in 0..call.rows {
        let is_valid = valid(i);
        let own = if is_valid { places(i)? } else { vec![] };
        nulls.push(is_valid);
        lengths.push(own.len());
        all.extend(own.into_iter().map(|at| at.map(|at| at as u64)));
    }
    let taken = take(values, &UInt64Array::from(all), None)?;
    list(taken, lengths, nulls, call.return_type)
}

fn list(values: ArrayRef, lengths: Vec<usize>, valid: Vec<bool>, to: &DataType) -> Result<ArrayRef> {
    let DataType::List(field) = to else { return Err(external(Error::internal("a list was expected"))) };
    let values = relabel(values, field.data_type())?;
    let field: FieldRef = Arc::clone(field);
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, Some(NullBuffer::from(valid)))?))
}

/// Lists out of each row's values.
pub fn list_of(rows: Vec<Option<ArrayRef>>, to: &DataType) -> Result<ArrayRef> {
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, |row| row.len())).collect();
    let valid = rows.iter().map(Option::is_some).collect();
    let each: Vec<&dyn Array> = rows.iter().flatten().map(AsRef::as_ref).collect();
    let values = if each.is_empty() { new_empty_array(&item_of(to)) } else { arrow::compute::concat(&each)? };
    list(values, lengths, valid, to)
}

/// Elements in order; `nulls_low` puts nulls with the smallest.
pub fn sorted(call: &Call<'_>, ascending: impl Fn(usize) -> bool, nulls_low: bool) -> Result<ArrayRef> {
    let all = call.lists(0);
    let values = rows_of(all.values())?;
    gather(call, all.values(), |i| {
        let mut order: Vec<usize> = range(all, i).collect();
        let ascending = ascending(i);
        order.sort_by(|a, b| {
            let (x, y) = (all.values().is_null(*a), all.values().is_null(*b));
            let by_null = if nulls_low { y.cmp(&x) } else { x.cmp(&y) };
            let by_value = if x || y { by_null } else { values.row(*a).cmp(&values.row(*b)) };
            if ascending { by_value } else { by_value.reverse() }
        });
        Ok(order.into_iter().map(Some).collect())
    })
}

fn sets(call: &Call<'_>, keep: impl Fn(bool, bool) -> bool, union: bool) -> Result<ArrayRef> {
    let (l, r) = (call.lists(0), call.lists(1));
    let both = arrow::compute::concat(&[l.values().as_ref(), r.values().as_ref()])?;
    // To a union 0.0 and -0.0 are one.
    let values = if union { rows_of(&without_negative_zero(&both))? } else { rows_of(&both)? };
    let base = l.values().len();
    gather(call, &both, |i| {
        let right: HashSet<_> = range(r, i).map(|at| values.row(base + at)).collect();
        let mut seen = HashSet::new();
        let own = range(l, i).filter(|at| keep(true, right.contains(&values.row(*at))));
        let more = range(r, i).map(|at| base + at).filter(|_| union);
        Ok(own.chain(more).filter(|at| seen.insert(values.row(*at))).map(Some).collect())
    })
}

fn without_negative_zero(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(|n| n + 0.0)),
        DataType::Float32 => Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(|n| n + 0.0)),
        _ => Arc::clone(values),
    }
}

fn extreme(call: &Call<'_>, most: bool) -> Result<ArrayRef> {
    let all = call.lists(0);
    let values = rows_of(all.values())?;
    let places = (0..call.rows).map(|i| {
        if call.skip(i) {
            return None;
        }
        let own = range(all, i).filter(|at| present(all.values(), *at));
        let by = |a: &usize, b: &usize| values.row(*a).cmp(&values.row(*b));
        if most { own.max_by(by) } else { own.min_by(by) }.map(|at| at as u64)
    });
    Ok(take(all.values(), &places.collect::<UInt64Array>(), None)?)
}

fn insert(call: &Call<'_>) -> Result<ArrayRef> {
    let (all, at) = (call.lists(0), call.ints(1));
    let values = arrow::compute::concat(&[all.values().as_ref(), call.args[2].as_ref()])?;
    let base = all.values().len();
    gather_where(
        call,
        &values,
        |i| all.is_valid(i) && at.is_valid(i),
        |i| {
            let mut own: Vec<Option<usize>> = range(all, i).map(Some).collect();
            let at = i64::from(at.value(i));
            let length = own.len() as i64;
            match at {
                0 => {
                    return invalid(
                        "INVALID_INDEX_OF_ZERO",
                        "the index 0 is invalid: an index shall be either < 0 or > 0",
                    );
                }
                at if at > 0 => {
                    own.resize(own.len().max(at as usize - 1), None);
                    own.insert(at as usize - 1, Some(base + i));
                }
                at => {
                    // -1 is behind the last.
                    let place = length + at + 1;
                    if place >= 0 {
                        own.insert(place as usize, Some(base + i));
                    } else {
                        let mut padded = vec![Some(base + i)];
                        padded.extend(std::iter::repeat_n(None, (-place) as usize));
                        padded.extend(own);
                        own = padded;
                    }
                }
            }
            Ok(own)
        },
    )
}

fn flatten(call: &Call<'_>) -> Result<ArrayRef> {
    let outer = call.lists(0);
    let Some(inner) = outer.values().as_list_opt::<i32>() else {
        return Err(mismatch("flatten", 0, "\"ARRAY\" of \"ARRAY\"", call.args[0].data_type()));
    };
    gather_where(
        call,
        inner.values(),
        |i| outer.is_valid(i) && range(outer, i).all(|at| inner.is_valid(at)),
        |i| Ok(range(outer, i).flat_map(|at| range(inner, at)).map(Some).collect()),
    )
}

fn zipped(types: &[DataType]) -> Result<DataType> {
    let fields: Fields =
        types.iter().enumerate().map(|(i, one)| Field::new(i.to_string(), item_of(one), true)).collect();
    Ok(ddl::array_of(DataType::Struct(fields)))
}

fn zip(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::List(field) = call.return_type else { return Err(external(Error::internal("a list was expected"))) };
    let DataType::Struct(fields) = field.data_type() else { return Err(external(Error::internal("structs"))) };
    let lists: Vec<&ListArray> = (0..call.args.len()).map(|at| call.lists(at)).collect();
    let longest = |i: usize| lists.iter().map(|list| list.value_length(i)).max().unwrap_or(0) as usize;
    let lengths: Vec<usize> = (0..call.rows).map(|i| if call.skip(i) { 0 } else { longest(i) }).collect();
    let columns = lists
        .iter()
        .zip(fields)
        .map(|(list, field)| {
            let places = lengths.iter().enumerate().flat_map(|(i, length)| {
                let own = range(list, i);
                (0..*length).map(move |at| (at < own.len()).then_some((own.start + at) as u64))
            });
            relabel(take(list.values(), &places.collect::<UInt64Array>(), None)?, field.data_type())
        })
        .collect::<Result<Vec<_>>>()?;
    let total = lengths.iter().sum();
    let values: ArrayRef = Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, total)?);
    let valid = (0..call.rows).map(|i| !call.skip(i)).collect();
    self::list(values, lengths, valid, call.return_type)
}

fn sequence_types(types: &[DataType]) -> Result<Vec<DataType>> {
    use DataType as T;
    let (from, to) = match types {
        [from, to] | [from, to, _] => (from, to),
        _ => return count("sequence", 2, types.len()),
    };
    let common = match coercion::tightest(from, to) {
        Some(T::Null) => T::Int32,
        Some(common) if common.is_integer() || matches!(common, T::Date32 | T::Timestamp(..)) => common,
        _ => {
            return invalid(
                "DATATYPE_MISMATCH.SEQUENCE_WRONG_INPUT_TYPES",
                format!("`sequence` goes from {} to no {}", ddl::type_name(from), ddl::type_name(to)),
            );
        }
    };
    let mut wanted = vec![common.clone(), common.clone()];
    if let Some(step) = types.get(2) {
        wanted.push(match (&common, step) {
            (common, step) if common.is_integer() && step.is_integer() => common.clone(),
            (common, step @ (T::Interval(_) | T::Duration(_))) if !common.is_integer() => step.clone(),
            (_, step) => return Err(mismatch("sequence", 2, "step", step)),
        });
    }
    Ok(wanted)
}

/// As Spark: an array of more elements than an INT counts is refused, and so is what does not fit into memory.
const SEQUENCE_MAX: i64 = 100_000_000;

fn sequence(call: &Call<'_>) -> Result<ArrayRef> {
    use DataType as T;
    let wrong = || -> Result<()> {
        invalid("ILLEGAL_SEQUENCE_BOUNDARIES", "the boundaries of `sequence` do not go with its step")
    };
    let item = item_of(call.return_type);
    let mut rows: Vec<Option<ArrayRef>> = Vec::with_capacity(call.rows);
    for i in 0..call.rows {
        if call.skip(i) {
            rows.push(None);
            continue;
        }
        let mut values: Vec<i64> = vec![];
        if item.is_integer() {
            let ends = |at: usize| -> Result<i64> {
                let one = arrow::compute::cast(&call.args[at].slice(i, 1), &T::Int64)?;
                Ok(one.as_primitive::<Int64Type>().value(0))
            };
            let (from, to) = (ends(0)?, ends(1)?);
            let step = if call.has(2) {
                ends(2)?
            } else if from <= to {
                1
            } else {
                -1
            };
            if step == 0 && from != to || step > 0 && from > to || step < 0 && from < to {
                wrong()?;
            }
            let length = if step == 0 { 1 } else { (to - from) / step + 1 };
            too_long(length)?;
            values.extend((0..length).map(|k| from + k * step));
            let array: ArrayRef = Arc::new(arrow::array::Int64Array::from(values));
            rows.push(Some(arrow::compute::cast(&array, &item)?));
            continue;
        }
        let date = item == T::Date32;
        let ends = |at: usize| match date {
            true => i64::from(call.dates(at).value(i)) * MICROS_PER_DAY,
            false => call.times(at).value(i),
        };
        let (from, to) = (ends(0), ends(1));
        let (months, days, micros) = if !call.has(2) {
            (0, if from <= to { 1 } else { -1 }, 0)
        } else {
            match call.args[2].data_type() {
                T::Interval(IntervalUnit::YearMonth) => {
                    (call.args[2].as_primitive::<IntervalYearMonthType>().value(i), 0, 0)
                }
                T::Interval(_) => {
                    let step = call.args[2].as_primitive::<IntervalMonthDayNanoType>().value(i);
                    (step.months, step.days, step.nanoseconds / 1000)
                }
                _ => {
                    let step = call.args[2].as_primitive::<DurationMicrosecondType>().value(i);
                    (0, (step / MICROS_PER_DAY) as i32, step % MICROS_PER_DAY)
                }
            }
        };
        let zone = if date || matches!(item, T::Timestamp(_, None)) { Zone::UTC } else { call.context.zone };
        let sign = (i64::from(months) + i64::from(days) + micros).signum();
        if sign == 0 && from != to || sign > 0 && from > to || sign < 0 && from < to {
            wrong()?;
        }
        let mut k = 0_i32;
        while let Some(next) = add_interval(from, months * k, days * k, micros * i64::from(k), &zone) {
            if (next - to) * sign > 0 || sign == 0 && k > 0 {
                break;
            }
            too_long(i64::from(k))?;
            values.push(next);
            k += 1;
        }
        let array: ArrayRef = match date {
            true => {
                let days = values.into_iter().map(|micros| micros.div_euclid(MICROS_PER_DAY) as i32);
                Arc::new(days.map(Some).collect::<arrow::array::PrimitiveArray<Date32Type>>())
            }
            false => {
                let times = arrow::array::PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(values);
                Arc::new(times.with_data_type(item.clone()))
            }
        };
        rows.push(Some(array));
    }
    list_of(rows, call.return_type)
}

fn too_long(length: i64) -> Result<()> {
    if length > SEQUENCE_MAX {
        return invalid(
            "COLLECTION_SIZE_LIMIT_EXCEEDED.PARAMETER",
            format!("`sequence` of {length} elements: at most {SEQUENCE_MAX}"),
        );
    }
    Ok(())
}

fn map_types(types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() % 2 == 1 {
        return invalid(
            "WRONG_NUM_ARGS.WITHOUT_SUGGESTION",
            format!("the `map` requires 2n (n > 0) parameters but the actual number is {}", types.len()),
        );
    }
    let of = |offset: usize| coercion::common(types.iter().skip(offset).step_by(2));
    match (of(0), of(1)) {
        (Some(key), Some(value)) => {
            Ok((0..types.len()).map(|i| if i % 2 == 0 { key.clone() } else { value.clone() }).collect())
        }
        (None, _) => invalid("DATATYPE_MISMATCH.CREATE_MAP_KEY_DIFF_TYPES", "keys of a map must have one type"),
        (_, None) => invalid("DATATYPE_MISMATCH.CREATE_MAP_VALUE_DIFF_TYPES", "values of a map must have one type"),
    }
}

fn map_type(types: &[DataType]) -> Result<DataType> {
    match types {
        [] => Ok(ddl::map_of(DataType::Null, DataType::Null)),
        [key, value, ..] => Ok(ddl::map_of(key.clone(), value.clone())),
        [_] => count("map", 2, 1),
    }
}

fn make_map(call: &Call<'_>) -> Result<ArrayRef> {
    let pairs = call.args.len() / 2;
    let (key_type, value_type) = entry_types(call.return_type);
    let columns = |offset: usize, data_type: &DataType| -> Result<ArrayRef> {
        let each: Vec<&dyn Array> = call.args.iter().skip(offset).step_by(2).map(AsRef::as_ref).collect();
        let all = if each.is_empty() { new_empty_array(data_type) } else { arrow::compute::concat(&each)? };
        let order = (0..call.rows).flat_map(|i| (0..pairs).map(move |pair| (pair * call.rows + i) as u64));
        Ok(take(&all, &order.collect::<UInt64Array>(), None)?)
    };
    let (keys, values) = (columns(0, &key_type)?, columns(1, &value_type)?);
    let rows = (0..call.rows).map(|i| Some((i * pairs..(i + 1) * pairs, i * pairs..(i + 1) * pairs)));
    map_from(&keys, &values, rows, call)
}

/// `DUPLICATED_MAP_KEY`.
pub fn duplicate_key<T>(key: &str) -> Result<T> {
    invalid(
        "DUPLICATED_MAP_KEY",
        format!("duplicate map key {key} was found: check the data, or set \"spark.sql.mapKeyDedupPolicy\" in Spark"),
    )
}

/// Maps of keys and values at these places. Keys must be there, and differ.
pub fn map_from(
    keys: &ArrayRef,
    values: &ArrayRef,
    rows: impl Iterator<Item = Option<(Range<usize>, Range<usize>)>>,
    call: &Call<'_>,
) -> Result<ArrayRef> {
    let comparable = rows_of(keys)?;
    let (mut key_places, mut value_places, mut lengths, mut valid) = (vec![], vec![], vec![], vec![]);
    for row in rows {
        valid.push(row.is_some());
        let Some((own_keys, own_values)) = row else {
            lengths.push(0);
            continue;
        };
        if own_keys.len() != own_values.len() {
            return invalid(
                "MAP_KEY_VALUE_DIFF_SIZES",
                "the key array and value array of a map must have the same length",
            );
        }
        let mut seen = HashSet::new();
        for at in own_keys.clone() {
            if keys.is_null(at) {
                return invalid("NULL_MAP_KEY", "cannot use null as map key");
            }
            if !seen.insert(comparable.row(at)) {
                let shown = cast::text::of(&keys.slice(at, 1), &call.context)?;
                return duplicate_key(shown.as_string::<i32>().value(0));
            }
        }
        lengths.push(own_keys.len());
        key_places.extend(own_keys.map(|at| at as u64));
        value_places.extend(own_values.map(|at| at as u64));
    }
    let keys = take(keys, &UInt64Array::from(key_places), None)?;
    let values = take(values, &UInt64Array::from(value_places), None)?;
    map_of(keys, values, lengths, valid, call.return_type)
}

/// A map array out of its parts.
pub fn map_of(
    keys: ArrayRef,
    values: ArrayRef,
    lengths: Vec<usize>,
    valid: Vec<bool>,
    to: &DataType,
) -> Result<ArrayRef> {
    let DataType::Map(field, sorted) = to else { return Err(external(Error::internal("a map was expected"))) };
    let DataType::Struct(fields) = field.data_type() else { return Err(external(Error::internal("entries"))) };
    let columns = vec![relabel(keys, fields[0].data_type())?, relabel(values, fields[1].data_type())?];
    let entries = StructArray::try_new(fields.clone(), columns, None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, Some(NullBuffer::from(valid)), *sorted)?))
}

fn map_concat(call: &Call<'_>) -> Result<ArrayRef> {
    let (key_type, value_type) = entry_types(call.return_type);
    let maps: Vec<&MapArray> = (0..call.args.len()).map(|at| call.maps(at)).collect();
    let parts = |f: &dyn Fn(&MapArray) -> ArrayRef, data_type: &DataType| -> Result<(ArrayRef, Vec<usize>)> {
        let each: Vec<ArrayRef> = maps.iter().map(|map| f(map)).collect();
        let mut bases = vec![];
        let mut base = 0;
        for one in &each {
            bases.push(base);
            base += one.len();
        }
        let each: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
        Ok((if each.is_empty() { new_empty_array(data_type) } else { arrow::compute::concat(&each)? }, bases))
    };
    let (keys, bases) = parts(&|map| Arc::clone(map.keys()), &key_type)?;
    let (values, _) = parts(&|map| Arc::clone(map.values()), &value_type)?;
    let mut order = vec![];
    let mut rows = vec![];
    for i in 0..call.rows {
        if call.skip(i) {
            rows.push(None);
            continue;
        }
        let begin = order.len();
        for (map, base) in maps.iter().zip(&bases) {
            order.extend(map_range(map, i).map(|at| (base + at) as u64));
        }
        rows.push(Some((begin..order.len(), begin..order.len())));
    }
    let order = UInt64Array::from(order);
    let (keys, values) = (take(&keys, &order, None)?, take(&values, &order, None)?);
    map_from(&keys, &values, rows.into_iter(), call)
}

fn field_of_each(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<(usize, DataType)> {
    let name = constants.get(1).copied().flatten().and_then(|name| name.try_as_str()).flatten();
    let (Some(name), DataType::Struct(fields)) = (name, item_of(&types[0])) else {
        return invalid("INVALID_EXTRACT_BASE_FIELD_TYPE", "only of an array of structs each field can be taken");
    };
    let found = fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
    match found {
        Some(at) => Ok((at, fields[at].data_type().clone())),
        None => invalid("FIELD_NOT_FOUND", format!("no such struct field `{name}`")),
    }
}

/// Which rows of booleans are true; null is not.
pub fn is_true(array: &BooleanArray, at: usize) -> bool {
    array.is_valid(at) && array.value(at)
}
