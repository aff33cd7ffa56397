//! Consumers of one topic partition each, and the executor's pool of them.
//!
//! A consumer is kept between batches so that prefetching never stops: the records of batch N+1 arrive while N runs.
//! A task takes one out and puts it back; a second task for the same topic partition (a zombie, or a range that was
//! split) gets one of its own. Idle ones are closed after a while, off every task's path: also those of a query that
//! has ended, of which executors are not told. Until then they prefetch, up to their share of memory.
//!
//! Records are taken by the thousand (`rd_kafka_consume_batch_queue`), two to four times cheaper than one poll each.
//! This file holds all of the connector's FFI.

use crate::connectors::kafka::admin::is_embedded;
use crate::connectors::kafka::client::{Connection, Trouble};
use crate::connectors::kafka::options::{PoolSettings, Properties};
use crate::metrics::METRICS;
use headwater_proto::error::{Error, Result};
use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Records per FFI call: enough to make its cost vanish, few enough to stay in the cache.
const TAKE_MAX: usize = 4096;
/// Prefetched records of all consumers of the process together, about.
const PREFETCH_KB: u64 = 256 * 1024;
/// A consumer prefetches at least this, however many there are: two fetch responses.
const PREFETCH_KB_MIN: u64 = 2 * 1024;
/// And at most this.
const PREFETCH_KB_MAX: u64 = 64 * 1024;
/// This many records ahead are read and dropped rather than sought: a seek waits for the fetch that is under way.
const SKIP_RECORDS_MAX: i64 = 1000;
/// Local calls to librdkafka's threads answer in microseconds; this says that one is stuck.
const LOCAL_CALL_MAX_MS: i32 = 10_000;

/// A record in librdkafka's memory.
#[derive(Debug)]
pub struct Record(NonNull<ffi::rd_kafka_message_t>);

// SAFETY: a message belongs to whoever got it; librdkafka counts the references to its buffer atomically.
unsafe impl Send for Record {}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: the pointer came from librdkafka, is owned, and is given back once.
        unsafe { ffi::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// When a record was made, or appended, as its broker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTime {
    /// Milliseconds since 1970; -1 when the record has none.
    pub ms: i64,
    /// Kafka's `TimestampType`: -1 none, 0 create time, 1 log append time.
    pub kind: i32,
}

impl Record {
    fn message(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: the pointer is valid for as long as `self` owns it.
        unsafe { self.0.as_ref() }
    }
    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.message().offset
    }
    /// Its value.
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka says that `payload` has `len` bytes, which live as long as the message.
        unsafe { bytes(self.message().payload, self.message().len) }
    }
    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: as for the value.
        unsafe { bytes(self.message().key, self.message().key_len) }
    }
    /// Its time.
    pub fn time(&self) -> RecordTime {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, and `kind` is written to.
        let ms = unsafe { ffi::rd_kafka_message_timestamp(self.0.as_ptr(), &mut kind) };
        RecordTime { ms, kind: kind as i32 - 1 }
    }
    /// Calls `each` with every header.
    pub fn headers(&self, mut each: impl FnMut(&str, Option<&[u8]>)) -> bool {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; headers stay its property.
        let code = unsafe { ffi::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || headers.is_null() {
            return false;
        }
        // SAFETY: `headers` was just given out.
        let count = unsafe { ffi::rd_kafka_header_cnt(headers) };
        for index in 0..count {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `index` is below the count; the out pointers live as long as the message.
            unsafe {
                let code = ffi::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size);
                if code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && !name.is_null() {
                    each(&CStr::from_ptr(name).to_string_lossy(), bytes(value, size));
                }
            }
        }
        count > 0
    }
    fn error(&self) -> Option<(RDKafkaErrorCode, String)> {
        let code = self.message().err;
        if code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the message is valid; the text lives as long as the message.
        let text = unsafe {
            let text = ffi::rd_kafka_message_errstr(self.0.as_ptr());
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        Some((code.into(), text))
    }
}

/// # Safety
/// `start` is null or has `size` bytes that outlive the answer.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), size) })
}

/// The queue into which librdkafka puts a consumer's records. Shared with whoever may have to wake its reader.
struct Queue {
    queue: NonNull<ffi::rd_kafka_queue_t>,
    /// Keeps the client alive for as long as its queue.
    consumer: Arc<BaseConsumer<Connection>>,
}

