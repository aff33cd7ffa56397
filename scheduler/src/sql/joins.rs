//! `USING` and `NATURAL` on the syntax tree: they become `ON`, and what they mean for names is written out. The columns
//! that are joined by come first in `*`, once; their names mean the side that has a value.
//!
//! DataFusion leaves them where they are, and takes the left side's in a `FULL JOIN`.

use super::rewrite::visit_names;
use super::syntax::{call, ident};
use datafusion::common::DFSchemaRef;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectNamePart, OrderByKind, Query,
    Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Value, WildcardAdditionalOptions,
};
use headwater_proto::error::{Error, Result};
use std::collections::BTreeMap;

/// What names mean that are joined by, in lower case.
pub type Merged = BTreeMap<String, Expr>;

/// A column of what is joined so far.
#[derive(Clone)]
struct Shown {
    name: String,
    expr: Expr,
}

/// Writes out the joins of a `SELECT`. `schema_of` gives the columns of a `FROM`.
///
/// # Errors
/// `UNRESOLVED_USING_COLUMN_FOR_JOIN`, `AMBIGUOUS_REFERENCE`; those of `schema_of`.
pub fn expand(
    select: &mut Select,
    schema_of: &dyn Fn(&Select, Vec<TableWithJoins>) -> Result<DFSchemaRef>,
) -> Result<Merged> {
    select.from.iter_mut().for_each(without_parentheses);
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        unconditional(&mut join.join_operator);
    }
    let by_name = |join: &Join| {
        matches!(constraint(&join.join_operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
    };
    if !select.from.iter().flat_map(|from| &from.joins).any(by_name) {
        return Ok(Merged::new());
    }
    let only_except = |options: &WildcardAdditionalOptions| {
        let mut others = options.clone();
        others.opt_except = None;
        others.wildcard_token = WildcardAdditionalOptions::default().wildcard_token;
        others == WildcardAdditionalOptions::default()
    };
    let known_stars = select.projection.iter().all(|item| match item {
        SelectItem::Wildcard(options) => only_except(options),
        _ => true,
    });
    let lateral = |factor: &TableFactor| match factor {
        TableFactor::Derived { lateral, .. } | TableFactor::Function { lateral, .. } => *lateral,
        TableFactor::UNNEST { .. } | TableFactor::TableFunction { .. } => true,
        _ => false,
    };
    let factors = |from: &TableWithJoins| {
        std::iter::once(from.relation.clone())
            .chain(from.joins.iter().map(|join| join.relation.clone()))
            .collect::<Vec<_>>()
    };
    let other_lateral = |factor: TableFactor| lateral(&factor) && columns_of_generator(&factor).is_none();
    if !known_stars || select.from.iter().flat_map(factors).any(other_lateral) {
        // DataFusion's way is all there is.
        return Ok(Merged::new());
    }
    let mut merged = Merged::new();
    let mut all = vec![];
    let mut from = select.from.clone();
    for table in &mut from {
        let columns = |factor: &TableFactor| -> Result<Option<Vec<Shown>>> {
            let alone = TableWithJoins { relation: factor.clone(), joins: vec![] };
            Ok(shown(&schema_of(select, vec![alone])?))
        };
        let Some(mut left) = columns(&table.relation)? else { return Ok(Merged::new()) };
        for join in &mut table.joins {
            let right = match columns_of_generator(&join.relation) {
                Some(generated) => {
                    put_in_generator(&mut join.relation, &merged);
                    Some(generated)
                }
                None => columns(&join.relation)?,
            };
            let Some(right) = right else { return Ok(Merged::new()) };
            left = joined(left, right, &mut join.join_operator, &mut merged)?;
        }
        all.extend(left);
    }
    select.from = from;
    let mut items = vec![];
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) => items.extend(star(&all, &options)),
            SelectItem::UnnamedExpr(Expr::Identifier(ident)) => match meant(&merged, &ident) {
                Some(expr) => items.push(SelectItem::ExprWithAlias { expr, alias: ident }),
                None => items.push(SelectItem::UnnamedExpr(Expr::Identifier(ident))),
            },
            item => items.push(item),
        }
    }
    select.projection = items;
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            put_in(expr, &merged);
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        keys.iter_mut().for_each(|key| put_in(key, &merged));
    }
    for expr in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
        put_in(expr, &merged);
    }
    select.sort_by.iter_mut().for_each(|key| put_in(&mut key.expr, &merged));
    Ok(merged)
}

