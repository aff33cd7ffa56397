//! Batch reads, the executor half: the rows of token ranges or of keys, page by page.

use super::backpressure::{Throttle, with_retries};
use super::decode::Decoder;
use super::options::{Connection, ReadOptions, TableName};
use super::schema::quoted;
use super::session::{Cluster, cluster, request_error};
use super::token_ranges::TokenRange;
use crate::connectors::{ReadUntil, Reader};
use crate::operators::to_datafusion;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use futures::{StreamExt, stream};
use headwater_proto::error::{Error, Result};
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::prepared::PreparedStatement;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Batches that are ready before anybody asks for them.
const BATCHES_AHEAD: usize = 2;

/// Conditions of a query and the values of their `?`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Where {
    /// Joined by `AND`.
    pub conditions: Vec<String>,
    /// As CQL bytes.
    #[serde(with = "hex_list")]
    pub values: Vec<Vec<u8>>,
}

/// What every reader of a scan is told.
#[derive(Serialize, Deserialize)]
pub struct ReaderConfig {
    /// The cluster.
    pub connection: Connection,
    /// The table.
    pub name: TableName,
    /// How it is read.
    pub read: ReadOptions,
    /// What is selected for each field of the full schema.
    pub selected: Vec<String>,
    /// Columns that place a row.
    pub partition_key: Vec<String>,
    /// Conditions beyond the descriptor's.
    pub filter: Where,
    /// Rows after which a reader may stop.
    pub limit: Option<usize>,
}

/// What one plan partition reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Descriptor {
    /// All rows whose tokens are in these ranges.
    Ranges(Vec<TokenRange>),
    /// The partitions of these keys: for each the values of the partition key's columns, in hexadecimal.
    Keys(Vec<Vec<String>>),
}

impl Descriptor {
    /// For keys as CQL bytes.
    pub fn keys(keys: &[Vec<Vec<u8>>]) -> Self {
        Self::Keys(keys.iter().map(|key| key.iter().map(|value| to_hex(value)).collect()).collect())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let digits = text.as_bytes();
    digits.len().is_multiple_of(2).then_some(())?;
    digits.chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// Values as hexadecimal texts.
mod hex_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        values.iter().map(|value| super::to_hex(value)).collect::<Vec<_>>().serialize(serializer)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| super::from_hex(text).ok_or_else(|| serde::de::Error::custom("value is not hexadecimal")))
            .collect()
    }
}

/// Values that are CQL bytes already.
struct Raw(Vec<Vec<u8>>);

impl SerializeRow for Raw {
    fn serialize(&self, _: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        for value in &self.0 {
            _ = writer.make_cell_writer().set_value(value).map_err(SerializationError::new)?;
        }
        Ok(())
    }
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The query of a descriptor's kind, for these fields of the full schema.
fn statement(config: &ReaderConfig, projection: Option<&[usize]>, by_range: bool) -> String {
    let key: Vec<String> = config.partition_key.iter().map(|column| quoted(column)).collect();
    let selected: Vec<&str> = match projection {
        // Rows are counted even where no column is wanted.
        Some([]) => vec![&key[0]],
        Some(projection) => projection.iter().map(|at| config.selected[*at].as_str()).collect(),
        None => config.selected.iter().map(String::as_str).collect(),
    };
    let mut conditions = if by_range {
        let key = key.join(", ");
        vec![format!("token({key}) > ?"), format!("token({key}) <= ?")]
    } else {
        key.iter().map(|column| format!("{column} = ?")).collect()
    };
    conditions.extend(config.filter.conditions.iter().cloned());
    let limit = config.limit.map_or(String::new(), |limit| format!(" LIMIT {}", limit.clamp(1, i32::MAX as usize)));
    // Cassandra wants these words even where an index or the clustering order serves the condition.
    let filtering = if config.filter.conditions.is_empty() { "" } else { " ALLOW FILTERING" };
    format!(
        "SELECT {} FROM {} WHERE {}{limit}{filtering}",
        selected.join(", "),
        config.name.cql(),
        conditions.join(" AND ")
    )
}

/// One execution of the statement.
struct Query {
    values: Raw,
    /// A token of the range that it reads; none where the driver tells it from the key.
    token: Option<i64>,
}

/// What the descriptor asks for.
fn queries(config: &ReaderConfig, descriptor: &Descriptor) -> Result<Vec<Query>> {
    let with = |head: Vec<Vec<u8>>| Raw(head.into_iter().chain(config.filter.values.iter().cloned()).collect());
    match descriptor {
        Descriptor::Ranges(ranges) => Ok(ranges
            .iter()
            .map(|range| Query {
                values: with(vec![range.from.to_be_bytes().to_vec(), range.until.to_be_bytes().to_vec()]),
                token: Some(range.until),
            })
            .collect()),
        Descriptor::Keys(keys) => keys
            .iter()
            .map(|key| {
                let values = key.iter().map(|value| from_hex(value)).collect::<Option<Vec<_>>>();
                let query = values.map(|values| Query { values: with(values), token: None });
                query.ok_or_else(|| Error::internal("a cassandra descriptor's key is not hexadecimal"))
            })
            .collect(),
    }
}

/// The executor half.
pub struct CassandraReader {
    config: Arc<ReaderConfig>,
}

impl std::fmt::Debug for CassandraReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CassandraReader").field("table", &self.config.name).finish_non_exhaustive()
    }
}