// SAFETY: librdkafka's queues are locked inside; yield and length may be called from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is owned, and the client is still there.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Stops a read: sets a flag and wakes the thread that waits for records.
#[derive(Default)]
pub struct Stop {
    stopped: AtomicBool,
    queue: Mutex<Option<Arc<Queue>>>,
}

impl Stop {
    /// Stops the read. Without effect the second time.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Some(queue) = lock(&self.queue).as_ref() {
            // SAFETY: the queue lives as long as the `Arc`.
            unsafe { ffi::rd_kafka_queue_yield(queue.queue.as_ptr()) }
        }
    }
    /// Whether the read was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
    fn attach(&self, queue: &Arc<Queue>) {
        *lock(&self.queue) = Some(Arc::clone(queue));
    }
    /// Lets go of the queue, and so of the consumer.
    pub fn detach(&self) {
        *lock(&self.queue) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a consumer gets to where a batch begins.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    /// It is there.
    Stay,
    /// Read and drop what is before.
    Skip,
    /// Tell the broker.
    Seek,
}

/// `position`: what the consumer delivers next is at this offset or after; `reached`: no record is before this one;
/// `buffered` records have been fetched.
fn reposition(position: i64, reached: i64, from: i64, buffered: usize) -> Move {
    if (position..=reached).contains(&from) {
        Move::Stay
    } else if from > reached && from - reached <= SKIP_RECORDS_MAX.max(i64::try_from(buffered).unwrap_or(0)) {
        Move::Skip
    } else {
        Move::Seek
    }
}

/// What a consumer has to say besides records.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Records were taken, or nothing happened in the time given.
    Nothing,
    /// The offset is not in the log, or no longer.
    OutOfRange(String),
    /// The topic or the partition is gone.
    Gone(String),
    /// Anything else that ends the read.
    Failed(RDKafkaErrorCode, String),
}

/// A consumer of one topic partition, wherever it stands.
pub struct PartitionConsumer {
    queue: Arc<Queue>,
    topic: NonNull<ffi::rd_kafka_topic_t>,
    partition: i32,
    name: String,
    /// Records taken from librdkafka and not yet delivered, the first at the front.
    held: VecDeque<Record>,
    /// The next record delivered is at this offset or after.
    position: i64,
    /// No undelivered record is before this offset.
    reached: i64,
    /// `rd_kafka_position` says too much up to here: an end-of-partition event counts for it like a record.
    position_doubtful: i64,
    prefetch_kb: u64,
    taken: Vec<*mut ffi::rd_kafka_message_t>,
}

// SAFETY: its pointers are owned by it alone, or locked inside librdkafka; one thread at a time has the consumer.
unsafe impl Send for PartitionConsumer {}

impl fmt::Debug for PartitionConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionConsumer({}-{} at {})", self.name, self.partition, self.position)
    }
}