/// Puts what names mean in the place of those that the query's `ORDER BY` has and its items do not.
pub fn order_by(query: &mut Query, merged: &Merged) {
    if merged.is_empty() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let mut merged = merged.clone();
    for item in &select.projection {
        if let SelectItem::ExprWithAlias { alias, .. } = item {
            merged.remove(&alias.value.to_lowercase());
        }
    }
    let Some(order) = &mut query.order_by else { return };
    if let OrderByKind::Expressions(keys) = &mut order.kind {
        keys.iter_mut().for_each(|key| put_in(&mut key.expr, &merged));
    }
}

/// `(a JOIN b) JOIN c` is `a JOIN b JOIN c`.
fn without_parentheses(from: &mut TableWithJoins) {
    while let TableFactor::NestedJoin { table_with_joins, alias: None } = &from.relation {
        let mut inner = table_with_joins.as_ref().clone();
        inner.joins.append(&mut from.joins);
        *from = inner;
    }
}

/// The columns of a lateral subquery without tables of its own, such as a generator's.
fn columns_of_generator(factor: &TableFactor) -> Option<Vec<Shown>> {
    let TableFactor::Derived { lateral: true, subquery, alias: Some(alias), .. } = factor else { return None };
    let SetExpr::Select(select) = subquery.body.as_ref() else { return None };
    if !select.from.is_empty() || !alias.columns.is_empty() {
        return None;
    }
    let shown = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias: name, .. } => Some(Shown {
            name: name.value.clone(),
            expr: Expr::CompoundIdentifier(vec![ident(&alias.name.value), ident(&name.value)]),
        }),
        _ => None,
    };
    select.projection.iter().map(shown).collect()
}

fn put_in_generator(factor: &mut TableFactor, merged: &Merged) {
    let TableFactor::Derived { subquery, .. } = factor else { return };
    let SetExpr::Select(select) = subquery.body.as_mut() else { return };
    for item in &mut select.projection {
        if let SelectItem::ExprWithAlias { expr, .. } = item {
            put_in(expr, merged);
        }
    }
}

/// An outer join without a condition joins all to all.
fn unconditional(operator: &mut JoinOperator) {
    let outer = matches!(
        operator,
        JoinOperator::Left(_)
            | JoinOperator::LeftOuter(_)
            | JoinOperator::Right(_)
            | JoinOperator::RightOuter(_)
            | JoinOperator::FullOuter(_)
            | JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
    );
    if outer
        && let Some(constraint) = constraint_mut(operator)
        && *constraint == JoinConstraint::None
    {
        *constraint = JoinConstraint::On(Expr::Value(Value::Boolean(true).into()));
    }
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    Some(match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint) => constraint,
        _ => return None,
    })
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    Some(match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint) => constraint,
        _ => return None,
    })
}

