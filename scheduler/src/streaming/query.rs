//! One run of a streaming query: the micro-batch protocol, and what to do when it fails.
//!
//! ```text
//!  open, recover ──► decide ──► offsets/N ──► run on executors ──► sink commit ──► commits/N ──┐
//!        ▲             ▲                                                                       │
//!        │             └───────────────────────────────────────────────────────────────────────┘
//!        └── a transient error, after a pause: everything is read again from the checkpoint
//! ```
//!
//! The checkpoint is the only truth: a run keeps nothing that another run could not read there. Every step has a name
//! ([`Step`]) at which tests cut the run off.

use crate::cluster::{Job, JobOutcome};
use crate::execute::Statements;
use crate::ha::Tenure;
use crate::sql::planner::PlannedFlow;
use crate::streaming::batch_time;
use crate::streaming::checkpoint::{self, Checkpoint, CommitEntry, Location, OffsetEntry, OffsetMetadata};
use crate::streaming::progress::{Monitor, SourceFacts, State, TriggerFacts, report};
use crate::streaming::recovery::Decision;
use crate::streaming::trigger::{Trigger, parse_interval};
use crate::streaming::trouble::Streak;
use crate::streaming::unix_ms;
use crate::streaming::work::Work;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use futures::future::try_join_all;
use headwater_executor::connectors::{Limit, LimitContext, Offset};
use headwater_executor::operators::sink::{SinkExec, commit_messages};
use headwater_executor::operators::source_scan::SourceScanExec;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ids::{QueryId, RunId};
use headwater_proto::progress::SinkProgress;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tracing::{Instrument, Span};

/// Between two looks for new data: Spark's `spark.sql.streaming.pollingDelay`.
const POLLING_DELAY: Duration = Duration::from_millis(10);
/// Between two reports of an idle query: Spark's `spark.sql.streaming.noDataProgressEventInterval`.
const IDLE_REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Name of the span of a batch.
const BATCH_SPAN: &str = "batch";
/// First pause after a transient failure; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A batch that has not ended by then is cancelled and run again, with twice as long: a task whose status report was
/// lost never ends by itself. Conf [`BATCH_DEADLINE`].
const BATCH_DEADLINE_DEFAULT: Duration = Duration::from_secs(600);
/// Conf key of the deadline of a batch, such as `10 minutes`.
pub const BATCH_DEADLINE: &str = "headwater.batch.deadline";

/// Class of what is not done since the scheduler shuts down: no failure of it.
const SCHEDULER_ENDS: &str = "SCHEDULER_ENDS";

/// By how much a batch that another run decided is before the next one at least, where the clock does not tell: more
/// than any batch counts on by.
const BATCH_APART: Duration = Duration::from_secs(1);

/// What a query says while nobody can run its batch.
const NO_EXECUTORS: &str = "Waiting for executors: none is connected; start one with: headwater executor";
/// A batch that takes this long says how far it is, and then again each time.
const LONG_BATCH: Duration = Duration::from_secs(10);

/// Steps of the protocol, named for failpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The end offsets are chosen, nothing is written.
    BeforeOffsetWrite,
    /// `offsets/N` is there.
    AfterOffsetWrite,
    /// Every sink task has ended well.
    AfterRun,
    /// The sink has made the batch visible.
    AfterSinkCommit,
    /// `commits/N` is there.
    AfterCommitWrite,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Step; 5] = [
        Step::BeforeOffsetWrite,
        Step::AfterOffsetWrite,
        Step::AfterRun,
        Step::AfterSinkCommit,
        Step::AfterCommitWrite,
    ];
    /// The name by which a failpoint is set.
    pub fn name(self) -> &'static str {
        match self {
            Step::BeforeOffsetWrite => "before-offset-write",
            Step::AfterOffsetWrite => "after-offset-write",
            Step::AfterRun => "after-run",
            Step::AfterSinkCommit => "after-sink-commit",
            Step::AfterCommitWrite => "after-commit-write",
        }
    }
}

/// Called at every step; an error cuts the run off there, as a crash would. Tests only.
pub type Failpoint = Arc<dyn Fn(Step, u64) -> Result<()> + Send + Sync>;

