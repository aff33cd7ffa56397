//! Folders as a stream: files that appear are read once, in the order of their modification times.
//!
//! Which files belong to which batch is written down before the batch is planned: entry `n` of the source's log is
//! the files between offsets `{"logOffset":n-1}` and `{"logOffset":n}`, so that a batch that runs again reads the same
//! ones. The log lies in the query's checkpoint, where option [`SOURCE_LOG`] says, and has Spark's form (`v1`, a JSON
//! object a line, every tenth file compact; what is older than the last two of these is removed). With a rate limit one
//! entry is one batch's worth: files are taken into the log as soon as they are seen, and leave it an entry a batch.
//!
//! Files must appear whole: moved into the folder, or uploaded. A file is known by its path; changing it later has no
//! effect.

use super::listing::{DataFile, list};
use super::location::{Created, create, parse_location, storage_error};
use super::manifest::{COMPACT_INTERVAL, Entry, files_to_read};
use super::options::{FileOptions, Format, SOURCE_LOG};
use super::scan::ReaderConfig;
use super::table::{descriptors, table_schema};
use crate::connectors::{Limit, LimitContext, Offset, Source};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use headwater_proto::error::{Error, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Spark's `FileStreamSourceOffset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogOffset {
    log_offset: i64,
}

/// Spark's `FileEntry`, and what spares us asking for the file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileEntry {
    path: String,
    timestamp: i64,
    batch_id: i64,
    size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<(String, Option<String>)>,
}

/// The driver half of a streaming read.
#[derive(Debug)]
pub struct FilesSource {
    options: FileOptions,
    schema: SchemaRef,
    config: String,
    log: SourceLog,
    state: Mutex<Option<State>>,
}

/// What the log says, kept in memory.
#[derive(Debug, Default)]
struct State {
    entries: Vec<FileEntry>,
    seen: HashSet<String>,
    latest: i64,
}

/// Schema of a stream of files: declared, but for text.
///
/// # Errors
/// None declared.
pub async fn stream_schema(
    options: &FileOptions,
    declared: Option<SchemaRef>,
) -> Result<datafusion::datasource::table_schema::TableSchema> {
    if declared.is_none() && options.format != Format::Text {
        return Err(Error::invalid(
            "STREAMING_SCHEMA_REQUIRED",
            format!(
                "a stream of {} files needs a declared schema, .schema(\"id BIGINT, …\"): what is in the folder today \
                 does not say what will be",
                options.format.name()
            ),
        ));
    }
    let mut files = list(options).await?;
    // Files of yesterday may lie beside the folders of today.
    files.retain(|file| !file.partitions.is_empty());
    table_schema(options, &files, declared).await
}

impl FilesSource {
    /// # Errors
    /// No schema, no path, no log.
    pub async fn open(options: FileOptions, declared: Option<SchemaRef>) -> Result<Self> {
        let schema = stream_schema(&options, declared).await?;
        let Some(folder) = &options.source_log else {
            return Err(Error::internal(format!("a stream of files needs option {SOURCE_LOG} from its coordinator")));
        };
        let (store, folder, url) = parse_location(folder, &options.store)?;
        let config = ReaderConfig::encode(&options, schema.table_schema(), schema.table_partition_cols().len())?;
        Ok(Self {
            schema: Arc::clone(schema.table_schema()),
            config,
            log: SourceLog { store, folder, place: url.into() },
            options,
            state: Mutex::new(None),
        })
    }

    fn log_offset(&self, offset: &Offset) -> Result<i64> {
        serde_json::from_str::<LogOffset>(&offset.0).map(|offset| offset.log_offset).map_err(|e| {
            Error::fatal(
                "UNRECOGNIZED_OFFSET",
                format!(
                    "{} is no offset of {}: {e}: is this another query's checkpoint?",
                    offset.0,
                    self.description()
                ),
            )
        })
    }

