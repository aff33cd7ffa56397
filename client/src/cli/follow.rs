//! Following queries until they end: one task a query reads its reports, one loop shows them.
//!
//! A scheduler that goes away is waited for, since its queries resume by themselves when it is back; reports seen
//! before are left out.

use super::output::thousands;
use super::{Error, output};
use crate::remote::{Error as RemoteError, Remote};
use headwater_proto::engine::{ProgressReport, QueryStatus, Trouble};
use headwater_proto::progress::StreamingQueryProgress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a scheduler may be away: long enough for a restart, short enough to be told of a dead one.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Between attempts to reach it, growing.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Reports of all queries that wait to be shown; a follower waits beyond.
const EVENTS_MAX: usize = 256;

/// What happens to a followed query.
#[derive(Debug)]
pub enum Event {
    /// A batch ended.
    Report {
        /// The query, as it was when the report was made.
        status: Option<QueryStatus>,
        /// Spark's progress report, and its text.
        progress: Box<StreamingQueryProgress>,
        /// The report as it came.
        json: String,
    },
    /// Only the state is new.
    Status(QueryStatus),
    /// The scheduler is away.
    Away {
        /// Id of the query.
        id: String,
        /// What the transport said.
        cause: String,
    },
    /// The query is no longer active.
    Ended(QueryStatus),
}

/// Whether a query in `state` may still run batches.
pub fn is_active(state: &str) -> bool {
    matches!(state, "RUNNING" | "WAITING" | "RETRYING")
}

/// Follows queries from their recent reports on. The followers end when this is dropped.
pub struct Follower {
    events: mpsc::Receiver<Result<Event, Error>>,
    _tasks: JoinSet<()>,
}

impl Follower {
    /// Follows the queries of these ids.
    pub fn new(remote: &Remote, ids: impl IntoIterator<Item = String>) -> Self {
        let (send, events) = mpsc::channel(EVENTS_MAX);
        let mut tasks = JoinSet::new();
        for id in ids {
            let (remote, send) = (remote.clone(), send.clone());
            tasks.spawn(async move {
                if let Err(error) = follow(&remote, &id, &send).await {
                    // Nobody listens any more when this fails.
                    let _ = send.send(Err(error)).await;
                }
            });
        }
        Self { events, _tasks: tasks }
    }

    /// What happens next; none when every query has ended.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        self.events.recv().await.transpose()
    }
}

