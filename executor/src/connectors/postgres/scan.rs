//! Batch reads, the executor half: one `COPY (SELECT …) TO STDOUT (FORMAT binary)` a partition, straight into columns.
//!
//! The stream is read no faster than it is wanted; dropped, it closes its connection, and the server stops.

use super::decode::{Decoder, Rows, Wire};
use super::failure::Failure;
use super::options::{Connection, Relation};
use super::session::{Conn, Database, Failed, Retries, database};
use crate::connectors::{ReadUntil, Reader};
use crate::operators::to_datafusion;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::StreamExt;
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::CopyOutStream;

/// Batches that are ready before anybody asks for them.
const BATCHES_AHEAD: usize = 2;
/// Bytes of rows after which a batch is handed on, however few they are.
const BATCH_BYTES: usize = 8 << 20;

/// What every reader of a scan is told.
#[derive(Serialize, Deserialize)]
pub struct ReaderConfig {
    /// The database.
    pub connection: Connection,
    /// What is read.
    pub relation: Relation,
    /// Names of the columns, for messages.
    pub names: Vec<String>,
    /// What is selected for each field of the full schema, and how it comes.
    pub selected: Vec<(String, Wire)>,
    /// Joined by `AND`.
    pub conditions: Vec<String>,
    /// Rows after which a reader may stop.
    pub limit: Option<usize>,
    /// Runs before the rows are read.
    pub session_init: Option<String>,
    /// Times a read that gave nothing yet is repeated.
    pub retries_max: u32,
}

/// What one plan partition reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// A condition that the parts share out all rows by.
    pub part: Option<String>,
}

impl ReaderConfig {
    /// The query of a partition, of these columns.
    pub fn query(&self, columns: &[usize], descriptor: &Descriptor) -> String {
        let selected: Vec<&str> = columns.iter().map(|at| self.selected[*at].0.as_str()).collect();
        let mut conditions: Vec<String> = self.conditions.iter().map(|sql| format!("({sql})")).collect();
        conditions.extend(descriptor.part.iter().map(|sql| format!("({sql})")));
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let limit = self.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        format!("SELECT {} FROM {}{filter}{limit}", selected.join(", "), self.relation.sql())
    }
}

/// The executor half.
pub struct PostgresReader {
    config: Arc<ReaderConfig>,
}

impl std::fmt::Debug for PostgresReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresReader").field("relation", &self.config.relation).finish_non_exhaustive()
    }
}

impl PostgresReader {
    /// From what the scan planned.
    pub fn new(config: &str) -> Result<Self> {
        let config =
            serde_json::from_str(config).map_err(|e| Error::internal(format!("postgres reader config: {e}")))?;
        Ok(Self { config: Arc::new(config) })
    }
}

impl Reader for PostgresReader {
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if matches!(until, ReadUntil::Signal(_)) {
            return Err(Error::invalid("UNSUPPORTED_FEATURE", "data source postgres does not support streaming read"));
        }
        let descriptor: Descriptor =
            serde_json::from_str(descriptor).map_err(|e| Error::internal(format!("postgres descriptor: {e}")))?;
        let config = Arc::clone(&self.config);
        let columns = projection.map_or_else(|| (0..config.selected.len()).collect(), <[usize]>::to_vec);
        let batch_rows = context.session_config().batch_size();
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), BATCHES_AHEAD);
        let out = builder.tx();
        builder.spawn(async move {
            let scan = Scan { database: database(&config.connection), config, columns, descriptor, schema, batch_rows };
            scan.run(&out).await.map_err(to_datafusion)
        });
        Ok(builder.build())
    }
}

type Out = tokio::sync::mpsc::Sender<datafusion::error::Result<RecordBatch>>;

struct Scan {
    database: Arc<Database>,
    config: Arc<ReaderConfig>,
    columns: Vec<usize>,
    descriptor: Descriptor,
    schema: SchemaRef,
    batch_rows: usize,
}

/// A connection on which rows arrive.
struct Arriving {
    conn: Conn,
    stream: Pin<Box<CopyOutStream>>,
    rows: Rows,
}

impl Scan {
    fn what(&self) -> String {
        format!("read {}", self.config.relation)
    }

    fn failed(&self, failure: Failure) -> Failed {
        let mut failed = Failed::new(failure, &self.what(), &self.database.label);
        if failed.error.class == "POSTGRES_REQUEST_FAILED" {
            failed.error.class = "POSTGRES_READ_FAILED".into();
        }
        failed
    }

