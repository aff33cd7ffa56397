//! The runs of this scheduler: started, listed, watched, cancelled, and taken up after a restart.
//!
//! A start is written to PostgreSQL, then to the run's file, then driven; a client that is cut off in between asks again
//! by the same id. Runs that another scheduler started on the same database are shown. One that it seems to drive may be
//! started here too: it is taken over once PostgreSQL has noticed that the other is gone, or ends as the other ends it.

use super::failpoint::Failpoint;
use super::files::{Files, RunFile, Wanted};
use super::request::{Request, check_run_id, differences};
use super::run::{End, LOOK_EVERY, Run};
use super::store::{Begun, RUN_BUSY, Store, run_exists};
use crate::execute::Statements;
use futures::FutureExt;
use headwater_executor::connectors::randomuser::made_up_seed;
use headwater_proto::engine::{IngestRun, IngestState, StartIngestRequest};
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ingest::is_active;
use headwater_proto::secret::Secret;
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::info;

/// How long a cancel waits for the run to have ended.
const CANCEL_MAX: Duration = Duration::from_secs(30);
/// How long a start waits for a run that is just ending, here or on another scheduler.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// Runs that have ended and are remembered: what files and metrics grow to. PostgreSQL has them all.
const KEPT_MAX: usize = 100;
/// Runs that are listed unless told otherwise.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 10_000;

/// Cheap to clone.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    files: Files,
    statements: Statements,
    /// The database of requests that name none.
    postgres: Option<Secret>,
    failpoint: Option<Arc<Failpoint>>,
    /// For a moment, never over an await.
    runs: Mutex<BTreeMap<String, Entry>>,
    /// Held by the one change that is made, over its I/O.
    changes: tokio::sync::Mutex<Changes>,
    /// Connections for looking on, by address of the database.
    connections: tokio::sync::Mutex<HashMap<String, Arc<Store>>>,
}

#[derive(Default)]
struct Changes {
    /// The scheduler ends: nothing is started any more.
    closed: bool,
    /// Runs that have ended here, and those whose files say so.
    ended: u64,
}

struct Entry {
    file: RunFile,
    view: Arc<watch::Sender<IngestRun>>,
    driven: Option<Driven>,
    /// Among those that have ended, in their order.
    ended: u64,
    /// Its counts are not known here: it ended before this scheduler began.
    sketched: bool,
}

