//! `org.apache.spark.sql.cassandra`, alias `cassandra`: batch reads by token range with pushdown, upserts by primary key.
//!
//! | file | what |
//! |---|---|
//! | `options` | names, defaults, what is refused |
//! | `session` | one driver session per process and cluster, shared facts |
//! | `schema`, `decode`, `convert` | tables, CQL → Arrow, Arrow → CQL |
//! | `sink` | driver half and executor half of writes |
//! | `backpressure` | requests in flight, repeats, pauses |
//! | `table`, `pushdown`, `token_ranges` | driver half of reads |
//! | `scan` | executor half of reads |
//!
//! Nothing outside this folder names the driver.

mod backpressure;
mod convert;
mod decode;
mod options;
mod pushdown;
mod scan;
mod schema;
mod session;
mod sink;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod token_ranges;

use super::{Connector, DescriptorTable, Options, Reader, Sink, SinkContext, Writer};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use headwater_proto::error::Result;
use std::sync::Arc;

/// Spark's name of the format.
const FORMAT: &str = "org.apache.spark.sql.cassandra";

/// The `org.apache.spark.sql.cassandra` connector.
#[derive(Debug)]
pub struct Cassandra;

#[async_trait]
impl Connector for Cassandra {
    fn format(&self) -> &'static str {
        FORMAT
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        let table = table::CassandraTable::open(options::TableOptions::parse(options)?, schema).await?;
        Ok(Arc::new(DescriptorTable(Arc::new(table))))
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::CassandraSink::new(options::SinkOptions::parse(options)?, context).await?))
    }
    fn columns_beside(&self, options: &Options) -> Result<Vec<String>> {
        let write = options::SinkOptions::parse(options)?.write;
        Ok(write.columns_beside().into_iter().map(String::from).collect())
    }
    fn reader(&self, config: &str) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(scan::CassandraReader::new(config)?))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(sink::CassandraWriter::new(config)?))
    }
}
