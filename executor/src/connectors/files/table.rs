//! Batch reads. Parquet goes to DataFusion's own scan, which prunes row groups by filters, with the statistics that
//! joins are planned by; lines go to our readers, which have Spark's modes. Ballista slices either between executors.

use super::decode::{Fields, Inferred, is_csv_blank};
use super::encode::ROW_METADATA;
use super::listing::{DataFile, list, store_of};
use super::location::S3_OPTIONS;
use super::options::{FileOptions, Format, ParseMode};
use super::partition;
use super::scan::{FilePart, LineBlocks, ReaderConfig, compression, parquet_schema};
use crate::functions::ddl;
use crate::functions::masked::has_structs;
use crate::operators::source_scan::SourceScanExec;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields as ArrowFields, IntervalUnit, Schema, SchemaRef};
use arrow::json::reader::infer_json_schema_from_iterator;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt};
use headwater_proto::error::{Error, Result};
use object_store::{ObjectMeta, ObjectStore};
use std::cmp::Reverse;
use std::sync::Arc;

/// `spark.sql.files.maxPartitionBytes`.
const PARTITION_BYTES_MAX: u64 = 128 << 20;
/// `spark.sql.files.openCostInBytes`: what opening a file costs, as bytes read meanwhile.
const OPEN_COST_BYTES: u64 = 4 << 20;
/// The footers of at most so many files are read while a query is planned, so many at once; of more files their sizes
/// are all that is known. What was read is kept in the runtime's cache.
const FOOTERS_MAX: usize = 200;
const FOOTERS_AT_ONCE: usize = 16;

/// The column that [`FilesTable::with_file_names`] adds.
pub const FILE_NAME: &str = "__input_file_name";

/// Files as a table.
#[derive(Debug)]
pub struct FilesTable {
    options: FileOptions,
    files: Vec<DataFile>,
    schema: TableSchema,
}

impl FilesTable {
    /// Lists the files and finds the schema, where it is not declared.
    ///
    /// # Errors
    /// No files to find the schema from; files that disagree.
    pub async fn open(options: FileOptions, declared: Option<SchemaRef>) -> Result<Self> {
        let files = list(&options).await?;
        let schema = table_schema(&options, &files, declared).await?;
        Ok(Self { options, files, schema })
    }

    /// The same table, which has as its last column the file that a row is from: a partition column like those of
    /// folders.
    pub fn with_file_names(&self) -> Self {
        let mut files = self.files.clone();
        for file in &mut files {
            file.partitions.push((FILE_NAME.to_string(), Some(file.url.clone())));
        }
        let mut columns = self.schema.table_partition_cols().to_vec();
        columns.push(Arc::new(Field::new(FILE_NAME, DataType::Utf8, true)));
        let schema =
            TableSchema::builder(Arc::clone(self.schema.file_schema())).with_table_partition_cols(columns).build();
        Self { options: self.options.clone(), files, schema }
    }

