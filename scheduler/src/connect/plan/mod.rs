//! Messages to plans: the relations, expressions and commands of Spark Connect in terms of DataFusion.
//!
//! ```text
//! Relation ── relation ─► Frame (plan with unique names, Spark's names beside) ── analyzed ─► Planned
//!    │ expressions: expression ◄─ sql_expression ◄─ text                      │
//!    │              └ functions, literal, types                               └ output: rows as clients want them
//!    └ read, select, group, generate, join, na, stat, show, catalog
//! Command ── command ─► writes, views, SQL
//! ```
//!
//! Names are resolved here and nowhere later: see [`frame`]. What a relation can only be planned with rows of its input
//! (`show`, the values of a pivot) runs them while it is planned, as Spark does.

pub mod catalog;
pub mod command;
pub mod expression;
pub mod frame;
pub mod functions;
pub mod generate;
pub mod group;
pub mod join;
pub mod literal;
pub mod na;
pub mod output;
pub mod read;
pub mod relation;
pub mod select;
pub mod show;
pub mod sql_expression;
pub mod stat;
pub mod types;
pub mod views;
pub mod write;

use super::sessions::Session;
use crate::session::Session as SqlSession;
use crate::sql::error::from_datafusion;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use expression::Expressions;
use frame::{Attribute, Frame, Ids};
use futures::TryStreamExt;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::analyze_plan_request::explain::ExplainMode;
use std::collections::HashMap;
use std::sync::Arc;

pub use command::command;
pub use frame::parse_name;
pub use output::{literal, output};
pub use types::tree_string;
pub use views::inlined;

/// A relation, ready to run.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Makes the rows. Its columns have unique names.
    pub plan: LogicalPlan,
    /// What the client sees: Spark's names, of which there may be several alike, and the types that it knows.
    pub schema: SchemaRef,
    /// What is observed on the way.
    pub observations: Vec<Observation>,
}

/// Metrics of a relation: what `observe` asks for.
#[derive(Debug, Clone)]
pub struct Observation {
    /// By which the client knows it.
    pub name: String,
    /// Of the relation.
    pub plan_id: i64,
    /// Makes one row.
    pub plan: LogicalPlan,
}

/// A relation as a plan.
///
/// # Errors
/// Spark's error classes; what is not supported, by name.
pub async fn plan(session: &Arc<Session>, relation: &spark::Relation) -> Result<Planned> {
    let mut planner = Planner::new(session)?;
    let frame = planner.relation(relation).await.map_err(without_ids)?;
    planner.finish(frame)
}

/// Plans one relation.
pub struct Planner<'a> {
    session: &'a Arc<Session>,
    sql: SqlSession,
    state: SessionState,
    ids: Ids,
    zone: String,
    /// Relations that stand in expressions, by plan id.
    subqueries: HashMap<i64, Frame>,
    /// Relations that SQL texts name.
    references: Vec<(String, Frame)>,
    observations: Vec<Observation>,
}

impl<'a> Planner<'a> {
    /// A planner with the settings and views that the session has now.
    ///
    /// # Errors
    /// A setting with a wrong value.
    pub fn new(session: &'a Arc<Session>) -> Result<Self> {
        let sql = session.sql();
        let zone = session.conf("spark.sql.session.timeZone").unwrap_or_else(|| "UTC".into());
        Ok(Self {
            state: session.state()?,
            session,
            sql,
            ids: Ids::default(),
            zone,
            subqueries: HashMap::new(),
            references: vec![],
            observations: vec![],
        })
    }

    /// Translates expressions over a frame.
    fn expressions<'f>(&'f self, frame: &'f Frame) -> Expressions<'f> {
        Expressions::new(&self.state, &self.ids, &self.sql.conf, frame, &self.subqueries)
    }

    /// The plan with types as they will be, and what it observes.
    ///
    /// # Errors
    /// Types that do not fit together.
    pub fn finish(&mut self, frame: Frame) -> Result<Planned> {
        let frame = frame.sealed(&self.ids).map_err(without_ids)?;
        let options = self.state.config_options();
        let plan = self
            .state
            .analyzer()
            .execute_and_check(frame.plan().clone(), options, |_, _| {})
            .map_err(|error| without_ids(from_datafusion(error)))?;
        let frame = frame.over(plan);
        Ok(Planned {
            plan: frame.plan().clone(),
            schema: frame.schema(),
            observations: std::mem::take(&mut self.observations),
        })
    }

