//! What decides: the cluster (Ballista's scheduler), the streaming query coordinator, SQL, and the servers.

pub mod cluster;
pub mod streaming;
