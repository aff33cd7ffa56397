//! Progress of a query: reports in Spark's shape from facts measured by the run, kept for whoever asks, and sent to
//! whoever follows.

use crate::metrics::QueryMetrics;
use crate::streaming::trouble::{self, Streak};
use headwater_proto::engine::QueryStatus;
use headwater_proto::error::Error;
use headwater_proto::ids::{QueryId, RunId};
use headwater_proto::progress::{SinkProgress, SourceProgress, StreamingQueryProgress};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{broadcast, watch};

/// Reports kept: Spark's `spark.sql.streaming.numRecentProgressUpdates`.
const RECENT_MAX: usize = 100;

/// States of a query, as the command line shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A batch is being decided or run.
    Running,
    /// For data, for the next trigger, or for executors.
    Waiting,
    /// The last attempt failed for a reason that may pass.
    Retrying,
    /// A user stopped it.
    Stopped,
    /// Its trigger has nothing more to do.
    Finished,
    /// It failed and will not go on by itself.
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] =
        [State::Running, State::Waiting, State::Retrying, State::Stopped, State::Finished, State::Failed];
    /// As the command line writes it.
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "RUNNING",
            State::Waiting => "WAITING",
            State::Retrying => "RETRYING",
            State::Stopped => "STOPPED",
            State::Finished => "FINISHED",
            State::Failed => "FAILED",
        }
    }
    /// Whether a run goes on.
    pub fn is_active(self) -> bool {
        matches!(self, State::Running | State::Waiting | State::Retrying)
    }
}

/// What one source did in a trigger.
#[derive(Debug, Clone)]
pub struct SourceFacts {
    /// As Spark describes it.
    pub description: String,
    /// JSON texts.
    pub start: String,
    /// JSON texts.
    pub end: String,
    /// JSON texts.
    pub latest: String,
    /// Rows read.
    pub rows: u64,
    /// Records not read yet, when countable.
    pub lag: Option<u64>,
    /// The same by topic and partition, for a source that has them.
    pub partition_lag: Vec<(String, i32, u64)>,
    /// The source's own metrics.
    pub metrics: BTreeMap<String, String>,
}

/// What a trigger did.
#[derive(Debug, Clone)]
pub struct TriggerFacts {
    /// When it began.
    pub started: SystemTime,
    /// Since the trigger before began; none for the first.
    pub since_previous: Option<Duration>,
    /// The batch that ran, or would run next.
    pub batch_id: u64,
    /// By Spark's phase names.
    pub phases: BTreeMap<&'static str, Duration>,
    /// The whole of it.
    pub duration: Duration,
    /// Each source.
    pub sources: Vec<SourceFacts>,
    /// As Spark describes the sink.
    pub sink: String,
    /// Rows written; none for an idle trigger.
    pub rows_written: Option<u64>,
    /// Rows that the sink could not use, and requests it repeated.
    pub sink_metrics: BTreeMap<String, String>,
}

/// The report of a trigger. Pure.
pub fn report(id: QueryId, run: RunId, name: &str, facts: &TriggerFacts) -> StreamingQueryProgress {
    let rate = |rows: u64, over: Option<Duration>| match over {
        Some(over) if !over.is_zero() => rows as f64 / over.as_secs_f64(),
        _ => 0.0,
    };
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::String(text.to_string()));
    let rows = facts.sources.iter().map(|source| source.rows).sum();
    StreamingQueryProgress {
        id: id.to_string(),
        run_id: run.to_string(),
        name: (!name.is_empty()).then(|| name.to_string()),
        timestamp: timestamp(facts.started),
        batch_id: facts.batch_id as i64,
        batch_duration: facts.duration.as_millis() as i64,
        num_input_rows: rows as i64,
        input_rows_per_second: rate(rows, facts.since_previous),
        processed_rows_per_second: rate(rows, Some(facts.duration)),
        duration_ms: facts.phases.iter().map(|(phase, took)| (phase.to_string(), took.as_millis() as i64)).collect(),
        event_time: BTreeMap::new(),
        state_operators: vec![],
        sources: facts
            .sources
            .iter()
            .map(|source| SourceProgress {
                description: source.description.clone(),
                start_offset: json(&source.start),
                end_offset: json(&source.end),
                latest_offset: json(&source.latest),
                num_input_rows: source.rows as i64,
                input_rows_per_second: rate(source.rows, facts.since_previous),
                processed_rows_per_second: rate(source.rows, Some(facts.duration)),
                metrics: source.metrics.clone(),
            })
            .collect(),
        sink: SinkProgress {
            description: facts.sink.clone(),
            num_output_rows: facts.rows_written.map_or(-1, |rows| rows as i64),
            metrics: facts.sink_metrics.clone(),
        },
        observed_metrics: serde_json::Map::new(),
    }
}

