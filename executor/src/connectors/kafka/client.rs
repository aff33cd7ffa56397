//! The driver's connection to Kafka: topics, partitions, offsets, commits.
//!
//! One long-lived consumer for each source. Every call of librdkafka that waits runs on a blocking thread and is
//! bounded. Offsets of all topic partitions are asked for at once: one request to each broker that leads some, as
//! this is on the path of every micro-batch; the list of partitions is refreshed beside the path.

use crate::connectors::kafka::admin::PartitionDescription;
use crate::connectors::kafka::offsets::{KafkaOffsets, TopicPartition};
use crate::connectors::kafka::options::{EARLIEST, LATEST, Properties, Strategy};
use headwater_proto::error::{Error, ErrorKind, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The partition list is fetched anew when it is older than this: when one was added, it is found that soon.
const PARTITIONS_AGE_MAX: Duration = Duration::from_secs(1);
/// For a pattern every topic of the cluster is listed, which is dearer.
const PATTERN_AGE_MAX: Duration = Duration::from_secs(5);
/// Above this many topics one listing of all topics is cheaper than one request for each.
const TOPICS_BY_NAME_MAX: usize = 8;

/// What librdkafka says about its brokers, remembered for messages.
#[derive(Debug, Default)]
pub struct Connection {
    trouble: Mutex<Option<Trouble>>,
    /// The last connection that failed, which librdkafka tells its log at once and its caller much later.
    refused: Mutex<Option<String>>,
}

/// The last trouble with the brokers.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What librdkafka calls it.
    pub code: RDKafkaErrorCode,
    /// In its words.
    pub reason: String,
    /// When.
    pub at: Instant,
    /// Since the last success a broker refused our login, or we its certificate.
    pub refused: bool,
}

impl Connection {
    /// The last trouble since [`Connection::clear`].
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Forgets it: something arrived.
    pub fn clear(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    /// The last connection that failed since [`Connection::clear`], in librdkafka's words.
    fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Connection {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == CONNECTION_FAILED {
            // `[thrd:h:1/bootstrap]: h:1/bootstrap: Connect to ipv4#… failed: Connection refused (after 0ms …)`
            let reason = message.rsplit_once("]: ").map_or(message, |(_, reason)| reason);
            let reason = reason.split_once(" (after ").map_or(reason, |(reason, _)| reason).to_string();
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
        log_line(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        tracing::debug!(%error, reason, "trouble with a broker");
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers down" outlasts the single failures that follow it: only a success ends it.
        let down = trouble.as_ref().is_some_and(|known| known.code == RDKafkaErrorCode::AllBrokersDown);
        let refused = code == RDKafkaErrorCode::Authentication
            || is_refusal(reason)
            || trouble.as_ref().is_some_and(|known| known.refused);
        let at = if down { trouble.as_ref().map_or_else(Instant::now, |known| known.at) } else { Instant::now() };
        let code = if down { RDKafkaErrorCode::AllBrokersDown } else { code };
        *trouble = Some(Trouble { code, reason: reason.to_string(), at, refused });
    }
}

impl ConsumerContext for Connection {}

/// Whether a broker refused our login, or we its certificate, in the words of librdkafka, or of OpenSSL below it. Of a
/// handshake that a stopping broker cut off, trying again is the cure; of these it is not.
fn is_refusal(reason: &str) -> bool {
    reason.contains("SASL authentication error")
        || reason.contains("SSL handshake failed") && reason.contains("certificate")
        || reason.contains("certificate verify failed")
}

/// librdkafka's name for lines on connections that failed.
const CONNECTION_FAILED: &str = "FAIL";

/// librdkafka's log lines among ours.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match (level, facility) {
        // A table's properties go to its consumers and its producers, and each kind warns of the other's. Whatever is
        // no property at all is refused before. An idempotent producer asks for its id again until it has one.
        (_, "CONFWARN" | "GETPID") => tracing::debug!(target: "librdkafka", facility, "{message}"),
        // It connects again by itself; whoever cannot do without reports it, with this reason.
        (_, CONNECTION_FAILED) => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => log_of_level(level, facility, message),
    }
}

fn log_of_level(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        // A broker away is an "error" to librdkafka, which goes on trying; whoever needs the broker reports it.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Which end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first record that is still there.
    Earliest,
    /// After the last record; with `isolation.level=read_committed` after the last stable one.
    Latest,
}

/// The partition list and when it was fetched.
#[derive(Debug, Default)]
struct Known {
    partitions: Option<(Arc<BTreeSet<TopicPartition>>, Instant)>,
    refreshing: bool,
}

/// Lets go of what waits for librdkafka's threads when it ends, without holding up an async thread.
pub fn close_elsewhere<T: Send + 'static>(what: T) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.spawn_blocking(move || drop(what));
        }
        Err(_) => drop(what),
    }
}

