//! One execution: an owned task that makes responses, the buffer that keeps them until the client has them, and the
//! stream that a client is attached by.
//!
//! ```text
//!  task ──send──► [ held: sent, not released | pending: not sent ] ──attach──► stream ──► client
//!        waits while too much is pending        ▲                    ▲
//!                                               └── ReleaseExecute   └── ReattachExecute, after any response held
//! ```
//!
//! The task knows nothing of clients: a stream that breaks, or that ends because it has lasted long enough, leaves it
//! running, and the client attaches again after the last response it has. What was sent is kept until it is released
//! or until more than [`Limits::held_bytes`] of it is there, the oldest going first: clients need not release.
//! What was not sent is bounded by [`Limits::pending_bytes`], which is what slows a job down to its client's pace.
//!
//! One stream at a time: a second one takes over, and the first ends with `INVALID_CURSOR.DISCONNECTED`, which clients
//! take as a reason to attach again, should they be alive.
//!
//! Dropping or aborting the task is how an operation is cancelled: what it runs cancels its job when it is dropped.

pub use super::responder::Responder;

use super::error::{self, Status};
use futures::{FutureExt, Stream};
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark::ExecutePlanResponse;
use headwater_proto::spark::execute_plan_response::{ResponseType, ResultComplete};
use headwater_proto::spark::get_status_response::operation_status::OperationState;
use prost::Message;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

/// Bounds of an operation. The first four are Spark's `spark.connect.execute.reattachable.*`, with its defaults.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sent responses kept for a client that attaches again, in bytes: Spark's `observerRetryBufferSize`.
    pub held_bytes: usize,
    /// A stream ends after this long, and the client attaches anew: nothing on the way sees a call that lasts for ever.
    pub stream_duration: Duration,
    /// A stream ends after this many bytes.
    pub stream_bytes: usize,
    /// An operation that no stream was attached to for this long is abandoned.
    pub detached_timeout: Duration,
    /// Responses that were made and not sent yet, in bytes: then the task waits.
    pub pending_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held_bytes: 10 << 20,
            stream_duration: Duration::from_secs(120),
            stream_bytes: 1 << 30,
            detached_timeout: Duration::from_secs(300),
            pending_bytes: 32 << 20,
        }
    }
}

/// A response in the buffer.
struct Held {
    response: Arc<ExecutePlanResponse>,
    bytes: usize,
}

/// What a reader at some position finds.
enum Found {
    Response(Arc<ExecutePlanResponse>, usize),
    /// Nothing yet.
    Nothing,
    /// All was read.
    Complete,
    Failed(Status),
}

/// Responses by position, from 0. A value: no waiting, no clock.
struct Buffer {
    responses: VecDeque<Held>,
    /// Position of the first that is held; those before are released.
    first: u64,
    /// Position after the last that was sent.
    sent: u64,
    /// Of those held and sent.
    held_bytes: usize,
    /// Of those not sent.
    pending_bytes: usize,
    end: Option<End>,
    /// Told apart from the same position of another operation.
    nonce: u32,
}

#[derive(Clone)]
enum End {
    Complete,
    Cancelled(Status),
    Failed(Status),
}

impl Buffer {
    fn new(nonce: u32) -> Self {
        Self { responses: VecDeque::new(), first: 0, sent: 0, held_bytes: 0, pending_bytes: 0, end: None, nonce }
    }

    fn next_id(&self) -> String {
        format!("{:08x}-{:x}", self.nonce, self.first + self.responses.len() as u64)
    }

    fn push(&mut self, response: ExecutePlanResponse) {
        let bytes = response.encoded_len();
        self.pending_bytes += bytes;
        self.responses.push_back(Held { response: Arc::new(response), bytes });
    }

