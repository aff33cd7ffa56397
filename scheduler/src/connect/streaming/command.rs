//! Commands on streaming queries: what `StreamingQuery` and `spark.streams` of a client ask.

use crate::connect::sessions::Session;
use crate::streaming::progress::Explained;
use crate::streaming::runs::{Ended, RunView};
use headwater_proto::error::{Error, Result};
use headwater_proto::progress::StreamingQueryProgress;
use headwater_proto::spark::streaming_query_command::Command;
use headwater_proto::spark::streaming_query_command_result::{
    AwaitTerminationResult, ExceptionResult, ExplainResult, RecentProgressResult, ResultType, StatusResult,
};
use headwater_proto::spark::streaming_query_manager_command::Command as ManagerCommand;
use headwater_proto::spark::streaming_query_manager_command_result::{
    ActiveResult, AwaitAnyTerminationResult, ListStreamingQueryListenerResult, ResultType as ManagerResult,
    StreamingQueryInstance,
};
use headwater_proto::spark::{
    StreamingQueryCommand, StreamingQueryCommandResult, StreamingQueryInstanceId, StreamingQueryManagerCommand,
    StreamingQueryManagerCommandResult,
};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A command on one run of a query. Waiting for its end takes as long as that does.
///
/// # Errors
/// `STREAMING_QUERY_NOT_FOUND`; `STREAM_FAILED` from waiting for a query that fails.
pub async fn query(session: &Session, command: StreamingQueryCommand) -> Result<StreamingQueryCommandResult> {
    let manager = &session.statements().manager;
    let query_id = command.query_id.ok_or_else(|| says_nothing("a command on a streaming query names none"))?;
    let StreamingQueryInstanceId { id, run_id } = &query_id;
    let asked = command.command.ok_or_else(|| says_nothing("a command on a streaming query asks for nothing"))?;
    let result_type = match asked {
        Command::Status(_) => Some(ResultType::Status(status(&manager.run_view(id, run_id)?))),
        Command::LastProgress(_) => {
            let view = manager.run_view(id, run_id)?;
            Some(progress(view.batches.last().into_iter().map(AsRef::as_ref))?)
        }
        Command::RecentProgress(_) => {
            let view = manager.run_view(id, run_id)?;
            Some(progress(view.batches.iter().map(AsRef::as_ref))?)
        }
        Command::Stop(_) => {
            manager.stop_run(id, run_id).await?;
            None
        }
        Command::ProcessAllAvailable(_) => {
            if let Some(Ended { error: Some(error), .. }) = manager.process_all_available(id, run_id).await? {
                return Err(failed(id, run_id, &error));
            }
            None
        }
        Command::Explain(explain) => {
            let view = manager.run_view(id, run_id)?;
            let result = explained(view.explained.as_deref(), explain.extended);
            Some(ResultType::Explain(ExplainResult { result }))
        }
        Command::Exception(_) => Some(ResultType::Exception(exception(&manager.run_view(id, run_id)?))),
        Command::AwaitTermination(await_termination) => {
            let ended = within(await_termination.timeout_ms, manager.await_end(id, run_id)).await?;
            if let Some(Ended { error: Some(error), .. }) = &ended {
                return Err(failed(id, run_id, error));
            }
            Some(ResultType::AwaitTermination(AwaitTerminationResult { terminated: ended.is_some() }))
        }
    };
    Ok(StreamingQueryCommandResult { query_id: Some(query_id), result_type })
}

/// A command on the queries of a session.
///
/// # Errors
/// `STREAM_FAILED` from waiting when a query failed; `UNSUPPORTED_FEATURE` for listeners that would run in the server.
pub async fn manage(
    session: &Session,
    command: StreamingQueryManagerCommand,
) -> Result<StreamingQueryManagerCommandResult> {
    let manager = &session.statements().manager;
    let (owner, reset_at) = (session.server_side_id(), &session.streaming().reset_at);
    let asked = command.command.ok_or_else(|| says_nothing("a command on streaming queries asks for nothing"))?;
    let result_type = match asked {
        ManagerCommand::Active(_) => {
            let active_queries = manager.active_of(owner).into_iter().map(instance).collect();
            Some(ManagerResult::Active(ActiveResult { active_queries }))
        }
        ManagerCommand::GetQuery(id) => manager.active(&id).map(instance).map(ManagerResult::Query),
        ManagerCommand::AwaitAnyTermination(await_any) => {
            let after = reset_at.load(Ordering::Relaxed);
            let ended = within(await_any.timeout_ms, manager.await_any_end(owner, after)).await?;
            if let Some(RunView { id, run_id, ended: Some(Ended { error: Some(error), .. }), .. }) = &ended {
                return Err(failed(id, run_id, error));
            }
            Some(ManagerResult::AwaitAnyTermination(AwaitAnyTerminationResult { terminated: ended.is_some() }))
        }
        ManagerCommand::ResetTerminated(_) => {
            reset_at.store(manager.ended_count(), Ordering::Relaxed);
            Some(ManagerResult::ResetTerminated(true))
        }
        ManagerCommand::AddListener(_) => {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "addListener() of this client would run the listener in the server, which has no Python: use a client of \
                 PySpark 4, which runs listeners itself, or poll lastProgress",
            ));
        }
        // There never is one.
        ManagerCommand::RemoveListener(_) => Some(ManagerResult::RemoveListener(true)),
        ManagerCommand::ListListeners(_) => {
            Some(ManagerResult::ListListeners(ListStreamingQueryListenerResult { listener_ids: vec![] }))
        }
    };
    Ok(StreamingQueryManagerCommandResult { result_type })
}

