//! Connectors: each outside system is one folder, named as Spark names its format, and one entry in [`find`].
//!
//! A connector has two halves. The **driver half** lives in the scheduler: it validates options, asks the system for
//! offsets, partitions and schemas, creates tables, commits. The **executor half** runs next to the data: it reads
//! one partition's descriptor into record batches, or writes one partition's batches. What the executor half needs
//! travels as two JSON texts: its *config* (once per plan node) and a *descriptor* (one per plan partition).
//!
//! ```text
//! driver (scheduler)                         executor
//! Connector::source ─► Source                Connector::reader(config) ─► Reader::read(descriptor) ─► batches
//!   latest_offset, limit, plan ─ descriptors ─►
//! Connector::sink ─► Sink                    Connector::writer(config) ─► Writer::open ─► SinkTask
//!   prepare, commit ◄──── commit messages ────   write, flush, close
//! ```
//!
//! Invariants: a descriptor fixes the rows that are read, so that a task run twice, or twice at once, reads the same
//! rows; writing the same batch again changes nothing (upsert by key, or files that only a manifest makes visible).

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use headwater_proto::error::{Error, Result};
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

pub mod cassandra;
pub mod console;
mod dead_letters;
pub mod files;
pub mod kafka;
pub mod memory;
pub mod noop;
pub mod postgres;
pub mod randomuser;
pub mod rate;
pub mod secrets;

/// Options of a table, a stream or a write: keys are case-insensitive, as in Spark; the spelling given is kept.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Options(BTreeMap<String, String>);

/// Says which of a connector's options it accepts and has nothing to act on.
fn warn_without_effect(names: &[&str]) {
    if !names.is_empty() {
        tracing::warn!(options = names.join(", "), "options have no effect here");
    }
}

impl Options {
    /// Collects pairs; a later pair replaces an earlier one whose key differs only in case.
    pub fn new<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut options = Self::default();
        for (key, value) in pairs {
            options.set(key, value);
        }
        options
    }
    /// Sets an option, replacing one whose key differs only in case.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        self.0.retain(|existing, _| !existing.eq_ignore_ascii_case(&key));
        self.0.insert(key, value.into());
    }
    /// The value of `key`, whatever its case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(existing, _)| existing.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }
    /// All pairs, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
    /// The same with every value that may be a secret replaced, for logs, the UI and the catalog listing.
    pub fn redacted(&self) -> BTreeMap<String, String> {
        self.iter()
            .map(|(key, value)| {
                let shown = if is_secret(key) { REDACTED.to_string() } else { without_credentials(value) };
                (key.into(), shown)
            })
            .collect()
    }
}

/// Values never reach a log, whatever prints the options.
impl Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redacted().fmt(f)
    }
}

/// Spark's `spark.redaction.regex` is `(?i)secret|password|token|access[.]?key`; JAAS configurations hold passwords too.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    [
        "secret",
        "password",
        "token",
        "access.key",
        "accesskey",
        "access_key",
        "jaas",
        "credential",
        "ssl.key",
        "user.info",
    ]
    .iter()
    .any(|word| key.contains(word))
}

/// What stands where a secret was.
const REDACTED: &str = "*********(redacted)";

/// The text with the passwords of addresses in it replaced: `//user:password@host` and `?password=…`.
pub fn without_credentials(text: &str) -> String {
    static ADDRESSES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(://[^:/?#@\s]*:)[^/?#\s]*@|([?&;][^=&;\s]*(?:password|secret|token)[^=&;\s]*=)[^&;\s]*")
            .expect("the expression is constant")
    });
    let shown = ADDRESSES.replace_all(text, |found: &regex::Captures<'_>| match (found.get(1), found.get(2)) {
        (Some(login), _) => format!("{}{REDACTED}@", login.as_str()),
        (_, Some(key)) => format!("{}{REDACTED}", key.as_str()),
        _ => String::new(),
    });
    shown.into_owned()
}

/// A place in a stream, as the JSON text that the offset log keeps (for Kafka `{"topic":{"0":17}}`).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Offset(pub String);

/// Facts for deciding where the next batch ends.
#[derive(Debug, Clone, Copy)]
pub struct LimitContext {
    /// Whether rate limits apply: not for trigger `once`.
    pub limited: bool,
    /// Time since a batch last had rows of this source, endless when none has: `maxTriggerDelay` is measured against
    /// it.
    pub since_last_batch: Duration,
}

/// Where the next batch of a source ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// End here; equal to the start when there is nothing new.
    Until(Offset),
    /// Too few records for `minOffsetsPerTrigger`: wait.
    Wait,
}

