//! The micro-batch protocol as a whole: the real manager, planner, catalog and logs over a folder, batches on a real
//! cluster in this process. Killed at every step, and a killed scheduler that comes back after another took over.

use super::manager::{Manager, StartOptions};
use super::query::{Failpoint, Step};
use crate::cluster::Cluster;
use crate::cluster::tests::TestCluster;
use crate::execute::{Outcome, Statements};
use crate::ha::{Candidate, Epochs, Ha, LEADERSHIP_LOST, Leader, Tenure};
use crate::session::Session;
use crate::sql::catalog::{Catalog, TableDefinition, Taken};
use crate::sql::parser;
use crate::sql::planner::Planner;
use crate::streaming::checkpoint::{self, Checkpoint, Location};
use crate::streaming::recovery::Decision;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::StreamExt;
use headwater_executor::connectors::files::location::{LazyObjectStoreRegistry, parse_location};
use headwater_executor::connectors::files::manifest;
use headwater_executor::connectors::kafka::admin::{Admin, EmbeddedBroker, NewRecord};
use headwater_executor::connectors::{
    self, Connector, Options, Sink, SinkContext, SinkTask, WriteCounts, WriteTask, Writer,
};
use headwater_proto::engine::QueryStatus;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ids::RunId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

/// Reached by failures alone.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// The table that sink `ledger` writes to: one row a value, the last write of it counts. It notes every write.
#[derive(Debug)]
struct Ledger {
    name: String,
    /// (batch, value), in order.
    writes: watch::Sender<Vec<(i64, i64)>>,
    /// (batch, its time, partition) of each task.
    tasks: Mutex<BTreeSet<(i64, Option<i64>, usize)>>,
    /// Every task begins with this.
    fault: Mutex<Option<Error>>,
    /// Tasks stop half way while this is true.
    held: watch::Sender<bool>,
    /// How many have been stopped there.
    halves: watch::Sender<usize>,
}

static LEDGERS: LazyLock<Mutex<BTreeMap<String, Arc<Ledger>>>> = LazyLock::new(Mutex::default);

impl Ledger {
    fn new() -> Arc<Self> {
        connectors::register(Arc::new(LedgerConnector));
        let ledger = Arc::new(Self {
            name: uuid::Uuid::new_v4().to_string(),
            writes: watch::Sender::default(),
            tasks: Mutex::default(),
            fault: Mutex::default(),
            held: watch::Sender::new(false),
            halves: watch::Sender::new(0),
        });
        LEDGERS.lock().unwrap().insert(ledger.name.clone(), Arc::clone(&ledger));
        ledger
    }
    fn by_name(name: &str) -> Result<Arc<Self>> {
        let ledgers = LEDGERS.lock().unwrap();
        ledgers.get(name).cloned().ok_or_else(|| Error::invalid("NO_SUCH_LEDGER", name))
    }
    /// As SQL creates it, by the name `target`.
    fn table(&self) -> String {
        format!("CREATE TABLE target USING ledger OPTIONS (ledger '{}');", self.name)
    }
    fn set_fault(&self, fault: Option<Error>) {
        *self.fault.lock().unwrap() = fault;
    }
    fn all(&self) -> Vec<(i64, i64)> {
        self.writes.borrow().clone()
    }
    /// Values in order, once for each write of them.
    fn values(&self) -> Vec<i64> {
        let mut values: Vec<_> = self.all().into_iter().map(|(_, value)| value).collect();
        values.sort_unstable();
        values
    }
    /// Values in order, once: a task may have written before its batch was run again.
    fn table_rows(&self) -> Vec<i64> {
        let mut values = self.values();
        values.dedup();
        values
    }
    /// Rows of the table by batch.
    fn rows_by_batch(&self) -> BTreeMap<i64, usize> {
        let mut rows = BTreeMap::new();
        for (batch, _) in self.all().into_iter().collect::<BTreeSet<_>>() {
            *rows.entry(batch).or_default() += 1;
        }
        rows
    }
    async fn has(&self, writes: usize) {
        let mut receiver = self.writes.subscribe();
        within("writes to the ledger", receiver.wait_for(|all| all.len() >= writes)).await.unwrap();
    }
    async fn stopped_half_way(&self, tasks: usize) {
        let mut receiver = self.halves.subscribe();
        within("tasks half way", receiver.wait_for(|halves| *halves >= tasks)).await.unwrap();
    }
}

#[derive(Debug)]
struct LedgerConnector;

#[async_trait::async_trait]
impl Connector for LedgerConnector {
    fn format(&self) -> &'static str {
        "ledger"
    }
    async fn sink(&self, options: &Options, _: SinkContext) -> Result<Arc<dyn Sink>> {
        let name = options.get("ledger").ok_or_else(|| Error::invalid("NO_SUCH_LEDGER", "option ledger"))?;
        Ok(Arc::new(LedgerSink(Ledger::by_name(name)?)))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(LedgerSink(Ledger::by_name(config)?)))
    }
}

#[derive(Debug)]
struct LedgerSink(Arc<Ledger>);

#[async_trait::async_trait]
impl Sink for LedgerSink {
    fn format(&self) -> &'static str {
        "ledger"
    }
    fn bad_records(&self) -> &'static str {
        "skip"
    }
    fn description(&self) -> String {
        "Ledger".into()
    }
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }
    fn writer_config(&self) -> String {
        self.0.name.clone()
    }
}

#[async_trait::async_trait]
impl Writer for LedgerSink {
    async fn open(&self, task: WriteTask, _: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        if let Some(fault) = self.0.fault.lock().unwrap().clone() {
            return Err(fault);
        }
        self.0.tasks.lock().unwrap().insert((task.batch_id, task.batch_time_ms, task.partition));
        let counts = WriteCounts::default();
        Ok(Box::new(LedgerTask { ledger: Arc::clone(&self.0), batch: task.batch_id, counts }))
    }
}

struct LedgerTask {
    ledger: Arc<Ledger>,
    batch: i64,
    counts: WriteCounts,
}

#[async_trait::async_trait]
impl SinkTask for LedgerTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let column = batch.column(0).as_primitive::<Int64Type>();
        let rows: Vec<_> = column.iter().flatten().map(|value| (self.batch, value)).collect();
        self.counts.rows += rows.len() as u64;
        self.counts.bad_rows += column.null_count() as u64;
        let (first, second) = rows.split_at(rows.len() / 2);
        self.ledger.writes.send_modify(|all| all.extend(first));
        if *self.ledger.held.borrow() {
            let mut held = self.ledger.held.subscribe();
            self.ledger.halves.send_modify(|halves| *halves += 1);
            held.wait_for(|held| !held).await.map_err(Error::internal)?;
        }
        self.ledger.writes.send_modify(|all| all.extend(second));
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        Ok((self.counts, None))
    }
}

/// What a scheduler process keeps in memory, over a state directory. The query of these tests is called `numbers`.
#[derive(Clone)]
struct Scheduler {
    statements: Statements,
    manager: Manager,
}

impl Scheduler {
    async fn open(state_dir: &Path, cluster: &Cluster, failpoint: Option<Failpoint>) -> Self {
        Self::open_as(state_dir, cluster, failpoint, Tenure::undisputed()).await
    }