    async fn load(&self) -> Result<State> {
        let (entries, latest) = self.log.read().await?;
        let seen = entries.iter().map(|entry| entry.path.clone()).collect();
        Ok(State { entries, seen, latest })
    }
}

fn offset(log_offset: i64) -> Offset {
    Offset(format!("{{\"logOffset\":{log_offset}}}"))
}

/// Files that were not seen before, cut into as many log entries as the limits ask for.
fn cut(mut files: Vec<DataFile>, seen: &HashSet<String>, options: &FileOptions) -> Vec<Vec<DataFile>> {
    files.retain(|file| !seen.contains(&file.url));
    files.sort_by(|one, two| (one.modified_ms, &one.url).cmp(&(two.modified_ms, &two.url)));
    if options.latest_first {
        files.reverse();
    }
    let files_max = options.max_files_per_trigger.unwrap_or(usize::MAX);
    let bytes_max = options.max_bytes_per_trigger.unwrap_or(u64::MAX);
    let mut entries: Vec<Vec<DataFile>> = vec![];
    let mut bytes = 0;
    for file in files {
        match entries.last_mut() {
            Some(entry) if entry.len() < files_max && file.size <= bytes_max - bytes => {
                bytes += file.size;
                entry.push(file);
            }
            _ => {
                // A file that is larger than the limit makes a batch of its own.
                bytes = file.size.min(bytes_max);
                entries.push(vec![file]);
            }
        }
    }
    entries
}

#[async_trait]
impl Source for FilesSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn description(&self) -> String {
        format!("FileStreamSource[{}]", self.options.paths.join(","))
    }
    async fn initial_offset(&self) -> Result<Offset> {
        Ok(offset(-1))
    }
    async fn latest_offset(&self, start: &Offset) -> Result<Offset> {
        let start = self.log_offset(start)?;
        let mut guard = self.state.lock().await;
        if guard.is_none() {
            *guard = Some(self.load().await?);
        }
        let state = guard.get_or_insert_default();
        if state.latest < start {
            return Err(Error::fatal(
                "MISSING_SOURCE_LOG",
                format!(
                    "{} ends at entry {}, before the query's offset {start}: restore it",
                    self.log.place, state.latest
                ),
            ));
        }
        for files in cut(list(&self.options).await?, &state.seen, &self.options) {
            let batch_id = state.latest + 1;
            let new: Vec<FileEntry> = files
                .into_iter()
                .map(|file| FileEntry {
                    path: file.url,
                    timestamp: file.modified_ms,
                    batch_id,
                    size: file.size,
                    partitions: file.partitions,
                })
                .collect();
            self.log.add(batch_id, &state.entries, &new).await?;
            state.seen.extend(new.iter().map(|entry| entry.path.clone()));
            state.entries.extend(new);
            state.latest = batch_id;
        }
        Ok(offset(state.latest))
    }
    fn limit(&self, start: &Offset, latest: &Offset, context: LimitContext) -> Result<Limit> {
        let (start, latest) = (self.log_offset(start)?, self.log_offset(latest)?);
        let has_limit = self.options.max_files_per_trigger.is_some() || self.options.max_bytes_per_trigger.is_some();
        let until = if context.limited && has_limit { latest.min(start + 1) } else { latest };
        Ok(Limit::Until(offset(until)))
    }
    async fn plan(&self, start: &Offset, end: &Offset) -> Result<Vec<String>> {
        let (start, end) = (self.log_offset(start)?, self.log_offset(end)?);
        let mut guard = self.state.lock().await;
        if guard.is_none() {
            *guard = Some(self.load().await?);
        }
        let state = guard.get_or_insert_default();
        if state.latest < end {
            return Err(Error::fatal(
                "MISSING_SOURCE_LOG",
                format!("{} ends at entry {}, before the batch's end {end}: restore it", self.log.place, state.latest),
            ));
        }
        let mut files = vec![];
        for entry in state.entries.iter().filter(|entry| entry.batch_id > start && entry.batch_id <= end) {
            let (_, path, _) = parse_location(&entry.path, &self.options.store)?;
            files.push(DataFile {
                url: entry.path.clone(),
                path,
                size: entry.size,
                modified_ms: entry.timestamp,
                partitions: entry.partitions.clone(),
            });
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        descriptors(&self.options, &files, cores)
    }
    fn reader_config(&self, _: &str) -> String {
        self.config.clone()
    }
    fn format(&self) -> &'static str {
        self.options.format.name()
    }
}

