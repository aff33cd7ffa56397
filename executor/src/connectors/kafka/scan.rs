//! The executor half of a read: one offset range of one topic partition to record batches.
//!
//! A blocking thread takes records from a pooled consumer and builds Arrow columns straight from librdkafka's memory,
//! only those that are projected, and hands batches over by a bounded channel. Dropping the stream stops the thread
//! at once, wherever it waits.

use crate::connectors::kafka::client;
use crate::connectors::kafka::offsets::OffsetRange;
use crate::connectors::kafka::options::{PoolSettings, Properties, SourceOptions};
use crate::connectors::kafka::pool::{Event, Key, POOL, PartitionConsumer, Record, Stop};
use crate::connectors::{ReadUntil, Reader};
use crate::metrics::METRICS;
use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, StringArray, StringBuilder, StructBuilder,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use headwater_proto::error::{Error, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// DataFusion's batch size.
const BATCH_ROWS: usize = 8192;
/// A batch of large records ends here: Arrow's 32-bit offsets end at 2 GiB, and memory before.
const BATCH_BYTES: usize = 16 << 20;
/// Batches between the thread and the plan: one being made, one waiting, one being used.
const BATCHES_AHEAD: usize = 2;
/// First wait for a record. A record ends every wait at once; what needs a look in between is a range that ends with
/// a transaction marker, which is no record.
const WAIT_MIN: Duration = Duration::from_millis(2);
/// Waits double up to this.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// A task gives up when every broker has been away this long; until then librdkafka reconnects by itself.
const BROKERS_DOWN_MAX: Duration = Duration::from_secs(10);
/// How often a read may be told that an offset is out of range while the watermarks say that it is there.
const OUT_OF_RANGE_MAX: u32 = 5;

/// Columns of a Kafka row, exactly Spark's.
pub fn row_schema(include_headers: bool) -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("timestamp", utc, true),
        Field::new("timestampType", DataType::Int32, true),
    ];
    if include_headers {
        fields.push(Field::new("headers", DataType::List(header_item()), true));
    }
    Arc::new(Schema::new(fields))
}

fn header_fields() -> Fields {
    Fields::from(vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)])
}

fn header_item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(header_fields()), true))
}

/// What every reader of a source gets. It may hold secrets: never logged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReaderConfig {
    /// The query, which has its own consumers.
    pub query: String,
    /// librdkafka properties.
    pub properties: Properties,
    /// Whether lost records fail the task.
    pub fail_on_data_loss: bool,
    /// How long a task waits for a record that must be there.
    pub poll_timeout_ms: u64,
    /// Whether rows have `headers`.
    pub include_headers: bool,
    /// How the executor keeps consumers.
    pub pool: PoolSettings,
}

impl ReaderConfig {
    /// The config of `query`'s readers.
    pub fn new(options: &SourceOptions, query: &str) -> Self {
        Self {
            query: query.to_string(),
            properties: options.properties.clone(),
            fail_on_data_loss: options.fail_on_data_loss,
            poll_timeout_ms: options.poll_timeout.as_millis() as u64,
            include_headers: options.include_headers,
            pool: options.pool,
        }
    }
    /// How the executor keeps consumers of a query that has so many.
    fn pool_of(&self, consumers: usize) -> PoolSettings {
        let mut pool = self.pool;
        if pool.capacity == PoolSettings::default().capacity {
            // One executor may get all of them; a smaller pool would close and open consumers in every batch.
            pool.capacity = pool.capacity.max(consumers);
        }
        pool
    }
    /// The JSON text that travels.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers have a JSON text")
    }
}

/// The range of a descriptor; `until` may be missing where a signal ends the read.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Descriptor {
    topic: String,
    partition: i32,
    from: i64,
    #[serde(default)]
    until: Option<i64>,
    /// How many consumers the query has, as far as its batch tells: each gets its share of the prefetch memory.
    #[serde(default)]
    consumers: usize,
}

/// Descriptors of these ranges, of a query that reads with so many consumers in all.
pub fn descriptors(ranges: Vec<OffsetRange>, consumers: usize) -> Vec<String> {
    let described = ranges.into_iter().map(|range| {
        let OffsetRange { topic, partition, from, until } = range;
        let descriptor = Descriptor { topic, partition, from, until: Some(until), consumers };
        serde_json::to_string(&descriptor).expect("a range has a JSON text")
    });
    described.collect()
}

