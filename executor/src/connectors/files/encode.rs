//! Record batches into files: Parquet by the `parquet` crate's Arrow writer; JSON, CSV and text line by line, as Spark
//! writes them.

use super::location::storage_error;
use super::options::{CsvOptions, FileOptions, Format, LineCompression};
use super::value::{Formatter, Style, formatter};
use crate::functions::cast::text::{double as java_double, float as java_float};
use crate::functions::ddl;
use crate::functions::interval_fields::{as_numbers, as_texts, has_intervals};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type, IntervalUnit, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder};
use bytes::Bytes;
use flate2::write::GzEncoder;
use futures::FutureExt;
use futures::future::BoxFuture;
use headwater_proto::error::{Error, Result};
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::async_writer::{AsyncArrowWriter, AsyncFileWriter};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Lines are handed to the upload in pieces of about this size: large enough to make the calls rare.
const CHUNK_BYTES: usize = 1 << 20;
/// Under this key Spark keeps the types of a Parquet file's columns, as JSON: those of intervals stand nowhere else.
pub const ROW_METADATA: &str = "org.apache.spark.sql.parquet.row.metadata";

/// An upload that ends when it is completed, and leaves nothing when it is dropped (on S3: parts that the bucket's
/// life-cycle rule for incomplete uploads removes).
struct Upload(BufWriter);

impl Upload {
    async fn put(&mut self, bytes: Bytes) -> object_store::Result<()> {
        self.0.put(bytes).await
    }
    async fn complete(&mut self) -> std::io::Result<()> {
        self.0.shutdown().await
    }
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, parquet::errors::Result<()>> {
        async move { self.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }
    fn complete(&mut self) -> BoxFuture<'_, parquet::errors::Result<()>> {
        async move { Upload::complete(self).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }
}

/// One file being written. It is there when [`FileWriter::close`] has returned; dropped before, it never is.
pub struct FileWriter {
    /// For errors.
    place: String,
    rows: u64,
    kind: Kind,
}

#[expect(clippy::large_enum_variant, reason = "one for each open file, and never moved")]
enum Kind {
    Parquet(Box<AsyncArrowWriter<Upload>>),
    Lines { upload: Upload, encoder: LineEncoder, buffer: Vec<u8>, gzip: Option<GzEncoder<Vec<u8>>> },
}

impl FileWriter {
    /// Begins a file.
    ///
    /// # Errors
    /// A column that the format cannot hold.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        path: Path,
        place: String,
        schema: &SchemaRef,
        options: &FileOptions,
    ) -> Result<Self> {
        let upload = Upload(BufWriter::new(store, path));
        let kind = match options.format {
            Format::Parquet => {
                let intervals = schema.fields().iter().any(|field| has_intervals(field.data_type()));
                let types = intervals.then(|| {
                    vec![KeyValue::new(
                        ROW_METADATA.to_string(),
                        ddl::json(&DataType::Struct(schema.fields().clone())).to_string(),
                    )]
                });
                let properties = WriterProperties::builder()
                    .set_compression(options.parquet_compression()?.0)
                    .set_created_by(concat!("headwater version ", env!("CARGO_PKG_VERSION")).into())
                    .set_key_value_metadata(types)
                    .build();
                let stored = as_numbers(&RecordBatch::new_empty(Arc::clone(schema))).map_err(Error::internal)?.schema();
                // Arrow's own schema would tell readers of our in-memory layout; the file's types say enough.
                let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                let writer = AsyncArrowWriter::try_new_with_options(upload, stored, options)
                    .map_err(|e| Error::invalid("UNSUPPORTED_DATATYPE", format!("failed to write {place}: {e}")))?;
                Kind::Parquet(Box::new(writer))
            }
            _ => {
                let gzip = (options.line_compression()? == LineCompression::Gzip)
                    .then(|| GzEncoder::new(vec![], flate2::Compression::default()));
                Kind::Lines { upload, encoder: LineEncoder::new(options), buffer: vec![], gzip }
            }
        };
        Ok(Self { place, rows: 0, kind })
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes rows.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        match &mut self.kind {
            Kind::Parquet(writer) => {
                let stored = as_numbers(batch).map_err(Error::internal)?;
                writer.write(&stored).await.map_err(|e| parquet_error(&self.place, &e))
            }
            Kind::Lines { upload, encoder, buffer, gzip } => {
                encoder.encode(batch, buffer)?;
                if buffer.len() < CHUNK_BYTES {
                    return Ok(());
                }
                let chunk = chunk(buffer, gzip.as_mut())?;
                upload.put(chunk).await.map_err(|e| storage_error("write", &self.place, &e))
            }
        }
    }

