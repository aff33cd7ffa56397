//! Which runs this scheduler drives: one JSON file each, `ingest/<uuid>.json` in the state directory.
//!
//! A file has the whole request, with the database's address and any secrets, as the catalog's and the queries' files do;
//! PostgreSQL has the request without them.

use super::request::Request;
use super::run::End;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_proto::engine::IngestState;
use headwater_proto::error::{Error, Result};
use headwater_proto::ingest::state_name;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Files that are read at once.
const READ_AT_ONCE: usize = 16;

/// What should become of a run, or has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", tag = "is")]
pub enum Wanted {
    /// To be driven to its end.
    Run,
    /// To be cancelled.
    Cancel,
    /// It has ended.
    Ended {
        /// As in PostgreSQL.
        state: String,
        /// For people.
        message: String,
        /// Of the error, or empty.
        class: String,
        /// Whether PostgreSQL has it.
        #[serde(default)]
        told: bool,
    },
}

impl Wanted {
    /// How a run ended.
    pub fn ended(end: &End, told: bool) -> Self {
        Self::Ended {
            state: state_name(end.state).into(),
            message: end.message.clone(),
            class: end.error_class.clone(),
            told,
        }
    }

    /// The end, if there was one.
    pub fn end(&self) -> Option<End> {
        let Self::Ended { state, message, class, .. } = self else { return None };
        let state = IngestState::from_str_name(&format!("INGEST_STATE_{state}"))?;
        Some(End { state, message: message.clone(), error_class: class.clone() })
    }

    /// The end, if PostgreSQL has not been told of it.
    pub fn untold(&self) -> Option<End> {
        self.end().filter(|_| !self.is_told())
    }

    /// Whether it has ended, and PostgreSQL knows how.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Ended { told: true, .. })
    }
}

/// A run's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFile {
    /// Id of the run.
    pub run_id: String,
    /// What it was asked for, secrets included.
    pub request: Request,
    /// Who started it last, or empty.
    #[serde(default)]
    pub owner: String,
    /// What is to be done.
    pub wanted: Wanted,
}

/// The files.
#[derive(Debug, Clone)]
pub struct Files {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Files {
    /// Files below the root of a state directory.
    pub fn new(store: Arc<dyn ObjectStore>, root: &Path) -> Self {
        Self { store, folder: root.clone().join("ingest") }
    }

    /// All of them, by when they were last written.
    ///
    /// # Errors
    /// The store is away; a file that cannot be read, by its path.
    pub async fn read(&self) -> Result<Vec<RunFile>> {
        let mut files: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await.map_err(unavailable)?;
        files.retain(|file| file.location.extension() == Some("json"));
        files.sort_by_key(|file| file.last_modified);
        let files = stream::iter(files).map(|file| self.read_one(file.location)).buffered(READ_AT_ONCE);
        files.try_collect().await
    }

    async fn read_one(&self, path: Path) -> Result<RunFile> {
        let bytes = async { self.store.get(&path).await?.bytes().await }.await.map_err(unavailable)?;
        // Without serde's text, which may quote a secret.
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::fatal(
                "INGEST_FILE_CORRUPT",
                format!(
                    "{path} is no file of an ingest run (line {}, column {}): restore it, or move it away to forget \
                     the run",
                    error.line(),
                    error.column()
                ),
            )
        })
    }

    /// Writes one.
    ///
    /// # Errors
    /// The store is away.
    pub async fn write(&self, run: &RunFile) -> Result<()> {
        let text = serde_json::to_vec_pretty(run).map_err(Error::internal)?;
        self.store.put(&self.path(&run.run_id), text.into()).await.map_err(unavailable)?;
        Ok(())
    }

    /// Removes one, if it is there.
    ///
    /// # Errors
    /// The store is away.
    pub async fn remove(&self, run_id: &str) -> Result<()> {
        match self.store.delete(&self.path(run_id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Run ids are free text: a file's name is made of one.
    fn path(&self, run_id: &str) -> Path {
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, run_id.as_bytes());
        self.folder.clone().join(format!("{name}.json"))
    }
}

fn unavailable(error: object_store::Error) -> Error {
    Error::transient(
        "STATE_DIRECTORY_UNAVAILABLE",
        format!("failed to access the files of ingest runs: {error}: check --state-dir and its permissions"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::engine::StartIngestRequest;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn files_survive_a_restart() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let request = StartIngestRequest {
            users: 1,
            topic: "t".into(),
            kafka: "k:1".into(),
            postgres: "postgresql://u:hunter2@h/d".into(),
            ..StartIngestRequest::default()
        };
        let request = Request::parse(&request, None).expect("good");
        let files = Files::new(Arc::clone(&store), &Path::from("state"));
        let mut run = RunFile {
            run_id: "manual__2024-01-01T00:00:00+00:00/x".into(),
            request,
            owner: "o".into(),
            wanted: Wanted::Run,
        };
        files.write(&run).await.expect("is written");
        let end = End { state: IngestState::Failed, message: "m".into(), error_class: "C".into() };
        run.wanted = Wanted::ended(&end, false);
        files.write(&run).await.expect("is written");
        let read = Files::new(Arc::clone(&store), &Path::from("state")).read().await.expect("reads");
        assert_eq!(read, [run]);
        assert_eq!(read[0].wanted.end().as_ref(), Some(&end));
        assert_eq!((read[0].wanted.untold().as_ref(), Wanted::ended(&end, true).untold()), (Some(&end), None));
        assert_eq!((Wanted::Run.end(), Wanted::Run.is_told()), (None, false));
        // By when they were written.
        for id in ["b", "a"] {
            files.write(&RunFile { run_id: id.into(), ..read[0].clone() }).await.expect("is written");
        }
        let ids = || async {
            let runs = files.read().await.expect("reads");
            runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>()
        };
        assert_eq!(ids().await, [read[0].run_id.as_str(), "b", "a"]);
        files.remove("b").await.expect("is removed");
        files.remove("b").await.expect("is gone");
        assert_eq!(ids().await, [read[0].run_id.as_str(), "a"]);
        store.put(&Path::from("state/ingest/x.json"), "{\"runId\":\"hunter2\"".into()).await.expect("is written");
        let error = files.read().await.expect_err("is broken").to_string();
        assert!(error.contains("state/ingest/x.json") && !error.contains("hunter2"), "{error}");
    }
}
