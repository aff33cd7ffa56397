//! Writing: rows become upserts by primary key, so that writing a batch again changes nothing. Counters alone are
//! added to, and so are counted again.
//!
//! ```text
//! write ─► encode each row to CQL cells ─► window of rows (8,192 or 4 MiB)
//!             └ bad record ─► policy        │ sort by token, group by replica set, cut into chunks of some 32
//!                                           ▼
//!                     one window in flight: a few workers take its chunks ─► unlogged batch, or single statement
//! ```
//!
//! A window is encoded while the one before it is being written, and no third exists: memory is bounded by two.
//! Order: of rows with one primary key the last wins. A chunk never holds a key twice; the later row goes into a later
//! *wave*, whose client-side timestamp is greater, and windows follow one another. A repeated request keeps its
//! timestamp, so that it cannot overwrite what came after it. A stream's timestamps are its batch's (`Times`): a task
//! that nobody waits for any more, or one on a machine whose clock is ahead, never hides rows of a later batch.

use super::backpressure::{Failure, Throttle, Verdict, with_retries};
use super::convert::{ValueWriter, sized, writer};
use super::options::{BadRecords, Grouping, PerRow, SinkOptions, TableName, WriteOptions};
use super::schema::{TableSchema, create_table, not_found, quoted};
use super::session::{Cluster, cluster, request_error};
use crate::connectors::dead_letters::{self, Ids};
use crate::connectors::{self, Sink, SinkContext, SinkTask, WriteCounts, WriteMode, WriteTask, Writer};
use arrow::array::{RecordBatch, StringArray, new_empty_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use futures::{StreamExt, stream};
use headwater_proto::error::{Error, Result};
use scylla::cluster::metadata::{ColumnType, NativeType};
use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner, PartitionerHasher};
use scylla::serialize::SerializationError;
use scylla::serialize::batch::{BatchValues, BatchValuesIterator};
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

/// Rows of a window: enough that sorting by token pays, few enough that two of them are nothing.
const WINDOW_ROWS: usize = 8_192;
/// Bytes of a window's cells.
const WINDOW_BYTES: usize = 4 << 20;
/// Bad records are few, or should be.
const DEAD_LETTERS_IN_FLIGHT: usize = 16;
/// Cassandra keeps the length of a key in 16 bits.
const KEY_BYTES_MAX: usize = u16::MAX as usize;
/// So many tasks of a batch have write times of their own. A window takes longer to write than as many microseconds.
const TASKS_APART: i64 = 64;
/// Lengths that are none: null and unset.
const NULL: i32 = -1;
const UNSET: i32 = -2;

/// The driver half.
#[derive(Debug)]
pub struct CassandraSink {
    options: SinkOptions,
    context: SinkContext,
    /// Where bad records go, when that is another connector.
    dead_letters: Option<Arc<dyn Sink>>,
}

/// What writers are told.
#[derive(Serialize, Deserialize)]
struct WriterConfig {
    options: SinkOptions,
    query: String,
    /// Config of the connector where bad records go.
    dead_letters: Option<String>,
}

/// Columns of a dead letter that goes to a topic.
fn dead_letter_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, false)]))
}

impl CassandraSink {
    /// A sink for these options; asks nothing of the cluster yet.
    pub async fn new(options: SinkOptions, context: SinkContext) -> Result<Self> {
        let dead_letters = match &options.write.bad_records {
            BadRecords::Topic { options, .. } => {
                let context = SinkContext {
                    schema: dead_letter_schema(),
                    mode: WriteMode::Append,
                    query: context.query.clone(),
                    streaming: context.streaming,
                };
                Some(connectors::find("kafka")?.sink(options, context).await?)
            }
            _ => None,
        };
        Ok(Self { options, context, dead_letters })
    }

    /// The table, made first where it is missing and wished for; its keyspace too.
    async fn table(&self, cluster: &Cluster) -> Result<TableSchema> {
        let name = &self.options.name;
        let found = match cluster.table(name, true).await {
            Err(missing) if missing.class == "SCHEMA_NOT_FOUND" && self.options.create_table => {
                cluster
                    .run(&cluster.create_keyspace(&name.keyspace), &format!("create keyspace {}", name.keyspace))
                    .await?;
                tracing::info!(keyspace = name.keyspace, "created cassandra keyspace");
                None
            }
            found => found?,
        };
        if let Some(table) = found {
            return Ok(table);
        }
        let schema = &self.context.schema;
        let missing = || missing(&self.options, &cluster.label, schema);
        let (true, Some(key)) = (self.options.create_table, &self.options.primary_key) else { return Err(missing()) };
        let statement =
            create_table(name, schema, key, &self.options.column_types, &self.options.write.columns_beside())?;
        cluster.run(&statement, &format!("create table {name}")).await?;
        tracing::info!(table = %name, "created cassandra table");
        cluster.table(name, true).await?.ok_or_else(missing)
    }
}

/// The table is not there, nor to be made.
fn missing(options: &SinkOptions, place: &str, schema: &Schema) -> Error {
    let SinkOptions { name, primary_key, column_types, write, .. } = options;
    not_found(name, place, Some(schema), primary_key.as_ref(), column_types, &write.columns_beside())
}

/// Whether a batch of a stream that runs again changes the table.
fn counted_again(table: &TableSchema, context: &SinkContext) -> bool {
    context.streaming && table.counts()
}

#[async_trait]
impl Sink for CassandraSink {
    fn format(&self) -> &'static str {
        super::FORMAT
    }
    fn description(&self) -> String {
        format!("Cassandra[{}]", self.options.name)
    }
    fn bad_records(&self) -> &'static str {
        self.options.write.bad_records.name()
    }
    async fn prepare(&self) -> Result<()> {
        let name = &self.options.name;
        if self.context.mode == WriteMode::Overwrite && !self.options.confirm_truncate {
            return Err(Error::invalid(
                "CASSANDRA_CONFIRM_TRUNCATE",
                format!(
                    "overwriting table {name} truncates it first: set option confirm.truncate to true, or append to change \
                     rows by their primary key"
                ),
            ));
        }
        let cluster = cluster(&self.options.connection).await?;
        let table = self.table(&cluster).await?;
        Statement::new(&table, &self.context.schema, &self.options.write)?;
        if counted_again(&table, &self.context) {
            tracing::warn!(table = %name, "rows are added to counters: a batch that runs again adds them again");
        }
        if let BadRecords::Table(target) = &self.options.write.bad_records {
            prepare_dead_letters(&cluster, target).await?;
        }
        if let Some(sink) = &self.dead_letters {
            sink.prepare().await?;
        }
        if self.context.mode == WriteMode::Overwrite {
            cluster.run(&format!("TRUNCATE {}", name.cql()), &format!("truncate table {name}")).await?;
        }
        Ok(())
    }
    fn writer_config(&self) -> String {
        let config = WriterConfig {
            options: self.options.clone(),
            query: self.context.query.clone(),
            dead_letters: self.dead_letters.as_ref().map(|sink| sink.writer_config()),
        };
        serde_json::to_string(&config).expect("texts and numbers always serialize")
    }
}

