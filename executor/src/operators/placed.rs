//! `PlacedExec`: adds columns whose values depend on the partition that a row is in and on the rows before it.
//!
//! No node learns which partition it runs, since a task sees its own slice of a plan, numbered from 0. So the numbers
//! come as rows: the second child is a memory table that has in partition `i` the one row `i`, and is sliced as the first.

use crate::functions::random::Column;
use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, OrderingRequirements, PhysicalExpr};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::fmt;
use std::sync::{Arc, LazyLock};

static NUMBER_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("partition", DataType::Int32, false)])));

/// Adds columns to its input's, each under its name.
#[derive(Debug)]
pub struct PlacedExec {
    columns: Vec<(String, Column)>,
    input: Arc<dyn ExecutionPlan>,
    numbers: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The input's columns, and after them these.
///
/// # Errors
/// A column that shuffles what the input has not.
pub fn schema(input: &Schema, columns: &[(String, Column)]) -> Result<Schema> {
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    for (name, column) in columns {
        let list = match column {
            Column::Shuffled(_, at) => match input.fields().get(*at) {
                Some(field) => Some(field),
                None => return internal_err!("PlacedExec has no column {at} to shuffle"),
            },
            _ => None,
        };
        // As the functions are planned that these columns replace.
        fields.push(Arc::new(Field::new(name, column.data_type(list.map(|field| field.data_type())), true)));
    }
    Ok(Schema::new_with_metadata(fields, input.metadata().clone()))
}

impl PlacedExec {
    /// With the numbers of the input's partitions.
    ///
    /// # Errors
    /// Those of [`schema`].
    pub fn try_new(columns: Vec<(String, Column)>, input: Arc<dyn ExecutionPlan>) -> Result<Self> {
        let numbers = numbers(input.output_partitioning().partition_count())?;
        Self::over(columns, input, numbers)
    }

    fn over(
        columns: Vec<(String, Column)>,
        input: Arc<dyn ExecutionPlan>,
        numbers: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        let schema = Arc::new(schema(&input.schema(), &columns)?);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { columns, input, numbers, properties: Arc::new(properties), metrics })
    }

    /// Encodes everything but the children.
    pub fn encode(&self) -> Vec<u8> {
        let columns = self.columns.iter().map(|(name, column)| {
            let (kind, seed, argument) = match column {
                Column::Partition => (Kind::Partition, 0, 0),
                Column::Row => (Kind::Row, 0, 0),
                Column::Uniform(seed) => (Kind::Uniform, *seed, 0),
                Column::Normal(seed) => (Kind::Normal, *seed, 0),
                Column::Uuid(seed) => (Kind::Uuid, *seed, 0),
                Column::Text(seed, length) => (Kind::Text, *seed, u64::from(*length)),
                Column::Shuffled(seed, at) => (Kind::Shuffled, *seed, *at as u64),
            };
            ColumnMessage { name: name.clone(), kind: kind.into(), seed, argument }
        });
        PlacedMessage { columns: columns.collect() }.encode_to_vec()
    }

    /// The reverse of [`PlacedExec::encode`].
    ///
    /// # Errors
    /// Bytes or children that it did not make.
    pub fn decode(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Self> {
        let [input, numbers] = inputs else {
            return internal_err!("PlacedExec has two children, not {}", inputs.len());
        };
        let message =
            PlacedMessage::decode(bytes).map_err(|e| DataFusionError::Internal(format!("PlacedExec: {e}")))?;
        let columns = message.columns.into_iter().map(|column| {
            let (seed, argument) = (column.seed, column.argument);
            let made = match column.kind() {
                Kind::Partition => Column::Partition,
                Kind::Row => Column::Row,
                Kind::Uniform => Column::Uniform(seed),
                Kind::Normal => Column::Normal(seed),
                Kind::Uuid => Column::Uuid(seed),
                Kind::Text => Column::Text(seed, argument as u32),
                Kind::Shuffled => Column::Shuffled(seed, argument as usize),
            };
            (column.name, made)
        });
        Self::over(columns.collect(), Arc::clone(input), Arc::clone(numbers))
    }
}

#[derive(Clone, PartialEq, Message)]
struct PlacedMessage {
    #[prost(message, repeated, tag = "1")]
    columns: Vec<ColumnMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(enumeration = "Kind", tag = "2")]
    kind: i32,
    #[prost(sint64, tag = "3")]
    seed: i64,
    #[prost(uint64, tag = "4")]
    argument: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Partition = 0,
    Row = 1,
    Uniform = 2,
    Normal = 3,
    Uuid = 4,
    Text = 5,
    Shuffled = 6,
}

fn numbers(partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let batch = |number: usize| {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![number as i32]));
        RecordBatch::try_new(Arc::clone(&NUMBER_SCHEMA), vec![column])
    };
    let rows = (0..partitions).map(|number| Ok(vec![batch(number)?])).collect::<Result<Vec<_>>>()?;
    Ok(MemorySourceConfig::try_new_exec(&rows, Arc::clone(&NUMBER_SCHEMA), None)?)
}

impl DisplayAs for PlacedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlacedExec: columns={:?}", self.columns)
    }
}