    /// The position after a response, which a client that has it goes on from.
    fn after(&self, response_id: &str) -> Result<u64> {
        let not_found = || {
            Error::invalid(
                "INVALID_CURSOR.POSITION_NOT_FOUND",
                format!("the cursor position id {response_id} is not found: start the query again"),
            )
            .with("responseId", response_id)
        };
        let (nonce, position) = response_id.split_once('-').ok_or_else(not_found)?;
        let position = u64::from_str_radix(position, 16).map_err(|_| not_found())?;
        if nonce != format!("{:08x}", self.nonce) || position >= self.first + self.responses.len() as u64 {
            return Err(not_found());
        }
        Ok(position + 1)
    }

    /// Whether a reader may begin here.
    fn check(&self, position: u64) -> Result<()> {
        if position >= self.first {
            return Ok(());
        }
        Err(Error::invalid(
            "INVALID_CURSOR.POSITION_NOT_AVAILABLE",
            format!(
                "the cursor position is no longer available at index {position}: responses before {} were released; \
                 start the query again",
                self.first
            ),
        )
        .with("index", position)
        .with("responseId", format!("{:08x}-{position:x}", self.nonce)))
    }

    /// What is at a position, which counts as sent from now on. Drops the oldest of what was sent beyond `held_bytes`.
    fn read(&mut self, position: u64, held_bytes: usize) -> Found {
        let Some(offset) = position.checked_sub(self.first).map(|offset| offset as usize) else {
            let gone = self.check(position).err().unwrap_or_else(|| Error::internal("a position was lost"));
            return Found::Failed(error::status(&gone, None));
        };
        let Some(held) = self.responses.get(offset) else {
            return match &self.end {
                None => Found::Nothing,
                Some(End::Complete) => Found::Complete,
                Some(End::Cancelled(status) | End::Failed(status)) => Found::Failed(status.clone()),
            };
        };
        let found = Found::Response(Arc::clone(&held.response), held.bytes);
        if position >= self.sent {
            self.sent = position + 1;
            self.pending_bytes -= held.bytes;
            self.held_bytes += held.bytes;
        }
        while self.held_bytes > held_bytes && self.first < position {
            self.drop_first();
        }
        found
    }

    fn drop_first(&mut self) {
        if let Some(held) = self.responses.pop_front() {
            if self.first < self.sent {
                self.held_bytes -= held.bytes;
            } else {
                self.pending_bytes -= held.bytes;
                self.sent = self.first + 1;
            }
            self.first += 1;
        }
    }

    /// Drops all before a position. What was never sent cannot be released.
    fn release_before(&mut self, position: u64) {
        while self.first < position.min(self.sent) {
            self.drop_first();
        }
    }
}

/// What ended an operation, or how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its task runs.
    Running,
    /// All responses are made.
    Succeeded,
    /// Its task failed.
    Failed,
    /// It was interrupted, abandoned or released before its end.
    Cancelled,
}

impl From<State> for OperationState {
    fn from(state: State) -> Self {
        match state {
            State::Running => OperationState::Running,
            State::Succeeded => OperationState::Succeeded,
            State::Failed => OperationState::Failed,
            State::Cancelled => OperationState::Cancelled,
        }
    }
}

/// Who is attached.
struct Attachment {
    /// Counts streams: the last one is the one that counts.
    generation: u64,
    /// Since when nobody is.
    detached_since: Option<Instant>,
}

/// What fixes an operation.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id, which the client may have chosen.
    pub id: String,
    /// The client's id of the session.
    pub session_id: String,
    /// Ours.
    pub server_side_session_id: String,
    /// Tags that it can be interrupted by.
    pub tags: Vec<String>,
    /// Whether clients may attach again. If not, it ends with its stream.
    pub reattachable: bool,
}

/// One execution. See the module's text.
pub struct Operation {
    identity: Identity,
    limits: Limits,
    buffer: Mutex<Buffer>,
    attachment: Mutex<Attachment>,
    task: Mutex<Option<AbortHandle>>,
    /// Something to read, the end, or another stream.
    readable: Notify,
    /// Room to write, or the end.
    writable: Notify,
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.abort();
    }
}

