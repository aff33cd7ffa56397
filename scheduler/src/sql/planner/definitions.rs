//! Statements about the catalog itself: databases, changes of tables, and what is shown of both.

use super::{
    Build, Lookup, Planned, Planner, Removal, answer, files_at, holds, text_column, unbracketed, view_key, wrong_kind,
};
use crate::session::Session;
use crate::sql::catalog::{CATALOG, DEFAULT, Database, TableDefinition, Taken};
use crate::sql::parser::{Change, Name, QueryText, Shown, Statement};
use arrow::datatypes::{DataType, Fields, SchemaRef};
use headwater_executor::connectors::files;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Formats whose files may lack a column that the table has: it is null then.
const GROWING: &[&str] = &["parquet", "json"];

impl Planner {
    /// The key of a table or view in the catalog: its name, after that of its database unless that is the default one.
    ///
    /// # Errors
    /// `SCHEMA_NOT_FOUND`.
    pub fn own_name(&self, name: &Name, session: &Session) -> Result<String> {
        self.name_in(name, session.database.as_deref().unwrap_or(DEFAULT))
    }

    /// The same, where `current` is the current database.
    pub(super) fn name_in(&self, name: &Name, current: &str) -> Result<String> {
        let (database, table) = match name.0.as_slice() {
            [table] => (current, table),
            [database, table] => (database.as_str(), table),
            [catalog, database, table] if catalog.eq_ignore_ascii_case(CATALOG) => (database.as_str(), table),
            _ => return Err(no_database(&name.0.join("."))),
        };
        let found = self.catalog.database(database).ok_or_else(|| no_database(database))?;
        Ok(if found.name == DEFAULT { table.clone() } else { format!("{}.{table}", found.name) })
    }

    /// The database of this name.
    ///
    /// # Errors
    /// `SCHEMA_NOT_FOUND`.
    pub fn database(&self, name: &Name) -> Result<Database> {
        let found = match name.0.as_slice() {
            [database] => self.catalog.database(database),
            [catalog, database] if catalog.eq_ignore_ascii_case(CATALOG) => self.catalog.database(database),
            _ => None,
        };
        found.ok_or_else(|| no_database(&name.0.join(".")))
    }

    /// Makes a database the current one. `USE spark_catalog` changes nothing.
    ///
    /// # Errors
    /// `SCHEMA_NOT_FOUND`.
    pub fn use_database(&self, name: &Name, session: &mut Session) -> Result<()> {
        if matches!(name.0.as_slice(), [catalog] if catalog.eq_ignore_ascii_case(CATALOG)) {
            return Ok(());
        }
        let found = self.database(name)?;
        session.database = (found.name != DEFAULT).then_some(found.name);
        Ok(())
    }

