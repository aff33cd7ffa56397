//! What Ballista does wrong unless told otherwise, each with a test on a real cluster inside this process: scheduler
//! and push executors over gRPC on loopback.

use super::*;
use arrow::array::{Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use ballista_core::serde::scheduler::{
    ExecutorData, ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification,
};
use ballista_scheduler::cluster::JobState;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Literal, binary, col};
use datafusion::physical_plan::Partitioning;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use headwater_executor::connectors::{
    self, Connector, Options, ReadUntil, Reader, SinkContext, SinkTask, WriteCounts, WriteMode, WriteTask, Writer,
};
use headwater_executor::operators::sink::{SinkExec, commit_messages};
use headwater_executor::operators::source_scan::SourceScanExec;
use headwater_executor::operators::to_datafusion;
use headwater_executor::process::{ExecutorHandle, ExecutorOptions};
use headwater_proto::engine::liveness_service_server::LivenessServiceServer;
use headwater_proto::error::ErrorKind;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;

/// A source that counts (`descriptor` = `from..until`), fails (`fail …`, see [`failure`]), panics (`panic`) or waits for
/// ever (`wait …`), and a sink that notes what it got under the name in its config.
#[derive(Debug)]
struct Probe;

#[derive(Debug, Default)]
struct Seen {
    rows: Vec<i64>,
    threads_of_tasks: HashSet<String>,
    opened: usize,
}

static SEEN: LazyLock<Mutex<BTreeMap<String, Seen>>> = LazyLock::new(Default::default);
/// Readers that wait, by their descriptor.
static WAITING: LazyLock<Mutex<BTreeMap<String, i64>>> = LazyLock::new(Default::default);
static WAITING_CHANGED: Notify = Notify::const_new();
static HANG_FIRST: AtomicUsize = AtomicUsize::new(0);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

impl Connector for Probe {
    fn format(&self) -> &'static str {
        "probe"
    }
    fn reader(&self, _: &str) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(ProbeReader))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        let Some((gate, json)) = config.strip_prefix("gated ").and_then(|gated| gated.split_once(' ')) else {
            return Ok(Arc::new(ProbeWriter(config.to_string())));
        };
        let writer: Arc<dyn Writer> = match json {
            "" => Arc::new(ProbeWriter(gate.to_string())),
            json => connectors::find("json")?.writer(json)?,
        };
        Ok(Arc::new(GatedWriter { gate: Gate::of(gate), writer }))
    }
}

/// Lets the first two of a sink's tasks end; the others when it is open. Found by its name in the sink's config:
/// `gated NAME ` and, for a sink of JSON files, the config of that one.
#[derive(Debug, Default)]
struct Gate {
    /// How many have come.
    came: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

static GATES: LazyLock<Mutex<BTreeMap<String, Arc<Gate>>>> = LazyLock::new(Default::default);

impl Gate {
    fn of(name: &str) -> Arc<Self> {
        Arc::clone(GATES.lock().unwrap().entry(name.to_string()).or_default())
    }
    async fn pass(&self) {
        let mut turn = 0;
        self.came.send_modify(|came| {
            *came += 1;
            turn = *came;
        });
        if turn > 2 {
            self.open.subscribe().wait_for(|open| *open).await.expect("gates stay");
        }
    }
    async fn have_come(&self, tasks: usize) {
        let mut came = self.came.subscribe();
        let come = tokio::time::timeout(Duration::from_secs(30), came.wait_for(|came| *came >= tasks)).await;
        come.expect("tasks come in time").expect("gates stay");
    }
}

#[derive(Debug)]
struct GatedWriter {
    gate: Arc<Gate>,
    writer: Arc<dyn Writer>,
}
struct GatedTask {
    gate: Arc<Gate>,
    task: Box<dyn SinkTask>,
}

#[async_trait::async_trait]
impl Writer for GatedWriter {
    async fn open(&self, task: WriteTask, schema: SchemaRef, context: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        let task = self.writer.open(task, schema, context).await?;
        Ok(Box::new(GatedTask { gate: Arc::clone(&self.gate), task }))
    }
}

#[async_trait::async_trait]
impl SinkTask for GatedTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.task.write(batch).await
    }
    async fn flush(&mut self) -> Result<()> {
        self.task.flush().await
    }
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        self.gate.pass().await;
        self.task.close().await
    }
}

#[derive(Debug)]
struct ProbeReader;

