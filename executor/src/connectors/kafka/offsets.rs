//! Offsets of topic partitions and every decision about them: pure functions.
//!
//! An offset is the next record to read; ranges are half-open, `[from, until)`, as in Spark's `KafkaOffsetRange`.

use crate::connectors::Offset;
use crate::functions::cast::text::double;
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An offset (or a timestamp) for each topic partition. Its JSON is that of Spark's checkpoints:
/// `{"topic":{"0":23,"1":45}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KafkaOffsets(BTreeMap<String, BTreeMap<i32, i64>>);

/// A topic and a partition of it.
pub type TopicPartition = (String, i32);

impl KafkaOffsets {
    /// The offset of a topic partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        self.0.get(topic).and_then(|partitions| partitions.get(&partition)).copied()
    }
    /// Sets the offset of a topic partition.
    pub fn set(&mut self, topic: &str, partition: i32, offset: i64) {
        match self.0.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, offset);
            }
            None => {
                self.0.insert(topic.to_string(), BTreeMap::from([(partition, offset)]));
            }
        }
    }
    /// All of them, by topic, then partition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, offset)| (topic.as_str(), *partition, *offset))
        })
    }
    /// The offsets alone.
    pub fn values(&self) -> impl Iterator<Item = i64> {
        self.0.values().flat_map(|partitions| partitions.values().copied())
    }
    /// The topic partitions alone.
    pub fn partitions(&self) -> BTreeSet<TopicPartition> {
        self.iter().map(|(topic, partition, _)| (topic.to_string(), partition)).collect()
    }
    /// How many topic partitions there are.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// As the offset log keeps it.
    pub fn to_offset(&self) -> Offset {
        Offset(self.to_json())
    }
    /// The JSON text, compact, topics and partitions in order.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a map of maps of numbers has a JSON text")
    }
    /// Reads what [`KafkaOffsets::to_offset`], or Spark, wrote.
    ///
    /// # Errors
    /// `KAFKA_INVALID_OFFSET` with the text.
    pub fn from_offset(offset: &Offset) -> Result<Self> {
        parse_offsets(&offset.0)
            .map_err(|e| Error::fatal("KAFKA_INVALID_OFFSET", format!("cannot read the offset in the checkpoint: {e}")))
    }
}

impl<S: Into<String>> FromIterator<(S, i32, i64)> for KafkaOffsets {
    fn from_iter<T: IntoIterator<Item = (S, i32, i64)>>(items: T) -> Self {
        let mut offsets = Self::default();
        for (topic, partition, offset) in items {
            offsets.set(&topic.into(), partition, offset);
        }
        offsets
    }
}

/// Reads `{"topic":{"0":23}}`. The error is a sentence for a message.
pub fn parse_offsets(json: &str) -> Result<KafkaOffsets, String> {
    serde_json::from_str(json).map_err(|e| {
        format!("expected e.g. {{\"topicA\":{{\"0\":23,\"1\":-1}},\"topicB\":{{\"0\":-2}}}}, got '{json}' ({e})")
    })
}

/// Reads `{"topic":[0,1]}`. The error is a sentence for a message.
pub fn parse_partitions(json: &str) -> Result<BTreeMap<String, BTreeSet<i32>>, String> {
    serde_json::from_str(json)
        .map_err(|e| format!("expected e.g. {{\"topicA\":[0,1],\"topicB\":[0,1]}}, got '{json}' ({e})"))
}

/// Records `[from, until)` of one topic partition: the descriptor of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first record.
    pub from: i64,
    /// The first record that is not read.
    pub until: i64,
}

impl OffsetRange {
    /// How many offsets it spans; of a compacted topic, more than there are records.
    pub fn size(&self) -> u64 {
        u64::try_from(self.until.saturating_sub(self.from)).unwrap_or(0)
    }
}

