//! `rate` and `rate-micro-batch`: streams of numbered rows, made up, for tests and for measuring what comes after.
//!
//! `rate` makes `rowsPerSecond` rows for each whole second since the query began, `rate-micro-batch` makes
//! `rowsPerBatch` rows in each batch. Columns as in Spark: `timestamp`, `value`. A descriptor holds everything that
//! the rows depend on, so the same descriptor gives the same rows on any executor at any time.
//!
//! # Offsets
//! Of both: `{"offset":<n>,"timestamp":<ms>}`. For `rate-micro-batch` that is Spark's: the next value and its time.
//! Spark's `rate` offset is a bare number of seconds, and the time the query began stands in a file of the source's
//! own; here the offset carries both, seconds and the instant they lead to, so that offsets alone fix the rows. A
//! bare number (a checkpoint of Spark's) is understood: it counts from when this source was made.

use super::{Connector, Limit, LimitContext, Offset, Options, ReadUntil, Reader, Source};
use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use chrono::Utc;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

/// Both connectors.
#[derive(Debug)]
pub struct Rate {
    per_batch: bool,
}

impl Rate {
    /// `rate`
    pub const PER_SECOND: Rate = Rate { per_batch: false };
    /// `rate-micro-batch`
    pub const PER_BATCH: Rate = Rate { per_batch: true };
}

/// Spark's timestamps are instants: microseconds, UTC.
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("value", DataType::Int64, true),
    ]))
});

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pace {
    Second { rows: i64, ramp_up_seconds: i64 },
    Batch { rows: i64, start_ms: i64, advance_ms: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RateOptions {
    pace: Pace,
    /// `numPartitions` as given; else as many as this machine has cores.
    partitions: Option<i64>,
}

/// Options that Spark's reader takes besides the source's own.
const COMMON: [&str; 1] = ["checkpointLocation"];

fn parse_options(per_batch: bool, options: &Options) -> Result<RateOptions> {
    let (format, known): (&str, &[&str]) = if per_batch {
        ("rate-micro-batch", &["rowsPerBatch", "numPartitions", "startTimestamp", "advanceMillisPerBatch"])
    } else {
        ("rate", &["rowsPerSecond", "rampUpTime", "numPartitions"])
    };
    for (key, _) in options.iter() {
        if !known.iter().chain(&COMMON).any(|name| name.eq_ignore_ascii_case(key)) {
            return Err(Error::invalid(
                "UNKNOWN_OPTION",
                format!("option {key} is not one of source {format}; there are {}", known.join(", ")),
            ));
        }
    }
    let number = |name: &str, default: i64, least: i64| match options.get(name) {
        None => Ok(default),
        Some(text) => match text.trim().parse::<i64>() {
            Ok(value) if value >= least => Ok(value),
            _ => Err(Error::invalid(
                "INVALID_OPTION",
                format!("invalid value {text} for option {name} of source {format}: give a number from {least}"),
            )),
        },
    };
    let pace = if per_batch {
        let rows = match options.get("rowsPerBatch") {
            Some(_) => number("rowsPerBatch", 0, 1)?,
            None => {
                return Err(Error::invalid(
                    "INVALID_OPTION",
                    "source rate-micro-batch needs option rowsPerBatch, a number from 1",
                ));
            }
        };
        Pace::Batch {
            rows,
            start_ms: number("startTimestamp", 0, 0)?,
            advance_ms: number("advanceMillisPerBatch", 1000, 0)?,
        }
    } else {
        let ramp_up_seconds = options.get("rampUpTime").map_or(Ok(0), seconds)?;
        Pace::Second { rows: number("rowsPerSecond", 1, 1)?, ramp_up_seconds }
    };
    let partitions = options.get("numPartitions").map(|_| number("numPartitions", 1, 1)).transpose()?;
    Ok(RateOptions { pace, partitions })
}

/// A Java time string as Spark reads it: a number of seconds, or one with a unit.
fn seconds(text: &str) -> Result<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let bad = || {
        Error::invalid(
            "INVALID_OPTION",
            format!("invalid value {text} for option rampUpTime of source rate: give a time such as 5s, 2m or 1h"),
        )
    };
    let value: i64 = digits.trim().parse().map_err(|_| bad())?;
    let seconds = match &lower[digits.len()..] {
        "" | "s" => Some(value),
        "us" => Some(value / 1_000_000),
        "ms" => Some(value / 1000),
        "m" | "min" => value.checked_mul(60),
        "h" => value.checked_mul(3600),
        "d" => value.checked_mul(86400),
        _ => None,
    };
    seconds.filter(|seconds| *seconds >= 0).ok_or_else(bad)
}

/// How many rows there are before second `second`. While the rate ramps up it grows by the same amount each second.
/// `None` when that is more than an `i64` holds.
fn value_at_second(second: i64, rows: i64, ramp_up_seconds: i64) -> Option<i64> {
    let speed_delta = rows / (ramp_up_seconds + 1);
    let ramp = |second: i64| {
        // `speed_delta * second * (second + 1) / 2`, the even factor halved first.
        let (half, other) = if second % 2 == 0 { (second / 2, second + 1) } else { ((second + 1) / 2, second) };
        half.checked_mul(other)?.checked_mul(speed_delta)
    };
    if second <= ramp_up_seconds {
        ramp(second)
    } else {
        (second - ramp_up_seconds).checked_mul(rows)?.checked_add(ramp(ramp_up_seconds)?)
    }
}

/// See the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    offset: i64,
    timestamp: i64,
}

