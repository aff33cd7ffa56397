//! Generators, which make many rows of one: `explode` and its kin in SELECT lists, `LATERAL VIEW` and table functions.
//!
//! On the syntax tree ([`expand`]) a generator becomes calls of `generated(kind, i, args…)`, one for each of its columns, in
//! the SELECT list or in a lateral subquery; PySpark's plans hold the same calls. On the plan ([`Generators`]) the calls of
//! one projection become an unnesting of what the generator makes, and a lateral join with it is taken apart.

use super::functions::call;
use super::syntax;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, Result as PlanResult, ScalarValue, UnnestOptions};
use datafusion::logical_expr::expr::{Alias, ScalarFunction};
use datafusion::logical_expr::{Expr as PlanExpr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join as SqlJoin, JoinConstraint,
    JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef,
    TableFactor, TableWithJoins, Value, visit_expressions,
};
use headwater_executor::functions::generators::{COLUMN, KINDS, ROW, ROWS};
use headwater_executor::functions::native::external;
use headwater_proto::error::{Error, Result};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The generator that a call is of, in lower case, and its arguments.
fn generator(expr: &Expr) -> Option<(String, Vec<Expr>)> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), over: None, .. }) = expr else {
        return None;
    };
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
    named(&name.value, &list.args)
}

fn named(name: &str, args: &[FunctionArg]) -> Option<(String, Vec<Expr>)> {
    let kind = name.to_ascii_lowercase();
    if !KINDS.contains(&kind.as_str()) {
        return None;
    }
    let args = args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    });
    Some((kind, args.collect::<Option<Vec<_>>>()?))
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_string()).into())
}

fn columns(kind: &str, args: &[Expr], names: &[Ident]) -> Vec<SelectItem> {
    let column = |(at, alias): (usize, &Ident)| {
        let mut all = vec![text(kind), Expr::Value(Value::Number(at.to_string(), false).into())];
        all.extend(args.iter().cloned());
        SelectItem::ExprWithAlias { expr: syntax::call(COLUMN, all), alias: alias.clone() }
    };
    names.iter().enumerate().map(column).collect()
}

/// Rewrites generators of one SELECT. `schema_of` plans a SELECT of the given items over the same FROM.
///
/// # Errors
/// Generators where they cannot stand; those of `schema_of`.
pub fn expand(select: &mut Select, schema_of: &dyn Fn(&Select, Vec<SelectItem>) -> Result<DFSchemaRef>) -> Result<()> {
    for view in std::mem::take(&mut select.lateral_views) {
        let Some((mut kind, args)) = generator(&view.lateral_view) else {
            return Err(Error::invalid(
                "UNSUPPORTED_GENERATOR.NOT_GENERATOR",
                format!(
                    "LATERAL VIEW {}: this is no generator: use explode, posexplode, inline, stack or json_tuple",
                    view.lateral_view
                ),
            ));
        };
        if view.outer && !kind.ends_with("_outer") {
            kind.push_str("_outer");
        }
        let names = names_of(&kind, &args, view.lateral_col_alias, select, schema_of)?;
        let alias = TableAlias { name: last_ident(&view.lateral_view_name), columns: vec![], explicit: true, at: None };
        add_from(select, derived(&kind, &args, &names, Some(alias), true));
    }
    table_functions(select, schema_of)?;
    select_list(select, schema_of)
}

fn last_ident(name: &ObjectName) -> Ident {
    name.0.last().and_then(ObjectNamePart::as_ident).cloned().unwrap_or_else(|| Ident::new("t"))
}

fn add_from(select: &mut Select, relation: TableFactor) {
    match select.from.last_mut() {
        Some(from) => from.joins.push(SqlJoin {
            relation,
            global: false,
            join_operator: JoinOperator::CrossJoin(JoinConstraint::None),
        }),
        None => {
            let relation = match relation {
                TableFactor::Derived { subquery, alias, sample, .. } => {
                    TableFactor::Derived { lateral: false, subquery, alias, sample }
                }
                other => other,
            };
            select.from.push(TableWithJoins { relation, joins: vec![] });
        }
    }
}

fn derived(kind: &str, args: &[Expr], names: &[Ident], alias: Option<TableAlias>, lateral: bool) -> TableFactor {
    let select = bare_select(columns(kind, args, names));
    TableFactor::Derived { lateral, subquery: Box::new(bare_query(select)), alias, sample: None }
}

