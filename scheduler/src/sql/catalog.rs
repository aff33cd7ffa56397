//! Tables and views, kept as one JSON file each: `<state dir>/catalog/tables/<name>.json`; databases in `catalog/databases`.
//!
//! Files are the truth: a definition is written before it counts, create-if-absent so that of two schedulers one wins.
//! They are read once, at start. Names ignore case, as in Spark; the spelling given is kept.

use super::parser::Name;
use arrow::datatypes::{FieldRef, Fields};
use futures::{StreamExt, TryStreamExt, stream};
use headwater_executor::connectors::Options;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, ErrorKind, Result};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, RwLock, Weak};
use tokio::sync::OwnedMutexGuard;

/// The format of a view.
pub const VIEW: &str = "view";

/// Formats of files, which have a path and are made without one in the warehouse.
pub const FILE_FORMATS: &[&str] = &["parquet", "json", "csv", "text"];

/// A table, or a view.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TableDefinition {
    /// As spelled when it was made.
    pub name: String,
    /// The connector; [`VIEW`] for a view.
    pub format: String,
    /// What the connector is told. Secrets included: the state directory is to be guarded as they are.
    #[serde(default)]
    pub options: Options,
    /// Declared columns as Spark DDL: `id STRING, n INT NOT NULL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Partition columns of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// Said by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `TBLPROPERTIES`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// The query of a view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// New names of a view's columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The database that names in a view's query are of. None: of views made before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Its folder is the warehouse's, and goes with it. A table that was given its place keeps what is there, and so
    /// does one that was made before this was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub managed: bool,
}

impl TableDefinition {
    /// A table of this format and these options, nothing else said.
    pub fn new(name: impl Into<String>, format: impl Into<String>, options: Options) -> Self {
        Self {
            name: name.into(),
            format: format.into(),
            options,
            schema: None,
            partition_by: vec![],
            comment: None,
            properties: BTreeMap::new(),
            query: None,
            columns: vec![],
            database: None,
            managed: false,
        }
    }

    /// Where the files are, of a table of files.
    pub fn path(&self) -> Option<&str> {
        self.options.get("path").filter(|_| self.is_files())
    }

    /// What Spark calls it.
    pub fn kind(&self) -> &'static str {
        match (self.is_view(), self.managed) {
            (true, _) => "VIEW",
            (false, true) => "MANAGED",
            (false, false) => "EXTERNAL",
        }
    }

    /// Whether this is a view.
    pub fn is_view(&self) -> bool {
        self.format == VIEW
    }

    /// The table as one is written that takes another's place: none of that one's partitions stay, whatever the session
    /// says of overwriting.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        if self.is_files() {
            self.options.set("partitionOverwriteMode", "static");
        }
        self
    }

    /// Puts the partition columns of files last, in their order, as Spark has the columns of a table: by position they are
    /// written and read so.
    ///
    /// # Errors
    /// Those of [`ddl::parse_table`].
    pub fn partitions_last(&mut self) -> Result<()> {
        let Some(schema) = self.schema.as_deref().filter(|_| self.is_files() && !self.partition_by.is_empty()) else {
            return Ok(());
        };
        let declared = ddl::parse_table(schema)?.fields;
        let place = |field: &FieldRef| {
            let named = |column: &String| column.to_lowercase() == field.name().to_lowercase();
            self.partition_by.iter().position(named).map_or(0, |at| at + 1)
        };
        let mut ordered: Vec<FieldRef> = declared.iter().cloned().collect();
        ordered.sort_by_key(place);
        let ordered = Fields::from(ordered);
        if ordered != declared {
            self.schema = Some(ddl::columns_ddl(&ordered));
        }
        Ok(())
    }

    /// Whether the connector reads and writes files.
    pub fn is_files(&self) -> bool {
        FILE_FORMATS.iter().any(|format| self.format.eq_ignore_ascii_case(format))
    }
}

/// The database that is always there.
pub const DEFAULT: &str = "default";

/// The one catalog.
pub const CATALOG: &str = "spark_catalog";

/// A database. The names of its tables begin with its own and a dot; those of [`DEFAULT`] with nothing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Database {
    /// As spelled when it was made.
    pub name: String,
    /// Said by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Where its tables of files that name no place are kept.
    pub location: String,
    /// `DBPROPERTIES`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// What `CREATE` does when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Fail.
    Refuse,
    /// Leave what is there.
    Keep,
    /// Put the new one in its place.
    Replace,
}

