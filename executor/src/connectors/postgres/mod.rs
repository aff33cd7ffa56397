//! `postgres`, aliases `postgresql` and `jdbc`: batch reads by binary `COPY` with pushdown, writes by `COPY` and upsert.
//!
//! | file | what |
//! |---|---|
//! | `options` | names, defaults, what is refused; addresses |
//! | `session` | connections with TLS, kept between tasks; repeats |
//! | `failure` | what SQLSTATEs mean |
//! | `schema` | tables as the catalog has them; creating them |
//! | `decode`, `encode` | PostgreSQL → Arrow, Arrow → PostgreSQL |
//! | `table`, `pushdown` | driver half of reads |
//! | `scan` | executor half of reads |
//! | `plan` | how rows of one schema are written to one table |
//! | `sink` | driver half and executor half of writes |
//!
//! Nothing outside this folder speaks PostgreSQL's protocol; who needs a connection of his own (the run state of
//! ingestion) gets it from [`connect`].

mod decode;
mod encode;
mod failure;
mod options;
mod plan;
mod pushdown;
mod scan;
mod schema;
mod session;
mod sink;
mod table;
#[cfg(test)]
mod tests;

use super::{Connector, DescriptorTable, Options, Reader, Sink, SinkContext, Writer};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

pub use options::literal;

/// Our name of the format.
const FORMAT: &str = "postgres";

/// The `postgres` connector.
#[derive(Debug)]
pub struct Postgres;

#[async_trait]
impl Connector for Postgres {
    fn format(&self) -> &'static str {
        FORMAT
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        let table = table::PostgresTable::open(options::TableOptions::parse(options)?, schema).await?;
        Ok(Arc::new(DescriptorTable(Arc::new(table))))
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::PostgresSink::new(options::SinkOptions::parse(options)?, context)))
    }
    fn columns_beside(&self, options: &Options) -> Result<Vec<String>> {
        Ok(options::SinkOptions::parse(options)?.letter_columns)
    }
    fn reader(&self, config: &str) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(scan::PostgresReader::new(config)?))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(sink::PostgresWriter::new(config)?))
    }
}

/// A connection as the connector's options say (`url`, `user`, `password`, `sslmode`, `sslrootcert`, `queryTimeout`),
/// which ends when the client is dropped. Its session is in UTC.
///
/// # Errors
/// `POSTGRES_UNREACHABLE`, transient; `POSTGRES_AUTHENTICATION_FAILED`; `POSTGRES_TLS_FAILED`; wrong options. Never
/// with the password in them.
pub async fn connect(options: &Options) -> Result<tokio_postgres::Client> {
    let connection = options::Connection::parse(options)?;
    let (client, _) = session::connect(&connection).await.map_err(|failed| failed.error)?;
    Ok(client)
}

/// A failed statement as an error of ours, `failed to {what} on postgres: …`, of a kind by its SQLSTATE: transient when
/// trying again may help.
pub fn failed(what: &str, error: &tokio_postgres::Error) -> Error {
    failure::Failure::new(error).error(what, "")
}
