//! The log of a stream's output, `_spark_metadata`: which files of a folder are rows, and of which batch.
//!
//! Byte for byte Spark's: file `_spark_metadata/<batch id>` holds a line `v1` and one JSON object a line for each file
//! that the batch added. Every tenth batch's file, `<batch id>.compact`, holds all files so far, so that a reader
//! reads the latest of these and the ones after it. A batch's file is created if absent: who comes second changes
//! nothing. There is a file for each batch, of an empty batch too: Spark's reader insists on it.
//!
//! `_spark_metadata/.headwater-query` names the query the folder belongs to; Spark passes over it. A query that
//! starts anew would count its batches from 0 again, and each would be taken for one that is committed already. The
//! file is created if absent too, and stays for as long as the query does. Where the log was another's before (that of
//! Spark, whose checkpoint is continued here), its second line is the last batch that was found.

use super::location::{Created, create, storage_error, url_of};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_proto::error::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use url::Url;

/// Name of the folder.
pub const FOLDER: &str = "_spark_metadata";
const VERSION: &str = "v1";
const OWNER: &str = ".headwater-query";
/// Says that the folder is a stream's although none owns it, nor has one committed anything.
const RELEASED: &str = ".headwater-released";
/// `spark.sql.streaming.fileSink.log.compactInterval`.
pub(super) const COMPACT_INTERVAL: i64 = 10;
/// `spark.sql.streaming.fileSink.log.cleanupDelay`: a reader that listed the folder may be that slow.
const CLEANUP_DELAY_MS: i64 = 10 * 60 * 1000;
/// `spark.sql.streaming.minBatchesToRetain`.
const BATCHES_RETAINED: i64 = 100;
/// What Hadoop's local and S3 file systems report.
const BLOCK_SIZE: u64 = 32 * 1024 * 1024;

/// One file of the output: Spark's `SinkFileStatus`, fields in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkFileStatus {
    /// URL of the file.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Never, for files.
    pub is_dir: bool,
    /// Milliseconds since 1970.
    pub modification_time: i64,
    /// Hadoop's; 1.
    pub block_replication: i32,
    /// Hadoop's; 32 MiB.
    pub block_size: u64,
    /// `add`; older Spark versions also wrote `delete`.
    pub action: String,
}

impl SinkFileStatus {
    /// A file that a batch adds.
    pub fn add(path: String, size: u64, modification_time: i64) -> Self {
        Self {
            path,
            size,
            is_dir: false,
            modification_time,
            block_replication: 1,
            block_size: BLOCK_SIZE,
            action: "add".into(),
        }
    }
}

/// The text of a batch's file.
///
/// # Errors
/// None for values that JSON can hold.
pub fn serialize(entries: &[SinkFileStatus]) -> Result<String> {
    let mut text = VERSION.to_string();
    for entry in entries {
        text.push('\n');
        text.push_str(&serde_json::to_string(entry).map_err(Error::internal)?);
    }
    Ok(text)
}

/// The reverse of [`serialize`]; `place` is for the error.
///
/// # Errors
/// `MALFORMED_LOG_FILE`.
pub fn deserialize(text: &str, place: &str) -> Result<Vec<SinkFileStatus>> {
    let bad = |why: &dyn std::fmt::Display| {
        Error::fatal("MALFORMED_LOG_FILE", format!("{place} is no log of a file sink: {why}"))
    };
    let mut lines = text.lines();
    match lines.next() {
        Some(VERSION) => {}
        other => return Err(bad(&format!("its first line is {:?}, not {VERSION}", other.unwrap_or_default()))),
    }
    lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).map_err(|e| bad(&format!("{e} in line {line}"))))
        .collect()
}

/// A file of a log that is compacted every tenth batch: this one, and that of a streaming read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) batch_id: i64,
    pub(super) compact: bool,
}

