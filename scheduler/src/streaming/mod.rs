//! The streaming query coordinator: which queries there are, when their batches run, and what is durable about them.
//!
//! `manager` keeps the queries, `query` runs one of them, `checkpoint` keeps its two logs, `recovery` decides from them
//! where it goes on, `trigger` decides when, `progress` tells, `trouble` in words what keeps a query
//! from going on, `batch_time` is what `current_timestamp()` is. `work` is what a query computes, whether SQL or a
//! DataFrame; `runs` remembers for a while what became of runs.

pub mod batch_time;
pub mod checkpoint;
pub mod failpoint;
pub mod manager;
pub mod progress;
pub mod query;
pub mod recovery;
pub mod runs;
pub mod trigger;
pub mod trouble;
pub mod work;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
fn unix_ms(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests;
