//! The checkpoint over real stores, a store that fails on request, and the golden files.

use super::*;
use futures::stream::BoxStream;
use headwater_proto::error::ErrorKind;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a [`FaultyStore`] does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It fails, and nothing has happened.
    Before,
    /// It happens, and its answer is lost.
    After,
    /// It happens, and the client's own repetition of it finds the object.
    Repeated,
    /// It fails for a reason that will not pass.
    Refused,
    /// It never ends.
    Hang,
}

/// An in-memory store whose puts and gets fail as `plan` says, and which notes what was asked and created.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: InMemory,
    plan: Mutex<Plan>,
    /// Every request, such as `put offsets/0`.
    pub log: Mutex<Vec<String>>,
}

type PlanFn = Box<dyn FnMut(&str) -> Fault + Send>;
struct Plan(PlanFn);
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plan")
    }
}

impl FaultyStore {
    pub fn new(plan: impl FnMut(&str) -> Fault + Send + 'static) -> Arc<Self> {
        Arc::new(Self { inner: InMemory::new(), plan: Mutex::new(Plan(Box::new(plan))), log: Mutex::default() })
    }
    fn next(&self, request: String) -> Fault {
        let fault = (self.plan.lock().unwrap().0)(&request);
        self.log.lock().unwrap().push(request);
        fault
    }
    fn set_plan(&self, plan: impl FnMut(&str) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = Plan(Box::new(plan));
    }
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

fn passing() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "connection reset".into() }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        match self.next(format!("put {path}")) {
            Fault::None => self.inner.put_opts(path, payload, options).await,
            Fault::Before => Err(passing()),
            Fault::After => self.inner.put_opts(path, payload, options).await.and(Err(passing())),
            Fault::Hang => std::future::pending().await,
            Fault::Repeated => {
                self.inner.put_opts(path, payload.clone(), options.clone()).await?;
                self.inner.put_opts(path, payload, options).await
            }
            Fault::Refused => {
                Err(object_store::Error::PermissionDenied { path: path.to_string(), source: "denied".into() })
            }
        }
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        match self.next(format!("get {path}")) {
            Fault::None => self.inner.get_opts(path, options).await,
            Fault::Hang => std::future::pending().await,
            _ => Err(passing()),
        }
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let folder = prefix.cloned().unwrap_or_default();
        match self.next(format!("list {folder}")) {
            Fault::None => self.inner.list_with_delimiter(prefix).await,
            _ => Err(passing()),
        }
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

pub(super) fn quick() -> Options {
    let (attempts_max, backoff_first, backoff_max) = (3, Duration::ZERO, Duration::ZERO);
    let retry = Retry { attempts_max, backoff_first, backoff_max, ..Retry::default() };
    Options { retry, ..Options::default() }
}

pub(super) fn at(store: &Arc<impl ObjectStore>) -> Location {
    Location::new(Arc::clone(store) as Arc<dyn ObjectStore>, Path::default(), "mem://checkpoint")
}

async fn open(store: &Arc<impl ObjectStore>) -> Checkpoint {
    Checkpoint::open(at(store), RunId::random(), quick()).await.unwrap()
}

fn entry(end: u64) -> OffsetEntry {
    OffsetEntry { offsets: vec![Some(end.to_string())], ..OffsetEntry::default() }
}

async fn run_batch(checkpoint: &Checkpoint, batch_id: u64) {
    checkpoint.write_offsets(batch_id, entry(batch_id + 1)).await.unwrap();
    checkpoint.write_commit(batch_id, CommitEntry::default()).await.unwrap();
}

async fn put(store: &impl ObjectStore, path: &str, bytes: impl Into<PutPayload>) {
    store.put(&Path::from(path), bytes.into()).await.unwrap();
}

/// Every file of a store by name.
async fn files(store: &impl ObjectStore) -> BTreeMap<String, Bytes> {
    use futures::TryStreamExt;
    let mut files = BTreeMap::new();
    for found in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&found.location).await.unwrap().bytes().await.unwrap();
        files.insert(found.location.to_string(), bytes);
    }
    files
}

