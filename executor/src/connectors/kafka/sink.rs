//! Writes: rows with columns `key`?, `value`, `headers`?, `topic`?, `partition`? to Kafka, at least once.
//!
//! Records are handed to a pooled, idempotent producer as fast as its queue takes them; deliveries are counted, not
//! awaited one by one, until a flush. A full queue is waited for, never spun on.

use crate::connectors::kafka::client::{close_elsewhere, failed, is_transient_code, log_line, unknown_topic};
use crate::connectors::kafka::options::{Properties, SinkOptions};
use crate::connectors::{Sink, SinkContext, SinkTask, WriteCounts, WriteTask, Writer};
use crate::metrics::METRICS;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, Int32Array, LargeBinaryArray, LargeStringArray, ListArray,
    StringArray, StringViewArray, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use headwater_proto::error::{Error, Result};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

const INVALID: &str = "KAFKA_INVALID_SINK_SCHEMA";

/// librdkafka gives a record's room free only after its delivery was told, so that who is woken by the last delivery may
/// look too early, and nobody wakes it again: it looks by itself.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// Rows sent before other tasks of the thread get their turn.
const ROWS_PER_TURN: usize = 1024;

/// The driver half of a write.
#[derive(Debug)]
pub struct KafkaSink {
    options: SinkOptions,
    schema: SchemaRef,
}

impl KafkaSink {
    /// A sink for these rows; nothing is sent yet.
    ///
    /// # Errors
    /// `KAFKA_INVALID_SINK_SCHEMA` names the column.
    pub fn new(options: SinkOptions, context: &SinkContext) -> Result<Self> {
        check_schema(&context.schema, options.topic.as_deref())?;
        Ok(Self { options, schema: Arc::clone(&context.schema) })
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn format(&self) -> &'static str {
        "kafka"
    }
    fn description(&self) -> String {
        "org.apache.spark.sql.kafka010.KafkaSourceProvider$KafkaTable".into()
    }
    async fn prepare(&self) -> Result<()> {
        check_schema(&self.schema, self.options.topic.as_deref())
    }
    fn writer_config(&self) -> String {
        let config = WriterConfig {
            properties: self.options.properties.clone(),
            topic: self.options.topic.clone(),
            idle_ms: self.options.producer_idle.as_millis() as u64,
        };
        serde_json::to_string(&config).expect("strings and numbers have a JSON text")
    }
}

/// Spark's checks of a Kafka write.
fn check_schema(schema: &SchemaRef, topic: Option<&str>) -> Result<()> {
    let find = |name: &str| schema.fields().iter().find(|field| field.name() == name);
    let bytes = |kind: &DataType| is_text(kind) || is_binary(kind);
    let wrong = |name: &str, expected: &str, found: &DataType| {
        Err(Error::invalid(INVALID, format!("{name} attribute type must be a {expected}, not {found}: cast it")))
    };
    match find("value") {
        None => {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::invalid(
                INVALID,
                format!("required attribute 'value' not found among {}: name a column so", names.join(", ")),
            ));
        }
        Some(field) if !bytes(field.data_type()) => return wrong("value", "string or binary", field.data_type()),
        Some(_) => {}
    }
    if let Some(field) = find("key")
        && !bytes(field.data_type())
    {
        return wrong("key", "string or binary", field.data_type());
    }
    match find("topic") {
        None if topic.is_none() => {
            return Err(Error::invalid(
                INVALID,
                "topic option required when no 'topic' attribute is present: use option topic to set a topic",
            ));
        }
        Some(field) if !is_text(field.data_type()) => return wrong("topic", "string", field.data_type()),
        _ => {}
    }
    if let Some(field) = find("partition")
        && *field.data_type() != DataType::Int32
    {
        return wrong("partition", "int", field.data_type());
    }
    if let Some(field) = find("headers") {
        let fits = match field.data_type() {
            DataType::List(item) => match item.data_type() {
                DataType::Struct(fields) => {
                    fields.len() == 2 && is_text(fields[0].data_type()) && bytes(fields[1].data_type())
                }
                _ => false,
            },
            _ => false,
        };
        if !fits {
            return wrong("headers", "array<struct<key:string,value:binary>>", field.data_type());
        }
    }
    Ok(())
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// What every writer of a sink gets. It may hold secrets: never logged.
#[derive(Debug, Serialize, Deserialize)]
struct WriterConfig {
    properties: Properties,
    topic: Option<String>,
    idle_ms: u64,
}