    /// Bytes that wait in memory for their row group to end. What waits of lines is always little.
    pub fn buffered(&self) -> usize {
        match &self.kind {
            Kind::Parquet(writer) => writer.memory_size(),
            Kind::Lines { .. } => 0,
        }
    }

    /// Ends the row group, after which none of it is buffered.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn end_row_group(&mut self) -> Result<()> {
        match &mut self.kind {
            Kind::Parquet(writer) => writer.flush().await.map_err(|e| parquet_error(&self.place, &e)),
            Kind::Lines { .. } => Ok(()),
        }
    }

    /// Ends the file; the count of its rows.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn close(self) -> Result<u64> {
        match self.kind {
            Kind::Parquet(writer) => {
                writer.close().await.map_err(|e| parquet_error(&self.place, &e))?;
            }
            Kind::Lines { mut upload, mut buffer, mut gzip, .. } => {
                let mut last = chunk(&mut buffer, gzip.as_mut())?;
                if let Some(gzip) = gzip {
                    let trailer = gzip.finish().map_err(Error::internal)?;
                    last = [last.as_ref(), &trailer].concat().into();
                }
                upload.put(last).await.map_err(|e| storage_error("write", &self.place, &e))?;
                upload.complete().await.map_err(|e| storage_error("write", &self.place, &e))?;
            }
        }
        Ok(self.rows)
    }
}

/// Empties the buffer, through the compressor if there is one.
fn chunk(buffer: &mut Vec<u8>, gzip: Option<&mut GzEncoder<Vec<u8>>>) -> Result<Bytes> {
    let lines = std::mem::take(buffer);
    match gzip {
        None => Ok(lines.into()),
        Some(gzip) => {
            gzip.write_all(&lines).map_err(Error::internal)?;
            Ok(std::mem::take(gzip.get_mut()).into())
        }
    }
}

fn parquet_error(place: &str, error: &ParquetError) -> Error {
    match error {
        ParquetError::External(_) => storage_error("write", place, error),
        ParquetError::NYI(_) | ParquetError::ArrowError(_) => {
            Error::invalid("UNSUPPORTED_DATATYPE", format!("failed to write {place}: {error}"))
        }
        other => Error::internal(format!("failed to write {place}: {other}")),
    }
}

/// Whether the format can hold the columns.
///
/// # Errors
/// `UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE` and others, naming the column and the remedy.
pub fn check_schema(schema: &Schema, format: Format) -> Result<()> {
    let mut names = std::collections::HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name().to_lowercase()) {
            return Err(Error::invalid(
                "COLUMN_ALREADY_EXISTS",
                format!("column {} is there twice: give each column of the output a name of its own", field.name()),
            ));
        }
        let fits = match format {
            // As in Spark: an interval of months, days and time has no place in files.
            _ if has_calendar_intervals(field.data_type()) => false,
            Format::Parquet => *field.data_type() != DataType::Null,
            Format::Json => true,
            Format::Csv => {
                !field.data_type().is_nested()
                    && !matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
            }
            Format::Text => {
                matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            }
        };
        if !fits {
            return Err(Error::invalid(
                "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE",
                format!(
                    "format {} cannot hold column {} of type {}: cast it to string, or use to_json for nested values",
                    format.name(),
                    field.name(),
                    ddl::type_name(field.data_type())
                ),
            ));
        }
    }
    match (format, schema.fields().len()) {
        (Format::Text, 1) => Ok(()),
        (Format::Text, columns) => Err(Error::invalid(
            "UNSUPPORTED_TEXT_SCHEMA",
            format!("format text takes one string column besides partition columns, not {columns}: select one"),
        )),
        (_, 0) => Err(Error::invalid(
            "EMPTY_SCHEMA_NOT_SUPPORTED_FOR_DATASOURCE",
            format!("format {} needs at least one column", format.name()),
        )),
        _ => Ok(()),
    }
}

