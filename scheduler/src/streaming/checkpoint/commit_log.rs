//! The commit log: `commits/<N>` says that batch N is in the sink, and is written after every sink task has ended.
//!
//! ```text
//! v1
//! {"nextBatchWatermarkMs":0,"headwaterRunId":"…"}
//! ```
//!
//! The run id is ours, beside Spark's field, and so is `headwaterEpoch` (`<cluster>/<epoch>`), which schedulers that
//! may be deposed add. Spark reads entries with json4s, which drops fields that the class does
//! not have (`strictFieldDeserialization` is false unless set, and Spark does not set it), so that Spark continues a
//! checkpoint of ours. Version 2 adds `stateUniqueIds`, version 3 `sinkMetadataMap`; both are read for the watermark.

use super::Author;
use super::metadata_log::{Malformed, lines_after_version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The latest version that is understood.
const VERSION_MAX: u64 = 3;

/// One entry: a batch is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitEntry {
    /// Event-time watermark of the next batch, in milliseconds since the epoch; 0 is none.
    pub next_batch_watermark_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    #[serde(default)]
    next_batch_watermark_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headwater_run_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headwater_epoch: Option<String>,
}

impl CommitEntry {
    /// Spark's bytes, version 1, signed by the run that commits.
    pub(super) fn encode(&self, author: Author) -> Result<Bytes, Malformed> {
        let stored = Stored {
            next_batch_watermark_ms: self.next_batch_watermark_ms,
            headwater_run_id: author.run,
            headwater_epoch: author.claim.map(|claim| claim.to_string()),
        };
        let json = serde_json::to_string(&stored).map_err(|e| Malformed::content(e.to_string()))?;
        Ok(format!("v1\n{json}").into())
    }

    /// Reads versions 1 to 3: the entry, and who wrote it.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Author), Malformed> {
        let (_, lines) = lines_after_version(bytes, VERSION_MAX)?;
        // Spark before 2.4 wrote `{}`, or no second line at all.
        let json = lines.first().map_or("{}", |line| line.trim());
        let stored = serde_json::from_str::<Stored>(json)
            .map_err(|e| Malformed::content(format!("the second line is not Spark's: {e}")))?;
        let claim = stored.headwater_epoch.and_then(|claim| claim.parse().ok());
        let author = Author { run: stored.headwater_run_id, claim };
        Ok((Self { next_batch_watermark_ms: stored.next_batch_watermark_ms }, author))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_signed_and_read_back() {
        let author = Author { run: Some("r".into()), claim: None };
        let entry = CommitEntry { next_batch_watermark_ms: 7 };
        let bytes = entry.encode(author.clone()).unwrap();
        assert_eq!(bytes, "v1\n{\"nextBatchWatermarkMs\":7,\"headwaterRunId\":\"r\"}");
        assert_eq!(CommitEntry::decode(&bytes).unwrap(), (entry.clone(), author));
        let claim = "6e6f2a35-0b0c-4d0b-8a51-5b8a2c1e0d4f/12".parse().unwrap();
        let author = Author { run: Some("r".into()), claim: Some(claim) };
        let bytes = entry.encode(author.clone()).unwrap();
        assert!(bytes.ends_with(b",\"headwaterEpoch\":\"6e6f2a35-0b0c-4d0b-8a51-5b8a2c1e0d4f/12\"}"));
        assert_eq!(CommitEntry::decode(&bytes).unwrap(), (entry, author));
    }

    #[test]
    fn what_spark_writes_is_read() {
        #[track_caller]
        fn check(text: &str, expect: i64) {
            let (entry, author) = CommitEntry::decode(text.as_bytes()).unwrap();
            assert_eq!((entry.next_batch_watermark_ms, author), (expect, Author::default()));
        }
        check("v1\n{\"nextBatchWatermarkMs\":0}", 0);
        check("v1\n{\"nextBatchWatermarkMs\":1700000000000}\n", 1_700_000_000_000);
        check("v1\n{}", 0);
        check("v1\n", 0);
        check("v1", 0);
        check("v2\n{\"nextBatchWatermarkMs\":3,\"stateUniqueIds\":{\"0\":[[\"a\"],[\"b\"]]}}", 3);
        check("v3\n{\"nextBatchWatermarkMs\":3,\"sinkMetadataMap\":{\"sink-0\":{\"isActive\":true}}}", 3);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let reason = CommitEntry::decode(text.as_bytes()).unwrap_err().to_string();
            assert!(reason.contains(expect), "{reason}");
        }
        check("", "the version line is missing");
        check("v1\n{", "the second line is not Spark's");
        check("v1\n{\"nextBatchWaterm", "the second line is not Spark's");
        check("v4\n{}", "v4 is not supported");
        check("1\n{}", "not a log version");
    }
}
