//! Statements to plans: see [`Planner`].

use super::catalog::{self, Catalog, FILE_FORMATS, TableDefinition, Taken, VIEW, not_found};
use super::error::from_datafusion;
use super::insert::{self, TargetColumns};
use super::item_names;
use super::literals;
use super::multisets;
use super::parser::{self, CreateTable, CreateTableLike, ExplainMode, Insert, Name, QueryText, Statement};
use super::references::{self, Reference};
use super::rewrite::{self, Spellings};
use super::schema_functions;
use super::stream_table::{self, StreamTable, UnboundStream};
use super::streaming;
use super::syntax;
use super::windows;
use crate::session::{FrameView, Session, session_config, session_state, settings, with_defaults};
use crate::streaming::progress::Explained;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::ViewTable;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use futures::FutureExt;
use futures::future::BoxFuture;
use headwater_executor::connectors::files::location::{overlap, within};
use headwater_executor::connectors::files::options::{MISSING_IS_EMPTY, SOURCE_LOG};
use headwater_executor::connectors::{self, Connector, Options, Sink, SinkContext, Source, WriteMode};
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod definitions;

/// Views may show views; this deep is a mistake.
const VIEW_DEPTH_MAX: usize = 32;

/// How connectors are found by format name: [`connectors::find`], or a test's own.
pub type FindConnector = Arc<dyn Fn(&str) -> Result<Arc<dyn Connector>> + Send + Sync>;

/// Tells how many tasks the widest executor runs at once.
pub type TaskSlots = Arc<dyn Fn() -> usize + Send + Sync>;

/// What is to be done for a statement.
#[derive(Debug)]
pub enum Planned {
    /// Run this on the cluster and return its rows.
    Rows(LogicalPlan),
    /// These are the rows: nothing is to be run.
    Answer(RecordBatch),
    /// Run this on the cluster and write its rows.
    Write {
        /// What is written: columns and types are those of the target already.
        input: LogicalPlan,
        /// Where to.
        target: TableDefinition,
        /// How.
        mode: WriteMode,
        /// The target's name, for messages.
        table_name: String,
        /// The table is to be made first (`CREATE TABLE … AS`), and taken back when the write fails.
        new: Option<Taken>,
    },
    /// Take tables out of the catalog.
    Drop(Removal),
    /// Start this streaming query. [`Planner::plan_flow`] checks all that needs the outside systems.
    Flow(FlowDefinition),
    /// A definition took effect; the text says which.
    Done(String),
}

/// What goes out of the catalog: definitions first, then the files of managed tables. Cut short in between, it leaves
/// files that no table has; the next table of the name is told of them. Of a table that another takes the place of the
/// definition is replaced, so that the statement can be run again.
#[derive(Debug)]
pub struct Removal {
    /// Tables and views.
    pub tables: Vec<TableDefinition>,
    /// The database that they were of, when it goes too.
    pub database: Option<String>,
    /// What comes in the place of the one table.
    pub then: Option<TableDefinition>,
    /// What has been done, in words.
    pub said: String,
}

/// A streaming query as SQL defines it. With this alone a restarted scheduler plans it again: tables and views are
/// kept as they were.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FlowDefinition {
    /// Of the flow, and of the streaming query that runs it.
    pub name: String,
    /// The query, as written.
    pub query: String,
    /// Where rows go.
    pub target: TableDefinition,
    /// Columns find their place by name.
    #[serde(default)]
    pub by_name: bool,
    /// Target columns that the query's columns are for, in order; empty: all.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Tables and views that the query uses, by the name it uses (lower case).
    pub tables: BTreeMap<String, TableDefinition>,
    /// Settings of the session.
    pub conf: BTreeMap<String, String>,
}

/// A flow, ready to run.
#[derive(Debug)]
pub struct PlannedFlow {
    /// The query, before optimization.
    pub logical: LogicalPlan,
    /// By number of the [`SourceScanExec`](headwater_executor::operators::source_scan::SourceScanExec)s in the plan.
    pub sources: Vec<Arc<dyn Source>>,
    /// Makes a micro-batch's rows once its scans are given descriptors. Without sink.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Of the rows.
    pub schema: SchemaRef,
    /// Takes the rows.
    pub sink: Arc<dyn Sink>,
}

impl PlannedFlow {
    /// For people.
    pub fn explained(&self) -> Explained {
        Explained {
            logical: self.logical.display_indent().to_string(),
            physical: displayable(self.plan.as_ref()).indent(false).to_string(),
        }
    }
}

/// A stream that was planned: what it computes and where that goes.
#[derive(Debug)]
pub struct StreamPlan<'a> {
    /// Over [`StreamTable`]s.
    pub plan: LogicalPlan,
    /// By their numbers.
    pub sources: Vec<Arc<dyn Source>>,
    /// Where rows go.
    pub target: &'a TableDefinition,
    /// How they replace what is there.
    pub mode: WriteMode,
    /// Settings of the session.
    pub conf: &'a BTreeMap<String, String>,
}

/// What a prompt can complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completions {
    /// Tables and views.
    pub tables: Vec<String>,
    /// Functions.
    pub functions: Vec<String>,
    /// Words of SQL.
    pub keywords: Vec<String>,
}

/// Plans statements over a catalog. Cheap to clone.
#[derive(Clone)]
pub struct Planner {
    catalog: Arc<Catalog>,
    runtime: Arc<RuntimeEnv>,
    find: FindConnector,
    task_slots: TaskSlots,
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").field("catalog", &self.catalog).finish_non_exhaustive()
    }
}

impl Planner {
    /// A planner with the connectors there are.
    pub fn new(catalog: Arc<Catalog>, runtime: Arc<RuntimeEnv>) -> Self {
        Self { catalog, runtime, find: Arc::new(connectors::find), task_slots: Arc::new(|| 0) }
    }

    /// The same, told by this how many tasks the widest executor runs at once; 0 while there is none.
    pub fn with_task_slots(self, task_slots: TaskSlots) -> Self {
        Self { task_slots, ..self }
    }

    /// Tasks that the widest executor runs at once; 0 while there is none.
    pub fn task_slots(&self) -> usize {
        (self.task_slots)()
    }

    /// Other connectors.
    #[must_use]
    pub fn with_connectors(mut self, find: FindConnector) -> Self {
        self.find = find;
        self
    }

    /// The connector of a format name.
    ///
    /// # Errors
    /// `DATA_SOURCE_NOT_FOUND`.
    pub fn connector(&self, format: &str) -> Result<Arc<dyn Connector>> {
        (self.find)(format)
    }

    /// The columns of a table or view.
    ///
    /// # Errors
    /// `TABLE_OR_VIEW_NOT_FOUND`; those of the connector and of a view's query.
    pub async fn table_schema(&self, name: &Name, session: &Session) -> Result<SchemaRef> {
        let table = Lookup::Session(self, session).table(name)?;
        self.schema_of(&table, session).await
    }

    /// A table or view: temporary ones first. `` parquet.`/path` `` is a table too.
    ///
    /// # Errors
    /// `TABLE_OR_VIEW_NOT_FOUND`.
    pub fn lookup(&self, name: &Name, session: &Session) -> Result<TableDefinition> {
        Lookup::Session(self, session).table(name)
    }

