//! `AnalyzePlan`: what is asked about a plan without running it.

use super::SPARK_VERSION;
use super::execute::decompressed;
use super::plan::{self, Planned};
use super::service::missing;
use super::sessions::Session;
use datafusion::logical_expr::LogicalPlan;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::analyze_plan_request::Analyze;
use headwater_proto::spark::analyze_plan_response::{self as response, Result as Answer};
use headwater_proto::spark::plan::OpType;
use headwater_proto::spark::{Plan, Relation, StorageLevel};
use prost::Message;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Answers one question.
///
/// # Errors
/// Those of planning.
pub async fn analyze(session: &Arc<Session>, question: Analyze) -> Result<Answer> {
    Ok(match question {
        Analyze::SparkVersion(_) => Answer::SparkVersion(response::SparkVersion { version: SPARK_VERSION.to_string() }),
        Analyze::Schema(asked) => {
            let planned = planned(session, asked.plan).await?;
            Answer::Schema(response::Schema { schema: Some(plan::schema_proto(&planned.schema)?) })
        }
        Analyze::TreeString(asked) => {
            let planned = planned(session, asked.plan).await?;
            Answer::TreeString(response::TreeString { tree_string: plan::tree_string(&planned.schema, asked.level) })
        }
        Analyze::Explain(asked) => {
            let mode = asked.explain_mode();
            let planned = planned(session, asked.plan).await?;
            Answer::Explain(response::Explain { explain_string: plan::explain(session, &planned, mode).await? })
        }
        Analyze::IsLocal(asked) => {
            let planned = planned(session, asked.plan).await?;
            Answer::IsLocal(response::IsLocal { is_local: is_local(&planned.plan) })
        }
        Analyze::IsStreaming(asked) => {
            let planned = planned(session, asked.plan).await?;
            Answer::IsStreaming(response::IsStreaming { is_streaming: plan::is_streaming(&planned) })
        }
        Analyze::InputFiles(asked) => {
            let planned = planned(session, asked.plan).await?;
            Answer::InputFiles(response::InputFiles { files: plan::input_files(session, &planned).await? })
        }
        Analyze::DdlParse(asked) => {
            Answer::DdlParse(response::DdlParse { parsed: Some(plan::ddl_parse(&asked.ddl_string)?) })
        }
        Analyze::JsonToDdl(asked) => {
            Answer::JsonToDdl(response::JsonToDdl { ddl_string: plan::json_to_ddl(&asked.json_string)? })
        }
        Analyze::SameSemantics(asked) => {
            let target = meaning(session, asked.target_plan).await?;
            let other = meaning(session, asked.other_plan).await?;
            Answer::SameSemantics(response::SameSemantics { result: target == other })
        }
        Analyze::SemanticHash(asked) => {
            let mut hasher = DefaultHasher::new();
            meaning(session, asked.plan).await?.hash(&mut hasher);
            // Spark's is 32 bits wide: the upper ones are as good as the lower ones.
            Answer::SemanticHash(response::SemanticHash { result: (hasher.finish() >> 32) as i32 })
        }
        Analyze::Persist(asked) => {
            let relation = asked.relation.ok_or_else(|| missing("Persist.relation"))?;
            // What cannot be planned cannot be kept: as in Spark, the error comes here.
            plan::plan(session, &relation).await?;
            let level = asked.storage_level.unwrap_or(MEMORY_AND_DISK);
            session.storage_levels().insert(relation.encode_to_vec(), level);
            Answer::Persist(response::Persist {})
        }
        Analyze::Unpersist(asked) => {
            let relation = asked.relation.ok_or_else(|| missing("Unpersist.relation"))?;
            session.storage_levels().remove(&relation.encode_to_vec());
            Answer::Unpersist(response::Unpersist {})
        }
        Analyze::GetStorageLevel(asked) => {
            let relation = asked.relation.ok_or_else(|| missing("GetStorageLevel.relation"))?;
            let level = session.storage_levels().get(&relation.encode_to_vec()).copied().unwrap_or(NONE);
            Answer::GetStorageLevel(response::GetStorageLevel { storage_level: Some(level) })
        }
    })
}

/// Spark's level of `cache()`.
const MEMORY_AND_DISK: StorageLevel =
    StorageLevel { use_disk: true, use_memory: true, use_off_heap: false, deserialized: true, replication: 1 };
/// Spark's level of what is not kept.
const NONE: StorageLevel =
    StorageLevel { use_disk: false, use_memory: false, use_off_heap: false, deserialized: false, replication: 1 };

fn relation(plan: Option<Plan>) -> Result<Relation> {
    match decompressed(plan.ok_or_else(|| missing("AnalyzePlanRequest.plan"))?)? {
        OpType::Root(relation) => Ok(relation),
        OpType::Command(_) | OpType::CompressedOperation(_) => Err(missing("Plan.root")),
    }
}

async fn planned(session: &Arc<Session>, plan: Option<Plan>) -> Result<Planned> {
    plan::plan(session, &relation(plan)?).await
}

/// What two plans have in common that give the same rows. Plans over rows in memory are alike only when they are the
/// same message, since the text of a plan does not show its rows.
async fn meaning(session: &Arc<Session>, plan: Option<Plan>) -> Result<(String, Option<Vec<u8>>)> {
    let relation = relation(plan)?;
    let planned = plan::plan(session, &relation).await?;
    let shown = planned.plan.display_indent().to_string();
    Ok((shown, has_rows(&planned.plan)?.then(|| relation.encode_to_vec())))
}

fn has_rows(plan: &LogicalPlan) -> Result<bool> {
    use datafusion::common::tree_node::TreeNode;
    use datafusion::datasource::{MemTable, source_as_provider};
    plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::TableScan(scan)
            if source_as_provider(&scan.source).is_ok_and(|table| table.is::<MemTable>())))
    })
    .map_err(Error::internal)
}

/// Whether rows can be had without a job: Spark says so of local relations and of what a command answered.
fn is_local(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => plan.inputs().into_iter().all(is_local),
        LogicalPlan::TableScan(_) => has_rows(plan).unwrap_or(false),
        _ => false,
    }
}