    /// The files whose partition values can fulfil the filters.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> DataFusionResult<Vec<(DataFile, Vec<ScalarValue>)>> {
        let columns: Vec<FieldRef> = self.schema.table_partition_cols().to_vec();
        let names: Vec<&str> = columns.iter().map(|column| column.name().as_str()).collect();
        let filters = filters.iter().filter(|filter| expr_applicable_for_cols(&names, filter)).cloned();
        let predicate = match conjunction(filters) {
            Some(filter) if !columns.is_empty() => {
                let schema = Arc::new(Schema::new(columns.clone()));
                let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
                Some((state.create_physical_expr(filter, &df_schema)?, schema))
            }
            _ => None,
        };
        let mut kept = vec![];
        for file in &self.files {
            let values = partition::values(&file.partitions, &columns).map_err(crate::operators::to_datafusion)?;
            if let Some((predicate, schema)) = &predicate {
                let arrays = values.iter().map(ScalarValue::to_array).collect::<DataFusionResult<Vec<_>>>()?;
                let batch = RecordBatch::try_new(Arc::clone(schema), arrays)?;
                // Null is not true: such a row would be filtered out.
                let value = predicate.evaluate(&batch)?.into_array(1)?;
                if ScalarValue::try_from_array(&value, 0)? != ScalarValue::Boolean(Some(true)) {
                    continue;
                }
            }
            kept.push((file.clone(), values));
        }
        Ok(kept)
    }

    /// Bytes of all files together.
    fn bytes(&self) -> usize {
        self.files.iter().map(|file| usize::try_from(file.size).unwrap_or(usize::MAX)).fold(0, usize::saturating_add)
    }

    /// What the footers say of these files. Without, their size.
    async fn statistics_of(
        &self,
        state: &dyn Session,
        store: &dyn ObjectStore,
        files: &[PartitionedFile],
    ) -> DataFusionResult<Statistics> {
        let schema = self.schema.table_schema();
        let unknown = || Statistics {
            total_byte_size: Precision::Inexact(files.iter().map(|file| file.object_meta.size as usize).sum()),
            ..Statistics::new_unknown(schema)
        };
        if files.len() > FOOTERS_MAX {
            return Ok(unknown());
        }
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let reads: Vec<_> = files
            .iter()
            .map(|file| {
                let cache = Arc::clone(&cache);
                async move {
                    let footer = DFParquetMetadata::new(store, &file.object_meta).with_file_metadata_cache(Some(cache));
                    let found = footer.fetch_statistics(self.schema.file_schema()).await?;
                    let file = file.clone().with_statistics(Arc::new(found));
                    Ok::<_, DataFusionError>(file.statistics)
                }
            })
            .collect();
        let reads = futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE).try_collect::<Vec<_>>();
        // A file that cannot be read fails the query where it is read, which names it.
        let Ok(each) = reads.await else { return Ok(unknown()) };
        let mut all = Statistics::try_merge_iter(each.iter().flatten().map(Arc::as_ref), schema)?;
        // Counts of rows are. Bounds are not: a writer may cut long texts, and leaves NaN out, Spark's largest number.
        for column in &mut all.column_statistics {
            *column = std::mem::take(column).to_inexact();
        }
        Ok(all)
    }

    /// Whether the files have fields that are never null in structs that may be: DataFusion's scan takes such a field
    /// without its struct, and has a value where there is none. Our reader masks it. The first file speaks for all.
    async fn hides_nulls(&self, files: &[(DataFile, Vec<ScalarValue>)]) -> DataFusionResult<bool> {
        let columns = self.schema.file_schema().fields();
        let Some((file, _)) = files.first().filter(|_| columns.iter().any(|field| has_structs(field.data_type())))
        else {
            return Ok(false);
        };
        let stored = parquet_schema(&file.url, file.size, &self.options).await;
        Ok(stored.map_err(crate::operators::to_datafusion)?.fields().iter().any(|field| requires_below(field)))
    }

    async fn scan_parquet(
        &self,
        state: &dyn Session,
        files: Vec<(DataFile, Vec<ScalarValue>)>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let list: Vec<DataFile> = files.iter().map(|(file, _)| file.clone()).collect();
        let Some((store, url)) = store_of(&list, &self.options).map_err(crate::operators::to_datafusion)? else {
            let schema = match projection {
                Some(indices) => Arc::new(self.schema.table_schema().project(indices)?),
                None => Arc::clone(self.schema.table_schema()),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        };
        let store_url = ObjectStoreUrl::parse(&url[url::Position::BeforeScheme..url::Position::BeforePath])?;
        state.runtime_env().register_object_store(store_url.as_ref(), Arc::clone(&store));
        let files: Vec<PartitionedFile> = files
            .into_iter()
            .map(|(file, values)| {
                let meta = ObjectMeta {
                    location: file.path,
                    last_modified: chrono::DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default(),
                    size: file.size,
                    e_tag: None,
                    version: None,
                };
                PartitionedFile::new_from_meta(meta).with_partition_values(values)
            })
            .collect();
        let statistics = self.statistics_of(state, store.as_ref(), &files).await?;
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(state.default_table_options().parquet.clone());
        let config = FileScanConfigBuilder::new(store_url, Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(state.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .with_statistics(statistics)
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    /// The size of the files: what decides whether a query is worth a cluster.
    fn statistics(&self) -> Option<Statistics> {
        let total_byte_size = Precision::Inexact(self.bytes());
        Some(Statistics { total_byte_size, ..Statistics::new_unknown(self.schema.table_schema()) })
    }
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // Files are left out by their partition and, Parquet, row groups by their statistics: rows still need the
        // filter.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let files = self.prune(state, filters)?;
        // Executors make DataFusion's stores from their environment: credentials in options travel with our readers.
        let own_credentials = S3_OPTIONS.iter().any(|name| self.options.store.get(name).is_some());
        if self.options.format == Format::Parquet && !own_credentials && !self.hides_nulls(&files).await? {
            return self.scan_parquet(state, files, projection, limit).await;
        }
        let files: Vec<DataFile> = files.into_iter().map(|(file, _)| file).collect();
        let descriptors = descriptors(&self.options, &files, state.config().target_partitions())
            .map_err(crate::operators::to_datafusion)?;
        let config =
            ReaderConfig::encode(&self.options, self.schema.table_schema(), self.schema.table_partition_cols().len())
                .map_err(crate::operators::to_datafusion)?;
        let scan = SourceScanExec::try_new(
            self.options.format.name().into(),
            config,
            self.schema(),
            projection.cloned(),
            None,
            &descriptors,
        )?;
        Ok(Arc::new(scan))
    }
}

/// One descriptor for each plan partition: large files cut up, small ones together.
///
/// # Errors
/// A file that cannot be read.
pub fn descriptors(options: &FileOptions, files: &[DataFile], partitions: usize) -> Result<Vec<String>> {
    let splits = options.format != Format::Parquet && !options.multi_line && !options.whole_text;
    let mut parts = vec![];
    let total: u64 = files.iter().map(|file| file.size + OPEN_COST_BYTES).sum();
    let most = PARTITION_BYTES_MAX.min((total / partitions.max(1) as u64).max(OPEN_COST_BYTES));
    for file in files {
        let name = file.path.filename().unwrap_or_default();
        let compressed = options.format != Format::Parquet && compression(name)?.is_some();
        let step = if splits && !compressed { most } else { u64::MAX };
        let mut start: u64 = 0;
        loop {
            let end = file.size.min(start.saturating_add(step));
            let (url, size, partitions) = (file.url.clone(), file.size, file.partitions.clone());
            parts.push(FilePart { url, size, start, end, partitions });
            if end >= file.size {
                break;
            }
            start = end;
        }
    }
    pack(parts, most).iter().map(|bin| serde_json::to_string(bin).map_err(Error::internal)).collect()
}

/// Puts parts into bins of about `most` bytes, the largest first, as Spark does.
fn pack(mut parts: Vec<FilePart>, most: u64) -> Vec<Vec<FilePart>> {
    parts.sort_by_key(|part| Reverse(part.end - part.start));
    let mut bins: Vec<Vec<FilePart>> = vec![];
    let mut filled = 0;
    for part in parts {
        let bytes = part.end - part.start;
        match bins.last_mut() {
            Some(bin) if filled + bytes <= most => bin.push(part),
            _ => {
                filled = 0;
                bins.push(vec![part]);
            }
        }
        filled += bytes + OPEN_COST_BYTES;
    }
    bins
}

/// Columns of the files, then the partition columns; all nullable, as Spark reads files.
///
/// # Errors
/// `UNABLE_TO_INFER_SCHEMA` and those of reading the files.
pub async fn table_schema(
    options: &FileOptions,
    files: &[DataFile],
    declared: Option<SchemaRef>,
) -> Result<TableSchema> {
    let folders: Vec<_> = files.iter().map(|file| file.partitions.clone()).collect();
    let partitions = partition::infer(&folders, declared.as_deref())?;
    let found = match (&declared, options.format) {
        (Some(declared), format) => {
            if format == Format::Text {
                check_text(declared, &partitions)?;
            }
            Arc::clone(declared)
        }
        (None, Format::Text) => Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, true)])),
        (None, _) if files.is_empty() => {
            return Err(Error::invalid(
                "UNABLE_TO_INFER_SCHEMA",
                format!(
                    "unable to infer the schema of {}: there are no files: declare a schema",
                    options.paths.join(", ")
                ),
            ));
        }
        (None, Format::Parquet) => infer_parquet(options, files).await?,
        (None, Format::Csv) => infer_csv(options, files).await?,
        (None, Format::Json) => infer_json(options, files).await?,
    };
    let is_partition = |field: &FieldRef| partitions.iter().any(|p| p.name().eq_ignore_ascii_case(field.name()));
    let fields: Vec<FieldRef> = found.fields().iter().filter(|field| !is_partition(field)).map(nullable).collect();
    let partitions = partitions.iter().map(nullable).collect::<Vec<_>>();
    Ok(TableSchema::builder(Arc::new(Schema::new(fields))).with_table_partition_cols(partitions).build())
}

