//! The checkpoint of a streaming query: its id, its two logs, where its sources began. The only truth about how far
//! the query is; everything in memory is derived from it.
//!
//! ```text
//!          open            write_offsets(N)          run batch N         write_commit(N)
//! (folder) ────► recover ─────► offsets/N ─────► sources … sink ─────► commits/N ──► N+1
//!                   │  offsets/N without commits/N: run N again, same ranges ▲
//!                   └────────────────────────────────────────────────────────┘
//! ```
//!
//! The layout and the bytes are Spark's ([`offset_log`], [`commit_log`]), so that either engine continues the other's
//! checkpoint. When nothing goes wrong a batch costs one request for `offsets/N` and one for `commits/N`: the latest
//! entries are kept in memory after [`Checkpoint::open`], the logs are not listed again while batches follow each other
//! (see below for pauses), old entries are deleted aside.
//!
//! # Why at most one coordinator advances
//!
//! Every file is created if absent, so each has one writer for ever, and both logs carry the id of the run that wrote
//! the entry: in the offset log as conf `headwater.runId`, in the commit log as field `headwaterRunId`, both of which
//! Spark ignores. A run id is random, new for every start of the query, and belongs to one coordinator, so equal bytes
//! have one author: after a failure or an `AlreadyExists` the file is read back, and it counts when it is equal (the
//! answer was lost) and fences when it is another run's. What this run wrote and gave up, and what landed since, is
//! neither: the checkpoint is opened again, with the same run id, and goes on from what it says.
//!
//! The first write that does not end well is the last: the `Checkpoint` refuses every further one until it is opened
//! again, which derives everything from the logs. That refusal is the epoch: the right to write ends with the value in
//! memory.
//!
//! Let A and B be open on one checkpoint, both at the same place. What each does next is one of these.
//!
//! - *Both write `offsets/N`.* One creates it, the other finds different bytes (the run id at least) and is fenced,
//!   before it has run anything. There never are two versions of batch N's ranges.
//! - *A has written `offsets/N`, B opens.* B reads A's entry and runs N again over A's ranges. Both write the same
//!   rows to an idempotent sink. Then both write `commits/N`: one creates it, the other is fenced, although its batch
//!   is complete. Stopping it is a choice: its next write would collide at `offsets/N+1` in any case.
//! - *A has written `commits/N`, B, which opened before, has not.* B is fenced at `commits/N`, whether or not A has
//!   gone on to `offsets/N+1` by then: B may not decide N+1 before it has written `commits/N` itself.
//! - *A has written `commits/N`, B opens.* Both go for `offsets/N+1`: the first case.
//! - *A is paused or cut off anywhere, and wakes up k batches later.* Its next write is at an id that exists, and is
//!   fenced, unless that id has been purged. An id is deleted only when 100 later ones exist, and a minute after that
//!   ([`Options::purge_delay`]). So a write that is answered within half a minute of this run's last contact with the
//!   log collides for sure; after a longer silence (an idle query, a long batch, a suspended machine) the log is listed
//!   once after the write, and an id above the one written means that A is fenced. Clocks need not agree, only run at
//!   about the same speed; the longer of the monotonic and the wall clock counts, since the former stops while Linux
//!   is suspended.
//!
//! So ids have no gaps (N+1 is written only after `commits/N`, by the run that wrote that), each id has one content,
//! and of two coordinators the one that creates the next file goes on. Both can be stopped only if one of them dies
//! after it has fenced the other: then a fresh start continues from the logs. What the logs cannot do is stop a fenced
//! coordinator's tasks, which may still be writing batch N: until they end, an old row may reach the sink after a
//! newer one of the same key. The coordinator cancels its job on a fence, and Cassandra orders rows by batch: their
//! write time is the batch's timestamp in `offsets/N`, which ascends strictly.
//!
//! With two schedulers that know each other by epochs ([`ha`](crate::ha)) the one that creates the next file is not
//! always the one that should go on: a deposed leader's last write may land after its successor has opened the
//! checkpoint. Entries are signed with the epoch too, then. Who finds a lower epoch's opens the checkpoint again and
//! goes on from it (case one: over its ranges; case two: the batch is done); who finds a higher one's is fenced.
//!
//! # Durability
//!
//! S3 answers a PUT once it is durable. A local folder is another matter: a file is complete or absent after `kill -9`
//! or a crash of the process, because it is linked into place when whole, but `object_store` does not `fsync`, as
//! Hadoop's local file system does not. A *power cut* may then lose the last entries or leave empty files. Lost entries
//! make batches run again with other ranges, which an upsert sink absorbs; an empty file is refused by name, with what
//! to do.

