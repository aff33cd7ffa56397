//! `df.write` and `df.writeTo`: where rows go, and what happens when something is there already.

use super::super::sessions::Session;
use super::catalog::table_name;
use super::expression::{required, unsupported};
use super::frame::Frame;
use super::views::input_of;
use super::{Planner, types};
use crate::sql::catalog::{TableDefinition, Taken};
use crate::sql::error::from_datafusion;
use arrow::datatypes::{DataType, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use headwater_executor::connectors::files::location::parse_location;
use headwater_executor::connectors::{Options, WriteMode, files};
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark;
use headwater_proto::spark::write_operation::save_table::TableSaveMethod;
use headwater_proto::spark::write_operation::{SaveMode, SaveType};
use headwater_proto::spark::write_operation_v2::Mode;
use std::sync::Arc;

/// What to do about what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write so.
    Write(WriteMode),
    /// Leave it as it is.
    Nothing,
    /// Refuse.
    AlreadyExists,
}

/// What a save mode comes to.
pub fn step(mode: SaveMode, exists: bool) -> Step {
    match (mode, exists) {
        (SaveMode::Append, _) => Step::Write(WriteMode::Append),
        (SaveMode::Overwrite, _) => Step::Write(WriteMode::Overwrite),
        (SaveMode::ErrorIfExists | SaveMode::Unspecified, true) => Step::AlreadyExists,
        (SaveMode::Ignore, true) => Step::Nothing,
        (_, false) => Step::Write(WriteMode::Append),
    }
}

/// `df.write`.
///
/// # Errors
/// Spark's error classes; those of the sink.
pub async fn write(session: &Arc<Session>, message: &spark::WriteOperation) -> Result<()> {
    if message.bucket_by.is_some() || !message.sort_column_names.is_empty() {
        return Err(unsupported("a write with bucketBy or sortBy"));
    }
    if !message.clustering_columns.is_empty() {
        return Err(unsupported("a write with clusterBy"));
    }
    if message.with_schema_evolution {
        return Err(unsupported("a write with schema evolution"));
    }
    let mut planner = Planner::new(session)?;
    let frame = planner.relation(input_of(message.input.as_ref(), "the rows of a write")?).await?;
    refuse_stream(&frame)?;
    let partition_by = message
        .partitioning_columns
        .iter()
        .map(|name| frame.named_column(name).map(|attribute| attribute.name))
        .collect::<Result<Vec<_>>>()?;
    let format = message.source.clone().filter(|source| !source.is_empty());
    let configured = session.conf("spark.sql.sources.default").unwrap_or_else(|| "parquet".into());
    let options = Options::new(message.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    match &message.save_type {
        Some(SaveType::Table(table)) => {
            if table.save_method() == TableSaveMethod::InsertInto {
                if !partition_by.is_empty() {
                    return Err(Error::invalid(
                        "NOT_SUPPORTED_WITH_INSERT_INTO",
                        "insertInto() can't be used together with partitionBy(): the table's own partitioning is used",
                    ));
                }
                let mode = match message.mode() {
                    SaveMode::Overwrite => WriteMode::Overwrite,
                    _ => WriteMode::Append,
                };
                return insert_into(&mut planner, frame, &table.table_name, mode, false).await;
            }
            let new = NewTable { name: &table.table_name, format: format.unwrap_or(configured), options, partition_by };
            save_as_table(&mut planner, frame, new, message.mode()).await
        }
        other => {
            let format = format.unwrap_or(configured);
            let mut target = TableDefinition::new(&format, &format, options);
            if let Some(SaveType::Path(path)) = other
                && !path.is_empty()
            {
                target.options.set("path", path);
            }
            target.partition_by = partition_by;
            save(&mut planner, frame, &target, message.mode()).await
        }
    }
}

fn refuse_stream(frame: &Frame) -> Result<()> {
    if frame.is_streaming() {
        return Err(Error::invalid(
            "CALL_ON_STREAMING_DATASET_UNSUPPORTED",
            "the method `write` can not be called on streaming Dataset/DataFrame: use writeStream",
        ));
    }
    Ok(())
}

/// To where the options say.
async fn save(planner: &mut Planner<'_>, frame: Frame, target: &TableDefinition, mode: SaveMode) -> Result<()> {
    // Before the mode is looked at: no mode helps a format that there is not.
    planner.session.statements().planner.connector(&target.format)?;
    let files = target.is_files();
    let exists = if files {
        files_exist(target).await?
    } else {
        match mode {
            SaveMode::Append | SaveMode::Overwrite => false,
            _ => exists_outside(planner, target, mode).await?,
        }
    };
    let mode = match step(mode, exists) {
        Step::Write(mode) => mode,
        Step::Nothing => return Ok(()),
        Step::AlreadyExists if files => {
            let path = target.options.get("path").unwrap_or_default();
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "PATH_ALREADY_EXISTS",
                format!("path {path} already exists: set mode as \"overwrite\" to overwrite the existing path"),
            ));
        }
        Step::AlreadyExists => {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "TABLE_OR_VIEW_ALREADY_EXISTS",
                format!("the {} table that is written to already exists: use mode append or overwrite", target.format),
            ));
        }
    };
    let input = planner.rows_of(frame)?;
    let input = planner.session.statements().planner.fitted(input, target, true, &planner.sql.conf).await?;
    run(planner, &input, target, mode).await
}

