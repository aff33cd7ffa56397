//! Sessions: settings as Spark names them, and the DataFusion state that queries are planned in.

use crate::sql::catalog::TableDefinition;
use crate::sql::event_windows::EventWindows;
use crate::sql::generators::Generators;
use crate::sql::grouping::Grouping;
use crate::sql::marks::Marks;
use crate::sql::operators::SparkOperators;
use crate::sql::physical::{ONE_TASK_BYTES, parse_bytes};
use crate::sql::placed::{PlaceFunctions, PlacedPlanner};
use crate::sql::rules::{
    BINARY_TO_STRING, CheapFirst, CloseCalls, LimitsOfMemory, ShareExpensive, SparkCasts, WholeRightSides,
};
use crate::sql::semantics::SparkSemantics;
use crate::sql::series;
use crate::sql::subqueries::Subqueries;
use crate::sql::types::SparkTypePlanner;
use crate::streaming::query::BATCH_DEADLINE;
use crate::streaming::trigger::parse_interval;
use ballista_core::optimizer::ballista_default_optimizer_rules;
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::common::config::TableOptions;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::optimizer::OptimizerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;
use headwater_executor::connectors::Options;
use headwater_proto::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

pub mod settings;

pub use headwater_executor::functions::registry::function_registry;

/// What a user set, and what only this user sees.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Settings by their Spark names. Unknown ones are kept: they are defaults of connectors' options.
    pub conf: BTreeMap<String, String>,
    /// Temporary views by lower-case name.
    pub views: BTreeMap<String, TableDefinition>,
    /// Temporary views of DataFrames by lower-case name, global ones as `global_temp.name`. A name is in one of the two
    /// maps.
    pub plans: BTreeMap<String, FrameView>,
    /// Tables and views that `CACHE TABLE` named, by [`Planner::cache_key`](crate::sql::planner::Planner::cache_key): that
    /// is remembered, and nothing is kept.
    pub cached: BTreeSet<String>,
    /// A task that writes is not repeated when it fails: its error is the statement's.
    pub single_attempt: bool,
    /// The current database, unless it is the default one.
    pub database: Option<String>,
}

/// A temporary view of a DataFrame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameView {
    /// As spelled when it was made.
    pub name: String,
    /// Makes its rows, under the names that it shows.
    pub plan: LogicalPlan,
    /// The DataFrame as it was sent, with the views that it named put in: a query that outlives the session is planned
    /// from this again.
    pub relation: Arc<headwater_proto::spark::Relation>,
}

impl Session {
    /// A session with these settings.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` for a setting that has no such value.
    pub fn new(conf: BTreeMap<String, String>) -> Result<Self> {
        session_config(&conf)?;
        Ok(Self { conf, ..Self::default() })
    }

    /// A setting: what was set, else the default.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.conf.get(key).map(String::as_str).or_else(|| settings::default_of(key))
    }
}

