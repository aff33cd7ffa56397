//! Messages to plans.

pub mod types;

use super::operation::Responder;
use super::service::missing;
use super::sessions::Session;
use crate::sql::error::from_datafusion;
use crate::sql::parser::{self, Statement};
use crate::sql::planner::Planned as SqlPlanned;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::command::CommandType;
use headwater_proto::spark::relation::RelType;
use std::sync::Arc;

/// A relation, ready to run.
#[derive(Clone)]
pub struct Planned {
    /// Makes the rows.
    pub plan: LogicalPlan,
    /// What the client sees: Spark's names, of which there may be several alike.
    pub schema: SchemaRef,
    /// What is observed on the way.
    pub observations: Vec<Observation>,
}

/// Metrics of a relation: what `observe` asks for.
#[derive(Clone)]
pub struct Observation {
    /// By which the client knows it.
    pub name: String,
    /// Of the relation.
    pub plan_id: i64,
    /// Makes one row.
    pub plan: LogicalPlan,
}

/// A relation as a plan.
pub async fn plan(session: &Arc<Session>, relation: &spark::Relation) -> Result<Planned> {
    let plan = match relation.rel_type.as_ref().ok_or_else(|| missing("Relation.rel_type"))? {
        RelType::Sql(sql) => {
            let statements = parser::parse(&sql.query)?;
            let [Statement::Query(_)] = statements.as_slice() else {
                return Err(Error::invalid("UNSUPPORTED_FEATURE", "not a query"));
            };
            match session.statements().planner.plan(&statements[0], &mut session.sql()).await? {
                SqlPlanned::Rows(plan) => plan,
                _ => return Err(Error::invalid("UNSUPPORTED_FEATURE", "not a query")),
            }
        }
        RelType::Range(range) => {
            let values = (range.start()..range.end).step_by(range.step.max(1) as usize);
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
            let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids]).map_err(Error::internal)?;
            let table = MemTable::try_new(schema, vec![vec![batch]]).map_err(from_datafusion)?;
            LogicalPlanBuilder::scan("range", provider_as_source(Arc::new(table)), None)
                .and_then(LogicalPlanBuilder::build)
                .map_err(from_datafusion)?
        }
        RelType::Read(read) if read.is_streaming => super::streaming::read(session, read).await?,
        _ => return Err(Error::invalid("UNSUPPORTED_FEATURE", "this relation is not supported")),
    };
    let schema = Arc::clone(plan.schema().inner());
    Ok(Planned { plan, schema, observations: vec![] })
}

/// Rows as the client wants them.
pub fn output(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec()).map_err(Error::internal)
}

/// A schema as a message.
pub fn schema_proto(schema: &Schema) -> Result<spark::DataType> {
    Ok(types::schema_proto(schema))
}

/// What `printSchema` shows.
pub fn tree_string(schema: &Schema, level: Option<i32>) -> String {
    types::tree_string(schema, level)
}

/// A value as a message.
pub fn literal(_array: &dyn Array, _row: usize) -> Result<spark::expression::Literal> {
    Err(Error::invalid("UNSUPPORTED_FEATURE", "observed metrics are not supported"))
}

/// What `explain` shows.
pub async fn explain(
    _session: &Arc<Session>,
    planned: &Planned,
    _mode: spark::analyze_plan_request::explain::ExplainMode,
) -> Result<String> {
    Ok(planned.plan.display_indent().to_string())
}

/// DDL as a type.
pub fn ddl_parse(text: &str) -> Result<spark::DataType> {
    Ok(types::schema_proto(types::parse_columns(text)?.as_ref()))
}

/// A type's JSON as DDL.
pub fn json_to_ddl(_text: &str) -> Result<String> {
    Err(Error::invalid("UNSUPPORTED_FEATURE", "this call is not supported"))
}

/// Whether it reads a stream.
pub fn is_streaming(_planned: &Planned) -> bool {
    false
}

/// The files that it reads.
pub async fn input_files(_session: &Arc<Session>, _planned: &Planned) -> Result<Vec<String>> {
    Ok(vec![])
}

/// Runs a command.
pub async fn command(session: &Arc<Session>, command: &CommandType, responder: &Responder) -> Result<()> {
    match command {
        CommandType::SqlCommand(command) => {
            let relation = match &command.input {
                Some(relation) => relation.clone(),
                None => spark::Relation {
                    common: None,
                    rel_type: Some(RelType::Sql(spark::Sql { query: command.sql.clone(), ..Default::default() })),
                },
            };
            plan(session, &relation).await?;
            let result = spark::execute_plan_response::SqlCommandResult { relation: Some(relation) };
            responder.send(spark::execute_plan_response::ResponseType::SqlCommandResult(result)).await
        }
        _ => Err(Error::invalid("UNSUPPORTED_FEATURE", "this command is not supported")),
    }
}

/// A relation that needs nothing of its session.
pub async fn inlined(_: &Arc<Session>, relation: &spark::Relation) -> Result<spark::Relation> {
    Ok(relation.clone())
}

/// The parts of a name.
pub fn parse_name(text: &str) -> Result<Vec<String>> {
    Ok(text.split('.').map(str::to_string).collect())
}
