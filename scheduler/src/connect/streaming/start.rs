//! `df.writeStream…start()` and `.toTable(…)`: what is asked for, checked, and given to the manager as a definition.

use super::definition::{Blob, DataFrameDefinition, logical};
use super::listener;
use crate::connect::plan;
use crate::connect::sessions::Session;
use crate::session::Session as SqlSession;
use crate::sql::catalog::{TableDefinition, Taken};
use crate::sql::parser::Name;
use crate::sql::streaming::is_streaming;
use crate::streaming::manager::StartOptions;
use crate::streaming::trigger::{Trigger, parse_interval};
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::LogicalPlan;
use headwater_executor::connectors::{Options, WriteMode, memory};
use headwater_executor::functions::ddl;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::relation::RelType;
use headwater_proto::spark::write_stream_operation_start::{SinkDestination, Trigger as TriggerMessage};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Sinks whose queries begin anew each time: they leave nothing to go on from.
const TEMPORARY: [&str; 3] = ["console", "noop", "memory"];
/// Of a relation, with the rows that were put into it: it stands in the query's file.
const RELATION_BYTES_MAX: usize = 64 << 20;

/// What a client asks for, checked as far as that goes without looking at the rows.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    name: Option<String>,
    /// As given; none: the session's default.
    format: Option<String>,
    table: Option<String>,
    options: Options,
    partition_by: Vec<String>,
    trigger: Trigger,
    mode: WriteMode,
    checkpoint: Option<String>,
}

/// Whether rows go to a table of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OfTable {
    No,
    Known,
    /// It is to be made.
    New,
}

/// Starts a query.
///
/// # Errors
/// What cannot be run, by Spark's classes: nothing is left to fail in the background that can be known here.
pub async fn start(
    session: &Arc<Session>,
    command: spark::WriteStreamOperationStart,
) -> Result<spark::WriteStreamOperationStartResult> {
    let conf = session.sql().conf;
    let request = Request::of(&command, &conf)?;
    let relation = command.input.ok_or_else(|| Error::invalid("CONNECT_INVALID_PLAN", "writeStream has no input"))?;
    let plan = logical(session, &relation).await?;
    let (target, of_table) = request.target(session, &plan, &conf).await?;
    let mode = sink_mode(request.mode, &plan, has_watermark(&relation), &target)?;
    let fitted = of_table != OfTable::No;
    let temporary = !fitted && TEMPORARY.iter().any(|format| target.format.eq_ignore_ascii_case(format));
    let relation = plan::inlined(session, &relation).await?;
    if relation.encoded_len() > RELATION_BYTES_MAX {
        return Err(Error::invalid(
            "UNSUPPORTED_FEATURE",
            format!(
                "the streaming query holds over {} MiB of rows of createDataFrame(), which would have to be kept with it: \
                 write them to a table and read that",
                RELATION_BYTES_MAX >> 20
            ),
        ));
    }
    let made = (of_table == OfTable::New).then(|| target.clone());
    if let Some(table) = &made {
        session.statements().planner.catalog().create(table.clone(), Taken::Refuse).await?;
    }
    let definition = DataFrameDefinition {
        relation: Blob(relation.encode_to_vec()),
        target,
        fitted,
        mode,
        conf: conf.clone(),
        views: session.sql().views,
        database: session.sql().database,
    };
    let options = StartOptions {
        name: request.name.clone(),
        trigger: request.trigger,
        checkpoint: request.checkpoint,
        owner: Some(session.server_side_id().into()),
        replace_active: !conf
            .get("spark.sql.streaming.stopActiveRunOnRestart")
            .is_some_and(|value| value.eq_ignore_ascii_case("false")),
        temporary,
    };
    let format = definition.target.format.clone();
    let started = session.statements().manager.start(definition, options).await;
    if let (Err(_), Some(table)) = (&started, &made) {
        session.statements().take_back(table, None).await;
    }
    let status = started?;
    if let Some(name) = request.name.as_ref().filter(|_| format.eq_ignore_ascii_case("memory")) {
        let table = TableDefinition::new(name, "memory", Options::new([(memory::QUERY, status.id.as_str())]));
        session.with_sql(async |sql: &mut SqlSession| drop(sql.views.insert(name.to_lowercase(), table))).await;
    }
    Ok(spark::WriteStreamOperationStartResult {
        query_started_event_json: Some(listener::started(&status.id, &status.run_id, request.name.as_deref())),
        name: request.name.unwrap_or_default(),
        query_id: Some(spark::StreamingQueryInstanceId { id: status.id, run_id: status.run_id }),
    })
}

