//! `df.stat`, `describe`, `summary`, samples.

use super::Planner;
use super::expression::{Named, required, unsupported};
use super::frame::{Attribute, Frame, column};
use super::group::over_double;
use super::literal;
use crate::sql::error::from_datafusion;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::expr::{Case, Cast, Sort, TryCast};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use std::sync::Arc;

/// What `summary()` shows when nothing is asked for.
const SUMMARY: &[&str] = &["count", "mean", "stddev", "min", "25%", "50%", "75%", "max"];
/// What `describe()` shows.
const DESCRIBE: &[&str] = &["count", "mean", "stddev", "min", "max"];
/// Spark's default of `freqItems`.
const SUPPORT: f64 = 0.01;
/// Rows that `transpose` takes: Spark's `spark.sql.transposeMaxValues`.
const TRANSPOSE_ROWS_MAX: usize = 500;

impl Planner<'_> {
    /// `summary`.
    pub(super) fn summary(&mut self, frame: Frame, message: &spark::StatSummary) -> Result<Frame> {
        let wanted: Vec<String> = if message.statistics.is_empty() {
            SUMMARY.iter().map(ToString::to_string).collect()
        } else {
            message.statistics.clone()
        };
        self.statistics(frame, &wanted, &[])
    }

    /// `describe`.
    pub(super) fn describe(&mut self, frame: Frame, message: &spark::StatDescribe) -> Result<Frame> {
        let wanted: Vec<String> = DESCRIBE.iter().map(ToString::to_string).collect();
        self.statistics(frame, &wanted, &message.cols)
    }

    fn statistics(&mut self, frame: Frame, wanted: &[String], columns: &[String]) -> Result<Frame> {
        let mut chosen: Vec<Attribute> = if columns.is_empty() {
            frame.columns().to_vec()
        } else {
            columns.iter().map(|name| frame.named_column(name)).collect::<Result<_>>()?
        };
        let mut kept = vec![];
        for attribute in chosen.drain(..) {
            let data_type = frame.field(&attribute)?.data_type().clone();
            if data_type.is_numeric() || is_text(&data_type) {
                kept.push((attribute, data_type));
            }
        }
        // One row with every statistic of every column, then a row for each statistic.
        let mut outputs = vec![];
        for statistic in wanted {
            for (attribute, data_type) in &kept {
                let expr = self.statistic(&frame, statistic, attribute, data_type)?;
                outputs.push(Named::new(Expr::Cast(Cast::new(Box::new(expr), DataType::Utf8)), "value"));
            }
        }
        // Without columns there is still a row for each statistic.
        outputs.push(Named::new(self.expressions(&frame).function("count", vec![lit(1_i64)], false)?, "rows"));
        let grouped = self.group(frame, vec![], None, outputs)?;
        let mut rows = vec![];
        for (at, statistic) in wanted.iter().enumerate() {
            let mut row = vec![lit(statistic.as_str())];
            row.extend((0..kept.len()).map(|index| grouped.columns()[at * kept.len() + index].expr()));
            rows.push(row);
        }
        let names: Vec<String> =
            std::iter::once("summary".to_string()).chain(kept.iter().map(|(a, _)| a.name.clone())).collect();
        let unique: Vec<String> = (0..names.len()).map(|at| format!("c{at}")).collect();
        let (plan, made) = super::generate::rows(&grouped, unique, rows, &self.expressions(&grouped), &self.ids)?;
        let columns = made.into_iter().zip(names).map(|(made, name)| Attribute { name, ..made }).collect();
        Ok(grouped.with(plan, columns).showing_only())
    }

    fn statistic(&self, frame: &Frame, statistic: &str, attribute: &Attribute, data_type: &DataType) -> Result<Expr> {
        let expressions = self.expressions(frame);
        let own = attribute.expr();
        // Text that is no number counts for nothing here.
        let number = if is_text(data_type) {
            Expr::TryCast(TryCast::new(Box::new(own.clone()), DataType::Float64))
        } else {
            own.clone()
        };
        match statistic.to_ascii_lowercase().as_str() {
            "count" => expressions.function("count", vec![own], false),
            "mean" => over_double(&expressions, "avg", vec![number]),
            "stddev" => over_double(&expressions, "stddev", vec![number]),
            "min" => expressions.function("min", vec![own], false),
            "max" => expressions.function("max", vec![own], false),
            "count_distinct" => expressions.function("count", vec![own], true),
            "approx_count_distinct" => expressions.function("approx_count_distinct", vec![own], false),
            other => {
                let Some(percent) = other.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) else {
                    return Err(Error::invalid(
                        "INVALID_PARAMETER_VALUE.STATISTIC",
                        format!("{statistic} is not a recognised statistic"),
                    ));
                };
                if !(0.0..=100.0).contains(&percent) {
                    return Err(Error::invalid(
                        "INVALID_PARAMETER_VALUE.PERCENTILE",
                        format!("percentiles must be in the range [0, 100], not {statistic}"),
                    ));
                }
                self.percentile(frame, number, percent / 100.0)
            }
        }
    }

    /// A value of the column such that this part of them is not above it.
    fn percentile(&self, frame: &Frame, value: Expr, part: f64) -> Result<Expr> {
        let expressions = self.expressions(frame);
        if super::functions::exists(&self.state, "percentile_approx") {
            return expressions.function("percentile_approx", vec![value, lit(part)], false);
        }
        // The element itself: of n, the ceil(part * n)-th.
        let mut values = expressions.function("array_agg", vec![value.clone()], false)?;
        if let Expr::AggregateFunction(aggregate) = &mut values {
            aggregate.params.filter = Some(Box::new(value.clone().is_not_null()));
        }
        let sorted = expressions.function("array_sort", vec![values], false)?;
        let count =
            Expr::Cast(Cast::new(Box::new(expressions.function("count", vec![value], false)?), DataType::Float64));
        let rank = datafusion::functions::math::expr_fn::ceil(lit(part) * count);
        let rank = datafusion::functions::core::expr_fn::greatest(vec![
            Expr::Cast(Cast::new(Box::new(rank), DataType::Int64)),
            lit(1_i64),
        ]);
        Ok(datafusion::functions_nested::expr_fn::array_element(sorted, rank))
    }

    /// `cov`, `corr`.
    pub(super) fn of_two(&mut self, frame: Frame, function: &str, one: &str, two: &str) -> Result<Frame> {
        let mut arguments = vec![];
        for name in [one, two] {
            let attribute = frame.named_column(name)?;
            let data_type = frame.field(&attribute)?.data_type().clone();
            if !data_type.is_numeric() {
                return Err(Error::invalid(
                    "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE",
                    format!(
                        "{function} takes columns of numbers, and `{name}` is of type {}",
                        super::frame::type_text(&data_type)
                    ),
                ));
            }
            // A null counts as 0, and a result that there is none of is said so, as in Spark.
            let number = Expr::Cast(Cast::new(Box::new(attribute.expr()), DataType::Float64));
            arguments.push(datafusion::functions::core::expr_fn::coalesce(vec![number, lit(0.0)]));
        }
        let (name, none) = if function == "corr" { ("corr", f64::NAN) } else { ("cov", 0.0) };
        let expr = over_double(&self.expressions(&frame), function, arguments)?;
        let expr = datafusion::functions::core::expr_fn::coalesce(vec![expr, lit(none)]);
        self.group(frame, vec![], None, vec![Named::new(expr, name)])
    }

    /// `approxQuantile`: one row with a list for each column.
    pub(super) fn approx_quantile(&mut self, frame: Frame, message: &spark::StatApproxQuantile) -> Result<Frame> {
        let mut lists = vec![];
        for name in &message.cols {
            let attribute = frame.named_column(name)?;
            let value = Expr::Cast(Cast::new(Box::new(attribute.expr()), DataType::Float64));
            let mut quantiles = vec![];
            for part in &message.probabilities {
                if !(0.0..=1.0).contains(part) {
                    return Err(Error::invalid(
                        "INVALID_PARAMETER_VALUE.PERCENTILE",
                        format!("a probability must be in [0.0, 1.0], not {part}"),
                    ));
                }
                quantiles.push(self.percentile(&frame, value.clone(), *part)?);
            }
            lists.push(make_array(quantiles));
        }
        self.group(frame, vec![], None, vec![Named::new(make_array(lists), "approx_quantile")])
    }

    /// `crosstab`.
    pub(super) async fn crosstab(&mut self, frame: Frame, message: &spark::StatCrosstab) -> Result<Frame> {
        let text = |attribute: &Attribute| {
            let cast = Expr::Cast(Cast::new(Box::new(attribute.expr()), DataType::Utf8));
            datafusion::functions::core::expr_fn::coalesce(vec![cast, lit("null")])
        };
        let (one, two) = (frame.named_column(&message.col1)?, frame.named_column(&message.col2)?);
        let name = format!("{}_{}", message.col1, message.col2);
        let computed = self.compute(frame, vec![Named::new(text(&one), &name), Named::new(text(&two), "by")])?;
        let frame = computed.sealed(&self.ids)?;
        let keys = vec![Named::of_column(frame.columns()[0].clone())];
        let by = Named::of_column(frame.columns()[1].clone());
        let values = self.pivot_values(&frame, &by).await?;
        let count = self.expressions(&frame).function("count", vec![lit(1_i64)], false)?;
        let pivoted = self.pivoted(frame, keys, &by, values, vec![Named::new(count, "count")])?;
        let mut columns: Vec<Named> = vec![Named::of_column(pivoted.columns()[0].clone())];
        for attribute in &pivoted.columns()[1..] {
            let filled = datafusion::functions::core::expr_fn::coalesce(vec![attribute.expr(), lit(0_i64)]);
            columns.push(Named::new(filled, &attribute.name));
        }
        self.compute(pivoted, columns)
    }

    /// `freqItems`: values that are at least this part of all, had while the relation is planned.
    pub(super) async fn freq_items(&mut self, frame: Frame, message: &spark::StatFreqItems) -> Result<Frame> {
        let support = message.support.unwrap_or(SUPPORT);
        if !(1e-4..=1.0).contains(&support) {
            return Err(Error::invalid(
                "INVALID_PARAMETER_VALUE.SUPPORT",
                format!("the support must be in [1e-4, 1], not {support}"),
            ));
        }
        let mut columns: Vec<(String, ArrayRef, bool)> = vec![];
        for name in &message.cols {
            let attribute = frame.named_column(name)?;
            let key = Named::of_column(attribute.clone());
            let count = self.expressions(&frame).function("count", vec![lit(1_i64)], false)?;
            let counted = self.group(frame.clone(), vec![key.clone()], None, vec![key, Named::new(count, "count")])?;
            let rows = self.collect(&counted).await?;
            let counts = rows.column(1).as_primitive::<Int64Type>();
            let all: i64 = counts.values().iter().sum();
            let chosen: Vec<ScalarValue> = (0..rows.num_rows())
                .filter(|row| counts.value(*row) as f64 >= support * all as f64)
                .map(|row| ScalarValue::try_from_array(rows.column(0), row).map_err(from_datafusion))
                .collect::<Result<_>>()?;
            let items = literal::array_of(chosen, rows.column(0).data_type())?;
            let list = datafusion::common::utils::SingleRowListArrayBuilder::new(items).build_list_array();
            columns.push((format!("{name}_freqItems"), Arc::new(list), true));
        }
        let rows = RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| from_datafusion(error.into()))?;
        self.of_rows(rows)
    }

    /// A number from 0 to 1 for each row, Spark's for the seed.
    fn chance(&self, frame: &Frame, seed: i64) -> Result<Expr> {
        self.expressions(frame).function("rand", vec![lit(seed)], false)
    }

    /// `sample`.
    pub(super) fn sample(&mut self, frame: Frame, message: &spark::Sample) -> Result<Frame> {
        if message.with_replacement.unwrap_or(false) {
            return Err(unsupported("a sample with replacement"));
        }
        let seed = message.seed.unwrap_or_else(rand::random);
        let chance = self.chance(&frame, seed)?;
        let mut conditions = vec![];
        if message.lower_bound > 0.0 {
            conditions.push(chance.clone().gt_eq(lit(message.lower_bound)));
        }
        if message.upper_bound < 1.0 {
            conditions.push(chance.lt(lit(message.upper_bound)));
        }
        let builder = LogicalPlanBuilder::from(frame.plan().clone());
        let plan = match conditions.into_iter().reduce(Expr::and) {
            Some(condition) => builder.filter(condition).and_then(LogicalPlanBuilder::build),
            None => builder.build(),
        };
        frame.over(plan.map_err(from_datafusion)?).sealed(&self.ids)
    }

    /// `sampleBy`.
    pub(super) fn sample_by(&mut self, frame: Frame, message: &spark::StatSampleBy) -> Result<Frame> {
        let by = self.expressions(&frame).one(required(message.col.as_ref(), "the column of strata")?)?;
        let chance = self.chance(&frame, message.seed.unwrap_or_else(rand::random))?;
        let mut branches = vec![];
        for fraction in &message.fractions {
            let stratum = literal::scalar(required(fraction.stratum.as_ref(), "a stratum")?)?;
            let same = by.expr.clone().eq(Expr::Literal(stratum, None));
            branches.push((Box::new(same), Box::new(chance.clone().lt(lit(fraction.fraction)))));
        }
        let condition = Expr::Case(Case::new(None, branches, Some(Box::new(lit(false)))));
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .filter(condition)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        frame.over(plan).sealed(&self.ids)
    }

    /// `tail`: the last rows, in their order.
    pub(super) fn tail(&mut self, frame: Frame, count: i32) -> Result<Frame> {
        let (plan, number) = self.numbered(&frame)?;
        let newest_first = LogicalPlanBuilder::from(plan)
            .sort_with_limit(vec![Sort::new(column(&number), false, false)], Some(usize::try_from(count).unwrap_or(0)))
            .and_then(|builder| builder.sort(vec![Sort::new(column(&number), true, true)]))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Ok(frame.over(newest_first))
    }

    /// `transpose`: rows become columns, called by the values of one of them.
    pub(super) async fn transpose(&mut self, frame: Frame, message: &spark::Transpose) -> Result<Frame> {
        let index = match message.index_columns.as_slice() {
            [] => match frame.columns().first() {
                Some(first) => Named::of_column(first.clone()),
                None => return Ok(frame),
            },
            [one] => self.expressions(&frame).one(one)?,
            _ => {
                return Err(Error::invalid(
                    "TRANSPOSE_INVALID_INDEX_COLUMN",
                    "invalid index column for TRANSPOSE because: only one index column is supported",
                ));
            }
        };
        let Some(index) = index.attribute else {
            return Err(Error::invalid(
                "TRANSPOSE_INVALID_INDEX_COLUMN",
                "invalid index column for TRANSPOSE because: it is not a column of the DataFrame",
            ));
        };
        let others: Vec<Attribute> = frame.columns().iter().filter(|column| column.id != index.id).cloned().collect();
        let types =
            others.iter().map(|other| Ok(frame.field(other)?.data_type().clone())).collect::<Result<Vec<_>>>()?;
        let data_type = super::generate::common_type(&types).map_err(|error| {
            Error::invalid(
                "TRANSPOSE_NO_LEAST_COMMON_TYPE",
                format!("transpose requires non-index columns to share a least common type: {}", error.message),
            )
        })?;
        let text = Expr::Cast(Cast::new(Box::new(index.expr()), DataType::Utf8));
        let mut columns = vec![Named::new(text, "index")];
        for other in &others {
            let cast = Expr::Cast(Cast::new(Box::new(other.expr()), data_type.clone()));
            columns.push(Named::new(cast, &other.name));
        }
        let chosen = self.compute(frame, columns)?;
        let key = chosen.columns()[0].expr();
        let plan = LogicalPlanBuilder::from(chosen.plan().clone())
            .filter(key.clone().is_not_null())
            .and_then(|builder| builder.sort_with_limit(vec![Sort::new(key, true, true)], Some(TRANSPOSE_ROWS_MAX + 1)))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let rows = self.collect(&chosen.over(plan)).await?;
        if rows.num_rows() > TRANSPOSE_ROWS_MAX {
            return Err(Error::invalid(
                "TRANSPOSE_EXCEED_ROW_LIMIT",
                format!("number of rows exceeds the allowed limit of {TRANSPOSE_ROWS_MAX} for TRANSPOSE"),
            ));
        }
        let keys: ArrayRef =
            Arc::new(arrow::array::StringArray::from_iter_values(others.iter().map(|other| other.name.as_str())));
        let mut made: Vec<(String, ArrayRef, bool)> = vec![("key".into(), keys, false)];
        let names = rows.column(0).as_string::<i32>();
        for row in 0..rows.num_rows() {
            let values = rows.columns()[1..]
                .iter()
                .map(|column| ScalarValue::try_from_array(column, row).map_err(from_datafusion))
                .collect::<Result<Vec<_>>>()?;
            let values = literal::array_of(values, &super::frame::client_type(&data_type, &self.zone))?;
            let name = if names.is_null(row) { "null" } else { names.value(row) };
            made.push((name.to_string(), values, true));
        }
        let rows = RecordBatch::try_from_iter_with_nullable(made).map_err(|error| from_datafusion(error.into()))?;
        self.of_rows(rows)
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
