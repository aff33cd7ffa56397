//! Files: `parquet`, `json`, `csv` and `text`, on a local disk or S3.
//!
//! Layout and options are Spark's, so that Spark can read what Headwater writes and the other way about: a stream's
//! output with its `_spark_metadata` log ([`manifest`]), a batch's with `_SUCCESS` ([`sink`]), partition folders
//! ([`partition`]). Streaming reads are in [`source`]. Where files live is decided in [`location`] alone.

pub(crate) mod decode;
pub(crate) mod encode;
pub mod listing;
pub mod location;
pub mod manifest;
pub mod options;
mod partition;
mod scan;
mod sink;
mod source;
mod table;
pub mod value;

use super::{Connector, Options, Reader, Sink, SinkContext, Source, Writer, secrets};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use futures::{StreamExt, TryStreamExt};
use headwater_proto::error::{Error, Result};
use options::{FileOptions, Format};
use std::sync::Arc;

pub use table::FILE_NAME;

/// The table of files with the column [`FILE_NAME`], which names the file of each row; none for any other table.
pub fn with_file_names(table: &dyn TableProvider) -> Option<Arc<dyn TableProvider>> {
    let files = table.downcast_ref::<table::FilesTable>()?;
    Some(Arc::new(files.with_file_names()))
}

/// One file format.
#[derive(Debug)]
pub struct Files {
    format: Format,
}

impl Files {
    /// `parquet`
    pub const PARQUET: Files = Files { format: Format::Parquet };
    /// `json`
    pub const JSON: Files = Files { format: Format::Json };
    /// `csv`
    pub const CSV: Files = Files { format: Format::Csv };
    /// `text`
    pub const TEXT: Files = Files { format: Format::Text };
}

#[async_trait]
impl Connector for Files {
    fn format(&self) -> &'static str {
        self.format.name()
    }
    async fn table(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
        let options = FileOptions::parse(self.format, options)?;
        Ok(Arc::new(table::FilesTable::open(options, schema).await?))
    }
    async fn source(&self, options: &Options, schema: Option<SchemaRef>) -> Result<Arc<dyn Source>> {
        let options = FileOptions::parse(self.format, options)?;
        Ok(Arc::new(source::FilesSource::open(options, schema).await?))
    }
    async fn source_schema(&self, options: &Options, schema: Option<SchemaRef>) -> Result<SchemaRef> {
        let options = FileOptions::parse(self.format, options)?;
        Ok(Arc::clone(source::stream_schema(&options, schema).await?.table_schema()))
    }
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::FilesSink::try_new(FileOptions::parse(self.format, options)?, context)?))
    }
    fn reader(&self, config: &str) -> Result<Arc<dyn Reader>> {
        Ok(Arc::new(scan::FilesReader::try_new(config)?))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(sink::FilesWriter::try_new(config)?))
    }
}

/// Whether anything is stored at the path of these options, or below it. An empty folder is nothing.
///
/// # Errors
/// No path, a missing secret, and those of the store.
pub async fn has_files(options: &Options) -> Result<bool> {
    let options = secrets::resolve(options)?;
    let (store, path, url) = location::parse_location(options.get("path").unwrap_or_default(), &options)?;
    location::exists(store.as_ref(), &path, url.as_str()).await
}

/// The same of files that readers see: nothing that a write left half done, nor a stream's log alone.
///
/// # Errors
/// No path, a missing secret, and those of the store.
pub async fn has_visible_files(options: &Options) -> Result<bool> {
    any_file(options, |name| !listing::is_hidden(name)).await
}

/// The same of all but what a batch write left half done, which is nobody's.
///
/// # Errors
/// No path, a missing secret, and those of the store.
pub async fn has_kept_files(options: &Options) -> Result<bool> {
    any_file(options, |name| name.split('/').next() != Some(sink::TEMPORARY)).await
}

async fn any_file(options: &Options, counts: impl Fn(&str) -> bool) -> Result<bool> {
    let options = secrets::resolve(options)?;
    let (store, root, url) = location::parse_location(options.get("path").unwrap_or_default(), &options)?;
    let mut objects = store.list(Some(&root));
    while let Some(object) = objects.next().await {
        let object = object.map_err(|error| location::storage_error("list", url.as_str(), &error))?;
        if sink::relative(&root, &object.location).is_some_and(&counts) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes all that is at the path of these options, and below it. What is gone already is no error: a removal that was
/// cut short can be repeated.
///
/// # Errors
/// `INVALID_PATH` for the root of a store, a missing secret, and those of the store.
pub async fn remove_all(options: &Options) -> Result<()> {
    let options = secrets::resolve(options)?;
    let (store, root, url) = location::parse_location(options.get("path").unwrap_or_default(), &options)?;
    if root.as_ref().is_empty() {
        return Err(Error::invalid(
            "INVALID_PATH",
            format!("{url} is a whole store, which is not removed: name a folder"),
        ));
    }
    if url.scheme() == "file"
        && let Ok(folder) = url.to_file_path()
    {
        // A disk keeps empty folders, which its store does not show.
        let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        return removed
            .await
            .map_err(Error::internal)?
            .map_err(|error| location::storage_error("remove", url.as_str(), &error));
    }
    let paths = store.list(Some(&root)).map_ok(|object| object.location).boxed();
    let mut removed = store.delete_stream(paths);
    while let Some(result) = removed.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(location::storage_error("remove", url.as_str(), &error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
