//! Options of the `kafka` format: Spark's names, defaults and refusals, and the translation of the Java client's
//! `kafka.*` properties to librdkafka's.
//!
//! Parsing does no I/O. An option is honoured or refused by name; a `kafka.*` property is checked against librdkafka
//! at once, so that a wrong one fails where it is written and not on an executor. (Of properties that contradict each
//! other this holds for those of an idempotent producer; the rest librdkafka refuses when a client is made.)

use crate::connectors::kafka::offsets::{KafkaOffsets, parse_offsets, parse_partitions};
use crate::connectors::{Options, is_secret, warn_without_effect};
use crate::tls;
use headwater_proto::error::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

const INVALID: &str = "KAFKA_INVALID_OPTION";

/// What is done about an option name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// It means what Spark's documentation says.
    Honoured,
    /// A time is accepted, with a warning; here it has nothing to act on, and no result depends on it.
    NoEffect,
    /// `false` alone, with the reason.
    False(&'static str),
}
use Support::{False, Honoured, NoEffect};

/// Every option of a source (batch and stream) and of a sink. A catalog table may be read and written, so either half
/// takes the other's and leaves them be.
const NAMES: &[(&str, Support)] = &[
    ("assign", Honoured),
    ("subscribe", Honoured),
    ("subscribePattern", Honoured),
    ("startingTimestamp", Honoured),
    ("startingOffsetsByTimestamp", Honoured),
    ("startingOffsets", Honoured),
    ("endingTimestamp", Honoured),
    ("endingOffsetsByTimestamp", Honoured),
    ("endingOffsets", Honoured),
    ("startingOffsetsByTimestampStrategy", Honoured),
    ("failOnDataLoss", Honoured),
    ("kafkaConsumer.pollTimeoutMs", Honoured),
    // Beneath it, as in Spark.
    (NETWORK_TIMEOUT, Honoured),
    ("fetchOffset.numRetries", Honoured),
    ("fetchOffset.retryIntervalMs", Honoured),
    ("maxOffsetsPerTrigger", Honoured),
    ("minOffsetsPerTrigger", Honoured),
    ("maxTriggerDelay", Honoured),
    ("minPartitions", Honoured),
    ("maxRecordsPerPartition", Honoured),
    ("groupIdPrefix", Honoured),
    ("includeHeaders", Honoured),
    ("headwater.commit.group.id", Honoured),
    ("spark.kafka.consumer.cache.capacity", Honoured),
    ("spark.kafka.consumer.cache.timeout", Honoured),
    // An idle client is closed when its time is up, and nobody goes round to look.
    ("spark.kafka.consumer.cache.evictorThreadRunInterval", NoEffect),
    ("spark.kafka.consumer.cache.jmx.enable", False("there is no JVM that could show it")),
    // What a consumer has fetched stays with the consumer.
    ("spark.kafka.consumer.fetchedData.cache.timeout", NoEffect),
    ("spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval", NoEffect),
    (
        "spark.sql.streaming.kafka.useDeprecatedOffsetFetching",
        False("offsets are asked of the brokers, never of a consumer that was assigned the partitions"),
    ),
    ("topic", Honoured),
    ("spark.kafka.producer.cache.timeout", Honoured),
    ("spark.kafka.producer.cache.evictorThreadRunInterval", NoEffect),
];

/// Spark's bound on every wait for a network, in seconds where it has no unit.
const NETWORK_TIMEOUT: &str = "spark.network.timeout";

/// How long a broker may stay silent before an offset or metadata request gives up; the user's
/// `kafka.default.api.timeout.ms` replaces it. Java waits 60 s, which is a long time to look at nothing.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a task waits for a record unless it is told otherwise: Spark's.
const POLL_TIMEOUT: Duration = Duration::from_secs(120);

/// Which topic partitions a source reads.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// Exactly these.
    Assign(BTreeMap<String, BTreeSet<i32>>),
    /// All partitions of these topics.
    Subscribe(Vec<String>),
    /// All partitions of the topics whose whole name matches: the pattern as written, and compiled.
    Pattern(String, regex::Regex),
}

impl fmt::Display for Strategy {
    /// As Spark describes it: `Subscribe[users_created]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assign(topics) => {
                let names: Vec<_> = topics
                    .iter()
                    .flat_map(|(topic, partitions)| partitions.iter().map(move |p| format!("{topic}-{p}")))
                    .collect();
                write!(f, "Assign[{}]", names.join(", "))
            }
            Self::Subscribe(topics) => write!(f, "Subscribe[{}]", topics.join(", ")),
            Self::Pattern(pattern, _) => write!(f, "SubscribePattern[{pattern}]"),
        }
    }
}

/// One end of a read, before it is resolved to offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// The oldest record there is.
    Earliest,
    /// The end of the log.
    Latest,
    /// Offsets; [`EARLIEST`] and [`LATEST`] stand for themselves.
    Offsets(KafkaOffsets),
    /// In every topic partition the first record at or after this time (ms since 1970).
    Timestamp(i64),
    /// The same, a time for each topic partition.
    Timestamps(KafkaOffsets),
}

/// Spark's mark for "latest" in an offsets JSON.
pub const LATEST: i64 = -1;
/// Spark's mark for "earliest" in an offsets JSON.
pub const EARLIEST: i64 = -2;

/// What to do where no record is at or after the starting timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampStrategy {
    /// Refuse to start.
    Error,
    /// Start at the end of the log.
    Latest,
}

/// librdkafka properties. Secrets are in it, so it prints none of its values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.0.iter().map(|(key, value)| (key, if is_secret(key) { "*********(redacted)" } else { value })),
            )
            .finish()
    }
}

