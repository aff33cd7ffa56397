//! How long what counts, and when a leader counts as gone: pure functions of what was seen and when.
//!
//! ```text
//! leader    ──beat──┬──1 s──beat──┬──1 s──beat──╳ dies
//!                   └─ good for 2.5 s ─┘        │
//! standby   ─look─┬─0.5 s─look─ … ──────────────┴── unchanged for 4 s ──► claims
//! ```
//!
//! 4 s of silence, half a second of looking, and what a start takes: within 10 s, as promised. The leader's right to
//! write ends 1.5 s before anybody else may claim it.

use std::time::{Duration, Instant, SystemTime};

/// Between two renewals of the leader.
pub const BEAT: Duration = Duration::from_millis(1000);
/// How long a renewal is good for, from when it began.
pub const FRESH: Duration = Duration::from_millis(2500);
/// A leader that was silent for so long is gone; one that could not renew for so long steps down.
pub const LEASE: Duration = Duration::from_millis(4000);
/// Between two looks of a standby.
pub const LOOK: Duration = Duration::from_millis(500);
/// A request to the store or to ZooKeeper that takes longer has failed: the next renewal must still be in time.
pub const REQUEST_MAX: Duration = Duration::from_millis(1500);

/// A moment by both clocks: the monotonic one stops while a machine sleeps, the other can be set.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
    /// The time from `self` to `later`, by the clock that has seen more of it.
    pub fn until(self, later: Self) -> Duration {
        let wall = later.wall.duration_since(self.wall).unwrap_or_default();
        later.monotonic.saturating_duration_since(self.monotonic).max(wall)
    }
}

/// Whether a renewal that began at `renewed` still gives the right to write.
pub fn is_fresh(renewed: Moment, now: Moment) -> bool {
    renewed.until(now) < FRESH
}

/// What one look at the leader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It has moved since the last look.
    Alive,
    /// Not known yet.
    Unclear,
    /// Gone: the next epoch may be claimed.
    Gone,
}

/// One look at the heartbeat of an epoch's holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The epoch.
    pub epoch: u64,
    /// What it counted; none when there is no heartbeat yet.
    pub beat: Option<u64>,
    /// It said that it leads no more.
    pub released: bool,
}

/// What a standby has seen so far.
#[derive(Debug, Default)]
pub struct Watch {
    /// Since when the same is seen.
    seen: Option<(Look, Instant)>,
}

impl Watch {
    /// What `look`, which was asked for at `asked` and answered at `answered`, says together with those before. The
    /// silence is measured from the first answer to the last question, so that an answer that was read late counts
    /// for less, never for more.
    pub fn observe(&mut self, look: Look, asked: Instant, answered: Instant) -> Sign {
        if look.released {
            return Sign::Gone;
        }
        match self.seen {
            Some((seen, since)) if seen == look => {
                if asked.saturating_duration_since(since) >= LEASE {
                    Sign::Gone
                } else {
                    Sign::Unclear
                }
            }
            before => {
                self.seen = Some((look, answered));
                if before.is_some_and(|(seen, _)| seen.epoch == look.epoch) { Sign::Alive } else { Sign::Unclear }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at (milliseconds, epoch, beat), each answered after 10 ms.
    #[track_caller]
    fn check(looks: &[(u64, u64, Option<u64>)], expect: &[Sign]) {
        let (mut watch, zero) = (Watch::default(), Instant::now());
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let signs: Vec<_> = looks
            .iter()
            .map(|(ms, epoch, beat)| {
                watch.observe(Look { epoch: *epoch, beat: *beat, released: false }, at(*ms), at(ms + 10))
            })
            .collect();
        assert_eq!(signs, expect, "{looks:?}");
    }

    #[test]
    fn silence_of_a_lease_is_the_end() {
        use Sign::{Alive, Gone, Unclear};
        check(
            &[(0, 1, Some(1)), (500, 1, Some(1)), (4009, 1, Some(1)), (4010, 1, Some(1))],
            &[Unclear, Unclear, Unclear, Gone],
        );
        check(
            &[(0, 1, Some(1)), (3900, 1, Some(2)), (5000, 1, Some(2)), (7910, 1, Some(2))],
            &[Unclear, Alive, Unclear, Gone],
        );
        // A new leader is a new count.
        check(
            &[(0, 1, Some(1)), (4000, 2, Some(1)), (8000, 2, Some(1)), (8010, 2, Some(1))],
            &[Unclear, Unclear, Unclear, Gone],
        );
        // One that died before its first beat.
        check(&[(0, 1, None), (4010, 1, None)], &[Unclear, Gone]);
        check(&[(0, 1, None), (1000, 1, Some(1)), (4500, 1, Some(1))], &[Unclear, Alive, Unclear]);
    }

    #[test]
    fn an_answer_that_was_read_late_proves_nothing() {
        let (mut watch, zero) = (Watch::default(), Instant::now());
        let look = Look { epoch: 1, beat: Some(1), released: false };
        let at = |ms: u64| zero + Duration::from_millis(ms);
        assert_eq!(watch.observe(look, at(0), at(10)), Sign::Unclear);
        // Asked at once, then this process was stopped.
        assert_eq!(watch.observe(look, at(500), at(60_000)), Sign::Unclear);
        assert_eq!(watch.observe(look, at(60_000), at(60_010)), Sign::Gone);
    }

    #[test]
    fn a_release_is_believed_at_once() {
        let now = Instant::now();
        assert_eq!(Watch::default().observe(Look { epoch: 1, beat: Some(1), released: true }, now, now), Sign::Gone);
    }

    #[test]
    fn a_renewal_ends_before_anybody_may_claim() {
        assert!(FRESH < LEASE && BEAT + REQUEST_MAX <= FRESH);
        let renewed = Moment::now();
        let after = |by: Duration| Moment { monotonic: renewed.monotonic + by, wall: renewed.wall };
        assert!(is_fresh(renewed, after(FRESH - Duration::from_millis(1))));
        assert!(!is_fresh(renewed, after(FRESH)));
        // The machine slept: only the wall clock has seen it.
        assert!(!is_fresh(renewed, Moment { wall: renewed.wall + FRESH, ..renewed }));
    }
}
