//! What decides: the cluster (Ballista's scheduler), the streaming query coordinator, SQL, and the servers.

pub mod cluster;
pub mod connect;
pub mod execute;
pub mod ha;
pub mod ingest;
pub mod metrics;
pub mod process;
pub mod rpc;
pub mod session;
pub mod sql;
pub mod streaming;
pub mod web;