impl PartitionConsumer {
    /// Begins fetching at `from`. Waits for librdkafka's own threads, not for a broker.
    fn start(
        properties: &Properties,
        topic: &str,
        partition: i32,
        from: i64,
        prefetch_kb: u64,
        consumers: usize,
        stop: &Stop,
    ) -> Result<Self> {
        let failed = |what: &str| {
            Error::fatal(
                "KAFKA_FAILED",
                format!("cannot consume {topic}-{partition} of {}: {what}", properties.brokers()),
            )
        };
        let mut own = properties.for_client();
        // The prefetched bytes are the limit, not the records.
        own.set_default("queued.min.messages", "1000000");
        own.set_default("queued.max.messages.kbytes", prefetch_kb.to_string());
        // When the queue is full, look again this soon; 1 ms would wake an idle consumer a thousand times a second.
        own.set_default("fetch.queue.backoff.ms", "5");
        own.set_default("fetch.error.backoff.ms", "50");
        if is_embedded(own.brokers()) {
            // That broker answers an empty fetch after this time and no sooner; all consumers together ask it some
            // thousand times a second at most.
            own.set_default("fetch.wait.max.ms", consumers.clamp(5, 100).to_string());
        }
        // A seek waits for the fetch under way, and a gap at the end of the log shows only when that comes back empty.
        own.set_default("fetch.wait.max.ms", "250");
        own.set_default("reconnect.backoff.max.ms", "1000");
        // A new consumer whose first look for the leader comes too early looks again this soon.
        own.set_default("topic.metadata.refresh.fast.interval.ms", "10");
        own.set("enable.partition.eof", "true");
        own.set("auto.offset.reset", "error");
        own.set("enable.auto.commit", "false");
        own.set("enable.auto.offset.store", "false");
        let consumer: BaseConsumer<Connection> =
            own.client_config().create_with_context(Connection::default()).map_err(|e| failed(&e.to_string()))?;
        let consumer = Arc::new(consumer);
        let native = consumer.client().native_ptr();
        let topic_name = CString::new(topic).map_err(|e| failed(&e.to_string()))?;
        // SAFETY: the client is alive, and the `Queue` keeps it so; null is checked.
        let queue = unsafe { NonNull::new(ffi::rd_kafka_queue_new(native)) }.ok_or_else(|| failed("no queue"))?;
        let queue = Arc::new(Queue { queue, consumer });
        // SAFETY: as above; the name is copied.
        let handle = unsafe { NonNull::new(ffi::rd_kafka_topic_new(native, topic_name.as_ptr(), ptr::null_mut())) }
            .ok_or_else(|| failed("the topic name is refused"))?;
        // SAFETY: all handles are alive.
        let code = unsafe { ffi::rd_kafka_consume_start_queue(handle.as_ptr(), partition, from, queue.queue.as_ptr()) };
        if code != 0 {
            // SAFETY: the handle was made above and is given back once; the error is this thread's.
            let error: RDKafkaErrorCode = unsafe {
                let error = ffi::rd_kafka_last_error();
                ffi::rd_kafka_topic_destroy(handle.as_ptr());
                error
            }
            .into();
            return Err(failed(&error.to_string()));
        }
        stop.attach(&queue);
        METRICS.kafka_consumers.inc();
        Ok(Self {
            queue,
            topic: handle,
            partition,
            name: topic.to_string(),
            held: VecDeque::new(),
            position: from,
            reached: from,
            position_doubtful: -1,
            prefetch_kb,
            taken: Vec::with_capacity(TAKE_MAX),
        })
    }

    /// Where the next delivered record is at the earliest.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Whether every record before `until` has been delivered.
    pub fn has_reached(&self, until: i64) -> bool {
        self.reached >= until
    }

    /// The oldest and the end offset that the partition's leader has now.
    ///
    /// # Errors
    /// When the leader does not answer in time.
    pub fn watermarks(&self, timeout: Duration) -> Result<(i64, i64), KafkaError> {
        self.queue.consumer.fetch_watermarks(&self.name, self.partition, timeout)
    }

    /// What librdkafka last said of its brokers, since a record came.
    pub fn trouble(&self) -> Option<Trouble> {
        self.queue.consumer.context().trouble()
    }

    /// Moves to `from`.
    ///
    /// # Errors
    /// When librdkafka does not take the seek.
    fn move_to(&mut self, from: i64) -> Result<()> {
        // SAFETY: the queue is alive.
        let buffered = self.held.len() + unsafe { ffi::rd_kafka_queue_length(self.queue.queue.as_ptr()) };
        match reposition(self.position, self.reached, from, buffered) {
            Move::Stay => self.position = from,
            Move::Skip => {
                self.position = from;
                while self.held.front().is_some_and(|record| record.offset() < from) {
                    self.held.pop_front();
                }
                // Still true when records before `from` are to come: they are dropped on arrival.
                self.reached = self.held.front().map_or(self.reached, Record::offset);
            }
            Move::Seek => self.seek(from)?,
        }
        Ok(())
    }

