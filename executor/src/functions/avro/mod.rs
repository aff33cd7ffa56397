//! Spark's Avro functions, with Databricks' variants for a schema registry:
//! `from_avro(binary, jsonFormatSchema[, options])`, `from_avro(binary, subject, schemaRegistryAddress[, options])`,
//! `to_avro(column[, jsonFormatSchema[, options]])` and
//! `to_avro(column, subject, schemaRegistryAddress[, jsonFormatSchema][, options])`. The functions themselves are in
//! [`records`](super::records).
//!
//! ```text
//! from_avro ── reader ─┬─ resolve ── decode     bytes → columns, one step tree for each schema that a record names
//!                      └─ crate::registry       schemas by id
//! to_avro ──── writer ─┬─ encode                columns → bytes
//!                      └─ crate::registry       register or look up
//! schema, types, options   for both
//! ```
//!
//! The type of a column is fixed when a query is planned: by the schema that is given, or by the subject's latest
//! version, which [`bind`](super::bind) writes into the plan. Records of any other schema are resolved into it.
//!
//! Avro is read and written by this module itself and not by `arrow-avro`, because a record that proves malformed must
//! leave nothing behind (mode PERMISSIVE), and because its types are not Spark's (enums as dictionaries, unions as
//! Arrow's unions, UUIDs as bytes).

mod decode;
mod encode;
pub mod options;
mod reader;
mod resolve;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod types;
mod writer;

pub use reader::Reader;
pub(crate) use reader::restart_if_newer;
pub use writer::Writer;
