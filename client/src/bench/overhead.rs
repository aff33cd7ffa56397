//! What a micro-batch costs whose work is nothing: `rate-micro-batch` into `noop`, so that no outside system takes part.
//!
//! Batches run back to back; the time between the reports of two neighbours is all of a batch: deciding, both logs,
//! planning, scheduling, the tasks, the report.

use super::machine::Usage;
use super::{Percentiles, progress_of};
use crate::remote::Remote;
use crate::standalone::{Cluster, Options as ClusterOptions};
use anyhow::{Context, Result, bail};
use headwater_proto::engine::SubmitRequest;
use headwater_proto::progress::StreamingQueryProgress;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Batches to measure.
    pub batches: u64,
    /// Partitions of the case that has several.
    pub partitions: u32,
}

impl Options {
    /// Batches that run before: code, connections and allocator are warm then.
    fn warm_up(self) -> u64 {
        self.batches.div_ceil(10)
    }
}

/// One kind of batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// For people.
    pub name: String,
    /// Rows that the source makes, one in each partition.
    rows: u32,
    /// Whether these reach the sink.
    kept: bool,
}

/// How batches of a case went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which kind of batch.
    pub case: Case,
    /// Milliseconds from one report to the next.
    pub batch_ms: Percentiles,
    /// Milliseconds of CPU of this process for a batch, scheduler and executor together.
    pub cpu_ms: f64,
    /// Mean milliseconds of each of Spark's phases, from reports, which have whole milliseconds.
    pub phases_ms: BTreeMap<String, f64>,
}

impl Outcome {
    /// As `--json` prints it.
    pub fn json(&self) -> Value {
        json!({
            "case": self.case.name,
            "batchMs": self.batch_ms.json(),
            "cpuMs": self.cpu_ms,
            "meanPhaseMs": self.phases_ms,
        })
    }
}

fn cases(partitions: u32) -> Vec<Case> {
    let case = |name: String, rows, kept| Case { name, rows, kept };
    let mut cases = vec![case("empty".into(), 1, false), case("1 row".into(), 1, true)];
    if partitions > 1 {
        cases.push(case(format!("1 row in each of {partitions} partitions"), partitions, true));
    }
    cases
}

/// Runs every case, telling `say` of each as it ends. `interrupt` resolves when the user wants to stop.
pub async fn run(
    options: Options,
    say: &mut (dyn FnMut(&Outcome) + Send),
    interrupt: impl AsyncFn() -> io::Result<()>,
) -> Result<Vec<Outcome>> {
    let folder = tempfile::Builder::new().prefix("headwater-bench-").tempdir().context("failed to make a folder")?;
    let state = folder.path().join("state").to_string_lossy().into_owned();
    let cluster = Cluster::start(ClusterOptions::private(state, 1, options.partitions as usize)).await?;
    let address = cluster.address();
    let work = async {
        let remote = Remote::connect(&address).await?;
        let mut outcomes = vec![];
        for (number, case) in cases(options.partitions).into_iter().enumerate() {
            let outcome = measure(&remote, options, case, number).await?;
            say(&outcome);
            outcomes.push(outcome);
        }
        Ok(outcomes)
    };
    cluster.run(work, interrupt).await
}

fn statements(case: &Case, number: usize) -> String {
    let kept = if case.kept { "" } else { " WHERE value < 0" };
    format!(
        "CREATE TABLE overhead_source_{number} USING `rate-micro-batch` OPTIONS (rowsPerBatch '{rows}', numPartitions \
         '{rows}');\nCREATE TABLE overhead_sink_{number} USING noop;\nCREATE FLOW overhead_{number} AS INSERT INTO \
         overhead_sink_{number} BY NAME SELECT value FROM STREAM(overhead_source_{number}){kept};",
        rows = case.rows
    )
}

async fn measure(remote: &Remote, options: Options, case: Case, number: usize) -> Result<Outcome> {
    let request = SubmitRequest { sql: statements(&case, number), ..SubmitRequest::default() };
    let Some(query) = remote.submit(request).await?.queries.into_iter().next() else {
        bail!("the scheduler started no query")
    };
    let mut reports = remote.progress(&query.id, true).await?;
    let (mut seen, mut before): (Vec<(StreamingQueryProgress, Instant)>, Option<Usage>) = (vec![], None);
    while (seen.len() as u64) <= options.batches {
        let Some(report) = reports.next().await? else {
            let status = remote.get(&query.id).await?;
            bail!("the flow ended {}: {}", status.state, status.message);
        };
        if let Some(progress) = progress_of(&report)?
            && progress.batch_id as u64 >= options.warm_up()
        {
            if before.is_none() {
                before = Some(Usage::now()?);
            }
            seen.push((progress, Instant::now()));
        }
    }
    let after = Usage::now()?;
    remote.stop(&query.id).await?;
    let before = before.context("no batch was measured")?;
    let ids = |at: usize| seen[at].0.batch_id;
    let ran = (ids(seen.len() - 1) - ids(0)) as f64;
    Ok(Outcome {
        batch_ms: Percentiles::of(intervals(&seen)).context("no two neighbouring batches were reported")?,
        cpu_ms: (after.cpu_seconds - before.cpu_seconds) * 1000.0 / ran,
        phases_ms: mean_phases(seen.iter().map(|(progress, _)| &progress.duration_ms)),
        case,
    })
}

/// Milliseconds between the reports of neighbours: a reader too slow misses some.
fn intervals(seen: &[(StreamingQueryProgress, Instant)]) -> Vec<f64> {
    seen.windows(2)
        .filter(|pair| pair[1].0.batch_id == pair[0].0.batch_id + 1)
        .map(|pair| pair[1].1.duration_since(pair[0].1).as_secs_f64() * 1000.0)
        .collect()
}

fn mean_phases<'a>(durations: impl Iterator<Item = &'a BTreeMap<String, i64>>) -> BTreeMap<String, f64> {
    let (mut sums, mut count) = (BTreeMap::<String, f64>::new(), 0);
    for phases in durations {
        count += 1;
        for (phase, ms) in phases {
            *sums.entry(phase.clone()).or_default() += *ms as f64;
        }
    }
    sums.into_iter().map(|(phase, sum)| (phase, sum / f64::from(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_cases() {
        let cases = cases(4);
        assert!(statements(&cases[0], 0).ends_with("STREAM(overhead_source_0) WHERE value < 0;"));
        let several = statements(&cases[2], 2);
        assert!(several.contains("rowsPerBatch '4', numPartitions '4'") && !several.contains("WHERE"), "{several}");
        assert_eq!(super::cases(1).len(), 2);
    }

    #[test]
    fn phases_are_averaged() {
        let phases = |ms: &[(&str, i64)]| ms.iter().map(|(name, ms)| (name.to_string(), *ms)).collect();
        let batches: [BTreeMap<String, i64>; 2] = [phases(&[("a", 1), ("b", 4)]), phases(&[("a", 2)])];
        let mean = mean_phases(batches.iter());
        assert_eq!((mean["a"], mean["b"]), (1.5, 2.0));
    }
}
