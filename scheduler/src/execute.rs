//! Statements on the cluster: what the planner decided is done here, for SQL and for `submit` alike.

use crate::cluster::{Cluster, EXECUTORS_WAIT, Job, JobOutcome, detach, no_executors};
use crate::session::Session;
use crate::sql::catalog::{TableDefinition, Taken};
use crate::sql::error::from_datafusion;
use crate::sql::item_names;
use crate::sql::parser::Statement;
use crate::sql::physical::Physical;
use crate::sql::planner::{Planned, Planner, Removal, holds, share_files};
use crate::streaming::manager::{Manager, StartOptions, whole};
use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use headwater_executor::connectors::{WriteMode, files};
use headwater_executor::functions::interval_fields::{as_texts, has_intervals};
use headwater_executor::operators::sink::{SinkExec, commit_messages};
use headwater_proto::engine::QueryStatus;
use headwater_proto::error::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, watch};

/// What a statement came to.
#[expect(clippy::large_enum_variant, reason = "there is one for a statement")]
pub enum Outcome {
    /// Rows, as they arrive.
    Rows(SendableRecordBatchStream),
    /// What it did.
    Message(String),
    /// A streaming query runs.
    Started(QueryStatus),
}

/// Executes statements.
#[derive(Clone)]
pub struct Statements {
    /// Plans them.
    pub planner: Arc<Planner>,
    /// Runs batch jobs.
    pub cluster: Cluster,
    /// Runs flows.
    pub manager: Manager,
}

impl Statements {
    /// Executes one statement. `progress` gets (tasks done, tasks).
    pub async fn execute(
        &self,
        statement: &Statement,
        session: &mut Session,
        start: &StartOptions,
        progress: Option<watch::Sender<(u32, u32)>>,
    ) -> Result<Outcome> {
        match self.planner.plan(statement, session).await? {
            Planned::Done(message) => Ok(Outcome::Message(message)),
            Planned::Answer(rows) => {
                let schema = rows.schema();
                let rows = futures::stream::iter([Ok(rows)]);
                Ok(Outcome::Rows(Box::pin(RecordBatchStreamAdapter::new(schema, rows))))
            }
            Planned::Rows(plan) => {
                let physical = self.planner.physical(&plan, &session.conf).await?;
                Ok(Outcome::Rows(shown(self.rows("SQL".into(), physical, progress).await?)?))
            }
            Planned::Write { input, target, new: Some(taken), .. } => {
                self.create_as(&input, &target, taken, session, progress).await.map(Outcome::Message)
            }
            Planned::Write { input, target, mode, table_name, new: None } => {
                self.write(&input, &target, mode, &table_name, session, progress).await.map(Outcome::Message)
            }
            Planned::Drop(removal) => {
                let statements = self.clone();
                // To its end, as changes of queries are: what is half gone is in somebody's way.
                whole(async move { statements.remove(removal).await }).await.map(Outcome::Message)
            }
            Planned::Flow(flow) => Ok(Outcome::Started(self.manager.start(flow, start.clone()).await?)),
        }
    }

    /// Makes a table and writes its first rows; what was written, in words. A write that fails, or is cancelled, leaves all
    /// as it was.
    ///
    /// # Errors
    /// What the catalog says of the name, `STREAMING_QUERY_ACTIVE`, and those of [`Self::write`].
    pub async fn create_as(
        &self,
        input: &LogicalPlan,
        table: &TableDefinition,
        taken: Taken,
        session: &Session,
        progress: Option<watch::Sender<(u32, u32)>>,
    ) -> Result<String> {
        let catalog = self.planner.catalog();
        let held = catalog.hold(&table.name).await;
        let before = catalog.get(&table.name);
        if let Some(before) = before.as_ref().filter(|before| before.managed) {
            self.refuse_writers(before)?;
        }
        if let Some(path) = table.path().filter(|_| !table.managed && taken != Taken::Replace)
            && files::has_visible_files(&table.options).await?
        {
            return Err(Error::invalid(
                "_LEGACY_ERROR_TEMP_1241",
                format!(
                    "CREATE-TABLE-AS-SELECT cannot create table with location to a non-empty directory {path}: choose an \
                     empty one, or create the table without AS and INSERT INTO it"
                ),
            ));
        }
        let (target, mode) = match taken {
            Taken::Replace => (table.clone().replacing(), WriteMode::Overwrite),
            _ => (table.clone(), WriteMode::Append),
        };
        // Rows that are replaced go last of all, and their definition stays as long as they do.
        if taken == Taken::Replace && before.as_ref().is_some_and(|before| share_files(before, table)) {
            let written = self.write(input, &target, mode, &table.name, session, progress).await?;
            catalog.create(table.clone(), taken).await?;
            return Ok(written);
        }
        if !catalog.create(table.clone(), taken).await? {
            return Ok(format!("table {} exists already", table.name));
        }
        let mut made = Made { statements: self.clone(), table: Some((table.clone(), before)), held: Some(held) };
        let written = self.write(input, &target, mode, &table.name, session, progress).await;
        let Some((table, before)) = made.table.take() else { return written };
        match before {
            before if written.is_err() => self.take_back(&table, before).await,
            Some(before) if before.managed => {
                if let Err(error) = self.remove_files(&before).await {
                    tracing::warn!(table = table.name, %error, "files of a table that was replaced are left");
                }
            }
            _ => {}
        }
        written
    }

