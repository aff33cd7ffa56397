//! Syntax of Spark that is other syntax of DataFusion, rewritten on the tree.
//!
//! [`queries`] comes first, before anything is resolved: clauses that are other clauses, `IDENTIFIER(…)`, units. What is
//! left of expressions is rewritten last ([`expressions`]), because columns that nobody named are called by what was
//! written.

use super::generators::{bare_query, bare_select};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, ExprWithAlias, ExprWithAliasAndOrderBy, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName, ObjectNamePart, Offset,
    OffsetRows, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, PipeOperator, Query, Select, SelectFlavor,
    SelectItem, SetExpr, SetOperator, SetQuantifier, TableAlias, TableAliasColumnDef, TableFactor, TableSample,
    TableSampleKind, TableSampleUnit, TableWithJoins, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
    WildcardAdditionalOptions, visit_expressions_mut,
};
use headwater_proto::error::{Error, Result};
use std::ops::ControlFlow;

/// Rewrites clauses, before names are resolved.
///
/// # Errors
/// Clauses that do not go together, and samples that cannot be taken.
pub fn queries(query: &mut Query) -> Result<()> {
    match query.visit(&mut Queries) {
        ControlFlow::Break(error) => Err(*error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// Rewrites expressions, after columns got their names. `database`: the current one.
pub fn expressions(query: &mut Query, database: &str) {
    let _ = query.visit(&mut Expressions { database });
}

/// Each step of a pipe is a query around those before it, and queries may not be of any depth.
const PIPE_STEPS_MAX: usize = 200;

struct Queries;

impl VisitorMut for Queries {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        match piped(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        match sorted(query) {
            Ok(()) => {
                set_expr(&mut query.body);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        if let TableFactor::Table { name, args, .. } = factor
            && let Some(given) = args
            && is_identifier(name)
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] = given.args.as_slice()
            && let Some(text) = constant_text(expr)
        {
            *name = ObjectName::from(name_parts(&text));
            *args = None;
        }
        match sampled(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        match expr {
            Expr::Function(function) => {
                if let Some(named) = identifier(function) {
                    *expr = named;
                } else {
                    units(function);
                }
            }
            // The planner takes `x.p` for a column of a table x.
            Expr::Lambda(lambda) => {
                let names: Vec<String> = lambda.params.iter().map(|param| param.name.value.clone()).collect();
                let _ = visit_expressions_mut(lambda.body.as_mut(), |expr| {
                    if let Expr::CompoundIdentifier(idents) = expr
                        && names.iter().any(|name| name.eq_ignore_ascii_case(&idents[0].value))
                    {
                        let mut idents = std::mem::take(idents).into_iter();
                        let root = idents.next().map(Expr::Identifier).map(Box::new);
                        let access_chain = idents.map(|ident| AccessExpr::Dot(Expr::Identifier(ident))).collect();
                        if let Some(root) = root {
                            *expr = Expr::CompoundFieldAccess { root, access_chain };
                        }
                    }
                    ControlFlow::<()>::Continue(())
                });
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A name between back-ticks.
pub fn ident(name: impl Into<String>) -> Ident {
    Ident::with_quote('`', name)
}

/// `SELECT * FROM factor`.
fn all_of(factor: TableFactor) -> Select {
    let mut select = bare_select(vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())]);
    select.from = vec![TableWithJoins { relation: factor, joins: vec![] }];
    select
}

/// A query in FROM.
pub fn derived(subquery: Query, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Derived { lateral: false, subquery: Box::new(subquery), alias, sample: None }
}

fn alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    TableAlias { explicit: true, name, columns, at: None }
}

/// MINUS is EXCEPT, `TABLE t` a SELECT, and the columns of VALUES are `col1`, `col2`.
fn set_expr(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, op, .. } => {
            if *op == SetOperator::Minus {
                *op = SetOperator::Except;
            }
            set_expr(left);
            set_expr(right);
        }
        SetExpr::Values(values) => {
            let width = values.rows.first().map_or(0, |row| row.content.len());
            let columns = (1..=width).map(|at| ident(format!("col{at}"))).collect();
            let mut query = bare_query(bare_select(vec![]));
            query.body = Box::new(SetExpr::Values(values.clone()));
            let named = derived(query, Some(alias(ident("values"), columns)));
            *body = SetExpr::Select(Box::new(all_of(named)));
        }
        SetExpr::Table(table) => {
            let parts = [&table.schema_name, &table.table_name];
            let parts: Vec<Ident> = parts.into_iter().flatten().map(|part| Ident::new(part.clone())).collect();
            if let Ok(parsed) = super::parser::parse_query("SELECT * FROM t")
                && let SetExpr::Select(mut select) = *parsed.body
                && let Some(TableFactor::Table { name, .. }) = select.from.first_mut().map(|from| &mut from.relation)
            {
                *name = ObjectName::from(parts);
                *body = SetExpr::Select(select);
            }
        }
        SetExpr::Select(select) if select.flavor == SelectFlavor::FromFirstNoSelect => {
            select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            select.flavor = SelectFlavor::Standard;
        }
        SetExpr::Select(select) => select.flavor = SelectFlavor::Standard,
        _ => {}
    }
}

/// ORDER BY ALL is by each item; SORT BY and CLUSTER BY sort everything, which sorts partitions too; DISTRIBUTE BY is left to the engine.
fn sorted(query: &mut Query) -> Result<()> {
    fn clear(body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => {
                // Inside of a set operation an order has no meaning.
                select.sort_by.clear();
                select.cluster_by.clear();
                select.distribute_by.clear();
            }
            SetExpr::SetOperation { left, right, .. } => {
                clear(left);
                clear(right);
            }
            _ => {}
        }
    }
    if let SetExpr::Select(select) = query.body.as_ref()
        && let Some(OrderBy { kind: OrderByKind::All(options), .. }) = &query.order_by
        && !select
            .projection
            .iter()
            .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)))
    {
        // By their numbers: DataFusion takes columns alone.
        let by_number = |number: usize| OrderByExpr {
            expr: Expr::Value(Value::Number(number.to_string(), false).into()),
            options: *options,
            with_fill: None,
        };
        let keys = (1..=select.projection.len()).map(by_number).collect();
        query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(keys), interpolate: None });
    }
    if let SetExpr::Select(select) = query.body.as_mut() {
        let ascending = |expr: Expr| OrderByExpr { expr, options: OrderByOptions::default(), with_fill: None };
        let mut keys = std::mem::take(&mut select.sort_by);
        keys.extend(std::mem::take(&mut select.cluster_by).into_iter().map(ascending));
        if !keys.is_empty() && query.order_by.is_some() {
            return Err(Error::invalid(
                "PARSE_SYNTAX_ERROR",
                "ORDER BY does not go together with SORT BY, CLUSTER BY and DISTRIBUTE BY: leave one out",
            ));
        }
        if !keys.is_empty() {
            query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(keys), interpolate: None });
        }
    }
    clear(&mut query.body);
    Ok(())
}