use crate::ha::{Claim, LEADERSHIP_LOST};
use crate::streaming::recovery::{Corruption, Decision, decide};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use headwater_proto::error::{Error, Result};
use headwater_proto::ids::{QueryId, RunId};
use metadata_log::{Malformed, MetadataLog};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Created, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub mod commit_log;
mod initial_offset;
mod metadata_log;
pub mod offset_log;
mod paths;
mod store;

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;

pub use commit_log::CommitEntry;
pub use offset_log::{OffsetEntry, OffsetMetadata};
pub use paths::Location;
pub use store::Retry;

/// What can be chosen about a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Committed batches whose entries are kept: Spark's `spark.sql.streaming.minBatchesToRetain`.
    pub batches_retained_min: u64,
    /// Repetition of failed requests.
    pub retry: Retry,
    /// How long an entry that may be deleted is kept all the same, so that a coordinator that comes back from a pause
    /// collides with it. See the module's text.
    pub purge_delay: Duration,
    /// The leadership of the scheduler that opens it, which signs the entries; none when nobody disputes it.
    pub claim: Option<Claim>,
}

impl Default for Options {
    fn default() -> Self {
        Self { batches_retained_min: 100, retry: Retry::default(), purge_delay: Duration::from_secs(60), claim: None }
    }
}

/// A query's checkpoint, opened by one run of it. Opened again after any failed write.
pub struct Checkpoint {
    query: QueryId,
    run: RunId,
    options: Options,
    store: Store,
    offsets: MetadataLog,
    commits: MetadataLog,
    position: Mutex<Position>,
    purge_until: watch::Sender<u64>,
    #[cfg(test)]
    purged: watch::Receiver<u64>,
    /// Deletes old entries; ends with the checkpoint.
    _purge: JoinSet<()>,
}

/// The ends of the logs, as far as this run knows.
#[derive(Debug, Clone)]
struct Position {
    latest_offset: Option<(u64, OffsetEntry)>,
    previous_offset: Option<OffsetEntry>,
    latest_commit: Option<(u64, CommitEntry)>,
    /// The file whose write did not end well, or has not ended: what is in the log is not known.
    in_doubt: Option<String>,
    /// When this run last saw that no other was ahead of it.
    contact: Contact,
}

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Contact {
    monotonic: Instant,
    wall: DateTime<Utc>,
}

impl Contact {
    fn now() -> Self {
        Self { monotonic: Instant::now(), wall: Utc::now() }
    }
    /// Time from `self` to `later`, by the clock that has seen more of it.
    fn until(self, later: Self) -> Duration {
        let wall = (later.wall - self.wall).to_std().unwrap_or_default();
        later.monotonic.duration_since(self.monotonic).max(wall)
    }
}

