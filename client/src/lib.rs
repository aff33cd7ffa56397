//! What users hold: the command line, the client of a scheduler, and everything in one process.
//!
//! Arrows: `cli` is the glue; `session` speaks SQL over `remote`, which speaks gRPC; `demo` and `bench` start
//! `standalone`, the cluster in this process, and talk to it over gRPC as any other client would.

#[cfg(feature = "standalone")]
pub mod bench;
pub mod cli;
pub mod demo;
pub mod remote;
pub mod session;
#[cfg(feature = "standalone")]
pub mod standalone;
