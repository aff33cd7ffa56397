//! Options of the file formats, as Spark names them. One set for reads and writes: a table in the catalog is both.

use super::location::{FSYNC, S3_OPTIONS};
use crate::connectors::Options;
use headwater_proto::error::{Error, Result};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use serde::{Deserialize, Serialize};

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Columns, compressed by row group.
    Parquet,
    /// One JSON object a line.
    Json,
    /// Separated values.
    Csv,
    /// One string a line.
    Text,
}

impl Format {
    /// Spark's name.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Text => "text",
        }
    }
}

/// What becomes of a record that is not what the schema says (`mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParseMode {
    /// What cannot be read is null; the record goes to the corrupt record column if the schema has one.
    Permissive,
    /// The record is left out.
    DropMalformed,
    /// The read fails.
    FailFast,
}

/// Compression of a whole file of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineCompression {
    /// As it is.
    None,
    /// `.gz`
    Gzip,
}

/// Options of CSV.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CsvOptions {
    /// Between fields.
    pub sep: char,
    /// Around fields; none for no quoting.
    pub quote: Option<char>,
    /// Before a quote within a quoted field.
    pub escape: Option<char>,
    /// First line of a file holds the names.
    pub header: bool,
    /// How null is written.
    pub null_value: String,
    /// How an empty string is written; read, an empty quoted field is this. Unset: `""` and the empty string.
    pub empty_value: Option<String>,
    /// Lines that begin with it are left out.
    pub comment: Option<char>,
    /// Quote each field on write.
    pub quote_all: bool,
    /// Quote fields that hold a quote on write.
    pub escape_quotes: bool,
    /// Unset: kept on read, trimmed on write.
    pub trim_left: Option<bool>,
    /// Unset: kept on read, trimmed on write.
    pub trim_right: Option<bool>,
}

/// All options of a file source or sink. Credentials are among them, so that executors can open the store: `Debug`
/// hides them, as [`Options`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOptions {
    /// Format of the files.
    pub format: Format,
    /// Folder or file, or pattern of them; a sink has one.
    pub paths: Vec<String>,
    /// What is needed to open the store.
    pub store: Options,
    /// `compression`, checked against the format.
    pub compression: Option<String>,
    /// Columns that become folders.
    pub partition_by: Vec<String>,
    /// 0: no limit.
    pub max_records_per_file: u64,
    /// Overwrite replaces only the partitions that are written.
    pub dynamic_overwrite: bool,
    /// Between records; unset: `\n` on write, any of `\r`, `\r\n`, `\n` on read.
    pub line_sep: Option<String>,
    /// JSON: leave out fields that are null.
    pub ignore_null_fields: bool,
    /// JSON and CSV.
    pub mode: ParseMode,
    /// JSON and CSV: column that gets the text of a malformed record.
    pub corrupt_column: String,
    /// JSON: a file is one document. CSV: records may have line breaks in quotes.
    pub multi_line: bool,
    /// CSV: find types from the data.
    pub infer_schema: bool,
    /// JSON: every scalar is a string when the schema is inferred.
    pub primitives_as_string: bool,
    /// Parquet: union of all files' columns instead of the columns of one.
    pub merge_schema: bool,
    /// Text: a file is one row.
    pub whole_text: bool,
    /// CSV.
    pub csv: CsvOptions,
    /// Pattern of file names.
    pub path_glob_filter: Option<String>,
    /// Read all folders below, without taking them for partitions.
    pub recursive: bool,
    /// Streaming read: at most this many new files a batch.
    pub max_files_per_trigger: Option<usize>,
    /// Streaming read: at most this many bytes of new files a batch.
    pub max_bytes_per_trigger: Option<u64>,
    /// Streaming read: newest files first.
    pub latest_first: bool,
    /// Streaming read: where the log of files that were taken is kept.
    pub source_log: Option<String>,
    /// Nothing at the path is no rows.
    #[serde(default)]
    pub missing_is_empty: bool,
}

/// Option that the coordinator sets for a streaming read: a folder in the query's checkpoint (`sources/<n>`) for the
/// log of files that were taken.
pub const SOURCE_LOG: &str = "headwater.source.log";

/// Option that the planner sets for a read of a table whose columns are known: that nothing is at its path yet means no
/// rows, and is no mistake in the path.
pub const MISSING_IS_EMPTY: &str = "headwater.missing.empty";