impl Checkpoint {
    /// Opens a checkpoint, or begins one: the id of the query is in `metadata`, written once.
    ///
    /// # Errors
    /// `STREAMING_CHECKPOINT_MISSING_METADATA_FILE` when logs exist without it; `CHECKPOINT_CORRUPT`,
    /// `UNSUPPORTED_LOG_VERSION` when an entry cannot be read; `CHECKPOINT_UNAVAILABLE` when the store is away.
    pub async fn open(location: Location, run: RunId, options: Options) -> Result<Self> {
        let contact = Contact::now();
        let store = Store { retry: options.retry, location };
        let offsets = MetadataLog::new(store.clone(), store.location.offsets());
        let commits = MetadataLog::new(store.clone(), store.location.commits());
        let metadata_path = store.location.metadata();
        let (offset_ids, commit_ids, metadata) =
            tokio::try_join!(offsets.ids(), commits.ids(), store.get(&metadata_path))?;
        let metadata = match metadata {
            Some(found) => found,
            None if offset_ids.is_empty() && commit_ids.is_empty() => {
                let fresh = encode_metadata(QueryId::random());
                match store.create(&metadata_path, &fresh).await? {
                    Created::Written => fresh,
                    // Another run began this checkpoint just now; the offset log decides between the two.
                    Created::Exists(found) => found,
                }
            }
            None => {
                return Err(Error::fatal(
                    "STREAMING_CHECKPOINT_MISSING_METADATA_FILE",
                    format!(
                        "checkpoint location {location} is in an inconsistent state: the metadata file is missing but \
                         offset and/or commit logs contain data; restore {file} ({{\"id\":\"<query id>\"}}) or use a \
                         new checkpoint location",
                        location = store.location,
                        file = store.location.display_of(&metadata_path),
                    ),
                ));
            }
        };
        let query = decode_metadata(&metadata).map_err(|malformed| {
            let remedy = "restore it from a copy: {\"id\":\"<query id>\"}";
            malformed.in_file(&store.location.display_of(&metadata_path), &metadata, remedy)
        })?;

        let oldest = [offset_ids.first(), commit_ids.first()].into_iter().flatten().min().copied();
        let (purge_until, purge_requests) = watch::channel(0);
        let (purge_done, _purged) = watch::channel(oldest.unwrap_or(0));
        let mut purge = JoinSet::new();
        let logs = [offsets.clone(), commits.clone()];
        purge.spawn(delete_old_entries(logs, options.purge_delay, purge_requests, purge_done));

        let checkpoint = Self {
            query,
            run,
            options,
            store,
            offsets,
            commits,
            position: Mutex::new(Position {
                latest_offset: None,
                previous_offset: None,
                latest_commit: None,
                in_doubt: None,
                contact,
            }),
            purge_until,
            #[cfg(test)]
            purged: _purged,
            _purge: purge,
        };
        let latest_offset = checkpoint.latest(offset_ids.last(), Self::read_offsets).await?;
        let latest_commit = checkpoint.latest(commit_ids.last(), Self::read_commit).await?;
        let previous = latest_offset.as_ref().and_then(|(id, _)| id.checked_sub(1));
        let previous_offset = match previous {
            Some(id) => checkpoint.read_offsets(id).await?,
            None => None,
        };
        *checkpoint.position() = Position { latest_offset, previous_offset, latest_commit, in_doubt: None, contact };
        Ok(checkpoint)
    }

    async fn latest<'a, T>(
        &'a self,
        id: Option<&u64>,
        read: impl AsyncFnOnce(&'a Self, u64) -> Result<Option<T>>,
    ) -> Result<Option<(u64, T)>> {
        let Some(id) = id.copied() else { return Ok(None) };
        Ok(read(self, id).await?.map(|entry| (id, entry)))
    }

