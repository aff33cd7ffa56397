//! Functions whose value depends on the place of a row (`monotonically_increasing_id`, `rand(7)`): below the node that
//! calls them comes a node of ours that adds their values as columns ([`PlacedExec`]), and the calls become these columns.
//! So they are computed once, where Spark computes them, whatever is pushed around above.
//!
//! `input_file_name()` is a column too: the scan of files below gets one more.

use arrow::datatypes::Field;
use async_trait::async_trait;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as Name, DFSchema, DFSchemaRef, ExprSchema, Result, ScalarValue, internal_err};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, Projection, SubqueryAlias, TableScanBuilder, UserDefinedLogicalNode,
    UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use headwater_executor::connectors::files::{FILE_NAME, with_file_names};
use headwater_executor::functions::native::external;
use headwater_executor::functions::random::{Column, NAMES};
use headwater_executor::operators::placed::PlacedExec;
use headwater_proto::error::Error;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Adds columns that depend on the place of a row to its input's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    input: LogicalPlan,
    columns: Vec<Added>,
    schema: DFSchemaRef,
}

/// A column that is added.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
struct Added {
    name: String,
    /// Without the place of what is shuffled.
    column: Column,
    /// What is shuffled: a column of the input.
    list: Option<Name>,
}

impl Placed {
    fn try_new(input: LogicalPlan, columns: Vec<Added>) -> Result<Self> {
        let own = input.schema();
        let mut fields: Vec<_> = own.iter().map(|(relation, field)| (relation.cloned(), Arc::clone(field))).collect();
        for added in &columns {
            let list = added.list.as_ref().map(|name| own.field_from_column(name)).transpose()?;
            let data_type = added.column.data_type(list.map(|field| field.data_type()));
            fields.push((None, Arc::new(Field::new(&added.name, data_type, true))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, DFSchema::metadata(own).clone())?);
        Ok(Self { input, columns, schema })
    }

    /// What the plan node is told: lists by their place.
    fn columns(&self) -> Result<Vec<(String, Column)>> {
        let place = |added: &Added| -> Result<Column> {
            Ok(match (&added.column, &added.list) {
                (Column::Shuffled(seed, _), Some(list)) => {
                    Column::Shuffled(*seed, self.input.schema().index_of_column(list)?)
                }
                (column, _) => column.clone(),
            })
        };
        self.columns.iter().map(|added| Ok((added.name.clone(), place(added)?))).collect()
    }
}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // Equal ones only when all is: the schema follows from the rest.
        match self.columns.partial_cmp(&other.columns) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            found => found,
        }
    }
}

impl Hash for Placed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.columns.hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Placed {
    fn name(&self) -> &str {
        "Placed"
    }
    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }
    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }
    fn expressions(&self) -> Vec<Expr> {
        self.columns.iter().filter_map(|added| added.list.clone().map(Expr::Column)).collect()
    }
    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.columns.iter().map(|added| &added.column).collect();
        write!(f, "Placed: {columns:?}")
    }
    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let Ok([input]) = <[LogicalPlan; 1]>::try_from(inputs) else { return internal_err!("Placed has one input") };
        let mut lists = exprs.into_iter();
        let mut columns = self.columns.clone();
        for added in columns.iter_mut().filter(|added| added.list.is_some()) {
            added.list = match lists.next() {
                Some(Expr::Column(name)) => Some(name),
                other => return internal_err!("Placed shuffles columns, not {other:?}"),
            };
        }
        Self::try_new(input, columns)
    }
    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = self.input.schema();
        let mut needed: Vec<usize> = output.iter().copied().filter(|at| *at < own.fields().len()).collect();
        for list in self.columns.iter().filter_map(|added| added.list.as_ref()) {
            needed.push(own.index_of_column(list).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// The rule, to be run after all others: literals are literals then.
#[derive(Debug, Default)]
pub struct PlaceFunctions;

impl AnalyzerRule for PlaceFunctions {
    fn name(&self) -> &str {
        "place_functions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(file_names)?.data;
        plan.transform_up_with_subqueries(one).map(|plan| plan.data)
    }
}

const INPUT_FILE_NAME: &str = "input_file_name";

fn is_file_name(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func.name() == INPUT_FILE_NAME)
}

/// Calls of `input_file_name` as a column of the files that are scanned below; where none are, it is empty text.
fn file_names(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|expr| Ok(is_file_name(expr)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !found {
        return Ok(Transformed::no(plan));
    }
    let inputs = plan.inputs();
    if let [input] = inputs.as_slice()
        && super::streaming::is_streaming(input)
    {
        return Err(external(Error::invalid(
            "UNSUPPORTED_STREAMING_OPERATOR",
            "input_file_name() in a stream is not supported",
        )));
    }
    let named = match inputs.as_slice() {
        [input] => exposed((*input).clone())?,
        _ => None,
    };
    let value = match &named {
        Some((_, name)) => Expr::Column(name.clone()),
        None => Expr::Literal(ScalarValue::from(""), None),
    };
    let before = Arc::clone(plan.schema());
    let names = NamePreserver::new(&plan);
    let mut plan = plan
        .map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| {
                Ok(if is_file_name(&expr) { Transformed::yes(value.clone()) } else { Transformed::no(expr) })
            })?;
            Ok(replaced.update_data(|expr| name.restore(expr)))
        })?
        .data;
    if let Some((input, _)) = named {
        plan = plan.map_children(|_| Ok(Transformed::yes(input.clone())))?.data;
    }
    as_before(plan.recompute_schema()?, &before)
}

