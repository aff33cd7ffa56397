//! The offset log: `offsets/<N>` says where batch N ends, and is written before batch N runs.
//!
//! ```text
//! v1
//! {"batchWatermarkMs":0,"batchTimestampMs":1700000000000,"conf":{"spark.sql.shuffle.partitions":"200"}}
//! {"users":{"0":17,"1":3}}          one line per source, in the order of the query
//! -                                 a source that has no offset yet
//! ```
//!
//! Version 2 (Spark 4.2, when asked for) has `<source id>:<offset>` lines instead; it is read, never written.

use super::Author;
use super::metadata_log::{Malformed, lines_after_version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a source without an offset has in the log.
const VOID_OFFSET: &str = "-";
/// The latest version that is understood.
const VERSION_MAX: u64 = 2;
/// Conf key under which an entry names the run that wrote it. Spark carries unknown conf keys along unread.
const RUN_ID: &str = "headwater.runId";
/// Conf key of the leadership that wrote an entry: `<cluster>/<epoch>`.
const EPOCH: &str = "headwater.epoch";

/// What a batch must see again when it runs again, beside its offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OffsetMetadata {
    /// Event-time watermark of the batch, in milliseconds since the epoch; 0 is none.
    pub batch_watermark_ms: i64,
    /// The batch's `current_timestamp()`, in milliseconds since the epoch.
    pub batch_timestamp_ms: i64,
    /// Confs of the log. Those that Spark pinned to its checkpoint are carried along, so that it finds them again; none
    /// is acted on here: a query keeps the settings that it was started with in its own file.
    pub conf: BTreeMap<String, String>,
}

impl OffsetMetadata {
    /// The run that wrote the entry; none when Spark did.
    pub fn run_id(&self) -> Option<&str> {
        self.conf.get(RUN_ID).map(String::as_str)
    }

    /// Who wrote the entry.
    pub(super) fn author(&self) -> Author {
        let claim = self.conf.get(EPOCH).and_then(|claim| claim.parse().ok());
        Author { run: self.run_id().map(str::to_string), claim }
    }

    /// What the next entry records as conf: what the log has pinned, then what is new.
    pub(super) fn pin(
        previous: Option<&Self>,
        conf: &BTreeMap<String, String>,
        author: Author,
    ) -> BTreeMap<String, String> {
        let mut pinned = conf.clone();
        pinned.extend(previous.into_iter().flat_map(|previous| previous.conf.clone()));
        for (key, value) in [(RUN_ID, author.run), (EPOCH, author.claim.map(|claim| claim.to_string()))] {
            // Never the author of the entry before.
            match value {
                Some(value) => pinned.insert(key.into(), value),
                None => pinned.remove(key),
            };
        }
        pinned
    }
}

/// One entry: where a batch ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Watermark, timestamp and confs.
    pub metadata: OffsetMetadata,
    /// End offset of each source as its JSON text, in the order of the query.
    pub offsets: Vec<Option<String>>,
}

impl OffsetEntry {
    /// Spark's bytes, version 1.
    ///
    /// # Errors
    /// When an offset is not JSON on one line: the file could not be read back.
    pub(super) fn encode(&self) -> Result<Bytes, Malformed> {
        let metadata = serde_json::to_string(&self.metadata).map_err(|e| Malformed::content(e.to_string()))?;
        let mut text = format!("v1\n{metadata}");
        for (source, offset) in self.offsets.iter().enumerate() {
            text.push('\n');
            match offset {
                None => text.push_str(VOID_OFFSET),
                Some(json) => {
                    check_offset(source, json)?;
                    text.push_str(json);
                }
            }
        }
        Ok(text.into())
    }