/// A run that is driven here. Dropped, it is no longer.
struct Driven {
    cancel: watch::Sender<bool>,
    /// None once it has ended by itself.
    task: Option<AbortHandle>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Ingest {
    /// Reads the runs of a state directory and goes on with those that have not ended.
    ///
    /// # Errors
    /// The store is away, or a file cannot be read.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        root: &Path,
        statements: Statements,
        postgres: Option<Secret>,
        failpoint: Option<Failpoint>,
    ) -> Result<Self> {
        let ingest = Self(Arc::new(Inner {
            files: Files::new(store, root),
            statements,
            postgres,
            failpoint: failpoint.map(Arc::new),
            runs: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
            connections: tokio::sync::Mutex::default(),
        }));
        let files = ingest.0.files.read().await?;
        ingest.0.changes.lock().await.ended = files.len() as u64;
        for (file, ended) in files.into_iter().zip(1..) {
            let view = Arc::new(watch::Sender::new(sketch(&file)));
            let active = file.wanted.end().is_none();
            let id = file.run_id.clone();
            ingest.runs().insert(id.clone(), Entry { file, view, driven: None, ended, sketched: !active });
            if active {
                info!(run_id = id, "resuming ingest run");
                ingest.drive(&id, None);
            }
        }
        Ok(ingest)
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Entries are whole whatever panicked while they were held: they change by assignment alone.
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what drives runs; they go on at the next start of a scheduler.
    pub async fn shutdown(&self) {
        self.0.changes.lock().await.closed = true;
        for entry in self.runs().values_mut() {
            entry.driven = None;
        }
    }

    /// Starts a run, or finds it.
    ///
    /// # Errors
    /// `INGEST_INVALID_REQUEST`, `INGEST_RUN_EXISTS`, what PostgreSQL says.
    pub async fn start(&self, request: StartIngestRequest) -> Result<IngestRun> {
        let parsed = Request::parse(&request, self.0.postgres.as_ref())?;
        let id = match request.run_id.as_str() {
            "" => uuid::Uuid::new_v4().to_string(),
            id => {
                check_run_id(id)?;
                id.to_string()
            }
        };
        let owner = request.owner;
        let ingest = self.clone();
        // To its end even when the client goes away, which would leave database and file at odds.
        let started = tokio::spawn(async move { ingest.start_checked(id, parsed, owner).await });
        started.await.map_err(Error::internal)?
    }

    async fn start_checked(&self, id: String, request: Request, owner: String) -> Result<IngestRun> {
        let known = self.runs().get(&id).map(|entry| entry.file.request.clone());
        if let Some(known) = known {
            let mut differences = differences(&known.public(), &request.public());
            let (before, now) = (place(&known.postgres), place(&request.postgres));
            if before != now {
                differences.push(format!("postgres was {before} and is {now}"));
            }
            if !differences.is_empty() {
                return Err(run_exists(&id, &differences));
            }
        }
        // Others are not kept waiting for a database that is away.
        let mut store = Store::open(&request.postgres).await?;
        // Whoever began it could not know what is refused now, and nobody else can publish its users.
        if let Err(refused) = request.check_new()
            && store.find(&id, &request).await?.is_none()
        {
            return Err(refused);
        }
        let deadline = Instant::now() + BUSY_MAX;
        let _changes = loop {
            let changes = self.0.changes.lock().await;
            if changes.closed {
                return Err(Error::transient("SCHEDULER_ENDS", "the scheduler is shutting down: start the run again"));
            }
            if let Some(mut view) = self.ending(&id) {
                // It was told to stop, and goes on from its ledger once it has.
                drop(changes);
                let ended = async { drop(view.wait_for(|run| !is_active(run.state())).await) };
                if tokio::time::timeout(CANCEL_MAX, ended).await.is_err() {
                    let message = format!("run {id} is still being cancelled: start it again");
                    return Err(Error::transient(RUN_BUSY, message));
                }
                continue;
            }
            if let Some(view) = self.driven(&id) {
                self.hand_over(&id, owner).await?;
                return Ok(view);
            }
            // First the run, then what is written of it: it must not be pending with nobody who drives it.
            let busy = match store.take(&id).await {
                Ok(()) => break changes,
                Err(error) if error.class == RUN_BUSY => error,
                Err(error) => return Err(error),
            };
            match store.find(&id, &request).await? {
                // Another scheduler drives it, or did until it died a moment ago: then it goes on here.
                Some(found) if is_active(found.state()) => {
                    self.adopt(&id, request, owner, &found, None).await?;
                    return Ok(found);
                }
                Some(found) if found.state() == IngestState::Finished => return Ok(found),
                // It is just ending.
                _ if Instant::now() >= deadline => return Err(busy),
                _ => {}
            }
            drop(changes);
            // Or until somebody else has made something of it.
            store.until_free(&id, LOOK_EVERY).await?;
        };
        let seed = if request.seed.is_empty() { made_up_seed() } else { request.seed.clone() };
        let begun = match store.begin(&id, &request, &seed).await {
            Ok(begun) => begun,
            Err(error) => {
                store.release(&id).await;
                return Err(error);
            }
        };
        let found = store.get(&id).await?.ok_or_else(|| Error::internal("a run that was just written is gone"))?;
        // One that is active has nobody who drives it.
        if begun == Begun::Known && !is_active(found.state()) {
            store.release(&id).await;
            return Ok(found);
        }
        self.adopt(&id, request, owner, &found, Some(store)).await?;
        Ok(found)
    }

    /// Makes a run one of this scheduler's, and drives it. `store`: a connection that has taken it; none: it is waited
    /// for.
    async fn adopt(
        &self,
        id: &str,
        request: Request,
        owner: String,
        found: &IngestRun,
        store: Option<Store>,
    ) -> Result<()> {
        let before = self.runs().get(id).map(|entry| entry.file.owner.clone()).unwrap_or_default();
        let owner = if owner.is_empty() { before } else { owner };
        let file = RunFile { run_id: id.to_string(), request, owner, wanted: Wanted::Run };
        self.0.files.write(&file).await?;
        let view = Arc::new(watch::Sender::new(found.clone()));
        self.runs().insert(id.to_string(), Entry { file, view, driven: None, ended: 0, sketched: false });
        info!(run_id = id, "ingest run started");
        self.drive(id, store);
        Ok(())
    }

    /// Whoever starts a run that is driven already owns it from then on.
    async fn hand_over(&self, id: &str, owner: String) -> Result<()> {
        let file = match self.runs().get_mut(id) {
            Some(entry) if !owner.is_empty() && entry.file.owner != owner => {
                entry.file.owner = owner;
                entry.file.clone()
            }
            _ => return Ok(()),
        };
        self.0.files.write(&file).await
    }

    /// The run as it is, if it is driven here.
    fn driven(&self, id: &str) -> Option<IngestRun> {
        self.runs().get(id).filter(|entry| entry.driven.is_some()).map(|entry| entry.view.borrow().clone())
    }

    /// Tells when a run that is driven here and was told to stop has ended.
    fn ending(&self, id: &str) -> Option<watch::Receiver<IngestRun>> {
        let runs = self.runs();
        let entry = runs.get(id)?;
        let ending = entry.driven.is_some() && entry.file.wanted == Wanted::Cancel;
        ending.then(|| entry.view.subscribe())
    }

    /// Drives a run of this scheduler. `store`: a connection that has taken it.
    fn drive(&self, id: &str, store: Option<Store>) {
        let mut runs = self.runs();
        let Some(entry) = runs.get_mut(id) else { return };
        let (cancel, cancelled) = watch::channel(entry.file.wanted == Wanted::Cancel);
        let run = Run {
            id: id.to_string(),
            request: entry.file.request.clone(),
            statements: self.0.statements.clone(),
            view: Arc::clone(&entry.view),
            cancelled,
            failpoint: self.0.failpoint.clone(),
            store,
            waited: Duration::ZERO,
        };
        let (ingest, id) = (self.clone(), id.to_string());
        let task = tokio::spawn(async move {
            let (end, told) = AssertUnwindSafe(run.to_end()).catch_unwind().await.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let error = Error::internal(text.unwrap_or("the run panicked"));
                (End { state: IngestState::Failed, message: error.message, error_class: error.class }, false)
            });
            ingest.ended(&id, end, told).await;
        });
        entry.driven = Some(Driven { cancel, task: Some(task.abort_handle()) });
    }

    /// Records that a run ended. `told`: PostgreSQL has it.
    async fn ended(&self, id: &str, end: End, told: bool) {
        let mut changes = self.0.changes.lock().await;
        changes.ended += 1;
        let file = {
            let mut runs = self.runs();
            let Some(entry) = runs.get_mut(id) else { return };
            entry.file.wanted = Wanted::ended(&end, told);
            entry.ended = changes.ended;
            entry.file.clone()
        };
        info!(run_id = id, state = end.state.as_str_name(), message = end.message, "ingest run ended");
        if let Err(error) = self.0.files.write(&file).await {
            tracing::warn!(run_id = id, %error, "how an ingest run ended is not in its file: it is looked at again at the next start");
        }
        let view = {
            let mut runs = self.runs();
            let Some(entry) = runs.get_mut(id) else { return };
            // This is its own task, which is not to be ended before it is done.
            if let Some(driven) = &mut entry.driven {
                driven.task = None;
            }
            entry.driven = None;
            Arc::clone(&entry.view)
        };
        view.send_modify(|run| show_end(run, &end));
        self.forget().await;
    }

    /// Forgets runs that ended long ago: PostgreSQL has them, and files and metrics must not grow for ever.
    async fn forget(&self) {
        let forgotten = {
            let mut runs = self.runs();
            let ended = runs.iter().filter(|(_, entry)| entry.driven.is_none() && entry.file.wanted.is_told());
            let ended = ended.map(|(id, entry)| (entry.ended, place(&entry.file.request.postgres), id.clone()));
            let forgotten = beyond(ended.collect(), KEPT_MAX);
            for id in &forgotten {
                runs.remove(id);
            }
            forgotten
        };
        for id in forgotten {
            if let Err(error) = self.0.files.remove(&id).await {
                tracing::warn!(run_id = id, %error, "the file of an ingest run that ended long ago is still there");
            }
        }
    }

    /// One run.
    ///
    /// # Errors
    /// `INGEST_RUN_NOT_FOUND`, what PostgreSQL says.
    pub async fn get(&self, id: &str) -> Result<IngestRun> {
        if let Some(view) = self.driven(id) {
            return Ok(view);
        }
        let (found, address) = self.locate(id).await?;
        let Some(end) = self.runs().get(id).and_then(|entry| entry.file.wanted.untold()) else { return Ok(found) };
        let heard = || {
            if let Some(entry) = self.runs().get_mut(id)
                && let Wanted::Ended { told, .. } = &mut entry.file.wanted
            {
                *told = true;
            }
        };
        if !is_active(found.state()) {
            heard();
            return Ok(found);
        }
        // It ended while the database was away.
        let store = self.connection(&address).await?;
        if !store.tell(id, end.state, &end.message, &end.error_class).await? {
            return Ok(found);
        }
        heard();
        store.get(id).await?.ok_or_else(|| not_found(id))
    }

    /// The run as its database has it, and which that is: of the databases that this scheduler knows of.
    async fn locate(&self, id: &str) -> Result<(IngestRun, Secret)> {
        let known = self.runs().get(id).map(|entry| entry.file.request.postgres.clone());
        let addresses = match known {
            Some(address) => vec![address],
            None => self.addresses().into_values().collect(),
        };
        let (mut answered, mut trouble) = (false, None::<Error>);
        for address in addresses {
            let found = async { self.connection(&address).await?.get(id).await };
            match found.await {
                Ok(Some(run)) => return Ok((run, address)),
                Ok(None) => answered = true,
                // One that is away may have it, whatever is the matter with others.
                Err(error) if trouble.as_ref().is_none_or(|known| known.kind != ErrorKind::Transient) => {
                    trouble = Some(error);
                }
                Err(_) => {}
            }
        }
        let told = trouble.filter(|error| !answered || error.kind == ErrorKind::Transient);
        Err(told.unwrap_or_else(|| not_found(id)))
    }

    /// The databases that this scheduler knows of, by where they are.
    fn addresses(&self) -> BTreeMap<String, Secret> {
        let mut addresses: BTreeMap<_, _> = self.0.postgres.iter().map(|own| (place(own), own.clone())).collect();
        let runs = self.runs();
        let mut entries: Vec<_> = runs.values().collect();
        // Passwords change: the newest stands.
        entries.sort_by_key(|entry| (entry.driven.is_some(), entry.ended));
        for entry in entries {
            let address = &entry.file.request.postgres;
            addresses.insert(place(address), address.clone());
        }
        addresses
    }

    /// Runs, newest first: those of every database that this scheduler knows of and that answers.
    ///
    /// # Errors
    /// What PostgreSQL says, when none answers.
    pub async fn list(&self, limit: u32) -> Result<Vec<IngestRun>> {
        let limit = if limit == 0 { LIST_DEFAULT } else { limit.min(LIST_MAX) };
        let addresses = self.addresses();
        let mut known: BTreeMap<String, (IngestRun, Wanted)> = BTreeMap::new();
        for (id, entry) in self.runs().iter() {
            known.insert(id.clone(), (entry.view.borrow().clone(), entry.file.wanted.clone()));
        }
        let mut all: BTreeMap<String, IngestRun> = BTreeMap::new();
        let mut trouble = None;
        for (place, address) in addresses {
            let listed = async { self.connection(&address).await?.list(i64::from(limit)).await };
            match listed.await {
                Ok(runs) => all.extend(runs.into_iter().map(|run| (run.run_id.clone(), run))),
                Err(error) => {
                    tracing::warn!(postgres = place, %error, "the ingest runs of a database cannot be listed");
                    trouble = Some(error);
                }
            }
        }
        if let Some(error) = trouble
            && all.is_empty()
            && known.is_empty()
        {
            return Err(error);
        }
        // What is driven here is known best here; so is what a database that is away does not tell.
        for (id, (run, wanted)) in known {
            let there = all.get(&id).map(IngestRun::state);
            if wanted.end().is_none() || there.is_none() {
                all.insert(id, run);
            } else if wanted.untold().is_some()
                && there.is_some_and(is_active)
                && let Ok(told) = self.get(&id).await
            {
                // It ended while the database was away, if nobody else goes on with it.
                all.insert(id, told);
            }
        }
        let mut runs: Vec<_> = all.into_values().collect();
        let started = |run: &IngestRun| run.started_at.map_or((0, 0), |at| (at.seconds, at.nanos));
        runs.sort_by(|one, two| started(two).cmp(&started(one)).then_with(|| one.run_id.cmp(&two.run_id)));
        runs.truncate(limit as usize);
        Ok(runs)
    }

    /// Runs of this scheduler as it knows them without asking a database: those that it has driven itself.
    pub fn known(&self) -> Vec<IngestRun> {
        self.runs().values().filter(|entry| !entry.sketched).map(|entry| entry.view.borrow().clone()).collect()
    }

    /// The run as it is now, and what tells of its changes until it has ended.
    ///
    /// # Errors
    /// As [`Ingest::get`].
    pub async fn watch(&self, id: &str) -> Result<(IngestRun, Changing)> {
        let now = self.get(id).await?;
        let here = self.runs().get(id).filter(|entry| entry.driven.is_some()).map(|entry| entry.view.subscribe());
        Ok((now, Changing { ingest: self.clone(), id: id.to_string(), here }))
    }

    /// Cancels a run; what is staged and published stays. With an `owner` who does not own the run it is left as it is.
    ///
    /// # Errors
    /// `INGEST_RUN_NOT_FOUND`, `INGEST_RUN_BUSY` when another scheduler drives it.
    pub async fn cancel(&self, id: &str, owner: &str) -> Result<IngestRun> {
        let ingest = self.clone();
        let (id, owner) = (id.to_string(), owner.to_string());
        tokio::spawn(async move { ingest.cancel_whole(&id, &owner).await }).await.map_err(Error::internal)?
    }

    async fn cancel_whole(&self, id: &str, owner: &str) -> Result<IngestRun> {
        let changes = self.0.changes.lock().await;
        let owned = self.runs().get(id).map(|entry| entry.file.owner.clone());
        if !owner.is_empty() && owned.is_some_and(|owned| owned != owner) {
            return self.get(id).await;
        }
        let told = self.runs().get(id).filter(|entry| entry.driven.is_some()).map(|entry| {
            let file = RunFile { wanted: Wanted::Cancel, ..entry.file.clone() };
            (file, entry.view.subscribe())
        });
        let Some((file, mut view)) = told else {
            // Nothing of this scheduler's is changed there, and a database may be long in answering.
            drop(changes);
            return self.cancel_elsewhere(id).await;
        };
        // First the wish, which a restart finds.
        self.0.files.write(&file).await?;
        if let Some(entry) = self.runs().get_mut(id) {
            entry.file = file;
            if let Some(driven) = &entry.driven {
                // The receiver is gone when the run has ended by itself.
                let _ = driven.cancel.send(true);
            }
        }
        drop(changes);
        let ended = async {
            // The sender stays as long as this service.
            view.wait_for(|run| !is_active(run.state())).await.map(|run| run.clone()).ok()
        };
        let Ok(Some(run)) = tokio::time::timeout(CANCEL_MAX, ended).await else {
            // It goes on ending.
            return self.get(id).await;
        };
        let untold = self.runs().get(id).is_some_and(|entry| entry.file.wanted.untold().is_some());
        // One that was only waited for goes on where it is driven.
        if untold
            && let Err(error) = self.cancel_elsewhere(id).await
            && error.class == RUN_BUSY
        {
            return Err(error);
        }
        Ok(run)
    }

    /// A run that is not driven here.
    async fn cancel_elsewhere(&self, id: &str) -> Result<IngestRun> {
        let run = self.get(id).await?;
        if !is_active(run.state()) {
            return Ok(run);
        }
        let (_, address) = self.locate(id).await?;
        // A connection of its own, as taking a run lasts as long as the connection.
        let store = Store::connect(&address).await?;
        store.take(id).await?;
        store.set(id, IngestState::Cancelled, "cancelled; start it again to go on", "").await?;
        store.get(id).await?.ok_or_else(|| not_found(id))
    }

    /// A connection for looking on.
    async fn connection(&self, address: &Secret) -> Result<Arc<Store>> {
        // By the whole address: a password may have changed.
        let key = address.expose();
        if let Some(store) = self.0.connections.lock().await.get(key).filter(|store| !store.is_closed()) {
            return Ok(Arc::clone(store));
        }
        // Others are not kept waiting for a database that is away.
        let store = Arc::new(Store::open(address).await?);
        self.0.connections.lock().await.insert(key.to_string(), Arc::clone(&store));
        Ok(store)
    }
}

