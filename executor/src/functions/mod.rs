//! Scalar functions of Spark that neither DataFusion nor datafusion-spark has, one file each, and what they share:
//! Spark's type names ([`ddl`]) and its text of dates and times ([`datetime`]).

use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub mod cast;
pub mod datetime;
pub mod ddl;
pub mod json;
pub mod registry;

/// All of them, for the registries of scheduler and executors alike.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(cast::SparkBinaryToString::default())),
        Arc::new(ScalarUDF::from(json::from_json::FromJson::default())),
        Arc::new(ScalarUDF::from(json::to_json::ToJson::default())),
    ]
}