    /// Rows fitted to a table's columns, by position or by name.
    ///
    /// # Errors
    /// `INSERT_COLUMN_ARITY_MISMATCH`, `INCOMPATIBLE_DATA_FOR_TABLE`.
    pub async fn fitted(
        &self,
        input: LogicalPlan,
        target: &TableDefinition,
        by_name: bool,
        conf: &BTreeMap<String, String>,
    ) -> Result<LogicalPlan> {
        let columns = self.target_columns(target, conf).await?;
        insert::fit(input, &Name(vec![target.name.clone()]), &columns, &[], by_name)
    }

    /// The names of all functions.
    ///
    /// # Errors
    /// None that a session without settings could have.
    pub fn function_names(&self) -> Result<Vec<String>> {
        self.functions()
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// A state to optimize and run batch plans of this planner in.
    ///
    /// # Errors
    /// A setting with a wrong value.
    pub fn state(&self, conf: &BTreeMap<String, String>) -> Result<SessionState> {
        let mut state = session_state(session_config(conf)?, Arc::clone(&self.runtime));
        // One time for the whole statement: what current_timestamp() is planned as.
        state.mark_start_execution();
        Ok(state)
    }

    /// Plans a statement. Definitions take effect: in the catalog, or in `session`.
    ///
    /// # Errors
    /// Spark's error classes; those of connectors.
    pub async fn plan(&self, statement: &Statement, session: &mut Session) -> Result<Planned> {
        match statement {
            Statement::Query(query) => {
                let mut build = Build::batch(self, session);
                let (_, plan) = build.query(&query.ast).await?;
                Ok(Planned::Rows(plan))
            }
            Statement::Insert(insert) => self.insert(insert, session).await,
            Statement::CreateFlow { name, insert } => {
                let flow = self.flow(self.own_name(name, session)?, insert, session)?;
                Ok(Planned::Flow(flow))
            }
            Statement::CreateTable(table) => self.create_table(table, session).await,
            Statement::CreateTableLike(like) => self.create_like(like, session).await,
            Statement::CreateView { .. } => self.create_view(statement, session).await,
            Statement::Drop { name, if_exists, view } => self.drop(name, *if_exists, *view, session).await,
            Statement::ShowTables { database, pattern, views } => {
                self.show_tables(database.as_ref(), pattern.as_deref(), *views, session)
            }
            Statement::ShowFunctions { pattern } => {
                let names = self.functions()?;
                let names = names.into_iter().filter(|name| matches_pattern(name, pattern.as_deref()));
                answer([("function", text_column(names.map(Some)))])
            }
            Statement::ShowCreateTable(name) => {
                let table = Lookup::Session(self, session).table(name)?;
                answer([("createtab_stmt", text_column([Some(show_create(&table))]))])
            }
            Statement::Describe { name, extended } => self.describe(name, *extended, session).await,
            Statement::Explain { mode, statement } => self.explain(*mode, statement, session).await,
            Statement::Set { key, value } => set(key.as_deref(), value.as_deref(), session),
            Statement::Reset(key) => {
                match key {
                    Some(key) => settings::unset(&mut session.conf, key)?,
                    None => session.conf.clear(),
                }
                Ok(Planned::Done(format!("reset {}", key.as_deref().unwrap_or("all settings"))))
            }
            statement => self.define(statement, session).await,
        }
    }

    /// Plans a flow for the streaming query `query_id`, which keys executors' readers. `checkpoint` is where sources
    /// keep what they must remember.
    ///
    /// # Errors
    /// What the query, its sources or its sink cannot do.
    pub async fn plan_flow(&self, flow: &FlowDefinition, query_id: &str, checkpoint: &str) -> Result<PlannedFlow> {
        let (build, state, plan) = self.flow_plan(flow, Stream { query_id, checkpoint }).await?;
        let (target, conf) = (&flow.target, &flow.conf);
        let stream = StreamPlan { plan, sources: build.sources, target, mode: WriteMode::Append, conf };
        self.plan_stream(&state, stream, query_id).await
    }

    /// The physical plan of a stream, and its sink.
    ///
    /// # Errors
    /// What the plan or the sink cannot do.
    pub async fn plan_stream(
        &self,
        state: &SessionState,
        stream: StreamPlan<'_>,
        query_id: &str,
    ) -> Result<PlannedFlow> {
        let StreamPlan { plan: logical, sources, target, mode, conf } = stream;
        let plan = state.create_physical_plan(&logical).await.map_err(from_datafusion)?;
        let schema = plan.schema();
        let context = SinkContext { schema: Arc::clone(&schema), mode, query: query_id.to_string(), streaming: true };
        let sink = (self.find)(&target.format)?.sink(&sink_options(target, conf), context).await?;
        Ok(PlannedFlow { logical, sources, plan, schema, sink })
    }

    /// A state to plan streams in.
    ///
    /// # Errors
    /// A setting with a wrong value.
    pub fn stream_state(&self, conf: &BTreeMap<String, String>) -> Result<SessionState> {
        Ok(session_state(stream_config(conf)?, Arc::clone(&self.runtime)))
    }

    /// A stream to be analysed: what it reads is known, who reads it is not.
    ///
    /// # Errors
    /// Those of the connector.
    pub async fn unbound_stream(
        &self,
        table: TableDefinition,
        conf: &BTreeMap<String, String>,
    ) -> Result<UnboundStream> {
        let options = read_options(&table, conf, false);
        let schema = (self.find)(&table.format)?.source_schema(&options, declared(&table)?).await?;
        Ok(UnboundStream::new(table, schema))
    }

    /// Puts the sources of the query `query_id` in the place of the [`UnboundStream`]s of a plan, numbered from left
    /// to right.
    ///
    /// # Errors
    /// Those of the connectors.
    pub async fn bind_streams(
        &self,
        plan: LogicalPlan,
        conf: &BTreeMap<String, String>,
        query_id: &str,
        checkpoint: &str,
    ) -> Result<(LogicalPlan, Vec<Arc<dyn Source>>)> {
        let mut sources = vec![];
        for table in stream_table::unbound(&plan) {
            sources.push(self.source(&table, conf, sources.len(), checkpoint).await?);
        }
        Ok((stream_table::bind(plan, &sources, query_id)?, sources))
    }

    /// The query's source number `index`. `checkpoint` is where it keeps what it must remember.
    async fn source(
        &self,
        table: &TableDefinition,
        conf: &BTreeMap<String, String>,
        index: usize,
        checkpoint: &str,
    ) -> Result<Arc<dyn Source>> {
        let mut options = read_options(table, conf, false);
        if table.is_files() {
            let checkpoint = checkpoint.trim_end_matches('/');
            options.set(SOURCE_LOG, format!("{checkpoint}/sources/{index}/files"));
        }
        (self.find)(&table.format)?.source(&options, declared(table)?).await
    }

    /// Fits the output of `plan` to a table, by the names of its columns.
    ///
    /// # Errors
    /// Spark's, of columns that the table does not have or cannot take.
    pub async fn fit_by_name(
        &self,
        plan: LogicalPlan,
        target: &TableDefinition,
        conf: &BTreeMap<String, String>,
    ) -> Result<LogicalPlan> {
        let columns = self.target_columns(target, conf).await?;
        insert::fit(plan, &Name(vec![target.name.clone()]), &columns, &[], true)
    }

    /// A sink for a batch write that was planned as [`Planned::Write`]. `query`: id of the job.
    ///
    /// # Errors
    /// Those of the connector.
    pub async fn batch_sink(
        &self,
        target: &TableDefinition,
        schema: SchemaRef,
        mode: WriteMode,
        query: &str,
        conf: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn Sink>> {
        let context = SinkContext { schema, mode, query: query.to_string(), streaming: false };
        (self.find)(&target.format)?.sink(&sink_options(target, conf), context).await
    }

    /// What a prompt can complete: tables, functions, keywords.
    pub fn completions(&self) -> Completions {
        Completions {
            tables: self.catalog.list().into_iter().map(|table| table.name).collect(),
            functions: self.functions().unwrap_or_default(),
            keywords: KEYWORDS.iter().map(|word| (*word).to_string()).collect(),
        }
    }

    fn functions(&self) -> Result<Vec<String>> {
        let state = self.state(&BTreeMap::new())?;
        let mut names: Vec<String> = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys())
            .chain(state.table_functions().keys())
            .chain(state.higher_order_functions().keys())
            .cloned()
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn flow_plan<'a>(
        &'a self,
        flow: &'a FlowDefinition,
        stream: Stream<'a>,
    ) -> Result<(Build<'a>, SessionState, LogicalPlan)> {
        let query = parser::parse_query(&flow.query)?;
        let mut build = Build {
            planner: self,
            lookup: Lookup::Snapshot(&flow.tables),
            conf: &flow.conf,
            stream: Some(stream),
            sources: vec![],
        };
        let (state, plan) = build.query(&query).await?;
        if build.sources.is_empty() {
            return Err(no_stream(&flow.name));
        }
        let plan = streaming::with_batch_time(plan)?;
        streaming::check(&plan)?;
        let columns = self.target_columns(&flow.target, &flow.conf).await?;
        let name = Name(vec![flow.target.name.clone()]);
        let plan = insert::fit(plan, &name, &columns, &flow.columns, flow.by_name)?;
        Ok((build, state, plan))
    }

    async fn insert(&self, insert: &Insert, session: &Session) -> Result<Planned> {
        let lookup = Lookup::Session(self, session);
        if lookup.used(&insert.query.ast)?.streams {
            // Named after its target: `--name` gives it another.
            let target = lookup.table(&insert.table)?;
            return Ok(Planned::Flow(self.flow(target.name, insert, session)?));
        }
        let (input, target) = self.batch_insert(insert, session).await?;
        let mode = if insert.overwrite { WriteMode::Overwrite } else { WriteMode::Append };
        Ok(Planned::Write { input, table_name: target.name.clone(), target, mode, new: None })
    }

    async fn batch_insert(&self, insert: &Insert, session: &Session) -> Result<(LogicalPlan, TableDefinition)> {
        let target = writable(Lookup::Session(self, session).table(&insert.table)?)?;
        let (_, plan) = Build::batch(self, session).query(&insert.query.ast).await?;
        let columns = self.target_columns(&target, &session.conf).await?;
        let (plan, names) = insert::partitioned(plan, insert, &target.partition_by, &columns)?;
        let plan = insert::fit(plan, &insert.table, &columns, &names, insert.by_name)?;
        Ok((plan, target))
    }

    fn flow(&self, name: String, insert: &Insert, session: &Session) -> Result<FlowDefinition> {
        let lookup = Lookup::Session(self, session);
        if insert.overwrite {
            return Err(Error::invalid(
                "UNSUPPORTED_STREAMING_OPERATOR",
                format!("flow {name}: INSERT OVERWRITE of a stream: use INSERT INTO"),
            ));
        }
        if !insert.partition.is_empty() {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!("flow {name}: INSERT … PARTITION of a stream: give the partition columns among the query's"),
            ));
        }
        let used = lookup.used(&insert.query.ast)?;
        if !used.streams {
            return Err(no_stream(&name));
        }
        Ok(FlowDefinition {
            name,
            query: insert.query.text.clone(),
            target: writable(lookup.table(&insert.table)?)?,
            by_name: insert.by_name,
            columns: insert.columns.clone(),
            tables: used.tables,
            conf: session.conf.clone(),
        })
    }

    /// What is known of a target's columns before anything is written.
    async fn target_columns(&self, target: &TableDefinition, conf: &BTreeMap<String, String>) -> Result<TargetColumns> {
        if let Some(schema) = written(target)? {
            return Ok(TargetColumns::Declared(schema));
        }
        // What these write is not what they read, or they take anything.
        const ANY: &[&str] = &["kafka", "noop", "console", "memory", "rate", "rate-micro-batch"];
        if target.is_files() || ANY.iter().any(|format| target.format.eq_ignore_ascii_case(format)) {
            return Ok(TargetColumns::Any);
        }
        let options = with_defaults(&target.format, &target.options, conf);
        let connector = (self.find)(&target.format)?;
        match connector.table(&options, None).await {
            Ok(table) => {
                Ok(TargetColumns::Named { schema: table.schema(), beside: connector.columns_beside(&options)? })
            }
            // The sink makes it or says what is missing.
            Err(error) if error.kind == ErrorKind::NotFound || error.class == "TABLE_OR_VIEW_NOT_FOUND" => {
                Ok(TargetColumns::Any)
            }
            Err(error) if error.class == "UNSUPPORTED_FEATURE" => Ok(TargetColumns::Any),
            Err(error) => Err(error),
        }
    }

    async fn create_table(&self, table: &CreateTable, session: &Session) -> Result<Planned> {
        let name = self.own_name(&table.name, session)?;
        let taken = taken(table.or_replace, table.if_not_exists);
        let definition = self.definition(&name, table)?;
        if taken == Taken::Keep && self.catalog.get(&name).is_some() {
            return Ok(Planned::Done(format!("table {name} exists already")));
        }
        let hides = view_key(&table.name)
            .is_some_and(|key| session.views.contains_key(&key) || session.plans.contains_key(&key));
        if hides && taken != Taken::Replace {
            // As in Spark, the temporary view would hide the table.
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "TEMP_TABLE_OR_VIEW_ALREADY_EXISTS",
                format!("cannot create table `{name}`: a temporary view of this name hides it: drop the view"),
            ));
        }
        let before = self.catalog.get(&name);
        if before.is_some() && taken == Taken::Refuse {
            return Err(catalog::already_exists(&name));
        }
        let definition = self.settled(definition).await?;
        let Some(query) = &table.query else {
            // A new table is empty: a managed one's rows go, unless they lie where the new one is told to be.
            let goes =
                |before: &TableDefinition| before.managed && (definition.managed || !share_files(before, &definition));
            if let Some(before) = before.filter(goes) {
                let (tables, then, said) = (vec![before], Some(definition), format!("created table {name}"));
                return Ok(Planned::Drop(Removal { tables, database: None, then, said }));
            }
            let created = self.catalog.create(definition, taken).await?;
            return Ok(Planned::Done(if created {
                format!("created table {name}")
            } else {
                format!("table {name} exists already")
            }));
        };
        let insert = Insert {
            table: table.name.clone(),
            overwrite: false,
            columns: vec![],
            // Columns of a new table are the query's own.
            by_name: true,
            partition: vec![],
            query: query.clone(),
        };
        if table.streaming {
            let lookup = Lookup::Session(self, session);
            let used = lookup.used(&query.ast)?;
            if !used.streams {
                return Err(no_stream(&name));
            }
            let created = self.catalog.create(definition.clone(), taken).await?;
            let target = if created { definition } else { lookup.table(&insert.table)? };
            return Ok(Planned::Flow(FlowDefinition {
                name,
                query: query.text.clone(),
                target,
                by_name: true,
                columns: vec![],
                tables: used.tables,
                conf: session.conf.clone(),
            }));
        }
        let mut build = Build::batch(self, session);
        let (_, plan) = build.query(&query.ast).await?;
        let mut definition = definition;
        let columns = match written(&definition)? {
            Some(schema) => TargetColumns::Declared(schema),
            None => TargetColumns::Any,
        };
        let input = insert::fit(plan, &insert.table, &columns, &[], true)?;
        if definition.is_files() && definition.schema.is_none() {
            // Text formats do not say their columns' types.
            definition.schema = Some(ddl::columns_ddl(input.schema().inner().fields()));
            definition.partitions_last()?;
        }
        let mode = if table.or_replace { WriteMode::Overwrite } else { WriteMode::Append };
        Ok(Planned::Write { input, target: definition, mode, table_name: name, new: Some(taken) })
    }

    /// An empty table of the columns, partitions, format and options of another, at a place of its own.
    async fn create_like(&self, like: &CreateTableLike, session: &Session) -> Result<Planned> {
        let source = Lookup::Session(self, session).table(&like.source)?;
        let columns = match &source.schema {
            Some(written) => written.clone(),
            None => ddl::columns_ddl(self.schema_of(&source, session).await?.fields()),
        };
        let place = |key: &str| ["path", "paths"].iter().any(|option| key.eq_ignore_ascii_case(option));
        let own = source.options.iter().filter(|(key, _)| !place(key));
        let table = CreateTable {
            name: like.name.clone(),
            or_replace: false,
            if_not_exists: like.if_not_exists,
            streaming: false,
            columns: Some(columns).filter(|columns| !columns.is_empty()),
            format: match &like.format {
                Some(format) => format.clone(),
                None if source.is_view() => "parquet".into(),
                None => source.format.clone(),
            },
            options: own.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            partition_by: source.partition_by.clone(),
            location: like.location.clone(),
            comment: None,
            properties: like.properties.clone(),
            query: None,
        };
        self.create_table(&table, session).await
    }

    fn definition(&self, name: &str, table: &CreateTable) -> Result<TableDefinition> {
        (self.find)(&table.format)?;
        let mut options = Options::new(table.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if let Some(location) = &table.location {
            if options.get("path").is_some() {
                return Err(Error::invalid(
                    "DUPLICATE_TABLE_PATH",
                    format!("table {name}: LOCATION and the option 'path' are both set: leave one out"),
                ));
            }
            options.set("path", location);
        }
        let mut definition = TableDefinition::new(name, &table.format, options);
        definition.schema.clone_from(&table.columns);
        definition.partition_by.clone_from(&table.partition_by);
        definition.comment.clone_from(&table.comment);
        definition.properties = table.properties.iter().cloned().collect();
        if let Some(schema) = declared(&definition)? {
            definitions::distinct(schema.fields())?;
            let has = |column: &String| {
                schema.fields().iter().any(|field| field.name().to_lowercase() == column.to_lowercase())
            };
            if let Some(column) = definition.partition_by.iter().find(|column| !has(column)) {
                let columns = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>();
                return Err(Error::invalid(
                    "COLUMN_NOT_DEFINED_IN_TABLE",
                    format!(
                        "partition column `{column}` is not defined in table `{name}`, defined table columns are: {}",
                        columns.join(", ")
                    ),
                ));
            }
        }
        definition.partitions_last()?;
        Ok(definition)
    }

    async fn create_view(&self, statement: &Statement, session: &mut Session) -> Result<Planned> {
        let Statement::CreateView { name, or_replace, if_not_exists, temporary, columns, comment, query } = statement
        else {
            return Err(Error::internal("create_view was given another statement"));
        };
        let name = match name.0.as_slice() {
            // Temporary ones are the session's and no database's.
            [single] if *temporary => single.clone(),
            _ => self.own_name(name, session)?,
        };
        let mut view = TableDefinition::new(&name, VIEW, Options::default());
        view.query = Some(query.text.clone());
        view.columns.clone_from(columns);
        view.database = Some(Lookup::Session(self, session).database());
        view.comment.clone_from(comment);
        self.check_view(&view, query, session).await?;
        let taken = taken(*or_replace, *if_not_exists);
        let created = if *temporary {
            let key = name.to_lowercase();
            let exists = session.views.contains_key(&key) || session.plans.contains_key(&key);
            if exists && taken == Taken::Refuse {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "TEMP_TABLE_OR_VIEW_ALREADY_EXISTS",
                    format!("cannot create the temporary view `{name}` because it already exists: add OR REPLACE"),
                ));
            }
            let create = !exists || taken == Taken::Replace;
            if create {
                session.plans.remove(&key);
                session.cached.remove(&key);
                session.views.insert(key, view);
            }
            create
        } else {
            if let Some(existing) = self.catalog.get(&name)
                && !existing.is_view()
                && taken == Taken::Replace
            {
                return Err(wrong_kind(&name, "view", "table"));
            }
            self.catalog.create(view, taken).await?
        };
        Ok(Planned::Done(format!("{} view {name}", if created { "created" } else { "kept" })))
    }

    /// A view must not show itself, and what it shows must be there. A view of streams is planned when a flow uses it.
    async fn check_view(&self, view: &TableDefinition, query: &QueryText, session: &Session) -> Result<()> {
        let used = Lookup::Session(self, session).used(&query.ast)?;
        if used.tables.values().any(|table| table.name.eq_ignore_ascii_case(&view.name)) {
            return Err(Error::invalid("RECURSIVE_VIEW", format!("view `{0}` would show itself: `{0}`", view.name)));
        }
        if used.streams {
            return Ok(());
        }
        let (_, plan) = Build::batch(self, session).query(&query.ast).await?;
        insert::different(renamed(plan, view)?.schema().inner())
    }

    async fn drop(&self, name: &Name, if_exists: bool, view: bool, session: &mut Session) -> Result<Planned> {
        let lookup = Lookup::Session(self, session);
        let kind = if view { "view" } else { "table" };
        let found = match lookup.table(name) {
            Ok(found) => found,
            Err(error) if error.class == "TABLE_OR_VIEW_NOT_FOUND" && if_exists => {
                return Ok(Planned::Done(format!("there is no {kind} {}", name.0.join("."))));
            }
            Err(error) => return Err(error),
        };
        if found.is_view() != view {
            return Err(wrong_kind(&found.name, kind, if found.is_view() { "view" } else { "table" }));
        }
        let cached = self.cache_key(name, session)?;
        session.cached.remove(&cached);
        if let Some(key) = view_key(name)
            && session.plans.remove(&key).is_some()
        {
            return Ok(Planned::Done(format!("dropped view {}", found.name)));
        }
        let said = format!("dropped {kind} {}", found.name);
        if view_key(name).is_none_or(|key| session.views.remove(&key).is_none())
            && let Some(table) = self.catalog.get(&self.own_name(name, session)?)
        {
            return Ok(Planned::Drop(Removal { tables: vec![table], database: None, then: None, said }));
        }
        Ok(Planned::Done(said))
    }

    fn show_tables(
        &self,
        database: Option<&Name>,
        pattern: Option<&str>,
        views: bool,
        session: &Session,
    ) -> Result<Planned> {
        let database = match database {
            Some(name) => self.database(name)?.name,
            None => session.database.clone().unwrap_or_else(|| catalog::DEFAULT.into()),
        };
        let own = |table: TableDefinition| {
            let (of, name) = self.catalog.split(&table.name);
            (of == database).then(|| (name.to_string(), false))
        };
        let mut rows: Vec<(String, bool)> = self
            .catalog
            .list()
            .into_iter()
            .filter(|table| !views || table.is_view())
            .filter_map(own)
            .chain(session.views.values().map(|view| (view.name.clone(), true)))
            .chain(session.plans.values().map(|view| (view.name.clone(), true)))
            .filter(|(name, _)| matches_pattern(name, pattern))
            .collect();
        rows.sort();
        let namespace = rows.iter().map(|(_, temporary)| Some(if *temporary { "" } else { database.as_str() }));
        let temporary: BooleanArray = rows.iter().map(|(_, temporary)| Some(*temporary)).collect();
        answer([
            ("namespace", text_column(namespace)),
            (if views { "viewName" } else { "tableName" }, text_column(rows.iter().map(|(name, _)| Some(name)))),
            ("isTemporary", Arc::new(temporary) as ArrayRef),
        ])
    }

    async fn describe(&self, name: &Name, extended: bool, session: &Session) -> Result<Planned> {
        let table = Lookup::Session(self, session).table(name)?;
        let schema = self.schema_of(&table, session).await?;
        let mut rows: Vec<(String, String, Option<String>)> = schema
            .fields()
            .iter()
            .map(|field| {
                let comment = field.metadata().get("comment").cloned();
                (field.name().clone(), ddl::declared_name(field), comment)
            })
            .collect();
        if !table.partition_by.is_empty() {
            rows.push(("# Partition Information".into(), String::new(), None));
            for column in &table.partition_by {
                let found = schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(column));
                let name = found.map_or_else(String::new, |field| ddl::declared_name(field));
                rows.push((column.clone(), name, None));
            }
        }
        if extended {
            let mut say = |key: &str, value: String| rows.push((key.into(), value, None));
            say("", String::new());
            say("# Detailed Table Information", String::new());
            let (database, name) = self.catalog.split(&table.name);
            say("Name", format!("{}.{database}.{name}", catalog::CATALOG));
            say("Type", table.kind().into());
            match &table.query {
                Some(query) => say("View Text", query.clone()),
                None => say("Provider", table.format.clone()),
            }
            if let Some(comment) = &table.comment {
                say("Comment", comment.clone());
            }
            if let Some(path) = table.path() {
                say("Location", connectors::without_credentials(path));
            }
            if !table.is_view() {
                say("Table Properties", bracketed(&table.properties));
                say("Storage Properties", bracketed(&table.options.redacted()));
            }
        }
        answer([
            ("col_name", text_column(rows.iter().map(|row| Some(&row.0)))),
            ("data_type", text_column(rows.iter().map(|row| Some(&row.1)))),
            ("comment", text_column(rows.iter().map(|row| row.2.as_ref()))),
        ])
    }

    async fn schema_of(&self, table: &TableDefinition, session: &Session) -> Result<SchemaRef> {
        if table.is_view()
            && table.query.is_none()
            && let Some(view) = session.plans.get(&table.name.to_lowercase())
        {
            return Ok(Arc::clone(view.plan.schema().inner()));
        }
        if let Some(query) = &table.query {
            let query = parser::parse_query(query)?;
            let mut build = Build::batch(self, session);
            if build.lookup.inside(table).used(&query)?.streams {
                build.stream = Some(Stream::SHOWN);
            }
            let plan = build.view_at(table, &query, 0).await?;
            return Ok(Arc::clone(renamed(plan, table)?.schema().inner()));
        }
        if let Some(schema) = written(table)? {
            return Ok(schema);
        }
        let connector = (self.find)(&table.format)?;
        let options = read_options(table, &session.conf, false);
        let unsupported = |error: &Error| error.class == "UNSUPPORTED_FEATURE";
        match connector.table(&options, None).await {
            Err(error) if unsupported(&error) => match connector.source_schema(&options, None).await {
                // A sink alone has no columns of its own.
                Err(error) if unsupported(&error) => Ok(Arc::new(Schema::empty())),
                other => other,
            },
            other => Ok(other?.schema()),
        }
    }

    async fn explain(&self, mode: ExplainMode, statement: &Statement, session: &Session) -> Result<Planned> {
        let (state, plan) = match statement {
            Statement::Query(query) => {
                let mut build = Build::batch(self, session);
                if build.lookup.used(&query.ast)?.streams {
                    build.stream = Some(Stream::SHOWN);
                } else {
                    let (_, plan) = build.query(&query.ast).await?;
                    let physical = self.physical(&plan, &session.conf).await?;
                    let tree = physical.display(mode == ExplainMode::Formatted);
                    return explained(mode, &plan, &physical.optimized, &tree);
                }
                build.query(&query.ast).await?
            }
            Statement::Insert(insert) if !Lookup::Session(self, session).used(&insert.query.ast)?.streams => {
                (self.state(&session.conf)?, self.batch_insert(insert, session).await?.0)
            }
            Statement::Insert(insert) | Statement::CreateFlow { insert, .. } => {
                let flow = self.flow("explain".into(), insert, session)?;
                let (_, state, plan) = self.flow_plan(&flow, Stream::SHOWN).await?;
                (state, plan)
            }
            Statement::CreateTable(CreateTable { query: Some(query), streaming, .. }) => {
                let mut build = Build::batch(self, session);
                build.stream = streaming.then_some(Stream::SHOWN);
                build.query(&query.ast).await?
            }
            _ => return Err(Error::invalid("UNSUPPORTED_FEATURE", "EXPLAIN of a statement that has no plan")),
        };
        let optimized = state.optimize(&plan).map_err(from_datafusion)?;
        let physical = state.query_planner().create_physical_plan(&optimized, &state).await.map_err(from_datafusion)?;
        let tree =
            displayable(physical.as_ref()).set_show_schema(mode == ExplainMode::Formatted).indent(true).to_string();
        explained(mode, &plan, &optimized, &tree)
    }
}