    /// Takes back a table that was made and could not be filled. `before`: what it replaced.
    pub async fn take_back(&self, table: &TableDefinition, before: Option<TableDefinition>) {
        let taken_back = async {
            // Files that were there before it are the other's.
            let own = table.managed && before.as_ref().is_none_or(|before| !share_files(before, table));
            match before {
                Some(before) => drop(self.planner.catalog().create(before, Taken::Replace).await?),
                None => drop(self.planner.catalog().remove(&table.name).await?),
            }
            if own { self.remove_files(table).await } else { Ok(()) }
        };
        if let Err(error) = taken_back.await {
            tracing::warn!(table = table.name, %error, "a table whose first write failed could not be taken back");
        }
    }

    /// Does a removal: see [`Removal`].
    async fn remove(&self, removal: Removal) -> Result<String> {
        let catalog = self.planner.catalog();
        let names: BTreeSet<String> = removal.tables.iter().map(|table| table.name.to_lowercase()).collect();
        let mut held = vec![];
        // In one order, so that two removals do not wait for one another.
        for name in names {
            held.push(catalog.hold(&name).await);
        }
        let managed: Vec<&TableDefinition> = removal.tables.iter().filter(|table| table.managed).collect();
        for table in &managed {
            self.refuse_writers(table)?;
        }
        match removal.then {
            Some(table) => drop(catalog.create(table, Taken::Replace).await?),
            None => self.planner.forget(&removal).await?,
        }
        let mut failed = Ok(());
        for table in managed {
            // The files of the others go all the same.
            failed = failed.and(self.remove_files(table).await);
        }
        failed.map(|()| removal.said)
    }

    /// A stream would go on to write where nothing is any more, and its log would lack the batches before.
    fn refuse_writers(&self, table: &TableDefinition) -> Result<()> {
        match self.manager.writer_of(table) {
            None => Ok(()),
            Some(query) => Err(Error::invalid(
                "STREAMING_QUERY_ACTIVE",
                format!(
                    "query {query} writes to table {}: stop it before the table's files are removed (headwater query stop \
                     {query})",
                    table.name
                ),
            )),
        }
    }

    /// Removes the files of a managed table that is in the catalog no more, unless another table has them too.
    async fn remove_files(&self, table: &TableDefinition) -> Result<()> {
        // As when a rename was cut short: both names are tables, of the same rows.
        let tables = self.planner.catalog().list();
        let mut others = tables.iter().filter(|other| !other.name.eq_ignore_ascii_case(&table.name));
        if let Some(other) = others.find(|other| holds(table, other)) {
            tracing::warn!(table = table.name, other = other.name, "files of a table stay: they are another's too");
            return Ok(());
        }
        let removed = self.manager.tenure().guard(files::remove_all(&table.options)).await;
        removed.map_err(|error| {
            Error::new(
                error.kind,
                &error.class,
                format!(
                    "some files of table {} are left: {}: remove them, or run the statement again where the table is still \
                     there",
                    table.name, error.message
                ),
            )
        })
    }