    pub(super) async fn define(&self, statement: &Statement, session: &mut Session) -> Result<Planned> {
        match statement {
            Statement::Use(name) => {
                self.use_database(name, session)?;
                Ok(Planned::Done(format!("using {}", session.database.as_deref().unwrap_or(DEFAULT))))
            }
            Statement::UseCatalog(name) => {
                if !name.eq_ignore_ascii_case(CATALOG) {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        "CATALOG_NOT_FOUND",
                        format!("the catalog `{name}` is not found: there is {CATALOG}"),
                    ));
                }
                Ok(Planned::Done(format!("using {CATALOG}")))
            }
            Statement::CreateDatabase { name, if_not_exists, comment, location, properties } => {
                let name = database_name(name)?;
                let database = Database {
                    name: name.clone(),
                    comment: comment.clone(),
                    location: location
                        .clone()
                        .unwrap_or_else(|| format!("{}/{}.db", self.catalog.warehouse(), name.to_lowercase())),
                    properties: properties.iter().cloned().collect(),
                };
                let created = self.catalog.create_database(database, *if_not_exists).await?;
                Ok(Planned::Done(format!("{} database {name}", if created { "created" } else { "kept" })))
            }
            Statement::DropDatabase { name, if_exists, cascade } => {
                self.drop_database(name, *if_exists, *cascade).await
            }
            Statement::Alter { name, view, change } => self.alter(name, *view, change, session).await,
            Statement::Cache { name, query } => self.cache(name, query.as_ref(), session).await,
            Statement::Uncache { name: None, .. } => {
                session.cached.clear();
                Ok(Planned::Done("nothing is cached".into()))
            }
            Statement::Uncache { name: Some(name), if_exists } => {
                match self.lookup(name, session) {
                    Err(error) if error.kind == ErrorKind::NotFound && *if_exists => {}
                    found => {
                        found?;
                        let key = self.cache_key(name, session)?;
                        session.cached.remove(&key);
                    }
                }
                Ok(Planned::Done(format!("{} is not cached", name.0.join("."))))
            }
            Statement::Refresh(name) => {
                if let Some(name) = name {
                    self.lookup(name, session)?;
                }
                Ok(Planned::Done("everything is read anew at each use".into()))
            }
            Statement::Show(shown) => self.shown(shown, session).await,
            _ => Err(Error::internal("define was given another statement")),
        }
    }

    async fn drop_database(&self, name: &Name, if_exists: bool, cascade: bool) -> Result<Planned> {
        let found = match self.database(name) {
            Err(_) if if_exists => return Ok(Planned::Done(format!("there is no database {}", name.0.join(".")))),
            found => found?,
        };
        if found.name == DEFAULT {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE.DROP_DATABASE",
                format!("the database `{DEFAULT}` cannot be dropped: drop its tables"),
            ));
        }
        let tables: Vec<TableDefinition> =
            self.catalog.list().into_iter().filter(|table| self.catalog.split(&table.name).0 == found.name).collect();
        if !tables.is_empty() && !cascade {
            return Err(Error::invalid(
                "SCHEMA_NOT_EMPTY",
                format!(
                    "cannot drop the schema `{}` because it contains tables: add CASCADE to drop them too",
                    found.name
                ),
            ));
        }
        let said = format!("dropped database {}", found.name);
        Ok(Planned::Drop(Removal { tables, database: Some(found.name), then: None, said }))
    }

    /// Takes out of the catalog what is to go. The files of its tables stay: see [`Removal`].
    ///
    /// # Errors
    /// An unwritable store.
    pub async fn forget(&self, removal: &Removal) -> Result<()> {
        for table in &removal.tables {
            self.catalog.remove(&table.name).await?;
        }
        if let Some(database) = &removal.database {
            self.catalog.remove_database(database).await?;
        }
        Ok(())
    }

    /// A table of files that names no place gets its folder in the warehouse, and is managed.
    ///
    /// # Errors
    /// `INVALID_SCHEMA_OR_RELATION_NAME`; `LOCATION_ALREADY_EXISTS` when the folder has something that is not of the table
    /// which this one is to replace.
    pub async fn settled(&self, mut table: TableDefinition) -> Result<TableDefinition> {
        if !table.is_files() || ["path", "paths"].iter().any(|option| table.options.get(option).is_some()) {
            return Ok(table);
        }
        table.managed = true;
        let place = self.catalog.place(&table.name);
        let before = self.catalog.get(&table.name);
        let own = before.as_ref().filter(|before| before.managed);
        if let Some(path) = own.and_then(TableDefinition::path) {
            table.options.set("path", path);
            return Ok(table);
        }
        let (database, name) = self.catalog.split(&table.name);
        // Spark's rule, and the name becomes that of a folder, which is removed one day.
        // And names that begin with `_` are folders of ours.
        if name.is_empty()
            || name.starts_with('_')
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(Error::invalid(
                "INVALID_SCHEMA_OR_RELATION_NAME",
                format!(
                    "`{name}` is not a valid name for tables/schemas: valid names only contain alphabet characters, \
                     numbers and _, and do not begin with _; a table that is given its LOCATION may have another"
                ),
            ));
        }
        table.options.set("path", &place);
        let others = self.catalog.list();
        let mut others = others.iter().filter(|other| !other.name.eq_ignore_ascii_case(&table.name));
        if others.any(|other| holds(&table, other)) || files::has_kept_files(&table.options).await? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "LOCATION_ALREADY_EXISTS",
                format!(
                    "cannot name the managed table as `{CATALOG}`.`{database}`.`{name}`, as its associated location \
                     '{place}' already exists: pick a different table name, or remove the existing location first (what is \
                     there is another table's, or was left by a DROP TABLE that was cut short, or is none of a table's); \
                     to read it, give the table this LOCATION"
                ),
            ));
        }
        Ok(table)
    }

    async fn alter(&self, name: &Name, view: bool, change: &Change, session: &mut Session) -> Result<Planned> {
        let kind = if view { "view" } else { "table" };
        let found = self.lookup(name, session)?;
        if found.is_view() != view {
            return Err(wrong_kind(&found.name, kind, if found.is_view() { "view" } else { "table" }));
        }
        let temporary = match name.0.as_slice() {
            [single] => session.views.contains_key(&single.to_lowercase()).then(|| single.to_lowercase()),
            _ => None,
        };
        if view_key(name).is_some_and(|key| session.plans.contains_key(&key)) {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!("{} is a temporary view of a DataFrame: make it anew", found.name),
            ));
        }
        let mut changed = found.clone();
        match change {
            Change::SetProperties(pairs) => changed.properties.extend(pairs.iter().cloned()),
            Change::UnsetProperties { keys, if_exists } => {
                if let Some(missing) = keys.iter().find(|key| !changed.properties.contains_key(*key))
                    && !if_exists
                {
                    return Err(Error::invalid(
                        "UNSET_NONEXISTENT_PROPERTIES",
                        format!("{kind} {} has no property {missing}: add IF EXISTS", found.name),
                    ));
                }
                keys.iter().for_each(|key| drop(changed.properties.remove(key)));
            }
            Change::Comment(comment) => changed.comment.clone_from(comment),
            Change::AddColumns(columns) => {
                changed.schema = Some(grown(&found, columns)?);
                changed.partitions_last()?;
            }
            Change::Query(query) => {
                changed.query = Some(query.text.clone());
                changed.columns.clear();
                changed.database = Some(Lookup::Session(self, session).database());
                self.check_view(&changed, query, session).await?;
            }
            Change::Rename(to) => {
                changed.name = match &temporary {
                    Some(_) => to.0.last().cloned().unwrap_or_default(),
                    None => self.own_name(to, session)?,
                };
                if let Some(old) = temporary {
                    let new = changed.name.to_lowercase();
                    if session.views.contains_key(&new) || session.plans.contains_key(&new) {
                        return Err(Error::new(
                            ErrorKind::AlreadyExists,
                            "TEMP_TABLE_OR_VIEW_ALREADY_EXISTS",
                            format!("cannot rename to `{new}` because it already exists: drop it first"),
                        ));
                    }
                    session.views.remove(&old);
                    session.views.insert(new, changed);
                } else {
                    // The new name is there before the old one goes: in between, both mean the same.
                    self.catalog.create(changed, Taken::Refuse).await?;
                    self.catalog.remove(&found.name).await?;
                }
                return Ok(Planned::Done(format!("renamed {kind} {}", found.name)));
            }
        }
        match temporary {
            Some(key) => drop(session.views.insert(key, changed)),
            None => drop(self.catalog.create(changed, Taken::Replace).await?),
        }
        Ok(Planned::Done(format!("altered {kind} {}", found.name)))
    }

    /// Under which key [`Session::cached`] has a table or view. A temporary view hides a table of its name.
    ///
    /// # Errors
    /// `SCHEMA_NOT_FOUND`.
    pub fn cache_key(&self, name: &Name, session: &Session) -> Result<String> {
        let temporary = |key: &String| session.views.contains_key(key) || session.plans.contains_key(key);
        match view_key(name).filter(temporary) {
            Some(key) => Ok(key),
            None if files_at(name).is_some() => Ok(name.to_string()),
            None => Ok(format!("{CATALOG}.{}", self.own_name(name, session)?.to_lowercase())),
        }
    }

    /// `CACHE TABLE` is remembered; nothing is kept. `CACHE TABLE v AS query` makes a temporary view.
    async fn cache(&self, name: &Name, query: Option<&QueryText>, session: &mut Session) -> Result<Planned> {
        let Some(query) = query else {
            self.lookup(name, session)?;
            let key = self.cache_key(name, session)?;
            session.cached.insert(key);
            return Ok(Planned::Done(format!("{} is read anew at each use", name.0.join("."))));
        };
        let statement = Statement::CreateView {
            name: name.clone(),
            or_replace: false,
            if_not_exists: false,
            temporary: true,
            columns: vec![],
            comment: None,
            query: query.clone(),
        };
        let made = self.create_view(&statement, session).await?;
        let key = self.cache_key(name, session)?;
        session.cached.insert(key);
        Ok(made)
    }

    async fn shown(&self, shown: &Shown, session: &Session) -> Result<Planned> {
        let matching = |names: Vec<String>, pattern: &Option<String>| -> Vec<String> {
            names.into_iter().filter(|name| super::matches_pattern(name, pattern.as_deref())).collect()
        };
        let one = |name: &'static str, values: Vec<String>| answer([(name, text_column(values.iter().map(Some)))]);
        match shown {
            Shown::Databases(pattern) => {
                let names = self.catalog.databases().into_iter().map(|database| database.name).collect();
                one("namespace", matching(names, pattern))
            }
            Shown::Catalogs(pattern) => one("catalog", matching(vec![CATALOG.into()], pattern)),
            Shown::CurrentDatabase => answer([
                ("catalog", text_column([Some(CATALOG)])),
                ("namespace", text_column([Some(session.database.as_deref().unwrap_or(DEFAULT))])),
            ]),
            Shown::Columns(name) => {
                let schema = self.table_schema(name, session).await?;
                one("col_name", schema.fields().iter().map(|field| field.name().clone()).collect())
            }
            Shown::Properties(name, key) => {
                let table = self.lookup(name, session)?;
                if let Some(key) = key {
                    let missing = || format!("Table {} does not have property: {key}", table.name);
                    let value = table.properties.get(key).cloned().unwrap_or_else(missing);
                    return answer([("key", text_column([Some(key)])), ("value", text_column([Some(value)]))]);
                }
                answer([
                    ("key", text_column(table.properties.keys().map(Some))),
                    ("value", text_column(table.properties.values().map(Some))),
                ])
            }
            Shown::Database(name) => {
                let found = self.database(name)?;
                let rows = [
                    ("Catalog Name", CATALOG.to_string()),
                    ("Namespace Name", found.name),
                    ("Comment", found.comment.unwrap_or_default()),
                    ("Location", found.location),
                    ("Properties", unbracketed(&found.properties)),
                ];
                answer([
                    ("info_name", text_column(rows.iter().map(|row| Some(row.0)))),
                    ("info_value", text_column(rows.iter().map(|row| Some(&row.1)))),
                ])
            }
            Shown::Function(name) => {
                let known = self.function_names()?.iter().any(|known| known.eq_ignore_ascii_case(name))
                    || crate::sql::functions::is_syntax(&name.to_lowercase());
                let told = if known { format!("Function: {name}") } else { format!("Function: {name} not found.") };
                one("function_desc", vec![told])
            }
            Shown::Query(query) => {
                let mut build = Build::batch(self, session);
                if build.lookup.used(&query.ast)?.streams {
                    build.stream = Some(super::Stream::SHOWN);
                }
                let (_, plan) = build.query(&query.ast).await?;
                columns(plan.schema().inner())
            }
            Shown::Column(name, column) => {
                let schema = self.table_schema(name, session).await?;
                let found = schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(column));
                let Some(field) = found else {
                    return Err(Error::invalid(
                        "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
                        format!("a column with name `{column}` cannot be resolved in {name}"),
                    ));
                };
                let rows = [
                    ("col_name", field.name().clone()),
                    ("data_type", ddl::declared_name(field)),
                    ("comment", field.metadata().get("comment").cloned().unwrap_or_else(|| "NULL".into())),
                ];
                answer([
                    ("info_name", text_column(rows.iter().map(|row| Some(row.0)))),
                    ("info_value", text_column(rows.iter().map(|row| Some(&row.1)))),
                ])
            }
        }
    }
}