/// The executor half of a write.
#[derive(Debug)]
pub struct KafkaWriter {
    config: WriterConfig,
}

impl KafkaWriter {
    /// A writer of a config's JSON.
    ///
    /// # Errors
    /// When the text is not that of a writer config; it is not shown, as it may hold secrets.
    pub fn from_json(config: &str) -> Result<Self> {
        let config = serde_json::from_str(config).map_err(|e| {
            Error::internal(format!(
                "writer config of format kafka cannot be read (line {}, column {})",
                e.line(),
                e.column()
            ))
        })?;
        Ok(Self { config })
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    async fn open(&self, _task: WriteTask, schema: SchemaRef, _context: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        check_schema(&schema, self.config.topic.as_deref())?;
        let idle = Duration::from_millis(self.config.idle_ms);
        let outlet = Outlet::open(&self.config.properties, idle)?;
        Ok(Box::new(KafkaSinkTask { outlet, topic: self.config.topic.clone() }))
    }
}

struct KafkaSinkTask {
    outlet: Outlet,
    topic: Option<String>,
}

#[async_trait]
impl SinkTask for KafkaSinkTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = OutRows::of(&batch, self.topic.as_deref())?;
        for row in 0..batch.num_rows() {
            if row % ROWS_PER_TURN == ROWS_PER_TURN - 1 {
                tokio::task::consume_budget().await;
            }
            let topic = rows.topic(row)?;
            let out = OutRecord {
                topic,
                partition: rows.partition(row),
                key: rows.key.as_ref().and_then(|column| column.get(row)),
                value: rows.value.get(row),
                timestamp_ms: None,
            };
            self.outlet.send(&out, || rows.headers(row)).await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.outlet.flush().await
    }

    async fn close(mut self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        self.outlet.flush().await?;
        Ok((WriteCounts { rows: self.outlet.sent, ..WriteCounts::default() }, None))
    }
}

/// Bytes of a text or binary column, whatever its layout.
enum Bytes<'a> {
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
}