/// Tells of the changes of a run.
pub struct Changing {
    ingest: Ingest,
    id: String,
    here: Option<watch::Receiver<IngestRun>>,
}

impl Changing {
    /// The run after its next change.
    ///
    /// # Errors
    /// What PostgreSQL says, of a run that is driven elsewhere.
    pub async fn next(&mut self) -> Result<IngestRun> {
        if let Some(here) = &mut self.here {
            if here.changed().await.is_ok() {
                return Ok(here.borrow_and_update().clone());
            }
            self.here = None;
        }
        // Nobody tells: asking again is all there is.
        tokio::time::sleep(LOOK_EVERY).await;
        self.ingest.get(&self.id).await
    }
}

/// Those of the runs that ended, each with its number and its database, that are forgotten: all but the last `keep`,
/// and the last of each database, which says where that is.
fn beyond(mut ended: Vec<(u64, String, String)>, keep: usize) -> Vec<String> {
    ended.sort_by(|one, two| two.cmp(one));
    let mut places = BTreeSet::new();
    let old = ended.into_iter().enumerate().filter_map(|(at, (_, place, id))| {
        let last = places.insert(place);
        (at >= keep && !last).then_some(id)
    });
    old.collect()
}

fn show_end(run: &mut IngestRun, end: &End) {
    run.set_state(end.state);
    run.message.clone_from(&end.message);
    run.error_class.clone_from(&end.error_class);
    if run.ended_at.is_none() {
        run.ended_at = Some(std::time::SystemTime::now().into());
    }
}