/// What a run needs to know.
#[derive(Clone)]
pub struct RunOptions {
    /// Of the query.
    pub id: QueryId,
    /// Of this run.
    pub run: RunId,
    /// For logs and jobs.
    pub name: String,
    /// Whether a user gave the name: reports leave out one that we made up.
    pub named: bool,
    /// What it computes.
    pub work: Work,
    /// When.
    pub trigger: Trigger,
    /// Where the checkpoint is.
    pub checkpoint: String,
    /// Cuts the run off at a step.
    pub failpoint: Option<Failpoint>,
    /// The right to decide and to commit.
    pub tenure: Tenure,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum End {
    /// It was told to.
    Stopped,
    /// Its trigger has nothing more to do.
    Finished,
    /// It cannot go on.
    Failed(Error),
}

/// One run.
pub struct Run {
    /// What to do.
    pub options: RunOptions,
    /// Plans the query, and runs its batches.
    pub statements: Statements,
    /// Told of everything.
    pub monitor: Arc<Monitor>,
    /// When to end the run.
    pub stop: watch::Receiver<Told>,
    /// Whether a batch is between its offsets and its commit on the executors.
    pub busy: Arc<AtomicBool>,
}

/// What a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// To go on.
    GoOn,
    /// To end once the batch that runs is committed; at once, when none runs or it is tried again.
    EndAfterBatch,
    /// To end wherever it is.
    EndNow,
}

/// While a batch is under way.
struct Busy<'a>(&'a AtomicBool);