/// `FROM t |> WHERE a |> SELECT b`: each step is a query around those before it.
///
/// # Errors
/// More steps than queries may be deep; positions as keys of groups, which count other columns in Spark than here.
fn piped(query: &mut Query) -> Result<()> {
    if query.pipe_operators.len() > PIPE_STEPS_MAX {
        return Err(Error::invalid(
            "PARSE_SYNTAX_ERROR",
            format!("more than {PIPE_STEPS_MAX} steps in a pipe: divide the query by views"),
        ));
    }
    let steps = std::mem::take(&mut query.pipe_operators);
    let mut steps = steps.into_iter();
    let mut name: Option<Ident> = None;
    while let Some(step) = steps.next() {
        // What DataFusion alone can say something about goes to it, and all that follows.
        if matches!(step, PipeOperator::Set { .. } | PipeOperator::Rename { .. } | PipeOperator::Call { .. }) {
            query.pipe_operators.push(step);
            query.pipe_operators.extend(steps.by_ref());
            return Ok(());
        }
        if let PipeOperator::As { alias } = step {
            name = Some(alias);
            continue;
        }
        let with = query.with.take();
        let inner = std::mem::replace(query, bare_query(bare_select(vec![])));
        query.with = with;
        let known = name.take();
        let step = match step {
            PipeOperator::Union { set_quantifier, queries } => {
                *query.body = combined(inner, SetOperator::Union, set_quantifier, queries);
                continue;
            }
            PipeOperator::Intersect { set_quantifier, queries } => {
                *query.body = combined(inner, SetOperator::Intersect, set_quantifier, queries);
                continue;
            }
            PipeOperator::Except { set_quantifier, queries } => {
                *query.body = combined(inner, SetOperator::Except, set_quantifier, queries);
                continue;
            }
            step => step,
        };
        let named = known.clone().map(|name| alias(name, vec![]));
        let mut select = all_of(derived(inner, named));
        match step {
            PipeOperator::Where { expr } => {
                select.selection = Some(expr);
                name = known;
            }
            PipeOperator::Select { exprs } => select.projection = exprs,
            PipeOperator::Extend { exprs } => select.projection.extend(exprs),
            PipeOperator::Drop { columns } => {
                if let Some(SelectItem::Wildcard(options)) = select.projection.first_mut() {
                    let mut columns = columns.into_iter();
                    if let Some(first_element) = columns.next() {
                        let additional_elements = columns.collect();
                        options.opt_except = Some(datafusion::sql::sqlparser::ast::ExceptSelectItem {
                            first_element,
                            additional_elements,
                        });
                    }
                }
            }
            PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
                let is_position = |key: &ExprWithAliasAndOrderBy| matches!(&key.expr.expr, Expr::Value(value) if matches!(value.value, Value::Number(..)));
                if group_by_expr.iter().any(is_position) {
                    return Err(Error::invalid(
                        "UNSUPPORTED_FEATURE",
                        "|> AGGREGATE … GROUP BY takes names, not positions",
                    ));
                }
                let item = |one: &ExprWithAliasAndOrderBy| match &one.expr {
                    ExprWithAlias { expr, alias: Some(alias) } => {
                        SelectItem::ExprWithAlias { expr: expr.clone(), alias: alias.clone() }
                    }
                    ExprWithAlias { expr, alias: None } => SelectItem::UnnamedExpr(expr.clone()),
                };
                select.projection = group_by_expr.iter().chain(&full_table_exprs).map(item).collect();
                let keys = group_by_expr.into_iter().map(|one| one.expr.expr).collect();
                select.group_by = GroupByExpr::Expressions(keys, vec![]);
            }
            PipeOperator::OrderBy { exprs } => {
                query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(exprs), interpolate: None });
            }
            PipeOperator::Limit { expr, offset } => {
                let offset = offset.map(|value| Offset { value, rows: OffsetRows::None });
                query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(expr), offset, limit_by: vec![] });
            }
            PipeOperator::TableSample { sample } => {
                if let Some(TableWithJoins { relation: TableFactor::Derived { sample: place, .. }, .. }) =
                    select.from.first_mut()
                {
                    *place = Some(TableSampleKind::AfterTableAlias(sample));
                }
            }
            PipeOperator::Join(join) => {
                if let Some(from) = select.from.first_mut() {
                    from.joins.push(join);
                }
            }
            PipeOperator::Pivot { aggregate_functions, value_column, value_source, alias: given } => {
                if let Some(TableWithJoins { relation, .. }) = select.from.first_mut() {
                    *relation = TableFactor::Pivot {
                        table: Box::new(relation.clone()),
                        aggregate_functions,
                        value_column: value_column.into_iter().map(Expr::Identifier).collect(),
                        value_source,
                        default_on_null: None,
                        alias: given.map(|name| alias(name, vec![])),
                    };
                }
            }
            PipeOperator::Unpivot { value_column, name_column, unpivot_columns, alias: given } => {
                if let Some(TableWithJoins { relation, .. }) = select.from.first_mut() {
                    let column = |name| ExprWithAlias { expr: Expr::Identifier(name), alias: None };
                    *relation = TableFactor::Unpivot {
                        table: Box::new(relation.clone()),
                        value: Expr::Identifier(value_column),
                        name: name_column,
                        columns: unpivot_columns.into_iter().map(column).collect(),
                        null_inclusion: None,
                        alias: given.map(|name| alias(name, vec![])),
                    };
                }
            }
            // See above.
            PipeOperator::As { .. }
            | PipeOperator::Union { .. }
            | PipeOperator::Intersect { .. }
            | PipeOperator::Except { .. }
            | PipeOperator::Set { .. }
            | PipeOperator::Rename { .. }
            | PipeOperator::Call { .. } => {}
        }
        *query.body = SetExpr::Select(Box::new(select));
    }
    Ok(())
}

