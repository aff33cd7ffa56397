//! Columns of a query fitted to the columns of a table, by position or by name.

use super::error::from_datafusion;
use super::functions;
use super::item_names;
use super::parser::{Insert, Name, PartitionValue};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use headwater_executor::functions::ddl::{self, Bounded};
use headwater_proto::error::{Error, Result};

/// What is known of a target's columns.
#[derive(Debug, Clone)]
pub enum TargetColumns {
    /// Whatever comes is written, under its own names.
    Any,
    /// The table exists elsewhere and its connector converts values: names are fitted, types are not, and columns may
    /// be left out. The connector knows what to do with the columns `beside` it, where they are named.
    Named { schema: SchemaRef, beside: Vec<String> },
    /// Declared by `CREATE TABLE`: rows get exactly these columns and types.
    Declared(SchemaRef),
}

/// Fits the output of `plan` to `target`.
///
/// # Errors
/// Spark's `INSERT_COLUMN_ARITY_MISMATCH` and `INCOMPATIBLE_DATA_FOR_TABLE`.
pub fn fit(
    plan: LogicalPlan,
    table: &Name,
    target: &TargetColumns,
    columns: &[String],
    by_name: bool,
) -> Result<LogicalPlan> {
    let data: Vec<(Column, FieldRef)> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| (Column::from((qualifier, field)), FieldRef::clone(field)))
        .collect();
    if (by_name || matches!(target, TargetColumns::Any)) && columns.is_empty() {
        different(plan.schema().inner())?;
    }
    let exprs = match target {
        TargetColumns::Any if columns.is_empty() => return Ok(plan),
        TargetColumns::Any => {
            arity(table, columns.iter().map(String::as_str), &data)?;
            data.into_iter().zip(columns).map(|((column, _), name)| Expr::Column(column).alias(name)).collect()
        }
        TargetColumns::Named { schema, beside } => place(table, schema, Some(beside), columns, by_name, data)?,
        TargetColumns::Declared(schema) => place(table, schema, None, columns, by_name, data)?,
    };
    LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

/// The output of `plan` with the constants of `PARTITION (…)`, and the columns of the table that it is for. Columns come as
/// Spark wants them: those that were listed, else all of the table, without those that are constant.
///
/// # Errors
/// `PARTITIONS_NOT_FOUND`; `UNSUPPORTED_FEATURE` for what would replace one partition alone.
pub fn partitioned(
    plan: LogicalPlan,
    insert: &Insert,
    partition_by: &[String],
    target: &TargetColumns,
) -> Result<(LogicalPlan, Vec<String>)> {
    if insert.partition.is_empty() {
        return Ok((plan, insert.columns.clone()));
    }
    let same = |one: &str, two: &str| one.to_lowercase() == two.to_lowercase();
    let known = |name: &str| partition_by.iter().any(|column| same(column, name));
    let unknown: Vec<_> =
        insert.partition.iter().filter(|(name, _)| !known(name)).map(|(name, _)| format!("`{name}`")).collect();
    if !unknown.is_empty() {
        return Err(Error::invalid(
            "PARTITIONS_NOT_FOUND",
            format!(
                "the partition(s) {} cannot be found in table {}: verify the partition specification and table name",
                unknown.join(", "),
                insert.table
            ),
        ));
    }
    let constants: Vec<_> = insert.partition.iter().filter(|(_, value)| *value != PartitionValue::Dynamic).collect();
    let TargetColumns::Declared(schema) = target else {
        return Err(Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!("INSERT … PARTITION into {}, which has no declared columns: create it with columns", insert.table),
        ));
    };
    if insert.overwrite && !constants.is_empty() {
        return Err(Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!(
                "INSERT OVERWRITE {} PARTITION (column = constant): set spark.sql.sources.partitionOverwriteMode to \
                 dynamic, and give the partition columns among the query's: the partitions that it has rows of are \
                 replaced",
                insert.table
            ),
        ));
    }
    let constant = |name: &str| constants.iter().any(|(column, _)| same(column, name));
    let mut names: Vec<String> = match insert.columns.as_slice() {
        _ if insert.by_name => vec![],
        [] => schema.fields().iter().map(|field| field.name().clone()).filter(|name| !constant(name)).collect(),
        listed => listed.to_vec(),
    };
    let mut exprs: Vec<Expr> =
        plan.schema().iter().map(|(qualifier, field)| Expr::Column(Column::from((qualifier, field)))).collect();
    for (name, value) in constants {
        let Some(field) = schema.fields().iter().find(|field| same(field.name(), name)) else {
            return Err(Error::internal(format!("partition column {name} is none of the table's")));
        };
        let value = match value {
            PartitionValue::Text(text) => {
                Expr::Cast(Cast::new(Box::new(lit(text.as_str())), field.data_type().clone()))
            }
            PartitionValue::Dynamic | PartitionValue::Null => {
                Expr::Literal(ScalarValue::try_from(field.data_type()).map_err(from_datafusion)?, None)
            }
        };
        // By position the name does not count: the query may have a column that is called so.
        let alias = if insert.by_name { field.name().clone() } else { format!("PARTITION ({})", field.name()) };
        exprs.push(value.alias(alias));
        if !insert.by_name {
            names.push(field.name().clone());
        }
    }
    let plan = LogicalPlanBuilder::from(plan).project(exprs).and_then(LogicalPlanBuilder::build);
    Ok((plan.map_err(from_datafusion)?, names))
}