impl<'a> Busy<'a> {
    fn begin(busy: &'a AtomicBool) -> Self {
        busy.store(true, Ordering::SeqCst);
        Self(busy)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Run {
    /// Runs until the query ends.
    pub async fn to_end(self) -> End {
        let span = tracing::info_span!(
            "query", query_id = %self.options.id, run_id = %self.options.run, query = self.options.name
        );
        self.attempts().instrument(span).await
    }

    async fn attempts(mut self) -> End {
        let mut pause = RETRY_MIN;
        let deadline_of_first = match batch_deadline(self.options.work.conf()) {
            Ok(deadline) => deadline,
            Err(error) => return End::Failed(error),
        };
        let mut deadline = deadline_of_first;
        let (mut stop, busy, monitor) = (self.stop.clone(), Arc::clone(&self.busy), Arc::clone(&self.monitor));
        let mut target = None;
        let mut streak: Option<Streak> = None;
        loop {
            let mut committed = false;
            let attempt = self.attempt(&mut committed, &mut target, deadline);
            let error = tokio::select! {
                ended = attempt => match ended {
                    Ok(end) => return end,
                    Err(error) => error,
                },
                // Dropping the attempt cancels its job.
                () = told_to_end(&mut stop, &busy, &monitor) => return End::Stopped,
            };
            if error.class == SCHEDULER_ENDS {
                return End::Stopped;
            }
            if error.kind != ErrorKind::Transient {
                return End::Failed(error);
            }
            if committed {
                pause = RETRY_MIN;
                deadline = deadline_of_first;
                streak = None;
            }
            let failed = streak.get_or_insert(Streak { since: SystemTime::now(), attempts: 0 });
            failed.attempts += 1;
            let failed = *failed;
            if error.class == "JOB_DEADLINE_EXCEEDED" {
                deadline = deadline.saturating_mul(2);
            }
            let (attempts, pause_ms) = (failed.attempts, pause.as_millis() as u64);
            tracing::warn!(%error, attempts, pause_ms, "batch failed, trying again");
            self.monitor.set_retrying(&error, failed, pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ending(&mut stop) => return End::Stopped,
            }
            self.monitor.set_trying_again(&error, failed);
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn step(&self, step: Step, batch_id: u64) -> Result<()> {
        match &self.options.failpoint {
            Some(failpoint) => failpoint(step, batch_id),
            None => Ok(()),
        }
    }

    /// From the checkpoint until the end or the first error. `target`: what trigger available-now drains, found by the
    /// first attempt, so that one that fails does not move the end.
    async fn attempt(
        &mut self,
        committed: &mut bool,
        target: &mut Option<Vec<Offset>>,
        deadline: Duration,
    ) -> Result<End> {
        // An error stays to be seen until the query is past where it failed.
        self.monitor.set_going_on("Initializing sources");
        let RunOptions { work, id, checkpoint, .. } = &self.options;
        let flow = work.plan(&self.statements, &id.to_string(), checkpoint).await?;
        self.monitor.set_explained(flow.explained());
        let session = Arc::new(SessionContext::new_with_state(self.statements.planner.state(work.conf())?));
        let tenure = &self.options.tenure;
        let location = Location::resolve(&self.options.checkpoint).await?.fenced(tenure);
        let options = checkpoint::Options { claim: tenure.claim(), ..Default::default() };
        let checkpoint = Checkpoint::open(location, self.options.run, options).await?;
        if checkpoint.query_id() != self.options.id {
            return Err(Error::fatal(
                "STREAMING_CHECKPOINT_OF_ANOTHER_QUERY",
                format!(
                    "checkpoint {} belongs to query {}, not to {} ({}): name another checkpoint location",
                    checkpoint.location().display(),
                    checkpoint.query_id(),
                    self.options.name,
                    self.options.id
                ),
            ));
        }
        tenure.guard(flow.sink.prepare()).await?;
        let mut batches =
            Batches { run: self, flow: &flow, session, checkpoint: &checkpoint, deadline, previous: None };
        batches.until_end(committed, target).await
    }
}

/// The deadline of a batch that a query's settings name.
///
/// # Errors
/// `INVALID_CONF_VALUE` when it is not an interval, or none at all.
pub fn batch_deadline(conf: &BTreeMap<String, String>) -> Result<Duration> {
    let Some(text) = conf.get(BATCH_DEADLINE) else { return Ok(BATCH_DEADLINE_DEFAULT) };
    let deadline = parse_interval(text).and_then(|deadline| match deadline {
        Duration::ZERO => Err(Error::invalid("INVALID_CONF_VALUE", "no batch could end in time")),
        deadline => Ok(deadline),
    });
    deadline.map_err(|error| {
        Error::invalid(
            "INVALID_CONF_VALUE",
            format!("the value '{text}' in the config \"{BATCH_DEADLINE}\" is invalid: {}", error.message),
        )
    })
}

/// Resolves when the run is to end, after a batch or now.
async fn ending(stop: &mut watch::Receiver<Told>) {
    // The sender gone is a stop as well: nobody could tell this run anything any more.
    let _ = stop.wait_for(|told| *told >= Told::EndAfterBatch).await;
}

/// Resolves when the run is to end where it is: a batch that is under way, and not a repeat of one that failed, is let
/// to its end, after which the run looks by itself.
async fn told_to_end(stop: &mut watch::Receiver<Told>, busy: &AtomicBool, monitor: &Monitor) {
    let finishes = || busy.load(Ordering::SeqCst) && monitor.status().state != State::Retrying.name();
    let now = |told: &Told| *told == Told::EndNow || (*told == Told::EndAfterBatch && !finishes());
    let _ = stop.wait_for(now).await;
}

/// A decided batch.
struct Batch {
    id: u64,
    start: Vec<Offset>,
    end: Vec<Offset>,
    metadata: OffsetMetadata,
}

/// Batch after batch of one attempt.
struct Batches<'a> {
    run: &'a Run,
    flow: &'a PlannedFlow,
    session: Arc<SessionContext>,
    checkpoint: &'a Checkpoint,
    deadline: Duration,
    /// When the trigger before began.
    previous: Option<Instant>,
}

/// Times the phases of a trigger by Spark's names.
struct Phases {
    started_at: SystemTime,
    started: Instant,
    phases: BTreeMap<&'static str, Duration>,
}

impl Phases {
    fn begin() -> Self {
        Self { started_at: SystemTime::now(), started: Instant::now(), phases: BTreeMap::new() }
    }
    async fn time<T>(&mut self, phase: &'static str, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.instrument(phase_span(phase)).await;
        *self.phases.entry(phase).or_default() += began.elapsed();
        done
    }
}

/// A span for a phase of a batch. Before it there is none, or each look at the sources would be a trace of its own.
fn phase_span(phase: &'static str) -> Span {
    match Span::current().metadata() {
        Some(outer) if outer.name() == BATCH_SPAN => tracing::debug_span!("phase", otel.name = phase),
        _ => Span::none(),
    }
}

impl Batches<'_> {
    async fn until_end(&mut self, committed: &mut bool, target: &mut Option<Vec<Offset>>) -> Result<End> {
        let trigger = self.run.options.trigger;
        let monitor = &self.run.monitor;
        let (mut next_id, mut start, mut metadata, rerun) = self.recover().await?;
        if trigger.stops_at_start() && target.is_none() {
            *target = Some(self.latest(&start).await?);
        }
        if let Some(batch) = rerun {
            let mut phases = Phases::begin();
            let latest = match &target {
                Some(target) => target.clone(),
                None => self.latest(&batch.start).await?,
            };
            start = self.run_batch(batch, &latest, &mut phases, committed).await?;
            next_id += 1;
            if trigger.wait(unix_ms(phases.started_at), true, unix_ms(SystemTime::now())).is_none() {
                return Ok(End::Finished);
            }
        }
        // When this run last decided a batch.
        let mut decided: Option<Instant> = None;
        // By source. Who has had none yet waits for no more, as in Spark: an attempt must not begin the wait anew.
        let mut last_data: Vec<Option<Instant>> = vec![None; start.len()];
        let mut last_report = Instant::now();
        loop {
            if *self.run.stop.borrow() >= Told::EndAfterBatch {
                return Ok(End::Stopped);
            }
            let mut phases = Phases::begin();
            let latest = match &target {
                Some(target) => target.clone(),
                None => phases.time("latestOffset", self.latest(&start)).await?,
            };
            let context = |last_data: &Option<Instant>| LimitContext {
                limited: trigger.is_limited(),
                // A trigger that ends does not wait for more.
                since_last_batch: match last_data {
                    Some(at) if !trigger.is_bounded() => at.elapsed(),
                    _ => Duration::MAX,
                },
            };
            let contexts: Vec<_> = last_data.iter().map(context).collect();
            // Spark's newer sources find their end and cut it short in one call, its older ones here.
            let end = phases.time("getOffset", async { self.decide(&start, &latest, &contexts) }).await?;
            let ran = end.is_some();
            if let Some(end) = end {
                monitor.set_going_on("Processing new data");
                let _busy = Busy::begin(&self.run.busy);
                self.run.step(Step::BeforeOffsetWrite, next_id)?;
                let since = decided.replace(phases.started).map(|before| phases.started.duration_since(before));
                metadata.batch_timestamp_ms = batch_timestamp(phases.started_at, &metadata, since);
                let offsets = end.iter().map(|offset| Some(offset.0.clone())).collect();
                let entry = OffsetEntry { metadata: metadata.clone(), offsets };
                let entry = phases.time("walCommit", self.checkpoint.write_offsets(next_id, entry)).await?;
                self.run.step(Step::AfterOffsetWrite, next_id)?;
                metadata = entry.metadata;
                let had_rows: Vec<bool> = end.iter().zip(&start).map(|(end, start)| end != start).collect();
                let batch = Batch { id: next_id, start: start.clone(), end, metadata: metadata.clone() };
                start = self.run_batch(batch, &latest, &mut phases, committed).await?;
                next_id += 1;
                last_report = Instant::now();
                for (last_data, had_rows) in last_data.iter_mut().zip(had_rows) {
                    if had_rows {
                        *last_data = Some(last_report);
                    }
                }
            } else {
                monitor.set(State::Waiting, "Waiting for data to arrive");
                monitor.set_found_nothing(phases.started);
                // There was nothing to commit: past what failed before all the same.
                *committed = true;
                if last_report.elapsed() >= IDLE_REPORT_INTERVAL {
                    last_report = Instant::now();
                    self.report(next_id, &start, &start, &latest, &phases, None);
                }
            }
            match trigger.wait(unix_ms(phases.started_at), ran, unix_ms(SystemTime::now())) {
                None => return Ok(End::Finished),
                Some(wait) if !wait.is_zero() => {
                    monitor.set(State::Waiting, "Waiting for next trigger");
                    let mut stop = self.run.stop.clone();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = ending(&mut stop) => {}
                    }
                }
                Some(_) if !ran => tokio::time::sleep(POLLING_DELAY).await,
                Some(_) => {}
            }
        }
    }

    /// Where to go on: the next batch's id and start, and the batch to run again first.
    async fn recover(&self) -> Result<(u64, Vec<Offset>, OffsetMetadata, Option<Batch>)> {
        let nowhere = || vec![None; self.flow.sources.len()];
        Ok(match self.checkpoint.recover(self.flow.sources.len())? {
            Decision::Start => (0, self.begin(nowhere()).await?, OffsetMetadata::default(), None),
            Decision::Rerun { batch_id, start, end, metadata, .. } => {
                let start = self.begin(start).await?;
                let end = self.begin(end).await?;
                let batch = Batch { id: batch_id, start, end: end.clone(), metadata: metadata.clone() };
                (batch_id, end, metadata, Some(batch))
            }
            Decision::Advance { batch_id, start, metadata, .. } => (batch_id, self.begin(start).await?, metadata, None),
            Decision::Corrupt { reason } => return Err(Error::fatal("CHECKPOINT_CORRUPT", reason)),
        })
    }

    /// Fills in the recorded initial offset for sources that have none yet, recording it where it is not.
    async fn begin(&self, offsets: Vec<Option<String>>) -> Result<Vec<Offset>> {
        let mut begun = vec![];
        for (index, offset) in offsets.into_iter().enumerate() {
            begun.push(Offset(match offset {
                Some(offset) => offset,
                None => match self.checkpoint.initial_offset(index).await? {
                    Some(recorded) => recorded,
                    None => {
                        let initial = self.flow.sources[index].initial_offset().await?;
                        self.checkpoint.write_initial_offset(index, &initial.0).await?
                    }
                },
            }));
        }
        Ok(begun)
    }

    /// What is new is a decision of its own in sources that keep a log of it in the checkpoint.
    async fn latest(&self, start: &[Offset]) -> Result<Vec<Offset>> {
        let latest = self.flow.sources.iter().zip(start).map(|(source, start)| source.latest_offset(start));
        self.run.options.tenure.guard(try_join_all(latest)).await
    }

    /// The end of the next batch; none when there is nothing to do yet.
    fn decide(&self, start: &[Offset], latest: &[Offset], contexts: &[LimitContext]) -> Result<Option<Vec<Offset>>> {
        let mut ends = vec![];
        for (((source, start), latest), context) in self.flow.sources.iter().zip(start).zip(latest).zip(contexts) {
            ends.push(match source.limit(start, latest, *context)? {
                Limit::Until(end) => end,
                Limit::Wait => start.clone(),
            });
        }
        Ok((ends != start).then_some(ends))
    }

    /// Runs a decided batch to its commit; returns its end.
    async fn run_batch(
        &mut self,
        batch: Batch,
        latest: &[Offset],
        phases: &mut Phases,
        committed: &mut bool,
    ) -> Result<Vec<Offset>> {
        let options = &self.run.options;
        let span = tracing::info_span!(BATCH_SPAN, query_id = %options.id, run_id = %options.run, batch_id = batch.id);
        let _busy = Busy::begin(&self.run.busy);
        self.to_commit(batch, latest, phases, committed).instrument(span).await
    }

    async fn to_commit(
        &mut self,
        batch: Batch,
        latest: &[Offset],
        phases: &mut Phases,
        committed: &mut bool,
    ) -> Result<Vec<Offset>> {
        let sources = self.flow.sources.iter().zip(batch.start.iter().zip(&batch.end));
        let planned = try_join_all(sources.map(|(source, (start, end))| source.plan(start, end)));
        let descriptors = phases.time("getBatch", planned).await?;
        let sink = &self.flow.sink;
        let time = batch.metadata.batch_timestamp_ms;
        let planning = async { batch_time::put(with_descriptors(&self.flow.plan, &descriptors)?, time) };
        let plan = phases.time("queryPlanning", planning).await?;
        let sink_exec = SinkExec::of(sink.as_ref(), batch.id as i64, plan).of_query(self.run.options.id.to_string());
        // 0: an entry of Spark's that has none.
        let plan = Arc::new(sink_exec.at_batch_time((time > 0).then_some(time)));
        let schema = plan.schema();
        self.executors().await?;
        self.run.monitor.set_going_on("Processing new data");
        let metrics = phases
            .time("addBatch", async {
                let (tell_tasks, tasks) = watch::channel((0, 0));
                let job = Job {
                    name: format!("{} batch {}", self.run.options.name, batch.id),
                    session: Arc::clone(&self.session),
                    plan,
                    deadline: Some(self.deadline),
                    progress: Some(tell_tasks),
                };
                let mut outcome = self.run_told(batch.id, tasks, self.run.statements.cluster.run(job)).await?;
                self.run.step(Step::AfterRun, batch.id)?;
                let metrics = std::mem::take(&mut outcome.metrics);
                if sink.needs_commit() {
                    let messages = commit_messages(&self.run.statements.cluster.collect(outcome, schema).await?)?;
                    self.run.options.tenure.guard(sink.commit(batch.id as i64, messages)).await?;
                }
                self.run.step(Step::AfterSinkCommit, batch.id)?;
                Ok::<_, Error>(metrics)
            })
            .await?;
        let entry = CommitEntry { next_batch_watermark_ms: batch.metadata.batch_watermark_ms };
        phases.time("commitOffsets", self.checkpoint.write_commit(batch.id, entry)).await?;
        *committed = true;
        // Whatever failed before is over.
        self.run.monitor.set(State::Running, "Processing new data");
        self.run.step(Step::AfterCommitWrite, batch.id)?;
        for (source, end) in self.flow.sources.iter().zip(&batch.end) {
            // The batch is committed; what fails here concerns others alone (a consumer group's offsets).
            if let Err(error) = source.committed(end).await {
                tracing::warn!(query_id = %self.run.options.id, %error, "source was not told of a commit");
            }
        }
        self.report(batch.id, &batch.start, &batch.end, latest, phases, Some(&metrics));
        self.previous = Some(phases.started);
        Ok(batch.end)
    }

    /// Runs a batch's job; one that takes long says how far it is.
    async fn run_told(
        &self,
        batch_id: u64,
        tasks: watch::Receiver<(u32, u32)>,
        job: impl Future<Output = Result<JobOutcome>>,
    ) -> Result<JobOutcome> {
        let mut job = std::pin::pin!(job);
        let began = Instant::now();
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + LONG_BATCH, LONG_BATCH);
        loop {
            tokio::select! {
                outcome = &mut job => return outcome,
                _ = ticks.tick() => {
                    if self.run.statements.cluster.has_executors().await {
                        let (seconds, (done, all)) = (began.elapsed().as_secs(), *tasks.borrow());
                        let message = format!("batch {batch_id} has been running for {seconds}s: {done} of {all} tasks done");
                        self.run.monitor.set_going_on(&message);
                    } else {
                        self.run.monitor.set_going_on(NO_EXECUTORS);
                    }
                }
            }
        }
    }