/// The log of files that were taken.
#[derive(Debug)]
struct SourceLog {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    place: String,
}

impl SourceLog {
    /// All entries, and the number of the last one; -1 for none.
    async fn read(&self) -> Result<(Vec<FileEntry>, i64)> {
        let objects = self.store.list(Some(&self.folder)).try_collect::<Vec<_>>().await;
        let objects = objects.map_err(|e| storage_error("list", &self.place, &e))?;
        let all: Vec<Entry> =
            objects.iter().filter_map(|object| object.location.filename().and_then(Entry::parse)).collect();
        let mut entries = vec![];
        let read = files_to_read(&all, i64::MAX, &self.place)?;
        for entry in &read {
            let path = self.folder.clone().join(entry.name());
            let place = format!("{}/{}", self.place, entry.name());
            let bytes = async { self.store.get(&path).await?.bytes().await };
            let bytes = bytes.await.map_err(|e| storage_error("read", &place, &e))?;
            let text = String::from_utf8_lossy(&bytes);
            let bad = |why: &dyn std::fmt::Display| {
                Error::fatal("MALFORMED_LOG_FILE", format!("{place} is no log of a file source: {why}"))
            };
            let mut lines = text.lines();
            if lines.next() != Some("v1") {
                return Err(bad(&"its first line is not v1"));
            }
            for line in lines {
                entries.push(serde_json::from_str(line).map_err(|e| bad(&e))?);
            }
        }
        Ok((entries, read.last().map_or(-1, |entry| entry.batch_id)))
    }

    async fn add(&self, batch_id: i64, before: &[FileEntry], new: &[FileEntry]) -> Result<()> {
        let entry = Entry::of(batch_id);
        let mut text = String::from("v1");
        for file in before.iter().filter(|_| entry.compact).chain(new) {
            text.push('\n');
            text.push_str(&serde_json::to_string(file).map_err(Error::internal)?);
        }
        let place = format!("{}/{}", self.place, entry.name());
        let created = create(self.store.as_ref(), &self.folder.clone().join(entry.name()), &Bytes::from(text)).await;
        match created.map_err(|e| storage_error("write", &place, &e))? {
            Created::Written => {}
            // Which coordinator goes on is decided by the query's own log, not here.
            Created::Exists(_) => {
                return Err(Error::transient(
                    "CHECKPOINT_TAKEN_OVER",
                    format!("{place} holds other files, which another coordinator found: the log is read again"),
                ));
            }
        }
        if entry.compact
            && let Err(error) = self.clean_up(batch_id).await
        {
            tracing::warn!(log = self.place, %error, "old entries of a file source's log could not be removed");
        }
        Ok(())
    }