/// The driver half of a stream source.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// Columns of a row.
    fn schema(&self) -> SchemaRef;
    /// As Spark describes it in progress reports: `KafkaV2[Subscribe[users_created]]`.
    fn description(&self) -> String;
    /// Where a new query begins. Asked once; the coordinator records the answer in `sources/<n>/0`.
    async fn initial_offset(&self) -> Result<Offset>;
    /// The newest offset there is. `start`: where the next batch would begin.
    async fn latest_offset(&self, start: &Offset) -> Result<Offset>;
    /// Decides how far the next batch goes. Pure.
    fn limit(&self, start: &Offset, latest: &Offset, context: LimitContext) -> Result<Limit>;
    /// One descriptor for each plan partition of the batch `[start, end)`, none when it is empty. Called again with
    /// the same offsets it gives descriptors of the same rows.
    async fn plan(&self, start: &Offset, end: &Offset) -> Result<Vec<String>>;
    /// The config that every reader of this source gets. Per query: `query` keys the executors' consumer pools.
    fn reader_config(&self, query: &str) -> String;
    /// Batch N is committed: N's records need not be read again. For consumer-group commits and file clean-up.
    async fn committed(&self, _end: &Offset) -> Result<()> {
        Ok(())
    }
    /// Records between `offset` and `latest`, when countable.
    fn lag(&self, _offset: &Offset, _latest: &Offset) -> Option<u64> {
        None
    }
    /// The same by topic and partition, for a source that has them.
    fn partition_lag(&self, _offset: &Offset, _latest: &Offset) -> Vec<(String, i32, u64)> {
        vec![]
    }
    /// Metrics for the progress report, such as `maxOffsetsBehindLatest`.
    fn metrics(&self, _end: &Offset, _latest: &Offset) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    /// Format name by which executors find the reader.
    fn format(&self) -> &'static str;
}

/// Where a read ends: at an offset that the descriptor fixes, or when told to (real-time mode).
#[derive(Clone)]
pub enum ReadUntil {
    /// At the descriptor's end.
    DescriptorEnd,
    /// When the receiver turns true, wherever that is; the reader then reports where it stopped.
    Signal(tokio::sync::watch::Receiver<bool>),
}

/// The executor half of a source or a batch table: descriptor in, batches out.
pub trait Reader: Debug + Send + Sync {
    /// Reads what `descriptor` says. `schema` is that of the output: the full schema under `projection` (indices into
    /// the full schema). Batches have about `batch_rows_max` rows. The stream must stop soon after it is dropped and
    /// never block its thread.
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream>;
}

/// How rows replace what is there. Names as Spark's output modes (streams) and save modes (batch writes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WriteMode {
    /// Add rows; an upsert sink replaces rows of the same key.
    Append,
    /// Changed rows only.
    Update,
    /// The whole result each time.
    Complete,
    /// Replace the whole table (batch).
    Overwrite,
}

/// What a sink is told when it is made.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// Schema of the rows to be written.
    pub schema: SchemaRef,
    /// How rows replace what is there.
    pub mode: WriteMode,
    /// Id of the streaming query, or of the job of a batch write.
    pub query: String,
    /// Whether a stream writes (files then keep `_spark_metadata`).
    pub streaming: bool,
}

/// The driver half of a sink.
#[async_trait]
pub trait Sink: Debug + Send + Sync {
    /// Format name by which executors find the writer.
    fn format(&self) -> &'static str;
    /// As Spark describes it in progress reports.
    fn description(&self) -> String;
    /// Checks that the rows fit the target, creates it when asked to. Called once per run, before the first batch;
    /// repeating it changes nothing. Errors name the column and the remedy.
    async fn prepare(&self) -> Result<()>;
    /// The query that [`Sink::prepare`] was called for never comes to be, or is forgotten: what it took for itself
    /// alone is anybody's again, unless it has committed a batch.
    async fn release(&self) -> Result<()> {
        Ok(())
    }
    /// Whether the target had batches when [`Sink::prepare`] took it for this query: one that has a checkpoint without a
    /// batch is not the one that wrote them, and its batches of the same numbers would pass for committed.
    async fn had_batches(&self) -> Result<bool> {
        Ok(false)
    }
    /// The config that every writer of this sink gets.
    fn writer_config(&self) -> String;
    /// What is done about rows that cannot be written, by the value of option `headwater.badRecords`; empty for a sink
    /// that has no such option.
    fn bad_records(&self) -> &'static str {
        ""
    }
    /// Whether [`SinkTask::close`] returns commit messages that [`Sink::commit`] needs. Without, tasks run with no
    /// shuffle files at all, which is quicker.
    fn needs_commit(&self) -> bool {
        false
    }
    /// Makes batch `batch_id` visible: exactly the messages of the tasks that won. Called again for a batch that is
    /// committed already (a crash between this and the commit log) it changes nothing.
    async fn commit(&self, _batch_id: i64, _messages: Vec<String>) -> Result<()> {
        Ok(())
    }
}

