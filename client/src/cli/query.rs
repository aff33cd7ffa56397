//! `headwater query`: what the scheduler knows of streaming queries, and what to do with them.

use super::args::{QueryArgs, QueryCommand};
use super::follow::{Event, Follower, done_about, failure, lag, line, status_json};
use super::{Error, output, unless_interrupted};
use crate::remote::Remote;
use headwater_proto::engine::{ProgressReport, QueryStatus};
use headwater_proto::progress::StreamingQueryProgress;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs the command.
pub async fn run(args: QueryArgs) -> Result<(), Error> {
    unless_interrupted(command(args)).await
}

async fn command(args: QueryArgs) -> Result<(), Error> {
    let remote = Remote::connect(&args.scheduler).await?;
    match args.command {
        QueryCommand::List => list(&remote.list().await?, args.json),
        QueryCommand::Status { id } => one(&remote.get(&id).await?, args.json),
        QueryCommand::Progress { id, follow: false } => progress(&remote, &id, args.json).await,
        QueryCommand::Progress { id, follow: true } => follow(&remote, &id, args.json).await,
        QueryCommand::Stop { id } => one(&remote.stop(&id).await?, args.json),
        QueryCommand::Restart { id } => one(&remote.restart(&id).await?, args.json),
        QueryCommand::Delete { id } => {
            let status = remote.delete(&id).await?;
            if args.json {
                return one(&status, true);
            }
            writeln!(io::stdout().lock(), "deleted {} {}", status.id, status.name)?;
            Ok(())
        }
    }
}

fn list(queries: &[QueryStatus], json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if json {
        let rows: Vec<_> = queries.iter().map(status_json).collect();
        writeln!(out, "{}", Value::from(rows))?;
        return Ok(());
    }
    let colours = output::colours();
    let rows: Vec<_> = queries
        .iter()
        .map(|query| {
            vec![
                query.id.clone(),
                query.name.clone(),
                output::state(&query.state, colours),
                batch(query.batch_id),
                rate(query.input_rows_per_second),
                rate(query.processed_rows_per_second),
                lag(Some(query)).map_or_else(|| "-".into(), output::thousands),
                first_line(&query.message),
            ]
        })
        .collect();
    let header = ["ID", "NAME", "STATE", "BATCH", "IN/S", "DONE/S", "LAG", "MESSAGE"];
    output::columns(&mut out, &header, &rows)?;
    Ok(())
}

/// A list has one line for each query; `status` has the whole message.
fn first_line(message: &str) -> String {
    const SHOWN: usize = 80;
    let line = message.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_string(),
    }
}

/// A batch id; before the first batch there is none.
fn batch(id: i64) -> String {
    if id < 0 { "-".into() } else { id.to_string() }
}

fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { output::thousands(rate as u64) }
}

fn one(query: &QueryStatus, json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if json {
        let mut value = status_json(query);
        value["checkpoint"] = json!(query.checkpoint);
        value["trigger"] = json!(query.trigger);
        writeln!(out, "{value}")?;
        return Ok(());
    }
    for (name, value) in [
        ("id", query.id.clone()),
        ("run", query.run_id.clone()),
        ("name", query.name.clone()),
        ("state", output::state(&query.state, output::colours())),
        ("batch", batch(query.batch_id)),
        ("in", format!("{} rows/s", rate(query.input_rows_per_second))),
        ("done", format!("{} rows/s", rate(query.processed_rows_per_second))),
        ("lag", lag(Some(query)).map_or_else(|| "unknown".into(), |lag| format!("{} records", output::thousands(lag)))),
        ("bad", bad(query)),
        ("trigger", query.trigger.clone()),
        ("checkpoint", query.checkpoint.clone()),
        ("message", query.message.clone()),
    ]
    .into_iter()
    .chain(query.trouble.iter().flat_map(|trouble| trouble.lines(now_ms())))
    {
        if !value.is_empty() {
            writeln!(out, "{name:<12}{value}")?;
        }
    }
    Ok(())
}