/// A value of the statement, in the statement's order.
#[derive(Debug, Clone, PartialEq)]
struct Bound {
    /// Column of the rows.
    source: usize,
    name: String,
    cql: ColumnType<'static>,
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Part of the primary key: never null.
    Key,
    /// Any other column.
    Value,
    /// Time to live or write time: left to Cassandra where null.
    Setting,
}

/// How rows of one schema are written to one table.
#[derive(Debug, PartialEq)]
struct Statement {
    cql: String,
    bound: Vec<Bound>,
    /// Positions of the partition key's columns, in key order.
    partition: Vec<usize>,
    /// Positions of the primary key's columns.
    key: Vec<usize>,
    counts: bool,
}

impl Statement {
    /// Checks that the rows fit the table, and says how they are written. Pure.
    ///
    /// # Errors
    /// Columns that the table lacks, key columns that the rows lack, types without a conversion; each by name.
    fn new(table: &TableSchema, schema: &Schema, write: &WriteOptions) -> Result<Self> {
        let name = &table.name;
        let refuse = |class: &str, message: String| Err(Error::invalid(class, message));
        if table.view {
            let message = format!("{name} is a materialized view, which cannot be written: write its base table");
            return refuse("CASSANDRA_VIEW_NOT_WRITABLE", message);
        }
        let names = |names: Vec<&str>| names.join(", ");
        let beside = write.columns_beside();
        dead_letters::check_columns(&write.letter_columns, schema, |column| table.column(column).is_some())?;
        let fields: Vec<_> = schema.fields().iter().enumerate().collect();
        let unknown: Vec<&str> = fields
            .iter()
            .map(|(_, field)| field.name().as_str())
            .filter(|field| table.column(field).is_none() && !beside.contains(field))
            .collect();
        if !unknown.is_empty() {
            let known = table.columns.iter().map(|column| column.name.as_str()).collect();
            let message = format!(
                "Column(s) {} not found in table {name}, which has {}: drop or rename them, or alter the table",
                names(unknown),
                names(known)
            );
            return refuse("UNRESOLVED_COLUMN.WITH_SUGGESTION", message);
        }
        let position = |wanted: &str| fields.iter().find(|(_, field)| field.name() == wanted).map(|(at, _)| *at);
        let missing: Vec<&str> = table
            .partition_key
            .iter()
            .chain(&table.clustering)
            .map(String::as_str)
            .filter(|column| position(column).is_none() || beside.contains(column))
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "Attempting to write to C* Table {name} but missing primary key columns: [{}]: select them",
                names(missing)
            );
            return refuse("CASSANDRA_MISSING_PRIMARY_KEY_COLUMNS", message);
        }
        let bind = |source: usize, cql: ColumnType<'static>, role: Role| {
            let field = schema.field(source);
            match writer(&new_empty_array(field.data_type()), &cql) {
                Ok(_) => Ok(Bound { source, name: field.name().clone(), cql, role }),
                Err(reason) => Err(Error::invalid(
                    "CANNOT_UP_CAST_DATATYPE",
                    format!("column {} of table {name}: {reason}; cast it in the query", field.name()),
                )),
            }
        };
        let mut bound = vec![];
        for (source, field) in &fields {
            if let Some(column) = table.column(field.name()).filter(|_| !beside.contains(&field.name().as_str())) {
                let role = if table.is_key(&column.name) { Role::Key } else { Role::Value };
                bound.push(bind(*source, column.cql.clone(), role)?);
            }
        }
        let counts = table.counts();
        if counts {
            if write.if_not_exists || write.ttl.is_some() || write.writetime.is_some() {
                let message = format!("table {name} counts: it takes neither ifNotExists nor ttl nor writetime");
                return refuse("CASSANDRA_INVALID_OPTION", message);
            }
            // `UPDATE` names what it sets before what it looks for.
            bound.sort_by_key(|bound| bound.role == Role::Key);
            if bound.iter().all(|bound| bound.role == Role::Key) {
                let message = format!("table {name} counts, yet the rows have no counter column: select one");
                return refuse("CASSANDRA_MISSING_COUNTER_COLUMNS", message);
            }
        }
        let columns = bound.len();
        let mut using = vec![];
        for (keyword, setting, native) in
            [("TTL", &write.ttl, NativeType::Int), ("TIMESTAMP", &write.writetime, NativeType::BigInt)]
        {
            match setting {
                None => {}
                Some(PerRow::Constant(value)) => using.push(format!("{keyword} {value}")),
                Some(PerRow::Column(column)) => {
                    let Some(source) = position(column) else {
                        let message = format!("the rows have no column {column}, named as their {keyword}");
                        return refuse("CASSANDRA_INVALID_OPTION", message);
                    };
                    bound.push(bind(source, ColumnType::Native(native), Role::Setting)?);
                    using.push(format!("{keyword} ?"));
                }
            }
        }
        let at = |column: &String| bound.iter().position(|bound| &bound.name == column && bound.role == Role::Key);
        let partition: Vec<usize> = table.partition_key.iter().filter_map(at).collect();
        let key = table.partition_key.iter().chain(&table.clustering).filter_map(at).collect();
        let cql = if counts {
            let of = |key: bool| bound.iter().filter(move |bound| (bound.role == Role::Key) == key);
            let set: Vec<_> = of(false).map(|bound| quoted(&bound.name)).map(|c| format!("{c} = {c} + ?")).collect();
            let find: Vec<_> = of(true).map(|bound| format!("{} = ?", quoted(&bound.name))).collect();
            format!("UPDATE {} SET {} WHERE {}", name.cql(), set.join(", "), find.join(" AND "))
        } else {
            let columns: Vec<_> = bound[..columns].iter().map(|bound| quoted(&bound.name)).collect();
            let marks = vec!["?"; columns.len()].join(", ");
            let exists = if write.if_not_exists { " IF NOT EXISTS" } else { "" };
            let using = if using.is_empty() { String::new() } else { format!(" USING {}", using.join(" AND ")) };
            format!("INSERT INTO {} ({}) VALUES ({marks}){exists}{using}", name.cql(), columns.join(", "))
        };
        Ok(Self { cql, bound, partition, key, counts })
    }
}

