//! `StreamingQueryProgress` as Spark writes it and as PySpark's `listener.py` parses it: field for field.
//!
//! PySpark raises `KeyError` for an absent field, so none is ever left out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Report of one trigger that ran a batch, or (with zero rows) of an idle one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamingQueryProgress {
    /// Id of the query.
    pub id: String,
    /// Id of this run.
    pub run_id: String,
    /// Name, if the query has one.
    pub name: Option<String>,
    /// Start of the trigger: ISO-8601, UTC, milliseconds, `Z`.
    pub timestamp: String,
    /// The batch that ran, or would run next.
    pub batch_id: i64,
    /// Length of the batch in milliseconds.
    pub batch_duration: i64,
    /// Rows read by all sources together.
    pub num_input_rows: i64,
    /// Rows a second since the trigger before began.
    #[serde(with = "rate")]
    pub input_rows_per_second: f64,
    /// Rows a second while the trigger ran.
    #[serde(with = "rate")]
    pub processed_rows_per_second: f64,
    /// Milliseconds by phase: latestOffset, getOffset, getBatch, queryPlanning, walCommit, addBatch, commitOffsets,
    /// triggerExecution.
    pub duration_ms: BTreeMap<String, i64>,
    /// Event-time statistics: max, min, avg, watermark.
    pub event_time: BTreeMap<String, String>,
    /// One entry for each stateful operator.
    pub state_operators: Vec<Value>,
    /// One entry for each source.
    pub sources: Vec<SourceProgress>,
    /// The sink.
    pub sink: SinkProgress,
    /// Results of `observe()`.
    pub observed_metrics: Map<String, Value>,
}

/// What one source did in a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceProgress {
    /// As Spark describes it: `KafkaV2[Subscribe[users_created]]`.
    pub description: String,
    /// Where the batch began; null before the first.
    pub start_offset: Value,
    /// Where it ended.
    pub end_offset: Value,
    /// What was there when the batch was decided.
    pub latest_offset: Value,
    /// Rows read.
    pub num_input_rows: i64,
    /// Rows a second since the trigger before began.
    #[serde(with = "rate")]
    pub input_rows_per_second: f64,
    /// Rows a second while the trigger ran.
    #[serde(with = "rate")]
    pub processed_rows_per_second: f64,
    /// Source's own metrics, all strings: `maxOffsetsBehindLatest` and the like.
    pub metrics: BTreeMap<String, String>,
}

/// What the sink did in a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkProgress {
    /// As Spark describes it.
    pub description: String,
    /// Rows written; -1 when unknown.
    pub num_output_rows: i64,
    /// Sink's own metrics.
    pub metrics: BTreeMap<String, String>,
}

impl SinkProgress {
    /// Metric: rows that the sink could not write.
    pub const BAD_ROWS: &str = "badRows";
    /// Metric, when there are such rows: what was done about them, by the value of option `headwater.badRecords`.
    pub const BAD_RECORDS: &str = "badRecords";

    /// Rows that could not be written.
    pub fn bad_rows(&self) -> u64 {
        self.metrics.get(Self::BAD_ROWS).and_then(|rows| rows.parse().ok()).unwrap_or(0)
    }
    /// What was done about them; empty when there are none, or it is not known.
    pub fn bad_records(&self) -> &str {
        self.metrics.get(Self::BAD_RECORDS).map_or("", String::as_str)
    }
}

/// Rates are finite in JSON: a rate over no time is written as 0.0, where Spark leaves infinity out.
mod rate {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(rate: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(if rate.is_finite() { *rate } else { 0.0 })
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(0.0))
    }
}