/// Reads offset ranges.
#[derive(Debug)]
pub struct KafkaReader {
    config: Arc<ReaderConfig>,
}

impl KafkaReader {
    /// A reader of this config.
    pub fn new(config: ReaderConfig) -> Self {
        Self { config: Arc::new(config) }
    }

    /// A reader of a config's JSON.
    ///
    /// # Errors
    /// When the text is not that of a [`ReaderConfig`]; it is not shown, as it may hold secrets.
    pub fn from_json(config: &str) -> Result<Self> {
        let config = serde_json::from_str(config).map_err(|e| {
            Error::internal(format!(
                "reader config of format kafka cannot be read (line {}, column {})",
                e.line(),
                e.column()
            ))
        })?;
        Ok(Self::new(config))
    }

    /// Like [`Reader::read`], and the offset after the last record handed over, which is where a read that a signal
    /// ends has stopped.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub fn read_with_position(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
    ) -> Result<(SendableRecordBatchStream, watch::Receiver<i64>)> {
        let mut range: Descriptor = serde_json::from_str(descriptor)
            .map_err(|e| Error::internal(format!("descriptor of format kafka cannot be read: {e}: {descriptor}")))?;
        let signal = match until {
            ReadUntil::DescriptorEnd if range.until.is_none() => {
                return Err(Error::internal(format!("descriptor of format kafka has no end: {descriptor}")));
            }
            ReadUntil::DescriptorEnd => None,
            ReadUntil::Signal(signal) => {
                range.until = None;
                Some(signal)
            }
        };
        let all: Vec<usize>;
        let columns = match projection {
            Some(columns) => columns,
            None => {
                all = (0..row_schema(self.config.include_headers).fields().len()).collect();
                &all
            }
        };
        let columns = columns.iter().map(|index| ColumnKind::of(*index)).collect::<Result<Vec<_>>>()?;
        let (position, positions) = watch::channel(range.from);
        let job = Job { config: Arc::clone(&self.config), range, columns, schema: Arc::clone(&schema), signal };
        let stream = futures::stream::unfold(State::Ready(job, position), |state| async move {
            let mut running = match state {
                State::Ready(job, position) => Running::start(job, position),
                State::Running(running) => running,
                State::Ended => return None,
            };
            match running.batches.recv().await {
                Some(Message::Batch(batch, next)) => {
                    running.position.send_replace(next);
                    Some((Ok(batch), State::Running(running)))
                }
                Some(Message::End(next)) => {
                    running.position.send_replace(next);
                    None
                }
                Some(Message::Failed(error)) => Some((Err(DataFusionError::External(Box::new(error))), State::Ended)),
                // An end that was not announced would pass for having read everything.
                None => {
                    let error = Error::internal("the thread that reads from kafka died");
                    Some((Err(DataFusionError::External(Box::new(error))), State::Ended))
                }
            }
        });
        Ok((Box::pin(RecordBatchStreamAdapter::new(schema, stream)), positions))
    }
}

impl Reader for KafkaReader {
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.read_with_position(descriptor, projection, schema, until).map(|(stream, _)| stream)
    }
}

enum Message {
    /// Rows, and the offset after the last.
    Batch(RecordBatch, i64),
    End(i64),
    Failed(Error),
}

/// A stream before its first poll, while its thread runs, and after an error.
enum State {
    Ready(Job, watch::Sender<i64>),
    Running(Running),
    Ended,
}

struct Running {
    batches: mpsc::Receiver<Message>,
    position: watch::Sender<i64>,
    stop: Arc<Stop>,
    _signal: Option<SpawnedTask<()>>,
}

