//! What to do next, from what is known. No I/O.
//!
//! ```text
//!            ┌──────────── pages missing ────────────┐
//!            ▼                                       │
//! facts ─► Fetch ─► facts ─► … ─► Publish ─► Resolve ─► facts ─► … ─► Finish
//!                                    ▲                    │
//!                                    └── users left over ─┘
//! ```
//!
//! An attempt to publish that is not resolved comes before everything: until it is known what has arrived in the topic,
//! nothing may be sent.

use super::request::Page;
use headwater_executor::connectors::randomuser::{TOO_MANY_REQUESTS, come_back, pause_asked};
use headwater_proto::error::{Error, ErrorKind};
use std::time::Duration;

/// Plan partitions of a fetch: requests that are under way at once.
const FETCH_PARTITIONS: usize = 4;
/// Users a plan partition fetches, about: what a crash fetches again, and how often progress shows.
const PARTITION_USERS: usize = 2500;
/// Users of one attempt to publish: what is read again after a crash, and how often progress shows.
pub const ATTEMPT_USERS: i64 = 20_000;
/// Users of a slice, about: a task.
const SLICE_USERS: u64 = 2500;
const SLICES_MAX: u64 = 4;
/// First pause after a failure; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A source that says "too many requests" is waited for at least this long: its window is five minutes.
const LIMITED_MIN: Duration = Duration::from_secs(900);
/// How errors of the connector begin that are the source's: what was asked for has not come.
const OF_SOURCE: &str = "RANDOMUSER_";
/// Class of the error of a job that did not begin.
const NO_EXECUTORS: &str = "NO_EXECUTORS";

/// Users of a run that are staged and not published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpublished {
    /// How many, [`ATTEMPT_USERS`] at most.
    pub users: u64,
    /// The last of them by id.
    pub last_id: uuid::Uuid,
}

/// What is known of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Pages that are not settled, in order; perhaps not all.
    pub missing: Vec<Page>,
    /// The attempt to publish that is not resolved.
    pub unresolved: Option<i32>,
    /// Users that the next attempt is for.
    pub unpublished: Unpublished,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Find out what of this attempt arrived.
    Resolve(i32),
    /// Fetch these pages.
    Fetch(Vec<Page>),
    /// Publish these users, in so many slices.
    Publish(Unpublished, i32),
    /// All is done.
    Finish,
}

/// Decides. `page_size`: of the run.
pub fn next(facts: &Facts, page_size: u32) -> Next {
    if let Some(attempt) = facts.unresolved {
        return Next::Resolve(attempt);
    }
    if !facts.missing.is_empty() {
        let wave = FETCH_PARTITIONS * pages_per_partition(page_size);
        return Next::Fetch(facts.missing.iter().copied().take(wave).collect());
    }
    if facts.unpublished.users > 0 {
        let slices = facts.unpublished.users.div_ceil(SLICE_USERS).clamp(1, SLICES_MAX);
        return Next::Publish(facts.unpublished, slices as i32);
    }
    Next::Finish
}

/// Pages that one task fetches of so many.
pub fn partition_pages(pages: usize) -> usize {
    pages.div_ceil(FETCH_PARTITIONS).max(1)
}

/// Pages that one task fetches at most.
fn pages_per_partition(page_size: u32) -> usize {
    (PARTITION_USERS / page_size.max(1) as usize).max(1)
}

/// What a source's limit allows now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Budget {
    /// These of the pages.
    Pages(Vec<Page>),
    /// None before this long.
    Wait(Duration),
    /// None before this long: the source has said so, to this run or to another.
    Paused(Duration),
}

/// Takes as many of `pages` as the limit allows. `granted`: how long ago so many users were granted, oldest first, within
/// the window.
pub fn budget(pages: &[Page], granted: &[(Duration, u64)], limit: u64, window: Duration) -> Budget {
    let mut left = limit.saturating_sub(granted.iter().map(|(_, users)| users).sum());
    let mut taken = vec![];
    for page in pages {
        let users = page.users.max(0) as u64;
        if users > left {
            break;
        }
        left -= users;
        taken.push(*page);
    }
    if !taken.is_empty() || pages.is_empty() {
        return Budget::Pages(taken);
    }
    // Until enough of the oldest have left the window.
    let needed = pages[0].users.max(0) as u64;
    let mut wait = window;
    for (age, users) in granted {
        left += users;
        wait = window.saturating_sub(*age);
        if left >= needed {
            break;
        }
    }
    Budget::Wait(wait.max(Duration::from_millis(100)))
}