/// Rows that were not written; nothing when there are none.
fn bad(query: &QueryStatus) -> String {
    let because = match query.bad_records.as_str() {
        "skip" => "; the logs of executors say why",
        "dead-letter" => "; each letter says why",
        _ => "",
    };
    match query.bad_rows {
        0 => String::new(),
        rows => {
            let rows = output::thousands(rows);
            format!("{rows} rows{} since the scheduler started{because}", done_about(&query.bad_records))
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

const HEADER: [&str; 8] = ["BATCH", "TIME", "ROWS", "BAD", "IN/S", "DONE/S", "MS", "LAG"];

fn row(progress: &StreamingQueryProgress, lag: Option<u64>) -> Vec<String> {
    vec![
        progress.batch_id.to_string(),
        progress.timestamp.clone(),
        output::thousands(progress.num_input_rows.max(0) as u64),
        format!("{}{}", output::thousands(progress.sink.bad_rows()), done_about(progress.sink.bad_records())),
        rate(progress.input_rows_per_second),
        rate(progress.processed_rows_per_second),
        progress.batch_duration.to_string(),
        lag.map_or_else(|| "-".into(), output::thousands),
    ]
}

async fn progress(remote: &Remote, id: &str, json: bool) -> Result<(), Error> {
    let mut reports = remote.progress(id, false).await?;
    let mut all = Vec::new();
    while let Some(report) = reports.next().await? {
        if !report.json.is_empty() {
            all.push(report);
        }
    }
    let mut out = io::stdout().lock();
    if json {
        let values = all.iter().map(|report| parse(&report.json)).collect::<Result<Vec<Value>, _>>()?;
        writeln!(out, "{}", Value::from(values))?;
        return Ok(());
    }
    let rows = all.iter().map(report_row).collect::<Result<Vec<_>, _>>()?;
    output::columns(&mut out, &HEADER, &rows)?;
    Ok(())
}

fn report_row(report: &ProgressReport) -> Result<Vec<String>, Error> {
    Ok(row(&parse(&report.json)?, lag(report.status.as_ref())))
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| {
        Error::Failed(format!(
            "[MALFORMED_PROGRESS] the scheduler sent a progress report that is none ({error}): {json}"
        ))
    })
}

async fn follow(remote: &Remote, id: &str, json: bool) -> Result<(), Error> {
    let query = remote.get(id).await?;
    let mut follower = Follower::new(remote, [query.id.clone()]);
    loop {
        match follower.next().await? {
            Some(Event::Report { json: text, .. }) if json => writeln!(io::stdout().lock(), "{text}")?,
            Some(Event::Report { status, progress, .. }) => {
                let lag = lag(status.as_ref());
                writeln!(io::stdout().lock(), "{} {}", progress.timestamp, line(&progress, lag))?;
            }
            Some(Event::Away { cause, .. }) => eprintln!("{cause}"),
            Some(Event::Ended(status)) if status.state == "FAILED" => {
                return Err(Error::Failed(failure(&status)));
            }
            Some(Event::Ended(status)) => eprintln!("{}: {}", status.id, status.state),
            Some(Event::Status(_)) => {}
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        fn check(value: f64, expect: &str) {
            assert_eq!(rate(value), expect);
        }
        check(0.0, "0.0");
        check(9.94, "9.9");
        check(12_345.6, "12,345");
    }

    #[test]
    fn no_batch_yet() {
        assert_eq!((batch(-1), batch(0)), ("-".to_string(), "0".to_string()));
    }

    #[test]
    fn bad_rows() {
        let check = |bad_rows: u64, bad_records: &str, expect: &str| {
            let status = QueryStatus { bad_rows, bad_records: bad_records.into(), ..QueryStatus::default() };
            assert_eq!(bad(&status), expect);
        };
        check(0, "", "");
        check(1200, "skip", "1,200 rows (skipped) since the scheduler started; the logs of executors say why");
        check(4, "dead-letter", "4 rows (dead-lettered) since the scheduler started; each letter says why");
    }

    #[test]
    fn messages_in_a_list() {
        assert_eq!(first_line("a\nb"), "a");
        assert_eq!(first_line(&"ü".repeat(81)), format!("{}…", "ü".repeat(80)));
    }
}
