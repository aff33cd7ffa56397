//! A stream as a table: of one micro-batch, or not yet of any query.

use super::catalog::TableDefinition;
use super::error::from_datafusion;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use headwater_executor::connectors::Source;
use headwater_executor::operators::source_scan::SourceScanExec;
use headwater_proto::error::Error;
use std::sync::Arc;

/// What the planner puts where descriptors of the batch will be. Two of them, so that the plan is one for several
/// partitions: with a single one DataFusion would leave out exchanges that the real partitions need. No reader takes
/// them: running the plan without descriptors of a batch is an error, never an empty result.
const PLACEHOLDERS: [&str; 2] = ["", ""];

/// `STREAM(t)`. Scanned it gives a [`SourceScanExec`] whose descriptors the coordinator replaces for every batch.
#[derive(Debug)]
pub struct StreamTable {
    source: Arc<dyn Source>,
    index: usize,
    reader_config: String,
}

impl StreamTable {
    /// The query's source number `index`. `query` keys the executors' readers.
    pub fn new(source: Arc<dyn Source>, index: usize, query: &str) -> Self {
        let reader_config = source.reader_config(query);
        Self { source, index, reader_config }
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(SourceScanExec::try_new(
            self.source.format().to_string(),
            self.reader_config.clone(),
            self.source.schema(),
            projection.cloned(),
            Some(self.index),
            &PLACEHOLDERS.map(str::to_string),
        )?))
    }
}

/// A stream of a DataFrame: it can be analysed, and be part of a query that is started, which [`bind`]s it. As a table
/// of a batch query it fails.
#[derive(Debug)]
pub struct UnboundStream {
    table: TableDefinition,
    schema: SchemaRef,
}

impl UnboundStream {
    /// What is read, and its columns.
    pub fn new(table: TableDefinition, schema: SchemaRef) -> Self {
        Self { table, schema }
    }
    /// What is read.
    pub fn table(&self) -> &TableDefinition {
        &self.table
    }
}

#[async_trait]
impl TableProvider for UnboundStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::External(Box::new(Error::invalid(
            "STREAMING_QUERY_WITHOUT_START",
            format!(
                "queries with streaming sources must be executed with writeStream.start(): this one reads {} as a stream",
                self.table.format
            ),
        ))))
    }
}

fn as_unbound(plan: &LogicalPlan) -> Option<Arc<dyn TableProvider>> {
    let LogicalPlan::TableScan(scan) = plan else { return None };
    source_as_provider(&scan.source).ok().filter(|provider| provider.downcast_ref::<UnboundStream>().is_some())
}

/// The streams of a plan that no query reads yet, from left to right.
pub fn unbound(plan: &LogicalPlan) -> Vec<TableDefinition> {
    let mut found = vec![];
    plan.apply(|node| {
        if let Some(provider) = as_unbound(node)
            && let Some(stream) = provider.downcast_ref::<UnboundStream>()
        {
            found.push(stream.table.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
    found
}

/// Puts sources of the query `query` in the place of the streams that [`unbound`] finds, in its order.
///
/// # Errors
/// There are not as many sources as streams.
pub fn bind(
    plan: LogicalPlan,
    sources: &[Arc<dyn Source>],
    query: &str,
) -> headwater_proto::error::Result<LogicalPlan> {
    let mut next = sources.iter().enumerate();
    let bound = plan.transform_down(|node| {
        if as_unbound(&node).is_none() {
            return Ok(Transformed::no(node));
        }
        let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
        let Some((index, source)) = next.next() else {
            return datafusion::common::internal_err!("the plan has more streams than the {} sources", sources.len());
        };
        scan.source = provider_as_source(Arc::new(StreamTable::new(Arc::clone(source), index, query)));
        Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
    });
    bound.map(|bound| bound.data).map_err(from_datafusion)
}
