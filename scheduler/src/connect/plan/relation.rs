//! Relations, one arm each. A chain of them is walked without recursion: `withColumn` in a loop makes long ones.

use super::expression::{required, unsupported};
use super::frame::{Frame, parse_name};
use super::{Observation, Planner};
use crate::sql::error::from_datafusion;
use arrow::datatypes::DataType;
use datafusion::logical_expr::LogicalPlanBuilder;
use futures::FutureExt;
use futures::future::BoxFuture;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::Relation;
use headwater_proto::spark::parse::ParseFormat;
use headwater_proto::spark::relation::RelType;

/// Plans nested deeper than this are refused: DataFusion walks them by recursion.
const DEPTH_MAX: usize = 2000;

impl Planner<'_> {
    /// A relation as a frame.
    ///
    /// # Errors
    /// Spark's error classes.
    pub fn relation<'b>(&'b mut self, relation: &'b Relation) -> BoxFuture<'b, Result<Frame>> {
        let work = async move {
            let mut chain = vec![];
            let mut current = relation;
            while let Some(input) = only_input(current) {
                chain.push(current);
                current = input;
            }
            if chain.len() > DEPTH_MAX {
                return Err(Error::invalid(
                    "CONNECT_INVALID_PLAN.NESTED_TOO_DEEPLY",
                    format!(
                        "the plan has {} steps above each other: divide it by temporary views or a checkpoint",
                        chain.len()
                    ),
                ));
            }
            let mut frame = self.source(current).await?.known_as(plan_id(current));
            for relation in chain.into_iter().rev() {
                frame = self.step(relation, frame).await?.known_as(plan_id(relation));
            }
            Ok(frame)
        };
        // Joins and unions of a loop nest: each level is polled inside the one above.
        let mut work = Box::pin(work);
        std::future::poll_fn(move |context| super::with_stack(|| work.as_mut().poll(context))).boxed()
    }

    async fn input(&mut self, input: Option<&Relation>, what: &str) -> Result<Frame> {
        self.relation(required(input, what)?).await
    }

    /// What reads, and what is made of several relations.
    async fn source(&mut self, relation: &Relation) -> Result<Frame> {
        match required(relation.rel_type.as_ref(), "the kind of a relation")? {
            RelType::Read(read) => self.read(read).await,
            RelType::Sql(sql) => self.sql_relation(sql).await,
            RelType::LocalRelation(local) => self.local_relation(local),
            RelType::CachedLocalRelation(cached) => self.cached_local_relation(&cached.hash).await,
            RelType::ChunkedCachedLocalRelation(chunked) => self.chunked_local_relation(chunked).await,
            RelType::CachedRemoteRelation(remote) => {
                let Some(planned) = self.session.relations().get(&remote.relation_id) else {
                    return Err(Error::invalid(
                        "CONNECT_INVALID_PLAN.DATAFRAME_NOT_FOUND",
                        format!(
                            "no DataFrame with id {} found in the session {}",
                            remote.relation_id,
                            self.session.id()
                        ),
                    ));
                };
                planned.frame(&self.ids, &self.zone)
            }
            RelType::Range(range) => self.range(range),
            RelType::Join(join) => {
                let left = self.input(join.left.as_deref(), "the left side of a join").await?;
                let right = self.input(join.right.as_deref(), "the right side of a join").await?;
                self.join(left, right, join)
            }
            RelType::SetOp(operation) => {
                let left = self.input(operation.left_input.as_deref(), "the left side of a set operation").await?;
                let right = self.input(operation.right_input.as_deref(), "the right side of a set operation").await?;
                self.set_operation(left, right, operation)
            }
            RelType::AsOfJoin(join) => {
                let left = self.input(join.left.as_deref(), "the left side of a join").await?;
                let right = self.input(join.right.as_deref(), "the right side of a join").await?;
                self.as_of_join(left, right, join)
            }
            RelType::LateralJoin(join) => {
                let left = self.input(join.left.as_deref(), "the left side of a join").await?;
                let right = self.input(join.right.as_deref(), "the right side of a join").await?;
                self.lateral_join(left, right, join)
            }
            RelType::Zip(zip) => {
                let left = self.input(zip.left.as_deref(), "the left side of zip").await?;
                let right = self.input(zip.right.as_deref(), "the right side of zip").await?;
                self.zip(left, right)
            }
            RelType::WithRelations(with) => self.with_relations(with).await,
            RelType::UnresolvedTableValuedFunction(function) => self.table_function(function),
            RelType::Catalog(catalog) => self.catalog(catalog).await,
            RelType::NearestByJoin(_) => Err(unsupported("nearestByJoin")),
            RelType::RelationChanges(_) => Err(unsupported("the changes of a table")),
            RelType::MapPartitions(_) => Err(python("mapInPandas, mapInArrow and their like")),
            RelType::GroupMap(_) => Err(python("applyInPandas, applyInArrow and their like")),
            RelType::CoGroupMap(_) => Err(python("cogroup().applyInPandas and its like")),
            RelType::ApplyInPandasWithState(_) => Err(python("applyInPandasWithState")),
            RelType::CommonInlineUserDefinedTableFunction(function) => {
                Err(python(&format!("the table function {}", function.function_name)))
            }
            RelType::CommonInlineUserDefinedDataSource(source) => {
                Err(python(&format!("the data source {}", source.name)))
            }
            RelType::Extension(_) => Err(unsupported("an extension of Spark Connect")),
            _ => Err(unsupported("a relation of a kind that this server does not know")),
        }
    }

    /// What is made of one relation.
    async fn step(&mut self, relation: &Relation, frame: Frame) -> Result<Frame> {
        match required(relation.rel_type.as_ref(), "the kind of a relation")? {
            RelType::Project(message) => self.project(frame, message),
            RelType::Filter(message) => {
                self.filter(frame, required(message.condition.as_ref(), "the condition of a filter")?)
            }
            RelType::Sort(message) => self.sort(frame, message),
            RelType::Limit(message) => self.limit(frame, 0, Some(message.limit)),
            RelType::Offset(message) => self.limit(frame, message.offset, None),
            RelType::Tail(message) => self.tail(frame, message.limit),
            RelType::Aggregate(message) => self.aggregate(frame, message).await,
            RelType::Sample(message) => self.sample(frame, message),
            RelType::Deduplicate(message) => self.deduplicate(frame, message),
            RelType::SubqueryAlias(message) => {
                let mut qualifier = message.qualifier.clone();
                qualifier.push(message.alias.clone());
                Ok(frame.aliased(&qualifier))
            }
            RelType::Repartition(message) => self.repartition(frame, Some(message.num_partitions)),
            RelType::RepartitionByExpression(message) => {
                // What it names must be there.
                for expression in &message.partition_exprs {
                    self.expressions(&frame).with_hidden().sort_expression(expression)?;
                }
                self.repartition(frame, message.num_partitions)
            }
            RelType::ToDf(message) => self.to_df(frame, &message.column_names),
            RelType::WithColumnsRenamed(message) => self.renamed(frame, message),
            RelType::WithColumns(message) => self.with_columns(frame, message),
            RelType::Drop(message) => self.drop(frame, message),
            RelType::Hint(message) => Ok(self.hint(frame, message)),
            RelType::Unpivot(message) => self.unpivot(frame, message),
            RelType::ToSchema(message) => self.to_schema(frame, message),
            RelType::Parse(message) => self.parse(frame, message),
            RelType::Transpose(message) => self.transpose(frame, message).await,
            RelType::CollectMetrics(message) => self.collect_metrics(frame, message, plan_id(relation)),
            RelType::WithWatermark(message) => self.with_watermark(frame, message),
            RelType::ShowString(message) => self.show_string(frame, message).await,
            RelType::HtmlString(message) => self.html_string(frame, message).await,
            RelType::FillNa(message) => self.fill_na(frame, message),
            RelType::DropNa(message) => self.drop_na(frame, message),
            RelType::Replace(message) => self.replace(frame, message),
            RelType::Summary(message) => self.summary(frame, message),
            RelType::Describe(message) => self.describe(frame, message),
            RelType::Crosstab(message) => self.crosstab(frame, message).await,
            RelType::Cov(message) => self.of_two(frame, "covar_samp", &message.col1, &message.col2),
            RelType::Corr(message) => match message.method.as_deref() {
                None | Some("" | "pearson") => self.of_two(frame, "corr", &message.col1, &message.col2),
                Some(other) => Err(unsupported(&format!("the correlation method {other}: there is pearson"))),
            },
            RelType::ApproxQuantile(message) => self.approx_quantile(frame, message),
            RelType::FreqItems(message) => self.freq_items(frame, message).await,
            RelType::SampleBy(message) => self.sample_by(frame, message),
            _ => Err(Error::internal("a relation of one input that no step is for")),
        }
    }

    fn limit(&self, frame: Frame, skip: i32, fetch: Option<i32>) -> Result<Frame> {
        let count = |value: i32, what: &str| {
            usize::try_from(value).map_err(|_| {
                Error::invalid(
                    "INVALID_LIMIT_LIKE_EXPRESSION.IS_NEGATIVE",
                    format!("the {what} expression must be equal to or greater than 0, but got {value}"),
                )
            })
        };
        let fetch = fetch.map(|fetch| count(fetch, "limit")).transpose()?;
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .limit(count(skip, "offset")?, fetch)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Ok(frame.over(plan))
    }

    fn deduplicate(&mut self, frame: Frame, message: &spark::Deduplicate) -> Result<Frame> {
        if message.within_watermark.unwrap_or(false) {
            return Err(Error::invalid(
                "UNSUPPORTED_STREAMING_OPERATOR",
                "dropDuplicatesWithinWatermark is not supported: it needs state that this engine does not keep yet",
            ));
        }
        let frame = frame.sealed(&self.ids)?;
        if message.all_columns_as_keys.unwrap_or(false) || message.column_names.is_empty() {
            let plan = LogicalPlanBuilder::from(frame.plan().clone())
                .distinct()
                .and_then(LogicalPlanBuilder::build)
                .map_err(from_datafusion)?;
            return Ok(frame.over(plan));
        }
        let mut keys = vec![];
        for name in &message.column_names {
            let places = frame.positions(name);
            if places.is_empty() {
                keys.push(frame.named_column(name)?.expr());
            }
            keys.extend(places.into_iter().map(|at| frame.columns()[at].expr()));
        }
        // The first row of each group. Columns keep their names.
        let all = frame.columns().iter().map(super::frame::Attribute::expr).collect();
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .distinct_on(keys, all, None)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let columns = frame
            .columns()
            .iter()
            .zip(plan.schema().fields())
            .map(|(column, field)| super::frame::Attribute { id: field.name().clone(), ..column.clone() })
            .collect();
        Ok(frame.with(plan, columns).showing_only())
    }

    /// `repartition` and `coalesce`. To one partition is kept, since one file comes of it; other numbers are a matter
    /// of speed, which the engine decides.
    fn repartition(&self, frame: Frame, partitions: Option<i32>) -> Result<Frame> {
        match partitions {
            Some(partitions) if partitions <= 0 => Err(Error::invalid(
                "INVALID_PARAMETER_VALUE.PARTITIONS",
                format!("the number of partitions must be positive, not {partitions}"),
            )),
            Some(1) if !frame.is_streaming() => {
                // A limit that no result reaches gathers all partitions.
                let plan = LogicalPlanBuilder::from(frame.plan().clone())
                    .limit(0, Some(i64::MAX as usize))
                    .and_then(LogicalPlanBuilder::build)
                    .map_err(from_datafusion)?;
                Ok(frame.over(plan))
            }
            _ => Ok(frame),
        }
    }

    /// `spark.read.json(df)` and `spark.read.csv(df)`.
    fn parse(&mut self, frame: Frame, message: &spark::Parse) -> Result<Frame> {
        let [text] = frame.columns() else {
            return Err(Error::invalid("CONNECT_INVALID_PLAN.PARSE_INPUT", "what is parsed is one column of text"));
        };
        let Some(schema) = &message.schema else {
            return Err(unsupported(
                "a read of JSON or CSV from a DataFrame without a schema: give one with schema(…)",
            ));
        };
        let DataType::Struct(fields) = super::types::from_proto(schema)? else {
            return Err(Error::invalid("INVALID_SCHEMA.NON_STRUCT_TYPE", "the schema of a DataFrame is a struct"));
        };
        let function = match message.format() {
            ParseFormat::Json => "from_json",
            ParseFormat::Csv => "from_csv",
            ParseFormat::Xml => return Err(unsupported("a read of XML")),
            ParseFormat::Unspecified => return Err(unsupported("a parse without a format")),
        };
        let ddl = headwater_executor::functions::ddl::columns_ddl(&fields);
        let mut arguments = vec![text.expr(), datafusion::logical_expr::lit(ddl)];
        if !message.options.is_empty() {
            let pairs = message.options.iter().flat_map(|(key, value)| {
                [datafusion::logical_expr::lit(key.as_str()), datafusion::logical_expr::lit(value.as_str())]
            });
            arguments.push(self.expressions(&frame).function("map", pairs.collect(), false)?);
        }
        let parsed = self.expressions(&frame).function(function, arguments, false)?;
        let columns = fields
            .iter()
            .map(|field| {
                let value = datafusion::functions::core::expr_fn::get_field(parsed.clone(), field.name().as_str());
                super::expression::Named::new(value, field.name())
            })
            .collect();
        self.compute(frame, columns)
    }

    /// `observe`: rows pass, and what is asked of them is computed beside.
    fn collect_metrics(
        &mut self,
        frame: Frame,
        message: &spark::CollectMetrics,
        plan_id: Option<i64>,
    ) -> Result<Frame> {
        let metrics = self.expressions(&frame).columns(&message.metrics)?;
        if frame.is_streaming() {
            return Err(unsupported("observe() on a stream"));
        }
        if self.observations.iter().any(|known| known.name == message.name) {
            return Err(Error::invalid(
                "DUPLICATED_METRICS_NAME",
                format!(
                    "the metric name is not unique: {}: the same name cannot be used for metrics with different results",
                    message.name
                ),
            ));
        }
        let observed = self.group(frame.clone(), vec![], None, metrics)?;
        self.observations.push(Observation {
            name: message.name.clone(),
            plan_id: plan_id.unwrap_or_default(),
            plan: observed.distinctly_named()?,
        });
        Ok(frame)
    }

    /// `withWatermark`: what is not late yet passes; the rest is the streaming query's.
    fn with_watermark(&self, frame: Frame, message: &spark::WithWatermark) -> Result<Frame> {
        let attribute = frame.named_column(&message.event_time)?;
        let field = frame.field(&attribute)?;
        if !matches!(field.data_type(), DataType::Timestamp(..)) {
            return Err(Error::invalid(
                "EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE",
                format!(
                    "the event time `{}` has the invalid type {}, but expected \"TIMESTAMP\"",
                    message.event_time,
                    super::frame::type_text(field.data_type())
                ),
            ));
        }
        crate::streaming::trigger::parse_interval(&message.delay_threshold).map_err(|error| {
            Error::invalid(
                "CANNOT_PARSE_INTERVAL",
                format!("unable to parse the delay threshold '{}': {}", message.delay_threshold, error.message),
            )
        })?;
        Ok(frame)
    }

    /// A relation whose expressions, or whose SQL text, name other relations.
    async fn with_relations(&mut self, with: &spark::WithRelations) -> Result<Frame> {
        let before = self.references.len();
        for reference in &with.references {
            let frame = self.relation(reference).await?;
            if let Some(RelType::SubqueryAlias(alias)) = &reference.rel_type {
                self.references.push((alias.alias.clone(), frame.clone()));
            }
            if let Some(plan_id) = plan_id(reference) {
                self.subqueries.insert(plan_id, frame);
            }
        }
        let frame = self.input(with.root.as_deref(), "the root of a relation with others").await?;
        self.references.truncate(before);
        Ok(frame)
    }

    /// `spark.tvf.range(…)` and its like.
    fn table_function(&mut self, function: &spark::UnresolvedTableValuedFunction) -> Result<Frame> {
        let one_row = LogicalPlanBuilder::empty(true).build().map_err(from_datafusion)?;
        let frame = Frame::new(one_row, vec![], &self.zone);
        let name = parse_name(&function.function_name)?.pop().unwrap_or_default().to_ascii_lowercase();
        if name == "range" {
            let arguments = function
                .arguments
                .iter()
                .map(|argument| {
                    let named = self.expressions(&frame).one(argument)?;
                    match named.expr.as_literal().map(|value| value.cast_to(&DataType::Int64)) {
                        Some(Ok(datafusion::common::ScalarValue::Int64(Some(value)))) => Ok(value),
                        _ => Err(unsupported("range of what is no literal")),
                    }
                })
                .collect::<Result<Vec<i64>>>()?;
            let range = match arguments.as_slice() {
                [end] => spark::Range { start: Some(0), end: *end, step: 1, num_partitions: None },
                [start, end] => spark::Range { start: Some(*start), end: *end, step: 1, num_partitions: None },
                [start, end, step, ..] => {
                    spark::Range { start: Some(*start), end: *end, step: *step, num_partitions: None }
                }
                [] => return Err(super::expression::wrong_arguments("range", 0)),
            };
            return self.range(&range);
        }
        let call = super::sql_expression::call(&name, function.arguments.clone());
        let items = self.expressions(&frame).items(&[call])?;
        self.select(frame, items)
    }

    /// A query in SQL, with its parameters.
    async fn sql_relation(&mut self, sql: &spark::Sql) -> Result<Frame> {
        let statement = super::command::statement_of(sql)?;
        self.statement(&statement).await
    }
}

