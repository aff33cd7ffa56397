//! One run, driven from wherever it is to its end.
//!
//! What is done comes from [`decide::next`] alone, over what PostgreSQL knows; so a run that was cut off goes on by being
//! driven again. Publishing is exact without transactions of Kafka:
//!
//! 1. The attempt is written down with the topic's end offsets.
//! 2. One task for each slice claims it, reads its users and sends them. A task that runs again finds its slice claimed
//!    and sends nothing.
//! 3. The attempt is closed: nobody can claim any more. After a job that was cut off, `delivery.timeout.ms` is waited
//!    out: what has not been acknowledged by then never will be.
//! 4. The topic is read from the starting offsets to its end; whoever is found there is marked, with partition and
//!    offset. Whoever is not was not sent, and is part of the next attempt.

use super::decide::{self, Budget, Next, Patience, Unpublished, Verdict};
use super::failpoint::{Failpoint, Step};
use super::jobs::{Job, Ranges, delivery_max};
use super::request::{Page, Request, WINDOW};
use super::store::{Attempt, RUN_BUSY, Store};
use crate::execute::Statements;
use futures::future::try_join_all;
use headwater_executor::connectors::kafka::admin::Admin;
use headwater_executor::connectors::randomuser::pause_asked;
use headwater_executor::connectors::secrets;
use headwater_proto::engine::{IngestRun, IngestState};
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::ingest::is_active;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often pages that arrived are settled while others are fetched.
const SETTLE_EVERY: Duration = Duration::from_millis(300);
/// Between two looks at a run that another scheduler drives.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a cancelled run still does to keep its ledger exact is bounded by this.
const CANCEL_MAX: Duration = Duration::from_secs(15);
/// Class of the refusal to send a slice twice: see `claim_slice` in the migrations.
const SLICE_CLAIMED: &str = "INGEST_SLICE_CLAIMED";

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Finished, failed or cancelled.
    pub state: IngestState,
    /// For people.
    pub message: String,
    /// Of the error, or empty.
    pub error_class: String,
}

/// A run.
pub struct Run {
    /// Its id.
    pub id: String,
    /// What it was asked for.
    pub request: Request,
    /// Runs its jobs.
    pub statements: Statements,
    /// The run as clients see it.
    pub view: Arc<watch::Sender<IngestRun>>,
    /// Turns true to cancel it.
    pub cancelled: watch::Receiver<bool>,
    /// Tests only.
    pub failpoint: Option<Arc<Failpoint>>,
    /// The connection that holds the run.
    pub store: Option<Store>,
    /// How long the current attempt has waited for a limit, or for whoever had the run.
    pub waited: Duration,
}

impl Run {
    /// Drives the run until it has ended: how, and whether PostgreSQL has that. Dropped, it goes on when it is driven
    /// again.
    pub async fn to_end(mut self) -> (End, bool) {
        let left_out = self.request.left_out().join(", ");
        if !left_out.is_empty() {
            tracing::warn!(
                run_id = self.id,
                options = left_out,
                "a run of an earlier version goes on without options by which users could be published twice"
            );
        }
        let timeout = match self.request.retry_timeout() {
            Ok(timeout) => timeout,
            Err(error) => return self.end(failed(error)).await,
        };
        let mut cancelled = self.cancelled.clone();
        let mut patience = Patience::default();
        loop {
            let (mut progressed, begun) = (false, Instant::now());
            let error = tokio::select! {
                biased;
                () = told(&mut cancelled) => return self.cancel().await,
                done = self.attempt(&mut progressed) => match done {
                    Ok(end) => return self.end(end).await,
                    Err(error) => error,
                },
            };
            let took = begun.elapsed().saturating_sub(std::mem::take(&mut self.waited));
            match patience.after(&error, progressed, took, timeout) {
                Verdict::Again(pause) => {
                    self.say_failure(&error, pause).await;
                    tokio::select! {
                        biased;
                        () = told(&mut cancelled) => return self.cancel().await,
                        () = tokio::time::sleep(pause) => {}
                    }
                }
                Verdict::GiveUp => {
                    tracing::error!(run_id = self.id, %error, "ingest run failed");
                    return self.end(failed(error)).await;
                }
            }
        }
    }