fn combined(first: Query, op: SetOperator, set_quantifier: SetQuantifier, others: Vec<Query>) -> SetExpr {
    others.into_iter().fold(SetExpr::Query(Box::new(first)), |left, right| SetExpr::SetOperation {
        op,
        set_quantifier,
        left: Box::new(left),
        right: Box::new(SetExpr::Query(Box::new(right))),
    })
}

/// A sample is a query of its own: so many rows, or each row by chance.
fn sampled(factor: &mut TableFactor) -> Result<()> {
    let (TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. }) = factor else { return Ok(()) };
    let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample.take()
    else {
        return Ok(());
    };
    let mut bare = factor.clone();
    let given = match &mut bare {
        TableFactor::Table { alias: given, name, .. } => given
            .take()
            .or_else(|| name.0.last().and_then(ObjectNamePart::as_ident).map(|name| alias(name.clone(), vec![]))),
        TableFactor::Derived { alias: given, .. } => given.take(),
        _ => None,
    };
    let mut select = all_of(bare);
    let mut query = bare_query(bare_select(vec![]));
    match amount(&sample)? {
        Amount::Rows(limit) => {
            query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(*limit), offset: None, limit_by: vec![] });
        }
        Amount::Share(share) => {
            let seed = sample.seed.iter().map(|seed| Expr::Value(seed.value.clone())).collect();
            select.selection = Some(Expr::BinaryOp {
                left: Box::new(call("rand", seed)),
                op: BinaryOperator::Lt,
                right: Box::new(Expr::Value(Value::Number(format!("{share}D"), false).into())),
            });
        }
    }
    query.body = Box::new(SetExpr::Select(Box::new(select)));
    *factor = derived(query, given);
    Ok(())
}