/// A row of a window, as cells in its arena.
#[derive(Debug, Clone, Copy)]
struct Row {
    token: i64,
    start: usize,
    end: usize,
    /// Where it came from: batch of the window, row of the batch.
    batch: u32,
    row: u32,
}

/// Rows of a window that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    start: usize,
    end: usize,
    /// Rows of one key are in ascending waves.
    wave: u32,
}

/// Rows on their way.
struct Window {
    /// Each cell as the native protocol has it: a length, then bytes.
    arena: Vec<u8>,
    rows: Vec<Row>,
    chunks: Vec<Chunk>,
    /// What the rows were, for those that Cassandra refuses.
    batches: Vec<RecordBatch>,
    /// From one wave to the next.
    timestamp_step: i64,
    /// Timestamp of the first wave.
    timestamp: i64,
    next: AtomicUsize,
    /// A request failed for good: take no more.
    stopped: AtomicBool,
}

/// The cells of a row.
#[derive(Clone, Copy)]
struct Cells<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    /// Length, and bytes where there are any.
    type Item = (i32, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.bytes.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let (cell, rest) = rest.split_at_checked(length.max(0) as usize)?;
        self.bytes = rest;
        Some((length, cell))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the row has {found} values, the statement {expected}")]
struct WrongCount {
    found: usize,
    expected: usize,
}

impl SerializeRow for Cells<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let mut found = 0;
        for (length, cell) in *self {
            found += 1;
            match length {
                NULL => _ = writer.make_cell_writer().set_null(),
                UNSET => _ = writer.make_cell_writer().set_unset(),
                _ => _ = writer.make_cell_writer().set_value(cell).map_err(SerializationError::new)?,
            }
        }
        let expected = context.columns().len();
        if found == expected { Ok(()) } else { Err(SerializationError::new(WrongCount { found, expected })) }
    }
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The rows of a chunk, as the driver's batch asks for them.
struct ChunkRows {
    window: Arc<Window>,
    start: usize,
    end: usize,
}

struct ChunkIterator<'a> {
    window: &'a Window,
    at: usize,
    end: usize,
}

impl BatchValues for ChunkRows {
    type BatchValuesIter<'r> = ChunkIterator<'r>;
    fn batch_values_iter(&self) -> Self::BatchValuesIter<'_> {
        ChunkIterator { window: &self.window, at: self.start, end: self.end }
    }
}

impl ChunkIterator<'_> {
    fn advance(&mut self) -> Option<usize> {
        (self.at < self.end).then(|| {
            self.at += 1;
            self.at - 1
        })
    }
}

impl<'r> BatchValuesIterator<'r> for ChunkIterator<'r> {
    fn serialize_next(
        &mut self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Option<Result<(), SerializationError>> {
        let at = self.advance()?;
        Some(self.window.cells(at).serialize(context, writer))
    }
    fn is_empty_next(&mut self) -> Option<bool> {
        self.advance().map(|at| self.window.cells(at).is_empty())
    }
    fn skip_next(&mut self) -> Option<()> {
        self.advance().map(|_| ())
    }
}

impl Window {
    fn cells(&self, at: usize) -> Cells<'_> {
        let row = &self.rows[at];
        Cells { bytes: &self.arena[row.start..row.end] }
    }
}

/// How rows may be cut into chunks.
#[derive(Debug, Clone, Copy)]
struct Cut {
    rows: usize,
    bytes: usize,
    by_partition: bool,
}

/// Sorts rows and cuts them: waves first, then replica sets, then tokens. `key` gives a row's primary key; `group` its
/// set of replicas. Pure.
fn arrange<'a>(
    rows: &mut Vec<Row>,
    cut: Cut,
    separate_waves: bool,
    key: impl Fn(&Row) -> Vec<&'a [u8]>,
    group: impl Fn(i64) -> u32,
) -> Vec<Chunk> {
    // Stable: rows of one token stay in the order of their arrival.
    rows.sort_by_key(|row| row.token);
    let mut places: Vec<(u32, u32)> = rows.iter().map(|row| (0, group(row.token))).collect();
    if separate_waves {
        let mut start = 0;
        for run in rows.chunk_by(|a, b| a.token == b.token) {
            if run.len() > 1 {
                let mut seen: HashMap<Vec<&[u8]>, u32> = HashMap::with_capacity(run.len());
                for (at, row) in run.iter().enumerate() {
                    let count = seen.entry(key(row)).or_default();
                    places[start + at].0 = *count;
                    *count += 1;
                }
            }
            start += run.len();
        }
    }
    if !places.is_sorted() {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|at| places[*at]);
        *rows = order.iter().map(|at| rows[*at]).collect();
        places = order.iter().map(|at| places[*at]).collect();
    }
    let mut chunks: Vec<Chunk> = vec![];
    let mut bytes = 0;
    for (at, row) in rows.iter().enumerate() {
        let size = row.end - row.start;
        let joins = chunks.last().is_some_and(|chunk| {
            places[at] == places[chunk.start]
                && chunk.end - chunk.start < cut.rows
                && bytes + size <= cut.bytes
                && (!cut.by_partition || row.token == rows[chunk.start].token)
        });
        match chunks.last_mut() {
            Some(chunk) if joins => {
                chunk.end = at + 1;
                bytes += size;
            }
            _ => {
                chunks.push(Chunk { start: at, end: at + 1, wave: places[at].0 });
                bytes = size;
            }
        }
    }
    chunks
}

/// Microseconds since 1970 for `waves` waves, later than any given before by this process.
fn timestamps(waves: u32) -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = chrono::Utc::now().timestamp_micros();
    let step = i64::from(waves.max(1));
    let first = |last: i64| now.max(last + 1);
    let last = LAST
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(first(last) + step - 1))
        .unwrap_or_else(|last| last);
    first(last)
}

/// Where the write times of a task come from, in microseconds since 1970. A user's own win over all of them.
#[derive(Debug, PartialEq, Eq)]
enum Times {
    /// The clock of this process.
    Clock,
    /// The batch: when it was decided, and on from there. That is the same when the batch runs again, wherever and
    /// whenever it does, and less than in any later batch, which begins after this one has been written.
    Batch {
        /// The next one.
        next: i64,
    },
}

