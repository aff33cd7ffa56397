//! gRPC services of `protos/engine/query.proto`: messages in, calls of the manager and of [`Statements`], messages out.

use crate::execute::{Outcome, Statements};
use crate::session::Session;
use crate::sql::error::from_datafusion;
use crate::sql::parser::{self, Statement};
use crate::sql::planner::Completions;
use crate::streaming::manager::{Manager, StartOptions, scheduler_ends};
use crate::streaming::trigger::Trigger;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use headwater_proto::engine::query_service_server::QueryService;
use headwater_proto::engine::sql_response::Kind;
use headwater_proto::engine::sql_service_server::SqlService;
use headwater_proto::engine::{
    CompletionsRequest, CompletionsResponse, EndpointsRequest, EndpointsResponse, JobProgress, ListRequest,
    ListResponse, ProgressReport, ProgressRequest, QueryRef, QueryStatus, SqlRequest, SqlResponse, StatementEnd,
    SubmitRequest, SubmitResponse,
};
use headwater_proto::error::{Error, ErrorKind};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

/// Pieces of a result under way to a client: what it has not taken stays on the executors.
const RESULT_PIECES_MAX: usize = 4;
/// A statement that has waited for an executor for so long says so.
const ALONE_AFTER: Duration = Duration::from_secs(1);
/// A batch of rows that is larger is sent in several pieces.
const PIECE_BYTES_MAX: usize = 16 << 20;

/// The one place where kinds become gRPC codes. The class stays in the message.
pub fn status(error: Error) -> Status {
    let code = match error.kind {
        ErrorKind::Transient => Code::Unavailable,
        ErrorKind::InvalidRequest => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Fatal => Code::FailedPrecondition,
        ErrorKind::Internal => Code::Internal,
    };
    Status::new(code, error.to_string())
}

/// Streaming queries.
pub struct QueryRpc {
    statements: Statements,
    manager: Manager,
    endpoints: EndpointsResponse,
}

