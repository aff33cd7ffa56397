//! A DataFrame's query as a query file keeps it.
//!
//! The relation is kept in Spark's published messages, which stay readable, where a plan of DataFusion's would not. What
//! it names in its session is put into it (views of DataFrames, uploaded rows of `createDataFrame`) or comes along
//! (settings, views of SQL). Options and settings hold secrets in clear, as flows' do: the state directory is to be
//! guarded as they are.

use crate::connect::plan::{self, Planned};
use crate::connect::sessions::Session;
use crate::execute::Statements;
use crate::session::Session as SqlSession;
use crate::sql::catalog::TableDefinition;
use crate::sql::error::from_datafusion;
use crate::sql::planner::{PlannedFlow, StreamPlan};
use crate::sql::streaming;
use arrow::datatypes::Schema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use headwater_executor::connectors::WriteMode;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A query of a DataFrame.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFrameDefinition {
    /// Spark Connect's `Relation`.
    pub relation: Blob,
    /// Where rows go.
    pub target: TableDefinition,
    /// The target is a table of the catalog, to whose columns the rows are fitted by name.
    #[serde(default)]
    pub fitted: bool,
    /// How rows replace what is there.
    pub mode: WriteMode,
    /// Settings of the session.
    pub conf: BTreeMap<String, String>,
    /// Temporary views that SQL made, by lower-case name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<String, TableDefinition>,
    /// The current database of the session, unless it was the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

/// A relation holds options, and they hold secrets: it is not printed.
impl fmt::Debug for DataFrameDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataFrameDefinition")
            .field("relation", &self.relation)
            .field("target", &self.target)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Bytes, as hexadecimal digits in JSON.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        let text: String = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.map(Blob).ok_or_else(|| serde::de::Error::custom("bytes are an even number of hexadecimal digits"))
    }
}

impl DataFrameDefinition {
    /// Plans it for the query `query_id`, whose checkpoint is at `checkpoint`.
    ///
    /// # Errors
    /// What the relation, its sources or its sink cannot do.
    pub async fn plan(&self, statements: &Statements, query_id: &str, checkpoint: &str) -> Result<PlannedFlow> {
        let relation = spark::Relation::decode(self.relation.0.as_slice()).map_err(|error| {
            Error::fatal(
                "QUERY_FILE_CORRUPT",
                format!("the relation of query {query_id} cannot be read: {error}; start the query again"),
            )
        })?;
        let sql = SqlSession {
            conf: self.conf.clone(),
            views: self.views.clone(),
            database: self.database.clone(),
            ..SqlSession::default()
        };
        let session = Session::detached(statements.clone(), sql);
        let plan = logical(&session, &relation).await?;
        let planner = &statements.planner;
        let (plan, sources) = planner.bind_streams(plan, &self.conf, query_id, checkpoint).await?;
        let plan = streaming::with_batch_time(plan)?;
        streaming::check(&plan)?;
        let plan = match self.fitted {
            true => planner.fit_by_name(plan, &self.target, &self.conf).await?,
            false => plan,
        };
        let state = planner.stream_state(&self.conf)?;
        let (target, conf) = (&self.target, &self.conf);
        planner.plan_stream(&state, StreamPlan { plan, sources, target, mode: self.mode, conf }, query_id).await
    }
}

/// The plan of a relation whose rows go to a sink: under Spark's names of its columns.
///
/// # Errors
/// What the relation cannot do; `WRITE_STREAM_NOT_ALLOWED` when no rows stream.
pub async fn logical(session: &Arc<Session>, relation: &spark::Relation) -> Result<LogicalPlan> {
    let Planned { plan, schema, .. } = plan::plan(session, relation).await?;
    let plan = named(plan, &schema)?;
    if !streaming::is_streaming(&plan) {
        return Err(Error::invalid(
            "WRITE_STREAM_NOT_ALLOWED",
            "`writeStream` can be called only on streaming Dataset/DataFrame: read with spark.readStream, or write with \
             df.write",
        ));
    }
    Ok(plan)
}

/// A plan under the names that the client sees, which a sink needs to be different.
fn named(plan: LogicalPlan, schema: &Schema) -> Result<LogicalPlan> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = schema.fields().iter().find(|field| !seen.insert(field.name().to_lowercase())) {
        return Err(Error::invalid(
            "COLUMN_ALREADY_EXISTS",
            format!("the column `{0}` already exists: give the second `{0}` another name, with alias()", twice.name()),
        ));
    }
    let columns = plan.schema().columns().into_iter().zip(schema.fields());
    let columns: Vec<Expr> = columns
        .map(|(column, field)| match column.relation.is_none() && column.name == *field.name() {
            true => Expr::Column(column),
            false => Expr::Column(column).alias(field.name()),
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build).map_err(from_datafusion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_executor::connectors::Options;

    #[test]
    fn definitions_are_kept_whole_and_print_no_secret() {
        let definition = DataFrameDefinition {
            relation: Blob(b"\x00\xffhunter2".to_vec()),
            target: TableDefinition::new("kafka", "kafka", Options::new([("kafka.sasl.password", "hunter2")])),
            fitted: false,
            mode: WriteMode::Append,
            conf: [("spark.cassandra.auth.password".to_string(), "hunter2".to_string())].into(),
            views: BTreeMap::new(),
            database: None,
        };
        let text = serde_json::to_string(&definition).expect("JSON");
        assert!(text.contains("\"00ff68756e74657232\""), "{text}");
        assert_eq!(serde_json::from_str::<DataFrameDefinition>(&text).expect("it was JSON"), definition);
        assert!(!format!("{definition:?}").contains("hunter2"));
        for bad in ["\"0\"", "\"0g\"", "\"äö\"", "1"] {
            assert!(serde_json::from_str::<Blob>(bad).is_err(), "{bad}");
        }
    }
}