/// What a failure means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after this long.
    Again(Duration),
    /// The run has failed.
    GiveUp,
}

/// How a run has failed since it last got further. Time that was waited because the source or a limit said so is
/// neither progress nor failure.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Without progress, in a row.
    failures: u32,
    /// Since the first of them.
    failing: Duration,
    /// Since the source first said "too many requests".
    limited: Option<Duration>,
}

impl Patience {
    /// Judges an attempt that failed. `progressed`: it got further first; `took`: how long it was, but for waits.
    pub fn after(&mut self, error: &Error, progressed: bool, took: Duration, timeout: Duration) -> Verdict {
        if progressed {
            *self = Self::default();
        }
        let limited = error.class == TOO_MANY_REQUESTS;
        if self.failures > 0 {
            if !limited {
                self.failing += took;
            }
            self.limited = self.limited.map(|time| time + took);
        }
        self.failures += 1;
        let failing_for = if limited { *self.limited.get_or_insert_default() } else { self.failing };
        let verdict = verdict(error, self.failures, failing_for, timeout);
        if let Verdict::Again(pause) = verdict {
            if !limited {
                self.failing += pause;
            }
            self.limited = self.limited.map(|time| time + pause);
        }
        verdict
    }
}

/// Whether and when to try again. `failures`: in a row, without progress, this one included; `failing_for`: since the
/// first of them.
fn verdict(error: &Error, failures: u32, failing_for: Duration, timeout: Duration) -> Verdict {
    if error.kind != ErrorKind::Transient {
        return Verdict::GiveUp;
    }
    let limited = error.class == TOO_MANY_REQUESTS;
    let timeout = if limited { timeout.max(LIMITED_MIN) } else { timeout };
    if failing_for >= timeout {
        return Verdict::GiveUp;
    }
    let pause = (PAUSE_MIN * 2u32.saturating_pow(failures.saturating_sub(1).min(10))).min(PAUSE_MAX);
    let asked = pause_asked(error).unwrap_or_default();
    Verdict::Again(pause.max(asked).min(timeout.saturating_sub(failing_for).max(PAUSE_MIN)))
}

/// The error of a run that may not ask yet: waited for as if the source had said so to it.
pub fn paused(wait: Duration) -> Error {
    Error::transient(TOO_MANY_REQUESTS, format!("the source wants to be left alone: {}", come_back(wait)))
}

