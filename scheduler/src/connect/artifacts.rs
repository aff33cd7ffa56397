//! What a session uploads: local relations (`cache/…`), Python files, archives, files.
//!
//! They lie in a folder of the session's below the system's temporary folder, and go with it. Contents are never looked
//! at here. A name is a relative path below one of Spark's prefixes and cannot leave the folder; one that was uploaded
//! cannot be uploaded again with other contents, since what refers to it may have run already.

use bytes::Bytes;
use flate2::Crc;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark::add_artifacts_request::{ArtifactChunk, Payload};
use headwater_proto::spark::add_artifacts_response::ArtifactSummary;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Where local relations are, by the hash of their contents.
const CACHE: &str = "cache";
/// Folders that clients name. `jars` and `classes` are Java's: they are kept, for clients that insist, and never used.
const PREFIXES: &[&str] = &[CACHE, "pyfiles", "archives", "files", "jars", "classes"];

/// A folder that is removed with its last user.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        let remove = move || {
            if let Err(error) = std::fs::remove_dir_all(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "could not remove a session's uploads");
            }
        };
        // At shutdown there may be no runtime.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

#[derive(Clone)]
struct Stored {
    path: PathBuf,
    bytes: u64,
    crc: u32,
    _folder: Arc<Folder>,
}

/// Uploads of a session.
pub struct Artifacts {
    bytes_max: u64,
    /// Made at the first upload: most sessions have none.
    folder: OnceLock<Arc<Folder>>,
    stored: Mutex<BTreeMap<String, Stored>>,
}

impl Artifacts {
    /// None yet.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, folder: OnceLock::new(), stored: Mutex::default() }
    }

    /// The same uploads for another session; from now on each has its own.
    pub fn duplicate(&self) -> Self {
        let stored = self.lock().clone();
        Self { bytes_max: self.bytes_max, folder: OnceLock::new(), stored: Mutex::new(stored) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one of this name.
    pub fn exists(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Names of what was uploaded, such as `pyfiles/helpers.py`, with their places on this machine.
    pub fn list(&self) -> Vec<(String, PathBuf)> {
        self.lock().iter().map(|(name, stored)| (name.clone(), stored.path.clone())).collect()
    }

    /// Where an upload lies.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.lock().get(name).map(|stored| stored.path.clone())
    }

    /// Contents of a local relation, by their hash.
    ///
    /// # Errors
    /// `CONNECT_INVALID_PLAN.NOT_FOUND_CACHED_LOCAL_RELATION`; `IO_ERROR`.
    pub async fn cached(&self, hash: &str) -> Result<Bytes> {
        let stored = self.lock().get(&format!("{CACHE}/{hash}")).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "CONNECT_INVALID_PLAN.NOT_FOUND_CACHED_LOCAL_RELATION",
                format!("not found any cached local relation with the hash {hash} in this session: upload it again"),
            )
            .with("hash", hash)
        })?;
        let read = tokio::fs::read(&stored.path).await;
        read.map(Bytes::from).map_err(|error| io(&format!("cannot read upload {CACHE}/{hash}"), &error))
    }

    /// Begins an upload of one or several.
    pub fn upload(&self) -> Upload {
        Upload { summaries: vec![], chunked: None }
    }

    fn folder(&self) -> Result<Arc<Folder>> {
        if let Some(folder) = self.folder.get() {
            return Ok(Arc::clone(folder));
        }
        let path = std::env::temp_dir().join(format!("headwater-session-{}", uuid::Uuid::new_v4()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(|error| io(&format!("cannot make folder {}", path.display()), &error))?;
        Ok(Arc::clone(self.folder.get_or_init(|| Arc::new(Folder(path)))))
    }

    fn add(&self, name: &str, received: Received) -> Result<()> {
        let mut stored = self.lock();
        if let Some(before) = stored.get(name) {
            if before.bytes == received.bytes && before.crc == received.crc.sum() {
                // Another call was faster: the same again.
                return Ok(());
            }
            if !name.starts_with("cache/") {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "ARTIFACT_ALREADY_EXISTS",
                    format!("the artifact {name} already exists: choose a different name, it cannot be overwritten"),
                )
                .with("normalizedRemoteRelativePath", name));
            }
        }
        let all: u64 = stored.values().map(|one| one.bytes).sum();
        self.fits(name, all + received.bytes)?;
        let one =
            Stored { path: received.path, bytes: received.bytes, crc: received.crc.sum(), _folder: received.folder };
        stored.insert(name.to_string(), one);
        Ok(())
    }

    fn fits(&self, name: &str, bytes: u64) -> Result<()> {
        if bytes <= self.bytes_max {
            return Ok(());
        }
        Err(Error::invalid(
            "ARTIFACTS_TOO_LARGE",
            format!(
                "with artifact {name} this session would have more than {} MiB of them: read large data from files or \
                 tables instead",
                self.bytes_max >> 20
            ),
        ))
    }
}

