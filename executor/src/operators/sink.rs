//! `SinkExec`: writes its input, partition by partition, and returns one commit message a partition.
//!
//! DataFusion's `DataSinkExec` demands a single partition, which would gather every row on one executor.

use crate::connectors::{self, Sink, WriteTask};
use crate::operators::{cancelled, not_repeated, to_datafusion};
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::TryStreamExt;
use prost::Message;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// One column of commit messages.
static COMMIT_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("commit_message", DataType::Utf8, true)])));

/// The commit messages in what a [`SinkExec`] returned.
///
/// # Errors
/// When the rows are not a sink's.
pub fn commit_messages(batches: &[RecordBatch]) -> headwater_proto::error::Result<Vec<String>> {
    let mut messages = vec![];
    for batch in batches {
        let texts = batch.column(0).as_any().downcast_ref::<StringArray>();
        let texts = texts.ok_or_else(|| headwater_proto::error::Error::internal("commit messages are text"))?;
        messages.extend(texts.iter().flatten().map(str::to_string));
    }
    Ok(messages)
}

/// Writes its input by the connector of `format`. As many output partitions as input partitions; each yields one row.
#[derive(Debug)]
pub struct SinkExec {
    format: String,
    config: String,
    batch_id: i64,
    needs_commit: bool,
    single_attempt: bool,
    /// The streaming query that writes, for logs; empty for a batch write.
    query: String,
    batch_time_ms: Option<i64>,
    /// Which partitions of the whole job these are; empty before a task is cut out of it.
    partitions: Vec<usize>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SinkExec {
    /// Metric: rows written. Not `output_rows`, which every operator has.
    pub const ROWS: &str = "sink_rows";
    /// Metric: rows that the sink could not use.
    pub const BAD_ROWS: &str = "sink_bad_rows";
    /// Metric: requests that were repeated.
    pub const RETRIES: &str = "sink_retries";

    /// Writes batch `batch_id` (0 for a batch write) of `input` to this sink.
    pub fn of(sink: &dyn Sink, batch_id: i64, input: Arc<dyn ExecutionPlan>) -> Self {
        Self::new(sink.format().to_string(), sink.writer_config(), batch_id, sink.needs_commit(), input)
    }

    /// A sink over `input`. `needs_commit`: the scheduler wants the commit messages.
    pub fn new(
        format: String,
        config: String,
        batch_id: i64,
        needs_commit: bool,
        input: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&COMMIT_SCHEMA)),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self {
            format,
            config,
            batch_id,
            needs_commit,
            single_attempt: false,
            query: String::new(),
            batch_time_ms: None,
            partitions: vec![],
            input,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same sink; `single_attempt`: the cluster does not repeat a task that failed, so that its error is the job's.
    pub fn with_single_attempt(self, single_attempt: bool) -> Self {
        Self { single_attempt, ..self }
    }

    /// The same, in the name of a streaming query.
    #[must_use]
    pub fn of_query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    /// The same, with the time of its batch: see [`WriteTask::batch_time_ms`].
    #[must_use]
    pub fn at_batch_time(mut self, batch_time_ms: Option<i64>) -> Self {
        self.batch_time_ms = batch_time_ms;
        self
    }

    /// The same, whose partitions are these of the whole job.
    #[must_use]
    pub fn of_partitions(mut self, partitions: Vec<usize>) -> Self {
        self.partitions = partitions;
        self
    }

    /// The streaming query that writes, and its batch; none for a batch write.
    pub fn batch(&self) -> Option<(String, i64)> {
        (!self.query.is_empty()).then(|| (self.query.clone(), self.batch_id))
    }

    /// The same sink over another input.
    pub fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        Self::new(self.format.clone(), self.config.clone(), self.batch_id, self.needs_commit, input)
            .with_single_attempt(self.single_attempt)
            .of_query(self.query.clone())
            .at_batch_time(self.batch_time_ms)
            .of_partitions(self.partitions.clone())
    }

    /// Whether the scheduler wants the commit messages; without, the engine writes no shuffle files.
    pub fn needs_commit(&self) -> bool {
        self.needs_commit
    }

    /// The node that makes the rows.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// Encodes everything but the child.
    pub fn encode(&self) -> Vec<u8> {
        SinkMessage {
            format: self.format.clone(),
            config: self.config.clone(),
            batch_id: self.batch_id,
            needs_commit: self.needs_commit,
            single_attempt: self.single_attempt,
            query: self.query.clone(),
            batch_time_ms: self.batch_time_ms,
        }
        .encode_to_vec()
    }