/// The columns of a table under names that only they have; none where a column cannot be named so.
fn shown(schema: &DFSchemaRef) -> Option<Vec<Shown>> {
    schema
        .iter()
        .map(|(qualifier, field)| {
            let table = ident(qualifier?.table());
            let expr = Expr::CompoundIdentifier(vec![table, ident(field.name())]);
            Some(Shown { name: field.name().clone(), expr })
        })
        .collect()
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// What is shown after one more table; the join's condition is written out.
fn joined(left: Vec<Shown>, right: Vec<Shown>, operator: &mut JoinOperator, merged: &mut Merged) -> Result<Vec<Shown>> {
    let half = matches!(
        operator,
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::Anti(_) | JoinOperator::LeftAnti(_)
    );
    let (takes_right, full) = (
        matches!(operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_)),
        matches!(operator, JoinOperator::FullOuter(_)),
    );
    let names: Vec<String> = match constraint(operator) {
        Some(JoinConstraint::Using(columns)) => columns
            .iter()
            .filter_map(|column| column.0.last().and_then(ObjectNamePart::as_ident).map(|ident| ident.value.clone()))
            .collect(),
        Some(JoinConstraint::Natural) => left
            .iter()
            .map(|column| column.name.clone())
            .filter(|name| right.iter().any(|other| same(&other.name, name)))
            .collect(),
        _ => {
            if let Some(JoinConstraint::On(condition)) = constraint_mut(operator) {
                put_in(condition, merged);
            }
            return Ok(if half { left } else { left.into_iter().chain(right).collect() });
        }
    };
    let side = |columns: &[Shown], name: &str, which: &str| -> Result<Shown> {
        let mut found = columns.iter().filter(|column| same(&column.name, name));
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.clone()),
            (None, _) => {
                let known = columns.iter().map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(", ");
                Err(Error::invalid(
                    "UNRESOLVED_USING_COLUMN_FOR_JOIN",
                    format!(
                        "USING column `{name}` cannot be resolved on the {which} side of the join: the {which}-side columns: [{known}]"
                    ),
                ))
            }
            _ => Err(Error::invalid(
                "AMBIGUOUS_REFERENCE",
                format!(
                    "reference `{name}` is ambiguous: the {which} side of the join has several columns of this name"
                ),
            )),
        }
    };
    let mut first = vec![];
    let mut condition: Option<Expr> = None;
    for name in &names {
        let (l, r) = (side(&left, name, "left")?, side(&right, name, "right")?);
        let equal =
            Expr::BinaryOp { left: Box::new(l.expr.clone()), op: BinaryOperator::Eq, right: Box::new(r.expr.clone()) };
        condition = Some(match condition {
            Some(others) => Expr::BinaryOp { left: Box::new(others), op: BinaryOperator::And, right: Box::new(equal) },
            None => equal,
        });
        let expr = match () {
            () if full => call("coalesce", vec![l.expr, r.expr]),
            () if takes_right => r.expr,
            () => l.expr,
        };
        merged.insert(name.to_lowercase(), expr.clone());
        first.push(Shown { name: l.name, expr });
    }
    if let Some(constraint) = constraint_mut(operator) {
        // Without a common column a NATURAL JOIN is of all to all.
        *constraint = JoinConstraint::On(condition.unwrap_or_else(|| Expr::Value(Value::Boolean(true).into())));
    }
    let others = |column: &Shown| !names.iter().any(|name| same(name, &column.name));
    first.extend(left.into_iter().filter(others));
    if !half {
        first.extend(right.into_iter().filter(others));
    }
    Ok(first)
}

fn star(columns: &[Shown], options: &WildcardAdditionalOptions) -> Vec<SelectItem> {
    let except = options.opt_except.as_ref();
    let left_out = |name: &str| {
        except.is_some_and(|except| {
            std::iter::once(&except.first_element)
                .chain(&except.additional_elements)
                .any(|ident| same(&ident.value, name))
        })
    };
    columns
        .iter()
        .filter(|column| !left_out(&column.name))
        .map(|column| match &column.expr {
            // Under the name of its table it is another than a column of this name elsewhere.
            expr @ Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(expr.clone()),
            expr => SelectItem::ExprWithAlias { expr: expr.clone(), alias: ident(&column.name) },
        })
        .collect()
}

fn meant(merged: &Merged, ident: &Ident) -> Option<Expr> {
    merged.get(&ident.value.to_lowercase()).cloned()
}