    /// The query's id, the same for every run.
    pub fn query_id(&self) -> QueryId {
        self.query
    }
    /// Whether a batch was ever decided.
    pub fn has_batches(&self) -> bool {
        let position = self.position();
        position.latest_offset.is_some() || position.latest_commit.is_some()
    }
    /// The run that opened this.
    pub fn run_id(&self) -> RunId {
        self.run
    }
    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.store.location
    }

    /// Where a query with this many sources goes on. See [`decide`].
    ///
    /// # Errors
    /// `CHECKPOINT_CORRUPT`, or `STREAMING_SOURCES_CHANGED`, when nowhere: [`Decision::Corrupt`] as an error.
    pub fn recover(&self, sources: usize) -> Result<Decision> {
        let Position { latest_offset, latest_commit, previous_offset, .. } = self.position().clone();
        match decide(sources, latest_offset, latest_commit, previous_offset) {
            Decision::Corrupt { reason } => Err(self.corrupt(&reason)),
            decision => Ok(decision),
        }
    }

    /// A reason why a query cannot go on, with the place.
    fn corrupt(&self, reason: &Corruption) -> Error {
        let class = match reason {
            Corruption::SourcesChanged { .. } => "STREAMING_SOURCES_CHANGED",
            _ => "CHECKPOINT_CORRUPT",
        };
        Error::fatal(class, format!("checkpoint {} cannot be continued: {reason}", self.store.location))
    }

    /// Writes `offsets/<batch_id>`, after which the batch's ranges are fixed for ever. Confs that the log has pinned
    /// replace the entry's. Returns the entry as it stands in the log: run the batch from that.
    ///
    /// # Errors
    /// `CONCURRENT_STREAM_LOG_UPDATE` when another run wrote it: this run must stop. After any error the checkpoint
    /// accepts no more writes: open it again.
    pub async fn write_offsets(&self, batch_id: u64, mut entry: OffsetEntry) -> Result<OffsetEntry> {
        let file = self.offsets.display_of(batch_id);
        let bytes = {
            let mut position = self.position();
            position.may_write_offsets(batch_id, &entry)?;
            let previous = position.latest_offset.as_ref().map(|(_, entry)| &entry.metadata);
            entry.metadata.conf = OffsetMetadata::pin(previous, &entry.metadata.conf, self.author());
            let bytes = entry.encode().map_err(|e| Error::internal(format!("{file} cannot be written: {e}")))?;
            position.in_doubt = Some(file.clone());
            bytes
        };
        if let Created::Exists(found) = self.offsets.create(batch_id, &bytes).await? {
            let winner = OffsetEntry::decode(&found).ok().map(|entry| entry.metadata.author());
            return Err(self.fenced(&file, winner.unwrap_or_default()));
        }
        let contact = self.verify_ahead(&self.offsets, batch_id).await?;
        let mut position = self.position();
        (position.in_doubt, position.contact) = (None, contact);
        position.previous_offset = position.latest_offset.take().map(|(_, entry)| entry);
        position.latest_offset = Some((batch_id, entry.clone()));
        Ok(entry)
    }

    /// Writes `commits/<batch_id>`: every row of the batch is in the sink. Then deletes old entries, aside.
    ///
    /// # Errors
    /// As [`Checkpoint::write_offsets`].
    pub async fn write_commit(&self, batch_id: u64, entry: CommitEntry) -> Result<()> {
        let file = self.commits.display_of(batch_id);
        let bytes =
            entry.encode(self.author()).map_err(|e| Error::internal(format!("{file} cannot be written: {e}")))?;
        {
            let mut position = self.position();
            position.may_write_commit(batch_id)?;
            position.in_doubt = Some(file.clone());
        }
        if let Created::Exists(found) = self.commits.create(batch_id, &bytes).await? {
            let winner = CommitEntry::decode(&found).ok().map(|(_, author)| author);
            return Err(self.fenced(&file, winner.unwrap_or_default()));
        }
        let contact = self.verify_ahead(&self.commits, batch_id).await?;
        let mut position = self.position();
        (position.in_doubt, position.contact) = (None, contact);
        position.latest_commit = Some((batch_id, entry));
        self.purge_until.send_replace(batch_id.saturating_sub(self.options.batches_retained_min));
        Ok(())
    }

    /// After entry `batch_id` has been created: whether it is the latest, rather than one that was purged long ago.
    /// Returns the time of this contact.
    async fn verify_ahead(&self, log: &MetadataLog, batch_id: u64) -> Result<Contact> {
        let answered = Contact::now();
        let silence = self.position().contact.until(answered);
        if silence < self.options.purge_delay / 2 {
            return Ok(answered);
        }
        match log.ids().await?.last() {
            Some(latest) if *latest > batch_id => Err(self.fenced(&log.display_of(*latest), Author::default())),
            _ => Ok(answered),
        }
    }

    /// Where source `source` (from 0, in the order of the query) began, if that was recorded.
    pub async fn initial_offset(&self, source: usize) -> Result<Option<String>> {
        let path = self.store.location.initial_offset(source);
        match self.store.get(&path).await? {
            Some(found) => self.decode_initial_offset(source, &found).map(Some),
            None => Ok(None),
        }
    }

    /// Records where source `source` begins, unless that is recorded already. Returns what is: begin there.
    pub async fn write_initial_offset(&self, source: usize, offset: &str) -> Result<String> {
        let path = self.store.location.initial_offset(source);
        let bytes = initial_offset::encode(offset).map_err(|e| {
            Error::internal(format!("{} cannot be written: {e}", self.store.location.display_of(&path)))
        })?;
        match self.store.create(&path, &bytes).await? {
            Created::Written => Ok(offset.to_string()),
            Created::Exists(found) => self.decode_initial_offset(source, &found),
        }
    }

    fn decode_initial_offset(&self, source: usize, bytes: &[u8]) -> Result<String> {
        initial_offset::decode(bytes).map_err(|malformed| {
            let file = self.store.location.display_of(&self.store.location.initial_offset(source));
            let remedy = "restore it from a copy, or, if there is no offsets/0 yet, delete it: the starting offsets are \
                          then looked up anew";
            malformed.in_file(&file, bytes, remedy)
        })
    }

    /// Entry `batch_id` of the offset log, if it is there.
    pub async fn read_offsets(&self, batch_id: u64) -> Result<Option<OffsetEntry>> {
        let Some(bytes) = self.offsets.get(batch_id).await? else { return Ok(None) };
        let entry = OffsetEntry::decode(&bytes).map_err(|malformed| {
            let remedy = format!(
                "restore it from a copy, or, if there is no commits/{batch_id}, delete it: batch {batch_id} is then \
                 decided anew, which a sink that upserts by key absorbs"
            );
            malformed.in_file(&self.offsets.display_of(batch_id), &bytes, &remedy)
        })?;
        Ok(Some(entry))
    }

    /// Entry `batch_id` of the commit log, if it is there.
    pub async fn read_commit(&self, batch_id: u64) -> Result<Option<CommitEntry>> {
        let Some(bytes) = self.commits.get(batch_id).await? else { return Ok(None) };
        let (entry, _) = CommitEntry::decode(&bytes).map_err(|malformed| {
            let remedy = format!("delete it: batch {batch_id} then runs again over the same offsets");
            malformed.in_file(&self.commits.display_of(batch_id), &bytes, &remedy)
        })?;
        Ok(Some(entry))
    }

    /// Who signs what this writes.
    fn author(&self) -> Author {
        Author { run: Some(self.run.to_string()), claim: self.options.claim }
    }

    /// The error of a write that found another's bytes.
    fn fenced(&self, file: &str, winner: Author) -> Error {
        let run = self.run.to_string();
        match precedence(&self.author(), &winner) {
            // What it says is what counts.
            Precedence::Ours => {
                return Error::transient(
                    "CHECKPOINT_UNAVAILABLE",
                    format!(
                        "{file} holds an earlier write of this run ({run}): open the checkpoint again to continue \
                         from it"
                    ),
                );
            }
            Precedence::Deposed => {
                return Error::transient(
                    "CHECKPOINT_TAKEN_OVER",
                    format!(
                        "{file} holds what the scheduler that led before wrote last: open the checkpoint again to \
                         continue from it"
                    ),
                );
            }
            Precedence::Successor => {
                return Error::fatal(
                    LEADERSHIP_LOST,
                    format!("{file} was written by the scheduler that leads by now: this run ({run}) ends"),
                );
            }
            Precedence::Unknown => {}
        }
        let winner = winner.run;
        let winner = winner.map_or_else(|| "a run of another engine".into(), |winner| format!("run {winner}"));
        Error::fatal(
            "CONCURRENT_STREAM_LOG_UPDATE",
            format!(
                "multiple streaming queries are concurrently using {location}: {file} was written by {winner}, not by \
                 this run ({run}), which stops here; give each query a checkpoint location of its own, and if no other \
                 query runs on this one, start the query again to continue",
                location = self.store.location,
            ),
        )
    }

    fn position(&self) -> MutexGuard<'_, Position> {
        // Nothing panics while it is held, and every change is one assignment.
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("location", self.location())
            .field("query", &self.query)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// Who wrote an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author {
    /// None: another engine.
    pub run: Option<String>,
    /// None: a scheduler whose leadership nobody disputed.
    pub claim: Option<Claim>,
}

