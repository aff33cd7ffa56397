//! A stream as a table of one micro-batch.

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use headwater_executor::connectors::Source;
use headwater_executor::operators::source_scan::SourceScanExec;
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