    /// Removes what nobody reads any more: a compact entry stands for all before it. One more is kept, with what
    /// follows it, for whoever has listed the log and has yet to read it.
    async fn clean_up(&self, compact: i64) -> Result<()> {
        let keep = compact - COMPACT_INTERVAL;
        let is_old = move |path: &Path| path.filename().and_then(Entry::parse).is_some_and(|old| old.batch_id < keep);
        let old = self.store.list(Some(&self.folder)).map_ok(|object| object.location);
        let old = old.try_filter(move |path| futures::future::ready(is_old(path))).boxed();
        let mut deleted = self.store.delete_stream(old);
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(storage_error("clean up", &self.place, &e)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::files::Files;
    use crate::connectors::{Connector, Options, ReadUntil};
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use headwater_proto::error::ErrorKind;
    use std::time::Duration;

    fn file(name: &str, modified_ms: i64, size: u64) -> DataFile {
        let url = format!("file:///in/{name}");
        DataFile { url, path: Path::from(format!("in/{name}")), size, modified_ms, partitions: vec![] }
    }

    #[test]
    fn limits_cut_the_log() {
        let check = |options: &[(&str, &str)], expect: &[&[&str]]| {
            let options = FileOptions::parse(Format::Json, &Options::new(options.iter().copied())).expect("options");
            let files = vec![file("b", 2, 10), file("a", 2, 10), file("old", 1, 10), file("big", 3, 99)];
            let seen = HashSet::from(["file:///in/old".to_string()]);
            let got: Vec<Vec<String>> = cut(files, &seen, &options)
                .into_iter()
                .map(|entry| entry.into_iter().filter_map(|file| file.path.filename().map(String::from)).collect())
                .collect();
            assert_eq!(got, expect);
        };
        check(&[], &[&["a", "b", "big"]]);
        check(&[("maxFilesPerTrigger", "2")], &[&["a", "b"], &["big"]]);
        check(&[("maxFilesPerTrigger", "1"), ("latestFirst", "true")], &[&["big"], &["b"], &["a"]]);
        check(&[("maxBytesPerTrigger", "20")], &[&["a", "b"], &["big"]]);
        check(&[("maxBytesPerTrigger", "5")], &[&["a"], &["b"], &["big"]]);
    }

    fn schema() -> SchemaRef {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![field("id"), field("p")]))
    }

    async fn rows(source: &dyn Source, start: i64, end: i64) -> Vec<(i64, Option<i64>)> {
        let mut rows = vec![];
        for descriptor in source.plan(&offset(start), &offset(end)).await.expect("plan") {
            let reader = Files::JSON.reader(&source.reader_config("q")).expect("reader");
            let stream = reader
                .read(&descriptor, None, source.schema(), ReadUntil::DescriptorEnd, Arc::default())
                .expect("read");
            for batch in stream.try_collect::<Vec<_>>().await.expect("rows") {
                let (ids, ps) =
                    (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
                rows.extend(ids.values().iter().copied().zip(ps.iter()));
            }
        }
        rows.sort_unstable();
        rows
    }

    #[tokio::test]
    async fn files_are_read_once_and_again_if_asked() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| dir.path().join(name).to_str().expect("utf-8").to_string();
        std::fs::create_dir(path("in")).expect("folder");
        let drop_file = |name: &str, id: i64| {
            let target = dir.path().join("in").join(name);
            std::fs::create_dir_all(target.parent().expect("parent")).expect("folder");
            std::fs::write(target, format!("{{\"id\":{id}}}\n")).expect("write");
        };
        let options = Options::new([
            ("path", path("in")),
            ("maxFilesPerTrigger", "1".into()),
            (SOURCE_LOG, path("checkpoint/sources/0")),
        ]);
        let open = || Files::JSON.source(&options, Some(schema()));
        let limited = LimitContext { limited: true, since_last_batch: Duration::ZERO };
        let source = open().await.expect("source");
        let start = source.initial_offset().await.expect("initial");
        assert_eq!(start.0, "{\"logOffset\":-1}");
        assert_eq!(source.latest_offset(&start).await.expect("empty"), start);
        drop_file("a.json", 1);
        drop_file("b.json", 2);
        let latest = source.latest_offset(&start).await.expect("latest");
        assert_eq!(latest.0, "{\"logOffset\":1}");
        assert_eq!(source.limit(&start, &latest, limited).expect("limit"), Limit::Until(offset(0)));
        let once = LimitContext { limited: false, ..limited };
        assert_eq!(source.limit(&start, &latest, once).expect("limit"), Limit::Until(offset(1)));
        let first = rows(source.as_ref(), -1, 0).await;
        assert_eq!(first.len(), 1);
        // Another process; a file below a partition folder that was not there when the query began.
        drop_file("p=7/c.json", 3);
        let source = open().await.expect("source");
        assert_eq!(rows(source.as_ref(), -1, 0).await, first);
        assert_eq!(source.latest_offset(&latest).await.expect("latest"), offset(2));
        assert_eq!(rows(source.as_ref(), -1, 2).await, [(1, None), (2, None), (3, Some(7))]);
        assert!(rows(source.as_ref(), 2, 2).await.is_empty());
        let error = source.plan(&offset(2), &offset(3)).await.expect_err("beyond the log");
        assert_eq!(error.class, "MISSING_SOURCE_LOG");
        // A coordinator that was fenced off does not know of the newest entries.
        let stale = open().await.expect("source");
        stale.latest_offset(&start).await.expect("latest");
        drop_file("d.json", 4);
        assert_eq!(source.latest_offset(&start).await.expect("latest"), offset(3));
        // It finds the same files: who decides the batch shows in the query's own log.
        assert_eq!(stale.latest_offset(&start).await.expect("latest"), offset(3));
        for id in 5..15 {
            drop_file(&format!("{id}.json"), id);
        }
        assert_eq!(source.latest_offset(&start).await.expect("latest"), offset(13));
        assert!(dir.path().join("checkpoint/sources/0/9.compact").exists());
        assert_eq!(rows(open().await.expect("source").as_ref(), -1, 13).await.len(), 14);
    }