    /// Returns once there is an executor to run on.
    ///
    /// # Errors
    /// When the run is to end meanwhile.
    async fn executors(&self) -> Result<()> {
        while !self.run.statements.cluster.has_executors().await {
            if *self.run.stop.borrow() >= Told::EndAfterBatch {
                return Err(Error::transient(SCHEDULER_ENDS, "the scheduler is shutting down"));
            }
            self.run.monitor.set(State::Waiting, NO_EXECUTORS);
            tokio::time::sleep(POLLING_DELAY * 10).await;
        }
        Ok(())
    }

    fn report(
        &self,
        batch_id: u64,
        start: &[Offset],
        end: &[Offset],
        latest: &[Offset],
        phases: &Phases,
        metrics: Option<&BTreeMap<String, u64>>,
    ) {
        let count = |name: &str| metrics.and_then(|metrics| metrics.get(name)).copied().unwrap_or(0);
        let mut sources = vec![];
        for (index, source) in self.flow.sources.iter().enumerate() {
            sources.push(SourceFacts {
                description: source.description(),
                start: start[index].0.clone(),
                end: end[index].0.clone(),
                latest: latest[index].0.clone(),
                rows: count(&format!("input_rows_{index}")),
                lag: source.lag(&end[index], &latest[index]),
                partition_lag: source.partition_lag(&end[index], &latest[index]),
                metrics: source.metrics(&end[index], &latest[index]),
            });
        }
        let lag = sources.iter().map(|source| source.lag).sum::<Option<u64>>();
        let mut by_name: BTreeMap<_, _> = phases.phases.clone();
        let duration = phases.started.elapsed();
        by_name.insert("triggerExecution", duration);
        let mut sink_metrics = BTreeMap::new();
        if metrics.is_some() {
            let bad_rows = count(SinkExec::BAD_ROWS);
            sink_metrics.insert(SinkProgress::BAD_ROWS.to_string(), bad_rows.to_string());
            sink_metrics.insert("retries".to_string(), count(SinkExec::RETRIES).to_string());
            let policy = self.flow.sink.bad_records();
            if bad_rows > 0 && !policy.is_empty() {
                sink_metrics.insert(SinkProgress::BAD_RECORDS.to_string(), policy.to_string());
            }
        }
        let facts = TriggerFacts {
            started: phases.started_at,
            since_previous: self.previous.map(|previous| phases.started.saturating_duration_since(previous)),
            batch_id,
            phases: by_name,
            duration,
            sources,
            sink: self.flow.sink.description(),
            rows_written: metrics.map(|_| count(SinkExec::ROWS)),
            sink_metrics,
        };
        self.run.monitor.metrics().trigger(&facts);
        let options = &self.run.options;
        let name = if options.named { options.name.as_str() } else { "" };
        self.run.monitor.report(report(options.id, options.run, name, &facts), lag, metrics.is_some());
    }
}

