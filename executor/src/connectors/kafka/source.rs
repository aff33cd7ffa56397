//! The driver half of a stream: where it begins, what is new, which ranges a batch reads.

use crate::connectors::kafka::client::{Client, Committer, End};
use crate::connectors::kafka::offsets::{self, KafkaOffsets, OffsetRange, TopicPartition};
use crate::connectors::kafka::options::{Bound, EARLIEST, LATEST, SourceOptions, TimestampStrategy};
use crate::connectors::kafka::scan::{ReaderConfig, data_loss, descriptors, row_schema};
use crate::connectors::{Limit, LimitContext, Offset, Source};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use headwater_proto::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A stream from Kafka.
#[derive(Debug)]
pub struct KafkaSource {
    options: SourceOptions,
    client: Client,
    committer: Option<Committer>,
    /// Where partitions begin that the last start offset did not know.
    new_partitions: Mutex<KafkaOffsets>,
}

impl KafkaSource {
    /// A source of these options; nothing is sent yet.
    ///
    /// # Errors
    /// When librdkafka refuses the properties.
    pub fn new(options: SourceOptions) -> Result<Self> {
        let client =
            Client::new(&options.properties)?.with_retries(options.fetch_retries, options.fetch_retry_interval);
        let committer =
            options.commit_group.as_deref().map(|group| Committer::start(&options.properties, group)).transpose()?;
        Ok(Self { options, client, committer, new_partitions: Mutex::default() })
    }
}

/// Fails, or warns.
fn lost(fail: bool, what: &str) -> Result<()> {
    if fail {
        return Err(data_loss(what));
    }
    tracing::warn!("some data may have been lost: {what}");
    Ok(())
}

/// Offsets of a bound in these topic partitions.
///
/// # Errors
/// `KAFKA_INVALID_OPTION` when a JSON does not name just the partitions there are, or no record is at or after a
/// timestamp and that is an error.
pub async fn resolve(
    client: &Client,
    bound: &Bound,
    partitions: &BTreeSet<TopicPartition>,
    strategy: TimestampStrategy,
    option: &str,
) -> Result<KafkaOffsets> {
    let times = match bound {
        Bound::Earliest => return client.ends(partitions, End::Earliest).await,
        Bound::Latest => return client.ends(partitions, End::Latest).await,
        Bound::Offsets(given) => {
            covers(given, partitions, &format!("{option}Offsets"), "use -1 for latest, -2 for earliest")?;
            let marked = |mark| -> BTreeSet<TopicPartition> {
                given.iter().filter(|(_, _, offset)| *offset == mark).map(|(t, p, _)| (t.to_string(), p)).collect()
            };
            let mut resolved = given.clone();
            for (mark, end) in [(EARLIEST, End::Earliest), (LATEST, End::Latest)] {
                let marked = marked(mark);
                if !marked.is_empty() {
                    for (topic, partition, offset) in client.ends(&marked, end).await?.iter() {
                        resolved.set(topic, partition, offset);
                    }
                }
            }
            return Ok(resolved);
        }
        Bound::Timestamp(ms) => partitions.iter().map(|(topic, partition)| (topic.as_str(), *partition, *ms)).collect(),
        Bound::Timestamps(given) => {
            covers(given, partitions, &format!("{option}OffsetsByTimestamp"), "name each of them")?;
            given.clone()
        }
    };
    let mut resolved = KafkaOffsets::default();
    let mut beyond = BTreeSet::new();
    for ((topic, partition), offset) in client.offsets_for_times(times.clone()).await? {
        match offset {
            Some(offset) => resolved.set(&topic, partition, offset),
            None => {
                beyond.insert((topic, partition));
            }
        }
    }
    if let Some((topic, partition)) = beyond.first() {
        // An end after every record is the end of the log; a beginning there is as the strategy says.
        if option == "starting" && strategy == TimestampStrategy::Error {
            let ms = times.get(topic, *partition).unwrap_or_default();
            return Err(Error::invalid(
                "KAFKA_INVALID_OPTION",
                format!(
                    "no offset of topic {topic} partition {partition} on {} matches the starting timestamp {ms}: choose an \
                     earlier one, or set option startingOffsetsByTimestampStrategy to latest",
                    client.brokers()
                ),
            ));
        }
        for (topic, partition, offset) in client.ends(&beyond, End::Latest).await?.iter() {
            resolved.set(topic, partition, offset);
        }
    }
    Ok(resolved)
}

/// A JSON must name exactly the topic partitions that are read.
fn covers(given: &KafkaOffsets, partitions: &BTreeSet<TopicPartition>, option: &str, hint: &str) -> Result<()> {
    let given = given.partitions();
    let list = |set: Vec<&TopicPartition>| set.iter().map(|(t, p)| format!("{t}-{p}")).collect::<Vec<_>>().join(", ");
    let missing: Vec<_> = partitions.difference(&given).collect();
    let surplus: Vec<_> = given.difference(partitions).collect();
    if missing.is_empty() && surplus.is_empty() {
        return Ok(());
    }
    let mut what =
        format!("option {option}: it must specify all topic partitions that are read, and no others ({hint})");
    if !missing.is_empty() {
        what += &format!("; missing: {}", list(missing));
    }
    if !surplus.is_empty() {
        what += &format!("; not read: {}", list(surplus));
    }
    Err(Error::invalid("KAFKA_INVALID_OPTION", what))
}