impl CassandraReader {
    /// From what the scan planned.
    pub fn new(config: &str) -> Result<Self> {
        let config =
            serde_json::from_str(config).map_err(|e| Error::internal(format!("cassandra reader config: {e}")))?;
        Ok(Self { config: Arc::new(config) })
    }
}

impl Reader for CassandraReader {
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if matches!(until, ReadUntil::Signal(_)) {
            return Err(Error::invalid("UNSUPPORTED_FEATURE", "data source cassandra does not support streaming read"));
        }
        let descriptor: Descriptor =
            serde_json::from_str(descriptor).map_err(|e| Error::internal(format!("cassandra descriptor: {e}")))?;
        let config = Arc::clone(&self.config);
        let cql = statement(&config, projection, matches!(descriptor, Descriptor::Ranges(_)));
        let batch_rows = context.session_config().batch_size();
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), BATCHES_AHEAD);
        let out = builder.tx();
        builder.spawn(async move {
            let queries = queries(&config, &descriptor).map_err(to_datafusion)?;
            let scan = Scan::open(config, &cql, schema, batch_rows, matches!(descriptor, Descriptor::Ranges(_)));
            let mut scan = scan.await.map_err(to_datafusion)?;
            scan.run(queries, &out).await.map_err(to_datafusion)
        });
        Ok(builder.build())
    }
}

type Out = tokio::sync::mpsc::Sender<datafusion::error::Result<RecordBatch>>;

/// What a page needs.
struct Pages {
    cluster: Arc<Cluster>,
    config: Arc<ReaderConfig>,
    prepared: PreparedStatement,
    requests: Option<Throttle>,
    bytes: Option<Throttle>,
}

impl Pages {
    /// One page, and where the next begins. `near`: the statement, where it is to go to a node of its own.
    async fn page(
        &self,
        near: Option<&PreparedStatement>,
        values: &Raw,
        from: PagingState,
    ) -> Result<(QueryRowsResult, PagingStateResponse)> {
        if let Some(throttle) = &self.requests {
            throttle.take(1).await;
        }
        let prepared = near.unwrap_or(&self.prepared);
        let request = || self.cluster.session().execute_single_page(prepared, values, from.clone());
        let ((result, next), _) = with_retries(&self.cluster.limiter, self.config.read.retries_max, true, request)
            .await
            .map_err(|failure| {
                self.cluster.forget(self.prepared.get_statement());
                let error = request_error(&failure, &format!("read table {}", self.config.name), &self.cluster.label);
                Error::new(error.kind, "CASSANDRA_READ_FAILED", error.message)
            })?;
        let rows = result.into_rows_result().map_err(Error::internal)?;
        if let Some(throttle) = &self.bytes {
            throttle.take(rows.rows_bytes_size() as u64).await;
        }
        Ok((rows, next))
    }
}

struct Scan {
    pages: Arc<Pages>,
    schema: SchemaRef,
    decoders: Vec<Decoder>,
    /// Rows in the decoders.
    rows: usize,
    batch_rows: usize,
    /// Rows that may still be read.
    left: usize,
    concurrent: usize,
}