    /// Step after step until all is done or the first error.
    async fn attempt(&mut self, progressed: &mut bool) -> Result<End> {
        self.connect_in_turn().await?;
        if let Some(end) = self.ended_elsewhere().await? {
            return Ok(end);
        }
        self.topic_ready().await?;
        let run = self.id.clone();
        let seed = self.store()?.seed(&run).await?;
        let mut waiting = None;
        loop {
            self.refresh().await?;
            let facts = self.store()?.facts(&run).await?;
            match decide::next(&facts, self.request.page_size) {
                Next::Resolve(attempt) => {
                    self.say(Some(IngestState::Publishing), "looking for what was published before".into()).await;
                    let attempt = self.store()?.close_attempt(&run, attempt).await?;
                    // That nobody arrived gets the run no further.
                    *progressed |= self.resolve(&attempt, false).await? > 0;
                }
                Next::Fetch(pages) => self.fetch(&seed, pages, progressed).await?,
                // Users whose publisher has ended are taken over once, before the first is published.
                Next::Publish(..) | Next::Finish if waiting.is_none() => {
                    let everybody = self.request.publish_only;
                    let (taken, left) = self.store()?.claim(&run, everybody).await?;
                    if taken > 0 {
                        tracing::info!(run_id = run, users = taken, "took over users that nobody publishes");
                    }
                    waiting = Some(left);
                }
                Next::Publish(users, slices) => {
                    self.publish(users, slices, progressed).await?;
                }
                Next::Finish => {
                    self.store()?.sweep(&run).await?;
                    let message = match waiting.unwrap_or_default() {
                        0 => "done".into(),
                        left => format!(
                            "done; {left} users wait for runs whose last attempt to publish is not resolved: start these \
                             again"
                        ),
                    };
                    return Ok(End { state: IngestState::Finished, message, error_class: String::new() });
                }
            }
        }
    }

    /// Takes the run, if nobody else has it.
    async fn connect(&mut self) -> Result<()> {
        if self.has_it() {
            return Ok(());
        }
        let store = Store::open(&self.request.postgres).await?;
        store.take(&self.id).await?;
        self.store = Some(store);
        Ok(())
    }

    /// Takes the run once nobody else has it. So long it is another scheduler's, and only looked at, or that of one that
    /// died, which PostgreSQL has not noticed yet.
    async fn connect_in_turn(&mut self) -> Result<()> {
        if self.has_it() {
            return Ok(());
        }
        let mut store = Store::open(&self.request.postgres).await?;
        while let Err(error) = store.take(&self.id).await {
            if error.class != RUN_BUSY {
                return Err(error);
            }
            self.look_on(&store, &error).await?;
            let begun = Instant::now();
            let free = store.until_free(&self.id, LOOK_EVERY).await;
            // Whoever has it ends one day: waiting for that is no failure.
            self.waited += begun.elapsed();
            free?;
        }
        self.store = Some(store);
        Ok(())
    }

    /// Whether there is a connection that holds the run. One that is lost is let go of, as it may still hold it.
    fn has_it(&mut self) -> bool {
        if self.store.as_ref().is_some_and(Store::is_closed) {
            self.store = None;
        }
        self.store.is_some()
    }

    /// Shows a run that another scheduler drives, and that it is waited for.
    async fn look_on(&self, store: &Store, busy: &Error) -> Result<()> {
        // One that has ended is shown as such by whoever drives it, once it does so no longer.
        let found = store.get(&self.id).await?.filter(|run| is_active(run.state()));
        let mut run = found.unwrap_or_else(|| self.view.borrow().clone());
        run.message = format!("{busy}; waiting until that has ended, for as long as it takes");
        if self.view.borrow().message != run.message {
            tracing::info!(run_id = self.id, "ingest run waits for another scheduler to let go of it");
        }
        self.view.send_if_modified(|view| {
            let changed = *view != run;
            *view = run;
            changed
        });
        Ok(())
    }

    /// How the run ended, if another scheduler has driven or cancelled it while it was not held here: a start makes it
    /// active first.
    async fn ended_elsewhere(&mut self) -> Result<Option<End>> {
        let id = self.id.clone();
        let found = self.store()?.get(&id).await?.filter(|run| !is_active(run.state()));
        Ok(found.map(|run| End { state: run.state(), message: run.message, error_class: run.error_class }))
    }