impl<'a> Bytes<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self> {
        let any = column.as_any();
        let found = match column.data_type() {
            DataType::Utf8 => any.downcast_ref().map(Self::Text),
            DataType::LargeUtf8 => any.downcast_ref().map(Self::LargeText),
            DataType::Utf8View => any.downcast_ref().map(Self::TextView),
            DataType::Binary => any.downcast_ref().map(Self::Binary),
            DataType::LargeBinary => any.downcast_ref().map(Self::LargeBinary),
            DataType::BinaryView => any.downcast_ref().map(Self::BinaryView),
            _ => None,
        };
        found.ok_or_else(|| Error::internal(format!("a {} column reached the kafka sink", column.data_type())))
    }

    fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Text(array) => array.is_valid(row).then(|| array.value(row).as_bytes()),
            Self::LargeText(array) => array.is_valid(row).then(|| array.value(row).as_bytes()),
            Self::TextView(array) => array.is_valid(row).then(|| array.value(row).as_bytes()),
            Self::Binary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::LargeBinary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::BinaryView(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// A column as bytes; dictionaries are unpacked first.
struct Column(ArrayRef);

impl Column {
    fn of(batch: &RecordBatch, name: &str) -> Result<Option<Self>> {
        let Some(column) = batch.column_by_name(name) else { return Ok(None) };
        Self::unpacked(column).map(Some)
    }
    fn unpacked(column: &ArrayRef) -> Result<Self> {
        match column.data_type() {
            DataType::Dictionary(_, value) => cast(column, value)
                .map(Self)
                .map_err(|e| Error::internal(format!("cannot unpack a dictionary column: {e}"))),
            _ => Ok(Self(Arc::clone(column))),
        }
    }
    fn get(&self, row: usize) -> Option<&[u8]> {
        // The type was checked when the column was made.
        Bytes::of(&self.0).ok().and_then(|bytes| bytes.get(row))
    }
}

/// The columns of a batch that make records.
struct OutRows<'a> {
    key: Option<Column>,
    value: Column,
    topics: Option<Column>,
    topic_for_all: Option<&'a str>,
    partitions: Option<&'a Int32Array>,
    headers: Option<(&'a ListArray, Column, Column)>,
}

impl<'a> OutRows<'a> {
    fn of(batch: &'a RecordBatch, topic: Option<&'a str>) -> Result<Self> {
        let headers = match batch.column_by_name("headers").map(|c| c.as_any().downcast_ref::<ListArray>()) {
            None => None,
            Some(None) => return Err(Error::internal("the headers column is no list")),
            Some(Some(list)) => {
                let Some(rows) = list.values().as_any().downcast_ref::<StructArray>() else {
                    return Err(Error::internal("the headers column holds no structs"));
                };
                Some((list, Column::unpacked(rows.column(0))?, Column::unpacked(rows.column(1))?))
            }
        };
        let rows = Self {
            key: Column::of(batch, "key")?,
            value: Column::of(batch, "value")?
                .ok_or_else(|| Error::internal("rows of the kafka sink have no value"))?,
            topics: Column::of(batch, "topic")?,
            topic_for_all: topic,
            partitions: batch.column_by_name("partition").and_then(|c| c.as_any().downcast_ref()),
            headers,
        };
        for column in [rows.key.as_ref(), Some(&rows.value), rows.topics.as_ref()].into_iter().flatten() {
            Bytes::of(&column.0)?;
        }
        Ok(rows)
    }

    fn topic(&self, row: usize) -> Result<&str> {
        if let Some(topic) = self.topic_for_all {
            return Ok(topic);
        }
        self.topics
            .as_ref()
            .and_then(|topics| topics.get(row))
            .and_then(|topic| std::str::from_utf8(topic).ok())
            .ok_or_else(|| {
                Error::invalid(
                    "KAFKA_NULL_TOPIC",
                    "null topic present in the data: use option topic to set a default topic",
                )
            })
    }

    fn partition(&self, row: usize) -> Option<i32> {
        self.partitions.filter(|partitions| partitions.is_valid(row)).map(|partitions| partitions.value(row))
    }

    fn headers(&self, row: usize) -> Option<OwnedHeaders> {
        let (list, keys, values) = self.headers.as_ref()?;
        if list.is_null(row) {
            return None;
        }
        let (from, until) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
        let mut headers = OwnedHeaders::new_with_capacity(until - from);
        for index in from..until {
            let key = String::from_utf8_lossy(keys.get(index).unwrap_or_default());
            headers = headers.insert(Header { key: &key, value: values.get(index) });
        }
        Some(headers)
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct OutRecord<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The partition; by hash of the key, or random, when there is none.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Its time; now, when there is none.
    pub timestamp_ms: Option<i64>,
}

/// Deliveries of one task.
#[derive(Default)]
struct Deliveries {
    waiting: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<(RDKafkaErrorCode, String)>>,
    all_done: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts deliveries, and wakes who waits for room in the queue.
struct Counting {
    room: Arc<Notify>,
}

impl ClientContext for Counting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "trouble with a broker");
    }
}

impl ProducerContext for Counting {
    type DeliveryOpaque = Arc<Deliveries>;