/// Everything that the rows of one plan partition depend on: values `first`, `first + step`, … below `until`.
/// The row of value `v` is at `time_ms + round((v - zero) * ms_per_value)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Descriptor {
    first: i64,
    step: i64,
    until: i64,
    zero: i64,
    time_ms: i64,
    ms_per_value: f64,
}

impl Descriptor {
    fn rows(&self) -> i64 {
        if self.until <= self.first { 0 } else { (self.until - self.first - 1) / self.step + 1 }
    }
    fn batch(&self, from: i64, rows: i64, projection: Option<&[usize]>, schema: &SchemaRef) -> Result<RecordBatch> {
        let values = (from..from + rows).map(|row| self.first + row * self.step);
        let columns = [0, 1].map(|column| -> ArrayRef {
            if column == 0 {
                let times = values.clone().map(|value| {
                    let relative = ((value - self.zero) as f64 * self.ms_per_value).round() as i64;
                    (self.time_ms + relative) * 1000
                });
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
            } else {
                Arc::new(Int64Array::from_iter_values(values.clone()))
            }
        });
        let columns = match projection {
            Some(indices) => indices.iter().map(|index| Arc::clone(&columns[*index])).collect(),
            None => columns.to_vec(),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(Error::internal)
    }
}

#[derive(Debug)]
struct RateSource {
    options: RateOptions,
    partitions: i64,
    /// When the query began, for an offset that does not say so.
    created_ms: i64,
}

impl RateSource {
    fn place(&self, offset: &Offset) -> Result<Place> {
        let bad = |e: &dyn std::fmt::Display| {
            Error::fatal(
                "UNRECOGNIZED_OFFSET",
                format!(
                    "{} is no offset of source {}: {e}: is this another query's checkpoint?",
                    offset.0,
                    self.format()
                ),
            )
        };
        match serde_json::from_str::<serde_json::Value>(&offset.0).map_err(|e| bad(&e))? {
            serde_json::Value::Number(seconds) => {
                let offset = seconds.as_i64().ok_or_else(|| bad(&"not a whole number"))?;
                Ok(Place { offset, timestamp: self.created_ms + offset * 1000 })
            }
            object => serde_json::from_value(object).map_err(|e| bad(&e)),
        }
    }
    fn offset(place: Place) -> Result<Offset> {
        serde_json::to_string(&place).map(Offset).map_err(Error::internal)
    }
    fn latest(&self, start: Place, now_ms: i64) -> Place {
        match self.options.pace {
            Pace::Second { .. } => {
                let began = start.timestamp - start.offset * 1000;
                // A clock set back must not take the stream back.
                let offset = ((now_ms - began) / 1000).max(start.offset);
                Place { offset, timestamp: began + offset * 1000 }
            }
            Pace::Batch { rows, advance_ms, .. } => {
                Place { offset: start.offset + rows, timestamp: start.timestamp + advance_ms }
            }
        }
    }
    /// The values `[from, until)` of a batch, when the first of them is, and how far apart they are.
    fn values(&self, start: Place, end: Place) -> Result<(i64, i64, i64, f64)> {
        match self.options.pace {
            Pace::Second { rows, ramp_up_seconds } => {
                let at = |second: i64| {
                    value_at_second(second, rows, ramp_up_seconds).ok_or_else(|| {
                        Error::fatal(
                            "INCORRECT_RAMP_UP_RATE",
                            format!("value overflows after {second} seconds: lower option rowsPerSecond, now {rows}"),
                        )
                    })
                };
                let (from, until) = (at(start.offset)?, at(end.offset)?);
                let span_ms = (end.offset - start.offset) * 1000;
                let ms_per_value = if until > from { span_ms as f64 / (until - from) as f64 } else { 0.0 };
                Ok((from, until, start.timestamp, ms_per_value))
            }
            Pace::Batch { .. } => Ok((start.offset, end.offset, start.timestamp, 0.0)),
        }
    }
}

#[async_trait]
impl Source for RateSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }
    fn description(&self) -> String {
        let partitions = self.options.partitions.map_or_else(|| "default".to_string(), |n| n.to_string());
        match self.options.pace {
            Pace::Second { rows, ramp_up_seconds } => format!(
                "RateStreamV2[rowsPerSecond={rows}, rampUpTimeSeconds={ramp_up_seconds}, numPartitions={partitions}]"
            ),
            Pace::Batch { rows, start_ms, advance_ms } => format!(
                "RatePerMicroBatchStream[rowsPerBatch={rows}, numPartitions={partitions}, startTimestamp={start_ms}, \
                 advanceMsPerBatch={advance_ms}]"
            ),
        }
    }
    async fn initial_offset(&self) -> Result<Offset> {
        Self::offset(match self.options.pace {
            Pace::Second { .. } => Place { offset: 0, timestamp: self.created_ms },
            Pace::Batch { start_ms, .. } => Place { offset: 0, timestamp: start_ms },
        })
    }
    async fn latest_offset(&self, start: &Offset) -> Result<Offset> {
        Self::offset(self.latest(self.place(start)?, Utc::now().timestamp_millis()))
    }
    fn limit(&self, _: &Offset, latest: &Offset, _: LimitContext) -> Result<Limit> {
        Ok(Limit::Until(latest.clone()))
    }
    async fn plan(&self, start: &Offset, end: &Offset) -> Result<Vec<String>> {
        let (from, until, time_ms, ms_per_value) = self.values(self.place(start)?, self.place(end)?)?;
        if until < from {
            return Err(Error::fatal(
                "UNRECOGNIZED_OFFSET",
                format!("batch of source {} ends at {} before it starts at {}", self.format(), end.0, start.0),
            ));
        }
        let step = self.partitions;
        let descriptor = |partition| {
            let first = from + partition;
            serde_json::to_string(&Descriptor { first, step, until, zero: from, time_ms, ms_per_value })
                .map_err(Error::internal)
        };
        (0..step.min(until - from)).map(descriptor).collect()
    }
    fn reader_config(&self, _: &str) -> String {
        "{}".into()
    }
    fn lag(&self, offset: &Offset, latest: &Offset) -> Option<u64> {
        let (from, until, ..) = self.values(self.place(offset).ok()?, self.place(latest).ok()?).ok()?;
        u64::try_from(until - from).ok()
    }
    fn format(&self) -> &'static str {
        match self.options.pace {
            Pace::Second { .. } => "rate",
            Pace::Batch { .. } => "rate-micro-batch",
        }
    }
}

