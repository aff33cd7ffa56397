//! What Ballista does wrong unless told otherwise, each with a test on a real cluster inside this process: scheduler
//! and push executors over gRPC on loopback.

use super::*;
use arrow::array::{Array, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use headwater_executor::connectors::{self, Connector, ReadUntil, Reader, SinkTask, WriteCounts, WriteTask, Writer};
use headwater_executor::operators::sink::SinkExec;
use headwater_executor::operators::source_scan::SourceScanExec;
use headwater_executor::process::{ExecutorHandle, ExecutorOptions};
use headwater_proto::engine::liveness_service_server::LivenessServiceServer;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;

/// A source that counts (`descriptor` = `from..until`) or waits for ever (`descriptor` = `wait`), and a sink that notes
/// what it got under the name in its config.
#[derive(Debug)]
struct Probe;

#[derive(Debug, Default)]
struct Seen {
    rows: Vec<i64>,
    threads_of_tasks: HashSet<String>,
    opened: usize,
}

static SEEN: LazyLock<Mutex<BTreeMap<String, Seen>>> = LazyLock::new(Default::default);
static WAITING: AtomicI64 = AtomicI64::new(0);
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
        Ok(Arc::new(ProbeWriter(config.to_string())))
    }
}

#[derive(Debug)]
struct ProbeReader;

struct Waiting;
impl Waiting {
    fn new() -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        WAITING_CHANGED.notify_waiters();
        Self
    }
}
impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
        WAITING_CHANGED.notify_waiters();
    }
}

async fn waiting_is(count: i64) {
    loop {
        let changed = WAITING_CHANGED.notified();
        if WAITING.load(Ordering::SeqCst) == count {
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
            None => futures::stream::once(async {
                let _waiting = Waiting::new();
                futures::future::pending().await
            })
            .boxed(),
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
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
}

impl TestCluster {
    pub(crate) async fn start(executors: usize, task_slots: usize) -> Self {
        connectors::register(Arc::new(Probe));
        let cluster = Cluster::start().await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = tonic::transport::Server::builder()
            .add_service(cluster.grpc_service())
            .add_service(LivenessServiceServer::new(Liveness(cluster.clone())));
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
            };
            handles.push(headwater_executor::process::start(options).await.unwrap());
        }
        Self { cluster, executors: handles, server }
    }

    async fn run(&self, name: &str, plan: Arc<dyn ExecutionPlan>, deadline: Option<Duration>) -> Result<JobOutcome> {
        let session = Arc::new(SessionContext::new_with_config(session_config()));
        self.cluster.run(Job { name: name.into(), session, plan, deadline, progress: None }).await
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
        tokio::time::timeout(Duration::from_secs(20), waiting_is(2)).await.expect("both tasks began to wait");
        job.abort();
        tokio::time::timeout(Duration::from_secs(20), waiting_is(0)).await.expect("both tasks stopped");
    }
    // The slots are free again.
    test.run("after", sink("after", false, scan(ranges(4))), Some(Duration::from_secs(20))).await.unwrap();
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_never_reports_ends_at_the_deadline_and_can_run_again() {
    let test = TestCluster::start(1, 2).await;
    let plan = sink("hang-once", false, scan(ranges(1)));
    let error = test.run("hang", Arc::clone(&plan), Some(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "JOB_DEADLINE_EXCEEDED"));
    test.run("again", plan, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(SEEN.lock().unwrap()["hang-once"].rows.len(), 1000);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_two_stages_ends_while_others_run() {
    use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
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