impl Request {
    fn of(command: &spark::WriteStreamOperationStart, conf: &BTreeMap<String, String>) -> Result<Self> {
        let python = |what: &str| {
            Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!(
                    "{what}() runs Python for the rows of each micro-batch, which is not supported yet: write to a sink \
                     such as org.apache.spark.sql.cassandra, kafka or parquet"
                ),
            )
        };
        if command.foreach_batch.is_some() {
            return Err(python("foreachBatch"));
        }
        if command.foreach_writer.is_some() {
            return Err(python("foreach"));
        }
        if !command.clustering_column_names.is_empty() {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "clusterBy() is not supported: no sink clusters its rows; use partitionBy() for files",
            ));
        }
        let mut options = Options::default();
        let (mut checkpoint, mut name) = (None, non_empty(&command.query_name));
        for (key, value) in &command.options {
            match key.to_ascii_lowercase().as_str() {
                "checkpointlocation" => checkpoint = non_empty(value),
                "queryname" => name = name.or_else(|| non_empty(value)),
                _ => options.set(key, value),
            }
        }
        let mut table = None;
        match &command.sink_destination {
            Some(SinkDestination::Path(path)) => options.set("path", path),
            Some(SinkDestination::TableName(name)) => table = non_empty(name),
            None => {}
        }
        let format = non_empty(&command.format);
        if format.as_deref().is_some_and(|format| format.eq_ignore_ascii_case("memory")) && name.is_none() {
            return Err(Error::invalid("QUERY_NAME_REQUIRED", "queryName must be specified for memory sink"));
        }
        if checkpoint.is_none()
            && let Some(folder) = conf.get("spark.sql.streaming.checkpointLocation").and_then(|value| non_empty(value))
        {
            let own = name.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
            checkpoint = Some(format!("{}/{own}", folder.trim_end_matches('/')));
        }
        Ok(Self {
            name,
            format,
            table,
            options,
            partition_by: command.partitioning_column_names.clone(),
            trigger: trigger(command.trigger.as_ref())?,
            mode: output_mode(&command.output_mode)?,
            checkpoint,
        })
    }

    /// Where rows go.
    async fn target(
        &self,
        session: &Session,
        plan: &LogicalPlan,
        conf: &BTreeMap<String, String>,
    ) -> Result<(TableDefinition, OfTable)> {
        let default = || conf.get("spark.sql.sources.default").cloned().unwrap_or_else(|| "parquet".into());
        let format = self.format.clone().unwrap_or_else(default);
        let Some(name) = &self.table else {
            let mut target = TableDefinition::new(&format, &format, self.options.clone());
            target.partition_by.clone_from(&self.partition_by);
            self.check_partitions(plan)?;
            return Ok((target, OfTable::No));
        };
        let parts = crate::connect::plan::parse_name(name)?;
        let name = &session.statements().planner.own_name(&Name(parts), &session.sql())?;
        let catalog = session.statements().planner.catalog();
        if let Some(mut known) = catalog.get(name) {
            if known.is_view() {
                return Err(Error::invalid(
                    "UNSUPPORTED_INSERT.VIEW",
                    format!("cannot stream into view `{}`: name the table that it shows", known.name),
                ));
            }
            if let Some(format) = &self.format
                && !same_format(format, &known.format)
            {
                return Err(Error::invalid(
                    "TABLE_FORMAT_MISMATCH",
                    format!(
                        "the input source({format}) is different from the table {name}'s data source provider({}): leave \
                         out format()",
                        known.format
                    ),
                ));
            }
            for (key, value) in self.options.iter() {
                known.options.set(key, value);
            }
            return Ok((known, OfTable::Known));
        }
        self.check_partitions(plan)?;
        let mut made = TableDefinition::new(name, format, self.options.clone());
        made.partition_by.clone_from(&self.partition_by);
        if made.is_files() {
            made.schema = Some(ddl::columns_ddl(plan.schema().inner().fields()));
            made.partitions_last()?;
        }
        Ok((session.statements().planner.settled(made).await?, OfTable::New))
    }

    fn check_partitions(&self, plan: &LogicalPlan) -> Result<()> {
        let has = |column: &String| {
            plan.schema().fields().iter().any(|field| field.name().to_lowercase() == column.to_lowercase())
        };
        match self.partition_by.iter().find(|column| !has(column)) {
            None => Ok(()),
            Some(column) => Err(Error::invalid(
                "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION",
                format!("partitionBy() names `{column}`, which is none of the columns that are written"),
            )),
        }
    }
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_string)
}

