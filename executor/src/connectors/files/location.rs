//! Where files live: from the text a user writes (a path, `file://`, `s3://`) to an object store and a path in it.
//!
//! The one place of this kind: the file connectors, checkpoints and the catalog all come through [`parse_location`],
//! executors through [`LazyObjectStoreRegistry`]. Stores are made once per bucket and set of credentials.
//!
//! # Local files
//! `object_store`'s `LocalFileSystem` (0.13) writes a temporary file and renames it, which is atomic, but never calls
//! `fsync`: after a power cut a checkpoint entry may be there and empty. [`DurableLocal`] syncs the file before it
//! gets its name and the folder afterwards; only then does a write return. Option [`FSYNC`]` = false` turns this off
//! for files that can be made again.

use crate::connectors::Options;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::FutureExt;
use futures::stream::BoxStream;
use headwater_proto::error::{Error, ErrorKind, Result};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RetryConfig, UploadPart,
};
use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Component, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// Option that turns off syncing of local files (`false`); on unless said.
pub const FSYNC: &str = "headwater.local.fsync";

/// Options that say how a store is reached, as Hadoop's S3A names them. All others are ignored here.
pub const S3_OPTIONS: [&str; 6] = [
    "fs.s3a.access.key",
    "fs.s3a.secret.key",
    "fs.s3a.session.token",
    "fs.s3a.endpoint",
    "fs.s3a.endpoint.region",
    "fs.s3a.path.style.access",
];

/// The client smooths over what lasts moments. An outage is its caller's, who says so: the client's own default is
/// silence for three minutes.
const S3_RETRIES_MAX: usize = 3;
const S3_RETRY_FOR: Duration = Duration::from_secs(10);

type Store = Arc<dyn ObjectStore>;

/// Stores by scheme, bucket and what else they were made with. The key holds credentials and is never printed.
type StoreKey = (String, String, Vec<(&'static str, String)>);

static STORES: LazyLock<Mutex<HashMap<StoreKey, Store>>> = LazyLock::new(Mutex::default);

/// The store of a location, the path in it, and the whole as a URL (absolute, normalised, the scheme as given).
///
/// `text` is a local path (relative ones are taken from the current folder), `file:/…`, `file:///…`, `s3://bucket/…`,
/// `s3a://bucket/…`, or `memory://name/…`, which lives in this process alone and is meant for tests. Credentials of
/// S3 come from options `fs.s3a.*`, else from the environment (`AWS_ACCESS_KEY_ID` and so on).
///
/// # Errors
/// `UNSUPPORTED_FILE_SYSTEM` for another scheme, `INVALID_PATH` for text that is no location.
pub fn parse_location(text: &str, options: &Options) -> Result<(Store, Path, Url)> {
    let bad = |why: &dyn fmt::Display| Error::invalid("INVALID_PATH", format!("{text:?} is no location: {why}"));
    if text.is_empty() {
        return Err(bad(&"give a path or a URL"));
    }
    let url = match text.find(':') {
        // A URL that does not parse may hold a password anywhere: it is not repeated.
        Some(colon) if is_scheme(&text[..colon]) => Url::parse(text)
            .map_err(|e| Error::invalid("INVALID_PATH", format!("a location is not a valid URL: {e}")))?,
        _ => Url::from_file_path(absolute(text).map_err(|e| bad(&e))?)
            .map_err(|()| bad(&"the path cannot be written as a URL"))?,
    };
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(Error::invalid(
            "INVALID_PATH",
            format!(
                "the location at {} carries credentials or parameters in its URL: give options fs.s3a.* or set \
                 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT instead",
                url.host_str().unwrap_or("this host")
            ),
        ));
    }
    match url.scheme() {
        "file" => {
            let path = url.to_file_path().map_err(|()| bad(&"a file URL has no host"))?;
            let path = path.to_str().ok_or_else(|| bad(&"the path is not UTF-8"))?.to_string();
            Ok((store(&url, options)?, Path::parse(path).map_err(|e| bad(&e))?, url))
        }
        _ => {
            let path = Path::from_url_path(url.path()).map_err(|e| bad(&e))?;
            Ok((store(&url, options)?, path, url))
        }
    }
}

/// Whether two locations are one, or one is below the other. Text that is no location may be anywhere.
pub fn overlap(one: &str, other: &str) -> bool {
    within(one, other) || within(other, one)
}

/// Whether `inner` is `outer`, or below it. Text that is no location may be anywhere.
pub fn within(outer: &str, inner: &str) -> bool {
    let folder = |text: &str| {
        let (.., url) = parse_location(text, &Options::default()).ok()?;
        let scheme = if url.scheme() == "s3a" { "s3" } else { url.scheme() };
        Some(format!("{scheme}{}/", url[url::Position::AfterScheme..].trim_end_matches('/')))
    };
    match (folder(outer), folder(inner)) {
        (Some(outer), Some(inner)) => inner.starts_with(&outer),
        _ => true,
    }
}

/// RFC 3986's scheme, of two letters or more: one letter would be a drive.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// An absolute path without `.` and `..`, by the text alone: the folder need not exist.
fn absolute(text: &str) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in std::path::absolute(text)?.components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    Ok(path)
}