/// Sends what happens to one query until it has ended or nobody listens.
async fn follow(remote: &Remote, id: &str, send: &mpsc::Sender<Result<Event, Error>>) -> Result<(), Error> {
    // Reports of one query differ in their timestamps, whose texts sort as the moments do.
    let mut newest = String::new();
    let mut away_since: Option<Instant> = None;
    let mut pause = RETRY_FIRST;
    loop {
        match follow_once(remote, id, send, &mut newest, &mut away_since).await {
            Ok(Some(status)) if !is_active(&status.state) => {
                let _ = send.send(Ok(Event::Ended(status))).await;
                return Ok(());
            }
            // The scheduler ended the stream of an active query: it is about to leave.
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) if error.is_away() => {
                let since = *away_since.get_or_insert_with(|| {
                    pause = RETRY_FIRST;
                    Instant::now()
                });
                if since.elapsed() > AWAY_MAX {
                    return Err(error.into());
                }
                if pause == RETRY_FIRST
                    && send.send(Ok(Event::Away { id: id.to_string(), cause: error.to_string() })).await.is_err()
                {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
        if away_since.is_some() {
            // Another of several may lead by now; when none does, the next attempt says why.
            let _ = remote.find_again().await;
        }
    }
}

/// One stream of reports. Gives the query's status at its end, none when nobody listens.
async fn follow_once(
    remote: &Remote,
    id: &str,
    send: &mpsc::Sender<Result<Event, Error>>,
    newest: &mut String,
    away_since: &mut Option<Instant>,
) -> Result<Option<QueryStatus>, RemoteError> {
    let mut reports = remote.progress(id, true).await?;
    *away_since = None;
    while let Some(report) = reports.next().await? {
        if let Some(event) = event(report, newest)
            && send.send(event).await.is_err()
        {
            return Ok(None);
        }
    }
    Ok(Some(remote.get(id).await?))
}

/// What a report says that was not said before.
fn event(report: ProgressReport, newest: &mut String) -> Option<Result<Event, Error>> {
    if report.json.is_empty() {
        return report.status.map(|status| Ok(Event::Status(status)));
    }
    let progress: StreamingQueryProgress = match serde_json::from_str(&report.json) {
        Ok(progress) => progress,
        Err(error) => {
            return Some(Err(Error::Failed(format!(
                "[MALFORMED_PROGRESS] the scheduler sent a progress report that is none ({error}): {}",
                report.json
            ))));
        }
    };
    if progress.timestamp <= *newest {
        return None;
    }
    newest.clone_from(&progress.timestamp);
    Some(Ok(Event::Report { status: report.status, progress: Box::new(progress), json: report.json }))
}

/// Records behind the latest offsets, when the report says so.
pub fn lag(status: Option<&QueryStatus>) -> Option<u64> {
    status.and_then(|status| u64::try_from(status.lag_records).ok())
}

/// Rows that were read, and how many of them could not be written, if any. `bad_records`: what was done about those, by
/// the value of option `headwater.badRecords`.
fn rows(rows: u64, bad_rows: u64, bad_records: &str) -> String {
    match bad_rows {
        0 => format!("{} rows", thousands(rows)),
        _ => format!("{} rows, {} bad{}", thousands(rows), thousands(bad_rows), done_about(bad_records)),
    }
}

/// What was done about rows that could not be written, in brackets.
pub fn done_about(bad_records: &str) -> &'static str {
    match bad_records {
        "skip" => " (skipped)",
        "dead-letter" => " (dead-lettered)",
        _ => "",
    }
}

/// One line on a batch.
pub fn line(progress: &StreamingQueryProgress, lag: Option<u64>) -> String {
    let lag = lag.map_or_else(|| "unknown".to_string(), thousands);
    let sink = &progress.sink;
    format!(
        "batch {} · {} · {} rows/s · {} ms · lag {lag}",
        progress.batch_id,
        rows(progress.num_input_rows.max(0) as u64, sink.bad_rows(), sink.bad_records()),
        thousands(progress.processed_rows_per_second.max(0.0) as u64),
        progress.batch_duration,
    )
}

/// How a query is called in lines for people.
pub fn title(status: &QueryStatus) -> &str {
    if status.name.is_empty() { status.id.get(..8).unwrap_or(&status.id) } else { &status.name }
}

/// That a query has failed, and why.
pub fn failure(status: &QueryStatus) -> String {
    let name = if status.name.is_empty() { &status.id } else { &status.name };
    let message = if status.message.is_empty() { "it gave no reason" } else { &status.message };
    format!("query {name} failed: {message}")
}

/// A query as `--json` prints it.
pub fn status_json(status: &QueryStatus) -> Value {
    json!({
        "id": status.id,
        "runId": status.run_id,
        "name": Some(&status.name).filter(|name| !name.is_empty()),
        "state": status.state,
        "batchId": status.batch_id,
        "inputRowsPerSecond": status.input_rows_per_second,
        "processedRowsPerSecond": status.processed_rows_per_second,
        "lag": Some(status.lag_records).filter(|lag| *lag >= 0),
        "badRows": status.bad_rows,
        "badRecords": Some(&status.bad_records).filter(|policy| !policy.is_empty()),
        "message": status.message,
        "trouble": status.trouble.as_ref().map(Trouble::json),
    })
}

/// Shows what happens: bars on a terminal, one line a report elsewhere, JSON lines when asked for.
pub struct Display {
    json: bool,
    bars: Option<MultiProgress>,
    shown: HashMap<String, Shown>,
}

struct Shown {
    title: String,
    rows: u64,
    bad_rows: u64,
    /// What was done about the last of these.
    bad_records: String,
    state: String,
    bar: Option<ProgressBar>,
}

impl Display {
    /// For these queries.
    pub fn new(json: bool, queries: &[QueryStatus]) -> Self {
        let bars = (!json && io::stderr().is_terminal()).then(MultiProgress::new);
        let shown = queries
            .iter()
            .map(|query| {
                let bar = bars.as_ref().map(|bars| {
                    let bar = bars.add(ProgressBar::new_spinner().with_style(spinner()));
                    bar.set_prefix(title(query).to_string());
                    bar.set_message("no batch yet");
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
                let shown = Shown {
                    title: title(query).to_string(),
                    rows: 0,
                    bad_rows: 0,
                    bad_records: String::new(),
                    state: query.state.clone(),
                    bar,
                };
                (query.id.clone(), shown)
            })
            .collect();
        Self { json, bars, shown }
    }

    /// A line for people, above the bars.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Report { status, progress, json } => {
                if self.json {
                    writeln!(io::stdout().lock(), "{json}")?;
                    return Ok(());
                }
                let Some(shown) = self.shown.get_mut(&progress.id) else { return Ok(()) };
                shown.rows += progress.num_input_rows.max(0) as u64;
                let bad_rows = progress.sink.bad_rows();
                if bad_rows > 0 {
                    shown.bad_rows += bad_rows;
                    shown.bad_records = progress.sink.bad_records().into();
                }
                let text = format!("{} · {} in all", line(progress, lag(status.as_ref())), thousands(shown.rows));
                match &shown.bar {
                    Some(bar) => bar.set_message(text),
                    // An idle trigger's report says nothing that a line is worth.
                    None if progress.num_input_rows == 0 => {}
                    None => eprintln!("{}: {text}", shown.title),
                }
                if let Some(status) = status {
                    self.state(status);
                }
            }
            Event::Status(status) if self.json => writeln!(io::stdout().lock(), "{}", status_json(status))?,
            Event::Status(status) => self.state(status),
            Event::Away { id, cause } => {
                let title = self.shown.get(id).map_or(id.as_str(), |shown| shown.title.as_str());
                self.say(&format!("{title}: {cause}; waiting up to {} s for it", AWAY_MAX.as_secs()));
            }
            Event::Ended(status) => {
                if self.json {
                    writeln!(io::stdout().lock(), "{}", status_json(status))?;
                }
                if let Some(bar) = self.shown.get(&status.id).and_then(|shown| shown.bar.as_ref()) {
                    bar.abandon();
                }
                let all = match self.shown.get(&status.id) {
                    Some(shown) => rows(shown.rows, shown.bad_rows, &shown.bad_records),
                    None => rows(0, 0, ""),
                };
                let state = output::state(&status.state, self.bars.is_some() && output::colours());
                self.say(&match status.state.as_str() {
                    "FAILED" => format!("error: {}", failure(status)),
                    _ => format!("{}: {state} after {all}", title(status)),
                });
            }
        }
        Ok(())
    }

    /// Says when a query's state has changed to one that the user should know of.
    fn state(&mut self, status: &QueryStatus) {
        let Some(shown) = self.shown.get_mut(&status.id) else { return };
        if shown.state == status.state {
            return;
        }
        shown.state.clone_from(&status.state);
        if status.state == "RETRYING" {
            self.say(&format!("{}: RETRYING {}", title(status), status.message));
        }
    }

    /// Takes the bars off the terminal.
    pub fn end(&self) -> io::Result<()> {
        self.bars.as_ref().map_or(Ok(()), MultiProgress::clear)
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}: {wide_msg}").expect("the template is well formed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::progress::SinkProgress;
    use serde_json::Map;
    use std::collections::BTreeMap;

    fn progress(timestamp: &str) -> StreamingQueryProgress {
        StreamingQueryProgress {
            id: "i".into(),
            run_id: "r".into(),
            name: None,
            timestamp: timestamp.into(),
            batch_id: 3,
            batch_duration: 12,
            num_input_rows: 1500,
            input_rows_per_second: 0.0,
            processed_rows_per_second: 125_000.0,
            duration_ms: BTreeMap::new(),
            event_time: BTreeMap::new(),
            state_operators: vec![],
            sources: vec![],
            sink: SinkProgress { description: "noop".into(), num_output_rows: -1, metrics: BTreeMap::new() },
            observed_metrics: Map::new(),
        }
    }

    #[test]
    fn lines() {
        assert_eq!(line(&progress("t"), Some(0)), "batch 3 · 1,500 rows · 125,000 rows/s · 12 ms · lag 0");
        assert!(line(&progress("t"), None).ends_with("lag unknown"));
        let check = |bad_rows: &str, bad_records: &str, expect: &str| {
            let mut progress = progress("t");
            progress.sink.metrics.insert(SinkProgress::BAD_ROWS.into(), bad_rows.into());
            progress.sink.metrics.insert(SinkProgress::BAD_RECORDS.into(), bad_records.into());
            let line = line(&progress, Some(0));
            assert!(line.starts_with(&format!("batch 3 · {expect} · ")), "{line}");
        };
        check("0", "", "1,500 rows");
        check("4", "dead-letter", "1,500 rows, 4 bad (dead-lettered)");
        check("1200", "skip", "1,500 rows, 1,200 bad (skipped)");
        check("1", "another", "1,500 rows, 1 bad");
    }

    #[test]
    fn failures_name_the_query() {
        let status = QueryStatus { id: "1".into(), message: "[X] gone".into(), ..QueryStatus::default() };
        assert_eq!(failure(&status), "query 1 failed: [X] gone");
    }

    #[test]
    fn reports_are_shown_once() {
        let mut newest = String::new();
        let mut check = |timestamp: &str, new: bool| {
            let json = serde_json::to_string(&progress(timestamp)).expect("a report is JSON");
            let seen = event(ProgressReport { json, status: None }, &mut newest);
            assert_eq!(matches!(seen, Some(Ok(Event::Report { .. }))), new, "{timestamp}");
        };
        check("2024-01-01T00:00:00.000Z", true);
        check("2024-01-01T00:00:00.100Z", true);
        check("2024-01-01T00:00:00.000Z", false);
        check("2024-01-01T00:00:00.100Z", false);
        check("2024-01-01T00:00:01.000Z", true);
        let bad = event(ProgressReport { json: "{".into(), status: None }, &mut newest);
        assert!(matches!(bad, Some(Err(Error::Failed(_)))));
        assert!(event(ProgressReport { json: String::new(), status: None }, &mut newest).is_none());
    }

    #[test]
    fn json_of_a_query() {
        let status = QueryStatus { id: "i".into(), lag_records: -1, batch_id: -1, ..QueryStatus::default() };
        let value = status_json(&status);
        let keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "id",
                "runId",
                "name",
                "state",
                "batchId",
                "inputRowsPerSecond",
                "processedRowsPerSecond",
                "lag",
                "badRows",
                "badRecords",
                "message",
                "trouble"
            ]
        );
        assert_eq!((&value["lag"], &value["name"], &value["batchId"]), (&Value::Null, &Value::Null, &json!(-1)));
    }
}