impl ExecutionPlan for PlacedExec {
    fn name(&self) -> &str {
        "PlacedExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input, &self.numbers]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false, false]
    }
    /// Rows are numbered as they come: an order that somebody asked for below is kept. (No order is promised above, so
    /// that no sort there is moved below, where it would change the numbers.)
    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.input.output_ordering().cloned().map(OrderingRequirements::from), None]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok([input, given]) = <[Arc<dyn ExecutionPlan>; 2]>::try_from(children) else {
            return internal_err!("PlacedExec needs two children");
        };
        let count = input.output_partitioning().partition_count();
        // A slice cuts both alike. An input that has other partitions than before, such as the next micro-batch's, is
        // numbered anew.
        let given = if given.output_partitioning().partition_count() == count { given } else { numbers(count)? };
        Ok(Arc::new(Self::over(self.columns.clone(), input, given)?))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut number = self.numbers.execute(partition, Arc::clone(&context))?;
        let input = self.input.execute(partition, context)?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let columns: Vec<Column> = self.columns.iter().map(|(_, column)| column.clone()).collect();
        let (schema, output) = (self.schema(), self.schema());
        let batches = async move {
            let Some(row) = number.try_next().await? else {
                return internal_err!("PlacedExec is not told which partition it runs");
            };
            let row = row.column(0).as_primitive::<Int32Type>().clone();
            if row.is_empty() {
                return internal_err!("PlacedExec is not told which partition it runs");
            }
            let mut makers: Vec<_> = columns.iter().map(|column| column.start(row.value(0))).collect();
            Ok(input.map(move |batch| {
                let batch = batch?;
                let mut all = batch.columns().to_vec();
                for maker in &mut makers {
                    all.push(maker.next(batch.num_rows(), batch.columns())?);
                }
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let batch = RecordBatch::try_new_with_options(Arc::clone(&output), all, &options)?;
                baseline.record_output(batch.num_rows());
                Ok(batch)
            }))
        };
        let batches = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_plan::collect_partitioned;

    fn table(partitions: &[&[i32]]) -> Arc<dyn ExecutionPlan> {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, false)]));
        let batch = |rows: &[i32]| {
            let column: ArrayRef = Arc::new(Int32Array::from(rows.to_vec()));
            RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("a batch")
        };
        // A batch a row, so that what is counted is counted over batches.
        let rows: Vec<Vec<RecordBatch>> =
            partitions.iter().map(|rows| rows.iter().map(|row| batch(&[*row])).collect()).collect();
        MemorySourceConfig::try_new_exec(&rows, Arc::clone(&schema), None).expect("a table")
    }

    async fn ids(plan: Arc<dyn ExecutionPlan>) -> Vec<Vec<i64>> {
        let context = Arc::new(TaskContext::default());
        let partitions = collect_partitioned(plan, context).await.expect("rows");
        let column = |batch: &RecordBatch| batch.column(1).as_primitive::<arrow::datatypes::Int64Type>().value(0);
        partitions.iter().map(|batches| batches.iter().map(column).collect()).collect()
    }

    fn placed(input: Arc<dyn ExecutionPlan>) -> Arc<PlacedExec> {
        Arc::new(PlacedExec::try_new(vec![("id".into(), Column::Row)], input).expect("a plan"))
    }

    #[tokio::test]
    async fn a_slice_keeps_its_numbers() {
        let plan = placed(table(&[&[1], &[2, 3], &[4]]));
        assert_eq!(ids(Arc::clone(&plan) as _).await, [vec![0], vec![1 << 33, (1 << 33) + 1], vec![2 << 33]]);
        let slice = ballista_slice(plan, &[1]);
        let sent = slice.downcast_ref::<PlacedExec>().expect("the node").encode();
        let children: Vec<_> = slice.children().into_iter().cloned().collect();
        let decoded = Arc::new(PlacedExec::decode(&sent, &children).expect("the same"));
        assert_eq!(ids(decoded).await, [vec![1 << 33, (1 << 33) + 1]]);
    }

    #[tokio::test]
    async fn other_partitions_are_numbered_anew() {
        let plan = placed(table(&[&[1]]));
        let numbers = Arc::clone(&plan.numbers);
        let plan = replaced(plan, vec![table(&[&[1], &[2]]), numbers]);
        assert_eq!(ids(plan).await, [vec![0], vec![1 << 33]]);
    }

    /// What Ballista's scheduler does to a stage for one of its tasks: leaves are cut to the task's partitions.
    fn ballista_slice(plan: Arc<PlacedExec>, partitions: &[usize]) -> Arc<dyn ExecutionPlan> {
        let cut = |child: &Arc<dyn ExecutionPlan>| {
            let source = child.downcast_ref::<datafusion::datasource::source::DataSourceExec>().expect("a leaf");
            let source: &dyn std::any::Any = source.data_source().as_ref();
            let source = source.downcast_ref::<MemorySourceConfig>().expect("a memory table");
            let kept: Vec<_> = partitions.iter().map(|at| source.partitions()[*at].clone()).collect();
            MemorySourceConfig::try_new_exec(&kept, child.schema(), None).expect("a slice") as Arc<dyn ExecutionPlan>
        };
        let children = plan.children().into_iter().map(cut).collect();
        replaced(plan, children)
    }

    fn replaced(plan: Arc<dyn ExecutionPlan>, children: Vec<Arc<dyn ExecutionPlan>>) -> Arc<dyn ExecutionPlan> {
        plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute)).expect("a plan")
    }
}
