//! When the next request may be sent: by a budget of users in a window of time, by requests in a second, and not before
//! the service has said so. A task keeps its own share of the budget; a pause that the service asked for holds for all
//! tasks of the process.

use super::options::Pace;
use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The earliest time for a request of `users` users after those of `grants` (ascending times, users). Pure.
fn earliest(grants: &VecDeque<(Instant, u64)>, users: u64, pace: Pace, now: Instant) -> Instant {
    let mut at = now;
    if let (Some(rate), Some((last, _))) = (pace.requests_per_second, grants.back()) {
        at = at.max(*last + Duration::from_secs_f64(1.0 / rate));
    }
    if let Some(budget) = pace.users {
        // As many of the oldest grants as make room must have left the window.
        let mut taken: u64 = grants.iter().map(|(_, users)| *users).sum();
        for (granted, users_then) in grants {
            if taken + users <= budget {
                break;
            }
            at = at.max(*granted + pace.window);
            taken -= users_then;
        }
    }
    at
}

/// One task's share.
#[derive(Debug)]
pub struct Limiter {
    pace: Pace,
    grants: VecDeque<(Instant, u64)>,
}

impl Limiter {
    /// With nothing asked yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, grants: VecDeque::new() }
    }

    /// Waits until `users` users may be asked for at `service`.
    pub async fn acquire(&mut self, service: &str, users: u64) {
        let now = Instant::now();
        let window = self.pace.window;
        while self.grants.len() > 1 && self.grants.front().is_some_and(|(at, _)| now.duration_since(*at) > window) {
            self.grants.pop_front();
        }
        tokio::time::sleep_until(earliest(&self.grants, users, self.pace, now)).await;
        // The service may ask for more while we wait.
        while let Some(until) = paused_until(service).filter(|until| *until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
        self.grants.push_back((Instant::now(), users));
    }
}

/// By service: when it will answer again.
static PAUSES: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);

fn pauses() -> MutexGuard<'static, HashMap<String, Instant>> {
    PAUSES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn paused_until(service: &str) -> Option<Instant> {
    pauses().get(service).copied()
}

/// Nobody in this process asks `service` for this time.
pub fn pause(service: &str, time: Duration) {
    let now = Instant::now();
    let mut pauses = pauses();
    pauses.retain(|_, until| *until > now);
    let until = pauses.entry(service.into()).or_insert(now);
    *until = (*until).max(now + time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_request_waits_for_room() {
        let start = Instant::now();
        let check = |grants: &[(u64, u64)], users: u64, budget: Option<u64>, rate: Option<f64>, expect: u64| {
            let grants = grants.iter().map(|(at, users)| (start + Duration::from_secs(*at), *users)).collect();
            let pace = Pace { users: budget, window: Duration::from_secs(300), requests_per_second: rate };
            let now = start + Duration::from_secs(10);
            assert_eq!(earliest(&grants, users, pace, now), start + Duration::from_secs(expect));
        };
        check(&[], 1000, Some(1000), Some(1.0), 10);
        check(&[(0, 1000), (5, 1000)], 1000, None, None, 10);
        check(&[(0, 1000), (5, 1000)], 1000, Some(3000), None, 10);
        check(&[(0, 1000), (5, 1000)], 1000, Some(2000), None, 300);
        check(&[(0, 1000), (5, 1000)], 2000, Some(2000), None, 305);
        check(&[(0, 1), (9, 1)], 1, None, Some(0.5), 11);
    }

    #[tokio::test]
    async fn a_pause_holds_for_all() {
        let pace = Pace { users: None, window: Duration::from_secs(1), requests_per_second: None };
        pause("away", Duration::from_secs(3600));
        let other = async { Limiter::new(pace).acquire("elsewhere", 1).await };
        tokio::time::timeout(Duration::from_secs(60), other).await.expect("a pause is of one service");
        let start = Instant::now();
        pause("here", Duration::from_millis(300));
        pause("here", Duration::from_millis(1));
        Limiter::new(pace).acquire("here", 1).await;
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
}