/// Ends of a batch of at most `limit` records: the limit is split over the topic partitions by what each has, as
/// Spark's `rateLimit` does, so that none starves and none goes past `latest`. `from_new` tells where partitions
/// begin that `from` does not know.
pub fn rate_limit(limit: u64, from: &KafkaOffsets, from_new: &KafkaOffsets, latest: &KafkaOffsets) -> KafkaOffsets {
    let begin = |topic: &str, partition| from.get(topic, partition).or_else(|| from_new.get(topic, partition));
    let size = |topic: &str, partition, end: i64| {
        begin(topic, partition).map(|begin| (begin, end - begin)).filter(|(_, size)| *size > 0)
    };
    let total: f64 = latest.iter().filter_map(|(t, p, end)| size(t, p, end)).map(|(_, size)| size as f64).sum();
    if total < 1.0 {
        return latest.clone();
    }
    latest
        .iter()
        .map(|(topic, partition, end)| {
            let until = size(topic, partition, end).map_or(end, |(begin, size)| {
                let share = limit as f64 * (size as f64 / total);
                // A share below one record would starve a small partition for ever.
                let share = if share < 1.0 { share.ceil() } else { share.floor() } as i64;
                begin.saturating_add(share).min(end)
            });
            (topic, partition, until)
        })
        .collect()
}

/// Whether the batch should wait for more records: fewer than `min` are there, and the last batch was less than
/// `max_delay` ago.
pub fn should_wait(
    min: u64,
    max_delay: Duration,
    since_last_batch: Duration,
    from: &KafkaOffsets,
    latest: &KafkaOffsets,
) -> bool {
    since_last_batch < max_delay && lag(from, latest) < min
}

/// Records between two offsets, partitions unknown to `from` counted from 0.
pub fn lag(from: &KafkaOffsets, latest: &KafkaOffsets) -> u64 {
    partition_lag(from, latest).into_iter().map(|(_, _, lag)| lag).sum()
}

/// The same by topic and partition.
pub fn partition_lag(from: &KafkaOffsets, latest: &KafkaOffsets) -> Vec<(String, i32, u64)> {
    let behind = |topic: &str, partition: i32, end: i64| end - from.get(topic, partition).unwrap_or(0);
    let all = latest.iter();
    all.map(|(topic, partition, end)| {
        (topic.to_string(), partition, u64::try_from(behind(topic, partition, end)).unwrap_or(0))
    })
    .collect()
}

/// Topic partitions that `later` has and `earlier` has not.
pub fn added(earlier: &KafkaOffsets, later: &KafkaOffsets) -> BTreeSet<TopicPartition> {
    later.partitions().difference(&earlier.partitions()).cloned().collect()
}

/// Ranges between two offsets, and what was lost on the way, as sentences. `from_new` holds the earliest offsets of
/// the partitions that `from` does not know; one that is in neither is gone.
pub fn ranges(from: &KafkaOffsets, until: &KafkaOffsets, from_new: &KafkaOffsets) -> (Vec<OffsetRange>, Vec<String>) {
    let mut lost = vec![];
    for (topic, partition) in added(until, from) {
        lost.push(format!("partition {partition} of topic {topic} is gone"));
    }
    let mut ranges = vec![];
    for (topic, partition, end) in until.iter() {
        let begin = match (from.get(topic, partition), from_new.get(topic, partition)) {
            (Some(begin), _) => begin,
            (None, Some(begin)) => {
                if begin != 0 {
                    lost.push(format!("added partition {partition} of topic {topic} starts from {begin} instead of 0"));
                }
                begin
            }
            (None, None) => {
                lost.push(format!("added partition {partition} of topic {topic} has no earliest offset: it is gone"));
                continue;
            }
        };
        if end < begin {
            lost.push(format!(
                "the end of partition {partition} of topic {topic} went back from offset {begin} to {end}: the topic was \
                 deleted and created again, or the query started beyond its end"
            ));
        }
        ranges.push(OffsetRange { topic: topic.to_string(), partition, from: begin, until: end });
    }
    (ranges, lost)
}

