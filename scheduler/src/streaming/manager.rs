//! The queries of this scheduler: started, listed, stopped, and resumed after a restart.
//!
//! Each query is one JSON file `queries/<id>.json` in the state directory. What it says a query should be (running,
//! stopped, finished, failed) is written before it is so; a restarted scheduler resumes whatever should run.

use crate::cluster::Cluster;
use crate::sql::planner::{FlowDefinition, Planner};
use crate::streaming::checkpoint::{self, Checkpoint, Location};
use crate::streaming::progress::{Monitor, Report, State};
use crate::streaming::query::{End, Failpoint, Run, RunOptions};
use crate::streaming::trigger::Trigger;
use futures::{FutureExt, TryStreamExt};
use headwater_proto::engine::QueryStatus;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ids::{QueryId, RunId};
use headwater_proto::progress::StreamingQueryProgress;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, broadcast, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// What a user asks for beside the flow itself.
#[derive(Debug, Clone, Default)]
pub struct StartOptions {
    /// Replaces the flow's name.
    pub name: Option<String>,
    /// When batches run.
    pub trigger: Trigger,
    /// Where the checkpoint is; a folder of the state directory when absent.
    pub checkpoint: Option<String>,
}

/// What should become of a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", tag = "state")]
enum Desired {
    Running,
    Stopped,
    Finished,
    Failed { error: String },
}

impl Desired {
    fn state(&self) -> State {
        match self {
            Desired::Running => State::Running,
            Desired::Stopped => State::Stopped,
            Desired::Finished => State::Finished,
            Desired::Failed { .. } => State::Failed,
        }
    }
    fn message(&self) -> String {
        match self {
            Desired::Running => "Resuming".into(),
            Desired::Stopped => "Stopped".into(),
            Desired::Finished => "Finished".into(),
            Desired::Failed { error } => error.clone(),
        }
    }
}

/// One query as its file keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    id: QueryId,
    name: String,
    flow: FlowDefinition,
    /// As `--trigger` takes it.
    trigger: String,
    checkpoint: String,
    desired: Desired,
    /// Of the last run.
    last_batch_id: i64,
}

struct Query {
    definition: Definition,
    monitor: Arc<Monitor>,
    running: Option<Running>,
}

/// A start that is under way: its name is free again when this is dropped.
struct Starting {
    manager: Manager,
    name: String,
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.manager.0.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Manager(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// The state directory as the user wrote it, for default checkpoints.
    state_dir: String,
    cluster: Cluster,
    planner: Arc<Planner>,
    failpoint: Option<Failpoint>,
    queries: Mutex<BTreeMap<QueryId, Query>>,
    starting: std::sync::Mutex<BTreeSet<String>>,
}

impl Manager {
    /// Reads the queries of a state directory and resumes those that should run.
    ///
    /// # Errors
    /// The store is away, or a query's file cannot be read: the file and the remedy are named.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        root: Path,
        state_dir: String,
        cluster: Cluster,
        planner: Arc<Planner>,
        failpoint: Option<Failpoint>,
    ) -> Result<Self> {
        let manager = Self(Arc::new(Inner {
            store,
            root,
            state_dir,
            cluster,
            planner,
            failpoint,
            queries: Mutex::default(),
            starting: std::sync::Mutex::default(),
        }));
        let unavailable =
            |e| Error::transient("STATE_DIRECTORY_UNAVAILABLE", format!("failed to read the queries: {e}"));
        let folder = manager.0.root.clone().join("queries");
        let files: Vec<_> = manager.0.store.list(Some(&folder)).try_collect().await.map_err(unavailable)?;
        for file in files.into_iter().filter(|file| file.location.extension() == Some("json")) {
            let bytes = manager.0.store.get(&file.location).await.map_err(unavailable)?;
            let bytes = bytes.bytes().await.map_err(unavailable)?;
            let definition: Definition = serde_json::from_slice(&bytes).map_err(|e| {
                Error::fatal(
                    "QUERY_FILE_CORRUPT",
                    format!("{} cannot be read: {e}; restore it, or move it away to forget the query", file.location),
                )
            })?;
            manager.add(definition).await;
        }
        Ok(manager)
    }

