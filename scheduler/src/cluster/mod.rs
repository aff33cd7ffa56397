//! The cluster: Ballista's scheduler, composed with our codec, job order, failure detection and metrics.
//!
//! A physical plan goes to the executors by [`Cluster::run`], and comes back as a [`JobOutcome`], or by
//! [`Cluster::rows`], and comes back as rows while it runs.
//! Completion arrives by subscriber, never by polling. A future that is dropped, and a job that passes its deadline
//! (a task whose status report was lost would otherwise run for ever), cancel the job.

mod attempts;
mod failure;
mod fifo;
mod job_state;
mod liveness;
mod rows;

#[cfg(test)]
pub(crate) mod tests;

pub use job_state::JobMetrics;
pub use liveness::Liveness;

use arrow::record_batch::RecordBatch;
use ballista_core::client::BallistaClient;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::extension::{BallistaConfigGrpcEndpoint, SessionConfigExt};
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::scheduler_grpc_server::{SchedulerGrpc, SchedulerGrpcServer};
use ballista_core::serde::protobuf::{CleanJobDataParams, ExecutorStoppedParams, PartitionLocation};
use ballista_core::utils::default_session_builder;
use ballista_core::{JobId, JobStatusSubscriber};
use ballista_scheduler::cluster::{BallistaCluster, ClusterState};
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::metrics::default_metrics_collector;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use fifo::FirstInFirstOut;
use futures::{Stream, StreamExt, TryStreamExt};
use headwater_executor::process::SCHEDULER_ALIAS;
use headwater_executor::trace;
use headwater_proto::error::{Error, Result};
use job_state::RecordingJobState;
use rows::Outputs;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tracing::Instrument;

type Ballista = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// How long without a heartbeat until an executor counts as dead. The liveness stream tells sooner; this is for one that
/// registered and never opened it.
const EXECUTOR_TIMEOUT_SECONDS: u64 = 10;
/// An executor that does not answer for so long is not sent tasks, and its results are not waited for.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(2);
/// A statement on a cluster without executors fails after this long: an interactive user waits for an answer.
pub const EXECUTORS_WAIT: Duration = Duration::from_secs(15);
/// The graph of a finished job is kept this long: nobody asks for it.
const FINISHED_STATE_SECONDS: u64 = 5;
/// Bound on a message to, from and between executors: a batch of rows, a task's plan with all it reads (a scan of many
/// files names each).
const MESSAGE_BYTES_MAX: usize = headwater_executor::process::MESSAGE_BYTES_MAX;

/// A physical plan to be run.
pub struct Job {
    /// Name for the UI and logs.
    pub name: String,
    /// Session whose configuration the tasks get.
    pub session: Arc<SessionContext>,
    /// The plan, sink included.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Bound on the whole job; without, none.
    pub deadline: Option<Duration>,
    /// Receives (tasks done, tasks) as they change.
    pub progress: Option<watch::Sender<(u32, u32)>>,
}

/// What a finished job left.
#[derive(Debug)]
pub struct JobOutcome {
    job_id: JobId,
    locations: Vec<PartitionLocation>,
    /// Operator metrics, summed over the tasks that won.
    pub metrics: JobMetrics,
}

/// What is known of an executor.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutorInfo {
    /// Its id.
    pub id: String,
    /// Where its results are fetched.
    pub address: String,
    /// Tasks at once.
    pub task_slots: u32,
    /// Tasks that ran on it to their end, of all jobs since this scheduler started.
    pub tasks_completed: u64,
    /// Resident memory in bytes, as its last heartbeat told; 0 when unknown.
    pub memory_bytes: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    ballista: Ballista,
    state: Arc<FirstInFirstOut>,
    jobs: Arc<RecordingJobState>,
}

