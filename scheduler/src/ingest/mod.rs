//! Ingestion: users from an API, staged in PostgreSQL, published to Kafka; each once, wherever a process dies.
//!
//! ```text
//! IngestService ─► Ingest (service.rs) ─► Run (run.rs) ─► jobs on the executors (jobs.rs)
//!                    │ run files            │  ▲
//!                    ▼                      ▼  │ facts ─► decide.rs ─► what next
//!              state directory        store.rs: PostgreSQL
//! ```
//!
//! PostgreSQL is the truth about a run: its seed and pages are there before anything is fetched, its users before they
//! are published. The state directory only knows which runs this scheduler drives, and where their database is.

pub mod decide;
pub mod failpoint;
mod files;
mod jobs;
pub mod request;
mod rpc;
mod run;
mod service;
pub mod store;

pub use rpc::IngestRpc;
pub use service::Ingest;
