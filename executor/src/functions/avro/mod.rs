//! Spark's Avro functions, with Databricks' variants for a schema registry.
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
pub mod from_avro;
pub mod options;
mod reader;
mod resolve;
pub mod schema;
#[cfg(test)]
mod tests;
pub mod to_avro;
pub mod types;
mod writer;

pub use reader::Reader;
pub(crate) use reader::{check_input, restart_if_newer};
pub use writer::Writer;