/// One suite for every kind of store.
async fn a_query_goes_on_where_it_stopped(location: Location) {
    let first = Checkpoint::open(location.clone(), RunId::random(), quick()).await.unwrap();
    assert_eq!(first.recover(1).unwrap(), Decision::Start);
    assert_eq!(first.initial_offset(0).await.unwrap(), None);
    assert_eq!(first.write_initial_offset(0, "7").await.unwrap(), "7");
    assert_eq!(first.write_initial_offset(0, "8").await.unwrap(), "7");
    run_batch(&first, 0).await;
    let written = first.write_offsets(1, entry(2)).await.unwrap();
    assert_eq!(written.metadata.run_id(), Some(first.run_id().to_string().as_str()));

    let second = Checkpoint::open(location.clone(), RunId::random(), quick()).await.unwrap();
    assert_eq!(second.query_id(), first.query_id());
    assert_eq!(second.initial_offset(0).await.unwrap().as_deref(), Some("7"));
    let rerun = Decision::Rerun {
        batch_id: 1,
        start: vec![Some("1".into())],
        end: vec![Some("2".into())],
        watermark_ms: 0,
        metadata: written.metadata.clone(),
    };
    assert_eq!(second.recover(1).unwrap(), rerun);
    second.write_commit(1, CommitEntry { next_batch_watermark_ms: 5 }).await.unwrap();
    let lost = first.write_commit(1, CommitEntry { next_batch_watermark_ms: 5 }).await.unwrap_err();
    assert_eq!((lost.kind, lost.class.as_str()), (ErrorKind::Fatal, "CONCURRENT_STREAM_LOG_UPDATE"));

    let third = Checkpoint::open(location, RunId::random(), quick()).await.unwrap();
    let advance =
        Decision::Advance { batch_id: 2, start: vec![Some("2".into())], watermark_ms: 5, metadata: written.metadata };
    assert_eq!(third.recover(1).unwrap(), advance);
    assert_eq!(third.read_offsets(0).await.unwrap().unwrap().offsets, entry(1).offsets);
    assert_eq!(third.read_commit(7).await.unwrap(), None);
}

#[tokio::test]
async fn over_an_in_memory_store() {
    a_query_goes_on_where_it_stopped(at(&Arc::new(InMemory::new()))).await;
}

#[tokio::test]
async fn over_a_prefix_of_a_store() {
    let store = Arc::new(InMemory::new());
    let location = Location::new(store.clone(), Path::from("queries/a b"), "mem://queries/a b");
    a_query_goes_on_where_it_stopped(location).await;
    assert!(files(&*store).await.keys().all(|name| name.starts_with("queries/a b/")));
}

#[tokio::test]
async fn over_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("check point");
    a_query_goes_on_where_it_stopped(Location::resolve(path.to_str().unwrap()).await.unwrap()).await;
    assert_eq!(std::fs::read(path.join("sources/0/0")).unwrap(), b"\0v1\n7");
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Location::resolve(file.join("checkpoint").to_str().unwrap()).await.unwrap_err();
    assert_eq!(error.class, "INVALID_CHECKPOINT_LOCATION");
}

#[tokio::test]
async fn a_batch_costs_one_request_for_each_log() {
    let store = FaultyStore::new(|_| Fault::None);
    let checkpoint = open(&store).await;
    store.take_log();
    for batch_id in 0..3 {
        run_batch(&checkpoint, batch_id).await;
    }
    let puts = ["put offsets/0", "put commits/0", "put offsets/1", "put commits/1", "put offsets/2", "put commits/2"];
    assert_eq!(store.take_log(), puts);
}

#[tokio::test]
async fn a_lost_answer_does_not_fence_its_writer() {
    for fault in [Fault::Before, Fault::After, Fault::Repeated] {
        for failing in ["put offsets/0", "put commits/0", "put metadata", "put sources/0/0"] {
            let mut faults = vec![fault];
            let store =
                FaultyStore::new(
                    move |request| {
                        if request == failing { faults.pop().unwrap_or(Fault::None) } else { Fault::None }
                    },
                );
            let checkpoint = open(&store).await;
            assert_eq!(checkpoint.write_initial_offset(0, "3").await.unwrap(), "3");
            run_batch(&checkpoint, 0).await;
            run_batch(&checkpoint, 1).await;
            let count = store.take_log().iter().filter(|request| *request == failing).count();
            assert_eq!(count, if fault == Fault::Repeated { 1 } else { 2 }, "{fault:?} at {failing}");
        }
    }
}