/// A consumer that may be dropped anywhere.
struct Closing(Option<BaseConsumer<Connection>>);

impl std::ops::Deref for Closing {
    type Target = BaseConsumer<Connection>;
    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("taken by drop alone")
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        close_elsewhere(self.0.take());
    }
}

/// The driver's client of one source.
#[derive(Clone)]
pub struct Client {
    consumer: Arc<Closing>,
    brokers: Arc<str>,
    timeout: Duration,
    retries: u32,
    retry_interval: Duration,
    known: Arc<Mutex<Known>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub fn new(properties: &Properties) -> Result<Self> {
        let mut own = properties.for_client();
        // Idle connections to a leader that moved are replaced by themselves; metadata must not create topics.
        own.set("allow.auto.create.topics", "false");
        let consumer = own.client_config().create_with_context(Connection::default()).map_err(|e| {
            Error::invalid("KAFKA_INVALID_OPTION", format!("cannot make a client of {}: {e}", properties.brokers()))
        })?;
        Ok(Self {
            consumer: Arc::new(Closing(Some(consumer))),
            brokers: properties.brokers().into(),
            timeout: properties.api_timeout(),
            retries: 1,
            retry_interval: Duration::ZERO,
            known: Arc::default(),
        })
    }

    /// The same client with `fetchOffset.numRetries` and `fetchOffset.retryIntervalMs`.
    pub fn with_retries(mut self, retries: u32, interval: Duration) -> Self {
        (self.retries, self.retry_interval) = (retries.max(1), interval);
        self
    }

    /// The brokers, for messages.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The topic partitions that a strategy names, as of now.
    ///
    /// # Errors
    /// `KAFKA_UNKNOWN_TOPIC`, or `KAFKA_UNREACHABLE` within the client's timeout.
    pub async fn partitions(&self, strategy: &Strategy) -> Result<Arc<BTreeSet<TopicPartition>>> {
        let client = self.clone();
        let strategy = strategy.clone();
        let found = blocking(move || client.partitions_now(&strategy)).await?;
        Ok(self.remember(found))
    }

    /// The same, at most about a second old: a stale list is refreshed beside the caller's path.
    ///
    /// # Errors
    /// As [`Client::partitions`].
    pub async fn partitions_cached(&self, strategy: &Strategy) -> Result<Arc<BTreeSet<TopicPartition>>> {
        let age_max = match strategy {
            Strategy::Assign(_) => Duration::MAX,
            Strategy::Subscribe(_) => PARTITIONS_AGE_MAX,
            Strategy::Pattern(..) => PATTERN_AGE_MAX,
        };
        let (cached, refresh) = {
            let mut known = self.known();
            let cached = known.partitions.clone();
            let stale = cached.as_ref().is_some_and(|(_, at)| at.elapsed() > age_max);
            let refresh = stale && !known.refreshing;
            known.refreshing |= refresh;
            (cached, refresh)
        };
        let Some((cached, _)) = cached else { return self.partitions(strategy).await };
        if refresh {
            let client = self.clone();
            let strategy = strategy.clone();
            // Bounded by the client's timeout, so it needs no owner.
            tokio::task::spawn_blocking(move || match client.partitions_now(&strategy) {
                Ok(found) => {
                    client.remember(found);
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to refresh the list of topic partitions");
                    // The next caller asks in its own name and gets the error.
                    let mut known = client.known();
                    (known.partitions, known.refreshing) = (None, false);
                }
            });
        }
        Ok(cached)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, found: BTreeSet<TopicPartition>) -> Arc<BTreeSet<TopicPartition>> {
        let found = Arc::new(found);
        *self.known() = Known { partitions: Some((Arc::clone(&found), Instant::now())), refreshing: false };
        found
    }