fn columns(schema: &SchemaRef) -> Result<Planned> {
    let fields = schema.fields();
    answer([
        ("col_name", text_column(fields.iter().map(|field| Some(field.name())))),
        ("data_type", text_column(fields.iter().map(|field| Some(ddl::simple_name(field.data_type()))))),
        ("comment", text_column(fields.iter().map(|field| field.metadata().get("comment")))),
    ])
}

/// A table's columns and more, as DDL.
fn grown(table: &TableDefinition, columns: &str) -> Result<String> {
    let refused = |why: &str| {
        Err(Error::invalid("UNSUPPORTED_FEATURE.TABLE_OPERATION", format!("ADD COLUMNS to {}: {why}", table.name)))
    };
    if !GROWING.iter().any(|format| table.format.eq_ignore_ascii_case(format)) {
        return refused(&format!("columns of {} are those of the system: add them there", table.format));
    }
    let Some(schema) = &table.schema else {
        return refused("its columns are those of its files: create it again with columns");
    };
    let (known, new) = (ddl::parse_ddl(schema)?, ddl::parse_ddl(columns)?);
    let mut taken: BTreeSet<String> = known.fields().iter().map(|field| field.name().to_lowercase()).collect();
    for field in new.fields() {
        if !taken.insert(field.name().to_lowercase()) {
            return Err(Error::invalid(
                "COLUMN_ALREADY_EXISTS",
                format!("table {}: the column `{}` already exists: choose another name", table.name, field.name()),
            ));
        }
    }
    Ok(format!("{schema}, {columns}"))
}

