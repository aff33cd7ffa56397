//! What an execution answers with: see [`Responder`].

use super::operation::Operation;
use arrow::array::Array;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::ExecutePlanResponse;
use headwater_proto::spark::execute_plan_response::execution_progress::StageInfo;
use headwater_proto::spark::execute_plan_response::{ArrowBatch, ExecutionProgress, ObservedMetrics, ResponseType};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Rows are sent in batches of about this size: 70 % of Spark's `spark.connect.grpc.arrow.maxBatchSize` (4 MiB).
const BATCH_BYTES: usize = (4 << 20) / 10 * 7;
/// A batch of a single row can be longer; where a client takes chunks, they are of this size unless it prefers another.
const CHUNK_BYTES: usize = 32 << 20;
/// Bounds of what it may prefer: Spark's.
const CHUNK_BYTES_MIN: usize = 1 << 10;
const CHUNK_BYTES_MAX: usize = 115 << 20;

/// The size of chunks for a client that prefers this.
pub fn chunk_bytes(preferred: Option<i64>) -> usize {
    let preferred = preferred.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes >= CHUNK_BYTES_MIN);
    preferred.map_or(CHUNK_BYTES, |bytes| bytes.min(CHUNK_BYTES_MAX))
}

/// Sends responses of one operation. Cheap to clone. Every method waits while the client is too far behind, and fails
/// once the operation has ended.
#[derive(Clone)]
pub struct Responder {
    operation: Arc<Operation>,
    chunk_bytes: Option<usize>,
    rows: Arc<AtomicI64>,
}

impl Responder {
    /// For this operation. `chunk_bytes`: the client takes batches in chunks of this size.
    pub fn new(operation: Arc<Operation>, chunk_bytes: Option<usize>) -> Self {
        Self { operation, chunk_bytes, rows: Arc::default() }
    }

    /// The operation's id.
    pub fn operation_id(&self) -> &str {
        self.operation.id()
    }

    /// Sends what a command came to.
    ///
    /// # Errors
    /// `OPERATION_CANCELED`.
    pub async fn send(&self, response: ResponseType) -> Result<()> {
        self.operation.send(ExecutePlanResponse { response_type: Some(response), ..Default::default() }).await
    }

    /// Sends the schema of the rows to come.
    ///
    /// # Errors
    /// `OPERATION_CANCELED`.
    pub async fn schema(&self, schema: spark::DataType) -> Result<()> {
        self.operation.send(ExecutePlanResponse { schema: Some(schema), ..Default::default() }).await
    }

    /// Sends observed metrics.
    ///
    /// # Errors
    /// `OPERATION_CANCELED`.
    pub async fn observed(&self, observed_metrics: Vec<ObservedMetrics>) -> Result<()> {
        self.operation.send(ExecutePlanResponse { observed_metrics, ..Default::default() }).await
    }

    /// Sends how far the job is.
    ///
    /// # Errors
    /// `OPERATION_CANCELED`.
    pub async fn progress(&self, tasks_done: u32, tasks: u32) -> Result<()> {
        let stage = StageInfo {
            stage_id: 0,
            num_tasks: tasks.into(),
            num_completed_tasks: tasks_done.into(),
            input_bytes_read: 0,
            done: tasks_done >= tasks,
        };
        let num_inflight_tasks = tasks.saturating_sub(tasks_done).into();
        self.send(ResponseType::ExecutionProgress(ExecutionProgress { stages: vec![stage], num_inflight_tasks })).await
    }

    /// Rows sent so far.
    pub fn rows(&self) -> i64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Sends rows, in pieces of a size that clients take.
    ///
    /// # Errors
    /// `RESULT_ROW_TOO_LARGE` for a row beyond the size of messages; `OPERATION_CANCELED`.
    pub async fn batch(&self, batch: &RecordBatch) -> Result<()> {
        let mut pieces = vec![batch.clone()];
        while let Some(piece) = pieces.pop() {
            let (rows, bytes) = (piece.num_rows(), size(&piece)?);
            if bytes > BATCH_BYTES && rows > 1 {
                // Rows of one size come out right at once; otherwise a piece is divided again.
                let each = (rows * BATCH_BYTES / bytes).clamp(1, rows - 1);
                let mut starts: Vec<usize> = (0..rows).step_by(each).collect();
                starts.reverse();
                pieces.extend(starts.into_iter().map(|start| piece.slice(start, each.min(rows - start))));
                continue;
            }
            self.piece(&piece).await?;
        }
        Ok(())
    }