/// All tables and views. Cheap to share.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    warehouse: String,
    tables: RwLock<BTreeMap<String, TableDefinition>>,
    database_folder: Path,
    databases: RwLock<BTreeMap<String, Database>>,
    held: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Catalog {
    /// Reads the catalog under `root` of a store. `warehouse`: the location under which tables of files that name none
    /// are kept, such as `file:///state/warehouse`.
    ///
    /// # Errors
    /// An unreadable store; a file that is no definition, by its path.
    pub async fn open(store: Arc<dyn ObjectStore>, root: &Path, warehouse: impl Into<String>) -> Result<Self> {
        let folder = root.clone().join("catalog").join("tables");
        let database_folder = root.clone().join("catalog").join("databases");
        let (tables, databases): (Vec<TableDefinition>, Vec<Database>) =
            tokio::try_join!(read(store.as_ref(), &folder), read(store.as_ref(), &database_folder))?;
        let tables = tables.into_iter().map(|table| (table.name.to_lowercase(), table)).collect();
        let databases = databases.into_iter().map(|database| (database.name.to_lowercase(), database)).collect();
        Ok(Self {
            store,
            folder,
            warehouse: warehouse.into(),
            tables: RwLock::new(tables),
            database_folder,
            databases: RwLock::new(databases),
            held: Mutex::default(),
        })
    }

    /// Waits for whoever else makes or removes a table of this name with its rows: what one takes back must not be what
    /// another has made.
    pub async fn hold(&self, name: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock().expect("no panic holds the lock");
            held.retain(|_, lock| lock.strong_count() > 0);
            let kept = held.entry(name.to_lowercase()).or_default();
            kept.upgrade().unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                *kept = Arc::downgrade(&lock);
                lock
            })
        };
        lock.lock_owned().await
    }

    /// The database of this name, whatever its case.
    pub fn database(&self, name: &str) -> Option<Database> {
        if name.eq_ignore_ascii_case(DEFAULT) {
            return Some(Database {
                name: DEFAULT.into(),
                comment: Some("default database".into()),
                location: self.warehouse().to_string(),
                properties: BTreeMap::new(),
            });
        }
        self.databases.read().expect("no panic holds the lock").get(&name.to_lowercase()).cloned()
    }

    /// All databases by name.
    pub fn databases(&self) -> Vec<Database> {
        let mut all: Vec<Database> =
            self.databases.read().expect("no panic holds the lock").values().cloned().collect();
        all.extend(self.database(DEFAULT));
        all.sort_by(|one, two| one.name.cmp(&two.name));
        all
    }

    /// The database that a table's name begins with, and the rest of the name.
    pub fn split<'n>(&self, table: &'n str) -> (String, &'n str) {
        match table.split_once('.') {
            Some((database, rest)) => match self.database(database) {
                Some(database) => (database.name, rest),
                None => (DEFAULT.into(), table),
            },
            None => (DEFAULT.into(), table),
        }
    }

    /// The place of a table of files that names none: the folder of its name. A table that was renamed has kept its own,
    /// and the next one of its old name gets another.
    pub fn place(&self, table: &str) -> String {
        let (database, name) = self.split(table);
        let location = self.database(&database).map_or_else(|| self.warehouse().to_string(), |found| found.location);
        let folder = format!("{}/{}", location.trim_end_matches('/'), name.to_lowercase());
        let others: BTreeSet<String> = self
            .list()
            .into_iter()
            .filter(|other| other.managed && !other.name.eq_ignore_ascii_case(table))
            .filter_map(|other| other.path().map(str::to_string))
            .collect();
        let mut place = folder.clone();
        let mut number = 2;
        while others.contains(&place) {
            place = format!("{folder}_{number}");
            number += 1;
        }
        place
    }

    /// Adds a database. Tells whether it was written.
    ///
    /// # Errors
    /// `SCHEMA_ALREADY_EXISTS`.
    pub async fn create_database(&self, database: Database, if_not_exists: bool) -> Result<bool> {
        let exists = || {
            Error::new(
                ErrorKind::AlreadyExists,
                "SCHEMA_ALREADY_EXISTS",
                format!(
                    "cannot create schema `{}` because it already exists: choose a different name, or add IF NOT EXISTS",
                    database.name
                ),
            )
        };
        let key = database.name.to_lowercase();
        if self.database(&key).is_some() {
            return if if_not_exists { Ok(false) } else { Err(exists()) };
        }
        let path = self.database_folder.clone().join(format!("{key}.json"));
        if !self.put(&path, &database, PutMode::Create).await? {
            return if if_not_exists { Ok(false) } else { Err(exists()) };
        }
        self.databases.write().expect("no panic holds the lock").insert(key, database);
        Ok(true)
    }

    /// Writes a definition; false where another scheduler was quicker.
    async fn put(&self, path: &Path, definition: &impl serde::Serialize, mode: PutMode) -> Result<bool> {
        let text = serde_json::to_vec_pretty(definition).map_err(Error::internal)?;
        match self.store.put_opts(path, text.into(), PutOptions::from(mode)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(unreachable_store(path, &error)),
        }
    }

    /// Removes a database; its tables have to be gone before.
    ///
    /// # Errors
    /// An unwritable store.
    pub async fn remove_database(&self, name: &str) -> Result<bool> {
        let key = name.to_lowercase();
        let path = self.database_folder.clone().join(format!("{key}.json"));
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unreachable_store(&path, &error)),
        }
        Ok(self.databases.write().expect("no panic holds the lock").remove(&key).is_some())
    }

    /// Where tables of files that name no place are kept.
    pub fn warehouse(&self) -> &str {
        self.warehouse.trim_end_matches('/')
    }

    /// The table or view of this name, whatever its case.
    pub fn get(&self, name: &str) -> Option<TableDefinition> {
        self.tables.read().expect("no panic holds the lock").get(&name.to_lowercase()).cloned()
    }

    /// All of them by name.
    pub fn list(&self) -> Vec<TableDefinition> {
        self.tables.read().expect("no panic holds the lock").values().cloned().collect()
    }

    /// Adds a definition. Tells whether it was written.
    ///
    /// # Errors
    /// `TABLE_OR_VIEW_ALREADY_EXISTS`.
    pub async fn create(&self, definition: TableDefinition, taken: Taken) -> Result<bool> {
        let key = definition.name.to_lowercase();
        if self.get(&key).is_some() {
            match taken {
                Taken::Refuse => return Err(already_exists(&definition.name)),
                Taken::Keep => return Ok(false),
                Taken::Replace => {}
            }
        }
        let path = self.path(&key);
        let mode = if taken == Taken::Replace { PutMode::Overwrite } else { PutMode::Create };
        if !self.put(&path, &definition, mode).await? {
            return if taken == Taken::Keep { Ok(false) } else { Err(already_exists(&definition.name)) };
        }
        self.tables.write().expect("no panic holds the lock").insert(key, definition);
        Ok(true)
    }

    /// Removes a definition, and nothing of what it describes. Tells whether there was one.
    ///
    /// # Errors
    /// An unwritable store.
    pub async fn remove(&self, name: &str) -> Result<bool> {
        let key = name.to_lowercase();
        let path = self.path(&key);
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unreachable_store(&path, &error)),
        }
        Ok(self.tables.write().expect("no panic holds the lock").remove(&key).is_some())
    }

    fn path(&self, key: &str) -> Path {
        self.folder.clone().join(format!("{key}.json"))
    }
}