/// That no two columns, nor two fields of a struct, have the same name.
pub(super) fn distinct(fields: &Fields) -> Result<()> {
    let mut taken = BTreeSet::new();
    for field in fields {
        let name = field.name().to_lowercase();
        if taken.contains(&name) {
            return Err(Error::invalid(
                "COLUMN_ALREADY_EXISTS",
                format!("the column `{name}` already exists: choose another name or rename the existing column"),
            ));
        }
        taken.insert(name);
        distinct_inside(field.data_type())?;
    }
    Ok(())
}

fn distinct_inside(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Struct(fields) => distinct(fields),
        DataType::List(inner) | DataType::Map(inner, _) => distinct_inside(inner.data_type()),
        _ => Ok(()),
    }
}

fn database_name(name: &Name) -> Result<String> {
    match name.0.as_slice() {
        [name] if !name.contains('.') => Ok(name.clone()),
        [catalog, name] if catalog.eq_ignore_ascii_case(CATALOG) && !name.contains('.') => Ok(name.clone()),
        _ => Err(Error::invalid(
            "REQUIRES_SINGLE_PART_NAMESPACE",
            format!("{name}: the name of a database has one part, without dots"),
        )),
    }
}

fn no_database(name: &str) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "SCHEMA_NOT_FOUND",
        format!("the schema `{name}` cannot be found: check its spelling, or create it with CREATE DATABASE"),
    )
}