fn has_calendar_intervals(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(IntervalUnit::MonthDayNano | IntervalUnit::DayTime) => true,
        DataType::List(item) | DataType::Map(item, _) => has_calendar_intervals(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_calendar_intervals(field.data_type())),
        _ => false,
    }
}

/// Rows as lines of text.
#[derive(Debug)]
struct LineEncoder {
    options: LineOptions,
    header_due: bool,
}

#[derive(Debug)]
enum LineOptions {
    Json { explicit_nulls: bool },
    Csv { csv: Box<CsvOptions>, line_sep: String },
    Text { line_sep: String },
}

impl LineEncoder {
    fn new(options: &FileOptions) -> Self {
        let line_sep = options.line_sep.clone().unwrap_or_else(|| "\n".into());
        let header_due = options.format == Format::Csv && options.csv.header;
        let options = match options.format {
            Format::Csv => LineOptions::Csv { csv: Box::new(options.csv.clone()), line_sep },
            Format::Text => LineOptions::Text { line_sep },
            _ => LineOptions::Json { explicit_nulls: !options.ignore_null_fields },
        };
        Self { options, header_due }
    }

    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let batch = &as_texts(batch).map_err(Error::internal)?;
        match &self.options {
            LineOptions::Json { explicit_nulls } => {
                let mut writer = WriterBuilder::new()
                    .with_explicit_nulls(*explicit_nulls)
                    .with_encoder_factory(Arc::new(SparkJson))
                    .build::<_, LineDelimited>(out);
                let write = |e: ArrowError| Error::invalid("UNSUPPORTED_DATATYPE", format!("as JSON: {e}"));
                writer.write(batch).map_err(write)?;
                writer.finish().map_err(write)
            }
            LineOptions::Csv { csv, line_sep } => {
                let mut line = String::new();
                if std::mem::take(&mut self.header_due) {
                    for (column, field) in batch.schema_ref().fields().iter().enumerate() {
                        if column > 0 {
                            line.push(csv.sep);
                        }
                        csv_field(field.name(), csv, &mut line);
                    }
                    line.push_str(line_sep);
                }
                let columns = formatters(batch)?;
                let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
                let mut value = String::new();
                for row in 0..batch.num_rows() {
                    for (column, format) in columns.iter().enumerate() {
                        if column > 0 {
                            line.push(csv.sep);
                        }
                        if nulls[column].as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                            line.push_str(&csv.null_value);
                        } else {
                            value.clear();
                            format(row, &mut value);
                            csv_field(&value, csv, &mut line);
                        }
                    }
                    line.push_str(line_sep);
                }
                out.extend_from_slice(line.as_bytes());
                Ok(())
            }
            LineOptions::Text { line_sep } => {
                let columns = formatters(batch)?;
                let nulls: Vec<_> = batch.columns().iter().map(|column| column.logical_nulls()).collect();
                let mut line = String::new();
                for row in 0..batch.num_rows() {
                    for (column, format) in columns.iter().enumerate() {
                        // A null is an empty line, as in Spark.
                        if !nulls[column].as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                            format(row, &mut line);
                        }
                    }
                    line.push_str(line_sep);
                }
                out.extend_from_slice(line.as_bytes());
                Ok(())
            }
        }
    }
}

fn formatters(batch: &RecordBatch) -> Result<Vec<Formatter<'_>>> {
    batch.columns().iter().map(|column| formatter(column, Style::File)).collect()
}

/// A field with what it needs to be read back: quotes where it holds a separator, a quote or a line break.
pub(crate) fn csv_field(value: &str, csv: &CsvOptions, out: &mut String) {
    let mut value = value;
    if csv.trim_left.unwrap_or(true) {
        value = value.trim_start_matches(|c| c <= ' ');
    }
    if csv.trim_right.unwrap_or(true) {
        value = value.trim_end_matches(|c| c <= ' ');
    }
    if value.is_empty() {
        out.push_str(csv.empty_value.as_deref().unwrap_or("\"\""));
        return;
    }
    let Some(quote) = csv.quote else {
        out.push_str(value);
        return;
    };
    let special = |c: char| c == csv.sep || c == '\n' || c == '\r' || (csv.escape_quotes && c == quote);
    // A first character that a reader would take for something else is protected, too.
    let first = value.starts_with([quote, csv.comment.unwrap_or('#')]);
    if !csv.quote_all && !first && !value.contains(special) {
        out.push_str(value);
        return;
    }
    let escape = csv.escape.unwrap_or(quote);
    out.push(quote);
    for c in value.chars() {
        if c == quote || c == escape {
            out.push(escape);
        }
        out.push(c);
    }
    out.push(quote);
}