/// A plan over files with the column that names them, and its name; none where rows are not those of one table of files.
fn exposed(plan: LogicalPlan) -> Result<Option<(LogicalPlan, Name)>> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
            let Some(named) = with_file_names(provider.as_ref()) else { return Ok(None) };
            let last = named.schema().fields().len() - 1;
            let projection = scan.projection.clone().map(|mut own| {
                own.push(last);
                own
            });
            let name = Name::new(Some(scan.table_name.clone()), FILE_NAME);
            let source = provider_as_source(named);
            let made = TableScanBuilder::new(scan.table_name, source)
                .with_projection(projection)
                .with_filters(scan.filters)
                .with_fetch(scan.fetch)
                .build()?;
            Some((LogicalPlan::TableScan(made), name))
        }
        LogicalPlan::Projection(projection) => {
            let Some((input, name)) = exposed(projection.input.as_ref().clone())? else { return Ok(None) };
            let mut all = projection.expr;
            all.push(Expr::Column(name.clone()));
            Some((LogicalPlan::Projection(Projection::try_new(all, Arc::new(input))?), name))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let Some((input, _)) = exposed(alias.input.as_ref().clone())? else { return Ok(None) };
            let name = Name::new(Some(alias.alias.clone()), FILE_NAME);
            Some((LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias)?), name))
        }
        LogicalPlan::Filter(_) | LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Extension(_) => {
            let inputs = plan.inputs();
            let [input] = inputs.as_slice() else { return Ok(None) };
            let Some((input, name)) = exposed((*input).clone())? else { return Ok(None) };
            Some((plan.with_new_exprs(plan.expressions(), vec![input])?, name))
        }
        _ => None,
    })
}

/// A filter and its kin show what its input has more than before.
fn as_before(plan: LogicalPlan, before: &DFSchemaRef) -> Result<Transformed<LogicalPlan>> {
    if plan.schema().fields().len() == before.fields().len() {
        return Ok(Transformed::yes(plan));
    }
    let own: Vec<Expr> = before.columns().into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(own, Arc::new(plan))?)))
}

/// The column that an expression calls for, and what it shuffles.
fn call(expr: &Expr) -> Result<Option<(Column, Option<&Expr>)>> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return Ok(None) };
    if !NAMES.contains(&func.name()) {
        return Ok(None);
    }
    let folded: Vec<Option<ScalarValue>> = args.iter().map(constant).collect();
    let constants: Vec<Option<&ScalarValue>> = folded.iter().map(Option::as_ref).collect();
    let column = Column::of(func.name(), &constants)?;
    Ok(column.map(|column| {
        let list = matches!(column, Column::Shuffled(..)).then(|| &args[0]);
        (column, list)
    }))
}

/// The value of an expression that has one whatever the row.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match ExprSimplifier::new(SimplifyContext::builder().build()).simplify(expr.clone()) {
        Ok(Expr::Literal(value, _)) => Some(value),
        _ => None,
    }
}

