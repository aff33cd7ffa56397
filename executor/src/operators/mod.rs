//! Plan nodes of our own. Each encodes itself beside its definition; `codec.rs` has one arm for each.

pub mod placed;
pub mod sink;
pub mod source_scan;

use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use headwater_proto::error::{Error, ErrorKind};

/// Into DataFusion's error. Ballista retries only what is rooted in an I/O error, so transient errors become one.
pub fn to_datafusion(error: Error) -> DataFusionError {
    match error.kind {
        ErrorKind::Transient => DataFusionError::IoError(std::io::Error::other(error)),
        _ => DataFusionError::External(Box::new(error)),
    }
}

/// Tells operators that their task was cancelled: Ballista's cancel drops a future, but the streams that the task
/// spawned run on. The execution engine puts this into the task's session config; the sender lives in that future.
#[derive(Debug)]
pub struct TaskAlive(pub tokio::sync::watch::Receiver<()>);

/// Resolves when the task was cancelled; never, where nothing guards it.
pub async fn cancelled(context: &TaskContext) {
    match context.session_config().get_extension::<TaskAlive>() {
        Some(alive) => {
            let mut receiver = alive.0.clone();
            while receiver.changed().await.is_ok() {}
        }
        None => futures::future::pending().await,
    }
}
