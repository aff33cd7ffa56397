//! The queries of this scheduler: started, listed, stopped, and resumed after a restart.
//!
//! Each query is one JSON file `queries/<id>.json` in the state directory. What it says a query should be (running,
//! stopped, finished, failed) is written before it is so; a restarted scheduler resumes whatever should run.
//!
//! Changes (start, stop, restart, delete, and the end of a run) are made one after the other, each to its end even when
//! its caller goes away: a client that hangs up between the file and the run would leave them at odds. Looking on never
//! waits for a change, which may wait for an object store.
//!
//! One scheduler works on a state directory at a time: every write here, and of the queries' runs, passes the
//! [`Tenure`] of the one that leads.

use crate::cluster::Cluster;
use crate::execute::Statements;
use crate::ha::{LEADERSHIP_LOST, Tenure};
use crate::sql::catalog::TableDefinition;
use crate::sql::planner::{Planner, share_files};
use crate::streaming::checkpoint::{self, Checkpoint, Location};
use crate::streaming::progress::{EventKind, Monitor, QueryEvent, Report, State};
use crate::streaming::query::{End, Failpoint, Run, RunOptions, Told, batch_deadline};
use crate::streaming::runs::{Ended, EndedRuns, RunView};
use crate::streaming::trigger::Trigger;
use crate::streaming::unix_ms;
use crate::streaming::work::Work;
use futures::{FutureExt, StreamExt, TryStreamExt};
use headwater_executor::connectors::Sink;
use headwater_proto::engine::QueryStatus;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ids::{QueryId, RunId};
use headwater_proto::progress::StreamingQueryProgress;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{broadcast, oneshot, watch};
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
    /// The Spark Connect session that starts it, for as long as this scheduler lives.
    pub owner: Option<Arc<str>>,
    /// When a run of the same checkpoint is active, stop it first instead of refusing: Spark's
    /// `spark.sql.streaming.stopActiveRunOnRestart`.
    pub replace_active: bool,
    /// The query begins anew at every start and leaves nothing behind: Spark's console, memory and noop sinks.
    pub temporary: bool,
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
    /// Whether a user gave the name.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    named: bool,
    /// Whether nothing of it is kept once it has ended.
    #[serde(default, skip_serializing_if = "is_false")]
    temporary: bool,
    #[serde(flatten)]
    work: Work,
    /// As `--trigger` takes it.
    trigger: String,
    checkpoint: String,
    desired: Desired,
    /// Of the last run.
    last_batch_id: i64,
    /// When the last run ended, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_ms: Option<i64>,
}

fn yes() -> bool {
    true
}
fn is_true(value: &bool) -> bool {
    *value
}
fn is_false(value: &bool) -> bool {
    !value
}

/// How long queries without a name stay in the list when they have ended well: nobody could start them by name again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

impl Definition {
    /// Whether nobody will ask for this query any more.
    fn is_forgotten(&self, now_ms: i64) -> bool {
        let over = match self.desired {
            Desired::Running => false,
            Desired::Stopped | Desired::Finished => !self.named || self.temporary,
            Desired::Failed { .. } => self.temporary,
        };
        let old = |ended_ms: i64| now_ms.saturating_sub(ended_ms) >= FORGOTTEN_AFTER.as_millis() as i64;
        over && self.ended_ms.is_some_and(old)
    }
}

fn now_ms() -> i64 {
    unix_ms(SystemTime::now())
}

struct Query {
    definition: Definition,
    monitor: Arc<Monitor>,
    running: Option<Running>,
}

/// A run. Dropped, it ends.
struct Running {
    run: RunId,
    stop: watch::Sender<Told>,
    /// How it ended, once it does nothing any more.
    end: oneshot::Receiver<End>,
}

impl Running {
    fn tell(&self, what: Told) {
        // The receiver gone means that the run has ended by itself.
        let _ = self.stop.send(what);
    }
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
    tenure: Tenure,
    /// For a moment, never over an await.
    queries: Mutex<BTreeMap<QueryId, Query>>,
    /// As `queries`; never both at once.
    ended: Mutex<EndedRuns>,
    /// How many runs have ended.
    endings: watch::Sender<u64>,
    /// What all queries do.
    events: broadcast::Sender<QueryEvent>,
    /// Held by the one change that is made, over its I/O. Waits for a run's end, but never the other way about.
    changes: tokio::sync::Mutex<Changes>,
}

#[derive(Default)]
struct Changes {
    /// The scheduler ends: nothing is started any more.
    closed: bool,
}

impl Changes {
    fn are_open(&self) -> Result<()> {
        match self.closed {
            false => Ok(()),
            true => Err(scheduler_ends()),
        }
    }
}

/// What clients are told while the scheduler shuts down.
pub fn scheduler_ends() -> Error {
    Error::transient(
        "SCHEDULER_ENDS",
        "the scheduler is shutting down: ask again when it is back; its queries go on then",
    )
}