fn check_text(declared: &Schema, partitions: &[FieldRef]) -> Result<()> {
    let own: Vec<_> = declared
        .fields()
        .iter()
        .filter(|field| !partitions.iter().any(|p| p.name().eq_ignore_ascii_case(field.name())))
        .collect();
    match own.as_slice() {
        [field] if *field.data_type() == DataType::Utf8 => Ok(()),
        [] => Ok(()),
        _ => Err(Error::invalid(
            "UNSUPPORTED_TEXT_SCHEMA",
            "format text has one string column: declare `value STRING`, or nothing",
        )),
    }
}

fn nullable(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect::<ArrowFields>()),
        DataType::List(item) => DataType::List(nullable(item)),
        DataType::LargeList(item) => DataType::LargeList(nullable(item)),
        other => other.clone(),
    };
    // Metadata would be the writer's: Parquet field ids and the like.
    Arc::new(Field::new(field.name(), data_type, true))
}

async fn infer_parquet(options: &FileOptions, files: &[DataFile]) -> Result<SchemaRef> {
    let mut schemas = vec![];
    for file in if options.merge_schema { files } else { &files[..1] } {
        let schema = parquet_schema(&file.url, file.size, options).await?;
        // What no one can read says nothing, as in Spark.
        let sparks = schema.metadata().get(ROW_METADATA).and_then(|json| ddl::parse_schema(json).ok());
        let stored = DataType::Struct(schema.fields().iter().map(nullable).collect::<ArrowFields>());
        let DataType::Struct(fields) = sparks.map_or_else(|| stored.clone(), |sparks| with_intervals(&stored, &sparks))
        else {
            return Err(Error::internal("columns are a struct"));
        };
        schemas.push(Schema::new(fields));
    }
    let merged = Schema::try_merge(schemas).map_err(|e| {
        Error::invalid(
            "CANNOT_MERGE_SCHEMAS",
            format!("the files of {} have columns that disagree: {e}: declare a schema", options.paths.join(", ")),
        )
    })?;
    Ok(Arc::new(merged))
}