/// The name that a query uses, as flows keep it: without the catalog.
fn as_used(name: &Name) -> String {
    let mut parts = name.0.as_slice();
    if let [catalog, rest @ ..] = parts
        && rest.len() == 2
        && catalog.eq_ignore_ascii_case(CATALOG)
    {
        parts = rest;
    }
    parts.join(".").to_lowercase()
}

impl Lookup<'_> {
    /// The key of a table.
    pub(super) fn key(&self, name: &Name) -> Result<String> {
        match self {
            Lookup::Session(planner, session) => Ok(planner.own_name(name, session)?.to_lowercase()),
            Lookup::Snapshot(_) => Ok(as_used(name)),
            Lookup::View { of: Lookup::Session(planner, _), database } => {
                Ok(planner.name_in(name, database)?.to_lowercase())
            }
            Lookup::View { .. } => Ok(self.used_key(name)),
        }
    }

    /// The key of a table among those that a flow keeps: the name that the flow uses, and what a view of another database
    /// uses with the name of this one.
    pub(super) fn used_key(&self, name: &Name) -> String {
        match (self, name.0.as_slice()) {
            (Lookup::View { of, database }, [table]) if !database.eq_ignore_ascii_case(&of.database()) => {
                format!("{database}.{table}").to_lowercase()
            }
            _ => as_used(name),
        }
    }

    /// Of those that a flow keeps, the one that a name means.
    pub(super) fn kept(&self, name: &Name, tables: &BTreeMap<String, TableDefinition>) -> Option<TableDefinition> {
        let key = match (self, name.0.as_slice()) {
            (Lookup::View { database, .. }, [table]) => format!("{database}.{table}").to_lowercase(),
            _ => as_used(name),
        };
        if let Some(found) = tables.get(&key) {
            return Some(found.clone());
        }
        // The flow's own database is not written before its names, and that of its views may be the same one. Flows that
        // were made earlier write the default one nowhere.
        let bare = match (self, name.0.as_slice()) {
            (Lookup::View { .. }, [table]) => table.to_lowercase(),
            _ => key.strip_prefix("default.")?.to_string(),
        };
        tables.get(&bare).cloned()
    }
}
