//! Whether the other side of a liveness stream still runs: both send beats, both count the time without one.
//!
//! The kernel closes the connection of a killed process; this is for a hung one and for a cut network.

use std::time::{Duration, Instant};

/// Between two beats, and between two looks at the clock.
pub const BEAT: Duration = Duration::from_millis(250);
/// An executor that was silent for so long is lost. With half a beat under way and one look more: within 2 s.
pub const EXECUTOR_SILENT_MAX: Duration = Duration::from_millis(1500);
/// A scheduler that was silent for so long is left. Longer: leaving it costs every running task.
pub const SCHEDULER_SILENT_MAX: Duration = Duration::from_secs(3);

/// How long nothing was heard.
#[derive(Debug)]
pub struct Patience {
    max: Duration,
    silent: Duration,
    looked: Instant,
}

impl Patience {
    /// Ends after `max` of silence.
    pub fn new(max: Duration, now: Instant) -> Self {
        Self { max, silent: Duration::ZERO, looked: now }
    }

    /// Something was heard.
    pub fn heard(&mut self) {
        self.silent = Duration::ZERO;
    }

    /// A look, which is due every [`BEAT`], once all that has come is heard. True when the other side is gone. A look
    /// that comes late says that this process was the one that did not run: it counts anew.
    pub fn look(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.looked);
        self.looked = now;
        self.silent = if passed > BEAT * 3 { Duration::ZERO } else { self.silent + passed };
        self.silent >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_by_looks_that_come_in_time() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let mut patience = Patience::new(Duration::from_millis(1500), zero);
        assert!(!patience.look(at(250)));
        patience.heard();
        assert!((2..7).all(|look| !patience.look(at(look * 250))));
        assert!(patience.look(at(1750)), "1.5 s after the last beat");

        let mut patience = Patience::new(Duration::from_millis(1500), zero);
        assert!(!patience.look(at(60_000)), "this process was stopped");
        assert!(!patience.look(at(60_250)));
        patience.heard();
        assert!(!patience.look(at(60_500)));
    }
}
