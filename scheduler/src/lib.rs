//! What decides: Ballista's scheduler, SQL and its sessions.

pub mod session;
pub mod sql;