/// The ranges between two offsets, one for each plan partition. What was lost fails, or warns.
///
/// # Errors
/// `KAFKA_DATA_LOSS`.
pub async fn plan_ranges(
    client: &Client,
    options: &SourceOptions,
    from: &KafkaOffsets,
    until: &KafkaOffsets,
) -> Result<Vec<OffsetRange>> {
    let new = offsets::added(from, until);
    let from_new = if new.is_empty() { KafkaOffsets::default() } else { client.ends(&new, End::Earliest).await? };
    let (ranges, losses) = offsets::ranges(from, until, &from_new);
    for loss in losses {
        lost(options.fail_on_data_loss, &loss)?;
    }
    Ok(offsets::split(ranges, options.min_partitions, options.max_records_per_partition))
}

#[async_trait]
impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        row_schema(self.options.include_headers)
    }

    fn description(&self) -> String {
        format!("KafkaV2[{}]", self.options.strategy)
    }

    async fn initial_offset(&self) -> Result<Offset> {
        let partitions = self.client.partitions(&self.options.strategy).await?;
        let bound = &self.options.starting;
        let offsets = resolve(&self.client, bound, &partitions, self.options.timestamp_strategy, "starting").await?;
        Ok(offsets.to_offset())
    }

    async fn latest_offset(&self, start: &Offset) -> Result<Offset> {
        let start = KafkaOffsets::from_offset(start)?;
        let mut tries = 0;
        loop {
            let partitions = self.client.partitions_cached(&self.options.strategy).await?;
            let latest = self.client.ends(&partitions, End::Latest).await?;
            let new: BTreeSet<TopicPartition> = offsets::added(&start, &latest)
                .into_iter()
                .filter(|(topic, partition)| {
                    self.new_partitions.lock().unwrap_or_else(PoisonError::into_inner).get(topic, *partition).is_none()
                })
                .collect();
            if !new.is_empty() {
                let earliest = self.client.ends(&new, End::Earliest).await?;
                let mut known = self.new_partitions.lock().unwrap_or_else(PoisonError::into_inner);
                for (topic, partition, offset) in earliest.iter() {
                    known.set(topic, partition, offset);
                }
            }
            // Right after a leader moved, a broker may give an end that it had before: ask again before it counts as
            // data loss.
            let back = latest.iter().any(|(t, p, end)| start.get(t, p).is_some_and(|known| end < known));
            tries += 1;
            if !back || tries >= self.options.fetch_retries {
                return Ok(latest.to_offset());
            }
            tokio::time::sleep(self.options.fetch_retry_interval).await;
        }
    }

    fn limit(&self, start: &Offset, latest: &Offset, context: LimitContext) -> Result<Limit> {
        let (from, end) = (KafkaOffsets::from_offset(start)?, KafkaOffsets::from_offset(latest)?);
        let new = self.new_partitions.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the batch is decided: one that is in the offset log can only fail again and again.
        if self.options.fail_on_data_loss
            && let Some(loss) = offsets::loss(&from, &end, &new)
        {
            return Err(data_loss(&loss));
        }
        if !context.limited {
            return Ok(Limit::Until(latest.clone()));
        }
        if let Some(min) = self.options.min_offsets_per_trigger
            && offsets::should_wait(min, self.options.max_trigger_delay, context.since_last_batch, &from, &end)
        {
            return Ok(Limit::Wait);
        }
        let Some(max) = self.options.max_offsets_per_trigger else { return Ok(Limit::Until(latest.clone())) };
        Ok(Limit::Until(offsets::rate_limit(max, &from, &new, &end).to_offset()))
    }

    async fn plan(&self, start: &Offset, end: &Offset) -> Result<Vec<String>> {
        let (from, until) = (KafkaOffsets::from_offset(start)?, KafkaOffsets::from_offset(end)?);
        let ranges = plan_ranges(&self.client, &self.options, &from, &until).await?;
        // Topic partitions without records in this batch have consumers all the same.
        let consumers = until.len().max(ranges.len());
        Ok(descriptors(ranges, consumers))
    }

    fn reader_config(&self, query: &str) -> String {
        ReaderConfig::new(&self.options, query).to_json()
    }

    async fn committed(&self, end: &Offset) -> Result<()> {
        if let Some(committer) = &self.committer {
            committer.commit(KafkaOffsets::from_offset(end)?);
        }
        Ok(())
    }

    fn lag(&self, offset: &Offset, latest: &Offset) -> Option<u64> {
        let (from, latest) = (KafkaOffsets::from_offset(offset).ok()?, KafkaOffsets::from_offset(latest).ok()?);
        Some(offsets::lag(&from, &latest))
    }

    fn partition_lag(&self, offset: &Offset, latest: &Offset) -> Vec<(String, i32, u64)> {
        match (KafkaOffsets::from_offset(offset), KafkaOffsets::from_offset(latest)) {
            (Ok(from), Ok(latest)) => offsets::partition_lag(&from, &latest),
            _ => vec![],
        }
    }

    fn metrics(&self, end: &Offset, latest: &Offset) -> BTreeMap<String, String> {
        match (KafkaOffsets::from_offset(end), KafkaOffsets::from_offset(latest)) {
            (Ok(end), Ok(latest)) => offsets::metrics(&end, &latest),
            _ => BTreeMap::new(),
        }
    }

    fn format(&self) -> &'static str {
        "kafka"
    }
}