    async fn open_as(state_dir: &Path, cluster: &Cluster, failpoint: Option<Failpoint>, tenure: Tenure) -> Self {
        let state_dir = state_dir.display().to_string();
        let (store, root, url) = parse_location(&state_dir, &Options::default()).unwrap();
        let warehouse = format!("{url}/warehouse");
        let catalog = Arc::new(Catalog::open(Arc::clone(&store), &root, warehouse).await.unwrap());
        let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(LazyObjectStoreRegistry::default()));
        let planner = Arc::new(Planner::new(catalog, runtime.build_arc().unwrap()));
        let opened = Manager::open(store, root, state_dir, cluster.clone(), Arc::clone(&planner), failpoint, tenure);
        let manager = opened.await.unwrap();
        Self { statements: Statements { planner, cluster: cluster.clone(), manager: manager.clone() }, manager }
    }

    /// Runs statements; returns the status of the last query that they started.
    async fn submit(&self, sql: &str, options: StartOptions) -> Result<QueryStatus> {
        let mut session = Session::new(BTreeMap::new())?;
        let mut started = Err(Error::invalid("NO_FLOW", sql));
        for statement in parser::parse(sql)? {
            if let Outcome::Started(status) = self.statements.execute(&statement, &mut session, &options, None).await? {
                started = Ok(status);
            }
        }
        started
    }

    async fn start(&self, sql: &str, trigger: &str) -> QueryStatus {
        let options = StartOptions { trigger: trigger.parse().unwrap(), ..Default::default() };
        self.submit(sql, options).await.unwrap()
    }

    fn status(&self) -> QueryStatus {
        self.manager.get("numbers").unwrap()
    }

    async fn until(&self, what: &str, expect: impl Fn(&QueryStatus) -> bool) -> QueryStatus {
        let (.., mut watch) = self.manager.progress("numbers").unwrap();
        let found = match tokio::time::timeout(DEADLINE, watch.wait_for(expect)).await {
            Ok(status) => Some(status.expect("the query is there").clone()),
            Err(_) => None,
        };
        found.unwrap_or_else(|| panic!("not {what} within {DEADLINE:?}: {:?}", *watch.borrow()))
    }

    async fn until_state(&self, state: &str) -> QueryStatus {
        self.until(state, |status| status.state == state).await
    }

    /// Until batch `batch_id` is committed and there is no more to do.
    async fn until_idle_after(&self, batch_id: i64) -> QueryStatus {
        let idle = |status: &QueryStatus| status.batch_id == batch_id && status.message.contains("Waiting for data");
        self.until("idle", idle).await
    }
}

/// Rows in a batch of [`RATE`].
const ROWS: i64 = 20;
const RATE: &str = "CREATE TABLE source USING rate-micro-batch OPTIONS (rowsPerBatch '20', numPartitions '2');";
const RATE_FLOW: &str = "CREATE FLOW numbers AS INSERT INTO target SELECT value FROM STREAM(source);";
const KAFKA_FLOW: &str = "CREATE FLOW numbers AS INSERT INTO target
    SELECT CAST(CAST(value AS STRING) AS BIGINT) AS value FROM STREAM(source);";

fn kafka_source(brokers: &str, subscribe: &str, options: &str) -> String {
    format!(
        "CREATE TABLE source USING kafka
         OPTIONS ('kafka.bootstrap.servers' '{brokers}', {subscribe}, startingOffsets 'earliest' {options});"
    )
}

/// A topic of two partitions, whose name is `numbers`.
struct Topic(EmbeddedBroker);

impl Topic {
    fn new() -> Self {
        Self(EmbeddedBroker::start([("numbers", 2)]).unwrap())
    }
    /// As SQL creates it, by the name `source`.
    fn table(&self, options: &str) -> String {
        kafka_source(self.0.address(), "subscribe 'numbers'", options)
    }
    /// Each to partition `value % 2`.
    async fn produce(&self, values: Range<i64>) {
        produce(self.0.address(), "numbers", values.map(|value| (value as i32 % 2, Some(value)))).await;
    }
}

async fn produce(brokers: &str, topic: &str, values: impl IntoIterator<Item = (i32, Option<i64>)>) {
    let records = values.into_iter().map(|(partition, value)| NewRecord {
        value: value.map(|value| value.to_string().into_bytes()),
        partition: Some(partition),
        ..Default::default()
    });
    Admin::new(brokers).unwrap().produce(topic, records.collect::<Vec<_>>()).await.unwrap();
}

/// The numbered entries of a log.
fn entries(checkpoint: &str, log: &str) -> BTreeMap<u64, Vec<u8>> {
    let Ok(files) = std::fs::read_dir(Path::new(checkpoint).join(log)) else { return BTreeMap::new() };
    let files = files.map(|file| file.unwrap().path());
    let numbered = files.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path)));
    numbered.map(|(id, path)| (id, std::fs::read(path).unwrap())).collect()
}

fn ids(checkpoint: &str, log: &str) -> Vec<u64> {
    entries(checkpoint, log).into_keys().collect()
}

async fn open(checkpoint: &str) -> Result<Checkpoint> {
    let location = Location::resolve(checkpoint).await.unwrap();
    Checkpoint::open(location, RunId::random(), checkpoint::Options::default()).await
}

/// Where the batches of a query with one source ended.
async fn ends(checkpoint: &str) -> Vec<Value> {
    let opened = open(checkpoint).await.unwrap();
    let mut ends = vec![];
    for id in ids(checkpoint, "offsets") {
        let entry = opened.read_offsets(id).await.unwrap().unwrap();
        ends.push(serde_json::from_str(entry.offsets[0].as_ref().unwrap()).unwrap());
    }
    ends
}

/// Lets the run reach batch `batch`, which fails with `error`.
fn fail_at(batch: u64, error: Error) -> Option<Failpoint> {
    Some(Arc::new(move |step, reached| match step {
        Step::BeforeOffsetWrite if reached == batch => Err(error.clone()),
        _ => Ok(()),
    }))
}

/// A scheduler that is killed. It freezes with all it has in memory: nothing is told, dropped or cancelled. When it is
/// thawed it goes on as a machine does that was suspended.
struct Killed {
    thread: std::thread::JoinHandle<QueryStatus>,
    thaw: std::sync::mpsc::Sender<()>,
}

/// When it is killed.
enum Kill {
    At(Step, u64),
    When(oneshot::Receiver<()>),
}

impl Killed {
    /// Starts a scheduler that runs `sql`; returns when it is dead.
    async fn start(state_dir: &Path, cluster: &Cluster, sql: &str, kill: Kill) -> Self {
        let (state_dir, cluster, sql) = (state_dir.to_path_buf(), cluster.clone(), sql.to_string());
        let (thaw, thawed) = std::sync::mpsc::channel();
        let (dead, died) = oneshot::channel();
        let mortal = Mutex::new(Some((dead, thawed)));
        // Blocks the one thread that everything of this scheduler runs on. Once.
        let freeze = Arc::new(move || {
            if let Some((dead, thawed)) = mortal.lock().unwrap().take() {
                dead.send(()).expect("the test waits for it");
                // The sender gone is the end of the test.
                let _ = thawed.recv();
            }
        });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let at_step = Arc::clone(&freeze);
                let (at, when) = match kill {
                    Kill::At(step, batch) => (Some((step, batch)), None),
                    Kill::When(when) => (None, Some(when)),
                };
                let failpoint: Failpoint = Arc::new(move |step, batch| {
                    if at == Some((step, batch)) {
                        at_step();
                    }
                    Ok(())
                });
                let scheduler = Scheduler::open(&state_dir, &cluster, Some(failpoint)).await;
                scheduler.start(&sql, "default").await;
                if let Some(when) = when {
                    when.await.unwrap();
                    freeze();
                }
                scheduler.until("over", |status| !["RUNNING", "WAITING"].contains(&status.state.as_str())).await
            })
        });
        within("the scheduler dies", died).await.unwrap();
        Self { thread, thaw }
    }

    /// It comes back; returns how its query ended.
    async fn thaw(self) -> QueryStatus {
        self.thaw.send(()).unwrap();
        let thread = tokio::task::spawn_blocking(|| self.thread.join().unwrap());
        within("the thawed scheduler's query ends", thread).await.unwrap()
    }
}

/// A folder of JSON files, or a ledger.
enum Target {
    Files(PathBuf),
    Ledger(Arc<Ledger>),
}

