//! Files that are written once: create-if-absent with an answer that can be trusted, reads, lists, deletes.
//!
//! A write whose answer is lost leaves its writer in doubt: the object may be there or not. Object stores make this
//! worse by repeating requests inside the client, so that a writer can lose the race to itself and be told that the
//! object exists already. [`Store::create`] therefore never believes a failure: it reads back and compares. Whoever
//! needs to tell their own bytes from another's must put something of their own into them.

use super::paths::Location;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_executor::connectors::files::location::create;
use headwater_proto::error::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::io;
use std::time::{Duration, Instant};

pub(super) use headwater_executor::connectors::files::location::Created;

/// How often a request that failed for a passing reason is repeated.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Requests in all, at least one.
    pub attempts_max: u32,
    /// Pause before the second request; each further one is twice as long.
    pub backoff_first: Duration,
    /// No pause is longer.
    pub backoff_max: Duration,
    /// After so long no further request is made: one that hangs takes its time.
    pub patience: Duration,
}

impl Default for Retry {
    /// Five requests within some three seconds. S3's client has patience of its own below this.
    fn default() -> Self {
        Self {
            attempts_max: 5,
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(2),
            patience: Duration::from_secs(10),
        }
    }
}

impl Retry {
    /// The pause after the `failed`-th request has failed, or none when it was the last.
    fn after(&self, failed: u32, elapsed: Duration) -> Option<Duration> {
        let factor = 2u32.saturating_pow(failed.saturating_sub(1));
        (failed < self.attempts_max && elapsed < self.patience)
            .then(|| self.backoff_first.saturating_mul(factor).min(self.backoff_max))
    }
}

/// A timer's tick is a millisecond even when the pause is nothing.
async fn rest(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// A location with retries.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub location: Location,
    pub retry: Retry,
}

impl Store {
    /// Puts `bytes` at `path` unless something is there. One request when all goes well.
    pub async fn create(&self, path: &Path, bytes: &Bytes) -> Result<Created> {
        let (began, mut failed) = (Instant::now(), 0);
        loop {
            let error = match create(self.location.store.as_ref(), path, bytes).await {
                Ok(created) => return Ok(created),
                Err(error) if !is_transient(&error) => return Err(self.error("write", path, &error)),
                Err(error) => error,
            };
            failed += 1;
            match self.retry.after(failed, began.elapsed()) {
                Some(pause) => rest(pause).await,
                None => {
                    // The last answer may be the one that was lost.
                    let retry = Retry { attempts_max: 1, ..self.retry };
                    return match (Self { retry, ..self.clone() }).get(path).await {
                        Ok(Some(found)) if found == *bytes => Ok(Created::Written),
                        Ok(Some(found)) => Ok(Created::Exists(found)),
                        Ok(None) | Err(_) => Err(self.error("write", path, &error)),
                    };
                }
            }
        }
    }

    /// The file's bytes, if it is there.
    pub async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let (began, mut failed) = (Instant::now(), 0);
        loop {
            let result = match self.location.store.get(path).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            let error = match result {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(error) => error,
            };
            failed += 1;
            match self.retry.after(failed, began.elapsed()).filter(|_| is_transient(&error)) {
                Some(pause) => rest(pause).await,
                None => return Err(self.error("read", path, &error)),
            }
        }
    }

    /// Names of the files directly in `folder`; none when there is no such folder.
    pub async fn names(&self, folder: &Path) -> Result<Vec<String>> {
        let (began, mut failed) = (Instant::now(), 0);
        loop {
            let error = match self.location.store.list_with_delimiter(Some(folder)).await {
                Ok(found) => {
                    let names = found.objects.iter().filter_map(|object| object.location.filename());
                    return Ok(names.map(str::to_string).collect());
                }
                Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
                Err(error) => error,
            };
            failed += 1;
            match self.retry.after(failed, began.elapsed()).filter(|_| is_transient(&error)) {
                Some(pause) => rest(pause).await,
                None => return Err(self.error("list", folder, &error)),
            }
        }
    }

    /// Deletes files; those that are not there do not matter. Not repeated: the caller comes again.
    pub async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let first = paths.first().cloned().unwrap_or_default();
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        self.location
            .store
            .delete_stream(paths)
            .filter(|deleted| {
                let gone = matches!(deleted, Err(object_store::Error::NotFound { .. }));
                futures::future::ready(!gone)
            })
            .try_for_each(|_| futures::future::ready(Ok(())))
            .await
            .map_err(|error| self.error("delete files from", &first, &error))
    }

    fn error(&self, what: &str, path: &Path, error: &object_store::Error) -> Error {
        let file = self.location.display_of(path);
        if is_transient(error) {
            return Error::transient("CHECKPOINT_UNAVAILABLE", format!("failed to {what} {file}: {error}"));
        }
        let remedy = match error {
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                "use an object store with conditional writes (If-None-Match: *) and leave them enabled"
            }
            _ => "check the permissions and the credentials of the scheduler",
        };
        Error::new(
            ErrorKind::InvalidRequest,
            "CHECKPOINT_INACCESSIBLE",
            format!("failed to {what} {file}: {error}; {remedy}"),
        )
    }
}

/// Whether the same request may succeed later.
fn is_transient(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    match error {
        E::Generic { source, .. } => !is_refused(source.as_ref()),
        E::JoinError { .. } | E::AlreadyExists { .. } | E::Precondition { .. } => true,
        _ => false,
    }
}

/// Whether an operating system error that will not pass by itself is at the root.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_end() {
        let retry = Retry {
            attempts_max: 5,
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_millis(300),
            patience: Duration::from_secs(1),
        };
        let after = |failed| retry.after(failed, Duration::ZERO);
        let pauses = (1..=5).map(|failed| after(failed).map(|pause| pause.as_millis())).collect::<Vec<_>>();
        assert_eq!(pauses, [Some(100), Some(200), Some(300), Some(300), None]);
        let endless = Retry { attempts_max: u32::MAX, ..retry };
        assert_eq!(endless.after(u32::MAX - 1, Duration::ZERO), Some(Duration::from_millis(300)));
        assert_eq!(retry.after(1, Duration::from_secs(1)), None, "its patience is over");
    }

    #[test]
    fn refusals_are_not_repeated() {
        #[track_caller]
        fn check(error: object_store::Error, transient: bool) {
            assert_eq!(is_transient(&error), transient, "{error}");
        }
        let boxed = |kind: io::ErrorKind| object_store::Error::Generic {
            store: "test",
            source: Box::new(io::Error::from(kind)),
        };
        check(boxed(io::ErrorKind::ConnectionReset), true);
        check(boxed(io::ErrorKind::StorageFull), true);
        check(boxed(io::ErrorKind::PermissionDenied), false);
        check(boxed(io::ErrorKind::ReadOnlyFilesystem), false);
        check(object_store::Error::NotImplemented { operation: "put".into(), implementer: "test".into() }, false);
    }
}