/// Files that are read at once.
const FILES_AT_ONCE: usize = 32;

/// The definitions in the files of a folder.
async fn read<T: serde::de::DeserializeOwned>(store: &dyn ObjectStore, folder: &Path) -> Result<Vec<T>> {
    let failed = |error| unreachable_store(folder, &error);
    let files: Vec<_> = store.list(Some(folder)).try_collect().await.map_err(failed)?;
    let definition = async |file: ObjectMeta| {
        let bytes = async { store.get(&file.location).await?.bytes().await }.await.map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::fatal(
                "CATALOG_FILE_CORRUPT",
                format!(
                    "{} ({} bytes) is no definition: {error}: repair it, or remove it and create what it defines again",
                    file.location,
                    bytes.len()
                ),
            )
        })
    };
    let files = files.into_iter().filter(|file| file.location.as_ref().ends_with(".json"));
    stream::iter(files.map(definition)).buffered(FILES_AT_ONCE).try_collect().await
}

fn unreachable_store(path: &Path, error: &object_store::Error) -> Error {
    Error::transient(
        "STATE_DIR_UNAVAILABLE",
        format!("failed to access {path} in the state directory: {error}: check --state-dir and its permissions"),
    )
}

/// `TABLE_OR_VIEW_ALREADY_EXISTS`.
pub fn already_exists(name: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        "TABLE_OR_VIEW_ALREADY_EXISTS",
        format!(
            "cannot create table or view `{name}` because it already exists: choose a different name, drop it, or add IF \
             NOT EXISTS or OR REPLACE"
        ),
    )
}