#[async_trait]
impl Connector for Rate {
    fn format(&self) -> &'static str {
        if self.per_batch { "rate-micro-batch" } else { "rate" }
    }
    async fn source(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
        if schema.is_some() {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!("source {} has a schema of its own (timestamp, value): declare none", self.format()),
            ));
        }
        let options = parse_options(self.per_batch, options)?;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
        let partitions = options.partitions.unwrap_or(cores);
        Ok(Arc::new(RateSource { options, partitions, created_ms: Utc::now().timestamp_millis() }))
    }
    fn reader(&self, _: &str) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(RateReader))
    }
}

#[derive(Debug)]
struct RateReader;

impl Reader for RateReader {
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if matches!(until, ReadUntil::Signal(_)) {
            return Err(Error::invalid("UNSUPPORTED_FEATURE", "source rate does not support the real-time trigger"));
        }
        let descriptor: Descriptor = serde_json::from_str(descriptor)
            .map_err(|e| Error::internal(format!("{descriptor} describes no rows of source rate: {e}")))?;
        let batch_rows = context.session_config().batch_size().max(1) as i64;
        let projection = projection.map(<[usize]>::to_vec);
        let output = Arc::clone(&schema);
        let rows = descriptor.rows();
        let starts = (0..rows).step_by(batch_rows as usize);
        let batches = futures::stream::iter(starts.map(move |from| {
            descriptor
                .batch(from, batch_rows.min(rows - from), projection.as_deref(), &output)
                .map_err(|e| DataFusionError::External(Box::new(e)))
        }));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
    use futures::TryStreamExt;