/// Known everywhere. `checkpointLocation` and `queryName` are the query's, and come along.
const COMMON: &[&str] = &[
    "path",
    "paths",
    "compression",
    "partitionBy",
    "maxRecordsPerFile",
    "partitionOverwriteMode",
    "pathGlobFilter",
    "recursiveFileLookup",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "latestFirst",
    "checkpointLocation",
    "queryName",
    SOURCE_LOG,
    MISSING_IS_EMPTY,
    FSYNC,
];

fn known(format: Format) -> &'static [&'static str] {
    match format {
        Format::Parquet => &["mergeSchema"],
        Format::Json => &[
            "mode",
            "columnNameOfCorruptRecord",
            "multiLine",
            "lineSep",
            "encoding",
            "ignoreNullFields",
            "primitivesAsString",
            "inferSchema",
        ],
        Format::Csv => &[
            "mode",
            "columnNameOfCorruptRecord",
            "multiLine",
            "lineSep",
            "encoding",
            "charset",
            "sep",
            "delimiter",
            "quote",
            "escape",
            "comment",
            "header",
            "nullValue",
            "emptyValue",
            "quoteAll",
            "escapeQuotes",
            "ignoreLeadingWhiteSpace",
            "ignoreTrailingWhiteSpace",
            "inferSchema",
        ],
        Format::Text => &["lineSep", "encoding", "wholetext"],
    }
}

