//! Failpoints: named steps of a run at which a test ends the process, as a kill would.
//!
//! `HEADWATER_INGEST_FAILPOINT=after-send:1` aborts the process when a run of it reaches that step for the first time.

use headwater_proto::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that sets one.
pub const VARIABLE: &str = "HEADWATER_INGEST_FAILPOINT";

/// Steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Pages were fetched, none of them is settled.
    AfterFetch,
    /// Pages are settled.
    AfterSettle,
    /// An attempt to publish is written down, nothing is sent.
    AfterAttempt,
    /// The brokers have acknowledged everything, nothing is marked.
    AfterSend,
    /// What arrived is found, nothing is marked.
    AfterScan,
    /// What arrived is marked.
    AfterMark,
}

impl Step {
    const ALL: [(Step, &'static str); 6] = [
        (Step::AfterFetch, "after-fetch"),
        (Step::AfterSettle, "after-settle"),
        (Step::AfterAttempt, "after-attempt"),
        (Step::AfterSend, "after-send"),
        (Step::AfterScan, "after-scan"),
        (Step::AfterMark, "after-mark"),
    ];
}

/// A step, and how often it must be reached.
#[derive(Debug)]
pub struct Failpoint {
    step: Step,
    name: &'static str,
    left: AtomicU64,
}

impl Failpoint {
    /// The failpoint that the environment asks for.
    ///
    /// # Errors
    /// A step that does not exist.
    pub fn from_environment() -> Result<Option<Self>> {
        std::env::var(VARIABLE).ok().map(|text| Self::parse(&text)).transpose()
    }

    fn parse(text: &str) -> Result<Self> {
        let found = text.split_once(':').and_then(|(name, times)| {
            let (step, name) = Step::ALL.into_iter().find(|(_, known)| *known == name)?;
            Some(Self { step, name, left: AtomicU64::new(times.parse().ok().filter(|times| *times > 0)?) })
        });
        found.ok_or_else(|| {
            let names: Vec<_> = Step::ALL.iter().map(|(_, name)| *name).collect();
            Error::invalid(
                "INVALID_FAILPOINT",
                format!("{VARIABLE}={text} is not STEP:TIMES; steps are {}", names.join(", ")),
            )
        })
    }

    /// Called at every step.
    pub fn reached(&self, step: Step) {
        if step == self.step && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            tracing::error!(step = self.name, "failpoint reached: aborting");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named() {
        assert!(Failpoint::parse("after-send:3").is_ok());
        for wrong in ["after-send", "after-send:0", "sometime:3"] {
            assert!(Failpoint::parse(wrong).is_err_and(|e| e.message.contains("after-fetch")), "{wrong}");
        }
    }
}