/// DataFusion's and Ballista's settings for Spark's.
///
/// `spark.sql.session.timeZone` and `spark.sql.shuffle.partitions` are applied, `datafusion.*` and `ballista.*` are
/// passed on; all else is not DataFusion's.
///
/// # Errors
/// `INVALID_CONF_VALUE` naming key and value.
pub fn session_config(conf: &BTreeMap<String, String>) -> Result<SessionConfig> {
    let mut config = crate::cluster::session_config()
        .with_information_schema(false)
        .set_str("datafusion.sql_parser.dialect", "spark")
        // Names keep their case; `sql::rewrite` resolves them as Spark does.
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.sql_parser.parse_float_as_decimal", true)
        .set_str("datafusion.sql_parser.default_null_ordering", "nulls_min")
        .set_str("datafusion.execution.time_zone", "UTC")
        .set_bool("datafusion.execution.enable_ansi_mode", true)
        // It takes a struct's fields apart at the scan, for the sake of Parquet, and so writes the `from_json` that
        // makes the struct once for every field.
        .set_bool("datafusion.optimizer.enable_leaf_expression_pushdown", false);
    for (key, value) in conf {
        let invalid = |why: &dyn std::fmt::Display| {
            Error::invalid(
                "INVALID_CONF_VALUE",
                format!("the value '{value}' in the config \"{key}\" is invalid: {why}"),
            )
        };
        match key.as_str() {
            "spark.sql.session.timeZone" => {
                value
                    .parse::<arrow::array::timezone::Tz>()
                    .map_err(|_| invalid(&"name a zone such as UTC, Europe/Paris or +01:00"))?;
                config = config.set_str("datafusion.execution.time_zone", value);
            }
            "spark.sql.ansi.enabled" => match value.trim().to_ascii_lowercase().as_str() {
                "true" => {}
                "false" => config = config.set_bool("datafusion.execution.enable_ansi_mode", false),
                _ => return Err(invalid(&"it must be true or false")),
            },
            "spark.sql.shuffle.partitions" => match value.trim().parse::<usize>() {
                Ok(partitions) if partitions > 0 => config = config.with_target_partitions(partitions),
                _ => return Err(invalid(&"it must be a positive number")),
            },
            BATCH_DEADLINE => {
                parse_interval(value).map_err(|error| invalid(&error.message))?;
            }
            ONE_TASK_BYTES => {
                parse_bytes(value).ok_or_else(|| invalid(&"it must be a size such as 512m or 1g"))?;
            }
            key if key.starts_with("headwater.") => {
                return Err(invalid(&format!("there is no such setting, only {BATCH_DEADLINE} and {ONE_TASK_BYTES}")));
            }
            key if key.starts_with("datafusion.") || key.starts_with("ballista.") => {
                config.options_mut().set(key, value).map_err(|error| invalid(&error.strip_backtrace()))?;
            }
            _ => {}
        }
    }
    // Whatever was set: Ballista's scheduler enforces it too.
    Ok(config.with_round_robin_repartition(false))
}

/// The state that queries are planned in: every function, Spark's types and rules, no tables.
///
/// One is made for every statement, and making hundreds of functions takes longer than planning a small one: what is
/// the same for all is made once.
pub fn session_state(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionState {
    static COMMON: LazyLock<SessionState> = LazyLock::new(common_state);
    SessionStateBuilder::new_from_existing(COMMON.clone())
        // These three are of one state alone: its tables, what follows from its settings, its time.
        .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
        .with_table_options(TableOptions::default_from_session_config(config.options()))
        .with_execution_props(ExecutionProps::new())
        .with_config(config)
        .with_runtime_env(runtime)
        .build()
}

fn common_state() -> SessionState {
    let mut builder = headwater_executor::functions::registry::with_session_functions(
        SessionStateBuilder::new().with_config(crate::cluster::session_config()),
    )
    .with_type_planner(Arc::new(SparkTypePlanner))
    .with_query_planner(Arc::new(PlacedPlanner))
    .with_optimizer_rules(optimizer_rules())
    .with_physical_optimizer_rules(physical_optimizer_rules());
    builder.expr_planners().get_or_insert_with(Vec::new).insert(0, Arc::new(SparkOperators));
    let tables = builder.table_functions().get_or_insert_default();
    for name in series::NAMES {
        if let Some(function) = tables.get_mut(name) {
            *function = series::whole(function);
        }
    }
    if let Some(function) = crate::sql::functions::own(BINARY_TO_STRING) {
        builder = builder.with_analyzer_rules(vec![
            Arc::new(Subqueries),
            Arc::new(Generators),
            Arc::new(EventWindows),
            Arc::new(SparkCasts::new(Arc::clone(function))),
            Arc::new(Grouping),
            Arc::new(SparkSemantics),
            Arc::new(TypeCoercion::new()),
            Arc::new(PlaceFunctions),
        ]);
    }
    builder.build()
}

/// Ballista's rules, and ours: [`Marks`] before the one that would join subqueries otherwise, [`ShareExpensive`] right
/// after the one that it undoes, since later ones hide what the filter computes.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = ballista_default_optimizer_rules();
    let place =
        |rules: &[Arc<dyn OptimizerRule + Send + Sync>], name: &str| rules.iter().position(|rule| rule.name() == name);
    let joins = place(&rules, "decorrelate_predicate_subquery").unwrap_or(0);
    rules.insert(joins, Arc::new(Marks));
    let filters = place(&rules, "push_down_filter").map_or(rules.len(), |found| found + 1);
    rules.insert(filters, Arc::new(ShareExpensive));
    rules
}