impl Properties {
    /// Properties of a client that knows nothing but where its brokers are.
    pub fn of_brokers(brokers: &str) -> Self {
        let mut properties = Self::default();
        properties.set("bootstrap.servers", brokers);
        properties
    }
    /// The value of a property.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
    /// Sets a property.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }
    /// Takes a property away.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }
    /// Sets a property unless the user did.
    pub fn set_default(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.into()).or_insert_with(|| value.into());
    }
    /// The brokers, for messages.
    pub fn brokers(&self) -> &str {
        self.get("bootstrap.servers").unwrap_or("?")
    }
    /// Equal properties have equal hashes within one process.
    pub fn hash_value(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
    /// The configuration of a client. librdkafka logs warnings and worse.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in &self.0 {
            config.set(key, value);
        }
        config
    }
    /// Asks librdkafka whether it knows every property and value.
    fn check(&self) -> Result<()> {
        match self.client_config().create_native_config() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(_, description, key, _)) => Err(refused_property(&key, &description)),
            Err(e) => Err(Error::invalid(INVALID, format!("the kafka.* options are refused by librdkafka: {e}"))),
        }
    }
    /// How long a metadata or offset request may take.
    pub fn api_timeout(&self) -> Duration {
        self.get(API_TIMEOUT_PROPERTY)
            .and_then(|ms| ms.parse().ok())
            .map_or(API_TIMEOUT, |ms: u64| Duration::from_millis(ms.max(1)))
    }
    /// The same without what is ours and unknown to librdkafka.
    pub fn for_client(&self) -> Self {
        Self(self.0.iter().filter(|(key, _)| !OUR_PROPERTIES.contains(&key.as_str())).map(clone_pair).collect())
    }
    /// How long a producer's full queue may stay full.
    pub fn max_block(&self) -> Duration {
        self.get(MAX_BLOCK_PROPERTY)
            .and_then(|ms| ms.parse().ok())
            .map_or(Duration::from_secs(60), |ms: u64| Duration::from_millis(ms.max(1)))
    }
}

fn clone_pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// Java's properties that bound a call of the client; librdkafka takes such a bound with each call.
const API_TIMEOUT_PROPERTY: &str = "default.api.timeout.ms";
const MAX_BLOCK_PROPERTY: &str = "max.block.ms";
const OUR_PROPERTIES: &[&str] = &[API_TIMEOUT_PROPERTY, MAX_BLOCK_PROPERTY];

/// librdkafka's description may quote the value, so a secret's is left out.
fn refused_property(key: &str, description: &str) -> Error {
    let why = if is_secret(key) { "its value is refused (not shown: it may be a secret)" } else { description };
    Error::invalid(
        INVALID,
        format!(
            "option kafka.{key}: {why}; properties are those of librdkafka, and the Java client's where it has them"
        ),
    )
}

/// How the executors keep consumers between batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// Idle consumers kept at most for one query; a soft limit, as in Spark: what is in use is never taken away.
    pub capacity: usize,
    /// An idle consumer is closed after this long.
    pub idle_ms: u64,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { capacity: 64, idle_ms: 5 * 60 * 1000 }
    }
}

/// Options of a read, checked.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// Which topic partitions.
    pub strategy: Strategy,
    /// librdkafka properties of every consumer.
    pub properties: Properties,
    /// Where a new query, or a batch read, begins.
    pub starting: Bound,
    /// Where a batch read ends; `Latest` in a stream, which has no such option.
    pub ending: Bound,
    /// What to do where no record is at or after the starting timestamp.
    pub timestamp_strategy: TimestampStrategy,
    /// Whether lost records fail the query.
    pub fail_on_data_loss: bool,
    /// How long a task waits for a record that must be there.
    pub poll_timeout: Duration,
    /// How often offsets are asked for before that is an error.
    pub fetch_retries: u32,
    /// The pause between two such attempts.
    pub fetch_retry_interval: Duration,
    /// At most this many records a batch.
    pub max_offsets_per_trigger: Option<u64>,
    /// At least this many, or wait.
    pub min_offsets_per_trigger: Option<u64>,
    /// But no longer than this.
    pub max_trigger_delay: Duration,
    /// About this many plan partitions at least.
    pub min_partitions: Option<usize>,
    /// At most this many records a plan partition.
    pub max_records_per_partition: Option<u64>,
    /// Whether rows have `headers`.
    pub include_headers: bool,
    /// The group to which offsets of finished batches are committed, for lag tools.
    pub commit_group: Option<String>,
    /// How the executors keep consumers.
    pub pool: PoolSettings,
}

impl SourceOptions {
    /// Options of a stream.
    ///
    /// # Errors
    /// `KAFKA_INVALID_OPTION` names the option, and what is expected of it.
    pub fn stream(options: &Options) -> Result<Self> {
        for ending in ["endingOffsets", "endingOffsetsByTimestamp"] {
            if options.get(ending).is_some() {
                return Err(invalid(ending, "ending offset not valid in streaming queries: remove it"));
            }
        }
        if options.get("endingTimestamp").is_some() {
            return Err(invalid("endingTimestamp", "ending timestamp not valid in streaming queries: remove it"));
        }
        let parsed = Self::parse(options, Bound::Latest)?;
        if let (Some(min), Some(max)) = (parsed.min_offsets_per_trigger, parsed.max_offsets_per_trigger)
            && min > max
        {
            return Err(invalid(
                "minOffsetsPerTrigger",
                &format!("{min} is more than maxOffsetsPerTrigger ({max}): lower it, or raise maxOffsetsPerTrigger"),
            ));
        }
        Ok(parsed)
    }

    /// Options of a batch read.
    ///
    /// # Errors
    /// `KAFKA_INVALID_OPTION` names the option, and what is expected of it.
    pub fn batch(options: &Options) -> Result<Self> {
        for option in ["maxOffsetsPerTrigger", "minOffsetsPerTrigger", "maxTriggerDelay"] {
            if options.get(option).is_some() {
                tracing::warn!(option, "option is for streams and is ignored in a batch query");
            }
        }
        let parsed = Self::parse(options, Bound::Earliest)?;
        match &parsed.starting {
            Bound::Latest => {
                return Err(invalid("startingOffsets", "starting offset can't be latest for batch queries on Kafka"));
            }
            Bound::Offsets(offsets) if offsets.values().any(|offset| offset == LATEST) => {
                return Err(invalid(
                    "startingOffsets",
                    "offset -1 (latest) can't be where a batch query starts; use -2 (earliest) or an offset",
                ));
            }
            _ => {}
        }
        match &parsed.ending {
            Bound::Earliest => {
                return Err(invalid("endingOffsets", "ending offset can't be earliest for batch queries on Kafka"));
            }
            Bound::Offsets(offsets) if offsets.values().any(|offset| offset == EARLIEST) => {
                return Err(invalid(
                    "endingOffsets",
                    "offset -2 (earliest) can't be where a batch query ends; use -1 (latest) or an offset",
                ));
            }
            _ => {}
        }
        Ok(parsed)
    }