impl Cluster {
    /// Starts Ballista's scheduler in this process; serving its gRPC is the caller's.
    pub async fn start() -> Result<Self> {
        let config = Arc::new(SchedulerConfig {
            scheduling_policy: TaskSchedulingPolicy::PushStaged,
            task_distribution: TaskDistributionPolicy::RoundRobin,
            // The event loop posts to its own channel: full, it would wait for itself.
            event_loop_buffer_size: 1_000_000,
            // Never by time: a result is cleaned up once it has been fetched.
            finished_job_data_clean_up_interval_seconds: 0,
            finished_job_state_clean_up_interval_seconds: FINISHED_STATE_SECONDS,
            executor_timeout_seconds: EXECUTOR_TIMEOUT_SECONDS,
            expire_dead_executor_interval_seconds: 2,
            no_executors_grace_period_seconds: EXECUTOR_TIMEOUT_SECONDS,
            // What is lost is lost at once. Of those that drain: see `fifo`.
            executor_termination_grace_period: 0,
            event_log_dir: None,
            // Tasks that were under way to an executor that hangs, or that is cut off, go to another as soon.
            override_create_grpc_client_endpoint: Some(Arc::new(impatient)),
            grpc_client_max_message_size: MESSAGE_BYTES_MAX as u32,
            ..Default::default()
        });
        let jobs = Arc::new(RecordingJobState::new(
            Arc::new(default_session_builder),
            Arc::new(SessionConfig::new_with_ballista),
        ));
        let state = Arc::new(FirstInFirstOut::new(Arc::clone(&jobs)));
        let state_of_ballista: Arc<dyn ClusterState> = Arc::clone(&state) as _;
        let jobs_of_ballista: Arc<dyn ballista_scheduler::cluster::JobState> = Arc::clone(&jobs) as _;
        let collector = default_metrics_collector().map_err(Error::internal)?;
        let mut ballista = Ballista::new(
            SCHEDULER_ALIAS.to_string(),
            BallistaCluster::new(state_of_ballista, jobs_of_ballista),
            headwater_executor::codec::ballista_codec(),
            config,
            collector,
        );
        ballista.init().await.map_err(Error::internal)?;
        Ok(Self { ballista, state, jobs })
    }

