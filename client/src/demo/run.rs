//! The demo: starts everything, sends users through it, asks for the result.
//!
//! ```text
//! users ──► Kafka ──► micro-batches on the executors ──► table ──► SQL
//!   ▲                              │ progress
//!   └──── stays a window ahead ◄───┘
//! ```
//!
//! All goes over the same gRPC and Kafka protocols as between machines. The broker inside librdkafka keeps only the
//! newest 5 MB of a partition, so the producer stays less than that ahead of what has been read.

use super::users::{Generator, ID, Shape};
use crate::remote::Remote;
use crate::session::Session;
use crate::standalone::{Cluster, Options as ClusterOptions};
use anyhow::{Context, Result, bail};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, stream};
use headwater_executor::connectors::kafka::admin::{Admin, EmbeddedBroker, NewRecord};
use headwater_proto::engine::SubmitRequest;
use headwater_proto::progress::StreamingQueryProgress;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// Topic that the users go to.
pub const TOPIC: &str = "users_created";
/// Spark's option for the brokers.
const SERVERS: &str = "kafka.bootstrap.servers";
/// Users that are made at a time.
const CHUNK: u64 = 1000;
/// Chunks between generator and producer.
const CHUNKS_MAX: usize = 8;
/// What the broker in this process keeps of a partition (librdkafka: 5 MB, 100,000 records), less some for safety.
const WINDOW_BYTES: u64 = 4_000_000;
const WINDOW_RECORDS: u64 = 50_000;
/// A user's record takes less there, on the average of a thousand: 565 bytes, a key of 36, and the record's frame.
const RECORD_BYTES: u64 = 700;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Users to make.
    pub rows: u64,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Executors.
    pub executors: usize,
    /// Users a second; as fast as they are read when absent.
    pub rate: Option<u64>,
    /// The same seed makes the same users.
    pub seed: u64,
    /// Keep tables and checkpoints.
    pub keep: bool,
    /// Kafka in place of the broker in this process.
    pub kafka: Option<String>,
    /// Cassandra in place of the Parquet table.
    pub cassandra: Option<String>,
}

/// What has happened.
#[derive(Debug)]
pub enum Step {
    /// Broker and cluster are up.
    Started {
        /// Bootstrap servers.
        kafka: String,
        /// Whether that broker is in this process.
        embedded: bool,
        /// The scheduler.
        scheduler: String,
        /// Executors.
        executors: usize,
    },
    /// The flow runs.
    Submitted {
        /// Its id.
        id: String,
        /// The statements.
        sql: String,
    },
    /// A batch ended.
    Batch {
        /// The report.
        progress: Box<StreamingQueryProgress>,
        /// Users read so far.
        done: u64,
        /// Records behind the latest offsets.
        lag: Option<u64>,
    },
    /// Every user is in the table.
    Streamed,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// Users read from the topic.
    pub rows: u64,
    /// Batches that read something.
    pub batches: u64,
    /// From submitting the flow to the last batch's end.
    pub streaming: Duration,
    /// From submitting the flow to the first batch's end.
    pub first_batch: Duration,
    /// Statements and their results.
    pub results: Vec<(&'static str, String, Vec<RecordBatch>)>,
    /// Rows in the table.
    pub count: u64,
    /// Where tables and checkpoints stay, if they do.
    pub kept: Option<PathBuf>,
}

/// Runs the demo; `say` is told each step, `interrupt` resolves when the user wants to stop.
///
/// # Errors
/// Whatever fails first, or [`Interrupted`](crate::standalone::Interrupted).
pub async fn run(
    options: &Options,
    say: &mut (dyn FnMut(Step) + Send),
    interrupt: impl AsyncFn() -> io::Result<()>,
) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("headwater-demo-").tempdir().context("failed to make a folder")?;
    let broker = match options.kafka {
        Some(_) => None,
        // It stays to the end of the process: clients that are still there would complain of a broker that is gone.
        None => Some(&*Box::leak(Box::new(EmbeddedBroker::start([(TOPIC, options.partitions)])?))),
    };
    let embedded = broker.is_some();
    let kafka = broker.map(EmbeddedBroker::address).or(options.kafka.as_deref()).unwrap_or_default();
    let admin = Admin::new(kafka)?;
    let start = if embedded { Start::Earliest } else { prepare_topic(&admin, options.partitions).await? };
    let sql = statements(options, kafka, &start, folder.path());

