//! Topics by hand, for the command line and the demo: list, describe, create, produce, tail; and a broker inside the
//! process.

use crate::connectors::kafka::client::{Client, End, failed, unknown_topic};
use crate::connectors::kafka::offsets::{KafkaOffsets, OffsetRange, TopicPartition};
use crate::connectors::kafka::options::{Properties, SinkOptions, SourceOptions};
use crate::connectors::kafka::scan::{KafkaReader, ReaderConfig, descriptors, row_schema};
use crate::connectors::kafka::sink::{OutRecord, Outlet};
use crate::connectors::{Options, ReadUntil};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use headwater_proto::error::{Error, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// A topic and how many partitions it has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
}

/// A topic in detail.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition in detail.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The broker that leads it; -1 when none does.
    pub leader: i32,
    /// Brokers that have it.
    pub replicas: Vec<i32>,
    /// Those of them that are up to date.
    pub in_sync: Vec<i32>,
    /// The first record that is still there; `None` without a leader.
    pub earliest: Option<i64>,
    /// After the last record.
    pub latest: Option<i64>,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailFrom {
    /// At the oldest record.
    Earliest,
    /// At what comes next.
    Latest,
    /// This many records before the end of each partition.
    Last(u64),
    /// At this offset of each partition, or at its oldest or newest record where that is nearest.
    Offset(i64),
}

/// A record to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The partition; by the key, or random, when there is none.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; now, when there is none.
    pub timestamp_ms: Option<i64>,
}

impl NewRecord {
    /// A record of a value alone.
    pub fn of_value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }
}

/// Topics of one cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    options: Options,
    properties: Properties,
    client: Client,
}

