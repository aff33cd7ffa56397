//! What a streaming query computes, as it is kept: a flow of SQL, or a DataFrame of Spark Connect. Either is planned
//! again by whoever runs it next.

use crate::connect::streaming::DataFrameDefinition;
use crate::execute::Statements;
use crate::sql::catalog::TableDefinition;
use crate::sql::planner::{FlowDefinition, PlannedFlow};
use headwater_proto::error::Result;
use headwater_proto::ids::QueryId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a streaming query computes. Part of a query's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::large_enum_variant, reason = "one for each query")]
pub enum Work {
    /// `CREATE FLOW …`.
    Flow(FlowDefinition),
    /// `df.writeStream…start()`.
    DataFrame(Box<DataFrameDefinition>),
}

impl From<FlowDefinition> for Work {
    fn from(flow: FlowDefinition) -> Self {
        Self::Flow(flow)
    }
}

impl From<DataFrameDefinition> for Work {
    fn from(definition: DataFrameDefinition) -> Self {
        Self::DataFrame(Box::new(definition))
    }
}

impl Work {
    /// Settings of the session that it was made in.
    pub fn conf(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Flow(flow) => &flow.conf,
            Self::DataFrame(definition) => &definition.conf,
        }
    }

    /// Its own name, if it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Flow(flow) => Some(&flow.name),
            Self::DataFrame(_) => None,
        }
    }

    /// Where its rows go.
    pub fn target(&self) -> &TableDefinition {
        match self {
            Self::Flow(flow) => &flow.target,
            Self::DataFrame(definition) => &definition.target,
        }
    }

    /// A name for a query that was given none: that of the application, made unique by the id.
    pub fn made_up_name(&self, id: QueryId) -> String {
        let app = self.conf().get("spark.app.name").map_or("", String::as_str);
        let app: String =
            app.trim().chars().map(|c| if c.is_control() || c == '/' { '_' } else { c }).take(APP_CHARS_MAX).collect();
        let app = if app.trim().is_empty() { "query" } else { app.trim() };
        let id = id.to_string();
        format!("{app}-{}", id.get(..ID_CHARS).unwrap_or(&id))
    }

    /// Plans it for the query `query_id`, whose checkpoint is at `checkpoint`.
    ///
    /// # Errors
    /// What the query, its sources or its sink cannot do.
    pub async fn plan(&self, statements: &Statements, query_id: &str, checkpoint: &str) -> Result<PlannedFlow> {
        match self {
            Self::Flow(flow) => statements.planner.plan_flow(flow, query_id, checkpoint).await,
            Self::DataFrame(definition) => definition.plan(statements, query_id, checkpoint).await,
        }
    }
}

/// Of an application's name, in a name that we make up.
const APP_CHARS_MAX: usize = 100;
/// Of an id, in a name that we make up: as much as people write.
const ID_CHARS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_executor::connectors::Options;

    #[test]
    fn made_up_names_are_names() {
        let id: QueryId = "6f1d2f0e-8f0c-4f6e-9d6c-0d4c7f1f2a3b".parse().expect("an id");
        let check = |app: Option<&str>, expect: &str| {
            let flow = FlowDefinition {
                name: "f".into(),
                query: String::new(),
                target: TableDefinition::new("t", "noop", Options::default()),
                by_name: false,
                columns: vec![],
                tables: BTreeMap::new(),
                conf: app.map(|app| ("spark.app.name".to_string(), app.to_string())).into_iter().collect(),
            };
            assert_eq!(Work::from(flow).made_up_name(id), expect);
        };
        check(Some("Users"), "Users-6f1d2f0e");
        check(Some(" a/b\n "), "a_b-6f1d2f0e");
        check(Some("  "), "query-6f1d2f0e");
        check(None, "query-6f1d2f0e");
    }
}
