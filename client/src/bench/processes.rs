//! Scheduler and executors in processes of their own, as in production: how soon after its start the cluster has
//! committed a batch, what each process keeps in memory before any work, and at most under load.

use super::machine::Usage;
use super::throughput::{Options, RUN_TRIGGER, finished, make_output, run_name, statements};
use super::{Percentiles, progress_of};
use crate::remote::Remote;
use anyhow::{Context, Result, bail};
use headwater_proto::engine::SubmitRequest;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A process that has said nothing by then never will.
const START_MAX: Duration = Duration::from_secs(60);

/// What a process used.
#[derive(Debug, Clone)]
pub struct Process {
    /// `scheduler`, or `executor` and its number.
    pub name: String,
    /// Resident memory before any work.
    pub rest_bytes: u64,
    /// Most resident memory under load.
    pub peak_bytes: u64,
    /// Resident memory right after the work.
    pub after_bytes: u64,
    /// Seconds of CPU for all of it, start included.
    pub cpu_seconds: f64,
}

/// How it went. Times count from just before the first process was started.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Until the scheduler listened.
    pub listening: Duration,
    /// Until every executor had registered.
    pub registered: Duration,
    /// Until the first batch was committed.
    pub first_batch: Duration,
    /// Until every row was written.
    pub elapsed: Duration,
    /// Rows read.
    pub rows: u64,
    /// Milliseconds of each batch.
    pub batches: Percentiles,
    /// Scheduler first.
    pub processes: Vec<Process>,
}

impl Outcome {
    /// As `--json` prints it.
    pub fn json(&self) -> Value {
        let processes: Vec<_> = self
            .processes
            .iter()
            .map(|process| {
                json!({
                    "name": process.name,
                    "restBytes": process.rest_bytes,
                    "peakBytes": process.peak_bytes,
                    "afterBytes": process.after_bytes,
                    "cpuSeconds": process.cpu_seconds,
                })
            })
            .collect();
        json!({
            "listeningSeconds": self.listening.as_secs_f64(),
            "registeredSeconds": self.registered.as_secs_f64(),
            "firstBatchSeconds": self.first_batch.as_secs_f64(),
            "seconds": self.elapsed.as_secs_f64(),
            "rows": self.rows,
            "batchMs": self.batches.json(),
            "processes": processes,
        })
    }
}

/// A process of this program that is killed when this is dropped: its state is as temporary.
struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Starts it and reads the one line that says where it listens, or that it has registered.
    async fn start(name: String, program: &Path, args: &[&str]) -> Result<(Self, Value)> {
        let mut child = Command::new(program)
            .args(args)
            .args(["--json", "--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let stdout = child.stdout.take().context("its stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let said = tokio::time::timeout(START_MAX, lines.next_line());
        let said = said.await.with_context(|| format!("{name} had not started after {} s", START_MAX.as_secs()))?;
        let Some(line) = said.with_context(|| format!("failed to read what {name} says"))? else {
            bail!("{name} ended at its start: {}", child.wait().await?);
        };
        let said = serde_json::from_str(&line).with_context(|| format!("{name} said {line:?}"))?;
        Ok((Self { name, child }, said))
    }

    fn usage(&self) -> Result<Usage> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        Usage::of(&id.to_string()).with_context(|| self.name.clone())
    }
}

/// Starts the processes of `program`, runs the flow once, ends them.
pub async fn run(options: &Options, program: &Path) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("headwater-bench-").tempdir().context("failed to make a folder")?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    make_output(options).await?;
    let begin = Instant::now();
    let ports = ["--grpc-port", "0", "--connect-port", "0", "--http-port", "0"];
    let state = path("state");
    let scheduler = [&["scheduler", "--state-dir", &state], ports.as_slice()].concat();
    let (scheduler, said) = Running::start("scheduler".into(), program, &scheduler).await?;
    let listening = begin.elapsed();
    let address = said["grpc"].as_str().context("the scheduler did not say where it listens")?.to_string();
    let slots = options.task_slots.to_string();
    let mut processes = vec![scheduler];
    let executors = (0..options.executors).map(|number| {
        let (work, address, slots) = (path(&format!("work-{number}")), address.as_str(), slots.as_str());
        async move {
            let args = ["executor", "--scheduler", address, "--task-slots", slots, "--work-dir", &work];
            Running::start(format!("executor {number}"), program, &args).await
        }
    });
    let executors = futures::future::try_join_all(executors).await?;
    processes.extend(executors.into_iter().map(|(process, _)| process));
    let registered = begin.elapsed();
    let rest = processes.iter().map(Running::usage).collect::<Result<Vec<_>>>()?;

    let remote = Remote::connect(&address).await?;
    let sql = statements(options, 0, &folder.path().to_string_lossy());
    let request = SubmitRequest { sql, trigger: RUN_TRIGGER.into(), ..SubmitRequest::default() };
    remote.submit(request).await?;
    let query = run_name(0);
    let mut reports = remote.progress(&query, true).await?;
    let (mut rows, mut durations, mut first_batch) = (0, vec![], None);
    while let Some(report) = reports.next().await? {
        let Some(progress) = progress_of(&report)?.filter(|progress| progress.num_input_rows > 0) else { continue };
        first_batch.get_or_insert_with(|| begin.elapsed());
        rows += progress.num_input_rows as u64;
        durations.push(progress.batch_duration as f64);
    }
    let elapsed = begin.elapsed();
    finished(&remote.get(&query).await?)?;
    let used = processes
        .iter()
        .zip(rest)
        .map(|(process, rest)| {
            let after = process.usage()?;
            Ok(Process {
                name: process.name.clone(),
                rest_bytes: rest.resident_bytes,
                peak_bytes: after.peak_bytes,
                after_bytes: after.resident_bytes,
                cpu_seconds: after.cpu_seconds,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    for process in processes.iter_mut().rev() {
        process.child.kill().await.with_context(|| format!("failed to end {}", process.name))?;
    }
    Ok(Outcome {
        listening,
        registered,
        first_batch: first_batch.context("the topic is empty: nothing was read")?,
        elapsed,
        rows,
        batches: Percentiles::of(durations).context("no batch had rows")?,
        processes: used,
    })
}