/// None of the critical sections can panic halfway through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operation {
    /// An operation without a task, detached.
    pub fn new(identity: Identity, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            identity,
            limits,
            buffer: Mutex::new(Buffer::new(rand::random())),
            attachment: Mutex::new(Attachment { generation: 0, detached_since: Some(Instant::now()) }),
            task: Mutex::new(None),
            readable: Notify::new(),
            writable: Notify::new(),
        })
    }

    /// Runs `work` as the operation's task; its end is the operation's. `describe` makes of an error what the client
    /// is told.
    pub fn run(
        self: &Arc<Self>,
        work: impl Future<Output = Result<()>> + Send + 'static,
        describe: impl FnOnce(&Error) -> Status + Send + 'static,
    ) {
        let operation = Arc::downgrade(self);
        let id = self.identity.id.clone();
        let span =
            tracing::debug_span!("operation", operation_id = self.identity.id, session_id = self.identity.session_id);
        let work = async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
                Err(Error::internal("the execution panicked: see the scheduler's log, and please report it"))
            });
            let end = match ended {
                Ok(()) => End::Complete,
                Err(error) => {
                    if error.kind == ErrorKind::Internal {
                        tracing::error!(operation_id = id, %error, "an operation failed");
                    } else {
                        tracing::debug!(operation_id = id, %error, "an operation failed");
                    }
                    End::Failed(describe(&error))
                }
            };
            if let Some(operation) = operation.upgrade() {
                operation.end(end);
            }
        };
        let task = tokio::spawn(work.instrument(span));
        *lock(&self.task) = Some(task.abort_handle());
        // Cancelled before it was known what to abort.
        if self.state() == State::Cancelled {
            self.abort();
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// Its tags.
    pub fn tags(&self) -> &[String] {
        &self.identity.tags
    }

    /// Whether clients may attach again.
    pub fn reattachable(&self) -> bool {
        self.identity.reattachable
    }

    /// How it is.
    pub fn state(&self) -> State {
        match &lock(&self.buffer).end {
            None => State::Running,
            Some(End::Complete) => State::Succeeded,
            Some(End::Failed(_)) => State::Failed,
            Some(End::Cancelled(_)) => State::Cancelled,
        }
    }

    /// Since when no stream is attached.
    pub fn detached_since(&self) -> Option<Instant> {
        lock(&self.attachment).detached_since
    }

    /// Adds a response, which gets its ids here. Waits while too much is pending.
    ///
    /// # Errors
    /// `OPERATION_CANCELED` when it has ended.
    pub async fn send(&self, mut response: ExecutePlanResponse) -> Result<()> {
        loop {
            let room = self.writable.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut buffer = lock(&self.buffer);
                if buffer.end.is_some() {
                    return Err(cancelled());
                }
                if buffer.pending_bytes < self.limits.pending_bytes {
                    response.session_id.clone_from(&self.identity.session_id);
                    response.server_side_session_id.clone_from(&self.identity.server_side_session_id);
                    response.operation_id.clone_from(&self.identity.id);
                    response.response_id = buffer.next_id();
                    buffer.push(response);
                    break;
                }
            }
            room.await;
        }
        self.readable.notify_waiters();
        Ok(())
    }

    fn end(&self, end: End) {
        {
            let mut buffer = lock(&self.buffer);
            if buffer.end.is_some() {
                return;
            }
            // The last response is part of the results: a client that lost it asks for it again.
            if matches!(end, End::Complete) && self.identity.reattachable {
                let response = ExecutePlanResponse {
                    session_id: self.identity.session_id.clone(),
                    server_side_session_id: self.identity.server_side_session_id.clone(),
                    operation_id: self.identity.id.clone(),
                    response_id: buffer.next_id(),
                    response_type: Some(ResponseType::ResultComplete(ResultComplete {})),
                    ..Default::default()
                };
                buffer.push(response);
            }
            buffer.end = Some(end);
        }
        self.readable.notify_waiters();
        self.writable.notify_waiters();
    }

    /// Cancels it if it runs; whether it did.
    pub fn cancel(&self) -> bool {
        let running = self.state() == State::Running;
        if running {
            self.end(End::Cancelled(error::status(&cancelled(), None)));
        }
        self.abort();
        running
    }

    fn abort(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// Forgets responses up to and including this one. Unknown ones are passed over: releases race with everything.
    pub fn release_until(&self, response_id: &str) {
        let mut buffer = lock(&self.buffer);
        if let Ok(position) = buffer.after(response_id) {
            buffer.release_before(position);
        }
    }

    /// The responses from the one after `last_response_id`, or from the first. A stream that was attached before ends.
    ///
    /// # Errors
    /// `INVALID_CURSOR.*` when there is no such response any more.
    pub fn attach(self: &Arc<Self>, last_response_id: Option<&str>) -> Result<Responses> {
        let position = {
            let buffer = lock(&self.buffer);
            let position = last_response_id.map_or(Ok(0), |id| buffer.after(id))?;
            buffer.check(position)?;
            position
        };
        let generation = {
            let mut attachment = lock(&self.attachment);
            attachment.generation += 1;
            attachment.detached_since = None;
            attachment.generation
        };
        self.readable.notify_waiters();
        Ok(Responses {
            operation: Arc::clone(self),
            generation,
            position,
            bytes: 0,
            until: Instant::now() + self.limits.stream_duration,
            over: false,
        })
    }
}

