//! Scalar functions of Spark that neither DataFusion nor datafusion-spark has, one file each, and what they share:
//! Spark's type names ([`ddl`]) and its text of dates and times ([`datetime`]).

use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub mod avro;
pub mod bind;
pub mod cast;
pub mod datetime;
pub mod ddl;
pub mod json;
pub mod protobuf;
pub mod registry;

/// All of them, for the registries of scheduler and executors alike.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(avro::from_avro::FromAvro::default())),
        Arc::new(ScalarUDF::from(avro::to_avro::ToAvro::default())),
        Arc::new(ScalarUDF::from(cast::SparkBinaryToString::default())),
        Arc::new(ScalarUDF::from(json::from_json::FromJson::default())),
        Arc::new(ScalarUDF::from(json::to_json::ToJson::default())),
        Arc::new(ScalarUDF::from(protobuf::from_protobuf::FromProtobuf::default())),
        Arc::new(ScalarUDF::from(protobuf::to_protobuf::ToProtobuf::default())),
    ]
}
