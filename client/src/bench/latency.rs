//! Latency at a steady rate: from handing a record to the producer until it is in the sink.
//!
//! Into Kafka: until a consumer of the output topic has it. Into Cassandra: until the report of the batch that wrote it
//! says that the batch is committed, which is after the write and so an upper bound, and asks nothing of Cassandra.
//! Records are numbered by offset in their partition: the topic is new and one producer writes it, so the k-th record
//! sent to a partition is the one at offset k.

use super::throughput::{Sink, cassandra};
use super::{Percentiles, progress_of};
use crate::demo::run::quote;
use crate::demo::users::{Generator, ID, Shape};
use crate::remote::Remote;
use crate::standalone::{Cluster, Options as ClusterOptions};
use anyhow::{Context, Result, bail};
use futures::StreamExt;
use headwater_executor::connectors::kafka::admin::{Admin, NewRecord, TailFrom};
use headwater_proto::engine::SubmitRequest;
use headwater_proto::progress::StreamingQueryProgress;
use serde_json::Value;
use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How often the producer wakes: a thousandth of a second's records at a time.
const TICK: Duration = Duration::from_millis(1);
/// Records between the clock and the producer: it must never wait for that.
const RECORDS_MAX: usize = 65_536;
/// How long the last records may take before they count as lost.
const LAST_MAX: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bootstrap servers.
    pub kafka: String,
    /// Contact points, for [`Sink::Cassandra`].
    pub cassandra: String,
    /// [`Sink::Kafka`] or [`Sink::Cassandra`].
    pub sink: Sink,
    /// Records a second.
    pub rate: u64,
    /// How long to measure.
    pub measure: Duration,
    /// How long to run before.
    pub warm_up: Duration,
    /// Partitions of the topics.
    pub partitions: i32,
    /// When batches run.
    pub trigger: String,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// Milliseconds from producing to visible.
    pub latency: Percentiles,
    /// Milliseconds of each batch that had rows, warm-up included.
    pub batches: Percentiles,
    /// Rows of each such batch.
    pub batch_rows: Percentiles,
    /// Records sent.
    pub sent: u64,
}

/// Runs the benchmark. The topics it makes are deleted at its end. `interrupt` resolves when the user wants to stop.
pub async fn run(options: &Options, interrupt: impl AsyncFn() -> io::Result<()>) -> Result<Outcome> {
    if !matches!(options.sink, Sink::Kafka | Sink::Cassandra) {
        bail!(
            "[UNSUPPORTED_FEATURE] latency is measured into kafka or cassandra: give --sink kafka or --sink cassandra"
        );
    }
    let admin = Admin::new(&options.kafka)?;
    let run = uuid::Uuid::new_v4().simple().to_string();
    let (input, output) = (format!("bench_latency_in_{run}"), format!("bench_latency_out_{run}"));
    admin.create_topic(&input, options.partitions, 1).await?;
    admin.create_topic(&output, options.partitions, 1).await?;
    let outcome = measure(options, &admin, &input, &output, interrupt).await;
    for topic in [&input, &output] {
        if let Err(error) = admin.delete_topic(topic).await {
            tracing::warn!(%error, topic, "failed to delete the benchmark's topic");
        }
    }
    outcome
}

async fn measure(
    options: &Options,
    admin: &Admin,
    input: &str,
    output: &str,
    interrupt: impl AsyncFn() -> io::Result<()>,
) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("headwater-bench-").tempdir().context("failed to make a folder")?;
    let state = folder.path().join("state").to_string_lossy().into_owned();
    let slots = options.partitions as usize;
    let cluster = Cluster::start(ClusterOptions::private(state, 1, slots)).await?;
    let address = cluster.address();
    let rows = options.rate * (options.warm_up + options.measure).as_secs();
    let work = send_and_see(options, admin, &address, input, output, rows);
    let (pairs, reports) = cluster.run(work, interrupt).await?;

    let Some(begin) = pairs.iter().map(|(produced, _)| *produced).min() else { bail!("no record came through") };
    let from = begin + options.warm_up;
    let latencies: Vec<_> = pairs
        .into_iter()
        .filter(|(produced, _)| *produced >= from)
        .map(|(produced, seen)| seen.saturating_duration_since(produced).as_secs_f64() * 1000.0)
        .collect();
    let durations = reports.iter().map(|report| report.progress.batch_duration as f64).collect();
    let batch_rows = reports.iter().map(|report| report.progress.num_input_rows as f64).collect();
    Ok(Outcome {
        latency: Percentiles::of(latencies).context("no record came through after the warm-up")?,
        batches: Percentiles::of(durations).context("no batch had rows")?,
        batch_rows: Percentiles::of(batch_rows).context("no batch had rows")?,
        sent: rows,
    })
}