/// ISO-8601 in UTC with milliseconds, as Spark writes it.
pub fn timestamp(at: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(at).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// One report and the status right after it.
#[derive(Debug, Clone)]
pub struct Report {
    /// The report.
    pub progress: Arc<StreamingQueryProgress>,
    /// The status.
    pub status: QueryStatus,
}

/// What a query did, for whoever listens to all of them.
#[derive(Debug, Clone)]
pub struct QueryEvent {
    /// The session that started the query; none when the scheduler resumed it, or SQL started it.
    pub owner: Option<Arc<str>>,
    /// Of the query.
    pub id: String,
    /// Of the run.
    pub run_id: String,
    /// What.
    pub kind: EventKind,
}

/// What a query did.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// A batch ended.
    Progress(Arc<StreamingQueryProgress>),
    /// Nothing was there to be done, for a while.
    Idle {
        /// When the trigger began that found nothing: as in reports.
        timestamp: String,
    },
    /// The run has ended.
    Terminated {
        /// Of what it failed.
        error: Option<Error>,
    },
}

/// What a query computes, for people.
#[derive(Debug, Clone, Default)]
pub struct Explained {
    /// Before optimization.
    pub logical: String,
    /// As executors get it.
    pub physical: String,
}

/// A report, and whether a batch ran: idle triggers are reported too.
#[derive(Debug, Clone)]
struct Kept {
    progress: Arc<StreamingQueryProgress>,
    ran: bool,
}

/// What is known of a query from outside its run. Shared by the run, which writes, and everybody else.
#[derive(Debug)]
pub struct Monitor {
    status: watch::Sender<QueryStatus>,
    recent: Mutex<VecDeque<Kept>>,
    reports: broadcast::Sender<Report>,
    /// When the last trigger that found nothing new began to look.
    found_nothing: watch::Sender<Option<Instant>>,
    explained: Mutex<Option<Arc<Explained>>>,
    metrics: QueryMetrics,
    /// See [`QueryEvent::owner`].
    owner: Option<Arc<str>>,
    events: Option<broadcast::Sender<QueryEvent>>,
}