/// What Spark writes otherwise than Arrow: binary in base 64, instants with `Z`, decimals as numbers, floats as Java.
#[derive(Debug)]
struct SparkJson;

impl EncoderFactory for SparkJson {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> std::result::Result<Option<NullableEncoder<'a>>, ArrowError> {
        let quoted = |text: Text<'a>| Some(JsonText { text, quoted: true });
        let encoder = match array.data_type() {
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                quoted(Box::new(move |row, out| base64(array.value(row), out)))
            }
            DataType::LargeBinary => {
                let array = array.as_binary::<i64>();
                quoted(Box::new(move |row, out| base64(array.value(row), out)))
            }
            DataType::BinaryView => {
                let array = array.as_binary_view();
                quoted(Box::new(move |row, out| base64(array.value(row), out)))
            }
            DataType::Timestamp(..) => quoted(spark_text(array)?),
            DataType::Decimal128(..) | DataType::Decimal256(..) => {
                Some(JsonText { text: spark_text(array)?, quoted: false })
            }
            DataType::Float16 => {
                let array = array.as_primitive::<Float16Type>();
                Some(float(move |row| (f64::from(array.value(row)), java_float(array.value(row).to_f32()))))
            }
            DataType::Float32 => {
                let array = array.as_primitive::<Float32Type>();
                Some(float(move |row| (f64::from(array.value(row)), java_float(array.value(row)))))
            }
            DataType::Float64 => {
                let array = array.as_primitive::<Float64Type>();
                Some(float(move |row| (array.value(row), java_double(array.value(row)))))
            }
            _ => None,
        };
        Ok(encoder.map(|encoder| NullableEncoder::new(Box::new(encoder), array.logical_nulls())))
    }
}

type Text<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

/// Text without anything that JSON escapes, in quotes or bare.
struct JsonText<'a> {
    text: Text<'a>,
    quoted: bool,
}

impl Encoder for JsonText<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let mut text = String::new();
        (self.text)(row, &mut text);
        if self.quoted {
            out.push(b'"');
        }
        out.extend_from_slice(text.as_bytes());
        if self.quoted {
            out.push(b'"');
        }
    }
}

fn spark_text(array: &dyn Array) -> std::result::Result<Text<'_>, ArrowError> {
    formatter(array, Style::File).map_err(|e| ArrowError::JsonError(e.to_string()))
}

/// JSON has no words for what is not a number: Spark writes them as strings.
fn float<'a>(value: impl Fn(usize) -> (f64, String) + 'a) -> JsonText<'a> {
    let text = move |row, out: &mut String| match value(row) {
        (number, text) if number.is_finite() => out.push_str(&text),
        (_, text) => {
            out.push('"');
            out.push_str(&text);
            out.push('"');
        }
    };
    JsonText { text: Box::new(text), quoted: false }
}

