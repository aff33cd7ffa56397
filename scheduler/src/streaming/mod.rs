//! Streaming queries: what is pure and durable about the micro-batch protocol.
//!
//! `checkpoint` keeps the two logs, `recovery` decides from them where a query goes on, `trigger` decides when.

pub mod checkpoint;
pub mod recovery;
pub mod trigger;