/// Whether a table of another system is there. Topics need not be, and what keeps nothing has nothing.
async fn exists_outside(planner: &Planner<'_>, target: &TableDefinition, mode: SaveMode) -> Result<bool> {
    const KEEPS_NOTHING: &[&str] = &["noop", "console", "kafka"];
    const TABLES: &[&str] = &["jdbc", "postgres"];
    let among = |names: &[&str]| names.iter().any(|name| target.format.eq_ignore_ascii_case(name));
    if among(KEEPS_NOTHING) && mode != SaveMode::Ignore {
        return Ok(false);
    }
    if !among(TABLES) {
        let mode = if mode == SaveMode::Ignore { "Ignore" } else { "ErrorIfExists" };
        return Err(Error::invalid(
            "UNSUPPORTED_DATA_SOURCE_SAVE_MODE",
            format!(
                "the data source \"{}\" cannot be written in the \"{mode}\" mode: use either the \"Append\" or \
                 \"Overwrite\" mode instead",
                target.format
            ),
        ));
    }
    let options = crate::session::with_defaults(&target.format, &target.options, &planner.sql.conf);
    let connector = planner.session.statements().planner.connector(&target.format)?;
    match connector.table(&options, None).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::NotFound || error.class == "TABLE_OR_VIEW_NOT_FOUND" => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether anything lies under the path.
async fn files_exist(target: &TableDefinition) -> Result<bool> {
    if target.options.get("path").is_none() {
        return Err(Error::invalid(
            "DATA_SOURCE_PATH_NOT_SPECIFIED",
            format!("format {} needs a path: save(path), or option path", target.format),
        ));
    }
    files::has_files(&target.options).await
}

struct NewTable<'m> {
    name: &'m str,
    format: String,
    options: Options,
    partition_by: Vec<String>,
}

impl NewTable<'_> {
    fn definition(self, planner: &Planner<'_>, name: &str, frame: &Frame) -> Result<TableDefinition> {
        let sql = &planner.session.statements().planner;
        sql.connector(&self.format)?;
        let mut definition = TableDefinition::new(name, &self.format, self.options);
        if definition.is_files() {
            definition.schema = Some(ddl::columns_ddl(frame.schema().fields()));
        }
        definition.partition_by = self.partition_by;
        definition.partitions_last()?;
        Ok(definition)
    }
}

/// `saveAsTable`.
async fn save_as_table(planner: &mut Planner<'_>, frame: Frame, new: NewTable<'_>, mode: SaveMode) -> Result<()> {
    let (name, existing) = find_table(planner, new.name)?;
    match step(mode, existing.is_some()) {
        Step::Nothing => Ok(()),
        Step::AlreadyExists => Err(already_exists(&name)),
        Step::Write(WriteMode::Overwrite) => create_table(planner, frame, new, &name, Taken::Replace).await,
        Step::Write(mode) => match existing {
            Some(table) => {
                let connector = |format: &str| planner.session.statements().planner.connector(format);
                if !table.is_view() {
                    let formats = (connector(&table.format)?.format(), connector(&new.format)?.format());
                    check_append(&table, formats, &new, frame.schema().fields())?;
                }
                insert_into(planner, frame, new.name, mode, true).await
            }
            None => create_table(planner, frame, new, &name, Taken::Refuse).await,
        },
    }
}

