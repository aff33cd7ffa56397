//! Writing files: by a stream, exactly once, and by a batch.
//!
//! # A stream
//! Tasks write straight into the folder, under names that no other attempt has, and report them. Nobody sees such a
//! file until the driver's commit has put it into the log of the output, [`super::manifest`]: the winners' files of a
//! batch appear together, a batch that is committed again changes nothing, and what lost is passed over for ever.
//!
//! # A batch write
//! There is no log, readers list the folder. Tasks write below `_temporary/<job>`, which readers pass over; the
//! commit moves the winners' files to their places and then creates `_SUCCESS`. A move is a rename on a local disk, a
//! copy and a deletion on S3. A commit that was cut short can be repeated: what is moved already is left where it is.
//! Overwriting removes the old files after the new ones are in place, so that a crash loses nothing; a reader between
//! the two sees both, and no `_SUCCESS`. A write without rows leaves one file without rows, which has the columns; in
//! partition folders it leaves none, as in Spark.

use super::encode::{FileWriter, check_schema};
use super::listing::is_hidden;
use super::location::{parse_location, storage_error, url_of};
use super::manifest::{Added, FOLDER, SinkFileStatus, SinkLog};
use super::options::FileOptions;
use super::partition::Partitioner;
use crate::connectors::{Sink, SinkContext, SinkTask, WriteCounts, WriteMode, WriteTask, Writer};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::TaskContext;
use futures::{StreamExt, TryStreamExt};
use headwater_proto::error::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use url::Url;
use uuid::Uuid;

/// Files that a task may write at once, one for each partition folder: each holds buffers of its own.
const OPEN_FILES_MAX: usize = 64;
/// What all files of a task hold back together: a row group's common size. The memory limit does not count it.
const BUFFERED_BYTES_MAX: usize = 64 << 20;
pub(super) const TEMPORARY: &str = "_temporary";
const SUCCESS: &str = "_SUCCESS";

/// What the writers of a sink need.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WriterConfig {
    options: FileOptions,
    /// Folder below the root that tasks write to: empty for a stream.
    below: String,
}

/// What a task wrote.
#[derive(Debug, Default, Serialize, Deserialize)]
struct CommitMessage {
    files: Vec<WrittenFile>,
}

/// One file, by its path below the root (for a batch write: where it is to be).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenFile {
    path: String,
    size: u64,
    rows: u64,
    modification_time: i64,
}

/// A path below `root`. The names in `relative` are taken as they are: `%` in a partition folder stays.
pub(super) fn below(root: &Path, relative: &str) -> Result<Path> {
    let text = if root.as_ref().is_empty() { relative.to_string() } else { format!("{root}/{relative}") };
    Path::parse(text).map_err(|e| Error::internal(format!("{relative} is no path: {e}")))
}

/// What stands below `root` in a path.
pub(super) fn relative<'a>(root: &Path, path: &'a Path) -> Option<&'a str> {
    match path.as_ref().strip_prefix(root.as_ref()) {
        Some(rest) if root.as_ref().is_empty() => Some(rest),
        Some(rest) => rest.strip_prefix('/'),
        None => None,
    }
}

/// The driver half of a write.
#[derive(Debug)]
pub struct FilesSink {
    options: FileOptions,
    context: SinkContext,
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
    log: SinkLog,
}

impl FilesSink {
    /// # Errors
    /// No path, or one that is no location.
    pub fn try_new(options: FileOptions, context: SinkContext) -> Result<Self> {
        let (store, root, url) = parse_location(options.path()?, &options.store)?;
        let log = SinkLog::new(Arc::clone(&store), &root, &url);
        Ok(Self { options, context, store, root, url, log })
    }

    fn temporary(&self) -> String {
        format!("{TEMPORARY}/{}", self.context.query)
    }

    /// Files of the folder that readers see, as paths below the root.
    async fn visible(&self) -> Result<Vec<String>> {
        let place = self.url.as_str();
        let mut files = vec![];
        let mut objects = self.store.list(Some(&self.root));
        while let Some(object) = objects.try_next().await.map_err(|e| storage_error("list", place, &e))? {
            if let Some(name) = relative(&self.root, &object.location)
                && !is_hidden(name)
            {
                files.push(name.to_string());
            }
        }
        Ok(files)
    }

