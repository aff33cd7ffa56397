//! `LocalExec`: what an executor does to the batches of a node of a plan that has arrived. It never travels.

use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use std::fmt;
use std::sync::Arc;

/// What becomes of a partition's batches: as many rows, in their order.
pub(super) type Through = fn(SendableRecordBatchStream, &TaskContext) -> SendableRecordBatchStream;

/// Passes the batches of its input through a function. It has no metrics: the scheduler counts the sets that come back
/// against its own plan's nodes.
#[derive(Debug)]
pub(super) struct LocalExec {
    name: &'static str,
    through: Through,
    input: Arc<dyn ExecutionPlan>,
}

impl LocalExec {
    /// `name`: as plans show it.
    pub(super) fn over(input: Arc<dyn ExecutionPlan>, name: &'static str, through: Through) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { name, through, input })
    }
}

impl DisplayAs for LocalExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ExecutionPlan for LocalExec {
    fn name(&self) -> &str {
        self.name
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
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
        let Some(input) = children.pop() else { return internal_err!("{} needs a child", self.name) };
        Ok(Self::over(input, self.name, self.through))
    }
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }
    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batches = self.input.execute(partition, Arc::clone(&context))?;
        Ok((self.through)(batches, &context))
    }
}