impl Target {
    fn table(&self) -> String {
        match self {
            Target::Files(folder) => format!("CREATE TABLE target USING json OPTIONS (path '{}');", folder.display()),
            Target::Ledger(ledger) => ledger.table(),
        }
    }
    /// (batch, value), as often as a reader sees it.
    fn rows(&self) -> Vec<(i64, i64)> {
        let mut rows: Vec<_> = match self {
            Target::Files(folder) => files_of_batches(folder),
            Target::Ledger(ledger) => ledger.all().into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        rows.sort_unstable();
        rows
    }
}

/// The rows that the log of a folder of JSON files shows: its first ten batches, which are not compacted.
fn files_of_batches(folder: &Path) -> Vec<(i64, i64)> {
    let mut rows = vec![];
    for batch in 0..9 {
        let Ok(log) = std::fs::read_to_string(folder.join(manifest::FOLDER).join(batch.to_string())) else { break };
        for file in manifest::deserialize(&log, "log").unwrap() {
            let path = url::Url::parse(&file.path).unwrap().to_file_path().unwrap();
            for line in std::fs::read_to_string(path).unwrap().lines() {
                rows.push((batch, serde_json::from_str::<Value>(line).unwrap()["value"].as_i64().unwrap()));
            }
        }
    }
    rows
}

/// A scheduler is killed, another takes over, the first comes back and is fenced, a third goes on.
async fn kill_and_take_over(cluster: &Cluster, case: &str, target: Target, kill: Kill, free: impl Future<Output = ()>) {
    let dir = tempfile::tempdir().unwrap();
    let sql = [RATE, &target.table(), RATE_FLOW].concat();
    let killed = Killed::start(dir.path(), cluster, &sql, kill).await;

    let decided = |checkpoint: &str| entries(checkpoint, "offsets");
    let second = Scheduler::open(dir.path(), cluster, fail_at(4, Error::transient("HELD", "enough"))).await;
    let checkpoint = second.status().checkpoint;
    // What the killed one had decided. The second may have decided more by now.
    let before = decided(&checkpoint);
    free.await;
    let held = second.until_state("RETRYING").await;
    assert!(held.message.contains("[HELD]"), "{case}: {held:?}");
    assert_eq!((held.batch_id, ids(&checkpoint, "offsets")), (3, vec![0, 1, 2, 3]), "{case}: it resumed by itself");
    assert_eq!(ids(&checkpoint, "commits"), [0, 1, 2, 3], "{case}");

    let thawed = killed.thaw().await;
    assert_eq!(thawed.state, "FAILED", "{case}: {thawed:?}");
    assert!(thawed.message.contains("[CONCURRENT_STREAM_LOG_UPDATE]"), "{case}: {thawed:?}");
    second.manager.shutdown().await;

    let third = Scheduler::open(dir.path(), cluster, fail_at(6, Error::fatal("ENOUGH", "enough"))).await;
    let status = third.until_state("FAILED").await;
    assert!(status.message.contains("[ENOUGH]"), "{case}: {status:?}");
    let after = decided(&checkpoint);
    for (id, entry) in before {
        assert_eq!(after[&id], entry, "{case}: offsets/{id} stays as it was first written");
    }
    assert_eq!(after.into_keys().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "{case}");
    assert_eq!(ids(&checkpoint, "commits"), [0, 1, 2, 3, 4, 5], "{case}");
    for (batch, end) in ends(&checkpoint).await.iter().enumerate() {
        assert_eq!(end["offset"], (batch as i64 + 1) * ROWS, "{case}: ranges without gap");
    }
    let expect: Vec<_> = (0..6 * ROWS).map(|value| (value / ROWS, value)).collect();
    assert_eq!(target.rows(), expect, "{case}: every row once, and in one batch only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_and_repeats_nothing() {
    let test = TestCluster::start(2, 2).await;
    let folders = tempfile::tempdir().unwrap();
    let mut cases = vec![];
    for step in Step::ALL {
        for batch in [0, 1] {
            let name = format!("{}-{batch}", step.name());
            cases.push((format!("{name}-files"), step, batch, Target::Files(folders.path().join(name.clone()))));
            cases.push((format!("{name}-ledger"), step, batch, Target::Ledger(Ledger::new())));
        }
    }
    assert_eq!(cases.len(), 20);
    let cases = futures::stream::iter(cases).for_each_concurrent(4, async |(case, step, batch, target)| {
        kill_and_take_over(&test.cluster, &case, target, Kill::At(step, batch), async {}).await;
    });
    cases.await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_batch_runs_it_twice_at_once() {
    let test = TestCluster::start(2, 2).await;
    let ledger = Ledger::new();
    ledger.held.send_replace(true);
    let (kill, when) = oneshot::channel();
    let aim = async {
        ledger.stopped_half_way(2).await;
        kill.send(()).unwrap();
    };
    // The tasks of the killed one are still there when those of the second begin.
    let free = async {
        ledger.stopped_half_way(4).await;
        assert_eq!(ledger.values().len() as i64, ROWS, "half of the batch, twice");
        ledger.held.send_replace(false);
    };
    let target = Target::Ledger(Arc::clone(&ledger));
    tokio::join!(aim, kill_and_take_over(&test.cluster, "in the middle", target, Kill::When(when), free));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn available_now_drains_what_is_there_at_the_start_and_ends() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..30).await;
    ledger.held.send_replace(true);
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&topic.table(", maxOffsetsPerTrigger '10'"), &ledger.table(), KAFKA_FLOW].concat();
    let checkpoint = scheduler.start(&sql, "available-now").await.checkpoint;
    ledger.stopped_half_way(2).await;
    // Too late for this run, also when an attempt of it fails.
    topic.produce(30..35).await;
    ledger.set_fault(Some(Error::transient("LEDGER_AWAY", "the ledger is away")));
    ledger.held.send_replace(false);
    scheduler.until_state("RETRYING").await;
    ledger.set_fault(None);
    scheduler.until_state("FINISHED").await;
    assert_eq!(ledger.table_rows(), (0..30).collect::<Vec<_>>());
    assert_eq!(ledger.rows_by_batch(), BTreeMap::from([(0, 10), (1, 10), (2, 10)]), "maxOffsetsPerTrigger splits");

    scheduler.manager.shutdown().await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let status = scheduler.status();
    assert_eq!((status.state.as_str(), status.batch_id), ("FINISHED", 2), "it is over, also for the next scheduler");
    scheduler.manager.restart("numbers").await.unwrap();
    scheduler.until_state("FINISHED").await;
    assert_eq!(ledger.table_rows(), (0..35).collect::<Vec<_>>());
    assert_eq!(ids(&checkpoint, "commits"), [0, 1, 2, 3]);
    // Nothing new: no batch.
    scheduler.manager.restart("numbers").await.unwrap();
    scheduler.until_state("FINISHED").await;
    assert_eq!(ids(&checkpoint, "offsets"), [0, 1, 2, 3]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers() {
    let test = TestCluster::start(1, 2).await;

    // Once: one batch, whatever the limits.
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..30).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&topic.table(", maxOffsetsPerTrigger '10'"), &ledger.table(), KAFKA_FLOW].concat();
    scheduler.start(&sql, "once").await;
    scheduler.until_state("FINISHED").await;
    assert_eq!(ledger.values(), (0..30).collect::<Vec<_>>());
    assert_eq!(ledger.rows_by_batch(), BTreeMap::from([(0, 30)]));

    // Processing time: one batch in an interval, though there is more to do.
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..30).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&topic.table(", maxOffsetsPerTrigger '10'"), &ledger.table(), KAFKA_FLOW].concat();
    let checkpoint = scheduler.start(&sql, "200 milliseconds").await.checkpoint;
    scheduler.until("through", |status| status.batch_id == 2).await;
    scheduler.manager.stop("numbers").await.unwrap();
    assert_eq!(ledger.values(), (0..30).collect::<Vec<_>>());
    let opened = open(&checkpoint).await.unwrap();
    let (mut intervals, mut tasks) = (vec![], BTreeSet::new());
    for id in ids(&checkpoint, "offsets") {
        let time = opened.read_offsets(id).await.unwrap().unwrap().metadata.batch_timestamp_ms;
        intervals.push(time / 200);
        tasks.extend([(id as i64, Some(time), 0), (id as i64, Some(time), 1)]);
    }
    assert_eq!(*ledger.tasks.lock().unwrap(), tasks, "tasks know the time of their batch and their place in it");
    assert!(intervals.len() == 3 && intervals.is_sorted_by(|a, b| a < b), "{intervals:?}");

    // Default: at once, and new data when it comes; with a minimum, what is there at first, then when there is enough.
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..5).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&topic.table(", minOffsetsPerTrigger '10'"), &ledger.table(), KAFKA_FLOW].concat();
    let started = scheduler.start(&sql, "default").await;
    scheduler.until_idle_after(0).await;
    assert_eq!(ledger.values(), (0..5).collect::<Vec<_>>());
    topic.produce(5..10).await;
    let looked = scheduler.manager.process_all_available(&started.id, &started.run_id);
    assert!(within("a look", looked).await.unwrap().is_none());
    assert_eq!(ids(&started.checkpoint, "offsets"), [0], "5 are too few");
    topic.produce(10..15).await;
    scheduler.until_idle_after(1).await;
    assert_eq!(ledger.values(), (0..15).collect::<Vec<_>>());
    topic.produce(15..35).await;
    ledger.has(35).await;
    scheduler.until("idle", |status| status.batch_id >= 2 && status.message.contains("Waiting for data")).await;
    assert_eq!(ledger.values(), (0..35).collect::<Vec<_>>());
    let rows = ledger.rows_by_batch();
    assert!(rows.iter().all(|(batch, rows)| *batch == 0 || *rows >= 10), "{rows:?}");
    scheduler.manager.shutdown().await;
    test.stop().await;
}