/// Starts the flow, sends `rows` records; pairs the moment each was sent with that when it was seen.
async fn send_and_see(
    options: &Options,
    admin: &Admin,
    scheduler: &str,
    input: &str,
    output: &str,
    rows: u64,
) -> Result<(Vec<(Instant, Instant)>, Vec<Report>)> {
    let remote = Remote::connect(scheduler).await?;
    let request = SubmitRequest {
        sql: statements(options, input, output),
        trigger: options.trigger.clone(),
        ..SubmitRequest::default()
    };
    let Some(query) = remote.submit(request).await?.queries.into_iter().next() else {
        bail!("the scheduler started no query")
    };
    let sent = Sent::new(options.partitions);
    let produce = produce(options, admin, input, &sent, rows);
    let reports = collect_until(&remote, &query.id, rows);
    let outcome = if options.sink == Sink::Kafka {
        let seen = async { tokio::try_join!(arrivals(admin, output, rows), reports) };
        let (seen, reports) = with_deadline(options, produce, seen).await?;
        let sent = sent.by_key();
        (seen.into_iter().filter_map(|(key, at)| Some((*sent.get(&key)?, at))).collect(), reports)
    } else {
        let reports = with_deadline(options, produce, reports).await?;
        (sent.committed(&reports)?, reports)
    };
    remote.stop(&query.id).await?;
    Ok(outcome)
}

fn statements(options: &Options, input: &str, output: &str) -> String {
    let kafka = quote(&options.kafka);
    let (sink, select) = match options.sink {
        Sink::Cassandra => (
            cassandra(&options.cassandra),
            format!(
                "SELECT data.* FROM (SELECT from_json(CAST(value AS STRING), {}) AS data FROM STREAM(latency_in))",
                quote(Shape::Classic.ddl())
            ),
        ),
        _ => (
            format!("USING kafka OPTIONS ('kafka.bootstrap.servers' {kafka}, topic {})", quote(output)),
            "SELECT key, upper(CAST(value AS STRING)) AS value FROM STREAM(latency_in)".to_string(),
        ),
    };
    format!(
        "CREATE TABLE latency_in USING kafka OPTIONS ('kafka.bootstrap.servers' {kafka}, subscribe {}, startingOffsets \
         'earliest');\nCREATE TABLE latency_out {sink};\nCREATE FLOW latency AS INSERT INTO latency_out BY NAME \
         {select};",
        quote(input)
    )
}

/// When each record was handed to the producer, by partition and offset.
struct Sent {
    partitions: Vec<Mutex<Vec<(Vec<u8>, Instant)>>>,
}

impl Sent {
    fn new(partitions: i32) -> Self {
        Self { partitions: (0..partitions).map(|_| Mutex::default()).collect() }
    }
    fn add(&self, partition: usize, key: Vec<u8>) {
        let mut records = self.partitions[partition].lock().expect("nobody panics with it");
        records.push((key, Instant::now()));
    }
    fn by_key(&self) -> HashMap<Vec<u8>, Instant> {
        let records = |partition: &Mutex<Vec<_>>| partition.lock().expect("nobody panics with it").clone();
        self.partitions.iter().flat_map(records).collect()
    }
    /// Pairs each record with the arrival of the report of the batch that committed it.
    fn committed(&self, reports: &[Report]) -> Result<Vec<(Instant, Instant)>> {
        let mut pairs = Vec::new();
        let mut next = vec![0; self.partitions.len()];
        for report in reports {
            let ends = report.progress.sources.first().map(|source| &source.end_offset);
            for (partition, until) in ends.map(offsets).transpose()?.unwrap_or_default() {
                let records = self.partitions.get(partition).context("a partition that nobody wrote to")?;
                let records = records.lock().expect("nobody panics with it");
                let until = until.min(records.len());
                pairs.extend(records[next[partition].min(until)..until].iter().map(|(_, at)| (*at, report.seen)));
                next[partition] = until;
            }
        }
        Ok(pairs)
    }
}