impl Running {
    fn start(mut job: Job, position: watch::Sender<i64>) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let stop = Arc::new(Stop::default());
        let signal = job.signal.take().map(|mut signal| {
            let stop = Arc::clone(&stop);
            SpawnedTask::spawn(async move {
                // Whoever would give the signal being gone is the signal, too.
                let _ = signal.wait_for(|told| *told).await;
                stop.stop();
            })
        });
        let thread_stop = Arc::clone(&stop);
        // Ends when `Running` is dropped: it stops the wait, and its receiver fails the next send.
        tokio::task::spawn_blocking(move || job.run(&thread_stop, &sender));
        Self { batches, position, stop, _signal: signal }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

struct Job {
    config: Arc<ReaderConfig>,
    range: Descriptor,
    columns: Vec<ColumnKind>,
    schema: SchemaRef,
    signal: Option<watch::Receiver<bool>>,
}

/// How a read ended.
enum Ended {
    /// At its end, here.
    At(i64),
    /// Nobody wants more.
    Unwanted,
}

impl Job {
    fn run(&self, stop: &Stop, sender: &mpsc::Sender<Message>) {
        let range = &self.range;
        let key = Key {
            query: self.config.query.clone(),
            topic: range.topic.clone(),
            partition: range.partition,
            properties: self.config.properties.hash_value(),
        };
        let message = self.read(key, stop, sender);
        // Whatever still holds the consumer lets go of it here, on a thread that may wait.
        stop.detach();
        if let Some(message) = message {
            // Fails when nobody listens any more, who then needs no answer.
            let _ = sender.blocking_send(message);
        }
    }

    /// What to say at the end, when somebody may listen.
    fn read(&self, key: Key, stop: &Stop, sender: &mpsc::Sender<Message>) -> Option<Message> {
        let range = &self.range;
        Some(if range.until.is_some_and(|until| until <= range.from) {
            Message::End(range.from)
        } else {
            let taken = POOL.checkout(&key, &self.config.properties, range.from, range.consumers, stop);
            let read = taken.and_then(|mut consumer| {
                // A consumer that failed is not kept: whatever ails it must not fail the next attempt.
                let ended = self.pump(&mut consumer, stop, sender)?;
                POOL.checkin(key, consumer, self.config.pool_of(range.consumers), stop);
                Ok(ended)
            });
            match read {
                Ok(Ended::At(next)) => Message::End(next),
                Ok(Ended::Unwanted) => return None,
                Err(error) => Message::Failed(error),
            }
        })
    }

    fn pump(&self, consumer: &mut PartitionConsumer, stop: &Stop, sender: &mpsc::Sender<Message>) -> Result<Ended> {
        let range = &self.range;
        let rows_at_most = range
            .until
            .map_or(BATCH_ROWS, |until| usize::try_from(until - range.from).unwrap_or(BATCH_ROWS).min(BATCH_ROWS));
        let mut rows = Rows::new(&self.columns, rows_at_most);
        let mut records: Vec<Record> = Vec::with_capacity(rows_at_most);
        let mut waiting_since = Instant::now();
        let mut wait = WAIT_MIN;
        let mut out_of_range = 0;
        let mut next = range.from;
        loop {
            if stop.is_stopped() {
                // A read that a signal ends hands over what it has; a stream that was dropped takes nothing.
                let _ = rows.is_empty() || self.send(&mut rows, next, sender)?;
                return Ok(if range.until.is_none() { Ended::At(next) } else { Ended::Unwanted });
            }
            if let Some(until) = range.until
                && consumer.has_reached(until)
            {
                return Ok(if rows.is_empty() || self.send(&mut rows, until, sender)? {
                    Ended::At(until)
                } else {
                    Ended::Unwanted
                });
            }
            let event = consumer.take(range.until, BATCH_ROWS - rows.len(), wait, &mut records);
            if records.is_empty() {
                wait = (wait * 2).min(WAIT_MAX);
            } else {
                for record in records.drain(..) {
                    rows.append(&record);
                    next = record.offset() + 1;
                    if rows.bytes >= BATCH_BYTES && !self.send(&mut rows, next, sender)? {
                        return Ok(Ended::Unwanted);
                    }
                }
                let due = rows.len() >= BATCH_ROWS || (range.until.is_none() && !rows.is_empty());
                if due && !self.send(&mut rows, next, sender)? {
                    return Ok(Ended::Unwanted);
                }
                (waiting_since, wait) = (Instant::now(), WAIT_MIN);
            }
            match event {
                Event::Nothing => self.check_patience(consumer, waiting_since.elapsed())?,
                Event::OutOfRange(why) => {
                    out_of_range += 1;
                    match self.after_out_of_range(consumer, &why, out_of_range)? {
                        Some(from) => consumer.seek(from)?,
                        None => return self.give_up_range(&mut rows, next, sender),
                    }
                }
                Event::Gone(why) => {
                    let lost = format!("topic {} partition {} is gone ({why})", range.topic, range.partition);
                    self.lost(&lost)?;
                    return self.give_up_range(&mut rows, next, sender);
                }
                Event::Failed(code, why) => {
                    let what =
                        format!("read topic {} partition {} at offset {next}: {why}", range.topic, range.partition);
                    let brokers = self.config.properties.brokers();
                    return Err(client::failed(&what, brokers, &KafkaError::MessageConsumption(code), None));
                }
            }
        }
    }