/// The URL of a path in the same store as `base`, escaped as Hadoop escapes it.
pub fn url_of(base: &Url, path: &Path) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.clear().extend(path.parts().map(|part| part.as_ref().to_string()));
    }
    url
}

fn store(url: &Url, options: &Options) -> Result<Store> {
    let scheme = if url.scheme() == "s3a" { "s3" } else { url.scheme() };
    let bucket = url.host_str().unwrap_or_default();
    let mut with: Vec<(&'static str, String)> = vec![];
    let names: &[&'static str] = match scheme {
        "file" => &[FSYNC],
        "s3" => &S3_OPTIONS,
        _ => &[],
    };
    for name in names {
        if let Some(value) = options.get(name) {
            with.push((name, value.to_string()));
        }
    }
    let key = (scheme.to_string(), bucket.to_string(), with);
    // The map is whole whatever panicked while it was held: entries are only ever inserted.
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = stores.get(&key) {
        return Ok(Arc::clone(store));
    }
    let made: Store = match scheme {
        "file" => {
            let fsync = options.get(FSYNC).is_none_or(|value| !value.eq_ignore_ascii_case("false"));
            if fsync { Arc::new(DurableLocal::default()) } else { Arc::new(LocalFileSystem::new()) }
        }
        "memory" => Arc::new(InMemory::new()),
        "s3" => Arc::new(s3(bucket, options)?),
        other => {
            return Err(Error::invalid(
                "UNSUPPORTED_FILE_SYSTEM",
                format!("no file system for scheme {other}: use a local path, file://, s3:// or s3a://"),
            ));
        }
    };
    stores.insert(key, Arc::clone(&made));
    Ok(made)
}

fn s3(bucket: &str, options: &Options) -> Result<object_store::aws::AmazonS3> {
    if bucket.is_empty() {
        return Err(Error::invalid("INVALID_PATH", "an s3 location names its bucket: s3://bucket/path"));
    }
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(RetryConfig {
        max_retries: S3_RETRIES_MAX,
        retry_timeout: S3_RETRY_FOR,
        ..RetryConfig::default()
    });
    if let Some(value) = options.get("fs.s3a.access.key") {
        builder = builder.with_access_key_id(value);
    }
    if let Some(value) = options.get("fs.s3a.secret.key") {
        builder = builder.with_secret_access_key(value);
    }
    if let Some(value) = options.get("fs.s3a.session.token") {
        builder = builder.with_token(value);
    }
    if let Some(value) = options.get("fs.s3a.endpoint.region") {
        builder = builder.with_region(value);
    }
    if let Some(value) = options.get("fs.s3a.endpoint") {
        let endpoint = if value.contains("://") { value.to_string() } else { format!("https://{value}") };
        builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
    }
    if let Some(value) = options.get("fs.s3a.path.style.access") {
        builder = builder.with_virtual_hosted_style_request(!value.eq_ignore_ascii_case("true"));
    }
    builder.build().map_err(|e| {
        Error::invalid(
            "INVALID_PATH",
            format!("bucket {bucket} cannot be opened: {e}; check options fs.s3a.* or the AWS_… environment"),
        )
    })
}

/// An error of a store as ours: says whether to try again, and names the place and the remedy.
/// `doing` is a verb ("write"), `place` the location.
pub fn storage_error(doing: &str, place: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    if let Some(kind) = io_kind(error) {
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                return Error::transient(
                    "STORAGE_FULL",
                    format!("failed to {doing} {place}: no space left there: free space, the write is then repeated"),
                );
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                return Error::invalid(
                    "STORAGE_ACCESS_DENIED",
                    format!("failed to {doing} {place}: {error}: grant this process access or choose another path"),
                );
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::InvalidFilename => {
                return Error::invalid(
                    "INVALID_PATH",
                    format!("failed to {doing} {place}: {error}: a file and a folder of that name collide"),
                );
            }
            _ => {}
        }
    }
    match find::<object_store::Error>(error) {
        Some(object_store::Error::NotFound { path, .. }) => {
            Error::new(ErrorKind::NotFound, "PATH_NOT_FOUND", format!("failed to {doing} {place}: {path} is missing"))
        }
        Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
            Error::invalid(
                "STORAGE_ACCESS_DENIED",
                format!("failed to {doing} {place}: {error}: check the credentials and their rights"),
            )
        }
        Some(object_store::Error::AlreadyExists { path, .. }) => Error::new(
            ErrorKind::AlreadyExists,
            "PATH_ALREADY_EXISTS",
            format!("failed to {doing} {place}: {path} exists already"),
        ),
        Some(
            object_store::Error::InvalidPath { .. }
            | object_store::Error::NotSupported { .. }
            | object_store::Error::NotImplemented { .. }
            | object_store::Error::UnknownConfigurationKey { .. },
        ) => Error::invalid("INVALID_PATH", format!("failed to {doing} {place}: {error}")),
        _ => Error::transient("STORAGE_UNAVAILABLE", format!("failed to {doing} {place}: {}", chain(error))),
    }
}