/// What it means to find another's entry where one wanted to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precedence {
    /// An earlier write of this run, which was given up and has landed since.
    Ours,
    /// The last write of a leader that was deposed: it counts, and this run goes on.
    Deposed,
    /// This run is the deposed leader's.
    Successor,
    /// Nothing is known: this run stops.
    Unknown,
}

fn precedence(us: &Author, winner: &Author) -> Precedence {
    if winner.run == us.run {
        return Precedence::Ours;
    }
    match (us.claim, winner.claim) {
        (Some(us), Some(winner)) if us.cluster == winner.cluster && us.epoch > winner.epoch => Precedence::Deposed,
        (Some(us), Some(winner)) if us.cluster == winner.cluster && us.epoch < winner.epoch => Precedence::Successor,
        _ => Precedence::Unknown,
    }
}

impl Position {
    /// `offsets/N` comes after `commits/N-1`, with as many sources.
    fn may_write_offsets(&self, batch_id: u64, entry: &OffsetEntry) -> Result<()> {
        self.may_write()?;
        let latest_offset = self.latest_offset.as_ref().map(|(id, _)| *id);
        let latest_commit = self.latest_commit.as_ref().map(|(id, _)| *id);
        if latest_offset != latest_commit || batch_id != latest_offset.map_or(0, |id| id + 1) {
            return Err(Error::internal(format!(
                "offsets/{batch_id} cannot follow offsets/{latest_offset:?} and commits/{latest_commit:?}"
            )));
        }
        match &self.latest_offset {
            Some((_, latest)) if latest.offsets.len() != entry.offsets.len() => Err(Error::internal(format!(
                "offsets/{batch_id} has {} sources, the entry before it {}",
                entry.offsets.len(),
                latest.offsets.len()
            ))),
            _ => Ok(()),
        }
    }

