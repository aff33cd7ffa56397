//! Writing: rows are encoded as binary `COPY` wants them and cross in windows.
//!
//! ```text
//! write ─► encode each row ─► window of rows (32,768 or 8 MiB)
//!             └ bad record ─► policy    │ one in flight: COPY, then INSERT … ON CONFLICT, then COMMIT
//! ```
//!
//! A window is encoded while the one before it is being written, and no third exists: memory is bounded by two. A
//! window whose connection is lost, or that met another transaction, is written again from its bytes. By key that
//! changes nothing, so each window commits by itself. Without a key all windows of a task are one transaction, so that
//! a task that fails leaves nothing; only its first window can be repeated, and a task that ran twice wrote twice:
//! a stream then arrives at least once.
//!
//! A window that the server refuses for a value is cut in halves until the row is found.

use super::encode::Encoder;
use super::failure::{Failure, Verdict, pause};
use super::options::{BadRecords, SinkOptions, TableName};
use super::plan::WritePlan;
use super::schema::{TableInfo, create_table, not_found};
use super::session::{Conn, DRIVER_RETRIES, Database, Failed, Retries, database};
use crate::connectors::dead_letters::{self, Ids};
use crate::connectors::{Sink, SinkContext, SinkTask, WriteCounts, WriteMode, WriteTask, Writer};
use crate::metrics::METRICS;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use datafusion::execution::TaskContext;
use futures::SinkExt;
use headwater_proto::error::{Error, ErrorKind, Result};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Rows of a window: enough that statements cost nothing, few enough that repeating one does not hurt.
const WINDOW_ROWS: usize = 32_768;
/// Bytes of a window.
const WINDOW_BYTES: usize = 8 << 20;
/// Bytes of one message of a COPY.
const MESSAGE_BYTES: usize = 64 << 10;
/// Bad records kept before they are written where they belong.
const LETTERS_MAX: usize = 1_000;
/// What a binary COPY begins with: signature, flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// And ends with.
const TRAILER: &[u8] = &[0xff, 0xff];

/// The driver half.
#[derive(Debug)]
pub struct PostgresSink {
    options: SinkOptions,
    context: SinkContext,
}

/// What writers are told.
#[derive(Serialize, Deserialize)]
struct WriterConfig {
    options: SinkOptions,
    query: String,
    mode: WriteMode,
}

impl PostgresSink {
    /// A sink for these options; asks nothing of the server yet.
    pub fn new(options: SinkOptions, context: SinkContext) -> Self {
        Self { options, context }
    }

    fn missing(&self, database: &Database) -> Error {
        let fitting = create_table(&self.options, &self.context.schema).ok();
        not_found(&self.options.name, &database.label, fitting)
    }
}

/// The statement that makes the table of bad records.
fn create_letters(name: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (id uuid PRIMARY KEY, query text, batch_id bigint, reason text, record text, \
         at timestamptz NOT NULL DEFAULT now())",
        name.sql()
    )
}