    fn parse(options: &Options, starting: Bound) -> Result<Self> {
        warn_without_effect(&check_names(options)?);
        let strategy = strategy(options)?;
        let mut properties = properties(options, Half::Source)?;
        // Partitions are read by plan, never by group membership, so no consumer joins a group and there is none to
        // authorise; the name shows in the brokers' logs and quotas all the same.
        let prefix = options.get("groupIdPrefix").unwrap_or("spark-kafka-source");
        let group = properties.remove("group.id");
        if let Some(group) = &group {
            tracing::warn!(
                group,
                "option kafka.group.id is not recommended: no consumer joins the group here, its name becomes the \
                 client.id, and groupIdPrefix is ignored"
            );
        }
        let name = group.unwrap_or_else(|| prefix.to_string());
        properties.set_default("client.id", name);
        // Java's default; librdkafka's is read_committed.
        properties.set_default("isolation.level", "read_uncommitted");
        properties.set("enable.auto.commit", "false");
        properties.set("enable.auto.offset.store", "false");
        properties.set("auto.offset.reset", "error");
        properties.for_client().check()?;
        let timestamp_strategy = match lower(options, "startingOffsetsByTimestampStrategy").as_deref() {
            None | Some("error") => TimestampStrategy::Error,
            Some("latest") => TimestampStrategy::Latest,
            Some(other) => {
                return Err(invalid("startingOffsetsByTimestampStrategy", &format!("'{other}': use error or latest")));
            }
        };
        let network_timeout = duration_in(options, NETWORK_TIMEOUT, "s")?.unwrap_or(POLL_TIMEOUT);
        let poll_timeout =
            number(options, "kafkaConsumer.pollTimeoutMs", 0)?.map_or(network_timeout, Duration::from_millis);
        let capacity = number(options, "spark.kafka.consumer.cache.capacity", 1)?.unwrap_or(64);
        Ok(Self {
            strategy,
            properties,
            starting: bound(options, "starting", starting)?,
            ending: bound(options, "ending", Bound::Latest)?,
            timestamp_strategy,
            fail_on_data_loss: boolean(options, "failOnDataLoss")?.unwrap_or(true),
            poll_timeout,
            fetch_retries: number(options, "fetchOffset.numRetries", 1)?.unwrap_or(3).min(u64::from(u32::MAX)) as u32,
            fetch_retry_interval: Duration::from_millis(
                number(options, "fetchOffset.retryIntervalMs", 0)?.unwrap_or(10),
            ),
            max_offsets_per_trigger: number(options, "maxOffsetsPerTrigger", 1)?,
            min_offsets_per_trigger: number(options, "minOffsetsPerTrigger", 1)?,
            max_trigger_delay: duration(options, "maxTriggerDelay")?.unwrap_or(Duration::from_secs(15 * 60)),
            min_partitions: number(options, "minPartitions", 1)?.map(|n| n as usize),
            max_records_per_partition: number(options, "maxRecordsPerPartition", 1)?,
            include_headers: boolean(options, "includeHeaders")?.unwrap_or(false),
            commit_group: options.get("headwater.commit.group.id").map(str::to_string),
            pool: PoolSettings {
                capacity: capacity as usize,
                idle_ms: duration(options, "spark.kafka.consumer.cache.timeout")?
                    .map_or(PoolSettings::default().idle_ms, |d| d.as_millis() as u64),
            },
        })
    }
}

/// Options of a write, checked.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// librdkafka properties of the producers.
    pub properties: Properties,
    /// The topic of every row; beats the column.
    pub topic: Option<String>,
    /// An idle producer is closed after this long.
    pub producer_idle: Duration,
}

impl SinkOptions {
    /// Options of a sink.
    ///
    /// # Errors
    /// `KAFKA_INVALID_OPTION` names the option, and what is expected of it.
    pub fn parse(options: &Options) -> Result<Self> {
        warn_without_effect(&check_names(options)?);
        boolean(options, "includeHeaders")?;
        let mut properties = properties(options, Half::Sink)?;
        let conflict = not_idempotent(&properties);
        let asked = properties.get("enable.idempotence").map(|given| given.trim().to_ascii_lowercase());
        if let Some(key) = conflict
            && asked.is_some_and(|asked| matches!(asked.as_str(), "true" | "t" | "1"))
        {
            let what = "an idempotent producer cannot have it: remove it, or option kafka.enable.idempotence";
            return Err(invalid(&format!("kafka.{key}"), what));
        }
        // Java's rule.
        properties.set_default("enable.idempotence", if conflict.is_some() { "false" } else { "true" });
        // Java's, so that a key lands in the partition where Spark would put it.
        properties.set_default("partitioner", "murmur2_random");
        properties.set_default("linger.ms", "0");
        // Java's; librdkafka's is five minutes.
        properties.set_default("delivery.timeout.ms", "120000");
        // A task must not hold all of a large batch: beyond this it waits for deliveries.
        properties.set_default("queue.buffering.max.kbytes", "65536");
        properties.for_client().check()?;
        Ok(Self {
            properties,
            topic: options.get("topic").map(str::to_string),
            producer_idle: duration(options, "spark.kafka.producer.cache.timeout")?
                .unwrap_or(Duration::from_secs(10 * 60)),
        })
    }
}

/// The property, if any, that an idempotent producer cannot have. librdkafka says so only when the producer is made.
fn not_idempotent(properties: &Properties) -> Option<&'static str> {
    fn few(acks: &str) -> bool {
        !acks.eq_ignore_ascii_case("all") && acks != "-1"
    }
    fn none(retries: &str) -> bool {
        retries.parse::<u32>().is_ok_and(|retries| retries == 0)
    }
    fn many(requests: &str) -> bool {
        requests.parse::<u32>().is_ok_and(|requests| requests > 5)
    }
    static RULES: [(&str, fn(&str) -> bool); 6] = [
        ("acks", few),
        ("request.required.acks", few),
        ("retries", none),
        ("message.send.max.retries", none),
        ("max.in.flight.requests.per.connection", many),
        ("max.in.flight", many),
    ];
    let broken = RULES.iter().find(|(key, breaks)| properties.get(key).is_some_and(|value| breaks(value.trim())));
    broken.map(|(key, _)| *key)
}

fn invalid(option: &str, what: &str) -> Error {
    Error::invalid(INVALID, format!("option {option}: {what}"))
}