fn explained(mode: ExplainMode, plan: &LogicalPlan, optimized: &LogicalPlan, physical: &str) -> Result<Planned> {
    let mut text = String::new();
    if mode == ExplainMode::Extended {
        text += &format!("== Analyzed Logical Plan ==\n{}\n\n", plan.display_indent());
        text += &format!("== Optimized Logical Plan ==\n{}\n\n", optimized.display_indent());
    }
    text += &format!("== Physical Plan ==\n{physical}");
    answer([("plan", text_column([Some(text)]))])
}

/// Where names of tables are looked up.
#[derive(Clone, Copy)]
enum Lookup<'a> {
    /// Temporary views, then the catalog.
    Session(&'a Planner, &'a Session),
    /// What a flow was defined over.
    Snapshot(&'a BTreeMap<String, TableDefinition>),
    /// The same, inside a view: names without database are of the view's.
    View {
        /// None of this kind.
        of: &'a Lookup<'a>,
        /// Where the view was made.
        database: &'a str,
    },
}

/// What a query uses, through views.
#[derive(Debug, Default)]
struct Used {
    /// By key of [`Lookup`].
    tables: BTreeMap<String, TableDefinition>,
    /// Whether one of them is read as a stream.
    streams: bool,
}

impl Lookup<'_> {
    /// A temporary view of a DataFrame.
    fn frame_view(&self, name: &Name) -> Option<&FrameView> {
        let Lookup::Session(_, session) = self.outside() else { return None };
        session.plans.get(&view_key(name)?)
    }

    fn table(&self, name: &Name) -> Result<TableDefinition> {
        if let Some(files) = files_at(name) {
            return Ok(files);
        }
        if let Some(view) = self.frame_view(name) {
            return Ok(TableDefinition::new(&view.name, VIEW, Options::default()));
        }
        if let (Lookup::Session(_, session), Some(key)) = (self.outside(), view_key(name))
            && let Some(view) = session.views.get(&key)
        {
            return Ok(view.clone());
        }
        let found = match self.outside() {
            Lookup::Snapshot(tables) => self.kept(name, tables),
            Lookup::Session(planner, _) => planner.catalog.get(&self.key(name)?),
            Lookup::View { .. } => None,
        };
        found.ok_or_else(|| {
            let known: Vec<String> = match self.outside() {
                Lookup::Session(planner, _) => planner.catalog.list().into_iter().map(|table| table.name).collect(),
                Lookup::Snapshot(tables) => tables.values().map(|table| table.name.clone()).collect(),
                Lookup::View { .. } => vec![],
            };
            not_found(name, &known)
        })
    }

    /// Where a view is looked up.
    fn outside(&self) -> &Lookup<'_> {
        match self {
            Lookup::View { of, .. } => of,
            other => other,
        }
    }

    /// Where the names in a view's query are looked up.
    fn inside<'a>(&'a self, view: &'a TableDefinition) -> Lookup<'a> {
        match &view.database {
            Some(database) => Lookup::View { of: self.outside(), database },
            None => *self,
        }
    }

    /// The current database.
    fn database(&self) -> String {
        match self {
            Lookup::Session(_, session) => session.database.clone().unwrap_or_else(|| catalog::DEFAULT.into()),
            Lookup::Snapshot(_) => catalog::DEFAULT.into(),
            Lookup::View { database, .. } => (*database).to_string(),
        }
    }

    fn used(&self, query: &Query) -> Result<Used> {
        let mut used = Used::default();
        self.collect(query, &mut used, 0)?;
        Ok(used)
    }

    fn collect(&self, query: &Query, used: &mut Used, depth: usize) -> Result<()> {
        too_deep(depth)?;
        let mut query = query.clone();
        syntax::queries(&mut query)?;
        for Reference { name, stream, .. } in references::take(&mut query)? {
            used.streams |= stream;
            let table = self.table(&name)?;
            if let Some(query) = &table.query {
                self.inside(&table).collect(&*parser::parse_query(query)?, used, depth + 1)?;
            }
            if files_at(&name).is_none() {
                used.tables.insert(self.used_key(&name), table);
            }
        }
        Ok(())
    }
}