#[tokio::test]
async fn a_last_answer_that_is_lost_is_read_back() {
    let mut attempts = 0;
    let store = FaultyStore::new(move |request| {
        attempts += u32::from(request == "put offsets/0");
        match (request, attempts) {
            ("put offsets/0", 1 | 2) => Fault::Before,
            ("put offsets/0", 3) => Fault::After,
            _ => Fault::None,
        }
    });
    let checkpoint = open(&store).await;
    run_batch(&checkpoint, 0).await;
    assert_eq!(store.take_log().iter().filter(|request| *request == "put offsets/0").count(), 3);
}

#[tokio::test]
async fn after_a_failed_write_only_opening_again_helps() {
    let store = FaultyStore::new(|_| Fault::None);
    let checkpoint = open(&store).await;
    store.set_plan(|request| if request.starts_with("put") { Fault::After } else { Fault::Before });
    let failed = checkpoint.write_offsets(0, entry(1)).await.unwrap_err();
    assert_eq!((failed.kind, failed.class.as_str()), (ErrorKind::Transient, "CHECKPOINT_UNAVAILABLE"));
    store.set_plan(|_| Fault::None);
    for refused in [
        checkpoint.write_offsets(0, entry(1)).await.unwrap_err(),
        checkpoint.write_commit(0, CommitEntry::default()).await.unwrap_err(),
    ] {
        assert_eq!(refused.class, "CHECKPOINT_IN_DOUBT", "{refused}");
        assert!(refused.message.contains("mem://checkpoint/offsets/0"), "{refused}");
    }
    // The write had landed: the batch is to be run as it says.
    let Decision::Rerun { batch_id: 0, end, .. } = open(&store).await.recover(1).unwrap() else { panic!() };
    assert_eq!(end, entry(1).offsets);
}

#[tokio::test]
async fn an_earlier_write_of_the_same_run_that_lands_late_is_no_fence() {
    let store = Arc::new(InMemory::new());
    let checkpoint = open(&store).await;
    let mut late = entry(9);
    late.metadata.conf = OffsetMetadata::pin(None, &BTreeMap::new(), checkpoint.author());
    put(&*store, "offsets/0", late.encode().unwrap()).await;
    let error = checkpoint.write_offsets(0, entry(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(error.message.contains("open the checkpoint again"), "{error}");
}

/// Opens as a run of the scheduler that leads in this epoch.
async fn open_in_epoch(store: &Arc<InMemory>, cluster: uuid::Uuid, epoch: u64) -> Checkpoint {
    let options = Options { claim: Some(Claim { cluster, epoch }), ..quick() };
    Checkpoint::open(at(store), RunId::random(), options).await.unwrap()
}

#[tokio::test]
async fn the_last_write_of_a_deposed_leader_does_not_stop_its_successor() {
    let cluster = uuid::Uuid::new_v4();
    let class = |error: Error| (error.kind, error.class);
    let taken_over = (ErrorKind::Transient, "CHECKPOINT_TAKEN_OVER".to_string());
    let deposed = (ErrorKind::Fatal, LEADERSHIP_LOST.to_string());

    // Both are about to decide batch 1; the old leader's entry lands first.
    let store = Arc::new(InMemory::new());
    let old = open_in_epoch(&store, cluster, 1).await;
    run_batch(&old, 0).await;
    let new = open_in_epoch(&store, cluster, 2).await;
    old.write_offsets(1, entry(2)).await.unwrap();
    assert_eq!(class(new.write_offsets(1, entry(3)).await.unwrap_err()), taken_over);
    let new = open_in_epoch(&store, cluster, 2).await;
    let Decision::Rerun { batch_id: 1, end, .. } = new.recover(1).unwrap() else { panic!() };
    assert_eq!(end, entry(2).offsets, "the ranges that are in the log");
    new.write_commit(1, CommitEntry::default()).await.unwrap();
    assert_eq!(class(old.write_commit(1, CommitEntry::default()).await.unwrap_err()), deposed);

    // Both run batch 2; the old leader's commit lands first.
    new.write_offsets(2, entry(3)).await.unwrap();
    let newest = open_in_epoch(&store, cluster, 3).await;
    new.write_commit(2, CommitEntry::default()).await.unwrap();
    assert_eq!(class(newest.write_commit(2, CommitEntry::default()).await.unwrap_err()), taken_over);
    let Decision::Advance { batch_id: 3, .. } = open_in_epoch(&store, cluster, 3).await.recover(1).unwrap() else {
        panic!()
    };
    // Of the same leadership, or of another cluster, nobody knows who is right.
    let unknown = (ErrorKind::Fatal, "CONCURRENT_STREAM_LOG_UPDATE".to_string());
    for (cluster, epoch) in [(cluster, 3), (uuid::Uuid::new_v4(), 9)] {
        let (one, other) = (open_in_epoch(&store, cluster, epoch).await, open_in_epoch(&store, cluster, epoch).await);
        let batch = one.position().latest_commit.as_ref().map_or(0, |(id, _)| id + 1);
        run_batch(&one, batch).await;
        assert_eq!(class(other.write_offsets(batch, entry(50)).await.unwrap_err()), unknown);
    }
}

#[tokio::test]
async fn a_refused_write_is_not_repeated() {
    let store = FaultyStore::new(|request| if request == "put offsets/0" { Fault::Refused } else { Fault::None });
    let checkpoint = open(&store).await;
    let error = checkpoint.write_offsets(0, entry(1)).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "CHECKPOINT_INACCESSIBLE"));
    assert_eq!(store.take_log().iter().filter(|request| *request == "put offsets/0").count(), 1);
}

