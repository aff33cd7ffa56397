//! `IN` and `EXISTS` as values, as an optimizer rule: [`Marks`].
//!
//! DataFusion makes semi and anti joins of those that are conditions of a filter by themselves. Anywhere else (a column, a
//! CASE, an aggregate, below OR, an outer join's ON) a join adds a column that says whether a row has a match, and the
//! expression becomes that column:
//!
//! | subquery | what is joined |
//! |---|---|
//! | the same for every row | for EXISTS one row that counts its rows, for IN a mark join |
//! | correlated | a mark join by what correlates it |
//! | correlated, an aggregate without GROUP BY | for IN a scalar subquery that is compared; EXISTS is TRUE: there is a row |
//!
//! As in Spark, which joins them likewise, these are TRUE or FALSE: where SQL does not know the answer, since a NULL is
//! compared, IN is FALSE, and so is NOT IN. A NULL that is written as one is unknown, unless the subquery has no rows.

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, JoinConstraint, JoinType, NullEquality, Result, ScalarValue, TableReference,
};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Projection, Subquery, lit, when,
};
use datafusion::optimizer::decorrelate::PullUpCorrelatedExpr;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What DataFusion calls the column that a mark join adds.
const MARK: &str = "mark";

/// The rule, to be run right before DataFusion's, which would take NOT IN below OR for TRUE where a NULL is compared.
#[derive(Debug, Default)]
pub struct Marks;

impl OptimizerRule for Marks {
    fn name(&self) -> &str {
        "subquery_marks"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let aliases: &AliasGenerator = config.alias_generator();
        match plan {
            LogicalPlan::Filter(filter) => in_filter(filter, aliases),
            LogicalPlan::Projection(projection) => in_projection(projection, aliases),
            LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => below(plan, aliases),
            LogicalPlan::Join(join) => in_join(join, aliases),
            plan => Ok(Transformed::no(plan)),
        }
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::InSubquery(_) | Expr::Exists(_))
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(is_subquery(expr))).expect("the closure never fails")
}

/// Whether DataFusion makes a semi or an anti join of a condition.
fn is_condition(expr: &Expr) -> bool {
    match expr {
        Expr::Not(inner) => is_subquery(inner) && is_condition(inner),
        Expr::Exists(exists) => !is_one_correlated_row(&exists.subquery),
        Expr::InSubquery(within) => !is_one_correlated_row(&within.subquery) && !has_subquery(&within.expr),
        _ => false,
    }
}

fn is_correlated(plan: &LogicalPlan) -> bool {
    !plan.all_out_ref_exprs().is_empty()
}

/// Whether a subquery is an aggregate without GROUP BY of what is correlated. Joined as such it would have no row where
/// nothing is aggregated.
fn is_one_correlated_row(subquery: &Subquery) -> bool {
    fn is_one_row(plan: &LogicalPlan) -> bool {
        match plan {
            LogicalPlan::Projection(projection) => is_one_row(&projection.input),
            LogicalPlan::SubqueryAlias(alias) => is_one_row(&alias.input),
            LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
            _ => false,
        }
    }
    is_one_row(&subquery.subquery) && is_correlated(&subquery.subquery)
}

/// Whether a correlated condition means the same above all that a subquery does: windows and joins that make up rows
/// would see more rows than the condition leaves them.
fn is_asked_above(plan: &LogicalPlan) -> bool {
    let changed = |node: &LogicalPlan| match node {
        LogicalPlan::Window(window) => is_correlated(&window.input),
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::Inner => false,
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => is_correlated(&join.right),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                is_correlated(&join.left)
            }
            JoinType::Full => is_correlated(&join.left) || is_correlated(&join.right),
        },
        _ => false,
    };
    !plan.exists(|node| Ok(changed(node))).expect("the closure never fails")
}

/// Whether a derived table is correlated: its columns have other names than its conditions ask by.
fn has_correlated_alias(plan: &LogicalPlan) -> bool {
    let hides = |node: &LogicalPlan| matches!(node, LogicalPlan::SubqueryAlias(alias) if is_correlated(&alias.input));
    plan.exists(|node| Ok(hides(node))).expect("the closure never fails")
}

/// The plan with these columns alone.
fn only(schema: &DFSchema, plan: LogicalPlan) -> Result<LogicalPlan> {
    if plan.schema().fields().len() == schema.fields().len() {
        return Ok(plan);
    }
    let columns = schema.columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

fn in_filter(filter: Filter, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    if !has_subquery(&filter.predicate) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let mut values = Values::new(&filter.input, aliases);
    let mut conjuncts = vec![];
    for conjunct in split_conjunction_owned(filter.predicate.clone()) {
        conjuncts.push(if is_condition(&conjunct) { conjunct } else { values.put_in(conjunct)? });
    }
    let Some(predicate) = conjunction(conjuncts).filter(|_| values.changed) else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    let filtered = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(values.plan))?);
    Ok(Transformed::yes(only(filter.input.schema(), filtered)?))
}