    async fn has_visible(&self) -> Result<bool> {
        let mut objects = self.store.list(Some(&self.root));
        while let Some(object) = objects.try_next().await.map_err(|e| storage_error("list", self.url.as_str(), &e))? {
            if relative(&self.root, &object.location).is_some_and(|name| !is_hidden(name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<()> {
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = self.store.delete_stream(paths);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(storage_error("delete from", self.url.as_str(), &e)),
            }
        }
        Ok(())
    }

    async fn commit_stream(&self, batch_id: i64, files: Vec<WrittenFile>) -> Result<()> {
        let mut paths = vec![];
        let mut statuses = vec![];
        for file in &files {
            let path = below(&self.root, &file.path)?;
            let url = url_of(&self.url, &path).to_string();
            statuses.push(SinkFileStatus::add(url, file.size, file.modification_time));
            paths.push(path);
        }
        if self.log.add(batch_id, &statuses).await? == Added::Now {
            return Ok(());
        }
        // Committed before: by this very call's twin, whose files stay, or by another attempt, and then these go.
        let kept: HashSet<String> = self.log.files().await?.into_iter().map(|file| file.path).collect();
        let lost = statuses.iter().zip(paths).filter(|(status, _)| !kept.contains(&status.path));
        let lost: Vec<Path> = lost.map(|(_, path)| path).collect();
        if !lost.is_empty() {
            tracing::info!(batch_id, files = lost.len(), output = %self.url, "batch is committed already, removing files");
        }
        self.delete(lost).await
    }

    /// A file without rows, from which readers have the columns. Its name is the job's: a commit that is repeated
    /// writes it again.
    async fn write_empty(&self) -> Result<String> {
        let name = format!("part-00000-{}-c000{}", self.context.query, self.options.extension()?);
        let location = below(&self.root, &name)?;
        let place = url_of(&self.url, &location).to_string();
        let schema = &self.context.schema;
        let mut file = FileWriter::create(Arc::clone(&self.store), location, place, schema, &self.options)?;
        // What stands before the first row, CSV's header, comes with rows, be they none.
        file.write(&RecordBatch::new_empty(Arc::clone(schema))).await?;
        file.close().await?;
        Ok(name)
    }

    async fn commit_batch(&self, files: Vec<WrittenFile>) -> Result<()> {
        let temporary = self.temporary();
        let mut new: HashSet<String> = files.iter().map(|file| file.path.clone()).collect();
        if new.is_empty() && self.options.partition_by.is_empty() {
            new.insert(self.write_empty().await?);
        }
        for file in &files {
            let from = below(&self.root, &format!("{temporary}/{}", file.path))?;
            let to = below(&self.root, &file.path)?;
            match self.store.rename(&from, &to).await {
                Ok(()) => {}
                Err(object_store::Error::NotFound { .. }) if self.store.head(&to).await.is_ok() => {}
                Err(e) => return Err(storage_error("commit", url_of(&self.url, &to).as_str(), &e)),
            }
        }
        if self.context.mode == WriteMode::Overwrite {
            let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_string()).unwrap_or_default();
            let replaced: HashSet<String> = new.iter().map(|path| folder(path)).collect();
            let dynamic = self.options.dynamic_overwrite && !self.options.partition_by.is_empty();
            let mut old = vec![];
            for path in self.visible().await? {
                if !new.contains(&path) && (!dynamic || replaced.contains(&folder(&path))) {
                    old.push(below(&self.root, &path)?);
                }
            }
            self.delete(old).await?;
            if !dynamic && self.log.exists().await? {
                self.log.remove().await?;
            }
        }
        self.store
            .put(&below(&self.root, SUCCESS)?, PutPayload::default())
            .await
            .map_err(|e| storage_error("write", &format!("{}/{SUCCESS}", self.url), &e))?;
        // What is left there lost.
        let folder = below(&self.root, &temporary)?;
        let rest = self.store.list(Some(&folder)).map_ok(|object| object.location);
        let rest = rest.try_collect::<Vec<_>>().await.map_err(|e| storage_error("list", self.url.as_str(), &e))?;
        self.delete(rest).await?;
        self.remove_local_folders(&temporary).await
    }

    /// A local disk keeps empty folders. That of another job that is still writing is not empty.
    async fn remove_local_folders(&self, temporary: &str) -> Result<()> {
        let Ok(root) = self.url.to_file_path() else { return Ok(()) };
        if self.url.scheme() != "file" {
            return Ok(());
        }
        let job = root.join(temporary);
        let removed = tokio::task::spawn_blocking(move || {
            let ignore = |result: std::io::Result<()>| match result {
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
                    Ok(())
                }
                other => other,
            };
            ignore(std::fs::remove_dir_all(&job))?;
            ignore(std::fs::remove_dir(root.join(TEMPORARY)))
        });
        removed.await.map_err(Error::internal)?.map_err(|e| storage_error("clean up", self.url.as_str(), &e))
    }
}