/// Whether a struct that may be null has a field that may not.
fn requires_below(field: &Field) -> bool {
    match field.data_type() {
        DataType::Struct(fields) => {
            fields.iter().any(|own| field.is_nullable() && !own.is_nullable() || requires_below(own))
        }
        DataType::List(item) | DataType::Map(item, _) => requires_below(item),
        _ => false,
    }
}

/// The type that is stored, with the intervals that Spark says its numbers are.
fn with_intervals(stored: &DataType, sparks: &DataType) -> DataType {
    let within = |stored: &FieldRef, sparks: &FieldRef| {
        let data_type = with_intervals(stored.data_type(), sparks.data_type());
        Arc::new(stored.as_ref().clone().with_data_type(data_type))
    };
    match (stored, sparks) {
        (DataType::Int64, DataType::Duration(_)) | (DataType::Int32, DataType::Interval(IntervalUnit::YearMonth)) => {
            sparks.clone()
        }
        (DataType::List(stored), DataType::List(sparks)) => DataType::List(within(stored, sparks)),
        (DataType::Map(stored, sorted), DataType::Map(sparks, _)) => {
            // Keys and values have other names there.
            let (DataType::Struct(own), DataType::Struct(others)) = (stored.data_type(), sparks.data_type()) else {
                return DataType::Map(Arc::clone(stored), *sorted);
            };
            let pair = own.iter().zip(others).map(|(own, other)| within(own, other)).collect();
            let entries = stored.as_ref().clone().with_data_type(DataType::Struct(pair));
            DataType::Map(Arc::new(entries), *sorted)
        }
        (DataType::Struct(stored), DataType::Struct(sparks)) => {
            let field = |stored: &FieldRef| match sparks.iter().find(|one| one.name() == stored.name()) {
                Some(sparks) => within(stored, sparks),
                None => Arc::clone(stored),
            };
            DataType::Struct(stored.iter().map(field).collect())
        }
        _ => stored.clone(),
    }
}