/// A query that is this SELECT.
pub fn bare_query(select: Select) -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    }
}

/// A SELECT of these items and nothing else.
pub fn bare_select(projection: Vec<SelectItem>) -> Select {
    let parsed = super::parser::parse_query("SELECT 1").map(|query| *query.body);
    let Ok(SetExpr::Select(mut select)) = parsed else { unreachable!("SELECT 1 is a query") };
    select.projection = projection;
    *select
}

/// The names of a generator's columns: those that were given, or its own.
fn names_of(
    kind: &str,
    args: &[Expr],
    given: Vec<Ident>,
    select: &Select,
    schema_of: &dyn Fn(&Select, Vec<SelectItem>) -> Result<DFSchemaRef>,
) -> Result<Vec<Ident>> {
    if !(given.is_empty() || given.len() == 1 && kind.starts_with("inline")) {
        return Ok(given);
    }
    let mut all = vec![text(kind)];
    all.extend(args.iter().cloned());
    let item = SelectItem::ExprWithAlias { expr: syntax::call(ROW, all), alias: Ident::new("row") };
    let schema = schema_of(select, vec![item])?;
    let DataType::Struct(fields) = schema.field(0).data_type() else {
        return Err(Error::internal("a generator's row is a struct"));
    };
    if given.len() == fields.len() {
        return Ok(given);
    }
    Ok(fields.iter().map(|field| Ident::with_quote('`', field.name())).collect())
}

/// `range(n)` has the column `id`, which DataFusion calls `value`. Into how many partitions it should be cut, a fourth
/// argument, is left to the engine.
fn range_column(factor: &mut TableFactor) {
    let TableFactor::Table { name, args: Some(args), alias, .. } = factor else { return };
    if !last_ident(name).value.eq_ignore_ascii_case("range") {
        return;
    }
    let Ok(mut query) = super::parser::parse_query("SELECT value AS id FROM range(1)") else {
        unreachable!("it is a query")
    };
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(TableFactor::Table { args: own, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        let mut args = args.clone();
        args.args.truncate(3);
        *own = Some(args);
    }
    *factor = TableFactor::Derived { lateral: false, subquery: query, alias: alias.take(), sample: None };
}

/// `FROM explode(x) AS t(a)` and `, LATERAL explode(x) AS t(a)`.
fn table_functions(
    select: &mut Select,
    schema_of: &dyn Fn(&Select, Vec<SelectItem>) -> Result<DFSchemaRef>,
) -> Result<()> {
    let found = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => {
            named(&last_ident(name).value, &args.args).map(|(kind, args)| (kind, args, alias.clone(), false))
        }
        TableFactor::Function { name, args, alias, lateral, .. } => {
            named(&last_ident(name).value, args).map(|(kind, args)| (kind, args, alias.clone(), *lateral))
        }
        _ => None,
    };
    let mut from = std::mem::take(&mut select.from);
    for at in 0..from.len() {
        // What stands before is what a lateral function sees.
        let mut before = select.clone();
        before.from = from[..at].to_vec();
        let replace = |factor: &mut TableFactor, before: &Select| -> Result<()> {
            range_column(factor);
            let Some((kind, args, alias, lateral)) = found(factor) else { return Ok(()) };
            let given = alias.iter().flat_map(|alias| alias.columns.iter().map(|column| column.name.clone())).collect();
            let names = names_of(&kind, &args, given, before, schema_of)?;
            let alias = alias.map(|alias| TableAlias { columns: Vec::<TableAliasColumnDef>::new(), ..alias });
            *factor = derived(&kind, &args, &names, alias, lateral);
            Ok(())
        };
        replace(&mut from[at].relation, &before)?;
        for join in 0..from[at].joins.len() {
            let mut with = before.clone();
            let mut own = from[at].clone();
            own.joins.truncate(join);
            with.from.push(own);
            replace(&mut from[at].joins[join].relation, &with)?;
        }
    }
    select.from = from;
    Ok(())
}