fn same_format(one: &str, other: &str) -> bool {
    let short = |format: &str| format.rsplit('.').next().unwrap_or(format).to_ascii_lowercase();
    short(one) == short(other)
}

fn trigger(trigger: Option<&TriggerMessage>) -> Result<Trigger> {
    Ok(match trigger {
        // A boolean that says no asks for nothing.
        None | Some(TriggerMessage::AvailableNow(false) | TriggerMessage::Once(false)) => Trigger::Default,
        Some(TriggerMessage::ProcessingTimeInterval(interval)) => Trigger::ProcessingTime(parse_interval(interval)?),
        Some(TriggerMessage::AvailableNow(true)) => Trigger::AvailableNow,
        Some(TriggerMessage::Once(true)) => Trigger::Once,
        Some(TriggerMessage::ContinuousCheckpointInterval(_)) => {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                "trigger(continuous=…) is not supported: Spark's continuous processing is superseded; use \
                 trigger(processingTime='0 seconds'), the default, whose batches take milliseconds",
            ));
        }
        Some(TriggerMessage::RealTimeBatchDuration(length)) => Trigger::real_time(parse_interval(length)?)?,
    })
}

fn output_mode(text: &str) -> Result<WriteMode> {
    Ok(match text.trim().to_ascii_lowercase().as_str() {
        "" | "append" => WriteMode::Append,
        "update" => WriteMode::Update,
        "complete" => WriteMode::Complete,
        other => {
            return Err(Error::invalid(
                "STREAMING_OUTPUT_MODE.INVALID",
                format!(
                    "invalid streaming output mode: {other}: accepted output modes are 'Append', 'Complete', 'Update'"
                ),
            ));
        }
    })
}

/// The mode in which the sink writes: without state, `update` has no rows to change, and is `append`.
fn sink_mode(asked: WriteMode, plan: &LogicalPlan, watermark: bool, target: &TableDefinition) -> Result<WriteMode> {
    let name = match asked {
        WriteMode::Append | WriteMode::Overwrite => "append",
        WriteMode::Update => "update",
        WriteMode::Complete => "complete",
    };
    let aggregates = aggregates(plan);
    if asked == WriteMode::Append && aggregates && !watermark {
        return Err(Error::invalid(
            "UNSUPPORTED_STREAMING_OPERATOR_WITHOUT_WATERMARK",
            "append output mode not supported for streaming aggregations on streaming DataFrames/DataSets without \
             watermark: call withWatermark() before, or use another output mode",
        ));
    }
    if asked == WriteMode::Complete && !aggregates {
        return Err(Error::invalid(
            "STREAMING_OUTPUT_MODE.UNSUPPORTED_OPERATION",
            "invalid streaming output mode: complete. This output mode is not supported for no streaming aggregations on \
             streaming DataFrames/DataSets: use append",
        ));
    }
    if asked != WriteMode::Append && target.is_files() {
        return Err(Error::invalid(
            "STREAMING_OUTPUT_MODE.UNSUPPORTED_DATASOURCE",
            format!(
                "invalid streaming output mode: {name}. This output mode is not supported in Data Source {}: use append",
                target.format
            ),
        ));
    }
    if aggregates {
        return Err(Error::invalid(
            "UNSUPPORTED_STREAMING_OPERATOR",
            "aggregations of streams are not supported yet: write the rows to a table and aggregate that",
        ));
    }
    Ok(WriteMode::Append)
}

/// Whether rows of a stream are aggregated.
fn aggregates(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_)) && node.inputs().into_iter().any(is_streaming)))
        .expect("the closure never fails")
}

