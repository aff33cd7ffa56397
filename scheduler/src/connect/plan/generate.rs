//! Generators: `explode` and its like, which make several rows of one.
//!
//! All of them come down to lists that are unnested beside each other: the elements, and for `posexplode` their
//! positions. Entries of a map are unnested as structs and taken apart afterwards, as are those of `inline`.

use super::expression::{Expressions, Generate, Named, aliases_mismatch, unsupported, wrong_arguments};
use super::frame::{Attribute, Frame, Ids, column, project, type_text};
use crate::sql::error::from_datafusion;
use arrow::datatypes::DataType;
use datafusion::common::{Column, NullHandling, ScalarValue, UnnestOptions};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_nested::expr_fn::{array_length, make_array, map_entries};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use headwater_proto::error::{Error, Result};
use std::collections::HashMap;

/// The frame's plan with the generator's columns, which are returned; the visible columns stay.
///
/// # Errors
/// `DATATYPE_MISMATCH.…` for what cannot be taken apart; wrong numbers of arguments and of names.
pub fn generate(
    frame: &Frame,
    generate: &Generate,
    expressions: &Expressions<'_>,
    ids: &Ids,
) -> Result<(LogicalPlan, Vec<Attribute>)> {
    let (list, kind) = list_of(generate, expressions)?;
    let list_id = ids.next("generated");
    let mut below: Vec<Expr> = vec![];
    for attribute in frame.columns() {
        let expr = attribute.expr();
        if !below.contains(&expr) {
            below.push(expr);
        }
    }
    let kept = below.clone();
    below.push(list.clone().alias(&list_id));
    let mut unnested = vec![Column::new_unqualified(&list_id)];
    let position_id = (generate.function == "posexplode").then(|| ids.next("pos"));
    if let Some(position_id) = &position_id {
        let length = Expr::Cast(Cast::new(Box::new(array_length(list)), DataType::Int64));
        // From 0: as many as there are elements, none for an empty list.
        let positions = datafusion::functions_nested::expr_fn::range(lit(0_i64), length, lit(1_i64));
        below.push(positions.alias(position_id));
        unnested.push(Column::new_unqualified(position_id));
    }
    let handling = if generate.outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
    let plan = project(frame.plan().clone(), below)?;
    let plan = LogicalPlanBuilder::from(plan)
        .unnest_columns_with_options(unnested, UnnestOptions::new().with_null_handling(handling))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let element = column(&list_id);
    let mut made: Vec<(String, Expr)> = vec![];
    if let Some(position_id) = &position_id {
        made.push(("pos".into(), Expr::Cast(Cast::new(Box::new(column(position_id)), DataType::Int32))));
    }
    match kind {
        Kind::Element => made.push(("col".into(), element)),
        Kind::Entries => {
            made.push(("key".into(), get_field(element.clone(), "key")));
            made.push(("value".into(), get_field(element, "value")));
        }
        Kind::Fields(names) => {
            for name in names {
                made.push((name.clone(), get_field(element.clone(), name.as_str())));
            }
        }
    }
    if !generate.names.is_empty() {
        if generate.names.len() != made.len() {
            return Err(aliases_mismatch(&generate.function, made.len(), generate.names.len()));
        }
        for (made, name) in made.iter_mut().zip(&generate.names) {
            made.0.clone_from(name);
        }
    }
    let mut attributes = vec![];
    let mut above = kept;
    for (name, expr) in made {
        let id = ids.next(&name);
        above.push(expr.alias(&id));
        attributes.push(Attribute { id, name, qualifier: vec![], metadata: HashMap::new() });
    }
    Ok((project(plan, above)?, attributes))
}

enum Kind {
    /// The element is the column.
    Element,
    /// Entries of a map.
    Entries,
    /// Fields of structs.
    Fields(Vec<String>),
}

