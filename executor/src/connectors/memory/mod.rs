//! `memory`: a sink that keeps a stream's rows in the scheduler, for tests and for looking at small results.
//!
//! Tasks send their rows in the commit message, as an Arrow IPC stream in hexadecimal digits; the driver appends them to
//! the table of the query, which lives as long as the process. A table has a bound, at which its query fails, and so has
//! their number, at which the oldest goes. As in Spark there is no going on after a restart: the rows are gone.

use super::{Connector, Options, Sink, SinkContext, SinkTask, WriteCounts, WriteTask, Writer};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::execution::TaskContext;
use headwater_proto::error::{Error, ErrorKind, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of the rows of one query.
const TABLE_BYTES_MAX: usize = 64 << 20;
/// Tables at once.
const TABLES_MAX: usize = 64;
/// The option of a table that names its query.
pub const QUERY: &str = "query";

/// The `memory` connector.
#[derive(Debug)]
pub struct Memory;

/// The rows of one query.
struct Table {
    query: String,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    bytes: usize,
    /// A commit that is repeated adds nothing.
    last_batch: i64,
}

/// The oldest first.
static TABLES: Mutex<VecDeque<Table>> = Mutex::new(VecDeque::new());

fn tables() -> MutexGuard<'static, VecDeque<Table>> {
    TABLES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Connector for Memory {
    fn format(&self) -> &'static str {
        "memory"
    }
    async fn table(&self, options: &Options, _: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        let query = options.get(QUERY).unwrap_or_default();
        let tables = tables();
        let table = tables.iter().find(|table| table.query == query).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "TABLE_OR_VIEW_NOT_FOUND",
                format!(
                    "the rows of memory sink {query} are gone: the scheduler was started again, or {TABLES_MAX} newer \
                     queries wrote to memory; start the query again"
                ),
            )
        })?;
        let rows = MemTable::try_new(Arc::clone(&table.schema), vec![table.batches.clone()]);
        Ok(Arc::new(rows.map_err(Error::internal)?))
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        if let Some((key, _)) = options.iter().next() {
            return Err(Error::invalid(
                "UNKNOWN_OPTION",
                format!("option {key} is not one of sink memory, which has none: remove it"),
            ));
        }
        if !context.streaming {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "data source memory does not support batch write: use a temporary view",
            ));
        }
        Ok(Arc::new(MemorySink { query: context.query, schema: context.schema }))
    }
    fn writer(&self, _: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(MemoryWriter))
    }
}

#[derive(Debug)]
struct MemorySink {
    query: String,
    schema: SchemaRef,
}

#[async_trait]
impl Sink for MemorySink {
    fn format(&self) -> &'static str {
        "memory"
    }
    fn description(&self) -> String {
        "MemorySink".into()
    }
    async fn prepare(&self) -> Result<()> {
        let mut tables = tables();
        if tables.iter().any(|table| table.query == self.query) {
            return Ok(());
        }
        let (query, schema) = (self.query.clone(), Arc::clone(&self.schema));
        tables.push_back(Table { query, schema, batches: vec![], bytes: 0, last_batch: -1 });
        if tables.len() > TABLES_MAX {
            tables.pop_front();
        }
        Ok(())
    }
    fn writer_config(&self) -> String {
        "{}".into()
    }
    fn needs_commit(&self) -> bool {
        true
    }
    async fn commit(&self, batch_id: i64, messages: Vec<String>) -> Result<()> {
        let mut batches = vec![];
        for message in &messages {
            batches.extend(decode(message)?);
        }
        let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        let mut tables = tables();
        let Some(table) = tables.iter_mut().find(|table| table.query == self.query) else {
            return Err(Error::fatal(
                "MEMORY_SINK_GONE",
                format!(
                    "{TABLES_MAX} newer queries write to memory: write to files, and stop queries that are not used"
                ),
            ));
        };
        if table.last_batch >= batch_id {
            return Ok(());
        }
        if table.bytes + bytes > TABLE_BYTES_MAX {
            return Err(Error::fatal(
                "MEMORY_SINK_FULL",
                format!("sink memory keeps {} MiB of rows at most: write to files", TABLE_BYTES_MAX >> 20),
            ));
        }
        table.bytes += bytes;
        table.last_batch = batch_id;
        table.batches.extend(batches);
        Ok(())
    }
}

