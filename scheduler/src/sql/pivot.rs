//! PIVOT and UNPIVOT, which are queries around what they stand behind.

use super::generators::{self, bare_query, bare_select};
use super::item_names;
use super::syntax::{call, derived, ident};
use datafusion::common::DFSchemaRef;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, ExprWithAlias, Function, GroupByExpr, Ident, LateralView, NullInclusion, ObjectName,
    PivotValueSource, Select, SelectItem, TableFactor, TableWithJoins, UnaryOperator, Value, WildcardAdditionalOptions,
    visit_expressions,
};
use headwater_proto::error::{Error, Result};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Plans a SELECT of the given items over the same FROM.
type SchemaOf<'a> = &'a dyn Fn(&Select, Vec<SelectItem>) -> Result<DFSchemaRef>;

/// Rewrites what stands in FROM of one SELECT.
///
/// # Errors
/// Values that are no list; those of `schema_of`.
pub fn expand(select: &mut Select, schema_of: SchemaOf<'_>) -> Result<()> {
    for from in &mut select.from {
        factor(&mut from.relation, schema_of)?;
        for join in &mut from.joins {
            factor(&mut join.relation, schema_of)?;
        }
    }
    Ok(())
}

fn factor(factor_: &mut TableFactor, schema_of: SchemaOf<'_>) -> Result<()> {
    match factor_ {
        TableFactor::Pivot { table, aggregate_functions, value_column, value_source, alias, .. } => {
            factor(table, schema_of)?;
            let PivotValueSource::List(values) = value_source else {
                return Err(Error::invalid("UNSUPPORTED_FEATURE", "PIVOT takes a list of values: FOR c IN (1, 2)"));
            };
            let select = pivoted(table, aggregate_functions, value_column, values, schema_of)?;
            *factor_ = derived(bare_query(select), alias.take());
        }
        TableFactor::Unpivot { table, value, name, columns, null_inclusion, alias } => {
            factor(table, schema_of)?;
            let nulls = *null_inclusion == Some(NullInclusion::IncludeNulls);
            let mut select = unpivoted(table, value, name, columns, nulls, schema_of)?;
            generators::expand(&mut select, schema_of)?;
            *factor_ = derived(bare_query(select), alias.take());
        }
        _ => {}
    }
    Ok(())
}

fn column(name: &str) -> Expr {
    Expr::Identifier(ident(name))
}

fn item(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: ident(name) }
}

fn from(factor: TableFactor) -> Vec<TableWithJoins> {
    vec![TableWithJoins { relation: factor, joins: vec![] }]
}

/// The columns of a table that these expressions do not use.
fn others(table: &TableFactor, used: &[&Expr], schema_of: SchemaOf<'_>) -> Result<Vec<String>> {
    let mut select = bare_select(vec![]);
    select.from = from(table.clone());
    let schema = schema_of(&select, vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())])?;
    let is_table = |name: &str| {
        let name = name.to_lowercase();
        schema.iter().any(|(qualifier, _)| qualifier.is_some_and(|table| table.table().to_lowercase() == name))
    };
    let mut named = BTreeSet::new();
    for expr in used {
        let _ = visit_expressions(*expr, |expr| {
            match expr {
                Expr::Identifier(ident) => named.insert(ident.value.to_lowercase()),
                Expr::CompoundIdentifier(idents) => {
                    let of_table = idents.len() > 1 && is_table(&idents[0].value);
                    named.insert(idents[usize::from(of_table)].value.to_lowercase())
                }
                _ => false,
            };
            ControlFlow::<()>::Continue(())
        });
    }
    let names = schema.fields().iter().map(|field| field.name().clone());
    Ok(names.filter(|name| !named.contains(&name.to_lowercase())).collect())
}

