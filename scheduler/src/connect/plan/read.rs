//! Relations that read: tables, data sources, rows that were sent, ranges.

use super::Planner;
use super::expression::{required, unsupported};
use super::frame::Frame;
use super::types;
use crate::session::with_defaults;
use crate::sql::catalog::{CATALOG, FILE_FORMATS};
use crate::sql::error::from_datafusion;
use crate::sql::parser::{Name, Statement};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use datafusion::catalog::{TableFunctionArgs, TableProvider};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, lit};
use headwater_executor::connectors::Options;
use headwater_executor::functions::masked::masked;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::read::{DataSource, NamedTable, ReadType};
use std::sync::Arc;

/// A range of so many rows is put into the plan: it then needs no job.
const SMALL_RANGE: i128 = 10_000;

/// Spark's `spark.sql.sources.default`.
const DEFAULT_FORMAT: &str = "parquet";

impl Planner<'_> {
    /// `spark.read` and `spark.table`.
    pub(super) async fn read(&mut self, read: &spark::Read) -> Result<Frame> {
        if read.is_streaming {
            let plan = super::super::streaming::read(self.session, read).await?;
            return self.of_plan(plan);
        }
        match required(read.read_type.as_ref(), "what is read")? {
            ReadType::NamedTable(table) => self.named_table(table).await,
            ReadType::DataSource(source) => self.data_source(source).await,
        }
    }

    /// A frame of a plan whose names are those that users see.
    pub(super) fn of_plan(&self, plan: LogicalPlan) -> Result<Frame> {
        Frame::of_plan(plan, &self.ids, &self.zone)
    }

    async fn named_table(&mut self, table: &NamedTable) -> Result<Frame> {
        let parts = super::frame::parse_name(&table.unparsed_identifier)?;
        if let Some(option) = table.options.keys().next() {
            return Err(unsupported(&format!(
                "option {option} of a read of table {}: options belong to the table (CREATE TABLE … OPTIONS)",
                table.unparsed_identifier
            )));
        }
        if let [name] = parts.as_slice()
            && let Some((_, frame)) = self.references.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            return Ok(frame.clone().renewed(&self.ids)?.aliased(&parts));
        }
        let quoted = parts.iter().map(|part| format!("`{}`", part.replace('`', "``"))).collect::<Vec<_>>().join(".");
        let name = Name(parts.clone());
        let planner = Arc::clone(&self.session.statements().planner);
        let definition = planner.lookup(&name, &self.sql)?;
        let frame = self.query(&format!("SELECT * FROM {quoted}")).await?;
        let own = parts.last().cloned().unwrap_or_default();
        // A temporary view belongs to no database.
        let temporary =
            self.sql.views.contains_key(&own.to_lowercase()) || self.sql.plans.contains_key(&own.to_lowercase());
        let files = parts.len() == 2 && planner.catalog().database(&parts[0]).is_none();
        let qualifier = if temporary || files {
            parts
        } else {
            let (database, table) = planner.catalog().split(&definition.name);
            vec![CATALOG.into(), database, table.to_string()]
        };
        Ok(frame.aliased(&qualifier))
    }

    /// A query in SQL.
    pub(super) async fn query(&mut self, text: &str) -> Result<Frame> {
        let statements = crate::sql::parser::parse(text)?;
        let [statement] = statements.as_slice() else {
            return Err(Error::invalid(
                "PARSE_SYNTAX_ERROR",
                format!("expected one statement, found {}: {text}", statements.len()),
            ));
        };
        self.statement(statement).await
    }

    /// A statement that has rows.
    pub(super) async fn statement(&mut self, statement: &Statement) -> Result<Frame> {
        use crate::sql::planner::Planned;
        let planner = Arc::clone(&self.session.statements().planner);
        let mut sql = self.sql.clone();
        for (name, frame) in &self.references {
            let view = crate::session::FrameView {
                name: name.clone(),
                plan: frame.distinctly_named()?,
                relation: Arc::default(),
            };
            sql.views.remove(&name.to_lowercase());
            sql.plans.insert(name.to_lowercase(), view);
        }
        match statement {
            Statement::Query(_)
            | Statement::ShowTables { .. }
            | Statement::ShowFunctions { .. }
            | Statement::Show(_)
            | Statement::ShowCreateTable(_)
            | Statement::Describe { .. }
            | Statement::Explain { .. } => {}
            _ => return Err(unsupported("a statement that changes something as a relation; use spark.sql")),
        }
        match planner.plan(statement, &mut sql).await? {
            Planned::Rows(plan) => self.of_plan(plan),
            Planned::Answer(rows) => self.of_rows(rows),
            _ => Err(unsupported("a statement that has no rows as a relation; use spark.sql")),
        }
    }

    async fn data_source(&mut self, source: &DataSource) -> Result<Frame> {
        let format = source.format.as_deref().filter(|format| !format.is_empty());
        let configured = self.session.conf("spark.sql.sources.default");
        let format = format.map(str::to_string).or(configured).unwrap_or_else(|| DEFAULT_FORMAT.into());
        if !source.predicates.is_empty() {
            return Err(unsupported("a read by predicates: filter the DataFrame, or use a query in option dbtable"));
        }
        let mut options = Options::new(source.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        match source.paths.as_slice() {
            [] => {}
            [one] => options.set("path", one),
            many => options.set("paths", serde_json::to_string(many).map_err(Error::internal)?),
        }
        let schema = match source.schema.as_deref().filter(|text| !text.trim().is_empty()) {
            Some(text) => Some(types::parse_columns(text)?),
            None => None,
        };
        let planner = Arc::clone(&self.session.statements().planner);
        let connector = planner.connector(&format)?;
        let options = with_defaults(&format, &options, &self.sql.conf);
        let files = FILE_FORMATS.iter().any(|known| known.eq_ignore_ascii_case(&format));
        // As in Spark, columns of files may be missing from any row, whatever the schema says.
        let schema = schema.map(|schema| if files { nullable(&schema) } else { schema });
        let table = connector.table(&options, schema).await?;
        self.of_table(&format, table)
    }

    /// A scan of a table.
    pub(super) fn of_table(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<Frame> {
        let name = datafusion::common::TableReference::bare(name.to_string());
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        self.of_plan(plan)
    }

    /// Rows that are there already. Columns may have equal names.
    pub(super) fn of_rows(&self, rows: RecordBatch) -> Result<Frame> {
        let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
        let metadata: Vec<_> = rows.schema().fields().iter().map(|field| field.metadata().clone()).collect();
        let fields: Vec<Field> = rows
            .schema()
            .fields()
            .iter()
            .enumerate()
            .map(|(at, field)| field.as_ref().clone().with_name(format!("c{at}")).with_metadata(Default::default()))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&schema), rows.columns().to_vec(), &options)
            .map_err(|error| from_datafusion(error.into()))?;
        if schema.fields().is_empty() {
            return self.without_columns(rows.num_rows());
        }
        let table = MemTable::try_new(schema, vec![vec![rows]]).map_err(from_datafusion)?;
        let frame = self.of_table("local", Arc::new(table))?;
        let columns = frame
            .columns()
            .iter()
            .zip(names.into_iter().zip(metadata))
            .map(|(column, (name, metadata))| super::frame::Attribute { name, metadata, ..column.clone() })
            .collect();
        Ok(frame.showing(columns))
    }

    /// Rows of no columns.
    fn without_columns(&self, rows: usize) -> Result<Frame> {
        if rows <= 1 {
            let plan = LogicalPlanBuilder::empty(rows == 1).build().map_err(from_datafusion)?;
            return Ok(Frame::new(plan, vec![], &self.zone));
        }
        let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..rows as i64));
        let rows = RecordBatch::try_from_iter([("id", ids)]).map_err(|error| from_datafusion(error.into()))?;
        Ok(self.of_rows(rows)?.showing(vec![]))
    }

    /// `createDataFrame`.
    pub(super) fn local_relation(&self, local: &spark::LocalRelation) -> Result<Frame> {
        self.local_rows(local.data.as_deref(), local.schema.as_deref())
    }

    /// `createDataFrame` of rows that were uploaded before.
    pub(super) async fn cached_local_relation(&self, hash: &str) -> Result<Frame> {
        let local = super::views::cached_local(self.session, hash).await?;
        self.local_relation(&local)
    }

    /// `createDataFrame` of rows that were uploaded in several parts.
    pub(super) async fn chunked_local_relation(&self, chunked: &spark::ChunkedCachedLocalRelation) -> Result<Frame> {
        let (batches, schema) = super::views::chunked_local(self.session, chunked).await?;
        let mut rows = vec![];
        for data in batches {
            rows.extend(batches_of(&data)?);
        }
        self.of_batches(rows, schema.as_deref())
    }

    fn local_rows(&self, data: Option<&[u8]>, schema: Option<&str>) -> Result<Frame> {
        let rows = data.map(batches_of).transpose()?.unwrap_or_default();
        self.of_batches(rows, schema)
    }

    fn of_batches(&self, rows: Vec<RecordBatch>, schema: Option<&str>) -> Result<Frame> {
        let declared = schema.filter(|text| !text.trim().is_empty()).map(types::parse_columns).transpose()?;
        let own = rows.first().map(RecordBatch::schema);
        let schema: SchemaRef = match (declared, own) {
            (Some(declared), _) => declared,
            (None, Some(own)) => Arc::new(Schema::new(
                own.fields()
                    .iter()
                    .map(|field| {
                        field.as_ref().clone().with_data_type(super::frame::client_type(field.data_type(), "UTC"))
                    })
                    .collect::<Vec<_>>(),
            )),
            (None, None) => {
                return Err(Error::invalid(
                    "CONNECT_INVALID_PLAN.LOCAL_RELATION_WITHOUT_SCHEMA",
                    "a local relation has neither rows nor a schema",
                ));
            }
        };
        let rows = rows.into_iter().map(|batch| fitted(&batch, &schema)).collect::<Result<Vec<_>>>()?;
        let rows = arrow::compute::concat_batches(&schema, &rows).map_err(|error| from_datafusion(error.into()))?;
        self.of_rows(rows)
    }

    /// `range`.
    pub(super) fn range(&self, range: &spark::Range) -> Result<Frame> {
        let step = range.step;
        if step == 0 {
            return Err(Error::invalid("INVALID_PARAMETER_VALUE.ZERO_STEP", "the step of a range cannot be 0"));
        }
        let function = self.state.table_functions().get("range").cloned();
        let function = function.ok_or_else(|| Error::internal("there is no table function range"))?;
        let (start, end) = (range.start.unwrap_or(0), range.end);
        let empty = if step > 0 { start >= end } else { start <= end };
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        if empty {
            return self.of_rows(RecordBatch::new_empty(schema));
        }
        let count = (i128::from(end) - i128::from(start)).abs() / i128::from(step.unsigned_abs());
        if count <= SMALL_RANGE {
            let ids = std::iter::successors(Some(start), |id| id.checked_add(step));
            let ids = ids.take_while(|id| if step > 0 { *id < end } else { *id > end });
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
            let rows = RecordBatch::try_new(schema, vec![ids]).map_err(Error::internal)?;
            return self.of_rows(rows);
        }
        let bounds = [lit(start), lit(end), lit(step)];
        let arguments = TableFunctionArgs::new(&bounds, &self.state);
        let table = function.create_table_provider_with_args(arguments).map_err(from_datafusion)?;
        let frame = self.of_table("range", table)?;
        let columns = frame
            .columns()
            .iter()
            .map(|column| super::frame::Attribute { name: "id".into(), ..column.clone() })
            .collect();
        Ok(frame.showing(columns))
    }
}