#[async_trait]
impl Sink for PostgresSink {
    fn format(&self) -> &'static str {
        super::FORMAT
    }
    fn description(&self) -> String {
        format!("Postgres[{}]", self.options.name)
    }
    fn bad_records(&self) -> &'static str {
        self.options.bad_records.name()
    }
    async fn prepare(&self) -> Result<()> {
        let (options, name) = (&self.options, &self.options.name);
        let database = database(&options.connection);
        let mut found = database.table(name, DRIVER_RETRIES).await?;
        let anew = self.context.mode == WriteMode::Overwrite && !options.truncate;
        if anew && found.is_some() {
            // As Spark does unless told to truncate. One transaction: nobody sees the table gone.
            let create = create_table(options, &self.context.schema)?;
            let drop = format!("DROP TABLE {}", name.sql());
            database.run(&format!("BEGIN; {drop}; {create}; COMMIT"), &format!("make table {name} anew")).await?;
            tracing::info!(table = %name, "made postgres table anew");
        } else if found.is_none() && (options.create_table || anew) {
            if let Some(schema) = &name.schema {
                let statement = format!("CREATE SCHEMA IF NOT EXISTS {}", super::options::quoted(schema));
                // Who may not make schemas may well have one.
                if let Err(error) = database.run(&statement, &format!("create schema {schema}")).await
                    && error.class != "POSTGRES_PERMISSION_DENIED"
                {
                    return Err(error);
                }
            }
            let statement = create_table(options, &self.context.schema)?;
            database.run(&statement, &format!("create table {name}")).await?;
            tracing::info!(table = %name, "created postgres table");
        } else if self.context.mode == WriteMode::Overwrite {
            let cascade = if options.cascade { " CASCADE" } else { "" };
            database.run(&format!("TRUNCATE {}{cascade}", name.sql()), &format!("truncate table {name}")).await?;
        }
        if found.is_none() || anew {
            found = database.table(name, DRIVER_RETRIES).await?;
        }
        let table = found.ok_or_else(|| self.missing(&database))?;
        let plan = WritePlan::new(&table, &self.context.schema, options, self.context.mode)?;
        if !plan.idempotent() && self.context.streaming {
            tracing::warn!(
                table = %name,
                "rows are added without a key: a batch that runs again adds them again; see option upsertKeys"
            );
        }
        if let BadRecords::Table(letters) = &options.bad_records {
            database.run(&create_letters(letters), &format!("create dead letter table {letters}")).await?;
        }
        database.forget_table(&name.sql());
        Ok(())
    }
    fn writer_config(&self) -> String {
        let config =
            WriterConfig { options: self.options.clone(), query: self.context.query.clone(), mode: self.context.mode };
        serde_json::to_string(&config).expect("texts and numbers always serialize")
    }
}

/// The executor half.
pub struct PostgresWriter {
    config: Arc<WriterConfig>,
}

impl std::fmt::Debug for PostgresWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresWriter").field("options", &self.config.options).finish_non_exhaustive()
    }
}

impl PostgresWriter {
    /// From what [`PostgresSink::writer_config`] gave.
    pub fn new(config: &str) -> Result<Self> {
        let config =
            serde_json::from_str(config).map_err(|e| Error::internal(format!("postgres writer config: {e}")))?;
        Ok(Self { config: Arc::new(config) })
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn open(&self, task: WriteTask, schema: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        let options = &self.config.options;
        let (name, mode) = (&options.name, self.config.mode);
        let database = database(&options.connection);
        let plan = match database.known_table(&name.sql()) {
            Some(table) => match WritePlan::new(&table, &schema, options, mode) {
                Ok(plan) => plan,
                // What is known may be a minute old, and the table have grown a column since.
                Err(_) => WritePlan::new(&*fresh(&database, options).await?, &schema, options, mode)?,
            },
            None => WritePlan::new(&*fresh(&database, options).await?, &schema, options, mode)?,
        };
        let config = Arc::clone(&self.config);
        let ids = Ids::new(&config.query, &task);
        Ok(Box::new(Task::new(Shared { database, plan, config, batch_id: task.batch_id }, ids)))
    }
}

/// The table as it is now.
async fn fresh(database: &Arc<Database>, options: &SinkOptions) -> Result<Arc<TableInfo>> {
    let name = &options.name;
    let found = database.table(name, options.retries_max).await?;
    let table = Arc::new(found.ok_or_else(|| not_found(name, &database.label, None))?);
    database.know_table(&name.sql(), &table);
    Ok(table)
}

/// Encoded rows.
#[derive(Default)]
struct Window {
    bytes: BytesMut,
    /// Where each row ends.
    ends: Vec<usize>,
    /// Where each row came from: batch, row of the batch.
    places: Vec<(usize, usize)>,
    /// What the rows were, for those that the server refuses.
    batches: Vec<RecordBatch>,
}

/// Rows that may be sent more than once.
struct Sealed {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Sealed {
    fn rows(&self, rows: &Range<usize>) -> Bytes {
        let start = rows.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.slice(start..self.ends[rows.end - 1])
    }
}

/// What a task's parts share.
struct Shared {
    database: Arc<Database>,
    plan: WritePlan,
    config: Arc<WriterConfig>,
    batch_id: i64,
}

/// What became of a window.
struct Landed {
    conn: Conn,
    window: Window,
    ends: Vec<usize>,
    refused: Vec<(usize, String)>,
    retries: u64,
}

impl Shared {
    fn error(&self, failure: &Failure, retries: u32) -> Error {
        let name = &self.config.options.name;
        // The table may have changed.
        self.database.forget_table(&name.sql());
        let error = self.database.error(&format!("write batch {} to table {name}", self.batch_id), failure);
        let after = if retries > 0 { format!(" (after {retries} retries)") } else { String::new() };
        let class = if error.class == "POSTGRES_REQUEST_FAILED" { "POSTGRES_WRITE_FAILED" } else { &error.class };
        Error::new(error.kind, class, format!("{}{after}", error.message))
    }