impl FileOptions {
    /// Checks names and values.
    ///
    /// # Errors
    /// `UNKNOWN_OPTION` and `INVALID_OPTION`, with the option's name and what would do.
    pub fn parse(format: Format, options: &Options) -> Result<Self> {
        let mut names: Vec<&str> = COMMON.iter().chain(known(format)).chain(&S3_OPTIONS).copied().collect();
        names.sort_unstable();
        if let Some((key, _)) = options.iter().find(|(key, _)| !names.iter().any(|name| name.eq_ignore_ascii_case(key)))
        {
            let ours: Vec<_> = names.into_iter().filter(|name| !name.contains('.')).collect();
            return Err(Error::invalid(
                "UNKNOWN_OPTION",
                format!("option {key} is not one of format {}; there are {}", format.name(), ours.join(", ")),
            ));
        }
        let bad = |name: &str, text: &str, want: &str| {
            let format = format.name();
            Error::invalid(
                "INVALID_OPTION",
                format!("invalid value {text:?} for option {name} of format {format}: give {want}"),
            )
        };
        let flag_option = |name: &str| match options.get(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(bad(name, text, "true or false")),
        };
        let flag = |name: &str, default: bool| flag_option(name).map(|value| value.unwrap_or(default));
        let number = |name: &str| match options.get(name) {
            None => Ok(None),
            Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| bad(name, text, "a number")),
        };
        let positive = |name: &str| match number(name)? {
            Some(0) => Err(bad(name, "0", "a number from 1")),
            other => Ok(other),
        };
        // One character, none when the text is empty.
        let character = |name: &str, default: Option<char>| match options.get(name) {
            None => Ok(default),
            Some("\\t") => Ok(Some('\t')),
            Some(text) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (c, None) => Ok(c.filter(|c| *c != '\0')),
                    _ => Err(bad(name, text, "one character")),
                }
            }
        };
        for name in ["encoding", "charset"] {
            if let Some(text) = options.get(name)
                && !text.eq_ignore_ascii_case("utf-8")
                && !text.eq_ignore_ascii_case("utf8")
            {
                return Err(bad(name, text, "UTF-8, the one encoding there is"));
            }
        }
        let mut paths: Vec<String> = match options.get("paths") {
            None => vec![],
            Some(text) => serde_json::from_str(text).map_err(|_| bad("paths", text, "a JSON array of paths"))?,
        };
        paths.extend(options.get("path").map(String::from));
        let sep_name = if options.get("sep").is_some() { "sep" } else { "delimiter" };
        let sep = character(sep_name, Some(','))?.ok_or_else(|| bad(sep_name, "", "one character"))?;
        let csv = CsvOptions {
            sep,
            quote: character("quote", Some('"'))?,
            escape: character("escape", Some('\\'))?,
            header: flag("header", false)?,
            null_value: options.get("nullValue").unwrap_or_default().into(),
            empty_value: options.get("emptyValue").map(String::from),
            comment: character("comment", None)?,
            quote_all: flag("quoteAll", false)?,
            escape_quotes: flag("escapeQuotes", true)?,
            trim_left: flag_option("ignoreLeadingWhiteSpace")?,
            trim_right: flag_option("ignoreTrailingWhiteSpace")?,
        };
        let parsed = Self {
            format,
            paths,
            store: Options::new(
                options
                    .iter()
                    .filter(|(key, _)| S3_OPTIONS.iter().chain([&FSYNC]).any(|name| name.eq_ignore_ascii_case(key))),
            ),
            compression: options.get("compression").map(str::to_ascii_lowercase),
            partition_by: options
                .get("partitionBy")
                .map(|text| text.split(',').map(|name| name.trim().to_string()).filter(|n| !n.is_empty()).collect())
                .unwrap_or_default(),
            max_records_per_file: number("maxRecordsPerFile")?.unwrap_or(0),
            dynamic_overwrite: match options.get("partitionOverwriteMode") {
                None => false,
                Some(text) if text.eq_ignore_ascii_case("static") => false,
                Some(text) if text.eq_ignore_ascii_case("dynamic") => true,
                Some(text) => return Err(bad("partitionOverwriteMode", text, "static or dynamic")),
            },
            line_sep: match options.get("lineSep") {
                Some("") => return Err(bad("lineSep", "", "at least one character")),
                Some(text) if format == Format::Json && text != "\n" => {
                    return Err(bad("lineSep", text, "a line feed, the one separator of JSON files"));
                }
                other => other.map(String::from),
            },
            ignore_null_fields: flag("ignoreNullFields", true)?,
            mode: match options.get("mode") {
                None => ParseMode::Permissive,
                Some(text) if text.eq_ignore_ascii_case("permissive") => ParseMode::Permissive,
                Some(text) if text.eq_ignore_ascii_case("dropmalformed") => ParseMode::DropMalformed,
                Some(text) if text.eq_ignore_ascii_case("failfast") => ParseMode::FailFast,
                Some(text) => return Err(bad("mode", text, "PERMISSIVE, DROPMALFORMED or FAILFAST")),
            },
            corrupt_column: options.get("columnNameOfCorruptRecord").unwrap_or("_corrupt_record").into(),
            multi_line: flag("multiLine", false)?,
            infer_schema: flag("inferSchema", false)?,
            primitives_as_string: flag("primitivesAsString", false)?,
            merge_schema: flag("mergeSchema", false)?,
            whole_text: flag("wholetext", false)?,
            csv,
            path_glob_filter: options.get("pathGlobFilter").map(String::from),
            recursive: flag("recursiveFileLookup", false)?,
            max_files_per_trigger: positive("maxFilesPerTrigger")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            max_bytes_per_trigger: positive("maxBytesPerTrigger")?,
            latest_first: flag("latestFirst", false)?,
            source_log: options.get(SOURCE_LOG).map(String::from),
            missing_is_empty: flag(MISSING_IS_EMPTY, false)?,
        };
        if parsed.max_files_per_trigger.is_some() && parsed.max_bytes_per_trigger.is_some() {
            return Err(Error::invalid(
                "INVALID_OPTION",
                "options maxFilesPerTrigger and maxBytesPerTrigger exclude each other: give one",
            ));
        }
        match format {
            Format::Parquet => parsed.parquet_compression().map(drop)?,
            _ => parsed.line_compression().map(drop)?,
        }
        Ok(parsed)
    }

    /// The one path of a sink.
    ///
    /// # Errors
    /// None, or several.
    pub fn path(&self) -> Result<&str> {
        match self.paths.as_slice() {
            [path] => Ok(path),
            [] => Err(Error::invalid(
                "INVALID_OPTION",
                format!("format {} needs option path: the folder to write to", self.format.name()),
            )),
            _ => Err(Error::invalid(
                "INVALID_OPTION",
                format!("a write of format {} takes one path, not {}", self.format.name(), self.paths.len()),
            )),
        }
    }

    fn bad_compression(&self, want: &str) -> Error {
        let text = self.compression.as_deref().unwrap_or_default();
        Error::invalid(
            "CODEC_NOT_AVAILABLE",
            format!("compression {text} is not available for format {}: give one of {want}", self.format.name()),
        )
    }

    /// Parquet's codec, and what it adds to file names.
    ///
    /// # Errors
    /// `CODEC_NOT_AVAILABLE`.
    pub fn parquet_compression(&self) -> Result<(Compression, &'static str)> {
        Ok(match self.compression.as_deref().unwrap_or("snappy") {
            "none" | "uncompressed" => (Compression::UNCOMPRESSED, ""),
            "snappy" => (Compression::SNAPPY, ".snappy"),
            "gzip" => (Compression::GZIP(GzipLevel::default()), ".gz"),
            "brotli" => (Compression::BROTLI(BrotliLevel::default()), ".br"),
            "lz4_raw" => (Compression::LZ4_RAW, ".lz4raw"),
            // Level 3 as in Spark; the crate's own default is 1.
            "zstd" => (Compression::ZSTD(ZstdLevel::try_new(3).map_err(Error::internal)?), ".zstd"),
            _ => return Err(self.bad_compression("none, uncompressed, snappy, gzip, brotli, lz4_raw, zstd")),
        })
    }

    /// Compression of a file of lines.
    ///
    /// # Errors
    /// `CODEC_NOT_AVAILABLE`.
    pub fn line_compression(&self) -> Result<LineCompression> {
        match self.compression.as_deref().unwrap_or("none") {
            "none" | "uncompressed" => Ok(LineCompression::None),
            "gzip" => Ok(LineCompression::Gzip),
            _ => Err(self.bad_compression("none, uncompressed, gzip")),
        }
    }

    /// How the files that are written end: `.snappy.parquet`.
    ///
    /// # Errors
    /// Those of the compression.
    pub fn extension(&self) -> Result<String> {
        Ok(match self.format {
            Format::Parquet => format!("{}.parquet", self.parquet_compression()?.1),
            format => {
                let name = if format == Format::Text { "txt" } else { format.name() };
                format!(".{name}{}", if self.line_compression()? == LineCompression::Gzip { ".gz" } else { "" })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(format: Format, options: &[(&str, &str)]) -> Result<FileOptions> {
        FileOptions::parse(format, &Options::new(options.iter().copied()))
    }

    #[test]
    fn wrong_options_are_named() {
        fn check(format: Format, options: &[(&str, &str)], word: &str) {
            let error = parse(format, options).expect_err(word);
            assert!(error.message.contains(word), "{error}");
        }
        check(Format::Parquet, &[("header", "true")], "header");
        check(Format::Csv, &[("sep", ";;")], "sep");
        check(Format::Csv, &[("header", "yes")], "header");
        check(Format::Csv, &[("encoding", "latin1")], "encoding");
        check(Format::Json, &[("compression", "snappy")], "snappy");
        check(Format::Parquet, &[("compression", "lz4")], "lz4_raw");
        check(Format::Text, &[("lineSep", "")], "lineSep");
        check(Format::Json, &[("mode", "strict")], "mode");
        check(Format::Json, &[("maxFilesPerTrigger", "0")], "maxFilesPerTrigger");
        check(Format::Json, &[("maxFilesPerTrigger", "1"), ("maxBytesPerTrigger", "1")], "exclude");
        assert!(parse(Format::Json, &[]).expect("options").path().expect_err("no path").message.contains("path"));
    }

    #[test]
    fn names_ignore_case_and_secrets_are_kept_but_not_printed() {
        let options = parse(
            Format::Csv,
            &[
                ("PATH", "/out"),
                ("Delimiter", "\\t"),
                ("quote", ""),
                ("partitionby", "a, b"),
                ("fs.s3a.secret.key", "hunter2"),
            ],
        )
        .expect("options");
        assert_eq!(options.path().expect("path"), "/out");
        assert_eq!((options.csv.sep, options.csv.quote), ('\t', None));
        assert_eq!(options.partition_by, ["a", "b"]);
        assert_eq!(options.store.get("fs.s3a.secret.key"), Some("hunter2"));
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn extensions_are_sparks() {
        let check = |format, options: &[(&str, &str)], expect| {
            assert_eq!(parse(format, options).expect("options").extension().expect("extension"), expect);
        };
        check(Format::Parquet, &[], ".snappy.parquet");
        check(Format::Parquet, &[("compression", "NONE")], ".parquet");
        check(Format::Parquet, &[("compression", "zstd")], ".zstd.parquet");
        check(Format::Csv, &[], ".csv");
        check(Format::Json, &[("compression", "gzip")], ".json.gz");
        check(Format::Text, &[], ".txt");
    }
}