/// A file being written.
struct Received {
    file: File,
    path: PathBuf,
    bytes: u64,
    crc: Crc,
    crc_right: bool,
    folder: Arc<Folder>,
}

struct Chunked {
    name: String,
    bytes: u64,
    chunks_left: i64,
    received: Received,
}

/// One call that uploads.
pub struct Upload {
    summaries: Vec<ArtifactSummary>,
    chunked: Option<Chunked>,
}

impl Upload {
    /// Takes the next message.
    ///
    /// # Errors
    /// `INVALID_ARTIFACT_PATH`, `INVALID_ARTIFACT_CHUNK`, `ARTIFACTS_TOO_LARGE`, `ARTIFACT_ALREADY_EXISTS`; `IO_ERROR`.
    pub async fn receive(&mut self, artifacts: &Artifacts, payload: Payload) -> Result<()> {
        match payload {
            Payload::Batch(batch) => {
                self.between()?;
                for artifact in batch.artifacts {
                    let name = valid(&artifact.name)?;
                    let chunk = artifact.data.unwrap_or_default();
                    let mut received = receive(artifacts).await?;
                    received.write(&chunk).await?;
                    self.done(artifacts, name, received).await?;
                }
            }
            Payload::BeginChunk(begin) => {
                self.between()?;
                let name = valid(&begin.name)?;
                let bytes = u64::try_from(begin.total_bytes).map_err(|_| chunk_error(&name, "its size is negative"))?;
                artifacts.fits(&name, bytes)?;
                let mut received = receive(artifacts).await?;
                received.write(&begin.initial_chunk.unwrap_or_default()).await?;
                self.chunked = Some(Chunked { name, bytes, chunks_left: begin.num_chunks - 1, received });
                self.end_of_chunks(artifacts).await?;
            }
            Payload::Chunk(chunk) => {
                let Some(chunked) = &mut self.chunked else {
                    return Err(chunk_error("", "it belongs to no artifact"));
                };
                chunked.chunks_left -= 1;
                chunked.received.write(&chunk).await?;
                if chunked.received.bytes > chunked.bytes {
                    return Err(chunk_error(&chunked.name, "it is longer than was announced"));
                }
                self.end_of_chunks(artifacts).await?;
            }
        }
        Ok(())
    }

    fn between(&self) -> Result<()> {
        match &self.chunked {
            Some(chunked) => Err(chunk_error(&chunked.name, "another artifact came before its end")),
            None => Ok(()),
        }
    }

    async fn end_of_chunks(&mut self, artifacts: &Artifacts) -> Result<()> {
        if self.chunked.as_ref().is_none_or(|chunked| chunked.chunks_left > 0) {
            return Ok(());
        }
        let Some(chunked) = self.chunked.take() else { return Ok(()) };
        if chunked.received.bytes != chunked.bytes {
            return Err(chunk_error(&chunked.name, "its size is not what was announced"));
        }
        self.done(artifacts, chunked.name, chunked.received).await
    }

    /// One whose checksum is wrong is not kept: the client reads of it in the summary and sends it again.
    async fn done(&mut self, artifacts: &Artifacts, name: String, mut received: Received) -> Result<()> {
        let flushed = received.file.flush().await;
        flushed.map_err(|error| io(&format!("cannot write upload {name}"), &error))?;
        let is_crc_successful = received.crc_right;
        if is_crc_successful {
            artifacts.add(&name, received)?;
        } else if let Err(error) = tokio::fs::remove_file(&received.path).await {
            tracing::warn!(path = %received.path.display(), %error, "could not remove a broken upload");
        }
        self.summaries.push(ArtifactSummary { name, is_crc_successful });
        Ok(())
    }

    /// What became of each.
    ///
    /// # Errors
    /// `INVALID_ARTIFACT_CHUNK` when the last one is not whole.
    pub fn finish(self) -> Result<Vec<ArtifactSummary>> {
        self.between()?;
        Ok(self.summaries)
    }
}

async fn receive(artifacts: &Artifacts) -> Result<Received> {
    let folder = artifacts.folder()?;
    // Names are the clients': files have ours.
    let path = folder.0.join(uuid::Uuid::new_v4().to_string());
    let file = File::create_new(&path).await.map_err(|error| io(&format!("cannot make {}", path.display()), &error))?;
    Ok(Received { file, path, bytes: 0, crc: Crc::new(), crc_right: true, folder })
}