/// `TABLE_OR_VIEW_NOT_FOUND`, with what there is.
pub fn not_found(name: &Name, known: &[String]) -> Error {
    let hint = if known.is_empty() {
        "there are no tables yet: CREATE TABLE … USING …".to_string()
    } else {
        format!("there are {}", known.join(", "))
    };
    Error::new(
        ErrorKind::NotFound,
        "TABLE_OR_VIEW_NOT_FOUND",
        format!("the table or view {name} cannot be found: check its spelling; {hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn table(name: &str) -> TableDefinition {
        TableDefinition::new(name, "kafka", Options::new([("subscribe", "t"), ("kafka.sasl.password", "hunter2")]))
    }

    #[tokio::test]
    async fn definitions_survive_a_restart() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let root = Path::from("state");
        let catalog = Catalog::open(Arc::clone(&store), &root, "file:///w/").await.expect("opens");
        assert!(catalog.create(table("Users"), Taken::Refuse).await.expect("is new"));
        assert!(catalog.create(table("a/b c"), Taken::Refuse).await.expect("is new"));
        let again = Catalog::open(store, &root, "file:///w/").await.expect("opens");
        assert_eq!(again.get("USERS"), Some(table("Users")));
        assert_eq!(again.get("a/b c"), Some(table("a/b c")));
        assert_eq!(again.warehouse(), "file:///w");
        assert!(again.remove("users").await.expect("is removed"));
        assert!(!again.remove("users").await.expect("is gone already"));
        assert_eq!(again.list().len(), 1);
        assert!(!format!("{:?}", table("Users")).contains("hunter2"));
    }

    #[tokio::test]
    async fn names_are_taken_once() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let root = Path::from("");
        let one = Catalog::open(Arc::clone(&store), &root, "w").await.expect("opens");
        let two = Catalog::open(Arc::clone(&store), &root, "w").await.expect("opens");
        assert!(one.create(table("t"), Taken::Keep).await.expect("is new"));
        for (catalog, taken) in [(&one, Taken::Keep), (&two, Taken::Keep)] {
            assert!(!catalog.create(table("T"), taken).await.expect("is kept"));
        }
        for catalog in [&one, &two] {
            let error = catalog.create(table("T"), Taken::Refuse).await.expect_err("is taken");
            assert_eq!((error.kind, error.class.as_str()), (ErrorKind::AlreadyExists, "TABLE_OR_VIEW_ALREADY_EXISTS"));
        }
        assert!(one.create(table("T"), Taken::Replace).await.expect("is replaced"));
        assert_eq!(one.get("t").map(|table| table.name).as_deref(), Some("T"));
    }

    #[tokio::test]
    async fn databases_survive_a_restart() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let root = Path::from("state");
        let catalog = Catalog::open(Arc::clone(&store), &root, "file:///w").await.expect("opens");
        let database = |name: &str| Database {
            name: name.into(),
            comment: None,
            location: format!("file:///w/{name}.db"),
            properties: BTreeMap::new(),
        };
        assert!(catalog.create_database(database("Sales"), false).await.expect("is new"));
        assert!(!catalog.create_database(database("sales"), true).await.expect("is kept"));
        for name in ["SALES", "default"] {
            let error = catalog.create_database(database(name), false).await.expect_err("is taken");
            assert_eq!(error.class, "SCHEMA_ALREADY_EXISTS");
        }
        let again = Catalog::open(store, &root, "file:///w").await.expect("opens");
        let names: Vec<String> = again.databases().into_iter().map(|database| database.name).collect();
        assert_eq!(names, ["Sales", "default"]);
        assert_eq!(again.split("sales.T"), ("Sales".into(), "T"));
        assert_eq!(again.split("other.t"), ("default".into(), "other.t"));
        assert_eq!((again.place("Sales.T"), again.place("t")), ("file:///w/Sales.db/t".into(), "file:///w/t".into()));
        assert!(again.remove_database("SALES").await.expect("is removed"));
        assert!(again.database("sales").is_none());
    }

    #[tokio::test]
    async fn a_renamed_table_keeps_its_folder() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let root = Path::from("state");
        let catalog = Catalog::open(Arc::clone(&store), &root, "file:///w").await.expect("opens");
        let files = |name: &str, path: &str, managed: bool| TableDefinition {
            managed,
            ..TableDefinition::new(name, "json", Options::new([("path", path)]))
        };
        for table in [files("a", "file:///w/t", true), files("b", "file:///w/u", false)] {
            catalog.create(table, Taken::Refuse).await.expect("is new");
        }
        assert_eq!((catalog.place("T").as_str(), catalog.place("a").as_str()), ("file:///w/t_2", "file:///w/a"));
        assert_eq!(catalog.place("u"), "file:///w/u", "what a user named is not looked at");
        let again = Catalog::open(store, &root, "file:///w").await.expect("opens");
        let kinds: Vec<_> = again.list().iter().map(TableDefinition::kind).collect();
        assert_eq!(kinds, ["MANAGED", "EXTERNAL"]);
        // As it was kept before there was a difference.
        let old: TableDefinition = serde_json::from_str(r#"{"name": "t", "format": "json"}"#).expect("is read");
        assert_eq!(old.kind(), "EXTERNAL");
    }

    #[tokio::test]
    async fn a_broken_file_is_named() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        store.put(&Path::from("s/catalog/tables/x.json"), "{".into()).await.expect("is written");
        let error = Catalog::open(store, &Path::from("s"), "w").await.expect_err("is broken");
        assert!(error.to_string().contains("s/catalog/tables/x.json (1 bytes)"), "{error}");
    }
}