/// What is appended by `saveAsTable` says again what the table is, and must say the same. `formats`: the table's and the
/// write's.
fn check_append(table: &TableDefinition, formats: (&str, &str), new: &NewTable<'_>, columns: &Fields) -> Result<()> {
    let name = &table.name;
    if formats.0 != formats.1 {
        return Err(Error::invalid(
            "_LEGACY_ERROR_TEMP_1159",
            format!(
                "the format of the existing table {name} is `{0}`, and it doesn't match the specified format `{1}`: \
                 append with format(\"{0}\")",
                formats.0, formats.1
            ),
        ));
    }
    if let (Some(place), Some(path)) = (table.path(), new.options.get("path")) {
        let url = |path: &str| parse_location(path, &new.options).map(|(.., url)| url);
        let (place, path) = (url(place)?, url(path)?);
        if place.as_str().trim_end_matches('/') != path.as_str().trim_end_matches('/') {
            return Err(Error::invalid(
                "_LEGACY_ERROR_TEMP_1160",
                format!(
                    "the location of the existing table {name} is `{place}`, and it doesn't match the specified location \
                     `{path}`: leave out option path"
                ),
            ));
        }
    }
    if let Some(schema) = &table.schema {
        let known = ddl::parse_ddl(schema)?;
        let shown = |fields: &Fields| ddl::simple_name(&DataType::Struct(fields.clone()));
        if known.fields().len() != columns.len() {
            return Err(Error::invalid(
                "_LEGACY_ERROR_TEMP_1161",
                format!(
                    "the column number of the existing table {name} ({}) doesn't match the data schema ({}): give all its \
                     columns",
                    shown(known.fields()),
                    shown(columns)
                ),
            ));
        }
        let given = |column: &str| columns.iter().any(|field| field.name().to_lowercase() == column.to_lowercase());
        if let Some(missing) = known.fields().iter().find(|field| !given(field.name())) {
            let names = columns.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(
                "_LEGACY_ERROR_TEMP_1162",
                format!("cannot resolve '{}' of table {name} given input columns: [{names}]", missing.name()),
            ));
        }
    }
    let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>();
    if table.is_files() && lower(&table.partition_by) != lower(&new.partition_by) {
        return Err(Error::invalid(
            "_LEGACY_ERROR_TEMP_1163",
            format!(
                "specified partitioning does not match that of the existing table {name}: specified partition columns: \
                 [{}], existing partition columns: [{}]: append with partitionBy() of these",
                new.partition_by.join(", "),
                table.partition_by.join(", ")
            ),
        ));
    }
    Ok(())
}

fn already_exists(name: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        format!(
            "cannot create table or view `{name}` because it already exists: choose a different name, drop it, or use another mode"
        ),
    )
}

/// A table's name in the catalog, and the table.
fn find_table(planner: &Planner<'_>, text: &str) -> Result<(String, Option<TableDefinition>)> {
    let name = table_name(text, None)?;
    let sql = &planner.session.statements().planner;
    let own = sql.own_name(&name, &planner.sql)?;
    match sql.lookup(&name, &planner.sql) {
        Ok(definition) => Ok((own, Some(definition))),
        Err(error) if error.class == "TABLE_OR_VIEW_NOT_FOUND" => Ok((own, None)),
        Err(error) => Err(error),
    }
}

async fn create_table(
    planner: &mut Planner<'_>,
    frame: Frame,
    new: NewTable<'_>,
    name: &str,
    taken: Taken,
) -> Result<()> {
    let sql = Arc::clone(&planner.session.statements().planner);
    let definition = sql.settled(new.definition(planner, name, &frame)?).await?;
    let input = planner.rows_of(frame)?;
    let input = sql.fitted(input, &definition, true, &planner.sql.conf).await?;
    let said = planner.session.statements().create_as(&input, &definition, taken, &planner.sql, None).await?;
    tracing::debug!(said, "written");
    Ok(())
}

