//! Which runs this scheduler drives: one JSON file each, `ingest/<uuid>.json` in the state directory.
//!
//! A file has the whole request, with the database's address and any secrets, as the catalog's and the queries' files do;
//! PostgreSQL has the request without them.

use super::request::Request;
use super::run::End;
use futures::TryStreamExt;
use headwater_proto::engine::IngestState;
use headwater_proto::error::{Error, Result};
use headwater_proto::ingest::state_name;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

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
    },
}

impl Wanted {
    /// How a run ended.
    pub fn ended(end: &End) -> Self {
        Self::Ended {
            state: state_name(end.state).into(),
            message: end.message.clone(),
            class: end.error_class.clone(),
        }
    }

    /// The end, if there was one.
    pub fn end(&self) -> Option<End> {
        let Self::Ended { state, message, class } = self else { return None };
        let state = IngestState::from_str_name(&format!("INGEST_STATE_{state}"))?;
        Some(End { state, message: message.clone(), error_class: class.clone() })
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

    /// All of them.
    ///
    /// # Errors
    /// The store is away; a file that cannot be read, by its path.
    pub async fn read(&self) -> Result<Vec<RunFile>> {
        let files: Vec<_> = self.store.list(Some(&self.folder)).try_collect().await.map_err(unavailable)?;
        let mut runs = vec![];
        for file in files.into_iter().filter(|file| file.location.extension() == Some("json")) {
            let bytes = async { self.store.get(&file.location).await?.bytes().await }.await.map_err(unavailable)?;
            // Without serde's text, which may quote a secret.
            let run = serde_json::from_slice(&bytes).map_err(|error| {
                Error::fatal(
                    "INGEST_FILE_CORRUPT",
                    format!(
                        "{} is no file of an ingest run (line {}, column {}): restore it, or move it away to forget the run",
                        file.location,
                        error.line(),
                        error.column()
                    ),
                )
            })?;
            runs.push(run);
        }
        Ok(runs)
    }

    /// Writes one.
    ///
    /// # Errors
    /// The store is away.
    pub async fn write(&self, run: &RunFile) -> Result<()> {
        // Run ids are free text: a file's name is made of one.
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, run.run_id.as_bytes());
        let path = self.folder.clone().join(format!("{name}.json"));
        let text = serde_json::to_vec_pretty(run).map_err(Error::internal)?;
        self.store.put(&path, text.into()).await.map_err(unavailable)?;
        Ok(())
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
        run.wanted = Wanted::ended(&end);
        files.write(&run).await.expect("is written");
        let read = Files::new(Arc::clone(&store), &Path::from("state")).read().await.expect("reads");
        assert_eq!(read, [run]);
        assert_eq!(read[0].wanted.end(), Some(end));
        assert_eq!(Wanted::Run.end(), None);
        store.put(&Path::from("state/ingest/x.json"), "{\"runId\":\"hunter2\"".into()).await.expect("is written");
        let error = files.read().await.expect_err("is broken").to_string();
        assert!(error.contains("state/ingest/x.json") && !error.contains("hunter2"), "{error}");
    }
}