impl Admin {
    /// An admin of the cluster at `brokers` (`host:port,host:port`); nothing is sent yet.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn new(brokers: &str) -> Result<Self> {
        Self::with_options(&Options::new([("kafka.bootstrap.servers", brokers)]))
    }

    /// The same with any `kafka.*` options, for clusters that ask for a password.
    ///
    /// # Errors
    /// `KAFKA_INVALID_OPTION` names the option.
    pub fn with_options(options: &Options) -> Result<Self> {
        let mut reading = options.clone();
        reading.set("subscribe", "-");
        let properties = SourceOptions::stream(&reading)?.properties;
        let client = Client::new(&properties)?;
        Ok(Self { options: options.clone(), properties, client })
    }

    /// All topics, by name, those that Kafka keeps for itself left out.
    ///
    /// # Errors
    /// `KAFKA_UNREACHABLE`.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>> {
        let topics = self.client.topics(None).await?;
        Ok(topics
            .into_iter()
            .filter(|(name, _)| !name.starts_with("__"))
            .map(|(name, partitions)| TopicSummary { name, partitions: partitions.len() })
            .collect())
    }

    /// Partitions, leaders and offsets of a topic.
    ///
    /// # Errors
    /// `KAFKA_UNKNOWN_TOPIC`, `KAFKA_UNREACHABLE`.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription> {
        let mut partitions = self.client.describe(name).await?;
        let led: BTreeSet<TopicPartition> =
            partitions.iter().filter(|p| p.leader >= 0).map(|p| (name.to_string(), p.partition)).collect();
        let earliest = self.client.ends(&led, End::Earliest).await?;
        let latest = self.client.ends(&led, End::Latest).await?;
        for partition in &mut partitions {
            partition.earliest = earliest.get(name, partition.partition);
            partition.latest = latest.get(name, partition.partition);
        }
        Ok(TopicDescription { name: name.to_string(), partitions })
    }

    /// Creates a topic and waits until every broker says that it is there.
    ///
    /// # Errors
    /// `KAFKA_TOPIC_EXISTS`, or what the brokers say.
    pub async fn create_topic(&self, name: &str, partitions: i32, replication: i32) -> Result<()> {
        let what = format!("create topic {name}");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        let results = self
            .admin(&what)?
            .create_topics([&topic], &self.admin_options())
            .await
            .map_err(|e| self.failed(&what, &e))?;
        self.first_result(&what, name, results)?;
        self.wait_for(name, |partitions| partitions >= 1).await
    }

    /// Gives a topic more partitions, `total` in all.
    ///
    /// # Errors
    /// What the brokers say.
    pub async fn grow_topic(&self, name: &str, total: usize) -> Result<()> {
        let what = format!("grow topic {name}");
        let grown = NewPartitions::new(name, total);
        let results = self
            .admin(&what)?
            .create_partitions([&grown], &self.admin_options())
            .await
            .map_err(|e| self.failed(&what, &e))?;
        self.first_result(&what, name, results)?;
        self.wait_for(name, |partitions| partitions >= total).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// `KAFKA_UNKNOWN_TOPIC`, or what the brokers say.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let what = format!("delete topic {name}");
        let results = self
            .admin(&what)?
            .delete_topics(&[name], &self.admin_options())
            .await
            .map_err(|e| self.failed(&what, &e))?;
        self.first_result(&what, name, results)
    }

    /// Deletes the records of a partition before `offset`.
    ///
    /// # Errors
    /// What the brokers say.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let what = format!("delete records of topic {topic}");
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset))
            .map_err(|e| self.failed(&what, &e))?;
        let done = self
            .admin(&what)?
            .delete_records(&list, &self.admin_options())
            .await
            .map_err(|e| self.failed(&what, &e))?;
        done.elements().iter().try_for_each(|element| element.error().map_err(|e| self.failed(&what, &e)))
    }

    /// Offsets that a consumer group has committed in a topic: what lag tools compare with the latest.
    ///
    /// # Errors
    /// `KAFKA_UNKNOWN_TOPIC`, `KAFKA_UNREACHABLE`.
    pub async fn group_offsets(&self, group: &str, topic: &str) -> Result<KafkaOffsets> {
        let mut own = self.properties.clone();
        own.set("group.id", group);
        let topics = self.client.topics(Some(vec![topic.to_string()])).await?;
        let partitions = topics.get(topic).ok_or_else(|| unknown_topic(topic, self.client.brokers()))?;
        Client::new(&own)?.committed(partitions.iter().map(|p| (topic.to_string(), *p)).collect()).await
    }

    fn admin(&self, what: &str) -> Result<AdminClient<DefaultClientContext>> {
        let mut own = self.properties.for_client();
        // Properties of consumers alone, of which a client of the other kind would warn.
        for key in ["auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store", "isolation.level"] {
            own.remove(key);
        }
        own.client_config().create().map_err(|e| self.failed(what, &e))
    }

    fn admin_options(&self) -> AdminOptions {
        let timeout = self.properties.api_timeout();
        AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout))
    }

    fn failed(&self, what: &str, error: &KafkaError) -> Error {
        match error {
            KafkaError::AdminOp(code) => self.refused(what, "", *code),
            _ => failed(what, self.client.brokers(), error, None),
        }
    }

    fn first_result(&self, what: &str, topic: &str, results: Vec<TopicResult>) -> Result<()> {
        match results.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err((_, code))) => Err(self.refused(what, topic, code)),
            None => Err(Error::internal(format!("the answer to '{what}' is empty"))),
        }
    }

    fn refused(&self, what: &str, topic: &str, code: RDKafkaErrorCode) -> Error {
        let invalid = |class: &str, remedy: &str| {
            Error::invalid(class, format!("failed to {what} on {}: {code}: {remedy}", self.client.brokers()))
        };
        match code {
            RDKafkaErrorCode::TopicAlreadyExists => Error::new(
                ErrorKind::AlreadyExists,
                "KAFKA_TOPIC_EXISTS",
                format!("topic {topic} exists already on {}", self.client.brokers()),
            ),
            RDKafkaErrorCode::UnknownTopicOrPartition => unknown_topic(topic, self.client.brokers()),
            RDKafkaErrorCode::UnsupportedFeature => Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!(
                    "failed to {what}: the broker at {} cannot do that (the embedded one makes a topic when it is \
                     written to)",
                    self.client.brokers()
                ),
            ),
            RDKafkaErrorCode::InvalidReplicationFactor => {
                invalid("KAFKA_INVALID_REPLICATION_FACTOR", "there cannot be more copies than brokers")
            }
            RDKafkaErrorCode::InvalidPartitions => {
                invalid("KAFKA_INVALID_PARTITIONS", "a topic has one at least; they can be added, never taken away")
            }
            RDKafkaErrorCode::InvalidTopic => invalid(
                "KAFKA_INVALID_TOPIC",
                "a name is made of letters, digits, '.', '_' and '-', 249 of them at most",
            ),
            RDKafkaErrorCode::PolicyViolation => {
                invalid("KAFKA_POLICY_VIOLATION", "the brokers' policy (create.topic.policy.class.name) forbids it")
            }
            code => failed(what, self.client.brokers(), &KafkaError::MetadataFetch(code), None),
        }
    }

    /// The broker that was asked may know before the others do.
    async fn wait_for(&self, name: &str, enough: impl Fn(usize) -> bool) -> Result<()> {
        let deadline = tokio::time::Instant::now() + self.properties.api_timeout();
        loop {
            let partitions = self.client.topics(Some(vec![name.to_string()])).await?.get(name).map_or(0, BTreeSet::len);
            if enough(partitions) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Error::transient(
                    "KAFKA_UNAVAILABLE",
                    format!("topic {name} was made on {}, which does not list it yet", self.client.brokers()),
                ));
            }
            // Kafka tells nobody when metadata has spread: asking again is all there is.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes records to a topic and waits until all are acknowledged; how many they were.
    ///
    /// # Errors
    /// The first that was not delivered.
    pub async fn produce(&self, topic: &str, records: impl IntoIterator<Item = NewRecord>) -> Result<u64> {
        self.produce_stream(topic, stream::iter(records.into_iter().map(Ok))).await
    }

    /// The same from a stream, such as the lines of a file.
    ///
    /// # Errors
    /// The stream's, or the first record that was not delivered.
    pub async fn produce_stream(
        &self,
        topic: &str,
        records: impl stream::Stream<Item = Result<NewRecord>>,
    ) -> Result<u64> {
        let options = SinkOptions::parse(&self.options)?;
        let mut outlet = Outlet::open(&options.properties, options.producer_idle)?;
        let mut records = std::pin::pin!(records);
        while let Some(record) = records.try_next().await? {
            let out = OutRecord {
                topic,
                partition: record.partition,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                timestamp_ms: record.timestamp_ms,
            };
            outlet.send(&out, || None).await?;
        }
        outlet.flush().await?;
        Ok(outlet.sent)
    }

    /// Records of a topic from `from` on: those there are, or with `follow` for as long as the stream is held.
    /// Records of one partition come in order.
    ///
    /// # Errors
    /// `KAFKA_UNKNOWN_TOPIC`, `KAFKA_UNREACHABLE`; the stream ends with its first error.
    pub async fn tail(
        &self,
        topic: &str,
        from: TailFrom,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<TailRecord>>> {
        let topics = self.client.topics(Some(vec![topic.to_string()])).await?;
        let partitions = topics.get(topic).ok_or_else(|| unknown_topic(topic, self.client.brokers()))?;
        let all: BTreeSet<TopicPartition> = partitions.iter().map(|p| (topic.to_string(), *p)).collect();
        let earliest = self.client.ends(&all, End::Earliest).await?;
        let latest = self.client.ends(&all, End::Latest).await?;
        let mut options = self.options.clone();
        options.set("subscribe", topic);
        options.set("includeHeaders", "true");
        options.set("failOnDataLoss", "false");
        let options = SourceOptions::stream(&options)?;
        let mut config = ReaderConfig::new(&options, &format!("tail-{}", uuid::Uuid::new_v4()));
        config.pool.idle_ms = 0;
        let reader = KafkaReader::new(config);
        let mut streams = vec![];
        // Never told: a stream that follows ends when it is dropped, and takes the sender with it.
        let (keep, told) = tokio::sync::watch::channel(false);
        for (_, partition, end) in latest.iter() {
            let begin = earliest.get(topic, partition).unwrap_or(0);
            let from = match from {
                TailFrom::Earliest => begin,
                TailFrom::Latest => end,
                TailFrom::Last(records) => end.saturating_sub(i64::try_from(records).unwrap_or(i64::MAX)).max(begin),
                TailFrom::Offset(offset) => offset.clamp(begin, end),
            };
            let range = OffsetRange { topic: topic.to_string(), partition, from, until: end };
            let descriptor = descriptors(vec![range], all.len()).remove(0);
            let until = if follow { ReadUntil::Signal(told.clone()) } else { ReadUntil::DescriptorEnd };
            let (stream, _) = reader.read_with_position(&descriptor, None, row_schema(true), until)?;
            streams.push(stream);
        }
        let records = stream::select_all(streams)
            .map_err(|e| match e {
                datafusion::error::DataFusionError::External(inner) => match inner.downcast::<Error>() {
                    Ok(error) => *error,
                    Err(other) => Error::internal(other),
                },
                other => Error::internal(other),
            })
            .map_ok(move |batch| {
                let _keep = &keep;
                stream::iter(tail_records(&batch).into_iter().map(Ok))
            })
            .try_flatten();
        Ok(records.boxed())
    }
}