/// The message with those of its causes that it does not already contain.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// The first error of type `T` among an error and its causes. An `io::Error` around a custom error hides it from
/// `source`, so it is opened here.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        if let Some(io) = error.downcast_ref::<io::Error>() {
            match io.get_ref() {
                Some(inner) if io.kind() == io::ErrorKind::Other => {
                    next = Some(inner as &(dyn std::error::Error + 'static));
                }
                _ => return Some(io.kind()),
            }
        }
    }
    None
}

/// A registry for DataFusion that makes a store when a plan first names it, from the URL and the environment: what
/// lets an executor open the files that a plan made elsewhere refers to.
#[derive(Debug, Default)]
pub struct LazyObjectStoreRegistry {
    registered: Mutex<HashMap<String, Store>>,
}

impl LazyObjectStoreRegistry {
    /// `s3://bucket`, without user, path or query.
    fn key(url: &Url) -> String {
        format!("{}://{}", url.scheme(), &url[url::Position::BeforeHost..url::Position::AfterPort])
    }
}

impl ObjectStoreRegistry for LazyObjectStoreRegistry {
    fn register_store(&self, url: &Url, store: Store) -> Option<Store> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).insert(Self::key(url), store)
    }
    fn get_store(&self, url: &Url) -> datafusion::error::Result<Store> {
        let registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = registered.get(&Self::key(url)) {
            return Ok(Arc::clone(store));
        }
        store(url, &Options::default()).map_err(crate::operators::to_datafusion)
    }
}