    /// The rows of a write, in as many partitions as there are writers.
    async fn written(
        &self,
        plan: &LogicalPlan,
        session: &Session,
    ) -> Result<(Arc<SessionContext>, Arc<dyn ExecutionPlan>)> {
        let state = self.planner.state(&session.conf)?;
        let plan = state.create_physical_plan(plan).await.map_err(from_datafusion)?;
        Ok((Arc::new(SessionContext::new_with_state(state)), plan))
    }

    /// Writes the rows of a plan; what was written, in words.
    ///
    /// # Errors
    /// Those of the sink and of the job.
    pub async fn write(
        &self,
        input: &LogicalPlan,
        target: &TableDefinition,
        mode: WriteMode,
        table_name: &str,
        session: &Session,
        progress: Option<watch::Sender<(u32, u32)>>,
    ) -> Result<String> {
        let (context, plan) = self.written(input, session).await?;
        let job_id = uuid::Uuid::new_v4().to_string();
        let sink = self.planner.batch_sink(target, plan.schema(), mode, &job_id, &session.conf).await?;
        sink.prepare().await?;
        let plan = Arc::new(SinkExec::of(sink.as_ref(), 0, plan).with_single_attempt(session.single_attempt));
        let schema = plan.schema();
        let name = format!("INSERT INTO {table_name}");
        let mut outcome = self.run(Job { name, session: context, plan, deadline: None, progress }).await?;
        let metrics = std::mem::take(&mut outcome.metrics);
        if sink.needs_commit() {
            let messages = commit_messages(&self.cluster.collect(outcome, schema).await?)?;
            self.manager.tenure().guard(sink.commit(0, messages)).await?;
        }
        let count = |name: &str| metrics.get(name).copied().unwrap_or(0);
        let bad = match count(SinkExec::BAD_ROWS) {
            0 => String::new(),
            1 => ", 1 bad row set aside".into(),
            bad => format!(", {bad} bad rows set aside"),
        };
        let rows = match count(SinkExec::ROWS) {
            1 => "1 row".into(),
            rows => format!("{rows} rows"),
        };
        Ok(format!("{rows} written to {table_name}{bad}"))
    }

    /// Runs a query on the cluster; its rows as they arrive.
    ///
    /// # Errors
    /// `NO_EXECUTORS`; the stream's are those of [`Cluster::rows`].
    pub async fn rows(
        &self,
        name: String,
        query: Physical,
        progress: Option<watch::Sender<(u32, u32)>>,
    ) -> Result<SendableRecordBatchStream> {
        let (session, plan) = query.job();
        self.executors().await?;
        Ok(self.cluster.rows(Job { name, session, plan, deadline: None, progress }))
    }

    async fn run(&self, job: Job) -> Result<JobOutcome> {
        self.executors().await?;
        self.cluster.run(job).await
    }

    /// Waits a little for an executor.
    async fn executors(&self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + EXECUTORS_WAIT;
        while !self.cluster.has_executors().await {
            if tokio::time::Instant::now() >= deadline {
                return Err(no_executors());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// A table that is made and not filled yet. Dropped, as when its statement is cancelled, it is taken back.
struct Made {
    statements: Statements,
    table: Option<(TableDefinition, Option<TableDefinition>)>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some((table, before)) = self.table.take() {
            let (statements, held) = (self.statements.clone(), self.held.take());
            detach(async move {
                statements.take_back(&table, before).await;
                drop(held);
            });
        }
    }
}

/// Rows under the names that are shown, of which several may be the same, and with the texts of intervals: Arrow's types
/// do not say which fields these name.
fn shown(rows: SendableRecordBatchStream) -> Result<SendableRecordBatchStream> {
    let schema = rows.schema();
    let differs = |field: &FieldRef| item_names::is_again(field.name()) || has_intervals(field.data_type());
    if !schema.fields().iter().any(differs) {
        return Ok(rows);
    }
    let texts = as_texts(&RecordBatch::new_empty(schema)).map_err(from_datafusion)?.schema();
    let fields = texts.fields().iter().map(|field| field.as_ref().clone().with_name(item_names::shown(field.name())));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let named = Arc::clone(&schema);
    let rows = rows.map(move |batch| {
        let texts = as_texts(&batch?)?;
        Ok(RecordBatch::try_new(Arc::clone(&named), texts.columns().to_vec())?)
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}