/// The streaming query that is planned.
#[derive(Clone, Copy)]
struct Stream<'a> {
    query_id: &'a str,
    checkpoint: &'a str,
}

impl Stream<'static> {
    /// For a plan that is shown and never run: its sources are never asked, so nothing is kept anywhere.
    const SHOWN: Self = Self { query_id: "shown", checkpoint: "/nowhere" };
}

/// One query being planned: its views and streams are gathered on the way.
struct Build<'a> {
    planner: &'a Planner,
    lookup: Lookup<'a>,
    conf: &'a BTreeMap<String, String>,
    /// None: streams are refused.
    stream: Option<Stream<'a>>,
    sources: Vec<Arc<dyn Source>>,
}

impl<'a> Build<'a> {
    fn batch(planner: &'a Planner, session: &'a Session) -> Self {
        Self { planner, lookup: Lookup::Session(planner, session), conf: &session.conf, stream: None, sources: vec![] }
    }

    fn config(&self) -> Result<SessionConfig> {
        if self.stream.is_some() { stream_config(self.conf) } else { session_config(self.conf) }
    }

    async fn query(&mut self, query: &Query) -> Result<(SessionState, LogicalPlan)> {
        self.query_at(query, 0).await
    }

    fn query_at<'b>(
        &'b mut self,
        query: &'b Query,
        depth: usize,
    ) -> BoxFuture<'b, Result<(SessionState, LogicalPlan)>> {
        async move {
            too_deep(depth)?;
            let mut query = query.clone();
            syntax::queries(&mut query)?;
            // A view shows its reader's current database, not its own.
            let database = self.lookup.outside().database();
            let state = session_state(self.config()?, Arc::clone(&self.planner.runtime));
            let mut spellings = Spellings::default();
            for reference in references::take(&mut query)? {
                let provider = self.provider(&reference, depth).await?;
                spellings.add_schema(&provider.schema());
                let name = TableReference::bare(reference.registered);
                state
                    .schema_for_ref(name.clone())
                    .and_then(|schema| schema.register_table(name.table().to_string(), provider))
                    .map_err(from_datafusion)?;
            }
            schema_functions::bind_calls(&mut query, self.conf).await?;
            let spelled = item_names::outermost(&mut query)
                .map(|select| item_names::spelled(select, &rewrite::tables_of(select)));
            spellings.apply(&mut query);
            if let (Some(select), Some(spelled)) = (item_names::outermost(&mut query), spelled) {
                let tables = rewrite::tables_of(select);
                item_names::respell(select, &spelled, &tables);
            }
            item_names::tell_apart(&mut query.body);
            rewrite::select_items(&mut query, &|mut query| {
                syntax::expressions(&mut query, &database);
                literals::type_literals(&mut query)?;
                // Tables of the session are in memory: they answer at once.
                let plan = state.statement_to_plan(as_statement(query)).now_or_never();
                let plan = plan.ok_or_else(|| Error::internal("a table in memory made the planner wait"))?;
                Ok(Arc::clone(plan.map_err(from_datafusion)?.schema()))
            })?;
            syntax::expressions(&mut query, &database);
            literals::type_literals(&mut query)?;
            let plan = state.statement_to_plan(as_statement(query)).await.map_err(from_datafusion)?;
            windows::check(&plan)?;
            let plan = multisets::counted(plan).map_err(from_datafusion)?;
            Ok((state, plan))
        }
        .boxed()
    }

    /// A view's query, whose names are of the view's database.
    async fn view_at(&mut self, view: &TableDefinition, query: &Query, depth: usize) -> Result<LogicalPlan> {
        let lookup = self.lookup;
        let mut inside = Build {
            planner: self.planner,
            lookup: lookup.inside(view),
            conf: self.conf,
            stream: self.stream,
            sources: std::mem::take(&mut self.sources),
        };
        let (_, plan) = inside.query_at(query, depth).await?;
        self.sources = inside.sources;
        Ok(plan)
    }

    async fn provider(&mut self, reference: &Reference, depth: usize) -> Result<Arc<dyn TableProvider>> {
        if let Some(view) = self.lookup.frame_view(&reference.name)
            && !reference.stream
        {
            return Ok(Arc::new(ViewTable::new(view.plan.clone(), None)));
        }
        let table = self.lookup.table(&reference.name)?;
        if table.is_view() && table.query.is_none() {
            return Err(Error::invalid(
                "UNSUPPORTED_STREAMING_OPERATOR",
                format!(
                    "{0} is a temporary view of a DataFrame: use it without STREAM, in a query of its session",
                    table.name
                ),
            ));
        }
        if let Some(text) = &table.query {
            if reference.stream {
                return Err(Error::invalid(
                    "UNSUPPORTED_STREAMING_OPERATOR",
                    format!("STREAM({0}): {0} is a view: put STREAM(…) around the tables inside the view", table.name),
                ));
            }
            let query = parser::parse_query(text)?;
            let plan = self.view_at(&table, &query, depth + 1).await?;
            return Ok(Arc::new(ViewTable::new(renamed(plan, &table)?, Some(text.clone()))));
        }
        if !reference.stream {
            let options = read_options(&table, self.conf, table.schema.is_some());
            return (self.planner.find)(&table.format)?.table(&options, declared(&table)?).await;
        }
        let Some(Stream { query_id, checkpoint }) = self.stream else {
            return Err(Error::invalid(
                "UNSUPPORTED_STREAMING_OPERATOR",
                format!(
                    "STREAM({0}): a query with streaming sources must be run by a flow: CREATE FLOW … AS INSERT INTO …; \
                     without STREAM, {0} is read as it is now",
                    table.name
                ),
            ));
        };
        let index = self.sources.len();
        let source = self.planner.source(&table, self.conf, index, checkpoint).await?;
        self.sources.push(Arc::clone(&source));
        Ok(Arc::new(StreamTable::new(source, index, query_id)))
    }
}