/// Registers the store of each location with a runtime that was built without [`LazyObjectStoreRegistry`].
///
/// # Errors
/// Those of [`parse_location`].
pub fn register_object_stores(runtime: &RuntimeEnv, locations: &[&str], options: &Options) -> Result<()> {
    for location in locations {
        let (store, _, url) = parse_location(location, options)?;
        runtime.register_object_store(&url, store);
    }
    Ok(())
}

/// The local file system, with writes that survive a power cut (see the module's text).
#[derive(Debug, Default, Clone)]
pub struct DurableLocal {
    inner: LocalFileSystem,
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableLocal")
    }
}

fn local_error(path: &std::path::Path, source: io::Error) -> object_store::Error {
    let path = path.to_string_lossy().into_owned();
    match source.kind() {
        io::ErrorKind::NotFound => object_store::Error::NotFound { path, source: source.into() },
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists { path, source: source.into() },
        io::ErrorKind::PermissionDenied => object_store::Error::PermissionDenied { path, source: source.into() },
        _ => object_store::Error::Generic { store: "DurableLocal", source: source.into() },
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> object_store::Result<T> + Send + 'static,
) -> object_store::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(object_store::Error::Generic { store: "DurableLocal", source: e.into() }),
    }
}

fn sync_folder(folder: &std::path::Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder and its parents, and makes their names durable.
fn make_folder(folder: &std::path::Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = folder.parent().ok_or(e)?;
            make_folder(parent)?;
            match std::fs::create_dir(folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
        }
        Err(e) => return Err(e),
    }
    folder.parent().map_or(Ok(()), sync_folder)
}

/// A new file beside `path` whose name (`…#<digits>`) `LocalFileSystem` takes for a temporary one and never lists.
fn stage(path: &std::path::Path) -> io::Result<(File, PathBuf)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{}", rand::random::<u64>()));
    let staged = PathBuf::from(name);
    let open = || OpenOptions::new().write(true).create_new(true).open(&staged);
    let file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                make_folder(parent)?;
            }
            open()?
        }
        other => other?,
    };
    Ok((file, staged))
}

/// Syncs a staged file and gives it its name; `create` fails when the name is taken. A failure means that the name was
/// not given: a caller who creates must not find its own file when it tries again, and take it for another's.
fn publish(file: File, staged: &std::path::Path, path: &std::path::Path, create: bool) -> io::Result<()> {
    file.sync_all()?;
    drop(file);
    if create {
        std::fs::hard_link(staged, path)?;
        discard(staged);
    } else {
        std::fs::rename(staged, path)?;
    }
    let synced = path.parent().map_or(Ok(()), sync_folder);
    if synced.is_err() && create {
        discard(path);
    }
    synced
}

/// Removes a file that is not wanted any more; what the caller has to report is something else.
fn discard(staged: &std::path::Path) {
    if let Err(e) = std::fs::remove_file(staged)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %staged.display(), error = %e, "failed to remove a file");
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            // Refused there.
            return self.inner.put_opts(location, payload, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        let create = matches!(opts.mode, PutMode::Create);
        blocking(move || {
            let (mut file, staged) = stage(&path).map_err(|e| local_error(&path, e))?;
            let written = payload
                .iter()
                .try_for_each(|part| io::Write::write_all(&mut file, part))
                .and_then(|()| publish(file, &staged, &path, create));
            match written {
                Ok(()) => Ok(PutResult { e_tag: None, version: None }),
                Err(e) => {
                    discard(&staged);
                    Err(local_error(&path, e))
                }
            }
        })
        .await
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return self.inner.put_multipart_opts(location, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        blocking(move || {
            let (file, staged) = stage(&path).map_err(|e| local_error(&path, e))?;
            let upload = LocalUpload { file: Some(Arc::new(file)), staged: Some(staged), path, offset: 0 };
            Ok(Box::new(upload) as Box<dyn MultipartUpload>)
        })
        .await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync_parents(&[to]).await
    }
    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync_parents(&[to, from]).await
    }
}

