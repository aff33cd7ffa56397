//! Streaming queries of DataFrames: `readStream`, `writeStream`, `StreamingQuery`, `spark.streams` and its listeners.
//!
//! ```text
//!  readStream ──► read: a stream that no query reads yet      start: what is asked for, checked ──► definition
//!                                                                                                      │ kept
//!  query, manage, listen ──► streaming::manager ◄──── runs, resumes after a restart ───────────────────┘
//! ```
//!
//! A query is kept as the relation that the client sent, with the settings, views and uploads of the session that it
//! needs ([`DataFrameDefinition`]); whoever runs it plans it again. So a query outlives the client, the session and the
//! scheduler.
//!
//! As in Spark, `spark.streams.active`, `awaitAnyTermination` and listeners are about the queries that the same session
//! started. Queries that it did not start are found by `spark.streams.get(id)`, and by `headwater query`.

mod command;
mod definition;
mod listener;
mod read;
mod start;

pub use definition::DataFrameDefinition;
pub use read::read;

use super::responder::Responder;
use super::sessions::Session;
use futures::StreamExt;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::command::CommandType;
use headwater_proto::spark::execute_plan_response::ResponseType;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Does what a command on streaming queries asks, and answers. Waiting for the end of a query, and the listener bus,
/// take as long as they last: dropped, they leave nothing behind.
///
/// # Errors
/// Those of the commands; another command is none of ours.
pub async fn command(session: &Arc<Session>, command: &CommandType, responder: &Responder) -> Result<()> {
    let answer = match command {
        CommandType::WriteStreamOperationStart(asked) => {
            ResponseType::WriteStreamOperationStartResult(start::start(session, asked.clone()).await?)
        }
        CommandType::StreamingQueryCommand(asked) => {
            ResponseType::StreamingQueryCommandResult(command::query(session, asked.clone()).await?)
        }
        CommandType::StreamingQueryManagerCommand(asked) => {
            ResponseType::StreamingQueryManagerCommandResult(command::manage(session, asked.clone()).await?)
        }
        CommandType::StreamingQueryListenerBusCommand(asked) => {
            let mut events = listener::listen(session, *asked)?;
            while let Some(event) = events.next().await {
                responder.send(ResponseType::StreamingQueryListenerEventsResult(event)).await?;
            }
            return Ok(());
        }
        _ => return Err(Error::internal("a command that is not about streaming queries was given to those that are")),
    };
    responder.send(answer).await
}

/// What a session keeps about streaming queries. Dropped with it, which ends its listener.
#[derive(Debug, Default)]
pub struct PerSession {
    /// How many runs had ended when `resetTerminated()` was called.
    reset_at: AtomicU64,
    /// Turns true, or is dropped, to end the session's listener bus.
    listener: Mutex<Option<watch::Sender<bool>>>,
}
