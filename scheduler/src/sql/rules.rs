//! Rules on plans, for SQL and PySpark alike.
//!
//! - [`SparkCasts`] (analyzer): `CAST(binary AS STRING)` never fails in Spark, and DataFusion's does on what is not
//!   UTF-8; and `from_json` takes bytes as they are, so that the cast before it can go.
//! - [`ShareExpensive`] (optimizer, after filters are pushed down): parsing a payload costs more than everything else that a stateless query
//!   does. DataFusion pushes filters below projections and so writes the parse twice, once in the filter and once above
//!   it; this computes it once, below the filter.
//! - [`CloseCalls`] (physical optimizer, first): calls of functions that take functions hold what they take, before
//!   DataFusion brings them to other nodes.
//! - [`CheapFirst`] (physical optimizer, last): what can be filtered without the parse is filtered before it. It is
//!   not for the logical plan, since DataFusion's physical rules merge filters across a projection and so would undo
//!   the other rule.
//! - [`WholeRightSides`] (physical optimizer, last): joins without equality tell of each row once, however many tasks
//!   there are.

use arrow::datatypes::DataType;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, Filter, LogicalPlan, Projection, ScalarUDF, SubqueryAlias};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{
    PhysicalExpr, ScalarFunctionExpr, conjunction as physical_conjunction,
    split_conjunction as split_physical_conjunction,
};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, replace_children_if_necessary};
use headwater_executor::functions::closed::{ClosedCall, close};
use headwater_executor::functions::native::WITH_CONTEXT;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Our function for `CAST(binary AS STRING)`.
pub const BINARY_TO_STRING: &str = "spark_binary_to_string";

/// Functions that take bytes where Spark has text.
const TAKE_BINARY: &[&str] = &["from_json"];

/// Functions that are not to be computed twice for a row.
const EXPENSIVE: &[&str] = &["from_json", "from_avro", "from_csv", "from_protobuf", "from_xml"];

/// Spark's casts of bytes to text.
#[derive(Debug)]
pub struct SparkCasts {
    binary_to_string: Arc<ScalarUDF>,
}

impl SparkCasts {
    /// The rule, which puts this function in place of casts.
    pub fn new(binary_to_string: Arc<ScalarUDF>) -> Self {
        Self { binary_to_string }
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| match expr {
            Expr::Cast(Cast { expr: inner, field }) if is_text(field.data_type()) && is_binary(&inner, schema) => {
                Ok(Transformed::yes(self.call(*inner, field.data_type())))
            }
            Expr::TryCast(TryCast { expr: inner, field })
                if is_text(field.data_type()) && is_binary(&inner, schema) =>
            {
                Ok(Transformed::yes(self.call(*inner, field.data_type())))
            }
            Expr::ScalarFunction(mut function) if TAKE_BINARY.contains(&function.func.name()) => {
                match function.args.first() {
                    Some(Expr::ScalarFunction(inner))
                        if inner.func.name() == BINARY_TO_STRING && inner.args.len() == 1 =>
                    {
                        function.args[0] = inner.args[0].clone();
                        Ok(Transformed::yes(Expr::ScalarFunction(function)))
                    }
                    _ => Ok(Transformed::no(Expr::ScalarFunction(function))),
                }
            }
            other => Ok(Transformed::no(other)),
        })
    }

    fn call(&self, inner: Expr, target: &DataType) -> Expr {
        let call = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.binary_to_string), vec![inner]));
        match target {
            DataType::Utf8 => call,
            other => Expr::Cast(Cast::new(Box::new(call), other.clone())),
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// A column that does not resolve is somebody else's error.
fn is_binary(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Binary | DataType::LargeBinary | DataType::BinaryView))
}

impl AnalyzerRule for SparkCasts {
    fn name(&self) -> &str {
        "spark_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let schema = match &plan {
                LogicalPlan::TableScan(scan) => {
                    DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?
                }
                plan => merge_schema(&plan.inputs()),
            };
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(self.rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(rewritten.data)
    }
}

/// Computes an expensive function once where a filter and the projection above it both need it.
#[derive(Debug, Default)]
pub struct ShareExpensive;