/// That no two columns of a query, which may have the same name where it is shown, have it where it is kept.
///
/// # Errors
/// `COLUMN_ALREADY_EXISTS`.
pub fn different(schema: &SchemaRef) -> Result<()> {
    match schema.fields().iter().find(|field| item_names::is_again(field.name())) {
        Some(again) => Err(Error::invalid(
            "COLUMN_ALREADY_EXISTS",
            format!(
                "the column `{}` already exists: choose another name or rename the existing column (AS)",
                item_names::shown(again.name())
            ),
        )),
        None => Ok(()),
    }
}

/// One expression for each column that is written, in the target's order. `beside`: columns that the connector takes
/// beside the table's; none of a table whose columns are declared.
fn place(
    table: &Name,
    schema: &SchemaRef,
    beside: Option<&Vec<String>>,
    columns: &[String],
    by_name: bool,
    data: Vec<(Column, FieldRef)>,
) -> Result<Vec<Expr>> {
    let declared = beside.is_none();
    let same = |one: &str, two: &str| one.to_lowercase() == two.to_lowercase();
    let target_names = || schema.fields().iter().map(|field| field.name().as_str());
    // Which name each data column is for.
    let names: Vec<String> = if by_name {
        data.iter().map(|(_, field)| field.name().clone()).collect()
    } else if columns.is_empty() {
        arity(table, target_names(), &data)?;
        target_names().map(str::to_string).collect()
    } else {
        arity(table, columns.iter().map(String::as_str), &data)?;
        columns.to_vec()
    };
    let beside_names = || beside.into_iter().flatten().map(String::as_str);
    let known = |name: &str| target_names().chain(beside_names()).any(|target| same(target, name));
    let extra: Vec<&String> = names.iter().filter(|name| !known(name)).collect();
    if !extra.is_empty() {
        let known = target_names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let extra = extra.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(
            "INCOMPATIBLE_DATA_FOR_TABLE.EXTRA_COLUMNS",
            format!(
                "cannot write incompatible data for the table {table}: cannot write extra columns {extra}; there are {known}"
            ),
        ));
    }
    let given = |target: &str| {
        let mut matching = names.iter().zip(&data).filter(|(name, _)| same(name, target)).map(|(_, data)| data);
        let found = matching.next();
        if matching.next().is_some() {
            return Err(Error::invalid(
                "INCOMPATIBLE_DATA_FOR_TABLE.AMBIGUOUS_COLUMN_NAME",
                format!("cannot write incompatible data for the table {table}: ambiguous column name `{target}`"),
            ));
        }
        Ok(found)
    };
    let mut exprs = vec![];
    for field in schema.fields() {
        match given(field.name())? {
            Some((column, _)) if !declared => exprs.push(Expr::Column(column.clone()).alias(field.name())),
            Some((column, given)) => {
                if !storable(given.data_type(), field.data_type()) {
                    return Err(Error::invalid(
                        "INCOMPATIBLE_DATA_FOR_TABLE.CANNOT_SAFELY_CAST",
                        format!(
                            "cannot write incompatible data for the table {table}: cannot safely cast `{}` {} to {}: \
                             add an explicit CAST",
                            field.name(),
                            ddl::type_name(given.data_type()),
                            ddl::type_name(field.data_type()),
                        ),
                    ));
                }
                let value = Expr::Column(column.clone());
                let value = if given.data_type() == field.data_type() {
                    value
                } else {
                    Expr::Cast(Cast::new(Box::new(value), field.data_type().clone()))
                };
                exprs.push(bounded(value, field).alias(field.name()));
            }
            None if !declared => {}
            None if field.is_nullable() => {
                let null = ScalarValue::try_from(field.data_type()).map_err(from_datafusion)?;
                exprs.push(Expr::Literal(null, None).alias(field.name()));
            }
            None => {
                return Err(Error::invalid(
                    "INCOMPATIBLE_DATA_FOR_TABLE.CANNOT_FIND_DATA",
                    format!(
                        "cannot write incompatible data for the table {table}: cannot find data for the output column \
                         `{}`, which is NOT NULL",
                        field.name()
                    ),
                ));
            }
        }
    }
    for name in beside_names().filter(|name| !target_names().any(|target| same(target, name))) {
        if let Some((column, _)) = given(name)? {
            exprs.push(Expr::Column(column.clone()).alias(name));
        }
    }
    Ok(exprs)
}