enum Amount {
    Rows(Box<Expr>),
    Share(f64),
}

fn amount(sample: &TableSample) -> Result<Amount> {
    let refused = || {
        Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!("{sample}: a sample is (n ROWS), (n PERCENT) or (BUCKET n OUT OF m)"),
        )
    };
    let number = |value: &ValueWithSpan| match &value.value {
        Value::Number(text, _) => text.parse::<f64>().ok(),
        _ => None,
    };
    if let Some(bucket) = &sample.bucket {
        return match (number(&bucket.bucket), number(&bucket.total), &bucket.on) {
            (Some(one), Some(of), None) if of > 0.0 => Ok(Amount::Share(one / of)),
            _ => Err(refused()),
        };
    }
    let Some(quantity) = &sample.quantity else { return Err(refused()) };
    match (&quantity.unit, &quantity.value) {
        (Some(TableSampleUnit::Rows), value) => Ok(Amount::Rows(Box::new(value.clone()))),
        (Some(TableSampleUnit::Percent), Expr::Value(value)) => match number(value) {
            Some(percent) if (0.0..=100.0).contains(&percent) => Ok(Amount::Share(percent / 100.0)),
            _ => Err(refused()),
        },
        _ => Err(refused()),
    }
}

fn is_identifier(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)]
        if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("identifier"))
}

/// `IDENTIFIER('a.b')` as the name that it is.
fn identifier(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] = list.args.as_slice() else { return None };
    if !is_identifier(&function.name) {
        return None;
    }
    let mut parts = name_parts(&constant_text(expr)?);
    Some(if parts.len() == 1 { Expr::Identifier(parts.remove(0)) } else { Expr::CompoundIdentifier(parts) })
}

/// The text that strings and their concatenations are.
fn constant_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        Expr::Nested(inner) => constant_text(inner),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            Some(constant_text(left)? + &constant_text(right)?)
        }
        _ => None,
    }
}

/// The parts of a name, which may be between back-ticks.
pub fn name_parts(text: &str) -> Vec<Ident> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut chars) = (false, text.trim().chars().peekable());
    while let Some(one) = chars.next() {
        match (one, parts.last_mut()) {
            ('`', Some(last)) if quoted && chars.peek() == Some(&'`') => {
                last.push('`');
                chars.next();
            }
            ('`', _) => quoted = !quoted,
            ('.', _) if !quoted => parts.push(String::new()),
            (one, Some(last)) => last.push(one),
            (_, None) => {}
        }
    }
    parts.into_iter().map(ident).collect()
}

