//! Failpoints: named steps of the protocol at which a test ends the process, as a kill would.
//!
//! `HEADWATER_FAILPOINT=after-offset-write:3` aborts the process when batch 3 has reached that step.

use super::query::{Failpoint, Step};
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

/// The variable that sets one.
pub const VARIABLE: &str = "HEADWATER_FAILPOINT";

/// The failpoint that the environment asks for.
///
/// # Errors
/// A step or batch that does not exist.
pub fn from_environment() -> Result<Option<Failpoint>> {
    match std::env::var(VARIABLE) {
        Ok(text) => parse(&text).map(Some),
        Err(_) => Ok(None),
    }
}

fn parse(text: &str) -> Result<Failpoint> {
    let found = text.split_once(':').and_then(|(name, batch)| {
        let step = Step::ALL.into_iter().find(|step| step.name() == name)?;
        Some((step, batch.parse::<u64>().ok()?))
    });
    let Some((step, batch)) = found else {
        let names: Vec<_> = Step::ALL.iter().map(|step| step.name()).collect();
        return Err(Error::invalid(
            "INVALID_FAILPOINT",
            format!("{VARIABLE}={text} is not STEP:BATCH; steps are {}", names.join(", ")),
        ));
    };
    Ok(Arc::new(move |reached, batch_id| {
        if (reached, batch_id) == (step, batch) {
            tracing::error!(step = step.name(), batch_id, "failpoint reached: aborting");
            std::process::abort();
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_batches_are_named() {
        assert!(parse("after-run:3").is_ok());
        for wrong in ["after-run", "after-run:x", "sometime:3"] {
            assert!(parse(wrong).is_err_and(|e| e.message.contains("before-offset-write")), "{wrong}");
        }
    }
}