impl Monitor {
    /// Begins with this status.
    pub fn new(status: QueryStatus) -> Self {
        Self {
            status: watch::Sender::new(status),
            recent: Mutex::default(),
            reports: broadcast::Sender::new(RECENT_MAX),
            found_nothing: watch::Sender::new(None),
            explained: Mutex::default(),
            metrics: QueryMetrics::default(),
            owner: None,
            events: None,
        }
    }
    /// Tells `events` what the query does, in the name of the session that owns it.
    #[must_use]
    pub fn telling(mut self, owner: Option<Arc<str>>, events: broadcast::Sender<QueryEvent>) -> Self {
        self.owner = owner;
        self.events = Some(events);
        self
    }
    /// The session that started the query, if it is one of Spark Connect.
    pub fn owner(&self) -> Option<&Arc<str>> {
        self.owner.as_ref()
    }
    /// Tells listeners. Nobody listening is no error.
    pub fn tell(&self, id: impl Into<String>, run_id: impl Into<String>, kind: EventKind) {
        if let Some(events) = &self.events {
            let _ = events.send(QueryEvent { owner: self.owner.clone(), id: id.into(), run_id: run_id.into(), kind });
        }
    }
    /// A trigger that began to look for data at `began` found none.
    pub fn set_found_nothing(&self, began: Instant) {
        self.found_nothing.send_replace(Some(began));
    }
    /// Since when nothing new was there, as it changes.
    pub fn found_nothing(&self) -> watch::Receiver<Option<Instant>> {
        self.found_nothing.subscribe()
    }
    /// What the run computes.
    pub fn set_explained(&self, explained: Explained) {
        *self.explained.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(explained));
    }
    /// What the run computes, once it is planned.
    pub fn explained(&self) -> Option<Arc<Explained>> {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// The status now.
    pub fn status(&self) -> QueryStatus {
        self.status.borrow().clone()
    }
    /// The status as it changes.
    pub fn watch(&self) -> watch::Receiver<QueryStatus> {
        self.status.subscribe()
    }
    /// Changes the status; nobody is woken when it is as before.
    pub fn update(&self, change: impl FnOnce(&mut QueryStatus)) {
        self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
    /// State and what it is doing.
    pub fn set(&self, state: State, message: impl Into<String>) {
        let message = message.into();
        self.update(|status| {
            status.state = state.name().into();
            status.message = message;
            status.trouble = None;
        });
    }
    /// What the run does, unless an error before stays to be seen until the query is past where it failed.
    pub fn set_going_on(&self, message: &str) {
        self.update(|status| {
            if status.state != State::Retrying.name() {
                status.state = State::Running.name().into();
                status.message = message.into();
            }
        });
    }
    /// The pause after a failed attempt is over.
    pub fn set_trying_again(&self, error: &Error, streak: Streak) {
        self.update(|status| status.message = trouble::under_way(error, streak));
    }
    /// An attempt failed, and is to be repeated after a pause.
    pub fn set_retrying(&self, error: &Error, streak: Streak, pause: Duration) {
        self.metrics.retries.inc();
        self.update(|status| {
            status.state = State::Retrying.name().into();
            status.message = trouble::message(error, streak, pause);
            status.trouble = Some(trouble::of(error, streak, SystemTime::now() + pause));
        });
    }
    /// What the query counts.
    pub fn metrics(&self) -> &QueryMetrics {
        &self.metrics
    }
    /// The reports kept, oldest first.
    pub fn recent(&self) -> Vec<Arc<StreamingQueryProgress>> {
        self.locked_recent().iter().map(|kept| Arc::clone(&kept.progress)).collect()
    }
    /// The reports kept of batches that a run ran, oldest first.
    pub fn batches(&self, run_id: &str) -> Vec<Arc<StreamingQueryProgress>> {
        let recent = self.locked_recent();
        let batches = recent.iter().filter(|kept| kept.ran && kept.progress.run_id == run_id);
        batches.map(|kept| Arc::clone(&kept.progress)).collect()
    }
    /// Reports from now on. A follower too slow misses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Report> {
        self.reports.subscribe()
    }
    /// Takes a new report. `lag`: records behind over all sources. `ran`: a batch, not an idle trigger.
    pub fn report(&self, progress: StreamingQueryProgress, lag: Option<u64>, ran: bool) {
        let progress = Arc::new(progress);
        self.update(|status| {
            status.batch_id = progress.batch_id;
            status.input_rows_per_second = progress.input_rows_per_second;
            status.processed_rows_per_second = progress.processed_rows_per_second;
            status.lag_records = lag.map_or(-1, |lag| lag as i64);
            let bad_rows = progress.sink.bad_rows();
            if bad_rows > 0 {
                status.bad_rows += bad_rows;
                status.bad_records = progress.sink.bad_records().into();
            }
        });
        {
            let mut recent = self.locked_recent();
            if recent.len() == RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(Kept { progress: Arc::clone(&progress), ran });
        }
        let kind = match ran {
            true => EventKind::Progress(Arc::clone(&progress)),
            false => EventKind::Idle { timestamp: progress.timestamp.clone() },
        };
        self.tell(&progress.id, &progress.run_id, kind);
        // Nobody following is no error.
        let _ = self.reports.send(Report { progress, status: self.status() });
    }
    fn locked_recent(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_pyspark_parses_is_there() {
        let facts = TriggerFacts {
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            since_previous: Some(Duration::from_secs(2)),
            batch_id: 7,
            phases: BTreeMap::from([("addBatch", Duration::from_millis(40))]),
            duration: Duration::from_millis(500),
            sources: vec![SourceFacts {
                description: "KafkaV2[Subscribe[t]]".into(),
                start: r#"{"t":{"0":1}}"#.into(),
                end: r#"{"t":{"0":101}}"#.into(),
                latest: r#"{"t":{"0":101}}"#.into(),
                rows: 100,
                lag: Some(0),
                partition_lag: vec![],
                metrics: BTreeMap::new(),
            }],
            sink: "noop".into(),
            rows_written: Some(100),
            sink_metrics: BTreeMap::new(),
        };
        let progress = report(QueryId::random(), RunId::random(), "users", &facts);
        let json = serde_json::to_value(&progress).unwrap();
        for field in "id runId name timestamp batchId batchDuration durationMs eventTime stateOperators sources sink \
                      numInputRows inputRowsPerSecond processedRowsPerSecond observedMetrics"
            .split_whitespace()
        {
            assert!(json.get(field).is_some(), "{field}");
        }
        for field in "description startOffset endOffset latestOffset numInputRows inputRowsPerSecond \
                      processedRowsPerSecond metrics"
            .split_whitespace()
        {
            assert!(json["sources"][0].get(field).is_some(), "sources.{field}");
        }
        assert_eq!(json["timestamp"], "1970-01-01T00:00:01.500Z");
        assert_eq!(
            (json["inputRowsPerSecond"].as_f64(), json["processedRowsPerSecond"].as_f64()),
            (Some(50.0), Some(200.0))
        );
        assert_eq!(json["sources"][0]["endOffset"]["t"]["0"], 101);
        assert_eq!(json["sink"], serde_json::json!({"description": "noop", "numOutputRows": 100, "metrics": {}}));
    }
}