/// Puts what names mean in their place.
fn put_in(expr: &mut Expr, merged: &Merged) {
    visit_names(expr, &mut |ident, expr| {
        if let Some(meaning) = meant(merged, ident) {
            *expr = meaning;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use std::sync::Arc;

    /// Tables `a (x, k)`, `b (k, y)` and `c (k, x)`.
    fn check(text: &str, expect: &str) {
        let mut query = parse_query(text).expect(text);
        let SetExpr::Select(select) = query.body.as_mut() else { panic!("{text}") };
        let outcome = expand(select, &|_, from| {
            let name = from[0].relation.to_string();
            let columns = match name.as_str() {
                "a" => ["x", "k"],
                "b" => ["k", "y"],
                _ => ["k", "x"],
            };
            let schema = Schema::new(columns.map(|column| Field::new(column, DataType::Int32, true)).to_vec());
            Ok(Arc::new(DFSchema::try_from_qualified_schema(name, &schema).expect("schema")))
        });
        match outcome {
            Ok(merged) => {
                order_by(&mut query, &merged);
                assert_eq!(query.to_string(), expect);
            }
            Err(error) => assert_eq!(error.class, expect, "{text}"),
        }
    }

    #[test]
    fn columns_that_are_joined_by_come_first() {
        let items = "`a`.`k`, `a`.`x`, `b`.`y`";
        check("SELECT * FROM a JOIN b USING (k)", &format!("SELECT {items} FROM a JOIN b ON `a`.`k` = `b`.`k`"));
        check("SELECT * FROM a NATURAL JOIN b", &format!("SELECT {items} FROM a JOIN b ON `a`.`k` = `b`.`k`"));
        check(
            "SELECT k FROM a FULL JOIN b USING (k) WHERE k > 1 ORDER BY k + 1",
            "SELECT coalesce(`a`.`k`, `b`.`k`) AS k FROM a FULL JOIN b ON `a`.`k` = `b`.`k` WHERE \
             coalesce(`a`.`k`, `b`.`k`) > 1 ORDER BY k + 1",
        );
        check(
            "SELECT x FROM a RIGHT JOIN b USING (k) ORDER BY k",
            "SELECT x FROM a RIGHT JOIN b ON `a`.`k` = `b`.`k` ORDER BY `b`.`k`",
        );
        check(
            "SELECT y FROM a FULL JOIN b USING (k) JOIN c USING (k)",
            "SELECT y FROM a FULL JOIN b ON `a`.`k` = `b`.`k` JOIN c ON coalesce(`a`.`k`, `b`.`k`) = `c`.`k`",
        );
        check(
            "SELECT * FROM a JOIN c USING (k)",
            "SELECT `a`.`k`, `a`.`x`, `c`.`x` FROM a JOIN c ON `a`.`k` = `c`.`k`",
        );
        check(
            "SELECT transform(array(1), k -> k + 1), (SELECT max(k) FROM c) FROM a JOIN b USING (k)",
            "SELECT transform(array(1), k -> k + 1), (SELECT max(k) FROM c) FROM a JOIN b ON `a`.`k` = `b`.`k`",
        );
        check(
            "SELECT * FROM (a FULL JOIN b USING (k)) JOIN c ON c.k = a.k",
            "SELECT coalesce(`a`.`k`, `b`.`k`) AS `k`, `a`.`x`, `b`.`y`, `c`.`k`, `c`.`x` FROM a FULL JOIN b ON \
             `a`.`k` = `b`.`k` JOIN c ON c.k = a.k",
        );
        check(
            "SELECT *, k FROM a FULL JOIN b USING (k) CROSS JOIN LATERAL (SELECT generated('explode', 0, k) AS g) AS l",
            "SELECT coalesce(`a`.`k`, `b`.`k`) AS `k`, `a`.`x`, `b`.`y`, `l`.`g`, coalesce(`a`.`k`, `b`.`k`) AS k FROM a \
             FULL JOIN b ON `a`.`k` = `b`.`k` CROSS JOIN LATERAL (SELECT generated('explode', 0, \
             coalesce(`a`.`k`, `b`.`k`)) AS g) AS l",
        );
        check("SELECT 1 FROM a LEFT JOIN b", "SELECT 1 FROM a LEFT JOIN b ON true");
        check("SELECT * FROM a JOIN b ON a.k = b.k", "SELECT * FROM a JOIN b ON a.k = b.k");
        check("SELECT * FROM a JOIN b USING (z)", "UNRESOLVED_USING_COLUMN_FOR_JOIN");
    }
}