impl Times {
    fn of(task: &WriteTask) -> Self {
        match task.batch_time_ms {
            Some(time) => {
                // Where times are equal Cassandra takes the greater value of each cell, and so mixes rows.
                let apart = task.partition as i64 % TASKS_APART;
                Self::Batch { next: time.saturating_mul(1_000).saturating_add(apart) }
            }
            None => Self::Clock,
        }
    }

    /// That of the first of a window's waves, and how far each wave is from the one before.
    fn window(&mut self, waves: u32) -> (i64, i64) {
        match self {
            Self::Clock => (timestamps(waves), 1),
            Self::Batch { next } => {
                let first = *next;
                *next = first.saturating_add(i64::from(waves.max(1)) * TASKS_APART);
                (first, TASKS_APART)
            }
        }
    }
}

/// Whether Cassandra's `Invalid` is about the values of a row, not about the statement or the table.
fn is_about_values(causes: &[String]) -> bool {
    const PHRASES: [&str; 10] = [
        "may not be empty",
        "too large",
        "longer than",
        "null value",
        "ttl",
        "marshal",
        "validate",
        "out of bound",
        "expected ",
        "oversized",
    ];
    causes.last().is_some_and(|cause| {
        let cause = cause.to_ascii_lowercase();
        PHRASES.iter().any(|phrase| cause.contains(phrase))
    })
}

/// What the tasks of a write share on this executor.
struct Shared {
    cluster: Arc<Cluster>,
    prepared: PreparedStatement,
    statement: Statement,
    /// What the statement was made for.
    table: TableSchema,
    write: WriteOptions,
    name: TableName,
    throttle: Option<Throttle>,
}

/// What a worker did with its share of a window.
#[derive(Default)]
struct Done {
    rows: u64,
    retries: u64,
    refused: Vec<(usize, String)>,
    failure: Option<Failure>,
}

impl Shared {
    fn idempotent(&self) -> bool {
        // `IF NOT EXISTS` twice leaves what once leaves: it may be repeated. A counter may not.
        !self.statement.counts
    }

    fn batch(&self, rows: usize) -> Batch {
        let kind = if self.statement.counts { BatchType::Counter } else { BatchType::Unlogged };
        let mut batch = Batch::new(kind);
        batch.statements.extend((0..rows).map(|_| self.prepared.clone().into()));
        batch.set_consistency(self.write.consistency.0);
        batch.set_is_idempotent(self.idempotent());
        batch
    }

    /// Takes chunks of the window until none is left.
    async fn work(self: Arc<Self>, window: Arc<Window>) -> Done {
        let mut done = Done::default();
        let mut batch = None;
        while !window.stopped.load(Ordering::Relaxed) {
            let at = window.next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = window.chunks.get(at) else { break };
            if let Some(throttle) = &self.throttle {
                let bytes: usize = window.rows[chunk.start..chunk.end].iter().map(|row| row.end - row.start).sum();
                throttle.take(bytes as u64).await;
            }
            if let Err(failure) = self.send(&window, chunk, &mut batch, &mut done).await {
                window.stopped.store(true, Ordering::Relaxed);
                done.retries += u64::from(failure.retries);
                done.failure = Some(failure);
            }
        }
        done
    }