fn nullable(schema: &Schema) -> SchemaRef {
    let all = DataType::Struct(schema.fields().clone());
    match headwater_executor::functions::ddl::as_nullable(&all) {
        DataType::Struct(fields) => Arc::new(Schema::new(fields)),
        _ => Arc::new(schema.clone()),
    }
}

/// The batches of an IPC stream.
fn batches_of(data: &[u8]) -> Result<Vec<RecordBatch>> {
    let bad = |error: arrow::error::ArrowError| {
        Error::invalid(
            "CONNECT_INVALID_PLAN.CANNOT_PARSE",
            format!("the rows of a local relation are no Arrow stream: {error}"),
        )
    };
    let reader = StreamReader::try_new(data, None).map_err(bad)?;
    let schema = reader.schema();
    let mut rows = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(bad)?;
    if rows.is_empty() {
        rows.push(RecordBatch::new_empty(schema));
    }
    Ok(rows)
}

/// Columns by position, of the schema's names and types.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::invalid(
            "CONNECT_INVALID_PLAN.LOCAL_RELATION_SCHEMA_MISMATCH",
            format!(
                "the rows of a local relation have {} columns, its schema has {}",
                batch.num_columns(),
                schema.fields().len()
            ),
        ));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            let column = masked(column).map_err(|error| from_datafusion(error.into()))?;
            if column.data_type() == field.data_type() {
                return Ok(column);
            }
            cast_with_options(&column, field.data_type(), &options).map_err(|error| from_datafusion(error.into()))
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::invalid("NOT_NULL_ASSERT_VIOLATION", format!("rows do not fit their schema: {error}")))
}
