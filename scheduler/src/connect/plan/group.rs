//! Aggregates: `groupBy`, `rollup`, `cube`, grouping sets and pivots.

use super::expression::{Expressions, Named, required, unsupported};
use super::frame::{Attribute, Frame, column, project};
use super::select::{unaliased, with_windows};
use super::{Planner, literal};
use crate::sql::error::from_datafusion;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{AggregateFunction, Cast, GroupingSet, Sort};
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use headwater_executor::connectors::files::value::{Style, formatter};
use headwater_proto::error::{Error, Result};
use headwater_proto::spark;
use headwater_proto::spark::aggregate::GroupType;
use std::collections::HashSet;

/// Spark's `spark.sql.pivotMaxValues`.
const PIVOT_VALUES_MAX: usize = 10_000;

impl Planner<'_> {
    /// `groupBy(…).agg(…)` and its like.
    pub(super) async fn aggregate(&mut self, frame: Frame, message: &spark::Aggregate) -> Result<Frame> {
        let expressions = self.expressions(&frame);
        let keys = expressions.columns(&message.grouping_expressions)?;
        let outputs = expressions.columns(&message.aggregate_expressions)?;
        let all = |keys: &[Named]| (0..keys.len()).collect::<Vec<usize>>();
        match message.group_type() {
            GroupType::Groupby => self.group_with_keys(frame, keys, None, outputs),
            GroupType::Rollup => {
                let sets = (0..=keys.len()).rev().map(|length| (0..length).collect()).collect();
                self.group_with_keys(frame, keys, Some(sets), outputs)
            }
            GroupType::Cube => {
                if keys.len() > 16 {
                    return Err(unsupported("a cube of more than 16 columns"));
                }
                let sets = (0..1_usize << keys.len())
                    .rev()
                    .map(|bits| all(&keys).into_iter().filter(|at| bits >> (keys.len() - 1 - at) & 1 == 1).collect())
                    .collect();
                self.group_with_keys(frame, keys, Some(sets), outputs)
            }
            GroupType::GroupingSets => {
                let mut keys = keys;
                let mut sets = vec![];
                for set in &message.grouping_sets {
                    let mut places = vec![];
                    for named in expressions.columns(&set.grouping_set)? {
                        let place = keys.iter().position(|key| key.expr == named.expr);
                        places.push(place.unwrap_or(keys.len()));
                        if place.is_none() {
                            keys.push(named);
                        }
                    }
                    sets.push(places);
                }
                self.group_with_keys(frame, keys, Some(sets), outputs)
            }
            GroupType::Pivot => self.pivot(frame, keys, outputs, message).await,
            GroupType::Unspecified => Err(unsupported("an aggregate without a kind")),
        }
    }

    /// Keys are the first columns of what comes out.
    fn group_with_keys(
        &mut self,
        frame: Frame,
        keys: Vec<Named>,
        sets: Option<Vec<Vec<usize>>>,
        outputs: Vec<Named>,
    ) -> Result<Frame> {
        let all = keys.iter().cloned().chain(outputs).collect();
        self.group(frame, keys, sets, all)
    }

    /// Groups by `keys` (in the given sets of them, where there are several); `outputs` are made of keys and aggregates.
    pub(super) fn group(
        &mut self,
        frame: Frame,
        keys: Vec<Named>,
        sets: Option<Vec<Vec<usize>>>,
        outputs: Vec<Named>,
    ) -> Result<Frame> {
        for key in &keys {
            if !find_aggregate_exprs([&key.expr]).is_empty() {
                return Err(Error::invalid(
                    "GROUP_BY_AGGREGATE",
                    format!("aggregate functions are not allowed in GROUP BY, but found {}", key.text),
                ));
            }
        }
        let (frame, key_ids) = self.with_key_columns(frame, &keys)?;
        let replace_keys = |expr: Expr| -> Result<Expr> {
            let replaced = expr.transform_down(|expr| {
                // Inside of aggregates there are the rows, not the groups.
                if matches!(expr, Expr::AggregateFunction(_)) {
                    return Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump));
                }
                Ok(match keys.iter().position(|key| unaliased(key.expr.clone()) == expr) {
                    Some(at) => Transformed::new(column(&key_ids[at]), true, TreeNodeRecursion::Jump),
                    None => Transformed::no(expr),
                })
            });
            Ok(replaced.map_err(from_datafusion)?.data)
        };
        let exprs =
            outputs.iter().map(|named| replace_keys(unaliased(named.expr.clone()))).collect::<Result<Vec<_>>>()?;
        let aggregates = find_aggregate_exprs(&exprs);
        let aggregate_ids: Vec<String> = aggregates.iter().map(|_| self.ids.next("aggregate")).collect();
        let group_exprs = self.group_exprs(&keys, &key_ids, sets);
        let plan = LogicalPlanBuilder::from(frame.plan().clone())
            .aggregate(
                group_exprs,
                aggregates.iter().zip(&aggregate_ids).map(|(expr, id)| expr.clone().alias(id)).collect::<Vec<_>>(),
            )
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let known: HashSet<&String> = key_ids.iter().chain(&aggregate_ids).collect();
        let mut columns = vec![];
        for (named, expr) in outputs.into_iter().zip(exprs) {
            let replaced = expr
                .transform_down(|expr| {
                    Ok(match aggregates.iter().position(|known| *known == expr) {
                        Some(at) => Transformed::new(column(&aggregate_ids[at]), true, TreeNodeRecursion::Jump),
                        None => Transformed::no(expr),
                    })
                })
                .map_err(from_datafusion)?
                .data;
            if let Some(stranger) = replaced.column_refs().into_iter().find(|column| !known.contains(&column.name)) {
                let shown = frame.columns().iter().find(|attribute| attribute.id == stranger.name);
                let shown = shown.map_or(stranger.name.as_str(), |attribute| attribute.name.as_str());
                return Err(Error::invalid(
                    "MISSING_AGGREGATION",
                    format!(
                        "the non-aggregating expression \"{shown}\" is based on columns which are not participating in \
                         the GROUP BY clause: add them, or use any_value({shown}) if any value in the group will do"
                    ),
                ));
            }
            columns.push((named, replaced));
        }
        self.over_groups(&frame, plan, columns)
    }

    /// Keys that are computed become columns below the aggregate.
    fn with_key_columns(&mut self, frame: Frame, keys: &[Named]) -> Result<(Frame, Vec<String>)> {
        if keys.iter().all(|key| key.attribute.is_some()) {
            let ids = keys.iter().filter_map(|key| key.attribute.as_ref().map(|attribute| attribute.id.clone()));
            let ids = ids.collect();
            return Ok((frame, ids));
        }
        let plan = with_windows(frame.plan().clone(), keys.iter().map(|key| &key.expr))?;
        let mut exprs: Vec<Expr> = vec![];
        for field in frame.plan().schema().fields() {
            exprs.push(column(field.name()));
        }
        let mut ids: Vec<String> = vec![];
        for (at, key) in keys.iter().enumerate() {
            if let Some(attribute) = &key.attribute {
                ids.push(attribute.id.clone());
            } else if let Some(same) =
                keys[..at].iter().position(|other| unaliased(other.expr.clone()) == unaliased(key.expr.clone()))
            {
                ids.push(ids[same].clone());
            } else {
                let id = self.ids.next(key.name());
                exprs.push(unaliased(key.expr.clone()).alias(&id));
                ids.push(id);
            }
        }
        let plan = project(plan, exprs)?;
        Ok((frame.over(plan), ids))
    }

    fn group_exprs(&self, keys: &[Named], key_ids: &[String], sets: Option<Vec<Vec<usize>>>) -> Vec<Expr> {
        let mut taken = HashSet::new();
        let distinct: Vec<Expr> =
            key_ids.iter().filter(|id| taken.insert((*id).clone())).map(|id| column(id)).collect();
        match sets {
            Some(sets) if !keys.is_empty() => {
                let sets = sets
                    .into_iter()
                    .map(|set| set.into_iter().map(|at| column(&key_ids[at])).collect::<Vec<_>>())
                    .collect();
                vec![Expr::GroupingSet(GroupingSet::GroupingSets(sets))]
            }
            _ => distinct,
        }
    }

    /// Columns over a plan of groups: what is a column of it already is no projection.
    fn over_groups(
        &mut self,
        frame: &Frame,
        plan: datafusion::logical_expr::LogicalPlan,
        columns: Vec<(Named, Expr)>,
    ) -> Result<Frame> {
        let computed = columns.iter().any(|(_, expr)| !matches!(expr, Expr::Column(_)));
        let mut attributes = vec![];
        let plan = if computed { with_windows(plan, columns.iter().map(|(_, expr)| expr))? } else { plan };
        let mut exprs: Vec<Expr> = vec![];
        for (named, expr) in columns {
            let name = named.name().to_string();
            let base = Attribute { id: String::new(), name: name.clone(), qualifier: vec![], metadata: named.metadata };
            if let Expr::Column(plain) = &expr {
                // A key keeps what it could be qualified with.
                let attribute = match named.attribute {
                    Some(attribute) if attribute.id == plain.name => attribute,
                    _ => Attribute { id: plain.name.clone(), ..base },
                };
                attributes.push(attribute);
                if !exprs.contains(&expr) {
                    exprs.push(expr);
                }
                continue;
            }
            let id = self.ids.next(&name);
            exprs.push(expr.alias(&id));
            attributes.push(Attribute { id, ..base });
        }
        let plan = if computed { project(plan, exprs)? } else { plan };
        Ok(frame.with(plan, attributes).showing_only())
    }

    /// `groupBy(…).pivot(…).agg(…)`: groups by keys and pivot column first, then turns the values into columns, so that
    /// a value that a group lacks is null, counts included.
    async fn pivot(
        &mut self,
        frame: Frame,
        keys: Vec<Named>,
        outputs: Vec<Named>,
        message: &spark::Aggregate,
    ) -> Result<Frame> {
        let pivot = required(message.pivot.as_ref(), "the pivot of an aggregate")?;
        let by = self.expressions(&frame).one(required(pivot.col.as_ref(), "the column of a pivot")?)?;
        let values = if pivot.values.is_empty() {
            self.pivot_values(&frame, &by).await?
        } else {
            pivot.values.iter().map(literal::scalar).collect::<Result<Vec<_>>>()?
        };
        self.pivoted(frame, keys, &by, values, outputs)
    }

    /// The different values of a column, in order.
    pub(super) async fn pivot_values(&mut self, frame: &Frame, by: &Named) -> Result<Vec<ScalarValue>> {
        let values = self.group(frame.clone(), vec![by.clone()], None, vec![by.clone()])?;
        let key = values.columns()[0].expr();
        let plan = LogicalPlanBuilder::from(values.plan().clone())
            .sort_with_limit(vec![Sort::new(key, true, true)], Some(PIVOT_VALUES_MAX + 1))
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let rows = self.collect(&values.over(plan)).await?;
        if rows.num_rows() > PIVOT_VALUES_MAX {
            return Err(Error::invalid(
                "PIVOT_VALUES_EXCEEDED",
                format!(
                    "the pivot column {} has more than {PIVOT_VALUES_MAX} distinct values: give the values to pivot()",
                    by.text
                ),
            ));
        }
        (0..rows.num_rows())
            .map(|row| ScalarValue::try_from_array(rows.column(0), row).map_err(from_datafusion))
            .collect()
    }

    /// A pivot of known values.
    pub(super) fn pivoted(
        &mut self,
        frame: Frame,
        keys: Vec<Named>,
        by: &Named,
        values: Vec<ScalarValue>,
        outputs: Vec<Named>,
    ) -> Result<Frame> {
        if let Some(plain) = outputs.iter().find(|named| find_aggregate_exprs([&named.expr]).is_empty()) {
            return Err(Error::invalid(
                "AGGREGATE_FUNCTION_EXPECTED",
                format!(
                    "aggregate expression required for pivot, but \"{}\" did not appear in any aggregate function",
                    plain.text
                ),
            ));
        }
        let key_count = keys.len();
        let single = outputs.len() == 1;
        let mut first: Vec<Named> = keys.clone();
        first.push(by.clone());
        let names: Vec<String> = outputs.iter().map(|named| named.name().to_string()).collect();
        let grouped = self.group(frame.clone(), first.clone(), None, first.into_iter().chain(outputs).collect())?;
        let columns = grouped.columns().to_vec();
        let (pivot, measures) = (&columns[key_count], &columns[key_count + 1..]);
        let pivot_type = grouped.field(pivot)?.data_type().clone();
        let first_value = self
            .state
            .aggregate_functions()
            .get("first_value")
            .cloned()
            .ok_or_else(|| Error::internal("there is no first_value"))?;
        let mut made: Vec<Named> = columns[..key_count].iter().cloned().map(Named::of_column).collect();
        for value in values {
            let shown = value_name(&value)?;
            let wanted = if value.data_type() == pivot_type {
                value
            } else {
                value.cast_to(&pivot_type).map_err(from_datafusion)?
            };
            for (measure, name) in measures.iter().zip(&names) {
                let same = datafusion::logical_expr::binary_expr(
                    pivot.expr(),
                    datafusion::logical_expr::Operator::IsNotDistinctFrom,
                    Expr::Literal(wanted.clone(), None),
                );
                let call = AggregateFunction::new_udf(
                    std::sync::Arc::clone(&first_value),
                    vec![measure.expr()],
                    false,
                    Some(Box::new(same)),
                    vec![],
                    None,
                );
                let name = if single { shown.clone() } else { format!("{shown}_{name}") };
                made.push(Named::new(Expr::AggregateFunction(call), name));
            }
        }
        let keys = made[..key_count].to_vec();
        self.group(grouped, keys, None, made)
    }
}

/// How a pivot calls the column of a value: as the value is written.
fn value_name(value: &ScalarValue) -> Result<String> {
    if value.is_null() {
        return Ok("null".into());
    }
    let array = value.to_array().map_err(from_datafusion)?;
    let mut text = String::new();
    formatter(array.as_ref(), Style::Show)?(0, &mut text);
    Ok(text)
}

/// An aggregate over a column as a double.
pub fn over_double(expressions: &Expressions<'_>, function: &str, arguments: Vec<Expr>) -> Result<Expr> {
    let doubles =
        arguments.into_iter().map(|argument| Expr::Cast(Cast::new(Box::new(argument), DataType::Float64))).collect();
    expressions.function(function, doubles, false)
}
