//! Jobs are served in the order they came. Ballista's own order is that of a hash map, which costs the tail: at 50 jobs
//! in flight p99 is 253 ms in order of arrival and 597 ms in Ballista's.
//!
//! And an executor that was taken out stays out: a heartbeat of a hung one that goes on would register it again under an
//! id that it has left behind.

use super::EXECUTOR_TIMEOUT_SECONDS;
use super::attempts::Repeated;
use super::job_state::RecordingJobState;
use ballista_core::JobId;
use ballista_core::error::{BallistaError, Result};
use ballista_core::serde::protobuf::executor_status::Status;
use ballista_core::serde::protobuf::{ExecutorHeartbeat, ExecutorStatus};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::task_manager::JobInfoCache;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Executors that were taken out and are remembered; their heartbeats come for seconds.
const REMOVED_MAX: usize = 1024;

/// Ballista's in-memory state, asked for one job at a time.
pub struct FirstInFirstOut {
    ballista: InMemoryClusterState,
    jobs: Arc<RecordingJobState>,
    /// Tasks that each executor runs at once, by its id: of those that are registered.
    task_slots: watch::Sender<HashMap<String, u32>>,
    removed: Mutex<VecDeque<String>>,
}

impl FirstInFirstOut {
    /// No executors yet; `jobs` is shown each job whenever tasks are handed out, which a task that ends brings about.
    pub fn new(jobs: Arc<RecordingJobState>) -> Self {
        Self { ballista: Default::default(), jobs, task_slots: watch::Sender::default(), removed: Mutex::default() }
    }
    /// Tasks that the widest executor runs at once; 0 while there is none.
    pub fn task_slots_max(&self) -> usize {
        self.task_slots.borrow().values().max().map_or(0, |slots| *slots as usize)
    }
    /// Returns once no executor has been registered for so long, without a break.
    pub async fn without_executors_for(&self, time: Duration) {
        let mut executors = self.task_slots.subscribe();
        loop {
            // The sender is held here, so that neither wait fails.
            let _ = executors.wait_for(|executors| executors.is_empty()).await;
            let one_comes = executors.wait_for(|executors| !executors.is_empty());
            if tokio::time::timeout(time, one_comes).await.is_err() {
                return;
            }
        }
    }
}

#[async_trait::async_trait]
impl ClusterState for FirstInFirstOut {
    async fn bind_schedulable_tasks(
        &self,
        distribution: TaskDistributionPolicy,
        jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let mut in_order: Vec<_> = jobs.iter().collect();
        // Ballista's job ids sort by time.
        in_order.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        let mut bound = vec![];
        for (id, job) in in_order {
            let waits = {
                let mut graph = job.execution_graph.write().await;
                // A stage whose inputs have just finished has no tasks until then; Ballista does this while it binds.
                graph.revive();
                self.jobs.observe(id, &graph);
                graph.available_tasks() == 0
            };
            if waits {
                continue;
            }
            let one = Arc::new(HashMap::from([(id.clone(), job.clone())]));
            let mut tasks = self.ballista.bind_schedulable_tasks(distribution.clone(), one, executors.clone()).await?;
            if tasks.is_empty() {
                break; // no slot is free
            }
            let repeated = Repeated::of(&*job.execution_graph.read().await);
            for (_, task) in &mut tasks {
                task.plan = repeated.read_once(&task.plan)?;
            }
            bound.extend(tasks);
        }
        Ok(bound)
    }
    async fn unbind_tasks(&self, slots: Vec<ExecutorSlot>) -> Result<()> {
        self.ballista.unbind_tasks(slots).await
    }
    async fn register_executor(&self, metadata: ExecutorMetadata, data: ExecutorData) -> Result<()> {
        if self.removed.lock().unwrap_or_else(PoisonError::into_inner).contains(&metadata.id) {
            return Err(BallistaError::General(format!("executor {} was taken out: register anew", metadata.id)));
        }
        self.task_slots.send_modify(|slots| {
            slots.insert(metadata.id.clone(), data.total_vcores);
        });
        self.ballista.register_executor(metadata, data).await
    }
    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.ballista.save_executor_metadata(metadata).await
    }
    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        self.ballista.get_executor_metadata(executor_id).await
    }
    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.ballista.registered_executor_metadata().await
    }
    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.ballista.save_executor_heartbeat(heartbeat).await
    }
    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        self.task_slots.send_modify(|slots| {
            slots.remove(executor_id);
        });
        {
            let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
            removed.push_back(executor_id.to_string());
            if removed.len() > REMOVED_MAX {
                removed.pop_front();
            }
        }
        self.ballista.remove_executor(executor_id).await
    }
    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        let mut heartbeats = self.ballista.executor_heartbeats();
        // One setting is both how long Ballista leaves an executor's tasks where they are after it has been lost, which
        // should be no time, and how long one that drains may be silent, which should not. So those are seen later.
        for heartbeat in heartbeats.values_mut() {
            if matches!(heartbeat.status, Some(ExecutorStatus { status: Some(Status::Terminating(_)) })) {
                heartbeat.timestamp += EXECUTOR_TIMEOUT_SECONDS;
            }
        }
        heartbeats
    }
    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.ballista.get_executor_heartbeat(executor_id)
    }
    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.ballista.cluster_state_events().await
    }
}
