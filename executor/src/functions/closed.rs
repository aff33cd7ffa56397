//! `ClosedCall`: a call of a function that takes functions, as plans hold it.
//!
//! DataFusion numbers the variables of a lambda after the columns of the node that the call is planned for. Its
//! optimizer then brings calls to nodes with other columns (two projections become one, filters go down, a join takes
//! parts of its condition out) and numbers the columns in them anew, but not the variables. A variable that has the
//! number of a column by then fails the query, or takes the column's values:
//! [apache/datafusion#24372](https://github.com/apache/datafusion/issues/24372).
//!
//! A closed call has rows of its own, which hold nothing but the columns that it takes. These it shows to the
//! optimizer; what it does with them, nobody changes.

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::expressions::{Column, LambdaExpr, LambdaVariable};
use datafusion::physical_expr::{HigherOrderFunctionExpr, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_expr_common::physical_expr::proto_encode::PhysicalExprEncodeCtx;
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A call and what it takes.
#[derive(Debug, Clone)]
pub struct ClosedCall {
    /// The call, over rows of `schema`. A column is a variable here too, numbered by its place: variables know their
    /// types, so the call travels without a schema.
    call: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// Where the columns of `schema` come from, in the rows of the node that has the call.
    inputs: Vec<Arc<dyn PhysicalExpr>>,
}

/// Closes the calls in an expression over rows of this schema. It must be as it was planned: DataFusion's optimizer has
/// not had it.
///
/// # Errors
/// Columns that the schema has not.
pub fn close(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    Arc::clone(expr).transform_down(|expr| {
        if !expr.is::<HigherOrderFunctionExpr>() {
            return Ok(Transformed::no(expr));
        }
        let closed: Arc<dyn PhysicalExpr> = Arc::new(ClosedCall::of(expr, schema)?);
        // Calls inside are closed with it.
        Ok(Transformed::new(closed, true, TreeNodeRecursion::Jump))
    })
}

impl ClosedCall {
    fn of(call: Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Self> {
        let mut columns: BTreeMap<usize, Arc<dyn PhysicalExpr>> = BTreeMap::new();
        let mut parameters: HashSet<String> = HashSet::new();
        let mut first = usize::MAX;
        call.apply(|expr| {
            if let Some(column) = expr.downcast_ref::<Column>() {
                columns.insert(column.index(), Arc::clone(expr));
            } else if let Some(variable) = expr.downcast_ref::<LambdaVariable>() {
                first = first.min(variable.index());
            } else if let Some(lambda) = expr.downcast_ref::<LambdaExpr>() {
                parameters.extend(lambda.params().iter().cloned());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let mut variables: HashMap<usize, Arc<dyn PhysicalExpr>> = HashMap::new();
        for (at, index) in columns.keys().enumerate() {
            let Some(field) = schema.fields().get(*index) else {
                return internal_err!("{call} takes column {index} of {}", schema.fields().len());
            };
            // DataFusion tells a lambda's own variables by their names.
            let mut name = format!("{}#{at}", field.name());
            while parameters.contains(&name) {
                name.push('#');
            }
            let field = Arc::new(field.as_ref().clone().with_name(name));
            variables.insert(*index, Arc::new(LambdaVariable::new(at, field)));
        }
        // The lambdas' variables stay in their order, which is what counts, and come after the columns.
        let closed = call.transform_up(|expr| {
            if let Some(column) = expr.downcast_ref::<Column>() {
                return Ok(Transformed::yes(Arc::clone(&variables[&column.index()])));
            }
            if let Some(variable) = expr.downcast_ref::<LambdaVariable>() {
                let index = columns.len() + (variable.index() - first);
                let moved: Arc<dyn PhysicalExpr> = Arc::new(LambdaVariable::new(index, Arc::clone(variable.field())));
                return Ok(Transformed::yes(moved));
            }
            Ok(Transformed::no(expr))
        })?;
        Self::new(closed.data, columns.into_values().collect())
    }

    /// A call that takes as many columns as there are inputs, each of the type that its variable has.
    fn new(call: Arc<dyn PhysicalExpr>, inputs: Vec<Arc<dyn PhysicalExpr>>) -> Result<Self> {
        let mut fields: Vec<Option<FieldRef>> = vec![None; inputs.len()];
        call.apply(|expr| {
            if let Some(variable) = expr.downcast_ref::<LambdaVariable>()
                && let Some(field) = fields.get_mut(variable.index())
            {
                *field = Some(Arc::clone(variable.field()));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let Some(fields) = fields.into_iter().collect::<Option<Vec<FieldRef>>>() else {
            return internal_err!("{call} does not take all of its {} columns", inputs.len());
        };
        Ok(Self { call, schema: Arc::new(Schema::new(fields)), inputs })
    }

    /// The call itself, which is none of the children: for who looks for something in it.
    pub fn call(&self) -> &Arc<dyn PhysicalExpr> {
        &self.call
    }

    /// With another call in its place, which takes the same columns.
    pub fn with_call(&self, call: Arc<dyn PhysicalExpr>) -> Self {
        Self { call, ..self.clone() }
    }

    /// The call over the node's rows, for people: its variables have the numbers of columns.
    fn open(&self) -> Result<Arc<dyn PhysicalExpr>> {
        let open = Arc::clone(&self.call).transform_up(|expr| {
            let input = expr.downcast_ref::<LambdaVariable>().and_then(|variable| self.inputs.get(variable.index()));
            Ok(match input {
                Some(input) => Transformed::yes(Arc::clone(input)),
                None => Transformed::no(expr),
            })
        })?;
        Ok(open.data)
    }

    /// Encodes everything but the inputs.
    ///
    /// # Errors
    /// Expressions that do not travel.
    pub fn encode(&self, context: &PhysicalExprEncodeCtx<'_>) -> Result<Vec<u8>> {
        Ok(context.encode_child(&self.call)?.encode_to_vec())
    }

    /// The reverse of [`ClosedCall::encode`].
    ///
    /// # Errors
    /// Bytes or inputs that it did not make.
    pub fn decode(bytes: &[u8], inputs: &[Arc<dyn PhysicalExpr>], context: &PhysicalExprDecodeCtx<'_>) -> Result<Self> {
        let node = PhysicalExprNode::decode(bytes)
            .map_err(|error| DataFusionError::Internal(format!("ClosedCall: {error}")))?;
        Self::new(context.decode(&node)?, inputs.to_vec())
    }
}

impl PartialEq for ClosedCall {
    fn eq(&self, other: &Self) -> bool {
        // The schema follows from the call.
        self.call.eq(&other.call) && self.inputs.eq(&other.inputs)
    }
}

impl Eq for ClosedCall {}

impl Hash for ClosedCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.call.hash(state);
        self.inputs.hash(state);
    }
}

impl fmt::Display for ClosedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.open() {
            Ok(open) => write!(f, "{open}"),
            Err(_) => write!(f, "{}", self.call),
        }
    }
}

impl PhysicalExpr for ClosedCall {
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        self.call.return_field(&self.schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let columns = self.inputs.iter().zip(self.schema.fields().iter()).map(|(input, field)| {
            let column = input.evaluate(batch)?.into_array(batch.num_rows())?;
            if column.data_type() == field.data_type() {
                return Ok(column);
            }
            // Another nullability or other metadata of nested fields: variables take theirs to the letter.
            Ok(arrow::compute::cast(&column, field.data_type())?)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        self.call.evaluate(&RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.inputs.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, inputs: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        if inputs.len() != self.inputs.len() {
            return internal_err!("ClosedCall has {} inputs, not {}", self.inputs.len(), inputs.len());
        }
        Ok(Arc::new(Self { call: Arc::clone(&self.call), schema: Arc::clone(&self.schema), inputs }))
    }

    fn is_volatile_node(&self) -> bool {
        is_volatile(&self.call)
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.open() {
            Ok(open) => open.fmt_sql(f),
            Err(_) => self.call.fmt_sql(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::HeadwaterPhysicalCodec;
    use crate::functions::{lambdas, registry};
    use arrow::array::{ArrayRef, Int32Array, ListArray};
    use arrow::datatypes::{DataType, Field, Int32Type};
    use arrow::util::display::array_value_to_string;
    use datafusion::common::DFSchema;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::logical_expr::execution_props::ExecutionProps;
    use datafusion::logical_expr::expr::{HigherOrderFunction, Lambda, LambdaVariable as Variable};
    use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::prelude::SessionContext;
    use datafusion_proto::physical_plan::from_proto::parse_physical_expr;
    use datafusion_proto::physical_plan::to_proto::serialize_physical_expr;

    fn schema() -> Schema {
        let list = DataType::new_list(DataType::Int32, true);
        Schema::new(vec![Field::new("k", DataType::Int32, true), Field::new("a", list, true)])
    }

    fn variable(name: &str) -> Expr {
        let field = Field::new(name, DataType::Int32, true);
        Expr::LambdaVariable(Variable::new(name.to_string(), Some(Arc::new(field))))
    }

    fn call(name: &str, list: Expr, parameters: &[&str], body: Expr) -> Expr {
        let function = lambdas::all().into_iter().find(|function| function.name() == name).expect(name);
        let parameters = parameters.iter().map(|parameter| parameter.to_string()).collect();
        let arguments = vec![list, Expr::Lambda(Lambda::new(parameters, body))];
        Expr::HigherOrderFunction(HigherOrderFunction::new(function, arguments))
    }

    /// As planned for rows of [`schema`].
    fn planned(expr: &Expr) -> Arc<dyn PhysicalExpr> {
        let schema = DFSchema::try_from(schema()).expect("a schema");
        create_physical_expr(expr, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default()).expect("plans")
    }

    fn rows(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Vec<String> {
        let array = expr.evaluate(batch).expect("rows").into_array(batch.num_rows()).expect("an array");
        (0..array.len()).map(|row| array_value_to_string(&array, row).expect("text")).collect()
    }

    fn k() -> ArrayRef {
        Arc::new(Int32Array::from(vec![10, 20, 30]))
    }

    fn a() -> ArrayRef {
        let rows = vec![Some(vec![Some(1), None]), None, Some(vec![Some(3)])];
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows))
    }

    /// Rows of [`schema`].
    fn own() -> RecordBatch {
        RecordBatch::try_new(Arc::new(schema()), vec![k(), a()]).expect("a batch")
    }

    /// The same under other names, and columns of the variables' names where the variables were.
    fn wide() -> RecordBatch {
        let other: ArrayRef = Arc::new(Int32Array::from(vec![77, 78, 79]));
        let columns = vec![k(), a(), Arc::clone(&other), other];
        let names = ["column1", "column2", "x", "i"];
        let field = |(name, column): (&str, &ArrayRef)| Field::new(name, column.data_type().clone(), true);
        let fields: Vec<Field> = names.into_iter().zip(&columns).map(field).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
    }

    /// What the optimizer does to an expression that goes below a projection.
    fn moved(expr: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        let moved = expr.transform_up(|expr| {
            Ok(match expr.downcast_ref::<Column>() {
                Some(column) => {
                    let below = Column::new(&format!("column{}", column.index() + 1), column.index());
                    Transformed::yes(Arc::new(below) as Arc<dyn PhysicalExpr>)
                }
                None => Transformed::no(expr),
            })
        });
        moved.expect("is moved").data
    }

    fn closed(expr: &Expr) -> Arc<dyn PhysicalExpr> {
        let closed = close(&planned(expr), &schema()).expect("is closed");
        assert!(closed.transformed);
        // Once is enough.
        assert!(!close(&closed.data, &schema()).expect("stays").transformed);
        closed.data
    }

    #[test]
    fn other_columns_are_no_variables() {
        let check = |expr: Expr, expect: [&str; 3]| {
            let closed = closed(&expr);
            assert_eq!(rows(&closed, &own()), expect, "{closed}");
            let moved = moved(closed);
            assert_eq!(rows(&moved, &wide()), expect, "{moved}");
        };
        let (x, i) = (variable("x"), variable("i"));
        check(call("transform", col("a"), &["x"], x.clone() + col("k")), ["[11, ]", "", "[33]"]);
        check(call("transform", col("a"), &["x", "i"], x.clone() + i.clone()), ["[1, ]", "", "[3]"]);
        check(call("transform", col("a"), &["x", "i"], i.clone()), ["[0, 1]", "", "[0]"]);
        check(call("transform", col("a"), &["x"], lit(5)), ["[5, 5]", "", "[5]"]);
        // A lambda in another one, which takes a variable of it and a column.
        let inner = call("transform", col("a"), &["y", "i"], x.clone() * variable("y") + i + col("k"));
        check(call("transform", col("a"), &["x"], inner.clone()), ["[[11, ], [, ]]", "", "[[39]]"]);
        // And as the list of a third one.
        let outer = call("filter", col("a"), &["x"], call("exists", inner, &["z"], variable("z").gt(x)));
        check(outer, ["[1]", "", "[3]"]);
    }

    #[test]
    fn it_travels() {
        let state = registry::with_session_functions(SessionStateBuilder::new()).build();
        let context = SessionContext::new_with_state(state);
        let codec = HeadwaterPhysicalCodec::default();
        let wide = wide();
        let moved = moved(closed(&call("transform", col("a"), &["x"], variable("x") + col("k"))));
        assert_eq!(moved.to_string(), "transform(column2@1, (x) -> x@2 + column1@0)");
        let sent = serialize_physical_expr(&moved, &codec).expect("is encoded");
        let again = parse_physical_expr(&sent, &context.task_ctx(), &wide.schema(), &codec).expect("is decoded");
        assert!(again.is::<ClosedCall>());
        assert_eq!(again.to_string(), moved.to_string());
        assert_eq!(again.children(), moved.children());
        let field = |expr: &Arc<dyn PhysicalExpr>| expr.return_field(&wide.schema()).expect("a field");
        assert_eq!(field(&again), field(&moved));
        assert_eq!(rows(&again, &wide), ["[11, ]", "", "[33]"]);
    }

    #[test]
    fn what_it_takes_is_as_declared() {
        let closed = closed(&call("transform", col("a"), &["x"], variable("x") + col("k")));
        // Items that are told to be never null.
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2)])]);
        let list = arrow::compute::cast(&list, &DataType::new_list(DataType::Int32, false)).expect("no nulls");
        let batch = RecordBatch::try_from_iter([("k", k().slice(0, 1)), ("a", list)]).expect("a batch");
        assert_eq!(rows(&closed, &batch), ["[11, 12]"]);
    }
}
