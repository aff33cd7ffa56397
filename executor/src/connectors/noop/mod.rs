//! `noop`: a sink that takes rows and forgets them. It does no work per row, so that a query written to it shows what
//! everything before the sink costs.

use super::{Connector, Options, Sink, SinkContext, SinkTask, WriteCounts, WriteTask, Writer};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use headwater_proto::error::{Error, Result};
use std::sync::Arc;

/// The `noop` connector.
#[derive(Debug)]
pub struct Noop;

#[async_trait]
impl Connector for Noop {
    fn format(&self) -> &'static str {
        "noop"
    }
    async fn sink(&self, options: &Options, _: SinkContext) -> Result<Arc<dyn Sink>> {
        // What a streaming writer carries for the query itself; and Spark's `save(path)`, which noop ignores.
        const KNOWN: [&str; 3] = ["checkpointLocation", "queryName", "path"];
        if let Some((key, _)) = options.iter().find(|(key, _)| !KNOWN.iter().any(|k| k.eq_ignore_ascii_case(key))) {
            return Err(Error::invalid(
                "UNKNOWN_OPTION",
                format!("option {key} is not one of sink noop, which has none: remove it"),
            ));
        }
        Ok(Arc::new(NoopSink))
    }
    fn writer(&self, _: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(NoopWriter))
    }
}

#[derive(Debug)]
struct NoopSink;

#[async_trait]
impl Sink for NoopSink {
    fn format(&self) -> &'static str {
        "noop"
    }
    fn description(&self) -> String {
        "org.apache.spark.sql.execution.datasources.noop.NoopTable$".into()
    }
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }
    fn writer_config(&self) -> String {
        "{}".into()
    }
}

#[derive(Debug)]
struct NoopWriter;

#[async_trait]
impl Writer for NoopWriter {
    async fn open(&self, _: WriteTask, _: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        Ok(Box::new(NoopTask::default()))
    }
}

#[derive(Debug, Default)]
struct NoopTask {
    counts: WriteCounts,
}

#[async_trait]
impl SinkTask for NoopTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.counts.rows += batch.num_rows() as u64;
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        Ok((self.counts, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::WriteMode;
    use arrow::array::{ArrayRef, Int64Array};

    #[tokio::test]
    async fn counts_rows_and_refuses_options() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("x", column)]).expect("batch");
        let context =
            SinkContext { schema: batch.schema(), mode: WriteMode::Append, query: "q".into(), streaming: true };
        let sink = Noop.sink(&Options::new([("checkpointLocation", "c")]), context.clone()).await.expect("sink");
        assert!(!sink.needs_commit());
        let error = Noop.sink(&Options::new([("rows", "1")]), context).await.expect_err("unknown option");
        assert!(error.message.contains("rows"), "{error}");

        let task = WriteTask { batch_id: 0, batch_time_ms: None, partition: 0, attempt: "a".into() };
        let writer = Noop.writer("{}").expect("writer");
        let mut task = writer.open(task, batch.schema(), Arc::default()).await.expect("task");
        task.write(batch.clone()).await.expect("write");
        task.write(batch).await.expect("write");
        assert_eq!(task.close().await.expect("close"), (WriteCounts { rows: 6, ..Default::default() }, None));
    }
}