/// When a batch was decided, greater than that of the batch before whatever the clocks of schedulers do: sinks order
/// rows by it, and count on from it for as long as they write at most. `since`: the time that has passed since the batch
/// before was decided, by this run.
fn batch_timestamp(now: SystemTime, before: &OffsetMetadata, since: Option<Duration>) -> i64 {
    let (now, before) = (unix_ms(now), before.batch_timestamp_ms);
    if now > before {
        return now;
    }
    let passed = since.unwrap_or(BATCH_APART).as_millis().max(1);
    before.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
}

/// The cached plan with a batch's ranges in its stream scans: planning again would cost more than scheduling.
fn with_descriptors(plan: &Arc<dyn ExecutionPlan>, descriptors: &[Vec<String>]) -> Result<Arc<dyn ExecutionPlan>> {
    let replaced = Arc::clone(plan).transform_up(|node| {
        let Some(scan) = node.downcast_ref::<SourceScanExec>() else { return Ok(Transformed::no(node)) };
        let Some(source) = scan.source() else { return Ok(Transformed::no(node)) };
        let Some(descriptors) = descriptors.get(source) else {
            return datafusion::common::internal_err!(
                "the plan reads source {source}, the query has {}",
                descriptors.len()
            );
        };
        Ok(Transformed::yes(Arc::new(scan.with_descriptors(descriptors)?) as Arc<dyn ExecutionPlan>))
    });
    replaced.map(|replaced| replaced.data).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn batch_timestamps_ascend() {
        let check = |now: u64, before: i64, since: Option<u64>, expect: i64| {
            let before = OffsetMetadata { batch_timestamp_ms: before, ..Default::default() };
            let now = UNIX_EPOCH + Duration::from_millis(now);
            assert_eq!(batch_timestamp(now, &before, since.map(Duration::from_millis)), expect);
        };
        check(5_000, 0, None, 5_000);
        check(5_000, 4_999, Some(70), 5_000);
        check(5_000, 5_000, Some(0), 5_001);
        // The clock went back.
        check(5_000, 9_000, Some(70), 9_070);
        // It is another scheduler's.
        check(5_000, 9_000, None, 10_000);
    }
}