    /// Sends rows by one COPY.
    async fn copy(&self, conn: &mut Conn, rows: Bytes) -> Result<(), Failure> {
        let statement = conn.prepared(&self.plan.copy).await?;
        let mut sink = pin!(conn.copy_in::<_, Bytes>(&statement).await?);
        let pieces =
            (0..rows.len()).step_by(MESSAGE_BYTES).map(|at| rows.slice(at..(at + MESSAGE_BYTES).min(rows.len())));
        let head = std::iter::once(Bytes::from_static(HEADER));
        for piece in head.chain(pieces).chain(std::iter::once(Bytes::from_static(TRAILER))) {
            if sink.as_mut().feed(piece).await.is_err() {
                // Nobody takes more: the end says why.
                break;
            }
        }
        sink.as_mut().finish().await?;
        Ok(())
    }

    /// Writes rows in what is already a transaction.
    async fn put(&self, conn: &mut Conn, rows: Bytes) -> Result<(), Failure> {
        self.copy(conn, rows).await?;
        if let Some(insert) = &self.plan.insert {
            let statement = conn.prepared(insert).await?;
            conn.execute(&statement, &[]).await?;
        }
        Ok(())
    }

    /// Writes rows as a transaction of their own.
    async fn committed(&self, conn: &mut Conn, rows: Bytes) -> Result<(), Failure> {
        conn.batch_execute(self.config.options.isolation.begin()).await?;
        let done = match self.put(conn, rows).await {
            Ok(()) => conn.batch_execute("COMMIT").await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if done.is_err() && !conn.is_closed() {
            conn.batch_execute("ROLLBACK").await?;
        }
        done
    }

    /// Writes rows into the task's transaction, which goes on without them when they are refused.
    async fn added(&self, conn: &mut Conn, rows: Bytes) -> Result<(), Failure> {
        conn.batch_execute("SAVEPOINT headwater").await?;
        let done = self.put(conn, rows).await;
        // What went through the temporary table stays in it until the transaction ends.
        let clear = match (&done, &self.plan.temporary) {
            (Ok(()), Some((name, _))) => format!("; TRUNCATE pg_temp.{}", super::options::quoted(name)),
            _ => String::new(),
        };
        match done {
            Ok(()) => Ok(conn.batch_execute(&format!("RELEASE SAVEPOINT headwater{clear}")).await?),
            Err(failure) => {
                if !conn.is_closed() {
                    conn.batch_execute("ROLLBACK TO SAVEPOINT headwater; RELEASE SAVEPOINT headwater").await?;
                }
                Err(failure)
            }
        }
    }

    /// Writes a window; returns the rows that the server refused. `transaction`: whether the task's has begun.
    async fn write(&self, conn: &mut Conn, rows: &Sealed, transaction: bool) -> Result<Vec<(usize, String)>, Failure> {
        if let Some((name, create)) = &self.plan.temporary
            && !transaction
        {
            self.database.in_time(conn.temporary(name, create)).await?;
        }
        if !self.plan.idempotent() && !transaction {
            self.database
                .in_time(async { Ok(conn.batch_execute(self.config.options.isolation.begin()).await?) })
                .await?;
        }
        let mut refused = vec![];
        let mut ranges = vec![0..rows.ends.len()];
        while let Some(range) = ranges.pop() {
            let bytes = rows.rows(&range);
            let done = if self.plan.idempotent() {
                self.database.in_time(self.committed(conn, bytes)).await
            } else {
                self.database.in_time(self.added(conn, bytes)).await
            };
            match done {
                Ok(()) => {}
                Err(failure) if failure.verdict == Verdict::Row && !(self.plan.strict && failure.state == "23505") => {
                    if range.len() == 1 {
                        refused.push((range.start, failure.reason));
                    } else {
                        // The first half first: of rows with one key the last wins.
                        let middle = range.start + range.len() / 2;
                        ranges.push(middle..range.end);
                        ranges.push(range.start..middle);
                    }
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(refused)
    }

    /// Writes a window, repeated while that may help.
    async fn land(self: Arc<Self>, mut conn: Option<Conn>, window: Window, transaction: bool) -> Result<Landed> {
        let Window { bytes, ends, places, batches } = window;
        let rows = Sealed { bytes: bytes.freeze(), ends };
        let retries_max = self.config.options.retries_max;
        let mut retries = 0;
        loop {
            let begun = transaction && conn.is_some();
            let mut given = match conn.take() {
                Some(given) => given,
                None => self.connection(retries_max).await?,
            };
            let failure = match self.write(&mut given, &rows, begun).await {
                Ok(refused) => {
                    let window = Window { bytes: BytesMut::new(), ends: vec![], places, batches };
                    return Ok(Landed { conn: given, window, ends: rows.ends, refused, retries: u64::from(retries) });
                }
                Err(failure) => failure,
            };
            // Its transaction is over, if it still lives at all.
            drop(given);
            if failure.verdict != Verdict::Retry || transaction || retries >= retries_max {
                return Err(self.error(&failure, retries));
            }
            let pause = pause(retries, rand::rng().random());
            METRICS.postgres_retries.inc();
            tracing::debug!(reason = failure.reason, retries, ?pause, "a window failed, will write it again");
            tokio::time::sleep(pause).await;
            retries += 1;
        }
    }

    async fn connection(&self, retries_max: u32) -> Result<Conn> {
        const WHAT: &str = "run option sessionInitStatement";
        let mut retries = Retries::new(retries_max, WHAT);
        loop {
            let made = async {
                let mut conn = self.database.get().await?;
                if let Some(statement) = &self.config.options.session_init {
                    let done = self.database.in_time(conn.initialize(statement)).await;
                    done.map_err(|failure| Failed::new(failure, WHAT, &self.database.label))?;
                }
                Ok(conn)
            };
            match made.await {
                Ok(conn) => return Ok(conn),
                Err(failed) => retries.after(failed).await?,
            }
        }
    }
}

/// A row that cannot be written.
struct BadRecord {
    record: RecordBatch,
    reason: String,
}

struct Task {
    shared: Arc<Shared>,
    /// Kept between windows.
    conn: Option<Conn>,
    /// Windows were added to a transaction that is still open.
    transaction: bool,
    window: Window,
    /// The window that is being written; it ends with the task.
    in_flight: JoinSet<Result<Landed>>,
    bad: Vec<BadRecord>,
    /// Of bad records.
    ids: Ids,
    counts: WriteCounts,
}

/// Appends a row to the window's bytes.
///
/// # Errors
/// Why the row is a bad record; the bytes are then as before.
fn encode(plan: &WritePlan, encoders: &[Encoder], row: usize, number: usize, out: &mut BytesMut) -> Result<(), String> {
    let start = out.len();
    out.put_i16((encoders.len() + usize::from(plan.numbered)) as i16);
    for (bound, encoder) in plan.columns.iter().zip(encoders) {
        let written = if bound.not_null && encoder.is_null(row) {
            Err("null where the table or its key takes none".into())
        } else {
            encoder.write(row, out)
        };
        if let Err(reason) = written {
            out.truncate(start);
            return Err(format!("column {}: {reason}", bound.name));
        }
    }
    if plan.numbered {
        out.put_i32(8);
        out.put_i64(number as i64);
    }
    Ok(())
}

impl Task {
    fn new(shared: Shared, ids: Ids) -> Self {
        Self {
            shared: Arc::new(shared),
            conn: None,
            transaction: false,
            window: Window::default(),
            in_flight: JoinSet::new(),
            bad: vec![],
            ids,
            counts: WriteCounts::default(),
        }
    }

    fn bad(&mut self, record: RecordBatch, reason: String) -> Result<()> {
        let options = &self.shared.config.options;
        let table = &options.name;
        if options.bad_records == BadRecords::Fail {
            return Err(Error::invalid(
                "POSTGRES_BAD_RECORD",
                format!(
                    "a row cannot be written to table {table}: {reason}; repair it in the query, or set option \
                     headwater.badRecords to skip or dead-letter"
                ),
            ));
        }
        if self.counts.bad_rows == 0 {
            tracing::warn!(%table, batch_id = self.shared.batch_id, %reason, "bad record; the first of this task");
        }
        self.counts.bad_rows += 1;
        if options.bad_records != BadRecords::Skip {
            self.bad.push(BadRecord { record, reason });
        }
        Ok(())
    }

    /// Waits until the window in flight is written.
    async fn landed(&mut self) -> Result<()> {
        let Some(landed) = self.in_flight.join_next().await else { return Ok(()) };
        let landed = landed.map_err(|error| Error::internal(format!("a postgres writer ended early: {error}")))??;
        self.counts.retries += landed.retries;
        self.counts.rows += (landed.ends.len() - landed.refused.len()) as u64;
        self.conn = Some(landed.conn);
        self.transaction = !self.shared.plan.idempotent();
        for (at, reason) in landed.refused {
            let (batch, row) = landed.window.places[at];
            let record = landed.window.batches[batch].slice(row, 1);
            self.bad(record, reason)?;
        }
        if self.bad.len() >= LETTERS_MAX {
            self.send_letters().await?;
        }
        Ok(())
    }

    /// Sends what was encoded, once the window before it is written.
    async fn dispatch(&mut self) -> Result<()> {
        self.landed().await?;
        let window = std::mem::take(&mut self.window);
        if !window.ends.is_empty() {
            let shared = Arc::clone(&self.shared);
            self.in_flight.spawn(shared.land(self.conn.take(), window, self.transaction));
        }
        Ok(())
    }

    /// Writes the bad records to their table, in the task's transaction if it has one.
    async fn send_letters(&mut self) -> Result<()> {
        let BadRecords::Table(table) = &self.shared.config.options.bad_records else { return Ok(()) };
        let bad = std::mem::take(&mut self.bad);
        if bad.is_empty() {
            return Ok(());
        }
        let (query, batch_id) = (self.shared.config.query.clone(), self.shared.batch_id);
        let (mut ids, mut reasons, mut records) = (vec![], vec![], vec![]);
        for letter in bad {
            let record = dead_letters::json(&letter.record)?;
            ids.push(self.ids.next(&letter.reason, &record));
            reasons.push(letter.reason.replace('\0', "\u{fffd}"));
            records.push(record.replace('\0', "\u{fffd}"));
        }
        let statement = format!(
            "INSERT INTO {} (id, query, batch_id, reason, record) SELECT id, $1, $2, reason, record FROM \
             unnest($3::uuid[], $4::text[], $5::text[]) AS letter(id, reason, record) ON CONFLICT (id) DO NOTHING",
            table.sql()
        );
        let what = format!("write to dead letter table {table}");
        let shared = Arc::clone(&self.shared);
        let retries_max = if self.transaction { 0 } else { shared.config.options.retries_max };
        let mut retries = Retries::new(retries_max, &what);
        loop {
            let mut given = match self.conn.take() {
                Some(given) => given,
                None => shared.connection(retries_max).await?,
            };
            let sent = shared.database.in_time(async {
                let statement = given.prepared(&statement).await?;
                given.execute(&statement, &[&query, &batch_id, &ids, &reasons, &records]).await?;
                Ok(())
            });
            match sent.await {
                Ok(()) => {
                    self.conn = Some(given);
                    return Ok(());
                }
                Err(failure) => retries.after(Failed::new(failure, &what, &shared.database.label)).await?,
            }
        }
    }

    async fn drain(&mut self) -> Result<()> {
        self.dispatch().await?;
        self.landed().await?;
        self.send_letters().await?;
        if std::mem::take(&mut self.transaction)
            && let Some(conn) = self.conn.take()
        {
            let done = self.shared.database.in_time(async { Ok(conn.batch_execute("COMMIT").await?) }).await;
            done.map_err(|failure| {
                let error = self.shared.error(&failure, 0);
                match error.kind {
                    ErrorKind::Transient => Error::transient(
                        "POSTGRES_COMMIT_UNKNOWN",
                        format!("{}; the rows may be there: written again they are there twice", error.message),
                    ),
                    _ => error,
                }
            })?;
            self.conn = Some(conn);
        }
        Ok(())
    }
}

#[async_trait]
impl SinkTask for Task {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let encoders = plan
            .columns
            .iter()
            .map(|bound| {
                Encoder::new(batch.column(bound.source), &bound.target).map_err(|reason| {
                    let table = &shared.config.options.name;
                    Error::invalid(
                        "CANNOT_UP_CAST_DATATYPE",
                        format!("column {} of table {table}: {reason}", bound.name),
                    )
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut kept = false;
        for row in 0..batch.num_rows() {
            let number = self.window.ends.len();
            match encode(plan, &encoders, row, number, &mut self.window.bytes) {
                Ok(()) => {
                    if !kept {
                        self.window.batches.push(batch.clone());
                        kept = true;
                    }
                    self.window.ends.push(self.window.bytes.len());
                    self.window.places.push((self.window.batches.len() - 1, row));
                }
                Err(reason) => self.bad(batch.slice(row, 1), reason)?,
            }
            if self.window.ends.len() >= WINDOW_ROWS || self.window.bytes.len() >= WINDOW_BYTES {
                self.dispatch().await?;
                kept = false;
            }
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<()> {
        self.drain().await
    }
    async fn close(mut self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        self.drain().await?;
        if let Some(conn) = self.conn.take() {
            conn.keep();
        }
        Ok((self.counts, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that lets everybody in, answers the first statement of each connection, and hangs then. Its port.
    async fn hanging() -> u16 {
        const READY: &[u8] = b"Z\0\0\0\x05I";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut line, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    assert!(line.read(&mut bytes).await.unwrap() > 0);
                    line.write_all(&[b"R\0\0\0\x08\0\0\0\0", READY].concat()).await.unwrap();
                    assert!(line.read(&mut bytes).await.unwrap() > 0);
                    line.write_all(&[b"C\0\0\0\x08SET\0", READY].concat()).await.unwrap();
                    while line.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
                });
            }
        });
        port
    }

    fn task(port: u16) -> Task {
        let url = format!("postgresql://me@127.0.0.1:{port}/db?sslmode=disable");
        let options =
            [("url", url.as_str()), ("dbtable", "t"), ("queryTimeout", "1"), ("sessionInitStatement", "SELECT 1")];
        let options = SinkOptions::parse(&Options::new(options)).unwrap();
        let plan = WritePlan {
            columns: vec![],
            key: vec![],
            temporary: None,
            numbered: false,
            copy: String::new(),
            insert: None,
            strict: false,
        };
        let database = database(&options.connection);
        let config = WriterConfig { options, query: "q".into(), mode: WriteMode::Append };
        let task = WriteTask { batch_id: 1, batch_time_ms: None, partition: 0, attempt: "a".into() };
        let ids = Ids::new("q", &task);
        Task::new(Shared { database, plan, config: Arc::new(config), batch_id: 1 }, ids)
    }

    #[tokio::test]
    async fn a_server_that_hangs_is_not_waited_for() {
        let begins = task(hanging().await);
        let begun = async { begins.shared.connection(0).await.map(|_| ()).unwrap_err() };
        let mut commits = task(hanging().await);
        commits.conn = Some(commits.shared.database.get().await.map_err(|failed| failed.error).unwrap());
        commits.transaction = true;
        let (begun, committed) = tokio::join!(begun, commits.drain());
        assert_eq!((begun.kind, begun.class.as_str()), (ErrorKind::Transient, "POSTGRES_UNREACHABLE"));
        assert!(begun.message.contains("sessionInitStatement"), "{begun}");
        let committed = committed.unwrap_err();
        // Whether the rows are there is unknown.
        assert_eq!((committed.kind, committed.class.as_str()), (ErrorKind::Transient, "POSTGRES_COMMIT_UNKNOWN"));
    }
}