/// However busy another source is: what waits for more records is read when its time is up.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_few_records_does_not_wait_for_ever_beside_a_busy_one() {
    const FEW: i64 = 1_000_000_000;
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    let busy = RATE.replace("TABLE source", "TABLE busy");
    let flow = "CREATE FLOW numbers AS INSERT INTO target SELECT value FROM STREAM(busy)
        UNION ALL SELECT CAST(CAST(value AS STRING) AS BIGINT) AS value FROM STREAM(source);";
    let few = topic.table(", minOffsetsPerTrigger '1000', maxTriggerDelay '2s'");
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    topic.produce(FEW..FEW + 4).await;
    scheduler.start(&[&busy, &few, &ledger.table(), flow].concat(), "default").await;
    let has_few = async |count: i64| {
        let mut writes = ledger.writes.subscribe();
        let few = |all: &Vec<(i64, i64)>| all.iter().filter(|(_, value)| *value >= FEW).count() as i64 >= count;
        drop(within("records of the topic", writes.wait_for(few)).await.unwrap());
    };
    has_few(4).await;
    topic.produce(FEW + 4..FEW + 8).await;
    has_few(8).await;
    scheduler.manager.shutdown().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_stopped_restarted_and_deleted() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    let tables = [topic.table(""), ledger.table()].concat();
    topic.produce(0..10).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let started = scheduler.start(&[&tables, KAFKA_FLOW].concat(), "default").await;
    ledger.has(10).await;

    let error = scheduler.submit(KAFKA_FLOW, StartOptions::default()).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::AlreadyExists, "STREAMING_QUERY_ALREADY_ACTIVE"));
    assert!(error.message.contains(&started.id), "{error}");
    let error = scheduler.manager.delete("numbers").await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "STREAMING_QUERY_ACTIVE"));
    let options =
        StartOptions { name: Some("other".into()), checkpoint: Some(started.checkpoint.clone()), ..Default::default() };
    let error = scheduler.submit(KAFKA_FLOW, options).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::AlreadyExists, "STREAMING_CHECKPOINT_OF_ANOTHER_QUERY"));
    let error = scheduler.manager.stop("nobody").await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::NotFound, "STREAMING_QUERY_NOT_FOUND"));
    scheduler.until_idle_after(0).await;

    assert_eq!(scheduler.manager.stop(&started.id[..8]).await.unwrap().state, "STOPPED");
    assert_eq!(scheduler.manager.stop("numbers").await.unwrap().state, "STOPPED", "again: as it is");
    topic.produce(10..20).await;
    scheduler.manager.shutdown().await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    assert_eq!(scheduler.status().state, "STOPPED", "a restart of the scheduler does not start it");
    let restarted = scheduler.manager.restart("numbers").await.unwrap();
    assert_eq!(restarted.message, "Started again from its checkpoint");
    assert_eq!(restarted.id, started.id);
    scheduler.until_idle_after(1).await;
    assert_eq!(ledger.values(), (0..20).collect::<Vec<_>>());

    // A restart of one that runs; and a shutdown, after which it resumes.
    let run = scheduler.status().run_id;
    scheduler.manager.restart("numbers").await.unwrap();
    let again = scheduler.until("running", |status| status.state == "WAITING" && status.run_id != run).await;
    assert_eq!(again.id, started.id);
    scheduler.manager.shutdown().await;
    topic.produce(20..30).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    scheduler.until_idle_after(2).await;
    assert_eq!(ledger.values(), (0..30).collect::<Vec<_>>());

    scheduler.manager.stop("numbers").await.unwrap();
    let deleted = scheduler.manager.delete("numbers").await.unwrap();
    assert_eq!(deleted.id, started.id);
    assert_eq!(scheduler.manager.get("numbers").unwrap_err().class, "STREAMING_QUERY_NOT_FOUND");
    assert!(entries(&started.checkpoint, "offsets").is_empty() && open(&started.checkpoint).await.is_ok());
    assert_eq!(Scheduler::open(dir.path(), &test.cluster, None).await.manager.list(), []);
    // From the beginning, as another query.
    let fresh = scheduler.start(KAFKA_FLOW, "available-now").await;
    assert!(fresh.id != started.id && fresh.checkpoint != started.checkpoint, "{fresh:?}");
    scheduler.until_state("FINISHED").await;
    assert_eq!(ledger.values().len(), 60);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_query_is_taken_up_by_its_flow() {
    let test = TestCluster::start(1, 2).await;
    let (dir, topic) = (tempfile::tempdir().unwrap(), Topic::new());
    let folder = dir.path().join("rows");
    let target = Target::Files(folder.clone());
    topic.produce(0..10).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let started = scheduler.start(&[&topic.table(""), &target.table(), KAFKA_FLOW].concat(), "default").await;
    // Refused, and the running one keeps its folder.
    let error = scheduler.submit(KAFKA_FLOW, StartOptions::default()).await.unwrap_err();
    assert_eq!(error.class, "STREAMING_QUERY_ALREADY_ACTIVE");
    scheduler.until_idle_after(0).await;
    scheduler.manager.restart("numbers").await.unwrap();
    topic.produce(10..20).await;
    scheduler.until_idle_after(1).await;
    scheduler.manager.stop("numbers").await.unwrap();
    topic.produce(20..30).await;
    let again = scheduler.start(KAFKA_FLOW, "available-now").await;
    assert_eq!((&again.id, &again.checkpoint), (&started.id, &started.checkpoint));
    scheduler.until_state("FINISHED").await;
    let expect: Vec<_> = (0..30).map(|value| (value / 10, value)).collect();
    assert_eq!(target.rows(), expect);

    // With another checkpoint it would begin with batch 0 again, which the folder has: refused, nothing is lost.
    let checkpoint = Some(dir.path().join("new").display().to_string());
    let error = scheduler.submit(KAFKA_FLOW, StartOptions { checkpoint, ..Default::default() }).await.unwrap_err();
    assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
    assert_eq!(scheduler.status().id, started.id);
    scheduler.manager.restart("numbers").await.unwrap();
    scheduler.until_state("FINISHED").await;
    assert_eq!(target.rows(), expect);
    test.stop().await;
}

