//! Kafka → `from_json` of twelve text fields → sink, available-now: the same work as the published peers' figures.

use super::machine::Usage;
use super::{Percentiles, progress_of};
use crate::demo::run::{make_records, quote};
use crate::demo::users::{Generator, Shape};
use crate::remote::Remote;
use crate::standalone::{Cluster, Options as ClusterOptions};
use anyhow::{Context, Result, bail};
use futures::{StreamExt, stream};
use headwater_executor::connectors::kafka::admin::Admin;
use headwater_proto::engine::{QueryStatus, SubmitRequest};
use serde_json::{Value, json};
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Users that are made at a time, and chunks between generator and producer.
const CHUNK: u64 = 2000;
const CHUNKS_MAX: usize = 16;

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    Noop,
    /// A table in a temporary folder.
    Parquet,
    /// Table `spark_streams.bench_users`.
    Cassandra,
    /// A topic.
    Kafka,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bootstrap servers.
    pub kafka: String,
    /// Contact points, for [`Sink::Cassandra`].
    pub cassandra: String,
    /// Topic that is read.
    pub topic: String,
    /// Users to produce when the topic is not there or empty.
    pub rows: u64,
    /// Its partitions.
    pub partitions: i32,
    /// Where rows go.
    pub sink: Sink,
    /// Executors.
    pub executors: usize,
    /// Tasks that each runs at once.
    pub task_slots: usize,
    /// Runs in the same process.
    pub runs: usize,
    /// Records a batch takes at most.
    pub batch_rows: u64,
    /// The same seed makes the same users.
    pub seed: u64,
}

/// How producing went.
#[derive(Debug, Clone, Copy)]
pub struct Produced {
    /// Users; 0 when the topic was full already.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Rows read.
    pub rows: u64,
    /// From submitting to the query's end.
    pub elapsed: Duration,
    /// From submitting to the first batch's end.
    pub first_batch: Duration,
    /// Seconds of CPU of this process: scheduler and executors.
    pub cpu_seconds: f64,
    /// Largest resident memory of the process so far.
    pub peak_bytes: u64,
    /// Milliseconds of each batch.
    pub batches: Percentiles,
}

impl Run {
    /// Rows a second.
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.elapsed.as_secs_f64()
    }
    /// Rows a second of CPU.
    pub fn rows_per_cpu_second(&self) -> f64 {
        self.rows as f64 / self.cpu_seconds
    }
    /// As `--json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "rows": self.rows,
            "seconds": self.elapsed.as_secs_f64(),
            "rowsPerSecond": self.rows_per_second(),
            "cpuSeconds": self.cpu_seconds,
            "rowsPerCpuSecond": self.rows_per_cpu_second(),
            "peakBytes": self.peak_bytes,
            "firstBatchSeconds": self.first_batch.as_secs_f64(),
            "batchMs": self.batches.json(),
        })
    }
}

/// Fills the topic if it is not there or empty.
pub async fn produce(options: &Options) -> Result<Produced> {
    let admin = Admin::new(&options.kafka)?;
    let there = records_in(&admin, &options.topic).await?;
    match there {
        None => admin.create_topic(&options.topic, options.partitions, 1).await?,
        Some(0) => {}
        Some(rows) if rows >= options.rows => {
            return Ok(Produced { rows: 0, bytes: 0, elapsed: Duration::ZERO });
        }
        Some(rows) => bail!(
            "[BENCH_TOPIC] topic {} holds {rows} records, fewer than --rows {}: name another with --topic, or delete it",
            options.topic,
            options.rows
        ),
    }
    let begin = Instant::now();
    let (send, chunks) = mpsc::channel(CHUNKS_MAX);
    let (rows, partitions, seed) = (options.rows, options.partitions, options.seed);
    // Its thread ends when the receiver has gone.
    let make = tokio::task::spawn_blocking(move || {
        let mut generator = Generator::new(seed, Shape::Classic);
        let mut bytes = 0;
        for from in (0..rows).step_by(CHUNK as usize) {
            let records = make_records(&mut generator, from, (from + CHUNK).min(rows), partitions);
            bytes += records.iter().map(|record| record.value.as_ref().map_or(0, Vec::len) as u64).sum::<u64>();
            if send.blocking_send(records).is_err() {
                break;
            }
        }
        bytes
    });
    let records = ReceiverStream::new(chunks).flat_map(|chunk| stream::iter(chunk).map(Ok));
    let sent = admin.produce_stream(&options.topic, records).await.context("failed to fill the topic")?;
    let bytes = make.await.context("the generator failed")?;
    Ok(Produced { rows: sent, bytes, elapsed: begin.elapsed() })
}

/// Records of a topic; none when it is not there.
async fn records_in(admin: &Admin, topic: &str) -> Result<Option<u64>> {
    if !admin.list_topics().await?.iter().any(|listed| listed.name == topic) {
        return Ok(None);
    }
    let partitions = admin.describe_topic(topic).await?.partitions;
    let records = partitions.iter().filter_map(|partition| Some((partition.latest? - partition.earliest?) as u64));
    Ok(Some(records.sum()))
}