fn says_nothing(what: &str) -> Error {
    Error::invalid("CONNECT_INVALID_PLAN", what)
}

/// What `work` gives within a time; none when it takes longer.
async fn within<T>(timeout_ms: Option<i64>, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let Some(timeout_ms) = timeout_ms else { return work.await.map(Some) };
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default());
    tokio::time::timeout(timeout, work).await.ok().transpose()
}

/// Spark's `StreamingQueryException`.
fn failed(id: &str, run_id: &str, error: &Error) -> Error {
    Error::fatal("STREAM_FAILED", format!("Query [id = {id}, runId = {run_id}] terminated with exception: {error}"))
}

/// The phases of a run that Spark calls an active trigger.
const PROCESSING: &str = "Processing new data";

fn status(view: &RunView) -> StatusResult {
    match &view.ended {
        None => StatusResult {
            status_message: view.status.message.clone(),
            is_data_available: view.status.message == PROCESSING,
            is_trigger_active: view.status.state == "RUNNING",
            is_active: true,
        },
        Some(ended) => StatusResult {
            status_message: match &ended.error {
                Some(error) => format!("Terminated with exception: {error}"),
                None => "Stopped".into(),
            },
            is_data_available: false,
            is_trigger_active: false,
            is_active: false,
        },
    }
}

fn progress<'a>(batches: impl Iterator<Item = &'a StreamingQueryProgress>) -> Result<ResultType> {
    let recent_progress_json =
        batches.map(serde_json::to_string).collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
    Ok(ResultType::RecentProgress(RecentProgressResult { recent_progress_json }))
}

/// As Spark's own text begins: clients cut off what stands before the first ": ".
fn exception(view: &RunView) -> ExceptionResult {
    let error = view.ended.as_ref().and_then(|ended| ended.error.as_ref());
    let error = error.map(|error| failed(&view.id, &view.run_id, error));
    ExceptionResult {
        exception_message: error
            .as_ref()
            .map(|error| format!("org.apache.spark.sql.streaming.StreamingQueryException: {error}")),
        error_class: error.map(|error| error.class),
        stack_trace: None,
    }
}

fn explained(explained: Option<&Explained>, extended: bool) -> String {
    match explained {
        None => "No physical plan. Waiting for data.".into(),
        Some(Explained { physical, .. }) if !extended => format!("== Physical Plan ==\n{}\n", physical.trim_end()),
        Some(Explained { logical, physical }) => {
            format!(
                "== Analyzed Logical Plan ==\n{}\n\n== Physical Plan ==\n{}\n",
                logical.trim_end(),
                physical.trim_end()
            )
        }
    }
}

fn instance(view: RunView) -> StreamingQueryInstance {
    StreamingQueryInstance { id: Some(StreamingQueryInstanceId { id: view.id, run_id: view.run_id }), name: view.name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::engine::QueryStatus;

    fn view(state: &str, message: &str, ended: Option<Option<Error>>) -> RunView {
        RunView {
            id: "i".into(),
            run_id: "r".into(),
            name: None,
            status: QueryStatus { state: state.into(), message: message.into(), ..QueryStatus::default() },
            batches: vec![],
            explained: None,
            ended: ended.map(|error| Ended { error, number: 1 }),
        }
    }

    #[test]
    fn statuses() {
        let check = |view: RunView, expect: (&str, bool, bool, bool)| {
            let StatusResult { status_message, is_data_available, is_trigger_active, is_active } = status(&view);
            assert_eq!((status_message.as_str(), is_data_available, is_trigger_active, is_active), expect);
        };
        check(view("RUNNING", PROCESSING, None), (PROCESSING, true, true, true));
        let waiting = "Waiting for data to arrive";
        check(view("WAITING", waiting, None), (waiting, false, false, true));
        check(view("STOPPED", "Stopped", Some(None)), ("Stopped", false, false, false));
        let error = Some(Some(Error::fatal("X", "gone")));
        check(view("FAILED", "", error), ("Terminated with exception: [X] gone", false, false, false));
    }

    #[test]
    fn exceptions_can_be_cut_as_clients_do() {
        let ended = exception(&view("FAILED", "", Some(Some(Error::fatal("X", "a: b")))));
        let text = ended.exception_message.expect("it failed");
        let (_, shown) = text.split_once(": ").expect("clients split here");
        assert_eq!(shown, "[STREAM_FAILED] Query [id = i, runId = r] terminated with exception: [X] a: b");
        assert_eq!(ended.error_class.as_deref(), Some("STREAM_FAILED"));
        assert_eq!(exception(&view("STOPPED", "", Some(None))).exception_message, None);
        assert_eq!(exception(&view("RUNNING", "", None)).exception_message, None);
    }
}