    let state = folder.path().join("state");
    // As many slots as partitions, so that no batch takes two rounds.
    let slots = (options.partitions as usize).div_ceil(options.executors);
    let cluster =
        Cluster::start(ClusterOptions::private(state.to_string_lossy().into_owned(), options.executors, slots)).await?;
    let address = cluster.address();
    say(Step::Started { kafka: kafka.to_string(), embedded, scheduler: address.clone(), executors: options.executors });
    let work = async {
        let streamed = send_and_follow(options, &admin, &address, &sql, embedded, say).await?;
        say(Step::Streamed);
        let results = ask(&address).await?;
        let count = results.first().map(|(_, _, rows)| first_number(rows)).unwrap_or_default();
        check_count(count, streamed.rows, options.cassandra.is_some())?;
        Ok((streamed, results, count))
    };
    let (streamed, results, count) = cluster.run(work, interrupt).await?;
    let kept = options.keep.then(|| folder.keep());
    let Streamed { rows, batches, streaming, first_batch } = streamed;
    Ok(Outcome { rows, batches, streaming, first_batch, results, count, kept })
}

/// Runs the demo's queries.
async fn ask(scheduler: &str) -> Result<Vec<(&'static str, String, Vec<RecordBatch>)>> {
    let session = Session::new(Remote::connect(scheduler).await?, HashMap::new());
    let mut results = Vec::new();
    for (title, sql) in queries() {
        let rows = session.collect(sql.as_str()).await.with_context(|| format!("failed to run {sql}"))?;
        results.push((title, sql, rows));
    }
    Ok(results)
}

/// Where the flow begins to read.
#[derive(Debug, PartialEq)]
enum Start {
    Earliest,
    /// Offsets of a topic that was there before, so that what is in it already is not the demo's.
    Offsets(BTreeMap<i32, i64>),
}

impl Start {
    fn option(&self) -> String {
        match self {
            Self::Earliest => "earliest".into(),
            Self::Offsets(offsets) => {
                let partitions: BTreeMap<_, _> =
                    offsets.iter().map(|(partition, offset)| (partition.to_string(), offset)).collect();
                serde_json::json!({ TOPIC: partitions }).to_string()
            }
        }
    }
}

/// Makes the topic on a real Kafka, or finds where it ends.
async fn prepare_topic(admin: &Admin, partitions: i32) -> Result<Start> {
    if !admin.list_topics().await?.iter().any(|topic| topic.name == TOPIC) {
        admin.create_topic(TOPIC, partitions, 1).await?;
        return Ok(Start::Earliest);
    }
    let partitions = admin.describe_topic(TOPIC).await?.partitions;
    let ends = partitions.into_iter().filter_map(|partition| Some((partition.partition, partition.latest?)));
    Ok(Start::Offsets(ends.collect()))
}

/// The demo's statements, as a user would write them.
fn statements(options: &Options, kafka: &str, start: &Start, folder: &Path) -> String {
    let sink = match &options.cassandra {
        Some(hosts) => format!(
            "CREATE TABLE created_users USING cassandra\n  OPTIONS ('spark.cassandra.connection.host' {}, keyspace \
             'spark_streams', table 'created_users',\n           'headwater.createTable' 'true', \
             'headwater.primaryKey' 'id', createTableColumnTypes 'id uuid');",
            quote(hosts)
        ),
        None => format!(
            "CREATE TABLE created_users USING parquet\n  OPTIONS (path {});",
            quote(&folder.join("created_users").to_string_lossy())
        ),
    };
    format!(
        "CREATE TABLE users_created USING kafka\n  OPTIONS ('{SERVERS}' {}, subscribe '{TOPIC}', startingOffsets {});\n{sink}\nCREATE FLOW users AS INSERT INTO created_users BY NAME\n  SELECT data.* FROM \
         (SELECT from_json(CAST(value AS STRING), {}) AS data\n                 FROM STREAM(users_created));\n",
        quote(kafka),
        quote(&start.option()),
        quote(Shape::Full.ddl()),
    )
}

