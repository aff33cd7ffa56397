//! `ExecutePlan`: relations to rows, commands to what they come to.
//!
//! Where a plan runs is decided by the plan: [`place`]. What reads only a few rows that are in the plan itself
//! (`SELECT 1`, a small `createDataFrame`, the answer of a command) runs in this process, on threads of its own, since a
//! job on the cluster costs more than the work; all else is a job.

pub use super::responder::chunk_bytes;

use super::operation::Operation;
use super::plan::{self, Observation, Planned};
use super::responder::Responder;
use super::service::missing;
use super::sessions::Session;
use super::streaming;
use crate::sql::error::from_datafusion;
use crate::sql::physical::Physical;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::memory::DataSourceExec;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::{CrossJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::work_table::WorkTableExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use headwater_executor::operators::sink::SinkExec;
use headwater_executor::operators::source_scan::SourceScanExec;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::command::CommandType;
use headwater_proto::spark::execute_plan_response::{ObservedMetrics, ResponseType};
use headwater_proto::spark::plan::compressed_operation::OpType as CompressedType;
use headwater_proto::spark::plan::{CompressedOperation, OpType};
use headwater_proto::spark::{CompressionCodec, GetResourcesCommandResult};
use prost::Message;
use std::io::Read;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

/// A plan over at most so many rows and bytes of its own runs here.
const LOCAL_ROWS_MAX: usize = 100_000;
const LOCAL_BYTES_MAX: usize = 16 << 20;
/// Threads for such plans: they must not take the ones that serve.
const LOCAL_THREADS: usize = 2;
/// A compressed plan may become this long: Spark's `maxPlanSize`.
const PLAN_BYTES_MAX: u64 = 512 << 20;
/// Clients show progress at most this often: Spark's `spark.connect.progress.reportInterval`.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Runs a plan as an operation's task.
pub fn start(session: &Arc<Session>, operation: &Arc<Operation>, plan: spark::Plan, chunk_bytes: Option<usize>) {
    tracing::debug!(operation_id = operation.id(), session_id = session.id(), "operation started");
    let responder = Responder::new(Arc::clone(operation), chunk_bytes);
    let (session, teller) = (Arc::clone(session), Arc::clone(session));
    operation.run(async move { run(&session, plan, &responder).await }, move |error| teller.status(error));
}

async fn run(session: &Arc<Session>, plan: spark::Plan, responder: &Responder) -> Result<()> {
    match decompressed(plan)? {
        OpType::Root(relation) => {
            let planned = plan::plan(session, &relation).await?;
            send(session, planned, responder).await
        }
        OpType::Command(command) => {
            let command = command.command_type.ok_or_else(|| missing("Command.command_type"))?;
            match &command {
                CommandType::WriteStreamOperationStart(_)
                | CommandType::StreamingQueryCommand(_)
                | CommandType::StreamingQueryManagerCommand(_)
                | CommandType::StreamingQueryListenerBusCommand(_) => {
                    streaming::command(session, &command, responder).await
                }
                CommandType::GetResourcesCommand(_) => {
                    // Of GPUs and the like, of which a scheduler has none.
                    let resources = GetResourcesCommandResult::default();
                    responder.send(ResponseType::GetResourcesCommandResult(resources)).await
                }
                _ => plan::command(session, &command, responder).await,
            }
        }
        OpType::CompressedOperation(_) => Err(cannot_parse("a compressed plan inside a compressed plan")),
    }
}

/// What a plan is to do, decompressed where it came so.
///
/// # Errors
/// `CONNECT_INVALID_PLAN.*`.
pub fn decompressed(plan: spark::Plan) -> Result<OpType> {
    let compressed = match plan.op_type.ok_or_else(|| missing("Plan.op_type"))? {
        OpType::CompressedOperation(compressed) => compressed,
        plain => return Ok(plain),
    };
    if compressed.compression_codec() != CompressionCodec::Zstd {
        return Err(cannot_parse("its codec is unknown"));
    }
    let op_type = compressed.op_type();
    let CompressedOperation { data, .. } = compressed;
    let mut bytes = vec![];
    let decoder = zstd::stream::read::Decoder::new(data.as_slice()).map_err(cannot_parse)?;
    decoder.take(PLAN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot_parse)?;
    if bytes.len() as u64 > PLAN_BYTES_MAX {
        return Err(Error::invalid(
            "CONNECT_INVALID_PLAN.PLAN_SIZE_LARGER_THAN_MAX",
            format!("the plan has more than {PLAN_BYTES_MAX} bytes: divide the query by temporary views"),
        ));
    }
    match op_type {
        CompressedType::Relation => spark::Relation::decode(bytes.as_slice()).map(OpType::Root).map_err(cannot_parse),
        CompressedType::Command => spark::Command::decode(bytes.as_slice()).map(OpType::Command).map_err(cannot_parse),
        CompressedType::Unspecified => Err(cannot_parse("its type is not set")),
    }
}

fn cannot_parse(why: impl std::fmt::Display) -> Error {
    Error::invalid("CONNECT_INVALID_PLAN.CANNOT_PARSE", format!("cannot decompress or parse the input plan: {why}"))
        .with("errorMsg", why)
}

/// Sends the rows of a relation: its schema, its rows as they come, what was observed.
async fn send(session: &Arc<Session>, planned: Planned, responder: &Responder) -> Result<()> {
    if plan::is_streaming(&planned) {
        return Err(Error::invalid(
            "UNSUPPORTED_STREAMING_OPERATOR",
            "queries with streaming sources must be executed with writeStream.start()",
        ));
    }
    let Planned { plan, schema, observations } = planned;
    responder.schema(plan::schema_proto(&schema)?).await?;
    let mut batches = rows(session, plan, Some(responder)).await?;
    let mut any = false;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(from_datafusion)?;
        if batch.num_rows() > 0 {
            responder.batch(&plan::output(&batch, &schema)?).await?;
            any = true;
        }
    }
    if !any {
        // Clients make a table of batches, and want one.
        let empty = RecordBatch::new_empty(Arc::new(Schema::clone(&batches.schema())));
        responder.batch(&plan::output(&empty, &schema)?).await?;
    }
    if !observations.is_empty() {
        let mut observed = vec![];
        for observation in observations {
            observed.push(observe(session, observation).await?);
        }
        responder.observed(observed).await?;
    }
    Ok(())
}

