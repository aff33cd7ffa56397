//! Batch queries to physical plans: see [`Planner::physical`].
//!
//! A query that reads little is one task on one executor ([`OneTaskExec`]), planned as DataFusion plans for one process;
//! every other one is planned for Ballista's stages. Which it is is decided before the plan is optimized, from the sizes
//! that tables tell: [`bytes_read`].

use super::error::from_datafusion;
use super::planner::Planner;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{MemTable, source_as_provider};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use headwater_executor::operators::one_task::OneTaskExec;
use headwater_proto::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Setting: a query that reads at most so many bytes of tables is one task.
pub const ONE_TASK_BYTES: &str = "headwater.query.oneTaskBytes";
/// What joins and aggregations of one task hold in memory is some multiple of this.
const ONE_TASK_BYTES_DEFAULT: usize = 1 << 30;

/// DataFusion's own, for a plan that stays in one process. Ballista's defaults are for plans that are cut up: joins that
/// can spill, no filters from one operator to another. (Scalar subqueries are joins here too: as an operator of their own
/// they are told to be never null, which one without rows is.)
const IN_ONE_PROCESS: [(&str, &str); 3] = [
    ("datafusion.optimizer.prefer_hash_join", "true"),
    ("datafusion.optimizer.enable_dynamic_filter_pushdown", "true"),
    ("datafusion.optimizer.enable_round_robin_repartition", "true"),
];

/// A batch query, ready to run.
#[derive(Debug)]
pub struct Physical {
    /// What it was planned in.
    pub state: SessionState,
    /// The analyzed plan, optimized.
    pub optimized: LogicalPlan,
    /// Makes the rows.
    pub plan: Arc<dyn ExecutionPlan>,
    /// Whether all of it is one task.
    pub one_task: bool,
}

impl Physical {
    /// As the cluster runs it.
    pub fn job(self) -> (Arc<SessionContext>, Arc<dyn ExecutionPlan>) {
        let plan: Arc<dyn ExecutionPlan> =
            if self.one_task { Arc::new(OneTaskExec::new(self.plan)) } else { self.plan };
        (Arc::new(SessionContext::new_with_state(self.state)), plan)
    }

    /// As a tree, for people.
    pub fn display(&self, schemas: bool) -> String {
        let tree = displayable(self.plan.as_ref()).set_show_schema(schemas).indent(true).to_string();
        if !self.one_task {
            return tree;
        }
        let inner: String = tree.lines().map(|line| format!("  {line}\n")).collect();
        format!("OneTaskExec\n{inner}")
    }
}

impl Planner {
    /// The physical plan of a batch query of a session with these settings.
    ///
    /// # Errors
    /// A setting with a wrong value; what DataFusion cannot plan.
    pub async fn physical(&self, plan: &LogicalPlan, conf: &BTreeMap<String, String>) -> Result<Physical> {
        let mut state = self.state(conf)?;
        let threads = self.task_slots();
        let one_task = threads > 0 && bytes_read(plan).is_some_and(|bytes| bytes <= one_task_bytes(conf));
        if one_task {
            for_one_process(state.config_mut(), threads, conf)?;
        }
        let optimized = state.optimize(plan).map_err(from_datafusion)?;
        let physical = state.query_planner().create_physical_plan(&optimized, &state).await.map_err(from_datafusion)?;
        Ok(Physical { state, optimized, plan: physical, one_task })
    }
}

/// Settings for a plan that `threads` threads of one process run. What the user set stays.
fn for_one_process(config: &mut SessionConfig, threads: usize, conf: &BTreeMap<String, String>) -> Result<()> {
    let options = config.options_mut();
    let threads = threads.to_string();
    for (key, value) in IN_ONE_PROCESS.into_iter().chain([("datafusion.execution.target_partitions", threads.as_str())])
    {
        if !conf.contains_key(key) {
            options.set(key, value).map_err(from_datafusion)?;
        }
    }
    Ok(())
}

/// The limit that a session has. Its value was checked when it was set: one that is wrong all the same allows nothing.
fn one_task_bytes(conf: &BTreeMap<String, String>) -> usize {
    conf.get(ONE_TASK_BYTES).map_or(ONE_TASK_BYTES_DEFAULT, |text| parse_bytes(text).unwrap_or(0))
}

/// A size as Spark writes them: `1048576`, `64k`, `64kb`, `512MiB`, `1g`.
pub fn parse_bytes(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// Bytes of all tables that a plan reads, each as often as it does; none when a table does not tell.
pub fn bytes_read(plan: &LogicalPlan) -> Option<usize> {
    let mut total = Some(0_usize);
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            total = total.and_then(|total| Some(total.saturating_add(table_bytes(scan)?)));
        }
        Ok(if total.is_some() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })
    .ok()?;
    total
}

fn table_bytes(scan: &datafusion::logical_expr::TableScan) -> Option<usize> {
    let table = source_as_provider(&scan.source).ok()?;
    if let Some(view) = table.get_logical_plan() {
        return bytes_read(&view);
    }
    if let Some(memory) = table.downcast_ref::<MemTable>() {
        let mut bytes = 0;
        for partition in &memory.batches {
            // Held by whoever changes it, which nobody does to rows of a plan.
            bytes += partition.try_read().ok()?.iter().map(|batch| batch.get_array_memory_size()).sum::<usize>();
        }
        return Some(bytes);
    }
    table.statistics()?.total_byte_size.get_value().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::prelude::SessionContext;

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<usize>| assert_eq!(parse_bytes(text), expect, "{text}");
        check("17", Some(17));
        check("64k", Some(64 << 10));
        check("512 MiB", Some(512 << 20));
        check("1gb", Some(1 << 30));
        check("0", Some(0));
        check("", None);
        check("many", None);
        check("-1", None);
        check("99999999999999t", None);
    }

    #[tokio::test]
    async fn what_a_plan_reads() {
        let context = SessionContext::new();
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let rows = RecordBatch::try_from_iter([("id", ids)]).expect("a batch");
        let each = rows.get_array_memory_size();
        context.register_batch("few", rows).expect("is registered");
        let check = async |sql: &str, expect: Option<usize>| {
            let plan = context.sql(sql).await.expect(sql).into_unoptimized_plan();
            assert_eq!(bytes_read(&plan), expect, "{sql}");
        };
        check("SELECT 1", Some(0)).await;
        check("SELECT * FROM few", Some(each)).await;
        check("SELECT * FROM few a, few b WHERE a.id = b.id", Some(2 * each)).await;
        check("SELECT id FROM few WHERE id > (SELECT avg(id) FROM few)", Some(2 * each)).await;
        check("SELECT * FROM few WHERE EXISTS (SELECT 1 FROM range(10) r WHERE r.value = few.id)", None).await;
    }
}