fn tail_records(batch: &RecordBatch) -> Vec<TailRecord> {
    let bytes =
        |array: &dyn Array, row: usize| array.is_valid(row).then(|| array.as_binary::<i32>().value(row).to_vec());
    (0..batch.num_rows())
        .map(|row| TailRecord {
            topic: batch.column(2).as_string::<i32>().value(row).to_string(),
            partition: batch.column(3).as_primitive::<Int32Type>().value(row),
            offset: batch.column(4).as_primitive::<Int64Type>().value(row),
            timestamp_ms: batch.column(5).as_primitive::<TimestampMicrosecondType>().value(row) / 1000,
            key: bytes(batch.column(0), row),
            value: bytes(batch.column(1), row),
            headers: {
                let lists = batch.column(7).as_list::<i32>();
                if lists.is_null(row) {
                    vec![]
                } else {
                    let list = lists.value(row);
                    let fields = list.as_struct();
                    let keys = fields.column(0).as_string::<i32>();
                    (0..list.len()).map(|i| (keys.value(i).to_string(), bytes(fields.column(1), i))).collect()
                }
            },
        })
        .collect()
}

/// A Kafka broker inside the process: librdkafka's mock cluster. It speaks the protocol over TCP on 127.0.0.1 and
/// keeps nothing on disk. It keeps some 5 MB of a partition and then drops the oldest, knows no timestamps, deletes
/// nothing on request, and makes a topic when it is written to.
///
/// It holds every empty fetch back for `fetch.wait.max.ms`, even when a record comes meanwhile; consumers of this
/// process know it by its address and do not let it. Consumers of other processes should set
/// `kafka.fetch.wait.max.ms` low.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    address: String,
}