    /// Ballista's gRPC service, which executors talk to.
    pub fn grpc_service(&self) -> SchedulerGrpcServer<Ballista> {
        SchedulerGrpcServer::new(self.ballista.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The executors that are registered.
    pub async fn executors(&self) -> Vec<ExecutorInfo> {
        let mut executors: Vec<_> = self.state.registered_executor_metadata().await;
        executors.sort_by(|a, b| a.id.cmp(&b.id));
        executors
            .into_iter()
            .map(|executor| ExecutorInfo {
                address: format!("{}:{}", executor.host, executor.port),
                task_slots: executor.specification.vcores,
                tasks_completed: self.jobs.completed_tasks(&executor.id),
                memory_bytes: self
                    .state
                    .get_executor_heartbeat(&executor.id)
                    .and_then(|heartbeat| heartbeat.metrics.iter().find_map(resident_memory))
                    .unwrap_or(0),
                id: executor.id,
            })
            .collect()
    }

    /// Tells how many tasks the widest executor runs at once; 0 while there is none.
    pub fn task_slots(&self) -> crate::sql::planner::TaskSlots {
        let state = Arc::clone(&self.state);
        Arc::new(move || state.task_slots_max())
    }

    /// Whether any executor is registered.
    pub async fn has_executors(&self) -> bool {
        !self.state.registered_executor_metadata().await.is_empty()
    }

    /// Returns once no executor has been registered for so long, without a break.
    pub async fn without_executors_for(&self, time: Duration) {
        self.state.without_executors_for(time).await;
    }

    /// Takes an executor out at once and moves its tasks.
    pub async fn executor_lost(&self, executor_id: &str, reason: &str) {
        let stopped = ExecutorStoppedParams { executor_id: executor_id.to_string(), reason: reason.to_string() };
        if let Err(status) = self.ballista.executor_stopped(tonic::Request::new(stopped)).await {
            tracing::warn!(executor_id, %status, "could not take out a lost executor; its heartbeat will time out");
        }
    }

    /// Runs a plan on the executors to its end. Dropping the future cancels the job.
    ///
    /// # Errors
    /// The error of the task that failed, its class kept; `JOB_DEADLINE_EXCEEDED`, which is transient.
    pub async fn run(&self, job: Job) -> Result<JobOutcome> {
        self.watched(job, None).await
    }

    /// [`Cluster::run`], telling what is there of the result meanwhile.
    async fn watched(&self, job: Job, outputs: Option<&watch::Sender<Outputs>>) -> Result<JobOutcome> {
        let span = tracing::debug_span!("job", job.name = job.name, job.id = tracing::field::Empty);
        self.to_end(job, outputs).instrument(span).await
    }

    async fn to_end(&self, job: Job, outputs: Option<&watch::Sender<Outputs>>) -> Result<JobOutcome> {
        trace::carry(&job.session);
        // Ballista sends with `try_send`: room for every status a job can have, so that none is lost.
        let (subscriber, mut statuses): (JobStatusSubscriber, _) = tokio::sync::mpsc::channel(1024);
        let job_id = self
            .ballista
            .submit_physical_plan(&job.name, job.session, job.plan, Some(subscriber))
            .await
            .map_err(|e| Error::transient("JOB_SUBMISSION_FAILED", e))?;
        tracing::Span::current().record("job.id", job_id.as_str());
        let mut running = CancelOnDrop { cluster: self.clone(), job_id: Some(job_id.clone()) };
        let finished = async {
            let mut changed = self.jobs.changed();
            let show = |outputs: &watch::Sender<Outputs>| {
                if let Some(there) = self.jobs.outputs(&job_id) {
                    outputs.send_modify(|outputs| outputs.add(there));
                }
            };
            loop {
                let status = tokio::select! {
                    // What a job ended as comes first.
                    biased;
                    status = statuses.recv() => status,
                    Ok(()) = changed.changed(), if outputs.is_some() => {
                        outputs.into_iter().for_each(show);
                        continue;
                    }
                };
                let Some(status) = status else { break };
                match status.status {
                    // Not as Ballista tells: see `attempts`.
                    Some(Status::Successful(_)) => {
                        let forgotten =
                            || Error::transient("JOB_LOST", format!("the result of job {} is gone", job.name));
                        return self.jobs.outputs(&job_id).ok_or_else(forgotten);
                    }
                    Some(Status::Failed(failure)) => {
                        // It has ended: cancelled as well, Ballista would clean up after it twice, and warn of that.
                        running.job_id = None;
                        return Err(failure::of_job(&failure.error));
                    }
                    _ => {
                        if let Some(progress) = &job.progress {
                            // Nobody watching is no error.
                            let _ = progress.send(self.jobs.tasks(&job_id));
                        }
                        outputs.into_iter().for_each(show);
                    }
                }
            }
            Err(Error::transient("JOB_LOST", format!("job {} ended without a status", job.name)))
        };
        let finished = match job.deadline {
            Some(deadline) => tokio::time::timeout(deadline, finished).await.unwrap_or_else(|_| {
                Err(Error::transient(
                    "JOB_DEADLINE_EXCEEDED",
                    format!("job {} had not finished after {deadline:?}; cancelled", job.name),
                ))
            }),
            // Nothing else would end it, and somebody waits for an answer.
            None => tokio::select! {
                biased;
                ended = finished => ended,
                () = self.without_executors_for(EXECUTORS_WAIT) => Err(no_executors()),
            },
        };
        // On any other error the guard still cancels: a job that passed its deadline runs on otherwise.
        let mut locations = finished?;
        // They come in the order in which tasks ended. Rows are read in that of the plan.
        locations.sort_by_key(|location| location.partition_id.as_ref().map(|id| id.partition_id));
        running.job_id = None;
        let metrics = self.jobs.take_metrics(&job_id);
        Ok(JobOutcome { locations, metrics, job_id })
    }

    /// The rows a job left, partition after partition, as they arrive; its files are removed when the stream ends or is
    /// dropped.
    fn fetch(&self, outcome: JobOutcome, schema: arrow::datatypes::SchemaRef) -> SendableRecordBatchStream {
        let cleanup = RemoveDataOnDrop { cluster: self.clone(), job_id: outcome.job_id };
        let batches = futures::stream::iter(outcome.locations).then(fetch_partition).try_flatten().inspect(move |_| {
            // Moved in so that it lives as long as the stream.
            let _ = &cleanup;
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }

    /// All rows a job left.
    pub async fn collect(&self, outcome: JobOutcome, schema: arrow::datatypes::SchemaRef) -> Result<Vec<RecordBatch>> {
        self.fetch(outcome, schema).try_collect().await.map_err(|e| Error::transient("RESULT_FETCH_FAILED", e))
    }
}

/// Nobody is there to run anything.
pub fn no_executors() -> Error {
    Error::transient(
        "NO_EXECUTORS",
        "no executor is connected to this scheduler: start one with: headwater executor --scheduler HOST:PORT",
    )
}

/// Configuration for sessions whose plans go to the cluster.
pub fn session_config() -> SessionConfig {
    SessionConfig::new_with_ballista()
        // One task a partition: a task takes as many partitions as an executor has slots otherwise, and one executor
        // would take them all.
        .set_str("ballista.scheduler.max_partitions_per_task", "1")
        .set_str("ballista.client.io_retries_times", "1")
        .set_str("ballista.client.io_retry_wait_time_ms", "200")
        .set_str("ballista.client.grpc_max_message_size", &MESSAGE_BYTES_MAX.to_string())
}

/// A connection to an executor that notices when it hangs, or is cut off.
fn impatient(endpoint: Endpoint) -> Result<Endpoint, Box<dyn std::error::Error + Send + Sync>> {
    Ok(endpoint
        .connect_timeout(UNREACHABLE_AFTER)
        .http2_keep_alive_interval(UNREACHABLE_AFTER / 4)
        .keep_alive_timeout(UNREACHABLE_AFTER)
        .keep_alive_while_idle(true))
}

fn resident_memory(metric: &ballista_core::serde::protobuf::ExecutorMetric) -> Option<u64> {
    match metric.metric {
        Some(ballista_core::serde::protobuf::executor_metric::Metric::ProcPhysicalMemory(bytes)) => Some(bytes),
        _ => None,
    }
}

async fn fetch_partition(
    location: PartitionLocation,
) -> datafusion::error::Result<impl Stream<Item = datafusion::error::Result<RecordBatch>>> {
    let bad = |e: ballista_core::error::BallistaError| {
        datafusion::error::DataFusionError::IoError(std::io::Error::other(e.to_string()))
    };
    let layout = location.layout();
    let (Some(executor), Some(partition)) = (location.executor_meta, location.partition_id) else {
        return datafusion::common::internal_err!("a result location without executor or partition");
    };
    let (port, endpoint) = (executor.port as u16, Arc::new(BallistaConfigGrpcEndpoint::new(Arc::new(impatient))));
    let mut client =
        BallistaClient::try_new(&executor.host, port, MESSAGE_BYTES_MAX, false, Some(endpoint), 1, 200, 0, 0)
            .await
            .map_err(bad)?;
    client.fetch_partition(&executor.id, &partition.into(), location.file_id, layout, true).await.map_err(bad)
}

/// Cancels the job unless it has ended.
struct CancelOnDrop {
    cluster: Cluster,
    job_id: Option<JobId>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(job_id) = self.job_id.take() {
            let cluster = self.cluster.clone();
            // Owned by nobody on purpose: it is one message to the event loop.
            detach(async move {
                if let Err(e) = cluster.ballista.cancel_job(job_id.clone()).await {
                    tracing::warn!(%job_id, error = %e, "could not cancel a job");
                }
                cluster.jobs.take_metrics(&job_id);
            });
        }
    }
}

/// For work that a `Drop` leaves behind. At shutdown the runtime may be gone, and with it whoever would care.
pub fn detach(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}

struct RemoveDataOnDrop {
    cluster: Cluster,
    job_id: JobId,
}

impl Drop for RemoveDataOnDrop {
    fn drop(&mut self) {
        let (cluster, job_id) = (self.cluster.clone(), self.job_id.to_string());
        detach(async move {
            let request = tonic::Request::new(CleanJobDataParams { job_id, remove_stage_ids: vec![] });
            if let Err(status) = cluster.ballista.clean_job_data(request).await {
                tracing::warn!(%status, "could not remove a job's files");
            }
        });
    }
}

/// Partitions a plan would run with; used to size progress.
pub fn partitions(plan: &Arc<dyn ExecutionPlan>) -> usize {
    plan.output_partitioning().partition_count()
}
