//! An execution engine, watched: each task is counted, timed, and runs in a span that says whose it is.

use crate::metrics::METRICS;
use crate::operators::sink::SinkExec;
use crate::trace;
use ballista_core::JobId;
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use std::fmt;
use std::sync::Arc;
use tracing::{Instrument, Span};

/// See the module.
pub struct ObservedEngine<E>(pub E);

/// The streaming query and its batch to which a plan belongs.
fn batch_of(plan: &Arc<dyn ExecutionPlan>) -> Option<(String, i64)> {
    let mut found = None;
    let walked = plan.apply(|node| {
        Ok(match node.downcast_ref::<SinkExec>().and_then(SinkExec::batch) {
            Some(batch) => {
                found = Some(batch);
                TreeNodeRecursion::Stop
            }
            None => TreeNodeRecursion::Continue,
        })
    });
    walked.ok().and(found)
}

impl<E: ExecutionEngine> ExecutionEngine for ObservedEngine<E> {
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
        let span = tracing::info_span!(
            "task",
            job_id = job_id.as_str(),
            stage_id,
            task_id,
            query_id = tracing::field::Empty,
            batch_id = tracing::field::Empty
        );
        trace::adopt(&span, &config.options().extensions);
        if let Some((query, batch)) = batch_of(&plan) {
            span.record("query_id", query).record("batch_id", batch);
        }
        let stage = {
            let _entered = span.enter();
            self.0.create_query_stage_exec(job_id, stage_id, task_id, output_partition_ids, plan, work_dir, config)?
        };
        Ok(Arc::new(ObservedStage { stage, span }))
    }
}

#[derive(Debug)]
struct ObservedStage {
    stage: Arc<dyn QueryStageExecutor>,
    span: Span,
}

impl fmt::Display for ObservedStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stage.fmt(f)
    }
}

#[async_trait::async_trait]
impl QueryStageExecutor for ObservedStage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let timer = METRICS.task();
        let work = async {
            let ended = self.stage.execute_query_stage(task_id, context).await;
            match &ended {
                Ok(_) => tracing::debug!("task ended"),
                Err(error) => tracing::warn!(%error, "task failed"),
            }
            ended
        };
        let ended = work.instrument(self.span.clone()).await;
        timer.ended(ended.is_ok());
        ended
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