/// DataFusion's rules between ours: the first makes expressions fit to be moved.
fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(CloseCalls));
    rules.push(Arc::new(CheapFirst));
    rules.push(Arc::new(LimitsOfMemory));
    rules.push(Arc::new(WholeRightSides));
    rules
}

/// Settings in lower case that the format `kafka` knows, though their names do not say so.
const OF_KAFKA: [&str; 2] = ["spark.network.timeout", "spark.sql.streaming.kafka.usedeprecatedoffsetfetching"];

/// Options of a connector: those of the table, and beneath them what the session sets for its format.
///
/// `spark.cassandra.*` reaches the format `org.apache.spark.sql.cassandra` under its own name, and
/// `spark.datasource.cassandra.key` as `key`, as Spark does for every source. [`OF_KAFKA`] are
/// Spark's settings that its Kafka sources read.
pub fn with_defaults(format: &str, options: &Options, conf: &BTreeMap<String, String>) -> Options {
    let short = format.rsplit('.').next().unwrap_or(format).to_ascii_lowercase();
    let (own, datasource) = (format!("spark.{short}."), format!("spark.datasource.{short}."));
    let mut all = Options::default();
    for (key, value) in conf {
        let lower = key.to_ascii_lowercase();
        if lower.starts_with(&datasource) {
            all.set(&key[datasource.len()..], value);
        } else if lower.starts_with(&own) || (short == "kafka" && OF_KAFKA.contains(&lower.as_str())) {
            all.set(key, value);
        }
    }
    for (key, value) in options.iter() {
        all.set(key, value);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn settings_are_applied() {
        let config = session_config(&conf(&[
            ("spark.sql.session.timeZone", "Europe/Paris"),
            ("spark.sql.shuffle.partitions", "3"),
            ("datafusion.execution.batch_size", "17"),
            ("spark.anything", "x"),
        ]))
        .expect("is valid");
        assert_eq!(config.options().execution.time_zone.as_deref(), Some("Europe/Paris"));
        assert_eq!((config.target_partitions(), config.batch_size()), (3, 17));
        assert!(!config.options().optimizer.enable_round_robin_repartition);
        assert!(!config.options().sql_parser.map_string_types_to_utf8view);
        assert!(!config.options().execution.parquet.schema_force_view_types);
    }

    #[test]
    fn wrong_settings_are_named() {
        for (key, value) in [
            ("spark.sql.session.timeZone", "Mars"),
            ("spark.sql.shuffle.partitions", "0"),
            ("datafusion.execution.batch_size", "many"),
            ("datafusion.nope", "1"),
            ("headwater.nope", "1"),
            ("headwater.batch.deadline", "soon"),
            ("headwater.query.oneTaskBytes", "much"),
        ] {
            let message = session_config(&conf(&[(key, value)])).expect_err(key).to_string();
            let expect = format!("[INVALID_CONF_VALUE] the value '{value}' in the config \"{key}\"");
            assert!(message.starts_with(&expect), "{message}");
        }
    }

    #[test]
    fn settings_are_defaults_of_options() {
        let conf = conf(&[
            ("spark.cassandra.connection.host", "from-conf"),
            ("spark.cassandra.auth.username", "u"),
            ("spark.datasource.cassandra.keyspace", "k"),
            ("spark.kafka.consumer.cache.capacity", "3"),
            ("spark.network.timeout", "90s"),
        ]);
        let options = Options::new([("spark.cassandra.connection.HOST", "from-table")]);
        for format in ["cassandra", "org.apache.spark.sql.cassandra"] {
            let all = with_defaults(format, &options, &conf);
            assert_eq!(
                all.iter().collect::<Vec<_>>(),
                [
                    ("keyspace", "k"),
                    ("spark.cassandra.auth.username", "u"),
                    ("spark.cassandra.connection.HOST", "from-table"),
                ]
            );
        }
        assert_eq!(
            with_defaults("kafka", &Options::default(), &conf).iter().collect::<Vec<_>>(),
            [("spark.kafka.consumer.cache.capacity", "3"), ("spark.network.timeout", "90s")]
        );
        assert_eq!(with_defaults("parquet", &options, &conf), options);
    }
}