    fn source(per_batch: bool, options: &[(&str, &str)]) -> RateSource {
        let options = parse_options(per_batch, &Options::new(options.iter().copied())).expect("options");
        let partitions = options.partitions.unwrap_or(2);
        RateSource { options, partitions, created_ms: 1_000_000 }
    }

    /// All rows of a batch as (ms, value), by value.
    async fn rows(source: &RateSource, start: &str, end: &str) -> Vec<(i64, i64)> {
        let mut rows = vec![];
        for descriptor in source.plan(&Offset(start.into()), &Offset(end.into())).await.expect("plan") {
            let stream = RateReader
                .read(&descriptor, None, source.schema(), ReadUntil::DescriptorEnd, Arc::default())
                .expect("read");
            for batch in stream.try_collect::<Vec<_>>().await.expect("rows") {
                let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
                let values = batch.column(1).as_primitive::<Int64Type>();
                rows.extend(times.values().iter().zip(values.values()).map(|(time, value)| (time / 1000, *value)));
            }
        }
        rows.sort_by_key(|(_, value)| *value);
        rows
    }

    #[test]
    fn options_are_checked() {
        fn check(per_batch: bool, options: &[(&str, &str)], expect: Result<RateOptions, &str>) {
            let got = parse_options(per_batch, &Options::new(options.iter().copied()));
            match expect {
                Ok(expect) => assert_eq!(got.expect("options"), expect),
                Err(word) => {
                    let error = got.expect_err("options");
                    assert!(error.message.contains(word), "{error}");
                }
            }
        }
        let second = |rows, ramp_up_seconds| Pace::Second { rows, ramp_up_seconds };
        check(false, &[], Ok(RateOptions { pace: second(1, 0), partitions: None }));
        check(
            false,
            &[("ROWSPERSECOND", "10"), ("rampUpTime", "1m"), ("numPartitions", "3")],
            Ok(RateOptions { pace: second(10, 60), partitions: Some(3) }),
        );
        check(false, &[("rowsPerSecond", "0")], Err("rowsPerSecond"));
        check(false, &[("rampUpTime", "soon")], Err("rampUpTime"));
        check(false, &[("rowsPerBatch", "1")], Err("rowsPerBatch"));
        check(true, &[], Err("rowsPerBatch"));
        check(
            true,
            &[("rowsPerBatch", "5")],
            Ok(RateOptions { pace: Pace::Batch { rows: 5, start_ms: 0, advance_ms: 1000 }, partitions: None }),
        );
        check(true, &[("rowsPerBatch", "5"), ("startTimestamp", "-1")], Err("startTimestamp"));
    }

