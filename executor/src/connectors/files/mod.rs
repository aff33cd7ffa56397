//! Files: parquet, json, csv, text.

pub mod location;
pub mod value;

use super::Connector;

/// One file format.
#[derive(Debug)]
pub struct Files {
    format: &'static str,
}

impl Files {
    /// `parquet`
    pub const PARQUET: Files = Files { format: "parquet" };
    /// `json`
    pub const JSON: Files = Files { format: "json" };
    /// `csv`
    pub const CSV: Files = Files { format: "csv" };
    /// `text`
    pub const TEXT: Files = Files { format: "text" };
}

impl Connector for Files {
    fn format(&self) -> &'static str {
        self.format
    }
}
