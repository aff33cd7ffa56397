//! `grouping` and `grouping_id`: names and types alone. The analyzer puts what they are in their place.

use super::{Aggregate, Start};
use crate::functions::native::external;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::Accumulator;
use headwater_proto::error::Error;

/// The aggregates.
pub fn aggregates() -> Vec<Aggregate> {
    vec![
        Aggregate::new("grouping", |_, types| Ok(types.to_vec()), |_| Ok(DataType::Int8), |_, _| vec![], replaced)
            .never_null(),
        Aggregate::new("grouping_id", |_, types| Ok(types.to_vec()), |_| Ok(DataType::Int64), |_, _| vec![], replaced)
            .never_null(),
    ]
}

fn replaced(start: &Start<'_>) -> Result<Box<dyn Accumulator>> {
    Err(external(Error::internal(format!("the analyzer should have replaced {}", start.name))))
}
