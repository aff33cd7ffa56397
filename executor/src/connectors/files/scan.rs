//! Reading files on an executor: one descriptor names whole files or ranges of bytes of them.

use super::decode::{LineDecoder, Splitter, adapt, find_column, json_document};
use super::location::{parse_location, storage_error};
use super::options::{FileOptions, Format};
use super::partition;
use crate::connectors::{ReadUntil, Reader};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_proto::protobuf::Schema as SchemaMessage;
use flate2::write::MultiGzDecoder;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use headwater_proto::error::{Error, Result};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

/// Lines are decoded in blocks of about this size.
const BLOCK_BYTES: usize = 1 << 20;

/// A file, or a range of it, of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePart {
    /// Where the file is.
    pub url: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// Records that begin in `[start, end)` are read.
    pub start: u64,
    /// See `start`.
    pub end: u64,
    /// Values of the partition folders above the file.
    pub partitions: Vec<(String, Option<String>)>,
}

/// What all readers of a table need.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReaderConfig {
    /// How to read the files.
    pub options: FileOptions,
    /// Full schema, partition columns last: DataFusion's message, in hexadecimal.
    schema: String,
    /// How many of the columns are partition columns.
    partition_columns: usize,
}

impl ReaderConfig {
    /// The config's text.
    ///
    /// # Errors
    /// A schema that has no message.
    pub fn encode(options: &FileOptions, schema: &Schema, partition_columns: usize) -> Result<String> {
        let message: SchemaMessage = schema.try_into().map_err(Error::internal)?;
        let schema = message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        serde_json::to_string(&Self { options: options.clone(), schema, partition_columns }).map_err(Error::internal)
    }

