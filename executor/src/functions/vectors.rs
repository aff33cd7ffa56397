//! Functions of vectors, which are arrays of floats. One that has a null in it has no measure.

use super::ddl;
use super::native::{Call, Function, Param, Returns, Run, invalid, mismatch};
use arrow::array::{ArrayRef, AsArray, Float32Builder, ListBuilder};
use arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::error::Result;
use std::sync::Arc;

use Param::Any;

const FLOAT: Returns = Returns::Type(|| DataType::Float32);

/// The functions.
pub fn functions() -> Vec<Function> {
    vec![
        two("vector_inner_product", |call| pairs(call, "vector_inner_product", |one, other| Some(dot(one, other))))
            .coerced(|types| vectors("vector_inner_product", types, 2)),
        two("vector_cosine_similarity", |call| {
            pairs(call, "vector_cosine_similarity", |one, other| {
                let size = dot(one, one).sqrt() * dot(other, other).sqrt();
                (size > 0.0).then(|| dot(one, other) / size)
            })
        })
        .coerced(|types| vectors("vector_cosine_similarity", types, 2)),
        two("vector_l2_distance", |call| {
            pairs(call, "vector_l2_distance", |one, other| {
                let between: Vec<f32> = one.iter().zip(other).map(|(a, b)| a - b).collect();
                Some(dot(&between, &between).sqrt())
            })
        })
        .coerced(|types| vectors("vector_l2_distance", types, 2)),
        Function::new("vector_norm", &[Any], FLOAT, |call| {
            call.rows::<Float32Type>(|i| match vector(call, 0, i) {
                Some(own) => norm(&own, degree(call, i)).map(Some),
                None => Ok(None),
            })
        })
        .optional(&[Any])
        .coerced(|types| vectors("vector_norm", types, 1)),
        Function::new("vector_normalize", &[Any], Returns::Arg(0), normalize)
            .optional(&[Any])
            .coerced(|types| vectors("vector_normalize", types, 1)),
    ]
}

fn two(name: &str, run: Run) -> Function {
    Function::new(name, &[Any, Any], FLOAT, run)
}

/// ARRAY<FLOAT> and nothing else, and after them a FLOAT.
fn vectors(name: &str, types: &[DataType], count: usize) -> Result<Vec<DataType>> {
    for (at, own) in types.iter().take(count).enumerate() {
        match own {
            DataType::List(item) if *item.data_type() == DataType::Float32 => {}
            other => return Err(mismatch(name, at, "\"ARRAY<FLOAT>\"", other)),
        }
    }
    let vector = ddl::array_of(DataType::Float32);
    Ok((0..types.len()).map(|at| if at < count { vector.clone() } else { DataType::Float32 }).collect())
}

fn vector(call: &Call<'_>, at: usize, i: usize) -> Option<Vec<f32>> {
    let items = call.lists(at).value(i);
    items.as_primitive::<Float32Type>().iter().collect()
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn pairs(call: &Call<'_>, name: &str, f: impl Fn(&[f32], &[f32]) -> Option<f32>) -> Result<ArrayRef> {
    call.rows::<Float32Type>(|i| {
        let lengths = [call.lists(0).value_length(i), call.lists(1).value_length(i)];
        if lengths[0] != lengths[1] {
            return invalid(
                "VECTOR_DIMENSION_MISMATCH",
                format!("`{name}` takes vectors of one dimension, not of {} and {}", lengths[0], lengths[1]),
            );
        }
        let (Some(one), Some(other)) = (vector(call, 0, i), vector(call, 1, i)) else { return Ok(None) };
        Ok(f(&one, &other))
    })
}

fn degree(call: &Call<'_>, i: usize) -> f32 {
    if call.has(1) { call.args[1].as_primitive::<Float32Type>().value(i) } else { 2.0 }
}

fn norm(own: &[f32], degree: f32) -> Result<f32> {
    Ok(match degree {
        1.0 => own.iter().map(|x| x.abs()).sum(),
        2.0 => dot(own, own).sqrt(),
        f32::INFINITY => own.iter().map(|x| x.abs()).fold(0.0, f32::max),
        other => {
            return invalid(
                "INVALID_VECTOR_NORM_DEGREE",
                format!("the degree of a norm is 1, 2 or infinity, not {other}"),
            );
        }
    })
}

fn normalize(call: &Call<'_>) -> Result<ArrayRef> {
    let mut builder =
        ListBuilder::new(Float32Builder::new()).with_field(Field::new_list_field(DataType::Float32, true));
    for i in 0..call.rows {
        let own = if call.skip(i) { None } else { vector(call, 0, i) };
        let size = own.as_ref().map(|own| norm(own, degree(call, i))).transpose()?;
        match (own, size) {
            (Some(own), Some(size)) if size > 0.0 => {
                own.iter().for_each(|x| builder.values().append_value(x / size));
                builder.append(true);
            }
            (Some(own), _) if own.is_empty() => builder.append(true),
            _ => builder.append_null(),
        }
    }
    super::cast::relabel(Arc::new(builder.finish()), call.return_type)
}