    /// Restarts fetching at `from`, dropping whatever was fetched.
    ///
    /// # Errors
    /// When librdkafka does not take it.
    pub fn seek(&mut self, from: i64) -> Result<()> {
        self.held.clear();
        // Records taken before are of an older version to librdkafka, which drops them.
        // SAFETY: the topic is alive.
        let code = unsafe { ffi::rd_kafka_seek(self.topic.as_ptr(), self.partition, from, LOCAL_CALL_MAX_MS) };
        if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            // A partition whose fetching ended with an error cannot be sought in, only started again.
            // SAFETY: both are alive.
            let started = unsafe {
                ffi::rd_kafka_consume_stop(self.topic.as_ptr(), self.partition) == 0
                    && ffi::rd_kafka_consume_start_queue(
                        self.topic.as_ptr(),
                        self.partition,
                        from,
                        self.queue.queue.as_ptr(),
                    ) == 0
            };
            if !started {
                let code: RDKafkaErrorCode = code.into();
                return Err(Error::transient(
                    "KAFKA_UNAVAILABLE",
                    format!("cannot seek to offset {from} in {}-{}: {code}", self.name, self.partition),
                ));
            }
        }
        (self.position, self.reached, self.position_doubtful) = (from, from, -1);
        Ok(())
    }

    /// Takes up to `max` records of offsets below `until` (all, when there is none) to the end of `into`. Without
    /// any, waits for one at most `wait`, or until the read is stopped. Records come as soon as they are there. The
    /// event comes after the records.
    pub fn take(&mut self, until: Option<i64>, max: usize, wait: Duration, into: &mut Vec<Record>) -> Event {
        if self.held.is_empty() {
            let room = until.map_or(max, |until| max.min(usize::try_from(until - self.position).unwrap_or(1)));
            let room = room.clamp(1, TAKE_MAX);
            // The call waits until it has all that was asked for: so first what is there, then one, then the rest.
            if self.fill(room, Duration::ZERO) == 0 && self.fill(1, wait) > 0 && room > 1 {
                self.fill(room - 1, Duration::ZERO);
            }
        }
        let mut taken = 0;
        while taken < max {
            let Some(record) = self.held.front() else { break };
            if let Some((code, text)) = record.error() {
                let offset = record.offset();
                self.held.pop_front();
                match self.on_error(code, text, offset) {
                    Event::Nothing => continue,
                    event => return event,
                }
            }
            let offset = record.offset();
            if offset < self.position {
                self.held.pop_front();
                continue;
            }
            self.reached = self.reached.max(offset);
            if until.is_some_and(|until| offset >= until) {
                break;
            }
            into.extend(self.held.pop_front());
            self.position = offset + 1;
            self.reached = self.position;
            taken += 1;
        }
        if taken > 0 {
            self.queue.consumer.context().clear();
        } else {
            self.look_at_position();
            // Serves what librdkafka has to tell, such as brokers that went down; the context remembers it.
            self.queue.consumer.poll(Duration::ZERO);
        }
        Event::Nothing
    }

    fn on_error(&mut self, code: RDKafkaErrorCode, text: String, offset: i64) -> Event {
        match code {
            RDKafkaErrorCode::PartitionEOF => {
                self.reached = self.reached.max(offset);
                self.position_doubtful = self.position_doubtful.max(offset + 1);
                self.queue.consumer.context().clear();
                Event::Nothing
            }
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => Event::OutOfRange(text),
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => Event::Gone(text),
            code if crate::connectors::kafka::client::is_transient_code(code) => {
                // librdkafka tries again by itself; the caller's bound on waiting ends it.
                tracing::debug!(topic = self.name, partition = self.partition, %code, text, "fetching goes on after an error");
                Event::Nothing
            }
            code => Event::Failed(code, text),
        }
    }

    /// Transaction markers are no records, but librdkafka's position moves over them.
    fn look_at_position(&mut self) {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.name, self.partition);
        // SAFETY: client and list are alive; the list's offset is written to.
        let code = unsafe { ffi::rd_kafka_position(self.queue.consumer.client().native_ptr(), list.ptr()) };
        if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        if let Some(Offset::Offset(offset)) = list.elements().first().map(|element| element.offset())
            && offset > self.position_doubtful
            && self.held.is_empty()
        {
            self.reached = self.reached.max(offset);
        }
    }

    fn fill(&mut self, max: usize, wait: Duration) -> usize {
        self.taken.clear();
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `taken` has room for `TAKE_MAX` pointers, and `max` is no more; the queue is alive.
        let count = unsafe {
            ffi::rd_kafka_consume_batch_queue(
                self.queue.queue.as_ptr(),
                wait_ms,
                self.taken.as_mut_ptr(),
                max.min(self.taken.capacity()),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the call wrote this many owned pointers.
        unsafe { self.taken.set_len(count) };
        self.held.extend(self.taken.drain(..).filter_map(NonNull::new).map(Record));
        count
    }
}

impl Drop for PartitionConsumer {
    fn drop(&mut self) {
        self.held.clear();
        // SAFETY: both are alive; the handle is given back once. Stopping waits for librdkafka's own thread.
        unsafe {
            ffi::rd_kafka_consume_stop(self.topic.as_ptr(), self.partition);
            ffi::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
        POOL.promised_kb.fetch_sub(self.prefetch_kb, Ordering::SeqCst);
        METRICS.kafka_consumers.dec();
    }
}

/// Whose consumer it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The query.
    pub query: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Hash of the client's properties.
    pub properties: u64,
}

struct Idle {
    consumer: PartitionConsumer,
    since: Instant,
    settings: PoolSettings,
}

/// Consumers of this process that no task holds.
#[derive(Default)]
pub struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    changed: Condvar,
    sweeping: AtomicBool,
    promised_kb: AtomicU64,
}