    /// What is left of the range is lost, and that was accepted.
    fn give_up_range(&self, rows: &mut Rows, next: i64, sender: &mpsc::Sender<Message>) -> Result<Ended> {
        let wanted = rows.is_empty() || self.send(rows, next, sender)?;
        Ok(if wanted { Ended::At(self.range.until.unwrap_or(next)) } else { Ended::Unwanted })
    }

    /// Whether somebody still wants batches.
    fn send(&self, rows: &mut Rows, next: i64, sender: &mpsc::Sender<Message>) -> Result<bool> {
        let batch = rows.finish(&self.range, &self.schema)?;
        METRICS.kafka_records_read.inc_by(batch.num_rows() as u64);
        Ok(sender.blocking_send(Message::Batch(batch, next)).is_ok())
    }

    /// A range's records are known to be there, so waiting for them has an end.
    fn check_patience(&self, consumer: &PartitionConsumer, waited: Duration) -> Result<()> {
        let Some(until) = self.range.until else { return Ok(()) };
        let limit = Duration::from_millis(self.config.poll_timeout_ms);
        let trouble = consumer.trouble();
        let down = trouble.as_ref().is_some_and(|trouble| trouble.code == RDKafkaErrorCode::AllBrokersDown);
        if waited < limit && !(down && waited >= BROKERS_DOWN_MAX) {
            return Ok(());
        }
        let (topic, partition) = (&self.range.topic, self.range.partition);
        let brokers = self.config.properties.brokers();
        let what = format!("read offsets {}..{until} of topic {topic} partition {partition}", consumer.position());
        if down {
            return Err(client::failed(
                &what,
                brokers,
                &KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown),
                trouble.as_ref(),
            ));
        }
        let because = trouble.map_or(String::new(), |trouble| format!(" ({})", trouble.reason));
        Err(Error::transient(
            "KAFKA_POLL_TIMEOUT",
            format!(
                "failed to {what}: nothing came from {brokers} in {} ms{because}: see to the brokers, or raise option \
                 kafkaConsumer.pollTimeoutMs",
                waited.as_millis()
            ),
        ))
    }

    /// Where to go on, if anywhere, after the broker said that an offset is not in its log.
    fn after_out_of_range(&self, consumer: &PartitionConsumer, why: &str, times: u32) -> Result<Option<i64>> {
        let Descriptor { topic, partition, until, .. } = &self.range;
        let position = consumer.position();
        let brokers = self.config.properties.brokers();
        let (earliest, latest) = consumer.watermarks(self.config.properties.api_timeout()).map_err(|e| {
            client::failed(&format!("read the offsets of topic {topic} partition {partition}"), brokers, &e, None)
        })?;
        match lost_range(position, *until, earliest, latest) {
            Lost::Nothing if times < OUT_OF_RANGE_MAX => Ok(Some(position)),
            Lost::Nothing => Err(Error::transient(
                "KAFKA_UNAVAILABLE",
                format!(
                    "{brokers} refuses offset {position} of topic {topic} partition {partition} ({why}) although it says \
                     that it has {earliest}..{latest}"
                ),
            )),
            Lost::Until(end, next) => {
                self.lost(&format!(
                    "offsets {position}..{end} of topic {topic} partition {partition} are gone from {brokers}, which has \
                     {earliest}..{latest}"
                ))?;
                Ok(next)
            }
        }
    }

