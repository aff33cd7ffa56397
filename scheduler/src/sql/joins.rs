//! `USING` and `NATURAL` on the syntax tree: they become `ON`, and what they mean for names is written out. The columns
//! that are joined by come first in `*`, once; their names mean the side that has a value.
//!
//! DataFusion leaves them where they are, and takes the left side's in a `FULL JOIN`.

use super::syntax::call;
use datafusion::common::DFSchemaRef;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectNamePart, Query, Select,
    SelectItem, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use headwater_proto::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

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
    if !known_stars || select.from.iter().flat_map(factors).any(|factor| lateral(&factor)) {
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
            let Some(right) = columns(&join.relation)? else { return Ok(Merged::new()) };
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
    let mut names = Names { merged: &merged, depth: 0 };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            names.put_in(expr);
        }
    }
    if let GroupByExpr::Expressions(keys, _) = &mut select.group_by {
        keys.iter_mut().for_each(|key| names.put_in(key));
    }
    for expr in [&mut select.selection, &mut select.having, &mut select.qualify].into_iter().flatten() {
        names.put_in(expr);
    }
    select.sort_by.iter_mut().for_each(|key| names.put_in(&mut key.expr));
    Ok(merged)
}

/// Puts what names mean in the place of those that the query's `ORDER BY` has and its items do not.
pub fn order_by(query: &mut Query, merged: &Merged) {
    use datafusion::sql::sqlparser::ast::{OrderByKind, SetExpr};
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
        let mut names = Names { merged: &merged, depth: 0 };
        keys.iter_mut().for_each(|key| names.put_in(&mut key.expr));
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
    let quoted = |name: &str| Ident::with_quote('`', name);
    schema
        .iter()
        .map(|(qualifier, field)| {
            let table = quoted(qualifier?.table());
            let expr = Expr::CompoundIdentifier(vec![table, quoted(field.name())]);
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
                Names { merged, depth: 0 }.put_in(condition);
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
        .map(|column| SelectItem::ExprWithAlias {
            expr: column.expr.clone(),
            alias: Ident::with_quote('`', column.name.clone()),
        })
        .collect()
}

fn meant(merged: &Merged, ident: &Ident) -> Option<Expr> {
    merged.get(&ident.value.to_lowercase()).cloned()
}

/// Puts what names mean in their place, but for names in subqueries, which may have tables of their own.
struct Names<'a> {
    merged: &'a Merged,
    depth: usize,
}

impl Names<'_> {
    fn put_in(&mut self, expr: &mut Expr) {
        let _ = expr.visit(self);
    }
}

impl VisitorMut for Names<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Identifier(ident) = expr
            && let Some(meaning) = meant(self.merged, ident)
        {
            *expr = meaning;
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::sql::sqlparser::ast::SetExpr;
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
        let items = "`a`.`k` AS `k`, `a`.`x` AS `x`, `b`.`y` AS `y`";
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
        check("SELECT 1 FROM a LEFT JOIN b", "SELECT 1 FROM a LEFT JOIN b ON true");
        check("SELECT * FROM a JOIN b ON a.k = b.k", "SELECT * FROM a JOIN b ON a.k = b.k");
        check("SELECT * FROM a JOIN b USING (z)", "UNRESOLVED_USING_COLUMN_FOR_JOIN");
    }
}