impl Entry {
    pub(super) fn of(batch_id: i64) -> Self {
        Self { batch_id, compact: (batch_id + 1) % COMPACT_INTERVAL == 0 }
    }
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (digits, compact) = match name.strip_suffix(".compact") {
            Some(digits) => (digits, true),
            None => (name, false),
        };
        digits.parse().ok().filter(|batch_id| *batch_id >= 0).map(|batch_id| Self { batch_id, compact })
    }
    pub(super) fn name(self) -> String {
        format!("{}{}", self.batch_id, if self.compact { ".compact" } else { "" })
    }
}

/// Which files of the log hold all entries of batches up to `last`: the latest compact one and those after it.
///
/// # Errors
/// `MALFORMED_LOG_FILE` when one is missing: its rows would be, too.
pub(super) fn files_to_read(all: &[Entry], last: i64, place: &str) -> Result<Vec<Entry>> {
    let mut all: Vec<Entry> = all.iter().copied().filter(|entry| entry.batch_id <= last).collect();
    // A compact file holds what its plain one would.
    all.sort_unstable_by_key(|entry| (entry.batch_id, !entry.compact));
    all.dedup_by_key(|entry| entry.batch_id);
    let from = all.iter().rposition(|entry| entry.compact);
    let read = all.split_off(from.unwrap_or(0));
    let first = if from.is_some() { read[0].batch_id } else { 0 };
    for (expect, entry) in (first..).zip(&read) {
        if entry.batch_id != expect {
            return Err(Error::fatal(
                "MALFORMED_LOG_FILE",
                format!("{place} lacks batch {expect}, without which files of the output would be passed over"),
            ));
        }
    }
    Ok(read)
}

/// Which batches to write so that `batch_id` follows on `latest`: itself, after empty ones for batches that were never
/// committed here (they had no rows, or wrote elsewhere), no further back than a reader would read.
fn batches_to_write(latest: Option<i64>, batch_id: i64) -> std::ops::RangeInclusive<i64> {
    let compact_before = batch_id - batch_id % COMPACT_INTERVAL - 1;
    (latest.unwrap_or(-1) + 1).max(compact_before).max(0)..=batch_id
}

/// What [`SinkLog::add`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The batch is committed by this call.
    Now,
    /// It was committed before; nothing has changed.
    Before,
}

/// Whose the folder is.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    query: String,
    /// The last batch in the log when the query took the folder: another's.
    found: Option<i64>,
}

impl Owner {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines().map(str::trim);
        let query = lines.next().unwrap_or_default().to_string();
        Self { query, found: lines.next().and_then(|line| line.parse().ok()) }
    }
    fn text(&self) -> String {
        match self.found {
            Some(found) => format!("{}\n{found}", self.query),
            None => self.query.clone(),
        }
    }
}

/// The log of one folder.
#[derive(Debug)]
pub struct SinkLog {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    place: String,
    /// The latest batch known to be there, to spare a listing. Never later than the truth.
    latest: Mutex<Option<i64>>,
}

impl SinkLog {
    /// The log of the output folder `root`.
    pub fn new(store: Arc<dyn ObjectStore>, root: &Path, url: &Url) -> Self {
        let folder = root.clone().join(FOLDER);
        let place = url_of(url, &folder).to_string();
        Self { store, folder, place, latest: Mutex::new(None) }
    }

    async fn list(&self) -> Result<Vec<(Entry, i64)>> {
        let mut entries = vec![];
        let mut objects = self.store.list(Some(&self.folder));
        while let Some(object) = objects.try_next().await.map_err(|e| storage_error("list", &self.place, &e))? {
            if let Some(entry) = object.location.filename().and_then(Entry::parse) {
                entries.push((entry, object.last_modified.timestamp_millis()));
            }
        }
        Ok(entries)
    }