    async fn send(
        &self,
        window: &Arc<Window>,
        chunk: &Chunk,
        batch: &mut Option<Batch>,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let size = chunk.end - chunk.start;
        if size > 1 {
            let batch = match batch {
                Some(batch) if batch.statements.len() == size => batch,
                other => other.insert(self.batch(size)),
            };
            batch.set_timestamp(self.timestamp(window, chunk));
            let rows = ChunkRows { window: Arc::clone(window), start: chunk.start, end: chunk.end };
            let (batch, rows) = (&*batch, &rows);
            let session = self.cluster.session();
            // The driver would log Cassandra's warning of each batch that covers many partitions, which these do on
            // purpose: they are of one set of replicas.
            let request = || session.batch(batch, rows).with_subscriber(NoSubscriber::default());
            match with_retries(&self.cluster.limiter, self.write.retries_max, self.idempotent(), request).await {
                Ok((_, retries)) => {
                    done.rows += size as u64;
                    done.retries += u64::from(retries);
                    return Ok(());
                }
                // One of the rows, or their sum: each alone will tell.
                Err(failure) if failure.verdict == Verdict::Invalid && is_about_values(&failure.causes) => {
                    done.retries += u64::from(failure.retries);
                }
                Err(failure) => return Err(failure),
            }
        }
        let mut prepared = self.prepared.clone();
        prepared.set_timestamp(self.timestamp(window, chunk));
        let (prepared, session) = (&prepared, self.cluster.session());
        for at in chunk.start..chunk.end {
            let request = || session.execute_unpaged(prepared, window.cells(at));
            match with_retries(&self.cluster.limiter, self.write.retries_max, self.idempotent(), request).await {
                Ok((_, retries)) => {
                    done.rows += 1;
                    done.retries += u64::from(retries);
                }
                Err(failure) if failure.verdict == Verdict::Invalid && is_about_values(&failure.causes) => {
                    done.refused.push((at, failure.causes.join("; ")));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Conditional writes and counters take their time from the cluster.
    fn timestamp(&self, window: &Window, chunk: &Chunk) -> Option<i64> {
        (!self.write.if_not_exists && !self.statement.counts)
            .then(|| window.timestamp + i64::from(chunk.wave) * window.timestamp_step)
    }

    /// Sorts and cuts what was encoded.
    fn window(
        &self,
        arena: Vec<u8>,
        mut rows: Vec<Row>,
        batches: Vec<RecordBatch>,
        times: &mut Times,
        done: &mut WriteCounts,
    ) -> Window {
        let replicas = self.cluster.replicas(&self.name);
        let by_replica = self.write.grouping == Grouping::ReplicaSet && !replicas.is_single();
        let conditional = self.write.if_not_exists;
        let cut = Cut {
            // A batch with conditions must stay within a partition, and fails as a whole.
            rows: if conditional { 1 } else { self.write.batch_size.rows },
            bytes: self.write.batch_size.bytes,
            by_partition: self.write.grouping == Grouping::Partition,
        };
        let key = |row: &Row| {
            let cells: Vec<&[u8]> = Cells { bytes: &arena[row.start..row.end] }.map(|(_, cell)| cell).collect();
            self.statement.key.iter().map(|at| cells[*at]).collect()
        };
        let group = |token| if by_replica { replicas.group(token) } else { 0 };
        // Counters add up whatever their order.
        let mut chunks = arrange(&mut rows, cut, !self.statement.counts, key, group);
        if conditional {
            // Of rows with one key the first is kept, so that the later ones need not be sent.
            done.rows += chunks.iter().filter(|chunk| chunk.wave > 0).count() as u64;
            chunks.retain(|chunk| chunk.wave == 0);
        }
        let waves = chunks.iter().map(|chunk| chunk.wave + 1).max().unwrap_or(1);
        let (timestamp, timestamp_step) = times.window(waves);
        Window {
            arena,
            rows,
            chunks,
            batches,
            timestamp_step,
            timestamp,
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }
}

/// The executor half.
pub struct CassandraWriter {
    config: Arc<WriterConfig>,
}

impl std::fmt::Debug for CassandraWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CassandraWriter").field("options", &self.config.options).finish_non_exhaustive()
    }
}

impl CassandraWriter {
    /// From what [`CassandraSink::writer_config`] gave.
    pub fn new(config: &str) -> Result<Self> {
        let config =
            serde_json::from_str(config).map_err(|e| Error::internal(format!("cassandra writer config: {e}")))?;
        Ok(Self { config: Arc::new(config) })
    }
}

#[async_trait]
impl Writer for CassandraWriter {
    async fn open(&self, task: WriteTask, schema: SchemaRef, context: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        let options = &self.config.options;
        let cluster = cluster(&options.connection).await?;
        let missing = || missing(options, &cluster.label, &schema);
        let mut table = cluster.table(&options.name, false).await?.ok_or_else(missing)?;
        let statement = match Statement::new(&table, &schema, &options.write) {
            Ok(statement) => statement,
            // What is known may be a minute old, and the table have grown a column since.
            Err(_) => {
                table = cluster.table(&options.name, true).await?.ok_or_else(missing)?;
                Statement::new(&table, &schema, &options.write)?
            }
        };
        let mut prepared = cluster.prepare(&statement.cql).await?;
        prepared.set_consistency(options.write.consistency.0);
        prepared.set_is_idempotent(!statement.counts);
        let letters = match &self.config.dead_letters {
            Some(config) => {
                let writer = connectors::find("kafka")?.writer(config)?;
                Some(writer.open(task.clone(), dead_letter_schema(), context).await?)
            }
            None => None,
        };
        Ok(Box::new(Task {
            shared: Arc::new(Shared {
                cluster,
                prepared,
                statement,
                table,
                throttle: Throttle::new(options.write.bytes_per_second),
                write: options.write.clone(),
                name: options.name.clone(),
            }),
            config: Arc::clone(&self.config),
            batch_id: task.batch_id,
            times: Times::of(&task),
            ids: Ids::new(&self.config.query, &task),
            arena: vec![],
            rows: vec![],
            batches: vec![],
            in_flight: None,
            workers: JoinSet::new(),
            bad: vec![],
            letters,
            counts: WriteCounts::default(),
        }))
    }
}

/// A row that cannot be written.
struct BadRecord {
    /// One row.
    record: RecordBatch,
    reason: String,
}

struct Task {
    shared: Arc<Shared>,
    config: Arc<WriterConfig>,
    batch_id: i64,
    times: Times,
    /// Of bad records.
    ids: Ids,
    arena: Vec<u8>,
    rows: Vec<Row>,
    batches: Vec<RecordBatch>,
    in_flight: Option<Arc<Window>>,
    /// Those that write the window in flight; they end with the task.
    workers: JoinSet<Done>,
    bad: Vec<BadRecord>,
    letters: Option<Box<dyn SinkTask>>,
    counts: WriteCounts,
}

/// Appends a row's cells to the arena.
///
/// # Errors
/// Why the row is a bad record; the arena is then as before.
fn encode(
    arena: &mut Vec<u8>,
    offsets: &mut Vec<(usize, usize)>,
    statement: &Statement,
    writers: &[ValueWriter],
    ignore_nulls: bool,
    row: usize,
) -> Result<Row, String> {
    let start = arena.len();
    offsets.clear();
    let mut cells = || {
        for (bound, writer) in statement.bound.iter().zip(writers) {
            let cell = arena.len();
            if writer.is_null(row) {
                match bound.role {
                    Role::Key => return Err(format!("null primary key column {}", bound.name)),
                    Role::Value if !ignore_nulls && !statement.counts => arena.extend_from_slice(&NULL.to_be_bytes()),
                    Role::Value | Role::Setting => arena.extend_from_slice(&UNSET.to_be_bytes()),
                }
                offsets.push((cell + 4, cell + 4));
                continue;
            }
            sized(arena, |arena| writer.write(row, arena))
                .map_err(|reason| format!("column {}: {reason}", bound.name))?;
            if bound.role == Role::Key && arena.len() - cell - 4 > KEY_BYTES_MAX {
                return Err(format!("primary key column {} has more than {KEY_BYTES_MAX} bytes", bound.name));
            }
            offsets.push((cell + 4, arena.len()));
        }
        Ok(())
    };
    if let Err(reason) = cells() {
        arena.truncate(start);
        return Err(reason);
    }
    let mut hasher = Murmur3Partitioner.build_hasher();
    match statement.partition.as_slice() {
        [only] => {
            let (from, until) = offsets[*only];
            if from == until {
                arena.truncate(start);
                return Err(format!("empty partition key column {}", statement.bound[*only].name));
            }
            hasher.write(&arena[from..until]);
        }
        // Each component with its length in 16 bits and a zero byte.
        several => {
            for at in several {
                let (from, until) = offsets[*at];
                hasher.write(&((until - from) as u16).to_be_bytes());
                hasher.write(&arena[from..until]);
                hasher.write(&[0]);
            }
        }
    }
    Ok(Row { token: hasher.finish().value(), start, end: arena.len(), batch: 0, row: row as u32 })
}

impl Task {
    /// Applies the policy for bad records that can be applied at once.
    fn bad(&mut self, record: RecordBatch, reason: String) -> Result<()> {
        let table = &self.shared.name;
        let policy = &self.shared.write.bad_records;
        if *policy == BadRecords::Fail {
            return Err(Error::invalid(
                "CASSANDRA_BAD_RECORD",
                format!(
                    "a row cannot be written to table {table}: {reason}; repair it in the query, or set option \
                     headwater.badRecords to skip or dead-letter"
                ),
            ));
        }
        if self.counts.bad_rows == 0 {
            tracing::warn!(%table, batch_id = self.batch_id, %reason, "bad record; the first of this task");
        }
        self.counts.bad_rows += 1;
        if *policy != BadRecords::Skip {
            self.bad.push(BadRecord { record, reason });
        }
        Ok(())
    }

    /// Waits until the window in flight is written.
    async fn landed(&mut self) -> Result<()> {
        let Some(window) = self.in_flight.clone() else { return Ok(()) };
        let (mut causes, mut retries, mut verdict): (Vec<String>, u32, Option<Verdict>) = (vec![], 0, None);
        let mut refused = vec![];
        while let Some(done) = self.workers.join_next().await {
            let done = done.map_err(|error| Error::internal(format!("a cassandra writer ended early: {error}")))?;
            self.counts.rows += done.rows;
            self.counts.retries += done.retries;
            refused.extend(done.refused);
            if let Some(failure) = done.failure {
                retries += failure.retries;
                // What will not get better decides over what may.
                if verdict != Some(Verdict::Fail) {
                    verdict = Some(failure.verdict);
                }
                causes.extend(failure.causes);
            }
        }
        self.in_flight = None;
        if let Some(verdict) = verdict {
            self.shared.cluster.forget(&self.shared.statement.cql);
            let mut distinct = std::collections::BTreeSet::new();
            causes.retain(|cause| distinct.insert(cause.clone()));
            let failure = Failure { verdict, causes, retries };
            let what = format!("write batch {} to table {}", self.batch_id, self.shared.name);
            let error = request_error(&failure, &what, &self.shared.cluster.label);
            return Err(Error::new(error.kind, "CASSANDRA_WRITE_FAILED", error.message));
        }
        if !refused.is_empty() {
            self.table_is_the_same().await?;
        }
        for (at, reason) in refused {
            let row = window.rows[at];
            let record = window.batches[row.batch as usize].slice(row.row as usize, 1);
            self.bad(record, reason)?;
        }
        Ok(())
    }

    /// A table that was made anew with other types refuses good rows: those are not bad records.
    async fn table_is_the_same(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        if shared.cluster.table(&shared.name, true).await?.as_ref() == Some(&shared.table) {
            return Ok(());
        }
        shared.cluster.forget(&shared.statement.cql);
        Err(Error::transient(
            "CASSANDRA_TABLE_CHANGED",
            format!(
                "table {} changed on cassandra {} while batch {} was written: the batch has to run again",
                shared.name, shared.cluster.label, self.batch_id
            ),
        ))
    }

    /// Sends what was encoded, once the window before it is written.
    async fn dispatch(&mut self) -> Result<()> {
        self.landed().await?;
        let (arena, rows) = (std::mem::take(&mut self.arena), std::mem::take(&mut self.rows));
        let batches = std::mem::take(&mut self.batches);
        if rows.is_empty() {
            return Ok(());
        }
        let window = Arc::new(self.shared.window(arena, rows, batches, &mut self.times, &mut self.counts));
        for _ in 0..self.shared.write.concurrent_writes.min(window.chunks.len()) {
            self.workers.spawn(Arc::clone(&self.shared).work(Arc::clone(&window)));
        }
        self.in_flight = Some(window);
        Ok(())
    }

    /// Writes the bad records where they belong.
    async fn send_dead_letters(&mut self) -> Result<()> {
        if self.bad.is_empty() {
            return Ok(());
        }
        let letters = std::mem::take(&mut self.bad)
            .into_iter()
            .map(|bad| DeadLetter::new(&mut self.ids, bad))
            .collect::<Result<Vec<_>>>()?;
        match &self.shared.write.bad_records {
            BadRecords::Table(table) => {
                let cluster = &self.shared.cluster;
                let mut insert = cluster.prepare(&DeadLetter::insert(table)).await?;
                insert.set_consistency(self.shared.write.consistency.0);
                insert.set_is_idempotent(true);
                let now = chrono::Utc::now();
                let (query, batch_id) = (self.config.query.as_str(), self.batch_id);
                let retries_max = self.shared.write.retries_max;
                let insert = &insert;
                let mut sent = stream::iter(letters)
                    .map(|letter| async move {
                        let values = (letter.id, query, batch_id, &letter.reason, &letter.record, now);
                        let request = || cluster.session().execute_unpaged(insert, &values);
                        with_retries(&cluster.limiter, retries_max, true, request).await.map(|(_, retries)| retries)
                    })
                    .buffer_unordered(DEAD_LETTERS_IN_FLIGHT);
                while let Some(sent) = sent.next().await {
                    let retries = sent.map_err(|failure| {
                        request_error(&failure, &format!("write to dead letter table {table}"), &cluster.label)
                    })?;
                    self.counts.retries += u64::from(retries);
                }
            }
            BadRecords::Topic { topic, .. } => {
                let Some(sink) = &mut self.letters else {
                    return Err(Error::internal(format!("no writer for dead letter topic {topic}")));
                };
                let keys: StringArray = letters.iter().map(|letter| Some(letter.id.to_string())).collect();
                let values: StringArray =
                    letters.iter().map(|l| Some(l.json(&self.config.query, self.batch_id))).collect();
                let batch = RecordBatch::try_new(dead_letter_schema(), vec![Arc::new(keys), Arc::new(values)])
                    .map_err(Error::internal)?;
                sink.write(batch).await?;
            }
            BadRecords::Fail | BadRecords::Skip => {}
        }
        Ok(())
    }
}

#[async_trait]
impl SinkTask for Task {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let statement = &shared.statement;
        let writers = statement
            .bound
            .iter()
            .map(|bound| writer(batch.column(bound.source), &bound.cql))
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::internal)?;
        let mut offsets = Vec::with_capacity(statement.bound.len());
        // Batches of a window, so that its rows can be found again.
        let mut number = None;
        for row in 0..batch.num_rows() {
            match encode(&mut self.arena, &mut offsets, statement, &writers, shared.write.ignore_nulls, row) {
                Ok(encoded) => {
                    let number = *number.get_or_insert_with(|| {
                        self.batches.push(batch.clone());
                        self.batches.len() as u32 - 1
                    });
                    self.rows.push(Row { batch: number, ..encoded });
                }
                Err(reason) => self.bad(batch.slice(row, 1), reason)?,
            }
            if self.rows.len() >= WINDOW_ROWS || self.arena.len() >= WINDOW_BYTES {
                self.dispatch().await?;
                number = None;
            } else if row % 1024 == 1023 {
                tokio::task::yield_now().await;
            }
        }
        // They hold their rows' batches.
        self.send_dead_letters().await
    }

    async fn flush(&mut self) -> Result<()> {
        self.dispatch().await?;
        self.landed().await?;
        self.send_dead_letters().await?;
        match &mut self.letters {
            Some(letters) => letters.flush().await,
            None => Ok(()),
        }
    }

    async fn close(mut self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        self.flush().await?;
        if let Some(letters) = self.letters.take() {
            let (counts, _) = letters.close().await?;
            self.counts.retries += counts.retries;
        }
        if self.counts.bad_rows > 0 {
            tracing::warn!(table = %self.shared.name, batch_id = self.batch_id, bad_rows = self.counts.bad_rows, "bad records");
        }
        Ok((self.counts, None))
    }
}

/// A bad record as it is kept.
struct DeadLetter {
    /// The same when the batch runs again.
    id: uuid::Uuid,
    reason: String,
    /// The row as JSON.
    record: String,
}

impl DeadLetter {
    fn new(ids: &mut Ids, bad: BadRecord) -> Result<Self> {
        let record = dead_letters::json(&bad.record)?;
        Ok(Self { id: ids.next(&bad.reason, &record), reason: bad.reason, record })
    }