impl QueryRpc {
    /// Serves this manager, and says where the scheduler serves what else there is.
    pub fn new(statements: Statements, endpoints: EndpointsResponse) -> Self {
        Self { manager: statements.manager.clone(), statements, endpoints }
    }
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl QueryService for QueryRpc {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let SubmitRequest { sql, name, trigger, checkpoint, conf } = request.into_inner();
        let statements = parser::parse(&sql).map_err(status)?;
        let flows = statements.iter().filter(|statement| starts_query(statement)).count();
        if flows != 1 && (!name.is_empty() || !checkpoint.is_empty()) {
            return Err(status(Error::invalid(
                "INVALID_SUBMIT_OPTION",
                format!("a name or a checkpoint is for a text with one flow; this has {flows}"),
            )));
        }
        let trigger = if trigger.is_empty() { Ok(Trigger::Default) } else { trigger.parse() };
        let options = StartOptions {
            name: (!name.is_empty()).then_some(name),
            trigger: trigger.map_err(status)?,
            checkpoint: (!checkpoint.is_empty()).then_some(checkpoint),
            ..StartOptions::default()
        };
        let mut session = Session::new(conf.into_iter().collect()).map_err(status)?;
        let mut response = SubmitResponse::default();
        for statement in &statements {
            let outcome = match self.statements.execute(statement, &mut session, &options, None).await {
                Ok(Outcome::Rows(_)) => Err(Error::invalid(
                    "INVALID_SUBMIT",
                    "the text has a query whose rows would go nowhere: use headwater sql for it",
                )),
                outcome => outcome,
            };
            match outcome.map_err(|error| status(with_started(error, &response.queries)))? {
                Outcome::Message(message) => response.messages.push(message),
                Outcome::Started(query) => response.queries.push(query),
                Outcome::Rows(_) => {}
            }
        }
        Ok(Response::new(response))
    }
    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        Ok(Response::new(ListResponse { queries: self.manager.list() }))
    }
    async fn get(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.manager.get(&request.into_inner().r#ref).map(Response::new).map_err(status)
    }
    async fn stop(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.manager.stop(&request.into_inner().r#ref).await.map(Response::new).map_err(status)
    }
    async fn restart(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.manager.restart(&request.into_inner().r#ref).await.map(Response::new).map_err(status)
    }
    async fn delete(&self, request: Request<QueryRef>) -> Result<Response<QueryStatus>, Status> {
        self.manager.delete(&request.into_inner().r#ref).await.map(Response::new).map_err(status)
    }

    async fn endpoints(&self, _: Request<EndpointsRequest>) -> Result<Response<EndpointsResponse>, Status> {
        Ok(Response::new(self.endpoints))
    }

    type ProgressStream = Streamed<ProgressReport>;

    async fn progress(&self, request: Request<ProgressRequest>) -> Result<Response<Self::ProgressStream>, Status> {
        let ProgressRequest { r#ref, follow } = request.into_inner();
        let (recent, mut reports, mut statuses) = self.manager.progress(&r#ref).map_err(status)?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let json = |progress: &headwater_proto::progress::StreamingQueryProgress| {
                serde_json::to_string(progress).map_err(|e| Status::internal(e.to_string()))
            };
            let mut last_batch = -1;
            for progress in recent {
                last_batch = progress.batch_id;
                let now = statuses.borrow().clone();
                let report = json(&progress).map(|json| ProgressReport { json, status: Some(now) });
                if sender.send(report).await.is_err() {
                    return;
                }
            }
            // Whatever it is now is told first: a query that has ended already changes no more.
            statuses.mark_changed();
            if !follow {
                return;
            }
            loop {
                // Each change of status is sent, with an empty report, so that a follower sees errors and the end.
                let report = tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    report = reports.recv() => match report {
                        Ok(report) if report.progress.batch_id < last_batch => continue,
                        Ok(report) => json(&report.progress).map(|json| ProgressReport { json, status: Some(report.status) }),
                        Err(broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(broadcast::error::RecvError::Closed) => break,
                    },
                    changed = statuses.changed() => match changed {
                        Ok(()) => {
                            let now = statuses.borrow_and_update().clone();
                            Ok(ProgressReport { json: String::new(), status: Some(now) })
                        }
                        Err(_) => break,
                    },
                };
                let over = match &report {
                    Ok(ProgressReport { status: Some(now), .. }) => {
                        ["STOPPED", "FINISHED", "FAILED"].contains(&now.state.as_str())
                    }
                    _ => false,
                };
                if sender.send(report).await.is_err() || over {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }
}

/// The error of a text some flows of which run by now: they are not in an answer that says that it failed.
fn with_started(mut error: Error, started: &[QueryStatus]) -> Error {
    if !started.is_empty() {
        let names: Vec<_> = started.iter().map(|query| format!("{} ({})", query.name, query.id)).collect();
        error.message += &format!(
            "; the flows before it run: {}; stop them (headwater query stop) before the text is submitted again",
            names.join(", ")
        );
    }
    error
}

fn starts_query(statement: &Statement) -> bool {
    match statement {
        Statement::CreateFlow { .. } => true,
        Statement::CreateTable(table) => table.streaming,
        _ => false,
    }
}

/// SQL.
pub struct SqlRpc {
    statements: Statements,
    /// Turns true when the scheduler ends.
    stopped: watch::Receiver<bool>,
}

impl SqlRpc {
    /// Serves these statements until `stopped`.
    pub fn new(statements: Statements, stopped: watch::Receiver<bool>) -> Self {
        Self { statements, stopped }
    }
}

#[tonic::async_trait]
impl SqlService for SqlRpc {
    type ExecuteStream = Streamed<SqlResponse>;

    async fn execute(&self, request: Request<SqlRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        let SqlRequest { sql, conf } = request.into_inner();
        let parsed = parser::parse(&sql).map_err(status)?;
        let mut session = Session::new(conf.into_iter().collect()).map_err(status)?;
        let (sender, receiver) = mpsc::channel(RESULT_PIECES_MAX);
        let (statements, mut stopped) = (self.statements.clone(), self.stopped.clone());
        tokio::spawn(async move {
            for (index, statement) in parsed.into_iter().enumerate() {
                let index = index as u32;
                let one = run_one(&statements, &statement, &mut session, index, &sender);
                let failed = tokio::select! {
                    ran = one => ran.err(),
                    // The sender gone is a stop as well.
                    _ = stopped.wait_for(|stopped| *stopped) => Some(scheduler_ends()),
                    // The client has gone: dropping the run cancels its job.
                    () = sender.closed() => return,
                };
                if let Some(error) = failed {
                    // A client that has gone in this moment does not hear of it.
                    let _ = sender.send(Err(status(error))).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn completions(&self, _: Request<CompletionsRequest>) -> Result<Response<CompletionsResponse>, Status> {
        let Completions { tables, functions, keywords } = self.statements.planner.completions();
        Ok(Response::new(CompletionsResponse { tables, functions, keywords }))
    }
}

async fn run_one(
    statements: &Statements,
    statement: &Statement,
    session: &mut Session,
    index: u32,
    sender: &mpsc::Sender<Result<SqlResponse, Status>>,
) -> Result<(), Error> {
    let send = async |kind| {
        // Closed only when the client has gone, which `execute` notices.
        let _ = sender.send(Ok(SqlResponse { kind: Some(kind), statement: index })).await;
    };
    let (tasks, mut changes) = watch::channel((0, 0));
    let options = StartOptions::default();
    let mut executing = Box::pin(statements.execute(statement, session, &options, Some(tasks)));
    let mut alone = std::pin::pin!(statements.cluster.without_executors_for(ALONE_AFTER));
    let mut told = false;
    let outcome = loop {
        tokio::select! {
            outcome = &mut executing => break outcome?,
            () = &mut alone, if !told => {
                told = true;
                let message = "no executor is connected to the scheduler: waiting for one";
                send(Kind::Message(message.into())).await;
            }
            Ok(()) = changes.changed() => {
                let (tasks_done, tasks) = *changes.borrow_and_update();
                let kind = Some(Kind::Progress(JobProgress { tasks_done, tasks }));
                // Never waits: the job's own messages would pile up behind a client that does not read. A client
                // that is behind does without this one.
                let _ = sender.try_send(Ok(SqlResponse { kind, statement: index }));
            }
        }
    };
    match outcome {
        Outcome::Message(message) => send(Kind::Message(message)).await,
        Outcome::Started(query) => {
            send(Kind::Message(format!("streaming query {} started with id {}", query.name, query.id))).await;
        }
        Outcome::Rows(mut rows) => {
            // The schema first, so that an empty result has columns.
            let schema = rows.schema();
            send(Kind::ArrowIpc(ipc(&RecordBatch::new_empty(schema))?)).await;
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(from_datafusion)?;
                for piece in pieces(batch)? {
                    send(Kind::ArrowIpc(piece)).await;
                }
            }
            send(Kind::End(StatementEnd {})).await;
        }
    }
    Ok(())
}

/// A batch in pieces that are no longer than a message should be, unless a single row is.
fn pieces(batch: RecordBatch) -> Result<Vec<Vec<u8>>, Error> {
    let (mut done, mut rest) = (vec![], vec![batch]);
    while let Some(batch) = rest.pop() {
        let piece = ipc(&batch)?;
        let rows = batch.num_rows();
        if piece.len() <= PIECE_BYTES_MAX || rows < 2 {
            done.push(piece);
        } else {
            rest.push(batch.slice(rows / 2, rows - rows / 2));
            rest.push(batch.slice(0, rows / 2));
        }
    }
    Ok(done)
}

/// A batch as an Arrow IPC stream of its own.
fn ipc(batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let written = StreamWriter::try_new(Vec::new(), &batch.schema()).and_then(|mut writer| {
        writer.write(batch)?;
        writer.into_inner()
    });
    written.map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use std::sync::Arc;

    #[test]
    fn an_error_names_the_flows_that_run() {
        let query = |name: &str, id: &str| QueryStatus { name: name.into(), id: id.into(), ..Default::default() };
        let error = || Error::invalid("SECOND_FLOW", "it cannot run");
        assert_eq!(with_started(error(), &[]).message, "it cannot run");
        let error = with_started(error(), &[query("a", "1"), query("b", "2")]);
        assert!(error.message.starts_with("it cannot run; ") && error.message.contains("a (1), b (2)"), "{error}");
    }

    #[test]
    fn large_batches_come_in_pieces_in_order() {
        let check = |row_bytes: usize, rows: usize, expect: &[usize]| {
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
                (0..rows).map(|row| format!("{row:03}{}", "x".repeat(row_bytes))),
            ));
            let batch = RecordBatch::try_from_iter([("text", texts)]).unwrap();
            let (mut sizes, mut seen) = (vec![], vec![]);
            for piece in pieces(batch).unwrap() {
                for batch in arrow::ipc::reader::StreamReader::try_new(piece.as_slice(), None).unwrap() {
                    let batch = batch.unwrap();
                    sizes.push(batch.num_rows());
                    let texts = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap();
                    seen.extend(texts.iter().flatten().map(|text| text[..3].parse::<usize>().unwrap()));
                }
            }
            assert_eq!(sizes, expect);
            assert_eq!(seen, (0..rows).collect::<Vec<_>>());
        };
        check(10, 5, &[5]);
        check(PIECE_BYTES_MAX / 4, 5, &[2, 3]);
        check(PIECE_BYTES_MAX + 1, 2, &[1, 1]);
    }
}
