//! How much is in flight, what is tried again, and when: decisions from outcomes, and the limiter that applies them.
//!
//! One [`Limiter`] per cluster and process is shared by all tasks. It grows by one request for each full round of
//! successes and halves when the cluster says that it is overloaded or does not answer in time (AIMD).

use crate::metrics::METRICS;
use rand::Rng;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Requests in flight before anything is known about the cluster.
const LIMIT_START: usize = 32;
/// More than this in flight has never helped one process; it bounds memory.
const LIMIT_MAX: usize = 512;
/// Answers that were on their way when the limit was halved say nothing about the new limit.
const SETTLE: Duration = Duration::from_millis(200);

/// What a request taught about the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was served.
    Served,
    /// The cluster is overloaded or too slow.
    Overloaded,
    /// Neither.
    Unknown,
}

/// The state of the additive-increase, multiplicative-decrease rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aimd {
    limit: usize,
    served: usize,
    /// When the limit last fell.
    fell: Option<Instant>,
}

impl Aimd {
    /// `in_flight` are the requests that the outcome was one of: a limit that nobody reaches says nothing, so it does not
    /// grow, and falls from what was really in flight.
    fn next(mut self, outcome: Outcome, in_flight: usize, now: Instant) -> Self {
        match outcome {
            Outcome::Served if in_flight >= self.limit => {
                self.served += 1;
                if self.served >= self.limit {
                    self.served = 0;
                    self.limit = (self.limit + 1).min(LIMIT_MAX);
                }
            }
            Outcome::Overloaded if self.fell.is_none_or(|fell| now.duration_since(fell) >= SETTLE) => {
                let limit = (in_flight.min(self.limit) / 2).max(1);
                self = Self { limit, served: 0, fell: Some(now) };
            }
            Outcome::Served | Outcome::Overloaded | Outcome::Unknown => {}
        }
        self
    }
}

struct State {
    aimd: Aimd,
    /// Permits that are still out though the limit fell below them: they are not given back when they return.
    surplus: usize,
}

/// Bounds the requests in flight to one cluster.
pub struct Limiter {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("limit", &self.limit()).finish()
    }
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(LIMIT_START)),
            state: Mutex::new(State { aimd: Aimd { limit: LIMIT_START, served: 0, fell: None }, surplus: 0 }),
        }
    }
}

/// Leave for one request. Dropped without [`Permit::done`] it teaches nothing.
pub struct Permit<'a> {
    limiter: &'a Limiter,
    permit: Option<OwnedSemaphorePermit>,
}

impl Limiter {
    /// The state is plain numbers, valid after any panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that may be in flight now.
    pub fn limit(&self) -> usize {
        self.state().aimd.limit
    }

    /// Waits until one more request may be sent.
    pub async fn acquire(&self) -> Permit<'_> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        Permit { limiter: self, permit: Some(permit) }
    }

    fn learn(&self, outcome: Outcome) {
        let mut state = self.state();
        let before = state.aimd.limit;
        let in_flight = before.saturating_sub(self.permits.available_permits()) + state.surplus;
        state.aimd = state.aimd.next(outcome, in_flight, Instant::now());
        let after = state.aimd.limit;
        if after > before {
            let grown = after - before;
            let kept = grown.min(state.surplus);
            state.surplus -= kept;
            self.permits.add_permits(grown - kept);
        } else if after < before {
            tracing::warn!(limit = after, "cassandra is overloaded, fewer requests in flight");
            let fallen = before - after;
            state.surplus += fallen - self.permits.forget_permits(fallen);
        }
    }
}

impl Permit<'_> {
    /// The request ended so.
    pub fn done(self, outcome: Outcome) {
        self.limiter.learn(outcome);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        if let Some(permit) = self.permit.take()
            && state.surplus > 0
        {
            state.surplus -= 1;
            permit.forget();
        }
    }
}

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again after a pause.
    Retry(Outcome),
    /// The statement or a value in it is wrong: another row of the same request may be right.
    Invalid,
    /// Give up; the whole batch may be tried again later.
    GiveUp,
    /// Give up, and trying again will not help.
    Fail,
}