fn stream_config(conf: &BTreeMap<String, String>) -> Result<SessionConfig> {
    let config = session_config(conf)?;
    if conf.contains_key("datafusion.optimizer.prefer_hash_join") {
        return Ok(config);
    }
    // The side that is no stream is built once a micro-batch; sorting the stream would cost a shuffle.
    Ok(config.set_bool("datafusion.optimizer.prefer_hash_join", true))
}

fn as_statement(query: Query) -> PlanStatement {
    PlanStatement::Statement(Box::new(SqlStatement::Query(Box::new(query))))
}

fn too_deep(depth: usize) -> Result<()> {
    if depth < VIEW_DEPTH_MAX {
        return Ok(());
    }
    Err(Error::invalid("VIEW_EXCEED_MAX_NESTED_DEPTH", format!("views show views more than {VIEW_DEPTH_MAX} deep")))
}

/// The key of a temporary view of a DataFrame; global ones have a namespace of their own.
fn view_key(name: &Name) -> Option<String> {
    match name.0.as_slice() {
        [view] => Some(view.to_lowercase()),
        [namespace, view] if namespace.eq_ignore_ascii_case("global_temp") => {
            Some(format!("global_temp.{}", view.to_lowercase()))
        }
        _ => None,
    }
}

/// `` parquet.`/path` `` as Spark has it.
fn files_at(name: &Name) -> Option<TableDefinition> {
    let [format, path] = name.0.as_slice() else { return None };
    let format = FILE_FORMATS.iter().find(|known| known.eq_ignore_ascii_case(format))?;
    Some(TableDefinition::new(format!("{format}.`{path}`"), *format, Options::new([("path", path.as_str())])))
}