#[tokio::test]
async fn reading_is_repeated_within_bounds() {
    let mut failures = 2;
    let store = FaultyStore::new(move |request| {
        if request == "list offsets" && failures > 0 {
            failures -= 1;
            return Fault::Before;
        }
        Fault::None
    });
    open(&store).await;
    store.set_plan(|request| if request == "get metadata" { Fault::Before } else { Fault::None });
    let error = Checkpoint::open(at(&store), RunId::random(), quick()).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "CHECKPOINT_UNAVAILABLE"));
    assert!(error.message.contains("failed to read mem://checkpoint/metadata"), "{error}");
}

#[tokio::test]
async fn the_loser_of_a_race_is_told_who_won() {
    let store = Arc::new(InMemory::new());
    let (winner, loser) = (open(&store).await, open(&store).await);
    winner.write_offsets(0, entry(1)).await.unwrap();
    // The same offsets at the same time, yet another's.
    let error = loser.write_offsets(0, entry(1)).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Fatal, "CONCURRENT_STREAM_LOG_UPDATE"));
    for part in [
        "multiple streaming queries are concurrently using mem://checkpoint",
        "offsets/0 was written by run",
        &winner.run_id().to_string(),
        &loser.run_id().to_string(),
    ] {
        assert!(error.message.contains(part), "{error}");
    }
    assert_eq!(loser.write_offsets(0, entry(1)).await.unwrap_err().class, "CHECKPOINT_IN_DOUBT");
    winner.write_commit(0, CommitEntry::default()).await.unwrap();
}

#[tokio::test]
async fn two_runs_that_begin_at_once_share_the_query_id() {
    let store = Arc::new(InMemory::new());
    let (a, b) = tokio::join!(open(&store), open(&store));
    assert_eq!(a.query_id(), b.query_id());
}

#[tokio::test]
async fn entries_out_of_order_are_bugs() {
    let store = Arc::new(InMemory::new());
    let checkpoint = open(&store).await;
    let internal = |error: Error| assert_eq!(error.kind, ErrorKind::Internal, "{error}");
    internal(checkpoint.write_commit(0, CommitEntry::default()).await.unwrap_err());
    internal(checkpoint.write_offsets(1, entry(1)).await.unwrap_err());
    let broken = OffsetEntry { offsets: vec![Some("not json".into())], ..OffsetEntry::default() };
    internal(checkpoint.write_offsets(0, broken).await.unwrap_err());
    checkpoint.write_offsets(0, entry(1)).await.unwrap();
    internal(checkpoint.write_offsets(1, entry(2)).await.unwrap_err());
    checkpoint.write_commit(0, CommitEntry::default()).await.unwrap();
    internal(checkpoint.write_commit(0, CommitEntry::default()).await.unwrap_err());
    let two = OffsetEntry { offsets: vec![None, None], ..OffsetEntry::default() };
    internal(checkpoint.write_offsets(1, two).await.unwrap_err());
    // None of these has left the checkpoint in doubt.
    run_batch(&checkpoint, 1).await;
}