/// Decides by the error, and by whether sending the request twice could do harm.
pub fn classify(error: &ExecutionError, idempotent: bool) -> Verdict {
    use Outcome::{Overloaded, Unknown};
    // Where the request may have been applied, only an idempotent one is repeated.
    let if_idempotent = |outcome| if idempotent { Verdict::Retry(outcome) } else { Verdict::GiveUp };
    match error {
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => Verdict::Retry(Unknown),
        ExecutionError::RequestTimeout(_) => if_idempotent(Overloaded),
        ExecutionError::PrepareError(_) => Verdict::Retry(Unknown),
        ExecutionError::LastAttemptError(attempt) => match attempt {
            RequestAttemptError::UnableToAllocStreamId => Verdict::Retry(Overloaded),
            RequestAttemptError::BrokenConnectionError(_) => if_idempotent(Unknown),
            RequestAttemptError::DbError(error, _) => match error {
                DbError::Unavailable { .. } | DbError::IsBootstrapping | DbError::Unprepared { .. } => {
                    Verdict::Retry(Unknown)
                }
                DbError::Overloaded | DbError::RateLimitReached { .. } => if_idempotent(Overloaded),
                DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. } => if_idempotent(Overloaded),
                DbError::WriteFailure { .. } | DbError::ReadFailure { .. } | DbError::ServerError => {
                    if_idempotent(Unknown)
                }
                DbError::Invalid => Verdict::Invalid,
                _ => Verdict::Fail,
            },
            _ => Verdict::Fail,
        },
        _ => Verdict::Fail,
    }
}

/// The pause before repeat number `repeat` (0-based): doubling from 50 ms to 5 s, of which half is left to chance so
/// that tasks do not come back all at once. `chance` is in `[0, 1)`.
fn pause(repeat: u32, chance: f64) -> Duration {
    const FIRST_MS: u64 = 50;
    const LAST_MS: u64 = 5_000;
    let full = FIRST_MS.saturating_mul(1 << repeat.min(20)).min(LAST_MS);
    Duration::from_millis(full).mul_f64(0.5 + chance / 2.0)
}

/// A request that failed for good.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Why the caller should stop.
    pub verdict: Verdict,
    /// Each distinct cause of the attempts, in order of appearance.
    pub causes: Vec<String>,
    /// Repeats that were made.
    pub retries: u32,
}

/// A request under way: counted until it is dropped, answered or not.
struct InFlight;

impl InFlight {
    fn begin() -> Self {
        METRICS.cassandra_in_flight.inc();
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        METRICS.cassandra_in_flight.dec();
    }
}

/// Runs `request` until it is served, must not be repeated, or was repeated `retries_max` times. Returns the result
/// and the number of repeats.
///
/// # Errors
/// [`Failure`] with every distinct cause.
pub async fn with_retries<T, F: Future<Output = Result<T, ExecutionError>>>(
    limiter: &Limiter,
    retries_max: u32,
    idempotent: bool,
    mut request: impl FnMut() -> F,
) -> Result<(T, u32), Failure> {
    let mut retries = 0;
    let mut causes: Vec<String> = vec![];
    loop {
        let permit = limiter.acquire().await;
        let (began, in_flight) = (Instant::now(), InFlight::begin());
        let answer = request().await;
        METRICS.cassandra_request(began.elapsed(), answer.is_ok());
        drop(in_flight);
        let error = match answer {
            Ok(result) => {
                permit.done(Outcome::Served);
                return Ok((result, retries));
            }
            Err(error) => error,
        };
        let verdict = classify(&error, idempotent);
        permit.done(if let Verdict::Retry(outcome) = verdict { outcome } else { Outcome::Unknown });
        let cause = error.to_string();
        if !causes.contains(&cause) {
            causes.push(cause);
        }
        match verdict {
            Verdict::Retry(_) if retries < retries_max => {
                let pause = pause(retries, rand::rng().random());
                tracing::debug!(error = %error, retries, ?pause, "cassandra request failed, will repeat it");
                METRICS.cassandra_retries.inc();
                tokio::time::sleep(pause).await;
                retries += 1;
            }
            Verdict::Retry(_) => return Err(Failure { verdict: Verdict::GiveUp, causes, retries }),
            verdict => return Err(Failure { verdict, causes, retries }),
        }
    }
}

/// A leaky bucket: lets `per_second` units through, with one second's worth at once.
#[derive(Debug)]
pub struct Throttle {
    per_second: u64,
    /// When the bucket is empty again.
    empty_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// A throttle, where a rate is given.
    pub fn new(per_second: Option<u64>) -> Option<Self> {
        per_second.map(|per_second| Self { per_second, empty_at: Mutex::new(None) })
    }

    /// Waits until `units` may pass.
    pub async fn take(&self, units: u64) {
        let (at, next) = {
            let mut empty_at = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let (at, next) = admit(now, *empty_at, units, self.per_second);
            *empty_at = Some(next);
            (at, next)
        };
        tracing::trace!(units, ?next, "throttled");
        tokio::time::sleep_until(at).await;
    }
}

