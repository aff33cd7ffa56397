//! Which functions there are: one list for the scheduler, which plans with them, and the executors, to which plans
//! travel with functions by name.
//!
//! Later ones replace earlier ones of the same name: DataFusion's, then datafusion-spark's, then ours.

use ballista_core::registry::BallistaFunctionRegistry;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion_spark::planner::SparkFunctionPlanner;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Spark's other names of aggregates.
const AGGREGATE_NAMES: &[(&str, &[&str])] = &[
    ("first_value", &["first", "any_value"]),
    ("last_value", &["last"]),
    ("bool_and", &["every"]),
    ("bool_or", &["some", "any"]),
    ("collect_list", &["array_agg"]),
];

/// Adds every function, and Spark's planning of expressions, to a session.
pub fn with_session_functions(builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut builder = builder.with_default_features();
    // First asked, so that EXTRACT and SUBSTRING are Spark's.
    builder.expr_planners().get_or_insert_with(Vec::new).insert(0, Arc::new(SparkFunctionPlanner));
    let scalar = builder.scalar_functions().get_or_insert_with(Vec::new);
    scalar.extend(datafusion_spark::all_default_scalar_functions());
    let own = super::all();
    // A session that is built again from another registers functions in no order, each with its aliases: none may have
    // a name of ours.
    let mut taken: HashSet<String> = HashSet::new();
    for function in &own {
        taken.insert(function.name().to_string());
        taken.extend(function.aliases().iter().cloned());
    }
    for function in super::lambdas::all() {
        taken.insert(function.name().to_string());
        taken.extend(function.aliases().iter().cloned());
    }
    scalar.retain(|function| {
        !taken.contains(function.name()) && !function.aliases().iter().any(|alias| taken.contains(alias))
    });
    scalar.extend(own);
    builder.higher_order_functions().get_or_insert_with(Vec::new).extend(super::lambdas::all());
    let aggregates = builder.aggregate_functions().get_or_insert_with(Vec::new);
    // Its avg knows doubles alone; DataFusion's does decimals too, with Spark's digits. Both would be there in no order.
    let sparks = datafusion_spark::all_default_aggregate_functions();
    aggregates.extend(sparks.into_iter().filter(|function| function.name() != "avg"));
    for (name, aliases) in AGGREGATE_NAMES {
        if let Some(function) = aggregates.iter().rev().find(|function| function.name() == *name) {
            let named = function.as_ref().clone().with_aliases(aliases.iter().copied());
            aggregates.push(Arc::new(named));
        }
    }
    let own = super::aggregates::all(aggregates);
    let taken: HashSet<&str> = own
        .iter()
        .flat_map(|function| std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)))
        .collect();
    aggregates.retain(|function| {
        !taken.contains(function.name()) && !function.aliases().iter().any(|alias| taken.contains(alias.as_str()))
    });
    aggregates.extend(own);
    let windows = builder.window_functions().get_or_insert_with(Vec::new);
    windows.extend(datafusion_spark::all_default_window_functions());
    let own = super::windows::all(windows);
    windows.retain(|function| !own.iter().any(|own| own.name() == function.name()));
    windows.extend(own);
    builder.table_functions().get_or_insert_with(HashMap::new).extend(
        datafusion_spark::all_default_table_functions()
            .into_iter()
            .map(|function| (function.name().to_string(), function)),
    );
    builder
}

/// The same functions for an executor: its default lacks the nested ones, datafusion-spark's and ours.
pub fn function_registry() -> BallistaFunctionRegistry {
    (&with_session_functions(SessionStateBuilder::new()).build()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there() {
        let registry = function_registry();
        for name in ["upper", "get_field", "array_position", "named_struct", "sha2", "parse_url"] {
            assert!(registry.scalar_functions.contains_key(name), "{name}");
        }
        for function in super::super::all() {
            assert!(registry.scalar_functions.contains_key(function.name()), "{}", function.name());
        }
        assert!(registry.aggregate_functions.contains_key("count"));
        // What plans name is what executors have.
        let decimal = arrow::datatypes::DataType::Decimal128(15, 2);
        let average = registry.aggregate_functions["avg"].return_type(&[decimal]).expect("decimals have an average");
        assert_eq!(average, arrow::datatypes::DataType::Decimal128(19, 6));
        assert!(registry.window_functions.contains_key("row_number"));
    }
}