fn list_of(generate: &Generate, expressions: &Expressions<'_>) -> Result<(Expr, Kind)> {
    let one = || match generate.arguments.as_slice() {
        [one] => Ok(one),
        other => Err(wrong_arguments(&generate.function, other.len())),
    };
    let mismatch = |argument: &Named, expect: &str| -> Error {
        let found = expressions.type_of(&argument.expr).unwrap_or(DataType::Null);
        Error::invalid(
            "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
            format!(
                "cannot resolve \"{}({})\" due to data type mismatch: the first parameter requires the {expect} type, \
                 however \"{}\" has the type {}",
                generate.function,
                argument.text,
                argument.text,
                type_text(&found)
            ),
        )
    };
    match generate.function.as_str() {
        "explode" | "posexplode" => {
            let argument = one()?;
            match expressions.type_of(&argument.expr)? {
                DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                    Ok((argument.expr.clone(), Kind::Element))
                }
                DataType::Map(..) => Ok((map_entries(argument.expr.clone()), Kind::Entries)),
                _ => Err(mismatch(argument, "(\"ARRAY\" or \"MAP\")")),
            }
        }
        "inline" => {
            let argument = one()?;
            match expressions.type_of(&argument.expr)? {
                DataType::List(item) | DataType::LargeList(item) => match item.data_type() {
                    DataType::Struct(fields) => {
                        let names = fields.iter().map(|field| field.name().clone()).collect();
                        Ok((argument.expr.clone(), Kind::Fields(names)))
                    }
                    _ => Err(mismatch(argument, "\"ARRAY<STRUCT>\"")),
                },
                _ => Err(mismatch(argument, "\"ARRAY<STRUCT>\"")),
            }
        }
        "stack" => {
            let [count, values @ ..] = generate.arguments.as_slice() else {
                return Err(wrong_arguments("stack", 0));
            };
            let rows = match count.expr.as_literal() {
                Some(ScalarValue::Int32(Some(rows))) if *rows > 0 => *rows as usize,
                Some(ScalarValue::Int64(Some(rows))) if *rows > 0 => *rows as usize,
                _ => {
                    return Err(Error::invalid(
                        "DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE",
                        "the first argument of stack is the number of rows: a literal above 0",
                    ));
                }
            };
            let values = values.iter().map(|value| value.expr.clone()).collect();
            stacked(rows, values, None, expressions)
        }
        other => Err(unsupported(&format!("the generator {other}"))),
    }
}

/// Rows of `values`, row by row, as a list of structs.
fn stacked(
    rows: usize,
    values: Vec<Expr>,
    names: Option<Vec<String>>,
    expressions: &Expressions<'_>,
) -> Result<(Expr, Kind)> {
    let width = values.len().div_ceil(rows);
    if width == 0 {
        return Err(wrong_arguments("stack", 1));
    }
    let names = names.unwrap_or_else(|| (0..width).map(|index| format!("col{index}")).collect());
    let mut types = vec![];
    for at in 0..width {
        let column: Vec<DataType> =
            values.iter().skip(at).step_by(width).map(|value| expressions.type_of(value)).collect::<Result<_>>()?;
        let known: Vec<DataType> = column.into_iter().filter(|data_type| *data_type != DataType::Null).collect();
        types.push(common_type(&known)?);
    }
    let mut structs = vec![];
    for row in 0..rows {
        let mut fields = vec![];
        for at in 0..width {
            let value = match values.get(row * width + at) {
                Some(value) if expressions.type_of(value)? == types[at] => value.clone(),
                Some(value) => Expr::Cast(Cast::new(Box::new(value.clone()), types[at].clone())),
                None => Expr::Literal(ScalarValue::try_from(&types[at]).map_err(from_datafusion)?, None),
            };
            fields.extend([lit(names[at].as_str()), value]);
        }
        structs.push(expressions.function("named_struct", fields, false)?);
    }
    Ok((make_array(structs), Kind::Fields(names)))
}

/// The type that holds values of all these.
///
/// # Errors
/// `DATATYPE_MISMATCH.DATA_DIFF_TYPES`.
pub fn common_type(types: &[DataType]) -> Result<DataType> {
    match types {
        [] => Ok(DataType::Null),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => Ok(first.clone()),
        types => type_union_resolution(types).ok_or_else(|| {
            let shown: Vec<String> = types.iter().map(type_text).collect();
            Error::invalid(
                "DATATYPE_MISMATCH.DATA_DIFF_TYPES",
                format!("values should all be the same type, but they are [{}]", shown.join(", ")),
            )
        }),
    }
}

/// Rows of literals and columns as a generator: one struct a row, taken apart into columns of these names.
///
/// # Errors
/// Columns whose values have no common type.
pub fn rows(
    frame: &Frame,
    names: Vec<String>,
    values: Vec<Vec<Expr>>,
    expressions: &Expressions<'_>,
    ids: &Ids,
) -> Result<(LogicalPlan, Vec<Attribute>)> {
    let count = values.len();
    let (list, _) = stacked(count, values.into_iter().flatten().collect(), Some(names.clone()), expressions)?;
    let call = Generate { function: "inline".into(), outer: false, arguments: vec![Named::new(list, "rows")], names };
    generate(frame, &call, expressions, ids)
}