    fn store(&mut self) -> Result<&mut Store> {
        self.store
            .as_mut()
            .ok_or_else(|| Error::transient("POSTGRES_UNREACHABLE", "the connection to postgres is gone"))
    }

    /// Makes the topic if there is none, so that its offsets can be told.
    async fn topic_ready(&self) -> Result<()> {
        let admin = admin(&self.request)?;
        match admin.describe_topic(&self.request.topic).await {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            other => return other.map(|_| ()),
        }
        // The broker's defaults where nothing is said.
        let partitions = self.request.topic_partitions().unwrap_or(-1);
        match admin.create_topic(&self.request.topic, partitions, -1).await {
            Err(error) if error.kind != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    async fn end_offsets(&self) -> Result<BTreeMap<i32, i64>> {
        let admin = admin(&self.request)?;
        let topic = admin.describe_topic(&self.request.topic).await?;
        let offsets = topic.partitions.iter().map(|partition| {
            let latest = partition.latest.ok_or_else(|| {
                Error::transient(
                    "KAFKA_UNAVAILABLE",
                    format!("partition {} of topic {} has no leader", partition.partition, topic.name),
                )
            });
            Ok((partition.partition, latest?))
        });
        offsets.collect()
    }

    async fn fetch(&mut self, seed: &str, pages: Vec<Page>, progressed: &mut bool) -> Result<()> {
        let run = self.id.clone();
        let limit = self.request.users_per_window()?;
        let source = self.request.limited_as();
        let (budget, grant) = self.store()?.grant(&source, &pages, limit).await?;
        let pages = match budget {
            Budget::Pages(pages) => pages,
            Budget::Paused(wait) => return Err(decide::paused(wait)),
            Budget::Wait(wait) => {
                let limit = limit.unwrap_or_default();
                let window = WINDOW.as_secs() / 60;
                self.say(
                    Some(IngestState::Fetching),
                    format!("the source gives {limit} users in {window} minutes: going on in {} s", wait.as_secs() + 1),
                )
                .await;
                tokio::time::sleep(wait).await;
                // Waiting for a limit is no failure, and no progress either.
                self.waited += wait;
                return Ok(());
            }
        };
        let users: i64 = pages.iter().map(|page| i64::from(page.users)).sum();
        self.say(Some(IngestState::Fetching), format!("fetching {users} users, from page {}", pages[0].page)).await;
        let statements = self.statements.clone();
        let job = Job::fetch(&run, &self.request, seed, &pages);
        let mut job = Box::pin(job.run(&statements));
        let mut every = tokio::time::interval(SETTLE_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut settled = 0;
        let fetched = loop {
            tokio::select! {
                done = &mut job => break done,
                _ = every.tick() => {
                    let more = self.store()?.settle(&run, &pages).await?;
                    if more > 0 {
                        settled += more;
                        *progressed = true;
                        self.refresh().await?;
                    }
                }
            }
        };
        self.reached(Step::AfterFetch);
        // Also after a failure: whole pages are as good as any.
        let more = self.store()?.settle(&run, &pages).await?;
        settled += more;
        *progressed |= more > 0;
        self.reached(Step::AfterSettle);
        if let Err(error) = fetched {
            if let Some(pause) = pause_asked(&error) {
                self.store()?.pause(&source, pause).await?;
            }
            if decide::is_of_source(&error) {
                let missing = self.store()?.missing(&run, &pages).await?;
                self.store()?.give_back(grant, missing).await?;
            }
            return Err(error);
        }
        if settled < pages.len() {
            return Err(Error::transient(
                "INGEST_PAGES_INCOMPLETE",
                format!("{} of {} pages did not arrive whole", pages.len() - settled, pages.len()),
            ));
        }
        Ok(())
    }

    async fn publish(&mut self, users: Unpublished, slices: i32, progressed: &mut bool) -> Result<()> {
        let run = self.id.clone();
        self.say(Some(IngestState::Publishing), format!("publishing {} users to {}", users.users, self.request.topic))
            .await;
        let before = self.end_offsets().await?;
        let topic = self.request.topic.clone();
        let attempt = self.store()?.open_attempt(&run, &topic, &before, users, slices).await?;
        self.reached(Step::AfterAttempt);
        let (statements, request) = (&self.statements, &self.request);
        let sent = try_join_all(
            (0..slices).map(|part| Job::send(&run, request, attempt, users.last_id, (part, slices)).run(statements)),
        )
        .await;
        self.reached(Step::AfterSend);
        let attempt = self.store()?.close_attempt(&run, attempt).await?;
        if let Err(error) = &sent {
            self.say(None, format!("{}; looking for what arrived", in_place(error.clone()))).await;
        }
        let marked = self.resolve(&attempt, sent.is_ok()).await?;
        *progressed |= marked > 0;
        sent.map_err(in_place)?;
        if marked < users.users {
            return Err(Error::fatal(
                "INGEST_DELIVERY_UNCONFIRMED",
                format!(
                    "the brokers acknowledged {} users, but topic {topic} has {marked} of them from offsets {before:?} on: \
                     is its retention that short, or was it made anew",
                    users.users
                ),
            ));
        }
        Ok(())
    }

    /// Finds what of a closed attempt arrived and marks it. `whole`: its job ended well, so nothing is under way.
    async fn resolve(&mut self, attempt: &Attempt, whole: bool) -> Result<u64> {
        if !whole && attempt.claimed > 0 {
            let wait = (delivery_max(&self.request) + Duration::from_secs(1)).saturating_sub(attempt.closed_for);
            tokio::time::sleep(wait).await;
        }
        self.look(attempt, true).await
    }

    /// Marks what of an attempt is in the topic now.
    async fn look(&mut self, attempt: &Attempt, resolved: bool) -> Result<u64> {
        let (run, topic) = (self.id.clone(), self.request.topic.clone());
        if attempt.claimed > 0 {
            let ranges = ranges(&attempt.start_offsets, &self.end_offsets().await?);
            if !ranges.is_empty() {
                Job::scan(&run, &self.request, attempt.number, &ranges).run(&self.statements).await?;
            }
        }
        self.reached(Step::AfterScan);
        let (marked, doubled) = self.store()?.mark(&run, &topic, attempt.number, resolved).await?;
        if doubled > 0 {
            tracing::warn!(
                run_id = run,
                attempt = attempt.number,
                records = doubled,
                "users stand in the topic more than once"
            );
        }
        self.reached(Step::AfterMark);
        self.refresh().await?;
        Ok(marked)
    }

    /// Ends a run that was told to stop: what has arrived is marked if that is quickly known.
    async fn cancel(&mut self) -> (End, bool) {
        let tidy = async {
            // Of a run that another has there is nothing to tidy, and nothing to wait for.
            self.connect().await?;
            let run = self.id.clone();
            if self.ended_elsewhere().await?.is_none()
                && let Some(attempt) = self.store()?.facts(&run).await?.unresolved
            {
                let attempt = self.store()?.close_attempt(&run, attempt).await?;
                // Not resolved: something may be under way, which a later start of the run will find.
                self.look(&attempt, false).await?;
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(CANCEL_MAX, tidy).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(run_id = self.id, %error, "what a cancelled run has published is not known yet")
            }
            Err(_) => tracing::warn!(run_id = self.id, "what a cancelled run has published is not known yet"),
        }
        let message = "cancelled; start it again to go on".into();
        self.end(End { state: IngestState::Cancelled, message, error_class: String::new() }).await
    }

    /// Writes the end down where that is possible, and says whether it was; the run's file has it in any case. One that
    /// was made elsewhere stands.
    async fn end(&mut self, mut end: End) -> (End, bool) {
        let id = self.id.clone();
        let written = async {
            self.connect().await?;
            match self.ended_elsewhere().await? {
                Some(elsewhere) => end = elsewhere,
                None => self.store()?.set(&id, end.state, &end.message, &end.error_class).await?,
            }
            // Shown as ended by whoever drives the run, once it does so no longer: then it can be started again.
            if let Some(mut run) = self.store()?.get(&id).await? {
                self.view.send_modify(|view| {
                    run.set_state(view.state());
                    *view = run;
                });
            }
            // Whoever sees the end can have the run.
            self.store()?.release(&id).await;
            Ok::<_, Error>(())
        };
        let written = written.await;
        if let Err(error) = &written {
            tracing::warn!(run_id = self.id, %error, "how an ingest run ended is not in postgres");
        }
        (end, written.is_ok())
    }

    /// Says what the run does. That it cannot be written down is found by whatever it does next.
    async fn say(&mut self, state: Option<IngestState>, message: String) {
        let state = state.unwrap_or_else(|| self.view.borrow().state());
        let id = self.id.clone();
        if let Some(store) = &self.store
            && !store.is_closed()
            && let Err(error) = store.set(&id, state, &message, "").await
        {
            tracing::debug!(run_id = id, %error, "the state of a run is not in postgres");
        }
        self.view.send_modify(|view| {
            view.set_state(state);
            view.message = message;
            view.updated_at = Some(std::time::SystemTime::now().into());
        });
    }

    /// Says why the run does not go on, and when it tries to.
    async fn say_failure(&mut self, error: &Error, pause: Duration) {
        let pause_ms = pause.as_millis() as u64;
        tracing::warn!(run_id = self.id, %error, pause_ms, "ingest run failed, trying again");
        self.say(None, format!("{error}; trying again in {pause:?}")).await;
    }

    /// Shows the run as PostgreSQL has it.
    async fn refresh(&mut self) -> Result<()> {
        let id = self.id.clone();
        if let Some(run) = self.store()?.get(&id).await? {
            self.view.send_replace(run);
        }
        Ok(())
    }

    fn reached(&self, step: Step) {
        if let Some(failpoint) = &self.failpoint {
            failpoint.reached(step);
        }
    }
}

fn failed(error: Error) -> End {
    End { state: IngestState::Failed, message: error.message, error_class: error.class }
}

/// The refusal to send a slice twice comes as the connector's error. A task that fails is not repeated: this one was
/// lost with its executor.
fn in_place(error: Error) -> Error {
    if error.message.contains(SLICE_CLAIMED) {
        return Error::transient(
            "INGEST_PUBLISHER_LOST",
            "an executor was lost while it published: its users are looked for in the topic before any is sent again",
        );
    }
    error
}

/// Speaks to the run's brokers.
fn admin(request: &Request) -> Result<Admin> {
    Admin::with_options(&secrets::resolve(&request.kafka_options())?)
}

/// What to read of a topic, by partition: from the offsets before an attempt until now. A partition that is new since is
/// read from its beginning.
fn ranges(before: &BTreeMap<i32, i64>, now: &BTreeMap<i32, i64>) -> Ranges {
    now.iter()
        .map(|(partition, until)| (*partition, (before.get(partition).copied().unwrap_or(0), *until)))
        .filter(|(_, (from, until))| from < until)
        .collect()
}

async fn told(cancelled: &mut watch::Receiver<bool>) {
    // The sender gone means that the scheduler ends, which drops this run anyway.
    if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::engine::StartIngestRequest;

    #[test]
    fn what_is_read_of_a_topic() {
        let before = BTreeMap::from([(0, 5), (1, 7)]);
        let now = BTreeMap::from([(0, 9), (1, 7), (2, 3)]);
        assert_eq!(ranges(&before, &now), Ranges::from([(0, (5, 9)), (2, (0, 3))]));
    }

    #[test]
    fn options_of_brokers_may_name_a_secret() {
        let mut asked = StartIngestRequest {
            users: 1,
            topic: "t".into(),
            kafka: "k:1".into(),
            postgres: "postgresql://h/d".into(),
            ..StartIngestRequest::default()
        };
        asked.options.insert("kafka.sasl.password".into(), "${secret:headwater-no-such-secret}".into());
        let request = Request::parse(&asked, None).expect("good");
        let error = admin(&request).expect_err("there is no such secret");
        assert_eq!(error.class, "SECRET_NOT_FOUND", "{error}");
    }

    #[test]
    fn a_slice_that_was_claimed_is_known_by_its_class() {
        let error = Error::invalid("POSTGRES_FAILED", "failed to read: [INGEST_SLICE_CLAIMED] slice 0 of …");
        let lost = in_place(error);
        assert_eq!((lost.kind, lost.class.as_str()), (ErrorKind::Transient, "INGEST_PUBLISHER_LOST"));
        assert_eq!(in_place(Error::invalid("X", "y")).class, "X");
    }
}
