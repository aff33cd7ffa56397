//! Which files of a job count. When a stage has lost its input with an executor it runs again as a whole, and its tasks
//! are numbered anew; Ballista goes on to list what they had written before, beside what they write then. Each such row
//! would be read twice. So what is listed is compared with the tasks that count: those of the last attempt that ended
//! well.

use ballista_core::execution_plans::{RangeShuffleReaderExec, ShuffleReaderExec};
use ballista_core::serde::protobuf::{self, task_status};
use ballista_core::serde::scheduler::PartitionLocation;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A file: the task that wrote it, the executor it is on, its partition and its number. Of two attempts with the same
/// the later has overwritten what the earlier wrote.
type File = (usize, String, usize, Option<u64>);

fn file(location: &PartitionLocation) -> File {
    let executor = location.executor_meta.id.clone();
    (location.map_partition_id, executor, location.partition_id.partition_id, location.file_id)
}

/// The files of a stage's tasks that count.
fn files(stage: &ExecutionStage) -> HashSet<File> {
    let mut files = HashSet::new();
    for task in stage.task_infos().into_iter().flatten() {
        if let task_status::Status::Successful(done) = &task.task_status {
            files.extend(done.partitions.iter().map(|written| {
                (task.task_id, done.executor_id.clone(), written.partition_id as usize, written.file_id)
            }));
        }
    }
    files
}

/// Where the result of a job is, as far as it is there.
pub fn outputs(graph: &ExecutionGraphBox) -> Vec<protobuf::PartitionLocation> {
    let last = graph.stages().values().filter(|stage| stage.output_links().is_empty());
    let mut counts: HashSet<File> = last.flat_map(files).collect();
    let there = graph.output_locations().into_iter().filter(|location| counts.remove(&file(location)));
    // One that has no message cannot be fetched.
    there.filter_map(|location| location.try_into().ok()).collect()
}

/// The files that count of stages that ran more than once, by stage.
pub struct Repeated(HashMap<usize, HashSet<File>>);

impl Repeated {
    /// Of the stages that have ended: what reads one that has not does not run.
    pub fn of(graph: &ExecutionGraphBox) -> Self {
        let repeated = graph
            .stages()
            .iter()
            .filter(|(_, stage)| matches!(stage, ExecutionStage::Successful(stage) if stage.stage_attempt_num > 0));
        Self(repeated.map(|(id, stage)| (*id, files(stage))).collect())
    }

    /// A task's plan, reading what counts.
    ///
    /// # Errors
    /// Those of nodes that refuse their new children, which is a bug of theirs.
    pub fn read_once(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        if self.0.is_empty() {
            return Ok(Arc::clone(plan));
        }
        let once = Arc::clone(plan).transform_up(|node| {
            if let Some(reader) = node.downcast_ref::<ShuffleReaderExec>() {
                let mut reader = reader.clone();
                if self.forget(reader.stage_id, &mut reader.partition) {
                    return Ok(Transformed::yes(Arc::new(reader) as Arc<dyn ExecutionPlan>));
                }
            } else if let Some(reader) = node.downcast_ref::<RangeShuffleReaderExec>() {
                let mut reader = reader.clone();
                if self.forget(reader.stage_id, &mut reader.partition) {
                    return Ok(Transformed::yes(Arc::new(reader) as Arc<dyn ExecutionPlan>));
                }
            }
            Ok(Transformed::no(node))
        });
        once.map(|once| once.data)
    }

    /// Whether anything was listed that does not count.
    fn forget(&self, stage_id: usize, partitions: &mut [Vec<PartitionLocation>]) -> bool {
        let Some(mut counts) = self.0.get(&stage_id).cloned() else { return false };
        let listed = |partitions: &[Vec<PartitionLocation>]| partitions.iter().map(Vec::len).sum::<usize>();
        let before = listed(partitions);
        for locations in partitions.iter_mut() {
            locations.retain(|location| counts.remove(&file(location)));
        }
        listed(partitions) < before
    }
}
