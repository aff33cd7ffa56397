//! Streaming queries of Spark Connect.

use super::operation::Responder;
use super::sessions::Session;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::command::CommandType;
use std::sync::Arc;

/// Runs a command.
pub async fn command(_session: &Arc<Session>, _command: &CommandType, _responder: &Responder) -> Result<()> {
    Err(Error::invalid("UNSUPPORTED_FEATURE", "this command is not supported"))
}

/// A scan of a stream.
pub async fn read(
    _session: &Arc<Session>,
    _read: &headwater_proto::spark::Read,
) -> Result<datafusion::logical_expr::LogicalPlan> {
    Err(Error::invalid("UNSUPPORTED_FEATURE", "streams are not read yet"))
}