async fn insert_into(
    planner: &mut Planner<'_>,
    frame: Frame,
    table: &str,
    mode: WriteMode,
    by_name: bool,
) -> Result<()> {
    let sql = Arc::clone(&planner.session.statements().planner);
    let target = sql.lookup(&table_name(table, None)?, &planner.sql)?;
    if target.is_view() {
        return Err(Error::invalid(
            "UNSUPPORTED_INSERT.VIEW",
            format!("cannot insert into view `{}`: name the table that it shows", target.name),
        ));
    }
    let input = planner.rows_of(frame)?;
    let input = sql.fitted(input, &target, by_name, &planner.sql.conf).await?;
    run(planner, &input, &target, mode).await
}

async fn run(planner: &Planner<'_>, input: &LogicalPlan, target: &TableDefinition, mode: WriteMode) -> Result<()> {
    let said = planner.session.statements().write(input, target, mode, &target.name, &planner.sql, None).await?;
    tracing::debug!(said, "written");
    Ok(())
}

impl Planner<'_> {
    /// The plan that makes a frame's rows, under the names that users see, of the types that sinks know.
    pub(super) fn rows_of(&mut self, frame: Frame) -> Result<LogicalPlan> {
        let named = frame.named()?;
        let options = self.state.config_options();
        let plan = self.state.analyzer().execute_and_check(named, options, |_, _| {}).map_err(from_datafusion)?;
        Ok(plan)
    }
}