    fn source_log(folder: &std::path::Path) -> SourceLog {
        let (store, folder, url) = parse_location(folder.to_str().expect("utf-8"), &Options::default()).expect("path");
        SourceLog { store, folder, place: url.into() }
    }

    fn entry(batch_id: i64) -> FileEntry {
        let path = format!("file:///in/{batch_id}");
        FileEntry { path, timestamp: batch_id, batch_id, size: 1, partitions: vec![] }
    }

    #[tokio::test]
    async fn an_entry_whose_answer_was_lost_is_the_writers() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = source_log(dir.path());
        log.add(0, &[], &[entry(0)]).await.expect("first");
        log.add(0, &[], &[entry(0)]).await.expect("the same again");
        let error = log.add(0, &[], &[entry(1)]).await.expect_err("other files");
        assert_eq!((error.kind, error.class.as_str()), (ErrorKind::Transient, "CHECKPOINT_TAKEN_OVER"));
        assert_eq!(log.read().await.expect("read"), (vec![entry(0)], 0));
    }

    #[tokio::test]
    async fn the_log_does_not_grow_with_the_square() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = source_log(dir.path());
        let mut all = vec![];
        for batch_id in 0..45 {
            log.add(batch_id, &all, &[entry(batch_id)]).await.expect("add");
            all.push(entry(batch_id));
        }
        let mut left: Vec<i64> = std::fs::read_dir(dir.path())
            .expect("folder")
            .filter_map(|file| Entry::parse(file.expect("file").file_name().to_str()?))
            .map(|entry| entry.batch_id)
            .collect();
        left.sort_unstable();
        assert_eq!(left, (29..45).collect::<Vec<_>>());
        assert_eq!(log.read().await.expect("read"), (all, 44));
    }

    #[tokio::test]
    async fn a_schema_is_needed_and_a_log() {
        let dir = tempfile::tempdir().expect("tempdir");
        let options = Options::new([("path", dir.path().to_str().expect("utf-8"))]);
        let error = Files::JSON.source(&options, None).await.expect_err("schema");
        assert_eq!(error.class, "STREAMING_SCHEMA_REQUIRED");
        let error = Files::JSON.source(&options, Some(schema())).await.expect_err("log");
        assert!(error.message.contains(SOURCE_LOG), "{error}");
        assert_eq!(Files::JSON.source_schema(&options, Some(schema())).await.expect("schema"), schema());
        let text = Files::TEXT.source_schema(&options, None).await.expect("schema");
        assert_eq!(text.field(0).name(), "value");
    }
}
