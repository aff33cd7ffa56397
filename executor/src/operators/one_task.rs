//! `OneTaskExec`: a whole plan as one task.
//!
//! Ballista cuts a plan at every exchange into stages, whose rows go through files. For a query that one executor does
//! in less time than the stages would take to be told of each other, that is all there is to the cost. This node shows
//! Ballista a leaf of one partition; inside is the plan as DataFusion made it, with its own exchanges between the
//! threads of the executor, joins whose build side filters the scan of the other, and nothing written but the result.

use crate::operators::cancelled;
use crate::operators::guard::guarded;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{exec_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use std::fmt;
use std::sync::Arc;

/// So many batches of each partition wait for those of the partitions before.
const BATCHES_BUFFERED: usize = 16;

/// Runs a plan of any number of partitions as a single one.
#[derive(Debug)]
pub struct OneTaskExec {
    plan: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OneTaskExec {
    /// The whole of `plan`.
    pub fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(plan.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { plan, properties, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// Encodes the plan, with filters that its operators share kept shared.
    pub fn encode(&self, codec: &dyn PhysicalExtensionCodec) -> Result<Vec<u8>> {
        let converter = DeduplicatingProtoConverter {};
        Ok(converter.execution_plan_to_proto(&self.plan, codec)?.encode_to_vec())
    }

    /// The reverse of [`OneTaskExec::encode`].
    pub fn decode(bytes: &[u8], context: &TaskContext, codec: &dyn PhysicalExtensionCodec) -> Result<Self> {
        let message = PhysicalPlanNode::decode(bytes)
            .map_err(|error| DataFusionError::Internal(format!("OneTaskExec: {error}")))?;
        let converter = DeduplicatingProtoConverter {};
        let plan = converter.proto_to_execution_plan(&message, &PhysicalPlanDecodeContext::new(context, codec))?;
        Ok(Self::new(plan))
    }
}

impl DisplayAs for OneTaskExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneTaskExec: {} partitions", self.plan.output_partitioning().partition_count())
    }
}

impl ExecutionPlan for OneTaskExec {
    fn name(&self) -> &str {
        "OneTaskExec"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    /// None: the plan is nobody's to take apart.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
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
        if children.is_empty() { Ok(self) } else { internal_err!("OneTaskExec has no children") }
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("OneTaskExec has one partition, not {partition}");
        }
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let plan = guarded(Arc::clone(&self.plan))?;
        let schema = plan.schema();
        // All partitions run at once; their rows come in the order of the partitions, so that a query without ORDER BY
        // gives the same order every time.
        let mut partitions = vec![];
        for inner in 0..plan.output_partitioning().partition_count() {
            let mut batches = plan.execute(inner, Arc::clone(&context))?;
            let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), BATCHES_BUFFERED);
            let sender = builder.tx();
            builder.spawn(async move {
                while let Some(batch) = batches.next().await {
                    let failed = batch.is_err();
                    // Closed: the reader is gone, or has had its error.
                    if sender.send(batch).await.is_err() || failed {
                        break;
                    }
                }
                Ok(())
            });
            partitions.push(builder.build());
        }
        let rows = futures::stream::iter(partitions).flatten();
        let rows = rows.inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        let rows = rows.map(Some).chain(futures::stream::iter([None]));
        let gone = async move { cancelled(&context).await };
        let ended = futures::stream::once(gone).map(|()| Some(exec_err!("task was cancelled")));
        let guarded = futures::stream::select(rows, ended).scan((), |(), item| futures::future::ready(item));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, guarded)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::HeadwaterPhysicalCodec;
    use datafusion::prelude::{SessionConfig, SessionContext};

    #[tokio::test]
    async fn a_plan_travels_whole_and_gives_its_rows_in_order() {
        let config = SessionConfig::new().with_target_partitions(4);
        let context = SessionContext::new_with_config(config);
        let sql = "SELECT a.value AS v FROM range(20000) a JOIN range(10, 20000, 5) b ON a.value = b.value ORDER BY v";
        let plan = context.sql(sql).await.expect("is valid").create_physical_plan().await.expect("is planned");
        let memory = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await.expect("rows");
        // `range` does not travel; its rows do.
        let expect: usize = memory.iter().map(|batch| batch.num_rows()).sum();
        let table =
            datafusion::datasource::MemTable::try_new(plan.schema(), vec![memory.clone(), memory]).expect("table");
        context.register_table("t", Arc::new(table)).expect("is registered");
        let plan = context.sql("SELECT v FROM t").await.expect("is valid").create_physical_plan().await.expect("plan");
        assert_eq!(plan.output_partitioning().partition_count(), 2);
        let codec = HeadwaterPhysicalCodec::default();
        let bytes = OneTaskExec::new(plan).encode(&codec).expect("is encoded");
        let whole = OneTaskExec::decode(&bytes, &context.task_ctx(), &codec).expect("is decoded");
        assert!(whole.children().is_empty());
        let rows = whole.execute(0, context.task_ctx()).expect("runs").try_collect::<Vec<_>>().await.expect("rows");
        let values: Vec<i64> = rows
            .iter()
            .flat_map(|batch| {
                use arrow::array::AsArray;
                batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
            })
            .collect();
        assert_eq!(values.len(), 2 * expect);
        let (first, second) = values.split_at(expect);
        assert_eq!(first, second);
        assert!(first.is_sorted());
    }
}