impl Scan {
    async fn open(
        config: Arc<ReaderConfig>,
        cql: &str,
        schema: SchemaRef,
        batch_rows: usize,
        by_range: bool,
    ) -> Result<Self> {
        let cluster = cluster(&config.connection).await?;
        let mut prepared = cluster.prepare(cql).await?;
        prepared.set_consistency(config.read.consistency.0);
        prepared.set_is_idempotent(true);
        prepared.set_page_size(config.read.fetch_rows);
        let specs = prepared.get_current_result_set_col_specs();
        let decoders = specs
            .get()
            .iter()
            .take(schema.fields().len())
            .map(|spec| Decoder::new(spec.typ()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|reason| {
                Error::invalid("CASSANDRA_UNSUPPORTED_TYPE", format!("table {}: {reason}", config.name))
            })?;
        if decoders.len() != schema.fields().len() {
            return Err(Error::internal(format!(
                "{} columns of {} were prepared",
                decoders.len(),
                schema.fields().len()
            )));
        }
        Ok(Self {
            decoders,
            rows: 0,
            batch_rows,
            left: config.limit.unwrap_or(usize::MAX),
            // Ranges are read one after the other: each has many pages. Keys have one, mostly.
            concurrent: if by_range { 1 } else { config.read.concurrent_reads },
            schema,
            pages: Arc::new(Pages {
                requests: Throttle::new(config.read.requests_per_second),
                bytes: Throttle::new(config.read.bytes_per_second),
                cluster,
                config,
                prepared,
            }),
        })
    }

    /// Runs all queries, in turn, the first pages of some ahead.
    async fn run(&mut self, queries: Vec<Query>, out: &Out) -> Result<()> {
        let pages = Arc::clone(&self.pages);
        let mut first_pages = stream::iter(queries)
            .map(|Query { values, token }| {
                let pages = Arc::clone(&pages);
                async move {
                    let near = token.map(|token| pages.cluster.near_token(&pages.prepared, &pages.config.name, token));
                    let page = pages.page(near.as_ref(), &values, PagingState::start()).await;
                    (near, values, page)
                }
            })
            .buffered(self.concurrent);
        while let Some((near, values, page)) = first_pages.next().await {
            let (mut rows, mut next) = page?;
            loop {
                if self.take(&rows, out).await?.is_break() {
                    return Ok(());
                }
                match next.into_paging_control_flow() {
                    ControlFlow::Break(()) => break,
                    ControlFlow::Continue(state) => (rows, next) = pages.page(near.as_ref(), &values, state).await?,
                }
            }
        }
        self.emit(out).await.map(|_| ())
    }

    /// Decodes a page. Breaks when nobody wants more.
    async fn take(&mut self, page: &QueryRowsResult, out: &Out) -> Result<ControlFlow<()>> {
        let pages = Arc::clone(&self.pages);
        let table = &pages.config.name;
        let unreadable = |reason: &dyn std::fmt::Display| {
            Error::fatal("CASSANDRA_READ_FAILED", format!("failed to read a page of table {table}: {reason}"))
        };
        let mut at = 0;
        // The rows' iterator cannot be kept while a batch is handed on: it starts again where it was.
        loop {
            let until = self.batch_rows.saturating_sub(self.rows).min(self.left);
            let mut taken = 0;
            for row in page.rows::<ColumnIterator<'_, '_>>().map_err(|e| unreadable(&e))?.skip(at).take(until) {
                let row = row.map_err(|e| unreadable(&e))?;
                for (decoder, column) in self.decoders.iter_mut().zip(row) {
                    let column = column.map_err(|e| unreadable(&e))?;
                    decoder.append(column.slice.as_ref().map(|slice| slice.as_slice())).map_err(|reason| {
                        Error::fatal(
                            "CASSANDRA_READ_FAILED",
                            format!("column {} of table {table} holds {reason}", column.spec.name()),
                        )
                    })?;
                }
                taken += 1;
            }
            at += taken;
            self.rows += taken;
            self.left -= taken;
            if self.left == 0 {
                let _ = self.emit(out).await?;
                return Ok(ControlFlow::Break(()));
            }
            if self.rows >= self.batch_rows && self.emit(out).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if at >= page.rows_num() {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// Hands on what was decoded.
    async fn emit(&mut self, out: &Out) -> Result<ControlFlow<()>> {
        if self.rows == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let columns: Vec<ArrayRef> =
            self.decoders.iter_mut().map(Decoder::finish).collect::<Result<_, _>>().map_err(Error::internal)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(Error::internal)?;
        self.rows = 0;
        // Nobody listens any more: the query is done.
        Ok(if out.send(Ok(batch)).await.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use crate::connectors::cassandra::options::TableOptions;
    use crate::connectors::cassandra::pushdown::{Predicate, predicate};
    use crate::connectors::cassandra::schema::{TableColumn, TableSchema};
    use crate::connectors::cassandra::table::condition;
    use datafusion::prelude::{Expr, col, lit};
    use scylla::cluster::metadata::{ColumnType, NativeType};

    /// Key p, q; clustering c; x.
    fn config(filters: &[Expr], limit: Option<usize>) -> ReaderConfig {
        let options = TableOptions::parse(&Options::new([("keyspace", "k"), ("table", "T")])).unwrap();
        let column = |name: &str| TableColumn { name: name.into(), cql: ColumnType::Native(NativeType::Int) };
        let table = TableSchema {
            name: options.name.clone(),
            columns: ["p", "q", "c", "X"].map(column).into(),
            partition_key: vec!["p".into(), "q".into()],
            clustering: vec!["c".into()],
            view: false,
        };
        let predicates: Vec<Predicate> = filters.iter().map(|filter| predicate(filter, &table).unwrap()).collect();
        ReaderConfig {
            selected: table.selected(&options),
            connection: options.connection,
            name: options.name,
            read: options.read,
            partition_key: table.partition_key,
            filter: condition(&predicates.iter().collect::<Vec<_>>()),
            limit,
        }
    }

    #[test]
    fn statements() {
        let check = |config: &ReaderConfig, projection: Option<&[usize]>, by_range: bool, expect: &str| {
            assert_eq!(statement(config, projection, by_range), expect);
        };
        let ring = r#"token("p", "q") > ? AND token("p", "q") <= ?"#;
        let all = config(&[], None);
        check(&all, None, true, &format!(r#"SELECT "p", "q", "c", "X" FROM "k"."T" WHERE {ring}"#));
        check(&all, Some(&[3]), true, &format!(r#"SELECT "X" FROM "k"."T" WHERE {ring}"#));
        check(&all, Some(&[]), true, &format!(r#"SELECT "p" FROM "k"."T" WHERE {ring}"#));
        check(&all, Some(&[2, 0]), false, r#"SELECT "c", "p" FROM "k"."T" WHERE "p" = ? AND "q" = ?"#);
        check(&config(&[], Some(5)), Some(&[2]), true, &format!(r#"SELECT "c" FROM "k"."T" WHERE {ring} LIMIT 5"#));
        let from_seven = config(&[col("c").gt_eq(lit(7))], None);
        let expect = format!(r#"SELECT "X" FROM "k"."T" WHERE {ring} AND "c" >= ? ALLOW FILTERING"#);
        check(&from_seven, Some(&[3]), true, &expect);
        assert_eq!(from_seven.filter.values, [vec![0, 0, 0, 7]]);
        let some = config(&[col("c").in_list(vec![lit(1), lit(2)], false)], None);
        let expect = r#"SELECT "X" FROM "k"."T" WHERE "p" = ? AND "q" = ? AND "c" IN (?, ?) ALLOW FILTERING"#;
        check(&some, Some(&[3]), false, expect);
    }

    #[test]
    fn descriptors_survive_the_journey() {
        for descriptor in [
            Descriptor::Ranges(vec![TokenRange { from: i64::MIN, until: -5 }]),
            Descriptor::keys(&[vec![vec![0, 255], vec![]], vec![vec![1], vec![2]]]),
        ] {
            let text = serde_json::to_string(&descriptor).unwrap();
            assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), descriptor);
        }
        assert_eq!(from_hex("00ff"), Some(vec![0, 255]));
        assert_eq!((from_hex("0"), from_hex("0g")), (None, None));
    }
}