    fn delivery(&self, result: &DeliveryResult<'_>, task: Arc<Deliveries>) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let topic = rdkafka::Message::topic(message).to_string();
            lock(&task.failure).get_or_insert((code, topic));
            task.failed.store(true, Ordering::SeqCst);
        } else {
            METRICS.kafka_records_written.inc();
        }
        if task.waiting.fetch_sub(1, Ordering::SeqCst) == 1 || task.failed.load(Ordering::Relaxed) {
            task.all_done.notify_waiters();
        }
        self.room.notify_waiters();
    }
}

/// A producer that tasks of the same config share.
struct Shared {
    producer: ThreadedProducer<Counting>,
    room: Arc<Notify>,
    linger: bool,
}

struct Pooled {
    shared: Arc<Shared>,
    used: Instant,
    idle: Duration,
}

/// Producers of this process by the hash of their properties.
static PRODUCERS: LazyLock<Mutex<HashMap<u64, Pooled>>> = LazyLock::new(Mutex::default);

fn shared_producer(properties: &Properties, idle: Duration) -> Result<Arc<Shared>> {
    let hash = properties.hash_value();
    let mut producers = lock(&PRODUCERS);
    let expired: Vec<u64> = producers
        .iter()
        .filter(|(_, pooled)| Arc::strong_count(&pooled.shared) == 1 && pooled.used.elapsed() > pooled.idle)
        .map(|(hash, _)| *hash)
        .collect();
    let expired: Vec<Pooled> = expired.iter().filter_map(|hash| producers.remove(hash)).collect();
    if !expired.is_empty() {
        close_elsewhere(expired);
    }
    if let Some(pooled) = producers.get_mut(&hash) {
        pooled.used = Instant::now();
        return Ok(Arc::clone(&pooled.shared));
    }
    let room = Arc::new(Notify::new());
    let producer = properties
        .for_client()
        .client_config()
        .create_with_context(Counting { room: Arc::clone(&room) })
        .map_err(|e| {
            Error::invalid("KAFKA_INVALID_OPTION", format!("cannot make a producer for {}: {e}", properties.brokers()))
        })?;
    let linger = properties.get("linger.ms").or(properties.get("queue.buffering.max.ms")).is_some_and(|ms| ms != "0");
    let shared = Arc::new(Shared { producer, room, linger });
    producers.insert(hash, Pooled { shared: Arc::clone(&shared), used: Instant::now(), idle });
    Ok(shared)
}

/// What became of a record that was handed to a producer.
enum Handed {
    /// It is the producer's now.
    Over,
    /// There is no room.
    QueueFull,
    /// The topic has no such partition, as far as the producer knows.
    UnknownPartition,
}

/// One task's way to Kafka.
pub struct Outlet {
    shared: Arc<Shared>,
    hash: u64,
    deliveries: Arc<Deliveries>,
    brokers: String,
    max_block: Duration,
    api_timeout: Duration,
    /// Records handed over so far.
    pub sent: u64,
}

