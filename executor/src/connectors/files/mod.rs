//! Files: `parquet`, `json`, `csv` and `text`, on a local disk or S3.
//!
//! Layout and options are Spark's, so that Spark can read what Headwater writes and the other way about: a stream's
//! output with its `_spark_metadata` log ([`manifest`]), a batch's with `_SUCCESS` ([`sink`]), partition folders
//! ([`partition`]). Where files live is decided in [`location`] alone.

mod encode;
pub mod listing;
pub mod location;
pub mod manifest;
pub mod options;
mod partition;
mod sink;
pub mod value;

use super::{Connector, Options, Sink, SinkContext, Writer};
use async_trait::async_trait;
use headwater_proto::error::Result;
use options::{FileOptions, Format};
use std::sync::Arc;

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
    async fn sink(&self, options: &Options, context: SinkContext) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(sink::FilesSink::try_new(FileOptions::parse(self.format, options)?, context)?))
    }
    fn writer(&self, config: &str) -> Result<Arc<dyn Writer>> {
        Ok(Arc::new(sink::FilesWriter::try_new(config)?))
    }
}

/// Whether something is at the path that a write would go to: what save modes `error` and `ignore` ask.
///
/// # Errors
/// Wrong options, and those of the store.
pub async fn target_exists(options: &Options) -> Result<bool> {
    let path = options.get("path").unwrap_or_default();
    let (store, path, url) = location::parse_location(path, options)?;
    location::exists(store.as_ref(), &path, url.as_str()).await
}