/// What a checkpoint consists of: see [`checkpoint`].
const CHECKPOINT_PARTS: [&str; 5] = ["metadata", "offsets", "commits", "sources", "state"];
/// Query files that are read at once at start.
const FILES_AT_ONCE: usize = 32;
/// Events that a listener may be behind; it misses the oldest beyond.
const EVENTS_MAX: usize = 1024;
/// Other changes wait while a deleted query's sink is given back, and what its sources are in may be away.
const RELEASE_MAX: Duration = Duration::from_secs(5);
/// While the scheduler ends, a batch waits so long for executors when there are none: those that lost the connection
/// register again within 2 s; when everything is stopped at once, none comes.
const NO_EXECUTORS_MAX: Duration = Duration::from_secs(5);
/// Long enough for anybody, short enough for a table.
const NAME_CHARS_MAX: usize = 200;

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
        tenure: Tenure,
    ) -> Result<Self> {
        let manager = Self(Arc::new(Inner {
            store,
            root,
            state_dir,
            cluster,
            planner,
            failpoint,
            tenure,
            queries: Mutex::default(),
            ended: Mutex::default(),
            endings: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_MAX),
            changes: tokio::sync::Mutex::default(),
        }));
        let unavailable =
            |e| Error::transient("STATE_DIRECTORY_UNAVAILABLE", format!("failed to read the queries: {e}"));
        let folder = manager.0.root.clone().join("queries");
        let files: Vec<_> = manager.0.store.list(Some(&folder)).try_collect().await.map_err(unavailable)?;
        let files = files.into_iter().filter(|file| file.location.extension() == Some("json"));
        let store = &manager.0.store;
        // Several at a time: whoever takes over has seconds.
        let mut definitions =
            futures::stream::iter(files)
                .map(|file| async move {
                    Ok::<_, object_store::Error>((store.get(&file.location).await?.bytes().await?, file))
                })
                .buffered(FILES_AT_ONCE);
        let mut all = vec![];
        while let Some(read) = definitions.next().await {
            let (bytes, file) = read.map_err(unavailable)?;
            let definition: Definition = serde_json::from_slice(&bytes).map_err(|e| {
                Error::fatal(
                    "QUERY_FILE_CORRUPT",
                    format!("{} cannot be read: {e}; restore it, or move it away to forget the query", file.location),
                )
            })?;
            all.push(definition);
        }
        drop(definitions);
        // Not before all are read: nobody would end the runs of a manager that could not be opened.
        all.into_iter().for_each(|definition| manager.add(definition));
        Ok(manager)
    }

    /// Takes a definition into the map; starts it if it should run.
    fn add(&self, definition: Definition) {
        let monitor = self.monitor(&definition, None);
        let mut query = Query { definition, monitor, running: None };
        if query.definition.desired == Desired::Running {
            info!(query_id = %query.definition.id, name = query.definition.name, "resuming query");
            self.run(&mut query);
        }
        self.queries().insert(query.definition.id, query);
    }

    /// What queries are planned and run with.
    fn statements(&self) -> Statements {
        Statements { planner: Arc::clone(&self.0.planner), cluster: self.0.cluster.clone(), manager: self.clone() }
    }

    fn monitor(&self, definition: &Definition, owner: Option<Arc<str>>) -> Arc<Monitor> {
        Arc::new(Monitor::new(status_of(definition)).telling(owner, self.0.events.clone()))
    }

    fn queries(&self) -> MutexGuard<'_, BTreeMap<QueryId, Query>> {
        // Entries are whole whatever panicked while they were held: they change by assignment alone.
        self.0.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a query. One of that name that is not active is taken up where it stopped, with this definition.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` kind when a query of that name is active, or the checkpoint belongs to another; what planning
    /// or preparing the sink says, so that what cannot run fails here and not in the background.
    pub async fn start(&self, work: impl Into<Work>, options: StartOptions) -> Result<QueryStatus> {
        let work = work.into();
        let StartOptions { name, trigger, checkpoint, owner, replace_active, temporary } = options;
        let name = name.or_else(|| work.name().map(str::to_string));
        if let Some(name) = &name {
            check_name(name)?;
        }
        if let Trigger::RealTime(_) = trigger {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "trigger real-time is not supported yet; use the default trigger",
            ));
        }
        batch_deadline(work.conf())?;
        let fresh = format!("{}/checkpoints/{}", self.0.state_dir.trim_end_matches('/'), RunId::random());
        let checkpoint = match checkpoint {
            // Absolute: a later start from another folder must find the same one.
            Some(checkpoint) => Some(Location::resolve(&checkpoint).await?.display().to_string()),
            None => None,
        };
        let choice = Choice { name, checkpoint, fresh, replace_active, temporary };
        let (_, checkpoint) = choice.make(&self.queries())?;
        // Validates before anything is written, and before other changes are kept waiting: it asks brokers and
        // databases.
        for source in work.plan(&self.statements(), "validation", &checkpoint).await?.sources {
            source.initial_offset().await?;
        }
        let manager = self.clone();
        whole(async move { manager.start_validated(work, trigger, choice, &checkpoint, owner).await }).await
    }

    /// Starts a query of a checkpoint. What a start leaves behind that comes to nothing (a checkpoint that was begun, a
    /// sink that was taken in the query's name) is taken back.
    async fn start_validated(
        &self,
        work: Work,
        trigger: Trigger,
        choice: Choice,
        checkpoint: &str,
        owner: Option<Arc<str>>,
    ) -> Result<QueryStatus> {
        let fresh = (choice.fresh == checkpoint).then(|| choice.fresh.clone());
        let (id, has_batches) = self.query_of(Location::resolve(checkpoint).await?).await?;
        let mut sink = None;
        let started = async {
            self.check_owner(id, &choice, checkpoint)?;
            // In the query's own name: the output of a stream is one query's.
            let sink = sink.insert(work.plan(&self.statements(), &id.to_string(), checkpoint).await?.sink);
            self.0.tenure.guard(sink.prepare()).await?;
            if !has_batches && sink.had_batches().await? {
                return Err(Error::invalid(
                    "STREAMING_OUTPUT_OF_ANOTHER_QUERY",
                    format!(
                        "the output has batches, and checkpoint {checkpoint} has none: those of the same numbers would \
                         pass for committed; continue the checkpoint that they were written by, or choose a new folder"
                    ),
                ));
            }
            self.start_prepared(work, trigger, choice, owner).await
        };
        let started = started.await;
        let comes_to_be = match &started {
            // Another start may have been quicker: this one went on with its checkpoint then.
            Ok(status) => status.id == id.to_string(),
            Err(_) => false,
        };
        if !comes_to_be {
            self.take_back(id, fresh, sink).await;
        }
        started
    }

    /// Takes back what a start has left behind, unless there is a query of that id: it is that one's then.
    async fn take_back(&self, id: QueryId, fresh: Option<String>, sink: Option<Arc<dyn Sink>>) {
        let _changes = self.0.changes.lock().await;
        if self.queries().contains_key(&id) {
            return;
        }
        let taken_back = async {
            // The start may have come as far as this.
            self.remove_file(id).await?;
            if let Some(sink) = sink {
                // Others wait for what this holds.
                let released = tokio::time::timeout(RELEASE_MAX, self.0.tenure.guard(sink.release())).await;
                released.unwrap_or_else(|_| Err(not_released()))?;
            }
            match fresh {
                Some(fresh) => self.remove_checkpoint(&fresh).await,
                None => Ok(()),
            }
        };
        if let Err(error) = taken_back.await {
            warn!(query_id = %id, %error, "what a query that did not start has left behind could not be removed");
        }
    }

    /// The query of a checkpoint, which is begun if need be, and whether it has decided a batch.
    async fn query_of(&self, location: Location) -> Result<(QueryId, bool)> {
        let location = location.fenced(&self.0.tenure);
        let checkpoint = Checkpoint::open(location, RunId::random(), checkpoint::Options::default()).await?;
        Ok((checkpoint.query_id(), checkpoint.has_batches()))
    }

    /// Refuses a checkpoint whose query has another name, or is active, unless the new one is to replace it.
    fn check_owner(&self, id: QueryId, choice: &Choice, checkpoint: &str) -> Result<()> {
        let queries = self.queries();
        let Some(known) = queries.get(&id) else { return Ok(()) };
        let (name, active) = (&known.definition.name, known.running.is_some());
        if choice.replace_active || (choice.name.is_none() && !active) {
            return Ok(());
        }
        if active && choice.name.as_ref().is_none_or(|wanted| wanted == name) {
            return Err(already_active(name, id));
        }
        if choice.name.as_ref().is_some_and(|wanted| wanted != name) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "STREAMING_CHECKPOINT_OF_ANOTHER_QUERY",
                format!("checkpoint {checkpoint} belongs to query {name} ({id}): name another checkpoint location"),
            ));
        }
        Ok(())
    }

    async fn start_prepared(
        &self,
        work: Work,
        trigger: Trigger,
        choice: Choice,
        owner: Option<Arc<str>>,
    ) -> Result<QueryStatus> {
        let changes = self.0.changes.lock().await;
        changes.are_open()?;
        self.forget_old(&changes).await;
        // Others may have been quicker.
        let (known, checkpoint) = choice.make(&self.queries())?;
        let location = Location::resolve(&checkpoint).await?;
        let checkpoint = location.display().to_string();
        // The id is the checkpoint's.
        let (id, _) = self.query_of(location).await?;
        self.check_owner(id, &choice, &checkpoint)?;
        self.stop_one(&changes, id).await?;
        let before = self.queries().get(&id).map(|query| query.definition.clone());
        let named = choice.name.is_some();
        let name = choice.name.unwrap_or_else(|| match &before {
            Some(before) if !before.named => before.name.clone(),
            _ => work.made_up_name(id),
        });
        let definition = Definition {
            id,
            name,
            named,
            temporary: choice.temporary,
            work,
            trigger: trigger.to_string(),
            checkpoint,
            desired: Desired::Running,
            last_batch_id: before.map_or(-1, |before| before.last_batch_id),
            ended_ms: None,
        };
        self.write_file(&definition).await?;
        if let Some(known) = known
            && known.id != id
        {
            // The same name over another checkpoint is another query; the old one is forgotten, its checkpoint kept
            // unless it was of no use without the query.
            if known.last_batch_id <= 0 {
                self.release_sink(&known).await;
            }
            self.remove_file(known.id).await?;
            if known.temporary {
                self.remove_checkpoint(&known.checkpoint).await?;
            }
            self.queries().remove(&known.id);
        }
        let monitor = self.monitor(&definition, owner);
        let mut query = Query { definition, monitor, running: None };
        self.run(&mut query);
        let status = query.monitor.status();
        self.queries().insert(id, query);
        Ok(status)
    }

    /// Forgets queries that have ended long ago and that nobody could ask for by name.
    async fn forget_old(&self, _: &Changes) {
        let now_ms = now_ms();
        let old: Vec<Definition> = {
            let queries = self.queries();
            let definitions = queries.values().filter(|query| query.running.is_none()).map(|query| &query.definition);
            definitions.filter(|definition| definition.is_forgotten(now_ms)).cloned().collect()
        };
        for definition in old {
            let removed = async {
                if definition.last_batch_id <= 0 {
                    self.release_sink(&definition).await;
                }
                self.remove_file(definition.id).await?;
                match definition.temporary {
                    true => self.remove_checkpoint(&definition.checkpoint).await,
                    false => Ok(()),
                }
            };
            match removed.await {
                Ok(()) => drop(self.queries().remove(&definition.id)),
                Err(error) => warn!(query_id = %definition.id, %error, "an ended query could not be removed"),
            }
        }
    }

    /// Spawns a run of a query. It is owned by the query's entry: dropped there, it ends.
    fn run(&self, query: &mut Query) {
        let definition = query.definition.clone();
        let (stop, stopped) = watch::channel(Told::GoOn);
        let (tell_end, end) = oneshot::channel();
        let (manager, monitor) = (self.clone(), Arc::clone(&query.monitor));
        let run = RunId::random();
        monitor.update(|status| status.run_id = run.to_string());
        query.running = Some(Running { run, stop, end });
        tokio::spawn(async move {
            let end = match definition.trigger.parse::<Trigger>() {
                Ok(trigger) => {
                    let options = RunOptions {
                        id: definition.id,
                        run,
                        name: definition.name.clone(),
                        named: definition.named,
                        work: definition.work.clone(),
                        trigger,
                        checkpoint: definition.checkpoint.clone(),
                        failpoint: manager.0.failpoint.clone(),
                        tenure: manager.0.tenure.clone(),
                    };
                    let statements = manager.statements();
                    let running = Run { options, statements, monitor, stop: stopped, busy: Arc::default() }.to_end();
                    AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().map(String::as_str);
                        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                        End::Failed(Error::internal(text.unwrap_or("the run panicked")))
                    })
                }
                Err(error) => End::Failed(error),
            };
            // Nobody waits unless the run was told to stop.
            let _ = tell_end.send(end.clone());
            manager.ended(definition.id, run, end).await;
        });
    }

    /// Records that a run ended by itself. One that was told to stop is recorded by who told it, and is no longer the
    /// query's run by now.
    async fn ended(&self, id: QueryId, run: RunId, end: End) {
        let _changes = self.0.changes.lock().await;
        {
            let mut queries = self.queries();
            let Some(query) = queries.get_mut(&id) else { return };
            if query.running.as_ref().is_none_or(|running| running.run != run) {
                return;
            }
            query.running = None;
        }
        self.record(id, run, end).await;
    }

    /// Records how a run ended. After a stop, what should become of the query stays: at shutdown it should run on.
    async fn record(&self, id: QueryId, run: RunId, end: End) {
        let error = match &end {
            End::Failed(error) => Some(error.clone()),
            End::Stopped | End::Finished => None,
        };
        let desired = match end {
            End::Stopped => None,
            End::Finished => Some(Desired::Finished),
            End::Failed(error) => {
                tracing::error!(query_id = %id, %error, "query failed");
                // Fenced: another scheduler runs this query now, and the file is that one's.
                let fenced = ["CONCURRENT_STREAM_LOG_UPDATE", LEADERSHIP_LOST].contains(&error.class.as_str());
                let desired = Desired::Failed { error: error.to_string() };
                if fenced {
                    if let Some(query) = self.queries().get(&id) {
                        query.monitor.set(desired.state(), desired.message());
                    }
                    self.remember(id, run, Some(error));
                    return;
                }
                Some(desired)
            }
        };
        let (definition, monitor) = {
            let mut queries = self.queries();
            let Some(query) = queries.get_mut(&id) else { return };
            query.definition.last_batch_id = query.monitor.status().batch_id;
            query.definition.ended_ms = Some(now_ms());
            if let Some(desired) = &desired {
                query.definition.desired = desired.clone();
            }
            (query.definition.clone(), Arc::clone(&query.monitor))
        };
        let Some(desired) = desired else { return };
        if let Err(error) = self.write_file(&definition).await {
            warn!(query_id = %id, %error, "the end of a query could not be recorded: it is resumed at the next start");
        }
        monitor.set(desired.state(), desired.message());
        self.remember(id, run, error);
    }

    /// Remembers the end of a run, and tells whoever waits for it.
    fn remember(&self, id: QueryId, run: RunId, error: Option<Error>) {
        let run = run.to_string();
        let (monitor, named) = {
            let queries = self.queries();
            let Some(query) = queries.get(&id) else { return };
            (Arc::clone(&query.monitor), query.definition.named)
        };
        let view = RunView::of(&monitor, &run, named, None);
        let count = {
            let mut ended = self.ended_runs();
            ended.add(monitor.owner().cloned(), view, error.clone(), Instant::now());
            ended.count()
        };
        self.0.endings.send_replace(count);
        monitor.tell(id.to_string(), run, EventKind::Terminated { error });
    }

    fn ended_runs(&self) -> MutexGuard<'_, EndedRuns> {
        // Whole at any time, as `queries` is.
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all queries do from now on. A listener too slow misses the oldest.
    pub fn events(&self) -> broadcast::Receiver<QueryEvent> {
        self.0.events.subscribe()
    }

    /// A run of a query, active or ended within the last hour. A run that this scheduler never saw is one that a
    /// scheduler before it ran: the query's run now goes on where that one was.
    ///
    /// # Errors
    /// `STREAMING_QUERY_NOT_FOUND`.
    pub fn run_view(&self, id: &str, run_id: &str) -> Result<RunView> {
        if let Some(view) = self.ended_runs().get(id, run_id) {
            return Ok(view.clone());
        }
        let (monitor, named, desired, run) = {
            let queries = self.queries();
            let query = id.parse().ok().and_then(|id: QueryId| queries.get(&id)).ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    "STREAMING_QUERY_NOT_FOUND",
                    format!("there is no streaming query with id {id}: it was deleted, or ended over an hour ago"),
                )
            })?;
            let run = query.running.as_ref().map(|running| running.run);
            (Arc::clone(&query.monitor), query.definition.named, query.definition.desired.clone(), run)
        };
        Ok(match run {
            Some(run) => RunView::of(&monitor, &run.to_string(), named, None),
            None => {
                let error = match desired {
                    Desired::Failed { error } => Some(as_error(&error)),
                    _ => None,
                };
                RunView::of(&monitor, run_id, named, Some(Ended { error, number: 0 }))
            }
        })
    }

    /// Waits for the end of a run.
    ///
    /// # Errors
    /// `STREAMING_QUERY_NOT_FOUND`.
    pub async fn await_end(&self, id: &str, run_id: &str) -> Result<Ended> {
        let mut endings = self.0.endings.subscribe();
        loop {
            endings.mark_unchanged();
            let view = self.run_view(id, run_id)?;
            match view.ended {
                Some(ended) => return Ok(ended),
                None => self.another_end(&mut endings).await?,
            }
        }
    }

    /// Waits for the end of any run that `owner` started; `after`: of those numbered above that.
    pub async fn await_any_end(&self, owner: &str, after: u64) -> Result<RunView> {
        let mut endings = self.0.endings.subscribe();
        loop {
            endings.mark_unchanged();
            if let Some(view) = self.ended_runs().latest_of(owner, after) {
                return Ok(view.clone());
            }
            self.another_end(&mut endings).await?;
        }
    }

    async fn another_end(&self, endings: &mut watch::Receiver<u64>) -> Result<()> {
        let gone = |_| Error::transient("SCHEDULER_ENDS", "the scheduler is shutting down: ask again");
        endings.changed().await.map_err(gone)
    }

    /// How many runs have ended so far: see [`Self::await_any_end`].
    pub fn ended_count(&self) -> u64 {
        self.ended_runs().count()
    }

    /// Waits until everything that was there for a run to read when this was called is committed; returns at once when
    /// the run has ended.
    ///
    /// # Errors
    /// `STREAMING_QUERY_NOT_FOUND`.
    pub async fn process_all_available(&self, id: &str, run_id: &str) -> Result<Option<Ended>> {
        let asked = Instant::now();
        let monitor = {
            let queries = self.queries();
            let query = id.parse().ok().and_then(|id: QueryId| queries.get(&id));
            query.map(|query| Arc::clone(&query.monitor))
        };
        let Some(monitor) = monitor else { return self.run_view(id, run_id).map(|view| view.ended) };
        let mut found_nothing = monitor.found_nothing();
        tokio::select! {
            ended = self.await_end(id, run_id) => ended.map(Some),
            // The monitor is held here, so that the sender is never gone.
            _ = found_nothing.wait_for(|at| at.is_some_and(|at| at >= asked)) => Ok(None),
        }
    }

    /// The active runs that `owner` started.
    pub fn active_of(&self, owner: &str) -> Vec<RunView> {
        let queries = self.queries();
        let own = queries.values().filter(|query| query.monitor.owner().is_some_and(|own| &**own == owner));
        own.filter_map(|query| {
            let run = query.running.as_ref()?.run.to_string();
            Some(RunView::of(&query.monitor, &run, query.definition.named, None))
        })
        .collect()
    }

    /// The active run of a query.
    pub fn active(&self, id: &str) -> Option<RunView> {
        let queries = self.queries();
        let query = queries.get(&id.parse().ok()?)?;
        let run = query.running.as_ref()?.run.to_string();
        Some(RunView::of(&query.monitor, &run, query.definition.named, None))
    }

    /// Stops a query if this is its active run: a run that has ended already is no reason to stop the one after it.
    ///
    /// # Errors
    /// `STREAMING_QUERY_NOT_FOUND`; a state directory that is away.
    pub async fn stop_run(&self, id: &str, run_id: &str) -> Result<()> {
        let view = self.run_view(id, run_id)?;
        match view.ended {
            Some(_) => Ok(()),
            None => self.stop(&view.id).await.map(drop),
        }
    }

    /// All queries, by name.
    pub fn list(&self) -> Vec<QueryStatus> {
        let queries = self.queries();
        let mut all: Vec<_> = queries.values().map(|query| query.monitor.status()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The name of an active query whose rows go to files of this table.
    pub fn writer_of(&self, table: &TableDefinition) -> Option<String> {
        let queries = self.queries();
        let writes = |query: &&Query| query.running.is_some() && share_files(query.definition.work.target(), table);
        queries.values().find(writes).map(|query| query.definition.name.clone())
    }

    /// What is known of each query.
    pub fn monitors(&self) -> Vec<Arc<Monitor>> {
        self.queries().values().map(|query| Arc::clone(&query.monitor)).collect()
    }

    /// The status of one query.
    pub fn get(&self, reference: &str) -> Result<QueryStatus> {
        Ok(find(&self.queries(), reference)?.monitor.status())
    }

    /// Recent reports, those to come, and the status as it changes.
    #[allow(clippy::type_complexity)]
    pub fn progress(
        &self,
        reference: &str,
    ) -> Result<(Vec<Arc<StreamingQueryProgress>>, broadcast::Receiver<Report>, watch::Receiver<QueryStatus>)> {
        let monitor = Arc::clone(&find(&self.queries(), reference)?.monitor);
        // Subscribed first: a report made in between is seen twice rather than never.
        let reports = monitor.subscribe();
        Ok((monitor.recent(), reports, monitor.watch()))
    }

    /// Stops a query; returns once its run has ended. A query that is not active stays as it is.
    pub async fn stop(&self, reference: &str) -> Result<QueryStatus> {
        let (manager, reference) = (self.clone(), reference.to_string());
        whole(async move {
            let changes = manager.0.changes.lock().await;
            let id = find(&manager.queries(), &reference)?.definition.id;
            changes.are_open()?;
            manager.stop_one(&changes, id).await?;
            manager.get(&id.to_string())
        })
        .await
    }

    /// Stops a query if need be and runs it again from its checkpoint.
    pub async fn restart(&self, reference: &str) -> Result<QueryStatus> {
        let (manager, reference) = (self.clone(), reference.to_string());
        whole(async move {
            let changes = manager.0.changes.lock().await;
            changes.are_open()?;
            let (id, ran) = {
                let queries = manager.queries();
                let query = find(&queries, &reference)?;
                (query.definition.id, query.running.is_some())
            };
            manager.stop_one(&changes, id).await?;
            manager.change(id, Desired::Running).await?;
            let mut queries = manager.queries();
            let query = queries.get_mut(&id).expect("nobody else deletes meanwhile");
            let message = match ran {
                true => "Stopped, and started again from its checkpoint",
                false => "Started again from its checkpoint",
            };
            query.monitor.set(State::Running, message);
            manager.run(query);
            // The run may do something else by now.
            Ok(QueryStatus { message: message.into(), ..query.monitor.status() })
        })
        .await
    }

    async fn stop_one(&self, _: &Changes, id: QueryId) -> Result<()> {
        if self.queries().get(&id).is_none_or(|query| query.running.is_none()) {
            return Ok(());
        }
        self.change(id, Desired::Stopped).await?;
        let running = self.queries().get_mut(&id).and_then(|query| query.running.take());
        let Some(running) = running else { return Ok(()) };
        let run = running.run;
        running.tell(Told::EndNow);
        // An error: the run's task was dropped with the runtime.
        let end = running.end.await.unwrap_or(End::Stopped);
        if let (End::Stopped, Some(query)) = (&end, self.queries().get(&id)) {
            query.monitor.set(State::Stopped, "Stopped");
        }
        // It may have finished or failed before it heard.
        let stopped = matches!(end, End::Stopped);
        self.record(id, run, end).await;
        if stopped {
            self.remember(id, run, None);
        }
        Ok(())
    }

    /// Writes what should become of a query, then takes it over; when the write fails all is as before.
    async fn change(&self, id: QueryId, desired: Desired) -> Result<()> {
        let mut definition = {
            let queries = self.queries();
            let query = queries.get(&id).expect("nobody else deletes meanwhile");
            Definition { last_batch_id: query.monitor.status().batch_id, ..query.definition.clone() }
        };
        definition.ended_ms = (desired != Desired::Running).then(now_ms);
        definition.desired = desired;
        self.write_file(&definition).await?;
        if let Some(query) = self.queries().get_mut(&id) {
            query.definition = definition;
        }
        Ok(())
    }

    /// Forgets a query that is not active, and deletes its checkpoint if that is in the state directory.
    pub async fn delete(&self, reference: &str) -> Result<QueryStatus> {
        let (manager, reference) = (self.clone(), reference.to_string());
        whole(async move {
            let changes = manager.0.changes.lock().await;
            changes.are_open()?;
            let (definition, status, active) = {
                let queries = manager.queries();
                let query = find(&queries, &reference)?;
                (query.definition.clone(), query.monitor.status(), query.running.is_some())
            };
            let id = definition.id;
            if active {
                return Err(Error::invalid(
                    "STREAMING_QUERY_ACTIVE",
                    format!("query {} is {}: stop it first (headwater query stop {id})", status.name, status.state),
                ));
            }
            // An idle query reports the batch that it would run next.
            if status.batch_id <= 0 {
                manager.release_sink(&definition).await;
            }
            manager.remove_file(id).await?;
            manager.remove_checkpoint(&definition.checkpoint).await?;
            manager.queries().remove(&id);
            Ok(status)
        })
        .await
    }

    /// Gives back what a query that has committed nothing took for itself alone.
    async fn release_sink(&self, definition: &Definition) {
        let Definition { id, work, checkpoint, .. } = definition;
        let released = async {
            let sink = work.plan(&self.statements(), &id.to_string(), checkpoint).await?.sink;
            self.0.tenure.guard(sink.release()).await
        };
        let released = tokio::time::timeout(RELEASE_MAX, released).await;
        if let Err(error) = released.unwrap_or_else(|_| Err(not_released())) {
            warn!(query_id = %id, %error, "the sink of a deleted query was not given back: it stays that query's");
        }
    }

    /// Deletes a checkpoint that has a folder of its own below the state directory's; what else lies there stays.
    async fn remove_checkpoint(&self, checkpoint: &str) -> Result<()> {
        let own = format!("{}/checkpoints/", self.0.state_dir.trim_end_matches('/'));
        let Some(folder) = checkpoint.strip_prefix(&own) else { return Ok(()) };
        if folder.is_empty() || folder.contains('/') || folder == ".." {
            return Ok(());
        }
        let failed = |e| {
            Error::transient("STATE_DIRECTORY_UNAVAILABLE", format!("failed to delete checkpoint {checkpoint}: {e}"))
        };
        let folder = self.0.root.clone().join("checkpoints").join(folder);
        let files: Vec<_> = self.0.store.list(Some(&folder)).try_collect().await.map_err(failed)?;
        for file in files {
            let part = file.location.prefix_match(&folder).and_then(|mut parts| parts.next());
            if part.is_some_and(|part| CHECKPOINT_PARTS.contains(&part.as_ref())) {
                self.0.store.delete(&file.location).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The right to write of the scheduler that this one belongs to.
    pub fn tenure(&self) -> &Tenure {
        &self.0.tenure
    }

    /// Ends all runs where they are; the queries resume at the next start. Nothing is started after this.
    pub async fn shutdown(&self) {
        self.drain(Duration::ZERO).await;
    }

    /// Ends all runs, each once the batch is committed that it is in, but after `timeout`, or when there is no executor
    /// to end it, where they are. The queries resume at the next start. Nothing is started, stopped or deleted after
    /// this.
    pub async fn drain(&self, timeout: Duration) {
        let mut running: Vec<_> = {
            let mut changes = self.0.changes.lock().await;
            changes.closed = true;
            let mut queries = self.queries();
            queries.iter_mut().filter_map(|(id, query)| Some((*id, query.running.take()?))).collect()
        };
        for (_, running) in &running {
            running.tell(Told::EndAfterBatch);
        }
        let cut = cut(self.0.cluster.clone(), timeout).shared();
        let mut ended = vec![];
        for (_, running) in &mut running {
            ended.push(tokio::select! {
                biased;
                end = &mut running.end => Ok(end),
                reason = cut.clone() => Err(reason),
            });
        }
        for ((id, running), ended) in running.into_iter().zip(ended) {
            let run = running.run;
            let end = match ended {
                Ok(end) => end,
                Err(reason) => {
                    if !timeout.is_zero() {
                        warn!(query_id = %id, reason, "a batch has not ended; it is run again at the next start");
                    }
                    running.tell(Told::EndNow);
                    running.end.await
                }
            };
            let end = end.unwrap_or(End::Stopped);
            if let (End::Stopped, Some(query)) = (&end, self.queries().get(&id)) {
                query.monitor.set(State::Stopped, "The scheduler ends; the query resumes when it is started again");
            }
            // Whoever waits for the end of a run that was cut off here asks the next scheduler.
            self.record(id, run, end).await;
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

/// Returns when batches that have not ended are to be cut off, with the reason.
async fn cut(cluster: Cluster, timeout: Duration) -> String {
    tokio::select! {
        () = tokio::time::sleep(timeout) => format!("it had {timeout:?}"),
        () = cluster.without_executors_for(NO_EXECUTORS_MAX) => {
            format!("no executor has been connected for {NO_EXECUTORS_MAX:?}")
        }
    }
}

/// A change runs to its end even when whoever asked for it does not wait for the answer.
pub(crate) async fn whole<T: Send + 'static>(change: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(change).await.map_err(Error::internal)?
}

/// What decides which query a start is about.
struct Choice {
    name: Option<String>,
    checkpoint: Option<String>,
    /// The checkpoint of a query that has neither a past nor a wish.
    fresh: String,
    /// See [`StartOptions`].
    replace_active: bool,
    temporary: bool,
}

impl Choice {
    /// The query of this name, if there is one, and the checkpoint to use.
    fn make(&self, queries: &BTreeMap<QueryId, Query>) -> Result<(Option<Definition>, String)> {
        let named = |query: &&Query| Some(&query.definition.name) == self.name.as_ref();
        let known = queries.values().find(named);
        if let Some(known) = known
            && known.running.is_some()
            && !(self.replace_active && self.checkpoint.as_ref() == Some(&known.definition.checkpoint))
        {
            return Err(already_active(&known.definition.name, known.definition.id));
        }
        let known = known.map(|query| query.definition.clone());
        let resumed = known.as_ref().filter(|_| !self.temporary).map(|known| known.checkpoint.clone());
        let checkpoint = self.checkpoint.clone().or(resumed);
        Ok((known, checkpoint.unwrap_or_else(|| self.fresh.clone())))
    }
}

fn not_released() -> Error {
    Error::transient("SINK_NOT_RELEASED", format!("it was not done within {RELEASE_MAX:?}"))
}

fn already_active(name: &str, id: QueryId) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "STREAMING_QUERY_ALREADY_ACTIVE",
        format!("a query named {name} is running already, with id {id}: stop it first (headwater query stop {name})"),
    )
}

/// An error that was kept as text.
fn as_error(text: &str) -> Error {
    match Error::class_in(text).filter(|_| text.starts_with('[')) {
        Some((class, message)) => Error::fatal(class, message),
        None => Error::fatal("STREAM_FAILED", text),
    }
}

/// Names stand in commands, tables and URLs, beside ids.
fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.chars().count() > NAME_CHARS_MAX {
        "it is too long"
    } else if name.trim() != name || name.chars().any(char::is_control) {
        "it begins or ends with a space, or has control characters"
    } else if name.contains('/') {
        "it has a slash"
    } else if name.parse::<QueryId>().is_ok() {
        "it looks like an id"
    } else {
        return Ok(());
    };
    Err(Error::invalid("INVALID_QUERY_NAME", format!("{name:?} is no name for a query: {reason}; name another")))
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
        trouble: None,
        bad_rows: 0,
        bad_records: String::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Session;
    use crate::sql::catalog::Catalog;
    use crate::sql::parser::parse;
    use crate::sql::planner::{FlowDefinition, Planned};
    use datafusion::execution::runtime_env::RuntimeEnv;
    use object_store::local::LocalFileSystem;

    struct Bench {
        folder: tempfile::TempDir,
        manager: Manager,
        flow: FlowDefinition,
    }

    /// No executors: a run that has begun waits for one.
    async fn open(folder: &std::path::Path) -> (Manager, Arc<Planner>) {
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        let root = Path::from_absolute_path(folder).unwrap();
        let state_dir = folder.display().to_string();
        let catalog = Catalog::open(Arc::clone(&store), &root, format!("{state_dir}/warehouse")).await.unwrap();
        let planner = Arc::new(Planner::new(Arc::new(catalog), Arc::new(RuntimeEnv::default())));
        let cluster = Cluster::start().await.unwrap();
        let tenure = Tenure::undisputed();
        (Manager::open(store, root, state_dir, cluster, Arc::clone(&planner), None, tenure).await.unwrap(), planner)
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (manager, planner) = open(folder.path()).await;
            let mut session = Session::default();
            let mut flow = None;
            let text = "CREATE TABLE ticks USING rate; CREATE TABLE nowhere USING noop;
                        CREATE FLOW f AS INSERT INTO nowhere SELECT value FROM STREAM(ticks)";
            for statement in parse(text).unwrap() {
                if let Planned::Flow(planned) = planner.plan(&statement, &mut session).await.unwrap() {
                    flow = Some(planned);
                }
            }
            Self { folder, manager, flow: flow.unwrap() }
        }
        async fn start(&self, name: &str, checkpoint: Option<String>) -> Result<QueryStatus> {
            let options = StartOptions { name: Some(name.into()), checkpoint, ..Default::default() };
            self.manager.start(self.flow.clone(), options).await
        }
        fn file(&self, id: &str) -> Option<String> {
            std::fs::read_to_string(self.folder.path().join(format!("queries/{id}.json"))).ok()
        }
    }

    #[test]
    fn files_of_queries_are_read() {
        let flow = r#"{"id": "6f1d2f0e-8f0c-4f6e-9d6c-0d4c7f1f2a3b", "name": "f", "trigger": "default",
            "flow": {"name": "f", "query": "SELECT 1", "target": {"name": "t", "format": "noop"}, "tables": {}, "conf": {}},
            "checkpoint": "/c", "desired": {"state": "RUNNING"}, "lastBatchId": 7}"#;
        let definition: Definition = serde_json::from_str(flow).expect("of before there were DataFrames");
        assert!(definition.named && !definition.temporary && matches!(definition.work, Work::Flow(_)));
        let frame = r#"{"id": "6f1d2f0e-8f0c-4f6e-9d6c-0d4c7f1f2a3b", "name": "app-6f1d2f0e", "named": false,
            "dataFrame": {"relation": "0a00", "target": {"name": "kafka", "format": "kafka"}, "mode": "Append", "conf": {}},
            "trigger": "5 seconds", "checkpoint": "/c", "desired": {"state": "STOPPED"}, "lastBatchId": 7, "endedMs": 5}"#;
        let definition: Definition = serde_json::from_str(frame).expect("a DataFrame's");
        assert!(!definition.named && matches!(definition.work, Work::DataFrame(_)));
        let again = serde_json::to_string(&definition).expect("JSON");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&again).expect("JSON")["endedMs"], 5);

        let check = |named: bool, temporary: bool, desired: Desired, ended_ms: Option<i64>, expect: bool| {
            let definition = Definition { named, temporary, desired, ended_ms, ..definition.clone() };
            assert_eq!(definition.is_forgotten(3_600_005), expect, "{definition:?}");
        };
        check(false, false, Desired::Stopped, Some(5), true);
        check(false, false, Desired::Finished, Some(6), false);
        check(false, false, Desired::Stopped, None, false);
        check(true, false, Desired::Stopped, Some(5), false);
        check(true, true, Desired::Finished, Some(5), true);
        check(false, false, Desired::Failed { error: "e".into() }, Some(5), false);
        check(false, false, Desired::Running, Some(5), false);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_waits_for_a_run_hears_of_its_end() {
        let bench = Bench::new().await;
        let options = StartOptions { name: Some("q".into()), owner: Some("me".into()), ..Default::default() };
        let mut events = bench.manager.events();
        let first = bench.manager.start(bench.flow.clone(), options.clone()).await.unwrap();
        assert_eq!(bench.manager.active_of("me").len(), 1);
        assert!(bench.manager.active_of("you").is_empty());
        let waiting = bench.manager.clone();
        let (id, run) = (first.id.clone(), first.run_id.clone());
        let ended = tokio::spawn(async move { waiting.await_end(&id, &run).await });
        // The same checkpoint again: the run before is stopped, and is another one.
        let again = StartOptions { replace_active: true, checkpoint: Some(first.checkpoint.clone()), ..options };
        let second = bench.manager.start(bench.flow.clone(), again).await.unwrap();
        assert!(first.id == second.id && first.run_id != second.run_id);
        assert!(ended.await.unwrap().unwrap().error.is_none());
        assert!(bench.manager.run_view(&first.id, &first.run_id).unwrap().ended.is_some());
        assert!(bench.manager.run_view(&first.id, &second.run_id).unwrap().ended.is_none());
        // A run that only a scheduler before knew.
        assert_eq!(bench.manager.run_view(&first.id, "unknown").unwrap().run_id, second.run_id);
        bench.manager.stop_run(&first.id, &first.run_id).await.unwrap();
        assert!(bench.manager.active(&first.id).is_some(), "an old handle stops no newer run");

        let run = second.run_id.parse().unwrap();
        let failure = Error::fatal("NEW", "this run");
        bench.manager.ended(first.id.parse().unwrap(), run, End::Failed(failure)).await;
        let any = bench.manager.await_any_end("me", 1).await.unwrap();
        assert_eq!((any.run_id, any.ended.unwrap().error.unwrap().class), (second.run_id, "NEW".to_string()));
        let terminated = std::iter::from_fn(|| events.try_recv().ok())
            .filter(|event| matches!(event.kind, EventKind::Terminated { .. }) && event.owner.as_deref() == Some("me"));
        assert_eq!(terminated.count(), 2);
        assert_eq!(bench.manager.run_view("nonsense", "r").unwrap_err().class, "STREAMING_QUERY_NOT_FOUND");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_end_of_an_old_run_does_not_touch_a_newer_one() {
        let bench = Bench::new().await;
        let first = bench.start("q", None).await.unwrap();
        let second = bench.manager.restart("q").await.unwrap();
        assert_eq!(second.message, "Stopped, and started again from its checkpoint");
        assert!(!first.run_id.is_empty() && first.run_id != second.run_id);
        let (id, run) = (first.id.parse().unwrap(), first.run_id.parse().unwrap());
        bench.manager.ended(id, run, End::Failed(Error::fatal("OLD", "an old run"))).await;
        assert_ne!(bench.manager.get("q").unwrap().state, "FAILED");
        assert!(bench.file(&first.id).unwrap().contains("RUNNING"));
        assert_eq!(bench.start("q", None).await.unwrap_err().class, "STREAMING_QUERY_ALREADY_ACTIVE");

        bench.manager.ended(id, second.run_id.parse().unwrap(), End::Failed(Error::fatal("NEW", "this run"))).await;
        assert_eq!(bench.manager.get("q").unwrap().message, "[NEW] this run");
        assert!(bench.file(&first.id).unwrap().contains("[NEW] this run"));
        bench.manager.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_fenced_run_leaves_the_file_to_the_winner() {
        let bench = Bench::new().await;
        let query = bench.start("q", None).await.unwrap();
        let fenced = Error::fatal("CONCURRENT_STREAM_LOG_UPDATE", "another");
        bench.manager.ended(query.id.parse().unwrap(), query.run_id.parse().unwrap(), End::Failed(fenced)).await;
        assert_eq!(bench.manager.get("q").unwrap().state, "FAILED");
        assert!(bench.file(&query.id).unwrap().contains("RUNNING"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_should_become_of_a_query_outlives_the_scheduler() {
        let bench = Bench::new().await;
        let (runs, stopped) = (bench.start("runs", None).await.unwrap(), bench.start("stopped", None).await.unwrap());
        assert_eq!(bench.manager.stop("stopped").await.unwrap().state, "STOPPED");
        bench.manager.shutdown().await;
        assert_eq!(bench.start("late", None).await.unwrap_err().class, "SCHEDULER_ENDS");
        let (again, _) = open(bench.folder.path()).await;
        let states: Vec<_> = again.list().into_iter().map(|query| (query.id, query.state == "STOPPED")).collect();
        assert_eq!(states, [(runs.id, false), (stopped.id, true)]);
        again.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_that_cannot_be_written_stops_nothing() {
        let bench = Bench::new().await;
        let query = bench.start("q", None).await.unwrap();
        // A folder in the file's place cannot be replaced.
        let file = bench.folder.path().join(format!("queries/{}.json", query.id));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("x")).unwrap();
        assert_eq!(bench.manager.stop("q").await.unwrap_err().class, "STATE_DIRECTORY_UNAVAILABLE");
        assert_ne!(bench.manager.get("q").unwrap().state, "STOPPED");
        std::fs::remove_dir_all(&file).unwrap();
        assert_eq!(bench.manager.stop("q").await.unwrap().state, "STOPPED");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn delete_takes_the_checkpoint_and_nothing_else() {
        let bench = Bench::new().await;
        let checkpoints = bench.folder.path().join("checkpoints");
        let query = bench.start("q", None).await.unwrap();
        bench.manager.stop("q").await.unwrap();
        let own = std::path::PathBuf::from(&query.checkpoint);
        assert!(own.join("metadata").exists() && own.starts_with(&checkpoints));
        std::fs::write(own.join("notes.txt"), "mine").unwrap();
        bench.manager.delete("q").await.unwrap();
        assert!(!own.join("metadata").exists() && own.join("notes.txt").exists());
        assert!(bench.file(&query.id).is_none());

        // The folder of all checkpoints as one query's.
        let other = bench.start("other", None).await.unwrap();
        bench.start("odd", Some(format!("{}/", checkpoints.display()))).await.unwrap();
        bench.manager.stop("odd").await.unwrap();
        bench.manager.delete("odd").await.unwrap();
        assert!(std::path::Path::new(&other.checkpoint).join("metadata").exists());
        bench.manager.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_is_refused_before_anything_is_written() {
        let mut bench = Bench::new().await;
        for name in ["", " x", "a/b", "a\nb", "6f1d2f0e-8f0c-4f6e-9d6c-0d4c7f1f2a3b", &"x".repeat(201)] {
            assert_eq!(bench.start(name, None).await.unwrap_err().class, "INVALID_QUERY_NAME", "{name:?}");
        }
        for deadline in ["soon", "0 seconds"] {
            bench.flow.conf.insert(crate::streaming::query::BATCH_DEADLINE.into(), deadline.into());
            assert_eq!(bench.start("q", None).await.unwrap_err().class, "INVALID_CONF_VALUE", "{deadline}");
        }
        assert!(!bench.folder.path().join("checkpoints").exists());
    }
}