impl OptimizerRule for ShareExpensive {
    fn name(&self) -> &str {
        "share_expensive"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(projection) = &plan else { return Ok(Transformed::no(plan)) };
        let above = expensive(projection.expr.iter());
        if above.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let Some((predicate, input)) = lifted_filter(&projection.input)? else { return Ok(Transformed::no(plan)) };
        let shared: Vec<(Expr, String)> = expensive([&predicate])
            .into_iter()
            .filter(|expr| above.contains(expr))
            .map(|expr| (expr, config.alias_generator().next("__shared")))
            .collect();
        if shared.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let replace = |expr: Expr| -> Result<Expr> {
            let replaced = expr.transform_down(|expr| {
                Ok(match shared.iter().find(|(known, _)| *known == expr) {
                    // What is inside is the new column's business.
                    Some((_, alias)) => {
                        Transformed::new(Expr::Column(Column::new_unqualified(alias)), true, TreeNodeRecursion::Jump)
                    }
                    None => Transformed::no(expr),
                })
            })?;
            Ok(replaced.data)
        };
        let names = NamePreserver::new(&plan);
        let outputs = projection
            .expr
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                Ok(name.restore(replace(expr.clone())?))
            })
            .collect::<Result<Vec<_>>>()?;
        let predicate = replace(predicate)?;
        // In a fixed order: the plan of a restarted query is to be the same.
        let needed: BTreeSet<&Column> = outputs
            .iter()
            .chain([&predicate])
            .flat_map(Expr::column_refs)
            .filter(|column| !shared.iter().any(|(_, alias)| *alias == column.name))
            .collect();
        let columns = needed
            .into_iter()
            .map(|column| Expr::Column(column.clone()))
            .chain(shared.iter().map(|(expr, alias)| expr.clone().alias(alias)))
            .collect();
        let input = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?));
        let input = Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, input)?));
        let output = Projection::try_new_with_schema(outputs, input, Arc::clone(&projection.schema))?;
        Ok(Transformed::yes(LogicalPlan::Projection(output)))
    }
}

/// The predicate of the filter that is this plan's root, or is below an alias or a choice of columns, and what is below
/// the filter: at least the plan's columns, by the plan's names.
fn lifted_filter(plan: &LogicalPlan) -> Result<Option<(Expr, Arc<LogicalPlan>)>> {
    match plan {
        LogicalPlan::Filter(filter) => Ok(Some((filter.predicate.clone(), Arc::clone(&filter.input)))),
        // One that only leaves columns out: what the caller puts in its place does so again.
        LogicalPlan::Projection(columns) if columns.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
            lifted_filter(&columns.input)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some((predicate, input)) = lifted_filter(&alias.input)? else { return Ok(None) };
            let inner = Arc::clone(input.schema());
            let lifted = SubqueryAlias::try_new(input, alias.alias.clone())?;
            // An alias renames qualifiers and keeps positions.
            let predicate = predicate.transform(|expr| {
                Ok(match expr {
                    Expr::Column(column) => {
                        let position = inner.index_of_column(&column)?;
                        Transformed::yes(Expr::Column(Column::from(lifted.schema.qualified_field(position))))
                    }
                    other => Transformed::no(other),
                })
            })?;
            Ok(Some((predicate.data, Arc::new(LogicalPlan::SubqueryAlias(lifted)))))
        }
        _ => Ok(None),
    }
}

/// Calls of expensive functions, outermost ones alone, each once, in the order of their appearance.
fn expensive<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Vec<Expr> {
    let mut seen = HashSet::new();
    let mut found = vec![];
    for expr in exprs {
        expr.apply(|expr| {
            Ok(match expr {
                Expr::ScalarFunction(function)
                    if EXPENSIVE.contains(&function.func.name().trim_end_matches(WITH_CONTEXT)) =>
                {
                    if seen.insert(expr.clone()) {
                        found.push(expr.clone());
                    }
                    TreeNodeRecursion::Jump
                }
                _ => TreeNodeRecursion::Continue,
            })
        })
        .expect("the closure never fails");
    }
    found
}

/// Closes calls of functions that take functions ([`ClosedCall`]) in the nodes whose expressions other rules bring to
/// nodes with other columns. In any other node they stay as they are: rules keep the columns of its input.
#[derive(Debug, Default)]
pub struct CloseCalls;

impl PhysicalOptimizerRule for CloseCalls {
    fn name(&self) -> &str {
        "close_calls"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            Ok(match with_closed_calls(&plan)? {
                Some(rewritten) => Transformed::yes(rewritten),
                None => Transformed::no(plan),
            })
        })
        .map(|rewritten| rewritten.data)
    }
}

fn with_closed_calls(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let input = projection.input();
        let schema = input.schema();
        let mut found = false;
        let columns = projection.expr().iter().map(|column| {
            let closed = close(&column.expr, &schema)?;
            found |= closed.transformed;
            Ok(ProjectionExpr { expr: closed.data, alias: column.alias.clone() })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if !found {
            return Ok(None);
        }
        // With its metadata, as DataFusion planned it.
        let schema = projection.schema();
        let projection = ProjectionExec::try_new_with_schema_metadata(columns, Arc::clone(input), &schema)?;
        return Ok(Some(Arc::new(projection)));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let predicate = close(filter.predicate(), &filter.input().schema())?;
        if !predicate.transformed {
            return Ok(None);
        }
        let filter = FilterExecBuilder::from(filter).with_predicate(predicate.data).build()?;
        return Ok(Some(Arc::new(filter)));
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let condition = close(filter.expression(), filter.schema())?;
        if !condition.transformed {
            return Ok(None);
        }
        let (columns, schema) = (filter.column_indices().to_vec(), Arc::clone(filter.schema()));
        let filter = JoinFilter::new(condition.data, columns, schema);
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(filter)).build()?;
        return Ok(Some(Arc::new(join)));
    }
    Ok(None)
}