/// A text in Spark SQL.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn queries() -> Vec<(&'static str, String)> {
    vec![
        ("users", "SELECT count(*) AS users, count(DISTINCT country) AS countries FROM created_users".into()),
        (
            "by country",
            "SELECT country, count(*) AS users FROM created_users GROUP BY country ORDER BY users DESC, country LIMIT 5"
                .into(),
        ),
        (
            "newest",
            "SELECT registered_date, first_name, last_name, city, country, post_code FROM created_users ORDER BY \
             registered_date DESC, id LIMIT 5"
                .into(),
        ),
    ]
}

fn first_number(rows: &[RecordBatch]) -> u64 {
    let first = rows.iter().find(|batch| batch.num_rows() > 0).map(|batch| batch.column(0));
    let number = first.and_then(|column| column.as_primitive_opt::<Int64Type>()).map(|column| column.value(0));
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
}

/// A table that was there before may hold more.
fn check_count(count: u64, rows: u64, older: bool) -> Result<()> {
    if count == rows || older && count > rows {
        return Ok(());
    }
    bail!("[DEMO_MISMATCH] {rows} users were sent, the table holds {count}: this is a bug, please report it")
}

struct Streamed {
    rows: u64,
    batches: u64,
    streaming: Duration,
    first_batch: Duration,
}

/// Starts the flow and the producer; ends when the flow has read what was produced.
async fn send_and_follow(
    options: &Options,
    admin: &Admin,
    scheduler: &str,
    sql: &str,
    windowed: bool,
    say: &mut (dyn FnMut(Step) + Send),
) -> Result<Streamed> {
    let remote = Remote::connect(scheduler).await?;
    let begin = Instant::now();
    let request = SubmitRequest { sql: sql.to_string(), trigger: "default".into(), ..SubmitRequest::default() };
    let submitted = remote.submit(request).await?;
    let Some(query) = submitted.queries.into_iter().next() else { bail!("the scheduler started no query") };
    say(Step::Submitted { id: query.id.clone(), sql: sql.to_string() });

    let (done, window) = watch::channel(0);
    let produce = produce(options, admin, window, windowed);
    let follow = follow(&remote, &query.id, options.rows, begin, &done, say);
    let ((), streamed) = tokio::try_join!(produce, follow)?;
    remote.stop(&query.id).await?;
    Ok(streamed)
}

/// Reads progress until the flow has read `rows` users.
async fn follow(
    remote: &Remote,
    id: &str,
    rows: u64,
    begin: Instant,
    read: &watch::Sender<u64>,
    say: &mut (dyn FnMut(Step) + Send),
) -> Result<Streamed> {
    let mut reports = remote.progress(id, true).await?;
    let (mut done, mut batches, mut first_batch) = (0, 0, None);
    while let Some(report) = reports.next().await? {
        if let Some(status) = report.status.as_ref().filter(|status| status.state == "FAILED") {
            bail!("the flow failed: {}", status.message);
        }
        if report.json.is_empty() {
            continue;
        }
        let progress: StreamingQueryProgress =
            serde_json::from_str(&report.json).context("the scheduler sent a progress report that is none")?;
        if progress.num_input_rows > 0 {
            done += progress.num_input_rows as u64;
            batches += 1;
            first_batch.get_or_insert_with(|| begin.elapsed());
            read.send_replace(done);
        }
        let lag = report.status.and_then(|status| u64::try_from(status.lag_records).ok());
        say(Step::Batch { progress: Box::new(progress), done, lag });
        if done >= rows {
            let streaming = begin.elapsed();
            return Ok(Streamed { rows: done, batches, streaming, first_batch: first_batch.unwrap_or(streaming) });
        }
    }
    let status = remote.get(id).await?;
    bail!("the flow ended after {done} of {rows} users: {} {}", status.state, status.message)
}

/// Users that may be ahead of what has been read.
fn window(partitions: i32) -> u64 {
    (WINDOW_BYTES / RECORD_BYTES).min(WINDOW_RECORDS) * partitions as u64
}