fn one(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut found: Vec<(Column, Option<Expr>)> = vec![];
    let mut outcome = Ok(());
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            match call(expr) {
                Ok(Some((column, list))) => {
                    let own = (column, list.cloned());
                    if !found.contains(&own) {
                        found.push(own);
                    }
                }
                Ok(None) => {}
                Err(error) => outcome = Err(error),
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    outcome?;
    if found.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let refused = |class: &str, what: &str| Err(external(Error::invalid(class, what)));
    if let LogicalPlan::Aggregate(aggregate) = &plan {
        for expr in &aggregate.aggr_expr {
            if expr.exists(|expr| Ok(call(expr)?.is_some()))? {
                return refused(
                    "AGGREGATE_FUNCTION_WITH_NONDETERMINISTIC_EXPRESSION",
                    "an argument of an aggregate function must be deterministic: compute it in a subquery, under a name",
                );
            }
        }
    }
    let inputs = plan.inputs();
    let [input] = inputs.as_slice() else {
        return refused(
            "INVALID_NON_DETERMINISTIC_EXPRESSIONS",
            "the operator expects a deterministic expression, and one depends on the place of a row: compute it in a \
             subquery, under a name",
        );
    };
    if found.iter().any(|(column, _)| *column == Column::Row) && super::streaming::is_streaming(input) {
        return refused(
            "UNSUPPORTED_STREAMING_OPERATOR",
            "monotonically_increasing_id() is not supported on streams, as in Spark",
        );
    }
    let before = Arc::clone(plan.schema());
    let (below, columns) = below((*input).clone(), &found)?;
    let names = NamePreserver::new(&plan);
    let taken = plan
        .map_expressions(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| {
                let place = call(&expr)?.map(|(column, list)| {
                    found.iter().position(|(known, own)| *known == column && own.as_ref() == list)
                });
                match place {
                    None => Ok(Transformed::no(expr)),
                    Some(None) => internal_err!("a call that was not there before"),
                    Some(Some(at)) => {
                        Ok(Transformed::yes(Expr::Column(Name::new_unqualified(columns[at].name.clone()))))
                    }
                }
            })?;
            Ok(replaced.update_data(|expr| name.restore(expr)))
        })?
        .data;
    let node: Arc<dyn UserDefinedLogicalNode> = Arc::new(Placed::try_new(below, columns)?);
    let above = taken
        .map_children(|_| Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::clone(&node) }))))?
        .data
        .recompute_schema()?;
    as_before(above, &before)
}

/// The input, with what is shuffled as columns, and the columns to be added to it.
fn below(input: LogicalPlan, found: &[(Column, Option<Expr>)]) -> Result<(LogicalPlan, Vec<Added>)> {
    let mut taken: Vec<String> = input.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut unused = |what: &str| {
        let name = (0..).map(|at| format!("__{what}_{at}")).find(|name| !taken.contains(name)).unwrap_or_default();
        taken.push(name.clone());
        name
    };
    let mut lists: Vec<Expr> = vec![];
    let mut columns = vec![];
    for (column, list) in found {
        let list = match list {
            None => None,
            Some(Expr::Column(name)) => Some(name.clone()),
            Some(expr) => {
                let name = unused("list");
                lists.push(expr.clone().alias(&name));
                Some(Name::new_unqualified(name))
            }
        };
        columns.push(Added { name: unused("placed"), column: column.clone(), list });
    }
    if lists.is_empty() {
        return Ok((input, columns));
    }
    let mut all: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    all.extend(lists);
    Ok((LogicalPlan::Projection(Projection::try_new(all, Arc::new(input))?), columns))
}

/// DataFusion's planner, which knows our node.
#[derive(Debug, Default)]
pub struct PlacedPlanner;

#[async_trait]
impl QueryPlanner for PlacedPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(PlacedNodes)]);
        planner.create_physical_plan(plan, session).await
    }
}

struct PlacedNodes;

#[async_trait]
impl ExtensionPlanner for PlacedNodes {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn datafusion::catalog::Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(placed), [input]) = (node.as_any().downcast_ref::<Placed>(), inputs) else { return Ok(None) };
        Ok(Some(Arc::new(PlacedExec::try_new(placed.columns()?, Arc::clone(input))?)))
    }
}