/// Text that fits into a column of VARCHAR(n) or CHAR(n). The blanks that fill a CHAR are not kept: nothing that compares
/// one fills the other side.
fn bounded(value: Expr, field: &FieldRef) -> Expr {
    let (value, most) = match Bounded::of(field) {
        None => return value,
        Some(Bounded::Varchar(most)) => (value, most),
        Some(Bounded::Char(most)) => (functions::call("rtrim", vec![value]), most),
    };
    functions::call("varchar_checked", vec![value, lit(most), lit(field.name().as_str())])
}

fn arity<'a>(table: &Name, target: impl Iterator<Item = &'a str>, data: &[(Column, FieldRef)]) -> Result<()> {
    let target: Vec<String> = target.map(|name| format!("`{name}`")).collect();
    let (class, reason) = match data.len().cmp(&target.len()) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => ("NOT_ENOUGH_DATA_COLUMNS", "not enough data columns"),
        std::cmp::Ordering::Greater => ("TOO_MANY_DATA_COLUMNS", "too many data columns"),
    };
    let data = data.iter().map(|(_, field)| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
    Err(Error::invalid(
        &format!("INSERT_COLUMN_ARITY_MISMATCH.{class}"),
        format!(
            "cannot write to {table}, the reason is {reason}: table columns: {}; data columns: {data}: list the columns, or \
             use BY NAME",
            target.join(", ")
        ),
    ))
}