/// What the pool holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Consumers that no task holds.
    pub idle: u64,
    /// Records that these have fetched ahead.
    pub prefetched: u64,
    /// What all consumers, idle or not, may hold of fetched records.
    pub limit_bytes: u64,
}

/// The pool of this process.
pub static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// A consumer's share of the prefetch memory: its part of what this query would use alone, as far as others left it.
fn prefetch_share(promised_kb: u64, consumers: usize) -> u64 {
    let part = PREFETCH_KB / (consumers.max(1) as u64);
    part.min(PREFETCH_KB.saturating_sub(promised_kb)).clamp(PREFETCH_KB_MIN, PREFETCH_KB_MAX)
}

impl Pool {
    /// A consumer that stands at `from`: the idle one that is nearest, or a new one. `consumers`: how many this query
    /// has, for the share of memory. Runs on a blocking thread.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn checkout(
        &self,
        key: &Key,
        properties: &Properties,
        from: i64,
        consumers: usize,
        stop: &Stop,
    ) -> Result<PartitionConsumer> {
        let idle = {
            let mut pool = lock(&self.idle);
            let found = pool.get_mut(key).and_then(|list| {
                // Forward is nearer than back: what is ahead has been fetched or will be.
                let cost = |idle: &Idle| {
                    let (position, reached) = (idle.consumer.position, idle.consumer.reached);
                    if (position..=reached).contains(&from) {
                        (0, 0)
                    } else {
                        (1 + u8::from(position > from), position.abs_diff(from))
                    }
                };
                let (index, _) = list.iter().enumerate().min_by_key(|(_, idle)| cost(idle))?;
                Some(list.swap_remove(index).consumer)
            });
            pool.retain(|_, list| !list.is_empty());
            found
        };
        let mut consumer = match idle {
            Some(mut consumer) => {
                stop.attach(&consumer.queue);
                consumer.move_to(from)?;
                consumer
            }
            None => {
                let share = prefetch_share(self.promised_kb.load(Ordering::SeqCst), consumers);
                self.promised_kb.fetch_add(share, Ordering::SeqCst);
                PartitionConsumer::start(properties, &key.topic, key.partition, from, share, consumers, stop)
                    .inspect_err(|_| {
                        self.promised_kb.fetch_sub(share, Ordering::SeqCst);
                    })?
            }
        };
        consumer.position = consumer.position.max(from);
        Ok(consumer)
    }

    /// Takes a consumer back, to go on prefetching.
    pub fn checkin(&'static self, key: Key, consumer: PartitionConsumer, settings: PoolSettings, stop: &Stop) {
        stop.detach();
        let query = key.query.clone();
        let evicted = {
            let mut pool = lock(&self.idle);
            pool.entry(key).or_default().push(Idle { consumer, since: Instant::now(), settings });
            let mut evicted = vec![];
            let of_query = |pool: &HashMap<Key, Vec<Idle>>| -> usize {
                pool.iter().filter(|(key, _)| key.query == query).map(|(_, list)| list.len()).sum()
            };
            while of_query(&pool) > settings.capacity {
                let oldest = pool
                    .iter()
                    .filter(|(key, _)| key.query == query)
                    .filter_map(|(key, list)| Some((list.first()?.since, key)))
                    .min_by_key(|(since, _)| *since)
                    .map(|(_, key)| key.clone());
                let Some(list) = oldest.as_ref().and_then(|key| pool.get_mut(key)) else { break };
                evicted.push(list.remove(0));
                pool.retain(|_, list| !list.is_empty());
            }
            evicted
        };
        drop(evicted);
        self.changed.notify_one();
        if !self.sweeping.swap(true, Ordering::SeqCst) {
            let spawned = std::thread::Builder::new().name("kafka-pool-sweep".into()).spawn(|| self.sweep());
            if let Err(error) = spawned {
                self.sweeping.store(false, Ordering::SeqCst);
                tracing::warn!(%error, "cannot start the thread that closes idle consumers");
            }
        }
    }

    /// What it holds now, for metrics.
    pub fn usage(&self) -> Usage {
        let (mut idle, mut prefetched) = (0, 0);
        for consumer in lock(&self.idle).values().flatten().map(|idle| &idle.consumer) {
            idle += 1;
            // SAFETY: the queue is alive.
            prefetched += consumer.held.len() + unsafe { ffi::rd_kafka_queue_length(consumer.queue.queue.as_ptr()) };
        }
        let limit_bytes = self.promised_kb.load(Ordering::SeqCst) << 10;
        Usage { idle, prefetched: prefetched as u64, limit_bytes }
    }

    /// Closes the idle consumers of a query.
    #[cfg(test)]
    pub fn forget(&self, query: &str) {
        let gone: Vec<_> = {
            let mut pool = lock(&self.idle);
            let keys: Vec<Key> = pool.keys().filter(|key| key.query == query).cloned().collect();
            keys.iter().filter_map(|key| pool.remove(key)).collect()
        };
        drop(gone);
        self.changed.notify_one();
    }

    /// How many consumers of a query are idle.
    #[cfg(test)]
    pub fn idle_of(&self, query: &str) -> usize {
        lock(&self.idle).iter().filter(|(key, _)| key.query == query).map(|(_, list)| list.len()).sum()
    }

    /// Closes consumers when their time has come; ends when none is left.
    fn sweep(&self) {
        let mut pool = lock(&self.idle);
        loop {
            let now = Instant::now();
            let due = |idle: &Idle| idle.since + Duration::from_millis(idle.settings.idle_ms);
            let mut expired = vec![];
            for list in pool.values_mut() {
                let (old, fresh) = list.drain(..).partition(|idle| due(idle) <= now);
                *list = fresh;
                let old: Vec<Idle> = old;
                expired.extend(old);
            }
            pool.retain(|_, list| !list.is_empty());
            if !expired.is_empty() {
                drop(pool);
                drop(expired);
                pool = lock(&self.idle);
                continue;
            }
            let Some(next) = pool.values().flatten().map(due).min() else {
                // Under the lock: whoever comes next sees it and starts another.
                self.sweeping.store(false, Ordering::SeqCst);
                return;
            };
            let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
            pool = self.changed.wait_timeout(pool, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves() {
        let check = |position, reached, from, buffered, expect| {
            assert_eq!(reposition(position, reached, from, buffered), expect);
        };
        check(10, 10, 10, 0, Move::Stay);
        // A gap is known from 10 to 15: anywhere in it is here.
        check(10, 15, 12, 0, Move::Stay);
        check(10, 15, 15, 0, Move::Stay);
        check(10, 10, 11, 0, Move::Skip);
        check(10, 10, 10 + SKIP_RECORDS_MAX, 0, Move::Skip);
        check(10, 10, 11 + SKIP_RECORDS_MAX, 0, Move::Seek);
        check(10, 10, 50_000, 60_000, Move::Skip);
        check(10, 10, 9, 60_000, Move::Seek);
    }

    #[test]
    fn prefetch_is_shared() {
        let check = |promised, consumers, expect| assert_eq!(prefetch_share(promised, consumers), expect);
        check(0, 1, PREFETCH_KB_MAX);
        check(0, 8, 32 * 1024);
        check(0, 50, 5242);
        check(0, 1000, PREFETCH_KB_MIN);
        check(PREFETCH_KB, 1, PREFETCH_KB_MIN);
    }
}
