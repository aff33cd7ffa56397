//! Functions of Spark that neither DataFusion nor datafusion-spark has, or has with another meaning, and what they
//! share: parameters and implicit casts ([`native`], [`coercion`]), CAST ([`cast`]), Spark's type names ([`ddl`]) and its
//! text of dates and times ([`datetime`]).

use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

pub mod aggregates;
pub mod arithmetic;
pub mod avro;
pub mod binary_to_string;
pub mod bind;
pub mod cast;
pub mod closed;
pub mod coercion;
pub mod collections;
pub mod crypto;
pub mod csv;
pub mod dates;
pub mod datetime;
pub mod ddl;
pub mod event_windows;
pub mod generators;
pub mod hashes;
pub mod interval_fields;
pub mod json;
pub mod lambdas;
pub mod masked;
pub mod maths;
pub mod native;
pub mod paths;
pub mod protobuf;
pub mod random;
pub mod records;
pub mod regexes;
pub mod registry;
pub mod rewritten;
pub mod strings;
pub mod vectors;
pub mod windows;

/// All scalar ones, for the registries of scheduler and executors alike.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let mut all = vec![
        Arc::new(ScalarUDF::from(binary_to_string::SparkBinaryToString::default())),
        Arc::new(ScalarUDF::from(cast::SparkCast::default())),
        Arc::new(ScalarUDF::from(json::from_json::FromJson::default())),
        Arc::new(ScalarUDF::from(json::to_json::ToJson::default())),
    ];
    all.extend(records::functions().map(Arc::new));
    let tables = [
        arithmetic::functions(),
        collections::functions(),
        crypto::functions(),
        csv::functions(),
        dates::functions(),
        event_windows::functions(),
        generators::functions(),
        hashes::functions(),
        interval_fields::functions(),
        maths::functions(),
        paths::functions(),
        random::functions(),
        regexes::functions(),
        rewritten::functions(),
        strings::functions(),
        vectors::functions(),
    ];
    let functions = tables.into_iter().flatten().flat_map(native::Function::all);
    all.extend(functions.map(|function| Arc::new(ScalarUDF::from(function))));
    all
}