async fn open_whole(options: &FileOptions, file: &DataFile) -> Result<LineBlocks> {
    let part = FilePart {
        url: file.url.clone(),
        size: file.size,
        start: 0,
        end: u64::MAX,
        partitions: file.partitions.clone(),
    };
    LineBlocks::open(options, &part).await
}

async fn infer_csv(options: &FileOptions, files: &[DataFile]) -> Result<SchemaRef> {
    // The header is read as a line, and then left out of the types.
    let raw =
        FileOptions { csv: super::options::CsvOptions { header: false, ..options.csv.clone() }, ..options.clone() };
    let mut fields = Fields::default();
    let mut names: Option<Vec<String>> = None;
    let mut types: Vec<Inferred> = vec![];
    'files: for file in files {
        let mut blocks = open_whole(&raw, file).await?;
        let mut header_due = options.csv.header;
        while let Some((block, lines)) = blocks.next().await? {
            for line in lines {
                let text = String::from_utf8_lossy(&block[line]);
                if is_csv_blank(&text, &options.csv) {
                    continue;
                }
                fields.split(&text, &options.csv);
                let header = std::mem::take(&mut header_due);
                if names.is_none() {
                    let first: Vec<Option<&str>> = (0..fields.len()).map(|n| fields.get(n, &options.csv)).collect();
                    types.resize(fields.len(), Inferred::default());
                    names = Some(column_names(&first, header));
                }
                if !options.infer_schema {
                    break 'files;
                }
                if !header {
                    for (index, inferred) in types.iter_mut().enumerate() {
                        inferred.add(fields.get(index, &options.csv));
                    }
                }
            }
        }
    }
    // Of files without a line there are no columns, as in Spark.
    let names = names.unwrap_or_default();
    let data_type = |inferred: Inferred| if options.infer_schema { inferred.data_type() } else { DataType::Utf8 };
    let fields = names.into_iter().zip(types).map(|(name, inferred)| Field::new(name, data_type(inferred), true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// Names of CSV's columns: the header's, made distinct by their place as Spark does; `_c0` and so on without.
fn column_names(first: &[Option<&str>], header: bool) -> Vec<String> {
    let lower: Vec<_> = first.iter().map(|name| name.map(str::to_lowercase)).collect();
    let distinct = |index: usize, name: &str| {
        if lower.iter().filter(|other| **other == lower[index]).count() > 1 {
            format!("{name}{index}")
        } else {
            name.to_string()
        }
    };
    let name = |(index, name): (usize, &Option<&str>)| match name {
        Some(name) if header => distinct(index, name),
        _ => format!("_c{index}"),
    };
    first.iter().enumerate().map(name).collect()
}

async fn infer_json(options: &FileOptions, files: &[DataFile]) -> Result<SchemaRef> {
    let mut schemas = vec![];
    let mut corrupt = false;
    for file in files {
        let mut blocks = open_whole(options, file).await?;
        while let Some((block, lines)) = blocks.next().await? {
            let mut values = vec![];
            for line in lines {
                let text = &block[line];
                if text.trim_ascii().is_empty() {
                    continue;
                }
                match serde_json::from_slice::<serde_json::Value>(text) {
                    Ok(value @ serde_json::Value::Object(_)) => {
                        values.push(Ok(if options.primitives_as_string { stringify(value) } else { value }));
                    }
                    _ if options.mode == ParseMode::FailFast => {
                        let text: String = String::from_utf8_lossy(text).chars().take(200).collect();
                        return Err(Error::invalid(
                            "MALFORMED_RECORD_IN_PARSING",
                            format!("malformed record {text:?} in {}: it is no JSON object", file.url),
                        ));
                    }
                    _ => corrupt = true,
                }
            }
            schemas.push(infer_json_schema_from_iterator(values.into_iter()).map_err(|e| {
                Error::invalid("UNABLE_TO_INFER_SCHEMA", format!("{}: {e}: declare a schema", file.url))
            })?);
        }
    }
    let mut merged: ArrowFields = ArrowFields::empty();
    for schema in schemas {
        merged = merge_fields(&merged, schema.fields());
    }
    let mut fields: Vec<FieldRef> = merged.iter().map(sorted).collect();
    if corrupt && options.mode == ParseMode::Permissive {
        fields.push(Arc::new(Field::new(&options.corrupt_column, DataType::Utf8, true)));
    }
    fields.sort_by(|one, two| one.name().cmp(two.name()));
    Ok(Arc::new(Schema::new(fields)))
}

/// Scalars as strings.
fn stringify(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(flag) => Value::String(flag.to_string()),
        Value::Array(items) => Value::Array(items.into_iter().map(stringify).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, stringify(value))).collect())
        }
        other => other,
    }
}