    fn insert(table: &TableName) -> String {
        format!("INSERT INTO {} (id, query, batch_id, reason, record, at) VALUES (?, ?, ?, ?, ?, ?)", table.cql())
    }

    fn json(&self, query: &str, batch_id: i64) -> String {
        serde_json::json!({
            "id": self.id, "query": query, "batch_id": batch_id, "reason": self.reason, "record": self.record,
        })
        .to_string()
    }
}

async fn prepare_dead_letters(cluster: &Cluster, table: &TableName) -> Result<()> {
    if cluster.table(table, false).await?.is_none() {
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {} (id uuid PRIMARY KEY, query text, batch_id bigint, reason text, record text, \
             at timestamp)",
            table.cql()
        );
        cluster.run(&create, &format!("create dead letter table {table}")).await?;
    }
    cluster.prepare(&DeadLetter::insert(table)).await.map(|_| ())
}

#[cfg(test)]
mod unit_tests {
    use super::*;
    use crate::connectors::Options;
    use crate::connectors::cassandra::schema::TableColumn;
    use arrow::array::{ArrayRef, Int32Array};

    fn table(counts: bool) -> TableSchema {
        let column = |name: &str, native| TableColumn { name: name.into(), cql: ColumnType::Native(native) };
        TableSchema {
            name: TableName { keyspace: "k".into(), table: "t".into() },
            columns: vec![
                column("id", NativeType::Uuid),
                column("at", NativeType::Int),
                column("n", if counts { NativeType::Counter } else { NativeType::Int }),
            ],
            partition_key: vec!["id".into()],
            clustering: vec!["at".into()],
            view: false,
        }
    }