/// The checkpoints of a state directory that a query has begun.
fn begun(state_dir: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(state_dir.join("checkpoints")).unwrap().map(|folder| folder.unwrap().path());
    folders.filter(|folder| folder.join("metadata").exists()).map(|folder| folder.display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_flows_do_not_share_a_folder() {
    let test = TestCluster::start(1, 2).await;
    let (dir, topic) = (tempfile::tempdir().unwrap(), Topic::new());
    let target = Target::Files(dir.path().join("rows"));
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    // The topic is empty: neither would have committed anything.
    let first = scheduler.start(&[&topic.table(""), &target.table(), KAFKA_FLOW].concat(), "default").await;
    let other = KAFKA_FLOW.replace("FLOW numbers", "FLOW others");
    let error = scheduler.submit(&other, StartOptions::default()).await.unwrap_err();
    assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
    assert!(error.message.contains(&first.id), "{error}");
    assert_eq!(begun(dir.path()), std::slice::from_ref(&first.checkpoint), "of the other nothing is left");
    assert_eq!(scheduler.manager.list().len(), 1);
    scheduler.until_state("WAITING").await;
    scheduler.manager.stop("numbers").await.unwrap();
    scheduler.submit(&other, StartOptions::default()).await.unwrap_err();

    // A query that has written nothing gives its folder back.
    scheduler.manager.delete("numbers").await.unwrap();
    scheduler.submit(&other, StartOptions::default()).await.unwrap();
    scheduler.manager.stop("others").await.unwrap();
    scheduler.manager.delete("others").await.unwrap();
    topic.produce(0..10).await;
    let again = scheduler.start(KAFKA_FLOW, "available-now").await;
    assert_ne!(again.id, first.id);
    scheduler.until_state("FINISHED").await;
    assert_eq!(target.rows(), (0..10).map(|value| (0, value)).collect::<Vec<_>>());

    // As Spark leaves it: a batch 0, and nobody's name. It is not that of a query which begins with batch 0.
    scheduler.manager.delete("numbers").await.unwrap();
    let owner = dir.path().join("rows/_spark_metadata/.headwater-query");
    std::fs::remove_file(&owner).unwrap();
    let error = scheduler.submit(&other, StartOptions::default()).await.unwrap_err();
    assert_eq!(error.class, "STREAMING_OUTPUT_OF_ANOTHER_QUERY");
    assert!(error.message.contains("has none"), "{error}");
    assert!(!owner.exists(), "the folder is given back");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_refused_and_goes_on_when_it_is_restored() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..8).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&topic.table(", maxOffsetsPerTrigger '4'"), &ledger.table(), KAFKA_FLOW].concat();
    let checkpoint = scheduler.start(&sql, "available-now").await.checkpoint;
    scheduler.until_state("FINISHED").await;
    assert_eq!(ids(&checkpoint, "offsets"), [0, 1]);
    topic.produce(8..12).await;

    let damages: [(&str, Option<&str>, &str); 5] = [
        ("metadata", None, "STREAMING_CHECKPOINT_MISSING_METADATA_FILE"),
        ("offsets/1", Some("v1\n{\"batchWatermarkMs\":0"), "CHECKPOINT_CORRUPT"),
        ("offsets/1", None, "CHECKPOINT_CORRUPT"),
        ("offsets/1", Some("v9\n{}\n{}"), "UNSUPPORTED_LOG_VERSION"),
        ("metadata", Some(r#"{"id":"7c9e6679-7425-40de-944b-e07fc1f90ae7"}"#), "STREAMING_CHECKPOINT_OF_ANOTHER_QUERY"),
    ];
    for (file, text, class) in damages {
        let path = Path::new(&checkpoint).join(file);
        let whole = std::fs::read(&path).unwrap();
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        scheduler.manager.restart("numbers").await.unwrap();
        let status = scheduler.until_state("FAILED").await;
        assert!(status.message.contains(&format!("[{class}]")), "{file}: {status:?}");
        assert!(status.message.contains(&checkpoint), "{file}: the place is named: {status:?}");
        assert_eq!(ledger.values(), (0..8).collect::<Vec<_>>(), "{file}");
        std::fs::write(&path, whole).unwrap();
    }
    scheduler.manager.restart("numbers").await.unwrap();
    scheduler.until_state("FINISHED").await;
    assert_eq!(ledger.values(), (0..12).collect::<Vec<_>>());
    assert_eq!(ids(&checkpoint, "commits"), [0, 1, 2]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_and_what_will_not_is_kept() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..10).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    ledger.set_fault(Some(Error::transient("LEDGER_AWAY", "nobody answers at ledger:1")));
    scheduler.start(&[&topic.table(""), &ledger.table(), KAFKA_FLOW].concat(), "default").await;
    let status = scheduler.until_state("RETRYING").await;
    assert!(status.message.starts_with("[LEDGER_AWAY] nobody answers at ledger:1"), "{status:?}");
    // A second attempt, which fails as well.
    scheduler.until("at the second pause", |status| status.message.contains("trying again in 1s")).await;
    ledger.set_fault(None);
    let status = scheduler.until_idle_after(0).await;
    assert!(!status.message.contains("LEDGER_AWAY"), "{status:?}");
    // The failed attempt's other task may have begun after the fault had passed: its rows are written again.
    assert_eq!(ledger.table_rows(), (0..10).collect::<Vec<_>>());

    ledger.set_fault(Some(Error::fatal("LEDGER_FULL", "no page is left")));
    topic.produce(10..20).await;
    let status = scheduler.until_state("FAILED").await;
    assert_eq!(status.message, "[LEDGER_FULL] no page is left", "class and text of the task's error, and no more");
    scheduler.manager.shutdown().await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let kept = scheduler.status();
    assert_eq!((kept.state.as_str(), &kept.message), ("FAILED", &status.message), "it still says why");
    ledger.set_fault(None);
    scheduler.manager.restart("numbers").await.unwrap();
    scheduler.until_idle_after(1).await;
    assert_eq!(ledger.table_rows(), (0..20).collect::<Vec<_>>());
    scheduler.manager.shutdown().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_passes_its_deadline_runs_again() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..10).await;
    ledger.held.send_replace(true);
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    // Long enough for its tasks to be half way, on any machine.
    let deadline = "SET headwater.batch.deadline = '2 seconds';";
    let sql = [deadline, &topic.table(""), &ledger.table(), KAFKA_FLOW].concat();
    let checkpoint = scheduler.start(&sql, "default").await.checkpoint;
    let status = scheduler.until_state("RETRYING").await;
    assert!(status.message.starts_with("[JOB_DEADLINE_EXCEEDED]"), "{status:?}");
    assert!(*ledger.halves.borrow() > 0, "it was in the middle");
    // More than the batch may read when it runs again.
    topic.produce(10..20).await;
    let decided = entries(&checkpoint, "offsets");
    assert_eq!(decided.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(ids(&checkpoint, "commits"), [0; 0]);
    // The tasks of the next attempt are there, and go on to the end.
    ledger.stopped_half_way(4).await;
    ledger.held.send_replace(false);
    scheduler.until_idle_after(1).await;
    assert_eq!(entries(&checkpoint, "offsets")[&0], decided[&0], "the same offsets");
    assert_eq!(ids(&checkpoint, "commits"), [0, 1]);
    assert_eq!(ledger.rows_by_batch(), BTreeMap::from([(0, 10), (1, 10)]));
    assert_eq!(ledger.table_rows(), (0..20).collect::<Vec<_>>());
    scheduler.manager.shutdown().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_one_that_was_got_over_is_the_first_again() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..10).await;
    // Each once: when batch 0 is committed, so that there is nothing to do, and before batch 1.
    let failures = Mutex::new(vec![(Step::BeforeOffsetWrite, 1), (Step::AfterCommitWrite, 0)]);
    let failpoint: Failpoint = Arc::new(move |step, batch| {
        let mut failures = failures.lock().unwrap();
        match failures.last() {
            Some(next) if *next == (step, batch) => {
                failures.pop();
                Err(Error::transient("AWAY", "away for a moment"))
            }
            _ => Ok(()),
        }
    });
    let scheduler = Scheduler::open(dir.path(), &test.cluster, Some(failpoint)).await;
    scheduler.start(&[&topic.table(""), &ledger.table(), KAFKA_FLOW].concat(), "default").await;
    let failed = |status: &QueryStatus| status.trouble.as_ref().map(|trouble| (trouble.attempts, trouble.since_ms));
    let first = failed(&scheduler.until_state("RETRYING").await).expect("it says why");
    let idle = scheduler.until("idle", |status| status.message.contains("Waiting for data")).await;
    assert_eq!(failed(&idle), None);
    topic.produce(10..20).await;
    let second = failed(&scheduler.until_state("RETRYING").await).expect("it says why");
    assert_eq!((first.0, second.0), (1, 1));
    assert!(second.1 > first.1, "since when it fails now: {first:?} {second:?}");
    scheduler.until_idle_after(1).await;
    assert_eq!(ledger.values(), (0..20).collect::<Vec<_>>());
    scheduler.manager.shutdown().await;
    test.stop().await;
}

/// Records that were dropped while the query was stopped: it fails, and goes on without them when told to.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_records_are_gone_fails_unless_told_otherwise() {
    const FLOW: &str = "CREATE FLOW numbers AS INSERT INTO target SELECT offset FROM STREAM(source);";
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    let topic = Topic(EmbeddedBroker::start([("numbers", 1)]).unwrap());
    let record = |size: usize| NewRecord { partition: Some(0), ..NewRecord::of_value("x".repeat(size)) };
    let admin = Admin::new(topic.0.address()).unwrap();
    admin.produce("numbers", (0..10).map(|_| record(1))).await.unwrap();
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    // Or its consumer reads ahead while the records are still there.
    let table = topic.table(", 'spark.kafka.consumer.cache.timeout' '1ms'");
    let started = scheduler.start(&[&table, &ledger.table(), FLOW].concat(), "default").await;
    scheduler.until_idle_after(0).await;
    scheduler.manager.stop("numbers").await.unwrap();

    // Overflows the partition. Whole message sets are dropped: each of these is one.
    for _ in 0..100 {
        admin.produce("numbers", [record(100_000)]).await.unwrap();
    }
    let log = &admin.describe_topic("numbers").await.unwrap().partitions[0];
    let (begin, end) = (log.earliest.unwrap(), log.latest.unwrap());
    assert!(begin > 10 && end == 110, "nothing was dropped: {begin}..{end}");
    scheduler.manager.restart("numbers").await.unwrap();
    let status = scheduler.until_state("FAILED").await;
    assert!(status.message.contains("[KAFKA_DATA_LOSS]"), "{status:?}");
    assert!(status.message.contains("topic numbers partition 0"), "{status:?}");
    assert_eq!(ids(&started.checkpoint, "commits"), [0]);
    assert_eq!(ledger.values(), (0..10).collect::<Vec<_>>());

    let table = topic.table(", failOnDataLoss 'false'").replace("CREATE TABLE", "CREATE OR REPLACE TABLE");
    let again = scheduler.start(&[&table, FLOW].concat(), "default").await;
    assert_eq!((&again.id, &again.checkpoint), (&started.id, &started.checkpoint));
    scheduler.until_idle_after(1).await;
    assert_eq!(ledger.table_rows(), (0..10).chain(begin..end).collect::<Vec<_>>());
    scheduler.manager.shutdown().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_given_another_topic_decides_no_batch_and_goes_on_with_its_own() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    let topic = Topic(EmbeddedBroker::start([("numbers", 2), ("other", 1)]).unwrap());
    topic.produce(0..10).await;
    produce(topic.0.address(), "other", [(0, Some(100))]).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let started = scheduler.start(&[&topic.table(""), &ledger.table(), KAFKA_FLOW].concat(), "default").await;
    scheduler.until_idle_after(0).await;
    scheduler.manager.stop("numbers").await.unwrap();

    let replace = |table: String| table.replace("CREATE TABLE", "CREATE OR REPLACE TABLE");
    let other = replace(kafka_source(topic.0.address(), "subscribe 'other'", ""));
    scheduler.start(&[&other, KAFKA_FLOW].concat(), "default").await;
    let status = scheduler.until_state("FAILED").await;
    assert!(status.message.contains("[KAFKA_DATA_LOSS]"), "{status:?}");
    assert_eq!(ids(&started.checkpoint, "offsets"), [0]);

    topic.produce(10..20).await;
    let own = replace(topic.table(""));
    let again = scheduler.start(&[&own, KAFKA_FLOW].concat(), "default").await;
    assert_eq!(again.id, started.id);
    scheduler.until_idle_after(1).await;
    assert_eq!(ledger.values(), (0..20).collect::<Vec<_>>());
    scheduler.manager.shutdown().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_with_the_batch_and_not_with_the_next_trigger() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    ledger.held.send_replace(true);
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let checkpoint = scheduler.start(&[RATE, &ledger.table(), RATE_FLOW].concat(), "1 hour").await.checkpoint;
    ledger.stopped_half_way(2).await;
    // Polled in this order: the run is told before its batch goes on.
    let drain = scheduler.manager.drain(Duration::from_secs(7200));
    let go_on = async { ledger.held.send_replace(false) };
    within("the drain ends", async { tokio::join!(drain, go_on) }).await;
    assert_eq!(ids(&checkpoint, "commits"), [0]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_executors_as_the_scheduler_ends_has_not_failed() {
    let test = TestCluster::start(0, 1).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    scheduler.start(&[RATE, &ledger.table(), RATE_FLOW].concat(), "default").await;
    scheduler.until("without executors", |status| status.message.contains("Waiting for executors")).await;
    within("the drain ends", scheduler.manager.drain(Duration::from_secs(7200))).await;
    assert_eq!(scheduler.manager.monitors()[0].metrics().retries.get(), 0);
    assert_eq!(scheduler.status().state, "STOPPED");
    test.stop().await;
}

/// As when everything is stopped at once: the batch has been handed over, and the last executor leaves without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_no_executor_is_left_for_does_not_hold_up_a_drain() {
    let test = TestCluster::start(0, 1).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    test.register_idle("last").await;
    let sql = [RATE, &ledger.table(), RATE_FLOW].concat();
    let checkpoint = scheduler.start(&sql, "default").await.checkpoint;
    within("the batch is handed over", test.has_job()).await;
    test.deregister("last").await;
    within("the drain ends", scheduler.manager.drain(Duration::from_secs(7200))).await;
    assert_eq!(scheduler.status().state, "STOPPED");
    assert_eq!((ids(&checkpoint, "offsets"), ids(&checkpoint, "commits")), (vec![0], vec![]));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_table_takes_its_files_along() {
    let test = TestCluster::start(1, 2).await;
    let dir = tempfile::tempdir().unwrap();
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let run = async |sql: &str| match scheduler.submit(sql, StartOptions::default()).await {
        Err(error) if error.class == "NO_FLOW" => String::new(),
        Err(error) => error.class,
        Ok(_) => "STARTED".into(),
    };
    // What is in a folder; none: there is no folder.
    let files = |folder: &str| -> Option<usize> {
        let entries = std::fs::read_dir(dir.path().join(folder)).ok()?;
        Some(entries.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count())
    };
    let table = |name: &str| scheduler.statements.planner.catalog().get(name);
    let has = |column: &str| table("z").and_then(|z| z.schema).is_some_and(|schema| schema.starts_with(column));
    assert_eq!(run("CREATE TABLE z USING json AS SELECT 1 AS a").await, "");
    assert_eq!(files("warehouse/z"), Some(1));
    assert_eq!(run("DROP TABLE z; CREATE TABLE z USING json AS SELECT 2 AS a").await, "");
    assert_eq!(files("warehouse/z"), Some(1), "the rows of before are gone");
    // A statement that fails leaves all as it was.
    let failing = "SELECT CAST(raise_error('no') AS INT) AS a";
    assert_ne!(run(&format!("CREATE OR REPLACE TABLE z USING json AS {failing}")).await, "");
    assert_eq!((files("warehouse/z"), has("a INT")), (Some(1), true));
    assert_ne!(run(&format!("CREATE TABLE f USING json AS {failing}")).await, "");
    assert_eq!((files("warehouse/f"), table("f")), (None, None));
    // So does one that is cancelled.
    let until = async |done: &dyn Fn() -> bool| {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (there, gone) = (|| table("cut").is_some(), || table("cut").is_none());
    tokio::select! {
        class = run("CREATE TABLE cut USING json AS SELECT count(*) AS n FROM range(1000000000000)") => panic!("{class}"),
        () = until(&there) => {}
    }
    within("the table is taken back", until(&gone)).await;
    assert_eq!(run("CREATE TABLE cut USING json AS SELECT 1 AS a; DROP TABLE cut").await, "");
    // A rename that is cut short leaves two names of one folder: its rows go with the last of them.
    assert_eq!(run("CREATE TABLE one USING json AS SELECT 1 AS a").await, "");
    let two = TableDefinition { name: "two".into(), ..table("one").unwrap() };
    scheduler.statements.planner.catalog().create(two, Taken::Refuse).await.unwrap();
    assert_eq!(run("DROP TABLE one").await, "");
    assert_eq!((files("warehouse/one"), table("one")), (Some(1), None));
    assert_eq!(run("DROP TABLE two").await, "");
    assert_eq!(files("warehouse/one"), None);
    assert_eq!(run("CREATE OR REPLACE TABLE z (b INT) USING json").await, "");
    assert_eq!((files("warehouse/z"), has("b INT")), (None, true));
    assert_eq!(run("INSERT INTO z VALUES (3)").await, "");
    // It was renamed, and has its folder: the next one has another.
    assert_eq!(run("ALTER TABLE z RENAME TO y; CREATE TABLE z USING json AS SELECT 4 AS a; DROP TABLE z").await, "");
    assert_eq!((files("warehouse/z"), files("warehouse/z_2")), (Some(1), None));
    let place = dir.path().join("out").display().to_string();
    let external = format!("CREATE TABLE e USING json LOCATION '{place}' AS SELECT 1 AS a");
    assert_eq!(run(&external).await, "");
    assert_eq!(run("DROP TABLE e").await, "");
    assert_eq!(files("out"), Some(1), "what was given its place stays");
    assert_eq!(run(&external).await, "_LEGACY_ERROR_TEMP_1241");
    // The folder of the table becomes that of another definition of it: nothing is removed.
    let kept =
        format!("CREATE OR REPLACE TABLE y (b INT) USING json LOCATION '{}'", dir.path().join("warehouse/z").display());
    assert_eq!(run(&kept).await, "");
    assert_eq!((files("warehouse/z"), table("y").map(|y| y.kind())), (Some(1), Some("EXTERNAL")));
    let database = "CREATE DATABASE d; CREATE TABLE d.t USING json AS SELECT 1 AS a";
    assert_eq!(run(database).await, "");
    assert_eq!(files("warehouse/d.db/t"), Some(1));
    assert_eq!(run("DROP DATABASE d CASCADE").await, "");
    assert_eq!(files("warehouse/d.db/t"), None);

    let flow = "CREATE STREAMING TABLE numbers USING json AS SELECT value FROM STREAM(source)";
    scheduler.start(&[RATE, flow].concat(), "default").await;
    scheduler.until("a batch", |status| status.batch_id > 0).await;
    assert_eq!(run("DROP TABLE numbers").await, "STREAMING_QUERY_ACTIVE");
    assert!(table("numbers").is_some_and(|numbers| numbers.managed) && files("warehouse/numbers") > Some(0));
    scheduler.manager.stop("numbers").await.unwrap();
    assert_eq!(run("DROP TABLE numbers").await, "");
    assert_eq!((files("warehouse/numbers"), table("numbers")), (None, None));
    scheduler.manager.shutdown().await;
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_commits_no_batch_write() {
    let test = TestCluster::start(1, 2).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("rows");
    let epochs = Epochs::new(Arc::new(object_store::memory::InMemory::new()), &object_store::path::Path::from("state"));
    let me = Leader { holder: uuid::Uuid::new_v4(), address: "h:1".into(), process: "p".into() };
    let leadership = Candidate::new(epochs, Some(&Ha::StateDir), me).campaign().await.unwrap();
    let scheduler = Scheduler::open_as(dir.path(), &test.cluster, None, leadership.tenure().clone()).await;
    let files = || {
        let names = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".json")).count()
    };
    let table = format!("CREATE TABLE target (value BIGINT) USING json OPTIONS (path '{}');", folder.display());
    let insert = "INSERT INTO target VALUES (7);";
    let error = scheduler.submit(&(table + insert), StartOptions::default()).await.unwrap_err();
    assert_eq!((error.class.as_str(), files()), ("NO_FLOW", 1), "{error}");
    leadership.end().await.unwrap();
    let error = scheduler.submit(insert, StartOptions::default()).await.unwrap_err();
    assert_eq!((error.class.as_str(), files()), (LEADERSHIP_LOST, 1), "{error}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_takes_no_files_into_the_log_of_a_source() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    let folder = dir.path().join("in");
    std::fs::create_dir(&folder).unwrap();
    let drop_file = |name: &str, value: i64| {
        std::fs::write(dir.path().join(name), format!("{{\"value\":{value}}}\n")).unwrap();
        std::fs::rename(dir.path().join(name), folder.join(name)).unwrap();
    };
    let epochs = Epochs::new(Arc::new(object_store::memory::InMemory::new()), &object_store::path::Path::from("state"));
    let me = Leader { holder: uuid::Uuid::new_v4(), address: "h:1".into(), process: "p".into() };
    let leadership = Candidate::new(epochs, Some(&Ha::StateDir), me).campaign().await.unwrap();
    let scheduler = Scheduler::open_as(dir.path(), &test.cluster, None, leadership.tenure().clone()).await;
    drop_file("a.json", 7);
    let table = format!("CREATE TABLE source (value BIGINT) USING json OPTIONS (path '{}');", folder.display());
    let checkpoint = scheduler.start(&[&table, &ledger.table(), RATE_FLOW].concat(), "default").await.checkpoint;
    scheduler.until_idle_after(0).await;
    let log = Path::new(&checkpoint).join("sources/0/files");
    assert!(log.join("0").exists());
    leadership.end().await.unwrap();
    drop_file("b.json", 8);
    let status = scheduler.until_state("FAILED").await;
    assert!(status.message.contains(LEADERSHIP_LOST), "{status:?}");
    assert!(!log.join("1").exists());
    assert_eq!(ledger.values(), [7]);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bug_in_a_run_fails_its_query_and_no_other() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    // Unwinds without the panic hook's noise.
    let failpoint: Failpoint = Arc::new(|step, batch| match (step, batch) {
        (Step::AfterRun, 1) => std::panic::resume_unwind(Box::new("a bug")),
        _ => Ok(()),
    });
    let scheduler = Scheduler::open(dir.path(), &test.cluster, Some(failpoint)).await;
    scheduler.start(&[RATE, &ledger.table(), RATE_FLOW].concat(), "default").await;
    let status = scheduler.until_state("FAILED").await;
    assert!(status.message.contains("[INTERNAL_ERROR]"), "{status:?}");
    assert_eq!(scheduler.manager.list(), [status]);
    test.stop().await;
}

/// A topic of a pattern, or a partition of a topic, that is new: read from its start, though older data was read.
async fn partitions_appear(brokers: &str, subscribe: &str, grow: impl AsyncFnOnce() -> (String, i32)) {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger) = (tempfile::tempdir().unwrap(), Ledger::new());
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&kafka_source(brokers, subscribe, ", minPartitions '1'"), &ledger.table(), KAFKA_FLOW].concat();
    let checkpoint = scheduler.start(&sql, "default").await.checkpoint;
    scheduler.until_idle_after(0).await;
    assert_eq!(ledger.values(), (0..10).collect::<Vec<_>>());
    let (topic, partition) = grow().await;
    produce(brokers, &topic, (10..15).map(|value| (partition, Some(value)))).await;
    ledger.has(15).await;
    scheduler.until("idle", |status| status.batch_id >= 1 && status.message.contains("Waiting for data")).await;
    scheduler.manager.shutdown().await;
    assert_eq!(ledger.values(), (0..15).collect::<Vec<_>>());
    let end = ends(&checkpoint).await.pop().unwrap();
    assert_eq!(end[&topic][partition.to_string()], 5, "{end}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_is_read_from_its_start() {
    let topic = Topic::new();
    topic.produce(0..10).await;
    partitions_appear(topic.0.address(), "subscribePattern 'numbers.*'", async || {
        topic.0.create_topic("numbers-new", 1).unwrap();
        ("numbers-new".into(), 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_appears_is_read_from_its_start() {
    let Ok(brokers) = std::env::var("KAFKA_ADDRESS") else {
        assert!(std::env::var("HEADWATER_REQUIRE_SERVICES").as_deref() != Ok("1"), "KAFKA_ADDRESS is not set");
        println!("skipped: a_partition_that_appears_is_read_from_its_start needs KAFKA_ADDRESS");
        return;
    };
    let topic = format!("appears-{}", uuid::Uuid::new_v4().simple());
    let admin = Admin::new(&brokers).unwrap();
    admin.create_topic(&topic, 2, 1).await.unwrap();
    produce(&brokers, &topic, (0..10).map(|value| (value as i32 % 2, Some(value)))).await;
    partitions_appear(&brokers, &format!("subscribe '{topic}'"), async || {
        admin.grow_topic(&topic, 3).await.unwrap();
        (topic.clone(), 2)
    })
    .await;
    admin.delete_topic(&topic).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_what_a_batch_did() {
    let test = TestCluster::start(1, 2).await;
    let (dir, ledger, topic) = (tempfile::tempdir().unwrap(), Ledger::new(), Topic::new());
    topic.produce(0..10).await;
    produce(topic.0.address(), "numbers", [(0, None), (1, None)]).await;
    let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
    let sql = [&topic.table(", maxOffsetsPerTrigger '8'"), &ledger.table(), KAFKA_FLOW].concat();
    let started = scheduler.start(&sql, "available-now").await;
    let status = scheduler.until_state("FINISHED").await;
    assert_eq!((status.batch_id, status.lag_records, status.id.clone()), (1, 0, started.id.clone()));
    assert_eq!((status.bad_rows, status.bad_records.as_str()), (2, "skip"));
    let (reports, ..) = scheduler.manager.progress("numbers").unwrap();
    let reports: Vec<Value> = reports.iter().map(|report| serde_json::to_value(report).unwrap()).collect();
    let [first, second] = reports.as_slice() else { panic!("{reports:?}") };

    let offsets = |each: i64| json!({"numbers": {"0": each, "1": each}});
    let behind = |each: i64| {
        json!({
            "minOffsetsBehindLatest": each.to_string(),
            "maxOffsetsBehindLatest": each.to_string(),
            "avgOffsetsBehindLatest": format!("{each}.0"),
        })
    };
    for (report, batch, rows, start, end, bad) in [(first, 0, 8, 0, 4, 0), (second, 1, 4, 4, 6, 2)] {
        assert_eq!(report["id"], started.id.as_str());
        assert_eq!(report["runId"], status.run_id.as_str());
        assert_eq!((&report["name"], &report["batchId"]), (&json!("numbers"), &json!(batch)));
        assert_eq!(report["numInputRows"], rows);
        let source = &report["sources"][0];
        assert_eq!(source["description"], "KafkaV2[Subscribe[numbers]]");
        assert_eq!((&source["startOffset"], &source["endOffset"]), (&offsets(start), &offsets(end)));
        assert_eq!((&source["latestOffset"], &source["numInputRows"]), (&offsets(6), &json!(rows)));
        assert_eq!(source["metrics"], behind(6 - end));
        let mut sink = json!({
            "description": "Ledger",
            "numOutputRows": rows - bad,
            "metrics": {"badRows": bad.to_string(), "retries": "0"},
        });
        if bad > 0 {
            sink["metrics"]["badRecords"] = json!("skip");
        }
        assert_eq!(report["sink"], sink);
        let duration = report["batchDuration"].as_i64().unwrap();
        assert_eq!(report["durationMs"]["triggerExecution"], duration);
        let phases = ["getOffset", "walCommit", "getBatch", "queryPlanning", "addBatch", "commitOffsets"];
        let took: i64 = phases.iter().map(|phase| report["durationMs"][*phase].as_i64().expect(phase)).sum();
        assert!(took <= duration, "{report}");
        assert!(report["processedRowsPerSecond"].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!(first["inputRowsPerSecond"], 0.0, "there was no trigger before");
    assert!(second["inputRowsPerSecond"].as_f64().unwrap() > 0.0, "{second}");
    test.stop().await;
}

/// The scenarios of `tests/golden/spark-checkpoint`, as `expected.json` tells them: name, its folder, and the ends of
/// the batches; whether the last one must run again.
struct SparkCheckpoint {
    name: String,
    folder: PathBuf,
    ends: Vec<Value>,
    rerun: bool,
}

fn spark_checkpoints() -> Vec<SparkCheckpoint> {
    let golden = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/spark-checkpoint"));
    let mut found = vec![];
    for version in std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let expected = std::fs::read_to_string(version.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        for (scenario, expect) in expected["scenarios"].as_object().unwrap() {
            found.push(SparkCheckpoint {
                name: format!("{} {scenario}", expected["spark"]),
                folder: version.join(scenario),
                ends: expected["batchEnds"].as_array().unwrap().clone(),
                rerun: expect["restart"] == "rerun",
            });
        }
    }
    found
}

/// A copy, hidden files and all.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[tokio::test]
async fn checkpoints_of_spark_are_read() {
    let all = spark_checkpoints();
    assert!(all.len() >= 5 && all.iter().any(|one| one.rerun), "{}", all.len());
    for SparkCheckpoint { name, folder, ends: expect, rerun } in all {
        let dir = tempfile::tempdir().unwrap();
        copy(&folder, dir.path());
        let checkpoint = dir.path().display().to_string();
        assert_eq!(ends(&checkpoint).await, expect, "{name}");
        let opened = open(&checkpoint).await.unwrap();
        let initial: Value = serde_json::from_str(&opened.initial_offset(0).await.unwrap().unwrap()).unwrap();
        assert_eq!(initial, json!({"users_created": {"0": 0, "1": 0, "2": 0}}), "{name}");
        let metadata: Value = serde_json::from_slice(&std::fs::read(folder.join("metadata")).unwrap()).unwrap();
        assert_eq!(metadata["id"], opened.query_id().to_string(), "{name}");
        let place = |offsets: Vec<Option<String>>| -> Value {
            let [Some(offset)] = offsets.as_slice() else { panic!("{name}: {offsets:?}") };
            serde_json::from_str(offset).unwrap()
        };
        match opened.recover(1).unwrap() {
            Decision::Rerun { batch_id, start, end, .. } => {
                assert_eq!(
                    (rerun, batch_id, place(start), place(end)),
                    (true, 2, expect[1].clone(), expect[2].clone())
                );
            }
            Decision::Advance { batch_id, start, .. } => {
                assert_eq!((rerun, batch_id, place(start)), (false, 3, expect[2].clone()));
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(opened.recover(2).unwrap_err().class, "STREAMING_SOURCES_CHANGED", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_spark_are_continued() {
    const TOPIC: &str = "users_created";
    let test = TestCluster::start(1, 3).await;
    // A value says its place: partition * 100 + offset.
    let values = |partition: usize, offsets: Range<i64>| offsets.map(move |offset| partition as i64 * 100 + offset);
    let broker = EmbeddedBroker::start([(TOPIC, 3)]).unwrap();
    let latest = [10, 6, 4];
    for (partition, latest) in latest.into_iter().enumerate() {
        let records = values(partition, 0..latest).map(|value| (partition as i32, Some(value)));
        produce(broker.address(), TOPIC, records).await;
    }
    for SparkCheckpoint { name, folder, ends: expect, rerun } in spark_checkpoints() {
        let (dir, ledger): (TempDir, _) = (tempfile::tempdir().unwrap(), Ledger::new());
        let checkpoint = dir.path().join("of-spark");
        copy(&folder, &checkpoint);
        let checkpoint = checkpoint.display().to_string();
        let scheduler = Scheduler::open(dir.path(), &test.cluster, None).await;
        let source = kafka_source(broker.address(), &format!("subscribe '{TOPIC}'"), "");
        let options = StartOptions {
            trigger: "available-now".parse().unwrap(),
            checkpoint: Some(checkpoint.clone()),
            ..Default::default()
        };
        let before = entries(&checkpoint, "offsets");
        let started = scheduler.submit(&[&source, &ledger.table(), KAFKA_FLOW].concat(), options).await.unwrap();
        assert_eq!(started.id, open(&checkpoint).await.unwrap().query_id().to_string(), "{name}");
        scheduler.until_state("FINISHED").await;
        let mut expect_rows = vec![];
        for (partition, latest) in latest.into_iter().enumerate() {
            let at = |batch: usize| expect[batch][TOPIC][partition.to_string()].as_i64().unwrap();
            if rerun {
                expect_rows.extend(values(partition, at(1)..at(2)).map(|value| (2, value)));
            }
            expect_rows.extend(values(partition, at(2)..latest).map(|value| (3, value)));
        }
        expect_rows.sort_unstable();
        let mut rows = ledger.all();
        rows.sort_unstable();
        assert_eq!(rows, expect_rows, "{name}");
        assert_eq!(ids(&checkpoint, "commits"), [0, 1, 2, 3], "{name}");
        let after = entries(&checkpoint, "offsets");
        assert!(before.iter().all(|(id, entry)| after[id] == *entry), "{name}: Spark's entries stay");
    }
    test.stop().await;
}