#[async_trait]
impl Sink for FilesSink {
    fn format(&self) -> &'static str {
        self.options.format.name()
    }
    fn description(&self) -> String {
        format!("FileSink[{}]", self.url)
    }
    async fn prepare(&self) -> Result<()> {
        let partitioner = Partitioner::try_new(&self.context.schema, &self.options.partition_by)?;
        check_schema(partitioner.file_schema(), self.options.format)?;
        if self.context.streaming {
            if self.context.mode != WriteMode::Append {
                return Err(Error::invalid(
                    "STREAMING_OUTPUT_MODE.UNSUPPORTED_DATASOURCE",
                    format!(
                        "format {} cannot be written in output mode {:?}: use append, files are never changed",
                        self.format(),
                        self.context.mode
                    ),
                ));
            }
            let has_data = self.has_visible().await?;
            return self.log.claim(&self.context.query, has_data, self.url.as_str()).await;
        }
        if self.context.mode != WriteMode::Overwrite && self.log.exists().await? {
            return Err(Error::invalid(
                "STREAMING_OUTPUT_OF_ANOTHER_QUERY",
                format!(
                    "folder {} is the output of a stream: readers follow its {FOLDER} and would not see what a batch \
                     appends: choose another folder, or overwrite",
                    self.url
                ),
            ));
        }
        Ok(())
    }
    async fn release(&self) -> Result<()> {
        if !self.context.streaming {
            return Ok(());
        }
        self.log.release(&self.context.query, self.has_visible().await?).await
    }
    async fn had_batches(&self) -> Result<bool> {
        if self.context.streaming { self.log.had_batches().await } else { Ok(false) }
    }
    fn writer_config(&self) -> String {
        let below = if self.context.streaming { String::new() } else { self.temporary() };
        // Plain data: nothing in it can fail to be written as JSON.
        serde_json::json!(WriterConfig { options: self.options.clone(), below }).to_string()
    }
    fn needs_commit(&self) -> bool {
        true
    }
    async fn commit(&self, batch_id: i64, messages: Vec<String>) -> Result<()> {
        let mut files = vec![];
        for message in messages {
            let message: CommitMessage = serde_json::from_str(&message).map_err(|e| {
                Error::internal(format!("a commit message for {} cannot be read: {e}", self.description()))
            })?;
            files.extend(message.files);
        }
        if self.context.streaming { self.commit_stream(batch_id, files).await } else { self.commit_batch(files).await }
    }
}

/// The executor half of a write.
#[derive(Debug)]
pub struct FilesWriter {
    config: WriterConfig,
}

impl FilesWriter {
    /// # Errors
    /// Text that is no config.
    pub fn try_new(config: &str) -> Result<Self> {
        let config = serde_json::from_str(config)
            .map_err(|e| Error::internal(format!("the config of a file writer cannot be read: {e}")))?;
        Ok(Self { config })
    }
}

#[async_trait]
impl Writer for FilesWriter {
    async fn open(&self, task: WriteTask, schema: SchemaRef, _: Arc<TaskContext>) -> Result<Box<dyn SinkTask>> {
        let options = &self.config.options;
        let (store, root, url) = parse_location(options.path()?, &options.store)?;
        Ok(Box::new(FilesTask {
            partitioner: Partitioner::try_new(&schema, &options.partition_by)?,
            base: if self.config.below.is_empty() { root } else { below(&root, &self.config.below)? },
            extension: options.extension()?,
            options: options.clone(),
            store,
            url,
            // Spark's names. The UUID alone keeps attempts apart: partitions are numbered by task.
            name: format!("part-{:05}-{}", task.partition, Uuid::new_v4()),
            next_file: 0,
            open: BTreeMap::new(),
            message: CommitMessage::default(),
            counts: WriteCounts::default(),
        }))
    }
}