#[tokio::test]
async fn confs_stay_pinned() {
    let store = Arc::new(InMemory::new());
    let with = |conf: &[(&str, &str)], end| {
        let mut entry = entry(end);
        entry.metadata.conf = conf.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        entry
    };
    let first = open(&store).await;
    first.write_offsets(0, with(&[("spark.sql.shuffle.partitions", "5")], 1)).await.unwrap();
    first.write_commit(0, CommitEntry::default()).await.unwrap();
    let second = open(&store).await;
    let conf = [("spark.sql.shuffle.partitions", "200"), ("other", "1")];
    let written = second.write_offsets(1, with(&conf, 2)).await.unwrap();
    let stored = second.read_offsets(1).await.unwrap().unwrap();
    assert_eq!(stored, written);
    assert_eq!(stored.metadata.conf["spark.sql.shuffle.partitions"], "5");
    assert_eq!(stored.metadata.conf["other"], "1");
    assert_eq!(stored.metadata.run_id(), Some(second.run_id().to_string().as_str()));
}

#[tokio::test]
async fn logs_without_metadata_are_refused() {
    for (file, bytes) in [("offsets/0", "v1\n{}\n1"), ("commits/0", "v1\n{}")] {
        let store = Arc::new(InMemory::new());
        put(&*store, file, bytes).await;
        let error = Checkpoint::open(at(&store), RunId::random(), quick()).await.unwrap_err();
        assert_eq!(error.class, "STREAMING_CHECKPOINT_MISSING_METADATA_FILE");
        assert!(error.message.contains("mem://checkpoint/metadata"), "{error}");
    }
}

#[tokio::test]
async fn damaged_files_are_named_with_a_remedy() {
    async fn check(file: &str, bytes: &'static [u8], class: &str, expect: &[&str]) {
        let store = Arc::new(InMemory::new());
        for (path, content) in [
            ("metadata", "{\"id\":\"11111111-2222-4333-8444-555555555555\"}"),
            ("offsets/0", "v1\n{}\n1"),
            ("commits/0", "v1\n{}"),
            ("sources/0/0", "\0v1\n0"),
        ] {
            put(&*store, path, content).await;
        }
        put(&*store, file, Bytes::from_static(bytes)).await;
        let error = match Checkpoint::open(at(&store), RunId::random(), quick()).await {
            Ok(checkpoint) => checkpoint.initial_offset(0).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Fatal, class), "{error}");
        assert!(error.message.starts_with(&format!("mem://checkpoint/{file} cannot be")), "{error}");
        for part in expect {
            assert!(error.message.contains(part), "{error}");
        }
    }
    check("offsets/0", b"", "CHECKPOINT_CORRUPT", &["it is empty", "no commits/0, delete it"]).await;
    check("offsets/0", b"v1\n{\"batchWa", "CHECKPOINT_CORRUPT", &["holds 12 bytes of text"]).await;
    check("offsets/0", b"v7\n{}\n1", "UNSUPPORTED_LOG_VERSION", &["v7", "up to v2"]).await;
    check("commits/0", &[0; 64], "CHECKPOINT_CORRUPT", &["64 zero bytes", "batch 0 then runs again"]).await;
    check("commits/0", b"v9\n{}", "UNSUPPORTED_LOG_VERSION", &["v9", "up to v3"]).await;
    check("metadata", b"{\"id\":\"", "CHECKPOINT_CORRUPT", &["not the metadata of a query", "from a copy"]).await;
    check("metadata", b"{\"id\":\"x\"}", "CHECKPOINT_CORRUPT", &["not the metadata of a query"]).await;
    check("sources/0/0", b"v1\n0", "CHECKPOINT_CORRUPT", &["zero byte", "no offsets/0 yet"]).await;
}

#[tokio::test]
async fn only_numbered_files_count() {
    let store = Arc::new(InMemory::new());
    let checkpoint = open(&store).await;
    for batch_id in 0..11 {
        run_batch(&checkpoint, batch_id).await;
    }
    for name in [".11.crc", "99.tmp", ".99.abc.tmp", "0099", "99/part"] {
        put(&*store, &format!("offsets/{name}"), "x").await;
        put(&*store, &format!("commits/{name}"), "x").await;
    }
    // 10, not 9: ids are numbers.
    let Decision::Advance { batch_id: 11, .. } = open(&store).await.recover(1).unwrap() else { panic!() };
}