fn encode(batches: &[RecordBatch], schema: &SchemaRef) -> Result<String> {
    let mut writer = StreamWriter::try_new(vec![], schema).map_err(Error::internal)?;
    for batch in batches {
        writer.write(batch).map_err(Error::internal)?;
    }
    let bytes = writer.into_inner().map_err(Error::internal)?;
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    Ok(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

fn decode(text: &str) -> Result<Vec<RecordBatch>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    let bytes = bytes.ok_or_else(|| Error::internal("a commit message of sink memory cannot be read"))?;
    let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(Error::internal)?;
    reader.collect::<std::result::Result<_, _>>().map_err(Error::internal)
}

#[derive(Debug)]
struct MemoryWriter;

#[async_trait]
impl Writer for MemoryWriter {
    async fn open(&self, _: WriteTask, schema: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        Ok(Box::new(MemoryTask { schema, batches: vec![], bytes: 0, counts: WriteCounts::default() }))
    }
}

struct MemoryTask {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    bytes: usize,
    counts: WriteCounts,
}

#[async_trait]
impl SinkTask for MemoryTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.bytes += batch.get_array_memory_size();
        if self.bytes > TABLE_BYTES_MAX {
            return Err(Error::fatal(
                "MEMORY_SINK_FULL",
                format!("sink memory keeps {} MiB of rows at most: write to files", TABLE_BYTES_MAX >> 20),
            ));
        }
        self.counts.rows += batch.num_rows() as u64;
        self.batches.push(batch);
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        let message = encode(&self.batches, &self.schema)?;
        Ok((self.counts, Some(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::WriteMode;
    use arrow::array::{ArrayRef, Int64Array};
    use datafusion::prelude::SessionContext;

    fn context(query: &str, schema: SchemaRef) -> SinkContext {
        SinkContext { schema, mode: WriteMode::Append, query: query.into(), streaming: true }
    }

    async fn count(query: &str) -> usize {
        let table = Memory.table(&Options::new([(QUERY, query)]), None).await.expect("table");
        SessionContext::new().read_table(table).expect("frame").count().await.expect("counted")
    }

    #[tokio::test]
    async fn rows_are_kept_once() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("x", column)]).expect("batch");
        let sink = Memory.sink(&Options::default(), context("kept", batch.schema())).await.expect("sink");
        sink.prepare().await.expect("prepared");
        let mut messages = vec![];
        for rows in [batch.slice(0, 1), batch.slice(1, 2)] {
            let task = WriteTask { batch_id: 0, batch_time_ms: None, partition: 0, attempt: "a".into() };
            let writer = Memory.writer(&sink.writer_config()).expect("writer");
            let mut task = writer.open(task, batch.schema(), Arc::default()).await.expect("task");
            task.write(rows).await.expect("written");
            messages.push(task.close().await.expect("closed").1.expect("a message"));
        }
        sink.commit(0, messages.clone()).await.expect("committed");
        sink.commit(0, messages.clone()).await.expect("committed again");
        assert_eq!(count("kept").await, 3);
        sink.prepare().await.expect("prepared again");
        sink.commit(1, messages).await.expect("committed");
        assert_eq!(count("kept").await, 6);
        assert!(decode("0g").is_err() && decode("0").is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused() {
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::empty());
        let refused = async |options: Options, context: SinkContext| {
            Memory.sink(&options, context).await.expect_err("refused").class
        };
        let batch = SinkContext { streaming: false, ..context("q", Arc::clone(&schema)) };
        assert_eq!(refused(Options::default(), batch).await, "UNSUPPORTED_FEATURE");
        assert_eq!(refused(Options::new([("rows", "1")]), context("q", schema)).await, "UNKNOWN_OPTION");
        let gone = Memory.table(&Options::new([(QUERY, "nobody's")]), None).await;
        assert_eq!(gone.expect_err("gone").class, "TABLE_OR_VIEW_NOT_FOUND");
    }
}