/// `df.writeTo`.
///
/// # Errors
/// Spark's error classes; those of the sink.
pub async fn write_v2(session: &Arc<Session>, message: &spark::WriteOperationV2) -> Result<()> {
    if !message.clustering_columns.is_empty() {
        return Err(unsupported("a write with clusterBy"));
    }
    if message.with_schema_evolution {
        return Err(unsupported("a write with schema evolution"));
    }
    if !message.table_properties.is_empty()
        && matches!(message.mode(), Mode::Append | Mode::Overwrite | Mode::OverwritePartitions)
    {
        return Err(unsupported("table properties in a write to a table that is there"));
    }
    let mut planner = Planner::new(session)?;
    let frame = planner.relation(input_of(message.input.as_ref(), "the rows of a write")?).await?;
    refuse_stream(&frame)?;
    let mut partition_by = vec![];
    for expression in &message.partitioning_columns {
        let named = planner.expressions(&frame).one(expression)?;
        match named.attribute {
            Some(attribute) => partition_by.push(attribute.name),
            None => return Err(unsupported(&format!("partitioning by {}: name a column", named.text))),
        }
    }
    let (name, existing) = find_table(&planner, &message.table_name)?;
    let missing = || {
        Error::new(
            ErrorKind::NotFound,
            "TABLE_OR_VIEW_NOT_FOUND",
            format!("the table or view `{name}` cannot be found: create it with writeTo(…).create()"),
        )
    };
    let options = Options::new(message.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let configured = session.conf("spark.sql.sources.default").unwrap_or_else(|| "parquet".into());
    let format = message.provider.clone().filter(|provider| !provider.is_empty()).unwrap_or(configured);
    let new = NewTable { name: &message.table_name, format, options, partition_by };
    match message.mode() {
        Mode::Create if existing.is_some() => Err(already_exists(&name)),
        Mode::Create => create_table(&mut planner, frame, new, &name, Taken::Refuse).await,
        Mode::Replace if existing.is_none() => Err(missing()),
        Mode::Replace | Mode::CreateOrReplace => create_table(&mut planner, frame, new, &name, Taken::Replace).await,
        Mode::Append | Mode::Overwrite if existing.is_none() => Err(missing()),
        Mode::Append => insert_into(&mut planner, frame, &message.table_name, WriteMode::Append, true).await,
        Mode::Overwrite => {
            let condition = required(message.overwrite_condition.as_ref(), "the condition of an overwrite")?;
            let named = planner.expressions(&frame).one(condition)?;
            if named.expr.as_literal() != Some(&ScalarValue::Boolean(Some(true))) {
                return Err(unsupported(&format!(
                    "an overwrite of the rows in which {}: overwrite all with lit(True)",
                    named.text
                )));
            }
            insert_into(&mut planner, frame, &message.table_name, WriteMode::Overwrite, true).await
        }
        Mode::OverwritePartitions => Err(unsupported("overwritePartitions")),
        Mode::Unspecified => Err(unsupported("a write without a mode")),
    }
}

/// A frame's rows, kept as files under `path`, and the frame that reads them.
///
/// # Errors
/// Those of the write; types that Parquet does not have.
pub async fn kept(planner: &mut Planner<'_>, frame: Frame, path: &str) -> Result<Frame> {
    refuse_stream(&frame)?;
    let shown = frame.columns().to_vec();
    let names = (0..shown.len()).map(|at| super::frame::Attribute { name: format!("c{at}"), ..shown[at].clone() });
    let numbered = frame.showing(names.collect());
    let schema = numbered.schema();
    let input = planner.rows_of(numbered)?;
    let target = TableDefinition::new(path, "parquet", Options::new([("path", path)]));
    run(planner, &input, &target, WriteMode::Overwrite).await?;
    let connector = planner.session.statements().planner.connector("parquet")?;
    let schema = types::parse_columns(&ddl::columns_ddl(schema.fields()))?;
    let table = connector.table(&target.options, Some(schema)).await?;
    let read = planner.of_table("checkpoint", table)?;
    let columns = read
        .columns()
        .iter()
        .zip(shown)
        .map(|(column, shown)| super::frame::Attribute { id: column.id.clone(), ..shown })
        .collect();
    Ok(read.showing(columns))
}

/// Removes what [`kept`] wrote.
///
/// # Errors
/// A store that cannot be reached.
pub async fn removed(path: &str) -> Result<()> {
    files::remove_all(&Options::new([("path", path)])).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (mode, exists, expect) in [
            (SaveMode::Append, true, Step::Write(WriteMode::Append)),
            (SaveMode::Overwrite, true, Step::Write(WriteMode::Overwrite)),
            (SaveMode::Overwrite, false, Step::Write(WriteMode::Overwrite)),
            (SaveMode::ErrorIfExists, true, Step::AlreadyExists),
            (SaveMode::Unspecified, true, Step::AlreadyExists),
            (SaveMode::ErrorIfExists, false, Step::Write(WriteMode::Append)),
            (SaveMode::Ignore, true, Step::Nothing),
            (SaveMode::Ignore, false, Step::Write(WriteMode::Append)),
        ] {
            assert_eq!(step(mode, exists), expect, "{mode:?} {exists}");
        }
    }

    #[test]
    fn appends_say_what_the_table_is() {
        let mut table = TableDefinition::new("t", "parquet", Options::new([("path", "/w/t")]));
        table.schema = Some("a INT, B STRING, day DATE".into());
        table.partition_by = vec!["day".into()];
        let check = |format: &str, path: Option<&str>, columns: &str, partition_by: &[&str], expect: &str| {
            let new = NewTable {
                name: "t",
                format: format.into(),
                options: Options::new(path.map(|path| ("path", path))),
                partition_by: partition_by.iter().map(|column| (*column).to_string()).collect(),
            };
            let columns = ddl::parse_ddl(columns).expect(columns);
            let refused = check_append(&table, ("parquet", format), &new, columns.fields());
            assert_eq!(refused.err().map(|error| error.class).unwrap_or_default(), expect);
        };
        check("parquet", None, "b STRING, day DATE, A BIGINT", &["DAY"], "");
        check("parquet", Some("file:///w/t/"), "a INT, b STRING, day DATE", &["day"], "");
        check("csv", None, "a INT", &[], "_LEGACY_ERROR_TEMP_1159");
        check("parquet", Some("/w/u"), "a INT", &[], "_LEGACY_ERROR_TEMP_1160");
        check("parquet", None, "a INT, b STRING", &["day"], "_LEGACY_ERROR_TEMP_1161");
        check("parquet", None, "a INT, b STRING, c INT, day DATE", &["day"], "_LEGACY_ERROR_TEMP_1161");
        check("parquet", None, "a INT, c STRING, day DATE", &["day"], "_LEGACY_ERROR_TEMP_1162");
        check("parquet", None, "a INT, b STRING, day DATE", &[], "_LEGACY_ERROR_TEMP_1163");
    }
}