/// Makes the users and sends them: at the rate asked for, and with the window of the broker in this process.
async fn produce(options: &Options, admin: &Admin, mut read: watch::Receiver<u64>, windowed: bool) -> Result<()> {
    let (send, records) = mpsc::channel(CHUNKS_MAX);
    let (rows, partitions) = (options.rows, options.partitions);
    let make = async move {
        // A twentieth of a second's users at a time keeps the rate even.
        let chunk = options.rate.map_or(CHUNK, |rate| (rate / 20).clamp(1, CHUNK));
        let mut ticks =
            options.rate.map(|rate| tokio::time::interval(Duration::from_secs_f64(chunk as f64 / rate as f64)));
        let mut generator = Generator::new(options.seed, Shape::Full);
        let mut next = 0;
        while next < rows {
            let until = (next + chunk).min(rows);
            if windowed {
                let ahead = window(partitions);
                // Ends with the flow, which holds the sender: its error is the one that counts.
                if read.wait_for(|read| until <= read + ahead).await.is_err() {
                    return Ok(());
                }
            }
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let made = tokio::task::spawn_blocking(move || {
                let records = make_records(&mut generator, next, until, partitions);
                (generator, records)
            });
            let records;
            (generator, records) = made.await.context("the generator failed")?;
            if send.send(records).await.is_err() {
                return Ok(());
            }
            next = until;
        }
        drop(send);
        Ok::<_, anyhow::Error>(())
    };
    let records = ReceiverStream::new(records).flat_map(|chunk| stream::iter(chunk).map(Ok));
    let (made, sent) = tokio::join!(make, admin.produce_stream(TOPIC, records));
    made?;
    sent.context("failed to produce the users")?;
    Ok(())
}

/// Users `[from, until)` as records, dealt out to the partitions in turn.
pub(crate) fn make_records(generator: &mut Generator, from: u64, until: u64, partitions: i32) -> Vec<NewRecord> {
    (from..until)
        .map(|index| {
            let value = generator.user(index);
            NewRecord {
                key: Some(value[ID].to_vec()),
                partition: Some((index % partitions as u64) as i32),
                value: Some(value),
                timestamp_ms: None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { rows: 1, partitions: 4, executors: 2, rate: None, seed: 1, keep: false, kafka: None, cassandra: None }
    }

    #[test]
    fn statements_name_what_they_use() {
        let sql = statements(&options(), "h:1", &Start::Earliest, Path::new("/tmp/it's"));
        assert!(sql.contains("USING parquet\n  OPTIONS (path '/tmp/it\\'s/created_users');"), "{sql}");
        assert!(sql.contains("'kafka.bootstrap.servers' 'h:1'") && sql.contains("startingOffsets 'earliest'"), "{sql}");
        let options = Options { cassandra: Some("c:9042".into()), ..options() };
        let start = Start::Offsets(BTreeMap::from([(0, 5), (10, 7)]));
        let sql = statements(&options, "h:1", &start, Path::new("/tmp"));
        assert!(sql.contains("'headwater.createTable' 'true'") && sql.contains("'c:9042'"), "{sql}");
        assert!(sql.contains(r#"startingOffsets '{"users_created":{"0":5,"10":7}}'"#), "{sql}");
    }

    #[test]
    fn the_table_must_hold_what_was_sent() {
        fn check(count: u64, rows: u64, older: bool, good: bool) {
            assert_eq!(check_count(count, rows, older).is_ok(), good, "{count} of {rows}");
        }
        check(10, 10, false, true);
        check(11, 10, false, false);
        check(11, 10, true, true);
        check(9, 10, true, false);
    }

    #[test]
    fn the_window_fits_the_broker() {
        let users = window(1);
        assert!(users * RECORD_BYTES <= WINDOW_BYTES && users > CHUNK);
        assert_eq!(window(4), users * 4);
    }

    #[test]
    fn records_are_dealt_out() {
        let mut generator = Generator::new(1, Shape::Full);
        let records = make_records(&mut generator, 3, 6, 4);
        let partitions: Vec<_> = records.iter().map(|record| record.partition).collect();
        assert_eq!(partitions, [Some(3), Some(0), Some(1)]);
        for record in records {
            let user: serde_json::Value =
                serde_json::from_slice(&record.value.expect("a user")).expect("a user is JSON");
            let key = String::from_utf8(record.key.expect("a key")).expect("ASCII");
            assert_eq!(user["id"], key);
        }
    }
}
