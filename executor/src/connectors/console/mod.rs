//! `console`: a sink that prints the first rows of each batch, for looking at a query while it is written.
//!
//! Tasks send the first `numRows` rows of theirs as texts in the commit message; the driver prints one table a batch
//! to the standard output of its process, which is the scheduler's.

pub mod show;

use super::{Connector, Options, Sink, SinkContext, SinkTask, WriteCounts, WriteTask, Writer};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use headwater_proto::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// What `truncate` shortens cells to.
const TRUNCATE: usize = 20;

/// The `console` connector.
#[derive(Debug)]
pub struct Console;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Config {
    rows: usize,
    truncate: usize,
}

fn parse_options(options: &Options) -> Result<Config> {
    const KNOWN: [&str; 2] = ["numRows", "truncate"];
    // What a streaming writer carries for the query itself.
    const COMMON: [&str; 3] = ["checkpointLocation", "queryName", "path"];
    for (key, _) in options.iter() {
        if !KNOWN.iter().chain(&COMMON).any(|name| name.eq_ignore_ascii_case(key)) {
            return Err(Error::invalid(
                "UNKNOWN_OPTION",
                format!("option {key} is not one of sink console; there are {}", KNOWN.join(", ")),
            ));
        }
    }
    let bad = |name: &str, text: &str, want: &str| {
        Error::invalid("INVALID_OPTION", format!("invalid value {text} for option {name} of sink console: give {want}"))
    };
    let rows = match options.get("numRows") {
        None => 20,
        // A negative number shows no rows, as in Spark.
        Some(text) => text.trim().parse::<i32>().map_err(|_| bad("numRows", text, "a number"))?.max(0) as usize,
    };
    let truncate = match options.get("truncate") {
        None => TRUNCATE,
        Some(text) if text.eq_ignore_ascii_case("true") => TRUNCATE,
        Some(text) if text.eq_ignore_ascii_case("false") => 0,
        Some(text) => return Err(bad("truncate", text, "true or false")),
    };
    Ok(Config { rows, truncate })
}

#[async_trait]
impl Connector for Console {
    fn format(&self) -> &'static str {
        "console"
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(ConsoleSink {
            config: parse_options(options)?,
            names: context.schema.fields().iter().map(|field| field.name().clone()).collect(),
            streaming: context.streaming,
            printed: Mutex::new(None),
        }))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        let config = serde_json::from_str(config)
            .map_err(|e| Error::internal(format!("{config} is no config of sink console: {e}")))?;
        Ok(Arc::new(ConsoleWriter { config }))
    }
}

#[derive(Debug)]
struct ConsoleSink {
    config: Config,
    names: Vec<String>,
    streaming: bool,
    /// The last batch that was printed: a commit that is repeated prints nothing.
    printed: Mutex<Option<i64>>,
}

/// A task's part of a batch: at most one row more than is shown, which says that there are more.
#[derive(Debug, Default, Serialize, Deserialize)]
struct CommitMessage {
    rows: Vec<Vec<String>>,
}

impl ConsoleSink {
    fn text(&self, batch_id: i64, messages: &[String]) -> Result<String> {
        let mut rows = vec![];
        for message in messages {
            let message: CommitMessage = serde_json::from_str(message)
                .map_err(|e| Error::internal(format!("a commit message of sink console cannot be read: {e}")))?;
            rows.extend(message.rows);
        }
        let table = show::show(&self.names, &rows, self.config.rows, self.config.truncate);
        let rule = "-------------------------------------------\n";
        let title = if self.streaming { format!("{rule}Batch: {batch_id}\n{rule}") } else { String::new() };
        // Spark prints the table as a line, so that an empty one follows.
        Ok(format!("{title}{table}\n"))
    }
}

