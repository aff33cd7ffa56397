//! Measures Headwater on the machine at hand: throughput Kafka → from_json → sink, latency at a steady rate, what a
//! batch costs that has nothing to do, and start-up and memory of a cluster of processes.
//!
//! But for the last, every run starts a cluster in this process, so that CPU and memory of the process are the
//! engine's. Figures say what they were taken on; a debug build says that it is one.

pub mod latency;
pub mod machine;
pub mod overhead;
pub mod processes;
pub mod throughput;

use anyhow::{Context, Result};
use headwater_proto::engine::ProgressReport;
use headwater_proto::progress::StreamingQueryProgress;
use serde_json::{Value, json};

/// What a report says, if it is one of a trigger and not of a state alone.
fn progress_of(report: &ProgressReport) -> Result<Option<StreamingQueryProgress>> {
    if report.json.is_empty() {
        return Ok(None);
    }
    let progress = serde_json::from_str(&report.json).context("the scheduler sent a progress report that is none")?;
    Ok(Some(progress))
}

/// Percentiles of a set of measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles {
    /// How many there were.
    pub count: usize,
    /// Half are below.
    pub p50: f64,
    /// Nine in ten are below.
    pub p90: f64,
    /// 99 in a hundred are below.
    pub p99: f64,
    /// 999 in a thousand are below.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Of `values`, in any order; none of none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        // Nearest rank: a percentile is a value that was measured.
        let at = |share: f64| values[((share * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
        Some(Self { count: values.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }

    /// As `--json` prints them.
    pub fn json(&self) -> Value {
        json!({
            "count": self.count, "p50": self.p50, "p90": self.p90, "p99": self.p99, "p99.9": self.p999, "max": self.max
        })
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} of {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        fn check(values: Vec<f64>, p50: f64, p99: f64) {
            let percentiles = Percentiles::of(values).expect("there are some");
            assert_eq!((percentiles.p50, percentiles.p99), (p50, p99));
        }
        check(vec![5.0], 5.0, 5.0);
        check(vec![2.0, 1.0], 1.0, 2.0);
        check((1..=100).rev().map(f64::from).collect(), 50.0, 99.0);
        assert_eq!(Percentiles::of(vec![]), None);
    }
}