/// Groups by the other columns and the pivot's first, then turns the values into columns, so that a value which a group
/// lacks is null, counts included.
fn pivoted(
    table: &TableFactor,
    aggregates: &[ExprWithAlias],
    by: &[Expr],
    values: &[ExprWithAlias],
    schema_of: SchemaOf<'_>,
) -> Result<Select> {
    let used: Vec<&Expr> = aggregates.iter().map(|aggregate| &aggregate.expr).chain(by).collect();
    if let Some(plain) = aggregates.iter().find(|aggregate| !has_call(&aggregate.expr)) {
        return Err(Error::invalid(
            "AGGREGATE_FUNCTION_EXPECTED",
            format!("aggregate expression required for pivot, but \"{}\" is none", plain.expr),
        ));
    }
    let keys = others(table, &used, schema_of)?;
    let (measure, pivot) = (|at: usize| format!("__measure{at}"), |at: usize| format!("__pivot{at}"));
    let mut first = bare_select(keys.iter().map(|key| SelectItem::UnnamedExpr(column(key))).collect());
    first.projection.extend(by.iter().enumerate().map(|(at, by)| item(by.clone(), &pivot(at))));
    first.projection.extend(aggregates.iter().enumerate().map(|(at, one)| item(one.expr.clone(), &measure(at))));
    first.from = from(table.clone());
    let groups: Vec<Expr> = keys.iter().map(|key| column(key)).collect();
    first.group_by = GroupByExpr::Expressions(groups.iter().cloned().chain(by.iter().cloned()).collect(), vec![]);
    let mut second = bare_select(keys.iter().map(|key| SelectItem::UnnamedExpr(column(key))).collect());
    for value in values {
        let each: Vec<&Expr> = match &value.expr {
            Expr::Tuple(values) => values.iter().collect(),
            one => vec![one],
        };
        if each.len() != by.len() {
            return Err(Error::invalid(
                "PIVOT_VALUE_DATA_TYPE_MISMATCH",
                format!("PIVOT is over {} columns, and the value {} has {}", by.len(), value.expr, each.len()),
            ));
        }
        let shown = match &value.alias {
            Some(alias) => alias.value.clone(),
            None => value_name(&value.expr)?,
        };
        let same = each
            .into_iter()
            .enumerate()
            .map(|(at, value)| Expr::IsNotDistinctFrom(Box::new(column(&pivot(at))), Box::new(value.clone())));
        let same = same.reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::And,
            right: Box::new(right),
        });
        for (at, aggregate) in aggregates.iter().enumerate() {
            let mut taken = call("first_value", vec![column(&measure(at))]);
            if let Expr::Function(Function { filter, .. }) = &mut taken {
                *filter = same.clone().map(Box::new);
            }
            let name = match (aggregates, &aggregate.alias) {
                ([_], _) => shown.clone(),
                (_, Some(alias)) => format!("{shown}_{}", alias.value),
                (_, None) => {
                    let name = item_names::of(&aggregate.expr).unwrap_or_else(|| aggregate.expr.to_string());
                    format!("{shown}_{name}")
                }
            };
            second.projection.push(item(taken, &name));
        }
    }
    second.from = from(derived(bare_query(first), None));
    second.group_by = GroupByExpr::Expressions(groups, vec![]);
    Ok(second)
}