/// Addresses of the embedded brokers of this process.
static EMBEDDED: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);

/// Whether these brokers are an embedded one of this process.
pub fn is_embedded(brokers: &str) -> bool {
    EMBEDDED.lock().unwrap_or_else(PoisonError::into_inner).contains(brokers)
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        EMBEDDED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }
}

// SAFETY: the mock cluster's calls used here pass messages to its own thread, or read what does not change.
unsafe impl Send for EmbeddedBroker {}
// SAFETY: as above.
unsafe impl Sync for EmbeddedBroker {}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedBroker({})", self.address())
    }
}

impl EmbeddedBroker {
    /// Starts a broker with these topics and their partitions.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start<'a>(topics: impl IntoIterator<Item = (&'a str, i32)>) -> Result<Self> {
        let cluster = MockCluster::new(1)
            .map_err(|e| Error::fatal("KAFKA_EMBEDDED", format!("cannot start the embedded broker: {e}")))?;
        let address = cluster.bootstrap_servers();
        EMBEDDED.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone());
        let broker = Self { cluster, address };
        for (topic, partitions) in topics {
            broker.create_topic(topic, partitions)?;
        }
        Ok(broker)
    }

    /// `host:port`, for `kafka.bootstrap.servers`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// `KAFKA_EMBEDDED`, as when it exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.cluster.create_topic(name, partitions, 1).map_err(|e| {
            Error::fatal("KAFKA_EMBEDDED", format!("cannot create topic {name} in the embedded broker: {e}"))
        })
    }

    /// Takes the broker away, or brings it back, for tests of what then happens.
    ///
    /// # Errors
    /// When the mock cluster refuses.
    pub fn set_reachable(&self, reachable: bool) -> Result<()> {
        let done = if reachable { self.cluster.broker_up(-1) } else { self.cluster.broker_down(-1) };
        done.map_err(|e| Error::fatal("KAFKA_EMBEDDED", format!("cannot switch the embedded broker: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refusals_are_told_apart() {
        let admin = Admin::new("127.0.0.1:1").unwrap();
        let check = |code: RDKafkaErrorCode, class: &str, expect: &str| {
            let error = admin.failed("create topic t", &KafkaError::AdminOp(code));
            assert_eq!(error.class, class);
            let begin = "failed to create topic t on 127.0.0.1:1: ";
            assert!(error.message.starts_with(begin) && error.message.contains(expect), "{error}");
        };
        check(
            RDKafkaErrorCode::InvalidReplicationFactor,
            "KAFKA_INVALID_REPLICATION_FACTOR",
            "more copies than brokers",
        );
        check(RDKafkaErrorCode::InvalidPartitions, "KAFKA_INVALID_PARTITIONS", "one at least");
        check(RDKafkaErrorCode::InvalidTopic, "KAFKA_INVALID_TOPIC", "letters, digits");
        check(RDKafkaErrorCode::PolicyViolation, "KAFKA_POLICY_VIOLATION", "create.topic.policy.class.name");
    }
}
