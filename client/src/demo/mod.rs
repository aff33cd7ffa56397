//! The whole pipeline with nothing installed: synthetic users, a broker, a cluster and SQL over the result.

mod nations;
#[cfg(feature = "standalone")]
pub mod run;
pub mod users;