/// `{"topic":{"0":17}}` as partition and offset; the report may carry it as a text.
fn offsets(value: &Value) -> Result<Vec<(usize, usize)>> {
    let parsed;
    let value = match value {
        Value::String(text) => {
            parsed = serde_json::from_str(text).context("the report's end offset is no JSON")?;
            &parsed
        }
        value => value,
    };
    let topics = value.as_object().context("the report's end offset is no object")?;
    topics
        .values()
        .filter_map(Value::as_object)
        .flatten()
        .map(|(partition, offset)| {
            let offset = offset.as_u64().context("an offset is no number")?;
            Ok((partition.parse().context("a partition is no number")?, offset as usize))
        })
        .collect()
}

/// Sends records at the rate asked for.
async fn produce(options: &Options, admin: &Admin, topic: &str, sent: &Sent, rows: u64) -> Result<()> {
    let (send, records) = mpsc::channel(RECORDS_MAX);
    let clock = async move {
        let mut generator = Generator::new(1, Shape::Classic);
        let mut ticks = tokio::time::interval(TICK);
        let begin = Instant::now();
        let mut next = 0;
        while next < rows {
            ticks.tick().await;
            // By the clock, not by ticks: a late tick is made up for.
            let due = ((begin.elapsed().as_secs_f64() * options.rate as f64) as u64).min(rows);
            for index in next..due {
                let value = generator.user(index);
                let partition = (index % options.partitions as u64) as usize;
                let key = value[ID].to_vec();
                let record = NewRecord {
                    key: Some(key.clone()),
                    value: Some(value),
                    partition: Some(partition as i32),
                    timestamp_ms: None,
                };
                sent.add(partition, key);
                if send.send(Ok(record)).await.is_err() {
                    return;
                }
            }
            next = next.max(due);
        }
    };
    let ((), produced) = tokio::join!(clock, admin.produce_stream(topic, ReceiverStream::new(records)));
    produced.context("failed to produce")?;
    Ok(())
}

/// Keys of the output topic's records, and when they came.
async fn arrivals(admin: &Admin, topic: &str, rows: u64) -> Result<Vec<(Vec<u8>, Instant)>> {
    let mut records = admin.tail(topic, TailFrom::Earliest, true).await?;
    let mut seen = Vec::new();
    while (seen.len() as u64) < rows {
        let Some(record) = records.next().await.transpose()? else { break };
        seen.push((record.key.unwrap_or_default(), Instant::now()));
    }
    Ok(seen)
}

struct Report {
    seen: Instant,
    progress: StreamingQueryProgress,
}

/// Reports of batches with rows, until these are `rows`.
async fn collect_until(remote: &Remote, id: &str, rows: u64) -> Result<Vec<Report>> {
    let mut reports = remote.progress(id, true).await?;
    let (mut collected, mut read) = (Vec::new(), 0);
    while read < rows {
        let Some(report) = reports.next().await? else {
            let status = remote.get(id).await?;
            bail!("the flow ended {}: {}", status.state, status.message);
        };
        let Some(progress) = progress_of(&report)?.filter(|progress| progress.num_input_rows > 0) else { continue };
        read += progress.num_input_rows as u64;
        collected.push(Report { seen: Instant::now(), progress });
    }
    Ok(collected)
}

/// Runs both; what is waited for must come soon after the last record was sent.
async fn with_deadline<T>(
    options: &Options,
    produce: impl Future<Output = Result<()>>,
    wait: impl Future<Output = Result<T>>,
) -> Result<T> {
    let limit = options.warm_up + options.measure + LAST_MAX;
    let both = async {
        let ((), waited) = tokio::try_join!(produce, wait)?;
        Ok(waited)
    };
    match tokio::time::timeout(limit, both).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("[BENCH_LOST] records were still missing {} s after the last was sent", LAST_MAX.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn end_offsets() {
        fn check(value: Value, expect: Option<&[(usize, usize)]>) {
            assert_eq!(offsets(&value).ok().as_deref(), expect, "{value}");
        }
        check(json!({"t": {"0": 5, "1": 7}}), Some(&[(0, 5), (1, 7)]));
        check(json!("{\"t\":{\"2\":1}}"), Some(&[(2, 1)]));
        check(json!({}), Some(&[]));
        check(json!(null), None);
        check(json!({"t": {"x": 5}}), None);
    }
}