/// What is known of a run by its file alone.
fn sketch(file: &RunFile) -> IngestRun {
    let mut run = IngestRun {
        run_id: file.run_id.clone(),
        source: file.request.public()["source"].as_str().unwrap_or_default().to_string(),
        topic: file.request.topic.clone(),
        seed: file.request.seed.clone(),
        format: file.request.format.to_string(),
        requested: file.request.users,
        message: "resuming".into(),
        ..IngestRun::default()
    };
    run.set_state(IngestState::Pending);
    if let Some(end) = file.wanted.end() {
        show_end(&mut run, &end);
        run.ended_at = None;
    }
    run
}

fn not_found(id: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "INGEST_RUN_NOT_FOUND",
        format!("there is no ingest run {id}: headwater ingest list shows those that this scheduler knows of"),
    )
}

/// Where a database is, without who asks.
fn place(address: &Secret) -> String {
    let text = address.expose();
    let text = text.strip_prefix("jdbc:").unwrap_or(text);
    match url::Url::parse(text) {
        Ok(url) => {
            let port = url.port().unwrap_or(5432);
            format!("{}:{port}{}", url.host_str().unwrap_or("localhost"), url.path())
        }
        Err(_) => "an address that cannot be read".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::Database;
    use super::*;
    use crate::cluster::Cluster;
    use crate::ha::Tenure;
    use crate::sql::catalog::Catalog;
    use crate::sql::planner::Planner;
    use crate::streaming::manager::Manager;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use object_store::memory::InMemory;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// A scheduler without executors over these files of runs. `postgres`: its own database.
    async fn open(files: &Arc<InMemory>, postgres: Option<Secret>) -> Ingest {
        let (store, root) = (Arc::clone(files) as Arc<dyn ObjectStore>, Path::from("state"));
        let catalog = Catalog::open(Arc::clone(&store), &root, "memory:///warehouse").await.expect("a catalog");
        let planner = Arc::new(Planner::new(Arc::new(catalog), Arc::new(RuntimeEnv::default())));
        let cluster = Cluster::start().await.expect("a cluster");
        let (tenure, state_dir) = (Tenure::undisputed(), "memory:///state".to_string());
        let opened = Manager::open(
            Arc::clone(&store),
            root.clone(),
            state_dir,
            cluster.clone(),
            Arc::clone(&planner),
            None,
            tenure,
        );
        let manager = opened.await.expect("a manager");
        Ingest::open(store, &root, Statements { planner, cluster, manager }, postgres, None).await.expect("opens")
    }

    /// Asks for run `r`, which fails soon, as it finds no broker.
    fn asked(address: &Secret) -> StartIngestRequest {
        let options = [("headwater.retryTimeout", "1 second"), ("kafka.default.api.timeout.ms", "200")];
        StartIngestRequest {
            run_id: "r".into(),
            users: 2,
            topic: "t".into(),
            kafka: "127.0.0.1:1".into(),
            postgres: address.expose().into(),
            options: options.map(|(key, value)| (key.to_string(), value.to_string())).into(),
            ..StartIngestRequest::default()
        }
    }

    /// Another scheduler, which has just begun that run.
    async fn other(database: &Database) -> Store {
        let mut other = Store::open(&database.address).await.expect("opens");
        other.take("r").await.expect("is free");
        begin(&mut other, &asked(&database.address)).await;
        other
    }

    async fn begin(store: &mut Store, asked: &StartIngestRequest) {
        let request = Request::parse(asked, None).expect("good");
        store.begin("r", &request, "seed").await.expect("begins");
    }

    /// State and message in PostgreSQL.
    async fn row(store: &Store) -> (IngestState, String) {
        let run = store.get("r").await.expect("postgres").expect("the run");
        (run.state(), run.message)
    }

    /// The run once it is as expected.
    async fn until(ingest: &Ingest, expect: impl Fn(&IngestRun) -> bool) -> IngestRun {
        let began = Instant::now();
        loop {
            let run = ingest.get("r").await.expect("the run");
            if expect(&run) {
                return run;
            }
            assert!(began.elapsed() < DEADLINE, "{run:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn waits(run: &IngestRun) -> bool {
        is_active(run.state()) && run.message.contains("for as long as it takes")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_whose_scheduler_died_goes_on_where_it_is_started() {
        let Some(database) = Database::new("died").await else { return };
        // PostgreSQL has not noticed yet that it did.
        let dead = other(&database).await;
        let files = [Arc::new(InMemory::new()), Arc::new(InMemory::new())];
        let mut schedulers = vec![open(&files[0], None).await, open(&files[1], None).await];
        for ingest in &schedulers {
            let run = ingest.start(asked(&database.address)).await.expect("starts");
            assert_eq!(run.state(), IngestState::Pending);
            until(ingest, waits).await;
        }
        // Neither a restart ends the waiting, nor does it hold anybody else up.
        schedulers[0].shutdown().await;
        schedulers[0] = open(&files[0], None).await;
        until(&schedulers[0], waits).await;
        let cancelled =
            tokio::time::timeout(DEADLINE, schedulers[1].cancel("nobody", "")).await.expect("is not held up");
        assert_eq!(cancelled.expect_err("is nobody").class, "INGEST_RUN_NOT_FOUND");
        assert_eq!(row(&dead).await, (IngestState::Pending, "starting".to_string()), "nothing is done to it");
        drop(dead);
        // One of them drives it, and the other tells how it ended.
        for ingest in &schedulers {
            let run = until(ingest, |run| !is_active(run.state())).await;
            assert_eq!((run.state(), run.error_class.as_str()), (IngestState::Failed, "KAFKA_UNREACHABLE"), "{run:?}");
        }
        drop(schedulers);
        database.remove().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_that_another_scheduler_drives_is_left_to_it() {
        let Some(database) = Database::new("alive").await else { return };
        let mut alive = other(&database).await;
        let ingest = open(&Arc::new(InMemory::new()), None).await;
        ingest.start(asked(&database.address)).await.expect("starts");
        until(&ingest, waits).await;
        alive.set("r", IngestState::Fetching, "fetching", "").await.expect("is set");
        until(&ingest, |run| run.state() == IngestState::Fetching && waits(run)).await;

        // It cannot be cancelled from here, which is told at once, and nobody waits for it any more.
        let cancelled = tokio::time::timeout(DEADLINE, ingest.cancel("r", "")).await.expect("lets go");
        assert_eq!(cancelled.expect_err("is driven").class, "INGEST_RUN_BUSY");
        assert!(ingest.driven("r").is_none());
        let fetching = (IngestState::Fetching, "fetching".to_string());
        assert_eq!(row(&alive).await, fetching);
        let listed = ingest.list(0).await.expect("lists");
        assert_eq!((listed[0].state(), ingest.get("r").await.expect("the run").state()), (fetching.0, fetching.0));
        // Was it driven by nobody who lives, then it is cancelled.
        alive.release("r").await;
        until(&ingest, |run| run.state() == IngestState::Cancelled).await;
        assert_eq!(row(&alive).await.0, IngestState::Cancelled);

        // What the other makes of it is its end here too.
        alive.take("r").await.expect("is free");
        begin(&mut alive, &asked(&database.address)).await;
        ingest.start(asked(&database.address)).await.expect("starts");
        until(&ingest, waits).await;
        alive.set("r", IngestState::Finished, "done", "").await.expect("is set");
        assert!(ingest.driven("r").is_some());
        alive.release("r").await;
        let run = until(&ingest, |run| !is_active(run.state())).await;
        assert_eq!((run.state(), run.message.as_str()), (IngestState::Finished, "done"));
        assert_eq!(row(&alive).await, (IngestState::Finished, "done".to_string()));
        drop((alive, ingest));
        database.remove().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_of_an_earlier_version_goes_on() {
        let Some(database) = Database::new("earlier").await else { return };
        let ingest = open(&Arc::new(InMemory::new()), None).await;
        let mut asked = asked(&database.address);
        asked.options.insert("kafka.acks".into(), "1".into());
        let error = ingest.start(asked.clone()).await.expect_err("is new");
        assert_eq!(error.class, "INGEST_INVALID_REQUEST");
        assert!(error.message.contains("kafka.acks is not all"), "{error}");
        let mut store = Store::open(&database.address).await.expect("opens");
        assert_eq!(store.get("r").await.expect("postgres"), None);
        begin(&mut store, &asked).await;
        store.set("r", IngestState::Failed, "failed", "C").await.expect("is set");
        assert_eq!(ingest.start(asked).await.expect("goes on").state(), IngestState::Pending);
        let run = until(&ingest, |run| !is_active(run.state())).await;
        assert_eq!(run.error_class, "KAFKA_UNREACHABLE", "{run:?}");
        drop((store, ingest));
        database.remove().await;
    }

    /// Writes the file of a run that ended in this database.
    async fn ended(files: &Arc<InMemory>, id: &str, address: Secret) {
        let request = Request::parse(&asked(&address), None).expect("good");
        let end = End { state: IngestState::Finished, message: "done".into(), error_class: String::new() };
        let file = RunFile { run_id: id.into(), request, owner: String::new(), wanted: Wanted::ended(&end, true) };
        let store = Arc::clone(files) as Arc<dyn ObjectStore>;
        Files::new(store, &Path::from("state")).write(&file).await.expect("is written");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_database_that_is_away_may_have_a_run() {
        let Some(database) = Database::new("away").await else { return };
        let files = Arc::new(InMemory::new());
        // One that is gone for good has nothing.
        ended(&files, "gone", Secret::new(format!("{}_gone", database.address.expose()))).await;
        let ingest = open(&files, Some(database.address.clone())).await;
        assert_eq!(ingest.get("r").await.expect_err("is nowhere").class, "INGEST_RUN_NOT_FOUND");
        ended(&files, "away", Secret::new("postgresql://postgres@127.0.0.1:1/d")).await;
        let ingest = open(&files, Some(database.address.clone())).await;
        let error = ingest.get("r").await.expect_err("may be there");
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "POSTGRES_UNREACHABLE"), "{error}");
        drop(ingest);
        database.remove().await;
    }

    #[test]
    fn places_of_databases() {
        let check = |address: &str, expect: &str| assert_eq!(place(&Secret::new(address)), expect);
        check("postgresql://u:hunter2@h:1/d?sslmode=require", "h:1/d");
        check("postgres://h/d", "h:5432/d");
        check("jdbc:postgresql://h/d", "h:5432/d");
        check("nonsense", "an address that cannot be read");
    }

    #[test]
    fn old_runs_are_forgotten() {
        let ended = |runs: &[(u64, &str, &str)]| -> Vec<_> {
            runs.iter().map(|(at, place, id)| (*at, place.to_string(), id.to_string())).collect()
        };
        let runs = ended(&[(1, "a", "1"), (2, "b", "2"), (5, "a", "5"), (3, "a", "3"), (4, "a", "4")]);
        assert_eq!(beyond(runs.clone(), 2), ["3", "1"]);
        assert_eq!(beyond(runs.clone(), 0), ["4", "3", "1"]);
        assert!(beyond(runs, 5).is_empty());
    }
}