    /// All rows of a frame, now: for what cannot be planned without them.
    async fn collect(&self, frame: &Frame) -> Result<RecordBatch> {
        let frame = frame.clone().sealed(&self.ids)?;
        let schema = frame.schema();
        let rows = super::execute::rows(self.session, frame.plan().clone(), None).await?;
        let batches: Vec<RecordBatch> = rows.try_collect().await.map_err(from_datafusion)?;
        let batches = batches.iter().map(|batch| output(batch, &schema)).collect::<Result<Vec<_>>>()?;
        // The types are those that the plan came to have, which may differ from those that were foreseen.
        let schema = batches.first().map_or(schema, RecordBatch::schema);
        arrow::compute::concat_batches(&schema, &batches).map_err(|error| from_datafusion(error.into()))
    }
}

impl Planned {
    /// As a frame, whose columns get new names.
    ///
    /// # Errors
    /// Those of DataFusion's builder.
    pub fn frame(&self, ids: &Ids, zone: &str) -> Result<Frame> {
        let columns = self
            .plan
            .schema()
            .fields()
            .iter()
            .zip(self.schema.fields())
            .map(|(internal, field)| Attribute {
                id: internal.name().clone(),
                name: field.name().clone(),
                qualifier: vec![],
                metadata: field.metadata().clone(),
            })
            .collect();
        Frame::new(self.plan.clone(), columns, zone).renewed(ids)
    }
}

/// Runs one level of what is nested as deep as a client likes, on more stack where too little is left.
fn with_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(256 << 10, 4 << 20, work)
}

/// Messages of DataFusion show columns under their unique names, which are nobody's business.
fn without_ids(mut error: Error) -> Error {
    let mut text = String::with_capacity(error.message.len());
    let mut rest = error.message.as_str();
    while let Some(at) = rest.find('#') {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let digits = after[1..].bytes().take_while(u8::is_ascii_digit).count();
        let named =
            before.bytes().next_back().is_some_and(|last| last.is_ascii_alphanumeric() || b"_)`".contains(&last));
        if digits == 0 || !named {
            text.push('#');
            rest = &after[1..];
        } else {
            rest = &after[1 + digits..];
        }
    }
    text.push_str(rest);
    error.message = text;
    error
}

/// A schema as a message.
///
/// # Errors
/// None; clients of this function are told of them all the same.
pub fn schema_proto(schema: &Schema) -> Result<spark::DataType> {
    Ok(types::schema_proto(schema))
}

/// Whether a stream is read.
pub fn is_streaming(planned: &Planned) -> bool {
    crate::sql::streaming::is_streaming(&planned.plan)
}

/// The files that a relation reads.
///
/// # Errors
/// None now: which files a scan reads is known when it is run.
pub async fn input_files(_session: &Arc<Session>, _planned: &Planned) -> Result<Vec<String>> {
    Err(expression::unsupported("inputFiles"))
}

/// DDL, or a type, as a type.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR`.
pub fn ddl_parse(text: &str) -> Result<spark::DataType> {
    ddl::parse_schema(text).map(|data_type| types::to_proto(&data_type))
}

/// Spark's JSON form of a schema as DDL.
///
/// # Errors
/// Text that is no schema.
pub fn json_to_ddl(text: &str) -> Result<String> {
    Ok(ddl::columns_ddl(ddl::parse_ddl(text)?.fields()))
}

/// What `explain` prints.
///
/// # Errors
/// Those of planning.
pub async fn explain(session: &Arc<Session>, planned: &Planned, mode: ExplainMode) -> Result<String> {
    let extended = |optimized: &LogicalPlan| {
        if mode != ExplainMode::Extended {
            return String::new();
        }
        let (analyzed, optimized) = (planned.plan.display_indent(), optimized.display_indent());
        format!("== Analyzed Logical Plan ==\n{analyzed}\n\n== Optimized Logical Plan ==\n{optimized}\n\n")
    };
    if is_streaming(planned) {
        let optimized = session.state()?.optimize(&planned.plan).map_err(from_datafusion)?;
        let shown = optimized.display_indent();
        return Ok(format!("{}== Optimized Logical Plan ==\n{shown}\n", extended(&optimized)));
    }
    let physical = session.statements().planner.physical(&planned.plan, &session.sql().conf).await?;
    let tree = physical.display(mode == ExplainMode::Formatted);
    Ok(format!("{}== Physical Plan ==\n{tree}\n", extended(&physical.optimized)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_left_out_of_messages() {
        let check = |text: &str, expect: &str| assert_eq!(without_ids(Error::invalid("X", text)).message, expect);
        check("cannot coerce a#12 + `b c`#3", "cannot coerce a + `b c`");
        check("color #12 and a# b", "color #12 and a# b");
        check("count(1)#7", "count(1)");
    }

    #[test]
    fn schemas_as_text() {
        let json = r#"{"type":"struct","fields":[{"name":"a","type":"integer","nullable":true,"metadata":{}}]}"#;
        assert_eq!(json_to_ddl(json).expect("is a schema"), "a INT");
        assert!(ddl_parse("a INT, b STRING").is_ok());
        assert!(ddl_parse("a INT,,").is_err());
    }
}