fn lower(options: &Options, key: &str) -> Option<String> {
    options.get(key).map(|value| value.trim().to_ascii_lowercase())
}

fn number(options: &Options, key: &str, least: u64) -> Result<Option<u64>> {
    let Some(text) = options.get(key) else { return Ok(None) };
    match text.trim().parse::<u64>() {
        Ok(value) if value >= least => Ok(Some(value)),
        _ => Err(invalid(key, &format!("'{text}' must be a whole number, {least} or more"))),
    }
}

fn boolean(options: &Options, key: &str) -> Result<Option<bool>> {
    match lower(options, key).as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(invalid(key, &format!("'{other}' must be true or false"))),
    }
}

fn duration(options: &Options, key: &str) -> Result<Option<Duration>> {
    duration_in(options, key, "ms")
}

/// `unit` is that of a bare number.
fn duration_in(options: &Options, key: &str, unit: &str) -> Result<Option<Duration>> {
    let Some(text) = options.get(key) else { return Ok(None) };
    parse_duration(text, unit).map(Some).ok_or_else(|| {
        invalid(key, &format!("'{text}' must be a time such as 500ms, 10s, 15m, 1h, or a number ({unit})"))
    })
}

/// Spark's time strings: a number and a unit.
fn parse_duration(text: &str, default_unit: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let value: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let micros = match if unit.is_empty() { default_unit } else { unit } {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" | "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    value.checked_mul(micros).map(Duration::from_micros)
}

fn strategy(options: &Options) -> Result<Strategy> {
    let given: Vec<(&str, &str)> = ["assign", "subscribe", "subscribePattern"]
        .into_iter()
        .filter_map(|key| options.get(key).map(|value| (key, value)))
        .collect();
    let [(key, value)] = given.as_slice() else {
        let what = if given.is_empty() {
            "one of the options subscribe, subscribePattern, assign must be specified for a Kafka source".to_string()
        } else {
            let names: Vec<_> = given.iter().map(|(key, _)| *key).collect();
            format!(
                "only one of subscribe, subscribePattern, assign can be specified for a Kafka source, not {}",
                names.join(" and ")
            )
        };
        return Err(Error::invalid(INVALID, what));
    };
    match *key {
        "assign" => {
            let partitions = parse_partitions(value).map_err(|e| invalid(key, &e))?;
            if partitions.values().all(BTreeSet::is_empty) {
                return Err(invalid(key, &format!("'{value}' names no topic partition to consume")));
            }
            Ok(Strategy::Assign(partitions))
        }
        "subscribe" => {
            let mut topics = vec![];
            for topic in value.split(',').map(str::trim).filter(|topic| !topic.is_empty()) {
                if !topics.iter().any(|known| known == topic) {
                    topics.push(topic.to_string());
                }
            }
            if topics.is_empty() {
                return Err(invalid(key, &format!("no topics to subscribe to in '{value}'")));
            }
            Ok(Strategy::Subscribe(topics))
        }
        _ => {
            if value.trim().is_empty() {
                return Err(invalid(key, "the pattern to subscribe to is empty"));
            }
            // Java matches whole names.
            let regex = regex::Regex::new(&format!("^(?:{value})$")).map_err(|e| {
                invalid(
                    key,
                    &format!("'{value}' is no pattern here ({e}); look-around and back references are not supported"),
                )
            })?;
            Ok(Strategy::Pattern((*value).to_string(), regex))
        }
    }
}

/// `which` is `starting` or `ending`. A global timestamp beats timestamps by partition, which beat offsets.
fn bound(options: &Options, which: &str, default: Bound) -> Result<Bound> {
    let timestamp = format!("{which}Timestamp");
    if let Some(ms) = number(options, &timestamp, 0)? {
        let ms = i64::try_from(ms).map_err(|_| invalid(&timestamp, "too large"))?;
        return Ok(Bound::Timestamp(ms));
    }
    let by_timestamp = format!("{which}OffsetsByTimestamp");
    if let Some(json) = options.get(&by_timestamp) {
        let timestamps = parse_offsets(json).map_err(|e| invalid(&by_timestamp, &e))?;
        if timestamps.values().any(|ms| ms < 0) {
            return Err(invalid(&by_timestamp, "timestamps are milliseconds since 1970, 0 or more"));
        }
        return Ok(Bound::Timestamps(timestamps));
    }
    let by_offset = format!("{which}Offsets");
    let Some(text) = options.get(&by_offset) else { return Ok(default) };
    match text.trim().to_ascii_lowercase().as_str() {
        "earliest" => Ok(Bound::Earliest),
        "latest" => Ok(Bound::Latest),
        _ => {
            let offsets = parse_offsets(text).map_err(|e| {
                invalid(&by_offset, &format!("{e}; use earliest, latest or {{\"topic\":{{\"0\":23}}}}"))
            })?;
            if offsets.values().any(|offset| offset < EARLIEST) {
                return Err(invalid(&by_offset, "offsets are 0 or more, -2 for earliest or -1 for latest"));
            }
            Ok(Bound::Offsets(offsets))
        }
    }
}

/// Refuses what is unknown and what cannot be honoured; those that have no effect.
fn check_names(options: &Options) -> Result<Vec<&str>> {
    let mut without_effect = vec![];
    for (key, _) in options.iter() {
        if key.len() > 6 && key.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("kafka.")) {
            continue;
        }
        match NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            Some((_, Honoured)) => {}
            Some((_, NoEffect)) => {
                duration(options, key)?;
                without_effect.push(key);
            }
            Some((_, False(why))) => {
                if boolean(options, key)? == Some(true) {
                    return Err(invalid(key, &format!("true is not supported: {why}")));
                }
            }
            None => return Err(unknown(key)),
        }
    }
    Ok(without_effect)
}

fn unknown(key: &str) -> Error {
    let hint = NAMES
        .iter()
        .map(|(name, _)| *name)
        .chain(["kafka.bootstrap.servers"])
        .map(|name| (distance(&name.to_ascii_lowercase(), &key.to_ascii_lowercase()), name))
        .min()
        .filter(|(distance, _)| *distance <= 1 + key.len() / 3)
        .map_or(String::new(), |(_, name)| format!("; did you mean {name}?"));
    Error::invalid(
        "KAFKA_UNKNOWN_OPTION",
        format!("option {key} is not known to format kafka (properties of the client begin with kafka.){hint}"),
    )
}

/// Edits between two names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let change = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Source,
    Sink,
}

