//! What `spark.catalog` asks: answers are rows.

use super::Planner;
use super::expression::{required, unsupported};
use super::frame::{Frame, parse_name};
use super::functions;
use crate::session::Session as SqlSession;
use crate::sql::catalog::{CATALOG, DEFAULT, Database, FILE_FORMATS, TableDefinition};
use crate::sql::error::from_datafusion;
use crate::sql::parser::{CreateTable, Name, Statement};
use crate::sql::planner::{matches_pattern, show_create};
use crate::streaming::manager::StartOptions;
use arrow::array::{ArrayRef, BooleanArray, ListBuilder, RecordBatch, StringArray, StringBuilder};
use headwater_executor::connectors::Options;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, ErrorKind, Result};
use headwater_proto::spark;
use headwater_proto::spark::catalog::CatType;
use std::sync::Arc;

impl Planner<'_> {
    /// A question to the catalog, or a change of it.
    pub(super) async fn catalog(&mut self, message: &spark::Catalog) -> Result<Frame> {
        let planner = Arc::clone(&self.session.statements().planner);
        match required(message.cat_type.as_ref(), "the question to the catalog")? {
            CatType::CurrentDatabase(_) => {
                let current = self.sql.database.clone().unwrap_or_else(|| DEFAULT.into());
                self.one_text("current_database", &current)
            }
            CatType::CurrentCatalog(_) => self.one_text("current_catalog", CATALOG),
            CatType::SetCurrentDatabase(set) => {
                self.execute(&Statement::Use(Name(parse_name(&set.db_name)?))).await?;
                self.nothing()
            }
            CatType::SetCurrentCatalog(set) => {
                if !set.catalog_name.eq_ignore_ascii_case(CATALOG) {
                    return Err(not_found(
                        "CATALOG_NOT_FOUND",
                        format!("the catalog `{}` is not found: there is {CATALOG}", set.catalog_name),
                    ));
                }
                self.nothing()
            }
            CatType::DatabaseExists(asked) => {
                let name = Name(parse_name(&asked.db_name)?);
                self.one_truth(planner.database(&name).is_ok())
            }
            CatType::ListDatabases(asked) => {
                let mut all = planner.catalog().databases();
                all.retain(|database| matches_pattern(&database.name, asked.pattern.as_deref()));
                self.databases(&all)
            }
            CatType::GetDatabase(asked) => {
                let found = planner.database(&Name(parse_name(&asked.db_name)?))?;
                self.databases(&[found])
            }
            CatType::ListCatalogs(asked) => {
                let names: Vec<&str> =
                    [CATALOG].into_iter().filter(|name| matches_pattern(name, asked.pattern.as_deref())).collect();
                self.rows(vec![
                    ("name", texts(names.iter().map(|name| Some(*name)))),
                    ("description", texts(names.iter().map(|_| None::<&str>))),
                ])
            }
            CatType::ListTables(asked) => {
                let tables = self.tables(asked.db_name.as_deref(), asked.pattern.as_deref())?;
                self.table_rows(&tables)
            }
            CatType::ListViews(asked) => {
                let mut tables = self.tables(asked.db_name.as_deref(), asked.pattern.as_deref())?;
                tables.retain(|table| table.kind != "MANAGED" && table.kind != "EXTERNAL");
                self.table_rows(&tables)
            }
            CatType::GetTable(asked) => {
                let name = table_name(&asked.table_name, asked.db_name.as_deref())?;
                let definition = planner.lookup(&name, &self.sql)?;
                let temporary = is_temporary(&name, &self.sql);
                self.table_rows(&[self.table(&definition, temporary)])
            }
            CatType::TableExists(asked) => {
                let name = table_name(&asked.table_name, asked.db_name.as_deref())?;
                match planner.lookup(&name, &self.sql) {
                    Ok(_) => self.one_truth(true),
                    Err(error) if error.kind == ErrorKind::NotFound => self.one_truth(false),
                    Err(error) => Err(error),
                }
            }
            CatType::ListColumns(asked) => {
                let name = table_name(&asked.table_name, asked.db_name.as_deref())?;
                let definition = planner.lookup(&name, &self.sql)?;
                let schema = planner.table_schema(&name, &self.sql).await?;
                let fields = schema.fields();
                let partition =
                    |column: &str| definition.partition_by.iter().any(|known| known.eq_ignore_ascii_case(column));
                self.rows(vec![
                    ("name", texts(fields.iter().map(|field| Some(field.name().as_str())))),
                    (
                        "description",
                        texts(fields.iter().map(|field| field.metadata().get("comment").map(String::as_str))),
                    ),
                    ("dataType", texts(fields.iter().map(|field| Some(ddl::declared_name(field))))),
                    ("nullable", truths(fields.iter().map(|field| field.is_nullable()))),
                    ("isPartition", truths(fields.iter().map(|field| partition(field.name())))),
                    ("isBucket", truths(fields.iter().map(|_| false))),
                    ("isCluster", truths(fields.iter().map(|_| false))),
                ])
            }
            CatType::ListFunctions(asked) => {
                if let Some(name) = &asked.db_name {
                    planner.database(&Name(parse_name(name)?))?;
                }
                let names = planner.function_names()?;
                let names: Vec<String> =
                    names.into_iter().filter(|name| matches_pattern(name, asked.pattern.as_deref())).collect();
                self.function_rows(&names)
            }
            CatType::GetFunction(asked) => {
                let name = parse_name(&asked.function_name)?.pop().unwrap_or_default();
                if !functions::exists(&self.state, &name) {
                    return Err(super::expression::unresolved_routine(&name));
                }
                self.function_rows(&[name])
            }
            CatType::FunctionExists(asked) => {
                let name = parse_name(&asked.function_name)?.pop().unwrap_or_default();
                self.one_truth(functions::exists(&self.state, &name))
            }
            CatType::DropTempView(asked) => self.drop_temporary(&asked.view_name.to_lowercase()).await,
            CatType::DropGlobalTempView(asked) => {
                self.drop_temporary(&format!("global_temp.{}", asked.view_name.to_lowercase())).await
            }
            CatType::DropTable(asked) => self.drop_named(&asked.table_name, asked.if_exists, false).await,
            CatType::DropView(asked) => self.drop_named(&asked.view_name, asked.if_exists, true).await,
            CatType::GetCreateTableString(asked) => {
                let definition = planner.lookup(&table_name(&asked.table_name, None)?, &self.sql)?;
                self.one_text("createtab_stmt", &show_create(&definition))
            }
            CatType::GetTableProperties(asked) => {
                let definition = planner.lookup(&table_name(&asked.table_name, None)?, &self.sql)?;
                self.rows(vec![
                    ("key", texts(definition.properties.keys().map(Some))),
                    ("value", texts(definition.properties.values().map(Some))),
                ])
            }
            CatType::IsCached(asked) => {
                let name = table_name(&asked.table_name, None)?;
                planner.lookup(&name, &self.sql)?;
                let key = planner.cache_key(&name, &self.sql)?;
                self.one_truth(self.sql.cached.contains(&key))
            }
            CatType::CacheTable(asked) => {
                let name = table_name(&asked.table_name, None)?;
                self.execute(&Statement::Cache { name, query: None }).await?;
                self.nothing()
            }
            CatType::UncacheTable(asked) => {
                let name = Some(table_name(&asked.table_name, None)?);
                self.execute(&Statement::Uncache { name, if_exists: false }).await?;
                self.nothing()
            }
            CatType::ClearCache(_) => {
                self.execute(&Statement::Uncache { name: None, if_exists: true }).await?;
                self.nothing()
            }
            // Nothing is kept in memory beyond a query: there is nothing to do but to check the name.
            CatType::RefreshTable(asked) => {
                planner.lookup(&table_name(&asked.table_name, None)?, &self.sql)?;
                self.nothing()
            }
            CatType::RefreshByPath(_) => self.nothing(),
            CatType::CreateTable(asked) => {
                let create = CreatedTable {
                    name: &asked.table_name,
                    path: asked.path.as_deref(),
                    source: asked.source.as_deref(),
                    comment: asked.description.as_deref(),
                    schema: asked.schema.as_ref(),
                    options: &asked.options,
                };
                self.create_table(create).await
            }
            CatType::CreateExternalTable(asked) => {
                let create = CreatedTable {
                    name: &asked.table_name,
                    path: asked.path.as_deref(),
                    source: asked.source.as_deref(),
                    comment: None,
                    schema: asked.schema.as_ref(),
                    options: &asked.options,
                };
                self.create_table(create).await
            }
            CatType::CreateDatabase(asked) => {
                let property = |key: &str| asked.properties.get(key).cloned();
                let own = asked.properties.iter().filter(|(key, _)| !["comment", "location"].contains(&key.as_str()));
                let statement = Statement::CreateDatabase {
                    name: Name(parse_name(&asked.db_name)?),
                    if_not_exists: asked.if_not_exists,
                    comment: property("comment"),
                    location: property("location"),
                    properties: own.map(|(key, value)| (key.clone(), value.clone())).collect(),
                };
                self.execute(&statement).await?;
                self.nothing()
            }
            CatType::DropDatabase(asked) => {
                let name = Name(parse_name(&asked.db_name)?);
                let statement = Statement::DropDatabase { name, if_exists: asked.if_exists, cascade: asked.cascade };
                self.execute(&statement).await?;
                self.nothing()
            }
            CatType::RecoverPartitions(_) => {
                Err(unsupported("recoverPartitions: partitions are found when a table is read"))
            }
            CatType::ListPartitions(_) => Err(unsupported("listPartitions")),
            CatType::TruncateTable(_) => Err(unsupported("truncateTable: overwrite the table with no rows")),
            CatType::AnalyzeTable(_) => Err(unsupported("analyzeTable: statistics are those of the files")),
        }
    }

    fn rows(&self, columns: Vec<(&str, ArrayRef)>) -> Result<Frame> {
        let columns = columns.into_iter().map(|(name, values)| (name, values, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| from_datafusion(error.into()))?;
        self.of_rows(rows)
    }

    fn one_text(&self, name: &str, value: &str) -> Result<Frame> {
        self.rows(vec![(name, texts([Some(value)]))])
    }

    fn one_truth(&self, value: bool) -> Result<Frame> {
        self.rows(vec![("value", truths([value]))])
    }

    /// The answer of what has none.
    fn nothing(&self) -> Result<Frame> {
        self.rows(vec![("value", texts(Vec::<Option<&str>>::new()))])
    }

    fn databases(&self, all: &[Database]) -> Result<Frame> {
        self.rows(vec![
            ("name", texts(all.iter().map(|database| Some(database.name.as_str())))),
            ("catalog", texts(all.iter().map(|_| Some(CATALOG)))),
            ("description", texts(all.iter().map(|database| database.comment.as_deref()))),
            ("locationUri", texts(all.iter().map(|database| Some(database.location.as_str())))),
        ])
    }

    /// Tables of a database, and temporary views.
    fn tables(&self, database: Option<&str>, pattern: Option<&str>) -> Result<Vec<Table>> {
        let planner = &self.session.statements().planner;
        let catalog = planner.catalog();
        let database = match database {
            Some(name) => planner.database(&Name(parse_name(name)?))?.name,
            None => self.sql.database.clone().unwrap_or_else(|| DEFAULT.into()),
        };
        let kept = catalog.list().into_iter().filter(|table| catalog.split(&table.name).0 == database);
        let mut tables: Vec<Table> = kept
            .map(|table| self.table(&table, false))
            .chain(self.sql.views.values().map(|view| self.table(view, true)))
            .chain(self.sql.plans.iter().filter(|(key, _)| !key.starts_with("global_temp.")).map(|(_, view)| Table {
                name: view.name.clone(),
                database: String::new(),
                kind: "TEMPORARY",
                temporary: true,
                comment: None,
            }))
            .filter(|table| matches_pattern(&table.name, pattern))
            .collect();
        tables.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(tables)
    }

    fn table(&self, definition: &TableDefinition, temporary: bool) -> Table {
        let kind = if temporary { "TEMPORARY" } else { definition.kind() };
        let (database, name) = self.session.statements().planner.catalog().split(&definition.name);
        Table { name: name.to_string(), database, kind, temporary, comment: definition.comment.clone() }
    }

    fn table_rows(&self, tables: &[Table]) -> Result<Frame> {
        let mut namespaces = ListBuilder::new(StringBuilder::new());
        for table in tables {
            if !table.temporary {
                namespaces.values().append_value(&table.database);
            }
            namespaces.append(true);
        }
        self.rows(vec![
            ("name", texts(tables.iter().map(|table| Some(table.name.as_str())))),
            ("catalog", texts(tables.iter().map(|table| (!table.temporary).then_some(CATALOG)))),
            ("namespace", Arc::new(namespaces.finish())),
            ("description", texts(tables.iter().map(|table| table.comment.as_deref()))),
            ("tableType", texts(tables.iter().map(|table| Some(table.kind)))),
            ("isTemporary", truths(tables.iter().map(|table| table.temporary))),
        ])
    }

    fn function_rows(&self, names: &[String]) -> Result<Frame> {
        let mut namespaces = ListBuilder::new(StringBuilder::new());
        for _ in names {
            namespaces.append(false);
        }
        self.rows(vec![
            ("name", texts(names.iter().map(Some))),
            ("catalog", texts(names.iter().map(|_| None::<&str>))),
            ("namespace", Arc::new(namespaces.finish())),
            ("description", texts(names.iter().map(|_| None::<&str>))),
            ("className", texts(names.iter().map(|_| Some("")))),
            ("isTemporary", truths(names.iter().map(|_| true))),
        ])
    }

    /// Whether there was such a view.
    async fn drop_temporary(&mut self, key: &str) -> Result<Frame> {
        let there = self
            .session
            .with_sql(async |sql: &mut SqlSession| {
                sql.cached.remove(key);
                let (plans, views) = (sql.plans.remove(key).is_some(), sql.views.remove(key).is_some());
                plans || views
            })
            .await;
        self.sql = self.session.sql();
        self.one_truth(there)
    }

    async fn drop_named(&mut self, name: &str, if_exists: bool, view: bool) -> Result<Frame> {
        let statement = Statement::Drop { name: table_name(name, None)?, if_exists, view };
        self.execute(&statement).await?;
        self.nothing()
    }

    async fn execute(&mut self, statement: &Statement) -> Result<()> {
        let statements = self.session.statements().clone();
        let done = self
            .session
            .with_sql(async |sql: &mut SqlSession| {
                statements.execute(statement, sql, &StartOptions::default(), None).await.map(drop)
            })
            .await;
        self.sql = self.session.sql();
        done
    }

    async fn create_table(&mut self, table: CreatedTable<'_>) -> Result<Frame> {
        let name = table_name(table.name, None)?;
        let configured = self.session.conf("spark.sql.sources.default");
        let columns = match table.schema {
            Some(schema) => match super::types::from_proto(schema)? {
                arrow::datatypes::DataType::Struct(fields) if !fields.is_empty() => Some(ddl::columns_ddl(&fields)),
                _ => None,
            },
            None => None,
        };
        let format = table.source.map(str::to_string).or(configured).unwrap_or_else(|| "parquet".into());
        if columns.is_none() {
            self.has_columns(&format, &table).await?;
        }
        let statement = Statement::CreateTable(CreateTable {
            name: name.clone(),
            or_replace: false,
            if_not_exists: false,
            streaming: false,
            columns,
            format,
            options: table.options.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            partition_by: vec![],
            location: table.path.map(str::to_string),
            comment: table.comment.filter(|text| !text.is_empty()).map(str::to_string),
            properties: vec![],
            query: None,
        });
        self.execute(&statement).await?;
        let quoted = name.to_string();
        self.query(&format!("SELECT * FROM {quoted}")).await
    }

    /// The DataFrame of a new table is asked for at once: files that are to give its columns have to be there.
    async fn has_columns(&self, format: &str, table: &CreatedTable<'_>) -> Result<()> {
        if !FILE_FORMATS.iter().any(|known| known.eq_ignore_ascii_case(format)) {
            return Ok(());
        }
        let mut options = Options::new(table.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if let Some(path) = table.path {
            options.set("path", path);
        }
        let found = match options.get("path") {
            Some(_) => self.session.statements().planner.connector(format)?.table(&options, None).await.map(drop),
            None if format.eq_ignore_ascii_case("text") => Ok(()),
            None => Err(not_found("PATH_NOT_FOUND", String::new())),
        };
        match found {
            Err(error) if error.class == "PATH_NOT_FOUND" => Err(Error::invalid(
                "UNABLE_TO_INFER_SCHEMA",
                format!(
                    "unable to infer schema for {format} of table {}: it must be specified: give schema=…",
                    table.name
                ),
            )),
            other => other,
        }
    }
}

struct CreatedTable<'m> {
    name: &'m str,
    path: Option<&'m str>,
    source: Option<&'m str>,
    comment: Option<&'m str>,
    schema: Option<&'m spark::DataType>,
    options: &'m std::collections::HashMap<String, String>,
}