    /// Reads version 1 and 2.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (version, lines) = lines_after_version(bytes, VERSION_MAX)?;
        let (metadata, lines) =
            lines.split_first().ok_or_else(|| Malformed::content("the metadata line is missing"))?;
        // Spark 2.1 wrote no metadata.
        let metadata = if metadata.trim().is_empty() { "{}" } else { metadata };
        let metadata = serde_json::from_str::<StoredMetadata>(metadata)
            .map_err(|e| Malformed::content(format!("the metadata line is not Spark's: {e}")))?;
        if let Some(control) = metadata.control_batch_info {
            return Err(Malformed::Unsupported(format!(
                "it is a control batch ({}), which only Spark can finish: let Spark run one batch on this checkpoint",
                control.operation_type
            )));
        }
        let offsets = if version == 1 { sequence(lines)? } else { map(lines)? };
        Ok(Self { metadata: metadata.known, offsets })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredMetadata {
    #[serde(flatten)]
    known: OffsetMetadata,
    control_batch_info: Option<ControlBatch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ControlBatch {
    operation_type: String,
}

/// Every offset is one line of JSON. A file that was cut short does not pass.
fn check_offset(source: usize, json: &str) -> Result<(), Malformed> {
    let broken = |reason: &str| Malformed::content(format!("the offset of source {source} is not JSON: {reason}"));
    if json.contains(['\n', '\r']) {
        return Err(broken("it has more than one line"));
    }
    serde_json::from_str::<serde::de::IgnoredAny>(json).map_err(|e| broken(&e.to_string()))?;
    Ok(())
}

fn offset(source: usize, text: &str) -> Result<Option<String>, Malformed> {
    if text == VOID_OFFSET {
        return Ok(None);
    }
    check_offset(source, text)?;
    Ok(Some(text.to_string()))
}

fn sequence(lines: &[&str]) -> Result<Vec<Option<String>>, Malformed> {
    lines.iter().enumerate().map(|(source, line)| offset(source, line)).collect()
}

/// Version 2: lines in any order, keyed by source. Sources that the query did not name have their position as id.
fn map(lines: &[&str]) -> Result<Vec<Option<String>>, Malformed> {
    let mut sources = BTreeMap::new();
    for line in lines {
        let (id, text) =
            line.split_once(':').ok_or_else(|| Malformed::content("an offset line has no source id before a colon"))?;
        // A single source needs no position: there is nothing to confuse it with.
        let position = match id.parse::<usize>() {
            Ok(position) => position,
            Err(_) if lines.len() == 1 => 0,
            Err(_) => {
                return Err(Malformed::Unsupported(format!(
                    "it has several sources, one of them named ({id}); sources must go by position: \
                     restart the query with a new checkpoint location"
                )));
            }
        };
        if sources.insert(position, offset(position, text)?).is_some() {
            return Err(Malformed::content(format!("source {position} has two offsets")));
        }
    }
    if let Some((missing, _)) = sources.keys().enumerate().find(|(expected, position)| expected != *position) {
        return Err(Malformed::content(format!("the offset of source {missing} is missing")));
    }
    Ok(sources.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.into())
    }

    #[test]
    fn entries_are_sparks_bytes_and_read_back() {
        #[track_caller]
        fn check(entry: OffsetEntry, expect: &str) {
            assert_eq!(entry.encode().unwrap(), expect);
            assert_eq!(OffsetEntry::decode(expect.as_bytes()).unwrap(), entry);
        }
        check(OffsetEntry::default(), "v1\n{\"batchWatermarkMs\":0,\"batchTimestampMs\":0,\"conf\":{}}");
        check(
            OffsetEntry {
                metadata: OffsetMetadata {
                    batch_watermark_ms: 5,
                    batch_timestamp_ms: 1_700_000_000_123,
                    conf: BTreeMap::from([("spark.sql.shuffle.partitions".into(), "200".into())]),
                },
                offsets: vec![some(r#"{"users":{"0":17}}"#), None, some("42")],
            },
            "v1\n{\"batchWatermarkMs\":5,\"batchTimestampMs\":1700000000123,\
             \"conf\":{\"spark.sql.shuffle.partitions\":\"200\"}}\n{\"users\":{\"0\":17}}\n-\n42",
        );
    }

    #[test]
    fn what_spark_writes_is_read() {
        #[track_caller]
        fn check(text: &str, expect: &[Option<&str>]) {
            let entry = OffsetEntry::decode(text.as_bytes()).unwrap();
            assert_eq!(entry.offsets.iter().map(Option::as_deref).collect::<Vec<_>>(), expect);
        }
        check("v1\n\n1", &[Some("1")]);
        check("v1\n{}\n1\n", &[Some("1")]);
        check("v1\r\n{}\r\n1", &[Some("1")]);
        check("v1\n{\"batchWatermarkMs\":0,\"later\":[1]}\n{\"logOffset\":3}\n-", &[Some("{\"logOffset\":3}"), None]);
        check("v2\n{}\n1:-\n0:{\"t\":{\"0\":1}}", &[Some("{\"t\":{\"0\":1}}"), None]);
        check("v2\n{\"sourceMetadataInfo\":{\"0\":{\"sourceId\":\"0\"}}}\n0:7", &[Some("7")]);
        check("v2\n{}\nusers:7", &[Some("7")]);
        check("v2\n{}", &[]);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let reason = OffsetEntry::decode(text.as_bytes()).unwrap_err().to_string();
            assert!(reason.contains(expect), "{reason}");
        }
        check("", "the version line is missing");
        check("v1", "the metadata line is missing");
        check("v1\n{\"batchWatermarkMs\":0,\"batchTim", "the metadata line is not Spark's");
        check("v1\n{}\n{\"users\":{\"0\":1", "the offset of source 0 is not JSON");
        check("v1\n{}\n1\n\n2", "the offset of source 1 is not JSON");
        check("v3\n{}\n1", "v3 is not supported");
        check("v2\n{}\n7", "no source id");
        check("v2\n{}\na:7\nb:8", "one of them named (a)");
        check("v2\n{}\n0:7\n2:8", "the offset of source 1 is missing");
        check("v2\n{}\n0:7\n0:8", "source 0 has two offsets");
        check("v2\n{\"controlBatchInfo\":{\"operationType\":\"repartition\"}}\n0:7", "control batch (repartition)");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_or_lacks_sources() {
        let whole =
            "v1\n{\"batchWatermarkMs\":0,\"batchTimestampMs\":1,\"conf\":{}}\n{\"t\":{\"0\":17}}\n{\"u\":{\"0\":4}}";
        for length in 0..whole.len() {
            if let Ok(entry) = OffsetEntry::decode(&whole.as_bytes()[..length]) {
                assert!(entry.offsets.len() < 2, "cut at {length}");
            }
        }
    }

    #[test]
    fn offsets_that_would_break_the_layout_are_not_written() {
        for offset in ["", "-", "{\n}", "{", "a"] {
            let entry = OffsetEntry { offsets: vec![some(offset)], ..OffsetEntry::default() };
            assert!(entry.encode().is_err(), "{offset}");
        }
    }

    #[test]
    fn the_log_pins_confs() {
        let conf = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<BTreeMap<_, _>>()
        };
        let previous = conf(&[("partitions", "5"), (RUN_ID, "old"), (EPOCH, "old")]);
        let previous = OffsetMetadata { conf: previous, ..OffsetMetadata::default() };
        let author = Author { run: Some("new".into()), claim: None };
        let new = conf(&[("partitions", "200"), ("codec", "lz4")]);
        let pinned = OffsetMetadata::pin(Some(&previous), &new, author.clone());
        assert_eq!(pinned, conf(&[("partitions", "5"), ("codec", "lz4"), (RUN_ID, "new")]));
        assert_eq!(OffsetMetadata { conf: pinned, ..previous.clone() }.author(), author);
        let claim = "6e6f2a35-0b0c-4d0b-8a51-5b8a2c1e0d4f/3";
        let author = Author { claim: claim.parse().ok(), ..author };
        let pinned = OffsetMetadata::pin(Some(&previous), &new, author.clone());
        assert_eq!(pinned.get(EPOCH).map(String::as_str), Some(claim));
        assert_eq!(OffsetMetadata { conf: pinned, ..previous }.author(), author);
    }
}