    /// Takes a definition into the map; starts it if it should run.
    async fn add(&self, definition: Definition) {
        let monitor = Arc::new(Monitor::new(status_of(&definition)));
        let mut queries = self.0.queries.lock().await;
        let mut query = Query { definition, monitor, running: None };
        if query.definition.desired == Desired::Running {
            info!(query_id = %query.definition.id, name = query.definition.name, "resuming query");
            self.run(&mut query);
        }
        queries.insert(query.definition.id, query);
    }

    /// Starts a flow. A query of that name that is not active is taken up where it stopped, with this definition.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` kind when a query of that name is active, or the checkpoint belongs to another; what planning
    /// or preparing the sink says, so that a wrong flow fails here and not in the background.
    pub async fn start(&self, flow: FlowDefinition, options: StartOptions) -> Result<QueryStatus> {
        let name = options.name.unwrap_or_else(|| flow.name.clone());
        if let Trigger::RealTime(_) = options.trigger {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "trigger real-time is not supported yet; use the default trigger",
            ));
        }
        let _starting = self.starting(&name)?;
        let known = inactive(&*self.0.queries.lock().await, &name)?;
        // Validates before anything is written, and outside the lock: it asks brokers and databases.
        let planned = self.0.planner.plan_flow(&flow, "validation").await?;
        for source in &planned.sources {
            source.initial_offset().await?;
        }
        drop(planned);

        let checkpoint = match (options.checkpoint, &known) {
            (Some(checkpoint), _) => checkpoint,
            (None, Some(known)) => known.checkpoint.clone(),
            (None, None) => format!("{}/checkpoints/{}", self.0.state_dir.trim_end_matches('/'), RunId::random()),
        };
        // The id is the checkpoint's.
        let location = Location::resolve(&checkpoint).await?;
        let id = Checkpoint::open(location, RunId::random(), checkpoint::Options::default()).await?.query_id();
        if let Some(owner) = self.0.queries.lock().await.get(&id)
            && owner.definition.name != name
        {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "STREAMING_CHECKPOINT_OF_ANOTHER_QUERY",
                format!(
                    "checkpoint {checkpoint} belongs to query {} ({id}): name another checkpoint location",
                    owner.definition.name
                ),
            ));
        }
        // In the query's own name: the output of a stream is one query's.
        self.0.planner.plan_flow(&flow, &id.to_string()).await?.sink.prepare().await?;

        let mut queries = self.0.queries.lock().await;
        // Again: it may have been restarted meanwhile.
        if let Some(known) = inactive(&queries, &name)?
            && known.id != id
        {
            // The same name over another checkpoint is another query; the old one is forgotten, its checkpoint kept.
            queries.remove(&known.id);
            self.remove_file(known.id).await?;
        }
        let definition = Definition {
            id,
            name,
            flow,
            trigger: options.trigger.to_string(),
            checkpoint,
            desired: Desired::Running,
            last_batch_id: -1,
        };
        self.write_file(&definition).await?;
        let monitor = Arc::new(Monitor::new(status_of(&definition)));
        let mut query = Query { definition, monitor, running: None };
        self.run(&mut query);
        let status = query.monitor.status();
        queries.insert(id, query);
        Ok(status)
    }

    /// Keeps a name for a start that is under way.
    fn starting(&self, name: &str) -> Result<Starting> {
        let mut starting = self.0.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if !starting.insert(name.to_string()) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "STREAMING_QUERY_ALREADY_ACTIVE",
                format!("a query named {name} is being started already: wait for it, or choose another name"),
            ));
        }
        Ok(Starting { manager: self.clone(), name: name.to_string() })
    }

    /// Spawns a run of a query; the task is owned by the query's entry.
    fn run(&self, query: &mut Query) {
        let definition = query.definition.clone();
        let (stop, stopped) = watch::channel(false);
        let (manager, monitor) = (self.clone(), Arc::clone(&query.monitor));
        let task = tokio::spawn(async move {
            let run = RunId::random();
            monitor.update(|status| status.run_id = run.to_string());
            let end = match definition.trigger.parse::<Trigger>() {
                Ok(trigger) => {
                    let options = RunOptions {
                        id: definition.id,
                        run,
                        name: definition.name.clone(),
                        flow: definition.flow.clone(),
                        trigger,
                        checkpoint: definition.checkpoint.clone(),
                        failpoint: manager.0.failpoint.clone(),
                    };
                    let planner = Arc::clone(&manager.0.planner);
                    let cluster = manager.0.cluster.clone();
                    let run = Run { options, planner, cluster, monitor: Arc::clone(&monitor), stop: stopped };
                    // A query whose task is gone must not be said to run.
                    AssertUnwindSafe(run.to_end()).catch_unwind().await.unwrap_or_else(|_| {
                        End::Failed(Error::internal("the query's task panicked, the log says where: report it"))
                    })
                }
                Err(error) => End::Failed(error),
            };
            manager.ended(definition.id, &monitor, end).await;
        });
        query.running = Some(Running { stop, task });
    }

    /// Records how a run ended. A stop is recorded by who asked for it: at shutdown the query should run on.
    async fn ended(&self, id: QueryId, monitor: &Monitor, end: End) {
        // Another scheduler runs it: what should become of it is that one's to say.
        let fenced = matches!(&end, End::Failed(error) if error.class == "CONCURRENT_STREAM_LOG_UPDATE");
        let desired = match end {
            End::Stopped => {
                monitor.set(State::Stopped, "Stopped");
                return;
            }
            End::Finished => Desired::Finished,
            End::Failed(error) => {
                tracing::error!(query_id = %id, %error, "query failed");
                Desired::Failed { error: error.to_string() }
            }
        };
        let mut queries = self.0.queries.lock().await;
        let Some(query) = queries.get_mut(&id) else { return };
        query.definition.desired = desired;
        query.definition.last_batch_id = monitor.status().batch_id;
        if !fenced && let Err(error) = self.write_file(&query.definition).await {
            warn!(query_id = %id, %error, "the end of a query could not be recorded: it is resumed at the next start");
        }
        query.running = None;
        let (state, message) = (query.definition.desired.state(), query.definition.desired.message());
        monitor.set(state, message);
    }

    /// All queries, by name.
    pub async fn list(&self) -> Vec<QueryStatus> {
        let queries = self.0.queries.lock().await;
        let mut all: Vec<_> = queries.values().map(|query| query.monitor.status()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The status of one query.
    pub async fn get(&self, reference: &str) -> Result<QueryStatus> {
        let queries = self.0.queries.lock().await;
        Ok(find(&queries, reference)?.monitor.status())
    }

    /// Recent reports, those to come, and the status as it changes.
    #[allow(clippy::type_complexity)]
    pub async fn progress(
        &self,
        reference: &str,
    ) -> Result<(Vec<Arc<StreamingQueryProgress>>, broadcast::Receiver<Report>, watch::Receiver<QueryStatus>)> {
        let queries = self.0.queries.lock().await;
        let monitor = &find(&queries, reference)?.monitor;
        // Subscribed first: a report made in between is seen twice rather than never.
        let reports = monitor.subscribe();
        Ok((monitor.recent(), reports, monitor.watch()))
    }

    /// Stops a query; returns once its run has ended. A query that is not active stays as it is.
    pub async fn stop(&self, reference: &str) -> Result<QueryStatus> {
        let (id, running) = {
            let mut queries = self.0.queries.lock().await;
            let id = find(&queries, reference)?.definition.id;
            let query = queries.get_mut(&id).expect("found under this lock");
            if query.running.is_some() {
                query.definition.desired = Desired::Stopped;
                query.definition.last_batch_id = query.monitor.status().batch_id;
                self.write_file(&query.definition).await?;
            }
            (id, query.running.take())
        };
        if let Some(running) = running {
            end_run(running).await;
        }
        self.get(&id.to_string()).await
    }

    /// Stops a query if need be and runs it again from its checkpoint.
    pub async fn restart(&self, reference: &str) -> Result<QueryStatus> {
        let id = self.stop(reference).await?.id;
        let mut queries = self.0.queries.lock().await;
        let id = find(&queries, &id)?.definition.id;
        let query = queries.get_mut(&id).expect("found under this lock");
        if query.running.is_none() {
            query.definition.desired = Desired::Running;
            self.write_file(&query.definition).await?;
            query.monitor.set(State::Running, "Restarting");
            self.run(query);
        }
        Ok(query.monitor.status())
    }

    /// Forgets a query that is not active, and deletes its checkpoint if that is in the state directory.
    pub async fn delete(&self, reference: &str) -> Result<QueryStatus> {
        let mut queries = self.0.queries.lock().await;
        let query = find(&queries, reference)?;
        let (id, status, checkpoint) =
            (query.definition.id, query.monitor.status(), query.definition.checkpoint.clone());
        if query.running.is_some() {
            return Err(Error::invalid(
                "STREAMING_QUERY_ACTIVE",
                format!("query {} is {}: stop it first (headwater query stop {id})", status.name, status.state),
            ));
        }
        self.remove_file(id).await?;
        let own = format!("{}/checkpoints/", self.0.state_dir.trim_end_matches('/'));
        if let Some(folder) = checkpoint.strip_prefix(&own) {
            let folder = self.0.root.clone().join("checkpoints").join(folder);
            let failed = |e| {
                Error::transient(
                    "STATE_DIRECTORY_UNAVAILABLE",
                    format!("failed to delete checkpoint {checkpoint}: {e}"),
                )
            };
            let files: Vec<_> = self.0.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
            for file in files {
                self.0.store.delete(&file.location).await.map_err(failed)?;
            }
        }
        queries.remove(&id);
        Ok(status)
    }

    /// Ends all runs; the queries resume at the next start.
    pub async fn shutdown(&self) {
        let running: Vec<_> =
            self.0.queries.lock().await.values_mut().filter_map(|query| query.running.take()).collect();
        for run in running {
            end_run(run).await;
        }
    }

    fn file(&self, id: QueryId) -> Path {
        self.0.root.clone().join("queries").join(format!("{id}.json"))
    }
    async fn write_file(&self, definition: &Definition) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(definition).map_err(Error::internal)?;
        self.0.store.put(&self.file(definition.id), bytes.into()).await.map(drop).map_err(|e| {
            Error::transient(
                "STATE_DIRECTORY_UNAVAILABLE",
                format!("failed to write query {} to {}: {e}", definition.name, self.0.state_dir),
            )
        })
    }
    async fn remove_file(&self, id: QueryId) -> Result<()> {
        match self.0.store.delete(&self.file(id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(Error::transient("STATE_DIRECTORY_UNAVAILABLE", format!("failed to delete query {id}: {e}"))),
        }
    }
}

async fn end_run(running: Running) {
    // The receiver gone means that the run has ended by itself.
    let _ = running.stop.send(true);
    if let Err(e) = running.task.await {
        warn!(error = %e, "a query's task ended badly");
    }
}

fn status_of(definition: &Definition) -> QueryStatus {
    QueryStatus {
        id: definition.id.to_string(),
        run_id: String::new(),
        name: definition.name.clone(),
        state: definition.desired.state().name().into(),
        batch_id: definition.last_batch_id,
        input_rows_per_second: 0.0,
        processed_rows_per_second: 0.0,
        lag_records: -1,
        message: definition.desired.message(),
        checkpoint: definition.checkpoint.clone(),
        trigger: definition.trigger.clone(),
    }
}

/// The query of this name, if there is one.
///
/// # Errors
/// It is active.
fn inactive(queries: &BTreeMap<QueryId, Query>, name: &str) -> Result<Option<Definition>> {
    match queries.values().find(|query| query.definition.name == name) {
        Some(known) if known.running.is_some() => Err(Error::new(
            ErrorKind::AlreadyExists,
            "STREAMING_QUERY_ALREADY_ACTIVE",
            format!(
                "a query named {name} is running already, with id {}: stop it first (headwater query stop {name})",
                known.definition.id
            ),
        )),
        known => Ok(known.map(|known| known.definition.clone())),
    }
}

/// By id, unique prefix of an id, or name.
fn find<'a>(queries: &'a BTreeMap<QueryId, Query>, reference: &str) -> Result<&'a Query> {
    let not_found = |why: String| Error::new(ErrorKind::NotFound, "STREAMING_QUERY_NOT_FOUND", why);
    if let Some(query) = queries.values().find(|query| query.definition.name == reference) {
        return Ok(query);
    }
    let matching: Vec<_> = queries
        .values()
        .filter(|query| !reference.is_empty() && query.definition.id.to_string().starts_with(reference))
        .collect();
    match matching.as_slice() {
        [query] => Ok(query),
        [] => Err(not_found(format!("no query has id or name {reference}: headwater query list shows all"))),
        several => Err(not_found(format!("{reference} begins the ids of {} queries: give more of it", several.len()))),
    }
}