async fn observe(session: &Arc<Session>, observation: Observation) -> Result<ObservedMetrics> {
    let Observation { name, plan_id, plan } = observation;
    let batches: Vec<RecordBatch> = rows(session, plan, None).await?.try_collect().await.map_err(from_datafusion)?;
    let Some(row) = batches.iter().find(|batch| batch.num_rows() > 0) else {
        return Err(Error::internal(format!("observation {name} has no row")));
    };
    let keys = row.schema().fields().iter().map(|field| field.name().clone()).collect();
    let values = row.columns().iter().map(|column| plan::literal(column.as_ref(), 0)).collect::<Result<_>>()?;
    Ok(ObservedMetrics { name, values, keys, plan_id, root_error_idx: None, errors: vec![] })
}

/// Runs a plan; its rows as they arrive. With a responder the client hears of its progress.
///
/// # Errors
/// Those of planning and of the job.
pub async fn rows(
    session: &Arc<Session>,
    plan: LogicalPlan,
    responder: Option<&Responder>,
) -> Result<SendableRecordBatchStream> {
    let query = session.statements().planner.physical(&plan, &session.sql().conf).await?;
    match place(&query.plan) {
        Place::Here => here(query.plan, &query.state),
        Place::Cluster => on_cluster(session, query, responder).await,
    }
}

async fn on_cluster(
    session: &Session,
    query: Physical,
    responder: Option<&Responder>,
) -> Result<SendableRecordBatchStream> {
    let (tasks, mut changes) = watch::channel((0, 0));
    let name = match responder {
        Some(responder) => format!("Spark Connect operation {}", responder.operation_id()),
        None => format!("Spark Connect session {}", session.id()),
    };
    let mut rows = session.statements().rows(name, query, Some(tasks)).await?;
    let Some(responder) = responder else { return Ok(rows) };
    let schema = rows.schema();
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once, when there is nothing to tell.
    ticks.tick().await;
    loop {
        tokio::select! {
            first = rows.next() => {
                let rows = futures::stream::iter(first).chain(rows);
                return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)));
            }
            _ = ticks.tick() => {
                if changes.has_changed().unwrap_or(false) {
                    let (tasks_done, tasks) = *changes.borrow_and_update();
                    responder.progress(tasks_done, tasks).await?;
                }
            }
        }
    }
}

/// Where a plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Here,
    /// On executors.
    Cluster,
}

/// Where a plan runs: here when all that it reads is a few rows in memory, the pairs of a join counted.
pub fn place(plan: &Arc<dyn ExecutionPlan>) -> Place {
    match weight(plan) {
        Some(Weight { rows, bytes }) if rows <= LOCAL_ROWS_MAX && bytes <= LOCAL_BYTES_MAX => Place::Here,
        _ => Place::Cluster,
    }
}

struct Weight {
    rows: usize,
    bytes: usize,
}

/// What a plan works on; none when that is not known or lies elsewhere.
fn weight(plan: &Arc<dyn ExecutionPlan>) -> Option<Weight> {
    let node = plan.as_ref();
    if node.is::<SourceScanExec>() || node.is::<SinkExec>() {
        return None;
    }
    // The rows of a recursive query so far: plans with it do not travel.
    if node.is::<EmptyExec>() || node.is::<PlaceholderRowExec>() || node.is::<WorkTableExec>() {
        return Some(Weight { rows: 1, bytes: 0 });
    }
    if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
        let memory = scan.data_source().downcast_ref::<MemorySourceConfig>()?;
        let batches = || memory.partitions().iter().flatten();
        return Some(Weight {
            rows: batches().map(RecordBatch::num_rows).sum(),
            bytes: batches().map(RecordBatch::get_array_memory_size).sum(),
        });
    }
    let children = plan.children();
    if children.is_empty() {
        return None;
    }
    let pairs = node.is::<CrossJoinExec>() || node.is::<NestedLoopJoinExec>();
    let mut all = Weight { rows: usize::from(pairs), bytes: 0 };
    for child in children {
        let Weight { rows, bytes } = weight(child)?;
        all.rows = if pairs { all.rows.saturating_mul(rows.max(1)) } else { all.rows.saturating_add(rows) };
        all.bytes = all.bytes.saturating_add(bytes);
    }
    Some(all)
}