/// Something that was lost between two offsets, as [`ranges`] says it. Where a partition begins that neither `from` nor
/// `from_new` knows is asked when the ranges are planned: that it is there at all is no loss.
pub fn loss(from: &KafkaOffsets, until: &KafkaOffsets, from_new: &KafkaOffsets) -> Option<String> {
    let begins = |topic: &str, partition| from.get(topic, partition).or_else(|| from_new.get(topic, partition));
    let known = until.iter().filter(|&(topic, partition, _)| begins(topic, partition).is_some()).collect();
    ranges(from, &known, from_new).1.into_iter().next()
}

/// Cuts ranges as Spark's `KafkaOffsetRangeCalculator`: first into pieces of at most `max_records`, then, when there
/// are fewer than `min_partitions`, the large ones into about that many in proportion to their size. Empty ranges
/// fall away.
pub fn split(ranges: Vec<OffsetRange>, min_partitions: Option<usize>, max_records: Option<u64>) -> Vec<OffsetRange> {
    let mut pieces: Vec<OffsetRange> = ranges.into_iter().filter(|range| range.size() > 0).collect();
    if let Some(max) = max_records.filter(|max| *max > 0) {
        pieces = pieces.iter().flat_map(|range| divide(range, range.size().div_ceil(max))).collect();
    }
    let Some(min) = min_partitions.filter(|min| pieces.len() < *min) else { return pieces };
    let parts =
        |size: u64, total: u64, parts: usize| ((size as f64 / total as f64 * parts as f64).round() as u64).max(1);
    let total: u64 = pieces.iter().map(OffsetRange::size).sum();
    // Ranges too small to be cut are left out of the proportion, so that the large ones get what is left.
    let (small, large): (Vec<_>, Vec<_>) = pieces.iter().partition(|range| parts(range.size(), total, min) == 1);
    let large_total: u64 = large.iter().map(|range| range.size()).sum();
    let large_parts = min.saturating_sub(small.len()).max(1);
    pieces
        .iter()
        .flat_map(|range| {
            if parts(range.size(), total, min) == 1 {
                vec![range.clone()]
            } else {
                divide(range, parts(range.size(), large_total, large_parts))
            }
        })
        .collect()
}

/// Cuts a range into `parts` of nearly one size; the last takes what division leaves over.
fn divide(range: &OffsetRange, parts: u64) -> Vec<OffsetRange> {
    let parts = parts.clamp(1, range.size().max(1));
    let (mut from, mut remaining) = (range.from, range.size());
    (0..parts)
        .map(|part| {
            let size = remaining / (parts - part);
            remaining -= size;
            let until = (from + size as i64).min(range.until);
            let piece = OffsetRange { from, until, ..range.clone() };
            from = until;
            piece
        })
        .collect()
}

