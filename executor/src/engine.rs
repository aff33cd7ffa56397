//! How this executor runs a stage: Ballista's way, with some differences.
//!
//! A stage that ends in a [`SinkExec`] without commit messages writes **no shuffle files**: there is nothing to fetch.
//! And a **cancelled** task really stops: Ballista drops a future, but its shuffle writers run on as detached tasks, so
//! the task's context carries a channel that closes with that future ([`TaskAlive`]), to which sources and sinks listen,
//! and so do the guards that are put between DataFusion's operators ([`guarded`]). What is written holds the bytes of its
//! rows alone ([`compacted`]).

use crate::operators::TaskAlive;
use crate::operators::compact::compacted;
use crate::operators::guard::guarded;
use crate::operators::sink::SinkExec;
use ballista_core::JobId;
use ballista_core::execution_plans::{ShuffleReaderExec, ShuffleWriterExec};
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ExecutionPlanProperties, ReplaceChildrenOptions,
};
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The engine that each executor gives to Ballista.
pub struct HeadwaterEngine {
    ballista: DefaultExecutionEngine,
}

impl HeadwaterEngine {
    /// Caches connections to other executors for their shuffle files.
    pub fn new(ballista: DefaultExecutionEngine) -> Self {
        Self { ballista }
    }
}

impl ExecutionEngine for HeadwaterEngine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        if plan.downcast_ref::<ShuffleWriterExec>().is_some()
            && let [child] = plan.children().as_slice()
            && let Some(sink) = child.downcast_ref::<SinkExec>().filter(|sink| !sink.needs_commit())
        {
            let input = Arc::clone(sink.input()).transform(|node| {
                Ok(match node.downcast_ref::<ShuffleReaderExec>() {
                    Some(reader) => {
                        Transformed::yes(Arc::new(reader.with_work_dir(work_dir.to_string())) as Arc<dyn ExecutionPlan>)
                    }
                    None => Transformed::no(node),
                })
            })?;
            let sink = sink.with_input(input.data).of_partitions(output_partition_ids);
            return Ok(Arc::new(SinkStage { plan: Arc::new(sink) }));
        }
        // These nodes have no metrics: the scheduler counts the sets that come back against its own plan's nodes.
        let mut plan = guarded(plan)?;
        if plan.is::<ShuffleWriterExec>() {
            let rows = plan.children().into_iter().map(|child| compacted(Arc::clone(child))).collect();
            plan = plan.replace_children(rows, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?;
        }
        let stage = self.ballista.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(GuardedStage { stage }))
    }
}

/// A stage of Ballista's that notices its cancellation.
#[derive(Debug)]
struct GuardedStage {
    stage: Arc<dyn QueryStageExecutor>,
}

impl fmt::Display for GuardedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stage.fmt(f)
    }
}

#[async_trait::async_trait]
impl QueryStageExecutor for GuardedStage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let (_alive, receiver) = tokio::sync::watch::channel(());
        let config = context.session_config().clone().with_extension(Arc::new(TaskAlive(receiver)));
        let guarded = TaskContext::new(
            context.task_id(),
            context.session_id(),
            config,
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            context.runtime_env(),
        );
        self.stage.execute_query_stage(task_id, Arc::new(guarded)).await
    }
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.stage.collect_plan_metrics()
    }
    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.stage.collect_runtime_stats_reports()
    }
    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.stage.collect_window_state_reports()
    }
    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.stage.collect_column_stats()
    }
}

/// A stage that writes to an outside system and leaves no files.
#[derive(Debug)]
struct SinkStage {
    plan: Arc<dyn ExecutionPlan>,
}

impl fmt::Display for SinkStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkStage")
    }
}

#[async_trait::async_trait]
impl QueryStageExecutor for SinkStage {
    async fn execute_query_stage(&self, _: usize, context: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        // Dropped with this future, the set aborts its tasks: that is how a cancel stops them.
        let mut partitions = JoinSet::new();
        for partition in 0..self.plan.output_partitioning().partition_count() {
            let mut stream = self.plan.execute(partition, Arc::clone(&context))?;
            partitions.spawn(async move {
                while stream.try_next().await?.is_some() {}
                Ok::<_, DataFusionError>(())
            });
        }
        while let Some(done) = partitions.join_next().await {
            done.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??;
        }
        Ok(vec![])
    }
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        // As many sets as the scheduler's plan has nodes, whose root is the shuffle writer that is left out here:
        // a different count fails the status report and hangs the job.
        let mut metrics = vec![MetricsSet::new()];
        metrics.extend(ballista_core::utils::collect_plan_metrics(self.plan.as_ref()));
        metrics
    }
}