    /// Fails, or warns, as `failOnDataLoss` says.
    fn lost(&self, what: &str) -> Result<()> {
        METRICS.kafka_data_loss.inc();
        if self.config.fail_on_data_loss {
            return Err(data_loss(what));
        }
        tracing::warn!(query_id = self.config.query, "some data may have been lost: {what}");
        Ok(())
    }
}

/// `KAFKA_DATA_LOSS`, with the remedy.
pub fn data_loss(what: &str) -> Error {
    Error::fatal(
        "KAFKA_DATA_LOSS",
        format!(
            "{what}: some data may have been lost, as it was aged out by Kafka or the topic was deleted before it was \
             processed; set option failOnDataLoss to false to go on without it"
        ),
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Lost {
    /// The log has the offset.
    Nothing,
    /// All before this offset; reading goes on at the other, if anywhere.
    Until(i64, Option<i64>),
}

/// What of `[position, until)` a log that holds `[earliest, latest)` has lost.
fn lost_range(position: i64, until: Option<i64>, earliest: i64, latest: i64) -> Lost {
    let until = until.unwrap_or(i64::MAX);
    if position < earliest {
        let end = earliest.min(until);
        Lost::Until(end, (end < until).then_some(end))
    } else if position > latest {
        // The log is younger than the offset: the topic was made anew. What it has is not what was asked for.
        Lost::Until(until, None)
    } else {
        Lost::Nothing
    }
}

/// A column of the row schema, by its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    Key,
    Value,
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampType,
    Headers,
}

impl ColumnKind {
    fn of(index: usize) -> Result<Self> {
        use ColumnKind::*;
        [Key, Value, Topic, Partition, Offset, Timestamp, TimestampType, Headers]
            .get(index)
            .copied()
            .ok_or_else(|| Error::internal(format!("a kafka row has no column {index}")))
    }
}

enum Column {
    Key(BinaryBuilder),
    Value(BinaryBuilder),
    Topic,
    Partition,
    Offset(Vec<i64>),
    Timestamp(Vec<i64>),
    TimestampType(Vec<i32>),
    Headers(ListBuilder<StructBuilder>),
}

/// Rows being built.
struct Rows {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Rows {
    fn new(kinds: &[ColumnKind], rows: usize) -> Self {
        let columns = kinds
            .iter()
            .map(|kind| match kind {
                ColumnKind::Key => Column::Key(BinaryBuilder::with_capacity(rows, 0)),
                ColumnKind::Value => Column::Value(BinaryBuilder::with_capacity(rows, 256 * rows)),
                ColumnKind::Topic => Column::Topic,
                ColumnKind::Partition => Column::Partition,
                ColumnKind::Offset => Column::Offset(Vec::with_capacity(rows)),
                ColumnKind::Timestamp => Column::Timestamp(Vec::with_capacity(rows)),
                ColumnKind::TimestampType => Column::TimestampType(Vec::with_capacity(rows)),
                ColumnKind::Headers => Column::Headers(header_builder()),
            })
            .collect();
        Self { columns, rows: 0, bytes: 0 }
    }

    fn len(&self) -> usize {
        self.rows
    }

    fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn append(&mut self, record: &Record) {
        self.rows += 1;
        for column in &mut self.columns {
            match column {
                Column::Key(builder) => {
                    self.bytes += record.key().map_or(0, <[u8]>::len);
                    builder.append_option(record.key());
                }
                Column::Value(builder) => {
                    self.bytes += record.value().map_or(0, <[u8]>::len);
                    builder.append_option(record.value());
                }
                Column::Topic | Column::Partition => {}
                Column::Offset(offsets) => offsets.push(record.offset()),
                Column::Timestamp(times) => times.push(record.time().ms.saturating_mul(1000)),
                Column::TimestampType(kinds) => kinds.push(record.time().kind),
                Column::Headers(lists) => {
                    let some = record.headers(|name, value| {
                        self.bytes += name.len() + value.map_or(0, <[u8]>::len);
                        append_header(lists.values(), name, value);
                    });
                    // As in Spark: no headers are null, not an empty list.
                    lists.append(some);
                }
            }
        }
    }

    fn finish(&mut self, range: &Descriptor, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let arrays: Vec<ArrayRef> = self
            .columns
            .iter_mut()
            .map(|column| match column {
                Column::Key(builder) | Column::Value(builder) => {
                    let bytes = builder.values_slice().len();
                    let array = builder.finish();
                    // The next batch is likely to be as large, when there is one.
                    if rows == BATCH_ROWS {
                        *builder = BinaryBuilder::with_capacity(rows, bytes);
                    }
                    Arc::new(array) as ArrayRef
                }
                Column::Topic => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(range.topic.as_str(), rows)))
                }
                Column::Partition => Arc::new(Int32Array::from_value(range.partition, rows)),
                Column::Offset(offsets) => Arc::new(Int64Array::from(std::mem::take(offsets))),
                Column::Timestamp(times) => {
                    Arc::new(TimestampMicrosecondArray::from(std::mem::take(times)).with_timezone("UTC"))
                }
                Column::TimestampType(kinds) => Arc::new(Int32Array::from(std::mem::take(kinds))),
                Column::Headers(lists) => Arc::new(lists.finish()),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
            .map_err(|e| Error::internal(format!("kafka rows do not fit the plan's schema: {e}")))
    }
}

fn header_builder() -> ListBuilder<StructBuilder> {
    ListBuilder::new(StructBuilder::from_fields(header_fields(), 0)).with_field(header_item())
}

fn append_header(row: &mut StructBuilder, name: &str, value: Option<&[u8]>) {
    row.field_builder::<StringBuilder>(0).expect("headers have a text key").append_value(name);
    row.field_builder::<BinaryBuilder>(1).expect("headers have a binary value").append_option(value);
    row.append(true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;

    #[test]
    fn losses() {
        let check = |position, until, earliest, latest, expect| {
            assert_eq!(lost_range(position, until, earliest, latest), expect);
        };
        check(5, Some(9), 7, 20, Lost::Until(7, Some(7)));
        check(5, Some(9), 9, 20, Lost::Until(9, None));
        check(5, Some(9), 15, 20, Lost::Until(9, None));
        check(5, Some(9), 0, 3, Lost::Until(9, None));
        check(5, Some(9), 0, 20, Lost::Nothing);
        check(5, None, 7, 20, Lost::Until(7, Some(7)));
    }

    #[test]
    fn schema_is_that_of_spark() {
        let names =
            |headers| row_schema(headers).fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(false), "key value topic partition offset timestamp timestampType");
        assert_eq!(names(true), "key value topic partition offset timestamp timestampType headers");
    }

    #[test]
    fn a_bad_config_is_not_shown() {
        let error = KafkaReader::from_json(r#"{"query":"q","properties":{"sasl.password":"hunter2"}"#).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn descriptors_are_offset_ranges() {
        let range = OffsetRange { topic: "t".into(), partition: 1, from: 2, until: 3 };
        let json = descriptors(vec![range.clone()], 9).remove(0);
        assert_eq!(json, r#"{"topic":"t","partition":1,"from":2,"until":3,"consumers":9}"#);
        let read: Descriptor = serde_json::from_str(&json).unwrap();
        assert_eq!((read.topic.as_str(), read.partition, read.from, read.until), ("t", 1, 2, Some(3)));
        assert_eq!(read.consumers, 9);
        assert_eq!(serde_json::from_str::<OffsetRange>(&json).unwrap(), range);
        assert_eq!(serde_json::to_string(&range).unwrap(), json.replace(r#","consumers":9"#, ""));
    }

    #[test]
    fn the_pool_holds_all_consumers_of_a_query() {
        let check = |pairs: &[(&str, &str)], consumers: usize, expect: usize| {
            let all = [&[("kafka.bootstrap.servers", "localhost:9092"), ("subscribe", "t")], pairs].concat();
            let options = SourceOptions::stream(&Options::new(all)).unwrap();
            assert_eq!(ReaderConfig::new(&options, "q").pool_of(consumers).capacity, expect);
        };
        check(&[], 3, 64);
        check(&[], 100, 100);
        check(&[("spark.kafka.consumer.cache.capacity", "10")], 100, 10);
    }
}