fn base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= three.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::Options;
    use arrow::array::{
        ArrayRef, BinaryArray, Decimal128Array, Float64Array, Int64Array, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Field;

    fn lines(format: Format, options: &[(&str, &str)], columns: &[(&str, ArrayRef)]) -> String {
        let options = FileOptions::parse(format, &Options::new(options.iter().copied())).expect("options");
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.iter().map(|(name, column)| (*name, Arc::clone(column), true)),
        )
        .expect("batch");
        let mut encoder = LineEncoder::new(&options);
        let mut out = vec![];
        for row in 0..batch.num_rows() {
            encoder.encode(&batch.slice(row, 1), &mut out).expect("encode");
        }
        String::from_utf8(out).expect("utf-8")
    }

    fn strings(values: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn json_is_sparks() {
        let inner: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_234_567), None]).with_timezone("UTC"));
        let nested = StructArray::from(vec![(Arc::new(Field::new("t", inner.data_type().clone(), true)), inner)]);
        let decimals = Decimal128Array::from(vec![Some(1250), None]).with_precision_and_scale(10, 2).expect("decimal");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("s", strings(&[Some("a\"b"), None])),
            ("b", Arc::new(BinaryArray::from(vec![b"hello".as_slice(), b""]))),
            ("d", Arc::new(decimals)),
            ("f", Arc::new(Float64Array::from(vec![1e10, f64::NAN]))),
            ("n", Arc::new(nested)),
        ];
        assert_eq!(
            lines(Format::Json, &[], &columns),
            "{\"id\":1,\"s\":\"a\\\"b\",\"b\":\"aGVsbG8=\",\"d\":12.50,\"f\":1.0E10,\
             \"n\":{\"t\":\"1970-01-01T00:00:01.234Z\"}}\n\
             {\"b\":\"\",\"f\":\"NaN\",\"n\":{}}\n"
        );
        assert_eq!(lines(Format::Json, &[("ignoreNullFields", "false")], &columns[..1]), "{\"id\":1}\n{\"id\":null}\n");
    }

    #[test]
    fn base64_pads() {
        for (bytes, expect) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let mut out = String::new();
            base64(bytes.as_bytes(), &mut out);
            assert_eq!(out, expect);
        }
    }

    #[test]
    fn csv_is_sparks() {
        let check = |options: &[(&str, &str)], values: &[Option<&str>], expect: &str| {
            let id: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
            assert_eq!(lines(Format::Csv, options, &[("id", id), ("v", strings(values))]), expect);
        };
        check(&[], &[Some("a"), None, Some(""), Some(" b ")], "0,a\n1,\n2,\"\"\n3,b\n");
        check(&[], &[Some("a,b"), Some("say \"hi\""), Some("x\ny")], "0,\"a,b\"\n1,\"say \\\"hi\\\"\"\n2,\"x\ny\"\n");
        check(&[], &[Some("back\\slash"), Some("a\\,b")], "0,back\\slash\n1,\"a\\\\,b\"\n");
        check(&[("escape", "\"")], &[Some("say \"hi\"")], "0,\"say \"\"hi\"\"\"\n");
        check(
            &[("header", "true"), ("sep", ";"), ("nullValue", "-"), ("quoteAll", "true")],
            &[Some("a,b"), None],
            "\"id\";\"v\"\n\"0\";\"a,b\"\n\"1\";-\n",
        );
        check(
            &[("ignoreLeadingWhiteSpace", "false"), ("ignoreTrailingWhiteSpace", "false")],
            &[Some(" b ")],
            "0, b \n",
        );
        check(&[("lineSep", "\r\n")], &[Some("a")], "0,a\r\n");
    }

    #[test]
    fn text_is_one_column() {
        assert_eq!(lines(Format::Text, &[], &[("value", strings(&[Some("a b"), None, Some("c")]))]), "a b\n\nc\n");
        let schema = |fields: &[(&str, DataType)]| {
            Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>())
        };
        let check = |fields: &[(&str, DataType)], format, class: &str| {
            assert_eq!(check_schema(&schema(fields), format).expect_err(class).class, class);
        };
        check(&[("a", DataType::Utf8), ("b", DataType::Utf8)], Format::Text, "UNSUPPORTED_TEXT_SCHEMA");
        check(&[("a", DataType::Int64)], Format::Text, "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE");
        check(&[("a", DataType::Binary)], Format::Csv, "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE");
        check(&[("a", DataType::Null)], Format::Parquet, "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE");
        let intervals = ddl::array_of(DataType::Interval(IntervalUnit::MonthDayNano));
        for format in [Format::Parquet, Format::Json, Format::Csv] {
            check(&[("a", intervals.clone())], format, "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE");
        }
        check(&[("a", DataType::Utf8), ("A", DataType::Utf8)], Format::Json, "COLUMN_ALREADY_EXISTS");
        check(&[], Format::Parquet, "EMPTY_SCHEMA_NOT_SUPPORTED_FOR_DATASOURCE");
    }
}