fn select_list(select: &mut Select, schema_of: &dyn Fn(&Select, Vec<SelectItem>) -> Result<DFSchemaRef>) -> Result<()> {
    if !select.projection.iter().any(|item| item_expr(item).is_some_and(has_generator)) {
        return Ok(());
    }
    let mut projection = vec![];
    for item in select.projection.clone() {
        let (expr, given) = match &item {
            SelectItem::UnnamedExpr(expr) => (expr, vec![]),
            SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
            SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
            _ => {
                projection.push(item);
                continue;
            }
        };
        match generator(expr) {
            Some((kind, args)) if args.iter().any(has_generator) => {
                return Err(Error::invalid(
                    "UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS",
                    format!("the generator `{kind}` is nested in another expression: put it into a subquery"),
                ));
            }
            Some((kind, args)) => {
                let names = names_of(&kind, &args, given, select, schema_of)?;
                projection.extend(columns(&kind, &args, &names));
            }
            None if has_generator(expr) => {
                return Err(Error::invalid(
                    "UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS",
                    format!("{expr}: generators cannot stand inside expressions: put them into a subquery"),
                ));
            }
            None => projection.push(item),
        }
    }
    select.projection = projection;
    Ok(())
}

fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => Some(expr),
        _ => None,
    }
}

fn has_generator(expr: &Expr) -> bool {
    let found = visit_expressions(expr, |expr| {
        if generator(expr).is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found.is_break()
}

/// Column `at` of a generator, for PySpark's plans.
pub fn column(kind: &str, at: usize, args: Vec<PlanExpr>) -> PlanExpr {
    let mut all = vec![
        PlanExpr::Literal(ScalarValue::from(kind), None),
        PlanExpr::Literal(ScalarValue::Int32(Some(at as i32)), None),
    ];
    all.extend(args);
    call(COLUMN, all)
}

/// Names and types of a generator's columns, for PySpark's plans.
///
/// # Errors
/// Arguments that it does not take.
pub fn fields(
    kind: &str,
    args: &[PlanExpr],
    schema: &datafusion::common::DFSchema,
) -> Result<arrow::datatypes::Fields> {
    use datafusion::logical_expr::ExprSchemable;
    let types = args
        .iter()
        .map(|arg| arg.get_type(schema))
        .collect::<PlanResult<Vec<_>>>()
        .map_err(super::error::from_datafusion)?;
    let constants: Vec<Option<&ScalarValue>> = args
        .iter()
        .map(|arg| match arg {
            PlanExpr::Literal(value, _) => Some(value),
            _ => None,
        })
        .collect();
    headwater_executor::functions::generators::fields(kind, &types, &constants).map_err(super::error::from_datafusion)
}

/// The rule, to be run before all others.
#[derive(Debug, Default)]
pub struct Generators;

impl AnalyzerRule for Generators {
    fn name(&self) -> &str {
        "generators"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> PlanResult<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Join(join) => lateral(join),
            plan => Ok(Transformed::no(plan)),
        })?;
        plan.data
            .transform_up_with_subqueries(|plan| match plan {
                LogicalPlan::Projection(projection) => unnested(projection),
                plan => Ok(Transformed::no(plan)),
            })
            .map(|plan| plan.data)
    }
}

/// A join with a lateral subquery that only generates is a projection of generators over its left side.
fn lateral(join: Join) -> PlanResult<Transformed<LogicalPlan>> {
    let inner = join.join_type == JoinType::Inner && join.on.is_empty() && join.filter.is_none();
    let generated = || {
        let LogicalPlan::SubqueryAlias(alias) = join.right.as_ref() else { return None };
        let LogicalPlan::Subquery(subquery) = alias.input.as_ref() else { return None };
        let LogicalPlan::Projection(projection) = subquery.subquery.as_ref() else { return None };
        let LogicalPlan::EmptyRelation(_) = projection.input.as_ref() else { return None };
        projection.expr.iter().all(|expr| generator_call(expr).is_some()).then_some((alias, projection))
    };
    let Some((alias, projection)) = generated().filter(|_| inner) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    let mut exprs: Vec<PlanExpr> = join.left.schema().columns().into_iter().map(PlanExpr::Column).collect();
    for (expr, name) in projection.expr.iter().zip(alias.schema.columns()) {
        let own = expr.clone().unalias().transform(|expr| {
            Ok(match expr {
                PlanExpr::OuterReferenceColumn(_, column) => Transformed::yes(PlanExpr::Column(column)),
                other => Transformed::no(other),
            })
        })?;
        exprs.push(own.data.alias_qualified(name.relation.clone(), name.name.clone()));
    }
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&join.left))?)))
}