/// When `units` may pass, and when the bucket is empty after them.
fn admit(now: Instant, empty_at: Option<Instant>, units: u64, per_second: u64) -> (Instant, Instant) {
    let start = empty_at.map_or(now, |at| at.max(now));
    let next = start + Duration::from_secs_f64(units as f64 / per_second as f64);
    // What fits into one second passes at once.
    let at = next.checked_sub(Duration::from_secs(1)).map_or(now, |at| at.max(now));
    (at, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::statement::Consistency;

    #[test]
    fn the_limit_grows_by_one_a_round_and_halves() {
        let now = Instant::now();
        let mut aimd = Aimd { limit: 4, served: 0, fell: None };
        for _ in 0..4 {
            aimd = aimd.next(Outcome::Served, 4, now);
        }
        assert_eq!(aimd.limit, 5);
        assert_eq!(aimd.next(Outcome::Served, 4, now), aimd, "nobody reached the limit");
        aimd = aimd.next(Outcome::Overloaded, 5, now);
        assert_eq!(aimd.limit, 2);
        // Answers of the same round do not halve it again.
        assert_eq!(aimd.next(Outcome::Overloaded, 2, now + SETTLE / 2).limit, 2);
        aimd = aimd.next(Outcome::Overloaded, 2, now + SETTLE);
        assert_eq!(aimd.limit, 1);
        assert_eq!(aimd.next(Outcome::Overloaded, 1, now + SETTLE * 3).limit, 1);
        assert_eq!(aimd.next(Outcome::Unknown, 1, now + SETTLE * 3), aimd);
        let idle = Aimd { limit: 100, served: 0, fell: None };
        assert_eq!(idle.next(Outcome::Overloaded, 10, now).limit, 5);
    }

    #[tokio::test]
    async fn permits_follow_the_limit() {
        let limiter = Limiter::default();
        let mut held = vec![];
        for _ in 0..LIMIT_START {
            held.push(limiter.acquire().await);
        }
        held.pop().unwrap().done(Outcome::Overloaded);
        assert_eq!(limiter.limit(), LIMIT_START / 2);
        // All permits were out: half of them are swallowed as they return.
        held.clear();
        assert_eq!(limiter.permits.available_permits(), LIMIT_START / 2);
        let mut held = vec![];
        for _ in 0..LIMIT_START / 2 {
            held.push(limiter.acquire().await);
        }
        for _ in 0..LIMIT_START / 2 {
            // All are out whenever one is served.
            held.pop().expect("as many as the limit").done(Outcome::Served);
            held.push(limiter.acquire().await);
        }
        held.clear();
        assert_eq!(limiter.permits.available_permits(), LIMIT_START / 2 + 1);
    }

    #[test]
    fn only_what_cannot_do_harm_is_repeated() {
        let db = |error| ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "why".into()));
        let check = |error: &ExecutionError, idempotent: Verdict, other: Verdict| {
            assert_eq!((classify(error, true), classify(error, false)), (idempotent, other), "{error}");
        };
        use Outcome::{Overloaded, Unknown};
        use Verdict::{Fail, GiveUp, Invalid, Retry};
        let unavailable = DbError::Unavailable { consistency: Consistency::One, required: 1, alive: 0 };
        check(&db(unavailable), Retry(Unknown), Retry(Unknown));
        check(&db(DbError::Overloaded), Retry(Overloaded), GiveUp);
        check(&db(DbError::Invalid), Invalid, Invalid);
        check(&db(DbError::Unauthorized), Fail, Fail);
        check(&ExecutionError::RequestTimeout(Duration::from_secs(1)), Retry(Overloaded), GiveUp);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        assert_eq!(pause(0, 0.0), Duration::from_millis(25));
        assert_eq!(pause(3, 0.0), Duration::from_millis(200));
        assert_eq!(pause(60, 0.0), Duration::from_millis(2500));
        assert!(pause(60, 0.999) < Duration::from_millis(5000));
    }

    #[tokio::test]
    async fn gives_up_with_every_distinct_cause() {
        let limiter = Limiter::default();
        let mut attempt = 0;
        let failure = with_retries(&limiter, 2, true, || {
            attempt += 1;
            let error = if attempt % 2 == 0 { DbError::Overloaded } else { DbError::ServerError };
            std::future::ready(Err::<(), _>(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                error,
                String::new(),
            ))))
        })
        .await
        .unwrap_err();
        assert_eq!((failure.retries, failure.causes.len(), failure.verdict), (2, 2, Verdict::GiveUp));
    }

    #[test]
    fn the_bucket_passes_a_second_at_once() {
        let now = Instant::now();
        let (at, next) = admit(now, None, 100, 100);
        assert_eq!((at, next), (now, now + Duration::from_secs(1)));
        let (at, _) = admit(now, Some(next), 100, 100);
        assert_eq!(at, now + Duration::from_secs(1));
    }
}