struct Table {
    name: String,
    database: String,
    kind: &'static str,
    temporary: bool,
    comment: Option<String>,
}

/// A table's name of one part or several, beside the name of its database.
pub fn table_name(text: &str, database: Option<&str>) -> Result<Name> {
    let mut parts = parse_name(text)?;
    if let (Some(database), 1) = (database.filter(|database| !database.is_empty()), parts.len()) {
        let mut whole = parse_name(database)?;
        whole.append(&mut parts);
        parts = whole;
    }
    Ok(Name(parts))
}

fn is_temporary(name: &Name, sql: &SqlSession) -> bool {
    let key = name.0.join(".").to_lowercase();
    sql.views.contains_key(&key) || sql.plans.contains_key(&key)
}

fn not_found(class: &str, message: String) -> Error {
    Error::new(ErrorKind::NotFound, class, message)
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn truths(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<BooleanArray>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables() {
        let name = |text: &str, database: Option<&str>| table_name(text, database).map(|name| name.0.join("/"));
        assert_eq!(name("t", None).ok().as_deref(), Some("t"));
        assert_eq!(name("t", Some("default")).ok().as_deref(), Some("default/t"));
        assert_eq!(name("a.t", Some("default")).ok().as_deref(), Some("a/t"));
        assert_eq!(name("t", Some("")).ok().as_deref(), Some("t"));
    }
}
