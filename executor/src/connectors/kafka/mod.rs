//! `kafka`: topics as streams, as batch tables, and as sinks.
//!
//! ```text
//! driver                                      executor
//! options ─► source, table ─► offset ranges   scan ◄─ pool: a consumer per topic partition, kept between batches
//!            client: one consumer, offsets    sink ─► a pooled idempotent producer
//! ```
//!
//! Invariants: offsets live in the checkpoint; no consumer joins a group. A descriptor fixes a half-open offset range;
//! what of it the log no longer has fails the query, or is named in a warning, as `failOnDataLoss` says. Only this
//! folder names `rdkafka`.

use super::{Connector, DescriptorTable, Options, Reader, Sink, SinkContext, Source, Writer};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

pub mod admin;
mod client;
pub mod offsets;
pub mod options;
pub(crate) mod pool;
pub mod scan;
mod sink;
mod source;
mod table;
#[cfg(test)]
mod tests;

/// The `kafka` connector.
#[derive(Debug)]
pub struct Kafka;

#[async_trait]
impl Connector for Kafka {
    fn format(&self) -> &'static str {
        "kafka"
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        let options = options::SourceOptions::batch(options)?;
        check_declared(schema.as_ref(), options.include_headers)?;
        let scan = client::blocking(move || table::KafkaScan::new(options)).await?;
        Ok(Arc::new(DescriptorTable(Arc::new(scan))))
    }
    async fn source(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
        let options = options::SourceOptions::stream(options)?;
        check_declared(schema.as_ref(), options.include_headers)?;
        let source = client::blocking(move || source::KafkaSource::new(options)).await?;
        Ok(Arc::new(source))
    }
    async fn source_schema(&self, options: &Options, schema: Option<SchemaRef>) -> Result<SchemaRef> {
        let options = options::SourceOptions::stream(options)?;
        check_declared(schema.as_ref(), options.include_headers)?;
        Ok(scan::row_schema(options.include_headers))
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::KafkaSink::new(options::SinkOptions::parse(options)?, &context)?))
    }
    fn reader(&self, config: &str) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(scan::KafkaReader::from_json(config)?))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(sink::KafkaWriter::from_json(config)?))
    }
}

/// Closes the idle consumers of a test's query now.
#[cfg(test)]
fn forget_query(query: &str) {
    pool::POOL.forget(query);
}

/// Spark: "Kafka source has a fixed schema and cannot be set with a custom one".
fn check_declared(declared: Option<&SchemaRef>, include_headers: bool) -> Result<()> {
    let row = scan::row_schema(include_headers);
    match declared {
        Some(schema) if !schema.fields().is_empty() && *schema != row => Err(Error::invalid(
            "KAFKA_INVALID_OPTION",
            "a Kafka source has a fixed schema and cannot be set with a custom one: leave the columns out and parse the \
             column value, as by from_json",
        )),
        _ => Ok(()),
    }
}