/// `timestampadd(HOUR, …)`, `dateadd(MONTH, …)` and their kin: the unit is no column.
fn units(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(unit)), _, _] = list.args.as_mut_slice() else { return };
    let Expr::Identifier(word) = unit else { return };
    let name = match function.name.to_string().to_ascii_lowercase().as_str() {
        "timestampadd" | "dateadd" | "date_add" => "timestampadd",
        "timestampdiff" | "datediff" | "date_diff" | "timediff" => "timestampdiff",
        _ => return,
    };
    *unit = Expr::Value(Value::SingleQuotedString(word.value.clone()).into());
    function.name = ObjectName::from(vec![Ident::new(name)]);
}

/// A call of a function.
pub fn call(function: &str, arguments: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn text(value: impl Into<String>) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.into()).into())
}

struct Expressions<'a> {
    database: &'a str,
}

impl VisitorMut for Expressions<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                && let Expr::Tuple(values) = expr
            {
                *expr = structure(values);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let replaced = match expr {
            // DataFusion knows no negative interval of ours.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } if matches!(expr.as_ref(), Expr::Interval(_)) => {
                call("negative", vec![expr.as_ref().clone()])
            }
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => call("bitwise_not", vec![expr.as_ref().clone()]),
            Expr::Like { any: false, pattern, escape_char, .. }
            | Expr::ILike { any: false, pattern, escape_char, .. } => {
                if let Some(escape) = escape_char.take()
                    && let Some(escape) = escape.value.into_string().filter(|escape| escape != "\\")
                {
                    **pattern = call("like_pattern", vec![pattern.as_ref().clone(), text(escape)]);
                }
                return ControlFlow::Continue(());
            }
            Expr::RLike { negated, expr: subject, pattern, .. } => {
                let matches = call("regexp_like", vec![subject.as_ref().clone(), pattern.as_ref().clone()]);
                match negated {
                    true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(matches) },
                    false => matches,
                }
            }
            Expr::Struct { values, fields } if fields.is_empty() => structure(values),
            Expr::Function(function) if is_current_database(function) => text(self.database),
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let rest = [substring_from, substring_for].into_iter().flatten();
                let arguments = std::iter::once(expr).chain(rest).map(|argument| argument.as_ref().clone());
                call("substring", arguments.collect())
            }
            _ => return ControlFlow::Continue(()),
        };
        *expr = replaced;
        ControlFlow::Continue(())
    }
}

fn is_current_database(function: &Function) -> bool {
    let name = function.name.to_string().to_ascii_lowercase();
    let bare = match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty(),
        FunctionArguments::Subquery(_) => false,
    };
    bare && ["current_database", "current_schema"].contains(&name.as_str())
}

/// `struct(a, 1, 2 AS c)` has the fields `a`, `col2` and `c`.
fn structure(values: &[Expr]) -> Expr {
    let field = |(at, value): (usize, &Expr)| {
        let (name, value) = match value {
            Expr::Named { expr, name } => (Some(name.value.clone()), expr.as_ref().clone()),
            other => (last_name(other), other.clone()),
        };
        [text(name.unwrap_or_else(|| format!("col{}", at + 1))), value]
    };
    call("named_struct", values.iter().enumerate().flat_map(field).collect())
}