/// Kind, column and arguments of a call of `generated`, perhaps under an alias.
fn generator_call(expr: &PlanExpr) -> Option<(&str, usize, &[PlanExpr])> {
    match expr {
        PlanExpr::Alias(Alias { expr, .. }) => generator_call(expr),
        PlanExpr::ScalarFunction(ScalarFunction { func, args }) if func.name() == COLUMN => {
            let [PlanExpr::Literal(kind, _), PlanExpr::Literal(at, _), rest @ ..] = args.as_slice() else {
                return None;
            };
            let at = match at {
                ScalarValue::Int32(Some(at)) => *at as usize,
                ScalarValue::Int64(Some(at)) => *at as usize,
                _ => return None,
            };
            Some((kind.try_as_str()??, at, rest))
        }
        _ => None,
    }
}

/// The same, but for a generator that makes no rows: it makes one of nulls then.
///
/// # Errors
/// None.
pub fn outer(expr: PlanExpr) -> PlanResult<PlanExpr> {
    let outer = expr.transform_up(|expr| match expr {
        PlanExpr::ScalarFunction(mut call) if call.func.name() == COLUMN => {
            let kind = match call.args.first() {
                Some(PlanExpr::Literal(kind, _)) => kind.try_as_str().flatten().map(str::to_string),
                _ => None,
            };
            let Some(kind) = kind.filter(|kind| !kind.ends_with("_outer")) else {
                return Ok(Transformed::no(PlanExpr::ScalarFunction(call)));
            };
            call.args[0] = PlanExpr::Literal(ScalarValue::from(format!("{kind}_outer")), None);
            Ok(Transformed::yes(PlanExpr::ScalarFunction(call)))
        }
        expr => Ok(Transformed::no(expr)),
    })?;
    Ok(outer.data)
}

fn unnested(projection: Projection) -> PlanResult<Transformed<LogicalPlan>> {
    let mut found: Option<(&str, &[PlanExpr])> = None;
    for expr in &projection.expr {
        let Some((kind, _, args)) = generator_call(expr) else {
            let nested = expr.exists(|expr| {
                Ok(matches!(expr, PlanExpr::ScalarFunction(function) if function.func.name() == COLUMN))
            })?;
            if nested {
                return Err(external(Error::invalid(
                    "UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS",
                    "generators cannot stand inside expressions: put them into a subquery",
                )));
            }
            continue;
        };
        match found {
            Some(known) if known != (kind, args) => {
                return Err(external(Error::invalid(
                    "UNSUPPORTED_GENERATOR.MULTI_GENERATOR",
                    "only one generator is allowed in a SELECT list: use LATERAL VIEW for others",
                )));
            }
            _ => found = Some((kind, args)),
        }
    }
    let Some((kind, args)) = found else { return Ok(Transformed::no(LogicalPlan::Projection(projection))) };
    const MADE: &str = "__generated";
    let input = Arc::clone(&projection.input);
    // As many made columns as there are generators in the plan have names of their own.
    let mut name = MADE.to_string();
    while input.schema().fields().iter().any(|field| *field.name() == name) {
        name.push('_');
    }
    let mut below: Vec<PlanExpr> = input.schema().columns().into_iter().map(PlanExpr::Column).collect();
    let mut all = vec![PlanExpr::Literal(ScalarValue::from(kind), None)];
    all.extend(args.iter().cloned());
    below.push(call(ROWS, all).alias(&name));
    let outer = kind.ends_with("_outer");
    let options = UnnestOptions::new().with_preserve_nulls(outer);
    let unnested = LogicalPlanBuilder::from(LogicalPlan::Projection(Projection::try_new(below, input)?))
        .unnest_column_with_options(Column::new_unqualified(&name), options)?
        .build()?;
    let row_fields =
        unnested.schema().fields().iter().find(|field| *field.name() == name).map(|field| field.data_type().clone());
    let Some(DataType::Struct(row_fields)) = row_fields else {
        return Err(external(Error::internal("a generator makes structs")));
    };
    let exprs = projection
        .expr
        .iter()
        .zip(projection.schema.iter())
        .map(|(expr, (relation, field))| match generator_call(expr) {
            Some((_, at, _)) => {
                let own = PlanExpr::Column(Column::new_unqualified(&name));
                let part = datafusion::functions::core::expr_fn::get_field(own, row_fields[at].name().as_str());
                part.alias_qualified(relation.cloned(), field.name())
            }
            None => expr.clone(),
        })
        .collect();
    Ok(Transformed::new(
        LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(unnested))?),
        true,
        TreeNodeRecursion::Continue,
    ))
}