/// Whether a watermark stands somewhere in a relation, as far as relations of one or two inputs go.
fn has_watermark(relation: &spark::Relation) -> bool {
    let Some(kind) = &relation.rel_type else { return false };
    let inputs: Vec<&Option<Box<spark::Relation>>> = match kind {
        RelType::WithWatermark(_) => return true,
        RelType::Project(node) => vec![&node.input],
        RelType::Filter(node) => vec![&node.input],
        RelType::Aggregate(node) => vec![&node.input],
        RelType::WithColumns(node) => vec![&node.input],
        RelType::WithColumnsRenamed(node) => vec![&node.input],
        RelType::Drop(node) => vec![&node.input],
        RelType::ToDf(node) => vec![&node.input],
        RelType::ToSchema(node) => vec![&node.input],
        RelType::SubqueryAlias(node) => vec![&node.input],
        RelType::Deduplicate(node) => vec![&node.input],
        RelType::Repartition(node) => vec![&node.input],
        RelType::Sort(node) => vec![&node.input],
        RelType::Hint(node) => vec![&node.input],
        RelType::CollectMetrics(node) => vec![&node.input],
        RelType::Join(node) => vec![&node.left, &node.right],
        RelType::SetOp(node) => vec![&node.left_input, &node.right_input],
        _ => vec![],
    };
    inputs.into_iter().flatten().any(|input| has_watermark(input))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn command(options: &[(&str, &str)]) -> spark::WriteStreamOperationStart {
        spark::WriteStreamOperationStart {
            format: "kafka".into(),
            options: options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            ..Default::default()
        }
    }

    fn refused(command: &spark::WriteStreamOperationStart, class: &str) {
        assert_eq!(Request::of(command, &BTreeMap::new()).expect_err(class).class, class);
    }

    #[test]
    fn options_of_the_query_are_not_the_sink_s() {
        let with_options = command(&[("checkpointLocation", "/c"), ("queryName", "q"), ("topic", "t")]);
        let request = Request::of(&with_options, &BTreeMap::new()).expect("a request");
        assert_eq!(request.options, Options::new([("topic", "t")]));
        assert_eq!((request.checkpoint.as_deref(), request.name.as_deref()), (Some("/c"), Some("q")));
        let conf = [("spark.sql.streaming.checkpointLocation".to_string(), "/all/".to_string())].into();
        let named = spark::WriteStreamOperationStart { query_name: "n".into(), ..command(&[]) };
        assert_eq!(Request::of(&named, &conf).expect("a request").checkpoint.as_deref(), Some("/all/n"));
        let unnamed = Request::of(&command(&[]), &conf).expect("a request").checkpoint;
        assert!(unnamed.is_some_and(|folder| folder.starts_with("/all/") && folder.len() > 30));
    }

    #[test]
    fn triggers() {
        let check = |message: Option<TriggerMessage>, expect: std::result::Result<Trigger, &str>| {
            assert_eq!(trigger(message.as_ref()).map_err(|error| error.class), expect.map_err(str::to_string));
        };
        check(None, Ok(Trigger::Default));
        let every = |text: &str| Some(TriggerMessage::ProcessingTimeInterval(text.into()));
        check(every("5 seconds"), Ok(Trigger::ProcessingTime(Duration::from_secs(5))));
        check(every("soon"), Err("CANNOT_PARSE_INTERVAL"));
        check(Some(TriggerMessage::Once(true)), Ok(Trigger::Once));
        check(Some(TriggerMessage::AvailableNow(true)), Ok(Trigger::AvailableNow));
        check(Some(TriggerMessage::ContinuousCheckpointInterval("1 second".into())), Err("UNSUPPORTED_FEATURE"));
        let real_time = Some(TriggerMessage::RealTimeBatchDuration("1 second".into()));
        check(real_time, Err("INVALID_STREAMING_REAL_TIME_MODE_TRIGGER_INTERVAL"));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        let function = || Some(spark::StreamingForeachFunction::default());
        refused(&spark::WriteStreamOperationStart { foreach_batch: function(), ..command(&[]) }, "UNSUPPORTED_FEATURE");
        refused(
            &spark::WriteStreamOperationStart { foreach_writer: function(), ..command(&[]) },
            "UNSUPPORTED_FEATURE",
        );
        let clustered = spark::WriteStreamOperationStart { clustering_column_names: vec!["a".into()], ..command(&[]) };
        refused(&clustered, "UNSUPPORTED_FEATURE");
        let mode = spark::WriteStreamOperationStart { output_mode: "upsert".into(), ..command(&[]) };
        refused(&mode, "STREAMING_OUTPUT_MODE.INVALID");
        refused(&spark::WriteStreamOperationStart { format: "memory".into(), ..command(&[]) }, "QUERY_NAME_REQUIRED");
    }

    #[test]
    fn watermarks_are_seen_below_others() {
        let relation = |rel_type| spark::Relation { rel_type: Some(rel_type), ..Default::default() };
        let marked = relation(RelType::WithWatermark(Box::default()));
        let filter = |input| {
            relation(RelType::Filter(Box::new(spark::Filter { input: Some(Box::new(input)), ..Default::default() })))
        };
        assert!(has_watermark(&filter(marked.clone())));
        let join = spark::Join { right: Some(Box::new(filter(marked))), ..Default::default() };
        assert!(has_watermark(&relation(RelType::Join(Box::new(join)))));
        assert!(!has_watermark(&filter(relation(RelType::Range(spark::Range::default())))));
    }
}