    #[test]
    fn ramp_up_counts_as_spark_does() {
        let upto = |rows, ramp, n| (0..n).map(|s| value_at_second(s, rows, ramp).expect("value")).collect::<Vec<_>>();
        assert_eq!(upto(10, 0, 4), [0, 10, 20, 30]);
        assert_eq!(upto(10, 4, 8), [0, 2, 6, 12, 20, 30, 40, 50]);
        assert_eq!(value_at_second(i64::MAX / 2, 10, 0), None);
    }

    #[tokio::test]
    async fn rate_rows_are_fixed_by_their_offsets() {
        let one = source(false, &[("rowsPerSecond", "4"), ("numPartitions", "3")]);
        let initial = one.initial_offset().await.expect("initial");
        assert_eq!(initial.0, r#"{"offset":0,"timestamp":1000000}"#);
        let end = RateSource::offset(one.latest(one.place(&initial).expect("place"), 1_002_999)).expect("latest");
        assert_eq!(end.0, r#"{"offset":2,"timestamp":1002000}"#);
        let expect: Vec<_> = (0..8).map(|value| (1_000_000 + value * 250, value)).collect();
        assert_eq!(rows(&one, &initial.0, &end.0).await, expect);
        // Another process, later, with another number of partitions.
        let mut two = source(false, &[("rowsPerSecond", "4"), ("numPartitions", "1")]);
        two.created_ms = 9_999_999;
        assert_eq!(rows(&two, &initial.0, &end.0).await, expect);
        assert_eq!(one.lag(&initial, &end), Some(8));
        // A clock set back.
        let place = one.place(&end).expect("place");
        assert_eq!(one.latest(place, 0), place);
        // Spark's own offsets.
        assert_eq!(rows(&one, "0", "1").await, expect[..4]);
    }

    #[tokio::test]
    async fn each_batch_has_its_rows() {
        let source = source(true, &[("rowsPerBatch", "3"), ("startTimestamp", "7"), ("advanceMillisPerBatch", "10")]);
        let first = source.initial_offset().await.expect("initial");
        let second = source.latest_offset(&first).await.expect("latest");
        let third = source.latest_offset(&second).await.expect("latest");
        assert_eq!(third.0, r#"{"offset":6,"timestamp":27}"#);
        assert_eq!(rows(&source, &first.0, &second.0).await, [(7, 0), (7, 1), (7, 2)]);
        assert_eq!(rows(&source, &second.0, &third.0).await, [(17, 3), (17, 4), (17, 5)]);
        assert!(source.plan(&first, &first).await.expect("plan").is_empty());
        assert_eq!(source.plan(&third, &first).await.expect_err("backwards").class, "UNRECOGNIZED_OFFSET");
    }

    #[tokio::test]
    async fn long_partitions_come_in_batches_and_columns_can_be_left_out() {
        let source = source(true, &[("rowsPerBatch", "20000"), ("numPartitions", "1")]);
        let start = source.initial_offset().await.expect("initial");
        let end = source.latest_offset(&start).await.expect("latest");
        let descriptors = source.plan(&start, &end).await.expect("plan");
        let read = |projection: &[usize]| {
            let schema = Arc::new(source.schema().project(projection).expect("projection"));
            let until = ReadUntil::DescriptorEnd;
            RateReader.read(&descriptors[0], Some(projection), schema, until, Arc::default()).expect("read")
        };
        let batches: Vec<_> = read(&[1]).try_collect().await.expect("rows");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [8192, 8192, 3616]);
        assert_eq!(batches[2].column(0).as_primitive::<Int64Type>().value(3615), 19999);
        let none: Vec<_> = read(&[]).try_collect().await.expect("rows");
        assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 20000);
    }
}