/// The columns that are read.
fn declared(table: &TableDefinition) -> Result<Option<SchemaRef>> {
    table.schema.as_deref().map(|text| ddl::parse_ddl(text).map(|schema| nullable(table, schema))).transpose()
}

/// The columns that are shown and written, which know how long their text may be.
fn written(table: &TableDefinition) -> Result<Option<SchemaRef>> {
    table.schema.as_deref().map(|text| ddl::parse_table(text).map(|schema| nullable(table, schema))).transpose()
}

/// As in Spark, columns of files may be null, whatever was declared.
fn nullable(table: &TableDefinition, schema: Schema) -> SchemaRef {
    if !table.is_files() {
        return Arc::new(schema);
    }
    let field = |field: &FieldRef| field.as_ref().clone().with_nullable(true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn taken(or_replace: bool, if_not_exists: bool) -> Taken {
    match () {
        () if or_replace => Taken::Replace,
        () if if_not_exists => Taken::Keep,
        () => Taken::Refuse,
    }
}

fn writable(table: TableDefinition) -> Result<TableDefinition> {
    if table.is_view() {
        return Err(Error::invalid(
            "UNSUPPORTED_INSERT.VIEW",
            format!("cannot insert into view `{}`: name the table that it shows", table.name),
        ));
    }
    Ok(table)
}

/// Whether files of one table may be files of the other.
pub fn share_files(one: &TableDefinition, other: &TableDefinition) -> bool {
    match (one.path(), other.path()) {
        (Some(one), Some(other)) => overlap(one, other),
        _ => false,
    }
}

/// Whether files of the other may be below the one's folder.
pub fn holds(one: &TableDefinition, other: &TableDefinition) -> bool {
    match (one.path(), other.path()) {
        (Some(one), Some(other)) => within(one, other),
        _ => false,
    }
}

fn wrong_kind(name: &str, asked: &str, is: &str) -> Error {
    Error::invalid("WRONG_COMMAND_FOR_OBJECT_TYPE", format!("`{name}` is a {is}, not a {asked}: use the {is} command"))
}

fn no_stream(name: &str) -> Error {
    Error::invalid(
        "INVALID_FLOW_QUERY_TYPE",
        format!("flow {name} reads no stream: put STREAM(…) around a table, or INSERT INTO … without CREATE FLOW"),
    )
}

/// Options of a table that is read. `known`: its place is right, whether or not anybody has written there; that of a
/// managed one always is.
fn read_options(table: &TableDefinition, conf: &BTreeMap<String, String>, known: bool) -> Options {
    let mut options = with_defaults(&table.format, &table.options, conf);
    if table.is_files() && (table.managed || known) {
        options.set(MISSING_IS_EMPTY, "true");
    }
    options
}

/// Options of a table that is written: its partition columns are one more.
fn sink_options(table: &TableDefinition, conf: &BTreeMap<String, String>) -> Options {
    let mut options = with_defaults(&table.format, &table.options, conf);
    if !table.partition_by.is_empty() {
        options.set("partitionBy", table.partition_by.join(","));
    }
    if let Some(mode) = conf.get("spark.sql.sources.partitionOverwriteMode")
        && table.is_files()
        && options.get("partitionOverwriteMode").is_none()
    {
        options.set("partitionOverwriteMode", mode);
    }
    options
}

/// A view's query under the view's own column names.
fn renamed(plan: LogicalPlan, view: &TableDefinition) -> Result<LogicalPlan> {
    if view.columns.is_empty() {
        return Ok(plan);
    }
    if view.columns.len() != plan.schema().fields().len() {
        let (class, reason) = if view.columns.len() > plan.schema().fields().len() {
            ("NOT_ENOUGH_DATA_COLUMNS", "not enough data columns")
        } else {
            ("TOO_MANY_DATA_COLUMNS", "too many data columns")
        };
        return Err(Error::invalid(
            &format!("CREATE_VIEW_COLUMN_ARITY_MISMATCH.{class}"),
            format!(
                "cannot create view `{}`, the reason is {reason}: name as many columns as the query has",
                view.name
            ),
        ));
    }
    let columns = plan
        .schema()
        .columns()
        .into_iter()
        .zip(&view.columns)
        .map(|(column, name)| datafusion::logical_expr::Expr::Column(column).alias(name))
        .collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

fn set(key: Option<&str>, value: Option<&str>, session: &mut Session) -> Result<Planned> {
    let shown = |key: &str, value: &str| {
        if connectors::is_secret(key) { "*********(redacted)".to_string() } else { value.to_string() }
    };
    match (key, value) {
        (Some(key), Some(value)) => {
            let mut conf = session.conf.clone();
            settings::set(&mut conf, key, value.to_string())?;
            session_config(&conf)?;
            session.conf = conf;
            answer([("key", text_column([Some(key)])), ("value", text_column([Some(shown(key, value))]))])
        }
        (Some(key), None) => {
            let value = session.setting(key).map_or_else(|| "<undefined>".to_string(), |value| shown(key, value));
            answer([("key", text_column([Some(key)])), ("value", text_column([Some(value)]))])
        }
        (None, _) => {
            let values: Vec<String> = session.conf.iter().map(|(key, value)| shown(key, value)).collect();
            answer([
                ("key", text_column(session.conf.keys().map(Some))),
                ("value", text_column(values.iter().map(Some))),
            ])
        }
    }
}

/// A statement that makes the same table, but for secrets.
pub fn show_create(table: &TableDefinition) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let name = table.name.split('.').map(ddl::quote_if_needed).collect::<Vec<_>>().join(".");
    let comment = table.comment.as_ref().map(|comment| format!("\nCOMMENT {}", quote(comment))).unwrap_or_default();
    if let Some(query) = &table.query {
        let columns = table.columns.iter().map(|column| ddl::quote_if_needed(column)).collect::<Vec<_>>().join(", ");
        let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
        return format!("CREATE VIEW {name}{columns}{comment}\nAS {query}");
    }
    let pairs = |word: &str, pairs: &BTreeMap<String, String>| {
        if pairs.is_empty() {
            return String::new();
        }
        let pairs = pairs.iter().map(|(key, value)| format!("  {} = {}", quote(key), quote(value)));
        format!("\n{word} (\n{})", pairs.collect::<Vec<_>>().join(",\n"))
    };
    let columns = table.schema.as_ref().map(|schema| format!(" (\n  {schema})")).unwrap_or_default();
    let format = if table.format.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b)) {
        table.format.clone()
    } else {
        format!("`{}`", table.format)
    };
    let partitions = if table.partition_by.is_empty() {
        String::new()
    } else {
        let columns = table.partition_by.iter().map(|column| ddl::quote_if_needed(column)).collect::<Vec<_>>();
        format!("\nPARTITIONED BY ({})", columns.join(", "))
    };
    let mut options = table.options.redacted();
    if table.managed {
        // Another table of the warehouse has a folder of its own.
        options.retain(|key, _| !key.eq_ignore_ascii_case("path"));
    }
    format!(
        "CREATE TABLE {name}{columns}\nUSING {format}{}{partitions}{comment}{}",
        pairs("OPTIONS", &options),
        pairs("TBLPROPERTIES", &table.properties)
    )
}