#[tokio::test]
async fn gaps_are_corrupt() {
    let store = Arc::new(InMemory::new());
    run_batch(&open(&store).await, 0).await;
    put(&*store, "offsets/2", "v1\n{}\n3").await;
    let error = open(&store).await.recover(1).unwrap_err();
    assert_eq!(error.class, "CHECKPOINT_CORRUPT");
    assert!(error.message.contains("mem://checkpoint") && error.message.contains("offsets above 1"), "{error}");
    let changed = open(&Arc::new(InMemory::new())).await;
    run_batch(&changed, 0).await;
    assert_eq!(changed.recover(2).unwrap_err().class, "STREAMING_SOURCES_CHANGED");
}

fn ids(files: &BTreeMap<String, Bytes>, log: &str) -> Vec<u64> {
    let mut ids =
        files.keys().filter_map(|name| name.strip_prefix(log)?.strip_prefix('/')?.parse().ok()).collect::<Vec<u64>>();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn old_entries_are_deleted_aside() {
    let store = Arc::new(InMemory::new());
    let options = Options { batches_retained_min: 5, purge_delay: Duration::ZERO, ..quick() };
    for (from, until) in [(0, 3), (3, 12), (12, 20)] {
        let checkpoint = Checkpoint::open(at(&store), RunId::random(), options).await.unwrap();
        for batch_id in from..until {
            run_batch(&checkpoint, batch_id).await;
        }
        let kept_from = (until - 1_u64).saturating_sub(5);
        let mut purged = checkpoint.purged.clone();
        purged.wait_for(|purged| *purged >= kept_from).await.unwrap();
        for log in ["offsets", "commits"] {
            assert_eq!(ids(&files(&*store).await, log), (kept_from..until).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn entries_outlive_a_pause() {
    let store = Arc::new(InMemory::new());
    let options = Options { batches_retained_min: 2, ..quick() };
    let checkpoint = Checkpoint::open(at(&store), RunId::random(), options).await.unwrap();
    for batch_id in 0..20 {
        run_batch(&checkpoint, batch_id).await;
    }
    assert_eq!(ids(&files(&*store).await, "offsets"), (0..20).collect::<Vec<_>>());
}

/// A coordinator that comes back after its next id was written, committed and purged creates that id again, and must
/// notice all the same.
#[tokio::test]
async fn a_sleeper_that_recreates_a_purged_entry_is_fenced() {
    let options = Options { batches_retained_min: 2, purge_delay: Duration::ZERO, ..quick() };
    for at_commit in [false, true] {
        let store = Arc::new(InMemory::new());
        let sleeper = Checkpoint::open(at(&store), RunId::random(), options).await.unwrap();
        run_batch(&sleeper, 0).await;
        if at_commit {
            sleeper.write_offsets(1, entry(2)).await.unwrap();
        }
        let other = Checkpoint::open(at(&store), RunId::random(), options).await.unwrap();
        if at_commit {
            other.write_commit(1, CommitEntry::default()).await.unwrap();
        }
        for batch_id in u64::from(at_commit) + 1..10 {
            run_batch(&other, batch_id).await;
        }
        other.purged.clone().wait_for(|purged| *purged >= 7).await.unwrap();
        let error = match at_commit {
            false => sleeper.write_offsets(1, entry(2)).await.unwrap_err(),
            true => sleeper.write_commit(1, CommitEntry::default()).await.unwrap_err(),
        };
        assert_eq!(error.class, "CONCURRENT_STREAM_LOG_UPDATE", "{error}");
        run_batch(&other, 10).await;
    }
}

#[test]
fn the_clock_that_saw_more_counts() {
    #[track_caller]
    fn check(monotonic_ms: u64, wall_ms: i64, expect_ms: u64) {
        let from = Contact::now();
        let to = Contact {
            monotonic: from.monotonic + Duration::from_millis(monotonic_ms),
            wall: from.wall + chrono::TimeDelta::milliseconds(wall_ms),
        };
        assert_eq!(from.until(to), Duration::from_millis(expect_ms));
    }
    check(5, 5, 5);
    // Suspended; then set back.
    check(5, 60_000, 60_000);
    check(5, -60_000, 5);
}

fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/checkpoint/v1")).join(name)
}

/// A golden folder copied into memory, hidden files and all, so that opening it cannot change it.
async fn golden_store(name: &str) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    for (path, bytes) in files(&LocalFileSystem::new_with_prefix(golden(name)).unwrap()).await {
        put(&*store, &path, bytes).await;
    }
    store
}

#[tokio::test]
async fn what_is_written_today_is_what_was_written_ever() {
    let run = RunId("0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap());
    let query = QueryId("7c9e6679-7425-40de-944b-e07fc1f90ae7".parse().unwrap());
    let store = Arc::new(InMemory::new());
    put(&*store, "metadata", encode_metadata(query)).await;
    let checkpoint = Checkpoint::open(at(&store), run, quick()).await.unwrap();
    let entry = |watermark, timestamp, offsets: [Option<&str>; 2]| OffsetEntry {
        metadata: OffsetMetadata {
            batch_watermark_ms: watermark,
            batch_timestamp_ms: timestamp,
            conf: BTreeMap::from([("spark.sql.shuffle.partitions".to_string(), "200".to_string())]),
        },
        offsets: offsets.map(|offset| offset.map(str::to_string)).to_vec(),
    };
    checkpoint.write_initial_offset(0, r#"{"users_created":{"0":0,"1":0}}"#).await.unwrap();
    let first = entry(0, 1_700_000_000_000, [Some(r#"{"users_created":{"0":10,"1":7}}"#), None]);
    checkpoint.write_offsets(0, first).await.unwrap();
    checkpoint.write_commit(0, CommitEntry { next_batch_watermark_ms: 1_699_999_990_000 }).await.unwrap();
    let second = entry(1_699_999_990_000, 1_700_000_005_000, [Some(r#"{"users_created":{"0":20,"1":7}}"#), Some("3")]);
    checkpoint.write_offsets(1, second).await.unwrap();

    let expect = files(&*golden_store("headwater").await).await;
    assert_eq!(files(&*store).await, expect);
}

#[tokio::test]
async fn golden_checkpoints_are_read_for_ever() {
    async fn check(name: &str, sources: usize, expect: impl FnOnce(&Checkpoint, Decision)) {
        let store = golden_store(name).await;
        let checkpoint = Checkpoint::open(at(&store), RunId::random(), quick()).await.unwrap();
        let decision = checkpoint.recover(sources).unwrap();
        expect(&checkpoint, decision.clone());
        // Whoever wrote it, the query goes on from there.
        match decision {
            Decision::Advance { batch_id, start, .. } => {
                let next = OffsetEntry { offsets: start, ..OffsetEntry::default() };
                checkpoint.write_offsets(batch_id, next).await.unwrap();
            }
            Decision::Rerun { batch_id, .. } => {
                checkpoint.write_commit(batch_id, CommitEntry::default()).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    check("headwater", 2, |checkpoint, decision| {
        assert_eq!(checkpoint.query_id().to_string(), "7c9e6679-7425-40de-944b-e07fc1f90ae7");
        let Decision::Rerun { batch_id, start, end, watermark_ms, metadata } = decision else { panic!() };
        assert_eq!((batch_id, watermark_ms, metadata.batch_timestamp_ms), (1, 1_699_999_990_000, 1_700_000_005_000));
        assert_eq!(start, [Some(r#"{"users_created":{"0":10,"1":7}}"#.to_string()), None]);
        assert_eq!(end, [Some(r#"{"users_created":{"0":20,"1":7}}"#.to_string()), Some("3".into())]);
    })
    .await;
    check("spark-3.5", 1, |checkpoint, decision| {
        assert_eq!(checkpoint.query_id().to_string(), "3f2b1c4e-5a6d-4e7f-8a9b-0c1d2e3f4a5b");
        let Decision::Advance { batch_id, start, watermark_ms, metadata } = decision else { panic!() };
        assert_eq!((batch_id, watermark_ms), (2, 0));
        assert_eq!(start, [Some(r#"{"users_created":{"2":33,"1":35,"0":32}}"#.to_string())]);
        assert_eq!(metadata.conf["spark.sql.shuffle.partitions"], "200");
        assert_eq!(metadata.run_id(), None);
    })
    .await;
    let initial = open(&golden_store("spark-3.5").await).await.initial_offset(0).await.unwrap();
    assert_eq!(initial.as_deref(), Some(r#"{"users_created":{"2":0,"1":0,"0":0}}"#));
    check("spark-4.2-log-v2", 2, |_, decision| {
        let Decision::Rerun { batch_id, start, end, .. } = decision else { panic!() };
        assert_eq!(batch_id, 1);
        assert_eq!(start, [Some(r#"{"users_created":{"0":5}}"#.to_string()), None]);
        assert_eq!(end, [Some(r#"{"users_created":{"0":9}}"#.to_string()), Some("12".into())]);
    })
    .await;
}