fn cancelled() -> Error {
    Error::invalid("OPERATION_CANCELED", "operation has been canceled")
}

/// A client's stream of responses.
pub struct Responses {
    operation: Arc<Operation>,
    generation: u64,
    position: u64,
    bytes: usize,
    until: Instant,
    over: bool,
}

impl Responses {
    /// The next response; none at the end of the stream, which is the end of the results only when
    /// `result_complete` came before.
    pub async fn next(&mut self) -> Option<Result<Arc<ExecutePlanResponse>, Status>> {
        if self.over {
            return None;
        }
        let next = self.wait().await;
        self.over = !matches!(next, Some(Ok(_)));
        next
    }

    async fn wait(&mut self) -> Option<Result<Arc<ExecutePlanResponse>, Status>> {
        let operation = &self.operation;
        let limits = &operation.limits;
        loop {
            let changed = operation.readable.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&operation.attachment).generation != self.generation {
                return Some(Err(error::status(
                    &Error::transient(
                        "INVALID_CURSOR.DISCONNECTED",
                        "the cursor has been disconnected by the server: another stream took over",
                    ),
                    None,
                )));
            }
            let long_enough = self.bytes >= limits.stream_bytes || Instant::now() >= self.until;
            if operation.identity.reattachable && long_enough {
                return None;
            }
            let held_bytes = if operation.identity.reattachable { limits.held_bytes } else { 0 };
            let found = lock(&operation.buffer).read(self.position, held_bytes);
            match found {
                Found::Response(response, bytes) => {
                    self.position += 1;
                    self.bytes += bytes;
                    operation.writable.notify_waiters();
                    return Some(Ok(response));
                }
                Found::Complete => return None,
                Found::Failed(status) => return Some(Err(status)),
                Found::Nothing if operation.identity.reattachable => {
                    // At the deadline the loop ends the stream.
                    let _ = tokio::time::timeout_at(self.until, changed).await;
                }
                Found::Nothing => changed.await,
            }
        }
    }

    /// As a stream of messages.
    pub fn into_stream(self) -> impl Stream<Item = Result<ExecutePlanResponse, Status>> + Send {
        futures::stream::unfold(self, |mut responses| async move {
            let next = responses.next().await?;
            Some((next.map(Arc::unwrap_or_clone), responses))
        })
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        let mut attachment = lock(&self.operation.attachment);
        if attachment.generation == self.generation {
            attachment.detached_since = Some(Instant::now());
            drop(attachment);
            if !self.operation.identity.reattachable {
                self.operation.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(limits: Limits, reattachable: bool) -> Arc<Operation> {
        let identity = Identity {
            id: "operation".into(),
            session_id: "session".into(),
            server_side_session_id: "server".into(),
            tags: vec![],
            reattachable,
        };
        Operation::new(identity, limits)
    }

    fn response(number: i32) -> ExecutePlanResponse {
        let resources = headwater_proto::spark::GetResourcesCommandResult {
            resources: [(number.to_string(), Default::default())].into(),
        };
        ExecutePlanResponse {
            response_type: Some(ResponseType::GetResourcesCommandResult(resources)),
            ..Default::default()
        }
    }

    /// What a response was made from; -1 for the last one, which says that all is complete.
    fn number(response: &ExecutePlanResponse) -> i32 {
        match &response.response_type {
            Some(ResponseType::GetResourcesCommandResult(result)) => {
                result.resources.keys().next().expect("a number").parse().expect("a number")
            }
            Some(ResponseType::ResultComplete(_)) => -1,
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Makes responses 0..n and ends.
    fn run(operation: &Arc<Operation>, n: i32) {
        let sender = Arc::clone(operation);
        let work = async move {
            for i in 0..n {
                sender.send(response(i)).await?;
            }
            Ok(())
        };
        operation.run(work, |error| error::status(error, None));
    }

    async fn numbers(mut responses: Responses) -> Vec<i32> {
        let mut seen = vec![];
        while let Some(next) = responses.next().await {
            seen.push(number(&next.expect("a response")));
        }
        seen
    }

    async fn failure(mut responses: Responses) -> String {
        loop {
            match responses.next().await.expect("a failure before the end") {
                Ok(_) => {}
                Err(status) => return status.message().to_string(),
            }
        }
    }

    #[tokio::test]
    async fn reattached_at_every_position_nothing_is_lost() {
        for position in 0..4 {
            let operation = operation(Limits::default(), true);
            run(&operation, 3);
            let mut first = operation.attach(None).unwrap();
            let (mut seen, mut last) = (vec![], None);
            for _ in 0..position {
                let response = first.next().await.expect("more").expect("a response");
                assert_eq!(
                    (response.session_id.as_str(), response.server_side_session_id.as_str()),
                    ("session", "server")
                );
                seen.push(number(&response));
                last = Some(response.response_id.clone());
            }
            drop(first);
            assert!(operation.detached_since().is_some());
            seen.extend(numbers(operation.attach(last.as_deref()).unwrap()).await);
            assert_eq!(seen, [0, 1, 2, -1], "position {position}");
            assert_eq!(operation.state(), State::Succeeded);
        }
    }

    #[tokio::test]
    async fn a_reader_waits_for_the_task() {
        let operation = operation(Limits::default(), true);
        let responses = operation.attach(None).unwrap();
        let reader = tokio::spawn(numbers(responses));
        tokio::task::yield_now().await;
        run(&operation, 2);
        assert_eq!(reader.await.unwrap(), [0, 1, -1]);
    }

    #[tokio::test]
    async fn released_responses_are_gone() {
        let operation = operation(Limits::default(), true);
        run(&operation, 3);
        let mut responses = operation.attach(None).unwrap();
        let mut ids = vec![];
        while let Some(Ok(response)) = responses.next().await {
            ids.push(response.response_id.clone());
        }
        operation.release_until("nonsense");
        operation.release_until(&ids[1]);
        operation.release_until(&ids[0]);
        let class = |last: Option<&str>| operation.attach(last).err().map(|error| error.class);
        assert_eq!(class(None).as_deref(), Some("INVALID_CURSOR.POSITION_NOT_AVAILABLE"));
        assert_eq!(class(Some(&ids[0])).as_deref(), Some("INVALID_CURSOR.POSITION_NOT_AVAILABLE"));
        assert_eq!(class(Some("00000000-0")).as_deref(), Some("INVALID_CURSOR.POSITION_NOT_FOUND"));
        assert_eq!(class(Some("nonsense")).as_deref(), Some("INVALID_CURSOR.POSITION_NOT_FOUND"));
        assert_eq!(numbers(operation.attach(Some(&ids[1])).unwrap()).await, [2, -1]);
        assert_eq!(numbers(operation.attach(Some(&ids[3])).unwrap()).await, [0; 0]);
    }

    #[tokio::test]
    async fn what_was_never_sent_cannot_be_released() {
        let operation = operation(Limits::default(), true);
        run(&operation, 3);
        let mut responses = operation.attach(None).unwrap();
        let first = responses.next().await.unwrap().unwrap().response_id.clone();
        let third = first.replace("-0", "-2");
        while operation.state() == State::Running {
            tokio::task::yield_now().await;
        }
        operation.release_until(&third);
        assert_eq!(numbers(responses).await, [1, 2, -1]);
    }

    #[tokio::test]
    async fn the_newer_stream_takes_over() {
        let operation = operation(Limits::default(), true);
        let first = operation.attach(None).unwrap();
        let waiting = tokio::spawn(failure(first));
        tokio::task::yield_now().await;
        let second = operation.attach(None).unwrap();
        assert!(waiting.await.unwrap().contains("INVALID_CURSOR.DISCONNECTED"));
        // The older one's end is not the newer one's.
        assert_eq!(operation.detached_since(), None);
        run(&operation, 1);
        assert_eq!(numbers(second).await, [0, -1]);
    }

    #[tokio::test]
    async fn a_task_waits_for_its_client() {
        let size = response(0).encoded_len();
        let operation = operation(Limits { pending_bytes: 2 * size, held_bytes: 3 * size, ..Limits::default() }, true);
        run(&operation, 50);
        let mut responses = operation.attach(None).unwrap();
        let mut last = String::new();
        for expect in 0..50 {
            tokio::task::yield_now().await;
            {
                let buffer = lock(&operation.buffer);
                assert!(buffer.pending_bytes < 2 * size + 200, "{}", buffer.pending_bytes);
                assert!(buffer.held_bytes < 3 * size + 200, "{}", buffer.held_bytes);
                assert!(buffer.responses.len() < 8);
            }
            let next = responses.next().await.unwrap().unwrap();
            assert_eq!(number(&next), expect);
            last.clone_from(&next.response_id);
        }
        drop(responses);
        // What clients did not release went, but for the newest.
        assert!(operation.attach(None).is_err());
        assert_eq!(numbers(operation.attach(Some(&last)).unwrap()).await, [-1]);
    }

    #[tokio::test]
    async fn streams_end_and_operations_go_on() {
        let duration = Duration::from_millis(50);
        let operation = operation(Limits { stream_duration: duration, ..Limits::default() }, true);
        let mut responses = operation.attach(None).unwrap();
        let begin = Instant::now();
        assert!(responses.next().await.is_none());
        assert!(begin.elapsed() >= duration);
        assert!(responses.next().await.is_none());
        drop(responses);
        assert_eq!(operation.state(), State::Running);
        run(&operation, 1);
        assert_eq!(numbers(operation.attach(None).unwrap()).await, [0, -1]);
    }

    #[tokio::test]
    async fn streams_end_after_many_bytes() {
        let operation = operation(Limits { stream_bytes: 1, ..Limits::default() }, true);
        run(&operation, 3);
        let (mut seen, mut last, mut streams) = (vec![], None::<String>, 0);
        while seen.last() != Some(&-1) {
            let mut responses = operation.attach(last.as_deref()).unwrap();
            streams += 1;
            while let Some(next) = responses.next().await {
                let next = next.unwrap();
                seen.push(number(&next));
                last = Some(next.response_id.clone());
            }
        }
        assert_eq!((seen, streams), (vec![0, 1, 2, -1], 4));
    }

    #[tokio::test]
    async fn a_failure_comes_after_the_responses_and_again() {
        let operation = operation(Limits::default(), true);
        let sender = Arc::clone(&operation);
        let work = async move {
            sender.send(response(0)).await?;
            Err(Error::invalid("DIVIDE_BY_ZERO", "division by zero"))
        };
        operation.run(work, |error| error::status(error, None));
        for _ in 0..2 {
            let mut responses = operation.attach(None).unwrap();
            assert_eq!(number(&responses.next().await.unwrap().unwrap()), 0);
            assert!(responses.next().await.unwrap().unwrap_err().message().starts_with("[DIVIDE_BY_ZERO]"));
            assert!(responses.next().await.is_none());
        }
        assert_eq!(operation.state(), State::Failed);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let operation = operation(Limits::default(), true);
        let work = async { panic!("on purpose") };
        operation.run(work, |error| error::status(error, None));
        assert!(failure(operation.attach(None).unwrap()).await.contains("INTERNAL_ERROR"));
    }

    /// Tells when it is dropped.
    struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.take().map(|sender| sender.send(()));
        }
    }

    fn endless(operation: &Arc<Operation>) -> tokio::sync::oneshot::Receiver<()> {
        let (sender, dropped) = tokio::sync::oneshot::channel();
        let guard = Dropped(Some(sender));
        let work = async move {
            let _guard = guard;
            std::future::pending().await
        };
        operation.run(work, |error| error::status(error, None));
        dropped
    }

    #[tokio::test]
    async fn cancelled_work_is_dropped() {
        let operation = operation(Limits::default(), true);
        let dropped = endless(&operation);
        let responses = operation.attach(None).unwrap();
        assert!(operation.cancel());
        assert!(!operation.cancel(), "twice");
        assert!(failure(responses).await.starts_with("[OPERATION_CANCELED]"));
        dropped.await.unwrap();
        assert_eq!(operation.state(), State::Cancelled);
        assert_eq!(operation.send(response(0)).await.unwrap_err().class, "OPERATION_CANCELED");
    }

    #[tokio::test]
    async fn without_reattaching_the_stream_is_the_operation() {
        let one = operation(Limits::default(), false);
        let responses = one.attach(None).unwrap();
        run(&one, 3);
        // No `result_complete`: the stream's end says it.
        assert_eq!(numbers(responses).await, [0, 1, 2]);

        let two = operation(Limits::default(), false);
        let dropped = endless(&two);
        drop(two.attach(None).unwrap());
        dropped.await.unwrap();
        assert_eq!(two.state(), State::Cancelled);
    }

    /// Readers that come and go while the task writes and releases race with both.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn races_lose_and_repeat_nothing() {
        const RESPONSES: i32 = 300;
        let size = response(0).encoded_len();
        let operation = operation(Limits { pending_bytes: 8 * size, ..Limits::default() }, true);
        run(&operation, RESPONSES);
        let (mut seen, mut last) = (vec![], None::<String>);
        let mut releases = tokio::task::JoinSet::new();
        while seen.last() != Some(&-1) {
            let mut responses = operation.attach(last.as_deref()).unwrap();
            for _ in 0..(seen.len() % 7 + 1) {
                let Some(next) = responses.next().await else { break };
                let next = next.unwrap();
                seen.push(number(&next));
                last = Some(next.response_id.clone());
                let (operation, id) = (Arc::clone(&operation), next.response_id.clone());
                releases.spawn(async move { operation.release_until(&id) });
            }
        }
        let expect: Vec<i32> = (0..RESPONSES).chain([-1]).collect();
        assert_eq!(seen, expect);
        releases.join_all().await;
        let buffer = lock(&operation.buffer);
        assert_eq!((buffer.responses.len(), buffer.held_bytes, buffer.pending_bytes), (0, 0, 0));
    }
}