impl Received {
    async fn write(&mut self, chunk: &ArtifactChunk) -> Result<()> {
        let mut crc = Crc::new();
        crc.update(&chunk.data);
        self.crc_right &= i64::from(crc.sum()) == chunk.crc;
        self.crc.update(&chunk.data);
        self.bytes += chunk.data.len() as u64;
        let written = self.file.write_all(&chunk.data).await;
        written.map_err(|error| io(&format!("cannot write {}", self.path.display()), &error))
    }
}

/// A name that stays below one of the folders.
fn valid(name: &str) -> Result<String> {
    let path = Path::new(name);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
    let prefix = name.split_once('/').is_some_and(|(prefix, rest)| PREFIXES.contains(&prefix) && !rest.is_empty());
    if normal && prefix && !name.contains('\\') {
        return Ok(name.to_string());
    }
    Err(Error::invalid(
        "INVALID_ARTIFACT_PATH",
        format!(
            "artifact with name {name} is invalid: the name must be a relative path below {} and cannot reference \
             parent directories",
            PREFIXES.join(", ")
        ),
    )
    .with("name", name))
}

fn chunk_error(name: &str, why: &str) -> Error {
    Error::invalid("INVALID_ARTIFACT_CHUNK", format!("a chunk of artifact {name} is wrong: {why}"))
}

fn io(what: &str, error: &std::io::Error) -> Error {
    Error::transient("IO_ERROR", format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::spark::add_artifacts_request::{Batch, BeginChunkedArtifact, SingleChunkArtifact};

    fn chunk(data: &[u8]) -> ArtifactChunk {
        let mut crc = Crc::new();
        crc.update(data);
        ArtifactChunk { data: data.to_vec(), crc: i64::from(crc.sum()) }
    }

    fn single(name: &str, data: &[u8]) -> Payload {
        Payload::Batch(Batch { artifacts: vec![SingleChunkArtifact { name: name.into(), data: Some(chunk(data)) }] })
    }

    #[test]
    fn names_stay_in_the_folder() {
        let check = |name: &str, expect: bool| assert_eq!(valid(name).is_ok(), expect, "{name}");
        check("cache/abc", true);
        check("pyfiles/a/b.py", true);
        check("cache/../../etc/passwd", false);
        check("/cache/abc", false);
        check("cache/", false);
        check("abc", false);
        check("secrets/x", false);
        check("files/..\\x", false);
    }

    #[tokio::test]
    async fn uploads_are_kept_and_removed() {
        let artifacts = Artifacts::new(20);
        let mut upload = artifacts.upload();
        upload.receive(&artifacts, single("cache/a", b"hello")).await.unwrap();
        let begin = BeginChunkedArtifact {
            name: "files/b".into(),
            total_bytes: 4,
            num_chunks: 2,
            initial_chunk: Some(chunk(b"ab")),
        };
        upload.receive(&artifacts, Payload::BeginChunk(begin)).await.unwrap();
        assert!(!artifacts.exists("files/b"));
        upload.receive(&artifacts, Payload::Chunk(chunk(b"cd"))).await.unwrap();
        let wrong = ArtifactChunk { data: b"x".to_vec(), crc: 1 };
        let wrong = SingleChunkArtifact { name: "files/c".into(), data: Some(wrong) };
        upload.receive(&artifacts, Payload::Batch(Batch { artifacts: vec![wrong] })).await.unwrap();
        let summaries: Vec<_> = upload.finish().unwrap().into_iter().map(|s| (s.name, s.is_crc_successful)).collect();
        assert_eq!(summaries, [("cache/a".into(), true), ("files/b".into(), true), ("files/c".into(), false)]);
        assert_eq!(artifacts.cached("a").await.unwrap(), "hello");
        assert!(artifacts.exists("files/b") && !artifacts.exists("files/c"));
        assert!(artifacts.cached("nope").await.unwrap_err().class.ends_with("NOT_FOUND_CACHED_LOCAL_RELATION"));

        let mut upload = artifacts.upload();
        upload.receive(&artifacts, single("files/b", b"abcd")).await.unwrap();
        let mut class = async |payload| upload.receive(&artifacts, payload).await.unwrap_err().class;
        assert_eq!(class(single("files/b", b"other")).await, "ARTIFACT_ALREADY_EXISTS");
        assert_eq!(class(single("files/d", b"twelve bytes")).await, "ARTIFACTS_TOO_LARGE");
        assert_eq!(class(Payload::Chunk(chunk(b"x"))).await, "INVALID_ARTIFACT_CHUNK");

        let copy = artifacts.duplicate();
        let path = artifacts.path("cache/a").unwrap();
        drop(artifacts);
        assert_eq!(copy.cached("a").await.unwrap(), "hello");
        let folder = copy.lock().values().next().map(|stored| Arc::downgrade(&stored._folder)).unwrap();
        drop(copy);
        assert!(folder.upgrade().is_none());
        // The removal runs beside.
        while path.exists() {
            tokio::task::yield_now().await;
        }
    }
}