/// Spark's ANSI store assignment: what may be written into a column of another type without a cast being asked for.
fn storable(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, FixedSizeBinary, LargeBinary, LargeUtf8, List, Map, Null, Struct,
        Timestamp, Utf8, Utf8View,
    };
    match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        _ if from.is_numeric() && to.is_numeric() => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary | LargeBinary | BinaryView) => true,
        (Date32 | Timestamp(..), Date32 | Timestamp(..)) => true,
        (Boolean | Date32 | Timestamp(..) | Binary, Utf8 | LargeUtf8 | Utf8View) => true,
        (_, Utf8 | LargeUtf8 | Utf8View) => from.is_numeric(),
        (List(from), List(to)) | (Map(from, _), Map(to, _)) => storable(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => {
            from.len() == to.len()
                && from
                    .iter()
                    .zip(to)
                    .all(|(from, to)| from.name() == to.name() && storable(from.data_type(), to.data_type()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    fn check(target: &TargetColumns, columns: &[&str], by_name: bool, expect: std::result::Result<&str, &str>) {
        let plan = LogicalPlanBuilder::empty(true)
            .project(vec![lit(1_i64).alias("N"), lit("x").alias("id")])
            .and_then(LogicalPlanBuilder::build)
            .expect("plan");
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let fitted = fit(plan, &Name(vec!["t".into()]), target, &columns, by_name);
        match expect {
            Ok(expect) => {
                let schema = Arc::clone(fitted.expect(expect).schema().inner());
                let actual: Vec<_> =
                    schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
                assert_eq!(actual.join(", "), expect);
            }
            Err(expect) => {
                let message = fitted.expect_err(expect).to_string();
                assert!(message.contains(expect), "{message}");
            }
        }
    }

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields: Vec<_> = fields.iter().map(|(name, data, null)| Field::new(*name, data.clone(), *null)).collect();
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn columns_are_fitted() {
        let any = TargetColumns::Any;
        check(&any, &[], true, Ok("N Int64, id Utf8"));
        check(&any, &["a", "b"], false, Ok("a Int64, b Utf8"));
        check(&any, &["a"], false, Err("[INSERT_COLUMN_ARITY_MISMATCH.TOO_MANY_DATA_COLUMNS]"));
        let fields = [("id", DataType::Utf8, false), ("n", DataType::Int32, true), ("m", DataType::Int32, true)];
        let named = |fields: &[_]| TargetColumns::Named { schema: schema(fields), beside: vec![] };
        let fewer = named(&fields[..1]);
        let named = named(&fields);
        check(&named, &[], true, Ok("id Utf8, n Int64"));
        check(&named, &["m", "id"], false, Ok("id Utf8, m Int64"));
        check(&named, &[], false, Err("[INSERT_COLUMN_ARITY_MISMATCH.NOT_ENOUGH_DATA_COLUMNS]"));
        check(&named, &["m", "nope"], false, Err("cannot write extra columns `nope`; there are `id`, `n`, `m`"));
        let declared = TargetColumns::Declared(schema(&fields));
        check(&declared, &[], true, Ok("id Utf8, n Int32, m Int32"));
        let loose = TargetColumns::Declared(schema(&fields[1..]));
        check(
            &loose,
            &["m", "n"],
            false,
            Err(
                "CANNOT_SAFELY_CAST] cannot write incompatible data for the table `t`: cannot safely cast `n` STRING to INT",
            ),
        );
        let required = TargetColumns::Declared(schema(&[
            ("id", DataType::Utf8, false),
            ("n", DataType::Int64, true),
            ("k", DataType::Utf8, false),
        ]));
        check(
            &required,
            &[],
            true,
            Err(
                "CANNOT_FIND_DATA] cannot write incompatible data for the table `t`: cannot find data for the output column `k`",
            ),
        );
        check(&fewer, &[], true, Err("EXTRA_COLUMNS"));
        let beside = TargetColumns::Named { schema: schema(&fields[..1]), beside: vec!["n".into(), "ID".into()] };
        check(&beside, &[], true, Ok("id Utf8, n Int64"));
        check(&beside, &["N", "id"], false, Ok("id Utf8, n Int64"));
        check(&beside, &["n", "N"], false, Err("AMBIGUOUS_COLUMN_NAME"));
        check(&beside, &[], false, Err("[INSERT_COLUMN_ARITY_MISMATCH.TOO_MANY_DATA_COLUMNS]"));
        check(&fewer, &["id", "ID"], false, Err("AMBIGUOUS_COLUMN_NAME"));
    }
}
