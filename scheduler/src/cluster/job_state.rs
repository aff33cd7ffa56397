//! Ballista's job state, watched: what a job's operators counted, and who ran its tasks, is known only from the graph
//! that is saved when the job ends, just before the subscriber hears of it; what is there of its result, from those
//! that are looked at before, whenever tasks are handed out: Ballista tells of stages, not of tasks.

use super::attempts;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::{JobStatus, PartitionLocation, task_status};
use ballista_core::{ConfigProducer, JobId, JobStatusSubscriber};
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{JobState, JobStateEventStream};
use ballista_scheduler::scheduler_server::SessionBuilder;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{ExecutionStage, TaskInfo};
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Operator metrics of a job by name, summed over operators and winning tasks.
pub type JobMetrics = BTreeMap<String, u64>;

/// See the module.
pub struct RecordingJobState {
    ballista: InMemoryJobState,
    recorded: Mutex<Recorded>,
    /// Some job's result has changed.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Recorded {
    metrics: HashMap<JobId, JobMetrics>,
    tasks: HashMap<JobId, (u32, u32)>,
    outputs: HashMap<JobId, Vec<PartitionLocation>>,
    completed_tasks: HashMap<String, u64>,
}

impl RecordingJobState {
    pub fn new(sessions: SessionBuilder, config: ConfigProducer) -> Self {
        Self {
            ballista: InMemoryJobState::new("headwater", sessions, config),
            recorded: Mutex::default(),
            changed: watch::Sender::default(),
        }
    }
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        // Counters stay usable whatever panicked beside them.
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The metrics of a job that has ended; once.
    pub fn take_metrics(&self, job: &JobId) -> JobMetrics {
        let mut recorded = self.recorded();
        recorded.tasks.remove(job);
        recorded.outputs.remove(job);
        recorded.metrics.remove(job).unwrap_or_default()
    }
    /// Tasks done of all of a running job.
    pub fn tasks(&self, job: &JobId) -> (u32, u32) {
        self.recorded().tasks.get(job).copied().unwrap_or_default()
    }
    /// Where the partitions of a job's result are that are there already; none for a job that is not known (any more).
    pub fn outputs(&self, job: &JobId) -> Option<Vec<PartitionLocation>> {
        self.recorded().outputs.get(job).cloned()
    }
    /// Changes whenever the result of some running job has grown, or lost what runs again.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
    /// Tasks that ended well on an executor.
    pub fn completed_tasks(&self, executor_id: &str) -> u64 {
        self.recorded().completed_tasks.get(executor_id).copied().unwrap_or_default()
    }
    fn record(&self, job: &JobId, graph: &ExecutionGraphBox) {
        match graph.status().status {
            Some(Status::Successful(_)) => {
                let mut metrics = JobMetrics::new();
                let mut completed: HashMap<String, u64> = HashMap::new();
                for stage in graph.stages().values() {
                    let ExecutionStage::Successful(stage) = stage else { continue };
                    for set in &stage.stage_metrics {
                        for metric in set.iter() {
                            // Counters alone: a sum of timestamps or of peaks means nothing.
                            if let MetricValue::Count { name, count } = metric.value() {
                                *metrics.entry(name.to_string()).or_default() += count.value() as u64;
                            }
                        }
                    }
                    for task in &stage.task_infos {
                        if let Some(executor_id) = successful_on(task) {
                            *completed.entry(executor_id).or_default() += 1;
                        }
                    }
                }
                let mut recorded = self.recorded();
                for (executor_id, tasks) in completed {
                    *recorded.completed_tasks.entry(executor_id).or_default() += tasks;
                }
                recorded.metrics.insert(job.clone(), metrics);
                recorded.outputs.insert(job.clone(), attempts::outputs(graph));
            }
            Some(Status::Running(_)) => self.observe(job, graph),
            _ => {}
        }
    }
    /// Looks at a job that runs.
    pub fn observe(&self, job: &JobId, graph: &ExecutionGraphBox) {
        let (mut done, mut all) = (0, 0);
        for stage in graph.stages().values() {
            match stage {
                ExecutionStage::Successful(stage) => {
                    done += stage.partitions;
                    all += stage.partitions;
                }
                ExecutionStage::Running(stage) => {
                    done += stage.task_infos.iter().filter(|task| successful_on(task).is_some()).count();
                    all += stage.partitions;
                }
                ExecutionStage::Resolved(stage) => all += stage.partitions,
                ExecutionStage::UnResolved(_) | ExecutionStage::Failed(_) => {}
            }
        }
        let there = attempts::outputs(graph);
        let mut recorded = self.recorded();
        recorded.tasks.insert(job.clone(), (done as u32, all as u32));
        // By what they are, not by how many: some may go while others come.
        let changed = recorded.outputs.get(job).map_or(&[][..], Vec::as_slice) != there;
        recorded.outputs.insert(job.clone(), there);
        drop(recorded);
        if changed {
            self.changed.send_replace(());
        }
    }
}

/// The executor on which a task ended well.
fn successful_on(task: &TaskInfo) -> Option<String> {
    match &task.task_status {
        task_status::Status::Successful(done) => Some(done.executor_id.clone()),
        _ => None,
    }
}

#[async_trait::async_trait]
impl JobState for RecordingJobState {
    fn accept_job(&self, job_id: &JobId, job_name: &str, queued_at: u64) -> Result<()> {
        self.ballista.accept_job(job_id, job_name, queued_at)
    }
    fn pending_job_number(&self) -> usize {
        self.ballista.pending_job_number()
    }
    async fn submit_job(
        &self,
        job_id: JobId,
        graph: &ExecutionGraphBox,
        subscriber: Option<JobStatusSubscriber>,
    ) -> Result<()> {
        self.ballista.submit_job(job_id, graph, subscriber).await
    }
    async fn get_jobs(&self) -> Result<HashSet<JobId>> {
        self.ballista.get_jobs().await
    }
    async fn get_all_jobs(&self) -> Result<HashSet<JobId>> {
        self.ballista.get_all_jobs().await
    }
    async fn get_job_status(&self, job_id: &JobId) -> Result<Option<JobStatus>> {
        self.ballista.get_job_status(job_id).await
    }
    async fn get_execution_graph(&self, job_id: &JobId) -> Result<Option<ExecutionGraphBox>> {
        self.ballista.get_execution_graph(job_id).await
    }
    async fn save_job(&self, job_id: &JobId, graph: &ExecutionGraphBox) -> Result<()> {
        self.record(job_id, graph);
        self.ballista.save_job(job_id, graph).await
    }
    async fn fail_unscheduled_job(&self, job_id: &JobId, reason: String) -> Result<()> {
        self.ballista.fail_unscheduled_job(job_id, reason).await
    }
    async fn remove_job(&self, job_id: &JobId) -> Result<()> {
        self.take_metrics(job_id);
        self.ballista.remove_job(job_id).await
    }
    async fn try_acquire_job(&self, job_id: &JobId) -> Result<Option<ExecutionGraphBox>> {
        self.ballista.try_acquire_job(job_id).await
    }
    async fn job_state_events(&self) -> Result<JobStateEventStream> {
        self.ballista.job_state_events().await
    }
    async fn create_or_update_session(&self, session_id: &str, config: &SessionConfig) -> Result<Arc<SessionContext>> {
        self.ballista.create_or_update_session(session_id, config).await
    }
    async fn remove_session(&self, session_id: &str) -> Result<()> {
        self.ballista.remove_session(session_id).await
    }
    fn produce_config(&self) -> SessionConfig {
        self.ballista.produce_config()
    }
}
