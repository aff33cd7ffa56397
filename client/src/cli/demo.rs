//! `headwater demo`: shows the demo's steps and its results.

use super::args::{DemoArgs, Format};
use super::follow::line;
use super::output::{Results, json_rows, thousands};
use super::{Error, interrupted};
use crate::demo::run::{Options, Outcome, Step, run as demo};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::{self, IsTerminal, Write};

/// Runs the command.
pub async fn run(args: DemoArgs) -> Result<(), Error> {
    let options = Options {
        rows: args.rows,
        partitions: args.partitions,
        executors: args.executors,
        rate: args.rate,
        seed: args.seed,
        keep: args.keep,
        kafka: args.kafka.clone(),
        cassandra: args.cassandra.clone(),
    };
    let bar = io::stderr().is_terminal().then(|| {
        let template = "{bar:30} {human_pos}/{human_len} users · {wide_msg}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        ProgressBar::new(args.rows).with_style(style)
    });
    let mut show = |step: Step| show(&step, bar.as_ref());
    let outcome = demo(&options, &mut show, interrupted).await?;
    if args.json { print_json(&outcome, &args) } else { print(&outcome, &args) }
}

fn show(step: &Step, bar: Option<&ProgressBar>) {
    let say = |text: String| match bar {
        Some(bar) => bar.suspend(|| eprintln!("{text}")),
        None => eprintln!("{text}"),
    };
    match step {
        Step::Started { kafka, embedded, scheduler, executors } => {
            let broker = if *embedded { "broker of librdkafka, in this process, on" } else { "Kafka on" };
            say(format!("{broker} {kafka}; scheduler on {scheduler} with {executors} executors"));
        }
        Step::Submitted { id, sql } => say(format!("\n{}\nflow users is query {id}", sql.trim_end())),
        Step::Batch { progress, done, lag } => match bar {
            Some(bar) => {
                bar.set_position(*done);
                bar.set_message(line(progress, *lag));
            }
            None if progress.num_input_rows == 0 => {}
            None => say(line(progress, *lag)),
        },
        Step::Streamed => {
            if let Some(bar) = bar {
                bar.finish();
            }
        }
    }
}

fn print(outcome: &Outcome, args: &DemoArgs) -> Result<(), Error> {
    let seconds = outcome.streaming.as_secs_f64();
    eprintln!(
        "{} users in {} batches and {seconds:.2} s: {} rows/s; the first batch was committed after {:.2} s",
        thousands(outcome.rows),
        outcome.batches,
        thousands((outcome.rows as f64 / seconds) as u64),
        outcome.first_batch.as_secs_f64(),
    );
    let mut results = Results::new(io::stdout().lock(), Format::Table);
    for (number, (_, sql, rows)) in outcome.results.iter().enumerate() {
        eprintln!("\n{sql}");
        if let Some(first) = rows.first() {
            results.write(number as u32, &first.schema(), rows)?;
        }
        results.finish()?;
    }
    if let Some(folder) = &outcome.kept {
        eprintln!("\ntables and checkpoints stay in {}", folder.display());
    }
    eprintln!("{}", hint(args));
    Ok(())
}

/// How to do the same on real services.
fn hint(args: &DemoArgs) -> String {
    let kafka = args.kafka.as_deref().unwrap_or("localhost:9092");
    let cassandra = args.cassandra.as_deref().unwrap_or("localhost:9042");
    format!(
        "\nThe same on real services:\n  headwater demo --kafka {kafka} --cassandra {cassandra}\nas a cluster that goes \
         on:\n  headwater standalone\n  headwater submit examples/users.sql --set kafka={kafka} --set \
         cassandra={cassandra}\n  headwater sql \"SELECT country, count(*) FROM created_users GROUP BY country\""
    )
}

fn print_json(outcome: &Outcome, args: &DemoArgs) -> Result<(), Error> {
    let seconds = outcome.streaming.as_secs_f64();
    let mut object = json!({
        "rows": outcome.rows,
        "count": outcome.count,
        "batches": outcome.batches,
        "seconds": seconds,
        "rowsPerSecond": outcome.rows as f64 / seconds,
        "firstBatchSeconds": outcome.first_batch.as_secs_f64(),
        "seed": args.seed,
        "partitions": args.partitions,
        "executors": args.executors,
        "kept": outcome.kept,
    });
    for (title, _, rows) in &outcome.results {
        match *title {
            "by country" => object["byCountry"] = json_rows(rows)?,
            "newest" => object["newest"] = json_rows(rows)?,
            // The number of users is in `count`.
            _ => {}
        }
    }
    writeln!(io::stdout().lock(), "{object}")?;
    Ok(())
}