    /// `commits/N` comes after `offsets/N`.
    fn may_write_commit(&self, batch_id: u64) -> Result<()> {
        self.may_write()?;
        let latest_offset = self.latest_offset.as_ref().map(|(id, _)| *id);
        let latest_commit = self.latest_commit.as_ref().map(|(id, _)| *id);
        if latest_offset != Some(batch_id) || latest_commit != batch_id.checked_sub(1) {
            return Err(Error::internal(format!(
                "commits/{batch_id} cannot follow offsets/{latest_offset:?} and commits/{latest_commit:?}"
            )));
        }
        Ok(())
    }

    fn may_write(&self) -> Result<()> {
        match &self.in_doubt {
            Some(file) => Err(Error::fatal(
                "CHECKPOINT_IN_DOUBT",
                format!("an earlier write of {file} did not end well: open the checkpoint again before writing to it"),
            )),
            None => Ok(()),
        }
    }
}

/// Deletes entries below the thresholds that come in, each after the delay. Thresholds that come in faster than files
/// go are merged; after a failure the next threshold covers the same files again.
async fn delete_old_entries(
    logs: [MetadataLog; 2],
    delay: Duration,
    mut requests: watch::Receiver<u64>,
    done: watch::Sender<u64>,
) {
    // Thresholds that wait for their time, oldest first; one for each step of the delay at most.
    let step = delay / 16;
    let mut waiting = VecDeque::<(Instant, u64)>::new();
    loop {
        let due = waiting.front().map(|(at, _)| *at);
        tokio::select! {
            changed = requests.changed() => {
                if changed.is_err() {
                    return;
                }
                let (until, at) = (*requests.borrow_and_update(), Instant::now() + delay);
                if until > *done.borrow() && waiting.back().is_none_or(|(last, _)| at >= *last + step) {
                    waiting.push_back((at, until));
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some((_, until)) = waiting.pop_front() {
                    delete_entries(&logs, until, &done).await;
                }
            }
        }
    }
}

/// Deletes the entries below `until` that are not deleted yet. A bounded number at a time: a checkpoint taken over
/// from an engine that kept everything may have millions.
async fn delete_entries(logs: &[MetadataLog; 2], until: u64, done: &watch::Sender<u64>) {
    let mut from = *done.borrow();
    while from < until {
        let next = until.min(from.saturating_add(DELETED_AT_ONCE_MAX));
        let (offsets, commits) = tokio::join!(logs[0].delete(from..next), logs[1].delete(from..next));
        if let Err(error) = offsets.and(commits) {
            tracing::warn!(%error, from, until, "failed to delete old checkpoint entries, will try again");
            return;
        }
        done.send_replace(next);
        from = next;
    }
}

/// What S3 deletes in one request.
const DELETED_AT_ONCE_MAX: u64 = 1000;

fn encode_metadata(query: QueryId) -> Bytes {
    format!("{{\"id\":\"{query}\"}}").into()
}

fn decode_metadata(bytes: &[u8]) -> Result<QueryId, Malformed> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        id: QueryId,
    }
    serde_json::from_slice::<Metadata>(bytes)
        .map(|metadata| metadata.id)
        .map_err(|e| Malformed::content(format!("it is not the metadata of a query: {e}")))
}