static LOCAL: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(LOCAL_THREADS)
        .thread_name("connect-local")
        // As deep as plans may be everywhere else.
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()
});

/// Runs a plan in this process, partition after partition.
fn here(plan: Arc<dyn ExecutionPlan>, state: &SessionState) -> Result<SendableRecordBatchStream> {
    let runtime = LOCAL.as_ref().map_err(|error| Error::internal(format!("cannot start threads: {error}")))?;
    let schema = plan.schema();
    let context = state.task_ctx();
    let (sender, receiver) = mpsc::channel(2);
    let mut task = JoinSet::new();
    task.spawn_on(
        async move {
            for partition in 0..plan.output_partitioning().partition_count() {
                let mut batches = match plan.execute(partition, Arc::clone(&context)) {
                    Ok(batches) => batches,
                    Err(error) => {
                        // Closed: nobody wants to know.
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                };
                while let Some(batch) = batches.next().await {
                    let failed = batch.is_err();
                    if sender.send(batch).await.is_err() || failed {
                        return;
                    }
                }
            }
        },
        runtime.handle(),
    );
    let batches = ReceiverStream::new(receiver).inspect(move |_| {
        // Moved in: the task is aborted with the stream.
        let _ = &task;
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use datafusion::prelude::SessionContext;

    async fn plan(sql: &str) -> Arc<dyn ExecutionPlan> {
        let context = SessionContext::new();
        let register = |name: &str, rows: i64| {
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
            context.register_batch(name, RecordBatch::try_from_iter([("id", ids)]).unwrap()).unwrap();
        };
        register("few", 1000);
        register("many", LOCAL_ROWS_MAX as i64 + 1);
        context.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
    }

    #[tokio::test]
    async fn small_plans_run_here() {
        let check = async |sql: &str, expect: Place| assert_eq!(place(&plan(sql).await), expect, "{sql}");
        check("SELECT 1", Place::Here).await;
        check("SELECT * FROM (VALUES (1), (2)) ORDER BY 1", Place::Here).await;
        check("SELECT 1 WHERE false", Place::Here).await;
        check("SELECT id % 7, count(*) FROM few GROUP BY 1", Place::Here).await;
        check("SELECT * FROM few a JOIN few b ON a.id = b.id", Place::Here).await;
        check("SELECT count(*) FROM few a, few b WHERE a.id + b.id = 3", Place::Cluster).await;
        check("SELECT * FROM many WHERE id > 5", Place::Cluster).await;
        let recursive = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n";
        check(recursive, Place::Here).await;
    }

    #[tokio::test]
    async fn rows_come_partition_after_partition() {
        let plan = plan("SELECT id FROM few UNION ALL SELECT id + 1000 FROM few").await;
        assert!(plan.output_partitioning().partition_count() > 1);
        let state = SessionContext::new().state();
        let batches: Vec<RecordBatch> = here(plan, &state).unwrap().try_collect().await.unwrap();
        let ids = batches
            .iter()
            .flat_map(|batch| batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec());
        assert!(ids.eq(0..2000));
    }

    #[test]
    fn compressed_plans() {
        let relation = spark::Relation::default();
        let compressed = |data: Vec<u8>, codec: CompressionCodec| {
            decompressed(spark::Plan {
                op_type: Some(OpType::CompressedOperation(CompressedOperation {
                    data,
                    op_type: CompressedType::Relation.into(),
                    compression_codec: codec.into(),
                })),
            })
        };
        let data = zstd::stream::encode_all(relation.encode_to_vec().as_slice(), 0).unwrap();
        assert_eq!(compressed(data.clone(), CompressionCodec::Zstd).unwrap(), OpType::Root(relation));
        let class = |result: Result<OpType>| result.unwrap_err().class;
        let cannot = "CONNECT_INVALID_PLAN.CANNOT_PARSE";
        assert_eq!(class(compressed(data, CompressionCodec::Unspecified)), cannot);
        assert_eq!(class(compressed(b"nonsense".to_vec(), CompressionCodec::Zstd)), cannot);
        let nonsense = zstd::stream::encode_all([0xff; 9].as_slice(), 0).unwrap();
        assert_eq!(class(compressed(nonsense, CompressionCodec::Zstd)), cannot);
        assert!(class(decompressed(spark::Plan { op_type: None })).ends_with("INVALID_ONE_OF_FIELD_NOT_SET"));
    }
}