/// Makes limits of scans of memory nodes of their own: a task gets its part of such a scan made anew, without the limit.
#[derive(Debug, Default)]
pub struct LimitsOfMemory;

impl PhysicalOptimizerRule for LimitsOfMemory {
    fn name(&self) -> &str {
        "limits_of_memory"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let limit = match plan.downcast_ref::<DataSourceExec>() {
                Some(scan) if scan.data_source().downcast_ref::<MemorySourceConfig>().is_some() => scan.fetch(),
                _ => None,
            };
            let Some((limit, unlimited)) = limit.and_then(|limit| Some((limit, plan.with_fetch(None)?))) else {
                return Ok(Transformed::no(plan));
            };
            Ok(Transformed::yes(Arc::new(LocalLimitExec::new(unlimited, limit)) as Arc<dyn ExecutionPlan>))
        })
        .map(|rewritten| rewritten.data)
    }
}

/// Gives a join without equality that tells what becomes of the rows of its left side all rows of the right one at once.
///
/// Every task of a stage has the whole left side and its part of the right one. Threads of a process tell each other what
/// they found, tasks cannot: each would tell of every row.
#[derive(Debug, Default)]
pub struct WholeRightSides;

impl PhysicalOptimizerRule for WholeRightSides {
    fn name(&self) -> &str {
        "whole_right_sides"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        // Only plans that are one task have it: see `sql::physical`.
        if config.optimizer.enable_round_robin_repartition {
            return Ok(plan);
        }
        plan.transform_up(|plan| {
            let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() else { return Ok(Transformed::no(plan)) };
            let of_left = matches!(
                join.join_type(),
                JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark | JoinType::Full
            );
            if !of_left || join.right().output_partitioning().partition_count() == 1 {
                return Ok(Transformed::no(plan));
            }
            let left = Arc::clone(join.left());
            let whole = Arc::new(CoalescePartitionsExec::new(Arc::clone(join.right())));
            // Ballista lays out distributions anew below each shuffle, without a coalesce that nobody asks for. A limit
            // asks for it, also one that lets everything pass.
            let right: Arc<dyn ExecutionPlan> = Arc::new(GlobalLimitExec::new(whole, 0, None));
            replace_children_if_necessary(plan, vec![left, right]).map(Transformed::yes)
        })
        .map(|rewritten| rewritten.data)
    }
}

/// Filters by what needs no expensive function before the projection that computes one.
#[derive(Debug, Default)]
pub struct CheapFirst;

impl PhysicalOptimizerRule for CheapFirst {
    fn name(&self) -> &str {
        "cheap_first"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            Ok(match plan.downcast_ref::<FilterExec>().map(cheap_first).transpose()?.flatten() {
                Some(rewritten) => Transformed::yes(rewritten),
                None => Transformed::no(plan),
            })
        })
        .map(|rewritten| rewritten.data)
    }
}

fn cheap_first(filter: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(projection) = filter.input().downcast_ref::<ProjectionExec>() else { return Ok(None) };
    if !projection.expr().iter().any(|column| computes_expensive(&column.expr)) {
        return Ok(None);
    }
    let below = |conjunct: &Arc<dyn PhysicalExpr>| -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let mut movable = !computes_expensive(conjunct) && !is_volatile(conjunct);
        let moved = Arc::clone(conjunct).transform(|expr| {
            let Some(column) = expr.downcast_ref::<PhysicalColumn>() else { return Ok(Transformed::no(expr)) };
            let source = &projection.expr()[column.index()].expr;
            movable &= source.is::<PhysicalColumn>();
            Ok(Transformed::yes(Arc::clone(source)))
        })?;
        Ok(movable.then_some(moved.data))
    };
    let (mut cheap, mut dear) = (vec![], vec![]);
    for conjunct in split_physical_conjunction(filter.predicate()) {
        match below(conjunct)? {
            Some(moved) => cheap.push(moved),
            None => dear.push(Arc::clone(conjunct)),
        }
    }
    if cheap.is_empty() || dear.is_empty() {
        return Ok(None);
    }
    let first = FilterExec::try_new(physical_conjunction(cheap), Arc::clone(projection.input()))?;
    let projected = ProjectionExec::try_new(projection.expr().to_vec(), Arc::new(first))?;
    let then = FilterExecBuilder::new(physical_conjunction(dear), Arc::new(projected))
        .apply_projection(filter.projection().as_ref().map(|indices| indices.to_vec()))?
        .with_default_selectivity(filter.default_selectivity())
        .with_batch_size(filter.batch_size())
        .with_fetch(filter.fetch())
        .build()?;
    Ok(Some(Arc::new(then)))
}

fn computes_expensive(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>()
        .is_some_and(|function| EXPENSIVE.contains(&function.name().trim_end_matches(WITH_CONTEXT)))
        || expr.downcast_ref::<ClosedCall>().is_some_and(|closed| computes_expensive(closed.call()))
        || expr.children().into_iter().any(computes_expensive)
}
