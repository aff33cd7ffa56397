//! `headwater bench`: runs the benchmarks and prints their figures.

use super::args::{BenchArgs, BenchCommand, BenchRun, LatencyArgs, OverheadArgs, Sink};
use super::output::thousands;
use super::{Error, interrupted, unless_interrupted};
use crate::bench::machine::{Machine, mebibytes};
use crate::bench::throughput::{self, Produced, Run, Sink as To};
use crate::bench::{latency, overhead, processes};
use anyhow::Context;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// Runs the command.
pub async fn run(args: BenchArgs) -> Result<(), Error> {
    let machine = Machine::here();
    let json = match &args.command {
        Some(BenchCommand::Produce(run) | BenchCommand::Cluster(run)) => run.json,
        Some(BenchCommand::Latency(run)) => run.json,
        Some(BenchCommand::Overhead(run)) => run.json,
        None => args.run.json,
    };
    eprintln!("{machine}");
    if machine.profile == "debug" {
        eprintln!("this is a debug build: its figures mean nothing; build with --release");
    }
    let mut object = match args.command {
        Some(BenchCommand::Produce(run)) => unless_interrupted(produce(&run)).await?,
        Some(BenchCommand::Latency(run)) => measure_latency(&run).await?,
        Some(BenchCommand::Overhead(run)) => measure_overhead(&run).await?,
        Some(BenchCommand::Cluster(run)) => unless_interrupted(measure_processes(&run)).await?,
        None => measure_throughput(&args.run).await?,
    };
    object["machine"] = machine.json();
    if json {
        writeln!(io::stdout().lock(), "{object}")?;
    }
    Ok(())
}

fn sink(sink: Sink) -> To {
    match sink {
        Sink::Noop => To::Noop,
        Sink::Parquet => To::Parquet,
        Sink::Cassandra => To::Cassandra,
        Sink::Kafka => To::Kafka,
    }
}

fn options(args: &BenchRun) -> throughput::Options {
    let topic = args.topic.clone().unwrap_or_else(|| format!("bench_users_{}_{}", args.rows, args.partitions));
    throughput::Options {
        kafka: args.kafka.clone(),
        cassandra: args.cassandra.clone(),
        topic,
        rows: args.rows,
        partitions: args.partitions,
        sink: sink(args.sink),
        executors: args.executors,
        task_slots: args.task_slots.unwrap_or_else(|| (args.partitions as usize).div_ceil(args.executors)),
        runs: args.runs,
        batch_rows: args.batch_rows,
        seed: args.seed,
    }
}

/// A line for people, on stdout unless that is for JSON.
fn say(json: bool, text: &str) -> Result<(), Error> {
    if !json {
        writeln!(io::stdout().lock(), "{text}")?;
    }
    Ok(())
}

async fn produce(args: &BenchRun) -> Result<Value, Error> {
    let options = options(args);
    let produced = throughput::produce(&options).await?;
    say(args.json, &produced_line(&options.topic, &produced))?;
    Ok(json!({"topic": options.topic, "produced": produced_json(&produced)}))
}

fn produced_line(topic: &str, produced: &Produced) -> String {
    if produced.rows == 0 {
        return format!("topic {topic} is filled already");
    }
    let seconds = produced.elapsed.as_secs_f64();
    format!(
        "produced {} users of {} bytes to {topic} in {seconds:.1} s: {} rows/s",
        thousands(produced.rows),
        produced.bytes / produced.rows,
        thousands((produced.rows as f64 / seconds) as u64)
    )
}

fn produced_json(produced: &Produced) -> Value {
    json!({"rows": produced.rows, "bytes": produced.bytes, "seconds": produced.elapsed.as_secs_f64()})
}

async fn measure_throughput(args: &BenchRun) -> Result<Value, Error> {
    let options = options(args);
    let produced = unless_interrupted(async { Ok(throughput::produce(&options).await?) }).await?;
    eprintln!("{}", produced_line(&options.topic, &produced));
    let mut told = Ok(());
    let mut tell = |number: usize, run: &Run| {
        let line = run_line(number, run, args.sink);
        if told.is_ok() {
            told = say(args.json, &line);
        }
    };
    let runs = throughput::run(&options, &mut tell, interrupted).await?;
    told?;
    Ok(json!({
        "sink": format!("{:?}", args.sink).to_lowercase(),
        "partitions": args.partitions,
        "executors": args.executors,
        "batchRows": args.batch_rows,
        "runs": runs.iter().map(Run::json).collect::<Vec<_>>(),
    }))
}