/// Fields of either; where both have one, a type that holds both: string at worst, as Spark does.
fn merge_fields(one: &ArrowFields, two: &ArrowFields) -> ArrowFields {
    let mut fields: Vec<FieldRef> = one.to_vec();
    for field in two {
        match fields.iter_mut().find(|known| known.name() == field.name()) {
            Some(known) => {
                let merged = merge_types(known.data_type(), field.data_type());
                *known = Arc::new(Field::new(known.name(), merged, true));
            }
            None => fields.push(Arc::clone(field)),
        }
    }
    fields.into()
}

fn merge_types(one: &DataType, two: &DataType) -> DataType {
    match (one, two) {
        (one, two) if one == two => one.clone(),
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        (DataType::Struct(one), DataType::Struct(two)) => DataType::Struct(merge_fields(one, two)),
        (DataType::List(one), DataType::List(two)) => {
            let item = merge_types(one.data_type(), two.data_type());
            DataType::List(Arc::new(Field::new(one.name(), item, true)))
        }
        _ => DataType::Utf8,
    }
}

/// Spark's order of inferred fields is that of their names, at each level; a column of nulls is a string.
fn sorted(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Null => DataType::Utf8,
        DataType::Struct(fields) => {
            let mut fields: Vec<FieldRef> = fields.iter().map(sorted).collect();
            fields.sort_by(|one, two| one.name().cmp(two.name()));
            DataType::Struct(fields.into())
        }
        DataType::List(item) => DataType::List(sorted(item)),
        other => other.clone(),
    };
    Arc::new(Field::new(field.name(), data_type, true))
}
