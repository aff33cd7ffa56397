//! What decides: the streaming query coordinator.

pub mod streaming;