/// Why Spark refuses a `kafka.*` option, if it does.
fn forbidden(key: &str, half: Half) -> Option<&'static str> {
    match (half, key) {
        (_, "key.serializer" | "value.serializer") => {
            Some("is not supported: keys and values are written as the bytes of the columns; cast them in the query")
        }
        (Half::Source, "key.deserializer" | "value.deserializer") => {
            Some("is not supported: keys and values are always read as binary; cast them in the query")
        }
        (Half::Source, "auto.offset.reset") => {
            Some("is not supported: set the source option startingOffsets to earliest or latest instead")
        }
        (Half::Source, "enable.auto.commit") => {
            Some("is not supported: offsets live in the checkpoint; use headwater.commit.group.id for lag tools")
        }
        (_, "interceptor.classes") => Some("is not supported: interceptors are Java classes"),
        (Half::Sink, "transactional.id") => Some("is not supported: the Kafka sink writes at least once"),
        (_, "sasl.client.callback.handler.class" | "sasl.login.callback.handler.class" | "sasl.login.class") => {
            Some("is not supported: it names a Java class; use the sasl.* properties of librdkafka")
        }
        _ => None,
    }
}

/// Properties of the Java client that have no meaning here: taken with a warning, so that old options keep working.
const IGNORED: &[&str] = &[
    "max.poll.records",
    "exclude.internal.topics",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "auto.include.jmx.reporter",
    "socket.connection.setup.timeout.max.ms",
    "ssl.protocol",
    "ssl.provider",
    "ssl.enabled.protocols",
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
    "ssl.truststore.password",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.ignore.keys",
];

/// The `kafka.*` options as librdkafka properties.
fn properties(options: &Options, half: Half) -> Result<Properties> {
    let mut java = BTreeMap::new();
    for (key, value) in options.iter() {
        let key = key.to_ascii_lowercase();
        let Some(key) = key.strip_prefix("kafka.") else { continue };
        if let Some(why) = forbidden(key, half) {
            return Err(Error::invalid(INVALID, format!("option kafka.{key} {why}")));
        }
        java.insert(key.to_string(), value.to_string());
    }
    if java.get("bootstrap.servers").is_none_or(|servers| servers.trim().is_empty()) {
        return Err(Error::invalid(
            INVALID,
            "option kafka.bootstrap.servers must be specified for format kafka, as host:port,host:port",
        ));
    }
    let mut properties = Properties::default();
    for (key, value) in &java {
        translate(key, value, &java, half, &mut properties)?;
    }
    let encrypted =
        properties.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    if encrypted && properties.get("ssl.ca.pem").is_none() {
        // The OpenSSL that is built in knows no system: `probe` looks where systems keep their authorities.
        properties.set_default("ssl.ca.location", "probe");
    }
    Ok(properties)
}

/// One Java property to none, one or several of librdkafka. Unknown ones pass through: librdkafka judges them.
fn translate(key: &str, value: &str, all: &BTreeMap<String, String>, half: Half, out: &mut Properties) -> Result<()> {
    let store_type = |prefix: &str| {
        let given = |key: &str| all.get(&format!("{prefix}.{key}")).map(String::as_str);
        tls::store_type(given("type"), given("location").unwrap_or_default())
    };
    match key {
        _ if IGNORED.contains(&key) => tracing::warn!(option = format!("kafka.{key}"), "option has no effect here"),
        "fetch.max.wait.ms" => out.set("fetch.wait.max.ms", value),
        "send.buffer.bytes" => out.set("socket.send.buffer.bytes", at_least_zero(value)),
        "receive.buffer.bytes" => out.set("socket.receive.buffer.bytes", at_least_zero(value)),
        "request.timeout.ms" if half == Half::Source => out.set("socket.timeout.ms", value),
        "default.api.timeout.ms" | "max.block.ms" => {
            value.trim().parse::<u64>().map_err(|_| invalid(&format!("kafka.{key}"), "must be milliseconds"))?;
            out.set(key, value.trim());
        }
        "max.request.size" => out.set("message.max.bytes", value),
        "buffer.memory" => {
            let bytes: u64 =
                value.trim().parse().map_err(|_| invalid("kafka.buffer.memory", "must be a number of bytes"))?;
            out.set("queue.buffering.max.kbytes", (bytes / 1024).max(1).to_string());
        }
        "partitioner.class" => {
            let name = value.rsplit('.').next().unwrap_or(value);
            let partitioner = match name {
                "DefaultPartitioner" | "UniformStickyPartitioner" => "murmur2_random",
                "RoundRobinPartitioner" => "random",
                _ => {
                    return Err(invalid(
                        "kafka.partitioner.class",
                        &format!("{value} is a Java class; use a partition column, or kafka.partitioner"),
                    ));
                }
            };
            out.set("partitioner", partitioner);
        }
        "sasl.jaas.config" => jaas(value, out)?,
        "ssl.endpoint.identification.algorithm" => out.set(key, if value.trim().is_empty() { "none" } else { value }),
        "ssl.truststore.type" | "ssl.keystore.type" => {}
        "ssl.truststore.location" => match store_type("ssl.truststore").as_str() {
            tls::PEM => out.set("ssl.ca.location", value),
            other => {
                return Err(invalid(
                    "kafka.ssl.truststore.location",
                    &format!(
                        "a {other} truststore cannot be read here: export its certificates as PEM (keytool -exportcert \
                         -rfc) and set kafka.ssl.ca.location"
                    ),
                ));
            }
        },
        "ssl.truststore.certificates" => out.set("ssl.ca.pem", value),
        "ssl.keystore.location" => match store_type("ssl.keystore").as_str() {
            tls::PKCS12 => out.set(key, value),
            tls::PEM => {
                out.set("ssl.certificate.location", value);
                out.set("ssl.key.location", value);
            }
            other => {
                return Err(invalid(
                    "kafka.ssl.keystore.location",
                    &format!("a {other} keystore cannot be read here: convert it to PKCS12 (keytool -importkeystore)"),
                ));
            }
        },
        "ssl.keystore.key" => out.set("ssl.key.pem", value),
        "ssl.keystore.certificate.chain" => out.set("ssl.certificate.pem", value),
        _ => out.set(key, value),
    }
    Ok(())
}

/// Java writes -1 for "as the operating system has it", librdkafka 0.
fn at_least_zero(value: &str) -> &str {
    if value.trim() == "-1" { "0" } else { value }
}

