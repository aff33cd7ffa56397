//! `SourceScanExec`: reads one descriptor per plan partition.
//!
//! It is a unary node over a memory table of descriptor rows, not a leaf: Ballista cuts a stage's plan to a task's
//! partitions by its own list of leaves, on which memory tables are. A leaf of ours would stay whole and be read in
//! full by every task.

use crate::connectors::{self, ReadUntil};
use crate::operators::{cancelled, to_datafusion};
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{exec_err, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use datafusion_proto::protobuf::Schema as SchemaMessage;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Rows of the leaf below the scan: one column of descriptors.
static DESCRIPTOR_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("descriptor", DataType::Utf8, false)])));

/// Reads the partitions that its child's descriptor rows name, by the connector of `format`.
#[derive(Debug)]
pub struct SourceScanExec {
    format: String,
    config: String,
    full_schema: SchemaRef,
    projection: Option<Vec<usize>>,
    /// Which source of the streaming query this is, 0-based; none for a batch table. Numbers its metric `input_rows_<n>`.
    source: Option<usize>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SourceScanExec {
    /// A scan with one plan partition per descriptor, or one empty partition when there is none.
    pub fn try_new(
        format: String,
        config: String,
        full_schema: SchemaRef,
        projection: Option<Vec<usize>>,
        source: Option<usize>,
        descriptors: &[String],
    ) -> Result<Self> {
        Self::over(format, config, full_schema, projection, source, descriptor_leaf(descriptors)?)
    }

    fn over(
        format: String,
        config: String,
        full_schema: SchemaRef,
        projection: Option<Vec<usize>>,
        source: Option<usize>,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        let schema = match &projection {
            Some(indices) => Arc::new(full_schema.project(indices)?),
            None => Arc::clone(&full_schema),
        };
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Self {
            format,
            config,
            full_schema,
            projection,
            source,
            input,
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// Which source of the streaming query this is; none for a batch table.
    pub fn source(&self) -> Option<usize> {
        self.source
    }

    /// What every reader of the scan is told.
    #[cfg(test)]
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// The same scan over other descriptors: how a cached plan gets the next batch's offset ranges.
    pub fn with_descriptors(&self, descriptors: &[String]) -> Result<Self> {
        Self::over(
            self.format.clone(),
            self.config.clone(),
            Arc::clone(&self.full_schema),
            self.projection.clone(),
            self.source,
            descriptor_leaf(descriptors)?,
        )
    }

    /// Encodes everything but the child.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let schema: SchemaMessage = self.full_schema.as_ref().try_into()?;
        Ok(ScanMessage {
            format: self.format.clone(),
            config: self.config.clone(),
            schema: schema.encode_to_vec(),
            projected: self.projection.is_some(),
            projection: self.projection.iter().flatten().map(|index| *index as u64).collect(),
            source: self.source.map(|source| source as u64),
        }
        .encode_to_vec())
    }

    /// The reverse of [`SourceScanExec::encode`].
    pub fn decode(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Self> {
        let [input] = inputs else { return internal_err!("SourceScanExec has one child, not {}", inputs.len()) };
        let bad = |e: prost::DecodeError| datafusion::error::DataFusionError::Internal(format!("SourceScanExec: {e}"));
        let message = ScanMessage::decode(bytes).map_err(bad)?;
        let schema: Schema = (&SchemaMessage::decode(message.schema.as_slice()).map_err(bad)?).try_into()?;
        let projection = message.projected.then(|| message.projection.iter().map(|index| *index as usize).collect());
        Self::over(
            message.format,
            message.config,
            Arc::new(schema),
            projection,
            message.source.map(|source| source as usize),
            Arc::clone(input),
        )
    }
}

#[derive(Clone, PartialEq, Message)]
struct ScanMessage {
    #[prost(string, tag = "1")]
    format: String,
    #[prost(string, tag = "2")]
    config: String,
    #[prost(bytes, tag = "3")]
    schema: Vec<u8>,
    #[prost(bool, tag = "4")]
    projected: bool,
    #[prost(uint64, repeated, tag = "5")]
    projection: Vec<u64>,
    #[prost(uint64, optional, tag = "6")]
    source: Option<u64>,
}

fn descriptor_leaf(descriptors: &[String]) -> Result<Arc<dyn ExecutionPlan>> {
    let batch = |rows: Vec<&str>| {
        let column: ArrayRef = Arc::new(StringArray::from(rows));
        RecordBatch::try_new(Arc::clone(&DESCRIPTOR_SCHEMA), vec![column])
    };
    let mut partitions = vec![];
    for descriptor in descriptors {
        partitions.push(vec![batch(vec![descriptor])?]);
    }
    if partitions.is_empty() {
        partitions.push(vec![]);
    }
    Ok(MemorySourceConfig::try_new_exec(&partitions, Arc::clone(&DESCRIPTOR_SCHEMA), None)?)
}

impl DisplayAs for SourceScanExec {
    /// Neither config nor descriptors: a config may hold secrets, and Ballista logs plans.
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceScanExec: format={}, source={:?}", self.format, self.source)
    }
}

impl ExecutionPlan for SourceScanExec {
    fn name(&self) -> &str {
        "SourceScanExec"
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
        let Some(input) = children.pop() else { return internal_err!("SourceScanExec needs a child") };
        Ok(Arc::new(Self::over(
            self.format.clone(),
            self.config.clone(),
            Arc::clone(&self.full_schema),
            self.projection.clone(),
            self.source,
            input,
        )?))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let reader = connectors::find(&self.format).and_then(|c| c.reader(&self.config)).map_err(to_datafusion)?;
        let descriptors = self.input.execute(partition, Arc::clone(&context))?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let name = self.source.map_or("input_rows".to_string(), |source| format!("input_rows_{source}"));
        let rows: Count = MetricBuilder::new(&self.metrics).counter(name, partition);
        let schema = self.schema();
        let (projection, output) = (self.projection.clone(), Arc::clone(&schema));
        let task = Arc::clone(&context);
        let batches = descriptors
            .map(move |batch| {
                let batch = batch?;
                let Some(texts) = batch.column(0).as_any().downcast_ref::<StringArray>() else {
                    return internal_err!("descriptors are text");
                };
                let mut streams = vec![];
                for descriptor in texts.iter().flatten() {
                    streams.push(
                        reader
                            .read(
                                descriptor,
                                projection.as_deref(),
                                Arc::clone(&output),
                                ReadUntil::DescriptorEnd,
                                Arc::clone(&task),
                            )
                            .map_err(to_datafusion)?,
                    );
                }
                Ok(futures::stream::iter(streams).flatten())
            })
            .try_flatten();
        let gone = async move { cancelled(&context).await };
        let batches = batches
            .inspect_ok(move |batch| {
                rows.add(batch.num_rows());
                baseline.record_output(batch.num_rows());
            })
            .map(Some)
            .chain(futures::stream::iter([None]));
        // A cancelled task must end with an error: ending quietly would pass for having read everything.
        let ended = futures::stream::once(gone).map(|()| Some(exec_err!("task was cancelled")));
        let guarded = futures::stream::select(batches, ended).scan((), |(), item| futures::future::ready(item));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, guarded)))
    }
}
