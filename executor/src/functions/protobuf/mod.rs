//! Spark's Protobuf functions, with Databricks' variants for a schema registry.
//!
//! ```text
//! from_protobuf ── reader ─┬─ prost-reflect      bytes → message
//!                          └─ shape              messages → columns
//! to_protobuf ──── writer ─── shape ─ prost-reflect
//! descriptor   descriptor sets, and .proto text of a registry compiled into one
//! options      for both
//! ```
//!
//! Protobuf needs no schema of the writer to be read: fields go by number. What a record's schema id and message
//! indexes are looked at for is whether it is the message that is asked for.

pub mod descriptor;
pub mod from_protobuf;
pub mod options;
mod reader;
mod shape;
#[cfg(test)]
mod tests;
pub mod to_protobuf;
mod writer;

pub use reader::Reader;
pub use writer::Writer;