/// One task's write.
struct FilesTask {
    options: FileOptions,
    partitioner: Partitioner,
    store: Arc<dyn ObjectStore>,
    url: Url,
    /// Root of the output, or the job's temporary folder.
    base: Path,
    extension: String,
    name: String,
    next_file: usize,
    /// By partition folder: path of the file below the base, and the file.
    open: BTreeMap<String, (String, FileWriter)>,
    message: CommitMessage,
    counts: WriteCounts,
}

impl FilesTask {
    fn place(&self, path: &Path) -> String {
        url_of(&self.url, path).to_string()
    }

    async fn close_file(&mut self, folder: &str) -> Result<()> {
        let Some((path, writer)) = self.open.remove(folder) else { return Ok(()) };
        let rows = writer.close().await?;
        let location = below(&self.base, &path)?;
        let meta = self.store.head(&location).await.map_err(|e| storage_error("read", &self.place(&location), &e))?;
        let modification_time = meta.last_modified.timestamp_millis();
        self.message.files.push(WrittenFile { path, size: meta.size, rows, modification_time });
        Ok(())
    }

    async fn close_all(&mut self) -> Result<()> {
        let folders: Vec<String> = self.open.keys().cloned().collect();
        for folder in folders {
            self.close_file(&folder).await?;
        }
        Ok(())
    }

    fn create_file(&mut self, folder: &str) -> Result<()> {
        // Spark's writers spell the counter `-c000` without partition folders and `.c000` with them.
        let mark = if folder.is_empty() { '-' } else { '.' };
        let name = format!("{}{mark}c{:03}{}", self.name, self.next_file, self.extension);
        self.next_file += 1;
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let location = below(&self.base, &path)?;
        let place = self.place(&location);
        let schema = self.partitioner.file_schema();
        let writer = FileWriter::create(Arc::clone(&self.store), location, place, schema, &self.options)?;
        self.open.insert(folder.into(), (path, writer));
        Ok(())
    }

    /// Ends row groups, the largest first, until the open files hold no more than a task may.
    async fn bound_buffers(&mut self) -> Result<()> {
        loop {
            let writers = self.open.values_mut().map(|(_, writer)| (writer.buffered(), writer));
            let (mut held, mut largest) = (0, None);
            for (buffered, writer) in writers {
                held += buffered;
                if largest.as_ref().is_none_or(|(most, _)| buffered > *most) {
                    largest = Some((buffered, writer));
                }
            }
            match largest {
                Some((_, writer)) if held > BUFFERED_BYTES_MAX => writer.end_row_group().await?,
                _ => return Ok(()),
            }
        }
    }

    async fn write_to(&mut self, folder: &str, rows: &RecordBatch) -> Result<()> {
        let limit = self.options.max_records_per_file;
        let mut from = 0;
        while from < rows.num_rows() {
            if !self.open.contains_key(folder) {
                if self.open.len() >= OPEN_FILES_MAX {
                    self.close_all().await?;
                }
                self.create_file(folder)?;
            }
            let Some((_, writer)) = self.open.get_mut(folder) else {
                return Err(Error::internal("a file was just created"));
            };
            let left = rows.num_rows() - from;
            let room = if limit == 0 { left as u64 } else { limit - writer.rows() };
            let take = left.min(usize::try_from(room).unwrap_or(usize::MAX));
            writer.write(&rows.slice(from, take)).await?;
            from += take;
            if limit > 0 && writer.rows() >= limit {
                self.close_file(folder).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SinkTask for FilesTask {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        for (folder, rows) in self.partitioner.split(&batch)? {
            self.write_to(&folder, &rows).await?;
        }
        self.bound_buffers().await?;
        self.counts.rows += batch.num_rows() as u64;
        Ok(())
    }
    /// Files cannot be flushed and go on: they end here, and the next rows begin new ones.
    async fn flush(&mut self) -> Result<()> {
        self.close_all().await
    }
    async fn close(mut self: Box<Self>) -> Result<(WriteCounts, Option<String>)> {
        self.close_all().await?;
        let message = serde_json::to_string(&self.message).map_err(Error::internal)?;
        Ok((self.counts, Some(message)))
    }
}