    fn schema(&self) -> Result<SchemaRef> {
        let byte = |at: usize| self.schema.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let bytes = (0..self.schema.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>();
        let bytes = bytes.ok_or_else(|| Error::internal("the schema of a file reader is not hexadecimal"))?;
        let message = SchemaMessage::decode(bytes.as_slice()).map_err(Error::internal)?;
        Ok(Arc::new((&message).try_into().map_err(Error::internal)?))
    }
}

/// The executor half of a read.
#[derive(Debug)]
pub struct FilesReader {
    options: FileOptions,
    schema: SchemaRef,
    partition_columns: usize,
}

impl FilesReader {
    /// # Errors
    /// Text that is no config.
    pub fn try_new(config: &str) -> Result<Self> {
        let config: ReaderConfig = serde_json::from_str(config)
            .map_err(|e| Error::internal(format!("the config of a file reader cannot be read: {e}")))?;
        let schema = config.schema()?;
        Ok(Self { options: config.options, schema, partition_columns: config.partition_columns })
    }
}

impl Reader for FilesReader {
    fn read(
        &self,
        descriptor: &str,
        projection: Option<&[usize]>,
        schema: SchemaRef,
        until: ReadUntil,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if matches!(until, ReadUntil::Signal(_)) {
            return Err(Error::invalid("UNSUPPORTED_FEATURE", "files do not support the real-time trigger"));
        }
        let parts: Vec<FilePart> = serde_json::from_str(descriptor)
            .map_err(|e| Error::internal(format!("the descriptor of a file reader cannot be read: {e}")))?;
        let projection = projection.map_or_else(|| (0..self.schema.fields().len()).collect(), <[usize]>::to_vec);
        let plan = Arc::new(ReadPlan::try_new(
            &self.options,
            &self.schema,
            self.partition_columns,
            &projection,
            Arc::clone(&schema),
            context.session_config().batch_size().max(1),
        )?);
        let batches = futures::stream::iter(parts)
            .then(move |part| {
                let plan = Arc::clone(&plan);
                async move { plan.read(part).await }
            })
            .try_flatten()
            .map_err(crate::operators::to_datafusion);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// What to read of each file.
#[derive(Debug)]
struct ReadPlan {
    options: FileOptions,
    /// Columns that come from the files, all of them.
    file_schema: SchemaRef,
    /// Those that are wanted, as indices into `file_schema`.
    wanted: Vec<usize>,
    partition_fields: Vec<arrow::datatypes::FieldRef>,
    /// For each output column: an index into the wanted columns, or into the partition columns.
    output: Vec<OutputColumn>,
    schema: SchemaRef,
    batch_rows: usize,
}

#[derive(Debug, Clone, Copy)]
enum OutputColumn {
    File(usize),
    Partition(usize),
}

impl ReadPlan {
    fn try_new(
        options: &FileOptions,
        full: &SchemaRef,
        partition_columns: usize,
        projection: &[usize],
        schema: SchemaRef,
        batch_rows: usize,
    ) -> Result<Self> {
        let files = full.fields().len().saturating_sub(partition_columns);
        let file_schema = Arc::new(full.project(&(0..files).collect::<Vec<_>>()).map_err(Error::internal)?);
        let mut wanted = vec![];
        let mut output = vec![];
        for index in projection {
            if *index < files {
                output.push(OutputColumn::File(wanted.len()));
                wanted.push(*index);
            } else {
                output.push(OutputColumn::Partition(index - files));
            }
        }
        let partition_fields = full.fields()[files..].to_vec();
        Ok(Self { options: options.clone(), file_schema, wanted, partition_fields, output, schema, batch_rows })
    }

    async fn read(self: Arc<Self>, part: FilePart) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let values = partition::values(&part.partitions, &self.partition_fields)?;
        // A stream's declared column may turn out to be a folder later, when first such a file appears.
        let mut folders = vec![];
        for (index, wanted) in self.wanted.iter().enumerate() {
            let field = &self.file_schema.fields()[*wanted];
            if part.partitions.iter().any(|(name, _)| name.eq_ignore_ascii_case(field.name())) {
                let value = partition::values(&part.partitions, std::slice::from_ref(field))?.swap_remove(0);
                folders.push((index, value));
            }
        }
        let plan = Arc::clone(&self);
        let rows = match self.options.format {
            Format::Parquet => self.parquet(&part).await?,
            _ => self.lines(&part).await?,
        };
        Ok(rows.map(move |batch| plan.complete(&batch?, &values, &folders)).boxed())
    }

    /// The output columns of a file's batch.
    /// `folders`: values of file columns that the file's folders give.
    fn complete(
        &self,
        batch: &RecordBatch,
        values: &[ScalarValue],
        folders: &[(usize, ScalarValue)],
    ) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns = self.output.iter().map(|column| match column {
            OutputColumn::File(index) => match folders.iter().find(|(folder, _)| folder == index) {
                Some((_, value)) => value.to_array_of_size(rows).map_err(Error::internal),
                None => Ok(Arc::clone(batch.column(*index))),
            },
            OutputColumn::Partition(index) => values[*index].to_array_of_size(rows).map_err(Error::internal),
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(Error::internal)
    }

    async fn lines(&self, part: &FilePart) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let decoder = LineDecoder::try_new(&self.options, &self.file_schema, self.wanted.clone())?;
        let blocks = LineBlocks::open(&self.options, part).await?;
        let (batch_rows, place) = (self.batch_rows, part.url.clone());
        let state = (blocks, decoder, VecDeque::new());
        let batches = futures::stream::try_unfold(state, move |(mut blocks, decoder, mut ready)| {
            let place = place.clone();
            async move {
                loop {
                    if let Some(batch) = ready.pop_front() {
                        return Ok(Some((batch, (blocks, decoder, ready))));
                    }
                    let Some((block, lines)) = blocks.next().await? else { return Ok(None) };
                    for lines in lines.chunks(batch_rows) {
                        let batch = decoder.decode(&block, lines, &place)?;
                        if batch.num_rows() > 0 {
                            ready.push_back(batch);
                        }
                    }
                }
            }
        });
        Ok(batches.boxed())
    }

    async fn parquet(&self, part: &FilePart) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let wanted = Arc::new(self.file_schema.project(&self.wanted).map_err(Error::internal)?);
        let file = ParquetFile::open(&part.url, part.size, &self.options)?;
        let place = part.url.clone();
        let bad = {
            let place = place.clone();
            move |e: parquet::errors::ParquetError| read_error(&place, &e)
        };
        let builder = ParquetRecordBatchStreamBuilder::new(file).await.map_err(&bad)?;
        let found = wanted.fields().iter().filter_map(|field| find_column(builder.schema(), field.name()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), found.collect::<Vec<_>>());
        let rows = builder.with_projection(mask).with_batch_size(self.batch_rows).build().map_err(&bad)?;
        Ok(rows.map(move |batch| adapt(&batch.map_err(&bad)?, &wanted, &place)).boxed())
    }
}

fn read_error(place: &str, error: &parquet::errors::ParquetError) -> Error {
    match error {
        parquet::errors::ParquetError::External(_) => storage_error("read", place, error),
        other => Error::invalid(
            "FAILED_READ_FILE.NO_HINT",
            format!("failed to read {place}: {other}: is it a Parquet file, and whole?"),
        ),
    }
}

/// The schema of a Parquet file.
///
/// # Errors
/// A file that is none.
pub async fn parquet_schema(url: &str, size: u64, options: &FileOptions) -> Result<SchemaRef> {
    let file = ParquetFile::open(url, size, options)?;
    let builder = ParquetRecordBatchStreamBuilder::new(file).await.map_err(|e| read_error(url, &e))?;
    Ok(Arc::clone(builder.schema()))
}

/// A Parquet file in a store.
struct ParquetFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl ParquetFile {
    fn open(url: &str, size: u64, options: &FileOptions) -> Result<Self> {
        let (store, path, _) = parse_location(url, &options.store)?;
        Ok(Self { store, path, size })
    }
}

fn external(error: object_store::Error) -> parquet::errors::ParquetError {
    parquet::errors::ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ParquetFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.store.get_range(&self.path, range).await.map_err(external) }.boxed()
    }
    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.store.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }
    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            Ok(Arc::new(ParquetMetaDataReader::new().load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

/// The records of a file of lines, block by block.
pub struct LineBlocks {
    chunks: BoxStream<'static, object_store::Result<Bytes>>,
    place: String,
    splitter: Splitter,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
    buffer: Vec<u8>,
    /// Where the buffer's first byte stands in the (uncompressed) file.
    base: u64,
    /// Records that begin here or later belong to the next range.
    end: u64,
    /// The buffer begins in the middle of a record, which the range before has read.
    skip: bool,
    /// Lines to drop before the first record: the header of CSV.
    header: Option<super::options::CsvOptions>,
    whole: Option<Format>,
    done: bool,
}

impl LineBlocks {
    /// Opens a file. Compressed files end in `.gz`.
    ///
    /// # Errors
    /// Those of the store; a compression that there is not.
    pub async fn open(options: &FileOptions, part: &FilePart) -> Result<Self> {
        let (store, path, _) = parse_location(&part.url, &options.store)?;
        let splitter = Splitter::new(options);
        let start = if part.start == 0 { 0 } else { part.start.saturating_sub(splitter.lead()) };
        let range = (start > 0).then_some(GetRange::Offset(start));
        let name = path.filename().unwrap_or_default();
        let gzip = compression(name)?.map(|()| MultiGzDecoder::new(vec![]));
        let chunks = if part.size == 0 {
            futures::stream::empty().boxed()
        } else {
            let get = store.get_opts(&path, GetOptions { range, ..Default::default() }).await;
            get.map_err(|e| storage_error("read", &part.url, &e))?.into_stream()
        };
        let whole =
            (options.whole_text || (options.format == Format::Json && options.multi_line)).then_some(options.format);
        Ok(Self {
            chunks,
            place: part.url.clone(),
            splitter,
            end: if gzip.is_some() { u64::MAX } else { part.end },
            gzip,
            buffer: vec![],
            base: start,
            skip: part.start > 0,
            header: (options.format == Format::Csv && options.csv.header && part.start == 0)
                .then(|| options.csv.clone()),
            whole,
            done: false,
        })
    }

    /// Whether the file has ended.
    async fn fill(&mut self) -> Result<bool> {
        let bad_gzip = |place: &str, e: std::io::Error| {
            Error::invalid(
                "FAILED_READ_FILE.NO_HINT",
                format!("failed to read {place}: {e}: is it a gzip file, and whole?"),
            )
        };
        match self.chunks.try_next().await.map_err(|e| storage_error("read", &self.place, &e))? {
            Some(chunk) => {
                match &mut self.gzip {
                    None => self.buffer.extend_from_slice(&chunk),
                    Some(gzip) => {
                        gzip.write_all(&chunk).map_err(|e| bad_gzip(&self.place, e))?;
                        self.buffer.append(gzip.get_mut());
                    }
                }
                Ok(false)
            }
            None => {
                if let Some(gzip) = self.gzip.take() {
                    self.buffer.extend(gzip.finish().map_err(|e| bad_gzip(&self.place, e))?);
                }
                Ok(true)
            }
        }
    }

    /// The next records: a text, and where in it they stand.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn next(&mut self) -> Result<Option<(Vec<u8>, Vec<Range<usize>>)>> {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        while !self.done {
            let last = self.fill().await?;
            self.done = last;
            if !last && (self.whole.is_some() || self.buffer.len() < BLOCK_BYTES) {
                continue;
            }
            if let Some(format) = self.whole {
                let text = std::mem::take(&mut self.buffer);
                if format == Format::Json {
                    let document = json_document(text.strip_prefix(BOM).unwrap_or(&text));
                    let length = text.len();
                    return Ok(Some(document.unwrap_or_else(|| (text, vec![0..length]))));
                }
                let length = text.len();
                return Ok(Some((text, vec![0..length])));
            }
            let (mut lines, used) = self.splitter.split(&self.buffer, last);
            if used == 0 && !last {
                // A record longer than a block: read on.
                continue;
            }
            let mut block = std::mem::take(&mut self.buffer);
            self.buffer = block.split_off(used);
            if self.base == 0
                && block.starts_with(BOM)
                && let Some(first) = lines.first_mut()
            {
                first.start = first.end.min(BOM.len());
            }
            if self.skip && !lines.is_empty() {
                lines.remove(0);
                self.skip = false;
            }
            if let Some(at) = lines.iter().position(|line| self.base + line.start as u64 >= self.end) {
                lines.truncate(at);
                self.done = true;
            }
            self.base += used as u64;
            if let Some(csv) = &self.header {
                let blank = |line: &Range<usize>| {
                    super::decode::is_csv_blank(&String::from_utf8_lossy(&block[line.clone()]), csv)
                };
                match lines.iter().position(|line| !blank(line)) {
                    Some(header) => {
                        lines.drain(..=header);
                        self.header = None;
                    }
                    None => lines.clear(),
                }
            }
            if !lines.is_empty() {
                return Ok(Some((block, lines)));
            }
        }
        Ok(None)
    }
}

/// Whether a file is compressed, by its name.
///
/// # Errors
/// `CODEC_NOT_AVAILABLE`.
pub fn compression(name: &str) -> Result<Option<()>> {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("gz") => Ok(Some(())),
        Some(extension @ ("bz2" | "zst" | "lz4" | "snappy" | "deflate" | "xz")) => Err(Error::invalid(
            "CODEC_NOT_AVAILABLE",
            format!("file {name} is compressed as {extension}, which cannot be read: compress with gzip, or not"),
        )),
        _ => Ok(None),
    }
}
