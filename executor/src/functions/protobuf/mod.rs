//! Spark's Protobuf functions, with Databricks' variants for a schema registry:
//! `from_protobuf(binary, messageName, descriptors[, options])` and
//! `to_protobuf(struct, messageName, descriptors[, options])`, where descriptors are a path or bytes, and
//! `from_protobuf(binary[, messageName], options)` and `to_protobuf(struct[, messageName], options)` with a registry. The
//! functions themselves are in [`records`](super::records).
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
pub mod options;
mod reader;
mod shape;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use writer::Writer;
