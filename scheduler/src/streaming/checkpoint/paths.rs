//! Where a checkpoint lives: an object store, a root in it, and the names of its files.
//!
//! ```text
//! <root>/metadata          the query's id
//! <root>/offsets/<N>       offset log: where batch N ends
//! <root>/commits/<N>       commit log: batch N is in the sink
//! <root>/sources/<n>/0     where source n began
//! ```

use headwater_proto::error::{Error, Result};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use url::Url;

/// An object store and the folder of a checkpoint in it.
#[derive(Clone)]
pub struct Location {
    pub(super) store: Arc<dyn ObjectStore>,
    root: Path,
    display: String,
    /// The folder itself when it is local: what durability over power cuts needs to reach.
    pub(super) folder: Option<PathBuf>,
}

impl Location {
    /// A checkpoint at `root` of `store`, shown to people as `display`, which must hold no secret.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path, display: impl Into<String>) -> Self {
        Self { store, root, display: display.into(), folder: None }
    }

    /// The location that a user named: a local path, `file:` or `s3:`/`s3a:` URL. S3 takes credentials, region and
    /// endpoint from the `AWS_…` environment variables. A local folder is created.
    ///
    /// # Errors
    /// `INVALID_CHECKPOINT_LOCATION` when the text is neither, or the folder cannot be created.
    pub async fn resolve(text: &str) -> Result<Self> {
        match kind(text)? {
            Kind::Local(folder) => {
                let create = folder.clone();
                let store = tokio::task::spawn_blocking(move || {
                    std::fs::create_dir_all(&create).map_err(|e| e.to_string())?;
                    LocalFileSystem::new_with_prefix(&create).map_err(|e| e.to_string())
                })
                .await
                .map_err(Error::internal)?
                .map_err(|reason| {
                    let folder = folder.display();
                    invalid(format!("failed to create checkpoint folder {folder}: {reason}; name a writable folder"))
                })?;
                let display = folder.display().to_string();
                Ok(Self { store: Arc::new(store), root: Path::default(), display, folder: Some(folder) })
            }
            Kind::S3 { url, root, display } => {
                let store = AmazonS3Builder::from_env().with_url(url).build().map_err(|e| {
                    invalid(format!("failed to open checkpoint location {display}: {e}; check the AWS_ environment"))
                })?;
                Ok(Self { store: Arc::new(store), root, display, folder: None })
            }
        }
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

#[derive(Debug, PartialEq)]
enum Kind {
    Local(PathBuf),
    S3 { url: String, root: Path, display: String },
}

/// Sorts the text a user gave. Touches neither disk nor network.
fn kind(text: &str) -> Result<Kind> {
    if text.trim().is_empty() {
        return Err(invalid("checkpoint location is empty: name a folder or an s3:// URL"));
    }
    // "file:/tmp/x" is Hadoop's spelling; a lone letter before the colon would be a Windows drive.
    let is_url = text.contains("://") || text.starts_with("file:");
    if !is_url {
        let folder =
            std::path::absolute(text).map_err(|e| invalid(format!("checkpoint location {text} is not a path: {e}")))?;
        return Ok(Kind::Local(folder));
    }
    // A URL that does not parse may hold a password anywhere: it is not repeated.
    let url = Url::parse(text).map_err(|e| invalid(format!("checkpoint location is not a valid URL: {e}")))?;
    match url.scheme() {
        "file" => url.to_file_path().map(Kind::Local).map_err(|()| {
            invalid(format!("checkpoint location {url} is not a local path: write it as file:///folder"))
        }),
        "s3" | "s3a" => {
            let Some(bucket) = url.host_str() else {
                return Err(invalid("checkpoint location has no bucket: write it as s3://bucket/folder"));
            };
            if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
                return Err(invalid(format!(
                    "checkpoint location in bucket {bucket} carries credentials or parameters in its URL: \
                     set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT instead"
                )));
            }
            let root = Path::from_url_path(url.path())
                .map_err(|e| invalid(format!("checkpoint location in bucket {bucket} has an invalid path: {e}")))?;
            let display = format!("{}://{bucket}/{root}", url.scheme());
            Ok(Kind::S3 { url: format!("s3://{bucket}"), root, display })
        }
        other => Err(invalid(format!("checkpoint location has scheme {other}: use a local folder, file:// or s3://"))),
    }
}

fn invalid(message: impl fmt::Display) -> Error {
    Error::invalid("INVALID_CHECKPOINT_LOCATION", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_locations() {
        #[track_caller]
        fn check(text: &str, expect: Kind) {
            assert_eq!(kind(text).unwrap(), expect);
        }
        let s3 = |scheme: &str, root: &str| Kind::S3 {
            url: "s3://bucket".into(),
            root: Path::from(root),
            display: format!("{scheme}://bucket/{root}"),
        };
        check("/tmp/check point", Kind::Local("/tmp/check point".into()));
        check("relative", Kind::Local(std::env::current_dir().unwrap().join("relative")));
        check("file:///tmp/check%20point", Kind::Local("/tmp/check point".into()));
        check("file:/tmp/x", Kind::Local("/tmp/x".into()));
        check("s3://bucket/a/b/", s3("s3", "a/b"));
        check("s3a://bucket/a", s3("s3a", "a"));
    }

    #[test]
    fn unusable_texts_are_refused_and_secrets_kept() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let error = kind(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        check(" ", "is empty");
        check("hdfs://name/x", "scheme hdfs");
        check("s3://key:hunter2@bucket/x", "AWS_SECRET_ACCESS_KEY");
        check("s3://bucket/x?secret=hunter2", "AWS_SECRET_ACCESS_KEY");
        check("s3://key:hunter2@:bad:/x", "not a valid URL");
    }

    #[test]
    fn files_are_named_under_the_location() {
        let location =
            Location::new(Arc::new(object_store::memory::InMemory::new()), Path::from("a/b"), "s3://bucket/a/b");
        assert_eq!(location.display_of(&Location::entry(&location.offsets(), 12)), "s3://bucket/a/b/offsets/12");
        assert_eq!(location.initial_offset(1).as_ref(), "a/b/sources/1/0");
    }
}
