//! Plan nodes of our own. Each that travels encodes itself beside its definition; `codec.rs` has one arm for each.

pub mod compact;
pub mod guard;
mod local;
pub mod one_task;
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

/// An error in a form for which the cluster does not run the task again; what it is and its kind stay.
pub fn not_repeated(error: DataFusionError) -> DataFusionError {
    // Ballista repeats a task whose error is rooted in one of I/O, through these wrappers too.
    match error.find_root() {
        DataFusionError::IoError(io) => {
            let ours = io.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
            DataFusionError::External(Box::new(ours.unwrap_or_else(|| Error::transient("IO_ERROR", io))))
        }
        _ => error,
    }
}

/// Tells operators that their task was cancelled: Ballista's cancel drops a future, but the streams that the task
/// spawned run on. The execution engine puts this into the task's session config; the sender lives in that future.
#[derive(Debug)]
pub struct TaskAlive(pub tokio::sync::watch::Receiver<()>);

impl TaskAlive {
    /// Whether the task was cancelled.
    pub fn is_cancelled(&self) -> bool {
        // An error: the sender is gone.
        self.0.has_changed().is_err()
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_repeated_stays_what_it_is() {
        let check = |error: DataFusionError, expect: &str| {
            let found = not_repeated(error);
            assert!(!matches!(found.find_root(), DataFusionError::IoError(_)), "{found}");
            let DataFusionError::External(ours) = &found else { panic!("{found}") };
            let ours = ours.downcast_ref::<Error>().expect("ours");
            assert_eq!((ours.kind, ours.class.as_str()), (ErrorKind::Transient, expect));
        };
        check(to_datafusion(Error::transient("X", "away")), "X");
        check(to_datafusion(Error::transient("X", "away")).context("writing"), "X");
        check(DataFusionError::IoError(std::io::Error::other("cut")), "IO_ERROR");
        let plan = not_repeated(DataFusionError::Plan("p".into()));
        assert!(matches!(plan, DataFusionError::Plan(_)));
    }
}