#[async_trait]
impl Sink for ConsoleSink {
    fn format(&self) -> &'static str {
        "console"
    }
    fn description(&self) -> String {
        "org.apache.spark.sql.execution.streaming.ConsoleTable$".into()
    }
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }
    fn writer_config(&self) -> String {
        serde_json::json!(self.config).to_string()
    }
    fn needs_commit(&self) -> bool {
        true
    }
    async fn commit(&self, batch_id: i64, messages: Vec<String>) -> Result<()> {
        let text = self.text(batch_id, &messages)?;
        {
            let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
            if printed.is_some_and(|printed| printed >= batch_id) {
                return Ok(());
            }
            *printed = Some(batch_id);
        }
        // A pipe that nobody reads would block this thread.
        tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        })
        .await
        .map_err(Error::internal)?
        .map_err(|e| Error::fatal("CONSOLE_CLOSED", format!("failed to print batch {batch_id} of sink console: {e}")))
    }
}

#[derive(Debug)]
struct ConsoleWriter {
    config: Config,
}

#[async_trait]
impl Writer for ConsoleWriter {
    async fn open(&self, _: WriteTask, _: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        let rows_max = self.config.rows + 1;
        Ok(Box::new(ConsoleTask { rows_max, message: CommitMessage::default(), counts: WriteCounts::default() }))
    }
}

#[derive(Debug)]
struct ConsoleTask {
    rows_max: usize,
    message: CommitMessage,
    counts: WriteCounts,
}

#[async_trait]
impl SinkTask for ConsoleTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.counts.rows += batch.num_rows() as u64;
        let room = self.rows_max - self.message.rows.len();
        if room > 0 {
            self.message.rows.extend(show::cells(&batch, room)?);
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        let message = serde_json::to_string(&self.message).map_err(Error::internal)?;
        Ok((self.counts, Some(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::WriteMode;
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    fn sink(options: &[(&str, &str)], streaming: bool) -> Result<ConsoleSink> {
        Ok(ConsoleSink {
            config: parse_options(&Options::new(options.iter().copied()))?,
            names: vec!["id".into(), "name".into()],
            streaming,
            printed: Mutex::new(None),
        })
    }

    #[tokio::test]
    async fn prints_the_first_rows_of_all_tasks() {
        let sink = sink(&[("numRows", "2"), ("truncate", "false")], true).expect("sink");
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("y"), Some("z")]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("batch");
        let mut messages = vec![];
        for rows in [batch.slice(0, 1), batch.slice(1, 3)] {
            let writer = Console.writer(&sink.writer_config()).expect("writer");
            let task = WriteTask { batch_id: 7, batch_time_ms: None, partition: 0, attempt: "a".into() };
            let mut task = writer.open(task, batch.schema(), Arc::default()).await.expect("task");
            task.write(rows.clone()).await.expect("write");
            let (counts, message) = task.close().await.expect("close");
            assert_eq!(counts.rows, rows.num_rows() as u64);
            messages.push(message.expect("message"));
        }
        assert_eq!(
            sink.text(7, &messages).expect("text"),
            "-------------------------------------------\nBatch: 7\n-------------------------------------------\n\
             +---+----+\n|id |name|\n+---+----+\n|1  |x   |\n|2  |NULL|\n+---+----+\nonly showing top 2 rows\n\n"
        );
        assert!(sink.needs_commit());
        sink.commit(7, messages.clone()).await.expect("commit");
        sink.commit(7, messages).await.expect("commit again");
        assert_eq!(*sink.printed.lock().expect("lock"), Some(7));
    }

    #[tokio::test]
    async fn options_are_checked() {
        assert_eq!(parse_options(&Options::default()).expect("defaults"), Config { rows: 20, truncate: 20 });
        assert!(sink(&[("numrows", "many")], true).expect_err("number").message.contains("numRows"));
        assert!(sink(&[("width", "5")], true).expect_err("unknown").message.contains("width"));
        let context = SinkContext {
            schema: Arc::new(arrow::datatypes::Schema::empty()),
            mode: WriteMode::Complete,
            query: "q".into(),
            streaming: false,
        };
        let sink = Console.sink(&Options::default(), context).await.expect("sink");
        assert_eq!(sink.format(), "console");
    }
}