    fn partitions_now(&self, strategy: &Strategy) -> Result<BTreeSet<TopicPartition>> {
        let of = |topics: &BTreeMap<String, BTreeSet<i32>>, wanted: &[String]| -> Result<BTreeSet<TopicPartition>> {
            let mut found = BTreeSet::new();
            for topic in wanted {
                let partitions = topics.get(topic).ok_or_else(|| self.unknown_topic(topic))?;
                found.extend(partitions.iter().map(|partition| (topic.clone(), *partition)));
            }
            Ok(found)
        };
        match strategy {
            Strategy::Assign(assigned) => {
                let names: Vec<String> = assigned.keys().cloned().collect();
                let there = of(&self.topics_now(Some(&names))?, &names)?;
                let wanted = assigned.iter().flat_map(|(t, ps)| ps.iter().map(move |p| (t.clone(), *p)));
                let wanted: BTreeSet<_> = wanted.collect();
                if let Some((topic, partition)) = wanted.difference(&there).next() {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        "KAFKA_UNKNOWN_PARTITION",
                        format!("topic {topic} on {} has no partition {partition}: check option assign", self.brokers),
                    ));
                }
                Ok(wanted)
            }
            Strategy::Subscribe(names) => of(&self.topics_now(Some(names))?, names),
            Strategy::Pattern(_, regex) => {
                let topics = self.topics_now(None)?;
                let names: Vec<String> = topics.keys().filter(|name| regex.is_match(name)).cloned().collect();
                of(&topics, &names)
            }
        }
    }

    fn unknown_topic(&self, topic: &str) -> Error {
        unknown_topic(topic, &self.brokers)
    }

    /// Topics and their partitions: of these names, or all.
    ///
    /// # Errors
    /// `KAFKA_UNREACHABLE` within the client's timeout.
    pub async fn topics(&self, names: Option<Vec<String>>) -> Result<BTreeMap<String, BTreeSet<i32>>> {
        let client = self.clone();
        blocking(move || client.topics_now(names.as_deref())).await
    }

    fn topics_now(&self, names: Option<&[String]>) -> Result<BTreeMap<String, BTreeSet<i32>>> {
        let mut topics = BTreeMap::new();
        let requests: Vec<Option<&str>> = match names {
            Some(names) if names.len() <= TOPICS_BY_NAME_MAX => names.iter().map(|name| Some(name.as_str())).collect(),
            _ => vec![None],
        };
        for request in requests {
            let metadata = self
                .retrying(|timeout| self.consumer.fetch_metadata(request, timeout))
                .map_err(|e| self.failed("list topics", &e))?;
            for topic in metadata.topics() {
                if names.is_some_and(|names| !names.iter().any(|name| name == topic.name())) {
                    continue;
                }
                if let Some(error) = topic.error() {
                    let code = RDKafkaErrorCode::from(error);
                    match code {
                        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => continue,
                        RDKafkaErrorCode::InvalidTopic => return Err(self.unknown_topic(topic.name())),
                        // A topic of somebody else's, when all are listed.
                        _ if request.is_none() && names.is_none() => continue,
                        _ => {
                            let what = format!("read the partitions of topic {}", topic.name());
                            return Err(self.failed(&what, &KafkaError::MetadataFetch(code)));
                        }
                    }
                }
                if !topic.partitions().is_empty() {
                    topics.insert(topic.name().to_string(), topic.partitions().iter().map(|p| p.id()).collect());
                }
            }
        }
        Ok(topics)
    }

    /// Partitions of a topic with their leaders and replicas; their offsets are not filled in.
    ///
    /// # Errors
    /// `KAFKA_UNKNOWN_TOPIC`, or `KAFKA_UNREACHABLE` within the client's timeout.
    pub async fn describe(&self, topic: &str) -> Result<Vec<PartitionDescription>> {
        let client = self.clone();
        let topic = topic.to_string();
        blocking(move || {
            let metadata = client
                .retrying(|timeout| client.consumer.fetch_metadata(Some(&topic), timeout))
                .map_err(|e| client.failed(&format!("describe topic {topic}"), &e))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic && !found.partitions().is_empty());
            let found = found.ok_or_else(|| client.unknown_topic(&topic))?;
            let mut partitions: Vec<_> = found
                .partitions()
                .iter()
                .map(|partition| PartitionDescription {
                    partition: partition.id(),
                    leader: partition.leader(),
                    replicas: partition.replicas().to_vec(),
                    in_sync: partition.isr().to_vec(),
                    earliest: None,
                    latest: None,
                })
                .collect();
            partitions.sort_by_key(|partition| partition.partition);
            Ok(partitions)
        })
        .await
    }

    /// One end of each of these topic partitions, by one request to each broker that leads some. A partition that is
    /// gone is missing in the answer.
    ///
    /// # Errors
    /// `KAFKA_UNREACHABLE` within the client's timeout.
    pub async fn ends(&self, partitions: &BTreeSet<TopicPartition>, end: End) -> Result<KafkaOffsets> {
        let mark = match end {
            End::Earliest => EARLIEST,
            End::Latest => LATEST,
        };
        let times = partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition, mark)).collect();
        let found = self.offsets_for_times(times).await?;
        Ok(found.into_iter().filter_map(|((topic, partition), offset)| Some((topic, partition, offset?))).collect())
    }

    /// The first offset at or after a time (ms) in each topic partition, `None` where there is none.
    ///
    /// # Errors
    /// `KAFKA_UNREACHABLE` within the client's timeout.
    pub async fn offsets_for_times(&self, times: KafkaOffsets) -> Result<Vec<(TopicPartition, Option<i64>)>> {
        if times.is_empty() {
            return Ok(vec![]);
        }
        let client = self.clone();
        blocking(move || client.offsets_for_times_now(&times)).await
    }

    fn offsets_for_times_now(&self, times: &KafkaOffsets) -> Result<Vec<(TopicPartition, Option<i64>)>> {
        let found = self.retrying(|timeout| {
            let mut list = TopicPartitionList::with_capacity(times.len());
            for (topic, partition, time) in times.iter() {
                // The protocol's own marks for the ends, -1 and -2, are timestamps too: librdkafka sends them on.
                list.add_partition_offset(topic, partition, Offset::from_raw(time))?;
            }
            let list = self.consumer.offsets_for_times(list, timeout)?;
            for element in list.elements() {
                match element.error() {
                    Ok(()) => {}
                    Err(e) if is_gone(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(list)
        });
        let found = match found {
            Ok(found) => found,
            // One that is gone fails the whole request when its leader cannot be found.
            Err(e) if is_gone(&e) => return self.offsets_one_by_one(times),
            Err(e) => return Err(self.failed("read offsets", &e)),
        };
        Ok(found
            .elements()
            .iter()
            .filter(|element| element.error().is_ok())
            .map(|element| {
                let offset = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                ((element.topic().to_string(), element.partition()), offset)
            })
            .collect())
    }

    /// The slow way, after a topic partition went away: those that are there still answer.
    fn offsets_one_by_one(&self, times: &KafkaOffsets) -> Result<Vec<(TopicPartition, Option<i64>)>> {
        let names: BTreeSet<String> = times.iter().map(|(topic, _, _)| topic.to_string()).collect();
        let there = self.topics_now(Some(&names.into_iter().collect::<Vec<_>>()))?;
        let left: KafkaOffsets = times
            .iter()
            .filter(|(topic, partition, _)| there.get(*topic).is_some_and(|partitions| partitions.contains(partition)))
            .collect();
        if left.len() == times.len() {
            let what = "read offsets: the brokers list topic partitions whose leaders do not know them";
            return Err(self.failed(what, &KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)));
        }
        if left.is_empty() { Ok(vec![]) } else { self.offsets_for_times_now(&left) }
    }

    /// Tries as often as `fetchOffset.numRetries` says, within the timeout.
    fn retrying<T>(&self, mut attempt: impl FnMut(Duration) -> Result<T, KafkaError>) -> Result<T, KafkaError> {
        let deadline = Instant::now() + self.timeout;
        let mut tried = 0;
        loop {
            // Serves what librdkafka has to tell, such as brokers that went down.
            self.consumer.poll(Duration::ZERO);
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let result = attempt(left);
            tried += 1;
            let Err(error) = result else {
                self.consumer.context().clear();
                return result;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if tried >= self.retries || left.is_zero() || !is_transient(&error) {
                return Err(error);
            }
            // Waits for the pause, or less when librdkafka has news.
            self.consumer.poll(self.retry_interval.min(left));
        }
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        self.consumer.poll(Duration::ZERO);
        let context = self.consumer.context();
        let trouble = context.trouble().or_else(|| {
            let reason = context.refused()?;
            let refused = is_refusal(&reason);
            Some(Trouble { code: RDKafkaErrorCode::BrokerTransportFailure, reason, at: Instant::now(), refused })
        });
        failed(what, &self.brokers, error, trouble.as_ref())
    }

    /// Commits offsets to the consumer group of the client's `group.id`, and waits for the answer.
    fn commit_now(&self, offsets: &KafkaOffsets) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (topic, partition, offset) in offsets.iter() {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))
                .map_err(|e| self.failed("commit offsets", &e))?;
        }
        self.consumer.commit(&list, CommitMode::Sync).map_err(|e| self.failed("commit offsets", &e))
    }

    /// Offsets committed to the group of the client's `group.id`; a partition of which none are is missing.
    ///
    /// # Errors
    /// `KAFKA_UNREACHABLE` within the client's timeout.
    pub async fn committed(&self, partitions: BTreeSet<TopicPartition>) -> Result<KafkaOffsets> {
        let client = self.clone();
        blocking(move || {
            let mut list = TopicPartitionList::new();
            for (topic, partition) in &partitions {
                list.add_partition(topic, *partition);
            }
            let list = client
                .consumer
                .committed_offsets(list, client.timeout)
                .map_err(|e| client.failed("read committed offsets", &e))?;
            let found = list.elements().into_iter().filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.topic().to_string(), element.partition(), offset)),
                _ => None,
            });
            Ok(found.collect())
        })
        .await
    }
}

