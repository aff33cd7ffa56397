//! A query's rows: partition after partition in the order of the plan, each as soon as its task has ended, fetched from
//! its executor as the reader takes them.
//!
//! ```text
//! job: Running … Running … Successful      what is told by the subscriber
//!        │         │          │
//!        ▼         ▼          ▼
//! Outputs { partition → where its file is, ended? }       (latest value wins: a task may run again elsewhere)
//!                  │
//!                  ▼
//! the reader waits for the next partition, or the end
//! ```

use super::{Cluster, Job, RemoveDataOnDrop, fetch_partition};
use arrow::record_batch::RecordBatch;
use ballista_core::JobId;
use ballista_core::serde::protobuf::PartitionLocation;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use headwater_executor::operators::to_datafusion;
use headwater_proto::error::{Error, Result};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a job has left so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    job: Option<JobId>,
    partitions: BTreeMap<u32, Vec<PartitionLocation>>,
    ended: Option<Result<()>>,
}

/// What the reader does next.
#[derive(Debug, PartialEq)]
enum Next {
    /// Read this partition.
    Read(u32),
    /// Wait for a change.
    Wait,
    /// There is no more.
    End,
}

impl Outputs {
    /// Files by their partition.
    pub(super) fn add(&mut self, locations: Vec<PartitionLocation>) {
        let mut partitions: BTreeMap<u32, Vec<PartitionLocation>> = BTreeMap::new();
        for location in locations {
            let partition = location.partition_id.as_ref().map_or(0, |id| id.partition_id);
            partitions.entry(partition).or_default().push(location);
        }
        self.partitions = partitions;
    }

    /// Every partition before `from` has been read. A job that ended has no more than is there; before, one that is
    /// missing may yet come.
    fn next(&self, from: u32) -> Next {
        match self.partitions.range(from..).next() {
            Some((partition, _)) if *partition == from || self.ended.is_some() => Next::Read(*partition),
            None if self.ended.is_some() => Next::End,
            _ => Next::Wait,
        }
    }
}

impl Cluster {
    /// Runs a query; its rows. Dropping them cancels the job.
    ///
    /// The stream's errors are those of [`Cluster::run`], and `RESULT_FETCH_FAILED`.
    pub fn rows(&self, job: Job) -> SendableRecordBatchStream {
        let schema = job.plan.schema();
        let (outputs, changes) = watch::channel(Outputs::default());
        let mut task = JoinSet::new();
        let cluster = self.clone();
        // A task of its own, so that the job's end is noted however slowly the rows are read.
        task.spawn(async move {
            let ended = cluster.watched(job, Some(&outputs)).await;
            outputs.send_modify(|outputs| {
                outputs.ended = Some(match ended {
                    Ok(outcome) => {
                        outputs.job = Some(outcome.job_id);
                        outputs.add(outcome.locations);
                        Ok(())
                    }
                    Err(error) => Err(error),
                });
            });
        });
        let reader = Reader { cluster: self.clone(), changes, from: 0, reading: None, _task: task };
        let rows = futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|batch| (batch, reader)))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

struct Reader {
    cluster: Cluster,
    changes: watch::Receiver<Outputs>,
    /// Partitions before are read.
    from: u32,
    reading: Option<BoxStream<'static, DataFusionResult<RecordBatch>>>,
    /// The job: aborted with the reader.
    _task: JoinSet<()>,
}

impl Reader {
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            if let Some(batches) = &mut self.reading {
                if let Some(batch) = batches.next().await {
                    return batch.map(Some);
                }
                self.reading = None;
            }
            let outputs = self.changes.borrow_and_update().clone();
            if let Some(Err(error)) = outputs.ended {
                return Err(to_datafusion(error));
            }
            match outputs.next(self.from) {
                Next::Read(partition) => {
                    let locations = outputs.partitions.get(&partition).cloned().unwrap_or_default();
                    match opened(locations).await {
                        Ok(batches) => {
                            self.reading = Some(batches);
                            self.from = partition + 1;
                        }
                        // Its executor may be gone; the task then runs again elsewhere, or the job fails, and says why.
                        Err(_) if outputs.ended.is_none() => self.changed().await?,
                        Err(error) => return Err(error),
                    }
                }
                Next::Wait => self.changed().await?,
                Next::End => return Ok(None),
            }
        }
    }

    async fn changed(&mut self) -> DataFusionResult<()> {
        let gone = |_| to_datafusion(Error::internal("the task that watched a job is gone"));
        self.changes.changed().await.map_err(gone)
    }
}

/// The files are removed with the reader, unless the job goes on: then by Ballista, when it has been cancelled.
impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(job_id) = self.changes.borrow().job.clone() {
            drop(RemoveDataOnDrop { cluster: self.cluster.clone(), job_id });
        }
    }
}

/// The rows of a partition's files, the first of which is open.
async fn opened(
    locations: Vec<PartitionLocation>,
) -> DataFusionResult<BoxStream<'static, DataFusionResult<RecordBatch>>> {
    let failed = |error: DataFusionError| {
        to_datafusion(Error::transient("RESULT_FETCH_FAILED", format!("cannot fetch rows of a result: {error}")))
    };
    let mut locations = locations.into_iter();
    let Some(first) = locations.next() else { return Ok(futures::stream::empty().boxed()) };
    let first = fetch_partition(first).await.map_err(failed)?;
    let rest = futures::stream::iter(locations).then(fetch_partition).try_flatten();
    Ok(first.chain(rest).map_err(failed).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ballista_core::serde::protobuf::PartitionId;

    #[test]
    fn partitions_are_read_in_their_order() {
        let check = |there: &[u32], ended: bool, from: u32, expect: Next| {
            let mut outputs = Outputs { ended: ended.then_some(Ok(())), ..Outputs::default() };
            let location = |partition: &u32| PartitionLocation {
                partition_id: Some(PartitionId { partition_id: *partition, ..Default::default() }),
                ..Default::default()
            };
            outputs.add(there.iter().map(location).collect());
            assert_eq!(outputs.next(from), expect, "{there:?} {ended} {from}");
        };
        check(&[], false, 0, Next::Wait);
        check(&[1, 2], false, 0, Next::Wait);
        check(&[1, 0], false, 0, Next::Read(0));
        check(&[1, 0], false, 1, Next::Read(1));
        check(&[1, 0], false, 2, Next::Wait);
        check(&[0, 1], true, 2, Next::End);
        check(&[2], true, 0, Next::Read(2));
        check(&[], true, 0, Next::End);
    }
}
