//! `spark.readStream`: a stream as a table of a DataFrame.

use crate::connect::sessions::Session;
use crate::sql::catalog::{TableDefinition, not_found};
use crate::sql::error::from_datafusion;
use crate::sql::parser::Name;
use arrow::datatypes::DataType;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use headwater_executor::connectors::Options;
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::read::ReadType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The setting that lets streams of files find out their columns.
const SCHEMA_INFERENCE: &str = "spark.sql.streaming.schemaInference";

/// The plan of `spark.readStream…load()` and `.table(…)`: to be analysed, and started by `writeStream`.
///
/// # Errors
/// Those of Spark for options, schemas and names that cannot be.
pub async fn read(session: &Session, read: &spark::Read) -> Result<LogicalPlan> {
    let conf = session.sql().conf;
    let planner = &session.statements().planner;
    let known = || planner.catalog().list().into_iter().map(|table| table.name).collect::<Vec<_>>();
    let table = match &read.read_type {
        Some(ReadType::DataSource(source)) => of_source(source, &conf)?,
        Some(ReadType::NamedTable(named)) => {
            let name = Name(crate::connect::plan::parse_name(&named.unparsed_identifier)?);
            let own = planner.own_name(&name, &session.sql())?;
            let found = planner.catalog().get(&own).ok_or_else(|| not_found(&name, &known()))?;
            with_options(found, &named.options)?
        }
        None => return Err(Error::invalid("CONNECT_INVALID_PLAN", "the plan has a read that says nothing to read")),
    };
    let qualifier = TableReference::bare(table.name.clone());
    let stream = planner.unbound_stream(table, &conf).await?;
    LogicalPlanBuilder::scan(qualifier, provider_as_source(Arc::new(stream)), None)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)
}

/// A stream of a format with options.
fn of_source(source: &spark::read::DataSource, conf: &BTreeMap<String, String>) -> Result<TableDefinition> {
    if let Some(name) = source.source_name.as_deref().filter(|name| !name.is_empty()) {
        return Err(Error::invalid(
            "STREAMING_QUERY_EVOLUTION_ERROR.SOURCE_NAMING_NOT_SUPPORTED",
            format!("streaming source naming is not supported, and the source is named '{name}': leave out name()"),
        ));
    }
    let format = source.format.as_deref().filter(|format| !format.is_empty());
    let format = format.or(conf.get("spark.sql.sources.default").map(String::as_str)).unwrap_or("parquet");
    let mut options = Options::new(source.options.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    match source.paths.as_slice() {
        [] => {}
        [path] => options.set("path", path),
        several => {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!(
                    "a stream of files has one path, and {} are given: use a pattern such as /in/{{a,b}}",
                    several.len()
                ),
            ));
        }
    }
    let mut table = TableDefinition::new(format, format, options);
    if let Some(text) = source.schema.as_deref().filter(|text| !text.trim().is_empty()) {
        if let Some(name) = fixed_schema(format) {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!("{name} source has a fixed schema and cannot be set with a custom one: leave out schema()"),
            ));
        }
        let DataType::Struct(fields) = ddl::parse_schema(text)? else {
            return Err(Error::invalid(
                "INVALID_SCHEMA.NON_STRUCT_TYPE",
                format!("the schema {text} is no list of columns"),
            ));
        };
        table.schema = Some(ddl::columns_ddl(&fields));
    } else if table.is_files()
        && !table.format.eq_ignore_ascii_case("text")
        && !conf.get(SCHEMA_INFERENCE).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Err(Error::invalid(
            "STREAMING_SCHEMA_REQUIRED",
            format!(
                "schema must be specified when creating a streaming source DataFrame of {format} files: give schema(…); if \
                 some files exist already, spark.conf.set(\"{SCHEMA_INFERENCE}\", \"true\") takes theirs"
            ),
        ));
    }
    Ok(table)
}

/// Sources whose columns are what they are, as Spark calls them.
fn fixed_schema(format: &str) -> Option<&'static str> {
    match format.to_ascii_lowercase().as_str() {
        "kafka" => Some("Kafka"),
        "rate" => Some("Rate"),
        "rate-micro-batch" => Some("Rate-micro-batch"),
        _ => None,
    }
}

/// A table of the catalog with more options.
fn with_options(
    mut table: TableDefinition,
    options: &std::collections::HashMap<String, String>,
) -> Result<TableDefinition> {
    if table.is_view() {
        return Err(Error::invalid(
            "UNSUPPORTED_STREAMING_OPERATOR",
            format!("`{}` is a view: read the tables inside the view as streams", table.name),
        ));
    }
    for (key, value) in options {
        table.options.set(key, value);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        format: &str,
        schema: &str,
        paths: &[&str],
        conf: &[(&str, &str)],
        expect: std::result::Result<&str, &str>,
    ) {
        let source = spark::read::DataSource {
            format: Some(format.into()).filter(|format: &String| !format.is_empty()),
            schema: Some(schema.into()).filter(|schema: &String| !schema.is_empty()),
            paths: paths.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let conf = conf.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        match (of_source(&source, &conf), expect) {
            (Ok(table), Ok(expect)) => {
                let path = table.options.get("path").unwrap_or("-");
                assert_eq!(format!("{} {path} {}", table.format, table.schema.as_deref().unwrap_or("-")), expect);
            }
            (Err(error), Err(class)) => assert_eq!(error.class, class, "{error}"),
            (outcome, _) => panic!("{format}: {outcome:?}"),
        }
    }

    #[test]
    fn sources() {
        check("kafka", "", &[], &[], Ok("kafka - -"));
        check("kafka", "a INT", &[], &[], Err("UNSUPPORTED_FEATURE"));
        check("RATE", "a INT", &[], &[], Err("UNSUPPORTED_FEATURE"));
        check("", "a INT", &["/in"], &[], Ok("parquet /in a INT"));
        check("", "a INT", &["/in"], &[("spark.sql.sources.default", "json")], Ok("json /in a INT"));
        let json = r#"{"type":"struct","fields":[{"name":"a","type":"long","nullable":true,"metadata":{}}]}"#;
        check("json", json, &["/in"], &[], Ok("json /in a BIGINT"));
        check("json", "array<int>", &["/in"], &[], Err("INVALID_SCHEMA.NON_STRUCT_TYPE"));
        check("json", "", &["/in"], &[], Err("STREAMING_SCHEMA_REQUIRED"));
        check("json", "", &["/in"], &[(SCHEMA_INFERENCE, "true")], Ok("json /in -"));
        check("text", "", &["/in"], &[], Ok("text /in -"));
        check("json", "a INT", &["/in", "/more"], &[], Err("UNSUPPORTED_FEATURE"));
    }
}