fn has_call(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |expr| match expr {
        Expr::Function(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// How a pivot calls the column of a value: as the value is shown.
fn value_name(value: &Expr) -> Result<String> {
    Ok(match value {
        Expr::Nested(inner) => value_name(inner)?,
        Expr::TypedString(typed) => typed.value.value.clone().into_string().unwrap_or_default(),
        Expr::Value(value) if value.value == Value::Null => "null".into(),
        Expr::Value(_) => item_names::of(value).unwrap_or_default(),
        Expr::UnaryOp { op: UnaryOperator::Minus, .. } => item_names::of(value).unwrap_or_default(),
        Expr::Tuple(values) => {
            let values = values.iter().map(value_name).collect::<Result<Vec<_>>>()?;
            format!("{{{}}}", values.join(", "))
        }
        other => {
            return Err(Error::invalid(
                "NON_LITERAL_PIVOT_VALUES",
                format!("literal expressions required for pivot values, found \"{other}\": give it a name (AS)"),
            ));
        }
    })
}

/// A row for each of the columns, with its name and its value.
fn unpivoted(
    table: &TableFactor,
    value: &Expr,
    name: &Ident,
    columns: &[ExprWithAlias],
    nulls: bool,
    schema_of: SchemaOf<'_>,
) -> Result<Select> {
    let used: Vec<&Expr> = columns.iter().map(|column| &column.expr).collect();
    let keys = others(table, &used, schema_of)?;
    let parts = |expr: &Expr| match expr {
        Expr::Tuple(parts) => parts.clone(),
        Expr::Nested(inner) => vec![inner.as_ref().clone()],
        one => vec![one.clone()],
    };
    let mut values = vec![];
    for part in parts(value) {
        let Expr::Identifier(ident) = part else {
            return Err(Error::invalid("PARSE_SYNTAX_ERROR", format!("UNPIVOT: {part} is no name of a column")));
        };
        values.push(ident);
    }
    let name_of = |column: &Expr| item_names::last_name(column).or_else(|| item_names::of(column));
    let mut rows = vec![Expr::Value(Value::Number(columns.len().to_string(), false).into())];
    for one in columns {
        let own = parts(&one.expr);
        if own.len() != values.len() {
            return Err(Error::invalid(
                "UNPIVOT_VALUE_SIZE_MISMATCH",
                format!("UNPIVOT makes {} columns, and {} has {}", values.len(), one.expr, own.len()),
            ));
        }
        let shown = match &one.alias {
            Some(alias) => alias.value.clone(),
            // Without its table's.
            None => own.iter().filter_map(name_of).collect::<Vec<_>>().join("_"),
        };
        rows.push(Expr::Value(Value::SingleQuotedString(shown).into()));
        rows.extend(own);
    }
    let made: Vec<Ident> = std::iter::once(name.clone()).chain(values.iter().cloned()).collect();
    let all = keys.iter().map(|key| column(key)).chain(made.iter().cloned().map(Expr::Identifier));
    let mut select = bare_select(all.map(SelectItem::UnnamedExpr).collect());
    select.from = from(table.clone());
    select.lateral_views = vec![LateralView {
        lateral_view: call("stack", rows),
        lateral_view_name: ObjectName::from(vec![ident("__unpivoted")]),
        lateral_col_alias: made,
        outer: false,
    }];
    if !nulls {
        let present = values.into_iter().map(|value| Expr::IsNotNull(Box::new(Expr::Identifier(value))));
        select.selection = present.reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: BinaryOperator::Or,
            right: Box::new(right),
        });
    }
    Ok(select)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::sql::sqlparser::ast::SetExpr;
    use std::sync::Arc;

    fn check(text: &str, expect: &str) {
        let mut query = parse_query(text).expect(text);
        let fields = ["year", "quarter", "amount"].map(|name| Field::new(name, DataType::Int32, true));
        let schema = DFSchema::try_from_qualified_schema("sales", &Schema::new(fields.to_vec())).expect("a schema");
        let schema: DFSchemaRef = Arc::new(schema);
        if let SetExpr::Select(select) = query.body.as_mut() {
            expand(select, &|_, _| Ok(Arc::clone(&schema))).expect(text);
        }
        assert_eq!(query.to_string(), expect);
    }

    #[test]
    fn pivots_group_twice() {
        check(
            "SELECT * FROM sales PIVOT (sum(amount) FOR quarter IN (1, 2 AS b))",
            "SELECT * FROM (SELECT `year`, \
             first_value(`__measure0`) FILTER (WHERE `__pivot0` IS NOT DISTINCT FROM 1) AS `1`, \
             first_value(`__measure0`) FILTER (WHERE `__pivot0` IS NOT DISTINCT FROM 2) AS `b` \
             FROM (SELECT `year`, quarter AS `__pivot0`, sum(amount) AS `__measure0` FROM sales GROUP BY `year`, quarter) \
             GROUP BY `year`)",
        );
    }

    #[test]
    fn columns_are_used_under_the_name_of_their_table() {
        check(
            "SELECT * FROM sales PIVOT (sum(sales.amount) FOR Sales.quarter IN (1))",
            "SELECT * FROM (SELECT `year`, \
             first_value(`__measure0`) FILTER (WHERE `__pivot0` IS NOT DISTINCT FROM 1) AS `1` \
             FROM (SELECT `year`, Sales.quarter AS `__pivot0`, sum(sales.amount) AS `__measure0` FROM sales \
             GROUP BY `year`, Sales.quarter) GROUP BY `year`)",
        );
    }
}