/// `((a,b), (c,d))`, as Spark shows a database's properties.
fn unbracketed(pairs: &BTreeMap<String, String>) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let pairs = pairs.iter().map(|(key, value)| format!("({key},{value})")).collect::<Vec<_>>();
    format!("({})", pairs.join(", "))
}

fn bracketed(pairs: &BTreeMap<String, String>) -> String {
    let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    format!("[{}]", pairs.join(", "))
}

/// Spark's pattern: `*` is anything, `|` divides alternatives, case is ignored.
pub fn matches_pattern(name: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return true };
    let name = name.to_lowercase();
    pattern.to_lowercase().split('|').any(|pattern| {
        let mut rest = name.as_str();
        let mut pieces = pattern.trim().split('*').peekable();
        let Some(first) = pieces.next() else { return rest.is_empty() };
        let Some(after) = rest.strip_prefix(first) else { return false };
        if pieces.peek().is_none() {
            return after.is_empty();
        }
        rest = after;
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    })
}

fn text_column<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn answer<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<Planned> {
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)))
        .map(Planned::Answer)
        .map_err(Error::internal)
}

/// Words that a prompt completes.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "BY NAME",
    "CASE",
    "CAST",
    "COMMENT",
    "CREATE",
    "CREATE FLOW",
    "CREATE OR REPLACE",
    "CREATE STREAMING TABLE",
    "CREATE TABLE",
    "CREATE TEMP VIEW",
    "CREATE VIEW",
    "CROSS JOIN",
    "DESC",
    "DESCRIBE",
    "DESCRIBE EXTENDED",
    "DISTINCT",
    "DROP TABLE",
    "DROP VIEW",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXPLAIN EXTENDED",
    "FALSE",
    "FROM",
    "FULL JOIN",
    "GROUP BY",
    "HAVING",
    "IF EXISTS",
    "IF NOT EXISTS",
    "IN",
    "INNER JOIN",
    "INSERT INTO",
    "INSERT OVERWRITE",
    "INTERSECT",
    "IS NOT NULL",
    "IS NULL",
    "JOIN",
    "LEFT JOIN",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER BY",
    "OVER",
    "PARTITION BY",
    "PARTITIONED BY",
    "RESET",
    "RIGHT JOIN",
    "SELECT",
    "SET",
    "SHOW CREATE TABLE",
    "SHOW FUNCTIONS",
    "SHOW TABLES",
    "SHOW VIEWS",
    "STREAM",
    "TABLE",
    "TBLPROPERTIES",
    "THEN",
    "TRUE",
    "UNION",
    "UNION ALL",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
    "WITH",
];

#[cfg(test)]
mod tests;
