//! What runs next to the data: connectors, functions, plan nodes, and the executor process that Ballista drives.

pub mod codec;
pub mod connectors;
pub mod engine;
pub mod functions;
pub mod liveness;
pub mod memory;
pub mod metrics;
pub mod observed;
pub mod operators;
pub mod process;
pub mod registry;
pub mod tls;
pub mod trace;
pub mod web;
