//! Spark Connect: what stock PySpark clients talk to, on port 15002.
//!
//! ```text
//!  client ──► server: connections, authentication ──► service: the twelve calls
//!                                                        │
//!     sessions: settings, views, uploads, operations ◄───┤
//!     operation: buffered, resumable responses       ◄───┤
//!                                                        ▼
//!                            execute, analyze ──► plan: messages to DataFusion's plans
//!                                   │        └──► streaming: streaming queries
//!                                   ▼
//!                            cluster, or this process for what needs none
//! ```
//!
//! Nothing outside this folder knows these messages. SQL text goes through `sql` as it does for the CLI.

pub mod analyze;
pub mod artifacts;
pub mod config;
pub mod error;
pub mod execute;
pub mod operation;
pub mod plan;
pub mod responder;
pub mod server;
pub mod service;
pub mod sessions;
pub mod sqlstate;
pub mod streaming;

/// The version of Spark that we say we are: the newest whose client is tested.
pub const SPARK_VERSION: &str = "4.3.0";