/// Which write a task belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTask {
    /// The batch; 0 for a batch write.
    pub batch_id: i64,
    /// When the batch was decided, in milliseconds since 1970, as the query's log has it: the same when the batch runs
    /// again, greater in each later batch whatever the clocks do. None for a batch write.
    pub batch_time_ms: Option<i64>,
    /// Plan partition, 0-based. Of a sink without commit messages the job's, the same when the batch runs again; of
    /// others as the executor sees it: not unique across tasks of a batch.
    pub partition: usize,
    /// Unique among all attempts of all tasks: part of file names.
    pub attempt: String,
}

/// The executor half of a sink.
#[async_trait]
pub trait Writer: Debug + Send + Sync {
    /// Begins one task's write.
    async fn open(&self, task: WriteTask, schema: SchemaRef, context: Arc<TaskContext>) -> Result<Box<dyn SinkTask>>;
}

/// Counts that a task reports; they become operator metrics and so reach the progress report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Rows written.
    pub rows: u64,
    /// Rows that could not be used, and went where the policy says.
    pub bad_rows: u64,
    /// Requests that were repeated.
    pub retries: u64,
}

/// One task's write. Dropped without [`SinkTask::close`] it leaves nothing visible that a repeat would not overwrite.
#[async_trait]
pub trait SinkTask: Send {
    /// Takes rows; may buffer them.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;
    /// Everything taken so far is durable when this returns; the task goes on (real-time mode's seam).
    async fn flush(&mut self) -> Result<()>;
    /// Flushes and ends. The text is a commit message for [`Sink::commit`].
    async fn close(self: Box<Self>) -> Result<(WriteCounts, Option<String>)>;
}

/// One outside system. Methods it does not support say so by name.
#[async_trait]
pub trait Connector: Debug + Send + Sync {
    /// Spark's name of the format.
    fn format(&self) -> &'static str;
    /// A table for batch queries. `schema`: columns the user declared, if any.
    async fn table(&self, _options: &Options, _schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        Err(unsupported(self.format(), "batch read"))
    }
    /// A stream source. `schema`: columns the user declared, if any.
    async fn source(&self, _options: &Options, _schema: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
        Err(unsupported(self.format(), "streaming read"))
    }
    /// Schema of the stream, without asking the outside system where that is possible.
    async fn source_schema(&self, options: &Options, schema: Option<SchemaRef>) -> Result<SchemaRef> {
        Ok(self.source(options, schema).await?.schema())
    }
    /// A sink.
    async fn sink(&self, _options: &Options, _context: SinkContext) -> Result<Arc<dyn Sink>> {
        Err(unsupported(self.format(), "write"))
    }
    /// Columns that rows to be written may have beside the table's: they say how a row is written, such as its time to
    /// live, or are for dead letters alone.
    fn columns_beside(&self, _options: &Options) -> Result<Vec<String>> {
        Ok(vec![])
    }
    /// The executor half of a read.
    fn reader(&self, _config: &str) -> Result<Arc<dyn Reader>> {
        Err(unsupported(self.format(), "read"))
    }
    /// The executor half of a write.
    fn writer(&self, _config: &str) -> Result<Arc<dyn Writer>> {
        Err(unsupported(self.format(), "write"))
    }
}

fn unsupported(format: &str, what: &str) -> Error {
    Error::invalid("UNSUPPORTED_FEATURE", format!("data source {format} does not support {what}"))
}

/// Connectors that were added at run time, by lower-case format name.
static REGISTERED: RwLock<BTreeMap<String, Arc<dyn Connector>>> = RwLock::new(BTreeMap::new());

/// Adds a connector to this process: an embedder's own, or a test's probe. Every process of the cluster that plans or
/// runs it must register it. One of the same name replaces it; built-in names cannot be replaced.
pub fn register(connector: Arc<dyn Connector>) {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    registered.insert(connector.format().to_ascii_lowercase(), connector);
}

/// The connector of a format name, whatever its case; aliases included. Its options may name secrets: [`secrets`].
///
/// # Errors
/// `DATA_SOURCE_NOT_FOUND` with the names there are.
pub fn find(format: &str) -> Result<Arc<dyn Connector>> {
    named(format).map(|connector| Arc::new(secrets::WithSecrets(connector)) as Arc<dyn Connector>)
}