    fn options(pairs: &[(&str, &str)]) -> WriteOptions {
        let mut options = Options::new([("keyspace", "k"), ("table", "t")]);
        pairs.iter().for_each(|(key, value)| options.set(*key, *value));
        SinkOptions::parse(&options).unwrap().write
    }

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(columns.iter().map(|(name, typ)| Field::new(*name, typ.clone(), true)).collect::<Vec<_>>())
    }

    #[test]
    fn statements() {
        let check = |table: &TableSchema, extra: &[(&str, DataType)], pairs: &[(&str, &str)], expect: &str| {
            let mut columns = vec![("n", DataType::Int32), ("id", DataType::Utf8), ("at", DataType::Int64)];
            columns.extend(extra.iter().cloned());
            let statement = Statement::new(table, &schema(&columns), &options(pairs)).unwrap();
            assert_eq!(statement.cql, expect);
            let names: Vec<&str> = statement.key.iter().map(|at| statement.bound[*at].name.as_str()).collect();
            assert_eq!(names, ["id", "at"]);
            assert_eq!(statement.partition, statement.key[..1]);
        };
        let insert = r#"INSERT INTO "k"."t" ("n", "id", "at") VALUES (?, ?, ?)"#;
        check(&table(false), &[], &[], insert);
        check(&table(false), &[], &[("ttl", "60")], &format!("{insert} USING TTL 60"));
        check(
            &table(false),
            &[("keep", DataType::Int32), ("w", DataType::Int64)],
            &[("ttl", "keep"), ("writetime", "w")],
            &format!("{insert} USING TTL ? AND TIMESTAMP ?"),
        );
        check(
            &table(false),
            &[],
            &[("spark.cassandra.output.ifNotExists", "true"), ("ttl", "5")],
            &format!("{insert} IF NOT EXISTS USING TTL 5"),
        );
        check(&table(true), &[], &[], r#"UPDATE "k"."t" SET "n" = "n" + ? WHERE "id" = ? AND "at" = ?"#);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_by_name() {
        const SERVERS: (&str, &str) = ("headwater.deadLetter.kafka.bootstrap.servers", "k:9092");
        let check = |columns: &[(&str, DataType)], pairs: &[(&str, &str)], part: &str| {
            let error = Statement::new(&table(false), &schema(columns), &options(pairs)).expect_err(part);
            assert!(error.message.contains(part), "{error}");
        };
        let keys = [("id", DataType::Utf8), ("at", DataType::Int32)];
        let with = |name, typ| keys.iter().cloned().chain([(name, typ)]).collect::<Vec<_>>();
        check(&with("x", DataType::Int32), &[], "Column(s) x not found in table k.t, which has id, at, n");
        check(&keys[..1], &[], "missing primary key columns: [at]");
        check(&with("n", DataType::Date32), &[], "Date32 cannot be converted to int");
        check(&keys, &[("ttl", "keep")], "no column keep");
        let letters =
            |columns| [("headwater.deadLetter.topic", "d"), SERVERS, ("headwater.deadLetter.columns", columns)];
        check(&keys, &letters("x"), "column x, yet the rows have id, at");
        check(&with("n", DataType::Int32), &letters("n"), "column n, yet the table has it");
        check(&with("x", DataType::Int32), &letters("x, y"), "column y, yet the rows have id, at, x");
        assert!(Statement::new(&table(false), &schema(&with("x", DataType::Int32)), &options(&letters("x"))).is_ok());
        let mut view = table(false);
        view.view = true;
        let error = Statement::new(&view, &schema(&keys), &options(&[])).unwrap_err();
        assert!(error.message.contains("materialized view"), "{error}");
    }

    #[test]
    fn counters_are_counted_again_by_streams() {
        let check = |counts: bool, streaming: bool, expect: bool| {
            let schema = Arc::new(Schema::empty());
            let context = SinkContext { schema, mode: WriteMode::Append, query: "q".into(), streaming };
            assert_eq!(counted_again(&table(counts), &context), expect, "{counts} {streaming}");
        };
        check(true, true, true);
        check(true, false, false);
        check(false, true, false);
    }

    fn row(token: i64, id: u8) -> Row {
        Row { token, start: usize::from(id) * 10, end: usize::from(id) * 10 + 10, batch: 0, row: 0 }
    }

    /// `(token, key, group)` of each row → the keys of each chunk with its wave.
    fn arranged(rows: &[(i64, u8)], cut: Cut, group: fn(i64) -> u32) -> Vec<(u32, Vec<u8>)> {
        let mut rows: Vec<Row> = rows.iter().map(|(token, id)| row(*token, *id)).collect();
        let names: Vec<[u8; 1]> = (0..=255).map(|id| [id]).collect();
        let key = |row: &Row| vec![&names[row.start / 10][..]];
        let chunks = arrange(&mut rows, cut, true, key, group);
        let ids = |chunk: &Chunk| rows[chunk.start..chunk.end].iter().map(|row| (row.start / 10) as u8).collect();
        chunks.iter().map(|chunk| (chunk.wave, ids(chunk))).collect()
    }

    #[test]
    fn rows_are_sorted_grouped_and_cut() {
        let cut = Cut { rows: 3, bytes: 1000, by_partition: false };
        let one = |_| 0;
        assert_eq!(arranged(&[], cut, one), []);
        assert_eq!(arranged(&[(5, 1), (-5, 2), (0, 3), (9, 4)], cut, one), [(0, vec![2, 3, 1]), (0, vec![4])]);
        // 10 bytes a row.
        assert_eq!(arranged(&[(1, 1), (2, 2), (3, 3)], Cut { bytes: 25, ..cut }, one), [(0, vec![1, 2]), (0, vec![3])]);
        assert_eq!(arranged(&[(1, 1)], Cut { bytes: 1, ..cut }, one), [(0, vec![1])]);
        let sides = |token: i64| u32::from(token % 2 == 0);
        assert_eq!(arranged(&[(1, 1), (2, 2), (3, 3), (4, 4)], cut, sides), [(0, vec![1, 3]), (0, vec![2, 4])]);
        let partition = Cut { by_partition: true, ..cut };
        assert_eq!(arranged(&[(1, 1), (2, 2), (1, 3)], partition, one), [(0, vec![1, 3]), (0, vec![2])]);
    }

    #[test]
    fn a_key_comes_once_a_chunk_and_later_rows_in_later_waves() {
        let cut = Cut { rows: 10, bytes: 1000, by_partition: false };
        let rows = [(7, 1), (8, 2), (7, 1), (7, 3), (7, 1)];
        assert_eq!(arranged(&rows, cut, |_| 0), [(0, vec![1, 3, 2]), (1, vec![1]), (2, vec![1])]);
    }

    #[test]
    fn timestamps_never_go_back() {
        let first = timestamps(3);
        let second = timestamps(1);
        assert!(second >= first + 3, "{first} {second}");
    }

    #[test]
    fn a_batch_has_its_own_times() {
        let of = |batch_time_ms, partition| {
            Times::of(&WriteTask { batch_id: 3, batch_time_ms, partition, attempt: "a".into() })
        };
        let mut times = of(Some(1_000), 2);
        assert_eq!((times.window(3), times.window(1)), ((1_000_002, 64), (1_000_194, 64)));
        assert_eq!(of(Some(1_000), 2).window(3).0, 1_000_002, "the same when it runs again");
        let mut all: Vec<i64> = vec![];
        for task in 0..TASKS_APART as usize {
            let mut times = of(Some(1_000), task);
            for waves in [3, 1, 2] {
                let (first, step) = times.window(waves);
                all.extend((0..i64::from(waves)).map(|wave| first + wave * step));
            }
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "tasks do not share them: {all:?}");
        assert!(of(Some(1_001), 0).window(1).0 > all[all.len() - 1], "a later batch's are later");
        assert_eq!(of(None, 2), Times::Clock);
        assert!(Times::Clock.window(1).0 >= timestamps(1) - 60_000_000);
    }

    #[test]
    fn cells_and_bad_rows() {
        let statement = Statement::new(
            &table(false),
            &schema(&[("id", DataType::Utf8), ("at", DataType::Int32), ("n", DataType::Int32)]),
            &options(&[]),
        )
        .unwrap();
        let id = uuid::Uuid::from_u128(5).to_string();
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec![Some(id.as_str()), None, Some("x"), Some(id.as_str())])),
            Arc::new(Int32Array::from(vec![Some(1), Some(1), Some(1), None])),
            Arc::new(Int32Array::from(vec![None, Some(1), Some(1), Some(1)])),
        ];
        let writers: Vec<_> = columns.iter().zip(&statement.bound).map(|(c, b)| writer(c, &b.cql).unwrap()).collect();
        let (mut arena, mut offsets) = (vec![], vec![]);
        let mut encode = |row, ignore_nulls| {
            let before = arena.len();
            let encoded = encode(&mut arena, &mut offsets, &statement, &writers, ignore_nulls, row);
            let cells = Cells { bytes: &arena[before..] }.map(|(length, _)| length).collect::<Vec<_>>();
            encoded.map(|_| cells)
        };
        assert_eq!(encode(0, true), Ok(vec![16, 4, UNSET]));
        assert_eq!(encode(0, false), Ok(vec![16, 4, NULL]));
        assert_eq!(encode(1, true), Err("null primary key column id".into()));
        assert_eq!(encode(2, true), Err("column id: 'x' is no uuid".into()));
        assert_eq!(encode(3, true), Err("null primary key column at".into()));
        assert_eq!(arena.len(), 2 * (20 + 8 + 4), "bad rows leave nothing behind");
    }

    #[test]
    fn refused_values_are_told_from_refused_statements() {
        let check = |message: &str, expect: bool| assert_eq!(is_about_values(&[message.into()]), expect, "{message}");
        check("The query is syntactically correct but invalid, Error message: Key may not be empty", true);
        check("Error message: Batch too large", true);
        check("Error message: A TTL must be greater or equal to 0, but was -5", true);
        check("Error message: unconfigured table users", false);
        check("Error message: Undefined column name x", false);
    }
}