/// The name of a column or field, if that is what stands there.
fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
        Expr::Nested(inner) => last_name(inner),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            AccessExpr::Dot(Expr::Identifier(ident)) => Some(ident.value.clone()),
            AccessExpr::Dot(Expr::Value(value)) => value.value.clone().into_string(),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parser::parse_query;

    fn check(text: &str, expect: &str) {
        let mut query = parse_query(text).expect(text);
        queries(&mut query).expect(text);
        expressions(&mut query, "default");
        assert_eq!(query.to_string(), expect, "{text}");
    }

    #[test]
    fn clauses_are_others() {
        check("SELECT a FROM t MINUS SELECT b FROM u", "SELECT a FROM t EXCEPT SELECT b FROM u");
        check("SELECT a FROM t SORT BY a", "SELECT a FROM t ORDER BY a");
        check("SELECT a FROM t DISTRIBUTE BY b SORT BY a DESC", "SELECT a FROM t ORDER BY a DESC");
        check("SELECT a FROM t CLUSTER BY a", "SELECT a FROM t ORDER BY a");
        check("VALUES (1, 'a')", "SELECT * FROM (VALUES (1, 'a')) AS `values` (`col1`, `col2`)");
        check("TABLE t", "SELECT * FROM t");
        check("FROM t SELECT a", "SELECT a FROM t");
        check("SELECT * FROM t TABLESAMPLE (5 ROWS) AS x", "SELECT * FROM (SELECT * FROM t LIMIT 5) AS x");
        check("SELECT * FROM t TABLESAMPLE (50 PERCENT)", "SELECT * FROM (SELECT * FROM t WHERE rand() < 0.5D) AS t");
        let mut both = parse_query("SELECT a FROM t SORT BY a ORDER BY a").expect("parses");
        let error = queries(&mut both).expect_err("one is too many");
        assert_eq!(error.class, "PARSE_SYNTAX_ERROR");
    }

    #[test]
    fn pipes_are_subqueries() {
        check(
            "FROM t |> WHERE a > 1 |> AGGREGATE count(*) AS n GROUP BY b |> ORDER BY n |> LIMIT 2",
            "SELECT * FROM (SELECT * FROM (SELECT b, count(*) AS n FROM (SELECT * FROM (SELECT * FROM t) WHERE a > 1) \
             GROUP BY b) ORDER BY n) LIMIT 2",
        );
        check("FROM t |> SELECT a |> EXTEND a + 1 AS b", "SELECT *, a + 1 AS b FROM (SELECT a FROM (SELECT * FROM t))");
    }

    #[test]
    fn pipes_are_refused_where_they_would_be_others() {
        let check = |text: &str, expect: &str| {
            let mut query = parse_query(text).expect("parses");
            let error = queries(&mut query).expect_err("is refused").to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("FROM t |> AGGREGATE sum(x) GROUP BY 1", "takes names, not positions");
        check(&format!("FROM t{}", " |> WHERE a".repeat(201)), "more than 200 steps");
    }

    #[test]
    fn names_may_be_texts() {
        check("SELECT IDENTIFIER('a.' || 'b') FROM IDENTIFIER('d.`t u`')", "SELECT a.b FROM d.`t u`");
        check("SELECT IDENTIFIER('abs')(1) FROM IDENTIFIER(('t'))", "SELECT abs(1) FROM `t`");
        let parts: Vec<String> = name_parts("a.`b.c`.`d``e`").into_iter().map(|part| part.value).collect();
        assert_eq!(parts, ["a", "b.c", "d`e"]);
    }

    #[test]
    fn expressions_are_others() {
        check("SELECT ~a", "SELECT bitwise_not(a)");
        check("SELECT -INTERVAL '1' DAY", "SELECT negative(INTERVAL '1' DAY)");
        check("SELECT a LIKE '/%' ESCAPE '/'", "SELECT a LIKE like_pattern('/%', '/')");
        check("SELECT timestampadd(HOUR, 1, t)", "SELECT timestampadd('HOUR', 1, t)");
        check("SELECT datediff(a, b)", "SELECT datediff(a, b)");
        check("SELECT datediff(MONTH, a, b)", "SELECT timestampdiff('MONTH', a, b)");
        check("SELECT struct(a, t.b, 1, 2 AS c)", "SELECT named_struct('a', a, 'b', t.b, 'col3', 1, 'c', 2)");
        check("SELECT a LIKE ANY ('x', 'y')", "SELECT (a LIKE 'x' OR a LIKE 'y')");
        check("SELECT a NOT LIKE ALL ('x', 'y')", "SELECT (a NOT LIKE 'x' AND a NOT LIKE 'y')");
        check("SELECT 1 + 2 << 3 & 4", "SELECT 1 + 2 << 3 & 4");
        check("SELECT a >>> 1, 10 DIV 3 + 1", "SELECT a >>> 1, 10 DIV 3 + 1");
        check("SELECT INTERVAL 2 HOURS 30 MINUTES", "SELECT INTERVAL '2 HOURS 30 MINUTES'");
        check(
            "SELECT INTERVAL -3 DAYS, INTERVAL '1-2' YEAR TO MONTH",
            "SELECT INTERVAL -3 DAYS, INTERVAL '1-2' YEAR TO MONTH",
        );
        check("SELECT transform(l, x -> x.p)", "SELECT transform(l, x -> x.p)");
        check("SELECT ceil(a, -1)", "SELECT ceil(a, -1)");
    }
}