/// Spark's lag metrics: how far the consumed offsets are behind the latest, least, most and on average.
pub fn metrics(consumed: &KafkaOffsets, latest: &KafkaOffsets) -> BTreeMap<String, String> {
    let behind: Vec<i64> = consumed.iter().map(|(t, p, offset)| latest.get(t, p).unwrap_or(0) - offset).collect();
    let (Some(min), Some(max)) = (behind.iter().min(), behind.iter().max()) else { return BTreeMap::new() };
    let average = behind.iter().map(|n| *n as f64).sum::<f64>() / behind.len() as f64;
    BTreeMap::from([
        ("minOffsetsBehindLatest".into(), min.to_string()),
        ("maxOffsetsBehindLatest".into(), max.to_string()),
        ("avgOffsetsBehindLatest".into(), double(average)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(json: &str) -> KafkaOffsets {
        parse_offsets(json).unwrap()
    }

    fn range(partition: i32, from: i64, until: i64) -> OffsetRange {
        OffsetRange { topic: "t".into(), partition, from, until }
    }

    #[test]
    fn json_is_that_of_spark() {
        let json = r#"{"a":{"0":23,"2":-1,"10":5},"b":{"0":0}}"#;
        let parsed = offsets(json);
        assert_eq!(parsed.get("a", 10), Some(5));
        assert_eq!(parsed.len(), 4);
        assert_eq!(parsed.to_json(), json);
        assert_eq!(offsets(r#"{"t":{"10":1,"9":2}}"#).to_json(), r#"{"t":{"9":2,"10":1}}"#);
        assert!(parse_offsets("[1]").is_err());
        assert!(parse_offsets(r#"{"t":{"x":1}}"#).is_err());
        assert!(KafkaOffsets::from_offset(&Offset("latest".into())).unwrap_err().message.contains("latest"));
    }

    #[test]
    fn rate_limits() {
        let check = |limit, from: &str, latest: &str, expect: &str| {
            let new = offsets(r#"{"t":{"9":100}}"#);
            assert_eq!(rate_limit(limit, &offsets(from), &new, &offsets(latest)).to_json(), expect);
        };
        // By size.
        check(10, r#"{"t":{"0":0,"1":0}}"#, r#"{"t":{"0":90,"1":10}}"#, r#"{"t":{"0":9,"1":1}}"#);
        // A small partition still gets one.
        check(2, r#"{"t":{"0":0,"1":0}}"#, r#"{"t":{"0":1000,"1":1}}"#, r#"{"t":{"0":1,"1":1}}"#);
        // Never past the latest.
        check(1000, r#"{"t":{"0":0,"1":5}}"#, r#"{"t":{"0":10,"1":7}}"#, r#"{"t":{"0":10,"1":7}}"#);
        // Nothing new.
        check(5, r#"{"t":{"0":4}}"#, r#"{"t":{"0":4}}"#, r#"{"t":{"0":4}}"#);
        // A new partition starts where it starts.
        check(10, r#"{"t":{"0":0}}"#, r#"{"t":{"0":50,"9":150}}"#, r#"{"t":{"0":5,"9":105}}"#);
        // A log that went back is left to the data loss check.
        check(10, r#"{"t":{"0":50,"1":0}}"#, r#"{"t":{"0":20,"1":20}}"#, r#"{"t":{"0":20,"1":10}}"#);
        // No overflow.
        check(
            u64::MAX,
            r#"{"t":{"0":9223372036854775800}}"#,
            r#"{"t":{"0":9223372036854775807}}"#,
            r#"{"t":{"0":9223372036854775807}}"#,
        );
    }

    #[test]
    fn waits_for_enough() {
        let check = |min, since_ms, expect| {
            let (from, latest) = (offsets(r#"{"t":{"0":10}}"#), offsets(r#"{"t":{"0":15,"1":5}}"#));
            let since = Duration::from_millis(since_ms);
            assert_eq!(should_wait(min, Duration::from_millis(100), since, &from, &latest), expect);
        };
        check(11, 0, true);
        check(10, 0, false);
        check(11, 99, true);
        check(11, 100, false);
    }

    #[test]
    fn ranges_and_losses() {
        let check = |from: &str, until: &str, new: &str, expect: &[OffsetRange], words: &[&str]| {
            let (ranges, lost) = ranges(&offsets(from), &offsets(until), &offsets(new));
            assert_eq!(ranges, expect);
            assert_eq!(lost.len(), words.len(), "{lost:?}");
            for (loss, words) in lost.iter().zip(words) {
                assert!(loss.contains(words), "{loss} has no {words}");
            }
        };
        let (one, two) = (r#"{"t":{"0":1}}"#, r#"{"t":{"0":4,"1":2}}"#);
        check(one, r#"{"t":{"0":4}}"#, "{}", &[range(0, 1, 4)], &[]);
        check(one, two, r#"{"t":{"1":0}}"#, &[range(0, 1, 4), range(1, 0, 2)], &[]);
        check(one, two, r#"{"t":{"1":1}}"#, &[range(0, 1, 4), range(1, 1, 2)], &["starts from 1 instead of 0"]);
        check(one, two, "{}", &[range(0, 1, 4)], &["partition 1 of topic t has no earliest"]);
        check(two, r#"{"t":{"0":4}}"#, "{}", &[range(0, 4, 4)], &["partition 1 of topic t is gone"]);
        check(r#"{"t":{"0":9}}"#, r#"{"t":{"0":4}}"#, "{}", &[range(0, 9, 4)], &["went back from offset 9 to 4"]);
    }

    #[test]
    fn losses_are_seen_before_planning() {
        let check = |from: &str, until: &str, new: &str, expect: Option<&str>| {
            let found = loss(&offsets(from), &offsets(until), &offsets(new));
            match (&found, expect) {
                (None, None) => {}
                (Some(found), Some(words)) => assert!(found.contains(words), "{found} has no {words}"),
                _ => panic!("{found:?} is not {expect:?}"),
            }
        };
        let one = r#"{"t":{"0":1}}"#;
        check(one, r#"{"t":{"0":4}}"#, "{}", None);
        check(one, r#"{"t":{"0":4,"1":2}}"#, r#"{"t":{"1":0}}"#, None);
        check(one, r#"{"t":{"0":4,"1":2}}"#, "{}", None);
        check(one, r#"{"t":{"0":4,"1":2}}"#, r#"{"t":{"1":1}}"#, Some("starts from 1 instead of 0"));
        check(one, r#"{"other":{"0":4}}"#, "{}", Some("partition 0 of topic t is gone"));
        check(one, r#"{"t":{"0":0}}"#, "{}", Some("went back from offset 1 to 0"));
    }

    #[test]
    fn splits() {
        let check = |ranges: &[OffsetRange], min, max, expect: &[OffsetRange]| {
            assert_eq!(split(ranges.to_vec(), min, max), expect);
        };
        let two = [range(0, 0, 100), range(1, 0, 100)];
        check(&[range(0, 5, 5), range(1, 0, 1)], None, None, &[range(1, 0, 1)]);
        check(&two, Some(2), None, &two);
        check(&two, Some(4), None, &[range(0, 0, 50), range(0, 50, 100), range(1, 0, 50), range(1, 50, 100)]);
        // Spark's own case: the small range stays whole, the large one takes the rest.
        check(
            &[range(0, 0, 5), range(1, 0, 15)],
            Some(4),
            None,
            &[range(0, 0, 5), range(1, 0, 5), range(1, 5, 10), range(1, 10, 15)],
        );
        check(&[range(0, 0, 10)], None, Some(4), &[range(0, 0, 3), range(0, 3, 6), range(0, 6, 10)]);
        check(&[range(0, 0, 2)], Some(8), None, &[range(0, 0, 1), range(0, 1, 2)]);
        check(&[range(0, 0, 10)], Some(4), Some(5), &[range(0, 0, 2), range(0, 2, 5), range(0, 5, 7), range(0, 7, 10)]);
    }

    #[test]
    fn lag_metrics() {
        let check = |consumed: &str, latest: &str, expect: [&str; 3]| {
            let metrics = metrics(&offsets(consumed), &offsets(latest));
            let names = ["minOffsetsBehindLatest", "maxOffsetsBehindLatest", "avgOffsetsBehindLatest"];
            assert_eq!(names.map(|name| metrics[name].as_str()), expect);
        };
        check(r#"{"t":{"0":4,"1":1}}"#, r#"{"t":{"0":4,"1":6}}"#, ["0", "5", "2.5"]);
        check(r#"{"t":{"0":0}}"#, r#"{"t":{"0":12500000}}"#, ["12500000", "12500000", "1.25E7"]);
        assert!(metrics(&KafkaOffsets::default(), &KafkaOffsets::default()).is_empty());
    }
}