/// Commits finished batches to a consumer group, beside the path of the batches: the newest offsets win.
#[derive(Debug)]
pub struct Committer {
    newest: tokio::sync::watch::Sender<Option<KafkaOffsets>>,
}

impl Committer {
    /// A committer for `group`; it ends, after a last commit, when it is dropped.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub fn start(properties: &Properties, group: &str) -> Result<Self> {
        let mut own = properties.clone();
        own.set("group.id", group);
        let client = Client::new(&own)?;
        let (newest, mut due) = tokio::sync::watch::channel::<Option<KafkaOffsets>>(None);
        let group = group.to_string();
        // Ends with the sender, which the source owns.
        tokio::spawn(async move {
            while due.changed().await.is_ok() {
                let Some(offsets) = due.borrow_and_update().clone() else { continue };
                let client = client.clone();
                // Lag tools see the query late, and the query goes on: its offsets live in the checkpoint.
                if let Err(error) = blocking(move || client.commit_now(&offsets)).await {
                    tracing::warn!(%error, group, "failed to commit offsets to the consumer group");
                }
            }
        });
        Ok(Self { newest })
    }

    /// Commits these soon; does not wait.
    pub fn commit(&self, offsets: KafkaOffsets) {
        self.newest.send_replace(Some(offsets));
    }
}