/// Runs the flow as often as asked for, telling `say` of each run as it ends. `interrupt` resolves when the user wants
/// to stop.
pub async fn run(
    options: &Options,
    say: &mut (dyn FnMut(usize, &Run) + Send),
    interrupt: impl AsyncFn() -> io::Result<()>,
) -> Result<Vec<Run>> {
    let folder = tempfile::Builder::new().prefix("headwater-bench-").tempdir().context("failed to make a folder")?;
    let state = folder.path().join("state").to_string_lossy().into_owned();
    make_output(options).await?;
    let cluster = Cluster::start(ClusterOptions::private(state, options.executors, options.task_slots)).await?;
    let address = cluster.address();
    let work = async {
        let remote = Remote::connect(&address).await?;
        let mut runs = Vec::with_capacity(options.runs);
        for number in 0..options.runs {
            let sql = statements(options, number, &folder.path().to_string_lossy());
            let run = run_once(&remote, sql).await.with_context(|| format!("run {number} failed"))?;
            if run.rows < options.rows {
                bail!(
                    "[BENCH_MISMATCH] run {number} read {} of {} users: this is a bug, please report it",
                    run.rows,
                    options.rows
                );
            }
            say(number, &run);
            runs.push(run);
        }
        Ok(runs)
    };
    cluster.run(work, interrupt).await
}

/// Makes the topic of [`Sink::Kafka`], with as many partitions as the source: a broker that makes it by itself would
/// give it one.
pub(super) async fn make_output(options: &Options) -> Result<()> {
    if options.sink == Sink::Kafka {
        let admin = Admin::new(&options.kafka)?;
        if records_in(&admin, &output(options)).await?.is_none() {
            admin.create_topic(&output(options), options.partitions, 1).await?;
        }
    }
    Ok(())
}

/// Topic that [`Sink::Kafka`] writes to.
fn output(options: &Options) -> String {
    format!("{}_out", options.topic)
}

/// Everything there is, then the end.
pub(super) const RUN_TRIGGER: &str = "available-now";

/// Name of a run's flow.
pub(super) fn run_name(number: usize) -> String {
    format!("bench_{number}")
}

/// Tables and flow of one run; the names differ from run to run, since tables live in the catalog.
pub(super) fn statements(options: &Options, number: usize, folder: &str) -> String {
    let kafka = quote(&options.kafka);
    let sink = match options.sink {
        Sink::Noop => "USING noop".to_string(),
        Sink::Parquet => format!("USING parquet OPTIONS (path {})", quote(&format!("{folder}/table-{number}"))),
        Sink::Cassandra => cassandra(&options.cassandra),
        Sink::Kafka => {
            format!("USING kafka OPTIONS ('kafka.bootstrap.servers' {kafka}, topic {})", quote(&output(options)))
        }
    };
    let columns = match options.sink {
        Sink::Kafka => "data.id AS key, to_json(data) AS value",
        _ => "data.*",
    };
    format!(
        "CREATE TABLE bench_source_{number} USING kafka OPTIONS ('kafka.bootstrap.servers' {kafka}, subscribe {topic}, \
         startingOffsets 'earliest', maxOffsetsPerTrigger '{rows}');\nCREATE TABLE bench_sink_{number} {sink};\nCREATE \
         FLOW {flow} AS INSERT INTO bench_sink_{number} BY NAME SELECT {columns} FROM (SELECT \
         from_json(CAST(value AS STRING), {ddl}) AS data FROM STREAM(bench_source_{number}));",
        flow = run_name(number),
        topic = quote(&options.topic),
        rows = options.batch_rows,
        ddl = quote(Shape::Classic.ddl()),
    )
}

/// The benchmarks' Cassandra table.
pub(super) fn cassandra(hosts: &str) -> String {
    format!(
        "USING cassandra OPTIONS ('spark.cassandra.connection.host' {}, keyspace 'spark_streams', table 'bench_users', \
         'headwater.createTable' 'true', 'headwater.primaryKey' 'id')",
        quote(hosts)
    )
}

async fn run_once(remote: &Remote, sql: String) -> Result<Run> {
    let before = Usage::now()?;
    let begin = Instant::now();
    let request = SubmitRequest { sql, trigger: RUN_TRIGGER.into(), ..SubmitRequest::default() };
    let Some(query) = remote.submit(request).await?.queries.into_iter().next() else {
        bail!("the scheduler started no query")
    };
    let (mut rows, mut durations, mut first_batch) = (0, Vec::new(), None);
    let mut reports = remote.progress(&query.id, true).await?;
    while let Some(report) = reports.next().await? {
        let Some(progress) = progress_of(&report)?.filter(|progress| progress.num_input_rows > 0) else { continue };
        first_batch.get_or_insert_with(|| begin.elapsed());
        rows += progress.num_input_rows as u64;
        durations.push(progress.batch_duration as f64);
    }
    let elapsed = begin.elapsed();
    let after = Usage::now()?;
    finished(&remote.get(&query.id).await?)?;
    let batches = Percentiles::of(durations).context("the topic is empty: nothing was read")?;
    Ok(Run {
        rows,
        elapsed,
        first_batch: first_batch.unwrap_or(elapsed),
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        peak_bytes: after.peak_bytes,
        batches,
    })
}

pub(super) fn finished(status: &QueryStatus) -> Result<()> {
    if status.state != "FINISHED" {
        bail!("the flow ended {}: {}", status.state, status.message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_differ_by_sink() {
        fn check(sink: Sink, expect: &[&str]) {
            let options = Options {
                kafka: "k:1".into(),
                cassandra: "c:1".into(),
                topic: "t".into(),
                rows: 1,
                partitions: 4,
                sink,
                executors: 1,
                task_slots: 4,
                runs: 1,
                batch_rows: 200_000,
                seed: 1,
            };
            let sql = statements(&options, 3, "/f");
            for part in expect {
                assert!(sql.contains(part), "{part} in {sql}");
            }
        }
        check(Sink::Noop, &["bench_sink_3 USING noop;", "maxOffsetsPerTrigger '200000'", "SELECT data.* FROM"]);
        check(Sink::Parquet, &["path '/f/table-3'"]);
        check(Sink::Cassandra, &["'c:1'", "table 'bench_users'"]);
        check(Sink::Kafka, &["topic 't_out'", "to_json(data) AS value"]);
    }
}