    /// The reverse of [`SinkExec::encode`].
    pub fn decode(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Self> {
        let [input] = inputs else { return internal_err!("SinkExec has one child, not {}", inputs.len()) };
        let message = SinkMessage::decode(bytes).map_err(|e| DataFusionError::Internal(format!("SinkExec: {e}")))?;
        let sink = Self::new(message.format, message.config, message.batch_id, message.needs_commit, Arc::clone(input));
        let sink = sink.with_single_attempt(message.single_attempt).of_query(message.query);
        Ok(sink.at_batch_time(message.batch_time_ms))
    }
}

#[derive(Clone, PartialEq, Message)]
struct SinkMessage {
    #[prost(string, tag = "1")]
    format: String,
    #[prost(string, tag = "2")]
    config: String,
    #[prost(int64, tag = "3")]
    batch_id: i64,
    #[prost(bool, tag = "4")]
    needs_commit: bool,
    #[prost(bool, tag = "5")]
    single_attempt: bool,
    #[prost(string, tag = "6")]
    query: String,
    #[prost(int64, optional, tag = "7")]
    batch_time_ms: Option<i64>,
}

impl DisplayAs for SinkExec {
    /// Not the config: it may hold secrets, and Ballista logs plans.
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkExec: format={}, batch_id={}", self.format, self.batch_id)
    }
}

impl ExecutionPlan for SinkExec {
    fn name(&self) -> &str {
        "SinkExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }
    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("SinkExec needs a child") };
        Ok(Arc::new(self.with_input(input)))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let writer = connectors::find(&self.format).and_then(|c| c.writer(&self.config)).map_err(to_datafusion)?;
        let mut input = self.input.execute(partition, Arc::clone(&context))?;
        // Always all of them, in this order: Ballista merges by position.
        let rows = MetricBuilder::new(&self.metrics).counter(Self::ROWS, partition);
        let bad_rows = MetricBuilder::new(&self.metrics).counter(Self::BAD_ROWS, partition);
        let retries = MetricBuilder::new(&self.metrics).counter(Self::RETRIES, partition);
        let schema = self.input.schema();
        let single_attempt = self.single_attempt;
        let task = WriteTask {
            batch_id: self.batch_id,
            batch_time_ms: self.batch_time_ms,
            partition: self.partitions.get(partition).copied().unwrap_or(partition),
            // `TID job/stage.stage_attempt/task.attempt`, unique in the cluster.
            attempt: format!("{}-{partition}", context.task_id().unwrap_or_default().replace(['/', ' '], "-")),
        };
        let write = async move {
            let work = async {
                let mut sink = writer.open(task, schema, Arc::clone(&context)).await.map_err(to_datafusion)?;
                while let Some(batch) = input.try_next().await? {
                    if batch.num_rows() > 0 {
                        sink.write(batch).await.map_err(to_datafusion)?;
                    }
                }
                sink.close().await.map_err(to_datafusion)
            };
            let (counts, message) = tokio::select! {
                done = work => done.map_err(|error| if single_attempt { not_repeated(error) } else { error })?,
                () = cancelled(&context) => return Err(DataFusionError::Execution("task was cancelled".into())),
            };
            rows.add(counts.rows as usize);
            bad_rows.add(counts.bad_rows as usize);
            retries.add(counts.retries as usize);
            Ok(RecordBatch::try_new(Arc::clone(&COMMIT_SCHEMA), vec![Arc::new(StringArray::from(vec![message]))])?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::once(write))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_plan::empty::EmptyExec;

    #[test]
    fn what_a_sink_is_travels() {
        let input = || Arc::new(EmptyExec::new(Arc::clone(&COMMIT_SCHEMA))) as Arc<dyn ExecutionPlan>;
        let check = |time: Option<i64>| {
            let sink = SinkExec::new("noop".into(), "{}".into(), 7, true, input()).with_single_attempt(true);
            let sink = sink.of_query("q".into()).at_batch_time(time);
            let other = SinkExec::decode(&sink.encode(), &[input()]).unwrap().with_input(input());
            assert_eq!((other.batch_time_ms, other.batch()), (time, Some(("q".to_string(), 7))));
            assert!(other.needs_commit && other.single_attempt);
        };
        check(None);
        check(Some(0));
        check(Some(1_700_000_000_000));
    }
}