/// Runs what waits on a blocking thread.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal(format!("a kafka call did not finish: {e}")))?
}

/// `KAFKA_UNKNOWN_TOPIC`, with the remedy.
pub fn unknown_topic(topic: &str, brokers: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "KAFKA_UNKNOWN_TOPIC",
        format!(
            "topic {topic} does not exist on {brokers}: create it (headwater topic create {topic} --kafka {brokers}) or check its name"
        ),
    )
}

fn is_gone(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
    )
}

/// Whether trying again may help.
pub fn is_transient(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(is_transient_code)
}

/// Whether trying again may help.
pub fn is_transient_code(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::KafkaStorageError
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::WaitingForCoordinator
            | Code::InProgress
            | Code::PreviousInProgress
            | Code::QueueFull
            | Code::BrokerDestroy
            | Code::PurgeQueue
            | Code::PurgeInflight
    )
}

/// The error of a failed call: unreachable brokers and the like are transient, refusals are the user's to fix.
pub fn failed(what: &str, brokers: &str, error: &KafkaError, trouble: Option<&Trouble>) -> Error {
    use RDKafkaErrorCode as Code;
    let because = trouble.map_or(String::new(), |trouble| format!(" ({})", trouble.reason));
    let Some(code) = error.rdkafka_error_code() else {
        return Error::fatal("KAFKA_FAILED", format!("failed to {what} on {brokers}: {error}{because}"));
    };
    match code {
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Error::invalid("KAFKA_NOT_AUTHORIZED", format!("not allowed to {what} on {brokers}: {error}"))
        }
        Code::SaslAuthenticationFailed | Code::Authentication => Error::invalid(
            "KAFKA_NOT_AUTHENTICATED",
            format!("failed to {what} on {brokers}: {error}{because}: check the kafka.sasl.* and kafka.ssl.* options"),
        ),
        _ if trouble.is_some_and(|trouble| trouble.refused) => Error::invalid(
            "KAFKA_NOT_AUTHENTICATED",
            format!("failed to {what} on {brokers}{because}: check the kafka.sasl.* and kafka.ssl.* options"),
        ),
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve => {
            Error::transient(
                "KAFKA_UNREACHABLE",
                format!(
                    "failed to {what}: brokers {brokers} do not answer{because}: check that they run and are reachable, or option kafka.bootstrap.servers"
                ),
            )
        }
        code if is_transient_code(code) => {
            Error::transient("KAFKA_UNAVAILABLE", format!("failed to {what} on {brokers}: {error}{because}"))
        }
        _ => Error::fatal("KAFKA_FAILED", format!("failed to {what} on {brokers}: {error}{because}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let check = |code, kind, class| {
            let error = failed("read offsets", "b:9092", &KafkaError::OffsetFetch(code), None);
            assert_eq!((error.kind, error.class.as_str()), (kind, class));
            assert!(error.message.contains("b:9092"));
        };
        check(RDKafkaErrorCode::BrokerTransportFailure, ErrorKind::Transient, "KAFKA_UNREACHABLE");
        check(RDKafkaErrorCode::LeaderNotAvailable, ErrorKind::Transient, "KAFKA_UNAVAILABLE");
        check(RDKafkaErrorCode::TopicAuthorizationFailed, ErrorKind::InvalidRequest, "KAFKA_NOT_AUTHORIZED");
        check(RDKafkaErrorCode::InvalidMessage, ErrorKind::Fatal, "KAFKA_FAILED");
    }

    #[test]
    fn why_a_connection_failed_is_remembered() {
        let connection = Connection::default();
        let line = "[thrd:h:1/bootstrap]: h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms \
                    in state CONNECT)";
        connection.log(RDKafkaLogLevel::Error, "FAIL", line);
        let expect = "h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused";
        assert_eq!(connection.refused().as_deref(), Some(expect));
        connection.clear();
        assert_eq!(connection.refused(), None);
    }

    #[test]
    fn brokers_down_outlasts_what_follows() {
        let connection = Connection::default();
        connection.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "all down");
        let first = connection.trouble().unwrap();
        connection.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "refused");
        let second = connection.trouble().unwrap();
        assert_eq!((second.code, second.at), (RDKafkaErrorCode::AllBrokersDown, first.at));
        assert_eq!(second.reason, "refused");
        assert!(!second.refused);
        connection.error(KafkaError::Global(RDKafkaErrorCode::SSL), "SSL handshake failed: Disconnected");
        assert!(!connection.trouble().unwrap().refused);
        connection.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "invalid credentials");
        connection.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "all down");
        let refused = connection.trouble().unwrap();
        assert!(refused.refused);
        let error = failed("x", "b:1", &KafkaError::Global(RDKafkaErrorCode::OperationTimedOut), Some(&refused));
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::InvalidRequest, "KAFKA_NOT_AUTHENTICATED"));
        connection.clear();
        assert!(connection.trouble().is_none());
    }
}