/// `org.apache.kafka.…PlainLoginModule required username="…" password="…";` to user name and password. Messages name
/// the module at most: the rest is secret.
fn jaas(text: &str, out: &mut Properties) -> Result<()> {
    let option = "kafka.sasl.jaas.config";
    let module = text.split_whitespace().next().unwrap_or_default();
    let name = module.rsplit('.').next().unwrap_or_default();
    match name {
        "PlainLoginModule" | "ScramLoginModule" => {
            for (property, key) in [("sasl.username", "username"), ("sasl.password", "password")] {
                let value =
                    jaas_value(text, key).ok_or_else(|| invalid(option, &format!("{name} needs {key}=\"…\"")))?;
                out.set(property, value);
            }
            if name == "PlainLoginModule" {
                out.set_default("sasl.mechanism", "PLAIN");
            }
            Ok(())
        }
        "Krb5LoginModule" => {
            for (property, key) in [("sasl.kerberos.keytab", "keyTab"), ("sasl.kerberos.principal", "principal")] {
                if let Some(value) = jaas_value(text, key) {
                    out.set(property, value);
                }
            }
            Ok(())
        }
        _ => Err(invalid(
            option,
            "this login module is not known here (PlainLoginModule, ScramLoginModule, Krb5LoginModule are); for \
             OAUTHBEARER set kafka.sasl.oauthbearer.*",
        )),
    }
}

