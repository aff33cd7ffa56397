//! Where a checkpoint lives: an object store, a root in it, and the names of its files.
//!
//! ```text
//! <root>/metadata           the query's id
//! <root>/offsets/<N>        offset log: where batch N ends
//! <root>/commits/<N>        commit log: batch N is in the sink
//! <root>/sources/<n>/0      where source n began
//! <root>/sources/<n>/files  which files source n took when, if it reads files: `connectors/files/source.rs`
//! ```

use crate::ha::Tenure;
use crate::ha::fenced::Fenced;
use headwater_executor::connectors;
use headwater_executor::connectors::files::location::{FSYNC, parse_location};
use headwater_proto::error::{Error, Result};
use object_store::ObjectStore;
use object_store::path::Path;
use std::fmt;
use std::sync::Arc;

/// An object store and the folder of a checkpoint in it.
#[derive(Clone)]
pub struct Location {
    pub(super) store: Arc<dyn ObjectStore>,
    root: Path,
    display: String,
}

impl Location {
    /// A checkpoint at `root` of `store`, shown to people as `display`, which must hold no secret.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path, display: impl Into<String>) -> Self {
        Self { store, root, display: display.into() }
    }

    /// The location that a user named, in any form that [`parse_location`] takes. A local folder is created.
    ///
    /// Local entries are not forced to the disk, see "Durability" in the module above.
    ///
    /// # Errors
    /// `INVALID_CHECKPOINT_LOCATION` when the text is no location, or the folder cannot be created.
    pub async fn resolve(text: &str) -> Result<Self> {
        let options = connectors::Options::new([(FSYNC, "false")]);
        let (store, root, url) = parse_location(text.trim(), &options)
            .map_err(|e| invalid(format!("checkpoint location is not usable: {}", e.message)))?;
        if url.scheme() != "file" {
            let display = format!("{}://{}/{root}", url.scheme(), url.host_str().unwrap_or_default());
            return Ok(Self::new(store, root, display));
        }
        let folder = url.to_file_path().map_err(|()| {
            invalid(format!("checkpoint location {url} is not a local path: write it as file:///folder"))
        })?;
        let display = folder.display().to_string();
        tokio::fs::create_dir_all(&folder).await.map_err(|reason| {
            invalid(format!("failed to create checkpoint folder {display}: {reason}; name a writable folder"))
        })?;
        Ok(Self::new(store, root, display))
    }

    /// The same, written to only while `tenure` lasts.
    pub fn fenced(self, tenure: &Tenure) -> Self {
        Self { store: Fenced::over(self.store, tenure.clone()), ..self }
    }

    /// The location as people know it.
    pub fn display(&self) -> &str {
        &self.display
    }
    /// A file of the checkpoint as people know it: `/tmp/checkpoint/offsets/12`.
    pub(super) fn display_of(&self, path: &Path) -> String {
        let inside = path
            .prefix_match(&self.root)
            .map(|parts| parts.map(|part| part.as_ref().to_string()).collect::<Vec<_>>().join("/"));
        format!("{}/{}", self.display.trim_end_matches('/'), inside.as_deref().unwrap_or(path.as_ref()))
    }
    /// The query's id.
    pub(super) fn metadata(&self) -> Path {
        self.root.clone().join("metadata")
    }
    /// The folder of the offset log.
    pub(super) fn offsets(&self) -> Path {
        self.root.clone().join("offsets")
    }
    /// The folder of the commit log.
    pub(super) fn commits(&self) -> Path {
        self.root.clone().join("commits")
    }
    /// Where source `source`'s first offset is kept.
    pub(super) fn initial_offset(&self, source: usize) -> Path {
        self.root.clone().join("sources").join(source.to_string()).join("0")
    }
    /// Entry `id` of a log.
    pub(super) fn entry(folder: &Path, id: u64) -> Path {
        folder.clone().join(id.to_string())
    }
}

/// The store is left out: what it prints is not ours to vouch for.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.display).finish()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

fn invalid(message: impl fmt::Display) -> Error {
    Error::invalid("INVALID_CHECKPOINT_LOCATION", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn texts_become_locations() {
        async fn check(text: &str, expect: Result<&str, &str>) {
            match (Location::resolve(text).await, expect) {
                (Ok(location), Ok(expect)) => assert_eq!(location.display(), expect),
                (Err(error), Err(expect)) => {
                    assert_eq!(error.class, "INVALID_CHECKPOINT_LOCATION");
                    assert!(error.message.contains(expect), "{error}");
                    assert!(!error.message.contains("hunter2"), "{error}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check point").display().to_string();
        check(&path, Ok(&path)).await;
        check(&format!("file://{}", path.replace(' ', "%20")), Ok(&path)).await;
        check("s3://bucket/a/b/", Ok("s3://bucket/a/b")).await;
        check("s3a://bucket/a", Ok("s3a://bucket/a")).await;
        check(" ", Err("give a path or a URL")).await;
        check("hdfs://name/x", Err("scheme hdfs")).await;
        check("s3://key:hunter2@bucket/x", Err("AWS_SECRET_ACCESS_KEY")).await;
        check("s3://bucket/x?secret=hunter2", Err("AWS_SECRET_ACCESS_KEY")).await;
        check("s3://key:hunter2@:bad:/x", Err("not a valid URL")).await;
    }

    #[test]
    fn files_are_named_under_the_location() {
        let location =
            Location::new(Arc::new(object_store::memory::InMemory::new()), Path::from("a/b"), "s3://bucket/a/b");
        assert_eq!(location.display_of(&Location::entry(&location.offsets(), 12)), "s3://bucket/a/b/offsets/12");
        assert_eq!(location.initial_offset(1).as_ref(), "a/b/sources/1/0");
    }
}
