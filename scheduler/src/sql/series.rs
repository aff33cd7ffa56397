//! `range` and `generate_series`: DataFusion's, with a scan that keeps its column.
//!
//! Their own scan leaves the column out when nothing needs it (`SELECT count(*) FROM range(9)`), and its form on the wire
//! does not say so: an executor would make a column that the plan has not.

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Statistics;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use std::sync::Arc;

/// The names of these functions.
pub const NAMES: [&str; 2] = ["range", "generate_series"];

/// The function, its tables scanned whole and projected afterwards.
pub fn whole(function: &TableFunction) -> Arc<TableFunction> {
    Arc::new(TableFunction::new(function.name().to_string(), Arc::new(Whole(Arc::clone(function.function())))))
}

#[derive(Debug)]
struct Whole(Arc<dyn TableFunctionImpl>);

impl TableFunctionImpl for Whole {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(WholeTable(self.0.call_with_args(args)?)))
    }
}

#[derive(Debug)]
struct WholeTable(Arc<dyn TableProvider>);

#[async_trait]
impl TableProvider for WholeTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
    fn table_type(&self) -> TableType {
        self.0.table_type()
    }
    fn statistics(&self) -> Option<Statistics> {
        self.0.statistics()
    }
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.0.scan(state, None, filters, limit).await?;
        let schema = all.schema();
        match projection {
            Some(kept) if kept.len() < schema.fields().len() => {
                let columns = kept.iter().map(|at| {
                    let name = schema.field(*at).name();
                    (Arc::new(Column::new(name, *at)) as Arc<dyn PhysicalExpr>, name.clone())
                });
                Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), all)?))
            }
            _ => Ok(all),
        }
    }
}