    /// Begins the read and waits for its first bytes: until then nobody has seen a row, and it may be repeated.
    async fn open(&self) -> Result<Arriving, Failed> {
        let mut conn = self.database.get().await?;
        if let Some(statement) = &self.config.session_init {
            // By itself: what it did stays, whatever becomes of the read.
            let done = self.database.in_time(conn.initialize(statement)).await;
            done.map_err(|failure| {
                let failed = self.failed(failure);
                let message = format!("option sessionInitStatement: {}", failed.error.message);
                Failed { error: Error { message, ..failed.error }, retry: false }
            })?;
        }
        // What the statement did is not done twice for one read.
        let once = |failed: Failed| Failed { retry: failed.retry && self.config.session_init.is_none(), ..failed };
        match self.database.in_time(self.begin(&mut conn)).await {
            Ok((stream, rows)) => Ok(Arriving { conn, stream, rows }),
            Err(failure) => Err(once(self.failed(failure))),
        }
    }

    async fn begin(&self, conn: &mut Conn) -> Result<(Pin<Box<CopyOutStream>>, Rows), Failure> {
        let query = self.config.query(&self.columns, &self.descriptor);
        let statement = conn.prepared(&format!("COPY ({query}) TO STDOUT (FORMAT binary)")).await?;
        let (mut stream, mut rows) = (Box::pin(conn.copy_out(&statement).await?), Rows::default());
        if let Some(chunk) = stream.next().await {
            rows.push(&chunk?);
        }
        Ok((stream, rows))
    }

    async fn run(&self, out: &Out) -> Result<()> {
        let what = self.what();
        let mut retries = Retries::new(self.config.retries_max, &what);
        let Arriving { conn, mut stream, mut rows } = loop {
            match self.open().await {
                Ok(arriving) => break arriving,
                Err(failed) => retries.after(failed).await?,
            }
        };
        let mut decoders: Vec<Decoder> =
            self.columns.iter().map(|at| Decoder::new(&self.config.selected[*at].1)).collect();
        let (mut count, mut bytes) = (0, 0);
        loop {
            loop {
                let more = rows.next(&mut decoders).map_err(|(at, why)| {
                    let name = self.columns.get(at).and_then(|at| self.config.names.get(*at));
                    let name = name.map_or("?", String::as_str);
                    Error::invalid(
                        "POSTGRES_READ_FAILED",
                        format!(
                            "column {name} of {} on postgres {} holds {why}",
                            self.config.relation, self.database.label
                        ),
                    )
                })?;
                if !more {
                    break;
                }
                count += 1;
                if count == self.batch_rows {
                    if self.emit(&mut decoders, &mut count, out).await?.is_break() {
                        return Ok(());
                    }
                    bytes = 0;
                }
            }
            if bytes >= BATCH_BYTES {
                if self.emit(&mut decoders, &mut count, out).await?.is_break() {
                    return Ok(());
                }
                bytes = 0;
            }
            let chunk = self.database.in_time(async { Ok(stream.next().await.transpose()?) }).await;
            match chunk.map_err(|failure| self.failed(failure).error)? {
                Some(chunk) => {
                    bytes += chunk.len();
                    rows.push(&chunk);
                }
                None if rows.ended() => break,
                None => {
                    return Err(Error::transient(
                        "POSTGRES_READ_FAILED",
                        format!(
                            "{} on postgres {} ended before its last row",
                            self.config.relation, self.database.label
                        ),
                    ));
                }
            }
        }
        let _ = self.emit(&mut decoders, &mut count, out).await?;
        conn.keep();
        Ok(())
    }

    /// Hands on what was decoded. Breaks when nobody wants more.
    async fn emit(&self, decoders: &mut [Decoder], count: &mut usize, out: &Out) -> Result<ControlFlow<()>> {
        if *count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let columns: Vec<ArrayRef> =
            decoders.iter_mut().map(Decoder::finish).collect::<Result<_, _>>().map_err(Error::internal)?;
        let options = RecordBatchOptions::new().with_row_count(Some(*count));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(Error::internal)?;
        *count = 0;
        Ok(if out.send(Ok(batch)).await.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let connection = crate::connectors::Options::new([("url", "postgresql://u:canary@h/d")]);
        let mut config = ReaderConfig {
            connection: Connection::parse(&connection).unwrap(),
            relation: Relation::Table("s.t".parse().unwrap()),
            names: vec!["a".into(), "b".into()],
            selected: vec![("\"a\"".into(), Wire::Int4), ("\"b\"::text".into(), Wire::Text)],
            conditions: vec!["\"a\" = '1'".into()],
            limit: Some(3),
            session_init: None,
            retries_max: 1,
        };
        let part = Descriptor { part: Some("ctid >= '(1,0)'::tid".into()) };
        assert_eq!(
            config.query(&[1], &part),
            "SELECT \"b\"::text FROM \"s\".\"t\" WHERE (\"a\" = '1') AND (ctid >= '(1,0)'::tid) LIMIT 3"
        );
        (config.conditions, config.limit) = (vec![], None);
        assert_eq!(config.query(&[], &Descriptor { part: None }), "SELECT  FROM \"s\".\"t\"");
        let reader = PostgresReader::new(&serde_json::to_string(&config).unwrap()).unwrap();
        assert!(!format!("{reader:?}").contains("canary"));
    }
}