/// Whether the source gave less than it was asked for, or was not asked.
pub fn is_of_source(error: &Error) -> bool {
    error.class.starts_with(OF_SOURCE) || error.class == NO_EXECUTORS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: i32, users: i32) -> Vec<Page> {
        (1..=count).map(|page| Page { page, users }).collect()
    }

    #[test]
    fn steps() {
        let check = |facts: Facts, expect: Next| assert_eq!(next(&facts, 1000), expect);
        let users = |users| Unpublished { users, last_id: uuid::Uuid::from_u128(7) };
        check(Facts::default(), Next::Finish);
        check(Facts { missing: pages(2, 1000), ..Facts::default() }, Next::Fetch(pages(2, 1000)));
        check(Facts { missing: pages(20, 1000), ..Facts::default() }, Next::Fetch(pages(8, 1000)));
        check(Facts { missing: pages(1, 1000), unresolved: Some(3), unpublished: users(5) }, Next::Resolve(3));
        check(Facts { missing: pages(1, 9), unresolved: None, unpublished: users(5) }, Next::Fetch(pages(1, 9)));
        check(Facts { unpublished: users(5), ..Facts::default() }, Next::Publish(users(5), 1));
        check(Facts { unpublished: users(2501), ..Facts::default() }, Next::Publish(users(2501), 2));
        check(Facts { unpublished: users(20_000), ..Facts::default() }, Next::Publish(users(20_000), 4));
        assert_eq!((partition_pages(0), partition_pages(3), partition_pages(8), partition_pages(10)), (1, 1, 2, 3));
        assert_eq!((pages_per_partition(5000), pages_per_partition(100), pages_per_partition(0)), (1, 25, 2500));
    }

    #[test]
    fn the_budget_of_a_source() {
        let window = Duration::from_secs(300);
        let check = |granted: &[(u64, u64)], expect: Budget| {
            let granted: Vec<_> = granted.iter().map(|(age, users)| (Duration::from_secs(*age), *users)).collect();
            assert_eq!(budget(&pages(3, 10), &granted, 25, window), expect);
        };
        check(&[], Budget::Pages(pages(2, 10)));
        check(&[(100, 5)], Budget::Pages(pages(2, 10)));
        check(&[(100, 10)], Budget::Pages(pages(1, 10)));
        check(&[(200, 10), (100, 10)], Budget::Wait(Duration::from_secs(100)));
        check(&[(200, 3), (100, 22)], Budget::Wait(Duration::from_secs(200)));
        assert_eq!(budget(&[], &[], 5, window), Budget::Pages(vec![]));
    }

    #[test]
    fn failures() {
        let timeout = Duration::from_secs(120);
        let check = |error: Error, failures, seconds, expect| {
            assert_eq!(verdict(&error, failures, Duration::from_secs(seconds), timeout), expect, "{error}");
        };
        let away = || Error::transient("KAFKA_UNREACHABLE", "x");
        check(away(), 1, 0, Verdict::Again(Duration::from_millis(500)));
        check(away(), 3, 2, Verdict::Again(Duration::from_secs(2)));
        check(away(), 30, 100, Verdict::Again(Duration::from_secs(15)));
        check(away(), 30, 115, Verdict::Again(Duration::from_secs(5)));
        check(away(), 30, 120, Verdict::GiveUp);
        check(Error::invalid("X", "wrong"), 1, 0, Verdict::GiveUp);
        let limited = || Error::transient(TOO_MANY_REQUESTS, "slow down: retry after 40 s");
        check(limited(), 1, 0, Verdict::Again(Duration::from_secs(40)));
        check(limited(), 9, 300, Verdict::Again(Duration::from_secs(40)));
        check(limited(), 9, 900, Verdict::GiveUp);
        assert_eq!(pause_asked(&limited()), Some(Duration::from_secs(40)));
        assert_eq!(pause_asked(&paused(Duration::from_millis(1500))), Some(Duration::from_secs(2)));
        assert!(is_of_source(&limited()) && !is_of_source(&away()));
        assert!(is_of_source(&Error::transient("NO_EXECUTORS", "x")), "nothing was asked");
    }

    #[test]
    fn what_counts_as_failing() {
        let seconds = Duration::from_secs;
        let timeout = seconds(120);
        let away = || Error::transient("POSTGRES_UNREACHABLE", "x");
        let limited = || Error::transient(TOO_MANY_REQUESTS, "slow down: retry after 240 s");
        let again = |verdict: Verdict| matches!(verdict, Verdict::Again(_));

        // The time that the source asked for does not count against another error.
        let mut patience = Patience::default();
        assert_eq!(patience.after(&limited(), false, seconds(1), timeout), Verdict::Again(seconds(240)));
        assert!(again(patience.after(&away(), false, seconds(1), timeout)));
        assert!(again(patience.after(&limited(), false, seconds(1), timeout)));
        // But a source that says nothing else is not asked for ever.
        let limits = (0..9).filter(|_| again(patience.after(&limited(), false, seconds(1), timeout))).count();
        assert!(limits < 4, "{limits}");

        // Neither does a wait that the caller leaves out of `took`; attempts and pauses do.
        let mut patience = Patience::default();
        assert!(again(patience.after(&away(), false, seconds(500), timeout)), "the first has not failed before");
        assert!(again(patience.after(&away(), false, seconds(60), timeout)));
        assert_eq!(patience.after(&away(), false, seconds(60), timeout), Verdict::GiveUp);
        assert!(again(patience.after(&away(), true, seconds(60), timeout)), "it got further");
        assert!(again(patience.after(&away(), false, seconds(60), timeout)));
        assert_eq!(patience.after(&Error::invalid("X", "x"), false, seconds(1), timeout), Verdict::GiveUp);
    }
}