fn python(what: &str) -> Error {
    Error::invalid(
        "UNSUPPORTED_FEATURE.PYTHON_UDF",
        format!("{what}: this engine runs no Python code; use SQL functions"),
    )
}

fn plan_id(relation: &Relation) -> Option<i64> {
    relation.common.as_ref().and_then(|common| common.plan_id)
}

/// The one relation that this one is made of.
fn only_input(relation: &Relation) -> Option<&Relation> {
    match relation.rel_type.as_ref()? {
        RelType::Project(r) => r.input.as_deref(),
        RelType::Filter(r) => r.input.as_deref(),
        RelType::Sort(r) => r.input.as_deref(),
        RelType::Limit(r) => r.input.as_deref(),
        RelType::Aggregate(r) => r.input.as_deref(),
        RelType::Sample(r) => r.input.as_deref(),
        RelType::Offset(r) => r.input.as_deref(),
        RelType::Deduplicate(r) => r.input.as_deref(),
        RelType::SubqueryAlias(r) => r.input.as_deref(),
        RelType::Repartition(r) => r.input.as_deref(),
        RelType::ToDf(r) => r.input.as_deref(),
        RelType::WithColumnsRenamed(r) => r.input.as_deref(),
        RelType::ShowString(r) => r.input.as_deref(),
        RelType::Drop(r) => r.input.as_deref(),
        RelType::Tail(r) => r.input.as_deref(),
        RelType::WithColumns(r) => r.input.as_deref(),
        RelType::Hint(r) => r.input.as_deref(),
        RelType::Unpivot(r) => r.input.as_deref(),
        RelType::ToSchema(r) => r.input.as_deref(),
        RelType::RepartitionByExpression(r) => r.input.as_deref(),
        RelType::CollectMetrics(r) => r.input.as_deref(),
        RelType::Parse(r) => r.input.as_deref(),
        RelType::WithWatermark(r) => r.input.as_deref(),
        RelType::HtmlString(r) => r.input.as_deref(),
        RelType::Transpose(r) => r.input.as_deref(),
        RelType::FillNa(r) => r.input.as_deref(),
        RelType::DropNa(r) => r.input.as_deref(),
        RelType::Replace(r) => r.input.as_deref(),
        RelType::Summary(r) => r.input.as_deref(),
        RelType::Describe(r) => r.input.as_deref(),
        RelType::Crosstab(r) => r.input.as_deref(),
        RelType::Cov(r) => r.input.as_deref(),
        RelType::Corr(r) => r.input.as_deref(),
        RelType::ApproxQuantile(r) => r.input.as_deref(),
        RelType::FreqItems(r) => r.input.as_deref(),
        RelType::SampleBy(r) => r.input.as_deref(),
        _ => None,
    }
}