impl DurableLocal {
    async fn sync_parents(&self, locations: &[&Path]) -> object_store::Result<()> {
        let mut folders = vec![];
        for location in locations {
            let path = self.inner.path_to_filesystem(location)?;
            if let Some(folder) = path.parent().map(std::path::Path::to_path_buf)
                && !folders.contains(&folder)
            {
                folders.push(folder);
            }
        }
        blocking(move || folders.iter().try_for_each(|folder| sync_folder(folder).map_err(|e| local_error(folder, e))))
            .await
    }
}

/// A local file written in parts. Dropped before it is complete, it removes its temporary file.
#[derive(Debug)]
struct LocalUpload {
    file: Option<Arc<File>>,
    staged: Option<PathBuf>,
    path: PathBuf,
    offset: u64,
}

fn aborted() -> object_store::Error {
    object_store::Error::Generic { store: "DurableLocal", source: "the upload was ended already".into() }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += data.content_length() as u64;
        let (file, path) = (self.file.clone(), self.path.clone());
        blocking(move || {
            let file = file.ok_or_else(aborted)?;
            for part in &data {
                std::os::unix::fs::FileExt::write_all_at(&*file, part, offset).map_err(|e| local_error(&path, e))?;
                offset += part.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }
    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let (file, staged) = self.file.take().zip(self.staged.take()).ok_or_else(aborted)?;
        let path = self.path.clone();
        blocking(move || {
            // All parts are written: the caller awaited them, so this is the last handle or as good as one.
            let published = file.try_clone().and_then(|file| publish(file, &staged, &path, false));
            match published {
                Ok(()) => Ok(PutResult { e_tag: None, version: None }),
                Err(e) => {
                    discard(&staged);
                    Err(local_error(&path, e))
                }
            }
        })
        .await
    }
    async fn abort(&mut self) -> object_store::Result<()> {
        let staged = self.staged.take().ok_or_else(aborted)?;
        blocking(move || std::fs::remove_file(&staged).map_err(|e| local_error(&staged, e))).await
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            discard(&staged);
        }
    }
}

/// What became of a file that is created if absent.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// These bytes are in place, put there by this call or found to be the same.
    Written,
    /// Other bytes were there first.
    Exists(Bytes),
}