impl Outlet {
    /// Opens a way by the pooled producer of these properties; nothing is sent yet.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub fn open(properties: &Properties, idle: Duration) -> Result<Self> {
        Ok(Self {
            shared: shared_producer(properties, idle)?,
            hash: properties.hash_value(),
            deliveries: Arc::default(),
            brokers: properties.brokers().to_string(),
            max_block: properties.max_block(),
            api_timeout: properties.api_timeout(),
            sent: 0,
        })
    }

    /// Hands a record over; waits when the queue is full.
    ///
    /// # Errors
    /// When a record before was not delivered, this one is refused, or the queue stays full for `max.block.ms`.
    pub async fn send(&mut self, out: &OutRecord<'_>, headers: impl Fn() -> Option<OwnedHeaders>) -> Result<()> {
        let mut deadline = None;
        let mut looked = false;
        loop {
            if self.deliveries.failed.load(Ordering::Relaxed) {
                return Err(self.failure());
            }
            match self.try_send(out, headers())? {
                Handed::Over => return Ok(()),
                Handed::QueueFull => {}
                // The producer's list of partitions may be minutes old, and the topic have grown.
                Handed::UnknownPartition if !looked => {
                    looked = true;
                    self.refresh(out.topic).await?;
                    continue;
                }
                Handed::UnknownPartition => {
                    return Err(self.delivery_error(RDKafkaErrorCode::UnknownPartition, out.topic));
                }
            }
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + self.max_block);
            // Registered before the second try, so that no delivery in between is missed.
            let room = Arc::clone(&self.shared.room);
            let room = room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if matches!(self.try_send(out, headers())?, Handed::Over) {
                return Ok(());
            }
            let look = deadline.min(tokio::time::Instant::now() + ROOM_LOOK);
            if tokio::time::timeout_at(look, room).await.is_err() && look == deadline {
                return Err(Error::transient(
                    "KAFKA_DELIVERY_FAILED",
                    format!(
                        "cannot write to topic {}: the producer's queue stayed full for {} ms, as {} takes no more: see to \
                         the brokers, or raise kafka.max.block.ms or kafka.buffer.memory",
                        out.topic,
                        self.max_block.as_millis(),
                        self.brokers
                    ),
                ));
            }
        }
    }

    fn try_send(&mut self, out: &OutRecord<'_>, headers: Option<OwnedHeaders>) -> Result<Handed> {
        let record = BaseRecord::<[u8], [u8], Arc<Deliveries>> {
            topic: out.topic,
            partition: out.partition,
            payload: out.value,
            key: out.key,
            timestamp: out.timestamp_ms,
            headers,
            delivery_opaque: Arc::clone(&self.deliveries),
        };
        self.deliveries.waiting.fetch_add(1, Ordering::SeqCst);
        let Err((error, _)) = self.shared.producer.send(record) else {
            self.sent += 1;
            return Ok(Handed::Over);
        };
        self.deliveries.waiting.fetch_sub(1, Ordering::SeqCst);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(Handed::QueueFull),
            Some(RDKafkaErrorCode::UnknownPartition) => Ok(Handed::UnknownPartition),
            Some(code) => Err(self.delivery_error(code, out.topic)),
            None => Err(Error::invalid("KAFKA_FAILED", format!("cannot write to topic {}: {error}", out.topic))),
        }
    }

    /// Fetches the topic's partitions; the producer takes them over.
    async fn refresh(&self, topic: &str) -> Result<()> {
        let (shared, name, timeout) = (Arc::clone(&self.shared), topic.to_string(), self.api_timeout);
        let fetched = tokio::task::spawn_blocking(move || {
            shared.producer.client().fetch_metadata(Some(&name), timeout).map(|_| ())
        })
        .await
        .map_err(|e| Error::internal(format!("a kafka call did not finish: {e}")))?;
        fetched.map_err(|e| failed(&format!("read the partitions of topic {topic}"), &self.brokers, &e, None))
    }

    /// Returns when everything sent has been acknowledged.
    ///
    /// # Errors
    /// The first failed delivery: transient, or not.
    pub async fn flush(&mut self) -> Result<()> {
        if self.shared.linger && self.deliveries.waiting.load(Ordering::SeqCst) > 0 {
            // Cuts the linger short. It waits for the producer's other tasks too, so its own wait is kept short.
            let shared = Arc::clone(&self.shared);
            let flushed = tokio::task::spawn_blocking(move || shared.producer.flush(Duration::from_millis(100))).await;
            flushed.map_err(|e| Error::internal(format!("a kafka flush did not finish: {e}")))?.or_else(|e| {
                match e.rdkafka_error_code() {
                    // Not all yet: the wait below goes on.
                    Some(RDKafkaErrorCode::OperationTimedOut) => Ok(()),
                    _ => Err(failed("flush the producer", &self.brokers, &e, None)),
                }
            })?;
        }
        loop {
            let done = self.deliveries.all_done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.deliveries.failed.load(Ordering::SeqCst) {
                return Err(self.failure());
            }
            // librdkafka answers for every record within `delivery.timeout.ms`, so this ends.
            if self.deliveries.waiting.load(Ordering::SeqCst) == 0 {
                return Ok(());
            }
            done.await;
        }
    }

    fn failure(&self) -> Error {
        match lock(&self.deliveries.failure).clone() {
            Some((code, topic)) => self.delivery_error(code, &topic),
            None => Error::internal("a delivery failed without an error"),
        }
    }

    fn delivery_error(&self, code: RDKafkaErrorCode, topic: &str) -> Error {
        if let Some((code, reason)) = self.shared.producer.client().fatal_error() {
            // An idempotent producer that lost its place can do no more: the next attempt gets another.
            let gone = lock(&PRODUCERS).remove(&self.hash);
            close_elsewhere(gone.map(|pooled| pooled.shared));
            return Error::transient(
                "KAFKA_DELIVERY_FAILED",
                format!(
                    "cannot write to topic {topic} on {}: the producer must be replaced: {code}: {reason}",
                    self.brokers
                ),
            );
        }
        match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                unknown_topic(topic, &self.brokers)
            }
            RDKafkaErrorCode::UnknownPartition => Error::invalid(
                "KAFKA_UNKNOWN_PARTITION",
                format!("topic {topic} on {} has no such partition: check the partition column", self.brokers),
            ),
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize => Error::invalid(
                "KAFKA_RECORD_TOO_LARGE",
                format!(
                    "a record for topic {topic} is larger than {} takes: raise kafka.max.request.size and the topic's \
                     max.message.bytes, or write smaller ones",
                    self.brokers
                ),
            ),
            // Undelivered within the time that the user gave: the broker is away or overloaded.
            code if is_transient_code(code) => Error::transient(
                "KAFKA_DELIVERY_FAILED",
                format!("records for topic {topic} were not delivered to {}: {code}", self.brokers),
            ),
            code => {
                let error = KafkaError::MessageProduction(code);
                failed(&format!("write to topic {topic}"), &self.brokers, &error, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Fields, Schema};

    #[test]
    fn schemas_are_checked_as_spark_does() {
        let check = |fields: Vec<(&str, DataType)>, topic: Option<&str>, words: Option<&str>| {
            let fields: Fields = fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
            let result = check_schema(&Arc::new(Schema::new(fields)), topic);
            match words {
                None => result.unwrap(),
                Some(words) => {
                    let error = result.expect_err(words).to_string();
                    assert!(error.contains(words), "{error}");
                }
            }
        };
        let text = || DataType::Utf8;
        check(vec![("value", text())], Some("t"), None);
        check(vec![("value", DataType::Binary), ("key", DataType::Utf8View), ("topic", text())], None, None);
        check(vec![("key", text())], Some("t"), Some("required attribute 'value' not found"));
        check(vec![("value", DataType::Int32)], Some("t"), Some("value attribute type must be a string or binary"));
        check(vec![("value", text()), ("key", DataType::Int64)], Some("t"), Some("key attribute type"));
        check(vec![("value", text())], None, Some("topic option required"));
        check(
            vec![("value", text()), ("topic", DataType::Binary)],
            None,
            Some("topic attribute type must be a string"),
        );
        check(
            vec![("value", text()), ("partition", text())],
            Some("t"),
            Some("partition attribute type must be a int"),
        );
        check(vec![("value", text()), ("headers", text())], Some("t"), Some("headers attribute type"));
        let headers = crate::connectors::kafka::scan::row_schema(true).field(7).data_type().clone();
        check(vec![("value", text()), ("headers", headers)], Some("t"), None);
    }
}