fn named(format: &str) -> Result<Arc<dyn Connector>> {
    let lower = format.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "kafka" => Arc::new(kafka::Kafka),
        "org.apache.spark.sql.cassandra" | "cassandra" => Arc::new(cassandra::Cassandra),
        "parquet" => Arc::new(files::Files::PARQUET),
        "json" => Arc::new(files::Files::JSON),
        "csv" => Arc::new(files::Files::CSV),
        "text" => Arc::new(files::Files::TEXT),
        "noop" => Arc::new(noop::Noop),
        "memory" => Arc::new(memory::Memory),
        "console" => Arc::new(console::Console),
        "postgres" | "postgresql" | "jdbc" => Arc::new(postgres::Postgres),
        "randomuser" => Arc::new(randomuser::RandomUser),
        "rate" => Arc::new(rate::Rate::PER_SECOND),
        "rate-micro-batch" => Arc::new(rate::Rate::PER_BATCH),
        _ => {
            let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(connector) = registered.get(&lower) {
                return Ok(Arc::clone(connector));
            }
            return Err(Error::invalid(
                "DATA_SOURCE_NOT_FOUND",
                format!(
                    "failed to find data source {format}; there are kafka, org.apache.spark.sql.cassandra (cassandra), \
                     postgres (jdbc), randomuser, parquet, json, csv, text, noop, console, memory, rate, rate-micro-batch"
                ),
            ));
        }
    })
}

/// What a batch table that is read by descriptors must say; [`DescriptorTable`] makes a `TableProvider` of it.
#[async_trait]
pub trait DescriptorScan: Debug + Send + Sync {
    /// Format name for [`find`] on the executor.
    fn format(&self) -> &'static str;
    /// Full schema.
    fn schema(&self) -> SchemaRef;
    /// Which filters the scan takes over.
    fn supports_filters(&self, filters: &[&Expr]) -> Vec<TableProviderFilterPushDown> {
        vec![TableProviderFilterPushDown::Unsupported; filters.len()]
    }
    /// Reader config and one descriptor per plan partition, for these filters. `target_partitions` is a wish.
    async fn plan(
        &self,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
        target_partitions: usize,
    ) -> Result<(String, Vec<String>)>;
}

/// A batch table over a [`DescriptorScan`].
#[derive(Debug)]
pub struct DescriptorTable(pub Arc<dyn DescriptorScan>);

#[async_trait]
impl TableProvider for DescriptorTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
    fn table_type(&self) -> datafusion::logical_expr::TableType {
        datafusion::logical_expr::TableType::Base
    }
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        Ok(self.0.supports_filters(filters))
    }
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.map(Vec::as_slice);
        let (config, descriptors) = self
            .0
            .plan(projection, filters, limit, state.config().target_partitions())
            .await
            .map_err(|e| datafusion::error::DataFusionError::External(Box::new(e)))?;
        crate::operators::source_scan::SourceScanExec::try_new(
            self.0.format().to_string(),
            config,
            self.0.schema(),
            projection.map(<[usize]>::to_vec),
            None,
            &descriptors,
        )
        .map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_keys_ignore_case() {
        let mut options = Options::new([("startingOffsets", "earliest")]);
        assert_eq!(options.get("STARTINGOFFSETS"), Some("earliest"));
        options.set("startingoffsets", "latest");
        assert_eq!(options.iter().collect::<Vec<_>>(), [("startingoffsets", "latest")]);
    }

    #[test]
    fn secrets_are_not_printed() {
        let options = Options::new([("kafka.sasl.password", "hunter2"), ("topic", "t")]);
        assert!(!format!("{options:?}").contains("hunter2"));
        assert!(format!("{options:?}").contains("\"t\""));
        let check = |text: &str, expect: &str| assert_eq!(without_credentials(text), expect);
        check("postgresql://u:hun@ter/2@h:5432/db", "postgresql://u:*********(redacted)@ter/2@h:5432/db");
        check("postgresql://u:hunter2@h:5432/db", "postgresql://u:*********(redacted)@h:5432/db");
        check(
            "jdbc:postgresql://h/db?user=u&password=hunter2&ssl=true",
            "jdbc:postgresql://h/db?user=u&password=*********(redacted)&ssl=true",
        );
        check("http://h:1/a@b", "http://h:1/a@b");
        check("a,b:9092 and x@y", "a,b:9092 and x@y");
    }
}