struct Waiting(String);
impl Waiting {
    fn new(descriptor: String) -> Self {
        *WAITING.lock().unwrap().entry(descriptor.clone()).or_default() += 1;
        WAITING_CHANGED.notify_waiters();
        Self(descriptor)
    }
}
impl Drop for Waiting {
    fn drop(&mut self) {
        *WAITING.lock().unwrap().entry(self.0.clone()).or_default() -= 1;
        WAITING_CHANGED.notify_waiters();
    }
}

async fn waiting_is(descriptor: &str, count: i64) {
    loop {
        let changed = WAITING_CHANGED.notified();
        tokio::pin!(changed);
        // From here on a change is noticed.
        changed.as_mut().enable();
        if WAITING.lock().unwrap().get(descriptor).copied().unwrap_or_default() == count {
            return;
        }
        changed.await;
    }
}

impl Reader for ProbeReader {
    fn read(
        &self,
        descriptor: &str,
        _: Option<&[usize]>,
        schema: SchemaRef,
        _: ReadUntil,
        _: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let output = Arc::clone(&schema);
        let batch = |rows: std::ops::Range<i64>| {
            RecordBatch::try_new(output, vec![Arc::new(Int64Array::from_iter_values(rows))]).map_err(Into::into)
        };
        let batches = match descriptor.split_once("..") {
            Some((from, until)) => {
                futures::stream::iter(vec![batch(from.parse().unwrap()..until.parse().unwrap())]).boxed()
            }
            None if descriptor == "panic" => panic!("a \"bug\" in a connector"),
            None if descriptor.starts_with("fail") => futures::stream::iter([Err(failure(descriptor))]).boxed(),
            None => {
                let descriptor = descriptor.to_string();
                futures::stream::once(async {
                    let _waiting = Waiting::new(descriptor);
                    futures::future::pending().await
                })
                .boxed()
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);

/// A task's error by name.
fn failure(descriptor: &str) -> DataFusionError {
    let lost = Error::fatal("KAFKA_DATA_LOSS", "offsets 5..9 of \"t\" are gone\nnext line");
    match descriptor {
        "fail fatal" => to_datafusion(lost),
        "fail invalid" => to_datafusion(Error::invalid("MALFORMED_RECORD_IN_PARSING", "record [7] is bad")),
        "fail transient" => {
            ATTEMPTS.fetch_add(1, Ordering::SeqCst);
            to_datafusion(Error::transient("KAFKA_UNREACHABLE", "no answer from \"h:1\""))
        }
        "fail transient plainly" => {
            DataFusionError::External(Box::new(Error::transient("KAFKA_UNREACHABLE", "no answer")))
        }
        "fail wrapped" => DataFusionError::ArrowError(
            Box::new(arrow::error::ArrowError::ExternalError(Box::new(to_datafusion(lost)))),
            None,
        )
        .context("while reading"),
        "fail io" => DataFusionError::IoError(std::io::Error::other("disk \"a\" is gone")),
        "fail text" => DataFusionError::Execution("something is wrong".into()),
        other => unreachable!("{other}"),
    }
}

#[derive(Debug)]
struct ProbeWriter(String);
struct ProbeTask {
    name: String,
    rows: Vec<i64>,
    attempt: String,
    hang: bool,
}

#[async_trait::async_trait]
impl Writer for ProbeWriter {
    async fn open(&self, task: WriteTask, _: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        SEEN.lock().unwrap().entry(self.0.clone()).or_default().opened += 1;
        let hang = self.0 == "hang-once" && HANG_FIRST.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(Box::new(ProbeTask { name: self.0.clone(), rows: vec![], attempt: task.attempt, hang }))
    }
}

#[async_trait::async_trait]
impl SinkTask for ProbeTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        self.rows.extend(column.values());
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        if self.hang {
            futures::future::pending::<()>().await;
        }
        let counts = WriteCounts { rows: self.rows.len() as u64, ..Default::default() };
        let message = format!("{} rows", self.rows.len());
        let mut seen = SEEN.lock().unwrap();
        let seen = seen.entry(self.name).or_default();
        seen.rows.extend(self.rows);
        seen.threads_of_tasks.insert(self.attempt);
        Ok((counts, Some(message)))
    }
}

pub(crate) struct TestCluster {
    pub cluster: Cluster,
    executors: Vec<ExecutorHandle>,
    server: tokio::task::JoinHandle<()>,
    /// Its end is the liveness streams'.
    _stop: tokio::sync::watch::Sender<bool>,
}

impl TestCluster {
    pub(crate) async fn start(executors: usize, task_slots: usize) -> Self {
        connectors::register(Arc::new(Probe));
        let cluster = Cluster::start().await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let router = tonic::transport::Server::builder()
            .add_service(cluster.grpc_service())
            .add_service(LivenessServiceServer::new(Liveness::new(cluster.clone(), stopped)));
        let server =
            tokio::spawn(async move { router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        let mut handles = vec![];
        for _ in 0..executors {
            let options = ExecutorOptions {
                schedulers: vec![address.to_string()],
                task_slots,
                work_dir: None,
                bind: [127, 0, 0, 1].into(),
                advertise: None,
                http_port: None,
                memory_limit: None,
                drain_timeout: headwater_executor::process::DRAIN_TIMEOUT,
            };
            handles.push(headwater_executor::process::start(options).await.unwrap());
        }
        Self { cluster, executors: handles, server, _stop: stop }
    }

    async fn run(&self, name: &str, plan: Arc<dyn ExecutionPlan>, deadline: Option<Duration>) -> Result<JobOutcome> {
        let session = Arc::new(SessionContext::new_with_config(session_config()));
        self.cluster.run(Job { name: name.into(), session, plan, deadline, progress: None }).await
    }

    /// Registers an executor that is never given a task.
    pub(crate) async fn register_idle(&self, id: &str) {
        let metadata = ExecutorMetadata {
            id: id.to_string(),
            host: "127.0.0.1".into(),
            port: 1,
            grpc_port: 1,
            specification: ExecutorSpecification::default().with_vcores(0),
            os_info: ExecutorOperatingSystemSpecification::default(),
        };
        let data = ExecutorData { executor_id: id.to_string(), total_vcores: 0, available_vcores: 0 };
        self.cluster.state.register_executor(metadata, data).await.unwrap();
    }

    /// Takes an executor out; Ballista is told of no loss, after which it would fail the jobs that wait.
    pub(crate) async fn deregister(&self, id: &str) {
        self.cluster.state.remove_executor(id).await.unwrap();
    }

    /// Returns once a job has been submitted.
    pub(crate) async fn has_job(&self) {
        while self.cluster.jobs.get_all_jobs().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn stop(self) {
        for executor in self.executors {
            executor.drain().await.unwrap();
        }
        self.server.abort();
    }
}

fn scan(descriptors: impl IntoIterator<Item = String>) -> Arc<dyn ExecutionPlan> {
    let descriptors: Vec<_> = descriptors.into_iter().collect();
    Arc::new(SourceScanExec::try_new("probe".into(), "{}".into(), schema(), None, Some(0), &descriptors).unwrap())
}

fn ranges(partitions: i64) -> impl Iterator<Item = String> {
    (0..partitions).map(|p| format!("{}..{}", p * 1000, (p + 1) * 1000))
}

fn sink(name: &str, needs_commit: bool, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(SinkExec::new("probe".into(), name.into(), 0, needs_commit, input))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_once_over_all_executors_and_partitions() {
    let test = TestCluster::start(2, 2).await;
    for (name, needs_commit) in [("direct", false), ("committed", true)] {
        let outcome = test.run(name, sink(name, needs_commit, scan(ranges(8))), None).await.unwrap();
        assert_eq!(outcome.metrics["input_rows_0"], 8000, "{name}");
        assert_eq!(outcome.metrics["sink_rows"], 8000, "{name}");
        {
            let mut seen = SEEN.lock().unwrap();
            let seen = seen.get_mut(name).unwrap();
            seen.rows.sort_unstable();
            assert_eq!(seen.rows, (0..8000).collect::<Vec<_>>(), "{name}: no row twice, none missing");
            assert_eq!(seen.opened, 8, "{name}: as many sink tasks as partitions, not one");
        }
        if needs_commit {
            let commit_schema = Arc::new(Schema::new(vec![Field::new("commit_message", DataType::Utf8, true)]));
            let messages = test.cluster.collect(outcome, commit_schema).await.unwrap();
            assert_eq!(messages.iter().map(RecordBatch::num_rows).sum::<usize>(), 8);
        }
    }
    let executors = test.cluster.executors().await;
    assert_eq!(executors.len(), 2);
    for executor in executors {
        assert!(executor.tasks_completed >= 4, "tasks spread over the executors: {executor:?}");
    }
    test.stop().await;
}

#[tokio::test]
async fn executors_count_as_gone_when_none_has_come_for_a_while() {
    let test = TestCluster::start(0, 1).await;
    let gone = |time: Duration| test.cluster.without_executors_for(time);
    let now = Duration::from_millis(1);
    let in_time = || tokio::time::timeout(Duration::from_secs(30), gone(now));
    let soon = |time: Duration| tokio::time::timeout(Duration::from_millis(300), gone(time));
    in_time().await.expect("there is none");
    assert!(soon(Duration::from_secs(60)).await.is_err());
    test.register_idle("a").await;
    test.register_idle("b").await;
    test.deregister("a").await;
    assert!(soon(now).await.is_err(), "one is left");
    // One that comes back in time begins the wait anew.
    let back = async {
        test.deregister("b").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        test.register_idle("c").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
    };
    tokio::select! {
        () = gone(Duration::from_secs(1)) => panic!("one is there"),
        () = back => {}
    }
    test.deregister("c").await;
    in_time().await.expect("all are gone");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_the_work() {
    let test = TestCluster::start(1, 4).await;
    for needs_commit in [false, true] {
        let plan = sink("cancelled", needs_commit, scan(["wait".to_string(), "wait".to_string()]));
        let cluster = test.cluster.clone();
        let session = Arc::new(SessionContext::new_with_config(session_config()));
        let job = tokio::spawn(async move {
            cluster.run(Job { name: "cancelled".into(), session, plan, deadline: None, progress: None }).await.map(drop)
        });
        tokio::time::timeout(Duration::from_secs(20), waiting_is("wait", 2)).await.expect("both tasks began to wait");
        job.abort();
        tokio::time::timeout(Duration::from_secs(20), waiting_is("wait", 0)).await.expect("both tasks stopped");
    }
    // The slots are free again.
    test.run("after", sink("after", false, scan(ranges(4))), Some(Duration::from_secs(20))).await.unwrap();
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_never_reports_ends_at_the_deadline_and_can_run_again() {
    let test = TestCluster::start(1, 2).await;
    let plan = sink("hang-once", false, scan(ranges(1)));
    // Long enough for the task to begin: the first that does hangs.
    let error = test.run("hang", Arc::clone(&plan), Some(Duration::from_secs(2))).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "JOB_DEADLINE_EXCEEDED"));
    test.run("again", plan, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(SEEN.lock().unwrap()["hang-once"].rows.len(), 1000);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_two_stages_ends_while_others_run() {
    let test = TestCluster::start(2, 2).await;
    let gather = |partitions| Arc::new(CoalescePartitionsExec::new(scan(ranges(partitions)))) as Arc<dyn ExecutionPlan>;
    let deadline = Some(Duration::from_secs(20));
    let jobs = (0..8).map(|job| test.run("two stages", gather(1 + job % 3), deadline));
    for (job, outcome) in futures::future::join_all(jobs).await.into_iter().enumerate() {
        let rows = test.cluster.collect(outcome.unwrap(), schema()).await.unwrap();
        let rows = rows.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(rows, 1000 * (1 + job % 3));
    }
    test.stop().await;
}

/// Four map tasks over both executors, and four partitions of what a sink behind a shuffle says of them.
fn gated(gate: &str, json: &str) -> Arc<dyn ExecutionPlan> {
    let by_hash = Partitioning::Hash(vec![col("n", &schema()).unwrap()], 4);
    let shuffled = RepartitionExec::try_new(scan(ranges(4)), by_hash).unwrap();
    sink(&format!("gated {gate} {json}"), true, Arc::new(shuffled))
}

/// With two of four tasks done and two under way, an executor is lost that has parts of their input; all run again.
async fn lose_one_half_way(test: &TestCluster, gate: &str) {
    let gate = Gate::of(gate);
    gate.have_come(4).await;
    let lost = test.cluster.executors().await[0].id.clone();
    test.cluster.executor_lost(&lost, "the test").await;
    gate.have_come(5).await;
    gate.open.send_replace(true);
}

/// As a stage runs again, Ballista keeps the files of the attempt before: in what it tells of the result, and in what
/// the stage behind reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_loses_an_executor_half_way_returns_every_row_once() {
    let check = |messages: Vec<String>, case: &str| {
        let rows: Vec<usize> = messages.iter().map(|text| text.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!((rows.len(), rows.iter().sum::<usize>()), (4, 4000), "{case}: {messages:?}");
    };
    for stages in [2, 3] {
        let plan = |gate: &str| -> Arc<dyn ExecutionPlan> {
            match stages {
                2 => gated(gate, ""),
                _ => Arc::new(CoalescePartitionsExec::new(gated(gate, ""))),
            }
        };
        let test = TestCluster::start(2, 1).await;
        let gate = format!("collected-{stages}");
        let ran = test.run(&gate, plan(&gate), Some(Duration::from_secs(60)));
        let (outcome, ()) = tokio::join!(ran, lose_one_half_way(&test, &gate));
        let outcome = outcome.unwrap();
        assert_eq!(outcome.metrics["sink_rows"], 4000, "{gate}");
        let batches = test.cluster.collect(outcome, plan(&gate).schema()).await.unwrap();
        check(commit_messages(&batches).unwrap(), &gate);
        test.stop().await;

        let test = TestCluster::start(2, 1).await;
        let gate = format!("rows-{stages}");
        let session = Arc::new(SessionContext::new_with_config(session_config()));
        let job = Job { name: gate.clone(), session, plan: plan(&gate), deadline: None, progress: None };
        // Not read before: the first attempt's are there, and then more.
        let rows = test.cluster.rows(job);
        lose_one_half_way(&test, &gate).await;
        let batches = tokio::time::timeout(Duration::from_secs(60), rows.try_collect::<Vec<_>>()).await;
        check(commit_messages(&batches.expect("in time").unwrap()).unwrap(), &gate);
        test.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_into_files_that_loses_an_executor_half_way_writes_every_row_once() {
    let test = TestCluster::start(2, 1).await;
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new([("path", folder.path().display().to_string())]);
    let context = SinkContext { schema: schema(), mode: WriteMode::Append, query: "q".into(), streaming: false };
    let files = connectors::find("json").unwrap().sink(&options, context).await.unwrap();
    files.prepare().await.unwrap();
    let plan = gated("files", &files.writer_config());
    let ran = test.run("files", Arc::clone(&plan), Some(Duration::from_secs(60)));
    let (outcome, ()) = tokio::join!(ran, lose_one_half_way(&test, "files"));
    let messages = test.cluster.collect(outcome.unwrap(), plan.schema()).await.unwrap();
    files.commit(0, commit_messages(&messages).unwrap()).await.unwrap();
    let mut rows = vec![];
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                rows.push(serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_i64().unwrap());
            }
        }
    }
    rows.sort_unstable();
    assert_eq!(rows, (0..4000).collect::<Vec<_>>());
    test.stop().await;
}

/// The system takes its connections, as it does for a process that is stopped, and nobody answers.
#[tokio::test]
async fn an_executor_that_hangs_holds_no_reader_up() {
    use ballista_core::serde::protobuf::{ExecutorMetadata, PartitionId};
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = u32::from(hung.local_addr().unwrap().port());
    let executor = ExecutorMetadata { id: "e".into(), host: "127.0.0.1".into(), port, ..Default::default() };
    let partition_id = Some(PartitionId { job_id: "j".into(), ..Default::default() });
    let location = PartitionLocation { partition_id, executor_meta: Some(executor), ..Default::default() };
    let fetched = tokio::time::timeout(UNREACHABLE_AFTER * 10, fetch_partition(location)).await;
    assert!(fetched.expect("in time").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_before_the_job_has_ended_and_their_reader_cancels_it() {
    let test = TestCluster::start(1, 2).await;
    let plan = scan(["0..1000".to_string(), "wait for rows".to_string()]);
    let session = Arc::new(SessionContext::new_with_config(session_config()));
    let job = Job { name: "rows".into(), session, plan, deadline: None, progress: None };
    let mut rows = test.cluster.rows(job);
    let first = tokio::time::timeout(Duration::from_secs(20), rows.next()).await.expect("in time");
    assert_eq!(first.expect("rows").expect("no error").num_rows(), 1000);
    tokio::time::timeout(Duration::from_secs(20), waiting_is("wait for rows", 1)).await.expect("the other task waits");
    drop(rows);
    tokio::time::timeout(Duration::from_secs(20), waiting_is("wait for rows", 0))
        .await
        .expect("the other task stopped");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_the_order_of_partitions_or_end_in_the_error_of_the_task() {
    let test = TestCluster::start(2, 2).await;
    let job = |plan: Arc<dyn ExecutionPlan>| Job {
        name: "rows".into(),
        session: Arc::new(SessionContext::new_with_config(session_config())),
        plan,
        deadline: None,
        progress: None,
    };
    let rows = test.cluster.rows(job(scan(ranges(8)))).try_collect::<Vec<_>>().await.expect("rows");
    let numbers = rows
        .iter()
        .flat_map(|batch| batch.column(0).as_any().downcast_ref::<Int64Array>().expect("numbers").values().to_vec());
    assert_eq!(numbers.collect::<Vec<_>>(), (0..8000).collect::<Vec<_>>());
    let failing = scan(["0..1000".to_string(), "fail invalid".to_string()]);
    let error = test.cluster.rows(job(failing)).try_collect::<Vec<_>>().await.expect_err("fails");
    let error = crate::sql::error::from_datafusion(error);
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "MALFORMED_RECORD_IN_PARSING"));
    test.stop().await;
}

/// Every way for a job to fail comes out with what the caller should do about it: retried for ever or failed for good,
/// a query must not be either by mistake.
#[tokio::test(flavor = "multi_thread")]
async fn failures_keep_their_kind_class_and_message() {
    let test = TestCluster::start(1, 2).await;
    let check = async |plan: Arc<dyn ExecutionPlan>, kind: ErrorKind, class: &str, message: &str| {
        for needs_commit in [false, true] {
            let plan = sink("failing", needs_commit, Arc::clone(&plan));
            let error = test.run(class, plan, Some(Duration::from_secs(30))).await.expect_err(class);
            assert_eq!((error.kind, error.class.as_str()), (kind, class), "{error}");
            assert!(error.message.contains(message), "{error}");
            assert!(!error.message.contains("Error<"), "{error}");
        }
    };
    let failing = |descriptor: &str| scan([descriptor.to_string()]);
    let lost = "offsets 5..9 of \"t\" are gone\nnext line";
    check(failing("fail fatal"), ErrorKind::Fatal, "KAFKA_DATA_LOSS", lost).await;
    check(failing("fail wrapped"), ErrorKind::Fatal, "KAFKA_DATA_LOSS", lost).await;
    check(failing("fail invalid"), ErrorKind::InvalidRequest, "MALFORMED_RECORD_IN_PARSING", "record [7] is bad").await;
    check(failing("fail transient"), ErrorKind::Transient, "KAFKA_UNREACHABLE", "no answer from \"h:1\"").await;
    assert_eq!(ATTEMPTS.load(Ordering::SeqCst), 2 * 4, "Ballista repeats what is rooted in an I/O error");
    check(failing("fail transient plainly"), ErrorKind::Transient, "KAFKA_UNREACHABLE", "no answer").await;
    check(failing("fail io"), ErrorKind::Transient, "IO_ERROR", "disk \"a\" is gone").await;
    check(failing("fail text"), ErrorKind::InvalidRequest, "EXECUTION_FAILED", "something is wrong").await;
    check(failing("panic"), ErrorKind::Internal, "INTERNAL_ERROR", "in a connector").await;

    let computing = |expression: Arc<dyn PhysicalExpr>| -> Arc<dyn ExecutionPlan> {
        Arc::new(ProjectionExec::try_new(vec![(expression, "x".to_string())], scan(ranges(1))).unwrap())
    };
    let number = |value: i64| Arc::new(Literal::new(ScalarValue::from(value))) as Arc<dyn PhysicalExpr>;
    let divided = binary(col("n", &schema()).unwrap(), Operator::Divide, number(0), &schema()).unwrap();
    check(computing(divided), ErrorKind::InvalidRequest, "DIVIDE_BY_ZERO", "division by zero").await;
    let text = Arc::new(Literal::new(ScalarValue::from("many")));
    let cast = Arc::new(CastExpr::new(text, DataType::Int32, None));
    check(computing(cast), ErrorKind::InvalidRequest, "CAST_INVALID_INPUT", "Cannot cast string 'many'").await;

    // A function that executors do not have: the plan cannot be read there.
    let unknown = datafusion::logical_expr::create_udf(
        "known_to_nobody",
        vec![DataType::Int64],
        DataType::Int64,
        datafusion::logical_expr::Volatility::Volatile,
        Arc::new(|arguments: &[datafusion::logical_expr::ColumnarValue]| Ok(arguments[0].clone())),
    );
    let call = datafusion::physical_expr::ScalarFunctionExpr::try_new(
        Arc::new(unknown),
        vec![col("n", &schema()).unwrap()],
        &schema(),
        Arc::default(),
    );
    check(computing(Arc::new(call.unwrap())), ErrorKind::Internal, "PLAN_REJECTED", "a task could not be sent").await;

    // The executor is none the worse.
    test.run("after", sink("after failures", false, scan(ranges(4))), Some(Duration::from_secs(20))).await.unwrap();
    test.stop().await;
}
