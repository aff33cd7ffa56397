//! Guards: stop a cancelled task where DataFusion's operators would compute on.
//!
//! Cancelling a task drops a future of Ballista's, but its shuffle writers run on as tasks of their own, and sources of
//! ours alone listen for the end. A plan that reads none (a join of rows in the plan, a range) is therefore guarded: an
//! executor puts this node above every leaf and every operator that makes many rows of few, so that whatever loops over
//! their batches gets an error instead of the next batch, and yields its thread now and then.

use super::TaskAlive;
use super::local::LocalExec;
use datafusion::common::exec_err;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use futures::StreamExt;
use std::sync::Arc;

/// The plan with guards in it.
///
/// # Errors
/// None of its own: those of nodes that refuse a new child.
pub fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let many = node.children().is_empty()
            || node.is::<CrossJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<HashJoinExec>()
            || node.is::<SortMergeJoinExec>()
            || node.is::<UnnestExec>();
        Ok(if many {
            Transformed::yes(LocalExec::over(node, "GuardExec", until_cancelled))
        } else {
            Transformed::no(node)
        })
    })
    .map(|guarded| guarded.data)
}

/// Passes batches on until the task was cancelled, then an error.
fn until_cancelled(batches: SendableRecordBatchStream, context: &TaskContext) -> SendableRecordBatchStream {
    let batches = make_cooperative(batches);
    let Some(alive) = context.session_config().get_extension::<TaskAlive>() else { return batches };
    let schema = batches.schema();
    // A cancelled task must end with an error: ending quietly would pass for having read everything.
    let guarded = batches.map(move |batch| if alive.is_cancelled() { exec_err!("task was cancelled") } else { batch });
    Box::pin(RecordBatchStreamAdapter::new(schema, guarded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::TryStreamExt;
    use std::time::Duration;

    /// Counts the pairs of a cross join, which is one long loop over batches that are all in memory.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cancelled_cross_join_stops() {
        let context = SessionContext::new();
        let sql = "SELECT count(a.value * b.value) FROM range(1000000) a CROSS JOIN range(1000000) b";
        let plan = context.sql(sql).await.expect("is valid").create_physical_plan().await.expect("is planned");
        let plan = guarded(plan).expect("is guarded");
        let (sender, receiver) = tokio::sync::watch::channel(());
        let config = SessionConfig::new().with_extension(Arc::new(TaskAlive(receiver)));
        let task = Arc::new(TaskContext::default().with_session_config(config));
        let stream = datafusion::physical_plan::execute_stream(plan, task).expect("runs");
        // As Ballista's writers do: a task that nobody aborts.
        let counting = tokio::spawn(stream.try_collect::<Vec<_>>());
        drop(sender);
        let ended = tokio::time::timeout(Duration::from_secs(30), counting).await.expect("stops").expect("no panic");
        assert!(ended.expect_err("is cancelled").to_string().contains("task was cancelled"));
    }
}
