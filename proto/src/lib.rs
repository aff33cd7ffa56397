//! Wire protocol and plain values: messages, ids, offsets, progress, errors. Nothing here does I/O.

pub mod deep;
pub mod error;
pub mod ids;
pub mod ingest;
pub mod progress;
pub mod secret;
pub mod trouble;

/// Messages and services of `protos/engine/`.
pub mod engine {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("headwater.engine");

    /// Header of what a standby refuses: `host:port` of the scheduler that leads.
    pub const LEADER_HEADER: &str = "headwater-leader";
}

/// Spark Connect's messages and service, of `protos/spark/connect/`.
pub mod spark {
    #![allow(missing_docs, clippy::all)]
    tonic::include_proto!("spark.connect");
}