fn in_projection(projection: Projection, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    if !projection.expr.iter().any(has_subquery) {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let names = NamePreserver::new_for_projection();
    let mut values = Values::new(&projection.input, aliases);
    let mut exprs = vec![];
    for expr in &projection.expr {
        let name = names.save(expr);
        exprs.push(name.restore(values.put_in(expr.clone())?));
    }
    if !values.changed {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let projected = Projection::try_new(exprs, Arc::new(values.plan))?;
    Ok(Transformed::yes(LogicalPlan::Projection(projected)))
}

/// What an aggregate or a window function is of is computed by a projection below it.
fn below(plan: LogicalPlan, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    let input = match &plan {
        LogicalPlan::Aggregate(aggregate) => Arc::clone(&aggregate.input),
        LogicalPlan::Window(window) => Arc::clone(&window.input),
        _ => return Ok(Transformed::no(plan)),
    };
    let exprs = plan.expressions();
    // Sets of keys have no name that they could keep.
    let in_sets = |expr: &Expr| matches!(expr, Expr::GroupingSet(_)) && has_subquery(expr);
    if !exprs.iter().any(has_subquery) || exprs.iter().any(in_sets) {
        return Ok(Transformed::no(plan));
    }
    let names = NamePreserver::new(&plan);
    let mut columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut replaced = vec![];
    for expr in exprs {
        let name = names.save(&expr);
        let expr = expr.transform_down(|expr| {
            let whole = match &expr {
                Expr::Not(inner) => is_subquery(inner),
                expr => is_subquery(expr),
            };
            if !whole {
                return Ok(Transformed::no(expr));
            }
            let alias = aliases.next("__subquery_value");
            columns.push(expr.alias(alias.as_str()));
            Ok(Transformed::new(Expr::Column(Column::new_unqualified(alias)), true, TreeNodeRecursion::Jump))
        })?;
        replaced.push(name.restore(expr.data));
    }
    let values = in_projection(Projection::try_new(columns, input)?, aliases)?;
    if !values.transformed {
        return Ok(Transformed::no(plan));
    }
    let rewritten = plan.with_new_exprs(replaced, vec![values.data])?;
    Ok(Transformed::yes(only(plan.schema(), rewritten)?))
}

/// Conditions of an inner join are filters, of one side where they can be; those of others are values of one side.
fn in_join(join: Join, aliases: &AliasGenerator) -> Result<Transformed<LogicalPlan>> {
    let Some(condition) = join.filter.clone().filter(has_subquery) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    if join.join_type == JoinType::Inner {
        let (with, without): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(condition).into_iter().partition(has_subquery);
        let (left, others): (Vec<Expr>, Vec<Expr>) = with.into_iter().partition(|expr| is_of(expr, join.left.schema()));
        let (right, both): (Vec<Expr>, Vec<Expr>) =
            others.into_iter().partition(|expr| is_of(expr, join.right.schema()));
        let filtered = |plan: Arc<LogicalPlan>, conditions: Vec<Expr>| -> Result<Arc<LogicalPlan>> {
            let Some(predicate) = conjunction(conditions) else { return Ok(plan) };
            Ok(Arc::new(in_filter(Filter::try_new(predicate, plan)?, aliases)?.data))
        };
        let (left, right) = (filtered(Arc::clone(&join.left), left)?, filtered(Arc::clone(&join.right), right)?);
        let joined = Arc::new(LogicalPlan::Join(Join { left, right, filter: conjunction(without), ..join }));
        return Ok(Transformed::yes(Arc::unwrap_or_clone(filtered(joined, both)?)));
    }
    let (mut left, mut right) = (Values::new(&join.left, aliases), Values::new(&join.right, aliases));
    let condition = with_negations(condition)?.transform_up(|expr| {
        let one_row = match &expr {
            Expr::Exists(exists) => is_one_correlated_row(&exists.subquery),
            Expr::InSubquery(within) => is_one_correlated_row(&within.subquery),
            _ => return Ok(Transformed::no(expr)),
        };
        // A scalar subquery cannot be part of a join.
        if one_row {
            return Ok(Transformed::no(expr));
        }
        if is_of(&expr, left.plan.schema()) {
            left.value(expr)
        } else if is_of(&expr, right.plan.schema()) {
            right.value(expr)
        } else {
            Ok(Transformed::no(expr))
        }
    })?;
    if !left.changed && !right.changed {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let joined = Join::try_new(
        Arc::new(left.plan),
        Arc::new(right.plan),
        join.on,
        Some(condition.data),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    Ok(Transformed::yes(only(&join.schema, LogicalPlan::Join(joined))?))
}

/// Whether all columns that an expression uses, also inside of its subqueries, are of these.
fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    let mut found = expr.column_refs().into_iter().all(|column| schema.has_column(column));
    expr.apply(|expr| {
        let subquery = match expr {
            Expr::Exists(exists) => &exists.subquery,
            Expr::InSubquery(within) => &within.subquery,
            Expr::ScalarSubquery(subquery) => subquery,
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        found &= subquery.subquery.all_out_ref_exprs().iter().all(|outer| match outer {
            Expr::OuterReferenceColumn(_, column) => schema.has_column(column),
            _ => false,
        });
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
    found
}

/// `NOT (a IN (…))` as `a NOT IN (…)`: what is not known is FALSE in both.
fn with_negations(expr: Expr) -> Result<Expr> {
    let rewritten = expr.transform_down(|expr| {
        Ok(match expr {
            Expr::Not(inner) if is_subquery(&inner) => Transformed::yes(!*inner),
            expr => Transformed::no(expr),
        })
    })?;
    Ok(rewritten.data)
}

/// A plan that is joined with subqueries, one after the other.
struct Values<'a> {
    plan: LogicalPlan,
    aliases: &'a AliasGenerator,
    /// Whether any expression became a value.
    changed: bool,
}

impl<'a> Values<'a> {
    fn new(input: &LogicalPlan, aliases: &'a AliasGenerator) -> Self {
        Self { plan: input.clone(), aliases, changed: false }
    }

    /// The expression over columns that this plan has then. What is no join's stays.
    fn put_in(&mut self, expr: Expr) -> Result<Expr> {
        Ok(with_negations(expr)?.transform_up(|expr| self.value(expr))?.data)
    }

    fn value(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let value = match &expr {
            Expr::Exists(Exists { subquery, negated }) => self.exists(subquery, *negated)?,
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => self.within(expr, subquery, *negated)?,
            _ => None,
        };
        self.changed |= value.is_some();
        Ok(value.map_or_else(|| Transformed::no(expr), Transformed::yes))
    }

    fn exists(&mut self, subquery: &Subquery, negated: bool) -> Result<Option<Expr>> {
        let plan = subquery.subquery.as_ref();
        if is_one_correlated_row(subquery) {
            return Ok(Some(lit(!negated)));
        }
        if is_correlated(plan) {
            return Ok(self.mark(plan, None)?.map(|mark| if negated { !mark } else { mark }));
        }
        let [rows] = self.count(first_row(plan)?, [lit(1_i64)])?;
        Ok(Some(is_any(rows, negated)))
    }

    fn within(&mut self, value: &Expr, subquery: &Subquery, negated: bool) -> Result<Option<Expr>> {
        let plan = subquery.subquery.as_ref();
        if plan.schema().fields().len() != 1 || value.contains_outer() {
            return Ok(None);
        }
        if is_one_correlated_row(subquery) {
            let same = value.clone().eq(Expr::ScalarSubquery(subquery.clone()));
            return Ok(Some(if negated { same.is_false() } else { same.is_true() }));
        }
        let nullable =
            plan.schema().field(0).is_nullable() || value.nullable(self.plan.schema().as_ref()).unwrap_or(true);
        // A NOT IN that is not known is FALSE: it counts as a match.
        let or_unknown = negated && nullable;
        if is_correlated(plan) {
            let mark = self.mark(plan, Some((value, or_unknown)))?;
            return Ok(mark.map(|mark| if negated { !mark } else { mark }));
        }
        let column = Expr::Column(Column::from(plan.schema().qualified_field(0)));
        if matches!(value, Expr::Literal(literal, _) if literal.is_null()) {
            let [rows] = self.count(first_row(plan)?, [lit(1_i64)])?;
            let unknown = lit(ScalarValue::Boolean(None));
            return Ok(Some(when(is_any(rows, false), unknown).otherwise(lit(negated))?));
        }
        if value.column_refs().is_empty() {
            let matching = when(compared(value, column, or_unknown), lit(1_i64)).end()?;
            let [matches] = self.count(plan.clone(), [matching])?;
            return Ok(Some(is_any(matches, negated)));
        }
        let Some(mark) = self.mark(plan, Some((value, false)))? else { return Ok(None) };
        if !negated {
            return Ok(Some(mark));
        }
        if !nullable {
            return Ok(Some(!mark));
        }
        // A join by equality finds no NULL, and any other would compare every row with every row.
        let [rows, known] = self.count(plan.clone(), [lit(1_i64), column])?;
        let all_known = rows.clone().eq(known).and(value.clone().is_not_null().or(rows.eq(lit(0_i64))));
        Ok(Some((!mark).and(all_known)))
    }

    /// Counts values over all rows of a subquery, as columns of every row.
    fn count<const N: usize>(&mut self, subquery: LogicalPlan, values: [Expr; N]) -> Result<[Expr; N]> {
        let names: [String; N] = std::array::from_fn(|_| self.aliases.next("__subquery_count"));
        let counts: Vec<Expr> =
            values.into_iter().zip(&names).map(|(value, name)| count(value).alias(name.as_str())).collect();
        let counts = LogicalPlanBuilder::from(subquery).aggregate(Vec::<Expr>::new(), counts)?;
        // The single row comes first: it is what every task keeps.
        self.plan = match std::mem::take(&mut self.plan) {
            // A query without tables is a row already.
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => counts.build()?,
            plan => counts.cross_join(plan)?.build()?,
        };
        Ok(names.map(|name| Expr::Column(Column::new_unqualified(name))))
    }

    /// Joins a subquery by what correlates it, and by its only column where it is given a value: the column that says
    /// whether a row has a match, or none where the subquery is correlated in another way than a join is.
    fn mark(&mut self, subquery: &LogicalPlan, value: Option<(&Expr, bool)>) -> Result<Option<Expr>> {
        if !is_asked_above(subquery) {
            return Ok(None);
        }
        let mut pull_up = PullUpCorrelatedExpr::new().with_exists_sub_query(value.is_none());
        let inner = subquery.clone().rewrite(&mut pull_up)?.data;
        if !pull_up.can_pull_up || pull_up.pulled_up_scalar_agg {
            return Ok(None);
        }
        // Names of its own for all columns: those of the subquery may be the plan's too.
        let alias = self.aliases.next("__subquery_mark");
        let relation = TableReference::bare(alias.as_str());
        let renamed = |at: usize| Column::new(Some(relation.clone()), format!("{alias}_{at}"));
        let columns = inner.schema().columns();
        let correlated: BTreeSet<&Column> = pull_up.correlated_subquery_cols_map.values().flatten().collect();
        let hidden = has_correlated_alias(subquery);
        let place = |column: &Column| {
            let exact = columns.iter().position(|other| other == column).filter(|_| !hidden);
            exact.or_else(|| {
                let mut same = columns.iter().enumerate().filter(|(_, other)| other.name == column.name);
                same.next().filter(|_| same.next().is_none()).map(|(at, _)| at)
            })
        };
        let asked = pull_up.join_filters.iter().flat_map(Expr::column_refs);
        if asked.into_iter().any(|column| correlated.contains(column) && place(column).is_none()) {
            return Ok(None);
        }
        let mut conditions = vec![];
        if let Some((value, or_unknown)) = value {
            conditions.push(compared(value, Expr::Column(renamed(0)), or_unknown));
        }
        for filter in &pull_up.join_filters {
            let filter = filter.clone().transform(|expr| {
                let found = match &expr {
                    Expr::Column(column) if correlated.contains(column) => place(column),
                    _ => None,
                };
                Ok(match found {
                    Some(at) => Transformed::yes(Expr::Column(renamed(at))),
                    None => Transformed::no(expr),
                })
            })?;
            conditions.push(filter.data);
        }
        let outputs = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let Column { relation, name, .. } = renamed(at);
                Expr::Column(column.clone()).alias_qualified(relation, name)
            })
            .collect();
        let right = Projection::try_new(outputs, Arc::new(inner))?;
        // Columns of queries further out are none of this join's.
        let is_known = |column: &Column| self.plan.schema().has_column(column) || right.schema.has_column(column);
        if !conditions.iter().flat_map(Expr::column_refs).all(is_known) {
            return Ok(None);
        }
        let condition = conjunction(conditions).unwrap_or_else(|| lit(true));
        let joined = Join::try_new(
            Arc::new(std::mem::take(&mut self.plan)),
            Arc::new(LogicalPlan::Projection(right)),
            vec![],
            Some(condition),
            JoinType::LeftMark,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        self.plan = LogicalPlan::Join(joined);
        Ok(Some(Expr::Column(Column::new(Some(relation), MARK))))
    }
}

/// `value = column`, or also where it is not known whether it is.
fn compared(value: &Expr, column: Expr, or_unknown: bool) -> Expr {
    let same = value.clone().eq(column);
    if or_unknown { same.is_not_false() } else { same }
}

/// Whether a count is of any row, or of none.
fn is_any(rows: Expr, negated: bool) -> Expr {
    if negated { rows.eq(lit(0_i64)) } else { rows.gt(lit(0_i64)) }
}

fn first_row(plan: &LogicalPlan) -> Result<LogicalPlan> {
    LogicalPlanBuilder::from(plan.clone()).limit(0, Some(1))?.build()
}