    async fn piece(&self, piece: &RecordBatch) -> Result<()> {
        let data = ipc(piece)?;
        let row_count = piece.num_rows() as i64;
        let start_offset = Some(self.rows.fetch_add(row_count, Ordering::Relaxed));
        let limit = self.chunk_bytes.unwrap_or(CHUNK_BYTES_MAX);
        if data.len() <= limit {
            let batch = ArrowBatch { row_count, data, start_offset, ..Default::default() };
            return self.send(ResponseType::ArrowBatch(batch)).await;
        }
        if self.chunk_bytes.is_none() {
            return Err(Error::invalid(
                "RESULT_ROW_TOO_LARGE",
                format!(
                    "a row of the result has {} MiB, and this client takes at most {} MiB in one message: select less \
                     of it, or use a newer client",
                    data.len() >> 20,
                    CHUNK_BYTES_MAX >> 20
                ),
            ));
        }
        let chunks = data.chunks(limit);
        let num_chunks_in_batch = Some(chunks.len() as i64);
        for (index, chunk) in chunks.enumerate() {
            let batch = ArrowBatch {
                row_count,
                data: chunk.to_vec(),
                start_offset,
                chunk_index: Some(index as i64),
                num_chunks_in_batch,
            };
            self.send(ResponseType::ArrowBatch(batch)).await?;
        }
        Ok(())
    }
}

/// Bytes of the rows of a batch, which may share buffers with others.
fn size(batch: &RecordBatch) -> Result<usize> {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().map_err(Error::internal)).sum()
}

/// A batch as an Arrow IPC stream of its own.
fn ipc(batch: &RecordBatch) -> Result<Vec<u8>> {
    let written = StreamWriter::try_new(Vec::new(), &batch.schema()).and_then(|mut writer| {
        writer.write(batch)?;
        writer.into_inner()
    });
    written.map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::super::operation::{Identity, Limits};
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use arrow::ipc::reader::StreamReader;

    #[test]
    fn sizes_of_chunks() {
        let check = |preferred: Option<i64>, expect: usize| assert_eq!(chunk_bytes(preferred), expect);
        check(None, CHUNK_BYTES);
        check(Some(-1), CHUNK_BYTES);
        check(Some(10), CHUNK_BYTES);
        check(Some(1024), 1024);
        check(Some(1 << 40), CHUNK_BYTES_MAX);
    }

    /// Row counts of what a client puts together from batches and chunks.
    async fn received(rows: &[usize], chunk_bytes: Option<usize>) -> Result<Vec<usize>> {
        let identity = Identity {
            id: "o".into(),
            session_id: "s".into(),
            server_side_session_id: "t".into(),
            tags: vec![],
            reattachable: true,
        };
        let limits = Limits { pending_bytes: usize::MAX, ..Limits::default() };
        let operation = Operation::new(identity, limits);
        let responder = Responder::new(Arc::clone(&operation), chunk_bytes);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|bytes| "x".repeat(*bytes))));
        responder.batch(&RecordBatch::try_from_iter([("text", texts)]).unwrap()).await?;
        let work = async { Ok(()) };
        operation.run(work, |error| super::super::error::status(error, None));
        let mut responses = operation.attach(None)?;
        let (mut seen, mut offset, mut chunks) = (vec![], 0, vec![]);
        while let Some(Ok(response)) = responses.next().await {
            let Some(ResponseType::ArrowBatch(batch)) = &response.response_type else { continue };
            assert_eq!(batch.start_offset, Some(offset));
            assert_eq!(batch.chunk_index.unwrap_or(0), i64::from(!chunks.is_empty()) * batch.chunk_index.unwrap_or(0));
            chunks.extend_from_slice(&batch.data);
            if batch.num_chunks_in_batch.unwrap_or(1) > batch.chunk_index.unwrap_or(0) + 1 {
                continue;
            }
            let read: usize =
                StreamReader::try_new(chunks.as_slice(), None).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(read as i64, batch.row_count);
            offset += batch.row_count;
            seen.push(read);
            chunks.clear();
        }
        Ok(seen)
    }

    #[tokio::test]
    async fn rows_come_in_pieces_that_fit() {
        assert_eq!(received(&[10; 5], None).await.unwrap(), [5]);
        assert_eq!(received(&[], None).await.unwrap(), [0]);
        assert_eq!(received(&[1 << 20; 5], None).await.unwrap(), [2, 2, 1]);
        // One large among small ones.
        let pieces = received(&[10, 10, 5 << 20, 10], Some(1 << 20)).await.unwrap();
        assert_eq!(pieces.iter().sum::<usize>(), 4);
        let error = received(&[CHUNK_BYTES_MAX + 1], None).await.unwrap_err();
        assert_eq!(error.class, "RESULT_ROW_TOO_LARGE");
    }
}