fn run_line(number: usize, run: &Run, sink: Sink) -> String {
    let heat = if number == 0 { "cold" } else { "warm" };
    format!(
        "kafka -> from_json -> {}, {heat}: {} rows in {:.2} s, {} rows/s, {:.2} CPU-seconds, {} rows per CPU-second, \
         peak {}, first batch after {:.2} s; batches (ms): {}",
        format!("{sink:?}").to_lowercase(),
        thousands(run.rows),
        run.elapsed.as_secs_f64(),
        thousands(run.rows_per_second() as u64),
        run.cpu_seconds,
        thousands(run.rows_per_cpu_second() as u64),
        mebibytes(run.peak_bytes),
        run.first_batch.as_secs_f64(),
        run.batches,
    )
}

async fn measure_latency(args: &LatencyArgs) -> Result<Value, Error> {
    let measure = Duration::from_secs(args.seconds);
    let options = latency::Options {
        kafka: args.kafka.clone(),
        cassandra: args.cassandra.clone(),
        sink: sink(args.sink),
        rate: args.rate,
        measure,
        warm_up: Duration::from_secs(args.seconds.div_ceil(3)),
        partitions: args.partitions,
        trigger: args.trigger.clone(),
    };
    let outcome = latency::run(&options, interrupted).await?;
    let what = match args.sink {
        Sink::Kafka => "produced to consumed",
        _ => "produced to committed",
    };
    say(
        args.json,
        &format!(
            "kafka -> {}, {} records/s, trigger {}: {what} (ms): {}\nbatches (ms): {}\nrows a batch: {}",
            format!("{:?}", args.sink).to_lowercase(),
            thousands(args.rate),
            args.trigger,
            outcome.latency,
            outcome.batches,
            outcome.batch_rows,
        ),
    )?;
    Ok(json!({
        "sink": format!("{:?}", args.sink).to_lowercase(),
        "rate": args.rate,
        "trigger": args.trigger,
        "measured": what,
        "sent": outcome.sent,
        "latencyMs": outcome.latency.json(),
        "batchMs": outcome.batches.json(),
        "batchRows": outcome.batch_rows.json(),
    }))
}

async fn measure_overhead(args: &OverheadArgs) -> Result<Value, Error> {
    let options = overhead::Options { batches: args.batches, partitions: args.partitions };
    let mut told = Ok(());
    let mut tell = |outcome: &overhead::Outcome| {
        let phases: Vec<_> = outcome.phases_ms.iter().map(|(phase, ms)| format!("{phase} {ms:.2}")).collect();
        let line = format!(
            "{}, batch to batch (ms): {}; {:.2} ms of CPU each; mean phases (ms): {}",
            outcome.case.name,
            outcome.batch_ms,
            outcome.cpu_ms,
            phases.join(", ")
        );
        if told.is_ok() {
            told = say(args.json, &line);
        }
    };
    let outcomes = overhead::run(options, &mut tell, interrupted).await?;
    told?;
    Ok(json!({"cases": outcomes.iter().map(overhead::Outcome::json).collect::<Vec<_>>()}))
}

async fn measure_processes(args: &BenchRun) -> Result<Value, Error> {
    let options = options(args);
    eprintln!("{}", produced_line(&options.topic, &throughput::produce(&options).await?));
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    let outcome = processes::run(&options, &program).await?;
    let mut lines = vec![format!(
        "1 scheduler and {} executors, from process start: listening after {:.2} s, registered after {:.2} s, first batch \
         committed after {:.2} s, {} rows into {} after {:.2} s; batches (ms): {}",
        args.executors,
        outcome.listening.as_secs_f64(),
        outcome.registered.as_secs_f64(),
        outcome.first_batch.as_secs_f64(),
        thousands(outcome.rows),
        format!("{:?}", args.sink).to_lowercase(),
        outcome.elapsed.as_secs_f64(),
        outcome.batches,
    )];
    lines.extend(outcome.processes.iter().map(|process| {
        format!(
            "{}: {} at rest, {} at most, {} afterwards, {:.2} CPU-seconds",
            process.name,
            mebibytes(process.rest_bytes),
            mebibytes(process.peak_bytes),
            mebibytes(process.after_bytes),
            process.cpu_seconds
        )
    }));
    say(args.json, &lines.join("\n"))?;
    Ok(json!({
        "sink": format!("{:?}", args.sink).to_lowercase(),
        "partitions": args.partitions,
        "executors": args.executors,
        "cluster": outcome.json(),
    }))
}