    /// Whether the folder is the output of a stream.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn exists(&self) -> Result<bool> {
        let first = self.store.list(Some(&self.folder)).next().await;
        Ok(first.transpose().map_err(|e| storage_error("list", &self.place, &e))?.is_some())
    }

    /// Removes the log: a batch write has replaced what it speaks of.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remove(&self) -> Result<()> {
        let paths = self.store.list(Some(&self.folder)).map_ok(|object| object.location).boxed();
        self.store
            .delete_stream(paths)
            .try_for_each(|_| futures::future::ready(Ok(())))
            .await
            .map_err(|e| storage_error("remove", &self.place, &e))
    }

    async fn read(&self, entry: Entry) -> Result<Vec<SinkFileStatus>> {
        let path = self.folder.clone().join(entry.name());
        let place = format!("{}/{}", self.place, entry.name());
        let bytes = async { self.store.get(&path).await?.bytes().await };
        let bytes = bytes.await.map_err(|e| storage_error("read", &place, &e))?;
        deserialize(&String::from_utf8_lossy(&bytes), &place)
    }

    async fn read_until(&self, last: i64) -> Result<Vec<SinkFileStatus>> {
        let all: Vec<Entry> = self.list().await?.into_iter().map(|(entry, _)| entry).collect();
        let mut files = vec![];
        for entry in files_to_read(&all, last, &self.place)? {
            files.extend(self.read(entry).await?);
        }
        let deleted: HashSet<String> =
            files.iter().filter(|file| file.action == "delete").map(|file| file.path.clone()).collect();
        files.retain(|file| file.action != "delete" && !deleted.contains(&file.path));
        Ok(files)
    }

    /// All files of the output.
    ///
    /// # Errors
    /// `MALFORMED_LOG_FILE` and those of the store.
    pub async fn files(&self) -> Result<Vec<SinkFileStatus>> {
        self.read_until(i64::MAX).await
    }

    /// Puts an object unless there is one.
    async fn create(&self, name: &str, text: String) -> Result<Created> {
        let created = create(self.store.as_ref(), &self.folder.clone().join(name), &Bytes::from(text)).await;
        created.map_err(|e| storage_error("write", &format!("{}/{name}", self.place), &e))
    }

    async fn owner(&self) -> Result<Option<Owner>> {
        let path = self.folder.clone().join(OWNER);
        let bytes = async { self.store.get(&path).await?.bytes().await };
        match bytes.await {
            Ok(bytes) => Ok(Some(Owner::parse(&bytes))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(storage_error("read", &format!("{}/{OWNER}", self.place), &e)),
        }
    }

    /// The last batch in the log.
    async fn last(&self) -> Result<Option<i64>> {
        Ok(self.list().await?.into_iter().map(|(entry, _)| entry.batch_id).max())
    }

    /// Makes a batch's files visible, unless the batch is committed already.
    ///
    /// # Errors
    /// `STREAMING_OUTPUT_OF_ANOTHER_QUERY` when the batch of that number is surely another's; those of the store.
    pub async fn add(&self, batch_id: i64, files: &[SinkFileStatus]) -> Result<Added> {
        let known = *self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = match known {
            Some(latest) => Some(latest),
            None => self.last().await?,
        };
        if latest.is_some_and(|latest| batch_id <= latest) {
            // Whoever continues the checkpoint of what was found may run its last batch again, and none before.
            let found = self.owner().await?.and_then(|owner| owner.found);
            if found.is_some_and(|found| batch_id < found) {
                return Err(Error::fatal(
                    "STREAMING_OUTPUT_OF_ANOTHER_QUERY",
                    format!(
                        "{} has batch {batch_id} of another checkpoint, and the rows of this one would be lost: \
                         continue that checkpoint, or choose a new folder",
                        self.place
                    ),
                ));
            }
            return Ok(Added::Before);
        }
        let mut added = Added::Now;
        for id in batches_to_write(latest, batch_id) {
            let entry = Entry::of(id);
            let mut entries = if entry.compact { self.read_until(id - 1).await? } else { vec![] };
            if id == batch_id {
                entries.extend_from_slice(files);
            }
            let created = self.create(&entry.name(), serialize(&entries)?).await?;
            if id == batch_id && created != Created::Written {
                added = Added::Before;
            }
        }
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(batch_id);
        if Entry::of(batch_id).compact {
            self.clean_up(batch_id).await?;
        }
        Ok(added)
    }

    /// Removes what no reader reads any more.
    async fn clean_up(&self, batch_id: i64) -> Result<()> {
        let Some(keep) = oldest_to_keep(batch_id) else { return Ok(()) };
        let old_ms = chrono::Utc::now().timestamp_millis() - CLEANUP_DELAY_MS;
        for (entry, modified_ms) in self.list().await? {
            if entry.batch_id < keep && modified_ms <= old_ms {
                match self.store.delete(&self.folder.clone().join(entry.name())).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(e) => return Err(storage_error("clean up", &self.place, &e)),
                }
            }
        }
        Ok(())
    }

    /// Makes sure that the folder's log, if it has one, is this query's: creates the folder's log otherwise. Nobody
    /// else takes the folder then, until it is [released](Self::release). `has_data`: whether the folder has files that
    /// no log speaks of.
    ///
    /// # Errors
    /// The folder has rows of something else.
    pub async fn claim(&self, query: &str, has_data: bool, root: &str) -> Result<()> {
        if !self.exists().await? && has_data {
            return Err(Error::invalid(
                "STREAMING_OUTPUT_NOT_EMPTY",
                format!(
                    "folder {root} has files that no stream wrote, which nobody would see any more once this query \
                     writes there: choose a new folder, or move them away"
                ),
            ));
        }
        let claim = Owner { query: query.into(), found: self.last().await? };
        let owner = match self.create(OWNER, claim.text()).await? {
            Created::Written => return Ok(()),
            Created::Exists(found) => Owner::parse(&found).query,
        };
        if owner == query {
            return Ok(());
        }
        Err(Error::invalid(
            "STREAMING_OUTPUT_OF_ANOTHER_QUERY",
            format!(
                "folder {root} is the output of query {owner}; query {query} counts its batches from 0 too, and one of \
                 two of the same number would be passed over as committed: give it the checkpoint of {owner}, or a new \
                 folder, or delete query {owner} if it has written nothing; if there is no such query any more, remove \
                 {}/{OWNER}",
                self.place
            ),
        ))
    }

    /// Whether the log had batches when its owner took the folder.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn had_batches(&self) -> Result<bool> {
        Ok(self.owner().await?.is_some_and(|owner| owner.found.is_some()))
    }

    /// Gives the folder back, unless the query has committed something there, or the folder is another's. `has_data`:
    /// whether the folder has files.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn release(&self, query: &str, has_data: bool) -> Result<()> {
        let Some(owner) = self.owner().await?.filter(|owner| owner.query == query) else { return Ok(()) };
        if self.last().await? != owner.found {
            return Ok(());
        }
        if has_data {
            // Files of batches that were never committed: without a log they would be rows, and in nobody's folder.
            let kept = self.store.put(&self.folder.clone().join(RELEASED), PutPayload::default()).await;
            kept.map_err(|e| storage_error("write", &format!("{}/{RELEASED}", self.place), &e))?;
        }
        match self.store.delete(&self.folder.clone().join(OWNER)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(storage_error("remove", &format!("{}/{OWNER}", self.place), &e)),
        }
    }
}