/// Puts `bytes` at `path` unless something is there. That the file exists already is not believed: a store's client
/// repeats a request whose answer was lost, and then loses the race to itself. So the file is read back and compared.
///
/// # Errors
/// Those of the store. The file may be there all the same.
pub async fn create(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> object_store::Result<Created> {
    let error = match store.put_opts(path, bytes.clone().into(), PutMode::Create.into()).await {
        Ok(_) => return Ok(Created::Written),
        Err(error @ (object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => error,
        Err(error) => return Err(error),
    };
    let found = async { store.get(path).await?.bytes().await };
    match found.await {
        Ok(found) if found == *bytes => Ok(Created::Written),
        Ok(found) => Ok(Created::Exists(found)),
        // S3 refuses two concurrent creations with the same status before either is visible: that passes.
        Err(object_store::Error::NotFound { .. }) => {
            Err(object_store::Error::Generic { store: "headwater", source: Box::new(error) })
        }
        Err(error) => Err(error),
    }
}

/// Whether something is stored at a path, or below it as a folder.
///
/// # Errors
/// Those of the store.
pub async fn exists(store: &dyn ObjectStore, path: &Path, place: &str) -> Result<bool> {
    match store.head(path).await {
        Ok(_) => return Ok(true),
        Err(object_store::Error::NotFound { .. }) => {}
        // A local folder is no object; the listing below decides.
        Err(e) if !matches!(e, object_store::Error::Generic { .. }) => return Err(storage_error("read", place, &e)),
        Err(_) => {}
    }
    match futures::StreamExt::next(&mut store.list(Some(path))).await {
        None => Ok(false),
        Some(Ok(_)) => Ok(true),
        Some(Err(e)) => Err(storage_error("list", place, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(&str, &str), &str>) {
        let got = parse_location(text, &Options::default()).map(|(_, path, url)| (path.to_string(), url.to_string()));
        match expect {
            Ok((path, url)) => assert_eq!(got.expect(text), (path.to_string(), url.to_string())),
            Err(class) => assert_eq!(got.expect_err(text).class, class),
        }
    }

    #[test]
    fn locations() {
        check("/data/a b", Ok(("data/a b", "file:///data/a%20b")));
        check("/data/x/../y/./z/", Ok(("data/y/z", "file:///data/y/z")));
        check("file:/data/out", Ok(("data/out", "file:///data/out")));
        check("file:///data/a%20b/c=1%252F2", Ok(("data/a b/c=1%2F2", "file:///data/a%20b/c=1%252F2")));
        check("/data/c=1%2F2", Ok(("data/c=1%2F2", "file:///data/c=1%252F2")));
        check("memory://t/a/b", Ok(("a/b", "memory://t/a/b")));
        check("", Err("INVALID_PATH"));
        check("hdfs://namenode/x", Err("UNSUPPORTED_FILE_SYSTEM"));
        check("file://host/x", Err("INVALID_PATH"));
        check("s3:///x", Err("INVALID_PATH"));
        check("s3://key:secret@bucket/x", Err("INVALID_PATH"));
        check("s3://bucket/x?key=secret", Err("INVALID_PATH"));
        let here = std::env::current_dir().expect("current folder");
        let (_, path, _) = parse_location("out", &Options::default()).expect("relative path");
        assert_eq!(path.to_string(), here.join("out").to_str().expect("utf-8")[1..]);
    }

    #[test]
    fn locations_overlap() {
        let check = |one: &str, other: &str, expect: bool| {
            assert_eq!((overlap(one, other), overlap(other, one)), (expect, expect), "{one} {other}");
        };
        check("/w/t", "file:///w/t/", true);
        check("/w/t", "/w/x/../t/a=1", true);
        check("/w/t", "/w/tt", false);
        check("/w", "/w/t", true);
        check("memory://a/t", "memory://b/t", false);
        check("memory://a/t", "/t", false);
        check("nowhere://a", "/t", true);
    }

    #[test]
    fn stores_are_made_once_for_a_bucket_and_its_credentials() {
        let key = |key: &str| {
            Options::new([
                ("fs.s3a.access.key", key),
                ("fs.s3a.secret.key", "hunter2"),
                ("fs.s3a.endpoint.region", "eu-west-1"),
                ("fs.s3a.endpoint", "http://localhost:9000"),
            ])
        };
        let open = |text: &str, options: &Options| parse_location(text, options).expect(text).0;
        let first = open("s3://bucket/a", &key("one"));
        assert!(Arc::ptr_eq(&first, &open("s3a://bucket/b", &key("one"))));
        assert!(!Arc::ptr_eq(&first, &open("s3://bucket/a", &key("two"))));
        assert!(!format!("{first:?} {first}").contains("hunter2"));
    }

    #[test]
    fn urls_of_paths_are_escaped_once() {
        let base = Url::parse("file:///data/out").expect("url");
        let path = Path::parse("data/out/c=a%2Fb/part 1").expect("path");
        let url = url_of(&base, &path);
        assert_eq!(url.as_str(), "file:///data/out/c=a%252Fb/part%201");
        assert_eq!(parse_location(url.as_str(), &Options::default()).expect("url").1, path);
    }

    #[test]
    fn errors_say_what_to_do() {
        let check = |kind: io::ErrorKind, class: &str, expect: ErrorKind| {
            let inner = local_error(std::path::Path::new("/out/x"), io::Error::from(kind));
            // As a Parquet writer hands it on.
            let wrapped = io::Error::other(inner);
            let error = storage_error("write", "file:///out", &wrapped);
            assert_eq!((error.class.as_str(), error.kind), (class, expect), "{kind:?}");
            assert!(error.message.contains("file:///out"), "{error}");
        };
        check(io::ErrorKind::StorageFull, "STORAGE_FULL", ErrorKind::Transient);
        check(io::ErrorKind::PermissionDenied, "STORAGE_ACCESS_DENIED", ErrorKind::InvalidRequest);
        check(io::ErrorKind::ReadOnlyFilesystem, "STORAGE_ACCESS_DENIED", ErrorKind::InvalidRequest);
        check(io::ErrorKind::NotFound, "PATH_NOT_FOUND", ErrorKind::NotFound);
        check(io::ErrorKind::TimedOut, "STORAGE_UNAVAILABLE", ErrorKind::Transient);
    }

    #[tokio::test]
    async fn a_local_name_is_given_once_and_never_half() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().join("a/b").to_str().expect("utf-8").to_string();
        let (store, path, _) = parse_location(&root, &Options::default()).expect("path");
        let name = path.clone().join("7");
        let create = || PutOptions { mode: PutMode::Create, ..Default::default() };
        store.put_opts(&name, "one".into(), create()).await.expect("first");
        let again = store.put_opts(&name, "two".into(), create()).await.expect_err("second");
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&name).await.expect("get").bytes().await.expect("bytes"), "one");
        store.put(&name, "three".into()).await.expect("overwrite");
        assert_eq!(store.get(&name).await.expect("get").bytes().await.expect("bytes"), "three");

        let mut upload = store.put_multipart(&path.clone().join("big")).await.expect("upload");
        let (one, two) = (upload.put_part("12".into()), upload.put_part("345".into()));
        two.await.expect("part 2");
        one.await.expect("part 1");
        assert_eq!(std::fs::read_dir(&root).expect("folder").count(), 2, "the upload is a temporary file");
        assert!(store.head(&path.clone().join("big")).await.is_err(), "not visible before it is complete");
        upload.complete().await.expect("complete");
        assert_eq!(store.get(&path.clone().join("big")).await.expect("get").bytes().await.expect("bytes"), "12345");

        let mut dropped = store.put_multipart(&path.clone().join("lost")).await.expect("upload");
        dropped.put_part("1".into()).await.expect("part");
        drop(dropped);
        assert_eq!(std::fs::read_dir(&root).expect("folder").count(), 2, "nothing is left of a dropped upload");
    }

    #[tokio::test]
    async fn the_first_bytes_stay() {
        let dir = tempfile::tempdir().expect("tempdir");
        let local = dir.path().join("log").to_str().expect("utf-8").to_string();
        for place in [local.as_str(), "memory://created/log"] {
            let (store, folder, _) = parse_location(place, &Options::default()).expect(place);
            let path = folder.join("7");
            let put = async |bytes: &'static str| create(store.as_ref(), &path, &bytes.into()).await.expect(place);
            assert_eq!(put("one").await, Created::Written);
            assert_eq!(put("one").await, Created::Written, "the answer was lost");
            assert_eq!(put("two").await, Created::Exists("one".into()));
        }
    }

    #[tokio::test]
    async fn executors_open_stores_on_demand() {
        let registry = LazyObjectStoreRegistry::default();
        let url = Url::parse("file:///").expect("url");
        assert_eq!(registry.get_store(&url).expect("local").to_string(), "DurableLocal");
        assert!(registry.get_store(&Url::parse("ftp://x/").expect("url")).is_err());
        let own: Store = Arc::new(InMemory::new());
        registry.register_store(&Url::parse("memory://m/").expect("url"), Arc::clone(&own));
        let found = registry.get_store(&Url::parse("memory://m/x").expect("url")).expect("registered");
        assert!(Arc::ptr_eq(&own, &found));
    }
}