/// The value of `key=` in a JAAS line, whole words only, quoted (with `\` escapes) or not.
fn jaas_value(text: &str, key: &str) -> Option<String> {
    let mut from = 0;
    while let Some(found) = text[from..].find(key) {
        let start = from + found;
        from = start + key.len();
        let whole = start == 0 || text[..start].ends_with(|c: char| c.is_whitespace());
        let Some(rest) = text[from..].trim_start().strip_prefix('=').filter(|_| whole) else { continue };
        let rest = rest.trim_start();
        let Some(quoted) = rest.strip_prefix('"') else {
            return Some(rest.chars().take_while(|c| !c.is_whitespace() && *c != ';').collect());
        };
        let mut value = String::new();
        let mut characters = quoted.chars();
        while let Some(c) = characters.next() {
            match c {
                '"' => return Some(value),
                '\\' => value.extend(characters.next()),
                c => value.push(c),
            }
        }
        return None;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::producer::BaseProducer;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let mut options = Options::new([("kafka.bootstrap.servers", "localhost:9092")]);
        for (key, value) in pairs {
            options.set(*key, *value);
        }
        options
    }

    fn refused(result: Result<impl fmt::Debug>, words: &str) {
        let error = result.expect_err(words).to_string();
        assert!(error.contains(words), "{error} has no {words}");
    }

    #[test]
    fn stream_options_are_refused_by_name() {
        let check = |pairs: &[(&str, &str)], words: &str| refused(SourceOptions::stream(&options(pairs)), words);
        check(&[], "one of the options subscribe, subscribePattern, assign must be");
        check(&[("subscribe", "a"), ("assign", "{}")], "not assign and subscribe");
        check(&[("subscribe", "")], "no topics");
        check(&[("subscribe", "a"), ("endingOffsets", "latest")], "ending offset not valid in streaming queries");
        check(&[("subscribe", "a"), ("endingTimestamp", "1")], "ending timestamp not valid");
        check(&[("subscribe", "a"), ("kafka.auto.offset.reset", "latest")], "kafka.auto.offset.reset");
        check(&[("subscribe", "a"), ("kafka.enable.auto.commit", "true")], "kafka.enable.auto.commit");
        check(&[("subscribe", "a"), ("kafka.key.deserializer", "x")], "kafka.key.deserializer");
        check(&[("subscribe", "a"), ("kafka.value.serializer", "x")], "kafka.value.serializer");
        check(&[("subscribe", "a"), ("kafka.interceptor.classes", "x")], "kafka.interceptor.classes");
        check(&[("subscribe", "a"), ("startingOffset", "earliest")], "did you mean startingOffsets?");
        check(&[("subscribe", "a"), ("bootstrap.servers", "h:1")], "did you mean kafka.bootstrap.servers?");
        check(&[("subscribe", "a"), ("zzz", "1")], "option zzz is not known");
        check(&[("subscribe", "a"), ("abonné", "x")], "option abonné is not known");
        check(&[("subscribe", "a"), ("startingOffsets", "{\"a\":{\"0\":-3}}")], "-2 for earliest");
        check(&[("subscribe", "a"), ("startingOffsets", "soon")], "use earliest, latest");
        check(&[("subscribe", "a"), ("maxOffsetsPerTrigger", "0")], "maxOffsetsPerTrigger");
        check(&[("subscribe", "a"), ("minOffsetsPerTrigger", "5"), ("maxOffsetsPerTrigger", "4")], "more than");
        check(&[("subscribe", "a"), ("failOnDataLoss", "maybe")], "true or false");
        check(&[("subscribePattern", "(?=a)b")], "look-around");
        check(&[("assign", "{\"a\":[]}")], "names no topic partition");
        check(&[("subscribe", "a"), ("kafka.no.such.property", "1")], "kafka.no.such.property");
        check(&[("subscribe", "a"), ("kafka.fetch.min.bytes", "many")], "kafka.fetch.min.bytes");
        refused(SourceOptions::stream(&Options::new([("subscribe", "a")])), "kafka.bootstrap.servers must be");
    }

    #[test]
    fn batch_options_are_refused_by_name() {
        let check = |pairs: &[(&str, &str)], words: &str| refused(SourceOptions::batch(&options(pairs)), words);
        check(&[("subscribe", "a"), ("startingOffsets", "latest")], "can't be latest");
        check(&[("subscribe", "a"), ("startingOffsets", "{\"a\":{\"0\":-1}}")], "-1 (latest) can't");
        check(&[("subscribe", "a"), ("endingOffsets", "earliest")], "can't be earliest");
        check(&[("subscribe", "a"), ("endingOffsets", "{\"a\":{\"0\":-2}}")], "-2 (earliest) can't");
    }

    #[test]
    fn defaults_are_those_of_spark() {
        let stream = SourceOptions::stream(&options(&[("SUBSCRIBE", "a, b,a")])).unwrap();
        assert_eq!(stream.strategy.to_string(), "Subscribe[a, b]");
        assert_eq!(stream.starting, Bound::Latest);
        assert!(stream.fail_on_data_loss);
        assert_eq!(stream.poll_timeout, Duration::from_secs(120));
        assert_eq!((stream.fetch_retries, stream.fetch_retry_interval), (3, Duration::from_millis(10)));
        assert_eq!(stream.max_trigger_delay, Duration::from_secs(900));
        assert_eq!(stream.properties.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(stream.properties.get("client.id"), Some("spark-kafka-source"));
        assert_eq!(stream.pool, PoolSettings { capacity: 64, idle_ms: 300_000 });
        let batch = SourceOptions::batch(&options(&[("subscribe", "a"), ("maxOffsetsPerTrigger", "3")])).unwrap();
        assert_eq!((batch.starting, batch.ending), (Bound::Earliest, Bound::Latest));
    }

    #[test]
    fn timestamps_beat_offsets() {
        let check = |pairs: &[(&str, &str)], expect: Bound| {
            let mut all = vec![("subscribe", "a")];
            all.extend(pairs);
            assert_eq!(SourceOptions::stream(&options(&all)).unwrap().starting, expect);
        };
        let by_partition = ("startingOffsetsByTimestamp", "{\"a\":{\"0\":5}}");
        let offsets = ("startingOffsets", "{\"a\":{\"0\":23,\"1\":-2}}");
        let parsed = |json| parse_offsets(json).unwrap();
        check(&[("startingTimestamp", "7"), by_partition, offsets], Bound::Timestamp(7));
        check(&[by_partition, offsets], Bound::Timestamps(parsed("{\"a\":{\"0\":5}}")));
        check(&[offsets], Bound::Offsets(parsed("{\"a\":{\"0\":23,\"1\":-2}}")));
        check(&[("startingOffsets", "EARLIEST")], Bound::Earliest);
    }

    #[test]
    fn java_properties_are_translated() {
        let check = |key: &str, value: &str, expect: &[(&str, &str)]| {
            let stream = properties(&options(&[(key, value)]), Half::Source).unwrap();
            let pairs: Vec<_> = stream
                .0
                .iter()
                .filter(|(k, _)| *k != "bootstrap.servers")
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            assert_eq!(pairs, expect, "{key}");
        };
        check("kafka.fetch.max.wait.ms", "7", &[("fetch.wait.max.ms", "7")]);
        check("kafka.max.poll.records", "500", &[]);
        check("kafka.receive.buffer.bytes", "-1", &[("socket.receive.buffer.bytes", "0")]);
        check("kafka.request.timeout.ms", "30000", &[("socket.timeout.ms", "30000")]);
        check("kafka.buffer.memory", "1048576", &[("queue.buffering.max.kbytes", "1024")]);
        check("kafka.ssl.endpoint.identification.algorithm", "", &[("ssl.endpoint.identification.algorithm", "none")]);
        check("kafka.ssl.truststore.location", "/ca.pem", &[("ssl.ca.location", "/ca.pem")]);
        check(
            "kafka.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"al ice\" password = \"a\\\"b;c\";",
            &[("sasl.mechanism", "PLAIN"), ("sasl.password", "a\"b;c"), ("sasl.username", "al ice")],
        );
        check(
            "kafka.sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=alice password=secret;",
            &[("sasl.password", "secret"), ("sasl.username", "alice")],
        );
        refused(properties(&options(&[("kafka.ssl.truststore.location", "/t.jks")]), Half::Source), "export its");
        refused(properties(&options(&[("kafka.partitioner.class", "com.acme.Mine")]), Half::Sink), "com.acme.Mine");
    }

    #[test]
    fn secrets_stay_out_of_messages() {
        let jaas = "org.acme.MyLoginModule required password=\"hunter2\";";
        let error = SourceOptions::stream(&options(&[("subscribe", "a"), ("kafka.sasl.jaas.config", jaas)]));
        assert!(!error.unwrap_err().to_string().contains("hunter2"));
        let mut properties = Properties::of_brokers("localhost:9092");
        properties.set("sasl.password", "hunter2");
        assert!(!format!("{properties:?}").contains("hunter2"));
        assert!(!refused_property("sasl.password", "invalid value \"hunter2\"").to_string().contains("hunter2"));
    }

    #[test]
    fn sink_options() {
        let sink = SinkOptions::parse(&options(&[("topic", "t"), ("kafka.linger.ms", "3")])).unwrap();
        assert_eq!(sink.topic.as_deref(), Some("t"));
        assert_eq!(sink.properties.get("linger.ms"), Some("3"));
        assert_eq!(sink.properties.get("enable.idempotence"), Some("true"));
        assert_eq!(sink.properties.get("partitioner"), Some("murmur2_random"));
        refused(SinkOptions::parse(&options(&[("kafka.key.serializer", "x")])), "kafka.key.serializer");
        refused(SinkOptions::parse(&options(&[("topics", "x")])), "did you mean topic?");
        SinkOptions::parse(&options(&[("kafka.acks", "all"), ("kafka.max.block.ms", "5000")])).unwrap();
    }

    #[test]
    fn what_no_idempotent_producer_can_have_makes_one_that_is_not() {
        let check = |pairs: &[(&str, &str)], expect: &str| {
            let sink = SinkOptions::parse(&options(pairs)).unwrap();
            assert_eq!(sink.properties.get("enable.idempotence"), Some(expect), "{pairs:?}");
            // What an executor does.
            let made = sink.properties.for_client().client_config().create::<BaseProducer>();
            assert!(made.is_ok(), "{pairs:?}: {:?}", made.err());
        };
        check(&[], "true");
        check(&[("kafka.acks", "all")], "true");
        check(&[("kafka.acks", "-1"), ("kafka.retries", "3"), ("kafka.max.in.flight", "5")], "true");
        check(&[("kafka.acks", "1")], "false");
        check(&[("kafka.acks", "0")], "false");
        check(&[("kafka.retries", "0")], "false");
        check(&[("kafka.max.in.flight.requests.per.connection", "6")], "false");
        check(&[("kafka.enable.idempotence", "false"), ("kafka.acks", "1")], "false");
        let both = options(&[("kafka.enable.idempotence", "true"), ("kafka.acks", "1")]);
        refused(SinkOptions::parse(&both), "option kafka.acks: an idempotent producer cannot have it");
    }

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(parse_duration(text, "ms"), expect.map(Duration::from_millis), "{text}");
        };
        check("15m", Some(900_000));
        check(" 10 s ", Some(10_000));
        check("250", Some(250));
        check("2h", Some(7_200_000));
        check("ten", None);
        check("5 fortnights", None);
    }

    #[test]
    fn a_wait_for_a_record_falls_back_to_that_for_the_network() {
        let check = |pairs: &[(&str, &str)], seconds: u64| {
            let all = [&[("subscribe", "a")], pairs].concat();
            let stream = SourceOptions::stream(&options(&all)).unwrap();
            assert_eq!(stream.poll_timeout, Duration::from_secs(seconds), "{pairs:?}");
        };
        check(&[], 120);
        check(&[("spark.network.timeout", "90")], 90);
        check(&[("spark.network.timeout", "5m")], 300);
        check(&[("spark.network.timeout", "5m"), ("kafkaConsumer.pollTimeoutMs", "7000")], 7);
        let wrong = options(&[("subscribe", "a"), ("spark.network.timeout", "long")]);
        refused(SourceOptions::stream(&wrong), "option spark.network.timeout: 'long' must be a time");
    }

    /// What becomes of an option.
    enum Fate {
        /// What is parsed is another than without it.
        Stream,
        /// The same, of a batch read.
        Batch,
        /// Refused, with these words.
        Refused(&'static str),
        /// Accepted with a warning.
        Warned,
        /// Accepted, and nothing else would be.
        AsItIs,
    }

    /// Each with a value that is not its default.
    #[test]
    fn every_option_of_sparks_kafka_source_is_honoured_or_refused() {
        use Fate::{AsItIs, Batch, Refused, Stream, Warned};
        let partitions = r#"{"a":{"0":5}}"#;
        let cases = [
            ("assign", r#"{"a":[0]}"#, Stream),
            ("subscribe", "b", Stream),
            ("subscribePattern", "a.*", Stream),
            ("startingTimestamp", "5", Stream),
            ("startingOffsetsByTimestamp", partitions, Stream),
            ("startingOffsets", partitions, Stream),
            ("endingTimestamp", "5", Batch),
            ("endingTimestamp", "5", Refused("not valid in streaming queries")),
            ("endingOffsetsByTimestamp", partitions, Batch),
            ("endingOffsetsByTimestamp", partitions, Refused("not valid in streaming queries")),
            ("endingOffsets", partitions, Batch),
            ("endingOffsets", partitions, Refused("not valid in streaming queries")),
            ("startingOffsetsByTimestampStrategy", "latest", Stream),
            ("failOnDataLoss", "false", Stream),
            ("kafkaConsumer.pollTimeoutMs", "5", Stream),
            ("fetchOffset.numRetries", "5", Stream),
            ("fetchOffset.retryIntervalMs", "5", Stream),
            ("maxOffsetsPerTrigger", "5", Stream),
            ("minOffsetsPerTrigger", "5", Stream),
            ("maxTriggerDelay", "5m", Stream),
            ("minPartitions", "5", Stream),
            ("maxRecordsPerPartition", "5", Stream),
            ("groupIdPrefix", "g", Stream),
            ("kafka.group.id", "g", Stream),
            ("includeHeaders", "true", Stream),
            ("kafka.fetch.min.bytes", "5", Stream),
            ("kafka.auto.offset.reset", "latest", Refused("kafka.auto.offset.reset")),
            ("kafka.key.deserializer", "x", Refused("kafka.key.deserializer")),
            ("kafka.value.deserializer", "x", Refused("kafka.value.deserializer")),
            ("kafka.key.serializer", "x", Refused("kafka.key.serializer")),
            ("kafka.value.serializer", "x", Refused("kafka.value.serializer")),
            ("kafka.enable.auto.commit", "true", Refused("kafka.enable.auto.commit")),
            ("kafka.interceptor.classes", "x", Refused("kafka.interceptor.classes")),
            ("spark.kafka.consumer.cache.capacity", "5", Stream),
            ("spark.kafka.consumer.cache.timeout", "7m", Stream),
            ("spark.kafka.consumer.cache.evictorThreadRunInterval", "5m", Warned),
            ("spark.kafka.consumer.cache.jmx.enable", "true", Refused("jmx.enable: true is not supported")),
            ("spark.kafka.consumer.cache.jmx.enable", "false", AsItIs),
            ("spark.kafka.consumer.fetchedData.cache.timeout", "7m", Warned),
            ("spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval", "5m", Warned),
            (
                "spark.sql.streaming.kafka.useDeprecatedOffsetFetching",
                "true",
                Refused("useDeprecatedOffsetFetching: true is not supported"),
            ),
            ("spark.sql.streaming.kafka.useDeprecatedOffsetFetching", "false", AsItIs),
            ("spark.kafka.producer.cache.evictorThreadRunInterval", "5m", Warned),
            ("spark.kafka.clusters.c.auth.bootstrap.servers", "h:1", Refused("spark.kafka.clusters.c.auth")),
            ("spark.network.timeout", "5", Stream),
        ];
        for (name, value, fate) in cases {
            let chooses = ["assign", "subscribe", "subscribePattern"].contains(&name);
            let given = if chooses { vec![(name, value)] } else { vec![("subscribe", "a"), (name, value)] };
            let (before, given) = (options(&[("subscribe", "a")]), options(&given));
            let differs = |parse: fn(&Options) -> Result<SourceOptions>| {
                let (before, with) = (parse(&before).unwrap(), parse(&given).expect(name));
                format!("{before:?}") != format!("{with:?}")
            };
            match fate {
                Stream => assert!(differs(SourceOptions::stream), "{name} is passed over"),
                Batch => assert!(differs(SourceOptions::batch), "{name} is passed over"),
                Refused(words) => refused(SourceOptions::stream(&given), words),
                Warned => {
                    assert_eq!(check_names(&given).unwrap(), [name]);
                    SourceOptions::stream(&given).unwrap();
                    refused(SourceOptions::stream(&options(&[("subscribe", "a"), (name, "soon")])), name);
                }
                AsItIs => {
                    assert_eq!(check_names(&given).unwrap(), [""; 0]);
                    assert!(!differs(SourceOptions::stream), "{name}");
                    refused(SourceOptions::stream(&options(&[("subscribe", "a"), (name, "maybe")])), name);
                }
            }
        }
    }
}