/// The compact file before the batches that must be kept; what is older may go.
fn oldest_to_keep(batch_id: i64) -> Option<i64> {
    let oldest = batch_id - BATCHES_RETAINED;
    let compact = oldest - (oldest + 1).rem_euclid(COMPACT_INTERVAL);
    (compact > 0).then_some(compact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn log(store: &Arc<InMemory>) -> SinkLog {
        let url = Url::parse("memory:///out").expect("url");
        SinkLog::new(Arc::clone(store) as Arc<dyn ObjectStore>, &Path::from("out"), &url)
    }

    fn file(name: &str) -> SinkFileStatus {
        SinkFileStatus::add(format!("file:///out/{name}"), 10, 1_700_000_000_000)
    }

    async fn text(store: &InMemory, name: &str) -> String {
        let bytes = async { store.get(&Path::from(format!("out/_spark_metadata/{name}"))).await?.bytes().await };
        String::from_utf8(bytes.await.expect(name).to_vec()).expect("utf-8")
    }

    #[test]
    fn the_text_is_sparks() {
        let text = "v1\n{\"path\":\"file:///out/part-00000-a-c000.snappy.parquet\",\"size\":10,\"isDir\":false,\
                    \"modificationTime\":1700000000000,\"blockReplication\":1,\"blockSize\":33554432,\"action\":\"add\"}";
        let entry = file("part-00000-a-c000.snappy.parquet");
        assert_eq!(serialize(std::slice::from_ref(&entry)).expect("text"), text);
        assert_eq!(deserialize(text, "here").expect("entries"), [entry]);
        assert_eq!(serialize(&[]).expect("text"), "v1");
        assert_eq!(deserialize("v1", "here").expect("entries"), []);
        for bad in ["", "v2\n", "{}", "v1\n{\"path\":1}"] {
            assert_eq!(deserialize(bad, "here").expect_err(bad).class, "MALFORMED_LOG_FILE");
        }
    }

    #[test]
    fn which_files_to_read() {
        fn check(names: &[&str], expect: Result<&[&str], &str>) {
            let all: Vec<Entry> = names.iter().filter_map(|name| Entry::parse(name)).collect();
            match (files_to_read(&all, i64::MAX, "here"), expect) {
                (Ok(got), Ok(expect)) => assert_eq!(got.into_iter().map(Entry::name).collect::<Vec<_>>(), expect),
                (Err(error), Err(word)) => assert!(error.message.contains(word), "{error}"),
                (got, expect) => panic!("{got:?} is not {expect:?}"),
            }
        }
        check(&[], Ok(&[]));
        check(&["1", "0", ".headwater-query", "0.tmp"], Ok(&["0", "1"]));
        check(&["8", "9.compact", "10", "11"], Ok(&["9.compact", "10", "11"]));
        check(&["9.compact", "19.compact", "18", "20"], Ok(&["19.compact", "20"]));
        check(&["9", "9.compact", "10"], Ok(&["9.compact", "10"]));
        check(&["0", "2"], Err("batch 1"));
        check(&["1"], Err("batch 0"));
        check(&["9.compact", "11"], Err("batch 10"));
    }

    #[test]
    fn which_batches_to_write() {
        let check = |latest, batch_id, expect| assert_eq!(batches_to_write(latest, batch_id), expect);
        check(None, 0, 0..=0);
        check(Some(0), 1, 1..=1);
        check(Some(0), 3, 1..=3);
        check(Some(8), 9, 9..=9);
        check(Some(2), 1000, 999..=1000);
        check(None, 25, 19..=25);
        check(Some(15), 29, 19..=29);
        assert_eq!([9, 109, 119, 129].map(oldest_to_keep), [None, Some(9), Some(19), Some(29)]);
    }

    #[tokio::test]
    async fn a_batch_is_added_once() {
        let store = Arc::new(InMemory::new());
        let (one, two) = (log(&store), log(&store));
        assert_eq!(one.add(0, &[file("a")]).await.expect("add"), Added::Now);
        assert_eq!(one.add(0, &[file("b")]).await.expect("again"), Added::Before);
        assert_eq!(two.add(0, &[file("c")]).await.expect("another process"), Added::Before);
        assert_eq!(one.add(1, &[file("d")]).await.expect("add"), Added::Now);
        // Its knowledge is older than the truth.
        *two.latest.lock().expect("lock") = Some(0);
        assert_eq!(two.add(1, &[file("e")]).await.expect("late"), Added::Before);
        assert_eq!(two.files().await.expect("files"), [file("a"), file("d")]);
    }

    #[tokio::test]
    async fn every_tenth_batch_holds_all() {
        let store = Arc::new(InMemory::new());
        let log = log(&store);
        let mut expect = vec![];
        for batch_id in 0..25 {
            // Batches 3 and 19 have no rows and are not committed at all.
            if batch_id != 3 && batch_id != 19 {
                expect.push(file(&format!("part-{batch_id}")));
                assert_eq!(log.add(batch_id, &expect[expect.len() - 1..]).await.expect("add"), Added::Now);
            }
        }
        assert_eq!(log.files().await.expect("files"), expect);
        assert_eq!(text(&store, "3").await, "v1");
        assert_eq!(text(&store, "9.compact").await.lines().count(), 10);
        assert_eq!(text(&store, "19.compact").await, serialize(&expect[..18]).expect("text"));
        // The files before the compact one are not needed.
        store.delete(&Path::from("out/_spark_metadata/4")).await.expect("delete");
        assert_eq!(log.files().await.expect("files").len(), 23);
        store.delete(&Path::from("out/_spark_metadata/21")).await.expect("delete");
        assert_eq!(log.files().await.expect_err("a gap").class, "MALFORMED_LOG_FILE");
    }

    #[tokio::test]
    async fn a_folder_belongs_to_one_query() {
        let store = Arc::new(InMemory::new());
        let log = log(&store);
        assert_eq!(log.claim("q1", true, "out").await.expect_err("data").class, "STREAMING_OUTPUT_NOT_EMPTY");
        log.claim("q1", false, "out").await.expect("new folder");
        log.claim("q1", true, "out").await.expect("own folder");
        // Two that start before either has committed anything: the second is refused.
        let error = log.claim("q2", true, "out").await.expect_err("another's");
        assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
        assert!(error.message.contains("q1"), "{error}");
        log.release("q2", false).await.expect("not its own");
        log.claim("q2", true, "out").await.expect_err("still another's");
        log.release("q1", false).await.expect("its own");
        log.release("q1", false).await.expect("again");
        assert!(!log.exists().await.expect("exists"));
        log.claim("q2", false, "out").await.expect("given back");
        // Given back with files of a batch that was not committed: they are no rows, and the next one passes over them.
        log.release("q2", true).await.expect("its own");
        assert!(log.exists().await.expect("exists") && log.files().await.expect("files").is_empty());
        log.claim("q2", true, "out").await.expect("given back");
        log.add(0, &[]).await.expect("add");
        log.release("q2", true).await.expect("it has committed something");
        log.claim("q2", true, "out").await.expect("own folder");
        let error = log.claim("q3", true, "out").await.expect_err("another's");
        assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
        assert!(error.message.contains("q2"), "{error}");
        log.remove().await.expect("remove");
        assert!(!log.exists().await.expect("exists"));
    }

    #[tokio::test]
    async fn a_log_that_was_there_before_is_continued_or_refused() {
        let store = Arc::new(InMemory::new());
        let spark = log(&store);
        for batch_id in 0..=5 {
            spark.add(batch_id, &[file(&format!("spark-{batch_id}"))]).await.expect("add");
        }
        let log = log(&store);
        log.claim("q", true, "out").await.expect("nobody's");
        assert_eq!(text(&store, OWNER).await, "q\n5");
        assert!(log.had_batches().await.expect("owner"));
        // Another checkpoint than the one that the log was written by.
        let error = log.add(0, &[file("lost")]).await.expect_err("batch 0 is another's");
        assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
        log.release("q", true).await.expect("nothing was committed");
        assert_eq!(log.owner().await.expect("owner"), None);
        log.claim("q", true, "out").await.expect("nobody's");
        // That checkpoint: its last batch may not have been known to be committed.
        assert_eq!(log.add(5, &[file("again")]).await.expect("add"), Added::Before);
        assert_eq!(log.add(6, &[file("new")]).await.expect("add"), Added::Now);
        assert_eq!(log.add(6, &[file("new")]).await.expect("add"), Added::Before);
        log.claim("q", true, "out").await.expect("own folder, whatever was committed since");
        assert_eq!(log.owner().await.expect("owner"), Some(Owner { query: "q".into(), found: Some(5) }));
        assert_eq!(log.files().await.expect("files").len(), 7);
    }
}
